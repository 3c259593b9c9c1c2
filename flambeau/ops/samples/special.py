"""Samples of `ops/special.py`."""

from __future__ import annotations

from typing import Any

from flambeau.ops.rows import ROWS
from flambeau.ops.samples.arithmetic import Samples


def between(low: float, high: float) -> Samples:
    """Numbers of a range, one number, none, and some that do not lie in order."""
    return lambda r: [
        (r(3, 4, low=low, high=high),),
        (r(low=low, high=high),),
        (r(0, 3, low=low, high=high),),
        (r(4, 3, low=low, high=high).t(),),
    ]


def orders(r: Any) -> list[tuple[Any, ...]]:
    """Places and orders of polynomials; below 0 too."""
    order = r(5, low=-1.0, high=9.0)
    return [(r(3, 5, low=-1, high=1), order), (r(4), 3), (0.5, r(3, low=0, high=5))]


def two(low: float, high: float) -> Samples:
    """Pairs, with numbers and broadcasting; the derivative is by the second alone."""
    return lambda r: [
        (r(3, 4, low=low, high=high).detach(), r(4, low=low, high=high)),
        (r(3, low=low, high=high).detach(), r(3, low=low, high=high)),
    ]


SAMPLES: dict[str, Samples] = {
    "special_ndtr": between(-6, 6),
    "special_log_ndtr": between(-9, 6),
    "special_ndtri": between(0.05, 0.95),
    "special_entr": between(0.1, 3),
    "special_erfcx": between(-2, 9),
    "special_xlog1py": lambda r: [(r(3, 4), r(4, low=0, high=3)), (2.0, r(3, low=0, high=1))],
    "special_zeta": two(1.5, 4),
    "igamma": two(0.5, 3),
    "igammac": two(0.5, 3),
    "mvlgamma": lambda r: [(r(3, 4, low=2, high=5), p) for p in (1, 3)],
    "special_spherical_bessel_j0": between(0.5, 9),
    **{name: between(-3, 3) for name in ("i0", "special_i0e", "special_i1", "special_i1e")},
    "of_one": lambda r: [(r(3, low=-2, high=2), "erfcx"), (r(low=0.1, high=0.9), "ndtri")],
    "of_two": lambda r: [
        (r(3, low=1.5, high=4).detach(), r(3, low=1, high=2), name)
        for name in ("zeta", "gammainc", "gammaincc")
    ],
}
for _name, _row in ROWS.items():
    if _row.module.endswith(".special") and "polynomial" in _name:
        SAMPLES[_name] = orders
    elif _row.module.endswith(".special"):
        SAMPLES.setdefault(_name, between(0.2, 6))
for _name, _samples in SAMPLES.items():
    ROWS[_name].samples = _samples
