"""Optimizers whose parameters are updated one by one, each from its own gradient and state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import flambeau
from flambeau.ops.updates import Change, update
from flambeau.optim.optimizer import Optimizer, to_scalar, use_grad_for_differentiable


def check_betas(betas: tuple[Any, ...]) -> None:
    """Whether the decays of averages are in [0, 1).

    Raises:
        ValueError: one is not.
    """
    for i, beta in enumerate(betas):
        if not 0.0 <= beta < 1.0:
            raise ValueError(f"Invalid beta parameter at index {i}: {beta}")


def as_reals(value: Any) -> Any:
    """A complex tensor as pairs of real numbers, over the same memory; others as they are."""
    return flambeau.view_as_real(value) if flambeau.is_complex(value) else value


class UpdateOptimizer(Optimizer):
    """The step of an optimizer that says what a new parameter's state is, and how one is updated.

    Complex parameters are updated as pairs of real ones.

    Attributes:
        later_options: options that older files lack, with their values there.
    """

    later_options: ClassVar[dict[str, Any]] = {
        "foreach": None,
        "maximize": False,
        "differentiable": False,
        "capturable": False,
    }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the state over; older files lack options, and have steps as numbers."""
        super().__setstate__(state)
        for group in self.param_groups:
            for name, value in self.later_options.items():
                group.setdefault(name, value)
        self._restore_steps()

    def _start(self, param: Any, group: dict[str, Any]) -> dict[str, Any]:
        """The state of a parameter that was not updated yet."""
        raise NotImplementedError

    def _update(
        self, param: Any, grad: Any, state: dict[str, Any], group: dict[str, Any]
    ) -> Change | None:
        """What a step does to a parameter and its state; None: it is done."""
        raise NotImplementedError

    @use_grad_for_differentiable
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters once.

        Args:
            closure: computes the loss and its gradients anew.

        Returns:
            The closure's loss, or None.
        """
        loss = self._evaluate(closure)
        changes = []
        for group in self.param_groups:
            for param, grad in self._with_grad(group):
                state = self.state.get(param)
                if not state:
                    state = self._start(param, group)
                    if state:
                        self.state[param] = state
                change = self._update(param, grad, state, group)
                if change is not None:
                    changes.append(change)
        update(changes)
        return loss

    def _zeros(self, param: Any, group: dict[str, Any], *names: str) -> dict[str, Any]:
        """A step count, and zeros like a parameter under each name."""
        started = {"step": self._new_step(param, group)}
        return started | {name: flambeau.zeros_like(param) for name in names}


def decays(group: dict[str, Any]) -> tuple[bool, Any, Any]:
    """What a group's options do before the rule, as the last attributes of `Change`."""
    rate = group["weight_decay"]
    if group.get("decoupled_weight_decay") and rate != 0:
        return group["maximize"], 0.0, 1 - to_scalar(group["lr"]) * rate
    return group["maximize"], rate, 1.0
