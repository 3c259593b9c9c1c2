"""Recurrences on the CPU: all steps of one direction of a layer, forward and backward.

A step is one parallel loop over blocks of units. Forward, a block multiplies the hidden state by
its columns of every gate at once, so that a unit's gates stand in registers side by side, adds the
input's part, and goes through the cell's arithmetic before anything is stored. Backward, a block
multiplies the gates' cotangents of the step after by its columns of the weight, which gives the
hidden state's cotangent, and goes on to its own gates; so there too a step waits once. The weight
is packed once, a block's columns for all k side by side.

Shapes: gates (T, B, G * H), states (B, H), weight (G * H, H), results row-major; inputs may be
strided.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
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
    rank_one_updates,
    store_some,
)
from flambeau.kernels.gemm_pack import pack
from flambeau.kernels.matmul import form_of
from flambeau.ops.recurrent import GATES
from flambeau.runtime.cpuinfo import host_features

#: vectors of units in a block of the backward pass
WIDE = 2
#: rows of a batch in one unit of parallel work
ROWS = 24
#: multiply-adds below which a step is not shared among threads
SERIAL = 1 << 16

STATES = ("h0", "c0", "ghn", "gcn")
SEQUENCES = ("x", "g")
DENSE = ("out", "hn", "cn", "cells", "saved", "dx", "dinner", "dh0", "dc0", "panels")


@dataclass(frozen=True)
class Problem:
    """What is compiled in.

    Attributes:
        mode: a key of `ops.recurrent.GATES`.
        backward: whether these are the gradients.
        dtype: f32 or f64.
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
    return [*names, *DENSE]


FIELDS = fields()
_POINTERS = frozenset((*SEQUENCES, *STATES, *DENSE, "w", "bias", "lengths"))


def table(f: Function, *names: str) -> Words:
    """Words of the table, loaded on entry."""
    return Words(f, FIELDS, lambda n: "ptr" if n in _POINTERS else "i64").preload(*names)


class Tile(Writer):
    """A few rows of a batch by a block's units: loads and stores of their vectors.

    Args:
        f: the function being written; `%row` is the first row, `%first` the first unit.
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
        return self.f.gep(self.form.acc, self.words[x], offset)

    def given(self, x: str, start: str, unit: Value, vector: int) -> Typed:
        """A vector of an input from the start of its row, whatever its stride."""
        f, stride = self.f, self.words[f"{x}_1"]
        at = f.gep(self.form.acc, start, f.mul(unit, stride))
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
        return load_some(self.f, self.form, self.form.acc, place, self.present(vector))

    def load(self, x: str, at: Value, vector: int) -> Typed:
        """A vector of a row-major tensor."""
        return self.cell.value(self.near(self.f.gep(self.form.acc, self.words[x], at), vector))

    def store(self, value: Typed, x: str, at: Value, vector: int) -> None:
        """Write a vector of a row-major tensor."""
        place = self.f.gep(self.form.acc, self.words[x], at)
        store_some(self.f, self.form, self.form.acc, value.name, place, self.present(vector))

    def choose(self, condition: str | None, a: Typed, b: Typed) -> Typed:
        """a where the row's sequence has this step, else b."""
        if condition is None:
            return a
        return self.cell.value(self.f.select(condition, a.name, b.name, self.form.vec))


