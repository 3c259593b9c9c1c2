"""``torch._C._nn``: functions of layers, and how the arguments of ``to`` are read."""

from __future__ import annotations

from typing import Any

from flambeau.nn.conversion import _parse_to as _read
from flambeau.nn.functional import *  # noqa: F403 (torch's functions are these)


def _parse_to(*args: Any, **kwargs: Any) -> tuple[Any, Any, bool, Any]:
    """Device, dtype, ``non_blocking`` and the memory format from the arguments of ``to``."""
    memory_format = kwargs.get("memory_format")
    return (*_read(*args, **kwargs), memory_format)
