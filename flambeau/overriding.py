"""Calls that a type of tensors of one's own, or a mode, answers instead: `__torch_function__`, and
below autograd `__torch_dispatch__`.

Every public function of the table and every public method of tensors asks, before it does anything,
whether one of its arguments overrides it. They all read one switch first (`on`), which is off until
a subclass of `Tensor` has an instance or a mode is entered, so that a program without either pays
for a test of a global. A type that is no tensor is noticed where an argument is refused (`claims`).

What nobody answers there, and is recorded as one node (a primitive, a kept composite; what is taken
apart as it is recorded is not), is offered once more to the modes and types with
`__torch_dispatch__`. They get the row as torch's `OpOverload`.

Reference: https://docs.pytorch.org/docs/stable/notes/extending.html
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable
from typing import Any, Self

#: Whether calls must ask; set by `switch_on` and by modes.
on = False
#: What `ask` gives where nobody answers.
UNCLAIMED = object()

_lock = threading.Lock()
_entered = 0  # modes that some thread is in
_types_seen = False
dispatching_types = False  # whether a subclass with `__torch_dispatch__` has an instance
#: Offers a call to `__torch_dispatch__`; set by ops/dispatching.py.
DISPATCH: list[Any] = [None]


class _State(threading.local):
    """What a thread has switched off, and the modes it is in, the innermost last."""

    def __init__(self) -> None:
        self.subclasses = True
        self.all = self.any = True
        self.modes: list[Any] = []
        self.once = False  # the next call does not ask
        self.dispatching: list[Any] = []  # modes with `__torch_dispatch__`, the innermost last


state = _State()


def disabled_torch_function(
    func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
) -> Any:
    """The `__torch_function__` of types that override nothing; results are plain tensors."""
    with DisableTorchFunctionSubclass():
        return func(*args, **(kwargs or {}))


def overrides(kind: type) -> bool:
    """Whether calls with arguments of a type are its own to answer."""
    found = _answers.get(kind)
    if found is None:
        method = getattr(kind, "__torch_function__", None)
        plain = vars(kind).get("_plain", False)  # `Tensor` itself
        found = not plain and method is not None and method is not disabled_torch_function
        _answers[kind] = found
    return found


_answers: dict[type, bool] = {}


def switch_on(kind: type) -> None:
    """From now on calls ask, if a type of tensors overrides them."""
    global on, _types_seen, dispatching_types
    if hasattr(kind, "__torch_dispatch__"):
        on = _types_seen = dispatching_types = True
    if overrides(kind):
        on = _types_seen = True


def overriding(args: Iterable[Any], found: list[Any]) -> list[Any]:
    """The arguments, also in lists and tuples, of types that override: subclasses before what they
    inherit from, otherwise from left to right, one of each type."""
    for a in args:
        kind = type(a)
        if kind is tuple or kind is list:
            overriding(a, found)
        elif overrides(kind) and all(type(other) is not kind for other in found):
            at = next((k for k, o in enumerate(found) if isinstance(a, type(o))), len(found))
            found.insert(at, a)
    return found


def claims(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether somebody overrides a call with these arguments, which from now on asks."""
    global on, _types_seen
    if not (state.subclasses and state.all) or not overriding((*args, *kwargs.values()), []):
        return False
    on = _types_seen = True
    return True


