# Written by tools/generate.py from the table of operations; do not edit.

import builtins as _builtins
from typing import Any

import numpy as np

from flambeau import record as _record
from flambeau.device import device as _Device
from flambeau.dtype import dtype as _DType
from flambeau.ir.graph import Node as _Node
from flambeau.layout import layout as _Layout
from flambeau.ops.generator import Generator as _Generator
from flambeau.size import Size as _Size
from flambeau.storage import TypedStorage as _TypedStorage
from flambeau.storage import UntypedStorage as _UntypedStorage
from flambeau.tape import GradFn as _GradFn
from flambeau.tape import Handle as _Handle

from flambeau.tensor import Tensor as Tensor
from flambeau.ops.factorization import LinAlgError as LinAlgError

def cholesky(A: Tensor, *, upper: _builtins.bool = False) -> Tensor:
    """L with A = L L^H of positive-definite Hermitian matrices; `upper`: L^H."""
def cholesky_ex(A: Tensor, *, upper: _builtins.bool = False, check_errors: _builtins.bool = False) -> Any:
    """(L, info): as `linalg.cholesky`, saying in info which leading minor was not positive."""
def cond(A: Tensor, p: Any = None) -> Tensor:
    """Condition numbers in a norm: |A| |A^-1|, for 2 and -2 a ratio of singular values."""
def cross(input: Tensor, other: Tensor, *, dim: _builtins.int = -1) -> Tensor:
    """Cross products of 3-vectors along one dimension."""
def det(A: Tensor) -> Tensor:
    """Determinants of square matrices."""
def diagonal(A: Tensor, *, offset: _builtins.int = 0, dim1: _builtins.int = -2, dim2: _builtins.int = -1) -> Tensor:
    """The diagonals of matrices, a view."""
def eig(A: Tensor) -> Any:
    """(eigenvalues, eigenvectors) of square matrices, complex."""
def eigh(A: Tensor, UPLO: _builtins.str = "L") -> Any:
    """(eigenvalues ascending, eigenvectors) of Hermitian matrices, read from one triangle."""
def eigvals(A: Tensor) -> Tensor:
    """The eigenvalues of square matrices, complex."""
def eigvalsh(A: Tensor, UPLO: _builtins.str = "L") -> Tensor:
    """The eigenvalues of Hermitian matrices, ascending."""
def householder_product(input: Tensor, tau: Tensor) -> Tensor:
    """The first columns of the product of Householder reflections, as `geqrf` gives them."""
def inv(A: Tensor) -> Tensor:
    """Inverses of square matrices."""
def inv_ex(A: Tensor, *, check_errors: _builtins.bool = False) -> Any:
    """(inverse, info): info is 0 where there is an inverse; elsewhere it is NaN."""
def ldl_factor(A: Tensor, *, hermitian: _builtins.bool = False) -> Any:
    """(LD, pivots): the LDL factorization of symmetric or Hermitian matrices, packed."""
def ldl_factor_ex(A: Tensor, *, hermitian: _builtins.bool = False, check_errors: _builtins.bool = False) -> Any:
    """(LD, pivots, info): as `linalg.ldl_factor`; info is 0 where D is regular."""
def ldl_solve(LD: Tensor, pivots: Tensor, B: Tensor, *, hermitian: _builtins.bool = False) -> Tensor:
    """X with A X = B, from A's LDL factors."""
def lstsq(A: Tensor, B: Tensor, rcond: _builtins.float | None = None, *, driver: _builtins.str | None = None) -> Any:
    """The X of least |A X - B|: (solution, residuals, rank, singular_values)."""
def lu(A: Tensor, *, pivot: _builtins.bool = True) -> Any:
    """(P, L, U) with A = P L U; without `pivot` P is empty."""
def lu_factor(A: Tensor, *, pivot: _builtins.bool = True) -> Any:
    """(LU, pivots): L and U of a row-exchanged A in one matrix, and the exchanges from 1."""
def lu_factor_ex(A: Tensor, *, pivot: _builtins.bool = True, check_errors: _builtins.bool = False) -> Any:
    """(LU, pivots, info): info is the first diagonal element of U that is 0, counted from 1."""
