"""Schedules follow their closed forms, together and one after the other."""

from __future__ import annotations

import copy
import gc
import math
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import flambeau
from flambeau import optim
from flambeau.optim import lr_scheduler

BASES = [0.1, 0.4]
SMALL = 1e-3


def make_optimizer(**options: Any) -> Any:
    groups = [{"params": [flambeau.zeros(1)], "lr": lr} for lr in BASES]
    return optim.SGD(groups, momentum=0.9, **options)


def rates(optimizer: Any) -> list[float]:
    return [group["lr"] for group in optimizer.param_groups]


def cosine(n: int, start: float, end: float, length: int) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * n / length)) / 2


FORMS: dict[str, tuple[Callable[[Any], Any], Callable[[int, float], float]]] = {
    "LambdaLR": (
        lambda o: lr_scheduler.LambdaLR(o, lambda n: 1 / (n + 1)),
        lambda n, lr: lr / (n + 1),
    ),
    "MultiplicativeLR": (
        lambda o: lr_scheduler.MultiplicativeLR(o, lambda n: n / (n + 1)),
        lambda n, lr: lr / (n + 1),
    ),
    "StepLR": (lambda o: lr_scheduler.StepLR(o, 3, 0.5), lambda n, lr: lr * 0.5 ** (n // 3)),
    "MultiStepLR": (
        lambda o: lr_scheduler.MultiStepLR(o, [2, 5, 5], 0.5),
        lambda n, lr: lr * 0.5 ** ((n >= 2) + 2 * (n >= 5)),
    ),
    "ConstantLR": (
        lambda o: lr_scheduler.ConstantLR(o, 0.5, 4),
        lambda n, lr: lr * (0.5 if n < 4 else 1),
    ),
    "LinearLR": (
        lambda o: lr_scheduler.LinearLR(o, 0.1, 0.7, 6),
        lambda n, lr: lr * (0.1 + 0.6 * min(n, 6) / 6),
    ),
    "ExponentialLR": (lambda o: lr_scheduler.ExponentialLR(o, 0.8), lambda n, lr: lr * 0.8**n),
    "PolynomialLR": (
        lambda o: lr_scheduler.PolynomialLR(o, 10, 2.0),
        lambda n, lr: lr * (1 - min(n, 10) / 10) ** 2,
    ),
    "CosineAnnealingLR": (
        lambda o: lr_scheduler.CosineAnnealingLR(o, 7, SMALL),
        lambda n, lr: cosine(n, lr, SMALL, 7),
    ),
    "CosineAnnealingWarmRestarts": (
        lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 4, 2, SMALL),
        lambda n, lr: (
            cosine(n, lr, SMALL, 4)
            if n < 4
            else cosine(n - 4, lr, SMALL, 8)
            if n < 12
            else cosine(n - 12, lr, SMALL, 16)
        ),
    ),
    "CyclicLR": (
        lambda o: lr_scheduler.CyclicLR(o, BASES, 1.0, 3, 2),
        lambda n, lr: lr + (1 - lr) * (n % 5 / 3 if n % 5 <= 3 else (5 - n % 5) / 2),
    ),
    "SequentialLR": (
        lambda o: lr_scheduler.SequentialLR(
            o, [lr_scheduler.LinearLR(o, 0.5, 1.0, 4), lr_scheduler.ExponentialLR(o, 0.5)], [4]
        ),
        lambda n, lr: lr * (0.5 + n / 8) if n < 4 else lr * 0.5 ** (n - 4),
    ),
    "ChainedScheduler": (
        lambda o: lr_scheduler.ChainedScheduler(
            [lr_scheduler.ConstantLR(o, 0.5, 4), lr_scheduler.ExponentialLR(o, 0.5)]
        ),
        lambda n, lr: lr * (0.5 if n < 4 else 1) * 0.5**n,
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_closed_form(name: str) -> None:
    build, form = FORMS[name]
    optimizer = make_optimizer()
    schedule = build(optimizer)
    for n in range(16):
        want = [form(n, lr) for lr in BASES]
        assert rates(optimizer) == pytest.approx(want, rel=1e-9, abs=1e-12), n
        assert schedule.get_last_lr() == rates(optimizer)
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize("name", FORMS)
def test_resuming(name: str) -> None:
    build, _ = FORMS[name]
    optimizer, other = make_optimizer(), make_optimizer()
    schedule, resumed = build(optimizer), build(other)
    for _ in range(5):
        optimizer.step()
        schedule.step()
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    resumed.load_state_dict(copy.deepcopy(schedule.state_dict()))
    for _ in range(8):
        for o, s in ((optimizer, schedule), (other, resumed)):
            o.step()
            s.step()
        assert rates(optimizer) == rates(other)


def test_one_cycle() -> None:
    optimizer = make_optimizer()
    schedule = lr_scheduler.OneCycleLR(optimizer, [1.0, 2.0], total_steps=20, pct_start=0.25)
    seen = [(rates(optimizer)[0], optimizer.param_groups[0]["momentum"])]
    for _ in range(19):
        optimizer.step()
        schedule.step()
        seen.append((rates(optimizer)[0], optimizer.param_groups[0]["momentum"]))
    assert seen[0] == pytest.approx((1 / 25, 0.95))
    assert seen[4] == pytest.approx((1.0, 0.85))
    assert seen[19] == pytest.approx((1 / 25 / 1e4, 0.95))
    assert [lr for lr, _ in seen[:5]] == sorted(lr for lr, _ in seen[:5])
    assert [lr for lr, _ in seen[4:]] == sorted((lr for lr, _ in seen[4:]), reverse=True)
    schedule.step()
    with pytest.raises(ValueError, match=r"Tried to step 21 times\. The specified number"):
        schedule.step()


def test_cycles_move_betas_of_adam() -> None:
    optimizer = optim.Adam([flambeau.zeros(1)], betas=(0.9, 0.99))
    schedule = lr_scheduler.CyclicLR(optimizer, 0.1, 0.2, 4)
    assert optimizer.param_groups[0]["betas"] == (0.9, 0.99)
    optimizer.step()
    schedule.step()
    assert optimizer.param_groups[0]["betas"] == pytest.approx((0.875, 0.99))


def test_plateau() -> None:
    optimizer = make_optimizer()
    schedule = lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.1, patience=1, cooldown=2, min_lr=0.02
    )
    for metric in (1.0, 0.5, 0.6, flambeau.tensor(0.49999)):
        schedule.step(metric)
    assert rates(optimizer) == pytest.approx([0.02, 0.04]), "too little is no improvement"
    for metric in (0.7, 0.7, 0.7):
        schedule.step(metric)
        assert rates(optimizer) == pytest.approx([0.02, 0.04])
    schedule.step(0.7)
    assert rates(optimizer) == pytest.approx([0.02, 0.02])
    with pytest.raises(ValueError, match="mode middle is unknown!"):
        lr_scheduler.ReduceLROnPlateau(optimizer, "middle")


def test_hand_made_changes_are_kept() -> None:
    optimizer = make_optimizer()
    schedule = lr_scheduler.ExponentialLR(optimizer, 0.5)
    optimizer.param_groups[0]["lr"] = 8.0
    optimizer.step()
    schedule.step()
    assert rates(optimizer) == [4.0, 0.2]


def test_tensor_rates_are_changed_in_place() -> None:
    rate = flambeau.tensor(0.5)
    optimizer = optim.SGD([flambeau.zeros(1)], lr=rate)
    schedule = lr_scheduler.StepLR(optimizer, 1, 0.5)
    optimizer.step()
    schedule.step()
    assert optimizer.param_groups[0]["lr"] is rate
    assert rate.item() == 0.25
    assert schedule.get_last_lr()[0].item() == 0.25


def test_order_of_steps() -> None:
    schedule = lr_scheduler.StepLR(make_optimizer(), 2)
    with pytest.warns(UserWarning, match=r"before `optimizer\.step\(\)`"):
        schedule.step()
    with pytest.warns(UserWarning, match=r"please use `get_last_lr\(\)`"):
        schedule.get_lr()
    with pytest.warns(UserWarning, match="epoch parameter"):
        schedule.step(7)
    assert schedule.get_last_lr() == pytest.approx([0.1**4, 0.4 * 0.1**3])


def test_callable_objects_keep_their_attributes() -> None:
    class Decay:
        def __init__(self, rate: float) -> None:
            self.rate = rate

        def __call__(self, n: int) -> float:
            return self.rate**n

    schedule = lr_scheduler.LambdaLR(make_optimizer(), [Decay(0.5), lambda n: 1.0])
    state = schedule.state_dict()
    assert state["lr_lambdas"] == [{"rate": 0.5}, None]
    other = lr_scheduler.LambdaLR(make_optimizer(), [Decay(0.9), lambda n: 1.0])
    other.load_state_dict(state)
    assert other.lr_lambdas[0].rate == 0.5


def test_optimizers_are_freed() -> None:
    optimizer = make_optimizer()
    schedule = lr_scheduler.StepLR(optimizer, 2)
    gone = weakref.ref(optimizer)
    del optimizer, schedule
    gc.collect()
    assert gone() is None


def test_misfits() -> None:
    optimizer = make_optimizer()
    with pytest.raises(TypeError, match="Tensor is not an Optimizer"):
        lr_scheduler.StepLR(flambeau.zeros(1), 2)
    with pytest.raises(KeyError, match="'initial_lr' is not specified in param_groups"):
        lr_scheduler.StepLR(optimizer, 2, last_epoch=3)
    step = lr_scheduler.StepLR(optimizer, 2)
    with pytest.raises(ValueError, match="expects all schedulers to belong to the same optimizer"):
        lr_scheduler.ChainedScheduler([step, lr_scheduler.StepLR(make_optimizer(), 2)])
    with pytest.raises(ValueError, match="does not support `ReduceLROnPlateau`"):
        lr_scheduler.SequentialLR(optimizer, [lr_scheduler.ReduceLROnPlateau(optimizer)], [])
    with pytest.raises(ValueError, match="Expected 2 lr_lambdas, but got 1"):
        lr_scheduler.LambdaLR(optimizer, [abs])
