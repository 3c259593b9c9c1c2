"""In-place, out= and method forms agree with the function; layouts do not matter."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau.ops.rows import NAMES, ROWS
from flambeau.tensor import Tensor
from tests.table import cases

#: Their in-place forms change what the tensor shows, not what is in memory.
VIEWS = {"unsqueeze", "squeeze", "transpose", "t", "permute", "as_strided"}
INPLACE = [
    n
    for n in cases.SAMPLED
    if callable(getattr(Tensor, n + "_", None)) and n in NAMES and n not in VIEWS
]
OUT = [n for n in cases.SAMPLED if (cases.public(n) is not None and "out" in inspect.signature(
    inspect.unwrap(ROWS[n].call, stop=lambda f: hasattr(f, "__signature__"))).parameters)
    or (ROWS[n].kind == "elementwise" and cases.public(n) is not None)]  # fmt: skip
OUT = [n for n in OUT if n not in ("clone", "to_dtype")]


def _same(got: Tensor, want: Tensor) -> str | None:
    if got.dtype is not want.dtype:
        return f"{got.dtype}, wanted {want.dtype}"
    return cases.difference(cases.array(got), cases.array(want), want.dtype.name)


@pytest.mark.parametrize("name", INPLACE)
def test_inplace_form_agrees(name: str) -> None:
    row = ROWS[name]
    place = row.parameters.index("input") if "input" in row.parameters else 0
    checked, problems = 0, []
    for call in cases.calls(name, cases.Draw(flambeau.float32)):
        rest = list(call.args)
        written = rest.pop(place) if place < len(rest) else None
        if not isinstance(written, Tensor):
            continue
        wanted = cases.tensors(row.call(*call.args, **call.kwargs))[0]
        first = written.detach()
        if (
            tuple(wanted.shape) != tuple(first.shape)
            or wanted.dtype.category > first.dtype.category
        ):
            continue
        base = flambeau.zeros(2, *first.shape, dtype=first.dtype)
        base[1] = first
        target = base[1]
        found = getattr(target, name + "_")(*rest, **call.kwargs)
        assert found is target
        checked += 1
        for got in (target, base[1]):
            problem = _same(got, wanted.to(first.dtype))
            if problem:
                problems.append(f"{call}: {problem}")
        assert not base[0].any().item(), f"{call} wrote beside its view"
    assert checked, "no sample writes in place"
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("name", OUT)
def test_out_form_agrees(name: str) -> None:
    row = ROWS[name]
    problems = []
    for call in cases.calls(name, cases.Draw(flambeau.float32))[:3]:
        wanted = row.call(*call.args, **call.kwargs)
        parts = cases.tensors(wanted)
        outs = tuple(flambeau.zeros(tuple(w.shape), dtype=w.dtype) for w in parts)
        given = outs if isinstance(wanted, tuple) else outs[0]
        try:
            found = row.call(*call.args, **call.kwargs, out=given)
        except RuntimeError as error:
            problems.append(f"{call}: {error}")
            continue
        for got, out, want in zip(cases.tensors(found), outs, parts, strict=True):
            problems += [f"{call}: {p}" for t in (got, out) if (p := _same(t, want))]
    assert not problems, "\n".join(problems)


def _strided(t: Tensor) -> Tensor:
    """The same values in every other element of larger memory."""
    big = flambeau.full(tuple(2 * n for n in t.shape), 77, dtype=t.dtype)
    view = big[tuple(slice(1, None, 2) for _ in t.shape)] if t.ndim else t
    if t.ndim:
        view.copy_(t.detach())
    return view


def _reversed(t: Tensor) -> Tensor:
    """The same values with the dimensions laid in memory in reverse order."""
    order = tuple(reversed(range(t.ndim)))
    return t.detach().permute(order).clone().permute(order)


def _arguments(call: cases.Call, change: Any) -> Any:
    args = cases.mapped(call.args, change)
    return call.row.call(*args, **cases.mapped(call.kwargs, change))


#: What these do depends on how elements lie in memory.
MEMORY = {
    *("as_strided", "as_strided_copy", "view_as", "view_as_shape", "view_copy"),
    *("assign_region", "unflatten"),
}


@pytest.mark.parametrize("name", [n for n in cases.SAMPLED if n not in MEMORY])
def test_layout_does_not_matter(name: str) -> None:
    wanted, found = [], []
    for call in cases.calls(name, cases.Draw(flambeau.float32))[:2]:
        expected = call()
        for change in (_strided, _reversed):
            wanted += expected
            found += cases.tensors(_arguments(call, change))
    problems = [p for got, want in zip(found, wanted, strict=True) if (p := _same(got, want))]
    assert not problems, "\n".join(problems)


def test_every_inplace_form_returns_its_tensor() -> None:
    """What is not made by the table keeps the rule too."""
    t = flambeau.zeros(3)
    for name in ("zero_", "random_", "uniform_", "normal_"):
        assert getattr(t, name)() is t
    assert np.isfinite(cases.array(t)).all()
