"""Products whose left operand is read where it lies, by tables of offsets, as LLVM IR text.

A convolution is a matrix product whose left operand repeats the image: element (row, k) stands at
offset(row) + offset(k). A row's offset is an affine function of up to four coordinates; the offsets
along k come in *runs* of equal length, within which they advance by one step. So the micro-kernel
reads the image itself, and what `im2col` would write out never exists. The right operand is packed
in panels of NR columns, as in `gemm_pack.py`.

    forward             rows: places of the result    k: (kernel place, channel)
    weight's gradient   rows: (channel, kernel place) k: places of the result

Tiles of the product are summed in a block of scratch memory, one panel beside the other, and then
transposed into the result, where a column is a channel of the result: the image's channels stand
last inside, while public tensors keep theirs in front.

Reference: Dukhan, "The indirect convolution algorithm", arXiv:1907.02129, whose pointers are our
    offsets; Georganas et al., "Anatomy of high-performance deep learning convolutions on SIMD
    architectures", SC 2018.
"""

from __future__ import annotations

from flambeau.kernels.emit import Function, Value
from flambeau.kernels.gemm_micro import (
    Form,
    load_stored,
    multiply_add,
    store_stored,
)
from flambeau.kernels.gemm_pack import transpose

ROWS, PANELS = 192, 4
"""Rows and panels of a tile, about."""

CELLS = ROWS * PANELS
"""Most rows of all panels of a tile together."""

SLACK = 32
"""Rows of scratch past a tile, which transposition may read."""

FIELDS = (
    "a", "b", "out", "bias", "rows", "size1", "size2", "size3", "a0", "a1", "a2", "a3", "o0", "o1",
    "o2", "o3", "a_group", "b_group", "out_group", "bias_group", "bias_step", "columns", "panels",
    "panel_step", "column_step", "tile_rows", "row_tiles", "tile_panels", "column_tiles", "step",
    "blocks", "block_table", "run_table", "clear", "add", "units",
)  # fmt: skip
"""Words of a product. Addresses; rows and the sizes of their three inner coordinates; steps along
the four coordinates in the image (bytes) and the result (elements); steps from one group of
channels to the next (image and panels in bytes, result and bias in elements) and from one bias to
the next; columns of a group,
their panels, the bytes of a panel, the elements between columns of the result; the tiling; bytes
from one k to the next within a run; number of blocks and where, in words from here, the tables of
blocks and of runs are; whether tiles begin as zeros (else their first block writes); whether the
result is added to; units of work.
"""

BLOCK = ("first", "runs", "length", "row", "row_step", "again")
"""Words of a block of k: its first run and how many there are, positions in each; the rows it is
for: each `row_step`th of the tile from `row` on; whether those rows have sums already.
"""

RUN = 2
"""Words of a run: bytes into the image and into the panel."""

GROUP = ("parts", "units", "grain")
"""Words of products done together, then for each the units before it and where, in words from
here, it stands.
"""

TASK = [("ptr", "t"), ("i64", "begin"), ("i64", "end"), ("i64", "worker")]


class Words:
    """Words of a stage, loaded by name."""

    def __init__(self, f: Function, fields: tuple[str, ...], base: str = "%t") -> None:
        self.f = f
        self.base = base
        self.at = {name: k for k, name in enumerate(fields)}

    def __getitem__(self, name: str) -> str:
        return self.f.load("i64", self.f.gep("i64", self.base, self.at[name]), 8)

    def pointer(self, name: str) -> str:
        """The field as an address."""
        return self.f.op(f"inttoptr i64 {self[name]} to ptr")


def micro_name(nv: int) -> str:
    """Symbol of the micro-kernel for panels with `nv` vectors in use."""
    return f"runs_{nv}"


