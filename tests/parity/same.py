"""Programs that run in torch and in flambeau, and must give the same."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import flambeau

torch = pytest.importorskip("torch")

Library = ModuleType
Array = np.ndarray[Any, Any]


def array(shape: tuple[int, ...], seed: int = 0, dtype: str = "float32") -> Array:
    """Standard normal values."""
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def given(lib: Library, value: Any, grad: bool = False) -> Any:
    """A library's tensor with an array's values."""
    t = lib.tensor(np.asarray(value))
    return t.requires_grad_() if grad else t


def plain(value: Any) -> Any:
    """Arrays in place of tensors, at any depth."""
    if hasattr(value, "detach"):
        return value.detach().numpy()
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value


def fill(module: Any, lib: Library) -> None:
    """The same values for the parameters and buffers of either library's module."""
    state = {}
    for i, (name, t) in enumerate(module.state_dict().items()):
        if t.dtype == lib.int64:
            state[name] = t
        else:
            values = array(tuple(t.shape), i + 100)
            state[name] = given(lib, np.abs(values) if "var" in name else values * 0.5)
    module.load_state_dict(state)


def assert_same(got: Any, want: Any, rtol: float = 2e-5, atol: float = 2e-6) -> None:
    """Equal, floating-point values up to rounding."""
    if isinstance(want, np.ndarray):
        assert isinstance(got, np.ndarray)
        assert got.dtype == want.dtype
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, rtol=rtol, atol=atol)
    elif isinstance(want, dict):
        assert list(got) == list(want)
        for key in want:
            assert_same(got[key], want[key], rtol, atol)
    elif isinstance(want, list):
        assert len(got) == len(want)
        for one, other in zip(got, want, strict=True):
            assert_same(one, other, rtol, atol)
    elif isinstance(want, float):
        assert got == pytest.approx(want, rel=rtol, abs=atol, nan_ok=True)
    elif isinstance(want, str):
        assert got.replace("flambeau.", "torch.") == want  # dtypes carry the package's name
    else:
        assert got == want


def both(program: Callable[[Library], Any], rtol: float = 2e-5, atol: float = 2e-6) -> None:
    """A program gives the same in both libraries."""
    want = plain(program(torch))
    assert_same(plain(program(flambeau)), want, rtol, atol)


def parent(nn: Any) -> Any:
    """A module with something of each kind."""
    module = nn.Module()
    module.weight = nn.Parameter(nn.init.ones_(nn.Linear(2, 3).weight.detach()))
    module.register_buffer("kept", None)
    module.child = nn.Linear(2, 1)
    module.nothing = None
    return module
