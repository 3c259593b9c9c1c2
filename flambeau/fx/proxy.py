"""Values that record what is done with them."""

from __future__ import annotations

import dis
import inspect
import operator
from collections.abc import Callable, Iterator
from typing import Any

import flambeau
from flambeau import overriding
from flambeau.fx.graph import INFIX, Graph
from flambeau.fx.node import Node, map_aggregate
from flambeau.overrides import is_tensor_method_or_property


class TraceError(ValueError):
    """A program looks at a value that is not there while it is traced."""


class TracerBase:
    """What makes nodes of a graph, and proxies of their values.

    Attributes:
        graph: that it writes.
        record_stack_traces: whether nodes keep the lines that made them.
    """

    graph: Graph
    record_stack_traces = False
    proxy_buffer_attributes = False

    def create_node(
        self,
        kind: str,
        target: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        name: str | None = None,
        type_expr: Any = None,
    ) -> Node:
        """A new node; see `Graph.create_node`."""
        return self.graph.create_node(kind, target, args, kwargs, name, type_expr)

    def proxy(self, node: Node) -> Proxy:
        """The value of a node."""
        return Proxy(node, self)

    def create_proxy(
        self,
        kind: str,
        target: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        name: str | None = None,
        type_expr: Any = None,
        proxy_factory_fn: Callable[[Node], Proxy] | None = None,
    ) -> Proxy:
        """The value of a new node, whose arguments may be proxies."""
        arguments, named = self.create_arg(args), self.create_arg(kwargs)
        node = self.create_node(kind, target, arguments, named, name, type_expr)
        if self.record_stack_traces:
            node.stack_trace = flambeau.record.calling_trace()
        return (proxy_factory_fn or self.proxy)(node)

    def create_arg(self, a: Any) -> Any:
        """What stands for a value among a node's arguments.

        Raises:
            NotImplementedError: a value that cannot be written in code.
        """
        if isinstance(a, Proxy):
            return a.node
        if hasattr(a, "__fx_create_arg__"):
            return a.__fx_create_arg__(self)
        if isinstance(a, tuple) and hasattr(a, "_fields"):
            args = tuple(self.create_arg(x) for x in a)
            return self.create_node("call_function", type(a), args, {})
        if isinstance(a, (tuple, list)):
            return type(a)(self.create_arg(x) for x in a)
        if isinstance(a, dict):
            return {k: self.create_arg(v) for k, v in a.items()}
        if isinstance(a, slice):
            return slice(*(self.create_arg(x) for x in (a.start, a.stop, a.step)))
        if isinstance(a, range):
            return range(*(self.create_arg(x) for x in (a.start, a.stop, a.step)))
        plain = (str, int, float, bool, complex, flambeau.dtype, flambeau.device, flambeau.layout)
        if a is None or a is ... or isinstance(a, (*plain, flambeau.memory_format)) or callable(a):
            return a
        raise NotImplementedError(f"argument of type: {type(a)}")

    def to_bool(self, obj: Proxy) -> bool:
        """What `bool(proxy)` does.

        Raises:
            TraceError: always; a tracer may know better.
        """
        raise TraceError("symbolically traced variables cannot be used as inputs to control flow")

    def iter(self, obj: Proxy) -> Iterator[Any]:
        """What iterating over a proxy does: as many parts as the statement unpacks to.

        Raises:
            TraceError: it is no such statement.
        """
        frame = inspect.currentframe()
        frame = frame.f_back.f_back if frame and frame.f_back else None
        assert frame is not None
        count = _unpacked(frame.f_code.co_code, frame.f_lasti)
        if count is not None:
            return (self.create_proxy("call_function", operator.getitem, (obj, i), {})
                    for i in range(count))  # fmt: skip
        raise TraceError(
            "Proxy object cannot be iterated. This can be attempted when the Proxy is used in a "
            "loop or as a *args or **kwargs function argument. See the torch.fx docs on pytorch.org"
            " for a more detailed explanation of what types of control flow can be traced, and "
            "check out the Proxy docstring for help troubleshooting Proxy iteration errors"
        )

    def keys(self, obj: Proxy) -> Any:
        """What `proxy.keys()` gives, which `**proxy` asks for."""
        return Attribute(obj, "keys")()


