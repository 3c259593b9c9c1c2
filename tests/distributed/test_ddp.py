"""DistributedDataParallel: training is that of one process, and what users rely on besides."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau import Tensor, nn, optim
from flambeau.distributed import comm_hooks
from flambeau.distributed.ddp import DistributedDataParallel, buckets_of
from flambeau.distributed.groups import get_rank, get_world_size, group_of, spawn_local
from flambeau.ops import collective as rows
from tests.distributed import training

pytestmark = pytest.mark.timeout(120)


class Loss(nn.Module):
    """The loss as the result of forward, as DDP wants it."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net

    def forward(self, tokens: Tensor) -> Tensor:
        """Of (B, T + 1) tokens."""
        loss: Tensor = self.net.loss(tokens[:, :-1], tokens[:, 1:])
        return loss


def train(rank: int, accumulate: int = 1, **options: Any) -> tuple[list[float], dict[str, Any]]:
    """20 steps on this rank's share of the batches."""
    ranks = get_world_size()
    net = training.model()
    if rank:
        with flambeau.no_grad():
            for p in net.parameters():
                p.add_(rank)  # DDP starts from rank 0's
    ddp = DistributedDataParallel(Loss(net), **options)
    optimizer = training.optimizer_of(ddp.parameters())
    losses = []
    for tokens in training.batches():
        mine = training.part(tokens, rank, ranks)
        optimizer.zero_grad()
        total = 0.0
        pieces = mine.chunk(accumulate)
        for k, piece in enumerate(pieces):
            if k < len(pieces) - 1:
                with ddp.no_sync():
                    loss = ddp(piece) / accumulate
                    loss.backward()
            else:
                loss = ddp(piece) / accumulate
                loss.backward()
            total = total + loss.detach()
        optimizer.step()
        losses.append(total.item())
    return losses, {name: p.detach().numpy() for name, p in net.named_parameters()}


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_training_is_that_of_one_process(ranks: int) -> None:
    training.check(ranks, train)


@pytest.mark.parametrize(
    "options",
    [
        {"bucket_cap_mb": 0.001},
        {"gradient_as_bucket_view": True, "bucket_cap_mb": 0.001},
        {"find_unused_parameters": True},
        {"static_graph": True},
    ],
    ids=lambda o: "-".join(o),
)
def test_options_change_nothing(options: dict[str, Any]) -> None:
    training.check(2, lambda rank: train(rank, **options))


def test_gradients_are_accumulated_without_talking() -> None:
    training.check(2, lambda rank: train(rank, accumulate=2))


def test_keys_begin_with_module() -> None:
    def fn(rank: int) -> list[str]:
        return list(DistributedDataParallel(nn.Linear(2, 3)).state_dict())

    assert spawn_local(2, fn) == [["module.weight", "module.bias"]] * 2


class Branches(nn.Module):
    """Two layers, of which a call uses those it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Linear(2, 2, bias=False) for _ in range(3))

    def forward(self, x: Tensor, which: str) -> Tensor:
        """The sum of the named layers' results."""
        return sum(getattr(self, name)(x) for name in which)  # type: ignore[return-value]


def test_parameters_that_are_not_used() -> None:
    def fn(rank: int) -> list[Any]:
        net = Branches()
        ddp = DistributedDataParallel(net, find_unused_parameters=True)
        x = flambeau.ones(1, 2) * (rank + 1)
        ddp(x, "ab" if rank else "a").sum().backward()
        return [p.grad if p.grad is None else p.grad.tolist() for p in net.parameters()]

    for grads in spawn_local(2, fn):
        assert grads == [[[1.5, 1.5]] * 2, [[1.0, 1.0]] * 2, None]  # c is nobody's


def test_a_missing_gradient_is_said_with_its_name() -> None:
    def fn(rank: int) -> None:
        ddp = DistributedDataParallel(Branches())
        for _ in range(2):
            ddp(flambeau.ones(1, 2), "ab").sum().backward()

    with pytest.raises(RuntimeError, match=r"Expected to have finished reduction.*c\.weight"):
        spawn_local(2, fn)


def test_a_gradient_that_comes_twice_is_refused() -> None:
    def fn(rank: int) -> None:
        loss = DistributedDataParallel(Branches())(flambeau.ones(1, 2), "a").sum()
        loss.backward(retain_graph=True)
        loss.backward()

    with pytest.raises(RuntimeError, match="ready only once"):
        spawn_local(1, fn)


def test_models_that_differ_are_refused() -> None:
    def fn(rank: int) -> None:
        DistributedDataParallel(nn.Linear(2, 2 + rank))

    with pytest.raises(RuntimeError, match="same model across all ranks"):
        spawn_local(2, fn)
    with pytest.raises(RuntimeError, match="not needed"):
        spawn_local(1, lambda rank: DistributedDataParallel(nn.ReLU()))


