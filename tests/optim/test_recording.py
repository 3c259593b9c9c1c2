"""What training costs the recorder: one program a step, found again at every later step."""

from __future__ import annotations

from typing import Any

import pytest

import flambeau
from flambeau import nn, optim, record

MAKERS = {
    "SGD": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "Adam": lambda p: optim.Adam(p, amsgrad=True),
    "AdamW": lambda p: optim.AdamW(p),
    "RMSprop": lambda p: optim.RMSprop(p, momentum=0.5, centered=True),
    "Adagrad": lambda p: optim.Adagrad(p, lr_decay=0.1),
}


def network() -> Any:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


@pytest.mark.parametrize("name", MAKERS)
def test_a_step_is_one_program_that_is_not_compiled_again(name: str) -> None:
    net = network()
    optimizer = MAKERS[name](net.parameters())
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, 50)
    x, y = flambeau.randn(6, 4), flambeau.tensor([0, 1, 2, 0, 1, 2])

    def step() -> None:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()

    flushes = record.counters.flushes
    step()
    assert record.counters.flushes == flushes + 1, "the first step read what it had just made"
    for _ in range(3):
        step()
    compiled, flushes = record.counters.compiled, record.counters.flushes
    for _ in range(10):
        step()
    assert record.counters.compiled == compiled, "the rate or the step count was compiled in"
    assert record.counters.flushes == flushes + 10
    for p in net.parameters():
        if "step" in optimizer.state[p]:
            assert optimizer.state[p]["step"].item() == 14.0


def test_a_step_leaves_nothing_pending() -> None:
    p = nn.Parameter(flambeau.ones(3))
    p.grad = flambeau.ones(3)
    optimizer = optim.Adam([p])
    optimizer.step()
    flushes = record.counters.flushes
    assert p.tolist() == pytest.approx([0.999] * 3)
    assert optimizer.state[p]["step"].item() == 1.0
    assert record.counters.flushes == flushes


def test_evaluation_of_batch_norm_does_not_wait() -> None:
    """The running statistics are updated in the program of the step."""
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    x = flambeau.randn(5, 4)
    for _ in range(4):
        flushes = record.counters.flushes
        net(x).square().sum().backward()
        optimizer.step()
        assert record.counters.flushes == flushes + 1
    assert net[1].num_batches_tracked.item() == 4
