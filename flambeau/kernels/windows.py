"""Pooling and resampling on the CPU: a row of the image is gathered from a few rows above each
other, then from a few columns beside each other.

The kernels work plane by plane on (P, .., W) inputs of any strides. One unit of parallel work makes
one or several rows of the result: the rows of a window are combined, column by column, into a
buffer that stays in the first cache (vertical step), and the buffer's columns into the result
(horizontal step). Padding is never copied: columns outside the image are lanes that the mask leaves
out, and the buffer holds the neutral element there. Wide rows are done in chunks of the buffer.

    max_pool   the largest element of each window and its place in the plane; of equals the first in
               row-major order, and the first NaN before everything
    put_back   a plane of zeros with numbers added at places, serially, so always in the same order
    resample   sums of weighted rows and columns, by tables of where each window starts, how many
               elements it has and what they weigh; windows in regular steps need no table

Letters: P planes, D H W the image's sizes, O before them the result's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from flambeau.kernels.emit import Function, Value

LANES = 16
#: columns a buffer holds; besides, lanes that are computed but not stored may read this much beyond
WIDTH = 2048
_SLACK = 4 * LANES
_MASK = f"<{LANES} x i1>"
_INTS = f"<{LANES} x i32>"
_NOWHERE = (1 << 31) - 1  # the place of padding, which loses against every other

#: dtype -> element in memory, element that is computed with
ELEMENTS = {
    "float32": ("float", "float"),
    "float64": ("double", "double"),
    "bfloat16": ("bfloat", "float"),
    "float16": ("half", "float"),
}
_SIZES = {"float": 4, "double": 8, "bfloat": 2, "half": 2, "i32": 4}
_SHORT = {"float": "f32", "double": "f64", "bfloat": "bf16", "half": "f16", "i32": "i32"}

POOL_FIELDS = (
    *("x", "out", "places", "units", "grain", "chunk"),
    *("D", "H", "W", "OD", "OH", "OW", "xp", "xd", "xh", "xw"),
    *(f"{what}{d}" for what in ("kernel", "stride", "padding", "dilation") for d in "dhw"),
)
PUT_FIELDS = ("g", "places", "out", "units", "grain", "O", "S", "gp", "go", "pp", "po")
RESAMPLE_FIELDS = (
    *("x", "out", "rows", "row_weights", "columns", "column_weights", "units", "grain", "chunk"),
    *("H", "W", "OH", "OW", "xp", "xh", "xw", "row_taps", "column_taps"),
    *("regular", "stride", "start", "same"),
)
_POINTERS = {"x", "g", "out", "places", "rows", "row_weights", "columns", "column_weights"}


class Kernel(Function):
    """The task of a kernel: void task(ptr table, i64 begin, i64 end, i64 worker)."""

    def __init__(self, name: str, fields: Sequence[str], dtype_name: str) -> None:
        super().__init__(
            f"{name}_task", [("ptr", "t"), ("i64", "begin"), ("i64", "end"), ("i64", "worker")]
        )
        self.memory, self.element = ELEMENTS[dtype_name]
        self.vector = f"<{LANES} x {self.element}>"
        self.raw = f"<{LANES} x {self.memory}>"
        self.declared: set[str] = set()
        self.word = {
            name: self.load("ptr" if name in _POINTERS else "i64", self.gep("i64", "%t", k), 8)
            for k, name in enumerate(fields)
        }

    # -- vectors ------------------------------------------------------------------------------

    def lanes(self, start: Value, step: int = 1) -> str:
        """start, start + step, .. as i32 lanes."""
        low = self.op(f"trunc i64 {start} to i32")
        steps = ", ".join(f"i32 {step * k}" for k in range(LANES))
        return self.op(f"add {_INTS} {self.splat(LANES, 'i32', low)}, <{steps}>")

    def below(self, places: str, limit: Value) -> str:
        """Which i32 lanes are in [0, limit)."""
        high = self.splat(LANES, "i32", self.op(f"trunc i64 {limit} to i32"))
        return self.op(f"icmp ult {_INTS} {places}, {high}")

    def masked_load(self, kind: str, place: str, mask: str, other: str) -> str:
        """A vector of neighbours; `other` where the mask leaves lanes out."""
        short, whole = f"v{LANES}{_SHORT[kind]}", f"<{LANES} x {kind}>"
        name = f"@llvm.masked.load.{short}.p0"
        self.declared.add(f"declare {whole} {name}(ptr, {_MASK}, {whole})")
        return self.op(
            f"call {whole} {name}(ptr align {_SIZES[kind]} {place}, {_MASK} {mask}, "
            f"{whole} {other})"
        )

    def masked_store(self, kind: str, value: str, place: str, mask: str) -> None:
        """Write the mask's lanes of a vector."""
        short, whole = f"v{LANES}{_SHORT[kind]}", f"<{LANES} x {kind}>"
        name = f"@llvm.masked.store.{short}.p0"
        self.declared.add(f"declare void {name}({whole}, ptr, {_MASK})")
        self.do(
            f"call void {name}({whole} {value}, ptr align {_SIZES[kind]} {place}, {_MASK} {mask})"
        )

    def gather(self, kind: str, base: str, at: str, mask: str, other: str) -> str:
        """base[at] lane by lane, for i32 or i64 lanes; `other` where the mask leaves lanes out."""
        short, whole = f"v{LANES}{_SHORT[kind]}", f"<{LANES} x {kind}>"
        name = f"@llvm.masked.gather.{short}.v{LANES}p0"
        self.declared.add(f"declare {whole} {name}(<{LANES} x ptr>, {_MASK}, {whole})")
        places = self.op(f"getelementptr {kind}, ptr {base}, {at}")
        return self.op(
            f"call {whole} {name}(<{LANES} x ptr> align {_SIZES[kind]} {places}, {_MASK} {mask}, "
            f"{whole} {other})"
        )

    def image_columns(self, row: str, columns: str, first: Value, mask: str, other: str) -> str:
        """The columns `first` .. of a row of the image, computed with; `other` outside of it."""
        stride = self.word["xw"]
        filler = f"splat ({self.memory} {other})"
        near = self.fresh("near")
        self.branch(self.cmp("eq", stride, 1), f"{near}.yes", f"{near}.no")
        self.label(f"{near}.yes")
        place = self.op(f"getelementptr {self.memory}, ptr {row}, i64 {first}")
        beside = self.masked_load(self.memory, place, mask, filler)
        self.jump(f"{near}.end")
        self.label(f"{near}.no")
        wide = self.op(f"sext {_INTS} {columns} to <{LANES} x i64>")
        at = self.op(f"mul <{LANES} x i64> {wide}, {self.splat(LANES, 'i64', stride)}")
        apart = self.gather(self.memory, row, f"<{LANES} x i64> {at}", mask, filler)
        self.label(f"{near}.end")
        raw = self.op(f"phi {self.raw} [{beside}, %{near}.yes], [{apart}, %{near}.no]")
        return (
            raw if self.raw == self.vector else self.op(f"fpext {self.raw} {raw} to {self.vector}")
        )

    def write_columns(self, value: str, row: str, first: Value, mask: str) -> None:
        """Store computed columns of a row of the result."""
        if self.raw != self.vector:
            value = self.op(f"fptrunc {self.vector} {value} to {self.raw}")
        self.masked_store(self.memory, value, self.gep(self.memory, row, first), mask)

    def spread(
        self, kind: str, base: str, first: Value, variant: int, stride: Value, mask: str
    ) -> str:
        """base[first], base[first + stride], ..; `variant` is the stride if it is known (1, 2)."""
        if not variant:
            step = self.splat(LANES, "i32", self.op(f"trunc i64 {stride} to i32"))
            steps = self.op(f"mul {_INTS} {step}, {self.lanes(0)}")
            start = self.splat(LANES, "i32", self.op(f"trunc i64 {first} to i32"))
            at = self.op(f"add {_INTS} {steps}, {start}")
            return self.gather(kind, base, f"{_INTS} {at}", mask, "zeroinitializer")
        whole = f"<{LANES} x {kind}>"
        low = self.load(whole, self.gep(kind, base, first), _SIZES[kind])
        if variant == 1:
            return low
        high = self.load(whole, self.gep(kind, base, self.add(first, LANES)), _SIZES[kind])
        return self.shuffle(LANES, kind, low, high, range(0, 2 * LANES, 2))

    def reach(self, first: Value, count: Value, step: Value, size: Value) -> tuple[str, str]:
        """The first and the end of the taps first + k * step that lie in [0, size)."""
        ahead = self.max(self.sub(0, first), 0)
        low = self.min(self.ceildiv(ahead, step), count)
        room = self.max(self.add(self.sub(self.sub(size, 1), first), step), 0)
        return low, self.min(count, self.udiv(room, step))

    def by_stride(self, stride: Value, body: Callable[[int], None]) -> None:
        """body(1), body(2) or body(0) as the stride is 1, 2 or another."""
        tag = self.fresh("stride")
        self.do(
            f"switch i64 {stride}, label %{tag}.0 [i64 1, label %{tag}.1 i64 2, label %{tag}.2]"
        )
        self.open = False
        for variant in (0, 1, 2):
            self.label(f"{tag}.{variant}")
            body(variant)
            self.jump(f"{tag}.end")
        self.label(f"{tag}.end")

    def module(self, symbol: str, others: str = "") -> str:
        """The module: the task and the kernel `void symbol(ptr table)` that shares its units."""
        units, grain = (list(self.word).index(name) for name in ("units", "grain"))
        entry = Function(symbol, [("ptr", "t")], linkage="")
        count = entry.load("i64", entry.gep("i64", "%t", units), 8)
        size = entry.load("i64", entry.gep("i64", "%t", grain), 8)
        task = self.head.split("@")[1].split("(")[0]
        entry.do(f"call void @fl_parallel_for(ptr @{task}, ptr %t, i64 {count}, i64 {size})")
        entry.ret()
        declared = [
            *("declare void @fl_parallel_for(ptr, ptr, i64, i64)",),
            *(f"declare i64 @llvm.{name}.i64(i64, i64)" for name in ("smin", "smax")),
            *sorted(self.declared),
            others,
        ]
        return "\n".join([*declared, self.text(), entry.text()])


