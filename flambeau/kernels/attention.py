"""Attention on the CPU, forward and backward, float32: a block of queries at a time.

For every (batch, block of queries) the scores of the block stand in a buffer that stays in cache:
one product makes them, one pass over the rows turns them into probabilities, a second product takes
the values. With `causal`, keys after the block's last query are never touched, so half the work is
not done. The backward pass computes the probabilities again from the log-sum-exp (Dao et al.,
FlashAttention, arXiv:2205.14135, algorithm 4); one unit of parallel work is a whole (batch, head),
because every block of queries adds to the same keys' gradients, in a fixed order.

Shapes: q (B.., L, E), k (B.., S, E), v (B.., S, V), out (B.., L, V), lse (B.., L). Inputs may be
strided; results are row-major.
"""

from __future__ import annotations

from flambeau.codegen import vecmath
from flambeau.kernels.emit import Function, Value

LANES = 16
#: rows of a block of queries: enough for the products, few enough for the scores to stay in L2
BLOCK = 64
BATCH_DIMS = 4
_INPUTS = {"forward": ("q", "k", "v"), "backward": ("q", "k", "v", "o", "g")}
_OUTPUTS = {"forward": ("out", "lse"), "backward": ("dq", "dk", "dv")}


def fields(direction: str) -> list[str]:
    """Names of the table's words, in order."""
    names = [*_INPUTS[direction], *_OUTPUTS[direction]]
    if direction == "backward":
        names.append("lse")
    names += ["L", "S", "E", "V", "scale", "causal", "units", "grain", "blocks"]
    names += [f"n{d}" for d in range(BATCH_DIMS)]
    for x in _INPUTS[direction]:
        names += [f"{x}_{d}" for d in range(BATCH_DIMS)] + [f"{x}_r", f"{x}_c"]
    return names


_POINTERS = {"q", "k", "v", "o", "g", "out", "lse", "dq", "dk", "dv"}
_VEC = f"<{LANES} x float>"
_MASK = f"<{LANES} x i1>"
_TINY = "0xFFF0000000000000"  # -inf


class Rows:
    """Writes loops over one row of floats in vectors, the last one masked."""

    def __init__(self, f: Function) -> None:
        self.f = f

    def each(self, count: Value, body) -> None:  # type: ignore[no-untyped-def]
        """body(index, mask or None) for whole vectors, then for the rest."""
        f = self.f
        whole = f.op(f"and i64 {count}, {-LANES}")
        with f.loop(whole, step=LANES) as loop:
            body(loop.index, None)
        with f.when(f.cmp("slt", whole, count)):
            body(whole, self.mask(f.sub(count, whole)))

    def mask(self, remaining: Value) -> str:
        """The lanes below `remaining`."""
        f = self.f
        short = f.op(f"trunc i64 {remaining} to i32")
        lanes = ", ".join(f"i32 {k}" for k in range(LANES))
        every = f.splat(LANES, "i32", short)
        return f.op(f"icmp ult <{LANES} x i32> <{lanes}>, {every}")

    def load(self, base: str, at: Value, mask: str | None) -> str:
        """The vector at base[at:], zeros where the mask leaves lanes out."""
        f = self.f
        place = f.gep("float", base, at)
        if mask is None:
            return f.load(_VEC, place, 4)
        return f.op(
            f"call {_VEC} @llvm.masked.load.v{LANES}f32.p0(ptr align 4 {place}, {_MASK} "
            f"{mask}, {_VEC} zeroinitializer)"
        )

    def store(self, value: str, base: str, at: Value, mask: str | None) -> None:
        """Write a vector to base[at:], the mask's lanes only."""
        f = self.f
        place = f.gep("float", base, at)
        if mask is None:
            f.store(_VEC, value, place, 4)
            return
        f.do(
            f"call void @llvm.masked.store.v{LANES}f32.p0({_VEC} {value}, ptr align 4 {place}, "
            f"{_MASK} {mask})"
        )

    def accumulate(self, place: str, value: str, how: str, mask: str | None, neutral: str) -> None:
        """place (a vector on the stack) = how(place, value)."""
        f = self.f
        if mask is not None:
            value = f.op(f"select {_MASK} {mask}, {_VEC} {value}, {_VEC} splat (float {neutral})")
        old = f.load(_VEC, place, 64)
        new = f.op(
            f"{how} {_VEC} {old}, {value}"
            if how == "fadd"
            else f"call {_VEC} @llvm.maxnum.v{LANES}f32({_VEC} {old}, {_VEC} {value})"
        )
        f.store(_VEC, new, place, 64)

    def start(self, neutral: str) -> str:
        """A vector on the stack that holds `neutral` in every lane."""
        f = self.f
        place = f.alloca(_VEC, align=64)
        f.store(_VEC, f"splat (float {neutral})", place, 64)
        return place

    def total(self, place: str) -> str:
        """The sum of a vector's lanes."""
        f = self.f
        v = f.load(_VEC, place, 64)
        return f.op(
            f"call reassoc float @llvm.vector.reduce.fadd.v{LANES}f32(float 0.0, {_VEC} {v})"
        )

    def top(self, place: str) -> str:
        """The greatest of a vector's lanes."""
        f = self.f
        v = f.load(_VEC, place, 64)
        return f.op(f"call float @llvm.vector.reduce.fmax.v{LANES}f32({_VEC} {v})")

    def exp(self, v: str) -> str:
        """exp, lane by lane."""
        return self.f.op(f"call {_VEC} @fl_exp_f32_{LANES}({_VEC} {v})")


