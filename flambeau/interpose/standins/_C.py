"""``torch._C``: the few names of torch's compiled part that libraries written in Python touch."""

from __future__ import annotations

import flambeau
from flambeau.interpose.standins import _C__nn as _nn

__all__ = ["_nn"]

_TensorMeta = type(flambeau.Tensor)
_TensorBase = TensorBase = flambeau.Tensor
device = flambeau.device
dtype = flambeau.dtype
Size = flambeau.Size
Generator = flambeau.Generator


def _log_api_usage_once(event: str) -> None:
    """Nothing is logged."""


def _get_accelerator(check: bool = False) -> flambeau.device:
    """The CPU: there is no accelerator."""
    return flambeau.device("cpu")
