"""A recorded graph as one operation: what `compile` replays a call with.

A `Recorded` is an operation whose meaning is a graph. A node of it has the graph's inputs and then
its numbers as sources; its results are taken apart by `pick`. The inline pass puts the graph in the
node's place, so that a replayed call becomes the same program as a recorded one, fused with
whatever stands around it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from flambeau.ir.graph import (
    INPUT,
    Argument,
    Constant,
    Node,
    Op,
    below,
    put_in_place,
    specialised,
)
from flambeau.ir.symbol import Symbols, filled


class Recorded(Op):
    """An operation that stands for a graph.

    Args:
        name: shown where the graph is printed.
        nodes: sources before users; a node of kind `input` has its position as attribute, a
            number that is passed when the node is made is an `Argument`.
        outputs: the results' nodes; every effect is among them.
        inputs: how many inputs there are; a node's numbers follow them among its sources.
        symbols: those of symbolic sizes in it; a node has their values as attributes.

    Attributes:
        specs: the results' shapes and dtypes.
    """

    __slots__ = ("inputs", "nodes", "outputs", "specs", "symbols")

    def __init__(
        self,
        name: str,
        nodes: Iterable[Node],
        outputs: Iterable[Node],
        inputs: int,
        symbols: Symbols | None = None,
    ) -> None:
        super().__init__(name, "composite")
        self.nodes = tuple(nodes)
        self.outputs = tuple(outputs)
        self.inputs = inputs
        self.specs = tuple((n.shape, n.dtype) for n in self.outputs)
        self.symbols = symbols
        self.effects = any(n.op.effects for n in self.nodes)

    def specs_at(self, unknowns: Sequence[int]) -> tuple[Any, ...]:
        """The results' shapes and dtypes for some sizes."""
        return self.specs if self.symbols is None else filled(self.specs, unknowns)

    def expand(self, node: Node) -> tuple[Node, ...]:
        """The graph over a node's sources; -> the results, effects with the node's place."""
        made: dict[Node, Node] = {}
        numbers = node.src[self.inputs :]
        unknowns = None if self.symbols is None else self.symbols.unknowns_at(node.attrs)
        for each in self.nodes:
            if each.op is INPUT:
                made[each] = node.src[each.attrs[0]]
                continue
            src = tuple(
                made[s] if type(s) is Node else numbers[s.index] if type(s) is Argument else s
                for s in each.src
            )
            attrs, shape = each.attrs, each.shape
            if unknowns is not None:
                attrs, shape = filled(attrs, unknowns), filled(shape, unknowns)
            made[each] = Node(each.op, src, attrs, shape, each.dtype)
        if self.effects:
            put_in_place([made[n] for n in self.nodes if n.op.effects], node)
        return tuple(made[n] for n in self.outputs)


class Lifting:
    """Makes a `Recorded` of recorded nodes.

    Args:
        symbols: those of symbolic sizes in the nodes.

    Attributes:
        inputs: recorded nodes that became inputs, in order.
        numbers: the numbers that are passed, as recorded.
    """

    def __init__(self, symbols: Symbols | None = None) -> None:
        self.symbols = symbols
        self.inputs: list[Node] = []
        self.numbers: list[Any] = []

    def lift(self, name: str, outputs: list[Node], ends: set[Node]) -> Recorded:
        """The graph below some nodes, down to what has memory or is one of `ends`."""
        nodes = below(outputs, ends)
        made: dict[Node, Node] = {}
        for node in nodes:
            if node.buffer is not None or node in ends:
                made[node] = Node(INPUT, (), (len(self.inputs),), node.shape, node.dtype)
                self.inputs.append(node)
                continue
            src: list[Any] = []
            for at, s in enumerate(node.src):
                if type(s) is Node:
                    src.append(made[s])
                elif specialised(node.op, at, s):
                    src.append(float(s) if type(s) is Constant else s)
                else:
                    src.append(Argument(len(self.numbers), "f" if isinstance(s, float) else "i"))
                    self.numbers.append(s)
            made[node] = Node(node.op, tuple(src), node.attrs, node.shape, node.dtype)
        results = [made[n] for n in outputs]
        return Recorded(name, made.values(), results, len(self.inputs), self.symbols)
