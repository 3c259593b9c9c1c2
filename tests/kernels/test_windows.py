"""Pooling and resampling kernels against NumPy's sliding windows and written-out loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau import record
from flambeau.kernels import claims, window_tables, windows
from flambeau.ops.resampling import band, resample

F = flambeau.nn.functional
Array = np.ndarray[Any, Any]


def cut(x: Array, kernel: int, stride: int, padding: int, filler: float) -> Array:
    """Square windows of the last two dimensions, as two last dimensions."""
    ends = ((0, 0),) * (x.ndim - 2) + ((padding, padding),) * 2
    padded = np.pad(x, ends, constant_values=filler)
    found = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), axis=(-2, -1))
    return found[..., ::stride, ::stride, :, :]


WINDOWS = [(1, 1, 0), (2, 2, 0), (3, 2, 1), (3, 1, 1), (2, 3, 1), (5, 4, 2)]
SIZES = [(1, 1), (2, 3), (3, 17), (5, 63), (4, 64), (2, 65), (31, 2)]


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize(("kernel", "stride", "padding"), WINDOWS)
def test_images_of_odd_sizes(
    kernel: int, stride: int, padding: int, dtype: str, rng: np.random.Generator
) -> None:
    for height, width in SIZES:
        if min(height, width) + 2 * padding < kernel:
            continue
        x = flambeau.tensor(rng.standard_normal((2, 3, height, width))).to(getattr(flambeau, dtype))
        known = np.array(x.double().numpy())
        got = F.max_pool2d(x, kernel, stride, padding)
        want = cut(known, kernel, stride, padding, -np.inf).max((-2, -1))
        assert np.array_equal(got.double().numpy(), want)
        mean = F.avg_pool2d(x, kernel, stride, padding)
        want = cut(known, kernel, stride, padding, 0.0).mean((-2, -1))
        slack = {"float32": 1e-6, "float64": 1e-14, "bfloat16": 1e-2}[dtype]
        np.testing.assert_allclose(mean.double().numpy(), want, rtol=slack, atol=slack)


def test_the_first_of_equals_gets_the_gradient() -> None:
    x = flambeau.zeros(1, 1, 4, 4, requires_grad=True)
    values, places = F.max_pool2d(x, 3, 1, return_indices=True)
    values.sum().backward()
    assert places.flatten().tolist() == [0, 1, 4, 5]
    assert x.grad[0, 0].tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0] * 4, [0] * 4]


def test_nan_and_infinity_stay_in_their_windows() -> None:
    x = np.arange(36, dtype=np.float32).reshape(1, 1, 6, 6)
    x[0, 0, 0, 1], x[0, 0, 5, 5], x[0, 0, 2, 2] = np.nan, np.inf, -np.inf
    for pool, reduce in ((F.max_pool2d, np.max), (F.avg_pool2d, np.mean)):
        got = pool(flambeau.tensor(x), 2).numpy()
        np.testing.assert_array_equal(got, reduce(cut(x, 2, 2, 0, 0.0), axis=(-2, -1)))
    up = F.interpolate(flambeau.tensor(x), scale_factor=2, mode="bilinear").numpy()
    assert np.isnan(up).sum() <= 16 + 4  # no more than its neighbours
    assert np.isfinite(up[0, 0, 7:, :8]).all()


@pytest.mark.parametrize("width", [2047, 2048, 2049, 9001])
def test_rows_longer_than_a_buffer(width: int, rng: np.random.Generator) -> None:
    x = rng.standard_normal((2, width)).astype(np.float32)
    t = flambeau.tensor(x).requires_grad_()
    got = F.max_pool1d(t, 3, 2, 1)
    padded = np.pad(x, ((0, 0), (1, 1)), constant_values=-np.inf)
    found = np.lib.stride_tricks.sliding_window_view(padded, 3, axis=1)[:, ::2]
    assert np.array_equal(got.detach().numpy(), found.max(-1))
    got.sum().backward()
    want = np.zeros_like(x)
    for row in range(2):
        starts = 2 * np.arange(found.shape[1]) - 1
        np.add.at(want[row], starts + found[row].argmax(-1), 1)
    assert np.array_equal(t.grad.numpy(), want)
    up = F.interpolate(flambeau.tensor(x)[None], 2 * width, mode="linear", align_corners=True)
    place = np.arange(2 * width) * ((width - 1) / (2 * width - 1))
    want = np.stack([np.interp(place, np.arange(width), row) for row in x.astype(np.float64)])
    np.testing.assert_allclose(up[0].numpy(), want, rtol=0, atol=2e-6)


def test_strides_of_the_input_do_not_matter(rng: np.random.Generator) -> None:
    x = rng.standard_normal((2, 9, 10, 3)).astype(np.float32)  # channels last
    t = flambeau.tensor(x).permute(0, 3, 1, 2)
    plain = flambeau.tensor(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
    for pool in (
        lambda a: F.max_pool2d(a, 3, 2, 1),
        lambda a: F.avg_pool2d(a, 2),
        lambda a: F.interpolate(a, scale_factor=1.5, mode="bicubic"),
    ):
        assert np.array_equal(pool(t).numpy(), pool(plain).numpy())


def dense(key: Any) -> Array:
    """The matrix of a table."""
    found = band(key, False)
    matrix = np.zeros((len(found.starts), key[1]))
    for j, (start, count) in enumerate(zip(found.starts, found.counts, strict=True)):
        matrix[j, start : start + count] = found.weights[j, :count]
    return matrix


KEYS: list[Any] = [
    ("windows", 9, 4, 3, 2, 0),
    ("windows", 7, 2, 2, 4, 0),
    ("adaptive", 7, 3),
    ("adaptive", 3, 7),
    ("linear", 5, 12, 5 / 12, False),
    ("linear", 12, 5, 0.0, True),
    ("cubic", 6, 11, 6 / 11, False),
    ("smooth linear", 13, 4, 13 / 4, False),
    ("nearest", 5, 33, 5 / 33, False),
    ("nearest", 33, 5, 33 / 5, False),
]


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_a_table_is_a_matrix_and_its_transpose(key: Any, rng: np.random.Generator) -> None:
    matrix = dense(key)
    x = rng.standard_normal((3, key[1], key[1]))
    got = resample(flambeau.tensor(x), (key, key, False)).numpy()
    np.testing.assert_allclose(got, matrix @ x @ matrix.T, rtol=1e-12, atol=1e-12)
    g = rng.standard_normal((3, len(matrix), len(matrix)))
    got = resample(flambeau.tensor(g), (key, key, True)).numpy()
    np.testing.assert_allclose(got, matrix.T @ g @ matrix, rtol=1e-12, atol=1e-12)


def test_weights_of_interpolation_add_up_to_one() -> None:
    for key in KEYS[4:]:
        np.testing.assert_allclose(dense(key).sum(1), 1, rtol=1e-6)


def test_chunks_fit_the_buffer() -> None:
    assert windows.chunk_of(lambda first, last: last - first + 3, 100) == 100
    assert windows.chunk_of(lambda first, last: 4 * (last - first) + 3, 1000) == 500
    assert windows.chunk_of(lambda first, last: 1 << 20, 7) == 0  # no kernel then


def test_the_kernels_are_used() -> None:
    """What is measured and tested here is the kernel, not the rows' bodies."""
    assert set(window_tables.KERNELS) <= set(claims.CLAIMS)
    x = flambeau.ones(1, 2, 8, 8)
    y = F.max_pool2d(x, 2)
    graph = record.pending_graph()
    nodes = [n for n in graph.nodes if n.op.kind == "composite"]
    assert nodes
    assert all(claims.claims(n) for n in nodes)
    assert y.shape == (1, 2, 4, 4)
