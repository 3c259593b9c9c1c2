"""Approximate factorizations of low rank, and histograms of several dimensions."""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau import return_types
from flambeau.ops.contraction import matmul
from flambeau.ops.factorization import adjoint, orthogonal_factor, singular_factors
from flambeau.ops.rows import NAMES
from flambeau.ops.table import composite, emit, primitive
from flambeau.tensor import Tensor


def _basis(a: Tensor, q: int, niter: int) -> Tensor:
    """Orthonormal columns that nearly span those of a.

    Reference: N. Halko, P.-G. Martinsson and J. Tropp, Finding Structure with Randomness
    (arXiv:0909.4061), algorithm 4.4.
    """
    random = NAMES["randn"](a._shape[-1], q, dtype=a.dtype, device=a.device)
    found = orthogonal_factor(matmul(a, random), False)[0]
    for _ in range(niter):
        found = orthogonal_factor(matmul(adjoint(a), found), False)[0]
        found = orthogonal_factor(matmul(a, found), False)[0]
    return found


@composite(method=False)
def svd_lowrank(
    A: Tensor, q: int | None = 6, niter: int | None = 2, M: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """(U, S, V) of the largest singular values, approximately: A - M = U diag(S) V^H.

    Args:
        q: a little more than the rank that is looked for.
        niter: iterations that bring the subspace nearer.
        M: subtracted from A first, broadcast.
    """
    a = A if M is None else A - M.expand(*A._shape)
    q = 6 if q is None else q
    turn = a._shape[-2] < a._shape[-1]
    if turn:
        a = adjoint(a)
    basis = _basis(a, q, 2 if niter is None else niter)
    u, s, v = singular_factors(matmul(adjoint(basis), a), False)
    u, v = matmul(basis, u), adjoint(v)
    return (v, s, u) if turn else (u, s, v)


@composite(method=False)
def pca_lowrank(
    A: Tensor, q: int | None = None, center: bool = True, niter: int = 2
) -> tuple[Tensor, Tensor, Tensor]:
    """(U, S, V) of the principal components of rows, approximately.

    Args:
        q: how many components, default min(6, m, n).
        center: subtract the columns' means first.
    """
    m, n = A._shape[-2:]
    q = min(6, m, n) if q is None else q
    if not 0 <= q <= min(m, n):
        raise ValueError(
            f"q(={q}) must be non-negative integer and not greater than min(m, n)={min(m, n)}"
        )
    if niter < 0:
        raise ValueError(f"niter(={niter}) must be non-negative integer")
    if not center:
        return svd_lowrank(A, q, niter)
    return svd_lowrank(A - NAMES["mean"](A, -2, True), q, niter)


@primitive("host", differentiable=False)
def count_in_cells(row: Any, input: Tensor, weight: Any, *edges: Tensor) -> Tensor:
    """Weights of points (N, D) in the cells between D vectors of edges."""
    given = (input, *edges) if weight is None else (input, *edges, weight)
    shape = tuple(e._shape[0] - 1 for e in edges)
    return emit(row, given, (len(edges),), shape, input.dtype)


def _count_in_cells(x: Any, *rest: Any) -> Any:
    *arrays, count = rest
    weights = arrays[count] if len(arrays) > count else None
    shape = tuple(len(e) - 1 for e in arrays[:count])
    inside = np.ones(len(x), bool)
    cells = []
    for column, edges in zip(x.T, arrays[:count], strict=True):
        place = np.searchsorted(edges, column, "right") - 1
        cells.append(np.where(column == edges[-1], len(edges) - 2, place))
        inside &= (column >= edges[0]) & (column <= edges[-1])
    flat = np.ravel_multi_index([c[inside] for c in cells], shape, mode="clip")
    kept = None if weights is None else weights[inside]
    return np.bincount(flat, kept, int(np.prod(shape))).reshape(shape).astype(x.dtype)


count_in_cells.reference(_count_in_cells)


@composite()
def histogramdd(
    input: Tensor,
    bins: Any,
    *,
    range: Any = None,
    weight: Tensor | None = None,
    density: bool = False,
) -> Any:
    """(hist, bin_edges): weights of the points of the last dimension in the cells of a grid.

    Args:
        bins: how many, for all dimensions or each; or the edges of each.
        range: lowest and highest edge of each dimension, flat; default the points' own.
    """
    if input.ndim < 2:
        raise RuntimeError(
            "torch.histogramdd: input tensor should have at least 2 dimensions, but got "
            f"{input.ndim}"
        )
    points = input.detach().reshape(-1, input._shape[-1])
    d = points._shape[-1]
    counts = [bins] * d if isinstance(bins, int) else list(bins)
    if len(counts) != d:
        raise RuntimeError(
            f"torch.histogramdd: expected {d} sequences of bin edges for a {d}-dimensional "
            f"histogram but got {len(counts)}"
        )
    edges = []
    for k, b in enumerate(counts):
        if isinstance(b, Tensor):
            edges.append(b)
            continue
        if range is not None:
            low, high = range[2 * k], range[2 * k + 1]
        elif points._shape[0]:
            low, high = points[:, k].min().item(), points[:, k].max().item()
        else:
            low, high = 0.0, 1.0
        if low == high:
            low, high = low - 0.5, high + 0.5
        edges.append(NAMES["linspace"](low, high, b + 1, dtype=input.dtype))
    weights = None if weight is None else weight.detach().reshape(-1)
    hist = count_in_cells(points, weights, *edges)
    if density:
        volume: Any = NAMES["sum"](hist)
        for k, e in enumerate(edges):
            width = NAMES["diff"](e).reshape(-1, *(1,) * (d - 1 - k))
            hist = hist / width
        hist = hist / volume
    return return_types.histogramdd(hist, tuple(edges))
