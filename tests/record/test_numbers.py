"""Numbers are arguments of programs: what varies from step to step compiles nothing anew
(rule 5)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau import record


def compiled_by(program: Any) -> int:
    """Programs that were compiled meanwhile."""
    record.flush()
    before = record.counters.compiled
    program()
    record.flush()
    return record.counters.compiled - before


def test_another_float_is_the_same_program() -> None:
    x = flambeau.arange(7.0)
    x.numpy()
    assert (x * 3.5).tolist() == [3.5 * k for k in range(7)]

    def program() -> None:
        for factor in (3.25, 17.0, -4.75, 1e-7, 3.0):
            np.testing.assert_allclose((x * factor).numpy(), np.arange(7.0) * factor, rtol=1e-6)

    assert compiled_by(program) == 0


def test_another_integer_is_the_same_program() -> None:
    x = flambeau.arange(7)
    x.numpy()
    (x + 11).tolist()

    def program() -> None:
        for k in (3, 5, 123_456_789_012, -4):
            assert (x + k).tolist() == [k + i for i in range(7)]

    assert compiled_by(program) == 0


def test_special_numbers_are_values_too() -> None:
    x = flambeau.arange(5.0)
    for k in (0.0, 1.0, -1.0, 2.0, 0.5, 0.0, float("inf")):
        with np.errstate(invalid="ignore"):
            np.testing.assert_array_equal((x * k + k).numpy(), np.arange(5.0) * k + k)


def test_whole_exponents_are_compiled_in() -> None:
    x = flambeau.arange(5.0)
    assert (x**3).tolist() == [0.0, 1.0, 8.0, 27.0, 64.0]
    assert (x**4).tolist() == [0.0, 1.0, 16.0, 81.0, 256.0]
    (x**2.5).tolist()
    assert compiled_by(lambda: (x**2.75).tolist()) == 0


OPTIMIZERS = {
    "sgd": lambda ps: flambeau.optim.SGD(ps, lr=0.1, momentum=0.9, weight_decay=0.01),
    "adam": lambda ps: flambeau.optim.Adam(ps, lr=0.01, weight_decay=0.02),
    "adamw": lambda ps: flambeau.optim.AdamW(ps, lr=0.01),
    "rmsprop": lambda ps: flambeau.optim.RMSprop(ps, lr=0.01, momentum=0.5),
    "adagrad": lambda ps: flambeau.optim.Adagrad(ps, lr=0.01, lr_decay=0.1),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_step_counts_and_schedules(name: str) -> None:
    """The third step of training compiles nothing, whatever the learning rate has become."""
    weights = [flambeau.randn(4, 3, requires_grad=True), flambeau.randn(3, requires_grad=True)]
    optimizer = OPTIMIZERS[name](weights)
    schedule = flambeau.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)
    x = flambeau.randn(5, 4)

    def step() -> float:
        optimizer.zero_grad()
        loss = ((x @ weights[0] + weights[1]) ** 2).mean()
        loss.backward()
        optimizer.step()
        schedule.step()
        return loss.item()

    first = [step() for _ in range(3)]
    later: list[float] = []
    assert compiled_by(lambda: later.extend(step() for _ in range(12))) == 0
    assert later[-1] < first[0]


def test_dropout_of_every_step_is_one_program() -> None:
    x = flambeau.ones(1000)
    found = [flambeau.nn.functional.dropout(x, 0.3).sum().item() for _ in range(2)]

    def program() -> None:
        found.extend(flambeau.nn.functional.dropout(x, 0.3).sum().item() for _ in range(5))

    assert compiled_by(program) == 0
    assert len(set(found)) > 4


def test_the_same_step_has_the_same_key() -> None:
    x = flambeau.ones(4)
    x.numpy()
    hits = record.counters.hits
    for _ in range(3):
        ((x + 1.5) * 2.5).sum().item()
    assert record.counters.hits >= hits + 2
