"""Activation functions and the softmax family.

Half-precision input is computed in float32 and rounded once, as everywhere in composites.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

from flambeau.dtype import dtype as DType
from flambeau.ir.graph import Constant
from flambeau.ops.arithmetic import dtype_word
from flambeau.ops.conversion import to_dtype
from flambeau.ops.elementwise import (
    abs,
    exp,
    expm1,
    log,
    log1p,
    maximum,
    minimum,
    normal_cdf,
    normal_pdf,
    select_where,
    sigmoid,
    tanh,
)
from flambeau.ops.movement import slice_dim, view_as_shape
from flambeau.ops.precision import cast, widen
from flambeau.ops.random import exponentials, uniform01
from flambeau.ops.reduction import max_axes, restore, sum_axes
from flambeau.ops.rows import FUNCTIONAL, NAMES, functional
from flambeau.ops.rules import kept_rule
from flambeau.ops.table import composite
from flambeau.size import wrap_dim
from flambeau.tensor import Tensor

_SQRT_8_OVER_PI = Constant(math.sqrt(8 / math.pi))
_THREE = Constant(3.0)
_CUBIC = Constant(0.044715)
SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946


def floats_only(name: str, *tensors: Tensor) -> None:
    """Refuse integers and bools as torch's kernels do."""
    for x in tensors:
        if x.dtype.category != 2:
            raise NotImplementedError(f"\"{name}\" not implemented for '{dtype_word(x.dtype)}'")


# -- rectifiers ------------------------------------------------------------------------------------


@composite(keep=True, inplace=True, functional=True)
def relu(input: Tensor) -> Tensor:
    """max(input, 0); NaN stays."""
    if input.dtype.category == 0:
        raise RuntimeError("Boolean inputs not supported for relu")
    return maximum(input, 0)


relu.batch(())
relu.vjp(lambda g, out, x: (select_where(out > 0, g, 0.0),), saves="out")


@composite(inplace=True, method=False, public=False, functional=True)
def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    """The nearest value in [min_val, max_val]; no gradient at the bounds.

    Raises:
        ValueError: min_val above max_val.
    """
    if min_val > max_val:
        raise ValueError("min_val cannot be greater than max_val")
    if input.dtype.category == 1:  # the bounds become integers, too
        min_val, max_val = int(min_val), int(max_val)
    return minimum(maximum(input, min_val), max_val)


def _hardtanh_vjp(
    g: Any, out: Any, x: Any, low: float = -1.0, high: float = 1.0
) -> tuple[Any, ...]:
    return select_where((x > low) & (x < high), g, 0.0), None, None


hardtanh.vjp(_hardtanh_vjp, saves="input")


@composite(inplace=True, method=False, public=False, functional=True)
def relu6(input: Tensor) -> Tensor:
    """min(max(x, 0), 6)."""
    return hardtanh(input, 0, 6)


@composite(inplace=True, method=False, public=False, functional=True)
def leaky_relu(input: Tensor, negative_slope: float = 0.01) -> Tensor:
    """x above 0, negative_slope * x elsewhere."""
    floats_only("leaky_relu_cpu", input)
    return select_where(input > 0, input, input * negative_slope)


leaky_relu.vjp(
    lambda g, out, x, slope=0.01: (select_where(x > 0, g, g * slope), None), saves="input"
)


@composite(inplace=True, method=False, functional=True)
def threshold(input: Tensor, threshold: float, value: float) -> Tensor:
    """x where it is above `threshold`, else `value`."""
    return select_where(input <= threshold, value, input)


threshold.vjp(
    lambda g, out, x, at, value: (select_where(x <= at, 0.0, g), None, None), saves="input"
)


