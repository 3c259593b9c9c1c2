"""Layers and the batch norm that follows them as one layer, for evaluation."""

from __future__ import annotations

import copy
from typing import Any

import flambeau
from flambeau.nn.parameter import Parameter


def _scale_and_shift(
    mean: Any, var: Any, eps: float, weight: Any, bias: Any, like: Any
) -> tuple[Any, Any]:
    """What a batch norm multiplies with and what it adds, of its statistics and parameters."""
    scale = flambeau.rsqrt(var + eps) * (flambeau.ones_like(mean) if weight is None else weight)
    shift = (flambeau.zeros_like(mean) if bias is None else bias) - mean * scale
    return scale.to(like.dtype), shift.to(like.dtype)


def _fused(
    kind: str, w: Any, b: Any, mean: Any, var: Any, eps: float, bn_w: Any, bn_b: Any, dim: int
) -> tuple[Any, Any]:
    scale, shift = _scale_and_shift(mean, var, eps, bn_w, bn_b, w)
    shape = [1] * w.ndim
    shape[dim] = -1
    if w.shape[dim] % scale.numel():
        raise ValueError(
            f"To fuse, {kind}.out_features == bn.num_features or bn.num_features == 1, got "
            f"{w.shape[dim]} and {scale.numel()}"
        )
    bias = shift if b is None else b * scale + shift
    return (
        Parameter(w * scale.reshape(shape), w.requires_grad),
        Parameter(bias, w.requires_grad if b is None else b.requires_grad),
    )


def fuse_conv_bn_weights(
    conv_w: Any,
    conv_b: Any,
    bn_rm: Any,
    bn_rv: Any,
    bn_eps: float,
    bn_w: Any,
    bn_b: Any,
    transpose: bool = False,
) -> tuple[Any, Any]:
    """Weight and bias of a convolution that does what a batch norm after it does.

    Args:
        conv_w: the convolution's weight; its output channels are dimension 1 if `transpose`.
        conv_b: its bias, or None.
        bn_rm: running mean (C,).
        bn_rv: running variance (C,).
        bn_eps: added to the variance.
        bn_w: the norm's weight, or None for ones.
        bn_b: the norm's bias, or None for zeros.
        transpose: whether the convolution is a transposed one.
    """
    return _fused("conv", conv_w, conv_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b, int(transpose))


def fuse_linear_bn_weights(
    linear_w: Any, linear_b: Any, bn_rm: Any, bn_rv: Any, bn_eps: float, bn_w: Any, bn_b: Any
) -> tuple[Any, Any]:
    """Weight and bias of a linear layer that does what a batch norm after it does.

    Args:
        linear_w: (out, in).
        linear_b: (out,), or None.
        bn_rm: running mean.
        bn_rv: running variance.
        bn_eps: added to the variance.
        bn_w: the norm's weight, or None for ones.
        bn_b: the norm's bias, or None for zeros.
    """
    return _fused("linear", linear_w, linear_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b, 0)


def _checked(layer: Any, bn: Any) -> Any:
    if layer.training or bn.training:
        raise AssertionError("Fusion only for eval!")
    if bn.running_mean is None or bn.running_var is None:
        raise AssertionError("the batch norm has no running statistics")
    return copy.deepcopy(layer)


def _statistics(bn: Any) -> tuple[Any, Any, Any, Any, Any]:
    return bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias


def fuse_conv_bn_eval(conv: Any, bn: Any, transpose: bool = False) -> Any:
    """A copy of a convolution that does what a batch norm after it does, in evaluation.

    Raises:
        AssertionError: one of them is in training, or the norm keeps no statistics.
    """
    fused = _checked(conv, bn)
    fused.weight, fused.bias = fuse_conv_bn_weights(
        fused.weight, fused.bias, *_statistics(bn), transpose
    )
    return fused


def fuse_linear_bn_eval(linear: Any, bn: Any) -> Any:
    """A copy of a linear layer that does what a batch norm after it does, in evaluation.

    Raises:
        AssertionError: one of them is in training, or the norm keeps no statistics, or has another
            number of features than the layer.
    """
    fused = _checked(linear, bn)
    if bn.num_features not in (1, linear.out_features):
        raise AssertionError(
            "To fuse, linear.out_features == bn.num_features or bn.num_features == 1"
        )
    fused.weight, fused.bias = fuse_linear_bn_weights(fused.weight, fused.bias, *_statistics(bn))
    return fused
