"""The graph IR: operations, nodes and graphs.

A node's value is a row-major array of `shape` and `dtype`. Sources are nodes, or Python numbers,
which are run-time arguments except for a few specialised ones (Note [Numbers]). The same nodes are
recorded, rewritten by the passes and printed.

Kinds of operation, which say how sources meet and how a target may compute them:

    input        a realised buffer
    elementwise  sources broadcast; one result element depends on one element of each
    view         (x,) attrs (strides, offset): x's row-major storage read with other strides
    assign       (base, value) attrs (shape, strides, offset): base with a region overwritten
    reduce       (x,) attrs (axes,): the axes are dropped from the shape
    scan         (x,) attrs (axis, reverse): each element from those up to (from) it along the axis
    contraction  (a, b[, bias]): batched matrix product, batch dimensions broadcast, plus a vector
    index        (x, i0, .., ik) : x at integer arrays over its first k+1 dimensions
    index_put    (x, value, i0, .., ik) attrs (mode,): scatter into a copy of x
    host         a library call on NumPy arrays; several results are taken apart by `pick`
    composite    named, has a body in other operations; inlined unless the target claims it
    effect       started where it stands and waited for before its first reader; never dropped,
                 merged or reordered against another effect (Note [Effects] in `record.py`)
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from flambeau.dtype import dtype as DType
from flambeau.ir.symbol import Sized, at_hand, filled

KINDS = (
    "input",
    "elementwise",
    "view",
    "assign",
    "reduce",
    "scan",
    "contraction",
    "index",
    "index_put",
    "host",
    "composite",
    "effect",
)

# Note [Numbers]
# A number among the sources is passed to the program when it runs, so that a learning rate or a
# step count never compiles anything anew. These values are worth their own code, and keep it.
SPECIALISED = frozenset((0.0, 1.0, -1.0, 2.0, 0.5))


class Constant(float):
    """A number that a row's own formula holds, never one from a user: always compiled in."""

    __slots__ = ()


class Drawn(int, Sized):
    """The seed of a stream of random numbers, or a place in it that a draw has taken: never
    compiled in, and drawn anew where a recording is replayed.

    Args:
        number: its value, symbolic if it is.
        place: whether it is a place.
    """

    number: int
    place: bool

    def __new__(cls, number: int, place: bool) -> Drawn:
        made = int.__new__(cls, at_hand(number))
        made.number, made.place = number, place
        return made

    def filled(self, unknowns: Sequence[int]) -> Drawn:
        """The number for other sizes."""
        return Drawn(filled(self.number, unknowns), self.place)


def draws(nodes: Iterable[Node]) -> bool:
    """Whether random numbers are drawn by some nodes."""
    return any(type(s) is Drawn for n in nodes for s in n.src)


_sequence = itertools.count().__next__


