"""Initial values have the distributions their papers give."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

import flambeau
from flambeau.nn import init

SHAPES = [(80, 60), (30, 20, 3, 2)]


def values(t: Any) -> np.ndarray[Any, Any]:
    return np.asarray(t.detach().numpy(), dtype=np.float64).ravel()


def fits(t: Any, distribution: Any) -> bool:
    """Kolmogorov and Smirnov find nothing wrong."""
    return stats.kstest(values(t), distribution.cdf).pvalue > 1e-4


@pytest.mark.parametrize("shape", SHAPES)
def test_distributions(shape: tuple[int, ...]) -> None:
    fan_in = math.prod(shape[1:])
    fan_out = shape[0] * math.prod(shape[2:])
    weight = flambeau.empty(shape)

    def uniform(bound: float) -> Any:
        return stats.uniform(-bound, 2 * bound)

    both = fan_in + fan_out
    assert fits(init.uniform_(weight, -1.0, 2.0), stats.uniform(-1, 3))
    assert fits(init.normal_(weight, 1.0, 0.5), stats.norm(1, 0.5))
    assert fits(init.xavier_uniform_(weight, gain=2.0), uniform(2 * math.sqrt(6 / both)))
    assert fits(init.xavier_normal_(weight), stats.norm(0, math.sqrt(2 / both)))
    assert fits(init.kaiming_uniform_(weight, nonlinearity="relu"), uniform(math.sqrt(6 / fan_in)))
    assert fits(
        init.kaiming_normal_(weight, a=0.2, mode="fan_out"),
        stats.norm(0, math.sqrt(2 / 1.04 / fan_out)),
    )


@pytest.mark.parametrize(
    ("mean", "std", "a", "b"),
    [(0.0, 1.0, -2.0, 2.0), (1.0, 0.5, 0.5, 3.0), (0.0, 1.0, 1.0, 1.5), (0.0, 1.0, -4.5, -4.0)],
)
@pytest.mark.filterwarnings("ignore:mean is more than 2 std")
def test_truncated_normal(mean: float, std: float, a: float, b: float) -> None:
    weight = init.trunc_normal_(flambeau.empty(5000), mean, std, a, b)
    found = values(weight)
    assert found.min() >= a
    assert found.max() <= b
    assert fits(weight, stats.truncnorm((a - mean) / std, (b - mean) / std, mean, std))


def test_truncated_normal_warns_of_a_far_mean() -> None:
    with pytest.warns(UserWarning, match="mean is more than 2 std from"):
        init.trunc_normal_(flambeau.empty(3), 9.0, 1.0, -2.0, 2.0)


@pytest.mark.parametrize("shape", [(5, 9), (9, 5), (4, 2, 3), (6, 6)])
def test_orthogonal(shape: tuple[int, ...]) -> None:
    weight = init.orthogonal_(flambeau.empty(shape), gain=2.0)
    m = values(weight).reshape(shape[0], -1) / 2
    gram = m @ m.T if m.shape[0] <= m.shape[1] else m.T @ m
    np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-5)


def test_sparse() -> None:
    weight = init.sparse_(flambeau.empty(20, 5), 0.33, std=2.0)
    zeros = (np.asarray(weight.numpy()) == 0).sum(0)
    assert zeros.tolist() == [7] * 5
    assert 1 < values(weight)[values(weight) != 0].std() < 3


def test_eye_and_dirac() -> None:
    np.testing.assert_array_equal(init.eye_(flambeau.empty(2, 3)).numpy(), np.eye(2, 3))
    kernel = np.asarray(init.dirac_(flambeau.empty(4, 2, 3), groups=2).numpy())
    signal = np.random.default_rng(0).standard_normal((2, 7))
    for out in range(4):
        moved = sum(np.convolve(signal[c], kernel[out, c][::-1], "same") for c in range(2))
        np.testing.assert_allclose(moved, signal[out % 2], atol=1e-7)


def test_filling_is_in_place_and_without_history() -> None:
    p = flambeau.nn.Parameter(flambeau.empty(3, 3))
    for fill in (init.ones_, init.zeros_, init.xavier_normal_, init.orthogonal_, init.eye_):
        assert fill(p) is p
        assert p.is_leaf
        assert p.requires_grad
    with pytest.warns(FutureWarning, match="`nn.init.constant` is now deprecated"):
        init.constant(p, 3.0)
    assert set(values(p)) == {3.0}
    with pytest.warns(UserWarning, match="zero-element tensors is a no-op"):
        init.kaiming_uniform_(flambeau.empty(0, 3))


def test_generators_repeat() -> None:
    def drawn(seed: int) -> list[float]:
        generator = flambeau.Generator().manual_seed(seed)
        return init.xavier_uniform_(flambeau.empty(3, 3), generator=generator).tolist()

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_gains() -> None:
    assert init.calculate_gain("linear") == 1
    assert init.calculate_gain("tanh") == pytest.approx(5 / 3)
    assert init.calculate_gain("relu") == pytest.approx(math.sqrt(2))
    assert init.calculate_gain("leaky_relu", 1) == pytest.approx(1)
    with pytest.raises(ValueError, match="Unsupported nonlinearity softmax"):
        init.calculate_gain("softmax")
    with pytest.raises(ValueError, match="negative_slope True not a valid number"):
        init.calculate_gain("leaky_relu", True)
