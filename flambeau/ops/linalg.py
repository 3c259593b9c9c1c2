"""Linear algebra as torch names it: checks, forms and what is made of factorizations."""

from __future__ import annotations

import math
from typing import Any

from flambeau import dtypes, record, return_types
from flambeau.ops.contraction import matmul
from flambeau.ops.entries import tracks
from flambeau.ops.factorization import (
    adjoint,
    determinant,
    exponential_of,
    hermitian_spectrum,
    inverse_of,
    lower_factor,
    orthogonal_factor,
    pseudoinverse,
    signed_log_determinant,
    singular_factors,
    singular_values,
    solution,
    spectrum,
    triangular_factors,
)
from flambeau.ops.precision import cast, widen
from flambeau.ops.products import cross
from flambeau.ops.rows import NAMES
from flambeau.ops.spaces import only_in
from flambeau.ops.substitution import substitute
from flambeau.ops.table import composite
from flambeau.size import broadcast_shapes
from flambeau.tensor import Tensor

# -- arguments -------------------------------------------------------------------------------------


def matrices(name: str, *given: Tensor, square: bool = False, of: str = "A") -> None:
    """Refuse what are no (square) matrices of floating-point or complex numbers.

    Raises:
        RuntimeError: too few dimensions, another dtype, or matrices that are not square.
    """
    for a in given:
        if a.ndim < 2:
            raise RuntimeError(f"{name}: The input tensor {of} must have at least 2 dimensions.")
        if a.dtype.category < 2:
            raise RuntimeError(
                f"{name}: Expected a floating point or complex tensor as input. Got {a.dtype.word}"
            )
        if a.dtype.itemsize < 4:
            raise RuntimeError(f"{name}: Low precision dtypes not supported. Got {a.dtype.word}")
        if square and a._shape[-1] != a._shape[-2]:
            raise RuntimeError(
                f"{name}: {of} must be batches of square matrices, but they are "
                f"{a._shape[-2]} by {a._shape[-1]} matrices"
            )


def one_dtype(name: str, a: Tensor, b: Tensor) -> None:
    """Refuse two matrices of different dtypes."""
    if a.dtype is not b.dtype:
        raise RuntimeError(
            f"{name}: Expected A and B to have the same dtype, but found A of type {a.dtype.word} "
            f"and B of type {b.dtype.word} instead"
        )


