"""Rprop."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import flambeau
from flambeau.ops.updates import Change, rprop_update
from flambeau.optim.optimizer import check_options, to_scalar
from flambeau.optim.update import UpdateOptimizer, as_reals


class Rprop(UpdateOptimizer):
    """Steps by the gradient's sign, whose size grows while it stays and shrinks when it changes.

    Args:
        params: tensors or parameter groups.
        lr: size of the first step, a number or a 1-element tensor.
        etas: factors of the size when the sign changes, and when it stays.
        step_sizes: the least and the largest size.
        capturable: count steps on the parameters' device.
        foreach: accepted; all updates are one program in any case.
        maximize: climb in place of descend.
        differentiable: let gradients flow through the update.

    Raises:
        ValueError: an option is out of range.

    Reference:
        Riedmiller and Braun, A direct adaptive method for faster backpropagation learning: the
        RPROP algorithm (ICNN 1993).
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: Any = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50),
        *,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        """Check the options."""
        check_options(lr=(lr, "learning rate"))
        if not 0.0 < etas[0] < 1.0 < etas[1]:
            raise ValueError(f"Invalid eta values: {etas[0]}, {etas[1]}")
        defaults = {
            "lr": lr,
            "etas": etas,
            "step_sizes": step_sizes,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
            "capturable": capturable,
        }
        super().__init__(params, defaults)

    def _start(self, param: Any, group: dict[str, Any]) -> dict[str, Any]:
        started = self._zeros(param, group, "prev", "step_size")
        with flambeau.no_grad():
            as_reals(started["step_size"]).add_(to_scalar(group["lr"]))
        return started

    def _update(
        self, param: Any, grad: Any, state: dict[str, Any], group: dict[str, Any]
    ) -> Change:
        self._count_step(param, state)
        targets = (param, state["prev"], state["step_size"])
        numbers = (*group["etas"], *group["step_sizes"])
        return Change(rprop_update, targets, grad, numbers, group["maximize"])
