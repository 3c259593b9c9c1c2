"""Samples of `ops/older.py`."""

from __future__ import annotations

from flambeau.dtype import int64
from flambeau.ops.rows import ROWS

ROWS["adjoint"].samples = lambda r: [(r(3, 4),), (r(2, 3, 3),), (r(0, 2),), (r(4, 3).t(),)]
ROWS["vander"].samples = lambda r: [
    (r(4),),
    (r(4), 2),
    (r(3), 5, True),
    (r(3), 1),
    (r(0),),
    (r(5)[::2],),
    (r(3, dtype=int64),),
]
ROWS["range"].samples = lambda r: [(0, 4), (1, 2, 0.25), (3, -3, -2), (0.5, 3)]
ROWS["nuclear_norm"].samples = lambda r: [(r(3, 4),), (r(2, 3, 4), (1, 2)), (r(3, 3), (0, 1), True)]
ROWS["frobenius_norm"].samples = lambda r: [(r(3, 4), (0, 1)), (r(2, 3, 4), (1,), True), (r(3), [])]
ROWS["norm_except_dim"].samples = lambda r: [(r(3, 4),), (r(2, 3, 4), 2, 1), (r(3, 2), 1, -1)]
ROWS["conv_tbc"].samples = lambda r: [
    (r(6, 2, 3), r(3, 3, 4), r(4)),
    (r(5, 1, 2), r(2, 2, 1), r(1), 2),
]
