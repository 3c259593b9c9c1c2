"""Reductions: primitives over a tuple of axes, and torch's functions built from them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from flambeau import dtypes
from flambeau.dtype import dtype as DType
from flambeau.ops.entries import called
from flambeau.ops.movement import expand_to, sum_to, view_as_shape
from flambeau.ops.rows import NAMES
from flambeau.ops.table import composite, emit, primitive
from flambeau.size import wrap_dim, wrap_dims
from flambeau.tensor import Tensor


def _dropped(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(n for i, n in enumerate(shape) if i not in axes)


def _kept(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(1 if i in axes else n for i, n in enumerate(shape))


def spread(g: Tensor, shape: tuple[int, ...], axes: tuple[int, ...]) -> Tensor:
    """A reduced tensor put back to `shape` by repeating it along the reduced axes."""
    shape = tuple(shape)
    return expand_to(view_as_shape(g.contiguous(), _kept(shape, axes)), shape)


@primitive("reduce", jvp="linear", splits=True)
def sum_axes(row: Any, input: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Sum over axes, which are dropped."""
    return emit(row, (input,), (axes,), _dropped(input._shape, axes), input.dtype)


sum_axes.vjp(lambda g, out, x, axes: (spread(g, x.shape, axes), None))
sum_axes.reference(lambda x, axes: np.sum(x, axis=axes, dtype=x.dtype))


