"""Epilogues: regions that a matrix product computes on its result while it is in a near cache.

A region that walks a product's result (M, N) element by element, row by row or down short columns
needs no pass over memory of its own: the product calls the region's kernel on every tile of its
result that is complete. Where the region is the only reader, the result as a whole never exists.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from flambeau.codegen.llvm import Kernel
from flambeau.codegen.loops import emit_region
from flambeau.ir.graph import Node
from flambeau.ir.region import Region, common_refinement
from flambeau.kernels.matmul import FEW_ROWS, SHARED, WORDS, form_of
from flambeau.passes.fuse import Plan, Step, order_after

STRIP = 256
"""Columns after which an epilogue is called, about."""

DTYPES = {"float32": "f32", "float64": "f64"}


@dataclass
class Epilogue:
    """A region as a product computes it.

    Attributes:
        region, kernel: what is computed.
        unit_rows, unit_cols: rows and columns of the product that one unit of the kernel covers.
        units: units that cover all columns.
        strip: columns it is called on at a time.
        stretch: elements of the innermost dimension in a unit of a map.
        hidden: nobody else reads the product, so that it is not written as a whole.
    """

    region: Region
    kernel: Kernel
    unit_rows: int
    unit_cols: int
    units: int
    strip: int
    stretch: int
    hidden: bool = False


def epilogue(
    node: Node, region: Region, free: set[Node], vector_bytes: int, features: frozenset[str]
) -> Epilogue | None:
    """The region as an epilogue of the product `node`, or None where it cannot be one."""
    dtype = DTYPES.get(node.dtype.name)
    if dtype is None or len(node.shape) != 2:
        return None
    (m, n), k = node.shape, node.src[0].shape[-1]
    form = form_of(dtype, features)
    if m <= FEW_ROWS or n < form.nr or not k:
        return None
    cut = common_refinement(region.dims, (m, n))
    if cut is None:
        return None
    region.refined(cut)
    found = shape_of(emit_region(region, free, vector_bytes, n), region, n, form.nr)
    if found is None or len(found.kernel.slots) > WORDS:
        return None
    most = SHARED // (form.kc * form.acc_size) // form.nr * form.nr
    if found.strip > most or found.unit_rows > form.mc:
        return None
    if found.unit_rows > 1 and (found.unit_rows % form.mr or m % found.unit_rows):
        return None
    if found.kernel.reads.get(node) != {region.natural()}:
        return None
    one_block = k <= form.kc and form.mc * n * form.acc_size <= SHARED
    found.hidden = one_block and not form.widened
    return found


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
        step = math.lcm(unit, columns)
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
        make: (product, region) -> the epilogue or None.
    """

    def __init__(
        self,
        plan: Plan,
        kernels: dict[int, Kernel],
        reads: Callable[[Any], Iterable[Node]],
        make: Callable[[Node, Region], Epilogue | None],
    ) -> None:
        self.plan, self.kernels, self.make = plan, kernels, make
        self.outputs = {node for node, _ in plan.graph.outputs}
        self.carriers: dict[int, Step] = {}  # region number -> product
        self.epilogues: dict[int, Epilogue] = {}  # product number -> epilogue
        self.readers: dict[Node, list[Any]] = {}
        for step in plan.steps:
            for node in dict.fromkeys(reads(step)):
                self.readers.setdefault(node, []).append(step)
        for step in plan.steps:
            if isinstance(step, Step) and step.kind == "contraction":
                self.choose(step)

    def choose(self, step: Step) -> None:
        """Let a product carry the first reader of its result that it can."""
        readers = self.readers.get(step.node, [])
        for region in readers:
            if (
                not isinstance(region, Region)
                or region.number in self.carriers
                or self.waits(region, step)
            ):
                continue
            found = self.make(step.node, region)
            if found is None:
                continue
            found.hidden = found.hidden and len(readers) == 1 and step.node not in self.outputs
            self.merge(region, step)
            self.kernels[region.number] = found.kernel
            self.carriers[region.number] = step
            self.epilogues[step.number] = found
            step.epilogue = region
            return

    def waits(self, region: Region, step: Step) -> bool:
        """Whether the region needs, besides the product, something that itself needs it."""
        before = self.plan.before
        return any(before[k] >> step.number & 1 for k in bits(before[region.number]))

    def merge(self, region: Region, step: Step) -> None:
        """Let the product run when the region could; what waited for the region waits for it."""
        before, bit = self.plan.before, 1 << region.number
        for k in bits(before[region.number] & ~(1 << step.number)):
            order_after(before, step.number, k)
        for k, waiting in enumerate(before):
            before[k] = waiting & ~bit
        before[region.number] = 0


def bits(mask: int) -> list[int]:
    """Positions of the bits that are set."""
    return [k for k in range(mask.bit_length()) if mask >> k & 1]
