"""Matrix times one vector or a few at memory bandwidth, as LLVM IR text.

y_v[r] = sum over k of Mat[r, k] v[k], for few rows of A (Mat = B transposed, the vectors are A's
rows) and for N == 1 (Mat = A, the vector is B). Rows are cut into chunks, K into blocks whose
pieces of the vectors stay in the first-level cache; a chunk's sums stay on the stack until K is
through. Where K is contiguous, rows are dotted one after the other; where rows are contiguous,
several columns are added at a time. Either way memory is read in runs as long as can be: two
streams of half rows reach half the bandwidth of one.
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

ROOM = 32768
"""Bytes of sums, and of pieces of the vectors, that a task keeps on its stack."""

GROUP = 4
"""Vectors multiplied at a time when there is more than one."""

FIELDS = (
    "mat", "v", "y", "bias", "rows", "k", "rs", "cs", "sv", "sy", "sbias", "flags", "vectors",
    "next_v", "next_y", "chunk", "splits", "depth", "partial",
)  # fmt: skip
"""i64 fields of the problem that `gemv_task` reads, in order. Strides in elements: of Mat, along a
vector, y and bias, and from one vector and its result to the next. A task takes `chunk` rows (at
most `most_rows`) of one of `splits` ranges of `depth` columns; with several ranges their sums go to
`partial` (splits x vectors x rows) and are added after.
"""


def most_rows(form: Form, several: bool) -> int:
    """Rows whose sums a task can keep."""
    return ROOM // form.acc_size // (GROUP if several else 1)


class Fields:
    """The fields of a matrix-vector problem, read once."""

    def __init__(self, f: Function) -> None:
        self.value = {
            name: f.load("i64", f.gep("i64", "%g", n), 8) for n, name in enumerate(FIELDS)
        }
        pointers = ("mat", "v", "y", "bias", "partial")
        self.address = {name: f.op(f"inttoptr i64 {self.value[name]} to ptr") for name in pointers}

    def __getitem__(self, name: str) -> str:
        return self.value[name]


def gemv_task(form: Form) -> str:
    """Task: tasks [begin, end); task t is chunk t // splits of the range t % splits of columns."""
    params = [("ptr", "g"), ("i64", "begin"), ("i64", "end"), ("i64", "worker")]
    f = Function("gemv_task", params, "void", "nounwind noinline")
    g = Fields(f)
    long, piece = most_rows(form, True), ROOM // form.acc_size // GROUP
    sums = f.alloca(form.acc, GROUP * long + 64, 64)
    copies = f.alloca(form.acc, GROUP * piece + 64, 64)
    single = f.cmp("eq", g["vectors"], 1)
    held = f.select(single, 1, GROUP)
    ready = "false" if form.widened else f.both(single, f.cmp("eq", g["sv"], 1))
    whole = f.cmp("eq", g["splits"], 1)
    # A vector used where it lies need not be cut so short.
    step = f.select(ready, GROUP * piece, piece)
    with f.loop("%end", start="%begin") as task:
        split = f.urem(task.index, g["splits"])
        first = f.mul(f.udiv(task.index, g["splits"]), g["chunk"])
        rows = f.min(g["chunk"], f.sub(g["rows"], first))
        left = f.mul(split, g["depth"])
        right = f.min(g["k"], f.add(left, g["depth"]))
        with f.loop(g["vectors"], step=GROUP) as group:
            count = f.min(GROUP, f.sub(g["vectors"], group.index))
            with f.loop(held) as v, f.loop(rows, step=form.vl) as loop:
                place = f.add(f.mul(v.index, long), loop.index)
                f.store(form.vec, "zeroinitializer", f.gep(form.acc, sums, place), form.acc_size)
            with f.loop(right, start=left, step=step) as block:
                k = f.min(step, f.sub(right, block.index))
                source = f.add(f.mul(block.index, g["sv"]), f.mul(group.index, g["next_v"]))
                source = f.gep(form.stored, g.address["v"], source)
                with f.when(f.op(f"xor i1 {ready}, true")), f.loop(held) as v:
                    # A group that is not full repeats its last vector; what comes of that is not
                    # stored.
                    real = f.mul(f.min(v.index, f.sub(count, 1)), g["next_v"])
                    copy_vector(
                        f, form, f.gep(form.stored, source, real), g["sv"], k,
                        f.gep(form.acc, copies, f.mul(v.index, piece)),
                    )  # fmt: skip
                vector = f.select(ready, source, copies, "ptr")
                offset = f.add(f.mul(first, g["rs"]), f.mul(block.index, g["cs"]))
                mat = f.gep(form.stored, g.address["mat"], offset)
                multiply(f, g, f"ptr {mat}, i64 {g['rs']}, i64 {g['cs']}, ptr {vector}, "
                         f"ptr {sums}, i64 {rows}, i64 {k}", single)  # fmt: skip
            with f.loop(count) as v:
                number = f.add(group.index, v.index)
                part = f.gep(form.acc, sums, f.mul(v.index, long))
                with f.when(whole):
                    finish(f, form, g, number, part, first, rows)
                with f.when(f.op(f"xor i1 {whole}, true")):
                    row = f.mul(f.add(f.mul(split, g["vectors"]), number), g["rows"])
                    place = f.gep(form.acc, g.address["partial"], f.add(row, first))
                    size = f.mul(rows, form.acc_size)
                    to, source = f"ptr {place}", f"ptr {part}"
                    f.do(f"call void @llvm.memcpy.p0.p0.i64({to}, {source}, i64 {size}, i1 false)")
    f.ret()
    kernels = [
        dot_rows(form, 1),
        dot_rows(form, GROUP),
        add_columns(form, 1),
        add_columns(form, GROUP),
    ]
    return "".join([MEMCPY, *kernels, dot_strided(form), reduce_splits(form), f.text()])


