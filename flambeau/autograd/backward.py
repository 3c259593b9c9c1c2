"""Running the tape backwards. Cotangents are recorded like everything else, so forward, backward
and optimizer step fuse into one program."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any

from flambeau.autograd import repeat
from flambeau.autograd.graph import GradientEdge, running_tasks
from flambeau.ops.movement import sum_to
from flambeau.ops.recording import Enclosing
from flambeau.ops.rows import NAMES
from flambeau.overriding import overridable
from flambeau.runtime import profile
from flambeau.tape import AccumulateGrad, GradFn, Saved, edge_of, modes
from flambeau.tensor import Tensor


def _as_sequence(x: Any) -> tuple[Any, ...]:
    return (x,) if isinstance(x, (Tensor, GradientEdge)) or x is None else tuple(x)


def _edge(t: Any) -> tuple[GradFn, int]:
    return (t.node, t.output_nr) if isinstance(t, GradientEdge) else edge_of(t)


def _constant(t: Any) -> bool:
    return not isinstance(t, GradientEdge) and not t.requires_grad


def _initial(outputs: tuple[Tensor, ...], grads: Any, batched: bool = False) -> list[Tensor]:
    given = (None,) * len(outputs) if grads is None else _as_sequence(grads)
    if len(given) != len(outputs):
        raise RuntimeError(f"got {len(outputs)} tensors and {len(given)} gradients")
    made = []
    for t, g in zip(outputs, given, strict=True):
        if not t.requires_grad:
            raise RuntimeError(
                "element 0 of tensors does not require grad and does not have a grad_fn"
            )
        if g is None:
            if t.numel() != 1:
                raise RuntimeError("grad can be implicitly created only for scalar outputs")
            g = NAMES["ones_like"](t)
        elif not isinstance(g, Tensor):
            raise TypeError(f"gradients can be either Tensors or None, but got {type(g).__name__}")
        elif g._shape != t._shape:
            raise RuntimeError(
                f"Mismatch in shape: grad_output[0] has a shape of "
                f"{g.shape} and output[0] has a shape of {t.shape}."
            )
        made.append(g)
    return made


class _Task:
    """One backward pass: pending cotangents by tape entry, run from the last entry to the first."""

    def __init__(self, keep: bool, create: bool) -> None:
        self.keep = keep
        self.create = create
        self.heap: list[tuple[float, int, GradFn]] = []
        self.grads: dict[GradFn, list[Any]] = {}
        self.sent = 0
        self.needed: set[GradFn] | None = None
        self.captured: dict[tuple[GradFn, int], Any] = {}
        self.stop_at: set[GradFn] = set()
        self.roots: list[GradFn] = []
        self.types = modes.types
        self.arrived: list[repeat.Arrival] | None = None  # noted, where it is not None
        self._below: set[GradFn] | None = None
        self._readers: dict[GradFn, int] | None = None  # leaf -> the first entry that reads it

    def reaches(self, entry: GradFn) -> bool:
        """Whether this pass comes by an entry (it may still bring it no gradient)."""
        if self._below is None:
            self._below = set()
            stack = list(self.roots)
            while stack:
                at = stack.pop()
                if at not in self._below:
                    self._below.add(at)
                    stack.extend(e[0] for e in at.edges if e is not None)
        return entry in self._below and (self.needed is None or entry in self.needed)

    def send(self, edge: tuple[GradFn, int], g: Any) -> None:
        entry, nr = edge
        if self.needed is not None and entry not in self.needed:
            return
        slots = self.grads.get(entry)
        if slots is None:
            slots = self.grads[entry] = [None] * len(entry.metas)
            order = -entry.order if not isinstance(entry, AccumulateGrad) else self.due(entry)
            # ties go by arrival: a step recorded in another order would be another program
            heapq.heappush(self.heap, (order, self.sent, entry))
            self.sent += 1
        old = slots[nr]
        slots[nr] = g if old is None else old + g

    def due(self, entry: AccumulateGrad) -> float:
        """When an accumulator runs: once every other entry has run, or, where somebody waits for
        the gradient, once every entry that reads the leaf has."""
        if not entry.variable._post_hooks:
            return 1
        if self._readers is None:
            self.reaches(entry)
            assert self._below is not None
            self._readers = {}
            for at in self._below:
                for edge in at.edges:
                    if edge is not None and isinstance(edge[0], AccumulateGrad):
                        first = self._readers.get(edge[0], at.order)
                        self._readers[edge[0]] = min(first, at.order)
        return 0.5 - self._readers[entry] if entry in self._readers else 1

    def run(self, edges: Sequence[tuple[GradFn, int]] = (), grads: Sequence[Any] = ()) -> None:
        """Call the rules, from these edges besides those that cotangents were sent to."""
        for edge, g in zip(edges, grads, strict=True):
            self.send(edge, g)
        with profile.span("backward", "autograd"):
            while self.heap:
                _, _, entry = heapq.heappop(self.heap)
                self._step(entry, self.grads.pop(entry))

    def _step(self, entry: GradFn, grads: list[Any]) -> None:
        if entry.metadata is not None:
            for nr in range(len(grads)):
                hooks = entry.metadata.get(("tensor hooks", nr))
                if hooks and grads[nr] is not None:
                    grads[nr] = _call_hooks(hooks, grads[nr])
        if entry.prehooks:
            for hook in list(entry.prehooks.values()):
                found = hook(tuple(grads))
                if found is not None:
                    grads = list(found)
        if entry.retained:
            for nr, ref in entry.retained.items():
                t = ref()
                if t is not None and grads[nr] is not None:
                    t._grad = grads[nr] if t._grad is None else t._grad + grads[nr]
        if isinstance(entry, AccumulateGrad):
            self.arrive(entry, 0, grads[0])
            return
        for nr in range(len(grads)):
            if (entry, nr) in self.captured and grads[nr] is not None:
                self.arrive(entry, nr, grads[nr])
        if entry in self.stop_at:
            return
        if profile.active is None:
            found = self._apply(entry, grads)
        else:
            with profile.span(entry.name(), "autograd", row=entry.op.name):
                found = self._apply(entry, grads)
        if entry.hooks:
            for hook in list(entry.hooks.values()):
                changed = hook(found, tuple(grads))
                if changed is not None:
                    found = _as_sequence(changed)
        for k, edge in enumerate(entry.edges):
            if edge is None:
                continue
            g = found[k] if k < len(found) else None
            if g is not None:
                self.send(edge, g)
        if not self.keep:
            entry.release()

    def _apply(self, entry: GradFn, grads: list[Any]) -> tuple[Any, ...]:
        try:
            found = rule(entry, grads)
        except RuntimeError as error:
            if entry.trace and not hasattr(error, "_traced"):
                error._traced = True  # type: ignore[attr-defined]
                error.add_note(
                    f"Error detected in {entry.name()}. Traceback of forward call that "
                    f"caused the error:\n{entry.trace}"
                )
            raise
        if entry.op.kind == "elementwise":
            found = tuple(
                _fit(g, a) if g is not None else None
                for g, a in zip(found, entry.args, strict=False)
            )
        if modes.anomaly and modes.check_nan:
            _check_nan(entry, found)
        return found

    def arrive(self, entry: GradFn, nr: int, g: Any) -> None:
        """A gradient is complete where it is wanted: at a leaf, or at an edge that is captured."""
        if self.arrived is not None:
            self.arrived.append((entry, nr, g, g._cell.node))
        if isinstance(entry, AccumulateGrad):
            self._leaf(entry, g)
        else:
            self.captured[entry, nr] = g

    def _leaf(self, entry: AccumulateGrad, g: Any) -> None:
        leaf = entry.variable
        if leaf._hooks:
            g = _call_hooks(leaf._hooks, g)
        if (entry, 0) in self.captured:
            self.captured[entry, 0] = g
            return
        if self.needed is not None:
            return
        if g._shape != leaf._shape:
            raise RuntimeError(
                f"Function {entry.name()} returned an invalid gradient at index 0 - "
                f"got {list(g.shape)} but expected shape compatible with "
                f"{list(leaf.shape)}"
            )
        if g.dtype is not leaf.dtype:
            g = NAMES["to_dtype"](g, leaf.dtype)
        _accumulate(leaf, g, self.create)
        if self.types is not None:
            self.types.arrived(leaf)
        if leaf._post_hooks:
            modes.types = self.types
            for hook in list(leaf._post_hooks.values()):
                hook(leaf)
            modes.types = None


def rule(entry: GradFn, grads: list[Any]) -> tuple[Any, ...]:
    """Cotangents of an entry's arguments; Note [Complex gradients]."""
    op = entry.op
    around = (
        entry.metas[0].dtype.is_complex
        and op.jvp != "linear"
        and (op.complex or op.kind == "composite")
    )
    if not around:
        return entry.apply(grads)
    return tuple(map(_conjugate, entry.apply([_conjugate(g) for g in grads])))


