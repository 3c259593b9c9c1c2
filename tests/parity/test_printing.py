"""Tensors print as torch's, to the letter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau.dtype import prefix
from tests.parity.same import array, torch

Library = ModuleType


def text(program: Callable[[Library], Any], lib: Library) -> str:
    found = program(lib)
    return repr(found) + "\n" + str(found)


@pytest.fixture(autouse=True)
def torch_prefix() -> Iterator[None]:
    """As under `flambeau run`: line breaks depend on the length of names."""
    prefix[0] = "torch"
    yield
    prefix[0] = "flambeau"


def same(program: Callable[[Library], Any]) -> None:
    assert text(program, flambeau) == text(program, torch)


VALUES = {
    "scalar": 3.14159,
    "integer": 7,
    "bool": True,
    "vector": [1.0, 2.5, -3.25],
    "integral floats": [1.0, 2.0, 300.0],
    "integral with inf": [1.0, float("inf"), float("nan"), -float("inf")],
    "fractions with inf": [1.5, float("inf"), float("nan")],
    "only nan": [float("nan"), float("nan")],
    "small": [1e-5, 1.0],
    "large": [1e9, 1.5],
    "large integral": [123456789.0, 1.0],
    "wide range": [0.001, 10.0],
    "exactly a thousand": [0.01, 10.0],
    "zeros": [0.0, -0.0, 0.0],
    "negative integers": [[-1, 20], [300, -4000]],
    "bools": [[True, False], [False, True]],
    "three dimensions": np.arange(24).reshape(2, 3, 4),
    "four dimensions": np.arange(16.0).reshape(2, 2, 2, 2),
    "empty": np.zeros((0,), np.float32),
    "empty matrix": np.zeros((2, 0), np.float32),
    "empty integers": np.zeros((0,), np.int64),
    "long vector": np.arange(40),
    "long floats": array((37,)),
    "summarised": np.arange(2000),
    "summarised floats": array((2000,)) * 100,
    "summarised matrix": array((50, 40)),
    "summarised thin": array((600, 2)),
    "summarised three": array((12, 11, 10)),
    "summarised wide": array((2, 700)),
    "outlier not shown": np.where(np.arange(2000) == 1000, 1e9, 1.0),
    "double": np.array([1.5, 1e-30]),
    "half": np.array([1.5, 65504.0], np.float16),
    "bytes": np.array([1, 255], np.uint8),
    "int32": np.array([[1], [2]], np.int32),
    "one by one": [[5.0]],
}


@pytest.mark.parametrize("name", VALUES)
def test_values(name: str) -> None:
    value = VALUES[name]
    same(lambda lib: lib.tensor(value))


def test_bfloat16() -> None:
    same(lambda lib: lib.tensor([1.5, 3.0e38, 0.1]).to(lib.bfloat16))


def test_dtypes_after_the_default_changed() -> None:
    def program(lib: Library) -> Any:
        lib.set_default_dtype(lib.float64)
        try:
            made = [lib.tensor([1.5]), lib.tensor([1.5], dtype=lib.float32), lib.zeros(0)]
            return [repr(t) for t in made]
        finally:
            lib.set_default_dtype(lib.float32)

    same(program)


PROGRAMS: dict[str, Callable[[Library], Any]] = {
    "leaf": lambda lib: lib.ones(3, requires_grad=True),
    "long leaf": lambda lib: lib.full((13,), 0.123456, requires_grad=True),
    "product": lambda lib: lib.ones(3, requires_grad=True) * 2,
    "exponential": lambda lib: lib.ones(12, requires_grad=True).exp(),
    "sum": lambda lib: lib.ones(3, requires_grad=True).sum(),
    "sum of rows": lambda lib: lib.ones(3, 2, requires_grad=True).sum(1),
    "view": lambda lib: lib.ones(4, requires_grad=True).view(2, 2),
    "transpose": lambda lib: lib.ones(4, 2, requires_grad=True).t(),
    "matrix product": lambda lib: lib.ones(2, 2, requires_grad=True) @ lib.ones(2, 2),
    "product of doubles": lambda lib: lib.ones(3, dtype=lib.float64, requires_grad=True) / 3,
    "meta": lambda lib: lib.empty(2, 3, device="meta"),
    "meta integers": lambda lib: lib.empty(2, 3, device="meta", dtype=lib.int64),
    "parameter": lambda lib: lib.nn.Parameter(lib.ones(2, 2)),
    "list": lambda lib: [lib.ones(2), lib.zeros(1)],
    "transposed": lambda lib: lib.arange(6).view(2, 3).t(),
    "row": lambda lib: lib.arange(6.0).view(2, 3)[1],
    "dtype": lambda lib: [lib.float32, lib.int64, lib.bool, lib.strided, lib.preserve_format],
    "size": lambda lib: lib.ones(2, 3).shape,
    "device": lambda lib: lib.ones(1).device,
    "finfo": lambda lib: lib.finfo(lib.float16).max,
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(name: str) -> None:
    same(PROGRAMS[name])


@pytest.mark.parametrize(
    "options",
    [
        {"precision": 2},
        {"threshold": 5},
        {"threshold": 5, "edgeitems": 1},
        {"linewidth": 30},
        {"sci_mode": True},
        {"sci_mode": False},
        {"profile": "short"},
        {"profile": "full"},
        {"threshold": 5, "edgeitems": 0},
    ],
)
def test_options(options: dict[str, Any]) -> None:
    def program(lib: Library) -> Any:
        lib.set_printoptions(**options)
        try:
            # with torch 2.13 edge items of 0 fail for matrices
            values = [array((20,)), np.arange(30), np.array([1e-6, 2.0])]
            if options.get("edgeitems", 3):
                values.append(array((9, 8)))
            return [repr(lib.tensor(v)) for v in values]
        finally:
            lib.set_printoptions(profile="default")

    same(program)


def test_options_of_a_block() -> None:
    with flambeau.printing.printoptions(precision=1):
        assert repr(flambeau.tensor([1.25])) == "tensor([1.2])"
    assert repr(flambeau.tensor([1.25])) == "tensor([1.2500])"


def test_formatting_of_scalars() -> None:
    same(lambda lib: f"{lib.tensor(1.23456):.2f} {lib.tensor(3):4d} {lib.tensor(2.5)}")


NAMED: dict[str, Callable[[Library], Any]] = {
    "max": lambda lib: lib.arange(6.0).view(2, 3).max(1),
    "min": lambda lib: lib.min(lib.arange(6).view(2, 3), 0, keepdim=True),
    "sort": lambda lib: lib.tensor([3.0, 1.0, 2.0]).sort(descending=True),
    "topk": lambda lib: lib.topk(lib.tensor([3, 1, 2]), 2),
    "median": lambda lib: lib.tensor([[3.0], [1.0]]).median(0),
    "nanmedian": lambda lib: lib.tensor([3.0, 1.0]).nanmedian(0),
    "mode": lambda lib: lib.tensor([3, 1, 1]).mode(),
    "kthvalue": lambda lib: lib.tensor([3, 1, 2]).kthvalue(2),
    "cummax": lambda lib: lib.tensor([3, 1, 4]).cummax(0),
    "aminmax": lambda lib: lib.tensor([3, 1, 4]).aminmax(),
    "frexp": lambda lib: lib.frexp(lib.tensor([3.0, 0.25])),
    "histogram": lambda lib: lib.histogram(lib.tensor([1.0, 2.0, 2.0]), 2),
    "linalg.qr": lambda lib: lib.linalg.qr(lib.tensor([[2.0]])),
    "linalg.svd": lambda lib: lib.linalg.svd(lib.tensor([[2.0]])),
    "linalg.eigh": lambda lib: lib.linalg.eigh(lib.tensor([[2.0]])),
    "linalg.slogdet": lambda lib: lib.linalg.slogdet(lib.tensor([[2.0]])),
    "linalg.cholesky_ex": lambda lib: lib.linalg.cholesky_ex(lib.tensor([[-4.0]])).info,
    "linalg.lu": lambda lib: lib.linalg.lu(lib.tensor([[2.0]])),
}


@pytest.mark.parametrize("name", NAMED)
def test_results_with_names(name: str) -> None:
    same(NAMED[name])


def test_the_classes_of_results_have_their_names() -> None:
    ours, theirs = flambeau.return_types, torch.return_types
    for name, fields in ours.FIELDS.items():
        kind = getattr(ours, name)
        members = vars(getattr(theirs, name))
        assert kind.__name__ == getattr(theirs, name).__name__
        assert set(fields.split()) <= set(members)
