"""Schedules that change the learning rate step by step from its initial value.

Most multiply the rate of now, so that several of them, or a hand-made change, go together; the
closed forms serve the jump to a given step.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from flambeau.optim.optimizer import Optimizer
from flambeau.optim.schedule import LRScheduler, function_state, group_values


class _ByFunction(LRScheduler):
    """A schedule that asks one function a group."""

    lr_lambdas: list[Callable[[int], Any]]

    def __init__(self, optimizer: Optimizer, lr_lambda: Any, last_epoch: int = -1) -> None:
        self.optimizer = optimizer
        count = len(optimizer.param_groups)
        if isinstance(lr_lambda, (list, tuple)):
            if len(lr_lambda) != count:
                raise ValueError(f"Expected {count} lr_lambdas, but got {len(lr_lambda)}")
            self.lr_lambdas = list(lr_lambda)
        else:
            self.lr_lambdas = [lr_lambda] * count
        super().__init__(optimizer, last_epoch)

    def state_dict(self) -> dict[str, Any]:
        """All attributes but the optimizer; of functions, the attributes of callable objects."""
        state = super().state_dict()
        del state["lr_lambdas"]  # torch puts them last
        state["lr_lambdas"] = [function_state(function) for function in self.lr_lambdas]
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the attributes over; the functions must be there already."""
        others = {key: value for key, value in state_dict.items() if key != "lr_lambdas"}
        self.__dict__.update(others)
        for function, state in zip(self.lr_lambdas, state_dict["lr_lambdas"], strict=False):
            if state is not None:
                function.__dict__.update(state)


class LambdaLR(_ByFunction):
    """``initial_lr * lr_lambda(step)``.

    Args:
        optimizer: whose groups.
        lr_lambda: a function of the step's number, or one a group.
        last_epoch: see :class:`LRScheduler`.

    Raises:
        ValueError: another number of functions than of groups.
    """

    def get_lr(self) -> list[Any]:
        """The next rates."""
        self._warn_outside_step()
        return [
            base * function(self.last_epoch)
            for function, base in zip(self.lr_lambdas, self.base_lrs, strict=True)
        ]


class MultiplicativeLR(_ByFunction):
    """``lr * lr_lambda(step)``.

    Args:
        optimizer: whose groups.
        lr_lambda: a function of the step's number, or one a group.
        last_epoch: see :class:`LRScheduler`.

    Raises:
        TypeError: not a function.
        ValueError: another number of functions than of groups.
    """

    def __init__(self, optimizer: Optimizer, lr_lambda: Any, last_epoch: int = -1) -> None:
        """Check and keep the functions."""
        functions = lr_lambda if isinstance(lr_lambda, (list, tuple)) else [lr_lambda]
        for function in functions:
            if not callable(function):
                raise TypeError(
                    f"lr_lambda should be a function, but got {type(function).__name__}"
                )
        super().__init__(optimizer, lr_lambda, last_epoch)

    def get_lr(self) -> list[Any]:
        """The next rates."""
        self._warn_outside_step()
        lrs = group_values(self.optimizer, "lr")
        if self._is_initial:
            return lrs
        return [
            lr * function(self.last_epoch)
            for function, lr in zip(self.lr_lambdas, lrs, strict=True)
        ]


class _Factor(LRScheduler):
    """A schedule whose steps multiply all rates by one factor."""

    def _factor(self) -> float | None:
        """The factor of this step; None to leave the rates as they are."""
        raise NotImplementedError

    def get_lr(self) -> list[Any]:
        """The next rates."""
        self._warn_outside_step()
        lrs = group_values(self.optimizer, "lr")
        factor = self._factor()
        return lrs if factor is None else [lr * factor for lr in lrs]


