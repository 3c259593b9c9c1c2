"""Adadelta."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from flambeau.ops.updates import Change, adadelta_update
from flambeau.optim.optimizer import check_options, to_scalar
from flambeau.optim.update import UpdateOptimizer, decays


class Adadelta(UpdateOptimizer):
    """Steps as large as recent ones were, for gradients as large as recent ones were.

    ``v <- rho v + (1 - rho) g^2``, ``s = sqrt(u + eps) / sqrt(v + eps) g``,
    ``u <- rho u + (1 - rho) s^2``, ``p <- p - lr s``.

    Args:
        params: tensors or parameter groups.
        lr: factor of the steps, a number or a 1-element tensor.
        rho: see above.
        eps: see above.
        weight_decay: this times p is added to g.
        foreach: accepted; all updates are one program in any case.
        capturable: count steps on the parameters' device.
        maximize: climb in place of descend.
        differentiable: let gradients flow through the update.

    Raises:
        ValueError: an option is out of range.

    Reference:
        Zeiler, ADADELTA: An Adaptive Learning Rate Method (arXiv:1212.5701), algorithm 1.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: Any = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        capturable: bool = False,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        """Check the options."""
        check_options(lr=(lr, "learning rate"))
        if not 0.0 <= rho <= 1.0:
            raise ValueError(f"Invalid rho value: {rho}")
        check_options(eps=(eps, "epsilon value"), weight_decay=(weight_decay, "weight_decay value"))
        defaults = {
            "lr": lr,
            "rho": rho,
            "eps": eps,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "capturable": capturable,
            "foreach": foreach,
            "differentiable": differentiable,
        }
        super().__init__(params, defaults)

    def _start(self, param: Any, group: dict[str, Any]) -> dict[str, Any]:
        return self._zeros(param, group, "square_avg", "acc_delta")

    def _update(
        self, param: Any, grad: Any, state: dict[str, Any], group: dict[str, Any]
    ) -> Change:
        self._count_step(param, state)
        targets = (param, state["square_avg"], state["acc_delta"])
        numbers = (1 - group["rho"], group["eps"], to_scalar(group["lr"]))
        return Change(adadelta_update, targets, grad, numbers, *decays(group))
