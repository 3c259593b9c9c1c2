"""Training while some ranks have no more inputs (`torch.distributed.algorithms.join`).

A rank that leaves the block of a `Join` has joined: it goes on taking part in the collectives of
the others' steps, by the hooks of what was given to the `Join`, until all have joined.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

#: Steps that a rank takes part in after its own before it warns.
MANY = 1000


class JoinHook:
    """What a rank that has joined does."""

    def main_hook(self) -> None:
        """Take part in one step of the ranks that have not joined."""

    def post_hook(self, is_last_joiner: bool) -> None:
        """Called once, when all have joined.

        Args:
            is_last_joiner: whether no rank joined after this one.
        """


class Joinable(ABC):
    """What has collectives in every step.

    It calls `Join.notify_join_context(self)` before them.
    """

    _join: Join | None = None

    @abstractmethod
    def join_hook(self, **kwargs: Any) -> JoinHook:
        """The hook for ranks that have joined.

        Args:
            kwargs: what the `Join` was given.
        """

    @property
    @abstractmethod
    def join_device(self) -> Any:
        """Where its tensors are."""

    @property
    @abstractmethod
    def join_process_group(self) -> Any:
        """The ranks that train together."""


class Join:
    """While inside, ranks may take different numbers of steps.

    Args:
        joinables: what has collectives in every step, in the order of these.
        enable: False makes this do nothing.
        throw_on_early_termination: raise on all ranks once one has joined and others have not.
        kwargs: given to the joinables' `join_hook`.

    Raises:
        ValueError: there is no joinable, or they are of different groups.
    """

    def __init__(
        self,
        joinables: Sequence[Joinable],
        enable: bool = True,
        throw_on_early_termination: bool = False,
        **kwargs: Any,
    ) -> None:
        if not joinables:
            raise ValueError("The join context manager requires at least one joinable")
        self._joinables = list(joinables)
        self._group = joinables[0].join_process_group
        if any(j.join_process_group is not self._group for j in joinables):
            raise ValueError("Using join context manager with multiple process groups")
        self._hooks = [j.join_hook(**kwargs) for j in joinables]
        self._enable, self._throw = enable, throw_on_early_termination

    def __enter__(self) -> None:
        if self._enable:
            for joinable in self._joinables:
                joinable._join = self

    def __exit__(self, kind: Any, value: Any, traceback: Any) -> None:
        for joinable in self._joinables:
            joinable._join = None
        if not self._enable or kind is not None:
            return
        steps = 0
        while self._training(False):
            if self._throw:
                raise RuntimeError(f"Rank {self._group.rank()} exhausted all inputs.")
            for hook in self._hooks:
                hook.main_hook()
            steps += 1
            if steps == MANY:
                warnings.warn(
                    f"Detected uneven input skew of greater than {MANY}. This means that rank "
                    f"{self._group.rank()} has at least {MANY} fewer inputs than other "
                    "currently-active ranks. This level of skew could lead to performance "
                    "degradation during training.",
                    stacklevel=2,
                )
        for hook in self._hooks:
            hook.post_hook(not steps)

    def _training(self, here: bool) -> int:
        """How many ranks have not joined; every rank asks once a step."""
        return sum(map(sum, self._group.exchange(bytes([here]))))

    @staticmethod
    def notify_join_context(joinable: Joinable) -> None:
        """Say that this rank has not joined; called before the collectives of a step.

        Raises:
            RuntimeError: another rank has joined, with `throw_on_early_termination`.
        """
        join = joinable._join
        if join is None or joinable is not join._joinables[0]:
            return
        if join._training(True) < join._group.size() and join._throw:
            raise RuntimeError(
                "Detected at least one rank that exhausted inputs. Throwing across all ranks."
            )


__all__ = ["Join", "JoinHook", "Joinable"]
