"""Reductions and normalizations of the elements that a mask keeps, as `torch.masked` has them.

What is masked out is replaced by the value that changes nothing; a mask broadcasts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from flambeau import dtypes
from flambeau.dtype import dtype as DType
from flambeau.ops.norms import vector_norm
from flambeau.ops.reduction import _axes
from flambeau.ops.rows import NAMES
from flambeau.ops.spaces import only_in
from flambeau.tensor import Tensor


def _lowest(dtype: DType) -> float:
    return -math.inf if dtype.category >= 2 else dtypes.iinfo(dtype).min


def _highest(dtype: DType) -> float:
    return math.inf if dtype.category == 2 else dtypes.iinfo(dtype).max


def _kept(input: Tensor, mask: Tensor | None) -> Tensor:
    """The mask in the shape of what it is laid on.

    Raises:
        IndexError: a mask with more dimensions.
    """
    if mask is None:
        return NAMES["ones"](input._shape, dtype=dtypes.bool, device=input.device)
    if mask.ndim > input.ndim:
        raise IndexError(
            "_input_mask expected broadcastable mask (got mask dimensionality higher than of the "
            "input)"
        )
    return mask.to(dtypes.bool).expand(*input._shape)


def _filled(input: Tensor, mask: Tensor | None, value: Any) -> Tensor:
    return input if mask is None else NAMES["where"](_kept(input, mask), input, value)


def _all_of(input: Tensor, dim: Any) -> Any:
    return _axes(None if dim == () else dim, input)


def _masked(name: str) -> Callable[[Any], Any]:
    return only_in(f"masked.{name}", out=False, autocast=None)


# -- reductions ------------------------------------------------------------------------------------


@_masked("sum")
def masked_sum(
    input: Tensor, dim: Any = None, *, keepdim: bool = False, dtype: DType | None = None,
    mask: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Sum of the elements that the mask keeps.

    Args:
        dim: dimensions to reduce; all by default.
        mask: bool, broadcastable to input; all elements count without it.
    """
    if dtype is None:
        dtype = dtypes.int64 if input.dtype.category < 2 else input.dtype
    filled = _filled(input, mask, 0).to(dtype)
    return NAMES["sum"](filled, _all_of(input, dim), keepdim)


