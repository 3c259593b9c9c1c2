"""Operands of attention between memory and the scratch memory that tile products read.

In memory elements are float32 or 16-bit floats, with any strides. What products read are slots (see
`attention_tiles`): pairs of bfloat16 are copied as they are, other 16-bit floats are widened on the
way. An operand is laid out by the dimension that a product sums over:

    pack_panel  over features, as B: slots of features in rows, lanes are the operand's rows
    pack_rows   over features, as A: rows stay rows, their features in slots
    pack_steps  over the operand's rows, as A or B: rows of features, with pairs two rows in one
"""

from __future__ import annotations

from collections.abc import Callable

from flambeau.kernels import attention_tiles as tiles
from flambeau.kernels.attention_tiles import Machine
from flambeau.kernels.emit import Function, Value
from flambeau.kernels.gemm_micro import narrow, widen
from flambeau.kernels.gemm_pack import join_pairs


def _function(name: str, counts: tuple[str, ...], *more: tuple[str, str]) -> Function:
    """A function from memory to memory."""
    numbers = [("i64", n) for n in counts]
    params = [("ptr", "to"), ("ptr", "from"), *numbers, *more]
    return Function(name, params, "void", "nounwind noinline")


def slot_lanes(f: Function, machine: Machine, place: str, count: Value | None) -> str:
    """A vector of slots of the first `count` elements at `place`, or all, then zeros; as float32
    bits."""
    if not machine.pairs:
        return tiles.load_elements(f, machine, place, count)
    raw = tiles.load_lanes(f, machine, place, count, step=2)
    return f.op(f"bitcast <{2 * machine.lanes} x i16> {raw} to {machine.vec}")


def along(
    f: Function, count: Value, step: int, body: Callable[[Value, Value | None], None]
) -> None:
    """`body(first, None)` for whole vectors of `step` elements, then `body(first, left)` for what
    is left: masks cost more than what they guard."""
    whole = f.mul(f.udiv(count, step), step)
    with f.loop(whole, step=step) as loop:
        body(loop.index, None)
    with f.when(f.cmp("slt", whole, count)):
        body(whole, f.sub(count, whole))


def element_place(
    f: Function, machine: Machine, to: str, wide: Value, number: Value, lane: Value
) -> str:
    """Where element `number` of the dimension summed over goes, in rows of `wide` bytes."""
    at = f.gep("i8", to, f.mul(f.udiv(number, machine.step), wide))
    at = f.gep("i32", at, lane)
    return f.gep("i16", at, f.urem(number, 2)) if machine.pairs else at


def copy_element(
    f: Function, machine: Machine, to: str, source: str, inside: str, sign: str | None = None
) -> None:
    """One element into its part of a slot, times `sign`; 0 where not inside."""
    kind = machine.stored
    zero = "0" if machine.widened else "0.0"
    x = f.load(kind, source, machine.stored_size)
    x = f.op(f"select i1 {inside}, {kind} {x}, {kind} {zero}")
    if machine.pairs and sign is None:
        f.store("i16", x, to, 2)
        return
    x = widen(f, machine, x, 1)
    if sign is not None:
        x = f.op(f"fmul float {x}, {sign}")
    if machine.pairs:
        f.store("i16", narrow(f, machine, x, 1), to, 2)
    else:
        f.store("float", x, to, 4)


class Sign:
    """Multiplies vectors of slots by %sign, which is 1, -1 or 0."""

    def __init__(self, f: Function, machine: Machine) -> None:
        self.f, self.machine = f, machine
        if not machine.pairs:
            self.factor = f.splat(machine.lanes, "float", "%sign")
            return
        negative = f.op("fcmp olt float %sign, 0.0")
        zero = f.op("fcmp oeq float %sign, 0.0")
        flip = f.op(f"select i1 {negative}, i32 -2147450880, i32 0")  # both sign bits
        keep = f.op(f"select i1 {zero}, i32 0, i32 -1")
        self.flip, self.keep = (f.splat(machine.lanes, "i32", x) for x in (flip, keep))

    def times(self, x: str) -> str:
        """The product."""
        f, machine = self.f, self.machine
        if not machine.pairs:
            return f.op(f"fmul {machine.vec} {x}, {self.factor}")
        bits = f.op(f"bitcast {machine.vec} {x} to {machine.ints}")
        bits = f.op(f"and {machine.ints} {f.op(f'xor {machine.ints} {bits}, {self.flip}')}, "
                    f"{self.keep}")  # fmt: skip
        return f.op(f"bitcast {machine.ints} {bits} to {machine.vec}")


