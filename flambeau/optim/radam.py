"""RAdam."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from flambeau.ops.updates import Change, radam_update
from flambeau.optim.optimizer import check_options, to_scalar
from flambeau.optim.update import UpdateOptimizer, check_betas, decays


class RAdam(UpdateOptimizer):
    """Adam whose adaptive step is scaled by how much its variance is known, and left out at first.

    With ``n = 2 / (1 - b2) - 1`` and ``n_t = n - 2 t b2^t / (1 - b2^t)``, the step of
    :class:`Adam` is multiplied by
    ``sqrt((n_t - 4) (n_t - 2) n / ((n - 4) (n - 2) n_t))`` where ``n_t > 5``; before, p moves by
    lr times the corrected average of gradients.

    Args:
        params: tensors or parameter groups.
        lr: step size, a number or a 1-element tensor.
        betas: of the averages.
        eps: added to the root of the average of squares.
        weight_decay: this times p is added to the gradient.
        decoupled_weight_decay: shrink p in place of adding to the gradient.
        foreach: accepted; all updates are one program in any case.
        maximize: climb in place of descend.
        capturable: count steps on the parameters' device.
        differentiable: let gradients flow through the update.

    Raises:
        ValueError: an option is out of range.

    Reference:
        Liu et al., On the Variance of the Adaptive Learning Rate and Beyond (arXiv:1908.03265),
        algorithm 2.
    """

    later_options: ClassVar[dict[str, Any]] = UpdateOptimizer.later_options | {
        "decoupled_weight_decay": False
    }

    def __init__(
        self,
        params: Iterable[Any],
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
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
        check_options(weight_decay=(weight_decay, "weight_decay value"))
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "decoupled_weight_decay": decoupled_weight_decay,
            "differentiable": differentiable,
        }
        super().__init__(params, defaults)

    def _start(self, param: Any, group: dict[str, Any]) -> dict[str, Any]:
        return self._zeros(param, group, "exp_avg", "exp_avg_sq")

    def _update(
        self, param: Any, grad: Any, state: dict[str, Any], group: dict[str, Any]
    ) -> Change:
        beta1, beta2 = group["betas"]
        count = self._count_step(param, state)
        seen = 1 - beta2**count
        most = 2 / (1 - beta2) - 1
        known = most - 2 * count * beta2**count / seen
        step_size = to_scalar(group["lr"]) / (1 - beta1**count)
        adaptive = known > 5.0
        if adaptive:
            share = (known - 4) * (known - 2) * most / ((most - 4) * (most - 2) * known)
            step_size = step_size * (seen * share) ** 0.5
        targets = (param, state["exp_avg"], state["exp_avg_sq"])
        numbers = (1 - beta1, 1 - beta2, group["eps"], step_size, adaptive)
        return Change(radam_update, targets, grad, numbers, *decays(group))
