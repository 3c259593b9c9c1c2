"""Collectives in compiled functions: replays start them as the recorded call did, in its order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flambeau
import flambeau.distributed as dist
from flambeau import nn
from flambeau.compiler import report
from flambeau.distributed import functional as f
from flambeau.distributed.comm_hooks import bf16_compress_hook
from flambeau.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from flambeau.distributed.tensor import DTensor
from flambeau.distributed.transport.base import Call
from flambeau.distributed.transport.local import Local
from flambeau.nn.attention.flex_attention import flex_attention
from flambeau.ops.mods import ModError
from tests.distributed.mpi import mpiexec, needs_mpi

pytestmark = pytest.mark.timeout(120)


def same(compiled: bool, fn: Callable[..., Any]) -> Any:
    """The function, compiled or not."""
    return flambeau.compile(fn) if compiled else fn


def by_hand(net: nn.Module) -> nn.Module:
    """No form: the step averages the gradients itself."""
    return net


def replicated(net: nn.Module, hook: Any = None, **how: Any) -> nn.Module:
    """`DistributedDataParallel`."""
    model = nn.parallel.DistributedDataParallel(net, **how)
    if hook is not None:
        model.register_comm_hook(None, hook)
    return model


def cut(net: nn.Module, **how: Any) -> nn.Module:
    """`fully_shard` of every layer and of all."""
    for layer in net:
        if list(layer.parameters()):
            fully_shard(layer, **how)
    whole: nn.Module = fully_shard(net, **how)
    return whole


#: How a model is trained on ranks -> what makes it so.
FORMS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "by hand": by_hand,
    "ddp": replicated,
    "ddp, many buckets": lambda net: replicated(net, bucket_cap_mb=1e-5),
    "ddp, views": lambda net: replicated(net, gradient_as_bucket_view=True),
    "ddp, static": lambda net: replicated(net, static_graph=True),
    "ddp, hook": lambda net: replicated(net, bf16_compress_hook),
    "fsdp": cut,
    "fsdp, kept whole": lambda net: cut(net, reshard_after_forward=False),
    "fsdp, bfloat16": lambda net: cut(
        net, mp_policy=MixedPrecisionPolicy(flambeau.bfloat16, flambeau.float32)
    ),
}


def whole(p: Any) -> Any:
    """A parameter's values, all of them."""
    return (p.full_tensor() if isinstance(p, DTensor) else p).detach().numpy().copy()


def train(rank: int, compiled: bool, form: str = "by hand", calls: int = 12) -> Any:
    """Steps of training on parts of a batch; -> losses and weights, and how often it replayed."""
    flambeau.manual_seed(0)
    middle = nn.BatchNorm1d(8) if form == "ddp" else nn.Tanh()  # with buffers
    model = FORMS[form](nn.Sequential(nn.Linear(4, 8), middle, nn.Linear(8, 1)))
    optimizer = flambeau.optim.Adam(model.parameters(), lr=0.05)

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = ((model(x) - y) ** 2).mean()
        loss.backward()
        if form == "by hand":
            for p in model.parameters():
                dist.all_reduce(p.grad, op="avg")
        optimizer.step()
        return loss

    run = same(compiled, step)
    losses = []
    for k in range(calls):
        generator = flambeau.Generator().manual_seed(10 * k + rank)
        x = flambeau.randn(8, 4, generator=generator)
        losses.append(run(x, x.sum(1, keepdim=True)).item())
    losses.append(step(x, x.sum(1, keepdim=True)).item())  # as it is, after replays
    weights = [whole(p) for p in (*model.parameters(), *model.buffers())]
    told = report(run) if compiled else None
    return losses, weights, told.replays if told else 0, str(told)


@pytest.mark.parametrize(("ranks", "form"), [*((2, form) for form in FORMS), (3, "by hand")])
def test_a_training_step_replays(ranks: int, form: str) -> None:
    plain = dist.spawn_local(ranks, train, False, form)
    compiled = dist.spawn_local(ranks, train, True, form)
    assert max(replays for _, _, replays, _ in compiled) >= 4, compiled[0][3]
    for (losses, weights, _, _), (found, others, _, _) in zip(plain, compiled, strict=True):
        np.testing.assert_array_equal(found, losses)  # one rank that is a thread is watched at once
        for w, other in zip(weights, others, strict=True):
            np.testing.assert_array_equal(other, w)


def test_gradients_that_are_added_up_before_they_are_averaged() -> None:
    def program(rank: int, compiled: bool) -> Any:
        flambeau.manual_seed(0)
        model = nn.parallel.DistributedDataParallel(nn.Linear(3, 1))
        optimizer = flambeau.optim.SGD(model.parameters(), lr=0.1)

        def step(x: Any) -> Any:
            optimizer.zero_grad()
            with model.no_sync():
                model(x[:2]).square().mean().backward()
            loss = model(x[2:]).square().mean()
            loss.backward()
            optimizer.step()
            return loss

        run = same(compiled, step)
        losses = [run(flambeau.full((4, 3), rank + 0.1 * k)).item() for k in range(9)]
        return losses, report(run).replays if compiled else 0

    plain = dist.spawn_local(2, program, False)
    compiled = dist.spawn_local(2, program, True)
    assert [losses for losses, _ in compiled] == [losses for losses, _ in plain]
    assert max(replays for _, replays in compiled) >= 4


