"""Views and writes by strides as ONNX's operations on dimensions.

Note [Strides to dimensions]
A view node reads the row-major storage of its source by strides. ONNX has no strides, so what
made the view is found again: the storage is cut into dimensions such that every stride of the view
is a whole number of steps along one of them, and the view is Reshape (to these), Slice, Transpose,
Reshape and Expand, as far as each is needed. All of it must come out for every value of the
symbols; views that are not of this form (overlapping windows) are gathered by computed places.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flambeau.export.onnx.builder import Builder, known, same, same_shape
from flambeau.ir.symbol import SymInt, at_hand, divides
from flambeau.size import contiguous_strides


@dataclass
class Plan:
    """How a view is made.

    Attributes:
        storage: the dimensions that the source is cut into.
        cuts: for each, (start, count, step).
        order: which of them the view's dimensions run along, backwards where `flipped`.
        shape: of the view without repetition.
    """

    storage: list[Any]
    cuts: list[tuple[Any, Any, int]]
    order: list[int]
    flipped: list[int]
    shape: list[Any]


def _never_negative(n: Any) -> bool:
    """Whether a number is at least 0 for all values of the symbols."""
    if known(n):
        return bool(n >= 0)
    low = n.expression.least()
    return low is not None and low >= 0


def _over(n: Any, d: Any) -> Any:
    """n / d where it comes out for all values of the symbols, else None."""
    if known(n):
        return n // d if known(d) and d and n % d == 0 else (0 if known(n) and n == 0 else None)
    return n // d if divides(d, n) else None


def _digits(offset: Any, steps: Sequence[Any]) -> list[Any] | None:
    """`offset` as a sum of whole numbers of `steps`, which come with the largest first."""
    found = []
    for step in steps:
        digit = at_hand(offset) // at_hand(step)
        if digit and not (known(offset) and known(step)):
            digit = _symbolic_digit(offset, step, digit)
        found.append(digit)
        offset = offset - digit * step
    return found if known(offset) and offset == 0 else None


def _symbolic_digit(offset: Any, step: Any, digit: int) -> Any:
    """How often a step goes into an offset, by the terms that the step divides."""
    if known(offset):
        return digit
    space = offset.expression.space
    whole: Any = 0
    for monomial, times in offset.expression.terms.items():
        term = times
        for k in monomial:
            term = term * _unknown(space, k)
        part = _over(term, step)
        if part is not None:
            whole = whole + part
    return whole if at_hand(whole) == digit else digit


def _unknown(space: Any, number: int) -> Any:
    return SymInt(space.at_hand[number], space.expression({(number,): 1}))


def plan(
    source: Sequence[Any], shape: Sequence[Any], strides: Sequence[Any], offset: Any
) -> Plan | None:
    """How a view is made of dimensions, or None where it is not.

    Args:
        source: the shape whose row-major storage is read.
        shape, strides, offset: of the view.
    """
    kept = [
        d
        for d, n in enumerate(shape)
        if not (known(n) and n == 1) and not (known(strides[d]) and strides[d] == 0)
    ]
    backwards = [d for d in kept if at_hand(strides[d]) < 0]
    for d in backwards:
        offset = offset + (shape[d] - 1) * strides[d]
    steps = {d: -strides[d] if d in backwards else strides[d] for d in kept}
    ordered = sorted(kept, key=lambda d: -at_hand(steps[d]))
    for rows in (True, False):
        found = _cut_all(source, [(d, steps[d], shape[d]) for d in ordered], offset, rows)
        if found is not None:
            break
    else:
        return None
    storage, cuts, owners = found
    place = {d: k for k, d in enumerate(owners) if d is not None}
    plain = [1 if known(strides[d]) and strides[d] == 0 else n for d, n in enumerate(shape)]
    return Plan(storage, cuts, [place[d] for d in kept], [place[d] for d in backwards], plain)


def _cut_all(
    source: Sequence[Any], wanted: Sequence[tuple[int, Any, Any]], offset: Any, rows: bool
) -> tuple[list[Any], list[tuple[Any, Any, int]], list[Any]] | None:
    """The dimensions that a storage is cut into, what is taken of each and for which of `wanted`.

    Args:
        source: the storage's own dimensions.
        wanted: (name, stride, size), the largest stride first.
        offset: where the view begins.
        rows: whether dimensions of the source, of which one place is taken, are kept apart.
    """
    inner = contiguous_strides(tuple(source))
    total: Any = math.prod(source)
    edge = total
    bounds: list[tuple[Any, Any, Any, int]] = []  # elements of one place, for whom, count, step
    for d, step, size in wanted:
        bound = _cut(step, edge, inner)
        times = None if bound is None else _over(step, bound)
        if times is None or not known(times):
            return None
        for s in inner if rows else ():
            extent = _over(s, bound)
            if (
                extent is not None
                and not same(s, edge)
                and not same(s, bound)
                and _over(edge, s) is not None
                and _never_negative(extent - 1 - (size - 1) * times)
            ):
                bounds.append((s, None, 1, 1))
                edge = s
        bounds.append((bound, d, size, times))
        edge = bound
    for s in inner if rows else ():
        if not same(s, edge) and _over(edge, s) is not None:
            bounds.append((s, None, 1, 1))
            edge = s
    if not bounds or not (known(edge) and edge == 1):
        bounds.append((1, None, 1, 1))
    starts = _digits(offset, [bound for bound, *_ in bounds])
    if starts is None:
        return None
    storage, cuts, edge = [], [], total
    for start, (bound, _, size, step) in zip(starts, bounds, strict=True):
        extent = _over(edge, bound)
        if extent is None or not _never_negative(extent - 1 - start - (size - 1) * step):
            return None
        if not _never_negative(start):
            return None
        edge = bound
        storage.append(extent)
        cuts.append((start, size, step))
    return storage, cuts, [d for _, d, _, _ in bounds]


def _cut(step: Any, edge: Any, inner: Sequence[Any]) -> Any:
    """Elements of one place of the dimension that a stride runs along: the stride itself if it
    divides the dimension outside, else a stride of the source that divides both."""
    if _over(edge, step) is not None:
        return step
    for s in inner:
        if not (known(s) and s == 0) and known(_over(step, s) or ()) and _over(edge, s) is not None:
            return s
    return None


def view(b: Builder, x: Any, source: Sequence[Any], shape: Sequence[Any], strides: Sequence[Any],
         offset: Any, whole: bool = True) -> Any:  # fmt: skip
    """A view of a value.

    Args:
        x: the value, of shape `source`.
        whole: whether dimensions that repeat are spread; otherwise they stay 1.
    """
    if not all(known(n) for n in source) or math.prod(source):
        if not any(known(n) and n == 0 for n in shape):
            found = plan(source, shape, strides, offset)
            if found is not None:
                x = _moved(b, x, source, found)
                if whole and not same_shape(found.shape, shape):
                    x = b.expand(x, shape)
                return x
    if any(known(n) and n == 0 for n in shape):
        return b.reshape(b.slices(b.flat(x), [(0, 0, 0, 1)]), shape)
    return b.op("Gather", b.flat(x), b.places(shape, strides, offset))


def compact(source: Sequence[Any], shape: Sequence[Any], strides: Sequence[Any]) -> list[Any]:
    """The shape of a view without repetition."""
    return [1 if known(s) and s == 0 else n for n, s in zip(shape, strides, strict=True)]


def reshaped(b: Builder, x: Any, now: Sequence[Any], shape: Sequence[Any]) -> Any:
    """A value's elements in another shape; dimensions of size 1 come and go by Squeeze."""
    if same_shape(now, shape):
        return x
    long = [n for n in now if not (known(n) and n == 1)]
    if same_shape(long, [n for n in shape if not (known(n) and n == 1)]):
        more, fewer = _ones(now, shape), _ones(shape, now)
        if fewer is not None:
            return b.op("Squeeze", x, b.ints(fewer))
        if more is not None:
            return b.op("Unsqueeze", x, b.ints(more))
    return b.reshape(x, shape)


