"""Block masks decided by bounds, against every place of the dense mask in NumPy."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau.nn.attention import block_states
from flambeau.nn.attention.flex_attention import AuxRequest, create_block_mask, flex_attention
from flambeau.ops.bounds import Bounds, bounds
from flambeau.ops.mods import trace

Q, K = 150, 190


def tables(rng: np.random.Generator) -> dict[str, Any]:
    """Captured arrays: documents, pages, a table of heads, a dense mask, numbers with NaN."""
    floats = rng.standard_normal(K).astype(np.float32)
    floats[17] = np.nan
    return {
        "doc": np.sort(rng.integers(0, 5, K)),
        "page": rng.permutation(20).astype(np.int32),
        "head": rng.integers(1, 90, (2, 3)),
        "dense": rng.random((Q, K)) < 0.9,
        "floats": floats,
        "limit": np.asarray(40),
    }


#: mask_mods that NumPy's arrays, broadcast, and flambeau's scalars both compute
MASKS: dict[str, Any] = {
    "causal": lambda t, w: lambda b, h, q, k: q >= k,
    "window": lambda t, w: lambda b, h, q, k: (abs(q - k) <= t["limit"]) | (k < 8),
    "document": lambda t, w: lambda b, h, q, k: (t["doc"][q] == t["doc"][k]) & (q >= k),
    "heads": lambda t, w: lambda b, h, q, k: q - k < t["head"][b, h],
    "dilated": lambda t, w: lambda b, h, q, k: ((q - k) % 8 == 0) & (k <= q),
    "two-dimensional": lambda t, w: (
        lambda b, h, q, k: (abs(q // 16 - k // 16) <= 2) & (abs(q % 16 - k % 16) <= 3)
    ),
    "negative": lambda t, w: lambda b, h, q, k: (-q // 7 + k * -3) % 5 != 1,
    "pages": lambda t, w: lambda b, h, q, k: t["page"][k // 10] * 10 + k % 10 <= q,
    "dense": lambda t, w: lambda b, h, q, k: t["dense"][q, k],
    "floats": lambda t, w: lambda b, h, q, k: t["floats"][k] * 0.5 < q * 0.01,
    "chosen": lambda t, w: lambda b, h, q, k: w(q < 70, k, 2 * k) < w(k > 100, q, q - 30),
    "words": lambda t, w: lambda b, h, q, k: ~((q > 20) ^ (k > 30)) | (b == 1) & (h != 2),
    "unknown": lambda t, w: lambda b, h, q, k: (q & 12) == (k & 12),
    "everything": lambda t, w: lambda b, h, q, k: k >= 0,
    "nothing": lambda t, w: lambda b, h, q, k: k - q > 1000,
}


def dense_of(name: str, arrays: dict[str, Any]) -> Any:
    """The mask (2, 3, Q, K) in NumPy."""
    sizes = (2, 3, Q, K)
    place = np.ogrid[tuple(slice(n) for n in sizes)]
    return np.broadcast_to(MASKS[name](arrays, np.where)(*place), sizes)


@pytest.mark.parametrize("size", [(32, 32), (16, 64), (128, 128), (200, 7)])
@pytest.mark.parametrize("name", MASKS)
def test_states_are_those_of_the_dense_mask(
    rng: np.random.Generator, name: str, size: tuple[int, int]
) -> None:
    arrays = tables(rng)
    mask = MASKS[name]({n: flambeau.tensor(x) for n, x in arrays.items()}, flambeau.where)
    found = create_block_mask(mask, 2, 3, Q, K, BLOCK_SIZE=size)
    dense = dense_of(name, arrays)
    rows, columns = -(-Q // size[0]), -(-K // size[1])
    wide = np.zeros((2, 3, rows * size[0], columns * size[1]), bool)
    wide[:, :, :Q, :K] = dense
    cells = wide.reshape(2, 3, rows, size[0], columns, size[1])
    some, whole = cells.any((3, 5)), cells.all((3, 5))
    np.testing.assert_array_equal(found.to_dense().numpy(), some)
    np.testing.assert_array_equal(found.full_kv_num_blocks.numpy(), whole.sum(-1))
    np.testing.assert_array_equal(found.full_q_num_blocks.numpy(), whole.sum(-2))
    np.testing.assert_array_equal(found.q_num_blocks.numpy(), (some & ~whole).sum(-2))


def test_bounds_hold_at_every_place(rng: np.random.Generator) -> None:
    table = flambeau.tensor(rng.standard_normal((4, 40)).astype(np.float32))

    def score(s: Any, b: Any, h: Any, q: Any, k: Any) -> Any:
        x = table[h, (q - k).abs()] * (q - 3 * k) - flambeau.floor(k * 0.37) / (q + 0.3)
        return flambeau.maximum(x, (q % 7 - k // 3).float()).neg().abs() + flambeau.sign(k - 20.5)

    mod, captured = trace(score, flambeau.float32, True)
    arrays = [t.numpy() for t in captured]
    for _ in range(30):
        low = rng.integers(0, 38, 2)
        high = np.minimum(low + rng.integers(1, 20, 2), 39)
        h = rng.integers(0, 4)
        slots = {
            n: Bounds(np.float64(a), np.float64(b))
            for n, a, b in zip("qh", (low[0], h), (high[0], h), strict=True)
        }
        slots["kv"] = Bounds(np.float64(low[1]), np.float64(high[1]))
        (found,), _ = bounds(mod, slots, arrays)
        place = [np.arange(a, b + 1, dtype=np.int32) for a, b in zip(low, high, strict=True)]
        given = [flambeau.tensor(x) for x in (place[0][:, None], place[1][None])]
        none = flambeau.zeros((1, 1), dtype=flambeau.int32)
        values = mod.over([none, none, none + int(h), *given], captured)[0].numpy()
        assert found.low <= values.min()
        assert values.max() <= found.high
        assert np.isfinite(found.high)


def test_long_masks_take_little_memory_and_no_evaluation_where_bounds_decide(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    n = 1 << 17
    doc = flambeau.arange(n) // 5000
    places = 0

    def counting(mod: Any, captured: Any, blocks: Any, sizes: Any, block: Any) -> Any:
        nonlocal places
        places += len(blocks)
        return evaluated(mod, captured, blocks, sizes, block)

    evaluated = block_states._evaluated
    monkeypatch.setattr(block_states, "_evaluated", counting)
    tracemalloc.start()
    mask = create_block_mask(
        lambda b, h, q, k: (q >= k) & (q - k <= 4096) & (doc[q] == doc[k]), None, None, n, n
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert places < 4000  # of 2^20: the diagonal's, the window's end and the documents' edges
    assert peak < 50 << 20
    rows = np.arange(n)
    seen = np.minimum(np.minimum(rows, 4096), rows % 5000) + 1
    blocks = mask.kv_num_blocks.sum().item(), mask.full_kv_num_blocks.sum().item()
    assert blocks[1] * 128 * 128 < seen.sum() < (blocks[0] + blocks[1]) * 128 * 128


def test_a_mask_is_decided_once_for_the_same_values(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = flambeau.tensor(30)
    decided = block_states._decided
    calls = []
    monkeypatch.setattr(block_states, "_decided", lambda *x: calls.append(1) or decided(*x))

    def make() -> Any:
        mask = create_block_mask(
            lambda b, h, q, k: q * 3 - k < limit, None, None, 300, 300, BLOCK_SIZE=32
        )
        return mask.to_dense().numpy()

    first = make()
    np.testing.assert_array_equal(make(), first)
    assert len(calls) == 1
    limit.fill_(90)
    assert (make() != first).any()
    assert len(calls) == 2


def test_indices_outside_of_a_table_are_refused_where_they_are_seen() -> None:
    x = flambeau.zeros(1, 1, 200, 4)
    table = flambeau.arange(200.0)
    where = flambeau.arange(200)

    def call(index: Any, seen: Any = None) -> Any:
        mask = None if seen is None else create_block_mask(seen, None, None, 200, 200)
        return flex_attention(x, x, x, lambda s, b, h, q, k: s + table[index(q, k)], mask).shape

    assert call(lambda q, k: q - k) == x.shape  # from the end, as everywhere
    assert call(lambda q, k: where[(q + k) // 2]) == x.shape
    assert call(lambda q, k: q + k, lambda b, h, q, k: q + k < 200) == x.shape
    assert call(lambda q, k: where[q] + where[k], lambda b, h, q, k: q + k < 200) == x.shape
    outside = [
        (lambda q, k: q + k, None),
        (lambda q, k: q - k - 2, None),
        (lambda q, k: where[q] + 1, None),
        (lambda q, k: where[q] + where[k], lambda b, h, q, k: q + k < 201),
    ]
    for index, seen in outside:
        with pytest.raises(IndexError, match=r"out of bounds: .* dimension with size 200"):
            call(index, seen)
    with pytest.raises(IndexError, match="out of bounds"):
        create_block_mask(lambda b, h, q, k: table[q + k] > 3, None, None, 200, 200)


def test_indices_outside_that_nothing_settles_are_moved_in() -> None:
    x = flambeau.zeros(1, 1, 3, 4)
    table = flambeau.tensor([0.0, 1.0])
    pending = flambeau.tensor([0, 1, 5]) + 0
    out = flex_attention(
        x, x, x, lambda s, b, h, q, k: s + table[pending[q]], return_aux=AuxRequest(lse=True)
    )[1].lse
    np.testing.assert_allclose(out.numpy()[0, 0], np.log(3) + np.array([0, 1, 1]), rtol=1e-6)


def test_indices_that_overflow_are_refused() -> None:
    x = flambeau.zeros(1, 1, 1 << 10, 4)
    table = flambeau.zeros(100)

    def far(s: Any, b: Any, h: Any, q: Any, k: Any) -> Any:
        return s + table[(q * (1 << 22) + k) % 100]

    def wide(s: Any, b: Any, h: Any, q: Any, k: Any) -> Any:
        return s + table[(q.long() * (1 << 22) + k) % 100]

    with pytest.raises(RuntimeError, match=r"index that may overflow .*q_idx.long\(\)"):
        flex_attention(x, x, x, far)
    assert flex_attention(x, x, x, wide).shape == x.shape
