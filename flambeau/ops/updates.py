"""Updates of parameters: the optimizers' rules, and how a step over all parameters is recorded.

A rule takes a parameter, its gradient, what the optimizer keeps for it, and numbers,
and returns the new parameter and what is kept, in that order; nearly all are rows. Numbers may be
tensors without dimensions.

Note [One node a step]
The rule of a step is recorded as one node for all parameters that take the same numbers. Its body
is the rule, once for each parameter, and is taken apart when a program is compiled, as that of any
kept composite. So a step costs as much Python as it has tensors, however long the rule is. Where
gradients flow through the update, or a tensor is a view, a subclass's or shared, parameters are
updated one after another by calls of the rule.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from flambeau import overriding, record, snapshots
from flambeau.ir.graph import PICK, Node, Op
from flambeau.ops.elementwise import abs, maximum, minimum, select_where, sign, sqrt
from flambeau.ops.products import addmm, dot
from flambeau.ops.rows import NAMES
from flambeau.ops.table import HOLE, NUMBER, composite
from flambeau.ops.writing import check_writable, store
from flambeau.tape import modes
from flambeau.tensor import Tensor

Rule = Callable[..., Any]


class Change(NamedTuple):
    """What a step does to one parameter.

    Attributes:
        rule: one of those below.
        targets: the parameter and what is kept for it, in the rule's order; None for what is not.
        grad: the parameter's gradient.
        numbers: the rule's other arguments; bools and tuples are compiled in.
        maximize: take the gradient's opposite.
        decay: this times the parameter is added to the gradient.
        shrink: what the parameter is multiplied with first.
    """

    rule: Rule
    targets: tuple[Tensor | None, ...]
    grad: Tensor
    numbers: tuple[Any, ...]
    maximize: bool = False
    decay: Any = 0.0
    shrink: Any = 1.0


def changed(
    rule: Rule,
    targets: tuple[Tensor | None, ...],
    grad: Tensor,
    numbers: tuple[Any, ...],
    maximize: bool,
    decay: Any,
    shrink: Any,
) -> tuple[Tensor, ...]:
    """The new values of the targets that are there; arguments as in `Change`, and None for a decay
    or shrinking that is not wanted."""
    param, *kept = targets
    assert param is not None
    if maximize:
        grad = -grad
    if decay is not None:
        grad = grad + param * decay
    if shrink is not None:
        param = param * shrink
    found = rule(param, grad, *kept, *numbers)
    return found if isinstance(found, tuple) else (found,)


def update(changes: Iterable[Change]) -> None:
    """Write what a step changes: Note [One node a step].

    Args:
        changes: no two of one parameter's memory.
    """
    alike: dict[Any, list[Change]] = {}
    cells: set[Any] = set()
    changes = [_of_reals(c) if c.grad.dtype.is_complex else c for c in changes]
    apart = modes.grad or record.thread.watcher is not None
    count = 0
    for change in changes:
        if apart:
            break
        rule, targets, grad, numbers, maximize, decay, shrink = change
        apart = overriding.concerns((grad, *targets))
        there = []
        for t in targets:
            there.append(t is not None)
            if t is not None:
                count += 1
                cells.add(t._cell)
                apart = apart or not _is_whole(t)
        device = targets[0]._cell.device  # type: ignore[union-attr]
        key = (rule, *there, numbers, maximize, decay, shrink, device)
        some = alike.get(key)
        if some is None:
            some = alike[key] = []
            apart = apart or any(isinstance(n, Tensor) for n in (*numbers, decay, shrink))
        some.append(change)
    if apart or len(cells) < count:
        for change in changes:
            _write(change)
        return
    for some in alike.values():
        _record(some)


def _of_reals(change: Change) -> Change:
    """A change of complex tensors as that of pairs of real numbers over the same memory."""
    reals = NAMES["view_as_real"]
    targets = tuple([t if t is None else reals(t) for t in change.targets])
    return change._replace(targets=targets, grad=reals(change.grad))


def _is_whole(t: Tensor) -> bool:
    """Whether all of a tensor's memory is its own to be given a new value."""
    return (
        t._map is None
        and t._base is None
        and t.dtype is t._cell.node.dtype
        and not t._inference
        and not t._unseen
    )


