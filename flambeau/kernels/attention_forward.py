"""Attention forward: queries along the lanes, keys one row after another.

A unit of parallel work is a tile of queries of one head. It is turned once into panels of queries
whose features lie in rows; keys and values are then read where they lie, element by element. Per
block of keys: scores S^T = K Q^T, whose maxima and sums are taken lane by lane, probabilities with
the base-2 exponent, and the output O^T = alpha O^T + V^T P^T, alpha the factor by which an earlier
maximum was too small (Dao, FlashAttention-2, arXiv:2307.08691, algorithm 1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from flambeau.codegen.lowerings import Value as Typed
from flambeau.kernels import attention_pack as pack
from flambeau.kernels import attention_tiles as tiles
from flambeau.kernels.attention_mods import Inline
from flambeau.kernels.attention_problem import KEYS, OWN, Problem, base
from flambeau.kernels.attention_tiles import LN_2, LOG2_E, NEGATIVE_INFINITY, Machine
from flambeau.kernels.emit import Function, Module, Value, Words, Writer

#: panels of queries in a unit
PANELS = 4


def unit_queries(machine: Machine) -> int:
    """Queries of a unit."""
    return PANELS * machine.panel


class Room:
    """A unit's scratch memory: addresses of its parts by name.

    qt: panels of queries, features in rows. ot: the output so far, likewise. s: scores of a block.
    top, sum: per query the greatest score and the sum of probabilities. alpha: what to multiply
    the output with. k, v: a block's keys and values in slots, where their elements are not.
    """

    def __init__(self, f: Function, machine: Machine, start: str, features: Value, values: Value):
        wide = machine.panel * 4
        slots = tiles.padded(f, machine, tiles.slots(f, machine, features))
        self.qt_step = f.mul(slots, wide)
        self.ot_step = f.mul(tiles.padded(f, machine, values), wide)
        self.s = start
        self.alpha = f.gep("i8", start, KEYS * wide)
        self.qt = f.gep("i8", start, (KEYS + 1) * wide)
        self.top = f.gep("i8", self.qt, f.mul(self.qt_step, PANELS))
        self.sum = f.gep("i8", self.top, PANELS * wide)
        self.ot = f.gep("i8", self.sum, PANELS * wide)
        #: bytes of what a unit has found: top, sum and ot, which follow one another
        self.found = f.add(f.mul(self.ot_step, PANELS), 2 * PANELS * wide)
        fixed = (KEYS + 1) * wide
        self.size = f.add(f.add(f.mul(self.qt_step, PANELS), self.found), fixed)
        if machine.widened:
            self.k_row = f.mul(slots, 4)
            self.v_row = f.mul(tiles.padded(f, machine, values), 4)
            self.k = f.gep("i8", start, self.size)
            self.v = f.gep("i8", self.k, f.mul(self.k_row, KEYS))
            both = f.add(f.mul(self.k_row, KEYS), f.mul(self.v_row, KEYS // machine.step))
            self.size = f.add(self.size, both)


def causal_scores(machine: Machine) -> str:
    """void causal_scores(s, from, to, first): rows [from, to) become -inf in lanes whose query is
    before the row's key; `first` is the number of lane 0's query less that of row 0's key."""
    names = ("from", "to", "first")
    f = Function("causal_scores", [("ptr", "s"), *(("i64", n) for n in names)])
    vec, lanes, wide = machine.vec, machine.lanes, machine.panel * 4
    with f.loop("%to", start="%from") as row:
        short = f.op(f"trunc i64 {f.sub(row.index, '%first')} to i32")
        own = f.splat(lanes, "i32", short)
        for j in range(machine.vectors):
            numbers = "<" + ", ".join(f"i32 {j * lanes + k}" for k in range(lanes)) + ">"
            gone = f.op(f"icmp sgt {machine.ints} {own}, {numbers}")
            place = f.gep("i8", f.gep("i8", "%s", f.mul(row.index, wide)), j * machine.width)
            x = f.load(vec, place, machine.width)
            minus = f"splat (float {NEGATIVE_INFINITY})"
            x = f.op(f"select {machine.bits} {gone}, {vec} {minus}, {vec} {x}")
            f.store(vec, x, place, machine.width)
    f.ret()
    return f.text()


