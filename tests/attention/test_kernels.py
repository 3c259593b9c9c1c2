"""Attention kernels against attention written out in float64."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import flambeau
import flambeau.nn.functional as F
from flambeau import record
from flambeau.kernels import claims
from flambeau.nn.attention.flex_attention import (
    AuxRequest,
    create_block_mask,
    flex_attention,
)
from tests.attention.dense import numpy_reference, torch_reference

#: B, Hq, Hk, L, S, E, V
SHAPES = [
    (1, 1, 1, 1, 1, 1, 1),
    (2, 4, 2, 37, 53, 16, 24),
    (1, 2, 2, 130, 300, 17, 33),
    (1, 2, 1, 1, 400, 64, 64),
    (1, 1, 1, 257, 129, 72, 5),
]


def drawn(rng: np.random.Generator, shape: tuple[int, ...]) -> list[Any]:
    """Query, key, value and the cotangents of the output and the log-sum-exp."""
    b, hq, hk, n, s, e, v = shape
    shapes = [(b, hq, n, e), (b, hk, s, e), (b, hk, s, v), (b, hq, n, v), (b, hq, n)]
    return [rng.standard_normal(x).astype(np.float32) for x in shapes]


def close(found: Any, wanted: Any, slack: float = 2e-5) -> None:
    """Equal up to float32's rounding, relative to the largest number."""
    size = max(1.0, float(np.abs(wanted[np.isfinite(wanted)]).max(initial=0.0)))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=slack * size)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_plain(rng: np.random.Generator, shape: tuple[int, ...], causal: bool) -> None:
    q, k, v, g, _ = drawn(rng, shape)
    scale = -0.3 if causal else 0.2
    leaves = [flambeau.tensor(x, requires_grad=True) for x in (q, k, v)]
    out = F.scaled_dot_product_attention(
        *leaves, is_causal=causal, scale=scale, enable_gqa=shape[1] != shape[2]
    )
    grads = flambeau.autograd.grad(out, leaves, flambeau.tensor(g))
    wanted, _, slopes = numpy_reference(q, k, v, g, scale, causal)
    close(out.detach().numpy(), wanted)
    for found, slope in zip(grads, slopes, strict=True):
        close(found.numpy(), slope)


def test_strided_operands_and_a_strided_cotangent(rng: np.random.Generator) -> None:
    packed = rng.standard_normal((2, 50, 3, 2, 24)).astype(np.float32)
    leaf = flambeau.tensor(packed, requires_grad=True)
    q, k, v = (x.transpose(1, 2) for x in leaf.unbind(2))
    out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    g = rng.standard_normal((2, 50, 2, 24)).astype(np.float32)
    (found,) = flambeau.autograd.grad(out.transpose(1, 2), leaf, flambeau.tensor(g))
    parts = [packed[:, :, i].transpose(0, 2, 1, 3) for i in range(3)]
    wanted, _, slopes = numpy_reference(*parts, g.transpose(0, 2, 1, 3), 24**-0.5, True)
    close(out.detach().numpy(), wanted)
    for i, slope in enumerate(slopes):
        close(found.numpy()[:, :, i].transpose(0, 2, 1, 3), slope)