@composite(functional=True, autocast="lower")
def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """x above 0, weight * x elsewhere.

    Args:
        input: (N, C, ..), or any shape with a single weight.
        weight: (C), (1) or ().

    Raises:
        RuntimeError: another number of weights, or different dtypes.

    Reference:
        He et al., Delving Deep into Rectifiers (arXiv:1502.01852).
    """
    if weight.dtype is not input.dtype:
        raise RuntimeError(
            f"prelu: Type promoting not supported. Got {dtype_word(input.dtype)} "
            f"and {dtype_word(weight.dtype)}"
        )
    if weight.ndim > 1:
        raise RuntimeError(
            f"prelu: Expected `weight` to be a scalar or 1D tensor, but got: ndim = {weight.ndim}"
        )
    if weight.numel() != 1:
        channels = input._shape[1] if input.ndim > 1 else 1
        if weight.numel() != channels:
            raise RuntimeError(
                f"Mismatch of parameter numbers and input channel size. Found "
                f"parameter numbers = {weight.numel()} and channel size = "
                f"{channels}."
            )
        weight = view_as_shape(weight, (channels, *(1,) * (input.ndim - 2)))
    elif weight.ndim > input.ndim:
        weight = view_as_shape(weight, ())
    return select_where(input > 0, input, input * weight)


@composite(inplace=True, method=False)
def rrelu(
    input: Tensor,
    lower: float = 1.0 / 8,
    upper: float = 1.0 / 3,
    training: bool = False,
    generator: Any = None,
) -> Tensor:
    """x above 0, a * x elsewhere; a is uniform in [lower, upper), its mean outside training.

    Raises:
        RuntimeError: lower above upper.

    Reference:
        Xu et al., Empirical Evaluation of Rectified Activations (arXiv:1505.00853).
    """
    if lower > upper:
        raise RuntimeError("Lower bound should be less than or equal to the upper bound")
    if not training:
        return leaky_relu(input, (lower + upper) / 2)
    draw = uniform01(input._shape, input.dtype, generator, input.device)
    slope = draw * float(upper - lower) + float(lower)
    return _sloped(input, slope)


@composite(method=False, public=False)
def _sloped(input: Tensor, slope: Tensor) -> Tensor:
    """x above 0, slope * x elsewhere, for a slope without gradient."""
    return select_where(input > 0, input, input * slope)


_sloped.vjp(lambda g, out, x, slope: (select_where(x > 0, g, g * slope), None), saves="input slope")


@functional("rrelu")
def _functional_rrelu(
    input: Tensor,
    lower: float = 1.0 / 8,
    upper: float = 1.0 / 3,
    training: bool = False,
    inplace: bool = False,
) -> Tensor:
    """x above 0, a * x elsewhere; a is uniform in [lower, upper), its mean outside training."""
    return NAMES["rrelu_" if inplace else "rrelu"](input, lower, upper, training)


# -- exponential units -----------------------------------------------------------------------------


@composite(method=False, public=False)
def exponential_unit(input: Tensor, alpha: float, scale: float, input_scale: float) -> Tensor:
    """scale * x above 0, scale * alpha * (exp(input_scale * x) - 1) elsewhere."""
    floats_only("elu_cpu", input)
    x = widen(input)
    below = expm1(minimum(x, 0.0) * input_scale) * (scale * alpha)
    return cast(select_where(x > 0, x * scale, below), input.dtype)


def _exponential_vjp(
    g: Any, out: Any, input: Any, alpha: float, scale: float, input_scale: float
) -> tuple[Any, ...]:
    x, wide = widen(input), widen(g)
    below = exp(minimum(x, 0.0) * input_scale) * (scale * alpha * input_scale)
    found = select_where(x > 0, wide * scale, wide * below)
    return cast(found, g.dtype), None, None, None


exponential_unit.vjp(_exponential_vjp, saves="input")


@composite(inplace=True, method=False, public=False, functional=True)
def elu(input: Tensor, alpha: float = 1.0) -> Tensor:
    """x above 0, alpha * (exp(x) - 1) elsewhere.

    Reference:
        Clevert, Unterthiner and Hochreiter (arXiv:1511.07289).
    """
    return exponential_unit(input, alpha, 1.0, 1.0)


