"""Traced graphs as text, and back: one statement a node.

    x = input(0, shape=(batch, 8), dtype=float32)
    n1 = linear(x, w, attrs=("<tensor>", "<tensor>", None), shape=(batch, 4), dtype=float32)
    return_(n1)

A graph that is an attribute of a node stands before it as `def body0():` and is named there.

The text is read by Python's own parser, and only what is written here is taken: numbers, strings,
names of symbols, dtypes and rows, sums and products of sizes, and the classes of attributes below.
Nothing is evaluated.
"""

from __future__ import annotations

import ast
import dataclasses
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from flambeau.device import device as Device
from flambeau.dtype import ALL
from flambeau.dtype import dtype as DType
from flambeau.export.dims import ExportError
from flambeau.export.graph import Traced
from flambeau.ir import graph as ir
from flambeau.ir.body import Body
from flambeau.ir.fault import Fault
from flambeau.ir.graph import Constant, Drawn, Node, Op
from flambeau.ir.symbol import Symbols, SymFloat, SymInt
from flambeau.ops.flex import How
from flambeau.ops.mods import GATHER, Mod, Step
from flambeau.ops.rows import ROWS

#: Operations of the IR itself, and the rows.
_OPS: dict[str, Op] = {
    op.name: op
    for op in (ir.VIEW, ir.CAST, ir.COPY, ir.PICK, ir.ASSIGN, ir.EMPTY, ir.INPUT, GATHER)
}
_CLASSES: dict[str, type] = {c.__name__: c for c in (How, Mod, Step, Fault)}
_ERRORS = {e.__name__: e for e in (IndexError, RuntimeError, ValueError)}
_DTYPES = {d.name: d for d in ALL}
_LIMIT = 1 << 26
_SIGNS: dict[type, str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.FloorDiv: "//", ast.Mod: "%", ast.Div: "/",
    ast.Pow: "**",
}  # fmt: skip


def op_of(name: str) -> Op:
    """An operation by its name.

    Raises:
        ExportError: there is none.
    """
    found = _OPS.get(name) or ROWS.get(name)
    if found is None:
        raise ExportError(f"the program uses the operation {name!r}, which is not here")
    return found


# -- writing ---------------------------------------------------------------------------------------


def value_text(x: Any, bodies: Mapping[Body, str] = MappingProxyType({})) -> str:
    """An attribute, size or number as text.

    Args:
        x: it.
        bodies: the names of graphs that may stand in it.

    Raises:
        ExportError: it is of a kind that has no text.
    """
    if isinstance(x, SymInt):
        return str(x.expression)
    if isinstance(x, Drawn):
        return f"place({value_text(x.number)})" if x.place else "seed()"
    if isinstance(x, SymFloat):
        return f"({value_text(x.left)}) {x.operator} ({value_text(x.right)})"
    if x is None or isinstance(x, (bool, str)):
        return repr(x)
    if isinstance(x, float):
        text = f'"{x!r}"' if x != x or x in (float("inf"), -float("inf")) else repr(float(x))
        if text.startswith('"'):
            return f"number({text})"
        return f"constant({text})" if type(x) is Constant else text
    if isinstance(x, int):
        return repr(int(x))
    if isinstance(x, DType):
        return x.name
    if isinstance(x, Device):
        return f"device({str(x)!r})"
    if isinstance(x, Op):
        return f"op({x.name!r})"
    if isinstance(x, type) and x.__name__ in _ERRORS:
        return f"error({x.__name__!r})"
    if isinstance(x, slice):
        return f"slice({value_text(x.start)}, {value_text(x.stop)}, {value_text(x.step)})"
    if type(x).__name__ in _CLASSES and type(x) is _CLASSES[type(x).__name__]:
        if dataclasses.is_dataclass(x):
            named = {f.name: getattr(x, f.name) for f in dataclasses.fields(x) if f.compare}
        else:
            assert isinstance(x, Fault)
            named = x._asdict()
        inside = ", ".join(f"{k}={value_text(v)}" for k, v in named.items())
        return f"{type(x).__name__}({inside})"
    if isinstance(x, (tuple, list)):
        inside = ", ".join(value_text(v, bodies) for v in x)
        if isinstance(x, list):
            return f"[{inside}]"
        return f"({inside},)" if len(x) == 1 else f"({inside})"
    if isinstance(x, Body) and x in bodies:
        return bodies[x]
    raise ExportError(f"a graph with an attribute of type {type(x).__name__} cannot be written")


