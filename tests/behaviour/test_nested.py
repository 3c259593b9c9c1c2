"""Batches of tensors of different sizes: each tensor gets what it would get alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau import nested, nn
from flambeau.nn import functional as F
from tests.conftest import HAS_TORCH

LAYOUTS = (flambeau.strided, flambeau.jagged)


@pytest.fixture
def parts(rng: np.random.Generator) -> list[Any]:
    """Tensors of 3, 1 and 4 rows."""
    return [flambeau.tensor(rng.standard_normal((n, 6)).astype(np.float32)) for n in (3, 1, 4)]


LINEAR = nn.Linear(6, 5)
#: What is done with a batch, and with a tensor of it: dimensions count without the batch's.
DONE: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "elementwise": (lambda n: (n * 2 + n).exp(), lambda t: (t * 3).exp()),
    "reflected": (lambda n: 2 - n, lambda t: 2 - t),
    "broadcast": (lambda n: n * flambeau.arange(6.0), lambda t: t * flambeau.arange(6.0)),
    "relu": (lambda n: F.gelu(n.relu()), lambda t: F.gelu(t.relu())),
    "softmax": (lambda n: F.softmax(n, -1), lambda t: F.softmax(t, -1)),
    "linear": (LINEAR, LINEAR),
    "matmul": (lambda n: n @ flambeau.ones(6, 2), lambda t: t @ flambeau.ones(6, 2)),
    "norm": (lambda n: F.layer_norm(n, (6,)), lambda t: F.layer_norm(t, (6,))),
    "transpose": (lambda n: n.transpose(1, 2), lambda t: t.transpose(0, 1)),
    "heads": (
        lambda n: n.unflatten(-1, [2, 3]).transpose(1, 2),
        lambda t: t.unflatten(-1, [2, 3]).transpose(0, 1),
    ),
    "view": (lambda n: n.view(3, -1, 2, 3), lambda t: t.view(-1, 2, 3)),
    "unsqueeze": (lambda n: n.unsqueeze(2), lambda t: t.unsqueeze(1)),
    "sum": (lambda n: n.sum(-1), lambda t: t.sum(-1)),
    "rows": (lambda n: n.sum(1), lambda t: t.sum(0)),
    "cumsum": (lambda n: n.cumsum(1), lambda t: t.cumsum(0)),
    "cat": (lambda n: flambeau.cat([n, n], -1), lambda t: flambeau.cat([t, t], -1)),
    "split": (lambda n: n.chunk(2, -1)[1], lambda t: t.chunk(2, -1)[1]),
    "half": (lambda n: n.to(flambeau.float64).double(), lambda t: t.double()),
    "like": (lambda n: flambeau.zeros_like(n), lambda t: flambeau.zeros_like(t)),
    "index": (lambda n: n[:, :, 2:4], lambda t: t[:, 2:4]),
}


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("name", DONE)
def test_each_tensor_gets_what_it_gets_alone(name: str, layout: Any, parts: list[Any]) -> None:
    whole, alone = DONE[name]
    found = whole(nested.nested_tensor(parts, layout=layout))
    wanted = [alone(p) for p in parts]
    for got, want in zip(found.unbind(), wanted, strict=True):
        assert got.dtype is want.dtype
        np.testing.assert_allclose(
            got.detach().numpy(), want.detach().numpy(), rtol=1e-5, atol=1e-6
        )


def test_attention_is_within_each_tensor(parts: list[Any]) -> None:
    batch = nested.nested_tensor(parts, layout=flambeau.jagged).unflatten(-1, [2, 3])
    q = batch.transpose(1, 2)
    found = F.scaled_dot_product_attention(q, q, q).transpose(1, 2).flatten(-2)
    for got, part in zip(found.unbind(), parts, strict=True):
        x = part.unflatten(-1, [2, 3]).transpose(0, 1).unsqueeze(0)
        want = F.scaled_dot_product_attention(x, x, x)[0].transpose(0, 1).flatten(-2)
        np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=1e-4, atol=1e-5)


def test_sizes_and_parts(parts: list[Any]) -> None:
    batch = nested.nested_tensor(parts, layout=flambeau.jagged)
    assert batch.is_nested
    assert (batch.dim(), batch.size(0), batch.size(-1), batch.numel()) == (3, 3, 6, 48)
    assert batch.offsets().tolist() == [0, 3, 4, 8]
    assert batch.values().shape == (8, 6)
    assert str(batch.size(1)).startswith("j")
    assert batch.exp().size(1) is batch.size(1)
    assert [t.shape[0] for t in batch] == [3, 1, 4]
    assert batch.sum().item() == pytest.approx(sum(p.sum().item() for p in parts), abs=1e-4)
    strided = nested.nested_tensor(parts)
    with pytest.raises(RuntimeError, match="irregular"):
        strided.size(1)
    with pytest.raises(RuntimeError, match="doesn't support sizes"):
        strided.shape  # noqa: B018
    assert "nested_tensor([" in repr(strided)


def test_padding_narrowing_and_masks(parts: list[Any]) -> None:
    batch = nested.nested_tensor(parts)
    padded = nested.to_padded_tensor(batch, -1.0, (3, 5, 6))
    assert padded.shape == (3, 5, 6)
    assert flambeau.equal(padded[2, :4], parts[2])
    assert (padded[1, 1:] == -1).all()
    with pytest.raises(RuntimeError, match="Truncation"):
        batch.to_padded_tensor(0, (3, 2, 6))
    x = flambeau.arange(24.0).reshape(2, 4, 3)
    cut = nested.narrow(x, 1, flambeau.tensor([0, 1]), flambeau.tensor([2, 3]), flambeau.jagged)
    assert [t[0, 0].item() for t in cut] == [0, 15]
    rows = nested.masked_select(
        flambeau.arange(6.0).reshape(2, 3), flambeau.tensor([True, False, True])
    )
    assert [t.tolist() for t in rows] == [[0, 2], [3, 5]]
    made = nested.nested_tensor_from_jagged(x[0], lengths=flambeau.tensor([1, 3]))
    assert [len(t) for t in made] == [1, 3]
    gap = nested.nested_tensor_from_jagged(
        x[0], flambeau.tensor([0, 2, 4]), lengths=flambeau.tensor([1, 2])
    )
    assert gap.values()[:, 0].tolist() == [0, 6, 9]


def test_gradients(parts: list[Any]) -> None:
    batch = nested.nested_tensor(parts, layout=flambeau.jagged, requires_grad=True)
    (batch * batch).values().sum().backward()
    assert batch.is_leaf
    assert flambeau.allclose(batch.grad.values(), 2 * flambeau.cat(parts))
    x = parts[0].clone().requires_grad_()
    nested.as_nested_tensor([x, parts[1]]).sin().sum().backward()
    assert flambeau.allclose(x.grad, parts[0].cos())
    (LINEAR.weight.grad, LINEAR.bias.grad) = None, None
    LINEAR(batch.detach()).sum().backward()
    assert LINEAR.bias.grad.tolist() == [8] * 5


def test_what_does_not_go_together_is_refused(parts: list[Any]) -> None:
    batch = nested.nested_tensor(parts, layout=flambeau.jagged)
    with pytest.raises(RuntimeError, match="different sizes"):
        batch + nested.nested_tensor(parts[:2], layout=flambeau.jagged)
    with pytest.raises(RuntimeError, match="batch dimension"):
        batch.sum(0)
    with pytest.raises(RuntimeError, match="trailing"):
        nested.as_nested_tensor([parts[0], parts[1][:, :2]], layout=flambeau.jagged)
    with pytest.raises(RuntimeError, match="layout"):
        nested.nested_tensor(parts, layout=flambeau.sparse_coo)


@pytest.mark.skipif(not HAS_TORCH, reason="compares with PyTorch")
def test_torch_prints_and_computes_the_same(parts: list[Any]) -> None:
    torch = pytest.importorskip("torch")
    texts = []
    for lib in (flambeau, torch):
        given = [lib.tensor(p.numpy().round(2)) for p in parts[:2]]
        ragged = lib.nested.nested_tensor(given, layout=lib.jagged)
        shown = repr(ragged).replace(str(ragged.size(1)), "j")
        found = (ragged * 2).relu().to_padded_tensor(0.0)
        texts.append([repr(lib.nested.nested_tensor(given)), shown, repr(found), ragged.numel()])
    assert texts[0] == texts[1]
