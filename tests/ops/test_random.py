"""Random rows: the generator's published answers, moments and frequencies, refusals."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

import flambeau
from flambeau.ops.streams import threefry

COUNT = 40_000


def _values(t: flambeau.Tensor) -> np.ndarray:
    return np.array(t.detach()._array()).astype(np.float64)


def _near(found: float, wanted: float, deviation: float, count: int = COUNT) -> None:
    """Within six standard errors."""
    assert abs(found - wanted) < 6 * deviation / math.sqrt(count), (found, wanted)


@pytest.mark.parametrize(
    ("key", "counter", "wanted"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF,) * 2, (0xFFFFFFFF,) * 2, (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_bits_are_the_published_generators(
    key: tuple[int, int], counter: tuple[int, int], wanted: tuple[int, int]
) -> None:
    """Known answers of Threefry-2x32 with 20 rounds (Random123's kat_vectors)."""
    (found,) = threefry(key[0] | key[1] << 32, np.array([counter[0] | counter[1] << 32], np.uint64))
    assert (int(found) & 0xFFFFFFFF, int(found) >> 32) == wanted


@pytest.mark.parametrize(
    ("draw", "mean", "deviation"),
    [
        (lambda: flambeau.rand(COUNT), 0.5, 12**-0.5),
        (lambda: flambeau.randn(COUNT), 0.0, 1.0),
        (lambda: flambeau.rand_like(flambeau.zeros(COUNT)), 0.5, 12**-0.5),
        (lambda: flambeau.randn_like(flambeau.zeros(COUNT)), 0.0, 1.0),
        (lambda: flambeau.randint(-3, 4, (COUNT,)), 0.0, 2.0),
        (lambda: flambeau.randint_like(flambeau.zeros(COUNT), 7), 3.0, 2.0),
        (lambda: flambeau.bernoulli(flambeau.full((COUNT,), 0.3)), 0.3, 0.21**0.5),
        (lambda: flambeau.zeros(COUNT).bernoulli_(0.3), 0.3, 0.21**0.5),
        (lambda: flambeau.normal(2.0, 3.0, (COUNT,)), 2.0, 3.0),
        (lambda: flambeau.normal(flambeau.full((COUNT,), 2.0), 0.5), 2.0, 0.5),
        (lambda: flambeau.poisson(flambeau.full((COUNT,), 4.0)), 4.0, 2.0),
        (lambda: flambeau.zeros(COUNT).uniform_(-1, 3), 1.0, 4 * 12**-0.5),
        (lambda: flambeau.zeros(COUNT).normal_(-1, 2), -1.0, 2.0),
        (lambda: flambeau.zeros(COUNT).exponential_(2.0), 0.5, 0.5),
        (lambda: flambeau.zeros(COUNT).geometric_(0.25), 4.0, 12**0.5),
        (
            lambda: flambeau.zeros(COUNT).log_normal_(0.0, 0.5),
            math.exp(0.125),
            math.sqrt((math.exp(0.25) - 1) * math.exp(0.25)),
        ),
        (lambda: flambeau.zeros(COUNT, dtype=flambeau.float64).normal_(), 0.0, 1.0),
        (lambda: flambeau.randn(COUNT, dtype=flambeau.bfloat16), 0.0, 1.0),
    ],
)
def test_moments(draw: Callable[[], flambeau.Tensor], mean: float, deviation: float) -> None:
    values = _values(draw())
    assert values.shape == (COUNT,)
    _near(values.mean(), mean, deviation)
    assert abs(values.std() / deviation - 1) < 0.05


def test_cauchy_has_its_quartiles() -> None:
    values = _values(flambeau.zeros(COUNT).cauchy_(1.0, 2.0))
    np.testing.assert_allclose(np.quantile(values, (0.25, 0.5, 0.75)), (-1, 1, 3), atol=0.15)


def test_permutations_hold_every_number_once() -> None:
    first, second = flambeau.randperm(100), flambeau.randperm(100, dtype=flambeau.int32)
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(100))
    assert first.tolist() != second.tolist()
    assert second.dtype is flambeau.int32
    assert flambeau.randperm(0).tolist() == []


@pytest.mark.parametrize("replacement", [True, False])
def test_multinomial_draws_in_proportion(replacement: bool) -> None:
    weights = flambeau.tensor([1.0, 0.0, 3.0, 4.0])
    if replacement:
        draws = flambeau.multinomial(weights, COUNT, True).numpy()
    else:
        draws = flambeau.multinomial(weights.expand(COUNT, 4), 1).numpy()[:, 0]
    found = np.bincount(draws, minlength=4) / COUNT
    for share, wanted in zip(found, (0.125, 0.0, 0.375, 0.5), strict=True):
        _near(share, wanted, 0.5)
    assert found[1] == 0.0


def test_multinomial_without_replacement_takes_each_once() -> None:
    draws = flambeau.multinomial(flambeau.rand(50, 6) + 0.1, 6).numpy()
    assert (np.sort(draws, 1) == np.arange(6)).all()


@pytest.mark.parametrize(
    ("weights", "count", "message"),
    [
        ([0.0, 0.0], 1, "sum of probabilities"),
        ([-1.0, 2.0], 1, "element < 0"),
        ([math.nan, 2.0], 1, "inf"),
        ([1.0, 0.0], 2, "not enough non-negative category"),
    ],
)
def test_multinomial_refuses_weights(weights: list[float], count: int, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        flambeau.multinomial(flambeau.tensor(weights), count).tolist()


def test_the_seed_decides_every_draw() -> None:
    def draws() -> list:
        flambeau.manual_seed(3)
        x = flambeau.zeros(4)
        return [
            flambeau.randperm(9).tolist(),
            flambeau.poisson(x + 5).tolist(),
            flambeau.multinomial(x + 1, 3).tolist(),
            x.exponential_().tolist(),
        ]

    assert draws() == draws()


@pytest.mark.parametrize("stream", ["threefry", "torch"])
@pytest.mark.parametrize(
    "dtype", ["int64", "int32", "int16", "int8", "uint8", "float64", "float16"]
)
def test_integers_of_all_a_dtype_holds(dtype: str, stream: str) -> None:
    was = flambeau.random.get_stream()
    flambeau.random.set_stream(stream)
    kind = getattr(flambeau, dtype)
    found = _values(flambeau.empty(2000, dtype=kind).random_())
    flambeau.random.set_stream(was)
    most = 2.0 ** {"float64": 53, "float16": 11}.get(dtype, 8 * kind.itemsize - (dtype != "uint8"))
    assert found.min() >= 0
    assert 0.99 * most < found.max() <= most
