"""Recurrences on the CPU: all steps of one direction of a layer, forward and backward.

A step is one parallel loop over blocks of units. Forward, a block multiplies the hidden state by
its columns of every gate at once, so that a unit's sums stand side by side in the nearest cache
when the input's part is added and the cell's arithmetic follows. Backward, a block multiplies the
gates' cotangents of the step after by its columns of the weight, which gives the hidden state's
cotangent, and goes on to its own gates; so there too a step waits once. The weight is packed once,
a block's columns for all k side by side.

States that are carried (an LSTM's cell state, and backward the cotangents of both) stay in the
accumulator's type from step to step, also where tensors are bfloat16; first states are copied to
row-major memory beforehand, so that a step reads them as it reads those of other steps.

Shapes: gates (T, B, G * H), states (B, H), weight (G * H, H), results row-major; inputs may be
strided.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flambeau.codegen import vecmath
from flambeau.codegen.lowerings import Value as Typed
from flambeau.ir.graph import Node
from flambeau.kernels import recurrent_cells
from flambeau.kernels.emit import Function, Module, Value, Words, Writer
from flambeau.kernels.gemm_micro import (
    Form,
    declarations,
    load_some,
    load_stored,
    narrow,
    rank_one_updates,
    store_some,
    store_stored,
    widen,
)
from flambeau.kernels.gemm_pack import pack
from flambeau.kernels.matmul import form_of
from flambeau.ops.recurrent import GATES
from flambeau.runtime.cpuinfo import host_features

#: vectors of units in a block of the backward pass
WIDE = 2
#: most rows of a batch in one unit of parallel work: their sums stay in the nearest cache
ROWS = 24
#: bytes that temporary values are aligned to
LINE = 64
#: multiply-adds below which a step is not shared among threads
SERIAL = 1 << 16

STATES = ("h0", "c0", "ghn", "gcn")
SEQUENCES = ("x", "g")
DENSE = ("out", "hn", "cn", "cells", "saved", "dx", "dinner", "dh0", "dc0", "panels", "first")
#: Row-major, (B, H), in the accumulator's type: what is carried, by the result that it becomes.
CARRIED = {"c": "cn", "dh": "dh0", "dc": "dc0"}


@dataclass(frozen=True)
class Problem:
    """What is compiled in.

    Attributes:
        mode: a key of `ops.recurrent.GATES`.
        backward: whether these are the gradients.
        dtype: f32, f64 or bf16.
        save: forward: whether what gradients need is kept.
        lengths: whether sequences have lengths of their own.
    """

    mode: str
    backward: bool
    dtype: str
    save: bool
    lengths: bool

    @property
    def gates(self) -> int:
        """Gates of the cell."""
        return GATES[self.mode][0]

    @property
    def kept(self) -> int:
        """Values of a unit and step that the gradient reads beside the states."""
        return GATES[self.mode][1]

    @property
    def first(self) -> str | None:
        """The first state that is read row-major, in the dtype of the tensors."""
        if self.backward:
            return {"gru": "h0", "lstm": "c0"}.get(self.mode)
        return "h0"

    @property
    def carried(self) -> dict[str, str]:
        """What is carried in the accumulator's type: its name -> where it comes from."""
        lstm = self.mode == "lstm"
        if self.backward:
            return {"dh": "ghn", "dc": "gcn"} if lstm else {"dh": "ghn"}
        return {"c": "c0"} if lstm else {}

    @property
    def symbol(self) -> str:
        """The kernel's name."""
        way = "backward" if self.backward else "save" if self.save else "forward"
        return f"fl_{self.mode}_{way}{'_lengths' if self.lengths else ''}_{self.dtype}"


def fields() -> list[str]:
    """Names of the table's words, in order."""
    names = ["T", "B", "H", "reverse", "w", "w_r", "w_c", "bias", "bias_1", "lengths", "lengths_1"]
    for x in SEQUENCES:
        names += [x, f"{x}_t", f"{x}_b", f"{x}_1"]
    for x in STATES:
        names += [x, f"{x}_b", f"{x}_1"]
    return [*names, *DENSE, *CARRIED]


FIELDS = fields()
_POINTERS = frozenset((*SEQUENCES, *STATES, *DENSE, *CARRIED, "w", "bias", "lengths"))


