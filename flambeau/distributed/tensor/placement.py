"""Where the parts of a distributed tensor are: one placement for each axis of its mesh."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from flambeau.distributed.moves import Move, part_sizes
from flambeau.distributed.types import I, P, S, Type
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

    def __str__(self) -> str:
        return f"S({self.dim})"


@dataclass(frozen=True)
class _StridedShard(Shard):
    """A part of a part: axes after this one cut the dimension first (torch's, where FSDP cuts what
    tensor parallelism has cut, on a mesh whose axes come the other way round).

    Attributes:
        split_factor: into how many parts they cut it.
    """

    split_factor: int = 1

    def __repr__(self) -> str:
        return f"_StridedShard(dim={self.dim}, sf={self.split_factor})"

    def __str__(self) -> str:
        return f"_S({self.dim}, {self.split_factor})"


@dataclass(frozen=True)
class Replicate(Placement):
    """Every rank has all of it."""

    def __repr__(self) -> str:
        return "Replicate()"

    def __str__(self) -> str:
        return "R"


@dataclass(frozen=True)
class Partial(Placement):
    """Every rank has a term.

    Attributes:
        reduce_op: "sum"; "avg" for terms whose mean is meant, which `DTensor.from_local` takes.
    """

    reduce_op: str = "sum"

    def __repr__(self) -> str:
        return f"Partial({self.reduce_op})"

    def __str__(self) -> str:
        return f"P({self.reduce_op})"


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
        order: of the axes in which they cut; None: as they come.
    """

    mesh: Any
    types: tuple[Type, ...]
    shape: tuple[int, ...]
    order: tuple[int, ...] | None = None

    def __hash__(self) -> int:
        return self._hash

    @functools.cached_property
    def _hash(self) -> int:
        return hash((self.mesh, self.types, self.shape, self.order))

    @property
    def placements(self) -> tuple[Placement, ...]:
        """As placements."""
        found = [placement_of(t) for t in self.types]
        for place, axis in enumerate(self.order or ()):
            first = [b for b in self._before(axis, place) if b > axis]
            if first:
                dim, sizes = self.types[axis].dim, [self.mesh.size(b) for b in first]
                assert dim is not None
                found[axis] = _StridedShard(dim, math.prod(sizes))
        return tuple(found)

    @property
    def cutting(self) -> tuple[int, ...]:
        """The axes in the order in which they cut."""
        return tuple(range(len(self.types))) if self.order is None else self.order

    def _before(self, axis: int, place: int) -> list[int]:
        """The axes that cut the dimension of one before it."""
        dim = self.types[axis].dim
        return [b for b in self.cutting[:place] if dim is not None and self.types[b].dim == dim]

    def sizes(self, axis: int) -> tuple[int, ...]:
        """The sizes of the parts along an axis of type S, of what the axes before it leave."""
        dim = self.types[axis].dim
        assert dim is not None
        size = self.shape[dim]
        place = self.mesh.get_coordinate()
        for before in self._before(axis, self.cutting.index(axis)):
            size = part_sizes(size, self.mesh.size(before))[place[before]]
        return part_sizes(size, self.mesh.size(axis))

    @property
    def local_shape(self) -> tuple[int, ...]:
        """Of this rank's part."""
        found = list(self.shape)
        place = self.mesh.get_coordinate()
        for axis in self.cutting:
            dim = self.types[axis].dim
            if dim is not None:
                found[dim] = self.sizes(axis)[place[axis]]
        return tuple(found)

    def along(self, axis: int, t: Type) -> Layout:
        """With another type along one axis."""
        return replace(self, types=(*self.types[:axis], t, *self.types[axis + 1 :]))


