"""Clipping of gradients, and parameters as one vector."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau import nn
from flambeau.nn.utils import (
    clip_grad_norm_,
    clip_grad_value_,
    clip_grads_with_norm_,
    get_total_norm,
    parameters_to_vector,
    vector_to_parameters,
)


@pytest.fixture
def params(rng: np.random.Generator) -> list[Any]:
    made = [nn.Parameter(flambeau.tensor(rng.standard_normal((2, i + 1)))) for i in range(3)]
    for p in made[:2]:
        p.grad = flambeau.tensor(rng.standard_normal(tuple(p.shape)))
    return made


def joined(params: list[Any]) -> np.ndarray[Any, Any]:
    return np.concatenate([np.ravel(p.grad.tolist()) for p in params if p.grad is not None])


@pytest.mark.parametrize("order", [1, 2.0, 3, math.inf, -math.inf])
def test_norm_is_bounded(params: list[Any], order: float) -> None:
    before = joined(params)
    want = np.linalg.norm(before, order)
    total = clip_grad_norm_(params, want / 2, order)
    assert total.item() == pytest.approx(want)
    np.testing.assert_allclose(joined(params), before * 0.5 * want / (want + 1e-6), rtol=1e-9)
    assert params[2].grad is None
    assert clip_grad_norm_(params, 10 * want, order).item() == pytest.approx(want / 2, rel=1e-4)
    np.testing.assert_allclose(joined(params), before / 2, rtol=1e-4)


def test_parts(params: list[Any]) -> None:
    before = joined(params)
    total = get_total_norm([p.grad for p in params if p.grad is not None])
    assert total.item() == pytest.approx(np.linalg.norm(before))
    clip_grads_with_norm_(params, 1.0, flambeau.tensor(4.0, dtype=flambeau.float64))
    np.testing.assert_allclose(joined(params), before / 4, rtol=1e-6)
    assert get_total_norm([]).item() == 0.0
    assert clip_grad_norm_(params[2], 1.0).item() == 0.0


def test_norm_that_is_not_finite(params: list[Any]) -> None:
    params[0].grad[0, 0] = math.nan
    with pytest.raises(RuntimeError, match=r"total norm of order 2\.0 .* is non-finite"):
        clip_grad_norm_(params, 1.0, error_if_nonfinite=True)
    assert math.isnan(clip_grad_norm_(params, 1.0).item())


def test_values_are_bounded(params: list[Any]) -> None:
    before = joined(params)
    clip_grad_value_(params, 0.25)
    np.testing.assert_array_equal(joined(params), before.clip(-0.25, 0.25))


def test_empty_generators_are_noticed() -> None:
    with pytest.warns(UserWarning, match="is an empty generator"):
        clip_grad_norm_((p for p in ()), 1.0)


def test_vectors(params: list[Any]) -> None:
    vector = parameters_to_vector(params)
    assert vector.tolist() == np.concatenate([np.ravel(p.tolist()) for p in params]).tolist()
    vector.sum().backward()
    assert params[2].grad.tolist() == [[1.0] * 3] * 2
    vector_to_parameters(vector.detach() + 1, params)
    assert parameters_to_vector(params).tolist() == (vector + 1).tolist()
    assert params[1].shape == (2, 2)
    with pytest.raises(TypeError, match=r"expected torch\.Tensor, but got: list"):
        vector_to_parameters([1.0], params)