def ask(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The result of a call by whoever overrides it; `UNCLAIMED` where nobody does.

    The innermost mode comes first, then the arguments' types.

    Raises:
        TypeError: all who were asked gave NotImplemented.
    """
    if not state.any:
        return UNCLAIMED
    if state.once:
        state.once = False
    elif state.all and (state.subclasses or state.modes):
        claimants = overriding((*args, *kwargs.values()) if kwargs else args, [])
        if (found := handle(func, claimants, args, kwargs)) is not UNCLAIMED:
            return found
    return DISPATCH[0](func, args, kwargs) if dispatches() else UNCLAIMED


def dispatches() -> bool:
    """Whether calls are offered to a `__torch_dispatch__`."""
    return bool(state.dispatching) or dispatching_types


def concerns(tensors: Iterable[Any]) -> bool:
    """Whether a mode, or the type of one of the tensors, is asked about calls with them."""
    if not on:
        return False
    if state.modes or state.dispatching:
        return True
    return any(overrides(type(t)) or hasattr(type(t), "__torch_dispatch__") for t in tensors)


def by_innermost(modes: list[Any], method: str, *call: Any) -> Any:
    """What the innermost of some modes makes of a call; it is not active meanwhile."""
    mode = modes.pop()
    try:
        return getattr(mode, method)(*call)
    finally:
        modes.append(mode)


def handle(
    func: Callable[..., Any], found: list[Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """As `ask`, of arguments that override."""
    if not state.subclasses:
        found = []
    types = tuple(type(a) for a in found)
    if state.modes:
        result = by_innermost(state.modes, "__torch_function__", func, types, args, kwargs)
        if result is not NotImplemented:
            return result
    elif not found:
        return UNCLAIMED
    for a in found:
        result = a.__torch_function__(func, types, args, kwargs)
        if result is not NotImplemented:
            return result
    name = f"{getattr(func, '__module__', '')}.{getattr(func, '__name__', func)}"
    asked = f" nor in mode {state.modes[-1]}" if state.modes else ""
    raise TypeError(
        f"no implementation found for '{name}' on types that implement __torch_function__: "
        f"{list(types)}{asked}"
    )


def overridable(function: Callable[..., Any]) -> Callable[..., Any]:
    """A public function that asks first. Rows ask in their own code, for speed."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        asked = on
        if asked and (found := ask(call, args, kwargs)) is not UNCLAIMED:
            return found
        try:
            return function(*args, **kwargs)
        except (AttributeError, TypeError):
            if asked or not claims(args, kwargs):
                raise
        return call(*args, **kwargs)

    call.overridable = True  # type: ignore[attr-defined]
    return call


class attribute(property):
    """A property of tensors that asks first; what is asked about is its `__get__`."""

    def __init__(self, get: Any, set: Any = None, delete: Any = None, doc: Any = None) -> None:
        def read(tensor: Any) -> Any:
            if on and (found := ask(self.__get__, (tensor,), {})) is not UNCLAIMED:
                return found
            return get(tensor)

        super().__init__(read, set, delete, doc or get.__doc__)
        self.get = get

    def setter(self, set: Any, /) -> attribute:
        """The property with a setter."""
        return attribute(self.get, set, self.fdel, self.__doc__)


def convert(result: Any, kind: type) -> Any:
    """Tensors, also in tuples and lists, as instances of a subclass."""
    if isinstance(result, (tuple, list)):
        made = [convert(r, kind) for r in result]
        whole = type(result)
        return whole(*made) if hasattr(whole, "_fields") else whole(made)
    plain = getattr(type(result), "_plain", None) is not None  # a tensor
    return result.as_subclass(kind) if plain and not isinstance(result, kind) else result


class _Without:
    """A context in which a thread does not ask."""

    word: str

    def __enter__(self) -> None:
        self._was = getattr(state, self.word)
        setattr(state, self.word, False)

    def __exit__(self, *exc: object) -> None:
        setattr(state, self.word, self._was)


class DisableTorchFunctionSubclass(_Without):
    """While inside, no type's `__torch_function__` is called; modes' still are."""

    word = "subclasses"


class DisableTorchFunction(_Without):
    """While inside, no `__torch_function__` is called."""

    word = "all"


class Unasked(_Without):
    """While inside, nobody is asked: what is recorded belongs to a call that was asked about."""

    word = "any"


class TorchFunctionMode:
    """While it is entered, `__torch_function__(func, types, args, kwargs)` gets every call of a
    public function or method; in there the mode itself is not active.

    Example:
        >>> import flambeau
        >>> class Names(TorchFunctionMode):
        ...     def __torch_function__(self, func, types, args=(), kwargs=None):
        ...         print(func.__name__)
        ...         return func(*args, **(kwargs or {}))
        >>> with Names():
        ...     y = flambeau.ones(2).exp()
        ones
        exp
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: tuple[type, ...],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """What a call gives; to be written by the subclass.

        Args:
            func: what was called.
            types: of the arguments that override calls themselves.
            args: positional arguments.
            kwargs: keyword arguments.
        """
        raise NotImplementedError

    def __enter__(self) -> TorchFunctionMode:
        _change(1)
        state.modes.append(self)
        return self

    def __exit__(self, *exc: object) -> None:
        state.modes.remove(self)
        _change(-1)


class TorchDispatchMode:
    """While it is entered, `__torch_dispatch__(func, types, args, kwargs)` gets every operator that
    is recorded, also of backward; in there the mode itself is not active.

    What is taken apart as it is recorded (`linear`) arrives as its parts, in the order of torch's
    calls: forward, then backward.

    Example:
        >>> import flambeau
        >>> class Names(TorchDispatchMode):
        ...     def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        ...         print(func)
        ...         return func(*args, **(kwargs or {}))
        >>> x = flambeau.ones(2)
        >>> with Names():
        ...     y = x.exp() + x
        aten.exp.default
        aten.add.Tensor
    """

    def __torch_dispatch__(
        self,
        func: Any,
        types: tuple[type, ...],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """What an operator gives; to be written by the subclass.

        Args:
            func: the operator, an `OpOverload`.
            types: of the arguments with a `__torch_dispatch__` of their own.
            args: positional arguments.
            kwargs: keyword arguments.
        """
        raise NotImplementedError

    def __enter__(self) -> Self:
        _change(1)
        state.dispatching.append(self)
        return self

    def __exit__(self, *exc: object) -> None:
        state.dispatching.remove(self)
        _change(-1)


class asking:
    """While inside, calls ask: there are arguments of a type that overrides and is no tensor."""

    def __enter__(self) -> None:
        _change(1)

    def __exit__(self, *exc: object) -> None:
        _change(-1)


def _change(by: int) -> None:
    """Count modes in and out: without any, and without types that override, nobody asks."""
    global on, _entered
    with _lock:
        _entered += by
        on = _types_seen or _entered > 0
