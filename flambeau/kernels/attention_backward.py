"""Attention backward: keys along the lanes, queries one row after another.

Probabilities are computed again from the log-sum-exp (Dao et al., FlashAttention,
arXiv:2205.14135, algorithm 4): P = exp(S - lse), dV = P^T dO, dP = dO V^T,
dS = P * (dP - rowsum(O * dO) + dlse), dQ = dS K, dK = dS^T Q.

One unit of parallel work is a head of keys and a share of its blocks of keys: every share has a dQ
of its own, and these are added in order, so results depend on neither threads nor chance. For a
block of keys, K^T and V^T stand in panels; tiles of queries pass by.
"""

from __future__ import annotations

from typing import Any

from flambeau.codegen.lowerings import Value as Typed
from flambeau.kernels import attention_pack as pack
from flambeau.kernels import attention_tiles as tiles
from flambeau.kernels.attention_forward import listed
from flambeau.kernels.attention_mods import Inline, Sums
from flambeau.kernels.attention_problem import KEYS, Problem, base
from flambeau.kernels.attention_tiles import LOG2_E, NEGATIVE_INFINITY, Machine
from flambeau.kernels.emit import Function, Module, Value, Words, Writer
from flambeau.kernels.gemm_micro import load_stored
from flambeau.ops.mods import derivative

#: queries of a tile
QUERIES = 64


