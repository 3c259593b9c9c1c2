"""DistributedDataParallel: training is that of one process, and what users rely on besides."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau import Tensor, nn, optim
from flambeau import distributed as dist
from flambeau.distributed import comm_hooks
from flambeau.distributed import ddp as ddp_module
from flambeau.distributed.ddp import DistributedDataParallel, buckets_of
from flambeau.distributed.groups import get_rank, get_world_size, group_of, spawn_local
from flambeau.distributed.join import Join
from flambeau.distributed.zero import ZeroRedundancyOptimizer
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
    """Some steps on this rank's share of the batches."""
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


# -- uneven inputs -------------------------------------------------------------------------------


def net_with_buffers() -> nn.Module:
    """Two layers and statistics, in float64."""
    flambeau.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)).double()


def inputs_of(rank: int) -> list[Tensor]:
    """As many as the rank has: 3, 1, 5, 3."""
    rng = np.random.default_rng(rank)
    return [flambeau.tensor(rng.normal(size=(4, 3))) for _ in range((3, 1, 5, 3)[rank])]


def uneven(ranks: int, by_initial: bool) -> list[Any]:
    """The parameters after as many steps as the rank with most inputs has, in one process."""
    net = net_with_buffers()
    optimizer = optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    given = [inputs_of(rank) for rank in range(ranks)]
    for step in range(max(map(len, given))):
        optimizer.zero_grad()
        training = [x[step] for x in given if step < len(x)]
        statistics = [b.clone() for b in net.buffers()]
        found: Any = None
        for x in training:  # each rank begins with the statistics of the first that trains
            for b, kept in zip(net.buffers(), statistics, strict=True):
                b.copy_(kept)
            net(x).square().mean().backward()
            found = found or [b.clone() for b in net.buffers()]
        for b, kept in zip(net.buffers(), found, strict=True):
            b.copy_(kept)
        for p in net.parameters():
            p.grad /= ranks if by_initial else len(training)
        optimizer.step()
    return [p.detach().numpy() for p in net.parameters()]


@pytest.mark.parametrize(
    ("ranks", "by_initial", "options"),
    [
        (2, True, {}),
        (3, False, {"find_unused_parameters": True}),
        (4, False, {"bucket_cap_mb": 1e-5}),
    ],
)
def test_ranks_may_have_different_numbers_of_inputs(
    ranks: int, by_initial: bool, options: dict[str, Any]
) -> None:
    def fn(rank: int) -> list[Any]:
        net = net_with_buffers()
        ddp = DistributedDataParallel(net, **options)
        optimizer = optim.SGD(ddp.parameters(), lr=0.1, momentum=0.9)
        with ddp.join(divide_by_initial_world_size=by_initial):
            for x in inputs_of(rank):
                optimizer.zero_grad()
                ddp(x).square().mean().backward()
                optimizer.step()
        ddp(inputs_of(0)[0]).sum().backward()  # together again
        return [p.detach().numpy() for p in net.parameters()]

    wanted = uneven(ranks, by_initial)
    for found in spawn_local(ranks, fn):
        for got, want in zip(found, wanted, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-10)


def test_shares_of_an_optimizer_are_updated_by_ranks_without_inputs() -> None:
    def fn(rank: int) -> list[Any]:
        net = net_with_buffers()
        ddp = DistributedDataParallel(net)
        optimizer = ZeroRedundancyOptimizer(ddp.parameters(), optim.SGD, lr=0.1, momentum=0.9)
        with Join([ddp, optimizer], divide_by_initial_world_size=False):
            for x in inputs_of(rank):
                optimizer.zero_grad()
                ddp(x).square().mean().backward()
                optimizer.step()
        return [p.detach().numpy() for p in net.parameters()]

    wanted = uneven(2, by_initial=False)
    for found in spawn_local(2, fn):
        for got, want in zip(found, wanted, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-10)


def test_uneven_inputs_can_be_refused() -> None:
    def fn(rank: int) -> Any:
        ddp = DistributedDataParallel(nn.Linear(3, 1).double())
        with pytest.raises(RuntimeError) as caught:
            with ddp.join(throw_on_early_termination=True):
                for x in inputs_of(rank):
                    ddp(x).sum().backward()
        with ddp.join(enable=False):
            ddp(inputs_of(0)[0]).sum().backward()
        return str(caught.value)

    found = spawn_local(2, fn)
    assert "at least one rank that exhausted inputs" in found[0]
    assert found[1] == "Rank 1 exhausted all inputs."
    with pytest.raises(ValueError, match="at least one joinable"):
        Join([])


