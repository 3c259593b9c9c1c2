"""Images read at arbitrary places: grids of places, and interpolation at them."""

from __future__ import annotations

import itertools
import math
import warnings
from typing import Any

from flambeau.ops.elementwise import select_where
from flambeau.ops.movement import expand_to
from flambeau.ops.precision import cast, widen
from flambeau.ops.rows import NAMES, functional
from flambeau.ops.table import composite
from flambeau.tensor import Tensor

_MODES = ("bilinear", "nearest", "bicubic")
_PADDINGS = ("zeros", "border", "reflection")


def _warn_of_corners(align_corners: bool | None) -> bool:
    if align_corners is None:
        warnings.warn(
            "Default grid_sample and affine_grid behavior has changed to align_corners=False "
            "since 1.3.0. Please specify align_corners=True if the old behavior is desired. See "
            "the documentation of grid_sample for details.",
            stacklevel=3,
        )
        return False
    return align_corners


@functional("affine_grid")
def affine_grid(theta: Tensor, size: Any, align_corners: bool | None = None) -> Tensor:
    """Places of an image's elements after an affine map, for `grid_sample`.

    Args:
        theta: (N, 2, 3) for images, (N, 3, 4) for volumes.
        size: of the image that will be sampled: (N, C, H, W) or (N, C, D, H, W).
        align_corners: whether -1 and 1 are the outermost elements' centres, not their edges.

    Returns:
        (N, H, W, 2) or (N, D, H, W, 3), x first.

    Raises:
        ValueError: maps that do not fit the size.
        NotImplementedError: sizes of another rank.
    """
    align = _warn_of_corners(align_corners)
    sizes = tuple(int(n) for n in size)
    if theta.dtype.category != 2:
        raise ValueError(f"Expected theta to have floating point type, but got {theta.dtype}")
    dims = len(sizes) - 2
    if dims not in (2, 3):
        raise NotImplementedError(
            f"affine_grid only supports 4D and 5D sizes, for 2D and 3D affine transforms, "
            f"respectively. Got size {sizes}."
        )
    if theta.ndim != 3 or theta._shape[1:] != (dims, dims + 1):
        raise ValueError(
            f"Expected a batch of {dims}D affine matrices of shape Nx{dims}x{dims + 1} for size "
            f"{sizes}. Got {theta.shape}."
        )
    if min(sizes) <= 0:
        raise ValueError(f"Expected non-zero, positive output size. Got {sizes}")
    if theta._shape[0] != sizes[0]:
        raise RuntimeError(
            f"Expected size for first two dimensions of batch2 tensor to be: [{sizes[0]}, "
            f"{dims + 1}] but got: [{theta._shape[0]}, {dims + 1}]."
        )
    space = sizes[2:]
    parts = []
    for d in reversed(range(dims)):
        n = space[d]
        number = NAMES["arange"](n, device=theta.device, dtype=theta.dtype)
        if align:
            place = number * (2.0 / (n - 1)) - 1.0 if n > 1 else number * 0.0
        else:
            place = (number * 2.0 + (1.0 - n)) / n
        shape = [1] * dims
        shape[d] = n
        parts.append(expand_to(place.reshape(*shape), space))
    parts.append(NAMES["ones_like"](parts[0]))
    base = NAMES["stack"](parts, -1).reshape(-1, dims + 1)
    found: Tensor = NAMES["matmul"](base, theta.transpose(1, 2))
    return found.reshape(sizes[0], *space, dims)


def _unnormalized(x: Tensor, size: int, align: bool) -> Tensor:
    """Coordinates in [-1, 1] as places among `size` elements."""
    if align:
        return (x + 1.0) * ((size - 1) / 2.0)
    return ((x + 1.0) * float(size) - 1.0) * 0.5


def _reflected(x: Tensor, low: float, high: float) -> Tensor:
    """Places folded back into [low, high]."""
    span = high - low
    if span == 0:
        return x * 0.0
    x = (x - low).abs()
    over = NAMES["remainder"](x, 2.0 * span)
    return span - (over - span).abs() + low


def _inside(x: Tensor, size: int, padding: str, align: bool) -> Tensor:
    """Places moved as the padding wants it."""
    if padding == "zeros":
        return x
    if padding == "reflection":
        low, high = (0.0, size - 1.0) if align else (-0.5, size - 0.5)
        x = _reflected(x, low, high)
    return NAMES["clamp"](x, 0.0, size - 1.0)


def _element(flat: Tensor, places: list[Tensor], sizes: tuple[int, ...]) -> Tensor:
    """Elements (N, C, O) of flat (N, C, S) at integral places (N, O); zero outside."""
    valid: Tensor | None = None
    index: Tensor | None = None
    for place, n in zip(places, sizes, strict=True):
        fits = (place >= 0) & (place <= n - 1)
        at = NAMES["clamp"](NAMES["nan_to_num"](place), 0.0, n - 1.0).long()
        valid = fits if valid is None else valid & fits
        index = at if index is None else index * n + at
    assert index is not None
    assert valid is not None
    batch, channels = flat._shape[:2]
    wide = expand_to(index.unsqueeze(1), (batch, channels, index._shape[1]))
    return select_where(valid.unsqueeze(1), NAMES["gather"](flat, 2, wide), 0)