def graph_text(traced: Traced, names: Sequence[str], results: Sequence[str] = ()) -> str:
    """A graph as text, the bodies that stand among its attributes before it.

    Args:
        traced: the graph.
        names: of its inputs.
        results: comments for its outputs.
    """
    with traced.symbols:
        bodies: dict[Body, str] = {}
        lines: list[str] = []
        for body in _bodies(traced.nodes):
            if body not in bodies:
                inner = _statements(body.nodes, body.outputs, [], bodies)
                bodies[body] = f"body{len(bodies)}"
                lines += [f"def {bodies[body]}():", *(f"    {line}" for line in inner)]
        return "\n".join([*lines, *_statements(traced.nodes, traced.outputs, names, bodies)]) + "\n"


def _bodies(nodes: Iterable[Node]) -> Iterator[Body]:
    """The bodies among the attributes of nodes, those that stand in others first."""
    for node in nodes:
        for a in node.attrs:
            if isinstance(a, Body):
                yield from _bodies(a.nodes)
                yield a


def _statements(
    nodes: Sequence[Node], outputs: Sequence[Node], names: Sequence[str], bodies: dict[Body, str]
) -> list[str]:
    known: dict[Node, str] = {}
    lines = []
    for node in nodes:
        given = [known[s] if type(s) is Node else value_text(s) for s in node.src]
        if node.op is ir.INPUT:
            number = node.attrs[0]
            known[node] = names[number] if names else f"i{number}"
            given = [str(number)]
        else:
            known[node] = f"n{len(known)}"
            if node.attrs:
                given.append(f"attrs={value_text(node.attrs, bodies)}")
        given += [f"shape={value_text(node.shape)}", f"dtype={node.dtype.name}"]
        lines.append(f"{known[node]} = {node.op.name}({', '.join(given)})")
    outs = ", ".join(known[n] for n in outputs)
    return [*lines, f"return_({outs})"]


# -- reading ---------------------------------------------------------------------------------------


class Reader:
    """Makes values of parsed text.

    Args:
        sizes: symbols by name.
    """

    def __init__(self, sizes: dict[str, Any]) -> None:
        self.sizes = sizes
        self.nodes: dict[str, Node] = {}
        self.bodies: dict[str, Body] = {}
        self.makers: dict[str, Callable[..., Any]] = {
            "number": _number,
            "place": lambda x: Drawn(_checked(x, int), True),
            "seed": lambda: Drawn(0, False),
            "constant": lambda x: Constant(_checked(x, float)),
            "device": lambda x: Device(_checked(x, str)),
            "op": lambda x: op_of(_checked(x, str)),
            "error": lambda x: _ERRORS[_checked(x, str)],
            "slice": slice,
            **_CLASSES,
        }

    def value(self, tree: ast.expr) -> Any:
        """What an expression stands for."""
        if isinstance(tree, ast.Constant):
            if tree.value is None or isinstance(tree.value, (bool, int, float, str)):
                return tree.value
        elif isinstance(tree, ast.Name):
            for table in (self.nodes, self.sizes, self.bodies, _DTYPES):
                if tree.id in table:
                    return table[tree.id]
        elif isinstance(tree, ast.Tuple):
            return tuple(self.value(x) for x in tree.elts)
        elif isinstance(tree, ast.List):
            return [self.value(x) for x in tree.elts]
        elif isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.USub):
            return -_checked(self.value(tree.operand), (int, float))
        elif isinstance(tree, ast.BinOp) and type(tree.op) in _SIGNS:
            return self._sum(tree)
        elif isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name):
            make = self.makers.get(tree.func.id)
            if make is not None:
                named = {k.arg: self.value(k.value) for k in tree.keywords if k.arg}
                return make(*(self.value(x) for x in tree.args), **named)
        raise ExportError(f"line {tree.lineno} of the program is not understood")

    def _sum(self, tree: ast.BinOp) -> Any:
        left = _checked(self.value(tree.left), (int, float))
        right = _checked(self.value(tree.right), (int, float))
        sign = _SIGNS[type(tree.op)]
        if sign == "+":
            return left + right
        if sign == "-":
            return left - right
        if sign == "*":
            return left * right
        if sign == "**":
            if isinstance(left, int) and isinstance(right, int):  # which can be of any length
                raise ExportError(f"line {tree.lineno} of the program raises to a power")
            return _checked(left**right, float)
        if not right:
            raise ExportError(f"line {tree.lineno} of the program divides by 0")
        return left // right if sign == "//" else left % right if sign == "%" else left / right

    def node(self, tree: ast.stmt) -> Node:
        """The node of a statement."""
        if not (
            isinstance(tree, ast.Assign)
            and len(tree.targets) == 1
            and isinstance(tree.targets[0], ast.Name)
            and isinstance(tree.value, ast.Call)
            and isinstance(tree.value.func, ast.Name)
        ):
            raise ExportError(f"line {tree.lineno} of the program is no statement of a graph")
        call = tree.value
        assert isinstance(call.func, ast.Name)
        named = {k.arg: self.value(k.value) for k in call.keywords}
        if named.keys() - {"attrs"} != {"shape", "dtype"}:
            raise ExportError(f"line {tree.lineno} of the program lacks a shape or dtype")
        shape, dtype = _checked(named["shape"], tuple), _checked(named["dtype"], DType)
        if not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in shape):
            raise ExportError(f"line {tree.lineno} of the program has a shape of no sizes")
        src = tuple(self.value(x) for x in call.args)
        attrs = _checked(named.get("attrs", ()), tuple)
        op = op_of(call.func.id)
        if op is ir.INPUT:
            src, attrs = (), (_checked(src[0] if src else None, int),)
        elif not all(isinstance(s, (Node, int, float)) for s in src):
            raise ExportError(f"line {tree.lineno} of the program has a source that is no value")
        made = Node(op, src, attrs, shape, dtype)
        self.nodes[tree.targets[0].id] = made
        return made

    def graph(self, statements: Sequence[ast.stmt]) -> tuple[list[Node], list[Node]]:
        """The nodes and results of statements, the last of which is `return_(..)`."""
        if not statements:
            raise ExportError("the program is empty")
        *before, last = statements
        nodes = []
        for s in before:
            if isinstance(s, ast.FunctionDef):
                self.bodies[s.name] = self.body(s)
            else:
                nodes.append(self.node(s))
        call = last.value if isinstance(last, ast.Expr) else None
        if not isinstance(call, ast.Call) or getattr(call.func, "id", "") != "return_":
            raise ExportError("the program does not end in return_(..)")
        return nodes, [_checked(self.value(x), Node) for x in call.args]

    def body(self, tree: ast.FunctionDef) -> Body:
        """The graph that stands apart under a name."""
        inner = Reader(self.sizes)
        inner.bodies = dict(self.bodies)
        nodes, outputs = inner.graph(tree.body)
        return Body(nodes, outputs, _inputs(nodes))


