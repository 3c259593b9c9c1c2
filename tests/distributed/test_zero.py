"""ZeroRedundancyOptimizer and SyncBatchNorm: the same numbers as one process."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau import nn, optim
from flambeau.distributed.ddp import DistributedDataParallel
from flambeau.distributed.groups import get_world_size, spawn_local
from flambeau.distributed.zero import ZeroRedundancyOptimizer, owners_of
from tests.distributed import training
from tests.distributed.test_ddp import Loss

pytestmark = pytest.mark.timeout(120)


def train(rank: int) -> tuple[list[float], dict[str, Any]]:
    """Some steps on this rank's share of the batches, with a schedule that changes nothing."""
    net = training.model()
    ddp = DistributedDataParallel(Loss(net))
    optimizer = ZeroRedundancyOptimizer(ddp.parameters(), optim.AdamW, lr=1.0, weight_decay=0.1)
    schedule = optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1e-2)
    losses = []
    for tokens in training.batches():
        optimizer.zero_grad()
        loss = ddp(training.part(tokens, rank, get_world_size()))
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    total = sum(p.numel() for p in net.parameters())
    own = sum(s["exp_avg"].numel() for s in optimizer.optim.state.values())
    assert abs(own - total / get_world_size()) < 200
    return losses, {name: p.detach().numpy() for name, p in net.named_parameters()}


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_training_is_that_of_one_process(ranks: int) -> None:
    training.check(ranks, train)


def test_the_largest_are_shared_out_first() -> None:
    assert owners_of([5, 9, 1, 4], 2) == [1, 0, 0, 1]
    assert owners_of([], 3) == []
    assert owners_of([3], 3) == [0]


def test_states_go_to_one_rank_and_back() -> None:
    def one_step(optimizer: Any, net: nn.Module) -> None:
        optimizer.zero_grad()
        net(flambeau.ones(1, 3)).square().sum().backward()
        optimizer.step()

    def nets() -> nn.Module:
        flambeau.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))

    def fn(rank: int) -> Any:
        net = nets()
        optimizer = ZeroRedundancyOptimizer(net.parameters(), optim.Adam, lr=0.1)
        one_step(optimizer, net)
        with pytest.raises(RuntimeError, match="not been consolidated"):
            optimizer.state_dict()
        optimizer.consolidate_state_dict(to=1)
        state = optimizer.state_dict() if rank == 1 else None
        plain_net = nets()
        plain = optim.Adam(plain_net.parameters(), lr=0.1)
        one_step(plain, plain_net)
        if state is not None:
            wanted = plain.state_dict()
            assert state["param_groups"][0]["lr"] == wanted["param_groups"][0]["lr"]
            for k, values in wanted["state"].items():
                for name, value in values.items():
                    assert np.allclose(state["state"][k][name], value), (k, name)
        again = ZeroRedundancyOptimizer(net.parameters(), optim.Adam, lr=0.5)
        again.load_state_dict(copy.deepcopy(plain.state_dict()))
        assert len(again.optim.state) == 2
        one_step(again, net)
        one_step(plain, plain_net)
        for a, b in zip(net.parameters(), plain_net.parameters(), strict=True):
            assert np.allclose(a.tolist(), b.tolist(), atol=1e-6)

    spawn_local(2, fn)


@pytest.mark.parametrize("shape", [(3,), (3, 2), (3, 2, 2)])
def test_batches_of_all_ranks_are_normalized_together(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(2, 3, (7, *shape))
    slopes = rng.normal(size=x.shape)
    cuts = [0, 2, 3, 7]

    def with_norm(norm: Any, rows: slice) -> Any:
        norm = norm.double()
        with flambeau.no_grad():
            norm.weight.copy_(flambeau.tensor([1.0, 2.0, 3.0]))
        part = flambeau.tensor(x[rows], requires_grad=True)
        out = norm(part)
        (out * flambeau.tensor(slopes[rows])).sum().backward()
        return [
            out.detach().numpy(), part.grad.numpy(), norm.weight.grad.numpy(),
            norm.running_mean.numpy(), norm.running_var.numpy(), norm.num_batches_tracked.item(),
        ]  # fmt: skip

    kind = {1: nn.BatchNorm1d, 2: nn.BatchNorm1d, 3: nn.BatchNorm2d}[len(shape)]
    wanted = with_norm(kind(3), slice(None))
    found = spawn_local(
        3, lambda rank: with_norm(nn.SyncBatchNorm(3), slice(cuts[rank], cuts[rank + 1]))
    )
    for k in (0, 1):
        np.testing.assert_allclose(np.concatenate([f[k] for f in found]), wanted[k], atol=1e-10)
    np.testing.assert_allclose(sum(f[2] for f in found), wanted[2], atol=1e-10)
    for f in found:
        for k in (3, 4, 5):
            np.testing.assert_allclose(f[k], wanted[k], atol=1e-12)


def test_evaluation_uses_running_statistics_and_talks_to_nobody() -> None:
    def fn(rank: int) -> Any:
        norm = nn.SyncBatchNorm(2).eval()
        return norm(flambeau.ones(1, 2)).tolist() if rank else None

    assert spawn_local(2, fn)[1] == [[pytest.approx(1 / (1 + 1e-5) ** 0.5)] * 2]
