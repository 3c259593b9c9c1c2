"""Cells of composite rows that ONNX has an operator for: layers of networks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from flambeau.dtype import bool as bool_dtype
from flambeau.dtype import float32, int32, int64
from flambeau.export.onnx.builder import Builder, known, same
from flambeau.export.onnx.cells import cell
from flambeau.ir.graph import Node
from flambeau.ops.attention import mask_mod
from flambeau.ops.resampling import band
from flambeau.ops.table import HOLE


def arguments(node: Node) -> list[Any]:
    """A composite's arguments: nodes where tensors were."""
    sources = iter(s for s in node.src if type(s) is Node)
    return [next(sources) if a == HOLE else a for a in node.attrs]


def _floats(node: Node, used: set[int]) -> bool:
    """Whether the first source has floating-point numbers."""
    return bool(node.src[0].dtype.category == 2)


# -- activations -----------------------------------------------------------------------------------


@cell("gelu", since=20)
def _gelu(b: Builder, node: Node) -> Any:
    x, *rest = arguments(node)
    return b.op("Gelu", b.value(x), approximate=rest[0] if rest else None)


@cell("silu")
def _silu(b: Builder, node: Node) -> Any:
    x = b.value(node.src[0])
    return b.op("Swish", x) if b.opset >= 24 else b.op("Mul", x, b.op("Sigmoid", x))


def _has_dims(node: Node, used: set[int]) -> bool:
    return bool(node.shape)


def _along_dim(kind: str) -> Callable[[Builder, Node], Any]:
    return lambda b, node: b.op(kind, b.value(node.src[0]), axis=node.attrs[1])


for _name, _kind in (("_softmax", "Softmax"), ("_log_softmax", "LogSoftmax")):
    cell(_name, when=_has_dims)(_along_dim(_kind))


# -- products --------------------------------------------------------------------------------------


@cell("linear", when=lambda node, used: len(node.src[1].shape) == 2)
def _linear(b: Builder, node: Node) -> Any:
    x, weight, *rest = arguments(node)
    bias = rest[0] if rest else None
    if len(x.shape) == 2 and x.dtype.category == 2:
        return b.op(
            "Gemm", b.value(x), b.value(weight), None if bias is None else b.value(bias), transB=1
        )
    turned = b.transpose(b.value(weight), (1, 0))
    found = b.op("MatMul", b.value(x), turned)
    return found if bias is None else b.op("Add", found, b.value(bias))


@cell("_embedding")
def _embedding(b: Builder, node: Node) -> Any:
    return b.op("Gather", b.value(node.src[0]), b.value(node.src[1]), axis=0)


# -- convolution -----------------------------------------------------------------------------------


def _spread(given: Any, count: int) -> list[int]:
    found = [given] if isinstance(given, int) else list(given)
    return found * count if len(found) == 1 else found


def _convolvable(node: Node, used: set[int]) -> bool:
    stride, transposed, extra = (node.attrs[k] for k in (3, 6, 7))
    count = len(node.shape) - 2
    longer = zip(_spread(extra, count), _spread(stride, count), strict=True)
    if transposed and any(e >= s for e, s in longer):
        return False
    return node.dtype.category == 2 and not any(known(n) and n == 0 for n in node.src[0].shape)


@cell("convolution", when=_convolvable)
def _convolution(b: Builder, node: Node) -> Any:
    x, weight, bias, stride, padding, dilation, transposed, extra, groups = arguments(node)
    count = len(weight.shape) - 2
    pads = _spread(padding, count)
    return b.op(
        "ConvTranspose" if transposed else "Conv",
        b.value(x),
        b.value(weight),
        None if bias is None else b.value(bias),
        kernel_shape=list(weight.shape[2:]),
        strides=_spread(stride, count),
        pads=[*pads, *pads],
        dilations=_spread(dilation, count),
        group=groups,
        output_padding=_spread(extra, count) if transposed else None,
    )


def _unpadded(node: Node, used: set[int]) -> bool:
    return all(map(known, node.shape[2:]))


