"""Parameters as one vector, and back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import flambeau
from flambeau.nn.parameter import typename


def _check_devices(params: list[Any]) -> None:
    if any(p.device != params[0].device for p in params):
        raise TypeError(
            "Found two parameters on different devices, this is currently not supported."
        )


def parameters_to_vector(parameters: Iterable[Any]) -> Any:
    """All parameters, flattened and joined.

    Args:
        parameters: tensors on one device.

    Returns:
        A vector; gradients flow through it.

    Raises:
        TypeError: the devices differ.
    """
    params = list(parameters)
    _check_devices(params)
    return flambeau.cat([p.view(-1) for p in params])


def vector_to_parameters(vec: Any, parameters: Iterable[Any]) -> None:
    """Put the parts of a vector in place of the parameters' values.

    Args:
        vec: as from :func:`parameters_to_vector`; the parameters become views of it.
        parameters: tensors on one device.

    Raises:
        TypeError: ``vec`` is not a tensor, or the devices differ.
    """
    if not isinstance(vec, flambeau.Tensor):
        raise TypeError(f"expected torch.Tensor, but got: {typename(vec)}")
    params = list(parameters)
    _check_devices(params)
    start = 0
    for param in params:
        end = start + param.numel()
        param.data = vec[start:end].view_as(param).data
        start = end