# -- max pooling -----------------------------------------------------------------------------------


def _better(k: Kernel, value: str, place: str, best: str, where: str) -> tuple[str, str]:
    """The larger of two elements and its place, lane by lane; see the head of this file."""
    above = k.op(f"fcmp ugt {k.vector} {value}, {best}")
    number = k.op(f"fcmp ord {k.vector} {best}, {best}")
    equal = k.op(f"fcmp oeq {k.vector} {value}, {best}")
    earlier = k.op(f"icmp ult {_INTS} {place}, {where}")
    wins = k.op(f"and {_MASK} {above}, {number}")
    ties = k.op(f"and {_MASK} {equal}, {earlier}")
    take = k.op(f"or {_MASK} {wins}, {ties}")
    return (
        k.op(f"select {_MASK} {take}, {k.vector} {value}, {k.vector} {best}"),
        k.op(f"select {_MASK} {take}, {_INTS} {place}, {_INTS} {where}"),
    )


_LEAST = "0xFFF0000000000000"  # -inf
_LEAST_RAW = {"float": _LEAST, "double": _LEAST, "bfloat": "0xRFF80", "half": "0xHFC00"}


def max_pool_text(dtype_name: str) -> str:
    """A module with `void fl_max_pool_{dtype}(ptr table)`, whose words are `POOL_FIELDS`."""
    symbol = f"fl_max_pool_{dtype_name}"
    k = Kernel(symbol, POOL_FIELDS, dtype_name)
    w = k.word
    room = WIDTH + _SLACK
    values = k.alloca(k.element, room, 64)
    places = k.alloca("i32", room, 64)
    least, nowhere = f"splat ({k.element} {_LEAST})", f"splat (i32 {_NOWHERE})"
    carried = [(k.vector, least), (_INTS, nowhere)]

    def vertical(plane: str, depths: tuple[str, str, Value], rows: tuple[str, str, Value],
                 first: Value, j: str) -> None:  # fmt: skip
        """Columns first + j .. of all rows of the window into the buffers."""
        column = k.add(first, j)
        columns = k.lanes(column)
        inside = k.below(columns, w["W"])
        with k.loop(depths[1], start=depths[0], carry=carried) as over_depth:
            z = k.add(depths[2], k.mul(over_depth.index, w["dilationd"]))
            slab = k.op(f"getelementptr {k.memory}, ptr {plane}, i64 {k.mul(z, w['xd'])}")
            nested = list(zip((k.vector, _INTS), over_depth.carried, strict=True))
            with k.loop(rows[1], start=rows[0], carry=nested) as over_rows:
                y = k.add(rows[2], k.mul(over_rows.index, w["dilationh"]))
                row = k.op(f"getelementptr {k.memory}, ptr {slab}, i64 {k.mul(y, w['xh'])}")
                value = k.image_columns(row, columns, column, inside, _LEAST_RAW[k.memory])
                line = k.mul(k.add(k.mul(z, w["H"]), y), w["W"])
                place = k.lanes(k.add(line, column))
                over_rows.carry(*_better(k, value, place, *over_rows.carried))
            over_depth.carry(*over_rows.carried)
        best, where = over_depth.carried
        where = k.op(f"select {_MASK} {inside}, {_INTS} {where}, {_INTS} {nowhere}")
        k.store(k.vector, best, k.gep(k.element, values, j), 64)
        k.store(_INTS, where, k.gep("i32", places, j), 64)

    def horizontal(line: Value, count: Value, i: str, variant: int) -> None:
        """Results line + i .. from the buffers' columns."""
        stored = k.below(k.lanes(i), count)
        base = k.mul(i, w["stridew"])
        with k.loop(w["kernelw"], carry=carried, nonempty=True) as over:
            at = k.add(base, k.mul(over.index, w["dilationw"]))
            value = k.spread(k.element, values, at, variant, w["stridew"], stored)
            place = k.spread("i32", places, at, variant, w["stridew"], stored)
            over.carry(*_better(k, value, place, *over.carried))
        best, where = over.carried
        padding = k.op(f"icmp eq {_INTS} {where}, {nowhere}")  # a window of nothing else
        where = k.op(f"select {_MASK} {padding}, {_INTS} zeroinitializer, {_INTS} {where}")
        k.write_columns(best, w["out"], k.add(line, i), stored)
        k.masked_store("i32", where, k.gep("i32", w["places"], k.add(line, i)), stored)

    with k.loop("%end", start="%begin") as units:
        p, od = k.udiv(units.index, w["OD"]), k.urem(units.index, w["OD"])
        plane = k.op(f"getelementptr {k.memory}, ptr {w['x']}, i64 {k.mul(p, w['xp'])}")
        z = k.sub(k.mul(od, w["strided"]), w["paddingd"])
        depths = (*k.reach(z, w["kerneld"], w["dilationd"], w["D"]), z)
        with k.loop(w["OH"]) as over_rows:
            y = k.sub(k.mul(over_rows.index, w["strideh"]), w["paddingh"])
            rows = (*k.reach(y, w["kernelh"], w["dilationh"], w["H"]), y)
            line = k.mul(k.add(k.mul(units.index, w["OH"]), over_rows.index), w["OW"])
            with k.loop(w["OW"], step=w["chunk"]) as chunks:
                count = k.min(w["chunk"], k.sub(w["OW"], chunks.index))
                first = k.sub(k.mul(chunks.index, w["stridew"]), w["paddingw"])
                last = k.mul(k.sub(count, 1), w["stridew"])
                span = k.add(k.add(last, 1), k.mul(k.sub(w["kernelw"], 1), w["dilationw"]))
                with k.loop(span, step=LANES) as columns:
                    vertical(plane, depths, rows, first, columns.index)
                here = k.add(line, chunks.index)

                def results(variant: int, here: Value = here, count: Value = count) -> None:
                    with k.loop(count, step=LANES) as outs:
                        horizontal(here, count, outs.index, variant)

                k.by_stride(w["stridew"], results)
    k.ret()
    return k.module(symbol)


