"""Pooling by the largest element, and what puts pooled elements back where they were."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from flambeau import dtypes
from flambeau.dtype import iinfo
from flambeau.ir.symbol import SymInt
from flambeau.ops.elementwise import select_where
from flambeau.ops.indexing import index_leading, put_leading
from flambeau.ops.movement import view_as_shape
from flambeau.ops.precision import cast, widen
from flambeau.ops.reduction import argmax_axis, max_axes
from flambeau.ops.rows import FUNCTIONAL, NAMES, functional
from flambeau.ops.table import composite
from flambeau.tensor import Tensor

#: (size, results, kernel, stride, padding, dilation) of one dimension's windows
Window = tuple[int, int, int, int, int, int]


# -- sizes -----------------------------------------------------------------------------------------


def size_of(n: Any) -> Any:
    """A size as an int, or the symbol that stands for one."""
    return n if type(n) is SymInt else int(n)


def tuple_of(value: Any, count: int, name: str, default: Any = None) -> tuple[int, ...]:
    """An int for every dimension from one int, or a sequence of one or `count`."""
    if value is None or (isinstance(value, (tuple, list)) and not value):
        value = default
    if isinstance(value, int):
        return (value,) * count
    found = tuple(map(size_of, value))
    if len(found) == 1:
        return found * count
    if len(found) != count:
        kinds = "a single int" if count == 1 else f"a single int, or a tuple of {count} ints"
        raise RuntimeError(f"{name} must be {kinds}, but got {list(found)}")
    return found


def pooled_size(
    size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool
) -> int:
    """Windows along a dimension; with `ceil_mode` a last one may hang over the end."""
    reach = size + 2 * padding - dilation * (kernel - 1) - 1
    count = (reach + (stride - 1 if ceil_mode else 0)) // stride + 1
    if ceil_mode and (count - 1) * stride >= size + padding:
        count -= 1  # it would begin in the padding behind the end
    return count


def name_row(body: Callable[..., Any], name: str) -> None:
    """Give a function that a loop makes the name of its row, and code of its own, by which
    profiles tell rows apart."""
    body.__name__ = body.__qualname__ = name
    body.__code__ = body.__code__.replace(co_name=name, co_qualname=name)


def autocast_of(dims: int) -> str | None:
    """torch pools volumes in float32 under autocast, signals and images as they come."""
    return "float32" if dims == 3 else None


def check_pool_input(name: str, input: Tensor, dims: int) -> None:
    """Refuse inputs that are not (C, *) or (N, C, *) with `dims` further dimensions.

    Raises:
        RuntimeError: another rank, or a dimension without elements that is not the batch.
        ValueError: too few dimensions for adaptive pooling.
    """
    shape = input._shape
    if name.startswith("adaptive") and input.ndim <= dims:
        raise ValueError(f"Input dimension should be at least {dims + 1}")
    if input.ndim not in (dims + 1, dims + 2) or 0 in shape[input.ndim - dims - 1 :]:
        raise RuntimeError(
            f"{name}(): Expected {dims + 1}D or {dims + 2}D (batch mode) tensor with optional 0 "
            f"dim batch size for input, but got: {list(shape)}"
        )


def windows(
    name: str,
    input: Tensor,
    dims: int,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
) -> tuple[Window, ...]:
    """The windows along the last `dims` dimensions.

    Raises:
        RuntimeError: numbers that make no windows.
    """
    check_pool_input(name, input, dims)
    kernels = tuple_of(kernel_size, dims, f"{name}: kernel_size")
    strides = tuple_of(stride, dims, f"{name}: stride", kernels)
    paddings = tuple_of(padding, dims, f"{name}: padding")
    dilations = tuple_of(dilation, dims, f"{name}: dilation")
    if min(kernels) <= 0:
        raise RuntimeError(
            f"kernel size should be greater than zero, but got {' '.join(map(str, kernels))}"
        )
    if min(strides) <= 0:
        raise RuntimeError("stride should not be zero")
    if min(dilations) <= 0:
        raise RuntimeError(
            f"dilation should be greater than zero, but got {' '.join(map(str, dilations))}"
        )
    found = []
    for n, k, s, p, d in zip(
        input._shape[-dims:], kernels, strides, paddings, dilations, strict=True
    ):
        if p < 0:
            raise RuntimeError(f"pad must be non-negative, but got pad: {p}")
        if p > ((k - 1) * d + 1) // 2:
            raise RuntimeError(
                f"pad should be at most half of effective kernel size, but got pad={p}, "
                f"kernel_size={k} and dilation={d}"
            )
        found.append((n, pooled_size(n, k, s, p, d, ceil_mode), k, s, p, d))
    counts = [w[1] for w in found]
    if any(count <= 0 for count in counts):
        channels = input._shape[-dims - 1]
        given = "x".join(map(str, (channels, *input._shape[-dims:])))
        made = "x".join(map(str, (channels, *counts)))
        raise RuntimeError(
            f"Given input size: ({given}). Calculated output size: ({made}). "
            f"Output size is too small"
        )
    return tuple(found)


def planes(input: Tensor, dims: int, rank: int) -> Tensor:
    """(*, D.., H, W) as (P, .., D.., H, W) with `rank` dimensions, sizes of 1 in front."""
    shape = input._shape[input.ndim - dims :]
    count = math.prod(input._shape[: input.ndim - dims])
    return input.reshape(count, *(1,) * (rank - 1 - dims), *shape)


# -- the rows --------------------------------------------------------------------------------------


def _taps(window: Window, device: Any) -> tuple[Tensor, Tensor]:
    """(places of the taps of every window, which windows are all padding): (O, K) and (O, 1).

    A tap in the padding stands for its nearest neighbour in the image.
    """
    size, count, kernel, stride, padding, dilation = window
    arange = NAMES["arange"]
    start = arange(count, device=device).unsqueeze(1) * stride - padding
    low = ((-start).clamp(min=0) + (dilation - 1)) // dilation
    high = ((size - 1 - start) // dilation).clamp(max=kernel - 1)
    tap = NAMES["minimum"](NAMES["maximum"](arange(kernel, device=device), low), high)
    return (start + tap * dilation).clamp(0, size - 1), high < low


def _outer(parts: list[Tensor], combine: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Tensors (O_i, K_i) combined over all (O_0, O_1, .., K_0, K_1, ..), flat as (O, K)."""
    rank = len(parts)
    total: Tensor | None = None
    outs, taps = 1, 1
    for i, part in enumerate(parts):
        shape = [1] * (2 * rank)
        shape[i], shape[rank + i] = part._shape
        outs, taps = outs * part._shape[0], taps * part._shape[1]
        part = part.reshape(*shape)
        total = part if total is None else combine(total, part)
    assert total is not None
    return total.reshape(outs, taps)


