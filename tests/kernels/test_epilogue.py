"""Regions that products compute on their tiles: every shape of unit, hidden and written results."""

import numpy as np
import pytest

import flambeau as fl
from flambeau import record
from flambeau.kernels.matmul import form_of
from flambeau.nn import functional as F
from flambeau.passes.fuse import fuse
from flambeau.passes.pipeline import lower
from flambeau.runtime.cpuinfo import host_features
from flambeau.runtime.program import build

RNG = np.random.default_rng(0)


def arrays(*shapes, dtype=np.float32):
    return [RNG.standard_normal(shape).astype(dtype) for shape in shapes]


def tensors(values):
    record.flush()  # what other tests left pending is not part of the programs looked at
    found = [fl.tensor(v) for v in values]
    for t in found:
        t.tolist()
    return found


def carried(*results):
    """The epilogues of the program that is pending, and how many steps it has."""
    assert results
    program = build(fuse(lower(record.pending_graph())))
    return list(program.carried.values()), len(program.order)


def close(found, wanted, scale=1.0):
    np.testing.assert_allclose(found.detach().numpy(), wanted, rtol=2e-5, atol=2e-5 * scale)


def gelu(x):
    import math

    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


SHAPES = [(64, 384, 64), (100, 200, 96), (33, 70, 40), (9, 32, 1), (1000, 48, 30), (257, 2500, 17)]


@pytest.mark.parametrize(("m", "n", "k"), SHAPES)
def test_bias_and_activation_cost_no_step(m, n, k):
    x, w, b = values = arrays((m, k), (n, k), (n,))
    tx, tw, tb = tensors(values)
    y = F.gelu(F.linear(tx, tw, tb))
    found, steps = carried(y)
    assert steps == 1
    assert found[0].hidden
    close(y, gelu(x.astype(np.float64) @ w.T + b), np.sqrt(k))


@pytest.mark.parametrize(("m", "n", "k"), SHAPES)
def test_rows_are_reduced_where_they_are_made(m, n, k):
    x, w, r = values = arrays((m, k), (k, n), (m, n))
    tx, tw, tr = tensors(values)
    y = F.softmax(tx @ tw + tr, -1)
    found, steps = carried(y)
    if n <= 2048:
        assert steps == 1
        assert found[0].epilogues[0].units == 1
    z = x.astype(np.float64) @ w + r
    z = np.exp(z - z.max(-1, keepdims=True))
    close(y, z / z.sum(-1, keepdims=True))


@pytest.mark.parametrize("m", [64, 128, 1024, 2048, 2100])
def test_columns_are_summed_where_they_are_made(m):
    g, w, s = values = arrays((m, 40), (40, 96), (m, 96))
    tg, tw, ts = tensors(values)
    d = (tg @ tw) * ts
    b = d.sum(0)
    record.pending_graph()
    z = (g.astype(np.float64) @ w) * s
    close(d, z, 10)
    close(b, z.sum(0), 100)


def test_a_product_read_elsewhere_is_written():
    x, w = values = arrays((70, 50), (50, 64))
    tx, tw = tensors(values)
    y = tx @ tw
    z = F.relu(y)
    found, steps = carried(y, z)
    assert steps == 1
    assert not found[0].hidden
    wanted = x.astype(np.float64) @ w
    close(y, wanted, 10)
    close(z, np.maximum(wanted, 0), 10)


def test_several_blocks_of_depth_are_summed_before_the_epilogue():
    x, w = values = arrays((70, 1700), (1700, 64))
    tx, tw = tensors(values)
    z = F.relu(tx @ tw - 1.0)
    found, steps = carried(z)
    assert steps == 1
    assert not found[0].hidden
    close(z, np.maximum(x.astype(np.float64) @ w - 1, 0), 100)


