"""Pipeline schedules: training is that of one process, whatever the order of micro-batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flambeau
import flambeau.nn.functional as F
from flambeau import Tensor, nn
from flambeau.distributed.groups import get_world_size, spawn_local
from flambeau.distributed.pipelining import (
    PipelineStage,
    Schedule1F1B,
    ScheduleGPipe,
    ScheduleInterleaved1F1B,
    ScheduleInterleavedZeroBubble,
    get_schedule_class,
)
from tests.distributed import training

pytestmark = pytest.mark.timeout(120)

WIDTH, BATCH, STEPS = 6, 8, 20


def layers() -> list[nn.Module]:
    """Four layers in float64, the same every time."""
    flambeau.manual_seed(4)
    return [nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh()).double() for _ in range(4)]


def batches() -> list[tuple[Tensor, Tensor]]:
    rng, size = np.random.default_rng(6), (BATCH, WIDTH)
    return [
        (flambeau.tensor(rng.normal(size=size)), flambeau.tensor(rng.normal(size=size)))
        for _ in range(STEPS)
    ]


def alone() -> tuple[list[float], list[Any]]:
    """-> losses and parameters of one process."""
    net = nn.Sequential(*layers())
    optimizer = training.optimizer_of(net.parameters())
    losses = []
    for x, y in batches():
        optimizer.zero_grad()
        loss = F.mse_loss(net(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, [p.detach().numpy() for p in net.parameters()]


def train(rank: int, kind: Any, micros: int, stages: int) -> tuple[list[float], dict[int, Any]]:
    """-> losses (on the last rank) and the parameters of this rank's stages."""
    ranks = get_world_size()
    every = layers()
    per = len(every) // stages
    mine = [
        PipelineStage(nn.Sequential(*every[k * per : (k + 1) * per]), k, stages)
        for k in range(rank, stages, ranks)
    ]
    given = mine if len(mine) > 1 else mine[0]
    runner = kind(given, micros, loss_fn=F.mse_loss)
    optimizer = training.optimizer_of([p for s in mine for p in s.submod.parameters()])
    losses = []
    for x, y in batches():
        optimizer.zero_grad()
        last = mine[-1].is_last
        parts: list[Tensor] = []
        out = runner.step(
            *([x] if mine[0].is_first else []), target=y if last else None, losses=parts
        )
        optimizer.step()
        if last:
            assert out.shape == (BATCH, WIDTH)
            losses.append(float(np.mean([p.item() for p in parts])))
    found = {s.stage_index: [p.detach().numpy() for p in s.submod.parameters()] for s in mine}
    return losses, found


@pytest.mark.parametrize(
    ("kind", "ranks", "micros", "stages"),
    [
        (ScheduleGPipe, 2, 4, 2),
        (Schedule1F1B, 2, 4, 2),
        (Schedule1F1B, 4, 4, 4),
        (Schedule1F1B, 1, 2, 1),
        (ScheduleInterleaved1F1B, 2, 4, 4),
        (ScheduleInterleavedZeroBubble, 2, 4, 2),
        (ScheduleInterleavedZeroBubble, 4, 8, 4),
    ],
)
def test_training_is_that_of_one_process(kind: Any, ranks: int, micros: int, stages: int) -> None:
    found = spawn_local(ranks, train, kind, micros, stages, timeout=100)
    losses, parameters = alone()
    given = next(f[0] for f in found if f[0])
    np.testing.assert_allclose(given, losses, atol=1e-5)
    by_stage = {k: v for f in found for k, v in f[1].items()}
    flat = [p for k in sorted(by_stage) for p in by_stage[k]]
    for got, want in zip(flat, parameters, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5)


def test_results_without_a_loss() -> None:
    def fn(rank: int) -> Any:
        stage = PipelineStage(layers()[rank], rank, 2)
        runner = ScheduleGPipe(stage, 2)
        x = flambeau.ones(4, WIDTH, dtype=flambeau.float64)
        out = runner.step(*([x] if rank == 0 else []))
        assert not stage.kept
        return None if out is None else out.numpy()

    found = spawn_local(2, fn)
    assert found[0] is None
    first, second = layers()[:2]
    want = second(first(flambeau.ones(4, WIDTH, dtype=flambeau.float64))).detach().numpy()
    np.testing.assert_allclose(found[1], want, atol=1e-12)


def test_several_tensors_go_from_stage_to_stage() -> None:
    class Two(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
            return a * 2 + b, b

    class Sum(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return a + b.sum()

    def fn(rank: int) -> Any:
        runner = Schedule1F1B(PipelineStage(Sum() if rank else Two(), rank, 2), 1)
        x = flambeau.arange(3.0)
        out = runner.step(*([] if rank else [x, flambeau.ones(3)]))
        return None if out is None else out.tolist()

    assert spawn_local(2, fn)[1] == [4.0, 6.0, 8.0]


def test_what_cannot_be_is_refused() -> None:
    def wrong_rank(rank: int) -> None:
        PipelineStage(nn.ReLU(), 0, 2)

    with pytest.raises(ValueError, match="is on rank 0 of 2, not on rank 1"):
        spawn_local(2, wrong_rank)

    def uneven(rank: int) -> None:
        runner = ScheduleGPipe(PipelineStage(nn.ReLU(), 0, 1), 3)
        runner.step(flambeau.ones(4, 2))

    with pytest.raises(ValueError, match="cannot be cut into 3"):
        spawn_local(1, uneven)
    assert get_schedule_class("1f1b") is Schedule1F1B
    with pytest.raises(ValueError, match="Unknown schedule"):
        get_schedule_class("2f2b")
