"""Triangular systems of equations, solved by halves in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.ops.contraction import matmul
from flambeau.ops.rows import NAMES
from flambeau.ops.table import emit, primitive
from flambeau.tensor import Tensor


@primitive("host", linear=((1,),))
def substitute(row: Any, a: Tensor, b: Tensor, upper: bool, unit: bool) -> Tensor:
    """X with T X = b, T the upper (or lower) triangle of a; `unit`: with ones on its diagonal.

    A zero on the diagonal gives infinities, as a division does.
    """
    return emit(row, (a, b), (upper, unit), b._shape, b.dtype)


#: Rows that are solved one after another; larger triangles are cut in two.
_BLOCK = 16


def substituted(a: Any, b: Any, upper: bool, unit: bool) -> Any:
    """`substitute` of arrays: of a's first rows and columns, as many as b has rows.

    Nearly all work is in matrix products, which treat a batch at once.
    """
    n = b.shape[-2]
    x = np.array(b)
    if n <= _BLOCK:
        for i in reversed(range(n)) if upper else range(n):
            known = slice(i + 1, n) if upper else slice(0, i)
            x[..., i, :] -= (a[..., i : i + 1, known] @ x[..., known, :])[..., 0, :]
            if not unit:
                x[..., i, :] /= a[..., i, i, None]
        return x
    half = n // 2
    parts = (slice(half, n), slice(0, half)) if upper else (slice(0, half), slice(half, n))
    first, second = parts
    x[..., first, :] = substituted(a[..., first, first], x[..., first, :], upper, unit)
    x[..., second, :] -= a[..., second, first] @ x[..., first, :]
    x[..., second, :] = substituted(a[..., second, second], x[..., second, :], upper, unit)
    return x


def _substitute_vjp(g: Any, out: Any, a: Any, b: Any, upper: bool, unit: bool) -> tuple[Any, ...]:
    found = substitute(a.mT, g, not upper, unit)
    slope = -matmul(found, out.mT)
    if upper:
        slope = NAMES["triu"](slope, int(unit))
    else:
        slope = NAMES["tril"](slope, -int(unit))
    return slope, found, None, None


substitute.reference(substituted)
substitute.row.complex = True
substitute.vjp(_substitute_vjp, saves="out a")
