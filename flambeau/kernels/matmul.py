"""Matrix products as LLVM IR text: C[b] = A[b] B[b] (+ bias) (+ C[b]), any strides of A and B.

`module_text(dtype, features)` gives the module that defines `fl_gemm_<dtype>(descriptor)`; the
descriptor is an array of i64 (`DESCRIPTOR` names its places).

Note [Blocking]
    For each block of NC columns and KC of K, B is packed once into panels of NR columns, in
    parallel, into memory shared by the call. Then the tiles of C are computed in parallel: a tile
    packs its MC rows of A into panels of MR rows in its thread's own memory and runs the
    micro-kernel (`gemm_micro.py`) over them, panel of B by panel of B. A packed tile of A
    (MC x KC) takes less than half a second-level cache, packed B (NC x KC, at most `SHARED` bytes)
    its place in the last level, a panel of each (MR x KC and NR x KC) streams through the first.

    With AVX-512 a tile of C in registers is 8 x 2 vectors: measured within 1 % of 8 x 3, 12 x 2
    and 14 x 2 on large products (Zen 4), and best where M is a multiple of 8, as it mostly is.
    With AVX2 it is 6 x 2, which fills 16 registers; with NEON 12 x 2 of 32. KC = 512 keeps the
    traffic of C small; K is cut into equal blocks of at most KC.

    Each block of K is summed in registers before it is added to C: this bounds the length of a
    chain of additions, hence the error. No decision that changes a result depends on the number
    of threads, so results are bitwise the same for any.

    What is not packed: B, when its rows are contiguous and few rows of A use it or it is small, a
    few more where its rows lie near one another (threads that pack for each other wait for lines);
    A, when few columns use it. The micro-kernel addresses both by strides. 16-bit operands are
    always packed, which widens them (or pairs them, for AVX-512 BF16).

    Packing reads memory at random compared with computing, so sources are prefetched, and the
    next tile's A while this one is computed.

Note [Memory of products]
    A thread at work holds one block of MC x KC accumulators (one huge page of 2 MB), a call at
    work one of `SHARED` bytes for packed B, and for 16-bit types with K > KC one more of 4 MB for
    partial sums. They are borrowed from shelves (`workspace.py`), so calls may come from several
    threads at once; a shelf keeps what was used at the same time, for the life of the module.

Note [Epilogues]
    A product may carry regions (`kernels/epilogue.py`): their kernels' bodies are called, one after
    another, on every strip of columns of a tile of C as soon as that strip is complete, while it is
    in a near cache. Where nobody else reads C it is never written as a whole: a tile's rows of it
    live in a block of scratch memory, which needs K in one block.

Note [Special shapes]
    N == 1, M == 1 and few rows with a large B are matrix-vector products (`gemm_vector.py`).
    K == 0 gives the bias or zero. Batches run one matrix a task; large ones one after another with
    the threads inside. Work under `SERIAL` multiply-adds does not wake a thread.
"""

from __future__ import annotations

from flambeau.kernels import gemm_vector
from flambeau.kernels.emit import Function, Value
from flambeau.kernels.gemm_epilogue import EPILOGUE, WITH_EPILOGUE, Epilogues
from flambeau.kernels.gemm_micro import (
    ADD_BIAS,
    ADD_C,
    ADD_PARTIAL,
    LAST,
    Form,
    declarations,
    load_stored,
    micro,
    micro_name,
    store_stored,
)
from flambeau.kernels.gemm_pack import pack
from flambeau.kernels.workspace import workspace, workspace_declarations

DTYPES = ("f32", "f64", "bf16", "f16")

DESCRIPTOR = (
    "a", "b", "c", "bias", "m", "n", "k", "rsa", "csa", "rsb", "csb", "rsc", "batch_dims",
    "size0", "size1", "size2", "size3", "a0", "a1", "a2", "a3", "b0", "b1", "b2", "b3",
    "c0", "c1", "c2", "c3", "flags",
    *EPILOGUE,
)  # fmt: skip
"""Places of the i64 descriptor: addresses (bias 0 for none; N elements of C's dtype, added to each
row), sizes, strides in elements (C's column stride is 1), number of batch dims, their sizes, the
strides of A, B and C along them, flags (bit 0: add to C; bit 1: there are epilogues, and the
places of `gemm_epilogue.py` after the flags; no batch then, M > 8, N > 1, K > 0).
"""

SHARED = 4 << 20
"""Bytes of packed B that a call may hold."""

FEW_ROWS, FEW_ROWS_WORK = 8, 1 << 16
"""Rows of A up to which B is not packed, if it has at least so many elements."""

NEAR_ROWS, NEAR_STEP = 256, 1 << 11
"""Rows of A up to which B is not packed where its own rows begin so many bytes apart at most: a
panel then lies in many sets of the first cache, and in few pages.
"""

VECTOR_TASKS = 16
"""Tasks that a matrix-vector product is cut into."""

SLICE = 8
"""Elements of K packed at a time where panels lie side by side in memory; even."""

NEAR = 1 << 15
"""Bytes of an operand that stay in the first cache while panel after panel is packed."""

UPCOMING_STEPS, UPCOMING_LINES = 2, 12
"""Runs of cache lines of the next tile's A prefetched before each micro-kernel."""

