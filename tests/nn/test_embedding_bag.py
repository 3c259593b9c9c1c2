"""Bags of embeddings, beside sums, means and maxima of the looked-up rows."""

import numpy as np
import pytest

import flambeau as fl
from flambeau import nn
from flambeau.nn import functional as F

REDUCE = {"sum": np.sum, "mean": np.mean, "max": np.max}


def wanted(weight, bags, mode, padding=None, factors=None):
    """The reference, bag by bag."""
    found = np.zeros((len(bags), weight.shape[1]))
    for k, bag in enumerate(bags):
        kept = [i for i in range(len(bag)) if bag[i] != padding]
        rows = weight[[bag[i] for i in kept]]
        if factors is not None:
            rows = rows * np.array([factors[k][i] for i in kept])[:, None]
        if kept:
            found[k] = REDUCE[mode](rows, 0)
    return found


@pytest.mark.parametrize("mode", REDUCE)
@pytest.mark.parametrize("padding", [None, 2])
def test_bags_of_both_forms(mode, padding, rng):
    weight = rng.normal(size=(6, 4))
    table = fl.tensor(weight)
    square = rng.integers(0, 6, (3, 5))
    found = F.embedding_bag(fl.tensor(square), table, mode=mode, padding_idx=padding)
    np.testing.assert_allclose(found.numpy(), wanted(weight, square, mode, padding))
    flat, starts = rng.integers(0, 6, 9), [0, 3, 3, 8]
    bags = [flat[a:b] for a, b in zip(starts, [*starts[1:], 9], strict=True)]
    for offsets, last in ((starts, False), ([*starts, 9], True)):
        found = F.embedding_bag(
            fl.tensor(flat),
            table,
            fl.tensor(offsets),
            mode=mode,
            padding_idx=padding,
            include_last_offset=last,
        )
        np.testing.assert_allclose(found.numpy(), wanted(weight, bags, mode, padding))


def test_weighted_sums_and_their_gradients(rng):
    weight, factors = rng.normal(size=(6, 4)), rng.normal(size=(2, 3))
    bags = np.array([[1, 1, 5], [0, 2, 5]])
    call = {"mode": "sum", "padding_idx": 5}
    table, scale = (fl.tensor(a, requires_grad=True) for a in (weight, factors))
    found = F.embedding_bag(fl.tensor(bags), table, per_sample_weights=scale, **call)
    np.testing.assert_allclose(found.detach().numpy(), wanted(weight, bags, "sum", 5, factors))
    found.sum().backward()
    assert table.grad[5].tolist() == [0] * 4
    np.testing.assert_allclose(table.grad[1].numpy(), np.full(4, factors[0, :2].sum()))
    np.testing.assert_allclose(scale.grad[1, 1].item(), weight[2].sum())
    assert scale.grad[:, 2].tolist() == [0, 0]


@pytest.mark.parametrize("mode", REDUCE)
def test_gradients_of_the_table(mode, rng):
    bags, offsets = fl.tensor([0, 2, 4, 1, 3]), fl.tensor([0, 2, 2])
    table = fl.tensor(rng.normal(size=(5, 3)), requires_grad=True)
    call = lambda w: F.embedding_bag(bags, w, offsets, mode=mode)
    assert fl.autograd.gradcheck(call, (table,))


def test_the_module(rng):
    bag = nn.EmbeddingBag(7, 3, padding_idx=-1, mode="sum")
    assert repr(bag) == "EmbeddingBag(7, 3, mode='sum', padding_idx=6)"
    assert list(bag.state_dict()) == ["weight"]
    assert bag.weight[6].tolist() == [0, 0, 0]
    out = bag(fl.tensor([[0, 6], [1, 2]]))
    np.testing.assert_allclose(out[0].detach().numpy(), bag.weight[0].detach().numpy())
    short = nn.EmbeddingBag.from_pretrained(fl.full((4, 3), 2.0), max_norm=1.0, mode="sum")
    assert not short.weight.requires_grad
    row = short(fl.tensor([[1]]))
    assert float(row.norm()) == pytest.approx(1, rel=1e-5)


def test_what_is_refused():
    table, bags = fl.ones(4, 3), fl.tensor([[0, 1]])
    with pytest.raises(ValueError, match="offsets has to be None"):
        F.embedding_bag(bags, table, fl.tensor([0]))
    with pytest.raises(ValueError, match="offsets has to be a 1D Tensor but got None"):
        F.embedding_bag(bags[0], table)
    with pytest.raises(ValueError, match="mode has to be one of"):
        F.embedding_bag(bags, table, mode="median")
    with pytest.raises(NotImplementedError, match="only supported for mode='sum'"):
        F.embedding_bag(bags, table, per_sample_weights=fl.ones(1, 2))
    with pytest.raises(ValueError, match="same shape as the input"):
        F.embedding_bag(bags, table, per_sample_weights=fl.ones(2), mode="sum")
    with pytest.raises(IndexError):
        F.embedding_bag(fl.tensor([[4]]), table).tolist()
