"""Adafactor."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import flambeau
from flambeau.ops.updates import Change, adafactor_update
from flambeau.optim.optimizer import check_options, to_scalar
from flambeau.optim.update import UpdateOptimizer


class Adafactor(UpdateOptimizer):
    """Adam whose mean squares of a matrix are kept as those of its rows and of its columns.

    Steps are relative to the parameters' size and clipped as a whole; there is no momentum.

    Args:
        params: tensors or parameter groups.
        lr: largest relative step, a number or a 1-element tensor.
        beta2_decay: the averages' decay at step t is ``1 - t^beta2_decay``.
        eps: least root mean square of gradients (None: the dtype's eps), and of parameters.
        d: largest root mean square of a step before its scaling.
        weight_decay: p is multiplied by ``1 - lr weight_decay`` before each update.
        foreach: accepted; all updates are one program in any case.
        maximize: climb in place of descend.

    Raises:
        ValueError: an option is out of range.

    Reference:
        Shazeer and Stern, Adafactor: Adaptive Learning Rates with Sublinear Memory Cost
        (arXiv:1804.04235), algorithms 4 and 5.
    """

    later_options: ClassVar[dict[str, Any]] = {"foreach": None}

    def __init__(
        self,
        params: Iterable[Any],
        lr: Any = 1e-2,
        beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
    ) -> None:
        """Check the options."""
        if isinstance(lr, flambeau.Tensor):
            check_options(lr=(lr, "learning rate"))
        for value, text in ((lr, "Learning rate"), (weight_decay, "weight_decay")):
            if not 0.0 <= value:
                raise ValueError(f"{text} should be >= 0 but is: {value}")
        if not 0.0 >= beta2_decay:
            raise ValueError(f"beta2_decay should be <= 0 but is: {beta2_decay}")
        for i, least in enumerate(eps, 1):
            if least is not None and not 0.0 <= least:
                raise ValueError(f"epsilon{i} should be >= 0 but is: {least}")
        if not 1.0 <= d:
            raise ValueError(f"Clipping threshold d should be >= 1 but is: {d}")
        defaults = {
            "lr": lr,
            "beta2_decay": beta2_decay,
            "eps": eps,
            "d": d,
            "weight_decay": weight_decay,
            "foreach": foreach,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def _start(self, param: Any, group: dict[str, Any]) -> dict[str, Any]:
        if flambeau.is_complex(param):
            raise RuntimeError("Adafactor does not support complex parameters")
        started = {"step": self._new_step(param, group)}
        if param.dim() < 2:
            return started | {"variance": flambeau.zeros_like(param)}
        *rest, rows, columns = param.shape
        return started | {
            "row_var": param.new_zeros((*rest, rows, 1)),
            "col_var": param.new_zeros((*rest, 1, columns)),
        }

    def _update(
        self, param: Any, grad: Any, state: dict[str, Any], group: dict[str, Any]
    ) -> Change:
        lr = to_scalar(group["lr"])
        count = self._count_step(param, state)
        least, smallest = group["eps"]
        if least is None:
            least = flambeau.finfo(param.dtype).eps
        fresh = count ** group["beta2_decay"]
        relative = min(lr, 1 / count**0.5)
        shrink = 1 - lr * group["weight_decay"]
        numbers = (fresh, relative, least, smallest, group["d"], shrink)
        kept = (
            (state["row_var"], state["col_var"]) if param.dim() > 1 else (state["variance"], None)
        )
        return Change(adafactor_update, (param, *kept), grad, numbers, group["maximize"])