@composite(inplace=True, method=False, functional=True)
def selu(input: Tensor) -> Tensor:
    """Scaled exponential linear unit, whose fixed point is mean 0 and variance 1.

    Reference:
        Klambauer et al., Self-Normalizing Neural Networks (arXiv:1706.02515).
    """
    return exponential_unit(input, SELU_ALPHA, SELU_SCALE, 1.0)


@composite(inplace=True, method=False, functional=True)
def celu(input: Tensor, alpha: float = 1.0) -> Tensor:
    """x above 0, alpha * (exp(x / alpha) - 1) elsewhere.

    Raises:
        RuntimeError: alpha is 0.

    Reference:
        Barron (arXiv:1704.07483).
    """
    if alpha == 0:
        raise RuntimeError("ZeroDivisionError: alpha cannot be 0 for CELU")
    return exponential_unit(input, alpha, 1.0, 1.0 / alpha)


def _log1p_exp(x: Tensor) -> Tensor:
    """log(1 + exp(x)) without overflow."""
    return maximum(x, 0.0) + log1p(exp(-abs(x)))


@composite(method=False, public=False, functional=True, out=True)
def softplus(input: Tensor, beta: float = 1, threshold: float = 20) -> Tensor:
    """log(1 + exp(beta * x)) / beta; x itself where beta * x is above the threshold."""
    floats_only("softplus_cpu", input)
    x = widen(input)
    scaled = x * beta
    found = select_where(scaled > threshold, x, _log1p_exp(scaled) / beta)
    return cast(found, input.dtype)


def _softplus_vjp(
    g: Any, out: Any, input: Any, beta: float = 1, threshold: float = 20
) -> tuple[Any, ...]:
    scaled, wide = widen(input) * beta, widen(g)
    found = select_where(scaled > threshold, wide, wide * sigmoid(scaled))
    return cast(found, g.dtype), None, None


softplus.vjp(_softplus_vjp, saves="input")


@composite(keep=True, method=False, public=False, functional=True, out=True)
def logsigmoid(input: Tensor) -> Tensor:
    """log(sigmoid(x)) = -log(1 + exp(-x))."""
    floats_only("log_sigmoid_cpu", input)
    return cast(-_log1p_exp(-widen(input)), input.dtype)


logsigmoid.batch(())
logsigmoid.vjp(lambda g, out, x: (cast(widen(g) * sigmoid(-widen(x)), g.dtype),), saves="input")


@composite(keep=True, inplace=True, method=False, public=False, functional=True)
def mish(input: Tensor) -> Tensor:
    """x * tanh(log(1 + exp(x))).

    Reference:
        Misra (arXiv:1908.08681).
    """
    floats_only("mish_cpu", input)
    x = widen(input)
    return cast(x * tanh(_log1p_exp(x)), input.dtype)


def _mish_vjp(g: Any, out: Any, input: Any) -> tuple[Any, ...]:
    x, wide = widen(input), widen(g)
    t = tanh(_log1p_exp(x))
    return (cast(wide * (t + x * sigmoid(x) * (1.0 - t * t)), g.dtype),)


mish.batch(())
mish.vjp(_mish_vjp, saves="input")


# -- piecewise linear and shrinking ----------------------------------------------------------------


@composite(keep=True, inplace=True, method=False, public=False, functional=True)
def hardsigmoid(input: Tensor) -> Tensor:
    """min(max(x + 3, 0), 6) / 6."""
    floats_only("hardsigmoid", input)
    x = widen(input)
    return cast(minimum(maximum(x + 3.0, 0.0), 6.0) / 6.0, input.dtype)


hardsigmoid.batch(())
hardsigmoid.vjp(
    lambda g, out, x: (select_where((x > -3.0) & (x < 3.0), g / 6.0, 0.0),), saves="input"
)


