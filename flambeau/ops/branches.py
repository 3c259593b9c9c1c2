"""Recordings of functions that are run once or not at all, and of loops of unknown length.

Note [Branches]
Both functions of a `cond` are recorded where it stands, on the tensors that are there. What they
recorded becomes the two graphs of a `_cond` (`ops/control.py`), over what either reads from
outside; random numbers are drawn ahead of it.

Its gradient is a `_cond` too: of each branch's tape, from cotangents that have placeholders, since
they have a tape of their own. Nothing that the branches compute leaves them but results, so the
graphs of the gradient hold what they read of the forward pass as part of them, and compute it
again. In the graphs of a gradient's gradient stands all of that in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self

from flambeau.ir.body import bodies_of, body_of
from flambeau.ir.graph import Node, Op
from flambeau.ir.graph import _sequence as next_node
from flambeau.ops.control import _cond, _while
from flambeau.ops.entries import tracks
from flambeau.ops.recording import Enclosing, Recording
from flambeau.ops.rows import NAMES
from flambeau.tape import GradFn, Spec, edge_of, modes, place
from flambeau.tensor import Tensor, as_subclass, make

_NO_VALUE = (
    "the value of a tensor is looked at in a {}, which is recorded without values; use operations "
    "such as torch.where, or another cond, instead"
)
_WRITTEN = "a {} writes to a tensor from outside; return what is new instead"


class Branches(Recording):
    """What two functions recorded, of which one will be run.

    Args:
        of: the recording whose gradient this one is.

    Attributes:
        stands: placeholders of cotangents, and those.
        spans: the orders of nodes that belong to the graphs, from and to.
    """

    def __init__(self, of: Branches | None = None) -> None:
        start = next_node() if of is None else of.start
        super().__init__(start, _NO_VALUE.format("branch"), _WRITTEN.format("branch"))
        self.stands: dict[Node, Tensor] = {}
        self.spans: list[tuple[int, int]] = []
        if of is not None:
            self.first_entry = of.first_entry
            self.stands.update(of.stands)
            self.bound.update(of.bound)
            self.spans += of.spans

    def ends(self) -> Iterable[Node]:
        """The placeholders."""
        return self.stands

    def take(self, count: int) -> int:
        """Either branch has numbers of its own."""
        return count

    def __enter__(self) -> Self:
        self.span = (next_node(), 1 << 62)
        return super().__enter__()

    def recorded(self, nodes: Sequence[Node]) -> set[Node]:
        """All that was recorded from when the recording was opened until `made` was called."""
        return {n for n in nodes if self.span[0] <= n.order < self.span[1]}

    def stand(self, cotangent: Tensor) -> Tensor:
        """The placeholder of a cotangent."""
        found = self.placeholder(cotangent._shape, cotangent.dtype, cotangent.device)
        self.stands[found._cell.node] = cotangent
        if modes.grad:
            known = edge_of(cotangent) if tracks((cotangent,)) else None
            self.bound[edge_of(place(found))[0]] = known
        return found

    def inside(self, n: Node) -> bool:
        """Whether a node belongs to the graphs."""
        if n in self.stands or n.op.batch == "draw":
            return False
        return any(start <= n.order < stop for start, stop in self.spans)

    def made(self, pred: Tensor, branches: Sequence[Sequence[Tensor]]) -> list[Tensor]:
        """The choice between what was recorded.

        Args:
            pred: which.
            branches: the results where it is true, and where it is not.
        """
        inner = [t for results in branches for t in results]
        roots = [[t._node() for t in results] for results in branches]
        self.span = (self.span[0], next_node())
        self.spans.append(self.span)
        ends = self.tape([t for t in inner if tracks((t,))])[1]
        bodies, rest = bodies_of(roots, self.inside)
        given = [self.stands[n] if n in self.stands else make(n, pred.device) for n in rest]
        was, modes.grad = modes.grad, False
        try:
            found = list(_cond(*bodies, pred, *given))
        finally:
            modes.grad = was
        if any(edge is not None for edge in ends.values()):
            metas = tuple(Spec(t._shape, t.dtype, t.device, True) for t in found)
            entry = Branched(_BRANCHED, self, [as_subclass(t, Tensor) for t in inner], ends, metas)
            entry.given = pred, *given
            for nr, (t, *alike) in enumerate(zip(found, *branches, strict=True)):
                if tracks(alike):
                    t._grad_fn, t._output_nr, t._rg = entry, nr, True
        return found


class Branched(Enclosing):
    """The tape entry of a choice: its rule is a choice between the branches' tapes.

    Attributes:
        given: which branch was taken, and what either reads.
    """

    given: tuple[Tensor, ...]

    def name(self) -> str:
        """The entry's name, as it is printed."""
        return "CondBackward0"

    def cells(self) -> list[Any]:
        """The cells whose values the rule reads."""
        return [t._cell for t in self.given]

    def pulled(self, grads: list[Any]) -> tuple[Any, ...]:
        """Cotangents of what the branches read."""
        back = Branches(self.recording)
        nothing = [None] * len(grads)
        with back:
            given = [None if g is None else back.stand(g) for g in grads]
            both = [self.arrived([*given, *nothing]), self.arrived([*nothing, *given])]
            which = [k for k, pair in enumerate(zip(*both, strict=True)) if any(map(_there, pair))]
            branches = [
                [_or_zeros(own[k], other[k]) for k in which] for own, other in (both, both[::-1])
            ]
            sums = back.made(self.given[0], branches) if which else []
        found = dict(zip(which, sums, strict=True))
        return tuple(found.get(k) for k in range(len(self.ends)))

    def release(self) -> None:
        """Let go of the recording; going backwards a second time raises."""
        super().release()
        self.given = ()


