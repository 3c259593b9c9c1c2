"""Order and membership: sorting, selection by rank, unique values, positions, sorted look-ups.

Ranks are found by NumPy; values are gathered by them, so that gradients follow. Results whose
shape depends on the values execute what is pending.
"""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np

from flambeau import dtypes
from flambeau.ir.fault import Fault
from flambeau.ops.creation import _copy_array
from flambeau.ops.elementwise import select_where
from flambeau.ops.indexing import gather, index_leading
from flambeau.ops.movement import expand_to
from flambeau.ops.rows import NAMES
from flambeau.ops.scan import cumsum, widened
from flambeau.ops.table import composite, emit, primitive
from flambeau.size import broadcast_shapes, wrap_dim
from flambeau.tensor import Tensor

Sort = namedtuple("Sort", ("values", "indices"))
TopK = namedtuple("TopK", ("values", "indices"))
KthValue = namedtuple("KthValue", ("values", "indices"))
Median = namedtuple("Median", ("values", "indices"))
NanMedian = namedtuple("NanMedian", ("values", "indices"))
Mode = namedtuple("Mode", ("values", "indices"))

_TOO_FEW = Fault("Number of elements of source < number of ones in mask", RuntimeError)


# -- primitives ------------------------------------------------------------------------------------


@primitive("host", differentiable=False)
def order_along(row: Any, input: Tensor, dim: int, descending: bool) -> Tensor:
    """Indices that sort one dimension; equal elements stay in order and NaN is the largest."""
    return emit(row, (input,), (dim, descending), input._shape, dtypes.int64)


def _order(x: Any, dim: int, descending: bool) -> Any:
    x = widened(x)
    if not descending:
        return np.argsort(x, axis=dim, kind="stable")
    back = np.argsort(np.flip(x, dim), axis=dim, kind="stable")
    return x.shape[dim] - 1 - np.flip(back, dim)


order_along.batch((0,))
order_along.reference(_order)


@primitive("host", differentiable=False)
def largest_along(row: Any, input: Tensor, k: int, dim: int, largest: bool) -> Tensor:
    """Indices of the k largest (or smallest) elements of one dimension, in order."""
    shape = (*input._shape[:dim], k, *input._shape[dim + 1 :])
    return emit(row, (input,), (k, dim, largest), shape, dtypes.int64)


def _largest(x: Any, k: int, dim: int, largest: bool) -> Any:
    x, n = widened(x), x.shape[dim]
    if k == 0 or k * 4 > n:
        return np.take(_order(x, dim, largest), np.arange(k), axis=dim)
    part = np.argpartition(x, n - k if largest else k - 1, axis=dim)
    part = np.sort(np.take(part, np.arange(n - k, n) if largest else np.arange(k), axis=dim), dim)
    chosen = _order(np.take_along_axis(x, part, dim), dim, largest)
    return np.take_along_axis(part, chosen, dim)


largest_along.batch((1,))
largest_along.reference(_largest)


@primitive("host", differentiable=False)
def middle_along(row: Any, input: Tensor, dim: int, ignore_nan: bool) -> Tensor:
    """Index of the lower median of one dimension, which is dropped; of the first NaN, if any."""
    shape = input._shape[:dim] + input._shape[dim + 1 :]
    return emit(row, (input,), (dim, ignore_nan), shape, dtypes.int64)


