"""Mods inside attention kernels: their steps as LLVM IR on a vector of scores.

Lanes run along queries (forward) or keys (backward). What depends on neither the lanes nor the
score is computed as one scalar, what does not depend on the row before the loop over rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from flambeau.codegen.lowerings import (
    BITS,
    LOWERINGS,
    TYPES,
    Value,
    cast,
    mangled,
    vector_type,
)
from flambeau.dtype import dtype as DType
from flambeau.ir.graph import CAST, Node, Op
from flambeau.kernels.emit import Words, Writer
from flambeau.ops.mods import GATHER, SLOTS, Mod, Ref, Step

_SOURCE = Op("mod_source", "input")


def supported(mod: Mod) -> bool:
    """Whether every step can be written."""
    return all(
        s.op is GATHER or s.op is CAST or s.op.name in LOWERINGS or s.op.name == "random_at"
        for s in mod.steps
    ) and all(dtype.name in TYPES for _, dtype in mod.captured)


def depends(mod: Mod) -> dict[Ref, frozenset[str]]:
    """The slots that each value depends on."""
    found: dict[Ref, frozenset[str]] = {
        ("slot", k): frozenset((name,)) for k, name in enumerate(SLOTS)
    }
    for k, step in enumerate(mod.steps):
        found["step", k] = frozenset().union(
            *(found.get(ref, frozenset()) for ref in step.src if ref[0] != "number")
        )
    return found


class Inline:
    """A mod being written at one place.

    Args:
        slots: values of the mod's arguments by name; those not known yet are added later.
    """

    def __init__(
        self, writer: Writer, t: Words, prefix: str, mod: Mod, lanes: int, slots: dict[str, Value]
    ) -> None:
        self.b = writer
        self.f = writer.f
        self.t = t
        self.prefix = prefix
        self.mod = mod
        self.lanes = lanes
        self.slots = slots
        self.made: dict[Ref, Value] = {}
        self.hoisted: dict[Ref, Value] = {}
        self.depends = depends(mod)

    def hoist(self, known: frozenset[str]) -> None:
        """Write every step that depends on `known` slots only."""
        for k in range(len(self.mod.captured)):
            if not self.mod.captured[k][0]:
                self.get(("captured", k))
        for k in range(len(self.mod.steps)):
            if self.depends["step", k] <= known:
                self.get(("step", k))
        self.hoisted = dict(self.made)

    def row(self, **slots: Value) -> None:
        """Begin another row: what was written for one, other than hoisted steps, is forgotten."""
        self.slots.update(slots)
        self.made = dict(self.hoisted)

    def get(self, ref: Ref) -> Value:
        """The value of a step, argument or 0-d captured tensor."""
        known = self.made.get(ref)
        if known is not None:
            return known
        kind, k = ref
        if kind == "slot":
            return self.slots[SLOTS[k]]
        if kind == "captured":
            dtype = self.mod.captured[k][1]
            found = self.loaded(self.t[f"{self.prefix}{k}"], dtype)
        else:
            found = self.step(self.mod.steps[k])
        self.made[ref] = found
        return found

    def result(self, ref: Ref, element: str) -> Value:
        """An output as a vector of an element type."""
        if ref[0] == "number":
            return self.b.const(ref[1], element, self.lanes)
        v = self.b.splat(self.get(ref), self.lanes)
        if v.type == element:
            return v
        return self.b.convert("fptrunc" if v.type == "double" else "fpext", v, element)

    def loaded(self, pointer: str, dtype: DType) -> Value:
        """One element."""
        memory, compute = TYPES[dtype.name]
        raw = self.b.set(f"load {memory}, ptr {pointer}, align {_size(memory)}", memory, 1)
        return self.widened(raw, compute)

    def widened(self, raw: Value, compute: str) -> Value:
        """A value from memory in the type that it is computed in."""
        if raw.type == compute:
            return raw
        if compute == "i1":
            return self.b.compare("ne", raw, self.b.const(0, "i8", raw.lanes))
        return self.b.convert("fpext", raw, compute)

    def step(self, step: Step) -> Value:
        """Write one step."""
        if step.op is GATHER:
            return self.gathered(step.src[0][1], step.src[1:], step.dtype)
        b = self.b
        numbers = [ref[0] == "number" for ref in step.src]
        values = [None if n else self.get(ref) for n, ref in zip(numbers, step.src, strict=True)]
        lanes = max((v.lanes for v in values if v is not None), default=1)
        dtypes = [self.mod.dtype(ref) for ref in step.src]
        if step.op is CAST:
            first = values[0]
            if first is None:
                return b.const(step.src[0][1], TYPES[step.dtype.name][1], 1)
            return cast(b, first, dtypes[0], step.dtype)
        element = next(
            (v.type for k, v in enumerate(values) if v is not None and k not in step.op.fixed),
            TYPES[step.dtype.name][1],
        )
        given = []
        sources: list[Any] = []
        for k, v in enumerate(values):
            if v is None:
                kind = "i1" if k in step.op.fixed else element
                given.append(b.const(step.src[k][1], kind, lanes))
                sources.append(step.src[k][1])
            else:
                given.append(b.splat(v, lanes))
                sources.append(Node(_SOURCE, (), (), (), dtypes[k]))
        node = Node(step.op, tuple(sources), step.attrs, (), step.dtype)
        found = LOWERINGS[step.op.name](b, node, given)
        memory, compute = TYPES[step.dtype.name]
        if memory in ("half", "bfloat") and found.type == "float":  # rounded as it would be stored
            found = b.convert("fpext", b.convert("fptrunc", found, memory), compute)
        return found

    def offset(self, table: int, indices: Sequence[Ref], strides: str) -> Value:
        """The place of an element, places outside moved in; `strides` names the words' suffix."""
        b = self.b
        total = b.const(0, "i64", 1)
        for d, ref in enumerate(indices):
            size = Value(self.t[f"{self.prefix}{table}_n{d}"], "i64", 1)
            stride = Value(self.t[f"{self.prefix}{table}_{strides}{d}"], "i64", 1)
            v = b.const(ref[1], "i64", 1) if ref[0] == "number" else self.get(ref)
            if v.type != "i64":
                v = b.convert("sext", v, "i64")
            top = b.op("sub", size, b.const(1, "i64", 1))
            v = b.call("smax", v, b.const(0, "i64", v.lanes))
            v = b.call("smin", v, b.splat(top, v.lanes))
            part = b.op("mul", v, b.splat(stride, v.lanes))
            lanes = max(part.lanes, total.lanes)
            total = b.op("add", b.splat(part, lanes), b.splat(total, lanes))
        return total

    def gathered(self, table: int, indices: Sequence[Ref], dtype: DType) -> Value:
        """Elements of a captured tensor; neighbours are loaded together."""
        memory, compute = TYPES[dtype.name]
        pointer = self.t[f"{self.prefix}{table}"]
        offset = self.offset(table, indices, "s")
        b, n = self.b, self.lanes
        if offset.lanes == 1:
            place = b.set(f"getelementptr {memory}, ptr {pointer}, i64 {offset.name}", "ptr", 1)
            return self.loaded(place.name, dtype)
        whole = vector_type(memory, n)

        def near(place: str) -> Value:
            return b.set(f"load {whole}, ptr {place}, align {_size(memory)}", memory, n)

        def far() -> Value:
            places = b.set(f"getelementptr {memory}, ptr {pointer}, {offset}", "ptr", n)
            name = f"llvm.masked.gather.{mangled(memory, n)}.v{n}p0"
            b.declared.add(f"declare {whole} @{name}(<{n} x ptr>, <{n} x i1>, {whole})")
            return b.set(
                f"call {whole} @{name}(<{n} x ptr> align {_size(memory)} {places.name}, "
                f"<{n} x i1> splat (i1 true), {whole} poison)",
                memory,
                n,
            )

        def one(place: str) -> Value:
            x = b.set(f"load {memory}, ptr {place}, align {_size(memory)}", memory, 1)
            return b.splat(x, n)

        raw = by_offsets(b, pointer, memory, offset, near, one, far)
        assert raw is not None
        return self.widened(raw, compute)


