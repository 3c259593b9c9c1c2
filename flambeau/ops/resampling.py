"""Sums over windows of an image, plain or weighted: average pooling and interpolation.

Every result of these is a sum of neighbouring rows, each a sum of neighbouring columns, so one row
of the table computes them all, and its transpose is itself with transposed tables. A table (`Band`)
says for each result of a dimension where its window starts, how many elements it has and what they
weigh. Tables depend on sizes only; they are made once.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from flambeau import dtypes
from flambeau.dtype import dtype as DType
from flambeau.dtype import float32
from flambeau.ir.symbol import SymInt
from flambeau.ops.creation import _copy_array
from flambeau.ops.elementwise import select_where
from flambeau.ops.pooling import (
    adaptive_bounds,
    autocast_of,
    name_row,
    output_sizes,
    planes,
    size_of,
    tuple_of,
    windows,
)
from flambeau.ops.precision import cast, widen
from flambeau.ops.rows import FUNCTIONAL, NAMES
from flambeau.ops.table import composite
from flambeau.tensor import Tensor

Array = np.ndarray[Any, Any]

#: What a dimension's windows are: ("same", n), ("windows", n, count, kernel, stride, padding),
#: ("adaptive", n, count), or (mode, n, count, scale, align_corners) of interpolation.
Key = tuple[Any, ...]


# -- tables ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Band:
    """A matrix (results, elements) whose rows are short runs that do not move backwards.

    Attributes:
        starts: first column of each row, int32, never falling.
        counts: columns of each row, int32.
        weights: (results, most columns of a row), zeros behind a row's last.
        regular: (stride, start) if row i holds ones in the columns start + stride * i .., equally
            many in all rows; columns outside of the matrix count as zeros.
    """

    starts: Array
    counts: Array
    weights: Array
    regular: tuple[int, int] | None = None

    @property
    def taps(self) -> int:
        """The most columns of a row."""
        return self.weights.shape[1]

    def spans(self, first: int, last: int) -> int:
        """Columns from the start of row `first` to the end of row `last`."""
        if self.regular is not None:
            return (last - first) * self.regular[0] + self.taps
        return int(self.starts[last] + self.counts[last] - self.starts[first])


def _band(rows: Array, columns: Array, weights: Array, count: int) -> Band:
    """The band of a matrix of `count` rows with given entries; those at one place add up."""
    starts = np.full(count, np.iinfo(np.int32).max, np.int64)
    ends = np.zeros(count, np.int64)
    np.minimum.at(starts, rows, columns)
    np.maximum.at(ends, rows, columns + 1)
    empty = ends == 0
    starts[empty] = np.maximum.accumulate(ends)[empty]  # where the rows before end
    counts = np.where(empty, 0, ends - starts)
    table = np.zeros((count, max(int(counts.max(initial=0)), 1)))
    np.add.at(table, (rows, columns - starts[rows]), weights)
    ones = bool((counts == table.shape[1]).all() and (table == 1).all())
    regular = None
    if ones:
        stride = int(starts[1] - starts[0]) if count > 1 else 1
        if (starts == starts[0] + stride * np.arange(count)).all() and stride > 0:
            regular = (stride, int(starts[0]))
    return Band(starts.astype(np.int32), counts.astype(np.int32), table, regular)


def _entries(key: Key) -> tuple[Array, Array, Array]:
    """(rows, columns, weights) of a dimension's matrix."""
    kind, size = key[0], key[1]
    if kind == "same":
        return np.arange(size), np.arange(size), np.ones(size)
    count = key[2]
    number = np.arange(count)
    if kind in ("windows", "adaptive"):
        if kind == "windows":
            starts = number * key[4] - key[5]
            lengths = np.full(count, key[3])
        else:
            bounds = np.array(adaptive_bounds(size, count))
            starts, lengths = bounds[:, 0], bounds[:, 1] - bounds[:, 0]
        rows = np.repeat(number, lengths)
        within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        columns = starts[rows] + within
        inside = (columns >= 0) & (columns < size)
        return rows[inside], columns[inside], np.ones(int(inside.sum()))
    return _INTERPOLATIONS[kind](size, count, key[3], key[4])


