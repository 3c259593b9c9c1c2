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
    found = adam_update(
        param, grad, exp_avg, exp_avg_sq, decay, toward, toward_square, eps, step_size
    )
    _write((param, exp_avg, exp_avg_sq), found)


@composite(keep=True, method=False, public=False, numbers=("step_size",))
def sgd_update(param: Tensor, grad: Tensor, step_size: float) -> Tensor:
    """One step of gradient descent: ``param - step_size grad``.

    Args:
        param, grad: of one shape and dtype.
        step_size: how far to go.
    """
    return param - grad * step_size


@composite(
    keep=True,
    method=False,
    public=False,
    numbers=("momentum", "toward", "step_size"),
)
def momentum_update(
    param: Tensor,
    grad: Tensor,
    buffer: Tensor,
    momentum: float,
    toward: float,
    step_size: float,
    nesterov: bool,
) -> tuple[Tensor, Tensor]:
    """One step of gradient descent with momentum: the new parameter and buffer.

    Args:
        param, grad, buffer: of one shape and dtype.
        momentum: what the buffer is multiplied with.
        toward: how much of the gradient is added to it: 1 - dampening.
        step_size: how far to go.
        nesterov: go along the gradient plus momentum times the buffer, in place of the buffer.

    Reference:
        Sutskever et al., On the importance of initialization and momentum in deep learning
        (ICML 2013).
    """
    buffer = buffer * momentum + grad * toward
    along = grad + buffer * momentum if nesterov else buffer
    return param - along * step_size, buffer


def sgd_update_(param: Tensor, grad: Tensor, step_size: float) -> None:
    """`sgd_update`, written into the parameter."""
    _write((param,), (sgd_update(param, grad, step_size),))


def momentum_update_(
    param: Tensor,
    grad: Tensor,
    buffer: Tensor,
    momentum: float,
    toward: float,
    step_size: float,
    nesterov: bool,
) -> None:
    """`momentum_update`, written into the parameter and the buffer."""
    found = momentum_update(param, grad, buffer, momentum, toward, step_size, nesterov)
    _write((param, buffer), found)


def _write(targets: tuple[Tensor, ...], values: tuple[Tensor, ...]) -> None:
    """Values into the tensors they are updates of, all of which must be writable."""
    for t in targets:
        check_writable(t)
    for t, value in zip(targets, values, strict=True):
        store(t, value)
