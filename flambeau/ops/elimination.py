"""Solving by packed factors: LU, LDL and Householder reflections, as torch names them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from flambeau import dtypes, return_types
from flambeau.ops.contraction import matmul
from flambeau.ops.factorization import (
    LinAlgError,
    adjoint,
    exchanges,
    reflectors,
    triangular_factors,
)
from flambeau.ops.indexing import gather
from flambeau.ops.linalg import batched_alike, matrices, one_dtype
from flambeau.ops.rows import NAMES
from flambeau.ops.spaces import only_in
from flambeau.ops.substitution import substitute
from flambeau.ops.table import composite, emit, emit_many, primitive
from flambeau.ops.writing import write_out
from flambeau.tensor import Tensor

# -- LU --------------------------------------------------------------------------------------------


@only_in("linalg.lu_factor")
def linalg_lu_factor(A: Tensor, *, pivot: bool = True) -> Any:
    """(LU, pivots): L and U of a row-exchanged A in one matrix, and the exchanges from 1."""
    matrices("linalg.lu_factor", A)
    return return_types.linalg_lu_factor(*triangular_factors(A, pivot)[:2])


@only_in("linalg.lu_factor_ex")
def linalg_lu_factor_ex(A: Tensor, *, pivot: bool = True, check_errors: bool = False) -> Any:
    """(LU, pivots, info): info is the first diagonal element of U that is 0, counted from 1."""
    matrices("linalg.lu_factor_ex", A)
    packed, pivots, _, info = triangular_factors(A, pivot)
    if check_errors and (wrong := int(info.max())):
        raise LinAlgError(
            f"torch.linalg.lu_factor_ex: U[{wrong},{wrong}] is zero and using it on lu_solve "
            "would result in a division by zero."
        )
    return return_types.linalg_lu_factor_ex(packed, pivots, info)


def _triangles(packed: Tensor) -> tuple[Tensor, Tensor]:
    m, n = packed._shape[-2:]
    k = min(m, n)
    eye = NAMES["eye"](m, k, dtype=packed.dtype, device=packed.device)
    return NAMES["tril"](packed[..., :k], -1) + eye, NAMES["triu"](packed[..., :k, :])


def _permutation(rows: Tensor, like: Tensor) -> Tensor:
    """P with P[rows[i], i] = 1, so that A = P L U where A[rows] = L U."""
    places = NAMES["arange"](rows._shape[-1], device=rows.device)
    return (rows.unsqueeze(-2) == places.unsqueeze(-1)).to(like.dtype)


@only_in("linalg.lu")
def linalg_lu(A: Tensor, *, pivot: bool = True) -> Any:
    """(P, L, U) with A = P L U; without `pivot` P is empty."""
    matrices("linalg.lu", A)
    packed, _, rows, _ = triangular_factors(A, pivot)
    lower, upper = _triangles(packed)
    p = _permutation(rows, A) if pivot else NAMES["empty"](0, dtype=A.dtype, device=A.device)
    return return_types.linalg_lu(p, lower, upper)


@composite(method=False, autocast="float32")
def lu(A: Tensor, pivot: bool = True, get_infos: bool = False, out: Any = None) -> Any:
    """(LU, pivots), with `get_infos` (LU, pivots, infos); torch's older `linalg.lu_factor`."""
    matrices("torch.lu", A)
    packed, pivots, _, info = triangular_factors(A, pivot)
    found = (packed, pivots, info) if get_infos else (packed, pivots)
    return found if out is None else write_out(out, found, (A,))


setattr(Tensor, "lu", lu)


@composite(method=False, out=True)
def lu_unpack(
    LU_data: Tensor, LU_pivots: Tensor, unpack_data: bool = True, unpack_pivots: bool = True
) -> Any:
    """(P, L, U) of a packed factorization; what is not asked for is empty."""
    if LU_pivots.dtype is not dtypes.int32:
        raise RuntimeError(
            "torch.lu_unpack: LU_pivots is expected to be a contiguous tensor of torch.int32 dtype."
            " Note: this function is intended to be used with the output produced by "
            "torch.linalg.lu_factor"
        )
    nothing = NAMES["empty"](0, dtype=LU_data.dtype, device=LU_data.device)
    lower, upper = _triangles(LU_data) if unpack_data else (nothing, nothing)
    p = nothing
    if unpack_pivots:
        p = _permutation(exchanges(LU_pivots, LU_data._shape[-2]), LU_data)
    return return_types.lu_unpack(p, lower, upper)


