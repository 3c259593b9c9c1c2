"""What ONNX's operators of networks do: products, convolution, pooling, norms, losses, control."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

import flambeau
from flambeau.control import cond, scan, while_loop
from flambeau.dtype import bool as bool_dtype
from flambeau.dtype import int32
from flambeau.export.onnx.reading import (
    OPERATORS,
    Known,
    Node,
    OnnxImportError,
    ints,
    number,
    operator,
    tensor,
)
from flambeau.tensor import Tensor

F = flambeau.nn.functional

# -- products --------------------------------------------------------------------------------------


@operator("MatMul")
def _matmul(node: Node, x: Any, y: Any) -> Any:
    return flambeau.matmul(tensor(x), tensor(y))


@operator("MatMulInteger")
def _integer(node: Node, x: Any, y: Any, x_zero: Any = None, y_zero: Any = None) -> Any:
    left, right = (tensor(v).to(int32) for v in (x, y))
    left = left if x_zero is None else left - tensor(x_zero).to(int32)
    right = right if y_zero is None else right - tensor(y_zero).to(int32)
    return flambeau.matmul(left, right)


@operator("Gemm")
def _gemm(node: Node, a: Any, b: Any, c: Any = None) -> Any:
    x, y, bias = tensor(a), tensor(b), None if c is None else tensor(c)
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    if node.get("transA", 0):
        x = x.t()
    vector = bias is None or bias.ndim == 1
    if node.get("transB", 0) and alpha == beta == 1 and vector:
        return F.linear(x, y, bias)
    found = flambeau.matmul(x, y.t() if node.get("transB", 0) else y)
    found = found if alpha == 1 else found * alpha
    return found if bias is None else found + (bias if beta == 1 else bias * beta)


@operator("Einsum")
def _einsum(node: Node, *xs: Any) -> Any:
    return flambeau.einsum(node.get("equation"), *map(tensor, xs))


# -- convolution and pooling -----------------------------------------------------------------------


def _window(node: Node, rank: int) -> tuple[list[int], list[int], list[int]]:
    strides = list(node.get("strides") or [1] * rank)
    dilations = list(node.get("dilations") or [1] * rank)
    return strides, dilations, list(node.get("pads") or [0] * (2 * rank))


def _padded(node: Node, x: Tensor, kernel: Any, fill: float) -> tuple[Tensor, list[int]]:
    """The input, padded where the two sides of a dimension differ, and the padding that is left."""
    rank = len(kernel)
    strides, dilations, pads = _window(node, rank)
    how = node.get("auto_pad", "NOTSET")
    if how in ("SAME_UPPER", "SAME_LOWER"):
        for d in range(rank):
            n = x.shape[2 + d]
            more = (-(-n // strides[d]) - 1) * strides[d] + (kernel[d] - 1) * dilations[d] + 1 - n
            more = max(more, 0)
            small = more // 2
            pads[d], pads[rank + d] = (
                (small, more - small) if how == "SAME_UPPER" else (more - small, small)
            )
    elif how == "VALID":
        pads = [0] * (2 * rank)
    if pads[:rank] == pads[rank:]:
        return x, pads[:rank]
    given = [n for d in range(rank - 1, -1, -1) for n in (pads[d], pads[rank + d])]
    return F.pad(x, given, value=fill), [0] * rank


@operator("Conv")
def _conv(node: Node, x: Any, weight: Any, bias: Any = None) -> Any:
    x, w = tensor(x), tensor(weight)
    kernel = tuple(w.shape)[2:]
    strides, dilations, _ = _window(node, len(kernel))
    x, padding = _padded(node, x, kernel, 0.0)
    call = (F.conv1d, F.conv2d, F.conv3d)[len(kernel) - 1]
    shift = None if bias is None else tensor(bias)
    return call(x, w, shift, strides, padding, dilations, node.get("group", 1))


@operator("ConvTranspose")
def _conv_transpose(node: Node, x: Any, weight: Any, bias: Any = None) -> Any:
    x, w = tensor(x), tensor(weight)
    rank = w.ndim - 2
    strides, dilations, pads = _window(node, rank)
    if node.get("output_shape") or node.get("auto_pad", "NOTSET") != "NOTSET":
        raise OnnxImportError("output_shape and auto_pad are not read")
    call = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[rank - 1]
    shift = None if bias is None else tensor(bias)
    extra = list(node.get("output_padding") or [0] * rank)
    least = [min(pair) for pair in zip(pads[:rank], pads[rank:], strict=True)]
    found = call(x, w, shift, strides, least, extra, node.get("group", 1), dilations)
    for d, (m, low, high) in enumerate(zip(least, pads[:rank], pads[rank:], strict=True), 2):
        if low != high:  # one side is cut off afterwards
            found = found.narrow(d, low - m, found.shape[d] - (low - m) - (high - m))
    return found


@operator("MaxPool")
def _max_pool(node: Node, x: Any) -> Any:
    x, kernel = tensor(x), list(node.get("kernel_shape"))
    rank = len(kernel)
    strides, dilations, _ = _window(node, rank)
    area = math.prod(x.shape[2:])
    whole, padding = _padded(node, x, kernel, -math.inf)
    many = len(node.outputs) > 1
    if many and whole is not x:
        raise OnnxImportError("places under padding that differs on two sides are not read")
    call = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[rank - 1]
    ceil = bool(node.get("ceil_mode", 0))
    found = call(whole, kernel, strides, padding, dilations, ceil, return_indices=many)
    if not many:
        return found
    values, places = found
    planes = x.shape[0] * x.shape[1]
    first = (flambeau.arange(planes) * area).reshape(x.shape[0], x.shape[1], *[1] * rank)
    return values, places + first


@operator("AveragePool")
def _average_pool(node: Node, x: Any) -> Any:
    x, kernel = tensor(x), list(node.get("kernel_shape"))
    strides, dilations, pads = _window(node, len(kernel))
    counted = bool(node.get("count_include_pad", 0))
    rank = len(kernel)
    if any(d != 1 for d in dilations):
        raise OnnxImportError("windows with gaps are not read")
    if (pads[:rank] != pads[rank:] or node.get("auto_pad", "NOTSET") != "NOTSET") and not counted:
        ones, _ = _padded(node, flambeau.ones_like(x), kernel, 0.0)
        whole, _ = _padded(node, x, kernel, 0.0)
        call = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[rank - 1]
        return call(whole, kernel, strides) / call(ones, kernel, strides)
    whole, padding = _padded(node, x, kernel, 0.0)
    call = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[rank - 1]
    return call(whole, kernel, strides, padding, bool(node.get("ceil_mode", 0)), counted)


@operator("GlobalAveragePool")
def _global_average(node: Node, x: Any) -> Any:
    x = tensor(x)
    return x.mean(tuple(range(2, x.ndim)), True)


@operator("GlobalMaxPool")
def _global_max(node: Node, x: Any) -> Any:
    x = tensor(x)
    return x.amax(tuple(range(2, x.ndim)), True)


def _root_of_powers(x: Tensor, p: float) -> Tensor:
    return x.sqrt() if p == 2 else x ** (1 / p)


@operator("LpPool")
def _power_pool(node: Node, x: Any) -> Any:
    x, kernel, p = tensor(x), list(node.get("kernel_shape")), float(node.get("p", 2))
    strides, dilations, _ = _window(node, len(kernel))
    if any(d != 1 for d in dilations):
        raise OnnxImportError("windows with gaps are not read")
    whole, padding = _padded(node, x.abs() ** p, kernel, 0.0)
    call = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[len(kernel) - 1]
    found = call(whole, kernel, strides, padding, bool(node.get("ceil_mode", 0)), True)
    return _root_of_powers(found * math.prod(kernel), p)


@operator("GlobalLpPool")
def _global_power(node: Node, x: Any) -> Any:
    x, p = tensor(x), float(node.get("p", 2))
    return _root_of_powers((x.abs() ** p).sum(tuple(range(2, x.ndim)), True), p)


@operator("GridSample")
def _grid_sample(node: Node, x: Any, grid: Any) -> Any:
    mode = node.get("mode", "linear")
    kind = {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode)
    outside, corners = node.get("padding_mode", "zeros"), bool(node.get("align_corners", 0))
    return F.grid_sample(tensor(x), tensor(grid), kind, outside, corners)


@operator("Col2Im")
def _col2im(node: Node, x: Any, sizes: Any, kernel: Any) -> Any:
    shape, block = ints(sizes), ints(kernel)
    strides, dilations, pads = _window(node, len(block))
    if len(block) != 2 or pads[:2] != pads[2:]:
        raise OnnxImportError("only images with equal padding on both sides are read")
    return F.fold(tensor(x), shape, block, dilations, pads[:2], strides)


@operator("Resize", numbers=(1, 2))
def _resize(node: Node, x: Any, roi: Any = None, scales: Any = None, sizes: Any = None) -> Any:
    x = tensor(x)
    mode, places = (
        node.get("mode", "nearest"),
        node.get("coordinate_transformation_mode", "half_pixel"),
    )
    kinds = {("nearest", "asymmetric"): "nearest", ("nearest", "half_pixel"): "nearest-exact"}
    rank = x.ndim - 2
    if mode == "nearest":
        wanted = {"nearest": "floor", "nearest-exact": "round_prefer_ceil"}
        kind = kinds.get((mode, places), "")
        if wanted.get(kind) != node.get("nearest_mode", "round_prefer_floor"):
            raise OnnxImportError("this way of rounding places is not read")
    elif places in ("half_pixel", "align_corners", "pytorch_half_pixel"):
        kind = {"linear": ("linear", "bilinear", "trilinear")[rank - 1], "cubic": "bicubic"}[mode]
    else:
        raise OnnxImportError(f"places {places!r} of mode {mode!r} are not read")
    if node.get("axes") or node.get("antialias", 0) or node.get("exclude_outside", 0):
        raise OnnxImportError("axes, antialias and exclude_outside are not read")
    options: dict[str, Any] = {"mode": kind}
    if mode != "nearest":
        options["align_corners"] = places == "align_corners"
    if sizes is not None:
        return F.interpolate(x, ints(sizes)[2:], **options)
    if not isinstance(scales, Known):
        raise OnnxImportError("scales depend on the values of inputs")
    factors = [float(n) for n in scales.array.reshape(-1)[2:]]
    return F.interpolate(x, scale_factor=factors, recompute_scale_factor=False, **options)


# -- normalization ---------------------------------------------------------------------------------


@operator("BatchNormalization")
def _batch_norm(node: Node, x: Any, scale: Any, shift: Any, mean: Any, var: Any) -> Any:
    if node.get("training_mode", 0):
        raise OnnxImportError("training is not read")
    return F.batch_norm(
        tensor(x), tensor(mean), tensor(var), tensor(scale), tensor(shift),
        eps=node.get("epsilon", 1e-5),
    )  # fmt: skip


@operator("InstanceNormalization")
def _instance_norm(node: Node, x: Any, scale: Any, shift: Any) -> Any:
    eps = node.get("epsilon", 1e-5)
    return F.instance_norm(tensor(x), weight=tensor(scale), bias=tensor(shift), eps=eps)


@operator("GroupNormalization")
def _group_norm(node: Node, x: Any, scale: Any, shift: Any) -> Any:
    if node.opset < 21:
        raise OnnxImportError("before opset 21 it scales groups and not channels")
    eps = node.get("epsilon", 1e-5)
    return F.group_norm(tensor(x), node.get("num_groups"), tensor(scale), tensor(shift), eps)


@operator("LayerNormalization")
def _layer_norm(node: Node, x: Any, scale: Any, shift: Any = None) -> Any:
    x, w = tensor(x), tensor(scale)
    shape = tuple(x.shape)[node.get("axis", -1) :]
    w = w if tuple(w.shape) == shape else w.expand(*shape)
    bias = None if shift is None else tensor(shift).expand(*shape)
    return tuple(flambeau.native_layer_norm(x, shape, w, bias, node.get("epsilon", 1e-5)))


@operator("RMSNormalization")
def _rms_norm(node: Node, x: Any, scale: Any) -> Any:
    x = tensor(x)
    shape = tuple(x.shape)[node.get("axis", -1) :]
    return F.rms_norm(x, shape, tensor(scale).expand(*shape), node.get("epsilon", 1e-5))


@operator("LRN")
def _local_response(node: Node, x: Any) -> Any:
    size = node.get("size")
    options = node.get("alpha", 1e-4), node.get("beta", 0.75), node.get("bias", 1.0)
    return F.local_response_norm(tensor(x), size, *options)


@operator("LpNormalization")
def _power_norm(node: Node, x: Any) -> Any:
    x, p, axis = tensor(x), node.get("p", 2), node.get("axis", -1)
    size = x.abs().sum(axis, True) if p == 1 else (x * x).sum(axis, True).sqrt()
    return flambeau.where(size == 0, 0.0, x / size)


@operator("MeanVarianceNormalization")
def _mean_variance(node: Node, x: Any) -> Any:
    x, axes = tensor(x), list(node.get("axes") or (0, 2, 3))
    return (x - x.mean(axes, True)) / (x.std(axes, False, True) + 1e-9)


@operator("NegativeLogLikelihoodLoss")
def _nll(node: Node, x: Any, target: Any, weight: Any = None) -> Any:
    given = None if weight is None else tensor(weight)
    left_out, reduction = node.get("ignore_index", -100), node.get("reduction", "mean")
    places = tensor(target).long()
    return F.nll_loss(tensor(x), places, given, ignore_index=left_out, reduction=reduction)


@operator("SoftmaxCrossEntropyLoss")
def _cross_entropy(node: Node, x: Any, target: Any, weight: Any = None) -> Any:
    likely = flambeau.log_softmax(tensor(x), 1)
    return _nll(node, likely, target, weight), likely


# -- attention -------------------------------------------------------------------------------------


@operator("Attention")
def _attention(node: Node, q: Any, k: Any, v: Any, mask: Any = None, *rest: Any) -> Any:
    query, key, value = (tensor(x) for x in (q, k, v))
    if rest or node.get("softcap", 0.0) or query.ndim != 4 or len(node.outputs) > 1:
        raise OnnxImportError("only attention of 4-D tensors without a past is read")
    given = None if mask is None else tensor(mask)
    causal = bool(node.get("is_causal", 0))
    if given is not None and causal:
        raise OnnxImportError("a mask beside is_causal is not read")
    grouped = query.shape[1] != key.shape[1]
    return F.scaled_dot_product_attention(
        query, key, value, given, 0.0, causal, node.get("scale"), enable_gqa=grouped
    )


# -- control ---------------------------------------------------------------------------------------


@operator("Scan")
def _scan(node: Node, *given: Any) -> Any:
    body, slices = node.get("body"), node.get("num_scan_inputs")
    count = len(given) - slices
    axes = {*(node.get("scan_input_axes") or [0] * slices)}
    ways = {*(node.get("scan_input_directions") or [0] * slices)}
    results = len(node.outputs) - count
    axes |= {*(node.get("scan_output_axes") or [0] * results)}
    ways |= {*(node.get("scan_output_directions") or [0] * results)}
    if len(axes) != 1 or len(ways) != 1:
        raise OnnxImportError("inputs of several axes or directions are not read")
    (axis,), (way,) = axes, ways

    def step(states: Any, parts: Any) -> Any:
        found = [tensor(v) for v in body(node.scope, [*states, *parts])]
        return tuple(found[:count]), tuple(found[count:])

    states = tuple(tensor(v) for v in given[:count])
    parts = tuple(tensor(v) for v in given[count:])
    last, found = scan(step, states, parts, dim=axis, reverse=bool(way))
    return (*last, *(x.movedim(0, axis) for x in found))


@operator("If")
def _if(node: Node, condition: Any) -> Any:
    def branch(name: str) -> tuple[Tensor, ...]:
        return tuple(tensor(v) for v in node.get(name)(node.scope, ()))

    yes, no = (functools.partial(branch, f"{word}_branch") for word in ("then", "else"))
    return cond(tensor(condition), yes, no)


@operator("Loop")
def _loop(node: Node, most: Any = None, first: Any = None, *given: Any) -> Any:
    body = node.get("body")
    starts = tuple(tensor(v) for v in given)
    if isinstance(most, Known) and _goes_on(node, first) and number(most) > 0:
        return _counted(node, number(most), starts)
    if len(node.outputs) != len(given):
        raise OnnxImportError("results of every step of a Loop that a value ends are not read")
    again = flambeau.tensor(True) if first is None else tensor(first).reshape(())

    def more(n: Any, again: Any, *_: Any) -> Any:
        return again if most is None else again.logical_and(n < tensor(most).reshape(()))

    def step(n: Any, again: Any, *states: Any) -> Any:
        going, *found = (tensor(v) for v in body(node.scope, [n, again, *states]))
        return n + 1, going.reshape(()), *found

    return tuple(while_loop(more, step, (flambeau.tensor(0), again, *starts))[2:])


def _goes_on(node: Node, first: Any) -> bool:
    """Whether a Loop's condition is true at first and stays so, whatever its steps compute."""
    body = node.get("body")
    made = {name: n for n in body.nodes for name in n.outputs}
    name = body.outputs[0]
    while name in made and made[name].kind == "Identity":
        name = made[name].inputs[0]
    constant = OPERATORS["Constant"](made[name]) if name in made and made[name].kind == (
        "Constant"
    ) else node.scope.get(name)  # fmt: skip
    true = [v is None or (isinstance(v, Known) and bool(v.array)) for v in (first, constant)]
    return true[0] and (name == body.inputs[1] or (constant is not None and true[1]))


