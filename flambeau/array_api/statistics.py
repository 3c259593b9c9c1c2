"""Values over axes: sums, extremes, moments, and running sums. `axis` is an axis, several, or all
of them (None)."""

from __future__ import annotations

import builtins
from typing import Any

import flambeau
from flambeau.array_api.promotion import isdtype, promoted


def _axes(x: Any, axis: Any) -> tuple[int, ...]:
    if axis is None:
        return tuple(range(x.ndim))
    given = (axis,) if isinstance(axis, int) else tuple(axis)
    if builtins.any(not -x.ndim <= a < x.ndim for a in given):
        raise IndexError(f"axis {axis} is outside of an array of {x.ndim} dimensions")
    return tuple(a % x.ndim for a in given)


def _merged(x: Any, axis: Any) -> Any:
    """The array with the axes to reduce as one, the last."""
    axes = _axes(x, axis)
    rest = [a for a in range(x.ndim) if a not in axes]
    moved = flambeau.permute(x, (*rest, *axes))
    count = 1
    for a in axes:
        count *= x.shape[a]
    return moved.reshape(*(x.shape[a] for a in rest), count)


def _kept(found: Any, x: Any, axis: Any) -> Any:
    """A result with the reduced axes as axes of size 1."""
    axes = _axes(x, axis)
    return found.reshape([1 if a in axes else n for a, n in enumerate(x.shape)])


def _reduced(row: Any, x: Any, axis: Any, keepdims: bool, *args: Any, **options: Any) -> Any:
    found = row(_merged(x, axis), *args, -1, **options)
    return _kept(found, x, axis) if keepdims else found


def _wide(x: Any, dtype: Any) -> Any:
    """What sums are taken in: integers in at least 64 bits."""
    if dtype is not None:
        return x.to(dtype)
    if isdtype(x.dtype, "unsigned integer"):
        return x.to(flambeau.uint64)
    return x.to(promoted(x.dtype, flambeau.int64)) if isdtype(x.dtype, "signed integer") else x


def sum(x: Any, /, *, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Any:
    """Sums."""
    x = _wide(x, dtype)
    return _reduced(flambeau.sum, x, axis, keepdims, dtype=x.dtype)


def prod(x: Any, /, *, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Any:
    """Products."""
    x = _wide(x, dtype)
    return _reduced(flambeau.prod, x, axis, keepdims, dtype=x.dtype)


def max(x: Any, /, *, axis: Any = None, keepdims: bool = False) -> Any:
    """Largest values."""
    return _reduced(flambeau.amax, x, axis, keepdims)


def min(x: Any, /, *, axis: Any = None, keepdims: bool = False) -> Any:
    """Smallest values."""
    return _reduced(flambeau.amin, x, axis, keepdims)


def mean(x: Any, /, *, axis: Any = None, keepdims: bool = False) -> Any:
    """Means."""
    return _reduced(flambeau.mean, x, axis, keepdims)


def var(x: Any, /, *, axis: Any = None, correction: float = 0.0, keepdims: bool = False) -> Any:
    """Variances: squares of deviations over their number less `correction`."""
    return _reduced(flambeau.var, x, axis, keepdims, correction=correction)


def std(x: Any, /, *, axis: Any = None, correction: float = 0.0, keepdims: bool = False) -> Any:
    """Standard deviations, as `var`."""
    return _reduced(flambeau.std, x, axis, keepdims, correction=correction)


def all(x: Any, /, *, axis: Any = None, keepdims: bool = False) -> Any:
    """Whether all elements are not 0."""
    return _reduced(flambeau.all, x.to(flambeau.bool), axis, keepdims)


def any(x: Any, /, *, axis: Any = None, keepdims: bool = False) -> Any:
    """Whether an element is not 0."""
    return _reduced(flambeau.any, x.to(flambeau.bool), axis, keepdims)


def count_nonzero(x: Any, /, *, axis: Any = None, keepdims: bool = False) -> Any:
    """How many elements are not 0."""
    return sum(x != 0, axis=axis, dtype=flambeau.int64, keepdims=keepdims)


def argmax(x: Any, /, *, axis: int | None = None, keepdims: bool = False) -> Any:
    """Places of the largest values along an axis, or in the flat array."""
    return _reduced(flambeau.argmax, x, axis, keepdims)


def argmin(x: Any, /, *, axis: int | None = None, keepdims: bool = False) -> Any:
    """Places of the smallest values along an axis, or in the flat array."""
    return _reduced(flambeau.argmin, x, axis, keepdims)


def _running(row: Any, start: int, x: Any, axis: int | None, dtype: Any, initial: bool) -> Any:
    if axis is None:
        if x.ndim != 1:
            raise ValueError("axis must be given where there are several")
        axis = 0
    x = _wide(x, dtype)
    found = row(x, axis, dtype=x.dtype)
    if not initial:
        return found
    shape = list(x.shape)
    shape[axis] = 1
    first = flambeau.full(shape, start, dtype=x.dtype, device=x.device)
    return flambeau.cat([first, found], axis)


def cumulative_sum(
    x: Any, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False
) -> Any:
    """Sums of the elements so far along an axis, with the 0 before them if asked for.

    Raises:
        ValueError: no axis, of several.
    """
    return _running(flambeau.cumsum, 0, x, axis, dtype, include_initial)


def cumulative_prod(
    x: Any, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False
) -> Any:
    """Products of the elements so far along an axis, with the 1 before them if asked for.

    Raises:
        ValueError: no axis, of several.
    """
    return _running(flambeau.cumprod, 1, x, axis, dtype, include_initial)


def diff(x: Any, /, *, axis: int = -1, n: int = 1, prepend: Any = None, append: Any = None) -> Any:
    """Differences of neighbours along an axis, n times over.

    Args:
        prepend: stands before the array first.
        append: stands behind it.
    """
    parts = [part for part in (prepend, x, append) if part is not None]
    return flambeau.diff(flambeau.cat(parts, axis) if len(parts) > 1 else x, n, axis)


__all__ = [
    *("all", "any", "argmax", "argmin", "count_nonzero", "cumulative_prod", "cumulative_sum"),
    *("diff", "max", "mean", "min", "prod", "std", "sum", "var"),
]
