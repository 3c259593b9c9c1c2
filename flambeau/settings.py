"""Switches of the whole process that programs for torch set; most have nothing to change here."""

from __future__ import annotations

import warnings
from typing import Any

from flambeau.tensor import Tensor

_state: dict[str, Any] = {
    "deterministic": False,
    "warn_only": False,
    "precision": "highest",
    "interop": 1,
    "warn_always": False,
}


def use_deterministic_algorithms(mode: bool, *, warn_only: bool = False) -> None:
    """Ask for results that repeat bit for bit; they always do here."""
    _state.update(deterministic=bool(mode), warn_only=bool(warn_only))


def are_deterministic_algorithms_enabled() -> bool:
    """What `use_deterministic_algorithms` was told."""
    return bool(_state["deterministic"])


def is_deterministic_algorithms_warn_only_enabled() -> bool:
    """Whether an algorithm that does not repeat would only warn."""
    return bool(_state["warn_only"])


def set_deterministic_debug_mode(debug_mode: int | str) -> None:
    """ "default", "warn" or "error" (0, 1, 2), as `use_deterministic_algorithms`."""
    modes = {"default": 0, "warn": 1, "error": 2}
    mode = modes.get(debug_mode) if isinstance(debug_mode, str) else debug_mode
    if mode not in (0, 1, 2):
        raise RuntimeError(
            "invalid value of debug_mode, expected 0, 1, 2 or `default`, `warn`, "
            f"`error`, but got {debug_mode}"
        )
    use_deterministic_algorithms(mode > 0, warn_only=mode == 1)


def get_deterministic_debug_mode() -> int:
    """0, 1 or 2, as `set_deterministic_debug_mode`."""
    return (1 if _state["warn_only"] else 2) if _state["deterministic"] else 0


def set_float32_matmul_precision(precision: str) -> None:
    """ "highest", "high" or "medium"; products of float32 are always exact here."""
    if precision not in ("highest", "high", "medium"):
        raise RuntimeError(f"{precision} is not one of 'highest', 'high', or 'medium'")
    _state["precision"] = precision


def get_float32_matmul_precision() -> str:
    """What `set_float32_matmul_precision` was told."""
    return str(_state["precision"])


def get_num_interop_threads() -> int:
    """Threads that run different operations at the same time: a program is run by one."""
    return int(_state["interop"])


def set_num_interop_threads(num_threads: int) -> None:
    """Remembered; a program is run by one thread, whose loops are parallel."""
    if num_threads <= 0:
        raise RuntimeError("set_num_interop_threads expects a positive integer")
    _state["interop"] = int(num_threads)


def set_flush_denormal(mode: bool) -> bool:
    """Whether denormal numbers could be flushed to zero: they never are, so False."""
    return False


def set_warn_always(b: bool) -> None:
    """Whether warnings that are given once are given each time."""
    _state["warn_always"] = bool(b)
    if b:
        warnings.simplefilter("always", UserWarning)


def is_warn_always_enabled() -> bool:
    """What `set_warn_always` was told."""
    return bool(_state["warn_always"])


def typename(obj: Any, /) -> str:
    """The type's name; of a tensor such as "torch.FloatTensor"."""
    if isinstance(obj, Tensor):
        return str(obj.type())
    kind = obj if hasattr(obj, "__qualname__") else type(obj)
    module = getattr(kind, "__module__", None) or ""
    return kind.__qualname__ if module in ("", "builtins") else f"{module}.{kind.__qualname__}"


def is_storage(obj: Any, /) -> bool:
    """Whether an object is a storage."""
    return type(obj).__name__ in ("UntypedStorage", "TypedStorage")
