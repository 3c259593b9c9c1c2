"""Factorizations of batches of matrices, by NumPy's LAPACK, and their derivatives.

The rows here take matrices of one floating-point dtype, batched in any number of leading
dimensions, and check nothing: `ops/linalg.py` has the public functions. Rules of holomorphic rows
are written as for real numbers (Note [Complex gradients]); the others use conjugate transposes.

Reference:
    M. Giles, Collected Matrix Derivative Results for Forward and Reverse Mode Algorithmic
    Differentiation (2008); S. Walter and L. Lehmann, Algorithmic Differentiation of Linear Algebra
    Functions with Application in Optimum Experimental Design (arXiv:1001.1654).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau import dtypes
from flambeau.ops.contraction import matmul
from flambeau.ops.indexing import gather
from flambeau.ops.rows import NAMES
from flambeau.ops.substitution import substitute, substituted
from flambeau.ops.table import emit, emit_many, primitive
from flambeau.tensor import Tensor


class LinAlgError(RuntimeError):
    """A matrix has no such factorization or inverse."""


def adjoint(x: Any) -> Any:
    """Conjugate transposes of matrices."""
    return NAMES["conj"](x.mT) if x.dtype.is_complex else x.mT


def on_diagonal(x: Tensor) -> Tensor:
    """Diagonal matrices of vectors."""
    found: Tensor = NAMES["diag_embed"](x)
    return found


def _real(x: Tensor) -> Tensor:
    return NAMES["real"](x).to(x.dtype) if x.dtype.is_complex else x


def _skew(x: Tensor) -> Tensor:
    return x - adjoint(x)


def _gaps(values: Tensor) -> Tensor:
    """values[j] - values[i] at (i, j), and 1 on the diagonal, to be divided by."""
    n = values._shape[-1]
    eye = NAMES["eye"](n, dtype=values.dtype, device=values.device)
    return values.unsqueeze(-2) - values.unsqueeze(-1) + eye


def _batched(of: Any, *arrays: Any) -> list[Any]:
    """A function of single matrices, called for each of a batch; its results stacked."""
    lead = arrays[0].shape[:-2]
    flat = [a.reshape(-1, *a.shape[-2:]) for a in arrays]
    found = [of(*given) for given in zip(*flat, strict=True)]
    return [np.stack(part).reshape((*lead, *part[0].shape)) for part in zip(*found, strict=True)]


# -- Cholesky --------------------------------------------------------------------------------------


@primitive("host")
def lower_factor(row: Any, input: Tensor, checked: bool, upper: bool) -> tuple[Tensor, ...]:
    """(L, info) with input = L L^H from one triangle; info is the order of the first leading minor
    that is not positive, where L is NaN (`checked`: an error), or 0."""
    lead = input._shape[:-2]
    specs = ((input._shape, input.dtype), (lead, dtypes.int32))
    return emit_many(row, (input,), (checked, upper), specs)


def _minor(a: Any) -> int:
    """The order of the first leading minor that is not positive."""
    low, high = 0, len(a)  # the minor of order `low` is positive, that of `high` is not
    while high - low > 1:
        middle = (low + high) // 2
        try:
            np.linalg.cholesky(a[:middle, :middle])
            low = middle
        except np.linalg.LinAlgError:
            high = middle
    return high


def _one_lower(a: Any) -> tuple[Any, Any]:
    try:
        return np.linalg.cholesky(a), np.int32(0)
    except np.linalg.LinAlgError:
        return np.full_like(a, np.nan), np.int32(_minor(a))


def _lower_factor(x: Any, checked: bool, upper: bool, specs: Any) -> tuple[Any, Any]:
    if upper:
        x = np.conj(np.swapaxes(x, -1, -2))
    try:
        return np.linalg.cholesky(x), np.zeros(x.shape[:-2], np.int32)
    except np.linalg.LinAlgError:
        factor, info = _batched(_one_lower, x)
    if checked:
        wrong = int(np.flatnonzero(info)[0])
        batch = f"(Batch element {wrong}): " if info.ndim else ""
        raise LinAlgError(
            f"linalg.cholesky: {batch}The factorization could not be completed because the input "
            "is not positive-definite (the leading minor of order "
            f"{int(info.reshape(-1)[wrong])} is not positive-definite)."
        )
    return factor, info


def _lower_vjp(g: Any, outs: Any, x: Any, checked: bool, upper: bool) -> tuple[Any, ...]:
    factor, inner = outs[0], matmul(adjoint(outs[0]), g[0])
    inner = (NAMES["tril"](inner) + adjoint(NAMES["tril"](inner, -1))) * 0.5
    left = substitute(adjoint(factor), inner, True, False)
    return adjoint(substitute(adjoint(factor), adjoint(left), True, False)), None, None


lower_factor.reference(_lower_factor)
lower_factor.vjp(_lower_vjp, saves="out0")


# -- orthogonal factors ----------------------------------------------------------------------------


@primitive("host")
def orthogonal_factor(row: Any, input: Tensor, complete: bool) -> tuple[Tensor, ...]:
    """(Q, R) of matrices with orthonormal columns and an upper triangle; `complete`: Q is square.

    Differentiable where input is no wider than high, and not `complete` unless square.
    """
    *lead, m, n = input._shape
    k = m if complete else min(m, n)
    specs = (((*lead, m, k), input.dtype), ((*lead, k, n), input.dtype))
    return emit_many(row, (input,), (complete,), specs)


def _orthogonal(x: Any, complete: bool, specs: Any) -> tuple[Any, Any]:
    q, r = np.linalg.qr(x, "complete" if complete else "reduced")
    return q, r


def _orthogonal_vjp(g: Any, outs: Any, x: Any, complete: bool) -> tuple[Any, ...]:
    (gq, gr), (q, r) = g, outs
    if q._shape[-1] != r._shape[-1]:
        raise RuntimeError(
            "The QR decomposition is not differentiable when mode='complete' and nrows > ncols"
        )
    inner = 0.0 if gr is None else matmul(gr, adjoint(r))
    if gq is not None:
        inner = inner - matmul(adjoint(q), gq)
    upper = NAMES["triu"](inner)
    whole = upper + adjoint(upper)
    whole = whole - on_diagonal(_real(upper.diagonal(0, -2, -1)))
    found = matmul(q, whole)
    if gq is not None:
        found = found + gq
    return adjoint(substitute(r, adjoint(found), True, False)), None


orthogonal_factor.reference(_orthogonal)
orthogonal_factor.vjp(_orthogonal_vjp, saves="out0 out1")


@primitive("host", differentiable=False)
def reflectors(row: Any, input: Tensor) -> tuple[Tensor, ...]:
    """(a, tau): the QR factorization as R above Householder vectors, and their factors."""
    *lead, m, n = input._shape
    specs = ((input._shape, input.dtype), ((*lead, min(m, n)), input.dtype))
    return emit_many(row, (input,), (), specs)


def _reflectors(x: Any, specs: Any) -> tuple[Any, Any]:
    a, tau = np.linalg.qr(x, "raw")
    return np.swapaxes(a, -1, -2), tau


reflectors.reference(_reflectors)


# -- eigenvalues -----------------------------------------------------------------------------------


@primitive("host")
def hermitian_spectrum(row: Any, input: Tensor, lower: bool) -> tuple[Tensor, ...]:
    """(eigenvalues ascending, eigenvectors as columns) of Hermitian matrices."""
    values = input._shape[:-1]
    specs = ((values, input.dtype.to_real()), (input._shape, input.dtype))
    return emit_many(row, (input,), (lower,), specs)


def _hermitian_vjp(g: Any, outs: Any, x: Any, lower: bool) -> tuple[Any, ...]:
    (gl, gv), (values, vectors) = g, outs
    inner: Any = 0.0
    if gv is not None:
        inner = _skew(matmul(adjoint(vectors), gv)) * 0.5
        inner = (inner - on_diagonal(inner.diagonal(0, -2, -1))) / _gaps(values)
    if gl is not None:
        inner = inner + on_diagonal(gl.to(vectors.dtype))
    return matmul(matmul(vectors, inner), adjoint(vectors)), None


hermitian_spectrum.reference(
    lambda x, lower, specs: tuple(np.linalg.eigh(x, "L" if lower else "U"))
)
hermitian_spectrum.vjp(_hermitian_vjp, saves="out0 out1")


@primitive("host")
def spectrum(row: Any, input: Tensor) -> tuple[Tensor, ...]:
    """(eigenvalues, eigenvectors as columns of length 1), complex, of square matrices."""
    dtype = input.dtype.to_complex()
    return emit_many(row, (input,), (), ((input._shape[:-1], dtype), (input._shape, dtype)))


def _spectrum_vjp(g: Any, outs: Any, x: Any) -> tuple[Any, ...]:
    (gl, gv), (values, vectors) = g, outs
    inner: Any = 0.0
    if gv is not None:
        inner = matmul(adjoint(vectors), gv)
        lengths = _real(inner.diagonal(0, -2, -1)).unsqueeze(-2)
        inner = inner - matmul(adjoint(vectors), vectors * lengths)
        inner = inner - on_diagonal(inner.diagonal(0, -2, -1))
        inner = inner / NAMES["conj"](_gaps(values))
    if gl is not None:
        inner = inner + on_diagonal(gl)
    found = solution(adjoint(vectors), matmul(inner, adjoint(vectors)), True)
    return (found if x.dtype.is_complex else NAMES["real"](found),)


spectrum.reference(lambda x, specs: tuple(np.linalg.eig(x)))
spectrum.vjp(_spectrum_vjp, saves="out0 out1")


@primitive("host")
def singular_factors(row: Any, input: Tensor, full: bool) -> tuple[Tensor, ...]:
    """(U, S descending, V^H) with input = U diag(S) V^H; `full`: U and V are square."""
    *lead, m, n = input._shape
    k = min(m, n)
    shapes = ((*lead, m, m if full else k), (*lead, k), (*lead, n if full else k, n))
    dtypes_of = (input.dtype, input.dtype.to_real(), input.dtype)
    return emit_many(row, (input,), (full,), zip(shapes, dtypes_of, strict=True))


def _singular_vjp(g: Any, outs: Any, x: Any, full: bool) -> tuple[Any, ...]:
    (gu, gs, gv), (u, s, v) = g, outs
    k = s._shape[-1]
    if full:  # the vectors beyond are any that complete a basis: they have no derivative
        u, v = u[..., :k], v[..., :k, :]
        gu = None if gu is None else gu[..., :k]
        gv = None if gv is None else gv[..., :k, :]
    m, n = u._shape[-2], v._shape[-1]
    inner: Any = 0.0 if gs is None else on_diagonal(gs.to(u.dtype))
    gaps = _gaps(s * s)
    if gu is not None:
        turned = _skew(matmul(adjoint(u), gu))
        inner = inner + turned / gaps * s.unsqueeze(-2)
        if gv is not None and u.dtype.is_complex:  # the phases, which u and v have in common
            inner = inner + on_diagonal(turned.diagonal(0, -2, -1) / (s * 2.0))
    if gv is not None:
        inner = inner + s.unsqueeze(-1) * (_skew(matmul(v, adjoint(gv))) / gaps)
    found = matmul(matmul(u, inner), v)
    if m > k and gu is not None:
        outside = gu / s.unsqueeze(-2)
        outside = outside - matmul(u, matmul(adjoint(u), outside))
        found = found + matmul(outside, v)
    if n > k and gv is not None:
        outside = gv / s.unsqueeze(-1)
        outside = outside - matmul(matmul(outside, adjoint(v)), v)
        found = found + matmul(u, outside)
    return found, None


singular_factors.reference(lambda x, full, specs: tuple(np.linalg.svd(x, full)))
singular_factors.vjp(_singular_vjp, saves="out0 out1 out2")


@primitive("host", differentiable=False)
def singular_values(row: Any, input: Tensor) -> Tensor:
    """The singular values alone, descending."""
    *lead, m, n = input._shape
    return emit(row, (input,), (), (*lead, min(m, n)), input.dtype.to_real())


singular_values.reference(lambda x: np.linalg.svd(x, compute_uv=False))


# -- triangles -------------------------------------------------------------------------------------


@primitive("host")
def triangular_factors(row: Any, input: Tensor, pivot: bool) -> tuple[Tensor, ...]:
    """(LU, pivots from 1, rows, info): input[rows] = L U, packed in one matrix.

    info is the number of the first diagonal element of U that is 0, or 0.
    """
    *lead, m, n = input._shape
    places, order = (*lead, min(m, n)), (*lead, m)
    specs = (
        (input._shape, input.dtype),
        (places, dtypes.int32),
        (order, dtypes.int64),
        (tuple(lead), dtypes.int32),
    )
    return emit_many(row, (input,), (pivot,), specs)


def _eliminate(a: Any, pivots: Any, first: int, last: int, pivot: bool) -> None:
    """Factor columns first to last of a, in place, with row exchanges over all columns.

    By halves, so that nearly all work is in matrix products.
    Reference: S. Toledo, Locality of Reference in LU Decomposition with Partial Pivoting (1997).
    """
    if last - first > 1:
        middle = (first + last) // 2
        _eliminate(a, pivots, first, middle, pivot)
        upper = a[..., first:middle, middle:last]
        upper[...] = substituted(a[..., first:middle, first:middle], upper, False, True)
        a[..., middle:, middle:last] -= a[..., middle:, first:middle] @ upper
        _eliminate(a, pivots, middle, last, pivot)
        return
    if pivot:
        below = a[..., first:, first]
        below = np.abs(below.real) + np.abs(below.imag)  # as LAPACK measures complex numbers
        chosen = first + np.argmax(below, -1)
        pivots[..., first] = chosen
        place = chosen[..., None, None]
        moved = np.take_along_axis(a, place, -2)
        np.put_along_axis(a, place, a[..., first : first + 1, :].copy(), -2)
        a[..., first : first + 1, :] = moved
    top = a[..., first : first + 1, first : first + 1]
    column = a[..., first + 1 :, first : first + 1]
    np.divide(column, top, out=column, where=top != 0)


def _triangular(x: Any, pivot: bool, specs: Any) -> tuple[Any, ...]:
    a = np.array(x)
    *lead, m, n = a.shape
    k = min(m, n)
    pivots = np.broadcast_to(np.arange(k), (*lead, k)).copy()
    if a.size:
        _eliminate(a, pivots, 0, k, pivot)
        if n > m:
            a[..., m:] = substituted(a[..., :m], a[..., m:], False, True)
    zero = np.diagonal(a, 0, -2, -1) == 0
    info = np.where(zero.any(-1), zero.argmax(-1) + 1, 0) if k else np.zeros(lead)
    return a, pivots + 1, exchanged(pivots, m), info.astype(np.int32)


def exchanged(pivots: Any, m: int) -> Any:
    """The rows' order after exchanging row i with row pivots[i], one after another."""
    order = np.broadcast_to(np.arange(m), (*pivots.shape[:-1], m)).copy()
    for i in range(pivots.shape[-1]):
        place = pivots[..., i : i + 1]
        moved = np.take_along_axis(order, place, -1)
        np.put_along_axis(order, place, order[..., i : i + 1].copy(), -1)
        order[..., i : i + 1] = moved
    return order


