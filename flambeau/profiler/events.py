"""Events of a profile: spans of time that lie in each other, their averages and their tables."""

from __future__ import annotations

import bisect
import enum
from collections.abc import Iterable
from typing import Any

from flambeau.profiler import table, trace


class DeviceType(enum.IntEnum):
    """Where an event ran."""

    CPU = 0


class Interval:
    """Begin and end of an event in microseconds since the profile began."""

    __slots__ = ("end", "start")

    def __init__(self, start: float, end: float) -> None:
        self.start = start
        self.end = end

    def elapsed_us(self) -> float:
        """How long it lasted."""
        return self.end - self.start

    def __repr__(self) -> str:
        return f"Interval({self.start}, {self.end})"


class Times:
    """What events and averages of events both know: totals, in microseconds and bytes.

    Attributes:
        key: the name; of kernels, the rows they compute after "kernel::".
        category: see `runtime.profile.Span`; also "row" and "kernel".
        count: of calls.
        cpu_time_total: with all that lies in them.
        self_cpu_time_total: without.
        cpu_memory_usage: bytes allocated less bytes given back, meanwhile.
        self_cpu_memory_usage: without what happened in events that lie in them.
        flops: floating-point operations of kernels.
        bytes: that kernels must move at least.
        input_shapes: sizes of the tensors read.
        stack: lines of the program, innermost first.
    """

    key: str
    category: str
    count: int
    cpu_time_total: float
    self_cpu_time_total: float
    cpu_memory_usage: int
    self_cpu_memory_usage: int
    flops: int
    bytes: int
    input_shapes: Any
    stack: Any
    device_type = DeviceType.CPU
    # no other device takes part
    device_time_total = self_device_time_total = 0.0
    device_memory_usage = self_device_memory_usage = 0
    cuda_time_total = self_cuda_time_total = 0.0
    is_legacy = is_async = is_remote = False
    node_id = -1

    @property
    def cpu_time(self) -> float:
        """Microseconds a call."""
        return self.cpu_time_total / self.count if self.count else 0.0

    device_time = cuda_time = 0.0

    @property
    def cpu_time_total_str(self) -> str:
        """`cpu_time_total` with its unit."""
        return table.duration(self.cpu_time_total)

    @property
    def self_cpu_time_total_str(self) -> str:
        """`self_cpu_time_total` with its unit."""
        return table.duration(self.self_cpu_time_total)

    @property
    def cpu_time_str(self) -> str:
        """`cpu_time` with its unit."""
        return table.duration(self.cpu_time)

    @property
    def gflops(self) -> float:
        """10^9 floating-point operations a second of its own time."""
        own = self.self_cpu_time_total
        return self.flops / own / 1e3 if own else 0.0

    @property
    def gbytes(self) -> float:
        """10^9 bytes a second of its own time."""
        own = self.self_cpu_time_total
        return self.bytes / own / 1e3 if own else 0.0


class FunctionEvent(Times):
    """One span of time.

    Attributes:
        id: its number in the list.
        name: see `Times.key`.
        time_range: an `Interval`.
        thread: identifier of the Python thread; of a worker's share, the worker's number.
        cpu_parent, cpu_children: events that it lies in, and that lie in it.
        args: what else is known; of a kernel "work", a `runtime.work.Work`, and "busy", the share
            of all threads' time in which they worked.
        scope: 7 for `record_function`, else 0, as in torch.
    """

    count = 1

    def __init__(
        self, name: str, category: str, start: float, end: float, thread: int, args: dict[str, Any]
    ) -> None:
        self.id = -1
        self.name = self.key = self.trace_name = name
        self.category = category
        self.time_range = Interval(start, end)
        self.thread = thread
        self.args = args
        self.cpu_children: list[FunctionEvent] = []
        self.cpu_parent: FunctionEvent | None = None
        self.cpu_memory_usage = 0
        work = args.get("work")
        self.flops = work.flops if work is not None else 0
        self.bytes = work.bytes if work is not None else 0
        self.input_shapes = [list(s) for s in args.get("shapes", ())]
        self.concrete_inputs: list[Any] = []
        self.stack = [f"{file}({line}): {name}" for file, line, name in args.get("stack", ())]
        self.scope = 7 if category == "user" else 0
        self.use_device = None
        self.fwd_thread = None
        self.sequence_nr = -1
        self.overload_name = ""

    @property
    def cpu_time_total(self) -> float:  # type: ignore[override]
        """Microseconds from begin to end."""
        return self.time_range.elapsed_us()

    @property
    def self_cpu_time_total(self) -> float:  # type: ignore[override]
        """Microseconds in no event that lies in this one."""
        return self.cpu_time_total - sum(c.cpu_time_total for c in self.cpu_children)

    @property
    def self_cpu_memory_usage(self) -> int:  # type: ignore[override]
        """Bytes allocated less bytes given back, without events that lie in this one."""
        return self.cpu_memory_usage - sum(c.cpu_memory_usage for c in self.cpu_children)

    def __repr__(self) -> str:
        return (
            f"<FunctionEvent id={self.id} name={self.name} device_type=DeviceType.CPU "
            f"cpu_time={self.cpu_time_str} start_us={self.time_range.start} "
            f"end_us={self.time_range.end} thread={self.thread} "
            f"input_shapes={self.input_shapes} cpu_memory_usage={self.cpu_memory_usage}>"
        )