def _row_softmax() -> str:
    """float row_softmax(row, n, scale, ptr shift): row = exp(scale*row - max); -> the sum."""
    f = Function(
        "row_softmax",
        [("ptr", "row"), ("i64", "n"), ("float", "scale"), ("ptr", "shift")],
        "float",
        "nounwind noinline",
    )
    rows = Rows(f)
    best = rows.start(_TINY)

    def find(at: Value, mask: str | None) -> None:
        rows.accumulate(best, rows.load("%row", at, mask), "max", mask, _TINY)

    rows.each("%n", find)
    top = f.op(f"fmul float {rows.top(best)}, %scale")
    empty = f.op(f"fcmp oeq float {top}, {_TINY}")
    safe = f.op(f"select i1 {empty}, float 0.0, float {top}")
    f.store("float", safe, "%shift", 4)
    scale = f.splat(LANES, "float", "%scale")
    minus = f.splat(LANES, "float", f.op(f"fneg float {safe}"))
    total = rows.start("0.0")

    def make(at: Value, mask: str | None) -> None:
        x = rows.load("%row", at, mask)
        shifted = f.op(
            f"call {_VEC} @llvm.fma.v{LANES}f32({_VEC} {x}, {_VEC} {scale}, {_VEC} {minus})"
        )
        p = rows.exp(shifted)
        rows.store(p, "%row", at, mask)
        rows.accumulate(total, p, "fadd", mask, "0.0")

    rows.each("%n", make)
    f.ret(f"float {rows.total(total)}")
    return f.text()


def _row_times() -> str:
    """void row_times(row, n, factor): row *= factor."""
    f = Function("row_times", [("ptr", "row"), ("i64", "n"), ("float", "factor")])
    rows = Rows(f)
    factor = f.splat(LANES, "float", "%factor")

    def body(at: Value, mask: str | None) -> None:
        x = rows.load("%row", at, mask)
        rows.store(f.op(f"fmul {_VEC} {x}, {factor}"), "%row", at, mask)

    rows.each("%n", body)
    f.ret()
    return f.text()


def _row_zero() -> str:
    """void row_zero(row, from, to): zeros in [from, to)."""
    f = Function("row_zero", [("ptr", "row"), ("i64", "from"), ("i64", "to")])
    rows = Rows(f)
    start = f.gep("float", "%row", "%from")

    def body(at: Value, mask: str | None) -> None:
        rows.store("zeroinitializer", start, at, mask)

    rows.each(f.max(f.sub("%to", "%from"), 0), body)
    f.ret()
    return f.text()


def _row_gradient() -> str:
    """void row_gradient(s, dp, n, scale, lse, delta): s becomes P, dp becomes dS."""
    f = Function(
        "row_gradient",
        [
            ("ptr", "s"),
            ("ptr", "dp"),
            ("i64", "n"),
            ("float", "scale"),
            ("float", "lse"),
            ("float", "delta"),
        ],
        "void",
        "nounwind noinline",
    )
    rows = Rows(f)
    scale = f.splat(LANES, "float", "%scale")
    minus = f.splat(LANES, "float", f.op("fneg float %lse"))
    delta = f.splat(LANES, "float", "%delta")

    def body(at: Value, mask: str | None) -> None:
        x = rows.load("%s", at, mask)
        d = rows.load("%dp", at, mask)
        shifted = f.op(
            f"call {_VEC} @llvm.fma.v{LANES}f32({_VEC} {x}, {_VEC} {scale}, {_VEC} {minus})"
        )
        p = rows.exp(shifted)
        difference = f.op(f"fsub {_VEC} {d}, {delta}")
        ds = f.op(f"fmul {_VEC} {f.op(f'fmul {_VEC} {p}, {difference}')}, {scale}")
        rows.store(p, "%s", at, mask)
        rows.store(ds, "%dp", at, mask)

    rows.each("%n", body)
    f.ret()
    return f.text()


