"""Averaged stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import flambeau
from flambeau.ops.updates import Change, asgd_update
from flambeau.optim.optimizer import check_options, to_scalar
from flambeau.optim.update import UpdateOptimizer


class ASGD(UpdateOptimizer):
    """Gradient descent with falling steps, that keeps the mean of where it has been.

    ``p <- (1 - lambd eta) p - eta g`` with ``eta = lr / (1 + lambd lr t)^alpha``; the mean is
    ``ax`` in the state, over the steps from t0 on.

    Args:
        params: tensors or parameter groups.
        lr: step size, a number or a 1-element tensor.
        lambd: see above.
        alpha: see above.
        t0: where averaging starts.
        weight_decay: this times p is added to g.
        foreach: accepted; all updates are one program in any case.
        maximize: climb in place of descend.
        differentiable: let gradients flow through the update.
        capturable: count steps on the parameters' device.

    Raises:
        ValueError: an option is out of range.

    Reference:
        Polyak and Juditsky, Acceleration of stochastic approximation by averaging (SIAM J. Control
        Optim. 30, 1992).
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: Any = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ) -> None:
        """Check the options."""
        check_options(lr=(lr, "learning rate"), weight_decay=(weight_decay, "weight_decay value"))
        defaults = {
            "lr": lr,
            "lambd": lambd,
            "alpha": alpha,
            "t0": t0,
            "weight_decay": weight_decay,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
            "capturable": capturable,
        }
        super().__init__(params, defaults)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the state over; older files have its numbers as numbers."""
        super().__setstate__(state)
        for group in self.param_groups:
            for param in group["params"]:
                found = self.state.get(param) or {}
                for name in ("eta", "mu"):
                    if name in found and not isinstance(found[name], flambeau.Tensor):
                        found[name] = flambeau.full_like(found["step"], float(found[name]))

    def _start(self, param: Any, group: dict[str, Any]) -> dict[str, Any]:
        started = self._zeros(param, group)
        started["eta"] = self._new_number(param, group, "eta", float(group["lr"]))
        started["mu"] = self._new_number(param, group, "mu", 1.0)
        started["ax"] = flambeau.zeros_like(param)
        return started

    def _update(
        self, param: Any, grad: Any, state: dict[str, Any], group: dict[str, Any]
    ) -> Change:
        lambd, lr = group["lambd"], to_scalar(group["lr"])
        count = self._count_step(param, state)
        rate = lr / (1 + lambd * lr * count) ** group["alpha"]
        precision = flambeau.get_default_dtype().numpy.type
        fresh = {"eta": rate, "mu": 1 / max(1, count - group["t0"])}
        eta, toward = (
            self._follow(param, state, name, float(precision(new)), before=True)
            for name, new in fresh.items()
        )
        return Change(
            asgd_update,
            (param, state["ax"]),
            grad,
            (eta, toward, toward != 1),
            group["maximize"],
            group["weight_decay"],
            1 - lambd * eta,
        )
