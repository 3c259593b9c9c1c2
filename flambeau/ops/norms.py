"""Norms of vectors and matrices, and distances."""

from __future__ import annotations

import math
from typing import Any

from flambeau import dtypes
from flambeau.dtype import dtype as DType
from flambeau.ops.elementwise import select_where
from flambeau.ops.entries import called
from flambeau.ops.factorization import inverse_of
from flambeau.ops.linalg import linalg_svdvals, matrices
from flambeau.ops.precision import cast, widen
from flambeau.ops.reduction import _axes
from flambeau.ops.rows import NAMES
from flambeau.ops.rules import derived
from flambeau.ops.spaces import only_in
from flambeau.ops.table import composite
from flambeau.ops.writing import write_out
from flambeau.size import wrap_dim
from flambeau.tensor import Tensor

# -- vectors ---------------------------------------------------------------------------------------


def _numbers(name: str, x: Tensor, dtype: DType | None) -> Tensor:
    """What a norm is taken of, in the dtype that it is asked in."""
    if x.dtype.category < 2:
        raise RuntimeError(
            f"{name}: Expected a floating point or complex tensor as input. Got {x.dtype.word}"
        )
    if dtype is None:
        return x
    if dtype.category < 2 or dtype.is_complex is not x.dtype.is_complex:
        want = "complex" if x.dtype.is_complex else "real"
        raise RuntimeError(
            f"{name}: dtype should be floating point or complex, and {want} for {want} inputs, "
            f"but got {dtype.word}"
        )
    if x.dtype.to_real().itemsize > dtype.to_real().itemsize:
        raise RuntimeError(
            f"{name}: the dtype of the input ({x.dtype.word}) should be convertible without "
            f"narrowing to the specified dtype ({dtype.word})"
        )
    return x.to(dtype)


@composite(method=False, public=False, out=True, aliases=("linalg.vector_norm",))
def vector_norm(
    x: Tensor, ord: Any = 2, dim: Any = None, keepdim: bool = False, *, dtype: DType | None = None
) -> Tensor:
    """(sum |x|^ord)^(1/ord) over dimensions; inf, -inf and 0 as limits."""
    x = _numbers("linalg.vector_norm", x, dtype)
    if x.dtype.itemsize < 4:  # powers of halves overflow where the norm does not
        return cast(vector_norm(widen(x), ord, dim, keepdim), x.dtype)
    axes = _axes(dim, x)
    if not axes:  # a number is a vector of one
        return vector_norm(x.reshape(1), ord, 0)
    if ord < 0 or ord == math.inf:
        for a in axes:
            if not x._shape[a]:
                raise RuntimeError(
                    f"linalg.vector_norm cannot compute the {float(ord)} norm on the dimension "
                    f"{a} because this dimension is empty and the operation does not have an "
                    "identity"
                )
    if ord == 2:
        found: Tensor = _euclidean(x, axes, bool(keepdim))
        return found
    magnitude = NAMES["abs"](x)
    if ord == math.inf:
        return NAMES["amax"](magnitude, axes, keepdim)
    if ord == -math.inf:
        return NAMES["amin"](magnitude, axes, keepdim)
    if ord == 0:  # constant wherever it can be differentiated
        return NAMES["sum"]((x != 0).to(magnitude.dtype) + magnitude * 0.0, axes, keepdim)
    if ord == 1:
        return NAMES["sum"](magnitude, axes, keepdim)
    return _of_powers(magnitude, float(ord), axes, keepdim)


@derived
@composite(keep=True, method=False, public=False)
def _euclidean(x: Tensor, axes: tuple[int, ...], keepdim: bool) -> Tensor:
    """Euclidean norm, whose gradient at 0 is 0 (the subgradient torch takes)."""
    squares = NAMES["abs"](x) ** 2 if x.dtype.is_complex else x * x
    total = NAMES["sum"](squares, axes, keepdim)
    if not x.requires_grad:
        return NAMES["sqrt"](total)
    zero = total == 0
    safe = select_where(zero, 1.0, total)
    return select_where(zero, 0.0, NAMES["sqrt"](safe))


