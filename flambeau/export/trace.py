"""Tracing: a function is run once on tensors without values, whose sizes are symbols.

Note [Export]
Parameters, buffers and arguments are replaced by placeholders, and what the function records is the
exported graph. Sizes that may change are symbols (Note [Symbolic sizes] in `ir/symbol.py`): what is
asked of them becomes a constraint with the line that asked. Python may use a size in ways that
leave no trace (`range(n)`), so the function is traced again with other sizes, and the two graphs
must be the same: no size is specialised silently.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from flambeau import record
from flambeau.autograd import grad
from flambeau.device import cpu
from flambeau.dtype import dtype as DType
from flambeau.export.dims import ExportError
from flambeau.export.graph import Traced
from flambeau.ir.graph import INPUT, Drawn, Node, below
from flambeau.ir.graph import draws as drawn
from flambeau.ir.symbol import Symbols
from flambeau.ops.generator import default_generator
from flambeau.recovery import take_back
from flambeau.tape import modes
from flambeau.tensor import Tensor, over


class _Watch:
    """Watches a function being traced: values are not there to be read."""

    exporting = True

    def __init__(self) -> None:
        self.drawn: list[Any] = []

    def read(self, t: Tensor, how: Callable[[Tensor], Any]) -> Any:
        if t._cell.node.buffer is not None:
            return how(t)
        raise ExportError(
            "the program reads the value of a tensor that depends on its inputs (`if`, `item()`, "
            "`tolist()` or the like), at\n"
            + record.calling_trace()
            + "\nA graph has no such value while it is traced; use torch.where, or torch.cond"
        )

    def writes(self, cell: Any) -> None:
        """What is written to is looked at afterwards."""

    def communicates(self, name: str) -> None:
        self.refuse(f"it communicates with other ranks ({name}), which its file would not know")

    def memory_used(self) -> None:
        """Memory of a tensor that is there may be looked at."""

    def refuse(self, why: str) -> None:
        raise ExportError(f"the program cannot be exported: {why}, at\n{record.calling_trace()}")

    def drew(self, default: bool, first: int) -> None:
        if not default:
            self.refuse("it draws from a random number generator of its own")
        self.drawn.append(first)


@dataclass
class State:
    """A parameter or buffer of the module, while it is a placeholder.

    Attributes:
        name: qualified.
        tensor: itself.
        node: what stands for its value.
    """

    name: str
    tensor: Tensor
    node: Node
    before: tuple[Any, ...] = ()


class _Swapped:
    """While inside, states have placeholders for their memory."""

    def __init__(self, states: Sequence[State]) -> None:
        self.states = states

    def __enter__(self) -> None:
        for s in self.states:
            t = s.tensor
            s.before = (t._cell, t._map, t._cell.version)
            t._cell = record.Cell(s.node, t._cell.device)
            t._map = None

    def __exit__(self, *exc: object) -> None:
        for s in self.states:
            s.tensor._cell, s.tensor._map, s.tensor._cell.version = s.before


@dataclass
class Found:
    """What tracing a function has found.

    Attributes:
        graph: over states, then inputs, then cotangents, then constants.
        outputs: the leaves: tensors as their places among the graph's results, others as `Value`.
        written: names of states that are written, whose new values are the graph's results after
            the leaves'.
        constants: tensors that the function brought along, in the order of their inputs.
        cotangents: with gradients: for each cotangent, the place of its leaf.
        gradients: with gradients: for each result after those, the input that it is the gradient
            of.
    """

    graph: Traced
    outputs: list[Any]
    written: list[str]
    constants: list[Tensor]
    cotangents: list[int]
    gradients: list[int]


class Value:
    """An output that is no tensor."""

    def __init__(self, value: Any) -> None:
        self.value = value


def placeholder(number: int, shape: tuple[int, ...], dtype: DType) -> Node:
    """An input's node."""
    return Node(INPUT, (), (number,), shape, dtype)


def _stand_in(shape: tuple[int, ...], dtype: DType) -> Node:
    """A value that will never be there: what depends on it is not executed."""
    node = record.placeholder(shape, dtype, _NO_VALUE)
    record.withheld.add(node)
    return node


def _forget(nodes: list[Node], mark: int) -> bool:
    """Nothing of what was traced is to be executed; what it wrote to tensors from before is taken
    back. Returns whether there was such a write.

    Args:
        nodes: the stand-ins.
        mark: how many cells were pending before.
    """
    start = min((n.order for n in nodes), default=0)
    with record._lock:
        record.withheld.difference_update(nodes)
        cells = [c for c in record._pending[mark:] if c.node.buffer is None]
        wrong = take_back(cells, start, ExportError(_WRITTEN))
        gone = {c.node for c in cells}
        record.forget(mark, gone.__contains__)
    return wrong


_WRITTEN = (
    "the program writes to a tensor that is neither a parameter nor a buffer of the module; "
    "register it as a buffer"
)
_NO_VALUE = "a tensor of a traced program (export) has no value, and is used after the tracing"


