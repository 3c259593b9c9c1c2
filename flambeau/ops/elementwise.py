"""Elementwise primitives: arithmetic, comparison, logic, bits, exponentials, trigonometry.

Each row's reference is a NumPy or SciPy function. Vjps are written in rows, so they differentiate
again; the table reduces a cotangent over broadcast dimensions and casts it to the argument's dtype.
"""

from __future__ import annotations

import math
from importlib import import_module
from typing import Any

import numpy as np

from flambeau.dtype import FLOATING
from flambeau.ir.graph import CAST, COPY, Node
from flambeau.ops.rows import NAMES, ROWS
from flambeau.ops.table import Number, elementwise
from flambeau.tape import Spec
from flambeau.tensor import Tensor

# -- conversion -----------------------------------------------------------------------------------


def _identity(g: Any, out: Any, x: Any) -> tuple[Any, ...]:
    return (g,)


def _keeps_sums(node: Node) -> tuple[tuple[int, ...], ...]:
    """Whether converted terms have the converted sum: not when floats become integers."""
    category = node.dtype.category
    return ((0,),) if category and category >= min(node.src[0].dtype.category, 2) else ()


for _op in (COPY, CAST):
    _op.parameters = ("input",)
    _op.vjp = _identity
    _op.jvp = "linear"
    _op.reference = lambda x: x
    _op.linear = _keeps_sums
    ROWS[_op.name] = _op
COPY.doc = "The same values in memory of their own."
CAST.doc = "The values converted to another dtype; floats are truncated towards zero to integers."


# -- arithmetic -----------------------------------------------------------------------------------


@elementwise(aliases=("multiply",), jvp="multilinear", complex=True)
def mul(input: Tensor, other: Tensor) -> Tensor:
    """input * other."""


@elementwise(public=False, method=False, jvp="linear", complex=True)
def plus(input: Tensor, other: Tensor) -> Tensor:
    """input + other, both broadcast to one shape; `add` is this with `alpha`."""


@elementwise(result="number", public=False, method=False, jvp="linear", complex=True)
def minus(input: Tensor, other: Tensor) -> Tensor:
    """input - other; `sub` is this with `alpha`."""


@elementwise(result="float", aliases=("true_divide",), complex=True, expensive=True, linear=((0,),))
def true_div(input: Tensor, other: Tensor) -> Tensor:
    """input / other; integers become the default float."""


@elementwise(result="number", aliases=("negative",), jvp="linear", complex=True)
def neg(input: Tensor) -> Tensor:
    """-input."""


@elementwise(result="modulus", aliases=("absolute",), complex=True)
def abs(input: Tensor) -> Tensor:
    """Absolute value."""


@elementwise()
def sign(input: Tensor) -> Tensor:
    """-1, 0 or 1; the derivative is 0."""


@elementwise(result="bool")
def signbit(input: Tensor) -> Tensor:
    """Whether the sign bit is set (also of -0.0)."""


@elementwise(result="number", expensive=True, raises=True)
def floor_divide(input: Tensor, other: Tensor) -> Tensor:
    """floor(input / other), elementwise. Integer division by zero raises at the flush."""


@elementwise(result="number", expensive=True, raises=True)
def trunc_divide(input: Tensor, other: Tensor) -> Tensor:
    """input / other rounded towards zero; `div(rounding_mode="trunc")`."""


@elementwise(result="number", expensive=True, raises=True)
def remainder(input: Tensor, other: Tensor) -> Tensor:
    """input - floor(input / other) * other: the sign of `other`, as Python's %."""


@elementwise(result="number", tensors=(0,), expensive=True, raises=True)
def fmod(input: Tensor, other: Tensor) -> Tensor:
    """input - trunc(input / other) * other: the sign of `input`, as C's fmod."""


@elementwise(result="power", specialise=(1,), complex=True, expensive=True)
def pow(input: Tensor, exponent: Tensor) -> Tensor:
    """input ** exponent."""


@elementwise(tensors=(0, 1))
def maximum(input: Tensor, other: Tensor) -> Tensor:
    """The larger of two; NaN when either is. The gradient is shared equally on ties."""


@elementwise(tensors=(0, 1))
def minimum(input: Tensor, other: Tensor) -> Tensor:
    """The smaller of two; NaN when either is. The gradient is shared equally on ties."""


@elementwise(tensors=(0, 1))
def fmax(input: Tensor, other: Tensor) -> Tensor:
    """The larger of two, ignoring a NaN."""


