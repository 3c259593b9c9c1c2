"""Convolutions of 3 x 3 kernel places by minimal filtering, as LLVM IR text.

Note [Winograd's convolution]
    F(2 x 2, 3 x 3) makes four neighbouring results of a 3 x 3 kernel g and the 4 x 4 patch d of the
    image that they see with 16 multiplications in place of 36,

        y = A' [ (G g G') * (B' d B) ] A,

    where * is elementwise, so that the sum over channels becomes one matrix product for each of the
    16 positions. The transforms have factors of 1 and 1/2 only, and unlike larger tiles' they cost
    little accuracy. What they cost is made good: weights are transformed in float64, and products
    are summed by `CHANNELS`, those sums by `RUNS`, those again. Up to `MOST_CHANNELS` channels the
    result is then as close to float64 as that of direct summation.

    Patches are transformed for a tile of the result at a time and stay in a near cache, as do the
    products; the weight is transformed once. A value that is not finite would spread over its
    patch, and infinities cancel to NaN: where a tile's results are not all finite, it is summed
    directly (`convolution_tiles.multiply`), which tells what each of them is.

    Reference: Winograd, Arithmetic Complexity of Computations (SIAM, 1980); Lavin and Gray, "Fast
        algorithms for convolutional neural networks", CVPR 2016, sections 4.1 and 5.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from flambeau.kernels.convolution_tiles import (
    FIELDS,
    SLACK,
    TASK,
    Words,
    address_of,
    finish,
    multiply,
    store,
    unit_of,
)
from flambeau.kernels.emit import Function, Value
from flambeau.kernels.gemm_micro import Form, multiply_add

Matrix = Sequence[Sequence[float]]

IMAGE = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))
WEIGHT = ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1))
RESULT = ((1, 1, 1, 0), (0, 1, -1, -1))
"""B', G and A' of F(2, 3); Lavin and Gray, section 4.1."""

POINTS = 16
"""Positions of a transformed patch."""

CHANNELS, RUNS = 16, 4
"""Channels whose products are summed before they are added to others', and how many such sums are
before those are.
"""

TILES, MOST_CHANNELS = 48, 128
"""Patches that are transformed together, and channels: at most."""

PITCH = 64
"""Bytes after the values of a position, so that positions fall into different sets of a cache."""

KERNEL = ("source", "target", "depth", *(f"tap{n}" for n in range(9)), "units", "grain")
"""Words of `winograd_kernel`: the packed weight, where it goes, channels, and which of its kernel
places meets the first, second ... element of a 3 x 3 window. A unit is a channel of a panel.
"""

WINOGRAD = (
    "units", "grain", "weight", "weight_group", "weight_panel", "depth", "column", "line",
    "out_line",
)  # fmt: skip
"""Words before those of the product that sums directly, whose rows are patches: the transformed
weight, bytes from one group and panel to the next; channels; bytes from a place of the image to
the next and to the next line; elements between lines of the result.
"""


def rows_of(form: Form) -> int:
    """Rows of the micro-kernel, which holds two accumulators for an element."""
    return 6 if form.mr >= 8 else 3


def row_unit(form: Form) -> int:
    """Patches of a tile are a multiple of this: whole micro-kernels, of pairs of results too."""
    return math.lcm(rows_of(form), form.mr // math.gcd(form.mr, 2))


def most_tiles(form: Form) -> int:
    """Patches that a tile may have."""
    return TILES // row_unit(form) * row_unit(form)


def layout(form: Form) -> dict[str, int]:
    """Bytes of the parts of a tile's scratch memory, in order."""
    tiles, size = most_tiles(form), form.acc_size
    return {
        "results": (4 * tiles + SLACK) * form.nr * size,
        "patches": POINTS * (tiles * MOST_CHANNELS * size + PITCH),
        "products": POINTS * (tiles * form.nr * size + PITCH),
        **dict.fromkeys(("corners", "starts"), (tiles + SLACK) * 8),
        **dict.fromkeys(("pairs", "places"), (2 * tiles + SLACK) * 8),
    }


def scratch_bytes(form: Form) -> int:
    """Bytes of scratch memory that a tile needs."""
    return sum(layout(form).values())


