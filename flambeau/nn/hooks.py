"""Hooks of modules: handles, the registries for all modules, and the backward hook's gates."""

from __future__ import annotations

import functools
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import flambeau

Hook = Callable[..., Any]


class RemovableHandle:
    """What registering a hook returns; ``remove()`` or leaving its ``with`` block takes it off.

    Args:
        hooks_dict: the registry the hook stands in; held weakly.
        extra_dict: registries keyed by the same id (for instance of hooks that want kwargs).
    """

    id: int
    next_id: int = 0

    def __init__(self, hooks_dict: Any, *, extra_dict: Any = None) -> None:
        """Take the next free id; the caller stores the hook under it."""
        self.hooks_dict_ref = weakref.ref(hooks_dict)
        self.id = RemovableHandle.next_id
        RemovableHandle.next_id += 1
        extras = [] if extra_dict is None else extra_dict
        extras = [extras] if isinstance(extras, dict) else extras
        self.extra_dict_ref = tuple(weakref.ref(d) for d in extras)

    def remove(self) -> None:
        """Take the hook off; doing so twice is harmless."""
        for ref in (self.hooks_dict_ref, *self.extra_dict_ref):
            registry = ref()
            if registry is not None:
                registry.pop(self.id, None)

    def __getstate__(self) -> tuple[Any, ...]:
        """The registries themselves and the id."""
        return self.hooks_dict_ref(), self.id, tuple(ref() for ref in self.extra_dict_ref)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Point at the unpickled registries, and keep new ids clear of this one."""
        registry = OrderedDict() if state[0] is None else state[0]
        self.hooks_dict_ref = weakref.ref(registry)
        self.id = state[1]
        RemovableHandle.next_id = max(RemovableHandle.next_id, self.id + 1)
        extras = state[2] if len(state) > 2 and state[2] is not None else ()
        self.extra_dict_ref = tuple(weakref.ref(d) for d in extras)

    def __enter__(self) -> RemovableHandle:
        """The handle itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Take the hook off."""
        self.remove()


class WrappedHook:
    """A hook that passes its module along, holding it weakly.

    Args:
        hook: the user's function.
        module: passed as the first argument when given.
    """

    def __init__(self, hook: Hook, module: Any = None) -> None:
        """Keep the hook's name and docstring."""
        self.hook = hook
        functools.update_wrapper(self, hook)
        self.with_module = module is not None
        if module is not None:
            self.module = weakref.ref(module)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the hook.

        Raises:
            RuntimeError: the module no longer exists.
        """
        if not self.with_module:
            return self.hook(*args, **kwargs)
        module = self.module()
        if module is None:
            raise RuntimeError("You are trying to call the hook of a dead Module!")
        return self.hook(module, *args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        """The hook and, in place of the weak reference, the module."""
        state = {"hook": self.hook, "with_module": self.with_module}
        if self.with_module:
            state["module"] = self.module()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make the reference weak again.

        Raises:
            RuntimeError: the module was gone when the hook was pickled.
        """
        self.hook = state["hook"]
        self.with_module = state["with_module"]
        if self.with_module:
            if state["module"] is None:
                raise RuntimeError("You are trying to revive the hook of a dead Module!")
            self.module = weakref.ref(state["module"])


# Registries that every module consults. Their identity is fixed: they are imported by name.
global_buffer_registration_hooks: dict[int, Hook] = OrderedDict()
global_module_registration_hooks: dict[int, Hook] = OrderedDict()
global_parameter_registration_hooks: dict[int, Hook] = OrderedDict()
global_backward_pre_hooks: dict[int, Hook] = OrderedDict()
global_backward_hooks: dict[int, Hook] = OrderedDict()
global_forward_pre_hooks: dict[int, Hook] = OrderedDict()
global_forward_hooks: dict[int, Hook] = OrderedDict()
global_forward_hooks_always_called: dict[int, bool] = OrderedDict()
global_forward_hooks_with_kwargs: dict[int, bool] = OrderedDict()
# "full" is None until a global backward hook is registered, then its kind.
global_backward_kind: dict[str, bool | None] = {"full": None}


