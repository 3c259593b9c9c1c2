"""Scans along a dimension: running sums, products, extremes and log-sum-exps; differences."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from flambeau import dtypes, return_types
from flambeau.dtype import dtype as DType
from flambeau.ops.elementwise import select_where
from flambeau.ops.indexing import gather
from flambeau.ops.movement import slice_dim
from flambeau.ops.rows import NAMES
from flambeau.ops.table import composite, emit, primitive
from flambeau.size import wrap_dim
from flambeau.tape import modes
from flambeau.tensor import Tensor

_HALVES = (np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16))


def widened(x: Any) -> Any:
    """An array in a dtype that NumPy's library functions take: halves become float32."""
    return x.astype(np.float32) if x.dtype in _HALVES else x


def _accurate(x: Any) -> Any:
    """Floats as float64: a scan rounds once per element, so it is carried wider."""
    return x.astype(np.float64) if x.dtype.kind not in "iubc" else x


# -- primitives ------------------------------------------------------------------------------------
# `dim` has more than one element: of a single one the scan is the element itself. With `reverse`
# each element's scan covers those from it to the end.


def _forwards(x: Any, dim: int, reverse: bool) -> Any:
    return np.flip(x, dim) if reverse else x


@primitive("scan", jvp="linear")
def scan_sum(row: Any, input: Tensor, dim: int, reverse: bool) -> Tensor:
    """Running sum along one dimension, carried in float64."""
    return emit(row, (input,), (dim, reverse), input._shape, input.dtype)


def _scan_sum(x: Any, dim: int, reverse: bool) -> Any:
    sums = np.cumsum(_forwards(_accurate(x), dim, reverse), axis=dim)
    return _forwards(sums, dim, reverse).astype(x.dtype)


scan_sum.reference(_scan_sum)
scan_sum.row.complex = True
scan_sum.vjp(lambda g, out, x, dim, reverse: (scan_sum(g, dim, not reverse), None, None))


@primitive("scan")
def scan_product(row: Any, input: Tensor, dim: int, reverse: bool) -> Tensor:
    """Running product along one dimension, carried in float64."""
    return emit(row, (input,), (dim, reverse), input._shape, input.dtype)


def _scan_product(x: Any, dim: int, reverse: bool) -> Any:
    products = np.cumprod(_forwards(_accurate(x), dim, reverse), axis=dim)
    return _forwards(products, dim, reverse).astype(x.dtype)


def _scan_product_vjp(g: Any, out: Any, x: Any, dim: int, reverse: bool) -> tuple[Any, ...]:
    """Before the first zero g * out summed backwards over x; at it the product without it."""
    if modes.grad:
        return _scan_product_grad(g, x, dim, reverse), None, None
    zero = x == 0
    zeros_so_far = scan_sum(zero.long(), dim, reverse)
    first = zero & (zeros_so_far == 1)
    before = zeros_so_far == 0
    filled = select_where(first, 1.0, x)
    smooth = scan_sum(g * scan_product(x, dim, reverse), dim, not reverse)
    at_zero = scan_sum(g * scan_product(filled, dim, reverse), dim, not reverse)
    smooth = smooth / select_where(before, x, 1.0)
    return select_where(before, smooth, select_where(first, at_zero, 0.0)), None, None


def _scan_product_grad(g: Tensor, x: Tensor, dim: int, reverse: bool) -> Tensor:
    """As the rule above, without its quotient and cases, which have no derivatives at zeros: the
    product before each element, times what the products after it sum up to; (n, n) of them."""
    x, g = (NAMES["movedim"](NAMES["flip"](t, (dim,)) if reverse else t, dim, -1) for t in (x, g))
    last = x.ndim - 1
    place = NAMES["arange"](x._shape[-1], device=x.device)
    mine = place.unsqueeze(-1)
    after = scan_product(select_where(place > mine, x.unsqueeze(-2), 1.0), last + 1, False)
    sums = select_where(place >= mine, g.unsqueeze(-2) * after, 0.0).sum(-1)
    first = NAMES["ones_like"](x[..., :1])
    before = NAMES["cat"]((first, _along(x[..., :-1], last, scan_product)), -1)
    found = NAMES["movedim"](before * sums, -1, dim)
    return NAMES["flip"](found, (dim,)) if reverse else found


scan_product.reference(_scan_product)
scan_product.row.complex = True
scan_product.vjp(_scan_product_vjp, saves="input")


def _scan_place(x: Any, dim: int, reverse: bool, extreme: Any) -> Any:
    x = _forwards(widened(x), dim, reverse)
    hit = (x == extreme.accumulate(x, axis=dim)) | np.not_equal(x, x)
    shape = tuple(n if d == dim else 1 for d, n in enumerate(x.shape))
    steps = np.arange(x.shape[dim]).reshape(shape)
    found = np.maximum.accumulate(np.where(hit, steps, 0), axis=dim)
    return _forwards(x.shape[dim] - 1 - found if reverse else found, dim, reverse)


