"""Updates of parameters that optimizers record as one row."""

from __future__ import annotations

from flambeau.ops.elementwise import sqrt
from flambeau.ops.table import composite
from flambeau.ops.writing import check_writable, store
from flambeau.tensor import Tensor


@composite(
    keep=True,
    method=False,
    public=False,
    numbers=("decay", "toward", "toward_square", "eps", "step_size"),
)
def adam_update(
    param: Tensor,
    grad: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    decay: float,
    toward: float,
    toward_square: float,
    eps: float,
    step_size: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """One step of Adam: the new parameter and its two running averages.

    Args:
        param, grad, exp_avg, exp_avg_sq: of one shape and dtype.
        decay: what the parameter is multiplied with first (1 - lr * weight_decay, or 1).
        toward, toward_square: how far the averages move: 1 - beta1 and 1 - beta2.
        eps: added to the root, with the second average's bias correction taken over.
        step_size: lr with both bias corrections.

    Reference:
        Kingma and Ba, Adam (arXiv:1412.6980); Loshchilov and Hutter, Decoupled Weight Decay
        Regularization (arXiv:1711.05101).
    """
    first = exp_avg + (grad - exp_avg) * toward
    second = exp_avg_sq + (grad * grad - exp_avg_sq) * toward_square
    return param * decay - first / (sqrt(second) + eps) * step_size, first, second


def adam_update_(
    param: Tensor,
    grad: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    decay: float,
    toward: float,
    toward_square: float,
    eps: float,
    step_size: float,
) -> None:
    """`adam_update`, written into the parameter and its averages."""
    targets = (param, exp_avg, exp_avg_sq)
    for t in targets:
        check_writable(t)
    found = adam_update(
        param, grad, exp_avg, exp_avg_sq, decay, toward, toward_square, eps, step_size
    )
    for t, value in zip(targets, found, strict=True):
        store(t, value)
