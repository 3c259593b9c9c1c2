"""Elements of rows by rank: sorting, the k largest, the k-th, medians.

An element becomes a key, an unsigned integer in the order of the values (of floats: -0 equals 0,
NaN is above everything), with its place below it in one wide integer. Keys with places are all
distinct, so every way of sorting them is stable. A row takes one of three ways:

    SORT     all of it: by insertion where short, else by radix, lowest digit first, leaving out
             digits that are the same everywhere (McIlroy, Bostic and McIlroy 1993)
    FILTER   first ranks only: the best so far are kept in a buffer, whose worst is the bar for the
             rest of the row, compared vector by vector; a full buffer is sorted and cut
    NARROW   ranks in the middle: a count of leading digits says which of them hold the ranks; the
             elements with these digits are taken out, again by their next digits, then sorted

Rows are shared between as many slots as there is work memory for; which slot a row falls to does
not change its result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flambeau.ir.graph import Node
from flambeau.kernels.emit import Function, Value
from flambeau.size import contiguous_strides

SORT, FILTER, NARROW = range(3)
#: How the first rank is found: given, or the middle of the numbers (NaN first, or left out).
GIVEN, MIDDLE, MIDDLE_NUMBER = range(3)

_DIMS = 8
FIELDS = (
    *("x", "values", "places", "work", "slots", "rows", "n", "first", "count", "room", "way"),
    *("rule", "turn", "xs", "os", "dims"),
    *(f"{what}{k}" for k in range(_DIMS) for what in ("size", "xs", "os")),
)
_POINTERS = {"x", "values", "places", "work"}
_SLOTS = 8  # rows that may be worked on at a time
_INSERTION = 48  # elements up to which insertion is quickest
_FEW = 400  # elements up to which counting digits costs more than sorting
_SHORT = 4096  # elements up to which digits of 8 bits are
_DIGIT = 11
_LANES = 16

#: dtype -> (bits, "float", "signed" or "unsigned")
ELEMENTS = {
    "float64": (64, "float"),
    "float32": (32, "float"),
    "float16": (16, "float"),
    "bfloat16": (16, "float"),
    "int64": (64, "signed"),
    "int32": (32, "signed"),
    "int16": (16, "signed"),
    "int8": (8, "signed"),
    "uint64": (64, "unsigned"),
    "uint32": (32, "unsigned"),
    "uint16": (16, "unsigned"),
    "uint8": (8, "unsigned"),
    "bool": (8, "unsigned"),
}
_INFINITY = {"float64": 0x7FF << 52, "float32": 0xFF << 23, "float16": 0x7C00, "bfloat16": 0x7F80}


@dataclass(frozen=True)
class Kind:
    """The integers of one dtype: its own bits, a half (key or place), and both together."""

    name: str

    @property
    def bits(self) -> int:
        """Of an element."""
        return ELEMENTS[self.name][0]

    @property
    def half(self) -> int:
        """Bits of a key, and of a place."""
        return max(self.bits, 32)

    @property
    def whole(self) -> str:
        """The type of a key with its place."""
        return f"i{2 * self.half}"

    @property
    def bytes(self) -> int:
        """Of a key with its place."""
        return self.half // 4


def fits(node: Node) -> bool:
    """Whether the kernel computes a node."""
    x, dim = node.src[0], node.attrs[0]
    kept = sum(1 for k, n in enumerate(x.shape) if k != dim and n > 1)
    return x.dtype.name in ELEMENTS and 0 < x.shape[dim] < 1 << 31 and kept <= _DIMS


@dataclass(frozen=True)
class Shape:
    """What is wanted of one node: `count` ranks of `rows` rows of `n` elements from `first` on."""

    rows: int
    n: int
    first: int
    count: int
    rule: int
    turned: bool

    @property
    def way(self) -> int:
        """How rows are taken."""
        end = self.first + self.count
        if self.rule != GIVEN:
            return SORT if self.n <= _FEW else NARROW
        if self.n >= 32 and end * 4 <= self.n:
            return FILTER
        return NARROW if self.n > _FEW and self.count * 4 <= self.n else SORT

    @property
    def room(self) -> int:
        """Elements that a row's buffer holds."""
        return 2 * (self.first + self.count) + 16 if self.way == FILTER else self.n

    @property
    def slots(self) -> int:
        """Rows that are worked on at a time."""
        return min(self.rows, _SLOTS)

    @property
    def stored(self) -> int:
        """Elements of one of a slot's two buffers; what a vector may add stands above the room."""
        return self.room + 2 * _LANES