def _nearest(size: int, count: int, scale: float, align: bool, shift: float) -> Any:
    """torch computes the place in float32, and so must who wants the same neighbours."""
    place = (np.arange(count, dtype=np.float32) + np.float32(shift)) * np.float32(scale)
    columns = np.minimum(np.floor(place).astype(np.int64), size - 1)
    return np.arange(count), columns, np.ones(count)


def _places(size: int, count: int, scale: float, align: bool) -> Array:
    """Where each result stands among the elements."""
    if align:
        return np.arange(count) * ((size - 1) / (count - 1) if count > 1 else 0.0)
    return scale * (np.arange(count) + 0.5) - 0.5


def _linear(size: int, count: int, scale: float, align: bool) -> Any:
    place = np.maximum(_places(size, count, scale, align), 0)
    low = np.minimum(np.floor(place).astype(np.int64), size - 1)
    high = np.minimum(low + 1, size - 1)
    part = np.clip(place - low, 0, 1)
    number = np.arange(count)
    return (
        np.concatenate([number, number]),
        np.concatenate([low, high]),
        np.concatenate([1 - part, part]),
    )


def _cubic_near(x: Any, a: float) -> Any:
    """Keys' convolution kernel from 0 to 1."""
    return ((a + 2) * x - (a + 3)) * x * x + 1


def _cubic_far(x: Any, a: float) -> Any:
    """Keys' convolution kernel from 1 to 2."""
    return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a


def _cubic_filter(x: Array, a: float) -> Array:
    """Keys' convolution kernel."""
    x = np.abs(x)
    return np.where(x < 1, _cubic_near(x, a), np.where(x < 2, _cubic_far(x, a), 0.0))


def _cubic(size: int, count: int, scale: float, align: bool) -> Any:
    place = _places(size, count, scale, align)
    low = np.floor(place).astype(np.int64)
    part = place - low
    number = np.arange(count)
    taps = range(-1, 3)
    return (
        np.concatenate([number for _ in taps]),
        np.concatenate([np.clip(low + t, 0, size - 1) for t in taps]),
        np.concatenate([_cubic_filter(part - t, -0.75) for t in taps]),
    )


def _smooth(size: int, count: int, scale: float, align: bool, cubic: bool) -> Any:
    """Antialiased forms: the filter is as wide as the elements that a result stands for."""
    if align:
        scale = (size - 1) / (count - 1) if count > 1 else 0.0
    support = (2.0 if cubic else 1.0) * max(scale, 1.0)
    inverse = 1.0 / scale if scale >= 1.0 else 1.0
    rows, columns, weights = [], [], []
    for j in range(count):
        center = scale * (j + 0.5)
        first = max(int(center - support + 0.5), 0)
        number = np.arange(first, min(int(center + support + 0.5), size))
        x = (number - center + 0.5) * inverse
        part = _cubic_filter(x, -0.5) if cubic else np.maximum(1 - np.abs(x), 0)
        rows.append(np.full(len(number), j))
        columns.append(number)
        weights.append(part / part.sum())
    return np.concatenate(rows), np.concatenate(columns), np.concatenate(weights)


_INTERPOLATIONS: dict[str, Any] = {
    "nearest": functools.partial(_nearest, shift=0.0),
    "nearest-exact": functools.partial(_nearest, shift=0.5),
    "linear": _linear,
    "cubic": _cubic,
    "smooth linear": functools.partial(_smooth, cubic=False),
    "smooth cubic": functools.partial(_smooth, cubic=True),
}


