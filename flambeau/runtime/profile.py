"""What happens while a profile records: where the runtime reports it, and the clock it goes by.

Note [Profiling]
`active` is None unless a profile records, and everything that reports asks it first, once for a
flush, a compilation, a run of a program or a step of the tape: that is all a profile costs while it
is off. While it is on, programs run through a second native loop, which notes the time after each
kernel; workers of the thread pool note when they began and ended their share of a loop. What is
reported are numbers and references; names, FLOP and bytes are found afterwards, in
`flambeau.profiler`.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

CLOCK = time.CLOCK_MONOTONIC
clock = functools.partial(time.clock_gettime_ns, CLOCK)
"""Nanoseconds of the clock that native code reads as well."""

MOST_EVENTS = 1_000_000
"""Of one kind in one profile; what comes later is not kept, so that a long run ends as it would."""


@dataclass(slots=True)
class Span:
    """Something that took time on the host.

    Attributes:
        name: what it was.
        category: "row" (an operation was recorded), "user" (`record_function`), "autograd",
            "flush", "compile", "host" (a library call in a program), "garbage" (its collection).
        start, end: by `clock`, in ns.
        thread: identifier of the Python thread.
        args: what else is known.
    """

    name: str
    category: str
    start: int
    end: int
    thread: int
    args: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Run:
    """Native steps of a program that ran one after another.

    Attributes:
        program: whose steps.
        first: number of the first of them.
        times: when it began, then when each ended, by `clock`.
        thread: identifier of the calling thread.
        origins: for each recorded node of the program the number that a profile gave it, or None.
    """

    program: Any
    first: int
    times: Any
    thread: int
    origins: list[int] | None


class Session:
    """What was reported between the start and the end of a profile.

    Attributes:
        spans: host events, in the order in which they ended.
        runs: native stretches of programs.
        steps: kernels that ran, kept or not.
        places: (time, address, number that a profile gave the node or -1) of results of programs.
        limit: events of one kind that are kept.
        crowded: called after each of these, in case a table of the profile's is filling up.
    """

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.runs: list[Run] = []
        self.places: list[tuple[int, int, int]] = []
        self.steps = 0
        self.crowded: Callable[[], None] | None = None
        self.limit = MOST_EVENTS
        self.start = clock()
        self.end = self.start
        self._local = threading.local()

    def open(self) -> None:
        """Begin to listen."""
        global active
        self.start = clock()
        active = self

    def close(self) -> None:
        """Listen no longer."""
        global active
        active = None
        self.end = clock()

    @contextlib.contextmanager
    def span(self, name: str, category: str, **args: Any) -> Iterator[dict[str, Any]]:
        """The time of a body; the body may add to what is yielded."""
        start = self.mark()
        try:
            yield args
        finally:
            self.add(name, category, start, **args)

    def add(self, name: str, category: str, start: int, **args: Any) -> None:
        """Something that began at `start` and ends now."""
        end = self._local.last = clock()
        if len(self.spans) < self.limit:
            self.spans.append(Span(name, category, start, end, threading.get_ident(), args))

    def last(self) -> int:
        """When this thread's last event ended, or the profile began."""
        return getattr(self._local, "last", self.start)

    def mark(self) -> int:
        """Now; what this thread records next counts from here."""
        now: int = clock()
        self._local.last = now
        return now

    @contextlib.contextmanager
    def flushing(self, start: int, nodes: list[Any]) -> Iterator[None]:
        """A flush that began at `start`, for recorded `nodes`, whose program runs in the body."""
        self._local.origins = [getattr(n, "origin", -1) for n in nodes]
        try:
            yield
        finally:
            self._local.origins = None
            self.add("flush", "flush", start, nodes=len(nodes))

    def placed(self, nodes: list[Any], buffers: list[Any]) -> None:
        """A program has put the values of some nodes into some memory."""
        if len(self.places) < self.limit:
            now = clock()
            self.places += [
                (now, b.ptr, getattr(n, "origin", -1)) for n, b in zip(nodes, buffers, strict=True)
            ]

    def ran(self, program: Any, first: int, times: Any) -> None:
        """Native steps of a program have run."""
        origins = getattr(self._local, "origins", None)
        self.steps += len(times) - 1
        if self.steps <= self.limit:
            self.runs.append(Run(program, first, times, threading.get_ident(), origins))
        if self.crowded is not None:
            self.crowded()


active: Session | None = None


def span(name: str, category: str, **args: Any) -> contextlib.AbstractContextManager[Any]:
    """The time of a body, where a profile records."""
    return _nothing if active is None else active.span(name, category, **args)


_nothing: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