def sandwich(
    f: Function, vec: str, matrix: Matrix, grid: Sequence[Sequence[str]]
) -> list[list[str]]:
    """matrix @ grid @ matrix' of vectors of type `vec`."""

    def across(lines: Sequence[Sequence[str]]) -> list[list[str]]:
        """The matrix on the first index; the result's indices are exchanged."""
        columns = zip(*lines, strict=True)
        return [[combined(f, vec, row, column) for row in matrix] for column in columns]

    return across(across(grid))


def combined(f: Function, vec: str, factors: Sequence[float], values: Sequence[str]) -> str:
    """The sum of factor * value, of factors that are 0 or of one size, not all negative."""
    terms = [(c, v) for c, v in zip(factors, values, strict=True) if c]
    (first, total), *others = sorted(terms, key=lambda term: -term[0])
    for factor, value in others:
        total = f.op(f"{'fadd' if factor > 0 else 'fsub'} {vec} {total}, {value}")
    if first != 1:
        lanes, kind = vec.strip("<>").split(" x ")
        total = f.op(f"fmul {vec} {total}, {f.splat(int(lanes), kind, str(first))}")
    return total


def kernel_task(form: Form) -> str:
    """Task: channels [begin, end) of all panels of the packed weight are transformed."""
    f = Function("winograd_kernel", TASK, "void", "nounwind noinline")
    vec, double = form.vec, f"<{form.vl} x double>"
    t = Words(f, KERNEL)
    size, line = form.acc_size, form.nr * form.acc_size
    source, target, depth = t.pointer("source"), t.pointer("target"), t["depth"]
    taps = [t[f"tap{n}"] for n in range(9)]
    plane = f.mul(depth, line)
    with f.loop("%end", start="%begin") as unit:
        panel, channel = f.udiv(unit.index, depth), f.mul(f.urem(unit.index, depth), line)
        here = f.gep("i8", source, f.add(f.mul(f.mul(panel, 9), plane), channel))
        there = f.gep("i8", target, f.add(f.mul(f.mul(panel, POINTS), plane), channel))
        rows = [f.gep("i8", here, f.mul(tap, plane)) for tap in taps]
        for lanes in range(0, form.nr, form.vl):
            values = [
                f.op(f"fpext {vec} {f.load(vec, f.gep(form.acc, row, lanes), size)} to {double}")
                for row in rows
            ]
            found = sandwich(f, double, WEIGHT, [values[n : n + 3] for n in (0, 3, 6)])
            found = [[f.op(f"fptrunc {double} {v} to {vec}") for v in row] for row in found]
            put(f, form, found, f.gep(form.acc, there, lanes), plane)
    f.ret()
    return f.text()


def put(f: Function, form: Form, grid: list[list[str]], base: str, step: Value) -> None:
    """Store the 16 vectors of a grid, `step` bytes apart."""
    for n, value in enumerate(v for row in grid for v in row):
        f.store(form.vec, value, f.gep("i8", base, f.mul(step, n)), form.acc_size)


def tile_task(form: Form) -> str:
    """Task: tiles [begin, end) of a product."""
    f = Function("convolution_winograd", TASK, "void", "nounwind noinline")
    scratch = f.op("call ptr @take_winograd()")
    product = f.gep("i64", "%t", len(WINOGRAD))
    with f.loop("%end", start="%begin") as unit:
        f.do(f"call void @winograd_tile(ptr {product}, ptr %t, i64 {unit.index}, ptr {scratch})")
    f.do(f"call void @give_winograd(ptr {scratch})")
    f.ret()
    return _patches(form) + _products(form) + _results(form) + _tile(form) + f.text()


def _patches(form: Form) -> str:
    """void winograd_patches(image, corners, n, depth, column, line, out, pitch): transform patches.

    out[position][patch, channel] for `n` patches at `corners` (bytes into the image) of `depth`
    channels; a position's values are `pitch` bytes.
    """
    params = [
        ("ptr", "image"), ("ptr", "corners"), ("i64", "n"), ("i64", "depth"), ("i64", "column"),
        ("i64", "line"), ("ptr", "out"), ("i64", "pitch"),
    ]  # fmt: skip
    f = Function("winograd_patches", params, "void", "nounwind noinline")
    size = form.acc_size
    with f.loop("%n") as patch:
        corner = f.load("i64", f.gep("i64", "%corners", patch.index), 8)
        rows = [f.gep("i8", f.gep("i8", "%image", corner), f.mul("%line", y)) for y in range(4)]
        places = [[f.gep("i8", row, f.mul("%column", x)) for x in range(4)] for row in rows]
        out = f.gep(form.acc, "%out", f.mul(patch.index, "%depth"))
        with f.loop("%depth", step=form.vl) as channel:
            grid = [
                [f.load(form.vec, f.gep(form.acc, place, channel.index), size) for place in row]
                for row in places
            ]
            here = f.gep(form.acc, out, channel.index)
            put(f, form, sandwich(f, form.vec, IMAGE, grid), here, "%pitch")
    f.ret()
    return f.text()


