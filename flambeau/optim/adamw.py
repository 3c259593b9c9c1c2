"""AdamW."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from flambeau.optim.adam import Adam


class AdamW(Adam):
    """Adam with weight decay that does not pass through its averages.

    ``p`` is multiplied by ``1 - lr weight_decay`` before each update of :class:`Adam`.

    Args:
        params: tensors or parameter groups.
        lr: step size, a number or a 1-element tensor.
        betas: of the averages.
        eps: added to the denominator.
        weight_decay: see above.
        amsgrad: see :class:`Adam`, as for the options that follow.
        maximize: see :class:`Adam`.
        foreach: see :class:`Adam`.
        capturable: see :class:`Adam`.
        differentiable: see :class:`Adam`.
        fused: see :class:`Adam`.

    Reference:
        Loshchilov and Hutter, Decoupled Weight Decay Regularization (arXiv:1711.05101),
        algorithm 2.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: Any = 1e-3,
        betas: tuple[Any, Any] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        """Check the options."""
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            foreach=foreach,
            maximize=maximize,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
            decoupled_weight_decay=True,
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the state over; older files do not say that the decay is decoupled."""
        super().__setstate__(state)
        for group in self.param_groups:
            group["decoupled_weight_decay"] = True
