"""Devices. A device is a name and an index; what runs on it lives in `runtime/`."""

from __future__ import annotations

import threading
from typing import Any

TYPES = ("cpu", "cuda", "xpu", "mps", "meta")
_default = threading.local()


class device:
    """Where a tensor lives: `device("cpu")`, `device("cuda", 1)`, `device("cuda:1")`.

    Raises:
        RuntimeError: unknown device type or malformed index.
    """

    __slots__ = ("type", "index")
    type: str
    index: int | None

    def __init__(self, type: Any, index: int | None = None) -> None:
        if isinstance(type, device):
            type, index = type.type, type.index if index is None else index
        elif isinstance(type, int):
            type, index = "cuda", type
        elif ":" in type:
            if index is not None:
                raise RuntimeError(
                    f"type (string) must not include an index because index was passed "
                    f"explicitly: {type}"
                )
            type, _, number = type.partition(":")
            if not number.isdigit():
                raise RuntimeError(f"Invalid device string: '{type}:{number}'")
            index = int(number)
        if type not in TYPES:
            raise RuntimeError(
                f"Expected one of {', '.join(TYPES)} device type at start of device string: {type}"
            )
        self.type = type
        self.index = index

    def __repr__(self) -> str:
        tail = "" if self.index is None else f", index={self.index}"
        return f"device(type='{self.type}'{tail})"

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, device) and self.type == other.type and self.index == other.index
        )

    def __hash__(self) -> int:
        return hash((self.type, self.index))

    def __reduce__(self) -> Any:
        return (device, (str(self),))

    def __enter__(self) -> device:
        stack = _default.__dict__.setdefault("stack", [])
        stack.append(self)
        return self

    def __exit__(self, *exc: object) -> None:
        _default.stack.pop()


cpu = device("cpu")
_available = {"cpu", "meta"}


def resolve(where: Any) -> device:
    """The device meant by a `device=` argument; None is the default device.

    Raises:
        RuntimeError: the device does not exist on this machine.
    """
    if where is None:
        return get_default_device()
    found = where if isinstance(where, device) else device(where)
    if found.type not in _available:
        raise RuntimeError(
            f"no {found.type} device can be used here: flambeau was installed for "
            f"{', '.join(sorted(_available - {'meta'}))}. Use device='cpu'."
        )
    return cpu if found.type == "cpu" else found


def get_default_device() -> device:
    """The device that factory functions use when none is given."""
    stack = _default.__dict__.get("stack")
    return stack[-1] if stack else cpu


def set_default_device(where: Any) -> None:
    """Set the device that factory functions use when none is given (None: cpu)."""
    _default.__dict__["stack"] = [] if where is None else [resolve(where)]
