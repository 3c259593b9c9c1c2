"""Reads across the vector dimension: whole tiles by transposed blocks, ends one by one."""

import numpy as np
import pytest

import flambeau as fl

RNG = np.random.default_rng(0)
DTYPES = [np.float32, np.float64, np.float16, np.int64, np.int32, np.int16, np.int8, np.bool_]
SHAPES = [(64, 48), (33, 70), (16, 16), (300, 130), (5, 7), (100, 256), (1, 40), (40, 1)]
SHAPES += [(2, 33), (3, 300), (7, 16), (300, 3)]


def values(shape, dtype):
    return (RNG.standard_normal(shape) * 10).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.__name__)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_matrix_is_transposed(shape, dtype):
    x = values(shape, dtype)
    assert np.array_equal(fl.tensor(x).t().contiguous().numpy(), x.T)


@pytest.mark.parametrize("order", [(2, 0, 1), (0, 2, 1), (2, 1, 0), (1, 2, 0)])
def test_dimensions_of_a_batch_are_permuted(order):
    x = values((6, 40, 50), np.float32)
    assert np.array_equal(fl.tensor(x).permute(*order).contiguous().numpy(), x.transpose(order))


@pytest.mark.parametrize("dtype", [np.float32, np.int8, np.float64])
def test_few_neighbours_that_a_view_has_put_last(dtype):
    """Lanes run along pixels, not along channels; indices and random numbers keep their places."""
    x = values((2, 3, 20, 35), dtype)
    t = fl.tensor(x)
    assert np.array_equal(t.permute(0, 2, 3, 1).contiguous().numpy(), x.transpose(0, 2, 3, 1))
    pairs = fl.stack([t, t + t], -1).flatten(-2)
    assert np.array_equal(pairs.numpy(), np.stack([x, x + x], -1).reshape(2, 3, 20, 70))
    y = values((2, 12, 9, 17), dtype)
    shuffled = y.reshape(2, 3, 2, 2, 9, 17).transpose(0, 1, 4, 2, 5, 3).reshape(2, 3, 18, 34)
    assert np.array_equal(fl.nn.functional.pixel_shuffle(fl.tensor(y), 2).numpy(), shuffled)
    rows = RNG.integers(0, 3, (40, 3))
    wide = values((3, 40), dtype)
    got = fl.tensor(wide).t().gather(1, fl.tensor(rows))
    assert np.array_equal(got.numpy(), np.take_along_axis(wide.T, rows, 1))
    places = fl.arange(120).view(3, 40).t() + fl.tensor(wide).t().long()
    assert np.array_equal(places.numpy(), np.arange(120).reshape(3, 40).T + wide.T.astype(int))


def test_transposed_reads_take_part_in_a_region():
    a, b, c = values((70, 90), np.float32), values((90, 70), np.float32), values(70, np.float32)
    found = fl.tensor(a) * fl.tensor(b).t() + fl.tensor(c)[:, None] - fl.tensor(b).t()
    np.testing.assert_allclose(found.numpy(), a * b.T + c[:, None] - b.T, rtol=1e-6, atol=1e-5)


def test_bfloat16_is_transposed():
    x = fl.tensor(values((64, 100), np.float32)).bfloat16()
    assert bool((x.t().contiguous() == x.float().t()).all())


@pytest.mark.parametrize("shape", [(3, 40, 6, 16), (2, 70, 9, 33), (1, 300, 5, 4), (2, 5, 3, 7)])
def test_reductions_of_a_dimension_that_a_view_has_put_last(shape):
    """Memory is contiguous in a dimension that stays: lanes run along that one."""
    x = values(shape, np.float32)
    y, t = np.moveaxis(x, 1, -1).astype(np.float64), fl.tensor(x).permute(0, 2, 3, 1)
    close = lambda a, b: np.testing.assert_allclose(a.numpy(), b, rtol=2e-5, atol=1e-4)
    close(t.sum(-1), y.sum(-1))
    close((t * t).mean(-1, keepdim=True), (y * y).mean(-1, keepdims=True))
    close(t.var(-1), y.var(-1, ddof=1))
    close(t.sum((1, 3)), y.sum((1, 3)))
    close(t.amax(-1), y.max(-1))
    assert np.array_equal(t.argmax(-1).numpy(), y.argmax(-1))
    centred = y - y.mean(-1, keepdims=True)
    close(t - t.mean(-1, keepdim=True), centred)
    close(fl.softmax(t, -1), np.exp(y) / np.exp(y).sum(-1, keepdims=True))


@pytest.mark.parametrize("shape", [(3, 40, 70), (1, 300, 17), (2, 9, 1003), (5, 7, 5), (2, 1, 40)])
def test_reductions_of_a_dimension_that_a_view_has_taken_from_the_end(shape):
    """Memory is contiguous in a dimension that goes: lanes run along that one."""
    x = values(shape, np.float32)
    y, t = x.transpose(2, 0, 1).astype(np.float64), fl.tensor(x).permute(2, 0, 1)
    close = lambda a, b: np.testing.assert_allclose(a.numpy(), b, rtol=2e-5, atol=1e-4)
    close(t.sum(0), y.sum(0))
    close((t * t).mean(0, keepdim=True), (y * y).mean(0, keepdims=True))
    close(t.sum((0, 2)), y.sum((0, 2)))
    close(t.amin(0), y.min(0))
    assert np.array_equal(t.argmax(0).numpy(), y.argmax(0))
    close(fl.softmax(t, 0), np.exp(y) / np.exp(y).sum(0))
    close((t - t.mean(0)).abs().sum(0), np.abs(y - y.mean(0)).sum(0))


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.__name__)
@pytest.mark.parametrize("shape", [(1,), (17,), (65,), (3, 130), (64, 5), (2, 3, 33), (4, 0)])
def test_reads_that_run_backwards(shape, dtype):
    x = values(shape, dtype)
    t = fl.tensor(x)
    assert np.array_equal(t.flip(-1).numpy(), np.flip(x, -1))
    assert np.array_equal(t.flip(0).numpy(), np.flip(x, 0))
    assert np.array_equal((t.flip(-1) == t).numpy(), np.flip(x, -1) == x)


@pytest.mark.parametrize("shape", [(700, 513), (64, 3, 1031), (5, 400, 64)])
def test_rows_that_are_far_apart_are_added_up(shape):
    x = values(shape, np.float32)
    for axis in range(len(shape)):
        found = fl.tensor(x).sum(axis).numpy()
        np.testing.assert_allclose(found, x.astype(np.float64).sum(axis), rtol=2e-5, atol=1e-3)


@pytest.mark.parametrize("shape", [(2, 40, 48), (3, 7, 130), (1, 64, 9)])
def test_rows_that_read_across_and_along(shape):
    """What is gathered for one loop over a row is kept for the next."""
    x, y = values(shape, np.float32), values((shape[0], shape[2], shape[1]), np.float32)
    s = x.astype(np.float64) + np.swapaxes(y, 1, 2)
    t = fl.tensor(x) + fl.tensor(y).transpose(1, 2)
    found = fl.nn.functional.layer_norm(t, shape[2:])
    spread = np.sqrt(s.var(-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(
        found.numpy(), (s - s.mean(-1, keepdims=True)) / spread, rtol=2e-4, atol=2e-5
    )
    e = np.exp(s - s.max(-1, keepdims=True))
    np.testing.assert_allclose(
        fl.softmax(t, -1).numpy(), e / e.sum(-1, keepdims=True), rtol=2e-5, atol=1e-6
    )
