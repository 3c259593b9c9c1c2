"""Composites of elementwise arithmetic: bounds, rounding, fused multiply forms, comparisons."""

from __future__ import annotations

import builtins
import math
from typing import Any

import numpy as np

from flambeau import dtypes
from flambeau.ops.arguments import check_first
from flambeau.ops.conversion import to_dtype
from flambeau.ops.elementwise import (
    cos,
    exp,
    exp2,
    floor_divide,
    isinf,
    isnan,
    log,
    log1p,
    maximum,
    minimum,
    mul,
    round_even,
    scipy_special,
    select_where,
    sigmoid,
    sign,
    sin,
    trunc,
    trunc_divide,
)
from flambeau.ops.movement import expand_to
from flambeau.ops.operators import sub
from flambeau.ops.precision import cast, fit, rounded_once, widen
from flambeau.ops.reduction import min_axes
from flambeau.ops.rows import NAMES, ROWS
from flambeau.ops.table import composite, emit, primitive, record_elementwise
from flambeau.ops.writing import inplace_form
from flambeau.size import broadcast_shapes
from flambeau.tensor import Tensor

_PLUS, _MINUS, _MUL = ROWS["plus"], ROWS["minus"], ROWS["mul"]
_TRUE_DIV = ROWS["true_div"]


def dtype_word(d: dtypes.dtype) -> str:
    """torch's word for a dtype in messages: Float, Long, ..."""
    return d.word


# -- quotients and selection -----------------------------------------------------------------------


@composite(inplace=True, out=True, aliases=("divide",))
def div(input: Tensor, other: Any, *, rounding_mode: str | None = None) -> Tensor:
    """input / other, rounded as `rounding_mode` says.

    Args:
        rounding_mode: None for the true quotient (integers become the default float), "trunc"
            towards zero, "floor" downwards.

    Raises:
        RuntimeError: another rounding mode.
    """
    if rounding_mode is None:
        return record_elementwise(_TRUE_DIV, (input, other))
    if rounding_mode == "floor":
        return floor_divide(input, other)
    if rounding_mode == "trunc":
        return trunc_divide(input, other)
    raise RuntimeError(
        f"div expected rounding_mode to be one of None, 'trunc', or 'floor' but "
        f"found '{rounding_mode}'"
    )


@composite(method=False, out=True)
def where(condition: Tensor, input: Any = None, other: Any = None) -> Any:
    """input where the condition holds, other elsewhere; with one argument, where it holds.

    Args:
        condition: bool (or uint8) tensor.
        input: tensor or number.
        other: tensor or number; all three broadcast, the values' dtypes are promoted.

    Returns:
        A tensor; with the condition alone, `nonzero(condition, as_tuple=True)`.

    Raises:
        RuntimeError: a condition of another dtype.
    """
    if input is None and other is None:
        return NAMES["nonzero"](condition, as_tuple=True)
    if not isinstance(condition, Tensor):
        raise TypeError(
            f"where(): argument 'condition' (position 1) must be Tensor, not "
            f"{type(condition).__name__}"
        )
    if condition.dtype is not dtypes.bool:
        if condition.dtype is not dtypes.uint8:
            raise RuntimeError(
                f"where expected condition to be a boolean tensor, but got a tensor "
                f"with dtype {dtype_word(condition.dtype)}"
            )
        condition = to_dtype(condition, dtypes.bool)
    return select_where(condition, input, other)


# -- bounds ----------------------------------------------------------------------------------------


