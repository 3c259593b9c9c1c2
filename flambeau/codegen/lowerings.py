"""The llvm target's dict: elementwise row -> LLVM IR on vectors of the compute type.

A lowering gets the builder, the node, and one `Value` per source, all of the node's compute types;
it returns the result. Half types arrive as float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from flambeau.codegen import vecmath
from flambeau.dtype import dtype as DType
from flambeau.ir.graph import Node

#: dtype name -> (type in memory, type computed with)
TYPES = {
    "float32": ("float", "float"),
    "float64": ("double", "double"),
    "bfloat16": ("bfloat", "float"),
    "float16": ("half", "float"),
    "int64": ("i64", "i64"),
    "int32": ("i32", "i32"),
    "int16": ("i16", "i16"),
    "int8": ("i8", "i8"),
    "uint8": ("i8", "i8"),
    "uint16": ("i16", "i16"),
    "uint32": ("i32", "i32"),
    "uint64": ("i64", "i64"),
    "bool": ("i8", "i1"),
}
BITS = {
    "float": 32,
    "double": 64,
    "half": 16,
    "bfloat": 16,
    "i64": 64,
    "i32": 32,
    "i16": 16,
    "i8": 8,
    "i1": 1,
}
_MANGLED = {"float": "f32", "double": "f64", "half": "f16", "bfloat": "bf16"}


@dataclass(frozen=True, slots=True)
class Value:
    """An SSA value (or literal) of element type `type`; `lanes` is 1 for scalars."""

    name: str
    type: str
    lanes: int
    level: int = 0

    @property
    def full(self) -> str:
        """The LLVM type: of one element, or of a vector."""
        return vector_type(self.type, self.lanes)

    def __str__(self) -> str:
        return f"{self.full} {self.name}"


def vector_type(element: str, lanes: int) -> str:
    """`float` or `<16 x float>`."""
    return element if lanes == 1 else f"<{lanes} x {element}>"


def mangled(element: str, lanes: int) -> str:
    """The suffix of an intrinsic's name."""
    short = _MANGLED.get(element, element)
    return short if lanes == 1 else f"v{lanes}{short}"


def literal(value: Any, element: str) -> str:
    """A constant of an element type as LLVM writes it."""
    if element in ("float", "double"):
        x = float(np.float32(value)) if element == "float" else float(value)
        return f"0x{np.float64(x).view(np.uint64):016X}"
    if element == "i1":
        return "true" if value else "false"
    return str(int(value))


