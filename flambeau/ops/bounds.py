"""Interval arithmetic on mods: what a mod's steps can be over whole ranges of places.

A value is a pair of arrays, its least and its greatest over each range; of a bool, whether it is
surely and whether it is possibly True. Bounds are never too narrow. Where nothing is known they are
infinite, and comparisons of them are undecided.

Reference:
    Moore, Interval Analysis (1966).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from flambeau import dtypes
from flambeau.dtype import dtype as DType
from flambeau.ir.graph import CAST
from flambeau.ops.mods import GATHER, SLOTS, Mod, Ref, Step

#: integers up to here are exact in the float64 that bounds are kept in
_EXACT = 2.0**53


class Bounds(NamedTuple):
    """The least and the greatest that a value can be; arrays that broadcast.

    float64, or bool for truth values.
    """

    low: Any
    high: Any


def bounds(
    mod: Mod, slots: dict[str, Bounds], tables: Sequence[Any]
) -> tuple[list[Bounds], set[int]]:
    """What a mod's outputs can be.

    Args:
        mod: the program.
        slots: bounds of its arguments by name; "score" and "g" may be missing: anything.
        tables: the captured tensors as NumPy arrays; None for unknown numbers.

    Returns:
        The bounds of the outputs, and the steps that read a table at integers that may have
        overflowed.
    """
    made: list[Bounds] = []
    wrapped: set[Ref] = set()
    suspect: set[int] = set()

    def value(ref: Ref) -> Bounds:
        kind, k = ref
        if kind == "step":
            return made[k]
        if kind == "number":
            x = np.asarray(k if isinstance(k, bool) else float(k))
            return Bounds(x, x)
        if kind == "slot":
            return slots.get(SLOTS[k], _anything(mod.score))
        table = tables[k]
        if table is None:
            return _anything(mod.captured[k][1])
        return _known(Bounds(table, table), mod.captured[k][1])

    for k, step in enumerate(mod.steps):
        own: Ref = ("step", k)
        if step.op is GATHER:
            table = tables[step.src[0][1]]
            if any(ref in wrapped for ref in step.src[1:]):
                suspect.add(k)
            if table is None:
                made.append(_anything(step.dtype))
            else:
                made.append(_known(_gathered(table, [value(r) for r in step.src[1:]]), step.dtype))
            continue
        found = _step(step, [value(ref) for ref in step.src])
        if _overflows(found, step.dtype) or any(ref in wrapped for ref in step.src):
            wrapped.add(own)
        made.append(_known(found, step.dtype))
    return [value(ref) for ref in mod.outputs], suspect


@cache
def wrapped_index(mod: Mod, sizes: tuple[int, int, int, int]) -> bool:
    """Whether a mod over (B, H, L, S) places reads a table at an integer that may overflow."""
    slots = {
        name: Bounds(np.asarray(0.0), np.asarray(n - 1.0))
        for name, n in zip(SLOTS[1:5], sizes, strict=True)
    }
    return bool(bounds(mod, slots, [None] * len(mod.captured))[1])


def _anything(dtype: DType) -> Bounds:
    if dtype is dtypes.bool:
        return Bounds(np.asarray(False), np.asarray(True))
    return Bounds(np.asarray(-np.inf), np.asarray(np.inf))


def _overflows(x: Bounds, dtype: DType) -> bool:
    """Whether finite bounds leave the dtype."""
    if dtype.category != 1:
        return False
    limits = np.iinfo(dtype.numpy)
    low, high = x.low, x.high
    outside = (np.isfinite(low) & (low < limits.min)) | (np.isfinite(high) & (high > limits.max))
    return bool(np.any(outside))


def _known(x: Bounds, dtype: DType) -> Bounds:
    """Bounds in the form that values have; infinite where a number may be anything."""
    if dtype is dtypes.bool:
        return Bounds(np.asarray(x.low, bool), np.asarray(x.high, bool))
    low, high = np.asarray(x.low, np.float64), np.asarray(x.high, np.float64)
    limit = float(np.finfo(np.float64).max)
    if dtype.category == 1:
        limits = np.iinfo(dtype.numpy)
        limit = min(_EXACT, float(limits.max))
    with np.errstate(invalid="ignore"):
        lost = ~((low >= -limit - (dtype.category == 1)) & (high <= limit))
    if lost.any():
        low, high = np.where(lost, -np.inf, low), np.where(lost, np.inf, high)
    return Bounds(low, high)


def _step(step: Step, args: list[Bounds]) -> Bounds:
    """Bounds of an elementwise step; numbers are rounded outwards."""
    if step.op is CAST:
        return _cast(args[0], step.dtype)
    rule = _RULES.get(step.op.name)
    if rule is None:
        return _anything(step.dtype)
    if step.op.name.startswith("bitwise") and step.dtype is not dtypes.bool:
        return _anything(step.dtype)
    with np.errstate(all="ignore"):
        found = rule(*args)
        if step.dtype.category == 2 and step.op.name in _ROUNDED:
            found = _outwards(found, step.dtype)
    return found


def _outwards(x: Bounds, dtype: DType) -> Bounds:
    """Wider by more than an operation's rounding."""
    room = 4 * float(dtypes.finfo(dtype).eps)
    low, high = np.asarray(x.low, np.float64), np.asarray(x.high, np.float64)
    tiny = float(dtypes.finfo(dtype).tiny)
    return Bounds(low - room * abs(low) - tiny, high + room * abs(high) + tiny)


