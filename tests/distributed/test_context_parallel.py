"""Attention over cut sequences: results and gradients are those of the whole, dense computation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau import Tensor
from flambeau.distributed.context_parallel import (
    all_to_all_attention,
    gathered_attention,
    join,
    positions_of,
    ring_attention,
    shard_sequence,
    unshard_sequence,
)
from flambeau.distributed.groups import spawn_local
from flambeau.nn.attention.flex_attention import create_block_mask

pytestmark = pytest.mark.timeout(120)

B, H, L, E = 2, 4, 16, 8
DOCUMENT = np.repeat([0, 1, 2], [5, 7, 4])


def causal(b: Any, h: Any, q: Any, k: Any) -> Any:
    return q >= k


def window(b: Any, h: Any, q: Any, k: Any) -> Any:
    return (q >= k) & (q - k < 3)


def by_head(b: Any, h: Any, q: Any, k: Any) -> Any:
    return (q >= k) & (q - k <= 2 * h)


def same_document(b: Any, h: Any, q: Any, k: Any) -> Any:
    document = flambeau.tensor(DOCUMENT)
    return document[q] == document[k]


def never_first(b: Any, h: Any, q: Any, k: Any) -> Any:
    return (q > 0) & (k <= q)


def alibi(s: Any, b: Any, h: Any, q: Any, k: Any) -> Any:
    return s - (q - k) * 0.1 * (h + 1)


def dense(q: Any, k: Any, v: Any, mask: Any, score: Any) -> Any:
    """The definition, with plain tensors."""
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    s = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    at = flambeau.arange(L)
    heads = flambeau.arange(q.shape[1]).view(-1, 1, 1)
    if score is not None:
        s = score(s, 0, heads, at.view(-1, 1), at)
    if mask is not None:
        seen = mask(0, heads, at.view(-1, 1), at).expand(s.shape)
        s = s.masked_fill(~seen, -1e30)
        return (s.softmax(-1) * seen) @ v
    return s.softmax(-1) @ v


CASES = {
    "all": (None, None, 0),
    "causal": (causal, None, 0),
    "window": (window, None, 0),
    "document": (same_document, None, 0),
    "by_head": (by_head, None, H),
    "none_seen": (never_first, None, 0),
    "alibi": (causal, alibi, 0),
}


@pytest.mark.parametrize("attention", [ring_attention, all_to_all_attention, gathered_attention])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("balanced", [True, False])
def test_results_and_gradients_are_the_dense_ones(
    attention: Any, case: str, balanced: bool
) -> None:
    mask, score, heads = CASES[case]
    rng = np.random.default_rng(1)
    key_heads = 2 if case in ("causal", "alibi") else H
    arrays = [rng.normal(size=(B, h, L, E)) for h in (H, key_heads, key_heads)]
    slopes = rng.normal(size=(B, H, L, E))
    whole = [flambeau.tensor(a, requires_grad=True) for a in arrays]
    out = dense(*whole, mask, score)
    (out * flambeau.tensor(slopes)).sum().backward()

    def fn(rank: int) -> Any:
        parts = [
            shard_sequence(flambeau.tensor(a), 2, balanced=balanced).requires_grad_()
            for a in arrays
        ]
        found = attention(
            *parts, score, mask, enable_gqa=key_heads != H, balanced=balanced, mask_heads=heads
        )
        (found * shard_sequence(flambeau.tensor(slopes), 2, balanced=balanced)).sum().backward()
        return [
            unshard_sequence(t.detach(), 2, balanced=balanced).numpy()
            for t in (found, *(p.grad for p in parts))
        ]

    for given in spawn_local(2, fn):
        for got, want in zip(given, (out.detach(), *(t.grad for t in whole)), strict=True):
            np.testing.assert_allclose(got, want.numpy(), atol=1e-9)


@pytest.mark.parametrize("mask", [causal, by_head])
def test_four_ranks_with_a_block_mask(mask: Any) -> None:
    rng = np.random.default_rng(2)
    arrays = [rng.normal(size=(1, 4, L, E)) for _ in range(3)]
    want = dense(*map(flambeau.tensor, arrays), mask, None).numpy()

    def fn(rank: int) -> Any:
        blocks = create_block_mask(mask, None, 4 if mask is by_head else None, L, L, BLOCK_SIZE=4)
        parts = [shard_sequence(flambeau.tensor(a), 2) for a in arrays]
        return [
            unshard_sequence(f(*parts, None, blocks), 2).numpy()
            for f in (ring_attention, all_to_all_attention, gathered_attention)
        ]

    for given in spawn_local(4, fn):
        for got in given:
            np.testing.assert_allclose(got, want, atol=1e-10)


def test_positions_are_balanced_for_causal_masks() -> None:
    for ranks in (1, 2, 3, 4):
        parts = positions_of(24 * ranks, ranks)
        assert sorted(flambeau.cat(parts).tolist()) == list(range(24 * ranks))
        assert len({int(p.sum().item()) for p in parts}) == 1  # as many keys to see on all
    with pytest.raises(ValueError, match="cannot be cut into 4 equal pieces"):
        positions_of(6, 2)


def test_parts_are_joined_by_their_sums() -> None:
    lse = [flambeau.tensor([0.0, -float("inf")]), flambeau.tensor([np.log(3.0), -float("inf")])]
    outs = [flambeau.tensor([[4.0], [9.0]]), flambeau.tensor([[8.0], [9.0]])]
    found: Tensor = join(outs, lse)
    np.testing.assert_allclose(found.tolist(), [[7.0], [0.0]], rtol=1e-6)


def test_heads_that_ranks_do_not_divide_are_refused() -> None:
    def fn(rank: int) -> None:
        x = flambeau.zeros(1, 3, 2, 4)
        all_to_all_attention(x, x, x, balanced=False)

    with pytest.raises(ValueError, match="3 heads, which 2 ranks do not divide"):
        spawn_local(2, fn)