@elementwise(tensors=(0, 1))
def fmin(input: Tensor, other: Tensor) -> Tensor:
    """The smaller of two, ignoring a NaN."""


@elementwise(fixed=(0,), inplace=False, public=False, method=False, jvp="linear", complex=True)
def select_where(condition: Tensor, input: Tensor, other: Tensor) -> Tensor:
    """input where the condition holds, other elsewhere; `where` is this with checks."""


@elementwise(result="float", tensors=(0,))
def copysign(input: Tensor, other: Tensor) -> Tensor:
    """The magnitude of input with the sign of other."""


@elementwise(result="floating", tensors=(0, 1))
def nextafter(input: Tensor, other: Tensor) -> Tensor:
    """The next representable value after input towards other."""


@elementwise(result="float", tensors=(0, 1))
def hypot(input: Tensor, other: Tensor) -> Tensor:
    """sqrt(input**2 + other**2)."""


# -- rounding -------------------------------------------------------------------------------------


@elementwise()
def floor(input: Tensor) -> Tensor:
    """The largest integer not above input."""


@elementwise()
def ceil(input: Tensor) -> Tensor:
    """The smallest integer not below input."""


@elementwise(aliases=("fix",))
def trunc(input: Tensor) -> Tensor:
    """The integer part, towards zero."""


@elementwise(public=False, method=False)
def round_even(input: Tensor) -> Tensor:
    """The nearest integer, halves to even; `round` is this with `decimals`."""


# -- roots, exponentials, logarithms --------------------------------------------------------------


@elementwise(result="float", complex=True, expensive=True)
def sqrt(input: Tensor) -> Tensor:
    """Square root."""


@elementwise(result="float", complex=True, expensive=True)
def rsqrt(input: Tensor) -> Tensor:
    """1 / sqrt(input)."""


@elementwise(result="float", complex=True)
def reciprocal(input: Tensor) -> Tensor:
    """1 / input."""


@elementwise(result="float", complex=True, expensive=True)
def exp(input: Tensor) -> Tensor:
    """e ** input."""


@elementwise(result="float", aliases=("special.exp2",), complex=True, expensive=True)
def exp2(input: Tensor) -> Tensor:
    """2 ** input."""


@elementwise(result="float", aliases=("special.expm1",), complex=True, expensive=True)
def expm1(input: Tensor) -> Tensor:
    """exp(input) - 1, accurate near 0."""


@elementwise(result="float", complex=True, expensive=True)
def log(input: Tensor) -> Tensor:
    """Natural logarithm."""


@elementwise(result="float", complex=True, expensive=True)
def log2(input: Tensor) -> Tensor:
    """Logarithm to base 2."""


@elementwise(result="float", complex=True, expensive=True)
def log10(input: Tensor) -> Tensor:
    """Logarithm to base 10."""


@elementwise(result="float", aliases=("special.log1p",), complex=True, expensive=True)
def log1p(input: Tensor) -> Tensor:
    """log(1 + input), accurate near 0."""


# -- trigonometry ---------------------------------------------------------------------------------


@elementwise(result="float", complex=True, expensive=True)
def sin(input: Tensor) -> Tensor:
    """Sine of radians."""


@elementwise(result="float", complex=True, expensive=True)
def cos(input: Tensor) -> Tensor:
    """Cosine of radians."""


@elementwise(result="float", complex=True, expensive=True)
def tan(input: Tensor) -> Tensor:
    """Tangent of radians."""


@elementwise(result="float", aliases=("arcsin",), complex=True, expensive=True)
def asin(input: Tensor) -> Tensor:
    """Inverse sine."""


@elementwise(result="float", aliases=("arccos",), complex=True, expensive=True)
def acos(input: Tensor) -> Tensor:
    """Inverse cosine."""


@elementwise(result="float", aliases=("arctan",), complex=True, expensive=True)
def atan(input: Tensor) -> Tensor:
    """Inverse tangent."""


@elementwise(result="float", aliases=("arctan2",), tensors=(0, 1), expensive=True)
def atan2(input: Tensor, other: Tensor) -> Tensor:
    """Angle of the point (other, input), in (-pi, pi]."""


@elementwise(result="float", complex=True, expensive=True)
def sinh(input: Tensor) -> Tensor:
    """Hyperbolic sine."""


@elementwise(result="float", complex=True, expensive=True)
def cosh(input: Tensor) -> Tensor:
    """Hyperbolic cosine."""


@elementwise(result="float", complex=True, expensive=True)
def tanh(input: Tensor) -> Tensor:
    """Hyperbolic tangent."""