@primitive("reduce", splits=True)
def prod_axes(row: Any, input: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Product over axes, which are dropped."""
    return emit(row, (input,), (axes,), _dropped(input._shape, axes), input.dtype)


prod_axes.reference(lambda x, axes: np.prod(x, axis=axes, dtype=x.dtype))


def _prod_vjp(g: Any, out: Any, x: Any, axes: Any) -> tuple[Any, ...]:
    """g * product of the others, exact also where factors are zero (no division)."""
    order = tuple(i for i in range(x.ndim) if i not in axes) + tuple(axes)
    count = math.prod(x.shape[a] for a in axes)
    moved = x.permute(*order).reshape(*_dropped(tuple(x.shape), axes), count)
    if not count:
        return NAMES["zeros_like"](x), None
    one = NAMES["ones_like"](moved[..., :1])
    before = NAMES["cumprod"](NAMES["cat"]([one, moved[..., :-1]], -1), -1)
    back = NAMES["flip"](moved, -1)
    after = NAMES["flip"](NAMES["cumprod"](NAMES["cat"]([one, back[..., :-1]], -1), -1), -1)
    others = before * after * g.unsqueeze(-1)
    shape = tuple(x.shape[i] for i in order)
    inverse = tuple(sorted(range(len(order)), key=order.__getitem__))
    return others.reshape(shape).permute(*inverse), None


prod_axes.row.complex = True
prod_axes.vjp(_prod_vjp, saves="input")


def _extreme_vjp(g: Any, out: Any, x: Any, axes: Any) -> tuple[Any, ...]:
    """The cotangent is shared equally by the elements that attain the extreme."""
    hit = NAMES["to_dtype"](x == spread(out, x.shape, axes), g.dtype)
    count = sum_axes(hit, axes)
    return hit * spread(g / count, x.shape, axes), None


@primitive("reduce", splits=True)
def max_axes(row: Any, input: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Largest element over axes, which are dropped; NaN where there is one."""
    _not_empty(input, axes, "amax")
    return emit(row, (input,), (axes,), _dropped(input._shape, axes), input.dtype)


max_axes.reference(lambda x, axes: np.max(x, axis=axes))
max_axes.vjp(_extreme_vjp, saves="out input")


@primitive("reduce", splits=True)
def min_axes(row: Any, input: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Smallest element over axes, which are dropped; NaN where there is one."""
    _not_empty(input, axes, "amin")
    return emit(row, (input,), (axes,), _dropped(input._shape, axes), input.dtype)


min_axes.reference(lambda x, axes: np.min(x, axis=axes))
min_axes.vjp(_extreme_vjp, saves="out input")


@primitive("reduce", differentiable=False)
def argmax_axis(row: Any, input: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Index of the first largest element (or NaN) of one axis, int64."""
    _not_empty(input, axes, "argmax")
    return emit(row, (input,), (axes,), _dropped(input._shape, axes), dtypes.int64)


argmax_axis.reference(lambda x, axes: np.argmax(x, axis=axes[0]))


@primitive("reduce", differentiable=False)
def argmin_axis(row: Any, input: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Index of the first smallest element (or NaN) of one axis, int64."""
    _not_empty(input, axes, "argmin")
    return emit(row, (input,), (axes,), _dropped(input._shape, axes), dtypes.int64)


argmin_axis.reference(lambda x, axes: np.argmin(x, axis=axes[0]))


def _not_empty(input: Tensor, axes: tuple[int, ...], name: str) -> None:
    if input.dtype.is_complex:
        raise RuntimeError(f"{name}(): does not support complex input")
    for a in axes:
        if input._shape[a] == 0:
            raise IndexError(f"{name}(): Expected reduction dim {a} to have non-zero size.")


def restore(out: Tensor, shape: tuple[int, ...], axes: tuple[int, ...], keepdim: bool) -> Tensor:
    """`keepdim=True` of a result whose axes were dropped."""
    return view_as_shape(out, _kept(shape, axes)) if keepdim else out


@composite(out=True)
def sum(
    input: Tensor,
    dim: Any = None,
    keepdim: bool = False,
    *,
    dtype: DType | None = None,
) -> Tensor:
    """Sum over dimensions (all by default). Integers and bools are summed as int64."""
    axes = _axes(dim, input)
    if dtype is None and input.dtype.category < 2:
        dtype = dtypes.int64
    x = NAMES["to_dtype"](input, dtype) if dtype is not None and dtype is not input.dtype else input
    if not axes:
        return NAMES["clone"](x)
    return restore(sum_axes(x, axes), input._shape, axes, keepdim)


def _axes(dim: Any, input: Tensor) -> tuple[int, ...]:
    if input.ndim > 64:
        raise RuntimeError("only tensors with up to 64 dims are supported")
    if dim is None or (isinstance(dim, (tuple, list)) and not dim):
        return tuple(range(input.ndim))
    return tuple(sorted(wrap_dims(dim, input.ndim)))


@composite(out=True)
@called("Mean")
def mean(
    input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: DType | None = None
) -> Tensor:
    """Mean over dimensions (all by default).

    Raises:
        RuntimeError: an integer dtype without `dtype=`.
    """
    chosen = dtype or input.dtype
    if chosen.category < 2:
        raise RuntimeError(
            f"mean(): could not infer output dtype. Input dtype must be either a "
            f"floating point or complex dtype. Got: {chosen.word}"
        )
    axes = _axes(dim, input)
    count = math.prod(input._shape[a] for a in axes)
    total = sum(input, axes or None, keepdim, dtype=chosen)
    return total / (count * 1.0 if count else math.nan)


def _need_dim(input: Tensor, dim: Any, name: str) -> None:
    if input.numel() == 0 and (dim is None or (isinstance(dim, (tuple, list)) and not dim)):
        raise RuntimeError(
            f"{name}(): Expected reduction dim to be specified for input.numel() == 0. Specify "
            "the reduction dim with the 'dim' argument."
        )


@composite(out=True)
def amax(input: Tensor, dim: Any = (), keepdim: bool = False) -> Tensor:
    """Largest elements over dimensions; the gradient is shared equally on ties."""
    _need_dim(input, dim, "amax")
    axes = _axes(dim, input)
    return restore(
        max_axes(input, axes) if axes else NAMES["clone"](input), input._shape, axes, keepdim
    )


@composite(out=True)
def amin(input: Tensor, dim: Any = (), keepdim: bool = False) -> Tensor:
    """Smallest elements over dimensions; the gradient is shared equally on ties."""
    _need_dim(input, dim, "amin")
    axes = _axes(dim, input)
    return restore(
        min_axes(input, axes) if axes else NAMES["clone"](input), input._shape, axes, keepdim
    )


max_axes.row.shown, min_axes.row.shown = lambda *_: amax, lambda *_: amin
sum_axes.row.shown = lambda *_: sum


def _arg(input: Tensor, dim: Any, keepdim: bool, row: Any, name: str) -> Tensor:
    if dim is None:
        if input.numel() == 0:
            raise IndexError(
                f"{name}(): Expected reduction dim to be specified for input.numel() "
                "== 0. Specify the reduction dim with the 'dim' argument."
            )
        flat = row(input.reshape(-1), (0,))
        return (
            restore(flat, (1,) * input.ndim, tuple(range(input.ndim)), keepdim) if keepdim else flat
        )
    if input.ndim == 0:
        wrap_dim(dim, 0)
        return NAMES["zeros"]((), dtype=dtypes.int64, device=input.device)
    axes = (wrap_dim(dim, input.ndim),)
    return restore(row(input, axes), input._shape, axes, keepdim)


@composite(out="exact")
def argmax(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Index of the largest element (of the flattened tensor when dim is None), int64."""
    return _arg(input, dim, keepdim, argmax_axis, "argmax")


@composite(out="exact")
def argmin(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Index of the smallest element (of the flattened tensor when dim is None), int64."""
    return _arg(input, dim, keepdim, argmin_axis, "argmin")


__all__ = ["sum_to", "spread", "restore"]
