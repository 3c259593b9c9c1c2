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
A collective starts where it was recorded and is waited for right before the first step that depends
on it, in both orders: what was recorded in between is computed while it is under way. A step's
number does not say where that is, since values join steps that were made long before. So where
there are collectives, steps are taken by where the last of their values was recorded, each after
those that it depends on.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
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
        late: whether it is done only when a step that depends on it is next.
        place: where the last of its values was recorded.
    """

    step: Any
    reads: tuple[Any, ...]
    writes: tuple[Any, ...]
    seconds: float = 0.0
    again: bool = False
    spoils: tuple[Any, ...] = ()
    late: bool = False
    place: int = 0

    def with_memory(self, reads: tuple[Any, ...], writes: tuple[Any, ...] | None = None) -> Task:
        """The same step on other memory."""
        changed = self.writes if writes is None else writes
        return replace(self, reads=reads, writes=changed)


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
    places = {t.step.number: t.step.number for t in tasks}
    if any(t.late for t in tasks):
        places = {t.step.number: k for k, t in enumerate(_as_recorded(tasks, before))}
    plain = _ordered(tasks, before, places, {}, kept)
    eager = _ordered(tasks, before, places, sizes, kept)
    return min((plain, eager), key=lambda order: max(usage(order, sizes, kept), default=0))


def _as_recorded(tasks: Sequence[Task], before: Sequence[int]) -> list[Task]:
    """The order of Note [Waiting late]."""
    by_number = {t.step.number: t for t in tasks}
    mask = sum(1 << k for k in by_number)
    finished = 0
    order: list[Task] = []
    for task in sorted(tasks, key=lambda t: t.place):
        stack = [task.step.number]
        while stack:
            at = stack[-1]
            if open_ := before[at] & mask & ~finished:
                stack.append((open_ & -open_).bit_length() - 1)
                continue
            stack.pop()
            if not finished >> at & 1:
                finished |= 1 << at
                order.append(by_number[at])
    late = [t for t in order if t.late]
    order = [t for t in order if not t.late]
    for task in reversed(late):
        bit = 1 << task.step.number
        readers = (k for k, t in enumerate(order) if before[t.step.number] & bit)
        order.insert(next(readers, len(order)), task)
    return order


def _ordered(
    tasks: Sequence[Task],
    before: Sequence[int],
    places: Mapping[int, int],
    sizes: Mapping[Any, int],
    kept: frozenset[Any],
) -> list[Task]:
    """By place, steps that take no memory in `sizes` more than they give back before others.

    Args:
        places: of steps, by their numbers.
    """
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
    soon: list[tuple[int, int]] = []
    rest: list[tuple[int, int]] = []
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
        frees = sizes and not task.late and grows(task) <= 0
        heapq.heappush(soon if frees else rest, (places[number], number))

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
                if at in ready and not last.late and grows(last) <= 0:
                    heapq.heappush(soon, (places[at], at))
        for other in waiting.pop(number, ()):
            look(other)
    return order