def _accumulate(leaf: Tensor, g: Tensor, create: bool) -> None:
    """Add a gradient to what a tensor has; in place, unless the sum shall have history."""
    old = leaf._grad
    if old is None:
        leaf._grad = g if create else _own(g)
    elif create or old.is_sparse:
        leaf._grad = old + g
    else:
        was, modes.grad = modes.grad, False
        try:
            old.add_(g)
        finally:
            modes.grad = was


def _own(g: Tensor) -> Tensor:
    """A gradient with memory and identity of its own, so that writing to it harms nobody."""
    return g.clone()  # elided where nobody else holds g


def _call_hooks(hooks: dict[int, Any], g: Any) -> Any:
    for hook in list(hooks.values()):
        found = hook(g)
        if found is not None:
            g = found
    return g


def _conjugate(g: Any) -> Any:
    return NAMES["conj"](g) if g is not None else None


def _fit(g: Tensor, arg: Any) -> Tensor:
    """Reduce an elementwise cotangent to the argument's shape and dtype."""
    if type(arg) is Saved:
        arg = arg.spec if arg.tensor is None else arg.tensor
    shape = getattr(arg, "shape", None)
    if shape is None:
        return g
    if g._shape != tuple(shape):
        g = sum_to(g, tuple(shape))
    if g.dtype is not arg.dtype:
        g = NAMES["to_dtype"](g, arg.dtype)
    return g


