"""Recordings of one part of some tensors, for all parts: of one example, of one step.

What is recorded is on placeholders, and so is its tape; `func/examples.py` and `ops/steps.py` say
what becomes of both for all parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Self

from flambeau import record
from flambeau.dtype import dtype as DType
from flambeau.ir.graph import Node, Op, dependents
from flambeau.ops.entries import tracks
from flambeau.recovery import take_back
from flambeau.tape import AccumulateGrad, GradFn, Spec, edge_of, modes, place
from flambeau.tape import _sequence as next_entry
from flambeau.tensor import Tensor, make

Edge = tuple[GradFn, int]


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

    def recorded(self, nodes: Sequence[Node]) -> set[Node]:
        """Of nodes, those that are part of the recording."""
        return dependents(nodes, self.ends())

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
            inside = self.recorded([c.node for c in cells])
            error = RuntimeError(self.refusal)
            wrong = take_back([c for c in cells if c.node in inside], start, error)
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


class Enclosing(GradFn):
    """A tape entry that encloses the tape of a recording: its rule opens the recording again.

    Args:
        op: what the entry is called.
        recording: the recording.
        inner: its results.
        ends: where its tape ends, and the edges by which cotangents go on from there.
        metas: of the entry's outputs.
    """

    #: `autograd.backward.arriving`, which stands above: it runs a tape backwards.
    arriving: ClassVar[Callable[..., list[Any]]]

    def __init__(
        self,
        op: Op,
        recording: Recording,
        inner: list[Tensor],
        ends: dict[Edge, Edge | None],
        metas: tuple[Spec, ...],
    ) -> None:
        super().__init__(op, tuple(ends.values()), (), {}, metas)
        self.recording: Any = recording
        self.inner = inner
        self.ends = list(ends)

    def cells(self) -> list[Any]:
        """The cells whose values the rule reads: those that the recording holds."""
        recording = self.recording
        given = [whole._cell for whole, _ in recording.inputs.values()]
        return [*given, *(t._cell for t in recording.kept.values())]

    def apply(self, grads: list[Any]) -> tuple[Any, ...]:
        """Cotangents of what the recording's tape goes on to."""
        return super().apply(grads) if self.released else self.pulled(grads)

    def pulled(self, grads: list[Any]) -> tuple[Any, ...]:
        """`apply`, while the recording is there."""
        raise NotImplementedError

    def arrived(self, cotangents: Sequence[Tensor | None]) -> list[Any]:
        """What comes to the ends of the recording's tape from cotangents of its results."""
        pairs = [
            (t, g)
            for t, g in zip(self.inner, cotangents, strict=True)
            if g is not None and t.requires_grad
        ]
        return Enclosing.arriving(
            [t for t, _ in pairs], self.ends, [g for _, g in pairs], True, modes.grad, True
        )

    def release(self) -> None:
        """Let go of the recording; going backwards a second time raises."""
        self.released = True
        self.recording, self.inner, self.ends = None, [], []


__all__ = ["Edge", "Enclosing", "Recording"]