def _middle(x: Any, dim: int, ignore_nan: bool) -> Any:
    order, nan = _order(x, dim, False), np.not_equal(x, x)
    count = np.sum(~nan, axis=dim, keepdims=True)
    if ignore_nan:
        rank = np.maximum(count - 1, 0) // 2
    else:  # sorted, NaN stand behind the numbers
        rank = np.where(count < x.shape[dim], count, (x.shape[dim] - 1) // 2)
    return np.take_along_axis(order, rank, dim).squeeze(dim)


middle_along.batch((0,))
middle_along.reference(_middle)


@primitive("host", differentiable=False)
def commonest_along(row: Any, input: Tensor, dim: int) -> Tensor:
    """Index of the last of the most frequent (then smallest) elements of one dimension."""
    shape = input._shape[:dim] + input._shape[dim + 1 :]
    return emit(row, (input,), (dim,), shape, dtypes.int64)


def _commonest(x: Any, dim: int) -> Any:
    order = np.moveaxis(_order(x, dim, False), dim, -1)
    values = np.take_along_axis(np.moveaxis(widened(x), dim, -1), order, -1)
    rows = values.reshape(-1, values.shape[-1])
    found = np.empty(rows.shape[0], np.int64)
    for i, row in enumerate(rows):
        starts = np.flatnonzero(np.concatenate([[True], row[1:] != row[:-1]]))
        lengths = np.diff(np.append(starts, row.size))
        best = int(np.argmax(lengths))
        found[i] = order.reshape(rows.shape)[i, starts[best] + lengths[best] - 1]
    return found.reshape(values.shape[:-1])


commonest_along.batch((0,))
commonest_along.reference(_commonest)


@primitive("host", differentiable=False)
def sorted_place(row: Any, sequence: Tensor, values: Tensor, right: bool) -> Tensor:
    """Where values belong in ascending sequences (their last dimension), int64."""
    return emit(row, (sequence, values), (right,), values._shape, dtypes.int64)


def _sorted_place(sequence: Any, values: Any, right: bool) -> Any:
    side: Any = "right" if right else "left"
    common = np.promote_types(widened(sequence).dtype, widened(values).dtype)
    sequence, values = sequence.astype(common), values.astype(common)
    if sequence.ndim == 1:
        return np.asarray(np.searchsorted(sequence, values, side))
    found = np.empty(values.shape, np.int64)
    for place in np.ndindex(*sequence.shape[:-1]):
        found[place] = np.searchsorted(sequence[place], values[place], side)
    return found


sorted_place.reference(_sorted_place)


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
        return Sort(NAMES["clone"](input), _zero(input))
    order = order_along(input, d, bool(descending))
    return Sort(gather(input, d, order), order)


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
    k = int(k)
    if not 0 <= k <= (input._shape[d] if input.ndim else 1):
        raise RuntimeError("selected index k out of range")
    if input.ndim == 0:
        return TopK(NAMES["clone"](input), _zero(input))
    places = largest_along(input, k, d, bool(largest))
    return TopK(gather(input, d, places), places)


def _chosen(kind: Any, input: Tensor, d: int, places: Tensor, keepdim: bool) -> Any:
    """A (values, indices) result with one element of a dimension."""
    kept = places.unsqueeze(d)
    values = gather(input, d, kept)
    return kind(values, kept) if keepdim else kind(values.squeeze(d), places)


@composite(out="exact apart")
def kthvalue(input: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> Any:
    """(values, indices) of the k-th smallest element of a dimension, k from 1."""
    d = wrap_dim(dim, input.ndim)
    if not 1 <= k <= (input._shape[d] if input.ndim else 1):
        raise RuntimeError(f"kthvalue(): selected number k out of range for dimension {d}")
    if input.ndim == 0:
        return KthValue(NAMES["clone"](input), _zero(input))
    places = NAMES["select"](order_along(input, d, False), d, k - 1)
    return _chosen(KthValue, input, d, places, keepdim)


def _median(input: Tensor, dim: int | None, keepdim: bool, ignore_nan: bool) -> Any:
    if dim is None:
        flat = input.reshape(-1)
        if not flat._shape[0]:
            none = float("nan") if input.dtype.category == 2 else dtypes.iinfo(input.dtype).min
            return NAMES["full"]((), none, dtype=input.dtype, device=input.device)
        return gather(flat, 0, middle_along(flat, 0, ignore_nan).reshape(1)).reshape(())
    kind = NanMedian if ignore_nan else Median
    d = wrap_dim(dim, input.ndim)
    if input.ndim == 0:
        return kind(NAMES["clone"](input), _zero(input))
    if not input._shape[d]:
        raise IndexError(f"median(): Expected reduction dim {d} to have non-zero size.")
    return _chosen(kind, input, d, middle_along(input, d, ignore_nan), keepdim)


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
        return Mode(NAMES["clone"](input), _zero(input))
    if not input._shape[d]:
        raise IndexError(f"mode(): Expected reduction dim {d} to have non-zero size.")
    return _chosen(Mode, input, d, commonest_along(input, d), keepdim)


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
    array = widened(input.detach()._array())
    if dim is None:
        values, inverse, counts = np.unique(
            array, return_inverse=True, return_counts=True, equal_nan=False
        )
        shape = input._shape
    else:
        d = wrap_dim(dim, input.ndim)
        values, inverse, counts = np.unique(
            array, return_inverse=True, return_counts=True, axis=d, equal_nan=False
        )
        shape = (input._shape[d],)
    return _unique_results(input, values, inverse, counts, shape, (return_inverse, return_counts))


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


def _places(input: Tensor) -> Any:
    return np.argwhere(input.detach()._array() != 0).astype(np.int64)


@composite()
def nonzero(input: Tensor, *, as_tuple: bool = False) -> Any:
    """(n, ndim) indices of the nonzero elements, row-major; as a tuple of columns on request."""
    if as_tuple:
        array = input.detach()._array()
        columns = np.nonzero(array.reshape(1) if array.ndim == 0 else array)
        return tuple(_given(c, dtypes.int64, input) for c in columns)
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
    found = sorted_place(sequence, values, right or side == "right")
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
