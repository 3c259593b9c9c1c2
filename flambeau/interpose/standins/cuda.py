"""``torch.cuda`` on a machine whose CUDA devices flambeau does not drive: there are none."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NoReturn

_NONE = "flambeau has no CUDA device here (torch.cuda.is_available() is False)"


def is_available() -> bool:
    """False."""
    return False


def is_initialized() -> bool:
    """False."""
    return False


def device_count() -> int:
    """0."""
    return 0


def is_bf16_supported(including_emulation: bool = True) -> bool:
    """False."""
    return False


def is_current_stream_capturing() -> bool:
    """False."""
    return False


def _refuse(*args: Any, **options: Any) -> NoReturn:
    raise RuntimeError(_NONE)


current_device = current_stream = default_stream = get_device_name = init = _refuse
get_device_capability = get_device_properties = set_device = mem_get_info = synchronize = _refuse


def _nothing(*args: Any, **options: Any) -> None:
    """As in torch, seeds and cache calls are ignored where there is no device."""


manual_seed = manual_seed_all = seed = seed_all = empty_cache = ipc_collect = _nothing
reset_peak_memory_stats = reset_max_memory_allocated = set_rng_state_all = _nothing


def get_rng_state_all() -> list[Any]:
    """No states, for there are no devices."""
    return []


def get_arch_list() -> list[str]:
    """No architectures."""
    return []


def memory_allocated(device: Any = None) -> int:
    """0 bytes."""
    return 0


max_memory_allocated = memory_reserved = max_memory_reserved = memory_allocated


def memory_stats(device: Any = None) -> dict[str, int]:
    """No statistics."""
    return {}


class device:
    """``with torch.cuda.device(i)``: nothing happens for None or -1, others do not exist."""

    def __init__(self, device: Any) -> None:
        if device not in (None, -1):
            _refuse()

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        pass


@contextlib.contextmanager
def stream(stream: Any) -> Iterator[None]:
    """``with torch.cuda.stream(None)``: nothing happens."""
    if stream is not None:
        _refuse()
    yield


OutOfMemoryError = type("OutOfMemoryError", (RuntimeError,), {})