def _cast(x: Bounds, dtype: DType) -> Bounds:
    """Bounds after a conversion."""
    if dtype is dtypes.bool:
        if np.asarray(x.low).dtype == bool:
            return x
        return Bounds((x.low > 0) | (x.high < 0), (x.low != 0) | (x.high != 0))
    low, high = np.asarray(x.low, np.float64), np.asarray(x.high, np.float64)
    if dtype.category == 1:
        return Bounds(np.trunc(low), np.trunc(high))
    if dtype is dtypes.float64:
        return Bounds(low, high)
    return _outwards(Bounds(low, high), dtype)


def _corners(op: Callable[[Any, Any], Any]) -> Callable[[Bounds, Bounds], Bounds]:
    """A rule for what is monotone in each argument: the extremes stand at the corners."""

    def rule(a: Bounds, b: Bounds) -> Bounds:
        found = [op(x, y) for x in a for y in b]
        low, high = found[0], found[0]
        for x in found[1:]:
            low, high = np.minimum(low, x), np.maximum(high, x)
        return Bounds(low, high)

    return rule


def _quotient(op: Callable[[Any, Any], Any]) -> Callable[[Bounds, Bounds], Bounds]:
    """A division: anything where the divisor may be 0."""
    corners = _corners(op)

    def rule(a: Bounds, b: Bounds) -> Bounds:
        found = corners(a, b)
        split = (b.low <= 0) & (b.high >= 0)
        return Bounds(np.where(split, -np.inf, found.low), np.where(split, np.inf, found.high))

    return rule


def _remainder(a: Bounds, b: Bounds) -> Bounds:
    """With a positive divisor: that of the ends if the quotient is one, else 0 .. divisor - 1."""
    one = (b.low == b.high) & (b.low > 0)
    same = one & (np.floor_divide(a.low, b.low) == np.floor_divide(a.high, b.low))
    low = np.where(same, np.remainder(a.low, b.low), 0.0)
    high = np.where(same, np.remainder(a.high, b.low), b.high)
    whole = np.isfinite(a.low) & np.isfinite(a.high) & (b.low > 0)
    return Bounds(np.where(whole, low, -np.inf), np.where(whole, high, np.inf))


def _chosen(condition: Bounds, a: Bounds, b: Bounds) -> Bounds:
    """select_where: of the side that is taken, or of both."""
    low = np.where(condition.low, a.low, np.where(condition.high, np.minimum(a.low, b.low), b.low))
    high = np.where(
        condition.low, a.high, np.where(condition.high, np.maximum(a.high, b.high), b.high)
    )
    return Bounds(low, high)


def _magnitude(x: Bounds) -> Bounds:
    """abs."""
    crosses = (x.low <= 0) & (x.high >= 0)
    a, b = abs(x.low), abs(x.high)
    return Bounds(np.where(crosses, 0.0, np.minimum(a, b)), np.maximum(a, b))


def _monotone(op: Callable[[Any], Any]) -> Callable[[Bounds], Bounds]:
    """A rule for what never falls."""
    return lambda x: Bounds(op(x.low), op(x.high))


def _less(a: Bounds, b: Bounds) -> Bounds:
    return Bounds(a.high < b.low, a.low < b.high)


