"""The base class of all optimizers."""

from __future__ import annotations

import functools
import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable
from copy import deepcopy
from itertools import chain
from typing import Any, NamedTuple

import flambeau
from flambeau import record
from flambeau.compile.live import CLASSES, live
from flambeau.nn.hooks import Hook, RemovableHandle, add_hook
from flambeau.nn.module import reset_grad
from flambeau.nn.parameter import typename
from flambeau.runtime import profile
from flambeau.tensor import put_item

_global_pre_hooks: dict[int, Hook] = OrderedDict()
_global_post_hooks: dict[int, Hook] = OrderedDict()

_HOOK_REGISTRIES = (
    "_optimizer_step_pre_hooks",
    "_optimizer_step_post_hooks",
    "_optimizer_state_dict_pre_hooks",
    "_optimizer_state_dict_post_hooks",
    "_optimizer_load_state_dict_pre_hooks",
    "_optimizer_load_state_dict_post_hooks",
)


class _Number(NamedTuple):
    """What is known of a 0-d tensor in a parameter's state.

    Attributes:
        tensor: shows the number to those who look at the state.
        version: the tensor's, when the number was written to it.
        value: the number.
        before: what it was before the last step.
        written: the parameter's version before that step wrote to it; -1 if no step did.
    """

    tensor: Any
    version: int
    value: float
    before: float
    written: int


class _RequiredParameter:
    """Stands for an option that every parameter group must give."""

    def __repr__(self) -> str:
        return "<required parameter>"


required = _RequiredParameter()


def register_optimizer_step_pre_hook(hook: Hook) -> RemovableHandle:
    """Call ``hook(optimizer, args, kwargs)`` before every optimizer's step.

    Args:
        hook: may return new ``(args, kwargs)``.

    Returns:
        The handle that takes it off again.
    """
    return add_hook(_global_pre_hooks, hook)


def register_optimizer_step_post_hook(hook: Hook) -> RemovableHandle:
    """Call ``hook(optimizer, args, kwargs)`` after every optimizer's step.

    Returns:
        The handle that takes it off again.
    """
    return add_hook(_global_post_hooks, hook)


def use_grad_for_differentiable(step: Callable[..., Any]) -> Callable[..., Any]:
    """Run a ``step`` without gradients, or with them for a ``differentiable`` optimizer.

    Args:
        step: the method.

    Returns:
        The method, wrapped.
    """

    @functools.wraps(step)
    def with_grad_mode(self: Any, *args: Any, **kwargs: Any) -> Any:
        with flambeau.set_grad_enabled(self.defaults.get("differentiable", False)):
            return step(self, *args, **kwargs)

    return with_grad_mode


def to_scalar(value: Any) -> Any:
    """A number, or a tensor of one element without dimensions."""
    if isinstance(value, flambeau.Tensor) and value.dim() != 0:
        return value.squeeze()
    return value


def check_options(**options: tuple[Any, str]) -> None:
    """Whether options are numbers from 0 on.

    Args:
        options: value and its description, by name.

    Raises:
        ValueError: one is negative or NaN, or a tensor ``lr`` has several elements.
    """
    for name, (value, text) in options.items():
        if isinstance(value, flambeau.Tensor) and value.numel() != 1:
            raise ValueError(f"Tensor {name} must be 1-element")
        if not 0.0 <= value:
            raise ValueError(f"Invalid {text}: {value}")


def check_fused(fused: bool | None, foreach: bool | None, differentiable: bool) -> None:
    """Whether these options go together.

    Raises:
        RuntimeError: ``fused`` with ``differentiable`` or with ``foreach``.
    """
    if fused and differentiable:
        raise RuntimeError("`fused` does not support `differentiable`")
    if fused and foreach:
        raise RuntimeError("`fused` and `foreach` cannot be `True` together.")


