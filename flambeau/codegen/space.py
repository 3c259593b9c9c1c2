"""A region's iteration space as its kernel walks it: loops, lanes, and the phases of its members.

Neighbouring dimensions that every access walks as one are one loop. A phase is a loop over the
reduced dimensions: a value that needs a reduction's result belongs to a later phase than the
reduction, and what it reads of earlier phases is kept in a row buffer or computed again.
"""

from __future__ import annotations

import math

from flambeau.codegen.lowerings import BITS, TYPES
from flambeau.ir.graph import Node
from flambeau.ir.region import (
    Map,
    Region,
    flatten_coordinates,
    split_coordinates,
    through_broadcast,
    through_view,
)
from flambeau.size import contiguous_strides

_ROW_BUFFER_LIMIT = 128 << 10  # bytes of row buffers an iteration may keep on its stack


def is_row_level(region: Region, node: Node) -> bool:
    """Whether a member has a value for every coordinate of the reduced dimensions."""
    if node.op.kind == "reduce":
        return False
    m = region.maps[node].coefficients
    return any(m[d] for d in region.reduced) or not region.reduced


def member_reads(region: Region, node: Node, free: set[Node]) -> list[Node]:
    """Members that a member's value is made from, through views and free values."""
    found = []
    stack = [s for s in (node.src[1:] if node.op.kind == "index" else node.src) if type(s) is Node]
    while stack:
        s = stack.pop()
        if s in region.maps:
            found.append(s)
        elif s.op.kind == "view":
            stack.append(s.src[0])
        elif s in free:
            stack.extend(x for x in s.src if type(x) is Node)
    return found


LASTING = 4 << 20  # bytes of a result that may be more than the last cache has for it
SHORT = 8  # elements of an innermost dimension that are too few for a loop of their own


