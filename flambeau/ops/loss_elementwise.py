"""Losses per element or pair: distances, Bernoulli, Poisson and Gaussian likelihoods, margins."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

from flambeau.dtype import promote_types
from flambeau.ir.fault import Fault
from flambeau.ops.activation import logsigmoid
from flambeau.ops.arithmetic import clamp_min, xlogy
from flambeau.ops.conversion import to_dtype
from flambeau.ops.elementwise import abs, exp, log, log1p, maximum, select_where, sigmoid, sign
from flambeau.ops.entries import called
from flambeau.ops.indexing import held, index_leading
from flambeau.ops.linear import pairwise_distance
from flambeau.ops.loss import reduced, reduction_of
from flambeau.ops.movement import view_as_shape
from flambeau.ops.precision import cast, doubled, fit, widen
from flambeau.ops.reduction import restore, sum_axes
from flambeau.ops.rows import NAMES, functional
from flambeau.ops.rules import derived
from flambeau.ops.table import composite
from flambeau.size import broadcast_shapes
from flambeau.tensor import Tensor

_NO_CLASS = Fault("target out of range", RuntimeError)
_NO_LABEL = Fault("argument #2 'target' is out of range", RuntimeError)
_UNLIKELY = {
    name: Fault(f"all elements of {name} should be between 0 and 1", RuntimeError)
    for name in ("input", "target")
}
_OLD = "Using a target size ({}) that is different to the input size ({}). "


def _finish(loss: Tensor, reduction: str, like: Tensor) -> Tensor:
    """The reduced loss in the input's dtype."""
    return (
        cast(reduced(loss, reduction), like.dtype)
        if like.dtype.category == 2
        else reduced(loss, reduction)
    )


def _as_rows(x: Tensor) -> Tensor:
    """Scores as (N, C): a vector is one row, a number one score."""
    return x if x.ndim == 2 else view_as_shape(x.contiguous(), (1, x.numel()))


def _not_empty_rows(x: Tensor) -> None:
    if x.ndim > 2 or (x.ndim and x._shape[-1] == 0):
        raise RuntimeError(
            "Expected non-empty vector or matrix with optional 0-dim batch size, but got: "
            f"{list(x.shape)}"
        )


def _check_same_size(input: Tensor, target: Tensor) -> None:
    if input._shape != target._shape:
        warnings.warn(
            f"Using a target size ({target.shape}) that is different to the input size "
            f"({input.shape}). This will likely lead to incorrect results due to "
            "broadcasting. Please ensure they have the same size.",
            stacklevel=4,
        )
    broadcast_shapes(input._shape, target._shape)


# -- distances -------------------------------------------------------------------------------------


def _by_distance(
    input: Tensor, target: Tensor, reduction: str, weight: Any, measure: str, width: float = 1.0
) -> Tensor:
    """A loss of input - target, in the promoted dtype, optionally weighted."""
    _check_same_size(input, target)
    if input.dtype.is_complex or target.dtype.is_complex:  # the loss is real where its measure is
        return reduced(_MEASURES[measure](input - target, width), reduction)
    if weight is not None and weight._shape != input._shape:
        raise ValueError("Weights and input must have the same size.")
    found: Tensor = _distance(input, target, weight, measure, float(width), reduction)
    return found


@derived
@composite(keep=True, method=False, public=False)
def _distance(
    input: Tensor, target: Tensor, weight: Any, measure: str, width: float, reduction: str
) -> Tensor:
    """What `_MEASURES` makes of input - target, reduced; the mean is weighted by the weights."""
    dtype = promote_types(input.dtype, target.dtype)
    loss = _MEASURES[measure](widen(cast(input, dtype)) - widen(cast(target, dtype)), width)
    if weight is not None:
        loss = loss * widen(weight)
        if reduction == "mean":
            return cast(NAMES["sum"](loss) / NAMES["sum"](widen(weight)), dtype)
    return cast(reduced(loss, reduction), dtype)


