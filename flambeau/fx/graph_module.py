"""Modules whose `forward` is generated from a graph."""

from __future__ import annotations

import copy
import itertools
import linecache
from typing import Any

from flambeau import nn
from flambeau.fx.graph import Graph, PythonCode
from flambeau.fx.node import map_aggregate, map_arg
from flambeau.overrides import is_tensor_like

_USER_PRESERVED_ATTRIBUTES_KEY = "_user_preserved_attributes"
_numbers = itertools.count()


def compiled(code: PythonCode) -> Any:
    """The function `forward` of some source; tracebacks show its lines."""
    name = f"<eval_with_key>.{next(_numbers)}"
    lines = code.src.splitlines(True)
    linecache.cache[name] = (len(code.src), None, lines, name)
    space = dict(code.globals)
    exec(compile(code.src, name, "exec"), space)
    return space["forward"]


def _copy_attr(from_module: Any, to_module: Any, target: str) -> None:
    """Put an attribute of a module, by its dotted name, into another."""
    *path, last = target.split(".")
    for part in path:
        from_module = getattr(from_module, part)
        if not hasattr(to_module, part):
            setattr(to_module, part, nn.Module())
        to_module = getattr(to_module, part)
    _assign(to_module, last, getattr(from_module, last))


def _assign_path(module: Any, target: str, value: Any) -> None:
    *path, last = target.split(".")
    for part in path:
        if not hasattr(module, part):
            setattr(module, part, nn.Module())
        module = getattr(module, part)
    _assign(module, last, value)


def _assign(module: Any, name: str, value: Any) -> None:
    if is_tensor_like(value) and not isinstance(value, nn.Parameter):
        module.register_buffer(name, value)
    else:
        setattr(module, name, value)


