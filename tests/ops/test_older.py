"""Methods that torch keeps for old programs, beside NumPy."""

from __future__ import annotations

import numpy as np
import pytest

import flambeau


@pytest.mark.parametrize("shape", [(3, 3), (2, 5), (7, 3), (3, 3, 3)])
@pytest.mark.parametrize("wrap", [False, True])
def test_fill_diagonal(shape: tuple[int, ...], wrap: bool) -> None:
    want = np.zeros(shape, np.float32)
    np.fill_diagonal(want, 2.5, wrap=wrap and len(shape) == 2)
    found = flambeau.zeros(shape)
    assert found.fill_diagonal_(2.5, wrap) is found
    np.testing.assert_array_equal(found.numpy(), want)


def test_fill_diagonal_refuses() -> None:
    with pytest.raises(RuntimeError, match="larger than 1"):
        flambeau.zeros(3).fill_diagonal_(1)
    with pytest.raises(RuntimeError, match="equal length"):
        flambeau.zeros(2, 3, 2).fill_diagonal_(1)


def test_python_functions_of_elements() -> None:
    x = flambeau.arange(6.0).reshape(2, 3).t()
    y = np.arange(6.0).reshape(2, 3).T
    assert x.apply_(lambda v: v * v + 1) is x
    np.testing.assert_array_equal(x.numpy(), y * y + 1)
    other = flambeau.tensor([10.0, 20.0])
    x.map_(other, lambda a, b: a - b)
    np.testing.assert_array_equal(x.numpy(), y * y + 1 - [10, 20])
    x.map2_(other, other, lambda a, b, c: a + b * c)
    np.testing.assert_array_equal(x.numpy(), y * y + 1 - [10, 20] + [100, 400])
    with pytest.raises(RuntimeError):
        flambeau.ones(2, requires_grad=True).apply_(abs)


def test_dim_order() -> None:
    x = flambeau.zeros(2, 3, 4, 5)
    assert x.dim_order() == (0, 1, 2, 3)
    assert x.permute(0, 2, 3, 1).dim_order() == (0, 3, 1, 2)
    assert flambeau.zeros(()).dim_order() == ()


def test_range_includes_its_end() -> None:
    assert flambeau.range(1, 2, 0.25).tolist() == [1, 1.25, 1.5, 1.75, 2]
    assert flambeau.range(3).tolist() == [0, 1, 2, 3]
    with pytest.raises(RuntimeError, match="nonzero"):
        flambeau.range(0, 1, 0)
    with pytest.raises(RuntimeError, match="inconsistent"):
        flambeau.range(1, 0)
