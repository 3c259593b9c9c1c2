"""L-BFGS."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import flambeau
from flambeau.ops.updates import lbfgs_direction
from flambeau.optim.line_search import Point, strong_wolfe
from flambeau.optim.optimizer import (
    Optimizer,
    check_options,
    to_scalar,
    use_grad_for_differentiable,
)
from flambeau.optim.update import as_reals


class LBFGS(Optimizer):
    """Steps by an estimate of the inverse Hessian, from the last changes of gradient and place.

    There is one group of parameters; its state stands with the first of them. A step evaluates the
    closure several times, and reads values.

    Args:
        params: tensors.
        lr: step size, or the first that a line search tries.
        max_iter: changes of place in a step.
        max_eval: evaluations of the closure in a step; 5/4 of `max_iter` unless given.
        tolerance_grad: largest element of a gradient that is taken for zero.
        tolerance_change: change of the value or of an element that ends a step.
        history_size: how many changes are remembered.
        line_search_fn: "strong_wolfe" or None.

    Raises:
        ValueError: an option is out of range, or there are several groups.

    Reference:
        Nocedal and Wright, Numerical Optimization (2006), algorithms 7.4 and 7.5.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: Any = 1,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ) -> None:
        """Check the options."""
        check_options(lr=(lr, "learning rate"))
        defaults = {
            "lr": lr,
            "max_iter": max_iter,
            "max_eval": max_iter * 5 // 4 if max_eval is None else max_eval,
            "tolerance_grad": tolerance_grad,
            "tolerance_change": tolerance_change,
            "history_size": history_size,
            "line_search_fn": line_search_fn,
        }
        super().__init__(params, defaults)
        if len(self.param_groups) != 1:
            raise ValueError("LBFGS doesn't support per-parameter options (parameter groups)")

    @property
    def _params(self) -> list[Any]:
        found: list[Any] = self.param_groups[0]["params"]
        return found

    def _gradient(self) -> Any:
        """All gradients as one vector."""
        return flambeau.cat(
            [
                flambeau.zeros_like(as_reals(p)).reshape(-1)
                if p.grad is None
                else as_reals(p.grad).reshape(-1)
                for p in self._params
            ]
        )

    def _move(self, step: Any, direction: Any) -> None:
        """Add a multiple of a vector to the parameters."""
        start = 0
        for p in map(as_reals, self._params):
            p.add_(direction[start : start + p.numel()].view_as(p) * step)
            start += p.numel()

    @use_grad_for_differentiable
    def step(self, closure: Callable[[], Any]) -> Any:
        """Change place until a tolerance or a limit is reached.

        Args:
            closure: computes the loss and its gradients anew.

        Returns:
            The loss at the start.

        Raises:
            RuntimeError: another line search than "strong_wolfe".
        """
        group = self.param_groups[0]
        state = self.state[self._params[0]]
        state.setdefault("func_evals", 0)
        state.setdefault("n_iter", 0)
        # what is read is recorded before anything is read: one program computes all of it
        first, gradient = self._evaluate(closure), self._gradient()
        loss = float(first)
        evaluations = 1
        state["func_evals"] += 1
        if self._flat(gradient):
            return first
        for count in range(1, group["max_iter"] + 1):
            state["n_iter"] += 1
            direction = self._direction(state, gradient)
            before = loss
            state["prev_flat_grad"], state["prev_loss"] = gradient.clone(), loss
            rate = to_scalar(group["lr"])
            if state["n_iter"] == 1:
                rate = min(1.0, 1.0 / float(gradient.abs().sum())) * rate
            state["d"], state["t"] = direction, rate
            slope = float(gradient.dot(direction))
            if slope > -group["tolerance_change"]:
                break
            last = count == group["max_iter"]
            loss, gradient, more = self._search(closure, state, loss, gradient, slope, last)
            evaluations += more
            state["func_evals"] += more
            change = (direction * state["t"]).abs().max()
            if (
                last
                or evaluations >= group["max_eval"]
                or self._flat(gradient)
                or float(change) <= group["tolerance_change"]
                or abs(loss - before) < group["tolerance_change"]
            ):
                break
        return first

    def _flat(self, gradient: Any) -> bool:
        return float(gradient.abs().max()) <= self.param_groups[0]["tolerance_grad"]

    def _search(
        self, closure: Any, state: dict[str, Any], loss: float, gradient: Any, slope: float,
        last: bool,
    ) -> tuple[float, Any, int]:  # fmt: skip
        """Move along the direction; -> loss and gradient there, and how often they were made."""
        search, direction = self.param_groups[0]["line_search_fn"], state["d"]
        if search is None:
            self._move(state["t"], direction)
            if last:
                return loss, gradient, 0
            loss_there, gradient = self._evaluate(closure), self._gradient()
            return float(loss_there), gradient, 1
        if search != "strong_wolfe":
            raise RuntimeError("only 'strong_wolfe' is supported")
        place = [p.clone() for p in self._params]

        def evaluate(step: float) -> Point:
            self._move(step, direction)
            value, found = self._evaluate(closure), self._gradient()
            slope = found.dot(direction)
            for p, value_there in zip(self._params, place, strict=True):
                p.copy_(value_there)
            return Point(step, float(value), found, float(slope))

        start = Point(0.0, loss, gradient, slope)
        point, count = strong_wolfe(
            evaluate, start, float(state["t"]), float(direction.abs().max())
        )
        state["t"] = point.step
        self._move(point.step, direction)
        return point.value, point.gradient, count

    def _direction(self, state: dict[str, Any], gradient: Any) -> Any:
        """Minus the estimated inverse Hessian times the gradient, by the two-loop recursion."""
        if state["n_iter"] == 1:
            state.update(old_dirs=[], old_stps=[], ro=[], H_diag=1)
            return -gradient
        changes, steps, weights = state["old_dirs"], state["old_stps"], state["ro"]
        change = gradient - state["prev_flat_grad"]
        step = state["d"] * state["t"]
        curvature = change.dot(step)
        if curvature > 1e-10:
            if len(changes) == self.param_groups[0]["history_size"]:
                for remembered in (changes, steps, weights):
                    remembered.pop(0)
            changes.append(change)
            steps.append(step)
            weights.append(1.0 / curvature)
            state["H_diag"] = curvature / change.dot(change)
        parts = state.setdefault("al", [None] * self.param_groups[0]["history_size"])
        found, *parts[: len(changes)] = lbfgs_direction(
            gradient, state["H_diag"], *changes, *steps, *weights
        )
        return found
