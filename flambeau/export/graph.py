"""Traced graphs: nodes with symbolic sizes, made into nodes of plain sizes when they run."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from flambeau.device import cpu
from flambeau.dtype import dtype as DType
from flambeau.export.dims import ExportError
from flambeau.ir.body import Body
from flambeau.ir.graph import INPUT, PICK, Drawn, Graph, Node
from flambeau.ir.symbol import Symbols, filled
from flambeau.ir.verify import verify
from flambeau.ops.generator import default_generator
from flambeau.ops.table import HOLE, expand_composite, specs_of
from flambeau.record import Cell
from flambeau.tensor import over

_MOST_BINDINGS = 64
#: What rules and bodies of rows may raise for a node that no call has recorded.
_INVALID = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    StopIteration,
    TypeError,
    ValueError,
)


class Traced:
    """A graph over inputs, of which sizes may be expressions.

    Args:
        nodes: sources before users; an input has its number as attribute.
        outputs: the results.
        inputs: how many inputs there are.
        symbols: what the sizes are made of.
        draws: how many places of the random stream a run takes, a number or an expression.

    Attributes:
        trusted: whether the graph was traced here; one from a file is verified for all sizes that
            it runs with.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        outputs: Sequence[Node],
        inputs: int,
        symbols: Symbols,
        draws: Any = 0,
    ) -> None:
        self.nodes = tuple(nodes)
        self.outputs = tuple(outputs)
        self.inputs = inputs
        self.symbols = symbols
        self.draws = draws
        self.trusted = True
        place = {n: k for k, n in enumerate(self.nodes)}
        self._results = [place[n] for n in self.outputs]
        self._bound: OrderedDict[tuple[int, ...], list[tuple[Any, ...]]] = OrderedDict()

    def over(self, sources: Sequence[Node], binding: Sequence[int]) -> list[Node]:
        """The results' nodes over other nodes, for values of the symbols."""
        key = tuple(binding)
        plain = self._bound.get(key)
        if plain is None:
            plain = self._at(self.symbols.unknowns_at(key))
            if not self.trusted:
                self._verify(plain)
            self._bound[key] = plain
            if len(self._bound) > _MOST_BINDINGS:
                self._bound.popitem(last=False)
        else:
            self._bound.move_to_end(key)
        seed = first = Drawn(0, True)
        if self.draws:
            count = filled(self.draws, self.symbols.unknowns_at(key))
            seed, first = default_generator.take(count)

        def again(number: Any) -> Any:
            if type(number) is not Drawn:
                return number
            return Drawn(first + number.number, True) if number.place else seed

        made: list[Node] = []
        for op, src, attrs, shape, dtype in plain:
            if op is INPUT:
                made.append(sources[attrs[0]])
            else:
                given = tuple([made[s] if kind else again(s) for kind, s in src])
                made.append(Node(op, given, attrs, shape, dtype))
        return [made[k] for k in self._results]

    def _at(self, unknowns: Sequence[int]) -> list[tuple[Any, ...]]:
        """Every node's parts with plain sizes; sources as (is a node, its place or the number)."""
        place: dict[Node, int] = {}
        found = []
        for node in self.nodes:
            src = tuple(
                (True, place[s]) if type(s) is Node else (False, filled(s, unknowns))
                for s in node.src
            )
            attrs, shape = filled(node.attrs, unknowns), filled(node.shape, unknowns)
            found.append((node.op, src, attrs, shape, node.dtype))
            place[node] = len(place)
        return found

    def verify(self, binding: Sequence[int]) -> None:
        """Check the graph for values of the symbols.

        Raises:
            ExportError: it breaks a rule of the IR.
        """
        self._verify(self._at(self.symbols.unknowns_at(binding)))

    def _verify(self, plain: list[tuple[Any, ...]]) -> None:
        nodes: list[Node] = []
        for op, src, attrs, shape, dtype in plain:
            given = tuple(nodes[s] if kind else s for kind, s in src)
            nodes.append(Node(op, given, attrs, shape, dtype))
        try:
            _verify_graph(nodes, [nodes[k] for k in self._results])
        except _INVALID as error:
            raise ExportError(f"the program is not valid: {error}") from None


def _verify_graph(nodes: Sequence[Node], results: Sequence[Node]) -> None:
    """Check a graph of plain sizes by the rules of the IR and of its rows."""
    outputs: list[tuple[Node, int | None]] = [(n, None) for n in dict.fromkeys(results)]
    verify(Graph(list(nodes), [n for n in nodes if n.op is INPUT], outputs, 0), "loading")
    for node in nodes:
        _check_specs(node)
        if node.op.results is not None:
            _check_rule(node)
        elif node.op.kind == "composite":
            _check_composite(node)
        elif node.op is PICK:
            _check_pick(node)


def _check_specs(node: Node) -> None:
    """What several results are said to be are shapes and dtypes, whether or not they are used."""
    for shape, dtype in specs_of(node) or ():
        whole = all(type(n) is int and n >= 0 for n in shape)
        if not whole or not isinstance(dtype, DType):
            raise ValueError(f"{node.op.name} gives {dtype} of shape {shape}")


def _check_composite(node: Node) -> None:
    """The results of a composite are those of its body."""
    specs = specs_of(node)
    wanted = ((node.shape, node.dtype),) if specs is None else specs
    found = tuple((n.shape, n.dtype) for n in expand_composite(node))
    if found != tuple(wanted):
        raise ValueError(f"{node.op.name} gives {found}, not {wanted}")


def _check_rule(node: Node) -> None:
    """The results of a row with a rule for them are what it says, and its graphs are valid."""
    for a in node.attrs:
        if isinstance(a, Body):
            _verify_graph(a.nodes, a.outputs)
    assert node.op.results is not None
    specs, sources = specs_of(node), iter(node.src)
    given = [
        over(Cell(s := next(sources), cpu), s.shape, s.dtype) if a == HOLE else a
        for a in (node.attrs if specs is None else node.attrs[:-1])
    ]
    wanted = (node.shape, node.dtype) if specs is None else specs
    if tuple(node.op.results(*given)) != wanted:
        raise ValueError(f"{node.op.name} gives other results than {wanted}")


def _check_pick(node: Node) -> None:
    specs = specs_of(node.src[0])
    if specs is None or specs[node.attrs[0]] != (node.shape, node.dtype):
        raise ValueError(f"a result of {node.src[0].op.name} is no {node.dtype}{list(node.shape)}")