@composite(keep=True, inplace=True, method=False, public=False, functional=True)
def hardswish(input: Tensor) -> Tensor:
    """x * min(max(x + 3, 0), 6) / 6.

    Reference:
        Howard et al., Searching for MobileNetV3 (arXiv:1905.02244).
    """
    floats_only("hardswish", input)
    x = widen(input)
    return cast(x * minimum(maximum(x + 3.0, 0.0), 6.0) / 6.0, input.dtype)


def _hardswish_vjp(g: Any, out: Any, input: Any) -> tuple[Any, ...]:
    x, wide = widen(input), widen(g)
    middle = select_where(x < 3.0, wide * (x / 3.0 + 0.5), wide)
    return (cast(select_where(x > -3.0, middle, 0.0), g.dtype),)


hardswish.batch(())
hardswish.vjp(_hardswish_vjp, saves="input")


@composite(functional=True, out=True)
def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x outside [-lambd, lambd], 0 inside."""
    return select_where((input >= -lambd) & (input <= lambd), 0.0, input)


hardshrink.vjp(
    lambda g, out, x, lambd=0.5: (select_where((x >= -lambd) & (x <= lambd), 0.0, g), None),
    saves="input",
)


@composite(method=False, public=False, functional=True, out=True)
def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x moved towards 0 by lambd, 0 inside [-lambd, lambd].

    Raises:
        RuntimeError: lambd below 0.
    """
    if lambd < 0:
        raise RuntimeError(f"lambda must be greater or equal to 0, but found to be {lambd:g}.")
    below = select_where(input < -lambd, input + lambd, input * 0.0)
    return select_where(input > lambd, input - lambd, below)


softshrink.vjp(
    lambda g, out, x, lambd=0.5: (select_where((x >= -lambd) & (x <= lambd), 0.0, g), None),
    saves="input",
)


@composite(method=False, public=False, functional=True)
def tanhshrink(input: Tensor) -> Tensor:
    """x - tanh(x)."""
    return input - tanh(input)


@composite(keep=True, method=False, public=False, functional=True)
def softsign(input: Tensor) -> Tensor:
    """x / (1 + |x|)."""
    x = widen(input)
    return (
        cast(x / (abs(x) + 1.0), input.dtype)
        if input.dtype.category == 2
        else (input / (abs(input) + 1))
    )


def _softsign_vjp(g: Any, out: Any, input: Any) -> tuple[Any, ...]:
    size = abs(widen(input))
    below = size + 1.0
    if input.dtype.is_complex:  # |x| has no derivative in x alone, but one along the cotangent
        share = NAMES["real"](g * input) / (select_where(size == 0.0, 1.0, size) * below * below)
        return (g / below - NAMES["conj"](input) * share,)
    return (cast(widen(g) / (below * below), g.dtype),)


softsign.batch(())
softsign.vjp(_softsign_vjp, saves="input")


@composite(method=False, public=False, functional=True)
def glu(input: Tensor, dim: int = -1) -> Tensor:
    """The first half times the sigmoid of the second half of one dimension.

    Raises:
        RuntimeError: an odd size, or a 0-d tensor.

    Reference:
        Dauphin et al., Language Modeling with Gated Convolutional Networks (arXiv:1612.08083).
    """
    if input.ndim == 0:
        raise RuntimeError("glu does not support 0-dimensional tensors")
    d = wrap_dim(dim, input.ndim)
    half, odd = divmod(input._shape[d], 2)
    if odd:
        raise RuntimeError(
            f"Halving dimension must be even, but dimension {d} is size {input._shape[d]}"
        )
    a, b = slice_dim(input, d, 0, half, 1), slice_dim(input, d, half, 2 * half, 1)
    return cast(widen(a) * sigmoid(widen(b)), input.dtype)


# -- gelu, silu ------------------------------------------------------------------------------------


