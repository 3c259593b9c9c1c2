"""Adam for sparse gradients."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, ClassVar

import flambeau
from flambeau.ops.updates import Change
from flambeau.optim.optimizer import to_scalar
from flambeau.optim.update import UpdateOptimizer, check_betas


class SparseAdam(UpdateOptimizer):
    """Adam that updates averages and parameters only where there is a gradient.

    Args:
        params: tensors or parameter groups, whose gradients are sparse.
        lr: step size, a number or a 1-element tensor.
        betas: of the averages.
        eps: added to the denominator.
        maximize: climb in place of descend.

    Raises:
        ValueError: an option is out of range, or a parameter is sparse.

    Reference:
        Kingma and Ba, Adam: A Method for Stochastic Optimization (arXiv:1412.6980), algorithm 1.
    """

    later_options: ClassVar[dict[str, Any]] = {"maximize": False}

    def __init__(
        self,
        params: Iterable[Any],
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        maximize: bool = False,
    ) -> None:
        """Check the options and the parameters."""
        if isinstance(lr, flambeau.Tensor) and lr.numel() != 1:
            raise ValueError("Tensor lr must be 1-element")
        for value, text in ((lr, "learning rate"), (eps, "epsilon value")):
            if not 0.0 < value:
                raise ValueError(f"Invalid {text}: {value}")
        check_betas(betas)
        defaults = {"lr": lr, "betas": betas, "eps": eps, "maximize": maximize}
        super().__init__(params, defaults)
        if any(flambeau.is_complex(p) for group in self.param_groups for p in group["params"]):
            raise ValueError("SparseAdam does not support complex parameters")
        wrong = [
            [g, i]
            for g, group in enumerate(self.param_groups)
            for i, param in enumerate(group["params"])
            if param.is_sparse
        ]
        if wrong:
            raise ValueError(
                f"Sparse params at indices {wrong}: SparseAdam requires dense parameter tensors"
            )

    def _with_grad(self, group: dict[str, Any]) -> Iterable[tuple[Any, Any]]:
        for param in group["params"]:
            grad = param.grad
            if grad is None:
                continue
            if not grad.is_sparse:
                raise RuntimeError(
                    "SparseAdam does not support dense gradients, please consider Adam instead"
                )
            yield param, -grad if group["maximize"] else grad

    def _restore_steps(self) -> None:
        """Steps are numbers here."""

    def _start(self, param: Any, group: dict[str, Any]) -> dict[str, Any]:
        return {
            "step": 0,
            "exp_avg": flambeau.zeros_like(param),
            "exp_avg_sq": flambeau.zeros_like(param),
        }

    def _update(
        self, param: Any, grad: Any, state: dict[str, Any], group: dict[str, Any]
    ) -> Change | None:
        beta1, beta2 = group["betas"]
        state["step"] += 1
        grad = grad.coalesce()
        values, where = grad.values(), tuple(grad.indices())
        if not values.numel():
            return None
        mean = state["exp_avg"][where].lerp(values, 1 - beta1)
        squares = state["exp_avg_sq"][where].lerp(values * values, 1 - beta2)
        state["exp_avg"][where] = mean
        state["exp_avg_sq"][where] = squares
        scale = math.sqrt(1 - beta2 ** state["step"]) / (1 - beta1 ** state["step"])
        step = mean / (squares.sqrt() + group["eps"]) * (to_scalar(group["lr"]) * scale)
        param.index_put_(where, -step, accumulate=True)
        return None