def _size(memory: str) -> int:
    return max(BITS[memory] // 8, 1)


def by_offsets(
    b: Writer,
    pointer: str,
    memory: str,
    offset: Value,
    near: Callable[[str], Value | None],
    one: Callable[[str], Value | None],
    far: Callable[[], Value | None],
) -> Value | None:
    """`near(first address)` where lanes' offsets follow one another, `one(address)` where they are
    all the same, else `far()`; -> the value."""
    n = offset.lanes
    first = b.set(f"extractelement {offset}, i64 0", "i64", 1)
    equal = b.splat(first, n)
    steps = Value("<" + ", ".join(f"i64 {k}" for k in range(n)) + ">", "i64", n)

    def at(take: Callable[[str], Value | None]) -> Value | None:
        return take(
            b.set(f"getelementptr {memory}, ptr {pointer}, i64 {first.name}", "ptr", 1).name
        )

    def apart() -> Value | None:
        return _either(b, b.compare("eq", offset, equal), lambda: at(one), far)

    return _either(b, b.compare("eq", offset, b.op("add", equal, steps)), lambda: at(near), apart)


def _either(
    b: Writer, lanes: Value, yes: Callable[[], Value | None], no: Callable[[], Value | None]
) -> Value | None:
    """`yes()` where every lane is True, else `no()`."""
    f, n = b.f, lanes.lanes
    b.declared.add(f"declare i1 @llvm.vector.reduce.and.v{n}i1(<{n} x i1>)")
    every = b.set(f"call i1 @llvm.vector.reduce.and.v{n}i1({lanes})", "i1", 1)
    tag = f.fresh("lanes")
    f.branch(every.name, f"{tag}.yes", f"{tag}.no")
    ends, found = [], []
    for name, way in (("yes", yes), ("no", no)):
        f.label(f"{tag}.{name}")
        found.append(way())
        ends.append(f.block)
        f.jump(f"{tag}.end")
    f.label(f"{tag}.end")
    x, y = found
    if x is None or y is None:
        return None
    return b.set(f"phi {x.full} [{x.name}, %{ends[0]}], [{y.name}, %{ends[1]}]", x.type, x.lanes)


class Sums:
    """The gradient of one captured tensor, added up in memory of this group of units.

    Where the place does not depend on the row, rows are added in a vector first.

    Args:
        place: the address of the tensor's sums.
        value: the output that is added.
        indices: where to.
    """

    def __init__(
        self, inline: Inline, place: str, table: int, value: Ref, indices: Sequence[Ref]
    ) -> None:
        self.inline = inline
        self.place = place
        self.table = table
        self.value = value
        self.indices = indices
        self.f, self.lanes = inline.f, inline.lanes
        self.vec = vector_type("float", self.lanes)
        found = (inline.depends.get(ref, frozenset()) for ref in indices)
        self.whole = frozenset().union(*found) <= {"b", "h", "kv"}
        if self.whole:
            self.room = self.f.alloca(self.vec, align=64)
        self.values = self.f.alloca(self.vec, align=64)
        self.offsets = self.f.alloca(f"<{self.lanes} x i64>", align=64)

    def start(self) -> None:
        """Before the loop over rows."""
        if self.whole:
            self.f.store(self.vec, "zeroinitializer", self.room, 64)

    def row(self, mask: str, count: Any) -> None:
        """Add a row's values; `mask` and `count` say which lanes there are."""
        value = self.inline.result(self.value, "float").name
        bits = f"<{self.lanes} x i1>"
        value = self.f.op(f"select {bits} {mask}, {self.vec} {value}, {self.vec} zeroinitializer")
        if self.whole:
            old = self.f.load(self.vec, self.room, 64)
            self.f.store(self.vec, self.f.op(f"fadd {self.vec} {old}, {value}"), self.room, 64)
        else:
            self.scatter(value, mask, count)

    def finish(self, mask: str, count: Any) -> None:
        """After the loop over rows."""
        if self.whole:
            self.scatter(self.f.load(self.vec, self.room, 64), mask, count)

    def scatter(self, value: str, mask: str, count: Any) -> None:
        """Add lanes to memory."""
        f, b = self.f, self.inline.b
        offset = self.inline.offset(self.table, self.indices, "d")

        def one(place: str) -> None:
            total = f.op(
                f"call reassoc float @llvm.vector.reduce.fadd.v{self.lanes}f32(float 0.0, "
                f"{self.vec} {value})"
            )
            old = f.load("float", place, 4)
            f.store("float", f.op(f"fadd float {old}, {total}"), place, 4)

        if offset.lanes == 1:
            one(f.gep("float", self.place, offset.name))
            return
        bits = f"<{self.lanes} x i1>"

        def near(place: str) -> None:
            old = f.op(
                f"call {self.vec} @llvm.masked.load.v{self.lanes}f32.p0(ptr align 4 {place}, "
                f"{bits} {mask}, {self.vec} zeroinitializer)"
            )
            new = f.op(f"fadd {self.vec} {old}, {value}")
            f.do(
                f"call void @llvm.masked.store.v{self.lanes}f32.p0({self.vec} {new}, "
                f"ptr align 4 {place}, {bits} {mask})"
            )

        def far() -> None:
            f.store(self.vec, value, self.values, 64)
            f.store(offset.full, offset.name, self.offsets, 64)
            with f.loop(f.min(count, self.lanes)) as lane:
                at = f.load("i64", f.gep("i64", self.offsets, lane.index), 8)
                x = f.load("float", f.gep("float", self.values, lane.index), 4)
                place = f.gep("float", self.place, at)
                old = f.load("float", place, 4)
                f.store("float", f.op(f"fadd float {old}, {x}"), place, 4)

        by_offsets(b, self.place, "float", offset, near, one, far)
