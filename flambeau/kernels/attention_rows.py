"""Attention forward where one vector holds all rows, as in decoding: the products of a block.

With R rows, a vector of n lanes holds them F = n / R times. Keys are read F slots of features at a
time, which fill a vector with the queries' as they lie beside one another; of F keys' sums one
vector is made that holds the scores row by row, key after key, so that exponentials use all lanes.
Values are read along their features, whole vectors of them. Keys and values are so multiplied where
they lie, and few loads go with a multiplication.

The output stays row-major; top, sum and alpha hold every row F times.
"""

from __future__ import annotations

from flambeau.kernels import attention_pack as pack
from flambeau.kernels import attention_tiles as tiles
from flambeau.kernels.attention_forward import apply_mods, block_of_keys
from flambeau.kernels.attention_problem import KEYS, Problem
from flambeau.kernels.attention_tiles import NEGATIVE_INFINITY, Machine
from flambeau.kernels.emit import Function, Value, Words
from flambeau.kernels.gemm_pack import join_pairs


def whole(machine: Machine) -> int:
    """Of how many keys a block is a multiple; fewer are made up with zeros."""
    return max(machine.score_tile[0], 4 * machine.fold)


class Room:
    """A unit's scratch memory: addresses of its parts by name.

    qt: queries, a vector of slots a step. s: scores of a block. top, sum: see the module. ot: the
    output so far, row-major. alpha: what to multiply it with. k, v: a block's keys and values where
    they cannot be read as they lie.
    """

    def __init__(self, f: Function, machine: Machine, start: str, features: Value, values: Value):
        width = machine.width
        nv = machine.score_tile[1]
        self.steps = f.ceildiv(tiles.slots(f, machine, features), machine.spread)
        self.ot_row = f.mul(tiles.padded(f, machine, values), 4)
        self.k_row = f.mul(tiles.padded(f, machine, tiles.slots(f, machine, features)), 4)
        self.v_row = f.mul(tiles.padded(f, machine, tiles.slots(f, machine, values)), 4)
        self.s = start
        self.alpha = f.gep("i8", start, KEYS * machine.held * 4)
        self.qt = f.gep("i8", self.alpha, width)
        #: bytes of a step's queries, and of all
        self.q_row = nv * width
        self.q_size = f.mul(self.steps, self.q_row)
        self.top = f.gep("i8", self.qt, self.q_size)
        self.sum = f.gep("i8", self.top, width)
        self.ot = f.gep("i8", self.sum, width)
        #: bytes of what a unit has found: top, sum and ot, which follow one another
        self.found = f.add(f.mul(self.ot_row, machine.held), 2 * width)
        self.k = f.gep("i8", self.top, self.found)
        self.v = f.gep("i8", self.k, f.mul(self.k_row, KEYS))
        before = f.add(self.q_size, KEYS * machine.held * 4 + width)
        size = f.add(before, self.found)
        self.size = f.add(size, f.mul(f.add(self.k_row, self.v_row), KEYS))


