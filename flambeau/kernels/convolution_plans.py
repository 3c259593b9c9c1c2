"""Plans of convolutions: all geometry, decided when a program is linked, as words of tables.

See Note [Convolution as products] in `convolution.py`.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

from flambeau.ir.graph import Node
from flambeau.kernels.convolution_fill import COPY, FILL
from flambeau.kernels.convolution_tiles import (
    BLOCK,
    CELLS,
    FIELDS,
    GROUP,
    PANELS,
    ROWS,
    RUN,
)
from flambeau.kernels.convolution_winograd import (
    CHANNELS,
    KERNEL,
    MOST_CHANNELS,
    POINTS,
    WINOGRAD,
    most_tiles,
    row_unit,
)
from flambeau.kernels.gemm_micro import Form
from flambeau.size import contiguous_strides

Sizes = tuple[int, ...]
Block = tuple[int, int, int, int, int, int]

CHUNK = 8 << 20
"""Bytes of images that are held at a time, unless one alone is larger."""

DEPTH = 128
"""Positions of k that a micro-kernel sums in registers, about; such sums are then added up. Errors
grow with the root of the longer of the two; `tests/parity` holds them to torch's."""

TASKS = 16
"""Tiles that a product is cut into at least, where rows allow it."""

SERIAL = 1 << 19
"""Multiply-adds below which a convolution stays on its thread."""

LONGEST_CUT = 4096
"""Places along a dimension up to which padding is left out by phases."""

TRANSFORM = 64
"""Cycles that bringing a vector of a patch or of its products to the other form takes, about."""

CUT_GAIN = 0.97
"""Share of multiply-adds that leaving out padding must come to, to be worth it."""

KINDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("convolution_fill", FILL),
    ("convolution_copy", COPY),
    ("convolution_tiles", GROUP),
    ("winograd_kernel", KERNEL),
    ("convolution_winograd", WINOGRAD),
)
"""Tasks of a table's stages, and the words of each."""


class Stages:
    """The words of a kernel's table, stage by stage.

    A word is an int, or (storage, bytes) for an address.
    """

    def __init__(self) -> None:
        self.words: list[Any] = [0]

    def add(self, kind: int, values: dict[str, Any]) -> None:
        """Append a stage of `KINDS`."""
        self.append(kind, [values[name] for name in KINDS[kind][1]])

    def append(self, kind: int, body: list[Any]) -> None:
        """Append the words of a stage."""
        self.words[0] += 1
        self.words += [kind, len(body), *body]

    def products(self, parts: list[list[Any]], parallel: bool) -> None:
        """Append products that are done together."""
        head = len(GROUP) + 2 * len(parts)
        body: list[Any] = []
        table: list[int] = []
        units = 0
        for part in parts:
            table += [units, head + len(body)]
            units += part[FIELDS.index("units")]
            body += part
        self.append(2, [len(parts), units, 1 if parallel else units, *table, *body])


def product_words(values: dict[str, Any], blocks: list[Block], runs: list[int]) -> list[Any]:
    """The words of one product."""
    values["blocks"] = len(blocks)
    values["block_table"] = len(FIELDS)
    values["run_table"] = len(FIELDS) + len(blocks) * len(BLOCK)
    words = [values[name] for name in FIELDS]
    for block in blocks:
        words += block
    return words + runs


@dataclass(frozen=True)
class Phase:
    """Places along one dimension that see the image in the same way.

    Attributes:
        count: places of the result.
        start, step: where they are in the result.
        stride: how far their windows are apart in the image with its zeros.
        taps: (kernel place, where the first window has it), by place in the image.
    """

    count: int
    start: int
    step: int
    stride: int
    taps: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Axis:
    """One dimension: zeros before the image, elements of it, all places; and the phases."""

    before: int
    copied: int
    padded: int
    phases: tuple[Phase, ...]


def forward_axis(size: int, kernel: int, places: int, stride: int, pad: int, step: int) -> Axis:
    """A dimension of a convolution: size of the image, kernel, result, and the numbers."""
    padded = (places - 1) * stride + step * (kernel - 1) + 1
    taps = tuple((k, k * step) for k in range(kernel))
    copied = max(0, min(size, padded - pad))
    return Axis(min(pad, padded), copied, padded, (Phase(places, 0, 1, stride, taps),))


