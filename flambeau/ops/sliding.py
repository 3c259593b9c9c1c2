"""Sliding blocks of images as columns, and columns added up into images."""

from __future__ import annotations

import math
from typing import Any

from flambeau.ops.arithmetic import dtype_word
from flambeau.ops.convolution import both_sides, output_sizes, windows
from flambeau.ops.movement import _scatter_storage as scatter_storage
from flambeau.ops.movement import slice_dim
from flambeau.ops.precision import cast, widen
from flambeau.ops.rearranging import pad
from flambeau.ops.rows import NAMES, functional
from flambeau.ops.table import composite
from flambeau.size import contiguous_strides
from flambeau.tensor import Tensor

Sizes = tuple[int, ...]


def _pair(value: Any, name: str) -> Sizes:
    found = (value, value) if isinstance(value, int) else tuple(value)
    if len(found) == 1 and name == "output_size":
        found = found * 2
    if len(found) != 2:
        raise RuntimeError(f"It is expected {name} equals to 2, but got size {len(found)}")
    return found


def _check_blocks(kernel: Sizes, dilation: Sizes, padding: Sizes, stride: Sizes) -> None:
    for values, least, name, word in (
        (kernel, 1, "kernel size", "kernel"),
        (stride, 1, "stride", "stride"),
        (dilation, 1, "dilation", "dilation"),
        (padding, 0, "padding", "pad"),
    ):
        if any(v < least for v in values):
            wanted = "be greater than zero" if least else "be non-negative"
            raise RuntimeError(
                f"{name} should {wanted}, but got {word}_height: {values[0]} "
                f"{word}_width: {values[1]}"
            )


@composite(keep=True, method=False, public=False)
def im2col(input: Tensor, kernel: Sizes, dilation: Sizes, padding: Sizes, stride: Sizes) -> Tensor:
    """The blocks that a kernel sees at each place of padded images.

    Args:
        input: (N, C, H, W).
        kernel, dilation, padding, stride: two numbers each.

    Returns:
        (N, C * KH * KW, places).

    Raises:
        RuntimeError: no block fits.
    """
    n, c = input._shape[:2]
    sizes = output_sizes(input._shape[2:], kernel, stride, padding, dilation)
    if any(o < 1 for o in sizes):
        raise RuntimeError(
            f"Given input with spatial size {input._shape[2:]}, kernel_size={kernel}, "
            f"dilation={dilation}, padding={padding}, calculated shape of the array of sliding "
            f"blocks as {tuple(max(o, 0) for o in sizes)}, but its components must be at least one."
        )
    x = pad(input, both_sides(padding)) if any(padding) else input
    seen = windows(x, kernel, stride, dilation)
    return seen.reshape(n, c * math.prod(kernel), math.prod(sizes))


@composite(keep=True, method=False, public=False)
def col2im(
    input: Tensor, sizes: Sizes, kernel: Sizes, dilation: Sizes, padding: Sizes, stride: Sizes
) -> Tensor:
    """Blocks added up where they lie: the transpose of `im2col`.

    Args:
        input: (N, C * KH * KW, places).
        sizes: height and width of the result.
        kernel, dilation, padding, stride: two numbers each.

    Returns:
        (N, C, *sizes).
    """
    n, places = input._shape[0], output_sizes(sizes, kernel, stride, padding, dilation)
    c = input._shape[1] // math.prod(kernel)
    blocks = widen(input.reshape(n, c, *kernel, *places))
    if all(1 in steps for steps in zip(dilation, stride, strict=True)):
        ends: Sizes = ()
        out = _overlapped(blocks, dilation, stride)
        for s, p, have in zip(sizes, padding, out._shape[2:], strict=True):
            ends = (-p, p + s - have, *ends)
        return cast(pad(out, ends), input.dtype).contiguous()
    shape = (n, c, *(s + 2 * p for s, p in zip(sizes, padding, strict=True)))
    steps = contiguous_strides(shape)
    strides = (
        *steps[:2],
        *(s * d for s, d in zip(steps[2:], dilation, strict=True)),
        *(s * t for s, t in zip(steps[2:], stride, strict=True)),
    )
    flat = scatter_storage(blocks, strides, 0, math.prod(shape))
    out = flat.view(*shape)
    for d, p in enumerate(padding):
        out = slice_dim(out, 2 + d, p, p + sizes[d], 1)
    return cast(out, input.dtype).contiguous()


