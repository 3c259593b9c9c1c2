"""Samples of `ops/linalg.py`, `ops/norms.py` and what they are made of.

The matrices are far from singular, and where a function reads one triangle, differentiable in it.
"""

from __future__ import annotations

import math
from typing import Any

from flambeau.dtype import float32, float64
from flambeau.ops.rows import NAMES, ROWS, SPACES
from flambeau.ops.samples.arithmetic import Samples


def drawn(r: Any, *shape: int) -> Any:
    """Numbers of a dtype that matrices are factored in."""
    found = r(*shape)
    return found if found.dtype in (float32, float64) else found.to(float64)


def regular(r: Any, *shape: int) -> Any:
    """Matrices whose diagonal outweighs the rest."""
    found = drawn(r, *shape)
    return found + NAMES["eye"](*shape[-2:], dtype=found.dtype) * 5


def positive(r: Any, *shape: int) -> Any:
    """Positive-definite symmetric matrices, made of any."""
    given = regular(r, *shape)
    return NAMES["matmul"](given, given.mT)


def distinct(r: Any, *shape: int) -> Any:
    """Symmetric matrices with eigenvalues far apart."""
    found = drawn(r, *shape)
    steps = NAMES["arange"](shape[-1]).to(found.dtype)
    return (found + found.mT) * 0.1 + NAMES["diag"](steps) * 3


def square(make: Any = regular, *more: Any) -> Samples:
    """A matrix, a batch of them, a transposed one and the smallest."""
    return lambda r: [
        (make(r, 3, 3), *more),
        (make(r, 2, 4, 4), *more),
        (make(r, 4, 4).mT, *more),
        (make(r, 1, 1), *more),
    ]


def any_shape(r: Any, *more: Any) -> list[tuple[Any, ...]]:
    """High, wide and square matrices."""
    return [(regular(r, *s), *more) for s in ((4, 3), (3, 3), (2, 3, 4))]


def high(r: Any, *more: Any) -> list[tuple[Any, ...]]:
    """High and square matrices."""
    return [(regular(r, *s), *more) for s in ((4, 3), (3, 3), (2, 5, 2))]


def packed(r: Any, n: int = 3) -> tuple[Any, Any]:
    """(LU, pivots) of a matrix."""
    factors = SPACES["linalg"]["lu_factor"](regular(r, n, n))
    return factors[0], factors[1]


def symmetric_packed(r: Any) -> tuple[Any, Any]:
    """(LD, pivots) of a matrix without history."""
    factors = SPACES["linalg"]["ldl_factor"](positive(r, 3, 3).detach())
    return factors[0], factors[1]


def positions(r: Any) -> Any:
    """Row exchanges, from 1."""
    return packed(r)[1]


def vectors(r: Any) -> tuple[Any, Any]:
    """Householder vectors and their factors."""
    return drawn(r, 4, 3), drawn(r, 3)


def orders(shapes: Any, *of: Any) -> Samples:
    """Tensors and norms' orders."""
    return lambda r: [(r(*s, low=0.3, high=2.0), p) for s in shapes for p in of]


def signed_orders(r: Any) -> list[tuple[Any, ...]]:
    """Matrices and the orders of their norms."""
    words = ("fro", "nuc", 2, -2, 1, -1, math.inf, -math.inf)
    return [
        *((regular(r, 3, 4), p) for p in words),
        (regular(r, 2, 3, 2), "fro", (0, 1), True),
        (regular(r, 2, 3, 2), 2, (2, 1), True),
    ]