@functools.lru_cache(maxsize=256)
def band(key: Key, transposed: bool) -> Band:
    """The table of a dimension, or of the transposed matrix."""
    rows, columns, weights = _entries(key)
    found = _band(rows, columns, weights, key[2] if len(key) > 2 else key[1])
    if not transposed:
        return _regular(found, key[3], key[4], -key[5]) if key[0] == "windows" else found
    turned = _band(columns, rows, weights, key[1])
    if key[0] == "windows" and key[4] == 1:
        return _regular(turned, key[3], 1, key[5] - key[3] + 1)
    return turned


def _regular(found: Band, taps: int, stride: int, start: int) -> Band:
    """A band of ones whose rows are regular but for what hangs over the ends."""
    wide = np.zeros((len(found.starts), taps))
    wide[:, : found.taps] = found.weights
    return Band(found.starts, found.counts, wide, (stride, start))


@functools.lru_cache(maxsize=256)
def _table(key: Key, transposed: bool, across: bool, dtype: DType, device: Any) -> Any:
    """The band as tensors: int32 (2, results), and weights (results, taps), `across` turned."""
    found = band(key, transposed)
    bounds = _copy_array(np.stack([found.starts, found.counts]), dtypes.int32, device)
    weights = found.weights.T if across else found.weights
    return bounds, _copy_array(np.ascontiguousarray(weights, dtype.numpy), dtype, device)


# -- tables of open sizes --------------------------------------------------------------------------


def is_open(key: Key) -> bool:
    """Whether the sizes of a dimension are symbols: then its table is made when it runs."""
    return any(type(size) is SymInt for size in key)


def _of_any(key: Key, dtype: DType, device: Any) -> tuple[Tensor, Tensor]:
    """What `_along` is told of a dimension: (2, results) and (results, taps)."""
    if is_open(key):
        return _recorded(key, dtype, device)
    bounds, weights = _table(key, False, False, dtype, device)
    return bounds, weights


def _recorded(key: Key, dtype: DType, device: Any) -> tuple[Tensor, Tensor]:
    """A table of operations. Places outside of a dimension stand for the elements at its ends."""
    kind, size, count = key[:3]
    number = NAMES["arange"](count, device=device)
    if kind in ("windows", "adaptive"):
        starts, ends = _ends(key, device)
        taps = key[3] if kind == "windows" else size // count + 2
        low = starts.clamp(min=0)
        bounds = NAMES["stack"]([low, (ends.clamp(max=size) - low).clamp(min=0)])
        return bounds, NAMES["ones"](count, taps, dtype=dtype, device=device)
    scale, align = key[3:]
    if kind.startswith("smooth"):
        return _recorded_smooth(key, dtype, device)
    if kind.startswith("nearest"):
        shift = 0.5 if kind == "nearest-exact" else 0.0
        place = (NAMES["to_dtype"](number, float32) + shift) * scale
        first, weights = place.floor(), NAMES["ones"](count, 1, dtype=dtype, device=device)
    else:
        place = NAMES["to_dtype"](number, dtypes.float64)
        if align:
            place = place * ((size - 1) / (count - 1) if count > 1 else 0.0)
        else:
            place = scale * (place + 0.5) - 0.5
        if kind == "linear":
            place = place.clamp(min=0)
            first = place.floor().clamp(max=size - 1)
            part = (place - first).clamp(0, 1)
            parts = [1 - part, part]
        else:
            part = place - place.floor()
            first = place.floor() - 1
            parts = [
                _cubic_far(part + 1, -0.75),
                _cubic_near(part, -0.75),
                _cubic_near(1 - part, -0.75),
                _cubic_far(2 - part, -0.75),
            ]
        weights = NAMES["to_dtype"](NAMES["stack"](parts, 1), dtype)
    starts = NAMES["to_dtype"](first, dtypes.int64)
    return NAMES["stack"]([starts, NAMES["full_like"](starts, weights._shape[1])]), weights


