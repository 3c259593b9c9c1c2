"""Values put at places: reductions by index and by segment, storage of given strides."""

from __future__ import annotations

import math
from typing import Any

from flambeau import dtypes
from flambeau.dtype import dtype as DType
from flambeau.ops.movement import as_strided
from flambeau.ops.ordering import nonzero
from flambeau.ops.rearranging import scatter_reduce
from flambeau.ops.rows import FUNCTIONAL, NAMES
from flambeau.ops.table import composite
from flambeau.size import wrap_dim
from flambeau.tensor import Tensor

# -- by index --------------------------------------------------------------------------------------


@composite(inplace=True, out=True)
def index_reduce(
    input: Tensor, dim: int, index: Tensor, source: Tensor, reduce: str, *,
    include_self: bool = True,
) -> Tensor:  # fmt: skip
    """input with source's entries along a dimension combined into the entries that index names.

    Args:
        reduce: "prod", "mean", "amax" or "amin".
        include_self: whether input's own elements take part.
    """
    if reduce not in ("prod", "mean", "amax", "amin"):
        raise RuntimeError(
            "index_reduce(): Expected reduce to be one of prod, mean, amax or amin but got "
            f"{reduce}."
        )
    if index.ndim > 1:
        raise IndexError("index_reduce_(): Index is supposed to be a vector")
    if index.dtype not in (dtypes.int64, dtypes.int32):
        raise RuntimeError("index_reduce_(): Expected dtype int32/int64 for index")
    if input.dtype is not source.dtype:
        raise RuntimeError("index_reduce_(): self and source expected to have the same dtype")
    d = wrap_dim(dim, input.ndim)
    places = index.reshape(-1).to(dtypes.int64)
    if source.ndim:
        places = places.reshape(-1, *(1,) * (source.ndim - 1 - d)).expand(*source._shape)
    else:
        places = places.reshape(())
    return scatter_reduce(input, d, places, source, reduce, include_self=include_self)


@composite(inplace=True)
def put(input: Tensor, index: Tensor, source: Tensor, accumulate: bool = False) -> Tensor:
    """input, read as a vector, with source's elements at index put or added."""
    if index.dtype is not dtypes.int64:
        raise RuntimeError("put_(): Expected a long tensor for index, but got " + index.dtype.word)
    if input.dtype is not source.dtype:
        raise RuntimeError(
            f"put_(): self and source expected to have the same dtype, but got self.dtype = "
            f"{input.dtype.word} and source.dtype = {source.dtype.word}"
        )
    if index.numel() != source.numel():
        raise RuntimeError(
            "put_(): Expected source and index to have the same number of elements, but got "
            f"source.numel() = {source.numel()}, index.numel() = {index.numel()}"
        )
    flat = NAMES["index_put"](
        input.reshape(-1), (index.reshape(-1),), source.reshape(-1), accumulate
    )
    return flat.reshape(input._shape)


@composite(method=False)
def fill(input: Tensor, value: Any) -> Tensor:
    """A tensor like input full of one value, a number or a 0-d tensor."""
    if not isinstance(value, Tensor):
        return NAMES["where"](NAMES["zeros_like"](input, dtype=dtypes.bool), input, value).to(
            input.dtype
        )
    if value.ndim:
        raise RuntimeError(
            f"fill only supports 0-dimension value tensor but got tensor with {value.ndim} "
            "dimensions."
        )
    return value.to(input.dtype).expand(*input._shape) + NAMES["zeros_like"](input)


@composite()
def as_strided_scatter(
    input: Tensor, src: Tensor, size: Any, stride: Any, storage_offset: int | None = None
) -> Tensor:
    """A copy of input with src where `as_strided` of these arguments reads."""
    out = NAMES["clone"](input)
    as_strided(out, size, stride, storage_offset).copy_(src)
    return out


@composite(out=True)
def nonzero_static(input: Tensor, *, size: int, fill_value: int = -1) -> Tensor:
    """The first `size` indices of nonzero elements, filled up with fill_value: (size, ndim)."""
    found = nonzero(input)[:size]
    missing = size - found._shape[0]
    if not missing:
        return found
    rest = NAMES["full"]((missing, input.ndim), fill_value, dtype=dtypes.int64)
    return NAMES["cat"]([found, rest])


@composite(method=False)
def unravel_index(indices: Tensor, shape: Any) -> tuple[Tensor, ...]:
    """The places in a tensor of a shape that indices into its elements, in order, stand for."""
    if indices.dtype.category != 1:
        raise TypeError("expected 'indices' to be integer dtype, but got " + str(indices.dtype))
    indices = indices.to(dtypes.int64)
    sizes = (shape,) if isinstance(shape, int) else tuple(shape)
    if any(n < 0 for n in sizes):
        raise ValueError(f"'shape' cannot have negative values, but got {sizes}")
    found = []
    for n in reversed(sizes):
        found.append(indices % n)
        indices = indices // n
    return tuple(reversed(found))