@composite(inplace=True, out=True, aliases=("clip",))
def clamp(input: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """The nearest value in [min, max]; max where the bounds cross; NaN stays.

    Args:
        min: lower bound, a number or a tensor that broadcasts; None for none.
        max: upper bound likewise.

    Raises:
        RuntimeError: neither bound is given.
    """
    if not isinstance(input, Tensor):
        raise TypeError(
            f"clamp() received an invalid combination of arguments - got input of type "
            f"{input.__class__.__name__}, but expected a Tensor"
        )
    if min is None and max is None:
        raise RuntimeError("torch.clamp: At least one of 'min' or 'max' must not be None")
    if min is not None:
        input = maximum(input, min)
    if max is not None:
        input = minimum(input, max)
    return input


def _clamp_vjp(g: Any, out: Any, x: Any, low: Any = None, high: Any = None) -> tuple[Any, ...]:
    """The cotangent passes inside the bounds, borders included, else goes to the bound hit."""
    inside = None if low is None else x >= low
    if high is not None:
        inside = x <= high if inside is None else inside & (x <= high)
    g_low = g_high = None
    if isinstance(low, Tensor):
        hit = x < low if high is None else (x < low) & (low < high)
        g_low = fit(select_where(hit, g, 0.0), low)
    if isinstance(high, Tensor):
        hit = x > high if low is None else (x > high) | (high < low)
        g_high = fit(select_where(hit, g, 0.0), high)
    return fit(select_where(inside, g, 0.0), x), g_low, g_high


clamp.vjp(_clamp_vjp, saves="input min max")


@composite(inplace=True, out=True)
def clamp_min(input: Tensor, min: Any) -> Tensor:
    """The larger of input and a bound."""
    return clamp(input, min)


@composite(inplace=True, out=True)
def clamp_max(input: Tensor, max: Any) -> Tensor:
    """The smaller of input and a bound."""
    return clamp(input, None, max)


# -- fused multiply forms --------------------------------------------------------------------------


@composite(keep=True, inplace=True, out=True)
def square(input: Tensor) -> Tensor:
    """input * input; bools become int64."""
    if input.dtype.category == 0:
        input = to_dtype(input, dtypes.int64)
    return record_elementwise(_MUL, (input, input))


square.batch(())
square.vjp(lambda g, out, x: (g * (x * 2.0),), saves="input")


@composite(inplace=True, out=True)
def addcmul(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: Any = 1) -> Tensor:
    """input + value * tensor1 * tensor2."""
    return rounded_once(lambda a, b, c: _plus_product(a, b, c, value), input, tensor1, tensor2)


def _plus_product(input: Tensor, tensor1: Tensor, tensor2: Tensor, value: Any) -> Tensor:
    product = record_elementwise(_MUL, (tensor1, tensor2))
    if value != 1:
        if isinstance(value, float) and product.dtype.category < 2:
            value = int(value)  # torch converts the factor to the product's dtype
        product = record_elementwise(_MUL, (product, value))
    return record_elementwise(_PLUS, (input, product))


@composite(inplace=True, out=True)
def addcdiv(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: Any = 1) -> Tensor:
    """input + value * tensor1 / tensor2.

    Raises:
        RuntimeError: integers.
    """
    if tensor1.dtype.category < 2 and tensor2.dtype.category < 2:
        raise RuntimeError(
            "Integer division with addcdiv is no longer supported, and in a future "
            "release addcdiv will perform a true division of tensor1 and tensor2."
        )
    return rounded_once(lambda a, b, c: _plus_quotient(a, b, c, value), input, tensor1, tensor2)


def _plus_quotient(input: Tensor, tensor1: Tensor, tensor2: Tensor, value: Any) -> Tensor:
    quotient = record_elementwise(_TRUE_DIV, (tensor1, tensor2))
    if value != 1:
        quotient = record_elementwise(_MUL, (quotient, value))
    return record_elementwise(_PLUS, (input, quotient))


@composite(inplace=True, out=True)
def lerp(input: Tensor, end: Tensor, weight: Any) -> Tensor:
    """input + weight * (end - input), exact at both ends.

    Raises:
        RuntimeError: input, end and a tensor weight of different dtypes.
    """
    _same_dtype(input, end, "end")
    if input.dtype.category < 2:
        raise NotImplementedError(
            f"\"lerp_kernel_scalar\" not implemented for '{dtype_word(input.dtype)}'"
        )
    if isinstance(weight, Tensor):
        if weight.ndim:
            _same_dtype(input, weight, "weight")
        return rounded_once(_between, input, end, cast(weight, input.dtype))
    return rounded_once(lambda a, b: _between(a, b, weight), input, end)


def _between(input: Tensor, end: Tensor, weight: Any) -> Tensor:
    span = record_elementwise(_MINUS, (end, input))
    if isinstance(weight, Tensor):
        near = input + weight * span
        return select_where(NAMES["abs"](weight) < 0.5, near, end - span * (1 - weight))
    if abs(weight) < 0.5:
        step = record_elementwise(_MUL, (span, weight))
        return record_elementwise(_PLUS, (input, step))
    return end - span * (1 - weight)


def _same_dtype(input: Tensor, other: Tensor, name: str) -> None:
    if other.dtype is not input.dtype:
        words = {
            "float32": "float",
            "float64": "double",
            "float16": "c10::Half",
            "bfloat16": "c10::BFloat16",
            "int64": "long int",
            "int32": "int",
        }
        want, got = (words.get(t.dtype.name, t.dtype.name) for t in (input, other))
        raise RuntimeError(f"expected dtype {want} for `{name}` but got dtype {got}")


@composite()
def rsub(input: Tensor, other: Any, *, alpha: Any = 1) -> Tensor:
    """other - alpha * input."""
    check_first(rsub.row, (input, other), {})
    return sub(other, input, alpha=alpha)


@composite()
def dist(input: Tensor, other: Tensor, p: Any = 2) -> Tensor:
    """The p-norm of input - other."""
    return NAMES["norm"](input - other, p)


# -- rounding and angles ---------------------------------------------------------------------------


@composite(inplace=True, out="exact", aliases=("special.round",))
def round(input: Tensor, *, decimals: int = 0) -> Tensor:
    """The nearest multiple of 10 ** -decimals, halves to even."""
    if not decimals:
        return round_even(input)
    if input.dtype.category != 2:
        raise NotImplementedError(f"\"round_cpu\" not implemented for '{dtype_word(input.dtype)}'")
    scale = 10.0 ** builtins.abs(decimals)
    if decimals > 0:
        return round_even(input * scale) / scale
    return round_even(input / scale) * scale


@composite(inplace=True, out="exact")
def frac(input: Tensor) -> Tensor:
    """input - trunc(input)."""
    if input.dtype.category != 2:
        raise NotImplementedError(f"\"frac_cpu\" not implemented for '{dtype_word(input.dtype)}'")
    return input - trunc(input)


frac.vjp(lambda g, out, x: (g,))


@composite(inplace=True, out=True)
def deg2rad(input: Tensor) -> Tensor:
    """Degrees as radians."""
    return mul(input, math.pi / 180)


@composite(inplace=True, out=True)
def rad2deg(input: Tensor) -> Tensor:
    """Radians as degrees."""
    return mul(input, 180 / math.pi)


@composite(inplace=True, out=True)
def ldexp(input: Tensor, other: Tensor) -> Tensor:
    """input * 2 ** other."""
    power = exp2(other)
    if input.dtype.category == 2 and other.dtype.category != 2:
        power = cast(power, input.dtype)
    return mul(input, power)


# -- exponentials and logarithms -------------------------------------------------------------------


@composite(out=True, inplace=True)
def float_power(input: Any, exponent: Any) -> Tensor:
    """input ** exponent in float64, or complex128."""
    given = (input, exponent)
    imaginary = any(a.dtype.is_complex if isinstance(a, Tensor) else isinstance(a, builtins.complex)
                    for a in given)  # fmt: skip
    dtype = dtypes.complex128 if imaginary else dtypes.float64
    base, power = (
        to_dtype(a, dtype) if isinstance(a, Tensor) else (complex if imaginary else float)(a)
        for a in given
    )
    return NAMES["pow"](base, power)


def _log_add(input: Tensor, other: Tensor, base2: bool) -> Tensor:
    name = "logaddexp2_cpu" if base2 else "logaddexp_cpu"
    dtype = _common(input, other)
    if dtype.category != 2:
        raise NotImplementedError(f"\"{name}\" not implemented for '{dtype_word(dtype)}'")
    input, other = cast(input, dtype), cast(other, dtype)
    a, b = widen(input), widen(other)
    top = maximum(a, b)
    gap = NAMES["abs"](a - b)
    rest = log1p(exp2(-gap)) * (1 / math.log(2)) if base2 else log1p(exp(-gap))
    # equal infinities have no gap
    same = isinf(a) & (a == b)
    found = select_where(same, top, top + rest)
    return cast(found, dtype)


def _common(input: Tensor, other: Tensor) -> dtypes.dtype:
    """The dtype that two tensors meet in."""
    return dtypes.result_type(tuple((t.dtype, 2 if t.ndim else 1) for t in (input, other)))


def _log_add_complex(input: Tensor, other: Tensor) -> Tensor:
    """The exponent with the larger real part, and what the other adds to it."""
    first = NAMES["real"](input) >= NAMES["real"](other)
    top, low = select_where(first, input, other), select_where(first, other, input)
    return top + NAMES["log1p"](exp(low - top))


def _two_tensors(name: str, input: Any, other: Any) -> None:
    for position, (word, given) in enumerate((("input", input), ("other", other)), 1):
        if not isinstance(given, Tensor):
            raise TypeError(
                f"{name}(): argument '{word}' (position {position}) must be Tensor, not "
                f"{given.__class__.__name__}"
            )


@composite(out=True)
def logaddexp(input: Tensor, other: Tensor) -> Tensor:
    """log(exp(input) + exp(other)) without overflow."""
    _two_tensors("logaddexp", input, other)
    if input.dtype.is_complex:
        return _log_add_complex(input, other)
    return _log_add(input, other, False)


@composite(out=True)
def logaddexp2(input: Tensor, other: Tensor) -> Tensor:
    """log2(2 ** input + 2 ** other) without overflow."""
    _two_tensors("logaddexp2", input, other)
    return _log_add(input, other, True)


def _log_add_vjp(factor: float) -> Any:
    def rule(g: Any, out: Any, x: Any, y: Any) -> tuple[Any, Any]:
        a, b, wide = widen(x), widen(y), widen(g)
        share = sigmoid((a - b) * factor)
        return fit(wide * share, x), fit(wide * sigmoid((b - a) * factor), y)

    return rule


logaddexp.vjp(_log_add_vjp(1.0), saves="input other")
logaddexp2.vjp(_log_add_vjp(math.log(2)), saves="input other")


@composite(inplace=True, out=True, aliases=("special.xlogy",))
def xlogy(input: Any, other: Any) -> Tensor:
    """input * log(other), 0 where input is 0 (NaN where other is)."""
    if isinstance(input, Tensor) and isinstance(other, Tensor):
        other = cast(other, _common(input, other))
    logs = (
        log(other)
        if isinstance(other, Tensor)
        else math.log(other)
        if other > 0
        else (-math.inf if other == 0 else math.nan)
    )
    found = select_where(_equals(input, 0), 0.0, mul(input, logs))
    if isinstance(other, Tensor):
        return select_where(isnan(other), math.nan, found)
    return found * math.nan if other != other else found


def _equals(x: Any, value: float) -> Any:
    """x == value as a tensor's condition, also for numbers."""
    return x == value if isinstance(x, Tensor) else NAMES["full"]((), x == value)


def _xlogy_vjp(g: Any, out: Any, x: Any, y: Any) -> tuple[Any, Any]:
    gx = gy = None
    if isinstance(x, Tensor) and x.dtype.category == 2:
        logs = log(y) if isinstance(y, Tensor) else xlogy(NAMES["ones_like"](x), y)
        never = (x == 0) & (y <= 0)
        gx = fit(select_where(never, 0.0, g * logs), x)
    if isinstance(y, Tensor) and y.dtype.category == 2:
        gy = fit(g * x / y, y)
    return gx, gy


xlogy.vjp(_xlogy_vjp, saves="input other")


@composite(inplace=True, out=True, aliases=("special.logit",))
def logit(input: Tensor, eps: float | None = None) -> Tensor:
    """log(x / (1 - x)), x first clamped to [eps, 1 - eps] when eps is given."""
    x = mul(input, 1.0) if input.dtype.category == 0 else widen(input)
    if eps is not None:
        x = minimum(maximum(x, float(eps)), 1.0 - eps)
    found = log(x / (1.0 - x))
    return cast(found, input.dtype) if input.dtype.category == 2 else found


def _logit_vjp(g: Any, out: Any, x: Any, eps: float | None = None) -> tuple[Any, ...]:
    low = 0.0 if eps is None else eps
    inside = (x >= low) & (x <= 1.0 - low)
    outside = math.nan if eps is None else 0.0
    return select_where(inside, g / (x * (1.0 - x)), outside), None


logit.vjp(_logit_vjp, saves="input")


@composite(inplace=True, out=True, aliases=("special.sinc",))
def sinc(input: Tensor) -> Tensor:
    """sin(pi x) / (pi x), 1 at 0."""
    angle = mul(widen(input), math.pi)
    found = select_where(angle == 0, 1.0, sin(angle) / angle)
    return cast(found, input.dtype) if input.dtype.category == 2 else found


def _sinc_vjp(g: Any, out: Any, x: Any) -> tuple[Any, ...]:
    angle, wide = widen(x) * math.pi, widen(g)
    slope = (angle * cos(angle) - sin(angle)) / (angle * widen(x))
    return (cast(select_where(angle == 0, 0.0, wide * slope), g.dtype),)


sinc.vjp(_sinc_vjp, saves="input")


@primitive("host", method=False)
def polygamma_host(row: Any, input: Tensor, n: int) -> Tensor:
    """The n-th derivative of digamma, by SciPy."""
    scipy_special("polygamma")
    return emit(row, (input,), (n,), input._shape, input.dtype)


def _polygamma(x: Any, n: int) -> Any:
    special = scipy_special("polygamma")
    return np.asarray(special.polygamma(n, np.asarray(x, np.float64))).astype(x.dtype)


polygamma_host.batch(())
polygamma_host.reference(_polygamma)
polygamma_host.vjp(lambda g, out, x, n: (g * polygamma_host(x, n + 1), None), saves="input")


@composite(method=False, out=True, aliases=("special.polygamma",))
def polygamma(n: int, input: Tensor) -> Tensor:
    """The n-th derivative of digamma, n >= 0."""
    if n < 0:
        raise RuntimeError("polygamma(n, x) does not support negative n.")
    if input.dtype.category != 2:
        input = to_dtype(input, dtypes.get_default_dtype())
    return NAMES["digamma"](input) if n == 0 else polygamma_host(input, n)


@primitive("host", method=False, differentiable=False)
def integer_pair(row: Any, input: Tensor, other: Tensor, which: str) -> Tensor:
    """gcd or lcm of two integer tensors of one shape and dtype, by NumPy."""
    return emit(row, (input, other), (which,), input._shape, input.dtype)


integer_pair.batch(())
integer_pair.reference(
    lambda x, y, which: np.asarray({"gcd": np.gcd, "lcm": np.lcm}[which](x, y)).astype(x.dtype)
)


def _of_integers(which: str, input: Tensor, other: Tensor) -> Tensor:
    dtype = _common(input, other)
    if dtype.category != 1:
        raise NotImplementedError(f"\"{which}_cpu\" not implemented for '{dtype_word(dtype)}'")
    shape = broadcast_shapes(input._shape, other._shape)
    return integer_pair(*(expand_to(cast(t, dtype), shape) for t in (input, other)), which)


@composite(inplace=True, out=True)
def gcd(input: Tensor, other: Tensor) -> Tensor:
    """Greatest common divisor of integers, not negative."""
    return _of_integers("gcd", input, other)


@composite(inplace=True, out=True)
def lcm(input: Tensor, other: Tensor) -> Tensor:
    """Least common multiple of integers, not negative."""
    return _of_integers("lcm", input, other)


# -- special values --------------------------------------------------------------------------------


@composite(inplace=True, out="exact")
def heaviside(input: Tensor, values: Tensor) -> Tensor:
    """0 below 0, 1 above, `values` at 0.

    Raises:
        RuntimeError: different dtypes.
    """
    if input.dtype is not values.dtype:
        raise RuntimeError("heaviside is not yet implemented for tensors with different dtypes.")
    above = cast(input > 0, input.dtype)
    return select_where(input == 0, values, above).detach()


@composite(inplace=True, out="exact")
def nan_to_num(
    input: Tensor,
    nan: float | None = None,
    posinf: float | None = None,
    neginf: float | None = None,
) -> Tensor:
    """NaN and infinities replaced: by 0 and the dtype's largest and smallest unless given."""
    if input.dtype.category != 2:
        return NAMES["clone"](input)
    limits = dtypes.finfo(input.dtype)
    high = limits.max if posinf is None else float(posinf)
    low = limits.min if neginf is None else float(neginf)
    x = select_where(isnan(input), 0.0 if nan is None else float(nan), input)
    x = select_where(input == math.inf, high, x)
    return select_where(input == -math.inf, low, x)


@composite(inplace=True, out="exact")
def sgn(input: Tensor) -> Tensor:
    """-1, 0 or 1; of a complex number the one of size 1 in its direction."""
    if input.dtype.is_complex:
        size = abs(input)
        return select_where(size == 0, 0.0, input / size)
    return sign(input)


@composite()
def positive(input: Tensor) -> Tensor:
    """The tensor itself.

    Raises:
        RuntimeError: bools.
    """
    if input.dtype.category == 0:
        raise RuntimeError("The `+` operator, on a bool tensor is not supported.")
    return input


@composite(out="exact")
def isposinf(input: Tensor) -> Tensor:
    """Whether each element is +inf."""
    return input == math.inf


@composite(out="exact")
def isneginf(input: Tensor) -> Tensor:
    """Whether each element is -inf."""
    return input == -math.inf


@composite()
def isreal(input: Tensor) -> Tensor:
    """Whether each element has no imaginary part."""
    if input.dtype.is_complex:
        return NAMES["imag"](input) == 0
    return NAMES["ones_like"](input, dtype=dtypes.bool)


# -- comparing tensors -----------------------------------------------------------------------------


@composite()
def isclose(
    input: Tensor, other: Tensor, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False
) -> Tensor:
    """|input - other| <= atol + rtol * |other|, elementwise; infinities only equal themselves.

    Raises:
        RuntimeError: different dtypes, or a negative tolerance.
    """
    if input.dtype is not other.dtype:
        raise RuntimeError(f"{dtype_word(input.dtype)} did not match {dtype_word(other.dtype)}")
    for name, bound in (("rtol", rtol), ("atol", atol)):
        if bound < 0:
            raise RuntimeError(f"{name} must be greater than or equal to zero, but got {bound:g}")
    same = input == other
    if equal_nan and input.dtype.category >= 2:
        same = same | (isnan(input) & isnan(other))
    if rtol == 0 and atol == 0:
        return same
    if input.dtype.category < 2:
        input, other = (to_dtype(t, dtypes.float64) for t in (input, other))
    gap = NAMES["abs"](input - other)
    allowed = NAMES["abs"](other) * rtol + atol
    return same | (NAMES["isfinite"](gap) & (gap <= allowed))


@composite()
def allclose(
    input: Tensor, other: Tensor, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False
) -> bool:
    """Whether `isclose` holds everywhere; executes what is pending."""
    return bool(_all(isclose(input, other, rtol, atol, equal_nan)))


def _all(condition: Tensor) -> Any:
    """Whether every element holds, as a Python bool."""
    if not condition.numel():
        return True
    flat = condition.reshape(-1)
    return min_axes(cast(flat, dtypes.uint8), (0,)).item()


@composite()
def equal(input: Tensor, other: Tensor) -> bool:
    """Whether shapes and all elements are equal; executes what is pending."""
    return input._shape == other._shape and bool(_all(input == other))


# -- questions about tensors -----------------------------------------------------------------------


def result_type(tensor1: Any, tensor2: Any) -> Any:
    """The dtype that an operation on two tensors or numbers would give."""
    return dtypes.result_type(
        tuple(
            (t.dtype, 2 if t.ndim else 1) if isinstance(t, Tensor) else (dtypes.scalar_dtype(t), 0)
            for t in (tensor1, tensor2)
        )
    )


def is_tensor(obj: Any) -> bool:
    """Whether an object is a tensor."""
    return isinstance(obj, Tensor)


def is_nonzero(input: Tensor) -> bool:
    """Whether the only element is not 0; executes what is pending."""
    return bool(input)


def _question(name: str) -> Any:
    method = getattr(Tensor, name)

    def ask(input: Tensor) -> Any:
        return method(input)

    ask.__name__ = ask.__qualname__ = name
    ask.__doc__ = method.__doc__
    return ask


for _function in (
    result_type,
    is_tensor,
    is_nonzero,
    *map(
        _question,
        ("numel", "is_floating_point", "is_complex", "is_signed", "is_inference", "is_same_size"),
    ),
):
    NAMES[_function.__name__] = _function
NAMES["can_cast"] = dtypes.can_cast

# comparisons and logic in place: the result is stored as 0 and 1
for _name in (
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "logical_and",
    "logical_or",
    "logical_xor",
    "logical_not",
    "not_equal",
    "less",
    "less_equal",
    "greater",
    "greater_equal",
):
    setattr(Tensor, _name + "_", inplace_form(NAMES[_name].row, NAMES[_name], _name))

_TRUE_DIV.shown, ROWS["select_where"].shown = lambda *_: div, lambda *_: where

for _name, _method in (
    ("where", lambda self, condition, y: where(condition, self, y)),
    ("polygamma", lambda self, n: polygamma(n, self)),
    ("polygamma_", lambda self, n: self.copy_(polygamma(n, self.clone()))),
    ("is_nonzero", is_nonzero),
):
    setattr(Tensor, _name, _method)
