"""The loop IR: regions, the unit of fusion, and the index maps their accesses go by.

A region is one iteration space (its `dims`, row-major) with a set of values computed in it. The
dimensions in `reduced` are looped over inside one parallel iteration, so that a reduction and what
uses its result share a row while it is in cache. Every value has a map: where its element stands in
the value's own row-major storage, as an affine function of the iteration space's coordinates. Two
accesses with equal maps are the same element, which is all the fusion pass has to know.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from flambeau.ir.graph import Node
from flambeau.ir.symbol import divides
from flambeau.size import contiguous_strides


@dataclass(frozen=True, slots=True)
class Map:
    """offset + sum of coefficient * coordinate over the region's dimensions."""

    offset: int
    coefficients: tuple[int, ...]


def common_refinement(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...] | None:
    """The coarsest split of both size lists (same product), or None where they do not nest.

    Symbolic sizes nest where they do so whatever they are.
    """
    if math.prod(a) != math.prod(b):
        return None
    bounds = set()
    for sizes in (a, b):
        step = 1
        for n in reversed(sizes):
            step *= n
            bounds.add(step)
    bounds.discard(1)
    result: list[int] = []
    last = 1
    for bound in sorted(bounds):
        if not divides(last, bound):
            return None
        result.append(bound // last)
        last = bound
    return tuple(reversed(result))


def split_coordinates(
    m: Map, shape: tuple[int, ...], dims: tuple[int, ...]
) -> list[tuple[int, tuple[int, ...]]] | None:
    """The coordinates in `shape` of a flat map: per dimension (offset, coefficients), or None.

    None means that some coordinate would carry into the next dimension.
    """
    strides = contiguous_strides(shape)
    offset = m.offset
    starts = []
    for s, n in zip(strides, shape, strict=True):
        k = offset // s if n > 1 else 0
        starts.append(k)
        offset -= k * s
    if offset:
        return None
    rows = [[0] * len(dims) for _ in shape]
    reach = list(starts)
    for d, c in enumerate(m.coefficients):
        if not c or dims[d] == 1:
            continue
        if c < 0:
            return None
        for i, (s, n) in enumerate(zip(strides, shape, strict=True)):
            if n > 1 and c >= s:
                if c % s:
                    return None
                rows[i][d] = c // s
                reach[i] += (dims[d] - 1) * (c // s)
                break
        else:
            return None
    if any(r >= max(n, 1) for r, n in zip(reach, shape, strict=True)):
        return None
    return [(k, tuple(row)) for k, row in zip(starts, rows, strict=True)]


def flatten_coordinates(
    coordinates: list[tuple[int, tuple[int, ...]]], strides: tuple[int, ...], offset: int, rank: int
) -> Map:
    """The flat map of coordinates under strides."""
    total = [0] * rank
    for (start, row), s in zip(coordinates, strides, strict=True):
        offset += start * s
        for d, c in enumerate(row):
            total[d] += c * s
    return Map(offset, tuple(total))


def through_view(m: Map, view: Node, dims: tuple[int, ...]) -> Map | None:
    """Where an access of a view node falls in its source's storage."""
    strides, offset = view.attrs
    if strides == contiguous_strides(view.shape):
        return Map(m.offset + offset, m.coefficients)
    coordinates = split_coordinates(m, view.shape, dims)
    if coordinates is None:
        return None
    return flatten_coordinates(coordinates, strides, offset, len(dims))


def through_broadcast(
    m: Map, shape: tuple[int, ...], source: tuple[int, ...], dims: tuple[int, ...]
) -> Map | None:
    """Where an access of an elementwise node of `shape` falls in a source of another shape."""
    if shape == source:
        return m
    if math.prod(source) == 1:
        return Map(0, (0,) * len(dims))
    coordinates = split_coordinates(m, shape, dims)
    if coordinates is None:
        return None
    strides = [0 if n == 1 else s for n, s in zip(source, contiguous_strides(source), strict=True)]
    return flatten_coordinates(
        coordinates[len(shape) - len(source) :], tuple(strides), 0, len(dims)
    )


@dataclass(eq=False)
class Region:
    """Values computed in one iteration space.

    Attributes:
        number: its place among the steps, for the dependence bit sets.
        dims: sizes of the iteration space, size-1 dimensions dropped.
        reduced: positions of the dimensions looped over inside an iteration.
        members: nodes computed here, sources first.
        maps: the map of each member.
        stores: members that are written to memory, with the map of the destination.
    """

    number: int
    dims: tuple[int, ...]
    reduced: frozenset[int] = frozenset()
    members: list[Node] = field(default_factory=list)
    maps: dict[Node, Map] = field(default_factory=dict)
    stores: dict[Node, Map] = field(default_factory=dict)
    forced: set[Node] = field(default_factory=set)  # free values that are loaded all the same

    def natural(self, kept_only: bool = False) -> Map:
        """The row-major map over all dimensions, or over those that are not reduced."""
        step = 1
        coefficients = [0] * len(self.dims)
        for d in reversed(range(len(self.dims))):
            if kept_only and d in self.reduced:
                continue
            coefficients[d] = step
            step *= self.dims[d]
        return Map(0, tuple(coefficients))

    @property
    def backwards(self) -> bool | None:
        """Whether its scans run from the end of their axis; None without scans."""
        return next((n.attrs[1] for n in self.members if n.op.kind == "scan"), None)

    def kept(self) -> tuple[int, ...]:
        """Sizes of the dimensions that are not reduced."""
        return tuple(n for d, n in enumerate(self.dims) if d not in self.reduced)

    def refined(self, finer: tuple[int, ...]) -> None:
        """Split dimensions so that the iteration space has the sizes `finer`."""
        if finer == self.dims:
            return
        groups: list[list[int]] = []
        at = 0
        for n in self.dims:
            group = []
            product = 1
            while product < n:
                group.append(finer[at])
                product *= finer[at]
                at += 1
            groups.append(group)
        reduced: set[int] = set()
        place = 0
        for d, group in enumerate(groups):
            if d in self.reduced:
                reduced.update(range(place, place + len(group)))
            place += len(group)
        self.maps = {n: _refine(m, groups) for n, m in self.maps.items()}
        self.stores = {n: _refine(m, groups) for n, m in self.stores.items()}
        self.dims = finer
        self.reduced = frozenset(reduced)


def _refine(m: Map, groups: list[list[int]]) -> Map:
    coefficients: list[int] = []
    for c, group in zip(m.coefficients, groups, strict=True):
        step = c
        part = []
        for n in reversed(group):
            part.append(step)
            step *= n
        coefficients.extend(reversed(part))
    return Map(m.offset, tuple(coefficients))


def box_of(
    attrs: tuple[tuple[int, ...], tuple[int, ...], int], shape: tuple[int, ...]
) -> tuple[tuple[int, int], ...] | None:
    """Where a write of (shape, strides, offset) begins and ends in each dimension of its base.

    None where the write is no box of the base's dimensions, or a size is symbolic.
    """
    sizes, strides, offset = attrs
    if any(type(n) is not int for n in (*sizes, *shape, offset)):
        return None
    if len(sizes) != len(shape) or strides != contiguous_strides(shape) or 0 in sizes:
        return None
    box = []
    for size, stride, most in zip(sizes, strides, shape, strict=True):
        start, offset = divmod(offset, stride)
        if start + size > most:
            return None
        box.append((start, start + size))
    return tuple(box) if not offset else None


def squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without its size-1 dimensions."""
    return tuple(n for n in shape if n != 1)