def batched_alike(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Two batches of matrices with their leading dimensions broadcast."""
    lead = broadcast_shapes(a._shape[:-2], b._shape[:-2])
    return tuple(  # type: ignore[return-value]
        x if x._shape[:-2] == lead else x.expand(*lead, *x._shape[-2:]) for x in (a, b)
    )


def _now(found: Any) -> Any:
    """Run what was recorded, so that a matrix without what is asked for is an error here, where
    programs catch it and go on (with more on the diagonal, say); -> what was given."""
    record.settle()
    return found


# -- Cholesky --------------------------------------------------------------------------------------


def _cholesky(name: str, a: Tensor, upper: bool, checked: bool) -> tuple[Tensor, Tensor]:
    matrices(name, a, square=True)
    factor, info = lower_factor(a, checked, upper)
    found = (adjoint(factor) if upper else factor), info
    return _now(found) if checked else found


@only_in("linalg.cholesky")
def linalg_cholesky(A: Tensor, *, upper: bool = False) -> Tensor:
    """L with A = L L^H of positive-definite Hermitian matrices; `upper`: L^H.

    Raises:
        LinAlgError: a matrix that is not positive-definite.
    """
    return _cholesky("linalg.cholesky", A, upper, True)[0]


@only_in("linalg.cholesky_ex")
def linalg_cholesky_ex(A: Tensor, *, upper: bool = False, check_errors: bool = False) -> Any:
    """(L, info): as `linalg.cholesky`, saying in info which leading minor was not positive."""
    return return_types.linalg_cholesky_ex(*_cholesky("linalg.cholesky_ex", A, upper, check_errors))


@composite(out=True, autocast="float32")
def cholesky(input: Tensor, upper: bool = False) -> Tensor:
    """L with input = L L^H; `upper`: L^H. torch's older name of `linalg.cholesky`."""
    return _cholesky("cholesky", input, upper, True)[0]


@composite(out=True, autocast="float32")
def cholesky_solve(input: Tensor, L: Tensor, upper: bool = False) -> Tensor:
    """X with A X = input, from A's Cholesky factor."""
    matrices("cholesky_solve", input, of="b")
    matrices("cholesky_solve", L, square=True)
    _rows_fit("cholesky_solve", L, input)
    factor, b = batched_alike(adjoint(L) if upper else L, input)
    return substitute(adjoint(factor), substitute(factor, b, False, False), True, False)


@composite(out=True, autocast="float32")
def cholesky_inverse(input: Tensor, upper: bool = False) -> Tensor:
    """The inverse of A, from A's Cholesky factor."""
    matrices("cholesky_inverse", input, square=True)
    eye = NAMES["eye"](input._shape[-1], dtype=input.dtype, device=input.device)
    return cholesky_solve(eye, input, upper)


# -- QR --------------------------------------------------------------------------------------------


def _qr(name: str, a: Tensor, mode: str) -> tuple[Tensor, Tensor]:
    matrices(name, a)
    m, n = a._shape[-2:]
    if m >= n or mode == "r":
        q, r = orthogonal_factor(a, mode == "complete")
    else:  # the first columns give Q; turned by it, the rest stands beside their triangle
        q, r = orthogonal_factor(a[..., :m], False)
        r = NAMES["cat"]([r, matmul(adjoint(q), a[..., m:])], -1)
    if mode == "r":
        q = NAMES["empty"](0, dtype=a.dtype, device=a.device)
    return q, r


@only_in("linalg.qr")
def linalg_qr(A: Tensor, mode: str = "reduced") -> Any:
    """(Q, R) with A = Q R: orthonormal columns and an upper triangle.

    Args:
        mode: "reduced", "complete" (square Q) or "r" (Q is empty).
    """
    if mode not in ("reduced", "complete", "r"):
        raise RuntimeError(
            f"qr received unrecognized mode '{mode}' but expected one of 'reduced' (default), "
            "'r', or 'complete'"
        )
    return return_types.linalg_qr(*_qr("linalg.qr", A, mode))


@composite(out=True, autocast="float32")
def qr(input: Tensor, some: bool = True) -> Any:
    """(Q, R) with input = Q R; torch's older form of `linalg.qr`."""
    return return_types.qr(*_qr("qr", input, "reduced" if some else "complete"))


# -- eigenvalues -----------------------------------------------------------------------------------


def _lower(name: str, word: str) -> bool:
    if word.upper() not in ("L", "U"):
        raise RuntimeError(f"Expected UPLO argument to be 'L' or 'U', but got {word}")
    return word.upper() == "L"


@only_in("linalg.eigh")
def linalg_eigh(A: Tensor, UPLO: str = "L") -> Any:
    """(eigenvalues ascending, eigenvectors) of Hermitian matrices, read from one triangle."""
    matrices("linalg.eigh", A, square=True)
    return return_types.linalg_eigh(*hermitian_spectrum(A, _lower("linalg.eigh", UPLO)))


@only_in("linalg.eigvalsh")
def linalg_eigvalsh(A: Tensor, UPLO: str = "L") -> Tensor:
    """The eigenvalues of Hermitian matrices, ascending."""
    matrices("linalg.eigvalsh", A, square=True)
    return hermitian_spectrum(A, _lower("linalg.eigvalsh", UPLO))[0]


@only_in("linalg.eig")
def linalg_eig(A: Tensor) -> Any:
    """(eigenvalues, eigenvectors) of square matrices, complex."""
    matrices("linalg.eig", A, square=True)
    return return_types.linalg_eig(*spectrum(A))


@only_in("linalg.eigvals")
def linalg_eigvals(A: Tensor) -> Tensor:
    """The eigenvalues of square matrices, complex."""
    matrices("linalg.eigvals", A, square=True)
    return spectrum(A)[0]


# -- singular values -------------------------------------------------------------------------------


@only_in("linalg.svd")
def linalg_svd(A: Tensor, full_matrices: bool = True, *, driver: str | None = None) -> Any:
    """(U, S, Vh) with A = U diag(S) Vh; without `full_matrices` only min(m, n) vectors each."""
    matrices("linalg.svd", A)
    return return_types.linalg_svd(*singular_factors(A, full_matrices))


@only_in("linalg.svdvals")
def linalg_svdvals(A: Tensor, *, driver: str | None = None) -> Tensor:
    """The singular values, descending."""
    matrices("linalg.svdvals", A)
    return singular_factors(A, False)[1] if tracks((A,)) else singular_values(A)


@composite(out=True, autocast="float32")
def svd(input: Tensor, some: bool = True, compute_uv: bool = True) -> Any:
    """(U, S, V) with input = U diag(S) V^H; torch's older form of `linalg.svd`."""
    matrices("torch.svd", input)
    if not compute_uv:
        *lead, m, n = input._shape
        u, v = (NAMES["zeros"]((*lead, k, k), dtype=input.dtype) for k in (m, n))
        return return_types.svd(u, linalg_svdvals(input), v)
    u, s, v = singular_factors(input, not some)
    return return_types.svd(u, s, adjoint(v))


def _values(a: Tensor, hermitian: bool) -> Tensor:
    if hermitian:
        matrices("linalg.eigh", a, square=True)
        return NAMES["abs"](hermitian_spectrum(a, True)[0])
    return singular_values(a)


def _least(a: Tensor, values: Tensor, atol: Any, rtol: Any) -> Tensor:
    """What singular values count as 0: up to the greater of atol and rtol times the largest."""
    eps = dtypes.finfo(a.dtype).eps
    zeros = NAMES["zeros"]((), dtype=values.dtype, device=a.device)
    if rtol is None:
        default = eps * max(a._shape[-2:])
        if isinstance(atol, Tensor):
            rtol = NAMES["where"](atol > 0, zeros, default)
        else:
            rtol = 0.0 if atol is not None and atol > 0 else default
    if not values._shape[-1]:
        return zeros.expand(*values._shape[:-1])
    largest = NAMES["amax"](values, -1)
    relative = largest * rtol
    absolute = zeros + (0.0 if atol is None else atol)
    return NAMES["maximum"](relative, absolute).to(values.dtype)


@only_in("linalg.matrix_rank")
def linalg_matrix_rank(
    A: Tensor, tol: Any = None, hermitian: bool = False, *, atol: Any = None, rtol: Any = None
) -> Tensor:
    """How many singular values exceed max(atol, rtol * the largest), int64."""
    matrices("linalg.matrix_rank", A)
    if tol is not None:
        atol, rtol = tol, 0.0
    for word, given in (("atol", atol), ("rtol", rtol)):
        if isinstance(given, Tensor) and given.dtype.is_complex:
            raise RuntimeError(
                f"torch.linalg.matrix_rank: {word} tensor of complex type is not supported. "
                f"Got {word} of type {given.dtype.word}"
            )
    values = _values(A.detach(), hermitian)
    least = _least(A, values, atol, rtol)
    return NAMES["sum"](values > least.unsqueeze(-1), -1)


def _pinv(a: Tensor, atol: Any, rtol: Any, hermitian: bool) -> Tensor:
    matrices("linalg.pinv", a, square=hermitian)
    values = _values(a.detach(), hermitian)
    least = _least(a, values, atol, rtol).detach()
    lead = broadcast_shapes(a._shape[:-2], least._shape)
    return pseudoinverse(a.expand(*lead, *a._shape[-2:]), least.expand(*lead), hermitian)


@only_in("linalg.pinv")
def linalg_pinv(
    A: Tensor, rcond: Any = None, hermitian: bool = False, *, atol: Any = None, rtol: Any = None
) -> Tensor:
    """Moore-Penrose inverses; singular values up to max(atol, rtol * the largest) count as 0.

    Reference: R. Penrose, A Generalized Inverse for Matrices (1955).
    """
    return _pinv(A, atol, rcond if rtol is None else rtol, hermitian)


@composite(out=True, autocast="float32")
def pinverse(input: Tensor, rcond: Any = 1e-15) -> Tensor:
    """Moore-Penrose inverses; torch's older form of `linalg.pinv`."""
    return _pinv(input, None, rcond, False)


# -- solutions and inverses ------------------------------------------------------------------------


def _rows_fit(name: str, a: Tensor, b: Tensor, left: bool = True) -> None:
    if b._shape[-2 if left else -1] != a._shape[-1]:
        raise RuntimeError(
            f"{name}: Incompatible shapes of A and B for the equation "
            f"{'AX = B' if left else 'XA = B'} ({a._shape[-2]}x{a._shape[-1]} and "
            f"{b._shape[-2]}x{b._shape[-1]})"
        )


def _solve(name: str, a: Tensor, b: Tensor, left: bool, checked: bool = True) -> Tensor:
    matrices(name, a, square=True)
    one_dtype(name, a, b)
    vector = b.ndim == 1 or (a.ndim - 1 == b.ndim and b._shape == a._shape[:-1])
    if vector and not left:
        raise RuntimeError(
            f"{name}: Vector broadcasting of the left hand side is not supported for left=False. "
            "In this case linalg.solve is equivalent to B / A.squeeze(-1)"
        )
    right = b.unsqueeze(-1) if vector else b
    matrices(name, right, of="B")
    _rows_fit(name, a, right, left)
    if not left:
        a, right = a.mT, right.mT
    found = solution(*batched_alike(a, right), checked)
    if checked:
        _now(found)
    return found.squeeze(-1) if vector else found if left else found.mT


@only_in("linalg.solve")
def linalg_solve(A: Tensor, B: Tensor, *, left: bool = True) -> Tensor:
    """X with A X = B (X A = B without `left`); B may be a vector or a batch of vectors.

    Raises:
        LinAlgError: a singular matrix.
    """
    return _solve("linalg.solve", A, B, left)


@only_in("linalg.solve_ex")
def linalg_solve_ex(A: Tensor, B: Tensor, *, left: bool = True, check_errors: bool = False) -> Any:
    """(result, info) of `linalg.solve`: info is 0 where there is a solution, elsewhere which
    pivot is 0, and the result is NaN."""
    found = _solve("linalg.solve_ex", A, B, left, check_errors)
    return return_types.linalg_solve_ex(found, triangular_factors(A.detach(), True)[3])


@only_in("linalg.solve_triangular")
def linalg_solve_triangular(
    A: Tensor, B: Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Tensor:
    """X with A X = B (X A = B without `left`) for the triangle `upper` says of A."""
    name = "linalg.solve_triangular"
    matrices(name, A, square=True)
    matrices(name, B, of="B")
    one_dtype(name, A, B)
    _rows_fit(name, A, B, left)
    a, b = batched_alike(A, B)
    if left:
        return substitute(a, b, upper, unitriangular)
    return substitute(a.mT, b.mT, not upper, unitriangular).mT


@composite(out=True, autocast="float32")
def triangular_solve(
    input: Tensor,
    A: Tensor,
    upper: bool = True,
    transpose: bool = False,
    unitriangular: bool = False,
) -> Any:
    """(X, A) with A X = input; torch's older form of `linalg.solve_triangular`."""
    for x, which in ((input, "b"), (A, "A")):
        if x.ndim < 2:
            raise RuntimeError(
                f"torch.triangular_solve: Expected {which} to have at least 2 dimensions, but it "
                f"has {x.ndim} dimensions instead"
            )
    matrices("triangular_solve", A, square=True)
    _rows_fit("triangular_solve", A, input)
    a, b = batched_alike(A, input)
    turned = adjoint(a) if transpose else a
    return return_types.triangular_solve(
        substitute(turned, b, upper is not transpose, unitriangular), NAMES["clone"](a)
    )


def _inv(a: Tensor, checked: bool) -> Tensor:
    matrices("linalg.inv", a, square=True)
    found = inverse_of(a, checked)
    return _now(found) if checked else found


@composite(out=True, autocast="float32", aliases=("linalg.inv",))
def inverse(A: Tensor) -> Tensor:
    """Inverses of square matrices.

    Raises:
        LinAlgError: a singular matrix.
    """
    return _inv(A, True)


@only_in("linalg.inv_ex")
def linalg_inv_ex(A: Tensor, *, check_errors: bool = False) -> Any:
    """(inverse, info): info is 0 where there is an inverse; elsewhere it is NaN."""
    found = _inv(A, check_errors)
    return return_types.linalg_inv_ex(
        found, NAMES["any"](NAMES["isnan"](found.detach()), (-2, -1)).to(dtypes.int32)
    )


@only_in("linalg.lstsq")
def linalg_lstsq(
    A: Tensor, B: Tensor, rcond: float | None = None, *, driver: str | None = None
) -> Any:
    """The X of least |A X - B|: (solution, residuals, rank, singular_values).

    Args:
        rcond: singular values up to rcond times the largest count as 0.
        driver: "gels", "gelsy", "gelsd" or "gelss", which says what else is in the result.
    """
    name = "torch.linalg.lstsq"
    if A.ndim < 2:
        raise RuntimeError(f"{name}: input must have at least 2 dimensions.")
    if not B.ndim:
        raise RuntimeError(f"{name}: other must have at least 1 dimension.")
    if driver not in (None, "gels", "gelsy", "gelsd", "gelss"):
        raise RuntimeError(
            f"{name}: parameter `driver` should be one of (gels, gelsy, gelsd, gelss)"
        )
    vector = B._shape == A._shape[:-1]
    b = B.unsqueeze(-1) if vector else B
    if A._shape[-2] != b._shape[-2]:
        raise RuntimeError(f"{name}: input.size(-2) should match other.size(-{1 if vector else 2})")
    matrices("linalg.lstsq", A)
    if A.dtype is not B.dtype:
        raise RuntimeError(
            f"{name}: Expected input and other to have the same dtype, but got input's dtype "
            f"{A.dtype.word} and other's dtype {B.dtype.word}"
        )
    m, n = A._shape[-2:]
    values = singular_values(A.detach())
    cut = dtypes.finfo(A.dtype).eps * max(m, n) if rcond is None else rcond
    found = matmul(_pinv(A, None, cut, False), b)
    rank = linalg_matrix_rank(A, rtol=cut)
    empty = NAMES["empty"](0, dtype=values.dtype)
    residuals = empty
    if m > n and driver not in (None, "gelsy") and bool((rank == n).all()):
        residuals = NAMES["sum"](NAMES["abs"](matmul(A, found) - b) ** 2, -2)
        residuals = residuals.squeeze(-1) if vector else residuals
    return return_types.linalg_lstsq(
        found.squeeze(-1) if vector else found,
        residuals,
        NAMES["empty"](0, dtype=dtypes.int64) if driver == "gels" else rank,
        values if driver in ("gelsd", "gelss") else empty,
    )


@only_in("linalg.tensorsolve")
def linalg_tensorsolve(A: Tensor, B: Tensor, dims: Any = None) -> Tensor:
    """X with tensordot(A, X, X.ndim) = B; `dims` of A are moved to the right first."""
    moved = A
    if dims is not None:
        moved = NAMES["movedim"](A, tuple(dims), tuple(range(A.ndim - len(dims), A.ndim)))
    shape = moved._shape[B.ndim :]
    if math.prod(shape) != B.numel() or math.prod(moved._shape[: B.ndim]) != B.numel():
        raise RuntimeError(
            f"Expected self to satisfy the requirement prod(self.shape[other.ndim:]) == "
            f"prod(self.shape[:other.ndim]), but got {math.prod(shape)} != {B.numel()}"
        )
    found = linalg_solve(moved.reshape(B.numel(), B.numel()), B.reshape(-1))
    return found.reshape(shape)


@only_in("linalg.tensorinv")
def linalg_tensorinv(A: Tensor, ind: int = 2) -> Tensor:
    """The inverse of the map that tensordot with A is, over its dimensions from `ind`."""
    if ind <= 0:
        raise RuntimeError(f"Expected a strictly positive integer for 'ind', but got {ind}")
    head, tail = A._shape[:ind], A._shape[ind:]
    if math.prod(head) != math.prod(tail):
        raise RuntimeError(
            "Expected self to satisfy the requirement prod(self.shape[ind:]) == "
            f"prod(self.shape[:ind]), but got {math.prod(tail)} != {math.prod(head)}"
        )
    square = A.reshape(math.prod(tail), math.prod(tail))
    return inverse(square).reshape(*tail, *head)


# -- determinants ----------------------------------------------------------------------------------


@composite(out=True, autocast="float32", aliases=("linalg.det",))
def det(A: Tensor) -> Tensor:
    """Determinants of square matrices."""
    matrices("linalg.det", A, square=True)
    return determinant(A)


@composite(out=True, autocast="float32", aliases=("linalg.slogdet",))
def slogdet(A: Tensor) -> Any:
    """(sign, logabsdet): the determinant's sign and the logarithm of its absolute value."""
    matrices("linalg.slogdet", A, square=True)
    return return_types.linalg_slogdet(*signed_log_determinant(A))


@composite(autocast="float32")
def logdet(A: Tensor) -> Tensor:
    """Logarithms of determinants; NaN for negative ones."""
    matrices("logdet", A, square=True)
    sign, logabs = signed_log_determinant(A)
    if A.dtype.is_complex:
        return NAMES["log"](sign) + logabs
    return NAMES["where"](sign < 0, math.nan, logabs)


@composite(autocast="exempt", aliases=("linalg.matrix_exp",))
def matrix_exp(A: Tensor) -> Tensor:
    """Exponentials of square matrices, sum of A^k / k!."""
    wide = widen(A)
    matrices("linalg.matrix_exp", wide, square=True)
    return cast(exponential_of(wide), A.dtype) if wide is not A else exponential_of(A)


# -- other products --------------------------------------------------------------------------------


@only_in("linalg.vecdot", autocast="lower")
def linalg_vecdot(x: Tensor, y: Tensor, *, dim: int = -1) -> Tensor:
    """Sums of the products of the conjugate of x with y, over one dimension."""
    for v in (x, y):
        if v.dtype.category < 2:
            raise RuntimeError(
                "linalg.vecdot: Expected a floating point or complex tensor as input. Got "
                f"{v.dtype.word}"
            )
    return NAMES["sum"](NAMES["conj"](x) * y, dim)


@only_in("linalg.vander", out=False, autocast="exempt")
def linalg_vander(x: Tensor, *, N: int | None = None) -> Tensor:
    """Vandermonde matrices: powers 0 to N - 1 (default: the size) of each element as a row."""
    n = (x._shape or (1,))[-1] if N is None else N
    if n <= 1:
        raise RuntimeError("N must be greater than 1.")
    x = (x if x.dtype.category else x.to(dtypes.int64)).reshape(x._shape or (1,))
    repeated = x.unsqueeze(-1).expand(*x._shape, n - 1)
    one = NAMES["ones_like"](x).unsqueeze(-1)
    return NAMES["cat"]([one, NAMES["cumprod"](repeated, -1)], -1)


@only_in("linalg.diagonal", out=False, autocast="exempt")
def linalg_diagonal(A: Tensor, *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """The diagonals of matrices, a view."""
    return A.diagonal(offset, dim1, dim2)


@only_in("linalg.cross", out="exact", autocast="exempt")
def linalg_cross(input: Tensor, other: Tensor, *, dim: int = -1) -> Tensor:
    """Cross products of 3-vectors along one dimension."""
    return cross(input, other, dim)
