"""`assert_close` passes and fails where torch's does, with its words."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau import testing

torch = pytest.importorskip("torch")

PAIRS: dict[str, Any] = {
    "equal": lambda t: (t.tensor([1.0, 2.0]), t.tensor([1.0, 2.0])),
    "near": lambda t: (t.tensor([1.0, 2.0]), t.tensor([1.0, 2.0000001])),
    "far": lambda t: (t.tensor([1.0, 2.0, 5.0]), t.tensor([1.0, 2.0, 4.0])),
    "integers": lambda t: (t.tensor([1, 2]), t.tensor([1, 3])),
    "matrix": lambda t: (t.zeros(2, 3), t.ones(2, 3)),
    "shapes": lambda t: (t.zeros(2), t.zeros(3)),
    "dtypes": lambda t: (t.zeros(2), t.zeros(2, dtype=t.float64)),
    "nan": lambda t: (t.tensor([math.nan]), t.tensor([math.nan])),
    "infinite": lambda t: (t.tensor([math.inf]), t.tensor([math.inf])),
    "numbers": lambda t: (1.0, 2.0),
    "equal numbers": lambda t: (1, 1),
    "lists": lambda t: ([t.ones(1), t.ones(1)], [t.ones(1), t.zeros(1)]),
    "lengths": lambda t: ([t.ones(1)], [t.ones(1), t.zeros(1)]),
    "mappings": lambda t: ({"a": t.ones(1)}, {"a": t.zeros(1)}),
    "keys": lambda t: ({"a": t.ones(1)}, {"b": t.zeros(1)}),
    "bfloat16": lambda t: (t.ones(2, dtype=t.bfloat16), t.ones(2, dtype=t.bfloat16) * 1.01),
}


def outcome(check: Any, pair: Any, **options: Any) -> str | None:
    try:
        check(*pair, **options)
    except AssertionError as error:
        return str(error).replace("flambeau.", "torch.")
    return None


@pytest.mark.parametrize("options", [{}, {"rtol": 0.5, "atol": 0.6}, {"equal_nan": True}])
@pytest.mark.parametrize("name", PAIRS)
def test_the_same_as_torch(name: str, options: dict[str, Any]) -> None:
    want = outcome(torch.testing.assert_close, PAIRS[name](torch), **options)
    got = outcome(testing.assert_close, PAIRS[name](flambeau), **options)
    assert (got is None) == (want is None), (got, want)
    if want is not None and "keys" not in want:
        assert got == want


def test_other_forms() -> None:
    testing.assert_close(flambeau.ones(2), flambeau.ones(2).double(), check_dtype=False)
    testing.assert_close(np.ones(2), flambeau.ones(2).double())
    with pytest.raises(AssertionError, match="mine"):
        testing.assert_close(1.0, 2.0, msg="mine")
    with pytest.raises(ValueError, match="both"):
        testing.assert_close(1.0, 2.0, rtol=0.1)
    with pytest.raises(TypeError, match="No comparison"):
        testing.assert_close("a", "a")


@pytest.mark.parametrize("name", ["float32", "int64", "uint8", "bool", "complex64", "bfloat16"])
def test_made_tensors(name: str, seed: int) -> None:
    dtype = getattr(flambeau, name)
    made = testing.make_tensor((3, 4), dtype=dtype, low=2, high=5)
    assert made.shape == (3, 4)
    assert made.dtype is dtype
    apart = testing.make_tensor(3, 4, dtype=dtype, noncontiguous=True, exclude_zero=True)
    assert apart.shape == (3, 4)
    if name in ("float32", "int64"):
        assert ((made >= 2) & (made <= 5)).all()