def _recorded_smooth(key: Key, dtype: DType, device: Any) -> tuple[Tensor, Tensor]:
    """`_recorded` of an antialiased form, whose windows are as long for all sizes."""
    kind, size, count, scale, align = key
    cubic = kind == "smooth cubic"
    if align:
        scale = (size - 1) / (count - 1) if count > 1 else 0.0
    support = (2.0 if cubic else 1.0) * max(scale, 1.0)
    number = NAMES["arange"](count, dtype=dtypes.float64, device=device)
    center = (number + 0.5) * scale
    low = (center - support + 0.5).floor().clamp(min=0)
    counts = (center + support + 0.5).floor().clamp(max=size) - low
    tap = NAMES["arange"](math.ceil(2 * support) + 1, dtype=dtypes.float64, device=device)
    x = (tap + (low - center + 0.5).unsqueeze(1)).abs() * (1.0 / max(scale, 1.0))
    near, far = (_cubic_near(x, -0.5), _cubic_far(x, -0.5)) if cubic else (1 - x, 0.0)
    weights = NAMES["where"](x < 1, near, NAMES["where"](x < 2, far, 0.0))
    weights = NAMES["where"](tap < counts.unsqueeze(1), weights, 0.0)
    weights = weights / weights.sum(1, keepdim=True)
    bounds = NAMES["stack"]([low, counts])
    return NAMES["to_dtype"](bounds, dtypes.int64), NAMES["to_dtype"](weights, dtype)


def _ends(key: Key, device: Any) -> tuple[Tensor, Tensor]:
    """(starts, ends) of a dimension's windows, which may hang over its ends."""
    number = NAMES["arange"](key[2], device=device)
    if key[0] == "adaptive":
        size, count = key[1:]
        return number * size // count, -((number + 1) * -size // count)
    _, _, _, kernel, stride, padding = key
    starts = number * stride - padding
    return starts, starts + kernel


# -- the row ---------------------------------------------------------------------------------------


def _along(x: Tensor, dim: int, bounds: Tensor, weights: Tensor) -> Tensor:
    """One dimension's weighted sums."""
    count, taps = weights._shape
    size = x._shape[dim]
    shape = [1] * (x.ndim + 1)
    shape[dim], shape[dim + 1] = count, taps
    tap = NAMES["arange"](taps, device=x.device)
    wide = NAMES["to_dtype"](bounds, dtypes.int64).unsqueeze(2)
    valid = tap < wide[1]
    index = (wide[0] + tap).clamp(0, max(size - 1, 0))
    near = NAMES["index_select"](x, dim, index.reshape(-1))
    near = near.reshape(*x._shape[:dim], count, taps, *x._shape[dim + 1 :])
    near = select_where(valid.reshape(shape), near, 0)
    return (near * weights.reshape(shape)).sum(dim + 1)


@composite(keep=True, method=False, public=False)
def _resample(
    input: Tensor,
    rows: Tensor,
    row_weights: Tensor,
    columns: Tensor,
    column_weights: Tensor,
    how: tuple[Key, Key, bool],
) -> tuple[Tensor]:
    """Weighted sums over windows of the rows and columns of planes.

    Args:
        input: (P, H, W).
        rows: int32 (2, OH): where each window of rows starts, and how many it has.
        row_weights: (OH, taps).
        columns: int32 (2, OW).
        column_weights: (taps, OW).
        how: what the tables were made from: of the rows, of the columns, whether transposed.

    Returns:
        (P, OH, OW).
    """
    x = widen(input)
    first, second, _ = how
    if first[0] != "same":
        x = _along(x, 1, rows, row_weights)
    if second[0] != "same":
        x = _along(x, 2, columns, column_weights.t())
    return (cast(x, input.dtype),)


def tables(how: tuple[Key, Key, bool], dtype: DType, device: Any) -> list[Tensor]:
    """What `_resample` is told of the rows and columns of images of a dtype."""
    wide = float32 if dtype.itemsize < 4 else dtype
    return [
        t
        for key, across in zip(how[:2], (False, True), strict=True)
        for t in _table(key, how[2], across, wide, device)
    ]


