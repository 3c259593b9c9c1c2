"""Bounds for gradients."""

from __future__ import annotations

import math
import types
import warnings
from collections.abc import Iterable
from typing import Any

import flambeau


def _as_list(tensors: Any) -> list[Any]:
    return [tensors] if isinstance(tensors, flambeau.Tensor) else list(tensors)


def _norm(t: Any, order: float) -> Any:
    """``(sum |x|^p)^(1/p)`` of all values; half-precision values are summed in float32."""
    x = t.float() if t.dtype in (flambeau.float16, flambeau.bfloat16) else t
    if order == 2.0:
        found = (x * x).sum().sqrt()
    elif order == 1.0:
        found = x.abs().sum()
    elif order == 0.0:
        found = (x != 0).sum().to(x.dtype)
    elif math.isinf(order):
        found = x.abs().amax() if order > 0 else x.abs().amin()
    else:
        found = (x.abs() ** order).sum() ** (1.0 / order)
    return found.to(t.dtype)


def get_total_norm(
    tensors: Iterable[Any] | Any,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Any:
    """The norm of all tensors taken together, as if they were one vector.

    Args:
        tensors: a tensor or an iterable of them.
        norm_type: the norm's exponent, or ``inf``.
        error_if_nonfinite: raise when the norm is infinite or NaN; this waits for its value.
        foreach: accepted; all norms are one program in any case.

    Returns:
        A 0-d tensor on the first tensor's device.

    Raises:
        RuntimeError: the norm is not finite, with ``error_if_nonfinite``.
    """
    tensors = _as_list(tensors)
    norm_type = float(norm_type)
    if not tensors:
        return flambeau.tensor(0.0)
    device = tensors[0].device
    with flambeau.no_grad():
        norms = [_norm(t, norm_type).to(device) for t in tensors]
        total = _norm(flambeau.stack(norms), norm_type)
    if error_if_nonfinite and not bool(flambeau.isfinite(total)):
        raise RuntimeError(
            f"The total norm of order {norm_type} for gradients from `parameters` is non-finite,"
            " so it cannot be clipped. To disable this error and scale the gradients by the"
            " non-finite norm anyway, set `error_if_nonfinite=False`"
        )
    return total


def clip_grads_with_norm_(
    parameters: Iterable[Any] | Any,
    max_norm: float,
    total_norm: Any,
    foreach: bool | None = None,
) -> None:
    """Multiply the gradients by ``min(1, max_norm / (total_norm + 1e-6))``.

    Args:
        parameters: a tensor or an iterable of them; those without gradient are left out.
        max_norm: the bound.
        total_norm: the norm they have now.
        foreach: accepted; see :func:`get_total_norm`.
    """
    grads = [p.grad for p in _as_list(parameters) if p.grad is not None]
    if not grads:
        return
    with flambeau.no_grad():
        # Always multiplied, so that nothing has to wait for the norm's value.
        scale = flambeau.clamp(float(max_norm) / (total_norm + 1e-6), max=1.0)
        for grad in grads:
            grad.mul_(scale.to(grad.device))


def clip_grad_norm_(
    parameters: Iterable[Any] | Any,
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Any:
    """Scale the gradients down so that the norm of all together is at most ``max_norm``.

    Args:
        parameters: a tensor or an iterable of them; those without gradient are left out.
        max_norm: the bound.
        norm_type: the norm's exponent, or ``inf``.
        error_if_nonfinite: raise when the norm is infinite or NaN.
        foreach: accepted; see :func:`get_total_norm`.

    Returns:
        The norm before, a 0-d tensor.

    Raises:
        RuntimeError: the norm is not finite, with ``error_if_nonfinite``.

    Reference:
        Pascanu et al., On the difficulty of training recurrent neural networks
        (arXiv:1211.5063), algorithm 1.
    """
    is_generator = isinstance(parameters, types.GeneratorType)
    parameters = _as_list(parameters)
    if is_generator and not parameters:
        warnings.warn(
            "`parameters` is an empty generator, no gradient clipping will occur.", stacklevel=2
        )
    grads = [p.grad for p in parameters if p.grad is not None]
    total_norm = get_total_norm(grads, norm_type, error_if_nonfinite, foreach)
    clip_grads_with_norm_(parameters, max_norm, total_norm, foreach)
    return total_norm


def clip_grad_norm(
    parameters: Iterable[Any] | Any,
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Any:
    """The older name of :func:`clip_grad_norm_`."""
    warnings.warn(
        "`torch.nn.utils.clip_grad_norm` is now deprecated in favor of"
        " `torch.nn.utils.clip_grad_norm_`.",
        FutureWarning,
        stacklevel=2,
    )
    return clip_grad_norm_(parameters, max_norm, norm_type, error_if_nonfinite, foreach)


def clip_grad_value_(
    parameters: Iterable[Any] | Any, clip_value: float, foreach: bool | None = None
) -> None:
    """Cut every value of the gradients to ``[-clip_value, clip_value]``.

    Args:
        parameters: a tensor or an iterable of them; those without gradient are left out.
        clip_value: the bound.
        foreach: accepted; see :func:`get_total_norm`.
    """
    clip_value = float(clip_value)
    with flambeau.no_grad():
        for param in _as_list(parameters):
            if param.grad is not None:
                param.grad.clamp_(min=-clip_value, max=clip_value)
