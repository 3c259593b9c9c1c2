"""Cells of views, writes, reductions, scans, indexing, products and ranks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from flambeau.dtype import bool as bool_dtype
from flambeau.dtype import iinfo, int32, int64
from flambeau.export.onnx import movement
from flambeau.export.onnx.builder import Builder, known, same, same_shape
from flambeau.export.onnx.cells import cell
from flambeau.ir.graph import ASSIGN, Node

# -- views and writes ------------------------------------------------------------------------------


@cell("view_of")
def _view(b: Builder, node: Node) -> None:
    """Written when it is read: elementwise readers may take it without repetition."""
    (x,) = node.src
    strides, offset = node.attrs
    b.later(
        node,
        lambda: movement.view(b, b.value(x), x.shape, node.shape, strides, offset),
    )


def _chain(node: Node) -> tuple[Node, list[Node]]:
    """What a row of writes begins with, and the writes, first one first."""
    writes = []
    while node.op is ASSIGN:
        writes.append(node)
        node = node.src[0]
    return node, writes[::-1]


@cell("assign", "assign_region")
def _assign(b: Builder, node: Node) -> None:
    """Written when it is read as a whole: of writes that follow one another, the last."""
    b.later(node, lambda: _assigned(b, node))


def _assigned(b: Builder, node: Node) -> Any:
    first, writes = _chain(node)
    while True:
        found = _joined(b, first, writes) if writes else None
        if found is not None or len(writes) < 2:
            break
        first, writes = writes[0], writes[1:]  # what is written last may cover it all
    if found is not None:
        return found
    base, value = node.src
    shape, strides, offset = node.attrs
    part = movement.region(base.shape, shape, strides, offset)
    if part is not None and all(s == 1 for s in part.steps):
        if base.op.name == "fill_value" and type(base.src[0]) is not Node:
            return _padded(b, base, value, part, shape)
        cut = [d for d, n in enumerate(base.shape) if not same(part.sizes[d], n)]
        if len(cut) <= 1:
            return _between(b, base, value, part, shape, cut)
    flat = b.flat(b.value(base))
    at = b.places(shape, strides, offset)
    given = _spread(b, value, shape)
    written = b.op("ScatterElements", flat, b.flat(at), b.flat(given), axis=0)
    return b.reshape(written, node.shape)


def _spread(b: Builder, value: Any, shape: Any) -> Any:
    """What is written, which may be a number, in the shape of the region."""
    if type(value) is not Node:
        raise AssertionError("a write of a number")
    found = b.value(value)
    return found if same_shape(value.shape, shape) else b.expand(found, shape)


def _joined(b: Builder, first: Node, writes: list[Node]) -> Any:
    """Writes that follow one another along a dimension and cover it, as Concat."""
    base = writes[0].shape
    parts = [movement.region(base, *w.attrs) for w in writes]
    if any(p is None or any(s != 1 for s in p.steps) for p in parts):
        return None
    regions = [p for p in parts if p is not None]
    along = {d for p in regions for d, n in enumerate(base) if not same(p.sizes[d], n)}
    if len(along) != 1:
        if along or len(writes) > 1:
            return None
        return _shaped(b, writes[0], regions[0])
    (axis,) = along
    edge: Any = 0
    for p in regions:
        if not same(p.starts[axis], edge):
            return None
        edge = edge + p.sizes[axis]
    if not same(edge, base[axis]):
        return None
    values = [_shaped(b, w, p) for w, p in zip(writes, regions, strict=True)]
    return b.op("Concat", *values, axis=axis)


def _shaped(b: Builder, write: Node, part: movement.Region) -> Any:
    shape = write.attrs[0]
    return movement.along(b, _spread(b, write.src[1], shape), part, shape)


def _padded(b: Builder, base: Node, value: Node, part: movement.Region, shape: Any) -> Any:
    after = [n - s - k for n, s, k in zip(base.shape, part.starts, part.sizes, strict=True)]
    given = movement.along(b, _spread(b, value, shape), part, shape)
    fill = b.number(base.src[0], base.dtype)
    if base.dtype is bool_dtype:
        whole = b.op(
            "Pad", b.cast(given, int32), b.sizes([*part.starts, *after]), b.cast(fill, int32)
        )
        return b.cast(whole, bool_dtype)
    return b.op("Pad", given, b.sizes([*part.starts, *after]), fill)


def _between(
    b: Builder, base: Node, value: Node, part: movement.Region, shape: Any, cut: Any
) -> Any:
    """What stands before a write, what is written, and what stands behind."""
    given = movement.along(b, _spread(b, value, shape), part, shape)
    if not cut:
        return given
    (d,) = cut
    start, stop = part.starts[d], part.starts[d] + part.sizes[d]
    old, pieces = b.value(base), [given]
    if not (known(start) and start == 0):
        pieces.insert(0, b.slices(old, [(d, 0, start, 1)]))
    if not same(stop, base.shape[d]):
        pieces.append(b.slices(old, [(d, stop, base.shape[d], 1)]))
    return b.op("Concat", *pieces, axis=d)


@cell("join")
def _join(b: Builder, node: Node) -> Any:
    return b.op("Concat", *(b.value(x) for x in node.src), axis=node.attrs[0])


# -- reductions and scans --------------------------------------------------------------------------


def _reduction(kind: str) -> Callable[[Builder, Node], Any]:
    def write(b: Builder, node: Node) -> Any:
        x, (axes,) = b.value(node.src[0]), node.attrs
        if not axes:
            return b.op("Identity", x)
        if node.dtype.category == 2 or node.dtype in (int32, int64):
            return b.op(kind, x, b.ints(axes), keepdims=0)
        return b.cast(b.op(kind, b.cast(x, int64), b.ints(axes), keepdims=0), node.dtype)

    return write


for _name, _kind in (
    ("sum_axes", "ReduceSum"), ("prod_axes", "ReduceProd"), ("max_axes", "ReduceMax"),
    ("min_axes", "ReduceMin"),
):  # fmt: skip
    cell(_name)(_reduction(_kind))


def _extreme(kind: str) -> Callable[[Builder, Node], Any]:
    def write(b: Builder, node: Node) -> Any:
        (x,) = node.src
        given = b.value(x)
        if x.dtype.category < 2 and x.dtype is not int32:
            given = b.cast(given, int32 if x.dtype.itemsize < 4 else int64)
        return b.op(kind, given, axis=node.attrs[0][0], keepdims=0)

    return write


cell("argmax_axis")(_extreme("ArgMax"))
cell("argmin_axis")(_extreme("ArgMin"))


@cell("scan_sum")
def _scan_sum(b: Builder, node: Node) -> Any:
    dim, reverse = node.attrs
    (x,) = node.src
    wide = x.dtype.category == 2 or x.dtype in (int32, int64)
    given = b.value(x) if wide else b.cast(b.value(x), int64)
    found = b.op("CumSum", given, b.number(dim, int64), reverse=int(reverse))
    return found if wide else b.cast(found, node.dtype)


def _has_elements(node: Node, used: set[int]) -> bool:
    return not any(known(n) and n == 0 for n in node.shape)


cell(
    "scan_product", "scan_logsumexp", "scan_argmax", "scan_argmin",
    when=lambda node, used: not _has_elements(node, used),
)(lambda b, node: b.expand(b.number(0, node.dtype), node.shape))  # fmt: skip


def _slice_of(node: Node) -> tuple[Node, int, bool, list[Any]]:
    """What a scan runs over, along which dimension, whether backwards, and a slice's shape."""
    (x,), (dim, reverse) = node.src, node.attrs
    return x, dim, reverse, [n for d, n in enumerate(x.shape) if d != dim]


