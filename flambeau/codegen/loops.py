"""The loops around a region's values: units, phases, vector loops with masked ends, reductions."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from flambeau.codegen.llvm import BAND, STRETCH, TILE, Block, Emitter, Kernel, digest
from flambeau.codegen.lowerings import BITS, TYPES, Value, is_float, vector_type
from flambeau.codegen.scans import SCANS, Scan
from flambeau.codegen.space import member_reads
from flambeau.dtype import dtype as DType
from flambeau.ir.graph import Node
from flambeau.ir.region import Region

GRAIN = 16384  # elements of work below which threads are not worth waking
FEW = 8  # units below which bands are made narrower, so that threads share them evenly


class RegionEmitter(Emitter):
    """Emits the whole kernel of a region."""

    backwards = False  # whether loops over reduced dimensions run from the end
    carries: dict[Node, list[Value]] = {}  # scans of the present loop -> where their state is

    def build(self) -> Kernel:
        """-> the kernel; its name is a digest of its text."""
        self.counter = self.alloca("i64")
        if not self.dims:
            self.scalar_unit()
        elif self.form == "map":
            self.map_unit()
        else:
            self.reducing_unit()
        units = self.slot(("units",))
        grain = self.slot(("grain",))
        text = self.assemble(units, grain)
        name = digest(text)
        return Kernel(
            name,
            text.replace("@KERNEL", f"@{name}"),
            self.slots,
            self.b.math,
            self.reads,
            self.dims,
            self.reduced,
            self.lanes,
            self.tile,
            self.band,
            self.last_read,
            self.writes,
        )

    def assemble(self, units: Value, grain: Value) -> str:
        """The module's text: declarations, the kernel of a range of units, its loops."""
        at = {s: k for k, s in enumerate(self.slots)}
        declared = "\n".join(sorted(self.b.declared))
        outside = ""
        for k, what in enumerate((("units",), ("grain",))):
            outside += (
                f" %p{k} = getelementptr i64, ptr %table, i64 {at[what]}\n"
                f" %w{k} = load i64, ptr %p{k}, align 8\n"
            )
        entry = "\n".join(self.entry)
        unit = "\n".join(self.unit)
        return f"""{declared}
declare void @fl_parallel_for(ptr, ptr, i64, i64)
define void @KERNEL(ptr %table) {{
entry:
{outside} call void @fl_parallel_for(ptr @KERNEL_body, ptr %table, i64 %w0, i64 %w1)
 ret void
}}
define void @KERNEL_body(ptr %table, i64 %begin, i64 %end, i64 %worker) {{
entry:
{entry}
 store i64 %begin, ptr {self.counter.name}
 br label %unit_head
unit_head:
 %unit = load i64, ptr {self.counter.name}
 %more = icmp slt i64 %unit, %end
 br i1 %more, label %unit_body, label %done
unit_body:
{unit}
 %next = add i64 %unit, 1
 store i64 %next, ptr {self.counter.name}
 br label %unit_head
done:
 ret void
}}
"""

    def alloca(self, kind: str) -> Value:
        """Room for one value on the kernel's stack, taken once at its start."""
        self.at(0)
        return self.b.set(f"alloca {kind}, align 64", "ptr", 1)

    def coordinates(self, order: list[Any]) -> None:
        """Take the unit's number apart into coordinates, the last fastest."""
        self.at(1)
        rest = Value("%unit", "i64", 1, 1)
        for k, (d, size) in enumerate(reversed(order)):
            if k == len(order) - 1:
                self.index[d] = rest
                return
            word = self.slot(size)
            self.at(1)
            self.index[d] = self.b.op("urem", rest, word)
            rest = self.b.op("udiv", rest, word)

    # -- forms ------------------------------------------------------------------------------------

    def scalar_unit(self) -> None:
        """A region of single elements: straight code."""
        self.store_all(self.region.stores, 0, 1)

    def map_unit(self) -> None:
        """One stretch of the innermost dimension."""
        last = len(self.dims) - 1
        order: list[Any] = [(d, ("size", d) if d != self.tile else ("tiles",)) for d in range(last)]
        self.coordinates([*order, ("chunk", ("chunks",))])
        size = self.slot(("size", last))
        stretch = self.slot(("stretch",))
        self.at(1)
        start = self.b.op(
            "mul",
            self.index.pop("chunk"),  # type: ignore[call-overload]
            stretch,
        )
        stop = self.b.op("add", start, stretch)
        stop = self.b.call("smin", stop, size)
        if self.tile is None:
            self.vector_loop(start, stop, self.map_body)
            return
        tile_size = self.slot(("size", self.tile))
        self.at(1)
        low = self.b.op("mul", self.index[self.tile], self.b.const(TILE, "i64", 1))
        high = self.b.call("smin", self.b.op("add", low, self.b.const(TILE, "i64", 1)), tile_size)
        counter = self.alloca("i64")
        self.vector_loop(start, stop, lambda: self.tile_body(counter, low, high))

    def tile_body(self, counter: Value, low: Value, high: Value) -> None:
        """A tile: with whole vectors and all coordinates by way of transposed blocks."""
        if self.mask is not None:
            self.tile_loop(counter, low, high)
            return
        self.at(1)
        span = self.b.op("sub", high, low)
        whole = self.b.compare("eq", span, self.b.const(TILE, "i64", 1))
        full, part, out = (self.label(k) for k in ("full", "part", "out"))
        self.at(2)
        self.b.emit(f"br i1 {whole.name}, label %{full}, label %{part}")
        self.loop.append(f"{full}:")
        before, self.loop = self.loop, []
        self.block = Block(low)
        self.tile_loop(counter, low, high)
        self.loop, self.block = [*before, *self.block.lines, *self.loop], None
        self.at(2)
        self.b.emit(f"br label %{out}")
        self.loop.append(f"{part}:")
        self.memos[2] = {}
        self.tile_loop(counter, low, high)
        self.at(2)
        self.b.emit(f"br label %{out}")
        self.loop.append(f"{out}:")

    def tile_loop(self, counter: Value, low: Value, high: Value) -> None:
        """The innermost loop of a tiled map, inside a vector loop's body."""
        assert self.tile is not None
        head, inside, out = (self.label(k) for k in ("head", "body", "out"))
        self.at(2)
        self.b.emit(f"store i64 {low.name}, ptr {counter.name}")
        self.b.emit(f"br label %{head}")
        self.loop.append(f"{head}:")
        at = self.b.set(f"load i64, ptr {counter.name}", "i64", 1, 2)
        go = self.b.compare("slt", at, high)
        self.b.emit(f"br i1 {go.name}, label %{inside}, label %{out}")
        self.loop.append(f"{inside}:")
        self.index[self.tile] = at
        self.map_body()
        self.at(2)
        after = self.b.op("add", at, self.b.const(1, "i64", 1))
        self.b.emit(f"store i64 {after.name}, ptr {counter.name}")
        self.b.emit(f"br label %{head}")
        self.loop.append(f"{out}:")

    def map_body(self) -> None:
        """Compute and store every result at the present place."""
        self.store_all(self.region.stores, 0, 2)

    def store_all(self, nodes: Iterable[Node], phase: int, level: int) -> None:
        """Write results of one place, once all of them are known: what is written may be the
        memory that another of them is computed from."""
        maps = self.region.maps
        values = [(n, self.value(n, maps[n], phase)) for n in nodes]
        for n, v in values:
            self.writes[n] = phase
            self.write(self.destination(n), self.region.stores[n], n.dtype.name, v, level)

    def reducing_unit(self) -> None:
        """One row, or one block of columns: a loop per phase."""
        kept = [d for d in range(len(self.dims)) if d not in self.reduced]
        order: list[Any] = [(d, ("size", d)) for d in kept]
        if self.form == "columns":
            order[-1] = (kept[-1], ("blocks",))
            self.coordinates(order)
            self.at(1)
            block = self.index[kept[-1]]
            if self.band:
                self.band_unit(block)
                return
            start = self.b.op("mul", block, self.b.const(self.lanes, "i64", 1))
            self.index[kept[-1]] = start
            width = self.dims[kept[-1]]
            if type(width) is not int or width % self.lanes:  # else all blocks are whole
                size = self.slot(("size", kept[-1]))
                self.at(1)
                self.mask = self.lane_mask(self.b.op("sub", size, start))
        elif kept:
            self.coordinates(order)
        self.backwards = bool(self.region.backwards)
        for phase in range(self.phases):
            self.phase_loop(phase)
        self.stores_after(self.phases)

    def band_unit(self, block: Value) -> None:
        """A band of columns: reductions of all of them are gathered row after row."""
        assert self.vector is not None
        band = self.slot(("band",))
        size = self.slot(("size", self.vector))
        self.at(1)
        start = self.b.op("mul", block, band)
        stop = self.b.call("smin", self.b.op("add", start, band), size)
        reduces = [n for n in self.members if n.op.kind == "reduce"]
        elements = {n: TYPES[n.src[0].dtype.name][1] for n in reduces}
        rooms = {n: self.alloca(f"[{BAND} x {kind}]") for n, kind in elements.items()}

        def place(n: Node) -> str:
            """Where the reductions of the present columns are kept, and how it is aligned."""
            self.at(2)
            at = self.b.op("sub", self.first_lane, start)
            p = self.b.set(
                f"getelementptr {elements[n]}, ptr {rooms[n].name}, i64 {at.name}", "ptr", 1
            )
            return f"ptr {p.name}, align {min(64, self.lanes * max(BITS[elements[n]] // 8, 1))}"

        def begin() -> None:
            for n, element in elements.items():
                first = self.b.const(self.identity(n, element), element, self.lanes)
                self.b.emit(f"store {first}, {place(n)}")

        def gather() -> None:
            for n in reduces:
                x = self.value(n.src[0], self.region.natural(), 0)
                self.at(2)
                x = self.b.splat(x, self.lanes)
                at = place(n)
                old = self.b.set(f"load {x.full}, {at}", x.type, self.lanes)
                self.b.emit(f"store {self.combine(n, old, x)}, {at}")
            self.store_all([n for n in self.region.stores if n in self.row_level], 0, 2)

        def finish() -> None:
            for n, element in elements.items():
                kind = vector_type(element, self.lanes)
                load = f"load {kind}, {place(n)}"
                self.results[n] = self.b.set(load, element, self.lanes, 2)
            self.store_all([n for n in self.region.stores if n not in self.row_level], 1, 2)

        self.vector_loop(start, stop, begin)
        self.now = 0
        self.nest(sorted(self.reduced), lambda: self.vector_loop(start, stop, gather))
        self.now = 1
        self.vector_loop(start, stop, finish)

    def phase_loop(self, phase: int) -> None:
        """The loop of one phase: reductions gather, stores and row buffers are written."""
        self.now = phase
        reduces = [n for n in self.members if n.op.kind == "reduce" and self.phase[n] == phase]
        stores = [n for n in self.region.stores if n in self.row_level and self.phase[n] == phase]
        buffers = [n for n in self.members if n in self.buffered and self.phase[n] == phase]
        if not (reduces or stores or buffers):
            return
        accumulators = {n: self.start_accumulator(n) for n in reduces}
        self.carries = {n: self.start_scan(n) for n in self.members if self.scans_in(n, phase)}

        def body() -> None:
            for n in reduces:
                self.accumulate(n, accumulators[n], phase)
            for n in buffers:
                self.write_row(n, self.member(n, phase))
            self.store_all(stores, phase, 2)

        inner = sorted(self.reduced)
        if self.form == "rows":
            last = inner.pop()
            size = self.slot(("size", last))
            zero = self.b.const(0, "i64", 1)
            self.nest(inner, lambda: self.vector_loop(zero, size, body))
        else:
            self.serial_nest(inner, body)
        for n in reduces:
            self.results[n] = self.finish_accumulator(n, accumulators[n])

    def stores_after(self, phase: int) -> None:
        """Store the results that are known once the row has been reduced."""
        self.now = phase
        self.store_all([n for n in self.region.stores if n not in self.row_level], phase, 1)

    # -- loops ------------------------------------------------------------------------------------

    def lane_mask(self, remaining: Value) -> Value:
        """Lanes below `remaining` (i64 scalar), at the present place."""
        n = self.lanes
        if n == 1:
            return self.b.compare("sgt", remaining, self.b.const(0, "i64", 1))
        bounded = self.b.call("smin", remaining, self.b.const(n, "i64", 1))
        short = self.b.convert("trunc", bounded, "i32")
        lane = Value("<" + ", ".join(f"i32 {k}" for k in range(n)) + ">", "i32", n)
        return self.b.compare("ult", lane, self.b.splat(short, n))

    def vector_loop(self, start: Value, stop: Value, body: Any) -> None:
        """Whole vectors from start to stop, then a masked one for the rest."""
        n = self.lanes
        counter = self.alloca("i64")
        self.at(1)
        span = self.b.op("sub", stop, start)
        whole = self.b.op("and", span, self.b.const(-n, "i64", 1))
        full = self.b.op("add", start, whole)
        for masked in (True, False) if self.backwards else (False, True):
            head, inside, out = (self.label(k) for k in ("head", "body", "out"))
            at = Value(self.b.fresh(), "i64", 1, 2)
            place = Value(self.b.fresh(), "i64", 1, 2) if self.backwards else at
            assert self.vector is not None
            self.index[self.vector] = full if masked else place
            self.loop = []
            self.memos[2] = {}
            if masked:
                self.at(1)
                self.mask = self.lane_mask(self.b.op("sub", stop, full))
            body()
            self.mask = None
            lines, self.loop = self.loop, []
            self.at(1)
            if masked:
                rest = self.b.compare("slt", full, stop)
                self.b.emit(f"br i1 {rest.name}, label %{inside}, label %{out}")
                self.unit.append(f"{inside}:")
                self.unit.extend(lines)
            else:
                self.b.emit(f"store i64 {start.name}, ptr {counter.name}")
                self.b.emit(f"br label %{head}")
                self.unit.append(f"{head}:")
                self.b.emit(f"{at.name} = load i64, ptr {counter.name}")
                go = self.b.compare("slt", at, full)
                self.b.emit(f"br i1 {go.name}, label %{inside}, label %{out}")
                self.unit.append(f"{inside}:")
                if self.backwards:
                    passed = self.b.op("sub", at, start)
                    rest = self.b.op("sub", full, self.b.const(n, "i64", 1))
                    self.b.emit(f"{place.name} = sub i64 {rest.name}, {passed.name}")
                self.unit.extend(lines)
                after = self.b.op("add", at, self.b.const(n, "i64", 1))
                self.b.emit(f"store i64 {after.name}, ptr {counter.name}")
            self.b.emit(f"br label %{head if not masked else out}")
            self.unit.append(f"{out}:")

    def nest(self, dims: list[int], innermost: Any) -> None:
        """Serial loops over reduced dimensions around a vector loop, which writes unit lines."""
        if not dims:
            innermost()
            return
        d, rest = dims[0], dims[1:]
        counter = self.alloca("i64")
        size = self.slot(("size", d))
        head, inside, out = (self.label(k) for k in ("head", "body", "out"))
        at = Value(self.b.fresh(), "i64", 1, 2)
        self.at(1)
        self.b.emit(f"store i64 0, ptr {counter.name}")
        self.b.emit(f"br label %{head}")
        self.unit.append(f"{head}:")
        self.b.emit(f"{at.name} = load i64, ptr {counter.name}")
        go = self.b.compare("slt", at, size)
        self.b.emit(f"br i1 {go.name}, label %{inside}, label %{out}")
        self.unit.append(f"{inside}:")
        self.index[d] = Value(self.b.fresh(), "i64", 1, 2)
        self.walk(at, size, self.index[d])
        # lines of level 1 made in here must not be used after the loop: forget them with it
        kept = dict(self.memos[1])
        self.nest(rest, innermost)
        self.memos[1] = kept
        self.at(1)
        after = self.b.op("add", at, self.b.const(1, "i64", 1))
        self.b.emit(f"store i64 {after.name}, ptr {counter.name}")
        self.b.emit(f"br label %{head}")
        self.unit.append(f"{out}:")

    def serial_nest(self, dims: list[int], body: Any) -> None:
        """Loops over reduced dimensions with lanes along a kept one."""
        names = {
            d: (
                self.alloca("i64"),
                self.label("head"),
                self.label("body"),
                self.label("out"),
                Value(self.b.fresh(), "i64", 1, 2),
            )
            for d in dims
        }
        sizes = {d: self.slot(("size", d)) for d in dims}
        for d in dims:
            self.index[d] = Value(self.b.fresh(), "i64", 1, 2)
        self.loop = []
        self.memos[2] = {}
        body()
        lines, self.loop = self.loop, []
        self.at(1)
        for d in dims:
            counter, head, inside, out, at = names[d]
            self.b.emit(f"store i64 0, ptr {counter.name}")
            self.b.emit(f"br label %{head}")
            self.unit.append(f"{head}:")
            self.b.emit(f"{at.name} = load i64, ptr {counter.name}")
            go = self.b.compare("slt", at, sizes[d])
            self.b.emit(f"br i1 {go.name}, label %{inside}, label %{out}")
            self.unit.append(f"{inside}:")
            self.walk(at, sizes[d], self.index[d])
        self.unit.extend(lines)
        for d in reversed(dims):
            counter, head, _, out, at = names[d]
            after = self.b.op("add", at, self.b.const(1, "i64", 1))
            self.b.emit(f"store i64 {after.name}, ptr {counter.name}")
            self.b.emit(f"br label %{head}")
            self.unit.append(f"{out}:")

    def walk(self, count: Value, size: Value, place: Value) -> None:
        """Write the coordinate of a loop's step `count`: the same, or from the end."""
        if not self.backwards:
            self.b.emit(f"{place.name} = add i64 {count.name}, 0")
            return
        left = self.b.op("sub", size, count)
        self.b.emit(f"{place.name} = sub i64 {left.name}, 1")

    # -- scans ------------------------------------------------------------------------------------

    def scans_in(self, node: Node, phase: int) -> bool:
        """Whether a member is a scan that the loop of a phase may compute."""
        if node.op.kind != "scan" or self.phase[node] > phase:
            return False
        kept = node in self.region.stores or node in self.buffered
        return self.phase[node] == phase or not kept

    def start_scan(self, node: Node) -> list[Value]:
        """Where a scan's state is carried: of a row, or of each column."""
        n = self.lanes if self.form == "columns" else 1
        places = []
        for number, element in self.nothing(node):
            place = self.alloca(vector_type(element, n))
            self.at(1)
            start = self.b.splat(self.b.const(number, element, 1), n)
            self.b.emit(f"store {start}, ptr {place.name}")
            places.append(place)
        return places

    @property
    def coordinate(self) -> str:
        """The type that holds the coordinates along the reduced dimensions."""
        return "i32" if math.prod(self.dims[d] for d in self.reduced) < 1 << 31 else "i64"

    def nothing(self, node: Node) -> list[tuple[Any, str]]:
        """The state of a scan before its first element."""
        source = node.src[0].dtype
        return SCANS[node.op.name].identity(source, TYPES[source.name][1], self.coordinate)

    def scanned(self, node: Node, x: Value) -> Value:
        """The scan at the present vector; moves what it carries on, so once a step of the loop."""
        n, b = self.lanes, self.b
        scan, dtype = SCANS[node.op.name], node.src[0].dtype
        along = self.along()
        self.at(2)
        x = b.splat(x, n)
        if self.coordinate == "i32":
            along = b.convert("trunc", along, "i32")
        state = scan.lift(b, x, along)
        places = self.carries[node]
        if self.form == "columns":
            before = [
                b.set(f"load {v.full}, ptr {p.name}", v.type, n)
                for v, p in zip(state, places, strict=True)
            ]
            state = following = scan.combine(b, dtype, before, state)
        else:
            nothing = [
                b.splat(b.const(number, element, 1), n) for number, element in self.nothing(node)
            ]
            if self.mask is not None and self.backwards:  # the end that is not there comes first
                state = [b.select(self.mask, v, o) for v, o in zip(state, nothing, strict=True)]
            state = self.prefixes(scan, dtype, state, nothing)
            last = 0 if self.backwards else n - 1
            total = [b.set(f"extractelement {v}, i64 {last}", v.type, 1) for v in state]
            before = [
                b.set(f"load {v.full}, ptr {p.name}", v.type, 1)
                for v, p in zip(total, places, strict=True)
            ]
            following = scan.combine(b, dtype, before, total)
            state = scan.combine(b, dtype, [b.splat(v, n) for v in before], state)
        for v, p in zip(following, places, strict=True):
            b.emit(f"store {v}, ptr {p.name}")
        return scan.lower(b, state, TYPES[node.dtype.name][1])

    def prefixes(
        self, scan: Scan, dtype: DType, state: list[Value], nothing: list[Value]
    ) -> list[Value]:
        """The states of a vector's elements up to each of them, in loop order."""
        n, step = self.lanes, 1
        while step < n:
            if self.backwards:
                order = [k + step for k in range(n)]
            else:
                order = [k - step if k >= step else n for k in range(n)]
            picks = ", ".join(f"i32 {min(k, n)}" for k in order)
            moved = [
                self.b.set(f"shufflevector {v}, {o}, <{n} x i32> <{picks}>", v.type, n)
                for v, o in zip(state, nothing, strict=True)
            ]
            state = scan.combine(self.b, dtype, moved, state)
            step *= 2
        return state

    def along(self) -> Value:
        """The coordinate along the reduced dimensions, of every lane where lanes run along them."""
        at: Value | None = None
        for d in sorted(self.reduced):
            size = self.slot(("size", d))
            self.at(2)
            at = (
                self.index[d]
                if at is None
                else self.b.op("add", self.b.op("mul", at, size), self.index[d])
            )
        assert at is not None
        position = self.b.splat(at, self.lanes)
        if self.form == "rows" and self.lanes > 1:
            position = self.b.op("add", position, self.iota(self.lanes))
        return position

    # -- reductions -------------------------------------------------------------------------------

    def identity(self, node: Node, element: str) -> Any:
        """What a reduction of no elements gives: 0, 1, or the end of the type's range."""
        name = node.op.name
        if name == "sum_axes":
            return 0
        if name == "prod_axes":
            return 1
        low = name in ("max_axes", "argmax_axis")
        if element in ("float", "double"):
            return -math.inf if low else math.inf
        if element == "i1":
            return 0 if low else 1
        bits = int(element[1:])
        source = node.src[0].dtype
        if not source.is_signed:
            return 0 if low else (1 << bits) - 1
        return -(1 << bits - 1) if low else (1 << bits - 1) - 1

    def start_accumulator(self, node: Node) -> tuple[Value, Value | None]:
        """A reduction's vector on the stack, and one of positions for argmax and argmin."""
        element = TYPES[node.src[0].dtype.name][1]
        n = self.lanes
        place = self.alloca(vector_type(element, n))
        self.at(1)
        start = self.b.splat(self.b.const(self.identity(node, element), element, 1), n)
        self.b.emit(f"store {start}, ptr {place.name}")
        if not node.op.name.startswith("arg"):
            return place, None
        where = self.alloca(vector_type("i64", n))
        self.at(1)
        none = self.b.splat(self.b.const(-1, "i64", 1), n)
        self.b.emit(f"store {none}, ptr {where.name}")
        return place, where

    def accumulate(self, node: Node, places: tuple[Value, Value | None], phase: int) -> None:
        """Take the present vector of a reduction's input in."""
        x = self.value(node.src[0], self.region.natural(), phase)
        self.at(2)
        n = self.lanes
        x = self.b.splat(x, n)
        place, where = places
        if self.mask is not None and self.form == "rows" and where is None:
            neutral = self.b.splat(self.b.const(self.identity(node, x.type), x.type, 1), n)
            x = self.b.select(self.mask, x, neutral)
        old = self.b.set(f"load {x.full}, ptr {place.name}", x.type, n)
        if where is not None:
            self.accumulate_place(node, x, old, place, where)
            return
        new = self.combine(node, old, x)
        self.b.emit(f"store {new}, ptr {place.name}")

    def combine(self, node: Node, a: Value, b: Value) -> Value:
        """Two partial results of a reduction made one."""
        name = node.op.name
        if name == "sum_axes":
            return self.b.op("fadd" if is_float(a) else "add" if a.type != "i1" else "or", a, b)
        if name == "prod_axes":
            return self.b.op("fmul" if is_float(a) else "mul" if a.type != "i1" else "and", a, b)
        top = name == "max_axes"
        if is_float(a):
            # one compare keeps a NaN that is there, another takes in a new one
            ahead = self.b.compare("olt" if top else "ogt", a, b)
            best = self.b.select(ahead, b, a)
            return self.b.select(self.b.compare("uno", b, b), b, best)
        if a.type == "i1":
            return self.b.op("or" if top else "and", a, b)
        sign = "s" if node.src[0].dtype.is_signed else "u"
        return self.b.call(sign + ("max" if top else "min"), a, b)

    def better(self, node: Node, a: Value, b: Value) -> Value:
        """Whether a beats b as an extreme; NaN beats everything but NaN."""
        top = node.op.name == "argmax_axis"
        if is_float(a):
            wins = self.b.compare("ogt" if top else "olt", a, b)
            nan = self.b.op("and", self.b.compare("uno", a, a), self.b.compare("ord", b, b))
            return self.b.op("or", wins, nan)
        sign = "s" if node.src[0].dtype.is_signed and a.type != "i1" else "u"
        return self.b.compare(sign + ("gt" if top else "lt"), a, b)

    def accumulate_place(
        self, node: Node, x: Value, old: Value, place: Value, where: Value
    ) -> None:
        """argmax and argmin: the better of old and new, with its position."""
        n = self.lanes
        position = self.along()
        self.at(2)
        known = self.b.set(f"load {vector_type('i64', n)}, ptr {where.name}", "i64", n)
        unset = self.b.compare("slt", known, self.b.const(0, "i64", n))
        take = self.b.op("or", self.better(node, x, old), unset)
        if self.mask is not None and self.form == "rows":
            take = self.b.op("and", take, self.mask)
        self.b.emit(f"store {self.b.select(take, x, old)}, ptr {place.name}")
        self.b.emit(f"store {self.b.select(take, position, known)}, ptr {where.name}")

    def finish_accumulator(self, node: Node, places: tuple[Value, Value | None]) -> Value:
        """The result of a reduction, from the lanes of its vector."""
        element = TYPES[node.src[0].dtype.name][1]
        place, where = places
        n = self.lanes
        self.at(1)
        v = self.b.set(f"load {vector_type(element, n)}, ptr {place.name}", element, n)
        if where is not None:
            index = self.b.set(f"load {vector_type('i64', n)}, ptr {where.name}", "i64", n)
            if self.form == "rows" and n > 1:
                index = self.best_lane(node, v, index)
            return Value(index.name, "i64", index.lanes, 1)
        if self.form == "rows":
            while v.lanes > 1:
                half = v.lanes // 2
                low = ", ".join(f"i32 {k}" for k in range(half))
                high = ", ".join(f"i32 {k + half}" for k in range(half))
                if half == 1:
                    a = self.b.set(f"extractelement {v}, i64 0", element, 1)
                    b = self.b.set(f"extractelement {v}, i64 1", element, 1)
                else:
                    a = self.b.set(
                        f"shufflevector {v}, {v.full} poison, <{half} x i32> <{low}>", element, half
                    )
                    b = self.b.set(
                        f"shufflevector {v}, {v.full} poison, <{half} x i32> <{high}>",
                        element,
                        half,
                    )
                v = self.combine(node, a, b)
        wanted = TYPES[node.dtype.name][1]
        if v.type != wanted:
            raise AssertionError(f"{node} accumulates in {v.type}")
        return Value(v.name, v.type, v.lanes, 1)

    def best_lane(self, node: Node, v: Value, index: Value) -> Value:
        """The position of the best lane; of equals the first."""
        best: Value | None = None
        at: Value | None = None
        for k in range(v.lanes):
            x = self.b.set(f"extractelement {v}, i64 {k}", v.type, 1)
            i = self.b.set(f"extractelement {index}, i64 {k}", "i64", 1)
            if best is None or at is None:
                best, at = x, i
                continue
            wins = self.better(node, x, best)
            loses = self.better(node, best, x)
            tie = self.b.op("xor", self.b.op("or", wins, loses), self.b.const(1, "i1", 1))
            earlier = self.b.op("and", tie, self.b.compare("slt", i, at))
            unset = self.b.compare("slt", at, self.b.const(0, "i64", 1))
            take = self.b.op("or", self.b.op("or", wins, earlier), unset)
            take = self.b.op("and", take, self.b.compare("sge", i, self.b.const(0, "i64", 1)))
            best = self.b.select(take, x, best)
            at = self.b.select(take, i, at)
        assert at is not None
        return at