SAMPLES: dict[str, Samples] = {
    "lower_factor": square(positive, True, False),
    "linalg_cholesky": lambda r: [
        (positive(r, 3, 3),),
        (positive(r, 2, 3, 3), {"upper": True}),
        (positive(r, 0, 0),),
    ],
    "linalg_cholesky_ex": square(positive),
    "cholesky": square(positive),
    "cholesky_solve": lambda r: [
        (drawn(r, 3, 2), regular(r, 3, 3).tril()),
        (drawn(r, 2, 3, 2), regular(r, 3, 3).triu(), True),
    ],
    "cholesky_inverse": lambda r: [(regular(r, 3, 3).tril(),), (regular(r, 2, 2).triu(), True)],
    "orthogonal_factor": lambda r: high(r, False),
    "linalg_qr": lambda r: [*any_shape(r), (regular(r, 3, 3), "complete")],
    "qr": any_shape,
    "reflectors": high,
    "geqrf": high,
    "hermitian_spectrum": square(distinct, True),
    "linalg_eigh": lambda r: [(distinct(r, 3, 3),), (distinct(r, 4, 4), "U")],
    "linalg_eigvalsh": square(distinct),
    "spectrum": square(distinct),
    "linalg_eig": square(distinct),
    "linalg_eigvals": square(distinct),
    "singular_factors": lambda r: [(distinct(r, 4, 4)[:, 1:3], False), (distinct(r, 3, 3), True)],
    "singular_values": any_shape,
    "linalg_svd": lambda r: [
        (distinct(r, 4, 4),),
        (distinct(r, 4, 4)[1:3], False),
        (distinct(r, 4, 4)[:, 1:], False),
    ],
    "linalg_svdvals": any_shape,
    "svd": lambda r: [(distinct(r, 4, 4)[:, 1:],), (distinct(r, 3, 3), False)],
    "linalg_matrix_rank": lambda r: [
        (drawn(r, 3, 4),),
        (drawn(r, 2, 3, 3), {"atol": 1.0}),
        (drawn(r, 3, 3), 1.5),
    ],
    "pseudoinverse": lambda r: [
        (regular(r, 4, 3), NAMES["tensor"](0.05, dtype=drawn(r).dtype), False)
    ],
    "linalg_pinv": lambda r: [*any_shape(r), (distinct(r, 3, 3), {"rtol": 0.01})],
    "pinverse": any_shape,
    "linalg_cond": lambda r: [
        *((regular(r, 3, 3), p) for p in (None, -2, "fro", "nuc", 1, math.inf)),
    ],
    "solution": lambda r: [
        (regular(r, 3, 3), drawn(r, 3, 2), True),
        (regular(r, 2, 3, 3), drawn(r, 2, 3, 1), False),
    ],
    "linalg_solve": lambda r: [
        (regular(r, 3, 3), drawn(r, 3, 2)),
        (regular(r, 2, 3, 3), drawn(r, 3, 4)),
        (regular(r, 3, 3), drawn(r, 3)),
        (regular(r, 3, 3), drawn(r, 2, 3), {"left": False}),
    ],
    "linalg_solve_ex": lambda r: [(regular(r, 3, 3), drawn(r, 3, 2))],
    "linalg_solve_triangular": lambda r: [
        (regular(r, 20, 20), drawn(r, 20, 2), {"upper": False}),
        (regular(r, 2, 3, 3), drawn(r, 3, 4), {"upper": True}),
        (regular(r, 3, 3), drawn(r, 2, 3), {"upper": True, "left": False, "unitriangular": True}),
    ],
    "triangular_solve": lambda r: [
        (drawn(r, 3, 2), regular(r, 3, 3)),
        (drawn(r, 3, 2), regular(r, 3, 3), False, True, True),
    ],
    "substitute": lambda r: [
        (regular(r, 3, 3), drawn(r, 3, 2), True, False),
        (regular(r, 2, 18, 18), drawn(r, 2, 18, 1), False, True),
    ],
    "inverse_of": square(regular, True),
    "inverse": square(),
    "linalg_inv_ex": square(),
    "linalg_lstsq": lambda r: [
        (regular(r, 4, 3), drawn(r, 4, 2)),
        (regular(r, 3, 3), drawn(r, 3)),
        (regular(r, 5, 3), drawn(r, 5, 2), {"driver": "gels"}),
    ],
    "linalg_tensorsolve": lambda r: [
        (regular(r, 6, 6).reshape(2, 3, 6), drawn(r, 2, 3)),
        (regular(r, 6, 6).reshape(2, 3, 3, 2), drawn(r, 2, 3)),
    ],
    "linalg_tensorinv": lambda r: [(regular(r, 6, 6).reshape(2, 3, 6),)],
    "determinant": square(),
    "cofactors": square(),
    "det": square(),
    "signed_log_determinant": square(),
    "slogdet": square(),
    "logdet": square(),
    "exponential_of": square(distinct),
    "matrix_exp": square(distinct),
    "linalg_vecdot": lambda r: [
        (drawn(r, 2, 3), drawn(r, 3)),
        (drawn(r, 2, 3), drawn(r, 2, 3), {"dim": 0}),
    ],
    "linalg_vander": lambda r: [(drawn(r, 4),), (drawn(r, 2, 3), {"N": 2})],
    "linalg_diagonal": lambda r: [
        (drawn(r, 3, 4),),
        (drawn(r, 2, 3, 3), {"offset": 1, "dim1": 0, "dim2": 1}),
    ],
    "linalg_cross": lambda r: [
        (drawn(r, 2, 3), drawn(r, 2, 3)),
        (drawn(r, 3, 2), drawn(r, 3, 1), {"dim": 0}),
    ],
    "triangular_factors": lambda r: any_shape(r, True),
    "linalg_lu_factor": any_shape,
    "linalg_lu_factor_ex": any_shape,
    "linalg_lu": any_shape,
    "lu": any_shape,
    "lu_unpack": lambda r: [packed(r), (*packed(r), True, False)],
    "exchanges": lambda r: [(positions(r), 3)],
    "lu_solve": lambda r: [(drawn(r, 3, 2), *packed(r))],
    "linalg_lu_solve": lambda r: [
        (*packed(r), drawn(r, 3, 2)),
        (*packed(r), drawn(r, 2, 3), {"left": False}),
        (*packed(r), drawn(r, 2, 3, 1), {"adjoint": True}),
    ],
    "symmetric_factors": square(positive, False),
    "symmetric_solution": lambda r: [(*symmetric_packed(r), drawn(r, 3, 2), False)],
    "linalg_ldl_factor": square(positive),
    "linalg_ldl_factor_ex": square(positive),
    "linalg_ldl_solve": lambda r: [(*symmetric_packed(r), drawn(r, 3, 2))],
    "householder_product": lambda r: [vectors(r), (drawn(r, 2, 3, 2), drawn(r, 2, 1))],
    "ormqr": lambda r: [
        (*vectors(r), drawn(r, 4, 2)),
        (*vectors(r), drawn(r, 2, 4), False, True),
    ],
    "_euclidean": lambda r: [(r(3, 4), (1,), False), (r(2, 3, 4), (0, 2), True)],
    "vector_norm": lambda r: [
        *orders([(3, 4)], 2, 1, 3, math.inf, -math.inf, 0, 0.5)(r),
        (drawn(r, 3, 4), 2, 1, True),
        (r(),),
    ],
    "matrix_norm": signed_orders,
    "linalg_norm": lambda r: [
        *orders([(4,), (3, 4)], None, 2, 1, math.inf)(r),
        (drawn(r, 2, 3, 4), 2, (0, 2)),
    ],
    "norm": lambda r: [
        *(
            (drawn(r, 3, 4),),
            (drawn(r, 3, 4), 1, 0),
            (drawn(r, 3, 4), 3.0, 1, True),
            (drawn(r, 3, 4), 2, (0, 1)),
        ),
        (regular(r, 3, 4), "nuc"),
    ],
    "renorm": lambda r: [(r(3, 4, low=1, high=2), 2, 0, 1.5), (r(3, 4, low=1, high=2), 1, -1, 9.0)],
    "pdist": lambda r: [(drawn(r, 4, 3),), (drawn(r, 4, 3), 1.5), (drawn(r, 1, 3),)],
}
for _name, _samples in SAMPLES.items():
    ROWS[_name].samples = _samples