def _products(form: Form) -> str:
    """void winograd_products(a, pitch, b, c, n, add): products of a few patches at a position.

    c[i, :] (+)= sum over n * CHANNELS channels of a[i, channel] * b[channel, :], `CHANNELS` summed
    apart from the others. Rows of a are `pitch` bytes apart; b and c have rows of NR.
    """
    params = [
        ("ptr", "a"), ("i64", "pitch"), ("ptr", "b"), ("ptr", "c"), ("i64", "n"), ("i64", "add"),
    ]  # fmt: skip
    f = Function("winograd_products", params, "void", "nounwind noinline")
    vec, size, width, rows = form.vec, form.acc_size, form.vl * form.acc_size, rows_of(form)
    starts = [f.gep("i8", "%a", f.mul("%pitch", i)) for i in range(rows)]
    carry = [(vec, "zeroinitializer")] * (rows * form.nv)
    with f.loop("%n", carry=carry, nonempty=True) as part:
        first = f.mul(part.index, CHANNELS)
        last = f.add(first, CHANNELS)
        with f.loop(last, start=first, carry=carry, nonempty=True) as k:
            b = f.gep(form.acc, "%b", f.mul(k.index, form.nr))
            columns = [f.load(vec, f.gep("i8", b, j * width), size) for j in range(form.nv)]
            following = []
            for i, start in enumerate(starts):
                scalar = f.load(form.acc, f.gep(form.acc, start, k.index), size)
                row = f.splat(form.vl, form.acc, scalar)
                for column, total in zip(columns, k.carried[i * form.nv :], strict=False):
                    following.append(multiply_add(f, form, row, column, total))
            k.carry(*following)
        pairs = zip(part.carried, k.carried, strict=True)
        part.carry(*(f.op(f"fadd {vec} {total}, {one}") for total, one in pairs))
    places = [f.gep(form.acc, "%c", i * form.nr) for i in range(rows)]
    places = [f.gep("i8", row, j * width) for row in places for j in range(form.nv)]
    finish(f, form, places, part.carried)
    f.ret()
    return f.text()


def _results(form: Form) -> str:
    """i1 winograd_results(products, n, pitch, out, below): transform back; whether all are finite.

    out[2 * patch + x, :] and, `below` bytes further on, the same of the second line.
    """
    params = [
        ("ptr", "products"), ("i64", "n"), ("i64", "pitch"), ("ptr", "out"), ("i64", "below"),
    ]  # fmt: skip
    f = Function("winograd_results", params, "i1", "nounwind noinline")
    vec, size = form.vec, form.acc_size
    zero = "zeroinitializer"
    with f.loop("%n", carry=[(vec, zero)]) as patch:
        doubt = patch.carried[0]
        for lanes in range(0, form.nr, form.vl):
            here = f.gep(form.acc, "%products", f.add(f.mul(patch.index, form.nr), lanes))
            values = [
                f.load(vec, f.gep("i8", here, f.mul("%pitch", n)), size) for n in range(POINTS)
            ]
            grid = [values[n : n + 4] for n in range(0, POINTS, 4)]
            there = f.gep(form.acc, "%out", f.add(f.mul(patch.index, 2 * form.nr), lanes))
            for y, row in enumerate(sandwich(f, vec, RESULT, grid)):
                for x, value in enumerate(row):
                    place = f.gep(form.acc, f.gep("i8", there, f.mul("%below", y)), x * form.nr)
                    f.store(vec, value, place, size)
                    doubt = f.op(f"fadd {vec} {doubt}, {f.op(f'fmul {vec} {value}, {zero}')}")
        patch.carry(doubt)
    doubt = f.op(f"fcmp uno {vec} {patch.carried[0]}, {zero}")
    bits = f.op(f"bitcast <{form.vl} x i1> {doubt} to i{form.vl}")
    f.ret(f"i1 {f.op(f'icmp eq i{form.vl} {bits}, 0')}")
    return f.text()


