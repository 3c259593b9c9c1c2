"""A region as LLVM IR: explicit vectors, sizes and strides as run-time arguments.

The kernel gets a table of 64-bit words (addresses, sizes, strides, numbers); which words it needs
is returned beside the text, so that one compiled kernel serves every shape of the same structure.

Three forms of one scheme, by where the vector dimension (the innermost) belongs:

    map      no reduced dimensions: a unit of parallel work is a stretch of the innermost dimension
    rows     the innermost dimension is reduced: a unit is one row; vectors run along it
    columns  the innermost dimension is kept: a unit is a block of lanes; rows run one after another

Where one loop over the rows is enough, a unit of columns is a band: a thousand of them, so that
memory is read in order, with their reductions on the stack.

Values of one region that need a reduction's result are computed in a later loop over the same row
(a phase); what an earlier phase made is loaded again, computed again, or kept in a row buffer.

Note [Stores around the caches]
A loop that reads and writes more than the last cache holds leaves nothing there for whoever reads
its results, and each line that it writes is read first. So such results are stored around the
caches, which leaves the bus to what is read, and the cache to the sources. Sizes and places are
known when a program is linked: the word ("around", key) is LINE - 1 then, and what begins at a
multiple of LINE is stored so, or -1, and nothing is. Other threads see the stores in order, for a
loop ends with a locked instruction of each of its threads.

Note [Levels]
An SSA value has a level: 0 depends on nothing that changes, 1 on the unit's coordinates, 2 on the
loop. Lines go to the outermost place their level allows.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from flambeau.codegen.lowerings import (
    BITS,
    LOWERINGS,
    TYPES,
    Builder,
    Value,
    cast,
    literal,
    random_bits,
    vector_type,
)
from flambeau.codegen.space import Space
from flambeau.ir.graph import Argument, Node
from flambeau.ir.region import (
    Map,
    Region,
    through_broadcast,
    through_view,
)

LINE = 64  # bytes of a cache line
FAR = 1024  # bytes between rows from which they are asked for ahead of time
ROWS_AHEAD = 10
TILE = 16  # at least as many as lanes; coordinates of a tile's second dimension
STRETCH = 4096  # elements of the innermost dimension in one unit of a map
BAND = 1024  # columns of a band, at most; their reductions are kept on the stack


@dataclass(eq=False)
class Kernel:
    """A region's code: `text` defines `@{name}(ptr table)`, `slots` say what the table holds.

    Slots are tuples: ("error",) ("size", d) ("units",) ("grain",) ("address", key, offset)
    ("stride", n) ("number", Argument) ("around", key). An address key is a node (its memory).
    """

    name: str
    text: str
    slots: list[tuple[Any, ...]]
    math: set[tuple[str, str, int]] = field(default_factory=set)
    reads: dict[Any, set[Any]] = field(default_factory=dict)  # memory read -> its maps
    dims: tuple[int, ...] = ()  # of the loops
    reduced: frozenset[int] = frozenset()
    lanes: int = 1
    tile: int | None = None
    band: bool = False  # columns are walked in bands
    last_read: dict[Any, int] = field(default_factory=dict)  # memory read -> the last phase
    writes: dict[Node, int] = field(default_factory=dict)  # member stored -> its phase

    def may_overwrite(self, node: Node, m: Map, key: Any) -> bool:
        """Whether result `node`, stored at `m`, may take the place of what is read from `key`:
        each element is read where it is written, and nothing reads it after that."""
        return self.reads.get(key) == {m} and self.last_read[key] <= self.writes[node]


@dataclass
class Block:
    """The tile at hand, lanes by coordinates of the tile's dimension.

    Attributes:
        low: its first coordinate.
        lines: code that goes before the loop over its coordinates.
        places: (memory, map) -> where it is kept, the lanes of a coordinate side by side.
    """

    low: Value
    lines: list[str] = field(default_factory=list)
    places: dict[Any, Value] = field(default_factory=dict)


class Emitter(Space):
    """Builds one region's kernel."""

    def __init__(
        self, region: Region, free: set[Node], vector_bytes: int, inner: int | None = None
    ) -> None:
        super().__init__(region, free, vector_bytes, inner)
        self.b = Builder()
        self.entry: list[str] = []
        self.unit: list[str] = []
        self.loop: list[str] = []
        self.memos: list[dict[Any, Value]] = [{}, {}, {}]
        self.slots: list[tuple[Any, ...]] = []
        self.slot_values: dict[Any, Value] = {}
        self.mask: Value | None = None
        self.index: dict[int, Value] = {}
        self.results: dict[Node, Value] = {}
        self.rows: dict[Node, Value] = {}  # row buffers
        self.labels = 0
        self.block: Block | None = None
        self.reads: dict[Any, set[Any]] = {}
        self.last_read: dict[Any, int] = {}
        self.writes: dict[Node, int] = {}
        self.now = 0  # the phase that is being written

    # -- lines ------------------------------------------------------------------------------------

    def at(self, level: int) -> None:
        """Send following lines to a level."""
        self.b.lines = (self.entry, self.unit, self.loop)[level]

    def slot(self, what: tuple[Any, ...]) -> Value:
        """A word of the table, loaded once at the kernel's start."""
        known = self.slot_values.get(what)
        if known is None:
            at = len(self.slots)
            self.slots.append(what)
            before = self.b.lines
            self.b.lines = self.entry
            p = self.b.set(f"getelementptr i64, ptr %table, i64 {at}", "ptr", 1)
            if what[0] in ("address", "error"):
                known = self.b.set(f"load ptr, ptr {p.name}, align 8", "ptr", 1)
            elif what[0] == "number" and what[1].kind == "f":
                known = self.b.set(f"load double, ptr {p.name}, align 8", "double", 1)
            else:
                known = self.b.set(f"load i64, ptr {p.name}, align 8", "i64", 1)
            self.b.lines = before
            self.slot_values[what] = known
        return known

    def label(self, name: str) -> str:
        """A label of the function that is not in use yet."""
        self.labels += 1
        return f"{name}{self.labels}"

    # -- addresses --------------------------------------------------------------------------------

    @property
    def first_lane(self) -> Value:
        """The coordinate of the vector dimension in a vector's first lane."""
        assert self.vector is not None
        return self.index[self.vector]

    def level_of(self, coefficients: tuple[int, ...]) -> int:
        """The level at which an address or value with these coefficients changes."""
        level = 0
        for d, c in enumerate(coefficients):
            if c and self.dims[d] > 1:
                level = max(level, self.dim_level(d))
        return level

    def dim_level(self, d: int) -> int:
        """The level at which a dimension's coordinate changes: 2 in the inner loop, else 1."""
        if self.form == "map":
            return 2 if d in (self.vector, self.tile) else 1
        return 2 if d in self.reduced or (self.band and d == self.vector) else 1

    def stride_times(self, c: int, coordinate: Value, level: int) -> Value:
        """coordinate * c, with c a table word unless it is 1."""
        if c == 1:
            return coordinate
        word = self.slot(("stride", c))
        self.at(level)
        return self.b.op("mul", coordinate, word)

    def address(self, key: Any, m: Map, element: str) -> tuple[Value, int]:
        """-> (pointer without the vector dimension's part, stride along it)."""
        pointer = self.slot(("address", key, m.offset))
        along = 0
        inner: list[tuple[int, int]] = []
        unit_part: Value | None = None
        for d, c in enumerate(m.coefficients):
            if not c:
                continue
            if d == self.vector:
                along = c
                continue
            if self.dim_level(d) == 2:
                inner.append((d, c))
                continue
            part = self.stride_times(c, self.index[d], 1)
            self.at(1)
            unit_part = part if unit_part is None else self.b.op("add", unit_part, part)
        if unit_part is not None:
            memo = ("base", key, m.offset, m.coefficients, element)
            known = self.memos[1].get(memo)
            if known is None:
                self.at(1)
                known = self.b.set(
                    f"getelementptr {element}, ptr {pointer.name}, i64 {unit_part.name}",
                    "ptr",
                    1,
                    1,
                )
                self.memos[1][memo] = known
            pointer = known
        for d, c in inner:
            part = self.stride_times(c, self.index[d], 2)
            self.at(2)
            pointer = self.b.set(
                f"getelementptr {element}, ptr {pointer.name}, i64 {part.name}", "ptr", 1, 2
            )
        return pointer, along

    def lane_pointers(self, pointer: Value, stride: int, element: str, level: int) -> Value:
        """Pointers of all lanes for a stride that is not 1."""
        n = self.lanes
        step = self.slot(("stride", stride))
        self.at(level)
        first = self.b.op("mul", self.first_lane, step)
        start = self.b.set(
            f"getelementptr {element}, ptr {pointer.name}, i64 {first.name}", "ptr", 1
        )
        lane = self.iota(n)
        offsets = self.b.op("mul", lane, self.b.splat(step, n))
        return self.b.set(f"getelementptr {element}, ptr {start.name}, {offsets}", "ptr", n)

    def iota(self, n: int) -> Value:
        """0, 1, .. n - 1 as i64 lanes."""
        text = ", ".join(f"i64 {k}" for k in range(n))
        return Value(f"<{text}>" if n > 1 else "0", "i64", n)

    # -- memory -----------------------------------------------------------------------------------

    def read(self, key: Any, m: Map, dtype_name: str) -> Value:
        """Load at a map: a vector, or a scalar where the vector dimension does not matter."""
        memory, compute = TYPES[dtype_name]
        self.reads.setdefault(key, set()).add(m)
        self.last_read[key] = self.now
        m = self.fold(m)
        level = self.level_of(m.coefficients)
        memo = ("load", key, m)
        known = self.memos[level].get(memo)
        if known is not None:
            return known
        place = self.transposed(key, m, memory)
        if place is not None:
            value = self.widen(self.load_vector(place, memory), memory, compute)
            value = Value(value.name, value.type, value.lanes, level)
            self.memos[level][memo] = value
            return value
        pointer, along = self.address(key, m, memory)
        self.at(level)
        if not along or (self.lanes == 1 and self.vector is None):
            raw = self.b.set(f"load {memory}, ptr {pointer.name}", memory, 1)
        elif along == 1:
            place = self.b.set(
                f"getelementptr {memory}, ptr {pointer.name}, i64 {self.first_lane.name}",
                "ptr",
                1,
            )
            self.ask_ahead(place, m, memory, level)
            raw = self.load_vector(place, memory)
        elif along == -1:
            raw = self.load_backwards(pointer, memory)
        else:
            places = self.lane_pointers(pointer, along, memory, level)
            raw = self.gather(places, memory)
        value = self.widen(raw, memory, compute)
        value = Value(value.name, value.type, value.lanes, level)
        self.memos[level][memo] = value
        return value

    def ask_ahead(self, place: Value, m: Map, memory: str, level: int) -> None:
        """Ask for the lines of a later row of a block of columns: rows that are far apart are not a
        stream that the processor would follow. Into the second cache: in the first one, rows a
        power of two apart would take each other's places."""
        if self.form != "columns" or level != 2:
            return
        step = m.coefficients[max(self.reduced)]
        size = max(BITS[memory] // 8, 1)
        if abs(step) <= BAND if self.band else abs(step) * size < FAR:
            return
        rows = 1 if self.band else ROWS_AHEAD
        ahead = self.stride_times(step, self.b.const(rows, "i64", 1), 2)
        self.b.declared.add("declare void @llvm.prefetch.p0(ptr, i32, i32, i32)")
        far = self.b.set(f"getelementptr {memory}, ptr {place.name}, i64 {ahead.name}", "ptr", 1)
        for line in range(0, self.lanes * size, LINE):
            at = self.b.set(f"getelementptr i8, ptr {far.name}, i64 {line}", "ptr", 1)
            self.b.emit(f"call void @llvm.prefetch.p0(ptr {at.name}, i32 0, i32 2, i32 1)")

    def transposed(self, key: Any, m: Map, memory: str) -> Value | None:
        """Where the present vector of a read across the vector dimension lies, transposed.

        None if there is no whole tile, or the read is not contiguous in its dimension. The tile is
        transposed in registers before the loop over its coordinates.
        """
        block, tile, v = self.block, self.tile, self.vector
        if block is None or tile is None or v is None or BITS[memory] < 8:
            return None
        if m.coefficients[tile] != 1 or m.coefficients[v] in (0, 1):
            return None
        n = self.lanes
        place = block.places.get((key, m))
        if place is None:
            self.at(0)
            place = self.b.set(f"alloca [{TILE * n} x {memory}], align 64", "ptr", 1)
            block.places[key, m] = place
            loop, self.loop = self.loop, block.lines
            at, self.index[tile] = self.index[tile], block.low
            self.transpose(self.address(key, m, memory), memory, place)
            self.loop, self.index[tile] = loop, at
        self.at(2)
        row = self.b.op("sub", self.index[tile], block.low)
        row = self.b.op("mul", row, self.b.const(n, "i64", 1))
        return self.b.set(f"getelementptr {memory}, ptr {place.name}, i64 {row.name}", "ptr", 1, 2)

    def transpose(self, source: tuple[Value, int], memory: str, place: Value) -> None:
        """Read lanes of `TILE` neighbours each and write `TILE` vectors of lanes at `place`."""
        pointer, along = source
        n, size = self.lanes, max(BITS[memory] // 8, 1)
        step = self.slot(("stride", along))
        self.at(2)
        lane = self.b.op("mul", self.first_lane, step)
        rows = []
        for _ in range(n):
            rows.append(
                self.b.set(f"getelementptr {memory}, ptr {pointer.name}, i64 {lane.name}", "ptr", 1)
            )
            lane = self.b.op("add", lane, step)
        whole = vector_type(memory, n)
        for start in range(0, TILE, n):
            square = []
            for row in rows:
                at = self.b.set(f"getelementptr {memory}, ptr {row.name}, i64 {start}", "ptr", 1)
                square.append(self.b.set(f"load {whole}, ptr {at.name}, align {size}", memory, n))
            # log2(n) rounds of interleaving row i with row i + n/2
            for _ in range(n.bit_length() - 1):
                pairs = zip(square[: n // 2], square[n // 2 :], strict=True)
                square = [
                    self.interleave(a, b, half, memory) for a, b in pairs for half in range(2)
                ]
            for k, column in enumerate(square):
                at = self.b.set(
                    f"getelementptr {memory}, ptr {place.name}, i64 {(start + k) * n}", "ptr", 1
                )
                self.b.emit(f"store {column}, ptr {at.name}, align {size}")

    def interleave(self, a: Value, b: Value, half: int, memory: str) -> Value:
        """Lanes of the lower or upper half of a and b by turns."""
        n = self.lanes
        order = (k // 2 + half * (n // 2) + (k % 2) * n for k in range(n))
        picks = ", ".join(f"i32 {k}" for k in order)
        return self.b.set(f"shufflevector {a}, {b}, <{n} x i32> <{picks}>", memory, n)

    def load_vector(self, place: Value, memory: str) -> Value:
        """A vector of neighbours at `place`; lanes that the mask leaves out are zero."""
        n = self.lanes
        size = max(BITS[memory] // 8, 1)
        if self.mask is None:
            return self.b.set(
                f"load {vector_type(memory, n)}, ptr {place.name}, align {size}", memory, n
            )
        kind = f"v{n}{_short(memory)}"
        whole = vector_type(memory, n)
        self.b.declared.add(
            f"declare {whole} @llvm.masked.load.{kind}.p0(ptr, <{n} x i1>, {whole})"
        )
        return self.b.set(
            f"call {whole} @llvm.masked.load.{kind}.p0(ptr align {size} "
            f"{place.name}, {self.mask}, {whole} zeroinitializer)",
            memory,
            n,
        )

    def load_backwards(self, pointer: Value, memory: str) -> Value:
        """A vector of neighbours, each before the last, that ends at the first lane's place."""
        n = self.lanes
        last = self.b.op("add", self.first_lane, self.b.const(n - 1, "i64", 1))
        back = self.b.op("sub", self.b.const(0, "i64", 1), last)
        place = self.b.set(f"getelementptr {memory}, ptr {pointer.name}, i64 {back.name}", "ptr", 1)
        picks = ", ".join(f"i32 {k}" for k in reversed(range(n)))

        def turned(v: Value) -> Value:
            return self.b.set(
                f"shufflevector {v}, {v.full} poison, <{n} x i32> <{picks}>", v.type, n
            )

        mask = self.mask
        if mask is not None:
            self.mask = turned(mask)
        try:
            return turned(self.load_vector(place, memory))
        finally:
            self.mask = mask

    def gather(self, places: Value, memory: str) -> Value:
        """A vector whose lanes lie at the addresses in `places`."""
        n = self.lanes
        size = max(BITS[memory] // 8, 1)
        whole = vector_type(memory, n)
        name = f"llvm.masked.gather.v{n}{_short(memory)}.v{n}p0"
        self.b.declared.add(f"declare {whole} @{name}(<{n} x ptr>, <{n} x i1>, {whole})")
        mask = str(self.mask) if self.mask is not None else f"<{n} x i1> splat (i1 true)"
        return self.b.set(
            f"call {whole} @{name}(<{n} x ptr> align {size} {places.name}, {mask}, "
            f"{whole} zeroinitializer)",
            memory,
            n,
        )

    def widen(self, raw: Value, memory: str, compute: str) -> Value:
        """A value as it lies in memory, in the type that it is computed in."""
        if memory == compute:
            return raw
        if compute == "i1":
            return self.b.compare("ne", raw, self.b.const(0, "i8", raw.lanes))
        return self.b.convert("fpext", raw, compute)

    def narrow(self, v: Value, memory: str) -> Value:
        """A computed value in the type that it has in memory."""
        if memory == v.type:
            return v
        if v.type == "i1":
            return self.b.convert("zext", v, memory)
        return self.b.convert("fptrunc", v, memory)

    def store_vector(self, raw: Value, place: Value, size: int) -> None:
        """Store neighbours of `size` bytes at `place`, without those that the mask leaves out."""
        if self.mask is None:
            self.b.emit(f"store {raw}, ptr {place.name}, align {size}")
            return
        n, kind = raw.lanes, f"v{raw.lanes}{_short(raw.type)}"
        self.b.declared.add(
            f"declare void @llvm.masked.store.{kind}.p0({raw.full}, ptr, <{n} x i1>)"
        )
        self.b.emit(
            f"call void @llvm.masked.store.{kind}.p0({raw}, ptr align {size} "
            f"{place.name}, {self.mask})"
        )

    def store_around(self, key: Any, raw: Value, place: Value, size: int) -> None:
        """Store whole lines around the caches where the word of the result's memory says so."""
        word = self.slot(("around", key))
        self.at(2)
        address = self.b.set(f"ptrtoint ptr {place.name} to i64", "i64", 1)
        aligned = self.b.compare("eq", self.b.op("and", address, word), self.b.const(0, "i64", 1))
        around, through, out = (self.label(k) for k in ("around", "through", "stored"))
        self.b.emit(f"br i1 {aligned.name}, label %{around}, label %{through}")
        self.loop.append(f"{around}:")
        self.b.emit(f"store {raw}, ptr {place.name}, align {LINE}, !nontemporal !0")
        self.b.emit(f"br label %{out}")
        self.loop.append(f"{through}:")
        self.store_vector(raw, place, size)
        self.b.emit(f"br label %{out}")
        self.loop.append(f"{out}:")
        self.b.declared.add("!0 = !{i32 1}")

    def write(self, key: Any, m: Map, dtype_name: str, value: Value, level: int) -> None:
        """Store at a map."""
        memory, _ = TYPES[dtype_name]
        size = max(BITS[memory] // 8, 1)
        pointer, along = self.address(key, self.fold(m), memory)
        self.at(level)
        raw = self.narrow(value, memory)
        if not along and (self.vector is None or self.dim_level(self.vector) > level):
            self.b.emit(f"store {raw}, ptr {pointer.name}, align {size}")
            return
        n = self.lanes
        raw = self.b.splat(raw, n)
        if along == 1:
            place = self.b.set(
                f"getelementptr {memory}, ptr {pointer.name}, i64 {self.first_lane.name}",
                "ptr",
                1,
            )
            if self.mask is None and level == 2 and n * size % LINE == 0 and self.lasting(size):
                self.store_around(key, raw, place, size)
            else:
                self.store_vector(raw, place, size)
            return
        places = self.lane_pointers(pointer, along, memory, level)
        name = f"llvm.masked.scatter.v{n}{_short(memory)}.v{n}p0"
        mask = str(self.mask) if self.mask is not None else f"<{n} x i1> splat (i1 true)"
        self.b.declared.add(f"declare void @{name}({raw.full}, <{n} x ptr>, <{n} x i1>)")
        self.b.emit(f"call void @{name}({raw}, <{n} x ptr> align {size} {places.name}, {mask})")

    # -- values -----------------------------------------------------------------------------------

    def number(self, s: Any, element: str) -> Value:
        """A Python number or run-time argument as a scalar of a compute type."""
        if not isinstance(s, Argument):
            return Value(literal(s, element), element, 1)
        word = self.slot(("number", s))
        memo = ("number", s, element)
        known = self.memos[0].get(memo)
        if known is None:
            self.at(0)
            known = self.convert_number(word, element)
            self.memos[0][memo] = known
        return known

    def convert_number(self, word: Value, element: str) -> Value:
        """A number of the argument table (i64 or double) as an element type."""
        if word.type == element:
            return word
        if word.type == "double":
            return self.b.convert("fptrunc" if element == "float" else "fptosi", word, element)
        if element in ("float", "double"):
            return self.b.convert("sitofp", word, element)
        if element == "i1":
            return self.b.compare("ne", word, self.b.const(0, "i64", 1))
        return self.b.convert("trunc", word, element)

    def value(self, node: Node, m: Map, phase: int) -> Value:
        """The value of a node at a map, in the loop of `phase`."""
        region = self.region
        own = region.maps.get(node)
        if own is not None and own == m:
            return self.member(node, phase)
        if node.op.kind == "view":
            inner = through_view(m, node, self.region.dims)
            assert inner is not None
            return self.value(node.src[0], inner, phase)
        if node in self.free:
            return self.compute(node, m, phase, ("free", node, m))
        return self.read(node, m, node.dtype.name)

    def member(self, node: Node, phase: int) -> Value:
        """The value of a member of the region: a reduction's result, a row kept, or computed."""
        known = self.results.get(node)
        if known is not None:
            return known
        if node in self.row_level and self.phase[node] < phase:
            if node in self.region.stores:
                return self.read(self.destination(node), self.region.stores[node], node.dtype.name)
            if node in self.buffered:
                return self.read_row(node)
        memo = ("member", node)
        return self.compute(node, self.region.maps[node], phase, memo)

    def destination(self, node: Node) -> Any:
        """Whose memory a stored member is written to."""
        return ("store", node)

    def compute(self, node: Node, m: Map, phase: int, memo: Any) -> Value:
        """The value of a node at a map, from its sources; once per place where it can differ."""
        for level in (0, 1, 2):
            known = self.memos[level].get(memo)
            if known is not None:
                return known
        name = node.op.name
        if name in ("iota", "random_bits"):
            return self.positional(node, m, memo)
        element = TYPES[node.dtype.name][1]
        if name == "fill_value":
            v = self.number(node.src[0], element)
            self.memos[0][memo] = v
            return v
        if node.op.kind == "index":
            return self.indexed(node, m, phase, memo)
        if node.op.kind == "scan":
            found = self.scanned(node, self.value(node.src[0], m, phase))
            found = self.memos[2][memo] = Value(found.name, found.type, found.lanes, 2)
            return found
        sources = self.sources_at(node, m, phase)
        level = max((v.level for v in sources), default=0)
        lanes = max((v.lanes for v in sources), default=1)
        self.at(level)
        args = [self.b.splat(v, lanes) for v in sources]
        if name in ("cast", "to_dtype"):
            found = cast(self.b, args[0], node.src[0].dtype, node.dtype)
        elif name == "clone":
            found = args[0]
        else:
            self.b.error = lambda bad, what: self.report(bad, what, node, level)
            found = LOWERINGS[name](self.b, node, args)
        found = Value(found.name, found.type, found.lanes, level)
        self.memos[level][memo] = found
        return found

    def scanned(self, node: Node, x: Value) -> Value:
        """A scan at the present vector of its elements, `x`; `RegionEmitter` writes its loops."""
        raise NotImplementedError

    def sources_at(self, node: Node, m: Map, phase: int) -> list[Value]:
        """Values of a node's sources; numbers take the common type of the others."""
        kinds = [
            TYPES[s.dtype.name][1]
            for i, s in enumerate(node.src)
            if type(s) is Node and i not in node.op.fixed
        ]
        element = kinds[0] if kinds else TYPES[node.dtype.name][1]
        found = []
        for s in node.src:
            if type(s) is Node:
                inner = through_broadcast(m, node.shape, s.shape, self.region.dims)
                assert inner is not None
                found.append(self.value(s, inner, phase))
            else:
                found.append(self.number(s, element))
        return found

    def positional(self, node: Node, m: Map, memo: Any) -> Value:
        """iota and random bits: functions of the element's row-major index."""
        m = self.fold(m)
        level = self.level_of(m.coefficients)
        along = m.coefficients[self.vector] if self.vector is not None else 0
        total: Value = Value(str(m.offset), "i64", 1)
        if m.offset:
            total = self.slot(("stride", m.offset))
        for d, c in enumerate(m.coefficients):
            if c:
                part = self.stride_times(c, self.index[d], level)
                self.at(level)
                total = self.b.op("add", part, total)
        self.at(level)
        if along and self.lanes > 1:
            lane = self.iota(self.lanes)
            if along != 1:
                step = self.slot(("stride", along))
                self.at(level)
                lane = self.b.op("mul", lane, self.b.splat(step, self.lanes))
            total = self.b.op("add", self.b.splat(total, self.lanes), lane)
        if node.op.name == "random_bits":
            seed = self.number(node.src[0], "i64")
            offset = self.number(node.src[1], "i64")
            self.at(level)
            counter = self.b.op("add", total, self.b.splat(offset, total.lanes))
            total = random_bits(self.b, seed, counter)
        found = Value(total.name, "i64", total.lanes, level)
        self.memos[level][memo] = found
        return found

    def indexed(self, node: Node, m: Map, phase: int, memo: Any) -> Value:
        """A gather: addresses from index values, checked against the sizes."""
        memory, compute = TYPES[node.dtype.name]
        strides, rest = self.rest[node]
        rest = self.fold(rest)
        x = node.src[0]
        base = x.src[0] if x.op.kind == "view" else x
        shape = node.src[1].shape
        padded = (*shape, *(1,) * (len(node.shape) - len(shape)))
        inner = through_broadcast(m, node.shape, padded, self.region.dims)
        assert inner is not None
        indices = [self.value(s, inner, phase) for s in node.src[1:]]
        level = max(max(v.level for v in indices), self.level_of(rest.coefficients))
        lanes = max(v.lanes for v in indices)
        offset: Value | None = None
        for k, (v, stride) in enumerate(zip(indices, strides, strict=True)):
            size = self.slot(("stride", x.shape[k]))
            step = self.slot(("stride", stride))
            self.at(level)
            v = self.b.splat(v, lanes)
            if v.type != "i64":
                v = self.b.convert("sext", v, "i64")
            bad = self.b.compare("uge", v, self.b.splat(size, lanes))
            self.report(bad, "IndexError", node, level)
            safe = self.b.select(bad, self.b.const(0, "i64", lanes), v)
            part = self.b.op("mul", safe, self.b.splat(step, lanes))
            offset = part if offset is None else self.b.op("add", offset, part)
        assert offset is not None
        self.reads.setdefault(base, set()).add(None)
        pointer, along = self.address(base, rest, memory)
        self.at(level)
        if lanes == 1 and along in (0, 1):
            place = self.b.set(
                f"getelementptr {memory}, ptr {pointer.name}, i64 {offset.name}", "ptr", 1
            )
            if along == 0:
                raw = self.b.set(f"load {memory}, ptr {place.name}", memory, 1)
            else:
                at_lane = self.b.set(
                    f"getelementptr {memory}, ptr {place.name}, i64 {self.first_lane.name}",
                    "ptr",
                    1,
                )
                raw = self.load_vector(at_lane, memory)
        else:
            places = self.lane_pointers(pointer, along, memory, level) if along else pointer
            self.at(level)
            offsets = self.b.splat(offset, self.lanes)
            base_text = f"<{self.lanes} x ptr> {places.name}" if along else f"ptr {places.name}"
            all_places = self.b.set(
                f"getelementptr {memory}, {base_text}, {offsets}", "ptr", self.lanes
            )
            raw = (
                self.gather(all_places, memory)
                if self.lanes > 1
                else self.b.set(f"load {memory}, ptr {all_places.name}", memory, 1)
            )
        value = self.widen(raw, memory, compute)
        found = Value(value.name, value.type, value.lanes, level)
        self.memos[level][memo] = found
        return found

    def report(self, bad: Value, what: str, node: Node, level: int) -> None:
        """Write the error word when any active lane is bad."""
        if bad.lanes > 1:
            if self.mask is not None and self.mask.lanes == bad.lanes:
                bad = self.b.op("and", bad, self.mask)
            n = bad.lanes
            self.b.declared.add(f"declare i1 @llvm.vector.reduce.or.v{n}i1(<{n} x i1>)")
            bad = self.b.set(f"call i1 @llvm.vector.reduce.or.v{n}i1({bad})", "i1", 1)
        word = self.slot(("error",))
        code = self.slot(("code", what, node))
        self.at(level)
        yes, on = self.label("bad"), self.label("ok")
        self.b.emit(f"br i1 {bad.name}, label %{yes}, label %{on}")
        self.b.lines.append(f"{yes}:")
        self.b.emit(f"store i64 {code.name}, ptr {word.name}, align 8")
        self.b.emit(f"br label %{on}")
        self.b.lines.append(f"{on}:")

    # -- row buffers ------------------------------------------------------------------------------

    def row_place(self, node: Node) -> tuple[Value, Value]:
        """(address of the present element, start) of the row buffer of a member."""
        buffer = self.rows.get(node)
        element = TYPES[node.dtype.name][1]
        stored = "i8" if element == "i1" else element
        if buffer is None:
            count: Value | None = None
            for d in sorted(self.reduced):
                size = self.slot(("size", d))
                self.at(0)
                count = size if count is None else self.b.op("mul", count, size)
            assert count is not None
            self.at(0)
            total = self.b.op("add", count, self.b.const(0, "i64", 1))
            if self.form == "columns":
                total = self.b.op("mul", count, self.b.const(self.lanes, "i64", 1))
            buffer = self.b.set(f"alloca {stored}, i64 {total.name}, align 64", "ptr", 1)
            self.rows[node] = buffer
        place: Value | None = None
        for d in sorted(self.reduced):
            size = self.slot(("size", d))
            self.at(2)
            at = self.index[d]
            place = at if place is None else self.b.op("add", self.b.op("mul", place, size), at)
        assert place is not None
        self.at(2)
        if self.form == "columns":
            place = self.b.op("mul", place, self.b.const(self.lanes, "i64", 1))
        pointer = self.b.set(
            f"getelementptr {stored}, ptr {buffer.name}, i64 {place.name}", "ptr", 1
        )
        return pointer, buffer

    def read_row(self, node: Node) -> Value:
        """A member's value of an earlier phase, from its row buffer."""
        memo = ("row", node)
        known = self.memos[2].get(memo)
        if known is None:
            pointer, _ = self.row_place(node)
            element = TYPES[node.dtype.name][1]
            stored = "i8" if element == "i1" else element
            mask, self.mask = self.mask, self.mask if self.form == "rows" else None
            raw = self.load_vector(pointer, stored)
            self.mask = mask
            v = self.widen(raw, stored, element)
            known = Value(v.name, v.type, v.lanes, 2)
            self.memos[2][memo] = known
        return known

    def write_row(self, node: Node, value: Value) -> None:
        """Keep a member's value for later phases in its row buffer."""
        pointer, _ = self.row_place(node)
        element = TYPES[node.dtype.name][1]
        stored = "i8" if element == "i1" else element
        self.at(2)
        raw = self.b.splat(self.narrow(value, stored), self.lanes)
        mask, self.mask = self.mask, self.mask if self.form == "rows" else None
        self.store_vector(raw, pointer, max(BITS[stored] // 8, 1))
        self.mask = mask


def _short(memory: str) -> str:
    return {"float": "f32", "double": "f64", "half": "f16", "bfloat": "bf16"}.get(memory, memory)


def digest(text: str) -> str:
    """A name for a kernel from its text."""
    return "k" + hashlib.sha256(text.encode()).hexdigest()[:20]
