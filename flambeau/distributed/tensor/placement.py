"""Where the parts of a distributed tensor are: one placement for each axis of its mesh."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flambeau.distributed import moves
from flambeau.distributed.moves import part_sizes
from flambeau.distributed.types import I, P, R, S, Type, V
from flambeau.tensor import Tensor


class Placement:
    """How a tensor lies along one axis of a mesh."""

    def is_shard(self, dim: int | None = None) -> bool:
        """Whether ranks have parts (along this dimension)."""
        return isinstance(self, Shard) and dim in (None, self.dim)

    def is_replicate(self) -> bool:
        """Whether every rank has all of it."""
        return isinstance(self, Replicate)

    def is_partial(self, reduce_op: str | None = None) -> bool:
        """Whether ranks have terms (of this reduction)."""
        return isinstance(self, Partial) and reduce_op in (None, self.reduce_op)


@dataclass(frozen=True)
class Shard(Placement):
    """Rank r has part r along a dimension, of the parts that `chunk` makes.

    Attributes:
        dim: of the tensor.
    """

    dim: int

    def __repr__(self) -> str:
        return f"Shard(dim={self.dim})"


@dataclass(frozen=True)
class Replicate(Placement):
    """Every rank has all of it."""

    def __repr__(self) -> str:
        return "Replicate()"


@dataclass(frozen=True)
class Partial(Placement):
    """Every rank has a term.

    Attributes:
        reduce_op: "sum", or "avg" for terms whose mean is meant.
    """

    reduce_op: str = "sum"

    def __repr__(self) -> str:
        return f"Partial({self.reduce_op})"


def type_of(placement: Placement) -> Type:
    """The type that a placement is: all ranks work on the one tensor that is meant, so what is on
    every rank is Invariant."""
    if isinstance(placement, Shard):
        return S(placement.dim)
    return P if isinstance(placement, Partial) else I


def placement_of(t: Type) -> Placement:
    """The placement of a type."""
    if t.dim is not None:
        return Shard(t.dim)
    return Partial() if t == P else Replicate()


@dataclass(frozen=True)
class Layout:
    """A tensor as a whole and how it lies on a mesh.

    Attributes:
        mesh: a DeviceMesh.
        types: along each axis of the mesh: I, P or S(dim).
        shape: of the whole.
    """

    mesh: Any
    types: tuple[Type, ...]
    shape: tuple[int, ...]

    @property
    def placements(self) -> tuple[Placement, ...]:
        """As placements."""
        return tuple(placement_of(t) for t in self.types)

    def sizes(self, axis: int) -> tuple[int, ...]:
        """The sizes of the parts along an axis of type S, of what the axes before it leave."""
        dim = self.types[axis].dim
        assert dim is not None
        size = self.shape[dim]
        place = self.mesh.get_coordinate()
        for before in range(axis):
            if self.types[before].dim == dim:
                size = part_sizes(size, self.mesh.size(before))[place[before]]
        return part_sizes(size, self.mesh.size(axis))

    @property
    def local_shape(self) -> tuple[int, ...]:
        """Of this rank's part."""
        found = list(self.shape)
        place = self.mesh.get_coordinate()
        for axis, t in enumerate(self.types):
            if t.dim is not None:
                found[t.dim] = self.sizes(axis)[place[axis]]
        return tuple(found)

    def along(self, axis: int, t: Type) -> Layout:
        """With another type along one axis."""
        return Layout(self.mesh, (*self.types[:axis], t, *self.types[axis + 1 :]), self.shape)


def normal(placements: Sequence[Placement] | None, mesh: Any, ndim: int) -> tuple[Type, ...]:
    """The types of placements as users write them: dimensions may count from the end.

    Raises:
        ValueError: there is not one for each axis of the mesh, or no such dimension.
    """
    given = [Replicate()] * mesh.ndim if placements is None else list(placements)
    if len(given) != mesh.ndim:
        raise ValueError(
            f"`placements` must have the same length as `device_mesh.ndim`! Found placements "
            f"length: {len(given)}, and device_mesh.ndim: {mesh.ndim}."
        )
    found = []
    for p in given:
        if isinstance(p, Shard):
            if not -ndim <= p.dim < ndim:
                raise ValueError(f"{p} of a tensor with {ndim} dimensions")
            found.append(S(p.dim % ndim))
        else:
            found.append(type_of(p))
    return tuple(found)


def redistributed(local: Tensor, have: Layout, want: tuple[Type, ...]) -> Tensor:
    """This rank's part of the same tensor in another layout; differentiable.

    A part of a part is a part of what the axes before it leave. So an axis is made anew where it
    differs, and where an axis before it that is made anew splits, or shall split, its dimension:
    first all of them are made whole from the last axis on, then cut from the first on.
    """
    anew: list[int] = []
    for axis, t in enumerate(have.types):
        touched = {d for k in anew for d in (have.types[k].dim, want[k].dim)} - {None}
        if t != want[axis] or t.dim in touched:
            anew.append(axis)
    for axis in reversed(anew):
        t = have.types[axis]
        if t != I and t != want[axis] and _at_once(have, want, axis):
            local, have = step(local, have, axis, want[axis]), have.along(axis, want[axis])
        elif t != I:
            local, have = step(local, have, axis, I), have.along(axis, I)
    for axis in anew:
        if have.types[axis] != want[axis]:
            local, have = step(local, have, axis, want[axis]), have.along(axis, want[axis])
    return local


def _at_once(have: Layout, want: tuple[Type, ...], axis: int) -> bool:
    """Whether one collective goes from one split to another, or from terms to a split."""
    t, to = have.types[axis], want[axis]
    if to.dim is None:
        return False
    dims = {t.dim, to.dim} - {None}
    others = {x.dim for types in (have.types, want) for k, x in enumerate(types) if k != axis}
    even = all(have.shape[d] % have.mesh.size(axis) == 0 for d in dims if d is not None)
    return not dims & others and (t == P or even)


def step(local: Tensor, have: Layout, axis: int, want: Type) -> Tensor:
    """A change of type along one axis by one move, or two."""
    group = have.mesh.get_group(axis)
    t = have.types[axis]
    if t == want:
        return local
    if t == I and want == P:
        return moves.convert(moves.convert(local, group, src=I, dst=R), group, src=R, dst=P)
    sizes = have.along(axis, want).sizes(axis) if want.dim is not None else ()
    if t == I:
        return moves.convert(local, group, src=I, dst=V, dim=want.dim or 0, sizes=sizes)
    if t == P:
        if want == I:
            return moves.all_reduce(local, group, dst=I)
        return moves.reduce_scatter(local, group, dim=want.dim or 0, sizes=sizes)
    assert t.dim is not None
    parts = have.sizes(axis)
    if want == I:
        return moves.all_gather(local, group, dst=I, dim=t.dim, sizes=parts)
    if want == P:
        return moves.convert(local, group, src=V, dst=P, dim=t.dim, sizes=parts)
    assert want.dim is not None
    return moves.all_to_all(local, group, split_dim=want.dim, concat_dim=t.dim)
