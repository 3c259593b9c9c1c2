"""The module that `compile` makes of another."""

from __future__ import annotations

from collections.abc import Sized
from typing import Any

from flambeau.compile import WRAPPERS, compiled
from flambeau.nn.module import Module

#: Attributes of the wrapper itself; all others are the wrapped module's.
_OWN = frozenset(("_orig_mod", "_options", "_ready", "forward", "__dict__"))


class OptimizedModule(Module):
    """A module whose calls are those of another, compiled.

    Its state dict has the other's keys behind `_orig_mod.`; other attributes are the other's.

    Args:
        mod: the module.
        fullgraph: raise where a call cannot be replayed.
        dynamic: which sizes become symbols, as in `compile`.
    """

    _ready: bool = False

    def __init__(self, mod: Module, fullgraph: bool = False, dynamic: bool | None = None) -> None:
        """Hold the module as `_orig_mod`."""
        object.__setattr__(self, "_orig_mod", mod)
        super().__init__()
        del self.__dict__["_orig_mod"]
        self.__dict__["_ready"] = True
        self._orig_mod = mod
        self.__dict__["_options"] = fullgraph, dynamic
        self._compile()

    def _compile(self) -> None:
        forward = compiled(self._orig_mod.__call__, *self.__dict__["_options"])
        self.__dict__["forward"] = forward
        self.__dict__["_torchdynamo_orig_callable"] = self._orig_mod.__call__

    @property
    def training(self) -> bool:
        """The module's mode."""
        return bool(self._orig_mod.training)

    @training.setter
    def training(self, value: bool) -> None:
        if self._ready:
            self._orig_mod.training = value

    def __len__(self) -> int:
        """The module's length, if it has one."""
        if isinstance(self._orig_mod, Sized):
            return len(self._orig_mod)
        raise TypeError(f"{type(self._orig_mod).__name__} does not support len()")

    def __getattr__(self, name: str) -> Any:
        """What this wrapper does not have is the module's."""
        if name == "_orig_mod":
            return self.__dict__["_modules"]["_orig_mod"]
        return getattr(self._orig_mod, name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute of the module, but for the wrapper's own."""
        if hasattr(type(self), name) or name in _OWN:
            super().__setattr__(name, value)
        else:
            setattr(self._orig_mod, name, value)

    def __delattr__(self, name: str) -> None:
        """Remove an attribute of the module, but for the wrapper's own."""
        if hasattr(type(self), name) or name in _OWN:
            super().__delattr__(name)
        else:
            delattr(self._orig_mod, name)

    def __dir__(self) -> list[str]:
        """The module's attributes and the wrapper's."""
        return sorted({*dir(self._orig_mod), *super().__dir__()})

    def __getstate__(self) -> dict[str, Any]:
        """Everything but what was compiled."""
        state = super().__getstate__()
        for name in ("forward", "_torchdynamo_orig_callable"):
            state.pop(name, None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the attributes over and compile again."""
        self.__dict__.update(state)
        self._compile()

    def __reduce__(self) -> Any:
        """Made again from the module."""
        return type(self), (self._orig_mod, *self.__dict__["_options"])


WRAPPERS[Module] = OptimizedModule
