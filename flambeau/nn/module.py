"""The base class of all neural network modules."""

from __future__ import annotations

import inspect
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self

import flambeau
from flambeau.nn.conversion import ConversionMixin
from flambeau.nn.hooks import (
    Hook,
    RemovableHandle,
    add_hook,
    call_with_hooks,
    global_backward_hooks,
    global_backward_kind,
    global_backward_pre_hooks,
    global_buffer_registration_hooks,
    global_forward_hooks,
    global_forward_pre_hooks,
    global_module_registration_hooks,
    global_parameter_registration_hooks,
)
from flambeau.nn.parameter import Buffer, Parameter, typename
from flambeau.nn.state import StateDictMixin

# Attributes that a module unpickled from an older file may lack, with how they start.
_LATER_ATTRIBUTES: dict[str, Callable[[], Any]] = {
    "_forward_pre_hooks": OrderedDict,
    "_forward_pre_hooks_with_kwargs": OrderedDict,
    "_forward_hooks_with_kwargs": OrderedDict,
    "_forward_hooks_always_called": OrderedDict,
    "_state_dict_hooks": OrderedDict,
    "_state_dict_pre_hooks": OrderedDict,
    "_load_state_dict_pre_hooks": OrderedDict,
    "_load_state_dict_post_hooks": OrderedDict,
    "_non_persistent_buffers_set": set,
    "_is_full_backward_hook": lambda: None,
    "_backward_pre_hooks": OrderedDict,
}


def _forward_unimplemented(self: Any, *input: Any) -> None:
    """The computation, to be defined by every subclass.

    Raises:
        NotImplementedError: the subclass did not.
    """
    raise NotImplementedError(
        f'Module [{type(self).__name__}] is missing the required "forward" function'
    )


def add_indent(text: str, spaces: int) -> str:
    """Indent all lines but the first.

    Args:
        text: one or more lines.
        spaces: how far.

    Returns:
        The text; blank lines stay empty.
    """
    first, *rest = text.split("\n")
    return "\n".join([first, *(spaces * " " + line if line.strip() else "" for line in rest)])


def _registered(hooks: dict[int, Hook], module: Any, name: str, value: Any) -> Any:
    """The value as the global registration hooks leave it."""
    for hook in hooks.values():
        output = hook(module, name, value)
        if output is not None:
            value = output
    return value


