"""Statistics over dimensions: extremes with indices, any and all, variance, norms, log-sum-exp."""

from __future__ import annotations

import builtins
import math
from typing import Any

import numpy as np

from flambeau import dtypes, return_types
from flambeau.dtype import dtype as DType
from flambeau.ir.symbol import as_float
from flambeau.ops.creation import from_numpy
from flambeau.ops.elementwise import maximum, minimum, select_where
from flambeau.ops.entries import called
from flambeau.ops.indexing import gather
from flambeau.ops.movement import expand_to
from flambeau.ops.precision import doubled
from flambeau.ops.reduction import (
    _axes,
    argmax_axis,
    argmin_axis,
    max_axes,
    min_axes,
    prod_axes,
    restore,
)
from flambeau.ops.rows import NAMES
from flambeau.ops.rules import derived, kept_rule
from flambeau.ops.table import composite, emit, primitive
from flambeau.size import wrap_dim
from flambeau.tensor import Tensor


def pair(name: str, values: Tensor, indices: Tensor) -> Any:
    """The (values, indices) result of `max` or `min`."""
    return getattr(return_types, name)(values, indices)


@composite(out=True, autocast="float32")
def prod(
    input: Tensor, dim: int | None = None, keepdim: bool = False, *, dtype: DType | None = None
) -> Tensor:
    """Product of the elements, or over one dimension. Integers and bools multiply as int64."""
    if dtype is None and input.dtype.category < 2:
        dtype = dtypes.int64
    x = input if dtype is None or dtype is input.dtype else NAMES["to_dtype"](input, dtype)
    axes = _axes(dim, input)
    if not axes:
        return NAMES["clone"](x)
    return restore(prod_axes(x, axes), input._shape, axes, keepdim)


def _extreme(input: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any], name: str) -> Any:
    """The three forms of max and min."""
    whole, two = (max_axes, maximum) if name == "max" else (min_axes, minimum)
    if not isinstance(input, Tensor):
        raise TypeError(
            f"{name}(): argument 'input' (position 1) must be Tensor, not {type(input).__name__}"
        )
    dim = kwargs.pop("dim", None)
    other = kwargs.pop("other", None)
    keepdim = kwargs.pop("keepdim", False)
    if kwargs:
        raise TypeError(f"{name}() got an unexpected keyword argument '{next(iter(kwargs))}'")
    if args:
        if isinstance(args[0], Tensor):
            other = args[0]
        else:
            dim = args[0]
        if len(args) > 1:
            keepdim = args[1]
    if other is not None:
        return two(input, other)
    if dim is None:
        if input.numel() == 0:
            raise RuntimeError(
                f"{name}(): Expected reduction dim to be specified for "
                "input.numel() == 0. Specify the reduction dim with the 'dim' "
                "argument."
            )
        axes = tuple(range(input.ndim))
        return whole(input, axes) if axes else NAMES["clone"](input)
    if input.ndim == 0:
        wrap_dim(dim, 0)
        return pair(
            name, NAMES["clone"](input), NAMES["zeros"]((), dtype=dtypes.int64, device=input.device)
        )
    d = wrap_dim(dim, input.ndim)
    if input._shape[d] == 0:
        raise IndexError(f"{name}(): Expected reduction dim {d} to have non-zero size.")
    values, indices = _extreme_along(input, d, bool(keepdim), name)
    if values._grad_fn is not None:
        values._grad_fn.title = name.capitalize()
    return pair(name, values, indices)


@derived
@composite(keep=True, method=False, public=False)
def _extreme_along(input: Tensor, dim: int, keepdim: bool, name: str) -> tuple[Tensor, Tensor]:
    """(values, indices) of the extremes along a dimension; a gradient goes to that element."""
    indices = (argmax_axis if name == "max" else argmin_axis)(input, (dim,))
    kept = indices.unsqueeze(dim)
    values = gather(input, dim, kept)
    return (values, kept) if keepdim else (values.squeeze(dim), indices)


@composite()
def max(input: Tensor, *args: Any, out: Any = None, **kwargs: Any) -> Any:
    """Largest element; with `dim` (values, indices); with a tensor the elementwise maximum."""
    return _into(_extreme(input, args, kwargs, "max"), out)


