"""Matrix times vector at memory bandwidth, as LLVM IR text.

y[r] = sum over k of Mat[r, k] v[k], for M == 1 (Mat = B transposed) and N == 1 (Mat = A). Rows are cut into chunks, K into
blocks whose piece of v stays in the first-level cache; a chunk's sums stay on the stack until K is through. Where K is
contiguous, rows are dotted four at a time; where rows are contiguous, eight columns are added at a time, so that memory is
read in long runs either way.
"""

from __future__ import annotations

from flambeau.kernels.emit import Function, Value
from flambeau.kernels.gemm_micro import (
    MANGLED,
    Form,
    load_some,
    load_stored,
    store_stored,
    widen,
)

CHUNK = 512
"""Rows a task takes."""

BLOCK = 2048
"""Elements of v a pass over a chunk uses."""

FIELDS = ("mat", "v", "y", "bias", "rows", "k", "rs", "cs", "sv", "sy", "sbias", "flags")
"""i64 fields of the problem that `gemv_task` reads, in order; strides in elements."""


def gemv_task(form: Form) -> str:
    """void gemv_task(problem, begin, end, worker): chunks [begin, end) of CHUNK rows."""
    params = [("ptr", "g"), ("i64", "begin"), ("i64", "end"), ("i64", "worker")]
    f = Function("gemv_task", params, "void", "nounwind noinline")
    part = form.acc_size
    field = {name: f.load("i64", f.gep("i64", "%g", n), 8) for n, name in enumerate(FIELDS)}
    address = {name: f.op(f"inttoptr i64 {field[name]} to ptr") for name in ("mat", "v", "y", "bias")}
    sums = f.alloca(form.acc, CHUNK + 64, 64)
    copy = f.alloca(form.acc, BLOCK + 64, 64)
    ready = form.acc == form.stored and f.cmp("eq", field["sv"], 1)
    with f.loop("%end", start="%begin") as chunk:
        first = f.mul(chunk.index, CHUNK)
        rows = f.min(CHUNK, f.sub(field["rows"], first))
        with f.loop(f.mul(f.ceildiv(rows, form.vl), form.vl), step=form.vl) as loop:
            f.store(form.vec, "zeroinitializer", f.gep(form.acc, sums, loop.index), part)
        with f.loop(field["k"], step=BLOCK) as block:
            k = f.min(BLOCK, f.sub(field["k"], block.index))
            source = f.gep(form.stored, address["v"], f.mul(block.index, field["sv"]))
            if form.widened:
                copy_vector(f, form, source, field["sv"], k, copy)
                v = copy
            else:
                with f.when(f.op(f"xor i1 {ready}, true")):
                    copy_vector(f, form, source, field["sv"], k, copy)
                v = f.select(str(ready), source, copy, "ptr")
            offset = f.add(f.mul(first, field["rs"]), f.mul(block.index, field["cs"]))
            mat = f.gep(form.stored, address["mat"], offset)
            arguments = (
                f"ptr {mat}, i64 {field['rs']}, i64 {field['cs']}, ptr {v}, ptr {sums}, "
                f"i64 {rows}, i64 {k}"
            )
            dots = f.cmp("eq", field["cs"], 1)
            columns = f.cmp("eq", field["rs"], 1)
            tag = f.fresh("form")
            f.branch(dots, f"{tag}.dots", f"{tag}.other")
            f.label(f"{tag}.dots")
            f.do(f"call void @dot_rows({arguments})")
            f.jump(f"{tag}.end")
            f.label(f"{tag}.other")
            f.branch(columns, f"{tag}.columns", f"{tag}.any")
            f.label(f"{tag}.columns")
            f.do(f"call void @add_columns({arguments})")
            f.jump(f"{tag}.end")
            f.label(f"{tag}.any")
            f.do(f"call void @dot_strided({arguments})")
            f.label(f"{tag}.end")
        finish(f, form, field, address, sums, first, rows)
    f.ret()
    return "".join([dot_rows(form), add_columns(form), dot_strided(form), f.text()])