class Builder:
    """Appends instructions to a list of lines and keeps what the module must declare."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.count = 0
        self.declared: set[str] = set()
        self.math: set[tuple[str, str, int]] = set()
        self.error: Callable[[Value, str], None] | None = None

    def fresh(self) -> str:
        """A name that is not in use yet."""
        self.count += 1
        return f"%v{self.count}"

    def emit(self, text: str) -> None:
        """Write a line."""
        self.lines.append(" " + text)

    def set(self, text: str, element: str, lanes: int, level: int = 0) -> Value:
        """Write `name = text` under a new name; -> its value."""
        name = self.fresh()
        self.lines.append(f" {name} = {text}")
        return Value(name, element, lanes, level)

    def const(self, value: Any, element: str, lanes: int) -> Value:
        """A constant, in all lanes."""
        text = literal(value, element)
        if lanes == 1:
            return Value(text, element, 1)
        return Value(f"splat ({element} {text})", element, lanes)

    def splat(self, v: Value, lanes: int) -> Value:
        """A scalar in every lane; a vector stays what it is."""
        if v.lanes == lanes:
            return v
        if not v.name.startswith("%"):
            return Value(f"splat ({v.type} {v.name})", v.type, lanes)
        one = self.set(
            f"insertelement <{lanes} x {v.type}> poison, {v.type} {v.name}, i64 0", v.type, lanes
        )
        return self.set(
            f"shufflevector {one}, <{lanes} x {v.type}> poison, <{lanes} x i32> zeroinitializer",
            v.type,
            lanes,
        )

    def op(self, name: str, *values: Value, element: str | None = None) -> Value:
        """A binary or unary instruction on values of one type."""
        first = values[0]
        rest = "".join(f", {v.name}" for v in values[1:])
        return self.set(f"{name} {first}{rest}", element or first.type, first.lanes)

    def call(self, name: str, *values: Value, element: str | None = None, tail: str = "") -> Value:
        """An overloaded intrinsic, `llvm.{name}.{type}`."""
        first = values[0]
        full = f"llvm.{name}.{mangled(first.type, first.lanes)}"
        types = ", ".join(v.full for v in values)
        extra = ", i1" if tail else ""
        result = vector_type(element or first.type, first.lanes)
        self.declared.add(f"declare {result} @{full}({types}{extra})")
        arguments = ", ".join(map(str, values)) + tail
        return self.set(f"call {result} @{full}({arguments})", element or first.type, first.lanes)

    def compare(self, how: str, a: Value, b: Value) -> Value:
        """Compare lane by lane (`how`: olt, eq, ...); -> i1."""
        kind = "fcmp" if a.type in ("float", "double") else "icmp"
        return self.set(f"{kind} {how} {a}, {b.name}", "i1", a.lanes)

    def select(self, c: Value, a: Value, b: Value) -> Value:
        """a where c, else b."""
        return self.set(f"select {c}, {a}, {b}", a.type, a.lanes)

    def convert(self, how: str, v: Value, element: str) -> Value:
        """Convert by an LLVM cast (`how`: fpext, sitofp, ...)."""
        return self.set(f"{how} {v} to {vector_type(element, v.lanes)}", element, v.lanes)

    def function(self, name: str, *values: Value) -> Value:
        """A function of vecmath; wide vectors go in pieces of 16 lanes."""
        first = values[0]
        short = _MANGLED[first.type]
        if first.lanes <= 16:
            self.math.add((name, short, first.lanes))
            text = ", ".join(map(str, values))
            return self.set(
                f"call {first.full} @fl_{name}_{short}_{first.lanes}({text})",
                first.type,
                first.lanes,
            )
        half = first.lanes // 2
        parts = []
        for start in (0, half):
            picks = ", ".join(f"i32 {start + k}" for k in range(half))
            pieces = [
                self.set(
                    f"shufflevector {v}, {v.full} poison, <{half} x i32> <{picks}>", v.type, half
                )
                for v in values
            ]
            parts.append(self.function(name, *pieces))
        picks = ", ".join(f"i32 {k}" for k in range(first.lanes))
        return self.set(
            f"shufflevector {parts[0]}, {parts[1]}, <{first.lanes} x i32> <{picks}>",
            first.type,
            first.lanes,
        )


Lowering = Callable[[Builder, Node, list[Value]], Value]


def is_float(v: Value) -> bool:
    """Whether the compute type is a floating-point type."""
    return v.type in ("float", "double")


def signed(node: Node) -> bool:
    """Whether the node's (or its operands') integers are signed."""
    source = next((s for s in reversed(node.src) if type(s) is Node), node)
    return source.dtype.is_signed


def _arith(f: str, i: str) -> Lowering:
    def lower(b: Builder, node: Node, v: list[Value]) -> Value:
        if is_float(v[0]):
            return b.op(f, *v)
        if v[0].type == "i1":
            return b.op({"add": "or", "mul": "and", "sub": "xor"}[i], *v)
        return b.op(i, *v)

    return lower


def _math(name: str) -> Lowering:
    return lambda b, node, v: b.function(name, *v)


def _intrinsic(name: str) -> Lowering:
    """An intrinsic on floats, the identity on integers (rounding)."""
    return lambda b, node, v: b.call(name, *v) if is_float(v[0]) else v[0]


def _compare(f: str, s: str, u: str) -> Lowering:
    def lower(b: Builder, node: Node, v: list[Value]) -> Value:
        if is_float(v[0]):
            return b.compare(f, *v)
        return b.compare(s if signed(node) and v[0].type != "i1" else u, *v)

    return lower


def _extreme(f: str, s: str, u: str) -> Lowering:
    def lower(b: Builder, node: Node, v: list[Value]) -> Value:
        if is_float(v[0]):
            return b.call(f, *v)
        if v[0].type == "i1":
            return b.op("or" if f.startswith("max") else "and", *v)
        return b.call(s if signed(node) else u, *v)

    return lower


def _fm(better: str) -> Lowering:
    """fmax/fmin: a NaN loses against a number."""

    def lower(b: Builder, node: Node, v: list[Value]) -> Value:
        if not is_float(v[0]):
            return _extreme(better, f"s{better}", f"u{better}")(b, node, v)
        return b.call(f"{better}num", *v)

    return lower


def _bits(name: str) -> Lowering:
    return lambda b, node, v: b.op(name, *v)


def _nonzero(b: Builder, v: Value) -> Value:
    if v.type == "i1":
        return v
    return b.compare("une" if is_float(v) else "ne", v, b.const(0, v.type, v.lanes))


def _logical(name: str) -> Lowering:
    def lower(b: Builder, node: Node, v: list[Value]) -> Value:
        return b.op(name, *(_nonzero(b, x) for x in v))

    return lower


def _neg(b: Builder, node: Node, v: list[Value]) -> Value:
    x = v[0]
    return b.op("fneg", x) if is_float(x) else b.op("sub", b.const(0, x.type, x.lanes), x)


def _not(b: Builder, node: Node, v: list[Value]) -> Value:
    x = v[0]
    return b.op("xor", x, b.const(-1 if x.type != "i1" else 1, x.type, x.lanes))


def _abs(b: Builder, node: Node, v: list[Value]) -> Value:
    x = v[0]
    if is_float(x):
        return b.call("fabs", x)
    return b.call("abs", x, tail=", i1 false") if signed(node) and x.type != "i1" else x


def _sign(b: Builder, node: Node, v: list[Value]) -> Value:
    x = v[0]
    zero, one = b.const(0, x.type, x.lanes), b.const(1, x.type, x.lanes)
    if not is_float(x):
        if not signed(node) or x.type == "i1":
            return b.select(b.compare("ne", x, zero), one, zero)
        negative = b.select(b.compare("slt", x, zero), b.const(-1, x.type, x.lanes), zero)
        return b.select(b.compare("sgt", x, zero), one, negative)
    negative = b.select(b.compare("olt", x, zero), b.const(-1, x.type, x.lanes), zero)
    found = b.select(b.compare("ogt", x, zero), one, negative)
    return b.select(b.compare("uno", x, x), x, found)


def _signbit(b: Builder, node: Node, v: list[Value]) -> Value:
    x = v[0]
    if not is_float(x):
        if not signed(node):
            return b.const(0, "i1", x.lanes)
        return b.compare("slt", x, b.const(0, x.type, x.lanes))
    bits = "i32" if x.type == "float" else "i64"
    return b.compare("slt", b.convert("bitcast", x, bits), b.const(0, bits, x.lanes))


def _isinf(b: Builder, node: Node, v: list[Value]) -> Value:
    x = v[0]
    if not is_float(x):
        return b.const(0, "i1", x.lanes)
    return b.compare("oeq", b.call("fabs", x), b.const(math.inf, x.type, x.lanes))


def _isfinite(b: Builder, node: Node, v: list[Value]) -> Value:
    x = v[0]
    if not is_float(x):
        return b.const(1, "i1", x.lanes)
    return b.compare("olt", b.call("fabs", x), b.const(math.inf, x.type, x.lanes))


def _isnan(b: Builder, node: Node, v: list[Value]) -> Value:
    x = v[0]
    return b.compare("uno", x, x) if is_float(x) else b.const(0, "i1", x.lanes)


def _safe_divisor(b: Builder, x: Value, y: Value, is_signed: bool) -> tuple[Value, Value | None]:
    """y without the values the hardware traps on, and where it was -1 (signed only)."""
    zero, one = b.const(0, y.type, y.lanes), b.const(1, y.type, y.lanes)
    by_zero = b.compare("eq", y, zero)
    assert b.error is not None
    b.error(by_zero, "ZeroDivisionError")
    safe = b.select(by_zero, one, y)
    if not is_signed:
        return safe, None
    minus = b.compare("eq", y, b.const(-1, y.type, y.lanes))
    return b.select(minus, one, safe), minus


def _trunc_divide(b: Builder, node: Node, v: list[Value]) -> Value:
    x, y = v
    if is_float(x):
        return b.call("trunc", b.op("fdiv", x, y))
    if not signed(node):
        return b.op("udiv", x, _safe_divisor(b, x, y, False)[0])
    safe, minus = _safe_divisor(b, x, y, True)
    assert minus is not None
    negated = b.op("sub", b.const(0, x.type, x.lanes), x)
    return b.select(minus, negated, b.op("sdiv", x, safe))


def _int_remainder(b: Builder, node: Node, x: Value, y: Value) -> tuple[Value, Value]:
    """-> (C remainder, whether it must be moved to the divisor's sign)."""
    safe, minus = _safe_divisor(b, x, y, True)
    assert minus is not None
    zero = b.const(0, x.type, x.lanes)
    rem = b.select(minus, zero, b.op("srem", x, safe))
    differs = b.compare("slt", b.op("xor", rem, y), zero)
    return rem, b.op("and", differs, b.compare("ne", rem, zero))


def _floor_divide(b: Builder, node: Node, v: list[Value]) -> Value:
    x, y = v
    if not is_float(x):
        quotient = _trunc_divide(b, node, v)
        if not signed(node):
            return quotient
        _, adjust = _int_remainder(b, node, x, y)
        return b.op("sub", quotient, b.convert("zext", adjust, x.type))
    # Python's rule: exact through fmod, then the nearest integer
    mod = b.function("fmod", x, y)
    zero, one = b.const(0, x.type, x.lanes), b.const(1, x.type, x.lanes)
    quotient = b.op("fdiv", b.op("fsub", x, mod), y)
    differs = b.op("xor", b.compare("olt", y, zero), b.compare("olt", mod, zero))
    adjust = b.op("and", differs, b.compare("une", mod, zero))
    quotient = b.select(adjust, b.op("fsub", quotient, one), quotient)
    rounded = b.call("floor", quotient)
    off = b.compare("ogt", b.op("fsub", quotient, rounded), b.const(0.5, x.type, x.lanes))
    rounded = b.select(off, b.op("fadd", rounded, one), rounded)
    plain = b.op("fdiv", x, y)
    signed_zero = b.call("copysign", zero, plain)
    rounded = b.select(b.compare("oeq", quotient, zero), signed_zero, rounded)
    return b.select(b.compare("oeq", y, zero), plain, rounded)


def _fmod(b: Builder, node: Node, v: list[Value]) -> Value:
    x, y = v
    if is_float(x):
        return b.function("fmod", x, y)
    if not signed(node):
        return b.op("urem", x, _safe_divisor(b, x, y, False)[0])
    return _int_remainder(b, node, x, y)[0]


def _remainder(b: Builder, node: Node, v: list[Value]) -> Value:
    x, y = v
    if not is_float(x):
        if not signed(node):
            return b.op("urem", x, _safe_divisor(b, x, y, False)[0])
        rem, adjust = _int_remainder(b, node, x, y)
        return b.select(adjust, b.op("add", rem, y), rem)
    mod = b.function("fmod", x, y)
    zero = b.const(0, x.type, x.lanes)
    differs = b.op("xor", b.compare("olt", y, zero), b.compare("olt", mod, zero))
    adjust = b.op("and", differs, b.compare("une", mod, zero))
    return b.select(adjust, b.op("fadd", mod, y), mod)


def _true_div(b: Builder, node: Node, v: list[Value]) -> Value:
    return b.op("fdiv", *v)


def _pow(b: Builder, node: Node, v: list[Value]) -> Value:
    exponent = node.src[1]
    x = v[0]
    if isinstance(exponent, (int, float)) and exponent == int(exponent) and abs(exponent) <= 16:
        return _integer_power(b, x, int(exponent))
    if isinstance(exponent, float) and exponent == 0.5:
        return b.call("sqrt", x)
    if is_float(x):
        return b.function("pow", *v)
    return _power_loop(b, x, v[1])


def _integer_power(b: Builder, x: Value, n: int) -> Value:
    one = b.const(1, x.type, x.lanes)
    if not is_float(x) and n < 0:
        odd = bool(n & 1)
        minus = b.compare("eq", x, b.const(-1, x.type, x.lanes))
        inverse = b.select(b.compare("eq", x, one), one, b.const(0, x.type, x.lanes))
        return b.select(minus, b.const(-1 if odd else 1, x.type, x.lanes), inverse)
    result: Value | None = None
    base, k = x, abs(n)
    times = "fmul" if is_float(x) else "mul"
    while k:
        if k & 1:
            result = base if result is None else b.op(times, result, base)
        k >>= 1
        if k:
            base = b.op(times, base, base)
    if result is None:
        return one
    return b.op("fdiv", one, result) if n < 0 else result


def _power_loop(b: Builder, x: Value, y: Value) -> Value:
    """Integer powers by squaring, over all bits of the exponent."""
    zero, one = b.const(0, x.type, x.lanes), b.const(1, x.type, x.lanes)
    result, base, k = one, x, y
    for _ in range(BITS[x.type] - 1 if BITS[x.type] < 64 else 63):
        bit = b.compare("ne", b.op("and", k, one), zero)
        result = b.select(bit, b.op("mul", result, base), result)
        base = b.op("mul", base, base)
        k = b.op("lshr", k, one)
    inverse = b.select(b.compare("eq", x, one), one, zero)
    odd = b.compare("ne", b.op("and", y, one), zero)
    minus_one = b.const(-1, x.type, x.lanes)
    inverse = b.select(b.compare("eq", x, minus_one), b.select(odd, minus_one, one), inverse)
    return b.select(b.compare("slt", y, zero), inverse, result)


def _shift(name: str) -> Lowering:
    def lower(b: Builder, node: Node, v: list[Value]) -> Value:
        x, n = v
        width = BITS[x.type]
        inside = b.compare("ult", n, b.const(width, x.type, x.lanes))
        safe = b.select(inside, n, b.const(0, x.type, x.lanes))
        if name == "shl":
            return b.select(inside, b.op("shl", x, safe), b.const(0, x.type, x.lanes))
        how = "ashr" if signed(node) else "lshr"
        last = b.const(width - 1, x.type, x.lanes)
        gone = b.op("ashr", x, last) if signed(node) else b.const(0, x.type, x.lanes)
        return b.select(inside, b.op(how, x, safe), gone)

    return lower


def _where(b: Builder, node: Node, v: list[Value]) -> Value:
    return b.select(*v)


def _copysign(b: Builder, node: Node, v: list[Value]) -> Value:
    return b.call("copysign", *v)


def _hypot(b: Builder, node: Node, v: list[Value]) -> Value:
    """In double, or scaled by the larger side, so that squares neither overflow nor vanish."""
    if v[0].type == "float":
        wide = [b.convert("fpext", a, "double") for a in v]
        root = b.call("sqrt", b.call("fma", wide[0], wide[0], b.op("fmul", wide[1], wide[1])))
        infinity = b.const(math.inf, "float", root.lanes)
        sides = [b.compare("oeq", b.call("fabs", a), infinity) for a in v]
        return b.select(b.op("or", *sides), infinity, b.convert("fptrunc", root, "float"))
    x, y = (b.call("fabs", a) for a in v)
    big, small = b.call("maximum", x, y), b.call("minimum", x, y)
    zero, one = b.const(0, big.type, big.lanes), b.const(1, big.type, big.lanes)
    infinity = b.const(math.inf, big.type, big.lanes)
    plain = b.op("or", b.compare("oeq", big, zero), b.compare("oeq", big, infinity))
    ratio = b.op("fdiv", small, b.select(plain, one, big))
    root = b.call("sqrt", b.call("fma", ratio, ratio, one))
    found = b.select(plain, big, b.op("fmul", big, root))
    infinite = b.op("or", b.compare("oeq", x, infinity), b.compare("oeq", y, infinity))
    return b.select(infinite, infinity, found)


def _nextafter(b: Builder, node: Node, v: list[Value]) -> Value:
    x, y = v
    kind = "i32" if x.type == "float" else "i64"
    zero, one = b.const(0, kind, x.lanes), b.const(1, kind, x.lanes)
    bits = b.convert("bitcast", x, kind)
    is_zero = b.compare("oeq", x, b.const(0, x.type, x.lanes))
    away = b.compare("olt", b.call("fabs", x), b.const(math.inf, x.type, x.lanes))
    up = b.compare("olt", x, y)
    positive = b.compare("sge", bits, zero)
    grows = b.compare("eq", b.convert("zext", up, kind), b.convert("zext", positive, kind))
    step = b.select(grows, b.op("add", bits, one), b.op("sub", bits, one))
    sign = b.op(
        "and", b.convert("bitcast", y, kind), b.const(-(1 << BITS[kind] - 1), kind, x.lanes)
    )
    tiny = b.op("or", one, sign)
    moved = b.convert("bitcast", b.select(is_zero, tiny, step), x.type)
    del away
    found = b.select(b.compare("oeq", x, y), y, moved)
    nan = b.op("fadd", x, y)
    return b.select(b.compare("uno", x, y), nan, found)


def _reciprocal(b: Builder, node: Node, v: list[Value]) -> Value:
    return b.op("fdiv", b.const(1, v[0].type, v[0].lanes), v[0])


def _rsqrt(b: Builder, node: Node, v: list[Value]) -> Value:
    return b.op("fdiv", b.const(1, v[0].type, v[0].lanes), b.call("sqrt", v[0]))


def cast(b: Builder, v: Value, source: DType, target: DType) -> Value:
    """Convert between compute types with C's meaning; half targets are rounded."""
    element = TYPES[target.name][1]
    if target.category == 0:
        return _nonzero(b, v)
    if is_float(v):
        if target.category == 2:
            if element != v.type:
                v = b.convert("fpext" if element == "double" else "fptrunc", v, element)
            memory = TYPES[target.name][0]
            if memory in ("half", "bfloat") and source is not target:
                v = b.convert("fpext", b.convert("fptrunc", v, memory), "float")
            return v
        how = "llvm.fptosi.sat"
        wide = vector_type("i64", v.lanes)
        name = f"{how}.{mangled('i64', v.lanes)}.{mangled(v.type, v.lanes)}"
        if element == "i32":
            wide = vector_type("i32", v.lanes)
            name = f"{how}.{mangled('i32', v.lanes)}.{mangled(v.type, v.lanes)}"
        b.declared.add(f"declare {wide} @{name}({v.full})")
        whole = b.set(f"call {wide} @{name}({v})", "i32" if element == "i32" else "i64", v.lanes)
        return whole if element == whole.type else b.convert("trunc", whole, element)
    unsigned = v.type == "i1" or not source.is_signed
    if target.category == 2:
        found = b.convert("uitofp" if unsigned else "sitofp", v, element)
        memory = TYPES[target.name][0]
        if memory in ("half", "bfloat"):
            found = b.convert("fpext", b.convert("fptrunc", found, memory), "float")
        return found
    if BITS[element] == BITS[v.type]:
        return v
    if BITS[element] < BITS[v.type]:
        return b.convert("trunc", v, element)
    return b.convert("zext" if unsigned else "sext", v, element)


def _random_bits(b: Builder, seed: Value, counter: Value) -> Value:
    """Threefry-2x32-20; see ops/streams.py."""
    n = counter.lanes
    shift = b.const(32, "i64", seed.lanes)
    low_key = b.convert("trunc", seed, "i32")
    high_key = b.convert("trunc", b.op("lshr", seed, shift), "i32")
    mixed = b.op("xor", b.op("xor", low_key, high_key), b.const(0x1BD11BDA, "i32", seed.lanes))
    keys = [b.splat(k, n) for k in (low_key, high_key, mixed)]
    x0 = b.op("add", b.convert("trunc", counter, "i32"), keys[0])
    high = b.op("lshr", counter, b.const(32, "i64", n))
    x1 = b.op("add", b.convert("trunc", high, "i32"), keys[1])
    rotations = ((13, 15, 26, 6), (17, 29, 16, 24))
    for block in range(5):
        for r in rotations[block % 2]:
            x0 = b.op("add", x0, x1)
            x1 = b.call("fshl", x1, x1, b.const(r, "i32", n))
            x1 = b.op("xor", x1, x0)
        x0 = b.op("add", x0, keys[(block + 1) % 3])
        x1 = b.op("add", x1, b.op("add", keys[(block + 2) % 3], b.const(block + 1, "i32", n)))
    top = b.op("shl", b.convert("zext", x1, "i64"), b.const(32, "i64", n))
    return b.op("or", top, b.convert("zext", x0, "i64"))


random_bits = _random_bits

LOWERINGS: dict[str, Lowering] = {
    **{name: _math(name) for name in vecmath.NAMES},
    # of real numbers; complex ones are NumPy's
    "conj_physical": lambda b, node, v: v[0],
    "real_part": lambda b, node, v: v[0],
    "imaginary_part": lambda b, node, v: b.const(0, v[0].type, v[0].lanes),
    "phase": lambda b, node, v: b.select(
        b.compare("olt" if is_float(v[0]) else "slt", v[0], b.const(0, v[0].type, v[0].lanes)),
        b.const(math.pi, v[0].type, v[0].lanes),
        b.const(0, v[0].type, v[0].lanes),
    ),
    "plus": _arith("fadd", "add"),
    "minus": _arith("fsub", "sub"),
    "mul": _arith("fmul", "mul"),
    "true_div": _true_div,
    "neg": _neg,
    "abs": _abs,
    "sign": _sign,
    "signbit": _signbit,
    "floor_divide": _floor_divide,
    "trunc_divide": _trunc_divide,
    "remainder": _remainder,
    "fmod": _fmod,
    "pow": _pow,
    "maximum": _extreme("maximum", "smax", "umax"),
    "minimum": _extreme("minimum", "smin", "umin"),
    "fmax": _fm("max"),
    "fmin": _fm("min"),
    "select_where": _where,
    "copysign": _copysign,
    "nextafter": _nextafter,
    "hypot": _hypot,
    "floor": _intrinsic("floor"),
    "ceil": _intrinsic("ceil"),
    "trunc": _intrinsic("trunc"),
    "round_even": _intrinsic("roundeven"),
    "sqrt": _intrinsic("sqrt"),
    "rsqrt": _rsqrt,
    "reciprocal": _reciprocal,
    "eq": _compare("oeq", "eq", "eq"),
    "ne": _compare("une", "ne", "ne"),
    "lt": _compare("olt", "slt", "ult"),
    "le": _compare("ole", "sle", "ule"),
    "gt": _compare("ogt", "sgt", "ugt"),
    "ge": _compare("oge", "sge", "uge"),
    "isnan": _isnan,
    "isinf": _isinf,
    "isfinite": _isfinite,
    "logical_and": _logical("and"),
    "logical_or": _logical("or"),
    "logical_xor": _logical("xor"),
    "logical_not": lambda b, node, v: _not(b, node, [_nonzero(b, v[0])]),
    "bitwise_and": _bits("and"),
    "bitwise_or": _bits("or"),
    "bitwise_xor": _bits("xor"),
    "bitwise_not": _not,
    "bitwise_left_shift": _shift("shl"),
    "bitwise_right_shift": _shift("shr"),
    "copy": lambda b, node, v: v[0],
    "random_at": lambda b, node, v: _random_bits(b, v[1], v[0]),
}

#: rows of this target that stay NumPy calls, with the reason
UNSUPPORTED: dict[str, str] = {}
