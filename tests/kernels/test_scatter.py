"""Values put, added, multiplied .. at indices, in order, beside NumPy's `ufunc.at`."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import flambeau as fl

RNG = np.random.default_rng(0)
DTYPES = {
    "float32": np.float32, "float64": np.float64, "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16, "int64": np.int64, "int32": np.int32, "int16": np.int16,
    "int8": np.int8, "uint8": np.uint8, "bool": np.bool_,
}  # fmt: skip
SHAPES = [(1,), (7,), (5, 33), (3, 16), (40, 3, 17), (2, 130), (6, 0)]
COMBINED = {"add": np.add, "prod": np.multiply, "amax": np.maximum, "amin": np.minimum}


def same(got: fl.Tensor, wanted: np.ndarray) -> None:
    wide = got.to(fl.float64).numpy()
    np.testing.assert_array_equal(wide, wanted.astype(np.float64))


def operands(name: str, shape: tuple[int, ...]) -> tuple[fl.Tensor, fl.Tensor, list[np.ndarray]]:
    """A destination, twice as many rows to go into it, and both as arrays of the same type."""
    found = []
    for rows in (shape[0], 2 * shape[0]):
        x = RNG.integers(-9, 9, (rows, *shape[1:])) / 4
        found.append(abs(x) if name in ("uint8", "bool") else x)
    tensors = [fl.tensor(x).to(getattr(fl, name)) for x in found]
    arrays = [t.to(fl.float64).numpy().astype(DTYPES[name]) for t in tensors]
    return tensors[0], tensors[1], arrays


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("how", COMBINED)
def test_rows_are_combined_in_order(how: str, shape: tuple[int, ...], name: str) -> None:
    """Every addition of a narrow type is rounded, as in NumPy and torch."""
    x, source, (wanted, values) = operands(name, shape)
    index = RNG.integers(0, shape[0], 2 * shape[0])
    at = fl.tensor(index)
    if how == "add":
        got = x.index_add(0, at, source)
    else:
        got = x.index_reduce(0, at, source, how)
    COMBINED[how].at(wanted, index, values)
    same(got, wanted)


@pytest.mark.parametrize("name", DTYPES)
def test_elements_are_added_and_put(name: str) -> None:
    x, _, (array, _) = operands(name, (12, 21))
    source = x.flip(0)
    index = RNG.integers(0, 12, (12, 21))
    places = (index, np.broadcast_to(np.arange(21), index.shape))
    wanted = array.copy()
    np.add.at(wanted, places, array[::-1])
    same(x.scatter_add(0, fl.tensor(index), source), wanted)
    once = np.argsort(RNG.random((12, 21)), 0)
    wanted = array.copy()
    wanted[once, places[1]] = array[::-1]
    same(x.scatter(0, fl.tensor(once), source), wanted)


@pytest.mark.parametrize("name", ["float32", "float16", "bfloat16"])
def test_not_a_number_wins(name: str) -> None:
    x = fl.tensor([1.0, 2.0, 3.0]).to(getattr(fl, name))
    source = fl.tensor([float("nan"), 5.0, float("inf")]).to(x.dtype)
    at = fl.tensor([0, 0, 2])
    for how in ("amax", "amin", "prod"):
        got = x.index_reduce(0, at, source, how).to(fl.float32).numpy()
        assert np.isnan(got[0])
        assert got[1] == 2
    assert x.index_add(0, at, source).to(fl.float32).numpy()[2] == np.inf