def _run_pre_hooks(step: Any, optimizer: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
    """The arguments of a ``step``, the optimizer first, as the hooks leave them."""
    args = (optimizer, *args)
    for hook in chain(_global_pre_hooks.values(), optimizer._optimizer_step_pre_hooks.values()):
        result = hook(optimizer, args, kwargs)
        if result is None:
            continue
        if not (isinstance(result, tuple) and len(result) == 2):
            raise RuntimeError(
                f"{step} must return None or a tuple of (new_args, new_kwargs), but got {result}."
            )
        args, kwargs = result
    return args, kwargs


def _hooked(step: Callable[..., Any]) -> Callable[..., Any]:
    """A ``step`` between its hooks, at whose end the recorded program is executed."""

    @functools.wraps(step)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        if _global_pre_hooks or self._optimizer_step_pre_hooks:
            (self, *args), kwargs = _run_pre_hooks(step, self, args, kwargs)
        try:
            with profile.span(f"Optimizer.step#{type(self).__name__}.step", "user"):
                out = step(self, *args, **kwargs)
            self._optimizer_step_code()
            if _global_post_hooks or self._optimizer_step_post_hooks:
                own = self._optimizer_step_post_hooks.values()
                for hook in chain(own, _global_post_hooks.values()):
                    hook(self, (self, *args), kwargs)
            record.flush()
        except BaseException:
            self._unfollow()
            raise
        return out

    wrapper.hooked = True  # type: ignore[attr-defined]
    return live(wrapper)


class Optimizer:
    """Parameters in groups, options of each group, and state of each parameter.

    Args:
        params: tensors, ``(name, tensor)`` pairs, or dicts of a group's ``params`` and options.
        defaults: the options' values for groups that do not give them.

    Raises:
        TypeError: ``params`` is a tensor, or holds something else.
        ValueError: ``params`` is empty, or holds a tensor that is no leaf or comes twice.

    Attributes:
        takes_sparse: whether gradients may be sparse tensors.
    """

    takes_sparse = False
    _optimizer_step_pre_hooks: dict[int, Hook]
    _optimizer_step_post_hooks: dict[int, Hook]
    _optimizer_state_dict_pre_hooks: dict[int, Hook]
    _optimizer_state_dict_post_hooks: dict[int, Hook]
    _optimizer_load_state_dict_pre_hooks: dict[int, Hook]
    _optimizer_load_state_dict_post_hooks: dict[int, Hook]
    OptimizerPreHook = Hook
    OptimizerPostHook = Hook

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        """Sort the parameters into groups."""
        self.defaults = defaults
        self._prepare()
        if isinstance(params, flambeau.Tensor):
            raise TypeError(
                "params argument given to the optimizer should be an iterable of Tensors or"
                f" dicts, but got {typename(params)}"
            )
        self.state: dict[Any, Any] = defaultdict(dict)
        self.param_groups: list[dict[str, Any]] = []
        groups = list(params)
        if not groups:
            raise ValueError("optimizer got an empty parameter list")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    def _prepare(self) -> None:
        """Give the instance its registries and its class a hooked ``step``."""
        for name in _HOOK_REGISTRIES:
            self.__dict__.setdefault(name, OrderedDict())
        self._numbers: dict[tuple[Any, str], _Number] = {}
        cls = type(self)
        if not getattr(cls.step, "hooked", False):
            cls.step = _hooked(cls.step)  # type: ignore[method-assign]

    def __getstate__(self) -> dict[str, Any]:
        """Options, state and groups; hooks are left out."""
        return {
            "defaults": self.defaults,
            "state": self.state,
            "param_groups": self.param_groups,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over what is given; step counts are read from the state when next needed."""
        self.__dict__.update(state)
        self._prepare()
        self.defaults.setdefault("differentiable", False)

    def __repr__(self) -> str:
        """The options of each group."""
        text = type(self).__name__ + " ("
        for i, group in enumerate(self.param_groups):
            text += f"\nParameter Group {i}\n"
            for key in sorted(group):
                if key != "params":
                    text += f"    {key}: {group[key]}\n"
        return text + ")"

    # -- hooks -------------------------------------------------------------------------------

    def _optimizer_step_code(self) -> None:
        """Called after every step, before its hooks; profilers replace it."""

    def register_step_pre_hook(self, hook: Hook) -> RemovableHandle:
        """Call ``hook(optimizer, args, kwargs)`` before each step; it may return new ones."""
        return add_hook(self._optimizer_step_pre_hooks, hook)

    def register_step_post_hook(self, hook: Hook) -> RemovableHandle:
        """Call ``hook(optimizer, args, kwargs)`` after each step."""
        return add_hook(self._optimizer_step_post_hooks, hook)

    def register_state_dict_pre_hook(self, hook: Hook, prepend: bool = False) -> RemovableHandle:
        """Call ``hook(optimizer)`` before :meth:`state_dict`."""
        return add_hook(self._optimizer_state_dict_pre_hooks, hook, prepend=prepend)

    def register_state_dict_post_hook(self, hook: Hook, prepend: bool = False) -> RemovableHandle:
        """Call ``hook(optimizer, state_dict)`` after it; it may return another dict."""
        return add_hook(self._optimizer_state_dict_post_hooks, hook, prepend=prepend)

    def register_load_state_dict_pre_hook(
        self, hook: Hook, prepend: bool = False
    ) -> RemovableHandle:
        """Call ``hook(optimizer, state_dict)`` before it is loaded; it may return another."""
        return add_hook(self._optimizer_load_state_dict_pre_hooks, hook, prepend=prepend)

    def register_load_state_dict_post_hook(
        self, hook: Hook, prepend: bool = False
    ) -> RemovableHandle:
        """Call ``hook(optimizer)`` after a state dict is loaded."""
        return add_hook(self._optimizer_load_state_dict_post_hooks, hook, prepend=prepend)

    # -- state -------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The state and the groups, parameters being numbered in the order of the groups.

        Returns:
            ``{"state": {number: {...}}, "param_groups": [{..., "params": [number, ...]}]}``.
            Tensors are not copied.
        """
        for hook in self._optimizer_state_dict_pre_hooks.values():
            hook(self)
        numbers: dict[int, int] = {}
        groups = []
        start = 0
        for group in self.param_groups:
            packed = {key: value for key, value in group.items() if key != "params"}
            for i, param in enumerate(group["params"], start):
                numbers.setdefault(id(param), i)
            packed["params"] = [numbers[id(param)] for param in group["params"]]
            start += len(packed["params"])
            groups.append(packed)
        state = {
            numbers[id(key)] if isinstance(key, flambeau.Tensor) else key: value
            for key, value in self.state.items()
        }
        state_dict: dict[str, Any] = {"state": state, "param_groups": groups}
        for hook in self._optimizer_state_dict_post_hooks.values():
            result = hook(self, state_dict)
            if result is not None:
                state_dict = result
        return state_dict

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` of an optimizer with equal groups returned.

        Args:
            state_dict: not changed; tensors are converted to the parameters' dtype and device.

        Raises:
            ValueError: the groups differ in number or size.
        """
        state_dict = state_dict.copy()
        for hook in self._optimizer_load_state_dict_pre_hooks.values():
            result = hook(self, state_dict)
            if result is not None:
                state_dict = result
        groups = self.param_groups
        saved_groups = deepcopy(state_dict["param_groups"])
        if len(groups) != len(saved_groups):
            raise ValueError("loaded state dict has a different number of parameter groups")
        if any(
            len(group["params"]) != len(saved["params"])
            for group, saved in zip(groups, saved_groups, strict=True)
        ):
            raise ValueError(
                "loaded state dict contains a parameter group that doesn't match the size of"
                " optimizer's group"
            )
        params: dict[Any, tuple[Any, bool]] = {}
        for group, saved in zip(groups, saved_groups, strict=True):
            on_device = bool(saved.get("capturable") or saved.get("fused"))
            for number, param in zip(saved["params"], group["params"], strict=True):
                params[number] = (param, on_device)
        state: dict[Any, Any] = defaultdict(dict)
        for key, value in state_dict["state"].items():
            if key in params:
                param, on_device = params[key]
                state[param] = _cast_state(param, value, on_device)
            else:
                state[key] = value
        for group, saved in zip(groups, saved_groups, strict=True):
            saved["params"] = group["params"]
            if "param_names" in group:
                saved.setdefault("param_names", group["param_names"])
        self.__setstate__({"state": state, "param_groups": saved_groups})
        for hook in self._optimizer_load_state_dict_post_hooks.values():
            hook(self)

    def _new_number(self, param: Any, group: dict[str, Any], name: str, value: float) -> Any:
        """A 0-d tensor of a parameter's state, with a value that nobody has to read."""
        fused = group.get("fused")
        double = flambeau.get_default_dtype() == flambeau.float64 and not fused
        dtype = flambeau.float64 if double else flambeau.float32
        on_device = group.get("capturable") or fused
        number = flambeau.tensor(value, dtype=dtype, device=param.device if on_device else "cpu")
        known = float(dtype.numpy.type(value))
        self._numbers[param, name] = _Number(number, number._version, known, known, -1)
        return number

    def _new_step(self, param: Any, group: dict[str, Any]) -> Any:
        """The step count of a parameter that was not updated yet."""
        return self._new_number(param, group, "step", 0.0)

    def _restore_steps(self) -> None:
        """Make tensors of step counts that older files hold as numbers."""
        for group in self.param_groups:
            for param in group["params"]:
                state = self.state.get(param)
                if state and "step" in state and not isinstance(state["step"], flambeau.Tensor):
                    step = self._new_step(param, group)
                    state["step"] = step.fill_(float(state["step"]))

    def _follow(
        self,
        param: Any,
        state: dict[str, Any],
        name: str,
        term: float = 0.0,
        factor: float = 0.0,
        before: bool = False,
    ) -> float:
        """Make a number of a parameter's state ``number * factor + term``.

        The tensor in the state is for those who look at it; the number is kept beside it, so that
        no step has to wait for its value. It is read only when someone else has changed it.

        Args:
            name: of the 0-d tensor in the state.
            before: whether to return the number as it was.

        Returns:
            The new number, as the tensor's dtype has it.
        """
        tensor = state[name]
        known = self._numbers.get((param, name))
        if known is not None and known.tensor is tensor and known.version == tensor._version:
            old = known.value
        else:
            old = tensor.item()
        new = put_item(tensor, old * factor + term)
        self._numbers[param, name] = _Number(tensor, tensor._version, new, old, param._version)
        return old if before else new

    def _unfollow(self) -> None:
        """After a step that failed: numbers of parameters whose update was taken back are again
        what they were before it, as if the step had not been asked for."""
        for (param, name), (tensor, version, _, old, written) in self._numbers.items():
            if param._version == written and tensor._version == version:
                put_item(tensor, old)
                self._numbers[param, name] = _Number(tensor, tensor._version, old, old, -1)

    def _count_step(self, param: Any, state: dict[str, Any]) -> float:
        """Add 1 to a parameter's step count; -> the count after this step."""
        return self._follow(param, state, "step", 1.0, 1.0)

    def _with_grad(self, group: dict[str, Any]) -> Iterable[tuple[Any, Any]]:
        """Parameters of a group with their gradients, those without left out.

        Raises:
            RuntimeError: a gradient is sparse.
        """
        fused = group.get("fused")
        for param in group["params"]:
            grad = param.grad
            if grad is None:
                continue
            if grad.is_sparse and not self.takes_sparse:
                name = type(self).__name__
                hint = ", please consider SparseAdam instead" if "Adam" in name else ""
                raise RuntimeError(f"{name} does not support sparse gradients{hint}")
            if fused and not param.is_floating_point():
                raise RuntimeError(
                    "`fused=True` requires all the params to be floating point Tensors of"
                    f" supported devices but {param.dtype} and {param.device.type}"
                )
            yield param, grad

    # -- use ---------------------------------------------------------------------------------

    @functools.partial(live, repeatable=True)
    def zero_grad(self, set_to_none: bool = True) -> None:
        """Reset the gradients of all parameters.

        Args:
            set_to_none: drop them in place of filling them with zeros.
        """
        with profile.span(f"Optimizer.zero_grad#{type(self).__name__}.zero_grad", "user"):
            for group in self.param_groups:
                for param in group["params"]:
                    reset_grad(param, set_to_none)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters once.

        Args:
            closure: computes the loss and its gradients anew.

        Returns:
            The closure's loss, or None.
        """
        raise NotImplementedError

    @staticmethod
    def _evaluate(closure: Callable[[], Any] | None) -> Any:
        """The closure's loss, computed with gradients."""
        if closure is None:
            return None
        with flambeau.enable_grad():
            return closure()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, for instance of layers that begin to train later.

        Args:
            param_group: ``params`` and those options that are not to be the defaults.

        Raises:
            TypeError: it is no dict, or holds something that is not a tensor.
            ValueError: a tensor is no leaf, comes twice, or only some have names.
        """
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, but got {type(param_group)}")
        params = param_group["params"]
        if isinstance(params, flambeau.Tensor):
            params = [params]
        elif isinstance(params, set):
            raise TypeError(
                "optimizer parameters need to be organized in ordered collections, but the"
                " ordering of tensors in sets will change between runs. Please use a list"
                " instead."
            )
        params = list(params)
        names = [p[0] for p in params if isinstance(p, tuple)]
        params = [p[1] if isinstance(p, tuple) else p for p in params]
        param_group["params"] = params
        if names:
            if len(names) != len(params):
                raise ValueError(
                    "all optimizer params should be with/without names. Some param names are"
                    " missing"
                )
            param_group["param_names"] = names
        for param in params:
            self._check_param(param)
        for name, default in self.defaults.items():
            if default is required and name not in param_group:
                raise ValueError(
                    "parameter group didn't specify a value of required optimization parameter"
                    f" {name}"
                )
            param_group.setdefault(name, default)
        if len(params) != len(set(params)):
            warnings.warn(
                "optimizer contains a parameter group with duplicate parameters; in future, this"
                " will cause an error; see github.com/pytorch/pytorch/issues/40967 for more"
                " information",
                stacklevel=3,
            )
        self._check_disjoint(param_group)
        self.param_groups.append(param_group)

    def _check_param(self, param: Any) -> None:
        if not isinstance(param, flambeau.Tensor):
            raise TypeError(
                f"optimizer can only optimize Tensors, but one of the params is {typename(param)}"
            )
        if not self.defaults.get("differentiable") and not (param.is_leaf or param.retains_grad):
            raise ValueError("can't optimize a non-leaf Tensor")

    def _check_disjoint(self, param_group: dict[str, Any]) -> None:
        """Whether a new group goes with those already there."""
        known: set[Any] = set()
        for group in self.param_groups:
            known.update(group["params"])
            if ("param_names" in param_group) != ("param_names" in group):
                text = "with" if "param_names" in param_group else "without"
                raise ValueError(
                    "all optimizer param groups should be with/without names. cannot add param"
                    f" group {text} names to the optimizer"
                )
        if not known.isdisjoint(param_group["params"]):
            raise ValueError("some parameters appear in more than one parameter group")


CLASSES.append(Optimizer)


def _cast_state(param: Any, value: Any, on_device: bool, key: Any = None) -> Any:
    """A value of a loaded state, its tensors with the parameter's dtype and device.

    Step counts keep their dtype and stay on the CPU unless the kernels read them.
    """
    if isinstance(value, flambeau.Tensor):
        if key == "step":
            if on_device:
                return value.to(dtype=flambeau.float32, device=param.device)
            return value
        if param.is_floating_point():
            return value.to(dtype=param.dtype, device=param.device)
        return value.to(device=param.device)
    if isinstance(value, dict):
        return {k: _cast_state(param, v, on_device, k) for k, v in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        kind: Any = type(value)
        return kind(_cast_state(param, v, on_device) for v in value)
    return value
