"""Check the types of a whole training step on one process, without launching or computing it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flambeau import record
from flambeau.distributed import groups
from flambeau.distributed.groups import ProcessGroup
from flambeau.distributed.spmd import assert_type, spmd
from flambeau.distributed.transport.paper import Paper
from flambeau.distributed.types import Type
from flambeau.ir.graph import Node
from flambeau.ir.graph import _sequence as next_node
from flambeau.ops.generator import default_generator
from flambeau.tape import AccumulateGrad, edge_of
from flambeau.tensor import Tensor

_NO_VALUE = "a tensor of a step that was checked (check_spmd) has no value"


@dataclass(frozen=True)
class Recorded:
    """A collective of the step.

    Attributes:
        name: of its row.
        axes: along which it goes; () for a group that is none of the mesh's.
        shape: of this rank's source.
        nbytes: of this rank's source.
    """

    name: str
    axes: tuple[str, ...]
    shape: tuple[int, ...]
    nbytes: int


@dataclass
class Checked:
    """What was found in a step that has no mistakes.

    Attributes:
        notes: with `infer`, what was taken to be meant, and where.
        collectives: in order.
    """

    notes: list[str] = field(default_factory=list)
    collectives: list[Recorded] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"{len(self.collectives)} collectives, no mistakes"]
        lines += [
            f"  {c.name} along {', '.join(c.axes) or 'no axis'}: {list(c.shape)}, {c.nbytes} bytes"
            for c in self.collectives
        ]
        lines += [f"ambiguous: {note}" for note in self.notes]
        return "\n".join(lines)


def check_spmd(
    fn: Callable[..., Any],
    mesh: Any,
    *args: Any,
    types: Iterable[tuple[Any, Mapping[str, Type]]] = (),
    rank: int = 0,
    infer: bool = False,
    same_draws: Iterable[str] = (),
) -> Checked:
    """Record a training step as one rank of a mesh would, and refuse what is wrong in it.

    Nothing is computed and nobody is launched: the mesh is as large as it says. A number that the
    step reads from a tensor is 1. What it wrote to tensors that were there before is taken back.

    Args:
        fn: the step, called with `args`; a default group and the mesh's groups are there.
        mesh: axis -> size, or a DeviceMesh with named axes.
        types: of tensors and modules, as for `assert_type`; what is not named is Varying.
        rank: as which it is recorded; row-major in the mesh.
        infer, same_draws: as of `spmd`.

    Returns:
        What was found.

    Raises:
        SpmdTypeError: the step is wrong, with the line and what to write instead.

    Example:
        >>> import flambeau
        >>> from flambeau.distributed.spmd import P, R, S, V, all_reduce, reinterpret
        >>> w, x = flambeau.ones(3, requires_grad=True), flambeau.ones(4, 3)
        >>> def step():
        ...     reinterpret((x @ w).mean() / 8, "dp", src=V, dst=P).backward()
        ...     w.grad = all_reduce(w.grad, "dp", dst=R)
        >>> print(check_spmd(step, {"dp": 8}, types=[(w, {"dp": R}), (x, {"dp": S(0)})]))
        1 collectives, no mistakes
          all_reduce along dp: [3], 12 bytes
    """
    sizes = _sizes(mesh)
    if not 0 <= rank < math.prod(sizes.values()):
        raise ValueError(f"rank {rank} is not one of a mesh of {sizes}")
    record.flush()
    before = groups._exchange_world(None)
    random_state = default_generator.__getstate__()
    dry = _Dry()
    checked = Checked()
    record.thread.watcher = dry
    try:
        groups._world.given = Paper(rank, math.prod(sizes.values()))
        groups.init_process_group("paper")
        with _Step(_groups(sizes, rank), infer=infer, same_draws=same_draws) as typing:
            typing.notes, dry.gradients = checked.notes, typing.gradients
            for x, said in types:
                assert_type(x, said)
            fn(*args)
            checked.collectives = [_recorded(node, typing) for node, _ in record._effects]
    finally:
        record.thread.watcher = None
        dry.undo()
        default_generator.__setstate__(random_state)
        groups._exchange_world(before)
    return checked


def _sizes(mesh: Any) -> dict[str, int]:
    if isinstance(mesh, Mapping):
        return dict(mesh)
    return dict(zip(mesh.mesh_dim_names, mesh.shape, strict=True))


def _groups(sizes: Mapping[str, int], rank: int) -> dict[str, ProcessGroup]:
    """The groups of a rank's lines through a mesh."""
    places = np.arange(math.prod(sizes.values())).reshape(tuple(sizes.values()))
    here: tuple[Any, ...] = np.unravel_index(rank, places.shape)
    made = {}
    for k, (axis, size) in enumerate(sizes.items()):
        line = places[(*here[:k], slice(None), *here[k + 1 :])]
        made[axis] = ProcessGroup(Paper(int(here[k]), size), line.tolist(), axis)
    return made


def _recorded(node: Node, typing: spmd) -> Recorded:
    source = node.src[0]
    return Recorded(node.op.name, typing.axes_of(node.attrs[0]), source.shape, source.nbytes)


class _Step(spmd):
    """Types of a step, and the gradients that leaves had before."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.gradients: dict[Tensor, Any] = {}

    def starts(self, outputs: Sequence[Tensor], grads: Sequence[Tensor]) -> None:
        """Note the leaves that a backward pass comes to."""
        super().starts(outputs, grads)
        stack = [edge_of(t)[0] for t in outputs]
        seen = set(stack)
        while stack:
            entry = stack.pop()
            if isinstance(entry, AccumulateGrad):
                self.gradients.setdefault(entry.variable, entry.variable._grad)
            below = {e[0] for e in entry.edges if e is not None} - seen
            seen |= below
            stack += below


class _Dry:
    """Watches a step that is recorded and not run (`record.thread.watcher`)."""

    def __init__(self) -> None:
        self.gradients: dict[Tensor, Any] = {}
        self.mark = len(record._pending)
        self.start = next_node()
        self.written: dict[record.Cell, tuple[Any, ...]] = {}

    def writes(self, cell: record.Cell) -> None:
        """A tensor is about to be written."""
        if cell.node.order < self.start:
            self.written.setdefault(cell, (cell.node, cell.version, cell.before))

    def read(self, t: Tensor, reader: Callable[[Tensor], Any]) -> Any:
        """The numbers of a tensor: ones, where they are not there yet."""
        if t._cell.node.buffer is not None:
            return reader(t)
        ones: Any = np.ones(t._shape, np.bool_ if t.dtype.category == 0 else np.int64)
        found = ones if t.dtype.category < 2 else ones.astype(np.float64)
        return found.tolist()

    def memory_used(self) -> None:
        """Memory is read by other means."""

    def communicates(self, name: str) -> None:
        """Collectives are what is checked."""

    def drew(self, default: bool, place: int) -> None:
        """Random numbers were drawn."""

    def refuse(self, reason: str) -> None:
        """Whatever it is, it is recorded and not run."""

    def undo(self) -> None:
        """Forget what was recorded, and take writes and gradients back."""
        for leaf, old in self.gradients.items():
            leaf._grad = old
        for cell, (node, version, earlier) in self.written.items():
            cell.node, cell.version, cell.before = node, version, earlier
        left = [c for c in record._pending[self.mark :] if c.node.order >= self.start]
        record.forget(self.mark, lambda node: node.order >= self.start)
        for cell in left:
            cell.node = record.placeholder(cell.node.shape, cell.node.dtype, _NO_VALUE)


__all__ = ["Checked", "Recorded", "check_spmd"]