def resample(input: Tensor, how: tuple[Key, Key, bool]) -> Tensor:
    """`_resample` with the tables of `how`."""
    found: Tensor = _resample(input, *tables(how, input.dtype, input.device), how)[0]
    return found


def _resample_vjp(g: Any, out: Any, input: Any, *rest: Any) -> tuple[Any, ...]:
    how: tuple[Key, Key, bool] = rest[-1]
    first, second, transposed = how
    return resample(g, (first, second, not transposed)), *(None for _ in rest)


_resample.vjp(_resample_vjp)


def _resampled(input: Tensor, keys: tuple[Key, ...]) -> Tensor:
    """The last dimensions of (.., *) resampled, each by its own windows."""
    dims = len(keys)
    if any(map(is_open, keys)):
        x = widen(input)
        for dim, key in enumerate(keys, input.ndim - dims):
            x = _along(x, dim, *_of_any(key, x.dtype, x.device))
        return cast(x, input.dtype)
    lead = input._shape[: input.ndim - dims]
    sizes = tuple(key[2] if len(key) > 2 else key[1] for key in keys)
    x = planes(input, dims, dims + 1)
    count = x._shape[0]
    if dims == 3:  # planes lie beside each other as rows' columns do
        deep, rest = keys[0], input._shape[-2] * input._shape[-1]
        shrinks = sizes[0] <= input._shape[-3]
        if not shrinks:
            x = _resampled(x.reshape(-1, *x._shape[2:]), keys[1:]).reshape(
                count, input._shape[-3], *sizes[1:]
            )
            rest = sizes[1] * sizes[2]
        x = x.reshape(count, input._shape[-3], rest)
        x = resample(x, (deep, ("same", rest), False))
        if shrinks:
            x = x.reshape(count * sizes[0], *input._shape[-2:])
            x = _resampled(x, keys[1:])
    else:
        x = x.reshape(count, *(1,) * (2 - dims), *input._shape[-dims:])
        x = resample(x, (*(("same", 1),) * (2 - dims), *keys, False))  # type: ignore[arg-type]
    return x.reshape(*lead, *sizes)


# -- average pooling -------------------------------------------------------------------------------


@functools.lru_cache(maxsize=256)
def _divisors(lengths: tuple[tuple[int, ...], ...], dtype: DType, device: Any) -> Any:
    """Elements of every window from those along each dimension: a number, or a tensor."""
    if all(len(set(part)) == 1 for part in lengths):
        return float(math.prod(part[0] for part in lengths))
    total = np.ones(())
    for part in lengths:
        total = total[..., None] * np.array(part, np.float64)
    return _copy_array(total.astype(dtype.numpy), dtype, device)


def _averaged(input: Tensor, keys: tuple[Key, ...], lengths: tuple[Any, ...]) -> Tensor:
    """Sums over windows divided by their lengths' products.

    Args:
        lengths: of the windows along each dimension: numbers, or a tensor where sizes are open; or
            of one what all of them are divided by.
    """
    total = widen(_resampled(input, keys))
    if any(isinstance(part, Tensor) for part in lengths):
        for k, part in enumerate(reversed(lengths)):
            by = part
            if not isinstance(part, Tensor):
                by = _divisors((part,), total.dtype, input.device)
            total = total / (by.reshape(-1, *(1,) * k) if isinstance(by, Tensor) else by)
        return cast(total, input.dtype)
    return cast(total / _divisors(lengths, total.dtype, input.device), input.dtype)


def _lengths(key: Key, padded: bool, device: Any) -> Any:
    """Elements of each window, those of the padding with `padded`: numbers, or a tensor where the
    dimension's size is open."""
    _, size, count, kernel, stride, padding = key
    low, high = (-padding, size + padding) if padded else (0, size)
    if is_open(key):
        first, last = _ends(key, device)
        return last.clamp(max=high) - first.clamp(min=low)
    starts = [j * stride - padding for j in range(count)]
    return tuple(min(s + kernel, high) - max(s, low) for s in starts)


