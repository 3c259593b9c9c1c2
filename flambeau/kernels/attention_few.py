"""Attention forward for few queries, as in decoding: all that is read is keys and values.

The queries of all heads that share keys are the rows of one matrix, row r is query r % L of the
group's head r / L, so every key is read once. A unit of parallel work is such rows and a share of
the keys; what the shares found is combined afterwards, each share's sums brought to the greatest
score of all (Dao et al., Flash-Decoding for long-context inference, 2023). The shares follow from
the sizes alone, so results do not depend on threads.
"""

from __future__ import annotations

from flambeau.kernels import attention_pack as pack
from flambeau.kernels import attention_tiles as tiles
from flambeau.kernels.attention_forward import PANELS, Room, Unit, share_of, unit_queries
from flambeau.kernels.attention_problem import KEYS, Problem, base
from flambeau.kernels.attention_tiles import NEGATIVE_INFINITY, Machine
from flambeau.kernels.emit import Function, Value

_PARAMS = [("ptr", "t"), ("i64", "begin"), ("i64", "end"), ("i64", "worker")]


class _Rows(Unit):
    """A unit whose rows are the queries of a group of heads."""

    def tile_of(self, number: Value) -> tuple[Value, Value, Value]:
        """(head of keys, first row, rows) of a tile of rows."""
        f, t = self.f, self.t
        queries = unit_queries(self.machine)
        head = f.udiv(number, t["tiles"])
        first = f.mul(f.urem(number, t["tiles"]), queries)
        return head, first, f.min(f.sub(self.rows(), first), queries)

    def rows(self) -> Value:
        """Rows of a group."""
        return self.f.mul(self.f.udiv(self.t["Hq"], self.t["Hk"]), self.t["L"])

    def pack(self, b: Value, shared: Value, first: Value, count: Value, panels: Value) -> None:
        """The rows' queries, features in rows of lanes; zeros where there are no more rows."""
        f, t, room, machine = self.f, self.t, self.room, self.machine
        panel = machine.panel
        size = f.mul(panels, room.qt_step)
        f.do(f"call void @llvm.memset.p0.i64(ptr align 64 {room.qt}, i8 0, i64 {size}, i1 false)")
        group = f.udiv(t["Hq"], t["Hk"])
        with f.loop(count) as row:
            at = f.add(first, row.index)
            h = f.add(f.mul(shared, group), f.udiv(at, t["L"]))
            own = base(f, t, "q", b, h, machine.stored_size)
            source = f.gep(machine.stored, own, f.mul(f.urem(at, t["L"]), t["q_l"]))
            part = f.gep("i8", room.qt, f.mul(f.udiv(row.index, panel), room.qt_step))
            with f.loop(t["E"]) as e:
                x = f.gep(machine.stored, source, f.mul(e.index, t["q_e"]))
                to = pack.element_place(
                    f, machine, part, panel * 4, e.index, f.urem(row.index, panel)
                )
                pack.copy_element(f, machine, to, x, "true", self.sign)

    def part(self, number: Value) -> str:
        """Where a unit's findings lie."""
        return self.f.gep("i8", self.t["parts"], self.f.mul(number, self.room.found))


def task(machine: Machine, problem: Problem) -> str:
    """The first parallel part: units [begin, end), each a tile of rows and a share of the keys."""
    f = Function("few_task", _PARAMS)
    own = _Rows(f, machine, problem)
    t, room = own.t, own.room
    with f.loop("%end", start="%begin") as unit:
        share = f.urem(unit.index, t["chunks"])
        head, first, count = own.tile_of(f.udiv(unit.index, t["chunks"]))
        b, shared = f.udiv(head, t["Hk"]), f.urem(head, t["Hk"])
        k, v = (base(f, t, x, b, shared, machine.stored_size) for x in "kv")
        panels = f.ceildiv(count, machine.panel)
        own.pack(b, shared, first, count, panels)
        own.clear(panels)
        place = (first, count, b, shared)
        if problem.cover == "blocks":
            own.listed_spans(0, k, v, place, share)
        else:
            begin, end = share_of(f, t, f.ceildiv(t["S"], KEYS), share)
            own.span(f.mul(begin, KEYS), f.min(f.mul(end, KEYS), t["S"]), True, k, v, place)
        f.do(
            f"call void @llvm.memcpy.p0.p0.i64(ptr align 64 {own.part(unit.index)}, "
            f"ptr align 64 {room.top}, i64 {room.found}, i1 false)"
        )
    return own.text()


