"""Cross-entropy of logits whose classes are split among ranks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flambeau.distributed import moves
from flambeau.distributed.types import I
from flambeau.ops import collective
from flambeau.ops.rows import NAMES
from flambeau.tensor import Tensor


class _State(threading.local):
    on = False


_state = _State()


@contextmanager
def loss_parallel() -> Iterator[None]:
    """While inside, `cross_entropy` of a DTensor that is split by class is computed on the parts:
    a few numbers a row are sent, and no logits."""
    was, _state.on = _state.on, True
    try:
        yield
    finally:
        _state.on = was


def active() -> bool:
    """Whether this is inside `loss_parallel()`."""
    return _state.on


def cross_entropy(
    logits: Tensor,
    target: Tensor,
    group: Any,
    sizes: tuple[int, ...],
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """log sum_c exp(x_c) - x_target, the classes being split among the ranks of a group.

    What is sent is of one number a row: the largest logit, the sum of exponentials and the logit of
    the target (and, with label smoothing, the sum of the logits).

    Args:
        logits: (..., C_r), this rank's classes.
        target: (...) int64, on every rank.
        group: the ranks.
        sizes: how many classes each has.
        ignore_index: a target that counts for nothing.
        reduction: "mean", "sum" or "none".
        label_smoothing: how much of the weight is spread over all classes.

    Returns:
        The loss, on every rank; its gradient is this rank's part.
    """
    here = group.rank()
    largest = logits.detach().amax(-1) if sizes[here] else None
    if largest is None:
        largest = NAMES["full"](target.shape, float("-inf"), dtype=logits.dtype)
    largest = collective.all_reduce_by(largest, group, "max")
    shifted = logits - largest.unsqueeze(-1)
    total = moves.all_reduce(NAMES["exp"](shifted).sum(-1), group, dst=I)
    at = target - sum(sizes[:here])
    mine = (at >= 0) & (at < sizes[here])
    place = NAMES["where"](mine, at, 0).unsqueeze(-1)
    if sizes[here]:
        own = NAMES["where"](mine, NAMES["gather"](shifted, -1, place).squeeze(-1), 0.0)
    else:
        own = shifted.sum(-1)
    picked = moves.all_reduce(own, group, dst=I)
    loss = NAMES["log"](total) - picked
    if label_smoothing:
        mean = moves.all_reduce(shifted.sum(-1), group, dst=I) / sum(sizes)
        smooth = NAMES["log"](total) - mean
        loss = loss * (1 - label_smoothing) + smooth * label_smoothing
    counted = target != ignore_index
    loss = NAMES["where"](counted, loss, 0.0)
    if reduction == "none":
        return loss
    summed = loss.sum()
    return summed / counted.sum() if reduction == "mean" else summed