@primitive("scan", differentiable=False)
def scan_argmax(row: Any, input: Tensor, dim: int, reverse: bool) -> Tensor:
    """Index of the largest so far along one dimension (the last of equals; NaN wins), int64."""
    return emit(row, (input,), (dim, reverse), input._shape, dtypes.int64)


@primitive("scan", differentiable=False)
def scan_argmin(row: Any, input: Tensor, dim: int, reverse: bool) -> Tensor:
    """Index of the smallest so far along one dimension (the last of equals; NaN wins), int64."""
    return emit(row, (input,), (dim, reverse), input._shape, dtypes.int64)


scan_argmax.reference(lambda x, dim, reverse: _scan_place(x, dim, reverse, np.maximum))
scan_argmin.reference(lambda x, dim, reverse: _scan_place(x, dim, reverse, np.minimum))


def _need_floats(input: Tensor) -> None:
    if input.dtype.category != 2:
        raise NotImplementedError(
            f"\"logcumsumexp_out_cpu\" not implemented for '{input.type()[6:-6]}'"
        )


@primitive("scan")
def scan_logsumexp(row: Any, input: Tensor, dim: int, reverse: bool) -> Tensor:
    """log of the running sum of exponentials along one dimension."""
    _need_floats(input)
    return emit(row, (input,), (dim, reverse), input._shape, input.dtype)


def _scan_logsumexp(x: Any, dim: int, reverse: bool) -> Any:
    with np.errstate(all="ignore"):
        sums = np.logaddexp.accumulate(_forwards(_accurate(x), dim, reverse), axis=dim)
    return _forwards(sums, dim, reverse).astype(x.dtype)


#: Stands for the logarithm of 0 where -inf would meet inf.
_LOG_ZERO = -1e30


def _scan_logsumexp_vjp(g: Any, out: Any, x: Any, dim: int, reverse: bool) -> tuple[Any, ...]:
    """sum over later i of g_i * exp(x - out_i), in logarithms, by the sign of g."""
    wide = g if g.dtype.itemsize >= 4 else g.float()
    given, found = x.to(wide.dtype), out.to(wide.dtype)
    return weighted_scan(wide, -found, given, dim, not reverse), None, None


@composite(public=False, method=False)
def weighted_scan(input: Tensor, inner: Tensor, outer: Tensor, dim: int, reverse: bool) -> Tensor:
    """exp(outer) times the running sum of input * exp(inner), without overflow: positive and
    negative terms by their logarithms."""
    exp, log = NAMES["exp"], NAMES["log"]
    total: Any = 0
    dtype = input.dtype  # a difference of two sums: their own errors must not show in it
    input, inner, outer = (t.to(dtypes.float64) for t in (input, inner, outer))
    for part, weight in ((input, 1.0), (-input, -1.0)):
        positive = part > 0
        logs = select_where(positive, log(select_where(positive, part, 1.0)), _LOG_ZERO)
        total = total + exp(outer + scan_logsumexp(logs + inner, dim, reverse)) * weight
    found: Tensor = total.to(dtype)
    return found


def _weighted_scan_vjp(
    g: Any, out: Any, input: Any, inner: Any, outer: Any, dim: int, reverse: bool
) -> tuple[Any, ...]:
    """Linear in the input, as the logarithms' own derivatives would not be at 0."""
    back = weighted_scan(g, outer, inner, dim, not reverse)
    return back, back * input, g * out, None, None


weighted_scan.vjp(_weighted_scan_vjp, saves="input inner outer out")
scan_logsumexp.reference(_scan_logsumexp)
scan_logsumexp.vjp(_scan_logsumexp_vjp, saves="input out")


# -- public forms ----------------------------------------------------------------------------------


def _along(input: Tensor, dim: int, row: Any) -> Tensor:
    d = wrap_dim(dim, input.ndim)
    if input.ndim == 0 or input._shape[d] == 1:
        return NAMES["clone"](input)
    return row(input, d, False)


def _summed_dtype(input: Tensor, dtype: DType | None) -> Tensor:
    chosen = dtype or (input.dtype if input.dtype.category >= 2 else dtypes.int64)
    return input.to(chosen)


@composite(out=True, inplace=True)
def cumsum(input: Tensor, dim: int, *, dtype: DType | None = None) -> Tensor:
    """Sum of the elements up to each one along a dimension. Integers and bools become int64."""
    return _along(_summed_dtype(input, dtype), dim, scan_sum)