def test_a_rank_that_replays_calls_what_one_that_records_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    called: list[list[str]] = [[], []]
    issue = Local.issue

    def noted(self: Local, call: Call) -> Any:
        if not call.told:
            called[self.rank].append(call.signature())
        return issue(self, call)

    monkeypatch.setattr(Local, "issue", noted)

    def program(rank: int) -> Any:
        w = flambeau.zeros(3)

        def step(x: Any) -> Any:
            f.broadcast(x, 1)  # nobody reads it
            w.add_(f.all_reduce(x, "sum"))
            parts = f.all_gather_tensor(x * 2, 0)
            f.all_reduce(flambeau.ones(2), "max")
            return parts

        run = same(rank == 0, step)
        found = []
        for k in range(5):  # several calls in a program, others around them
            before = f.all_reduce(w + k, "min")
            parts = run(flambeau.full((3,), rank + float(k)))
            if k != 3:
                found += [before, parts]
            del before, parts
            run(flambeau.full((3,), float(k)))
            found.append(f.reduce_scatter_tensor(flambeau.ones(4) * k, "sum", 0))
        return [t.tolist() for t in found], w.tolist(), report(run).replays if rank == 0 else 0

    (first, w, replays), (second, other, _) = dist.spawn_local(2, program)
    assert replays >= 7
    assert called[0] == called[1]
    assert len(called[0]) == 5 * (2 + 2 * 4)
    assert first == second
    assert w == other


def test_messages_whose_results_nobody_reads() -> None:
    def program(rank: int) -> Any:
        def step(x: Any) -> Any:
            if rank:
                return f.recv(x, 0)
            f.send(x, 1)
            return x

        run = flambeau.compile(step)
        found = [run(flambeau.full((2,), 10.0 * k + rank)).tolist() for k in range(5)]
        return found, report(run).replays

    (_, sent), (found, received) = dist.spawn_local(2, program)
    assert found == [[10.0 * k] * 2 for k in range(5)]
    assert sent >= 3
    assert received >= 3


def test_a_function_that_ranks_share_is_recorded_by_each() -> None:
    @flambeau.compile
    def total(x: Any) -> Any:
        return f.all_reduce(x, "sum")

    def program(rank: int) -> list[float]:
        return [total(flambeau.full((2,), rank + float(k))).sum().item() for k in range(4)]

    for found in dist.spawn_local(3, program):
        assert found == [2 * (3 + 3.0 * k) for k in range(4)]


def test_groups_that_were_given_up() -> None:
    def program(rank: int) -> Any:
        @flambeau.compile
        def total(x: Any) -> Any:
            return f.all_reduce(x, "sum")

        first = [total(flambeau.ones(2)).tolist() for _ in range(3)]
        dist.destroy_process_group()
        dist.init_process_group()
        return first, [total(flambeau.ones(2)).tolist() for _ in range(3)]

    assert dist.spawn_local(2, program) == [([[2.0, 2.0]] * 3,) * 2] * 2


def test_a_backward_pass_that_communicates_is_recorded() -> None:
    def program(rank: int) -> Any:
        w = flambeau.ones(2, requires_grad=True)
        run = flambeau.compile(lambda x: f.all_reduce(w * x, "sum"))
        for _ in range(4):
            w.grad = None
            run(flambeau.full((2,), rank + 1.0)).sum().backward()
        return w.grad.tolist(), str(report(run)), report(run).replays

    found = dist.spawn_local(2, program)
    for rank, (grad, _, replays) in enumerate(found):
        assert grad == [2.0 * (rank + 1)] * 2
        assert not replays
    assert "its backward pass communicates with other ranks" in found[0][1]


def test_what_cannot_communicate_says_so() -> None:
    class Summed(nn.Module):
        def forward(self, x: Any) -> Any:
            return f.all_reduce(x, "sum") + 1

    def program(rank: int) -> None:
        x = flambeau.ones(2, 3)
        told = r"it communicates with other ranks \(all_reduce\)"
        with pytest.raises(flambeau.export.ExportError, match=told):
            flambeau.export.export(Summed(), (x,))
        with pytest.raises(ModError, match=told):
            flex_attention(
                *[flambeau.ones(1, 1, 4, 8)] * 3,
                score_mod=lambda score, b, h, i, j: f.all_reduce(score, "sum"),
            )
        assert f.all_reduce(x, "sum")[0, 0].item() == 2

    dist.spawn_local(2, program)


@needs_mpi
def test_on_mpi() -> None:
    ended = mpiexec(2, "compiled.py")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "the same\n"
