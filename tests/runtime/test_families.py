"""Programs for many sizes: what is compiled for one size serves others, and computes the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau import nn, record
from flambeau.nn import functional as F

Tensor = Any


@pytest.fixture(autouse=True)
def _no_families() -> None:
    record.clear_programs()


def ran(work: Callable[[], Tensor]) -> tuple[np.ndarray[Any, Any], int, int]:
    """What a function computes, how many programs were compiled for it and how many resized."""
    record.flush()
    before = record.counters.compiled, record.counters.resized
    found = work().detach().numpy()
    after = record.counters.compiled, record.counters.resized
    return found, after[0] - before[0], after[1] - before[1]


def alone(work: Callable[[], Tensor]) -> np.ndarray[Any, Any]:
    """What it computes when it is compiled for its sizes."""
    record.clear_programs()
    found: np.ndarray[Any, Any] = work().detach().numpy()
    return found


def attention(q: Tensor, w: Tensor) -> Tensor:
    x = q @ w
    heads = x.view(*x.shape[:2], 2, 8).transpose(1, 2)
    y = F.scaled_dot_product_attention(heads, heads, heads, is_causal=True)
    return y.transpose(1, 2).reshape(x.shape) + q


PROGRAMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "elementwise": lambda x, w: (x * 2 + 1).tanh() * w[0],
    "rows": lambda x, w: F.layer_norm(F.softmax(x, -1), (16,)),
    "rows that change": lambda x, w: F.softmax(x.transpose(1, 2).contiguous() * 2, -1),
    "columns": lambda x, w: x.sum((0, 1)) + x.amax(1).mean(0),
    "all": lambda x, w: (x * x).mean(),
    "views": lambda x, w: flambeau.cat([x[:, 1:].flip(1), x[:, :1]], 1).transpose(0, 1) + 1,
    "writes": lambda x, w: x.clone().index_fill_(1, flambeau.tensor([0]), 3.0)[:, :-1],
    "product": lambda x, w: F.gelu(x @ w + w[0]),
    "gradient of a product": lambda x, w: x.reshape(-1, 16).t() @ x.reshape(-1, 16),
    "attention": attention,
    "loss": lambda x, w: F.cross_entropy(x.view(-1, 16), x.argmax(-1).view(-1)),
    "random": lambda x, w: (flambeau.manual_seed(3), F.dropout(x, 0.5))[1],
}
SIZES = ((4, 24), (6, 40), (7, 45), (9, 131), (5, 64), (3, 40))


@pytest.mark.parametrize("name", PROGRAMS)
def test_results_are_those_of_programs_for_one_size(name: str, rng: np.random.Generator) -> None:
    w = flambeau.tensor(rng.standard_normal((16, 16)).astype(np.float32))
    arrays = [rng.standard_normal((*s, 16)).astype(np.float32) for s in SIZES]
    found = []
    for a in arrays:
        x = flambeau.tensor(a)
        found.append(ran(lambda x=x: PROGRAMS[name](x, w)))  # type: ignore[misc]
    assert found[0][1] >= 1
    assert sum(resized for _, _, resized in found) >= 1
    for a, (got, _, _) in zip(arrays, found, strict=True):
        x = flambeau.tensor(a)
        expected = alone(lambda x=x: PROGRAMS[name](x, w))  # type: ignore[misc]
        np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-5)


def test_a_third_length_compiles_nothing(rng: np.random.Generator) -> None:
    flambeau.manual_seed(0)
    embedding, head = nn.Embedding(32, 16), nn.Linear(16, 32)
    layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
    parameters = [p for m in (embedding, head, layer) for p in m.parameters()]
    optimizer = flambeau.optim.SGD(parameters, lr=0.1)
    compiled = []
    for length in (80, 80, 104, 90, 120):  # the first step makes the gradients
        x = flambeau.tensor(rng.integers(0, 32, (4, length)))
        optimizer.zero_grad()
        loss = F.cross_entropy(head(layer(embedding(x))).view(-1, 32), x.view(-1))
        loss.backward()
        before = record.counters.compiled
        optimizer.step()
        compiled.append(record.counters.compiled - before)
    assert compiled == [1, 1, 1, 0, 0]


def test_a_size_that_code_fixes_is_compiled_again() -> None:
    def work(n: int) -> Tensor:
        return flambeau.fft.rfft(flambeau.ones(n)).real + 1

    for n in (8, 12, 20):
        got, _, _ = ran(lambda n=n: work(n))  # type: ignore[misc]
        assert got[0] == n + 1


def test_small_sizes_have_code_of_their_own() -> None:
    for n in (5, 1, 0, 7, 2):
        x = flambeau.arange(n, dtype=flambeau.float32)
        got, _, _ = ran(lambda x=x: (x * 2 + 1).sum())  # type: ignore[misc]
        assert got == sum(2 * k + 1 for k in range(n))