class Room:
    """A unit's scratch memory: addresses of its parts by name.

    kt, vt: panels of keys and values. q, g: rows of queries and of the output's cotangents. p, ds:
    a tile's scores, then probabilities, and the scores' gradients, a row a query. dk, dv: the
    block's gradients so far. What is summed over keys or queries stands again in steps (see
    `attention_pack`) where slots are pairs: q_steps, g_steps, k_steps, and as pairs of keys
    ds_pairs; the pairs of queries of p and ds stand in their own place.

    e, v: bytes of a row of features; e_slots, v_slots: of its slots.
    """

    def __init__(self, f: Function, machine: Machine, start: str, features: Value, values: Value):
        wide, step = machine.panel * 4, machine.step
        self.e = f.mul(tiles.padded(f, machine, features), 4)
        self.v = f.mul(tiles.padded(f, machine, values), 4)
        e = tiles.padded(f, machine, tiles.slots(f, machine, features))
        v = tiles.padded(f, machine, tiles.slots(f, machine, values))
        self.e_slots, self.v_slots = f.mul(e, 4), f.mul(v, 4)
        self.kt_step, self.vt_step = f.mul(e, wide), f.mul(v, wide)
        panels = KEYS // machine.panel
        offset: Value = 0
        self.at: dict[str, str] = {}
        sizes: dict[str, Value] = {
            "p": QUERIES * KEYS * 4,
            "ds": QUERIES * KEYS * 4,
            "kt": f.mul(self.kt_step, panels),
            "vt": f.mul(self.vt_step, panels),
            "k_steps": f.mul(self.e, KEYS // step),
            "q": f.mul(self.e_slots, QUERIES),
            "g": f.mul(self.v_slots, QUERIES),
            "dk": f.mul(self.e, KEYS),
            "dv": f.mul(self.v, KEYS),
        }
        if machine.pairs:
            sizes |= {
                "q_steps": f.mul(self.e, QUERIES // step),
                "g_steps": f.mul(self.v, QUERIES // step),
                "ds_pairs": QUERIES * KEYS * 2,
            }
        for name, size in sizes.items():
            self.at[name] = f.gep("i8", start, offset)
            offset = f.add(offset, size)
        if not machine.pairs:
            self.at |= {"q_steps": self["q"], "g_steps": self["g"], "ds_pairs": self["ds"]}
        self.size = offset

    def __getitem__(self, name: str) -> str:
        return self.at[name]


class Slopes:
    """Writes `gradients`, the pass over a tile's scores; see there."""

    def __init__(
        self, machine: Machine, problem: Problem, causal: bool, masked: bool, module: Module
    ) -> None:
        self.machine = machine
        self.problem = problem
        self.causal = causal
        self.masked = masked and problem.mask is not None
        self.module = module
        self.f = Function(
            slopes_name(causal, masked),
            [("ptr", "t"), ("ptr", "p"), ("ptr", "ds"), ("i64", "rows"), ("i64", "keys"),
             ("ptr", "shift"), ("ptr", "delta"), ("i64", "first"), ("i64", "key"), ("i64", "b"),
             ("i64", "h"), ("ptr", "sums"), ("float", "factor"), ("float", "scale"),
             ("ptr", "p_to"), ("ptr", "ds_to"), ("ptr", "ds_pairs")],
            "void",
            "nounwind noinline",
        )  # fmt: skip
        self.t = problem.words(self.f)
        self.mods: dict[str, Inline] = {}
        self.sums: list[Sums] = []

    def text(self) -> str:
        """The function."""
        f, machine, problem, t = self.f, self.machine, self.problem, self.t
        t.preload("S", "keep_scale", *problem.mod_words)
        t.preload(*(n for n in problem.fields if n.startswith("size")))
        lanes = machine.lanes
        self.factor = f.splat(lanes, "float", "%factor")
        with f.loop("%keys", step=lanes) as lane:
            count = f.sub("%keys", lane.index)
            mask = tiles.first_lanes(f, machine, count) if problem.needs or machine.pairs else ""
            self.begin(lane.index)
            with f.loop("%rows", step=machine.step) as row:
                if machine.pairs:
                    self.pair(row.index, lane.index, mask, count)
                else:
                    kept, g = self.row(row.index, lane.index, mask, count)
                    at = f.add(f.mul(row.index, KEYS), lane.index)
                    f.store(machine.vec, kept, f.gep("float", "%p", at), machine.width)
                    f.store(machine.vec, g, f.gep("float", "%ds", at), machine.width)
            for each in self.sums:
                each.finish(mask, count)
        f.ret()
        return f.text()

    def row(self, row: Value, lane: Value, mask: str, count: Value, real: str = "") -> Any:
        """(probabilities, gradients of scores) of one row's lanes; both 0 where the row is not
        real."""
        f, machine = self.f, self.machine
        vec = machine.vec
        self.places(row)
        at = f.add(f.mul(row, KEYS), lane)
        shift = f.splat(machine.lanes, "float", self.number("%shift", row))
        delta = f.splat(machine.lanes, "float", self.number("%delta", row))
        x = self.score(f.load(vec, f.gep("float", "%p", at), machine.width))
        p = tiles.exp2(f, machine, tiles.fma(f, machine, x, self.factor, shift))
        p = self.seen(p, row, lane)
        d = f.load(vec, f.gep("float", "%ds", at), machine.width)
        kept, d = self.dropped(p, d)
        g = f.op(f"fmul {vec} {p}, {f.op(f'fsub {vec} {d}, {delta}')}")
        if real:
            none = f.op(f"select i1 {real}, {machine.bits} {mask}, {machine.bits} zeroinitializer")
            kept, g = (
                f.op(f"select {machine.bits} {none}, {vec} {x}, {vec} zeroinitializer")
                for x in (kept, g)
            )
            mask = none
        return kept, self.through(g, mask, count)

    def pair(self, row: Value, lane: Value, mask: str, count: Value) -> None:
        """Two rows, stored as pairs of queries and, gradients, as pairs of keys too; what is beyond
        the last query or key is 0, as the other half of a pair."""
        f, machine = self.f, self.machine
        further = f.add(row, 1)
        found = [
            self.row(row, lane, mask, count, "true"),
            self.row(further, lane, mask, count, f.cmp("slt", further, "%rows")),
        ]
        at = f.add(f.mul(f.udiv(row, 2), KEYS), lane)
        for to, values in zip(("%p_to", "%ds_to"), zip(*found, strict=True), strict=True):
            both, pairs = tiles.rounded_pairs(f, machine, *values)
            f.store("<32 x bfloat>", pairs, f.gep("float", to, at), machine.width)
        place = f.gep("i16", "%ds_pairs", f.add(f.mul(row, KEYS), lane))
        for half in range(2):
            lanes = range(half * machine.lanes, (half + 1) * machine.lanes)
            one = f.shuffle(2 * machine.lanes, "bfloat", both, "poison", lanes)
            f.store("<16 x bfloat>", one, f.gep("i16", place, half * KEYS), 32)

    def number(self, base_: str, row: Value) -> str:
        """A float of a row."""
        return self.f.load("float", self.f.gep("float", base_, row), 4)

    def begin(self, lane: Value) -> None:
        """Before the loop over rows: the mods, with what depends on no query written."""
        f, machine, problem, t = self.f, self.machine, self.problem, self.t
        if not problem.mods:
            return
        b = Writer(f, self.module)
        lanes = machine.lanes
        first = b.convert("trunc", Typed(str(f.add("%key", lane)), "i64", 1), "i32")
        numbers = Typed(tiles.lane_numbers(machine), "i32", lanes)
        last = b.convert("trunc", Typed(str(f.sub(t["S"], 1)), "i64", 1), "i32")
        keys = b.op("add", b.splat(first, lanes), numbers)
        slots = {"kv": b.call("smin", keys, b.splat(last, lanes))}
        for name in ("b", "h"):
            slots[name] = b.convert("trunc", Typed(f"%{name}", "i64", 1), "i32")
        known = None
        if problem.score is not None:
            known = derivative(problem.score, frozenset(problem.needs))
        for name, mod in problem.mods.items():
            if name == "mask" and not self.masked:
                continue
            whole = known.mod if name == "score" and known is not None else mod
            self.mods[name] = Inline(b, t, name, whole, lanes, dict(slots))
            self.mods[name].hoist(frozenset(slots))
        self.sums = []
        if known is not None:
            offsets = dict(zip(problem.needs, offsets_of(f, t, problem), strict=True))
            for table, which, indices in known.scatters:
                outputs = known.mod.outputs
                place = f.gep("float", "%sums", offsets[table])
                at = [outputs[k] for k in indices]
                self.sums.append(Sums(self.mods["score"], place, table, outputs[which], at))
        for each in self.sums:
            each.start()

    def places(self, row: Value) -> None:
        """In the loop over rows: the query's number."""
        query = self.f.op(f"trunc i64 {self.f.add('%first', row)} to i32") if self.mods else ""
        for inline in self.mods.values():
            inline.row(q=Typed(query, "i32", 1))

    def score(self, x: str) -> str:
        """The score that the exponential is taken of."""
        inline = self.mods.get("score")
        if inline is None or self.problem.score is None:
            return x
        f, machine = self.f, self.machine
        scale = f.splat(machine.lanes, "float", "%scale")
        x = f.op(f"fmul {machine.vec} {x}, {scale}")
        inline.slots["score"] = Typed(x, "float", machine.lanes)
        return inline.result(self.problem.score.outputs[0], "float").name

    def seen(self, p: str, row: Value, lane: Value) -> str:
        """Probabilities, 0 where the key is not seen."""
        f, machine = self.f, self.machine
        bits = []
        if self.causal:
            number = f.sub(f.add(f.sub("%first", "%key"), row), lane)
            own = f.splat(machine.lanes, "i32", f.op(f"trunc i64 {number} to i32"))
            bits.append(f.op(f"icmp sle {machine.ints} {tiles.lane_numbers(machine)}, {own}"))
        if "mask" in self.mods:
            inline = self.mods["mask"]
            bits.append(inline.result(inline.mod.outputs[0], "i1").name)
        for each in bits:
            p = f.op(
                f"select {machine.bits} {each}, {machine.vec} {p}, {machine.vec} zeroinitializer"
            )
        return p

    def dropped(self, p: str, d: str) -> tuple[str, str]:
        """(probabilities that the values were multiplied with, cotangents of all of them)."""
        inline = self.mods.get("keep")
        if inline is None:
            return p, d
        f, machine = self.f, self.machine
        narrow = f.op(f"fptrunc double {self.t['keep_scale']} to float")
        scale = f.splat(machine.lanes, "float", narrow)
        bits = inline.result(inline.mod.outputs[0], "i1").name
        found = []
        for x in (p, d):
            more = f.op(f"fmul {machine.vec} {x}, {scale}")
            found.append(
                f.op(
                    f"select {machine.bits} {bits}, {machine.vec} {more}, "
                    f"{machine.vec} zeroinitializer"
                )
            )
        return found[0], found[1]

    def through(self, g: str, mask: str, count: Value) -> str:
        """The cotangent of the scores before score_mod; those of captured tensors are added up."""
        inline = self.mods.get("score")
        if inline is None:
            return g
        inline.slots["g"] = Typed(g, "float", self.machine.lanes)
        for each in self.sums:
            each.row(mask, count)
        return inline.result(inline.mod.outputs[0], "float").name


def slopes_name(causal: bool, masked: bool) -> str:
    """The symbol of a form of `gradients`."""
    return f"gradients{'_causal' if causal else ''}{'_masked' if masked else ''}"


def offsets_of(f: Function, t: Words, problem: Problem) -> list[Value]:
    """Where each captured tensor's sums begin in a group's."""
    found: list[Value] = []
    at: Value = 0
    for k in problem.needs:
        found.append(at)
        at = f.add(at, t[f"size{k}"])
    return found


def gradients(
    machine: Machine, problem: Problem, causal: bool, masked: bool, module: Module
) -> str:
    """void gradients(t, p, ds, rows, keys, shift, delta, first, key, b, h, sums, factor, scale,
    p_to, ds_to, ds_pairs).

    p (scores) becomes P = exp2(factor * p + shift), ds (dP) becomes P * (ds - delta), through the
    mods. first and key are the numbers of row 0's query and of lane 0's key; with causal, later
    keys get 0, where masked the mask_mod decides. Pairs are written to the last three, which may
    be places of p and ds that have been read.
    """
    return Slopes(machine, problem, causal, masked, module).text()


def prepare(machine: Machine, problem: Problem) -> str:
    """The first parallel part, a unit a head: shift = -lse in base 2 and
    delta = rowsum(O * dO) - dlse.

    A query that saw nothing has lse -inf and keeps it as its shift: its probabilities are 0.
    """
    f = Function(
        "prepare_task", [("ptr", "t"), ("i64", "begin"), ("i64", "end"), ("i64", "worker")]
    )
    t = problem.words(f)
    t.preload("Hq", "L", "V", "lse", "dlse", "shift", "delta", "o", "g")
    t.preload(*(f"{x}_{a}" for x in "og" for a in "bhlv"))
    t.preload(*(f"{x}_{a}" for x in ("lse", "dlse") for a in "bhl"))
    some = f.op(f"icmp ne ptr {t['dlse']}, null")
    vec, lanes, kind = machine.vec, machine.lanes, machine.stored
    near = f.both(f.cmp("eq", t["o_v"], 1), f.cmp("eq", t["g_v"], 1))
    whole = f.select(near, f.op(f"and i64 {t['V']}, {-lanes}"), 0)
    with f.loop("%end", start="%begin") as unit:
        b, h = f.udiv(unit.index, t["Hq"]), f.urem(unit.index, t["Hq"])
        o, g = (base(f, t, x, b, h, machine.stored_size) for x in "og")
        sums_, slopes = base(f, t, "lse", b, h), base(f, t, "dlse", b, h)
        with f.loop(t["L"]) as row:
            x = f.gep(kind, o, f.mul(row.index, t["o_l"]))
            y = f.gep(kind, g, f.mul(row.index, t["g_l"]))
            with f.loop(whole, step=lanes, carry=[(vec, "zeroinitializer")]) as col:
                a, c = (load_stored(f, machine, f.gep(kind, s, col.index), lanes) for s in (x, y))
                col.carry(tiles.fma(f, machine, a, c, col.carried[0]))
            total = f.op(
                f"call reassoc float @llvm.vector.reduce.fadd.v{lanes}f32(float 0.0, "
                f"{vec} {col.carried[0]})"
            )
            with f.loop(t["V"], start=whole, carry=[("float", total)]) as col:
                a = load_stored(f, machine, f.gep(kind, x, f.mul(col.index, t["o_v"])), 1)
                c = load_stored(f, machine, f.gep(kind, y, f.mul(col.index, t["g_v"])), 1)
                term = f.op(f"fmul float {a}, {c}")
                col.carry(f.op(f"fadd float {col.carried[0]}, {term}"))
            place = f.add(f.mul(unit.index, t["L"]), row.index)
            with f.merge(some, ["float"], [col.carried[0]]) as sums:
                slope = f.load("float", f.gep("float", slopes, f.mul(row.index, t["dlse_l"])), 4)
                sums[0] = f.op(f"fsub float {sums[0]}, {slope}")
            f.store("float", sums[0], f.gep("float", t["delta"], place), 4)
            lse = f.load("float", f.gep("float", sums_, f.mul(row.index, t["lse_l"])), 4)
            none = f.op(f"fcmp oeq float {lse}, {NEGATIVE_INFINITY}")
            shift = f.op(f"fmul float {lse}, {tiles.scalar(-LOG2_E)}")
            shift = f.op(f"select i1 {none}, float {NEGATIVE_INFINITY}, float {shift}")
            f.store("float", shift, f.gep("float", t["shift"], place), 4)
    f.ret()
    return f.text()


def wide_product(
    f: Function, machine: Machine, m: Value, columns: Value, k: Value, a: str, rs: Value,
    cs: Value, b: str, c: str,
) -> None:  # fmt: skip
    """C += A B for rows of B and C that are `columns` bytes: panels, then perhaps one vector.

    m is rounded up to whole tiles: C has room.
    """
    wide, full = machine.panel * 4, tiles.tile_rows(machine)[0]
    most = f.mul(f.ceildiv(m, full), full)

    def part(at: Value, nv: int) -> None:
        with f.loop(most, step=full) as row:
            f.do(
                f"call void @{tiles.tile_name('add', full, nv)}(i64 {k}, "
                f"ptr {f.gep('i8', a, f.mul(rs, row.index))}, i64 {rs}, i64 {cs}, "
                f"ptr {f.gep('i8', b, at)}, i64 {columns}, "
                f"ptr {f.gep('i8', f.gep('i8', c, f.mul(columns, row.index)), at)}, i64 {columns})"
            )

    whole = f.op(f"and i64 {columns}, {-wide}")
    with f.loop(whole, step=wide) as col:
        part(col.index, 2)
    with f.when(f.cmp("slt", whole, columns)):
        part(whole, 1)


def forms(problem: Problem) -> list[tuple[bool, bool]]:
    """(causal, masked) of the forms of `gradients` that are needed."""
    crossing = (False, True) if problem.cover == "causal" else (False,)
    masks = (False, True) if problem.mask is not None else (False,)
    return [(c, m) for c in crossing for m in masks]


def block(machine: Machine, problem: Problem) -> str:
    """void block(t, room, q, g, dq, line, first, count, key, keys, b, h, sums, masked, factor,
    scale): a tile of queries against the room's block of keys. q, g and dq point at the tile;
    `line` is its place in lse."""
    f = Function(
        "block",
        [("ptr", "t"), ("ptr", "room"), ("ptr", "q"), ("ptr", "g"), ("ptr", "dq"),
         ("i64", "line"), ("i64", "first"), ("i64", "count"), ("i64", "key"), ("i64", "keys"),
         ("i64", "b"), ("i64", "h"), ("ptr", "sums"), ("i1", "masked"), ("float", "factor"),
         ("float", "scale")],
        "void",
        "nounwind noinline",
    )  # fmt: skip
    t = problem.words(f)
    t.preload("E", "V", "q_l", "q_e", "g_l", "g_v", "shift", "delta")
    room = Room(f, machine, "%room", t["E"], t["V"])
    wide, full = machine.panel * 4, tiles.tile_rows(machine)[0]
    causal = problem.cover == "causal"
    rows = f.mul(f.ceildiv("%count", full), full)
    for x, features, values in (("q", "E", "e"), ("g", "V", "v")):
        for how, packed in {"pack_rows": x, pack.steps_name(machine): f"{x}_steps"}.items():
            f.do(
                f"call void @{how}(ptr {room[packed]}, ptr %{x}, i64 {t[f'{x}_l']}, "
                f"i64 {t[f'{x}_{values}']}, i64 %count, i64 {t[features]}, i64 {rows})"
            )
    slots = {x: tiles.slots(f, machine, t[x]) for x in "EV"}
    if machine.pairs:  # rows beyond the last query, which whole tiles of dQ read
        beyond = f.gep("i8", room["ds_pairs"], f.mul("%count", KEYS * 2))
        pack.clear(f, beyond, f.mul(f.sub(rows, "%count"), KEYS * 2))
    ahead = f.sub("%first", "%key")
    # scores and dP: a panel of keys at a time; with causal from the first query that sees it
    with f.loop("%keys", step=machine.panel) as panel:
        start: Value = 0
        if causal:
            start = f.op(f"and i64 {f.min(f.max(f.sub(panel.index, ahead), 0), rows)}, {-full}")
        index = f.udiv(panel.index, machine.panel)
        to = f.mul(panel.index, 4)
        for x, a, values in (("kt", "q", "E"), ("vt", "g", "V")):
            b = f.gep("i8", room[x], f.mul(index, room.kt_step if x == "kt" else room.vt_step))
            stride = room.e_slots if a == "q" else room.v_slots
            c = room["p" if x == "kt" else "ds"]
            with f.loop(rows, start=start, step=full) as row:
                a_at = f.gep("i8", room[a], f.mul(stride, row.index))
                c_at = f.gep("i8", f.gep("i8", c, f.mul(row.index, KEYS * 4)), to)
                f.do(
                    f"call void @{tiles.tile_name('set', full, 2)}(i64 {slots[values]}, "
                    f"ptr {a_at}, i64 {stride}, i64 4, ptr {b}, i64 {wide}, ptr {c_at}, "
                    f"i64 {KEYS * 4})"
                )
        shift = f.gep("float", t["shift"], f.add("%line", start))
        delta = f.gep("float", t["delta"], f.add("%line", start))
        at = f.add(f.mul(start, KEYS), panel.index)
        p, ds = f.gep("float", room["p"], at), f.gep("float", room["ds"], at)
        half = f.add(f.mul(f.udiv(start, machine.step), KEYS), panel.index)
        p_to, ds_to = f.gep("float", room["p"], half), f.gep("float", room["ds"], half)
        left = f.sub("%count", start)
        many = f.min(f.sub("%keys", panel.index), machine.panel)
        own = f.sub(f.add(ahead, start), panel.index)
        numbers = (
            f"(ptr %t, ptr {p}, ptr {ds}, i64 {left}, i64 {many}, ptr {shift}, ptr {delta}, "
            f"i64 {f.add('%first', start)}, i64 {f.add('%key', panel.index)}, i64 %b, i64 %h, "
            f"ptr %sums, float %factor, float %scale, ptr {p_to}, ptr {ds_to}, "
            f"ptr {f.gep('i16', room['ds_pairs'], at)})"
        )
        crossing = f.cmp("slt", own, f.sub(many, 1)) if causal else "false"
        for crosses, masked in forms(problem):
            condition = "%masked" if masked else f.op("xor i1 %masked, true")
            if causal:
                side = crossing if crosses else f.op(f"xor i1 {crossing}, true")
                condition = f.both(condition, side) if problem.mask is not None else side
            if causal or problem.mask is not None:
                with f.when(condition):
                    f.do(f"call void @{slopes_name(crosses, masked)}{numbers}")
            else:
                f.do(f"call void @{slopes_name(crosses, masked)}{numbers}")
    # dV += P^T dO and dK += dS^T Q, a tile of keys at a time over the queries that see it
    step = full
    with f.loop("%keys", step=step) as key:
        start = 0
        if causal:
            start = f.op(f"and i64 {f.max(f.sub(key.index, ahead), 0)}, {-full}")
        left = f.sub("%count", start)
        with f.when(f.cmp("sgt", left, 0)):
            steps, first = tiles.slots(f, machine, left), f.udiv(start, machine.step)
            for x, source, to, columns in (
                ("p", "g_steps", "dv", room.v), ("ds", "q_steps", "dk", room.e)
            ):  # fmt: skip
                a = f.gep("float", room[x], f.add(f.mul(first, KEYS), key.index))
                b = f.gep("i8", room[source], f.mul(columns, first))
                c = f.gep("i8", room[to], f.mul(columns, key.index))
                wide_product(f, machine, full, columns, steps, a, 4, KEYS * 4, b, c)
    # dQ += dS K; the last tile's rows may reach the next queries' dQ, to which they add 0
    with f.loop(rows, step=full) as row:
        seen: Value = "%keys"
        if causal:
            seen = f.min(seen, f.add(f.add(ahead, row.index), full))
        with f.when(f.cmp("sgt", seen, 0)):
            line = KEYS * 4 // machine.step
            a = f.gep("i8", room["ds_pairs"], f.mul(row.index, line))
            c = f.gep("i8", "%dq", f.mul(room.e, row.index))
            steps = tiles.slots(f, machine, seen)
            wide_product(f, machine, full, room.e, steps, a, line, 4, room["k_steps"], c)
    f.ret()
    return f.text()


def pack_keys(
    f: Function, machine: Machine, t: Words, room: Room, k: str, v: str, keys: Value
) -> None:
    """Panels of a block's keys and values, rows of its keys, and gradients of 0."""
    panel = machine.panel
    with f.loop(keys, step=panel) as part:
        index = f.udiv(part.index, panel)
        left = f.sub(keys, part.index)
        for x, to, source, features in (("k", "kt", k, "e"), ("v", "vt", v, "v")):
            step = room.kt_step if x == "k" else room.vt_step
            start = f.gep(machine.stored, source, f.mul(part.index, t[f"{x}_s"]))
            f.do(
                f"call void @pack_panel(ptr {f.gep('i8', room[to], f.mul(index, step))}, "
                f"ptr {start}, i64 {t[f'{x}_s']}, i64 {t[f'{x}_{features}']}, i64 {left}, "
                f"i64 {t[features.upper()]}, float 1.0)"
            )
    f.do(
        f"call void @{pack.steps_name(machine)}(ptr {room['k_steps']}, ptr {k}, i64 {t['k_s']}, "
        f"i64 {t['k_e']}, i64 {keys}, i64 {t['E']}, i64 {keys})"
    )
    for x, columns in (("dk", room.e), ("dv", room.v)):
        size = f.mul(columns, KEYS)
        f.do(f"call void @llvm.memset.p0.i64(ptr align 64 {room[x]}, i8 0, i64 {size}, i1 false)")


def dq_rows(f: Function, t: Words) -> Value:
    """Rows of one share's dQ: the group's queries, each head's rounded up to whole tiles."""
    group = f.udiv(t["Hq"], t["Hk"])
    return f.mul(group, f.mul(f.ceildiv(t["L"], QUERIES), QUERIES))


def task(machine: Machine, problem: Problem) -> str:
    """The second parallel part: groups [begin, end) of units, which follow one another; a unit is
    a share of a head's keys. The sums of captured tensors' gradients are a group's."""
    f = Function(
        "backward_task", [("ptr", "t"), ("i64", "begin"), ("i64", "end"), ("i64", "worker")]
    )
    t = problem.words(f)
    t.preload(*(x for x in problem.fields if x not in ("dlse", "o", "lse")))
    scale = f.op(f"fptrunc double {t['scale']} to float")
    size = Room(f, machine, "%t", t["E"], t["V"]).size
    raw = f.op(f"call ptr @malloc(i64 {f.add(size, 64)})")
    address = f.op(f"ptrtoint ptr {raw} to i64")
    start = f.op(f"inttoptr i64 {f.op(f'and i64 {f.add(address, 63)}, -64')} to ptr")
    total = sums_size(f, t, problem)
    with f.loop("%end", start="%begin") as turn:
        sums = f.gep("float", t["sums"], f.mul(turn.index, total))
        if problem.needs:
            bytes_ = f.mul(total, 4)
            f.do(f"call void @llvm.memset.p0.i64(ptr align 4 {sums}, i8 0, i64 {bytes_}, i1 false)")
        begin = f.udiv(f.mul(turn.index, t["units"]), t["groups"])
        end = f.udiv(f.mul(f.add(turn.index, 1), t["units"]), t["groups"])
        with f.loop(end, start=begin) as unit:
            Unit(f, machine, problem, t, start, sums, scale).write(unit.index)
    f.do(f"call void @free(ptr {raw})")
    f.ret()
    return f.text()


def sums_size(f: Function, t: Words, problem: Problem) -> Value:
    """Numbers of a group's sums."""
    total: Value = 0
    for k in problem.needs:
        total = f.add(total, t[f"size{k}"])
    return total


class Unit:
    """Writes the work of one unit: a share of a head's keys."""

    def __init__(
        self, f: Function, machine: Machine, problem: Problem, t: Words, start: str, sums: str,
        scale: str,
    ) -> None:  # fmt: skip
        self.f = f
        self.machine = machine
        self.problem = problem
        self.t = t
        self.start = start
        self.sums = sums
        self.scale = scale
        factor = f.op(f"fmul float {scale}, {tiles.scalar(LOG2_E)}")
        self.factor = tiles.scalar(LOG2_E) if problem.score is not None else factor
        self.room = Room(f, machine, start, t["E"], t["V"])

    def write(self, unit: Value) -> None:
        """The unit's dQ, and dK and dV of its keys."""
        f, t, room = self.f, self.t, self.room
        head, share = f.udiv(unit, t["chunks"]), f.urem(unit, t["chunks"])
        b, h = f.udiv(head, t["Hk"]), f.urem(head, t["Hk"])
        k, v = (base(f, t, x, b, h, self.machine.stored_size) for x in "kv")
        rows = dq_rows(f, t)
        own = f.gep("i8", t["parts"], f.mul(f.mul(unit, rows), room.e))
        f.do(
            f"call void @llvm.memset.p0.i64(ptr align 64 {own}, i8 0, "
            f"i64 {f.mul(rows, room.e)}, i1 false)"
        )
        parts: Value = 1
        blocks: Value = f.ceildiv(t["S"], KEYS)
        if self.problem.cover == "blocks":
            parts = f.ceildiv(f.min(t["BK"], t["S"]), KEYS)
            blocks = f.mul(f.ceildiv(t["S"], t["BK"]), parts)
        with f.loop(blocks, start=share, step=t["chunks"]) as turn:
            key: Value = f.mul(turn.index, KEYS)
            keys: Value = f.min(f.sub(t["S"], key), KEYS)
            column: Value = 0
            if self.problem.cover == "blocks":
                column = f.udiv(turn.index, parts)
                begin = f.mul(column, t["BK"])
                key = f.add(begin, f.mul(f.urem(turn.index, parts), KEYS))
                end = f.min(f.add(begin, t["BK"]), t["S"])
                keys = f.min(f.sub(end, key), KEYS)
            with f.when(f.cmp("sgt", keys, 0)):
                kind = self.machine.stored
                k_at = f.gep(kind, k, f.mul(key, t["k_s"]))
                v_at = f.gep(kind, v, f.mul(key, t["v_s"]))
                pack_keys(f, self.machine, t, room, k_at, v_at, keys)
                self.members(b, h, own, column, key, keys)
                place = f.add(f.mul(head, t["S"]), key)
                for x, features, how in (("dk", "E", self.scale), ("dv", "V", "1.0")):
                    to = f.gep(kind, t[x], f.mul(place, t[features]))
                    f.do(
                        f"call void @write_rows(ptr {to}, ptr {room[x]}, i64 1, i64 0, "
                        f"i64 {keys}, i64 {t[features]}, float {how})"
                    )

    def members(self, b: Value, h: Value, own: str, column: Value, key: Value, keys: Value) -> None:
        """The query heads of a group, one after another, against a block of keys."""
        f, t, room = self.f, self.t, self.room
        group = f.udiv(t["Hq"], t["Hk"])
        head_rows = f.mul(f.ceildiv(t["L"], QUERIES), QUERIES)
        with f.loop(group, nonempty=True) as member:
            hq = f.add(f.mul(h, group), member.index)
            q, g = (base(f, t, x, b, hq, self.machine.stored_size) for x in "qg")
            line = f.mul(f.add(f.mul(b, t["Hq"]), hq), t["L"])
            dq_head = f.gep("i8", own, f.mul(f.mul(member.index, head_rows), room.e))

            def span(begin: Value, end: Value, masked: bool, head: tuple[Any, ...]) -> None:
                hq, q, g, line, dq_head = head
                with f.loop(end, start=begin, step=QUERIES) as query:
                    count = f.min(f.sub(end, query.index), QUERIES)
                    kind = self.machine.stored
                    q_at = f.gep(kind, q, f.mul(query.index, t["q_l"]))
                    g_at = f.gep(kind, g, f.mul(query.index, t["g_l"]))
                    dq = f.gep("i8", dq_head, f.mul(query.index, room.e))
                    f.do(
                        f"call void @block(ptr %t, ptr {self.start}, ptr {q_at}, ptr {g_at}, "
                        f"ptr {dq}, i64 {f.add(line, query.index)}, i64 {query.index}, "
                        f"i64 {count}, i64 {key}, i64 {keys}, i64 {b}, i64 {hq}, "
                        f"ptr {self.sums}, i1 {str(masked).lower()}, float {self.factor}, "
                        f"float {self.scale})"
                    )

            known = (hq, q, g, line, dq_head)
            if self.problem.cover == "blocks":
                for masked, x in ((self.problem.mask is not None, "q"), (False, "fq")):
                    with listed(f, t, x, b, hq, column) as each:
                        begin = f.mul(each, t["BQ"])
                        span(begin, f.min(f.add(begin, t["BQ"]), t["L"]), masked, known)
            else:
                first: Value = 0
                if self.problem.cover == "causal":
                    first = f.op(f"and i64 {key}, {-QUERIES}")
                span(first, t["L"], self.problem.mask is not None, known)


def gather(machine: Machine, problem: Problem) -> str:
    """The last parallel part, a unit a head of queries: the shares' dQ added up."""
    f = Function("gather_task", [("ptr", "t"), ("i64", "begin"), ("i64", "end"), ("i64", "worker")])
    t = problem.words(f)
    t.preload("Hq", "Hk", "L", "E", "V", "parts", "chunks", "dq", "scale")
    scale = f.op(f"fptrunc double {t['scale']} to float")
    room = Room(f, machine, "%t", t["E"], t["V"])
    group = f.udiv(t["Hq"], t["Hk"])
    head_rows = f.mul(f.ceildiv(t["L"], QUERIES), QUERIES)
    step = f.mul(dq_rows(f, t), room.e)
    with f.loop("%end", start="%begin") as unit:
        head, member = f.udiv(unit.index, group), f.urem(unit.index, group)
        first = f.mul(f.mul(head, t["chunks"]), step)
        own = f.gep("i8", t["parts"], f.add(first, f.mul(f.mul(member, head_rows), room.e)))
        to = f.gep(machine.stored, t["dq"], f.mul(f.mul(unit.index, t["L"]), t["E"]))
        f.do(
            f"call void @write_rows(ptr {to}, ptr {own}, i64 {t['chunks']}, i64 {step}, "
            f"i64 {t['L']}, i64 {t['E']}, float {scale})"
        )
    f.ret()
    return f.text()


def total(problem: Problem) -> str:
    """A parallel part over captured numbers: the groups' sums, added in order into the first's."""
    f = Function("total_task", [("ptr", "t"), ("i64", "begin"), ("i64", "end"), ("i64", "worker")])
    t = problem.words(f)
    t.preload("sums", "groups")
    size = sums_size(f, t, problem)
    with f.loop("%end", start="%begin") as place:
        own = f.gep("float", t["sums"], place.index)
        with f.loop(t["groups"], start=1, carry=[("float", f.load("float", own, 4))]) as group:
            x = f.load("float", f.gep("float", own, f.mul(group.index, size)), 4)
            group.carry(f.op(f"fadd float {group.carried[0]}, {x}"))
        f.store("float", group.carried[0], own, 4)
    f.ret()
    return f.text()


def entry(machine: Machine, problem: Problem, symbol: str) -> str:
    """void symbol(t): the three parallel parts and the memory between them."""
    f = Function(symbol, [("ptr", "t")], linkage="")
    t = problem.words(f)
    heads = f.mul(t["B"], t["Hq"])
    rows = f.add(f.mul(heads, t["L"]), QUERIES)
    for name in ("shift", "delta"):
        f.store("ptr", f.op(f"call ptr @malloc(i64 {f.mul(rows, 4)})"), t.place(name), 8)
    e = f.mul(tiles.padded(f, machine, t["E"]), 4)
    size = f.mul(f.mul(dq_rows(f, t), e), t["units"])
    raw = f.op(f"call ptr @malloc(i64 {f.add(size, 64)})")
    address = f.op(f"ptrtoint ptr {raw} to i64")
    f.store("i64", f.op(f"and i64 {f.add(address, 63)}, -64"), t.place("parts"), 8)
    total = sums_size(f, t, problem)
    if problem.needs:
        size = f.mul(f.mul(total, 4), t["groups"])
        f.store("ptr", f.op(f"call ptr @malloc(i64 {size})"), t.place("sums"), 8)
    for name, units in (("prepare", heads), ("backward", t["groups"]), ("gather", heads)):
        f.do(f"call void @fl_parallel_for(ptr @{name}_task, ptr %t, i64 {units}, i64 1)")
    if problem.needs:
        f.do(f"call void @fl_parallel_for(ptr @total_task, ptr %t, i64 {total}, i64 4096)")
        sums = f.load("ptr", t.place("sums"), 8)
        for k, at in zip(problem.needs, offsets_of(f, t, problem), strict=True):
            place, size = f.gep("float", sums, at), f.mul(t[f"size{k}"], 4)
            f.do(
                f"call void @llvm.memcpy.p0.p0.i64(ptr align 4 {t[f'grad{k}']}, "
                f"ptr align 4 {place}, i64 {size}, i1 false)"
            )
    f.do(f"call void @free(ptr {raw})")
    for name in ("shift", "delta", *(("sums",) if problem.needs else ())):
        f.do(f"call void @free(ptr {f.load('ptr', t.place(name), 8)})")
    f.ret()
    return f.text()


def functions(machine: Machine, problem: Problem, module: Module) -> list[str]:
    """LLVM IR of the backward kernel's functions."""
    full = tiles.tile_rows(machine)[0]
    parts = [pack.pack_panel(machine), pack.pack_rows(machine), pack.write_rows(machine)]
    if machine.pairs:
        parts.append(pack.pack_steps(machine))
    parts.append(prepare(machine, problem))
    parts += [gradients(machine, problem, *form, module) for form in forms(problem)]
    if problem.needs:
        parts.append(total(problem))
    parts += [tiles.tile(machine, "set", full, 2)]
    parts += [tiles.tile(machine, "add", full, nv) for nv in (1, 2)]
    return [*parts, block(machine, problem), task(machine, problem), gather(machine, problem)]