@composite()
def min(input: Tensor, *args: Any, out: Any = None, **kwargs: Any) -> Any:
    """Smallest element; with `dim` (values, indices); with a tensor the elementwise minimum."""
    return _into(_extreme(input, args, kwargs, "min"), out)


def _into(found: Any, out: Any) -> Any:
    if out is None:
        return found
    from_pair = found if isinstance(found, tuple) else (found,)
    outs = out if isinstance(out, tuple) else (out,)
    for o, v in zip(outs, from_pair, strict=True):
        o.copy_(v) if o._shape == v._shape else o.set_(v)
    return out


@composite(out="exact")
def aminmax(input: Tensor, *, dim: int | None = None, keepdim: bool = False) -> Any:
    """(smallest, largest) elements, of all or over one dimension."""
    axes = _axes(dim, input)
    if any_zero(input._shape, axes):
        if dim is not None:
            raise IndexError(f"aminmax: Expected reduction dim {axes[0]} to have non-zero size.")
        raise RuntimeError(
            "aminmax(): cannot compute aminmax over an empty dimension as the operation has no "
            "identity."
        )
    if not axes:
        return return_types.aminmax(NAMES["clone"](input), NAMES["clone"](input))
    return return_types.aminmax(
        restore(min_axes(input, axes), input._shape, axes, keepdim),
        restore(max_axes(input, axes), input._shape, axes, keepdim),
    )


def _truth(input: Tensor, dim: Any, keepdim: bool, row: Any, empty: bool) -> Tensor:
    x = input if input.dtype is dtypes.bool else input != 0
    result = dtypes.uint8 if input.dtype is dtypes.uint8 else dtypes.bool
    axes = _axes(dim, input)
    if not axes:
        found = NAMES["clone"](x)
    elif any_zero(input._shape, axes):
        shape = tuple(n for i, n in enumerate(input._shape) if i not in axes)
        found = NAMES["full"](shape, empty, dtype=dtypes.bool, device=input.device)
    else:
        found = row(x, axes)
    found = restore(found, input._shape, axes, keepdim)
    return found if result is dtypes.bool else NAMES["to_dtype"](found, result)


def any_zero(shape: tuple[int, ...], axes: tuple[int, ...]) -> bool:
    """Whether one of the axes has size 0."""
    return 0 in [shape[a] for a in axes]


