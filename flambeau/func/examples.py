"""Recordings of one example, for a batch.

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

from typing import Any

from flambeau.ir.graph import Op
from flambeau.ir.graph import _sequence as next_node
from flambeau.ops.entries import tracks
from flambeau.ops.recording import Enclosing, Recording
from flambeau.passes.batch import Batch
from flambeau.tape import GradFn, Spec
from flambeau.tensor import Tensor, as_subclass, make

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
        metas = tuple(Spec(t._shape, t.dtype, t.device, True) for t in outer)
        made = Mapped(_MAPPED, self, [as_subclass(t, Tensor) for t in inner], ends, metas)
        for nr, t in enumerate(outer):
            t._grad_fn, t._output_nr, t._rg = made, nr, True

    def _hold(self, cell: Any) -> None:
        node = cell.node
        if node in self.kept or node in self.inputs:
            return
        form = self.batch.of(node)
        if form is not None:
            self.kept[node] = make(form[0] if isinstance(form, tuple) else form, cell.device)


class Mapped(Enclosing):
    """The tape entry of a batch: its rule is the example's tape, for every example."""

    def pulled(self, grads: list[Any]) -> tuple[Any, ...]:
        """Cotangents of the batch's inputs and of what the example captured."""
        recording = self.recording
        with recording:
            found = self.arrived([None if g is None else recording.part(g) for g in grads])
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


_MAPPED = Op("vmap", "composite")
_MAPPED.jvp = "linear"