def _there(g: Tensor | None) -> bool:
    return g is not None


def _or_zeros(g: Tensor | None, other: Tensor | None) -> Tensor:
    """A branch's cotangent, which is 0 where only the other branch reads a value."""
    if g is None:
        assert other is not None
        found: Tensor = NAMES["zeros"](*other._shape, dtype=other.dtype, device=other.device)
        return found
    return g


_BRANCHED = Op("cond", "composite")
_BRANCHED.jvp = "linear"


class _Endless(Recording):
    """A step of a loop that ends when a value says so."""

    def __init__(self) -> None:
        super().__init__(
            next_node(), _NO_VALUE.format("step of a loop"), _WRITTEN.format("step of a loop")
        )
        self.carried: list[Node] = []

    def ends(self) -> Iterable[Node]:
        """The placeholders of carried values."""
        return self.carried

    def take(self, count: int) -> int:
        """The steps would need numbers of their own, of unknown number.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError(
            "a step of a while_loop whose length depends on a value draws random numbers; draw "
            "them before, or use scan"
        )

    def carry(self, first: Tensor) -> Tensor:
        """The placeholder of a carried value."""
        found = self.placeholder(first._shape, first.dtype, first.device)
        self.carried.append(found._cell.node)
        return found


class NoGradient(RuntimeError):
    """Something that has a value but no gradient is differentiated."""


class Looped(GradFn):
    """The tape entry of a loop of unknown length, which has no gradient."""

    def name(self) -> str:
        """The entry's name, as it is printed."""
        return "WhileLoopBackward0"

    def apply(self, grads: list[Any]) -> tuple[Any, ...]:
        """Refuse.

        Raises:
            NoGradient: always.
        """
        raise NoGradient(
            "a while_loop whose length depends on a value has no gradient, as what its steps "
            "computed is not kept; use scan, or detach what it is given"
        )


_LOOPED = Op("while_loop", "composite")
_LOOPED.jvp = "linear"


def endless(
    pred: Tensor,
    step: Callable[[list[Tensor]], tuple[Tensor, list[Tensor]]],
    firsts: Sequence[Tensor],
) -> list[Tensor]:
    """Carried values after as many steps as it takes.

    Args:
        pred: bool, one element: whether there is a first step.
        step: carried values -> whether there is another, and the next carried values, alike.
        firsts: the first carried values.
    """
    recording = _Endless()
    with recording:
        again, following = step([recording.carry(t) for t in firsts])
        inner = [t for t in following if tracks((t,))]
        ends = recording.tape(inner)[1]
        roots = [t._node() for t in (again, *following)]
        body, rest = body_of(roots, recording.carried, recording.start)
        given = [*firsts, *(make(n, pred.device) for n in rest)]
        was, modes.grad = modes.grad, False
        try:
            found = list(_while(body, pred, len(firsts), *given))
        finally:
            modes.grad = was
    edges = [*ends.values(), *(edge_of(t) for t in firsts if tracks((t,)))]
    if edges:
        metas = tuple(Spec(t._shape, t.dtype, t.device, True) for t in found)
        entry = Looped(_LOOPED, tuple(edges), (), {}, metas)
        for nr, t in enumerate(found):
            if t.dtype.category >= 2:
                t._grad_fn, t._output_nr, t._rg = entry, nr, True
    return found


__all__ = ["Branched", "Branches", "Looped", "NoGradient", "endless"]