def add_hook(registry: dict[int, Hook], hook: Hook, *, prepend: bool = False) -> RemovableHandle:
    """Put a hook into a registry.

    Args:
        registry: hooks by id, in the order they run.
        hook: the function.
        prepend: run it before those already there.

    Returns:
        The handle that takes it off again.
    """
    handle = RemovableHandle(registry)
    registry[handle.id] = hook
    if prepend:
        registry.move_to_end(handle.id, last=False)  # type: ignore[attr-defined]
    return handle


def register_module_buffer_registration_hook(hook: Hook) -> RemovableHandle:
    """Call ``hook(module, name, buffer)`` on every ``register_buffer``; it may replace it."""
    return add_hook(global_buffer_registration_hooks, hook)


def register_module_module_registration_hook(hook: Hook) -> RemovableHandle:
    """Call ``hook(module, name, submodule)`` on every ``register_module``; it may replace it."""
    return add_hook(global_module_registration_hooks, hook)


def register_module_parameter_registration_hook(hook: Hook) -> RemovableHandle:
    """Call ``hook(module, name, param)`` on every ``register_parameter``; it may replace it."""
    return add_hook(global_parameter_registration_hooks, hook)


def register_module_forward_pre_hook(hook: Hook) -> RemovableHandle:
    """Call ``hook(module, args)`` before every module's forward; it may replace the arguments."""
    return add_hook(global_forward_pre_hooks, hook)


def register_module_forward_hook(
    hook: Hook, *, with_kwargs: bool = False, always_call: bool = False
) -> RemovableHandle:
    """Call ``hook(module, args, output)`` after every module's forward.

    Args:
        hook: may return a replacement for the output.
        with_kwargs: call ``hook(module, args, kwargs, output)`` instead.
        always_call: call it also when forward raised.

    Returns:
        The handle that takes it off again.
    """
    handle = RemovableHandle(
        global_forward_hooks,
        extra_dict=[global_forward_hooks_always_called, global_forward_hooks_with_kwargs],
    )
    global_forward_hooks[handle.id] = hook
    if with_kwargs:
        global_forward_hooks_with_kwargs[handle.id] = True
    if always_call:
        global_forward_hooks_always_called[handle.id] = True
    return handle


def _register_global_backward(hook: Hook, full: bool) -> RemovableHandle:
    """Register a global backward hook of one kind; the kinds do not mix."""
    if global_backward_kind["full"] is (not full):
        raise RuntimeError(
            "Cannot use both regular backward hooks and full backward hooks as a global Module"
            " hook. Please use only one of them."
        )
    global_backward_kind["full"] = full
    return add_hook(global_backward_hooks, hook)


def register_module_backward_hook(hook: Hook) -> RemovableHandle:
    """The older form of :func:`register_module_full_backward_hook`, on the output's node alone.

    Raises:
        RuntimeError: a full backward hook is registered for all modules.
    """
    return _register_global_backward(hook, full=False)


def register_module_full_backward_pre_hook(hook: Hook) -> RemovableHandle:
    """Call ``hook(module, grad_output)`` before every module's backward; it may replace it."""
    return add_hook(global_backward_pre_hooks, hook)


def register_module_full_backward_hook(hook: Hook) -> RemovableHandle:
    """Call ``hook(module, grad_input, grad_output)`` after every module's backward.

    Raises:
        RuntimeError: a regular backward hook is registered for all modules.
    """
    return _register_global_backward(hook, full=True)