def _triangular_vjp(g: Any, outs: Any, x: Any, pivot: bool) -> tuple[Any, ...]:
    """The square part by its formula; what lies below or beside it by substitution."""
    g, lu = g[0], outs[0]
    *_, m, n = lu._shape
    k = min(m, n)
    square, part = lu[..., :k, :k], g[..., :k, :k]
    lower = NAMES["tril"](square, -1) + NAMES["eye"](k, dtype=lu.dtype, device=lu.device)
    upper = NAMES["triu"](square)
    g_lower, g_upper = NAMES["tril"](part, -1), NAMES["triu"](part)
    rest = None
    if m > n:  # L2 = A2 U^-1
        rest = substitute(upper, g[..., k:, :].mT, True, False).mT
        g_upper = g_upper - matmul(lu[..., k:, :].mT, rest)
    elif n > m:  # U2 = L^-1 A2
        rest = substitute(lower.mT, g[..., k:], True, True)
        g_lower = g_lower - matmul(rest, lu[..., k:].mT)
    inner = NAMES["tril"](matmul(lower.mT, g_lower), -1)
    inner = inner + NAMES["triu"](matmul(g_upper, upper.mT))
    left = substitute(lower.mT, inner, True, True)
    found = substitute(upper, left.mT, True, False).mT
    if rest is not None:
        found = NAMES["cat"]([found, rest], -2 if m > n else -1)
    back = NAMES["argsort"](outs[2], -1).unsqueeze(-1).expand(*found._shape)
    return gather(found, -2, back), None