def copy_vector(f: Function, form: Form, source: str, stride: Value, k: Value, copy: str) -> None:
    """copy[0:k] = source[::stride], widened."""
    with f.loop(k) as loop:
        value = load_stored(f, form, f.gep(form.stored, source, f.mul(loop.index, stride)), 1)
        f.store(form.acc, value, f.gep(form.acc, copy, loop.index), form.acc_size)


def finish(
    f: Function, form: Form, field: dict[str, str], address: dict[str, str], sums: str,
    first: Value, rows: Value,
) -> None:  # fmt: skip
    """Write a chunk's sums to y, with bias and y's old value as asked."""
    has_bias = f.cmp("ne", field["bias"], 0)
    add = f.cmp("ne", f.op(f"and i64 {field['flags']}, 1"), 0)
    with f.loop(rows) as loop:
        row = f.add(first, loop.index)
        value = f.load(form.acc, f.gep(form.acc, sums, loop.index), form.acc_size)
        y = f.gep(form.stored, address["y"], f.mul(row, field["sy"]))
        with f.merge(has_bias, [form.acc], [value]) as values:
            place = f.gep(form.stored, address["bias"], f.mul(row, field["sbias"]))
            values[0] = f.op(f"fadd {form.acc} {value}, {load_stored(f, form, place, 1)}")
        biased = values[0]
        with f.merge(add, [form.acc], [biased]) as values:
            values[0] = f.op(f"fadd {form.acc} {load_stored(f, form, y, 1)}, {biased}")
        store_stored(f, form, values[0], y, 1)


PARAMS = [("ptr", "mat"), ("i64", "rs"), ("i64", "cs"), ("ptr", "v"), ("ptr", "sums"), ("i64", "rows"), ("i64", "k")]  # fmt: skip


def dot_rows(form: Form) -> str:
    """sums[r] += Mat[r, :] . v with K contiguous; four rows of two accumulators each at a time."""
    f = Function("dot_rows", PARAMS, "void", "nounwind noinline")
    four = f.mul(f.udiv("%rows", 4), 4)
    for start, stop, count, width in ((0, four, 4, 2), (four, "%rows", 1, 4)):
        with f.loop(stop, start=start, step=count) as loop:
            rows = [
                f.gep(form.stored, "%mat", f.mul(f.add(loop.index, r), "%rs")) for r in range(count)
            ]
            dot_some(f, form, rows, width, loop.index)
    f.ret()
    return f.text()


def dot_some(f: Function, form: Form, rows: list[str], width: int, index: Value) -> None:
    """Dot a few rows with v, `width` vectors at a time, and add to their sums."""
    vec, vl, fma = form.vec, form.vl, f"@llvm.fmuladd.v{form.vl}{MANGLED[form.acc]}"
    step = vl * width
    body = f.mul(f.udiv("%k", step), step)
    carry = [(vec, "zeroinitializer")] * (len(rows) * width)
    with f.loop(body, step=step, carry=carry) as loop:
        following = []
        places = [f.add(loop.index, w * vl) for w in range(width)]
        parts = [f.load(vec, f.gep(form.acc, "%v", place), form.acc_size) for place in places]
        for r, row in enumerate(rows):
            for w, place in enumerate(places):
                m = load_stored(f, form, f.gep(form.stored, row, place), vl)
                old = loop.carried[r * width + w]
                following.append(f.op(f"call {vec} {fma}({vec} {m}, {vec} {parts[w]}, {vec} {old})"))
        loop.carry(*following)
    totals = []
    for r in range(len(rows)):
        group = loop.carried[r * width : (r + 1) * width]
        while len(group) > 1:
            group = [f.op(f"fadd {vec} {a}, {b}") for a, b in zip(group[::2], group[1::2])]
        totals.append(group[0])
    with f.loop("%k", start=body, step=vl, carry=[(vec, t) for t in totals]) as loop:
        count = f.min(vl, f.sub("%k", loop.index))
        v = load_some(f, form, form.acc, f.gep(form.acc, "%v", loop.index), count)
        following = []
        for r, row in enumerate(rows):
            raw = load_some(f, form, form.stored, f.gep(form.stored, row, loop.index), count)
            m = widen(f, form, raw, vl)
            following.append(
                f.op(f"call {vec} {fma}({vec} {m}, {vec} {v}, {vec} {loop.carried[r]})")
            )
        loop.carry(*following)
    for r, total in enumerate(loop.carried):
        zero = "-0.0"
        value = f.op(
            f"call reassoc {form.acc} @llvm.vector.reduce.fadd.v{vl}{MANGLED[form.acc]}"
            f"({form.acc} {zero}, {vec} {total})"
        )
        place = f.gep(form.acc, "%sums", f.add(index, r))
        before = f.load(form.acc, place, form.acc_size)
        f.store(form.acc, f.op(f"fadd {form.acc} {before}, {value}"), place, form.acc_size)


