"""Whole training steps as one replay: with what programs put into them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau import nn
from flambeau.compiler import report
from flambeau.nn import functional as F

Step = Callable[[Any, Any], Any]


def model() -> Any:
    return nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Dropout(0.1), nn.Linear(32, 4))


def with_schedule(m: Any) -> Step:
    optimizer = flambeau.optim.AdamW(m.parameters(), lr=1e-3)
    schedule = flambeau.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=100)

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(m(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(m.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        return loss

    return step


def with_autocast(m: Any) -> Step:
    optimizer = flambeau.optim.SGD(m.parameters(), lr=0.1, momentum=0.9)

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        with flambeau.autocast("cpu", dtype=flambeau.bfloat16):
            loss = F.cross_entropy(m(x), y)
        loss.backward()
        nn.utils.clip_grad_value_(m.parameters(), 0.1)
        optimizer.step()
        return loss

    return step


def with_scaler(m: Any) -> Step:
    optimizer = flambeau.optim.SGD(m.parameters(), lr=0.1)
    scaler = flambeau.amp.GradScaler("cpu", growth_interval=2)

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = F.cross_entropy(m(x), y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        return loss

    return step


def with_scaler_and_clipping(m: Any) -> Step:
    optimizer = flambeau.optim.Adam(m.parameters(), lr=1e-2)
    scaler = flambeau.amp.GradScaler("cpu", init_scale=2.0**10)

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = F.cross_entropy(m(x), y)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(m.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        return loss

    return step


def with_accumulation(m: Any) -> Step:
    optimizer = flambeau.optim.RMSprop(m.parameters(), lr=1e-3)

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        total = x.new_zeros(())
        for part, target in zip(x.chunk(2), y.chunk(2), strict=True):
            loss = F.cross_entropy(m(part), target) / 2
            loss.backward()
            total += loss.detach()
        optimizer.step()
        return total

    return step


def ran(make: Callable[[Any], Step], compiled: bool, overflow: int = -1) -> Any:
    """Losses and parameters of a few steps over a loader's batches."""
    flambeau.manual_seed(0)
    m = model()
    step = make(m)
    run = flambeau.compile(step) if compiled else step
    data = flambeau.utils.data.TensorDataset(flambeau.randn(64, 16), flambeau.randint(0, 4, (64,)))
    losses = []
    for k, (x, y) in enumerate(flambeau.utils.data.DataLoader(data, 8, shuffle=True)):
        losses.append(run(x * flambeau.inf if k == overflow else x, y).item())
    return losses, [p.detach().numpy().copy() for p in m.parameters()], run


@pytest.mark.parametrize(
    "make",
    [with_schedule, with_autocast, with_scaler, with_scaler_and_clipping, with_accumulation],
)
def test_a_step_is_one_replay(make: Callable[[Any], Step]) -> None:
    losses, parameters, _ = ran(make, False)
    found, left, step = ran(make, True)
    assert found == losses
    for a, b in zip(left, parameters, strict=True):
        np.testing.assert_array_equal(a, b)
    told = report(step)
    assert (told.replays, told.recordings, told.refused) == (6, 1, {}), str(told)


@pytest.mark.parametrize("make", [with_scaler, with_scaler_and_clipping])
def test_a_replayed_step_that_overflows_is_left_out(make: Callable[[Any], Step]) -> None:
    losses, parameters, _ = ran(make, False, overflow=5)
    found, left, step = ran(make, True, overflow=5)
    np.testing.assert_array_equal(found, losses)
    for a, b in zip(left, parameters, strict=True):
        assert np.isfinite(a).all()
        np.testing.assert_array_equal(a, b)
    assert report(step).replays == 6, str(report(step))
