"""``torch.jit``: scripting leaves a function or module as it is."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any, Final, NoReturn

from flambeau.interpose.standins.futures import Future as Future


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


def freeze(mod: Any, preserved_attrs: Any = None, optimize_numerics: bool = True) -> Any:
    """The module itself: what it computes is compiled with its weights as they are."""
    return mod


def optimize_for_inference(mod: Any, other_methods: Any = None) -> Any:
    """The module itself."""
    return mod


def isinstance(obj: Any, target_type: Any) -> bool:
    """As Python's."""
    return builtins.isinstance(obj, target_type)


def fork(func: Callable[..., Any], *args: Any, **kwargs: Any) -> Future:
    """A future of a call, which is made at once."""
    found = Future()
    found.set_result(func(*args, **kwargs))
    return found


def wait(future: Future) -> Any:
    """The result of a future."""
    return future.wait()


def set_fusion_strategy(strategy: Any) -> None:
    """Accepted: fusing is not up to scripts here."""


def enable_onednn_fusion(enabled: bool) -> None:
    """Accepted: oneDNN is not used."""


def onednn_fusion_enabled() -> bool:
    """False."""
    return False
