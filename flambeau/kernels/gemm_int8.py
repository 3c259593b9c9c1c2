"""Products of int8 matrices with int32 results: `fl_gemm_s8`.

Both operands are packed, four elements of K together as the dot-product instructions want them:
A in panels of `rows` rows, B in panels of `vectors` vectors of columns, the rest zeros. Panels of A
whose rows lie in memory as they are wanted, in whole words, are read where they lie. A unit of
parallel work is one panel of B and `BLOCK` panels of A.

Note [Signs]
`vpdpbusd` multiplies unsigned by signed bytes and adds four products to an int32, without
saturation. B is packed with 128 added to each element, which is unsigned then; what that adds to
the result, 128 times the sum of A's row, is taken off again at the end. Int32 arithmetic wraps, so
the result is exact whenever it fits, and wraps as torch's does otherwise.

Where there is no such instruction the bytes of a word are taken apart by shifts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flambeau.ir.graph import Node
from flambeau.kernels.emit import Function, Value, Words

BLOCK = 8
"""Panels of A that a unit of work takes."""

_SERIAL = 1 << 18  # multiply-adds that are not worth another thread
_BIAS = -(1 << 31) | 0x808080  # 0x80808080 as an i32
WORDS = ("a", "b", "c", "m", "n", "k", "rsa", "csa", "rsb", "csb", "packed_a", "packed_b", "sums")
DERIVED = ("panels_a", "panels_b", "groups", "blocks", "pack_grain", "grain")


@dataclass(frozen=True)
class Form:
    """How a machine multiplies.

    Attributes:
        vl: int32 elements of a vector.
        rows: rows of a panel of A.
        vectors: vectors of columns of a panel of B.
        dot: the instruction for four products, or "" where there is none.
    """

    vl: int
    rows: int
    vectors: int
    dot: str

    @property
    def columns(self) -> int:
        """Columns of a panel of B."""
        return self.vl * self.vectors


def form_of(features: frozenset[str]) -> Form:
    """The blocking on a CPU with these LLVM features."""
    if {"avx512f", "avx512bw", "avx512vl"} <= features:
        dot = "llvm.x86.avx512.vpdpbusd.512" if "avx512vnni" in features else ""
        return Form(16, 8, 2, dot)
    if "avx2" in features:
        return Form(8, 4, 2, "llvm.x86.avx512.vpdpbusd.256" if "avxvnni" in features else "")
    return Form(4, 4, 2, "")


def _ceil(a: int, b: int) -> int:
    return -(-a // b)


def _sizes(form: Form, node: Node) -> tuple[int, int, int]:
    """(panels of A, panels of B, groups of four along K)."""
    m, n = node.shape
    k = node.src[0].shape[1]
    return _ceil(m, form.rows), _ceil(n, form.columns), _ceil(k, 4)


def scratch(form: Form, node: Node) -> int:
    """Bytes of the packed operands and of A's row sums."""
    panels_a, panels_b, groups = _sizes(form, node)
    return 4 * (panels_a * form.rows * (groups + 1) + panels_b * form.columns * groups) + 128


