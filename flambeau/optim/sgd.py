"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import flambeau
from flambeau.ops.updates import momentum_update, sgd_update, update
from flambeau.optim.optimizer import (
    Optimizer,
    check_fused,
    check_options,
    to_scalar,
    use_grad_for_differentiable,
)


class SGD(Optimizer):
    """Gradient descent, optionally with momentum.

    ``b <- momentum b + (1 - dampening) g``, ``p <- p - lr b``; with ``nesterov``,
    ``p <- p - lr (g + momentum b)``. The first b is g.

    Args:
        params: tensors or parameter groups.
        lr: step size, a number or a 1-element tensor.
        momentum: 0 for none.
        dampening: see above.
        weight_decay: this times p is added to g.
        nesterov: see above.
        maximize: climb in place of descend.
        foreach: accepted; all updates are one program in any case.
        differentiable: let gradients flow through the update; the first b carries none.
        fused: accepted, as ``foreach``.

    Raises:
        ValueError: an option is out of range.
        RuntimeError: options that exclude each other.

    Reference:
        Sutskever et al., On the importance of initialization and momentum in deep learning
        (ICML 2013).
    """

    takes_sparse = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: Any = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: Any = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        """Check the options."""
        check_options(
            lr=(lr, "learning rate"),
            momentum=(momentum, "momentum value"),
            weight_decay=(weight_decay, "weight_decay value"),
        )
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
            "foreach": foreach,
            "differentiable": differentiable,
            "fused": fused,
        }
        super().__init__(params, defaults)
        check_fused(fused, foreach, differentiable)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the state over; older files lack options."""
        super().__setstate__(state)
        for group in self.param_groups:
            group.setdefault("nesterov", False)
            group.setdefault("maximize", False)
            group.setdefault("foreach", None)
            group.setdefault("differentiable", False)
            group.setdefault("fused", False)

    def _sparse_step(self, param: Any, grad: Any, group: dict[str, Any], lr: Any) -> None:
        """Update a parameter where its gradient has values (and had them, with momentum)."""
        momentum = group["momentum"]
        if momentum != 0:
            state = self.state[param]
            buf = state.get("momentum_buffer")
            buf = grad if buf is None else buf * momentum + grad * (1 - group["dampening"])
            state["momentum_buffer"] = buf = buf.coalesce()
            grad = grad + buf * momentum if group["nesterov"] else buf
        grad.add_into(param, -lr)

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
            momentum = group["momentum"]
            weight_decay = group["weight_decay"]
            for param, grad in self._with_grad(group):
                if weight_decay != 0:
                    grad = grad.add(param, alpha=weight_decay)
                if grad.is_sparse:
                    self._sparse_step(param, grad, group, lr)
                    continue
                plain = (
                    not group["differentiable"]
                    and type(lr) is float
                    and param.dtype is grad.dtype
                    and param.dtype in (flambeau.float32, flambeau.float64)
                )
                if momentum != 0:
                    state = self.state[param]
                    buf = state.get("momentum_buffer")
                    toward = 1 - group["dampening"]
                    if buf is None:
                        buf = state["momentum_buffer"] = grad.detach().clone()
                    elif plain and buf.dtype is param.dtype:
                        nesterov = group["nesterov"]
                        numbers = (momentum, toward, lr, nesterov)
                        update(momentum_update, (param, buf), grad, *numbers)
                        continue
                    else:
                        buf.mul_(momentum).add_(grad, alpha=toward)
                    grad = grad.add(buf, alpha=momentum) if group["nesterov"] else buf
                if plain:
                    update(sgd_update, (param,), grad, lr)
                else:
                    param.sub_(grad, alpha=lr)
        return loss