def _tile(form: Form) -> str:
    """void winograd_tile(product, words, unit, scratch): one tile."""
    params = [("ptr", "t"), ("ptr", "words"), ("i64", "unit"), ("ptr", "scratch")]
    f = Function("winograd_tile", params, "void", "nounwind noinline")
    t, words = Words(f, FIELDS), Words(f, WINOGRAD, "%words")
    v = {name: t[name] for name in FIELDS}
    w = {name: words[name] for name in WINOGRAD}
    at, part = "%scratch", {}
    for name, count in layout(form).items():
        part[name], at = at, f.gep("i8", at, count)
    line = form.nr * form.acc_size
    group, rows, first, stop = unit_of(f, v, part["corners"], part["starts"])
    width = f.mul(w["depth"], form.acc_size)
    pitch = f.add(f.mul(v["tile_rows"], width), PITCH)
    back = f.add(f.mul(v["tile_rows"], line), PITCH)
    below = f.mul(v["tile_rows"], 2 * line)
    with f.loop(v["tile_rows"], nonempty=True) as row:
        pair = f.mul(row.index, 2)
        for source, target, step in (
            ("corners", "pairs", w["column"]),
            ("starts", "places", 1),
        ):
            value = f.load("i64", f.gep("i64", part[source], row.index), 8)
            place = f.gep("i64", part[target], pair)
            f.store("i64", value, place, 8)
            f.store("i64", f.add(value, step), f.gep("i64", place, 1), 8)
    image = address_of(f, f.add(v["a"], f.mul(group, v["a_group"])))
    f.do(
        f"call void @winograd_patches(ptr {image}, ptr {part['corners']}, i64 {v['tile_rows']}, "
        f"i64 {w['depth']}, i64 {w['column']}, i64 {w['line']}, ptr {part['patches']}, i64 {pitch})"
    )
    plane = f.mul(w["depth"], line)
    weight = f.add(w["weight"], f.mul(group, w["weight_group"]))
    with f.loop(stop, start=first, nonempty=True) as panel:
        here = f.add(weight, f.mul(panel.index, w["weight_panel"]))
        with f.loop(POINTS, nonempty=True) as point:
            a = f.gep("i8", part["patches"], f.mul(point.index, pitch))
            b = address_of(f, f.add(here, f.mul(point.index, plane)))
            c = f.gep("i8", part["products"], f.mul(point.index, back))
            parts = f.udiv(w["depth"], CHANNELS)
            with (
                f.loop(parts, step=RUNS, nonempty=True) as part_of,
                f.loop(rows, step=rows_of(form), nonempty=True) as row,
            ):
                few = f.min(RUNS, f.sub(parts, part_of.index))
                channel = f.mul(part_of.index, CHANNELS * form.acc_size)
                left = f.gep("i8", a, f.add(f.mul(row.index, width), channel))
                right = f.gep("i8", b, f.mul(channel, form.nr))
                sums = f.gep("i8", c, f.mul(row.index, line))
                f.do(
                    f"call void @winograd_products(ptr {left}, i64 {width}, ptr {right}, "
                    f"ptr {sums}, i64 {few}, i64 {part_of.index})"
                )
        finite = f.op(
            f"call i1 @winograd_results(ptr {part['products']}, i64 {rows}, i64 {back}, "
            f"ptr {part['results']}, i64 {below})"
        )
        double = f.mul(rows, 2)
        with f.when(f.op(f"xor i1 {finite}, true")), f.loop(2, nonempty=True) as y:
            shifted = f.gep("i8", image, f.mul(y.index, w["line"]))
            sums = f.gep("i8", part["results"], f.mul(y.index, below))
            last = f.add(panel.index, 1)
            multiply(f, form, v, group, shifted, double, panel.index, last, sums, 0, part["pairs"])
        with f.loop(2, nonempty=True) as y:
            sums = f.gep("i8", part["results"], f.mul(y.index, below))
            shift = f.mul(y.index, w["out_line"])
            store(f, form, v, group, panel.index, sums, double, part["places"], shift)
    f.ret()
    return f.text()
