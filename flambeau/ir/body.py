"""Graphs inside a graph: what an operation does with each part of its sources, as an attribute."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from itertools import chain
from typing import Any

from flambeau.ir.graph import COPY, INPUT, Graph, Node, below
from flambeau.ir.symbol import Sized, filled


class Body(Sized):
    """A graph over inputs that a node holds as an attribute; equal graphs are equal.

    Args:
        nodes: sources before users; an input has its number as attribute, numbers stand among the
            sources as they are.
        outputs: the results.
        inputs: how many inputs there are.
    """

    __slots__ = ("_hash", "_key", "inputs", "nodes", "outputs")

    def __init__(self, nodes: Sequence[Node], outputs: Sequence[Node], inputs: int) -> None:
        self.nodes = tuple(nodes)
        self.outputs = tuple(outputs)
        self.inputs = inputs
        self._key: tuple[Any, ...] | None = None

    @property
    def specs(self) -> tuple[tuple[tuple[int, ...], Any], ...]:
        """The results' shapes and dtypes."""
        return tuple((n.shape, n.dtype) for n in self.outputs)

    @property
    def given(self) -> list[Node]:
        """The inputs, in order."""
        found = [n for n in self.nodes if n.op is INPUT]
        return sorted(found, key=lambda n: n.attrs[0])

    def key(self) -> tuple[Any, ...]:
        """All that there is to know of the graph, as a value."""
        if self._key is None:
            place = {n: k for k, n in enumerate(self.nodes)}
            parts = []
            for n in self.nodes:
                src = tuple((place[s],) if type(s) is Node else (type(s), s) for s in n.src)
                parts.append((n.op, src, n.attrs, n.shape, n.dtype))
            self._key = (tuple(parts), tuple(place[n] for n in self.outputs), self.inputs)
            self._hash = hash(self._key)
        return self._key

    def __hash__(self) -> int:
        self.key()
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Body) and self.key() == other.key())

    def __repr__(self) -> str:
        return f"<Body of {len(self.nodes)} nodes, {self.inputs} inputs>"

    def over(self, sources: Sequence[Node]) -> list[Node]:
        """The results' nodes over other nodes in place of the inputs."""
        made: dict[Node, Node] = {}
        for n in self.nodes:
            if n.op is INPUT:
                made[n] = sources[n.attrs[0]]
            else:
                src = tuple(made[s] if type(s) is Node else s for s in n.src)
                made[n] = Node(n.op, src, n.attrs, n.shape, n.dtype)
        return [made[n] for n in self.outputs]

    def filled(self, unknowns: Sequence[int]) -> Body:
        """The graph with numbers in place of symbolic sizes."""
        made: dict[Node, Node] = {}
        for n in self.nodes:
            src = tuple(made[s] if type(s) is Node else filled(s, unknowns) for s in n.src)
            attrs, shape = filled(n.attrs, unknowns), filled(n.shape, unknowns)
            made[n] = Node(n.op, src, attrs, shape, n.dtype)
        return Body(tuple(made.values()), [made[n] for n in self.outputs], self.inputs)

    def graph(self, sources: Sequence[Node]) -> Graph:
        """The graph alone, over nodes that are inputs or views of them.

        Args:
            sources: in place of the inputs; the program's inputs are what they are made of.
        """
        outputs: list[tuple[Node, int | None]] = []
        taken: set[Node] = set()
        for n in self.over(sources):
            if n in taken:  # each result has memory of its own
                n = Node(COPY, (n,), (), n.shape, n.dtype)
            taken.add(n)
            outputs.append((n, None))
        inputs = [s if s.op is INPUT else s.src[0] for s in sources]
        nodes = dict.fromkeys((*inputs, *sources, *below([n for n, _ in outputs], set(sources))))
        for k, n in enumerate(nodes):
            n.origin = k
        return Graph(list(nodes), inputs, outputs, 0)


def body_of(roots: Sequence[Node], inputs: Sequence[Node], start: int) -> tuple[Body, list[Node]]:
    """The graph between some nodes.

    What does not depend on the inputs is not part of it, but given to it: it is the same every
    time. Values that come from numbers alone belong to it, as they cost nothing.

    Args:
        roots: the results.
        inputs: what stands for the parts.
        start: nodes with a smaller `order` are not part of it.

    Returns:
        The graph, and the nodes that are given to it behind `inputs`.
    """
    ends = set(inputs)
    found = below(roots, ends)
    inside = _inside(found, ends, start)
    return _cut(roots, found, inputs, lambda n: n in inside)


def bodies_of(
    branches: Sequence[Sequence[Node]], recorded: Callable[[Node], bool]
) -> tuple[list[Body], list[Node]]:
    """The graphs of several functions over the same inputs.

    Args:
        branches: the results of each.
        recorded: which nodes belong to the graphs; what these read besides is given to them.

    Returns:
        The graphs, and the nodes that are given to all of them.
    """

    def inner(n: Node) -> bool:
        return n.buffer is None and recorded(n)

    found = [[n for n in below(roots, set()) if inner(n)] for roots in branches]
    read = (s for nodes in found for n in nodes for s in n.src if type(s) is Node)
    ends = [n for n in dict.fromkeys((*read, *chain(*branches))) if not inner(n)]
    cuts = zip(branches, found, strict=True)
    return [_cut(roots, nodes, ends, inner)[0] for roots, nodes in cuts], ends


def _cut(
    roots: Sequence[Node],
    nodes: Sequence[Node],
    inputs: Sequence[Node],
    inside: Callable[[Node], bool],
) -> tuple[Body, list[Node]]:
    """The graph of those of some nodes that are `inside`, and what it is given behind `inputs`."""
    made = {n: _input(k, n) for k, n in enumerate(inputs)}
    given: list[Node] = []

    def value(n: Node) -> Node:
        if n not in made:
            made[n] = _input(len(inputs) + len(given), n)
            given.append(n)
        return made[n]

    for n in nodes:
        if n not in made and inside(n):
            src = tuple(value(s) if type(s) is Node else s for s in n.src)
            made[n] = Node(n.op, src, n.attrs, n.shape, n.dtype)
    outputs = [value(n) for n in roots]
    used = {n for n in made.values() if n.op is INPUT}.union(below(outputs, set()))
    return Body(sorted(used, key=_place), outputs, len(inputs) + len(given)), given


def _input(k: int, n: Node) -> Node:
    return Node(INPUT, (), (k,), n.shape, n.dtype)


def _place(n: Node) -> tuple[bool, int]:
    return (n.op is not INPUT, n.attrs[0] if n.op is INPUT else n.order)


def _inside(nodes: Sequence[Node], ends: Collection[Node], start: int) -> set[Node]:
    """Of nodes, sources first, those that depend on `ends`, and those that come from numbers."""
    inside = set(ends)
    numeric: set[Node] = set()
    for n in nodes:
        sources = [s for s in n.src if type(s) is Node]
        if any(s in inside for s in sources):
            inside.add(n)
        elif n.buffer is None and n.order >= start and n.op.kind in ("elementwise", "view"):
            if all(s in numeric for s in sources):
                numeric.add(n)
    return inside | numeric


__all__ = ["Body", "bodies_of", "body_of"]