MODS: list[Any] = [
    (None, lambda t, c: lambda b, h, q, k: (q >= k) & (q - k < 20) & (k > 3), ()),
    (lambda t, c: lambda s, b, h, q, k: s + c[0][h] * (k - q), None, ("H",)),
    (lambda t, c: lambda s, b, h, q, k: t.tanh(s / 3.7) * 3.7, None, ()),
    (lambda t, c: lambda s, b, h, q, k: s + c[0][h, q - k + 400], None, ("HW",)),
    (lambda t, c: lambda s, b, h, q, k: s * c[0] + c[1][q] * c[2][b, k], None, ("", "L", "BS")),
    (
        lambda t, c: lambda s, b, h, q, k: t.where(c[0][q] == c[1][k], s + c[2][h], s * c[2][h]),
        lambda t, c: lambda b, h, q, k: c[0][q] <= c[1][k] + 1,
        ("l", "s", "H"),
    ),
    (
        lambda t, c: lambda s, b, h, q, k: s + t.exp(c[0])[q % 4, k // 7 % 3] * t.sin(q * 0.1),
        None,
        ("XY",),
    ),
]


def tables(rng: np.random.Generator, names: tuple[str, ...], shape: tuple[int, ...]) -> list[Any]:
    """Captured arrays: capitals are dimensions of floats, small letters of small integers."""
    sizes = dict(zip("BHLS", (shape[0], shape[1], shape[3], shape[4]), strict=True))
    sizes.update(W=901, X=4, Y=3)
    return [
        rng.integers(0, 4, sizes[n.upper()])
        if n.islower()
        else rng.uniform(-0.5, 0.5, [sizes[x] for x in n]).astype(np.float32)
        for n in names
    ]


@pytest.mark.parametrize("number", range(len(MODS)))
@pytest.mark.parametrize("shape", SHAPES[1:3])
def test_mods(rng: np.random.Generator, shape: tuple[int, ...], number: int) -> None:
    pytest.importorskip("torch")
    score, mask, names = MODS[number]
    arrays = tables(rng, names, shape)
    q, k, v, g, g_lse = drawn(rng, shape)
    wanted, lse, slopes = torch_reference(q, k, v, g, g_lse, 0.3, arrays, score, mask)
    leaves = [flambeau.tensor(x, requires_grad=True) for x in (q, k, v)]
    captured = [flambeau.tensor(x, requires_grad=x.dtype.kind == "f") for x in arrays]
    block_mask = None
    if mask is not None:
        block_mask = create_block_mask(
            mask(flambeau, captured), None, None, shape[3], shape[4], BLOCK_SIZE=32
        )
    out, aux = flex_attention(
        *leaves, score(flambeau, captured) if score else None, block_mask, 0.3,
        enable_gqa=shape[1] != shape[2], return_aux=AuxRequest(lse=True),
    )  # fmt: skip
    safe = flambeau.where(aux.lse == -math.inf, 0.0, aux.lse)
    loss = (out * flambeau.tensor(g)).sum() + (safe * flambeau.tensor(g_lse)).sum()
    leaves += [c for c in captured if c.requires_grad]
    grads = flambeau.autograd.grad(loss, leaves)
    close(out.detach().numpy(), wanted)
    close(aux.lse.detach().numpy(), lse)
    for found, slope in zip(grads, slopes, strict=True):
        close(found.numpy(), slope)


def test_a_query_that_sees_nothing_gives_zeros_and_no_gradient(rng: np.random.Generator) -> None:
    q, k, v, g, _ = drawn(rng, (1, 1, 1, 40, 40, 8, 8))
    leaves = [flambeau.tensor(x, requires_grad=True) for x in (q, k, v)]
    block_mask = create_block_mask(
        lambda b, h, q, k: (q >= 30) & (k < 9), None, None, 40, 40, BLOCK_SIZE=16
    )
    out, aux = flex_attention(*leaves, block_mask=block_mask, return_aux=AuxRequest(True, True))
    dq, dk, dv = flambeau.autograd.grad(out, leaves, flambeau.tensor(g))
    assert not out.detach().numpy()[:, :, :30].any()
    assert not dq.numpy()[:, :, :30].any()
    assert (aux.lse.detach().numpy()[:, :, :30] == -np.inf).all()
    assert (aux.max_scores.numpy()[:, :, :30] == -np.inf).all()
    assert not dk.numpy()[:, :, 9:].any()
    assert not dv.numpy()[:, :, 9:].any()
    assert np.isfinite(dk.numpy()).all()
    assert dk.numpy()[:, :, :9].any()


def test_results_do_not_depend_on_threads(rng: np.random.Generator) -> None:
    q, k, v, g, _ = drawn(rng, (1, 4, 2, 300, 300, 32, 32))
    slopes = rng.standard_normal(4).astype(np.float32)
    threads = flambeau.get_num_threads()

    def run() -> list[Any]:
        leaves = [flambeau.tensor(x, requires_grad=True) for x in (q, k, v, slopes)]
        out = flex_attention(
            *leaves[:3], lambda s, b, h, q, k: s + leaves[3][h] * (k - q), enable_gqa=True
        )
        grads = flambeau.autograd.grad(out, leaves, flambeau.tensor(g))
        return [x.detach().numpy().copy() for x in (out, *grads)]

    try:
        flambeau.set_num_threads(1)
        first = run()
        flambeau.set_num_threads(3)
        for _ in range(3):
            for a, b in zip(first, run(), strict=True):
                np.testing.assert_array_equal(a, b)
    finally:
        flambeau.set_num_threads(threads)


@pytest.mark.parametrize("shape", [(2, 2, 2, 50, 70, 8, 8), (1, 8, 8, 1, 1100, 8, 8)])
def test_dropout_is_that_of_the_dense_form(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...]
) -> None:
    q, k, v, g, _ = drawn(rng, shape)

    def run() -> list[Any]:
        flambeau.manual_seed(5)
        leaves = [flambeau.tensor(x, requires_grad=True) for x in (q, k, v)]
        out = F.scaled_dot_product_attention(*leaves, dropout_p=0.3)
        grads = flambeau.autograd.grad(out, leaves, flambeau.tensor(g))
        return [x.detach().numpy() for x in (out, *grads)]

    kernel = run()
    with monkeypatch.context() as patch:
        patch.setattr(claims, "CLAIMS", {})
        record.clear_programs()
        dense = run()
    record.clear_programs()
    for a, b in zip(kernel, dense, strict=True):
        close(a, b)
    assert not np.allclose(kernel[0], numpy_reference(q, k, v, g, 8**-0.5, False)[0], atol=1e-3)


def test_second_derivatives(rng: np.random.Generator) -> None:
    leaves = [
        flambeau.tensor(rng.standard_normal((1, 1, 3, 4)), requires_grad=True) for _ in range(3)
    ]
    scale = flambeau.tensor(1.3, dtype=flambeau.float64, requires_grad=True)

    def call(q: Any, k: Any, v: Any, t: Any) -> Any:
        return flex_attention(q, k, v, lambda s, b, h, i, j: flambeau.tanh(s * t) + (i - j))

    assert flambeau.autograd.gradcheck(call, (*leaves, scale))
    assert flambeau.autograd.gradgradcheck(call, (*leaves, scale))
