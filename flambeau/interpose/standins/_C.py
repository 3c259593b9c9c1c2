"""``torch._C``: the few names of torch's compiled part that libraries written in Python touch."""

from __future__ import annotations

import contextlib
import enum

import flambeau
from flambeau import overrides, overriding
from flambeau.interpose.standins import _C__nn as _nn

__all__ = ["_nn"]

_TensorMeta = type(flambeau.Tensor)
_TensorBase = TensorBase = flambeau.Tensor
device = flambeau.device
dtype = flambeau.dtype
Size = flambeau.Size
Generator = flambeau.Generator


def _log_api_usage_once(event: str) -> None:
    """Nothing is logged."""


def _get_accelerator(check: bool = False) -> flambeau.device:
    """The CPU: there is no accelerator."""
    return flambeau.device("cpu")


DispatchKey = enum.Enum(
    "DispatchKey",
    "CPU CUDA XPU MPS Meta Autograd AutogradCPU AutogradCUDA AutocastCPU AutocastCUDA AutocastXPU "
    "BackendSelect Python CompositeExplicitAutograd CompositeImplicitAutograd",
)


class DispatchKeySet:
    """A set of dispatch keys.

    Args:
        key: one of them.
    """

    def __init__(self, key: DispatchKey) -> None:
        self.keys = frozenset((key,))

    def __or__(self, other: DispatchKeySet) -> DispatchKeySet:
        found = DispatchKeySet.__new__(DispatchKeySet)
        found.keys = self.keys | other.keys
        return found

    def has(self, key: DispatchKey) -> bool:
        """Whether the key is among them."""
        return key in self.keys


class _ExcludeDispatchKeyGuard(contextlib.nullcontext[None]):
    """Nothing is excluded: calls are not dispatched by keys."""


_disabled_torch_function_impl = overriding.disabled_torch_function
DisableTorchFunction = overriding.DisableTorchFunction
DisableTorchFunctionSubclass = overriding.DisableTorchFunctionSubclass
_has_torch_function = overrides.has_torch_function
_has_torch_function_unary = overrides.has_torch_function_unary
_has_torch_function_variadic = overrides.has_torch_function_variadic


def _len_torch_function_stack() -> int:
    """How many modes this thread is in."""
    return len(overriding.state.modes)


def _is_torch_function_mode_enabled() -> bool:
    """Whether this thread is in a mode."""
    return bool(overriding.state.modes)


def _get_tracing_state() -> None:
    """None: nothing is traced."""
    return None