class StepLR(_Factor):
    """Multiplies by ``gamma`` every ``step_size`` steps.

    Args:
        optimizer: whose groups.
        step_size: steps between changes.
        gamma: the factor.
        last_epoch: see :class:`LRScheduler`.
    """

    def __init__(
        self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        """Keep the options."""
        self.step_size = step_size
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def _factor(self) -> float | None:
        if self.last_epoch == 0 or self.last_epoch % self.step_size != 0:
            return None
        return self.gamma

    def _get_closed_form_lr(self) -> list[Any]:
        times = self.last_epoch // self.step_size
        return [base * self.gamma**times for base in self.base_lrs]


class MultiStepLR(_Factor):
    """Multiplies by ``gamma`` at given steps.

    Args:
        optimizer: whose groups.
        milestones: the steps.
        gamma: the factor.
        last_epoch: see :class:`LRScheduler`.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        milestones: Iterable[int],
        gamma: float = 0.1,
        last_epoch: int = -1,
    ) -> None:
        """Keep the options."""
        self.milestones = Counter(milestones)
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def _factor(self) -> float | None:
        if self.last_epoch not in self.milestones:
            return None
        return self.gamma ** self.milestones[self.last_epoch]

    def _get_closed_form_lr(self) -> list[Any]:
        times = bisect_right(sorted(self.milestones.elements()), self.last_epoch)
        return [base * self.gamma**times for base in self.base_lrs]


class ConstantLR(_Factor):
    """``factor`` times the initial rate for ``total_iters`` steps, then the initial rate.

    Args:
        optimizer: whose groups.
        factor: from 0 to 1.
        total_iters: how many steps.
        last_epoch: see :class:`LRScheduler`.

    Raises:
        ValueError: the factor is out of range.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        factor: float = 1.0 / 3,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        """Check and keep the options."""
        if factor > 1.0 or factor < 0:
            raise ValueError("Constant multiplicative factor expected to be between 0 and 1.")
        self.factor = factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def _factor(self) -> float | None:
        if self.last_epoch == 0:
            return self.factor
        if self.last_epoch != self.total_iters:
            return None
        return 1.0 / self.factor

    def _get_closed_form_lr(self) -> list[Any]:
        over = self.last_epoch >= self.total_iters
        return [base * (self.factor + over * (1 - self.factor)) for base in self.base_lrs]


class LinearLR(_Factor):
    """From ``start_factor`` to ``end_factor`` times the initial rate in ``total_iters`` steps.

    Args:
        optimizer: whose groups.
        start_factor: above 0, at most 1.
        end_factor: from 0 to 1.
        total_iters: how many steps.
        last_epoch: see :class:`LRScheduler`.

    Raises:
        ValueError: a factor is out of range.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        """Check and keep the options."""
        if start_factor > 1.0 or start_factor <= 0:
            raise ValueError(
                "Starting multiplicative factor expected to be greater than 0 and less or equal"
                " to 1."
            )
        if end_factor > 1.0 or end_factor < 0:
            raise ValueError("Ending multiplicative factor expected to be between 0 and 1.")
        self.start_factor = start_factor
        self.end_factor = end_factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def _factor(self) -> float | None:
        if self.last_epoch == 0:
            return self.start_factor
        if self._is_initial or self.last_epoch > self.total_iters:
            return None
        rise = self.end_factor - self.start_factor
        reached = self.total_iters * self.start_factor + (self.last_epoch - 1) * rise
        return 1.0 + rise / reached

    def _get_closed_form_lr(self) -> list[Any]:
        rise = self.end_factor - self.start_factor
        share = min(self.total_iters, self.last_epoch)
        return [
            base * (self.start_factor + rise * share / self.total_iters) for base in self.base_lrs
        ]


class ExponentialLR(_Factor):
    """Multiplies by ``gamma`` at every step.

    Args:
        optimizer: whose groups.
        gamma: the factor.
        last_epoch: see :class:`LRScheduler`.
    """

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        """Keep the option."""
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def _factor(self) -> float | None:
        return None if self._is_initial else self.gamma

    def _get_closed_form_lr(self) -> list[Any]:
        return [base * self.gamma**self.last_epoch for base in self.base_lrs]


class PolynomialLR(_Factor):
    """``initial_lr (1 - step / total_iters) ** power``, 0 from ``total_iters`` on.

    Args:
        optimizer: whose groups.
        total_iters: how many steps.
        power: the exponent.
        last_epoch: see :class:`LRScheduler`.
    """

    def __init__(
        self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1
    ) -> None:
        """Keep the options."""
        self.total_iters = total_iters
        self.power = power
        super().__init__(optimizer, last_epoch)

    def _factor(self) -> float | None:
        if self._is_initial or self.last_epoch > self.total_iters:
            return None
        now = 1.0 - self.last_epoch / self.total_iters
        before = 1.0 - (self.last_epoch - 1) / self.total_iters
        return (now / before) ** self.power

    def _get_closed_form_lr(self) -> list[Any]:
        share = min(self.total_iters, self.last_epoch) / self.total_iters
        return [base * (1.0 - share) ** self.power for base in self.base_lrs]


class CosineAnnealingLR(LRScheduler):
    """``eta_min + (initial_lr - eta_min) (1 + cos(pi step / T_max)) / 2``.

    Args:
        optimizer: whose groups.
        T_max: steps from the initial rate to the least.
        eta_min: the least.
        last_epoch: see :class:`LRScheduler`.

    Reference:
        Loshchilov and Hutter, SGDR: Stochastic Gradient Descent with Warm Restarts
        (arXiv:1608.03983), eq. 5.
    """

    def __init__(
        self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        """Keep the options."""
        self.T_max = T_max
        self.eta_min = eta_min
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[Any]:
        """The next rates."""
        self._warn_outside_step()
        lrs = group_values(self.optimizer, "lr")
        if self._is_initial:
            return lrs
        if self._step_count == 1 and self.last_epoch > 0:
            return self._get_closed_form_lr()
        if (self.last_epoch - 1 - self.T_max) % (2 * self.T_max) == 0:
            # At the least rate the factor below would divide 0 by 0.
            rise = (1 - math.cos(math.pi / self.T_max)) / 2
            return [
                lr + (base - self.eta_min) * rise
                for base, lr in zip(self.base_lrs, lrs, strict=True)
            ]
        now = 1 + math.cos(math.pi * self.last_epoch / self.T_max)
        before = 1 + math.cos(math.pi * (self.last_epoch - 1) / self.T_max)
        return [now / before * (lr - self.eta_min) + self.eta_min for lr in lrs]

    def _get_closed_form_lr(self) -> list[Any]:
        height = (1 + math.cos(math.pi * self.last_epoch / self.T_max)) / 2
        return [self.eta_min + (base - self.eta_min) * height for base in self.base_lrs]