def words(form: Form, program: Any, node: Node) -> list[Any]:
    """The kernel's table for a node of two int8 sources."""
    m, n = node.shape
    panels_a, panels_b, groups = _sizes(form, node)
    (a, a_offset, (rsa, csa)), (b, b_offset, (rsb, csb)) = (
        program.operand(s, ()) for s in node.src
    )
    room = program.workspace(node)
    of_a = _ceil(4 * panels_a * form.rows * groups, 64) * 64
    of_b = _ceil(4 * panels_b * form.columns * groups, 64) * 64
    unit = BLOCK * form.rows * form.columns * groups * 4
    return [
        *((a, a_offset), (b, b_offset), (program.storage(node), 0)),
        *(m, n, node.src[0].shape[1], rsa, csa, rsb, csb),
        *((room, 0), (room, of_a), (room, of_a + of_b)),
        *(panels_a, panels_b, groups, _ceil(panels_a, BLOCK)),
        max(1, _SERIAL // max(16 * groups * form.columns, 1)),
        max(1, _SERIAL // max(unit, 1)),
    ]


def module_text(features: frozenset[str]) -> str:
    """LLVM IR of `fl_gemm_s8(ptr words)`; it needs `fl_parallel_for`.

    Args:
        features: LLVM's names of the CPU's features.
    """
    form = form_of(features)
    vec = f"<{form.vl} x i32>"
    head = [
        "declare void @fl_parallel_for(ptr, ptr, i64, i64)",
        f"declare void @llvm.masked.store.v{form.vl}i32.p0({vec}, ptr, i32, <{form.vl} x i1>)",
    ]
    if form.dot:
        head.append(f"declare {vec} @{form.dot}({vec}, {vec}, {vec})")
        head.append(f"declare i32 @llvm.vector.reduce.add.v{form.vl}i32({vec})")
    main = Function("fl_gemm_s8", [("ptr", "w")], linkage="")
    t = _words(main)
    count = main.add(t["panels_a"], t["panels_b"])
    main.do(f"call void @fl_parallel_for(ptr @pack, ptr %w, i64 {count}, i64 {t['pack_grain']})")
    count = main.mul(t["blocks"], t["panels_b"])
    main.do(f"call void @fl_parallel_for(ptr @multiply, ptr %w, i64 {count}, i64 {t['grain']})")
    main.ret()
    parts = [_four().text(), _pack(form).text(), _multiply(form).text(), main.text()]
    return "\n".join([*head, *parts])


def _words(f: Function) -> Words:
    """The words of the kernel's table."""
    names = (*WORDS, *DERIVED)
    pointers = ("a", "b", "c", "packed_a", "packed_b", "sums")
    kinds = {n: "ptr" if n in pointers else "i64" for n in names}
    return Words(f, names, kinds.__getitem__, "%w").preload(*names)


def _four() -> Function:
    """`i32 four(base, line, lines, k, K, line stride, step)`: bytes k to k + 3 of a line, zeros
    where there are none."""
    params = [("ptr", "base"), *(("i64", n) for n in ("line", "lines", "k", "K", "ls", "step"))]
    f = Function("four", params, "i32", "nounwind alwaysinline")
    inside = f.cmp("slt", "%line", "%lines")
    start = f.gep("i8", "%base", f.add(f.mul("%line", "%ls"), f.mul("%k", "%step")))
    whole = f.both(f.cmp("sle", f.add("%k", 4), "%K"), f.cmp("eq", "%step", 1))
    with f.when(f.both(inside, whole)):
        f.ret(f"i32 {f.load('i32', start, 1)}")
    total = "0"
    line = f.select(inside, "%line", 0)
    for j in range(4):
        k = f.add("%k", j)
        there = f.both(inside, f.cmp("slt", k, "%K"))
        at = f.select(there, f.add(f.mul(line, "%ls"), f.mul(k, "%step")), 0)
        byte = f.op(f"zext i8 {f.load('i8', f.gep('i8', '%base', at), 1)} to i32")
        byte = f.select(there, byte, 0, "i32")
        total = f.op(f"or i32 {total}, {f.op(f'shl i32 {byte}, {8 * j}')}")
    f.ret(f"i32 {total}")
    return f


def _call_four(f: Function, base: str, line: Value, lines: str, k: Value, t: Words, of: str) -> str:
    line_stride, step = ("rsa", "csa") if of == "a" else ("csb", "rsb")
    return f.op(
        f"call i32 @four(ptr {base}, i64 {line}, i64 {lines}, i64 {k}, i64 {t['k']}, "
        f"i64 {t[line_stride]}, i64 {t[step]})"
    )


_TASK = [("ptr", "w"), ("i64", "begin"), ("i64", "end"), ("i64", "worker")]


def _pack(form: Form) -> Function:
    """Units of packing: the panels of A, then those of B."""
    f = Function("pack", _TASK)
    t = _words(f)
    with f.loop("%end", "%begin", nonempty=True) as unit:
        panels_a, groups = t["panels_a"], t["groups"]
        is_a = f.cmp("slt", unit.index, panels_a)
        with f.when(is_a):
            base, lines = t["a"], t["m"]
            out = f.gep("i32", t["packed_a"], f.mul(f.mul(unit.index, form.rows), groups))
            first = f.mul(unit.index, form.rows)
            direct = _direct(f, form, t, first)
            if form.dot:
                with f.when(direct):
                    _add_rows(f, form, t, first)
            stop = f.select(direct, 0, form.rows)
            with f.loop(stop) as row:
                line = f.add(first, row.index)
                with f.loop(groups, carry=[("i32", "0")]) as group:
                    word = _call_four(f, base, line, lines, f.mul(group.index, 4), t, "a")
                    place = f.add(f.mul(group.index, form.rows), row.index)
                    f.store("i32", word, f.gep("i32", out, place), 4)
                    group.carry(_add_bytes(f, group.carried[0], word))
                total = f.op(f"shl i32 {group.carried[0]}, 7")
                f.store("i32", total, f.gep("i32", t["sums"], line), 4)
        with f.when(f.op(f"xor i1 {is_a}, true")):
            panel = f.sub(unit.index, panels_a)
            first = f.mul(panel, form.columns)
            out = f.gep("i32", t["packed_b"], f.mul(first, groups))
            base, lines = t["b"], t["n"]
            bias = str(_BIAS) if form.dot else "0"
            inside = f.cmp("sle", f.add(first, form.columns), lines)
            along_n = f.both(f.cmp("eq", t["csb"], 1), inside)
            along_k = f.both(f.cmp("eq", t["rsb"], 1), inside)
            with f.loop(groups) as group:
                k = f.mul(group.index, 4)
                to = f.gep("i32", out, f.mul(group.index, form.columns))
                whole = f.cmp("sle", f.add(k, 4), t["k"])
                by_rows, by_words = f.both(along_n, whole), f.both(along_k, whole)
                with f.when(by_rows):
                    _interleave(f, form, t, base, first, k, to, bias)
                by_words = f.both(by_words, f.op(f"xor i1 {by_rows}, true"))
                with f.when(by_words):
                    start = f.gep("i8", base, f.add(f.mul(first, t["csb"]), k))
                    for c in range(form.columns):
                        word = f.load("i32", f.gep("i8", start, f.mul(t["csb"], c)), 1)
                        word = f.op(f"xor i32 {word}, {bias}")
                        f.store("i32", word, f.gep("i32", to, c), 4)
                odd = f.op(f"xor i1 {f.either(by_rows, by_words)}, true")
                with f.when(odd), f.loop(form.columns, nonempty=True) as column:
                    line = f.add(first, column.index)
                    word = _call_four(f, base, line, lines, k, t, "b")
                    word = f.op(f"xor i32 {word}, {bias}")
                    f.store("i32", word, f.gep("i32", to, column.index), 4)
    f.ret()
    return f


def _direct(f: Function, form: Form, t: Words, first: Value) -> str:
    """i1: the panel of A that begins with row `first` is read where it lies."""
    whole = f.cmp("eq", f.op(f"and i64 {t['k']}, 3"), 0)
    full = f.cmp("sle", f.add(first, form.rows), t["m"])
    return f.both(f.both(f.cmp("eq", t["csa"], 1), whole), full)


def _add_rows(f: Function, form: Form, t: Words, first: Value) -> None:
    """128 times the sum of each row of a panel that is read where it lies."""
    vec, vl = f"<{form.vl} x i32>", form.vl
    ones = f.splat(vl, "i32", str(0x01010101))
    vectors = f.udiv(t["groups"], vl)
    with f.loop(form.rows, nonempty=True) as row:
        line = f.add(first, row.index)
        start = f.gep("i8", t["a"], f.mul(line, t["rsa"]))
        with f.loop(vectors, carry=[(vec, "zeroinitializer")]) as some:
            words = f.load(vec, f.gep("i32", start, f.mul(some.index, vl)), 1)
            some.carry(_dot(f, form, some.carried[0], ones, words))
        total = f.op(f"call i32 @llvm.vector.reduce.add.v{vl}i32({vec} {some.carried[0]})")
        with f.loop(t["groups"], f.mul(vectors, vl), carry=[("i32", total)]) as rest:
            word = f.load("i32", f.gep("i32", start, rest.index), 1)
            rest.carry(_add_bytes(f, rest.carried[0], word))
        total = f.op(f"shl i32 {rest.carried[0]}, 7")
        f.store("i32", total, f.gep("i32", t["sums"], line), 4)


def _add_bytes(f: Function, total: str, word: str) -> str:
    """total + the four signed bytes of a word."""
    for j in range(4):
        byte = f.op(f"shl i32 {word}, {24 - 8 * j}")
        total = f.op(f"add i32 {total}, {f.op(f'ashr i32 {byte}, 24')}")
    return total


def _interleave(
    f: Function, form: Form, t: Words, base: str, first: Value, k: Value, to: str, bias: str
) -> None:
    """Four rows of B, whose columns are neighbours, as one group of a panel."""
    count = form.columns
    rows = []
    for j in range(4):
        at = f.gep("i8", base, f.add(f.mul(f.add(k, j), t["rsb"]), first))
        rows.append(f.load(f"<{count} x i8>", at, 1))
    pairs = [n for c in range(count) for n in (c, count + c)]
    low, high = (f.shuffle(count, "i8", rows[j], rows[j + 1], pairs) for j in (0, 2))
    wide = 2 * count
    order = [n for c in range(count) for n in (2 * c, 2 * c + 1, wide + 2 * c, wide + 2 * c + 1)]
    whole = f.shuffle(wide, "i8", low, high, order)
    kind = f"<{count} x i32>"
    words = f.op(f"bitcast <{4 * count} x i8> {whole} to {kind}")
    f.store(kind, f.op(f"xor {kind} {words}, {f.splat(count, 'i32', bias)}"), to, 4)


def _multiply(form: Form) -> Function:
    """Units of multiplying: a panel of B with `BLOCK` panels of A."""
    f = Function("multiply", _TASK)
    t = _words(f)
    vec, vl = f"<{form.vl} x i32>", form.vl
    lanes = f"<{', '.join(f'i64 {i}' for i in range(vl))}>"
    with f.loop("%end", "%begin", nonempty=True) as unit:
        blocks, groups, m, n = t["blocks"], t["groups"], t["m"], t["n"]
        panel_b = f.udiv(unit.index, blocks)
        block = f.urem(unit.index, blocks)
        column = f.mul(panel_b, form.columns)
        from_b = f.gep("i32", t["packed_b"], f.mul(column, groups))
        stop = f.min(f.mul(f.add(block, 1), BLOCK), t["panels_a"])
        masks = []
        for v in range(form.vectors):
            left = f.splat(vl, "i64", f.sub(f.sub(n, column), v * vl))
            masks.append(f.op(f"icmp slt <{vl} x i64> {lanes}, {left}"))
        packed, sums, c, a, rsa = t["packed_a"], t["sums"], t["c"], t["a"], t["rsa"]
        with f.loop(stop, f.mul(block, BLOCK), nonempty=True) as panel:
            first = f.mul(panel.index, form.rows)
            direct = _direct(f, form, t, first)
            to_row = f.select(direct, rsa, 4)
            to_group = f.select(direct, 4, 4 * form.rows)
            from_a = f.select(
                direct,
                f.gep("i8", a, f.mul(first, rsa)),
                f.gep("i32", packed, f.mul(first, groups)),
                "ptr",
            )
            places = [f.mul(to_row, r) for r in range(form.rows)]
            zero = [(vec, "zeroinitializer")] * (form.rows * form.vectors)
            with f.loop(groups, carry=zero) as group:
                at = f.gep("i32", from_b, f.mul(group.index, form.columns))
                b = [f.load(vec, f.gep("i32", at, v * vl), 4) for v in range(form.vectors)]
                at = f.gep("i8", from_a, f.mul(group.index, to_group))
                after = []
                for r in range(form.rows):
                    of_row = f.splat(vl, "i32", f.load("i32", f.gep("i8", at, places[r]), 1))
                    for v in range(form.vectors):
                        acc = group.carried[r * form.vectors + v]
                        after.append(_dot(f, form, acc, b[v], of_row))
                group.carry(*after)
            for r in range(form.rows):
                row = f.add(first, r)
                with f.when(f.cmp("slt", row, m)):
                    less = f.splat(vl, "i32", f.load("i32", f.gep("i32", sums, row), 4))
                    for v in range(form.vectors):
                        value = group.carried[r * form.vectors + v]
                        if form.dot:
                            value = f.op(f"sub {vec} {value}, {less}")
                        place = f.add(f.mul(row, n), f.add(column, v * vl))
                        f.do(
                            f"call void @llvm.masked.store.v{vl}i32.p0({vec} {value}, "
                            f"ptr {f.gep('i32', c, place)}, i32 4, <{vl} x i1> {masks[v]})"
                        )
    f.ret()
    return f


def _dot(f: Function, form: Form, acc: str, b: str, a: str) -> str:
    """acc + the four products of each word of b and a."""
    vec = f"<{form.vl} x i32>"
    if form.dot:
        return f.op(f"call {vec} @{form.dot}({vec} {acc}, {vec} {b}, {vec} {a})")
    by_24 = f.splat(form.vl, "i32", "24")
    for j in range(4):
        parts = []
        for x in (b, a):
            up = f.op(f"shl {vec} {x}, {f.splat(form.vl, 'i32', str(24 - 8 * j))}") if j < 3 else x
            parts.append(f.op(f"ashr {vec} {up}, {by_24}"))
        acc = f.op(f"add {vec} {acc}, {f.op(f'mul {vec} {parts[0]}, {parts[1]}')}")
    return acc