# -- what waits, and dtypes ----------------------------------------------------------------------


def test_gradients_that_wait_for_another() -> None:
    def fn(rank: int, order: str) -> Any:
        net = Branches()
        named = dict(net.named_parameters())
        ddp = DistributedDataParallel(
            net,
            delay_all_reduce_named_params=[(n, named[n]) for n in ("b.weight", "c.weight")],
            param_to_hook_all_reduce=net.a.weight,
        )
        members: list[int] = []

        def counted(state: Any, bucket: Any) -> Any:
            members.append(len(bucket.parameters()))
            return comm_hooks.allreduce_hook(None, bucket)

        ddp.register_comm_hook(None, counted)
        ddp(flambeau.ones(1, 2) * (rank + 1), order).sum().backward()
        return [p.grad.tolist() for p in net.parameters()], members

    # the backward pass comes to a last
    assert spawn_local(2, fn, "abc") == [([[[1.5, 1.5]] * 2] * 3, [1, 2])] * 2
    with pytest.raises(RuntimeError, match="came after"):
        spawn_local(2, fn, "cba")
    with pytest.raises(ValueError, match="go together"):
        spawn_local(
            1, lambda rank: DistributedDataParallel(Branches(), param_to_hook_all_reduce=object())
        )


def test_gradients_that_wait_and_uneven_inputs() -> None:
    def fn(rank: int) -> Any:
        net = Branches()
        named = dict(net.named_parameters())
        ddp = DistributedDataParallel(
            net,
            delay_all_reduce_named_params=[("b.weight", named["b.weight"])],
            param_to_hook_all_reduce=net.a.weight,
        )
        optimizer = optim.SGD(ddp.parameters(), lr=1.0)
        start = [p.tolist() for p in net.parameters()]
        with ddp.join(divide_by_initial_world_size=False):
            for _ in range(1 + rank):
                optimizer.zero_grad()
                ddp(flambeau.ones(1, 2) * (rank + 1), "abc").sum().backward()
                optimizer.step()
        return [np.array(p.tolist()) - q for p, q in zip(net.parameters(), start, strict=True)]

    for found in spawn_local(2, fn):
        for change in found:  # 1.5 by both, then 2 by rank 1
            np.testing.assert_allclose(change, np.full((2, 2), -3.5), rtol=1e-6)


def test_calls_and_reductions_in_other_dtypes() -> None:
    rng = np.random.default_rng(0)
    x = flambeau.tensor(rng.normal(size=(4, 3)).astype(np.float32))

    def net() -> nn.Module:
        flambeau.manual_seed(1)
        return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))

    def by_hand(part: Tensor) -> list[Any]:
        made = net().bfloat16()
        made(part.bfloat16()).float().square().sum().backward()
        return [p.grad.float().numpy() for p in made.parameters()]

    halves = [by_hand(part) for part in x.chunk(2)]
    wanted = [(a + b) / 2 for a, b in zip(*halves, strict=True)]

    def fn(rank: int) -> list[Any]:
        policy = ddp_module._MixedPrecision(flambeau.bfloat16, flambeau.float32, flambeau.bfloat16)
        made = net()
        ddp = DistributedDataParallel(made, mixed_precision=policy)
        out = ddp(x.chunk(2)[rank])
        assert out.dtype is flambeau.bfloat16
        out.float().square().sum().backward()
        assert made[1].running_mean.dtype is made[0].weight.dtype is flambeau.float32
        assert made[1].num_batches_tracked.item() == 1
        assert made[1].running_mean.abs().sum().item() > 0
        return [p.grad.numpy() for p in made.parameters()]

    for found in spawn_local(2, fn):
        for got, want in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(got, want)


def test_a_hook_may_return_a_future_and_is_looked_at() -> None:
    def mean(state: Any, bucket: dist.GradBucket) -> flambeau.futures.Future[Tensor]:
        work = dist.all_reduce(bucket.buffer(), async_op=True)
        return work.get_future().then(lambda f: f.value()[0] / get_world_size())

    def wrong(state: Any, bucket: int) -> Tensor:
        return flambeau.ones(1)

    def fn(rank: int) -> Any:
        net = nn.Linear(2, 1, bias=False)
        ddp = DistributedDataParallel(net)
        with pytest.raises(ValueError, match=r"dist\.GradBucket"):
            ddp.register_comm_hook(None, wrong)
        ddp.register_comm_hook(None, mean)
        ddp(flambeau.ones(1, 2) * (rank + 1)).sum().backward()
        return net.weight.grad.tolist()

    assert spawn_local(2, fn) == [[[1.5, 1.5]]] * 2
