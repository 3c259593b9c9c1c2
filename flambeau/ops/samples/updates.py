"""Samples of `ops/updates.py`."""

from __future__ import annotations

from typing import Any

from flambeau.ops.rows import ROWS
from flambeau.ops.samples.arithmetic import Samples


def positive(r: Any, shape: tuple[int, ...], both: bool) -> tuple[Any, Any]:
    """An average of squares, and the greatest so far or None."""
    return r(*shape, low=0.2, high=1.0), r(*shape, low=0.2, high=1.0) if both else None


def averages(r: Any, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """A parameter, its gradient, an average of gradients and a positive one."""
    return r(*shape), r(*shape), r(*shape), r(*shape, low=0.2, high=1.0)


def factors(r: Any, leading: tuple[int, ...]) -> tuple[Any, Any]:
    """Averages of the squares of (.., 3, 4) over its rows and over its columns."""
    return r(*leading, 3, 1, low=0.2, high=1.0), r(*leading, 1, 4, low=0.2, high=1.0)


SAMPLES: dict[str, Samples] = {
    "adam_update": lambda r: [
        (*(r(*shape) for _ in range(3)), *positive(r, shape, most), 0.1, 0.25, 1e-3, 0.03)
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
    "nadam_update": lambda r: [
        (*averages(r, shape), 0.1, 0.2, 0.7, 1e-3, 0.03, 0.02) for shape in ((3, 4), (), (0, 2))
    ],
    "radam_update": lambda r: [
        (*averages(r, shape), 0.1, 0.2, 1e-3, 0.03, adaptive)
        for shape in ((3, 4), (), (0, 2))
        for adaptive in (False, True)
    ],
    "adamax_update": lambda r: [
        (*averages(r, shape), 0.1, 0.9, 1e-3, 0.03) for shape in ((3, 4), (), (0, 2))
    ],
    "adadelta_update": lambda r: [
        (r(*shape), r(*shape), *(r(*shape, low=0.2, high=1.0) for _ in "ab"), 0.1, 1e-3, 0.03)
        for shape in ((3, 4), (), (0, 2))
    ],
    "rprop_update": lambda r: [
        (*averages(r, shape), 0.4, 1.3, 0.25, 0.9) for shape in ((3, 4), (), (0, 2))
    ],
    "asgd_update": lambda r: [
        (r(*shape), r(*shape), r(*shape), 0.03, 0.2, averaged)
        for shape in ((3, 4), (), (0, 2))
        for averaged in (False, True)
    ],
    "adafactor_update": lambda r: (
        [
            (r(*s, 3, 4), r(*s, 3, 4), *factors(r, s), 0.3, 0.01, 1e-6, 1e-3, 1.0, 0.9)
            for s in ((), (2,))
        ]
        + [
            (r(*s), r(*s), r(*s, low=0.2, high=1.0), None, 0.3, 0.01, 1e-6, 1e-3, 1.0, 0.9)
            for s in ((5,), ())
        ]
    ),
    "lbfgs_direction": lambda r: [
        (
            r(n),
            r(low=0.5, high=1.0),
            *(r(n) for _ in range(2 * count)),
            *(r() for _ in range(count)),
        )
        for n, count in ((5, 1), (4, 3), (0, 2), (3, 0))
    ],
}
for _name, _samples in SAMPLES.items():
    ROWS[_name].samples = _samples
