"""Models whose parameters are averages of another's: of its course (SWA), or decaying (EMA)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable
from copy import deepcopy
from itertools import chain
from typing import Any

import flambeau
from flambeau.nn.module import Module
from flambeau.nn.normalization import _BatchNorm
from flambeau.optim.optimizer import Optimizer
from flambeau.optim.schedule import LRScheduler, per_group

Average = Callable[[Any, Any, Any], Any]
MultiAverage = Callable[[list[Any], list[Any], Any], None]


def _check_decay(decay: float) -> None:
    if decay < 0.0 or decay > 1.0:
        raise ValueError(
            f"Invalid decay value {decay} provided. Please provide a value in [0,1] range."
        )


def get_ema_avg_fn(decay: float = 0.999) -> Average:
    """The step of a decaying average: ``decay a + (1 - decay) p``.

    Args:
        decay: from 0 to 1.

    Returns:
        (average, parameter, count) -> the next average.
    """
    _check_decay(decay)

    def ema_update(ema_param: Any, current_param: Any, num_averaged: Any) -> Any:
        return decay * ema_param + (1 - decay) * current_param

    return flambeau.no_grad(ema_update)


def get_swa_avg_fn() -> Average:
    """The step of the mean of all: ``a + (p - a) / (count + 1)``.

    Returns:
        (average, parameter, count) -> the next average.
    """

    def swa_update(averaged_param: Any, current_param: Any, num_averaged: Any) -> Any:
        return averaged_param + (current_param - averaged_param) / (num_averaged + 1)

    return flambeau.no_grad(swa_update)


def get_ema_multi_avg_fn(decay: float = 0.999) -> MultiAverage:
    """As `get_ema_avg_fn`, for lists, changing the averages in place.

    Args:
        decay: from 0 to 1.
    """
    _check_decay(decay)

    def ema_update(averages: list[Any], currents: list[Any], num_averaged: Any) -> None:
        for average, current in zip(averages, currents, strict=True):
            if average.is_floating_point() or average.is_complex():
                average.lerp_(current, 1 - decay)
            else:
                average.copy_(average * decay + current * (1 - decay))

    return flambeau.no_grad(ema_update)


def get_swa_multi_avg_fn() -> MultiAverage:
    """As `get_swa_avg_fn`, for lists, changing the averages in place."""

    def swa_update(averages: list[Any], currents: list[Any], num_averaged: Any) -> None:
        for average, current in zip(averages, currents, strict=True):
            average.copy_(average + (current - average) / (num_averaged + 1))

    return flambeau.no_grad(swa_update)


class AveragedModel(Module):
    """A copy of a model whose parameters are averages of the model's over its course.

    Args:
        model: it is copied.
        device: where the copy goes.
        avg_fn: (average, parameter, count) -> the next average; the mean of all unless given.
        multi_avg_fn: the same for lists, in place; only one of the two.
        use_buffers: average buffers too, in place of taking over the model's.

    Example:
        >>> model = flambeau.nn.Linear(2, 1)
        >>> average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
        >>> average.update_parameters(model)

    Reference:
        Izmailov et al., Averaging Weights Leads to Wider Optima and Better Generalization
        (arXiv:1803.05407).
    """

    n_averaged: Any

    def __init__(
        self,
        model: Module,
        device: Any = None,
        avg_fn: Average | None = None,
        multi_avg_fn: MultiAverage | None = None,
        use_buffers: bool = False,
    ) -> None:
        """Copy the model."""
        super().__init__()
        if avg_fn is not None and multi_avg_fn is not None:
            raise AssertionError("Only one of avg_fn and multi_avg_fn should be provided")
        self.module = deepcopy(model)
        if device is not None:
            self.module = self.module.to(device)
        count = flambeau.tensor(0, dtype=flambeau.long, device=device)
        self.register_buffer("n_averaged", count)
        self.avg_fn = avg_fn
        self.multi_avg_fn = multi_avg_fn
        self.use_buffers = use_buffers

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the averaged model."""
        return self.module(*args, **kwargs)

    def _averaged(self, model: Module) -> list[Any]:
        buffers = model.buffers() if self.use_buffers else ()
        return [t.detach() for t in chain(model.parameters(), buffers)]

    def update_parameters(self, model: Module) -> None:
        """Take the model's parameters into the averages; the first time, take them over.

        Args:
            model: with the parameters of the one that was copied.
        """
        averages, currents = self._averaged(self.module), self._averaged(model)
        currents = [c.to(a.device) for a, c in zip(averages, currents, strict=True)]
        if int(self.n_averaged) == 0:
            for average, current in zip(averages, currents, strict=True):
                average.copy_(current)
        elif self.avg_fn is not None:
            for average, current in zip(averages, currents, strict=True):
                average.copy_(self.avg_fn(average, current, self.n_averaged))
        else:
            (self.multi_avg_fn or get_swa_multi_avg_fn())(averages, currents, self.n_averaged)
        if not self.use_buffers:
            for own, given in zip(self.module.buffers(), model.buffers(), strict=True):
                own.detach().copy_(given.detach().to(own.device))
        self.n_averaged += 1