def micro(form: Form, nv: int) -> str:
    """void runs_<nv>(rows, row_step, a, step, runs, n, length, b, c, add): one tile of MR rows.

    c[i, :] (+)= sum over runs and positions of a[rows[i] + run + position * step] * b[position, :].

    The function's parameters: offsets of rows in bytes, of which each `row_step`th is used; the
    image, bytes from one position to the next; runs, how many (> 0), positions in each (> 0); a
    panel of the right operand; scratch (rows of NR, again each `row_step`th); whether c is added
    to.
    """
    params = [
        ("ptr", "rows"), ("i64", "row_step"), ("ptr", "a"), ("i64", "step"), ("ptr", "runs"),
        ("i64", "n"), ("i64", "length"), ("ptr", "b"), ("ptr", "c"), ("i64", "add"),
    ]  # fmt: skip
    f = Function(micro_name(nv), params, "void", "nounwind noinline")
    vec, size, width = form.vec, form.acc_size, form.vl * form.acc_size
    packed = f"<{2 * form.vl} x bfloat>" if form.pairs else vec
    starts = []
    for i in range(form.mr):
        offset = f.load("i64", f.gep("i64", "%rows", f.mul("%row_step", i)), 8)
        starts.append(f.gep("i8", "%a", offset))
    carry = [(vec, "zeroinitializer")] * (form.mr * nv)
    with f.loop("%n", carry=carry, nonempty=True) as run:
        place = f.gep("i64", "%runs", f.mul(run.index, RUN))
        offset = f.load("i64", place, 8)
        panel = f.gep("i8", "%b", f.load("i64", f.gep("i64", place, 1), 8))
        kinds = ["i64", "ptr"] + [vec] * (form.mr * nv)
        inner = list(zip(kinds, [offset, panel, *run.carried], strict=True))
        with f.loop("%length", carry=inner, nonempty=True) as k:
            here, b, sums = k.carried[0], k.carried[1], k.carried[2:]
            columns = [f.load(packed, f.gep("i8", b, j * width), size) for j in range(nv)]
            following = []
            for i, start in enumerate(starts):
                scalar = f.load(form.slot, f.gep("i8", start, here), size)
                row = f.splat(form.vl, form.slot, scalar)
                if form.pairs:
                    row = f.op(f"bitcast <{form.vl} x i32> {row} to {packed}")
                for j in range(nv):
                    following.append(multiply_add(f, form, row, columns[j], sums[i * nv + j]))
            k.carry(f.op(f"add i64 {here}, %step"), f.gep("i8", b, form.nr * size), *following)
        run.carry(*k.carried[2:])
    line = f.mul("%row_step", form.nr * size)
    rows = [f.gep("i8", "%c", f.mul(line, i)) for i in range(form.mr)]
    places = [f.gep("i8", row, j * width) for row in rows for j in range(nv)]
    finish(f, form, places, run.carried)
    f.ret()
    return f.text()


def finish(f: Function, form: Form, places: list[str], sums: list[str]) -> None:
    """Store a micro-kernel's sums, with what is there already where `%add` says so."""
    vec, size = form.vec, form.acc_size
    with f.merge(f.cmp("ne", "%add", 0), [vec] * len(sums), sums) as values:
        for n, place in enumerate(places):
            values[n] = f.op(f"fadd {vec} {f.load(vec, place, size)}, {sums[n]}")
    for place, value in zip(places, values, strict=True):
        f.store(vec, value, place, size)