@cell("scan_product")
def _scan_product(b: Builder, node: Node) -> Any:
    x, dim, reverse, shape = _slice_of(node)
    first = b.expand(b.number(1, x.dtype), shape)

    def step(states: list[Any], slices: list[Any]) -> tuple[list[Any], list[Any]]:
        product = b.op("Mul", states[0], slices[0])
        return [product], [product]

    given = [(b.value(x), x.dtype, shape)]
    return b.steps([(first, x.dtype, shape)], given, step, dim, reverse)[1]


@cell("scan_logsumexp")
def _scan_logsumexp(b: Builder, node: Node) -> Any:
    x, dim, reverse, shape = _slice_of(node)
    first = b.expand(b.number(-math.inf, x.dtype), shape)

    def step(states: list[Any], slices: list[Any]) -> tuple[list[Any], list[Any]]:
        (total,), (now,) = states, slices
        top = b.op("Max", total, now)
        ends = b.op("IsInf", top)
        safe = b.where(ends, b.number(0, x.dtype), top)
        parts = [b.op("Exp", b.op("Sub", v, safe)) for v in (total, now)]
        total = b.op("Add", safe, b.op("Log", b.op("Add", *parts)))
        total = b.where(ends, top, total)
        return [total], [total]

    given = [(b.value(x), x.dtype, shape)]
    return b.steps([(first, x.dtype, shape)], given, step, dim, reverse)[1]