@elementwise(result="float", aliases=("arcsinh",), complex=True, expensive=True)
def asinh(input: Tensor) -> Tensor:
    """Inverse hyperbolic sine."""


@elementwise(result="float", aliases=("arccosh",), complex=True, expensive=True)
def acosh(input: Tensor) -> Tensor:
    """Inverse hyperbolic cosine."""


@elementwise(result="float", aliases=("arctanh",), complex=True, expensive=True)
def atanh(input: Tensor) -> Tensor:
    """Inverse hyperbolic tangent."""


# -- special functions ----------------------------------------------------------------------------


@elementwise(result="float", aliases=("special.erf",), expensive=True)
def erf(input: Tensor) -> Tensor:
    """Error function, 2/sqrt(pi) * integral of exp(-t^2) from 0 to input."""


@elementwise(result="float", aliases=("special.erfc",), expensive=True)
def erfc(input: Tensor) -> Tensor:
    """1 - erf(input), accurate for large input."""


@elementwise(result="float", aliases=("special.erfinv",), expensive=True)
def erfinv(input: Tensor) -> Tensor:
    """Inverse error function on (-1, 1)."""


@elementwise(result="float", public=False, method=False, inplace=False, expensive=True)
def normal_cdf(input: Tensor) -> Tensor:
    """Distribution function of the normal distribution to an absolute error of the dtype's
    rounding (far below 0 `special.ndtr` is the accurate one)."""


@elementwise(result="float", public=False, method=False, inplace=False, expensive=True)
def normal_pdf(input: Tensor) -> Tensor:
    """Density of the normal distribution to an absolute error of the dtype's rounding."""


@elementwise(result="float", aliases=("special.expit",), complex=True, expensive=True)
def sigmoid(input: Tensor) -> Tensor:
    """1 / (1 + exp(-input))."""


@elementwise(result="float", aliases=("special.gammaln",), expensive=True)
def lgamma(input: Tensor) -> Tensor:
    """Logarithm of the absolute value of the gamma function."""


@elementwise(result="float", aliases=("special.digamma", "special.psi"), expensive=True)
def digamma(input: Tensor) -> Tensor:
    """Derivative of lgamma."""


# -- comparison and logic -------------------------------------------------------------------------


@elementwise(result="bool", tensors=(0,), complex=True)
def eq(input: Tensor, other: Tensor) -> Tensor:
    """input == other."""


@elementwise(result="bool", aliases=("not_equal",), tensors=(0,), complex=True)
def ne(input: Tensor, other: Tensor) -> Tensor:
    """input != other."""


@elementwise(result="bool", aliases=("less",), tensors=(0,))
def lt(input: Tensor, other: Tensor) -> Tensor:
    """input < other."""


@elementwise(result="bool", aliases=("less_equal",), tensors=(0,))
def le(input: Tensor, other: Tensor) -> Tensor:
    """input <= other."""


@elementwise(result="bool", aliases=("greater",), tensors=(0,))
def gt(input: Tensor, other: Tensor) -> Tensor:
    """input > other."""


@elementwise(result="bool", aliases=("greater_equal",), tensors=(0,))
def ge(input: Tensor, other: Tensor) -> Tensor:
    """input >= other."""


@elementwise(result="bool", complex=True)
def isnan(input: Tensor) -> Tensor:
    """Whether each element is NaN."""


@elementwise(result="bool", complex=True)
def isinf(input: Tensor) -> Tensor:
    """Whether each element is infinite."""


@elementwise(result="bool", complex=True)
def isfinite(input: Tensor) -> Tensor:
    """Whether each element is neither NaN nor infinite."""


@elementwise(result="bool", tensors=(0, 1), complex=True)
def logical_and(input: Tensor, other: Tensor) -> Tensor:
    """Whether both are nonzero."""


@elementwise(result="bool", tensors=(0, 1), complex=True)
def logical_or(input: Tensor, other: Tensor) -> Tensor:
    """Whether either is nonzero."""


@elementwise(result="bool", tensors=(0, 1), complex=True)
def logical_xor(input: Tensor, other: Tensor) -> Tensor:
    """Whether exactly one is nonzero."""


@elementwise(result="bool", complex=True)
def logical_not(input: Tensor) -> Tensor:
    """Whether each element is zero."""


@elementwise(result="integral", differentiable=False)
def bitwise_and(input: Tensor, other: Tensor) -> Tensor:
    """Bits set in both; logical and for bools."""