def transposed_axis(size: int, kernel: int, places: int, stride: int, pad: int, step: int) -> Axis:
    """A dimension of a transposed convolution.

    Place y of the result gets image place i through kernel place k where y + pad = i * stride +
    k * step. With y + pad = q * stride + r and k * step = m * stride + r that is i = q - m: for
    each remainder r a convolution with the kernel places of that remainder.
    """
    found = []
    for r in range(stride):
        first, last = -((r - pad) // stride), (places - 1 + pad - r) // stride
        if first <= last:
            taps = [(k, k * step // stride) for k in range(kernel) if k * step % stride == r]
            found.append((r, first, last, taps))
    ends = [(first - m, last - m) for _, first, last, taps in found for _, m in taps]
    before = max(0, -min((low for low, _ in ends), default=0))
    padded = max(1, max((high for _, high in ends), default=0) + before + 1)
    phases = tuple(
        Phase(
            last - first + 1,
            first * stride + r - pad,
            stride,
            1,
            tuple(sorted(((k, first - m + before) for k, m in taps), key=lambda t: t[1])),
        )
        for r, first, last, taps in found
    )
    return Axis(min(before, padded), max(0, min(size, padded - before)), padded, phases)


def cut(axis: Axis, size: int) -> Axis:
    """The dimension without zeros around the image: phases at its ends with fewer taps."""
    if sum(p.count for p in axis.phases) > LONGEST_CUT:
        return axis
    phases = []
    most = 1
    for p in axis.phases:
        seen = [
            tuple((k, at) for k, at in p.taps if 0 <= i * p.stride + at - axis.before < size)
            for i in range(p.count)
        ]
        first = 0
        for taps, same in itertools.groupby(seen):
            count = len(list(same))
            moved = tuple((k, at - axis.before + first * p.stride) for k, at in taps)
            start = p.start + first * p.step
            phases.append(Phase(count, start, p.step, p.stride, moved))
            most = max([most, *(at + (count - 1) * p.stride + 1 for _, at in moved)])
            first += count
    return Axis(0, most, most, tuple(phases))


def three(values: Any, fill_with: int) -> Sizes:
    """One to three numbers as three, those of missing dimensions in front."""
    values = tuple(values)
    return (fill_with,) * (3 - len(values)) + values


def numbers_of(node: Node, first: int) -> tuple[Sizes, Sizes, Sizes]:
    """Stride, padding and dilation of a node, which stand from argument `first`."""
    dims = len(node.shape) - 2
    found = []
    for value, missing in zip(node.attrs[first : first + 3], (1, 0, 1), strict=True):
        given = (value,) if isinstance(value, int) else tuple(value)
        found.append(three(given * dims if len(given) == 1 else given, missing))
    return found[0], found[1], found[2]


def blocks_of(
    runs: list[tuple[int, int]], length: int, step: int, line: int
) -> tuple[list[Block], list[int]]:
    """Runs of all rows put together, or cut, to blocks of about `DEPTH` positions.

    Args:
        runs: bytes into the image and into the panel.
        length: positions of each.
        step, line: bytes from one position to the next in both.

    Returns:
        the blocks, and the table of runs.
    """
    blocks: list[Block] = []
    if length <= DEPTH:
        count = max(1, -(-len(runs) * length // DEPTH))
        share = max(1, -(-len(runs) // count))
        for first in range(0, len(runs), share):
            many = min(share, len(runs) - first)
            blocks.append((first, many, length, 0, 1, int(first > 0)))
        return blocks, [x for run in runs for x in run]
    share = -(-length // -(-length // DEPTH))
    table: list[int] = []
    for a, b in runs:
        for start in range(0, length, share):
            many = min(share, length - start)
            blocks.append((len(table) // RUN, 1, many, 0, 1, int(bool(table))))
            table += [a + start * step, b + start * line]
    return blocks, table


def up(value: int, unit: int) -> int:
    """The next multiple of a unit."""
    return -(-value // unit) * unit


def tiling(
    form: Form, rows: int, columns: int, groups: int, goal: int, unit: int
) -> dict[str, int]:
    """How a product is cut into tiles of about `goal` rows, a multiple of `unit`."""
    panels = -(-columns // form.nr)
    most = max(1, min(PANELS, CELLS // unit))
    column_tiles = -(-panels // most)
    tile_panels = -(-panels // column_tiles)
    goal = max(unit, min(goal, CELLS // tile_panels // unit * unit))
    tile_rows = up(-(-rows // -(-rows // goal)), unit)
    row_tiles = -(-rows // tile_rows)
    return {
        "panels": panels,
        "tile_panels": tile_panels,
        "column_tiles": column_tiles,
        "tile_rows": tile_rows,
        "row_tiles": row_tiles,
        "units": groups * row_tiles * column_tiles,
    }


def goal_of(form: Form, rows: int, panels: int, groups: int) -> int:
    """Rows of a tile such that there are `TASKS` tiles or more, if there is as much work."""
    parts = groups * -(-panels // PANELS)
    return max(4 * form.mr, min(ROWS, up(rows * parts // TASKS, form.mr)))


def strides_of(node: Node) -> Sizes:
    """A source's strides over its storage, of a contiguous value or of a view."""
    found: Sizes = node.attrs[0] if node.op.kind == "view" else contiguous_strides(node.shape)
    return found


def flat_stride(sizes: Sizes, strides: Sizes) -> int | None:
    """The stride of dimensions taken as one, or None where they cannot be."""
    pairs = [(n, s) for n, s in zip(sizes, strides, strict=True) if n != 1]
    for (_, outer), (n, inner) in itertools.pairwise(pairs):
        if outer != n * inner:
            return None
    return pairs[-1][1] if pairs else 1


class Convolution:
    """The plan of a `convolution` node."""

    def __init__(self, node: Node, form: Form) -> None:
        self.node, self.form = node, form
        self.transposed, self.groups = bool(node.attrs[6]), int(node.attrs[8])
        x, w = node.src[:2]
        stride, pad, step = numbers_of(node, 3)
        self.images = x.shape[0]
        self.channels = x.shape[1] // self.groups
        self.slots = -(-self.channels // form.step)
        self.pairs = self.channels // form.step  # the others are half a pair
        self.columns = node.shape[1] // self.groups
        self.panels = -(-self.columns // form.nr)
        self.kernel = three(w.shape[2:], 1)
        self.places = three(node.shape[2:], 1)
        self.taps = math.prod(self.kernel)
        self.depth = self.taps * self.slots
        make = transposed_axis if self.transposed else forward_axis
        sizes = three(x.shape[2:], 1)
        padded = [
            make(*each)
            for each in zip(sizes, self.kernel, self.places, stride, pad, step, strict=True)
        ]
        self.uncut = tuple(padded)
        choices = [(a, cut(a, n)) for a, n in zip(padded, sizes, strict=True)]
        self.arrange(min(itertools.product(*choices), key=self.cost))
        self.work = self.images * math.prod(node.shape[1:]) * self.depth * form.step
        if self.transposed:
            self.work //= math.prod(stride)

    def arrange(self, axes: tuple[Axis, ...]) -> None:
        """Settle on the phases, and on how many images are held at a time."""
        self.axes = axes
        self.padded = tuple(a.padded for a in axes)
        each = math.prod(self.padded) * self.slots * self.groups * self.form.acc_size
        self.image_bytes = each
        self.chunk = max(1, min(self.images, CHUNK // each))

    def cost(self, axes: tuple[Axis, ...]) -> float:
        """Cycles that phases cost, about: multiply-adds of tiles, and reading panels for them."""
        form = self.form
        total = 0.0
        for phase in itertools.product(*(a.phases for a in axes)):
            rows = self.images * math.prod(p.count for p in phase)
            depth = self.slots * math.prod(len(p.taps) for p in phase)
            total += depth * -(-rows // form.mr) * form.mr * form.nv
            total += depth * -(-rows // ROWS) * form.nr * form.acc_size / 16
        return total

    def scratch(self) -> int:
        """Bytes for the chunk's images and the packed weight."""
        panels = self.groups * self.panels * self.depth * self.form.nr * self.form.acc_size
        return self.panel_offset() + panels

    def panel_offset(self) -> int:
        """Where the packed weight stands."""
        return up(self.chunk * self.image_bytes, 64)

    def words(self, program: Any) -> list[Any]:
        """The kernel's table."""
        stages = Stages()
        operands = [program.operand(s, ()) for s in self.node.src]
        room = program.workspace(self.node)
        out = program.result(self.node, 0)
        self.pack_weight(stages, operands[1], room)
        for first in range(0, self.images, self.chunk):
            count = min(self.chunk, self.images - first)
            self.fill_images(stages, operands[0], room, first, count)
            self.multiply(stages, operands[2:], out, room, first, count)
        return stages.words

    def multiply(
        self, stages: Stages, bias: Any, out: Any, room: Any, first: int, count: int
    ) -> None:
        """Append the products of all phases for a chunk's images."""
        phases = itertools.product(*(a.phases for a in self.axes))
        parts = [
            product_words(*self.product(phase, bias, out, room, first, count)) for phase in phases
        ]
        stages.products(parts, self.work >= SERIAL)

    def pack_weight(self, stages: Stages, operand: Any, room: Any) -> None:
        """Panels of the weight: rows are kernel places and then channels."""
        store, offset, strides = operand
        nr = self.form.nr
        kernel = self.node.src[1].shape[2:]
        mine, other = (1, 0) if self.transposed else (0, 1)
        per_group = self.channels if self.transposed else self.columns
        units = self.groups * self.panels
        values: dict[str, Any] = {
            "source": (store, offset), "target": (room, self.panel_offset()),
            "groups": self.groups, "supers": self.panels, "channels": self.columns, "s_image": 0,
            "s_group": per_group * strides[0], "s_channel": strides[mine], "s0": 0,
            "s1": strides[other] * self.form.step, "mate": strides[other],
            "s2": flat_stride(kernel, tuple(strides[2:])), "t_image": 0,
            "t_group": self.panels * self.depth * nr, "t_super": self.depth * nr, "t0": 0,
            "t1": nr, "t2": self.slots * nr, "size0": 1, "size1": self.pairs,
            "size2": self.taps, "before0": 0, "before1": 0, "before2": 0, "padded0": 1,
            "padded1": self.pairs, "padded2": self.taps, "units": units,
            "grain": grain_of(self.work, units, self.depth * nr),
        }  # fmt: skip
        stages.add(0, values)
        if self.pairs < self.slots:
            size = self.node.src[1].dtype.itemsize
            last = offset + (self.channels - 1) * strides[other] * size
            place = self.panel_offset() + self.pairs * nr * self.form.acc_size
            halves = {"source": (store, last), "target": (room, place), "mate": 0}
            stages.add(0, values | halves | {"size1": 1, "padded1": 1})

    def fill_images(self, stages: Stages, operand: Any, room: Any, first: int, count: int) -> None:
        """The images of a chunk with zeros around them and channels last."""
        store, offset, strides = operand
        n, c, steps = strides[0], strides[1], three(strides[2:], 0)
        size = self.node.src[0].dtype.itemsize
        plane = math.prod(self.padded)
        supers = -(-self.pairs // self.form.nr)
        units = count * self.groups * supers
        values: dict[str, Any] = {
            "source": (store, offset + first * n * size), "target": (room, 0),
            "groups": self.groups, "supers": supers, "channels": self.pairs, "s_image": n,
            "s_group": self.channels * c, "s_channel": c * self.form.step, "mate": c,
            "t_image": self.groups * plane * self.slots, "t_group": plane * self.slots,
            "t_super": self.form.nr, "units": units,
            "grain": grain_of(self.work, units, plane * min(self.slots, self.form.nr)),
        }  # fmt: skip
        step = self.slots
        for d in (2, 1, 0):
            axis = self.axes[d]
            values.update({f"s{d}": steps[d], f"t{d}": step, f"size{d}": axis.copied})
            values.update({f"before{d}": axis.before, f"padded{d}": axis.padded})
            step *= axis.padded
        stages.add(0, values)
        if self.pairs < self.slots:
            last = offset + (first * n + (self.channels - 1) * c) * size
            target = (room, self.pairs * self.form.acc_size)
            halves = {"source": (store, last), "target": target, "mate": 0, "channels": 1}
            stages.add(0, values | halves | {"supers": 1, "units": count * self.groups})

    def product(
        self, phase: tuple[Phase, ...], bias: Any, out: Any, room: Any, first: int, count: int
    ) -> tuple[dict[str, Any], list[Block], list[int]]:
        """The product of one phase for a chunk's images: its words, blocks of k and runs."""
        size, form = self.form.acc_size, self.form
        steps = contiguous_strides((*self.padded, self.slots))[:3]  # in the image
        outs = contiguous_strides(self.places)
        plane = math.prod(self.places)
        total = self.groups * self.columns * plane
        runs, length = self.runs(phase, steps)
        blocks, table = blocks_of(runs, length, size, form.nr * size)
        rows = count * math.prod(p.count for p in phase)
        place = first * total + sum(p.start * o for p, o in zip(phase, outs, strict=True))
        goal = goal_of(form, count * plane, self.panels, self.groups)
        image = math.prod(self.padded) * self.slots * size
        bias_step = bias[0][2][-1] if bias else 0
        values: dict[str, Any] = {
            "a": (room, 0), "b": (room, self.panel_offset()),
            "out": (out, place * self.node.dtype.itemsize),
            "bias": bias[0][:2] if bias else 0, "rows": rows, "a0": image * self.groups,
            "o0": total, "a_group": image,
            "b_group": self.panels * self.depth * form.nr * size,
            "out_group": self.columns * plane, "bias_group": self.columns * bias_step,
            "bias_step": bias_step,
            "columns": self.columns, "panel_step": self.depth * form.nr * size,
            "column_step": plane, "step": size, "clear": int(not blocks), "add": 0,
            **tiling(form, rows, self.columns, self.groups, goal, form.mr),
        }  # fmt: skip
        for d, p in enumerate(phase):
            values[f"size{d + 1}"] = p.count
            values[f"a{d + 1}"] = p.stride * steps[d] * size
            values[f"o{d + 1}"] = p.step * outs[d]
        return values, blocks, table

    def runs(self, phase: tuple[Phase, ...], steps: Sizes) -> tuple[list[tuple[int, int]], int]:
        """Bytes from a window's corner to its runs and into the panel, and positions of a run.

        Kernel places that are neighbours in the image and in the panel are one run.
        """
        x, y, z = phase
        size, line = self.form.acc_size, self.form.nr * self.form.acc_size
        _, kh, kw = self.kernel
        last = z.taps
        joined = bool(last) and all(
            k == last[0][0] + i and at == last[0][1] + i for i, (k, at) in enumerate(last)
        )
        ends = last[:1] if joined else last
        runs = [
            (
                (a * steps[0] + b * steps[1] + c * steps[2]) * size,
                ((i * kh + j) * kw + k) * self.slots * line,
            )
            for i, a in x.taps
            for j, b in y.taps
            for k, c in ends
        ]
        return runs, self.slots * (len(last) if joined else 1)


class Winograd(Convolution):
    """The plan of a `convolution` node by minimal filtering. See Note [Winograd's convolution]."""

    def __init__(self, node: Node, form: Form) -> None:
        super().__init__(node, form)
        self.direct_cost = self.cost(self.axes)
        self.arrange(self.uncut)

    @staticmethod
    def fits(node: Node, form: Form) -> bool:
        """Whether a node is one: a 3 x 3 kernel without steps, whole vectors of channels."""
        weight, places = node.src[1].shape, node.shape[2:]
        stride, _, step = numbers_of(node, 3)
        groups = int(node.attrs[8])
        channels, columns = node.src[0].shape[1] // groups, node.shape[1] // groups
        return (
            form.acc == "float"
            and not form.pairs
            and weight[2:] == (3, 3)
            and {*stride, *step} == {1}
            and not any(n % 2 for n in places)
            and channels % CHANNELS == 0
            and channels <= MOST_CHANNELS
            and columns % form.nr == 0
        )

    def pays(self) -> bool:
        """Whether this costs less than summing directly."""
        form = self.form
        tiles = self.images * math.prod(self.places) // 4
        products = POINTS * self.channels * form.nv * up(tiles, row_unit(form))
        patches = tiles * self.channels // form.vl * TRANSFORM / min(PANELS, self.panels)
        results = tiles * form.nv * TRANSFORM
        return products + patches + results < self.direct_cost

    def weight_offset(self) -> int:
        """Where the transformed weight stands."""
        return up(super().scratch(), 64)

    def scratch(self) -> int:
        """Bytes for the chunk's images and the weight, packed and transformed."""
        panels = self.groups * self.panels * self.channels * POINTS
        return self.weight_offset() + panels * self.form.nr * self.form.acc_size

    def pack_weight(self, stages: Stages, operand: Any, room: Any) -> None:
        """Panels of the weight and of what it is transformed to."""
        super().pack_weight(stages, operand, room)
        _, down, across = (a.phases[0].taps for a in self.axes)
        taps = [j * 3 + k for j, _ in down for k, _ in across]
        units = self.groups * self.panels * self.channels
        values = {
            "source": (room, self.panel_offset()), "target": (room, self.weight_offset()),
            "depth": self.channels, "units": units,
            "grain": grain_of(self.work, units, 9 * self.form.nr),
        }  # fmt: skip
        stages.add(3, {**values, **{f"tap{n}": tap for n, tap in enumerate(taps)}})

    def multiply(
        self, stages: Stages, bias: Any, out: Any, room: Any, first: int, count: int
    ) -> None:
        """Append the product: its rows are patches, two places and two lines apart."""
        form, size = self.form, self.form.acc_size
        phase = tuple(a.phases[0] for a in self.axes)
        values, blocks, table = self.product(phase, bias, out, room, first, count)
        corner = sum(
            p.taps[0][1] * step
            for p, step in zip(
                phase, contiguous_strides((*self.padded, self.channels)), strict=False
            )
        )
        values["a"] = (room, corner * size)
        table = [x - corner * size if n % RUN == 0 else x for n, x in enumerate(table)]
        for d in (2, 3):
            for name in (f"a{d}", f"o{d}"):
                values[name] *= 2
            values[f"size{d}"] //= 2
        values["rows"] //= 4
        unit = row_unit(form)
        share = -(-values["rows"] * -(-self.panels // PANELS) * self.groups // TASKS)
        goal = min(most_tiles(form), up(share, unit))
        values |= tiling(form, values["rows"], self.columns, self.groups, goal, unit)
        line = form.nr * size
        panel = POINTS * self.channels * line
        head = {
            "units": values["units"], "grain": 1 if self.work >= SERIAL else values["units"],
            "weight": (room, self.weight_offset()), "weight_group": self.panels * panel,
            "weight_panel": panel, "depth": self.channels, "column": self.channels * size,
            "line": self.padded[2] * self.channels * size, "out_line": self.places[2],
        }  # fmt: skip
        words = product_words(values, blocks, table)
        stages.append(4, [head[name] for name in WINOGRAD] + words)


class WeightGradient:
    """The plan of a `convolution_weight_gradient` node."""

    def __init__(self, node: Node, form: Form) -> None:
        self.node, self.form = node, form
        self.groups = int(node.attrs[6])
        x, g = node.src
        self.stride, self.pad, self.step = numbers_of(node, 3)
        self.images = x.shape[0] // form.step
        self.channels = x.shape[1] // self.groups
        self.columns = g.shape[1] // self.groups
        self.panels = -(-self.columns // form.nr)
        self.kernel = three(node.shape[2:], 1)
        self.places = three(g.shape[2:], 1)
        self.taps = math.prod(self.kernel)
        sizes = three(x.shape[2:], 1)
        self.axes = tuple(
            forward_axis(*each)
            for each in zip(
                sizes, self.kernel, self.places, self.stride, self.pad, self.step, strict=True
            )
        )
        plane = math.prod(self.places)
        # For each dimension and kernel place, the places of the result that it serves.
        self.served = tuple(
            tuple(
                (max(0, -(-(p - k * d) // s)), min(o, (n - 1 + p - k * d) // s + 1))
                for k in range(kernel)
            )
            for n, kernel, o, s, p, d in zip(
                sizes, self.kernel, self.places, self.stride, self.pad, self.step, strict=True
            )
        )
        each = [sum(max(0, b - a) for a, b in ranges) for ranges in self.served]
        stripes = up(self.channels, form.mr)
        self.cut = (
            any(self.pad)
            and form.mr * self.taps <= CELLS
            and plane <= LONGEST_CUT
            and math.prod(each) * stripes < CUT_GAIN * self.channels * self.taps * plane
        )
        if self.cut:
            self.axes = tuple(Axis(0, n, n, ()) for n in sizes)
        self.padded = tuple(a.padded for a in self.axes)
        # Without zeros around it an image is read where it is.
        self.direct = not form.widened and (self.cut or not any(self.pad))
        size = form.acc_size
        image = math.prod(self.padded) * self.channels * self.groups * size
        self.image_bytes = 0 if self.direct else image
        self.place_bytes = plane * self.groups * self.panels * form.nr * size
        chunk = max(1, 2 * CHUNK // (self.image_bytes + self.place_bytes))
        # Narrow results cannot hold the sums of a chunk.
        self.chunk = self.images if form.widened else min(self.images, chunk)
        self.work = math.prod(node.shape) * self.images * form.step * plane

    def scratch(self) -> int:
        """Bytes for the chunk's images and cotangents."""
        return self.panel_offset() + self.chunk * self.place_bytes

    def panel_offset(self) -> int:
        """Where the cotangent stands."""
        return up(self.chunk * self.image_bytes, 64)

    def words(self, program: Any) -> list[Any]:
        """The kernel's table."""
        stages = Stages()
        image, cotangent = (program.operand(s, ()) for s in self.node.src)
        room = program.workspace(self.node)
        out = program.result(self.node, 0)
        for first in range(0, self.images, self.chunk):
            count = min(self.chunk, self.images - first)
            if not self.direct:
                self.copy_images(stages, image, room, first, count)
            self.fill_cotangent(stages, cotangent, room, first, count)
            part = self.product(image, out, room, first, count)
            stages.products([part], self.work >= SERIAL)
        return stages.words

    def copy_images(self, stages: Stages, operand: Any, room: Any, first: int, count: int) -> None:
        """The planes of a chunk with zeros around them."""
        store, offset, strides = operand
        channels = self.channels * self.groups
        plane = math.prod(self.padded)
        units = count * channels
        size = self.node.src[0].dtype.itemsize
        step = self.form.step
        values: dict[str, Any] = {
            "source": (store, offset + first * step * strides[0] * size), "target": (room, 0),
            "channels": channels, "s_image": step * strides[0], "s_channel": strides[1],
            "t_image": channels * plane, "t_channel": plane, "units": units, "mate": strides[0],
            "grain": grain_of(self.work, units, plane),
        }  # fmt: skip
        for d, (axis, step) in enumerate(zip(self.axes, three(strides[2:], 0), strict=True)):
            values.update({f"s{d}": step, f"size{d}": axis.copied})
            values.update({f"before{d}": axis.before, f"padded{d}": axis.padded})
        stages.add(1, values)

    def fill_cotangent(
        self, stages: Stages, operand: Any, room: Any, first: int, count: int
    ) -> None:
        """The cotangent in panels of channels, place after place."""
        store, offset, strides = operand
        nr = self.form.nr
        plane = math.prod(self.places)
        units = count * self.groups * self.panels
        size = self.node.src[1].dtype.itemsize
        every = self.form.step * strides[0]
        values: dict[str, Any] = {
            "source": (store, offset + first * every * size),
            "target": (room, self.panel_offset()), "groups": self.groups, "supers": self.panels,
            "channels": self.columns, "s_image": every,
            "s_group": self.columns * strides[1], "s_channel": strides[1], "t_image": plane * nr,
            "t_group": self.panels * count * plane * nr, "t_super": count * plane * nr,
            "mate": strides[0], "units": units, "grain": grain_of(self.work, units, plane * nr),
        }  # fmt: skip
        step = nr
        for d, s in reversed(list(enumerate(three(strides[2:], 0)))):
            n = self.places[d]
            values.update({f"s{d}": s, f"t{d}": step, f"size{d}": n, f"padded{d}": n})
            values[f"before{d}"] = 0
            step *= n
        stages.add(0, values)

    def product(self, image: Any, out: Any, room: Any, first: int, count: int) -> list[Any]:
        """The words of the sums over a chunk's places, added to those of the chunks before."""
        form, size = self.form, self.form.acc_size
        if self.direct:
            store, offset, strides = image
            per_image, channel = strides[0] * size, strides[1] * size
            steps = tuple(s * size for s in three(strides[2:], 0))
            base = (store, offset + first * per_image)
        else:
            steps = tuple(s * size for s in contiguous_strides(self.padded))
            channel = math.prod(self.padded) * size
            per_image = self.groups * self.channels * channel
            base = (room, 0)
        line = form.nr * size
        step = self.stride[2] * steps[2]
        if self.cut:
            blocks, table = self.cut_blocks(count, per_image, steps)
        else:
            runs, length, step = self.runs(count, per_image, steps)
            blocks, table = blocks_of(runs, length, step, line)
        unit = form.mr * (self.taps if self.cut else 1)
        depth = self.channels * self.taps
        panel = count * math.prod(self.places) * line
        values: dict[str, Any] = {
            "a": base, "b": (room, self.panel_offset()), "out": (out, 0), "bias": 0,
            "rows": depth, "a0": channel, "o0": self.taps, "a_group": self.channels * channel,
            "b_group": self.panels * panel, "out_group": self.columns * depth, "bias_group": 0,
            "bias_step": 0,
            "columns": self.columns, "panel_step": panel, "column_step": depth, "step": step,
            "clear": int(self.cut), "add": int(first > 0),
            **tiling(form, depth, self.columns, self.groups,
                     goal_of(form, depth, self.panels, self.groups), unit),
        }  # fmt: skip
        places = contiguous_strides(self.kernel)
        for d in range(3):
            values[f"size{d + 1}"] = self.kernel[d]
            values[f"a{d + 1}"] = self.step[d] * steps[d]
            values[f"o{d + 1}"] = places[d]
        return product_words(values, blocks, table)

    def runs(
        self, count: int, per_image: int, steps: Sizes
    ) -> tuple[list[tuple[int, int]], int, int]:
        """Bytes to the runs of places of a chunk's images; their length, and the step in one."""
        moves = [s * t for s, t in zip(self.stride, steps, strict=True)]
        levels = list(zip((count, *self.places), (per_image, *moves), strict=True))
        length, step = levels.pop()
        while levels and (levels[-1][0] == 1 or levels[-1][1] == length * step):
            length *= levels.pop()[0]
        runs = [0]
        for n, move in levels:
            runs = [r + i * move for r in runs for i in range(n)]
        line = self.form.nr * self.form.acc_size
        return [(r, i * length * line) for i, r in enumerate(runs)], length, step

    def cut_blocks(self, count: int, per_image: int, steps: Sizes) -> tuple[list[Block], list[int]]:
        """Blocks of the rows of each kernel place, over the places that it serves.

        The blocks of all kernel places over the same few places follow each other, so that their
        operands stay near.
        """
        line = self.form.nr * self.form.acc_size
        rows = list(itertools.product(range(count), range(self.places[0]), range(self.places[1])))
        share = max(1, DEPTH // self.places[2])
        corner = [-p * t for p, t in zip(self.pad, steps, strict=True)]
        moves = [s * t for s, t in zip(self.stride, steps, strict=True)]
        blocks: list[Block] = []
        table: list[int] = []
        again: set[int] = set()
        for first in range(0, len(rows), share):
            some = rows[first : first + share]
            for tap, kernel in enumerate(itertools.product(*map(range, self.kernel))):
                (a0, b0), (a1, b1), (a2, b2) = (
                    ranges[k] for ranges, k in zip(self.served, kernel, strict=True)
                )
                start = len(table) // RUN
                for n, i, j in some if b2 > a2 else ():
                    if a0 <= i < b0 and a1 <= j < b1:
                        at = n * per_image + sum(corner) + i * moves[0] + j * moves[1]
                        place = (n * self.places[0] + i) * self.places[1] + j
                        table.append(at + a2 * moves[2])
                        table.append((place * self.places[2] + a2) * line)
                many = len(table) // RUN - start
                if many:
                    blocks.append((start, many, b2 - a2, tap, self.taps, int(tap in again)))
                    again.add(tap)
        return blocks, table


def grain_of(total: int, units: int, work: int) -> int:
    """Units that a thread takes at a time: all of them where a pool is not worth waking."""
    return units if total < SERIAL else max(1, (1 << 14) // max(work, 1))
