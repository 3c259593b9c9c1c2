"""Adagrad."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import flambeau
from flambeau.ops.updates import Change, adagrad_update
from flambeau.optim.optimizer import check_fused, check_options, to_scalar
from flambeau.optim.update import UpdateOptimizer, decays


class Adagrad(UpdateOptimizer):
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

    later_options: ClassVar[dict[str, Any]] = {
        "foreach": None,
        "maximize": False,
        "differentiable": False,
        "fused": None,
    }
    takes_sparse = True

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
                self.state[param].update(self._start(param, group))

    def _start(self, param: Any, group: dict[str, Any]) -> dict[str, Any]:
        start = self.defaults["initial_accumulator_value"]
        sums = flambeau.full_like(param, start, requires_grad=False)
        return self._zeros(param, group) | {"sum": sums}

    def share_memory(self) -> None:
        """Move the sums into memory shared between processes."""
        for group in self.param_groups:
            for param in group["params"]:
                self.state[param]["sum"].share_memory_()

    def _update(
        self, param: Any, grad: Any, state: dict[str, Any], group: dict[str, Any]
    ) -> Change | None:
        count = self._count_step(param, state)
        lr = to_scalar(group["lr"]) / (1 + (count - 1) * group["lr_decay"])
        if not grad.is_sparse:
            targets, numbers = (param, state["sum"]), (group["eps"], lr)
            return Change(adagrad_update, targets, grad, numbers, *decays(group))
        if group["weight_decay"] != 0:
            raise RuntimeError("weight_decay option is not compatible with sparse gradients")
        grad = (-grad if group["maximize"] else grad).coalesce()
        values, where = grad.values(), tuple(grad.indices())
        state["sum"].index_put_(where, values * values, accumulate=True)
        root = state["sum"][where].sqrt() + group["eps"]
        param.index_put_(where, values / root * -lr, accumulate=True)
        return None
