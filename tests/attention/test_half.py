"""Attention kernels of 16-bit floats: pairs of bfloat16 where there are such, else widened."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import flambeau
import flambeau.nn.functional as F
from flambeau import record
from flambeau.kernels import attention, attention_tiles, claims
from flambeau.nn.attention.flex_attention import AuxRequest, create_block_mask, flex_attention
from flambeau.runtime.cpuinfo import host_features
from tests.attention.dense import numpy_reference, torch_reference

#: B, Hq, Hk, L, S, E, V: odd numbers of queries, keys and features, a group of heads, few queries
SHAPES = [
    (2, 4, 2, 37, 53, 16, 24),
    (1, 2, 1, 130, 301, 17, 33),
    (1, 2, 1, 1, 401, 64, 64),
    (1, 1, 1, 65, 129, 1, 5),
]
#: root mean square of the error beside that of the result; rounding the result alone is 0.0017 and
#: 0.0002, rounding probabilities and their gradients as much again
CLOSE = {"bfloat16": 4e-3, "float16": 6e-4}
FORMS = {
    "AVX2": frozenset({"avx2", "fma"}),
    "128 bits": frozenset[str](),
}


@pytest.fixture(params=["host", *FORMS])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Kernels in the form for the host, and in those for machines with less."""
    if request.param == "host":
        yield
        return
    machine = attention_tiles.machine_of(FORMS[request.param])
    with monkeypatch.context() as patch:
        patch.setattr(attention, "machine_of", lambda features: machine)
        claims._attention_claim.cache_clear()
        record.clear_programs()
        yield
    claims._attention_claim.cache_clear()
    record.clear_programs()


def drawn(
    rng: np.random.Generator, shape: tuple[int, ...], dtype: str
) -> tuple[list[Any], list[Any]]:
    """Query, key, value and a cotangent: tensors of the dtype, and the same as arrays."""
    b, hq, hk, n, s, e, v = shape
    shapes = [(b, hq, n, e), (b, hk, s, e), (b, hk, s, v), (b, hq, n, v)]
    kind = getattr(flambeau, dtype)
    found = [flambeau.tensor(rng.standard_normal(x).astype(np.float32)).to(kind) for x in shapes]
    return found, [x.float().numpy() for x in found]


def error(found: Any, wanted: Any) -> float:
    """Root mean square of the difference, beside that of what is wanted."""
    found = found.detach().float().numpy().astype(np.float64)
    size = math.sqrt(np.mean(wanted**2))
    return math.sqrt(np.mean((found - wanted) ** 2)) / max(size, 0.05)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("shape", SHAPES)
def test_results_and_gradients(
    rng: np.random.Generator, form: None, shape: tuple[int, ...], dtype: str, causal: bool
) -> None:
    (*leaves, g), (q, k, v, g_) = drawn(rng, shape, dtype)
    scale = -0.3 if causal else 0.2
    leaves = [x.requires_grad_() for x in leaves]
    out = F.scaled_dot_product_attention(
        *leaves, is_causal=causal, scale=scale, enable_gqa=shape[1] != shape[2]
    )
    grads = flambeau.autograd.grad(out, leaves, g)
    wanted, _, slopes = numpy_reference(q, k, v, g_, scale, causal)
    for found, reference in zip((out, *grads), (wanted, *slopes), strict=True):
        assert found.dtype is getattr(flambeau, dtype)
        assert error(found, reference) < CLOSE[dtype]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("length", [65, 256])
def test_as_accurate_as_torch(rng: np.random.Generator, length: int, causal: bool) -> None:
    torch = pytest.importorskip("torch")
    leaves, (q, k, v, g) = drawn(rng, (1, 3, 3, length, length, 64, 64), "bfloat16")
    peers = [torch.tensor(x).bfloat16() for x in (q, k, v, g)]
    leaves = [*(x.requires_grad_() for x in leaves[:3]), leaves[3]]
    peers = [*(x.requires_grad_() for x in peers[:3]), peers[3]]
    out = F.scaled_dot_product_attention(*leaves[:3], is_causal=causal)
    other = torch.nn.functional.scaled_dot_product_attention(*peers[:3], is_causal=causal)
    ours = [out, *flambeau.autograd.grad(out, leaves[:3], leaves[3])]
    theirs = [other, *torch.autograd.grad(other, peers[:3], peers[3])]
    wanted, _, slopes = numpy_reference(q, k, v, g, 0.125, causal)
    for a, b, reference in zip(ours, theirs, (wanted, *slopes), strict=True):
        assert error(a, reference) < 1.03 * error(b, reference)


def test_strided_operands_and_features_apart(rng: np.random.Generator, form: None) -> None:
    (x, _, _, g), (a, _, _, g_) = drawn(rng, (3, 2, 1, 50, 1, 23, 23), "bfloat16")
    leaf = x.requires_grad_()  # (3, 2, 50, 23)
    q, k, v = (y.unsqueeze(0) for y in leaf.unbind(0))
    k, v = (y.transpose(-1, -2).contiguous().transpose(-1, -2) for y in (k, v))
    out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    (found,) = flambeau.autograd.grad(out, leaf, g[:1])
    wanted, _, slopes = numpy_reference(a[:1], a[1:2], a[2:], g_[:1], 23**-0.5, True)
    assert error(out, wanted) < CLOSE["bfloat16"]
    assert error(found, np.concatenate(slopes)) < CLOSE["bfloat16"]