def lu_solve(LU: Tensor, pivots: Tensor, B: Tensor, *, left: _builtins.bool = True, adjoint: _builtins.bool = False) -> Tensor:
    """X with A X = B (X A = B without `left`, A^H for A with `adjoint`) from A's LU factors."""
def matmul(input: Tensor, other: Tensor) -> Tensor:
    """Matrix product: dot product of vectors, matrix-vector, or batched matrix-matrix."""
def matrix_exp(A: Tensor) -> Tensor:
    """Exponentials of square matrices, sum of A^k / k!."""
def matrix_norm(A: Tensor, ord: Any = "fro", dim: Any = ..., keepdim: _builtins.bool = False, *, dtype: _DType | None = None) -> Tensor:
    """Norms of matrices in two dimensions."""
def matrix_power(input: Tensor, n: _builtins.int) -> Tensor:
    """A square matrix multiplied by itself n times, by squaring; its inverse where n < 0."""
def matrix_rank(A: Tensor, tol: Any = None, hermitian: _builtins.bool = False, *, atol: Any = None, rtol: Any = None) -> Tensor:
    """How many singular values exceed max(atol, rtol * the largest), int64."""
def multi_dot(tensors: Any) -> Tensor:
    """Product of several matrices (the first and last may be vectors) in the cheapest order."""
def norm(A: Tensor, ord: Any = None, dim: Any = None, keepdim: _builtins.bool = False, *, dtype: _DType | None = None) -> Tensor:
    """A vector's norm over one dimension, a matrix's over two; of all elements without `ord`."""
def pinv(A: Tensor, rcond: Any = None, hermitian: _builtins.bool = False, *, atol: Any = None, rtol: Any = None) -> Tensor:
    """Moore-Penrose inverses; singular values up to max(atol, rtol * the largest) count as 0."""
def qr(A: Tensor, mode: _builtins.str = "reduced") -> Any:
    """(Q, R) with A = Q R: orthonormal columns and an upper triangle."""
def slogdet(A: Tensor) -> Any:
    """(sign, logabsdet): the determinant's sign and the logarithm of its absolute value."""
def solve(A: Tensor, B: Tensor, *, left: _builtins.bool = True) -> Tensor:
    """X with A X = B (X A = B without `left`); B may be a vector or a batch of vectors."""
def solve_ex(A: Tensor, B: Tensor, *, left: _builtins.bool = True, check_errors: _builtins.bool = False) -> Any:
    """(result, info) of `linalg.solve`: info is 0 where there is a solution, elsewhere which"""
def solve_triangular(A: Tensor, B: Tensor, *, upper: _builtins.bool, left: _builtins.bool = True, unitriangular: _builtins.bool = False) -> Tensor:
    """X with A X = B (X A = B without `left`) for the triangle `upper` says of A."""
def svd(A: Tensor, full_matrices: _builtins.bool = True, *, driver: _builtins.str | None = None) -> Any:
    """(U, S, Vh) with A = U diag(S) Vh; without `full_matrices` only min(m, n) vectors each."""
def svdvals(A: Tensor, *, driver: _builtins.str | None = None) -> Tensor:
    """The singular values, descending."""
def tensorinv(A: Tensor, ind: _builtins.int = 2) -> Tensor:
    """The inverse of the map that tensordot with A is, over its dimensions from `ind`."""
def tensorsolve(A: Tensor, B: Tensor, dims: Any = None) -> Tensor:
    """X with tensordot(A, X, X.ndim) = B; `dims` of A are moved to the right first."""
def vander(x: Tensor, *, N: _builtins.int | None = None) -> Tensor:
    """Vandermonde matrices: powers 0 to N - 1 (default: the size) of each element as a row."""
def vecdot(x: Tensor, y: Tensor, *, dim: _builtins.int = -1) -> Tensor:
    """Sums of the products of the conjugate of x with y, over one dimension."""
def vector_norm(x: Tensor, ord: Any = 2, dim: Any = None, keepdim: _builtins.bool = False, *, dtype: _DType | None = None) -> Tensor:
    """(sum |x|^ord)^(1/ord) over dimensions; inf, -inf and 0 as limits."""