def table(f: Function, *names: str) -> Words:
    """Words of the table, loaded on entry."""
    return Words(f, FIELDS, lambda n: "ptr" if n in _POINTERS else "i64").preload(*names)


class Tile(Writer):
    """A few rows of a batch by a block's units: loads and stores of their vectors.

    Args:
        f: the function being written; `%first` is the first unit.
        words: the table's words.
        count: units that there are from `%first`.
    """

    def __init__(self, f: Function, form: Form, words: Words, module: Module, count: Value) -> None:
        super().__init__(f, module)
        self.form, self.words, self.left = form, words, count
        self.cell = recurrent_cells.Cell(self, form.acc, form.vl)

    def present(self, vector: int) -> Value:
        """Units of a vector."""
        f, lanes = self.f, self.form.vl
        return f.max(f.min(f.sub(self.left, vector * lanes), lanes), 0)

    def row_of(self, x: str, row: Value, time: Value | None) -> str:
        """Where an input's row starts: of a state, or of a sequence at a time."""
        offset = f_mul = self.f.mul(row, self.words[f"{x}_b"])
        if time is not None:
            offset = self.f.add(f_mul, self.f.mul(time, self.words[f"{x}_t"]))
        return self.f.gep(self.form.stored, self.words[x], offset)

    def given(self, x: str, start: str, unit: Value, vector: int) -> Typed:
        """A vector of an input from the start of its row, whatever its stride."""
        f, stride = self.f, self.words[f"{x}_1"]
        at = f.gep(self.form.stored, start, f.mul(unit, stride))
        vec = self.form.vec
        with f.merge(f.cmp("eq", stride, 1), [vec], ["zeroinitializer"]) as values:
            values[0] = self.near(at, vector)
        with f.merge(f.cmp("ne", stride, 1), [vec], values) as values:
            values[0] = f.op(
                f"call {self.form.vec} @load_apart(ptr {at}, i64 {stride}, "
                f"i64 {self.present(vector)})"
            )
        return self.cell.value(values[0])

    def near(self, place: str, vector: int) -> str:
        """Neighbours at a place."""
        form = self.form
        found = load_some(self.f, form, form.stored, place, self.present(vector))
        return widen(self.f, form, found, form.vl)

    def load(self, x: str, at: Value, vector: int) -> Typed:
        """A vector of a row-major tensor, or of what is carried."""
        form = self.form
        if x in CARRIED:
            place = self.f.gep(form.acc, self.words[x], at)
            found = load_some(self.f, form, form.acc, place, self.present(vector))
            return self.cell.value(found)
        return self.cell.value(self.near(self.f.gep(form.stored, self.words[x], at), vector))

    def store(self, value: Typed, x: str, at: Value, vector: int) -> None:
        """Write a vector of a row-major tensor, or of what is carried."""
        form = self.form
        kind, name = form.acc, value.name
        if x not in CARRIED:
            kind, name = form.stored, narrow(self.f, form, name, form.vl)
        place = self.f.gep(kind, self.words[x], at)
        store_some(self.f, form, kind, name, place, self.present(vector))

    def before(self, x: str, start: str, past: Value, at: Value, vector: int) -> Typed:
        """A state before this step: the first one where `start`, else what stands `past` in x."""
        f, kind = self.f, self.form.stored
        stored = f.gep(kind, self.words[x], f.add(past, at))
        first = f.gep(kind, self.words["first"], at)
        return self.cell.value(self.near(f.select(start, first, stored, "ptr"), vector))

    def choose(self, condition: str | None, a: Typed, b: Typed) -> Typed:
        """a where the row's sequence has this step, else b."""
        if condition is None:
            return a
        return self.cell.value(self.f.select(condition, a.name, b.name, self.form.vec))


