"""Bounds for gradients."""

from __future__ import annotations

import functools
import math
import types
import warnings
from collections.abc import Iterable
from typing import Any

import flambeau


def _as_list(tensors: Any) -> list[Any]:
    return [tensors] if isinstance(tensors, flambeau.Tensor) else list(tensors)


def _power(t: Any, order: float) -> Any:
    """``sum |x|^p``, or the extreme of an infinite order; of half-precision values in float32."""
    x = t.float() if t.dtype in (flambeau.float16, flambeau.bfloat16) else t
    if order == 2.0:
        return (x * x).sum()
    if order == 1.0:
        return x.abs().sum()
    if order == 0.0:
        return (x != 0).sum().to(x.dtype)
    if math.isinf(order):
        return x.abs().amax() if order > 0 else x.abs().amin()
    return (x.abs() ** order).sum()


def _joined(tensors: list[Any], order: float) -> Any:
    """The norm of tensors on one mesh of ranks, or on none: sums over ranks are sent once."""
    device = tensors[0].device
    found = [_power(t, order) for t in tensors]
    powers = flambeau.stack([p if p.device == device else p.to(device) for p in found])
    if order == 0.0 or math.isinf(order):
        return _power(powers, order)
    total = powers.sum()
    return total.sqrt() if order == 2.0 else total ** (1.0 / order)


def get_total_norm(
    tensors: Iterable[Any] | Any,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Any:
    """The norm of all tensors taken together, as if they were one vector.

    Args:
        tensors: a tensor or an iterable of them. Of those that are cut over ranks all parts count.
        norm_type: the norm's exponent, or ``inf``.
        error_if_nonfinite: raise when the norm is infinite or NaN; this waits for its value.
        foreach: accepted; all norms are one program in any case.

    Returns:
        A 0-d tensor on the first tensor's device; a ``DTensor`` where all tensors are, on one mesh.

    Raises:
        RuntimeError: the norm is not finite, with ``error_if_nonfinite``.
    """
    tensors = _as_list(tensors)
    norm_type = float(norm_type)
    if not tensors:
        return flambeau.tensor(0.0)
    dtype = functools.reduce(flambeau.promote_types, [t.dtype for t in tensors])
    meshes: dict[Any, list[Any]] = {}
    for t in tensors:
        # asked of the type: asking a tensor for what it has not is slow where torch is answered for
        mesh = t.device_mesh if hasattr(type(t), "device_mesh") else None
        meshes.setdefault(mesh, []).append(t)
    with flambeau.no_grad():
        totals = [_joined(members, norm_type) for members in meshes.values()]
        if len(totals) > 1:
            totals = [t.full_tensor() if hasattr(t, "full_tensor") else t for t in totals]
        total = (totals[0] if len(totals) == 1 else _joined(totals, norm_type)).to(dtype)
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