@composite(method=False, public=False, functional=True, autocast="float32")
@called("MseLoss")
def mse_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """(input - target)^2.

    Args:
        input: any shape.
        target: the same shape.
        size_average, reduce: deprecated.
        reduction: "mean", "sum" or "none".
        weight: of input's shape; the mean is weighted by it.
    """
    reduction = reduction_of(reduction, size_average, reduce)
    return _by_distance(input, target, reduction, weight, "square")


@composite(method=False, public=False, functional=True, autocast="float32")
def l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """|input - target|; arguments as for `mse_loss`."""
    reduction = reduction_of(reduction, size_average, reduce)
    return _by_distance(input, target, reduction, weight, "absolute")


@composite(method=False, public=False)
def smooth_absolute(input: Tensor, width: float, slope: float) -> Tensor:
    """x^2 / 2 * slope / width within `width` of 0, slope * (|x| - width / 2) outside."""
    size = abs(input)
    inner = input * input * (0.5 * slope / width)
    return select_where(size < width, inner, (size - 0.5 * width) * slope)


def _smooth_absolute_vjp(g: Any, out: Any, x: Any, width: float, slope: float) -> tuple[Any, ...]:
    inside = abs(x) < width
    return select_where(inside, g * x * (slope / width), g * sign(x) * slope), None, None


smooth_absolute.vjp(_smooth_absolute_vjp, saves="input")

#: Losses of a difference and a width, which some of them have.
_MEASURES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "square": lambda d, width: NAMES["square"](d),
    "absolute": lambda d, width: abs(d),
    "smooth": lambda d, width: smooth_absolute(d, width, 1.0),
    "huber": lambda d, width: smooth_absolute(d, width, width),
}


@composite(method=False, public=False, functional=True, autocast="float32")
@called("SmoothL1Loss")
def smooth_l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    beta: float = 1.0,
) -> Tensor:
    """d^2 / (2 beta) where |d| < beta, |d| - beta / 2 elsewhere, for d = input - target.

    Raises:
        ValueError: beta below 0.
    """
    reduction = reduction_of(reduction, size_average, reduce)
    if beta == 0.0:
        return _by_distance(input, target, reduction, None, "absolute")
    if beta < 0.0:
        raise RuntimeError("smooth_l1_loss does not support negative values for beta.")
    return _by_distance(input, target, reduction, None, "smooth", beta)


@composite(method=False, public=False, functional=True, autocast="float32")
@called("HuberLoss")
def huber_loss(
    input: Tensor,
    target: Tensor,
    reduction: str = "mean",
    delta: float = 1.0,
    weight: Tensor | None = None,
) -> Tensor:
    """d^2 / 2 where |d| < delta, delta * (|d| - delta / 2) elsewhere, for d = input - target.

    Raises:
        RuntimeError: delta not above 0.
    """
    reduction = reduction_of(reduction, None, None)
    if delta <= 0.0:
        raise RuntimeError("huber_loss does not support non-positive values for delta.")
    return _by_distance(input, target, reduction, weight, "huber", delta)


# -- likelihoods -----------------------------------------------------------------------------------


def _probabilities(x: Tensor, name: str) -> Tensor:
    return held(x, (x >= 0.0).logical_and(x <= 1.0), _UNLIKELY[name])


@composite(keep=True, method=False, public=False)
def bernoulli_nll(input: Tensor, target: Tensor) -> Tensor:
    """-(t log x + (1 - t) log(1 - x)), each logarithm at least -100."""
    input, target = _probabilities(input, "input"), _probabilities(target, "target")
    high = clamp_min(log(input), -100.0)
    low = clamp_min(log1p(-input), -100.0)
    return (target - 1.0) * low - target * high