def _of_powers(size: Tensor, ord: float, axes: tuple[int, ...], keepdim: bool) -> Tensor:
    """The norm of magnitudes; where it is 0, its gradient is taken as 0."""
    total = NAMES["sum"](size**ord, axes, keepdim)
    if not size.requires_grad:
        return total ** (1.0 / ord)
    inside = select_where(size == 0, 1.0, size)
    powers = select_where(size == 0, 0.0 if ord > 0 else math.inf, inside**ord)
    total = NAMES["sum"](powers, axes, keepdim)
    zero = total == 0
    return select_where(zero, 0.0, select_where(zero, 1.0, total) ** (1.0 / ord))


# -- matrices --------------------------------------------------------------------------------------


@composite(method=False, public=False, out=True, aliases=("linalg.matrix_norm",))
def matrix_norm(
    A: Tensor,
    ord: Any = "fro",
    dim: Any = (-2, -1),
    keepdim: bool = False,
    *,
    dtype: DType | None = None,
) -> Tensor:
    """Norms of matrices in two dimensions.

    Args:
        ord: "fro" (Euclidean), "nuc" (the sum of the singular values), 2 and -2 (the largest and
            smallest of them), 1 and -1 (of the columns' sums), inf and -inf (of the rows').
    """
    name = "linalg.matrix_norm"
    a = _numbers(name, A, dtype)
    if a.ndim < 2:
        raise RuntimeError(f"{name}: The input tensor A must have at least 2 dimensions.")
    dims = [dim] if isinstance(dim, int) else list(dim)
    if len(dims) != 2:
        raise RuntimeError(f"{name}: dim must be a 2-tuple. Got {' '.join(map(str, dims))}")
    rows, columns = (wrap_dim(d, a.ndim) for d in dims)
    if rows == columns:
        raise RuntimeError(f"{name}: dims must be different. Got ({dims[0]}, {dims[1]})")
    if isinstance(ord, str) and ord not in ("fro", "nuc"):
        raise RuntimeError(f"{name}: Order {ord} not supported.")
    if ord == "fro":
        return vector_norm(a, 2, (rows, columns), keepdim)
    if ord in ("nuc", 2, -2):
        values = linalg_svdvals(NAMES["movedim"](a, (rows, columns), (-2, -1)))
        if ord == "nuc":
            found = NAMES["sum"](values, -1)
        else:
            found = NAMES["amax" if ord == 2 else "amin"](values, -1)
        for d in sorted((rows, columns)) if keepdim else ():
            found = found.unsqueeze(d)
        return found
    if abs(ord) not in (1, math.inf):
        raise RuntimeError(f"{name}: Order {ord} not supported.")
    inner, outer = (rows, columns) if abs(ord) == 1 else (columns, rows)
    sums = vector_norm(a, 1, inner, True)
    found = NAMES["amax" if ord > 0 else "amin"](sums, outer, True)
    return found if keepdim else found.squeeze((rows, columns))


@only_in("linalg.norm", autocast="exempt")
def linalg_norm(
    A: Tensor,
    ord: Any = None,
    dim: Any = None,
    keepdim: bool = False,
    *,
    dtype: DType | None = None,
) -> Tensor:
    """A vector's norm over one dimension, a matrix's over two; of all elements without `ord`."""
    if dim is not None:
        dims = [dim] if isinstance(dim, int) else list(dim)
        if len(dims) not in (1, 2):
            raise RuntimeError(
                f"linalg.norm: If dim is specified, it must be of length 1 or 2. Got {list(dims)}"
            )
    elif ord is not None:
        if A.ndim not in (1, 2):
            raise RuntimeError(
                "linalg.norm: If dim is not specified but ord is, the input must be 1D or 2D. Got "
                f"{A.ndim}D."
            )
        dims = list(range(A.ndim))
    if ord is None:
        return vector_norm(A, 2, dim, keepdim, dtype=dtype)
    if len(dims) == 2:
        return matrix_norm(A, ord, dims, keepdim, dtype=dtype)
    if isinstance(ord, str):
        raise RuntimeError(f"linalg.norm: Order {ord} is for matrices, not vectors")
    return vector_norm(A, ord, dims, keepdim, dtype=dtype)


