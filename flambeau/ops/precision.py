"""Half precision in composites: computed in float32, rounded once; and cotangents that fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flambeau.dtype import dtype as DType
from flambeau.dtype import float32, float64
from flambeau.ops.conversion import to_dtype
from flambeau.ops.movement import sum_to
from flambeau.tensor import Tensor


def widen(x: Tensor) -> Tensor:
    """A float16 or bfloat16 tensor as float32; any other as it is."""
    if x.dtype.category == 2 and x.dtype.itemsize < 4:
        return to_dtype(x, float32)
    return x


def doubled(x: Tensor) -> Tensor:
    """A floating-point tensor in the dtype that long sums of it are carried in: float32 for half
    types, float64 for the others, so that one rounding is seen in the result."""
    return cast(x, float64 if x.dtype.itemsize >= 4 else float32)


def cast(x: Tensor, dtype: DType) -> Tensor:
    """The tensor as `dtype`, itself where it already is."""
    return x if x.dtype is dtype else to_dtype(x, dtype)


def fit(g: Tensor, arg: Any) -> Tensor:
    """A cotangent summed over the dimensions that broadcasting added, in the argument's dtype."""
    return cast(sum_to(g, tuple(arg.shape)), arg.dtype)


def rounded_once(formula: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """A formula of several operations: on 16-bit floats in float32, and rounded once; on others as
    it is written."""
    dtype = tensors[0].dtype
    if dtype.category == 2 and dtype.itemsize == 2 and all(t.dtype is dtype for t in tensors):
        return to_dtype(formula(*map(widen, tensors)), dtype)
    return formula(*tensors)
