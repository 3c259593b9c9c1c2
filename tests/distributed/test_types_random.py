"""Random programs of typed values: what is not refused has the gradient that differences of the
program of all ranks have."""

from __future__ import annotations

import functools
import random
from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau.distributed.groups import spawn_local
from flambeau.distributed.mesh import init_device_mesh
from flambeau.distributed.spmd import (
    I,
    P,
    R,
    SpmdTypeError,
    V,
    all_gather,
    all_reduce,
    assert_type,
    convert,
    reduce_scatter,
    reinterpret,
    spmd,
    type_of,
)

pytestmark = pytest.mark.timeout(120)
TYPES = {"R": R, "I": I, "V": V}

#: What a step may do with two values.
STEPS: list[Any] = [
    lambda a, b: a.tanh(),
    lambda a, b: -a,
    lambda a, b: a + b,
    lambda a, b: a - b,
    lambda a, b: a * b,
    lambda a, b: a * 2.5,
    lambda a, b: a.flip(0),
    lambda a, b: a + a.sum() * 0.3,
    lambda a, b: (a * 0.1).exp(),
    lambda a, b: all_reduce(a, "tp", dst=R),
    lambda a, b: all_reduce(a, "tp", dst=I),
    lambda a, b: convert(a, "tp", src=I, dst=R),
    lambda a, b: convert(a, "tp", src=R, dst=P),
    lambda a, b: reinterpret(a, "tp", src=V, dst=P),
    lambda a, b: reinterpret(a, "tp", src=R, dst=V),
    lambda a, b: reinterpret(a, "tp", src=R, dst=P),
    lambda a, b: all_gather(a, "tp", dst=R).reshape(2, 4).sum(0),
    lambda a, b: all_gather(a, "tp", dst=I).reshape(2, 4).sum(0),
    lambda a, b: flambeau.cat([reduce_scatter(a, "tp")] * 2),
]


def program(seed: int, shift: float, backward: bool, rank: int) -> tuple[Any, float, int]:
    """A rank's part of a random program, whose parameters are moved along a random direction.

    Returns:
        The type of the loss; its value or, backward, this rank's part of its derivative along the
        direction; and how many steps were refused.
    """
    draw, rng = random.Random(seed), np.random.default_rng(seed)
    mesh = init_device_mesh("cpu", (2,), mesh_dim_names=("tp",))
    parameters, refused = [], 0
    with spmd(mesh):
        for _ in range(3):
            word = draw.choice("RIVV")
            at, along = rng.normal(size=(2, 2, 4))[:, rank if word == "V" else 0]
            p = flambeau.tensor(at + shift * along).requires_grad_()
            assert_type(p, {"tp": TYPES[word]})
            parameters.append((word, p, along))
        values = [p for _, p, _ in parameters]
        for _ in range(draw.randint(3, 8)):
            step, a, b = draw.choice(STEPS), draw.choice(values), draw.choice(values)
            try:
                values.append(step(a, b))
            except SpmdTypeError:
                refused += 1
        out = values[-1]
        loss = out[0] * 1.5 - out[1] * 2 + out[2] * 0.5 + out[3] * 0.7
        found = type_of(loss)["tp"]
        if found == R:
            loss, found = convert(loss, "tp", src=R, dst=P), P
        elif found.word == "Varying":
            loss, found = reinterpret(loss, "tp", src=found, dst=P), P
        if not backward:
            return found, loss.item(), refused
        loss.backward()
    total = 0.0
    for word, p, along in parameters:
        if p.grad is not None and (word != "I" or rank == 0):  # of I every rank has all
            total += float((p.grad.numpy() * along).sum())
    return found, total, refused


def test_what_is_not_refused_has_the_right_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLAMBEAU_TARGET", "interpret")  # types are tested, not the compiler
    step, refused = 1e-6, 0
    for seed in range(60):

        def whole(shift: float, seed: int = seed) -> float:
            parts = spawn_local(2, functools.partial(program, seed, shift, False))
            return parts[0][1] if parts[0][0] == I else parts[0][1] + parts[1][1]

        difference = (whole(step) - whole(-step)) / (2 * step)
        parts = spawn_local(2, functools.partial(program, seed, 0.0, True))
        refused += parts[0][2]
        derivative = sum(part[1] for part in parts)
        assert derivative == pytest.approx(difference, rel=1e-5, abs=1e-5), f"seed {seed}"
    assert refused > 60  # the programs are not all harmless