class Op:
    """What is true of an operation on any machine: one row of the table.

    Attributes:
        name: torch's name.
        kind: one of KINDS.
        body: shape rule of a primitive, decomposition of a composite.
        doc: first line of the docstring.
        result: for elementwise rows, how the result dtype follows from the promoted one:
            "same", "float" (integers become the default float), "bool"; "number" and "floating"
            are as "same" and refuse bools, and all but floats.
        vjp: (g, out, *args, **kwargs) -> one cotangent (or None) per tensor argument.
        saves: names of the parameters (or "out") whose values `vjp` reads.
        jvp: a word ("linear", "multilinear", "elementwise", "zero", "inherit") or a rule.
        reference: NumPy function of the same meaning, the interpreter's cell.
        samples: callable making sample arguments for the tests.
        differentiable: False for rows whose results never carry gradients.
        specialise: positions of number sources whose integral values are compiled in (exponents).
        fixed: for elementwise rows, positions that take no part in type promotion.
        complex: for elementwise rows, whether they take complex numbers.
        tensors: for elementwise rows, positions at which users may give no number.
        results: for kept composites whose body is long, arguments -> shape and dtype of each
            result; otherwise they are found by recording the body.
        expensive: whether it costs more than a pass over memory, so that it is not done twice.
        raises: for elementwise rows, whether integers may make it raise.
        splits: for reductions, whether a part of the result may be reduced further.
        uniform: whether all its elements are one value, so that a view of it is another of it.
        calls: whether programs run the graphs among its attributes, rather than inline them.
        flops: node -> floating-point operations, for rows that are more than one an element.
        batch: how a batch of calls becomes one call (`passes.batch`): the positions of attributes
            that are dimensions, which shift by one where sources get a dimension in front;
            "rows": the first source is any number of rows, the others are the same for all;
            "draw": each element is a random number of its own place; "steps": its graph is applied
            step after step; or a rule (node, sources,
            which of them have the dimension, size) -> node or None. None: it follows from the kind;
            composites are taken apart, library calls made one example after another.
        effects: whether it is one, or stands for some: Note [Effects] in `record.py`.
        start: of effects: (group, sources, result, *attrs) -> the work that was started, which is
            waited for before the first reader; its nodes' attributes are (group, *attrs).
        autocast: what autocast does to a call: "lower" converts float arguments to the dtype of
            the region, "float32" to float32, "promote" to the widest among them; "exempt"
            leaves them, and keeps autocast from the body too. None: the body's rows decide.
        departs: of composites, whether the derivative is another than the body's (straight through
            a rounding, a table's row without gradient), or a rule node -> whether.
        linear: groups of positions of sources in which it is linear together while the others
            stay, ((0,),) for a quotient; or a rule node -> groups. None: it follows from `jvp`,
            where that is "linear" (all sources but the `fixed`) or "multilinear" (each alone).
        over: of effects, whether the result may lie in the source's memory.
        whole: whether a call is recorded as it is: of primitives and kept composites. Other
            composites are taken apart.
        shown: arguments -> the public function that a `__torch_dispatch__` is told of, which means
            the same of the same arguments; None: the row's own.
        paired: of effects, whether another rank's effect answers it rather than every rank's of the
            group the same.
        typed: of effects, the type along the axis of their group that a source must have, and the
            result's ("Partial", "Replicated"); `distributed.types`.
    """

    __slots__ = (
        "name",
        "kind",
        "body",
        "doc",
        "result",
        "vjp",
        "saves",
        "jvp",
        "reference",
        "samples",
        "differentiable",
        "parameters",
        "module",
        "specialise",
        "signature",
        "call",
        "gradcheck",
        "fixed",
        "tensors",
        "complex",
        "autocast",
        "expensive",
        "raises",
        "splits",
        "uniform",
        "flops",
        "results",
        "batch",
        "calls",
        "effects",
        "start",
        "over",
        "linear",
        "typed",
        "paired",
        "departs",
        "whole",
        "shown",
    )

    def __init__(self, name: str, kind: str, body: Callable[..., Any] | None = None) -> None:
        assert kind in KINDS, kind
        self.name = name
        self.kind = kind
        self.effects = kind == "effect"
        self.body = body
        self.doc = ((body.__doc__ or "") if body else "").strip().split("\n\n")[0]
        self.result = "same"
        self.vjp: Callable[..., Any] | None = None
        self.saves: frozenset[str] = frozenset()
        self.jvp: Any = None
        self.reference: Callable[..., Any] | None = None
        self.samples: Callable[..., Any] | None = None
        self.differentiable = True
        self.parameters: tuple[str, ...] = ()
        self.module = body.__module__ if body else ""
        self.specialise: frozenset[int] = frozenset()
        self.signature: Any = None
        self.call: Callable[..., Any] | None = None
        self.gradcheck = True
        self.fixed: frozenset[int] = frozenset()
        self.tensors: frozenset[int] = frozenset()
        self.complex = False
        self.autocast: str | None = None
        self.expensive = self.raises = self.splits = self.uniform = self.calls = False
        self.flops: Callable[[Node], int] | None = None
        self.results: Callable[..., tuple[Any, ...]] | None = None
        self.batch: Any = None
        self.start: Callable[..., Any] | None = None
        self.over = False
        self.linear: Any = None
        self.typed: tuple[str, str] | None = None
        self.paired = False
        self.departs: bool | Callable[[Node], bool] = False
        self.whole = kind != "composite"
        self.shown: Callable[..., Any] | None = None

    def __repr__(self) -> str:
        return f"<row {self.name}>"


