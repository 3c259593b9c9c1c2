"""Graphs of nodes: building, changing, checking, and Python code of them."""

from __future__ import annotations

import builtins
import contextlib
import copy
import keyword
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import flambeau
from flambeau.dtype import prefix
from flambeau.fx.node import Node, Target, map_arg, qualified_name, type_text


class PythonCode(NamedTuple):
    """What `Graph.python_code` gives: the source of a function, and the names that it uses."""

    src: str
    globals: dict[str, Any]


class _Names:
    """Names that differ from each other, from keywords and from builtins."""

    def __init__(self) -> None:
        self.taken: dict[str, Any] = {}
        self._numbers: dict[str, int] = {}

    def create(self, candidate: str, owner: Any = None) -> str:
        """A free name close to one, which is taken from now on."""
        candidate = re.sub(r"[^0-9a-zA-Z_]+", "_", candidate) or "_unnamed"
        if candidate[0].isdigit():
            candidate = f"_{candidate}"
        base, number = candidate, None
        found = re.fullmatch(r"(.*)_(\d+)", candidate)
        if found:
            base, number = found[1], int(found[2])
        name = candidate
        while name in self.taken or keyword.iskeyword(name) or (
            name in vars(builtins) or name in ("self", "torch", "flambeau", "inf", "nan")
        ):  # fmt: skip
            number = self._numbers.get(base, 0) + 1 if number is None else number + 1
            self._numbers[base] = number
            name = f"{base}_{number}"
            number = number if name in self.taken else None
        self.taken[name] = owner
        return name


