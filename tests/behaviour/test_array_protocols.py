"""Tensors among arrays of other libraries: NumPy's protocols, and DLPack of either version."""

from __future__ import annotations

import gc
import importlib.util
import operator
import weakref
from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau import dtypes

X = np.array([1.0, 2.0, 3.0], np.float32)


@pytest.mark.parametrize("name", [
    "add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "lt", "eq",
])  # fmt: skip
def test_operators_with_arrays_on_either_side(name: str) -> None:
    combine = getattr(operator, name)
    other = np.array([2.0, 0.5, 4.0], np.float32)
    for found in (combine(flambeau.tensor(X), other), combine(X, flambeau.tensor(other))):
        assert isinstance(found, flambeau.Tensor)
        assert np.allclose(found.numpy(), combine(X, other))


@pytest.mark.parametrize("function", [
    np.sin, np.abs, lambda x: np.add(x, X), lambda x: np.multiply(X, x), np.isnan, np.add.reduce,
    lambda x: np.exp(x).astype(np.float64) if isinstance(x, np.ndarray) else np.exp(x).double(),
])  # fmt: skip
def test_numpy_functions_of_tensors_give_tensors(function: Any) -> None:
    found, expected = function(flambeau.tensor(X)), function(X)
    assert isinstance(found, flambeau.Tensor)
    assert found.numpy().dtype == expected.dtype
    assert np.allclose(found.numpy(), expected)


def test_numpy_functions_refuse_tensors_with_gradients() -> None:
    with pytest.raises(RuntimeError, match="requires grad"):
        np.sin(flambeau.ones(2, requires_grad=True))


def test_numpy_writes_through_dlpack() -> None:
    x = flambeau.tensor(X)
    array = np.from_dlpack(x)
    assert array.flags.writeable
    array[0] = 7
    x[1] = 8
    assert x.tolist() == array.tolist() == [7, 8, 3]


def test_the_memory_lives_as_long_as_somebody_sees_it() -> None:
    class Array(np.ndarray):
        """An array that can be referred to weakly."""

    source = np.arange(4.0).view(Array)
    alive = weakref.ref(source)
    t = flambeau.from_dlpack(source)
    assert np.shares_memory(t.numpy(), source)
    del source
    gc.collect()
    assert t.tolist() == [0, 1, 2, 3]
    assert alive() is not None
    del t
    gc.collect()
    assert alive() is None


def test_memory_that_must_not_be_written_is_copied() -> None:
    array = np.arange(3.0)
    array.flags.writeable = False
    t = flambeau.from_dlpack(array)
    t[0] = 5
    assert array.tolist() == [0, 1, 2]
    with pytest.raises((BufferError, ValueError)):
        flambeau.from_dlpack(array, copy=False)


@pytest.mark.parametrize("dtype", sorted(dtypes.ALL, key=str), ids=str)
@pytest.mark.parametrize("version", [None, (1, 0), (1, 3)])
def test_every_dtype_goes_and_comes_back(dtype: Any, version: Any) -> None:
    x = flambeau.arange(1, 7).reshape(2, 3).to(dtype)
    capsule = x.t().__dlpack__(max_version=version)
    assert ("versioned" in repr(capsule)) == (version is not None)
    again = flambeau.from_dlpack(capsule)
    assert again.dtype is dtype
    assert again.shape == (3, 2)
    wide = flambeau.complex128 if dtype.is_complex else flambeau.float64
    assert again.to(wide).tolist() == x.t().to(wide).tolist()
    with pytest.raises(RuntimeError, match="only once"):
        flambeau.from_dlpack(capsule)


def test_copies_are_asked_for() -> None:
    x = flambeau.tensor(X)
    for copied in (
        flambeau.from_dlpack(x, copy=True),
        flambeau.from_dlpack(x.__dlpack__(copy=True)),
    ):
        copied[0] = 9
        assert x[0] == 1
    shared = flambeau.from_dlpack(x, copy=False)
    shared[0] = 9
    assert x[0] == 9


def test_what_cannot_be_lent_is_refused() -> None:
    x = flambeau.tensor(X)
    with pytest.raises(BufferError, match="gradient"):
        x.clone().requires_grad_().__dlpack__()
    with pytest.raises(BufferError, match="device"):
        x.__dlpack__(dl_device=(2, 0))
    with pytest.raises(AssertionError, match="stream"):
        x.__dlpack__(stream=3)
    with pytest.raises(RuntimeError, match="capsule"):
        flambeau.from_dlpack(3)
    with pytest.raises(BufferError, match="negative"):
        flambeau.from_dlpack(np.arange(3.0)[::-1])


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed")
def test_jax() -> None:
    jax = pytest.importorskip("jax.numpy")
    x = flambeau.tensor([[1.0, 2.0], [3.0, 4.0]])
    there = jax.from_dlpack(x)
    back = flambeau.from_dlpack(there * 2)
    assert back.tolist() == [[2, 4], [6, 8]]


@pytest.mark.parity
def test_torch() -> None:
    torch = pytest.importorskip("torch")
    x = flambeau.arange(6.0).reshape(2, 3).t()
    there = torch.from_dlpack(x)
    there.mul_(2)
    assert x.tolist() == [[0, 6], [2, 8], [4, 10]]
    back = flambeau.from_dlpack(torch.ones(2, dtype=torch.bfloat16))
    assert back.dtype is flambeau.bfloat16
    assert back.tolist() == [1, 1]


def test_without_gradients_any_tensor_is_an_array() -> None:
    x = flambeau.ones(2, requires_grad=True)
    with flambeau.no_grad():
        assert x.numpy().tolist() == [1, 1]


@pytest.mark.parametrize(
    "array",
    [
        np.array(3, "float32"),
        np.empty((2, 0, 3), "int16"),
        np.arange(24.0).reshape(2, 3, 4)[:, ::2, 1:],
        np.arange(6).reshape(2, 3).T,
        np.broadcast_to(np.arange(3, dtype="uint8"), (2, 3)),
    ],
    ids=["0-d", "empty", "strided", "transposed", "expanded"],
)
def test_arrays_of_every_layout_share_their_memory(array: np.ndarray[Any, Any]) -> None:
    t = flambeau.from_numpy(array)
    assert t.shape == array.shape
    assert t.tolist() == array.tolist()
    if array.size:
        assert t.data_ptr() == array.ctypes.data
    whole = np.arange(5)
    whole.flags.writeable = False
    assert flambeau.from_numpy(whole).data_ptr() == whole.ctypes.data


def test_slices_of_the_first_dimension() -> None:
    array = np.arange(12).reshape(6, 2)
    t = flambeau.tensor(array)
    for start in (None, -9, -2, 0, 3, 9):
        for stop in (None, -9, -1, 0, 4, 9):
            for step in (None, 1, 2, 7):
                key = slice(start, stop, step)
                assert t[key].tolist() == array[key].tolist(), key
    assert t[:]._base is t
    for step in (0, -1):
        with pytest.raises(ValueError, match="step must be greater than zero"):
            t[::step]
    with pytest.raises(IndexError):
        flambeau.tensor(1.0)[:1]