def tile_sizes(form: Form, vectors: int) -> list[int]:
    """Rows of the tiles that cover any number of rows, given the vectors of a row."""
    registers = 32 if form.vl * form.acc_size == 64 or form.mr == 12 else 16
    most = max(1, min((registers - vectors - 2) // vectors, 8))
    return [n for n in (8, 6, 4, 3, 2, 1) if n <= most]


# Parameters of a tile: those of `rank_one_updates`, then the table, the step counted from the first
# one processed, the time of that step and the one before in the recurrence, row and unit.
TILE = [
    ("i64", "k"), ("ptr", "a"), ("i64", "rs"), ("i64", "cs"), ("ptr", "b"), ("i64", "ldb"),
    ("ptr", "t"), ("i64", "step"), ("i64", "time"), ("i64", "before"), ("i64", "row"),
    ("i64", "first"),
]  # fmt: skip


def _alive(f: Function, problem: Problem, words: Words, row: Value) -> str | None:
    """Whether the row's sequence has the step; None where all have."""
    if not problem.lengths:
        return None
    at = f.gep("i64", words["lengths"], f.mul(row, words["lengths_1"]))
    return f.cmp("sgt", f.load("i64", at, 8), "%time")


def forward_tile(form: Form, problem: Problem, rows: int, module: Module) -> str:
    """A tile of one step: products, gates, the new states."""
    f = Function(f"tile{rows}", TILE, "void", "nounwind noinline")
    gates, lstm = problem.gates, problem.mode == "lstm"
    sums = rank_one_updates(f, form, rows, gates, False, form.vl * form.acc_size)
    names = ["B", "H", "x", "x_t", "x_b", "x_1", "h0", "h0_b", "h0_1", "out", "saved"]
    names += ["c0", "c0_b", "c0_1", "cells", "cn", "bias", "bias_1", "lengths", "lengths_1"]
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

    def state_before(first: str, x: str, row: Value) -> Typed:
        """A state before this step: the given one, or what an earlier step stored."""
        stored = f.add(f.mul(row, words["H"]), "%first")
        if x != "cn":
            stored = f.add(stored, f.mul("%before", state))
        with f.merge(start, [form.vec], [tile.load(x, f.select(start, 0, stored), 0).name]) as v:
            v[0] = tile.given(first, tile.row_of(first, row, None), "%first", 0).name
        return w.value(v[0])

    for i in range(rows):
        row = f.add("%row", i)
        at = f.add(f.mul(row, words["H"]), "%first")
        alive = _alive(f, problem, words, row)
        x_row = tile.row_of("x", row, "%time")
        x = [tile.given("x", x_row, f.add("%first", f.mul(words["H"], k)), 0) for k in range(gates)]
        needs_hidden = problem.mode == "gru" or alive is not None
        h = state_before("h0", "out", row) if needs_hidden else w.number(0.0)
        kept = "cells" if problem.save else "cn"
        c = state_before("c0", kept, row) if lstm else w.number(0.0)
        found = recurrent_cells.FORWARD[problem.mode](
            w, x, [w.value(s) for s in sums[i]], h, c, bias
        )
        now = f.add(at, f.mul("%time", state))
        tile.store(tile.choose(alive, found.hidden, h), "out", now, 0)
        if found.cell is not None:
            tile.store(tile.choose(alive, found.cell, c), kept, now if problem.save else at, 0)
        if problem.save:
            line = f.add(f.mul("%time", words["B"]), row)
            for k, value in enumerate(found.saved):
                place = f.mul(f.add(f.mul(line, len(found.saved)), k), words["H"])
                tile.store(value, "saved", f.add(place, "%first"), 0)
    f.ret()
    return f.text()


def backward_tile(form: Form, problem: Problem, rows: int, product: bool, module: Module) -> str:
    """A tile of one step back: the product with the step after, then this step's gates.

    Without `product` this is the last step, where there is none; the step before the first only
    adds up the first hidden state's cotangent.
    """
    f = Function(f"tile{rows}{'' if product else '_last'}", TILE, "void", "nounwind noinline")
    gates, lstm, gru = problem.gates, problem.mode == "lstm", problem.mode == "gru"
    sums: list[list[str]] = []
    if product:
        sums = rank_one_updates(f, form, rows, WIDE, False, form.vl * form.acc_size)
    names = ["T", "B", "H", "out", "dx", "dh0", "h0", "h0_b", "h0_1", "lengths", "lengths_1"]
    names += ["g", "g_t", "g_b", "g_1", "ghn", "ghn_b", "ghn_1", "saved"]
    if lstm:
        names += ["cells", "dc0", "c0", "c0_b", "c0_1", "gcn", "gcn_b", "gcn_1"]
    if gru:
        names.append("dinner")
    words = table(f, *names)
    tile = Tile(f, form, words, module, f.sub(words["H"], "%first"))
    w = tile.cell
    vec, state = form.vec, f.mul(words["B"], words["H"])
    carried = gru or problem.lengths  # whether something reaches the state before unmultiplied
    ended = f.cmp("eq", "%step", words["T"])
    earliest = f.cmp("eq", f.add("%step", 1), words["T"])
    has_g = f.op(f"icmp ne ptr {words['g']}, null")

    def optional(condition: str, read: Any) -> Typed:
        with f.merge(condition, [vec], ["zeroinitializer"]) as values:
            values[0] = read().name
        return w.value(values[0])

    def last(x: str, row: Value, unit: Value, v: int) -> Typed:
        """The cotangent of a last state, if there is one."""
        some = f.op(f"icmp ne ptr {words[x]}, null")
        return optional(some, lambda: tile.given(x, tile.row_of(x, row, None), unit, v))

    def before(first: str, x: str, row: Value, at: Value, unit: Value, v: int) -> Typed:
        stored = f.select(earliest, 0, f.add(at, f.mul("%before", state)))
        with f.merge(earliest, [vec], [tile.load(x, stored, v).name]) as values:
            values[0] = tile.given(first, tile.row_of(first, row, None), unit, v).name
        return w.value(values[0])

    for i in range(rows):
        row = f.add("%row", i)
        for v in range(WIDE):
            unit = f.add("%first", v * form.vl)
            at = f.add(f.mul(row, words["H"]), unit)
            if product:
                dh = w.value(sums[i][v])
                if carried:
                    dh = w.add(dh, tile.load("dh0", at, v))
            else:
                dh = last("ghn", row, unit, v)
            tag = f.fresh("end")
            f.branch(ended, f"{tag}.first", f"{tag}.step")
            f.label(f"{tag}.first")
            tile.store(dh, "dh0", at, v)
            f.jump(f"{tag}.done")
            f.label(f"{tag}.step")
            g_row = tile.row_of("g", row, "%time")
            dh = w.add(dh, optional(has_g, lambda r=g_row, u=unit, k=v: tile.given("g", r, u, k)))
            zero = w.number(0.0)
            alive = _alive(f, problem, words, row)
            now = f.add(at, f.mul("%time", state))
            h = tile.load("out", now, v)
            h_before = before("h0", "out", row, at, unit, v) if gru else zero
            dc = c = c_before = zero
            if lstm:
                dc = tile.load("dc0", at, v) if product else last("gcn", row, unit, v)
                c = tile.load("cells", now, v)
                c_before = before("c0", "cells", row, at, unit, v)
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
            if carried:
                through = found.through if found.through is not None else zero
                tile.store(tile.choose(alive, through, dh), "dh0", at, v)
            if found.cell is not None:
                tile.store(tile.choose(alive, found.cell, dc), "dc0", at, v)
            f.jump(f"{tag}.done")
            f.label(f"{tag}.done")
    f.ret()
    return f.text()


# -- the loops -------------------------------------------------------------------------------------


def _cover(
    f: Function, sizes: list[int], start: Value, stop: Value, write: Callable[[int, Value], None]
) -> None:
    """write(rows, row) for tiles of those sizes that cover rows [start, stop)."""
    for rows in sizes:
        end = f.add(start, f.mul(f.udiv(f.sub(stop, start), rows), rows))
        with f.loop(end, start=start, step=rows) as loop:
            write(rows, loop.index)
        start = end


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
    names = ["T", "B", "H", "reverse", "out", "panels"]
    names += ["dx"] if problem.backward else ["h0", "h0_b", "h0_1"]
    if problem.backward and problem.mode == "gru":
        names.append("dinner")
    words = table(f, *names)
    steps, batch, units = words["T"], words["B"], words["H"]
    chunks = f.ceildiv(batch, ROWS)
    last = f.sub(steps, 1)
    reverse = f.cmp("ne", words["reverse"], 0)
    # the step's place in the recurrence, and the times of it and of the one before
    place = f.sub(last, step) if problem.backward else step

    def time_of(p: Value) -> Value:
        return f.select(reverse, f.sub(last, p), p)

    time, before = time_of(place), time_of(f.sub(place, 1))
    vectors = WIDE if problem.backward else gates
    block = (WIDE if problem.backward else 1) * form.vl
    depth = f.mul(units, gates) if problem.backward else units
    panel = f.mul(depth, vectors * form.vl * size)
    state = f.mul(batch, units)
    row_step: Value
    col_step: Value
    if problem.backward:
        # the gates' cotangents of the step that was processed before
        after = time_of(f.add(place, 1))
        inner = words["dinner" if problem.mode == "gru" else "dx"]
        source = f.gep(form.acc, inner, f.mul(after, f.mul(state, gates)))
        row_step, col_step = f.mul(depth, size), size
    else:
        start = f.cmp("eq", step, 0)
        stored = f.gep(form.acc, words["out"], f.select(start, 0, f.mul(before, state)))
        source = f.select(start, words["h0"], stored, "ptr")
        row_step = f.mul(f.select(start, words["h0_b"], units), size)
        col_step = f.mul(f.select(start, words["h0_1"], 1), size)
    with f.loop("%end", start="%begin") as unit:
        number = f.udiv(unit.index, chunks)
        first = f.mul(number, block)
        low = f.mul(f.urem(unit.index, chunks), ROWS)
        high = f.min(f.add(low, ROWS), batch)
        columns = f.gep("i8", words["panels"], f.mul(panel, number))

        def call(suffix: str, rows: int, row: Value, at: Any = (first, columns)) -> None:
            a = f.gep("i8", source, f.mul(row, row_step))
            f.do(
                f"call void @tile{rows}{suffix}(i64 {depth}, ptr {a}, i64 {row_step}, "
                f"i64 {col_step}, ptr {at[1]}, i64 {vectors * form.vl * size}, ptr %t, "
                f"i64 {step}, i64 {time}, i64 {before}, i64 {row}, i64 {at[0]})"
            )

        tag = f.fresh("kind")
        if problem.backward:
            f.branch(f.cmp("eq", step, 0), f"{tag}.last", f"{tag}.other")
            f.label(f"{tag}.last")
            with f.loop(high, start=low) as row:
                call("_last", 1, row.index)
            f.jump(f"{tag}.done")
            f.label(f"{tag}.other")
        _cover(f, tile_sizes(form, vectors), low, high, partial(call, ""))
        f.label(f"{tag}.done")
    f.ret()
    return f.text()


def pack_task(form: Form, problem: Problem) -> str:
    """void pack_panels(t, begin, end, worker): blocks [begin, end) of the weight."""
    params = [("ptr", "t"), ("i64", "begin"), ("i64", "end"), ("i64", "worker")]
    f = Function("pack_panels", params, "void", "nounwind noinline")
    words = table(f, "H", "w", "w_r", "w_c", "panels")
    units, gates, size, lanes = words["H"], problem.gates, form.acc_size, form.vl
    with f.loop("%end", start="%begin") as block:
        if problem.backward:
            wide = WIDE * lanes
            depth = f.mul(units, gates)
            first = f.mul(block.index, wide)
            count = f.min(f.sub(units, first), wide)
            source = f.gep(form.acc, words["w"], f.mul(first, words["w_c"]))
            to = f.gep("i8", words["panels"], f.mul(f.mul(depth, wide * size), block.index))
            f.do(
                f"call void @pack{wide}(ptr {source}, i64 {words['w_c']}, i64 {words['w_r']}, "
                f"i64 {count}, i64 {depth}, ptr {to})"
            )
        else:
            first = f.mul(block.index, lanes)
            count = f.min(f.sub(units, first), lanes)
            whole = gates * lanes * size
            to = f.gep("i8", words["panels"], f.mul(f.mul(units, whole), block.index))
            for k in range(gates):
                row = f.add(first, f.mul(units, k))
                source = f.gep(form.acc, words["w"], f.mul(row, words["w_r"]))
                f.do(
                    f"call void @pack{lanes}_{gates * lanes}(ptr {source}, i64 {words['w_r']}, "
                    f"i64 {words['w_c']}, i64 {count}, i64 {units}, "
                    f"ptr {f.gep('i8', to, k * lanes * size)})"
                )
    f.ret()
    return f.text()


def entry(form: Form, problem: Problem) -> str:
    """void symbol(t): pack the weight, then step after step; the last states at the end."""
    f = Function(problem.symbol, [("ptr", "t")], linkage="")
    names = ["T", "B", "H", "reverse", "out", "hn", "cn", "cells"]
    words = table(f, *names)
    steps, batch, units = words["T"], words["B"], words["H"]
    vectors = WIDE if problem.backward else problem.gates
    block = (WIDE if problem.backward else 1) * form.vl
    blocks = f.ceildiv(units, block)
    f.do(f"call void @fl_parallel_for(ptr @pack_panels, ptr %t, i64 {blocks}, i64 1)")
    frame = f.alloca("i64", 2, 16)
    f.store("ptr", "%t", frame, 8)
    parts = f.mul(blocks, f.ceildiv(batch, ROWS))
    depth = f.mul(units, problem.gates) if problem.backward else units
    work = f.mul(f.mul(f.min(batch, ROWS), depth), vectors * form.vl)
    grain = f.ceildiv(SERIAL, work)
    count = f.add(steps, 1) if problem.backward else steps
    with f.loop(count) as step:
        f.store("i64", step.index, f.gep("i64", frame, 1), 8)
        f.do(f"call void @fl_parallel_for(ptr @step, ptr {frame}, i64 {parts}, i64 {grain})")
    if not problem.backward:
        state = f.mul(f.mul(batch, units), form.acc_size)
        last = f.select(f.cmp("ne", words["reverse"], 0), 0, f.mul(f.sub(steps, 1), state))
        pairs = [("out", "hn")]
        if problem.mode == "lstm" and problem.save:
            pairs.append(("cells", "cn"))
        for source, to in pairs:
            at = f.gep("i8", words[source], last)
            f.do(
                f"call void @llvm.memcpy.p0.p0.i64(ptr {words[to]}, ptr {at}, i64 {state}, "
                "i1 false)"
            )
    f.ret()
    return f.text()


def load_apart(form: Form) -> str:
    """vector load_apart(p, stride, n): n numbers that lie apart, then zeros."""
    params = [("ptr", "p"), ("i64", "stride"), ("i64", "n")]
    f = Function("load_apart", params, form.vec, "nounwind noinline")
    room = f.alloca(form.vec, align=64)
    f.store(form.vec, "zeroinitializer", room, 64)
    with f.loop("%n") as loop:
        x = f.load(form.acc, f.gep(form.acc, "%p", f.mul(loop.index, "%stride")), form.acc_size)
        f.store(form.acc, x, f.gep(form.acc, room, loop.index), form.acc_size)
    f.ret(f"{form.vec} {f.load(form.vec, room, 64)}")
    return f.text()


def module_text(problem: Problem, features: frozenset[str]) -> str:
    """LLVM IR of the module that defines a problem's kernel, called with a table of words."""
    form = replace(form_of(problem.dtype, features), pairs=False)
    module = Module()
    lanes = form.vl
    parts = [declarations(form), load_apart(form)]
    if problem.backward:
        parts += [pack(form, WIDE * lanes), backward_tile(form, problem, 1, False, module)]
        for rows in tile_sizes(form, WIDE):
            parts.append(backward_tile(form, problem, rows, True, module))
    else:
        parts.append(pack(form, lanes, problem.gates * lanes))
        for rows in tile_sizes(form, problem.gates):
            parts.append(forward_tile(form, problem, rows, module))
    parts += [step_task(form, problem), pack_task(form, problem), entry(form, problem)]
    declared = module.declared | set(vecmath.declarations(module.math))
    declared |= {
        "declare void @fl_parallel_for(ptr, ptr, i64, i64)",
        "declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)",
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
    dtype = {"float32": "f32", "float64": "f64"}.get(named["w"].dtype.name)
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


def scratch(node: Node, problem: Problem) -> int:
    """Bytes of the packed weight."""
    form = form_of(problem.dtype, host_features())
    units = operands(node)["w"].shape[1]
    block = (WIDE if problem.backward else 1) * form.vl
    return -(-units // block) * block * units * problem.gates * form.acc_size


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
    known["panels"] = (program.workspace(node), 0)
    return [known[name] for name in FIELDS]
