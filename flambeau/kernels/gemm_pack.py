"""Packing of strided operands into the panels that the matrix-multiply micro-kernels read, as LLVM
IR text.

A panel holds `wide` rows of A (or columns of B) for a block of K: slot (k, i) stands at k * wide +
i. The source may have any strides; unit stride along i is copied, unit stride along k is transposed
in registers, anything else is gathered one by one. Rows past the operand's edge are written as
zeros, so micro-kernels never test for them.
"""

from __future__ import annotations

from contextlib import nullcontext

from flambeau.kernels.emit import Function, Value
from flambeau.kernels.gemm_micro import (
    Form,
    constant,
    lane_mask,
    load_some,
    load_stored,
    widen,
)


def transpose(f: Function, kind: str, rows: list[str], lane: int) -> list[str]:
    """Transpose a square block held in len(rows) vectors of len(rows) elements.

    Args:
        kind: scalar LLVM type.
        rows: vector values.
        lane: elements in 128 bits; the first stages stay inside 128-bit lanes, where x86 shuffles
            are cheapest.

    Returns: the columns.
    """
    n = len(rows)
    lanes = n // lane
    zipped: list[list[str]] = []
    for first in range(0, n, lane):
        zipped.append(transpose_in_lanes(f, kind, rows[first : first + lane], n, lane))
    columns = [""] * n
    for c in range(lane):
        for number, value in enumerate(
            transpose_lanes(f, kind, [zipped[q][c] for q in range(lanes)], n, lane)
        ):
            columns[lane * number + c] = value
    return columns


def transpose_in_lanes(f: Function, kind: str, rows: list[str], n: int, lane: int) -> list[str]:
    """Transpose every lane x lane block of `lane` vectors: 2 x 2 for 64-bit, 4 x 4 for 32-bit
    elements.
    """

    def pick(a: str, b: str, within: list[int]) -> str:
        order = [
            base + (w if w < lane else n + w - lane) for base in range(0, n, lane) for w in within
        ]
        return f.shuffle(n, kind, a, b, order)

    if lane == 2:
        a, b = rows
        return [pick(a, b, [0, 2]), pick(a, b, [1, 3])]
    a, b, c, d = rows
    ab, cd = pick(a, b, [0, 4, 1, 5]), pick(c, d, [0, 4, 1, 5])
    ab2, cd2 = pick(a, b, [2, 6, 3, 7]), pick(c, d, [2, 6, 3, 7])
    return [
        pick(ab, cd, [0, 1, 4, 5]), pick(ab, cd, [2, 3, 6, 7]),
        pick(ab2, cd2, [0, 1, 4, 5]), pick(ab2, cd2, [2, 3, 6, 7]),
    ]  # fmt: skip


def transpose_lanes(f: Function, kind: str, rows: list[str], n: int, lane: int) -> list[str]:
    """Transpose 1, 2 or 4 vectors of as many 128-bit lanes, taken as elements."""

    def pick(a: str, b: str, blocks: list[int]) -> str:
        return f.shuffle(n, kind, a, b, [block * lane + e for block in blocks for e in range(lane)])

    if len(rows) == 1:
        return rows
    if len(rows) == 2:
        a, b = rows
        return [pick(a, b, [0, 2]), pick(a, b, [1, 3])]
    a, b, c, d = rows
    ab, cd = pick(a, b, [0, 1, 4, 5]), pick(c, d, [0, 1, 4, 5])
    ab2, cd2 = pick(a, b, [2, 3, 6, 7]), pick(c, d, [2, 3, 6, 7])
    return [
        pick(ab, cd, [0, 2, 4, 6]), pick(ab, cd, [1, 3, 5, 7]),
        pick(ab2, cd2, [0, 2, 4, 6]), pick(ab2, cd2, [1, 3, 5, 7]),
    ]  # fmt: skip


AHEAD_ROWS = 8
AHEAD_BYTES = 256
"""How far ahead packing prefetches its source: rows where it copies them, bytes of each row where
it transposes.
"""


def ahead(f: Function, address: str, length: int) -> None:
    """Prefetch `length` bytes: strided sources defeat the processor's own prefetching."""
    for offset in range(0, length, 64):
        f.prefetch(f.gep("i8", address, offset))