def _row_dot() -> str:
    """float row_dot(a, ca, b, cb, n): sum of a[i*ca] * b[i*cb]."""
    f = Function(
        "row_dot", [("ptr", "a"), ("i64", "ca"), ("ptr", "b"), ("i64", "cb"), ("i64", "n")], "float"
    )
    total = f.alloca("float")
    f.store("float", "0.0", total, 4)
    with f.loop("%n") as loop:
        x = f.load("float", f.gep("float", "%a", f.mul(loop.index, "%ca")), 4)
        y = f.load("float", f.gep("float", "%b", f.mul(loop.index, "%cb")), 4)
        old = f.load("float", total, 4)
        f.store(
            "float", f.op(f"call float @llvm.fma.f32(float {x}, float {y}, float {old})"), total, 4
        )
    f.ret(f"float {f.load('float', total, 4)}")
    return f.text()


def _product() -> str:
    """void product(a, b, c, m, n, k, rsa, csa, rsb, csb, rsc, flags): the matrix product."""
    names = ("m", "n", "k", "rsa", "csa", "rsb", "csb", "rsc")
    f = Function(
        "product",
        [("ptr", "a"), ("ptr", "b"), ("ptr", "c"), *(("i64", x) for x in names), ("i64", "flags")],
    )
    d = f.alloca("i64", 30)
    for k, x in enumerate("abc"):
        f.store("ptr", f"%{x}", f.gep("i64", d, k), 8)
    f.store("i64", 0, f.gep("i64", d, 3), 8)
    for k, x in enumerate(names):
        f.store("i64", f"%{x}", f.gep("i64", d, 4 + k), 8)
    f.store("i64", 0, f.gep("i64", d, 12), 8)
    f.store("i64", "%flags", f.gep("i64", d, 29), 8)
    f.do(f"call void @fl_gemm_f32(ptr {d})")
    f.ret()
    return f.text()


class Table:
    """The words of a problem, loaded by name."""

    def __init__(self, f: Function, direction: str) -> None:
        self.f = f
        self.at = {name: k for k, name in enumerate(fields(direction))}
        self.known: dict[str, str] = {}

    def __getitem__(self, name: str) -> str:
        if name not in self.known:
            kind = "ptr" if name in _POINTERS else "i64"
            self.known[name] = self.f.load(kind, self.f.gep("i64", "%t", self.at[name]), 8)
        return self.known[name]


def _bases(f: Function, t: Table, names: tuple[str, ...], number: Value) -> dict[str, str]:
    """Addresses of one batch entry of strided inputs."""
    rest = number
    offsets: dict[str, Value] = dict.fromkeys(names, 0)
    for d in reversed(range(BATCH_DIMS)):
        index = f.urem(rest, t[f"n{d}"])
        rest = f.udiv(rest, t[f"n{d}"])
        for x in names:
            offsets[x] = f.add(offsets[x], f.mul(index, t[f"{x}_{d}"]))
    return {x: f.gep("float", t[x], offsets[x]) for x in names}


def _product_call(
    f: Function,
    a: str,
    b: str,
    c: str,
    m: Value,
    n: Value,
    k: Value,
    sa: tuple[Value, Value],
    sb: tuple[Value, Value],
    rsc: Value,
    flags: Value = 0,
) -> None:
    numbers = ", ".join(f"i64 {x}" for x in (m, n, k, *sa, *sb, rsc, flags))
    f.do(f"call void @product(ptr {a}, ptr {b}, ptr {c}, {numbers})")


def _preload(t: Table, direction: str) -> None:
    """Load every word on entry, so that loops only use them."""
    for name in fields(direction):
        if name not in ("units", "grain"):
            t[name]


