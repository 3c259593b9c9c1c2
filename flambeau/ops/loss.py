"""Classification losses: cross entropy and negative log-likelihood, by classes or probabilities.

The class dimension is 1 of (N, C, d1, ..), or 0 of (C). Picking a class is a comparison with its
index, which fuses with the reductions over classes; no gather or scatter is needed.
"""

from __future__ import annotations

import warnings
from typing import Any

from flambeau import dtypes
from flambeau.ir.fault import Fault
from flambeau.ops.activation import _log_softmax, floats_only
from flambeau.ops.arithmetic import dtype_word
from flambeau.ops.elementwise import exp, log, select_where
from flambeau.ops.entries import called
from flambeau.ops.indexing import index_leading
from flambeau.ops.movement import view_as_shape
from flambeau.ops.precision import cast, widen
from flambeau.ops.reduction import max_axes, restore, sum_axes
from flambeau.ops.rows import NAMES
from flambeau.ops.rules import kept_rule
from flambeau.ops.table import composite
from flambeau.tensor import Tensor

_TARGET = Fault("Target {index} is out of bounds.")


def reduction_of(reduction: str, size_average: bool | None, reduce: bool | None) -> str:
    """The reduction's name, also from the two deprecated bools.

    Raises:
        ValueError: another name.
    """
    if size_average is not None or reduce is not None:
        average = True if size_average is None else size_average
        reduction = ("mean" if average else "sum") if reduce in (None, True) else "none"
        warnings.warn(
            f"size_average and reduce args will be deprecated, please use "
            f"reduction='{reduction}' instead.",
            stacklevel=4,
        )
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"{reduction} is not a valid value for reduction")
    return reduction


def reduced(loss: Tensor, reduction: str) -> Tensor:
    """The loss per element, or its sum or mean."""
    if reduction == "none":
        return loss
    return NAMES[reduction](loss)


# -- picking classes -------------------------------------------------------------------------------


def _check_classes(input: Tensor, target: Tensor, weight: Any) -> None:
    if target.dtype not in (dtypes.int64, dtypes.uint8):
        raise RuntimeError(
            f"expected target dtype to be Long or Byte, but got {dtype_word(target.dtype)}"
        )
    a, b = input._shape, target._shape
    if not a:
        raise ValueError(f"Expected 1 or more dimensions (got {input.ndim})")
    if len(a) > 1 and b and a[0] != b[0]:
        raise ValueError(f"Expected input batch_size ({a[0]}) to match target batch_size ({b[0]}).")
    if len(a) <= 2:
        if target.ndim > 1:
            raise RuntimeError("0D or 1D target tensor expected, multi-target not supported")
        if target.numel() != (a[0] if len(a) == 2 else 1):
            raise RuntimeError(f"size mismatch (got input: {list(a)}, target: {list(b)})")
    elif len(b) != len(a) - 1:
        raise RuntimeError(
            f"only batches of spatial targets supported ({len(a) - 1}D tensors) but "
            f"got targets of dimension: {len(b)}"
        )
    elif b != (a[0], *a[2:]):
        raise RuntimeError(f"size mismatch (got input: {list(a)} , target: {list(b)}")
    classes = a[0] if len(a) == 1 else a[1]
    if weight is not None and weight._shape != (classes,):
        raise RuntimeError(
            f"weight tensor should be defined either for all {classes} classes or "
            f"no classes but got weight tensor of shape: {list(weight.shape)}"
        )


def _class_dim(input: Tensor) -> int:
    return 0 if input.ndim == 1 else 1


