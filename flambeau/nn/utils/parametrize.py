"""Parameters that are computed from others each time they are read.

`register_parametrization(module, "weight", f)` makes `module.weight` the value of f at a parameter
of its own, `module.parametrizations.weight.original`. Several are applied one after another.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from typing import Any

import flambeau
from flambeau.nn.containers import ModuleDict, ModuleList
from flambeau.nn.module import Module
from flambeau.nn.parameter import Parameter

#: How many `cached()` are open, and what they keep: (module's id, name) -> value.
_open = 0
_cache: dict[tuple[int, str], Any] = {}


@contextlib.contextmanager
def cached() -> Iterator[None]:
    """Inside, each parametrized tensor is computed once."""
    global _open
    _open += 1
    try:
        yield
    finally:
        _open -= 1
        if not _open:
            _cache.clear()


def _register(module: Module, name: str, tensor: Any) -> None:
    """A parameter, or a buffer where the tensor is none."""
    if isinstance(tensor, Parameter):
        module.register_parameter(name, tensor)
    else:
        module.register_buffer(name, tensor)


def _like(tensor: Any, original: Any) -> Any:
    """A tensor as a parameter, if the original is one."""
    if isinstance(original, Parameter):
        return Parameter(tensor, original.requires_grad)
    return tensor


class ParametrizationList(ModuleList):
    """The parametrizations of one tensor, and what it is computed from.

    Args:
        modules: each maps what the one before it made, the first the original tensor.
        original: a parameter or a buffer.
        unsafe: leave out the checks of shape and dtype.

    Attributes:
        original: the parameter; `original0`, `original1`, ... where the last `right_inverse` gives
            several tensors.
    """

    original: Any
    unsafe: bool

    def __init__(self, modules: Sequence[Any], original: Any, unsafe: bool = False) -> None:
        if len(modules) == 0:
            raise ValueError("ParametrizationList requires one or more modules.")
        super().__init__(modules)
        self.unsafe = unsafe
        shape, dtype = original.shape, original.dtype
        with flambeau.no_grad():
            new: Any = original
            for module in reversed(self):
                if hasattr(module, "right_inverse"):
                    try:
                        new = module.right_inverse(new)
                    except NotImplementedError:
                        pass
        if not isinstance(new, (flambeau.Tensor, Sequence)):
            raise ValueError(
                "'right_inverse' must return a Tensor or a Sequence of tensors (list, tuple...)."
                f" Got {type(new).__name__}"
            )
        self.is_tensor = isinstance(new, flambeau.Tensor)
        self._take(original, new)
        if not unsafe:
            self._check(self(), shape, dtype)

    def _take(self, original: Any, new: Any) -> None:
        """Note what the value is computed from."""
        self.ntensors = 1 if self.is_tensor else len(new)
        if self.is_tensor:
            if original.dtype != new.dtype:
                raise ValueError(
                    "When `right_inverse` outputs one tensor, it may not change the dtype.\n"
                    f"original.dtype: {original.dtype}\nright_inverse(original).dtype: {new.dtype}"
                )
            with flambeau.no_grad():
                original.data = new.detach().clone() if new is not original else original.data
            _register(self, "original", original)
        else:
            for i, part in enumerate(new):
                if not isinstance(part, flambeau.Tensor):
                    raise ValueError(
                        "'right_inverse' must return a Tensor or a Sequence of tensors (list,"
                        f" tuple...). Got element {i} of the sequence with type"
                        f" {type(part).__name__}."
                    )
                _register(self, f"original{i}", _like(part.detach(), original))

    @staticmethod
    def _check(value: Any, shape: Any, dtype: Any) -> None:
        """Whether the value is as the original was.

        Raises:
            ValueError: it is not.
        """
        if not isinstance(value, flambeau.Tensor):
            raise ValueError(f"A parametrization must return a tensor. Got {type(value).__name__}.")
        for what, got, want in (("dtype", value.dtype, dtype), ("shape", value.shape, shape)):
            if got != want:
                raise ValueError(
                    f"Registering a parametrization may not change the {what} of the tensor,"
                    " unless `unsafe` flag is enabled.\n"
                    f"unparametrized {what}: {want}\nparametrized {what}: {got}"
                )

    def _originals(self) -> list[Any]:
        if self.is_tensor:
            return [self.original]
        return [getattr(self, f"original{i}") for i in range(self.ntensors)]

    def right_inverse(self, value: Any) -> None:
        """Change the original so that the value becomes this one.

        Raises:
            RuntimeError: a parametrization has no `right_inverse`.
        """
        with flambeau.no_grad():
            for module in reversed(self):
                if not hasattr(module, "right_inverse"):
                    raise RuntimeError(
                        f"parametrization {type(module).__name__} does not implement right_inverse."
                    )
                value = module.right_inverse(value)
            parts = [value] if self.is_tensor else list(value)
            if len(parts) != self.ntensors:
                raise ValueError(
                    "'right_inverse' must return a sequence of tensors of length"
                    f" {self.ntensors}. Got a sequence of length {len(parts)}."
                )
            for own, part in zip(self._originals(), parts, strict=True):
                if part.dtype != own.dtype:
                    raise ValueError(
                        f"The tensor returned by `right_inverse` has dtype {part.dtype} while the"
                        f" original has dtype {own.dtype}"
                    )
                own.set_(part.detach().clone()) if part.shape != own.shape else own.copy_(part)

    def forward(self) -> Any:
        """The value."""
        first, *rest = self
        value = first(*self._originals())
        for module in rest:
            value = module(value)
        return value


def _inject_class(module: Module) -> None:
    """Give a module a class of its own, that properties can be put into."""
    cls = module.__class__

    def default_deepcopy(self: Any, memo: dict[int, Any]) -> Any:
        found = memo.get(id(self))
        if found is None:
            memo[id(self)] = found = self.__new__(self.__class__)
            found.__dict__ = copy.deepcopy(self.__dict__, memo)
        return found

    def getstate(self: Any) -> Any:
        raise RuntimeError(
            "Serialization of parametrized modules is only supported through state_dict(). See:\n"
            "https://pytorch.org/tutorials/beginner/saving_loading_models.html"
            "#saving-loading-a-general-checkpoint-for-inference-and-or-resuming-training"
        )

    names: dict[str, Any] = {"__getstate__": getstate}
    if not hasattr(cls, "__deepcopy__"):
        names["__deepcopy__"] = default_deepcopy
    module.__class__ = type(f"Parametrized{cls.__name__}", (cls,), names)


def _inject_property(module: Module, name: str) -> None:
    """Make a name of a module read as the parametrized value."""

    def get(self: Any) -> Any:
        if not _open:
            return self.parametrizations[name]()
        key = (id(self), name)
        if key not in _cache:
            _cache[key] = self.parametrizations[name]()
        return _cache[key]

    def put(self: Any, value: Any) -> None:
        self.parametrizations[name].right_inverse(value)

    setattr(module.__class__, name, property(get, put))


def register_parametrization(
    module: Module, tensor_name: str, parametrization: Module, *, unsafe: bool = False
) -> Module:
    """Have a parameter or buffer of a module computed from another each time it is read.

    Args:
        module: it gets a class of its own, and `parametrizations`.
        tensor_name: of the parameter or buffer.
        parametrization: maps a tensor to one of the same shape and dtype; with `right_inverse` it
            says from what the present value would come.
        unsafe: allow another shape or dtype.

    Returns:
        The module.

    Raises:
        ValueError: it has no such tensor, or the value would have another shape or dtype.
    """
    parametrization.train(module.training)
    if is_parametrized(module, tensor_name):
        chain: Any = module.parametrizations[tensor_name]
        if not unsafe:
            value = getattr(module, tensor_name)
            ParametrizationList._check(parametrization(value), value.shape, value.dtype)
            if hasattr(parametrization, "right_inverse"):
                with contextlib.suppress(NotImplementedError):
                    back = parametrization.right_inverse(value)
                    ParametrizationList._check(back, value.shape, value.dtype)
        chain.append(parametrization)
        chain.unsafe |= unsafe
    elif tensor_name in module._buffers or tensor_name in module._parameters:
        original = getattr(module, tensor_name)
        chain = ParametrizationList([parametrization], original, unsafe=unsafe)
        delattr(module, tensor_name)
        if not is_parametrized(module):
            _inject_class(module)
            module.parametrizations = ModuleDict()
        _inject_property(module, tensor_name)
        module.parametrizations[tensor_name] = chain
    else:
        raise ValueError(
            f"Module '{module}' does not have a parameter, a buffer, or a parametrized element"
            f" with name '{tensor_name}'"
        )
    return module


def is_parametrized(module: Module, tensor_name: str | None = None) -> bool:
    """Whether a module has parametrized tensors, or one of this name."""
    chains = getattr(module, "parametrizations", None)
    if chains is None or not isinstance(chains, ModuleDict):
        return False
    return len(chains) > 0 if tensor_name is None else tensor_name in chains


def remove_parametrizations(
    module: Module, tensor_name: str, leave_parametrized: bool = True
) -> Module:
    """Make a tensor of a module an ordinary one again.

    Args:
        module: as given to `register_parametrization`.
        tensor_name: of the tensor.
        leave_parametrized: whether it keeps the computed value, or gets the original back.

    Returns:
        The module.

    Raises:
        ValueError: the tensor is not parametrized, or has several originals to choose from.
    """
    if not is_parametrized(module, tensor_name):
        raise ValueError(f"Module {module} does not have a parametrization on {tensor_name}")
    chain: Any = module.parametrizations[tensor_name]
    if not chain.is_tensor and not leave_parametrized:
        raise ValueError(
            "Cannot leave unparametrized (`leave_parametrized=False`) a tensor that is"
            " parametrized in terms of a sequence of tensors."
        )
    original: Any = chain.original if chain.is_tensor else chain.original0
    if leave_parametrized:
        with flambeau.no_grad():
            value = getattr(module, tensor_name).detach().clone()
        if chain.is_tensor:
            with flambeau.no_grad():
                original.data = value
        else:
            original = Parameter(value) if isinstance(original, Parameter) else value
    delattr(module.__class__, tensor_name)
    del module.parametrizations[tensor_name]
    _register(module, tensor_name, original)
    if not is_parametrized(module):
        delattr(module, "parametrizations")
        module.__class__ = module.__class__.__bases__[0]
    return module


def type_before_parametrizations(module: Module) -> type:
    """The class of a module without its parametrizations."""
    return module.__class__.__bases__[0] if is_parametrized(module) else type(module)


def transfer_parametrizations_and_params(
    from_module: Module, to_module: Module, tensor_name: str | None = None
) -> Module:
    """Parametrize a module as another is, and give it the other's originals.

    Args:
        from_module: is parametrized.
        to_module: of the same kind.
        tensor_name: of one tensor; all unless given.

    Returns:
        `to_module`.
    """
    names = list(from_module.parametrizations) if tensor_name is None else [tensor_name]
    for name in names:
        chain: Any = from_module.parametrizations[name]
        if not hasattr(to_module, name):
            given = chain.original if chain.is_tensor else chain.original0
            _register(to_module, name, copy.deepcopy(given))
        for parametrization in chain:
            register_parametrization(to_module, name, parametrization, unsafe=chain.unsafe)
        new: Any = to_module.parametrizations[name]
        for own in ("original",) if chain.is_tensor else new._parameters:
            setattr(new, own, getattr(chain, own))
    return to_module


__all__ = [
    "ParametrizationList",
    "cached",
    "is_parametrized",
    "register_parametrization",
    "remove_parametrizations",
    "transfer_parametrizations_and_params",
    "type_before_parametrizations",
]
