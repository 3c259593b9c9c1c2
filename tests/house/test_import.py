"""Importing the package is light, and what it leaves out is there when it is asked for."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import pytest

import flambeau
from flambeau.deferred import NAMES
from tests.house.tree import ROOT

HEAVY = ("scipy", "llvmlite", "rich", "torch", "safetensors", "multiprocessing")


def run(code: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def test_the_import_loads_nothing_heavy() -> None:
    found = run(f"import sys, flambeau; print([m for m in {HEAVY} if m in sys.modules])")
    assert found == "[]"


@pytest.mark.parametrize(
    "name", ["save", "load", "explain", "safetensors", "data", "utils", "cuda", "backends", "amp"]
)
def test_deferred_names(name: str) -> None:
    assert getattr(flambeau, name) is not None
    assert name in dir(flambeau)


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'flambeau' has no attribute 'nothing'"):
        flambeau.nothing  # noqa: B018
    assert not hasattr(flambeau, "__path_of_nothing__")


def test_compile_takes_what_torch_takes() -> None:
    def f(x: object) -> object:
        """Says what it got."""
        return x

    assert flambeau.compile(f, disable=True) is f
    made = flambeau.compile(f, mode="max-autotune", fullgraph=True, dynamic=False)
    assert (made.__name__, made.__doc__, made(3)) == ("f", "Says what it got.", 3)
    assert flambeau.compile(backend="eager")(f)(3) == 3
    with pytest.raises(RuntimeError, match="Either mode or options"):
        flambeau.compile(f, mode="default", options={})


def test_typed_classes_and_constants() -> None:
    t = flambeau.LongTensor([1, 2])
    assert t.dtype is flambeau.int64
    assert isinstance(t, flambeau.LongTensor)
    assert not isinstance(t, flambeau.FloatTensor)
    assert flambeau.FloatTensor(2, 3).shape == (2, 3)
    assert t.new([3]).dtype is flambeau.int64
    assert flambeau.inf > 1e308
    assert flambeau.nan != flambeau.nan
    assert t.layout is flambeau.strided
    assert flambeau.float is flambeau.float32
    flambeau.set_default_tensor_type("torch.DoubleTensor")
    try:
        assert flambeau.tensor(1.5).dtype is flambeau.float64
    finally:
        flambeau.set_default_tensor_type(flambeau.FloatTensor)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_no_module_hides_a_deferred_name(name: str) -> None:
    """Importing `flambeau.x` binds `flambeau.x`, after which a function of that name is lost."""
    assert find_spec(f"flambeau.{name}") is None
