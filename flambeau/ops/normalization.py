"""Normalization over trailing dimensions, groups, batches and neighbourhoods."""

from __future__ import annotations

import math
from typing import Any

from flambeau.dtype import finfo, float32
from flambeau.ops.activation import floats_only
from flambeau.ops.elementwise import rsqrt
from flambeau.ops.movement import expand_to, sum_to
from flambeau.ops.precision import cast, widen
from flambeau.ops.reduction import restore, sum_axes
from flambeau.ops.table import composite
from flambeau.tensor import Tensor


def _row_mean(x: Tensor, axes: tuple[int, ...], count: int) -> Tensor:
    """Mean over axes, which are kept with size 1."""
    return restore(sum_axes(x, axes), x._shape, axes, True) * (1.0 / max(count, 1))


def _trailing(ndim: int, normalized_shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(range(ndim - len(normalized_shape), ndim))


def _check_layer(input: Tensor, normalized_shape: tuple[int, ...], weight: Any, bias: Any) -> None:
    if not normalized_shape:
        raise RuntimeError("Expected normalized_shape to be at least 1-dimensional, i.e., "
                           "containing at least one element, but got normalized_shape = []")
    for name, given in (("weight", weight), ("bias", bias)):
        if given is not None and given._shape != normalized_shape:
            raise RuntimeError(
                f"Expected {name} to be of same shape as normalized_shape, but got {name} of shape "
                f"{list(given.shape)} and normalized_shape = {list(normalized_shape)}")
    if input._shape[-len(normalized_shape):] != normalized_shape:
        wanted = ", ".join(["*", *map(str, normalized_shape)])
        raise RuntimeError(f"Given normalized_shape={list(normalized_shape)}, expected input with "
                           f"shape [{wanted}], but got input of size{list(input.shape)}")


# -- layer norm ------------------------------------------------------------------------------------


@composite(keep=True, method=False, public=False)
def _native_layer_norm(input: Tensor, normalized_shape: tuple[int, ...], weight: Any, bias: Any,
                       eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """`layer_norm` and the mean and 1 / sqrt(var + eps) of every row, in float32 for half types."""
    floats_only("LayerNormKernelImpl", input)
    _check_layer(input, normalized_shape, weight, bias)
    axes = _trailing(input.ndim, normalized_shape)
    count = math.prod(normalized_shape)
    x = widen(input)
    mean = _row_mean(x, axes, count)
    centered = x - mean
    rstd = rsqrt(_row_mean(centered * centered, axes, count) + eps)
    y = centered * rstd
    if weight is not None:
        y = y * widen(weight)
    if bias is not None:
        y = y + widen(bias)
    return cast(y, input.dtype), mean, rstd


def _layer_norm_vjp(g: Any, outs: Any, input: Any, normalized_shape: Any, weight: Any, bias: Any,
                    eps: float) -> tuple[Any, ...]:
    g_out, g_mean, g_rstd = g
    _, mean, rstd = outs
    axes = _trailing(input.ndim, normalized_shape)
    count = math.prod(normalized_shape)
    normal = (widen(input) - mean) * rstd
    g_input = g_weight = g_bias = None
    if g_out is not None:
        wide = widen(g_out)
        scaled = wide if weight is None else wide * widen(weight)
        g_input = rstd * (scaled - _row_mean(scaled, axes, count)
                          - normal * _row_mean(scaled * normal, axes, count))
        if weight is not None and weight.requires_grad:
            g_weight = cast(sum_to(wide * normal, tuple(weight.shape)), weight.dtype)
        if bias is not None and bias.requires_grad:
            g_bias = cast(sum_to(wide, tuple(bias.shape)), bias.dtype)
    # the statistics carry cotangents when this rule is itself differentiated
    for extra in (g_mean, None if g_rstd is None else -g_rstd * rstd * rstd * normal):
        if extra is not None:
            part = expand_to(extra * (1.0 / max(count, 1)), normal._shape)
            g_input = part if g_input is None else g_input + part
    return cast(g_input, input.dtype), None, g_weight, g_bias, None


_native_layer_norm.vjp(_layer_norm_vjp, saves="input weight out1 out2")


@composite(method=False)
def native_layer_norm(input: Tensor, normalized_shape: Any, weight: Tensor | None,
                      bias: Tensor | None, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """`layer_norm`, and the mean and 1 / sqrt(var + eps) of every row without gradients."""
    out, mean, rstd = _native_layer_norm(input, tuple(normalized_shape), weight, bias, eps)
    return out, mean.detach(), rstd.detach()


@composite(method=False, functional=True)
def layer_norm(input: Tensor, normalized_shape: Any, weight: Tensor | None = None,
               bias: Tensor | None = None, eps: float = 1e-5, cudnn_enable: bool = True) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias over the trailing dimensions.

    Args:
        input: (*, *normalized_shape).
        normalized_shape: sizes of the dimensions that are normalized together.
        weight: of shape normalized_shape, or None.
        bias: likewise.
        eps: added to the (biased) variance.

    Raises:
        RuntimeError: sizes that do not fit.

    Reference:
        Ba, Kiros and Hinton, Layer Normalization (arXiv:1607.06450).
    """
    sizes = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    return _native_layer_norm(input, sizes, weight, bias, eps)[0]  # type: ignore[no-any-return]


# -- RMS norm --------------------------------------------------------------------------------------


@composite(keep=True, method=False, public=False)
def _fused_rms_norm(input: Tensor, normalized_shape: tuple[int, ...], weight: Any, eps: float
                    ) -> tuple[Tensor, Tensor]:
    """`rms_norm` and the 1 / sqrt(mean(x^2) + eps) of every row."""
    floats_only("rms_norm", input)
    _check_layer(input, normalized_shape, weight, None)
    axes = _trailing(input.ndim, normalized_shape)
    x = widen(input)
    rstd = rsqrt(_row_mean(x * x, axes, math.prod(normalized_shape)) + eps)
    y = x * rstd
    if weight is not None:
        y = y * widen(weight)
    return cast(y, input.dtype), rstd


def _rms_norm_vjp(g: Any, outs: Any, input: Any, normalized_shape: Any, weight: Any, eps: float
                  ) -> tuple[Any, ...]:
    g_out, g_rstd = g
    rstd = outs[1]
    axes = _trailing(input.ndim, normalized_shape)
    count = math.prod(normalized_shape)
    normal = widen(input) * rstd
    g_input = g_weight = None
    if g_out is not None:
        wide = widen(g_out)
        scaled = wide if weight is None else wide * widen(weight)
        g_input = rstd * (scaled - normal * _row_mean(scaled * normal, axes, count))
        if weight is not None and weight.requires_grad:
            g_weight = cast(sum_to(wide * normal, tuple(weight.shape)), weight.dtype)
    if g_rstd is not None:
        part = -g_rstd * rstd * rstd * normal * (1.0 / max(count, 1))
        g_input = part if g_input is None else g_input + part
    return cast(g_input, input.dtype), None, g_weight, None


_fused_rms_norm.vjp(_rms_norm_vjp, saves="input weight out1")


@composite(method=False, functional=True)
def rms_norm(input: Tensor, normalized_shape: Any, weight: Tensor | None = None,
             eps: float | None = None) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the trailing dimensions.

    Args:
        input: (*, *normalized_shape).
        normalized_shape: sizes of the dimensions that are normalized together.
        weight: of shape normalized_shape, or None.
        eps: by default the machine epsilon of the input's dtype (of float32 for half types).

    Reference:
        Zhang and Sennrich, Root Mean Square Layer Normalization (arXiv:1910.07467).
    """
    sizes = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if eps is None:
        eps = finfo(float32 if input.dtype.itemsize < 4 else input.dtype).eps
    return _fused_rms_norm(input, sizes, weight, eps)[0]  # type: ignore[no-any-return]
