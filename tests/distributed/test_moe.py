"""Experts over ranks: results, gradients and training are those of all experts in one process."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau import Tensor, nn
from flambeau.distributed.groups import get_world_size, group_of, spawn_local
from flambeau.distributed.moe import Dispatch, MixtureOfExperts
from flambeau.ops import collective as rows
from tests.distributed import training

pytestmark = pytest.mark.timeout(120)

WIDTH, EXPERTS, TOKENS, STEPS, K = 5, 4, 12, 20, 2


def expert(k: int) -> nn.Module:
    flambeau.manual_seed(10 + k)
    return nn.Sequential(nn.Linear(WIDTH, 7), nn.Tanh(), nn.Linear(7, WIDTH)).double()


def router() -> Any:
    return np.random.default_rng(3).normal(size=(EXPERTS, WIDTH))


def batches() -> list[tuple[Tensor, Tensor]]:
    rng, size = np.random.default_rng(4), (TOKENS, WIDTH)
    return [
        (flambeau.tensor(rng.normal(size=size)), flambeau.tensor(rng.normal(size=size)))
        for _ in range(STEPS)
    ]


def dense(weight: Tensor, experts: list[nn.Module], x: Tensor) -> Tensor:
    """Every expert on every token, weighted by what the router likes."""
    likes = (x @ weight.T).softmax(-1)
    best = likes.topk(K, -1)
    mask = flambeau.zeros_like(likes).scatter(-1, best.indices, 1.0)
    weights = likes * mask / (likes * mask).sum(-1, keepdim=True)
    parts = [e(x) * weights[:, k : k + 1] for k, e in enumerate(experts)]
    return flambeau.stack(parts).sum(0)


def alone() -> tuple[list[float], list[Any]]:
    experts = [expert(k) for k in range(EXPERTS)]
    weight = flambeau.tensor(router(), requires_grad=True)
    parameters = [weight, *(p for e in experts for p in e.parameters())]
    optimizer = training.optimizer_of(parameters)
    losses = []
    for x, y in batches():
        optimizer.zero_grad()
        loss = (dense(weight, experts, x) - y).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, [p.detach().numpy() for p in parameters]


def train(rank: int) -> Any:
    ranks = get_world_size()
    here = EXPERTS // ranks
    layer = MixtureOfExperts(WIDTH, [expert(rank * here + k) for k in range(here)], K).double()
    with flambeau.no_grad():
        layer.router.weight.copy_(flambeau.tensor(router()))
    optimizer = training.optimizer_of(layer.parameters())
    losses = []
    n = TOKENS // ranks
    for x, y in batches():
        mine = slice(rank * n, (rank + 1) * n)
        optimizer.zero_grad()
        loss = (layer(x[mine]) - y[mine]).square().mean() / ranks
        loss.backward()
        with flambeau.no_grad():
            layer.router.weight.grad = rows.all_reduce(layer.router.weight.grad, group_of())
        optimizer.step()
        losses.append(loss.item())
    return (
        losses,
        layer.router.weight.detach().numpy(),
        [p.detach().numpy() for p in layer.experts.parameters()],
    )


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_training_is_that_of_one_process(ranks: int) -> None:
    found = spawn_local(ranks, train, timeout=100)
    losses, parameters = alone()
    np.testing.assert_allclose(np.sum([f[0] for f in found], axis=0), losses, atol=1e-5)
    for f in found:
        np.testing.assert_allclose(f[1], parameters[0], atol=1e-5)
    for got, want in zip([p for f in found for p in f[2]], parameters[1:], strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5)


def test_tokens_go_there_and_back() -> None:
    def fn(rank: int) -> Any:
        chosen = flambeau.tensor([[2, 0], [2, 1], [2, 3]] if rank else [[3, 2]])
        where = Dispatch(chosen, 4)
        tokens = flambeau.arange(1.0, 4.0)[: len(chosen)].reshape(-1, 1) + 10 * rank
        there = where.scatter(tokens)
        ones = flambeau.ones(chosen.shape)
        return where.counts, there.flatten().tolist(), where.gather(there, ones).flatten().tolist()

    first, second = spawn_local(2, fn)
    assert first == ([1, 1], [11.0, 12.0], [2.0])
    assert second == ([4, 2], [1.0, 11.0, 12.0, 13.0, 1.0, 13.0], [22.0, 24.0, 26.0])


def test_a_rank_may_have_no_tokens() -> None:
    def fn(rank: int) -> Any:
        layer = MixtureOfExperts(3, [nn.Linear(3, 3)])
        x = flambeau.ones(2 * rank, 3, requires_grad=True)
        with flambeau.no_grad():
            layer.router.weight.copy_(flambeau.tensor([[1.0] * 3, [0.0] * 3]))
        out = layer(x)
        out.sum().backward()
        return out.shape, layer.experts[0].weight.grad.abs().sum().item() > 0

    assert spawn_local(2, fn) == [((0, 3), True), ((2, 3), False)]


def test_balance_is_one_where_it_is_even() -> None:
    def fn(rank: int) -> float:
        layer = MixtureOfExperts(2, [nn.Identity()])
        with flambeau.no_grad():
            layer.router.weight.copy_(flambeau.eye(2))
        layer(flambeau.tensor([[1.0, 0.0], [0.0, 1.0]]))
        assert layer.balance is not None
        return float(layer.balance.item())

    assert spawn_local(2, fn) == [pytest.approx(1.0)] * 2


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="3 experts cannot be shared evenly by 2"):
        spawn_local(2, lambda rank: Dispatch(flambeau.zeros(1, 1, dtype=flambeau.int64), 3))
    with pytest.raises(ValueError, match="3 of 2 experts"):
        spawn_local(2, lambda rank: MixtureOfExperts(2, [nn.Identity()], k=3))
