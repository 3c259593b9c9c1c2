"""Losses of sequences without alignment, and of large vocabularies."""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau import dtypes
from flambeau.ir.fault import Fault
from flambeau.ops.elementwise import select_where
from flambeau.ops.indexing import held, index_leading
from flambeau.ops.rows import FUNCTIONAL, NAMES
from flambeau.ops.scan import widened
from flambeau.ops.table import composite, emit_many, primitive
from flambeau.tensor import Tensor

# -- connectionist temporal classification ---------------------------------------------------------


@primitive("host")
def alignment_loss(
    row: Any, log_probs: Tensor, targets: Tensor, input_lengths: Tensor, target_lengths: Tensor,
    blank: int,
) -> tuple[Tensor, ...]:  # fmt: skip
    """(losses (N), their gradients (T, N, C)) of `ctc_loss`, targets padded to (N, S)."""
    specs = ((log_probs._shape[1:2], log_probs.dtype), (log_probs._shape, log_probs.dtype))
    return emit_many(row, (log_probs, targets, input_lengths, target_lengths), (blank,), specs)


def _alignment_loss(
    x: Any, targets: Any, times: Any, sizes: Any, blank: int, specs: Any
) -> tuple[Any, Any]:
    """Forward and backward probabilities of all alignments, in logarithms.

    Reference: A. Graves et al., Connectionist Temporal Classification (ICML 2006), sections 4.1-2.
    """
    wide = widened(x).astype(np.float64)
    losses, slopes = np.zeros(x.shape[1]), np.zeros(x.shape)
    for k in range(x.shape[1]):
        losses[k], slopes[:, k] = _alignments(
            wide[: int(times[k]), k], targets[k, : int(sizes[k])], blank, x.shape[0]
        )
    return losses.astype(x.dtype), slopes.astype(x.dtype)


def _alignments(x: Any, target: Any, blank: int, length: int) -> tuple[Any, Any]:
    """One sequence: x (T, C), target (S); -> (loss, gradient padded to `length` steps)."""
    states = np.full(2 * len(target) + 1, blank)
    states[1::2] = target
    count, steps = len(states), len(x)
    skips = np.zeros(count, bool)  # where a blank between two labels may be left out
    skips[2:] = (states[2:] != blank) & (states[2:] != states[:-2])
    slope = np.zeros((length, x.shape[1]))
    if not steps:
        return (0.0 if count == 1 else np.inf), slope

    def advance(row: Any, jumps: Any) -> Any:
        one = np.concatenate([[-np.inf], row[:-1]])
        two = np.where(jumps, np.concatenate([[-np.inf, -np.inf], row])[:count], -np.inf)
        return np.logaddexp(np.logaddexp(row, one), two)

    emitted = x[:, states]
    ahead = np.full((steps, count), -np.inf)
    ahead[0, :2] = emitted[0, :2]
    back = np.full((steps, count), -np.inf)
    back[-1, -2:] = emitted[-1, -2:]
    turned = np.zeros(count, bool)
    turned[2:] = skips[2:][::-1]
    for t in range(1, steps):
        ahead[t] = advance(ahead[t - 1], skips) + emitted[t]
        back[-1 - t] = advance(back[-t][::-1], turned)[::-1] + emitted[-1 - t]
    loss = -np.logaddexp.reduce(ahead[-1, -2:])
    through = np.full(x.shape, -np.inf)
    both = ahead + back
    for s, label in enumerate(states):
        through[:, label] = np.logaddexp(through[:, label], both[:, s])
    slope[:steps] = np.exp(x) - np.exp(through + loss - x)
    return loss, slope


alignment_loss.reference(_alignment_loss)


def _alignment_vjp(g: Any, outs: Any, *args: Any) -> tuple[Any, ...]:
    if g[1] is not None:
        raise NotImplementedError("the second derivative of ctc_loss is not implemented")
    return g[0].reshape(1, -1, 1) * outs[1], *(None,) * 4


alignment_loss.vjp(_alignment_vjp, saves="out1")


