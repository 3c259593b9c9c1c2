"""What was heard while a profile recorded, as events that lie in each other."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable
from typing import Any

from flambeau.profiler.events import EventList, FunctionEvent, count_memory, nest
from flambeau.profiler.recorder import Recorder, Row
from flambeau.runtime.work import Work, shown, work_of

_LINES = 6
_DERIVATIVE = " backward"


def events_of(
    recorder: Recorder, *, shapes: bool, stacks: bool, memory: bool, flops: bool
) -> EventList:
    """The events of a recorder that is closed, in order of their begin.

    Args:
        recorder: what heard them.
        shapes: events know the shapes of what they read.
        stacks: and the lines of the program that led to them.
        memory: and what was allocated meanwhile.
        flops: tables show operations.
    """

    def at(time: int) -> float:
        return (time - recorder.start) / 1e3

    events: list[FunctionEvent] = []
    for row in recorder.rows:
        args: dict[str, Any] = {"stack": row.stack if stacks else (), "line": _line(row)}
        if shapes:
            args["shapes"] = row.shapes
        events.append(FunctionEvent(row.name, "row", at(row.start), at(row.end), row.thread, args))
    rows = events[:]
    for span in recorder.spans:
        events.append(
            FunctionEvent(
                span.name, span.category, at(span.start), at(span.end), span.thread, span.args
            )
        )
    nest(events)
    labels = [_label(e) for e in rows]
    busy = Busy(recorder.worker_spans)
    known: dict[tuple[int, int], Work] = {}
    kernels: list[FunctionEvent] = []
    for run in recorder.runs:
        for k, (start, end) in enumerate(itertools.pairwise(run.times.tolist())):
            number = run.first + k
            work = known.get((id(run.program), number))
            if work is None:
                work = work_of(run.program, run.program.native[number])
                known[id(run.program), number] = work
            made = _rows_of(recorder, run.origins, work)
            args = {
                "work": work,
                "busy": busy.share(start, end, recorder.threads),
                "rows": made,
                "lines": list(dict.fromkeys(_line(recorder.rows[r]) for r in made))[:_LINES],
                "number": number,
            }
            if shapes:
                args["shapes"] = work.shapes
            if stacks and made:
                args["stack"] = recorder.rows[made[0]].stack
            name = shown([labels[r] for r in made], work.operations) if made else work.name
            kernels.append(
                FunctionEvent(f"kernel::{name}", "kernel", at(start), at(end), run.thread, args)
            )
    events += kernels
    for event in events:
        event.cpu_parent = None
        event.cpu_children = []
    nest(events)
    events.sort(key=lambda e: (e.time_range.start, -e.time_range.end))
    for number, event in enumerate(events):
        event.id = number
    if memory:
        count_memory(events, [(at(t), nbytes) for t, _, nbytes, _ in recorder.memory])
    return EventList(events, profile_memory=memory, with_flops=flops, recorder=recorder)


def _line(row: Row) -> str:
    return f"{row.stack[0][0]}:{row.stack[0][1]}" if row.stack else ""


def _label(event: FunctionEvent) -> str:
    """A recorded row's name; of one that a derivative's rule recorded, whose derivative it is."""
    above = event.cpu_parent
    while above is not None:
        if above.category == "autograd" and "row" in above.args:
            return f"{above.args['row']}{_DERIVATIVE}"
        above = above.cpu_parent
    return event.name


def _rows_of(recorder: Recorder, origins: list[int] | None, work: Work) -> list[int]:
    """Numbers of the recorded rows that a step computes."""
    if origins is None:
        return []
    found = (origins[k] - recorder.base for k in work.origins if k < len(origins))
    return sorted({r for r in found if 0 <= r < len(recorder.rows)})


class Busy:
    """How much of a time the pool's threads worked.

    Args:
        spans: (worker, start, end); those of a worker never overlap.
    """

    def __init__(self, spans: Iterable[tuple[int, int, int]]) -> None:
        self._by_worker: dict[int, tuple[list[int], list[int]]] = {}
        for worker, start, end in sorted(spans):
            starts, sums = self._by_worker.setdefault(worker, ([], [0]))
            starts.append(start)
            sums.append(sums[-1] + end - start)

    def share(self, start: int, end: int, threads: int) -> float:
        """The part, of 0 to 1, of all threads' time in which they worked on a kernel's loops; a
        kernel that had nothing to share out kept one of them busy."""
        total = 0
        for starts, sums in self._by_worker.values():
            first, last = bisect.bisect_left(starts, start), bisect.bisect_right(starts, end)
            total += sums[last] - sums[first]
        if end <= start:
            return 0.0
        return min((total or end - start) / ((end - start) * threads), 1.0)