def _ones(small: Sequence[Any], large: Sequence[Any]) -> list[int] | None:
    """Which sizes of 1 to put into a shape for another, or None where that is not enough."""
    found, rest = [], list(small)
    for d, n in enumerate(large):
        if rest and same(rest[0], n):
            rest.pop(0)
        elif known(n) and n == 1:
            found.append(d)
        else:
            return None
    return None if rest else found


def _moved(b: Builder, x: Any, source: Sequence[Any], how: Plan) -> Any:
    now = list(source)
    cuts = []
    for k, (start, size, step) in enumerate(how.cuts):
        if not same(size, how.storage[k]):
            cuts.append((k, start, start + (size - 1) * step + 1, step))
    turned = how.order != sorted(how.order)
    if not cuts and not turned and not how.flipped:
        return reshaped(b, x, now, how.shape)
    if not same_shape(now, how.storage):
        x = b.reshape(x, how.storage)
        now = how.storage
    if cuts:
        x = b.slices(x, cuts)
        now = [size for _, size, _ in how.cuts]
    if how.flipped:
        x = b.slices(x, [(k, -1, -(1 << 62), -1) for k in how.flipped])
    if turned:
        order = [*how.order, *(k for k in range(len(now)) if k not in how.order)]
        x = b.transpose(x, order)
        now = [now[k] for k in order]
    return reshaped(b, x, now, how.shape)