def _declare_avg_pool(dims: int) -> None:
    name = f"avg_pool{dims}d"

    def pooled(
        input: Tensor,
        kernel_size: Any,
        stride: Any,
        padding: Any,
        ceil_mode: bool,
        count_include_pad: bool,
        divisor_override: int | None,
    ) -> Tensor:
        if input.dtype is dtypes.int64:  # means of integers are cut off
            options = (kernel_size, stride, padding, ceil_mode, count_include_pad)
            means = pooled(input.to(dtypes.float64), *options, divisor_override)
            return NAMES["trunc"](means).to(dtypes.int64)
        _floats(name, input)
        found = windows(name, input, dims, kernel_size, stride, padding, 1, ceil_mode)
        if dims == 3 and any(w[0] < w[2] for w in found):
            given, kernels = (
                " ".join(f"{letter}: {w[at]}" for letter, w in zip("THW", found, strict=True))
                for at in (0, 2)
            )
            raise RuntimeError(f"input image ({given}) smaller than kernel size ({kernels})")
        keys: tuple[Key, ...] = tuple(("windows", *w[:5]) for w in found)
        if divisor_override is not None:
            if not divisor_override:
                raise RuntimeError("divisor must be not zero")
            return _averaged(input, keys, ((int(divisor_override),),))
        lengths = tuple(_lengths(key, count_include_pad, input.device) for key in keys)
        return _averaged(input, keys, lengths)

    if dims == 1:

        def body(
            input: Tensor,
            kernel_size: Any,
            stride: Any = None,
            padding: Any = 0,
            ceil_mode: bool = False,
            count_include_pad: bool = True,
        ) -> Tensor:
            return pooled(input, kernel_size, stride, padding, ceil_mode, count_include_pad, None)
    else:

        def body(  # type: ignore[misc]
            input: Tensor,
            kernel_size: Any,
            stride: Any = None,
            padding: Any = 0,
            ceil_mode: bool = False,
            count_include_pad: bool = True,
            divisor_override: int | None = None,
        ) -> Tensor:
            options = (padding, ceil_mode, count_include_pad, divisor_override)
            return pooled(input, kernel_size, stride, *options)

    name_row(body, name)
    body.__doc__ = f"""The mean of each window of a signal of {dims} dimension(s).

    Args:
        input: (N, C, *) or (C, *) with {dims} further dimension(s).
        kernel_size: the windows' size.
        stride: how far they stand apart; their size by default.
        padding: zeros added at both ends.
        ceil_mode: whether windows may hang over the end.
        count_include_pad: whether the padding counts in the means.
        divisor_override: divide the sums by this instead (2 and 3 dimensions).

    Raises:
        RuntimeError: numbers that make no windows.
    """
    public, policy = dims == 1, autocast_of(dims)
    composite(method=False, public=public, functional=True, autocast=policy)(body)


def _floats(name: str, input: Tensor) -> None:
    if input.dtype.category != 2:
        raise NotImplementedError(
            f"\"{name}\" not implemented for '{input.dtype.name.capitalize()}'"
        )


for _dims in (1, 2, 3):
    _declare_avg_pool(_dims)


def _shares(key: Key, device: Any) -> Any:
    """Elements of each window of adaptive pooling: numbers, or a tensor where a size is open."""
    if is_open(key):
        first, last = _ends(key, device)
        return last - first
    return tuple(e - s for s, e in adaptive_bounds(*key[1:]))