class Module(ConversionMixin, StateDictMixin):
    """A container of parameters, buffers and submodules with a ``forward`` computation.

    Parameters, buffers and modules assigned as attributes are registered under that name.

    Example:
        >>> class Affine(Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.weight = Parameter(flambeau.ones(3))
        ...     def forward(self, x):
        ...         return x * self.weight
        >>> [name for name, _ in Affine().named_parameters()]
        ['weight']
    """

    dump_patches: bool = False
    training: bool
    call_super_init: bool = False
    _compiled_call_impl: Callable[..., Any] | None = None
    _backward_pre_hooks: dict[int, Hook]
    _backward_hooks: dict[int, Hook]
    _is_full_backward_hook: bool | None
    _forward_hooks: dict[int, Hook]
    _forward_hooks_with_kwargs: dict[int, bool]
    _forward_hooks_always_called: dict[int, bool]
    _forward_pre_hooks: dict[int, Hook]
    _forward_pre_hooks_with_kwargs: dict[int, bool]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Make the empty registries.

        Raises:
            TypeError: arguments were given and ``call_super_init`` is False.
        """
        if not self.call_super_init:
            if kwargs:
                raise TypeError(
                    f"{type(self).__name__}.__init__() got an unexpected keyword argument"
                    f" '{next(iter(kwargs))}'"
                )
            if args:
                raise TypeError(
                    f"{type(self).__name__}.__init__() takes 1 positional argument but"
                    f" {len(args) + 1} were given"
                )
        # Straight into the instance's dict: this class's __setattr__ sorts every value first.
        attributes = self.__dict__
        attributes["training"] = True
        attributes["_parameters"] = {}
        attributes["_buffers"] = {}
        attributes["_non_persistent_buffers_set"] = set()
        attributes["_backward_pre_hooks"] = OrderedDict()
        attributes["_backward_hooks"] = OrderedDict()
        attributes["_is_full_backward_hook"] = None
        attributes["_forward_hooks"] = OrderedDict()
        attributes["_forward_hooks_with_kwargs"] = OrderedDict()
        attributes["_forward_hooks_always_called"] = OrderedDict()
        attributes["_forward_pre_hooks"] = OrderedDict()
        attributes["_forward_pre_hooks_with_kwargs"] = OrderedDict()
        attributes["_state_dict_hooks"] = OrderedDict()
        attributes["_state_dict_pre_hooks"] = OrderedDict()
        attributes["_load_state_dict_pre_hooks"] = OrderedDict()
        attributes["_load_state_dict_post_hooks"] = OrderedDict()
        attributes["_modules"] = {}
        if self.call_super_init:
            super().__init__(*args, **kwargs)

    forward: Callable[..., Any] = _forward_unimplemented

    # -- registration ------------------------------------------------------------------------

    def _check_name(self, kind: str, name: Any, registry: dict[str, Any]) -> None:
        """Whether an attribute may be registered under this name."""
        if not isinstance(name, str):
            raise TypeError(f"{kind} name should be a string. Got {typename(name)}")
        if "." in name:
            got = f", got: {name}" if kind == "module" else ""
            raise KeyError(f'{kind} name can\'t contain "."{got}')
        if name == "":
            raise KeyError(f'{kind} name can\'t be empty string ""')
        if hasattr(self, name) and name not in registry:
            raise KeyError(f"attribute '{name}' already exists")

    def register_buffer(self, name: str, tensor: Any, persistent: bool = True) -> None:
        """Add a tensor that is part of the module's state but not a parameter.

        Args:
            name: the attribute.
            tensor: the buffer, or None for one that is not there.
            persistent: whether it is part of the ``state_dict``.

        Raises:
            AttributeError: ``Module.__init__`` was not called yet.
            TypeError: the name is not a string, or the value not a tensor.
            KeyError: the name is taken, empty or has a dot.
        """
        if "_buffers" not in self.__dict__:
            raise AttributeError("cannot assign buffer before Module.__init__() call")
        self._check_name("buffer", name, self._buffers)
        if tensor is not None and not isinstance(tensor, flambeau.Tensor):
            raise TypeError(
                f"cannot assign '{typename(tensor)}' object to buffer '{name}' (torch Tensor or"
                " None required)"
            )
        self._buffers[name] = _registered(global_buffer_registration_hooks, self, name, tensor)
        if persistent:
            self._non_persistent_buffers_set.discard(name)
        else:
            self._non_persistent_buffers_set.add(name)

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Add a parameter.

        Args:
            name: the attribute.
            param: the parameter, or None for one that is not there (a layer without bias).

        Raises:
            AttributeError: ``Module.__init__`` was not called yet.
            TypeError: the name is not a string, or the value not a Parameter.
            KeyError: the name is taken, empty or has a dot.
            ValueError: the parameter is the result of a computation.
        """
        if "_parameters" not in self.__dict__:
            raise AttributeError("cannot assign parameter before Module.__init__() call")
        self._check_name("parameter", name, self._parameters)
        if param is not None:
            if not isinstance(param, Parameter):
                raise TypeError(
                    f"cannot assign '{typename(param)}' object to parameter '{name}'"
                    " (torch.nn.Parameter or None required)"
                )
            if param.grad_fn is not None:
                raise ValueError(
                    f"Cannot assign non-leaf Tensor to parameter '{name}'. Model parameters must"
                    f" be created explicitly. To express '{name}' as a function of another"
                    " Tensor, compute the value in the forward() method."
                )
            param = _registered(global_parameter_registration_hooks, self, name, param)
        self._parameters[name] = param

    def add_module(self, name: str, module: Module | None) -> None:
        """Add a submodule.

        Args:
            name: the attribute.
            module: the submodule, or None for one that is not there.

        Raises:
            TypeError: the name is not a string, or the value not a Module.
            KeyError: the name is taken, empty or has a dot.
        """
        if not isinstance(module, Module) and module is not None:
            raise TypeError(f"{typename(module)} is not a Module subclass")
        self._check_name("module", name, self._modules)
        self._modules[name] = _registered(global_module_registration_hooks, self, name, module)

    def register_module(self, name: str, module: Module | None) -> None:
        """The same as :meth:`add_module`."""
        self.add_module(name, module)

    # -- look-up by dotted name --------------------------------------------------------------

    def _get_attribute(self, name: str) -> Any:
        if not hasattr(self, name):
            raise AttributeError(f"{self._get_name()} has no attribute `{name}`")
        return getattr(self, name)

    def get_submodule(self, target: str) -> Module:
        """The submodule of a dotted name, ``""`` being the module itself.

        Args:
            target: for instance ``"encoder.layers.0"``.

        Returns:
            The module.

        Raises:
            AttributeError: a part of the path is missing, or is no module.
        """
        module: Module = self
        for name in target.split(".") if target else ():
            module = module._get_attribute(name)
            if not isinstance(module, Module):
                raise AttributeError(f"`{name}` is not an nn.Module")
        return module

    def set_submodule(self, target: str, module: Module, strict: bool = False) -> None:
        """Put a module in the place of a dotted name.

        Args:
            target: for instance ``"encoder.layers.0"``.
            module: the new module.
            strict: it must replace one that is there.

        Raises:
            ValueError: the target is empty, or the value no module.
            AttributeError: a part of the path is missing, or is no module.
        """
        if target == "":
            raise ValueError("Cannot set the submodule without a target name!")
        if not isinstance(module, Module):
            raise ValueError(f"`module` is not an nn.Module, found {type(module)}")
        parent_path, _, name = target.rpartition(".")
        parent = self.get_submodule(parent_path)
        if strict or hasattr(parent, name):
            if not isinstance(parent._get_attribute(name), Module):
                raise AttributeError(f"`{name}` is not an nn.Module")
        setattr(parent, name, module)

    def get_parameter(self, target: str) -> Parameter:
        """The parameter of a dotted name.

        Raises:
            AttributeError: a part of the path is missing, or it is no parameter.
        """
        path, _, name = target.rpartition(".")
        param = self.get_submodule(path)._get_attribute(name)
        if not isinstance(param, Parameter):
            raise AttributeError(f"`{name}` is not an nn.Parameter")
        return param

    def get_buffer(self, target: str) -> Any:
        """The buffer of a dotted name.

        Raises:
            AttributeError: a part of the path is missing, or it is no buffer.
        """
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        buffer = module._get_attribute(name)
        if name not in module._buffers:
            raise AttributeError(f"`{name}` is not a buffer")
        return buffer

    # -- hooks -------------------------------------------------------------------------------

    def register_full_backward_pre_hook(self, hook: Hook, prepend: bool = False) -> RemovableHandle:
        """Call ``hook(module, grad_output)`` before the module's backward.

        Args:
            hook: may return a replacement for ``grad_output``.
            prepend: run it before the hooks already there.

        Returns:
            The handle that takes it off again.
        """
        return add_hook(self._backward_pre_hooks, hook, prepend=prepend)

    def _check_backward_kind(self, full: bool) -> None:
        if self._is_full_backward_hook is (not full):
            raise RuntimeError(
                "Cannot use both regular backward hooks and full backward hooks on a single"
                " Module. Please use only one of them."
            )
        self._is_full_backward_hook = full

    def register_backward_hook(self, hook: Hook) -> RemovableHandle:
        """The older form of :meth:`register_full_backward_hook`, on the output's node alone.

        Raises:
            RuntimeError: the module has full backward hooks.
        """
        self._check_backward_kind(full=False)
        return add_hook(self._backward_hooks, hook)

    def register_full_backward_hook(self, hook: Hook, prepend: bool = False) -> RemovableHandle:
        """Call ``hook(module, grad_input, grad_output)`` after the module's backward.

        Args:
            hook: may return a replacement for ``grad_input``.
            prepend: run it before the hooks already there.

        Returns:
            The handle that takes it off again.

        Raises:
            RuntimeError: the module has regular backward hooks.
        """
        self._check_backward_kind(full=True)
        return add_hook(self._backward_hooks, hook, prepend=prepend)

    def _get_backward_hooks(self) -> tuple[list[Hook], list[Hook]]:
        """Full and regular backward hooks that apply to this module, the global ones first."""
        chosen: tuple[list[Hook], list[Hook]] = ([], [])
        for full, hooks in (
            (global_backward_kind["full"], global_backward_hooks),
            (self._is_full_backward_hook, self._backward_hooks),
        ):
            if full is not None:
                chosen[0 if full else 1].extend(hooks.values())
        return chosen

    def register_forward_pre_hook(
        self, hook: Hook, *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Call ``hook(module, args)`` before forward; it may return new arguments.

        Args:
            hook: the function.
            prepend: run it before the hooks already there.
            with_kwargs: call ``hook(module, args, kwargs)``, which returns None or a pair.

        Returns:
            The handle that takes it off again.
        """
        handle = RemovableHandle(
            self._forward_pre_hooks, extra_dict=self._forward_pre_hooks_with_kwargs
        )
        self._forward_pre_hooks[handle.id] = hook
        if with_kwargs:
            self._forward_pre_hooks_with_kwargs[handle.id] = True
        if prepend:
            self._forward_pre_hooks.move_to_end(handle.id, last=False)  # type: ignore[attr-defined]
        return handle

    def register_forward_hook(
        self,
        hook: Hook,
        *,
        prepend: bool = False,
        with_kwargs: bool = False,
        always_call: bool = False,
    ) -> RemovableHandle:
        """Call ``hook(module, args, output)`` after forward; it may return a new output.

        Args:
            hook: the function.
            prepend: run it before the hooks already there.
            with_kwargs: call ``hook(module, args, kwargs, output)``.
            always_call: call it also when forward raised.

        Returns:
            The handle that takes it off again.
        """
        handle = RemovableHandle(
            self._forward_hooks,
            extra_dict=[self._forward_hooks_with_kwargs, self._forward_hooks_always_called],
        )
        self._forward_hooks[handle.id] = hook
        if with_kwargs:
            self._forward_hooks_with_kwargs[handle.id] = True
        if always_call:
            self._forward_hooks_always_called[handle.id] = True
        if prepend:
            self._forward_hooks.move_to_end(handle.id, last=False)  # type: ignore[attr-defined]
        return handle

    def _call_impl(self, *args: Any, **kwargs: Any) -> Any:
        """Forward, between the hooks when there are any."""
        if not (
            self._backward_hooks
            or self._backward_pre_hooks
            or self._forward_hooks
            or self._forward_pre_hooks
            or global_backward_pre_hooks
            or global_backward_hooks
            or global_forward_hooks
            or global_forward_pre_hooks
        ):
            return self.forward(*args, **kwargs)
        return call_with_hooks(self, args, kwargs)

    def _wrapped_call_impl(self, *args: Any, **kwargs: Any) -> Any:
        """The compiled call after :meth:`compile`, otherwise the plain one."""
        if self._compiled_call_impl is not None:
            return self._compiled_call_impl(*args, **kwargs)
        return self._call_impl(*args, **kwargs)

    __call__: Callable[..., Any] = _wrapped_call_impl

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile this module's call in place; takes ``flambeau.compile``'s options."""
        self._compiled_call_impl = flambeau.compile(self._call_impl, *args, **kwargs)

    # -- attributes --------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        """All attributes but the compiled call."""
        state = self.__dict__.copy()
        state.pop("_compiled_call_impl", None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the attributes over, adding those that came after the state was written."""
        self.__dict__.update(state)
        for name, start in _LATER_ATTRIBUTES.items():
            if name not in self.__dict__:
                self.__dict__[name] = start()

    def __getattr__(self, name: str) -> Any:
        """Parameters, buffers and submodules by name.

        Raises:
            AttributeError: there is none of that name.
        """
        attributes = self.__dict__
        # Written out, as every use of a parameter comes by here.
        if "_parameters" in attributes and name in (found := attributes["_parameters"]):
            return found[name]
        if "_modules" in attributes and name in (found := attributes["_modules"]):
            return found[name]
        if "_buffers" in attributes and name in (found := attributes["_buffers"]):
            return found[name]
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def _forget(self, name: str, *registries: Any) -> None:
        """Drop a name where it stood as another kind of attribute."""
        for registry in registries:
            if isinstance(registry, set):
                registry.discard(name)
            else:
                registry.pop(name, None)

    def __setattr__(self, name: str, value: Any) -> None:
        """Register parameters, modules and buffers; anything else is a plain attribute.

        Raises:
            AttributeError: ``Module.__init__`` was not called yet.
            TypeError: the name is a parameter's, module's or buffer's, and the value is not.
        """
        attributes = self.__dict__
        params = attributes.get("_parameters")
        if isinstance(value, Parameter):
            if params is None:
                raise AttributeError("cannot assign parameters before Module.__init__() call")
            self._forget(
                name, attributes, self._buffers, self._modules, self._non_persistent_buffers_set
            )
            self.register_parameter(name, value)
            return
        if params is not None and name in params:
            if value is not None:
                raise TypeError(
                    f"cannot assign '{typename(value)}' as parameter '{name}'"
                    " (torch.nn.Parameter or None expected)"
                )
            self.register_parameter(name, value)
            return
        modules = attributes.get("_modules")
        if isinstance(value, Module):
            if modules is None:
                raise AttributeError("cannot assign module before Module.__init__() call")
            self._forget(
                name, attributes, self._parameters, self._buffers, self._non_persistent_buffers_set
            )
            modules[name] = _registered(global_module_registration_hooks, self, name, value)
            return
        if modules is not None and name in modules:
            if value is not None:
                raise TypeError(
                    f"cannot assign '{typename(value)}' as child module '{name}'"
                    " (torch.nn.Module or None expected)"
                )
            modules[name] = _registered(global_module_registration_hooks, self, name, value)
            return
        buffers = attributes.get("_buffers")
        if isinstance(value, Buffer) or (buffers is not None and name in buffers):
            self._set_buffer(name, value)
            return
        super().__setattr__(name, value)

    def _set_buffer(self, name: str, value: Any) -> None:
        """Assign to a buffer's name, or a Buffer to any name."""
        if value is not None and not isinstance(value, flambeau.Tensor):
            raise TypeError(
                f"cannot assign '{typename(value)}' as buffer '{name}'"
                " (torch.nn.Buffer, torch.Tensor or None expected)"
            )
        if isinstance(value, Buffer):
            persistent = value.persistent
        else:
            persistent = name not in self._non_persistent_buffers_set
        own = getattr(self.register_buffer, "__func__", None) is Module.register_buffer
        if own or "persistent" in inspect.signature(self.register_buffer).parameters:
            self.register_buffer(name, value, persistent)
            return
        # A subclass overrides register_buffer as it was before buffers could be left out.
        if not persistent:
            raise RuntimeError(
                "Registering a non-persistent buffer on a Module subclass that implements"
                " register_buffer() without the persistent argument is not allowed."
            )
        self.register_buffer(name, value)

    def __delattr__(self, name: str) -> None:
        """Remove a parameter, buffer, submodule or plain attribute."""
        if name in self._parameters:
            del self._parameters[name]
        elif name in self._buffers:
            del self._buffers[name]
            self._non_persistent_buffers_set.discard(name)
        elif name in self._modules:
            del self._modules[name]
        else:
            super().__delattr__(name)

    def __dir__(self) -> list[str]:
        """All attributes; names that start with a digit are left out."""
        keys = [
            *dir(type(self)),
            *self.__dict__,
            *self._parameters,
            *self._modules,
            *self._buffers,
        ]
        return sorted(key for key in keys if not key[0].isdigit())

    # -- iteration ---------------------------------------------------------------------------

    def _named_members(
        self,
        get_members_fn: Callable[[Any], Iterable[tuple[str, Any]]],
        prefix: str = "",
        recurse: bool = True,
        remove_duplicate: bool = True,
    ) -> Iterator[tuple[str, Any]]:
        """Members of this module and its submodules with their dotted names."""
        seen = set()
        modules: Iterable[tuple[str, Module]] = [(prefix, self)]
        if recurse:
            modules = self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate)
        for module_prefix, module in modules:
            for name, value in get_members_fn(module):
                if value is None or value in seen:
                    continue
                if remove_duplicate:
                    seen.add(value)
                yield (f"{module_prefix}.{name}" if module_prefix else name), value

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """The parameters of this module and, with ``recurse``, of its submodules."""
        for _, param in self.named_parameters(recurse=recurse):
            yield param

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """The parameters with their dotted names.

        Args:
            prefix: put before every name, with a dot.
            recurse: those of submodules too.
            remove_duplicate: give a shared parameter once.
        """
        yield from self._named_members(
            lambda module: module._parameters.items(), prefix, recurse, remove_duplicate
        )

    def buffers(self, recurse: bool = True) -> Iterator[Any]:
        """The buffers of this module and, with ``recurse``, of its submodules."""
        for _, buf in self.named_buffers(recurse=recurse):
            yield buf

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Any]]:
        """The buffers with their dotted names; arguments as of :meth:`named_parameters`."""
        yield from self._named_members(
            lambda module: module._buffers.items(), prefix, recurse, remove_duplicate
        )

    def children(self) -> Iterator[Module]:
        """The direct submodules."""
        for _, module in self.named_children():
            yield module

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The direct submodules with their names, each once."""
        seen = set()
        for name, module in self._modules.items():
            if module is not None and module not in seen:
                seen.add(module)
                yield name, module

    def modules(self, remove_duplicate: bool = True) -> Iterator[Module]:
        """This module and all below it."""
        for _, module in self.named_modules(remove_duplicate=remove_duplicate):
            yield module

    def named_modules(
        self, memo: set[Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """This module and all below it, with their dotted names.

        Args:
            memo: modules to leave out; those given are added.
            prefix: this module's own name.
            remove_duplicate: give a shared module once.
        """
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                path = f"{prefix}.{name}" if prefix else name
                yield from module.named_modules(memo, path, remove_duplicate)

    # -- modes and gradients -----------------------------------------------------------------

    def train(self, mode: bool = True) -> Self:
        """Set training mode (dropout, batch statistics) on this module and all below it.

        Raises:
            ValueError: ``mode`` is not a bool.
        """
        if not isinstance(mode, bool):
            raise ValueError("training mode is expected to be boolean")
        self.training = mode
        for module in self.children():
            module.train(mode)
        return self

    def eval(self) -> Self:
        """Set evaluation mode."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Set whether gradients are wanted for all parameters."""
        for param in self.parameters():
            param.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Reset the gradients of all parameters.

        Args:
            set_to_none: drop them in place of filling them with zeros.
        """
        if getattr(self, "_is_replica", False):
            warnings.warn(
                "Calling .zero_grad() from a module created with nn.DataParallel() has no"
                " effect: its parameters are copies, not leaves of autograd.",
                stacklevel=2,
            )
        for param in self.parameters():
            reset_grad(param, set_to_none)

    def _replicate_for_data_parallel(self) -> Self:
        """A shallow copy whose parameters are to be filled in."""
        replica = self.__new__(type(self))
        replica.__dict__ = self.__dict__.copy()
        replica._parameters = {}
        replica._buffers = replica._buffers.copy()
        replica._modules = replica._modules.copy()
        replica._is_replica = True
        return replica

    # -- printing ----------------------------------------------------------------------------

    def _get_name(self) -> str:
        return type(self).__name__

    def extra_repr(self) -> str:
        """What ``repr`` shows besides the submodules; to be overridden."""
        return ""

    def __repr__(self) -> str:
        """The tree of modules."""
        extra = self.extra_repr()
        extra_lines = extra.split("\n") if extra else []
        child_lines = [
            f"({name}): {add_indent(repr(module), 2)}" for name, module in self._modules.items()
        ]
        lines = extra_lines + child_lines
        if not lines:
            body = ""
        elif len(extra_lines) == 1 and not child_lines:
            body = extra_lines[0]
        else:
            body = "\n  " + "\n  ".join(lines) + "\n"
        return f"{self._get_name()}({body})"


def reset_grad(param: Any, set_to_none: bool) -> None:
    """Drop a tensor's gradient, or fill it with zeros.

    Args:
        param: any tensor; nothing happens when it has no gradient.
        set_to_none: which of the two.
    """
    grad = param.grad
    if grad is None:
        return
    if set_to_none:
        param.grad = None
        return
    if grad.grad_fn is not None:
        grad.detach_()
    else:
        grad.requires_grad_(False)
    grad.zero_()
