"""Sizes: torch.Size, row-major strides, broadcasting of shapes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any


class Size(tuple):
    """A tensor's shape: a tuple of ints that slices and adds to Size."""

    __slots__ = ()

    def numel(self) -> int:
        """Number of elements: the product of the sizes."""
        return math.prod(self)

    def __repr__(self) -> str:
        return f"torch.Size({list(self)})"

    def __getitem__(self, index: Any) -> Any:
        found = tuple.__getitem__(self, index)
        return Size(found) if isinstance(index, slice) else found

    def __add__(self, other: Any) -> Size:
        return Size(tuple.__add__(self, tuple(other)))

    def __radd__(self, other: Any) -> Size:
        return Size(tuple(other) + tuple(self))

    def __mul__(self, times: Any) -> Size:
        return Size(tuple.__mul__(self, times))

    __rmul__ = __mul__

    def __reduce__(self) -> Any:
        return (Size, (tuple(self),))


@lru_cache(maxsize=8192)
def contiguous_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Row-major strides in elements; a dimension of size 0 counts as 1, as in torch."""
    strides = []
    step = 1
    for n in reversed(shape):
        strides.append(step)
        step *= n if type(n) is not int or n > 0 else 1  # a symbolic one is not asked
    return tuple(reversed(strides))


@lru_cache(maxsize=8192)
def is_contiguous(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Whether the strides walk memory in row-major order (strides of size-1 dims do not count)."""
    if 0 in shape:
        return True
    step = 1
    for n, s in zip(reversed(shape), reversed(strides), strict=True):
        if n != 1:
            if s != step:
                return False
            step *= n
    return True


@lru_cache(maxsize=8192)
def broadcast_shapes(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that all shapes expand to.

    Raises:
        RuntimeError: sizes that differ and are not 1.
    """
    ndim = max(map(len, shapes), default=0)
    result = [1] * ndim
    for shape in shapes:
        for i, n in enumerate(shape, ndim - len(shape)):
            had = result[i]
            if type(had) is int and had == 1:  # whatever a symbolic n is
                result[i] = n
            elif had != n and n != 1:
                if had != 1:
                    raise RuntimeError(
                        f"The size of tensor a ({had}) must match the size of tensor b ({n}) "
                        f"at non-singleton dimension {i}"
                    )
                result[i] = n
    return tuple(result)


def wrap_dim(dim: int, ndim: int) -> int:
    """A dimension counted from the front; a 0-d tensor takes 0 and -1.

    Raises:
        IndexError: the dimension does not exist.
    """
    span = ndim or 1
    if not -span <= dim < span:
        raise IndexError(
            f"Dimension out of range (expected to be in range of [{-span}, "
            f"{span - 1}], but got {dim})"
        )
    return dim + span if dim < 0 else dim


def wrap_dims(dims: Any, ndim: int) -> tuple[int, ...]:
    """Dimensions counted from the front; None means all.

    Raises:
        RuntimeError: a dimension appears twice.
    """
    if dims is None:
        return tuple(range(ndim))
    if isinstance(dims, int):
        dims = (dims,)
    found = tuple(wrap_dim(d, ndim) for d in dims)
    if len(set(found)) != len(found):
        twice = next(d for d in found if found.count(d) > 1)
        raise RuntimeError(f"dim {twice} appears multiple times in the list of dims")
    return found if ndim else ()


def shape_of(sizes: Sequence[Any] | Iterable[Any]) -> tuple[int, ...]:
    """Sizes given as `f(2, 3)` or `f((2, 3))`, as a tuple of ints."""
    found = tuple(sizes)
    if len(found) == 1 and not isinstance(found[0], int) and hasattr(found[0], "__iter__"):
        found = tuple(found[0])
    try:
        for n in found:
            if type(n) is not int:
                return tuple([n if type(n) is int else n.__index__() for n in found])
        return found
    except AttributeError:
        wrong = next(n for n in found if not hasattr(n, "__index__"))
        raise TypeError(
            f"argument 'size' must be tuple of ints, not {type(wrong).__name__}"
        ) from None


def no_negative(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The sizes of a new tensor, none of which is negative.

    Raises:
        RuntimeError: one is.
    """
    if any(n < 0 for n in shape):
        raise RuntimeError(
            f"Trying to create tensor with negative dimension {min(shape)}: {list(shape)}"
        )
    return shape


@lru_cache(maxsize=8192)
def view_strides(
    shape: tuple[int, ...], strides: tuple[int, ...], new: tuple[int, ...]
) -> tuple[int, ...] | None:
    """Strides that show the same elements as `new` without a copy, or None where there are none.

    Dimensions are grouped into runs that are contiguous among themselves; `new` must cut every
    run into whole dimensions.
    """
    if math.prod(shape) == 0:
        return contiguous_strides(new)
    runs: list[list[int]] = []  # [elements, stride of the last]
    for n, s in zip(shape, strides, strict=True):
        if n == 1:
            continue
        if runs and runs[-1][1] == n * s:
            runs[-1][0] *= n
            runs[-1][1] = s
        else:
            runs.append([n, s])
    result = [0] * len(new)
    at = len(new) - 1
    for count, stride in reversed(runs):
        step = 1  # divides count
        while step != count:
            if at < 0:
                return None
            n = new[at]
            if count % (step * n):
                return None
            result[at] = stride * step
            step *= n
            at -= 1
    while at >= 0:
        if new[at] != 1:
            return None
        result[at] = result[at + 1] * new[at + 1] if at + 1 < len(new) else 1
        at -= 1
    for i in range(len(new) - 2, -1, -1):
        if new[i] == 1:
            result[i] = result[i + 1] * new[i + 1]
    return tuple(result)
