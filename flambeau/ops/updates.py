"""Updates of parameters that optimizers record as one row.

A row takes a parameter, its gradient, what the optimizer keeps for it, and numbers, and returns the
new parameter and what is kept, in that order. Numbers may be tensors without dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flambeau.ops.elementwise import maximum, sqrt
from flambeau.ops.table import composite
from flambeau.ops.writing import check_writable, store
from flambeau.tape import modes
from flambeau.tensor import Tensor


def update(
    row: Callable[..., Any], targets: tuple[Tensor | None, ...], grad: Tensor, *numbers: Any
) -> None:
    """Write an update into the tensors that it changes.

    Args:
        row: one of the rows below.
        targets: the parameter and what is kept for it, in the row's order; None for what is not.
        grad: the parameter's gradient.
        numbers: the row's other arguments.
    """
    before = targets
    if modes.grad:  # a derivative may need what is written over below
        before = tuple(t if t is None else t.clone() for t in targets)
    values = row(before[0], grad, *before[1:], *numbers)
    present = [t for t in targets if t is not None]
    for t in present:
        check_writable(t)
    for t, value in zip(present, values if len(present) > 1 else (values,), strict=True):
        store(t, value)


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
    greatest: Any,
    decay: float,
    toward: float,
    toward_square: float,
    eps: float,
    step_size: float,
) -> tuple[Tensor, ...]:
    """One step of Adam: the new parameter and its running averages.

    Args:
        param, grad, exp_avg, exp_avg_sq: of one shape.
        greatest: the greatest second average so far, to divide by, or None.
        decay: what the parameter is multiplied with first (1 - lr * weight_decay, or 1).
        toward, toward_square: how far the averages move: 1 - beta1 and 1 - beta2.
        eps: added to the root, with the second average's bias correction taken over.
        step_size: lr with both bias corrections.

    Reference:
        Kingma and Ba, Adam (arXiv:1412.6980); Loshchilov and Hutter, Decoupled Weight Decay
        Regularization (arXiv:1711.05101); Reddi et al., On the Convergence of Adam and Beyond
        (arXiv:1904.09237).
    """
    first = exp_avg + (grad - exp_avg) * toward
    second = exp_avg_sq + (grad * grad - exp_avg_sq) * toward_square
    squares = second if greatest is None else maximum(greatest, second)
    param = param * decay - first / (sqrt(squares) + eps) * step_size
    return (param, first, second) if greatest is None else (param, first, second, squares)


@composite(
    keep=True, method=False, public=False, numbers=("toward", "momentum", "eps", "step_size")
)
def rmsprop_update(
    param: Tensor,
    grad: Tensor,
    square_avg: Tensor,
    grad_avg: Any,
    buffer: Any,
    toward: float,
    momentum: float,
    eps: float,
    step_size: float,
) -> tuple[Tensor, ...]:
    """One step of RMSprop: the new parameter, running averages and buffer.

    Args:
        param, grad, square_avg: of one shape.
        grad_avg: the gradient's average, whose square is taken off, or None.
        buffer: sums of the quotients so far, or None.
        toward: how far the averages move: 1 - alpha.
        momentum: what the buffer is multiplied with.
        eps: added to the root.
        step_size: how far to go.

    Reference:
        Graves, Generating Sequences With Recurrent Neural Networks (arXiv:1308.0850), eq. 38-45.
    """
    square_avg = square_avg + (grad * grad - square_avg) * toward
    spread, kept = square_avg, [square_avg]
    if grad_avg is not None:
        grad_avg = grad_avg + (grad - grad_avg) * toward
        spread = square_avg - grad_avg * grad_avg
        kept.append(grad_avg)
    along = grad / (sqrt(spread) + eps)
    if buffer is not None:
        along = buffer * momentum + along
        kept.append(along)
    return (param - along * step_size, *kept)


@composite(keep=True, method=False, public=False, numbers=("eps", "step_size"))
def adagrad_update(
    param: Tensor, grad: Tensor, total: Tensor, eps: float, step_size: float
) -> tuple[Tensor, Tensor]:
    """One step of Adagrad: the new parameter and sum of squares.

    Args:
        param, grad, total: of one shape.
        eps: added to the root.
        step_size: how far to go.

    Reference:
        Duchi et al., Adaptive Subgradient Methods for Online Learning and Stochastic Optimization
        (JMLR 12, 2011).
    """
    total = total + grad * grad
    return param - grad / (sqrt(total) + eps) * step_size, total


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
