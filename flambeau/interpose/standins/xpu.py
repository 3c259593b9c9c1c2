"""``torch.xpu``: there is no such device here."""

from __future__ import annotations

from typing import Any


def is_available() -> bool:
    """False."""
    return False


def device_count() -> int:
    """0."""
    return 0


def manual_seed_all(seed: int) -> None:
    """Nothing, for there are no devices."""


def empty_cache() -> None:
    """Nothing, for there is no cache."""


def memory_allocated(device: Any = None) -> int:
    """0 bytes."""
    return 0
