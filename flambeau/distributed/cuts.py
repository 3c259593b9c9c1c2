"""Parameters cut over ranks, as the rows of numbers that `fully_shard` sends: how parts become rows
and rows parts, and which rows are sent together."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import flambeau.nn.functional as F
from flambeau.distributed.mesh import DeviceMesh
from flambeau.distributed.tensor.api import DTensor
from flambeau.distributed.tensor.placement import Placement
from flambeau.tensor import Tensor


@dataclass(frozen=True)
class Cut:
    """How one parameter is cut.

    Attributes:
        dim: the dimension.
        sizes: of the ranks' parts along it, the longest first.
        rest: the other dimensions of what is cut.
        before: mesh and placements of the parameter where it was a `DTensor` before.
        shape: of the whole.
    """

    dim: int
    sizes: tuple[int, ...]
    rest: tuple[int, ...]
    before: tuple[DeviceMesh, tuple[Placement, ...]] | None
    shape: tuple[int, ...]

    @property
    def length(self) -> int:
        """Of the row that a part is: Note [Together]."""
        return self.sizes[0] * math.prod(self.rest)

    def row(self, part: Tensor) -> Tensor:
        """A rank's part as a row, (length,)."""
        return _filled(_moved(part, self.dim, 0), self.sizes[0]).reshape(self.length)

    def part(self, row: Tensor, rank: int) -> Tensor:
        """The part of a rank from its row, (length,)."""
        found = _begin(row.view(self.sizes[0], *self.rest), self.sizes[rank])
        return _moved(found, 0, self.dim)

    def rows(self, whole: Tensor) -> Tensor:
        """All parts as rows, (ranks, length)."""
        ranks = len(self.sizes)
        moved = _filled(_moved(whole, self.dim, 0), ranks * self.sizes[0])
        return moved.reshape(ranks, self.length)

    def whole(self, rows: Tensor) -> Tensor:
        """What was cut, from its parts as rows, (ranks, length)."""
        found = rows.reshape(len(self.sizes) * self.sizes[0], *self.rest)
        return _moved(_begin(found, sum(self.sizes)), 0, self.dim)

    def handed_out(self, whole: Tensor) -> Tensor:
        """A gathered parameter as the module had it."""
        if self.before is None:
            return whole
        mesh, placements = self.before
        return DTensor.from_local(whole, mesh, placements, shape=self.shape)


def _moved(t: Tensor, source: int, destination: int) -> Tensor:
    return t if source == destination else t.movedim(source, destination)


def _filled(t: Tensor, size: int) -> Tensor:
    """A tensor with zeros behind it along dimension 0, `size` in all."""
    return F.pad(t, (0, 0) * (t.dim() - 1) + (0, size - len(t))) if len(t) < size else t


def _begin(t: Tensor, size: int) -> Tensor:
    """The beginning of a tensor along dimension 0."""
    return t[:size] if size < len(t) else t


def alike(values: dict[int, Tensor]) -> list[list[int]]:
    """The keys of tensors that can be sent together: of one dtype."""
    found: dict[Any, list[int]] = {}
    for k, t in values.items():
        found.setdefault(t.dtype, []).append(k)
    return list(found.values())


__all__ = ["Cut", "alike"]