def _declare_adaptive_avg_pool(dims: int) -> None:
    name = f"adaptive_avg_pool{dims}d"

    def body(input: Tensor, output_size: Any) -> Tensor:
        sizes = output_sizes(name, input, dims, output_size)
        _floats(name, input)
        shape = (*input._shape[: input.ndim - dims], *sizes)
        given = input._shape[-dims:]
        if 0 in shape:
            return input.new_zeros(shape)
        if sizes == given:
            return NAMES["clone"](input)
        if all(n == 1 for n in sizes):
            return NAMES["mean"](input, tuple(range(input.ndim - dims, input.ndim)), True)
        keys = tuple(("adaptive", n, o) for n, o in zip(given, sizes, strict=True))
        return _averaged(input, keys, tuple(_shares(key, input.device) for key in keys))

    name_row(body, name)
    body.__doc__ = f"""The mean of each of as many windows as the result has elements.

    Args:
        input: (N, C, *) or (C, *) with {dims} further dimension(s).
        output_size: the result's size; None keeps the input's.
    """
    public, policy = dims == 1, autocast_of(dims)
    composite(method=False, public=public, functional=True, autocast=policy)(body)


for _dims in (1, 2, 3):
    _declare_adaptive_avg_pool(_dims)


def _declare_lp_pool(dims: int) -> None:
    name = f"lp_pool{dims}d"

    def body(
        input: Tensor,
        norm_type: float,
        kernel_size: Any,
        stride: Any = None,
        ceil_mode: bool = False,
    ) -> Tensor:
        kernels = tuple_of(kernel_size, dims, f"{name}: kernel_size")
        pool = FUNCTIONAL[f"avg_pool{dims}d"]
        mean = pool(NAMES["pow"](input, norm_type), kernels, stride, 0, ceil_mode)
        size = math.prod(kernels)
        return NAMES["pow"](mean.sign() * mean.abs().relu() * size, 1.0 / norm_type)

    name_row(body, name)
    body.__doc__ = f"""(sum of x ** p over each window) ** (1 / p) in {dims} dimension(s).

    Args:
        input: (N, C, *) or (C, *) with {dims} further dimension(s).
        norm_type: the exponent p.
        kernel_size: the windows' size.
        stride: how far they stand apart; their size by default.
        ceil_mode: whether windows may hang over the end.
    """
    composite(method=False, public=False, functional=True)(body)


for _dims in (1, 2, 3):
    _declare_lp_pool(_dims)


# -- interpolation ---------------------------------------------------------------------------------

_MODES = {
    1: {"nearest", "nearest-exact", "linear", "area"},
    2: {"nearest", "nearest-exact", "bilinear", "bicubic", "area"},
    3: {"nearest", "nearest-exact", "trilinear", "area"},
}
_KINDS = {"bilinear": "linear", "trilinear": "linear", "bicubic": "cubic"}


def _grown(n: Any, factor: float) -> Any:
    """How many elements n are that grow by a factor."""
    if type(n) is SymInt and factor > 0:
        ratio = Fraction(factor).limit_denominator(1 << 10)
        if float(ratio) == factor:  # as the product is rounded, which no size is large enough for
            return n * ratio.numerator // ratio.denominator
    return math.floor(n * factor)


def _interpolated_sizes(
    input: Tensor, size: Any, scale_factor: Any, recompute: bool | None
) -> tuple[tuple[int, ...], tuple[float | None, ...]]:
    """The result's sizes, and the factors by which places are computed (None: from the sizes)."""
    dims = input.ndim - 2
    given = input._shape[2:]
    none: tuple[float | None, ...] = (None,) * dims
    if size is not None and scale_factor is not None:
        raise ValueError("only one of size or scale_factor should be defined")
    if size is not None:
        if recompute:
            raise ValueError("recompute_scale_factor is not meaningful with an explicit size.")
        sizes = tuple(size) if isinstance(size, (list, tuple)) else (size,) * dims
        if len(sizes) != dims:
            raise ValueError(
                f"Input and output must have the same number of spatial dimensions, but got input "
                f"with spatial dimensions of {list(given)} and output size of {size}. Please "
                f"provide input tensor in (N, C, d1, d2, ...,dK) format and output size in (o1, "
                f"o2, ...,oK) format."
            )
        return tuple(map(size_of, sizes)), none
    if scale_factor is None:
        raise ValueError("either size or scale_factor should be defined")
    factors = (
        tuple(scale_factor) if isinstance(scale_factor, (list, tuple)) else (scale_factor,) * dims
    )
    if len(factors) != dims:
        raise ValueError(
            f"Input and scale_factor must have the same number of spatial dimensions, but got "
            f"input with spatial dimensions of {list(given)} and scale_factor of shape "
            f"{scale_factor}. Please provide input tensor in (N, C, d1, d2, ...,dK) format and "
            f"scale_factor in (s1, s2, ...,sK) format."
        )
    sizes = tuple(_grown(n, float(f)) for n, f in zip(given, factors, strict=True))
    return sizes, none if recompute else tuple(float(f) for f in factors)


