"""``torch.mps``: there is no such device here."""

from __future__ import annotations


def is_available() -> bool:
    """False."""
    return False


def device_count() -> int:
    """0."""
    return 0


def manual_seed(seed: int) -> None:
    """Nothing, for there is no device."""


def empty_cache() -> None:
    """Nothing, for there is no cache."""