MEMCPY = "declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)\n"


def reduce_splits(form: Form) -> str:
    """void gemv_reduce(problem): add the ranges' sums in their order and write y."""
    f = Function("gemv_reduce", [("ptr", "g")], "void", "nounwind noinline")
    g = Fields(f)
    acc, size = form.acc, form.acc_size
    count = f.mul(g["vectors"], g["rows"])
    for start, stop, lanes, kind in (
        (0, f.mul(f.udiv(count, form.vl), form.vl), form.vl, form.vec),
        (f.mul(f.udiv(count, form.vl), form.vl), count, 1, acc),
    ):
        with f.loop(stop, start=start, step=lanes) as loop:
            place = f.gep(acc, g.address["partial"], loop.index)
            with f.loop(g["splits"], start=1, carry=[(kind, f.load(kind, place, size))]) as split:
                other = f.gep(acc, place, f.mul(split.index, count))
                split.carry(f.op(f"fadd {kind} {split.carried[0]}, {f.load(kind, other, size)}"))
            f.store(kind, split.carried[0], place, size)
    with f.loop(g["vectors"]) as v:
        part = f.gep(acc, g.address["partial"], f.mul(v.index, g["rows"]))
        finish(f, form, g, v.index, part, 0, g["rows"])
    f.ret()
    return f.text()


def multiply(f: Function, field: Fields, arguments: str, single: str) -> None:
    """Call the kernel for Mat's strides and the number of vectors."""
    tag = f.fresh("form")
    dots, columns = f.cmp("eq", field["cs"], 1), f.cmp("eq", field["rs"], 1)
    f.branch(dots, f"{tag}.dots", f"{tag}.other")
    f.label(f"{tag}.other")
    f.branch(columns, f"{tag}.columns", f"{tag}.strided")
    for kind, name in (("dots", "dot_rows"), ("columns", "add_columns")):
        f.label(f"{tag}.{kind}")
        f.branch(single, f"{tag}.{kind}1", f"{tag}.{kind}{GROUP}")
        for count in (1, GROUP):
            f.label(f"{tag}.{kind}{count}")
            f.do(f"call void @{name}{count}({arguments})")
            f.jump(f"{tag}.end")
    f.label(f"{tag}.strided")
    # Several vectors only come here with contiguous rows or columns; see `few_rows`.
    f.do(f"call void @dot_strided({arguments})")
    f.label(f"{tag}.end")


