"""Block masks: lists, pictures and messages, against torch's; what mods are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau import pytree
from flambeau.nn.attention import flex_attention as flex
from flambeau.nn.attention.flex_attention import (
    BlockMask,
    and_masks,
    create_block_mask,
    create_mask,
    flex_attention,
    noop_mask,
    or_masks,
)

COUNTER = flambeau.zeros(())


def causal(b: Any, h: Any, q: Any, k: Any) -> Any:
    """Keys up to the query's own."""
    return q >= k


def window(b: Any, h: Any, q: Any, k: Any) -> Any:
    """The 40 keys around the query, shifted by the head."""
    return abs(q - k + h * 8) < 40


def numbers(n: int, s: int, size: int, mask: Any) -> tuple[Any, Any]:
    """(blocks seen, blocks seen whole) of a dense mask, as bool arrays."""
    rows, columns = -(-n // size), -(-s // size)
    wide = np.zeros((rows * size, columns * size), bool)
    wide[:n, :s] = mask
    cells = wide.reshape(rows, size, columns, size)
    return cells.any((1, 3)), cells.all((1, 3))


@pytest.mark.parametrize(("n", "s", "size"), [(100, 130, 32), (64, 64, 16), (7, 5, 128)])
def test_blocks_are_those_of_the_dense_mask(n: int, s: int, size: int) -> None:
    mask = and_masks(causal, window)
    found = create_block_mask(mask, None, 2, n, s, BLOCK_SIZE=size)
    assert found.shape == (1, 2, n, s)
    assert found.BLOCK_SIZE == (size, size)
    q, k = np.arange(n)[:, None], np.arange(s)
    for h in range(2):
        seen, whole = numbers(n, s, size, (q >= k) & (abs(q - k + h * 8) < 40))
        np.testing.assert_array_equal(found.to_dense().numpy()[0, h], seen)
        counts = found.full_kv_num_blocks.numpy()[0, h]
        np.testing.assert_array_equal(counts, whole.sum(1))
        np.testing.assert_array_equal(found.q_num_blocks.numpy()[0, h], (seen & ~whole).sum(0))
    dense = create_mask(or_masks(causal, window), None, 2, n, s).numpy()
    np.testing.assert_array_equal(dense[0, 1], (q >= k) | (abs(q - k + 8) < 40))


def test_lists_and_pictures_are_torchs() -> None:
    torch_flex = pytest.importorskip("torch.nn.attention.flex_attention")
    args = (2, 2, 300, 260)
    ours = create_block_mask(window, *args, BLOCK_SIZE=(64, 32))
    theirs = torch_flex.create_block_mask(window, *args, device="cpu", BLOCK_SIZE=(64, 32))
    for a, b in zip(ours.as_tuple()[2:10], theirs.as_tuple()[2:10], strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    assert ours.to_string() == theirs.to_string()
    assert ours.sparsity() == theirs.sparsity()
    assert ours.to_string((3, 3), 1) == theirs.to_string((3, 3), 1)
    part, wanted = ours[1, :, 2], theirs[1, :, 2]
    np.testing.assert_array_equal(part.kv_indices.numpy(), wanted.kv_indices.numpy())
    smaller, wanted = ours._adjust(200, 100), theirs._adjust(200, 100)
    assert smaller.shape == wanted.shape
    np.testing.assert_array_equal(smaller.to_dense().numpy(), wanted.to_dense().numpy())


def test_blocks_that_are_not_listed_are_not_seen(rng: np.random.Generator) -> None:
    q, k, v = (
        flambeau.tensor(rng.standard_normal((1, 1, 32, 8)).astype(np.float32)) for _ in "qkv"
    )
    count = flambeau.tensor([[[1, 2]]], dtype=flambeau.int32)
    indices = flambeau.tensor([[[[1, 0], [0, 1]]]], dtype=flambeau.int32)
    mask = BlockMask.from_kv_blocks(count, indices, BLOCK_SIZE=16)
    found = flex_attention(q, k, v, block_mask=mask).numpy()
    dense = np.ones((32, 32), bool)
    dense[:16, :16] = False
    s = np.where(dense, (q.numpy() @ k.numpy().swapaxes(-1, -2)) * 8**-0.5, -np.inf)
    p = np.exp(s - s.max(-1, keepdims=True))
    np.testing.assert_allclose(found, p / p.sum(-1, keepdims=True) @ v.numpy(), atol=2e-6)


def test_bad_input_is_refused_as_in_torch() -> None:
    x = flambeau.zeros(1, 4, 16, 8)
    with pytest.raises(ValueError, match="Try setting enable_gqa=True"):
        flex_attention(x, x[:, :2], x[:, :2])
    with pytest.raises(ValueError, match="multiple of kv heads"):
        flex_attention(x, x[:, :3], x[:, :3], enable_gqa=True)
    with pytest.raises(NotImplementedError, match="4D tensors"):
        flex_attention(x[0], x[0], x[0])
    with pytest.raises(ValueError, match="same dtype"):
        flex_attention(x, x.double(), x)
    with pytest.raises(ValueError, match="smaller length"):
        flex_attention(x, x, x, block_mask=create_block_mask(causal, None, None, 8, 16))
    with pytest.raises(ValueError, match="larger length"):
        flex_attention(x, x, x, block_mask=create_block_mask(causal, None, None, 16, 32))
    sliced = create_block_mask(causal, None, None, 16, 16)[0]
    with pytest.raises(RuntimeError, match="sliced BlockMask"):
        flex_attention(x, x, x, block_mask=sliced)
    with pytest.raises(ValueError, match="Invalid BACKEND"):
        flex_attention(x, x, x, kernel_options={"BACKEND": "OTHER"})
    with pytest.raises(AssertionError, match="mask_mod function"):
        create_block_mask(lambda s, b, h, q, k: s, None, None, 8, 8)  # type: ignore[misc,arg-type]
    with pytest.raises(RuntimeError, match="callable"):
        and_masks(causal, 3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("mod", "error", "words"),
    [
        (lambda s, b, h, q, k: s if q > k else -s, NotImplementedError, "reads the value"),
        (lambda s, b, h, q, k: s.reshape(1), RuntimeError, "a scalar for each score"),
        (lambda s, b, h, q, k: q >= k, RuntimeError, "floating point score"),
        (lambda s, b, h, q, k: s.mul_(2), NotImplementedError, "side effect"),
        (lambda s, b, h, q, k: s + flambeau.ones(9)[q:], (TypeError, NotImplementedError), "."),
        (lambda s, b, h, q, k: "no", RuntimeError, "must return a tensor"),
        (lambda s, b, h, q, k: s + COUNTER.add_(1), NotImplementedError, "side effect"),
        (lambda s, b, h, q, k: s + flambeau.rand(()), NotImplementedError, "random numbers"),
        (lambda s, b, h, q, k: s + len(str(s)), RuntimeError, "is looked at"),
    ],
)
def test_mods_that_cannot_be_inlined_are_refused(mod: Any, error: Any, words: str) -> None:
    x = flambeau.zeros(1, 1, 4, 8)
    with pytest.raises(error, match=words):
        flex_attention(x, x, x, mod)
    assert COUNTER.item() == 0
    assert flex_attention(x, x, x, lambda s, b, h, q, k: s).shape == x.shape


@pytest.mark.parametrize(
    ("mod", "words"),
    [
        (lambda b, h, q, k: q - k, "must return a bool tensor, got flambeau.int32"),
        (lambda b, h, q, k: 1, "must return a tensor, got int"),
        (lambda b, h, q, k: (q > k).reshape(1), "a scalar for each score"),
    ],
)
def test_masks_that_are_none_are_refused(mod: Any, words: str) -> None:
    with pytest.raises((AssertionError, RuntimeError), match=words):
        create_block_mask(mod, None, None, 8, 8)


@pytest.mark.parametrize("falling", [False, True])
def test_write_orders_are_those_of_pytorch(falling: bool) -> None:
    torch = pytest.importorskip("torch")
    theirs = pytest.importorskip("torch.nn.attention.flex_attention")
    made = [
        make(
            lambda b, h, q, k: (q >= k) & (q - k < 40 + 30 * h), None, 2, 150, 130, device="cpu",
            BLOCK_SIZE=16, compute_dq_write_order=True, dq_kv_order=falling,
        )
        for make in (create_block_mask, theirs.create_block_mask)
    ]  # fmt: skip
    for a, b in zip(*(mask.as_tuple()[2:14] for mask in made), strict=True):
        np.testing.assert_array_equal(a, b.numpy() if isinstance(b, torch.Tensor) else b)
    again = pytree.tree_map(lambda t: t, made[0])
    for x, y in zip(again.as_tuple(), made[0].as_tuple(), strict=True):
        assert x is y or x == y
    kept = flex.BlockMask.from_kv_blocks(*made[0].as_tuple()[2:6], 16, dq_kv_order=falling)
    assert kept.dq_kv_order_spt is falling
    assert kept.dq_kv_order is None


def test_noop_mask_and_numbers_that_change_compile_nothing_anew() -> None:
    x = flambeau.ones(1, 1, 20, 8)
    mask = create_block_mask(noop_mask, None, None, 20, 20)
    assert mask.sparsity() <= 0
    assert flex.AuxRequest() == (False, False)

    def run(slope: float) -> Any:
        return flex_attention(x, x, x, lambda s, b, h, q, k: s * slope, mask).tolist()

    run(0.3)
    before = flambeau.record.counters.compiled
    run(0.7)
    assert flambeau.record.counters.compiled == before


def test_a_mask_is_a_tree_of_tensors() -> None:
    mask = create_block_mask(causal, None, None, 40, 40, BLOCK_SIZE=16)
    leaves, spec = pytree.tree_flatten(mask)
    assert len(leaves) == 11  # as torch's, of which three orders are None
    again = pytree.tree_unflatten([t if t is None else t.clone() for t in leaves], spec)
    assert again.mask_mod is causal
    assert again.to_string() == mask.to_string()
    found = {str(path[0]) for path, _ in pytree.tree_flatten_with_path(mask)[0]}
    assert ".kv_indices" in found
