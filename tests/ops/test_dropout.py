"""Random layers: how often they drop, what they scale by, and that gradients see the same mask."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import flambeau
import flambeau.nn.functional as F

COUNT = 100_000


def share_of(kept: Any) -> float:
    """The share of true elements."""
    return float(np.mean(np.asarray(kept)))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_drops_its_share_and_keeps_the_mean(p: float) -> None:
    y = F.dropout(flambeau.ones(COUNT), p).numpy()
    kept = y != 0
    # five standard deviations of a binomial share
    assert abs(share_of(kept) - (1 - p)) < 5 * math.sqrt(p * (1 - p) / COUNT)
    np.testing.assert_allclose(y[kept], 1 / (1 - p), rtol=1e-6)


def test_dropout_gradient_has_the_same_mask() -> None:
    x = flambeau.randn(1000).requires_grad_()
    y = F.dropout(x, 0.3)
    y.sum().backward()
    np.testing.assert_allclose(y.detach().numpy(), (x.detach() * x.grad).numpy(), rtol=1e-6)


def test_dropout_draws_anew_and_repeats_under_a_seed() -> None:
    x = flambeau.ones(1000)
    flambeau.manual_seed(3)
    first, second = F.dropout(x).tolist(), F.dropout(x).tolist()
    flambeau.manual_seed(3)
    assert F.dropout(x).tolist() == first
    assert first != second


def test_dropout_in_place_and_out_of_training() -> None:
    x = flambeau.ones(100)
    assert F.dropout(x, 0.5, inplace=True) is x
    assert set(x.tolist()) == {0.0, 2.0}
    y = flambeau.ones(100)
    assert F.dropout(y, 0.5, training=False).tolist() == y.tolist()
    assert F.dropout(y, 1.0).tolist() == [0.0] * 100


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("dropout1d", (20, 30, 7)),
        ("dropout2d", (20, 30, 3, 2)),
        ("dropout3d", (20, 30, 2, 3, 1)),
        ("dropout1d", (600, 7)),
        ("feature_alpha_dropout", (20, 30, 3, 2)),
    ],
)
def test_feature_forms_drop_whole_channels(name: str, shape: tuple[int, ...]) -> None:
    x = flambeau.ones(*shape)
    y = getattr(F, name)(x, 0.4, training=True).numpy()
    channels = y.reshape(600, -1)
    assert np.all(channels == channels[:, :1])
    values, counts = np.unique(channels[:, 0], return_counts=True)
    assert len(values) == 2
    assert abs(counts[0] / 600 - 0.4) < 5 * math.sqrt(0.24 / 600)


def test_alpha_dropout_keeps_mean_and_variance() -> None:
    y = F.alpha_dropout(flambeau.randn(COUNT), 0.3, training=True).numpy()
    assert abs(y.mean()) < 0.03
    assert abs(y.var() - 1) < 0.03


def test_rrelu_slopes_are_uniform_and_reach_the_gradient() -> None:
    x = -flambeau.ones(COUNT)
    x.requires_grad_()
    y = F.rrelu(x, 0.2, 0.6, training=True)
    y.sum().backward()
    slopes = -y.detach().numpy()
    assert slopes.min() >= 0.2
    assert slopes.max() < 0.6 + 1e-6
    assert abs(slopes.mean() - 0.4) < 5 * 0.4 / math.sqrt(12 * COUNT)
    np.testing.assert_allclose(x.grad.numpy(), slopes)


def test_gumbel_softmax_samples_its_distribution() -> None:
    logits = flambeau.tensor([0.1, 0.6, 0.3]).log().expand(COUNT, 3)
    hard = F.gumbel_softmax(logits, hard=True).numpy()
    np.testing.assert_allclose(np.sort(hard, 1)[:, :2], 0.0, atol=1e-6)
    np.testing.assert_allclose(hard.mean(0), [0.1, 0.6, 0.3], atol=0.01)
    x = flambeau.randn(5, 4).requires_grad_()
    y = F.gumbel_softmax(x, tau=0.5, hard=True)
    (y * flambeau.randn(5, 4)).sum().backward()
    assert np.any(x.grad.numpy())


def test_attention_dropout_is_unbiased_and_consistent_in_the_gradient() -> None:
    q, k = (flambeau.randn(2, 4, 8) for _ in range(2))
    v = flambeau.randn(2, 4, 5).requires_grad_()
    mean = F.scaled_dot_product_attention(q, k, v).detach().numpy()
    total = 0.0
    for _ in range(300):
        total = total + F.scaled_dot_product_attention(q, k, v, dropout_p=0.3).detach().numpy()
    np.testing.assert_allclose(total / 300, mean, atol=0.3)
    # the output is linear in v: its gradient applied to v gives the output back
    y = F.scaled_dot_product_attention(q, k, v, dropout_p=0.3)
    y.sum().backward()
    np.testing.assert_allclose(
        (v.grad * v.detach()).sum().item(), y.sum().item(), rtol=1e-4, atol=1e-4
    )
    assert not F.scaled_dot_product_attention(q, k, v, dropout_p=1.0).detach().numpy().any()
