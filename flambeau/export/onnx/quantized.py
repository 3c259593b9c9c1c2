"""Cells of quantised numbers: QuantizeLinear and DequantizeLinear, and products of 8-bit ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.dtype import dtype as DType
from flambeau.dtype import float32, int8, uint8
from flambeau.export.onnx.builder import Builder
from flambeau.export.onnx.cells import cell
from flambeau.export.onnx.layers import arguments
from flambeau.ir.graph import Node

#: Ranges of integers that ONNX quantises to.
_RANGES: dict[tuple[int, int], DType] = {(-128, 127): int8, (0, 255): uint8}


def _whole(node: Node, used: set[int]) -> bool:
    """Whether the range is that of a dtype, and the zero points are integers."""
    _, _, zero, low, high, _ = arguments(node)
    return (low, high) in _RANGES and zero.dtype.category == 1


@cell("_fake_quantize", when=_whole)
def _fake(b: Builder, node: Node) -> Any:
    x, scale, zero, low, high, axis = arguments(node)
    dtype, along = _RANGES[low, high], 1 if axis is None else axis
    point, step = b.value(zero), b.value(scale)
    known = b.array(point)
    point = b.cast(point, dtype) if known is None else b.constant(known, dtype, "zero_point")
    given = b.value(x) if x.dtype is float32 else b.cast(b.value(x), float32)
    rounded = b.op("QuantizeLinear", given, step, point, axis=along)
    found = b.op("DequantizeLinear", rounded, step, point, axis=along)
    return found if x.dtype is float32 else b.cast(found, x.dtype)


def _some(node: Node, used: set[int]) -> bool:
    """Whether the layer reads anything, so that there is a range."""
    return all(type(n) is not int or n > 0 for n in node.src[0].shape)


@cell("_dynamic_linear", when=_some)
def _dynamic(b: Builder, node: Node) -> Any:
    x, weight, scale, bias = arguments(node)
    given = b.value(x) if x.dtype is float32 else b.cast(b.value(x), float32)
    if len(x.shape) == 1:
        given = b.op("Unsqueeze", given, b.ints([0]))
    q, step, zero = b.op("DynamicQuantizeLinear", given, outputs=3)
    value = b.value(weight)
    known = b.array(value)
    if known is None:
        turned = b.transpose(value, (1, 0))
    else:
        turned = b.constant(np.ascontiguousarray(known.T), int8, f"{value.name}_turned")
    sums = b.cast(b.op("MatMulInteger", q, turned, zero), float32)
    found = b.op("Mul", sums, b.op("Mul", step, b.value(scale)))
    if len(x.shape) == 1:
        found = b.op("Squeeze", found, b.ints([0]))
    if bias is not None:
        own = b.value(bias) if bias.dtype is float32 else b.cast(b.value(bias), float32)
        found = b.op("Add", found, own)
    return found if x.dtype is float32 else b.cast(found, node.dtype)