class _Nodes:
    """The nodes of a graph in order: iterable both ways."""

    def __init__(self, root: Node, forward: bool = True) -> None:
        self.root = root
        self.forward = forward

    def __iter__(self) -> Iterator[Node]:
        at = self.root._next if self.forward else self.root._prev
        while at is not self.root:
            following = at._next if self.forward else at._prev
            if not at._erased:
                yield at
            at = following if following._erased is False else self._live(at)

    def _live(self, at: Node) -> Node:
        at = at._next if self.forward else at._prev
        while at._erased:
            at = at._next if self.forward else at._prev
        return at

    def __reversed__(self) -> _Nodes:
        return _Nodes(self.root, not self.forward)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Graph:
    """A program as a list of nodes, each using values of earlier ones.

    Args:
        owning_module: whose code it is.
        tracer_cls: that made it.
        tracer_extras: accepted.

    Example:
        >>> import flambeau
        >>> from flambeau import fx
        >>> graph = fx.Graph()
        >>> x = graph.placeholder("x")
        >>> _ = graph.output(graph.call_function(flambeau.exp, (x,)))
        >>> print(graph.python_code("self").src.strip())
        def forward(self, x):
            exp = flambeau.exp(x);  x = None
            return exp
    """

    def __init__(
        self, owning_module: Any = None, tracer_cls: Any = None, tracer_extras: Any = None
    ) -> None:
        self._root = Node(self, "", "root", "", (), {})
        self._names = _Names()
        self._insert: Callable[[Node], None] = self._root.prepend
        self.owning_module = owning_module
        self._tracer_cls = tracer_cls

    @property
    def nodes(self) -> _Nodes:
        """The nodes in order."""
        return _Nodes(self._root)

    # -- building ---------------------------------------------------------------------------------

    def create_node(
        self,
        op: str,
        target: Target,
        args: tuple[Any, ...] | None = None,
        kwargs: dict[str, Any] | None = None,
        name: str | None = None,
        type_expr: Any = None,
    ) -> Node:
        """A new node at the place of insertion; see `Node` for the arguments.

        Args:
            name: by default after the target.
            type_expr: of the value.
        """
        candidate = name or _natural_name(target)
        node = Node(self, "", op, target, tuple(args or ()), dict(kwargs or {}), type_expr)
        node.name = self._names.create(candidate, node)
        self._insert(node)
        return node

    def placeholder(self, name: str, type_expr: Any = None, default_value: Any = ...) -> Node:
        """An input.

        Args:
            name: of the parameter, with "*" or "**" before it for several.
            type_expr: of the parameter.
            default_value: if it has one.
        """
        args = () if default_value is ... else (default_value,)
        return self.create_node("placeholder", name, args, type_expr=type_expr)

    def get_attr(self, qualified_name: str, type_expr: Any = None) -> Node:
        """A parameter, buffer or other attribute of the module, by its dotted name."""
        return self.create_node("get_attr", qualified_name, type_expr=type_expr)

    def call_module(
        self, module_name: str, args: Any = None, kwargs: Any = None, type_expr: Any = None
    ) -> Node:
        """A call of a submodule, by its dotted name."""
        return self.create_node("call_module", module_name, args, kwargs, type_expr=type_expr)

    def call_method(
        self, method_name: str, args: Any = None, kwargs: Any = None, type_expr: Any = None
    ) -> Node:
        """A call of a method of the first argument."""
        return self.create_node("call_method", method_name, args, kwargs, type_expr=type_expr)

    def call_function(
        self,
        the_function: Callable[..., Any],
        args: Any = None,
        kwargs: Any = None,
        type_expr: Any = None,
        name: str | None = None,
    ) -> Node:
        """A call of a function."""
        return self.create_node("call_function", the_function, args, kwargs, name, type_expr)

    def output(self, result: Any, type_expr: Any = None) -> Node:
        """What the program gives: a node, or a structure of them."""
        return self.create_node("output", "output", (result,), type_expr=type_expr)

    def output_node(self) -> Node:
        """The node of the output."""
        return next(n for n in reversed(self.nodes) if n.op == "output")

    def node_copy(self, node: Node, arg_transform: Callable[[Node], Any] = lambda n: n) -> Node:
        """A node of another graph, here.

        Args:
            node: the other.
            arg_transform: nodes of its arguments -> those here.
        """
        args, kwargs = map_arg((node.args, node.kwargs), arg_transform)
        made = self.create_node(node.op, node.target, args, kwargs, node.name, node.type)
        made.meta = copy.copy(node.meta)
        return made

    def graph_copy(
        self, g: Graph, val_map: dict[Node, Node], return_output_node: bool = False
    ) -> Any:
        """All nodes of another graph but its output, here.

        Args:
            g: the other.
            val_map: its nodes -> those here; filled.
            return_output_node: give (output, the other's output node).

        Returns:
            What its output would be.
        """
        for node in g.nodes:
            if node in val_map:
                continue
            if node.op == "output":
                found = map_arg(node.args[0], lambda n: val_map[n])
                return (found, node) if return_output_node else found
            val_map[node] = self.node_copy(node, lambda n: val_map[n])
        return None

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Graph:
        made = Graph(tracer_cls=self._tracer_cls)
        known: dict[Node, Node] = {}
        found = made.graph_copy(self, known, return_output_node=True)
        if found is not None:
            result, old = found
            made.output(result, old.type).meta = copy.copy(old.meta)
        return made

    # -- changing ---------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _inserting(self, insert: Callable[[Node], None]) -> Iterator[None]:
        was, self._insert = self._insert, insert
        try:
            yield
        finally:
            self._insert = was

    def inserting_before(self, n: Node | None = None) -> Any:
        """A context in which new nodes go before a node (or to the front)."""
        return self._inserting(self._root._next.prepend if n is None else n.prepend)

    def inserting_after(self, n: Node | None = None) -> Any:
        """A context in which new nodes go behind a node (or to the end), in their order."""
        at = [self._root._prev if n is None else n]

        def insert(node: Node) -> None:
            at[0].append(node)
            at[0] = node

        return self._inserting(insert)

    def erase_node(self, to_erase: Node) -> None:
        """Take a node out.

        Raises:
            RuntimeError: it is used.
        """
        if to_erase.users:
            raise RuntimeError(
                f"Tried to erase Node {to_erase} but it still had {len(to_erase.users)} users in "
                f"the graph: {to_erase.users}!"
            )
        if to_erase._erased:
            return
        to_erase._set((), {})
        to_erase._remove()
        to_erase._erased = True

    def eliminate_dead_code(self, is_impure_node: Callable[[Node], bool] | None = None) -> bool:
        """Take out what nobody uses and has no effect; -> whether there was something.

        Args:
            is_impure_node: node -> whether it stays; by default `Node.is_impure`, of modules and
                functions.
        """
        self.lint()
        impure = is_impure_node or Node.is_impure
        changed = False
        for node in reversed(self.nodes):
            if not node.users and not impure(node):
                self.erase_node(node)
                changed = True
        return changed

    def find_nodes(self, *, op: str, target: Any = None, sort: bool = True) -> list[Node]:
        """The nodes of a kind, in order; with a target those of it."""
        return [
            n for n in self.nodes if n.op == op and (target is None or n.target == target)
        ]  # fmt: skip

    def lint(self) -> None:
        """Check that arguments stand before their uses and targets are there.

        Raises:
            RuntimeError: they do not, or are not.
        """
        seen: set[Node] = set()
        for node in self.nodes:
            for other in node.all_input_nodes:
                if other.graph is not self:
                    raise RuntimeError(f"Argument '{other}' of Node '{node}' does not belong to "
                                       "this Graph")  # fmt: skip
                if other not in seen:
                    raise RuntimeError(
                        f"Argument '{other}' of Node '{node}' was used before it has been defined! "
                        f"Please check that Nodes in the graph are topologically ordered\n{self}"
                    )
            seen.add(node)
            if self.owning_module is not None and node.op in ("get_attr", "call_module"):
                at = self.owning_module
                for part in str(node.target).split("."):
                    if not hasattr(at, part):
                        raise RuntimeError(
                            f"Node {node} target {node.target} references nonexistent attribute "
                            f"{part} of {node.target}"
                        )
                    at = getattr(at, part)

    # -- text -------------------------------------------------------------------------------------

    def __str__(self) -> str:
        lines = [n.format_node() for n in self.nodes]
        return "\n    ".join(["graph():", *filter(None, lines)])

    def print_tabular(self) -> None:
        """Print the nodes as a table."""
        rows = [["opcode", "name", "target", "args", "kwargs"]]
        rows += [[n.op, n.name, str(n.target), str(n.args), str(n.kwargs)] for n in self.nodes]
        widths = [max(len(row[k]) for row in rows) for k in range(5)]
        lines = ["  ".join(w.ljust(n) for w, n in zip(row, widths)).rstrip() for row in rows]
        lines.insert(1, "  ".join("-" * n for n in widths))
        print("\n".join(lines))

    def python_code(self, root_module: str, *, verbose: bool = False) -> PythonCode:
        """The program as a Python function `forward`.

        Args:
            root_module: what it calls the module.
            verbose: with the types of values.
        """
        return _Writer(self, root_module, verbose).write()


