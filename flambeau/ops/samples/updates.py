"""Samples of `ops/updates.py`."""

from __future__ import annotations

from flambeau.ops.rows import ROWS
from flambeau.ops.samples.arithmetic import Samples

SAMPLES: dict[str, Samples] = {
    "adam_update": lambda r: [
        (*(r(*shape) for _ in range(3)), r(*shape, low=0.2, high=1.0), 0.99, 0.1, 0.2, 1e-3, 0.03)
        for shape in ((3, 4), (), (0, 2), (5,))
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
