"""Adagrad."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import flambeau
from flambeau.ops.updates import adagrad_update, update
from flambeau.optim.optimizer import (
    Optimizer,
    check_fused,
    check_options,
    to_scalar,
    use_grad_for_differentiable,
)


class Adagrad(Optimizer):
    """Steps divided by the root of the sum of all squared gradients so far.

    ``s <- s + g^2``, ``p <- p - lr / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps)``.

    Args:
        params: tensors or parameter groups.
        lr: step size, a number or a 1-element tensor.
        lr_decay: see above.
        weight_decay: this times p is added to g.
        initial_accumulator_value: where s starts.
        eps: see above.
        foreach: accepted; all updates are one program in any case.
        maximize: climb in place of descend.
        differentiable: let gradients flow through the update.
        fused: accepted, as ``foreach``.

    Raises:
        ValueError: an option is out of range.
        RuntimeError: options that exclude each other.

    Reference:
        Duchi et al., Adaptive Subgradient Methods for Online Learning and Stochastic Optimization
        (JMLR 12, 2011).
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: Any = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        """Check the options and make the sums."""
        check_options(
            lr=(lr, "learning rate"),
            lr_decay=(lr_decay, "lr_decay value"),
            weight_decay=(weight_decay, "weight_decay value"),
            initial_accumulator_value=(
                initial_accumulator_value,
                "initial_accumulator_value value",
            ),
            eps=(eps, "epsilon value"),
        )
        defaults = {
            "lr": lr,
            "lr_decay": lr_decay,
            "eps": eps,
            "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
            "fused": fused,
        }
        super().__init__(params, defaults)
        check_fused(fused, foreach, differentiable)
        for group in self.param_groups:
            for param in group["params"]:
                self._init_state(param, group)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the state over; older files lack options, and have steps as numbers."""
        super().__setstate__(state)
        for group in self.param_groups:
            group.setdefault("foreach", None)
            group.setdefault("maximize", False)
            group.setdefault("differentiable", False)
            group.setdefault("fused", None)
        self._restore_steps()

    def _init_state(self, param: Any, group: dict[str, Any]) -> dict[str, Any]:
        """A parameter's state, made with the optimizer or, in a later group, when needed."""
        state = self.state[param]
        if not state:
            state["step"] = self._new_step(param, group)
            start = self.defaults["initial_accumulator_value"]
            state["sum"] = flambeau.full_like(param, start, requires_grad=False)
        return state

    def share_memory(self) -> None:
        """Move the sums into memory shared between processes."""
        for group in self.param_groups:
            for param in group["params"]:
                self.state[param]["sum"].share_memory_()

    @use_grad_for_differentiable
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters once.

        Args:
            closure: computes the loss and its gradients anew.

        Returns:
            The closure's loss, or None.
        """
        loss = self._evaluate(closure)
        for group in self.param_groups:
            lr = to_scalar(group["lr"])
            for param, grad in self._with_grad(group):
                state = self._init_state(param, group)
                count = self._count_step(param, state)
                if group["weight_decay"] != 0:
                    grad = grad + param * group["weight_decay"]
                clr = lr / (1 + (count - 1) * group["lr_decay"])
                update(adagrad_update, (param, state["sum"]), grad, group["eps"], clr)
        return loss