def emit_region(
    region: Region, free: set[Node], vector_bytes: int, inner: int | None = None
) -> Kernel:
    """The kernel of a region; `inner` as in `Space`."""
    return RegionEmitter(region, free, vector_bytes, inner).build()


def launch_words(kernel: Kernel, stretch: int = STRETCH) -> dict[str, int]:
    """What a kernel is told of its parallel loop: units, grain, chunks of the innermost dimension
    and the stretch that each has, blocks of columns and the band that each has."""
    words = {"units": 1, "grain": 1, "chunks": 1, "blocks": 1, "stretch": stretch, "band": 0}
    dims = kernel.dims
    if not dims:
        return words
    last = dims[-1]
    width = kernel.lanes
    if kernel.band:
        others = math.prod(n for d, n in enumerate(dims[:-1]) if d not in kernel.reduced)
        width = BAND
        while width > 2 * kernel.lanes and others * -(-last // width) < FEW:
            width //= 2
        words["band"] = width
    chunks = words["chunks"] = -(-last // stretch)
    blocks = words["blocks"] = -(-last // width)
    words["units"], words["grain"] = _units(kernel, stretch, chunks, blocks, width)
    return words


def _units(kernel: Kernel, stretch: int, chunks: int, blocks: int, width: int) -> tuple[int, int]:
    """-> (units, grain); a block of columns is `width` wide."""
    dims = kernel.dims
    last = dims[-1]
    if not kernel.reduced:
        rest = [-(-n // TILE) if d == kernel.tile else n for d, n in enumerate(dims[:-1])]
        units = math.prod(rest) * chunks
        if kernel.tile is not None:
            return units, max(1, GRAIN // (min(last, stretch) * TILE))
        return units, max(1, GRAIN // max(min(last, stretch), 1))
    row = math.prod(dims[d] for d in kernel.reduced)
    kept = [n for d, n in enumerate(dims) if d not in kernel.reduced]
    if len(dims) - 1 in kernel.reduced:
        return math.prod(kept), max(1, GRAIN // row)
    return math.prod(kept[:-1]) * blocks, max(1, GRAIN // (row * width))


__all__ = ["emit_region", "launch_words", "member_reads"]
