"""Samples of `ops/updates.py`."""

from __future__ import annotations

from typing import Any

from flambeau.ops.rows import ROWS
from flambeau.ops.samples.arithmetic import Samples


def positive(r: Any, shape: tuple[int, ...], both: bool) -> tuple[Any, Any]:
    """An average of squares, and the greatest so far or None."""
    return r(*shape, low=0.2, high=1.0), r(*shape, low=0.2, high=1.0) if both else None


SAMPLES: dict[str, Samples] = {
    "adam_update": lambda r: [
        (*(r(*shape) for _ in range(3)), *positive(r, shape, most), 0.99, 0.1, 0.2, 1e-3, 0.03)
        for shape in ((3, 4), (), (0, 2), (5,))
        for most in (False, True)
    ],
    "rmsprop_update": lambda r: [
        (r(3, 4), r(3, 4), *positive(r, (3, 4), False), None, 0.1, 0.9, 1e-3, 0.03),
        (r(5), r(5), r(5, low=2.0, high=3.0), r(5), None, 0.1, 0.9, 1e-3, 0.03),
        (r(), r(), r(low=2.0, high=3.0), r(), r(), 0.1, 0.9, 1e-3, 0.03),
        (r(2, 3), r(3, 2).t(), r(2, 3, low=0.5, high=1.0), None, r(2, 3), 0.1, 0.9, 1e-3, 0.03),
    ],
    "adagrad_update": lambda r: [
        (r(*shape), r(*shape), r(*shape, low=0.2, high=1.0), 1e-3, 0.03)
        for shape in ((3, 4), (), (0, 2))
    ],
    "sgd_update": lambda r: [(r(3, 4), r(3, 4), 0.1), (r(), r(), 0.3), (r(0), r(0), 0.1)],
    "momentum_update": lambda r: [
        (r(3, 4), r(3, 4), r(3, 4), 0.9, 0.7, 0.1, False),
        (r(3, 4), r(4, 3).t(), r(3, 4), 0.9, 0.7, 0.1, True),
        (r(), r(), r(), 0.9, 1.0, 0.1, True),
    ],
}
for _name, _samples in SAMPLES.items():
    ROWS[_name].samples = _samples