def heights(machine: Machine) -> tuple[int, int]:
    """(rows, vectors of features) of the largest tile of the product with values."""
    sums = machine.rows  # as many as in the other product
    rows = min(machine.held, sums // 2)
    return rows, min(sums // rows, 4)


def values_tile(machine: Machine, nv: int) -> str:
    """void values_{nv}(n, p, v, vs, o, os, alpha, left, ahead): O = alpha * O + P V for the rows of
    a tile and nv vectors of features, of which `left` are there. n slots of keys; strides in bytes.
    """
    f = Function(
        f"values_{nv}",
        [("i64", "n"), ("ptr", "p"), ("ptr", "v"), ("i64", "vs"), ("ptr", "o"), ("i64", "os"),
         ("ptr", "alpha"), ("i64", "left"), ("i64", "ahead")],
        "void",
        "nounwind noinline",
    )  # fmt: skip
    vec, lanes, width, pairs = machine.vec, machine.lanes, machine.width, machine.pairs
    size = 2 if pairs else 4  # of an element, where it lies or has been copied to
    kind = "i16" if pairs else "float"
    name = f"v{lanes}{'i16' if pairs else 'f32'}"
    mask = tiles.first_lanes(f, machine, f.sub("%left", (nv - 1) * lanes))
    pair = f"<{2 * lanes} x bfloat>"

    def line(start: str, j: int) -> str:
        """Vector j of a key's values."""
        place = f.gep(kind, start, j * lanes)
        if j < nv - 1:
            return f.load(f"<{lanes} x {kind}>", place, size)
        return f.op(
            f"call <{lanes} x {kind}> @llvm.masked.load.{name}.p0(ptr align {size} {place}, "
            f"{machine.bits} {mask}, <{lanes} x {kind}> zeroinitializer)"
        )

    rows, _ = heights(machine)
    carry = [("ptr", "%p"), ("ptr", "%v"), *[(vec, "zeroinitializer")] * (rows * nv)]
    with f.loop("%n", carry=carry, nonempty=True) as key:
        p, v, *sums = key.carried
        starts = [f.gep("i8", v, "%vs"), v] if pairs else [v]
        for start in starts:
            for at in range(0, nv * lanes * size, 64):
                f.prefetch(f.gep("i8", f.gep("i8", start, at), "%ahead"), near=2)
        lines = [[line(start, j) for start in starts] for j in range(nv)]
        if pairs:
            columns = [
                f.op(f"bitcast {machine.ints} {join_pairs(f, lanes, low, high)} to {pair}")
                for high, low in lines
            ]
        else:
            columns = [x for (x,) in lines]
        following = []
        for i in range(rows):
            slot = "i32" if pairs else "float"
            weight = f.splat(lanes, slot, f.load(slot, f.gep(slot, p, i), 4))
            if pairs:
                weight = f.op(f"bitcast {machine.ints} {weight} to {pair}")
            for j in range(nv):
                old = sums[i * nv + j]
                following.append(tiles.multiplied(f, machine, weight, columns[j], old))
        key.carry(
            f.gep("i8", p, machine.held * 4), f.gep("i8", starts[0], "%vs"), *following
        )  # fmt: skip
    for i in range(rows):
        alpha = f.splat(lanes, "float", f.load("float", f.gep("float", "%alpha", i), 4))
        start = f.gep("i8", "%o", f.mul("%os", i))
        for j in range(nv):
            place = f.gep("i8", start, j * width)
            total = key.carried[2 + i * nv + j]
            x = tiles.fma(f, machine, f.load(vec, place, width), alpha, total)
            f.store(vec, x, place, width)
    f.ret()
    return f.text()


def operands(
    f: Function, machine: Machine, t: Words, room: Room, seen: Value
) -> list[tuple[str, Value]]:
    """(address, bytes from key to key) of a block's keys and of its values: where they lie, or
    copied into the room with zeros for keys up to `seen`."""
    found: list[tuple[str, Value]] = []
    there = f.cmp("eq", "%keys", seen)
    if machine.widened and not machine.pairs:
        there = "false"
    group = machine.step * machine.spread
    even = f.cmp("eq", f.urem(t["E"], group), 0) if group > 1 else "true"
    for x, axis, count, row in (("k", "e", "E", room.k_row), ("v", "v", "V", room.v_row)):
        apart = f.mul(t[f"{x}_s"], machine.stored_size)
        place = f.gep("i8", f"%{x}", f.mul(apart, "%key"))
        direct = f.both(there, f.cmp("eq", t[f"{x}_{axis}"], 1))
        if x == "k":
            direct = f.both(direct, even)
        to = getattr(room, x)
        with f.when(f.op(f"xor i1 {direct}, true")):
            f.do(
                f"call void @pack_rows(ptr {to}, ptr {place}, i64 {t[f'{x}_s']}, "
                f"i64 {t[f'{x}_{axis}']}, i64 %keys, i64 {t[count]}, i64 {seen})"
            )
        found.append((f.select(direct, place, to, "ptr"), f.select(direct, apart, row)))
    return found


def block(machine: Machine, problem: Problem) -> str:
    """The block of keys (`attention_forward`) for the few rows of a unit."""
    f, t = block_of_keys(problem)
    room = Room(f, machine, "%room", t["E"], t["V"])
    width, fold = machine.width, machine.fold
    rows, nv = machine.score_tile
    seen = f.mul(f.ceildiv("%keys", whole(machine)), whole(machine))
    (k, k_row), (v, v_row) = operands(f, machine, t, room, seen)
    with f.loop(seen, step=rows, nonempty=True) as key:
        place = f.gep("i8", room.s, f.mul(f.udiv(key.index, fold), width))
        start = f.gep("i8", k, f.mul(key.index, k_row))
        f.do(
            f"call void @{tiles.tile_name('set', rows, nv)}(i64 {room.steps}, ptr {start}, "
            f"i64 {k_row}, i64 {4 * machine.spread}, ptr {room.qt}, i64 {room.q_row}, "
            f"ptr {place}, i64 {width}, "
            f"i64 {f.mul(k_row, KEYS)})"
        )
    count = f.udiv(seen, fold)
    apply_mods(f, problem, room.s, f"i64 {count}, i64 %first, i64 %key, i64 %b, i64 %h")
    with f.loop(count, start=f.udiv("%keys", fold)) as row:  # zeros that make up a block
        place = f.gep("i8", room.s, f.mul(row.index, width))
        mask = tiles.first_lanes(
            f, machine, f.mul(f.sub("%keys", f.mul(row.index, fold)), machine.held)
        )
        x = f.load(machine.vec, place, width)
        minus = f"splat (float {NEGATIVE_INFINITY})"
        x = f.op(f"select {machine.bits} {mask}, {machine.vec} {x}, {machine.vec} {minus}")
        f.store(machine.vec, x, place, width)
    f.do(
        f"call void @softmax(ptr {room.s}, i64 {count}, ptr {room.top}, ptr {room.sum}, "
        f"ptr {room.alpha}, float %factor)"
    )
    weigh(f, machine, t, room, tiles.slots(f, machine, seen), v, v_row)
    f.ret()
    return f.text()


def weigh(
    f: Function, machine: Machine, t: Words, room: Room, n: Value, v: str, v_row: Value
) -> None:
    """The product of n slots of keys' probabilities and values, tile after tile."""
    size = 2 if machine.pairs else 4
    rows, full = heights(machine)
    vectors = f.ceildiv(t["V"], machine.lanes)
    ahead = f.mul(v_row, KEYS)
    for first in range(0, machine.held, rows):
        p = f.gep("float", room.s, first)
        alpha = f.gep("float", room.alpha, first)
        o = f.gep("i8", room.ot, f.mul(room.ot_row, first))
        at: Value = 0
        nv = full
        while nv:
            stop = f.mul(f.udiv(vectors, nv), nv)
            with f.loop(stop, start=at, step=nv) as j:
                own = f.mul(j.index, machine.lanes)
                start = f.gep("i8", v, f.mul(own, size))
                f.do(
                    f"call void @values_{nv}(i64 {n}, ptr {p}, ptr {start}, i64 {v_row}, "
                    f"ptr {f.gep('float', o, own)}, i64 {room.ot_row}, ptr {alpha}, "
                    f"i64 {f.sub(t['V'], own)}, i64 {ahead})"
                )
            at, nv = stop, nv // 2


def functions(machine: Machine, problem: Problem) -> list[str]:
    """LLVM IR of the functions of a block."""
    parts = [pack.pack_rows(machine), tiles.tile(machine, "set", *machine.score_tile)]
    nv = heights(machine)[1]
    while nv:
        parts.append(values_tile(machine, nv))
        nv //= 2
    return [*parts, block(machine, problem)]