@cell("col2im", when=_unpadded)
def _col2im(b: Builder, node: Node) -> Any:
    x, sizes, kernel, dilation, padding, stride = arguments(node)
    return b.op(
        "Col2Im", b.value(x), b.ints(sizes), b.ints(kernel), dilations=list(dilation),
        pads=[*padding, *padding], strides=list(stride),
    )  # fmt: skip


# -- normalization ---------------------------------------------------------------------------------


def _ones(b: Builder, x: Node, sizes: Any) -> Any:
    return b.constant(np.ones(sizes), x.dtype, "ones")


@cell("_native_layer_norm", when=lambda node, used: all(map(known, node.attrs[1])))
def _layer_norm(b: Builder, node: Node) -> Any:
    x, sizes, weight, bias, eps = arguments(node)[:5]
    used = b.used.get(node, {0})
    found = b.op(
        "LayerNormalization",
        b.value(x),
        _ones(b, x, sizes) if weight is None else b.value(weight),
        None if bias is None else b.value(bias),
        outputs=1 + max(used, default=0),
        axis=-len(sizes),
        epsilon=float(eps),
    )
    return found if isinstance(found, tuple) else (found,)


@cell(
    "_fused_rms_norm",
    since=23,
    when=lambda node, used: used <= {0} and all(map(known, node.attrs[1])),
)
def _rms_norm(b: Builder, node: Node) -> Any:
    x, sizes, weight, eps = arguments(node)[:4]
    scale = _ones(b, x, sizes) if weight is None else b.value(weight)
    return (b.op("RMSNormalization", b.value(x), scale, axis=-len(sizes), epsilon=float(eps)),)


def _grouping(node: Node, used: set[int]) -> bool:
    x = node.src[0]
    return used <= {0} and x.dtype.category == 2 and len(x.shape) > 2 and known(x.shape[1])


@cell(
    "_native_group_norm",
    when=lambda node, used: _grouping(node, used) and node.attrs[1] == node.src[0].shape[1],
)
def _instance_norm(b: Builder, node: Node) -> Any:
    x, groups, weight, bias, eps = arguments(node)[:5]
    scale = _ones(b, x, groups) if weight is None else b.value(weight)
    shift = b.constant(np.zeros(groups), x.dtype, "zeros") if bias is None else b.value(bias)
    return (b.op("InstanceNormalization", b.value(x), scale, shift, epsilon=float(eps)),)


@cell("_native_group_norm", since=21, when=_grouping)
def _group_norm(b: Builder, node: Node) -> Any:
    x, groups, weight, bias, eps = arguments(node)[:5]
    count = x.shape[1]
    scale = _ones(b, x, count) if weight is None else b.value(weight)
    shift = b.constant(np.zeros(count), x.dtype, "zeros") if bias is None else b.value(bias)
    return (
        b.op("GroupNormalization", b.value(x), scale, shift, num_groups=groups, epsilon=float(eps)),
    )


# -- pooling ---------------------------------------------------------------------------------------


def _ends(window: Any) -> int | None:
    """Padding behind a dimension, with which MaxPool has the results that the window has."""
    size, count, kernel, stride, padding, dilation = window
    reach = dilation * (kernel - 1) + 1
    if known(size):
        return max((count - 1) * stride + reach - size - padding, 0)
    plain = (size + 2 * padding - reach) // stride + 1
    return padding if same(plain, count) else None


def _poolable(node: Node, used: set[int]) -> bool:
    windows = node.attrs[1]
    return node.dtype.category == 2 and all(_ends(w) is not None for w in windows)


@cell("_max_pool", when=_poolable)
def _max_pool(b: Builder, node: Node) -> Any:
    """Planes are one channel each; dimensions that no window moves along are left out."""
    x, windows = arguments(node)[:2]
    used = b.used.get(node, {0})
    first = next((k for k, w in enumerate(windows) if w[:4] != (1, 1, 1, 1) or w[4]), 2)
    chosen = windows[first:]
    planes = b.reshape(b.value(x), [x.shape[0], 1, *x.shape[1 + first :]])
    found = b.op(
        "MaxPool",
        planes,
        outputs=2 if 1 in used else 1,
        kernel_shape=[w[2] for w in chosen],
        strides=[w[3] for w in chosen],
        pads=[w[4] for w in chosen] + [_ends(w) or 0 for w in chosen],
        dilations=[w[5] for w in chosen],
    )
    shape = [x.shape[0], *(w[1] for w in windows)]
    if not isinstance(found, tuple):
        return (b.reshape(found, shape),)
    values, places = found
    area = b.number(x.shape[1] * x.shape[2] * x.shape[3], int64)  # ONNX counts through all planes
    places = b.cast(b.op("Mod", b.reshape(places, shape), area), node.attrs[-1][1][1])
    return b.reshape(values, shape), places


