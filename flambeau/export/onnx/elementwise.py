"""Cells of elementwise rows: arithmetic, comparisons, functions, constants."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from flambeau.dtype import bool as bool_dtype
from flambeau.dtype import dtype as DType
from flambeau.dtype import int64
from flambeau.export.onnx.builder import Builder, known, same_shape
from flambeau.export.onnx.cells import cell
from flambeau.export.onnx.movement import compact, view
from flambeau.ir.graph import Node

# -- operands --------------------------------------------------------------------------------------


def _small(node: Node) -> tuple[list[Any], Callable[[Builder], Any]] | None:
    """What a node repeats: its shape, and how it is written. None where it repeats nothing."""
    if node.op.name in ("fill_value", "empty_memory"):
        number = node.src[0] if node.src else 0
        if type(number) is not Node:
            return [], lambda b: b.number(number, node.dtype)
        return list(number.shape), lambda b: b.value(number)
    if node.op.kind == "view":
        source = node.src[0]
        strides, offset = node.attrs
        shape = compact(source.shape, node.shape, strides)
        if shape == list(node.shape):
            return None
        return shape, lambda b: view(
            b, b.value(source), source.shape, node.shape, strides, offset, whole=False
        )
    return None


def operands(b: Builder, node: Node) -> list[Any]:
    """The values of an elementwise node's sources: numbers as 0-d constants, and what is repeated
    only once where the result has its shape from other sources."""
    nodes = [s for s in node.src if type(s) is Node]
    dtype = next(
        (s.dtype for i, s in enumerate(node.src) if type(s) is Node and i not in node.op.fixed),
        node.dtype,
    )
    shapes = {s: list(s.shape) for s in nodes}
    short: dict[Node, Callable[[Builder], Any]] = {}
    for s in nodes:
        small = _small(s) if b.is_later(s) else None
        if small is None or s in short:
            continue
        trial = {**shapes, s: small[0]}
        if _covers(list(trial.values()), node.shape):
            shapes, short[s] = trial, small[1]
    found = []
    for s in node.src:
        if type(s) is not Node:
            found.append(b.number(s, dtype))
        else:
            found.append(short[s](b) if s in short else b.value(s))
    return found


def _covers(shapes: list[list[Any]], wanted: tuple[Any, ...]) -> bool:
    """Whether shapes broadcast to a shape, for all values of the symbols."""
    for d in range(1, len(wanted) + 1):
        sizes = [s[-d] for s in shapes if len(s) >= d and not (known(s[-d]) and s[-d] == 1)]
        if not any(same_shape([n], [wanted[-d]]) for n in sizes) and not (
            known(wanted[-d]) and wanted[-d] == 1
        ):
            return False
    return True


def _over(take: Callable[[Builder, Node], list[Any]], kind: str) -> Callable[[Builder, Node], Any]:
    """A cell of one operator over operands that `take` gives."""
    return lambda b, node: b.op(kind, *take(b, node))


# -- rows that are one operator --------------------------------------------------------------------

_PLAIN = {
    "true_div": "Div", "abs": "Abs", "sign": "Sign", "floor": "Floor",
    "ceil": "Ceil", "round_even": "Round", "sqrt": "Sqrt", "reciprocal": "Reciprocal",
    "exp": "Exp", "log": "Log", "sin": "Sin", "cos": "Cos", "tan": "Tan", "asin": "Asin",
    "acos": "Acos", "atan": "Atan", "sinh": "Sinh", "cosh": "Cosh", "tanh": "Tanh",
    "asinh": "Asinh", "acosh": "Acosh", "atanh": "Atanh", "erf": "Erf", "sigmoid": "Sigmoid",
    "select_where": "Where", "pow": "Pow", "neg": "Neg",
}  # fmt: skip


@cell("normal_cdf")
def _normal_cdf(b: Builder, node: Node) -> Any:
    (x,) = operands(b, node)
    half, root = b.number(0.5, node.dtype), b.number(math.sqrt(0.5), node.dtype)
    twice = b.op("Add", b.op("Erf", b.op("Mul", x, root)), b.number(1.0, node.dtype))
    return b.op("Mul", twice, half)


@cell("normal_pdf")
def _normal_pdf(b: Builder, node: Node) -> Any:
    (x,) = operands(b, node)
    power = b.op("Mul", b.op("Mul", x, x), b.number(-0.5, node.dtype))
    return b.op("Mul", b.op("Exp", power), b.number(1 / math.sqrt(2 * math.pi), node.dtype))


_ROUNDING = ("floor", "ceil", "round_even", "trunc")


def _plain(kind: str) -> Callable[[Builder, Node], Any]:
    def write(b: Builder, node: Node) -> Any:
        if node.dtype.category < 2 and node.op.name in _ROUNDING:
            return b.op("Identity", b.value(node.src[0]))
        return b.op(kind, *operands(b, node))

    return write


for _name, _kind in _PLAIN.items():
    cell(_name)(_plain(_kind))


def _narrow(dtype: DType) -> bool:
    """Whether runtimes have little for an integer dtype, so that int64 is computed with."""
    return dtype.category == 1 and dtype.name not in ("int32", "int64")


def _in_wide(b: Builder, node: Node, kind: str, xs: list[Any], **attributes: Any) -> Any:
    """An operator on integers, narrow ones as int64, which wraps back."""
    if not _narrow(node.dtype):
        return b.op(kind, *xs, **attributes)
    wide = b.op(kind, *(b.cast(x, int64) for x in xs), **attributes)
    return b.cast(wide, node.dtype)


def _on_bools(yes: str, no: str) -> Callable[[Builder, Node], Any]:
    """An operator, and another for bools."""

    def write(b: Builder, node: Node) -> Any:
        xs = operands(b, node)
        return b.op(yes, *xs) if node.dtype is bool_dtype else _in_wide(b, node, no, xs)

    return write


for _name, _yes, _no in (
    ("plus", "Or", "Add"), ("mul", "And", "Mul"), ("maximum", "Or", "Max"),
    ("minimum", "And", "Min"), ("minus", "Xor", "Sub"),
    ("bitwise_and", "And", "BitwiseAnd"), ("bitwise_or", "Or", "BitwiseOr"),
    ("bitwise_xor", "Xor", "BitwiseXor"), ("bitwise_not", "Not", "BitwiseNot"),
):  # fmt: skip
    cell(_name)(_on_bools(_yes, _no))


def _compared(b: Builder, node: Node) -> list[Any]:
    """Operands of a comparison, in a dtype that it is defined for."""
    xs = operands(b, node)
    dtype = next(s.dtype for s in node.src if type(s) is Node)
    if dtype is bool_dtype and node.op.name not in ("eq", "ne"):
        return [b.cast(x, int64) for x in xs]
    return [b.cast(x, int64) for x in xs] if _narrow(dtype) else xs


for _name, _kind in (
    ("eq", "Equal"), ("lt", "Less"), ("le", "LessOrEqual"), ("gt", "Greater"),
    ("ge", "GreaterOrEqual"),
):  # fmt: skip
    cell(_name)(_over(_compared, _kind))
cell("ne")(lambda b, node: b.op("Not", b.op("Equal", *_compared(b, node))))


def _truths(b: Builder, node: Node) -> list[Any]:
    dtype = next(s.dtype for s in node.src if type(s) is Node)
    return [b.truth(x, dtype) for x in operands(b, node)]


for _name, _kind in (
    ("logical_and", "And"), ("logical_or", "Or"), ("logical_xor", "Xor"), ("logical_not", "Not"),
):  # fmt: skip
    cell(_name)(_over(_truths, _kind))


# -- conversions and constants ---------------------------------------------------------------------


@cell("cast", "to_dtype")
def _cast(b: Builder, node: Node) -> Any:
    (x,) = node.src
    if type(x) is not Node:
        return b.expand(b.number(x, node.dtype), node.shape)
    if x.dtype is node.dtype:
        return b.op("Identity", b.value(x))
    return b.cast(b.value(x), node.dtype)


@cell("copy", "clone", "again")
def _copy(b: Builder, node: Node) -> Any:
    (x,) = node.src
    return b.value(x) if x.dtype is node.dtype else b.cast(b.value(x), node.dtype)


@cell("fill_value", "empty_memory")
def _fill(b: Builder, node: Node) -> Any:
    """Written when it is read as a whole."""

    def make() -> Any:
        small = _small(node)
        assert small is not None
        value = small[1](b)
        return value if same_shape(small[0], node.shape) else b.expand(value, node.shape)

    b.later(node, make)


@cell("iota")
def _iota(b: Builder, node: Node) -> Any:
    total = math.prod(node.shape)
    flat = b.count(total)
    return flat if len(node.shape) == 1 else b.reshape(flat, node.shape)


# -- formulas --------------------------------------------------------------------------------------


def _number(b: Builder, node: Node, x: float) -> Any:
    return b.number(x, next(s.dtype for s in node.src if type(s) is Node))


def _is_float(node: Node) -> bool:
    return any(type(s) is Node and s.dtype.category == 2 for s in node.src)


@cell("rsqrt")
def _rsqrt(b: Builder, node: Node) -> Any:
    return b.op("Reciprocal", b.op("Sqrt", *operands(b, node)))


@cell("signbit")
def _signbit(b: Builder, node: Node) -> Any:
    (x,) = operands(b, node)
    return _sign_is_set(b, node, x)


def _sign_is_set(b: Builder, node: Node, x: Any) -> Any:
    zero = _number(b, node, 0)
    below = b.op("Less", x, zero)
    if not _is_float(node):
        return below
    return b.op("Or", below, b.op("Less", b.op("Reciprocal", x), zero))


@cell("copysign")
def _copysign(b: Builder, node: Node) -> Any:
    x, y = operands(b, node)
    size = b.op("Abs", x)
    return b.where(_sign_is_set(b, node, y), b.op("Neg", size), size)


@cell("trunc")
def _trunc(b: Builder, node: Node) -> Any:
    (x,) = operands(b, node)
    if not _is_float(node):
        return x
    return _towards_zero(b, node, x)


def _towards_zero(b: Builder, node: Node, x: Any) -> Any:
    below = b.op("Less", x, _number(b, node, 0))
    return b.where(below, b.op("Ceil", x), b.op("Floor", x))


@cell("fmod")
def _fmod(b: Builder, node: Node) -> Any:
    return _in_wide(b, node, "Mod", operands(b, node), fmod=1)


def _signs_differ(b: Builder, node: Node, x: Any, y: Any) -> Any:
    zero = _number(b, node, 0)
    apart = b.op("Xor", b.op("Less", x, zero), b.op("Less", y, zero))
    return b.op("And", apart, b.op("Not", b.op("Equal", x, zero)))


@cell("remainder")
def _remainder(b: Builder, node: Node) -> Any:
    x, y = operands(b, node)
    if not _is_float(node):
        return _in_wide(b, node, "Mod", [x, y])
    rest = b.op("Mod", x, y, fmod=1)
    return b.where(_signs_differ(b, node, rest, y), b.op("Add", rest, y), rest)


@cell("trunc_divide")
def _trunc_divide(b: Builder, node: Node) -> Any:
    x, y = operands(b, node)
    if not _is_float(node):
        return _in_wide(b, node, "Div", [x, y])
    return _towards_zero(b, node, b.op("Div", x, y))


@cell("floor_divide")
def _floor_divide(b: Builder, node: Node) -> Any:
    x, y = operands(b, node)
    if not _is_float(node):
        wide = [b.cast(v, int64) for v in (x, y)] if _narrow(node.dtype) else [x, y]
        rest = b.op("Mod", *wide)  # of the divisor's sign
        found = b.op("Div", b.op("Sub", wide[0], rest), wide[1])
        return b.cast(found, node.dtype) if _narrow(node.dtype) else found
    one, zero = _number(b, node, 1), _number(b, node, 0)
    rest = b.op("Mod", x, y, fmod=1)
    quotient = b.op("Div", b.op("Sub", x, rest), y)
    quotient = b.where(_signs_differ(b, node, rest, y), b.op("Sub", quotient, one), quotient)
    floor = b.op("Floor", quotient)
    high = b.op("Greater", b.op("Sub", quotient, floor), _number(b, node, 0.5))
    floor = b.where(high, b.op("Add", floor, one), floor)
    return b.where(b.op("Equal", y, zero), b.op("Div", x, y), floor)


def _ignoring_nan(kind: str) -> Callable[[Builder, Node], Any]:
    def write(b: Builder, node: Node) -> Any:
        if not _is_float(node):
            return _on_bools("Or" if kind == "Max" else "And", kind)(b, node)
        x, y = operands(b, node)
        found = b.where(b.op("IsNaN", y), x, b.op(kind, x, y))
        return b.where(b.op("IsNaN", x), y, found)

    return write


cell("fmax")(_ignoring_nan("Max"))
cell("fmin")(_ignoring_nan("Min"))


@cell("hypot")
def _hypot(b: Builder, node: Node) -> Any:
    """Scaled by the larger side, so that squares do not overflow."""
    x, y = (b.op("Abs", v) for v in operands(b, node))
    large, small = b.op("Max", x, y), b.op("Min", x, y)
    plain = b.op("Or", b.op("Equal", large, _number(b, node, 0)), b.op("IsInf", large))
    ratio = b.op("Div", small, b.where(plain, _number(b, node, 1), large))
    length = b.op("Sqrt", b.op("Add", b.op("Mul", ratio, ratio), _number(b, node, 1)))
    return b.where(plain, large, b.op("Mul", large, length))


@cell("exp2")
def _exp2(b: Builder, node: Node) -> Any:
    return b.op("Pow", _number(b, node, 2), *operands(b, node))


@cell("expm1")
def _expm1(b: Builder, node: Node) -> Any:
    """tanh(x / 2) * (exp(x) + 1), which is accurate near 0."""
    (x,) = operands(b, node)
    half = b.op("Tanh", b.op("Mul", x, _number(b, node, 0.5)))
    return b.op("Mul", half, b.op("Add", b.op("Exp", x), _number(b, node, 1)))


@cell("log1p")
def _log1p(b: Builder, node: Node) -> Any:
    """log(u) * x / (u - 1) with u = 1 + x as it is rounded (Kahan)."""
    (x,) = operands(b, node)
    one = _number(b, node, 1)
    u = b.op("Add", x, one)
    off, log = b.op("Sub", u, one), b.op("Log", u)
    nothing = b.op("Equal", off, _number(b, node, 0))
    near = b.op("Mul", log, b.op("Div", x, b.where(nothing, one, off)))
    near = b.where(nothing, x, near)
    return b.where(b.op("Greater", x, one), log, near)


def _logarithm(base: float) -> Callable[[Builder, Node], Any]:
    def write(b: Builder, node: Node) -> Any:
        return b.op("Div", b.op("Log", *operands(b, node)), _number(b, node, math.log(base)))

    return write


cell("log2")(_logarithm(2.0))
cell("log10")(_logarithm(10.0))


@cell("atan2")
def _atan2(b: Builder, node: Node) -> Any:
    y, x = operands(b, node)
    zero = _number(b, node, 0)
    x = b.op("Add", x, zero)  # no -0
    angle = b.op("Atan", b.op("Div", y, x))
    both = b.op("And", b.op("Equal", x, zero), b.op("Equal", y, zero))
    angle = b.where(both, zero, angle)
    turn = b.where(_sign_is_set(b, node, y), _number(b, node, -math.pi), _number(b, node, math.pi))
    return b.where(b.op("Less", x, zero), b.op("Add", angle, turn), angle)


#: Of exp(-x^2 + polynomial in t) * t, t = 1 / (1 + x / 2) (Press et al., Numerical Recipes, 6.2):
#: 1.2e-7 relative.
_ERFC = (0.17087277, -0.82215223, 1.48851587, -1.13520398, 0.27886807, -0.18628806, 0.09678418,
         0.37409196, 1.00002368, -1.26551223)  # fmt: skip


@cell("erfc")
def _erfc(b: Builder, node: Node) -> Any:
    (x,) = operands(b, node)
    one, half = _number(b, node, 1), _number(b, node, 0.5)
    size = b.op("Abs", x)
    t = b.op("Reciprocal", b.op("Add", b.op("Mul", size, half), one))
    power = _number(b, node, _ERFC[0])
    for c in _ERFC[1:]:
        power = b.op("Add", b.op("Mul", power, t), _number(b, node, c))
    tail = b.op("Mul", t, b.op("Exp", b.op("Sub", power, b.op("Mul", x, x))))
    near = b.op("Sub", one, b.op("Erf", x))
    return b.where(b.op("Greater", x, half), tail, near)


def _tested(kind: str) -> Callable[[Builder, Node], Any]:
    def write(b: Builder, node: Node) -> Any:
        if not _is_float(node):
            return b.expand(b.constant(False, bool_dtype), node.shape)
        return b.op(kind, *operands(b, node))

    return write


cell("isnan")(_tested("IsNaN"))
cell("isinf")(_tested("IsInf"))


@cell("isfinite")
def _isfinite(b: Builder, node: Node) -> Any:
    if not _is_float(node):
        return b.expand(b.constant(True, bool_dtype), node.shape)
    (x,) = operands(b, node)
    return b.op("Not", b.op("Or", b.op("IsNaN", x), b.op("IsInf", x)))


def _power_of_two(b: Builder, node: Node) -> tuple[Any, Any, Any]:
    """A number and 2 ** shift as int64, and whether the shift is one of the dtype's bits."""
    x, n = (b.cast(v, int64) for v in operands(b, node))
    bits = 8 * node.dtype.itemsize
    inside = b.op("Less", n, b.number(bits, int64))
    inside = b.op("And", inside, b.op("GreaterOrEqual", n, b.number(0, int64)))
    n = b.op("Min", b.op("Max", n, b.number(0, int64)), b.number(62, int64))
    return x, b.op("Pow", b.number(2, int64), n), inside


@cell("bitwise_left_shift")
def _left_shift(b: Builder, node: Node) -> Any:
    x, power, inside = _power_of_two(b, node)
    return b.cast(b.where(inside, b.op("Mul", x, power), b.number(0, int64)), node.dtype)


@cell("bitwise_right_shift")
def _right_shift(b: Builder, node: Node) -> Any:
    x, power, inside = _power_of_two(b, node)
    below = b.where(b.op("Less", x, b.number(0, int64)), b.number(-1, int64), b.number(0, int64))
    whole = b.op("Div", b.op("Sub", x, b.op("Mod", x, power)), power)
    return b.cast(b.where(inside, whole, below), node.dtype)


__all__ = ["operands"]
