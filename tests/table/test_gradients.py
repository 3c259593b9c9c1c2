"""Derivatives of every row agree with finite differences in float64, of first and second order."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import flambeau
from flambeau import record
from flambeau.ops.rows import ROWS
from tests.table import cases

STEP = 1e-5


def _differentiable(name: str) -> bool:
    row = ROWS[name]
    return row.differentiable and row.gradcheck


NAMES = [name for name in cases.SAMPLED if _differentiable(name)]


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    """Samples in float64."""
    flambeau.set_default_dtype(flambeau.float64)
    yield
    flambeau.set_default_dtype(flambeau.float32)


def _slopes(name: str, moved: frozenset[int], step: float) -> tuple[list, list, list]:
    """-> (each call's scalar, its gradients' inner products with the directions, moved leaves)."""
    draw = cases.Draw(flambeau.float64, grad=True, step=step, moved=moved)
    calls = cases.calls(name, draw)
    totals = [cases.weighted(call()) for call in calls]
    live = [t for t in totals if t is not None]
    if not live:
        return [], [], []
    total = sum(live[1:], live[0])
    grads = _grads(total, draw.leaves, create_graph=True)
    slopes = []
    for k, g in enumerate(grads):
        if g is not None:
            slopes.append((k, (g * flambeau.tensor(draw.direction(k))).sum()))
    return live, slopes, draw.leaves


def _grads(total: flambeau.Tensor, leaves: list, **options: bool) -> list:
    """The gradient of each leaf, None of those that have none."""
    asked = [t for t in leaves if t.requires_grad]
    found = iter(flambeau.autograd.grad(total, asked, allow_unused=True, **options))
    return [next(found) if t.requires_grad else None for t in leaves]


def _difference(above: float, below: float) -> float:
    return (above - below) / (2 * STEP)


def _close(found: float, wanted: float, scale: float) -> bool:
    return bool(abs(found - wanted) <= 2e-6 * max(1.0, abs(wanted), scale))


@pytest.mark.parametrize("name", NAMES)
def test_gradients_agree_with_finite_differences(name: str) -> None:
    live, slopes, _ = _slopes(name, frozenset(), 0.0)
    if not slopes:
        pytest.skip("no sample has a derivative")
    found = sum(s.item() for _, s in slopes)
    moved = frozenset(k for k, _ in slopes)
    scale = max(abs(t.item()) for t in live)
    values = []
    for step in (STEP, -STEP):
        draw = cases.Draw(flambeau.float64, step=step, moved=moved, grad=True)
        with flambeau.no_grad():
            results = [call() for call in cases.calls(name, draw)]
        kept = [[cases.pairs(t) for t in r if t.dtype.category >= 2] for r in results]
        sums = []
        for ts in kept:
            for k, t in enumerate(ts):
                weights = np.cos(np.arange(t.numel()) * 1.3 + k).reshape(tuple(t.shape))
                sums.append((t.double() * flambeau.tensor(weights)).sum())
        values.append(sum(s.item() for s in sums))
    wanted = _difference(*values)
    assert _close(found, wanted, scale), f"{found}, by differences {wanted}"


@pytest.mark.parametrize("name", NAMES)
def test_second_derivatives_agree_with_finite_differences(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLAMBEAU_TARGET", "interpret")  # the rules are tested, not the compiler
    record.flush()
    record.clear_programs()
    try:
        _, slopes, leaves = _slopes(name, frozenset(), 0.0)
        curved = [s for _, s in slopes if s.requires_grad]
        if not curved:
            pytest.skip("the derivative is constant")
        total = sum(curved[1:], curved[0])
        draw = cases.Draw(flambeau.float64)
        draw.leaves = leaves
        seconds = _grads(total, leaves)
        moved = frozenset(k for k, g in enumerate(seconds) if g is not None)
        found = sum((g * flambeau.tensor(draw.direction(k))).sum().item()
                    for k, g in enumerate(seconds) if g is not None)  # fmt: skip
        values, scale = [], 1.0
        for step in (STEP, -STEP):
            _, near, _ = _slopes(name, moved, step)
            values.append(sum(s.item() for _, s in near))
            scale = max(scale, *(abs(s.item()) for _, s in near))
        wanted = _difference(*values)
        assert _close(found, wanted, scale), f"{found}, by differences {wanted}"
    finally:
        record.clear_programs()
