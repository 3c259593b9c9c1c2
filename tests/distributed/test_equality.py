"""Every form of training has the loss curve of one process; at length `tests/hosts/equality.py`."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from flambeau.distributed.groups import spawn_local
from tests.distributed.forms import FORMS, Form, Setting, curve
from tests.hosts.equality import bound, difference

pytestmark = pytest.mark.timeout(120)

SETTING = Setting(steps=4)


def on_threads(form: Form, ranks: int, setting: Setting) -> Any:
    """The curve of a form."""
    return np.sum(spawn_local(ranks, lambda rank: curve(form, setting), timeout=100), 0)


@functools.cache
def alone(form: Form) -> Any:
    """The curve of one process in float64."""
    found = on_threads(form, 1, SETTING)
    assert np.ptp(found) > 0.01
    return found


@pytest.mark.parametrize("name", FORMS)
def test_two_ranks_train_as_one_process(name: str) -> None:
    form, single = FORMS[name]
    assert difference(on_threads(form, 2, SETTING), alone(single)) < 1e-12


@pytest.mark.parametrize(
    "name", [n for n in FORMS if " x " in n or "replicated" in n or "tensor" in n]
)
def test_four_ranks_train_as_one_process(name: str) -> None:
    form, single = FORMS[name]
    assert difference(on_threads(form, 4, SETTING), alone(single)) < 1e-12


@pytest.mark.parametrize("name", ["DistributedDataParallel", "fully_shard", "tensor parallel"])
def test_float32_is_as_near_as_that_of_one_process(name: str) -> None:
    form, single = FORMS[name]
    limit = spawn_local(1, lambda rank: bound(single, SETTING, alone(single), 3))[0]
    found = on_threads(form, 2, replace(SETTING, dtype="float32"))
    assert 0 < difference(found, alone(single)) <= limit < 1e-5