class _Gate(flambeau.autograd.Function):
    """The identity on tensors; its backward shows the gradients to a callback, which may
    replace them. A module's inputs and outputs each pass one."""

    in_python = True  # it calls hooks

    @staticmethod
    def forward(ctx: Any, on_backward: Hook, zeros: bool, *tensors: Any) -> tuple[Any, ...]:
        outputs = tuple(t.view_as(t) for t in tensors)
        ctx.on_backward = on_backward
        ctx.mark_non_differentiable(
            *(out for out, t in zip(outputs, tensors, strict=True) if not t.requires_grad)
        )
        # Hooks see zeros for an input that got no gradient, but None for such an output.
        ctx.set_materialize_grads(zeros)
        return outputs

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        return (None, None, *ctx.on_backward(grads))


def _scatter(indices: Sequence[int], values: Sequence[Any], size: int) -> tuple[Any, ...]:
    """``size`` Nones with ``values`` at ``indices``."""
    result: list[Any] = [None] * size
    for index, value in zip(indices, values, strict=True):
        result[index] = value
    return tuple(result)


class BackwardHook:
    """Runs a module's full backward hooks and backward pre-hooks for one call of its forward.

    The gradients of the outputs are caught when backward enters the module, those of the
    inputs when it leaves; with no input that requires a gradient, the hooks run on entry.

    Args:
        module: given to the hooks.
        user_hooks: ``hook(module, grad_input, grad_output) -> grad_input or None``.
        user_pre_hooks: ``hook(module, grad_output) -> grad_output or None``.
    """

    def __init__(self, module: Any, user_hooks: list[Hook], user_pre_hooks: list[Hook]) -> None:
        """Nothing is caught yet."""
        self.module = module
        self.user_hooks = user_hooks
        self.user_pre_hooks = user_pre_hooks
        self.grad_outputs: Any = None
        self.n_inputs = -1
        self.n_outputs = -1
        self.input_tensors_index: list[int] | None = None
        self.output_tensors_index: list[int] | None = None

    def _gate(self, on_backward: Hook, zeros: bool, args: Any) -> tuple[Any, list[int] | None]:
        """Pass the tensors among ``args`` through a gate when one of them needs a gradient."""
        index = [i for i, arg in enumerate(args) if isinstance(arg, flambeau.Tensor)]
        needed = any(args[i].requires_grad for i in index)
        if not (needed and flambeau.is_grad_enabled()):
            return args, None
        gated = list(args)
        outputs = _Gate.apply(on_backward, zeros, *(args[i] for i in index))
        for i, value in zip(index, outputs, strict=True):
            gated[i] = value
        # A named tuple takes its fields one by one.
        return (tuple(gated) if type(args) is tuple else type(args)(*gated)), index

    def setup_input_hook(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The module's arguments, watched."""
        result, self.input_tensors_index = self._gate(self._leave, True, args)
        self.n_inputs = len(args)
        return result

    def setup_output_hook(self, output: Any) -> Any:
        """The module's output (a tensor or a tuple), watched; anything else passes as it is."""
        is_tuple = isinstance(output, tuple)
        args = output if is_tuple else (output,)
        result, self.output_tensors_index = self._gate(self._enter, False, args)
        self.n_outputs = len(args)
        return result if is_tuple else result[0]

    def _enter(self, grads: Sequence[Any]) -> tuple[Any, ...]:
        """Backward reaches the module's outputs."""
        assert self.output_tensors_index is not None
        caught: Any = _scatter(self.output_tensors_index, grads, self.n_outputs)
        for hook in self.user_pre_hooks:
            replaced = hook(self.module, caught)
            if replaced is None:
                continue
            if len(replaced) != len(caught):
                raise RuntimeError(
                    "Backward pre hook returned an invalid number of grad_output, got"
                    f" {len(replaced)}, but expected {len(caught)}"
                )
            caught = replaced
        self.grad_outputs = caught
        if self.input_tensors_index is None:
            self._run_without_inputs()
        return tuple(caught[i] for i in self.output_tensors_index)

    def _run_without_inputs(self) -> None:
        """Run the hooks on entry: no gradient leaves the module through its inputs."""
        warnings.warn(
            "Full backward hook is firing when gradients are computed with respect to module"
            " outputs since no inputs require gradients. See"
            " https://docs.pytorch.org/docs/main/generated/torch.nn.Module.html"
            "#torch.nn.Module.register_full_backward_hook for more details.",
            stacklevel=5,
        )
        grad_inputs = (None,) * self.n_inputs
        for hook in self.user_hooks:
            result = hook(self.module, grad_inputs, self.grad_outputs)
            if result is not None and not (
                isinstance(result, tuple) and all(g is None for g in result)
            ):
                raise RuntimeError(
                    "Backward hook for Modules where no input requires gradient should always"
                    " return None or None for all gradients."
                )
        self.grad_outputs = None

    def _leave(self, grads: Sequence[Any]) -> tuple[Any, ...]:
        """Backward reaches the module's inputs."""
        if self.grad_outputs is None:
            # Backward began inside the module, so there is no gradient of its outputs to show.
            return tuple(grads)
        assert self.input_tensors_index is not None
        result: Any = _scatter(self.input_tensors_index, grads, self.n_inputs)
        for hook in self.user_hooks:
            replaced = hook(self.module, result, self.grad_outputs)
            if replaced is None:
                continue
            if len(replaced) != len(result):
                raise RuntimeError(
                    "Backward hook returned an invalid number of grad_input, got"
                    f" {len(replaced)}, but expected {len(result)}"
                )
            result = replaced
        self.grad_outputs = None
        return tuple(result[i] for i in self.input_tensors_index)


def _all_tensors(value: Any) -> bool:
    """Whether it is a tensor or a tuple of tensors."""
    values = value if isinstance(value, tuple) else (value,)
    return all(isinstance(v, flambeau.Tensor) for v in values)


def warn_non_full_backward_hook(inputs: Any, result: Any, grad_fn: Any) -> None:
    """Warn when a regular backward hook will not see all of a module's gradients.

    Args:
        inputs: the module's arguments.
        result: its output.
        grad_fn: the node the hook is put on.
    """
    use_full = " Please use register_full_backward_hook to get the documented behavior."
    message = None
    if not _all_tensors(result):
        message = (
            "Using non-full backward hooks on a Module that does not return a single Tensor or a"
            " tuple of Tensors is deprecated and will be removed in future versions. This hook"
            " will be missing some of the grad_output." + use_full
        )
    elif not _all_tensors(inputs):
        message = (
            "Using non-full backward hooks on a Module that does not take as input a single"
            " Tensor or a tuple of Tensors is deprecated and will be removed in future versions."
            " This hook will be missing some of the grad_input." + use_full
        )
    else:
        outputs = result if isinstance(result, tuple) else (result,)
        nodes = {r.grad_fn for r in outputs if r.grad_fn is not None}
        if len(nodes) > 1:
            message = (
                "Using a non-full backward hook when outputs are generated by different autograd"
                " Nodes is deprecated and will be removed in future versions. This hook will be"
                " missing some grad_output." + use_full
            )
        elif {i.grad_fn for i in inputs if i.grad_fn is not None} != {
            node for node, _ in grad_fn.next_functions
        }:
            message = (
                "Using a non-full backward hook when the forward contains multiple autograd Nodes"
                " is deprecated and will be removed in future versions. This hook will be missing"
                " some grad_input." + use_full
            )
    if message is not None:
        warnings.warn(message, FutureWarning, stacklevel=4)


def call_with_hooks(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a module's forward between its hooks and the global ones.

    Args:
        module: the module.
        args: forward's positional arguments.
        kwargs: forward's keyword arguments.

    Returns:
        Forward's output as the hooks left it.

    Raises:
        RuntimeError: a pre-hook with kwargs returned neither None nor a pair.
    """
    call = _HookedCall(module, args, kwargs)
    try:
        return call.run()
    except Exception:
        call.run_always_called()
        raise


class _HookedCall:
    """One call of a module that has hooks; keeps what they changed so far."""

    def __init__(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.module = module
        self.args: Any = args
        self.kwargs: Any = kwargs
        self.result: Any = None
        self.called: set[int] = set()

    def run(self) -> Any:
        """Pre-hooks, forward, hooks."""
        module = self.module
        pre_hooks = [*global_backward_pre_hooks.values(), *module._backward_pre_hooks.values()]
        full_hooks, regular_hooks = module._get_backward_hooks()
        self._run_pre_hooks()
        backward = None
        if full_hooks or pre_hooks:
            backward = BackwardHook(module, full_hooks, pre_hooks)
            self.args = backward.setup_input_hook(self.args)
        self.result = module.forward(*self.args, **self.kwargs)
        self._run_forward_hooks()
        if backward is not None:
            if not isinstance(self.result, (flambeau.Tensor, tuple)):
                warnings.warn(
                    "For backward hooks to be called, module output should be a Tensor or a"
                    f" tuple of Tensors but received {type(self.result)}",
                    stacklevel=5,
                )
            self.result = backward.setup_output_hook(self.result)
        if regular_hooks:
            self._hang_regular_hooks(regular_hooks)
        return self.result

    def _run_pre_hooks(self) -> None:
        module = self.module
        for hook_id, hook in (
            *global_forward_pre_hooks.items(),
            *module._forward_pre_hooks.items(),
        ):
            if hook_id in module._forward_pre_hooks_with_kwargs:
                result = hook(module, self.args, self.kwargs)
                if result is None:
                    continue
                if not (isinstance(result, tuple) and len(result) == 2):
                    raise RuntimeError(
                        "forward pre-hook must return None or a tuple of (new_args, new_kwargs),"
                        f" but got {result}."
                    )
                self.args, self.kwargs = result
            else:
                result = hook(module, self.args)
                if result is not None:
                    self.args = result if isinstance(result, tuple) else (result,)

    def _call_forward_hook(self, hook_id: int, hook: Hook) -> None:
        module = self.module
        if (
            hook_id in module._forward_hooks_with_kwargs
            or hook_id in global_forward_hooks_with_kwargs
        ):
            result = hook(module, self.args, self.kwargs, self.result)
        else:
            result = hook(module, self.args, self.result)
        if result is not None:
            self.result = result

    def _run_forward_hooks(self) -> None:
        for hook_id, hook in (
            *global_forward_hooks.items(),
            *self.module._forward_hooks.items(),
        ):
            # Marked before the call: a hook that raises is not called a second time.
            self.called.add(hook_id)
            self._call_forward_hook(hook_id, hook)

    def _hang_regular_hooks(self, hooks: list[Hook]) -> None:
        var = self.result
        while not isinstance(var, flambeau.Tensor):
            if isinstance(var, dict):
                var = next(v for v in var.values() if isinstance(v, flambeau.Tensor))
            else:
                var = var[0]
        grad_fn = var.grad_fn
        if grad_fn is None:
            return
        for hook in hooks:
            grad_fn.register_hook(WrappedHook(hook, self.module))
        warn_non_full_backward_hook(self.args, self.result, grad_fn)

    def run_always_called(self) -> None:
        """After an error: the hooks registered with ``always_call`` that did not run yet."""
        owned = self.module._forward_hooks_always_called
        registries = (
            ("global module", global_forward_hooks, global_forward_hooks_always_called),
            ("module", self.module._forward_hooks, owned),
        )
        for kind, hooks, always in registries:
            for hook_id, hook in list(hooks.items()):
                if hook_id not in always or hook_id in self.called:
                    continue
                try:
                    self._call_forward_hook(hook_id, hook)
                except Exception as error:  # the forward's own error is the one to show
                    warnings.warn(
                        f"{kind} forward hook with ``always_call=True`` raised an exception that"
                        f" was silenced as another error was raised in forward: {error!s}",
                        stacklevel=5,
                    )