def _inputs(nodes: Sequence[Node]) -> int:
    """How many inputs a graph has.

    Raises:
        ExportError: their numbers are wrong.
    """
    numbers = sorted(n.attrs[0] for n in nodes if n.op is ir.INPUT)
    if numbers != list(range(len(numbers))):
        raise ExportError("the program's inputs are not numbered one after another")
    return len(numbers)


def _number(text: Any) -> float:
    return float(_checked(text, str))


def _checked(x: Any, kind: Any) -> Any:
    if not isinstance(x, kind):
        raise ExportError(f"the program holds a {type(x).__name__} where it cannot stand")
    return x


def read_value(text: str, symbols: Symbols, sizes: dict[str, Any]) -> Any:
    """A number, size or tuple of them from its text.

    Raises:
        ExportError: it is something else.
    """
    try:
        tree = ast.parse(text[:_LIMIT].strip(), mode="eval").body
        with symbols:
            return Reader(sizes).value(tree)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise ExportError(f"{text[:80]!r} cannot be read: {error}") from None


def read_graph(text: str, symbols: Symbols, sizes: dict[str, Any], draws: str) -> Traced:
    """A graph from its text.

    Args:
        text: as `graph_text` writes it.
        symbols: of its sizes.
        sizes: their symbols by name.
        draws: the places of the random stream that it takes, as text.

    Raises:
        ExportError: the text is no graph, or one of operations that are not here.
    """
    if len(text) > _LIMIT:
        raise ExportError(f"the program is too long: {len(text)} characters")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ExportError(f"the program cannot be read: {error}") from None
    reader = Reader(sizes)
    with symbols:
        try:
            nodes, outputs = reader.graph(tree.body)
        except (
            TypeError,
            ValueError,
            KeyError,
            ArithmeticError,
            RecursionError,
            AttributeError,
        ) as error:
            raise ExportError(f"the program cannot be read: {error}") from None
    total = _checked(read_value(draws, symbols, sizes), int)
    return Traced(nodes, outputs, _inputs(nodes), symbols, total)


__all__ = ["graph_text", "op_of", "read_graph", "read_value", "value_text"]
