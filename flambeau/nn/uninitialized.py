"""Parameters and buffers whose shapes are not known yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flambeau
from flambeau.nn.parameter import Parameter
from flambeau.overriding import disabled_torch_function
from flambeau.tensor import as_subclass

_NO_SHAPE = (
    "Can't access the shape of an uninitialized parameter or buffer. This error usually happens in"
    " `load_state_dict` when trying to load an uninitialized parameter into an initialized one."
    " Call `forward` to initialize the parameters before accessing their attributes."
)
_NO_VALUE = (
    "Attempted to use an uninitialized parameter. This error happens when you are using a"
    " `LazyModule` or explicitly manipulating `torch.nn.parameter.UninitializedParameter` objects."
    " When using LazyModules Call `forward` with a dummy batch to initialize the parameters before"
    " calling torch functions"
)


class UninitializedTensorMixin:
    """A tensor with a dtype and a device, but no shape and no values until `materialize`."""

    cls_to_become: type
    dtype: Any
    device: Any
    requires_grad: bool

    @property
    def _shape(self) -> tuple[int, ...]:
        raise ValueError(_NO_VALUE)

    @_shape.setter
    def _shape(self, shape: tuple[int, ...]) -> None:
        self.__dict__["_shape"] = shape

    @property
    def shape(self) -> Any:
        """None is there.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError(_NO_SHAPE)

    @property
    def data(self) -> Any:
        """A tensor of no elements with the dtype and device."""
        return as_subclass(self, flambeau.Tensor).detach()  # type: ignore[arg-type]

    @data.setter
    def data(self, value: Any) -> None:
        value = value.data if is_lazy(value) else value
        flambeau.Tensor.data.fset(self, value)  # type: ignore[attr-defined]

    def detach(self) -> Any:
        """The tensor itself: it has no history."""
        return self

    def materialize(self, shape: Any, device: Any = None, dtype: Any = None) -> None:
        """Give it memory; it becomes an ordinary parameter or buffer in place.

        Args:
            shape: its sizes.
            device: by default the one it has.
            dtype: by default the one it has.
        """
        self.data = flambeau.empty(shape, device=device or self.device, dtype=dtype or self.dtype)
        self.__class__ = self.cls_to_become

    def size(self, dim: int | None = None) -> Any:
        """``Size([0])``."""
        return self.data.size(dim)

    def copy_(self, src: Any, non_blocking: bool = False) -> Any:
        """Nothing: there is nothing to copy to."""
        return self

    def share_memory_(self) -> Any:
        """Refused.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError(
            "Can't share memory on an uninitialized parameter or buffer. Call `forward` to"
            " initialize the parameters before calling `module.share_memory()`."
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return type(self), (self.requires_grad, self.device, self.dtype)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if id(self) not in memo:
            make, args = self.__reduce_ex__(4)
            memo[id(self)] = make(*args)
        return memo[id(self)]


def _conversion(name: str) -> Callable[..., Any]:
    def convert(self: Any, *args: Any, **kwargs: Any) -> Any:
        found = getattr(self.data, name)(*args, **kwargs)
        return type(self)(self.requires_grad, found.device, found.dtype)

    convert.__doc__ = f"`Tensor.{name}`, of a tensor that has no values yet."
    return convert


for _name in "half float double bfloat16 char short int long cuda cpu xpu to type".split():
    setattr(UninitializedTensorMixin, _name, _conversion(_name))


class UninitializedParameter(UninitializedTensorMixin, Parameter):  # type: ignore[misc, metaclass]
    """A parameter without a shape, until a module sees its first input.

    Args:
        requires_grad: whether gradients are wanted for it.
        device: where it will be.
        dtype: what it will hold.
    """

    cls_to_become = Parameter

    def __new__(
        cls, requires_grad: bool = True, device: Any = None, dtype: Any = None
    ) -> UninitializedParameter:
        """One with the given dtype and device."""
        made: Any = as_subclass(flambeau.empty(0, device=device, dtype=dtype), cls)
        made._rg = requires_grad
        return made

    def __init__(self, requires_grad: bool = True, device: Any = None, dtype: Any = None) -> None:
        """All is done in ``__new__``."""


class UninitializedBuffer(UninitializedTensorMixin, flambeau.Tensor):  # type: ignore[misc]
    """A buffer without a shape, until a module sees its first input.

    Args:
        requires_grad: whether gradients are wanted for it.
        device: where it will be.
        dtype: what it will hold.
        persistent: whether it will be part of the module's ``state_dict``.
    """

    __torch_function__ = staticmethod(disabled_torch_function)
    cls_to_become = flambeau.Tensor
    persistent: bool
    _is_buffer = True

    def __new__(
        cls,
        requires_grad: bool = False,
        device: Any = None,
        dtype: Any = None,
        persistent: bool = True,
    ) -> UninitializedBuffer:
        """One with the given dtype and device."""
        made: Any = as_subclass(flambeau.empty(0, device=device, dtype=dtype), cls)
        made._rg = requires_grad
        made.persistent = persistent
        return made

    def __init__(
        self,
        requires_grad: bool = False,
        device: Any = None,
        dtype: Any = None,
        persistent: bool = True,
    ) -> None:
        """All is done in ``__new__``."""


def is_lazy(param: Any) -> bool:
    """Whether a parameter or buffer has no shape yet."""
    return isinstance(param, UninitializedTensorMixin)


__all__ = [
    "UninitializedBuffer",
    "UninitializedParameter",
    "UninitializedTensorMixin",
    "is_lazy",
]
