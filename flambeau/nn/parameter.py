"""Tensors that a :class:`~flambeau.nn.Module` registers when they are assigned to it."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import flambeau
from flambeau.overriding import disabled_torch_function
from flambeau.tensor import as_subclass


def typename(value: object) -> str:
    """The name error messages give a value: its tensor type, or its class with the module.

    Args:
        value: any object or class.

    Returns:
        ``"torch.FloatTensor"`` for a float32 tensor, ``"int"`` for an int,
        ``"numpy.ndarray"`` for an array.
    """
    if isinstance(value, flambeau.Tensor):
        return str(value.type())
    cls = value if isinstance(value, type) else type(value)
    module = cls.__module__
    return cls.__qualname__ if module in ("builtins", "__builtin__") else f"{module}.{cls.__name__}"


class _ParameterMeta(type(flambeau.Tensor)):  # type: ignore[misc]
    """Counts a tensor subclass marked ``_is_param`` as a Parameter."""

    def __instancecheck__(cls, instance: object) -> bool:
        if cls is Parameter and getattr(instance, "_is_param", False):
            return isinstance(instance, flambeau.Tensor)
        return super().__instancecheck__(instance)


class Parameter(flambeau.Tensor, metaclass=_ParameterMeta):
    """A tensor that a module counts among its parameters when it is assigned as an attribute.

    Args:
        data: the value. The parameter shares its storage.
        requires_grad: whether gradients are wanted for it.

    Raises:
        RuntimeError: ``data`` is of a tensor subclass whose ``detach`` loses the type.
    """

    _plain = True  # nothing that is computed from it depends on its type
    __torch_function__ = staticmethod(disabled_torch_function)

    def __new__(cls, data: Any = None, requires_grad: bool = True) -> Parameter:
        """Wrap ``data``; an empty tensor when it is None."""
        if data is None:
            data = flambeau.empty(0)
        if type(data) is flambeau.Tensor or type(data) is Parameter:
            return as_subclass(data.detach(), cls).requires_grad_(requires_grad)
        # A user's own tensor subclass keeps its class and is only marked.
        tensor = data.detach().requires_grad_(requires_grad)
        if type(tensor) is not type(data):
            raise RuntimeError(
                f"Creating a Parameter from an instance of type {type(data).__name__} requires"
                " that detach() returns an instance of the same type, but return type"
                f" {type(tensor).__name__} was found instead."
            )
        tensor._is_param = True
        return tensor

    def __init__(self, data: Any = None, requires_grad: bool = True) -> None:
        """All is done in ``__new__``; the base's constructor is not called again."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        """A parameter with its own storage; the gradient is not copied."""
        if id(self) in memo:
            return memo[id(self)]
        result = type(self)(self.data.clone(), self.requires_grad)
        memo[id(self)] = result
        return result

    # a type checker drops the names of special methods' parameters, so no override agrees
    def __repr__(  # type: ignore[override]
        self, *, tensor_contents: str | None = None
    ) -> str:
        """``Parameter containing:`` and the tensor."""
        return "Parameter containing:\n" + super().__repr__()

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """Pickled as its data and ``requires_grad``; hooks and the gradient are left out."""
        return _rebuild_parameter, (self.data, self.requires_grad, OrderedDict())


def _rebuild_parameter(data: Any, requires_grad: bool, backward_hooks: Any) -> Parameter:
    """What a pickled :class:`Parameter` calls when it is read."""
    return Parameter(data, requires_grad)


class _BufferMeta(type(flambeau.Tensor)):  # type: ignore[misc]
    """Counts a tensor marked ``_is_buffer`` as a Buffer."""

    def __instancecheck__(cls, instance: object) -> bool:
        if cls is Buffer and getattr(instance, "_is_buffer", False):
            return isinstance(instance, flambeau.Tensor)
        return super().__instancecheck__(instance)


class Buffer(flambeau.Tensor, metaclass=_BufferMeta):
    """A tensor that a module counts among its buffers when it is assigned as an attribute.

    Args:
        data: the value. The buffer shares its storage.
        persistent: whether it is part of the module's ``state_dict``.
    """

    persistent: bool

    def __new__(cls, data: Any = None, *, persistent: bool = True) -> Any:
        """Mark a detached alias of ``data`` as a buffer."""
        if data is None:
            data = flambeau.empty(0)
        tensor = data.detach().requires_grad_(data.requires_grad)
        tensor.persistent = persistent
        tensor._is_buffer = True
        return tensor