# -- writes ----------------------------------------------------------------------------------------


@dataclass
class Region:
    """A part of a tensor along its dimensions.

    Attributes:
        starts, sizes, steps: of each dimension.
        order: which dimension of the tensor each of the region's is; -1 where it has one place.
    """

    starts: list[Any]
    sizes: list[Any]
    steps: list[int]
    order: list[int]


def region(
    base: Sequence[Any], shape: Sequence[Any], strides: Sequence[Any], offset: Any
) -> Region | None:
    """What a write covers, if it runs along the dimensions of what it writes to."""
    inner = contiguous_strides(tuple(base))
    if any(known(n) and n == 0 for n in (*base, *shape)):
        return None
    starts = _digits(offset, inner)
    if starts is None:
        return None
    sizes: list[Any] = [1] * len(base)
    steps = [1] * len(base)
    order = []
    for n, s in zip(shape, strides, strict=True):
        if known(n) and n == 1:
            order.append(-1)
            continue
        at = [
            d
            for d in range(len(base))
            if same(inner[d], s) and not (known(base[d]) and base[d] == 1)
        ]
        if not at:
            at = [
                d
                for d, i in enumerate(inner)
                if known(s)
                and known(i)
                and known(base[d])
                and s > 0
                and s % i == 0
                and s < i * base[d]
            ]
        if len(at) != 1 or at[0] in order:
            return None
        order.append(at[0])
        sizes[at[0]], steps[at[0]] = n, s // inner[at[0]] if not same(s, inner[at[0]]) else 1
    for d, n in enumerate(base):
        if not _never_negative(n - 1 - starts[d] - (sizes[d] - 1) * steps[d]):
            return None
    return Region(starts, sizes, steps, order)


def along(b: Builder, value: Any, found: Region, shape: Sequence[Any]) -> Any:
    """What is written, with the dimensions of what it is written to."""
    used = [d for d in found.order if d >= 0]
    if used != sorted(used):
        kept = [k for k, d in enumerate(found.order) if d >= 0]
        rest = [k for k, d in enumerate(found.order) if d < 0]
        value = b.transpose(value, [*sorted(kept, key=lambda k: found.order[k]), *rest])
        shape = [found.sizes[d] for d in sorted(used)] + [1] * len(rest)
    return reshaped(b, value, shape, found.sizes)


__all__ = ["Plan", "Region", "along", "compact", "plan", "region", "view"]
