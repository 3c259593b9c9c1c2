"""Epilogues: regions that a matrix product computes on its result while it is in a near cache.

A region that walks a product's result (M, N) element by element, row by row or down short columns
needs no pass over memory of its own: the product calls the region's kernel on every tile of its
result that is complete, and then those of regions that walk what that one made in the same way.
Where such regions are the only readers, the result as a whole never exists.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from flambeau.codegen.emitted import kernel_of
from flambeau.codegen.llvm import Kernel
from flambeau.ir.graph import Node
from flambeau.ir.region import Map, Region, common_refinement
from flambeau.ir.symbol import SymInt, fixed
from flambeau.kernels.gemm_epilogue import EPILOGUES, WORDS
from flambeau.kernels.matmul import FEW_ROWS, PARTIAL_ROWS, SHARED, form_of
from flambeau.passes.fuse import Plan, Step

STRIP = 256
"""Columns after which an epilogue is called, about."""

DTYPES = {"float32": "f32", "float64": "f64", "bfloat16": "bf16", "float16": "f16"}


@dataclass
class Epilogue:
    """A region as a product computes it.

    Attributes:
        region, kernel: what is computed.
        unit_rows, unit_cols: rows and columns of the product that one unit of the kernel covers.
        units: units that cover all columns.
        strip: columns it is called on at a time.
        stretch: elements of the innermost dimension in a unit of a map.
    """

    region: Region
    kernel: Kernel
    unit_rows: int
    unit_cols: int
    units: int
    strip: int
    stretch: int


@dataclass
class Carried:
    """The epilogues of one product, in order.

    Attributes:
        may_hide: the product need not be written as a whole, if only epilogues read it.
        hidden: it is not.
        unit_rows, strip: rows that a tile holds a multiple of, columns of a call.
    """

    epilogues: list[Epilogue]
    may_hide: bool
    hidden: bool = False
    unit_rows: int = 1
    strip: int = STRIP

    @property
    def regions(self) -> list[Region]:
        """What is computed."""
        return [e.region for e in self.epilogues]


def carries(node: Node, features: frozenset[str]) -> Carried | None:
    """A product's epilogues, none yet; None if it cannot have any."""
    dtype = DTYPES.get(node.dtype.name)
    if dtype is None or len(node.shape) != 2:
        return None
    (m, n), k = node.shape, node.src[0].shape[-1]
    form = form_of(dtype, features)
    if m <= FEW_ROWS or n < form.nr or not k:
        return None
    return Carried([], k <= form.kc and form.mc * n * form.stored_size <= SHARED)


