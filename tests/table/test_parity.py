"""Every row that torch has under the same name gives torch's values, dtypes and gradients."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau.ops.rows import FUNCTIONAL, NAMES, ROWS, SPACES
from flambeau.tensor import Tensor
from tests.conftest import HAS_TORCH
from tests.table import cases

if HAS_TORCH:
    import torch

pytestmark = pytest.mark.parity

DTYPES = (flambeau.float64, flambeau.float32, flambeau.bfloat16, flambeau.int64, flambeau.int32,
          flambeau.uint8, flambeau.bool)  # fmt: skip


def peer(name: str) -> Any:
    """torch's function of a row's name, or None."""
    call = cases.public(name)
    if not HAS_TORCH or call is None or name in cases.UP_TO_SIGNS:
        return None
    for space, names in SPACES.items():
        for short, function in names.items():
            if function is call:
                return getattr(operator.attrgetter(space)(torch), short)
    other = hasattr(torch.Tensor, name) and FUNCTIONAL.get(name) is not call  # as `unfold`'s
    if name in FUNCTIONAL and not other and callable(f := getattr(torch.nn.functional, name, None)):
        return f  # torch's own function of that name may take numbers for words
    places = (torch, torch.linalg) if NAMES.get(name) is call else (torch.Tensor,)
    return next((f for p in places if callable(f := getattr(p, name, None))), None)


COMPARED = [name for name in cases.SAMPLED if not HAS_TORCH or peer(name) is not None]


def to_torch(value: Any) -> Any:
    """Arguments for torch."""
    if isinstance(value, flambeau.dtype):
        return getattr(torch, value.name)
    if isinstance(value, Tensor):
        made = torch.from_numpy(cases.array(value)).to(getattr(torch, value.dtype.name))
        return made.requires_grad_(value.requires_grad)
    if isinstance(value, (list, tuple)):
        return type(value)(to_torch(v) for v in value)
    if isinstance(value, dict):
        return {k: to_torch(v) for k, v in value.items()}
    return value


def leaf(t: Tensor) -> Tensor:
    """A tensor of its own with the same values."""
    made = t.detach().clone()
    made.requires_grad = t.requires_grad
    return made


def flat(value: Any, kind: type) -> list[Any]:
    """The tensors among nested values."""
    if isinstance(value, kind):
        return [value]
    values = value.values() if isinstance(value, dict) else value
    return [t for v in values for t in flat(v, kind)] if isinstance(
        value, (list, tuple, dict)) else []  # fmt: skip


def numpy(t: Any) -> np.ndarray:
    """torch's values, half types as float32."""
    t = t.detach().resolve_conj()
    return t.float().numpy() if t.dtype in (torch.float16, torch.bfloat16) else t.numpy(force=True)


def weighted(results: list[Any]) -> Any:
    """As `cases.weighted`, of torch's results."""
    total = None
    for k, t in enumerate(results):
        if t.requires_grad:
            t = torch.view_as_real(t.resolve_conj()) if t.is_complex() else t
            weights = np.cos(np.arange(t.numel()) * 1.3 + k).reshape(tuple(t.shape))
            part = (t * torch.from_numpy(weights).to(t.dtype)).sum()
            total = part if total is None else total + part.to(total.dtype)
    return total


def _fractional(value: Any) -> bool:
    """Whether there are fractions among the numbers of some arguments."""
    if isinstance(value, (list, tuple)):
        return any(_fractional(v) for v in value)
    if isinstance(value, dict):
        return any(_fractional(v) for v in value.values())
    return isinstance(value, float)


def compare(call: cases.Call, gradients: bool) -> list[str]:
    """Where one call differs from torch's."""
    args, kwargs = to_torch(call.args), to_torch(call.kwargs)
    mine, options = cases.mapped(call.args, leaf), cases.mapped(call.kwargs, leaf)
    theirs: Any = None
    try:
        theirs = flat(peer(call.row.name)(*args, **kwargs), torch.Tensor)
    except TypeError:  # a form of the call that torch does not have
        return []
    except cases.REFUSALS as error:
        try:
            for t in cases.tensors(call.row.call(*mine, **options)):
                cases.array(t)
        except cases.REFUSALS:
            return []
        return [f"{call}: torch raises {type(error).__name__}: {error}"] if gradients else []
    result = call.row.call(*mine, **options)
    ours = cases.tensors(result)
    if "indices" in getattr(result, "_fields", ()) and not ours[0].dtype.is_floating_point:
        del ours[1], theirs[1]  # which of equal elements is found is left open
    if len(ours) != len(theirs):
        return [f"{call}: {len(ours)} results, torch {len(theirs)}"]
    problems = []
    for got, want in zip(ours, theirs, strict=True):
        if got.dtype.name != str(want.dtype).removeprefix("torch."):
            problems.append(f"{call}: {got.dtype}, torch {want.dtype}")
            continue
        slack = 100 if got.dtype is flambeau.float64 else 4  # torch's own functions are no better
        used = [t.dtype.name for t in (got, *flat((mine, options), Tensor))]
        coarse = max(used, key=lambda d: cases.TOLERANCE.get(d, 0.0))
        problem = cases.difference(cases.array(got), numpy(want), coarse, slack)
        if problem:
            problems.append(f"{call}: {problem}")
    if gradients and not problems:
        problems += _gradients(call, (mine, options), (args, kwargs), ours, theirs)
    return problems


def _gradients(call: cases.Call, mine: Any, given: Any, ours: Any, theirs: Any) -> list[str]:
    total, wanted = cases.weighted(ours), weighted(theirs)
    if wanted is None:
        return [] if total is None else [f"{call}: differentiable only here"]
    leaves = [t for t in flat(mine, Tensor) if t.requires_grad]
    peers = [t for t in flat(given, torch.Tensor) if t.requires_grad]
    found: Any = (None,) * len(leaves)  # what has no derivative here must have zeros there
    if total is not None:
        found = flambeau.autograd.grad(total, leaves, allow_unused=True)
    try:
        expected = torch.autograd.grad(wanted, peers, allow_unused=True)
    except RuntimeError:  # torch has no derivative for this call
        return []
    problems = []
    for g, want in zip(found, expected, strict=True):
        if g is None or want is None:
            nothing = (g is None or not cases.array(g).any()) and (want is None or not want.any())
            problems += [] if nothing else [f"{call}: gradient {g}, torch {want}"]
            continue
        problem = cases.difference(cases.array(g), numpy(want), "float64", 1e5)
        if problem:
            problems.append(f"{call}: gradient {problem}")
    return problems


@pytest.mark.parametrize("name", COMPARED)
def test_row_agrees_with_torch(name: str) -> None:
    problems = []
    for dtype in DTYPES:
        first = dtype is flambeau.float64
        try:
            calls = cases.calls(name, cases.Draw(dtype, grad=first))
        except cases.REFUSALS:
            continue
        exact = not dtype.is_floating_point
        if exact and name in FUNCTIONAL:
            continue  # layers and losses of integers mean nothing
        for call in calls if dtype in DTYPES[:2] else calls[:2]:
            if exact and _fractional((call.args, call.kwargs)):
                continue
            try:
                problems += [f"{dtype.name} {p}" for p in compare(call, first)]
            except cases.REFUSALS as error:
                problems.append(f"{dtype.name} {call}: {type(error).__name__}: {error}")
    assert not problems, "\n".join(problems)


def test_torch_has_most_rows() -> None:
    """The comparison is not empty."""
    assert len(COMPARED) > 200
    assert all(name in ROWS for name in COMPARED)
