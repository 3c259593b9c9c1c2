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


def empty_cache() -> None:
    """Nothing is kept."""


def memory_stats(device_index: Any = None, /) -> dict[str, Any]:
    """Empty."""
    return {}


def memory_allocated(device_index: Any = None, /) -> int:
    """0 bytes."""
    return 0


max_memory_allocated = memory_reserved = max_memory_reserved = memory_allocated


def reset_peak_memory_stats(device_index: Any = None, /) -> None:
    """Nothing is counted."""


reset_accumulated_memory_stats = reset_peak_memory_stats
current_device_index = current_device_idx = current_stream = synchronize
set_device_index = set_device_idx = set_stream = synchronize