@composite(method=False, public=False, functional=True)
def interpolate(
    input: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """An image, signal or volume at another size.

    Args:
        input: (N, C, L), (N, C, H, W) or (N, C, D, H, W).
        size: the new sizes; or
        scale_factor: by what they grow.
        mode: "nearest" (as torch and OpenCV have it), "nearest-exact" (as Pillow has it), "linear",
            "bilinear", "trilinear", "bicubic" (Keys' kernel, a = -0.75) or "area" (means).
        align_corners: whether the outermost elements' centres, not their edges, stay in place.
        recompute_scale_factor: compute places from the new sizes, not from `scale_factor`.
        antialias: widen the filter of "bilinear" and "bicubic" where the image shrinks.

    Raises:
        ValueError: sizes, modes and options that do not go together.
        NotImplementedError: a mode for another number of dimensions.

    Reference:
        Keys, Cubic Convolution Interpolation for Digital Image Processing (1981).
    """
    smooth = mode in ("linear", "bilinear", "bicubic", "trilinear")
    if not smooth and align_corners is not None:
        raise ValueError(
            "align_corners option can only be set with the interpolating modes: linear | bilinear "
            "| bicubic | trilinear"
        )
    dims = input.ndim - 2
    if antialias and not (mode in ("bilinear", "bicubic") and dims == 2):
        raise ValueError(
            "Anti-alias option is restricted to bilinear and bicubic modes and requires a 4-D "
            "tensor as input"
        )
    sizes, factors = _interpolated_sizes(input, size, scale_factor, recompute_scale_factor)
    if mode not in _MODES.get(dims, ()):
        raise NotImplementedError(
            f"Input Error: Only 3D, 4D and 5D input Tensors supported (got {input.ndim}D) for the "
            f"modes: nearest | linear | bilinear | bicubic | trilinear | area | nearest-exact "
            f"(got {mode})"
        )
    given = input._shape[2:]
    if any(n <= 0 for n in sizes) or 0 in input._shape[1:]:
        raise RuntimeError(
            f"Input and output sizes should be greater than 0, but got input (H: {given[0]}, W: "
            f"{given[-1]}) output (H: {sizes[0]}, W: {sizes[-1]})"
        )
    if mode == "area":
        found: Tensor = FUNCTIONAL[f"adaptive_avg_pool{dims}d"](input, sizes)
        return found
    if input.dtype.category != 2 and (smooth or not input.dtype.category):
        raise NotImplementedError(
            f"\"interpolate\" not implemented for '{input.dtype.name.capitalize()}'"
        )
    kind = _KINDS.get(mode, mode)
    keys: list[Key] = []
    for n, o, factor in zip(given, sizes, factors, strict=True):
        scale = n / o if factor is None or factor <= 0 else 1.0 / factor
        keys.append((("smooth " if antialias else "") + kind, n, o, scale, bool(align_corners)))
    if input.dtype.category != 2:
        for d, key in enumerate(keys):
            bounds, _ = _of_any(key, float32, input.device)
            starts = NAMES["to_dtype"](bounds[0], dtypes.int64)
            input = NAMES["index_select"](input, 2 + d, starts.clamp(max=key[1] - 1))
        return input
    return _resampled(input, tuple(keys))
