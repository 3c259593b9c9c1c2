"""Order and membership: sorting, selection by rank, unique values, positions, sorted look-ups.

Results whose shape depends on the values execute what is pending.
"""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from flambeau import dtypes, return_types
from flambeau.ir.fault import Fault
from flambeau.ops.creation import _copy_array
from flambeau.ops.elementwise import select_where
from flambeau.ops.indexing import gather, index_leading
from flambeau.ops.movement import expand_to, slice_dim
from flambeau.ops.rows import NAMES
from flambeau.ops.scan import cummax, cumsum, widened
from flambeau.ops.table import composite, emit, emit_many, primitive
from flambeau.size import broadcast_shapes, wrap_dim
from flambeau.tensor import Tensor

_TOO_FEW = Fault("Number of elements of source < number of ones in mask", RuntimeError)


# -- primitives ------------------------------------------------------------------------------------


def _resized(shape: tuple[int, ...], dim: int, size: int) -> tuple[int, ...]:
    return (*shape[:dim], size, *shape[dim + 1 :])


def _ranked_vjp(g: Any, out: Any, x: Any, dim: int, *rest: Any) -> tuple[Any, ...]:
    """The cotangents of the values, where they came from."""
    if g[0] is None:
        return (None, None, *(None for _ in rest))
    zeros = NAMES["zeros"](x.shape, dtype=g[0].dtype, device=g[0].device)
    return (NAMES["scatter"](zeros, dim, out[1], g[0]), None, *(None for _ in rest))


@primitive("host")
def ranked(
    row: Any, input: Tensor, dim: int, first: int, count: int, descending: bool
) -> tuple[Tensor, ...]:
    """(values, indices) of `count` ranks of one dimension, from the one that `first` stand before.

    Equal elements stay in order and NaN is the largest.
    """
    shape = _resized(input._shape, dim, count)
    specs = [(shape, input.dtype), (shape, dtypes.int64)]
    return emit_many(row, (input,), (dim, first, count, descending), specs)


def _order(x: Any, dim: int, descending: bool) -> Any:
    if not descending:
        return np.argsort(x, axis=dim, kind="stable")
    back = np.argsort(np.flip(x, dim), axis=dim, kind="stable")
    return x.shape[dim] - 1 - np.flip(back, dim)


def _ranked(x: Any, dim: int, first: int, count: int, descending: bool, specs: Any = None) -> Any:
    order = _order(widened(x), dim, descending)
    places = np.take(order, np.arange(first, first + count), axis=dim)
    return np.take_along_axis(x, places, dim), places


ranked.batch((0,))
ranked.reference(_ranked)
ranked.vjp(_ranked_vjp, saves="out1")


@primitive("host")
def middle_along(row: Any, input: Tensor, dim: int, ignore_nan: bool) -> tuple[Tensor, ...]:
    """(value, index) of the lower median of one dimension, kept; of the first NaN, if any."""
    shape = _resized(input._shape, dim, 1)
    return emit_many(
        row, (input,), (dim, ignore_nan), [(shape, input.dtype), (shape, dtypes.int64)]
    )


def _middle(x: Any, dim: int, ignore_nan: bool, specs: Any) -> Any:
    order, nan = _order(widened(x), dim, False), np.not_equal(x, x)
    count = np.sum(~nan, axis=dim, keepdims=True)
    if ignore_nan:
        rank = np.maximum(count - 1, 0) // 2
    else:  # sorted, NaN stand behind the numbers
        rank = np.where(count < x.shape[dim], count, (x.shape[dim] - 1) // 2)
    places = np.take_along_axis(order, rank, dim)
    return np.take_along_axis(x, places, dim), places


middle_along.batch((0,))
middle_along.reference(_middle)
middle_along.vjp(_ranked_vjp, saves="out1")


def some_largest(x: Any, count: int) -> Any:
    """Indices of the `count` largest elements of an array's last dimension, in order."""
    return _ranked(x, x.ndim - 1, 0, count, True)[1]


@primitive("host", differentiable=False)
def membership(row: Any, elements: Tensor, tests: Tensor, invert: bool) -> Tensor:
    """Whether each element is (not) among the tests."""
    return emit(row, (elements, tests), (invert,), elements._shape, dtypes.bool)


membership.reference(
    lambda x, tests, invert: np.asarray(np.isin(widened(x), widened(tests), invert=invert))
)


# -- sorting ---------------------------------------------------------------------------------------


@composite(out="exact")
def sort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = False) -> Any:
    """(values, indices) in order along a dimension; always stable, NaN as the largest."""
    if input.dtype.is_complex:
        raise RuntimeError("Sort does not support complex dtypes on CPU")
    d = wrap_dim(dim, input.ndim)
    if input.ndim == 0:
        return return_types.sort(NAMES["clone"](input), _zero(input))
    return return_types.sort(*ranked(input, d, 0, input._shape[d], bool(descending)))


