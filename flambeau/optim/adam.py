"""Adam."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import flambeau
from flambeau.ops.updates import Change, adam_update
from flambeau.optim.optimizer import check_fused, check_options, to_scalar
from flambeau.optim.update import UpdateOptimizer, decays


def _check_betas(betas: Any, foreach: bool | None, capturable: bool) -> None:
    """Whether the betas are two floats in [0, 1), or two 1-element tensors."""
    for i, beta in enumerate(betas):
        if not 0.0 <= beta < 1.0:
            raise ValueError(f"Invalid beta parameter at index {i}: {beta}")
    tensors = [isinstance(beta, flambeau.Tensor) for beta in betas]
    if not all(tensors) and not all(isinstance(beta, float) for beta in betas):
        raise ValueError("betas must be either both floats or both Tensors")
    for i, beta in enumerate(betas):
        if not tensors[i]:
            continue
        if foreach and not capturable:
            raise ValueError(
                f"betas[{i}] as a Tensor is not supported for capturable=False and foreach=True"
            )
        if beta.numel() != 1:
            raise ValueError(f"Tensor betas[{i}] must be 1-element")


class Adam(UpdateOptimizer):
    """Steps scaled by running averages of the gradient and of its square.

    ``m <- b1 m + (1 - b1) g``, ``v <- b2 v + (1 - b2) g^2``,
    ``p <- p - lr m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps)``.

    Args:
        params: tensors or parameter groups.
        lr: step size, a number or a 1-element tensor.
        betas: b1 and b2.
        eps: see above.
        weight_decay: this times p is added to g.
        amsgrad: divide by the greatest v so far.
        foreach: accepted; all updates are one program in any case.
        maximize: climb in place of descend.
        capturable: count steps on the parameters' device, so that a captured step can be
            replayed.
        differentiable: let gradients flow through the update.
        fused: accepted, as ``foreach``.
        decoupled_weight_decay: multiply p by ``1 - lr weight_decay`` in place of adding to g.

    Raises:
        ValueError: an option is out of range.
        RuntimeError: options that exclude each other.

    Reference:
        Kingma and Ba, Adam: A Method for Stochastic Optimization (arXiv:1412.6980), algorithm 1;
        Reddi et al., On the Convergence of Adam and Beyond (arXiv:1904.09237).
    """

    later_options: ClassVar[dict[str, Any]] = UpdateOptimizer.later_options | {
        "amsgrad": False,
        "decoupled_weight_decay": False,
        "fused": None,
    }

    def __init__(
        self,
        params: Iterable[Any],
        lr: Any = 1e-3,
        betas: tuple[Any, Any] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ) -> None:
        """Check the options."""
        if isinstance(lr, flambeau.Tensor) and foreach and not capturable:
            raise ValueError(
                "lr as a Tensor is not supported for capturable=False and foreach=True"
            )
        check_options(
            lr=(lr, "learning rate"),
            eps=(eps, "epsilon value"),
            weight_decay=(weight_decay, "weight_decay value"),
        )
        _check_betas(betas, foreach, capturable)
        defaults = {
            "lr": lr,
            "betas": tuple(to_scalar(beta) for beta in betas),
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "differentiable": differentiable,
            "fused": fused,
            "decoupled_weight_decay": decoupled_weight_decay,
        }
        super().__init__(params, defaults)
        check_fused(fused, foreach, differentiable)

    def _start(self, param: Any, group: dict[str, Any]) -> dict[str, Any]:
        names = ("exp_avg", "exp_avg_sq", *(("max_exp_avg_sq",) if group["amsgrad"] else ()))
        return self._zeros(param, group, *names)

    def _update(
        self, param: Any, grad: Any, state: dict[str, Any], group: dict[str, Any]
    ) -> Change:
        """What a step does to one parameter.

        All factors that change from step to step are Python floats, so that they reach the
        compiled program as arguments.
        """
        beta1, beta2 = (
            beta.to(device=param.device, dtype=param.dtype)
            if isinstance(beta, flambeau.Tensor)
            else beta
            for beta in group["betas"]
        )
        lr = to_scalar(group["lr"])
        step: Any = self._count_step(param, state)
        if group["capturable"]:
            step = state["step"]
        # sqrt(v / c) + eps, its correction c taken over to the step size
        correction = (1 - beta2**step) ** 0.5
        step_size = lr * correction / (1 - beta1**step)
        return Change(
            adam_update,
            (param, state["exp_avg"], state["exp_avg_sq"], state.get("max_exp_avg_sq")),
            grad,
            (1 - beta1, 1 - beta2, group["eps"] * correction, step_size),
            *decays(group),
        )
