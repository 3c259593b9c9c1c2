"""Operators as a `__torch_dispatch__` gets them, and who is asked: Note [Below autograd].

Note [Below autograd]
What nobody overrides by `__torch_function__`, and is recorded as one node, is offered to the modes
and types with `__torch_dispatch__` (`overriding.ask` comes here). A mode gets the call as it is:
what it calls in turn makes the tape's entries. What a type answers is computed without a tape, and
the entry is made of the call itself, over the wrappers: so a type needs no derivatives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from flambeau import overriding
from flambeau.dtype import dtype as DType
from flambeau.ir.graph import Op
from flambeau.ops.entries import attach, tracks
from flambeau.ops.rows import NAMES
from flambeau.overriding import UNCLAIMED, by_innermost, state
from flambeau.tape import modes
from flambeau.tensor import Tensor, as_subclass


class OpOverload:
    """An operator as a `__torch_dispatch__` gets it, and as `torch.ops.aten.NAME.OVERLOAD`.

    There is one for a row, whichever overload it is asked for by: `ops.aten.add.Tensor` and
    `ops.aten.add.Scalar` are the same object.

    Args:
        call: the row's function.
    """

    def __init__(self, call: Callable[..., Any]) -> None:
        row = getattr(call, "row", None)
        # rows' own bodies may give numbers where users must give tensors
        self._op = getattr(call, "unchecked", call)
        self.namespace = "aten"
        self._opname = call.__name__ if row is None else row.name
        two = row is not None and tuple(row.parameters[:2]) == ("input", "other")
        self._overloadname = "Tensor" if two else "default"
        self.__name__ = f"{self._opname}.{self._overloadname}"
        self.__qualname__ = self.__name__
        self.__doc__ = call.__doc__
        self.tags: list[Any] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The operator's result; what still overrides it is asked."""
        return self._op(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<OpOverload(op='{self.name()}', overload='{self._overloadname}')>"

    def __str__(self) -> str:
        return f"{self.namespace}.{self.__name__}"

    def name(self) -> str:
        """Its name with its namespace: "aten::add.Tensor"."""
        last = "" if self._overloadname == "default" else f".{self._overloadname}"
        return f"{self.namespace}::{self._opname}{last}"

    @property
    def overloadpacket(self) -> OpOverloadPacket:
        """The operator with all its overloads."""
        return OpOverloadPacket(self)

    _overloadpacket = overloadpacket

    def __getattr__(self, name: str) -> OpOverload:
        # libraries ask a packet for an overload and sometimes an overload for itself
        if name in ("default", "Tensor", "Scalar"):
            return self
        raise AttributeError(f"'OpOverload' object has no attribute '{name}'", name=name, obj=self)


class OpOverloadPacket:
    """`torch.ops.aten.NAME`: an operator, whose overloads are attributes.

    Args:
        overload: the one that stands for all.
    """

    def __init__(self, overload: OpOverload) -> None:
        self._overload = overload
        self.__name__ = overload._opname
        self._qualified_op_name = f"{overload.namespace}::{overload._opname}"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The operator's result."""
        return self._overload(*args, **kwargs)

    def __str__(self) -> str:
        return f"{self._overload.namespace}.{self.__name__}"

    def __repr__(self) -> str:
        return f"<OpOverloadPacket(op='{self}')>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OpOverloadPacket) and other._overload is self._overload

    def __hash__(self) -> int:
        return hash(self._overload)

    def overloads(self) -> list[str]:
        """Names of the overloads: one."""
        return [self._overload._overloadname]

    def __getattr__(self, name: str) -> OpOverload:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._overload


_overloads: dict[int, OpOverload] = {}


def overload_of(call: Callable[..., Any]) -> OpOverload:
    """The operator of a row's function, always the same object."""
    found = _overloads.get(id(call))
    if found is None:
        found = _overloads[id(call)] = OpOverload(call)
    return found


def dispatch(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The result of a call by a mode or type with `__torch_dispatch__`; `UNCLAIMED` where nobody
    answers, and of calls that are taken apart as they are recorded.

    The innermost mode comes first, and is not active in there; then the arguments' types.

    Raises:
        TypeError: all who were asked gave NotImplemented.
    """
    row: Any = getattr(func, "row", None)
    if not (getattr(func, "whole", False) if row is None else row.whole):
        return UNCLAIMED
    given = (*args, *kwargs.values()) if kwargs else args
    found: list[Any] = []
    if overriding.dispatching_types:
        _types_of(given, found)
    types = tuple(found)
    tracked = bool(types) and row is not None and row.differentiable and tracks(given)
    if tracked and row.vjp is None and row.kind == "composite":
        return UNCLAIMED  # its parts have the derivatives
    operator = overload_of(func if row is None or row.shown is None else row.shown(*args))
    if state.dispatching:
        result = by_innermost(
            state.dispatching, "__torch_dispatch__", operator, types, args, kwargs
        )
        if result is not NotImplemented:
            return result
    elif not types:
        return UNCLAIMED
    was, modes.grad = modes.grad, False
    try:
        result = _answered(operator, types, args, kwargs)
    finally:
        modes.grad = was
    if tracked and row.vjp is not None:
        _enter(row, args, kwargs, result)
    return result


def _answered(operator: OpOverload, types: tuple[Any, ...], args: Any, kwargs: Any) -> Any:
    for kind in types:
        result = kind.__torch_dispatch__(operator, types, args, kwargs)
        if result is not NotImplemented:
            return result
    raise TypeError(
        f"Multiple dispatch failed for '{operator}'; all __torch_dispatch__ handlers returned "
        f"NotImplemented: {list(types)}"
    )


def _enter(row: Op, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
    """Make the tape's entry of a call whose result somebody else computed."""
    if kwargs:
        bound = row.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        args = (*bound.args, *bound.kwargs.values())
    outs = tuple(result) if isinstance(result, (tuple, list)) else (result,)
    if all(isinstance(t, Tensor) and t._grad_fn is None for t in outs):
        attach(row, args, {}, outs)


def _types_of(args: Iterable[Any], found: list[Any]) -> None:
    """The arguments' types with `__torch_dispatch__`, subclasses first, each once."""
    for a in args:
        kind = type(a)
        if kind is tuple or kind is list:
            _types_of(a, found)
        elif hasattr(kind, "__torch_dispatch__") and kind not in found:
            at = next((k for k, other in enumerate(found) if issubclass(kind, other)), len(found))
            found.insert(at, kind)


def _make_wrapper_subclass(
    cls: Any,
    size: Any,
    strides: Any = None,
    storage_offset: int | None = None,
    memory_format: Any = None,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
    **options: Any,
) -> Any:
    """A tensor of a class with `__torch_dispatch__` that tells of a shape and a dtype and has no
    values of its own: operators get them from the tensors that it holds."""
    if not hasattr(cls, "__torch_dispatch__"):
        raise RuntimeError(
            f"{cls.__name__} must define __torch_dispatch__: it has no memory that operators read"
        )
    made = as_subclass(NAMES["full"](tuple(size), 0, dtype=dtype, device=device), cls)
    made.requires_grad = requires_grad
    return made


overriding.DISPATCH[0] = dispatch
setattr(Tensor, "_make_wrapper_subclass", staticmethod(_make_wrapper_subclass))
