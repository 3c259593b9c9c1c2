"""What a training step amounts to, read from its recording; nothing is computed.

The step is recorded once, on "meta" tensors if the model is larger than this machine, with the
pieces of the model (its blocks) noted as they are entered and left, forward and backward. Each
piece's nodes go through the same passes that a program does, and what comes out, matrix products
and fused passes over memory, is its cost on any device: operations and bytes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flambeau import nn, record
from flambeau.device import get_default_device
from flambeau.ir.graph import (
    COPY,
    INPUT,
    Argument,
    Graph,
    Node,
    below,
    specialised,
    unwatch_nodes,
    watch_nodes,
)
from flambeau.ir.region import Region
from flambeau.kernels import claims
from flambeau.passes.fuse import Plan, base_of, fuse, memory_sources
from flambeau.passes.pipeline import lower
from flambeau.runtime.work import operations
from flambeau.tensor import Tensor


@dataclass(frozen=True)
class Pass:
    """A matrix product, kernel, or fused pass over memory.

    Attributes:
        flops: floating-point operations.
        nbytes: read from memory and written to it.
        dtype: name of what it computes from.
        product: whether it is a row that says its operations, as a matrix product does.
        wide: whether all it writes has the shape of the piece's result.
    """

    flops: int
    nbytes: int
    dtype: str
    product: bool
    wide: bool


@dataclass(frozen=True)
class Cost:
    """What a piece does in one direction.

    Attributes:
        passes: in order.
    """

    passes: tuple[Pass, ...] = ()

    @functools.cached_property
    def flops(self) -> int:
        """Floating-point operations of products; passes over memory are bound by their bytes."""
        return sum(p.flops for p in self.passes if p.product)

    @functools.cached_property
    def nbytes(self) -> int:
        """Bytes read and written."""
        return sum(p.nbytes for p in self.passes)


@dataclass(frozen=True)
class Piece:
    """A part of the model that forward passes through, whole, on its way.

    Attributes:
        name: its module's, or "before" and "after" for what is outside of all.
        forward, backward: the work.
        parameters: numbers that are trained.
        weights: bytes of them.
        saved: bytes that forward keeps for backward.
        boundary: bytes of its result, which goes on to the next piece.
    """

    name: str
    forward: Cost
    backward: Cost
    parameters: int
    weights: int
    saved: int
    boundary: int


@dataclass(frozen=True)
class Workload:
    """A forward and backward pass over one micro-batch, piece by piece.

    Attributes:
        pieces: "before", the pieces, "after".
    """

    pieces: tuple[Piece, ...]

    @property
    def flops(self) -> int:
        """Operations of the products of both passes."""
        return sum(p.forward.flops + p.backward.flops for p in self.pieces)

    @property
    def parameters(self) -> int:
        """Numbers that are trained."""
        return sum(p.parameters for p in self.pieces)

    @property
    def saved(self) -> int:
        """Bytes kept from forward for backward."""
        return sum(p.saved for p in self.pieces)


class _Watch:
    """Which piece each node was made in: (direction, place)."""

    def __init__(self, modules: Sequence[Any]) -> None:
        self.modules = modules
        self.now = ("forward", 0)
        self.made: dict[Node, tuple[str, int]] = {}
        self.boundary = [0] * (len(modules) + 2)
        self.hooks: list[Any] = []

    def __enter__(self) -> _Watch:
        for number, module in enumerate(self.modules, 1):
            self.hooks += [
                module.register_forward_pre_hook(functools.partial(self._entered, number)),
                module.register_forward_hook(functools.partial(self._left, number)),
            ]
        watch_nodes(self._note)
        return self

    def __exit__(self, *exc: object) -> None:
        unwatch_nodes(self._note)
        for hook in self.hooks:
            hook.remove()

    def _note(self, node: Node) -> None:
        self.made[node] = self.now

    def _entered(self, number: int, _module: Any, arguments: tuple[Any, ...]) -> None:
        self._backward(number - 1, arguments)
        self.now = ("forward", number)

    def _left(self, number: int, _module: Any, _arguments: Any, result: Any) -> None:
        results = result if isinstance(result, tuple) else (result,)
        self._backward(number, results)
        self.boundary[number] = results[0].numel() * results[0].element_size()
        self.now = ("forward", number + 1 if number == len(self.modules) else number)

    def _backward(self, number: int, values: tuple[Any, ...]) -> None:
        """What is recorded once the gradient of a value is there belongs to piece `number`."""

        def reached(_gradient: Any) -> None:
            self.now = ("backward", number)

        for value in values:
            if isinstance(value, Tensor) and value.requires_grad:
                value.register_hook(reached)


def longest_list(model: nn.Module) -> Sequence[nn.Module]:
    """The modules of the longest list or sequence in a model: usually its blocks."""
    lists = [m for m in model.modules() if isinstance(m, nn.ModuleList | nn.Sequential)]
    return list(max(lists, key=len)) if lists else []


def record_workload(
    model: nn.Module, loss: Callable[[], Any], pieces: Sequence[nn.Module] | None = None
) -> Workload:
    """Record a forward and a backward pass, and add up what they do. Nothing is executed.

    Args:
        model: its parameters are what is trained; may be on "meta". Their `grad` is None
            afterwards.
        loss: calls the model on one micro-batch; -> a scalar. The parameters' device is the default
            while it runs.
        pieces: modules that run one after another; by default the longest list in the model.

    Example:
        >>> from flambeau import device, nn, zeros
        >>> with device("meta"):
        ...     model = nn.Sequential(nn.Linear(512, 2048), nn.GELU(), nn.Linear(2048, 512))
        >>> work = record_workload(model, lambda: model(zeros(8, 512, device="meta")).sum())
        >>> work.parameters, work.flops == 6 * 8 * 2 * 512 * 2048 - 2 * 8 * 512 * 2048
        (2099712, True)
    """
    modules = longest_list(model) if pieces is None else pieces
    trained = [p for p in model.parameters() if p.requires_grad]
    for p in trained:
        p.grad = None
    record.settle()
    held = {p._node(): p for p in trained}
    where = trained[0].device if trained else get_default_device()
    with record.tracing(), where, _Watch(modules) as watch:
        found = loss()
        watch.now = ("backward", len(modules) + 1)
        found.backward()
        wanted = [found._node(), *(_behind(p.grad._node()) for p in trained if p.grad is not None)]
    nodes = [n for n in below(wanted, set(held)) if n in watch.made and n not in held]
    for p in trained:
        p.grad = None
    return _Adding(nodes, watch, held, set(wanted)).workload()


def _behind(node: Node) -> Node:
    """The value that a gradient is a copy of, which a program would not make."""
    while node.op is COPY:
        node = node.src[0]
    return node


class _Adding:
    """Adding up recorded nodes by piece."""

    def __init__(
        self, nodes: list[Node], watch: _Watch, held: Mapping[Node, Any], wanted: set[Node]
    ) -> None:
        self.watch, self.held, self.wanted = watch, held, wanted
        self.parts: dict[tuple[str, int], list[Node]] = {}
        self.users: dict[Node, set[tuple[str, int]]] = {}
        for node in nodes:
            where = watch.made[node]
            self.parts.setdefault(where, []).append(node)
            for s in node.src:
                if type(s) is Node:
                    self.users.setdefault(s, set()).add(where)
        self.known: dict[Any, Cost] = {}

    def workload(self) -> Workload:
        """All pieces."""
        count = len(self.watch.modules) + 2
        names = ["before", *(type(m).__name__ for m in self.watch.modules), "after"]
        owners = self._owners()
        saved = self._saved(count)
        pieces = []
        for k in range(count):
            mine = [self.held[n] for n, owner in owners.items() if owner == k]
            boundary = self.watch.boundary[k]
            pieces.append(
                Piece(
                    names[k],
                    self._cost(("forward", k), boundary),
                    self._cost(("backward", k), boundary),
                    sum(p.numel() for p in mine),
                    sum(p.numel() * p.element_size() for p in mine),
                    saved[k],
                    boundary,
                )
            )
        if count > 2:  # what comes in front of the pieces hands on what they do
            first = pieces[0]
            pieces[0] = Piece(**{**vars(first), "boundary": pieces[1].boundary})
        return Workload(tuple(pieces))

    def _owners(self) -> dict[Node, int]:
        """Parameter -> the first piece that reads it."""
        found: dict[Node, int] = {}
        for node in self.held:
            readers = [k for direction, k in self.users.get(node, ()) if direction == "forward"]
            found[node] = min(readers, default=0)
        return found

    def _saved(self, count: int) -> list[int]:
        """Bytes that each piece's backward reads of what forward made, each value once."""
        found = [0] * count
        seen: set[Node] = set()
        for (direction, k), nodes in sorted(self.parts.items()):
            if direction != "backward":
                continue
            for node in nodes:
                for s in node.src:
                    if type(s) is not Node:
                        continue
                    base = base_of(s)
                    made = self.watch.made.get(base, ("forward", 0))
                    if made[0] == "forward" and base not in self.held and base not in seen:
                        seen.add(base)
                        found[k] += base.nbytes
        return found

    def _cost(self, where: tuple[str, int], boundary: int) -> Cost:
        nodes = self.parts.get(where, [])
        outputs = [
            n for n in nodes if n in self.wanted or any(u != where for u in self.users.get(n, ()))
        ]
        graph, key = alone(nodes, outputs)
        found = self.known.get((key, boundary))
        if found is None:
            found = self.known[key, boundary] = _cost(graph, boundary)
        return found