class Node:
    """One value: `op` applied to `src` (nodes or numbers) with static `attrs`.

    A realised node has a `buffer` and no sources. `order` is the place in the program as
    recorded; sources always come earlier. `origin` is set in graphs only: Note [Origins]; `types`
    where values have types along the axes of a mesh (`distributed.types`).
    """

    __slots__ = (
        "op",
        "src",
        "attrs",
        "shape",
        "dtype",
        "buffer",
        "order",
        "origin",
        "types",
        "__weakref__",
    )
    origin: int
    types: dict[str, Any] | None

    def __init__(
        self,
        op: Op,
        src: tuple[Any, ...],
        attrs: tuple[Any, ...],
        shape: tuple[int, ...],
        dtype: DType,
    ) -> None:
        self.op = op
        self.src = src
        self.attrs = attrs
        self.shape = shape
        self.dtype = dtype
        self.buffer: Any = None
        self.order = _sequence()

    def __repr__(self) -> str:
        return f"<{self.op.name} {self.dtype.name}{list(self.shape)} #{self.order}>"

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return math.prod(self.shape) * self.dtype.itemsize


class Argument:
    """A number that the program is given each time it runs: slot `index`, a float or an int."""

    __slots__ = ("index", "kind")

    def __init__(self, index: int, kind: str) -> None:
        self.index = index
        self.kind = kind  # "f" or "i"

    def __repr__(self) -> str:
        return f"{'float' if self.kind == 'f' else 'int'} %arg{self.index}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Argument) and (self.index, self.kind) == (other.index, other.kind)

    def __hash__(self) -> int:
        return hash((self.index, self.kind))