def _forward() -> str:
    f = Function(
        "forward_task", [("ptr", "t"), ("i64", "begin"), ("i64", "end"), ("i64", "worker")]
    )
    t = Table(f, "forward")
    _preload(t, "forward")
    double = f.op("bitcast i64 " + t["scale"] + " to double")
    scale = f.op(f"fptrunc double {double} to float")
    scores = f.op(f"call ptr @malloc(i64 {f.mul(f.mul(t['S'], BLOCK), 4)})")
    shift = f.alloca("float", BLOCK)
    sums = f.alloca("float", BLOCK)
    causal = f.cmp("ne", t["causal"], 0)
    with f.loop("%end", start="%begin") as unit:
        batch = f.udiv(unit.index, t["blocks"])
        # the longest rows first, so that the last units are short
        block = f.sub(f.sub(t["blocks"], 1), f.urem(unit.index, t["blocks"]))
        base = _bases(f, t, ("q", "k", "v"), batch)
        first = f.mul(block, BLOCK)
        count = f.min(f.sub(t["L"], first), BLOCK)
        seen = f.select(causal, f.min(t["S"], f.add(first, count)), t["S"])
        q = f.gep("float", base["q"], f.mul(first, t["q_r"]))
        _product_call(
            f,
            q,
            base["k"],
            scores,
            count,
            seen,
            t["E"],
            (t["q_r"], t["q_c"]),
            (t["k_c"], t["k_r"]),
            seen,
        )
        with f.loop(count) as row:
            line = f.gep("float", scores, f.mul(row.index, seen))
            own = f.min(f.add(f.add(first, row.index), 1), t["S"])
            n = f.select(causal, own, seen)
            total = f.op(
                f"call float @row_softmax(ptr {line}, i64 {n}, float {scale}, "
                f"ptr {f.gep('float', shift, row.index)})"
            )
            f.store("float", total, f.gep("float", sums, row.index), 4)
            f.do(f"call void @row_zero(ptr {line}, i64 {n}, i64 {seen})")
        place = f.add(f.mul(batch, t["L"]), first)
        out = f.gep("float", t["out"], f.mul(place, t["V"]))
        _product_call(
            f, scores, base["v"], out, count, t["V"], seen, (seen, 1), (t["v_r"], t["v_c"]), t["V"]
        )
        with f.loop(count) as row:
            total = f.load("float", f.gep("float", sums, row.index), 4)
            moved = f.load("float", f.gep("float", shift, row.index), 4)
            zero = f.op(f"fcmp oeq float {total}, 0.0")
            inverse = f.op(f"select i1 {zero}, float 0.0, float {f.op(f'fdiv float 1.0, {total}')}")
            f.do(
                f"call void @row_times(ptr {f.gep('float', out, f.mul(row.index, t['V']))}, "
                f"i64 {t['V']}, float {inverse})"
            )
            lse = f.op(f"fadd float {f.op(f'call float @fl_log_f32_1(float {total})')}, {moved}")
            f.store("float", lse, f.gep("float", t["lse"], f.add(place, row.index)), 4)
    f.do(f"call void @free(ptr {scores})")
    f.ret()
    return f.text()