def _overlapped(blocks: Tensor, dilation: Sizes, stride: Sizes) -> Tensor:
    """(N, C, KH, KW, PH, PW) blocks added up; of each dimension dilation or stride is 1.

    A sum of shifted images: with zeros around the places, the place that kernel element i adds to
    an output is i places before that output, so all of them are one view of the blocks, its strides
    smaller by the shift. With a stride, kernel element i = q * stride + r adds to every stride-th
    output from r on, shifted by q.
    """
    n, c, *kernel = blocks._shape[:4]
    counts = [-(-k // s) for k, s in zip(kernel, stride, strict=True)]
    rest = [q * s - k for k, s, q in zip(kernel, stride, counts, strict=True)]
    reach = [(q - 1) * d for q, d in zip(counts, dilation, strict=True)]
    ends = (reach[1], reach[1], reach[0], reach[0], 0, rest[1], 0, rest[0])
    x = (pad(blocks, ends) if any(ends) else blocks).contiguous()
    high, wide = x._shape[4:]
    steps = list(contiguous_strides((n, c, counts[0], stride[0], counts[1], stride[1], high, wide)))
    steps[2] -= dilation[0] * wide
    steps[4] -= dilation[1]
    shape = (n, c, counts[0], stride[0], counts[1], stride[1], high - reach[0], wide - reach[1])
    seen = x.as_strided(shape, tuple(steps), reach[0] * wide + reach[1])
    added = seen.sum((2, 4)).permute(0, 1, 4, 2, 5, 3)
    return added.reshape(n, c, *(shape[6 + d] * stride[d] for d in range(2)))


im2col.vjp(
    lambda g, out, x, kernel, dilation, padding, stride: (
        col2im(g, tuple(x.shape)[2:], kernel, dilation, padding, stride),
        None,
        None,
        None,
        None,
    )
)
col2im.vjp(
    lambda g, out, x, sizes, kernel, dilation, padding, stride: (
        im2col(g, kernel, dilation, padding, stride),
        None,
        None,
        None,
        None,
        None,
    )
)


def _floating(input: Tensor, name: str) -> None:
    if input.dtype.category != 2:
        raise NotImplementedError(
            f"\"{name}_out_cpu\" not implemented for '{dtype_word(input.dtype)}'"
        )


@functional("unfold")
def unfold(
    input: Tensor, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Tensor:
    """The sliding blocks of images as columns.

    Args:
        input: (N, C, H, W) or (C, H, W).
        kernel_size, dilation, padding, stride: an int or two of them.

    Returns:
        (N, C * KH * KW, blocks) or (C * KH * KW, blocks).

    Raises:
        RuntimeError: shapes that do not fit.
    """
    kernel, steps = _pair(kernel_size, "kernel_size"), _pair(dilation, "dilation")
    sides, stride = _pair(padding, "padding"), _pair(stride, "stride")
    _check_blocks(kernel, steps, sides, stride)
    if input.ndim not in (3, 4) or 0 in input._shape[-3:]:
        raise RuntimeError(
            "Expected 3D or 4D (batch mode) tensor with possibly 0 batch size and other non-zero "
            f"dimensions for input, but got: {list(input.shape)}"
        )
    if input.dtype.is_complex:
        parts = (unfold(p, kernel, steps, sides, stride) for p in (input.real, input.imag))
        return NAMES["complex"](*parts)
    _floating(input, "im2col")
    x = input if input.ndim == 4 else input.unsqueeze(0)
    out = im2col(x, kernel, steps, sides, stride)
    return out if input.ndim == 4 else out.squeeze(0)


@functional("fold")
def fold(
    input: Tensor,
    output_size: Any,
    kernel_size: Any,
    dilation: Any = 1,
    padding: Any = 0,
    stride: Any = 1,
) -> Tensor:
    """Sliding blocks added up into images.

    Args:
        input: (N, C * KH * KW, blocks) or (C * KH * KW, blocks).
        output_size: height and width of the images.
        kernel_size, dilation, padding, stride: an int or two of them.

    Returns:
        (N, C, *output_size) or (C, *output_size).

    Raises:
        RuntimeError: shapes that do not fit.
    """
    sizes = _pair(output_size, "output_size")
    kernel, steps = _pair(kernel_size, "kernel_size"), _pair(dilation, "dilation")
    sides, stride = _pair(padding, "padding"), _pair(stride, "stride")
    _check_blocks(kernel, steps, sides, stride)
    if input.ndim not in (2, 3) or 0 in input._shape[-2:]:
        raise RuntimeError(
            "Expected 2D or 3D (batch mode) tensor for input with possibly 0 batch size and "
            f"non-zero dimensions for input, but got: {list(input.shape)}"
        )
    x = input if input.ndim == 3 else input.unsqueeze(0)
    if x._shape[1] % math.prod(kernel):
        raise RuntimeError(
            "Expected size of input's dimension 1 to be divisible by the product of kernel_size, "
            f"but got input.size(1)={x._shape[1]} and kernel_size={kernel}."
        )
    places = output_sizes(sizes, kernel, stride, sides, steps)
    if math.prod(places) != x._shape[2] or any(n < 1 for n in places):
        raise RuntimeError(
            f"Given output_size={sizes}, kernel_size={kernel}, dilation={steps}, "
            f"padding={sides}, stride={stride}, expected size of input's dimension 2 to match the "
            f"calculated number of sliding blocks {places[0]} * {places[1]} = "
            f"{math.prod(places)}, but got input.size(2)={x._shape[2]}."
        )
    _floating(input, "col2im")
    out = col2im(x, sizes, kernel, steps, sides, stride)
    return out if input.ndim == 3 else out.squeeze(0)