def epilogue(
    carried: Carried,
    node: Node,
    region: Region,
    free: set[Node],
    vector_bytes: int,
    features: frozenset[str],
) -> Epilogue | None:
    """The region as a further epilogue of the product `node`, or None where it cannot be one."""
    m, n = node.shape
    form = form_of(DTYPES[node.dtype.name], features)
    cut = common_refinement(region.dims, (m, n))
    if cut is None or len(carried.epilogues) == EPILOGUES or isinstance(n, SymInt):
        return None
    region.refined(cut)
    found = shape_of(kernel_of(region, free, vector_bytes, n), region, n, form.nr)
    if found is None or len(found.kernel.slots) > WORDS or isinstance(found.unit_rows, SymInt):
        return None
    strip = math.lcm(carried.strip, found.strip)
    strip = strip if strip < n else -(-n // form.nr) * form.nr
    rows = math.lcm(carried.unit_rows, found.unit_rows)
    slots = form.kc // 2 if form.pairs else form.kc
    most = SHARED // (slots * form.acc_size) // form.nr * form.nr
    k = node.src[0].shape[-1]
    if form.widened and k > form.kc:  # the product comes in blocks
        most = min(most, PARTIAL_ROWS)
        if m > PARTIAL_ROWS and PARTIAL_ROWS % rows:
            return None
    if strip > most or rows > form.mc or (rows > 1 and (rows % form.mr or m % rows)):
        return None
    made = {node, *(s for e in carried.epilogues for s in e.region.stores)}
    within = {region.natural(), leading(region, n)}
    if any(not found.kernel.reads.get(s, within) <= within for s in made):
        return None
    carried.strip, carried.unit_rows = strip, rows
    carried.epilogues.append(found)
    return found


def streams(carried: Carried, node: Node) -> list[tuple[int, int, int]]:
    """(epilogue, slot of its table, bytes of an element) of the tensors in memory that epilogues of
    the product `node` read or write where they stand in it."""
    found = []
    made: set[Any] = {node}
    for number, e in enumerate(carried.epilogues):
        natural = e.region.natural()
        for slot, (kind, *what) in enumerate(e.kernel.slots):
            if kind != "address" or what[0] in made or what[1]:
                continue
            key = what[0]
            written = e.region.stores.get(key if isinstance(key, Node) else key[1])
            if natural in e.kernel.reads.get(key, ()) or written == natural:
                size = (key if isinstance(key, Node) else key[1]).dtype.itemsize
                found.append((number, slot, size))
        made.update(e.region.stores)
    return found


def leading(region: Region, n: int) -> Map:
    """The row-major map over the dimensions before the last `n` elements: one value a row."""
    total = region.natural().coefficients
    return Map(0, tuple(c // n if c >= n else 0 for c in total))


def shape_of(kernel: Kernel, region: Region, n: int, columns: int) -> Epilogue | None:
    """The units of a kernel over (M, N) by rows and columns; None where they are not rectangles."""
    dims = kernel.dims
    first = next((p for p in range(len(dims) + 1) if math.prod(dims[p:]) == n), None)
    if not first or first == len(dims) or kernel.tile is not None:
        return None
    trailing = dims[first:]
    last = trailing[-1]

    def strips(unit: int) -> int:
        """About `STRIP` columns: whole units, whole tiles of the product."""
        step = math.lcm(fixed(unit), columns)
        return step * -(-STRIP // step)

    if not kernel.reduced:
        width = last if len(trailing) > 1 else STRIP
        return Epilogue(region, kernel, 1, width, -(-n // width), strips(width), width)
    inside = sorted(kernel.reduced)
    if inside[0] >= first:  # rows
        width = math.prod(dims[d] for d in inside)
        if inside != list(range(inside[0], len(dims))):
            return None
        return Epilogue(region, kernel, 1, width, n // width, strips(width), last)
    if inside != [first - 1] or len(trailing) > 1:
        return None
    lanes = kernel.lanes
    blocks = -(-last // lanes)
    return Epilogue(region, kernel, dims[first - 1], lanes, blocks, strips(lanes), last)


class Attach:
    """Gives products of a plan their epilogues.

    Args:
        plan: the plan; its order of steps is changed accordingly.
        kernels: kernels of its regions by number; those of epilogues are replaced.
        reads: step -> the nodes whose memory it reads.
        vector_bytes, features: of the machine.
    """

    def __init__(
        self,
        plan: Plan,
        kernels: dict[int, Kernel],
        reads: Callable[[Any], Iterable[Node]],
        vector_bytes: int,
        features: frozenset[str],
    ) -> None:
        self.plan, self.kernels = plan, kernels
        self.vector_bytes, self.features = vector_bytes, features
        self.outputs = {node for node, _ in plan.graph.outputs}
        self.carriers: dict[int, Step] = {}  # region number -> product
        self.carried: dict[int, Carried] = {}  # product number -> its epilogues
        self.readers: dict[Node, list[Any]] = {}
        for step in plan.steps:
            for node in dict.fromkeys(reads(step)):
                self.readers.setdefault(node, []).append(step)
        for step in plan.steps:
            if isinstance(step, Step) and step.kind == "contraction":
                self.choose(step)

    def choose(self, step: Step) -> None:
        """Let a product carry the readers of its result that it can, and their readers."""
        carried = carries(step.node, self.features)
        if carried is None:
            return
        made = [step.node]
        for node in made:
            for region in self.readers.get(node, ()):
                if (
                    not isinstance(region, Region)
                    or region.number in self.carriers
                    or self.waits(region, step)
                ):
                    continue
                found = epilogue(
                    carried, step.node, region, self.plan.free, self.vector_bytes, self.features
                )
                if found is None:
                    continue
                self.merge(region, step)
                self.kernels[region.number] = found.kernel
                self.carriers[region.number] = step
                made += region.stores
        if carried.epilogues:
            self.carried[step.number] = carried
            step.epilogues = carried.regions
            readers = self.readers[step.node]
            alone = all(self.carriers.get(r.number) is step for r in readers)
            carried.hidden = carried.may_hide and alone and step.node not in self.outputs

    def waits(self, region: Region, step: Step) -> bool:
        """Whether the region needs, besides the product, something that itself needs it."""
        before = self.plan.before
        return any(before[k] >> step.number & 1 for k in bits(before[region.number]))

    def merge(self, region: Region, step: Step) -> None:
        """Let the product run when the region could; what waited for the region waits for it."""
        before, bit, product = self.plan.before, 1 << region.number, 1 << step.number
        waited = before[region.number] & ~product  # with all that those wait for
        for k, waiting in enumerate(before):
            if waiting & product or k == step.number:
                waiting |= waited
            before[k] = waiting & ~bit
        before[region.number] = 0


def bits(mask: int) -> list[int]:
    """Positions of the bits that are set."""
    return [k for k in range(mask.bit_length()) if mask >> k & 1]