@composite()
@called("LinalgVectorNorm")
def norm(
    input: Tensor,
    p: Any = "fro",
    dim: Any = None,
    keepdim: bool = False,
    out: Any = None,
    dtype: DType | None = None,
) -> Tensor:
    """Norm of all elements or over dimensions: a p-norm, "fro" (2) or "nuc"."""
    if p == "nuc":
        found = matrix_norm(input, "nuc", (0, 1) if dim is None else dim, keepdim, dtype=dtype)
    else:
        if isinstance(p, str) and p != "fro":
            raise RuntimeError(f"only valid string values are 'fro' and 'nuc', found: {p}")
        order = 2 if p is None or p == "fro" else p
        found = vector_norm(input, order, dim, keepdim, dtype=dtype)
    return found if out is None else write_out(out, found, (input,))


@only_in("linalg.cond")
def linalg_cond(A: Tensor, p: Any = None) -> Tensor:
    """Condition numbers in a norm: |A| |A^-1|, for 2 and -2 a ratio of singular values."""
    matrices("linalg.cond", A, square=p not in (None, 2, -2))
    if isinstance(p, str) and p not in ("fro", "nuc"):
        raise RuntimeError(f"linalg.cond got an invalid norm type: {p}")
    if not A.numel():
        return NAMES["zeros"](A._shape[:-2], dtype=A.dtype.to_real())
    if p in (None, 2, -2):
        values = linalg_svdvals(A)
        most, least = values[..., 0], values[..., -1]
        return least / most if p == -2 else most / least
    found = matrix_norm(A, p) * matrix_norm(inverse_of(A, False), p)
    return NAMES["where"](NAMES["isnan"](found), math.inf, found)


# -- distances -------------------------------------------------------------------------------------


@composite(inplace=True, out=True)
def renorm(input: Tensor, p: float, dim: int, maxnorm: float) -> Tensor:
    """input with each entry of a dimension scaled down to a p-norm of at most maxnorm."""
    if input.ndim < 2:
        raise RuntimeError(f"renorm: input needs at least 2 dimensions, got {input.ndim}")
    if p <= 0:
        raise RuntimeError("renorm: non-positive-norm not supported")
    if maxnorm < 0:
        raise RuntimeError(f"renorm: expected maxnorm to be >= 0 but got {maxnorm}")
    d = wrap_dim(dim, input.ndim)
    others = tuple(k for k in range(input.ndim) if k != d)
    size = vector_norm(input, p, others, True)
    scale = select_where(size > maxnorm, float(maxnorm) / (size + 1e-7), 1.0)
    return input * scale.to(input.dtype)


@composite(method=False, autocast="float32")
def cdist(x1: Tensor, x2: Tensor, p: float = 2.0, compute_mode: str | None = None) -> Tensor:
    """Distances (..., P, R) in the p-norm between the rows of (..., P, M) and (..., R, M)."""
    for name, x in (("X1", x1), ("X2", x2)):
        if x.dtype.category != 2:
            raise RuntimeError(
                f"cdist only supports floating-point dtypes, {name} got: {x.dtype.word}"
            )
        if x.ndim < 2:
            raise RuntimeError(f"cdist only supports at least 2D tensors, {name} got: {x.ndim}D")
    if x1._shape[-1] != x2._shape[-1]:
        raise RuntimeError(
            f"X1 and X2 must have the same number of columns. X1: {x1._shape[-1]} "
            f"X2: {x2._shape[-1]}"
        )
    if p < 0:
        raise RuntimeError("cdist only supports non-negative p values")
    if p == math.inf and not x1._shape[-1]:
        p = 2.0  # without coordinates every distance is 0
    return vector_norm(x1.unsqueeze(-2) - x2.unsqueeze(-3), p, -1)


@composite(method=False, functional=True)
def pdist(input: Tensor, p: float = 2.0) -> Tensor:
    """Distances in the p-norm between every two rows of (N, M), above the diagonal: N(N-1)/2."""
    if input.ndim != 2:
        raise RuntimeError(f"pdist only supports 2D tensors, got: {input.ndim}D")
    if input.dtype.category != 2:
        raise RuntimeError("pdist only supports floating-point dtypes")
    if p < 0:
        raise RuntimeError("pdist only supports non-negative p values")
    n = input._shape[0]
    if n < 2:
        return NAMES["zeros"](0, dtype=input.dtype) + input.sum() * 0.0
    one, other = NAMES["triu_indices"](n, n, 1, dtype=dtypes.int64)
    return vector_norm(input[one] - input[other], p, -1)