def _scan_place(least: bool) -> Callable[[Builder, Node], Any]:
    def write(b: Builder, node: Node) -> Any:
        x, dim, reverse, shape = _slice_of(node)
        wide = x.dtype if x.dtype.category == 2 or x.dtype is int32 else int64
        given = b.value(x) if wide is x.dtype else b.cast(b.value(x), wide)
        worst = math.inf if wide.category == 2 else iinfo(wide).max
        worst = worst if least else (-math.inf if wide.category == 2 else iinfo(wide).min)
        size = x.shape[dim]
        start = (b.number(size - 1, int64), -1) if reverse else (b.number(0, int64), 1)

        def step(states: list[Any], slices: list[Any]) -> tuple[list[Any], list[Any]]:
            (best, place, at), (now,) = states, slices
            hit = b.op("LessOrEqual" if least else "GreaterOrEqual", now, best)
            if wide.category == 2:
                hit = b.op("Or", hit, b.op("IsNaN", now))
            place = b.where(hit, at, place)
            following = b.op("Add", at, b.number(start[1], int64))
            return [b.where(hit, now, best), place, following], [place]

        states = [
            (b.expand(b.number(worst, wide), shape), wide, shape),
            (b.expand(start[0], shape), int64, shape),
            (start[0], int64, []),
        ]
        return b.steps(states, [(given, wide, shape)], step, dim, reverse)[3]

    return write


cell("scan_argmax")(_scan_place(least=False))
cell("scan_argmin")(_scan_place(least=True))


# -- indexing --------------------------------------------------------------------------------------


def _joint(b: Builder, indices: Any) -> Any:
    """Indices over the first dimensions as one tensor, the dimensions last."""
    last = b.ints([-1])
    return b.op("Concat", *(b.op("Unsqueeze", b.value(i), last) for i in indices), axis=-1)


@cell("index_leading")
def _index(b: Builder, node: Node) -> Any:
    x, *indices = node.src
    if len(indices) == 1:
        return b.op("Gather", b.value(x), b.value(indices[0]), axis=0)
    return b.op("GatherND", b.value(x), _joint(b, indices))


_MODES = {"set": None, "add": "add", "mul": "mul", "max": "max", "min": "min"}


@cell("put_leading")
def _put(b: Builder, node: Node) -> Any:
    x, value, *indices = node.src
    places = tuple(indices[0].shape)
    given = _spread(b, value, (*places, *x.shape[len(indices) :]))
    return b.op("ScatterND", b.value(x), _joint(b, indices), given, reduction=_MODES[node.attrs[0]])


# -- products --------------------------------------------------------------------------------------


def product(b: Builder, x: Node, y: Node) -> Any:
    """x @ y; narrow integers are multiplied as int32."""
    left, right = b.value(x), b.value(y)
    if x.dtype.category == 2 or x.dtype in (int32, int64):
        return b.op("MatMul", left, right)
    return b.cast(b.op("MatMul", b.cast(left, int32), b.cast(right, int32)), x.dtype)