class FunctionEventAvg(Times):
    """Events of one name (and shapes, and lines) together."""

    def __init__(self) -> None:
        self.key = ""
        self.category = ""
        self.count = 0
        self.cpu_time_total = 0.0
        self.self_cpu_time_total = 0.0
        self.cpu_memory_usage = 0
        self.self_cpu_memory_usage = 0
        self.flops = 0
        self.bytes = 0
        self.input_shapes = None
        self.stack = None
        self.cpu_children: list[FunctionEvent] = []
        self.cpu_parent: FunctionEvent | None = None
        self.overload_name = ""
        self.use_device = None
        self.busy = 0.0

    def add(self, other: Times) -> FunctionEventAvg:
        """Count another event, or other events of the same name."""
        if not self.key:
            self.key, self.category = other.key, other.category
            self.input_shapes, self.stack = other.input_shapes, other.stack
            self.cpu_parent = getattr(other, "cpu_parent", None)
        lies_in_itself = False
        if isinstance(other, FunctionEvent):
            self.cpu_children += other.cpu_children
            above = other.cpu_parent
            while above is not None and not lies_in_itself:
                lies_in_itself = above.key == other.key
                above = above.cpu_parent
            self.busy += other.args.get("busy", 0.0) * other.cpu_time_total
        if not lies_in_itself:  # time of a name within itself is counted once
            self.cpu_time_total += other.cpu_time_total
            self.cpu_memory_usage += other.cpu_memory_usage
        self.count += other.count
        self.self_cpu_time_total += other.self_cpu_time_total
        self.self_cpu_memory_usage += other.self_cpu_memory_usage
        self.flops += other.flops
        self.bytes += other.bytes
        return self

    __iadd__ = add

    def __repr__(self) -> str:
        return (
            f"<FunctionEventAvg key={self.key} self_cpu_time={self.self_cpu_time_total_str} "
            f"cpu_time={self.cpu_time_str} input_shapes={self.input_shapes} "
            f"cpu_memory_usage={self.cpu_memory_usage}>"
        )


