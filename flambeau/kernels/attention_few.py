"""Attention forward for few queries, as in decoding: all that is read is keys and values.

The queries of all heads that share keys are the rows of one matrix, row r is query r % L of the
group's head r / L, so every key is read once. A unit of parallel work is such rows and a share of
the keys; what the shares found is combined afterwards, each share's sums brought to the greatest
score of all (Dao et al., Flash-Decoding for long-context inference, 2023). The shares follow from
the sizes alone, so results do not depend on threads.
"""

from __future__ import annotations

from collections.abc import Callable

from flambeau.kernels import attention_pack as pack
from flambeau.kernels import attention_rows as held
from flambeau.kernels import attention_tiles as tiles
from flambeau.kernels.attention_forward import (
    PANELS,
    Unit,
    greatest,
    share_of,
    unit_queries,
)
from flambeau.kernels.attention_problem import KEYS, Problem, base
from flambeau.kernels.attention_tiles import NEGATIVE_INFINITY, Machine
from flambeau.kernels.emit import Function, Value

_PARAMS = [("ptr", "t"), ("i64", "begin"), ("i64", "end"), ("i64", "worker")]


class _Rows(Unit):
    """A unit whose rows are the queries of a group of heads."""

    def tile_of(self, number: Value) -> tuple[Value, Value, Value]:
        """(head of keys, first row, rows) of a tile of rows."""
        f, t = self.f, self.t
        queries = _height(self.machine)
        head = f.udiv(number, t["tiles"])
        first = f.mul(f.urem(number, t["tiles"]), queries)
        return head, first, f.min(f.sub(self.rows(), first), queries)

    def rows(self) -> Value:
        """Rows of a group."""
        return self.f.mul(self.f.udiv(self.t["Hq"], self.t["Hk"]), self.t["L"])

    def query(self, b: Value, shared: Value, row: Value) -> str:
        """Where the features of a row's query are."""
        f, t = self.f, self.t
        group = f.udiv(t["Hq"], t["Hk"])
        h = f.add(f.mul(shared, group), f.udiv(row, t["L"]))
        own = base(f, t, "q", b, h, self.machine.stored_size)
        return f.gep(self.machine.stored, own, f.mul(f.urem(row, t["L"]), t["q_l"]))

    def part(self, number: Value) -> str:
        """Where a unit's findings lie."""
        return self.f.gep("i8", self.t["parts"], self.f.mul(number, self.room.found))

    def weighted(self, start: str, at: Value, sums: int, add: Callable[[str, str], None]) -> None:
        """Bring a vector of rows' findings together: `add(part, weight)` for every share's part.

        Args:
            start: the first share's part; its greatest scores are `at` bytes on, its sums `sums`
                bytes after these.
        """
        f, t, room, machine = self.f, self.t, self.room, self.machine
        vec, width = machine.vec, machine.width

        def part(share: Value) -> str:
            return f.gep("i8", start, f.mul(share, room.found))

        def found(share: Value, offset: Value) -> str:
            return f.load(vec, f.gep("i8", part(share), offset), width)

        lowest = f"splat (float {NEGATIVE_INFINITY})"
        with f.loop(t["chunks"], carry=[(vec, lowest)], nonempty=True) as share:
            share.carry(tiles.greatest(f, machine, found(share.index, at), share.carried[0]))
        (top,) = share.carried
        factor = f.splat(machine.lanes, "float", self.factor)
        none = f.op(f"fcmp oeq {vec} {top}, {lowest}")
        safe = f.op(f"select {machine.bits} {none}, {vec} zeroinitializer, {vec} {top}")
        shift = f.op(f"fneg {vec} {f.op(f'fmul {vec} {safe}, {factor}')}")
        with f.loop(t["chunks"], carry=[(vec, "zeroinitializer")], nonempty=True) as share:
            own_top = found(share.index, at)
            weight = tiles.exp2(f, machine, tiles.fma(f, machine, own_top, factor, shift))
            total = found(share.index, f.add(at, sums))
            total = tiles.fma(f, machine, total, weight, share.carried[0])
            add(part(share.index), weight)
            share.carry(total)
        f.store(vec, top, f.gep("i8", room.top, at), width)
        f.store(vec, share.carried[0], f.gep("i8", room.sum, at), width)


