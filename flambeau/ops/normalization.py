"""Normalization over trailing dimensions, groups, batches and neighbourhoods."""

from __future__ import annotations

import math
from typing import Any

from flambeau.dtype import finfo, float32
from flambeau.ops.activation import floats_only
from flambeau.ops.elementwise import rsqrt
from flambeau.ops.movement import expand_to, pad_slice, slice_dim, sum_to, view_as_shape
from flambeau.ops.precision import cast, widen
from flambeau.ops.reduction import restore, sum_axes
from flambeau.ops.rows import NAMES, functional
from flambeau.ops.rules import kept_rule
from flambeau.ops.table import composite
from flambeau.ops.writing import write_out
from flambeau.tape import modes
from flambeau.tensor import Tensor


def _row_mean(x: Tensor, axes: tuple[int, ...], count: int) -> Tensor:
    """Mean over axes, which are kept with size 1."""
    return restore(sum_axes(x, axes), x._shape, axes, True) * (1 / max(count, 1))


def _trailing(ndim: int, normalized_shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(range(ndim - len(normalized_shape), ndim))


def _check_layer(input: Tensor, normalized_shape: tuple[int, ...], weight: Any, bias: Any) -> None:
    if not normalized_shape:
        raise RuntimeError(
            "Expected normalized_shape to be at least 1-dimensional, i.e., "
            "containing at least one element, but got normalized_shape = []"
        )
    for name, given in (("weight", weight), ("bias", bias)):
        if given is not None and given._shape != normalized_shape:
            raise RuntimeError(
                f"Expected {name} to be of same shape as normalized_shape, but got {name} of shape "
                f"{list(given.shape)} and normalized_shape = {list(normalized_shape)}"
            )
    if input._shape[-len(normalized_shape) :] != normalized_shape:
        wanted = ", ".join(["*", *map(str, normalized_shape)])
        raise RuntimeError(
            f"Given normalized_shape={list(normalized_shape)}, expected input with "
            f"shape [{wanted}], but got input of size{list(input.shape)}"
        )


# -- layer norm ------------------------------------------------------------------------------------


@composite(keep=True, method=False, public=False)
def _native_layer_norm(
    input: Tensor, normalized_shape: tuple[int, ...], weight: Any, bias: Any, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """`layer_norm` and the mean and 1 / sqrt(var + eps) of every row, in float32 for half types."""
    floats_only("LayerNormKernelImpl", input)
    _check_layer(input, normalized_shape, weight, bias)
    axes = _trailing(input.ndim, normalized_shape)
    count = math.prod(normalized_shape)
    x = widen(input)
    mean = _row_mean(x, axes, count)
    centered = x - mean
    rstd = rsqrt(_row_mean(centered * centered, axes, count) + eps)
    y = centered * rstd
    if weight is not None:
        y = y * widen(weight)
    if bias is not None:
        y = y + widen(bias)
    return cast(y, input.dtype), mean, rstd


@kept_rule
def _layer_norm_vjp(
    g: Any, outs: Any, input: Any, normalized_shape: Any, weight: Any, bias: Any, eps: float
) -> tuple[Any, ...]:
    g_out, g_mean, g_rstd = g
    _, mean, rstd = outs
    axes = _trailing(input.ndim, normalized_shape)
    count = math.prod(normalized_shape)
    normal = (widen(input) - mean) * rstd
    g_input: Any = None
    g_weight = g_bias = None
    if g_out is not None:
        wide = widen(g_out)
        scaled = wide if weight is None else wide * widen(weight)
        g_input = rstd * (
            scaled
            - _row_mean(scaled, axes, count)
            - normal * _row_mean(scaled * normal, axes, count)
        )
        if weight is not None and weight.requires_grad:
            g_weight = cast(sum_to(wide * normal, tuple(weight.shape)), weight.dtype)
        if bias is not None and bias.requires_grad:
            g_bias = cast(sum_to(wide, tuple(bias.shape)), bias.dtype)
    # the statistics carry cotangents when this rule is itself differentiated
    for extra in (g_mean, None if g_rstd is None else -g_rstd * rstd * rstd * normal):
        if extra is not None:
            part = expand_to(extra * (1 / max(count, 1)), normal._shape)
            g_input = part if g_input is None else g_input + part
    return cast(g_input, input.dtype), None, g_weight, g_bias, None


_native_layer_norm.batch("rows")
_native_layer_norm.vjp(_layer_norm_vjp, saves="input weight out1 out2")


@composite(method=False)
def native_layer_norm(
    input: Tensor, normalized_shape: Any, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """`layer_norm`, and the mean and 1 / sqrt(var + eps) of every row without gradients."""
    out, mean, rstd = _native_layer_norm(input, tuple(normalized_shape), weight, bias, eps)
    return out, mean.detach(), rstd.detach()


@composite(method=False, functional=True)
def layer_norm(
    input: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias over the trailing dimensions.

    Args:
        input: (*, *normalized_shape).
        normalized_shape: sizes of the dimensions that are normalized together.
        weight: of shape normalized_shape, or None.
        bias: likewise.
        eps: added to the (biased) variance.

    Raises:
        RuntimeError: sizes that do not fit.

    Reference:
        Ba, Kiros and Hinton, Layer Normalization (arXiv:1607.06450).
    """
    sizes = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    return _native_layer_norm(input, sizes, weight, bias, eps)[0]


# -- RMS norm --------------------------------------------------------------------------------------


@composite(keep=True, method=False, public=False)
def _fused_rms_norm(
    input: Tensor, normalized_shape: tuple[int, ...], weight: Any, eps: float
) -> tuple[Tensor, Tensor]:
    """`rms_norm` and the 1 / sqrt(mean(x^2) + eps) of every row."""
    floats_only("rms_norm", input)
    _check_layer(input, normalized_shape, weight, None)
    axes = _trailing(input.ndim, normalized_shape)
    x = widen(input)
    rstd = rsqrt(_row_mean(x * x, axes, math.prod(normalized_shape)) + eps)
    y = x * rstd
    if weight is not None:
        y = y * widen(weight)
    return cast(y, input.dtype), rstd


@kept_rule
def _rms_norm_vjp(
    g: Any, outs: Any, input: Any, normalized_shape: Any, weight: Any, eps: float
) -> tuple[Any, ...]:
    g_out, g_rstd = g
    rstd = outs[1]
    axes = _trailing(input.ndim, normalized_shape)
    count = math.prod(normalized_shape)
    normal = widen(input) * rstd
    g_input: Any = None
    g_weight = None
    if g_out is not None:
        wide = widen(g_out)
        scaled = wide if weight is None else wide * widen(weight)
        g_input = rstd * (scaled - normal * _row_mean(scaled * normal, axes, count))
        if weight is not None and weight.requires_grad:
            g_weight = cast(sum_to(wide * normal, tuple(weight.shape)), weight.dtype)
    if g_rstd is not None:
        part = -g_rstd * rstd * rstd * normal * (1 / max(count, 1))
        g_input = part if g_input is None else g_input + part
    return cast(g_input, input.dtype), None, g_weight, None


_fused_rms_norm.batch("rows")
_fused_rms_norm.vjp(_rms_norm_vjp, saves="input weight out1")


@composite(method=False, functional=True)
def rms_norm(
    input: Tensor, normalized_shape: Any, weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the trailing dimensions.

    Args:
        input: (*, *normalized_shape).
        normalized_shape: sizes of the dimensions that are normalized together.
        weight: of shape normalized_shape, or None.
        eps: by default the machine epsilon of the input's dtype (of float32 for half types).

    Reference:
        Zhang and Sennrich, Root Mean Square Layer Normalization (arXiv:1910.07467).
    """
    sizes = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if eps is None:
        eps = finfo(float32 if input.dtype.itemsize < 4 else input.dtype).eps
    if input.dtype.is_complex:
        square = NAMES["mean"](input * input, tuple(range(-len(sizes), 0)), True)
        found = input * rsqrt(square + eps)
        return found if weight is None else found * weight
    return _fused_rms_norm(input, sizes, weight, eps)[0]


# -- groups, instances, batches --------------------------------------------------------------------


def _channel_shape(input: Any) -> tuple[int, ...]:
    return (1, input.shape[1], *(1,) * (input.ndim - 2))


def _scaled(x: Tensor, input: Tensor, weight: Any, bias: Any) -> Tensor:
    """x * weight + bias with one number a channel, in the input's dtype."""
    shape = _channel_shape(input)
    if weight is not None:
        x = x * view_as_shape(widen(weight), shape)
    if bias is not None:
        x = x + view_as_shape(widen(bias), shape)
    return cast(x, input.dtype)


def _per_channel(x: Tensor, like: Any) -> Tensor:
    """The sum over all dimensions but the channels, in the dtype of a weight or bias."""
    return cast(sum_axes(x, tuple(d for d in range(x.ndim) if d != 1)), like.dtype)


def _statistics(x: Tensor, axes: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """(mean, biased variance, x - mean) over axes, which are kept with size 1."""
    count = math.prod(x._shape[d] for d in axes)
    mean = _row_mean(x, axes, count)
    centered = x - mean
    return mean, _row_mean(centered * centered, axes, count), centered


def _normal_vjp(
    g: Tensor, normal: Tensor, rstd: Tensor, axes: tuple[int, ...], count: int
) -> Tensor:
    """The cotangent of x, given that of normal = (x - mean) * rstd."""
    return rstd * (g - _row_mean(g, axes, count) - normal * _row_mean(g * normal, axes, count))


def _statistics_vjp(
    g_mean: Any, g_var: Any, centered: Tensor, shape: tuple[int, ...], count: int
) -> Any:
    """The cotangent of x, given those of its mean and biased variance (None: zero)."""
    found: Any = None
    if g_mean is not None:
        found = expand_to(view_as_shape(g_mean.contiguous(), shape), tuple(centered.shape))
    if g_var is not None:
        part = view_as_shape(g_var.contiguous(), shape) * centered * 2.0
        found = part if found is None else found + part
    return None if found is None else found * (1 / max(count, 1))


#: Elements of a row from which on its own mean is worth taking.
_ROW = 16


def _channel_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of every channel of (N, C, *), of shape (1, C, 1, ..).

    Every row (one channel of one sample) is centred by its own mean while it is in the cache, and
    the rows' moments are combined, so that memory is read once.

    Reference:
        Chan, Golub and LeVeque, Updating Formulae and a Pairwise Algorithm for Computing Sample
        Variances (1979).
    """
    axes = tuple(d for d in range(x.ndim) if d != 1)
    row = math.prod(x._shape[2:])
    if row < _ROW:
        return _statistics(x, axes)[:2]
    mean, var, _ = _statistics(x, tuple(range(2, x.ndim)))
    total, between, _ = _statistics(mean, (0,))
    return total, between + _row_mean(var, (0,), x._shape[0])


@composite(keep=True, method=False, public=False)
def _native_batch_norm(
    input: Tensor, weight: Any, bias: Any, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """`batch_norm` by the batch's own statistics, and its means and biased variances, (C) each."""
    x = widen(input)
    mean, var = _channel_statistics(x)
    out = _scaled((x - mean) * rsqrt(var + eps), input, weight, bias)
    flat = (x._shape[1],)
    return out, view_as_shape(mean, flat), view_as_shape(var, flat)


@kept_rule
def _batch_norm_vjp(
    gs: Any, outs: Any, input: Any, weight: Any, bias: Any, eps: float
) -> tuple[Any, ...]:
    g, g_mean, g_var = gs
    _, mean, var = outs
    axes = tuple(d for d in range(input.ndim) if d != 1)
    count = math.prod(input.shape[d] for d in axes)
    shape = _channel_shape(input)
    rstd = view_as_shape(rsqrt(var + eps), shape)
    centered = widen(input) - view_as_shape(mean, shape)
    found: Any = None
    g_weight = g_bias = None
    if g is not None:
        wide = widen(g)
        normal = centered * rstd
        total, moment = sum_axes(wide, axes), sum_axes(wide * normal, axes)
        mean_g, mean_gn = (view_as_shape(s * (1 / max(count, 1)), shape) for s in (total, moment))
        scale = rstd if weight is None else rstd * view_as_shape(widen(weight), shape)
        found = scale * (wide - mean_g - normal * mean_gn)
        if weight is not None and weight.requires_grad:
            g_weight = cast(moment, weight.dtype)
        if bias is not None and bias.requires_grad:
            g_bias = cast(total, bias.dtype)
    # mean and var enter running statistics, and this rule's own derivative
    part = _statistics_vjp(g_mean, g_var, centered, shape, count)
    if part is not None:
        found = part if found is None else found + part
    return cast(found, input.dtype), g_weight, g_bias, None


_native_batch_norm.vjp(_batch_norm_vjp, saves="input weight out1 out2")


@composite(keep=True, method=False, public=False)
def _native_group_norm(
    input: Tensor, num_groups: int, weight: Any, bias: Any, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """`group_norm`, and the means and biased variances of the groups, (N, G) each."""
    shape = input._shape
    x = _grouped(widen(input), num_groups)
    mean, var, centered = _statistics(x, (2,))
    normal = view_as_shape(centered * rsqrt(var + eps), shape)
    flat = (shape[0], num_groups)
    return _scaled(normal, input, weight, bias), view_as_shape(mean, flat), view_as_shape(var, flat)


def _grouped(x: Tensor, num_groups: int) -> Tensor:
    """(N, C, *) as (N, G, elements of a group)."""
    batch, channels = x._shape[:2]
    size = channels // num_groups * math.prod(x._shape[2:])
    return x.reshape(batch, num_groups, size)


@kept_rule
def _group_norm_vjp(
    gs: Any, outs: Any, input: Any, num_groups: int, weight: Any, bias: Any, eps: float
) -> tuple[Any, ...]:
    g, g_mean, g_var = gs
    _, mean, var = outs
    full = tuple(input.shape)
    x = _grouped(widen(input), num_groups)
    count = x._shape[2]
    shape = (full[0], num_groups, 1)
    rstd = view_as_shape(rsqrt(var + eps), shape)
    centered = x - view_as_shape(mean, shape)
    found: Any = None
    g_weight = g_bias = None
    if g is not None:
        wide = widen(g)
        normal = centered * rstd
        scaled = wide
        if weight is not None:
            scaled = wide * view_as_shape(widen(weight), _channel_shape(input))
        found = _normal_vjp(_grouped(scaled, num_groups), normal, rstd, (2,), count)
        if weight is not None and weight.requires_grad:
            g_weight = _per_channel(wide * view_as_shape(normal, full), weight)
        if bias is not None and bias.requires_grad:
            g_bias = _per_channel(wide, bias)
    part = _statistics_vjp(g_mean, g_var, centered, shape, count)
    if part is not None:
        found = part if found is None else found + part
    return cast(view_as_shape(found, full), input.dtype), None, g_weight, g_bias, None


_native_group_norm.vjp(_group_norm_vjp, saves="input weight out1 out2")


@composite(method=False, functional=True)
def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias, one mean and variance a group of channels.

    Args:
        input: (N, C, *).
        num_groups: divides C.
        weight: (C) or None.
        bias: (C) or None.
        eps: added to the (biased) variance.

    Raises:
        RuntimeError: sizes that do not fit.
        ValueError: a single value a group.

    Reference:
        Wu and He, Group Normalization (arXiv:1803.08494).
    """
    if input.ndim < 2:
        raise RuntimeError(
            f"Expected at least 2 dimensions for input tensor but received {input.ndim}"
        )
    channels = input._shape[1]
    if num_groups <= 0:
        raise RuntimeError(f"Expected num groups to be greater than 0, got {num_groups}")
    if channels % num_groups:
        raise RuntimeError(
            f"Expected number of channels in input to be divisible by num_groups, "
            f"but got input of shape {list(input.shape)} and num_groups="
            f"{num_groups}"
        )
    for name, given in (("weight", weight), ("bias", bias)):
        if given is not None and given._shape != (channels,):
            raise RuntimeError(
                f"Expected {name} to be a vector of size equal to the number of "
                f"channels in input, but got {name} of shape {list(given.shape)} "
                f"and input of shape {list(input.shape)}"
            )
    if not input.numel():
        return _scaled(widen(input) * 1.0, input, weight, bias)
    if input.numel() == num_groups:
        raise ValueError(
            f"Expected more than 1 value per channel when training, got input size "
            f"{[channels // num_groups * input._shape[0], num_groups, *input._shape[2:]]}"
        )
    return _native_group_norm(input, num_groups, weight, bias, eps)[0]


@composite(method=False, public=False, functional=True)
def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """`group_norm` with a group for each channel; running statistics are means over instances.

    Args:
        input: (N, C, *) with at least one further dimension.
        running_mean: (C) or None; updated in place when the input's statistics are used.
        running_var: likewise.
        use_input_stats: take the statistics from the input, else the running ones.

    Raises:
        ValueError: a single value to normalize over.
    """
    if not use_input_stats:
        if running_mean is None or running_var is None:
            raise RuntimeError(
                "Expected running_mean and running_var to be defined when use_input_stats is false"
            )
        return batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    size = math.prod(input._shape[2:])
    if size == 1:
        raise ValueError(
            f"Expected more than 1 spatial element when training, got input size {input.shape}"
        )
    if not input.numel():
        return group_norm(input, input._shape[1], weight, bias, eps)
    batch = input._shape[0]
    out, mean, var = _native_group_norm(input, input._shape[1], weight, bias, eps)
    if running_mean is not None:
        _move(running_mean, sum_axes(mean.detach(), (0,)) * (1 / batch), momentum)
    if running_var is not None:
        unbiased = size / (size - 1) / batch
        _move(running_var, sum_axes(var.detach(), (0,)) * unbiased, momentum)
    return out


def _move(running: Tensor, now: Tensor, momentum: Any) -> None:
    """running <- (1 - momentum) * running + momentum * now, without history."""
    was, modes.grad = modes.grad, False
    try:
        running.lerp_(cast(now.detach(), running.dtype), momentum)
    finally:
        modes.grad = was


@composite(method=False, functional=True)
def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias, one mean and variance a channel.

    Args:
        input: (N, C, *).
        running_mean: (C) or None; updated in place in training.
        running_var: (C) or None; updated with the unbiased variance.
        weight: (C) or None.
        bias: (C) or None.
        training: take the statistics from the batch, else the running ones.
        momentum: weight of the batch in the running statistics; a 0-d tensor is taken too.
        eps: added to the variance.

    Raises:
        ValueError: a single value a channel in training.
        RuntimeError: no running statistics outside training, or sizes that do not fit.

    Reference:
        Ioffe and Szegedy, Batch Normalization (arXiv:1502.03167), algorithm 1.
    """
    if input._shape == (0,):  # no batch, and no channels
        return NAMES["clone"](input)
    if input.ndim < 2:
        raise RuntimeError(
            f"Expected at least 2 dimensions for input tensor but received {input.ndim}"
        )
    floats_only("batch_norm", input)
    shape = _channel_shape(input)
    channels = input._shape[1]
    for name, given in (
        ("running_mean", running_mean),
        ("running_var", running_var),
        ("weight", weight),
        ("bias", bias),
    ):
        if given is not None and given.numel() != channels:
            raise RuntimeError(f"{name} should contain {channels} elements not {given.numel()}")
    if not training:
        if running_mean is None or running_var is None:
            raise RuntimeError(
                "Expected running_mean and running_var to be defined when training=False"
            )
        rstd = rsqrt(widen(running_var) + eps)
        centered = widen(input) - view_as_shape(widen(running_mean), shape)
        return _scaled(centered * view_as_shape(rstd, shape), input, weight, bias)
    count = input.numel() // max(channels, 1)
    if count == 1:
        raise ValueError(
            f"Expected more than 1 value per channel when training, got input size {input.shape}"
        )
    out, mean, var = _native_batch_norm(input, weight, bias, eps)
    if running_mean is not None:
        _move(running_mean, mean, momentum)
    if running_var is not None:
        _move(running_var, var.detach() * (count / max(count - 1, 1)), momentum)
    return out


@composite(method=False)
def native_group_norm(
    input: Tensor, weight: Tensor | None, bias: Tensor | None, N: int, C: int, HxW: int,
    group: int, eps: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """(`group_norm`, means, reciprocal deviations (N, group)); sizes are read from input."""
    out, mean, var = _native_group_norm(input, group, weight, bias, eps)
    return out, cast(mean, input.dtype), cast(rsqrt(var + eps), input.dtype)


@composite(method=False)
def native_batch_norm(
    input: Tensor, weight: Tensor | None, bias: Tensor | None, running_mean: Tensor | None,
    running_var: Tensor | None, training: bool, momentum: float, eps: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """(`batch_norm`, means, reciprocal deviations (C)), which are empty outside training."""
    arguments = (running_mean, running_var, weight, bias, training, momentum, eps)
    out = batch_norm(input, *arguments)
    if not training:
        empty = NAMES["empty"](0, dtype=input.dtype, device=input.device)
        return out, empty, empty
    _, mean, var = _native_batch_norm(input.detach(), None, None, eps)
    return out, mean, rsqrt(var + eps)


# -- neighbourhoods and vectors --------------------------------------------------------------------


@composite(method=False, public=False, functional=True)
def local_response_norm(
    input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """x / (k + alpha * mean of x^2 over `size` neighbouring channels) ** beta.

    Args:
        input: (N, C, *), at least 3 dimensions.

    Raises:
        ValueError: fewer dimensions.

    Reference:
        Krizhevsky, Sutskever and Hinton, ImageNet Classification with Deep CNNs (NIPS 2012).
    """
    if input.ndim < 3:
        raise ValueError(
            f"Expected 3D or higher dimensionality input (got {input.ndim} dimensions)"
        )
    if not input.numel():
        return input
    x = widen(input)
    squares = x * x
    channels = input._shape[1]
    total = None
    for offset in range(-(size // 2), size - size // 2):
        # the channel at c + offset, for the channels that have one
        low, high = max(0, -offset), min(channels, channels - offset)
        if low >= high:
            continue
        part = slice_dim(squares, 1, low + offset, high + offset, 1)
        part = pad_slice(part, x._shape, 1, low, 1)
        total = part if total is None else total + part
    assert total is not None
    divisor = NAMES["pow"](total * (alpha / size) + k, beta)
    return x / divisor if input.dtype.category < 2 else cast(x / divisor, input.dtype)


@composite(method=False, public=False)
def normalize_rows(input: Tensor, p: float, dim: int, eps: float) -> Tensor:
    """x / max(norm of x along a dimension, eps)."""
    size = NAMES["norm"](widen(input), p, dim, True)
    return cast(widen(input) / NAMES["clamp_min"](size, eps), input.dtype)


@functional("normalize")
def normalize(
    input: Tensor, p: float = 2.0, dim: Any = 1, eps: float = 1e-12, out: Tensor | None = None
) -> Tensor:
    """x / max(norm of x along a dimension, eps).

    Args:
        p: the norm's exponent.
        dim: the dimension (or dimensions) whose vectors get norm 1.
        eps: the least divisor.
    """
    found = normalize_rows(input, p, dim, eps)
    return found if out is None else write_out(out, found)