@composite(keep=True, method=False, public=False, functional=True)
def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """x * Phi(x) with the normal distribution function Phi.

    Args:
        input: floating point, any shape.
        approximate: "none", or "tanh":
            x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))).

    Raises:
        RuntimeError: another approximation, or integers.

    Reference:
        Hendrycks and Gimpel, Gaussian Error Linear Units (arXiv:1606.08415).
    """
    floats_only("GeluKernelImpl", input)
    x = widen(input)
    if approximate == "none":
        y = x * normal_cdf(x)
    elif approximate == "tanh":
        # (1 + tanh(z)) / 2 is sigmoid(2 z), which does not cancel for negative z
        y = x * sigmoid((x + x * x * x * _CUBIC) * _SQRT_8_OVER_PI)
    else:
        raise RuntimeError("approximate argument must be either none or tanh.")
    return cast(y, input.dtype)


@kept_rule
def _gelu_vjp(g: Any, out: Any, input: Any, approximate: str = "none") -> tuple[Any, ...]:
    x, wide = widen(input), widen(g)
    if approximate == "none":
        slope = normal_cdf(x) + x * normal_pdf(x)
    else:
        square = x * x
        s = sigmoid((x + square * x * _CUBIC) * _SQRT_8_OVER_PI)
        inner = (square * _CUBIC * _THREE + 1.0) * _SQRT_8_OVER_PI
        slope = s + x * s * (1.0 - s) * inner
    return cast(wide * slope, g.dtype), None


gelu.batch(())
gelu.vjp(_gelu_vjp, saves="input")


@composite(keep=True, inplace=True, method=False, public=False, functional=True)
def silu(input: Tensor) -> Tensor:
    """x * sigmoid(x).

    Reference:
        Elfwing, Uchibe and Doya, Sigmoid-weighted linear units (arXiv:1702.03118).
    """
    if not input.dtype.is_complex:
        floats_only("silu_cpu", input)
    x = widen(input)
    return cast(x * sigmoid(x), input.dtype)


@kept_rule
def _silu_vjp(g: Any, out: Any, input: Any) -> tuple[Any, ...]:
    x, wide = widen(input), widen(g)
    s = sigmoid(x)
    return (cast(wide * (s * (x * (1.0 - s) + 1.0)), g.dtype),)


silu.batch(())
silu.vjp(_silu_vjp, saves="input")


# -- the softmax family ----------------------------------------------------------------------------


@composite(keep=True, method=False, public=False)
def _softmax(input: Tensor, dim: int) -> Tensor:
    """exp(x - max) / sum(exp(x - max)) along one dimension."""
    floats_only("softmax_lastdim_kernel_impl", input)
    if not input.numel() or not input.ndim:
        return exp(input - input)
    x = widen(input)
    axes = (dim,)
    e = exp(x - restore(max_axes(x, axes), x._shape, axes, True))
    return cast(e / restore(sum_axes(e, axes), x._shape, axes, True), input.dtype)


@kept_rule
def _softmax_vjp(g: Any, out: Any, input: Any, dim: int) -> tuple[Any, ...]:
    if not out.ndim:
        return g * 0.0, None
    g, y, axes = widen(g), widen(out), (dim,)
    total = restore(sum_axes(g * y, axes), y._shape, axes, True)
    return cast((g - total) * y, out.dtype), None


_softmax.batch((1,))
_softmax.vjp(_softmax_vjp, saves="out")


@composite(keep=True, method=False, public=False)
def _log_softmax(input: Tensor, dim: int) -> Tensor:
    """x - max - log(sum(exp(x - max))) along one dimension."""
    floats_only("log_softmax_lastdim_kernel_impl", input)
    if not input.numel() or not input.ndim:
        return input - input
    x = widen(input)
    axes = (dim,)
    shifted = x - restore(max_axes(x, axes), x._shape, axes, True)
    total = restore(sum_axes(exp(shifted), axes), x._shape, axes, True)
    return cast(shifted - log(total), input.dtype)