def pack_panel(machine: Machine) -> str:
    """void pack_panel(to, from, rs, cs, rows, cols, sign): `cols` features of up to a panel of rows
    become rows of lanes; zeros where there are no more. Strides in elements.
    """
    f = _function("pack_panel", ("rs", "cs", "rows", "cols"), ("float", "sign"))
    lanes, wide, kind = machine.lanes, machine.panel * 4, machine.stored
    with f.when(f.cmp("ne", "%cs", 1)):
        # features apart: one element after another
        full = f.mul(tiles.slots(f, machine, "%cols"), machine.step)
        with f.loop(full) as col, f.loop(machine.panel) as row:
            inside = f.both(f.cmp("slt", row.index, "%rows"), f.cmp("slt", col.index, "%cols"))
            place = f.add(f.mul(row.index, "%rs"), f.mul(col.index, "%cs"))
            source = f.gep(kind, "%from", f.select(inside, place, 0))
            to = element_place(f, machine, "%to", wide, col.index, row.index)
            copy_element(f, machine, to, source, inside, "%sign")
        f.ret()
    sign = Sign(f, machine)

    def block(first: Value, left: Value | None, full: bool) -> None:
        slot = f.udiv(first, machine.step)
        for half in range(machine.vectors):
            rows = []
            for k in range(half * lanes, half * lanes + lanes):
                there = f.cmp("sgt", "%rows", k)
                count = left
                if not full:
                    count = f.select(there, lanes * machine.step if left is None else left, 0)
                start = f.gep(kind, "%from", f.add(f.mul("%rs", k), first))
                rows.append(sign.times(slot_lanes(f, machine, start, count)))
            start = f.gep("i8", "%to", f.add(f.mul(slot, wide), half * machine.width))
            for k, x in enumerate(tiles.transposed(f, machine, rows)):
                f.store(machine.vec, x, f.gep("i8", start, k * wide), machine.width)

    with f.when(f.cmp("sge", "%rows", machine.panel)):
        along(f, "%cols", lanes * machine.step, lambda first, left: block(first, left, True))
        f.ret()
    with f.loop("%cols", step=lanes * machine.step) as col:
        block(col.index, f.sub("%cols", col.index), False)
    f.ret()
    return f.text()


def unpack_panel(machine: Machine) -> str:
    """void unpack_panel(to, from, rows, cols, factors): rows of float32 lanes times a factor a lane
    become up to a panel of row-major rows of `cols` elements."""
    f = _function("unpack_panel", ("rows", "cols"), ("ptr", "factors"))
    vec, lanes, wide = machine.vec, machine.lanes, machine.panel * 4

    def block(first: Value, left: Value | None, full: bool) -> None:
        for half in range(machine.vectors):
            factor = f.load(vec, f.gep("i8", "%factors", half * machine.width), machine.width)
            start = f.gep("i8", "%from", f.add(f.mul(first, wide), half * machine.width))
            columns = []
            for k in range(lanes):
                x = f.load(vec, f.gep("i8", start, k * wide), machine.width)
                columns.append(f.op(f"fmul {vec} {x}, {factor}"))
            for k, x in enumerate(tiles.transposed(f, machine, columns)):
                row = half * lanes + k
                count = left
                if not full:
                    count = f.select(f.cmp("sgt", "%rows", row), lanes if left is None else left, 0)
                to = f.gep(machine.stored, "%to", f.add(f.mul("%cols", row), first))
                tiles.store_elements(f, machine, x, to, count)

    with f.when(f.cmp("sge", "%rows", machine.panel)):
        along(f, "%cols", lanes, lambda first, left: block(first, left, True))
        f.ret()
    with f.loop("%cols", step=lanes) as col:
        block(col.index, f.sub("%cols", col.index), False)
    f.ret()
    return f.text()


def pack_rows(machine: Machine) -> str:
    """void pack_rows(to, from, rs, cs, rows, cols, room): rows of slots, zeros up to whole vectors
    and up to `room` rows."""
    f = _function("pack_rows", ("rs", "cs", "rows", "cols", "room"))
    count = tiles.slots(f, machine, "%cols")
    wide = f.mul(tiles.padded(f, machine, count), 4)
    step = machine.step
    with f.when(f.cmp("eq", "%cs", 1)):
        with f.loop("%rows") as row:
            start = f.gep(machine.stored, "%from", f.mul(row.index, "%rs"))
            to = f.gep("i8", "%to", f.mul(row.index, wide))

            def copy(first: Value, left: Value | None, start: str = start, to: str = to) -> None:
                x = slot_lanes(f, machine, f.gep(machine.stored, start, first), left)
                f.store(machine.vec, x, f.gep("i32", to, f.udiv(first, step)), machine.width)

            along(f, "%cols", machine.lanes * step, copy)
        clear(f, f.gep("i8", "%to", f.mul("%rows", wide)), f.mul(f.sub("%room", "%rows"), wide))
        f.ret()
    clear(f, "%to", f.mul("%room", wide))
    with f.loop("%rows") as row, f.loop("%cols") as col:
        place = f.add(f.mul(row.index, "%rs"), f.mul(col.index, "%cs"))
        to = f.gep("i8", "%to", f.mul(row.index, wide))
        to = element_place(f, machine, to, 4, col.index, 0)
        copy_element(f, machine, to, f.gep(machine.stored, "%from", place), "true")
    f.ret()
    return f.text()