class EventList(list[Any]):
    """Events of a profile in order of their begin, or averages of them.

    Args:
        items: the events.
        profile_memory: whether their memory is known.
        with_flops: whether tables show operations.
        recorder: what heard them (for traces and pictures).
    """

    def __init__(
        self,
        items: Iterable[Any] = (),
        *,
        profile_memory: bool = False,
        with_flops: bool = False,
        recorder: Any = None,
        use_device: str | None = None,
    ) -> None:
        super().__init__(items)
        self._profile_memory = profile_memory
        self._with_flops = with_flops
        self._recorder = recorder
        self._use_device = use_device

    def __str__(self) -> str:
        return self.table()

    @property
    def self_cpu_time_total(self) -> float:
        """Microseconds of all events."""
        return float(sum(e.self_cpu_time_total for e in self))

    def table(
        self,
        sort_by: str | None = None,
        row_limit: int = 100,
        max_src_column_width: int = 75,
        max_name_column_width: int = 55,
        max_shapes_column_width: int = 80,
        header: str | None = None,
        top_level_events_only: bool = False,
        time_unit: str | None = None,
    ) -> str:
        """The events as text, a line each.

        Args:
            sort_by: largest first: "cpu_time", "cpu_time_total", "self_cpu_time_total",
                "cpu_memory_usage", "self_cpu_memory_usage", "count", "flops", "bytes", and torch's
                names for other devices, which change nothing.
            row_limit: lines at most; -1 for all.
            max_src_column_width, max_name_column_width, max_shapes_column_width: characters at
                most; what is longer is cut. None for no bound.
            header: a line above.
            top_level_events_only: leave out what lies in other events.
            time_unit: "s", "ms", "us" for all times; by default each has the one that fits.
        """
        return table.event_table(
            self,
            sort_by,
            row_limit,
            (max_src_column_width, max_name_column_width, max_shapes_column_width),
            header,
            top_level_events_only,
            time_unit,
            self._profile_memory,
            self._with_flops,
        )

    def key_averages(
        self,
        group_by_input_shapes: bool = False,
        group_by_stack_n: int = 0,
        group_by_overload_name: bool = False,
    ) -> EventList:
        """Events of equal names together, in order of their first.

        Args:
            group_by_input_shapes: those of other shapes apart.
            group_by_stack_n: and those from other lines, as far as this many innermost ones.
            group_by_overload_name: taken for torch's sake; rows have no overloads.
        """
        groups: dict[Any, FunctionEventAvg] = {}
        for event in self:
            key: list[Any] = [event.key, event.category]
            if group_by_input_shapes:
                key.append(str(event.input_shapes))
            if group_by_stack_n > 0:
                key += event.stack[:group_by_stack_n]
            groups.setdefault(tuple(key), FunctionEventAvg()).add(event)
        for average in groups.values():
            average.stack = (average.stack or [])[:group_by_stack_n]
            if not group_by_input_shapes:
                average.input_shapes = None
        return EventList(
            groups.values(),
            profile_memory=self._profile_memory,
            with_flops=self._with_flops,
            recorder=self._recorder,
        )

    def total_average(self) -> FunctionEventAvg:
        """All events as one."""
        total = FunctionEventAvg()
        for event in self:
            total.add(event)
        total.key, total.category = "Total", ""
        return total

    def export_chrome_trace(self, path: Any) -> None:
        """Write the events for chrome://tracing and https://ui.perfetto.dev; see `trace`."""
        trace.write_chrome_trace(path, self, self._recorder, {})

    def export_stacks(self, path: Any, metric: str = "self_cpu_time_total") -> None:
        """Write a line a stack for flame graphs: functions from the outermost on, then the metric.

        Args:
            path: of the text file.
            metric: "self_cpu_time_total" (microseconds).

        Raises:
            ValueError: another metric.
        """
        trace.write_stacks(path, self, metric)

    def supported_export_stacks_metrics(self) -> list[str]:
        """What `export_stacks` can count."""
        return ["self_cpu_time_total"]


def nest(events: list[FunctionEvent]) -> None:
    """Say of each event which it lies in; events of a thread lie in each other or apart."""
    by_thread: dict[int, list[FunctionEvent]] = {}
    for event in events:
        by_thread.setdefault(event.thread, []).append(event)
    for some in by_thread.values():
        some.sort(key=lambda e: (e.time_range.start, -e.time_range.end))
        above: list[FunctionEvent] = []
        for event in some:
            while above and above[-1].time_range.end < event.time_range.end:
                above.pop()
            while above and above[-1].time_range.end <= event.time_range.start:
                above.pop()
            if above:
                event.cpu_parent = above[-1]
                above[-1].cpu_children.append(event)
            above.append(event)


def count_memory(events: list[FunctionEvent], changes: list[tuple[float, int]]) -> None:
    """Give events the bytes allocated less those given back from their begin to their end."""
    times = [t for t, _ in changes]
    sums = [0]
    for _, nbytes in changes:
        sums.append(sums[-1] + nbytes)
    for event in events:
        first = bisect.bisect_left(times, event.time_range.start)
        last = bisect.bisect_right(times, event.time_range.end)
        event.cpu_memory_usage = sums[last] - sums[first]
