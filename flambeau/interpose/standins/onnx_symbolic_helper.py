"""``torch.onnx.symbolic_helper``: decorators of what libraries register for the exporter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def parse_args(*arg_descriptors: str) -> Callable[[Any], Any]:
    """A decorator that leaves a function as it is."""
    return lambda fn: fn