def clear(f: Function, to: str, size: Value) -> None:
    """Zeros in `size` bytes of scratch memory."""
    f.do(f"call void @llvm.memset.p0.i64(ptr align 4 {to}, i8 0, i64 {size}, i1 false)")


def pack_steps(machine: Machine) -> str:
    """void pack_steps(to, from, rs, cs, rows, cols, room): rows of pairs, each of two rows; zeros
    up to whole vectors and up to `room` rows. Without pairs `pack_rows` does it.
    """
    f = _function("pack_steps", ("rs", "cs", "rows", "cols", "room"))
    wide = f.mul(tiles.padded(f, machine, "%cols"), 4)
    full = f.mul(f.udiv("%rows", 2), 2)
    with f.when(f.cmp("eq", "%cs", 1)):
        with f.loop(full, step=2) as row:
            join_rows(f, machine, row.index, wide, 2)
        with f.when(f.cmp("slt", full, "%rows")):
            join_rows(f, machine, full, wide, 1)
        done = f.ceildiv("%rows", 2)
        rest = f.sub(f.ceildiv("%room", 2), done)
        clear(f, f.gep("i8", "%to", f.mul(done, wide)), f.mul(rest, wide))
        f.ret()
    clear(f, "%to", f.mul(f.ceildiv("%room", 2), wide))
    with f.loop("%rows") as row, f.loop("%cols") as col:
        place = f.add(f.mul(row.index, "%rs"), f.mul(col.index, "%cs"))
        to = element_place(f, machine, "%to", wide, row.index, col.index)
        copy_element(f, machine, to, f.gep("i16", "%from", place), "true")
    f.ret()
    return f.text()


def join_rows(f: Function, machine: Machine, row: Value, wide: Value, count: int) -> None:
    """Rows `row` and, if `count` is 2, the next, as one row of pairs."""
    lanes = machine.lanes
    start = f.gep("i16", "%from", f.mul(row, "%rs"))
    to = f.gep("i8", "%to", f.mul(f.udiv(row, 2), wide))

    def join(first: Value, left: Value | None) -> None:
        place = f.gep("i16", start, first)
        low = tiles.load_lanes(f, machine, place, left)
        high = "zeroinitializer"
        if count == 2:
            high = tiles.load_lanes(f, machine, f.gep("i16", place, "%rs"), left)
        x = join_pairs(f, lanes, low, high)
        f.store(machine.ints, x, f.gep("i32", to, first), machine.width)

    along(f, "%cols", lanes, join)


def write_rows(machine: Machine) -> str:
    """void write_rows(to, from, parts, step, rows, cols, factor): to = factor * the sum of `parts`
    float32 row matrices padded to whole vectors, `step` bytes apart, in order."""
    f = _function("write_rows", ("parts", "step", "rows", "cols"), ("float", "factor"))
    vec, lanes = machine.vec, machine.lanes
    wide = f.mul(tiles.padded(f, machine, "%cols"), 4)
    factor = f.splat(lanes, "float", "%factor")
    with f.loop("%rows") as row:
        line = f.gep("i8", "%from", f.mul(row.index, wide))
        to = f.gep(machine.stored, "%to", f.mul(row.index, "%cols"))

        def total(first: Value, left: Value | None, line: str = line, to: str = to) -> None:
            start = f.gep("float", line, first)
            with f.loop("%parts", start=1, carry=[(vec, f.load(vec, start, machine.width))]) as k:
                x = f.load(vec, f.gep("i8", start, f.mul(k.index, "%step")), machine.width)
                k.carry(f.op(f"fadd {vec} {k.carried[0]}, {x}"))
            x = f.op(f"fmul {vec} {k.carried[0]}, {factor}")
            tiles.store_elements(f, machine, x, f.gep(machine.stored, to, first), left)

        along(f, "%cols", lanes, total)
    f.ret()
    return f.text()


def steps_name(machine: Machine) -> str:
    """The function that packs an operand that is summed over its rows."""
    return "pack_steps" if machine.pairs else "pack_rows"