def tile_rows(form: Form, vectors: int) -> int:
    """Most rows of a tile, given the vectors of a row."""
    registers = 32 if form.vl * form.acc_size == 64 or form.mr == 12 else 16
    return max(1, min((registers - vectors - 2) // vectors, 8))


def product_tile(form: Form, rows: int, vectors: int) -> str:
    """void tile<rows>(k, a, rs, cs, b, ldb, to): a tile's sums of products, row after row."""
    params = [("i64", "k"), ("ptr", "a"), ("i64", "rs"), ("i64", "cs"), ("ptr", "b")]
    params += [("i64", "ldb"), ("ptr", "to")]
    f = Function(f"tile{rows}", params, "void", "nounwind noinline")
    width = form.vl * form.acc_size
    sums = rank_one_updates(f, form, rows, vectors, False, width)
    for k, value in enumerate(value for row in sums for value in row):
        f.store(form.vec, value, f.gep("i8", "%to", k * width), width)
    f.ret()
    return f.text()


# Parameters of what follows the products: these, of how many rows, the table, the step counted from
# the first one processed, the time of that step and the one before in the recurrence, row and unit.
FINISH = [
    ("ptr", "sums"), ("i64", "count"), ("ptr", "t"), ("i64", "step"), ("i64", "time"),
    ("i64", "before"), ("i64", "row"), ("i64", "first"),
]  # fmt: skip


def _sums(f: Function, form: Form, row: Value, vectors: int) -> list[str]:
    """The vectors of a row's sums."""
    width = form.vl * form.acc_size
    start = f.mul(row, vectors * width)
    places = [f.gep("i8", "%sums", f.add(start, k * width)) for k in range(vectors)]
    return [f.load(form.vec, place, width) for place in places]


def _alive(f: Function, problem: Problem, words: Words, row: Value) -> str | None:
    """Whether the row's sequence has the step; None where all have."""
    if not problem.lengths:
        return None
    at = f.gep("i64", words["lengths"], f.mul(row, words["lengths_1"]))
    return f.cmp("sgt", f.load("i64", at, 8), "%time")


def forward_finish(form: Form, problem: Problem, module: Module) -> str:
    """Gates and new states of some rows of one step, from their products."""
    f = Function("finish", FINISH, "void", "nounwind noinline")
    gates, lstm = problem.gates, problem.mode == "lstm"
    names = ["B", "H", "x", "x_t", "x_b", "x_1", "out", "first", "saved", "c", "cells"]
    names += ["bias", "bias_1", "lengths", "lengths_1"]
    words = table(f, *names)
    tile = Tile(f, form, words, module, f.sub(words["H"], "%first"))
    w, start = tile.cell, f.cmp("eq", "%step", 0)
    state = f.mul(words["B"], words["H"])
    bias = w.number(0.0)
    if problem.mode == "gru":
        none = f.op(f"icmp eq ptr {words['bias']}, null")
        zero = "zeroinitializer"
        with f.merge(f.op(f"xor i1 {none}, true"), [form.vec], [zero]) as values:
            values[0] = tile.given("bias", words["bias"], "%first", 0).name
        bias = w.value(values[0])
    past = f.mul("%before", state)
    with f.loop("%count") as loop:
        row = f.add("%row", loop.index)
        at = f.add(f.mul(row, words["H"]), "%first")
        alive = _alive(f, problem, words, row)
        x_row = tile.row_of("x", row, "%time")
        x = [tile.given("x", x_row, f.add("%first", f.mul(words["H"], k)), 0) for k in range(gates)]
        needs_hidden = problem.mode == "gru" or alive is not None
        h = tile.before("out", start, past, at, 0) if needs_hidden else w.number(0.0)
        c = tile.load("c", at, 0) if lstm else w.number(0.0)
        sums = [w.value(s) for s in _sums(f, form, loop.index, gates)]
        found = recurrent_cells.FORWARD[problem.mode](w, x, sums, h, c, bias)
        now = f.add(at, f.mul("%time", state))
        tile.store(tile.choose(alive, found.hidden, h), "out", now, 0)
        if found.cell is not None:
            c = tile.choose(alive, found.cell, c)
            tile.store(c, "c", at, 0)
            if problem.save:
                tile.store(c, "cells", now, 0)
        if problem.save:
            line = f.add(f.mul("%time", words["B"]), row)
            for k, value in enumerate(found.saved):
                place = f.mul(f.add(f.mul(line, len(found.saved)), k), words["H"])
                tile.store(value, "saved", f.add(place, "%first"), 0)
    f.ret()
    return f.text()


def backward_finish(form: Form, problem: Problem, module: Module) -> str:
    """Gates' cotangents of some rows of one step back, from products with those of the step after.

    The step before the first only adds up the first hidden state's cotangent.
    """
    f = Function("finish", FINISH, "void", "nounwind noinline")
    gates, lstm, gru = problem.gates, problem.mode == "lstm", problem.mode == "gru"
    names = ["T", "B", "H", "out", "dx", "dh", "first", "lengths", "lengths_1"]
    names += ["g", "g_t", "g_b", "g_1", "saved"]
    if lstm:
        names += ["cells", "dc"]
    if gru:
        names.append("dinner")
    words = table(f, *names)
    tile = Tile(f, form, words, module, f.sub(words["H"], "%first"))
    w = tile.cell
    vec, state = form.vec, f.mul(words["B"], words["H"])
    ended = f.cmp("eq", "%step", words["T"])
    earliest = f.cmp("eq", f.add("%step", 1), words["T"])
    has_g = f.op(f"icmp ne ptr {words['g']}, null")
    past = f.mul("%before", state)

    def given(row: Value, unit: Value, v: int) -> Typed:
        """The cotangent of a hidden state, if there is one."""
        start = tile.row_of("g", row, "%time")
        with f.merge(has_g, [vec], ["zeroinitializer"]) as values:
            values[0] = tile.given("g", start, unit, v).name
        return w.value(values[0])

    with f.loop("%count") as loop:
        row = f.add("%row", loop.index)
        for v, product in enumerate(_sums(f, form, loop.index, WIDE)):
            unit = f.add("%first", v * form.vl)
            at = f.add(f.mul(row, words["H"]), unit)
            dh = w.add(w.value(product), tile.load("dh", at, v))
            tag = f.fresh("end")
            f.branch(ended, f"{tag}.first", f"{tag}.step")
            f.label(f"{tag}.first")
            tile.store(dh, "dh", at, v)
            f.jump(f"{tag}.done")
            f.label(f"{tag}.step")
            dh = w.add(dh, given(row, unit, v))
            zero = w.number(0.0)
            alive = _alive(f, problem, words, row)
            now = f.add(at, f.mul("%time", state))
            h = tile.load("out", now, v)
            h_before = tile.before("out", earliest, past, at, v) if gru else zero
            dc = c = c_before = zero
            if lstm:
                dc = tile.load("dc", at, v)
                c = tile.load("cells", now, v)
                c_before = tile.before("cells", earliest, past, at, v)
            line = f.add(f.mul("%time", words["B"]), row)

            def part(x: str, k: int, of: int, line: Value = line, unit: Value = unit) -> Value:
                return f.add(f.mul(f.add(f.mul(line, of), k), words["H"]), unit)

            saved = [
                tile.load("saved", part("saved", k, problem.kept), v) for k in range(problem.kept)
            ]
            found = recurrent_cells.BACKWARD[problem.mode](
                w, dh, dc, h, h_before, c, c_before, saved
            )
            for k, value in enumerate(found.gates):
                tile.store(tile.choose(alive, value, zero), "dx", part("dx", k, gates), v)
            if gru:
                for k, value in enumerate(found.inner):
                    place = part("dinner", k, gates)
                    tile.store(tile.choose(alive, value, zero), "dinner", place, v)
            through = found.through if found.through is not None else zero
            tile.store(tile.choose(alive, through, dh), "dh", at, v)
            if found.cell is not None:
                tile.store(tile.choose(alive, found.cell, dc), "dc", at, v)
            f.jump(f"{tag}.done")
            f.label(f"{tag}.done")
    f.ret()
    return f.text()


# -- the loops -------------------------------------------------------------------------------------


def _cover(
    f: Function, most: int, start: Value, stop: Value, write: Callable[[int, Value], None]
) -> None:
    """write(rows, row) for tiles that cover rows [start, stop), as few and equal as can be."""
    rows = f.sub(stop, start)
    tiles = f.ceildiv(rows, most)
    least, larger = f.udiv(rows, tiles), f.urem(rows, tiles)
    for size in range(most, 0, -1):
        others = f.select(f.cmp("eq", least, size), f.sub(tiles, larger), 0)
        count = f.select(f.cmp("eq", least, size - 1), larger, others)
        end = f.add(start, f.mul(count, size))
        with f.loop(end, start=start, step=size) as loop:
            write(size, loop.index)
        start = end


def _depth(form: Form, problem: Problem, units: Value, f: Function) -> Value:
    """Slots of a product's sums."""
    elements = f.mul(units, problem.gates) if problem.backward else units
    return f.udiv(elements, form.step)


def _chunk(f: Function, batch: Value) -> Value:
    """Rows of a batch in one unit of parallel work, as equal as can be."""
    return f.ceildiv(batch, f.ceildiv(batch, ROWS))


def step_task(form: Form, problem: Problem) -> str:
    """void step(frame, begin, end, worker): units of one step; the frame holds table and step.

    A unit is a block of units by a chunk of rows, the chunks of a block one after another.
    """
    params = [("ptr", "frame"), ("i64", "begin"), ("i64", "end"), ("i64", "worker")]
    f = Function("step", params, "void", "nounwind noinline")
    t = f.load("ptr", "%frame", 8)
    f.do(f"%t = getelementptr i8, ptr {t}, i64 0")
    step = f.load("i64", f.gep("i64", "%frame", 1), 8)
    size, gates = form.acc_size, problem.gates
    names = ["T", "B", "H", "reverse", "out", "first", "panels"]
    names += ["dx"] if problem.backward else []
    if problem.backward and problem.mode == "gru":
        names.append("dinner")
    words = table(f, *names)
    steps, batch, units = words["T"], words["B"], words["H"]
    rows = _chunk(f, batch)
    chunks = f.ceildiv(batch, rows)
    last = f.sub(steps, 1)
    reverse = f.cmp("ne", words["reverse"], 0)
    # the step's place in the recurrence, and the times of it and of the one before
    place = f.sub(last, step) if problem.backward else step

    def time_of(p: Value) -> Value:
        return f.select(reverse, f.sub(last, p), p)

    time, before = time_of(place), time_of(f.sub(place, 1))
    vectors = WIDE if problem.backward else gates
    block = (WIDE if problem.backward else 1) * form.vl
    depth = _depth(form, problem, units, f)
    panel = f.mul(depth, vectors * form.vl * size)
    state = f.mul(batch, units)
    row_step = f.mul(depth, size)
    room = f.alloca(form.vec, ROWS * vectors, 64)
    if problem.backward:
        # the gates' cotangents of the step that was processed before
        after = time_of(f.add(place, 1))
        inner = words["dinner" if problem.mode == "gru" else "dx"]
        source = f.gep(form.stored, inner, f.mul(after, f.mul(state, gates)))
    else:
        stored = f.gep(form.stored, words["out"], f.mul(before, state))
        source = f.select(f.cmp("eq", step, 0), words["first"], stored, "ptr")
    with f.loop("%end", start="%begin") as unit:
        number = f.udiv(unit.index, chunks)
        first = f.mul(number, block)
        low = f.mul(f.urem(unit.index, chunks), rows)
        high = f.min(f.add(low, rows), batch)
        columns = f.gep("i8", words["panels"], f.mul(panel, number))

        def multiply(count: int, row: Value, low: Value = low, columns: str = columns) -> None:
            a = f.gep("i8", source, f.mul(row, row_step))
            to = f.gep(form.vec, room, f.mul(f.sub(row, low), vectors))
            f.do(
                f"call void @tile{count}(i64 {depth}, ptr {a}, i64 {row_step}, i64 {size}, "
                f"ptr {columns}, i64 {vectors * form.vl * size}, ptr {to})"
            )

        some = "true"
        if problem.backward:  # nothing comes from the step after the last
            some = f.cmp("ne", step, 0)
            with f.when(f.cmp("eq", step, 0)):
                whole = ROWS * vectors * form.vl * size
                f.do(f"call void @llvm.memset.p0.i64(ptr {room}, i8 0, i64 {whole}, i1 false)")
        with f.when(some):
            _cover(f, tile_rows(form, vectors), low, high, multiply)
        f.do(
            f"call void @finish(ptr {room}, i64 {f.sub(high, low)}, ptr %t, i64 {step}, "
            f"i64 {time}, i64 {before}, i64 {low}, i64 {first})"
        )
    f.ret()
    return f.text()


def pack_task(form: Form, problem: Problem) -> str:
    """void pack_panels(t, begin, end, worker): blocks [begin, end) of the weight."""
    params = [("ptr", "t"), ("i64", "begin"), ("i64", "end"), ("i64", "worker")]
    f = Function("pack_panels", params, "void", "nounwind noinline")
    words = table(f, "H", "w", "w_r", "w_c", "panels")
    units, gates, size, lanes = words["H"], problem.gates, form.acc_size, form.vl
    slots = _depth(form, problem, units, f)
    with f.loop("%end", start="%begin") as block:
        if problem.backward:
            wide = WIDE * lanes
            depth = f.mul(units, gates)
            first = f.mul(block.index, wide)
            count = f.min(f.sub(units, first), wide)
            source = f.gep(form.stored, words["w"], f.mul(first, words["w_c"]))
            to = f.gep("i8", words["panels"], f.mul(f.mul(slots, wide * size), block.index))
            f.do(
                f"call void @pack{wide}(ptr {source}, i64 {words['w_c']}, i64 {words['w_r']}, "
                f"i64 {count}, i64 {depth}, ptr {to})"
            )
        else:
            first = f.mul(block.index, lanes)
            count = f.min(f.sub(units, first), lanes)
            whole = gates * lanes * size
            to = f.gep("i8", words["panels"], f.mul(f.mul(slots, whole), block.index))
            for k in range(gates):
                row = f.add(first, f.mul(units, k))
                source = f.gep(form.stored, words["w"], f.mul(row, words["w_r"]))
                f.do(
                    f"call void @pack{lanes}_{gates * lanes}(ptr {source}, i64 {words['w_r']}, "
                    f"i64 {words['w_c']}, i64 {count}, i64 {units}, "
                    f"ptr {f.gep('i8', to, k * lanes * size)})"
                )
    f.ret()
    return f.text()


def entry(form: Form, problem: Problem) -> str:
    """void symbol(t): pack the weight, copy first states, then step after step; last states."""
    f = Function(problem.symbol, [("ptr", "t")], linkage="")
    names = ["T", "B", "H", "reverse", "out", "hn", "first"]
    for name, source in {**problem.carried, "first": problem.first}.items():
        if source is not None:
            names += [name, source, f"{source}_b", f"{source}_1"]
    names += [CARRIED[name] for name in problem.carried]
    words = table(f, *dict.fromkeys(names))
    steps, batch, units = words["T"], words["B"], words["H"]
    vectors = WIDE if problem.backward else problem.gates
    block = (WIDE if problem.backward else 1) * form.vl
    blocks = f.ceildiv(units, block)
    f.do(f"call void @fl_parallel_for(ptr @pack_panels, ptr %t, i64 {blocks}, i64 1)")

    def copy(source: str, to: str, kind: str) -> None:
        strides = f"i64 {words[source + '_b']}, i64 {words[source + '_1']}"
        given = f"ptr {words[source]}, {strides}, ptr {words[to]}"
        f.do(f"call void @first_{kind}({given}, i64 {batch}, i64 {units})")

    if problem.first is not None:
        copy(problem.first, "first", "stored")
    for name, source in problem.carried.items():
        copy(source, name, "carried")
    frame = f.alloca("i64", 2, 16)
    f.store("ptr", "%t", frame, 8)
    chunk = _chunk(f, batch)
    parts = f.mul(blocks, f.ceildiv(batch, chunk))
    work = f.mul(f.mul(chunk, _depth(form, problem, units, f)), vectors * form.vl)
    grain = f.ceildiv(SERIAL, work)
    count = f.add(steps, 1) if problem.backward else steps
    with f.loop(count) as step:
        f.store("i64", step.index, f.gep("i64", frame, 1), 8)
        f.do(f"call void @fl_parallel_for(ptr @step, ptr {frame}, i64 {parts}, i64 {grain})")
    total = f.mul(batch, units)
    if not problem.backward:
        size = f.mul(total, form.stored_size)
        last = f.select(f.cmp("ne", words["reverse"], 0), 0, f.mul(f.sub(steps, 1), size))
        at = f.gep("i8", words["out"], last)
        f.do(f"call void @llvm.memcpy.p0.p0.i64(ptr {words['hn']}, ptr {at}, i64 {size}, i1 false)")
    if form.widened:
        for name in problem.carried:
            result = words[CARRIED[name]]
            f.do(f"call void @last_carried(ptr {words[name]}, ptr {result}, i64 {total})")
    f.ret()
    return f.text()


def first_state(form: Form, wide: bool) -> str:
    """void first_stored(p, p_b, p_1, to, rows, units): a state to row-major memory; zeros if null.

    As `first_carried` what is written has the accumulator's type.
    """
    params = [("ptr", "p"), ("i64", "p_b"), ("i64", "p_1"), ("ptr", "to")]
    params += [("i64", "rows"), ("i64", "units")]
    name, kind, size = "first_stored", form.stored, form.stored_size
    if wide:
        name, kind, size = "first_carried", form.acc, form.acc_size
    f = Function(name, params, "void", "nounwind noinline")
    some = f.op("icmp ne ptr %p, null")
    with f.when(f.op(f"xor i1 {some}, true")):
        count = f.mul(f.mul("%rows", "%units"), size)
        f.do(f"call void @llvm.memset.p0.i64(ptr %to, i8 0, i64 {count}, i1 false)")
        f.ret()
    with f.loop("%rows") as row, f.loop("%units") as unit:
        at = f.add(f.mul(row.index, "%p_b"), f.mul(unit.index, "%p_1"))
        place = f.gep(form.stored, "%p", at)
        to = f.gep(kind, "%to", f.add(f.mul(row.index, "%units"), unit.index))
        value = (
            load_stored(f, form, place, 1) if wide else f.load(form.stored, place, form.stored_size)
        )
        f.store(kind, value, to, size)
    f.ret()
    return f.text()


def last_carried(form: Form) -> str:
    """void last_carried(p, to, n): what was carried, as the tensors' dtype has it."""
    f = Function("last_carried", [("ptr", "p"), ("ptr", "to"), ("i64", "n")], "void", "nounwind")
    with f.loop("%n") as loop:
        value = f.load(form.acc, f.gep(form.acc, "%p", loop.index), form.acc_size)
        store_stored(f, form, value, f.gep(form.stored, "%to", loop.index), 1)
    f.ret()
    return f.text()


def load_apart(form: Form) -> str:
    """vector load_apart(p, stride, n): n numbers that lie apart, then zeros."""
    params = [("ptr", "p"), ("i64", "stride"), ("i64", "n")]
    f = Function("load_apart", params, form.vec, "nounwind noinline")
    room = f.alloca(form.vec, align=64)
    f.store(form.vec, "zeroinitializer", room, 64)
    with f.loop("%n") as loop:
        x = load_stored(f, form, f.gep(form.stored, "%p", f.mul(loop.index, "%stride")), 1)
        f.store(form.acc, x, f.gep(form.acc, room, loop.index), form.acc_size)
    f.ret(f"{form.vec} {f.load(form.vec, room, 64)}")
    return f.text()


def module_text(problem: Problem, features: frozenset[str]) -> str:
    """LLVM IR of the module that defines a problem's kernel, called with a table of words."""
    form = form_of(problem.dtype, features)
    module = Module()
    lanes = form.vl
    parts = [declarations(form), load_apart(form), last_carried(form)]
    parts += [first_state(form, wide) for wide in (False, True)]
    if problem.backward:
        vectors, finish = WIDE, backward_finish
        parts.append(pack(form, WIDE * lanes))
    else:
        vectors, finish = problem.gates, forward_finish
        parts.append(pack(form, lanes, problem.gates * lanes))
    parts += [product_tile(form, rows, vectors) for rows in range(tile_rows(form, vectors), 0, -1)]
    parts.append(finish(form, problem, module))
    parts += [step_task(form, problem), pack_task(form, problem), entry(form, problem)]
    declared = module.declared | set(vecmath.declarations(module.math))
    declared |= {
        "declare void @fl_parallel_for(ptr, ptr, i64, i64)",
        "declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)",
        "declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)",
    }
    known = set("\n".join(parts).split("\n"))
    return "\n".join([*sorted(declared - known), vecmath.definitions(module.math), *parts])


# -- which nodes, and their words ------------------------------------------------------------------

_NAMES = {
    "_recurrence": ("x", "h0", "c0", "w", "bias", "lengths"),
    "_recurrence_backward": (
        "g", "ghn", "gcn", "out", "cells", "saved", "h0", "c0", "w", "lengths",
    ),
}  # fmt: skip


def operands(node: Node) -> dict[str, Node]:
    """A node's tensors by name."""
    sources = iter(node.src)
    return {
        name: next(sources)
        for name, a in zip(_NAMES[node.op.name], node.attrs, strict=False)
        if a == "<tensor>"
    }


def problem_of(node: Node) -> Problem | None:
    """The kernel that computes a node, or None where its body must."""
    backward = node.op.name == "_recurrence_backward"
    named = operands(node)
    units = named["w"].shape[1]
    dtype = {"float32": "f32", "float64": "f64", "bfloat16": "bf16"}.get(named["w"].dtype.name)
    if dtype == "bf16" and not (form_of(dtype, host_features()).pairs and not units % 2):
        return None  # computed in float32
    if dtype is None or any(0 in s.shape for s in named.values()):
        return None
    if any(s.dtype is not node.dtype for name, s in named.items() if name != "lengths"):
        return None
    dense = ("out", "cells", "saved")
    if any(named[x].op.kind == "view" for x in dense if x in named):
        return None
    mode = node.attrs[node.op.parameters.index("mode")]
    save = not backward and node.attrs[node.op.parameters.index("save")]
    return Problem(mode, backward, dtype, save, "lengths" in named)


def _room(node: Node, problem: Problem) -> dict[str, int]:
    """Where the kernel's temporary values are in its scratch memory, and the end of it."""
    form = form_of(problem.dtype, host_features())
    named = operands(node)
    units, batch = named["w"].shape[1], named["h0"].shape[0]
    block = (WIDE if problem.backward else 1) * form.vl
    panels = -(-units // block) * block * units * problem.gates * form.acc_size // form.step
    sizes = {"panels": panels}
    if problem.first is not None:
        sizes["first"] = batch * units * form.stored_size
    if form.widened:
        sizes |= dict.fromkeys(problem.carried, batch * units * form.acc_size)
    found, at = {}, 0
    for name, size in sizes.items():
        found[name] = at
        at += -(-size // LINE) * LINE
    return {**found, "end": at}


def scratch(node: Node, problem: Problem) -> int:
    """Bytes of the packed weight, and of states."""
    return _room(node, problem)["end"]


def words(program: Any, node: Node, problem: Problem) -> list[Any]:
    """The entries of a node's table."""
    named = operands(node)
    known: dict[str, Any] = dict.fromkeys(FIELDS, 0)
    steps, batch, _units = (named["out"] if problem.backward else named["x"]).shape
    known["T"], known["B"], known["H"] = steps, batch, named["w"].shape[1]
    known["reverse"] = int(node.attrs[node.op.parameters.index("reverse")])
    for name, s in named.items():
        store, offset, strides = program.memory(s)
        known[name] = (store, offset)
        axes = {"x": ("_t", "_b", "_1"), "g": ("_t", "_b", "_1"), "w": ("_r", "_c")}.get(name)
        axes = axes or (("_1",) if len(s.shape) == 1 else ("_b", "_1"))
        if f"{name}_1" in FIELDS or name == "w":
            for axis, stride in zip(axes, strides, strict=True):
                known[name + axis] = stride
    if problem.backward:
        results = ["dh0", "dx", *(["dinner"] if problem.mode == "gru" else [])]
        results += ["dc0"] if problem.mode == "lstm" else []
    else:
        results = ["out", "hn", *(["cn"] if problem.mode == "lstm" else [])]
        if problem.save:
            results += ["cells"] if problem.mode == "lstm" else []
            results += ["saved"] if problem.kept else []
    for k, name in enumerate(results):
        known[name] = (program.result(node, k), 0)
    for name in problem.carried:
        known[name] = known[CARRIED[name]]
    room = _room(node, problem)
    del room["end"]
    known |= {name: (program.workspace(node), at) for name, at in room.items()}
    return [known[name] for name in FIELDS]