def _equal(a: Bounds, b: Bounds) -> Bounds:
    one = (a.low == a.high) & (b.low == b.high) & (a.low == b.low)
    return Bounds(one, (a.low <= b.high) & (b.low <= a.high))


def _not(x: Bounds) -> Bounds:
    x = _truth(x)
    return Bounds(~x.high, ~x.low)


def _and(a: Bounds, b: Bounds) -> Bounds:
    a, b = _truth(a), _truth(b)
    return Bounds(a.low & b.low, a.high & b.high)


def _or(a: Bounds, b: Bounds) -> Bounds:
    a, b = _truth(a), _truth(b)
    return Bounds(a.low | b.low, a.high | b.high)


def _xor(a: Bounds, b: Bounds) -> Bounds:
    a, b = _truth(a), _truth(b)
    known = (a.low == a.high) & (b.low == b.high)
    return Bounds(known & (a.low != b.low), ~known | (a.low != b.low))


def _truth(x: Bounds) -> Bounds:
    return _cast(x, dtypes.bool)


#: how bounds of an elementwise row's result follow from its sources'; without a rule: anything
_RULES: dict[str, Callable[..., Bounds]] = {
    "abs": _magnitude,
    "bitwise_and": _and,
    "bitwise_not": _not,
    "bitwise_or": _or,
    "bitwise_xor": _xor,
    "ceil": _monotone(np.ceil),
    "eq": _equal,
    "floor": _monotone(np.floor),
    "floor_divide": _quotient(np.floor_divide),
    "ge": lambda a, b: _not(_less(a, b)),
    "gt": lambda a, b: _less(b, a),
    "le": lambda a, b: _not(_less(b, a)),
    "logical_and": _and,
    "logical_not": _not,
    "logical_or": _or,
    "logical_xor": _xor,
    "lt": _less,
    "maximum": lambda a, b: Bounds(np.maximum(a.low, b.low), np.maximum(a.high, b.high)),
    "minimum": lambda a, b: Bounds(np.minimum(a.low, b.low), np.minimum(a.high, b.high)),
    "minus": lambda a, b: Bounds(a.low - b.high, a.high - b.low),
    "mul": _corners(np.multiply),
    "ne": lambda a, b: _not(_equal(a, b)),
    "neg": lambda x: Bounds(-x.high, -x.low),
    "plus": lambda a, b: Bounds(a.low + b.low, a.high + b.high),
    "remainder": _remainder,
    "round_even": _monotone(np.rint),
    "select_where": _chosen,
    "sign": _monotone(np.sign),
    "true_div": _quotient(np.true_divide),
    "trunc": _monotone(np.trunc),
    "trunc_divide": _quotient(lambda a, b: np.trunc(np.true_divide(a, b))),
}
_ROUNDED = frozenset(("plus", "minus", "mul", "true_div", "floor_divide", "remainder"))


def _gathered(table: Any, indices: list[Bounds]) -> Bounds:
    """The least and the greatest of a table over ranges of each index; places outside are moved in.

    Each dimension is reduced over the different ranges that there are of its index.
    """
    low = high = table if table.dtype.isbuiltin == 1 else table.astype(np.float32)
    inverse = []
    for axis, index in enumerate(indices):
        last = low.shape[axis] - 1
        first, end = (np.clip(x, 0, last).astype(np.int64) for x in np.broadcast_arrays(*index))
        pairs, where = np.unique(first * (last + 1) + end, return_inverse=True)
        inverse.append(where.reshape(first.shape))
        first, end = np.divmod(pairs, last + 1)
        low = _over_ranges(np.minimum, low, axis, first, end)
        high = _over_ranges(np.maximum, high, axis, first, end)
    places = tuple(inverse)
    return Bounds(low[places], high[places])


def _over_ranges(op: Any, x: Any, axis: int, first: Any, end: Any) -> Any:
    """op.reduce over [first, end] along an axis, for many ranges."""
    if (first == end).all():
        return np.take(x, first, axis)
    padded = np.concatenate([x, np.take(x, [-1], axis)], axis)  # ranges may stop at the end
    edges = np.stack([first, end + 1], -1).reshape(-1)
    found = op.reduceat(padded, edges, axis)
    return np.take(found, np.arange(0, len(edges), 2), axis)