def least_of(dtype: Any) -> Any:
    """The number that no other of a dtype is below."""
    return -float("inf") if dtype.category == 2 else iinfo(dtype).min


@composite(keep=True, method=False, public=False)
def _max_pool(input: Tensor, windows: tuple[Window, ...]) -> tuple[Tensor, Tensor]:
    """The largest element of each window, and its row-major place among a plane's elements.

    Args:
        input: (P, D, H, W).
        windows: of D, H and W.

    Returns:
        (P, OD, OH, OW) of the input's dtype, and as int32.
    """
    shape = (input._shape[0], *(w[1] for w in windows))
    sizes = input._shape[1:]
    found = [_taps(w, input.device) for w in windows]
    steps = (sizes[1] * sizes[2], sizes[2], 1)
    index = _outer([part * s for (part, _), s in zip(found, steps, strict=True)], Tensor.__add__)
    outs, taps = index._shape
    flat = index.reshape(-1)
    x = input.reshape(shape[0], math.prod(sizes))
    near = NAMES["index_select"](x, 1, flat).reshape(shape[0], outs, taps)
    best = argmax_axis(near, (2,))
    values = max_axes(near, (2,))
    first = NAMES["arange"](outs, device=input.device) * taps
    places = NAMES["to_dtype"](index_leading(flat, first + best), dtypes.int32)
    if any(w[5] > 1 for w in windows):  # only then may a window miss the image
        missed = _outer([part for _, part in found], NAMES["logical_or"]).reshape(outs)
        values = select_where(missed, values * 0 + least_of(input.dtype), values)
    return view_as_shape(values, shape), view_as_shape(places, shape)