class _Panels(_Rows):
    """Rows along the lanes of panels, several vectors of them: see `attention_forward`."""

    def pack(self, b: Value, shared: Value, first: Value, count: Value) -> None:
        """The rows' queries, features in rows of lanes; zeros where there are no more rows."""
        f, t, room, machine = self.f, self.t, self.room, self.machine
        panel = machine.panel
        size = f.mul(f.ceildiv(count, panel), room.qt_step)
        pack.clear(f, room.qt, size)
        with f.loop(count) as row:
            source = self.query(b, shared, f.add(first, row.index))
            part = f.gep("i8", room.qt, f.mul(f.udiv(row.index, panel), room.qt_step))
            with f.loop(t["E"]) as e:
                x = f.gep(machine.stored, source, f.mul(e.index, t["q_e"]))
                to = pack.element_place(
                    f, machine, part, panel * 4, e.index, f.urem(row.index, panel)
                )
                pack.copy_element(f, machine, to, x, "true", self.sign)

    def join(self, start: str, count: Value) -> None:
        """What the shares found, from `start` on."""
        f, room, machine = self.f, self.room, self.machine
        wide, width = machine.panel * 4, machine.width
        with f.loop(f.ceildiv(count, machine.panel)) as panel:
            for j in range(machine.vectors):
                at = f.add(f.mul(panel.index, wide), j * width)
                place = f.add(f.mul(panel.index, room.ot_step), j * width)
                to = f.gep("i8", room.ot, place)
                ot = f.add(place, 2 * PANELS * wide)

                def add(part: str, weight: str, to: str = to, ot: Value = ot) -> None:
                    with f.loop(self.t["V"]) as row:
                        step = f.mul(row.index, wide)
                        place = f.gep("i8", to, step)
                        x = f.load(machine.vec, f.gep("i8", part, f.add(ot, step)), width)
                        x = tiles.fma(f, machine, x, weight, f.load(machine.vec, place, width))
                        f.store(machine.vec, x, place, width)

                self.weighted(start, at, PANELS * wide, add)


class _Held(_Rows):
    """Rows that one vector holds: see `attention_rows`."""

    rooms = held.Room

    def pack(self, b: Value, shared: Value, first: Value, count: Value) -> None:
        """The rows' queries, `spread` slots of each in a vector; zeros where there are no more."""
        f, t, room, machine = self.f, self.t, self.room, self.machine
        size, spread = room.q_size, machine.spread
        pack.clear(f, room.qt, size)
        with f.loop(count) as row:
            source = self.query(b, shared, f.add(first, row.index))
            own = f.gep("i32", room.qt, f.mul(row.index, spread))
            with f.loop(t["E"]) as e:
                x = f.gep(machine.stored, source, f.mul(e.index, t["q_e"]))
                step = machine.step * spread
                start = f.gep("i8", own, f.mul(f.udiv(e.index, step), room.q_row))
                to = pack.element_place(f, machine, start, 4, f.urem(e.index, step), 0)
                pack.copy_element(f, machine, to, x, "true", self.sign)

    def clear(self, count: Value) -> None:
        """No keys have been seen."""
        f, room, machine = self.f, self.room, self.machine
        pack.clear(f, room.top, room.found)
        f.store(machine.vec, f"splat (float {NEGATIVE_INFINITY})", room.top, machine.width)

    def join(self, start: str, count: Value) -> None:
        """What the shares found, from `start` on."""
        f, room, machine = self.f, self.room, self.machine
        vec, width = machine.vec, machine.width

        def add(part: str, weight: str) -> None:
            f.store(vec, weight, room.alpha, width)
            with f.loop(count) as row:
                own = f.load("float", f.gep("float", room.alpha, row.index), 4)
                own = f.splat(machine.lanes, "float", own)
                line = f.mul(room.ot_row, row.index)
                with f.loop(room.ot_row, step=width) as at:
                    offset = f.add(line, at.index)
                    place = f.gep("i8", room.ot, offset)
                    x = f.load(vec, f.gep("i8", part, f.add(offset, 2 * width)), width)
                    x = tiles.fma(f, machine, x, own, f.load(vec, place, width))
                    f.store(vec, x, place, width)

        self.weighted(start, 0, width, add)

    def write(self, count: Value, line: Value) -> None:
        """The results of `count` rows, which begin at row `line` of them all."""
        f, t, room, machine = self.f, self.t, self.room, self.machine
        lse, best = f.gep("float", t["lse"], line), greatest(f, t, line)
        f.do(
            f"call void @finish(ptr {room.top}, ptr {room.sum}, ptr {lse}, ptr {best}, "
            f"i64 {count}, float {self.factor}, "
            f"float {'1.0' if self.problem.score else self.natural})"
        )
        with f.loop(count) as row:
            factor = f.load("float", f.gep("float", room.sum, row.index), 4)
            factor = f.splat(machine.lanes, "float", factor)
            source = f.gep("i8", room.ot, f.mul(room.ot_row, row.index))
            out = f.gep(machine.stored, t["out"], f.mul(f.add(line, row.index), t["V"]))

            def scaled(first: Value, left: Value | None) -> None:
                x = f.load(machine.vec, f.gep("float", source, first), machine.width)
                x = f.op(f"fmul {machine.vec} {x}, {factor}")
                tiles.store_elements(f, machine, x, f.gep(machine.stored, out, first), left)

            pack.along(f, t["V"], machine.lanes, scaled)


