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
    "Adadelta": lambda p: optim.Adadelta(p, maximize=True),
    "Adamax": lambda p: optim.Adamax(p, weight_decay=0.1),
    "NAdam": lambda p: optim.NAdam(p, decoupled_weight_decay=True, weight_decay=0.1),
    "RAdam": lambda p: optim.RAdam(p),
    "Rprop": lambda p: optim.Rprop(p),
    "ASGD": lambda p: optim.ASGD(p, t0=2),
    "Adafactor": lambda p: optim.Adafactor(p),
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
    for _ in range(5):
        step()
    compiled, flushes = record.counters.compiled, record.counters.flushes
    for _ in range(10):
        step()
    assert record.counters.compiled == compiled, "the rate or the step count was compiled in"
    assert record.counters.flushes == flushes + 10
    for p in net.parameters():
        if "step" in optimizer.state[p]:
            assert optimizer.state[p]["step"].item() == 16.0


@pytest.mark.parametrize("name", [n for n in MAKERS if n != "Adafactor"])  # it has two forms
def test_a_step_is_one_node(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    params = [nn.Parameter(flambeau.randn(shape)) for shape in ((3, 2), (2,), (), (4, 1))]
    optimizer = MAKERS[name](params)
    found: list[list[str]] = []

    def look() -> None:
        found.append([n.op.name for n in record.pending_graph().nodes])

    for _ in range(8):
        for p in params:
            p.grad = flambeau.ones_like(p)
        record.flush()
        with monkeypatch.context() as patch:
            patch.setattr(record, "flush", look)
            optimizer.step()
        record.flush()
    last = [n for n in found[-1] if n not in ("input", "pick")]
    assert len(last) == 1, last


def test_parameters_that_share_memory_are_updated_one_after_another() -> None:
    whole = flambeau.ones(4)
    parts = [whole[:2].requires_grad_(), whole[1:3].requires_grad_()]
    for p in parts:
        p.grad = flambeau.ones(2)
    optim.SGD(parts, lr=0.25).step()
    assert whole.tolist() == [0.75, 0.5, 0.75, 1.0]


def test_groups_with_options_of_their_own() -> None:
    a, b = (nn.Parameter(flambeau.full((2,), 2.0)) for _ in range(2))
    for p in (a, b):
        p.grad = flambeau.ones(2)
    groups = [{"params": [a], "weight_decay": 0.5}, {"params": [b], "maximize": True, "lr": 0.5}]
    optim.SGD(groups, lr=0.25).step()
    assert a.tolist() == [1.5, 1.5]
    assert b.tolist() == [2.5, 2.5]


def test_a_count_that_is_still_to_be_read_is_not_overtaken() -> None:
    p = nn.Parameter(flambeau.ones(3))
    optimizer = optim.Adam([p])
    later = []
    for _ in range(3):
        p.grad = flambeau.ones(3)
        optimizer.step()
        later.append(optimizer.state[p]["step"] * 10)
    seen = optimizer.state[p]["step"].numpy()
    p.grad = flambeau.ones(3)
    optimizer.step()
    assert [t.item() for t in later] == [10.0, 20.0, 30.0]
    assert seen == 4.0


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
