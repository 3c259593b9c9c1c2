"""Muon."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, ClassVar

import flambeau
from flambeau.ops.updates import Change, muon_update
from flambeau.optim.optimizer import check_options, to_scalar
from flambeau.optim.update import UpdateOptimizer

_ADJUSTMENTS = ("original", "match_rms_adamw")


class Muon(UpdateOptimizer):
    """Steps by the orthogonalised momentum of a matrix.

    For the matrices of hidden layers; other parameters are left to AdamW or the like.

    Args:
        params: matrices, or parameter groups of them.
        lr: step size, a number or a 1-element tensor.
        weight_decay: p is multiplied by ``1 - lr weight_decay`` before each update.
        momentum: of the gradients' average.
        nesterov: whether the average looks ahead.
        ns_coefficients, eps, ns_steps: see `flambeau.ops.updates.orthogonalised`.
        adjust_lr_fn: how steps depend on the shape (M, N): "original", by
            ``sqrt(max(1, M / N))``, or "match_rms_adamw", by ``0.2 sqrt(max(M, N))``.

    Raises:
        ValueError: an option is out of range, or a parameter is no matrix.

    Reference:
        Jordan, Muon: An optimizer for hidden layers in neural networks (2024); Liu et al., Muon is
        Scalable for LLM Training (arXiv:2502.16982).
    """

    later_options: ClassVar[dict[str, Any]] = {}

    def __init__(
        self,
        params: Iterable[Any],
        lr: Any = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
    ) -> None:
        """Check the options and the parameters."""
        if isinstance(lr, flambeau.Tensor):
            check_options(lr=(lr, "learning rate"))
        named = (("Learning rate", lr), ("momentum", momentum), ("weight decay", weight_decay))
        for text, value in named:
            if not 0.0 <= value:
                raise ValueError(f"{text} should be >= 0 but is: {value}")
        if adjust_lr_fn is not None and adjust_lr_fn not in _ADJUSTMENTS:
            raise ValueError(f"Adjust learning rate function {adjust_lr_fn} is not supported")
        defaults = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "nesterov": nesterov,
            "ns_coefficients": ns_coefficients,
            "eps": eps,
            "ns_steps": ns_steps,
            "adjust_lr_fn": adjust_lr_fn,
        }
        super().__init__(params, defaults)
        for group in self.param_groups:
            for param in group["params"]:
                if param.ndim != 2:
                    raise ValueError(
                        "Muon only supports 2D parameters whereas we found a parameter with size:"
                        f" {param.size()}"
                    )

    def _start(self, param: Any, group: dict[str, Any]) -> dict[str, Any]:
        if flambeau.is_complex(param):
            raise RuntimeError("Muon does not support complex parameters")
        return {"momentum_buffer": flambeau.zeros_like(param)}

    def _update(
        self, param: Any, grad: Any, state: dict[str, Any], group: dict[str, Any]
    ) -> Change:
        lr, momentum = to_scalar(group["lr"]), group["momentum"]
        coefficients, steps = tuple(group["ns_coefficients"]), group["ns_steps"]
        if steps >= 100:
            raise ValueError("Number of steps must be less than 100 for computational efficiency")
        if len(coefficients) != 3:
            raise ValueError("Coefficients must be a tuple of exactly 3 values")
        rows, columns = param.shape
        ratio = (
            0.2 * math.sqrt(max(rows, columns))
            if group["adjust_lr_fn"] == "match_rms_adamw"
            else math.sqrt(max(1, rows / columns))
        )
        ahead = momentum if group["nesterov"] else 1.0
        return Change(
            muon_update,
            (param, state["momentum_buffer"]),
            grad,
            (1 - momentum, ahead, group["eps"], lr * ratio, coefficients, (steps,)),
            shrink=1 - lr * group["weight_decay"],
        )
