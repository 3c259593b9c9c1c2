"""Register-blocked matrix-multiply micro-kernels and the conversions they share, as LLVM IR text.

A micro-kernel keeps an MR x NR tile of C in vector registers (NR = NV vectors) and does one rank-1
update a k: NV loads of B, MR broadcasts of A, MR * NV fused multiply-adds. A is addressed by a row
and a column stride, so the same code reads a packed panel (strides 1 and MR) and an operand left
where it lies. B needs unit column stride: a packed panel (row stride NR) or a row-major operand.

Reference: Goto and van de Geijn, "Anatomy of high-performance matrix multiplication", ACM TOMS
    34(3), 2008; Van Zee and van de Geijn, "BLIS: a framework for rapidly instantiating BLAS
    functionality", ACM TOMS 41(3), 2015.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from flambeau.kernels.emit import Function, Value

ADD_PARTIAL, ADD_BIAS, LAST, ADD_C = 1, 2, 4, 8
"""Flags of a micro-kernel call: what is added to the products, and whether the result is final.

Where operands and accumulator have one type, partial sums live in C itself and only the first two
are read.
"""


@dataclass(frozen=True)
class Form:
    """How one dtype's GEMM is built for one instruction set.

    Attributes:
        dtype: f32, f64, bf16 or f16: operands and C in memory.
        vl: lanes of the accumulator type in a vector.
        nv: vectors in a tile's row; NR = nv * vl.
        mr: rows of the full tile; mr * nv accumulators stay in registers.
        small: rows of the smaller edge tile, dividing mr.
        masks: the instruction set has masked loads and stores of vl lanes of the stored type.
        pairs: bf16 products by AVX-512 BF16's dot of pairs instead of after widening.
        kc: largest block of K, in elements.
        mc: largest block of rows packed at once, a multiple of mr.
    """

    dtype: str
    vl: int
    nv: int
    mr: int
    small: int
    masks: bool
    pairs: bool
    kc: int
    mc: int

    @property
    def nr(self) -> int:
        """Columns of the tile."""
        return self.nv * self.vl

    @property
    def acc(self) -> str:
        """LLVM type of the accumulator."""
        return "double" if self.dtype == "f64" else "float"

    @property
    def acc_size(self) -> int:
        """Bytes of an accumulator."""
        return 8 if self.dtype == "f64" else 4

    @property
    def stored(self) -> str:
        """LLVM type of an element in memory; 16-bit floats travel as i16."""
        return {"f32": "float", "f64": "double", "bf16": "i16", "f16": "i16"}[self.dtype]

    @property
    def stored_size(self) -> int:
        """Bytes of an element in memory."""
        return {"f32": 4, "f64": 8, "bf16": 2, "f16": 2}[self.dtype]

    @property
    def widened(self) -> bool:
        """Whether elements in memory are narrower than the accumulator."""
        return self.stored != self.acc

    @property
    def step(self) -> int:
        """Elements in a slot of a packed panel."""
        return 2 if self.pairs else 1

    @property
    def slot(self) -> str:
        """LLVM type of one slot of a packed panel: an accumulator or a pair of bf16."""
        return "i32" if self.pairs else self.acc

    @property
    def vec(self) -> str:
        """LLVM type of a vector of accumulators."""
        return f"<{self.vl} x {self.acc}>"


class Element(Protocol):
    """What conversions need to know of a kernel: see `Form`."""

    @property
    def dtype(self) -> str:
        """f32, f64, bf16 or f16."""

    @property
    def widened(self) -> bool:
        """Whether elements in memory are narrower than the accumulator."""

    @property
    def pairs(self) -> bool:
        """Whether there are instructions for bfloat16."""

    @property
    def stored(self) -> str:
        """LLVM type of an element in memory."""

    @property
    def stored_size(self) -> int:
        """Bytes of an element in memory."""


def widen(f: Function, form: Element, value: str, lanes: int) -> str:
    """Elements as stored -> accumulator type; lanes == 1 means scalars."""
    if not form.widened:
        return value
    short, word, wide = (
        ("i16", "i32", "float")
        if lanes == 1
        else (f"<{lanes} x i16>", f"<{lanes} x i32>", f"<{lanes} x float>")
    )
    if form.dtype == "bf16":
        bits = f.op(f"zext {short} {value} to {word}")
        high = f.op(f"shl {word} {bits}, {constant(word, lanes, 16)}")
        return f.op(f"bitcast {word} {high} to {wide}")
    half = "half" if lanes == 1 else f"<{lanes} x half>"
    return f.op(f"fpext {half} {f.op(f'bitcast {short} {value} to {half}')} to {wide}")


def narrow(f: Function, form: Element, value: str, lanes: int) -> str:
    """Accumulator type -> elements as stored, round to nearest even; lanes == 1 means scalars."""
    if not form.widened:
        return value
    short, word, wide = (
        ("i16", "i32", "float")
        if lanes == 1
        else (f"<{lanes} x i16>", f"<{lanes} x i32>", f"<{lanes} x float>")
    )
    if form.dtype == "f16":
        half = "half" if lanes == 1 else f"<{lanes} x half>"
        return f.op(f"bitcast {half} {f.op(f'fptrunc {wide} {value} to {half}')} to {short}")
    if form.pairs and lanes > 1:  # vcvtneps2bf16; like the products it flushes subnormal numbers
        short = f"<{lanes} x bfloat>"
        return f.op(
            f"bitcast {short} {f.op(f'fptrunc {wide} {value} to {short}')} to <{lanes} x i16>"
        )
    # Integer rounding, which keeps subnormal numbers.
    bits = f.op(f"bitcast {wide} {value} to {word}")
    high = f.op(f"lshr {word} {bits}, {constant(word, lanes, 16)}")
    odd = f.op(f"and {word} {high}, {constant(word, lanes, 1)}")
    bias = f.op(f"add {word} {odd}, {constant(word, lanes, 0x7FFF)}")
    up = f.op(f"add {word} {bits}, {bias}")
    rounded = f.op(f"lshr {word} {up}, {constant(word, lanes, 16)}")
    quiet = f.op(f"or {word} {high}, {constant(word, lanes, 0x40)}")
    nan = f.op(f"fcmp uno {wide} {value}, {value}")
    flag = "i1" if lanes == 1 else f"<{lanes} x i1>"
    chosen = f.op(f"select {flag} {nan}, {word} {quiet}, {word} {rounded}")
    return f.op(f"trunc {word} {chosen} to {short}")


def constant(kind: str, lanes: int, value: int) -> str:
    """The literal `value` as a scalar or a vector of `lanes`."""
    if lanes == 1:
        return str(value)
    scalar = kind.split(" x ")[1].rstrip(">")
    return "<" + ", ".join([f"{scalar} {value}"] * lanes) + ">"


def load_stored(f: Function, form: Element, address: str, lanes: int) -> str:
    """Load `lanes` elements and widen them."""
    kind = form.stored if lanes == 1 else f"<{lanes} x {form.stored}>"
    return widen(f, form, f.load(kind, address, form.stored_size), lanes)


def store_stored(f: Function, form: Element, value: str, address: str, lanes: int) -> None:
    """Narrow `lanes` accumulators and store them."""
    kind = form.stored if lanes == 1 else f"<{lanes} x {form.stored}>"
    f.store(kind, narrow(f, form, value, lanes), address, form.stored_size)


def lane_mask(f: Function, lanes: int, count: Value) -> str:
    """<lanes x i1> with the first `count` set."""
    short = f.op(f"trunc i64 {count} to i32") if isinstance(count, str) else str(count)
    many = f.splat(lanes, "i32", short)
    iota = ", ".join(f"i32 {n}" for n in range(lanes))
    return f.op(f"icmp ult <{lanes} x i32> <{iota}>, {many}")


def load_some(f: Function, form: Form, kind: str, address: str, count: Value) -> str:
    """Vector of vl lanes of scalar type `kind`: the first `count` loaded, the others zero."""
    whole = f"<{form.vl} x {kind}>"
    if not form.masks:
        return f.op(f"call {whole} @load_some_{kind}(ptr {address}, i64 {count})")
    mask = lane_mask(f, form.vl, count)
    return f.op(
        f"call {whole} @llvm.masked.load.v{form.vl}{MANGLED[kind]}.p0("
        f"ptr align {SIZES[kind]} {address}, <{form.vl} x i1> {mask}, {whole} zeroinitializer)"
    )


def store_some(f: Function, form: Form, kind: str, value: str, address: str, count: Value) -> None:
    """Store the first `count` lanes of a vector of vl lanes of scalar type `kind`."""
    whole = f"<{form.vl} x {kind}>"
    if not form.masks:
        f.do(f"call void @store_some_{kind}({whole} {value}, ptr {address}, i64 {count})")
        return
    mask = lane_mask(f, form.vl, count)
    f.do(
        f"call void @llvm.masked.store.v{form.vl}{MANGLED[kind]}.p0({whole} {value}, "
        f"ptr align {SIZES[kind]} {address}, <{form.vl} x i1> {mask})"
    )


MANGLED = {"float": "f32", "double": "f64", "i16": "i16"}
SIZES = {"float": 4, "double": 8, "i16": 2}


def declarations(form: Form) -> str:
    """Declarations of the intrinsics used, or definitions that stand in for masked access."""
    vl, acc, vec = form.vl, form.acc, form.vec
    mangled = MANGLED[acc]
    kinds = sorted({acc, form.stored})
    lines = [
        f"declare {vec} @llvm.fmuladd.v{vl}{mangled}({vec}, {vec}, {vec})",
        f"declare {acc} @llvm.fmuladd.{mangled}({acc}, {acc}, {acc})",
        f"declare {acc} @llvm.vector.reduce.fadd.v{vl}{mangled}({acc}, {vec})",
        "declare void @llvm.prefetch.p0(ptr, i32, i32, i32)",
        "declare i64 @llvm.smin.i64(i64, i64)",
        "declare i64 @llvm.smax.i64(i64, i64)",
    ]
    if form.pairs:
        pair = f"<{2 * vl} x bfloat>"
        lines += [
            f"declare {form.vec} @llvm.x86.avx512bf16.dpbf16ps.512({form.vec}, {pair}, {pair})",
            "declare <32 x i16> @llvm.masked.load.v32i16.p0(ptr, <32 x i1>, <32 x i16>)",
        ]
    for kind in kinds:
        if form.masks:
            whole, mangled = f"<{vl} x {kind}>", f"v{vl}{MANGLED[kind]}.p0"
            lines.append(f"declare {whole} @llvm.masked.load.{mangled}(ptr, <{vl} x i1>, {whole})")
            lines.append(f"declare void @llvm.masked.store.{mangled}({whole}, ptr, <{vl} x i1>)")
        else:
            lines += [partial_load(form, kind), partial_store(form, kind)]
    return "\n".join(lines) + "\n"


def partial_load(form: Form, kind: str) -> str:
    """`load_some` as a function, for instruction sets without masked loads."""
    whole, size = f"<{form.vl} x {kind}>", SIZES[kind]
    f = Function(f"load_some_{kind}", [("ptr", "p"), ("i64", "n")], whole, "nounwind noinline")
    room = f.alloca(whole, align=64)
    f.store(whole, "zeroinitializer", room, 64)
    with f.loop("%n") as loop:
        f.store(
            kind,
            f.load(kind, f.gep(kind, "%p", loop.index), size),
            f.gep(kind, room, loop.index),
            size,
        )
    f.ret(f"{whole} {f.load(whole, room, 64)}")
    return f.text()


def partial_store(form: Form, kind: str) -> str:
    """`store_some` as a function, for instruction sets without masked stores."""
    whole, size = f"<{form.vl} x {kind}>", SIZES[kind]
    f = Function(
        f"store_some_{kind}",
        [(whole, "v"), ("ptr", "p"), ("i64", "n")],
        "void",
        "nounwind noinline",
    )
    room = f.alloca(whole, align=64)
    f.store(whole, "%v", room, 64)
    with f.loop("%n") as loop:
        f.store(
            kind,
            f.load(kind, f.gep(kind, room, loop.index), size),
            f.gep(kind, "%p", loop.index),
            size,
        )
    f.ret()
    return f.text()


MICRO_PARAMS = [
    ("i64", "k"), ("ptr", "a"), ("i64", "rs"), ("i64", "cs"), ("ptr", "b"), ("i64", "ldb"),
    ("ptr", "p"), ("i64", "ldp"), ("ptr", "c"), ("i64", "ldc"), ("ptr", "bias"), ("i64", "flags"),
]  # fmt: skip
EDGE_PARAMS = [("i64", "cols"), ("i64", "rowmask")]


def micro_name(rows: int, nv: int, edge: bool) -> str:
    """Symbol of a micro-kernel."""
    return f"mk_{rows}x{nv}{'_edge' if edge else ''}"


def micro(form: Form, rows: int, nv: int, edge: bool) -> str:
    """One micro-kernel: C tile = sum over k of A[:, k] B[k, :], plus what `flags` says.

    Args:
        form: dtype and instruction set.
        rows, nv: tile of rows x (nv vectors).
        edge: the last vector has only %cols columns, and only rows with their bit set in %rowmask
            are stored.

    The function's parameters: k slots (> 0), A with row and column strides, B with row stride,
    partial sums p with row stride (read and written where elements are narrower than the
    accumulator), C with row stride, bias, flags. Strides are in bytes.
    """
    f = Function(
        micro_name(rows, nv, edge), MICRO_PARAMS + (EDGE_PARAMS if edge else []), "void",
        "nounwind noinline",
    )  # fmt: skip
    width = form.vl * form.acc_size
    prefetch_tile(f, form, rows, nv, edge)
    products = rank_one_updates(f, form, rows, nv, edge, width)
    if edge:
        edge_epilogue(f, form, rows, nv, products)
    else:
        full_epilogue(f, form, rows, nv, products)
    f.ret()
    return f.text()


def prefetch_tile(f: Function, form: Form, rows: int, nv: int, edge: bool) -> None:
    """Ask for the C tile ahead of the products, so that the epilogue does not wait for it."""
    if edge:
        return
    span = nv * form.vl * form.stored_size
    for row in range(rows):
        start = f.gep("i8", "%c", f.mul("%ldc", row))
        for offset in range(0, span, 64):
            f.prefetch(f.gep("i8", start, offset), write=True)


def rank_one_updates(
    f: Function, form: Form, rows: int, nv: int, edge: bool, width: int
) -> list[list[str]]:
    """The loop over k; returns the accumulators [row][vector]."""
    vec, vl = form.vec, form.vl
    # Rows are reached from one pointer per four rows by [p], [p + rs], [p + 2 rs], [p + 3 rs]:
    # few registers, and no address arithmetic in the loop but one addition a group.
    offsets: list[Value] = [0, "%rs", f.mul("%rs", 2), f.mul("%rs", 3)]
    groups = range(0, rows, 4)
    starts = [f.gep("i8", "%a", f.mul("%rs", row)) for row in groups]
    carry = [("ptr", start) for start in starts] + [("ptr", "%b")]
    carry += [(vec, "zeroinitializer")] * (rows * nv)
    with f.loop("%k", carry=carry, nonempty=True) as loop:
        pointers, b = loop.carried[: len(starts)], loop.carried[len(starts)]
        sums = loop.carried[len(starts) + 1 :]
        columns = []
        for j in range(nv):
            address = f.gep("i8", b, j * width)
            if edge and j == nv - 1 and not form.pairs:
                columns.append(load_some(f, form, form.acc, address, "%cols"))
            elif form.pairs:
                columns.append(f.load(f"<{2 * vl} x bfloat>", address, 4))
            else:
                columns.append(f.load(vec, address, form.acc_size))
        following = []
        for i in range(rows):
            offset = offsets[i % 4]
            address = f.gep("i8", pointers[i // 4], offset)
            scalar = f.load(form.slot, address, form.acc_size)
            row = f.splat(vl, form.slot, scalar)
            if form.pairs:
                row = f.op(f"bitcast <{vl} x i32> {row} to <{2 * vl} x bfloat>")
            for j in range(nv):
                following.append(multiply_add(f, form, row, columns[j], sums[i * nv + j]))
        moved = [f.gep("i8", pointer, "%cs") for pointer in pointers]
        loop.carry(*moved, f.gep("i8", b, "%ldb"), *following)
    sums = loop.carried[len(starts) + 1 :]
    return [sums[i * nv : (i + 1) * nv] for i in range(rows)]


def multiply_add(f: Function, form: Form, a: str, b: str, c: str) -> str:
    """a * b + c on vectors, or c + the dot of pairs."""
    vec = form.vec
    if form.pairs:
        pair = f"<{2 * form.vl} x bfloat>"
        return f.op(
            f"call {vec} @llvm.x86.avx512bf16.dpbf16ps.512({vec} {c}, {pair} {a}, {pair} {b})"
        )
    return f.op(
        f"call {vec} @llvm.fmuladd.v{form.vl}{MANGLED[form.acc]}({vec} {a}, {vec} {b}, {vec} {c})"
    )


def flag(f: Function, bit: int) -> str:
    """i1: whether `bit` is set in %flags."""
    return f.cmp("ne", f.op(f"and i64 %flags, {bit}"), 0)


def full_epilogue(f: Function, form: Form, rows: int, nv: int, products: list[list[str]]) -> None:
    """Add partial sums, bias and C as asked, and store a whole tile."""
    vec, vl, size, part = form.vec, form.vl, form.stored_size, form.acc_size
    flat = [value for row in products for value in row]
    kinds = [vec] * len(flat)
    places = [(i, j) for i in range(rows) for j in range(nv)]

    def address(base: str, stride: str, i: int, j: int, element: int) -> str:
        return f.gep("i8", f.gep("i8", base, f.mul(stride, i)), j * vl * element)

    home, stride = ("%p", "%ldp") if form.widened else ("%c", "%ldc")
    with f.merge(flag(f, ADD_BIAS), kinds, flat) as values:
        biases = [load_stored(f, form, f.gep("i8", "%bias", j * vl * size), vl) for j in range(nv)]
        for n, (_, j) in enumerate(places):
            values[n] = f.op(f"fadd {vec} {flat[n]}, {biases[j]}")
    flat = values
    with f.merge(flag(f, ADD_PARTIAL), kinds, flat) as values:
        for n, (i, j) in enumerate(places):
            before = f.load(vec, address(home, stride, i, j, part), part)
            values[n] = f.op(f"fadd {vec} {before}, {flat[n]}")
    flat = values
    if form.widened:
        with f.when(f.op(f"xor i1 {flag(f, LAST)}, true")):
            for n, (i, j) in enumerate(places):
                f.store(vec, flat[n], address("%p", "%ldp", i, j, part), part)
            f.ret()
        with f.merge(flag(f, ADD_C), kinds, flat) as values:
            for n, (i, j) in enumerate(places):
                before = load_stored(f, form, address("%c", "%ldc", i, j, size), vl)
                values[n] = f.op(f"fadd {vec} {before}, {flat[n]}")
        flat = values
    for n, (i, j) in enumerate(places):
        store_stored(f, form, flat[n], address("%c", "%ldc", i, j, size), vl)


def edge_epilogue(f: Function, form: Form, rows: int, nv: int, products: list[list[str]]) -> None:
    """The same for part of a tile. What is not asked for is jumped over: a masked access of no
    lanes at an address that means nothing costs hundreds of cycles."""
    vec, vl, size, part = form.vec, form.vl, form.stored_size, form.acc_size
    widths: list[Value] = [vl] * (nv - 1) + ["%cols"]
    add_partial, last = flag(f, ADD_PARTIAL), flag(f, LAST)
    add_c, add_bias = flag(f, ADD_C), flag(f, ADD_BIAS)
    with f.merge(add_bias, [vec] * nv, ["zeroinitializer"] * nv) as biases:
        for j in range(nv):
            raw = load_some(f, form, form.stored, f.gep("i8", "%bias", j * vl * size), widths[j])
            biases[j] = widen(f, form, raw, vl)
    for i in range(rows):
        asked = f.cmp("ne", f.op(f"and i64 %rowmask, {1 << i}"), 0)
        with f.when(asked):
            c_row = f.gep("i8", "%c", f.mul("%ldc", i))
            p_row = f.gep("i8", "%p", f.mul("%ldp", i)) if form.widened else c_row
            ps = [f.gep("i8", p_row, j * vl * part) for j in range(nv)]
            cs = [f.gep("i8", c_row, j * vl * size) for j in range(nv)]
            values = [f.op(f"fadd {vec} {products[i][j]}, {biases[j]}") for j in range(nv)]
            with f.merge(add_partial, [vec] * nv, values) as values:
                for j in range(nv):
                    before = load_some(f, form, form.acc, ps[j], widths[j])
                    values[j] = f.op(f"fadd {vec} {before}, {values[j]}")
            if not form.widened:
                for j in range(nv):
                    store_some(f, form, form.acc, values[j], cs[j], widths[j])
                continue
            with f.merge(add_c, [vec] * nv, values) as values:
                for j in range(nv):
                    stored = load_some(f, form, form.stored, cs[j], widths[j])
                    values[j] = f.op(f"fadd {vec} {widen(f, form, stored, vl)}, {values[j]}")
            with f.when(last):
                for j in range(nv):
                    narrowed = narrow(f, form, values[j], vl)
                    store_some(f, form, form.stored, narrowed, cs[j], widths[j])
            with f.when(f.op(f"xor i1 {last}, true")):
                for j in range(nv):
                    store_some(f, form, form.acc, values[j], ps[j], widths[j])