def _backward() -> str:
    f = Function(
        "backward_task", [("ptr", "t"), ("i64", "begin"), ("i64", "end"), ("i64", "worker")]
    )
    t = Table(f, "backward")
    _preload(t, "backward")
    double = f.op("bitcast i64 " + t["scale"] + " to double")
    scale = f.op(f"fptrunc double {double} to float")
    size = f.mul(f.mul(t["S"], BLOCK), 4)
    scores = f.op(f"call ptr @malloc(i64 {size})")
    slopes = f.op(f"call ptr @malloc(i64 {size})")
    causal = f.cmp("ne", t["causal"], 0)
    with f.loop("%end", start="%begin") as unit:
        base = _bases(f, t, ("q", "k", "v", "o", "g"), unit.index)
        dq = f.gep("float", t["dq"], f.mul(f.mul(unit.index, t["L"]), t["E"]))
        dk = f.gep("float", t["dk"], f.mul(f.mul(unit.index, t["S"]), t["E"]))
        dv = f.gep("float", t["dv"], f.mul(f.mul(unit.index, t["S"]), t["V"]))
        # the last block sees the most keys and writes; the others add
        most = f.select(causal, f.min(t["S"], t["L"]), t["S"])
        f.do(
            f"call void @row_zero(ptr {dk}, i64 {f.mul(most, t['E'])}, i64 {f.mul(t['S'], t['E'])})"
        )
        f.do(
            f"call void @row_zero(ptr {dv}, i64 {f.mul(most, t['V'])}, i64 {f.mul(t['S'], t['V'])})"
        )
        with f.loop(t["blocks"]) as turn:
            block = f.sub(f.sub(t["blocks"], 1), turn.index)
            add = f.op(f"zext i1 {f.cmp('ne', turn.index, 0)} to i64")
            first = f.mul(block, BLOCK)
            count = f.min(f.sub(t["L"], first), BLOCK)
            seen = f.select(causal, f.min(t["S"], f.add(first, count)), t["S"])
            q = f.gep("float", base["q"], f.mul(first, t["q_r"]))
            g = f.gep("float", base["g"], f.mul(first, t["g_r"]))
            o = f.gep("float", base["o"], f.mul(first, t["o_r"]))
            qs, ks, vs, gs = ((t[f"{x}_r"], t[f"{x}_c"]) for x in "qkvg")
            _product_call(f, q, base["k"], scores, count, seen, t["E"], qs, ks[::-1], seen)
            _product_call(f, g, base["v"], slopes, count, seen, t["V"], gs, vs[::-1], seen)
            with f.loop(count) as row:
                at = f.mul(row.index, seen)
                line, slope = f.gep("float", scores, at), f.gep("float", slopes, at)
                own = f.min(f.add(f.add(first, row.index), 1), t["S"])
                n = f.select(causal, own, seen)
                place = f.add(f.add(f.mul(unit.index, t["L"]), first), row.index)
                lse = f.load("float", f.gep("float", t["lse"], place), 4)
                empty = f.op(f"fcmp oeq float {lse}, {_TINY}")
                lse = f.op(f"select i1 {empty}, float 0.0, float {lse}")
                ga = f.gep("float", g, f.mul(row.index, t["g_r"]))
                oa = f.gep("float", o, f.mul(row.index, t["o_r"]))
                delta = f.op(
                    f"call float @row_dot(ptr {ga}, i64 {t['g_c']}, ptr {oa}, "
                    f"i64 {t['o_c']}, i64 {t['V']})"
                )
                f.do(
                    f"call void @row_gradient(ptr {line}, ptr {slope}, i64 {n}, float {scale}, "
                    f"float {lse}, float {delta})"
                )
                for buffer in (line, slope):
                    f.do(f"call void @row_zero(ptr {buffer}, i64 {n}, i64 {seen})")
            _product_call(
                f,
                slopes,
                base["k"],
                f.gep("float", dq, f.mul(first, t["E"])),
                count,
                t["E"],
                seen,
                (seen, 1),
                ks,
                t["E"],
            )
            _product_call(f, slopes, q, dk, seen, t["E"], count, (1, seen), qs, t["E"], add)
            _product_call(f, scores, g, dv, seen, t["V"], count, (1, seen), gs, t["V"], add)
    f.do(f"call void @free(ptr {scores})")
    f.do(f"call void @free(ptr {slopes})")
    f.ret()
    return f.text()


def module_text() -> str:
    """LLVM IR of `fl_attention_forward` and `fl_attention_backward`, called with a table."""
    wanted = {("exp", "f32", LANES), ("log", "f32", 1)}
    v, m = f"v{LANES}f32", _MASK
    declared = {
        "declare void @fl_parallel_for(ptr, ptr, i64, i64)",
        "declare void @fl_gemm_f32(ptr)",
        "declare ptr @malloc(i64)",
        "declare void @free(ptr)",
        "declare i64 @llvm.smin.i64(i64, i64)",
        "declare i64 @llvm.smax.i64(i64, i64)",
        "declare float @llvm.fma.f32(float, float, float)",
        f"declare {_VEC} @llvm.fma.{v}({_VEC}, {_VEC}, {_VEC})",
        f"declare {_VEC} @llvm.maxnum.{v}({_VEC}, {_VEC})",
        f"declare float @llvm.vector.reduce.fmax.{v}({_VEC})",
        f"declare float @llvm.vector.reduce.fadd.{v}(float, {_VEC})",
        f"declare {_VEC} @llvm.masked.load.{v}.p0(ptr, {m}, {_VEC})",
        f"declare void @llvm.masked.store.{v}.p0({_VEC}, ptr, {m})",
    } | vecmath.declarations(wanted)
    parts = [
        "\n".join(sorted(declared)),
        vecmath.definitions(wanted),
        _row_softmax(),
        _row_times(),
        _row_zero(),
        _row_gradient(),
        _row_dot(),
        _product(),
        _forward(),
        _backward(),
    ]
    for direction in ("forward", "backward"):
        f = Function(f"fl_attention_{direction}", [("ptr", "t")], linkage="")
        t = Table(f, direction)
        f.do(
            f"call void @fl_parallel_for(ptr @{direction}_task, ptr %t, i64 {t['units']}, "
            f"i64 {t['grain']})"
        )
        f.ret()
        parts.append(f.text())
    return "\n".join(parts)