@elementwise(result="integral", differentiable=False)
def bitwise_or(input: Tensor, other: Tensor) -> Tensor:
    """Bits set in either; logical or for bools."""


@elementwise(result="integral", differentiable=False)
def bitwise_xor(input: Tensor, other: Tensor) -> Tensor:
    """Bits set in exactly one."""


@elementwise(result="integral", differentiable=False)
def bitwise_not(input: Tensor) -> Tensor:
    """Every bit inverted; logical not for bools."""


@elementwise(result="integral", differentiable=False)
def bitwise_left_shift(input: Tensor, other: Tensor) -> Tensor:
    """input * 2 ** other on integers."""


@elementwise(result="integral", differentiable=False)
def bitwise_right_shift(input: Tensor, other: Tensor) -> Tensor:
    """input shifted right by other bits, keeping the sign."""


# -- references -----------------------------------------------------------------------------------


def _special(name: str) -> Any:
    """A scipy.special function, looked up when first called."""

    def call(*arrays: Any) -> Any:
        return getattr(scipy_special(name), name)(*arrays)

    return call


def scipy_special(name: str) -> Any:
    """The module scipy.special, an optional package that is slow to import.

    Raises:
        ImportError: SciPy is not installed; says what to install.
    """
    try:
        return import_module("scipy.special")
    except ImportError:
        raise ImportError(
            f"{name} needs SciPy here, which is not installed: pip install 'flambeau[special]'"
        ) from None


def _safe_shift(shift: Any) -> Any:
    def call(x: Any, n: Any) -> Any:
        bits = np.asarray(x).dtype.itemsize * 8
        inside = (n >= 0) & (n < bits)
        filled = np.where(np.asarray(x) < 0, -1, 0) if shift is np.right_shift else 0
        return np.where(inside, shift(x, np.where(inside, n, 0)), filled)

    return call


def _floor_divide(x: Any, y: Any) -> Any:
    if np.asarray(x).dtype.kind in "iu":
        if not np.all(y):
            raise RuntimeError("ZeroDivisionError")
        return np.floor_divide(x, y)
    mod = np.fmod(x, y)
    quotient = np.where((mod != 0) & ((y < 0) != (mod < 0)), (x - mod) / y - 1, (x - mod) / y)
    rounded = np.floor(quotient)
    rounded = np.where(quotient - rounded > 0.5, rounded + 1, rounded)
    rounded = np.where(quotient == 0, np.copysign(0.0, x / y), rounded)
    return np.where(np.asarray(y) == 0, np.divide(x, y), rounded)


def _trunc_divide(x: Any, y: Any) -> Any:
    if np.asarray(x).dtype.kind in "iu":
        if not np.all(y):
            raise RuntimeError("ZeroDivisionError")
        quotient = np.floor_divide(np.abs(x), np.abs(y))
        return np.where((np.asarray(x) < 0) != (np.asarray(y) < 0), -quotient, quotient)
    return np.trunc(np.divide(x, y))


def _remainder(x: Any, y: Any) -> Any:
    if np.asarray(x).dtype.kind in "iu" and not np.all(y):
        raise RuntimeError("ZeroDivisionError")
    mod = np.fmod(x, y)
    return np.where((mod != 0) & ((np.asarray(y) < 0) != (mod < 0)), mod + y, mod)


def _fmod(x: Any, y: Any) -> Any:
    if np.asarray(x).dtype.kind in "iu" and not np.all(y):
        raise RuntimeError("ZeroDivisionError")
    return np.fmod(x, y)


def _power(x: Any, y: Any) -> Any:
    if np.asarray(x).dtype.kind not in "iub":
        return np.power(x, y)
    # negative powers of integers: 1 and -1 keep their magnitude, everything else truncates to 0
    exact = np.power(x, np.maximum(y, 0))
    inverse = np.where(x == 1, 1, np.where(np.asarray(x) == -1, 1 - 2 * (np.abs(y) % 2), 0))
    return np.where(np.asarray(y) < 0, inverse, exact)


def _sign(x: Any) -> Any:
    return x if np.asarray(x).dtype.kind == "b" else np.sign(x)


def _logical(f: Any) -> Any:
    return lambda *a: f(*(np.asarray(x) != 0 for x in a))


def _sigmoid(x: Any) -> Any:
    return 1.0 / (1.0 + np.exp(-x)) if x.dtype.kind == "c" else _special("expit")(x)


