"""Sparse tensors: products, sums and gradients agree with the dense tensor and with torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flambeau
from tests.conftest import HAS_TORCH

if HAS_TORCH:
    import torch

PLACES = np.array([[0, 2, 0, 1, 2], [1, 0, 1, 3, 2]])  # one of them twice
SHAPE = (3, 4)


def matrix(values: Any, lib: Any = flambeau, **options: Any) -> Any:
    """A matrix with the values at PLACES."""
    return lib.sparse_coo_tensor(lib.tensor(PLACES), values, SHAPE, **options)


def dense(values: np.ndarray) -> np.ndarray:
    """The same as an array."""
    found = np.zeros(SHAPE)
    np.add.at(found, tuple(PLACES), values)
    return found


@pytest.fixture
def values(rng: np.random.Generator) -> np.ndarray:
    """Values for PLACES."""
    return rng.standard_normal(5)


def test_dense_and_coalesced_forms(values: np.ndarray) -> None:
    a = matrix(flambeau.tensor(values))
    np.testing.assert_allclose(a.to_dense().numpy(), dense(values))
    assert not a.is_coalesced()
    with pytest.raises(RuntimeError, match="uncoalesced"):
        a.values()
    c = a.coalesce()
    assert c._nnz() == 4
    assert c.indices().tolist() == [[0, 1, 2, 2], [1, 3, 0, 2]]
    np.testing.assert_allclose(c.to_dense().numpy(), dense(values))
    np.testing.assert_allclose(a.t().to_dense().numpy(), dense(values).T)
    csr = a.to_sparse_csr()
    assert csr.crow_indices().tolist() == [0, 1, 2, 4]
    np.testing.assert_allclose(csr.to_dense().numpy(), dense(values))
    again = flambeau.tensor(dense(values)).to_sparse()
    assert again.layout is flambeau.sparse_coo
    assert again.indices().tolist() == c.indices().tolist()


def test_products_and_their_gradients(values: np.ndarray, rng: np.random.Generator) -> None:
    right, g = rng.standard_normal((4, 2)), rng.standard_normal((3, 2))
    v = flambeau.tensor(values, requires_grad=True)
    x = flambeau.tensor(right, requires_grad=True)
    for product in (flambeau.sparse.mm, flambeau.mm, flambeau.matmul, lambda a, b: a @ b):
        v.grad = x.grad = None
        out = product(matrix(v), x)
        np.testing.assert_allclose(out.detach().numpy(), dense(values) @ right)
        out.backward(flambeau.tensor(g))
        np.testing.assert_allclose(x.grad.numpy(), dense(values).T @ g)
        np.testing.assert_allclose(v.grad.numpy(), (g @ right.T)[tuple(PLACES)])
    left = rng.standard_normal((2, 3))
    found = flambeau.tensor(left) @ matrix(v)
    np.testing.assert_allclose(found.detach().numpy(), left @ dense(values))


def test_a_leaf_has_a_sparse_gradient(values: np.ndarray, rng: np.random.Generator) -> None:
    a = matrix(flambeau.tensor(values), requires_grad=True)
    right = rng.standard_normal(4)
    (a @ flambeau.tensor(right)).sum().backward()
    assert a.grad.layout is flambeau.sparse_coo
    np.testing.assert_allclose(a.grad._values().numpy(), right[PLACES[1]])


def test_arithmetic_and_what_knows_nothing_of_sparse(values: np.ndarray) -> None:
    a, whole = matrix(flambeau.tensor(values)), dense(values)
    np.testing.assert_allclose((a * 2.0 + a).to_dense().numpy(), whole * 3)
    np.testing.assert_allclose(flambeau.sparse.sum(a).item(), whole.sum())
    np.testing.assert_allclose(flambeau.sparse.sum(a, 0).to_dense().numpy(), whole.sum(0))
    np.testing.assert_allclose(flambeau.relu(a).numpy(), np.maximum(whole, 0))
    np.testing.assert_allclose(flambeau.exp(a).numpy(), np.exp(whole))
    at = flambeau.sparse.softmax(a, 1).to_dense().numpy()
    np.testing.assert_allclose(at.sum(1), np.ones(3))


@pytest.mark.parity
@pytest.mark.parametrize("reduce", ["sum", "mean", "amax", "amin"])
def test_reduced_products_agree_with_torch(
    reduce: str, values: np.ndarray, rng: np.random.Generator
) -> None:
    right = rng.standard_normal((4, 2))
    found = []
    for lib in (flambeau, torch):
        a = matrix(lib.tensor(values), lib).coalesce().to_sparse_csr()
        found.append(lib.sparse.mm(a, lib.tensor(right), reduce).numpy())
    np.testing.assert_allclose(*found)


@pytest.mark.skipif(not HAS_TORCH, reason="compares with PyTorch")
@pytest.mark.parametrize("make", [
    lambda lib, p: lib.optim.SGD(p, lr=0.1),
    lambda lib, p: lib.optim.SGD(p, lr=0.1, momentum=0.9),
    lambda lib, p: lib.optim.SparseAdam(p, lr=0.1),
    lambda lib, p: lib.optim.Adagrad(p, lr=0.1),
])  # fmt: skip
@pytest.mark.parametrize("bag", [False, True])
def test_embeddings_learn_from_sparse_gradients(make: Any, bag: bool) -> None:
    found = {}
    for lib in (flambeau, torch):
        kind = lib.nn.EmbeddingBag if bag else lib.nn.Embedding
        table = kind(6, 3, sparse=True, padding_idx=2)
        start = np.arange(18, dtype=np.float32).reshape(6, 3) / 10
        table.load_state_dict({"weight": lib.tensor(start)})
        optimizer = make(lib, table.parameters())
        for step in range(3):
            places = lib.tensor([[0, 2, 4], [4, 1, 0], [4, 2, 4]][: 2 + step % 2])
            optimizer.zero_grad()
            ((table(places) - 1) ** 2).sum().backward()
            grad = table.weight.grad
            assert grad.is_sparse
            optimizer.step()
        grad = grad.coalesce()
        found[lib] = [table.weight.detach().numpy(), grad.indices().numpy(), grad.values().numpy()]
    for got, want in zip(found[flambeau], found[torch], strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_sparse_gradients_accumulate_and_are_refused() -> None:
    weight = flambeau.ones(5, 2, requires_grad=True)
    embedding = flambeau.nn.functional.embedding
    for places in ([0, 1], [1, 3]):
        embedding(flambeau.tensor(places), weight, sparse=True).sum().backward()
    assert weight.grad.is_sparse
    assert weight.grad._nnz() == 4
    assert weight.grad.to_dense().sum(1).tolist() == [2, 4, 0, 2, 0]
    (embedding(flambeau.tensor([0]), weight, sparse=True).sum() + weight.sum()).backward()
    assert weight.grad.to_dense().sum(1).tolist() == [6, 6, 2, 4, 2]
    weight.grad = None
    embedding(flambeau.tensor([0]), weight, sparse=True).sum().backward()
    for name, hint in (("AdamW", "SparseAdam"), ("RMSprop", "sparse")):
        with pytest.raises(RuntimeError, match=hint):
            getattr(flambeau.optim, name)([weight]).step()
    weight.grad.mul_(3)
    assert weight.grad.to_dense()[0].tolist() == [3, 3]
    flambeau.optim.SGD([weight]).zero_grad(set_to_none=False)
    assert weight.grad._nnz() == 0
