"""The pieces that attention kernels are made of: products of tiles, transposition, powers of two.

A tile product keeps `rows` x `nv` vectors of C in registers and does one rank-1 update a step of
k, as a matrix product's micro-kernel does; what differs is what happens to C afterwards:

    set      C = A B                       scores
    add      C = C + A B                   gradients
    scale    C = alpha * C + A B           the output, alpha a number a lane

A is read slot by slot through two strides, so it may lie anywhere and either way round; B and C
are rows of whole, aligned vectors in scratch memory. A slot is a float32, or where the machine
multiplies pairs of bfloat16, two neighbours along the dimension that is summed over.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from flambeau.codegen.vecmath_exponential import coefficients
from flambeau.kernels.emit import Function, Value
from flambeau.kernels.gemm_micro import narrow, widen

#: Terms of 2^r for |r| <= 1/2, ascending.
EXP2 = (1.0, coefficients("LN2", "f32")[0], *coefficients("EXP2", "f32"))
LOG2_E = 1.4426950408889634
LN_2 = 0.6931471805599453
NEGATIVE_INFINITY = "0xFFF0000000000000"


@dataclass(frozen=True)
class Machine:
    """What the host's vectors are like.

    Attributes:
        lanes: float32 lanes of a vector.
        rows: rows of the full tile.
        scalef: the instruction set multiplies by powers of two in one instruction (AVX-512).
        pairs: it multiplies pairs of bfloat16 (AVX-512 BF16), and they are what is multiplied.
        vectors: vectors of a panel's row.
        dtype: f32, bf16 or f16: of queries, keys, values, outputs and their gradients in memory.
        asks: tiles ask for what the same tile of the next block will read, line by line.
        fold: 0, or where a vector holds all rows (see `attention_rows`) the keys that it holds them
            for.
    """

    lanes: int
    rows: int
    scalef: bool
    pairs: bool
    vectors: int = 2
    dtype: str = "f32"
    asks: bool = False
    fold: int = 0

    @property
    def vec(self) -> str:
        """LLVM type of a vector of float32."""
        return f"<{self.lanes} x float>"

    @property
    def ints(self) -> str:
        """LLVM type of a vector of int32."""
        return f"<{self.lanes} x i32>"

    @property
    def bits(self) -> str:
        """LLVM type of a vector of truth values."""
        return f"<{self.lanes} x i1>"

    @property
    def width(self) -> int:
        """Bytes of a vector."""
        return 4 * self.lanes

    @property
    def wide(self) -> int:
        """Bits of a vector."""
        return 32 * self.lanes

    @property
    def panel(self) -> int:
        """Lanes of a panel's row."""
        return self.vectors * self.lanes

    @property
    def widened(self) -> bool:
        """Whether elements in memory are narrower than float32."""
        return self.dtype != "f32"

    @property
    def stored(self) -> str:
        """LLVM type of an element in memory; 16-bit floats travel as i16."""
        return "i16" if self.widened else "float"

    @property
    def stored_size(self) -> int:
        """Bytes of an element in memory."""
        return 2 if self.widened else 4

    @property
    def step(self) -> int:
        """Elements of a slot."""
        return 2 if self.pairs else 1

    def of(self, dtype: str) -> Machine:
        """The same for elements of a dtype."""
        return replace(self, dtype=dtype, pairs=self.pairs and dtype == "bf16")

    @property
    def held(self) -> int:
        """Rows that a vector holds, once a key."""
        return self.lanes // max(self.fold, 1)

    @property
    def spread(self) -> int:
        """Slots of features that a vector holds of a row while its scores are summed: so many that
        what is loaded of a key meets two vectors of rows."""
        return min(2 * self.fold, self.lanes) if self.fold else 1

    @property
    def score_tile(self) -> tuple[int, int]:
        """(keys, vectors) of the largest tile of scores."""
        nv = self.spread // self.fold if self.fold else self.vectors
        return self.rows * self.vectors // nv, nv

    def fitting(self, rows: int, folds: bool) -> Machine:
        """The same for few rows, of which a vector holds all if it can and `folds`."""
        if rows > self.lanes or not folds:
            return replace(self, asks=True)
        tall = self.rows * self.vectors
        return replace(self, rows=tall, vectors=1, asks=True, fold=self.lanes // rows)


def machine_of(features: frozenset[str]) -> Machine:
    """The shapes of tiles for a CPU with these LLVM features."""
    if {"avx512f", "avx512bw", "avx512vl", "avx512dq"} <= features:
        return Machine(16, 8, True, "avx512bf16" in features)
    if {"avx2", "fma"} <= features:
        return Machine(8, 4, False, False)
    return Machine(4, 8 if "neon" in features else 4, False, False)


def constant(machine: Machine, value: float) -> str:
    """A float32 in every lane, as LLVM writes it."""
    return f"splat (float {scalar(value)})"


def scalar(value: float) -> str:
    """A float32 literal."""
    single = struct.unpack("<f", struct.pack("<f", value))[0]
    return f"0x{struct.unpack('<Q', struct.pack('<d', single))[0]:016X}"


def fma(f: Function, machine: Machine, a: str, b: str, c: str) -> str:
    """a * b + c, lane by lane."""
    vec = machine.vec
    return f.op(f"call {vec} @llvm.fma.v{machine.lanes}f32({vec} {a}, {vec} {b}, {vec} {c})")


def multiplied(f: Function, machine: Machine, a: str, b: str, c: str) -> str:
    """The products of two vectors of slots, summed slot by slot, plus c."""
    if not machine.pairs:
        return fma(f, machine, a, b, c)
    vec, pair = machine.vec, f"<{2 * machine.lanes} x bfloat>"
    name = f"llvm.x86.avx512bf16.dpbf16ps.{machine.wide}"
    return f.op(f"call {vec} @{name}({vec} {c}, {pair} {a}, {pair} {b})")


def greatest(f: Function, machine: Machine, a: str, b: str) -> str:
    """The greater of two vectors' lanes; neither side is NaN where it matters."""
    bits = f.op(f"fcmp ogt {machine.vec} {a}, {b}")
    return f.op(f"select {machine.bits} {bits}, {machine.vec} {a}, {machine.vec} {b}")


def exp2(f: Function, machine: Machine, x: str) -> str:
    """2^x to 1 ulp or so, x bounded above by 127; exactly 0 for -inf.

    n is the nearest integer, 2^(x - n) a polynomial.
    """
    vec, lanes = machine.vec, machine.lanes
    low = constant(machine, -160.0)
    under = f.op(f"fcmp olt {vec} {x}, {low}")
    x = f.op(f"select {machine.bits} {under}, {vec} {low}, {vec} {x}")
    n = f.op(f"call {vec} @llvm.roundeven.v{lanes}f32({vec} {x})")
    r = f.op(f"fsub {vec} {x}, {n}")
    p = constant(machine, EXP2[-1])
    for term in EXP2[-2::-1]:
        p = fma(f, machine, p, r, constant(machine, term))
    if machine.scalef:
        every = "i16 -1, i32 4" if machine.wide == 512 else "i8 -1"
        return f.op(
            f"call {vec} @llvm.x86.avx512.mask.scalef.ps.{machine.wide}({vec} {p}, {vec} {n}, "
            f"{vec} zeroinitializer, {every})"
        )
    whole = f.op(f"fptosi {vec} {n} to {machine.ints}")
    tiny = f.op(f"icmp slt {machine.ints} {whole}, splat (i32 -126)")
    moved = f.op(f"shl {machine.ints} {whole}, splat (i32 23)")
    sum_ = f.op(f"add {machine.ints} {f.op(f'bitcast {vec} {p} to {machine.ints}')}, {moved}")
    found = f.op(f"bitcast {machine.ints} {sum_} to {vec}")
    return f.op(f"select {machine.bits} {tiny}, {vec} zeroinitializer, {vec} {found}")


def numbers(values: Iterable[int]) -> str:
    """A vector of int32."""
    return "<" + ", ".join(f"i32 {k}" for k in values) + ">"


def lane_numbers(machine: Machine) -> str:
    """0, 1, .. as int32 lanes."""
    return numbers(range(machine.lanes))


def first_lanes(f: Function, machine: Machine, count: Value, step: int = 1) -> str:
    """The elements below `count` (i64, clamped to the vector) of a vector of `step` a lane."""
    lanes = machine.lanes * step
    low = f.max(count, 0)
    short = f.op(f"trunc i64 {f.min(low, lanes)} to i32")
    many = f.splat(lanes, "i32", short)
    numbers = "<" + ", ".join(f"i32 {k}" for k in range(lanes)) + ">"
    return f.op(f"icmp ult <{lanes} x i32> {numbers}, {many}")


def masked_store(f: Function, machine: Machine, value: str, place: str, mask: str) -> None:
    """Write the mask's lanes."""
    f.do(
        f"call void @llvm.masked.store.v{machine.lanes}f32.p0({machine.vec} {value}, "
        f"ptr align 4 {place}, {machine.bits} {mask})"
    )


def load_lanes(
    f: Function, machine: Machine, place: str, count: Value | None, step: int = 1
) -> str:
    """The first `count` elements at `place`, or all, as a vector of `step` elements a lane, then
    zeros."""
    n, size, kind = machine.lanes * step, machine.stored_size, machine.stored
    if count is None:
        return f.load(f"<{n} x {kind}>", place, size)
    mask = first_lanes(f, machine, count, step)
    name = f"v{n}{'i16' if machine.widened else 'f32'}"
    return f.op(
        f"call <{n} x {kind}> @llvm.masked.load.{name}.p0(ptr align {size} {place}, "
        f"<{n} x i1> {mask}, <{n} x {kind}> zeroinitializer)"
    )


def load_elements(f: Function, machine: Machine, place: str, count: Value | None) -> str:
    """The first `count` elements at `place`, or all, as float32 lanes, then zeros."""
    return widen(f, machine, load_lanes(f, machine, place, count), machine.lanes)


def store_elements(
    f: Function, machine: Machine, value: str, place: str, count: Value | None
) -> None:
    """Write the first `count` float32 lanes, or all, as elements."""
    n, size, kind = machine.lanes, machine.stored_size, machine.stored
    value = narrow(f, machine, value, n)
    if count is None:
        f.store(f"<{n} x {kind}>", value, place, size)
        return
    mask = first_lanes(f, machine, count)
    name = f"v{n}{'i16' if machine.widened else 'f32'}"
    f.do(
        f"call void @llvm.masked.store.{name}.p0(<{n} x {kind}> {value}, ptr align {size} {place}, "
        f"{machine.bits} {mask})"
    )


def rounded_pairs(f: Function, machine: Machine, low: str, high: str) -> tuple[str, str]:
    """Two vectors of float32 as bfloat16: (one after the other, as pairs of neighbouring keys)."""
    n, vec, held = 2 * machine.lanes, machine.vec, machine.held
    both = f.op(
        f"call <{n} x bfloat> @llvm.x86.avx512bf16.cvtne2ps2bf16.{machine.wide}({vec} {high}, "
        f"{vec} {low})"
    )
    order = [2 * k - k % held + half for k in range(machine.lanes) for half in (0, held)]
    return both, f.shuffle(n, "bfloat", both, "poison", order)


def slots(f: Function, machine: Machine, n: Value) -> Value:
    """Slots of n elements."""
    return f.ceildiv(n, machine.step)


def padded(f: Function, machine: Machine, n: Value) -> Value:
    """n rounded up to whole vectors."""
    return f.mul(f.ceildiv(n, machine.lanes), machine.lanes)


def transposed(f: Function, machine: Machine, rows: list[str]) -> list[str]:
    """The columns of `lanes` vectors, by log2(lanes) rounds of interleaving."""
    lanes = machine.lanes
    half = lanes // 2
    low = [x for k in range(half) for x in (k, lanes + k)]
    high = [half + x for x in low]
    steps = lanes.bit_length() - 1
    for _ in range(steps):
        following = []
        for k in range(half):
            a, b = rows[k], rows[k + half]
            following.append(f.shuffle(lanes, "float", a, b, low))
            following.append(f.shuffle(lanes, "float", a, b, high))
        rows = following
    return rows


TILE_PARAMS = [
    ("i64", "k"), ("ptr", "a"), ("i64", "rs"), ("i64", "cs"), ("ptr", "b"), ("i64", "ldb"),
    ("ptr", "c"), ("i64", "ldc"),
]  # fmt: skip


def tile_name(mode: str, rows: int, nv: int) -> str:
    """Symbol of a tile product."""
    return f"tile_{mode}_{rows}x{nv}"


def tile(machine: Machine, mode: str, rows: int, nv: int) -> str:
    """One tile product; see the module. Strides are in bytes, k > 0 counts slots.

    Args:
        mode: set, add or scale; scale has one more parameter, the address of alpha (nv vectors).
    """
    extra = [("ptr", "alpha")] if mode == "scale" else []
    extra += [("i64", "ahead")] if machine.asks else []
    f = Function(tile_name(mode, rows, nv), TILE_PARAMS + extra, "void", "nounwind noinline")
    vec, width = machine.vec, machine.width
    sums = rank_one_updates(f, machine, rows, nv, mode == "scale")
    if machine.fold:
        sums = unfolded(f, machine, sums)
        rows, nv = len(sums), 1
    alphas = []
    if mode == "scale":
        alphas = [f.load(vec, f.gep("i8", "%alpha", j * width), 64) for j in range(nv)]
    for i in range(rows):
        start = f.gep("i8", "%c", f.mul("%ldc", i))
        for j in range(nv):
            place = f.gep("i8", start, j * width)
            value = sums[i * nv + j]
            if mode != "set":
                before = f.load(vec, place, width)
                if mode == "scale":
                    value = fma(f, machine, before, alphas[j], value)
                else:
                    value = f.op(f"fadd {vec} {before}, {value}")
            f.store(vec, value, place, width)
    f.ret()
    return f.text()


def rank_one_updates(
    f: Function, machine: Machine, rows: int, nv: int, columns_near: bool
) -> list[str]:
    """The loop over k; returns the sums, row by row. A's neighbours in memory are those of a column
    or of a row: where it asks for what is needed later, the lines are taken in either order."""
    vec, width, lanes, pairs = machine.vec, machine.width, machine.lanes, machine.pairs
    slot = "i32" if pairs else "float"
    # Rows are reached from one pointer per four rows, so that addresses fit the addressing modes.
    # That they are multiples of one stride is kept from LLVM, which would go from row to row by
    # additions that wait for one another; that the pointers move together, too: it would keep one
    # of them and the distances to the others, which are more than there are registers.
    steps: list[Value] = [
        0,
        "%rs",
        *(f.opaque("i64", f.mul("%rs", row)) for row in (2, 3, *range(4, rows, 4))),
    ]
    offsets = steps[:4]
    starts = [f.gep("i8", "%a", step) for step in [0, *steps[4:]]]
    carry = [("ptr", start) for start in starts] + [("ptr", "%b")]
    carry += [(vec, "zeroinitializer")] * (rows * nv)
    with f.loop("%k", carry=carry, nonempty=True) as loop:
        pointers = [f.opaque("ptr", pointer) for pointer in loop.carried[: len(starts)]]
        b = loop.carried[len(starts)]
        sums = loop.carried[len(starts) + 1 :]
        pair = f"<{2 * lanes} x bfloat>"
        columns = [
            f.load(pair if pairs else vec, f.gep("i8", b, j * width), width) for j in range(nv)
        ]
        if machine.asks:
            line: Value = f.mul(loop.index, "%cs")
            if not columns_near:
                number = f.mul(loop.index, machine.spread)
                row_ = f.mul(f.urem(number, rows), "%rs")
                line = f.add(row_, f.mul(f.udiv(number, rows), 64))
            for k in range(machine.spread):
                if k and k % rows == 0:
                    line = f.add(line, 64)
                place = f.add(line, f.mul("%rs", k % rows))
                f.prefetch(f.gep("i8", "%a", f.add("%ahead", place)), near=2)
        following = []
        for i in range(rows):
            address = f.gep("i8", pointers[i // 4], offsets[i % 4])
            row = repeated(f, machine, slot, address)
            if pairs:
                row = f.op(f"bitcast <{lanes} x i32> {row} to {pair}")
            for j in range(nv):
                following.append(multiplied(f, machine, row, columns[j], sums[i * nv + j]))
        moved = [f.gep("i8", pointer, "%cs") for pointer in pointers]
        loop.carry(*moved, f.gep("i8", b, "%ldb"), *following)
    return loop.carried[len(starts) + 1 :]


def repeated(f: Function, machine: Machine, slot: str, address: str) -> str:
    """The slots at an address that a vector holds for each of its rows, again and again."""
    n, lanes, align = machine.spread, machine.lanes, 2 if machine.pairs else 4
    if n == lanes:
        return f.load(f"<{n} x {slot}>", address, align)
    if n == 1:
        return f.splat(lanes, slot, f.load(slot, address, align))
    if n == 2:
        both = f.splat(lanes // 2, "i64", f.load("i64", address, align))
        return f.op(f"bitcast <{lanes // 2} x i64> {both} to <{lanes} x {slot}>")
    some = f.load(f"<{n} x {slot}>", address, align)
    return f.shuffle(n, slot, some, "poison", [k % n for k in range(lanes)])


def unfolded(f: Function, machine: Machine, sums: list[str]) -> list[str]:
    """Of every `spread` vectors, which hold as many sums of a row side by side, one with their
    totals: row after row for the first key, then for the second and so on."""
    lanes = machine.lanes
    for _ in range(machine.spread.bit_length() - 1):
        halves = [
            [f.shuffle(lanes, "float", a, b, range(start, 2 * lanes, 2)) for start in (0, 1)]
            for a, b in zip(sums[::2], sums[1::2], strict=True)
        ]
        sums = [f.op(f"fadd {machine.vec} {a}, {b}") for a, b in halves]
    return sums


def across(f: Function, machine: Machine, x: str, join: Callable[[str, str], str]) -> str:
    """What `join` makes of a row's lanes in a vector that holds it for `fold` keys, in all of
    them."""
    step = machine.held
    while step < machine.lanes:
        turned = [(k + step) % machine.lanes for k in range(machine.lanes)]
        x = join(x, f.shuffle(machine.lanes, "float", x, "poison", turned))
        step *= 2
    return x


def tile_rows(machine: Machine) -> list[int]:
    """Rows of the tiles that cover any number of rows: the full tile, then halves of it."""
    rows, found = machine.rows, []
    while rows:
        found.append(rows)
        rows //= 2
    return found


def product(
    f: Function,
    machine: Machine,
    mode: str,
    m: Value,
    nv: int,
    k: Value,
    a: str,
    rs: Value,
    cs: Value,
    b: str,
    ldb: Value,
    c: str,
    ldc: Value,
    alpha: str | None = None,
    ahead: Value = 0,
) -> None:
    """C (m x nv vectors) from A (m x k slots) and B, tile after tile; m need not be a multiple of
    rows.

    Strides are in bytes; the columns are one panel.
    """
    tail = f", ptr {alpha}" if alpha is not None else ""
    tail += f", i64 {ahead}" if machine.asks else ""

    def call(rows: int, at: Value) -> None:
        a_at = f.gep("i8", a, f.mul(rs, at))
        c_at = f.gep("i8", c, f.mul(ldc, at))
        f.do(
            f"call void @{tile_name(mode, rows, nv)}(i64 {k}, ptr {a_at}, i64 {rs}, "
            f"i64 {cs}, ptr {b}, i64 {ldb}, ptr {c_at}, i64 {ldc}{tail})"
        )

    full, *rest = tile_rows(machine)
    whole = f.op(f"and i64 {m}, {-full}") if isinstance(m, str) else m & -full
    with f.loop(whole, step=full) as loop:
        call(full, loop.index)
    at: Value = whole
    for rows in rest:
        if isinstance(m, int):
            if m & rows:
                call(rows, at)
                at = f.add(at, rows)
            continue
        asked = f.cmp("ne", f.op(f"and i64 {m}, {rows}"), 0)
        with f.when(asked):
            call(rows, at)
        at = f.add(at, f.op(f"and i64 {m}, {rows}"))


def declarations(machine: Machine) -> set[str]:
    """Intrinsics that the pieces call."""
    vec, bits, lanes = machine.vec, machine.bits, machine.lanes
    found = {
        "declare i64 @llvm.smin.i64(i64, i64)",
        "declare void @llvm.prefetch.p0(ptr, i32, i32, i32)",
        "declare i64 @llvm.smax.i64(i64, i64)",
        f"declare {vec} @llvm.fma.v{lanes}f32({vec}, {vec}, {vec})",
        f"declare {vec} @llvm.roundeven.v{lanes}f32({vec})",
        f"declare float @llvm.vector.reduce.fadd.v{lanes}f32(float, {vec})",
        f"declare {vec} @llvm.masked.load.v{lanes}f32.p0(ptr, {bits}, {vec})",
        f"declare void @llvm.masked.store.v{lanes}f32.p0({vec}, ptr, {bits})",
        f"declare <{lanes} x i16> @llvm.masked.load.v{lanes}i16.p0(ptr, {bits}, <{lanes} x i16>)",
        f"declare void @llvm.masked.store.v{lanes}i16.p0(<{lanes} x i16>, ptr, {bits})",
        "declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)",
        "declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)",
    }
    if machine.scalef:
        found.add(
            f"declare {vec} @llvm.x86.avx512.mask.scalef.ps.{machine.wide}({vec}, {vec}, {vec}, "
            f"{'i16, i32' if machine.wide == 512 else 'i8'})"
        )
    if machine.pairs:
        n = 2 * lanes
        pair = f"<{n} x bfloat>"
        found |= {
            f"declare {vec} @llvm.x86.avx512bf16.dpbf16ps.{machine.wide}({vec}, {pair}, {pair})",
            f"declare {pair} @llvm.x86.avx512bf16.cvtne2ps2bf16.{machine.wide}({vec}, {vec})",
            f"declare <{n} x i16> @llvm.masked.load.v{n}i16.p0(ptr, <{n} x i1>, <{n} x i16>)",
        }
    return found
