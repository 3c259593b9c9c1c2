"""Equal steps are computed once, and every result still has a place of its own."""

from __future__ import annotations

import math

import numpy as np

import flambeau
from flambeau.nn import functional


def _values(t: flambeau.Tensor) -> np.ndarray:
    return np.array(t.detach()._array())


def test_equal_steps_with_several_results_fill_every_result() -> None:
    q, k, v = (flambeau.randn(2, 4, 5) for _ in range(3))
    flambeau.randn(1).item()
    alone = _values(functional.scaled_dot_product_attention(q, k, v))
    # the same values through a copy in another order, which is found to change nothing
    turned = [t.permute(2, 1, 0).clone().permute(2, 1, 0) for t in (q, k, v)]
    first = functional.scaled_dot_product_attention(*turned)
    second = functional.scaled_dot_product_attention(q, k, v)
    np.testing.assert_allclose(_values(first), alone, rtol=1e-6)
    np.testing.assert_allclose(_values(second), alone, rtol=1e-6)


def test_equal_sorts_fill_every_result() -> None:
    x = flambeau.tensor([3.0, 1.0, 2.0])
    a, b = x.sort(), x.view(3).sort()
    assert a[1].tolist() == b[1].tolist() == [1, 2, 0]
    assert a[0].tolist() == b[0].tolist() == [1.0, 2.0, 3.0]


def test_a_negative_zero_is_not_taken_for_zero() -> None:
    x = flambeau.tensor([1.0, -1.0])
    plus = flambeau.atan2(x * 0.0, -1.0 * x.abs())
    minus = flambeau.copysign(x, 0.0), flambeau.copysign(x, -0.0)
    assert minus[0].tolist() == [1.0, 1.0]
    assert minus[1].tolist() == [-1.0, -1.0]
    assert math.isclose(plus[0].item(), math.pi, rel_tol=1e-6)
    again = [flambeau.copysign(x, zero).tolist() for zero in (0.0, -0.0, 0.0)]
    assert again == [[1.0, 1.0], [-1.0, -1.0], [1.0, 1.0]]


def test_values_without_elements_compile() -> None:
    x = flambeau.zeros(0, 3, requires_grad=True)
    values, places = x.sort(0)
    values.sum().backward()
    assert x.grad is not None
    assert tuple(x.grad.shape) == (0, 3)
    assert tuple(places.shape) == (0, 3)