PARTIAL_ROWS = 1024
"""Rows and columns of partial sums held at once when 16-bit C needs more than one block of K."""

SHARES = 4
"""What the number of a product's row tiles is a multiple of, where threads share them."""

SERIAL = 1 << 21
"""Multiply-adds below which a call stays on its thread."""

# The problem as the internal functions see it: one matrix product, then what `blocked` derives for
# the current block.
PROBLEM = (
    "a", "b", "c", "bias", "m", "n", "k", "rsa", "csa", "rsb", "csb", "rsc", "flags", "parallel",
    "i0", "rows", "j0", "cols", "k0", "depth", "slots", "bbase", "bstep", "ldb", "adirect",
    "unit", "units", "row_tiles", "group", "p", "ldp", "c_base", "ldc", "bias_base", "mflags",
    "a_base", "last", *EPILOGUE,
)  # fmt: skip
PLACE = {name: n for n, name in enumerate(PROBLEM)}


def form_of(dtype: str, features: frozenset[str]) -> Form:
    """The blocking for a dtype on a CPU with these LLVM features.

    Args:
        dtype: one of `DTYPES`.
        features: LLVM's names of the CPU's features, e.g. `avx512f`, `avx2`, `fma`, `neon`.
    """
    wide = dtype == "f64"
    halves = 2 if wide else 1
    kc = 256 if wide else 512
    short = dtype in ("bf16", "f16")
    if {"avx512f", "avx512bw", "avx512vl", "avx512dq"} <= features:
        pairs = dtype == "bf16" and "avx512bf16" in features
        # Pairs take half a slot an element, and their partial sums would take another pass.
        return Form(dtype, 16 // halves, 2, 8, 4, True, pairs, 4 * kc if pairs else kc, 192)
    if {"avx2", "fma"} <= features:
        return Form(dtype, 8 // halves, 2, 6, 3, not short, False, kc, 192)
    # 128-bit vectors; NEON and its kin have 32 registers, SSE2 has 16.
    rows = 12 if "neon" in features else 4
    return Form(dtype, 4 // halves, 2, rows, 4 if rows == 12 else 2, False, False, kc, 192)


def module_text(dtype: str, features: frozenset[str]) -> str:
    """LLVM IR of the module that defines `fl_gemm_<dtype>`.

    Args:
        dtype: one of `DTYPES`: the type of A, B, bias and C; accumulation is in f64 for f64, else
            in f32.
        features: LLVM's names of the CPU's features; they choose vectors and blocking.

    Returns: a module that needs the symbol `fl_parallel_for` and the C library.

    Raises: ValueError for another dtype.
    """
    if dtype not in DTYPES:
        raise ValueError(f"no GEMM for dtype {dtype!r}; there are {', '.join(DTYPES)}")
    return text_of(form_of(dtype, features))


def text_of(form: Form) -> str:
    """The module for one form."""
    panel_bytes = form.mc * form.kc * form.acc_size + 4096
    parts = [
        "declare void @fl_parallel_for(ptr, ptr, i64, i64)\n",
        declarations(form),
        workspace_declarations(),
        workspace("panels", panel_bytes),
        workspace("shared", SHARED),
    ]
    if form.widened:
        parts.append(workspace("partial", PARTIAL_ROWS * PARTIAL_ROWS * form.acc_size))
    parts.append(micro(form, form.mr, form.nv, edge=False))
    for rows in (form.mr, form.small):
        for nv in range(1, form.nv + 1):
            parts.append(micro(form, rows, nv, edge=True))
    parts += [
        *(pack(form, wide) for wide in sorted({form.mr, form.nr})),
        gemm_vector.gemv_task(form),
        fill_rows(form),
        edge_tile(form),
        pack_b_task(form),
        tile_task(form),
        blocked(form),
        vectors(form),
        one(form),
        batch_task(form),
        entry(form),
    ]
    return "\n".join(parts)


class Problem:
    """Reads and writes of the fields of a problem in memory."""

    def __init__(self, f: Function, base: str = "%g") -> None:
        self.f = f
        self.base = base

    def __getitem__(self, name: str) -> str:
        return self.f.load("i64", self.f.gep("i64", self.base, PLACE[name]), 8)

    def __setitem__(self, name: str, value: Value) -> None:
        self.f.store("i64", value, self.f.gep("i64", self.base, PLACE[name]), 8)

    def pointer(self, name: str) -> str:
        """The field as an address."""
        return self.f.op(f"inttoptr i64 {self[name]} to ptr")


def run(f: Function, parallel: str, task: str, problem: str, count: Value, grain: Value) -> None:
    """Run a task over [0, count): on the pool, or on this thread."""
    tag = f.fresh("run")
    f.branch(f.cmp("ne", parallel, 0), f"{tag}.pool", f"{tag}.here")
    f.label(f"{tag}.pool")
    f.do(f"call void @fl_parallel_for(ptr @{task}, ptr {problem}, i64 {count}, i64 {grain})")
    f.jump(f"{tag}.end")
    f.label(f"{tag}.here")
    f.do(f"call void @{task}(ptr {problem}, i64 0, i64 {count}, i64 0)")
    f.label(f"{tag}.end")


TASK = [("ptr", "g"), ("i64", "begin"), ("i64", "end"), ("i64", "worker")]


def fill_rows(form: Form) -> str:
    """void fill_rows(problem): C = bias or zero, or C += bias: the product for K == 0."""
    f = Function("fill_rows", [("ptr", "g")], "void", "nounwind noinline")
    g = Problem(f)
    n, bias, c, rsc = g["n"], g["bias"], g.pointer("c"), g["rsc"]
    keep = f.cmp("ne", f.op(f"and i64 {g['flags']}, 1"), 0)
    has_bias = f.cmp("ne", bias, 0)
    source = f.op(f"inttoptr i64 {bias} to ptr")
    with f.loop(g["m"]) as row:
        start = f.gep(form.stored, c, f.mul(row.index, rsc))
        with f.loop(n) as column:
            place = f.gep(form.stored, start, column.index)
            with f.merge(has_bias, [form.acc], ["0.0"]) as values:
                values[0] = load_stored(f, form, f.gep(form.stored, source, column.index), 1)
            added = values[0]
            with f.merge(keep, [form.acc], [added]) as values:
                values[0] = f.op(f"fadd {form.acc} {load_stored(f, form, place, 1)}, {added}")
            store_stored(f, form, values[0], place, 1)
    f.ret()
    return f.text()


def edge_tile(form: Form) -> str:
    """void edge_tile(...): part of a tile, `rows` <= MR by `cols` <= NR, by the smaller kernels.

    An operand A left in place cannot be read past its last row, so its last rows are done by a
    kernel that starts higher up and stores only the rows asked for; `above` says how many rows
    there are above.
    """
    params = [
        ("i64", "k"), ("ptr", "a"), ("i64", "rs"), ("i64", "cs"), ("ptr", "b"), ("i64", "ldb"),
        ("ptr", "p"), ("i64", "ldp"), ("ptr", "c"), ("i64", "ldc"), ("ptr", "bias"),
        ("i64", "flags"), ("i64", "rows"), ("i64", "cols"), ("i64", "above"), ("i64", "direct"),
    ]  # fmt: skip
    f = Function("edge_tile", params, "void", "nounwind noinline")
    direct = f.cmp("ne", "%direct", 0)
    wide = f.cmp("sgt", "%cols", form.vl * (form.nv - 1))
    last_cols = f.select(wide, f.sub("%cols", form.vl * (form.nv - 1)), "%cols")

    def kernel(rows: int, first: Value, present: Value) -> None:
        """Rows [first, first + present) by the kernel of `rows`."""
        short = f.select(direct, f.sub(rows, present), 0)
        start = f.sub(first, short)
        mask = f.op(f"shl i64 1, {present}")
        mask = f.op(f"shl i64 {f.sub(mask, 1)}, {short}")
        a = f.gep("i8", "%a", f.mul(start, "%rs"))
        p = f.gep("i8", "%p", f.mul(start, "%ldp"))
        c = f.gep("i8", "%c", f.mul(start, "%ldc"))
        arguments = (
            f"i64 %k, ptr {a}, i64 %rs, i64 %cs, ptr %b, i64 %ldb, ptr {p}, i64 %ldp, "
            f"ptr {c}, i64 %ldc, ptr %bias, i64 %flags, i64 {last_cols}, i64 {mask}"
        )
        tag = f.fresh("kernel")
        f.branch(wide, f"{tag}.wide", f"{tag}.narrow")
        for nv, name in ((form.nv, "wide"), (1, "narrow")):
            f.label(f"{tag}.{name}")
            f.do(f"call void @{micro_name(rows, nv, True)}({arguments})")
            f.jump(f"{tag}.end")
        f.label(f"{tag}.end")

    many = f.cmp("sgt", "%rows", form.mr - form.small)
    room = f.cmp("sge", f.add("%above", "%rows"), form.mr)
    packed = f.op(f"xor i1 {direct}, true")
    with f.when(f.both(many, f.either(packed, room))):
        kernel(form.mr, 0, "%rows")
        f.ret()
    with f.loop("%rows", step=form.small) as loop:
        kernel(form.small, loop.index, f.min(form.small, f.sub("%rows", loop.index)))
    f.ret()
    return f.text()


def sliced(f: Function, form: Form, stride: Value, count: Value, depth: Value) -> str:
    """Elements of K packed at a time of `count` rows or columns that lie `stride` apart."""
    far = f.cmp("sgt", f.mul(count, depth), NEAR // form.stored_size)
    return f.select(f.both(f.cmp("eq", stride, 1), far), SLICE, depth)


def pack_b_task(form: Form) -> str:
    """Task: panels [begin, end) of the current block of B."""
    f = Function("pack_b_task", TASK, "void", "nounwind noinline")
    g = Problem(f)
    cols, depth, step, rsb, csb = g["cols"], g["depth"], g["bstep"], g["rsb"], g["csb"]
    base = g.pointer("bbase")
    offset = f.add(f.mul(g["k0"], rsb), f.mul(g["j0"], csb))
    source = f.gep(form.stored, g.pointer("b"), offset)
    # Rows of B that are contiguous are read a few at a time over all panels: long runs of memory,
    # few pages.
    slice_ = sliced(f, form, csb, f.mul(f.sub("%end", "%begin"), form.nr), depth)
    slot = form.nr * form.acc_size // (2 if form.pairs else 1)
    with f.loop(depth, step=slice_) as block, f.loop("%end", start="%begin") as loop:
        column = f.mul(loop.index, form.nr)
        present = f.min(form.nr, f.sub(cols, column))
        deep = f.min(slice_, f.sub(depth, block.index))
        start = f.add(f.mul(column, csb), f.mul(block.index, rsb))
        place = f.add(f.mul(loop.index, step), f.mul(block.index, slot))
        f.do(
            f"call void @pack{form.nr}(ptr {f.gep(form.stored, source, start)}, i64 {csb}, "
            f"i64 {rsb}, i64 {present}, i64 {deep}, ptr {f.gep('i8', base, place)})"
        )
    f.ret()
    return f.text()


class Upcoming:
    """Prefetches the next tile's rows of A to the second level, some before each micro-kernel.

    Packing reads memory and computing does not; spread like this the reads cost next to nothing.
    """

    def __init__(self, f: Function, form: Form, v: dict[str, str], start: str, rows: Value) -> None:
        """`start`: where that tile of A begins; `rows`: how many it has, 0 where there is none."""
        self.f = f
        along_k, along_m = f.cmp("eq", v["csa"], 1), f.cmp("eq", v["rsa"], 1)
        size = form.stored_size
        runs = f.select(
            along_k, rows, f.select(along_m, f.select(f.cmp("sgt", rows, 0), v["depth"], 0), 0)
        )
        self.length = f.mul(f.select(along_k, v["depth"], rows), size)
        self.stride = f.mul(f.select(along_k, v["rsa"], v["csa"]), size)
        self.place, self.offset, self.runs = f.alloca("ptr"), f.alloca("i64"), f.alloca("i64")
        f.store("ptr", start, self.place, 8)
        f.store("i64", 0, self.offset, 8)
        f.store("i64", runs, self.runs, 8)

    def prefetch(self) -> None:
        """The next few lines, if any are left."""
        f = self.f
        runs = f.load("i64", self.runs, 8)
        with f.when(f.cmp("sgt", runs, 0)):
            offset, place = f.load("i64", self.offset, 8), f.load("ptr", self.place, 8)
            start = f.gep("i8", place, offset)
            for line in range(UPCOMING_LINES):
                f.prefetch(f.gep("i8", start, 64 * line), near=2)
            further = f.add(offset, 64 * UPCOMING_LINES)
            done = f.cmp("sge", further, self.length)
            f.store("i64", f.select(done, 0, further), self.offset, 8)
            f.store(
                "ptr", f.select(done, f.gep("i8", place, self.stride), place, "ptr"), self.place, 8
            )
            f.store("i64", f.select(done, f.sub(runs, 1), runs), self.runs, 8)


def tile_task(form: Form) -> str:
    """Task: tiles [begin, end); t is row tile t % row_tiles of column group t // row_tiles."""
    f = Function("tile_task", TASK, "void", "nounwind noinline")
    g = Problem(f)
    mr, nr, part = form.mr, form.nr, form.acc_size
    names = (
        "rows", "cols", "slots", "depth", "unit", "units", "row_tiles", "group", "bstep", "ldb",
        "rsa", "csa", "ldc", "ldp", "mflags", "adirect", "i0",
    )  # fmt: skip
    v = {name: g[name] for name in names}
    a_base, b_base, c_base = g.pointer("a_base"), g.pointer("bbase"), g.pointer("c_base")
    p_base, bias_base = g.pointer("p"), g.pointer("bias_base")
    direct = f.cmp("ne", v["adirect"], 0)
    room = f.alloca("ptr")
    f.store("ptr", "null", room, 8)
    with f.when(f.op(f"xor i1 {direct}, true")):
        f.store("ptr", f.op("call ptr @take_panels()"), room, 8)
    panels = f.load("ptr", room, 8)
    epilogues = Epilogues(f, form, {name: g[name] for name in Epilogues.NEEDS}, v)
    rs = f.select(direct, f.mul(v["rsa"], form.stored_size), part)
    cs = f.select(direct, f.mul(v["csa"], form.stored_size), mr * part)
    panel_step = f.select(direct, f.mul(rs, mr), f.mul(v["slots"], mr * part))
    with f.loop("%end", start="%begin") as tile:
        group, row_tile = f.udiv(tile.index, v["row_tiles"]), f.urem(tile.index, v["row_tiles"])
        top, stop, further = (
            f.min(v["rows"], f.mul(f.udiv(f.mul(number, v["units"]), v["row_tiles"]), v["unit"]))
            for number in (row_tile, f.add(row_tile, 1), f.add(row_tile, 2))
        )
        rows = f.sub(stop, top)
        left = f.mul(f.mul(group, v["group"]), nr)
        right = f.min(v["cols"], f.add(left, f.mul(v["group"], nr)))
        source = f.gep(form.stored, a_base, f.mul(top, v["rsa"]))
        with f.when(f.op(f"xor i1 {direct}, true")):
            slice_ = sliced(f, form, v["rsa"], rows, v["depth"])
            slot = mr * part // (2 if form.pairs else 1)
            with f.loop(v["depth"], step=slice_) as block, f.loop(rows, step=mr) as loop:
                present = f.min(mr, f.sub(rows, loop.index))
                deep = f.min(slice_, f.sub(v["depth"], block.index))
                panel = f.mul(f.udiv(loop.index, mr), panel_step)
                panel = f.add(panel, f.mul(block.index, slot))
                start = f.add(f.mul(loop.index, v["rsa"]), f.mul(block.index, v["csa"]))
                f.do(
                    f"call void @pack{mr}(ptr {f.gep(form.stored, source, start)}, "
                    f"i64 {v['rsa']}, i64 {v['csa']}, i64 {present}, i64 {deep}, "
                    f"ptr {f.gep('i8', panels, panel)})"
                )
        a = f.select(direct, source, panels, "ptr")
        following = f.gep(form.stored, source, f.mul(rows, v["rsa"]))
        upcoming = Upcoming(f, form, v, following, f.sub(further, stop))
        c = epilogues.tile(f.gep("i8", c_base, f.mul(top, v["ldc"])), top, rows)
        p = f.gep("i8", p_base, f.mul(top, v["ldp"])) if form.widened else "null"
        with f.loop(right, start=left, step=nr) as column:
            cols = f.min(nr, f.sub(right, column.index))
            whole = f.cmp("eq", cols, nr)
            b = f.gep("i8", b_base, f.mul(f.udiv(column.index, nr), v["bstep"]))
            c_column = f.gep(form.stored, c, column.index)
            p_column = f.gep(form.acc, p, column.index) if form.widened else "null"
            bias = f.gep(form.stored, bias_base, column.index)
            with f.loop(rows, step=mr) as row:
                for _ in range(UPCOMING_STEPS):
                    upcoming.prefetch()
                epilogues.ahead(row.index, column.index)
                present = f.min(mr, f.sub(rows, row.index))
                panel = f.gep("i8", a, f.mul(f.udiv(row.index, mr), panel_step))
                p_tile = (
                    f.gep("i8", p_column, f.mul(row.index, v["ldp"])) if form.widened else "null"
                )
                arguments = (
                    f"i64 {v['slots']}, ptr {panel}, i64 {rs}, i64 {cs}, ptr {b}, i64 {v['ldb']}, "
                    f"ptr {p_tile}, i64 {v['ldp']}, "
                    f"ptr {f.gep('i8', c_column, f.mul(row.index, v['ldc']))}, i64 {v['ldc']}, "
                    f"ptr {bias}, i64 {v['mflags']}"
                )
                tag = f.fresh("tile")
                f.branch(f.both(whole, f.cmp("eq", present, mr)), f"{tag}.full", f"{tag}.edge")
                f.label(f"{tag}.full")
                f.do(f"call void @{micro_name(mr, form.nv, False)}({arguments})")
                f.jump(f"{tag}.end")
                f.label(f"{tag}.edge")
                above = f.add(f.add(v["i0"], top), row.index)
                f.do(
                    f"call void @edge_tile({arguments}, i64 {present}, i64 {cols}, i64 {above}, "
                    f"i64 {v['adirect']})"
                )
                f.label(f"{tag}.end")
            epilogues.finish(left, f.add(column.index, cols), right)
    with f.when(f.op(f"xor i1 {direct}, true")):
        f.do(f"call void @give_panels(ptr {panels})")
    epilogues.done()
    f.ret()
    return f.text()


def blocked(form: Form) -> str:
    """void blocked(problem): one product by blocks of columns and of K. See Note [Blocking]."""
    f = Function("blocked", [("ptr", "g")], "void", "nounwind noinline")
    g = Problem(f)
    mr, nr, part, size = form.mr, form.nr, form.acc_size, form.stored_size
    step = 2 if form.pairs else 1
    m, n, k, parallel, flags = g["m"], g["n"], g["k"], g["parallel"], g["flags"]
    blocks = f.ceildiv(k, form.kc)
    depth = f.mul(f.ceildiv(f.ceildiv(k, blocks), 16), 16)
    one_block = f.cmp("eq", blocks, 1)
    depth = f.select(one_block, k, depth)
    slots_max = f.ceildiv(depth, step)
    nc = f.mul(f.udiv(SHARED, f.mul(slots_max, nr * part)), nr)
    several = f.op(f"xor i1 {one_block}, true") if form.widened else "false"
    if form.widened:
        nc = f.select(several, f.min(nc, PARTIAL_ROWS), nc)
    strip = g["strip"]
    finished = f.cmp("ne", g["epilogues"], 0)
    strips = f.mul(f.udiv(nc, f.max(strip, 1)), strip)
    nc = f.select(f.both(finished, f.cmp("slt", nc, n)), f.max(strips, strip), nc)
    row_block = f.select(several, PARTIAL_ROWS, m) if form.widened else m
    b_direct, a_direct = "false", "false"
    if not form.widened:
        b_small = f.cmp("sle", f.mul(n, k), 32768 * 4 // size)
        b_near = f.both(f.cmp("sle", m, NEAR_ROWS), f.cmp("sle", g["rsb"], NEAR_STEP // size))
        b_few = f.either(f.cmp("sle", m, 3 * mr), b_near)
        b_direct = f.both(f.cmp("eq", g["csb"], 1), f.either(b_small, b_few))
        a_direct = f.both(f.cmp("sge", m, form.small), f.cmp("sle", n, 4 * nr))
    room = f.alloca("ptr")
    f.store("ptr", "null", room, 8)
    partial = f.alloca("ptr")
    f.store("ptr", "null", partial, 8)
    with f.when(f.op(f"xor i1 {b_direct}, true")):
        f.store("ptr", f.op("call ptr @take_shared()"), room, 8)
    if form.widened:
        with f.when(several):
            f.store("ptr", f.op("call ptr @take_partial()"), partial, 8)
    shared = f.load("ptr", room, 8)
    sums = f.load("ptr", partial, 8)
    g["adirect"] = f.op(f"zext i1 {a_direct} to i64")
    g["ldc"] = f.mul(g["rsc"], size)
    g["ldb"] = f.select(b_direct, f.mul(g["rsb"], size), nr * part)
    bias = g["bias"]
    has_bias = f.cmp("ne", bias, 0)
    a, b, c = g.pointer("a"), g.pointer("b"), g.pointer("c")
    rsa, csa, rsb, csb = g["rsa"], g["csa"], g["rsb"], g["csb"]
    g["p"] = f.op(f"ptrtoint ptr {sums} to i64")
    with f.loop(m, step=row_block) as top, f.loop(n, step=nc) as left:
        rows = f.min(row_block, f.sub(m, top.index))
        cols = f.min(nc, f.sub(n, left.index))
        panels = f.ceildiv(cols, nr)
        g["i0"], g["rows"], g["j0"], g["cols"] = top.index, rows, left.index, cols
        g["ldp"] = f.mul(cols, part)
        corner = f.add(f.mul(top.index, g["rsc"]), left.index)
        g["c_base"] = f.op(f"ptrtoint ptr {f.gep(form.stored, c, corner)} to i64")
        g["bias_base"] = f.add(bias, f.mul(left.index, size))
        tiling(f, form, g, rows, panels, parallel)
        with f.loop(k, step=depth) as block:
            deep = f.min(depth, f.sub(k, block.index))
            slots = f.ceildiv(deep, step)
            g["k0"], g["depth"], g["slots"] = block.index, deep, slots
            offset = f.add(f.mul(top.index, rsa), f.mul(block.index, csa))
            g["a_base"] = f.op(f"ptrtoint ptr {f.gep(form.stored, a, offset)} to i64")
            first = f.cmp("eq", block.index, 0)
            last = f.cmp("sge", f.add(block.index, depth), k)
            g["last"] = f.op(f"zext i1 {last} to i64")
            offset = f.add(f.mul(block.index, rsb), f.mul(left.index, csb))
            base = f.select(b_direct, f.gep(form.stored, b, offset), shared, "ptr")
            g["bbase"] = f.op(f"ptrtoint ptr {base} to i64")
            g["bstep"] = f.select(b_direct, nr * size, f.mul(slots, nr * part))
            add_bias = f.select(f.both(last, has_bias), ADD_BIAS, 0)
            old = f.op(f"and i64 {flags}, 1")
            if form.widened:
                add = f.select(first, 0, ADD_PARTIAL)
                final = f.add(LAST, f.select(f.cmp("ne", old, 0), ADD_C, 0))
                add = f.op(f"or i64 {add}, {f.select(last, final, 0)}")
            else:
                add = f.select(first, f.mul(old, ADD_PARTIAL), ADD_PARTIAL)
            g["mflags"] = f.op(f"or i64 {add}, {add_bias}")
            with f.when(f.op(f"xor i1 {b_direct}, true")):
                share = f.min(f.udiv(1 << 16, f.mul(slots, nr)), f.udiv(panels, SHARES))
                share = f.max(1, share)
                run(f, parallel, "pack_b_task", "%g", panels, share)
            tiles = f.mul(g["row_tiles"], f.ceildiv(panels, g["group"]))
            run(f, parallel, "tile_task", "%g", tiles, 1)
    with f.when(f.op(f"xor i1 {b_direct}, true")):
        f.do(f"call void @give_shared(ptr {shared})")
    if form.widened:
        with f.when(several):
            f.do(f"call void @give_partial(ptr {sums})")
    f.ret()
    return f.text()


def tiling(
    f: Function, form: Form, g: Problem, rows: Value, panels: Value, parallel: Value
) -> None:
    """Cut a block into tiles: as tall as MC on one thread, on several about 32 with work enough.

    Rows come in units of whole bands of MR; row tile t of T has units [t U / T, (t + 1) U / T).
    For several threads T is a multiple of `SHARES`, so that they come to the end together.
    """
    whole = form.mc // form.mr
    finished = f.cmp("ne", g["epilogues"], 0)
    # Tiles of an epilogue hold whole units of its.
    unit = f.max(1, f.select(finished, f.udiv(g["unit_rows"], form.mr), 1))
    bands = f.ceildiv(rows, form.mr)
    units = f.ceildiv(bands, unit)
    least = f.ceildiv(units, f.udiv(whole, unit))
    # Every tile reads B, so low ones are worth it only up to the first few.
    wanted = f.min(f.ceildiv(bands, 8 * SHARES), 32 // SHARES)
    several = f.mul(f.max(wanted, f.ceildiv(least, SHARES)), SHARES)
    several = f.min(several, f.max(1, f.mul(f.udiv(bands, 8), 2)))
    row_tiles = f.select(f.cmp("ne", parallel, 0), f.min(several, units), least)
    # Columns are split only when rows alone give too few tiles, as each group packs A again.
    groups = f.max(1, f.min(f.udiv(16, row_tiles), f.udiv(panels, 8)))
    groups = f.select(f.cmp("ne", parallel, 0), groups, 1)
    g["unit"], g["units"], g["row_tiles"] = f.mul(unit, form.mr), units, row_tiles
    # Groups of an epilogue are made of whole strips.
    strip = f.max(1, f.udiv(g["strip"], form.nr))
    strip = f.select(finished, strip, 1)
    g["group"] = f.mul(f.ceildiv(f.ceildiv(panels, groups), strip), strip)


def one(form: Form) -> str:
    """void one(problem): one product, of any shape."""
    f = Function("one", [("ptr", "g")], "void", "nounwind noinline")
    g = Problem(f)
    with f.when(f.cmp("eq", g["k"], 0)):
        f.do("call void @fill_rows(ptr %g)")
        f.ret()
    with f.when(f.either(f.cmp("eq", g["n"], 1), few_rows(f, g))):
        f.do("call void @vectors(ptr %g)")
        f.ret()
    f.do("call void @blocked(ptr %g)")
    f.ret()
    return f.text()


def few_rows(f: Function, g: Problem) -> str:
    """i1: rows of A so few that B is better read once where it lies than packed."""
    m = g["m"]
    one_row = f.cmp("eq", m, 1)
    contiguous = f.either(f.cmp("eq", g["rsb"], 1), f.cmp("eq", g["csb"], 1))
    large = f.cmp("sge", f.mul(g["n"], g["k"]), FEW_ROWS_WORK)
    few = f.both(f.cmp("sle", m, FEW_ROWS), f.both(contiguous, large))
    return f.either(one_row, few)


def vectors(form: Form) -> str:
    """void vectors(problem): one column of B or few rows of A, by `gemm_vector.py`."""
    f = Function("vectors", [("ptr", "g")], "void", "nounwind noinline")
    g = Problem(f)
    m, n, k, parallel = g["m"], g["n"], g["k"], g["parallel"]
    column = f.cmp("eq", n, 1)
    rows, count = f.select(column, m, n), f.select(column, 1, m)
    rs, cs = f.select(column, g["rsa"], g["csb"]), f.select(column, g["csa"], g["rsb"])
    one_vector = f.cmp("eq", count, 1)
    most = f.select(
        one_vector, gemm_vector.most_rows(form, False), gemm_vector.most_rows(form, True)
    )
    # Mat is read again for every further group of vectors, so then a task keeps to what stays near.
    again = f.both(f.cmp("sgt", count, gemm_vector.GROUP), f.cmp("eq", cs, 1))
    most = f.select(again, 64, most)
    # Contiguous columns are not cut, so that memory is read in one run; their threads share K
    # instead.
    share = f.max(64, f.mul(f.ceildiv(rows, VECTOR_TASKS * 64), 64))
    share = f.select(f.both(f.cmp("ne", parallel, 0), f.cmp("ne", rs, 1)), f.min(most, share), most)
    tasks = f.ceildiv(rows, share)
    space = f.udiv(SHARED // form.acc_size, f.mul(rows, count))
    wanted = f.min(f.udiv(VECTOR_TASKS, tasks), f.min(space, f.udiv(k, 256)))
    wanted = f.max(1, f.select(f.cmp("ne", parallel, 0), wanted, 1))
    depth = f.mul(f.ceildiv(f.ceildiv(k, wanted), 8), 8)
    splits = f.ceildiv(k, depth)
    several = f.cmp("ne", splits, 1)
    room = f.alloca("ptr")
    f.store("ptr", "null", room, 8)
    with f.when(several):
        f.store("ptr", f.op("call ptr @take_shared()"), room, 8)
    partial = f.load("ptr", room, 8)
    problem = f.alloca("i64", len(gemm_vector.FIELDS))
    # N == 1: y = C's column, Mat = A, and the one bias is for all; else y = C's rows, Mat = B
    # transposed.
    values: dict[str, Value] = {
        "mat": f.select(column, g["a"], g["b"]), "v": f.select(column, g["b"], g["a"]),
        "y": g["c"], "bias": g["bias"], "rows": rows, "k": k, "rs": rs, "cs": cs,
        "sv": f.select(column, g["rsb"], g["csa"]), "sy": f.select(column, g["rsc"], 1),
        "sbias": f.select(column, 0, 1), "flags": g["flags"], "vectors": count,
        "next_v": g["rsa"], "next_y": g["rsc"], "chunk": share, "splits": splits, "depth": depth,
        "partial": f.op(f"ptrtoint ptr {partial} to i64"),
    }  # fmt: skip
    for place, name in enumerate(gemm_vector.FIELDS):
        f.store("i64", values[name], f.gep("i64", problem, place), 8)
    run(f, parallel, "gemv_task", problem, f.mul(tasks, splits), 1)
    with f.when(several):
        f.do(f"call void @gemv_reduce(ptr {problem})")
        f.do(f"call void @give_shared(ptr {partial})")
    f.ret()
    return f.text()


BATCH_PLACE = len(PROBLEM)
"""Where a problem that is a batch keeps the address of its descriptor."""


def batch_task(form: Form) -> str:
    """Task: matrices [begin, end) of a batch, on this thread or, if the problem says so, all."""
    f = Function("batch_task", TASK, "void", "nounwind noinline")
    descriptor = f.load("ptr", f.gep("i64", "%g", BATCH_PLACE), 8)
    mine = f.alloca("i64", BATCH_PLACE + 1)
    whole, part = Problem(f), Problem(f, mine)
    for name in ("bias", "m", "n", "k", "rsa", "csa", "rsb", "csb", "rsc", "flags", "parallel"):
        part[name] = whole[name]
    for name in EPILOGUE:
        part[name] = 0
    places = {name: n for n, name in enumerate(DESCRIPTOR)}

    def given(name: str) -> str:
        return f.load("i64", f.gep("i64", descriptor, places[name]), 8)

    sizes = [given(f"size{d}") for d in range(4)]
    sizes = [
        f.select(f.cmp("slt", d, given("batch_dims")), size, 1) for d, size in enumerate(sizes)
    ]
    strides = {x: [given(f"{x}{d}") for d in range(4)] for x in "abc"}
    bases = {x: whole.pointer(x) for x in "abc"}
    with f.loop("%end", start="%begin") as loop:
        rest: Value = loop.index
        offsets: dict[str, Value] = {"a": 0, "b": 0, "c": 0}
        for d in reversed(range(4)):
            index = f.urem(rest, sizes[d])
            rest = f.udiv(rest, sizes[d])
            for x in "abc":
                offsets[x] = f.add(offsets[x], f.mul(index, strides[x][d]))
        for x in "abc":
            place = f.gep(form.stored, bases[x], offsets[x])
            part[x] = f.op(f"ptrtoint ptr {place} to i64")
        f.do(f"call void @one(ptr {mine})")
    f.ret()
    return f.text()


def entry(form: Form) -> str:
    """void fl_gemm_<dtype>(descriptor)."""
    f = Function(f"fl_gemm_{form.dtype}", [("ptr", "d")], "void", "nounwind", linkage="")
    places = {name: n for n, name in enumerate(DESCRIPTOR)}

    def given(name: str) -> str:
        return f.load("i64", f.gep("i64", "%d", places[name]), 8)

    m, n, k, dims = given("m"), given("n"), given("k"), given("batch_dims")
    with f.when(f.either(f.cmp("sle", m, 0), f.cmp("sle", n, 0))):
        f.ret()
    problem = f.alloca("i64", BATCH_PLACE + 1)
    g = Problem(f, problem)
    for name in ("a", "b", "c", "bias", "m", "n", "k", "rsa", "csa", "rsb", "csb", "rsc", "flags"):
        g[name] = given(name)
    for name in EPILOGUE:
        g[name] = 0
    with f.when(f.cmp("ne", f.op(f"and i64 {given('flags')}, {WITH_EPILOGUE}"), 0)):
        for name in EPILOGUE:
            g[name] = given(name)
    work = f.mul(f.mul(m, n), k)
    vector = f.either(f.cmp("eq", m, 1), f.cmp("eq", n, 1))
    # A matrix-vector product waits for memory, so its multiply-adds are worth more threads.
    limit = f.select(vector, SERIAL // 16, SERIAL)
    single = f.cmp("eq", dims, 0)
    with f.when(single):
        g["parallel"] = f.op(f"zext i1 {f.cmp('sge', work, limit)} to i64")
        f.do(f"call void @one(ptr {problem})")
        f.ret()
    f.store("ptr", "%d", f.gep("i64", problem, BATCH_PLACE), 8)
    count: Value = given("size0")
    for d in range(1, 4):
        used = f.cmp("sgt", dims, d)
        count = f.mul(count, f.select(used, given(f"size{d}"), 1))
    with f.when(f.cmp("sle", count, 0)):
        f.ret()
    # Large matrices one after another, threads inside; small ones a task each, without a pool if
    # all are little work.
    large = f.both(f.cmp("sge", work, f.mul(16, limit)), f.cmp("slt", count, 64))
    large = f.either(large, f.cmp("eq", count, 1))
    inside = f.both(large, f.cmp("sge", work, limit))
    with f.when(inside):
        g["parallel"] = 1
        f.do(f"call void @batch_task(ptr {problem}, i64 0, i64 {count}, i64 0)")
        f.ret()
    g["parallel"] = 0
    total = f.mul(work, count)
    share = f.max(1, f.udiv(f.udiv(limit, 2), f.max(1, work)))
    pooled = f.op(f"zext i1 {f.cmp('sge', total, limit)} to i64")
    run(f, pooled, "batch_task", problem, count, share)
    f.ret()
    return f.text()