triangular_factors.reference(_triangular)
triangular_factors.row.complex = True
triangular_factors.vjp(_triangular_vjp, saves="out0 out2")


@primitive("host", differentiable=False)
def exchanges(row: Any, pivots: Tensor, m: int) -> Tensor:
    """The order of m rows after the exchanges that pivots, counted from 1, stand for."""
    return emit(row, (pivots,), (m,), (*pivots._shape[:-1], m), dtypes.int64)


exchanges.reference(lambda pivots, m: exchanged(pivots.astype(np.int64) - 1, m))


# -- solutions, inverses and determinants ----------------------------------------------------------


@primitive("host", linear=((1,),))
def solution(row: Any, a: Tensor, b: Tensor, checked: bool) -> Tensor:
    """X with a X = b, for matrices of one batch; of singular ones NaN, or with `checked` an
    error (`LinAlgError`)."""
    return emit(row, (a, b), (checked,), b._shape, b.dtype)


def _singular_error(name: str, a: Any) -> LinAlgError:
    wrong = 0
    for wrong, one in enumerate(a.reshape(-1, *a.shape[-2:])):  # noqa: B007
        info = int(_triangular(one, True, None)[3])
        if info:
            break
    batch = f"(Batch element {wrong}): " if a.ndim > 2 else ""
    if name == "inv":
        return LinAlgError(
            f"linalg.inv: {batch}The diagonal element {info} is zero, the inversion could not be "
            "completed because the input matrix is singular."
        )
    return LinAlgError(
        f"torch.linalg.solve: {batch}The solver failed because the input matrix is singular."
    )


