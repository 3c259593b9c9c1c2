"""Rearranging: padding, rolling, triangles, repeating, diagonals, grids, joining shortcuts."""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any

import numpy as np

from flambeau import dtypes
from flambeau.ops.elementwise import select_where
from flambeau.ops.indexing import ALONG, _grid, combine_leading, put_leading
from flambeau.ops.joining import cat, stack
from flambeau.ops.movement import (
    assign_region,
    diagonal_of,
    expand_to,
    flip,
    permute_dims,
    slice_bounds,
    slice_dim,
    transpose,
    view_as_shape,
)
from flambeau.ops.rows import NAMES
from flambeau.ops.table import composite
from flambeau.size import contiguous_strides, no_negative, shape_of, wrap_dim, wrap_dims
from flambeau.tensor import Tensor

_put = functools.partial(put_leading, fault=ALONG)

# -- padding ---------------------------------------------------------------------------------------


@composite(method=False, public=False, functional=True)
def pad(input: Tensor, pad: Any, mode: str = "constant", value: float | None = None) -> Tensor:
    """Elements added at (or with negative counts taken from) both ends of the last dimensions.

    Args:
        pad: (before, after) of the last dimension, then of the one before it, and so on.
        mode: "constant", "reflect", "replicate" or "circular".
        value: what "constant" adds; 0 by default.

    Raises:
        RuntimeError: an odd count, or a result with a negative size.
    """
    counts = [int(p) for p in pad]
    if len(counts) % 2:
        raise RuntimeError(f"Padding length must be divisible by 2, got {len(counts)}")
    if len(counts) // 2 > input.ndim:
        raise RuntimeError(
            f"Padding length should be less than or equal to two times the input "
            f"dimension but got padding length {len(counts)} and input of "
            f"dimension {input.ndim}"
        )
    sides = [
        (input.ndim - 1 - k, counts[2 * k], counts[2 * k + 1]) for k in range(len(counts) // 2)
    ]
    if mode == "constant":
        return _constant_pad(input, sides, 0.0 if value is None else value)
    if mode not in _ENDS:
        raise NotImplementedError(f"Unrecognised padding mode {mode}")
    if value is not None and value != 0:
        raise RuntimeError(f'Padding mode "{mode}" doesn\'t take in value argument')
    if len(sides) not in (1, 2, 3) or input.ndim not in (len(sides) + 1, len(sides) + 2):
        raise NotImplementedError(
            f"Padding size {len(counts)} is not supported for {input.ndim}D input tensor.\n"
            f"Supported combinations for non-constant padding:\n"
            f"  - 2D or 3D input: padding size = 2 (pads last dimension)\n"
            f"  - 3D or 4D input: padding size = 4 (pads last 2 dimensions)\n"
            f"  - 4D or 5D input: padding size = 6 (pads last 3 dimensions)"
        )
    if mode == "replicate" or (mode == "reflect" and len(sides) < 3):
        return _edge_pad(input, tuple(sides), mode)
    return _extended(input, sides, mode)


@composite(method=False, public=False, autocast="float32")
def _edge_pad(input: Tensor, sides: Any, mode: str) -> Tensor:
    """`pad` by elements of the tensor, in the forms that autocast computes in float32."""
    return _extended(input, sides, mode)


def _extended(x: Tensor, sides: Any, mode: str) -> Tensor:
    """`pad` by elements of the tensor."""
    if not any(before or after for _, before, after in sides):
        return NAMES["clone"](x)
    for d, before, after in sides:
        x = _longer(x, d, before, after, mode)
    return x


def _constant_pad(x: Tensor, sides: list[tuple[int, int, int]], value: Any) -> Tensor:
    shape = list(x._shape)
    for d, before, after in sides:
        n = x._shape[d]
        if n + before + after < 0:
            raise RuntimeError(
                f"The input size {n}, plus negative padding {before} and {after}, "
                f"resulted in a negative output size, which is invalid. Check "
                f"dimension {d} of your input."
            )
        start, stop = max(-before, 0), n - max(-after, 0)
        if (start, stop) != (0, n):
            x = slice_dim(x, d, start, max(stop, start), 1)
        shape[d] = n + before + after
    if tuple(shape) == x._shape:
        return NAMES["clone"](x)
    base = NAMES["full"](tuple(shape), value, dtype=x.dtype, device=x.device)
    strides = contiguous_strides(tuple(shape))
    offset = sum(max(before, 0) * strides[d] for d, before, _ in sides)
    return assign_region(base, x, x._shape, strides, offset)


#: Mode -> (what continues a dimension in front of it, what behind it), `count` elements long.
_ENDS: dict[str, Any] = {
    "reflect": (
        lambda x, d, n, count: flip(slice_dim(x, d, 1, count + 1, 1), d),
        lambda x, d, n, count: flip(slice_dim(x, d, n - 1 - count, n - 1, 1), d),
    ),
    "replicate": (
        lambda x, d, n, count: _repeated(slice_dim(x, d, 0, 1, 1), d, count),
        lambda x, d, n, count: _repeated(slice_dim(x, d, n - 1, n, 1), d, count),
    ),
    "circular": (
        lambda x, d, n, count: slice_dim(x, d, n - count, n, 1),
        lambda x, d, n, count: slice_dim(x, d, 0, count, 1),
    ),
}


def _repeated(x: Tensor, d: int, count: int) -> Tensor:
    return expand_to(x, (*x._shape[:d], count, *x._shape[d + 1 :]))


def _longer(x: Tensor, d: int, before: int, after: int, mode: str) -> Tensor:
    """One dimension continued at both ends."""
    n = x._shape[d]
    if n == 0 and mode != "circular":
        raise RuntimeError(
            f"Expected {x.ndim - 1}D or {x.ndim}D (batch mode) tensor with possibly 0 batch size "
            f"and other non-zero dimensions for input, but got: {list(x.shape)}"
        )
    if mode == "reflect" and (before >= n or after >= n):
        raise RuntimeError(
            f"Argument #4: Padding size should be less than the corresponding input dimension, but "
            f"got: padding ({before}, {after}) at dimension {d} of input {list(x.shape)}"
        )
    if mode == "circular" and (before > n or after > n):
        raise RuntimeError("Padding value causes wrapping around more than once.")
    if n + before + after < (mode == "circular"):
        raise RuntimeError(
            f"Negative padding of {before} and {after} leaves less than nothing of dimension {d} "
            f"of input {list(x.shape)}"
        )
    front, behind = _ENDS[mode]
    kept = slice_dim(x, d, max(-before, 0), n - max(-after, 0), 1)
    parts = [kept]
    if mode == "circular":  # what is left goes round
        x, n = kept, kept._shape[d]
        if before > n or after > n:
            raise RuntimeError("Padding value causes wrapping around more than once.")
    if before > 0:
        parts.insert(0, front(x, d, n, before))
    if after > 0:
        parts.append(behind(x, d, n, after))
    return cat(parts, d) if len(parts) > 1 else parts[0].contiguous()


# -- pixels and channels ---------------------------------------------------------------------------


def _check_factor(name: str, input: Tensor, word: str, factor: int) -> None:
    if input.ndim < 3:
        raise RuntimeError(
            f"{name} expects input to have at least 3 dimensions, but got input with {input.ndim} "
            f"dimension(s)"
        )
    if factor <= 0:
        raise RuntimeError(f"{name} expects a positive {word}, but got {factor}")


@composite(method=False, functional=True)
def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """(*, C * r * r, H, W) as (*, C, H * r, W * r).

    Args:
        upscale_factor: r.

    Raises:
        RuntimeError: channels that r * r does not divide.

    Reference:
        Shi et al., Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel
        Convolutional Neural Network (arXiv:1609.05158).
    """
    r = upscale_factor
    _check_factor("pixel_shuffle", input, "upscale_factor", r)
    *lead, channels, height, width = input._shape
    if channels % (r * r):
        raise RuntimeError(
            f"pixel_shuffle expects its input's 'channel' dimension to be divisible by the square "
            f"of upscale_factor, but input.size(-3)={channels} is not divisible by {r * r}"
        )
    k = len(lead)
    x = input.reshape(*lead, channels // (r * r), r, r, height, width)
    x = permute_dims(x, (*range(k), k, k + 3, k + 1, k + 4, k + 2))
    return x.reshape(*lead, channels // (r * r), height * r, width * r)


@composite(method=False, functional=True)
def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """(*, C, H * r, W * r) as (*, C * r * r, H, W): the inverse of `pixel_shuffle`.

    Args:
        downscale_factor: r.

    Raises:
        RuntimeError: heights or widths that r does not divide.
    """
    r = downscale_factor
    _check_factor("pixel_unshuffle", input, "downscale_factor", r)
    *lead, channels, height, width = input._shape
    for word, at, n in (("height", -2, height), ("width", -1, width)):
        if n % r:
            raise RuntimeError(
                f"pixel_unshuffle expects {word} to be divisible by downscale_factor, but "
                f"input.size({at})={n} is not divisible by {r}"
            )
    k = len(lead)
    x = input.reshape(*lead, channels, height // r, r, width // r, r)
    x = permute_dims(x, (*range(k), k, k + 2, k + 4, k + 1, k + 3))
    return x.reshape(*lead, channels * r * r, height // r, width // r)


@composite(method=False, functional=True, aliases=("native_channel_shuffle",))
def channel_shuffle(input: Tensor, groups: int) -> Tensor:
    """Channels of (N, C, *) dealt out: those of different groups stand beside each other.

    Args:
        groups: how many groups the channels are in; divides C.

    Reference:
        Zhang et al., ShuffleNet (arXiv:1707.01083).
    """
    if input.ndim < 3:
        raise RuntimeError(
            f"channel_shuffle expects input with > 2 dims, but got input with sizes "
            f"{list(input.shape)}"
        )
    channels = input._shape[1]
    if groups <= 0:
        raise RuntimeError(
            f"Number of groups to divide channels in must be positive. Value of groups:{groups}"
        )
    if channels % groups:
        raise RuntimeError(
            f"Number of channels must be divisible by groups. Got {channels} channels and "
            f"{groups} groups."
        )
    x = input.reshape(input._shape[0], groups, channels // groups, *input._shape[2:])
    return transpose(x, 1, 2).reshape(input._shape)


# -- order -----------------------------------------------------------------------------------------


@composite()
def roll(input: Tensor, shifts: Any, dims: Any = None) -> Tensor:
    """Elements moved along dimensions, those that leave one end entering at the other."""
    if dims is None or (isinstance(dims, (tuple, list)) and not dims):
        if isinstance(shifts, (tuple, list)):
            if len(shifts) != 1:
                raise RuntimeError(
                    f"shifts and dimensions must align. shifts: {len(shifts)}, dims:0"
                )
            shifts = shifts[0]
        return roll(input.reshape(-1), shifts, 0).reshape(input._shape)
    shifts = (shifts,) if isinstance(shifts, int) else tuple(shifts)
    dims = (dims,) if isinstance(dims, int) else tuple(dims)
    if len(shifts) != len(dims):
        raise RuntimeError(
            f"shifts and dimensions must align. shifts: {len(shifts)}, dims:{len(dims)}"
        )
    if input.ndim == 0:
        raise IndexError("Dimension specified as 0 but tensor has no dimensions")
    for s, dim in zip(shifts, dims, strict=True):
        d = wrap_dim(dim, input.ndim)
        n = input._shape[d] if input.ndim else 0
        k = s % n if n else 0
        if k:
            input = cat([slice_dim(input, d, n - k, n, 1), slice_dim(input, d, 0, n - k, 1)], d)
    return NAMES["clone"](input)


@composite()
def rot90(input: Tensor, k: int = 1, dims: Any = (0, 1)) -> Tensor:
    """Rotation by k quarter turns in the plane of two dimensions."""
    if len(dims) != 2:
        raise RuntimeError(f"expected total rotation dims == 2, but got dims = {len(dims)}")
    if input.ndim < 2:
        raise RuntimeError(f"expected total dims >= 2, but got total dims = {input.ndim}")
    a, b = wrap_dims(dims, input.ndim)
    k %= 4
    if k == 0:
        return NAMES["clone"](input)
    if k == 2:
        return flip(input, a, b)
    return flip(transpose(input, a, b), a) if k == 1 else flip(transpose(input, a, b), b)


@composite()
def fliplr(input: Tensor) -> Tensor:
    """Columns in reverse order."""
    if input.ndim < 2:
        raise RuntimeError("Input must be >= 2-d.")
    return flip(input, 1)


@composite()
def flipud(input: Tensor) -> Tensor:
    """Rows in reverse order."""
    if input.ndim < 1:
        raise RuntimeError("Input must be >= 1-d.")
    return flip(input, 0)


# -- triangles and diagonals -----------------------------------------------------------------------


def _distance(input: Tensor) -> Tensor:
    """column - row of every place of the last two dimensions."""
    rows, columns = input._shape[-2:]
    column = NAMES["arange"](columns, device=input.device)
    row = NAMES["arange"](rows, device=input.device)
    return column - row.unsqueeze(-1)


@composite(inplace=True, out="exact")
def tril(input: Tensor, diagonal: int = 0) -> Tensor:
    """The lower triangle of matrices, zeros above the diagonal."""
    if input.ndim < 2:
        raise RuntimeError("tril: input tensor must have at least 2 dimensions")
    return select_where(_distance(input) <= diagonal, input, _zero(input))


@composite(inplace=True, out="exact")
def triu(input: Tensor, diagonal: int = 0) -> Tensor:
    """The upper triangle of matrices, zeros below the diagonal."""
    if input.ndim < 2:
        raise RuntimeError("triu: input tensor must have at least 2 dimensions")
    return select_where(_distance(input) >= diagonal, input, _zero(input))


def _zero(input: Tensor) -> Any:
    """A zero that leaves the dtype as it is."""
    return False if input.dtype.category == 0 else 0


def _triangle(row: int, col: int, keep: Any, dtype: Any, device: Any) -> Tensor:
    for name, n in (("row", row), ("col", col)):
        if n < 0:
            raise RuntimeError(f"{name} must be non-negative, got{n}")
    places = np.nonzero(keep(np.arange(col) - np.arange(row)[:, None]))
    return NAMES["tensor"](np.stack(places), dtype=dtype or dtypes.int64, device=device)


@composite(method=False)
def tril_indices(
    row: int,
    col: int,
    offset: int = 0,
    *,
    dtype: Any = None,
    device: Any = None,
    layout: Any = None,
) -> Tensor:
    """(2, n) row and column numbers of the lower triangle."""
    return _triangle(row, col, lambda d: d <= offset, dtype, device)


@composite(method=False)
def triu_indices(
    row: int,
    col: int,
    offset: int = 0,
    *,
    dtype: Any = None,
    device: Any = None,
    layout: Any = None,
) -> Tensor:
    """(2, n) row and column numbers of the upper triangle."""
    return _triangle(row, col, lambda d: d >= offset, dtype, device)


@composite()
def diag_embed(input: Tensor, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """Matrices whose diagonals are the last dimension, zeros elsewhere."""
    n = input._shape[-1] + builtin_abs(offset)
    a, b = wrap_dim(dim1, input.ndim + 1), wrap_dim(dim2, input.ndim + 1)
    if a == b:
        raise RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    rest = list(input._shape[:-1])
    shape = rest[:]
    for d in sorted((a, b)):
        shape.insert(d, n)
    base = NAMES["zeros"](tuple(shape), dtype=input.dtype, device=input.device)
    strides = contiguous_strides(tuple(shape))
    kept = [strides[d] for d in range(len(shape)) if d not in (a, b)]
    start = offset * strides[b] if offset >= 0 else -offset * strides[a]
    return assign_region(base, input, input._shape, (*kept, strides[a] + strides[b]), start)


builtin_abs = abs


@composite(out="exact")
def diag(input: Tensor, diagonal: int = 0) -> Tensor:
    """A vector as a diagonal matrix, or a matrix's diagonal."""
    if input.ndim == 1:
        return diag_embed(input, diagonal)
    if input.ndim != 2:
        raise RuntimeError(f"diag(): Supports 1D or 2D tensors. Got {input.ndim}D")
    return NAMES["clone"](diagonal_of(input, diagonal, 0, 1))


@composite()
def diagflat(input: Tensor, offset: int = 0) -> Tensor:
    """The flattened elements as a diagonal matrix."""
    return diag_embed(input.reshape(-1), offset)


@composite(method=False)
def block_diag(*tensors: Tensor) -> Tensor:
    """Matrices along the diagonal of a larger one."""
    blocks = [x.reshape(1, -1) if x.ndim < 2 else x for x in tensors]
    rows, columns = (builtin_sum(x._shape[k] for x in blocks) for k in (0, 1))
    dtype = blocks[0].dtype
    for x in blocks[1:]:
        dtype = dtypes.promote_types(dtype, x.dtype)
    out = NAMES["zeros"]((rows, columns), dtype=dtype)
    r = c = 0
    for x in blocks:
        out = assign_region(
            out,
            x.to(dtype),
            x._shape,
            (columns, 1),
            r * columns + c,
        )
        r, c = r + x._shape[0], c + x._shape[1]
    return out


builtin_sum = sum


# -- repeating -------------------------------------------------------------------------------------


@composite(public=False)
def repeat(input: Tensor, *repeats: Any) -> Tensor:
    """The tensor laid side by side a number of times along each dimension."""
    counts = no_negative(shape_of(repeats))
    if len(counts) < input.ndim:
        raise RuntimeError(
            "Number of dimensions of repeat dims can not be smaller than number of "
            "dimensions of tensor"
        )
    shape = (1,) * (len(counts) - input.ndim) + input._shape
    spread = [n for c, s in zip(counts, shape, strict=True) for n in (c, s)]
    lifted = [n for s in shape for n in (1, s)]
    out = input.reshape(lifted).expand(*spread)
    final = tuple(c * s for c, s in zip(counts, shape, strict=True))
    return NAMES["clone"](out).view(final)


@composite()
def tile(input: Tensor, *dims: Any) -> Tensor:
    """`repeat`, with missing counts taken as 1."""
    counts = shape_of(dims)
    return repeat(input, *((1,) * (input.ndim - len(counts)) + counts))


@composite()
def repeat_interleave(
    input: Tensor, repeats: Any = None, dim: int | None = None, *, output_size: int | None = None
) -> Tensor:
    """Every element repeated in place: a count for all, or one per entry of a dimension."""
    if repeats is None:  # counts alone: the index of each repetition
        return repeat_interleave(NAMES["arange"](input._shape[0]), input, 0)
    if dim is None:
        input, dim = input.reshape(-1), 0
    d = wrap_dim(dim, input.ndim)
    if isinstance(repeats, Tensor) and repeats.numel() == 1:
        repeats = int(repeats.item())
    if isinstance(repeats, int):
        if repeats < 0:
            raise RuntimeError("repeats can not be negative")
        shape = input._shape
        out = input.unsqueeze(d + 1)
        out = expand_to(out, (*shape[: d + 1], repeats, *shape[d + 1 :]))
        return NAMES["clone"](out).view(
            *shape[:d],
            shape[d] * repeats,
            *shape[d + 1 :],
        )
    counts = repeats.tolist() if isinstance(repeats, Tensor) else list(repeats)
    if len(counts) != input._shape[d]:
        raise RuntimeError(
            f"repeats must have the same size as input along dim, but got "
            f"repeats.size(0) = {len(counts)} and input.size({d}) = "
            f"{input._shape[d]}"
        )
    places = [i for i, c in enumerate(counts) for _ in range(c)]
    index = NAMES["tensor"](places, dtype=dtypes.int64)
    return NAMES["index_select"](input, d, index)


# -- grids and joining -----------------------------------------------------------------------------


@composite(method=False)
def meshgrid(*tensors: Any, indexing: str | None = None) -> tuple[Tensor, ...]:
    """Vectors as the coordinates of a grid: one tensor each, expanded over the others."""
    if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)):
        tensors = tuple(tensors[0])
    for x in tensors:
        if x.ndim > 1:
            raise RuntimeError(
                "torch.meshgrid: Expected 0D or 1D tensor in the tensor list but got one of shape "
                f"{list(x.shape)}"
            )
    if indexing not in (None, "ij", "xy"):
        raise RuntimeError(
            f'torch.meshgrid: indexing must be one of "xy" or "ij", but received: {indexing}'
        )
    swap = indexing == "xy" and len(tensors) >= 2
    items = list(tensors)
    if swap:
        items[0], items[1] = items[1], items[0]
    shape = tuple(x.numel() for x in items)
    grids = []
    for k, x in enumerate(items):
        placed = view_as_shape(x.reshape(-1), (1,) * k + (x.numel(),) + (1,) * (len(items) - k - 1))
        grids.append(expand_to(placed, shape))
    if swap:
        grids[0], grids[1] = grids[1], grids[0]
    return tuple(grids)


@composite(method=False)
def cartesian_prod(*tensors: Tensor) -> Tensor:
    """Every combination of the vectors' elements, one a row."""
    if len(tensors) == 1:
        return tensors[0]
    return stack([g.reshape(-1) for g in meshgrid(*tensors, indexing="ij")], 1)


@composite(method=False)
def combinations(input: Tensor, r: int = 2, with_replacement: bool = False) -> Tensor:
    """Every combination of r elements of a vector, one a row."""
    choose = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    rows = list(choose(range(input.numel()), r))
    index = NAMES["tensor"](rows, dtype=dtypes.int64).reshape(len(rows), r)
    return input[index]


def _at_least(x: Tensor, ndim: int) -> Tensor:
    if ndim == 3:
        x = _at_least(x, 2)
        return x.unsqueeze(-1) if x.ndim == 2 else x
    while x.ndim < ndim:
        x = x.unsqueeze(0)
    return x


def _atleast(ndim: int) -> Any:
    def at_least(*tensors: Any) -> Any:
        if len(tensors) == 1 and isinstance(tensors[0], Tensor):
            return _at_least(tensors[0], ndim)
        items = tensors[0] if len(tensors) == 1 else tensors
        return tuple(_at_least(x, ndim) for x in items)

    at_least.__name__ = f"atleast_{ndim}d"
    at_least.__doc__ = f"Tensors with dimensions of size 1 added up to {ndim} dimensions."
    return composite(method=False)(at_least)


atleast_1d, atleast_2d, atleast_3d = _atleast(1), _atleast(2), _atleast(3)


def _some(tensors: Any, name: str) -> Any:
    if not isinstance(tensors, Tensor) and not len(tensors):
        raise RuntimeError(f"{name} expects a non-empty TensorList")
    return tensors


def _split_along(input: Tensor, parts: Any, dim: int, least: int, name: str) -> tuple[Tensor, ...]:
    """`tensor_split` of tensors with at least `least` dimensions, into equal sections."""
    if input.ndim < least:
        raise RuntimeError(
            f"torch.{name} requires a tensor with at least {least} dimension, but got a tensor "
            f"with {input.ndim} dimensions!"
        )
    n = input._shape[dim]
    if isinstance(parts, int) and parts > 0 and n % parts:
        raise RuntimeError(
            f"torch.{name} attempted to split along dimension {dim}, but the size of the "
            f"dimension {n} is not divisible by the split_size {parts}!"
        )
    return tuple(NAMES["tensor_split"](input, parts, dim))


@composite(method=False, out=True)
def hstack(tensors: Any) -> Tensor:
    """Joined along the second dimension (the first for vectors)."""
    items = [_at_least(x, 1) for x in _some(tensors, "hstack")]
    return cat(items, 0 if items[0].ndim == 1 else 1)


@composite(method=False, out=True, aliases=("row_stack",))
def vstack(tensors: Any) -> Tensor:
    """Joined along the first dimension, vectors as rows."""
    return cat([_at_least(x, 2) for x in _some(tensors, "vstack")], 0)


@composite(method=False, out=True)
def dstack(tensors: Any) -> Tensor:
    """Joined along the third dimension."""
    return cat([_at_least(x, 3) for x in _some(tensors, "dstack")], 2)


@composite(method=False, out=True)
def column_stack(tensors: Any) -> Tensor:
    """Vectors as columns, matrices side by side."""
    return cat([x.reshape(-1, 1) if x.ndim < 2 else x for x in tensors], 1)


@composite()
def hsplit(input: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """Split along the second dimension (the first for vectors)."""
    return _split_along(input, indices_or_sections, 0 if input.ndim == 1 else 1, 1, "hsplit")


@composite()
def vsplit(input: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """Split along the first dimension."""
    return _split_along(input, indices_or_sections, 0, 2, "vsplit")


@composite()
def dsplit(input: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """Split along the third dimension."""
    return _split_along(input, indices_or_sections, 2, 3, "dsplit")


# -- writes that return a new tensor ---------------------------------------------------------------


@composite()
def select_scatter(input: Tensor, src: Tensor, dim: int, index: int) -> Tensor:
    """A copy of input with src at one index of a dimension."""
    out = NAMES["clone"](input)
    NAMES["select"](out, dim, index).copy_(src)
    return out


@composite(out=True)
def slice_scatter(
    input: Tensor,
    src: Tensor,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Tensor:
    """A copy of input with src at a slice of a dimension."""
    out = NAMES["clone"](input)
    d = wrap_dim(dim, input.ndim)
    a, b, s = slice_bounds(start, end, step, input._shape[d])
    slice_dim(out, d, a, max(a, b), s).copy_(src)
    return out


@composite()
def diagonal_scatter(
    input: Tensor, src: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1
) -> Tensor:
    """A copy of input with src on a diagonal."""
    out = NAMES["clone"](input)
    NAMES["diagonal"](out, offset, dim1, dim2).copy_(src)
    return out


@composite(inplace=True, out=True)
def scatter_reduce(
    input: Tensor, dim: int, index: Tensor, src: Tensor, reduce: str, *, include_self: bool = True
) -> Tensor:
    """input combined with src at out[index[i][j]][j] (dim 0), and so on.

    Args:
        reduce: "sum", "prod", "mean", "amax" or "amin".
        include_self: whether input's own elements take part.
    """
    modes = {
        "sum": ("add", 0),
        "mean": ("add", 0),
        "prod": ("mul", 1),
        "amax": ("max", -math.inf),
        "amin": ("min", math.inf),
    }
    if reduce not in modes:
        raise RuntimeError(
            f"reduce argument must be either sum, prod, mean, amax or amin, got {reduce}"
        )
    mode, neutral = modes[reduce]
    if input.ndim == 0:
        parts = (x.reshape(1) for x in (input, index, src))
        vector, place, part = parts
        found = scatter_reduce(vector, 0, place, part, reduce, include_self=include_self)
        return found.reshape(())
    d = wrap_dim(dim, input.ndim)
    grid = _grid(index._shape, d, index)
    part = src
    for i, n in enumerate(index._shape):
        part = slice_dim(part, i, 0, n, 1) if part._shape[i] != n else part
    base = input
    if not include_self:
        if input.dtype.category != 2 and reduce in ("amax", "amin"):
            boolean = input.dtype.category == 0
            low, high = (False, True) if boolean else (
                dtypes.iinfo(input.dtype).min, dtypes.iinfo(input.dtype).max
            )  # fmt: skip
            neutral = low if reduce == "amax" else high
        start = NAMES["full"](index._shape, neutral, dtype=input.dtype, device=input.device)
        base = _put(input, start, "set", *grid)
    if mode != "add":
        return combine_leading(base, part, mode, *grid)
    out = _put(base, part, mode, *grid)
    if reduce == "mean":
        ones = NAMES["ones"](index._shape, dtype=input.dtype, device=input.device)
        start = NAMES["ones_like"](input)
        if not include_self:
            start = _put(start, NAMES["zeros_like"](ones), "set", *grid)
        count = _put(start, ones, "add", *grid)
        count = select_where(count == 0, 1, count)
        out = out / count if input.dtype.category == 2 else out // count
    return out