@composite(out=True, inplace=True)
def cumprod(input: Tensor, dim: int, *, dtype: DType | None = None) -> Tensor:
    """Product of the elements up to each one along a dimension. Integers and bools become int64."""
    return _along(_summed_dtype(input, dtype), dim, scan_product)


def _extreme(input: Tensor, dim: int, largest: bool) -> tuple[Tensor, Tensor]:
    d = wrap_dim(dim, input.ndim)
    if input.ndim == 0 or input._shape[d] == 1:
        place = NAMES["zeros"](input._shape, dtype=dtypes.int64, device=input.device)
        return NAMES["clone"](input), place
    place = (scan_argmax if largest else scan_argmin)(input, d, False)
    return gather(input, d, place), place


@composite(out="exact")
def cummax(input: Tensor, dim: int) -> Any:
    """(values, indices) of the largest element up to each one along a dimension."""
    return return_types.cummax(*_extreme(input, dim, True))


@composite(out="exact")
def cummin(input: Tensor, dim: int) -> Any:
    """(values, indices) of the smallest element up to each one along a dimension."""
    return return_types.cummin(*_extreme(input, dim, False))


@composite(out="exact")
def logcumsumexp(input: Tensor, dim: int) -> Tensor:
    """log(cumsum(exp(input))) along a dimension, without overflow."""
    if input.dtype.is_complex:
        return _along(input, dim, _complex_logsumexp)
    _need_floats(input)
    return _along(input, dim, scan_logsumexp)


def _complex_logsumexp(input: Tensor, dim: int, reverse: bool) -> Tensor:
    """As `scan_logsumexp` of complex numbers: both parts of the sums are sums of real numbers,
    weighted by exponentials relative to the largest so far, which no derivative depends on."""
    inner, turn = input.real, input.imag
    largest = inner.detach()
    most = gather(largest, dim, scan_argmax(largest, dim, reverse))
    most = select_where(most.abs() < np.inf, most, 0.0)
    sums = [
        weighted_scan(part, inner, -most, dim, reverse)
        for part in (NAMES["cos"](turn), NAMES["sin"](turn))
    ]
    total = NAMES["log"](NAMES["complex"](*sums))
    return NAMES["complex"](total.real + most, total.imag)


@composite(out="exact")
def diff(
    input: Tensor,
    n: int = 1,
    dim: int = -1,
    prepend: Tensor | None = None,
    append: Tensor | None = None,
) -> Tensor:
    """Differences of neighbours along a dimension, n times.

    Args:
        prepend, append: tensors joined before and after input along `dim`.

    Raises:
        RuntimeError: a 0-d input, or a negative n.
    """
    if input.ndim == 0:
        raise RuntimeError("diff expects input to be at least one-dimensional")
    if n < 0:
        raise RuntimeError(f"order must be non-negative but got {n}")
    d = wrap_dim(dim, input.ndim)
    if n == 0:
        return NAMES["clone"](input)
    parts = [t for t in (prepend, input, append) if t is not None]
    x = NAMES["cat"](parts, d) if len(parts) > 1 else input
    for _ in range(min(n, x._shape[d])):
        size = x._shape[d]
        above, below = slice_dim(x, d, 1, size, 1), slice_dim(x, d, 0, size - 1, 1)
        x = above.logical_xor(below) if x.dtype is dtypes.bool else above - below
    return NAMES["clone"](x) if x is input else x


def _areas(y: Tensor, x: Tensor | None, dx: Any, dim: int) -> Tensor:
    d = wrap_dim(dim, y.ndim)
    size = y._shape[d]
    both: Any = slice_dim(y, d, 1, max(size, 1), 1) + slice_dim(y, d, 0, max(size - 1, 0), 1)
    if x is None:
        return both * (dx / 2.0)
    if x.ndim == 1:
        if x._shape[0] != size:
            raise RuntimeError("trapezoid: There must be one `x` value for each sample point")
        step = diff(x).reshape(-1, *(1,) * (y.ndim - d - 1))
    else:
        step = diff(x, 1, dim)
    return both * step / 2.0


@composite(method=False, aliases=("trapz",))
def trapezoid(y: Tensor, x: Tensor | None = None, *, dx: Any = None, dim: int = -1) -> Tensor:
    """Integral of samples along a dimension by the trapezoidal rule, over points x or steps dx."""
    return NAMES["sum"](_areas(y, x, 1.0 if dx is None else dx, dim), dim)


@composite(method=False)
def cumulative_trapezoid(
    y: Tensor, x: Tensor | None = None, *, dx: Any = None, dim: int = -1
) -> Tensor:
    """Running integral of samples along a dimension by the trapezoidal rule."""
    return cumsum(_areas(y, x, 1.0 if dx is None else dx, dim), dim)
