"""Elementwise functions. Arrays and numbers are converted to one dtype first."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import flambeau
from flambeau.array_api.promotion import alike

#: The standard's name -> ours, where it is another.
_UNARY = {
    **{name: name for name in (
        "abs acos acosh asin asinh atan atanh ceil cos cosh exp expm1 floor isfinite isinf isnan "
        "log log10 log1p log2 logical_not negative positive real reciprocal signbit sin sinh sqrt "
        "square tan tanh trunc"
    ).split()},
    "bitwise_invert": "bitwise_not",
    "conj": "conj_physical",
}  # fmt: skip
_BINARY = {
    **{name: name for name in (
        "add atan2 bitwise_and bitwise_left_shift bitwise_or bitwise_right_shift bitwise_xor "
        "copysign divide floor_divide greater greater_equal hypot less less_equal logaddexp "
        "logical_and logical_or logical_xor maximum minimum multiply nextafter not_equal pow "
        "subtract"
    ).split()},
    "equal": "eq",
}  # fmt: skip


def _unary(name: str, ours: str) -> Callable[..., Any]:
    row = getattr(flambeau, ours)

    @functools.wraps(row)
    def call(x: Any, /) -> Any:
        return row(x)

    return _named(call, name)


def _binary(name: str, ours: str) -> Callable[..., Any]:
    row = getattr(flambeau, ours)

    @functools.wraps(row)
    def call(x1: Any, x2: Any, /) -> Any:
        return row(*alike(x1, x2))

    return _named(call, name)


def _named(call: Any, name: str) -> Any:
    call.__name__ = call.__qualname__ = name
    del call.__wrapped__  # its signature is the standard's
    return call


globals().update({name: _unary(name, ours) for name, ours in _UNARY.items()})
globals().update({name: _binary(name, ours) for name, ours in _BINARY.items()})


def imag(x: Any, /) -> Any:
    """Imaginary parts; 0 of real numbers."""
    return x.imag if x.dtype.is_complex else flambeau.zeros_like(x)


def remainder(x1: Any, x2: Any, /) -> Any:
    """x1 - floor(x1 / x2) * x2, with the sign of x2 also where it is 0."""
    x1, x2 = alike(x1, x2)
    found = flambeau.remainder(x1, x2)
    if not found.is_floating_point():
        return found
    return flambeau.where(found == 0, flambeau.copysign(found, x2), found)


def sign(x: Any, /) -> Any:
    """-1, 0 or 1; x / |x| of complex numbers; NaN of NaN."""
    if x.dtype.is_complex:
        return flambeau.sgn(x)
    found = flambeau.sign(x)
    return flambeau.where(x != x, x, found) if x.is_floating_point() else found


def round(x: Any, /) -> Any:
    """The nearest integers, halves to even; both parts of complex numbers."""
    if x.dtype.is_complex:
        return flambeau.complex(flambeau.round(x.real), flambeau.round(x.imag))
    return flambeau.round(x)


def clip(x: Any, /, min: Any = None, max: Any = None) -> Any:
    """Values below `min` or above `max` become them; the dtype stays.

    Args:
        min: a number, an array that broadcasts, or None.
        max: likewise.
    """
    for bound, choose in ((min, flambeau.maximum), (max, flambeau.minimum)):
        if bound is None:
            continue
        if isinstance(bound, flambeau.Tensor):
            x = choose(x, bound.to(x.dtype))
        elif x.is_floating_point():
            x = choose(x, flambeau.tensor(bound, dtype=x.dtype, device=x.device))
        else:
            info = flambeau.iinfo(x.dtype)
            if info.min < bound < info.max or bound in (info.min, info.max):
                x = choose(x, flambeau.tensor(int(bound), dtype=x.dtype, device=x.device))
    return x.clone() if min is None and max is None else x


def where(condition: Any, x1: Any, x2: Any, /) -> Any:
    """x1 where the condition holds, else x2."""
    if not any(isinstance(x, flambeau.Tensor) for x in (x1, x2)):
        return flambeau.where(condition, x1, x2)
    return flambeau.where(condition, *alike(x1, x2))


__all__ = [*_UNARY, *_BINARY, "clip", "imag", "remainder", "round", "sign", "where"]