def pieces(wide: int, vl: int) -> list[tuple[int, int]]:
    """(start, length) of vectors of at most vl lanes, powers of two, that cover `wide` elements."""
    found, start = [], 0
    while start < wide:
        length = vl
        while length > wide - start:
            length //= 2
        found.append((start, length))
        start += length
    return found


def pack(form: Form, wide: int, apart: int = 0) -> str:
    """void pack<wide>[_<apart>](src, si, sk, n, k, dst): one panel, slots of successive k `apart`
    from one another (by default `wide`: nothing in between).

    The function's parameters: source address, strides in elements along the panel and along K, rows
    present (<= wide), elements of K, destination. With pairs, slot (k, i) holds elements 2k and 2k
    + 1, and an odd end is filled with zero.
    """
    params = [
        ("ptr", "src"),
        ("i64", "si"),
        ("i64", "sk"),
        ("i64", "n"),
        ("i64", "k"),
        ("ptr", "dst"),
    ]
    name = f"pack{wide}_{apart}" if apart else f"pack{wide}"
    f = Function(name, params, "void", "nounwind noinline")
    apart = apart or wide
    step = 2 if form.pairs else 1
    whole = f.cmp("eq", "%n", wide)
    for some in (False, True) if form.masks else (False,):
        here = f.op(f"xor i1 {whole}, true") if some else whole
        with f.when(f.both(here, f.cmp("eq", "%si", 1))):
            done = f.udiv("%k", step)
            copy_rows(f, form, wide, apart, done, some)
            gather(f, form, wide, apart, f.mul(done, step))
            f.ret()
    with f.when(f.both(f.either(whole, str(form.masks).lower()), f.cmp("eq", "%sk", 1))):
        block = form.vl * step
        done = f.select(whole, f.mul(f.udiv("%k", block), block), 0)
        transpose_blocks(f, form, wide, apart, 0, done)
        if form.masks:
            transpose_blocks(f, form, wide, apart, done, "%k", some=True)
        else:
            gather(f, form, wide, apart, done)
        f.ret()
    gather(f, form, wide, apart, 0)
    f.ret()
    return f.text()


def load_piece(f: Function, form: Form, row: str, start: int, lanes: int, some: bool) -> str:
    """Elements [start, start + lanes) of a row as stored; if only `some` of a panel's are there,
    zeros beyond the n-th."""
    place = f.gep(form.stored, row, start)
    if not some:
        return f.load(f"<{lanes} x {form.stored}>", place, form.stored_size)
    count = f.max(f.min(f.sub("%n", start), lanes), 0)
    place = f.select(f.cmp("sgt", count, 0), place, row, "ptr")
    value = load_some(f, form, form.stored, place, count)
    return (
        value if lanes == form.vl else f.shuffle(form.vl, form.stored, value, value, range(lanes))
    )


def copy_rows(
    f: Function, form: Form, wide: int, apart: int, slots: Value, some: bool = False
) -> None:
    """Unit stride along the panel: copy `wide` elements a slot, or `some`."""
    with f.loop(slots) as loop:
        if form.pairs:
            low = f.gep("i16", "%src", f.mul(f.mul(loop.index, 2), "%sk"))
            high = f.gep("i16", low, "%sk")
        else:
            low = f.gep(form.stored, "%src", f.mul(loop.index, "%sk"))
        out = f.gep(form.slot, "%dst", f.mul(loop.index, apart))
        ahead(f, f.gep(form.stored, low, f.mul("%sk", AHEAD_ROWS)), wide * form.stored_size)
        for start, lanes in pieces(wide, form.vl):
            kind = f"<{lanes} x {form.slot}>"
            if form.pairs:
                value = join_pairs(
                    f, lanes, *(load_piece(f, form, x, start, lanes, some) for x in (low, high))
                )
            else:
                value = widen(f, form, load_piece(f, form, low, start, lanes, some), lanes)
            f.store(kind, value, f.gep(form.slot, out, start), form.acc_size)


def join_pairs(f: Function, lanes: int, low: str, high: str) -> str:
    """i16 of two successive k -> one i32 slot each."""
    short, word = ("i16", "i32") if lanes == 1 else (f"<{lanes} x i16>", f"<{lanes} x i32>")
    shifted = f.op(
        f"shl {word} {f.op(f'zext {short} {high} to {word}')}, {constant(word, lanes, 16)}"
    )
    return f.op(f"or {word} {f.op(f'zext {short} {low} to {word}')}, {shifted}")


