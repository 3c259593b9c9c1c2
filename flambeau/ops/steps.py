"""Recordings of one step, and the scan made of them.

Note [One step]
A function of carried values and slices is recorded once, on placeholders, like one example of a
batch (Note [One example] in `func/examples.py`). What its results are made of becomes the graph of
a `_scan` (`ops/control.py`), one node for all steps.

Its gradient is a scan too, the other way round. The tape of the step ends at the placeholders; the
scan's entry on the outer tape runs it on placeholders for the cotangents, in a recording that knows
what the step's nodes were in all steps: slices of the sequences, the carried values before each
step, and what the tape has kept, which the scan has stacked for it. Cotangents of carried values
are carried on; those of slices are the results; those of what the step captured are summed up. In
that recording a value of a step depends on its carried values and slices only, by the step's own
tape: how those depend on one another is the matter of the entry that made them. So the rule has a
rule in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from flambeau.ir.body import body_of
from flambeau.ir.graph import Node, Op, below
from flambeau.ir.graph import _sequence as next_node
from flambeau.ops.control import _scan
from flambeau.ops.entries import tracks
from flambeau.ops.recording import Enclosing, Recording
from flambeau.ops.rows import NAMES
from flambeau.record import Cell
from flambeau.tape import GradFn, Spec, edge_of, modes, place
from flambeau.tensor import Tensor, as_subclass, make, over

_NO_VALUE = (
    "the value of a tensor is looked at in a step of a scan, which is recorded once for all steps; "
    "use operations such as torch.where instead"
)
_WRITTEN = "a step of a scan writes to a tensor from outside; carry it instead"


class Steps(Recording):
    """What one step's recording shares with all steps.

    Args:
        count: steps.
        reverse: from the last to the first.
        keeps: whether what the tape reads of a step is kept, rather than computed again from its
            slices and carried values.
        of: the recording whose gradient this one is.

    Attributes:
        carried: placeholders of carried values, and the first ones.
        places: tape entries of these placeholders, None for those that have no gradients.
    """

    def __init__(
        self, count: int, reverse: bool, keeps: bool = True, of: Steps | None = None
    ) -> None:
        super().__init__(next_node() if of is None else of.start, _NO_VALUE, _WRITTEN)
        self.count = count
        self.reverse = reverse
        self.keeps = keeps
        self.carried: dict[Node, Tensor] = {}
        self.places: list[GradFn | None] = []
        if of is not None:
            self.first_entry = of.first_entry
            self.inputs.update(of.inputs)
            self.kept.update(of.kept)
            self.bound.update(of.bound)

    def ends(self) -> Iterable[Node]:
        """What differs between steps, as far as it is known."""
        return [*self.carried, *self.inputs, *self.kept]

    def take(self, count: int) -> int:
        """Every step draws numbers of its own."""
        return count * self.count

    def carry(self, first: Tensor) -> Tensor:
        """The placeholder of a carried value."""
        found = self.placeholder(first._shape, first.dtype, first.device)
        self.carried[found._cell.node] = first
        entry = None
        if modes.grad and first.dtype.category >= 2:
            entry = edge_of(place(found))[0]
            self.bound[entry] = edge_of(first) if tracks((first,)) else None
        self.places.append(entry)
        return found

    def made(self, carried: list[Tensor], results: list[Tensor]) -> tuple[list[Tensor], ...]:
        """The scan of what was recorded.

        Args:
            carried: the next carried values, in the order of `carry`.
            results: of the step.

        Returns:
            The last carried values, and the results of all steps.
        """
        leaves = [*carried, *results]
        roots = [t._node() for t in leaves]
        self._draw_ahead(roots)
        inner = [t for t in leaves if tracks((t,))]
        entries, ends = self.tape(inner)
        if all(edge is None for edge in ends.values()):  # nothing outside needs gradients
            entries, ends = set(), {}
        stacked, before = self._read(entries) if ends else ([], [])
        found = list(self._recorded([*roots, *stacked], before))
        outer, more = found[: len(leaves)], found[len(leaves) :]
        self.kept.update(zip([*stacked, *before], more, strict=True))
        if ends:
            specs = [(t._shape, t) for t in outer]
            specs += [((self.count, *t._shape), t) for t in self.carried.values()]
            metas = tuple(Spec(shape, t.dtype, t.device, True) for shape, t in specs)
            inner = [as_subclass(t, Tensor) for t in leaves]
            entry = Scanned(_SCANNED, self, inner, ends, metas)
            for nr, (t, leaf) in enumerate(zip(outer, leaves, strict=True)):
                if tracks((leaf,)):
                    t._grad_fn, t._output_nr, t._rg = entry, nr, True
        return outer[: len(carried)], outer[len(carried) :]

    def _draw_ahead(self, roots: list[Node]) -> None:
        """Random numbers of all steps are drawn before the first."""
        for n in below(roots, set(self.ends())):
            if n.op.batch == "draw" and n.buffer is None and n.order >= self.start:
                shape = (self.count, *n.shape)
                self.kept[n] = make(Node(n.op, n.src, n.attrs, shape, n.dtype))

    def _read(self, entries: set[GradFn]) -> tuple[list[Node], list[Node]]:
        """What the tape reads of a step and is not known of all: nodes that are to be stacked, and
        carried values."""
        known = set(self.inputs).union(self.kept)
        if not self.keeps:
            return [], [n for n in self.carried if n not in known]
        nodes = {cell.node for entry in entries for cell in entry.cells()}
        read = sorted(nodes, key=lambda n: n.order)  # the same in every recording
        inside = known.union(self.carried)
        stacked = [n for n in read if n not in inside and not inside.isdisjoint(below([n], inside))]
        return stacked, [n for n in read if n in self.carried]

    def _recorded(self, roots: list[Node], before: list[Node]) -> tuple[Tensor, ...]:
        """Record the scan: the last carried values, the results, and the values before steps."""
        carried = list(self.carried)
        known = {*self.inputs, *self.kept}
        sequences = [n for n in below(roots, {*carried, *known}) if n in known]
        body, rest = body_of(roots, [*carried, *sequences], self.start)
        wholes = [n for n in map(self.whole, sequences) if n is not None]
        device = next(iter((*self.carried.values(), *self.kept.values()))).device
        given = [over(Cell(n, device), n.shape, n.dtype) for n in (*wholes, *rest)]
        kept = tuple(carried.index(n) for n in before)
        was, modes.grad = modes.grad, False
        try:
            found: tuple[Tensor, ...] = _scan(
                body, self.count, len(carried), len(sequences), kept, self.reverse,
                *self.carried.values(), *given,
            )  # fmt: skip
        finally:
            modes.grad = was
        return found


class Scanned(Enclosing):
    """The tape entry of a scan: its rule is a scan of the step's tape, the other way round.

    Its outputs are those of the scan, and then the carried values before each step, which no
    tensor outside stands for.
    """

    def pulled(self, grads: list[Any]) -> tuple[Any, ...]:
        """Cotangents of first carried values, of sequences, and of what the step captured."""
        of = self.recording
        count = len(of.carried)
        after, before = grads[:count], grads[len(self.inner) :]
        back = Steps(of.count, not of.reverse, of.keeps, of)
        for k, entry in enumerate(of.places):
            if entry is not None:
                back.bound[entry] = (self, len(self.inner) + k)
        with back:
            given = [
                None if entry is None else back.carry(_or_zeros(g, meta))
                for entry, g, meta in zip(of.places, after, self.metas, strict=False)
            ]
            given += [None if g is None else back.part(g) for g in grads[count : len(self.inner)]]
            arrived = dict(zip(self.ends, self.arrived(given), strict=True))
            carried = [
                self._total(back, arrived.get((entry, 0)), g, meta)
                for entry, g, meta in zip(of.places, before, self.metas, strict=False)
                if entry is not None
            ]
            captured, parts = [], []
            for end, g in arrived.items():
                if g is None or end[0] in of.places:
                    continue
                if end[0] in of.bound:
                    parts.append(end)
                else:
                    zero = NAMES["zeros"](*g._shape, dtype=g.dtype, device=g.device)
                    carried.append(back.carry(zero) + g)
                    captured.append(end)
            lasts, sums = back.made(carried, [arrived[end] for end in parts])
        own = [(entry, 0) for entry in of.places if entry is not None]
        found = dict(zip([*own, *captured, *parts], [*lasts, *sums], strict=True))
        return tuple(found.get(end) for end in self.ends)

    def _total(self, back: Steps, g: Tensor | None, seen: Tensor | None, meta: Any) -> Tensor:
        """The cotangent of a carried value: through this step, and of what it was before it."""
        found = _or_zeros(g, meta)
        return found if seen is None else found + back.part(seen)


def _or_zeros(g: Tensor | None, meta: Any) -> Tensor:
    if g is not None:
        return g
    found: Tensor = NAMES["zeros"](*meta.shape, dtype=meta.dtype, device=meta.device)
    return found


_SCANNED = Op("scan", "composite")
_SCANNED.jvp = "linear"


def steps(
    step: Callable[[list[Tensor], list[Tensor]], tuple[list[Tensor], list[Tensor]]],
    firsts: Sequence[Tensor],
    wholes: Sequence[Tensor],
    count: int,
    reverse: bool = False,
    keeps: bool = True,
) -> tuple[list[Tensor], ...]:
    """A function of carried values and slices, step after step.

    Args:
        step: carried values and slices -> the next carried values, alike, and results.
        firsts: the first carried values.
        wholes: sequences, whose slices stand in the first dimension.
        count: how many.
        reverse: from the last slice to the first.
        keeps: whether what gradients read of a step is kept, rather than computed again.

    Returns:
        The last carried values, and the results of all steps, (count, *) each.
    """
    recording = Steps(count, reverse, keeps)
    with recording:
        carried = [recording.carry(t) for t in firsts]
        return recording.made(*step(carried, [recording.part(w) for w in wholes]))


__all__ = ["Scanned", "Steps", "steps"]
