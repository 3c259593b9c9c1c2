"""Samples of `ops/activation.py`."""

from __future__ import annotations

from flambeau.ops.rows import ROWS
from flambeau.ops.samples.arithmetic import Samples, unary, with_numbers


def along(*, last: bool = True) -> Samples:
    """A tensor and a dimension."""
    return lambda r: [
        (r(3, 4), 1),
        (r(3, 4), 0),
        (r(2, 3, 4), 1),
        (r(5, low=-60, high=60), 0),
        (r(), 0),
        (r(4, 3).t(), 1),
        (r(2, 0), 1 if last else 0),
        (r(2, 600), 1),
    ]


SAMPLES: dict[str, Samples] = {
    # away from the kinks: finite differences do not see them
    "relu": unary(),
    "relu6": unary(-8.0, 8.0),
    "hardtanh": lambda r: [*unary()(r), (r(3, 4), -0.3, 0.7)],
    "leaky_relu": lambda r: [*unary()(r), (r(3, 4), 0.2)],
    "threshold": with_numbers(unary(), 0.5, -3.0),
    "prelu": lambda r: [(r(3, 4), r(4)), (r(2, 3, 4), r(3)), (r(5), r(1)), (r(3, 4), r())],
    "rrelu": unary(),
    "_sloped": lambda r: [(r(3, 4), r(3, 4))],
    "gelu": lambda r: [*unary(-6.0, 6.0)(r), (r(3, 4), {"approximate": "tanh"})],
    "silu": unary(-9.0, 9.0),
    "mish": unary(-9.0, 9.0),
    "exponential_unit": with_numbers(unary(), 0.7, 1.2, 0.9),
    "elu": lambda r: [*unary()(r), (r(3, 4), 0.3)],
    "selu": unary(),
    "celu": lambda r: [*unary()(r), (r(3, 4), 0.3)],
    "softplus": lambda r: [*unary(-30.0, 30.0)(r), (r(3, 4), 2.0, 1.0)],
    "logsigmoid": unary(-30.0, 30.0),
    "hardsigmoid": unary(-5.0, 5.0),
    "hardswish": unary(-5.0, 5.0),
    "hardshrink": lambda r: [*unary()(r), (r(3, 4), 0.2)],
    "softshrink": lambda r: [*unary()(r), (r(3, 4), 0.2)],
    "tanhshrink": unary(),
    "softsign": unary(),
    "glu": lambda r: [(r(3, 4),), (r(4, 3), 0), (r(2, 6, 3), 1)],
    "_softmax": along(),
    "_log_softmax": along(),
    "softmax": along(),
    "log_softmax": along(),
}
for _name, _samples in SAMPLES.items():
    ROWS[_name].samples = _samples