def _cubic_weights(t: Tensor) -> list[Tensor]:
    """Weights of the four neighbours of a place t behind the second of them (a = -0.75)."""
    a = -0.75

    def near(x: Tensor) -> Tensor:
        return ((a + 2) * x - (a + 3)) * x * x + 1

    def far(x: Tensor) -> Tensor:
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a

    return [far(t + 1), near(t), near(1 - t), far(2 - t)]


def _check_grid(input: Tensor, grid: Tensor, mode: str) -> None:
    dims = input.ndim - 2
    given = f"input with sizes {list(input.shape)} and grid with sizes {list(grid.shape)}"
    if input._shape[:1] != grid._shape[:1]:
        raise RuntimeError(
            f"grid_sampler(): expected grid and input to have same batch size, but got {given}"
        )
    if dims not in (2, 3) or grid.ndim != input.ndim:
        raise RuntimeError(
            f"grid_sampler(): expected 4D or 5D input and grid with same number of dimensions, "
            f"but got {given}"
        )
    if grid._shape[-1] != dims:
        raise RuntimeError(
            f"grid_sampler(): expected grid to have size {dims} in last dimension, but got grid "
            f"with sizes {list(grid.shape)}"
        )
    if 0 in input._shape[2:]:
        raise RuntimeError(
            f"grid_sampler(): expected input to have non-empty spatial dimensions, but input has "
            f"sizes {list(input.shape)} with dimension {2 + input._shape[2:].index(0)} being empty"
        )
    if mode == "bicubic" and dims != 2:
        raise RuntimeError("grid_sampler(): bicubic interpolation only supports 4D input")
    if input.dtype is not grid.dtype:
        names = {"float32": "Float", "float64": "Double", "bfloat16": "BFloat16", "float16": "Half"}
        wanted, got = (names.get(t.dtype.name, t.dtype.name) for t in (input, grid))
        raise RuntimeError(f"expected scalar type {wanted} but found {got}")


@composite(method=False, public=False, functional=True, autocast="float32")
def grid_sample(
    input: Tensor,
    grid: Tensor,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Tensor:
    """An image read at the places of a grid.

    Args:
        input: (N, C, H, W) or (N, C, D, H, W).
        grid: (N, OH, OW, 2) or (N, OD, OH, OW, 3): x, y (and z) from -1 to 1, x along W.
        mode: "bilinear" (in three dimensions too), "nearest" or "bicubic" (images only).
        padding_mode: what lies outside: "zeros", the "border" element, or the image's "reflection".
        align_corners: whether -1 and 1 are the outermost elements' centres, not their edges.

    Returns:
        (N, C, OH, OW) or (N, C, OD, OH, OW).

    Raises:
        ValueError: an unknown mode.
        RuntimeError: sizes that do not fit.

    Reference:
        Jaderberg et al., Spatial Transformer Networks (arXiv:1506.02025).
    """
    if mode not in _MODES:
        raise ValueError(
            f"nn.functional.grid_sample(): expected mode to be 'bilinear', 'nearest' or 'bicubic', "
            f"but got: '{mode}'"
        )
    if padding_mode not in _PADDINGS:
        raise ValueError(
            f"nn.functional.grid_sample(): expected padding_mode to be 'zeros', 'border', or "
            f"'reflection', but got: '{padding_mode}'"
        )
    align = _warn_of_corners(align_corners)
    _check_grid(input, grid, mode)
    sizes = input._shape[2:]
    dims = len(sizes)
    batch, channels = input._shape[:2]
    outs = grid._shape[1:-1]
    flat = widen(input).reshape(batch, channels, math.prod(sizes))
    wide = widen(grid).reshape(batch, math.prod(outs), dims)
    # the grid's last dimension names the image's last dimension first
    places = [_unnormalized(wide.select(2, dims - 1 - d), n, align) for d, n in enumerate(sizes)]
    if mode != "bicubic":
        places = [_inside(x, n, padding_mode, align) for x, n in zip(places, sizes, strict=True)]
    if mode == "nearest":
        total: Tensor = _element(flat, [NAMES["round"](x.detach()) for x in places], sizes)
    else:
        lows = [NAMES["floor"](x.detach()) for x in places]
        parts = [x - low for x, low in zip(places, lows, strict=True)]
        if mode == "bilinear":
            taps = [[(low, 1 - t), (low + 1, t)] for low, t in zip(lows, parts, strict=True)]
        else:
            taps = [
                [
                    (_inside(low + (k - 1), n, padding_mode, align), weight)
                    for k, weight in enumerate(_cubic_weights(t))
                ]
                for low, t, n in zip(lows, parts, sizes, strict=True)
            ]
        found: Tensor | None = None
        for corner in itertools.product(*taps):
            weight = corner[0][1]
            for _, factor in corner[1:]:
                weight = weight * factor
            part = _element(flat, [place for place, _ in corner], sizes) * weight.unsqueeze(1)
            found = part if found is None else found + part
        assert found is not None
        total = found
    return cast(total.reshape(batch, channels, *outs), input.dtype)
