"""Recordings of one part of some tensors, for all parts: of one example, for a batch.

Note [One example]
A function is recorded on placeholders: tensors of one example's shape without a value. Everything
that recording does (views, writes, tape entries, random draws) happens as ever, so that any
function can be mapped, and a mapped function can map and differentiate in turn. When the function
has returned, the nodes of its results become those of the whole batch (`passes.batch`).

The tape of a recording belongs to one example too. A result that requires grad gets one entry on
the outer tape, whose rule opens the recording again: it runs the example's tape on placeholders for
the cotangents and makes a batch of what comes out. The forward pass is not recorded a second time,
and the values that the example's tape kept are held as values of the batch. As the rule is a
recording itself, so are its derivatives.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

from flambeau import record
from flambeau.autograd.backward import arriving
from flambeau.dtype import dtype as DType
from flambeau.ir.graph import Node, Op, dependents
from flambeau.ir.graph import _sequence as next_node
from flambeau.ops.entries import tracks
from flambeau.passes.batch import Batch
from flambeau.tape import AccumulateGrad, GradFn, Spec, edge_of, modes, place
from flambeau.tape import _sequence as next_entry
from flambeau.tensor import Tensor, as_subclass, make

Edge = tuple[GradFn, int]

_NO_VALUE = (
    "vmap: It looks like you're calling .item() on a Tensor, printing it, or attempting to use it "
    "in some data-dependent control flow. Inside vmap a tensor stands for every example of the "
    "batch and has no value; use operations such as torch.where instead."
)
_WRITTEN = (
    "vmap: inplace arithmetic(self, *extra_args) is not possible because there exists a Tensor "
    "`other` in extra_args that has more elements than `self`. This happened due to `other` being "
    "vmapped over but `self` not being vmapped over in a vmap. Please try to use out-of-place "
    "operators instead of inplace arithmetic. If said operator is being called inside the PyTorch "
    "framework, please file a bug report instead."
)
_RANDOM = (
    "vmap: called random operation while in randomness error mode. Please either use the 'same' "
    "or 'different' randomness flags on vmap or perform the randomness operation out of vmap"
)


class Recording:
    """What is recorded of one part of some tensors, on placeholders; a context for recording it.

    Args:
        start: nodes with a smaller `order` were there before.
        no_value, written: what is said where a placeholder's value is looked at, and where one is
            written to a tensor from outside.
    """

    def __init__(self, start: int, no_value: str, written: str) -> None:
        self.start = start
        self.no_value = no_value
        self.refusal = written
        self.first_entry = next_entry()
        #: placeholders, and the tensors of all parts that they stand for, with their versions
        self.inputs: dict[Node, tuple[Tensor, int]] = {}
        #: nodes of which the tape reads the values of all parts, and these
        self.kept: dict[Node, Tensor] = {}
        #: tape entries of placeholders, and the edges that their cotangents go on by
        self.bound: dict[GradFn, Edge | None] = {}

    def whole(self, node: Node) -> Node | None:
        """The value of all parts for a node's of one; None where it is not known.

        Raises:
            RuntimeError: it was written to since.
        """
        found = self.kept.get(node)
        if found is not None:
            return found._cell.node
        if node not in self.inputs:
            return None
        whole, version = self.inputs[node]
        if whole._cell.version != version:
            raise RuntimeError(
                "one of the variables needed for gradient computation has been modified by an "
                f"inplace operation: [{whole.type()} {list(whole.shape)}], which was an input of "
                f"a function that was recorded once, is at version {whole._cell.version}; "
                f"expected version {version} instead."
            )
        return whole._node()

    def ends(self) -> Iterable[Node]:
        """What the recorded nodes depend on that differs between the parts."""
        return self.inputs

    def take(self, count: int) -> int:
        """How many places of the stream of random numbers a draw of `count` takes."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._draw = record.thread.draw
        record.thread.draw = self._take
        self._own: set[Node] = set(self.ends())
        record.withheld.update(self._own)
        record.thread.tracing += 1
        return self

    def __exit__(self, kind: Any, *exc: object) -> None:
        record.thread.tracing -= 1
        record.thread.draw = self._draw
        with record._lock:
            record.withheld.difference_update(self._own)
            start = self.start
            cells = [c for c in record._pending if c.node.order >= start and c.node.buffer is None]
            inside = dependents([c.node for c in cells], self.ends())
            wrong = [c for c in cells if c.node in inside and _older(c, start)]
            error = RuntimeError(self.refusal)
            record._fail(wrong, [c.node for c in wrong], error)
            record.forget(0, inside.__contains__)
        if wrong and kind is None:
            raise error

    def _take(self, count: int) -> int:
        count = self.take(count)
        return count if self._draw is None else self._draw(count)

    def placeholder(self, shape: tuple[int, ...], dtype: DType, device: Any) -> Tensor:
        """A tensor without a value, which nothing waits for."""
        node = record.placeholder(shape, dtype, self.no_value)
        self._own.add(node)
        record.withheld.add(node)
        return make(node, device)

    def part(self, whole: Tensor) -> Tensor:
        """The placeholder of one part of a tensor, which stand one after another in its first
        dimension."""
        found = self.placeholder(whole._shape[1:], whole.dtype, whole.device)
        self.inputs[found._cell.node] = (whole, whole._cell.version)
        if tracks((whole,)):
            self.bound[edge_of(place(found))[0]] = edge_of(whole)
        return found

    def tape(self, inner: list[Tensor]) -> tuple[set[GradFn], dict[Edge, Edge | None]]:
        """The tape of one part, from some results on: its entries, and the edges at which it ends,
        with those by which their cotangents go on."""
        ends: dict[Edge, Edge | None] = {}
        entries: set[GradFn] = set()
        stack = [edge_of(t) for t in inner]
        while stack:
            edge = stack.pop()
            entry = edge[0]
            if entry in self.bound:
                ends[edge] = self.bound[entry]
            elif entry.order < self.first_entry or isinstance(entry, AccumulateGrad):
                ends[edge] = edge
            elif entry not in entries:
                entries.add(entry)
                stack += [e for e in entry.edges if e is not None]
        return entries, ends


