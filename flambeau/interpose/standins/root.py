"""Names of ``torch`` itself that flambeau has in another form."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import flambeau
from flambeau.interpose.standins.jit import ScriptModule as ScriptModule
from flambeau.interpose.standins.version import TorchVersion
from flambeau.interpose.standins.version import __version__ as _version
from flambeau.library import ops as ops

__version__ = TorchVersion(_version)


def compile(model: Any = None, **options: Any) -> Any:
    """``torch.compile``: what it is given, since every program is compiled as it runs."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        return function

    return decorate if model is None else model


def set_float32_matmul_precision(precision: str) -> None:
    """``"highest"``, ``"high"`` or ``"medium"``; products of float32 are always exact here."""
    if precision not in ("highest", "high", "medium"):
        raise RuntimeError(f"precision must be highest, high or medium, got {precision!r}")


def get_float32_matmul_precision() -> str:
    """Always ``"highest"``."""
    return "highest"


def _assert(condition: Any, message: str) -> None:
    """As the statement."""
    assert condition, message


def _check(cond: bool, message: Callable[[], str] | None = None) -> None:
    """Raise RuntimeError unless a condition holds."""
    _check_with(RuntimeError, cond, message)


def _check_index(cond: bool, message: Callable[[], str] | None = None) -> None:
    """Raise IndexError unless a condition holds."""
    _check_with(IndexError, cond, message)


def _check_type(cond: bool, message: Callable[[], str] | None = None) -> None:
    """Raise TypeError unless a condition holds."""
    _check_with(TypeError, cond, message)


def _check_value(cond: bool, message: Callable[[], str] | None = None) -> None:
    """Raise ValueError unless a condition holds."""
    _check_with(ValueError, cond, message)


def _check_with(
    error_type: type[Exception], cond: Any, message: Callable[[], str] | None = None
) -> None:
    """Raise an error unless a condition holds."""
    if not cond:
        raise error_type("Expected cond to be True" if message is None else message())


def _check_tensor_all(cond: Any, message: Callable[[], str] | None = None) -> None:
    """Raise RuntimeError unless all elements of a tensor of bools hold."""
    _check_with(RuntimeError, cond.all(), message)


def _check_tensor_all_with(
    error_type: type[Exception], cond: Any, message: Callable[[], str] | None = None
) -> None:
    """Raise an error unless all elements of a tensor of bools hold."""
    _check_with(error_type, cond.all(), message)


def _check_is_size(i: int, message: Callable[[], str] | None = None, *, max: Any = None) -> None:
    """Raise RuntimeError unless a number may be a size."""
    _check_with(RuntimeError, i >= 0 and (max is None or i <= max), message)


def get_device_module(device: Any = None) -> Any:
    """The module of a device type, such as ``torch.cpu``."""
    kind = flambeau.device("cpu" if device is None else device).type
    return importlib.import_module(f"torch.{kind}")
