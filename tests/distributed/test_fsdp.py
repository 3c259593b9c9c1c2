"""fully_shard: training is that of one process, and each rank has a part of everything."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flambeau
import flambeau.nn.functional as F
from flambeau import Tensor, nn, optim
from flambeau.distributed import checkpoint
from flambeau.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    full_state_dict,
    fully_shard,
    register_fsdp_forward_method,
)
from flambeau.distributed.groups import get_world_size, spawn_local
from flambeau.distributed.mesh import init_device_mesh
from flambeau.distributed.tensor import DTensor, Shard
from flambeau.utils.checkpoint import checkpoint as recompute
from tests.distributed import training

pytestmark = pytest.mark.timeout(120)


def sharded(**options: Any) -> Any:
    """The tiny GPT with its blocks and the rest cut."""
    net = training.model()
    for block in net.blocks:
        fully_shard(block, **options)
    fully_shard(net, **options)
    register_fsdp_forward_method(net, "loss")
    return net


def train(rank: int, net: Any = None, accumulate: int = 1) -> tuple[list[float], dict[str, Any]]:
    """20 steps on this rank's share of the batches."""
    ranks = get_world_size()
    net = sharded() if net is None else net
    optimizer = training.optimizer_of(net.parameters())
    losses = []
    for tokens in training.batches():
        pieces = training.part(tokens, rank, ranks).chunk(accumulate)
        optimizer.zero_grad()
        total = 0.0
        for k, piece in enumerate(pieces):
            net.set_requires_gradient_sync(k == len(pieces) - 1)
            loss = net.loss(piece[:, :-1], piece[:, 1:]) / accumulate
            loss.backward()
            total = total + loss.detach()
        optimizer.step()
        losses.append(total.item())
    return losses, {
        name: p.numpy() for name, p in full_state_dict(net).items() if "head" not in name
    }


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_training_is_that_of_one_process(ranks: int) -> None:
    training.check(ranks, train)


def test_training_without_resharding() -> None:
    training.check(2, lambda rank: train(rank, sharded(reshard_after_forward=False)))


def test_training_with_resharding_everywhere() -> None:
    training.check(2, lambda rank: train(rank, sharded(reshard_after_forward=True)))


def test_gradients_are_accumulated_whole() -> None:
    training.check(2, lambda rank: train(rank, accumulate=2))


def test_training_of_replicated_shards() -> None:
    def fn(rank: int) -> Any:
        mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicate", "shard"))
        return train(rank, sharded(mesh=mesh))

    training.check(4, fn)


def test_a_rank_has_a_part_of_each_parameter() -> None:
    def fn(rank: int) -> Any:
        flambeau.manual_seed(0)
        whole = nn.Linear(3, 5)
        net = fully_shard(nn.Sequential(whole, nn.ReLU()))
        assert isinstance(net, FSDPModule)
        assert isinstance(net, nn.Sequential)
        assert all(isinstance(p, DTensor) for p in net.parameters())
        assert all(isinstance(p, nn.Parameter) for p in net.parameters())
        for weight in (net[0].weight, net.state_dict()["0.weight"]):
            assert isinstance(weight, DTensor)
            assert weight.placements == (Shard(0),)
            assert weight.shape == (5, 3)
        parts = [list(p.to_local().shape) for p in net.parameters()]
        return parts, net[0].weight.detach().full_tensor().tolist()

    found = spawn_local(4, fn)
    assert [f[0] for f in found] == [[[2, 3], [2]], [[2, 3], [2]], [[1, 3], [1]], [[0, 3], [0]]]
    assert all(f[1] == found[0][1] for f in found)


def test_states_go_in_and_out_whole() -> None:
    def fn(rank: int) -> Any:
        flambeau.manual_seed(1)
        plain = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
        state = {name: t.clone() for name, t in plain.state_dict().items()}
        flambeau.manual_seed(2)
        net = fully_shard(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)))
        net.load_state_dict(state)
        found = full_state_dict(net)
        net.load_state_dict(net.state_dict())  # of DTensors
        assert all(bool((full_state_dict(net)[name] == state[name]).all()) for name in state)
        assert list(found) == list(state)
        return all(bool((found[name] == state[name]).all()) for name in state)

    assert spawn_local(3, fn) == [True] * 3


def test_dtypes_of_the_policy() -> None:
    def fn(rank: int) -> Any:
        policy = MixedPrecisionPolicy(flambeau.bfloat16, flambeau.float32, flambeau.float32)
        seen = []
        net = nn.Linear(4, 4)
        net.register_forward_pre_hook(lambda m, a: seen.append((a[0].dtype, m.weight.dtype)))
        fully_shard(net, mp_policy=policy)
        out = net(flambeau.ones(2, 4))
        out.sum().backward()
        assert seen == [(flambeau.bfloat16, flambeau.bfloat16)]
        assert net.weight.grad.dtype is net.weight.dtype is flambeau.float32
        return out.dtype, net.weight.grad.tolist()

    for dtype, grad in spawn_local(2, fn):
        assert dtype is flambeau.float32
        assert grad == [[2.0] * 4] * 4