def test_buffers_are_those_of_rank_0() -> None:
    def fn(rank: int) -> Any:
        net = nn.BatchNorm1d(3)
        ddp = DistributedDataParallel(net)
        x = flambeau.ones(4, 3) * (rank + 1)
        ddp(x)
        ddp(x)
        return net.running_mean.tolist(), net.num_batches_tracked.item()

    first, second = spawn_local(2, fn)
    np.testing.assert_allclose(first[0], [0.19] * 3, rtol=1e-6)
    np.testing.assert_allclose(second[0], [0.9 * 0.1 + 0.2] * 3, rtol=1e-6)
    assert first[1] == second[1] == 2


def test_a_communication_hook_reduces() -> None:
    seen: list[tuple[int, bool, int]] = []

    def half(state: Any, bucket: Any) -> Any:
        if get_rank() == 0:
            seen.append((bucket.index(), bucket.is_last(), len(bucket.parameters())))
        assert [g.shape for g in bucket.gradients()] == [p.shape for p in bucket.parameters()]
        return [rows.all_reduce(bucket.buffer() * state, group_of())]

    def fn(rank: int) -> list[Any]:
        net = nn.Linear(2, 2)
        ddp = DistributedDataParallel(net, bucket_cap_mb=1e-6)
        ddp.register_comm_hook(0.25, half)
        with pytest.raises(RuntimeError, match="only be called once"):
            ddp.register_comm_hook(0.25, half)
        ddp(flambeau.ones(1, 2) * (rank + 1)).sum().backward()
        return [p.grad.tolist() for p in net.parameters()]

    assert spawn_local(2, fn) == [[[[0.75, 0.75]] * 2, [0.5, 0.5]]] * 2
    assert seen == [(0, False, 1), (1, True, 1)]


@pytest.mark.parametrize(
    ("hook", "dtype"),
    [
        (comm_hooks.allreduce_hook, flambeau.float32),
        (comm_hooks.fp16_compress_hook, flambeau.float16),
        (comm_hooks.bf16_compress_hook, flambeau.bfloat16),
        (comm_hooks.fp16_compress_wrapper(comm_hooks.allreduce_hook), flambeau.float16),
    ],
)
def test_gradients_are_sent_in_fewer_bytes(hook: Any, dtype: Any) -> None:
    def fn(rank: int) -> Any:
        net = nn.Linear(2, 2, bias=False)
        ddp = DistributedDataParallel(net)
        ddp.register_comm_hook(None, hook)
        ddp(flambeau.full((1, 2), 1.0 + rank / 1000)).sum().backward()
        assert net.weight.grad.dtype is flambeau.float32
        return net.weight.grad.tolist()

    half = [float((flambeau.tensor(1.0 + r / 1000) / 2).to(dtype).item()) for r in range(2)]
    mean = flambeau.tensor(half).to(dtype).sum().item()
    for grad in spawn_local(2, fn):
        np.testing.assert_allclose(grad, [[mean] * 2] * 2, rtol=1e-6)


def test_buckets_are_filled_from_the_end() -> None:
    parameters = [flambeau.zeros(n) for n in (10, 20, 30, 40)]
    found = buckets_of(parameters, 240, 100)
    assert [[p.numel() for p in bucket] for bucket in found] == [[40], [30, 20, 10]]
    mixed = [flambeau.zeros(4), flambeau.zeros(4, dtype=flambeau.float64)]
    assert len(buckets_of(mixed, 1000, 1000)) == 2


def test_communication_starts_before_the_backward_pass_ends() -> None:
    """In the program of a step, a bucket's all_reduce starts before the first layer's gradient."""

    def fn(rank: int) -> str:
        net = nn.Sequential(*(nn.Linear(64, 64, bias=False) for _ in range(4)))
        ddp = DistributedDataParallel(net, bucket_cap_mb=0.001)
        x = flambeau.ones(32, 64)

        def step() -> list[Any]:
            ddp(x).sum().backward()
            return [p.grad for p in net.parameters()]

        flambeau.record.flush()
        return str(flambeau.explain(step))

    text = spawn_local(1, fn)[0]
    lines = text.splitlines()
    starts = [k for k, line in enumerate(lines) if "all_reduce" in line and "start" in line]
    products = [k for k, line in enumerate(lines) if "matmul" in line or "linear" in line]
    assert len(starts) == 4, text
    assert starts[0] < products[-1], text


def test_sgd_after_a_step_is_the_same_on_all_ranks() -> None:
    def fn(rank: int) -> list[float]:
        flambeau.manual_seed(rank)
        net = nn.Linear(3, 1)
        ddp = DistributedDataParallel(net)
        optimizer = optim.SGD(ddp.parameters(), lr=0.1, momentum=0.9)
        for _ in range(3):
            optimizer.zero_grad()
            ddp(flambeau.randn(4, 3)).square().mean().backward()
            optimizer.step()
        return [*net.weight.flatten().tolist(), net.bias.item()]

    found = spawn_local(3, fn)
    assert found[0] == found[1] == found[2]