def _write(change: Change) -> None:
    """Make one change by a call of the rule."""
    rule, targets, grad, numbers, maximize, decay, shrink = change
    before = targets
    if modes.grad:  # a derivative may need what is written over below
        before = tuple(t if t is None else t.clone() for t in targets)
    decay = decay if isinstance(decay, Tensor) or decay != 0 else None
    shrink = shrink if isinstance(shrink, Tensor) or shrink != 1 else None
    values = changed(rule, before, grad, numbers, maximize, decay, shrink)
    present = [t for t in targets if t is not None]
    for t in present:
        check_writable(t)
    for t, value in zip(present, values, strict=True):
        store(t, value)


class _Form(NamedTuple):
    """What the parameters of one node have in common: how many there are, which of the rule's
    targets, and what happens before the rule."""

    params: int
    there: tuple[bool, ...]
    maximize: bool
    decays: bool
    shrinks: bool


@functools.cache
def _joint(rule: Rule) -> Op:
    """The operation that applies a rule to several parameters."""

    def body(form: _Form, *args: Any) -> Any:
        operands = iter(args)
        tensors = [
            (
                tuple([next(operands) if there else None for there in form.there]),
                next(operands),
            )
            for _ in range(form.params)
        ]
        decay = next(operands) if form.decays else None
        shrink = next(operands) if form.shrinks else None
        numbers = tuple(operands)
        found = [
            t
            for targets, grad in tensors
            for t in changed(rule, targets, grad, numbers, form.maximize, decay, shrink)
        ]
        return tuple(found) if len(found) > 1 else found[0]

    op = Op(f"{rule.__name__}s", "composite", body)
    op.module = __name__
    return op


def _record(changes: Sequence[Change]) -> None:
    """Record changes that differ in tensors alone, all of them whole, as one node."""
    rule, targets, _, numbers, maximize, decay, shrink = changes[0]
    form = _Form(
        len(changes), tuple([t is not None for t in targets]), maximize, decay != 0, shrink != 1
    )
    src: list[Any] = []
    written: list[Tensor] = []
    exposed: list[record.Cell] = []
    for change in changes:
        present = [t for t in change.targets if t is not None]
        written += present
        src += [t._cell.node for t in present]
        src.append(change.grad._node())
        if record.is_exposed(change.grad._cell):
            exposed.append(change.grad._cell)
    attrs: list[Any] = [form, *(HOLE,) * len(src)]
    if form.decays:
        numbers = (decay, shrink, *numbers) if form.shrinks else (decay, *numbers)
    elif form.shrinks:
        numbers = (shrink, *numbers)
    for n in numbers:
        if isinstance(n, (bool, tuple)):
            attrs.append(n)
        else:
            attrs.append(NUMBER)
            src.append(float(n))
    specs = tuple([(t._shape, t.dtype) for t in written])
    shape, dtype = specs[0]
    op = _joint(rule)
    if len(specs) == 1:
        values = [Node(op, tuple(src), tuple(attrs), shape, dtype)]
    else:
        whole = Node(op, tuple(src), (*attrs, specs), shape, dtype)
        values = [Node(PICK, (whole,), (k,), *spec) for k, spec in enumerate(specs)]
    record.place([], [(t._cell, value) for t, value in zip(written, values, strict=True)])
    if exposed:
        snapshots.settle(exposed)


# -- rules -----------------------------------------------------------------------------------------


def update_row(body: Rule) -> Rule:
    """A row of one rule: kept whole; its floats are numbers that are passed when a program runs."""
    parameters = inspect.signature(body).parameters.values()
    numbers = [p.name for p in parameters if p.annotation == "float"]
    return composite(keep=True, method=False, public=False, numbers=numbers)(body)


