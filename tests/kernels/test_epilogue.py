"""Regions that products compute on their tiles: every shape of unit, hidden and written results."""

import numpy as np
import pytest

import flambeau as fl
from flambeau import record
from flambeau.kernels.epilogue import streams
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


HALF = {"bfloat16": 2.0**-7, "float16": 2.0**-10}


def halves(dtype, *shapes):
    """Tensors of a 16-bit dtype in memory, and the same in float64."""
    found = tensors([x / np.float32(4) for x in arrays(*shapes)])
    found = [t.to(getattr(fl, dtype)) for t in found]
    exact = [t.float().numpy().astype(np.float64) for t in found]
    return found, exact


def near(found, wanted, dtype):
    """Within a rounding of the largest."""
    assert found.dtype is getattr(fl, dtype)
    size = np.abs(wanted).max()
    np.testing.assert_allclose(found.float().numpy(), wanted, rtol=0, atol=HALF[dtype] * size)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize(("m", "n", "k"), SHAPES)
def test_half_types_are_carried(dtype, m, n, k):
    (x, w, b), (ex, ew, eb) = halves(dtype, (m, k), (n, k), (n,))
    y = F.gelu(F.linear(x, w, b))
    found, steps = carried(y)
    assert steps == 1
    assert found[0].hidden
    near(y, gelu(ex @ ew.T + eb), dtype)


@pytest.mark.parametrize("dtype", HALF)
def test_norms_of_half_types_are_carried(dtype):
    (x, w, r), (ex, ew, er) = halves(dtype, (130, 64), (64, 96), (130, 96))
    h = x @ w + r
    y = F.layer_norm(h.float(), (96,))
    assert carried(h, y)[1] == 1
    e = ex @ ew + er
    near(h, e, dtype)
    wanted = (e - e.mean(1, keepdims=True)) / np.sqrt(e.var(1, keepdims=True) + 1e-5)
    assert y.dtype is fl.float32
    np.testing.assert_allclose(y.numpy(), wanted, rtol=0, atol=20 * HALF[dtype])


@pytest.mark.parametrize(("m", "n", "k"), [(1100, 1200, 2100), (2048, 40, 2100), (30, 33, 2100)])
def test_half_types_in_blocks_of_rows_columns_and_depth(m, n, k):
    """More than fits the partial sums that a product holds at once."""
    (x, w, s), (ex, ew, es) = halves("bfloat16", (m, k), (k, n), (m, n))
    y = F.relu(x @ w - s)
    sums = [(y * s).sum(0, dtype=fl.float32)] if m % 64 == 0 else []
    found, steps = carried(y, *sums)
    if 64 % form_of("bf16", host_features()).mr == 0:  # else a tile does not hold whole columns
        assert steps == 1 + len(sums)
        assert not found[0].hidden
    wanted = np.maximum(ex @ ew - es, 0)
    near(y, wanted, "bfloat16")
    for each in sums:
        total = (wanted * es).sum(0)
        np.testing.assert_allclose(each.numpy(), total, atol=np.abs(total).max() * 2.0**-7)


def test_a_gradient_in_half_precision_updates_float32_weights():
    (g, x), (eg, ex) = halves("bfloat16", (200, 64), (200, 96))
    (w,) = tensors(arrays((64, 96)))
    before = w.numpy().copy()
    w -= 0.5 * (g.t() @ x).float()
    found, steps = carried(w)
    assert steps == 1
    assert found[0].hidden
    step = 0.5 * (eg.T @ ex)
    np.testing.assert_allclose(w.numpy(), before - step, atol=np.abs(step).max() * 2.0**-8)


def test_products_are_told_what_their_epilogues_walk():
    x, w, r, b = values = arrays((64, 32), (32, 96), (64, 96), (96,))
    tx, tw, tr, tb = tensors(values)
    y = F.layer_norm((tx @ tw).relu() + tr, (96,), tb)
    program = build(fuse(lower(record.pending_graph())))
    ((number, of),) = program.carried.items()
    (product,) = (s.node for s in program.plan.steps if s.number == number)
    walked = [of.epilogues[e].kernel.slots[slot] for e, slot, _ in streams(of, product)]
    shapes = [(key if hasattr(key, "shape") else key[1]).shape for _, key, _ in walked]
    assert shapes == [(64, 96), (64, 96)]  # the residual and the result, not the norm's weight
    h = np.maximum(x.astype(np.float64) @ w, 0) + r
    wanted = (h - h.mean(1, keepdims=True)) / np.sqrt(h.var(1, keepdims=True) + 1e-5) * b
    close(y, wanted, 5)
