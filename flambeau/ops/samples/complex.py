"""Samples of the rows of complex numbers.

The generic tests draw real tensors, so most samples make complex ones of pairs of them;
tests/ops/test_complex.py compares gradients.
"""

from __future__ import annotations

from typing import Any

from flambeau import dtypes
from flambeau.ops.rows import NAMES, ROWS


def pairs(r: Any, *shape: int) -> Any:
    """A complex tensor without history."""
    parts = (r(*shape, dtype=dtypes.float32).detach() for _ in range(2))
    return NAMES["complex"](*parts)


SAMPLES: dict[str, Any] = {
    name: lambda r: [(pairs(r, 3, 2),), (pairs(r),)]
    for name in (
        *("conj", "conj_physical", "real_part", "imaginary_part", "phase", "angle"),
        *("real", "imag", "view_as_real", "resolve_conj", "resolve_neg", "is_conj"),
    )
}
SAMPLES.update(
    {
        "vdot": lambda r: [(pairs(r, 3), pairs(r, 3))],
        "make_complex": lambda r: [(r(3, dtype=dtypes.float32), r(3, dtype=dtypes.float32))],
        "complex": lambda r: [(r(3, 1, dtype=dtypes.float64), r(2, dtype=dtypes.float64))],
        "polar": lambda r: [(r(3, dtype=dtypes.float64), r(3, dtype=dtypes.float64))],
        "view_as_complex": lambda r: [(r(3, 2, dtype=dtypes.float32).detach(),)],
    }
)
for _name, _samples in SAMPLES.items():
    ROWS[_name].samples = _samples
    ROWS[_name].gradcheck = False  # compared in tests/ops/test_complex.py
