"""NAdam."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import flambeau
from flambeau.ops.updates import Change, nadam_update
from flambeau.optim.optimizer import check_options, to_scalar
from flambeau.optim.update import UpdateOptimizer, check_betas, decays


class NAdam(UpdateOptimizer):
    """Adam with Nesterov's look ahead.

    With ``mu_t = b1 (1 - 0.96^(t psi) / 2)`` and M the product of these so far,
    ``p <- p - lr ((1 - mu_t) / (1 - M_t) g + mu_(t+1) / (1 - M_(t+1)) m) / (sqrt(v / c) + eps)``,
    where m and v are the averages of :class:`Adam` and ``c = 1 - b2^t``.

    Args:
        params: tensors or parameter groups.
        lr: step size, a number or a 1-element tensor.
        betas: b1 and b2.
        eps: see above.
        weight_decay: this times p is added to g.
        momentum_decay: psi.
        decoupled_weight_decay: shrink p in place of adding to g, as :class:`AdamW` does.
        foreach: accepted; all updates are one program in any case.
        maximize: climb in place of descend.
        capturable: count steps on the parameters' device.
        differentiable: let gradients flow through the update.

    Raises:
        ValueError: an option is out of range.

    Reference:
        Dozat, Incorporating Nesterov Momentum into Adam (ICLR 2016 workshop).
    """

    later_options: ClassVar[dict[str, Any]] = UpdateOptimizer.later_options | {
        "decoupled_weight_decay": False
    }

    def __init__(
        self,
        params: Iterable[Any],
        lr: Any = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        """Check the options."""
        check_options(lr=(lr, "learning rate"), eps=(eps, "epsilon value"))
        check_betas(betas)
        check_options(
            weight_decay=(weight_decay, "weight_decay value"),
            momentum_decay=(momentum_decay, "momentum_decay value"),
        )
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "momentum_decay": momentum_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "differentiable": differentiable,
        }
        super().__init__(params, defaults)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the state over; older files have products as numbers."""
        super().__setstate__(state)
        for group in self.param_groups:
            for param in group["params"]:
                found = self.state.get(param)
                if found and not isinstance(found["mu_product"], flambeau.Tensor):
                    product = float(found["mu_product"])
                    found["mu_product"] = flambeau.full_like(found["step"], product)

    def _start(self, param: Any, group: dict[str, Any]) -> dict[str, Any]:
        started = self._zeros(param, group)
        started["mu_product"] = self._new_number(param, group, "mu_product", 1.0)
        return started | {name: flambeau.zeros_like(param) for name in ("exp_avg", "exp_avg_sq")}

    def _update(
        self, param: Any, grad: Any, state: dict[str, Any], group: dict[str, Any]
    ) -> Change:
        beta1, beta2 = group["betas"]
        lr = to_scalar(group["lr"])
        count = self._count_step(param, state)
        now, ahead = (
            beta1 * (1.0 - 0.5 * 0.96 ** (k * group["momentum_decay"])) for k in (count, count + 1)
        )
        factor = float(state["mu_product"].dtype.numpy.type(now))  # it is kept in that precision
        product = self._follow(param, state, "mu_product", factor=factor)
        numbers = (
            1 - beta1,
            1 - beta2,
            1 - beta2**count,
            group["eps"],
            lr * (1.0 - now) / (1.0 - product),
            lr * ahead / (1.0 - product * ahead),
        )
        targets = (param, state["exp_avg"], state["exp_avg_sq"])
        return Change(nadam_update, targets, grad, numbers, *decays(group))