def _solution(a: Any, b: Any, checked: bool) -> Any:
    try:
        return np.linalg.solve(a, b)
    except np.linalg.LinAlgError:
        if checked:
            raise _singular_error("solve", a) from None
        return _batched(_one_solution, a, b)[0]


def _one_solution(a: Any, b: Any) -> tuple[Any]:
    try:
        return (np.linalg.solve(a, b),)
    except np.linalg.LinAlgError:
        return (np.full_like(b, np.nan),)


def _solution_vjp(g: Any, out: Any, a: Any, b: Any, checked: bool) -> tuple[Any, ...]:
    found = solution(a.mT, g, checked)
    return -matmul(found, out.mT), found, None


solution.reference(_solution)
solution.row.complex = True
solution.vjp(_solution_vjp, saves="out a")


@primitive("host")
def inverse_of(row: Any, input: Tensor, checked: bool) -> Tensor:
    """Inverses of square matrices; of singular ones NaN, or with `checked` an error."""
    return emit(row, (input,), (checked,), input._shape, input.dtype)


def _inverse(x: Any, checked: bool) -> Any:
    try:
        return np.linalg.inv(x)
    except np.linalg.LinAlgError:
        if checked:
            raise _singular_error("inv", x) from None
        return _batched(_one_inverse, x)[0]


