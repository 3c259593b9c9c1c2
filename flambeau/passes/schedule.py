"""Order a program's steps so that little memory is in use at once.

Any order that keeps the dependences computes the same; this one follows the program as it was
recorded, except that a step which gives back at least as much memory as it takes runs as soon as
it can (Note [Frees first]).

Note [Frees first]
Backward passes record, for one matrix product, the gradient that goes on (which takes memory) and
the gradient of the weight (whose memory is a result's, and after which the activation is dead). The
second has to come first for the activation's memory to be there for what follows; an optimizer's
update likewise is run when its gradient is there. Both plain and frees-first order are tried, and
the one with the smaller peak is taken.

Note [Waiting late]
A collective starts where it was recorded, once its sources are there, and is waited for right
before the first step that depends on it, in both orders: what was recorded in between is computed
while it is under way.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any


@dataclass(eq=False)
class Task:
    """A step as the memory passes see it.

    Attributes:
        step: what runs; its `number` is its bit in the dependence sets.
        reads: memory that it reads.
        writes: memory that it writes, also in part.
        seconds: about how long it takes (Note [Costs] in `passes/rematerialise.py`).
        again: whether it gives the same values when it runs a second time, into other memory.
        spoils: inputs whose memory it overwrites.
        place: where it stands in the plain order, if not at its step's number.
    """

    step: Any
    reads: tuple[Any, ...]
    writes: tuple[Any, ...]
    seconds: float = 0.0
    again: bool = False
    spoils: tuple[Any, ...] = ()
    place: float | None = None

    def with_memory(self, reads: tuple[Any, ...], writes: tuple[Any, ...] | None = None) -> Task:
        """The same step on other memory."""
        changed = self.writes if writes is None else writes
        return Task(self.step, reads, changed, self.seconds, self.again, self.spoils, self.place)


def spans(
    order: Sequence[Task], sizes: Mapping[Any, int], kept: Iterable[Any]
) -> dict[Any, tuple[int, int]]:
    """Memory -> (position of its first write, position of its last use), for memory in `sizes`;
    `kept` memory is used after the last step as well."""
    found: dict[Any, tuple[int, int]] = {}
    for at, task in enumerate(order):
        for keys in (task.reads, task.writes):
            for key in keys:
                if key in sizes:
                    known = found.get(key)
                    found[key] = (at, at) if known is None else (known[0], at)
    for key in kept:
        if key in found:
            found[key] = (found[key][0], len(order))
    return found


def usage(order: Sequence[Task], sizes: Mapping[Any, int], kept: Iterable[Any] = ()) -> list[int]:
    """Bytes in use while each step runs."""
    change = [0] * (len(order) + 2)
    for key, (first, last) in spans(order, sizes, kept).items():
        change[first] += sizes[key]
        change[last + 1] -= sizes[key]
    return list(accumulate(change))[: len(order)]


def schedule(
    tasks: Sequence[Task], before: Sequence[int], sizes: Mapping[Any, int], kept: Iterable[Any]
) -> list[Task]:
    """The tasks, ordered.

    Args:
        tasks: as recorded.
        before: per step number, the bit set of the steps it depends on (transitively).
        sizes: memory -> bytes, for the memory that counts: not inputs, nor what is written over
            them.
        kept: memory that is needed after the last step.
    """
    kept = frozenset(kept)
    plain = _ordered(tasks, before, {}, kept)
    eager = _ordered(tasks, before, sizes, kept)
    return min((plain, eager), key=lambda order: max(usage(order, sizes, kept), default=0))


def _ordered(
    tasks: Sequence[Task], before: Sequence[int], sizes: Mapping[Any, int], kept: frozenset[Any]
) -> list[Task]:
    """By number, steps that take no memory in `sizes` more than they give back before others."""
    by_number = {t.step.number: t for t in tasks}
    mask = sum(1 << k for k in by_number)
    readers: dict[Any, list[Task]] = {}
    for t in tasks:
        for key in {*t.reads, *t.writes}:
            if key in sizes:
                readers.setdefault(key, []).append(t)
    left = {key: len(users) for key, users in readers.items()}
    born: set[Any] = set()
    done: set[int] = set()
    ready: set[int] = set()
    # heaps of (place, number); one that is done already is skipped
    soon: list[tuple[float, int]] = []
    rest: list[tuple[float, int]] = []
    waiting: dict[int, list[int]] = {}  # step -> the steps that look again when it is done
    finished = 0

    def grows(t: Task) -> int:
        """Bytes in use after a task, less those before."""
        taken = sum(sizes[k] for k in set(t.writes) if k in sizes and k not in born)
        dead = sum(
            sizes[k] for k in {*t.reads, *t.writes} if k in sizes and left[k] == 1 and k not in kept
        )
        return taken - dead

    def look(number: int) -> None:
        """Enter a task as ready, or have it look again after one that it waits for."""
        open_ = before[number] & mask & ~finished
        if open_:
            waiting.setdefault(open_.bit_length() - 1, []).append(number)
            return
        ready.add(number)
        task = by_number[number]
        if task.place is not None:
            heapq.heappush(rest, (task.place, number))
        else:
            heapq.heappush(soon if sizes and grows(task) <= 0 else rest, (number, number))

    for number in by_number:
        look(number)
    order: list[Task] = []
    while soon or rest:
        _, number = heapq.heappop(soon or rest)
        if number in done:
            continue
        done.add(number)
        finished |= 1 << number
        task = by_number[number]
        order.append(task)
        for key in {*task.reads, *task.writes}:
            if key not in left:
                continue
            born.add(key)
            left[key] -= 1
            if left[key] == 1:
                last = next(t for t in readers[key] if t.step.number not in done)
                at = last.step.number
                if at in ready and last.place is None and grows(last) <= 0:
                    heapq.heappush(soon, (at, at))
        for other in waiting.pop(number, ()):
            look(other)
    return order
