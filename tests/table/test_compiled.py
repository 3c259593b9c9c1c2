"""Compiled programs compute what the IR means in NumPy: every row, sample and dtype."""

from __future__ import annotations

from typing import Any

import pytest

import flambeau
from flambeau.ops.rows import ROWS
from tests.table import cases


@pytest.mark.parametrize("name", cases.SAMPLED)
def test_compiled_agrees_with_interpreted(name: str) -> None:
    made: list[tuple[str, str, Any]] = []
    for kind in cases.ALL:
        try:
            calls = cases.calls(name, cases.Draw(kind))
        except cases.REFUSALS:  # a sample's own arithmetic does not take the dtype
            if kind is flambeau.float32:
                raise
            continue
        for call in calls if kind in cases.FLOATS[:2] else calls[:2]:
            try:
                made += [(f"{call} of {kind.name}", kind.name, t) for t in call()]
            except cases.REFUSALS:
                if kind is flambeau.float32:
                    raise
    wanted = cases.interpreted([t for *_, t in made])
    problems = []
    for label, dtype, t in made:
        if id(t._cell) in wanted:
            coarse = max(dtype, t.dtype.name, key=lambda d: cases.TOLERANCE.get(d, 0.0))
            problem = cases.difference(cases.cell_values(t), wanted[id(t._cell)], coarse)
            if problem is not None:
                problems.append(f"{label}: {problem}")
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("name", [n for n in cases.SAMPLED if ROWS[n].differentiable])
def test_compiled_gradients_agree_with_interpreted(name: str) -> None:
    found = []
    for kind in (flambeau.float32, flambeau.bfloat16):
        draw = cases.Draw(kind, grad=True)
        calls = cases.calls(name, draw)[:2]
        for call in calls:
            try:
                total = cases.weighted(call())
            except cases.REFUSALS:  # compared without gradients above
                continue
            if total is None:
                continue
            leaves = [t for t in draw.leaves if t.requires_grad]
            grads = flambeau.autograd.grad(total, leaves, allow_unused=True, retain_graph=True)
            found += [(f"{call} of {kind.name}", kind.name, g) for g in grads if g is not None]
    wanted = cases.interpreted([g for *_, g in found])
    problems = []
    for label, coarse, g in found:
        if id(g._cell) in wanted:
            problem = cases.difference(cases.cell_values(g), wanted[id(g._cell)], coarse, 3)
            if problem is not None:
                problems.append(f"{label}: {problem}")
    assert not problems, "\n".join(problems)