def _checked(input: Tensor, target: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Classes that may be looked up (ignored ones become 0), and which ones count.

    Looking the class up in the list of classes makes one out of range an IndexError when it runs.
    """
    dim = _class_dim(input)
    target = cast(target, dtypes.int64)
    shape = input._shape[:dim] + input._shape[dim + 1 :]
    if target._shape != shape:
        target = view_as_shape(target.contiguous(), shape)
    counts = target != ignore_index
    classes = NAMES["arange"](input._shape[dim], device=input.device)
    return index_leading(classes, select_where(counts, target, 0), fault=_TARGET), counts


def _hits(input: Tensor, classes: Tensor) -> Tensor:
    """Whether the class index along the class dimension is the target, of input's shape."""
    dim = _class_dim(input)
    count = input._shape[dim]
    index = NAMES["arange"](count, device=input.device)
    index = view_as_shape(index, (count,) + (1,) * (input.ndim - dim - 1))
    return index == classes.unsqueeze(dim)


# -- cross entropy ---------------------------------------------------------------------------------


@composite(keep=True, method=False, public=False)
def _cross_entropy(
    input: Tensor, target: Tensor, ignore_index: int, reduction: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """-log softmax(input)[target], reduced, and what the derivative needs.

    The others are the rows' maxima and the logarithms of their sums of exponentials relative to
    them, which only occur together as the log-sum-exp, and the number of rows that count.
    """
    floats_only("log_softmax_lastdim_kernel_impl", input)
    x, axes = widen(input), (_class_dim(input),)
    classes, counts = _checked(input, target, ignore_index)
    top = max_axes(x, axes)
    shifted = x - restore(top, x._shape, axes, True)
    log_total = log(sum_axes(exp(shifted), axes))
    picked = sum_axes(select_where(_hits(x, classes), shifted, 0.0), axes)
    loss = select_where(counts, log_total - picked, 0.0)
    every = tuple(range(loss.ndim))
    number = sum_axes(cast(counts, x.dtype), every) if every else cast(counts, x.dtype)
    if reduction != "none" and every:
        loss = sum_axes(loss, every)
    if reduction == "mean":
        loss = loss / number
    return cast(loss, input.dtype), top, log_total, number


@kept_rule
def _cross_entropy_vjp(
    gs: Any, outs: Any, input: Any, target: Any, ignore_index: int, reduction: str
) -> tuple[Any, ...]:
    """(softmax - one_hot) * g; the log-sum-exp's own cotangent adds softmax * g_lse."""
    g, _, g_lse, _ = gs
    _, top, log_total, number = outs
    x, dim = widen(input), _class_dim(input)
    p = exp(x - top.unsqueeze(dim) - log_total.unsqueeze(dim))
    found: Any = None
    if g is not None:
        classes, counts = _checked(input, target, ignore_index)
        wide = widen(g) / number if reduction == "mean" else widen(g)
        wide = select_where(counts, wide, 0.0).unsqueeze(dim)
        found = select_where(_hits(x, classes), p - 1.0, p) * wide
    if g_lse is not None:
        extra = p * g_lse.unsqueeze(dim)
        found = extra if found is None else found + extra
    return cast(found, input.dtype), None, None, None


_cross_entropy.vjp(_cross_entropy_vjp, saves="input target out1 out2 out3")


@composite(method=False, public=False, functional=True, autocast="float32")
def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """-log softmax(input)[target], or -sum of target * log softmax(input) for probabilities.

    Args:
        input: scores (N, C), (N, C, d1, ..) or (C).
        target: classes (N), (N, d1, ..) or (), int64; or probabilities of input's shape.
        weight: (C) or None; the mean over classes is weighted by it.
        size_average: deprecated.
        ignore_index: a class that does not count.
        reduce: deprecated.
        reduction: "mean" over what counts, "sum" or "none".
        label_smoothing: the share of the target that is spread over all classes.

    Raises:
        ValueError, RuntimeError: sizes or dtypes that do not fit.
        IndexError: a class outside [0, C), when the result is computed.
    """
    reduction = reduction_of(reduction, size_average, reduce)
    if not 0.0 <= label_smoothing <= 1.0:
        raise RuntimeError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing:g}")
    if input._shape == target._shape:
        return _by_probabilities(input, target, weight, ignore_index, reduction, label_smoothing)
    _check_classes(input, target, weight)
    if label_smoothing > 0.0:
        return _smoothed(input, target, weight, ignore_index, reduction, label_smoothing)
    if weight is not None:
        rows = _cross_entropy(input, target, ignore_index, "none")[0]
        return _weighed(rows, input, target, weight, ignore_index, reduction)
    found = _cross_entropy(input, target, ignore_index, reduction)[0]
    return view_as_shape(found, target._shape) if reduction == "none" else found


def _weighed(
    rows: Tensor, input: Tensor, target: Tensor, weight: Any, ignore_index: int, reduction: str
) -> Tensor:
    """Losses per row (0 where ignored) times the classes' weights, reduced."""
    counts = None
    share: Any = None
    if weight is not None or reduction == "mean":
        classes, counts = _checked(input, target, ignore_index)
        share = widen(cast(counts, rows.dtype))
        if weight is not None:
            share = share * widen(index_leading(weight.detach(), classes))
    if reduction == "none":
        rows = rows if weight is None else cast(widen(rows) * share, rows.dtype)
        return view_as_shape(rows, target._shape)
    wide = widen(rows) if weight is None else widen(rows) * share
    total = NAMES["sum"](wide)
    if reduction == "mean":
        total = total / NAMES["sum"](share)
    return cast(total, rows.dtype)


def _smoothed(
    input: Tensor, target: Tensor, weight: Any, ignore_index: int, reduction: str, smoothing: float
) -> Tensor:
    """(1 - smoothing) * loss + smoothing / C * the loss summed over all classes."""
    dim = _class_dim(input)
    logs = _log_softmax(widen(input), dim)
    classes, counts = _checked(input, target, ignore_index)
    rows = -sum_axes(select_where(_hits(input, classes), logs, 0.0), (dim,))
    scaled = logs
    if weight is not None:
        scaled = logs * widen(weight.detach().view(-1, *(1,) * (input.ndim - dim - 1)))
    spread = select_where(counts, -sum_axes(scaled, (dim,)), 0.0)
    share = cast(counts, logs.dtype)
    if weight is not None:
        share = share * widen(index_leading(weight.detach(), classes))
    rows = select_where(counts, rows if weight is None else rows * share, 0.0)
    rows = rows * (1.0 - smoothing) + spread * (smoothing / input._shape[dim])
    if reduction == "none":
        return cast(view_as_shape(rows, target._shape), input.dtype)
    total = NAMES["sum"](rows)
    if reduction == "mean":
        total = total / NAMES["sum"](share)
    return cast(total, input.dtype)


def _by_probabilities(
    input: Tensor, target: Tensor, weight: Any, ignore_index: int, reduction: str, smoothing: float
) -> Tensor:
    if target.dtype.category != 2:
        raise RuntimeError(
            f"Expected floating point type for target with class probabilities, got "
            f"{dtype_word(target.dtype)}"
        )
    if ignore_index >= 0:
        raise RuntimeError("ignore_index is not supported for floating point target")
    dim = _class_dim(input)
    count = input._shape[dim]
    if weight is not None and weight._shape != (count,):
        raise RuntimeError(
            f"cross_entropy: weight tensor should be defined either for all {count} "
            f"classes or no classes but got weight tensor of shape: "
            f"{list(weight.shape)}"
        )
    logs, share = _log_softmax(widen(input), dim), widen(target)
    if smoothing > 0.0:
        share = share * (1.0 - smoothing) + smoothing / count
    if weight is not None:
        share = share * widen(weight.detach().view(-1, *(1,) * (input.ndim - dim - 1)))
    rows = -sum_axes(logs * share, (dim,))
    if reduction == "mean":
        found = NAMES["sum"](rows) / max(input.numel() // max(count, 1), 1)
    else:
        found = reduced(rows, reduction)
    return cast(found, input.dtype)


@composite(method=False, public=False, functional=True, autocast="float32")
@called("NllLoss")
def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """-weight[target] * input[target] for log-probabilities.

    Args:
        input: log-probabilities (N, C), (N, C, d1, ..) or (C).
        target: classes (N), (N, d1, ..) or (), int64.
        weight: (C) or None; the mean is weighted by it.
        size_average: deprecated.
        ignore_index: a class that does not count.
        reduce: deprecated.
        reduction: "mean" over what counts, "sum" or "none".

    Raises:
        ValueError, RuntimeError: sizes or dtypes that do not fit.
        IndexError: a class outside [0, C), when the result is computed.
    """
    reduction = reduction_of(reduction, size_average, reduce)
    _check_classes(input, target, weight)
    classes, counts = _checked(input, target, ignore_index)
    picked = sum_axes(select_where(_hits(input, classes), input, 0.0), (_class_dim(input),))
    rows = select_where(counts, -picked, 0.0)
    return _weighed(rows, input, target, weight, ignore_index, reduction)
