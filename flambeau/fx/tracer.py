"""Symbolic tracing: a module run on proxies, which leaves a graph."""

from __future__ import annotations

import builtins
import contextlib
import functools
import inspect
import math
from collections.abc import Callable, Iterable, Iterator
from types import FunctionType, ModuleType
from typing import Any

import flambeau
from flambeau import nn, overriding
from flambeau.fx.graph import Graph
from flambeau.fx.graph_module import GraphModule
from flambeau.fx.node import Node, has_side_effect
from flambeau.fx.proxy import Proxy, TracerBase

#: (id of the globals, name) -> the globals: functions that are not traced into (`wrap`).
_wrapped: dict[tuple[int, str], dict[str, Any]] = {}


def wrap(fn_or_name: Any) -> Any:
    """Let calls of a function of this module stay whole when they are traced.

    To be called at the top of a module, or as a decorator there.

    Args:
        fn_or_name: the function, or its name ("len").

    Returns:
        What was given.

    Raises:
        RuntimeError: neither a function nor a name.
        NotImplementedError: not at the top of a module.
    """
    if not callable(fn_or_name) and not isinstance(fn_or_name, str):
        raise RuntimeError(
            "Unsupported type for global function! Must be either a callable or string name"
        )
    name = fn_or_name if isinstance(fn_or_name, str) else fn_or_name.__name__
    frame = inspect.currentframe()
    frame = None if frame is None else frame.f_back
    if frame is None or frame.f_code.co_name != "<module>":
        raise NotImplementedError("wrap must be called at the top level of a module")
    _wrapped[id(frame.f_globals), name] = frame.f_globals
    return fn_or_name


def _first_proxy(args: Iterable[Any]) -> Proxy | None:
    for a in args:
        if isinstance(a, Proxy):
            return a
        if isinstance(a, (list, tuple)) and (found := _first_proxy(a)) is not None:
            return found
    return None