class Space:
    """The loops of a region, and what is computed in which."""

    def __init__(
        self, region: Region, free: set[Node], vector_bytes: int, inner: int | None = None
    ) -> None:
        """`inner`: elements of the trailing dimensions that stay apart from the leading ones."""
        self.region = region
        self.inner = inner
        self.free = free - region.forced
        self.dims = region.dims
        self.form = (
            "map"
            if not region.reduced
            else ("rows" if len(region.dims) - 1 in region.reduced else "columns")
        )
        self.reduced = region.reduced
        self.vector = len(region.dims) - 1 if region.dims else None
        # index nodes: where the dimensions that are not indexed fall in their source
        self.rest: dict[Node, tuple[list[int], Map]] = {
            n: self.gathered(n, region.maps[n]) for n in region.members if n.op.kind == "index"
        }
        self.collapse()
        if inner is None and self.dims:
            (self.lengthen if self.form == "map" else self.turn)()
        self.lanes = lanes_for(region, self.dims, self.reduced, vector_bytes)
        self.band = False
        self.tile = self.tile_dim()
        if self.tile is not None:
            self.lanes = max(vector_bytes // 4, 4)
        self.plan()
        if self.banded():
            self.band = True
            self.lanes = lanes_for(region, self.dims, frozenset(), vector_bytes)

    # -- the iteration space ----------------------------------------------------------------------

    def collapse(self) -> None:
        """Merge neighbouring dimensions that every access walks as one into one loop.

        Maps stay in the region's own dimensions; `fold` takes them to the loops'.
        """
        region = self.region
        maps = self.final = self.all_maps()
        groups = [[d] for d in range(len(region.dims))]
        k = len(groups) - 2
        while k >= 0:
            d, e = groups[k][-1], groups[k + 1][0]
            size = math.prod(region.dims[x] for x in groups[k + 1])
            inner = groups[k + 1][-1]
            same = (d in region.reduced) == (e in region.reduced)
            same = same and math.prod(region.dims[e:]) != self.inner
            if same and all(m.coefficients[d] == m.coefficients[inner] * size for m in maps):
                groups[k : k + 2] = [groups[k] + groups[k + 1]]
            k -= 1
        self.last = [g[-1] for g in groups]
        self.dims = tuple(math.prod(region.dims[d] for d in g) for g in groups)
        self.reduced = frozenset(k for k, g in enumerate(groups) if g[0] in region.reduced)
        self.vector = len(self.dims) - 1 if self.dims else None

    def turn(self) -> None:
        """Let lanes run along the dimension that memory is contiguous in.

        A reduction over a dimension that a view has put last walks rows whose elements are far
        apart; columns beside each other are then next to each other in memory. One over a dimension
        that a view has taken from the end walks columns of which the same is true the other way.
        """
        last = len(self.dims) - 1
        folded = [self.fold(m).coefficients for m in self.memory]
        walked = [c for c in folded if any(c[d] for d in self.reduced)]
        if any(abs(c[last]) <= 1 for c in walked) or any(
            n.op.kind in ("index", "scan") for n in self.region.members
        ):
            return
        rows = self.form == "rows"
        found = [
            d
            for d in range(last)
            if (d in self.reduced) != rows
            and self.dims[d] >= 8
            and all(c[d] in (0, 1) for c in walked)
        ]
        if found and any(c[found[-1]] for c in walked):
            self.run_along(found[-1])
            self.form = "columns" if rows else "rows"

    def lengthen(self) -> None:
        """Let lanes of a map run along a longer dimension where the last one is a few elements.

        That is where a view has put channels or neighbours last, which are far apart in memory, and
        pixels lie near one another in all that is read and written.
        """
        last = len(self.dims) - 1
        if self.dims[last] >= SHORT:
            return
        folded = [self.fold(m).coefficients for m in self.memory]
        apart = lambda d: sum(abs(c[d]) > 1 for c in folded)
        found = [
            d
            for d in range(last)
            if self.dims[d] >= 2 * SHORT and all(abs(c[d]) <= 2 * SHORT for c in folded)
        ]
        if found and apart(last):
            best = min(found, key=apart)
            if apart(best) <= apart(last):
                self.run_along(best)

    def run_along(self, dim: int) -> None:
        """Make a dimension the innermost one."""
        order = [*(d for d in range(len(self.dims)) if d != dim), dim]
        self.last = [self.last[d] for d in order]
        self.dims = tuple(self.dims[d] for d in order)
        self.reduced = frozenset(k for k, d in enumerate(order) if d in self.reduced)

    def banded(self) -> bool:
        """Whether rows are walked along, many columns at once.

        Where one loop over the rows does it, and they are longer than a block of lanes. A product's
        epilogue (`inner`) has its rows in a near cache, and blocks for units.
        """
        return (
            self.form == "columns"
            and self.inner is None
            and self.phases == 1
            and self.dims[-1] > self.lanes
            and not any(
                n.op.kind in ("index", "scan") or n.op.name.startswith("arg")
                for n in self.region.members
            )
            and all(self.fold(m).coefficients[-1] in (0, 1) for m in self.final)
        )

    def tile_dim(self) -> int | None:
        """For a map that reads across the vector dimension: the dimension it is contiguous in.

        A few of its coordinates are walked for each vector, so that a cache line that a gather
        touches is used whole before it goes.
        """
        v = self.vector
        if self.form != "map" or v is None or self.dims[v] < 8:
            return None
        for m in self.final:
            c = self.fold(m).coefficients
            if abs(c[v]) > 1:
                for u, k in enumerate(c):
                    if k == 1 and u != v and self.dims[u] >= 8:
                        return u
        return None

    def fold(self, m: Map) -> Map:
        """A map over the loops' dimensions."""
        return Map(m.offset, tuple(m.coefficients[d] for d in self.last))

    def all_maps(self) -> list[Map]:
        """Every map an access of the region goes by."""
        found: set[Map] = set(self.region.stores.values())
        self.memory = set(found)  # those that go to memory
        seen: set[tuple[Node, Map]] = set()

        def visit(node: Node, m: Map) -> None:
            if (node, m) in seen:
                return
            seen.add((node, m))
            found.add(m)
            if node.op.kind != "view" and node not in self.free and node not in self.region.maps:
                self.memory.add(m)
            for s, inner in self.sources(node, m):
                if inner is not None:
                    visit(s, inner)

        for node in self.region.members:
            own = self.region.maps[node]
            visit(node, self.region.natural() if node.op.kind == "reduce" else own)
            found.add(own)
            if node.op.kind == "index":
                found.add(self.rest[node][1])
        return list(found)

    def lasting(self, size: int) -> bool:
        """Whether elements of `size` bytes all over the loops may fill the last cache."""
        return not all(type(n) is int for n in self.dims) or math.prod(self.dims) * size >= LASTING

    def sources(self, node: Node, m: Map) -> list[tuple[Node, Map | None]]:
        """A node's sources with the maps they are read by; members are not entered."""
        kind = node.op.kind
        if node in self.region.maps and self.region.maps[node] != m and kind != "reduce":
            return []
        if kind == "view":
            return [(node.src[0], through_view(m, node, self.region.dims))]
        if node not in self.region.maps and node not in self.free:
            return []
        if kind == "reduce":
            return [(node.src[0], m)]
        if kind == "index":
            shape = node.src[1].shape
            padded = (*shape, *(1,) * (len(node.shape) - len(shape)))
            inner = through_broadcast(m, node.shape, padded, self.region.dims)
            return [(s, inner) for s in node.src[1:]]
        return [
            (s, through_broadcast(m, node.shape, s.shape, self.region.dims))
            for s in node.src
            if type(s) is Node
        ]

    def gathered(self, node: Node, m: Map) -> tuple[list[int], Map]:
        """For an index node: strides of the indexed dimensions, map of the others."""
        x = node.src[0]
        strides, offset = x.attrs if x.op.kind == "view" else (contiguous_strides(x.shape), 0)
        k = len(node.src) - 1
        coordinates = split_coordinates(m, node.shape, self.region.dims)
        assert coordinates is not None
        lead = node.src[1].shape
        rest = flatten_coordinates(
            coordinates[len(lead) :], strides[k:], offset, len(self.region.dims)
        )
        return list(strides[:k]), rest

    # -- phases -----------------------------------------------------------------------------------

    def plan(self) -> None:
        """Decide the phase of every needed member, and which keep a row buffer."""
        region = self.region
        needed: set[Node] = set()
        stack = list(region.stores)
        while stack:
            n = stack.pop()
            if n not in needed:
                needed.add(n)
                stack.extend(member_reads(region, n, self.free))
        self.members = [n for n in region.members if n in needed]
        self.phase: dict[Node, int] = {}
        for n in self.members:
            level = 0
            for s in member_reads(region, n, self.free):
                level = max(level, self.phase[s] + (s.op.kind == "reduce"))
            self.phase[n] = level
        self.row_level = {n for n in self.members if is_row_level(region, n)}
        for n in (x for x in self.members if x in self.row_level):
            for s in member_reads(region, n, self.free):
                if s not in self.row_level:
                    self.phase[n] = max(self.phase[n], self.phase[s] + (s.op.kind == "reduce"))
        work = [p for n, p in self.phase.items() if n in self.row_level or n.op.kind == "reduce"]
        self.phases = max(work, default=0) + 1
        self.buffered: set[Node] = set()
        if region.reduced:
            length = math.prod(self.dims[d] for d in self.reduced)
            width = self.lanes if self.form == "columns" else 1
            budget = _ROW_BUFFER_LIMIT
            for n in self.members:
                if n not in self.row_level or n in region.stores or not self.costly(n):
                    continue
                used_later = any(
                    n in member_reads(region, u, self.free) and self.phase[u] > self.phase[n]
                    for u in self.members
                )
                size = length * width * BITS[TYPES[n.dtype.name][1]] // 8 or length * width
                if used_later and size <= budget:
                    budget -= size
                    self.buffered.add(n)

    def gathers(self, node: Node, m: Map) -> bool:
        """Whether a value reads memory whose elements along the vector dimension lie apart."""
        for s, inner in self.sources(node, m):
            if inner is None or s in self.region.maps:
                continue
            if s.op.kind == "view" or s in self.free:
                if self.gathers(s, inner):
                    return True
            elif abs(self.fold(inner).coefficients[-1]) > 1:
                return True
        return False

    def costly(self, node: Node) -> bool:
        """Whether computing a row value again costs more than loading it."""
        return (
            node.op.expensive
            or node.op.kind in ("index", "scan")
            or self.gathers(node, self.region.maps[node])
            or any(
                s in self.row_level and self.costly(s)
                for s in member_reads(self.region, node, self.free)
                if s not in self.region.stores
            )
        )


def lanes_for(
    region: Region, dims: tuple[int, ...], reduced: frozenset[int], vector_bytes: int
) -> int:
    """Lanes of a region: float32 vectors, wider for short bodies, whose chains need the overlap."""
    base = max(vector_bytes // 4, 4)
    if any(n.op.name.startswith("arg") or n.op.kind in ("index", "scan") for n in region.members):
        return base
    if not dims:
        return 1
    last = len(dims) - 1
    size = len(region.members)
    if reduced and last not in reduced:
        factor = 8 if size <= 2 else 4 if size <= 8 else 2 if size <= 20 else 1
    else:
        factor = 4 if size <= 3 else 2 if size <= 8 else 1
    widest = max((n.dtype.itemsize for n in region.members), default=4)
    if widest == 8:
        factor = max(factor // 2, 1)
    while factor > 1 and dims[last] < base * factor:
        factor //= 2
    return base * factor