def inlines(
    f: Function,
    machine: Machine,
    problem: Problem,
    t: Words,
    module: Module,
    names: Sequence[str],
    j: int,
) -> list[Inline]:
    """Mods for vector j of a panel, lanes along queries, with what depends on no key written.

    `%first` is the panel's first query; with few queries its first row, see `attention_few`, and
    `%h` a head of keys.
    """
    b = Writer(f, module)
    lanes = machine.lanes

    def short(x: Value) -> Typed:
        return b.convert("trunc", Typed(str(x), "i64", 1), "i32")

    group = f.udiv(t["Hq"], t["Hk"]) if problem.few else 1
    numbers = Typed(tiles.numbers(k % machine.held for k in range(lanes)), "i32", lanes)
    rows = b.op("add", b.splat(short(f.add("%first", j * lanes)), lanes), numbers)
    last = short(f.sub(f.mul(t["L"], group), 1))
    rows = b.call("smin", rows, b.splat(last, lanes))  # lanes beyond the end repeat the last
    slots = {"b": short("%b"), "h": short("%h"), "q": rows}
    if problem.few:
        length = b.splat(short(t["L"]), lanes)
        slots["q"] = b.op("urem", rows, length)
        first = b.splat(short(f.mul("%h", group)), lanes)
        slots["h"] = b.op("add", first, b.op("udiv", rows, length))
    found = []
    for name in names:
        inline = Inline(b, t, name, problem.mods[name], lanes, dict(slots))
        inline.hoist(frozenset(slots))
        found.append(inline)
    return found


