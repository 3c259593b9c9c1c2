"""RMSprop."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import flambeau
from flambeau.ops.updates import rmsprop_update, update
from flambeau.optim.optimizer import (
    Optimizer,
    check_options,
    to_scalar,
    use_grad_for_differentiable,
)


class RMSprop(Optimizer):
    """Steps divided by a running root mean square of the gradient.

    ``v <- alpha v + (1 - alpha) g^2``, ``p <- p - lr g / (sqrt(v) + eps)``; with ``centered``,
    the square of the running mean of g is taken off v.

    Args:
        params: tensors or parameter groups.
        lr: step size, a number or a 1-element tensor.
        alpha: see above.
        eps: see above.
        weight_decay: this times p is added to g.
        momentum: of the quotients; 0 for none.
        centered: see above.
        capturable: count steps on the parameters' device.
        foreach: accepted; all updates are one program in any case.
        maximize: climb in place of descend.
        differentiable: let gradients flow through the update.

    Raises:
        ValueError: an option is out of range.

    Reference:
        Tieleman and Hinton, Lecture 6.5 of Neural Networks for Machine Learning (2012); Graves,
        Generating Sequences With Recurrent Neural Networks (arXiv:1308.0850), eq. 38-45.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: Any = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        """Check the options."""
        check_options(
            lr=(lr, "learning rate"),
            eps=(eps, "epsilon value"),
            momentum=(momentum, "momentum value"),
            weight_decay=(weight_decay, "weight_decay value"),
            alpha=(alpha, "alpha value"),
        )
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "alpha": alpha,
            "eps": eps,
            "centered": centered,
            "weight_decay": weight_decay,
            "capturable": capturable,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
        }
        super().__init__(params, defaults)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the state over; older files lack options, and have steps as numbers."""
        super().__setstate__(state)
        for group in self.param_groups:
            group.setdefault("momentum", 0)
            group.setdefault("centered", False)
            group.setdefault("foreach", None)
            group.setdefault("maximize", False)
            group.setdefault("differentiable", False)
            group.setdefault("capturable", False)
        self._restore_steps()

    def _init_state(self, param: Any, group: dict[str, Any]) -> dict[str, Any]:
        """A parameter's state, made at its first update."""
        state = self.state[param]
        if not state:
            state["step"] = self._new_step(param, group)
            state["square_avg"] = flambeau.zeros_like(param)
            if group["momentum"] > 0:
                state["momentum_buffer"] = flambeau.zeros_like(param)
            if group["centered"]:
                state["grad_avg"] = flambeau.zeros_like(param)
        return state

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
                state["step"].add_(1)
                if group["weight_decay"] != 0:
                    grad = grad + param * group["weight_decay"]
                kept = (state["square_avg"], state.get("grad_avg"), state.get("momentum_buffer"))
                numbers = (1 - group["alpha"], group["momentum"], group["eps"], lr)
                update(rmsprop_update, (param, *kept), grad, *numbers)
        return loss
