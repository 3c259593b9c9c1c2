"""RMSprop."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from flambeau.ops.updates import Change, rmsprop_update
from flambeau.optim.optimizer import check_options, to_scalar
from flambeau.optim.update import UpdateOptimizer, decays


class RMSprop(UpdateOptimizer):
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

    later_options: ClassVar[dict[str, Any]] = UpdateOptimizer.later_options | {
        "momentum": 0,
        "centered": False,
    }

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

    def _start(self, param: Any, group: dict[str, Any]) -> dict[str, Any]:
        momentum = ("momentum_buffer",) if group["momentum"] > 0 else ()
        centre = ("grad_avg",) if group["centered"] else ()
        return self._zeros(param, group, "square_avg", *momentum, *centre)

    def _update(
        self, param: Any, grad: Any, state: dict[str, Any], group: dict[str, Any]
    ) -> Change:
        self._count_step(param, state)
        kept = (state["square_avg"], state.get("grad_avg"), state.get("momentum_buffer"))
        lr = to_scalar(group["lr"])
        numbers = (1 - group["alpha"], group["momentum"], group["eps"], lr)
        return Change(rmsprop_update, (param, *kept), grad, numbers, *decays(group))
