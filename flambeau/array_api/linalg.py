"""Products and factorizations of matrices, which stand in the last two axes."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import flambeau
from flambeau import linalg
from flambeau.array_api.arrangement import matrix_transpose as matrix_transpose
from flambeau.array_api.promotion import alike
from flambeau.array_api.statistics import sum

EigResult = namedtuple("EigResult", "eigenvalues eigenvectors")
EighResult = namedtuple("EighResult", "eigenvalues eigenvectors")
QRResult = namedtuple("QRResult", "Q R")
SlogdetResult = namedtuple("SlogdetResult", "sign logabsdet")
SVDResult = namedtuple("SVDResult", "U S Vh")


def matmul(x1: Any, x2: Any, /) -> Any:
    """Products of matrices."""
    return flambeau.matmul(*alike(x1, x2))


def vecdot(x1: Any, x2: Any, /, *, axis: int = -1) -> Any:
    """Products of vectors along an axis, the first conjugated.

    Raises:
        ValueError: vectors of different sizes.
    """
    if x1.shape[axis] != x2.shape[axis]:
        raise ValueError(f"vectors of {x1.shape[axis]} and {x2.shape[axis]} elements")
    left, right = (flambeau.moveaxis(x, axis, -1) for x in alike(x1, x2))
    return flambeau.sum(flambeau.conj_physical(left) * right, -1, dtype=left.dtype)


def tensordot(x1: Any, x2: Any, /, *, axes: Any = 2) -> Any:
    """Sums of products over axes: so many of the last and first, or those named for each."""
    x1, x2 = alike(x1, x2)
    return flambeau.tensordot(x1, x2, axes)


def outer(x1: Any, x2: Any, /) -> Any:
    """Products of every two elements."""
    return flambeau.outer(*alike(x1, x2))


def cross(x1: Any, x2: Any, /, *, axis: int = -1) -> Any:
    """Vector products along an axis of size 3.

    Raises:
        ValueError: an axis of another size.
    """
    if x1.shape[axis] != 3 or x2.shape[axis] != 3:
        raise ValueError(f"axis {axis} must have size 3, not {x1.shape[axis]}, {x2.shape[axis]}")
    return linalg.cross(*flambeau.broadcast_tensors(*alike(x1, x2)), dim=axis)


def diagonal(x: Any, /, *, offset: int = 0) -> Any:
    """Diagonals."""
    return flambeau.diagonal(x, offset, -2, -1)


def trace(x: Any, /, *, offset: int = 0, dtype: Any = None) -> Any:
    """Sums of diagonals."""
    return sum(diagonal(x, offset=offset), axis=-1, dtype=dtype)


def cholesky(x: Any, /, *, upper: bool = False) -> Any:
    """The triangle L with L L^H = x, or its conjugate transpose."""
    return linalg.cholesky(x, upper=upper)


def det(x: Any, /) -> Any:
    """Determinants."""
    return linalg.det(x)


def inv(x: Any, /) -> Any:
    """Inverses."""
    return linalg.inv(x)


def solve(x1: Any, x2: Any, /) -> Any:
    """What x1 must be multiplied with to give x2, a vector or matrices."""
    x1, x2 = alike(x1, x2)
    if x2.ndim == 1:
        return linalg.solve(x1, x2.unsqueeze(-1)).squeeze(-1)
    if x1.ndim - 1 == x2.ndim and x1.shape[:-1] == x2.shape:
        x2 = x2.unsqueeze(0)  # matrices, not a batch of vectors
    return linalg.solve(x1, x2)


def pinv(x: Any, /, *, rtol: Any = None) -> Any:
    """Pseudo-inverses; singular values below rtol times the largest count as 0."""
    if rtol is None:
        rtol = max(x.shape[-2:]) * flambeau.finfo(x.dtype.to_real()).eps
    return linalg.pinv(x, rtol=rtol)


def matrix_rank(x: Any, /, *, rtol: Any = None) -> Any:
    """How many singular values are above rtol times the largest."""
    values = linalg.svdvals(x)
    if rtol is None:
        rtol = max(x.shape[-2:]) * flambeau.finfo(values.dtype).eps
    if isinstance(rtol, flambeau.Tensor):
        rtol = rtol.unsqueeze(-1)
    return (values > flambeau.amax(values, -1, keepdim=True) * rtol).sum(-1)


def matrix_power(x: Any, n: int, /) -> Any:
    """Products of matrices with themselves."""
    return linalg.matrix_power(x, n)


def matrix_norm(x: Any, /, *, keepdims: bool = False, ord: Any = "fro") -> Any:
    """Norms of matrices."""
    return linalg.matrix_norm(x, ord, (-2, -1), keepdims)


def vector_norm(x: Any, /, *, axis: Any = None, keepdims: bool = False, ord: Any = 2) -> Any:
    """Norms of vectors along axes, or of the flat array."""
    if axis == ():
        size = flambeau.abs(x)
        return (size != 0).to(size.dtype) if ord == 0 else size
    return linalg.vector_norm(x, ord, axis, keepdims)


def eigh(x: Any, /) -> Any:
    """Eigenvalues, ascending, and eigenvectors of symmetric or Hermitian matrices."""
    return EighResult(*linalg.eigh(x))


def eigvalsh(x: Any, /) -> Any:
    """Eigenvalues, ascending, of symmetric or Hermitian matrices."""
    return linalg.eigvalsh(x)


def eig(x: Any, /) -> Any:
    """Eigenvalues and eigenvectors, complex."""
    return EigResult(*linalg.eig(x))


def eigvals(x: Any, /) -> Any:
    """Eigenvalues, complex."""
    return linalg.eigvals(x)


def qr(x: Any, /, *, mode: str = "reduced") -> Any:
    """Orthonormal columns times an upper triangle."""
    return QRResult(*linalg.qr(x, mode))


def slogdet(x: Any, /) -> Any:
    """Signs and logarithms of the magnitudes of determinants."""
    return SlogdetResult(*linalg.slogdet(x))


def svd(x: Any, /, *, full_matrices: bool = True) -> Any:
    """Singular values between two orthonormal matrices."""
    return SVDResult(*linalg.svd(x, full_matrices))


def svdvals(x: Any, /) -> Any:
    """Singular values, descending."""
    return linalg.svdvals(x)


__all__ = [
    *("cholesky", "cross", "det", "diagonal", "eig", "eigh", "eigvals", "eigvalsh", "inv"),
    *("matmul", "matrix_norm", "matrix_power", "matrix_rank", "matrix_transpose", "outer", "pinv"),
    *("qr", "slogdet", "solve", "svd", "svdvals", "tensordot", "trace", "vecdot", "vector_norm"),
]