@update_row
def adam_update(
    param: Tensor,
    grad: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    greatest: Any,
    toward: float,
    toward_square: float,
    eps: float,
    step_size: float,
) -> tuple[Tensor, ...]:
    """One step of Adam: the new parameter and its running averages.

    Args:
        param, grad, exp_avg, exp_avg_sq: of one shape.
        greatest: the greatest second average so far, to divide by, or None.
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
    param = param - first / (sqrt(squares) + eps) * step_size
    return (param, first, second) if greatest is None else (param, first, second, squares)


@update_row
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


@update_row
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


@update_row
def sgd_update(param: Tensor, grad: Tensor, step_size: float) -> Tensor:
    """One step of gradient descent: ``param - step_size grad``.

    Args:
        param, grad: of one shape and dtype.
        step_size: how far to go.
    """
    return param - grad * step_size


@update_row
def momentum_update(
    param: Tensor,
    grad: Tensor,
    buffer: Tensor,
    momentum: float,
    toward: float,
    step_size: float,
    nesterov: bool,
    first: bool = False,
) -> tuple[Tensor, Tensor]:
    """One step of gradient descent with momentum: the new parameter and buffer.

    Args:
        param, grad, buffer: of one shape and dtype.
        momentum: what the buffer is multiplied with.
        toward: how much of the gradient is added to it: 1 - dampening.
        step_size: how far to go.
        nesterov: go along the gradient plus momentum times the buffer, in place of the buffer.
        first: take the gradient for the buffer, which no gradient flows through.

    Reference:
        Sutskever et al., On the importance of initialization and momentum in deep learning
        (ICML 2013).
    """
    buffer = grad.detach() if first else buffer * momentum + grad * toward
    along = grad + buffer * momentum if nesterov else buffer
    return param - along * step_size, buffer


@update_row
def nadam_update(
    param: Tensor,
    grad: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    toward: float,
    toward_square: float,
    correction: float,
    eps: float,
    grad_size: float,
    step_size: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """One step of NAdam: the new parameter and its running averages.

    Args:
        param, grad, exp_avg, exp_avg_sq: of one shape.
        toward, toward_square: how far the averages move: 1 - beta1 and 1 - beta2.
        correction: of the second average's bias: 1 - beta2^t.
        eps: added to the root.
        grad_size, step_size: how far to go along the gradient and along its average.

    Reference:
        Dozat, Incorporating Nesterov Momentum into Adam (ICLR 2016 workshop).
    """
    first = exp_avg + (grad - exp_avg) * toward
    second = exp_avg_sq + (grad * grad - exp_avg_sq) * toward_square
    size = sqrt(second / correction) + eps
    return param - grad / size * grad_size - first / size * step_size, first, second


@update_row
def radam_update(
    param: Tensor,
    grad: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    toward: float,
    toward_square: float,
    eps: float,
    step_size: float,
    adaptive: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """One step of RAdam: the new parameter and its running averages.

    Args:
        param, grad, exp_avg, exp_avg_sq: of one shape.
        toward, toward_square: how far the averages move: 1 - beta1 and 1 - beta2.
        eps: added to the root.
        step_size: how far to go, with the corrections of the bias and of the variance.
        adaptive: whether the step is divided by the root of the second average.

    Reference:
        Liu et al., On the Variance of the Adaptive Learning Rate and Beyond (arXiv:1908.03265),
        algorithm 2.
    """
    first = exp_avg + (grad - exp_avg) * toward
    second = exp_avg_sq + (grad * grad - exp_avg_sq) * toward_square
    along = first / (sqrt(second) + eps) if adaptive else first
    return param - along * step_size, first, second


@update_row
def adamax_update(
    param: Tensor,
    grad: Tensor,
    exp_avg: Tensor,
    exp_inf: Tensor,
    toward: float,
    beta2: float,
    eps: float,
    step_size: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """One step of Adamax: the new parameter, average and decaying maximum.

    Args:
        param, grad, exp_avg, exp_inf: of one shape.
        toward: how far the average moves: 1 - beta1.
        beta2: what the maximum is multiplied with.
        eps: added to the gradient's size.
        step_size: lr with the average's bias correction.

    Reference:
        Kingma and Ba, Adam (arXiv:1412.6980), algorithm 2.
    """
    first = exp_avg + (grad - exp_avg) * toward
    largest = maximum(exp_inf * beta2, abs(grad) + eps)
    return param - first / largest * step_size, first, largest


@update_row
def adadelta_update(
    param: Tensor,
    grad: Tensor,
    square_avg: Tensor,
    acc_delta: Tensor,
    toward: float,
    eps: float,
    step_size: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """One step of Adadelta: the new parameter and the averages of squared gradients and steps.

    Args:
        param, grad, square_avg, acc_delta: of one shape.
        toward: how far the averages move: 1 - rho.
        eps: added under the roots.
        step_size: factor of the step.

    Reference:
        Zeiler, ADADELTA: An Adaptive Learning Rate Method (arXiv:1212.5701), algorithm 1.
    """
    square_avg = square_avg + (grad * grad - square_avg) * toward
    along = sqrt(acc_delta + eps) / sqrt(square_avg + eps) * grad
    acc_delta = acc_delta + (along * along - acc_delta) * toward
    return param - along * step_size, square_avg, acc_delta


@update_row
def rprop_update(
    param: Tensor,
    grad: Tensor,
    prev: Tensor,
    step_size: Tensor,
    shrink: float,
    grow: float,
    least: float,
    most: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """One step of Rprop: the new parameter, gradient to compare with, and sizes of steps.

    Args:
        param, grad, prev, step_size: of one shape.
        shrink, grow: factors of the size where the gradient's sign changes, and where it stays.
        least, most: bounds of the size.

    Reference:
        Riedmiller and Braun, A direct adaptive method for faster backpropagation learning: the
        RPROP algorithm (ICNN 1993).
    """
    same = grad * prev
    kept = select_where(same < 0, step_size * shrink, step_size)
    size = minimum(maximum(select_where(same > 0, step_size * grow, kept), least), most)
    grad = select_where(same < 0, 0.0, grad)
    return param - sign(grad) * size, grad, size


@update_row
def asgd_update(
    param: Tensor, grad: Tensor, ax: Tensor, step_size: float, toward: float, averaged: bool
) -> tuple[Tensor, Tensor]:
    """One step of averaged gradient descent: the new parameter and mean of parameters.

    Args:
        param, grad, ax: of one shape.
        step_size: how far to go.
        toward: how far the mean moves.
        averaged: whether there is a mean; else the parameter itself is kept.

    Reference:
        Polyak and Juditsky, Acceleration of stochastic approximation by averaging (SIAM J. Control
        Optim. 30, 1992).
    """
    param = param - grad * step_size
    return param, ax + (param - ax) * toward if averaged else param.clone()


@update_row
def adafactor_update(
    param: Tensor,
    grad: Tensor,
    rows: Tensor,
    columns: Any,
    toward: float,
    relative: float,
    least: float,
    smallest: float,
    most: float,
    shrink: float,
) -> tuple[Tensor, ...]:
    """One step of Adafactor: the new parameter and averages of squares.

    Args:
        param, grad: of one shape (.., M, N).
        rows: averages of the squares' means over rows (.., M, 1); of the squares themselves where
            there are no columns.
        columns: the same over columns (.., 1, N), or None.
        toward: how far the averages move.
        relative: the step's size beside the parameter's.
        least: least mean square of a gradient.
        smallest: least root mean square of the parameter.
        most: greatest root mean square of the step before its scaling.
        shrink: what the parameter is multiplied with, once its size is known.

    Reference:
        Shazeer and Stern, Adafactor: Adaptive Learning Rates with Sublinear Memory Cost
        (arXiv:1804.04235), algorithms 4 and 5.
    """
    count = max(param.numel(), 1) ** 0.5
    size = maximum(param.norm(2).double() / count, smallest)
    squares = grad * grad
    kept: tuple[Tensor, ...]
    if columns is None:
        average = rows + (squares - rows) * toward
        kept = (average,)
    else:
        rows = rows + (squares.mean(-1, keepdim=True) - rows) * toward
        columns = columns + (squares.mean(-2, keepdim=True) - columns) * toward
        average = rows @ columns / maximum(rows.mean(-2, keepdim=True), least)
        kept = (rows, columns)
    step = maximum(average, least * least).rsqrt() * grad
    excess = maximum(step.norm(2).double() / (count * most), 1.0)
    return (param * shrink - step * (size * relative / excess), *kept)


def orthogonalised(
    matrix: Tensor, coefficients: tuple[float, float, float], steps: int, eps: Any
) -> Tensor:
    """Roughly the nearest orthogonal matrix: singular values go to between 0.7 and 1.2.

    Each step makes ``X <- a X + (b G + c G G) X`` with ``G = X X^T``, in bfloat16.

    Args:
        matrix: (M, N).
        coefficients: a, b and c.
        steps: how many steps.
        eps: least norm that the matrix is divided by at first.

    Returns:
        (M, N), bfloat16.
    """
    a, b, c = coefficients
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.bfloat16()
    x = x.T if tall else x
    x = x / maximum(x.norm(), eps)
    for _ in range(steps):
        gram = x @ x.T
        x = addmm(x, addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


def muon_update(
    param: Tensor,
    grad: Tensor,
    buffer: Tensor,
    toward: float,
    ahead: float,
    eps: float,
    step_size: float,
    coefficients: tuple[float, float, float],
    steps: tuple[int],
) -> tuple[Tensor, Tensor]:
    """One step of Muon: the new matrix and average of gradients. A rule that is no row, since it
    rounds to bfloat16 in the middle.

    Args:
        param, grad, buffer: (M, N).
        toward: how far the average moves: 1 - momentum.
        ahead: how far the step is from the gradient to its average.
        eps, coefficients, steps: see `orthogonalised`; the last is in a tuple, being compiled in.
        step_size: how far to go.

    Reference:
        Jordan, Muon: An optimizer for hidden layers in neural networks (2024).
    """
    buffer = buffer + (grad - buffer) * toward
    step = orthogonalised(grad + (buffer - grad) * ahead, coefficients, steps[0], eps)
    return param - step.to(param.dtype) * step_size, buffer


@composite(keep=True, method=False, public=False)
def lbfgs_direction(gradient: Tensor, size: Tensor, *history: Tensor) -> tuple[Tensor, ...]:
    """The direction of a step of L-BFGS, by the two-loop recursion: minus the estimated inverse
    Hessian times the gradient.

    Args:
        gradient: (N,).
        size: (), of the inverse Hessian at the start, as a multiple of the identity.
        history: the last changes of the gradient, oldest first, then as many steps (N,), then what
            each counts for (), the reciprocal of the change along the step.

    Returns:
        The direction (N,), and of each step how much of it the first loop took away ().

    Reference:
        Nocedal and Wright, Numerical Optimization (2006), algorithm 7.4.
    """
    count = len(history) // 3
    pairs = [*zip(history[:count], history[count : 2 * count], history[2 * count :], strict=True)]
    found, parts = -gradient, []
    for change, step, weight in reversed(pairs):
        parts.append(dot(step, found) * weight)
        found = found - change * parts[-1]
    parts.reverse()
    found = found * size
    for (change, step, weight), part in zip(pairs, parts, strict=True):
        found = found + step * (part - dot(change, found) * weight)
    return (found, *parts)