def _one_inverse(x: Any) -> tuple[Any]:
    try:
        return (np.linalg.inv(x),)
    except np.linalg.LinAlgError:
        return (np.full_like(x, np.nan),)


inverse_of.reference(_inverse)
inverse_of.row.complex = True
inverse_of.vjp(lambda g, out, x, checked: (-matmul(matmul(out.mT, g), out.mT), None), saves="out")


@primitive("host")
def determinant(row: Any, input: Tensor) -> Tensor:
    """Determinants of square matrices."""
    return emit(row, (input,), (), input._shape[:-2], input.dtype)


@primitive("host")
def cofactors(row: Any, input: Tensor) -> Tensor:
    """The derivative of the determinant by each element, also of singular matrices."""
    return emit(row, (input,), (), input._shape, input.dtype)


def _cofactors(x: Any) -> Any:
    """By the singular values: the products of all but one of them, turned back."""
    u, s, v = np.linalg.svd(x)
    n = s.shape[-1]
    others = np.where(np.eye(n, dtype=bool), 1.0, s[..., None, :]).prod(-1)
    sign = np.linalg.det(u) * np.linalg.det(v)
    found = np.conj(u * others[..., None, :] @ v) * sign[..., None, None]
    return found.astype(x.dtype)


def _cofactors_vjp(g: Any, out: Any, x: Any) -> tuple[Any, ...]:
    inverse = inverse_of(x, False).mT
    total = NAMES["sum"](g * out, (-2, -1), True)
    return (total * inverse - matmul(matmul(inverse, g.mT), out),)


