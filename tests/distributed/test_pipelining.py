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
    ScheduleDualPipeV,
    ScheduleGPipe,
    ScheduleInterleaved1F1B,
    ScheduleInterleavedZeroBubble,
    ScheduleLoopedBFS,
    ScheduleZBVZeroBubble,
    SplitPoint,
    get_schedule_class,
    pipe_split,
    pipeline,
)
from flambeau.distributed.pipelining.microbatch import TensorChunkSpec
from flambeau.distributed.pipelining.schedules import _PipelineScheduleRuntime
from flambeau.distributed.schedules import V_SCHEDULES, placement
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
        for k in placement(kind.name, ranks, stages // ranks)[rank]
    ]
    given = mine if len(mine) > 1 else mine[0]
    runner = kind(given, micros, loss_fn=F.mse_loss)
    optimizer = training.optimizer_of([p for s in mine for p in s.submod.parameters()])
    losses = []
    for x, y in batches():
        optimizer.zero_grad()
        last = any(stage.is_last for stage in mine)
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
        (ScheduleInterleavedZeroBubble, 2, 4, 4),
        (ScheduleInterleaved1F1B, 2, 2, 4),
        (ScheduleInterleaved1F1B, 1, 2, 4),
        (ScheduleLoopedBFS, 2, 4, 4),
        (ScheduleZBVZeroBubble, 2, 4, 4),
        (ScheduleZBVZeroBubble, 2, 2, 4),
        (ScheduleZBVZeroBubble, 1, 2, 2),
        (ScheduleDualPipeV, 2, 8, 4),
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
        ScheduleGPipe(PipelineStage(nn.ReLU(), 0, 2), 2)

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


class Skipping(nn.Module):
    """A value goes past a stage, a number comes from a shape, and a stage has its own tensors."""

    def __init__(self) -> None:
        super().__init__()
        flambeau.manual_seed(5)
        self.blocks = nn.ModuleList(layers()[:3])
        self.bias = nn.Parameter(flambeau.randn(WIDTH, dtype=flambeau.float64))
        self.drop = nn.Dropout(0.0)

    def forward(self, x: Tensor, scale: Tensor, shift: Any = None) -> Tensor:
        count = x.shape[1]
        first = self.blocks[0](x)
        second = self.drop(self.blocks[1](first) + self.bias)
        third = self.blocks[2](second) + first * scale
        return third / count if shift is None else third + shift


class Marked(Skipping):
    """The same with marks in its code."""

    def forward(self, x: Tensor, scale: Tensor, shift: Any = None) -> Tensor:
        first = self.blocks[0](x)
        pipe_split()
        second = self.drop(self.blocks[1](first) + self.bias)
        pipe_split()
        return (self.blocks[2](second) + first * scale) / x.shape[1]


SPLITS = {
    "blocks.1": SplitPoint.BEGINNING,
    "drop": SplitPoint.END,
}


@pytest.mark.parametrize("kind", [Skipping, Marked])
def test_a_model_is_cut_into_stages(kind: Any) -> None:
    rng = np.random.default_rng(7)
    x, scale, y = (flambeau.tensor(rng.normal(size=(BATCH, WIDTH))) for _ in range(3))
    whole = kind()
    F.mse_loss(whole(x, scale=scale), y).backward()

    def fn(rank: int) -> Any:
        net = kind()
        spec = SPLITS if kind is Skipping else None
        pipe = pipeline(net, (x[:2],), {"scale": scale[:2]}, split_spec=spec)
        assert pipe.num_stages == pipe.info().num_stages == 3
        np.testing.assert_array_equal(pipe(x, scale).tolist(), whole(x, scale).tolist())
        runner = ScheduleGPipe(pipe.build_stage(rank), 4, loss_fn=F.mse_loss)
        named: Any = {"scale": scale} if rank == 0 else {}
        runner.step(*([x] if rank == 0 else []), target=y if rank == 2 else None, **named)
        grads = {n: p.grad for n, p in pipe.get_stage_module(rank).named_parameters()}
        return {n: g.numpy() for n, g in grads.items()}

    found = {n: g for part in spawn_local(3, fn) for n, g in part.items()}
    wanted = {n: p.grad.numpy() for n, p in whole.named_parameters()}
    assert found.keys() == wanted.keys()
    for name, grad in wanted.items():
        np.testing.assert_allclose(found[name], grad, atol=1e-12)


