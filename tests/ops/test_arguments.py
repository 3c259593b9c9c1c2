"""Names and kinds of arguments that torch takes besides its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau.nn import functional

X = np.arange(6.0, dtype=np.float32).reshape(2, 3)


@pytest.mark.parametrize("call", [
    lambda lib, x: lib.sum(x, axis=1),
    lambda lib, x: lib.sum(x, axis=(0, 1), keepdims=True),
    lambda lib, x: lib.all(x > 1, axis=-1, keepdims=True),
    lambda lib, x: lib.concatenate([x, x], axis=1),
    lambda lib, x: x.mean(axis=0, keepdims=True),
    lambda lib, x: lib.argmax(x, axis=1),
    lambda lib, x: lib.cumsum(x, axis=0),
    lambda lib, x: x.std(axis=1) if lib is flambeau else x.std(axis=1, ddof=1),
])  # fmt: skip
def test_numpys_names_of_parameters(call: Any) -> None:
    found, expected = call(flambeau, flambeau.tensor(X)), call(np, X)
    assert found.shape == expected.shape
    assert np.allclose(found.numpy(), expected)


def test_a_name_that_nobody_has_is_refused() -> None:
    x = flambeau.tensor(X)
    with pytest.raises(TypeError, match="axes"):
        x.sum(axes=1)
    with pytest.raises(TypeError, match="axis"):
        x.sum(dim=0, axis=1)
    with pytest.raises(TypeError, match="axis"):
        flambeau.relu(x, axis=1)


@pytest.mark.parametrize(("kind", "dtype"), [
    (bool, flambeau.bool), (int, flambeau.int64), (float, flambeau.float64),
    (complex, flambeau.complex128),
])  # fmt: skip
def test_pythons_types_are_dtypes(kind: type, dtype: Any) -> None:
    x = flambeau.tensor(X)
    assert flambeau.tensor([1], dtype=kind).dtype is dtype
    assert flambeau.zeros(2, dtype=kind).dtype is dtype
    assert flambeau.ones_like(x, dtype=kind).dtype is dtype
    assert x.to(kind).dtype is dtype
    assert x.to(dtype=kind).dtype is dtype
    if kind is float:
        assert x.sum(dtype=kind).dtype is dtype
        assert functional.softmax(x, 1, dtype=kind).dtype is dtype


def test_other_things_are_no_dtypes() -> None:
    for wrong in ("float32", str, 3):
        with pytest.raises(TypeError, match="dtype"):
            flambeau.zeros(2, dtype=wrong)
    with pytest.raises(TypeError, match="dtype"):
        flambeau.tensor(X).to(str)
