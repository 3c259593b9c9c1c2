"""Activation functions and the softmax family.

Half-precision input is computed in float32 and rounded once, as everywhere in composites.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

from flambeau.dtype import dtype as DType
from flambeau.ops.arithmetic import dtype_word
from flambeau.ops.creation import to_dtype
from flambeau.ops.elementwise import (
    abs,
    erf,
    exp,
    expm1,
    log,
    log1p,
    maximum,
    minimum,
    select_where,
    sigmoid,
    tanh,
)
from flambeau.ops.precision import cast, fit, widen
from flambeau.ops.random import uniform01
from flambeau.ops.reduction import max_axes, restore, sum_axes
from flambeau.ops.table import FUNCTIONAL, NAMES, composite, functional
from flambeau.size import wrap_dim
from flambeau.tensor import Tensor

_SQRT_HALF = math.sqrt(0.5)
_SQRT_2_OVER_PI = math.sqrt(2 / math.pi)
_INV_SQRT_2PI = 1 / math.sqrt(2 * math.pi)
_CUBIC = 0.044715


def floats_only(name: str, *tensors: Tensor) -> None:
    """Refuse integers and bools as torch's kernels do."""
    for x in tensors:
        if x.dtype.category != 2:
            raise NotImplementedError(f'"{name}" not implemented for \'{dtype_word(x.dtype)}\'')


# -- rectifiers ------------------------------------------------------------------------------------


@composite(inplace=True, functional=True)
def relu(input: Tensor) -> Tensor:
    """max(input, 0); NaN stays."""
    if input.dtype.category == 0:
        raise RuntimeError("Boolean inputs not supported for relu")
    return maximum(input, 0)  # type: ignore[no-any-return]


relu.vjp(lambda g, out, x: (select_where(out > 0, g, 0.0),), saves="out")


# -- gelu, silu ------------------------------------------------------------------------------------


@composite(keep=True, method=False, public=False, functional=True)
def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """x * Phi(x) with the normal distribution function Phi.

    Args:
        input: floating point, any shape.
        approximate: "none" through erf, or "tanh":
            x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))).

    Raises:
        RuntimeError: another approximation, or integers.

    Reference:
        Hendrycks and Gimpel, Gaussian Error Linear Units (arXiv:1606.08415).
    """
    floats_only("GeluKernelImpl", input)
    x = widen(input)
    if approximate == "none":
        y = x * (erf(x * _SQRT_HALF) + 1.0) * 0.5
    elif approximate == "tanh":
        y = x * (tanh((x + x * x * x * _CUBIC) * _SQRT_2_OVER_PI) + 1.0) * 0.5
    else:
        raise RuntimeError("approximate argument must be either none or tanh.")
    return cast(y, input.dtype)


def _gelu_vjp(g: Any, out: Any, input: Any, approximate: str = "none") -> tuple[Any, ...]:
    x, wide = widen(input), widen(g)
    if approximate == "none":
        slope = (erf(x * _SQRT_HALF) + 1.0) * 0.5 + x * exp(x * x * -0.5) * _INV_SQRT_2PI
    else:
        square = x * x
        t = tanh((x + square * x * _CUBIC) * _SQRT_2_OVER_PI)
        inner = (square * (3 * _CUBIC) + 1.0) * _SQRT_2_OVER_PI
        slope = (t + 1.0) * 0.5 + x * (1.0 - t * t) * inner * 0.5
    return cast(wide * slope, g.dtype), None


gelu.vjp(_gelu_vjp, saves="input")


@composite(keep=True, inplace=True, method=False, public=False, functional=True)
def silu(input: Tensor) -> Tensor:
    """x * sigmoid(x).

    Reference:
        Elfwing, Uchibe and Doya, Sigmoid-weighted linear units (arXiv:1702.03118).
    """
    floats_only("silu_cpu", input)
    x = widen(input)
    return cast(x * sigmoid(x), input.dtype)


def _silu_vjp(g: Any, out: Any, input: Any) -> tuple[Any, ...]:
    x, wide = widen(input), widen(g)
    s = sigmoid(x)
    return (cast(wide * (s * (x * (1.0 - s) + 1.0)), g.dtype),)


silu.vjp(_silu_vjp, saves="input")


# -- the softmax family ----------------------------------------------------------------------------