def _counted(node: Node, count: Any, starts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """A Loop of so many steps, as a scan over their numbers, which has gradients."""
    body, true = node.get("body"), Known(np.array(True), bool_dtype)

    def step(states: Any, k: Any) -> Any:
        _, *found = (tensor(v) for v in body(node.scope, [k, true, *states]))
        return tuple(found[: len(starts)]), tuple(found[len(starts) :])

    last, found = scan(step, starts, flambeau.arange(count))
    return (*last, *found)


# -- quantised numbers -----------------------------------------------------------------------------


def _along(x: Any, values: Any, axis: int) -> Any:
    """The value of a tensor, or one for each index of a dimension, as it is broadcast to x."""
    found = tensor(values)
    if found.ndim == 0 or found.numel() == 1:
        return found.reshape(())
    return found.reshape([-1 if d == axis % x.ndim else 1 for d in range(x.ndim)])


@operator("QuantizeLinear")
def _quantize(node: Node, x: Any, scale: Any, zero: Any = None) -> Any:
    given, axis = tensor(x), node.get("axis", 1)
    dtype = flambeau.uint8 if zero is None else tensor(zero).dtype
    found = (given / _along(given, scale, axis)).round()
    if zero is not None:
        found = found + _along(given, zero, axis).to(found.dtype)
    span = flambeau.iinfo(dtype)
    return found.clamp(span.min, span.max).to(dtype)


@operator("DequantizeLinear")
def _dequantize(node: Node, x: Any, scale: Any, zero: Any = None) -> Any:
    given, axis = tensor(x), node.get("axis", 1)
    step = _along(given, scale, axis)
    found = given.to(step.dtype)
    if zero is not None:
        found = found - _along(given, zero, axis).to(step.dtype)
    return found * step


@operator("DynamicQuantizeLinear")
def _dynamic(node: Node, x: Any) -> Any:
    given = tensor(x)
    low, high = given.amin().clamp(max=0.0), given.amax().clamp(min=0.0)
    step = flambeau.where(high > low, (high - low) / 255.0, 1.0)
    zero = (-low / step).round().clamp(0, 255)
    found = ((given / step).round() + zero).clamp(0, 255)
    return found.to(flambeau.uint8), step, zero.to(flambeau.uint8)
