"""Structured LLVM IR text: functions written with loops and branches instead of labels and phis.

The kernel templates need exact control of vector types, registers and addresses, and fast
generation, so they write LLVM IR text directly. `Function` keeps that text readable: it numbers the
temporaries, names the blocks and closes loops. Integers are i64 unless said otherwise and may be
given as Python ints, which fold.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from flambeau.codegen.lowerings import Builder

Value = str | int


def float_bits(x: float) -> int:
    """The bits of a float64 as the word of a table."""
    return struct.unpack("<q", struct.pack("<d", x))[0]


class Loop:
    """A counted loop being written: `index` is the induction variable, `carried` the loop-carried
    values.
    """

    def __init__(self, index: str, carried: list[str]) -> None:
        self.index = index
        self.carried = carried
        self.following: list[str] = []

    def carry(self, *values: str) -> None:
        """Give the values that the next iteration sees in `carried`, in order."""
        self.following = list(values)


class Function:
    """One LLVM function under construction.

    Args:
        name: symbol name without `@`.
        params: (type, name) of each parameter; `%name` is its value.
        returns: LLVM return type.
        attributes: function attributes after the parameter list, e.g. `noinline`.
        linkage: `""` for an exported symbol, else e.g. `internal`.
    """

    def __init__(
        self,
        name: str,
        params: Sequence[tuple[str, str]],
        returns: str = "void",
        attributes: str = "nounwind",
        linkage: str = "internal",
    ) -> None:
        signature = ", ".join(f"{kind} %{label}" for kind, label in params)
        self.head = f"define {linkage} {returns} @{name}({signature}) {attributes} {{"
        self.allocas: list[str] = []
        self.lines: list[str] = []
        self.block = "entry"
        self.count = 0
        self.open = True

    def text(self) -> str:
        """The function as LLVM IR text."""
        return "\n".join([self.head, "entry:", *self.allocas, *self.lines, "}", ""])

    def fresh(self, stem: str = "t") -> str:
        """A name not used before in this function."""
        self.count += 1
        return f"{stem}{self.count}"

    def op(self, text: str) -> str:
        """Append an instruction that has a result; returns the result's name."""
        name = "%" + self.fresh()
        self.lines.append(f" {name} = {text}")
        return name

    def do(self, text: str) -> None:
        """Append an instruction without a result."""
        self.lines.append(" " + text)

    def label(self, name: str) -> None:
        """Start block `name`, falling through from the open block."""
        if self.open:
            self.do(f"br label %{name}")
        self.lines.append(f"{name}:")
        self.block = name
        self.open = True

    def jump(self, name: str) -> None:
        """End the open block with a branch to `name`."""
        self.do(f"br label %{name}")
        self.open = False

    def branch(self, condition: str, yes: str, no: str) -> None:
        """End the open block with a conditional branch."""
        self.do(f"br i1 {condition}, label %{yes}, label %{no}")
        self.open = False

    def ret(self, value: str = "void") -> None:
        """Return from the function; ends the open block."""
        self.do(f"ret {value}")
        self.open = False

    def alloca(self, kind: str, count: int = 1, align: int = 8) -> str:
        """Stack memory for `count` elements, allocated once on entry."""
        name = "%" + self.fresh("s")
        self.allocas.append(f" {name} = alloca {kind}, i64 {count}, align {align}")
        return name

    # Integer arithmetic on i64, folding constants so that templates may pass Python ints.
    def add(self, a: Value, b: Value) -> Value:
        """a + b."""
        if isinstance(a, int) and isinstance(b, int):
            return a + b
        if a == 0:
            return b
        if b == 0:
            return a
        return self.op(f"add i64 {a}, {b}")

    def sub(self, a: Value, b: Value) -> Value:
        """a - b."""
        if isinstance(a, int) and isinstance(b, int):
            return a - b
        return a if b == 0 else self.op(f"sub i64 {a}, {b}")

    def mul(self, a: Value, b: Value) -> Value:
        """a * b."""
        if isinstance(a, int) and isinstance(b, int):
            return a * b
        if a == 1:
            return b
        if b == 1:
            return a
        return self.op(f"mul i64 {a}, {b}")

    def udiv(self, a: Value, b: Value) -> Value:
        """a // b of values that are not negative; b > 0."""
        if isinstance(a, int) and isinstance(b, int):
            return a // b
        return a if b == 1 else self.op(f"udiv i64 {a}, {b}")

    def urem(self, a: Value, b: Value) -> Value:
        """a % b of values that are not negative; b > 0."""
        return a % b if isinstance(a, int) and isinstance(b, int) else self.op(f"urem i64 {a}, {b}")

    def ceildiv(self, a: Value, b: Value) -> Value:
        """ceil(a / b) of values that are not negative; b > 0."""
        return self.udiv(self.add(a, self.sub(b, 1)), b)

    def min(self, a: Value, b: Value) -> str:
        """The smaller of two signed i64."""
        return self.op(f"call i64 @llvm.smin.i64(i64 {a}, i64 {b})")

    def max(self, a: Value, b: Value) -> str:
        """The larger of two signed i64."""
        return self.op(f"call i64 @llvm.smax.i64(i64 {a}, i64 {b})")

    def cmp(self, predicate: str, a: Value, b: Value) -> str:
        """i1 `a predicate b`, with LLVM's icmp predicates (eq, ne, slt, sle, sgt, sge, ult ...)."""
        return self.op(f"icmp {predicate} i64 {a}, {b}")

    def both(self, a: str, b: str) -> str:
        """Logical and of two i1."""
        return self.op(f"and i1 {a}, {b}")

    def either(self, a: str, b: str) -> str:
        """Logical or of two i1."""
        return self.op(f"or i1 {a}, {b}")

    def select(self, condition: str, a: Value, b: Value, kind: str = "i64") -> str:
        """a where condition, else b."""
        return self.op(f"select i1 {condition}, {kind} {a}, {kind} {b}")

    def gep(self, kind: str, base: str, index: Value) -> str:
        """Address of element `index` of an array of `kind` at `base`."""
        if index == 0:
            return base
        return self.op(f"getelementptr {kind}, ptr {base}, i64 {index}")

    def load(self, kind: str, address: str, align: int) -> str:
        """Load a value of type `kind`."""
        return self.op(f"load {kind}, ptr {address}, align {align}")

    def store(self, kind: str, value: Value, address: str, align: int) -> None:
        """Store a value of type `kind`."""
        self.do(f"store {kind} {value}, ptr {address}, align {align}")

    def prefetch(self, address: str, write: bool = False, near: int = 3) -> None:
        """Ask for the cache line at any address, for the first level (near 3) or the second (2)."""
        how = f"i32 {int(write)}, i32 {near}, i32 1"
        self.do(f"call void @llvm.prefetch.p0(ptr {address}, {how})")

    def opaque(self, kind: str, value: Value) -> str:
        """The same scalar, of which LLVM knows nothing."""
        return self.op(f'call {kind} asm "", "=r,0"({kind} {value})')

    def splat(self, count: int, kind: str, value: Value) -> str:
        """Vector of `count` copies of a scalar of type `kind`."""
        one = self.op(f"insertelement <{count} x {kind}> poison, {kind} {value}, i32 0")
        return self.op(
            f"shufflevector <{count} x {kind}> {one}, <{count} x {kind}> poison, "
            f"<{count} x i32> zeroinitializer"
        )

    def shuffle(self, count: int, kind: str, a: str, b: str, order: Sequence[int]) -> str:
        """Vector of len(order) elements picked from a (0..count-1) and b (count..2*count-1)."""
        picks = ", ".join(f"i32 {p}" for p in order)
        return self.op(
            f"shufflevector <{count} x {kind}> {a}, <{count} x {kind}> {b}, "
            f"<{len(order)} x i32> <{picks}>"
        )

    @contextmanager
    def loop(
        self,
        stop: Value,
        start: Value = 0,
        step: Value = 1,
        carry: Sequence[tuple[str, str]] = (),
        nonempty: bool = False,
    ) -> Iterator[Loop]:
        """for index in range(start, stop, step), with loop-carried values.

        Args:
            stop, start, step: i64; step > 0.
            carry: (type, initial value) of each carried value. After the loop, `Loop.carried` holds
                the last values.
            nonempty: the caller knows that start < stop, so no test is made before the first
                iteration.
        """
        tag = self.fresh("loop")
        before, body, after = f"{tag}.pre", f"{tag}.body", f"{tag}.end"
        self.label(before)
        if nonempty:
            self.jump(body)
        else:
            self.branch(self.cmp("slt", start, stop), body, after)
        self.label(body)
        place = len(self.lines)
        index = f"%{tag}.i"
        names = [f"%{tag}.c{n}" for n in range(len(carry))]
        state = Loop(index, list(names))
        yield state
        following = self.add(index, step)
        values = state.following or names
        latch = self.block
        self.branch(self.cmp("slt", following, stop), body, after)
        phis = [f" {index} = phi i64 [{start}, %{before}], [{following}, %{latch}]"]
        for (kind, initial), name, value in zip(carry, names, values, strict=True):
            phis.append(f" {name} = phi {kind} [{initial}, %{before}], [{value}, %{latch}]")
        self.lines[place:place] = phis
        self.label(after)
        results = []
        for number, ((kind, initial), value) in enumerate(zip(carry, values, strict=True)):
            result = f"%{tag}.r{number}"
            first = "" if nonempty else f"[{initial}, %{before}], "
            self.lines.append(f" {result} = phi {kind} {first}[{value}, %{latch}]")
            results.append(result)
        state.carried = results

    @contextmanager
    def when(self, condition: str) -> Iterator[None]:
        """if condition: ...  (a body that returns is fine)."""
        tag = self.fresh("if")
        self.branch(condition, f"{tag}.then", f"{tag}.end")
        self.label(f"{tag}.then")
        yield
        self.label(f"{tag}.end")

    @contextmanager
    def merge(
        self, condition: str, kinds: Sequence[str], otherwise: Sequence[str]
    ) -> Iterator[list[str]]:
        """if condition: ... for values: the body replaces entries of the yielded list; it holds the
        phis afterwards.
        """
        tag = self.fresh("if")
        before = self.block
        self.branch(condition, f"{tag}.then", f"{tag}.end")
        self.label(f"{tag}.then")
        values = list(otherwise)
        yield values
        inside = self.block
        self.label(f"{tag}.end")
        for number, kind in enumerate(kinds):
            values[number] = self.op(
                f"phi {kind} [{otherwise[number]}, %{before}], [{values[number]}, %{inside}]"
            )