def _lu_solve(name: str, packed: Tensor, pivots: Tensor, b: Tensor, back: bool) -> Tensor:
    matrices(name, packed, square=True, of="LU")
    matrices(name, b, of="B")
    one_dtype(name, packed, b)
    if pivots.dtype is not dtypes.int32:
        raise RuntimeError(f"{name}: pivots should be a Tensor of scalar type torch.int32")
    if pivots._shape != packed._shape[:-1]:
        raise RuntimeError(
            f"{name}: Number of pivots per batch should be same as the dimension of the matrix"
        )
    if packed._shape[-1] != b._shape[-2]:
        raise RuntimeError(
            f"{name}: Incompatible shapes of A and B for the equation AX = B "
            f"({packed._shape[-2]}x{packed._shape[-1]} and {b._shape[-2]}x{b._shape[-1]})"
        )
    packed, b = batched_alike(packed, b)
    rows = exchanges(pivots, b._shape[-2])
    if back:
        turned = adjoint(packed)
        b = substitute(turned, b, False, False)
        b = substitute(turned, b, True, True)
        rows = NAMES["argsort"](rows, -1)
    found = gather(b, -2, rows.unsqueeze(-1).expand(*b._shape))
    if back:
        return found
    return substitute(packed, substitute(packed, found, False, True), True, False)


@only_in("linalg.lu_solve")
def linalg_lu_solve(
    LU: Tensor, pivots: Tensor, B: Tensor, *, left: bool = True, adjoint: bool = False
) -> Tensor:
    """X with A X = B (X A = B without `left`, A^H for A with `adjoint`) from A's LU factors."""
    if left:
        return _lu_solve("linalg.lu_solve", LU, pivots, B, adjoint)
    turned = NAMES["conj"](B.mT)
    return NAMES["conj"](_lu_solve("linalg.lu_solve", LU, pivots, turned, not adjoint).mT)


@composite(out=True, autocast="float32")
def lu_solve(input: Tensor, LU_data: Tensor, LU_pivots: Tensor) -> Tensor:
    """X with A X = input, from A's LU factors; torch's older form of `linalg.lu_solve`."""
    return _lu_solve("lu_solve", LU_data, LU_pivots, input, False)


# -- LDL -------------------------------------------------------------------------------------------


def _lapack(name: str, dtype: Any) -> Any:
    """A LAPACK routine of SciPy for a dtype.

    Raises:
        ImportError: SciPy is not installed.
    """
    try:
        lapack = import_module("scipy.linalg.lapack")
    except ImportError:
        raise ImportError(
            f"{name} needs SciPy, which is not installed: pip install 'flambeau[special]'"
        ) from None
    return getattr(lapack, np.dtype(dtype).char.lower().translate(_PREFIX[dtype.kind]) + name)


_PREFIX = {"f": str.maketrans("fd", "sd"), "c": str.maketrans("fd", "cz")}


@primitive("host", differentiable=False)
def symmetric_factors(row: Any, input: Tensor, hermitian: bool) -> tuple[Tensor, ...]:
    """(LD, pivots, info) of the Bunch-Kaufman factorization, by SciPy."""
    lead = input._shape[:-2]
    specs = ((input._shape, input.dtype), (input._shape[:-1], dtypes.int32), (lead, dtypes.int32))
    return emit_many(row, (input,), (hermitian,), specs)


def _family(x: Any, hermitian: bool) -> str:
    return "he" if hermitian and x.dtype.kind == "c" else "sy"


def _symmetric(x: Any, hermitian: bool, specs: Any) -> tuple[Any, ...]:
    run = _lapack(_family(x, hermitian) + "trf", x.dtype)
    found = np.array(x), np.zeros(x.shape[:-1], np.int32), np.zeros(x.shape[:-2], np.int32)
    for at in np.ndindex(x.shape[:-2]):
        if x.shape[-1]:
            factors, places, info = run(x[at], lower=1)
            found[0][at], found[1][at], found[2][at] = np.tril(factors), places, max(info, 0)
    return found


symmetric_factors.reference(_symmetric)


@primitive("host", differentiable=False, linear=((2,),))
def symmetric_solution(row: Any, ld: Tensor, pivots: Tensor, b: Tensor, hermitian: bool) -> Tensor:
    """X with A X = b from the factors of `symmetric_factors`, by SciPy."""
    return emit(row, (ld, pivots, b), (hermitian,), b._shape, b.dtype)


def _symmetric_solution(ld: Any, pivots: Any, b: Any, hermitian: bool) -> Any:
    run = _lapack(_family(ld, hermitian) + "trs", ld.dtype)
    found = np.array(b)
    for at in np.ndindex(b.shape[:-2]):
        if b[at].size:
            found[at] = run(ld[at], pivots[at], b[at], lower=1)[0]
    return found


symmetric_solution.reference(_symmetric_solution)


