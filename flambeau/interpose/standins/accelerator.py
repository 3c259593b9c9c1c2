"""``torch.accelerator``: there is none here."""

from __future__ import annotations

from typing import Any, NoReturn


def is_available() -> bool:
    """False."""
    return False


def device_count() -> int:
    """0."""
    return 0


def current_accelerator(check_available: bool = False) -> None:
    """None."""
    return None


def synchronize(device: Any = None) -> NoReturn:
    """Raises: there is nothing to wait for."""
    raise RuntimeError("Cannot access accelerator device when none is available.")