determinant.reference(np.linalg.det)
determinant.row.complex = True
determinant.vjp(lambda g, out, x: (g.unsqueeze(-1).unsqueeze(-1) * cofactors(x),), saves="input")
cofactors.reference(_cofactors)
cofactors.row.complex = True
cofactors.vjp(_cofactors_vjp, saves="out input")


@primitive("host")
def signed_log_determinant(row: Any, input: Tensor) -> tuple[Tensor, ...]:
    """(sign, logarithm of the absolute value) of determinants."""
    lead = input._shape[:-2]
    return emit_many(row, (input,), (), ((lead, input.dtype), (lead, input.dtype.to_real())))


def _signed_log_vjp(g: Any, outs: Any, x: Any) -> tuple[Any, ...]:
    g_sign, g_log = g
    total: Any = 0.0 if g_log is None else g_log
    if g_sign is not None and x.dtype.is_complex:
        total = total - NAMES["imag"](NAMES["conj"](g_sign) * outs[0]) * 1j
    if not isinstance(total, Tensor):
        return (NAMES["zeros_like"](x),)
    return (total.unsqueeze(-1).unsqueeze(-1) * adjoint(inverse_of(x, False)),)


signed_log_determinant.reference(lambda x, specs: tuple(np.linalg.slogdet(x)))
signed_log_determinant.vjp(_signed_log_vjp, saves="input out0")


@primitive("host")
def pseudoinverse(row: Any, input: Tensor, least: Tensor, hermitian: bool) -> Tensor:
    """Moore-Penrose inverses, in which singular values up to `least` count as 0.

    Args:
        hermitian: only the lower triangle is read.
    """
    *lead, m, n = input._shape
    return emit(row, (input, least), (hermitian,), (*lead, n, m), input.dtype)


def _pseudoinverse(x: Any, least: Any, hermitian: bool) -> Any:
    if hermitian:
        lower = np.tril(x, -1)
        real = np.where(np.eye(x.shape[-1], dtype=bool), x.real, 0)
        x = real + lower + np.conj(np.swapaxes(lower, -1, -2))
    u, s, v = np.linalg.svd(x, False)
    keep = s > least[..., None]
    inverse = np.divide(1.0, s, out=np.zeros_like(s), where=keep)
    return np.swapaxes(np.conj(v), -1, -2) * inverse[..., None, :] @ np.swapaxes(np.conj(u), -1, -2)


