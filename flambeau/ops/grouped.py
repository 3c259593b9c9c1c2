"""Products of matrices by groups of rows, whose sizes are known when the program runs.

The experts of a mixture each multiply the tokens that were sent to them: one product a group, with
the ends of the groups in a tensor. The shapes of the results do not depend on these ends, so
nothing waits for them while recording.

Reference: Gale, Narayanan, Young, Zaharia, "MegaBlocks: Efficient Sparse Training with
Mixture-of-Experts", MLSys 2023.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from flambeau.dtype import dtype as DType
from flambeau.dtype import int32
from flambeau.ops.arithmetic import dtype_word
from flambeau.ops.precision import cast
from flambeau.ops.table import composite, emit, primitive
from flambeau.tensor import Tensor

_HALVES = (np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16))


def _shape(a: Tensor, b: Tensor, groups: int) -> tuple[int, ...]:
    """The result's: (M, N), or (G, M, N) where the groups divide what is summed over."""
    if a.ndim == 2 and b.ndim == 2:
        return (groups, a._shape[0], b._shape[1])
    return (a._shape[-2], b._shape[-1])


@primitive("host", method=False, linear=((0,), (1,)))
def matmul_grouped(row: Any, input: Tensor, mat2: Tensor, ends: Tensor) -> Tensor:
    """Products by groups: of the rows of (M, K) with (G, K, N), of the columns of (K, N) with
    (G, M, K), or of the summed dimension of (M, K) @ (K, N), which gives (G, M, N).

    Args:
        input: left operands.
        mat2: right operands.
        ends: (G,) int32, where each group ends; what lies behind the last is 0 in the result.
    """
    shape = _shape(input, mat2, ends._shape[0])
    return emit(row, (input, mat2, ends), (), shape, input.dtype)


def _multiply(a: Any, b: Any, ends: Any) -> Any:
    wide = np.float32 if a.dtype in _HALVES else a.dtype
    groups = [slice(begin, end) for begin, end in zip([0, *ends[:-1]], ends, strict=True)]
    x, y = a.astype(wide, copy=False), b.astype(wide, copy=False)
    if a.ndim == 2 and b.ndim == 2:
        return np.stack([x[:, g] @ y[g] for g in groups]).astype(a.dtype, copy=False)
    out = np.zeros((a.shape[-2], b.shape[-1]), a.dtype)
    for at, g in enumerate(groups):
        if a.ndim == 2:
            out[g] = x[g] @ y[at]
        else:
            out[:, g] = x[at] @ y[:, g]
    return out


matmul_grouped.reference(_multiply)
matmul_grouped.flops(lambda node: 2 * node.numel * node.src[0].shape[-1])


def _matmul_grouped_vjp(
    g: Tensor, out: Any, input: Tensor, mat2: Tensor, ends: Tensor
) -> tuple[Any, ...]:
    return matmul_grouped(g, mat2.mT, ends), matmul_grouped(input.mT, g, ends), None


matmul_grouped.vjp(_matmul_grouped_vjp, saves="input mat2 ends")


@composite(method=False, public=False, functional=True, autocast="exempt")
def grouped_mm(
    mat_a: Tensor,
    mat_b: Tensor,
    *,
    offs: Tensor | None = None,
    bias: Tensor | None = None,
    out_dtype: DType | None = None,
) -> Tensor:
    """Matrix products by groups that a tensor of offsets delimits, as experts of a mixture need.

    Args:
        mat_a: (M, K), or (G, M, K) with the groups apart.
        mat_b: (G, K, N) or (K, N).
        offs: (G,) int32, the end of each group along the jagged dimension of the operands with two
            dimensions; None when both have three.
        bias: not there, as in PyTorch.
        out_dtype: the result's; the operands' when None.

    Returns:
        (M, N): groups of rows or columns with their own matrix; (G, M, N) where the groups divide
        K, or where both operands have them apart.

    Raises:
        RuntimeError: dimensions, sizes or dtypes that do not go together.
    """
    for x, which in ((mat_a, "mat_a"), (mat_b, "mat_b")):
        if x.ndim not in (2, 3):
            raise RuntimeError(f"{which} has to be 2 or 3d")
        if not x.dtype.is_floating_point:
            raise RuntimeError(
                f"Expected {which} to be a matrix of floating-point numbers, got "
                f"{dtype_word(x.dtype)}"
            )
    if mat_a.dtype is not mat_b.dtype:
        raise RuntimeError(
            f"expected mat_a and mat_b to have the same dtype, got {dtype_word(mat_a.dtype)} and "
            f"{dtype_word(mat_b.dtype)}"
        )
    if mat_a._shape[-1] != mat_b._shape[-2]:
        raise RuntimeError("contraction dimension of mat_a and mat_b must match")
    if bias is not None:
        raise RuntimeError("Bias not supported yet")
    jagged = mat_a.ndim == 2 or mat_b.ndim == 2
    if jagged != (offs is not None):
        raise RuntimeError(
            "Have to provide offsets if there is a 2d matrix, or no offset if both matrices are 3d"
        )
    if offs is None:
        found = mat_a @ mat_b
    else:
        if offs.dtype is not int32:
            raise RuntimeError("Offsets have to be int32")
        if offs.ndim != 1:
            raise RuntimeError("offs has to be 1D")
        batched = mat_a if mat_a.ndim == 3 else mat_b
        if batched.ndim == 3 and batched._shape[0] != offs._shape[0]:
            raise RuntimeError("matrix batch sizes have to match")
        found = matmul_grouped(mat_a, mat_b, offs)
    return found if out_dtype is None else cast(found, out_dtype)