@composite(keep=True, method=False, public=False)
def _softmax(input: Tensor, dim: int) -> Tensor:
    """exp(x - max) / sum(exp(x - max)) along one dimension."""
    floats_only("softmax_lastdim_kernel_impl", input)
    if not input.numel() or not input.ndim:
        return exp(input - input)  # type: ignore[no-any-return]
    x = widen(input)
    axes = (dim,)
    e = exp(x - restore(max_axes(x, axes), x._shape, axes, True))
    return cast(e / restore(sum_axes(e, axes), x._shape, axes, True), input.dtype)


def _softmax_vjp(g: Any, out: Any, input: Any, dim: int) -> tuple[Any, ...]:
    if not out.ndim:
        return g * 0.0, None
    g, y, axes = widen(g), widen(out), (dim,)
    total = restore(sum_axes(g * y, axes), y._shape, axes, True)
    return cast((g - total) * y, out.dtype), None


_softmax.vjp(_softmax_vjp, saves="out")


@composite(keep=True, method=False, public=False)
def _log_softmax(input: Tensor, dim: int) -> Tensor:
    """x - max - log(sum(exp(x - max))) along one dimension."""
    floats_only("log_softmax_lastdim_kernel_impl", input)
    if not input.numel() or not input.ndim:
        return input - input
    x = widen(input)
    axes = (dim,)
    shifted = x - restore(max_axes(x, axes), x._shape, axes, True)
    total = restore(sum_axes(exp(shifted), axes), x._shape, axes, True)
    return cast(shifted - log(total), input.dtype)


def _log_softmax_vjp(g: Any, out: Any, input: Any, dim: int) -> tuple[Any, ...]:
    if not out.ndim:
        return g * 0.0, None
    g, y, axes = widen(g), widen(out), (dim,)
    total = restore(sum_axes(g, axes), y._shape, axes, True)
    return cast(g - exp(y) * total, out.dtype), None


_log_softmax.vjp(_log_softmax_vjp, saves="out")


def _along(input: Tensor, dim: int, dtype: DType | None) -> tuple[Tensor, int]:
    if dtype is not None and dtype is not input.dtype:
        input = to_dtype(input, dtype)
    return input, wrap_dim(dim, input.ndim)


@composite(aliases=("special_softmax",))
def softmax(input: Tensor, dim: int, dtype: DType | None = None) -> Tensor:
    """exp(x) / sum(exp(x)) along one dimension.

    Args:
        dim: the dimension that sums to 1.
        dtype: convert the input first.

    Raises:
        NotImplementedError: integers without `dtype`.
    """
    return _softmax(*_along(input, dim, dtype))  # type: ignore[no-any-return]


@composite(aliases=("special_log_softmax",))
def log_softmax(input: Tensor, dim: int, dtype: DType | None = None) -> Tensor:
    """log(softmax(x)) along one dimension, without under- or overflow.

    Args:
        dim: the dimension whose exponentials sum to 1.
        dtype: convert the input first.
    """
    return _log_softmax(*_along(input, dim, dtype))  # type: ignore[no-any-return]


def _implicit_dim(name: str, dim: int | None, ndim: int, level: int) -> int:
    if dim is not None:
        return dim
    warnings.warn(f"Implicit dimension choice for {name} has been deprecated. Change the call to "
                  "include dim=X as an argument.", stacklevel=level)
    return 0 if ndim in (0, 1, 3) else 1


@functional("softmax")
def _functional_softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3,
                        dtype: DType | None = None) -> Tensor:
    """exp(x) / sum(exp(x)) along one dimension."""
    return softmax(input, _implicit_dim("softmax", dim, input.ndim, _stacklevel),  # type: ignore
                   dtype)


@functional("log_softmax")
def _functional_log_softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3,
                            dtype: DType | None = None) -> Tensor:
    """log(softmax(x)) along one dimension."""
    return log_softmax(input, _implicit_dim("log_softmax", dim, input.ndim,  # type: ignore
                                            _stacklevel), dtype)


@functional("softmin")
def _functional_softmin(input: Tensor, dim: int | None = None, _stacklevel: int = 3,
                        dtype: DType | None = None) -> Tensor:
    """softmax(-x) along one dimension."""
    return softmax(-input, _implicit_dim("softmin", dim, input.ndim, _stacklevel),  # type: ignore
                   dtype)
