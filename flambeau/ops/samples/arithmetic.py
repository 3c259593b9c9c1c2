"""Samples of `ops/arithmetic.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flambeau.dtype import int32, int64
from flambeau.ops.rows import ROWS

Samples = Callable[[Any], list[tuple[Any, ...]]]


def unary(low: float = -2.0, high: float = 2.0) -> Samples:
    """One floating tensor of many layouts, with values in [low, high)."""
    return lambda r: [
        (r(3, 4, low=low, high=high),),
        (r(low=low, high=high),),
        (r(0, 2, low=low, high=high),),
        (r(1, low=low, high=high),),
        (r(4, 3, low=low, high=high).t(),),
        (r(6, 5, low=low, high=high)[::2, 1:4],),
        (r(3, 1, low=low, high=high).expand(3, 4),),
    ]


def binary(low: float = -2.0, high: float = 2.0) -> Samples:
    """Two floating tensors that broadcast, with values in [low, high)."""
    return lambda r: [
        (r(3, 4, low=low, high=high), r(3, 4, low=low, high=high)),
        (r(3, 4, low=low, high=high), r(4, low=low, high=high)),
        (r(3, 1, low=low, high=high), r(1, 4, low=low, high=high)),
        (r(low=low, high=high), r(2, 3, low=low, high=high)),
        (r(0, 4, low=low, high=high), r(4, low=low, high=high)),
        (r(4, 3, low=low, high=high).t(), r(3, 4, low=low, high=high)),
    ]


def integers(r: Any) -> list[tuple[Any, ...]]:
    """Two integer tensors that broadcast."""
    return [
        (r(3, 4, dtype=int64, low=-20, high=20), r(4, dtype=int64, low=-20, high=20)),
        (r(2, dtype=int32, low=1, high=9), r(2, dtype=int32, low=1, high=9)),
    ]


def truths(r: Any, *shape: int) -> Any:
    """A bool tensor."""
    return r(*shape, dtype=int64, low=0, high=2) > 0


def with_numbers(samples: Samples, *numbers: Any) -> Samples:
    """The samples, with further arguments."""
    return lambda r: [(*args, *numbers) for args in samples(r)]


SAMPLES: dict[str, Samples] = {
    "div": lambda r: [
        *binary(0.5, 2.0)(r),
        (r(3, 4), 2.5),
        (r(3, 4, dtype=int64, low=0, high=9), 2),
        (r(3, 4), r(4, low=0.5, high=2.0), {"rounding_mode": "floor"}),
        (r(3, 4), 0.7, {"rounding_mode": "trunc"}),
    ],
    "where": lambda r: [
        (truths(r, 3, 4), r(3, 4), r(4)),
        (truths(r, 3, 1), r(4), 0.5),
        (truths(r), r(2, 2), r()),
        (truths(r, 0, 2), r(0, 2), r(2)),
    ],
    "clamp": lambda r: [
        *with_numbers(unary(), -0.5, 0.5)(r),
        (r(3, 4), None, 0.3),
        (r(3, 4), r(4, low=-1, high=0), r(3, 1, low=0, high=1)),
        (r(3, dtype=int64, low=-5, high=5), 0, 2),
    ],
    "clamp_min": lambda r: [(r(3, 4), 0.1), (r(3, 4), r(4))],
    "clamp_max": lambda r: [(r(3, 4), 0.1), (r(3, 4), r(4))],
    "square": unary(),
    "addcmul": lambda r: [
        (r(3, 4), r(4), r(3, 1)),
        (r(3, 4), r(3, 4), r(3, 4), {"value": 0.3}),
        (r(), r(), r()),
    ],
    "addcdiv": lambda r: [
        (r(3, 4), r(4), r(3, 1, low=0.5, high=2.0)),
        (r(3, 4), r(3, 4), r(3, 4, low=0.5, high=2.0), {"value": -0.3}),
    ],
    "lerp": lambda r: [
        (r(3, 4), r(3, 4), 0.3),
        (r(3, 4), r(4), 0.8),
        (r(3, 4), r(3, 4), r(4, low=0, high=1)),
        (r(), r(), 0.5),
    ],
    "rsub": lambda r: [(r(3, 4), r(4)), (r(3, 4), 2.0, {"alpha": 0.5})],
    "dist": lambda r: [(r(3, 4), r(4)), (r(5), r(5), 1)],
    "ldexp": lambda r: [(r(3, 4), r(4, dtype=int64, low=-3, high=4))],
    "round": lambda r: [
        *unary(-9.3, 9.4)(r),
        (r(3, 4), {"decimals": 2}),
        (r(3, 4, low=-90, high=90), {"decimals": -1}),
    ],
    "frac": unary(0.1, 0.9),
    "deg2rad": unary(),
    "rad2deg": unary(),
    "float_power": lambda r: [(r(3, 4, low=0.5, high=2.0), r(4)), (r(3, low=0.5, high=2.0), 2)],
    "logaddexp": binary(),
    "logaddexp2": binary(),
    "xlogy": lambda r: [*binary(0.1, 2.0)(r), (r(3, 4), 2.0), (2.0, r(3, low=0.1, high=2.0))],
    "logit": lambda r: [*unary(0.05, 0.95)(r), (r(3, 4, low=0.15, high=0.85), 0.1)],
    "sinc": unary(),
    "polygamma": lambda r: [(n, r(3, 4, low=0.5, high=4.0)) for n in (0, 1, 2)],
    "polygamma_host": lambda r: [(r(3, 4, low=0.5, high=4.0), 1)],
    "gcd": integers,
    "lcm": integers,
    "integer_pair": lambda r: [
        (r(3, dtype=int64, low=1, high=30), r(3, dtype=int64, low=1, high=30), "gcd")
    ],
    "heaviside": lambda r: [(r(3, 4), r(4)), (r(3, 4) * 0.0, r())],
    "nan_to_num": lambda r: [*unary()(r), (r(3, 4) / 0.0, 1.0, 2.0, 3.0)],
    "sgn": unary(0.1, 2.0),
    "positive": unary(),
    "isposinf": unary(),
    "isneginf": unary(),
    "isreal": unary(),
    "isclose": lambda r: [(r(3, 4), r(3, 4)), (r(3, 4), r(4), 0.5, 0.1)],
    "allclose": lambda r: [(r(3, 4), r(3, 4)), (r(3, 4), r(3, 4), 10.0, 10.0)],
    "equal": lambda r: [(r(3, 4), r(3, 4)), (r(3), r(4))],
}
for _name, _samples in SAMPLES.items():
    ROWS[_name].samples = _samples