_REFERENCES: dict[str, Any] = {
    "mul": np.multiply,
    "plus": np.add,
    "minus": np.subtract,
    "true_div": np.divide,
    "neg": np.negative,
    "abs": np.abs,
    "sign": _sign,
    "signbit": np.signbit,
    "floor_divide": _floor_divide,
    "trunc_divide": _trunc_divide,
    "remainder": _remainder,
    "fmod": _fmod,
    "pow": _power,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "fmax": np.fmax,
    "fmin": np.fmin,
    "select_where": np.where,
    "copysign": np.copysign,
    "nextafter": np.nextafter,
    "hypot": np.hypot,
    "floor": np.floor,
    "ceil": np.ceil,
    "trunc": np.trunc,
    "round_even": np.rint,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "reciprocal": lambda x: 1 / x,
    "exp": np.exp,
    "exp2": np.exp2,
    "expm1": np.expm1,
    "log": np.log,
    "log2": np.log2,
    "log10": np.log10,
    "log1p": np.log1p,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "atan2": np.arctan2,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tanh": np.tanh,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "erf": _special("erf"),
    "erfc": _special("erfc"),
    "erfinv": _special("erfinv"),
    "normal_cdf": _special("ndtr"),
    "normal_pdf": lambda x: np.exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi)),
    "sigmoid": _sigmoid,
    "lgamma": _special("gammaln"),
    "digamma": _special("digamma"),
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "isnan": np.isnan,
    "isinf": np.isinf,
    "isfinite": np.isfinite,
    "logical_and": _logical(np.logical_and),
    "logical_or": _logical(np.logical_or),
    "logical_xor": _logical(np.logical_xor),
    "logical_not": _logical(np.logical_not),
    "bitwise_and": np.bitwise_and,
    "bitwise_or": np.bitwise_or,
    "bitwise_xor": np.bitwise_xor,
    "bitwise_not": np.invert,
    "bitwise_left_shift": _safe_shift(np.left_shift),
    "bitwise_right_shift": _safe_shift(np.right_shift),
}
for _name, _function in _REFERENCES.items():
    ROWS[_name].reference = _function

# -- derivatives ----------------------------------------------------------------------------------

plus.vjp(lambda g, out, x, y: (g, g))
minus.vjp(lambda g, out, x, y: (g, -g))
mul.vjp(
    lambda g, out, x, y: (
        None if type(y) is Spec else g * y,
        None if type(x) is Spec or isinstance(y, Number) else g * x,
    ),
    saves="input other",
)
true_div.vjp(lambda g, out, x, y: (g / y, -g * x / (y * y)), saves="input other")
neg.vjp(lambda g, out, x: (-g,))
abs.vjp(
    lambda g, out, x: (g * (sign(x) if not x.dtype.is_complex else NAMES["sgn"](x)),),
    saves="input",
)
for _zero in (sign, floor, ceil, trunc, round_even):
    _zero.vjp(lambda g, out, x: (g * 0.0,))
floor_divide.vjp(lambda g, out, x, y: (None, None))
trunc_divide.vjp(lambda g, out, x, y: (None, None))
remainder.vjp(lambda g, out, x, y: (g, -g * floor(x / y)), saves="input other")
fmod.vjp(lambda g, out, x, y: (g, -g * trunc(x / y)), saves="input other")


def _pow_vjp(g: Any, out: Any, x: Any, y: Any) -> tuple[Any, Any]:
    if isinstance(y, Number):
        return (g * (y * x ** (y - 1)) if y != 0 else g * 0.0, None)
    if isinstance(x, Number):
        return None, (g * out * math.log(x) if x > 0 else _log_times(g * out, x, y))
    gx = g * select_where(y == 0, 0.0, y * x ** (y - 1))
    if out.dtype.is_complex:
        return gx, g * select_where(x == 0, 0.0, out * log(x))
    gy = g * select_where((x == 0) & (y >= 0), 0.0, out * log(x))
    return gx, gy


def _log_times(g: Any, x: float, y: Any) -> Any:
    if x == 0:
        return select_where(y >= 0, g * 0.0, g * -math.inf)
    return g * math.nan


pow.vjp(_pow_vjp, saves="out input exponent")


def _share(g: Any, x: Any, y: Any, wins: Any) -> tuple[Any, Any]:
    """The winner takes the cotangent; ties take half each."""
    half = g * 0.5
    tie = x == y
    return (
        select_where(tie, half, select_where(wins, g, 0.0)),
        select_where(tie, half, select_where(wins, 0.0, g)),
    )