def combine(machine: Machine, problem: Problem) -> str:
    """The second parallel part: tiles of rows [begin, end), from the shares in order."""
    f = Function("combine_task", _PARAMS)
    own = _Rows(f, machine, problem)
    t = own.t
    with f.loop("%end", start="%begin") as unit:
        head, first, count = own.tile_of(unit.index)
        panels = f.ceildiv(count, machine.panel)
        own.clear(panels)
        start = own.part(f.mul(unit.index, t["chunks"]))
        with f.loop(panels) as panel:
            for j in range(machine.vectors):
                _combined(own, start, panel.index, j)
        own.write(panels, count, f.add(f.mul(head, own.rows()), first))
    return own.text()


def _combined(own: _Rows, start: str, panel: Value, j: int) -> None:
    """Vector j of a panel's rows, over all shares."""
    f, t, room, machine = own.f, own.t, own.room, own.machine
    vec, width, wide = machine.vec, machine.width, machine.panel * 4
    at = f.add(f.mul(panel, wide), j * width)

    def found(share: Value, offset: Value) -> str:
        part = f.gep("i8", f.gep("i8", start, f.mul(share, room.found)), offset)
        return f.load(vec, part, width)

    lowest = f"splat (float {NEGATIVE_INFINITY})"
    with f.loop(t["chunks"], carry=[(vec, lowest)], nonempty=True) as share:
        share.carry(tiles.greatest(f, machine, found(share.index, at), share.carried[0]))
    (top,) = share.carried
    factor = f.splat(machine.lanes, "float", own.factor)
    none = f.op(f"fcmp oeq {vec} {top}, {lowest}")
    safe = f.op(f"select {machine.bits} {none}, {vec} zeroinitializer, {vec} {top}")
    shift = f.op(f"fneg {vec} {f.op(f'fmul {vec} {safe}, {factor}')}")
    ot = f.add(f.add(f.mul(panel, room.ot_step), 2 * PANELS * wide), j * width)
    to = f.gep("i8", f.gep("i8", room.ot, f.mul(panel, room.ot_step)), j * width)
    with f.loop(t["chunks"], carry=[(vec, "zeroinitializer")], nonempty=True) as share:
        own_top = found(share.index, at)
        weight = tiles.exp2(f, machine, tiles.fma(f, machine, own_top, factor, shift))
        total = found(share.index, f.add(at, PANELS * wide))
        total = tiles.fma(f, machine, total, weight, share.carried[0])
        with f.loop(t["V"]) as row:
            step = f.mul(row.index, wide)
            place = f.gep("i8", to, step)
            x = found(share.index, f.add(ot, step))
            f.store(vec, tiles.fma(f, machine, x, weight, f.load(vec, place, width)), place, width)
        share.carry(total)
    f.store(vec, top, f.gep("i8", room.top, at), width)
    f.store(vec, share.carried[0], f.gep("i8", room.sum, at), width)


def entry(machine: Machine, problem: Problem, symbol: str) -> str:
    """void symbol(t): both parallel parts and the memory between them."""
    f = Function(symbol, [("ptr", "t")], linkage="")
    t = problem.words(f)
    rows = f.mul(f.udiv(t["Hq"], t["Hk"]), t["L"])
    count = f.ceildiv(rows, unit_queries(machine))
    f.store("i64", count, t.place("tiles"), 8)
    tiles_ = f.mul(f.mul(t["B"], t["Hk"]), count)
    units = f.mul(tiles_, t["chunks"])
    size = f.mul(units, Room(f, machine, "%t", t["E"], t["V"]).found)
    raw = f.op(f"call ptr @malloc(i64 {f.add(size, 64)})")
    address = f.op(f"ptrtoint ptr {raw} to i64")
    f.store("i64", f.op(f"and i64 {f.add(address, 63)}, -64"), t.place("parts"), 8)
    for name, number in (("few", units), ("combine", tiles_)):
        f.do(f"call void @fl_parallel_for(ptr @{name}_task, ptr %t, i64 {number}, i64 1)")
    f.do(f"call void @free(ptr {raw})")
    f.ret()
    return f.text()
