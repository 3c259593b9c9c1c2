"""Averaged models and their schedule are torch's."""

from __future__ import annotations

from typing import Any

import pytest

import flambeau
from tests.parity.same import Library, array, both, fill, given

torch = pytest.importorskip("torch")

FORMS: dict[str, Any] = {
    "mean": lambda u: {},
    "mean of buffers": lambda u: {"use_buffers": True},
    "decaying": lambda u: {"avg_fn": u.get_ema_avg_fn(0.9)},
    "decaying lists": lambda u: {"multi_avg_fn": u.get_ema_multi_avg_fn(0.9), "use_buffers": True},
    "mean by function": lambda u: {"avg_fn": u.get_swa_avg_fn()},
    "mean by lists": lambda u: {"multi_avg_fn": u.get_swa_multi_avg_fn()},
}


@pytest.mark.parametrize("form", FORMS)
def test_averages(form: str) -> None:
    def program(lib: Library) -> Any:
        module = lib.nn.Sequential(lib.nn.Linear(3, 4), lib.nn.BatchNorm1d(4))
        fill(module, lib)
        average = lib.optim.swa_utils.AveragedModel(module, **FORMS[form](lib.optim.swa_utils))
        optimizer = lib.optim.SGD(module.parameters(), lr=0.1)
        data = [given(lib, array((8, 3), k)) for k in range(4)]
        for x in data:
            optimizer.zero_grad()
            module(x).square().mean().backward()
            optimizer.step()
            average.update_parameters(module)
        found = [dict(average.state_dict()), average(data[0])]
        lib.optim.swa_utils.update_bn([(x, 1) for x in data], average)
        average.eval()
        return [*found, dict(average.state_dict()), average(data[0])]

    both(program)


@pytest.mark.parametrize("strategy", ["cos", "linear"])
@pytest.mark.parametrize("epochs", [0, 1, 4])
def test_schedule(strategy: str, epochs: int) -> None:
    def program(lib: Library) -> Any:
        params = [given(lib, array((2,)), grad=True) for _ in range(2)]
        groups = [{"params": [params[0]]}, {"params": [params[1]], "lr": 0.5}]
        optimizer = lib.optim.SGD(groups, lr=0.1)
        schedule = lib.optim.swa_utils.SWALR(optimizer, [0.05, 0.01], epochs, strategy)
        rates = []
        for _ in range(7):
            optimizer.step()
            schedule.step()
            rates.append(list(schedule.get_last_lr()))
        return [rates, sorted(k for k in schedule.state_dict() if k != "_is_initial")]

    both(program)


def test_mistakes() -> None:
    utils = flambeau.optim.swa_utils
    with pytest.raises(ValueError, match="decay"):
        utils.get_ema_avg_fn(1.5)
    with pytest.raises(AssertionError, match="Only one"):
        utils.AveragedModel(
            flambeau.nn.Linear(1, 1), avg_fn=utils.get_swa_avg_fn(),
            multi_avg_fn=utils.get_swa_multi_avg_fn(),
        )  # fmt: skip
    optimizer = flambeau.optim.SGD([flambeau.zeros(1)], lr=0.1)
    with pytest.raises(ValueError, match="anneal_strategy"):
        utils.SWALR(optimizer, 0.1, anneal_strategy="other")
    with pytest.raises(ValueError, match="anneal_epochs"):
        utils.SWALR(optimizer, 0.1, anneal_epochs=-1)
