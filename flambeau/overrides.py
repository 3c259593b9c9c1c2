"""`torch.overrides`: types of one's own among tensors, and functions that let them answer.

A type answers calls that it is an argument of by a class method `__torch_function__`; a
`TorchFunctionMode` answers all calls while it is entered. How calls ask is in `overriding`.

Example:
    >>> import flambeau
    >>> class Metres(flambeau.Tensor):
    ...     pass
    >>> type(Metres([1.0, 2.0]) * 2).__name__
    'Metres'
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from flambeau import overriding
from flambeau.ops.rows import FUNCTIONAL, NAMES, SPACES
from flambeau.overriding import DisableTorchFunction, DisableTorchFunctionSubclass, attribute, state
from flambeau.overriding import TorchFunctionMode as TorchFunctionMode
from flambeau.tensor import Tensor

BaseTorchFunctionMode = TorchFunctionMode


def has_torch_function(relevant_args: Iterable[Any]) -> bool:
    """Whether a call with these arguments is somebody else's to answer: a mode's, or a type's with
    `__torch_function__`.

    Args:
        relevant_args: the arguments; lists and tuples among them are not looked into.
    """
    if not state.all:
        return False
    if state.modes:
        return True
    return state.subclasses and any(overriding.overrides(type(a)) for a in relevant_args)


def has_torch_function_unary(relevant_arg: Any) -> bool:
    """`has_torch_function` of one argument."""
    return has_torch_function((relevant_arg,))


def has_torch_function_variadic(*relevant_args: Any) -> bool:
    """`has_torch_function` of arguments one by one."""
    return has_torch_function(relevant_args)


def handle_torch_function(
    public_api: Callable[..., Any], relevant_args: Iterable[Any], *args: Any, **kwargs: Any
) -> Any:
    """The result of a call by whoever overrides it.

    Args:
        public_api: the function that was called, as its users name it.
        relevant_args: those of its arguments that may override it.
        args: all positional arguments.
        kwargs: all keyword arguments.

    Raises:
        TypeError: all who were asked gave NotImplemented.
    """
    found: list[Any] = []
    for a in relevant_args:
        if not isinstance(a, (list, tuple)):
            overriding.overriding((a,), found)
    return overriding.handle(public_api, found, args, kwargs)


def wrap_torch_function(dispatcher: Callable[..., Iterable[Any]]) -> Callable[..., Any]:
    """A decorator for functions that others may override.

    Args:
        dispatcher: has the function's parameters; gives those that may override it.
    """

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            relevant = tuple(dispatcher(*args, **kwargs))
            if has_torch_function(relevant):
                return handle_torch_function(call, relevant, *args, **kwargs)
            return function(*args, **kwargs)

        return call

    return wrap


def redispatch_function(
    func: Callable[..., Any],
    types: tuple[type, ...],
    args: tuple[Any, ...],
    kwargs: dict[str, Any] | None,
) -> Any:
    """Call a function that does not ask, while what it calls does.

    Args:
        func: of a `__torch_function__`, like the others.
        types: not looked at.
        args: positional arguments.
        kwargs: keyword arguments.
    """
    was, state.once = state.once, True
    try:
        return func(*args, **(kwargs or {}))
    finally:
        state.once = was


@contextlib.contextmanager
def enable_reentrant_dispatch() -> Iterator[None]:
    """While inside, calls ask as they do outside of any `__torch_function__`."""
    was = state.all, state.subclasses
    state.all = state.subclasses = True
    try:
        yield
    finally:
        state.all, state.subclasses = was


def is_tensor_like(inp: Any) -> bool:
    """Whether this is a tensor, or a type of its own by `__torch_function__`."""
    return isinstance(inp, Tensor) or hasattr(inp, "__torch_function__")


def _of_package(name: str) -> Any:
    return sys.modules[name] if name in sys.modules else name


def get_overridable_functions() -> dict[Any, list[Callable[..., Any]]]:
    """The functions that can be overridden, by where they are: modules, and `Tensor`."""
    spaces: dict[str, dict[str, Any]] = {"flambeau": NAMES, "flambeau.nn.functional": FUNCTIONAL}
    spaces.update({f"flambeau.{space}": found for space, found in SPACES.items()})
    result: dict[Any, list[Callable[..., Any]]] = {
        _of_package(space): [f for name, f in found.items() if not name.startswith("_")]
        for space, found in spaces.items()
    }
    methods: list[Any] = []
    for name, value in vars(Tensor).items():
        if isinstance(value, attribute):
            methods.append(value.__get__)
        elif hasattr(value, "row") or hasattr(value, "overridable") or name == "__getitem__":
            methods.append(value)
    result[Tensor] = methods
    return result


def get_ignored_functions() -> set[Callable[..., Any]]:
    """Public functions that cannot be overridden, since they take no tensors or ask about them."""
    names = "is_tensor result_type can_cast promote_types manual_seed seed initial_seed"
    return {NAMES[name] for name in names.split()}


def get_testing_overrides() -> dict[Callable[..., Any], Callable[..., Any]]:
    """For each function that can be overridden, one with its parameters that gives -1."""
    made: dict[Callable[..., Any], Callable[..., Any]] = {}
    for functions in get_overridable_functions().values():
        for function in functions:
            made[function] = _minus_one(function)
    return made


def _minus_one(function: Callable[..., Any]) -> Callable[..., Any]:
    def answer(*args: Any, **kwargs: Any) -> int:
        return -1

    with contextlib.suppress(TypeError, ValueError):
        answer.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return answer


def resolve_name(f: Any) -> str | None:
    """The dotted name of a function as a `__torch_function__` gets it; None: it never does."""
    name = getattr(f, "__name__", None)
    owner = getattr(f, "__self__", None)
    if isinstance(owner, attribute):
        names = [key for key, value in vars(Tensor).items() if value is owner]
        return f"torch.Tensor.{names[0]}.__get__" if names else None
    for where, found in (("", NAMES), ("nn.functional.", FUNCTIONAL)):
        if name is not None and found.get(name) is f:
            return f"torch.{where}{name}"
    if name is not None and vars(Tensor).get(name) is f:
        return f"torch.Tensor.{name}"
    return None


def is_tensor_method_or_property(func: Callable[..., Any]) -> bool:
    """Whether a function as it arrives in a `__torch_function__` is a method or, by its `__get__`,
    a property of tensors. One that is also a function of the package counts as a method."""
    name = getattr(func, "__name__", "")
    return name == "__get__" or vars(Tensor).get(name) is func


def _get_current_function_mode() -> TorchFunctionMode | None:
    """The innermost mode of this thread."""
    return state.modes[-1] if state.modes else None


def _get_current_function_mode_stack() -> list[TorchFunctionMode]:
    """The modes of this thread, the innermost last."""
    return list(state.modes)


__all__ = [
    "DisableTorchFunction",
    "DisableTorchFunctionSubclass",
    "TorchFunctionMode",
    "enable_reentrant_dispatch",
    "get_ignored_functions",
    "get_overridable_functions",
    "get_testing_overrides",
    "handle_torch_function",
    "has_torch_function",
    "has_torch_function_unary",
    "has_torch_function_variadic",
    "is_tensor_like",
    "is_tensor_method_or_property",
    "redispatch_function",
    "resolve_name",
    "wrap_torch_function",
]