def copy_vector(f: Function, form: Form, source: str, stride: Value, k: Value, copy: str) -> None:
    """copy[0:k] = source[::stride], widened."""
    with f.loop(k) as loop:
        value = load_stored(f, form, f.gep(form.stored, source, f.mul(loop.index, stride)), 1)
        f.store(form.acc, value, f.gep(form.acc, copy, loop.index), form.acc_size)


def finish(
    f: Function, form: Form, field: Fields, vector: Value, sums: str, first: Value, rows: Value
) -> None:
    """Write a vector's sums for `rows` rows from `first` to its y, with what is to be added."""
    has_bias = f.cmp("ne", field["bias"], 0)
    add = f.cmp("ne", f.op(f"and i64 {field['flags']}, 1"), 0)
    bias = field.address["bias"]
    y = f.gep(form.stored, field.address["y"], f.mul(vector, field["next_y"]))
    with f.loop(rows) as loop:
        row = f.add(first, loop.index)
        value = f.load(form.acc, f.gep(form.acc, sums, loop.index), form.acc_size)
        place = f.gep(form.stored, y, f.mul(row, field["sy"]))
        with f.merge(has_bias, [form.acc], [value]) as values:
            address = f.gep(form.stored, bias, f.mul(row, field["sbias"]))
            values[0] = f.op(f"fadd {form.acc} {value}, {load_stored(f, form, address, 1)}")
        biased = values[0]
        with f.merge(add, [form.acc], [biased]) as values:
            values[0] = f.op(f"fadd {form.acc} {load_stored(f, form, place, 1)}, {biased}")
        store_stored(f, form, values[0], place, 1)


PARAMS = [
    ("ptr", "mat"), ("i64", "rs"), ("i64", "cs"), ("ptr", "v"), ("ptr", "sums"), ("i64", "rows"),
    ("i64", "k"),
]  # fmt: skip


def dot_rows(form: Form, vectors: int) -> str:
    """sums_v[r] += Mat[r, :] . v with K contiguous, one row after the other."""
    f = Function(f"dot_rows{vectors}", PARAMS, "void", "nounwind noinline")
    width = 4 if vectors == 1 else 2
    with f.loop("%rows") as loop:
        dot_row(
            f,
            form,
            f.gep(form.stored, "%mat", f.mul(loop.index, "%rs")),
            vectors,
            width,
            loop.index,
        )
    f.ret()
    return f.text()


def fma(f: Function, form: Form, a: str, b: str, c: str) -> str:
    """a * b + c on vectors of accumulators."""
    vec = form.vec
    name = f"@llvm.fmuladd.v{form.vl}{MANGLED[form.acc]}"
    return f.op(f"call {vec} {name}({vec} {a}, {vec} {b}, {vec} {c})")