def put_back_text(dtype_name: str) -> str:
    """A module with `void fl_put_back_{dtype}(ptr table)`, whose words are `PUT_FIELDS`."""
    symbol = f"fl_put_back_{dtype_name}"
    k = Kernel(symbol, PUT_FIELDS, dtype_name)
    w = k.word
    size = _SIZES[k.memory]
    with k.loop("%end", start="%begin") as planes:
        p = planes.index
        out = k.gep(k.memory, w["out"], k.mul(p, w["S"]))
        k.do(
            f"call void @llvm.memset.p0.i64(ptr align {size} {out}, i8 0, "
            f"i64 {k.mul(w['S'], size)}, i1 false)"
        )
        g = k.gep(k.memory, w["g"], k.mul(p, w["gp"]))
        places = k.gep("i32", w["places"], k.mul(p, w["pp"]))
        with k.loop(w["O"]) as over:
            at = k.load("i32", k.gep("i32", places, k.mul(over.index, w["po"])), 4)
            place = k.gep(k.memory, out, k.op(f"zext i32 {at} to i64"))
            x = k.load(k.memory, k.gep(k.memory, g, k.mul(over.index, w["go"])), size)
            old = k.load(k.memory, place, size)
            k.store(k.memory, k.op(f"fadd {k.memory} {old}, {x}"), place, size)
    k.ret()
    return k.module(symbol, "declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)")


