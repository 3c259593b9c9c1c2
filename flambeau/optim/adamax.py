"""Adamax."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from flambeau.ops.updates import Change, adamax_update
from flambeau.optim.optimizer import check_options, to_scalar
from flambeau.optim.update import UpdateOptimizer, check_betas, decays


class Adamax(UpdateOptimizer):
    """Adam with a decaying maximum in the place of the root mean square.

    ``m <- b1 m + (1 - b1) g``, ``u <- max(b2 u, |g| + eps)``, ``p <- p - lr / (1 - b1^t) m / u``.

    Args:
        params: tensors or parameter groups.
        lr: step size, a number or a 1-element tensor.
        betas: b1 and b2.
        eps: see above.
        weight_decay: this times p is added to g.
        foreach: accepted; all updates are one program in any case.
        maximize: climb in place of descend.
        differentiable: let gradients flow through the update.
        capturable: count steps on the parameters' device.

    Raises:
        ValueError: an option is out of range.

    Reference:
        Kingma and Ba, Adam: A Method for Stochastic Optimization (arXiv:1412.6980), algorithm 2.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: Any = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ) -> None:
        """Check the options."""
        check_options(lr=(lr, "learning rate"), eps=(eps, "epsilon value"))
        check_betas(betas)
        check_options(weight_decay=(weight_decay, "weight_decay value"))
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
            "capturable": capturable,
        }
        super().__init__(params, defaults)

    def _start(self, param: Any, group: dict[str, Any]) -> dict[str, Any]:
        return self._zeros(param, group, "exp_avg", "exp_inf")

    def _update(
        self, param: Any, grad: Any, state: dict[str, Any], group: dict[str, Any]
    ) -> Change:
        beta1, beta2 = group["betas"]
        count = self._count_step(param, state)
        rate = to_scalar(group["lr"]) / (1 - beta1**count)
        targets = (param, state["exp_avg"], state["exp_inf"])
        numbers = (1 - beta1, beta2, group["eps"], rate)
        return Change(adamax_update, targets, grad, numbers, *decays(group))