def alone(nodes: list[Node], outputs: list[Node]) -> tuple[Graph, Any]:
    """A graph of copies of some nodes, what they read besides as its inputs, and its structure."""
    made: dict[Node, Node] = {}
    inputs: list[Node] = []
    order: list[Node] = []
    index: dict[Node, int] = {}
    key: list[Any] = []
    count = 0
    inside = set(nodes)
    for node in nodes:
        src: list[Any] = []
        told: list[Any] = []
        for at, s in enumerate(node.src):
            if type(s) is Node:
                if s not in made:
                    assert s not in inside, "sources come before users"
                    made[s] = Node(INPUT, (), (len(inputs),), s.shape, s.dtype)
                    index[s] = -1 - len(inputs)
                    inputs.append(made[s])
                    order.append(made[s])
                    key.append((s.shape, s.dtype))
                src.append(made[s])
                told.append(index[s])
            elif specialised(node.op, at, s):
                src.append(s)
                told.append((type(s).__name__, s))
            else:
                src.append(Argument(count, "f" if isinstance(s, float) else "i"))
                count += 1
                told.append("number")
        made[node] = Node(node.op, tuple(src), node.attrs, node.shape, node.dtype)
        index[node] = len(index)
        order.append(made[node])
        key.append((node.op, node.attrs, node.shape, node.dtype, tuple(told)))
    ends = tuple(index[n] for n in outputs)
    graph = Graph(order, inputs, [(made[n], None) for n in outputs], count)
    return graph, (tuple(key), ends)