def specialised(op: Op, at: int, number: float) -> bool:
    """Whether a number source is compiled in rather than passed when the program runs."""
    if type(number) is Drawn:
        return False
    if not number:  # -0.0 is another value than 0, but equal to it as a key
        return type(number) is int or math.copysign(1.0, number) > 0
    return (
        type(number) is Constant
        or number in SPECIALISED
        or (at in op.specialise and number == number // 1)
    )


INPUT = Op("input", "input")
VIEW = Op("view_of", "view")
VIEW.differentiable = False  # the rows that record it have rules of their own
ASSIGN = Op("assign", "assign")
#: The same value in memory of its own; with another dtype it converts.
COPY = Op("copy", "elementwise")
CAST = Op("cast", "elementwise")
#: A view of all of its source that no pass looks behind: what is computed from it again stays apart
#: from what was computed from the source before (activation checkpointing).
AGAIN = Op("again", "view")
AGAIN.differentiable = False
#: Memory whose contents are written by what follows.
EMPTY = Op("empty_memory", "elementwise")
#: One of several results of a host, composite or effect node; attrs (which,).
PICK = Op("pick", "host")


# Note [Origins]
# A node of a graph knows which node of the recorded program it goes back to, as an index, so that
# a profile can say which rows and lines a kernel came from. A pass takes its nodes from
# `Graph.walk`, which notes the number that nodes made from then on have at least, and gives what it
# made to `Graph.rewritten`, which tells by the numbers what was made for which node.


def origin_of(node: Node) -> int:
    """The index of the recorded node that a graph's node stands for; -1 where it is not known."""
    return getattr(node, "origin", -1)


_hooks: list[Callable[[Node], None]] = []


def watch_nodes(hook: Callable[[Node], None]) -> None:
    """Have `hook` called with every node that is made from now on, by any thread, until
    `unwatch_nodes`.

    The class's initialiser is replaced for as long, so that nothing is paid without a hook.
    """
    _hooks.append(hook)
    type.__setattr__(Node, "__init__", _watched)


def unwatch_nodes(hook: Callable[[Node], None]) -> None:
    """Call `hook` no longer."""
    _hooks.remove(hook)
    if not _hooks:
        type.__setattr__(Node, "__init__", _initialise)


_initialise = Node.__init__


def _watched(node: Node, *args: Any, **kwargs: Any) -> None:
    _initialise(node, *args, **kwargs)
    for hook in tuple(_hooks):
        hook(node)


def put_in_place(effects: Sequence[Node], node: Node) -> None:
    """Give effects that come out of a node its place among the others, in their own order."""
    step = 1 / (len(effects) + 1)
    for k, n in enumerate(sorted(effects, key=_by_order)):
        n.order = node.order + (k + 1) * step  # type: ignore[assignment]  # before the next one
        n.origin = origin_of(node)


def placeholder(shape: tuple[int, ...], dtype: DType, index: int) -> Node:
    """An input of a graph: buffer number `index` of the call."""
    return Node(INPUT, (), (index,), shape, dtype)


class Graph:
    """Nodes in execution order, with inputs and outputs.

    Attributes:
        nodes: every node, sources before users, inputs included.
        inputs: the placeholder of each input buffer.
        outputs: (node, home): `home` is None for a new buffer, the index of the input whose buffer
            is overwritten, or -1 - k for write-only home number k.
        arguments: count of run-time numbers.
    """

    def __init__(
        self,
        nodes: list[Node],
        inputs: list[Node],
        outputs: list[tuple[Node, int | None]],
        arguments: int,
    ) -> None:
        self.nodes = nodes
        self.inputs = inputs
        self.outputs = outputs
        self.arguments = arguments

    def __repr__(self) -> str:
        return (
            f"<Graph of {len(self.nodes)} nodes, {len(self.inputs)} inputs, "
            f"{len(self.outputs)} outputs>"
        )

    def walk(self) -> Iterator[Node]:
        """The nodes in order, for a pass that makes others of them: Note [Origins]."""
        self._trail: list[tuple[int, int]] = []
        for node in self.nodes:
            self._trail.append((_sequence(), origin_of(node)))
            yield node

    def place(self) -> int:
        """The `order` of what takes the place of the node that `walk` gave last."""
        return self._trail[-1][0]

    def rewritten(self, made: dict[Node, Node], inner: Iterable[Node] = ()) -> Graph:
        """The graph in which each node is what a pass has made of it, without what is not needed.

        Args:
            made: node of this graph, taken from `walk` -> its replacement.
            inner: effects that come out of nodes that were taken apart.
        """
        outputs = [(made[n], home) for n, home in self.outputs]
        inputs = [made[n] for n in self.inputs]
        effects = [made[n] for n in self.nodes if n.op.kind == "effect"]  # run whoever needs them
        found = _needed([*inputs, *(n for n, _ in outputs), *effects, *inner], lambda n: True)
        places = {n: k for k, n in enumerate(self.nodes)}
        for node in found:
            if node not in places:  # it was made for one of this graph's nodes, and stands there
                places[node] = bisect.bisect(self._trail, (node.order, 0)) - 1
            if not hasattr(node, "origin"):
                at = places[node]
                node.origin = self._trail[at][1] if at >= 0 else -1
        # what is computed around an effect stays on its side: others wait, or are waited for
        as_recorded = effects or inner
        nodes = topological(found, (lambda n: (places[n], n.order)) if as_recorded else _by_order)
        return Graph(nodes, inputs, outputs, self.arguments)

    def users(self) -> dict[Node, list[Node]]:
        """Each node's readers, in order (a node once per reading source)."""
        found: dict[Node, list[Node]] = {n: [] for n in self.nodes}
        for node in self.nodes:
            for s in node.src:
                if type(s) is Node:
                    found[s].append(node)
        return found


def reachable(roots: Iterable[Node]) -> list[Node]:
    """Every node that the roots need, sources first."""
    return topological(_needed(roots, lambda n: True), _by_order)


def below(outputs: Iterable[Node], ends: set[Node]) -> list[Node]:
    """The nodes that outputs are made of, sources before users, down to `ends` and to nodes that
    have memory, both included."""
    return sorted(_needed(outputs, lambda n: n.buffer is None and n not in ends), key=_by_order)


def _needed(roots: Iterable[Node], inner: Callable[[Node], bool]) -> set[Node]:
    """The roots and what they need, asking for the sources of the nodes that are `inner` alone."""
    seen: set[Node] = set()
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if inner(node):
            stack.extend(s for s in node.src if type(s) is Node and s not in seen)
    return seen


def dependents(roots: Iterable[Node], ends: Iterable[Node]) -> set[Node]:
    """What the roots need that depends on one of `ends`, these included."""
    found = set(ends)
    for node in reachable(roots):
        if any(type(s) is Node and s in found for s in node.src):
            found.add(node)
    return found


def topological(nodes: set[Node], key: Callable[[Node], Any]) -> list[Node]:
    """Nodes ordered so that sources come first, otherwise by a key, such as `order`.

    Rewritten nodes have a later `order` than their users, so the order alone does not do.
    """
    done: set[Node] = set()
    result: list[Node] = []
    for root in sorted(nodes, key=key):
        if root in done:
            continue
        stack = [(root, iter(root.src))]
        entered = {root}
        while stack:
            node, sources = stack[-1]
            for s in sources:
                if type(s) is Node and s not in done and s in nodes and s not in entered:
                    entered.add(s)
                    stack.append((s, iter(s.src)))
                    break
            else:
                stack.pop()
                if node not in done:
                    done.add(node)
                    result.append(node)
    return result


def _by_order(node: Node) -> int:
    return node.order