def _bernoulli_vjp(g: Any, out: Any, x: Any, t: Any) -> tuple[Any, Any]:
    g_input = g * (x - t) / clamp_min((1.0 - x) * x, 1e-12)
    g_target = g * (clamp_min(log1p(-x), -100.0) - clamp_min(log(x), -100.0))
    return fit(g_input, x), fit(g_target, t)


bernoulli_nll.vjp(_bernoulli_vjp, saves="input target")


@composite(method=False, public=False, functional=True, autocast="float32")
@called("BinaryCrossEntropy")
def binary_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """-(t log x + (1 - t) log(1 - x)) for probabilities x, each logarithm at least -100.

    Raises:
        ValueError: sizes that differ.
        RuntimeError: elements outside [0, 1] (when it runs).
    """
    reduction = reduction_of(reduction, size_average, reduce)
    if target._shape != input._shape:
        raise ValueError(
            f"Using a target size ({target.shape}) that is different to the input "
            f"size ({input.shape}) is deprecated. Please ensure they have the same "
            "size."
        )
    loss = bernoulli_nll(widen(input), widen(target))
    if weight is not None:
        loss = loss * widen(weight)
    return _finish(loss, reduction, input)


@composite(keep=True, method=False, public=False)
def logit_nll(input: Tensor, target: Tensor) -> Tensor:
    """-(t log sigmoid(x) + (1 - t) log(1 - sigmoid(x))), without overflow."""
    return (1.0 - target) * input - logsigmoid(input)


logit_nll.vjp(
    lambda g, out, x, t: (fit(g * (sigmoid(x) - t), x), fit(-g * x, t)), saves="input target"
)


@composite(method=False, functional=True, autocast="float32")
@called("BinaryCrossEntropyWithLogits")
def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """`binary_cross_entropy` of sigmoid(input), without overflow.

    Args:
        input: scores, any shape.
        target: the same shape.
        weight: broadcasts to it.
        size_average, reduce: deprecated.
        reduction: "mean", "sum" or "none".
        pos_weight: factor of the positive part; broadcasts to the input.

    Raises:
        ValueError: sizes that differ.
    """
    if isinstance(reduction, int):  # the name in `flambeau` itself takes torch's codes
        reduction = ("none", "mean", "sum")[reduction]
    reduction = reduction_of(reduction, size_average, reduce)
    if target._shape != input._shape:
        raise ValueError(
            f"Target size ({target.shape}) must be the same as input size ({input.shape})"
        )
    x, t = widen(input), widen(target)
    if pos_weight is None:
        loss = logit_nll(x, t)
    else:
        factor = (widen(pos_weight) - 1.0) * t + 1.0
        loss = (1.0 - t) * x - factor * logsigmoid(x)
    if weight is not None:
        loss = loss * widen(weight)
    return _finish(loss, reduction, input)