def _cost(graph: Graph, boundary: int) -> Cost:
    """The steps that a graph becomes."""
    plan = fuse(lower(graph, claims.claims))
    return Cost(tuple(pass_of(step, plan, boundary) for step in plan.steps if runs(step)))


def runs(step: Any) -> bool:
    """Whether a step of a plan does anything: a region may be computed where it is read."""
    return not isinstance(step, Region) or bool(step.stores)


def pass_of(step: Any, plan: Plan, boundary: int = -1) -> Pass:
    """What a step of a plan amounts to.

    Args:
        boundary: bytes of the piece's result.
    """
    members = step.members if isinstance(step, Region) else [step.node]
    inside = set(members)
    read = {base_of(s) for n in members for s in memory_sources(n, plan.free)} - inside
    written = list(step.stores) if isinstance(step, Region) else members
    if not isinstance(step, Region) and step.kind == "index_put":  # written where it lies
        read, written = {base_of(members[0].src[1])}, [members[0].src[1]]
    moved = sum(n.nbytes for n in read) + sum(n.nbytes for n in written)
    product = any(n.op.flops is not None for n in members)
    source = next((s for s in members[0].src if type(s) is Node), members[0])
    wide = all(n.nbytes == boundary for n in written)
    return Pass(sum(operations(n) for n in members), moved, source.dtype.name, product, wide)


def seconds_of(
    cost: Cost,
    rate: Callable[[str], float],
    bandwidth: float,
    start: float,
    tensor: int = 1,
    sequence: bool = False,
) -> float:
    """How long a piece takes: the roofline of each pass, one after another.

    Args:
        cost: of the piece.
        rate: dtype name -> operations a second of products.
        bandwidth: bytes a second.
        start: seconds that any pass takes besides.
        tensor: ranks that share each product.
        sequence: whether they share the passes over whole results too.

    Reference: Williams, Waterman, Patterson, Roofline, Communications of the ACM 52 (4), 2009.
    """
    total = 0.0
    for p in cost.passes:
        share = 1 if p.wide and not p.product and not sequence else tensor
        operate = p.flops / rate(p.dtype) if p.product else 0.0
        total += max(operate, p.nbytes / bandwidth) / share + start
    return total


__all__ = [
    "Cost",
    "Pass",
    "Piece",
    "Workload",
    "alone",
    "longest_list",
    "pass_of",
    "record_workload",
    "runs",
    "seconds_of",
]