class GraphModule(nn.Module):
    """A module made of a graph, whose `code` follows it.

    Args:
        root: the module whose modules, parameters and buffers the graph names, or a dict of them
            by their dotted names. What the graph does not name is left behind.
        graph: the program.
        class_name: of the module.

    Raises:
        RuntimeError: the graph names what a dict does not have.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """An instance of a class of its own, whose `forward` is generated."""
        base = next(
            c for c in cls.__mro__ if c is GraphModule or not c.__dict__.get("_generated", False)
        )
        return super().__new__(type(base.__name__, (base,), {"_generated": True}))

    def __init__(self, root: Any, graph: Graph, class_name: str = "GraphModule") -> None:
        super().__init__()
        type(self).__name__ = class_name
        named = {n.target for n in graph.nodes if n.op in ("get_attr", "call_module")}
        if isinstance(root, nn.Module):
            if hasattr(root, "training"):
                self.training = root.training
            for target in sorted(str(t) for t in named):
                _copy_attr(root, self, target)
        elif isinstance(root, dict):
            missing = sorted(str(t) for t in named if t not in root)
            if missing:
                raise RuntimeError(
                    f"Node referenced target {missing[0]} but that target was not provided in "
                    "``root``!"
                )
            for target in sorted((str(t) for t in named), key=lambda t: t.count(".")):
                _assign_path(self, target, root[target])
        else:
            raise RuntimeError(f"Unsupported type {root} passed for root!")
        self.meta: dict[str, Any] = dict(getattr(root, "meta", {}))
        self.graph = graph

    @property
    def graph(self) -> Graph:
        """The program; setting it generates the code anew."""
        return self._graph

    @graph.setter
    def graph(self, g: Graph) -> None:
        if not isinstance(g, Graph):
            raise AssertionError(f"Expected a Graph instance, but got {type(g)}")
        if g.owning_module is not None and g.owning_module is not self:
            g = copy.deepcopy(g)
        g.owning_module = self
        self._graph = g
        self.recompile()

    @property
    def code(self) -> str:
        """The source of `forward`."""
        return self._code

    def recompile(self) -> PythonCode:
        """Generate the code anew, after the graph was changed; -> it."""
        code = self._graph.python_code("self")
        self._code = code.src
        type(self).forward = compiled(code)
        return code

    # -- what it is made of -----------------------------------------------------------------------

    def add_submodule(self, target: str, m: nn.Module) -> bool:
        """Put a module at a dotted name; -> whether there was room for it."""
        *path, last = target.split(".")
        at: Any = self
        for part in path:
            if not hasattr(at, part):
                at.add_module(part, nn.Module())
            at = getattr(at, part)
            if not isinstance(at, nn.Module):
                return False
        at.add_module(last, m)
        return True

    def delete_submodule(self, target: str) -> bool:
        """Take the module at a dotted name away; -> whether there was one."""
        *path, last = target.split(".")
        at: Any = self
        for part in path:
            if not hasattr(at, part):
                return False
            at = getattr(at, part)
        if not isinstance(getattr(at, last, None), nn.Module):
            return False
        delattr(at, last)
        return True

    def delete_all_unused_submodules(self) -> None:
        """Take away the modules that the graph does not name, nor parts of."""
        used: set[str] = set()
        for node in self._graph.nodes:
            if node.op in ("call_module", "get_attr"):
                parts = str(node.target).split(".")
                used.update(".".join(parts[: k + 1]) for k in range(len(parts)))
                if node.op == "call_module":
                    inside = self.get_submodule(str(node.target)).named_modules()
                    used.update(f"{node.target}.{name}" for name, _ in inside if name)
        for name in [name for name, _ in self.named_modules() if name not in used and name]:
            self.delete_submodule(name)

    # -- copies and text --------------------------------------------------------------------------

    def __deepcopy__(self, memo: dict[int, Any]) -> GraphModule:
        whole = nn.Module()
        memo[id(self)] = whole
        for name, value in self.__dict__.items():
            if name != "_graph":
                whole.__dict__[name] = copy.deepcopy(value, memo)
        made = GraphModule(whole, copy.deepcopy(self._graph), type(self).__name__)
        made.meta = copy.copy(self.meta)
        for name, value in whole.__dict__.items():
            if name not in made.__dict__ and not name.startswith("_"):
                made.__dict__[name] = value
        memo[id(self)] = made
        return made

    def __copy__(self) -> GraphModule:
        made = GraphModule(self, copy.deepcopy(self._graph), type(self).__name__)
        made.meta = self.meta
        return made

    def __reduce__(self) -> Any:
        state = {k: v for k, v in self.__dict__.items() if k != "_graph"}
        return _rebuild, (state, _plain(self._graph), type(self).__name__)

    def __str__(self) -> str:
        return "\n".join([
            super().__str__(),
            self._code,
            "# To see more debug info, please use `graph_module.print_readable()`",
        ])  # fmt: skip

    def print_readable(
        self,
        print_output: bool = True,
        include_stride: bool = False,
        include_device: bool = False,
        colored: bool = False,
        **options: Any,
    ) -> str:
        """The class with its code, and those of its modules that are graphs.

        Args:
            print_output: whether it is printed.
            include_stride, include_device, colored: accepted.
        """
        text = f"class {type(self).__name__}(torch.nn.Module):\n"
        text += "\n".join(f"    {line}".rstrip() for line in self._code.strip().splitlines())
        for _, child in self.named_children():
            if isinstance(child, GraphModule):
                inner = child.print_readable(print_output=False)
                text += "\n\n" + "\n".join(f"    {line}".rstrip() for line in inner.splitlines())
        if print_output:
            print(text)
        return text


def _plain(graph: Graph) -> list[Any]:
    """A graph's nodes as plain values; functions are pickled by their names."""
    number = {node: k for k, node in enumerate(graph.nodes)}
    return [
        (n.name, n.op, n.target, *map_arg((n.args, n.kwargs), lambda m: _Place(number[m])), n.type)
        for n in graph.nodes
    ]


class _Place:
    """Stands for a node in a pickle."""

    def __init__(self, number: int) -> None:
        self.number = number


def _rebuild(state: dict[str, Any], nodes: list[Any], name: str) -> GraphModule:
    """What a pickled `GraphModule` calls when it is read."""
    root = nn.Module()
    root.__dict__.update(state)
    graph = Graph()
    made: list[Any] = []
    for title, op, target, args, kwargs, kind in nodes:
        args, kwargs = map_aggregate(
            (args, kwargs), lambda a: made[a.number] if isinstance(a, _Place) else a
        )
        made.append(graph.create_node(op, target, args, kwargs, title, kind))
    return GraphModule(root, graph, name)


__all__ = ["GraphModule"]