def trace(
    call: Callable[[list[Tensor]], list[Any]],
    states: Sequence[tuple[str, Tensor]],
    inputs: Sequence[tuple[tuple[int, ...], DType, Any]],
    symbols: Symbols,
    gradients: bool = False,
) -> Found:
    """Run a function on placeholders.

    Args:
        call: the inputs' tensors -> leaves of the outputs.
        states: parameters and buffers by name.
        inputs: shape (with symbols), dtype and device of each input.
        symbols: of the shapes.
        gradients: whether the gradients of all states and inputs are traced as well.

    Raises:
        ExportError: it reads values, or does what a graph cannot do again.
    """
    for _, t in states:
        if t._cell.node.buffer is None and t._cell.device.type != "meta":
            record.realise(t._cell)
    record.flush()
    mark = len(record._pending)
    held = [State(name, t, _stand_in(t._shape, t.dtype)) for name, t in states]
    given = [
        over(record.Cell(_stand_in(shape, dtype), device), shape, dtype)
        for shape, dtype, device in inputs
    ]
    nodes = [s.node for s in held] + [t._cell.node for t in given]
    random_state = default_generator.__getstate__()
    was = record.thread.watcher, modes.grad
    default_generator.manual_seed(default_generator.initial_seed())
    record.thread.watcher = _Watch()
    modes.grad = gradients
    try:
        with symbols, record.tracing(), _Swapped(held):
            if gradients:
                given = [t.requires_grad_() if t.dtype.category == 2 else t for t in given]
            leaves = call(given)
            tensors = [x for x in leaves if isinstance(x, Tensor)]
            changed = [s for s in held if s.tensor._cell.node is not s.node]
            results = [x._node() for x in (*tensors, *(s.tensor for s in changed))]
            for t, node in zip(given, nodes[len(held) :], strict=True):
                if t._cell.node is not node:
                    raise ExportError(
                        "the program writes to one of its inputs; write to a copy (clone()) of it"
                    )
            cotangents, slopes, of = _backwards(tensors, [s.tensor for s in held] + given, nodes)
            results += [g._node() for g in slopes]
            draws = default_generator._counter
            cut = _cut(nodes, results, default_generator.initial_seed())
    finally:
        record.thread.watcher, modes.grad = was
        default_generator.__setstate__(random_state)
        outside = _forget(nodes, mark)
    if outside:
        raise ExportError(_WRITTEN)
    order, made, found = cut
    if not drawn(order):
        draws = 0
    device = _device(leaves)
    graph = Traced(order, [made[n] for n in results], len(nodes) + len(found), symbols, draws)
    places = iter(range(len(tensors)))
    return Found(
        graph,
        [next(places) if isinstance(x, Tensor) else Value(x) for x in leaves],
        [s.name for s in changed],
        [over(record.Cell(n, device), n.shape, n.dtype) for n in found],
        cotangents,
        of,
    )


def _backwards(
    tensors: list[Tensor], sources: list[Tensor], nodes: list[Node]
) -> tuple[list[int], list[Tensor], list[int]]:
    """Record gradients, for new placeholders as cotangents.

    Returns:
        Which tensors have cotangents, the gradients, and of which sources.
    """
    if not modes.grad:
        return [], [], []
    which = [k for k, t in enumerate(tensors) if t.requires_grad]
    wanted = [k for k, t in enumerate(sources) if t.requires_grad]
    if not which or not wanted:
        return [], [], []
    cotangents = []
    for k in which:
        t = tensors[k]
        nodes.append(_stand_in(t._shape, t.dtype))
        cotangents.append(over(record.Cell(nodes[-1], t._cell.device), t._shape, t.dtype))
    found = grad(
        [tensors[k] for k in which], [sources[k] for k in wanted], cotangents, allow_unused=True
    )
    pairs = [(g, k) for g, k in zip(found, wanted, strict=True) if g is not None]
    return which, [g for g, _ in pairs], [k for _, k in pairs]


def _cut(
    nodes: list[Node], results: list[Node], seed: int
) -> tuple[list[Node], dict[Node, Node], list[Node]]:
    """The graph of what was recorded: its nodes, what became what, and constants."""
    made = {n: placeholder(k, n.shape, n.dtype) for k, n in enumerate(nodes)}
    found = below(results, set(nodes))
    # in front, since whether a kept table is older than what reads it says nothing of the program
    constants = [n for n in found if n.buffer is not None and n not in made]
    for k, node in enumerate(constants):
        made[node] = placeholder(len(nodes) + k, node.shape, node.dtype)
    order = list(made.values())
    for node in found:
        if node in made:
            continue
        src = tuple(made[s] if type(s) is Node else s for s in node.src)
        new = Node(node.op, src, node.attrs, node.shape, node.dtype)
        if any(type(x) is Drawn and not x.place and x != seed for x in src):
            raise ExportError("the program seeds the random number generator")
        new.origin = node.order
        made[node] = new
        order.append(new)
    return order, made, constants


def _device(leaves: list[Any]) -> Any:
    return next((x._cell.device for x in leaves if isinstance(x, Tensor)), cpu)