def shape_of(node: Node) -> Shape:
    """The shape of a node of `ranked` or `middle_along`."""
    x, dim = node.src[0], node.attrs[0]
    rows, n = x.numel // x.shape[dim], x.shape[dim]
    if node.op.name == "middle_along":
        return Shape(rows, n, 0, 1, MIDDLE_NUMBER if node.attrs[1] else MIDDLE, False)
    _, first, count, descending, _ = node.attrs
    return Shape(rows, n, first, count, GIVEN, descending)


def scratch(node: Node) -> int:
    """Bytes of work memory."""
    shape = shape_of(node)
    return 2 * shape.slots * shape.stored * Kind(node.src[0].dtype.name).bytes


def words(program: Any, node: Node) -> list[Any]:
    """The table of one node."""
    x, dim = node.src[0], node.attrs[0]
    shape = shape_of(node)
    store, offset, strides = program.memory(x)
    out = contiguous_strides(node.shape)
    known: dict[str, Any] = {
        "x": (store, offset),
        "values": (program.result(node, 0), 0),
        "places": (program.result(node, 1), 0),
        "work": (program.workspace(node), 0),
        "slots": shape.slots,
        "rows": shape.rows,
        "n": shape.n,
        "first": shape.first,
        "count": shape.count,
        "room": shape.room,
        "way": shape.way,
        "rule": shape.rule,
        "turn": -1 if shape.turned else 0,
        "xs": strides[dim],
        "os": out[dim],
    }
    kept = [k for k, n in enumerate(x.shape) if k != dim and n > 1]
    known["dims"] = len(kept)
    for at, k in enumerate(reversed(kept)):
        known[f"size{at}"], known[f"xs{at}"], known[f"os{at}"] = x.shape[k], strides[k], out[k]
    return [known.get(name, 0) for name in FIELDS]