def test_a_region_that_needs_the_product_twice_removed_is_not_carried():
    x, w = values = arrays((64, 64), (64, 64))
    tx, tw = tensors(values)
    y = tx @ tw
    z = (y + y @ tw) * 2  # the first product's reader waits for the second, which reads the first
    close(z, 2 * ((x @ w).astype(np.float64) + (x.astype(np.float64) @ w) @ w), 300)


def test_two_products_and_their_sum():
    x, w, v = values = arrays((64, 32), (32, 64), (32, 64))
    tx, tw, tv = tensors(values)
    z = F.silu(tx @ tw) * (tx @ tv)
    assert carried(z)[1] == 2
    a, b = x.astype(np.float64) @ w, x.astype(np.float64) @ v
    close(z, a / (1 + np.exp(-a)) * b, 30)


@pytest.mark.parametrize("operand", [False, True])
def test_an_update_in_place_of_what_the_product_may_read(operand):
    (w,) = tensors(arrays((64, 64)))
    (x,) = tensors(arrays((64, 64)))
    before, other = w.numpy().copy(), x.numpy().copy()
    w -= 0.5 * ((w if operand else x) @ x)
    wanted = before - 0.5 * ((before if operand else other).astype(np.float64) @ other)
    np.testing.assert_allclose(w.numpy(), wanted, rtol=1e-5, atol=1e-4)


def test_transposed_results_are_written_by_the_epilogue():
    x, w = values = arrays((2 * 5 * 4, 24), (24, 2 * 32))
    tx, tw = tensors(values)
    y = (tx @ tw).view(2, 20, 2, 32).transpose(1, 2).contiguous() * 3
    wanted = (x.astype(np.float64) @ w).reshape(2, 20, 2, 32).swapaxes(1, 2) * 3
    close(y, wanted, 10)


def test_double_precision_is_carried_too():
    x, w = values = arrays((40, 300), (300, 50), dtype=np.float64)
    tx, tw = tensors(values)
    y = (tx @ tw + 1).exp()
    assert carried(y)[1] == 1
    np.testing.assert_allclose(y.numpy(), np.exp(x @ w + 1), rtol=1e-11)


def test_not_a_number_and_infinity_pass():
    x, w = values = arrays((64, 32), (32, 64))
    x[3, 5], x[7, 1] = np.nan, np.inf
    tx, tw = tensors(values)
    y = F.relu(tx @ tw)
    with np.errstate(invalid="ignore"):
        product = x @ w
    wanted = np.where(np.isnan(product), np.nan, np.maximum(product, 0))
    np.testing.assert_allclose(y.numpy(), wanted, rtol=1e-4, atol=1e-4)


def test_the_same_bits_on_any_number_of_threads():
    values = arrays((600, 200), (700, 200), (700,))
    results = []
    before = fl.get_num_threads()
    try:
        for threads in (1, 2, 3):
            fl.set_num_threads(threads)
            tx, tw, tb = tensors(values)
            results.append(F.gelu(F.linear(tx, tw, tb)).numpy())
    finally:
        fl.set_num_threads(before)
    assert all(np.array_equal(results[0], r) for r in results)


def test_regions_of_different_forms_follow_one_product():
    x, w, s = values = arrays((512, 64), (64, 96), (512, 96))
    tx, tw, ts = tensors(values)
    h = tx @ tw + ts
    y = F.layer_norm(h, (96,))
    g = (y * ts).sum(0)
    z = h.sum(0)
    found, steps = carried(y, g, z)
    if 64 % form_of("f32", host_features()).mr == 0:  # else a tile does not hold whole columns
        assert [e.unit_rows for e in found[0].epilogues] == [64, 1, 64]
        assert steps == 3
    h = x.astype(np.float64) @ w + s
    wanted = (h - h.mean(1, keepdims=True)) / np.sqrt(h.var(1, keepdims=True) + 1e-5)
    close(y, wanted, 5)
    close(g, (wanted * s).sum(0), 50)
    close(z, h.sum(0), 100)
