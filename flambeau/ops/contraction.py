"""Contraction: the batched matrix product and what is made of it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from flambeau import overriding
from flambeau.layout import strided
from flambeau.ops.elementwise import mul
from flambeau.ops.movement import sum_to, transpose
from flambeau.ops.reduction import sum_axes
from flambeau.ops.rows import NAMES
from flambeau.ops.table import composite, emit, primitive
from flambeau.overriding import UNCLAIMED, ask
from flambeau.size import broadcast_shapes
from flambeau.tape import Spec
from flambeau.tensor import Tensor


@primitive("contraction", jvp="multilinear")
def matmul_batched(row: Any, input: Tensor, other: Tensor) -> Tensor:
    """(..., M, K) @ (..., K, N) -> (..., M, N); batch dimensions broadcast."""
    a, b = input._shape, other._shape
    batch = broadcast_shapes(a[:-2], b[:-2]) if a[:-2] != b[:-2] else a[:-2]
    return emit(row, (input, other), (), (*batch, a[-2], b[-1]), input.dtype)


def _matmul_vjp(g: Any, out: Any, a: Any, b: Any) -> tuple[Any, Any]:
    """g @ b^T and a^T @ g; a factor that was not kept is one whose partner needs nothing."""
    ga = None if type(b) is Spec else sum_to(matmul_batched(g, transpose(b, -2, -1)), a.shape)
    if type(a) is Spec:
        return ga, None
    if b.ndim == 2 and a.ndim > 2:
        # one product over all rows instead of a sum of products
        rows = a.reshape(-1, a.shape[-1])
        return ga, matmul_batched(transpose(rows, 0, 1), g.reshape(-1, g.shape[-1]))
    return ga, sum_to(matmul_batched(transpose(a, -2, -1), g), b.shape)


matmul_batched.flops(lambda node: 2 * node.numel * node.src[0].shape[-1])
matmul_batched.row.complex = True
matmul_batched.vjp(_matmul_vjp, saves="input other")


def _matmul_reference(a: Any, b: Any) -> Any:
    return np.matmul(a, b)


matmul_batched.reference(_matmul_reference)


@primitive("contraction", linear=((0, 2), (1, 2)))
def matmul_biased(row: Any, input: Tensor, other: Tensor, bias: Tensor) -> Tensor:
    """(..., M, K) @ (K, N) + bias, one of (N) for all rows; 16-bit results are rounded once."""
    shape = (*input._shape[:-1], other._shape[-1])
    return emit(row, (input, other, bias), (), shape, input.dtype)


matmul_biased.flops(lambda node: 2 * node.numel * node.src[0].shape[-1])
matmul_biased.vjp(
    lambda g, out, a, b, bias: (*_matmul_vjp(g, out, a, b), sum_to(g, bias.shape)),
    saves="input other",
)
matmul_biased.reference(lambda a, b, bias: np.matmul(a, b) + bias)


def _check(a: Tensor, b: Tensor) -> None:
    if a.dtype is not b.dtype:
        raise RuntimeError(
            f"expected m1 and m2 to have the same dtype, but got: {a.dtype} != {b.dtype}"
        )
    if a._shape[-1] != b._shape[-2]:
        left = "x".join(map(str, (int(np.prod(a._shape[:-1])), a._shape[-1])))
        right = "x".join(map(str, b._shape[-2:]))
        raise RuntimeError(f"mat1 and mat2 shapes cannot be multiplied ({left} and {right})")


@composite(out="exact", autocast="lower", aliases=("linalg.matmul",))
def matmul(input: Tensor, other: Tensor) -> Tensor:
    """Matrix product: dot product of vectors, matrix-vector, or batched matrix-matrix.

    Raises:
        RuntimeError: sizes or dtypes that do not fit, or a 0-d argument.
    """
    for x in (input, other):
        if x.layout is not strided:
            found: Tensor = x.matrix_product(input, other)  # type: ignore[attr-defined]
            return found
    if input.ndim == 0 or other.ndim == 0:
        raise RuntimeError(
            f"both arguments to matmul need to be at least 1D, but they are "
            f"{input.ndim}D and {other.ndim}D"
        )
    a = input.unsqueeze(0) if input.ndim == 1 else input
    b = other.unsqueeze(1) if other.ndim == 1 else other
    if input.ndim == 1 and other.ndim == 1 and input._shape != other._shape:
        raise RuntimeError(
            f"inconsistent tensor size, expected tensor {list(input.shape)} and src "
            f"{list(other.shape)} to have the same number of elements, but got "
            f"{input.numel()} and {other.numel()} elements respectively"
        )
    _check(a, b)
    if a is not input and b is not other and input.dtype.category == 2 and input.dtype.itemsize > 2:
        return sum_axes(mul(input, other), (0,))
    if b.ndim == 2 and a.ndim > 2 and a.is_contiguous():
        out = matmul_batched(a.reshape(math.prod(a._shape[:-1]), a._shape[-1]), b)
        out = out.view(*a._shape[:-1], b._shape[-1])
    else:
        out = matmul_batched(a, b)
    if input.ndim == 1:
        out = out.squeeze(-2)
    return out.squeeze(-1) if other.ndim == 1 else out


def _matrix_operator(reflected: bool) -> Any:
    def call(self: Tensor, other: Any) -> Any:
        if overriding.on:
            sides = (other, self) if reflected else (self, other)
            if (found := ask(matmul, sides, {})) is not UNCLAIMED:
                return found
        if isinstance(other, np.ndarray):
            other = NAMES["as_tensor"](other)
        elif not isinstance(other, Tensor):
            return NotImplemented
        return matmul(other, self) if reflected else matmul(self, other)

    return call


setattr(Tensor, "__matmul__", _matrix_operator(False))
setattr(Tensor, "__rmatmul__", _matrix_operator(True))
setattr(Tensor, "__imatmul__", lambda self, other: self.copy_(matmul(self, other)))