def _check_nan(entry: GradFn, grads: tuple[Any, ...]) -> None:
    for k, g in enumerate(grads):
        if g is not None and g.dtype.is_floating_point and bool(NAMES["isnan"](g).any().item()):
            error = RuntimeError(
                f"Function '{entry.name()}' returned nan values in its {k}th output."
            )
            if entry.trace:
                error.add_note(
                    f"Error detected in {entry.name()}. Traceback of forward call that "
                    f"caused the error:\n{entry.trace}"
                )
            raise error


def _run(task: _Task, outputs: Sequence[Tensor], grads: Sequence[Any]) -> None:
    was = modes.grad
    if task.types is not None:
        task.types.starts(outputs, grads)
    # a cotangent has the dual of its primal's type, whatever it is computed from
    modes.grad, modes.types = task.create, None
    running = running_tasks()
    running.append(task)
    try:
        edges = [_edge(t) for t in outputs]
        task.roots = [e[0] for e in edges]
        repeat.run(task, edges, grads)
    finally:
        running.pop()
        modes.grad, modes.types = was, task.types


def backward(
    tensors: Any,
    grad_tensors: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    grad_variables: Any = None,
    inputs: Any = None,
) -> None:
    """Accumulate the gradients of tensors into the `.grad` of the leaves (or of `inputs`).

    Args:
        tensors: outputs to differentiate; scalars need no gradient of their own.
        grad_tensors: cotangents, one per tensor.
        retain_graph: keep what the tape saved for another pass (default: `create_graph`).
        create_graph: record the pass itself on the tape, for higher derivatives.
        inputs: accumulate only into these.

    Raises:
        RuntimeError: a non-scalar without cotangent, or a graph that was already freed.
    """
    outputs = _as_sequence(tensors)
    grads = _initial(outputs, grad_tensors)
    if inputs is not None:
        wanted = _as_sequence(inputs)
        if not wanted:
            raise RuntimeError("`inputs` argument to `backward()` cannot be empty.")
        found = grad(outputs, wanted, grads, retain_graph, create_graph, allow_unused=True)
        for t, g in zip(wanted, found, strict=True):
            if g is not None:
                _accumulate(t, g, create_graph)
                if modes.types is not None:
                    modes.types.arrived(t)
        return
    task = _Task(create_graph if retain_graph is None else retain_graph, create_graph)
    _run(task, outputs, grads)