class Module:
    """What the functions of a module need declared, and the vector functions they call."""

    def __init__(self) -> None:
        self.declared: set[str] = set()
        self.math: set[tuple[str, str, int]] = set()


class Writer(Builder):
    """A builder whose lines are those of a `Function`.

    Args:
        f: the function being written.
        module: that the function is part of.
    """

    def __init__(self, f: Function, module: Module) -> None:
        super().__init__()
        self.f = f
        self.lines = f.lines
        self.declared = module.declared
        self.math = module.math
        self.error = lambda condition, kind: None  # a division by 0 gives what it gives

    def fresh(self) -> str:
        """A name that is not in use yet."""
        return "%" + self.f.fresh("v")


class Words:
    """The words of the table that a kernel is given, loaded by name once in a function.

    Args:
        f: the function being written, of which a parameter is the table's address.
        fields: names of the words, in order.
        kind_of: name -> the LLVM type of the word.
        table: the parameter.
    """

    def __init__(
        self, f: Function, fields: Sequence[str], kind_of: Callable[[str], str], table: str = "%t"
    ) -> None:
        self.f = f
        self.at = {name: k for k, name in enumerate(fields)}
        self.kind_of = kind_of
        self.table = table
        self.known: dict[str, str] = {}

    def preload(self, *names: str) -> Words:
        """Load words on entry, so that loops and branches only use them; -> itself."""
        for name in names:
            self[name]
        return self

    def place(self, name: str) -> str:
        """The address of a word."""
        return self.f.gep("i64", self.table, self.at[name])

    def __getitem__(self, name: str) -> str:
        if name not in self.known:
            self.known[name] = self.f.load(self.kind_of(name), self.place(name), 8)
        return self.known[name]