@composite(out=True)
def any(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Whether any element is nonzero, of all or over dimensions."""
    return _truth(input, dim, keepdim, max_axes, False)


@composite(out=True)
def all(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Whether every element is nonzero, of all or over dimensions."""
    return _truth(input, dim, keepdim, min_axes, True)


@composite(keep=True, method=False, public=False)
def _moments(
    input: Tensor, axes: tuple[int, ...], correction: float, keepdim: bool, root: bool
) -> tuple[Tensor, Tensor]:
    """(sum of squared distances from the mean / (count - correction), mean) over axes.

    Args:
        root: give the square root instead.

    Numerics: two passes over the values in a wider dtype, so that one rounding is seen.
    """
    x = doubled(input)
    count = math.prod(input._shape[a] for a in axes)
    mean = NAMES["sum"](x, axes, True) / as_float(count) if axes else x
    centred = x - mean
    squares = centred * centred
    spread = NAMES["sum"](squares, axes, True) if axes else squares
    spread = spread / _degrees(input, axes, correction)
    if root:
        spread = NAMES["sqrt"](spread)
    found = (spread, mean) if keepdim or not axes else (spread.squeeze(axes), mean.squeeze(axes))
    return found[0].to(input.dtype), found[1].to(input.dtype)


def _degrees(input: Any, axes: tuple[int, ...], correction: float) -> Any:
    """Degrees of freedom: how many values there are over the axes, less the correction."""
    degrees = math.prod(input.shape[a] for a in axes) - correction
    return as_float(degrees if degrees > 0 else 0)


@kept_rule
def _moments_vjp(
    g: Any, outs: Any, input: Any, axes: Any, correction: float, keepdim: bool, root: bool
) -> tuple[Any, ...]:
    shape = tuple(1 if k in axes else n for k, n in enumerate(input.shape))
    g_spread, g_mean, spread, mean = (None if x is None else x.reshape(shape) for x in (*g, *outs))
    found: Any = None
    if g_spread is not None:
        denominator = _degrees(input, axes, correction)
        if root:
            found = select_where(spread == 0, 0.0, g_spread / (spread * denominator))
        else:
            found = g_spread * (2.0 / denominator if denominator else math.inf)
        found = found * (input - mean)
    if g_mean is not None:
        count = math.prod(input.shape[a] for a in axes)
        part = expand_to(g_mean / as_float(count), input._shape)
        found = part if found is None else found + part
    return found, None, None, None, None


_moments.vjp(_moments_vjp, saves="input out0 out1")


def _spread(
    input: Tensor, dim: Any, correction: Any, keepdim: bool, name: str, root: bool
) -> tuple[Tensor, Tensor]:
    """(variance or its root, mean) over dimensions."""
    if input.dtype.is_complex:  # the mean squared distance is that of both parts
        parts = (NAMES["real"](input), NAMES["imag"](input))
        one, other = (_spread(p, dim, correction, keepdim, name, False) for p in parts)
        total = one[0] + other[0]
        return NAMES["sqrt"](total) if root else total, NAMES["complex"](one[1], other[1])
    if input.dtype.category != 2:
        raise RuntimeError(f"{name} only support floating point and complex dtypes")
    found: tuple[Tensor, Tensor] = _moments(input, _axes(dim, input), correction, keepdim, root)
    return found


def _correction(dim: Any, unbiased: Any, correction: Any) -> tuple[Any, Any]:
    """torch's old form var(unbiased) beside var(dim, unbiased) and var(dim, correction=)."""
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    if correction is None:
        correction = 1 if unbiased is None or unbiased else 0
    return dim, correction


@composite(out=True)
@called("Var")
def var(
    input: Tensor,
    dim: Any = None,
    unbiased: Any = None,
    keepdim: bool = False,
    *,
    correction: Any = None,
) -> Tensor:
    """Variance over dimensions, divided by count - correction (default 1)."""
    dim, correction = _correction(dim, unbiased, correction)
    return _spread(input, dim, correction, keepdim, "var", False)[0]


@composite(out=True)
@called("Std")
def std(
    input: Tensor,
    dim: Any = None,
    unbiased: Any = None,
    keepdim: bool = False,
    *,
    correction: Any = None,
) -> Tensor:
    """Standard deviation: the square root of `var`."""
    dim, correction = _correction(dim, unbiased, correction)
    return _spread(input, dim, correction, keepdim, "std", True)[0]


@composite(method=False)
def var_mean(
    input: Tensor,
    dim: Any = None,
    unbiased: Any = None,
    keepdim: bool = False,
    *,
    correction: Any = None,
) -> Any:
    """(variance, mean) over dimensions."""
    dim, correction = _correction(dim, unbiased, correction)
    return _spread(input, dim, correction, keepdim, "var_mean", False)


@composite(method=False)
def std_mean(
    input: Tensor,
    dim: Any = None,
    unbiased: Any = None,
    keepdim: bool = False,
    *,
    correction: Any = None,
) -> Any:
    """(standard deviation, mean) over dimensions."""
    dim, correction = _correction(dim, unbiased, correction)
    return _spread(input, dim, correction, keepdim, "std_mean", True)


@composite(out=True, aliases=("special.logsumexp",))
def logsumexp(input: Tensor, dim: Any, keepdim: bool = False) -> Tensor:
    """log(sum(exp(input))) over dimensions, shifted by the maximum so that nothing overflows."""
    x = input if input.dtype.category >= 2 else input.to(dtypes.get_default_dtype())
    axes = _axes(dim, x)
    if not axes:
        return NAMES["clone"](x)
    if any_zero(x._shape, axes):
        return NAMES["sum"](x, axes, keepdim).log()
    size = NAMES["real"](x.detach()) if x.dtype.is_complex else x.detach()
    top = restore(max_axes(size, axes), x._shape, axes, True)
    top = select_where(NAMES["isinf"](top), 0.0, top)
    total = NAMES["sum"](NAMES["exp"](x - top), axes, True)
    found = NAMES["log"](total) + top
    return found if keepdim else found.squeeze(axes)


@composite(out=True)
def nansum(
    input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: DType | None = None
) -> Tensor:
    """Sum that counts NaN as 0."""
    kept = select_where(NAMES["isnan"](input), 0, input)
    return NAMES["sum"](kept, dim, keepdim, dtype=dtype)


@composite(out=True)
def nanmean(
    input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: DType | None = None
) -> Tensor:
    """Mean over the elements that are not NaN."""
    if input.dtype.category < 2:
        raise RuntimeError(
            "nanmean(): expected input to have floating point or complex dtype but got "
            + input.dtype.word
        )
    count = NAMES["sum"](~NAMES["isnan"](input), dim, keepdim)
    return nansum(input, dim, keepdim, dtype=dtype) / count


@composite()
def count_nonzero(input: Tensor, dim: Any = None) -> Tensor:
    """Number of nonzero elements, of all or over dimensions, int64."""
    return NAMES["sum"](input != 0, dim)


@composite(autocast="float32")
def trace(input: Tensor) -> Tensor:
    """Sum of a matrix's diagonal."""
    if input.ndim != 2:
        raise RuntimeError("trace: expected a matrix")
    found = input.diagonal()
    if found.dtype.category != 2:
        return NAMES["sum"](found)
    return NAMES["sum"](doubled(found)).to(input.dtype)


# -- quantiles, covariance, histograms, distances --------------------------------------------------


def _quantile(
    input: Tensor, q: Any, dim: int | None, keepdim: bool, interpolation: str, ignore_nan: bool
) -> Tensor:
    name = "nanquantile()" if ignore_nan else "quantile()"
    if input.dtype not in (dtypes.float32, dtypes.float64):
        raise RuntimeError(f"{name} input tensor must be either float or double dtype")
    if input.numel() == 0:
        raise RuntimeError(f"{name} input tensor must be non-empty")
    if interpolation not in ("linear", "lower", "higher", "midpoint", "nearest"):
        raise RuntimeError(
            f"{name} interpolation must be one of linear, lower, higher, midpoint "
            f"or nearest, but got {interpolation}"
        )
    if not isinstance(q, Tensor):
        if not 0 <= q <= 1:
            raise RuntimeError(f"{name} q must be in the range [0, 1] but got {q}")
        q = NAMES["full"]((), float(q), dtype=input.dtype, device=input.device)
    elif q.dtype is not input.dtype:
        raise RuntimeError(f"{name} q tensor must be same dtype as the input tensor")
    elif q.ndim > 1:
        raise RuntimeError(f"{name} q must be a scalar or 1D tensor")
    d = 0 if dim is None or input.ndim == 0 else wrap_dim(dim, input.ndim)
    rows = input.reshape(-1) if dim is None or input.ndim == 0 else input.movedim(d, -1)
    n = rows._shape[-1]
    ordered = NAMES["sort"](rows, -1)[0]
    nan = NAMES["isnan"](rows)
    last = ((~nan).sum(-1, True) - 1).to(input.dtype) if ignore_nan else float(n - 1)
    ranks = q.reshape(-1) * NAMES["clamp"](last, min=0) if ignore_nan else q.reshape(-1) * last
    if not ignore_nan:  # NaN are sorted to the end
        ranks = select_where(NAMES["any"](nan, -1, True), float(n - 1), ranks)
    ranks = ranks.expand(*rows._shape[:-1], q.numel())
    found = _between(ordered, ranks, interpolation)
    if keepdim:
        ones = (
            (1,) * input.ndim
            if dim is None
            else tuple(1 if i == d else size for i, size in enumerate(input._shape))
        )
        found = found.movedim(-1, 0).reshape(q.numel(), *ones)
    else:
        found = found.movedim(-1, 0)
    return found if q.ndim else found.squeeze(0)


def _between(ordered: Tensor, ranks: Tensor, interpolation: str) -> Tensor:
    """Sorted rows at fractional ranks."""
    if interpolation == "nearest":
        return gather(ordered, -1, NAMES["round"](ranks).long())
    below, above = NAMES["floor"](ranks).long(), NAMES["ceil"](ranks).long()
    if interpolation == "lower":
        return gather(ordered, -1, below)
    if interpolation == "higher":
        return gather(ordered, -1, above)
    weight = 0.5 if interpolation == "midpoint" else ranks - below
    low, high = gather(ordered, -1, below), gather(ordered, -1, above)
    return NAMES["lerp"](low, high, weight)


@composite(out="exact", autocast="float32")
def quantile(
    input: Tensor,
    q: Any,
    dim: int | None = None,
    keepdim: bool = False,
    *,
    interpolation: str = "linear",
) -> Tensor:
    """The q-quantiles of all elements or along a dimension; a 1-d q adds a first dimension.

    Args:
        interpolation: "linear", "lower", "higher", "midpoint" or "nearest".
    """
    return _quantile(input, q, dim, keepdim, interpolation, False)


@composite(out="exact", autocast="float32")
def nanquantile(
    input: Tensor,
    q: Any,
    dim: int | None = None,
    keepdim: bool = False,
    *,
    interpolation: str = "linear",
) -> Tensor:
    """`quantile` of the elements that are not NaN."""
    return _quantile(input, q, dim, keepdim, interpolation, True)


@composite()
def cov(
    input: Tensor,
    *,
    correction: int = 1,
    fweights: Tensor | None = None,
    aweights: Tensor | None = None,
) -> Tensor:
    """Covariance of variables (rows) over observations (columns), optionally weighted."""
    if input.ndim > 2:
        raise RuntimeError(
            f"cov(): expected input to have two or fewer dimensions but got an "
            f"input with {input.ndim} dimensions"
        )
    if input.dtype is dtypes.bool:
        raise RuntimeError("cov(): bool dtype is not supported for input")
    x = input.reshape(1, -1) if input.ndim < 2 else input
    if x.dtype.category < 2:
        x = x.to(dtypes.get_default_dtype())
    weights: Any = None
    for w, what in ((fweights, "fweights"), (aweights, "aweights")):
        if w is None:
            continue
        if w.ndim > 1 or w.numel() != x._shape[1]:
            raise RuntimeError(
                f"cov(): expected {what} to have the same numel as there are "
                f"observations in the input but got {w.numel()} != {x._shape[1]}"
            )
        whole = w.dtype.category == 1
        if whole is not (what == "fweights"):
            kind = "integral" if what == "fweights" else "floating point"
            raise RuntimeError(
                f"cov(): expected {what} to have {kind} dtype but got {what} with {w.dtype} dtype"
            )
        if builtins.bool((w < 0).any()):
            raise RuntimeError(f"cov(): {what} cannot be negative")
        weights = w if weights is None else weights * w
    count: Any = as_float(x._shape[1])
    if weights is None:
        mean = NAMES["mean"](x, 1, True)
        divisor: Any = as_float(builtins.max(x._shape[1] - correction, 0))
        right = x - mean
    else:
        weights = weights.to(x.dtype.to_real()) if weights.dtype.category < 2 else weights
        count = NAMES["sum"](weights)
        mean = NAMES["sum"](x * weights, 1, True) / count
        square = NAMES["sum"](weights * aweights) if aweights is not None else count
        divisor = NAMES["clamp"](count - square / count * float(correction), min=0)
        right = (x - mean) * weights
    centred = x - mean
    if right.dtype is not centred.dtype:  # weights may be wider than what they weigh
        centred = centred.to(right.dtype)
    found = NAMES["matmul"](centred, NAMES["conj"](right.t())) / divisor
    return found.reshape(()) if found.numel() == 1 else found


@composite()
def corrcoef(input: Tensor) -> Tensor:
    """Pearson's correlation of variables (rows) over observations (columns)."""
    if input.ndim > 2:
        raise RuntimeError(
            f"corrcoef(): expected input to have two or fewer dimensions but got "
            f"an input with {input.ndim} dimensions"
        )
    found = cov(input)
    if found.ndim == 0:
        return found / found
    scale = NAMES["sqrt"](found.diagonal())
    found = found / scale.unsqueeze(1) / scale
    if not found.dtype.is_complex:
        return NAMES["clamp"](found, -1.0, 1.0)
    parts = (NAMES["clamp"](NAMES[part](found), -1.0, 1.0) for part in ("real", "imag"))
    return NAMES["complex"](*parts)


@composite()
def bincount(input: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    """How often each integer occurs in a vector of non-negative integers (or its weights' sum)."""
    if input.dtype.category == 2:
        raise NotImplementedError(f"\"bincount_cpu\" not implemented for '{input.type()[6:-6]}'")
    if input.ndim != 1 or input.dtype is dtypes.bool:
        raise RuntimeError("bincount only supports 1-d non-negative integral inputs.")
    if minlength < 0:
        raise RuntimeError("minlength should be >= 0")
    array = input.detach()._array()
    if array.size and array.min() < 0:
        raise RuntimeError("bincount only supports 1-d non-negative integral inputs.")
    if weights is None:
        return from_numpy(np.bincount(array, minlength=minlength))
    if weights._shape != input._shape:
        raise RuntimeError("weights should be 1-d and have the same length as input")
    found = np.bincount(array, weights.detach()._array(), minlength)
    kept = np.float32 if weights.dtype is dtypes.float32 else np.float64
    return from_numpy(found.astype(kept))


@primitive("host", differentiable=False)
def count_between(row: Any, input: Tensor, weight: Any, edges: Tensor) -> Tensor:
    """Weights of the elements between neighbouring edges; the last bin takes its upper edge."""
    given = (input, edges) if weight is None else (input, edges, weight)
    return emit(row, given, (), (edges._shape[0] - 1,), input.dtype)


_BLOCK = 1 << 14  # elements counted at a time, in cache


def _count_between(x: Any, edges: Any, weight: Any = None) -> Any:
    bins = edges.size - 1
    kept = x.dtype
    if kept.itemsize <= 2:  # halves and bools have no arithmetic to speak of
        x, edges = x.astype(np.float32), edges.astype(np.float32)
    counts = np.zeros(bins + 1, np.int64 if weight is None else np.float64)
    with np.errstate(all="ignore"):
        steps = bins / (edges[-1] - edges[0])
        for start in range(0, x.size, _BLOCK):
            part = x[start : start + _BLOCK]
            # Where the bins are equal this is right but for rounding; what it misses is searched.
            place = np.clip((part - edges[0]) * steps, 0, bins - 1).astype(np.int64)
            np.clip(place, 0, bins - 1, out=place)  # of a NaN
            missed = np.flatnonzero(~((edges[place] <= part) & (part < edges[place + 1])))
            among = part[missed]
            found = np.searchsorted(edges, among, "right") - 1
            found[among == edges[-1]] = bins - 1
            place[missed] = np.where(found < 0, bins, found)  # beyond either end: not counted
            given = None if weight is None else weight[start : start + _BLOCK]
            counts += np.bincount(place, given, bins + 1)
    return counts[:bins].astype(kept)


count_between.reference(_count_between)


def _edges(input: Tensor, bins: int, low: Any, high: Any) -> Tensor:
    """Equal bins over [low, high], or over the elements' own range where that is empty."""
    if low == high and input.numel():
        low, high = input.min().item(), input.max().item()
    if not (math.isfinite(low) and math.isfinite(high)):
        raise RuntimeError(f"histogram: range of [{low}, {high}] is not finite")
    if low == high:
        low, high = (low - 0.5, high + 0.5) if input.numel() or low else (0, 1)
    return NAMES["linspace"](low, high, bins + 1, dtype=input.dtype)


@composite(out="exact")
def histc(input: Tensor, bins: int = 100, min: Any = 0, max: Any = 0) -> Tensor:
    """Counts of the elements in equal bins over [min, max], or over their range if equal."""
    if bins <= 0:
        raise RuntimeError("bins must be > 0")
    if input.dtype.category != 2:
        raise NotImplementedError(f"\"histogram_cpu\" not implemented for '{input.type()[6:-6]}'")
    if min > max:
        raise RuntimeError("torch.histc: max must be larger than min")
    flat = input.detach().reshape(-1)
    return count_between(flat, None, _edges(flat, bins, min, max))


@composite()
def histogram(
    input: Tensor,
    bins: Any,
    *,
    range: Any = None,
    weight: Tensor | None = None,
    density: bool = False,
    out: Any = None,
) -> Any:
    """(hist, bin_edges): weights of the elements in bins, whose number or edges are given."""
    flat = input.detach().reshape(-1)
    edges = bins if isinstance(bins, Tensor) else _edges(flat, bins, *(range or (0, 0)))
    given = None if weight is None else weight.detach().reshape(-1)
    hist = count_between(flat, given, edges)
    if density:
        hist = hist / (NAMES["sum"](hist) * NAMES["diff"](edges))
    return _into(return_types.histogram(hist, edges), out)