def grad(
    outputs: Any,
    inputs: Any,
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    only_inputs: bool = True,
    allow_unused: bool | None = None,
    is_grads_batched: bool = False,
    materialize_grads: bool = False,
) -> tuple[Any, ...]:
    """The gradients of outputs with respect to inputs, without touching any `.grad`.

    Returns:
        One tensor per input; None for an unused input with `allow_unused`, zeros with
        `materialize_grads`.

    Raises:
        RuntimeError: an input that does not require grad, or is not used without `allow_unused`.
    """
    outs = _as_sequence(outputs)
    wanted = _as_sequence(inputs)
    if not wanted:
        raise RuntimeError("`inputs` argument to `grad()` cannot be empty.")
    if allow_unused is None:
        allow_unused = materialize_grads
    if materialize_grads and not allow_unused:
        raise ValueError(
            "Expected allow_unused to be True or not passed when "
            "materialize_grads=True, but got: allow_unused=False."
        )
    for t in wanted:
        if _constant(t):
            raise RuntimeError("One of the differentiated Tensors does not require grad")
    if is_grads_batched:
        rows = [
            grad(
                outs,
                wanted,
                tuple(g[i] for g in _as_sequence(grad_outputs)),
                True,
                create_graph,
                allow_unused=allow_unused,
            )
            for i in range(_as_sequence(grad_outputs)[0].shape[0])
        ]
        return tuple(None if c[0] is None else NAMES["stack"](c) for c in zip(*rows, strict=True))
    keep = create_graph if retain_graph is None else retain_graph
    edges = [_edge(t) for t in wanted]
    arrived = arriving(outs, edges, _initial(outs, grad_outputs), keep, create_graph)
    found = []
    for k, (t, e, g) in enumerate(zip(wanted, edges, arrived, strict=True)):
        if g is None:
            if not allow_unused:
                raise RuntimeError(
                    f"The differentiated Tensor at index {k} appears to not have been "
                    "used in the graph. Set allow_unused=True if this is the "
                    "desired behavior."
                )
            if materialize_grads:
                meta = e[0].metas[e[1]]
                g = NAMES["zeros"](meta.shape, dtype=meta.dtype, device=meta.device)
        elif isinstance(t, Tensor) and g.dtype is not t.dtype:
            g = NAMES["to_dtype"](g, t.dtype)
        if modes.types is not None and g is not None and isinstance(t, Tensor):
            g = modes.types.of(t, g)
        found.append(g)
    return tuple(found)


def arriving(
    outputs: Sequence[Tensor],
    edges: Sequence[tuple[GradFn, int]],
    grads: Sequence[Tensor],
    keep: bool,
    create: bool,
    partial: bool = False,
) -> list[Any]:
    """The cotangents that arrive at some edges of the tape; None where none does.

    Args:
        outputs, grads: where the pass starts, and with what.
        keep: what the tape saved is kept.
        create: the pass is recorded on the tape.
        partial: nothing passes through the edges: each gets what comes to it by no other.
    """
    task = _Task(keep, create)
    ends = {e[0] for e in edges}
    task.captured = dict.fromkeys(edges)
    task.needed = _leading_to(ends, [_edge(t)[0] for t in outputs])
    task.stop_at = ends if partial else _only_ends(task.needed, ends)
    _run(task, outputs, grads)
    return [task.captured[e] for e in edges]


def _leading_to(ends: set[GradFn], starts: list[GradFn]) -> set[GradFn]:
    """Entries on a path from the starts to one of the ends."""
    reaches: dict[GradFn, bool] = {}
    for start in starts:
        stack = [start]
        while stack:
            entry = stack[-1]
            if entry in reaches:
                stack.pop()
                continue
            below = [e[0] for e in entry.edges if e is not None]
            waiting = [b for b in below if b not in reaches]
            if waiting:
                stack.extend(waiting)
                continue
            reaches[entry] = entry in ends or any(reaches[b] for b in below)
            stack.pop()
    return {e for e, yes in reaches.items() if yes}


def _only_ends(needed: set[GradFn], ends: set[GradFn]) -> set[GradFn]:
    """Ends below which nothing else is wanted: their own rule need not run."""
    return {e for e in ends if not any(x is not None and x[0] in needed for x in e.edges)}


@overridable
def _backward_method(
    self: Tensor,
    gradient: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Any = None,
) -> None:
    """Accumulate the gradient of this tensor into the leaves' `.grad`."""
    backward(self, gradient, retain_graph, create_graph, inputs=inputs)


_backward_method.__name__ = "backward"
setattr(Tensor, "backward", _backward_method)
setattr(Enclosing, "arriving", staticmethod(arriving))