def _unpacked(code: bytes, at: int) -> int | None:
    """To how many names the instruction that runs unpacks a value."""
    if dis.opname[code[at]] == "UNPACK_SEQUENCE":
        return code[at + 1]
    return None


class GraphAppendingTracer(TracerBase):
    """Writes behind the nodes of a graph that is there.

    Args:
        graph: the graph.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph


class Proxy:
    """Stands for a value while a program is traced: what is done with it becomes a node.

    Args:
        node: that makes the value.
        tracer: that makes nodes; by default one that writes behind the node's graph.
    """

    def __init__(self, node: Node, tracer: TracerBase | None = None) -> None:
        if tracer is None:  # outside of any tracing
            overriding.switch_on(type(self))
        self.tracer = GraphAppendingTracer(node.graph) if tracer is None else tracer
        self.node = node

    def __repr__(self) -> str:
        return f"Proxy({self.node.name})"

    def __getattr__(self, name: str) -> Attribute:
        return Attribute(self, name)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = state

    def __deepcopy__(self, memo: dict[int, Any]) -> Proxy:
        return Proxy(self.node, self.tracer)

    def __call__(self, *args: Any, **kwargs: Any) -> Proxy:
        return self.tracer.create_proxy("call_method", "__call__", (self, *args), kwargs)

    def __iter__(self) -> Iterator[Any]:
        return self.tracer.iter(self)

    def __bool__(self) -> bool:
        return self.tracer.to_bool(self)

    def __index__(self) -> int:
        raise TraceError("the value of a traced variable is not known: it cannot be an index")

    def __len__(self) -> int:
        raise RuntimeError(
            "'len' is not supported in symbolic tracing by default. If you want this call to be "
            "recorded, please call torch.fx.wrap('len') at module scope"
        )

    def keys(self) -> Any:
        """See `TracerBase.keys`."""
        return self.tracer.keys(self)

    @classmethod
    def __torch_function__(
        cls, orig_method: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Record a call of a function of tensors with a proxy among its arguments."""
        kwargs = kwargs or {}
        found: list[TracerBase] = []

        def note(a: Any) -> Any:
            if isinstance(a, Proxy):
                found.append(a.tracer)
            return a

        map_aggregate((args, kwargs), note)
        tracer = found[0]
        if getattr(orig_method, "__name__", "") == "__get__":
            names = [k for k, v in vars(flambeau.Tensor).items() if v is orig_method.__self__]
            return tracer.create_proxy("call_function", getattr, (*args, names[0]), {})
        known = flambeau.overrides.resolve_name(orig_method) or ""
        if is_tensor_method_or_property(orig_method) and known.startswith("torch.Tensor."):
            return tracer.create_proxy("call_method", orig_method.__name__, args, kwargs)
        return tracer.create_proxy("call_function", orig_method, args, kwargs)


class Attribute(Proxy):
    """An attribute of a proxy: a method when it is called, otherwise a value.

    Args:
        root: the proxy.
        attr: the name.
    """

    def __init__(self, root: Proxy, attr: str) -> None:
        self.root = root
        self.attr = attr
        self.tracer = root.tracer
        self._node: Node | None = None

    @property
    def node(self) -> Node:  # type: ignore[override]
        """The node of the value; made when it is first asked for, since methods need none."""
        if self._node is None:
            args = (self.root, self.attr)
            self._node = self.tracer.create_proxy("call_function", getattr, args, {}).node
        return self._node

    def __call__(self, *args: Any, **kwargs: Any) -> Proxy:
        return self.tracer.create_proxy("call_method", self.attr, (self.root, *args), kwargs)


def _operator(name: str, reflected: bool = False) -> Callable[..., Any]:
    function = getattr(operator, name)

    def call(self: Proxy, *args: Any) -> Proxy:
        given = (*reversed(args), self) if reflected else (self, *args)
        return self.tracer.create_proxy("call_function", function, given, {})

    return call


for _name in (*INFIX, "neg", "invert", "pos", "abs", "getitem"):
    setattr(Proxy, f"__{_name.rstrip('_')}__", _operator(_name))
for _name in list(INFIX)[:13]:
    setattr(Proxy, f"__r{_name.rstrip('_')}__", _operator(_name, reflected=True))
Proxy.__hash__ = object.__hash__  # type: ignore[method-assign]

__all__ = ["Attribute", "GraphAppendingTracer", "Proxy", "TraceError", "TracerBase"]