def add_columns(form: Form) -> str:
    """sums[r] += sum over k of Mat[r, k] v[k] with rows contiguous; eight columns at a time."""
    f = Function("add_columns", PARAMS, "void", "nounwind noinline")
    eight = f.mul(f.udiv("%k", 8), 8)
    for start, stop, count in ((0, eight, 8), (eight, "%k", 1)):
        with f.loop(stop, start=start, step=count) as loop:
            columns = [
                f.gep(form.stored, "%mat", f.mul(f.add(loop.index, c), "%cs")) for c in range(count)
            ]
            weights = []
            for c in range(count):
                place = f.gep(form.acc, "%v", f.add(loop.index, c))
                weights.append(f.splat(form.vl, form.acc, f.load(form.acc, place, form.acc_size)))
            add_some_columns(f, form, columns, weights)
    f.ret()
    return f.text()


def add_some_columns(f: Function, form: Form, columns: list[str], weights: list[str]) -> None:
    """sums[r] += sum of weight * column over a few columns, for every row."""
    vec, vl, fma = form.vec, form.vl, f"@llvm.fmuladd.v{form.vl}{MANGLED[form.acc]}"
    whole = f.mul(f.udiv("%rows", vl), vl)

    def total(parts: list[str], before: str) -> str:
        # Two chains, so that a vector's additions wait for half as many others.
        chains = [before, ""]
        for c, part in enumerate(parts):
            old = chains[c % 2]
            if old:
                chains[c % 2] = f.op(
                    f"call {vec} {fma}({vec} {part}, {vec} {weights[c]}, {vec} {old})"
                )
            else:
                chains[c % 2] = f.op(f"fmul {vec} {part}, {weights[c]}")
        return f.op(f"fadd {vec} {chains[0]}, {chains[1]}") if chains[1] else chains[0]

    with f.loop(whole, step=vl) as loop:
        place = f.gep(form.acc, "%sums", loop.index)
        parts = [load_stored(f, form, f.gep(form.stored, c, loop.index), vl) for c in columns]
        f.store(vec, total(parts, f.load(vec, place, form.acc_size)), place, form.acc_size)
    with f.when(f.cmp("slt", whole, "%rows")):
        count = f.sub("%rows", whole)
        place = f.gep(form.acc, "%sums", whole)
        parts = []
        for column in columns:
            raw = load_some(f, form, form.stored, f.gep(form.stored, column, whole), count)
            parts.append(widen(f, form, raw, vl))
        # sums has room for whole vectors past its end, so only the operand needs care.
        f.store(vec, total(parts, f.load(vec, place, form.acc_size)), place, form.acc_size)


def dot_strided(form: Form) -> str:
    """sums[r] += Mat[r, :] . v with any strides."""
    f = Function("dot_strided", PARAMS, "void", "nounwind noinline")
    acc, size = form.acc, form.acc_size
    with f.loop("%rows") as loop:
        row = f.gep(form.stored, "%mat", f.mul(loop.index, "%rs"))
        with f.loop("%k", carry=[(acc, "0.0")]) as inner:
            m = load_stored(f, form, f.gep(form.stored, row, f.mul(inner.index, "%cs")), 1)
            v = f.load(acc, f.gep(acc, "%v", inner.index), size)
            old = inner.carried[0]
            inner.carry(
                f.op(f"call {acc} @llvm.fmuladd.{MANGLED[acc]}({acc} {m}, {acc} {v}, {acc} {old})")
            )
        place = f.gep(acc, "%sums", loop.index)
        before = f.load(acc, place, size)
        f.store(acc, f.op(f"fadd {acc} {before}, {inner.carried[0]}"), place, size)
    f.ret()
    return f.text()