@composite(method=False)
def constant_pad_nd(input: Tensor, pad: Any, value: Any = 0) -> Tensor:
    """`nn.functional.pad` with a constant."""
    found: Tensor = FUNCTIONAL["pad"](input, list(pad), "constant", value)
    return found


# -- by segment ------------------------------------------------------------------------------------

_NEUTRAL = {"sum": 0.0, "mean": math.nan, "prod": 1.0, "max": -math.inf, "min": math.inf}


@composite(method=False)
def segment_reduce(
    data: Tensor, reduce: str, *, lengths: Tensor | None = None, indices: Tensor | None = None,
    offsets: Tensor | None = None, axis: int = 0, unsafe: bool = False, initial: Any = None,
) -> Tensor:  # fmt: skip
    """Segments of a dimension reduced: "sum", "mean", "max", "min" or "prod".

    Args:
        lengths: (..., S) size of each segment, for every place in the dimensions before `axis`.
        offsets: (..., S + 1) where segments start, in place of lengths.
        initial: what every segment starts with, and what an empty one gives.
    """
    if reduce not in _NEUTRAL:
        raise RuntimeError(f"segment_reduce(): unknown reduction {reduce!r}")
    if lengths is None and offsets is None:
        raise RuntimeError("segment_reduce(): Either lengths or offsets must be defined.")
    d = wrap_dim(axis, data.ndim)
    sizes = NAMES["diff"](offsets) if lengths is None else lengths
    count = sizes._shape[-1]
    starts = NAMES["cumsum"](sizes, -1)
    place = NAMES["arange"](data._shape[d], device=data.device)
    number = (place.reshape(*(1,) * d, -1, 1) >= starts.unsqueeze(-2)).sum(-1)
    trailing = (1,) * (data.ndim - 1 - d)
    number = number.reshape(*number._shape, *trailing).expand(*data._shape)
    # what lies behind the last segment goes into one that is left out
    shape = (*data._shape[:d], count + 1, *data._shape[d + 1 :])
    start = _NEUTRAL[reduce] if initial is None else float(initial)
    first = 0.0 if reduce == "mean" and initial is None else start
    base = NAMES["full"](shape, first, dtype=data.dtype, device=data.device)
    kind = {"max": "amax", "min": "amin", "mean": "sum"}.get(reduce, reduce)
    found = scatter_reduce(base, d, number, data, kind).narrow(d, 0, count)
    if reduce != "mean":
        return found
    sizes = sizes.reshape(*sizes._shape, *trailing)
    return NAMES["where"](sizes == 0, start, found / sizes).to(data.dtype)


# -- storage ---------------------------------------------------------------------------------------


@composite(method=False)
def empty_strided(
    size: Any, stride: Any, *, dtype: DType | None = None, layout: Any = None, device: Any = None,
    requires_grad: bool = False, pin_memory: bool = False,
) -> Tensor:  # fmt: skip
    """A tensor of given size and strides whose values do not matter (zeros here)."""
    if len(size) != len(stride):
        raise RuntimeError(
            f"mismatch in length of strides and shape: {len(stride)} and {len(size)}"
        )
    reach = 1 + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    span = 0 if 0 in size else reach
    found = as_strided(NAMES["empty"](span, dtype=dtype, device=device), size, stride)
    return found.requires_grad_() if requires_grad else found


@composite(public=False)
def new_empty_strided(
    input: Tensor, size: Any, stride: Any, dtype: DType | None = None, layout: Any = None,
    device: Any = None, pin_memory: bool = False, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """`empty_strided` with the dtype and device of input."""
    return empty_strided(
        size, stride, dtype=dtype or input.dtype, device=device or input.device,
        requires_grad=requires_grad,
    )  # fmt: skip


@composite(method=False)
def empty_permuted(
    size: Any, physical_layout: Any, *, dtype: DType | None = None, layout: Any = None,
    device: Any = None, requires_grad: bool = False, pin_memory: bool = False,
) -> Tensor:  # fmt: skip
    """A tensor whose dimensions lie in memory in the order `physical_layout`, outermost first."""
    if sorted(physical_layout) != list(range(len(size))):
        raise RuntimeError(
            "Number of dimensions in size does not match the length of the physical_layout; i.e. "
            f"len(size) = {len(size)} is not equal to len(physical_layout) = "
            f"{len(physical_layout)}"
        )
    stride, step = [0] * len(size), 1
    for d in reversed(physical_layout):
        stride[d] = step
        step *= max(size[d], 1)
    return empty_strided(size, stride, dtype=dtype, device=device, requires_grad=requires_grad)