@only_in("linalg.ldl_factor")
def linalg_ldl_factor(A: Tensor, *, hermitian: bool = False) -> Any:
    """(LD, pivots): the LDL factorization of symmetric or Hermitian matrices, packed."""
    matrices("torch.linalg.ldl_factor", A, square=True)
    return return_types.linalg_ldl_factor(*symmetric_factors(A, hermitian)[:2])


@only_in("linalg.ldl_factor_ex")
def linalg_ldl_factor_ex(A: Tensor, *, hermitian: bool = False, check_errors: bool = False) -> Any:
    """(LD, pivots, info): as `linalg.ldl_factor`; info is 0 where D is regular."""
    matrices("torch.linalg.ldl_factor_ex", A, square=True)
    return return_types.linalg_ldl_factor_ex(*symmetric_factors(A, hermitian))


@only_in("linalg.ldl_solve")
def linalg_ldl_solve(LD: Tensor, pivots: Tensor, B: Tensor, *, hermitian: bool = False) -> Tensor:
    """X with A X = B, from A's LDL factors."""
    matrices("torch.linalg.ldl_solve", LD, square=True, of="LD")
    matrices("torch.linalg.ldl_solve", B, of="B")
    one_dtype("torch.linalg.ldl_solve", LD, B)
    factors, b = batched_alike(LD, B)
    places = pivots.expand(*factors._shape[:-1])
    return symmetric_solution(factors, places, b, hermitian)


# -- reflections -----------------------------------------------------------------------------------


@composite(out=True, autocast="float32")
def geqrf(input: Tensor) -> Any:
    """(a, tau): the QR factorization as R above Householder vectors, and their factors."""
    matrices("torch.geqrf", input)
    return return_types.geqrf(*reflectors(input))


def _reflected(a: Tensor, tau: Tensor, other: Tensor, order: Any, back: bool) -> Tensor:
    """H_i other, one reflection after another; `back`: their adjoints."""
    m = a._shape[-2]
    vectors = NAMES["tril"](a, -1) + NAMES["eye"](*a._shape[-2:], dtype=a.dtype, device=a.device)
    for i in order:
        v = vectors[..., i : i + 1]
        scale = tau[..., i : i + 1].unsqueeze(-1)
        if back:
            scale = NAMES["conj"](scale)
        other = other - matmul(v * scale, matmul(adjoint(v), other))
    assert other._shape[-2] == m
    return other


@composite(out=True, autocast="float32", aliases=("orgqr", "linalg.householder_product"))
def householder_product(input: Tensor, tau: Tensor) -> Tensor:
    """The first columns of the product of Householder reflections, as `geqrf` gives them."""
    name = "torch.linalg.householder_product"
    matrices(name, input)
    m, n = input._shape[-2:]
    if m < n:
        raise RuntimeError(
            f"{name}: input.shape[-2] must be greater than or equal to input.shape[-1]"
        )
    k = tau._shape[-1]
    if n < k:
        raise RuntimeError(
            f"{name}: input.shape[-1] must be greater than or equal to tau.shape[-1]"
        )
    if input.ndim - tau.ndim != 1 or input._shape[:-2] != tau._shape[:-1]:
        raise RuntimeError(
            f"{name}: Expected tau to have one dimension less than input, but got tau.ndim equal "
            f"to {tau.ndim} and input.ndim is equal to {input.ndim}"
        )
    if tau.dtype is not input.dtype:
        raise RuntimeError(
            f"{name}: tau dtype {tau.dtype.word} does not match input dtype {input.dtype.word}"
        )
    eye = NAMES["eye"](m, n, dtype=input.dtype, device=input.device)
    start = eye.expand(*input._shape)
    return _reflected(input, tau, start, reversed(range(k)), False)


@composite(out=True, autocast="float32")
def ormqr(
    input: Tensor, tau: Tensor, other: Tensor, left: bool = True, transpose: bool = False
) -> Tensor:
    """Q other (other Q without `left`) for the square Q of Householder reflections, or its Q^H."""
    matrices("torch.ormqr", input)
    matrices("torch.ormqr", other, of="other")
    if other._shape[-2 if left else -1] < tau._shape[-1]:
        raise RuntimeError(
            f"torch.ormqr: other.shape[{-2 if left else -1}] must be greater than or equal to "
            "tau.shape[-1]"
        )
    if other._shape[-2 if left else -1] != input._shape[-2]:
        raise RuntimeError(
            f"torch.ormqr: other.shape[{-2 if left else -1}] must be equal to input.shape[-2]"
        )
    order = range(tau._shape[-1])
    if left:
        return _reflected(input, tau, other, order if transpose else order[::-1], transpose)
    turned = _reflected(
        input, tau, adjoint(other), order[::-1] if transpose else order, not transpose
    )
    return adjoint(turned)
