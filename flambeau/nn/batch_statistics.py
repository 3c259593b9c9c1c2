"""Normalization by the statistics of the batch, as functions."""

from __future__ import annotations

import math
from typing import Any

import flambeau


def _update(running: Any, value: Any, momentum: float) -> None:
    """``running <- (1 - momentum) running + momentum value``."""
    if running is not None:
        running.mul_(1 - momentum).add_(value.detach().to(running.dtype), alpha=momentum)


def batch_norm(
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """``(x - mean) / sqrt(var + eps) * weight + bias``, one mean and variance a channel.

    Args:
        input: ``(N, C, ...)``.
        running_mean: ``(C)`` or None; updated in place while training.
        running_var: ``(C)`` or None; updated with the unbiased variance.
        weight: ``(C)`` or None.
        bias: ``(C)`` or None.
        training: use the batch's own statistics.
        momentum: weight of the batch in the running statistics.
        eps: added to the variance.

    Returns:
        The normalized input.

    Raises:
        ValueError: a channel has a single value while training, or ``eps`` is out of range.

    Reference:
        Ioffe and Szegedy, Batch Normalization (arXiv:1502.03167), algorithm 1.
    """
    channels = input.shape[1]
    count = input.numel() // channels if channels else 0
    if training and math.prod((input.shape[0], *input.shape[2:])) == 1:
        raise ValueError(
            f"Expected more than 1 value per channel when training, got input size {input.shape}"
        )
    if training and eps <= 0.0:
        raise ValueError(f"batch_norm eps must be positive during training, but got {eps}")
    if eps < 0.0:
        raise ValueError(f"batch_norm eps must be non-negative, but got {eps}")
    shape = (1, channels, *[1] * (input.dim() - 2))
    # Statistics of half-precision input are taken in float32, as everywhere.
    half = input.dtype in (flambeau.float16, flambeau.bfloat16)
    x = input.float() if half else input
    if training:
        dims = [d for d in range(input.dim()) if d != 1]
        mean = x.mean(dims)
        centered = x - mean.view(shape)
        var = (centered * centered).mean(dims)
        with flambeau.no_grad():
            _update(running_mean, mean, momentum)
            _update(running_var, var * (count / max(count - 1, 1)), momentum)
    else:
        if running_mean is None or running_var is None:
            raise RuntimeError("running_mean and running_var must be given in evaluation mode")
        mean, var = running_mean, running_var
        centered = x - mean.view(shape)
    scale = (var + eps).rsqrt()
    if weight is not None:
        scale = scale * weight
    result = centered * scale.view(shape)
    if bias is not None:
        result = result + bias.view(shape)
    return result.to(input.dtype)
