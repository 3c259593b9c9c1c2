"""The same call in both libraries: values, gradients and errors of rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau.ops.rows import FUNCTIONAL

torch = pytest.importorskip("torch")

OURS = SimpleNamespace(**FUNCTIONAL)
THEIRS = torch.nn.functional


def normal(*shape: int, seed: int = 0, low: float = -math.inf, high: float = math.inf) -> Any:
    """Standard normal values, clipped, as float64."""
    return np.clip(np.random.default_rng(seed).standard_normal(shape), low, high)


def uniform(*shape: int, low: float = 0.0, high: float = 1.0, seed: int = 0) -> Any:
    """Uniform values as float64."""
    return np.random.default_rng(seed).uniform(low, high, shape)


def classes(*shape: int, count: int, seed: int = 0) -> Any:
    """Random classes as int64."""
    return np.random.default_rng(seed).integers(0, count, shape)


def outputs(found: Any) -> list[Any]:
    """A result's tensors."""
    return list(found) if isinstance(found, (tuple, list)) else [found]


def run(
    lib: Any,
    functions: Any,
    call: Callable[..., Any],
    arrays: tuple[Any, ...],
    dtype: str,
) -> tuple[list[Any], list[Any]]:
    """Values and gradients as float64 arrays (None where there is no gradient)."""
    given = []
    for a in arrays:
        t = lib.tensor(np.asarray(a))
        if np.asarray(a).dtype.kind == "f":
            t = t.to(getattr(lib, dtype)).requires_grad_()
        given.append(t)
    outs = outputs(call(lib, functions, *given))
    total = None
    for k, o in enumerate(outs):
        if o.dtype.is_floating_point and o.requires_grad:
            weight = lib.tensor(normal(*o.shape, seed=100 + k)).to(o.dtype)
            part = (o * weight).sum()
            total = part if total is None else total + part
    if total is not None:
        total.backward()
    values = [o.detach().to(lib.float64).numpy() for o in outs]
    grads = [None if t.grad is None else t.grad.to(lib.float64).numpy() for t in given]
    return values, grads


def compare(
    call: Callable[..., Any],
    *arrays: Any,
    rtol: float = 1e-9,
    atol: float = 1e-10,
    dtype: str = "float64",
) -> None:
    """The same call in both libraries gives the same values, dtypes and gradients."""
    got = run(flambeau, OURS, call, arrays, dtype)
    want = run(torch, THEIRS, call, arrays, dtype)
    for kind, a, b in (("value", got[0], want[0]), ("gradient", got[1], want[1])):
        assert len(a) == len(b)
        for k, (x, y) in enumerate(zip(a, b, strict=True)):
            if y is None or x is None:
                other = x if y is None else y
                assert other is None or not np.any(other), f"{kind} {k} in one library only"
                continue
            assert x.shape == y.shape, f"{kind} {k}"
            np.testing.assert_allclose(x, y, rtol=rtol, atol=atol, err_msg=f"{kind} {k}")


def error(lib: Any, functions: Any, call: Callable[..., Any], arrays: tuple[Any, ...]) -> Any:
    """The exception of a call, or None."""
    try:
        found = call(lib, functions, *(lib.tensor(np.asarray(a)) for a in arrays))
        for o in outputs(found):
            o.tolist()
    except Exception as raised:
        return raised
    return None


def assert_same_error(call: Callable[..., Any], *arrays: Any) -> None:
    """Both libraries refuse a call, with the same class."""
    want = error(torch, THEIRS, call, arrays)
    got = error(flambeau, OURS, call, arrays)
    assert want is not None
    assert got is not None
    assert isinstance(got, type(want)), f"{got!r} against {want!r}"