def keys_of(f: Function, machine: Machine, first: Value, row: Value) -> Typed:
    """The numbers of the keys of a row of scores, whose first row holds key `first` on."""
    if machine.fold <= 1:
        return Typed(f.op(f"trunc i64 {f.add(first, row)} to i32"), "i32", 1)
    lanes = machine.lanes
    short = f.op(f"trunc i64 {f.add(first, f.mul(row, machine.fold))} to i32")
    more = tiles.numbers(k // machine.held for k in range(lanes))
    both = f.op(f"add {machine.ints} {f.splat(lanes, 'i32', short)}, {more}")
    return Typed(both, "i32", lanes)


_PLACE = [("i64", "n"), ("i64", "first"), ("i64", "key"), ("i64", "b"), ("i64", "h")]


def mod_scores(machine: Machine, problem: Problem, masked: bool, module: Module) -> str:
    """void scores(t, s, n, first, key, b, h, scale): the score_mod, and where `masked` the
    mask_mod, on n rows of scores."""
    f = Function(
        f"scores{'_masked' if masked else ''}",
        [("ptr", "t"), ("ptr", "s"), *_PLACE, ("float", "scale")],
        "void",
        "nounwind noinline",
    )
    t = problem.words(f)
    t.preload("L", "Hq", "Hk", *problem.mod_words)
    vec, lanes, wide = machine.vec, machine.lanes, machine.panel * 4
    scale = f.splat(lanes, "float", "%scale")
    names = [n for n in ("score", "mask") if n in problem.mods and (n != "mask" or masked)]
    for j in range(machine.vectors):
        mods = dict(zip(names, inlines(f, machine, problem, t, module, names, j), strict=True))
        with f.loop("%n") as row:
            place = f.gep("i8", f.gep("i8", "%s", f.mul(row.index, wide)), j * machine.width)
            x = f.load(vec, place, machine.width)
            keys = keys_of(f, machine, "%key", row.index)
            for inline in mods.values():
                inline.row(kv=keys)
            if "score" in mods:
                x = f.op(f"fmul {vec} {x}, {scale}")
                mods["score"].slots["score"] = Typed(x, "float", lanes)
                x = mods["score"].result(mods["score"].mod.outputs[0], "float").name
                x = _vector(f, machine, x)
            if "mask" in mods:
                seen = mods["mask"].result(mods["mask"].mod.outputs[0], "i1").name
                minus = f"splat (float {NEGATIVE_INFINITY})"
                x = f.op(f"select {machine.bits} {seen}, {vec} {x}, {vec} {minus}")
            f.store(vec, x, place, machine.width)
    f.ret()
    return f.text()


def _vector(f: Function, machine: Machine, x: str) -> str:
    """A vector by name: a constant becomes one."""
    return x if x.startswith("%") else f.op(f"fadd {machine.vec} {x}, zeroinitializer")


def dropped(machine: Machine, problem: Problem, module: Module) -> str:
    """void dropped(t, p, n, first, key, b, h): dropout on n rows of probabilities."""
    f = Function("dropped", [("ptr", "t"), ("ptr", "p"), *_PLACE], "void", "nounwind noinline")
    t = problem.words(f)
    t.preload("L", "Hq", "Hk", "keep_scale", *problem.mod_words)
    vec, lanes, wide = machine.vec, machine.lanes, machine.panel * 4
    scale = f.splat(lanes, "float", f.op(f"fptrunc double {t['keep_scale']} to float"))
    for j in range(machine.vectors):
        (keep,) = inlines(f, machine, problem, t, module, ("keep",), j)

        def kept(row: Value, at: str, keep: Inline = keep) -> str:
            x = f.op(f"fmul {vec} {f.load(vec, at, machine.width)}, {scale}")
            keep.row(kv=keys_of(f, machine, "%key", row))
            bits = keep.result(keep.mod.outputs[0], "i1").name
            return f.op(f"select {machine.bits} {bits}, {vec} {x}, {vec} zeroinitializer")

        with f.loop("%n", step=machine.step) as row:
            place = f.gep("i8", f.gep("i8", "%p", f.mul(row.index, wide)), j * machine.width)
            values = [
                kept(f.add(row.index, k), f.gep("i8", place, k * wide)) for k in range(machine.step)
            ]
            if machine.pairs:
                further = f.cmp("slt", f.add(row.index, 1), "%n")
                values[1] = f.select(further, values[1], "zeroinitializer", vec)
            store_step(f, machine, "%p", row.index, j, values)
    f.ret()
    return f.text()


def store_step(
    f: Function, machine: Machine, p: str, row: Value, j: int, values: list[str]
) -> None:
    """Write vector j of the probabilities of `step` rows from `row` on, as one row of slots."""
    at = f.mul(f.udiv(row, machine.step), machine.panel * 4)
    place = f.gep("i8", f.gep("i8", p, at), j * machine.width)
    if machine.pairs:
        _, pairs = tiles.rounded_pairs(f, machine, *values)
        f.store(f"<{2 * machine.lanes} x bfloat>", pairs, place, machine.width)
    else:
        f.store(machine.vec, values[0], place, machine.width)


def softmax(machine: Machine, last: bool) -> str:
    """void softmax(s, n, top, sum, alpha, factor): n rows become exp2(factor * (s - top)), rows of
    slots if nothing else happens to them (`last`).

    top and sum are brought up to date; alpha is what earlier sums were multiplied with.
    """
    f = Function(
        "softmax",
        [("ptr", "s"), ("i64", "n"), ("ptr", "top"), ("ptr", "sum"), ("ptr", "alpha"),
         ("float", "factor")],
        "void",
        "nounwind noinline",
    )  # fmt: skip
    vec, width, wide = machine.vec, machine.width, machine.panel * 4
    factor = f.splat(machine.lanes, "float", "%factor")
    lowest = f"splat (float {NEGATIVE_INFINITY})"
    old = [f.load(vec, f.gep("i8", "%top", j * width), width) for j in range(machine.vectors)]
    side = 4 // machine.vectors  # rows side by side, so that their chains of operations overlap
    with f.loop(f.urem(f.sub(0, "%n"), side)) as row:  # nothing is seen in what rounds them up
        place = f.gep("i8", "%s", f.mul(f.add("%n", row.index), wide))
        for j in range(machine.vectors):
            f.store(vec, lowest, f.gep("i8", place, j * width), width)
    with f.loop("%n", step=side, carry=[(vec, x) for x in old * side]) as row:
        start = f.gep("i8", "%s", f.mul(row.index, wide))
        best = [
            tiles.greatest(f, machine, f.load(vec, f.gep("i8", start, j * width), width), c)
            for j, c in enumerate(row.carried)
        ]
        row.carry(*best)
    tops = row.carried[: machine.vectors]
    for k in range(1, side):
        more = row.carried[k * machine.vectors :]
        tops = [tiles.greatest(f, machine, x, c) for c, x in zip(tops, more, strict=False)]
    tops = [
        tiles.across(f, machine, x, lambda a, b: tiles.greatest(f, machine, a, b)) for x in tops
    ]
    shifts = []
    for j, top in enumerate(tops):
        f.store(vec, top, f.gep("i8", "%top", j * width), width)
        empty = f.op(f"fcmp oeq {vec} {top}, {lowest}")
        safe = f.op(f"select {machine.bits} {empty}, {vec} zeroinitializer, {vec} {top}")
        shift = f.op(f"fneg {vec} {f.op(f'fmul {vec} {safe}, {factor}')}")
        shifts.append(shift)
        alpha = tiles.exp2(f, machine, tiles.fma(f, machine, old[j], factor, shift))
        f.store(vec, alpha, f.gep("i8", "%alpha", j * width), width)
    step = machine.step if last else 1
    zeros = [(vec, "zeroinitializer")] * (side * machine.vectors)
    with f.loop("%n", step=side, carry=zeros) as row:
        sums = list(row.carried)
        for j in range(machine.vectors):
            values = []
            for k in range(side):
                at = f.gep("i8", f.gep("i8", "%s", f.mul(f.add(row.index, k), wide)), j * width)
                x = tiles.fma(f, machine, f.load(vec, at, width), factor, shifts[j])
                values.append(tiles.exp2(f, machine, x))
                of = k * machine.vectors + j
                sums[of] = f.op(f"fadd {vec} {sums[of]}, {values[-1]}")
                if not last:
                    f.store(vec, values[-1], at, width)
            for k in range(0, side if last else 0, step):
                store_step(f, machine, "%s", f.add(row.index, k), j, values[k : k + step])
        row.carry(*sums)
    for j in range(machine.vectors):
        total = row.carried[j]
        for x in row.carried[j + machine.vectors :: machine.vectors]:
            total = f.op(f"fadd {vec} {total}, {x}")
        total = tiles.across(f, machine, total, lambda a, b: f.op(f"fadd {vec} {a}, {b}"))
        place = f.gep("i8", "%sum", j * width)
        alpha = f.load(vec, f.gep("i8", "%alpha", j * width), width)
        f.store(vec, tiles.fma(f, machine, f.load(vec, place, width), alpha, total), place, width)
    f.ret()
    return f.text()


def finish(machine: Machine) -> str:
    """void finish(top, sum, lse, greatest, count, factor, scale): 1 / sum into `sum`, the
    log-sum-exp out; with `greatest` not null also the greatest score.

    A query that saw nothing has sum 0: its factor is 0 and its log-sum-exp -inf.
    """
    f = Function(
        "finish",
        [("ptr", "top"), ("ptr", "sum"), ("ptr", "lse"), ("ptr", "greatest"), ("i64", "count"),
         ("float", "factor"), ("float", "scale")],
        "void",
        "nounwind noinline",
    )  # fmt: skip
    vec, lanes, width = machine.vec, machine.lanes, machine.width
    some = f.op("icmp ne ptr %greatest, null")
    factor = f.splat(lanes, "float", "%factor")
    for j in range(machine.vectors):
        total = f.load(vec, f.gep("i8", "%sum", j * width), width)
        top = f.load(vec, f.gep("i8", "%top", j * width), width)
        none = f.op(f"fcmp oeq {vec} {total}, zeroinitializer")
        inverse = f.op(f"fdiv {vec} splat (float 1.0), {total}")
        inverse = f.op(f"select {machine.bits} {none}, {vec} zeroinitializer, {vec} {inverse}")
        f.store(vec, inverse, f.gep("i8", "%sum", j * width), width)
        log = f.op(f"call {vec} @fl_log_f32_{lanes}({vec} {total})")
        # the factor that shifts were rounded with, in natural units
        shift = f.op(
            f"fmul {vec} {f.op(f'fmul {vec} {top}, {factor}')}, {tiles.constant(machine, LN_2)}"
        )
        lse = f.op(f"fadd {vec} {log}, {shift}")
        lowest = f"splat (float {NEGATIVE_INFINITY})"
        lse = f.op(f"select {machine.bits} {none}, {vec} {lowest}, {vec} {lse}")
        mask = tiles.first_lanes(f, machine, f.sub("%count", j * lanes))
        tiles.masked_store(f, machine, lse, f.gep("float", "%lse", j * lanes), mask)
        with f.when(some):
            natural = f.op(f"fmul {vec} {top}, {f.splat(lanes, 'float', '%scale')}")
            natural = f.op(f"select {machine.bits} {none}, {vec} {lowest}, {vec} {natural}")
            to = f.gep("float", "%greatest", j * lanes)
            tiles.masked_store(f, machine, natural, to, mask)
    f.ret()
    return f.text()


def operands(f: Function, machine: Machine, t: Words, room: Room) -> list[tuple[str, Value, Value]]:
    """(address, bytes from key to key, bytes from slot to slot of features) of a block's keys and
    of its values: where they lie if slots are found there, else copied into the room."""
    places: list[tuple[str, Value, Value]] = []
    for x, axis in (("k", "e"), ("v", "v")):
        row, column = (f.mul(t[f"{x}_{a}"], machine.stored_size) for a in ("s", axis))
        places.append((f.gep("i8", f"%{x}", f.mul(row, "%key")), row, column))
    if not machine.widened:
        return places
    (k, k_row, _), (v, _, _) = places
    direct = "false"
    if machine.pairs:
        even = f.cmp("eq", f.urem(t["E"], machine.step), 0)
        direct = f.both(even, f.cmp("eq", t["k_e"], 1))
    with f.when(f.op(f"xor i1 {direct}, true")):
        f.do(
            f"call void @pack_rows(ptr {room.k}, ptr {k}, i64 {t['k_s']}, i64 {t['k_e']}, "
            f"i64 %keys, i64 {t['E']}, i64 %keys)"
        )
    f.do(
        f"call void @{pack.steps_name(machine)}(ptr {room.v}, ptr {v}, i64 {t['v_s']}, "
        f"i64 {t['v_v']}, i64 %keys, i64 {t['V']}, i64 %keys)"
    )
    k = f.select(direct, k, room.k, "ptr")
    return [(k, f.select(direct, k_row, room.k_row), 4), (room.v, room.v_row, 4)]


def block_of_keys(problem: Problem) -> tuple[Function, Words]:
    """void block(..), a block of keys for all rows of a unit, and the words it reads: to be
    written. k and v point at the head's key 0."""
    f = Function(
        "block",
        [("ptr", "t"), ("ptr", "room"), ("ptr", "k"), ("ptr", "v"), ("i64", "first"),
         ("i64", "count"), ("i64", "key"), ("i64", "keys"), ("i64", "b"), ("i64", "h"),
         ("i1", "masked"), ("float", "factor"), ("float", "scale")],
        "void",
        "nounwind noinline",
    )  # fmt: skip
    t = problem.words(f)
    t.preload("E", "V", "k_s", "k_e", "v_s", "v_v")
    return f, t


def block(machine: Machine, problem: Problem) -> str:
    """The block of keys by panels of queries."""
    f, t = block_of_keys(problem)
    room = Room(f, machine, "%room", t["E"], t["V"])
    panel, wide = machine.panel, machine.panel * 4
    (k, k_row, k_col), (v, v_row, v_col) = operands(f, machine, t, room)
    slots = tiles.slots(f, machine, t["E"])
    with f.loop(f.ceildiv("%count", panel)) as part:
        first = f.add("%first", f.mul(part.index, panel))
        ahead = f.sub(first, "%key")  # keys before the panel's first query
        seen: Value = "%keys"
        if problem.cover == "causal":
            seen = f.max(f.min(seen, f.add(ahead, panel)), 0)
        qt = f.gep("i8", room.qt, f.mul(room.qt_step, part.index))
        ot = f.gep("i8", room.ot, f.mul(room.ot_step, part.index))
        at = f.mul(part.index, wide)
        top, total = f.gep("i8", room.top, at), f.gep("i8", room.sum, at)
        with f.when(f.cmp("sgt", seen, 0)):
            tiles.product(
                f, machine, "set", seen, machine.vectors, slots, k, k_row, k_col, qt, wide,
                room.s, wide, ahead=f.mul(k_row, KEYS),
            )  # fmt: skip
            if problem.cover == "causal":
                start = f.max(f.add(ahead, 1), 0)
                f.do(
                    f"call void @causal_scores(ptr {room.s}, i64 {start}, i64 {seen}, i64 {ahead})"
                )
            place = f"i64 {seen}, i64 {first}, i64 %key, i64 %b, i64 %h"
            apply_mods(f, problem, room.s, place)
            f.do(
                f"call void @softmax(ptr {room.s}, i64 {seen}, ptr {top}, ptr {total}, "
                f"ptr {room.alpha}, float %factor)"
            )
            if problem.keep is not None:
                f.do(f"call void @dropped(ptr %t, ptr {room.s}, {place})")
            tiles.product(
                f, machine, "scale", t["V"], machine.vectors, tiles.slots(f, machine, seen), v,
                v_col, v_row, room.s, wide, ot, wide, room.alpha, f.mul(v_row, KEYS),
            )  # fmt: skip
    f.ret()
    return f.text()


def apply_mods(f: Function, problem: Problem, s: str, place: str) -> None:
    """The mods on the scores at s, within `block`; `place` is what says which they are."""
    numbers = f"(ptr %t, ptr {s}, {place}, float %scale)"
    if problem.mask is not None:
        with f.when("%masked"):
            f.do(f"call void @scores_masked{numbers}")
    if problem.score is not None and problem.mask is None:
        f.do(f"call void @scores{numbers}")
    elif problem.score is not None:
        with f.when(f.op("xor i1 %masked, true")):
            f.do(f"call void @scores{numbers}")


def factors(f: Function, t: Words, of_score: bool) -> tuple[str, str, str]:
    """(the factor of scores in base 2, what queries are multiplied with: 1, -1 or 0, and the
    factor of scores before a score_mod or in natural units). Factors are not negative.

    A scale of 0 becomes queries of 0, so that masked scores stay -inf.
    """
    scale = f.op(f"fptrunc double {t['scale']} to float")
    negative = f.op(f"fcmp olt float {scale}, 0.0")
    zero = f.op(f"fcmp oeq float {scale}, 0.0")
    size = f.op(f"select i1 {negative}, float {f.op(f'fneg float {scale}')}, float {scale}")
    factor = f.op(f"fmul float {size}, {tiles.scalar(LOG2_E)}")
    factor = f.op(f"select i1 {zero}, float {tiles.scalar(LOG2_E)}, float {factor}")
    if of_score:
        factor = tiles.scalar(LOG2_E)
    sign = f.op(f"select i1 {negative}, float -1.0, float 1.0")
    size = f.op(f"select i1 {zero}, float 1.0, float {size}")
    return factor, f.op(f"select i1 {zero}, float 0.0, float {sign}"), size


def greatest(f: Function, t: Words, place: Value) -> str:
    """Where the greatest scores go; null where nobody wants them."""
    none = f.op(f"icmp eq ptr {t['top']}, null")
    return f.op(f"select i1 {none}, ptr null, ptr {f.gep('float', t['top'], place)}")


def block_of_queries(
    f: Function, t: Words, number: Value, queries: int
) -> tuple[Value, Value, Value]:
    """(block of the block mask, first query, queries, 0 or less where there are none) of a unit."""
    parts = f.ceildiv(f.min(t["BQ"], t["L"]), queries)
    row_block = f.udiv(number, parts)
    start = f.mul(row_block, t["BQ"])
    first = f.add(start, f.mul(f.urem(number, parts), queries))
    end = f.min(f.add(start, t["BQ"]), t["L"])
    return row_block, first, f.max(f.min(f.sub(end, first), queries), 0)


def share_of(f: Function, t: Words, count: Value, share: Value) -> tuple[Value, Value]:
    """Where one of `chunks` equal shares of a count begins and ends."""
    begin = f.udiv(f.mul(count, share), t["chunks"])
    return begin, f.udiv(f.mul(count, f.add(share, 1)), t["chunks"])


@contextmanager
def listed(
    f: Function, t: Words, x: str, b: Value, h: Value, row: Value, share: Value | None = None
) -> Iterator[Value]:
    """A loop over the blocks that a row of a block mask lists, or over one of `chunks` shares."""
    places = []
    for name in (f"{x}n", f"{x}i"):
        at = f.add(f.mul(b, t[f"{name}_b"]), f.mul(h, t[f"{name}_h"]))
        places.append(f.gep("i32", t[name], f.add(at, f.mul(row, t[f"{name}_r"]))))
    count = f.op(f"sext i32 {f.load('i32', places[0], 4)} to i64")
    begin, end = (0, count) if share is None else share_of(f, t, count, share)
    with f.loop(end, start=begin) as each:
        number = f.load("i32", f.gep("i32", places[1], each.index), 4)
        yield f.op(f"zext i32 {number} to i64")  # one below 0 is beyond the end, as there is none


class Unit:
    """Writes the work of a unit: what every form of the parallel part does with its room.

    Args:
        f: the function of the parallel part; its parameter `t` is the table.
    """

    rooms: Callable[..., Any] = Room

    def __init__(self, f: Function, machine: Machine, problem: Problem) -> None:
        self.f = f
        self.machine = machine
        self.problem = problem
        self.t = t = problem.words(f)
        t.preload(*(x for x in problem.fields if x not in ("units", *OWN["forward"])))
        self.factor, self.sign, self.natural = factors(f, t, problem.score is not None)
        size = self.rooms(f, machine, "%t", t["E"], t["V"]).size
        self.raw = f.op(f"call ptr @malloc(i64 {f.add(size, 64)})")
        address = f.op(f"ptrtoint ptr {self.raw} to i64")
        aligned = f.op(f"and i64 {f.add(address, 63)}, -64")
        self.start = f.op(f"inttoptr i64 {aligned} to ptr")
        self.room = self.rooms(f, machine, self.start, t["E"], t["V"])

    def clear(self, count: Value) -> None:
        """No keys have been seen by `count` rows."""
        f, machine, room = self.f, self.machine, self.room
        with f.loop(PANELS * machine.vectors, nonempty=True) as vector:
            at = f.mul(vector.index, machine.width)
            lowest = f"splat (float {NEGATIVE_INFINITY})"
            f.store(machine.vec, lowest, f.gep("i8", room.top, at), machine.width)
            f.store(machine.vec, "zeroinitializer", f.gep("i8", room.sum, at), machine.width)
        bytes_ = f.mul(f.ceildiv(count, machine.panel), room.ot_step)
        f.do(f"call void @llvm.memset.p0.i64(ptr align 64 {room.ot}, i8 0, i64 {bytes_}, i1 false)")

    def span(
        self, begin: Value, end: Value, masked: bool, k: str, v: str, place: tuple[Value, ...]
    ) -> None:
        """The keys [begin, end) for (first query, queries, b, h)."""
        f = self.f
        first, count, b, h = place
        with f.loop(end, start=begin, step=KEYS) as key:
            keys = f.min(f.sub(end, key.index), KEYS)
            f.do(
                f"call void @block(ptr %t, ptr {self.start}, ptr {k}, ptr {v}, i64 {first}, "
                f"i64 {count}, i64 {key.index}, i64 {keys}, i64 {b}, i64 {h}, "
                f"i1 {str(masked).lower()}, float {self.factor}, float {self.natural})"
            )

    def listed_spans(
        self, row: Value, k: str, v: str, place: tuple[Value, ...], share: Value | None = None
    ) -> None:
        """The keys that a block mask lists for a row of its blocks, or a share of them."""
        f, t = self.f, self.t
        for masked, x in ((True, "k"), (False, "fk")):
            with listed(f, t, x, place[2], place[3], row, share) as each:
                begin = f.mul(each, t["BK"])
                end = f.min(f.add(begin, t["BK"]), t["S"])
                self.span(begin, end, masked, k, v, place)

    def write(self, count: Value, line: Value) -> None:
        """The results of `count` rows, which begin at row `line` of them all."""
        f, t, room, machine = self.f, self.t, self.room, self.machine
        with f.loop(f.ceildiv(count, machine.panel)) as part:
            row = f.mul(part.index, machine.panel)
            at = f.mul(part.index, machine.panel * 4)
            top, total = f.gep("i8", room.top, at), f.gep("i8", room.sum, at)
            left, at_row = f.sub(count, row), f.add(line, row)
            lse = f.gep("float", t["lse"], at_row)
            best = greatest(f, t, at_row)
            f.do(
                f"call void @finish(ptr {top}, ptr {total}, ptr {lse}, ptr {best}, i64 {left}, "
                f"float {self.factor}, float {'1.0' if self.problem.score else self.natural})"
            )
            out = f.gep(machine.stored, t["out"], f.mul(at_row, t["V"]))
            ot = f.gep("i8", room.ot, f.mul(room.ot_step, part.index))
            f.do(
                f"call void @unpack_panel(ptr {out}, ptr {ot}, i64 {left}, i64 {t['V']}, "
                f"ptr {total})"
            )

    def text(self) -> str:
        """The function, ended."""
        self.f.do(f"call void @free(ptr {self.raw})")
        self.f.ret()
        return self.f.text()


def task(machine: Machine, problem: Problem) -> str:
    """The parallel part: units [begin, end)."""
    f = Function(
        "forward_task", [("ptr", "t"), ("i64", "begin"), ("i64", "end"), ("i64", "worker")]
    )
    own = Unit(f, machine, problem)
    t, room = own.t, own.room
    queries, panel = unit_queries(machine), machine.panel
    with f.loop("%end", start="%begin") as unit:
        head = f.udiv(unit.index, t["tiles"])
        # the longest units first, so that the last ones are short
        number = f.sub(f.sub(t["tiles"], 1), f.urem(unit.index, t["tiles"]))
        b, h = f.udiv(head, t["Hq"]), f.urem(head, t["Hq"])
        shared = f.udiv(f.mul(h, t["Hk"]), t["Hq"])
        q, k, v = (
            base(f, t, x, b, head_, machine.stored_size)
            for x, head_ in (("q", h), ("k", shared), ("v", shared))
        )
        first = f.mul(number, queries)
        count: Value = f.min(f.sub(t["L"], first), queries)
        row_block: Value = 0
        if problem.cover == "blocks":
            row_block, first, count = block_of_queries(f, t, number, queries)
        panels = f.ceildiv(count, panel)
        with f.loop(panels) as part:
            row = f.mul(part.index, panel)
            source = f.gep(machine.stored, q, f.mul(f.add(first, row), t["q_l"]))
            to = f.gep("i8", room.qt, f.mul(room.qt_step, part.index))
            f.do(
                f"call void @pack_panel(ptr {to}, ptr {source}, i64 {t['q_l']}, i64 {t['q_e']}, "
                f"i64 {f.sub(count, row)}, i64 {t['E']}, float {own.sign})"
            )
        own.clear(count)
        place = (first, count, b, h)
        if problem.cover == "blocks":
            own.listed_spans(row_block, k, v, place)
        else:
            stop: Value = t["S"]
            if problem.cover == "causal":
                stop = f.min(stop, f.add(first, count))
            own.span(0, stop, True, k, v, place)
        own.write(count, f.add(f.mul(head, t["L"]), first))
    return own.text()


def entry(machine: Machine, problem: Problem, symbol: str) -> str:
    """void symbol(t): all units, in parallel."""
    f = Function(symbol, [("ptr", "t")], linkage="")
    t = problem.words(f)
    queries = unit_queries(machine)
    count: Value = f.ceildiv(t["L"], queries)
    if problem.cover == "blocks":
        parts = f.ceildiv(f.min(t["BQ"], t["L"]), queries)
        count = f.mul(f.ceildiv(t["L"], t["BQ"]), parts)
    f.store("i64", count, t.place("tiles"), 8)
    units = f.mul(f.mul(t["B"], t["Hq"]), count)
    f.do(f"call void @fl_parallel_for(ptr @forward_task, ptr %t, i64 {units}, i64 1)")
    f.ret()
    return f.text()


def shared(machine: Machine, problem: Problem, module: Module) -> list[str]:
    """LLVM IR of the functions that every form of the forward kernel calls."""
    parts = [softmax(machine, problem.keep is None), finish(machine)]
    if problem.mask is not None:
        parts.append(mod_scores(machine, problem, True, module))
    if problem.score is not None:
        parts.append(mod_scores(machine, problem, False, module))
    return parts


def functions(machine: Machine, problem: Problem, module: Module) -> list[str]:
    """LLVM IR of the functions of a block of keys."""
    parts = [pack.pack_panel(machine), pack.unpack_panel(machine)]
    if machine.widened:
        parts.append(pack.pack_rows(machine))
    if machine.pairs:
        parts.append(pack.pack_steps(machine))
    if problem.cover == "causal":
        parts.append(causal_scores(machine))
    if problem.keep is not None:
        parts.append(dropped(machine, problem, module))
    for rows in tiles.tile_rows(machine):
        parts += [tiles.tile(machine, mode, rows, machine.vectors) for mode in ("set", "scale")]
    return [*parts, block(machine, problem)]
