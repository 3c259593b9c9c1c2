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
from flambeau.distributed.transport.base import Call
from flambeau.distributed.transport.local import Local
from flambeau.nn.attention.flex_attention import flex_attention
from flambeau.ops.mods import ModError
from tests.distributed.mpi import mpiexec, needs_mpi

pytestmark = pytest.mark.timeout(120)


def same(compiled: bool, fn: Callable[..., Any]) -> Any:
    """The function, compiled or not."""
    return flambeau.compile(fn) if compiled else fn


def train(rank: int, compiled: bool, calls: int = 12, wrapped: bool = False) -> Any:
    """Steps of training on parts of a batch; -> losses and weights, and how often it replayed."""
    flambeau.manual_seed(0)
    inner = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    model = nn.parallel.DistributedDataParallel(inner) if wrapped else inner
    optimizer = flambeau.optim.Adam(model.parameters(), lr=0.05)

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = ((model(x) - y) ** 2).mean()
        loss.backward()
        if not wrapped:
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
    weights = [p.detach().numpy().copy() for p in model.parameters()]
    told = report(run) if compiled else None
    return losses, weights, told.replays if told else 0, str(told)


@pytest.mark.parametrize("ranks", [2, 3])
def test_a_training_step_replays(ranks: int) -> None:
    plain = dist.spawn_local(ranks, train, False)
    compiled = dist.spawn_local(ranks, train, True)
    for (losses, weights, _, _), (found, others, replays, _) in zip(plain, compiled, strict=True):
        assert replays >= 4  # one rank that is a thread is watched at a time
        np.testing.assert_array_equal(found, losses)
        for w, other in zip(weights, others, strict=True):
            np.testing.assert_array_equal(other, w)


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
