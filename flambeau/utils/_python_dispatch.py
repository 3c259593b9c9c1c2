"""`torch.utils._python_dispatch`: operators answered below autograd, by modes and by types.

`TorchDispatchMode` gets every operator that is recorded while it is entered. A subclass of `Tensor`
with a class method `__torch_dispatch__(func, types, args, kwargs)` gets those that have an instance
among their arguments. How calls ask is in `overriding`.

Example:
    >>> import flambeau
    >>> from flambeau.utils._python_dispatch import TorchDispatchMode
    >>> class Count(TorchDispatchMode):
    ...     calls = 0
    ...     def __torch_dispatch__(self, func, types, args=(), kwargs=None):
    ...         self.calls += 1
    ...         return func(*args, **(kwargs or {}))
    >>> x = flambeau.ones(3, requires_grad=True)
    >>> with Count() as count:
    ...     y = (x * 2).exp()
    >>> count.calls
    2
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from flambeau.ops.dispatching import OpOverload
from flambeau.overriding import TorchDispatchMode, state
from flambeau.tensor import Tensor

BaseTorchDispatchMode = TorchDispatchMode


def is_in_torch_dispatch_mode(include_infra_modes: bool = True) -> bool:
    """Whether this thread is in a mode.

    Args:
        include_infra_modes: not looked at: the library has no modes of its own.
    """
    return bool(state.dispatching)


def _get_current_dispatch_mode() -> TorchDispatchMode | None:
    """The innermost mode of this thread."""
    return state.dispatching[-1] if state.dispatching else None


def _get_current_dispatch_mode_stack() -> list[TorchDispatchMode]:
    """The modes of this thread, the innermost last."""
    return list(state.dispatching)


@contextlib.contextmanager
def _disable_current_modes() -> Iterator[list[TorchDispatchMode]]:
    """While inside, no mode of this thread is asked."""
    was, state.dispatching = state.dispatching, []
    try:
        yield was
    finally:
        state.dispatching = was


def is_traceable_wrapper_subclass(t: object) -> bool:
    """Whether this is a tensor of a subclass that is made of plain tensors, which it tells of by
    `__tensor_flatten__` and `__tensor_unflatten__`."""
    return isinstance(t, Tensor) and is_traceable_wrapper_subclass_type(type(t))


def is_traceable_wrapper_subclass_type(t: type) -> bool:
    """`is_traceable_wrapper_subclass` of a type."""
    return (
        issubclass(t, Tensor)
        and t is not Tensor
        and hasattr(t, "__tensor_flatten__")
        and hasattr(t, "__tensor_unflatten__")
    )


def transform_subclass(
    t: Any,
    callback: Callable[[str, Any], Any],
    outer_size: Any = None,
    outer_stride: Any = None,
) -> Any:
    """A wrapper like another, of what a function makes of the tensors in that.

    Args:
        t: a tensor of a type with `__tensor_flatten__`.
        callback: called as callback(attribute's name, inner tensor).
        outer_size: of the result; None: that of `t`.
        outer_stride: likewise.

    Returns:
        A tensor of the type of `t`.
    """
    names, context = t.__tensor_flatten__()
    made = {name: callback(name, getattr(t, name)) for name in names}
    size = t.size() if outer_size is None else outer_size
    stride = t.stride() if outer_stride is None else outer_stride
    return type(t).__tensor_unflatten__(made, context, size, stride)


def return_and_correct_aliasing(func: OpOverload, args: Any, kwargs: Any, out: Any) -> Any:
    """The result of an operator, as a `__torch_dispatch__` of wrappers returns it.

    Args:
        func: the operator.
        args: its positional arguments.
        kwargs: its keyword arguments.
        out: what was made of the inner results. A result that an in-place operator must give back
            is its first argument; others are returned as they are.
    """
    name = func._opname
    written = name.endswith("_") and not name.endswith("__")
    return args[0] if written and args else out


__all__ = [
    "BaseTorchDispatchMode",
    "TorchDispatchMode",
    "is_in_torch_dispatch_mode",
    "is_traceable_wrapper_subclass",
    "is_traceable_wrapper_subclass_type",
    "return_and_correct_aliasing",
    "transform_subclass",
]