def test_cuts_that_cannot_be_are_refused() -> None:
    net, x = nn.Sequential(nn.Linear(2, 2), nn.ReLU()), flambeau.ones(1, 2)
    with pytest.raises(ValueError, match="no submodule is called '7'"):
        pipeline(net, (x,), split_spec={"7": SplitPoint.END})
    tied = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    tied[1].weight = tied[0].weight
    with pytest.raises(
        NotImplementedError, match=r"'1\.weight' of stage 1 is '0\.weight' of stage 0"
    ):
        pipeline(tied, (x,), split_spec={"1": SplitPoint.BEGINNING})


def test_a_table_from_a_file(tmp_path: Any) -> None:
    text = "0F0,0F1,3F0,(0F2;3I0)OVERLAP_F_B,3W0,3F1,3B1,0B0,0F3,3F2,3B2,3F3,3B3,0B1,0B2,0B3\n"
    text += ",1F0,1SEND_F0,2F0,1F1,2F1,2B0,1B0,1F2,2F2,2B1,1B1,1F3,2F3,2B2,1B2,2B3,1I3,1W3\n"
    (tmp_path / "table.csv").write_text(text)
    want = nn.Sequential(*layers())
    x, y = batches()[0]
    F.mse_loss(want(x), y).backward()

    def fn(rank: int) -> Any:
        mine = [PipelineStage(layers()[k], k, 4) for k in (rank, 3 - rank)]
        runner = _PipelineScheduleRuntime(mine, 4, loss_fn=F.mse_loss)
        runner._load_csv(str(tmp_path / "table.csv"), format="compute_comms")
        runner._dump_csv(str(tmp_path / f"again{rank}.csv"))
        runner._load_csv(str(tmp_path / f"again{rank}.csv"))
        runner.step(*([x] if rank == 0 else []), target=y if rank == 0 else None)
        return {s.stage_index: [p.grad.numpy() for p in s.submod.parameters()] for s in mine}

    found = {k: v for part in spawn_local(2, fn) for k, v in part.items()}
    for k in range(4):
        for got, p in zip(found[k], want[k].parameters(), strict=True):
            np.testing.assert_allclose(got, p.grad.numpy(), atol=1e-12)
    (tmp_path / "table.csv").write_text("0F0,what")
    with pytest.raises(RuntimeError, match="Invalid action string: what"):
        spawn_local(2, fn)


def test_losses_alone_and_inputs_cut_otherwise() -> None:
    x, y = batches()[0]

    def fn(rank: int) -> Any:
        net = layers()[0]
        spec = (TensorChunkSpec(1),)

        class Turned(nn.Module):
            def forward(self, t: Tensor) -> Any:
                return net(t.t())

        runner = ScheduleGPipe(
            PipelineStage(Turned(), 0, 1), 2, loss_fn=F.mse_loss, args_chunk_spec=spec
        )
        losses: list[Tensor] = []
        out = runner.eval(x.t(), target=y, losses=losses)
        assert all(p.grad is None for p in net.parameters())
        return out.numpy(), [part.item() for part in losses]

    out, losses = spawn_local(1, fn)[0]
    want = layers()[0](x)
    np.testing.assert_allclose(out, want.detach().numpy())
    np.testing.assert_allclose(np.mean(losses), F.mse_loss(want, y).item())


def test_names_of_schedules() -> None:
    assert get_schedule_class("ZBVZeroBubble") is ScheduleZBVZeroBubble
    assert {ScheduleZBVZeroBubble.name, ScheduleDualPipeV.name} == set(V_SCHEDULES)