def _pseudoinverse_vjp(g: Any, out: Any, x: Any, least: Any, hermitian: bool) -> tuple[Any, ...]:
    """Reference: G. Golub and V. Pereyra, SIAM J. Numer. Anal. 10(2), 1973, eq. 4.12."""
    a, p, h = x, out, adjoint(g)
    if a._shape[-2] <= a._shape[-1]:
        k = matmul(h, p)
        turned = matmul(k, adjoint(p))
        found = turned - adjoint(matmul(p, k)) - matmul(matmul(a, p), turned)
        return found + matmul(matmul(adjoint(p), p), h - matmul(k, a)), None, None
    k = matmul(p, h)
    turned = matmul(adjoint(p), k)
    found = matmul(matmul(h - matmul(a, k), p), adjoint(p)) - adjoint(matmul(k, p))
    return found + turned - matmul(matmul(turned, p), a), None, None


pseudoinverse.reference(_pseudoinverse)
pseudoinverse.vjp(_pseudoinverse_vjp, saves="input out")


# -- exponential -----------------------------------------------------------------------------------

#: Numerator coefficients of the Pade approximation of order 13, and where it is exact to rounding.
_PADE = (
    *(64764752532480000.0, 32382376266240000.0, 7771770303897600.0, 1187353796428800.0),
    *(129060195264000.0, 10559470521600.0, 670442572800.0, 33522128640.0, 1323241920.0),
    *(40840800.0, 960960.0, 16380.0, 182.0, 1.0),
)
_EXACT_TO = 5.371920351148152


@primitive("host")
def exponential_of(row: Any, input: Tensor) -> Tensor:
    """Exponentials of square matrices, by scaling, a Pade approximation and squaring.

    Reference: N. Higham, The Scaling and Squaring Method for the Matrix Exponential Revisited,
    SIAM J. Matrix Anal. Appl. 26(4), 2005.
    """
    return emit(row, (input,), (), input._shape, input.dtype)


def _exponential(x: Any) -> Any:
    if not x.size:
        return np.zeros_like(x)
    wide = x.astype(np.complex128 if x.dtype.kind == "c" else np.float64)
    norm = float(np.abs(wide).sum(-2).max())
    if not np.isfinite(norm):
        return np.full_like(x, np.nan)
    halvings = max(0, int(np.ceil(np.log2(norm / _EXACT_TO)))) if norm else 0
    a = wide / 2.0**halvings
    b, eye = _PADE, np.eye(a.shape[-1])
    a2 = a @ a
    a4 = a2 @ a2
    a6 = a4 @ a2
    odd = a6 @ (b[13] * a6 + b[11] * a4 + b[9] * a2)
    odd = a @ (odd + b[7] * a6 + b[5] * a4 + b[3] * a2 + b[1] * eye)
    even = a6 @ (b[12] * a6 + b[10] * a4 + b[8] * a2)
    even = even + b[6] * a6 + b[4] * a4 + b[2] * a2 + b[0] * eye
    found = np.linalg.solve(even - odd, even + odd)
    for _ in range(halvings):
        found = found @ found
    return found.astype(x.dtype)


def _exponential_vjp(g: Any, out: Any, x: Any) -> tuple[Any, ...]:
    """The exponential of [[x^T, g], [0, x^T]] has the derivative at x^T along g above its diagonal.

    Reference: R. Mathias, A Chain Rule for Matrix Functions and Applications, SIAM J. Matrix Anal.
    Appl. 17(3), 1996.
    """
    n = x._shape[-1]
    turned = x.mT
    above = NAMES["cat"]([turned, g], -1)
    below = NAMES["cat"]([NAMES["zeros_like"](g), turned], -1)
    return (exponential_of(NAMES["cat"]([above, below], -2))[..., :n, n:],)


exponential_of.reference(_exponential)
exponential_of.row.complex = True
exponential_of.vjp(_exponential_vjp, saves="input")
