"""A small expression builder for LLVM IR text: vector formulas that read as formulas.

`Builder` numbers SSA values and collects lines; `Value` overloads the arithmetic and comparison
operators, so that `fma(r, q, 1.0) * scale` in Python is two instructions in IR. Python numbers
become constant splats of the type of the other operand. No fast-math flag is ever emitted.

A `lanes` of 1 uses scalar types, anything else `<lanes x T>`.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TypeAlias

ELEMENT = {"f32": "float", "f64": "double", "i1": "i1", "i32": "i32", "i64": "i64"}
INTEGER_OF = {"f32": "i32", "f64": "i64"}
MANTISSA_BITS = {"f32": 23, "f64": 52}
EXPONENT_BIAS = {"f32": 127, "f64": 1023}

Operand: TypeAlias = "Value | float | int"


def float_literal(kind: str, number: float) -> str:
    """The LLVM literal of `number` rounded to `kind`, by the bits of the f64 for f32 too."""
    if kind == "f32":
        number = round_to_f32(number)
    return f"0x{struct.unpack('<Q', struct.pack('<d', number))[0]:016X}"


def round_to_f32(number: float) -> float:
    """`number` rounded to the nearest single precision value."""
    try:
        return float(struct.unpack("<f", struct.pack("<f", number))[0])
    except OverflowError:
        return float("inf") if number > 0 else float("-inf")


class Value:
    """An SSA value or constant of one kind ('f32', 'f64', 'i1', 'i32', 'i64') in a `Builder`."""

    __slots__ = ("builder", "kind", "ref")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, builder: Builder, ref: str, kind: str) -> None:
        self.builder, self.ref, self.kind = builder, ref, kind

    @property
    def typed(self) -> str:
        """The operand with its type, as in `<16 x float> %3`."""
        return f"{self.builder.type(self.kind)} {self.ref}"

    @property
    def is_float(self) -> bool:
        """Whether this is floating point."""
        return self.kind in MANTISSA_BITS

    def _binary(self, float_op: str, int_op: str, other: Operand, swap: bool = False) -> Value:
        right = self.builder.value(other, self.kind)
        left, right = (right, self) if swap else (self, right)
        if left.kind != right.kind:
            raise TypeError(f"operands of kinds {left.kind} and {right.kind}")
        op = float_op if self.is_float else int_op
        if not op:
            raise TypeError(f"no such operation on {self.kind}")
        return self.builder.emit(f"{op} {left.typed}, {right.ref}", self.kind)

    def __add__(self, other: Operand) -> Value:
        return self._binary("fadd", "add", other)

    def __radd__(self, other: Operand) -> Value:
        return self._binary("fadd", "add", other, swap=True)

    def __sub__(self, other: Operand) -> Value:
        return self._binary("fsub", "sub", other)

    def __rsub__(self, other: Operand) -> Value:
        return self._binary("fsub", "sub", other, swap=True)

    def __mul__(self, other: Operand) -> Value:
        return self._binary("fmul", "mul", other)

    def __rmul__(self, other: Operand) -> Value:
        return self._binary("fmul", "mul", other, swap=True)

    def __truediv__(self, other: Operand) -> Value:
        return self._binary("fdiv", "", other)

    def __rtruediv__(self, other: Operand) -> Value:
        return self._binary("fdiv", "", other, swap=True)

    def __and__(self, other: Operand) -> Value:
        return self._binary("", "and", other)

    def __or__(self, other: Operand) -> Value:
        return self._binary("", "or", other)

    def __xor__(self, other: Operand) -> Value:
        return self._binary("", "xor", other)

    def __lshift__(self, other: Operand) -> Value:
        return self._binary("", "shl", other)

    def __rshift__(self, other: Operand) -> Value:
        """Arithmetic shift right (see `logical_shift_right` for the other)."""
        return self._binary("", "ashr", other)

    def logical_shift_right(self, other: Operand) -> Value:
        """Shift right filling with zeros."""
        return self._binary("", "lshr", other)

    def __invert__(self) -> Value:
        return self ^ (1 if self.kind == "i1" else -1)

    def __neg__(self) -> Value:
        if self.is_float:
            return self.builder.emit(f"fneg {self.typed}", self.kind)
        return 0 - self

    def _compare(self, float_op: str, int_op: str, other: Operand) -> Value:
        right = self.builder.value(other, self.kind)
        op = f"fcmp {float_op}" if self.is_float else f"icmp {int_op}"
        return self.builder.emit(f"{op} {self.typed}, {right.ref}", "i1")

    def __lt__(self, other: Operand) -> Value:
        return self._compare("olt", "slt", other)

    def __le__(self, other: Operand) -> Value:
        return self._compare("ole", "sle", other)

    def __gt__(self, other: Operand) -> Value:
        return self._compare("ogt", "sgt", other)

    def __ge__(self, other: Operand) -> Value:
        return self._compare("oge", "sge", other)

    def equals(self, other: Operand) -> Value:
        """Ordered equality: false for a NaN."""
        return self._compare("oeq", "eq", other)

    def differs(self, other: Operand) -> Value:
        """Inequality; true for a NaN."""
        return self._compare("une", "ne", other)

    def is_nan(self) -> Value:
        """True where this is NaN."""
        return self._compare("uno", "", self)


class Builder:
    """Emits the body of one function over `lanes` elements of `dtype` ('f32' or 'f64')."""

    def __init__(self, dtype: str, lanes: int) -> None:
        self.dtype, self.lanes = dtype, lanes
        self.prologue: list[str] = []
        self.lines: list[str] = []
        self.declarations: set[str] = set()
        self.functions: dict[str, str] = {}
        self._count = 0

    # Types, constants, raw instructions

    def type(self, kind: str) -> str:
        """The LLVM type of `lanes` elements of `kind`."""
        element = ELEMENT[kind]
        return element if self.lanes == 1 else f"<{self.lanes} x {element}>"

    def suffix(self, kind: str) -> str:
        """The intrinsic name suffix of `type(kind)`, as in `v16f32`."""
        return kind if self.lanes == 1 else f"v{self.lanes}{kind}"

    def const(self, number: float, kind: str | None = None) -> Value:
        """A constant splat."""
        kind = kind or self.dtype
        if kind in MANTISSA_BITS:
            literal = float_literal(kind, float(number))
        else:
            bits = {"i1": 1, "i32": 32, "i64": 64}[kind]
            wrapped = int(number) & ((1 << bits) - 1)
            if kind == "i1":
                literal = "true" if wrapped else "false"
            else:
                literal = str(wrapped - (1 << bits) if wrapped >> (bits - 1) else wrapped)
        if self.lanes > 1:
            literal = f"splat ({ELEMENT[kind]} {literal})"
        return Value(self, literal, kind)

    def value(self, operand: Operand, kind: str) -> Value:
        """`operand` itself, or the constant of `kind` if it is a Python number."""
        return operand if isinstance(operand, Value) else self.const(operand, kind)

    def name(self) -> str:
        """A fresh SSA name."""
        self._count += 1
        return f"%v{self._count}"

    def emit(self, instruction: str, kind: str) -> Value:
        """Appends an instruction and returns its result."""
        result = Value(self, self.name(), kind)
        self.lines.append(f"  {result.ref} = {instruction}")
        return result

    def label(self, name: str) -> None:
        """Starts a basic block."""
        self.lines.append(f"{name}:")

    def jump(self, target: str) -> None:
        """Unconditional branch."""
        self.lines.append(f"  br label %{target}")

    def branch(self, condition: Value, yes: str, no: str) -> None:
        """Conditional branch on a scalar i1 value, expected to be false."""
        self.lines.append(f"  br i1 {condition.ref}, label %{yes}, label %{no}")

    def phi(self, kind: str, incoming: Sequence[tuple[Value, str]]) -> Value:
        """Merges values by the block they come from."""
        pairs = ", ".join(f"[ {value.ref}, %{block} ]" for value, block in incoming)
        return self.emit(f"phi {self.type(kind)} {pairs}", kind)

    def intrinsic(self, base: str, *args: Value) -> Value:
        """Calls the elementwise intrinsic `llvm.BASE.SUFFIX`, declaring it."""
        kind = args[0].kind
        name = f"@llvm.{base}.{self.suffix(kind)}"
        result_type = self.type(kind)
        self.declarations.add(
            f"declare {result_type} {name}({', '.join(self.type(a.kind) for a in args)})"
        )
        return self.emit(f"call {result_type} {name}({', '.join(a.typed for a in args)})", kind)

    # Operations that are not operators

    def fma(self, a: Operand, b: Operand, c: Operand) -> Value:
        """a*b + c with one rounding."""
        kind = next(v.kind for v in (a, b, c) if isinstance(v, Value))
        return self.intrinsic("fma", *(self.value(v, kind) for v in (a, b, c)))

    def fnma(self, a: Operand, b: Operand, c: Operand) -> Value:
        """c - a*b with one rounding."""
        if isinstance(b, (float, int)):
            return self.fma(a, -b, c)
        return self.fma(-self.value(a, b.kind), b, c)

    def sqrt(self, a: Value) -> Value:
        """Square root, correctly rounded."""
        return self.intrinsic("sqrt", a)

    def abs(self, a: Value) -> Value:
        """|a|, by clearing the sign."""
        return self.intrinsic("fabs", a)

    def floor(self, a: Value) -> Value:
        """Greatest integer not above a."""
        return self.intrinsic("floor", a)

    def copysign(self, magnitude: Value, sign: Value) -> Value:
        """|magnitude| with the sign of `sign`."""
        return self.intrinsic("copysign", magnitude, sign)

    def select(self, mask: Value, yes: Operand, no: Operand) -> Value:
        """`yes` where `mask`, else `no`."""
        kind = next((v.kind for v in (yes, no) if isinstance(v, Value)), self.dtype)
        a, b = self.value(yes, kind), self.value(no, kind)
        return self.emit(f"select {mask.typed}, {a.typed}, {b.typed}", kind)

    def at_most(self, a: Value, bound: Operand) -> Value:
        """min(a, bound), keeping a NaN in `a` (one minps: the select's order matters)."""
        limit = self.value(bound, a.kind)
        return self.select(limit < a, limit, a)

    def at_least(self, a: Value, bound: Operand) -> Value:
        """max(a, bound), keeping a NaN in `a`."""
        limit = self.value(bound, a.kind)
        return self.select(limit > a, limit, a)

    def bitcast(self, a: Value, kind: str) -> Value:
        """The same bits as another kind of the same width."""
        return self.emit(f"bitcast {a.typed} to {self.type(kind)}", kind)

    def bits(self, a: Value) -> Value:
        """The bits of a float as an integer of the same width."""
        return self.bitcast(a, INTEGER_OF[a.kind])

    def convert(self, a: Value, kind: str) -> Value:
        """Value conversion among f32, f64, i32, i64 (signed); integers must be in range."""
        if a.kind == kind:
            return a
        if a.is_float and kind in MANTISSA_BITS:
            op = "fpext" if kind == "f64" else "fptrunc"
        elif a.is_float:
            op = "fptosi"
        elif kind in MANTISSA_BITS:
            op = "uitofp" if a.kind == "i1" else "sitofp"
        else:
            wide = {"i1": 1, "i32": 32, "i64": 64}
            narrow = "zext" if a.kind == "i1" else "sext"
            op = "trunc" if wide[kind] < wide[a.kind] else narrow
        return self.emit(f"{op} {a.typed} to {self.type(kind)}", kind)

    def horner(self, x: Value, coefficients: Sequence[float]) -> Value:
        """sum c_k x^k, coefficients from the lowest power up, in Horner's order with fma."""
        result = self.const(coefficients[-1], x.kind)
        for c in reversed(coefficients[:-1]):
            result = self.fma(result, x, c)
        return result

    def any(self, mask: Value) -> Value:
        """True (a scalar) if any lane of `mask` is. Only for branching."""
        if self.lanes == 1:
            return mask
        name = f"@llvm.vector.reduce.or.v{self.lanes}i1"
        self.declarations.add(f"declare i1 {name}(<{self.lanes} x i1>)")
        return self.emit(f"call i1 {name}({mask.typed})", "i1")

    # Exact arithmetic of pairs

    def two_sum(self, a: Value, b: Value) -> tuple[Value, Value]:
        """(s, e) with s = fl(a + b) and s + e = a + b exactly (Knuth)."""
        s = a + b
        t = s - a
        return s, (a - (s - t)) + (b - t)

    def fast_two_sum(self, a: Value, b: Value) -> tuple[Value, Value]:
        """(s, e) with s + e = a + b exactly where |a| >= |b| (Dekker)."""
        s = a + b
        return s, b - (s - a)

    def two_product(self, a: Value, b: Operand) -> tuple[Value, Value]:
        """(p, e) with p = fl(a*b) and p + e = a*b exactly."""
        p = a * b
        return p, self.fma(a, b, -p)

    # Whole functions

    def function(self, name: str, parameters: Sequence[str], result: Value) -> str:
        """The text of the function whose body was built and whose value is `result`."""
        args = ", ".join(f"{self.type(self.dtype)} %{p}" for p in parameters)
        body = "\n".join(self.prologue + self.lines)
        return (
            f"define internal {self.type(result.kind)} @{name}({args}) alwaysinline nounwind {{\n"
            f"entry:\n{body}\n  ret {result.typed}\n}}\n"
        )
