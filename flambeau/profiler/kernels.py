"""Kernels of a profile beside the machine's limits."""

from __future__ import annotations

import os
from typing import Any

from flambeau.kernels.limit import Limits, limits
from flambeau.profiler import table
from flambeau.profiler.events import EventList

_DTYPES = {"float32": "f32", "float64": "f64", "bfloat16": "bf16", "float16": "f16"}


class KernelAverage:
    """What one step of a program did, over all its runs.

    Attributes:
        name: the rows it computes.
        kind: "region", "contraction", "composite", "index_put".
        kernel: the native function, where it is this step's own.
        dtype: of the result.
        shapes: of what it reads.
        count: runs.
        time: microseconds of all runs; `best` of the shortest.
        flops, bytes: of one run; see `runtime.work.Work`.
        busy: the part of all threads' time in which they worked.
        lines: of the program, that recorded its rows.
    """

    def __init__(self, event: Any) -> None:
        work = event.args["work"]
        self.name = event.key.removeprefix("kernel::")
        self.kind, self.kernel = work.kind, work.kernel
        self.dtype, self.shapes = work.dtype, work.shapes
        self.flops, self.bytes = work.flops, work.bytes
        self.lines: list[str] = event.args["lines"]
        self.count = 0
        self.time = 0.0
        self.best = float("inf")
        self._busy = 0.0

    def add(self, event: Any) -> None:
        """Count another run."""
        took = event.cpu_time_total
        self.count += 1
        self.time += took
        self.best = min(self.best, took)
        self._busy += event.args["busy"] * took

    @property
    def mean(self) -> float:
        """Microseconds a run."""
        return self.time / self.count

    @property
    def gflops(self) -> float:
        """10^9 floating-point operations a second."""
        return self.flops / self.mean / 1e3 if self.time else 0.0

    @property
    def gbytes(self) -> float:
        """10^9 bytes a second."""
        return self.bytes / self.mean / 1e3 if self.time else 0.0

    @property
    def busy(self) -> float:
        """The part, of 0 to 1, of all threads' time in which they worked."""
        return self._busy / self.time if self.time else 0.0

    @property
    def intensity(self) -> float:
        """Floating-point operations a byte."""
        return self.flops / self.bytes if self.bytes else 0.0

    @property
    def precision(self) -> str:
        """The dtype it computes in: f32, f64, bf16 or f16."""
        return _DTYPES.get(self.dtype, "f32")

    def least(self, limit: Limits) -> tuple[float, str]:
        """(microseconds that one run takes at least, what sets them: "compute" or "memory")."""
        compute = self.flops / (limit.flops(self.precision) * 1e3)
        memory = self.bytes / (limit.bandwidth * 1e3)
        return (compute, "compute") if compute > memory else (memory, "memory")

    def __repr__(self) -> str:
        return f"<kernel {self.name}: {self.count} runs, {table.duration(self.time)}>"


class KernelList(list[KernelAverage]):
    """Kernels of a profile, the longest first."""

    threads = 1

    @classmethod
    def of(cls, events: EventList, threads: int) -> KernelList:
        """The kernels among some events: runs of equal work for equal rows and lines together."""
        groups: dict[Any, KernelAverage] = {}
        for event in events:
            if event.category == "kernel":
                work = event.args["work"]
                key = (event.key, work.kernel, work.shapes, work.dtype, *event.args["lines"])
                if key not in groups:
                    groups[key] = KernelAverage(event)
                groups[key].add(event)
        found = cls(sorted(groups.values(), key=lambda k: -k.time))
        found.threads = threads
        return found

    def limits(self) -> Limits:
        """The machine's, for as many threads as the kernels had; measured once a process."""
        return limits(self.threads)

    def table(self, row_limit: int = 40, max_name_column_width: int = 48) -> str:
        """The kernels as text.

        "of limit" is the least time that operations or bytes take on this machine, as a part of
        the time taken. What lies in a cache can be faster than memory, and exceed 100 %.

        Args:
            row_limit: lines at most, -1 for all.
            max_name_column_width: characters at most; longer names are cut.
        """
        limit = self.limits()
        total = sum(k.time for k in self)
        titles = ["Kernel", "Line", "Calls", "Time", "%", "Avg", "MFLOP", "GFLOP/s", "MB", "GB/s"]
        titles += ["of limit", "set by", "busy"]
        rows = []
        for k in self if row_limit < 0 else self[:row_limit]:
            least, what = k.least(limit)
            name = k.name
            if len(name) > max_name_column_width:
                name = name[: max_name_column_width - 3] + "..."
            line = os.path.basename(k.lines[0]) if k.lines else ""
            rows.append(
                [name, line, str(k.count), table.duration(k.time)]
                + [f"{100 * k.time / total:.1f}" if total else "--", table.duration(k.mean)]
                + [f"{k.flops / 1e6:.2f}", f"{k.gflops:.1f}", f"{k.bytes / 1e6:.2f}"]
                + [f"{k.gbytes:.1f}", f"{100 * least / k.mean:.0f} %", what]
                + [f"{100 * k.busy:.0f} %"]
            )
        ideal = sum(k.least(limit)[0] * k.count for k in self)
        share = f"{100 * ideal / total:.0f} %" if total else "--"
        return (
            f"{table.layout(titles, rows, left=2)}\n"
            f"Kernels: {table.duration(total)}; at the limits {table.duration(ideal)} ({share})\n"
            f"Limits with {self.threads} thread{'s' if self.threads > 1 else ''}: "
            f"{limit.flops('f32'):.0f} GFLOP/s in f32, {limit.bandwidth:.1f} GB/s from memory, "
            f"{limit.cache_bandwidth:.0f} GB/s from the cores' caches\n"
        )


_PARTS = {
    "row": "recording (with the program's own Python)",
    "autograd": "derivatives' rules (outside recording)",
    "user": "in marked parts, nothing recorded",
    "module": "in modules, nothing recorded",
    "compile": "compiling",
    "flush": "finding and starting programs",
    "kernel": "kernels",
    "host": "calls of libraries",
    "garbage": "collecting garbage",
}


def summary_of(events: EventList, recorder: Any) -> str:
    """Where the time of a profile went, as text: each event's own time by what it was."""
    whole = (recorder.end - recorder.start) / 1e3
    parts = dict.fromkeys(_PARTS, 0.0)
    counts = dict.fromkeys(_PARTS, 0)
    for event in events:
        parts[event.category] += event.self_cpu_time_total
        counts[event.category] += 1
    rows = [
        [_PARTS[name], table.duration(took), f"{100 * took / whole:.1f} %", str(counts[name])]
        for name, took in parts.items()
        if counts[name]
    ]
    rest = whole - sum(parts.values())
    rows.append(["elsewhere", table.duration(rest), f"{100 * rest / whole:.1f} %", ""])
    text = table.layout(["Where the time went", "Time", "of all", "Events"], rows)
    if recorder.runs:
        arena = max(run.program.arena_bytes for run in recorder.runs)
        text += f"\nTemporary memory of the largest program: {table.size(arena)}"
    if recorder.memory:
        peak = max(allocated for *_, allocated in recorder.memory)
        text += (
            f"\nPeak of memory: {table.size(peak)} (at the start {table.size(recorder.allocated)})"
        )
    return f"{text}\nRecorded for {table.duration(whole)}\n"