@cell("matmul_batched")
def _matmul(b: Builder, node: Node) -> Any:
    return product(b, *node.src)


@cell("matmul_biased")
def _biased(b: Builder, node: Node) -> Any:
    x, y, bias = node.src
    if len(x.shape) == 2 == len(y.shape) and x.dtype.category == 2:
        return b.op("Gemm", b.value(x), b.value(y), b.value(bias))
    return b.op("Add", product(b, x, y), b.value(bias))


@cell("_int_mm", when=lambda node, used: bool(node.src[0].shape[1]))
def _int_mm(b: Builder, node: Node) -> Any:
    return b.op("MatMulInteger", *(b.value(s) for s in node.src))


@cell("determinant")
def _determinant(b: Builder, node: Node) -> Any:
    return b.op("Det", b.value(node.src[0]))


# -- ranks -----------------------------------------------------------------------------------------


def _top(b: Builder, x: Node, dim: int, count: Any, descending: bool) -> tuple[Any, Any]:
    """The first ranks of a dimension: values and places. Narrow integers are ranked as int64."""
    given = b.value(x)
    wide = x.dtype.category == 2 or x.dtype in (int32, int64)
    given = given if wide else b.cast(given, int64)
    values, places = b.op(
        "TopK", given, b.size(count), outputs=2, axis=dim, largest=int(descending), sorted=1
    )
    return (values if wide else b.cast(values, x.dtype)), places


@cell("ranked")
def _ranked(b: Builder, node: Node) -> Any:
    (x,) = node.src
    dim, first, count, descending = node.attrs[:4]
    if not x.shape:
        return b.op("Identity", b.value(x)), b.number(0, int64)
    values, places = _top(b, x, dim, first + count, descending)
    if known(first) and first == 0:
        return values, places
    cut = [(dim, first, first + count, 1)]
    return b.slices(values, cut), b.slices(places, cut)


@cell("middle_along", when=lambda node, used: bool(node.src[0].shape))
def _middle(b: Builder, node: Node) -> Any:
    (x,) = node.src
    dim, ignore_nan = node.attrs[:2]
    if x.dtype.category < 2:
        half = (x.shape[dim] - 1) // 2
        values, places = _top(b, x, dim, half + 1, False)
        cut = [(dim, half, half + 1, 1)]
        return b.slices(values, cut), b.slices(places, cut)
    wrong = b.op("IsNaN", b.value(x))
    filled = b.where(wrong, b.number(math.inf, x.dtype), b.value(x))
    values, places = b.op(
        "TopK", filled, b.size(x.shape[dim]), outputs=2, axis=dim, largest=0, sorted=1
    )
    along, one = b.ints([dim]), b.number(1, int64)
    numbers = b.op("ReduceSum", b.cast(b.op("Not", wrong), int64), along, keepdims=1)
    last = b.op("Max", b.op("Sub", numbers, one), b.number(0, int64))
    rank = b.op("Div", last, b.number(2, int64))
    value = b.op("GatherElements", values, rank, axis=dim)
    place = b.op("GatherElements", places, rank, axis=dim)
    size = b.number(0 if ignore_nan else x.shape[dim], int64)
    nan = b.op("Equal", numbers, size)
    if not ignore_nan:
        nan = b.op("Not", nan)
    first = b.op("ArgMax", b.cast(wrong, int32), axis=dim, keepdims=1)
    return b.where(nan, b.number(math.nan, x.dtype), value), b.where(nan, first, place)


@cell("membership")
def _membership(b: Builder, node: Node) -> Any:
    x, tests = node.src
    if not math.prod(tests.shape):
        return b.expand(b.constant(np.array(bool(node.attrs[0])), bool_dtype), node.shape)
    last = b.ints([-1])
    same_ = b.op("Equal", b.op("Unsqueeze", b.value(x), last), b.flat(b.value(tests)))
    hit = b.op("ReduceMax", b.cast(same_, int32), last, keepdims=0)
    hit = b.cast(hit, bool_dtype)
    return b.op("Not", hit) if node.attrs[0] else hit


__all__ = ["product"]