@pytest.mark.parametrize("shape", [SHAPES[0], (1, 4, 2, 7, 300, 32, 32)])
def test_mods_and_gradients_of_what_they_capture(
    rng: np.random.Generator, form: None, shape: tuple[int, ...]
) -> None:
    pytest.importorskip("torch")
    (*leaves, g), (q, k, v, g_) = drawn(rng, shape, "bfloat16")
    table = rng.uniform(-0.5, 0.5, (shape[1], 901)).astype(np.float32)

    def score(c: Any) -> Any:
        return lambda s, b, h, q, k: s + c[h, q - k + 400]

    def mask(b: Any, h: Any, q: Any, k: Any) -> Any:
        return (q + 40 >= k) & (k != 3)

    none = np.zeros(g_.shape[:3], np.float32)
    wanted, lse, slopes = torch_reference(
        q, k, v, g_, none, 0.3, [table],
        lambda t, c: score(c[0]), lambda t, c: mask,
    )  # fmt: skip
    captured = flambeau.tensor(table, requires_grad=True)
    leaves = [*(x.requires_grad_() for x in leaves), captured]
    blocks = create_block_mask(mask, None, None, shape[3], shape[4], BLOCK_SIZE=33)
    out, aux = flex_attention(
        *leaves[:3], score(captured), blocks, 0.3, enable_gqa=True, return_aux=AuxRequest(lse=True)
    )
    grads = flambeau.autograd.grad(out, leaves, g)
    np.testing.assert_allclose(aux.lse.detach().numpy(), lse, rtol=1e-5, atol=1e-5)
    for found, reference in zip((out, *grads), (wanted, *slopes), strict=True):
        assert error(found, reference) < 1.5 * CLOSE["bfloat16"]


def test_dropout_drops_what_float32_drops(rng: np.random.Generator) -> None:
    (q, k, v, g), _ = drawn(rng, (2, 2, 2, 51, 71, 8, 8), "bfloat16")

    def run(kind: Any) -> list[Any]:
        flambeau.manual_seed(5)
        leaves = [x.to(kind).requires_grad_() for x in (q, k, v)]
        out = F.scaled_dot_product_attention(*leaves, dropout_p=0.3)
        return [out, *flambeau.autograd.grad(out, leaves, g.to(kind))]

    exact = [x.detach().numpy().astype(np.float64) for x in run(flambeau.float32)]
    for found, wanted in zip(run(flambeau.bfloat16), exact, strict=True):
        assert error(found, wanted) < 1.5 * CLOSE["bfloat16"]


def test_what_is_not_a_number_stays_where_it_is(rng: np.random.Generator) -> None:
    (q, k, v, g), (a, _, c, _) = drawn(rng, (1, 1, 1, 70, 71, 16, 16), "bfloat16")
    clean = F.scaled_dot_product_attention(q, k, v).float().numpy()
    a[0, 0, 33, 2] = np.nan
    bad = flambeau.tensor(a).bfloat16().requires_grad_()
    out = F.scaled_dot_product_attention(bad, k, v)
    (slope,) = flambeau.autograd.grad(out, bad, g)
    found = out.detach().float().numpy()
    assert np.isnan(found[0, 0, 33]).all()
    assert np.isnan(slope.float().numpy()[0, 0, 33]).all()
    rest = np.delete(found, 33, 2)
    np.testing.assert_array_equal(rest, np.delete(clean, 33, 2))
    assert np.isfinite(np.delete(slope.float().numpy(), 33, 2)).all()
    c[0, 0, 70, 4] = np.inf  # the last key, half of a pair
    out = F.scaled_dot_product_attention(q, k, flambeau.tensor(c).bfloat16()).float().numpy()
    assert np.isinf(out[..., 4]).all()
    np.testing.assert_array_equal(np.delete(out, 4, 3), np.delete(clean, 4, 3))


def test_no_copies_in_float32_are_made(rng: np.random.Generator) -> None:
    (q, k, v, _), _ = drawn(rng, (1, 2, 2, 64, 64, 16, 16), "bfloat16")
    record.flush()
    F.scaled_dot_product_attention(q, k, v)
    nodes = [n for n in record.pending_graph().nodes if n.op.name != "_attention"]
    assert all(n.dtype is not flambeau.float32 for n in nodes if math.prod(n.shape) == q.numel())


def test_results_do_not_depend_on_threads(rng: np.random.Generator) -> None:
    (q, k, v, g), _ = drawn(rng, (1, 4, 2, 300, 300, 32, 32), "bfloat16")
    threads = flambeau.get_num_threads()

    def run() -> list[Any]:
        leaves = [x.detach().requires_grad_() for x in (q, k, v)]
        out = F.scaled_dot_product_attention(*leaves, is_causal=True, enable_gqa=True)
        return [x.float().numpy().copy() for x in flambeau.autograd.grad(out, leaves, g)]

    try:
        flambeau.set_num_threads(1)
        first = run()
        flambeau.set_num_threads(3)
        for _ in range(3):
            for a, b in zip(first, run(), strict=True):
                np.testing.assert_array_equal(a, b)
    finally:
        flambeau.set_num_threads(threads)


def test_pairs_are_used_where_the_machine_has_them() -> None:
    machine = attention_tiles.machine_of(host_features())
    assert machine.of("bf16").pairs == ("avx512bf16" in host_features())
    assert not machine.of("f16").pairs
    assert not machine.of("f32").widened
