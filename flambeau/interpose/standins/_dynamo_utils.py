"""``torch._dynamo.utils``: what libraries ask before they choose how to compute."""

from __future__ import annotations

from typing import Any


def is_compile_supported(device_type: Any) -> bool:
    """False: a fast path through a compiler of Python code is not offered."""
    return False
