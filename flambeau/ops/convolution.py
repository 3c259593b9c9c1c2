"""Convolution in one to three dimensions, its transpose and its gradients.

Shape suffixes: N batch, G groups, C channels of the input, M channels of the output, K kernel
places, O places of the output. Sizes, strides and the like are tuples with one entry a spatial
dimension.

Note [Convolution's gradients]
    Convolution is linear in the image and in the weight. The transpose of convolving an image with
    a weight is the transposed convolution with the same weight, and the other way around; the
    transpose in the weight is a row of its own, `convolution_weight_gradient`. Those three are
    each other's derivatives, so gradients of any order are made of them.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

from flambeau import dtypes
from flambeau.ir.graph import Node
from flambeau.ops.arithmetic import dtype_word
from flambeau.ops.contraction import matmul_batched
from flambeau.ops.movement import (
    assign_region,
    flip,
    permute_dims,
    select_dim,
    slice_dim,
    unfold_dim,
)
from flambeau.ops.precision import cast, widen
from flambeau.ops.rearranging import pad
from flambeau.ops.reduction import sum_axes
from flambeau.ops.rows import NAMES
from flambeau.ops.table import composite
from flambeau.record import view_node
from flambeau.size import contiguous_strides
from flambeau.tensor import Tensor

Sizes = tuple[int, ...]

MOST_TAPS = 64
"""Kernel places up to which a convolution of one channel a group is a sum of shifted images."""


# -- geometry --------------------------------------------------------------------------------------


def output_sizes(
    sizes: Sizes, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes
) -> Sizes:
    """Places along each dimension where a kernel fits into a padded image."""
    return tuple(
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(sizes, kernel, stride, padding, dilation, strict=True)
    )


def transposed_sizes(
    sizes: Sizes, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes, extra: Sizes
) -> Sizes:
    """The image sizes that a transposed convolution of `sizes` places makes."""
    return tuple(
        (n - 1) * s - 2 * p + d * (k - 1) + 1 + e
        for n, k, s, p, d, e in zip(sizes, kernel, stride, padding, dilation, extra, strict=True)
    )


def _per_dim(value: Any, count: int, name: str, where: str = "convolution") -> Sizes:
    """An int, or one or `count` of them, as a tuple."""
    if not isinstance(value, (int, tuple, list)):
        raise TypeError(
            f"{where}(): argument '{name}' must be tuple of ints, not {type(value).__name__}"
        )
    found = (value,) if isinstance(value, int) else tuple(value)
    for v in found:
        if not isinstance(v, int):
            raise TypeError(
                f"{where}(): argument '{name}' must be tuple of ints, but found element of type "
                f"{type(v).__name__}"
            )
    if len(found) == 1:
        found = found * count
    if len(found) != count:
        raise RuntimeError(
            f"expected {name} to be a single integer value or a list of {count} values to match "
            f"the convolution dimensions, but got {name}={list(found)}"
        )
    return found


def _check_numbers(
    stride: Sizes, padding: Sizes, dilation: Sizes, extra: Sizes, groups: int
) -> None:
    if groups <= 0:
        raise RuntimeError("non-positive groups is not supported")
    for values, least, name in (
        (padding, 0, "negative padding"),
        (extra, 0, "negative output_padding"),
        (stride, 1, "non-positive stride"),
        (dilation, 1, "non-positive dilation"),
    ):
        if any(v < least for v in values):
            raise RuntimeError(f"{name} is not supported")


def _check_channels(input: Tensor, weight: Tensor, bias: Any, transposed: bool, groups: int) -> int:
    """Refuse channels that do not fit; -> channels of the result."""
    shape = list(weight._shape)
    first = shape[0]
    word = f"transposed={int(transposed)}" if transposed else f"groups={groups}"
    if first < groups:
        raise RuntimeError(
            f"Given groups={groups}, expected weight to be at least {groups} at dimension 0, but "
            f"got weight of size {shape} instead"
        )
    if first % groups:
        raise RuntimeError(
            f"Given groups={groups}, expected weight to be divisible by {groups} at dimension 0, "
            f"but got weight of size [{shape}] instead"
        )
    wanted = first if transposed else shape[1] * groups
    if input._shape[1] != wanted:
        raise RuntimeError(
            f"Given {word}, weight of size {shape}, expected input{list(input.shape)} to have "
            f"{wanted} channels, but got {input._shape[1]} channels instead"
        )
    channels = shape[1] * groups if transposed else first
    if bias is not None and bias._shape != (channels,):
        given = f"Given transposed=1, weight of size {shape}" if transposed else None
        raise RuntimeError(
            f"{given or f'Given weight of size {shape}'}, expected bias to be 1-dimensional with "
            f"{channels} elements, but got bias of size {list(bias.shape)} instead"
        )
    return channels


def _check_dtypes(input: Tensor, weight: Tensor, bias: Any) -> None:
    if input.dtype is not weight.dtype:
        raise RuntimeError(
            f"Input type (torch.{dtype_word(input.dtype)}Tensor) and weight type "
            f"(torch.{dtype_word(weight.dtype)}Tensor) should be the same or input should be a "
            "MKLDNN tensor and weight is a dense tensor"
        )
    if bias is not None and bias.dtype is not input.dtype:
        raise RuntimeError(
            f"Input type ({dtype_word(input.dtype).lower()}) and bias type "
            f"({dtype_word(bias.dtype).lower()}) should be the same"
        )
    if input.dtype is dtypes.bool:
        raise NotImplementedError("\"slow_conv2d_cpu\" not implemented for 'Bool'")


def _result_sizes(
    input: Tensor, weight: Tensor, stride: Sizes, padding: Sizes, dilation: Sizes,
    transposed: bool, extra: Sizes,
) -> Sizes:  # fmt: skip
    """Spatial sizes of the result.

    Raises:
        RuntimeError: the kernel does not fit, or an output padding without a place.
    """
    sizes, kernel = input._shape[2:], weight._shape[2:]
    if not transposed:
        padded = tuple(n + 2 * p for n, p in zip(sizes, padding, strict=True))
        reach = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
        if any(n < r for n, r in zip(padded, reach, strict=True)):
            raise RuntimeError(
                f"Calculated padded input size per channel: ({_times(padded)}). Kernel size: "
                f"({_times(reach)}). Kernel size can't be greater than actual input size"
            )
        found = output_sizes(sizes, kernel, stride, padding, dilation)
    else:
        if any(e >= s and e >= d for e, s, d in zip(extra, stride, dilation, strict=True)):
            raise RuntimeError(
                "output padding must be smaller than either stride or dilation, but got "
                f"output_padding: {list(extra)} stride: {list(stride)} dilation: {list(dilation)}"
            )
        found = transposed_sizes(sizes, kernel, stride, padding, dilation, extra)
        if any(n < 1 for n in found):
            raise RuntimeError(
                f"Given input size per channel: ({_times(sizes)}). Calculated output size per "
                f"channel: ({_times(found)}). Output size is too small"
            )
    if 0 in sizes:
        raise RuntimeError(
            "Only zero batch or zero channel inputs are supported, but got input shape: "
            f"{list(input.shape)}"
        )
    return found


def _times(sizes: Sizes) -> str:
    return " x ".join(map(str, sizes))


# -- the rows --------------------------------------------------------------------------------------


def windows(x: Tensor, kernel: Sizes, stride: Sizes, dilation: Sizes) -> Tensor:
    """(N, C, *I) -> what each kernel place sees at each output place: (N, C, *K, *O)."""
    count = len(kernel)
    for i, (k, s, d) in enumerate(zip(kernel, stride, dilation, strict=True)):
        reach = d * (k - 1) + 1
        x = unfold_dim(x, 2 + i, reach, s)
        x = slice_dim(x, x.ndim - 1, 0, reach, d)
    order = (0, 1, *range(2 + count, 2 + 2 * count), *range(2, 2 + count))
    return permute_dims(x, order)


def both_sides(padding: Sizes) -> list[int]:
    """Equal padding on both sides, in the order of `pad`."""
    return [p for p in reversed(padding) for _ in range(2)]


def seen_by(x: Tensor, tap: Sizes, stride: Sizes, dilation: Sizes, sizes: Sizes) -> Tensor:
    """(N, C, *I) -> what one kernel place sees at each output place: (N, C, *O)."""
    for i, (k, s, d, n) in enumerate(zip(tap, stride, dilation, sizes, strict=True)):
        x = slice_dim(x, 2 + i, k * d, k * d + (n - 1) * s + 1, s)
    return x


def _depthwise(x: Tensor, weight: Tensor, stride: Sizes, dilation: Sizes, sizes: Sizes) -> Tensor:
    """One channel a group: sums of shifted images, which are one loop over the result.

    Along the last dimension every place is computed and some are kept, so that neighbours are read
    together.
    """
    step, last = stride[-1], sizes[-1]
    wide = (*sizes[:-1], (last - 1) * step + 1)
    total = None
    for tap in itertools.product(*map(range, weight._shape[2:])):
        part = seen_by(x, tap, (*stride[:-1], 1), dilation, wide)
        part = part * _tap(weight, tap).view(-1, *(1,) * len(sizes))
        total = part if total is None else total + part
    assert total is not None
    return slice_dim(total, total.ndim - 1, 0, wide[-1], step) if step > 1 else total


def _tap(weight: Tensor, tap: Sizes) -> Tensor:
    """(C, 1, *K) -> the weights of one kernel place (C)."""
    for k in reversed(tap):
        weight = select_dim(weight, weight.ndim - 1, k)
    return select_dim(weight, 1, 0)


def _convolved(
    x: Tensor, weight: Tensor, stride: Sizes, dilation: Sizes, groups: int, sizes: Sizes
) -> Tensor:
    """A convolution without padding: matrix products of the weight and the windows."""
    n, c = x._shape[:2]
    m = weight._shape[0]
    kernel = weight._shape[2:]
    if m == c == groups and math.prod(kernel) <= MOST_TAPS:
        return _depthwise(x, weight, stride, dilation, sizes)
    depth = c // groups * math.prod(kernel)
    columns = windows(x, kernel, stride, dilation)
    columns = columns.reshape(n, groups, depth, math.prod(sizes))
    rows = weight.reshape(groups, m // groups, depth)
    return matmul_batched(rows, columns).reshape(n, m, *sizes)


def _spread(x: Tensor, stride: Sizes) -> Tensor:
    """(N, C, *I) with stride - 1 zeros between neighbours."""
    if all(s == 1 for s in stride):
        return x
    sizes = tuple((n - 1) * s + 1 for n, s in zip(x._shape[2:], stride, strict=True))
    shape = (*x._shape[:2], *sizes)
    zeros = NAMES["zeros"](shape, dtype=x.dtype, device=x.device)
    steps = (1, 1, *stride)
    strides = tuple(s * t for s, t in zip(contiguous_strides(shape), steps, strict=True))
    return assign_region(zeros, x, x._shape, strides, 0)


def _mirrored(weight: Tensor, groups: int) -> Tensor:
    """(C, M / G, *K) -> (M, C / G, *K) with the kernel reversed."""
    c, m = weight._shape[:2]
    kernel = weight._shape[2:]
    parts = weight.reshape(groups, c // groups, m, *kernel)
    parts = permute_dims(parts, (0, 2, 1, *range(3, parts.ndim)))
    parts = parts.reshape(groups * m, c // groups, *kernel)
    return flip(parts, tuple(range(2, parts.ndim)))


@composite(keep=True, method=False)
def convolution(
    input: Tensor,
    weight: Tensor,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
) -> Tensor:
    """Sums of products of a kernel with the parts of an image that it covers.

    Args:
        input: (N, C, *sizes), with one to three sizes.
        weight: (M, C / groups, *kernel), or for the transpose (C, M / groups, *kernel).
        bias: (M), or None.
        stride: steps of the kernel.
        padding: zeros on both sides of each dimension.
        dilation: steps within the kernel.
        transposed: the transpose of the convolution with this weight, that is the gradient of its
            input.
        output_padding: places added at the end of the transpose's result.
        groups: parts that channels are cut into; each part of the result sees one of the input.

    Returns:
        (N, M, *places).

    Raises:
        RuntimeError: shapes or dtypes that do not fit.

    Reference:
        Dumoulin and Visin, A guide to convolution arithmetic for deep learning
        (arXiv:1603.07285).
    """
    stride, padding, dilation, extra, sizes = _fitted(
        input, weight, bias, stride, padding, dilation, transposed, output_padding, groups
    )
    count = len(sizes)
    x, w = widen(input), widen(weight)
    if transposed:
        x, w = _spread(x, stride), _mirrored(w, groups)
        sides: list[int] = []
        for k, p, d, e in zip(w._shape[2:], padding, dilation, extra, strict=True):
            sides[:0] = (d * (k - 1) - p, d * (k - 1) - p + e)
        stride = (1,) * count
    else:
        sides = both_sides(padding)
    if any(sides):
        x = pad(x, sides)
    out = _convolved(x, w, stride, dilation, groups, sizes)
    if bias is not None:
        out = out + widen(bias).view(-1, *(1,) * count)
    return cast(out, input.dtype)


def _fitted(
    input: Tensor, weight: Tensor, bias: Any, stride: Any, padding: Any, dilation: Any,
    transposed: bool, output_padding: Any, groups: int,
) -> tuple[Sizes, ...]:  # fmt: skip
    """The stride, padding, dilation and output padding of each dimension, and the sizes of the
    result.

    Raises:
        RuntimeError: shapes or dtypes that do not fit.
    """
    count = weight.ndim - 2
    if input.ndim != weight.ndim:
        raise RuntimeError(
            f"Expected {weight.ndim}-dimensional input for {weight.ndim}-dimensional weight "
            f"{list(weight.shape)}, but got {input.ndim}-dimensional input of size "
            f"{list(input.shape)} instead"
        )
    stride = _per_dim(stride, count, "stride")
    padding = _per_dim(padding, count, "padding")
    dilation = _per_dim(dilation, count, "dilation")
    extra = _per_dim(output_padding, count, "output_padding")
    _check_numbers(stride, padding, dilation, extra, groups)
    _check_channels(input, weight, bias, transposed, groups)
    _check_dtypes(input, weight, bias)
    sizes = _result_sizes(input, weight, stride, padding, dilation, transposed, extra)
    return stride, padding, dilation, extra, sizes


def _convolution_results(*args: Any) -> list[Any]:
    """The shape and dtype of the result: what computing it asks of sizes is asked for each size."""
    input, weight, *_, transposed, _, groups = args
    channels = weight._shape[1] * groups if transposed else weight._shape[0]
    return [(input._shape[0], channels, *_fitted(*args)[-1]), input.dtype]


convolution.results(_convolution_results)


@composite(keep=True, method=False, public=False)
def convolution_weight_gradient(
    input: Tensor,
    cotangent: Tensor,
    kernel: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
) -> Tensor:
    """The gradient of a convolution's weight.

    Args:
        input: (N, C, *sizes).
        cotangent: (N, M, *places), of the convolution's result.
        kernel: sizes of the kernel.
        stride, padding, dilation, groups: those of the convolution.

    Returns:
        (M, C / groups, *kernel).
    """
    n, c = input._shape[:2]
    m = cotangent._shape[1]
    sizes = cotangent._shape[2:]
    x = pad(widen(input), both_sides(padding)) if any(padding) else widen(input)
    if m == c == groups and math.prod(kernel) <= MOST_TAPS:
        g = _spread(widen(cotangent), (*(1,) * (len(sizes) - 1), stride[-1]))
        step = (*stride[:-1], 1)
        places = (0, *range(2, 2 + len(sizes)))
        parts = [
            sum_axes(seen_by(x, tap, step, dilation, g._shape[2:]) * g, places)
            for tap in itertools.product(*map(range, kernel))
        ]
        return cast(NAMES["stack"](parts, 1).view(m, 1, *kernel), input.dtype)
    seen = windows(x, kernel, stride, dilation)
    for i, size in enumerate(sizes):  # the last places of an image may have no output
        seen = slice_dim(seen, 2 + len(kernel) + i, 0, size, 1)
    rest = math.prod(kernel) * (c // groups)
    seen = seen.reshape(n, groups, rest, math.prod(sizes))
    columns = permute_dims(seen, (1, 0, 3, 2)).reshape(groups, n * math.prod(sizes), rest)
    rows = widen(cotangent).reshape(n, groups, m // groups, math.prod(sizes))
    rows = permute_dims(rows, (1, 2, 0, 3)).reshape(groups, m // groups, n * math.prod(sizes))
    return cast(matmul_batched(rows, columns).reshape(m, c // groups, *kernel), input.dtype)


def _cropped(x: Tensor, shape: Any) -> Tensor:
    """The first `shape` elements along every dimension."""
    for d, n in enumerate(shape):
        if x._shape[d] != n:
            x = slice_dim(x, d, 0, n, 1)
    return x


def _transpose_of(
    g: Tensor, weight: Tensor, shape: Any, stride: Sizes, padding: Sizes, dilation: Sizes,
    groups: int,
) -> Tensor:  # fmt: skip
    """The transpose of the convolution with `weight` of images of `shape`, at g."""
    kernel = tuple(weight.shape)[2:]
    sizes = tuple(g.shape)[2:]
    least = transposed_sizes(sizes, kernel, stride, padding, dilation, (0,) * len(kernel))
    extra = tuple(n - m for n, m in zip(tuple(shape)[2:], least, strict=True))
    return convolution(g, weight, None, stride, padding, dilation, True, extra, groups)


def _sum_over_places(g: Tensor, dtype: Any) -> Tensor:
    return cast(NAMES["sum"](widen(g), (0, *range(2, g.ndim))), dtype)


def _convolution_vjp(
    g: Any, out: Any, input: Any, weight: Any, bias: Any, stride: Any, padding: Any,
    dilation: Any, transposed: bool, output_padding: Any, groups: int,
) -> tuple[Any, ...]:  # fmt: skip
    """See Note [Convolution's gradients]."""
    count = weight.ndim - 2
    stride, padding, dilation = (_per_dim(v, count, "stride") for v in (stride, padding, dilation))
    kernel = tuple(weight.shape)[2:]
    g_input = g_weight = g_bias = None
    if input.requires_grad:
        if transposed:
            g_input = convolution(
                g, weight, None, stride, padding, dilation, False, (0,) * count, groups
            )
            g_input = _cropped(g_input, input.shape)
        else:
            g_input = _transpose_of(g, weight, input.shape, stride, padding, dilation, groups)
    if weight.requires_grad:
        image, places = (g, input) if transposed else (input, g)
        g_weight = convolution_weight_gradient(
            image, places, kernel, stride, padding, dilation, groups
        )
    if bias is not None and bias.requires_grad:
        g_bias = _sum_over_places(g, bias.dtype)
    return (g_input, g_weight, g_bias, None, None, None, None, None, None)


def _batch_of_images(node: Node, src: Any, has: Any, size: int) -> Node | None:
    """Examples that share a kernel are more images; others are taken apart."""
    if not has[0] or any(has[1:]):
        return None
    count, *shape = node.shape
    images = (size * src[0].shape[1], *src[0].shape[2:])
    first = view_node(src[0], images, contiguous_strides(images), 0)
    found = Node(node.op, (first, *src[1:]), node.attrs, (size * count, *shape), node.dtype)
    whole = (size, *node.shape)
    return view_node(found, whole, contiguous_strides(whole), 0)


convolution.batch(_batch_of_images)
convolution.vjp(_convolution_vjp, saves="input weight")


def _flops(node: Any) -> int:
    """A multiply-add for each place of an image, or of a transpose's, and each weight it meets."""
    x, w = node.src[:2]
    return 2 * math.prod((x if node.attrs[6] else node).shape) * math.prod(w.shape[1:])


convolution.flops(_flops)


def _weight_gradient_vjp(
    g: Any, out: Any, input: Any, cotangent: Any, kernel: Any, stride: Any, padding: Any,
    dilation: Any, groups: int,
) -> tuple[Any, ...]:  # fmt: skip
    g_input = g_cotangent = None
    if input.requires_grad:
        g_input = _transpose_of(cotangent, g, input.shape, stride, padding, dilation, groups)
    if cotangent.requires_grad:
        none = (0,) * len(kernel)
        g_cotangent = convolution(input, g, None, stride, padding, dilation, False, none, groups)
        g_cotangent = _cropped(g_cotangent, cotangent.shape)
    return (g_input, g_cotangent, None, None, None, None, None)


convolution_weight_gradient.vjp(_weight_gradient_vjp, saves="input cotangent")
convolution_weight_gradient.flops(
    lambda node: 2 * math.prod(node.src[1].shape) * math.prod(node.shape[1:])
)


# -- torch's functions -----------------------------------------------------------------------------


def _batched(input: Tensor, count: int, name: str) -> tuple[Tensor, bool]:
    """An image with its batch dimension, and whether it was there."""
    if input.ndim not in (count + 1, count + 2):
        raise RuntimeError(
            f"Expected {count + 1}D (unbatched) or {count + 2}D (batched) input to {name}, but "
            f"got input of size: {list(input.shape)}"
        )
    there = input.ndim == count + 2
    return (input if there else input.unsqueeze(0)), there


def _sided(
    input: Tensor, weight: Tensor, stride: Sizes, padding: str, dilation: Sizes, groups: int
) -> tuple[Tensor, Sizes]:
    """The image and the equal padding that a padding given as a word means."""
    kernel = weight._shape[2:]
    if padding == "valid":
        return input, (0,) * len(kernel)
    if padding != "same":
        raise RuntimeError(f"Invalid padding string: '{padding}'")
    if any(s != 1 for s in stride):
        raise RuntimeError("padding='same' is not supported for strided convolutions")
    total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    sides = [v for t in reversed(total) for v in (0, t % 2)]
    if any(sides):  # an odd total is one more at the end
        input = pad(input, sides)
    return input, tuple(t // 2 for t in total)


def _forward(
    count: int, input: Tensor, weight: Tensor, bias: Any, stride: Any, padding: Any,
    dilation: Any, groups: int,
) -> Tensor:  # fmt: skip
    name = f"conv{count}d"
    x, there = _batched(input, count, name)
    dims = weight.ndim - 2
    stride = _per_dim(stride, dims, "stride", name)
    dilation = _per_dim(dilation, dims, "dilation", name)
    if isinstance(padding, str):
        x, padding = _sided(x, weight, stride, padding, dilation, groups)
    else:
        padding = _per_dim(padding, dims, "padding", name)
    out = convolution(x, weight, bias, stride, padding, dilation, False, (0,) * dims, groups)
    return out if there else out.squeeze(0)


def _transposed(
    count: int, input: Tensor, weight: Tensor, bias: Any, stride: Any, padding: Any,
    output_padding: Any, groups: int, dilation: Any,
) -> Tensor:  # fmt: skip
    name = f"conv_transpose{count}d"
    x, there = _batched(input, count, name)
    if isinstance(padding, str):
        raise TypeError(f"{name}(): argument 'padding' must be tuple of ints, not str")
    dims = weight.ndim - 2
    stride = _per_dim(stride, dims, "stride", name)
    padding = _per_dim(padding, dims, "padding", name)
    dilation = _per_dim(dilation, dims, "dilation", name)
    extra = _per_dim(output_padding, dims, "output_padding", name)
    out = convolution(x, weight, bias, stride, padding, dilation, True, extra, groups)
    return out if there else out.squeeze(0)


@composite(method=False, functional=True, autocast="lower")
def conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """Convolution along one dimension.

    Args:
        input: (N, C, L) or (C, L).
        weight: (M, C / groups, K).
        bias: (M), or None.
        stride, padding, dilation, groups: as of `convolution`; padding may also be "valid" (none)
            or "same" (as many places as the image has, for stride 1).

    Returns:
        (N, M, places) or (M, places).

    Raises:
        RuntimeError: shapes or dtypes that do not fit.
    """
    return _forward(1, input, weight, bias, stride, padding, dilation, groups)


@composite(method=False, functional=True, autocast="lower")
def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """Convolution of images: as `conv1d`, with (N, C, H, W) and (M, C / groups, KH, KW)."""
    return _forward(2, input, weight, bias, stride, padding, dilation, groups)


@composite(method=False, functional=True, autocast="lower")
def conv3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """Convolution of volumes: as `conv1d`, with (N, C, D, H, W) and (M, C / groups, KD, KH, KW)."""
    return _forward(3, input, weight, bias, stride, padding, dilation, groups)


@composite(method=False, functional=True, autocast="lower")
def conv_transpose1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """Transposed convolution along one dimension.

    Args:
        input: (N, C, L) or (C, L).
        weight: (C, M / groups, K).
        bias: (M), or None.
        stride, padding, output_padding, groups, dilation: as of `convolution`.

    Returns:
        (N, M, places) or (M, places), with
        places = (L - 1) stride - 2 padding + dilation (K - 1) + output_padding + 1.

    Raises:
        RuntimeError: shapes or dtypes that do not fit.
    """
    return _transposed(1, input, weight, bias, stride, padding, output_padding, groups, dilation)


@composite(method=False, functional=True, autocast="lower")
def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """Transposed convolution of images: as `conv_transpose1d`, with (C, M / groups, KH, KW)."""
    return _transposed(2, input, weight, bias, stride, padding, output_padding, groups, dilation)


@composite(method=False, functional=True, autocast="lower")
def conv_transpose3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """Transposed convolution of volumes: as `conv_transpose1d`, with three sizes each."""
    return _transposed(3, input, weight, bias, stride, padding, output_padding, groups, dilation)
