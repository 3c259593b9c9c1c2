"""Recompute values late in a program instead of keeping them, when memory is short.

A value that is made early and read again late (an activation that the backward pass needs) takes
memory in between. Dropped, it is made a second time, right before its first late use, by the same
step from the same values, so that its bits are the same. What that step reads must be there: inputs
are, other values live longer or are made again too, which the estimate of memory takes in.

Note [Costs]
A value is worth dropping by the bytes it frees while too much memory is in use, for the seconds
that its step takes: first results of loops and norms, then of matrix products and attention.
Seconds are guessed from the step's operations and bytes, with one rate for each; only their order
matters.

Reference:
    Chen et al., Training Deep Nets with Sublinear Memory Cost (arXiv:1604.06174);
    Kirisame et al., Dynamic Tensor Rematerialization (arXiv:2006.09616), section 3: staleness,
    memory and cost of a value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from flambeau.passes.schedule import Task, usage

_NEGLIGIBLE = 1000  # values smaller than the peak by this factor are kept


class Again:
    """Memory of a value that is made a second time."""

    __slots__ = ("of",)

    def __init__(self, of: Any) -> None:
        self.of = of

    def __repr__(self) -> str:
        return f"<again {self.of}>"


@dataclass
class Schedule:
    """An order of steps, some of which run twice.

    Attributes:
        order: the tasks. A repeated one writes `Again` memory, which later tasks read.
        peak: the most bytes in use at once.
        repeated: tasks that run a second time, in order.
    """

    order: list[Task]
    peak: int
    repeated: list[Task]


def rematerialise(
    order: Sequence[Task], sizes: Mapping[Any, int], kept: Iterable[Any], limit: int
) -> Schedule:
    """The cheapest order found that uses at most `limit` bytes, else the one that uses least.

    Args:
        order: scheduled tasks, with their seconds.
        sizes: memory -> bytes, for the memory that counts.
        kept: memory that is needed after the last step.
        limit: bytes that may be in use at once.
    """
    search = _Search(order, sizes, frozenset(kept), limit)
    if search.excess:
        search.descend()
        search.prune()
    repeated = [t for t in search.order if any(isinstance(w, Again) for w in t.writes)]
    return Schedule(search.order, search.peak, repeated)


class _Search:
    """The set of dropped values, grown while that helps."""

    def __init__(
        self, order: Sequence[Task], sizes: Mapping[Any, int], kept: frozenset[Any], limit: int
    ) -> None:
        self.tasks = list(order)
        self.sizes = sizes
        self.kept = kept
        self.limit = limit
        self.uses: dict[Any, list[int]] = {}
        writers: dict[Any, list[int]] = {}
        for at, task in enumerate(order):
            for key in {*task.reads, *task.writes}:
                self.uses.setdefault(key, []).append(at)
            for key in set(task.writes):
                writers.setdefault(key, []).append(at)
        self.maker = {key: at[0] for key, at in writers.items() if len(at) == 1}
        self.changing = {key for key, at in writers.items() if len(at) > 1}
        self.late: dict[Any, int] = {}  # droppable value -> the last use before the widest gap
        self.dropped: set[Any] = set()
        self.order = self.tasks
        self.profile = usage(self.tasks, sizes, kept)
        self.peak = max(self.profile, default=0)
        self.excess = self._excess(self.profile)
        self.benefit = {key: self._benefit(key) for key in sizes if self._droppable(key)}

    def _excess(self, profile: list[int]) -> int:
        return sum(b - self.limit for b in profile if b > self.limit)

    def _droppable(self, key: Any) -> bool:
        """Whether a value can be made again, and there is a time when nobody uses it."""
        at = self.maker.get(key)
        if at is None or key in self.kept or self.sizes[key] * _NEGLIGIBLE < self.peak:
            return False
        task = self.tasks[at]
        if not task.again or any(k in self.changing for k in (*task.reads, *task.writes)):
            return False
        uses = self.uses[key]
        gap, start = max(((b - a, a) for a, b in pairwise(uses)), default=(0, 0))
        self.late[key] = start
        return gap > 1

    def _benefit(self, key: Any) -> float:
        """Bytes freed at steps that use too much, by the seconds of making the value again."""
        uses = self.uses[key]
        end = uses[uses.index(self.late[key]) + 1]
        size = self.sizes[key]
        freed = sum(
            min(size, self.profile[t] - self.limit)
            for t in range(self.late[key] + 1, end)
            if self.profile[t] > self.limit
        )
        return freed / max(self.tasks[self.maker[key]].seconds, 1e-9)

    def attempt(self, dropped: set[Any]) -> bool:
        """Take a set of dropped values if it leaves less excess; -> whether it did."""
        order = self.rebuilt(dropped)
        if order is None:
            return False
        sizes = dict(self.sizes)
        for task in order:
            for key in task.writes:
                if isinstance(key, Again):
                    sizes[key] = self.sizes.get(key.of, 0)
        profile = usage(order, sizes, self.kept)
        excess = self._excess(profile)
        if excess >= self.excess and not (excess == 0 and len(dropped) < len(self.dropped)):
            return False
        self.dropped, self.order, self.excess = dropped, order, excess
        self.peak = max(profile, default=0)
        return True

    def descend(self) -> None:
        """Drop values, the best first, until none that is left helps, nor keeping one again."""
        helpful = {k: b for k, b in self.benefit.items() if b > 0}
        together: dict[int, set[Any]] = {}  # what one step makes comes back at once
        for key in helpful:
            together.setdefault(self.maker[key], set()).add(key)
        groups = {frozenset(keys) for keys in (*together.values(), *({k} for k in helpful))}
        waiting = sorted(groups, key=lambda g: -sum(helpful[k] for k in g))
        helped = True
        while helped and self.excess:
            helped, rest = False, []
            for group in waiting:
                if group <= self.dropped:
                    continue
                if self.excess and self.attempt(self.dropped | group):
                    helped = True
                else:
                    rest.append(group)
            waiting = rest
            for key in list(self.dropped) if self.excess else ():  # now better kept after all?
                if self.attempt(self.dropped - {key}):
                    waiting.append(frozenset((key,)))
                    helped = True

    def prune(self) -> None:
        """Keep again what need not have been dropped, the costliest first."""
        if self.excess:
            return
        cost = {k: self.tasks[self.maker[k]].seconds for k in self.dropped}
        for key in sorted(cost, key=lambda k: -cost[k]):
            self.attempt(self.dropped - {key})

    def rebuilt(self, dropped: set[Any]) -> list[Task] | None:
        """The order in which dropped values are made again before their first late use; None where
        something that one is made from has been overwritten by then."""
        current: dict[Any, Any] = {}
        gone: set[Any] = set()  # inputs whose memory holds a newer value
        result: list[Task] = []

        def missing(task: Task, at: int) -> Any:
            for key in task.reads:
                if key in dropped and at > self.late[key] and key not in current:
                    return key
            return None

        for at, task in enumerate(self.tasks):
            stack: list[Task] = [task]
            while stack:
                key = missing(stack[-1], at)
                if key is not None:
                    maker = self.tasks[self.maker[key]]
                    if any(t is maker for t in stack):  # it is made from itself
                        return None
                    stack.append(maker)
                    continue
                now = stack.pop()
                reads = tuple(
                    current[k] if k in dropped and at > self.late[k] else k for k in now.reads
                )
                if now is task:
                    result.append(task if reads == task.reads else task.with_memory(reads))
                    continue
                if not gone.isdisjoint(reads):
                    return None
                made = {k: Again(k) for k in now.writes}
                result.append(now.with_memory(reads, tuple(made[k] for k in now.writes)))
                for k, memory in made.items():
                    if k in dropped and at > self.late[k]:
                        current.setdefault(k, memory)
            gone.update(task.spoils)
        return result