# -- sums over windows -----------------------------------------------------------------------------

#: Modes of interpolation -> Resize's: (mode, how coordinates are taken, how they are rounded).
_MODES = {
    "nearest": ("nearest", "asymmetric", "floor"),
    "nearest-exact": ("nearest", "half_pixel", "round_prefer_ceil"),
    "linear": ("linear", "half_pixel", None),
    "cubic": ("cubic", "half_pixel", None),
}


def _pooled(node: Node, used: set[int]) -> bool:
    first, second, transposed = node.attrs[5]
    return _floats(node, used) and not transposed and {first[0], second[0]} <= {"same", "windows"}


@cell("_resample", when=_pooled)
def _window_sums(b: Builder, node: Node) -> Any:
    """The mean of each window, times its places."""
    x, how = node.src[0], node.attrs[5]
    windows = [w if w[0] == "windows" else ("windows", w[1], w[1], 1, 1, 0) for w in how[:2]]
    given = b.op("Unsqueeze", b.value(x), b.ints([1]))
    mean = b.op(
        "AveragePool",
        given,
        kernel_shape=[w[3] for w in windows],
        strides=[w[4] for w in windows],
        pads=[w[5] for w in windows] + [_ends((*w[1:], 1)) or 0 for w in windows],
        count_include_pad=1,
    )
    area = b.number(windows[0][3] * windows[1][3], x.dtype)
    return (b.op("Mul", b.op("Squeeze", mean, b.ints([1])), area),)


def _from_sizes(key: Any) -> bool:
    """Whether places follow from the sizes alone, not from a factor that was given."""
    return key[0] == "same" or key[4] or abs(key[3] * key[2] - key[1]) <= 1e-6 * key[1]


def _scale_of(key: Any) -> float:
    """Resize's factor of a dimension."""
    return 1.0 if key[0] == "same" else float(np.float32(1 / key[3]))


def _interpolated(node: Node, used: set[int]) -> bool:
    first, second, transposed = node.attrs[5]
    changed = [key for key in (first, second) if key[0] != "same"]
    if transposed or not _floats(node, used) or not all(key[0] in _MODES for key in changed):
        return False
    if len({(key[0], key[4]) for key in changed}) != 1:
        return False
    exact = all(math.floor(key[1] * _scale_of(key)) == key[2] for key in changed)
    return exact or all(map(_from_sizes, changed))


@cell("_resample", when=_interpolated)
def _resize(b: Builder, node: Node) -> Any:
    x, keys = node.src[0], node.attrs[5][:2]
    kind, _, _, _, align = next(key for key in keys if key[0] != "same")
    mode, places, rounding = _MODES[kind]
    scales = sizes = None
    if all(map(_from_sizes, keys)):
        sizes = b.sizes([x.shape[0], 1, *node.attrs[-1][0][0][1:]])
    else:
        scales = b.constant([1, 1, *map(_scale_of, keys)], float32)
    found = b.op(
        "Resize",
        b.op("Unsqueeze", b.value(x), b.ints([1])),
        None,
        scales,
        sizes,
        mode=mode,
        coordinate_transformation_mode="align_corners" if align else places,
        nearest_mode=rounding,
        cubic_coeff_a=-0.75 if mode == "cubic" else None,
    )
    return (b.op("Squeeze", found, b.ints([1])),)


