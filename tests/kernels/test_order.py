"""Elements by rank: every dtype and way of taking a row, bit for bit beside NumPy's stable sort."""

import ml_dtypes
import numpy as np
import pytest

import flambeau as fl
from flambeau import record
from flambeau.kernels import claims, order
from flambeau.ops.ordering import middle_along, ranked

DTYPES = {
    **{name: np.dtype(name) for name in order.ELEMENTS if name != "bfloat16"},
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}


def draw(rng, shape, dtype, few):
    """Values of a dtype, with repetitions, both zeros, infinities and NaN."""
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.kind in "iu":
        ends = np.iinfo(dtype)
        low, high = (0, 3) if few else (ends.min, ends.max)
        return rng.integers(low, high, shape, dtype=dtype, endpoint=True)
    x = rng.normal(size=shape) * (1 if few else 100)
    x = np.round(x) if few else x
    for value in (np.nan, -0.0, 0.0, -np.inf, np.inf):
        x = np.where(rng.random(shape) < 0.05, value, x)
    return x.astype(dtype)


def bits(x):
    """An array's memory as unsigned integers."""
    return np.ascontiguousarray(x).view(f"u{x.itemsize}")


def sorted_places(x, axis, descending):
    """NumPy's stable order, NaN as the largest."""
    x = x.astype(np.float32) if x.dtype.itemsize == 2 and x.dtype.kind not in "iu" else x
    if not descending:
        return np.argsort(x, axis=axis, kind="stable")
    turned = np.argsort(np.flip(x, axis), axis=axis, kind="stable")
    return x.shape[axis] - 1 - np.flip(turned, axis)


def check(x, axis, first, count, descending):
    """Values and places of some ranks."""
    values, places = ranked(fl.tensor(x), axis, first, count, descending)
    wanted = sorted_places(x, axis, descending)
    wanted = np.take(wanted, np.arange(first, first + count), axis)
    np.testing.assert_array_equal(places.numpy(), wanted)
    found = np.take_along_axis(x, wanted, axis)
    np.testing.assert_array_equal(bits(values._array()), bits(found))


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("few", [False, True])
def test_ranks_are_those_of_a_stable_sort(name, few, rng):
    for shape in [(1,), (33,), (49,), (4500,), (3, 70), (70, 3), (2, 65, 3), (4, 1, 130)]:
        x = draw(rng, shape, DTYPES[name], few)
        for axis, n in enumerate(shape):
            for first, count in {(0, n), (0, min(n, 7)), (n - 1, 1), (n // 2, max(n // 9, 1))}:
                for descending in (False, True):
                    check(x, axis, first, count, descending)


def test_bars_that_keep_falling_and_rows_of_equal_elements():
    falling = np.arange(5000, 0, -1).astype(np.float32)
    check(falling, 0, 0, 5, False)
    check(falling, 0, 3, 20, True)
    check(np.full(3000, 7, np.int64), 0, 0, 9, True)
    check(np.full(3000, 7, np.int64), 0, 1400, 9, True)
    check(np.full((2, 900), np.nan, np.float64), 1, 0, 3, False)


@pytest.mark.parametrize("name", ["float32", "float64", "bfloat16", "int32"])
def test_medians(name, rng):
    for shape in [(1,), (2,), (64,), (501, 2), (3, 1000)]:
        x = draw(rng, shape, DTYPES[name], True)
        x[..., -1] = 1
        wide = x.astype(np.float64)
        for axis, n in enumerate(shape):
            order = np.argsort(wide, axis=axis, kind="stable")
            numbers = (~np.isnan(wide)).sum(axis, keepdims=True)
            for ignore in (False, True):
                rank = np.maximum(numbers - 1, 0) // 2
                rank = rank if ignore else np.where(numbers < n, numbers, rank)
                places = np.take_along_axis(order, rank, axis)
                value, place = middle_along(fl.tensor(x), axis, ignore)
                np.testing.assert_array_equal(place.numpy(), places)
                found = np.take_along_axis(x, places, axis)
                np.testing.assert_array_equal(bits(value._array()), bits(found))


def test_views_are_read_where_they_lie(rng):
    x = rng.normal(size=(6, 90, 4)).astype(np.float32)
    t = fl.tensor(x)
    cases = [
        (t.transpose(0, 2), x.swapaxes(0, 2)),
        (t[::2, 5:80:3], x[::2, 5:80:3]),
        (t[:1].expand(3, 90, 4), np.broadcast_to(x[:1], (3, 90, 4))),
    ]
    for view, array in cases:
        for axis in range(3):
            values, places = fl.sort(view, axis)
            np.testing.assert_array_equal(places.numpy(), np.argsort(array, axis, kind="stable"))
            np.testing.assert_array_equal(values.numpy(), np.sort(array, axis))


def test_the_kernel_computes_them(rng):
    x = fl.tensor(rng.normal(size=(3, 50)).astype(np.float32))
    found = [fl.sort(x)[0], fl.topk(x, 3)[0], fl.median(x, 1)[0], fl.argsort(x, 0)]
    nodes = record.pending_graph().nodes
    assert all(claims.claims(n) for n in nodes if n.op.name in ("ranked", "middle_along"))
    del found


def test_which_index_a_sequence_gives(rng):
    for n in (0, 1, 2, 3, 64, 77):
        line = np.sort(rng.integers(0, 20, n)).astype(np.float32)
        wanted = np.concatenate([line, rng.normal(size=30) * 10]).astype(np.float32)
        for side in ("left", "right"):
            found = fl.searchsorted(fl.tensor(line), fl.tensor(wanted), side=side)
            np.testing.assert_array_equal(found.numpy(), np.searchsorted(line, wanted, side))
    found = fl.searchsorted(fl.tensor([1.0, 2.0]), fl.tensor([float("nan"), 5.0]))
    assert found.tolist() == [2, 2]


def test_modes_and_unique_values(rng):
    x = rng.integers(0, 4, (5, 30)).astype(np.int64)
    values, places = fl.mode(fl.tensor(x), 1)
    for row, value, place in zip(x, values.tolist(), places.tolist(), strict=True):
        distinct, counts = np.unique(row, return_counts=True)
        assert value == distinct[np.argmax(counts)]
        assert place == np.flatnonzero(row == value)[-1]
    found = fl.unique(fl.tensor(x), return_inverse=True, return_counts=True)
    wanted = np.unique(x, return_inverse=True, return_counts=True)
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(a.numpy(), b)
    assert fl.unique(fl.zeros(0)).shape == (0,)