def _padded(targets: Tensor, lengths: Tensor) -> Tensor:
    """Targets (N, S), of a vector that holds one after another."""
    if targets.ndim == 2:
        return targets
    ends = NAMES["cumsum"](lengths, 0)
    widest = max(int(lengths.max()), 1) if lengths.numel() else 1
    place = (ends - lengths).unsqueeze(1) + NAMES["arange"](widest)
    if not targets.numel():
        return NAMES["zeros_like"](place)
    return index_leading(targets, NAMES["clamp"](place, max=targets._shape[0] - 1))


@composite(functional=True, method=False, autocast="float32")
def ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: Any = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """-log probability of target sequences over all their alignments with the input.

    Args:
        log_probs: (T, N, C) or (T, C), logarithms that a `log_softmax` gave.
        targets: (N, S), or one after another in a vector; labels other than `blank`.
        input_lengths: (N) steps that count.
        target_lengths: (N) labels that count.
        reduction: "none", "mean" (each divided by its length first) or "sum".
        zero_infinity: count targets that do not fit their input as 0.

    Raises:
        RuntimeError: lengths that do not fit; those that are longer than there is, when it runs.
    """
    if reduction in (0, 1, 2):
        reduction = ("none", "mean", "sum")[reduction]
    single = log_probs.ndim == 2
    x = log_probs.unsqueeze(1) if single else log_probs
    lengths = [
        (v if isinstance(v, Tensor) else NAMES["tensor"](v)).reshape(-1).to(dtypes.int64)
        for v in (input_lengths, target_lengths)
    ]
    if x.dtype.category != 2:
        raise RuntimeError(f"\"ctc_loss_cpu\" not implemented for '{x.dtype.word}'")
    if not 0 <= blank < x._shape[2]:
        raise RuntimeError("blank must be in label range")
    for name, v in zip(("input_lengths", "target_lengths"), lengths, strict=True):
        if v._shape[0] != x._shape[1]:
            raise RuntimeError(f"{name} must be of size batch_size")
    room = targets.numel() if targets.ndim == 1 else targets._shape[1]
    for k, (name, most) in enumerate((("input_lengths", x._shape[0]), ("target_lengths", room))):
        fault = Fault(f"Expected {name} to have value at most {most}", RuntimeError)
        lengths[k] = held(lengths[k], lengths[k] <= most, fault)
    labels = _padded(targets.unsqueeze(0) if single and targets.ndim == 1 else targets, lengths[1])
    losses = alignment_loss(x, labels.to(dtypes.int64), *lengths, blank)[0]
    if zero_infinity:
        losses = select_where(losses == float("inf"), 0.0, losses)
    if reduction == "mean":
        return (losses / NAMES["clamp"](lengths[1], min=1).to(losses.dtype)).mean()
    if reduction == "sum":
        return losses.sum()
    return losses.squeeze(0) if single else losses


@composite(method=False, public=False, functional=True)
def linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: str = "mean",
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    options: Any = None,
) -> Tensor:
    """`cross_entropy` of a linear layer's results.

    Args:
        input: (N, I) or (I).
        linear_weight: (C, I), or (C, d1, ..., I) for a loss of several dimensions.
        target: classes or probabilities, as of `cross_entropy`.
        options: accepted; what torch computes in chunks is planned within the memory budget here.
    """
    if linear_weight.ndim > 2 and input.ndim < 2:
        raise RuntimeError(
            f"K-dimensional loss defined by linear_weight shape {tuple(linear_weight.shape)} "
            f"requires batched input, (N, {linear_weight._shape[-1]}), got unbatched input with "
            f"shape {tuple(input.shape)}"
        )
    logits = FUNCTIONAL["linear"](input, linear_weight.reshape(-1, linear_weight._shape[-1]))
    logits = logits.reshape(*input._shape[:-1], *linear_weight._shape[:-1])
    if linear_bias is not None:
        logits = logits + linear_bias
    found: Tensor = FUNCTIONAL["cross_entropy"](
        logits, target, weight=weight, reduction=reduction, label_smoothing=label_smoothing,
        ignore_index=-100 if ignore_index is None else ignore_index,
    )  # fmt: skip
    return found
