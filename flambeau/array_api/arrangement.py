"""Where elements stand: shapes, joining, indexing, searching, sorting and sets."""

from __future__ import annotations

import math
from collections import namedtuple
from typing import Any

import numpy as np

import flambeau
from flambeau.array_api.promotion import alike, result_type

# -- shapes ----------------------------------------------------------------------------------------


def broadcast_to(x: Any, /, shape: tuple[int, ...]) -> Any:
    """An array as if it had another shape."""
    return flambeau.broadcast_to(x, shape)


def broadcast_shapes(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that some broadcast to.

    Raises:
        ValueError: they do not.
    """
    try:
        return tuple(flambeau.broadcast_shapes(*shapes))
    except RuntimeError as error:
        raise ValueError(str(error)) from None


def broadcast_arrays(*arrays: Any) -> tuple[Any, ...]:
    """Arrays as if they had one shape."""
    return tuple(flambeau.broadcast_tensors(*arrays)) if arrays else ()


def expand_dims(x: Any, /, axis: Any = 0) -> Any:
    """Axes of size 1 added where they shall be in the result.

    Raises:
        IndexError: an axis outside of the result, or twice.
    """
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    rank = x.ndim + len(axes)
    if any(not -rank <= a < rank for a in axes) or len({a % rank for a in axes}) < len(axes):
        raise IndexError(f"axis {axis} is outside of an array of {rank} dimensions, or repeated")
    for a in sorted(a % rank for a in axes):
        x = flambeau.unsqueeze(x, a)
    return x


def squeeze(x: Any, /, axis: Any) -> Any:
    """Axes of size 1 removed.

    Raises:
        ValueError: one of another size.
    """
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    if any(x.shape[a] != 1 for a in axes):
        raise ValueError(f"only axes of size 1 can be squeezed, but {axis} of {tuple(x.shape)} is")
    return flambeau.squeeze(x, axes) if axes else x


def permute_dims(x: Any, /, axes: tuple[int, ...]) -> Any:
    """Axes in another order."""
    return flambeau.permute(x, axes)


def moveaxis(x: Any, source: Any, destination: Any, /) -> Any:
    """Axes moved to new positions."""
    return flambeau.moveaxis(x, source, destination)


def matrix_transpose(x: Any, /) -> Any:
    """The last two axes exchanged.

    Raises:
        ValueError: fewer than two.
    """
    if x.ndim < 2:
        raise ValueError("x must be at least 2-dimensional")
    return x.mT


def reshape(x: Any, /, shape: tuple[int, ...], *, copy: bool | None = None) -> Any:
    """The same elements in another shape.

    Args:
        copy: True always copies, False never, None where it must.

    Raises:
        ValueError: it would have to be copied, and must not be.
    """
    if copy is False:
        try:
            return x.view(shape)
        except RuntimeError as error:
            raise ValueError(str(error)) from None
    return flambeau.reshape(x.clone() if copy else x, shape)


def flip(x: Any, /, *, axis: Any = None) -> Any:
    """Elements in reverse along axes; all of them by default."""
    axes = tuple(range(x.ndim)) if axis is None else (axis,) if isinstance(axis, int) else axis
    return flambeau.flip(x, tuple(axes))


def roll(x: Any, /, shift: Any, *, axis: Any = None) -> Any:
    """Elements shifted along axes, or of the flat array; what leaves on one side enters on the
    other."""
    if axis is not None and isinstance(axis, tuple) and isinstance(shift, int):
        shift = (shift,) * len(axis)
    return flambeau.roll(x, shift, axis)


def repeat(x: Any, repeats: Any, /, *, axis: int | None = None) -> Any:
    """Each element a number of times along an axis, or of the flat array."""
    if isinstance(repeats, flambeau.Tensor):
        repeats = repeats.to(flambeau.int64)
    return flambeau.repeat_interleave(x, repeats, axis)


def tile(x: Any, repetitions: tuple[int, ...], /) -> Any:
    """The whole array a number of times along each axis."""
    return flambeau.tile(x, repetitions)


# -- joining ---------------------------------------------------------------------------------------


def concat(arrays: Any, /, *, axis: int | None = 0) -> Any:
    """Arrays joined along an axis; flat ones where it is None."""
    given = alike(*arrays)
    if axis is None:
        return flambeau.cat([x.reshape(-1) for x in given])
    return flambeau.cat(given, axis)


def stack(arrays: Any, /, *, axis: int = 0) -> Any:
    """Arrays joined along a new axis."""
    return flambeau.stack(alike(*arrays), axis)


def unstack(x: Any, /, *, axis: int = 0) -> tuple[Any, ...]:
    """The parts of an array along an axis."""
    return tuple(flambeau.unbind(x, axis))


# -- indexing --------------------------------------------------------------------------------------


def _from_front(indices: Any, size: int) -> Any:
    return flambeau.where(indices < 0, indices + size, indices).to(flambeau.int64)


def take(x: Any, indices: Any, /, *, axis: int | None = None) -> Any:
    """Parts of an array along an axis, by their places.

    Raises:
        ValueError: no axis, of several.
    """
    if axis is None and x.ndim != 1:
        raise ValueError("axis must be given where there are several")
    axis = 0 if axis is None else axis
    return flambeau.index_select(x, axis, _from_front(indices, x.shape[axis]))


def take_along_axis(x: Any, indices: Any, /, *, axis: int = -1) -> Any:
    """Elements along an axis, by a place for each."""
    return flambeau.take_along_dim(x, _from_front(indices, x.shape[axis]), axis)


# -- searching -------------------------------------------------------------------------------------


def nonzero(x: Any, /) -> tuple[Any, ...]:
    """Places of the elements that are not 0, an array an axis.

    Raises:
        ValueError: an array without axes.
    """
    if x.ndim == 0:
        raise ValueError("nonzero is not defined of arrays without axes")
    return tuple(flambeau.nonzero(x, as_tuple=True))


def searchsorted(x1: Any, x2: Any, /, *, side: str = "left", sorter: Any = None) -> Any:
    """Where values belong in a sorted array.

    Args:
        x1: one axis, ascending, or in the order of `sorter`.
        x2: the values.
        side: "left" or "right" of what is equal.
        sorter: the places of x1 in ascending order.
    """
    if not isinstance(x2, flambeau.Tensor):
        x2 = flambeau.tensor(x2, device=x1.device)
    x1, x2 = alike(x1, x2)
    return flambeau.searchsorted(x1 if sorter is None else x1[sorter], x2, right=side == "right")


def isin(x1: Any, x2: Any, /, *, invert: bool = False) -> Any:
    """Whether each element of x1 is among those of x2."""
    arrays = [x if isinstance(x, flambeau.Tensor) else flambeau.tensor(x) for x in (x1, x2)]
    dtype = result_type(*arrays)
    return flambeau.isin(arrays[0].to(dtype), arrays[1].to(dtype), invert=invert)


# -- sorting ---------------------------------------------------------------------------------------


def sort(x: Any, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Any:
    """The elements in order along an axis."""
    return flambeau.sort(x, dim=axis, descending=descending, stable=stable)[0]


def argsort(x: Any, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Any:
    """The places of the elements in order along an axis."""
    return flambeau.sort(x, dim=axis, descending=descending, stable=stable)[1]


# -- sets ------------------------------------------------------------------------------------------

UniqueAllResult = namedtuple("UniqueAllResult", "values indices inverse_indices counts")
UniqueCountsResult = namedtuple("UniqueCountsResult", "values counts")
UniqueInverseResult = namedtuple("UniqueInverseResult", "values inverse_indices")


def unique_all(x: Any, /) -> Any:
    """The elements that differ, each NaN by itself, and about them: `values`, `indices` of their
    first, `inverse_indices` of x among them, `counts`."""
    found = np.unique(
        x.numpy(force=True).reshape(-1), return_index=True, return_inverse=True,
        return_counts=True, equal_nan=False,
    )  # fmt: skip
    values, indices, inverse, counts = (flambeau.tensor(part, device=x.device) for part in found)
    return UniqueAllResult(values, indices, inverse.reshape(tuple(x.shape)), counts)


def unique_counts(x: Any, /) -> Any:
    """The elements that differ, and how often each is there."""
    found = unique_all(x)
    return UniqueCountsResult(found.values, found.counts)


def unique_inverse(x: Any, /) -> Any:
    """The elements that differ, and which of them each is."""
    found = unique_all(x)
    return UniqueInverseResult(found.values, found.inverse_indices)


def unique_values(x: Any, /) -> Any:
    """The elements that differ."""
    return unique_all(x).values


def size(x: Any) -> int:
    """How many elements an array has; `x.size` is a method of tensors."""
    return math.prod(x.shape)


__all__ = [
    *("argsort", "broadcast_arrays", "broadcast_shapes", "broadcast_to", "concat", "expand_dims"),
    *("flip", "isin", "matrix_transpose", "moveaxis", "nonzero", "permute_dims", "repeat"),
    *("reshape", "roll", "searchsorted", "sort", "squeeze", "stack", "take", "take_along_axis"),
    *("tile", "unique_all", "unique_counts", "unique_inverse", "unique_values", "unstack"),
]
