"""Products and roundings of quantised numbers: `x` is about `(q - zero_point) * scale`, q integer.

Reference:
    Jacob et al., Quantization and training of neural networks for efficient integer-arithmetic-only
    inference (arXiv:1712.05877).
"""

from __future__ import annotations

from typing import Any

from flambeau.dtype import float32, float64, int8, int32
from flambeau.ops.activation import floats_only
from flambeau.ops.conversion import to_dtype
from flambeau.ops.creation import full
from flambeau.ops.movement import sum_to
from flambeau.ops.precision import cast, widen
from flambeau.ops.products import _int_mm
from flambeau.ops.rows import NAMES
from flambeau.ops.table import composite
from flambeau.tensor import Tensor

_LEVELS = 255.0
"""Steps between the least and the greatest value of 8 bits."""


def _quantised(
    input: Tensor, scale: Tensor, zero_point: Tensor, axis: int | None
) -> tuple[Tensor, Tensor, Tensor]:
    """What values are before they are cut to a range, with scale and zero point broadcast."""
    if axis is not None:
        shape = [1] * input.ndim
        shape[axis] = -1
        scale, zero_point = scale.reshape(shape), zero_point.reshape(shape)
    x, zero = widen(input), cast(zero_point, float32)
    return NAMES["round"](x * (1.0 / scale)) + zero, scale, zero


@composite(keep=True, method=False, public=False)
def _fake_quantize(
    input: Tensor,
    scale: Tensor,
    zero_point: Tensor,
    quant_min: int,
    quant_max: int,
    axis: int | None,
) -> Tensor:
    """Rounded to quantised numbers and back: (clamp(round(x / scale) + zero, min, max) - zero) *
    scale, with the scale and zero point of a tensor, or of each index of dimension `axis`."""
    q, scale, zero = _quantised(input, scale, zero_point, axis)
    return cast(cast(q.clamp(quant_min, quant_max) - zero, float32) * scale, input.dtype)


def _fake_quantize_vjp(
    g: Any, out: Any, input: Any, scale: Any, zero: Any, low: int, high: int, axis: int | None
) -> tuple[Any, ...]:
    """Straight through where nothing was cut off."""
    q = _quantised(input, scale, zero, axis)[0]
    inside = (q >= low).logical_and(q <= high)
    return NAMES["where"](inside, g, 0.0), None, None, None, None, None


_fake_quantize.vjp(_fake_quantize_vjp, saves="input scale zero_point")
_fake_quantize.row.departs = True


def _range(name: str, quant_min: int, quant_max: int) -> None:
    if quant_min > quant_max:
        raise RuntimeError(
            "`quant_min` should be less than or equal to `quant_max`, but got "
            f"{quant_min} and {quant_max} ({name})"
        )


@composite(method=False, autocast="float32")
def fake_quantize_per_tensor_affine(
    input: Tensor, scale: Any, zero_point: Any, quant_min: int, quant_max: int
) -> Tensor:
    """What is left of values after they were quantised; the gradient goes straight through.

    Args:
        input: floating point, any shape.
        scale: between neighbouring numbers: a number, or a tensor of one.
        zero_point: the integer that stands for 0, likewise; in the range.
        quant_min, quant_max: the range of integers.

    Returns:
        (clamp(round(input / scale) + zero_point, quant_min, quant_max) - zero_point) * scale,
        multiplied in float32.

    Raises:
        RuntimeError: integers, or an empty range.

    Gradient:
        1 where nothing was cut off, else 0; none of scale and zero point.

    Example:
        >>> x = flambeau.tensor([0.12, 0.9, -3.0])
        >>> fake_quantize_per_tensor_affine(x, 0.25, 0, -8, 7).tolist()
        [0.0, 1.0, -2.0]
    """
    floats_only("fake_quantize_tensor_cachemask_kernel_type_handling", input)
    _range("fake_quantize_per_tensor_affine", quant_min, quant_max)
    device = input.device
    if not isinstance(scale, Tensor):
        scale = full((), scale, dtype=float32, device=device)
    if not isinstance(zero_point, Tensor):
        zero_point = full((), zero_point, dtype=int32, device=device)
    return _fake_quantize(
        input, scale.reshape(()), zero_point.reshape(()), quant_min, quant_max, None
    )