def normal(placements: Sequence[Placement] | None, mesh: Any, ndim: int) -> tuple[Type, ...]:
    """The types of placements as users write them: dimensions may count from the end.

    Raises:
        ValueError: there is not one for each axis of the mesh, or no such dimension.
        NotImplementedError: Partial of another reduction than the sum.
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
        elif isinstance(p, Partial) and p.reduce_op != "sum":
            raise NotImplementedError(f"{p!r}: terms are added up, by Partial('sum')")
        else:
            found.append(type_of(p))
    return tuple(found)


def order_of(placements: Sequence[Placement] | None, mesh: Any) -> tuple[int, ...] | None:
    """The order of the axes in which they cut; None: as they come.

    Raises:
        NotImplementedError: a `_StridedShard` of what the axes after it do not cut into as many.
    """
    given = list(placements or ())
    order = list(range(len(given)))
    for axis in reversed(order.copy()):
        p = given[axis]
        if not isinstance(p, _StridedShard) or p.split_factor == 1:
            continue
        parts, last = 1, -1
        for place, b in enumerate(order):
            q = given[b]
            if b > axis and isinstance(q, Shard) and q.dim == p.dim and parts < p.split_factor:
                parts, last = parts * mesh.size(b), place
        if parts != p.split_factor:
            raise NotImplementedError(
                f"{p!r} along axis {axis} of a mesh of {tuple(mesh.shape)}: the axes after it do "
                f"not cut dimension {p.dim} into {p.split_factor} parts first"
            )
        order.insert(last, order.pop(order.index(axis)))
    return None if order == sorted(order) else tuple(order)


def laid(placements: Sequence[Placement] | None, mesh: Any, shape: Sequence[int]) -> Layout:
    """The layout of a whole with placements as users write them (`normal`)."""
    types = normal(placements, mesh, len(shape))
    return Layout(mesh, types, tuple(shape), order_of(placements, mesh))


def redistributed(local: Tensor, have: Layout, want: Layout) -> Tensor:
    """This rank's part of the same tensor in another layout; differentiable."""
    for move in route(have, want):
        local = move.apply(local)
    return local


def route(have: Layout, to: Layout) -> list[Move]:
    """The moves from one layout to another.

    A part of a part is a part of what the axes before it leave. So an axis is made anew where it
    differs, and where an axis before it that is made anew splits, or shall split, its dimension:
    first all of them are made whole from the last axis on, then cut from the first on. Where they
    shall cut in another order, all are made whole first.
    """
    if have.order != to.order:
        whole = tuple(I if t.dim is not None else t for t in have.types)
        between = replace(to, types=whole)
        return [*route(have, replace(have, types=whole)), *route(between, to)]
    want = to.types
    anew: list[int] = []
    for axis in have.cutting:
        t = have.types[axis]
        touched = {d for k in anew for d in (have.types[k].dim, want[k].dim)} - {None}
        if t != want[axis] or t.dim in touched:
            anew.append(axis)
    found: list[Move] = []
    for axis in reversed(anew):
        t = have.types[axis]
        if t != I:
            made = want[axis] if t != want[axis] and _at_once(have, want, axis) else I
            found += _along(have, axis, made)
            have = have.along(axis, made)
    for axis in anew:
        if have.types[axis] != want[axis]:
            found += _along(have, axis, want[axis])
            have = have.along(axis, want[axis])
    return found


def _at_once(have: Layout, want: tuple[Type, ...], axis: int) -> bool:
    """Whether one collective goes from one split to another, or from terms to a split."""
    t, to = have.types[axis], want[axis]
    if to.dim is None:
        return False
    dims = {t.dim, to.dim} - {None}
    others = {x.dim for types in (have.types, want) for k, x in enumerate(types) if k != axis}
    even = all(have.shape[d] % have.mesh.size(axis) == 0 for d in dims if d is not None)
    return not dims & others and (t == P or even)


def _along(have: Layout, axis: int, want: Type) -> list[Move]:
    """A change of type along one axis: one move, or two."""
    group, t = have.mesh.get_group(axis), have.types[axis]
    if t == I and want == P:
        whole = Move("convert", group, "Invariant", "Replicated")
        return [whole, Move("convert", group, "Replicated", "Partial")]
    if t == P and want == I:
        return [Move("all_reduce", group, "Partial", "Invariant")]
    if want.dim is not None:
        sizes = have.along(axis, want).sizes(axis)
        if t.dim is not None:
            return [Move("all_to_all", group, "Varying", "Varying", t.dim, want.dim)]
        verb = "convert" if t == I else "reduce_scatter"
        return [Move(verb, group, t.word, "Varying", want.dim, 0, sizes)]
    assert t.dim is not None
    verb = "all_gather" if want == I else "convert"
    return [Move(verb, group, "Varying", want.word, t.dim, 0, have.sizes(axis))]
