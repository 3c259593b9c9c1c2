"""Matrices that have no factorization, alone and in batches; what the checked forms say of them."""

from __future__ import annotations

from typing import Any

import pytest

import flambeau
from flambeau import linalg

NEGATIVE = [[1.0, 2.0], [2.0, 1.0]]
SINGULAR = [[1.0, 2.0], [2.0, 4.0]]
GOOD = [[2.0, 0.0], [0.0, 8.0]]


@pytest.mark.parametrize("matrix", [NEGATIVE, [GOOD, NEGATIVE]], ids=["alone", "in a batch"])
def test_what_is_not_positive_definite(matrix: Any) -> None:
    a = flambeau.tensor(matrix)
    where = r"\(Batch element 1\): " if a.ndim == 3 else ""
    message = rf"linalg.cholesky: {where}The factorization .* minor of order 2 is not positive"
    with pytest.raises(linalg.LinAlgError, match=message):
        linalg.cholesky(a)
    factor, info = linalg.cholesky_ex(a)
    assert info.tolist() == ([0, 2] if a.ndim == 3 else 2)
    assert flambeau.isnan(factor).any(-1).any(-1).tolist() == ([False, True] if where else True)


@pytest.mark.parametrize("matrix", [SINGULAR, [GOOD, SINGULAR]], ids=["alone", "in a batch"])
def test_what_is_singular(matrix: Any) -> None:
    a = flambeau.tensor(matrix)
    with pytest.raises(linalg.LinAlgError, match=r"linalg.inv: .*singular"):
        linalg.inv(a)
    with pytest.raises(linalg.LinAlgError, match=r"linalg.solve: .*singular"):
        linalg.solve(a, flambeau.ones(2, 1))
    found, info = linalg.solve_ex(a, flambeau.ones(2, 1))
    assert info.tolist() == ([0, 2] if a.ndim == 3 else 2)
    assert flambeau.isnan(found).any(-1).any(-1).tolist() == (
        [False, True] if a.ndim == 3 else True
    )


def test_work_beside_a_factorization_that_fails_is_kept() -> None:
    x = flambeau.tensor(GOOD)
    beside = x * 3
    with pytest.raises(linalg.LinAlgError):
        linalg.cholesky(flambeau.tensor(NEGATIVE))
    assert beside.tolist() == [[6.0, 0.0], [0.0, 24.0]]