def _max_pool_vjp(gs: Any, outs: Any, input: Any, windows: Any) -> tuple[Any, ...]:
    g, places = gs[0], outs[1]
    if g is None:
        return None, None
    flat = (input.shape[0], math.prod(places.shape[1:]))
    size = math.prod(input.shape[1:])
    (found,) = _put_back(widen(g).reshape(flat), places.reshape(flat), size)
    return cast(view_as_shape(found, tuple(input.shape)), g.dtype), None


_max_pool.vjp(_max_pool_vjp, saves="out1")


@composite(keep=True, method=False, public=False)
def _put_back(grad: Tensor, places: Tensor, size: int) -> tuple[Tensor]:
    """(P, size) zeros with grad (P, O) added at places (P, O): `_max_pool`'s transpose."""
    count = grad._shape[0]
    zeros = NAMES["zeros"]((count * size,), dtype=grad.dtype, device=grad.device)
    first = NAMES["arange"](count, device=grad.device).unsqueeze(1) * size
    index = (NAMES["to_dtype"](places, dtypes.int64) + first).reshape(-1)
    return (view_as_shape(put_leading(zeros, grad.reshape(-1), "add", index), (count, size)),)


def _put_back_vjp(g: Any, out: Any, grad: Any, places: Any, size: int) -> tuple[Any, ...]:
    return NAMES["gather"](g, 1, NAMES["to_dtype"](places, dtypes.int64)), None, None


_put_back.vjp(_put_back_vjp, saves="places")


# -- max pooling -----------------------------------------------------------------------------------


def _max_pooled(input: Tensor, dims: int, found: tuple[Window, ...]) -> tuple[Tensor, Tensor]:
    """Values and int64 places of the windows of the last dimensions."""
    whole: tuple[Window, ...] = ((1, 1, 1, 1, 0, 1),) * (3 - dims) + found
    shape = (*input._shape[: input.ndim - dims], *(w[1] for w in found))
    values, places = _max_pool(planes(input, dims, 4), whole)
    return (
        view_as_shape(values, shape),
        NAMES["to_dtype"](view_as_shape(places, shape), dtypes.int64),
    )