def dot_row(f: Function, form: Form, row: str, vectors: int, width: int, index: Value) -> None:
    """Dot one row with the vectors, `width` SIMD vectors at a time, and add to its sums."""
    vec, vl, size = form.vec, form.vl, form.acc_size
    long, piece, step = most_rows(form, True), ROOM // size // GROUP, vl * width
    starts = [f.gep(form.acc, "%v", v * piece) for v in range(vectors)]
    body = f.mul(f.udiv("%k", step), step)
    with f.loop(body, step=step, carry=[(vec, "zeroinitializer")] * (vectors * width)) as loop:
        following = list(loop.carried)
        for w in range(width):
            place = f.add(loop.index, w * vl)
            mat = load_stored(f, form, f.gep(form.stored, row, place), vl)
            for v, start in enumerate(starts):
                part = f.load(vec, f.gep(form.acc, start, place), size)
                following[v * width + w] = fma(f, form, mat, part, following[v * width + w])
        loop.carry(*following)
    totals = []
    for v in range(vectors):
        group = loop.carried[v * width : (v + 1) * width]
        while len(group) > 1:
            group = [f.op(f"fadd {vec} {a}, {b}") for a, b in zip(group[::2], group[1::2])]
        totals.append(group[0])
    with f.loop("%k", start=body, step=vl, carry=[(vec, t) for t in totals]) as loop:
        count = f.min(vl, f.sub("%k", loop.index))
        raw = load_some(f, form, form.stored, f.gep(form.stored, row, loop.index), count)
        mat = widen(f, form, raw, vl)
        following = []
        for v, start in enumerate(starts):
            part = load_some(f, form, form.acc, f.gep(form.acc, start, loop.index), count)
            following.append(fma(f, form, mat, part, loop.carried[v]))
        loop.carry(*following)
    for v, total in enumerate(loop.carried):
        value = f.op(
            f"call reassoc {form.acc} @llvm.vector.reduce.fadd.v{vl}{MANGLED[form.acc]}"
            f"({form.acc} -0.0, {vec} {total})"
        )
        place = f.gep(form.acc, "%sums", f.add(index, v * long))
        before = f.load(form.acc, place, size)
        f.store(form.acc, f.op(f"fadd {form.acc} {before}, {value}"), place, size)


def add_columns(form: Form, vectors: int) -> str:
    """sums_v[r] += sum over k of Mat[r, k] v[k] with rows contiguous, several columns at a time."""
    f = Function(f"add_columns{vectors}", PARAMS, "void", "nounwind noinline")
    columns = 8 if vectors == 1 else 4
    body = f.mul(f.udiv("%k", columns), columns)
    for start, stop, count in ((0, body, columns), (body, "%k", 1)):
        with f.loop(stop, start=start, step=count) as loop:
            mats = [
                f.gep(form.stored, "%mat", f.mul(f.add(loop.index, c), "%cs")) for c in range(count)
            ]
            weights = []
            for v in range(vectors):
                for c in range(count):
                    place = f.add(f.add(loop.index, c), v * (ROOM // form.acc_size // GROUP))
                    scalar = f.load(form.acc, f.gep(form.acc, "%v", place), form.acc_size)
                    weights.append(f.splat(form.vl, form.acc, scalar))
            add_some_columns(f, form, mats, weights)
    f.ret()
    return f.text()


def add_some_columns(f: Function, form: Form, columns: list[str], weights: list[str]) -> None:
    """sums_v[r] += sum of weight * column over a few columns; weights are [vector][column]."""
    vec, vl, size = form.vec, form.vl, form.acc_size
    whole = f.mul(f.udiv("%rows", vl), vl)
    number = len(columns)

    def update(index: Value, parts: list[str]) -> None:
        for v in range(len(weights) // number):
            place = f.gep(form.acc, "%sums", f.add(index, v * most_rows(form, True)))
            # Two chains, so that a vector's additions wait for half as many others.
            chains = [f.load(vec, place, size), ""]
            for c, part in enumerate(parts):
                weight, old = weights[v * number + c], chains[c % 2]
                chains[c % 2] = (
                    fma(f, form, part, weight, old) if old else f.op(f"fmul {vec} {part}, {weight}")
                )
            total = f.op(f"fadd {vec} {chains[0]}, {chains[1]}") if chains[1] else chains[0]
            f.store(vec, total, place, size)

    with f.loop(whole, step=vl) as loop:
        parts = []
        for column in columns:
            address = f.gep(form.stored, column, loop.index)
            parts.append(load_stored(f, form, address, vl))
        update(loop.index, parts)
    with f.when(f.cmp("slt", whole, "%rows")):
        count = f.sub("%rows", whole)
        parts = []
        for column in columns:
            raw = load_some(f, form, form.stored, f.gep(form.stored, column, whole), count)
            parts.append(widen(f, form, raw, vl))
        # sums has room for whole vectors past its end, so only the operand needs care.
        update(whole, parts)


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