def test_the_norm_is_that_of_all_ranks() -> None:
    def fn(rank: int, p: float) -> Any:
        net = fully_shard(nn.Linear(3, 5, bias=False))
        net.weight.grad = flambeau.ones_like(net.weight) * 3
        norm = nn.utils.clip_grad_norm_(net.parameters(), 1.0, p)
        return norm.item(), net.weight.grad.to_local().flatten().tolist()

    for p, size in ((2.0, 3 * 15**0.5), (float("inf"), 3.0)):
        for norm, grads in spawn_local(4, fn, p):
            assert norm == pytest.approx(size)
            np.testing.assert_allclose(grads, [3 / size] * len(grads), rtol=1e-5)


def test_backward_gathers_what_forward_let_go_of() -> None:
    """The tape of a call holds no gathered parameter; a second gather is recorded by backward."""

    def fn(rank: int, reshard: bool) -> int:
        net = nn.Sequential(*(nn.Linear(8, 8, bias=False) for _ in range(3)))
        for layer in net:
            fully_shard(layer, reshard_after_forward=reshard)
        x = flambeau.ones(2, 8, requires_grad=True)

        def step() -> list[Tensor]:
            net(x).square().sum().backward()
            return [p.grad for p in net.parameters()]

        flambeau.record.flush()
        return flambeau.explain(step).recorded.count("all_gather")

    assert spawn_local(1, fn, False) == [3]
    assert spawn_local(1, fn, True) == [6]


def test_what_is_read_after_a_step_is_new() -> None:
    def fn(rank: int) -> list[float]:
        net = fully_shard(nn.Linear(2, 2, bias=False))
        x = flambeau.ones(1, 2)
        net.unshard()
        assert type(net.weight) is Tensor
        assert net.weight.shape == (2, 2)
        net.reshard()
        net.unshard(async_op=True).wait()
        with flambeau.no_grad():
            net.weight.fill_(7.0)  # what is gathered, and dropped
        net.reshard()
        with flambeau.no_grad():
            net.weight.fill_(1.0)
        first = net(x).sum().item()
        with flambeau.no_grad():
            net.weight.fill_(2.0)
        return [first, net(x).sum().item()]

    assert spawn_local(2, fn) == [[4.0, 8.0]] * 2


def test_what_cannot_be_cut_is_refused() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(flambeau.ones(()))

    with pytest.raises(ValueError, match="support scalar parameters"):
        spawn_local(1, lambda rank: fully_shard(Scaled()))
    with pytest.raises(NotImplementedError, match="reshard_after_forward=2"):
        spawn_local(1, lambda rank: fully_shard(nn.Linear(1, 1), reshard_after_forward=2))


def test_a_checkpoint_is_read_by_other_numbers_of_ranks(tmp_path: Any) -> None:
    def net(seed: int) -> Any:
        flambeau.manual_seed(seed)
        made = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2))
        fully_shard(made[0])
        return fully_shard(made)

    def values(made: Any) -> dict[str, Any]:
        return {name: t.tolist() for name, t in full_state_dict(made).items()}

    def save(rank: int) -> dict[str, Any]:
        made = net(0)
        checkpoint.save({"model": made.state_dict()}, checkpoint_id=str(tmp_path / "c"))
        return values(made)

    def load(rank: int) -> dict[str, Any]:
        made = net(1)
        state = {"model": made.state_dict()}
        checkpoint.load(state, checkpoint_id=str(tmp_path / "c"))
        made.load_state_dict(state["model"])
        return values(made)

    saved = spawn_local(2, save)[0]
    assert spawn_local(4, load) == [saved] * 4
    assert spawn_local(1, load) == [saved]


class Mixed(nn.Module):
    """Layers of many kinds: a tied weight, a frozen one, statistics, a recurrence."""

    def __init__(self, again: bool) -> None:
        super().__init__()
        self.again = again
        self.embedding = nn.Embedding(7, 6)
        self.front = nn.Sequential(nn.Conv1d(6, 5, 3, padding=1), nn.BatchNorm1d(5), nn.ReLU())
        self.frozen = nn.Linear(5, 5)
        self.frozen.weight.requires_grad_(False)
        self.recurrent = nn.LSTM(5, 6, batch_first=True)
        self.out = nn.Linear(6, 7)
        self.out.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of (B, T) tokens."""
        x = self.embedding(tokens).transpose(1, 2)
        x = recompute(self.front, x, use_reentrant=False) if self.again else self.front(x)
        x = self.frozen(x.transpose(1, 2)).tanh()
        logits: Tensor = self.out(self.recurrent(x)[0])
        return logits


@pytest.mark.parametrize("again", [False, True])
def test_layers_of_many_kinds(again: bool) -> None:
    tokens = np.random.default_rng(0).integers(0, 7, (4, 5))

    def trained(rank: int, ranks: int, cut: bool) -> Any:
        flambeau.manual_seed(0)
        net = Mixed(again).double().eval()
        if cut:
            for part in (net.front, net.recurrent, net):
                fully_shard(part)
        mine = flambeau.tensor(tokens).chunk(ranks)[rank]
        optimizer = optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.5)
        for _ in range(3):
            optimizer.zero_grad()
            F.cross_entropy(net(mine).flatten(0, 1), mine.flatten()).backward()
            optimizer.step()
        with flambeau.no_grad():
            return net(flambeau.tensor(tokens)).numpy()

    want = trained(0, 1, False)
    for got in spawn_local(2, lambda rank: trained(rank, 2, True)):
        np.testing.assert_allclose(got, want, atol=1e-12)
