"""Composites of elementwise arithmetic: bounds, rounding, fused multiply forms, comparisons."""

from __future__ import annotations

import math
from typing import Any

from flambeau import dtype as dtypes
from flambeau.ops.creation import to_dtype
from flambeau.ops.elementwise import (
    _sub,
    bitwise_and,
    bitwise_or,
    bitwise_xor,
    exp,
    exp2,
    floor_divide,
    isinf,
    isnan,
    log,
    log1p,
    log2,
    maximum,
    minimum,
    mul,
    round_even,
    select_where,
    sigmoid,
    sign,
    signbit,
    sin,
    cos,
    true_div,
    trunc,
    trunc_divide,
)
from flambeau.ops.precision import cast, fit, widen
from flambeau.ops.table import NAMES, ROWS, Number, composite, functional, record_elementwise
from flambeau.tensor import Tensor

_PLUS, _MINUS, _MUL = ROWS["plus"], ROWS["minus"], ROWS["mul"]
_TRUE_DIV = ROWS["true_div"]


def dtype_word(d: Any) -> str:
    """torch's word for a dtype in messages: Float, Long, ..."""
    return {"float32": "Float", "float64": "Double", "float16": "Half", "bfloat16": "BFloat16",
            "int64": "Long", "int32": "Int", "int16": "Short", "int8": "Char", "uint8": "Byte",
            "bool": "Bool"}[d.name]


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
        return record_elementwise(_TRUE_DIV, (input, other))  # type: ignore[no-any-return]
    if rounding_mode == "floor":
        return floor_divide(input, other)  # type: ignore[no-any-return]
    if rounding_mode == "trunc":
        return trunc_divide(input, other)  # type: ignore[no-any-return]
    raise RuntimeError(f"div expected rounding_mode to be one of None, 'trunc', or 'floor' but "
                       f"found '{rounding_mode}'")


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
        raise TypeError(f"where(): argument 'condition' (position 1) must be Tensor, not "
                        f"{type(condition).__name__}")
    if condition.dtype is not dtypes.bool:
        if condition.dtype is not dtypes.uint8:
            raise RuntimeError(f"where expected condition to be a boolean tensor, but got a tensor "
                               f"with dtype {dtype_word(condition.dtype)}")
        condition = to_dtype(condition, dtypes.bool)
    return select_where(condition, input, other)


setattr(Tensor, "where", lambda self, condition, y: where(condition, self, y))


# -- bounds ----------------------------------------------------------------------------------------


@composite(inplace=True, out=True, aliases=("clip",))
def clamp(input: Tensor, min: Any = None, max: Any = None) -> Tensor:  # noqa: A002
    """The nearest value in [min, max]; max where the bounds cross; NaN stays.

    Args:
        min: lower bound, a number or a tensor that broadcasts; None for none.
        max: upper bound likewise.

    Raises:
        RuntimeError: neither bound is given.
    """
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
def clamp_min(input: Tensor, min: Any) -> Tensor:  # noqa: A002
    """The larger of input and a bound."""
    return clamp(input, min)  # type: ignore[no-any-return]


@composite(inplace=True, out=True)
def clamp_max(input: Tensor, max: Any) -> Tensor:  # noqa: A002
    """The smaller of input and a bound."""
    return clamp(input, None, max)  # type: ignore[no-any-return]


# -- fused multiply forms --------------------------------------------------------------------------


@composite(inplace=True, out=True)
def square(input: Tensor) -> Tensor:
    """input * input."""
    return record_elementwise(_MUL, (input, input))  # type: ignore[no-any-return]


square.vjp(lambda g, out, x: (g * (x * 2.0),), saves="input")


@composite(inplace=True, out=True)
def addcmul(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: Any = 1) -> Tensor:
    """input + value * tensor1 * tensor2."""
    product = record_elementwise(_MUL, (tensor1, tensor2))
    if value != 1:
        product = record_elementwise(_MUL, (product, value))
    return record_elementwise(_PLUS, (input, product))  # type: ignore[no-any-return]


@composite(inplace=True, out=True)
def addcdiv(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: Any = 1) -> Tensor:
    """input + value * tensor1 / tensor2.

    Raises:
        RuntimeError: integers.
    """
    if tensor1.dtype.category != 2 and tensor2.dtype.category != 2:
        raise RuntimeError("Integer division with addcdiv is no longer supported, and in a future "
                           "release addcdiv will perform a true division of tensor1 and tensor2.")
    quotient = record_elementwise(_TRUE_DIV, (tensor1, tensor2))
    if value != 1:
        quotient = record_elementwise(_MUL, (quotient, value))
    return record_elementwise(_PLUS, (input, quotient))  # type: ignore[no-any-return]


@composite(inplace=True, out=True)
def lerp(input: Tensor, end: Tensor, weight: Any) -> Tensor:
    """input + weight * (end - input), exact at both ends.

    Raises:
        RuntimeError: input, end and a tensor weight of different dtypes.
    """
    _same_dtype(input, end, "end")
    span = record_elementwise(_MINUS, (end, input))
    if isinstance(weight, Tensor):
        _same_dtype(input, weight, "weight")
        near = input + weight * span
        return select_where(abs(weight) < 0.5, near,  # type: ignore[no-any-return]
                            end - span * (1 - weight))
    if -0.5 < weight < 0.5:
        step = record_elementwise(_MUL, (span, weight))
        return record_elementwise(_PLUS, (input, step))  # type: ignore[no-any-return]
    return end - span * (1 - weight)  # type: ignore[no-any-return]


def _same_dtype(input: Tensor, other: Tensor, name: str) -> None:
    if other.dtype is not input.dtype:
        words = {"float32": "float", "float64": "double", "float16": "c10::Half",
                 "bfloat16": "c10::BFloat16", "int64": "long int", "int32": "int"}
        raise RuntimeError(f"expected dtype {words.get(input.dtype.name, input.dtype.name)} for "
                           f"`{name}` but got dtype {words.get(other.dtype.name, other.dtype.name)}")


@composite(inplace=True, out=False, aliases=())
def rsub(input: Tensor, other: Any, *, alpha: Any = 1) -> Tensor:
    """other - alpha * input."""
    if alpha != 1:
        input = mul(input, alpha)
    if isinstance(other, Tensor):
        return _sub(other, input)  # type: ignore[no-any-return]
    return record_elementwise(_MINUS, (other, input))  # type: ignore[no-any-return]


@composite()
def dist(input: Tensor, other: Tensor, p: Any = 2) -> Tensor:
    """The p-norm of input - other."""
    return NAMES["norm"](input - other, p)  # type: ignore[no-any-return]


@composite(inplace=True, out=True)
def ldexp(input: Tensor, other: Tensor) -> Tensor:
    """input * 2 ** other."""
    return mul(input, NAMES["pow"](2.0, other))  # type: ignore[no-any-return]
