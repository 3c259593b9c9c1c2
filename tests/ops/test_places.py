"""Positions of nonzero elements and counts between edges, over more elements than a block."""

from __future__ import annotations

import numpy as np
import pytest

import flambeau as fl

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("dtype", [np.bool_, np.float32, np.int64])
@pytest.mark.parametrize(
    "shape", [(0,), (5,), (40_000,), (0, 3), (3, 0), (4, 5), (300, 200), (7, 1, 9), (3, 90, 5, 60)]
)
def test_nonzero_is_numpys_argwhere(shape: tuple[int, ...], dtype: type) -> None:
    x = RNG.integers(0, 2, shape).astype(dtype)
    t = fl.tensor(x)
    found, wanted = t.nonzero(), np.argwhere(x)
    assert found.shape == wanted.shape
    assert np.array_equal(found.numpy(), wanted)
    columns = t.nonzero(as_tuple=True)
    assert len(columns) == x.ndim
    for column, numbers in zip(columns, np.nonzero(x), strict=True):
        assert column.dtype is fl.int64
        assert np.array_equal(column.numpy(), numbers)
    assert np.array_equal(t[t != 0].numpy(), x[x != 0])
    if x.ndim > 1:
        assert np.array_equal(t.transpose(0, 1).nonzero().numpy(), np.argwhere(x.swapaxes(0, 1)))


def test_nonzero_of_a_number() -> None:
    assert fl.tensor(3.0).nonzero().shape == (1, 0)
    assert fl.tensor(0.0).nonzero().shape == (0, 0)
    assert [c.tolist() for c in fl.tensor(3.0).nonzero(as_tuple=True)] == [[0]]
    assert fl.tensor([[float("nan"), 0.0, -0.0]]).nonzero().tolist() == [[0, 0]]


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("count", [0, 1, 7, 40_000])
@pytest.mark.parametrize("bins", [1, 3, 100])
def test_counts_of_bins(bins: int, count: int, dtype: str) -> None:
    """Equal bins and others, with elements on edges, beyond them, and that are no numbers."""
    x = RNG.standard_normal(count)
    x[:6] = [2.0, -2.0, np.inf, -np.inf, np.nan, 0.0][: min(count, 6)]
    kind = getattr(fl, dtype)
    t = fl.tensor(x).to(kind)
    wide = t.double().numpy()
    known = wide[~np.isnan(wide)]
    for low, high in ((-2, 2), (0, 1), (-1, -0.5)):
        edges = fl.linspace(low, high, bins + 1, dtype=kind).double().numpy()
        wanted = fl.tensor(np.histogram(known, edges)[0]).to(kind)
        assert fl.histc(t, bins, low, high).tolist() == wanted.tolist()
    if dtype == "bfloat16":
        return
    edges = np.sort(RNG.standard_normal(bins + 1))
    weights = RNG.random(count)
    found = fl.histogram(
        t, fl.tensor(edges).to(kind), weight=fl.tensor(weights).to(kind)
    ).hist.double()
    edges = fl.tensor(edges).to(kind).double().numpy()
    wanted = np.histogram(known, edges, weights=weights[~np.isnan(wide)])[0]
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-6, atol=1e-6)