def _declare_max_pool(dims: int) -> None:
    name = f"max_pool{dims}d"

    def with_indices(
        input: Tensor,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Any:
        if not input.dtype.category:
            raise NotImplementedError(f"\"{name}\" not implemented for 'Bool'")
        found = windows(name, input, dims, kernel_size, stride, padding, dilation, ceil_mode)
        return _max_pooled(input, dims, found)

    def body(
        input: Tensor,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
    ) -> Any:
        return with_indices(input, kernel_size, stride, padding, dilation, ceil_mode)[0]

    space = ", ".join("DHW"[3 - dims :]) if dims > 1 else "L"
    name_row(body, name)
    body.__doc__ = f"""The largest element of each window of a signal of {dims} dimension(s).

    Args:
        input: (N, C, {space}) or (C, {space}).
        kernel_size: the windows' size.
        stride: how far they stand apart; their size by default.
        padding: elements of -inf added at both ends.
        dilation: how far the elements of a window stand apart.
        ceil_mode: whether windows may hang over the end.

    Raises:
        RuntimeError: numbers that make no windows.
    """
    row = composite(method=False, autocast=autocast_of(dims))(body)

    def form(
        input: Tensor,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Any:
        given = (input, kernel_size, stride, padding, dilation, ceil_mode)
        return with_indices(*given) if return_indices else row(*given)

    form.__doc__ = f"""`flambeau.{name}`; with `return_indices` also the places of the largest
    elements among a plane's, int64."""
    functional(name)(form)
    with_indices.__doc__ = f"`{name}` and the places of the largest elements."
    functional(f"{name}_with_indices")(with_indices)


for _dims in (1, 2, 3):
    _declare_max_pool(_dims)


# -- windows of other forms ------------------------------------------------------------------------


def adaptive_bounds(size: int, count: int) -> list[tuple[int, int]]:
    """(start, end) of each of `count` windows that share `size` elements out evenly."""
    return [(j * size // count, -((j + 1) * -size // count)) for j in range(count)]


def output_sizes(name: str, input: Tensor, dims: int, output_size: Any) -> tuple[int, ...]:
    """The results' sizes; None keeps one.

    Raises:
        RuntimeError: another number of sizes, negative ones, or an input of another rank.
        ValueError: as many sizes as the input has dimensions.
    """
    check_pool_input(name, input, dims)
    single = isinstance(output_size, (int, SymInt))
    given = (output_size,) * dims if single else tuple(output_size)
    if len(given) >= input.ndim:
        raise ValueError(f"Input dimension should be at least {len(given) + 1}")
    if len(given) != dims:
        raise RuntimeError(f"{name}: output_size must be {dims}")
    sizes = tuple(
        n if g is None else size_of(g) for n, g in zip(input._shape[-dims:], given, strict=True)
    )
    if any(n < 0 for n in sizes):
        raise RuntimeError(
            f"{name}: elements of output_size must be greater than or equal to 0 but received "
            f"{{{', '.join(map(str, sizes))}}}"
        )
    return sizes


def _largest(flat: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Values and places of the largest of the elements (P, O, T) that index (O, T) or (P, O, T)
    names in (P, S): (P, O) each."""
    count = flat._shape[0]
    outs, taps = index._shape[-2:]
    whole = index.expand(count, outs, taps)
    near = NAMES["gather"](flat.detach(), 1, whole.reshape(count, outs * taps))
    best = argmax_axis(near.reshape(count, outs, taps), (2,))
    places = NAMES["gather"](whole, 2, best.unsqueeze(2)).squeeze(2)
    return NAMES["gather"](flat, 1, places), places


def _adaptive_taps(size: int, count: int, device: Any) -> Tensor:
    """Places of the taps of every window (O, T); short windows repeat their last element."""
    arange = NAMES["arange"]
    number = arange(count, device=device).unsqueeze(1)
    start, end = number * size // count, -((number + 1) * -size // count)
    taps = max(end - start for start, end in adaptive_bounds(size, count))
    found: Tensor = NAMES["minimum"](start + arange(taps, device=device), end - 1)
    return found


def _declare_adaptive_max_pool(dims: int) -> None:
    name = f"adaptive_max_pool{dims}d"

    def body(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
        sizes = output_sizes(name, input, dims, output_size)
        given = input._shape[-dims:]
        shape = (*input._shape[: input.ndim - dims], *sizes)
        if 0 in shape:
            values = input.new_zeros(shape)
            places = NAMES["zeros"](shape, dtype=dtypes.int64, device=input.device)
        elif all(n % o == 0 for n, o in zip(given, sizes, strict=True)):
            found = tuple((n, o, n // o, n // o, 0, 1) for n, o in zip(given, sizes, strict=True))
            values, places = _max_pooled(input, dims, found)
        else:
            parts: list[Tensor] = []
            step = 1
            for n, o in zip(reversed(given), reversed(sizes), strict=True):
                parts.insert(0, _adaptive_taps(n, o, input.device) * step)
                step *= n
            index = _outer(parts, Tensor.__add__)
            values, places = _largest(planes(input, dims, dims + 1).flatten(1), index)
            values, places = values.reshape(shape), places.reshape(shape)
        return (values, places) if return_indices else values

    name_row(body, name)
    body.__doc__ = f"""The largest element of each of as many windows as the result has elements.

    Args:
        input: (N, C, *) or (C, *) with {dims} further dimension(s).
        output_size: the result's size; None keeps the input's.
        return_indices: also give the places of the largest elements among a plane's, int64.
    """
    row = composite(method=False, functional=True, autocast=autocast_of(dims))(body)

    def with_indices(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
        return row(input, output_size, True)

    with_indices.__doc__ = f"`{name}` and the places of the largest elements."
    functional(f"{name}_with_indices")(with_indices)


for _dims in (1, 2, 3):
    _declare_adaptive_max_pool(_dims)


def _fractional_starts(sample: Tensor, size: int, kernel: int, count: int) -> Tensor:
    """Where each of `count` windows starts, (.., count), from a number in [0, 1)."""
    number = NAMES["arange"](count, device=sample.device)
    if count == 1:
        return (number * 0 + (size - kernel)).expand(*sample._shape, 1)
    step = (size - kernel) / (count - 1)
    shift = sample.unsqueeze(-1)
    start = ((number + shift) * step).long() - (shift * step).long()
    return NAMES["where"](number == count - 1, size - kernel, start)


def _declare_fractional_max_pool(dims: int) -> None:
    name = f"fractional_max_pool{dims}d"

    def body(
        input: Tensor,
        kernel_size: Any,
        output_size: Any = None,
        output_ratio: Any = None,
        return_indices: bool = False,
        _random_samples: Tensor | None = None,
    ) -> Any:
        if output_size is None and output_ratio is None:
            raise ValueError(f"{name} requires specifying either an output_size or an output_ratio")
        check_pool_input(name, input, dims)
        kernels = tuple_of(kernel_size, dims, f"{name}: kernel_size")
        given = input._shape[-dims:]
        if output_size is None:
            ratios = (output_ratio,) * dims if isinstance(output_ratio, float) else output_ratio
            output_size = [int(n * r) for n, r in zip(given, ratios, strict=True)]
        sizes = tuple_of(output_size, dims, f"{name}: output_size")
        for n, k, o in zip(given, kernels, sizes, strict=True):
            if o + k - 1 > n - (dims == 3):  # torch wants an element more of volumes
                raise RuntimeError(f"{name}(): pool size {k} too large relative to input size {n}")
        lead = input._shape[: input.ndim - dims]
        if _random_samples is None:
            batch = (1, *lead) if len(lead) == 1 else lead
            _random_samples = NAMES["rand"](*batch, dims, dtype=input.dtype, device=input.device)
        flat = planes(input, dims, dims + 1).flatten(1)
        count = flat._shape[0]
        if len(lead) == 1 and _random_samples.ndim == 3:  # a batch of samples has one to spare
            _random_samples = _random_samples[0]
        samples = _random_samples.reshape(count, dims)
        index: Tensor | None = None
        for d, (n, k, o) in enumerate(zip(given, kernels, sizes, strict=True)):
            which = dims - 1 - d if dims == 2 else d  # torch draws images' columns first
            start = _fractional_starts(samples[:, which], n, k, o)
            taps = NAMES["arange"](k, device=input.device)
            shape = [count, *(1,) * (2 * dims)]
            shape[1 + d], shape[1 + dims + d] = o, k
            part = (start.unsqueeze(-1) + taps).reshape(shape)
            index = part if index is None else index * n + part
        assert index is not None
        index = index.reshape(count, math.prod(sizes), math.prod(kernels))
        values, places = _largest(flat, index)
        values, places = values.reshape(*lead, *sizes), places.reshape(*lead, *sizes)
        return (values, places) if return_indices else values

    name_row(body, name)
    body.__doc__ = f"""The largest element of windows whose places are drawn at random.

    Args:
        input: (N, C, *) or (C, *) with {dims} further dimension(s).
        kernel_size: the windows' size.
        output_size: the result's size; or
        output_ratio: the result's size as a fraction of the input's.
        return_indices: also give the places of the largest elements among a plane's, int64.

    Reference:
        Graham, Fractional Max-Pooling (arXiv:1412.6071).
    """
    composite(method=False, public=False, functional=True, autocast="float32")(body)


for _dims in (2, 3):
    _declare_fractional_max_pool(_dims)


# -- back to where they were -----------------------------------------------------------------------


def _declare_max_unpool(dims: int) -> None:
    name = f"max_unpool{dims}d"

    def body(
        input: Tensor,
        indices: Tensor,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        output_size: Any = None,
    ) -> Tensor:
        check_pool_input(name, input, dims)
        if dims == 1:
            return _unpool_signal(input, indices, kernel_size, stride, padding, output_size)
        if indices.dtype is not dtypes.int64:
            raise RuntimeError(
                f"elements in indices should be type int64 but got: {indices.type()}"
            )
        if indices._shape != input._shape:
            raise RuntimeError(
                f"Expected shape of indices to be same as that of the input tensor "
                f"({list(input.shape)}) but got indices tensor with shape: {list(indices.shape)}"
            )
        kernels = tuple_of(kernel_size, dims, f"{name}: kernel_size")
        strides = tuple_of(stride, dims, f"{name}: stride", kernels)
        paddings = tuple_of(padding, dims, f"{name}: padding")
        sizes = _unpooled(input._shape[-dims:], kernels, strides, paddings, output_size)
        lead = input._shape[: input.ndim - dims]
        values = planes(input, dims, dims + 1).flatten(1)
        places = planes(indices, dims, dims + 1).flatten(1)
        count = (values._shape[0], math.prod(sizes))
        zeros = NAMES["zeros"](count, dtype=input.dtype, device=input.device)
        plane = NAMES["arange"](values._shape[0], device=input.device).unsqueeze(1)
        found = put_leading(zeros, values, "set", plane.expand_as(places), places)
        return view_as_shape(found, (*lead, *sizes))

    name_row(body, name)
    body.__doc__ = f"""Elements put back where `max_pool{dims}d` found them, zeros elsewhere.

    Args:
        input: (N, C, *) or (C, *) with {dims} further dimension(s).
        indices: their places among a plane's elements, as `return_indices` gives them.
        kernel_size: of the pooling.
        stride: of the pooling.
        padding: of the pooling.
        output_size: the result's sizes where pooling left them open.

    Raises:
        ValueError: an output_size that the pooling cannot have come from.
    """
    policy = "float32" if dims > 1 else None
    composite(method=False, public=False, functional=True, autocast=policy)(body)


def _unpool_signal(
    input: Tensor, indices: Tensor, kernel_size: Any, stride: Any, padding: Any, output_size: Any
) -> Tensor:
    """`max_unpool1d`: signals are images of one row."""
    kernel = tuple_of(kernel_size, 1, "max_unpool1d: kernel_size")
    step = tuple_of(stride, 1, "max_unpool1d: stride", kernel)
    room = tuple_of(padding, 1, "max_unpool1d: padding")
    size = _unpooled(input._shape[-1:], kernel, step, room, output_size)
    found: Tensor = FUNCTIONAL["max_unpool2d"](
        input.unsqueeze(-2), indices.unsqueeze(-2), (1, *kernel), (1, *step), (0, *room), (1, *size)
    )
    return found.squeeze(-2)


def _unpooled(
    given: tuple[int, ...],
    kernels: tuple[int, ...],
    strides: tuple[int, ...],
    paddings: tuple[int, ...],
    output_size: Any,
) -> tuple[int, ...]:
    """The sizes that were pooled."""
    dims = len(given)
    plain = tuple(
        (n - 1) * s + k - 2 * p
        for n, k, s, p in zip(given, kernels, strides, paddings, strict=True)
    )
    if output_size is None:
        return plain
    sizes = tuple(output_size)
    if len(sizes) == dims + 2:
        sizes = sizes[2:]
    if len(sizes) != dims:
        raise ValueError(
            f"output_size should be a sequence containing {dims} or {dims + 2} elements, but it "
            f"has a length of '{len(sizes)}'"
        )
    for d, (wanted, n, s) in enumerate(zip(sizes, plain, strides, strict=True)):
        if not n - s < wanted < n + s:
            raise ValueError(
                f"invalid output_size {list(sizes)!r} (dim {d} must be between {n - s} and {n + s})"
            )
    return sizes


for _dims in (1, 2, 3):
    _declare_max_unpool(_dims)
