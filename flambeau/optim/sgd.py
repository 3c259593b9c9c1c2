"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import flambeau
from flambeau.ops.updates import Change, momentum_update, sgd_update
from flambeau.optim.optimizer import check_fused, check_options, to_scalar
from flambeau.optim.update import UpdateOptimizer, decays


class SGD(UpdateOptimizer):
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
    later_options: ClassVar[dict[str, Any]] = {
        "nesterov": False,
        "maximize": False,
        "foreach": None,
        "differentiable": False,
        "fused": False,
    }

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

    def _sparse_step(self, param: Any, grad: Any, group: dict[str, Any], lr: Any) -> None:
        """Update a parameter where its gradient has values (and had them, with momentum)."""
        momentum = group["momentum"]
        if momentum != 0:
            state = self.state[param]
            buf = state["momentum_buffer"]
            buf = grad if buf is None else buf * momentum + grad * (1 - group["dampening"])
            state["momentum_buffer"] = buf = buf.coalesce()
            grad = grad + buf * momentum if group["nesterov"] else buf
        grad.add_into(param, -lr)

    def _start(self, param: Any, group: dict[str, Any]) -> dict[str, Any]:
        return {} if group["momentum"] == 0 else {"momentum_buffer": None}

    def _update(
        self, param: Any, grad: Any, state: dict[str, Any], group: dict[str, Any]
    ) -> Change | None:
        lr, momentum = to_scalar(group["lr"]), group["momentum"]
        if grad.is_sparse:
            grad = -grad if group["maximize"] else grad
            if group["weight_decay"] != 0:
                grad = grad.add(param, alpha=group["weight_decay"])
            self._sparse_step(param, grad, group, lr)
            return None
        if momentum == 0:
            return Change(sgd_update, (param,), grad, (lr,), *decays(group))
        buffer = state["momentum_buffer"]
        first = buffer is None
        if first:
            buffer = state["momentum_buffer"] = flambeau.zeros_like(grad)
        numbers = (momentum, 1 - group["dampening"], lr, group["nesterov"], first)
        return Change(momentum_update, (param, buffer), grad, numbers, *decays(group))