class Examples(Recording):
    """What one example's recording shares with its batch.

    Args:
        size: examples in the batch.
        randomness: "error", "different" or "same".
    """

    def __init__(self, size: int, randomness: str = "error") -> None:
        super().__init__(next_node(), _NO_VALUE, _WRITTEN)
        self.size = size
        self.randomness = randomness
        self.batch = Batch(size, self.start, randomness == "different", self.whole)

    def __exit__(self, kind: Any, *exc: object) -> None:
        try:
            super().__exit__(kind, *exc)
        finally:
            self.batch.made.clear()

    def take(self, count: int) -> int:
        """One place for all examples, or one for each.

        Raises:
            RuntimeError: random numbers are not allowed.
        """
        if self.randomness == "error":
            raise RuntimeError(_RANDOM)
        return count * (self.size if self.randomness == "different" else 1)

    # -- in and out -----------------------------------------------------------------------------

    def leave(self, found: list[Any]) -> list[tuple[Any, bool]]:
        """The batch of each tensor of the example (None stays), and whether it has that dimension:
        what is the same for all examples does not."""
        results: list[tuple[Any, bool]] = []
        inner, outer = [], []
        for t in found:
            node = None if t is None else self.batch.of(t._node())
            if node is None:
                results.append((t, False))
                continue
            whole = make(node[0] if isinstance(node, tuple) else node, t.device)
            results.append((whole, True))
            if tracks((t,)):
                inner.append(t)
                outer.append(whole)
        if inner:
            self._attach(inner, outer)
        return results

    def written(self, given: list[tuple[Tensor, Tensor, int]]) -> None:
        """Write what the example wrote into its inputs into those of the batch.

        Args:
            given: the batch's tensor with the batch in front, its placeholder, and the
                placeholder's version at the start.
        """
        for whole, example, version in given:
            if example._cell.version != version:
                (new, has) = self.leave([example])[0]
                whole.copy_(new if has else new.expand(whole._shape))

    def _attach(self, inner: list[Tensor], outer: list[Tensor]) -> None:
        """Give results of the batch their entry on the outer tape, and hold what it will read."""
        entries, ends = self.tape(inner)
        for entry in entries:
            for cell in entry.cells():
                self._hold(cell)
        made = Mapped(
            self, [as_subclass(t, Tensor) for t in inner], list(ends), list(ends.values()), outer
        )
        for nr, t in enumerate(outer):
            t._grad_fn, t._output_nr, t._rg = made, nr, True

    def _hold(self, cell: Any) -> None:
        node = cell.node
        if node in self.kept or node in self.inputs:
            return
        form = self.batch.of(node)
        if form is not None:
            self.kept[node] = make(form[0] if isinstance(form, tuple) else form, cell.device)


def _older(cell: Any, start: int) -> bool:
    """Whether a cell was there before a recording started."""
    return cell.home is not None or (cell.before is not None and cell.before.order < start)


class Mapped(GradFn):
    """The tape entry of a batch: its rule is the example's tape, for every example.

    Attributes:
        recording: the recording, which is opened again.
        inner: the example's results.
        ends: where the example's tape ends: edges of placeholders, and of what it captured.
    """

    def __init__(
        self,
        recording: Examples,
        inner: list[Tensor],
        ends: list[Edge],
        edges: list[Edge | None],
        outer: list[Tensor],
    ) -> None:
        metas = tuple(Spec(t._shape, t.dtype, t.device, True) for t in outer)
        super().__init__(_MAPPED, tuple(edges), (), {}, metas)
        self.recording: Any = recording
        self.inner = inner
        self.ends = ends

    def name(self) -> str:
        """The entry's name, as it is printed."""
        return "VmapBackward0"

    def cells(self) -> list[Any]:
        """The cells whose values the rule reads: those that the recording holds."""
        recording = self.recording
        given = [whole._cell for whole, _ in recording.inputs.values()]
        return [*given, *(t._cell for t in recording.kept.values())]

    def apply(self, grads: list[Any]) -> tuple[Any, ...]:
        """Cotangents of the batch's inputs and of what the example captured."""
        if self.released:
            return super().apply(grads)
        recording = self.recording
        given = [(t, g) for t, g in zip(self.inner, grads, strict=True) if g is not None]
        with recording:
            found = arriving(
                [t for t, _ in given],
                self.ends,
                [recording.part(g) for _, g in given],
                keep=True,
                create=modes.grad,
                partial=True,
            )
            results = recording.leave(found)
        return tuple(
            None if g is None else self._total(g, has, end[0])
            for (g, has), end in zip(results, self.ends, strict=True)
        )

    def _total(self, g: Tensor, has: bool, end: GradFn) -> Tensor:
        """Of what was captured, the examples' sum; of an input, every example's own."""
        size = self.recording.size
        if end in self.recording.bound:
            return g if has else g.expand(size, *g._shape)
        return g.sum(0) if has else g * size

    def release(self) -> None:
        """Let go of the recording; going backwards a second time raises."""
        self.released = True
        self.recording, self.inner, self.ends = None, [], []


_MAPPED = Op("vmap", "composite")
_MAPPED.jvp = "linear"
