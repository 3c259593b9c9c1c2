"""Attention of few queries, split over keys, against attention written out in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flambeau
import flambeau.nn.functional as F
from flambeau.nn.attention.flex_attention import AuxRequest, create_block_mask, flex_attention

#: B, Hq, Hk, L, S, E, V; rows that a vector holds, several vectors, several panels, several tiles
SHAPES = [
    (1, 8, 1, 1, 1500, 64, 64),
    (2, 6, 2, 1, 2049, 17, 33),
    (1, 4, 4, 5, 1100, 8, 8),
    (1, 8, 2, 9, 1300, 16, 24),
    (1, 4, 2, 1, 1111, 40, 20),
    (1, 12, 1, 1, 1025, 32, 48),
    (1, 2, 1, 70, 1031, 16, 16),
    (1, 1, 1, 300, 1600, 8, 8),
    (3, 2, 2, 1, 7, 1, 1),
]


def dense(q: Any, k: Any, v: Any, score: Any = None, seen: Any = None) -> tuple[Any, Any, Any]:
    """(output, log-sum-exp, greatest scores) in float64; `score` and `seen` take places."""
    heads, e = q.shape[1], q.shape[3]
    group = heads // k.shape[1]
    keys, values = (np.repeat(x.astype(np.float64), group, 1) for x in (k, v))
    s = q.astype(np.float64) @ keys.swapaxes(-1, -2) / np.sqrt(e)
    place = np.ogrid[tuple(slice(x) for x in s.shape)]
    if score is not None:
        s = score(s, *place)
    if seen is not None:
        s = np.where(seen(*place), s, -np.inf)
    top = s.max(-1, keepdims=True)
    p = np.exp(s - np.where(np.isinf(top), 0.0, top))
    total = p.sum(-1, keepdims=True)
    with np.errstate(divide="ignore"):
        lse = np.log(total) + np.where(np.isinf(top), 0.0, top)
    return p @ values / np.where(total == 0, 1.0, total), lse[..., 0], top[..., 0]


def drawn(rng: np.random.Generator, shape: tuple[int, ...]) -> list[Any]:
    """Query, key and value."""
    b, hq, hk, n, s, e, v = shape
    shapes = ((b, hq, n, e), (b, hk, s, e), (b, hk, s, v))
    return [rng.standard_normal(x).astype(np.float32) for x in shapes]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("shape", SHAPES)
def test_plain(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> None:
    given = [flambeau.tensor(x).to(getattr(flambeau, dtype)) for x in drawn(rng, shape)]
    found = F.scaled_dot_product_attention(given[0], given[1], given[2], enable_gqa=True)
    wanted = dense(*(x.float().numpy() for x in given))[0]
    slack = {"float32": 1e-6, "bfloat16": 2.0**-7, "float16": 2.0**-10}[dtype]
    atol = slack * max(1.0 if dtype == "float32" else 0.0, np.abs(wanted).max())
    np.testing.assert_allclose(found.float().numpy(), wanted, rtol=0, atol=atol)


@pytest.mark.parametrize("shape", SHAPES[:7])
def test_masks_and_scores_of_heads_and_queries(
    rng: np.random.Generator, shape: tuple[int, ...]
) -> None:
    b, heads, _, n, s = shape[:5]
    q, k, v = drawn(rng, shape)
    slope = rng.uniform(0, 0.1, (b, heads)).astype(np.float32)
    bias = rng.standard_normal((heads, n, s)).astype(np.float32)

    def score(tables: Any, x: Any, b: Any, h: Any, i: Any, j: Any) -> Any:
        return x - tables[0][b, h] * abs(i + s - n - j) + tables[1][h, i, j]

    def seen(b: Any, h: Any, i: Any, j: Any) -> Any:
        return (j <= i + s - n - h) & (j % 7 != 3) & ((i != 2) | (h != 1))

    tables = [flambeau.tensor(slope), flambeau.tensor(bias)]
    mask = create_block_mask(lambda b, h, i, j: j <= i + s - n, None, None, n, s)
    mask.mask_mod = seen  # the lists are those of all heads, the mask is each head's
    mask.kv_num_blocks, mask.kv_indices = (
        flambeau.full_like(mask.kv_num_blocks, mask.kv_indices.shape[-1]),
        flambeau.arange(mask.kv_indices.shape[-1], dtype=flambeau.int32).expand_as(mask.kv_indices),
    )
    mask.full_kv_num_blocks = mask.full_kv_indices = None
    out, aux = flex_attention(
        flambeau.tensor(q), flambeau.tensor(k), flambeau.tensor(v),
        lambda *x: score(tables, *x), mask, enable_gqa=True,
        return_aux=AuxRequest(lse=True, max_scores=True),
    )  # fmt: skip
    wanted = dense(q, k, v, lambda *x: score((slope, bias), *x), seen)
    for a, c in zip((out, aux.lse, aux.max_scores), wanted, strict=True):
        np.testing.assert_allclose(a.numpy(), c, rtol=0, atol=1e-5)


def test_blocks_that_are_listed_are_shared_out(rng: np.random.Generator) -> None:
    q, k, v = drawn(rng, (1, 8, 2, 4, 5000, 32, 32))
    mask = create_block_mask(
        lambda b, h, i, j: (j >= 4996 + i - 1700) & (j <= 4996 + i), None, None, 4, 5000
    )
    found = flex_attention(
        flambeau.tensor(q), flambeau.tensor(k), flambeau.tensor(v), None, mask, enable_gqa=True
    )
    wanted = dense(q, k, v, None, lambda b, h, i, j: (j >= 4996 + i - 1700) & (j <= 4996 + i))[0]
    np.testing.assert_allclose(found.numpy(), wanted, rtol=0, atol=2e-6)


def test_a_mask_of_the_scores(rng: np.random.Generator) -> None:
    q, k, v = drawn(rng, (2, 8, 4, 3, 1200, 16, 16))
    mask = rng.random((2, 1, 3, 1200)) < 0.5
    mask[1, :, 2] = False
    found = F.scaled_dot_product_attention(
        *map(flambeau.tensor, (q, k, v)), flambeau.tensor(mask), enable_gqa=True
    )
    wanted = dense(q, k, v, None, lambda b, h, i, j: mask[b, 0 * h, i, j])[0]
    np.testing.assert_allclose(found.numpy(), wanted, rtol=0, atol=2e-6)
    assert not found.numpy()[1, :, 2].any()


def test_strided_operands_and_a_negative_scale(rng: np.random.Generator) -> None:
    cache = rng.standard_normal((1200, 2, 2, 16)).astype(np.float32)  # key or value, head
    q = rng.standard_normal((3, 4, 16)).astype(np.float32)
    keys, values = (flambeau.tensor(cache)[:, i].transpose(0, 1)[None] for i in range(2))
    found = F.scaled_dot_product_attention(
        flambeau.tensor(q).transpose(0, 1)[None], keys, values, scale=-0.25, enable_gqa=True
    )
    k, v = (cache[:, i].swapaxes(0, 1)[None] for i in range(2))
    wanted = dense(-q.swapaxes(0, 1)[None], k, v)[0]
    np.testing.assert_allclose(found.numpy(), wanted, rtol=0, atol=2e-6)


def test_results_do_not_depend_on_threads(rng: np.random.Generator) -> None:
    q, k, v = (flambeau.tensor(x) for x in drawn(rng, (1, 8, 1, 2, 9000, 32, 32)))
    threads = flambeau.get_num_threads()
    found = []
    try:
        for n in (1, 2, 3):
            flambeau.set_num_threads(n)
            out = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
            found.append(out.numpy().copy())
    finally:
        flambeau.set_num_threads(threads)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
