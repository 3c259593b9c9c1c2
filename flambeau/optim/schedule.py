"""The base class of learning-rate schedules."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from types import FunctionType
from typing import Any

import flambeau
from flambeau.compile.live import CLASSES, live
from flambeau.optim.optimizer import Optimizer, to_scalar

EPOCH_DEPRECATION_WARNING = (
    "The epoch parameter in `scheduler.step()` was not necessary and is being deprecated where"
    " possible. Please use `scheduler.step()` to step the scheduler. During the deprecation, if"
    " epoch is different from None, the closed form is used instead of the new chainable form,"
    " where available."
)


def group_values(optimizer: Optimizer, key: str) -> list[Any]:
    """An option's value in each parameter group; tensors are copied.

    Args:
        optimizer: whose groups.
        key: the option's name.

    Returns:
        One value a group.
    """
    values = [group[key] for group in optimizer.param_groups]
    return [v.clone() if isinstance(v, flambeau.Tensor) else v for v in values]


def set_group_value(group: dict[str, Any], key: str, value: Any) -> None:
    """Set an option of a parameter group, in place when it is a tensor.

    Args:
        group: the parameter group.
        key: the option's name.
        value: the new value.
    """
    if isinstance(group[key], flambeau.Tensor):
        group[key].fill_(to_scalar(value))
    else:
        group[key] = value


def per_group(name: str, optimizer: Optimizer, value: Any) -> list[Any]:
    """A schedule's option as one value a parameter group.

    Args:
        name: for messages.
        optimizer: whose groups.
        value: one for all groups, or a list of as many.

    Returns:
        The list.

    Raises:
        ValueError: the list has another length.
    """
    count = len(optimizer.param_groups)
    if isinstance(value, (list, tuple)):
        if len(value) != count:
            raise ValueError(
                f"{name} must have the same length as optimizer.param_groups. {name} has"
                f" {len(value)} values, param_groups has {count}."
            )
        values = list(value)
    else:
        values = [value] * count
    return [v.clone() if isinstance(v, flambeau.Tensor) else v for v in values]


def check_optimizer(optimizer: Any) -> None:
    """Whether it is an optimizer.

    Raises:
        TypeError: it is not.
    """
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"{type(optimizer).__name__} is not an Optimizer")


def function_state(function: Any) -> dict[str, Any] | None:
    """What a state dict holds of a function: the attributes of a callable object, or nothing."""
    if function is None or isinstance(function, FunctionType):
        return None
    return function.__dict__.copy()


def _track_steps(optimizer: Any) -> None:
    """Have the optimizer note that it was stepped, for the warning about the order of steps."""
    if hasattr(optimizer.step, "_wrapped_by_lr_sched"):
        return
    function = optimizer.step.__func__
    # Weakly: the wrapper is stored in the optimizer itself.
    reference = weakref.ref(optimizer)

    @wraps(function)
    def step(*args: Any, **kwargs: Any) -> Any:
        target: Any = reference()
        target._opt_called = True
        return function.__get__(target, type(target))(*args, **kwargs)

    step._wrapped_by_lr_sched = True  # type: ignore[attr-defined]
    optimizer.step = step


@contextmanager
def _flag(owner: Any, name: str) -> Iterator[None]:
    """An attribute that is True for a while."""
    setattr(owner, name, True)
    try:
        yield
    finally:
        setattr(owner, name, False)


class LRScheduler:
    """Sets the learning rate of each parameter group, once when made and at each ``step()``.

    Args:
        optimizer: whose groups.
        last_epoch: the number of the last step, -1 for a fresh start.

    Raises:
        TypeError: ``optimizer`` is not an optimizer.
        KeyError: groups lack ``initial_lr`` when resuming.
    """

    _get_lr_called_within_step: bool = False
    _is_initial: bool = False
    _get_closed_form_lr: Callable[[], list[Any]]

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        """Note the initial rates and set the first."""
        check_optimizer(optimizer)
        self.optimizer = optimizer
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                lr = group["lr"]
                group.setdefault(
                    "initial_lr", lr.clone() if isinstance(lr, flambeau.Tensor) else lr
                )
            elif "initial_lr" not in group:
                raise KeyError(
                    f"param 'initial_lr' is not specified in param_groups[{i}] when resuming"
                    " scheduler with last_epoch >= 0.\nThis typically happens when:\n1. You're"
                    " trying to resume training from a checkpoint but haven't properly loaded the"
                    " optimizer state\n2. You're using last_epoch >= 0 for a fresh training run"
                    " (not recommended)"
                )
        self.base_lrs: list[Any] = group_values(optimizer, "initial_lr")
        self.last_epoch: int = last_epoch
        _track_steps(optimizer)
        self._initial_step()

    def _initial_step(self) -> None:
        """Set the first rates."""
        self._step_count = 0
        with _flag(self, "_is_initial"):
            self.step()

    def state_dict(self) -> dict[str, Any]:
        """All attributes but the optimizer."""
        return {key: value for key, value in self.__dict__.items() if key != "optimizer"}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the attributes over."""
        self.__dict__.update(state_dict)

    def get_last_lr(self) -> list[Any]:
        """The rates set last, one a group."""
        return self._last_lr

    def get_lr(self) -> list[Any]:
        """The next rates, one a group, from the rates of now; called by ``step()``."""
        raise NotImplementedError

    def _warn_outside_step(self) -> None:
        if not self._get_lr_called_within_step:
            warnings.warn(
                "To get the last learning rate computed by the scheduler, please use"
                " `get_last_lr()`.",
                UserWarning,
                stacklevel=3,
            )

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Have a subclass's `step` run at each replay of a compiled call."""
        super().__init_subclass__(**kwargs)
        if "step" in cls.__dict__:
            cls.step = live(cls.__dict__["step"])  # type: ignore[method-assign]

    @live
    def step(self, epoch: int | None = None) -> None:
        """Set the next rates.

        Args:
            epoch: deprecated; go to this number by the closed form.
        """
        if self._step_count == 1:
            if not hasattr(self.optimizer.step, "_wrapped_by_lr_sched"):
                warnings.warn(
                    "Seems like `optimizer.step()` has been overridden after learning rate"
                    " scheduler initialization. Please, make sure to call `optimizer.step()`"
                    " before `lr_scheduler.step()`.",
                    UserWarning,
                    stacklevel=2,
                )
            elif not getattr(self.optimizer, "_opt_called", False):
                warnings.warn(
                    "Detected call of `lr_scheduler.step()` before `optimizer.step()`. In"
                    " PyTorch 1.1.0 and later, you should call them in the opposite order:"
                    " `optimizer.step()` before `lr_scheduler.step()`.  Failure to do this will"
                    " result in PyTorch skipping the first value of the learning rate schedule.",
                    UserWarning,
                    stacklevel=2,
                )
        self._step_count += 1
        if epoch is not None:
            warnings.warn(EPOCH_DEPRECATION_WARNING, UserWarning, stacklevel=2)
        self._update_lr(epoch)

    def _update_lr(self, epoch: int | None = None) -> None:
        """Compute the rates and hand them to the groups."""
        with _flag(self, "_get_lr_called_within_step"):
            if epoch is None:
                self.last_epoch += 1
                values = self.get_lr()
            else:
                self.last_epoch = epoch
                closed = getattr(self, "_get_closed_form_lr", self.get_lr)
                values = closed()
        self._set_lrs(values)

    def _set_lrs(self, values: list[Any]) -> None:
        for group, lr in zip(self.optimizer.param_groups, values, strict=True):
            set_group_value(group, "lr", lr)
        self._last_lr: list[Any] = group_values(self.optimizer, "lr")


CLASSES.append(LRScheduler)