@composite(method=False)
def fake_quantize_per_channel_affine(
    input: Tensor, scale: Tensor, zero_point: Tensor, axis: int, quant_min: int, quant_max: int
) -> Tensor:
    """`fake_quantize_per_tensor_affine` with a scale and zero point for each index of a dimension.

    Args:
        input: floating point, any shape.
        scale, zero_point: (C,), for dimension `axis` of size C; float32, and integers or floats.
        axis: the dimension.
        quant_min, quant_max: the range of integers.

    Raises:
        RuntimeError: integers, other sizes, or an empty range.
        IndexError: no such dimension.
    """
    floats_only("fake_quantize_channel_cachemask_cpu_type_handling", input)
    _range("fake_quantize_per_channel_affine", quant_min, quant_max)
    if not 0 <= axis < input.ndim:
        raise IndexError(
            f"`axis` must be between 0 and number of dimensions of input, got {axis} for "
            f"{input.ndim} dimensions"
        )
    for name, given in (("scale", scale), ("zero-point", zero_point)):
        if given.ndim != 1 or given._shape[0] != input._shape[axis]:
            raise RuntimeError(
                f"dimensions of {name} and input must match: got {list(given.shape)} for "
                f"dimension {axis} of {list(input.shape)}"
            )
    return _fake_quantize(input, scale, zero_point, quant_min, quant_max, axis)


@composite(keep=True, method=False, public=False)
def _dynamic_linear(input: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    """x W^T + b with x rounded to 8 bits: by the range that it has, zero within; and W by rows.

    Args:
        input: (*, K), floating point.
        weight: (N, K), int8.
        scale: (N,), float32: W is weight * scale[:, None].
        bias: (N,), or None.

    Returns:
        (*, N), of the input's dtype.

    Raises:
        RuntimeError: other dtypes, or sizes that do not meet.

    Numerics:
        Sums are exact in int32, for K up to 66,000.

    Gradient:
        That of the layer without rounding, of the input and the bias.
    """
    floats_only("linear_dynamic", input)
    if weight.dtype is not int8 or weight.ndim != 2 or not input.ndim:
        raise RuntimeError(
            f"a quantised linear layer multiplies (*, K) by int8 (N, K), not {list(input.shape)} "
            f"by {weight.type()} {list(weight.shape)}"
        )
    if input._shape[-1] != weight._shape[1]:
        raise RuntimeError(
            f"mat1 and mat2 shapes cannot be multiplied ({list(input.shape)} and "
            f"{list(weight.T.shape)})"
        )
    shape = (*input._shape[:-1], weight._shape[0])
    x = widen(input).reshape(-1, input._shape[-1])
    kind = x.dtype  # of what follows the product of integers
    if kind is float64:
        x = cast(x, float32)
    if not input.numel():
        y = NAMES["zeros"](shape, dtype=kind, device=input.device)
    else:
        low, high = x.amin().clamp(max=0.0), x.amax().clamp(min=0.0)
        width = high - low
        step = NAMES["where"](width > 0, width / _LEVELS, 1.0)
        zero = NAMES["round"](-low / step)
        q = (NAMES["round"](x / step) + zero).clamp(0, _LEVELS) - 128.0
        sums = _int_mm(to_dtype(q, int8), weight.T)
        # of the products with what 0 is: (q - zero) W = q W - zero * (sums of the rows of W)
        offset = to_dtype(zero - 128.0, int32) * to_dtype(weight, int32).sum(1, dtype=int32)
        y = to_dtype(sums - offset, kind) * (cast(step, kind) * scale)
        y = y.reshape(shape)
    return cast(y if bias is None else y + bias, input.dtype)


def _dynamic_linear_vjp(
    g: Any, out: Any, input: Any, weight: Any, scale: Any, bias: Any
) -> tuple[Any, ...]:
    """Straight through the rounding: the gradients of a linear layer."""
    wide = widen(g)
    into = NAMES["matmul"](wide, to_dtype(weight, float32) * scale.unsqueeze(1))
    return cast(into, g.dtype), None, None, None if bias is None else sum_to(g, bias.shape)


_dynamic_linear.flops(lambda node: 2 * node.numel * node.src[0].shape[-1])
_dynamic_linear.vjp(_dynamic_linear_vjp, saves="weight scale")


__all__ = ["fake_quantize_per_channel_affine", "fake_quantize_per_tensor_affine"]