@cell("_resample", when=_floats)
def _band_products(b: Builder, node: Node) -> Any:
    """Windows of other forms: products with the matrices that they are."""
    x, (first, second, transposed) = node.src[0], node.attrs[5]
    found = b.value(x)
    if second[0] != "same":
        found = b.op("MatMul", found, b.constant(_matrix(second, transposed).T, x.dtype))
    if first[0] != "same":
        found = b.op("MatMul", b.constant(_matrix(first, transposed), x.dtype), found)
    return (b.op("Identity", found) if found is b.value(x) else found,)


def _matrix(key: Any, transposed: bool) -> Any:
    """(results, elements): what each element weighs in each result of a dimension."""
    found = band(key, transposed)
    size = key[2] if transposed and len(key) > 2 else key[1]
    matrix = np.zeros((len(found.starts), size))
    for row, (start, count) in enumerate(zip(found.starts, found.counts, strict=True)):
        matrix[row, start : start + count] = found.weights[row, :count]
    return matrix


# -- attention -------------------------------------------------------------------------------------


def _masked_at_most(node: Node, used: set[int]) -> bool:
    """Whether scores are only scaled and masked, and nothing but the result is read."""
    how = node.attrs[3]
    mods = [m for m in (how.score, how.mask) if m is not None]
    if how.keep is not None or how.blocks is not None or len(mods) > 1 or used > {0}:
        return False
    if any(known(n) and n == 0 for s in node.src[:3] for n in s.shape):
        return False
    return all(
        m == mask_mod(node.src[3].shape, node.src[3].dtype, m.score)
        and (m is how.mask) == (node.src[3].dtype is bool_dtype)
        for m in mods
    )


def _seen(b: Builder, mask: Node, query: Node, found: Any) -> Any:
    """Results with 0 for queries that see no key."""
    given, last = b.value(mask), b.ints([-1])
    if mask.dtype is bool_dtype:
        some = b.cast(b.op("ReduceMax", b.cast(given, int32), last), bool_dtype)
    else:
        top = b.op("ReduceMax", given, last)
        some = b.op("Greater", top, b.number(-math.inf, mask.dtype))
    return b.where(some, found, b.number(0, query.dtype))


@cell("_attention", since=23, when=_masked_at_most)
def _attention(b: Builder, node: Node) -> Any:
    query, key, value, how, *rest = arguments(node)
    mask = rest[0] if rest and isinstance(rest[0], Node) else None
    found = b.op(
        "Attention", *(b.value(x) for x in (query, key, value)), _mask_of(b, mask, query),
        is_causal=int(how.causal), scale=float(how.scale),
    )  # fmt: skip
    return (found if mask is None else _seen(b, mask, query, found),)


def _one_head_each(node: Node, used: set[int]) -> bool:
    return same(node.src[0].shape[1], node.src[1].shape[1]) and _masked_at_most(node, used)


@cell("_attention", when=_one_head_each)
def _softmax_attention(b: Builder, node: Node) -> Any:
    query, key, value, how, *rest = arguments(node)
    mask = rest[0] if rest and isinstance(rest[0], Node) else None
    scores = b.op("MatMul", b.value(query), b.transpose(b.value(key), (0, 1, 3, 2)))
    scores = b.op("Mul", scores, b.number(how.scale, query.dtype))
    if how.causal:
        rows = b.op("Unsqueeze", b.count(query.shape[2]), b.ints([1]))
        below = b.op("LessOrEqual", b.count(key.shape[2]), rows)
        scores = b.where(below, scores, b.number(-math.inf, query.dtype))
    if mask is not None and mask.dtype is bool_dtype:
        scores = b.where(b.value(mask), scores, b.number(-math.inf, query.dtype))
    elif mask is not None:
        scores = b.op("Add", scores, _mask_of(b, mask, query))
    found = b.op("MatMul", b.op("Softmax", scores, axis=-1), b.value(value))
    return (found if mask is None else _seen(b, mask, query, found),)


def _mask_of(b: Builder, mask: Node | None, query: Node) -> Any:
    """A mask, numbers in the dtype of the scores."""
    if mask is None:
        return None
    plain = mask.dtype in (bool_dtype, query.dtype)
    return b.value(mask) if plain else b.cast(b.value(mask), query.dtype)


__all__ = ["arguments"]
