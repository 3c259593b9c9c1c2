"""Samples of `ops/elementwise.py`."""

from __future__ import annotations

from typing import Any

from flambeau.dtype import float32, float64, int64
from flambeau.ops.rows import ROWS
from flambeau.ops.samples.arithmetic import Samples, binary, integers, truths, unary


def either(low: float = -2.0, high: float = 2.0) -> Samples:
    """Two tensors, and a tensor with numbers on its right."""
    return lambda r: [
        *binary(low, high)(r),
        (r(3, 4, low=low, high=high), 1.5),
        (r(3, 4, low=low, high=high), 2),
        (r(2, 300, low=low, high=high), r(300, low=low, high=high)),
    ]


def apart(r: Any) -> list[tuple[Any, ...]]:
    """A dividend and divisors away from zero."""
    return [
        (r(3, 4, low=-5, high=5), r(4, low=0.6, high=3)),
        (r(3, 4, low=-5, high=5), 1.7),
        (r(low=2, high=4), r(2, 3, low=0.6, high=3)),
        (r(0, 4), r(4, low=1, high=2)),
        (r(4, 3, low=1, high=9).t(), r(3, 4, low=-3, high=-0.6)),
    ]


def flags(r: Any) -> list[tuple[Any, ...]]:
    """Two bool tensors and two of small integers."""
    return [(truths(r, 3, 4), truths(r, 4)), (truths(r), truths(r, 2, 2)), *integers(r)]


def shifts(r: Any) -> list[tuple[Any, ...]]:
    """Integers and shifts within their width."""
    return [
        (r(3, 4, dtype=int64, low=-90, high=90), r(4, dtype=int64, low=0, high=9)),
        (r(3, 4, dtype=int64, low=-90, high=90), 3),
    ]


def _widened(r: Any) -> list[tuple[Any, ...]]:
    return [(r(3, 4), float64), (r(0, 2), float32), (r(4, 3).t(), float64), (r(), float32)]


SAMPLES: dict[str, Samples] = {
    "to_dtype": lambda r: [*_widened(r), (r(3, 4, low=-9, high=9), int64)],
    "select_where": lambda r: [
        (truths(r, 3, 4), r(3, 4), r(4)),
        (truths(r, 4), r(3, 4), 0.5),
        (truths(r, 3, 1), r(), r(1, 4)),
    ],
    "pow": lambda r: [
        *binary(0.4, 2.0)(r),
        *((r(3, 4, low=0.4, high=2.0), n) for n in (2, 3, -1, 0.5, 0, 1.7)),
    ],
    "bitwise_not": lambda r: [(truths(r, 3, 4),), (r(3, 4, dtype=int64, low=-9, high=9),)],
    "bitwise_left_shift": shifts,
    "bitwise_right_shift": shifts,
    "nextafter": binary(),
    "hypot": binary(0.3, 2.0),
    "atan2": either(0.3, 2.0),
    "acosh": unary(1.2, 3.0),
    "reciprocal": unary(0.5, 2.0),
    "rsqrt": unary(0.3, 2.0),
    "sqrt": unary(0.3, 4.0),
    "true_div": lambda r: apart(r),
    "uniform_of_bits": lambda r: [
        (r(3, 4, dtype=int64, low=-9, high=9), 24, False),
        (r(dtype=int64, low=-(1 << 62), high=1 << 62), 53, False),
        (r(5, dtype=int64, low=-(1 << 62), high=1 << 62), 23, True),
    ],
    "normal_of_bits": lambda r: [
        (r(3, 4, dtype=int64, low=-(1 << 62), high=1 << 62), None),
        (r(dtype=int64, low=0, high=1 << 62), r(dtype=int64, low=0, high=1 << 62)),
    ],
    "uniform_of_words": lambda r: [(r(3, 4, dtype=int64, low=0, high=1 << 32),)],
    "uniform_of_pairs": lambda r: [(r(3, 2, dtype=int64, low=0, high=1 << 32),)],
    "normal_of_uniform": lambda r: [
        (r(32, low=0.0, high=0.9), 32, 32),
        (r(32, low=0.0, high=0.9), 21, 16),
    ],
    "random_at": lambda r: [
        (r(3, 4, dtype=int64, low=0, high=99), r(dtype=int64, low=0, high=9)),
        (r(5, dtype=int64, low=-9, high=9), r(5, dtype=int64, low=0, high=9)),
    ],
}
for _name in ("mul", "plus", "minus", "maximum", "minimum", "fmax", "fmin", "copysign"):
    SAMPLES[_name] = either()
for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    SAMPLES[_name] = lambda r: [*either()(r), *integers(r), (truths(r, 3), truths(r, 3))]
for _name in ("logical_and", "logical_or", "logical_xor"):
    SAMPLES[_name] = lambda r: [*flags(r), (r(3, 4), r(4))]
SAMPLES["logical_not"] = lambda r: [(truths(r, 3, 4),), (r(3, 4),)]
for _name in ("bitwise_and", "bitwise_or", "bitwise_xor"):
    SAMPLES[_name] = flags
for _name in ("floor_divide", "trunc_divide", "remainder", "fmod"):
    SAMPLES[_name] = lambda r: [*apart(r), (r(9, dtype=int64, low=-9, high=9), 4)]
for _name in ("neg", "abs", "sign", "signbit", "floor", "ceil", "trunc", "round_even", "exp",
              "exp2", "expm1", "sin", "cos", "atan", "sinh", "cosh", "tanh", "asinh", "erf", "erfc",
              "sigmoid", "normal_cdf", "normal_pdf", "isnan", "isinf", "isfinite"):  # fmt: skip
    SAMPLES[_name] = unary(-3.3, 3.3)
for _name in ("log", "log2", "log10", "lgamma", "digamma"):
    SAMPLES[_name] = unary(0.2, 5.0)
for _name in ("asin", "acos", "atanh", "erfinv", "log1p"):
    SAMPLES[_name] = unary(-0.9, 0.9)
SAMPLES["tan"] = unary(-1.2, 1.2)
for _name, _samples in SAMPLES.items():
    ROWS[_name].samples = _samples