@kept_rule
def _log_softmax_vjp(g: Any, out: Any, input: Any, dim: int) -> tuple[Any, ...]:
    if not out.ndim:
        return g * 0.0, None
    g, y, axes = widen(g), widen(out), (dim,)
    total = restore(sum_axes(g, axes), y._shape, axes, True)
    return cast(g - exp(y) * total, out.dtype), None


_log_softmax.batch((1,))
_log_softmax.vjp(_log_softmax_vjp, saves="out")


def _along(input: Tensor, dim: int, dtype: DType | None) -> tuple[Tensor, int]:
    if dtype is not None and dtype is not input.dtype:
        input = to_dtype(input, dtype)
    return input, wrap_dim(dim, input.ndim)


@composite(aliases=("special.softmax",), out=True)
def softmax(input: Tensor, dim: int, dtype: DType | None = None) -> Tensor:
    """exp(x) / sum(exp(x)) along one dimension.

    Args:
        dim: the dimension that sums to 1.
        dtype: convert the input first.

    Raises:
        NotImplementedError: integers without `dtype`.
    """
    return _softmax(*_along(input, dim, dtype))


@composite(aliases=("special.log_softmax",), out=True)
def log_softmax(input: Tensor, dim: int, dtype: DType | None = None) -> Tensor:
    """log(softmax(x)) along one dimension, without under- or overflow.

    Args:
        dim: the dimension whose exponentials sum to 1.
        dtype: convert the input first.
    """
    return _log_softmax(*_along(input, dim, dtype))


def _implicit_dim(name: str, dim: int | None, ndim: int, level: int) -> int:
    if dim is not None:
        return dim
    warnings.warn(
        f"Implicit dimension choice for {name} has been deprecated. Change the call to "
        "include dim=X as an argument.",
        stacklevel=level,
    )
    return 0 if ndim in (0, 1, 3) else 1


@functional("softmax")
def _functional_softmax(
    input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: DType | None = None
) -> Tensor:
    """exp(x) / sum(exp(x)) along one dimension."""
    return softmax(input, _implicit_dim("softmax", dim, input.ndim, _stacklevel), dtype)


@functional("log_softmax")
def _functional_log_softmax(
    input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: DType | None = None
) -> Tensor:
    """log(softmax(x)) along one dimension."""
    return log_softmax(input, _implicit_dim("log_softmax", dim, input.ndim, _stacklevel), dtype)


@functional("softmin")
def _functional_softmin(
    input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: DType | None = None
) -> Tensor:
    """softmax(-x) along one dimension."""
    return softmax(-input, _implicit_dim("softmin", dim, input.ndim, _stacklevel), dtype)


@functional("gumbel_softmax")
def gumbel_softmax(
    logits: Tensor, tau: float = 1, hard: bool = False, eps: float = 1e-10, dim: int = -1
) -> Tensor:
    """Samples of the Gumbel-softmax distribution; with `hard`, one-hot with the soft gradient.

    Args:
        logits: unnormalized log-probabilities, any shape.
        tau: temperature.
        hard: round to one-hot, differentiated as if it were not (straight-through).
        eps: unused, as in torch.
        dim: the dimension that sums to 1.

    Reference:
        Jang, Gu and Poole (arXiv:1611.01144).
    """
    x = widen(logits)
    gumbel = -log(exponentials(x._shape, x.dtype, None))
    soft = softmax(cast((x + gumbel) / tau, logits.dtype), dim)
    if not hard:
        return soft
    d = wrap_dim(dim, soft.ndim)
    chosen = NAMES["argmax"](soft, d, True)
    index = NAMES["arange"](soft._shape[d] if soft.ndim else 1)
    place = view_as_shape(index, (soft._shape[d],) + (1,) * (soft.ndim - d - 1))
    one_hot = cast(place == chosen, soft.dtype)
    return one_hot - soft.detach() + soft


FUNCTIONAL["sigmoid"] = sigmoid
FUNCTIONAL["tanh"] = tanh
