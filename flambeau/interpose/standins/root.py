"""Names of ``torch`` itself that flambeau has in another form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