def _zero(input: Tensor) -> Tensor:
    return NAMES["zeros"]((), dtype=dtypes.int64, device=input.device)


@composite()
def argsort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = False) -> Tensor:
    """Indices that sort a dimension."""
    return sort(input, dim, descending)[1]


@composite(out="exact")
def msort(input: Tensor) -> Tensor:
    """The values sorted along the first dimension."""
    return sort(input, 0)[0]


@composite(out="exact")
def topk(input: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
    """(values, indices) of the k largest (or smallest) elements of a dimension, in order.

    Raises:
        RuntimeError: k is negative or above the dimension's size.
    """
    d = wrap_dim(dim, input.ndim)
    k = k if isinstance(k, int) else operator.index(k)  # a symbolic size stays one
    if not 0 <= k <= (input._shape[d] if input.ndim else 1):
        raise RuntimeError("selected index k out of range")
    if input.ndim == 0:
        return return_types.topk(NAMES["clone"](input), _zero(input))
    return return_types.topk(*ranked(input, d, 0, k, bool(largest)))


def _chosen(kind: Any, found: Any, d: int, keepdim: bool) -> Any:
    """A (values, indices) result with one element of a dimension."""
    return kind(*found) if keepdim else kind(*(t.squeeze(d) for t in found))


@composite(out="exact apart")
def kthvalue(input: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> Any:
    """(values, indices) of the k-th smallest element of a dimension, k from 1."""
    d = wrap_dim(dim, input.ndim)
    if not 1 <= k <= (input._shape[d] if input.ndim else 1):
        raise RuntimeError(f"kthvalue(): selected number k out of range for dimension {d}")
    if input.ndim == 0:
        return return_types.kthvalue(NAMES["clone"](input), _zero(input))
    return _chosen(return_types.kthvalue, ranked(input, d, k - 1, 1, False), d, keepdim)


def _median(input: Tensor, dim: int | None, keepdim: bool, ignore_nan: bool) -> Any:
    if dim is None:
        flat = input.reshape(-1)
        if not flat._shape[0]:
            none = float("nan") if input.dtype.category == 2 else dtypes.iinfo(input.dtype).min
            return NAMES["full"]((), none, dtype=input.dtype, device=input.device)
        return middle_along(flat, 0, ignore_nan)[0].reshape(())
    kind = return_types.nanmedian if ignore_nan else return_types.median
    d = wrap_dim(dim, input.ndim)
    if input.ndim == 0:
        return kind(NAMES["clone"](input), _zero(input))
    if not input._shape[d]:
        raise IndexError(f"median(): Expected reduction dim {d} to have non-zero size.")
    return _chosen(kind, middle_along(input, d, ignore_nan), d, keepdim)


@composite(out=True)
def median(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """The lower median of all elements, or (values, indices) along a dimension; NaN if any is."""
    return _median(input, dim, keepdim, False)


@composite(out=True)
def nanmedian(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """`median` of the elements that are not NaN."""
    return _median(input, dim, keepdim, True)


@composite(out=True)
def mode(input: Tensor, dim: int = -1, keepdim: bool = False) -> Any:
    """(values, indices) of the most frequent element of a dimension, the smallest on ties."""
    d = wrap_dim(dim, input.ndim)
    if input.ndim == 0:
        return return_types.mode(NAMES["clone"](input), _zero(input))
    if not input._shape[d]:
        raise IndexError(f"mode(): Expected reduction dim {d} to have non-zero size.")
    n = input._shape[d]
    values, places = ranked(input, d, 0, n, False)
    # of each element of the sorted dimension: how many like it stand up to it
    at = NAMES["arange"](n, device=input.device).reshape(n, *(1,) * (input.ndim - d - 1))
    above, below = slice_dim(values, d, 1, n, 1), slice_dim(values, d, 0, n - 1, 1)
    start = select_where(above != below, slice_dim(at, 0, 1, n, 1), 0)
    starts = NAMES["cat"]([NAMES["zeros_like"](slice_dim(places, d, 0, 1, 1)), start], d)
    last = NAMES["argmax"](at - cummax(starts, d).values, d, True)
    return _chosen(
        return_types.mode, (gather(values, d, last), gather(places, d, last)), d, keepdim
    )


# -- unique values ---------------------------------------------------------------------------------


def _given(array: Any, dtype: Any, like: Tensor) -> Tensor:
    return _copy_array(np.asarray(array, dtype.numpy, order="C"), dtype, like.device)


def _unique_results(
    input: Tensor,
    values: Any,
    inverse: Any,
    counts: Any,
    shape: tuple[int, ...],
    wanted: tuple[bool, bool],
) -> Any:
    found = [_given(values, input.dtype, input)]
    if wanted[0]:
        found.append(_given(inverse.reshape(shape), dtypes.int64, input))
    if wanted[1]:
        found.append(_given(counts, dtypes.int64, input))
    return found[0] if len(found) == 1 else tuple(found)


@composite()
def unique(
    input: Tensor,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> Any:
    """The distinct elements (or entries of a dimension), sorted; optionally inverse and counts."""
    wanted = (return_inverse, return_counts)
    inverse: Any
    counts: Any
    if dim is not None:
        if input.ndim == 0:
            raise IndexError(f"Dimension specified as {dim} but tensor has no dimensions")
        d = wrap_dim(dim, input.ndim)
        values, inverse, counts = np.unique(
            widened(input.detach()._array()),
            return_inverse=True,
            return_counts=True,
            axis=d,
            equal_nan=False,
        )
        return _unique_results(input, values, inverse, counts, (input._shape[d],), wanted)
    n = input.numel()
    found, order = ranked(input.detach().reshape(-1), 0, 0, n, False)
    ordered = found._array()
    first = np.ones(n, bool)
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    starts = np.flatnonzero(first)
    counts = np.diff(np.append(starts, n)) if return_counts else None
    inverse = None
    if return_inverse:
        inverse = np.empty(n, np.int64)
        inverse[order._array()] = np.cumsum(first) - 1
    return _unique_results(input, ordered[starts], inverse, counts, input._shape, wanted)


@composite()
def unique_consecutive(
    input: Tensor, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
) -> Any:
    """The elements (or entries of a dimension) without repetitions of the one before."""
    array = widened(input.detach()._array())
    d = 0 if dim is None else wrap_dim(dim, input.ndim)
    lines = array.reshape(-1) if dim is None else np.moveaxis(array, d, 0)
    n = lines.shape[0]
    flat = lines.reshape(n, -1) if lines.size else np.zeros((n, 0))
    first = np.concatenate([np.ones(min(n, 1), bool), (flat[1:] != flat[:-1]).any(1)])
    starts = np.flatnonzero(first)
    counts = np.diff(np.append(starts, n))
    values = lines[starts] if dim is None else np.moveaxis(lines[starts], 0, d)
    shape = input._shape if dim is None else (n,)
    return _unique_results(
        input, values, np.cumsum(first) - 1, counts, shape, (return_inverse, return_counts)
    )


# -- positions -------------------------------------------------------------------------------------


_BLOCK = 1 << 14  # places taken apart at a time, in cache


def _places(input: Tensor, apart: bool = False) -> Any:
    """(n, ndim) indices of the nonzero elements: places in memory order, taken apart; with `apart`
    each column is contiguous."""
    array = input.detach()._array()
    places = np.flatnonzero(array)
    n, ndim = places.size, array.ndim
    if ndim == 1:
        return places.reshape(n, 1)
    found = np.empty((ndim, n), np.int64).T if apart else np.empty((n, ndim), np.int64)
    for start in range(0, n, _BLOCK):
        block = places[start : start + _BLOCK]
        rows = found[start : start + _BLOCK]
        for d in range(ndim - 1, 0, -1):
            above = block // array.shape[d]
            np.subtract(block, above * array.shape[d], out=rows[:, d])
            block = above
        rows[:, :1] = block.reshape(-1, 1)
    return found


@composite(out="exact")
def nonzero(input: Tensor, *, as_tuple: bool = False) -> Any:
    """(n, ndim) indices of the nonzero elements, row-major; as a tuple of columns on request."""
    if as_tuple:
        places = _places(input.reshape(1) if input.ndim == 0 else input, apart=True)
        return tuple(_given(column, dtypes.int64, input) for column in places.T)
    return _given(_places(input), dtypes.int64, input)


@composite()
def argwhere(input: Tensor) -> Tensor:
    """(n, ndim) indices of the nonzero elements, row-major."""
    return nonzero(input)


@composite(out="exact apart")
def masked_select(input: Tensor, mask: Tensor) -> Tensor:
    """The elements where the mask holds, as a vector; both broadcast."""
    if mask.dtype is not dtypes.bool:
        raise RuntimeError("masked_select: expected BoolTensor for mask")
    shape = broadcast_shapes(input._shape, mask._shape)
    flat = expand_to(input, shape).reshape(-1)
    places = nonzero(expand_to(mask, shape).reshape(-1)).reshape(-1)
    return index_leading(flat, places)


@composite(inplace=True)
def masked_scatter(input: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """input with the elements of source, in order, where the mask holds.

    Raises:
        RuntimeError: another dtype, or a mask that is not bool.
        RuntimeError: source has too few elements; raised when the result is computed.
    """
    if mask.dtype is not dtypes.bool:
        raise RuntimeError(
            f"masked_scatter_ only supports boolean masks, but got mask with dtype {mask.dtype}"
        )
    if source.dtype is not input.dtype:
        raise RuntimeError(
            "masked_scatter: expected self and source to have same dtypes but got "
            f"{input.dtype} and {source.dtype}"
        )
    shape = broadcast_shapes(input._shape, mask._shape)
    base, where = expand_to(input, shape), expand_to(mask, shape)
    nothing = NAMES["zeros"]((1,), dtype=source.dtype, device=source.device)
    given = NAMES["cat"]([nothing, source.reshape(-1)])  # at 0 what the mask leaves out looks
    rank = select_where(where.reshape(-1), cumsum(where.reshape(-1), 0), 0)
    moved = index_leading(given, rank, fault=_TOO_FEW).reshape(shape)
    return select_where(where, moved, base)


# -- sorted look-ups and membership ----------------------------------------------------------------


@composite(method=False, public=False, keep=True)
def sorted_place(sequence: Tensor, values: Tensor, right: bool) -> Tensor:
    """Where values belong in ascending sequences (their last dimension), int64.

    A binary search whose steps are the same for all values, so that they are vectors.
    """
    n, rows = sequence._shape[-1], []
    if sequence.ndim > 1:
        lines = math.prod(sequence._shape[:-1])
        wanted = values.reshape(lines, values._shape[-1])
        sequence = sequence.reshape(lines, n)
        rows = [NAMES["arange"](lines).unsqueeze(1).expand(*wanted._shape)]
    else:
        wanted = values
    place = NAMES["zeros"](wanted._shape, dtype=dtypes.int64)
    left = n
    while left:  # the place is one of `left` + 1 from `place` on
        half = max(left // 2, 1)
        here = index_leading(sequence, *rows, place + (half - 1))
        stays = here > wanted if right else here >= wanted
        place = select_where(stays, place, place + half)
        left -= half
    return place.reshape(values._shape)


@composite(method=False, out=True)
def searchsorted(
    sorted_sequence: Tensor,
    input: Any,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Tensor | None = None,
) -> Tensor:
    """Where values belong in an ascending sequence (or one per leading index).

    Args:
        right: after equal elements instead of before; `side="right"` says the same.
        sorter: indices that sort `sorted_sequence`.
    """
    if side not in (None, "left", "right"):
        raise RuntimeError(
            f"torch.searchsorted(): side can only be 'left' or 'right' but got {side}"
        )
    if side == "left" and right:
        raise RuntimeError(
            "torch.searchsorted(): side and right can't be set to opposites, got "
            "side of left while right was True"
        )
    values = input if isinstance(input, Tensor) else NAMES["tensor"](input)
    sequence = sorted_sequence
    if sequence.ndim != 1 and sequence._shape[:-1] != values._shape[:-1]:
        raise RuntimeError(
            "torch.searchsorted(): boundaries tensor should be 1 dimension or the "
            "first N-1 dimensions of boundaries tensor and input value tensor must "
            f"match, but we got boundaries tensor {list(sequence.shape)} and input "
            f"value tensor {list(values.shape)}"
        )
    if sorter is not None:
        sequence = gather(sequence, -1, sorter)
    common = dtypes.promote_types(sequence.dtype, values.dtype)
    found = sorted_place(
        sequence.detach().to(common), values.detach().to(common), right or side == "right"
    )
    return found.to(dtypes.int32) if out_int32 else found


@composite(out=True)
def bucketize(
    input: Any, boundaries: Tensor, *, out_int32: bool = False, right: bool = False
) -> Tensor:
    """The bucket of each value between ascending boundaries."""
    if boundaries.ndim != 1:
        raise RuntimeError(f"boundaries tensor must be 1 dimension, but got dim({boundaries.ndim})")
    return searchsorted(boundaries, input, out_int32=out_int32, right=right)


@composite(method=False, out="exact")
def isin(
    elements: Any, test_elements: Any, *, assume_unique: bool = False, invert: bool = False
) -> Tensor:
    """Whether each element is among the test elements (with `invert`, is not)."""
    given = [x if isinstance(x, Tensor) else NAMES["tensor"](x) for x in (elements, test_elements)]
    return membership(*given, invert)
