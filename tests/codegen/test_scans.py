"""Scans in generated code, beside NumPy: axes, directions, dtypes and ends of vectors."""

import numpy as np
import pytest

import flambeau as fl
from flambeau import explain
from flambeau.ops.scan import scan_argmax, scan_argmin, scan_logsumexp, scan_product, scan_sum

SHAPES = [(2,), (16,), (17,), (130,), (3, 7), (40, 70), (2, 33, 5), (2, 3, 4, 37)]


def running(accumulate, x, axis, reverse):
    """A NumPy accumulation from either end, floats in float64."""
    wide = x.astype(np.float64) if x.dtype.kind == "f" else x
    turned = np.flip(wide, axis) if reverse else wide
    found = accumulate(turned, axis=axis)
    return (np.flip(found, axis) if reverse else found).astype(x.dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "uint8"])
@pytest.mark.parametrize("reverse", [False, True])
def test_sums_products_and_logarithms(dtype, reverse, rng):
    for shape in SHAPES:
        x = (rng.normal(size=shape) * 3).astype(dtype)
        given = fl.tensor(x)
        for axis in (a for a, n in enumerate(shape) if n > 1):
            found = [scan_sum(given, axis, reverse), scan_product(given, axis, reverse)]
            wanted = [running(f, x, axis, reverse) for f in (np.cumsum, np.cumprod)]
            if x.dtype.kind == "f":
                found.append(scan_logsumexp(given, axis, reverse))
                wanted.append(running(np.logaddexp.accumulate, x, axis, reverse))
            for a, b in zip(found, wanted, strict=True):
                np.testing.assert_allclose(a.numpy(), b, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "int64", "int8", "bool"])
@pytest.mark.parametrize("reverse", [False, True])
def test_places_are_those_of_the_last_extreme(dtype, reverse, rng):
    for shape in SHAPES:
        x = rng.integers(-2, 2, shape).astype(dtype)
        for axis, n in enumerate(shape):
            if n == 1:
                continue
            for row, better in ((scan_argmax, np.greater_equal), (scan_argmin, np.less_equal)):
                found = row(fl.tensor(x), axis, reverse).numpy()
                lines, places = np.moveaxis(x, axis, -1), np.moveaxis(found, axis, -1)
                for line, place in zip(lines.reshape(-1, n), places.reshape(-1, n), strict=True):
                    best = None
                    for k in reversed(range(n)) if reverse else range(n):
                        best = k if best is None or better(line[k], line[best]) else best
                        assert place[k] == best


def test_what_is_not_finite():
    rows = [[1, np.nan, 3, np.nan, 9], [np.inf, -1, 5, np.inf, 2], [-np.inf] * 5]
    x = np.array([(r * 8)[:37] for r in rows], np.float32)
    values, places = fl.tensor(x).cummax(1)
    np.testing.assert_array_equal(values.numpy(), np.maximum.accumulate(x, 1))
    assert places[0, :6].tolist() == [0, 1, 1, 3, 3, 3]
    with np.errstate(invalid="ignore"):
        wanted = np.logaddexp.accumulate(x.astype(np.float64), 1)
    np.testing.assert_allclose(fl.tensor(x).logcumsumexp(1).numpy(), wanted)
    np.testing.assert_array_equal(fl.tensor(x).cumsum(1).numpy(), np.cumsum(x, 1))


def test_long_sums_are_rounded_once(rng):
    x = rng.normal(size=100_000).astype(np.float32)
    wanted = np.cumsum(x.astype(np.float64)).astype(np.float32)
    np.testing.assert_array_equal(fl.tensor(x).cumsum(0).numpy(), wanted)


def test_a_scan_is_one_kernel_with_its_neighbours(rng):
    x = fl.tensor(rng.normal(size=(40, 100)).astype(np.float32))
    program = explain(lambda t: (t.exp().cumsum(1) + 1).log(), x)
    assert len(program.kernels) == 1
    y = rng.normal(size=(30, 50)).astype(np.float32)
    found = (fl.tensor(y).t().cumsum(0) / fl.tensor(y).t().cumsum(0).sum(0)).cumsum(1)
    sums = np.cumsum(y.T.astype(np.float64), 0)
    np.testing.assert_allclose(found.numpy(), np.cumsum(sums / sums.sum(0), 1), rtol=2e-3)


@pytest.mark.parametrize("name", ["cumsum", "cumprod", "cummax", "cummin", "logcumsumexp"])
def test_gradients(name, rng):
    x = fl.tensor(rng.normal(size=(3, 19)), requires_grad=True)
    for axis in (0, 1):

        def value(t, axis=axis):
            found = getattr(t, name)(axis)
            return found if name in ("cumsum", "cumprod", "logcumsumexp") else found[0]

        assert fl.autograd.gradcheck(value, (x,))