# -- resampling ------------------------------------------------------------------------------------


def resample_text(dtype_name: str) -> str:
    """A module with `void fl_resample_{dtype}(ptr table)`, whose words are `RESAMPLE_FIELDS`.

    `rows` and `columns` hold i32 starts, then counts, one for each result; `row_weights` (OH, taps)
    and `column_weights` (taps, OW) what the taps weigh. With `regular` the windows of columns begin
    at start + stride * i, have `column_taps` columns, some perhaps outside of the image, and weigh
    1 each; with `same` there is no horizontal step.
    """
    symbol = f"fl_resample_{dtype_name}"
    k = Kernel(symbol, RESAMPLE_FIELDS, dtype_name)
    w = k.word
    size = _SIZES[k.element]
    buffer = k.alloca(k.element, WIDTH + _SLACK, 64)
    fma = f"@llvm.fma.v{LANES}{_SHORT[k.element]}"
    k.declared.add(f"declare {k.vector} {fma}({k.vector}, {k.vector}, {k.vector})")
    entry = [(k.vector, "zeroinitializer")]

    def combine(a: str, b: str, c: str) -> str:
        return k.op(f"call {k.vector} {fma}({k.vector} {a}, {k.vector} {b}, {k.vector} {c})")

    def rows_at(plane: str, top: str, taps: str, weights: str, column: Value) -> tuple[str, str]:
        """(the weighted sum of the window's rows, which lanes are inside of the image)."""
        columns = k.lanes(column)
        inside = k.below(columns, w["W"])
        with k.loop(taps, carry=entry) as over:
            y = k.mul(k.add(top, over.index), w["xh"])
            row = k.op(f"getelementptr {k.memory}, ptr {plane}, i64 {y}")
            other = (
                "0xR0000" if k.memory == "bfloat" else "0xH0000" if k.memory == "half" else "0.0"
            )
            value = k.image_columns(row, columns, column, inside, other)
            weight = k.load(k.element, k.gep(k.element, weights, over.index), size)
            over.carry(combine(value, k.splat(LANES, k.element, weight), over.carried[0]))
        return over.carried[0], inside

    def regular(line: Value, count: Value, i: str, variant: int) -> None:
        stored = k.below(k.lanes(i), count)
        base = k.mul(i, w["stride"])
        with k.loop(w["column_taps"], carry=entry) as over:
            at = k.add(base, over.index)
            value = k.spread(k.element, buffer, at, variant, w["stride"], stored)
            over.carry(k.op(f"fadd {k.vector} {over.carried[0]}, {value}"))
        k.write_columns(over.carried[0], w["out"], k.add(line, i), stored)

    def by_table(line: Value, count: Value, chunk: Value, first: Value, i: str) -> None:
        stored = k.below(k.lanes(i), count)
        at = k.add(chunk, i)
        starts = k.masked_load("i32", k.gep("i32", w["columns"], at), stored, "zeroinitializer")
        counts = k.masked_load(
            "i32", k.gep("i32", w["columns"], k.add(w["OW"], at)), stored, "zeroinitializer"
        )
        origin = k.splat(LANES, "i32", k.op(f"trunc i64 {first} to i32"))
        starts = k.op(f"sub {_INTS} {starts}, {origin}")
        with k.loop(w["column_taps"], carry=entry) as over:
            tap = k.splat(LANES, "i32", k.op(f"trunc i64 {over.index} to i32"))
            valid = k.op(f"icmp ult {_INTS} {tap}, {counts}")
            lanes = k.op(f"add {_INTS} {starts}, {tap}")
            value = k.gather(k.element, buffer, f"{_INTS} {lanes}", valid, "zeroinitializer")
            line_of = k.gep(k.element, w["column_weights"], k.add(k.mul(over.index, w["OW"]), at))
            weight = k.masked_load(k.element, line_of, valid, "zeroinitializer")
            over.carry(combine(value, weight, over.carried[0]))
        k.write_columns(over.carried[0], w["out"], k.add(line, i), stored)

    def word_at(base: str, at: Value) -> str:
        return k.op(f"sext i32 {k.load('i32', k.gep('i32', base, at), 4)} to i64")

    with k.loop("%end", start="%begin") as units:
        p, oh = k.udiv(units.index, w["OH"]), k.urem(units.index, w["OH"])
        plane = k.op(f"getelementptr {k.memory}, ptr {w['x']}, i64 {k.mul(p, w['xp'])}")
        top, taps = word_at(w["rows"], oh), word_at(w["rows"], k.add(w["OH"], oh))
        weights = k.gep(k.element, w["row_weights"], k.mul(oh, w["row_taps"]))
        line = k.mul(units.index, w["OW"])
        tag = k.fresh("form")
        k.branch(k.cmp("ne", w["same"], 0), f"{tag}.same", f"{tag}.both")
        k.label(f"{tag}.same")
        with k.loop(w["W"], step=LANES) as columns:
            total, inside = rows_at(plane, top, taps, weights, columns.index)
            k.write_columns(total, w["out"], k.add(line, columns.index), inside)
        k.jump(f"{tag}.end")
        k.label(f"{tag}.both")
        with k.loop(w["OW"], step=w["chunk"]) as chunks:
            count = k.min(w["chunk"], k.sub(w["OW"], chunks.index))
            here = k.add(line, chunks.index)
            last = k.add(chunks.index, k.sub(count, 1))
            kinds = k.fresh("windows")
            k.branch(k.cmp("ne", w["regular"], 0), f"{kinds}.regular", f"{kinds}.table")
            k.label(f"{kinds}.regular")
            first = k.add(w["start"], k.mul(chunks.index, w["stride"]))
            span = k.add(k.mul(k.sub(count, 1), w["stride"]), w["column_taps"])
            with k.loop(span, step=LANES) as columns:
                total, _ = rows_at(plane, top, taps, weights, k.add(first, columns.index))
                k.store(k.vector, total, k.gep(k.element, buffer, columns.index), 64)

            def results(variant: int, here: Value = here, count: Value = count) -> None:
                with k.loop(count, step=LANES) as outs:
                    regular(here, count, outs.index, variant)

            k.by_stride(w["stride"], results)
            k.jump(f"{kinds}.end")
            k.label(f"{kinds}.table")
            first = word_at(w["columns"], chunks.index)
            end = k.add(word_at(w["columns"], last), word_at(w["columns"], k.add(w["OW"], last)))
            with k.loop(k.sub(end, first), step=LANES) as columns:
                total, _ = rows_at(plane, top, taps, weights, k.add(first, columns.index))
                k.store(k.vector, total, k.gep(k.element, buffer, columns.index), 64)
            with k.loop(count, step=LANES) as outs:
                by_table(here, count, chunks.index, first, outs.index)
            k.label(f"{kinds}.end")
        k.label(f"{tag}.end")
    k.ret()
    return k.module(symbol)


def chunk_of(spans: Callable[[int, int], int], count: int) -> int:
    """The most results of a row that one buffer serves, 0 if it cannot serve even one.

    Args:
        spans: (first, last) -> columns that those results read.
        count: results of a row.
    """
    chunk = count
    while (
        chunk and max(spans(i, min(i + chunk, count) - 1) for i in range(0, count, chunk)) > WIDTH
    ):
        chunk //= 2
    return chunk


def grain_of(work: int) -> int:
    """Units that are worth waking a thread for, of `work` elements each."""
    return max(1, math.ceil((1 << 14) / max(work, 1)))
