"""Modules made without initialising their parameters."""

from __future__ import annotations

import inspect
from typing import Any

import flambeau


def skip_init(module_cls: type[Any], *args: Any, **kwargs: Any) -> Any:
    """A module whose parameters have memory, but no values yet.

    Args:
        module_cls: takes `device`.
        args, kwargs: of its constructor.

    Raises:
        RuntimeError: it is no class of modules, or takes no device.
    """
    if not issubclass(module_cls, flambeau.nn.Module):
        raise RuntimeError(f"Expected a Module; got {module_cls}")
    if "device" not in inspect.signature(module_cls).parameters:
        raise RuntimeError("Module must support a 'device' arg to skip initialization")
    final = kwargs.pop("device", "cpu")
    return module_cls(*args, device="meta", **kwargs).to_empty(device=final)