def store_panel(form: Form) -> str:
    """void store_panel(c, rows, columns, places, out, step, bias, add): transpose into the result.

    out[places[r] + column * step] (+)= c[r, column] + bias[column]. The function's parameters: a
    panel of scratch, rows and columns in use, elements from `out` for each row (ascending), the
    result, elements between columns, the panel's biases or null, elements between them, whether to
    add.
    """
    params = [
        ("ptr", "c"), ("i64", "rows"), ("i64", "columns"), ("ptr", "places"), ("ptr", "out"),
        ("i64", "step"), ("ptr", "bias"), ("i64", "bias_step"), ("i64", "add"),
    ]  # fmt: skip
    f = Function("store_panel", params, "void", "nounwind noinline")
    vl, acc, size = form.vl, form.acc, form.acc_size
    block = f.alloca(form.vec, vl, 64)
    quad = min(4, vl)
    no_bias = f.cmp("eq", f.op("ptrtoint ptr %bias to i64"), 0)
    adds = f.cmp("ne", "%add", 0)
    with f.loop("%rows", step=vl) as row, f.loop("%columns", step=vl) as column:
        source = f.gep(acc, "%c", f.add(f.mul(row.index, form.nr), column.index))
        values = [f.load(form.vec, f.gep(acc, source, i * form.nr), size) for i in range(vl)]
        turned = transpose(f, acc, values, 16 // size) if vl > 1 else values
        for i, value in enumerate(turned):
            f.store(form.vec, value, f.gep(form.vec, block, i), 64)
        places = f.gep("i64", "%places", row.index)
        many = f.min(vl, f.sub("%rows", row.index))
        first = f.load("i64", places, 8)
        last = f.load("i64", f.gep("i64", places, f.sub(many, 1)), 8)
        whole = f.cmp("eq", many, vl)
        straight = f.both(whole, f.cmp("eq", f.sub(last, first), vl - 1))
        with f.loop(f.min(vl, f.sub("%columns", column.index))) as lane:
            number = f.add(column.index, lane.index)
            added = _bias(f, form, no_bias, number)
            line = f.gep(form.vec, block, lane.index)
            out = f.gep(form.stored, "%out", f.mul(number, "%step"))
            tag = f.fresh("form")
            f.branch(straight, f"{tag}.whole", f"{tag}.parts")
            f.label(f"{tag}.whole")
            _put(f, form, line, f.gep(form.stored, out, first), vl, added, adds)
            f.jump(f"{tag}.end")
            f.label(f"{tag}.parts")
            with f.loop(many, step=quad) as part:
                left = f.sub(many, part.index)
                here = f.gep("i64", places, part.index)
                start = f.load("i64", here, 8)
                stop = f.load("i64", f.gep("i64", here, f.sub(f.min(left, quad), 1)), 8)
                joined = f.cmp("eq", f.sub(stop, start), quad - 1)
                joined = f.both(joined, f.cmp("sge", left, quad))
                piece = f.gep(acc, line, part.index)
                inner = f.fresh("piece")
                f.branch(joined, f"{inner}.quad", f"{inner}.each")
                f.label(f"{inner}.quad")
                _put(f, form, piece, f.gep(form.stored, out, start), quad, added, adds)
                f.jump(f"{inner}.end")
                f.label(f"{inner}.each")
                with f.loop(f.min(left, quad)) as single:
                    place = f.load("i64", f.gep("i64", here, single.index), 8)
                    element = f.gep(acc, piece, single.index)
                    _put(f, form, element, f.gep(form.stored, out, place), 1, added, adds)
                f.label(f"{inner}.end")
            f.label(f"{tag}.end")
    f.ret()
    return f.text()


def _bias(f: Function, form: Form, missing: str, number: Value) -> str:
    """The bias of a column, or zero."""
    with f.merge(f.op(f"xor i1 {missing}, true"), [form.acc], ["0.0"]) as values:
        place = f.gep(form.stored, "%bias", f.mul(number, "%bias_step"))
        values[0] = load_stored(f, form, place, 1)
    return values[0]


def _put(
    f: Function, form: Form, source: str, place: str, lanes: int, added: str, adds: str
) -> None:
    """Store `lanes` sums plus the bias, and what is there already where `adds`."""
    kind = form.acc if lanes == 1 else f"<{lanes} x {form.acc}>"
    value = f.load(kind, source, form.acc_size)
    extra = added if lanes == 1 else f.splat(lanes, form.acc, added)
    value = f.op(f"fadd {kind} {value}, {extra}")
    with f.merge(adds, [kind], [value]) as values:
        values[0] = f.op(f"fadd {kind} {load_stored(f, form, place, lanes)}, {value}")
    store_stored(f, form, values[0], place, lanes)


def scratch_bytes(form: Form) -> int:
    """Bytes of scratch memory that a tile needs: sums, and two tables of rows."""
    return (CELLS + SLACK) * form.nr * form.acc_size + 2 * 8 * (CELLS + SLACK)


def tile_task(form: Form) -> str:
    """Task: tiles [begin, end) of a group of products; row tiles lie next to each other."""
    f = Function("convolution_tiles", TASK, "void", "nounwind noinline")
    head = Words(f, GROUP)
    parts = head["parts"]
    scratch = f.op("call ptr @take_tiles()")
    table = f.gep("i64", "%t", len(GROUP))
    with f.loop("%end", start="%begin") as unit:
        # The last part that begins at or before this unit.
        with f.loop(parts, start=1, carry=[("i64", "0")]) as search:
            start = f.load("i64", f.gep("i64", table, f.mul(search.index, 2)), 8)
            found = f.cmp("sle", start, unit.index)
            search.carry(f.select(found, search.index, search.carried[0]))
        entry = f.gep("i64", table, f.mul(search.carried[0], 2))
        number = f.sub(unit.index, f.load("i64", entry, 8))
        product = f.gep("i64", "%t", f.load("i64", f.gep("i64", entry, 1), 8))
        f.do(f"call void @convolution_tile(ptr {product}, i64 {number}, ptr {scratch})")
    f.do(f"call void @give_tiles(ptr {scratch})")
    f.ret()
    return _tile(form) + f.text()


def _tile(form: Form) -> str:
    """void convolution_tile(product, unit, scratch): one tile."""
    params = [("ptr", "t"), ("i64", "unit"), ("ptr", "scratch")]
    f = Function("convolution_tile", params, "void", "nounwind noinline")
    t = Words(f, FIELDS)
    v = {name: t[name] for name in FIELDS}
    line = form.nr * form.acc_size
    offsets = f.gep("i8", "%scratch", (CELLS + SLACK) * line)
    places = f.gep("i64", offsets, CELLS + SLACK)
    group, rows, first, stop = unit_of(f, v, offsets, places)
    panel_bytes = f.mul(v["tile_rows"], line)
    with f.when(f.cmp("ne", v["clear"], 0)):
        size = f.mul(panel_bytes, f.sub(stop, first))
        f.do(f"call void @llvm.memset.p0.i64(ptr %scratch, i8 0, i64 {size}, i1 false)")
    image = address_of(f, f.add(v["a"], f.mul(group, v["a_group"])))
    multiply(f, form, v, group, image, rows, first, stop, "%scratch", panel_bytes, offsets)
    with f.loop(stop, start=first) as panel:
        c = f.gep("i8", "%scratch", f.mul(f.sub(panel.index, first), panel_bytes))
        store(f, form, v, group, panel.index, c, rows, places)
    f.ret()
    return f.text()


def unit_of(
    f: Function, v: dict[str, str], offsets: str, places: str
) -> tuple[Value, Value, Value, Value]:
    """Of a unit of work: the group, how many rows, the first panel and where panels end.

    Its rows' offsets in the image and places in the result are written to the two tables.
    """
    rest = f.udiv("%unit", v["row_tiles"])
    group, column_tile = f.udiv(rest, v["column_tiles"]), f.urem(rest, v["column_tiles"])
    top = f.mul(f.urem("%unit", v["row_tiles"]), v["tile_rows"])
    rows = f.min(v["tile_rows"], f.sub(v["rows"], top))
    _find_rows(f, v, top, offsets, places)
    first = f.mul(column_tile, v["tile_panels"])
    return group, rows, first, f.min(v["panels"], f.add(first, v["tile_panels"]))


def store(
    f: Function,
    form: Form,
    v: dict[str, str],
    group: Value,
    panel: Value,
    c: str,
    rows: Value,
    places: str,
    shift: Value = 0,
) -> None:
    """Store a panel's sums `c` at `places` of the result, `shift` elements further on."""
    left = f.mul(panel, form.nr)
    out = f.add(f.mul(group, v["out_group"]), f.mul(left, v["column_step"]))
    out = f.add(v["out"], f.mul(f.add(out, shift), form.stored_size))
    bias = f.add(f.mul(group, v["bias_group"]), f.mul(left, v["bias_step"]))
    bias = f.add(v["bias"], f.mul(bias, form.stored_size))
    bias = f.select(f.cmp("ne", v["bias"], 0), bias, 0)
    f.do(
        f"call void @store_panel(ptr {c}, i64 {rows}, "
        f"i64 {f.min(form.nr, f.sub(v['columns'], left))}, ptr {places}, "
        f"ptr {address_of(f, out)}, i64 {v['column_step']}, "
        f"ptr {address_of(f, bias)}, i64 {v['bias_step']}, i64 {v['add']})"
    )


def multiply(
    f: Function,
    form: Form,
    v: dict[str, str],
    group: Value,
    image: str,
    rows: Value,
    first: Value,
    stop: Value,
    sums: str,
    panel_bytes: Value,
    offsets: str,
) -> None:
    """Sum all blocks of a tile in `sums`, a panel and a stripe of rows at a time."""
    line = form.nr * form.acc_size
    blocks = f.gep("i64", "%t", v["block_table"])
    runs = f.gep("i64", "%t", v["run_table"])
    panels = f.add(v["b"], f.mul(group, v["b_group"]))
    with f.loop(v["blocks"]) as block, f.loop(stop, start=first) as panel:
        entry = f.gep("i64", blocks, f.mul(block.index, len(BLOCK)))
        w = dict(
            zip(
                BLOCK,
                [f.load("i64", f.gep("i64", entry, n), 8) for n in range(len(BLOCK))],
                strict=True,
            )
        )
        narrow = f.cmp(
            "sle", f.sub(v["columns"], f.mul(panel.index, form.nr)), form.vl * (form.nv - 1)
        )
        b = address_of(f, f.add(panels, f.mul(panel.index, v["panel_step"])))
        c = f.gep("i8", sums, f.mul(f.sub(panel.index, first), panel_bytes))
        run = f.gep("i64", runs, f.mul(w["first"], RUN))
        stripe = f.mul(w["row_step"], form.mr)
        with f.loop(rows, start=w["row"], step=stripe, nonempty=True) as row:
            arguments = (
                f"ptr {f.gep('i64', offsets, row.index)}, i64 {w['row_step']}, ptr {image}, "
                f"i64 {v['step']}, ptr {run}, i64 {w['runs']}, i64 {w['length']}, ptr {b}, "
                f"ptr {f.gep('i8', c, f.mul(row.index, line))}, i64 {w['again']}"
            )
            _call_micro(f, form, narrow, arguments)


def address_of(f: Function, word: Value) -> str:
    """A word as an address."""
    return f.op(f"inttoptr i64 {word} to ptr")


def _call_micro(f: Function, form: Form, narrow: str, arguments: str) -> None:
    """The micro-kernel for a panel: with fewer vectors where its columns are few."""
    if form.nv == 1:
        f.do(f"call void @{micro_name(1)}({arguments})")
        return
    tag = f.fresh("micro")
    f.branch(narrow, f"{tag}.narrow", f"{tag}.wide")
    for nv, name in ((1, "narrow"), (form.nv, "wide")):
        f.label(f"{tag}.{name}")
        f.do(f"call void @{micro_name(nv)}({arguments})")
        f.jump(f"{tag}.end")
    f.label(f"{tag}.end")


def _find_rows(f: Function, v: dict[str, str], top: Value, offsets: str, places: str) -> None:
    """Offsets in the image and places in the result of a tile's rows.

    Past the last row the outermost coordinate stays as it is: such rows are computed, in memory
    that exists, and not stored.
    """
    inner = f.mul(f.mul(v["size1"], v["size2"]), v["size3"])
    last = f.sub(f.udiv(v["rows"], inner), 1)
    with f.loop(v["tile_rows"]) as row:
        rest: Value = f.add(top, row.index)
        a: Value = 0
        o: Value = 0
        for d in (3, 2, 1):
            index = f.urem(rest, v[f"size{d}"])
            rest = f.udiv(rest, v[f"size{d}"])
            a = f.add(a, f.mul(index, v[f"a{d}"]))
            o = f.add(o, f.mul(index, v[f"o{d}"]))
        rest = f.min(rest, last)
        a = f.add(a, f.mul(rest, v["a0"]))
        o = f.add(o, f.mul(rest, v["o0"]))
        f.store("i64", a, f.gep("i64", offsets, row.index), 8)
        f.store("i64", o, f.gep("i64", places, row.index), 8)