maximum.vjp(lambda g, out, x, y: _share(g, x, y, x > y), saves="input other")
minimum.vjp(lambda g, out, x, y: _share(g, x, y, x < y), saves="input other")
fmax.vjp(
    lambda g, out, x, y: (
        select_where((x >= y) | _isnan(y), g, 0.0),
        select_where((x >= y) | _isnan(y), 0.0, g),
    ),
    saves="input other",
)
fmin.vjp(
    lambda g, out, x, y: (
        select_where((x <= y) | _isnan(y), g, 0.0),
        select_where((x <= y) | _isnan(y), 0.0, g),
    ),
    saves="input other",
)


def _isnan(y: Any) -> Any:
    return y != y if isinstance(y, Number) else isnan(y)


select_where.vjp(
    lambda g, out, c, x, y: (None, select_where(c, g, 0.0), select_where(c, 0.0, g)),
    saves="condition",
)
copysign.vjp(
    lambda g, out, x, y: (g * select_where(x == 0, 0.0, sign(x) * sign(out)), None),
    saves="out input",
)
nextafter.vjp(lambda g, out, x, y: (g, None))
hypot.vjp(lambda g, out, x, y: (g * x / out, g * y / out), saves="out input other")
sqrt.vjp(lambda g, out, x: (g / (2.0 * out),), saves="out")
rsqrt.vjp(lambda g, out, x: (-0.5 * g * out * out * out,), saves="out")
reciprocal.vjp(lambda g, out, x: (-g * out * out,), saves="out")
exp.vjp(lambda g, out, x: (g * out,), saves="out")
exp2.vjp(lambda g, out, x: (g * out * math.log(2),), saves="out")
expm1.vjp(lambda g, out, x: (g * (out + 1.0),), saves="out")
log.vjp(lambda g, out, x: (g / x,), saves="input")
log2.vjp(lambda g, out, x: (g / (x * math.log(2)),), saves="input")
log10.vjp(lambda g, out, x: (g / (x * math.log(10)),), saves="input")
log1p.vjp(lambda g, out, x: (g / (x + 1.0),), saves="input")
sin.vjp(lambda g, out, x: (g * cos(x),), saves="input")
cos.vjp(lambda g, out, x: (-g * sin(x),), saves="input")
tan.vjp(lambda g, out, x: (g * (1.0 + out * out),), saves="out")
asin.vjp(lambda g, out, x: (g * rsqrt(1.0 - x * x),), saves="input")
acos.vjp(lambda g, out, x: (-g * rsqrt(1.0 - x * x),), saves="input")
atan.vjp(lambda g, out, x: (g / (1.0 + x * x),), saves="input")
atan2.vjp(
    lambda g, out, x, y: (g * y / (x * x + y * y), -g * x / (x * x + y * y)), saves="input other"
)
sinh.vjp(lambda g, out, x: (g * cosh(x),), saves="input")
cosh.vjp(lambda g, out, x: (g * sinh(x),), saves="input")
tanh.vjp(lambda g, out, x: (g * (1.0 - out * out),), saves="out")
asinh.vjp(lambda g, out, x: (g * rsqrt(x * x + 1.0),), saves="input")
acosh.vjp(lambda g, out, x: (g * rsqrt(x - 1.0) * rsqrt(x + 1.0),), saves="input")
atanh.vjp(lambda g, out, x: (g / (1.0 - x * x),), saves="input")
erf.vjp(lambda g, out, x: (g * (exp(-x * x) * (2 / math.sqrt(math.pi))),), saves="input")
erfc.vjp(lambda g, out, x: (g * (exp(-x * x) * (-2 / math.sqrt(math.pi))),), saves="input")
erfinv.vjp(lambda g, out, x: (g * (exp(out * out) * (math.sqrt(math.pi) / 2)),), saves="out")
normal_cdf.vjp(lambda g, out, x: (g * normal_pdf(x),), saves="input")
normal_pdf.vjp(lambda g, out, x: (-g * x * normal_pdf(x),), saves="input")
sigmoid.vjp(lambda g, out, x: (g * (out * (1.0 - out)),), saves="out")
lgamma.vjp(lambda g, out, x: (g * digamma(x),), saves="input")
digamma.vjp(lambda g, out, x: (g * NAMES["polygamma"](1, x),), saves="input")


def is_float(x: Any) -> bool:
    """Whether a tensor or number is of floating-point type."""
    return x.dtype.category == FLOATING if isinstance(x, Tensor) else isinstance(x, float)