def _form(machine: Machine) -> type[_Panels] | type[_Held]:
    """How rows lie."""
    return _Held if machine.fold else _Panels


def _height(machine: Machine) -> int:
    """Rows of a unit, at most."""
    return machine.held if machine.fold else unit_queries(machine)


def task(machine: Machine, problem: Problem) -> str:
    """The first parallel part: units [begin, end), each a tile of rows and a share of the keys."""
    f = Function("few_task", _PARAMS)
    own = _form(machine)(f, machine, problem)
    t, room = own.t, own.room
    with f.loop("%end", start="%begin") as unit:
        share = f.urem(unit.index, t["chunks"])
        head, first, count = own.tile_of(f.udiv(unit.index, t["chunks"]))
        b, shared = f.udiv(head, t["Hk"]), f.urem(head, t["Hk"])
        k, v = (base(f, t, x, b, shared, machine.stored_size) for x in "kv")
        own.pack(b, shared, first, count)
        own.clear(count)
        place = (first, count, b, shared)
        if problem.cover == "blocks":
            own.listed_spans(0, k, v, place, share)
        else:
            begin, end = share_of(f, t, f.ceildiv(t["S"], KEYS), share)
            own.span(f.mul(begin, KEYS), f.min(f.mul(end, KEYS), t["S"]), True, k, v, place)
        f.do(
            f"call void @llvm.memcpy.p0.p0.i64(ptr align {machine.width} {own.part(unit.index)}, "
            f"ptr align {machine.width} {room.top}, i64 {room.found}, i1 false)"
        )
    return own.text()


def combine(machine: Machine, problem: Problem) -> str:
    """The second parallel part: tiles of rows [begin, end), from the shares in order."""
    f = Function("combine_task", _PARAMS)
    own = _form(machine)(f, machine, problem)
    t = own.t
    with f.loop("%end", start="%begin") as unit:
        head, first, count = own.tile_of(unit.index)
        own.clear(count)
        own.join(own.part(f.mul(unit.index, t["chunks"])), count)
        own.write(count, f.add(f.mul(head, own.rows()), first))
    return own.text()


def entry(machine: Machine, problem: Problem, symbol: str) -> str:
    """void symbol(t): both parallel parts and the memory between them."""
    f = Function(symbol, [("ptr", "t")], linkage="")
    t = problem.words(f)
    rows = f.mul(f.udiv(t["Hq"], t["Hk"]), t["L"])
    count = f.ceildiv(rows, _height(machine))
    f.store("i64", count, t.place("tiles"), 8)
    tiles_ = f.mul(f.mul(t["B"], t["Hk"]), count)
    units = f.mul(tiles_, t["chunks"])
    size = f.mul(units, _form(machine).rooms(f, machine, "%t", t["E"], t["V"]).found)
    raw = f.op(f"call ptr @malloc(i64 {f.add(size, 64)})")
    address = f.op(f"ptrtoint ptr {raw} to i64")
    f.store("i64", f.op(f"and i64 {f.add(address, 63)}, -64"), t.place("parts"), 8)
    for name, number in (("few", units), ("combine", tiles_)):
        f.do(f"call void @fl_parallel_for(ptr @{name}_task, ptr %t, i64 {number}, i64 1)")
    f.do(f"call void @free(ptr {raw})")
    f.ret()
    return f.text()