def _natural_name(target: Target) -> str:
    if isinstance(target, str):
        name = re.sub(r"\W+", "_", target)
    else:
        name = getattr(target, "__name__", type(target).__name__)
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


#: Functions of `operator` that are written as operators.
INFIX = {
    "add": "+", "sub": "-", "mul": "*", "truediv": "/", "floordiv": "//", "mod": "%", "pow": "**",
    "lshift": "<<", "rshift": ">>", "and_": "&", "or_": "|", "xor": "^", "matmul": "@",
    "eq": "==", "ne": "!=", "lt": "<", "gt": ">", "le": "<=", "ge": ">=",
}  # fmt: skip
_PREFIX = {"neg": "-", "invert": "~", "pos": "+"}
_AUGMENTED = {f"i{name.rstrip('_')}": f"{sign}=" for name, sign in INFIX.items()}


class _Verbatim:
    """A value whose text is given."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


class _Writer:
    """Writes one graph as Python."""

    def __init__(self, graph: Graph, root: str, verbose: bool) -> None:
        self.graph = graph
        self.root = root
        self.verbose = verbose
        self.globals: dict[str, Any] = {}
        self.parameters: list[str] = []
        self.lines: list[str] = []
        self.returned = ""

    def write(self) -> PythonCode:
        """The source, and the names it uses."""
        dead = self._last_uses()
        for node in self.graph.nodes:
            line = self._line(node)
            gone = [n.name for n in dead.get(node, ())]
            if node.op != "placeholder" and node.op != "output" and not node.users:
                gone.append(node.name)
            if gone and node.op != "output":
                line += f";  {' = '.join(gone)} = None"
            if node.op == "placeholder":
                if node.target == node.name:
                    continue
                line = f"{node.name} = {str(node.target).lstrip('*')}"
            self.lines.append(f"    {line}")
        if not any(n.op == "output" for n in self.graph.nodes):
            self.lines.append("    pass")
        head = ", ".join([self.root, *self.parameters] if self.root else self.parameters)
        body = "\n".join(self.lines)
        return PythonCode(f"\n\n\ndef forward({head}){self.returned}:\n{body}\n    ", self.globals)

    def _last_uses(self) -> dict[Node, list[Node]]:
        """Node -> the values that nobody needs after it."""
        seen: set[Node] = set()
        found: dict[Node, list[Node]] = {}
        for node in reversed(self.graph.nodes):
            for other in node.all_input_nodes:
                if other not in seen:
                    seen.add(other)
                    found.setdefault(node, []).append(other)
        return found

    def _known(self, name: str, value: Any) -> str:
        """A name that stands for a value in the code."""
        if name in self.globals and self.globals[name] is not value:
            name = self.graph._names.create(name, value)
        self.globals[name] = value
        return name

    def _function(self, function: Any) -> str:
        name = qualified_name(function)
        first = name.partition(".")[0]
        if first == prefix[0]:
            self._known(first, sys.modules.get(first, flambeau))
            return name
        if first in sys.modules and first in ("operator", "math", "functools"):
            self._known(first, sys.modules[first])
            return name
        if name in vars(builtins):
            return name
        return self._known(re.sub(r"\W", "_", name), function)

    def _argument(self, value: Any) -> Any:
        """What stands for a value among arguments."""
        if isinstance(value, Node):
            return _Verbatim(value.name)
        if isinstance(value, tuple):
            parts = tuple(self._argument(v) for v in value)
            return type(value)(*parts) if hasattr(value, "_fields") else parts
        if isinstance(value, list):
            return [self._argument(v) for v in value]
        if isinstance(value, dict):
            return {k: self._argument(v) for k, v in value.items()}
        if isinstance(value, slice):
            return slice(*(self._argument(v) for v in (value.start, value.stop, value.step)))
        if isinstance(value, float) and (value != value or abs(value) == float("inf")):
            word = "nan" if value != value else "inf"
            self._known(word, float(word))
            return _Verbatim(str(value))
        if isinstance(value, flambeau.dtype | flambeau.layout | flambeau.memory_format):
            self._known(prefix[0], sys.modules.get(prefix[0], flambeau))
            return value
        if value is None or value is ... or isinstance(value, str | int | float | complex | bytes):
            return value
        if isinstance(value, flambeau.device):
            self._known("device", flambeau.device)
            return value
        if isinstance(value, type) or callable(value):
            return _Verbatim(self._function(value))
        return _Verbatim(self._known(f"_{type(value).__name__.lower()}", value))

    def _arguments(self, args: Any, kwargs: dict[str, Any]) -> str:
        parts = [repr(self._argument(a)) for a in args]
        return ", ".join([*parts, *(f"{k} = {self._argument(v)!r}" for k, v in kwargs.items())])

    def _line(self, node: Node) -> str:
        args, kwargs, target = node.args, node.kwargs, node.target
        if node.op == "placeholder":
            kind = "" if node.type is None else f" : {self._type(node.type)}"
            default = "" if not args else f" = {self._argument(args[0])!r}"
            self.parameters.append(f"{target}{kind}{default}")
            return ""
        if node.op == "output":
            if node.type is not None:
                self.returned = f" -> {self._type(node.type)}"
            return f"return {self._argument(args[0])!r}"
        kind = f" : {self._type(node.type)}" if node.type is not None else ""
        return f"{node.name}{kind} = {self._value(node, target, args, kwargs)}"

    def _value(self, node: Node, target: Any, args: Any, kwargs: Any) -> str:
        if node.op == "get_attr":
            return _attribute(self.root, target)
        if node.op == "call_module":
            return f"{_attribute(self.root, target)}({self._arguments(args, kwargs)})"
        if node.op == "call_method":
            first = repr(self._argument(args[0]))
            return f"{first}.{target}({self._arguments(args[1:], kwargs)})"
        name = getattr(target, "__name__", "")
        if getattr(target, "__module__", "") == "_operator" and not kwargs:
            shown = [repr(self._argument(a)) for a in args]
            if name in INFIX and len(args) == 2:
                return f"{shown[0]} {INFIX[name]} {shown[1]}"
            if name in _PREFIX:
                return f"{_PREFIX[name]}{shown[0]}"
            if name == "getitem":
                return f"{shown[0]}[{self._index(args[1])}]"
            if name in _AUGMENTED:
                return f"{shown[0]}; {shown[0]} {_AUGMENTED[name]} {shown[1]}"
        if target is getattr and len(args) == 2 and str(args[1]).isidentifier():
            return _attribute(repr(self._argument(args[0])), args[1])
        return f"{self._function(target)}({self._arguments(args, kwargs)})"

    def _index(self, key: Any) -> str:
        return repr(self._argument(key))

    def _type(self, kind: Any) -> str:
        text = type_text(kind)
        first = text.partition(".")[0]
        if first == prefix[0]:
            self._known(first, sys.modules.get(first, flambeau))
            return text
        if text in vars(builtins):
            return text
        return self._known(re.sub(r"\W", "_", text), kind)


def _attribute(root: str, path: str) -> str:
    """The text of an attribute of an attribute of ..."""
    for part in path.split("."):
        root = f"{root}.{part}" if part.isidentifier() else f'getattr({root}, "{part}")'
    return root


__all__ = ["Graph", "PythonCode"]
