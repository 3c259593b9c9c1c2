"""Sequences of different lengths in one tensor, packed and in pages, against each by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau.nn.attention.varlen import AuxRequest, varlen_attn, varlen_attn_out

Q_LENGTHS, K_LENGTHS = (5, 0, 130, 1, 33), (9, 4, 130, 70, 20)


def alone(
    q: Any, k: Any, v: Any, g: Any, scale: float, window: tuple[int, int]
) -> tuple[Any, Any, list[Any]]:
    """(output, log-sum-exp, gradients of q, k and v) of one sequence, float64; (T, H, D)."""
    n, heads, _ = q.shape
    m, shared = k.shape[:2]
    group = heads // shared
    q, k, v, g = (x.astype(np.float64).swapaxes(0, 1) for x in (q, k, v, g))
    keys, values = (np.repeat(x, group, 0) for x in (k, v))
    s = q @ keys.swapaxes(1, 2) * scale
    ahead = np.arange(m) - (np.arange(n)[:, None] + m - n)
    seen = np.ones((n, m), bool)
    if window[0] >= 0:
        seen &= ahead >= -window[0]
    if window[1] >= 0:
        seen &= ahead <= window[1]
    s = np.where(seen, s, -np.inf)
    top = s.max(-1, keepdims=True, initial=-np.inf)
    top = np.where(np.isinf(top), 0.0, top)
    p = np.exp(s - top)
    total = p.sum(-1, keepdims=True)
    with np.errstate(divide="ignore"):
        lse = (np.log(total) + top)[..., 0]
    p = p / np.where(total == 0, 1.0, total)
    dp = g @ values.swapaxes(1, 2)
    ds = p * (dp - (p * dp).sum(-1, keepdims=True)) * scale

    def grouped(x: Any) -> Any:
        return x.reshape(shared, group, m, -1).sum(1)

    grads = [ds @ keys, grouped(ds.swapaxes(1, 2) @ q), grouped(p.swapaxes(1, 2) @ g)]
    return (p @ values).swapaxes(0, 1), lse, [x.swapaxes(0, 1) for x in grads]


def cumulative(lengths: Any) -> Any:
    return flambeau.tensor(np.cumsum([0, *lengths]), dtype=flambeau.int32)


@pytest.mark.parametrize("window", [(-1, -1), (-1, 0), (16, 0), (3, 5), (0, -1)])
def test_packed_sequences(rng: np.random.Generator, window: tuple[int, int]) -> None:
    tq, tk = sum(Q_LENGTHS), sum(K_LENGTHS)
    q, g = (rng.standard_normal((tq, 4, 16)).astype(np.float32) for _ in "qg")
    k, v = (rng.standard_normal((tk, 2, 16)).astype(np.float32) for _ in "kv")
    leaves = [flambeau.tensor(x, requires_grad=True) for x in (q, k, v)]
    out, lse = varlen_attn(
        *leaves, cumulative(Q_LENGTHS), cumulative(K_LENGTHS), 130, 130, enable_gqa=True,
        window_size=window, scale=0.3, return_aux=AuxRequest(lse=True),
    )  # fmt: skip
    grads = flambeau.autograd.grad(out, leaves, flambeau.tensor(g))
    a = b = 0
    for n, m in zip(Q_LENGTHS, K_LENGTHS, strict=True):
        wanted, own, slopes = alone(
            q[a : a + n], k[b : b + m], v[b : b + m], g[a : a + n], 0.3, window
        )
        np.testing.assert_allclose(out.detach().numpy()[a : a + n], wanted, atol=3e-6)
        np.testing.assert_allclose(lse.detach().numpy()[:, a : a + n], own, atol=3e-6)
        for x, slope, start, length in zip(grads, slopes, (a, b, b), (n, m, m), strict=True):
            np.testing.assert_allclose(x.numpy()[start : start + length], slope, atol=2e-5)
        a, b = a + n, b + m


def test_pages_are_those_of_the_table(rng: np.random.Generator) -> None:
    used, size, pages = (9, 40, 16), 8, 16
    table = np.full((3, 6), -7)
    order = rng.permutation(pages)
    table[0, :2], table[1, :5], table[2, :2] = order[:2], order[2:7], order[7:9]
    table[2, 0] = table[1, 0]  # a page of two sequences
    pool = rng.standard_normal((2, pages, size, 2, 8)).astype(np.float32)
    q = rng.standard_normal((7, 4, 8)).astype(np.float32)
    found = varlen_attn(
        flambeau.tensor(q), *(flambeau.tensor(x) for x in pool), cumulative((1, 4, 2)), None, 4, 40,
        enable_gqa=True, seqused_k=flambeau.tensor(used), window_size=(-1, 0),
        block_table=flambeau.tensor(table, dtype=flambeau.int32),
    ).numpy()  # fmt: skip
    start = 0
    for i, n in enumerate((1, 4, 2)):
        k, v = (x[table[i, : -(-used[i] // size)]].reshape(-1, 2, 8)[: used[i]] for x in pool)
        own = q[start : start + n]
        wanted = alone(own, k, v, own, 8**-0.5, (-1, 0))[0]
        np.testing.assert_allclose(found[start : start + n], wanted, atol=2e-6)
        start += n


def test_keys_that_are_not_used_are_not_seen(rng: np.random.Generator) -> None:
    q, k, v = (flambeau.tensor(rng.standard_normal((8, 1, 4)).astype(np.float32)) for _ in "qkv")
    starts = cumulative((3, 5))
    cut = varlen_attn(q, k, v, starts, starts, 5, 5, seqused_k=flambeau.tensor([2, 5]))
    short = [x[:2] for x in (k, v)]
    own = cumulative((3,)), cumulative((2,))
    np.testing.assert_allclose(
        cut[:3].numpy(), varlen_attn(q[:3], *short, *own, 3, 2).numpy(), atol=1e-6
    )
    out = flambeau.zeros(8, 1, 4)
    assert varlen_attn_out(out, q, k, v, starts, starts, 5, 5) is out
    np.testing.assert_array_equal(out.numpy(), varlen_attn(q, k, v, starts, starts, 5, 5).numpy())


def test_bad_input_is_refused() -> None:
    x, y = flambeau.zeros(8, 4, 4), flambeau.zeros(8, 2, 4)
    starts = cumulative((3, 5))
    with pytest.raises(ValueError, match="Try setting enable_gqa=True"):
        varlen_attn(x, y, y, starts, starts, 5, 5)
    with pytest.raises(ValueError, match="multiple of kv heads"):
        varlen_attn(x, x[:, :3], x[:, :3], starts, starts, 5, 5, enable_gqa=True)
    with pytest.raises(ValueError, match="window_size must have length 2"):
        varlen_attn(x, x, x, starts, starts, 5, 5, window_size=(1,))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="only 8 positions"):
        varlen_attn(x, x, x, cumulative((3, 6)), starts, 6, 5)
    with pytest.raises(ValueError, match="begin with 0"):
        varlen_attn(x, x, x, flambeau.tensor([1, 8]), starts, 8, 8)
    with pytest.raises(ValueError, match="max_k is 4"):
        varlen_attn(x, x, x, starts, starts, 5, 4)
    with pytest.raises(ValueError, match="requires seqused_k"):
        varlen_attn(x, x[None], x[None], starts, None, 5, 5, block_table=flambeau.zeros(2, 1))