@_masked("prod")
def masked_prod(
    input: Tensor, dim: Any = None, *, keepdim: bool = False, dtype: DType | None = None,
    mask: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Product of the elements that the mask keeps."""
    if dtype is None:
        dtype = dtypes.int64 if input.dtype.category < 2 else input.dtype
    found = _filled(input, mask, 1).to(dtype)
    for d in reversed(_all_of(input, dim)):
        found = NAMES["prod"](found, d, True)
    return found if keepdim else found.squeeze(_all_of(input, dim))


@_masked("amax")
def masked_amax(
    input: Tensor, dim: Any = None, *, keepdim: bool = False, dtype: DType | None = None,
    mask: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Largest of the elements that the mask keeps."""
    filled = _filled(input, mask, _lowest(input.dtype))
    return NAMES["amax"](filled, _all_of(input, dim), keepdim).to(dtype or input.dtype)


@_masked("amin")
def masked_amin(
    input: Tensor, dim: Any = None, *, keepdim: bool = False, dtype: DType | None = None,
    mask: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Smallest of the elements that the mask keeps."""
    filled = _filled(input, mask, _highest(input.dtype))
    return NAMES["amin"](filled, _all_of(input, dim), keepdim).to(dtype or input.dtype)


@_masked("argmax")
def masked_argmax(
    input: Tensor, dim: int | None = None, *, keepdim: bool = False, dtype: DType | None = None,
    mask: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Place of the largest of the elements that the mask keeps, in the dtype of input."""
    filled = _filled(input, mask, _lowest(input.dtype))
    return NAMES["argmax"](filled, dim, keepdim).to(dtype or input.dtype)


@_masked("argmin")
def masked_argmin(
    input: Tensor, dim: int | None = None, *, keepdim: bool = False, dtype: DType | None = None,
    mask: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Place of the smallest of the elements that the mask keeps, in the dtype of input."""
    filled = _filled(input, mask, _highest(input.dtype))
    return NAMES["argmin"](filled, dim, keepdim).to(dtype or input.dtype)


@_masked("mean")
def masked_mean(
    input: Tensor, dim: Any = None, *, keepdim: bool = False, dtype: DType | None = None,
    mask: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Mean of the elements that the mask keeps; NaN where it keeps none.

    Raises:
        ValueError: integers, without a dtype.
    """
    if dtype is None and input.dtype.category < 2:
        raise ValueError(
            "mean(): Could not infer output dtype. Input dtype must be either a floating point or "
            f"complex dtype. Got: {input.dtype}"
        )
    count = NAMES["sum"](_kept(input, mask), _all_of(input, dim), keepdim)
    return masked_sum(input, dim, keepdim=keepdim, dtype=dtype, mask=mask) / count


@_masked("median")
def masked_median(
    input: Tensor, dim: int = -1, *, keepdim: bool = False, dtype: DType | None = None,
    mask: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Lower median of the elements that the mask keeps; NaN where it keeps none.

    Raises:
        ValueError: integers of which a line is masked out.
    """
    given = input if input.dtype.category == 2 else input.to(dtypes.float32)
    found = NAMES["nanmedian"](_filled(given, mask, math.nan), dim, keepdim)[0]
    if given is input:
        return found
    if bool(NAMES["isnan"](found).any()):
        raise ValueError(
            "masked median expects no fully masked out rows if dtype is not floating point"
        )
    return found.to(dtype or input.dtype)


@_masked("norm")
def masked_norm(
    input: Tensor, ord: float | None = 2.0, dim: Any = None, *, keepdim: bool = False,
    dtype: DType | None = None, mask: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Vector norm of the elements that the mask keeps."""
    order = 2.0 if ord is None else ord
    filled = _filled(input, mask, math.inf if order == -math.inf else 0)
    return vector_norm(filled, order, _all_of(input, dim), keepdim, dtype=dtype)


def _variance(
    input: Tensor, dim: Any, unbiased: bool | None, correction: Any, keepdim: bool,
    dtype: DType | None, mask: Tensor | None,
) -> Tensor:  # fmt: skip
    if unbiased is not None:
        correction = int(unbiased)
    elif correction is None:
        correction = 1
    dtype = dtype or (dtypes.float32 if input.dtype.category < 2 else input.dtype)
    axes = _all_of(input, dim)
    kept = _kept(input, mask)
    count = NAMES["sum"](kept, axes, True)
    apart = input - masked_sum(input, dim, keepdim=True, dtype=dtype, mask=mask) / count
    squares = NAMES["where"](kept, apart * NAMES["conj"](apart), 0).to(dtype)
    total = NAMES["sum"](squares, axes, True)
    if correction:
        count = NAMES["clamp"](count.to(dtype.to_real()) - correction, min=0)
    found = (total / count).to(dtype)
    return found if keepdim else found.squeeze(axes)


@_masked("var")
def masked_var(
    input: Tensor, dim: Any = None, unbiased: bool | None = None, *, correction: Any = None,
    keepdim: bool = False, dtype: DType | None = None, mask: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Variance of the elements that the mask keeps, divided by their count - correction."""
    return _variance(input, dim, unbiased, correction, keepdim, dtype, mask)


@_masked("std")
def masked_std(
    input: Tensor, dim: Any = None, unbiased: bool | None = None, *, correction: Any = None,
    keepdim: bool = False, dtype: DType | None = None, mask: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Square root of `masked.var`."""
    return NAMES["sqrt"](_variance(input, dim, unbiased, correction, keepdim, dtype, mask))


@_masked("logsumexp")
def masked_logsumexp(
    input: Tensor, dim: Any = None, *, keepdim: bool = False, dtype: DType | None = None,
    mask: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """log(sum(exp(x))) of the elements that the mask keeps."""
    filled = _filled(input, mask, _lowest(input.dtype))
    found = NAMES["logsumexp"](filled, _all_of(input, dim), keepdim)
    return found.to(dtype or input.dtype)


@_masked("logaddexp")
def masked_logaddexp(
    input: Tensor, other: Tensor, *, dtype: DType | None = None, input_mask: Tensor | None = None,
    other_mask: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """log(exp(input) + exp(other)) of the elements that the masks keep."""
    parts = (
        _filled(x, mask, _lowest(x.dtype)) for x, mask in ((input, input_mask), (other, other_mask))
    )
    return NAMES["logaddexp"](*parts).to(dtype or input.dtype)


# -- along one dimension ---------------------------------------------------------------------------


@_masked("cumsum")
def masked_cumsum(
    input: Tensor, dim: int, *, dtype: DType | None = None, mask: Tensor | None = None
) -> Tensor:
    """Running sums of the elements that the mask keeps."""
    return NAMES["cumsum"](_filled(input, mask, 0), dim, dtype=dtype or input.dtype)


@_masked("cumprod")
def masked_cumprod(
    input: Tensor, dim: int, *, dtype: DType | None = None, mask: Tensor | None = None
) -> Tensor:
    """Running products of the elements that the mask keeps."""
    return NAMES["cumprod"](_filled(input, mask, 1), dim, dtype=dtype or input.dtype)


@_masked("softmax")
def masked_softmax(
    input: Tensor, dim: int, *, dtype: DType | None = None, mask: Tensor | None = None
) -> Tensor:
    """Softmax over the elements that the mask keeps; the others get 0."""
    return NAMES["softmax"](_filled(input, mask, _lowest(input.dtype)), dim, dtype or input.dtype)


@_masked("log_softmax")
def masked_log_softmax(
    input: Tensor, dim: int, *, dtype: DType | None = None, mask: Tensor | None = None
) -> Tensor:
    """log_softmax over the elements that the mask keeps; the others get -inf."""
    filled = _filled(input, mask, _lowest(input.dtype))
    return NAMES["log_softmax"](filled, dim, dtype or input.dtype)


@_masked("softmin")
def masked_softmin(
    input: Tensor, dim: int, *, dtype: DType | None = None, mask: Tensor | None = None
) -> Tensor:
    """Softmin over the elements that the mask keeps; the others get 0."""
    filled = _filled(input, mask, _highest(input.dtype))
    return NAMES["softmax"](-filled, dim, dtype or input.dtype)


@_masked("normalize")
def masked_normalize(
    input: Tensor, ord: float, dim: int, *, eps: float = 1e-12, dtype: DType | None = None,
    mask: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """input / max(norm, eps), the norm of the elements that the mask keeps; the others get 0."""
    size = masked_norm(input, ord, dim, keepdim=True, dtype=dtype, mask=mask)
    filled = _filled(input, mask, 0)
    return filled / NAMES["clamp"](size, min=eps)
