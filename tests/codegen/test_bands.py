"""Reductions of many columns: bands that are walked row after row."""

import numpy as np
import pytest

import flambeau as fl
from flambeau import explain, record
from flambeau.codegen.llvm import BAND
from flambeau.runtime import kernels

RNG = np.random.default_rng(0)
SHAPES = [(7, BAND), (3, 129), (300, BAND + 76), (64, 3 * BAND + 1), (1, 700), (6, 5, 513)]


def values(shape, dtype=np.float32):
    return (RNG.standard_normal(shape) * 10).astype(dtype)


def close(found, wanted):
    np.testing.assert_allclose(found.numpy(), wanted, rtol=2e-5, atol=1e-3)


@pytest.fixture(params=[16, 32, 64])
def vectors(request, monkeypatch):
    """Vectors of so many bytes, those of the machine at most."""
    size = min(request.param, kernels.vector_bytes())
    monkeypatch.setattr(kernels, "vector_bytes", lambda: size)
    record.clear_programs()
    yield
    record.clear_programs()


@pytest.mark.parametrize("shape", SHAPES)
def test_columns_are_reduced(shape, vectors):
    x = values(shape)
    t, y = fl.tensor(x), x.astype(np.float64)
    close(t.sum(-2), y.sum(-2))
    close((t * t).mean(-2).sqrt(), np.sqrt((y * y).mean(-2)))
    close(t.amin(0), y.min(0))
    assert np.array_equal((t > 9).any(-2).numpy(), (x > 9).any(-2))


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int64, np.int32, np.uint8, np.bool_])
def test_columns_of_other_types(dtype):
    x = values((40, 300)).astype(dtype)
    t = fl.tensor(x)
    if dtype is np.float16:
        np.testing.assert_allclose(
            t.sum(0).numpy(), x.astype(np.float64).sum(0), rtol=2e-3, atol=0.3
        )
    else:
        close(t.sum(0), x.sum(0, dtype=np.float64 if dtype is np.float64 else np.int64))
    assert np.array_equal(t.amax(0).numpy(), x.max(0))


def test_what_rows_give_is_written_in_the_same_loop():
    x, w = values((50, 400)), values(400)

    def both(t, w):
        scaled = t * w
        return scaled, scaled.sum(0), scaled.amax(0) - w

    t, u = fl.tensor(x), fl.tensor(w)
    assert len(explain(both, t, u).kernels) == 1
    scaled, sums, tops = both(t, u)
    y = x.astype(np.float64) * w
    close(scaled, y)
    close(sums, y.sum(0))
    close(tops, y.max(0) - w)


def test_numbers_that_are_none_spread():
    x = values((20, 300))
    x[3, 5], x[4, 6], x[5, 7] = np.nan, np.inf, -np.inf
    t = fl.tensor(x)
    assert np.array_equal(t.amax(0).numpy(), x.max(0), equal_nan=True)
    assert np.array_equal(np.isfinite(t.sum(0).numpy()), np.isfinite(x.sum(0)))


def test_no_rows():
    assert fl.zeros(0, 300).sum(0).tolist() == [0.0] * 300


def test_strided_and_expanded_columns():
    x = values((30, 700))
    t = fl.tensor(x)
    close(t[::3, 100:600].sum(0), x[::3, 100:600].sum(0))
    close(t[:, ::2].sum(0), x[:, ::2].sum(0))
    close(t[:1].expand(9, 700).sum(0), 9 * x[0])
    close(t.flip(0).sum(0), x.sum(0))
    close((t[:, :1] * t[:, 1:]).sum(0), (x[:, :1] * x[:, 1:]).sum(0))


def test_the_same_bits_for_any_number_of_threads():
    t = fl.tensor(values((200, 5000)))
    was = fl.get_num_threads()
    found = []
    try:
        for count in (1, 2, 3):
            fl.set_num_threads(count)
            found.append(t.sum(0).numpy())
    finally:
        fl.set_num_threads(was)
    assert all(np.array_equal(found[0], other) for other in found)