class Writer(Function):
    """A function over one kind of elements."""

    def __init__(
        self, kind: Kind, name: str, params: list[tuple[str, str]], returns: str = "void"
    ) -> None:
        super().__init__(f"{name}_{kind.name}", params, returns, "nounwind noinline")
        self.kind = kind
        self.size = kind.bytes
        self.own = f"i{kind.bits}"
        self.part = f"i{kind.half}"

    # -- keys -----------------------------------------------------------------------------------

    def number(self, value: int, lanes: int) -> str:
        """A constant of the elements' bits, in every lane."""
        value &= (1 << self.kind.bits) - 1
        return str(value) if lanes == 1 else f"splat ({self.own} {value})"

    def key(self, raw: str, turn: str, lanes: int = 1) -> str:
        """The key of an element's bits, as wide as the element; `turn` is -1 to turn the order."""
        bits, sort = ELEMENTS[self.kind.name]
        kind = self.own if lanes == 1 else f"<{lanes} x {self.own}>"
        if sort == "signed":
            raw = self.op(f"xor {kind} {raw}, {self.number(1 << bits - 1, lanes)}")
        elif sort == "float":
            top = 1 << bits - 1
            size = self.op(f"and {kind} {raw}, {self.number(top - 1, lanes)}")
            infinity = self.number(_INFINITY[self.kind.name], lanes)
            nan = self.op(f"icmp ugt {kind} {size}, {infinity}")
            zero = self.op(f"icmp eq {kind} {size}, {self.number(0, lanes)}")
            flag = "i1" if lanes == 1 else f"<{lanes} x i1>"
            raw = self.op(f"select {flag} {zero}, {kind} {self.number(0, lanes)}, {kind} {raw}")
            sign = self.op(f"ashr {kind} {raw}, {self.number(bits - 1, lanes)}")
            flips = self.op(f"or {kind} {sign}, {self.number(top, lanes)}")
            raw = self.op(f"xor {kind} {raw}, {flips}")
            raw = self.op(f"select {flag} {nan}, {kind} {self.number(-1, lanes)}, {kind} {raw}")
        return self.op(f"xor {kind} {raw}, {turn}")

    def joined(self, key: str, place: Value) -> str:
        """A key with its place."""
        whole, half = self.kind.whole, self.kind.half
        high = self.op(f"zext {self.own} {key} to {whole}")
        high = self.op(f"shl {whole} {high}, {half}")
        low = f"{place}" if whole == "i64" else self.op(f"zext i64 {place} to {whole}")
        return self.op(f"or {whole} {high}, {low}")

    def key_of(self, both: str) -> str:
        """The key of a joined pair."""
        high = self.op(f"lshr {self.kind.whole} {both}, {self.kind.half}")
        return self.op(f"trunc {self.kind.whole} {high} to {self.own}")

    def raw(self, x: str, index: Value, stride: str) -> str:
        """An element of a row."""
        at = self.gep(self.own, x, self.mul(index, stride))
        return self.load(self.own, at, self.kind.bits // 8)

    def turned(self) -> str:
        """The parameter `turn` in the elements' width."""
        return "%turn" if self.own == "i64" else self.op(f"trunc i64 %turn to {self.own}")

    # -- buffers --------------------------------------------------------------------------------

    def at(self, buffer: str, index: Value) -> str:
        """The address of an element of a buffer."""
        return self.gep(self.kind.whole, buffer, index)

    def get(self, buffer: str, index: Value) -> str:
        """An element of a buffer."""
        return self.load(self.kind.whole, self.at(buffer, index), self.size)

    def put(self, value: str, buffer: str, index: Value) -> None:
        """Write an element of a buffer."""
        self.store(self.kind.whole, value, self.at(buffer, index), self.size)

    def digit(self, both: str, shift: Value, bits: int) -> str:
        """Some bits of a joined pair, as i64."""
        whole = self.kind.whole
        if whole != "i64" and not isinstance(shift, int):
            shift = self.op(f"zext i64 {shift} to {whole}")
        moved = self.op(f"lshr {whole} {both}, {shift}")
        if whole != "i64":
            moved = self.op(f"trunc {whole} {moved} to i64")
        return self.op(f"and i64 {moved}, {(1 << bits) - 1}")

    def counts(self, number: int) -> str:
        """Zeroed counters on the stack."""
        counters = self.alloca("i32", number, 64)
        self.do(f"call void @llvm.memset.p0.i64(ptr {counters}, i8 0, i64 {4 * number}, i1 false)")
        return counters

    def tally(self, counters: str, which: Value) -> str:
        """Add one to a counter; -> what it was."""
        place = self.gep("i32", counters, which)
        old = self.load("i32", place, 4)
        self.store("i32", self.op(f"add i32 {old}, 1"), place, 4)
        return old

    def call_sort(self, a: str, b: str, m: Value) -> str:
        """Sort `m` elements at `a`; -> where they are then, `a` or `b`."""
        return self.op(f"call ptr @sort_{self.kind.name}(ptr {a}, ptr {b}, i64 {m})")


def _build(kind: Kind) -> str:
    """void build(x, stride, turn, a, n): joined pairs of a row's first elements."""
    f = Writer(
        kind, "build", [("ptr", "x"), ("i64", "xs"), ("i64", "turn"), ("ptr", "a"), ("i64", "n")]
    )
    turn = f.turned()
    with f.loop("%n") as loop:
        key = f.key(f.raw("%x", loop.index, "%xs"), turn)
        f.put(f.joined(key, loop.index), "%a", loop.index)
    f.ret()
    return f.text()


def _insertion(kind: Kind) -> str:
    """void insertion(a, m)."""
    f = Writer(kind, "insertion", [("ptr", "a"), ("i64", "m")])
    place = f.alloca("i64")
    with f.loop("%m", start=1) as loop:
        moving = f.get("%a", loop.index)
        f.store("i64", loop.index, place, 8)
        tag = f.fresh("shift")
        f.label(f"{tag}.test")
        k = f.load("i64", place, 8)
        f.branch(f.cmp("sgt", k, 0), f"{tag}.look", f"{tag}.end")
        f.label(f"{tag}.look")
        before = f.sub(k, 1)
        other = f.get("%a", before)
        later = f.op(f"icmp ugt {kind.whole} {other}, {moving}")
        f.branch(later, f"{tag}.move", f"{tag}.end")
        f.label(f"{tag}.move")
        f.put(other, "%a", k)
        f.store("i64", before, place, 8)
        f.jump(f"{tag}.test")
        f.label(f"{tag}.end")
        f.put(moving, "%a", f.load("i64", place, 8))
    f.ret()
    return f.text()


def _radix(kind: Kind, bits: int) -> str:
    """ptr radix(a, b, m): by digits of `bits` bits, lowest first."""
    f = Writer(kind, f"radix{bits}", [("ptr", "a"), ("ptr", "b"), ("i64", "m")], "ptr")
    passes = -(-kind.bits // bits)
    counters = f.counts(passes << bits)
    shifts = [kind.half + bits * p for p in range(passes)]
    tables = [f.gep("i32", counters, p << bits) for p in range(passes)]
    with f.loop("%m", nonempty=True) as loop:
        both = f.get("%a", loop.index)
        for table, shift in zip(tables, shifts, strict=True):
            f.tally(table, f.digit(both, shift, bits))
    here, there = f.alloca("ptr"), f.alloca("ptr")
    f.store("ptr", "%a", here, 8)
    f.store("ptr", "%b", there, 8)
    for table, shift in zip(tables, shifts, strict=True):
        source = f.load("ptr", here, 8)
        first = f.digit(f.get(source, 0), shift, bits)
        same = f.op(f"zext i32 {f.load('i32', f.gep('i32', table, first), 4)} to i64")
        with f.when(f.cmp("ne", same, "%m")):
            with f.loop(1 << bits, carry=[("i32", "0")], nonempty=True) as loop:
                place = f.gep("i32", table, loop.index)
                old = f.load("i32", place, 4)
                f.store("i32", loop.carried[0], place, 4)
                loop.carry(f.op(f"add i32 {loop.carried[0]}, {old}"))
            target = f.load("ptr", there, 8)
            with f.loop("%m", nonempty=True) as loop:
                both = f.get(source, loop.index)
                to = f.tally(table, f.digit(both, shift, bits))
                f.put(both, target, f.op(f"zext i32 {to} to i64"))
            f.store("ptr", target, here, 8)
            f.store("ptr", source, there, 8)
    f.ret(f"ptr {f.load('ptr', here, 8)}")
    return f.text()


def _sort(kind: Kind) -> str:
    """ptr sort(a, b, m): a's elements in order; -> where they are, a or b."""
    f = Writer(kind, "sort", [("ptr", "a"), ("ptr", "b"), ("i64", "m")], "ptr")
    name = kind.name
    with f.when(f.cmp("sle", "%m", _INSERTION)):
        f.do(f"call void @insertion_{name}(ptr %a, i64 %m)")
        f.ret("ptr %a")
    with f.when(f.cmp("sle", "%m", _SHORT)):
        f.ret(f"ptr {f.op(f'call ptr @radix8_{name}(ptr %a, ptr %b, i64 %m)')}")
    f.ret(f"ptr {f.op(f'call ptr @radix{_DIGIT}_{name}(ptr %a, ptr %b, i64 %m)')}")
    return f.text()


def _filter(kind: Kind) -> str:
    """ptr filter(x, stride, turn, a, b, n, wanted, room): the first `wanted`, in order."""
    f = Writer(
        kind,
        "filter",
        [
            *(("ptr", "x"), ("i64", "xs"), ("i64", "turn"), ("ptr", "a"), ("ptr", "b")),
            *(("i64", "n"), ("i64", "wanted"), ("i64", "room")),
        ],
        "ptr",
    )
    own, align = f.own, kind.bits // 8
    vector = f"<{_LANES} x {own}>"
    turn = f.turned()
    turns = f.splat(_LANES, own, turn)
    lanes, keys = f.alloca(own, _LANES, 64), f.alloca(own, _LANES, 64)
    used, bar = f.alloca("i64"), f.alloca(own)

    def cut() -> None:
        """Keep the best of the buffer; the worst of them is the bar."""
        best = f.call_sort("%a", "%b", f.load("i64", used, 8))
        with f.when(f.op(f"icmp ne ptr {best}, %a")):
            size = f.mul("%wanted", kind.bytes)
            f.do(f"call void @llvm.memcpy.p0.p0.i64(ptr %a, ptr {best}, i64 {size}, i1 false)")
        f.store("i64", "%wanted", used, 8)
        f.store(own, f.key_of(f.get("%a", f.sub("%wanted", 1))), bar, align)

    start = f.min("%n", "%room")
    f.do(f"call void @build_{kind.name}(ptr %x, i64 %xs, i64 %turn, ptr %a, i64 {start})")
    f.store("i64", start, used, 8)
    cut()
    strided = f.cmp("ne", "%xs", 1)
    last = f.sub("%n", _LANES - 1)
    with f.loop(last, start, _LANES, carry=[("i64", str(start))]) as loop:
        with f.when(strided), f.loop(_LANES, nonempty=True) as lane:
            value = f.raw("%x", f.add(loop.index, lane.index), "%xs")
            f.store(own, value, f.gep(own, lanes, lane.index), align)
        near = f.gep(own, "%x", loop.index)
        block = f.load(vector, f.select(strided, lanes, near, "ptr"), align)
        key = f.key(block, turns, _LANES)
        high = f.splat(_LANES, own, f.load(own, bar, align))
        below = f.op(f"icmp ult {vector} {key}, {high}")
        bits = f.op(f"bitcast <{_LANES} x i1> {below} to i{_LANES}")
        with f.when(f.op(f"icmp ne i{_LANES} {bits}, 0")):
            f.store(vector, key, keys, 64)
            left = f.op(f"zext i{_LANES} {bits} to i64")
            number = f.op(f"call i64 @llvm.ctpop.i64(i64 {left})")
            m = f.load("i64", used, 8)
            with f.loop(number, carry=[("i64", left)], nonempty=True) as each:
                lane_at = f.op(f"call i64 @llvm.cttz.i64(i64 {each.carried[0]}, i1 true)")
                one = f.load(own, f.gep(own, keys, lane_at), align)
                f.put(f.joined(one, f.add(loop.index, lane_at)), "%a", f.add(m, each.index))
                less = f.sub(each.carried[0], 1)
                each.carry(f.op(f"and i64 {each.carried[0]}, {less}"))
            total = f.add(m, number)
            f.store("i64", total, used, 8)
            with f.when(f.cmp("sgt", total, "%room")):
                cut()
        loop.carry(str(f.add(loop.index, _LANES)))
    with f.loop("%n", loop.carried[0]) as loop:
        one = f.key(f.raw("%x", loop.index, "%xs"), turn)
        better = f.op(f"icmp ult {own} {one}, {f.load(own, bar, align)}")
        with f.when(better):
            m = f.load("i64", used, 8)
            f.put(f.joined(one, loop.index), "%a", m)
            f.store("i64", f.add(m, 1), used, 8)
    f.ret(f"ptr {f.call_sort('%a', '%b', f.load('i64', used, 8))}")
    return f.text()


def _narrow(kind: Kind) -> str:
    """void narrow(a, state, shift): drop elements whose digit holds none of the wanted ranks.

    state: elements, first rank, ranks, and whether all that is left has one digit.
    """
    bits = min(_DIGIT, kind.bits)
    f = Writer(kind, "narrow", [("ptr", "a"), ("ptr", "state"), ("i64", "shift")])
    m, first, count = (f.load("i64", f.gep("i64", "%state", k), 8) for k in range(3))
    counters = f.counts(1 << bits)
    with f.loop(m) as loop:
        f.tally(counters, f.digit(f.get("%a", loop.index), "%shift", bits))
    low, high, below = (f.alloca("i64") for _ in range(3))
    last = f.sub(f.add(first, count), 1)
    with f.loop(1 << bits, carry=[("i64", "0")], nonempty=True) as loop:
        here = f.op(f"zext i32 {f.load('i32', f.gep('i32', counters, loop.index), 4)} to i64")
        after = f.add(loop.carried[0], here)
        for rank, place in ((first, low), (last, high)):
            inside = f.both(f.cmp("sge", rank, loop.carried[0]), f.cmp("slt", rank, after))
            with f.when(inside):
                f.store("i64", loop.index, place, 8)
                if place is low:
                    f.store("i64", loop.carried[0], below, 8)
        loop.carry(str(after))
    lowest, highest = f.load("i64", low, 8), f.load("i64", high, 8)
    with f.loop(m, carry=[("i64", "0")]) as loop:
        both = f.get("%a", loop.index)
        digit = f.digit(both, "%shift", bits)
        f.put(both, "%a", loop.carried[0])
        taken = f.both(f.cmp("sge", digit, lowest), f.cmp("sle", digit, highest))
        loop.carry(str(f.add(loop.carried[0], f.op(f"zext i1 {taken} to i64"))))
    f.store("i64", loop.carried[0], "%state", 8)
    f.store("i64", f.sub(first, f.load("i64", below, 8)), f.gep("i64", "%state", 1), 8)
    one = f.op(f"zext i1 {f.cmp('eq', lowest, highest)} to i64")
    f.store("i64", one, f.gep("i64", "%state", 3), 8)
    f.ret()
    return f.text()


def _store_results(f: Writer, w: dict[str, str], found: str, x: str, out: Value) -> None:
    """Values and places of `count` joined pairs at `found`."""
    kind, own, align = f.kind, f.own, f.kind.bits // 8
    bits, sort = ELEMENTS[kind.name]
    top = 1 << bits - 1
    turn = w["turn"] if own == "i64" else f.op(f"trunc i64 {w['turn']} to {own}")
    values, places = f.gep(own, w["values"], out), f.gep("i64", w["places"], out)
    with f.loop(w["count"]) as loop:
        both = f.get(found, loop.index)
        place = both
        if kind.whole == "i64":
            place = f.op(f"and i64 {both}, {(1 << 32) - 1}")
        else:
            place = f.op(f"trunc {kind.whole} {both} to i64")
        key = f.op(f"xor {own} {f.key_of(both)}, {turn}")
        value = key
        if sort == "signed":
            value = f.op(f"xor {own} {key}, {f.number(top, 1)}")
        elif sort == "float":
            sign = f.op(f"ashr {own} {key}, {bits - 1}")
            flips = f.op(f"or {own} {f.op(f'xor {own} {sign}, -1')}, {f.number(top, 1)}")
            value = f.op(f"xor {own} {key}, {flips}")
            zero = f.op(f"icmp eq {own} {key}, {f.number(top, 1)}")
            nan = f.op(f"icmp eq {own} {key}, -1")
            with f.merge(f.either(zero, nan), [own], [value]) as exact:  # -0, and bits of a NaN
                exact[0] = f.raw(x, place, w["xs"])
            value = exact[0]
        at = f.mul(loop.index, w["os"])
        f.store(own, value, f.gep(own, values, at), align)
        f.store("i64", place, f.gep("i64", places, at), 8)


def _task(kind: Kind) -> str:
    """void task(table, begin, end, worker): the rows of some slots."""
    f = Writer(
        kind, "rank_task", [("ptr", "t"), ("i64", "begin"), ("i64", "end"), ("i64", "worker")]
    )
    w = {
        name: f.load("ptr" if name in _POINTERS else "i64", f.gep("i64", "%t", k), 8)
        for k, name in enumerate(FIELDS[: FIELDS.index("size0")])
    }
    sizes = FIELDS.index("size0")
    name, levels = kind.name, -(-kind.bits // _DIGIT)
    state, found = f.alloca("i64", 4), f.alloca("ptr")
    stored = f.add(w["room"], 2 * _LANES)
    with f.loop("%end", "%begin", nonempty=True) as slot:
        a = f.at(w["work"], f.mul(f.mul(slot.index, stored), 2))
        b = f.at(a, stored)
        with f.loop(w["rows"], slot.index, w["slots"]) as row:
            with f.loop(
                w["dims"], carry=[("i64", str(row.index)), ("i64", "0"), ("i64", "0")]
            ) as dim:
                at = f.add(f.mul(dim.index, 3), sizes)
                size, xs, os = (
                    f.load("i64", f.gep("i64", "%t", f.add(at, k)), 8) for k in range(3)
                )
                rest, x_at, o_at = dim.carried
                k = f.urem(rest, size)
                dim.carry(
                    str(f.udiv(rest, size)),
                    str(f.add(x_at, f.mul(k, xs))),
                    str(f.add(o_at, f.mul(k, os))),
                )
            x, out = f.gep(f.own, w["x"], dim.carried[1]), dim.carried[2]
            given = f"ptr {x}, i64 {w['xs']}, i64 {w['turn']}, ptr {a}"
            filtered = f.cmp("eq", w["way"], FILTER)
            with f.when(filtered):
                end = f.add(w["first"], w["count"])
                best = f.op(
                    f"call ptr @filter_{name}({given}, ptr {b}, i64 {w['n']}, i64 {end}, "
                    f"i64 {w['room']})"
                )
                f.store("ptr", f.at(best, w["first"]), found, 8)
            with f.when(f.op(f"xor i1 {filtered}, true")):
                f.do(f"call void @build_{name}({given}, i64 {w['n']})")
                f.store("i64", w["n"], state, 8)
                f.store("i64", _first_rank(f, w, a), f.gep("i64", state, 1), 8)
                f.store("i64", w["count"], f.gep("i64", state, 2), 8)
                one = f.op(f"zext i1 {f.cmp('eq', w['way'], NARROW)} to i64")
                f.store("i64", one, f.gep("i64", state, 3), 8)
                for level in range(levels):
                    shift = kind.half + max(kind.bits - _DIGIT * (level + 1), 0)
                    more = f.cmp("ne", f.load("i64", f.gep("i64", state, 3), 8), 0)
                    many = f.cmp("sgt", f.load("i64", state, 8), _INSERTION)
                    with f.when(f.both(more, many)):
                        f.do(f"call void @narrow_{name}(ptr {a}, ptr {state}, i64 {shift})")
                best = f.call_sort(a, b, f.load("i64", state, 8))
                f.store("ptr", f.at(best, f.load("i64", f.gep("i64", state, 1), 8)), found, 8)
            _store_results(f, w, f.load("ptr", found, 8), x, out)
    f.ret()
    return f.text()


def _first_rank(f: Writer, w: dict[str, str], a: str) -> str:
    """The first wanted rank of a row, whose joined pairs are at `a`."""
    with f.merge(f.cmp("ne", w["rule"], GIVEN), ["i64"], [w["first"]]) as rank:
        numbers: Value = w["n"]
        if ELEMENTS[f.kind.name][1] == "float":
            with f.loop(w["n"], carry=[("i64", w["n"])], nonempty=True) as loop:
                nan = f.op(f"icmp eq {f.own} {f.key_of(f.get(a, loop.index))}, -1")
                less = f.op(f"zext i1 {nan} to i64")
                loop.carry(str(f.sub(loop.carried[0], less)))
            numbers = loop.carried[0]
        middle = f.udiv(f.max(f.sub(numbers, 1), 0), 2)
        stops = f.both(f.cmp("ne", numbers, w["n"]), f.cmp("eq", w["rule"], MIDDLE))
        rank[0] = f.select(stops, numbers, middle)
    return rank[0]


def symbol(dtype_name: str) -> str:
    """The kernel's name."""
    return f"fl_rank_{dtype_name}"


def module_text(dtype_name: str) -> str:
    """LLVM IR of the kernel for elements of one dtype."""
    kind = Kind(dtype_name)
    parts = [_build(kind), _insertion(kind), _radix(kind, 8), _radix(kind, _DIGIT), _sort(kind)]
    parts += [_filter(kind), _narrow(kind), _task(kind)]
    slots = FIELDS.index("slots")
    return f"""declare void @fl_parallel_for(ptr, ptr, i64, i64)
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
declare i64 @llvm.smin.i64(i64, i64)
declare i64 @llvm.smax.i64(i64, i64)
declare i64 @llvm.ctpop.i64(i64)
declare i64 @llvm.cttz.i64(i64, i1)
{"".join(parts)}define void @{symbol(dtype_name)}(ptr %table) {{
 %p = getelementptr i64, ptr %table, i64 {slots}
 %slots = load i64, ptr %p
 call void @fl_parallel_for(ptr @rank_task_{dtype_name}, ptr %table, i64 %slots, i64 1)
 ret void
}}
"""