@composite(method=False, functional=True, autocast="float32")
def kl_div(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Tensor:
    """target * (log target - input), pointwise, for log-probabilities `input`.

    Args:
        reduction: "mean", "batchmean" (the divergence itself), "sum" or "none".
        log_target: the target is given as logarithms.
    """
    by_batch = reduction == "batchmean"
    if by_batch:
        reduction = "sum"
    elif reduction == "mean" and size_average is None and reduce is None:
        warnings.warn(
            "reduction: 'mean' divides the total loss by both the batch size and the "
            "support size.'batchmean' divides only by the batch size, and aligns with "
            "the KL div math definition.'mean' will be changed to behave the same as "
            "'batchmean' in the next major release.",
            stacklevel=3,
        )
    reduction = reduction_of(reduction, size_average, reduce)
    x, t = widen(input), widen(target)
    loss = exp(t) * (t - x) if log_target else xlogy(t, t) - t * x
    total = _finish(loss, reduction, input)
    return total / input._shape[0] if by_batch and input.ndim else total


@composite(method=False, functional=True, autocast="float32")
def poisson_nll_loss(
    input: Tensor,
    target: Tensor,
    log_input: bool = True,
    full: bool = False,
    size_average: bool | None = None,
    eps: float = 1e-8,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Negative log-likelihood of counts under Poisson distributions.

    Args:
        log_input: the input is the logarithm of the rate.
        full: add Stirling's approximation of log(target!).
        eps: added to a rate before its logarithm.
    """
    reduction = reduction_of(reduction, size_average, reduce)
    x, t = (
        widen(input),
        widen(target) if target.dtype.category == 2 else to_dtype(target, widen(input).dtype),
    )
    loss = exp(x) - t * x if log_input else x - t * log(x + eps)
    if full:
        safe = maximum(t, 1.0)
        stirling = t * log(safe) - t + 0.5 * log(2 * math.pi * safe)
        loss = loss + select_where(t > 1, stirling, 0.0)
    return _finish(loss, reduction, input)


@functional("gaussian_nll_loss")
def gaussian_nll_loss(
    input: Tensor,
    target: Tensor,
    var: Any,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Tensor:
    """(log(var) + (input - target)^2 / var) / 2, var at least eps.

    Args:
        var: of input's shape, without its last dimension, with size 1 in one, or a number.
        full: add log(2 pi) / 2.

    Raises:
        ValueError: sizes that do not fit, or a negative variance.
    """
    if isinstance(var, (int, float)):
        if var < 0:
            raise ValueError("var has negative entry/entries")
        var = NAMES["full"](input._shape, float(var), dtype=input.dtype)
    elif bool((var < 0).any()):
        raise ValueError("var has negative entry/entries")
    if var._shape != input._shape:
        if input._shape[:-1] == var._shape:
            var = var.unsqueeze(-1)
        elif [v for n, v in zip(input._shape, var._shape) if n != v] != [1] or (
            input.ndim != var.ndim
        ):
            raise ValueError("var is of incorrect size")
    reduction = reduction_of(reduction, None, None)
    # the bound takes no gradient, as in torch
    v = widen(var)
    v = v + (maximum(v, eps) - v).detach()
    gap = widen(input) - widen(target)
    loss = (log(v) + gap * gap / v) * 0.5
    if full:
        loss = loss + 0.5 * math.log(2 * math.pi)
    return _finish(loss, reduction, input)


# -- margins ---------------------------------------------------------------------------------------


@composite(method=False, functional=True, autocast="float32")
def hinge_embedding_loss(
    input: Tensor,
    target: Tensor,
    margin: float = 1.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """x where the target is 1, max(0, margin - x) where it is -1."""
    reduction = reduction_of(reduction, size_average, reduce)
    far = select_where(target != 1, clamp_min(margin - input, 0), 0.0)
    near = select_where(target != -1, input, 0.0)
    return reduced(far + near, reduction)


@composite(method=False, functional=True, autocast="float32")
def margin_ranking_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """max(0, -target * (input1 - input2) + margin).

    Raises:
        RuntimeError: different numbers of dimensions.
    """
    reduction = reduction_of(reduction, size_average, reduce)
    if not input1.ndim == input2.ndim == target.ndim:
        raise RuntimeError(
            f"margin_ranking_loss : All input tensors should have same dimension but"
            f" got sizes: input1: {input1.size()}, input2: {input2.size()}, target: "
            f"{target.size()} "
        )
    return reduced(clamp_min(-target * (input1 - input2) + margin, 0), reduction)


@composite(method=False, functional=True, autocast="float32")
def cosine_embedding_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """1 - cos where the target is 1, max(0, cos - margin) where it is -1.

    Args:
        input1: (N, D) or (D).
        input2: likewise.
        target: (N) or ().

    Raises:
        RuntimeError: other shapes.
    """
    reduction = reduction_of(reduction, size_average, reduce)
    if target.ndim not in (0, 1):
        raise RuntimeError("0D or 1D target tensor expected, multi-target not supported")
    if input1.ndim != target.ndim + 1 or input2.ndim != target.ndim + 1:
        raise RuntimeError(
            f"{target.ndim}D target tensor expects {target.ndim + 1}D input "
            f"tensors, but found inputs with sizes {list(input1.shape)} and "
            f"{list(input2.shape)}."
        )
    eps = 1e-12  # torch's own, not that of `cosine_similarity`
    a, b = widen(input1), widen(input2)
    last = (a.ndim - 1,)
    dot = sum_axes(a * b, last)
    size = (sum_axes(a * a, last) + eps) * (sum_axes(b * b, last) + eps)
    cosine = dot / NAMES["sqrt"](size)
    near = select_where(target == 1, 1.0 - cosine, 0.0)
    far = select_where(target == -1, clamp_min(cosine - margin, 0), 0.0)
    return _finish(near + far, reduction, input1)


@composite(method=False, functional=True, autocast="float32")
def triplet_margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float = 1.0,
    p: float = 2,
    eps: float = 1e-6,
    swap: bool = False,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """max(0, d(anchor, positive) - d(anchor, negative) + margin) with the p-norm's distance.

    Args:
        swap: take the smaller of d(anchor, negative) and d(positive, negative).

    Raises:
        ValueError: a margin not above 0.
        RuntimeError: different numbers of dimensions.

    Reference:
        Balntas et al., Learning shallow convolutional feature descriptors (BMVC 2016).
    """
    reduction = reduction_of(reduction, size_average, reduce)
    if margin <= 0:
        raise ValueError(f"margin must be greater than 0, got {margin}")
    if not anchor.ndim == positive.ndim == negative.ndim:
        raise RuntimeError(
            f"The anchor, positive, and negative tensors are expected to have the "
            f"same number of dimensions, but got: anchor {anchor.ndim}D, positive "
            f"{positive.ndim}D, and negative {negative.ndim}D inputs"
        )
    return _triplet(
        anchor,
        positive,
        negative,
        lambda a, b: pairwise_distance(a, b, p, eps),
        margin,
        swap,
        reduction,
    )


def _triplet(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    distance: Any,
    margin: float,
    swap: bool,
    reduction: str,
) -> Tensor:
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = NAMES["minimum"](far, distance(positive, negative))
    return reduced(clamp_min(near - far + margin, 0), reduction)


@functional("triplet_margin_with_distance_loss")
def triplet_margin_with_distance_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    distance_function: Any = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """`triplet_margin_loss` with a distance of one's own.

    Args:
        distance_function: of two tensors; by default `pairwise_distance`.
    """
    reduction = reduction_of(reduction, None, None)
    if margin <= 0:
        raise ValueError(f"margin must be greater than 0, got {margin}")
    if not anchor.ndim == positive.ndim == negative.ndim:
        raise RuntimeError(
            f"The anchor, positive, and negative tensors are expected to have the "
            f"same number of dimensions, but got: anchor {anchor.ndim}D, positive "
            f"{positive.ndim}D, and negative {negative.ndim}D inputs"
        )
    return _triplet(
        anchor, positive, negative, distance_function or pairwise_distance, margin, swap, reduction
    )


@composite(method=False, public=False, functional=True, autocast="float32")
def soft_margin_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """log(1 + exp(-target * input)) for targets 1 and -1."""
    reduction = reduction_of(reduction, size_average, reduce)
    broadcast_shapes(input._shape, target._shape)
    t = cast(target, input.dtype)
    return _finish(-logsigmoid(widen(input) * widen(t)), reduction, input)


@functional("multilabel_soft_margin_loss")
def multilabel_soft_margin_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """The mean over classes (the last dimension) of the logistic loss of each.

    Args:
        input: scores (.., C).
        target: 0 or 1, the same shape.
        weight: (C) or None.
    """
    reduction = reduction_of(reduction, size_average, reduce)
    x, t = widen(input), widen(target)
    loss = -(t * logsigmoid(x) + (1 - t) * logsigmoid(-x))
    if weight is not None:
        loss = loss * widen(weight)
    last = (input.ndim - 1,)
    rows = sum_axes(loss, last) / float(input._shape[-1])
    return _finish(rows, reduction, input)


@composite(method=False, public=False, functional=True, autocast="float32")
def multi_margin_loss(
    input: Tensor,
    target: Tensor,
    p: int = 1,
    margin: float = 1.0,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Mean over the other classes of max(0, margin - x[y] + x[i])^p.

    Args:
        input: scores (N, C) or (C).
        target: classes (N) or ().
        p: 1 or 2.
        weight: (C) or None.

    Raises:
        ValueError: another p.
    """
    reduction = reduction_of(reduction, size_average, reduce)
    if p not in (1, 2):
        raise ValueError("only p == 1 and p == 2 supported")
    if weight is not None and weight.ndim != 1:
        raise ValueError("weight must be one-dimensional")
    _not_empty_rows(input)
    x = doubled(_as_rows(input))
    rows, count = x._shape
    if target.numel() != rows:
        raise RuntimeError(
            f"inconsistent target size, expected {rows} but got {list(target.shape)}"
        )
    labels = view_as_shape(target.contiguous(), (rows,))
    labels = index_leading(NAMES["arange"](count), labels, fault=_NO_CLASS)
    hit = NAMES["arange"](count) == labels.unsqueeze(-1)
    own = restore(sum_axes(select_where(hit, x, 0.0), (1,)), x._shape, (1,), True)
    gap = clamp_min(margin - own + x, 0)
    loss = select_where(hit, 0.0, gap if p == 1 else gap * gap)
    if weight is not None:
        loss = loss * NAMES["index_select"](doubled(weight), 0, labels).unsqueeze(-1)
    found = sum_axes(loss, (1,)) / float(count)
    return _finish(found if input.ndim == 2 else view_as_shape(found, ()), reduction, input)


@composite(method=False, public=False, functional=True, autocast="float32")
def multilabel_margin_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Sum over classes i that are no labels and labels j of max(0, 1 - (x[j] - x[i])) / C.

    Args:
        input: scores (N, C) or (C).
        target: labels, the same shape: class indices up to the first -1.
    """
    reduction = reduction_of(reduction, size_average, reduce)
    _not_empty_rows(input)
    if input._shape != target._shape:
        raise RuntimeError(
            f"inconsistent target size {list(target.shape)} for input of size {list(input.shape)}"
        )
    x = doubled(_as_rows(input))
    rows, count = x._shape
    labels = view_as_shape(target.contiguous(), (rows, count))
    # a label counts while no -1 came before it: the number of -1 so far is 0
    place = NAMES["arange"](count)
    labels = index_leading(NAMES["arange"](-1, count), labels + 1, fault=_NO_LABEL)
    ends = cast(labels < 0, place.dtype)
    sofar = sum_axes(
        select_where(place.unsqueeze(0) <= place.unsqueeze(1), ends.unsqueeze(1), 0), (2,)
    )
    valid = sofar == 0
    safe = select_where(valid, labels, 0)
    # hits[n, j, i]: label j of row n is class i
    hits = (safe.unsqueeze(-1) == place) & valid.unsqueeze(-1)
    is_label = sum_axes(cast(hits, place.dtype), (1,)) > 0
    own = sum_axes(select_where(hits, x.unsqueeze(1), 0.0), (2,))
    gap = clamp_min(1.0 - own.unsqueeze(-1) + x.unsqueeze(1), 0)
    takes_part = valid.unsqueeze(-1) & ~is_label.unsqueeze(1)
    found = sum_axes(select_where(takes_part, gap, 0.0), (1, 2)) / float(count)
    return _finish(found if input.ndim == 2 else view_as_shape(found, ()), reduction, input)