def update_bn(loader: Iterable[Any], model: Module, device: Any = None) -> None:
    """Give a model's batch norms the statistics of a data set, in one pass over it.

    Args:
        loader: gives tensors, or lists whose first element is the model's input.
        model: is called in training mode.
        device: where the inputs are brought.
    """
    norms = {m: m.momentum for m in model.modules() if isinstance(m, _BatchNorm)}
    if not norms:
        return
    was_training = model.training
    model.train()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    with flambeau.no_grad():
        for batch in loader:
            given = batch[0] if isinstance(batch, (list, tuple)) else batch
            model(given if device is None else given.to(device))
    for norm, momentum in norms.items():
        norm.momentum = momentum
    model.train(was_training)


class SWALR(LRScheduler):
    """Brings each group's learning rate to a fixed value and keeps it there.

    Args:
        optimizer: whose groups.
        swa_lr: the value, one for all groups or a list.
        anneal_epochs: steps that it takes to get there.
        anneal_strategy: along a "cos" or a "linear" curve.
        last_epoch: the number of the last step.

    Raises:
        ValueError: another strategy, or a negative number of steps.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        swa_lr: Any,
        anneal_epochs: int = 10,
        anneal_strategy: str = "cos",
        last_epoch: int = -1,
    ) -> None:
        """Note each group's value."""
        for group, rate in zip(
            optimizer.param_groups, per_group("swa_lr", optimizer, swa_lr), strict=True
        ):
            group["swa_lr"] = rate
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(
                f"anneal_strategy must be one of 'cos' or 'linear', instead got {anneal_strategy}"
            )
        if not isinstance(anneal_epochs, int) or anneal_epochs < 0:
            raise ValueError(f"anneal_epochs must be equal or greater than 0, got {anneal_epochs}")
        self._anneal_strategy = anneal_strategy
        self.anneal_epochs = anneal_epochs
        super().__init__(optimizer, last_epoch)

    def anneal_func(self, t: float) -> float:
        """How much of the way is gone after a part t of the steps."""
        return (1 - math.cos(math.pi * t)) / 2 if self._anneal_strategy == "cos" else t

    def get_lr(self) -> list[Any]:
        """The next rates, one a group."""
        if not self._get_lr_called_within_step:
            warnings.warn(
                "To get the last learning rate computed by the scheduler, please use"
                " `get_last_lr()`.",
                UserWarning,
                stacklevel=2,
            )
        step = self._step_count - 1
        if self.anneal_epochs == 0:
            step = max(1, step)
        before, now = (
            self.anneal_func(max(0, min(1, k / max(1, self.anneal_epochs))))
            for k in (step - 1, step)
        )
        found = []
        for group in self.optimizer.param_groups:
            end, rate = group["swa_lr"], group["lr"]
            start = end if before == 1 else (rate - before * end) / (1 - before)
            found.append(end * now + start * (1 - now))
        return found