def transpose_blocks(
    f: Function, form: Form, wide: int, apart: int, start: Value, stop: Value, some: bool = False
) -> None:
    """Unit stride along K: transpose blocks of vl slots by vl rows, elements [start, stop) of K.
    If only `some` are there, rows from the n-th on are zeros, and the last block may end early.
    """
    vl, kind = form.vl, form.slot
    lane = 16 // form.acc_size
    step = 2 if form.pairs else 1
    groups = [(first, min(vl, wide - first)) for first in range(0, wide, vl)]
    with f.loop(stop, start=start, step=vl * step) as loop:
        source = f.gep(form.stored, "%src", loop.index)
        slot = f.udiv(loop.index, step)
        left = f.min(f.sub(stop, loop.index), vl * step) if some else 0
        slots = f.ceildiv(left, step)
        for group, rows in groups:
            values = []
            for row in range(group, group + rows):
                there = f.cmp("slt", row, "%n") if some else ""
                number = f.select(there, row, 0) if some else row
                address = f.gep(form.stored, source, f.mul("%si", number))
                if not some:
                    ahead(f, f.gep("i8", address, AHEAD_BYTES), 1)
                value = load_slots(f, form, address, left if some else None)
                if some:
                    value = f.select(there, value, "zeroinitializer", f"<{vl} x {kind}>")
                values.append(value)
            values += ["poison"] * (vl - rows)
            for column, value in enumerate(transpose(f, kind, values, lane)):
                out = f.gep(kind, "%dst", f.add(f.mul(f.add(slot, column), apart), group))
                with f.when(f.cmp("slt", column, slots)) if some else nullcontext():
                    for first, lanes in pieces(rows, vl):
                        part = value
                        if lanes < vl:
                            part = f.shuffle(vl, kind, value, "poison", range(first, first + lanes))
                        f.store(f"<{lanes} x {kind}>", part, f.gep(kind, out, first), form.acc_size)


def load_slots(f: Function, form: Form, address: str, count: Value | None) -> str:
    """vl slots of successive elements, or of the first `count` elements and zeros."""
    vl = form.vl
    if not form.pairs:
        kind = f"<{vl} x {form.stored}>"
        if count is None:
            raw = f.load(kind, address, form.stored_size)
        else:
            raw = load_some(f, form, form.stored, address, count)
        return widen(f, form, raw, vl)
    if count is None:
        return f.load(f"<{vl} x i32>", address, 2)
    raw = f.op(
        f"call <{2 * vl} x i16> @llvm.masked.load.v{2 * vl}i16.p0(ptr align 2 {address}, "
        f"<{2 * vl} x i1> {lane_mask(f, 2 * vl, count)}, <{2 * vl} x i16> zeroinitializer)"
    )
    return f.op(f"bitcast <{2 * vl} x i16> {raw} to <{vl} x i32>")


def gather(f: Function, form: Form, wide: int, apart: int, start: Value) -> None:
    """Any strides, any number of rows present, from element `start` of K: one by one, zeros past
    the edge.
    """
    step = 2 if form.pairs else 1
    size = form.acc_size
    with f.loop("%k", start=start, step=step) as loop:
        row = f.gep(form.stored, "%src", f.mul(loop.index, "%sk"))
        out = f.gep(form.slot, "%dst", f.mul(f.udiv(loop.index, step), apart))
        if form.pairs:
            paired = f.cmp("slt", f.add(loop.index, 1), "%k")
            other = f.select(paired, "%sk", 0)
        with f.loop("%n") as inner:
            address = f.gep(form.stored, row, f.mul(inner.index, "%si"))
            if form.pairs:
                high = f.load("i16", f.gep("i16", address, other), 2)
                value = join_pairs(
                    f, 1, f.load("i16", address, 2), f.select(paired, high, 0, "i16")
                )
            else:
                value = load_stored(f, form, address, 1)
            f.store(form.slot, value, f.gep(form.slot, out, inner.index), size)
        zero = "0" if form.pairs else "0.0"
        with f.loop(wide, start="%n") as inner:
            f.store(form.slot, zero, f.gep(form.slot, out, inner.index), size)