def _whole(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function whose calls with proxies are one node."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        proxy = _first_proxy((*args, *kwargs.values()))
        if proxy is None:
            return function(*args, **kwargs)
        return proxy.tracer.create_proxy("call_function", function, args, kwargs)

    return call


def check_constant(condition: bool, message: str) -> None:
    """Raise an AssertionError with a message unless a condition holds."""
    assert condition, message


has_side_effect(check_constant)


class Tracer(TracerBase):
    """Traces modules and functions; subclasses say what stays whole.

    Args:
        autowrap_modules: modules whose functions are not traced into.
        autowrap_functions: further such functions.
        param_shapes_constant: accepted; shapes of parameters are plain numbers.
    """

    def __init__(
        self,
        autowrap_modules: tuple[ModuleType, ...] = (math,),
        autowrap_functions: tuple[Callable[..., Any], ...] = (),
        param_shapes_constant: bool = False,
    ) -> None:
        self._modules = autowrap_modules
        self._functions = {
            id(value)
            for module in autowrap_modules
            for name, value in vars(module).items()
            if not name.startswith("_") and callable(value)
        } | {id(f) for f in autowrap_functions}
        self.param_shapes_constant = param_shapes_constant
        self.root: nn.Module = nn.Module()
        self.tensor_attrs: dict[int, str] = {}
        self.submodule_paths: dict[int, str] = {}

    # -- what subclasses may change ---------------------------------------------------------------

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether calls of a module stay whole: those of the library do, but for `Sequential`.

        Args:
            m: the module.
            module_qualified_name: its dotted name in the root.
        """
        ours = m.__module__.startswith("flambeau.nn")
        return ours and not isinstance(m, nn.Sequential)

    def path_of_module(self, mod: nn.Module) -> str:
        """The dotted name of a module in the root.

        Raises:
            NameError: it is not there.
        """
        found = self.submodule_paths.get(id(mod))
        if found is None:
            found = next((n for n, m in self.root.named_modules() if m is mod), None)
        if found is None:
            raise NameError("module is not installed as a submodule")
        return found

    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """What a call of a module becomes: one node of a leaf, else what it does inside.

        Args:
            m: the module.
            forward: calls it.
            args: of the call.
            kwargs: of the call.
        """
        name = self.path_of_module(m)
        if self.is_leaf_module(m, name):
            return self.create_proxy("call_module", name, args, kwargs)
        return forward(*args, **kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """What an attribute of a module is while it is traced: itself.

        Args:
            attr: its name.
            attr_val: its value.
            parameter_proxy_cache: for those who make proxies of parameters.
        """
        return attr_val

    def get_fresh_qualname(self, prefix: str) -> str:
        """A name that the root has no attribute of: the prefix with a number."""
        number = 0
        while hasattr(self.root, f"{prefix}{number}"):
            number += 1
        return f"{prefix}{number}"

    def create_arg(self, a: Any) -> Any:
        """As `TracerBase.create_arg`; tensors become attributes of the root."""
        if isinstance(a, flambeau.Tensor):
            name = self.tensor_attrs.get(id(a))
            if name is None:
                name = self.get_fresh_qualname("_tensor_constant")
                setattr(self.root, name, a)
                self.tensor_attrs[id(a)] = name
            return self.create_node("get_attr", name, (), {})
        if isinstance(a, nn.Module):
            return self.create_node("get_attr", self.path_of_module(a), (), {})
        return super().create_arg(a)

    # -- tracing ----------------------------------------------------------------------------------

    def trace(self, root: Any, concrete_args: dict[str, Any] | None = None) -> Graph:
        """The graph of a module or function.

        Args:
            root: the module, whose `forward` is traced, or a function.
            concrete_args: values of parameters that are fixed.

        Returns:
            The graph; its nodes call the root's modules.
        """
        if isinstance(root, nn.Module):
            self.root = root
            function: Any = type(root).forward
            self.submodule_paths = {id(m): name for name, m in root.named_modules()}
        else:
            self.root, function = nn.Module(), root
            self.submodule_paths = {}
        self.graph = Graph(tracer_cls=type(self))
        named = [*self.root.named_parameters(), *self.root.named_buffers()]
        self.tensor_attrs = {id(t): name for name, t in reversed(named)}
        self._note_tensors(self.root, "")
        args = self._arguments(function, isinstance(root, nn.Module), concrete_args or {})
        with self._patched(function), overriding.asking():
            result = function(*args[0], **args[1])
        kind = _known_type(getattr(function, "__annotations__", {}).get("return"))
        self.create_node("output", "output", (self.create_arg(result),), {}, type_expr=kind)
        self.submodule_paths = {}
        return self.graph

    def _note_tensors(self, module: nn.Module, path: str) -> None:
        """Tensors that are plain attributes of modules."""
        for name, value in vars(module).items():
            if isinstance(value, flambeau.Tensor):
                self.tensor_attrs.setdefault(id(value), f"{path}{name}")
        for name, child in module.named_children():
            self._note_tensors(child, f"{path}{name}.")

    def _arguments(
        self, function: Any, is_module: bool, concrete: dict[str, Any]
    ) -> tuple[list[Any], dict[str, Any]]:
        """Proxies of a function's parameters, or what they are fixed to."""
        parameters = list(inspect.signature(inspect.unwrap(function)).parameters.values())
        args: list[Any] = [self.root] if is_module else []
        named: dict[str, Any] = {}
        for p in parameters[len(args) :]:
            value: Any
            if p.name in concrete:
                value = self._fixed(p.name, concrete[p.name])
            else:
                stars = "*" * ((p.kind is p.VAR_POSITIONAL) + 2 * (p.kind is p.VAR_KEYWORD))
                default = () if p.default is p.empty else (self.create_arg(p.default),)
                kind = _known_type(None if p.annotation is p.empty else p.annotation)
                value = self.create_proxy(
                    "placeholder", f"{stars}{p.name}", default, {}, None, kind
                )
                if stars:
                    value = _Several(value)
            if p.kind is p.KEYWORD_ONLY:
                named[p.name] = value
            elif p.kind is p.VAR_POSITIONAL:
                args += [value.proxy] if isinstance(value, _Several) else list(value)
            elif p.kind is p.VAR_KEYWORD:
                named.update({p.name: value.proxy} if isinstance(value, _Several) else value)
            else:
                args.append(value)
        return args, named

    def _fixed(self, name: str, value: Any) -> Any:
        """A parameter that is fixed: the graph checks what it is given."""
        given: Any = self.create_proxy("placeholder", f"{name}_1", (), {})
        text = f"{name} has been specialized to have value {value} but got another value"
        if isinstance(value, (bool, int, float, str)):
            self.create_proxy("call_function", check_constant, (given == value, text), {})
        return value

    @contextlib.contextmanager
    def _patched(self, function: Any) -> Iterator[None]:
        """While inside, modules' calls come here, and wrapped functions stay whole."""
        places: list[tuple[Any, str, Any]] = []

        def put(space: dict[str, Any], name: str, value: Any) -> None:
            places.append((space, name, space.get(name, _MISSING)))
            space[name] = value

        call = nn.Module.__call__

        def module_call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            def forward(*args: Any, **kwargs: Any) -> Any:
                return call(module, *args, **kwargs)

            return self.call_module(module, forward, args, kwargs)

        spaces = [vars(m) for m in self._modules]
        if isinstance(inspect.unwrap(function), FunctionType):
            spaces.append(inspect.unwrap(function).__globals__)
        for space in spaces:
            for name, value in list(space.items()):
                if not name.startswith("_") and id(value) in self._functions:
                    put(space, name, _whole(value))
        for (_, name), space in _wrapped.items():
            original = space.get(name, getattr(builtins, name, None))
            if original is not None:
                put(space, name, _whole(original))
        nn.Module.__call__ = module_call  # type: ignore[method-assign]
        try:
            yield
        finally:
            nn.Module.__call__ = call  # type: ignore[method-assign]
            for space, name, value in reversed(places):
                if value is _MISSING:
                    del space[name]
                else:
                    space[name] = value


_MISSING = object()


def _known_type(annotation: Any) -> Any:
    """A type, unless it is only text."""
    return None if isinstance(annotation, str) else annotation


class _Several:
    """The proxy of `*args` or `**kwargs`."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy


def symbolic_trace(root: Any, concrete_args: dict[str, Any] | None = None) -> GraphModule:
    """A module that does what a module or function does, as a graph that can be changed.

    Control flow that depends on values cannot be traced; sizes are values too.

    Args:
        root: the module, or a function.
        concrete_args: values of parameters that are fixed.

    Example:
        >>> from flambeau import fx, nn
        >>> print(fx.symbolic_trace(nn.Sequential(nn.Linear(2, 3), nn.ReLU())).graph)
        graph():
            %input_1 : [num_users=1] = placeholder[target=input]
            %_0 : [num_users=1] = call_module[target=0](args = (%input_1,), kwargs = {})
            %_1 : [num_users=1] = call_module[target=1](args = (%_0,), kwargs = {})
            return _1
    """
    tracer = Tracer()
    graph = tracer.trace(root, concrete_args)
    name = type(root).__name__ if isinstance(root, nn.Module) else root.__name__
    return GraphModule(tracer.root, graph, name)


def is_fx_tracing() -> bool:
    """Whether a module is being traced."""
    return nn.Module.__call__.__name__ == "module_call"


__all__ = ["Node", "Tracer", "is_fx_tracing", "symbolic_trace", "wrap"]
