"""``torch.jit``: scripting leaves a function or module as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NoReturn


def is_scripting() -> bool:
    """False."""
    return False


def is_tracing() -> bool:
    """False."""
    return False


def script(obj: Any, *options: Any, **others: Any) -> Any:
    """The function or module itself, which runs compiled anyway."""
    return obj


def trace(func: Any, *options: Any, **others: Any) -> Any:
    """The function or module itself."""
    return func


def ignore(drop: Any = False, **options: Any) -> Any:
    """The function itself, or a decorator that leaves one as it is."""
    return drop if callable(drop) else _same


def _same(fn: Callable[..., Any]) -> Callable[..., Any]:
    return fn


export = unused = script_if_tracing = _script_if_tracing = _overload_method = _same


class ScriptModule:
    """Modules are never scripted here, so nothing is one of these."""


ScriptFunction = RecursiveScriptModule = ScriptModule

__all__ = ["Final"]


def annotate(the_type: Any, the_value: Any) -> Any:
    """The value; the type is for scripting."""
    return the_value


def load(*args: Any, **options: Any) -> NoReturn:
    """Raises: TorchScript archives cannot be read."""
    raise NotImplementedError("torch.jit.load is not in flambeau yet")


def save(*args: Any, **options: Any) -> NoReturn:
    """Raises: TorchScript archives cannot be written."""
    raise NotImplementedError("torch.jit.save is not in flambeau yet")
