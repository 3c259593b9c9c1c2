"""Keys and values in pages against the same in one piece; causal biases against torch's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flambeau
import flambeau.nn.functional as F
from flambeau.nn.attention.bias import CausalVariant, causal_lower_right, causal_upper_left
from flambeau.nn.attention.experimental._paged_attention import PagedAttention
from flambeau.nn.attention.flex_attention import create_block_mask, flex_attention

LENGTHS = (19, 40, 7)


def causal(b: Any, h: Any, q: Any, k: Any) -> Any:
    """Queries are at the end of up to 40 keys."""
    return k <= q + 32


def test_a_cache_in_pages_is_a_cache_in_one_piece(rng: np.random.Generator) -> None:
    pages = PagedAttention(n_pages=12, page_size=8, max_batch_size=5)
    caches = [flambeau.zeros(1, 2, 96, 16) for _ in "kv"]
    rows = flambeau.tensor([4, 0, 2])
    values = [rng.standard_normal((2, 2, n, 16)).astype(np.float32) for n in LENGTHS]
    pages.reserve(flambeau.tensor(1), flambeau.tensor(9))
    for row, value in zip(rows, values, strict=True):
        for end in (5, value.shape[2]):  # in two steps
            pages.reserve(row, flambeau.tensor(end))
        place = flambeau.arange(value.shape[2])[None]
        own = [flambeau.tensor(x[None]) for x in value]
        pages.assign(row.reshape(1), place, *own, *caches)
    pages.erase(flambeau.tensor(1))
    assert len(pages.empty_pages) == 12 - 3 - 5 - 1
    assert pages.capacity.tolist() == [40, 0, 8, 0, 24]

    q = flambeau.tensor(rng.standard_normal((3, 4, 8, 16)).astype(np.float32))
    lengths = flambeau.tensor(LENGTHS)
    logical = create_block_mask(causal, 3, None, 8, 96, BLOCK_SIZE=8)
    mask = pages.convert_logical_block_mask(logical, rows, lengths)

    def score(s: Any, b: Any, h: Any, q: Any, k: Any) -> Any:
        return s - 0.1 * abs(q - k)

    paged = pages.get_score_mod(score, lengths, rows)
    found = flex_attention(q, *caches, paged, mask, enable_gqa=True).numpy()
    for i, (n, value) in enumerate(zip(LENGTHS, values, strict=True)):
        own = create_block_mask(causal, None, None, 8, n)
        key, value = (flambeau.tensor(x[None]) for x in value)
        wanted = flex_attention(q[i : i + 1], key, value, score, own, enable_gqa=True)
        np.testing.assert_allclose(found[i : i + 1], wanted.numpy(), atol=2e-6)


def test_pages_run_out_and_values_must_fit() -> None:
    pages = PagedAttention(2, 4, 1)
    with pytest.raises(AssertionError, match="requested 3 pages"):
        pages.reserve(flambeau.tensor([0]), flambeau.tensor([9]))
    with pytest.raises(RuntimeError, match="same column block size"):
        pages.convert_logical_block_mask(create_block_mask(causal, 1, None, 8, 8))
    x, cache = flambeau.zeros(1, 2, 3, 4), flambeau.zeros(1, 1, 8, 4)
    with pytest.raises(RuntimeError, match="same number of heads"):
        pages.assign(flambeau.tensor([0]), flambeau.zeros(1, 3), x, x, cache, cache)


@pytest.mark.parametrize("shape", [(2, 3), (3,), (), (2, 2, 3)])
@pytest.mark.parametrize("lengths", [(5, 9), (130, 300), (7, 7), (9, 4)])
@pytest.mark.filterwarnings("ignore:Lower right")
def test_causal_biases(
    rng: np.random.Generator, shape: tuple[int, ...], lengths: tuple[int, int]
) -> None:
    n, s = lengths
    q, k, v = (rng.standard_normal((*shape, x, 8)).astype(np.float32) for x in (n, s, s))
    for bias, shift in ((causal_upper_left(n, s), 0), (causal_lower_right(n, s), s - n)):
        found = F.scaled_dot_product_attention(
            flambeau.tensor(q), flambeau.tensor(k), flambeau.tensor(v), bias, scale=0.3
        )
        scores = q.astype(np.float64) @ k.swapaxes(-1, -2) * 0.3
        p = np.exp(scores) * np.tri(n, s, shift)
        total = p.sum(-1, keepdims=True)
        wanted = p @ v / np.where(total == 0, 1.0, total)
        assert found.shape == (*shape, n, 8)
        np.testing.assert_allclose(found.numpy(), wanted, atol=2e-6)
        np.testing.assert_array_equal(bias._materialize().numpy(), np.tri(n, s, shift, bool))


def test_causal_biases_refuse_what_does_not_fit() -> None:
    x = flambeau.zeros(1, 1, 4, 4)
    with pytest.raises(ValueError, match="causal=True"):
        F.scaled_dot_product_attention(x, x, x, causal_upper_left(4, 4), is_causal=True)
    with pytest.raises(RuntimeError, match="3 queries and 4 keys"):
        F.scaled_dot_product_attention(x, x, x, causal_lower_right(3, 4))
    with pytest.raises(AssertionError, match="2D tensors"):
        causal_lower_right(4)
    with pytest.warns(UserWarning, match="see nothing"):
        bias = causal_lower_right(2, 1)
    assert bias.variant is CausalVariant.LOWER_RIGHT
    assert repr(bias) == repr(flambeau.tensor([[False], [True]]))
