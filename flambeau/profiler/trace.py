"""Files of a profile: Chrome's trace format, stacks for flame graphs, memory over time."""

from __future__ import annotations

import bisect
import gzip
import html
import json
import os
import threading
from pathlib import Path
from typing import Any

_CATEGORIES = {
    "row": "cpu_op",
    "user": "user_annotation",
    "autograd": "cpu_op",
    "kernel": "kernel",
    "flush": "runtime",
    "compile": "compile",
    "host": "host_call",
    "garbage": "garbage",
    "module": "python_function",
}
_ARROWS = 8


def _open(path: Any) -> Any:
    """A text file to write, compressed where its name ends in .gz."""
    name = os.fspath(path)
    return gzip.open(name, "wt") if name.endswith(".gz") else open(name, "w", encoding="utf-8")


def write_chrome_trace(path: Any, events: Any, recorder: Any, metadata: dict[str, Any]) -> None:
    """Write events as a trace that chrome://tracing and https://ui.perfetto.dev show.

    A row a thread: what the host did, one event in the other; workers of the thread pool have rows
    of their own, with the kernel they worked on. Arrows lead from a recorded row to the kernel that
    computes it. Memory is a curve.

    Args:
        path: of the file; compressed if it ends in .gz.
        events: an `EventList`.
        recorder: the `Recorder` that heard them.
        metadata: more entries of the file's top level.
    """
    pid = os.getpid()
    tids: dict[int, int] = {}
    lines: list[dict[str, Any]] = [
        _named("process_name", pid, 0, "flambeau"),
    ]
    for event in events:
        tid = tids.setdefault(event.thread, len(tids) + 1)
        lines.append(
            {
                "ph": "X",
                "cat": _CATEGORIES.get(event.category, event.category),
                "name": event.key,
                "pid": pid,
                "tid": tid,
                "ts": round(event.time_range.start, 3),
                "dur": round(event.time_range.elapsed_us(), 3),
                "args": _arguments(event),
            }
        )
    names = {t.ident: t.name for t in threading.enumerate()}
    for thread, tid in tids.items():
        lines.append(_named("thread_name", pid, tid, names.get(thread, f"thread {thread}")))
    if recorder is not None:
        lines += _arrows(events, tids, pid)
        lines += _shares(events, recorder, pid, len(tids) + 1)
        lines += [
            {
                "ph": "C",
                "name": "memory",
                "pid": pid,
                "ts": (t - recorder.start) / 1e3,
                "args": {"allocated bytes": allocated},
            }
            for t, _, _, allocated in recorder.memory
        ]
    whole = {
        "schemaVersion": 1,
        "displayTimeUnit": "ms",
        "baseTimeNanoseconds": 0 if recorder is None else recorder.start,
        **metadata,
        "traceEvents": lines,
    }
    with _open(path) as file:
        json.dump(whole, file, default=str)


def _named(kind: str, pid: int, tid: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": kind, "pid": pid, "tid": tid, "args": {"name": name}}


def _arguments(event: Any) -> dict[str, Any]:
    known: dict[str, Any] = {"Ev Idx": event.id}
    if event.input_shapes:
        known["Input Dims"] = event.input_shapes
    if event.stack:
        known["Call stack"] = ";".join(event.stack)
    elif event.args.get("line"):
        known["Line"] = event.args["line"]
    work = event.args.get("work")
    if work is None:
        return known | {k: v for k, v in event.args.items() if k not in ("stack", "shapes", "line")}
    return known | {
        "Kind": work.kind,
        "Step": event.args["number"],
        "Kernel": work.kernel,
        "Lines": event.args["lines"],
        "FLOP": work.flops,
        "Bytes": work.bytes,
        "GFLOP/s": round(event.gflops, 2),
        "GB/s": round(event.gbytes, 2),
        "Threads busy %": round(100 * event.args["busy"], 1),
    }


def _arrows(events: Any, tids: dict[int, int], pid: int) -> list[dict[str, Any]]:
    """From recorded rows to the kernels that compute them."""
    rows = [e for e in events if e.category == "row"]
    lines: list[dict[str, Any]] = []
    number = 0
    for event in events:
        if event.category != "kernel":
            continue
        for r in event.args["rows"][:_ARROWS]:
            number += 1
            for phase, at in (("s", rows[r]), ("f", event)):
                lines.append(
                    {
                        "ph": phase,
                        "id": number,
                        "cat": "recorded",
                        "name": "recorded",
                        "pid": pid,
                        "tid": tids[at.thread],
                        "ts": round(at.time_range.start, 3),
                        **({"bp": "e"} if phase == "f" else {}),
                    }
                )
    return lines


def _shares(events: Any, recorder: Any, pid: int, first: int) -> list[dict[str, Any]]:
    """What the workers of the thread pool did; the caller's share lies in the kernel's event."""
    kernels = sorted(
        (e for e in events if e.category == "kernel"), key=lambda e: float(e.time_range.start)
    )
    starts = [e.time_range.start for e in kernels]
    lines: list[dict[str, Any]] = []
    workers = set()
    for worker, start, end in recorder.worker_spans:
        if not worker:
            continue
        workers.add(worker)
        at = (start - recorder.start) / 1e3
        k = bisect.bisect_right(starts, at) - 1
        lines.append(
            {
                "ph": "X",
                "cat": "worker",
                "name": kernels[k].key if k >= 0 else "parallel loop",
                "pid": pid,
                "tid": first + worker,
                "ts": at,
                "dur": (end - start) / 1e3,
                "args": {},
            }
        )
    for worker in workers:
        lines.append(_named("thread_name", pid, first + worker, f"worker {worker}"))
    return lines


def write_stacks(path: Any, events: Any, metric: str) -> None:
    """The file of `EventList.export_stacks`."""
    if metric != "self_cpu_time_total":
        raise ValueError(f"metric should be one of: ['self_cpu_time_total'], but got {metric}")
    drop = str.maketrans(" ;", "__")
    with _open(path) as file:
        for event in events:
            value = int(event.self_cpu_time_total)
            if event.stack and value > 0:
                frames = [*reversed(event.stack), event.key]
                file.write(";".join(f.translate(drop) for f in frames) + f" {value}\n")


def memory_curve(recorder: Any) -> tuple[list[float], list[int]]:
    """Times in microseconds since the profile began, and the bytes allocated from then on."""
    times, sizes = [0.0], [recorder.allocated]
    for t, _, _, allocated in recorder.memory:
        times.append((t - recorder.start) / 1e3)
        sizes.append(allocated)
    times.append((recorder.end - recorder.start) / 1e3)
    sizes.append(sizes[-1])
    return times, sizes


def write_memory(path: Any, recorder: Any, holdings: str) -> None:
    """Write memory over time: a picture if `path` ends in .html (with the text `holdings` below)
    or .svg, else JSON of two lists, microseconds and bytes (compressed if it ends in .gz).
    """
    times, sizes = memory_curve(recorder)
    name = os.fspath(path)
    if name.endswith((".html", ".svg")):
        picture = _memory_picture(times, sizes)
        if name.endswith(".html"):
            picture = (
                f"<!doctype html><meta charset='utf-8'><title>Memory</title>{picture}"
                f"<pre>{html.escape(holdings)}</pre>"
            )
        Path(name).write_text(picture, encoding="utf-8")
        return
    with _open(path) as file:
        json.dump([times, sizes], file)


def _memory_picture(times: list[float], sizes: list[int]) -> str:
    """An SVG of bytes over time, a step a change, with the peak marked."""
    width, height, left, top = 960, 360, 80, 30
    last, peak = times[-1] or 1.0, max(*sizes, 1)

    def x(t: float) -> float:
        return left + t / last * (width - left - 20)

    def y(nbytes: float) -> float:
        return top + (1 - nbytes / peak) * (height - top - 40)

    points = [f"{x(0):.1f},{y(0):.1f}"]
    before = sizes[0]
    for t, nbytes in zip(times, sizes, strict=True):
        points += [f"{x(t):.1f},{y(before):.1f}", f"{x(t):.1f},{y(nbytes):.1f}"]
        before = nbytes
    points.append(f"{x(last):.1f},{y(0):.1f}")
    when = times[sizes.index(max(sizes))]
    label = html.escape(f"peak {peak / 1e6:.1f} MB at {when / 1e3:.2f} ms")
    anchor = "end" if x(when) > width / 2 else "start"
    ticks = "".join(
        f'<text x="{left - 8}" y="{y(peak * k / 4) + 4:.1f}" text-anchor="end">'
        f"{peak * k / 4 / 1e6:.1f}</text>"
        f'<line x1="{left}" x2="{width - 20}" y1="{y(peak * k / 4):.1f}" '
        f'y2="{y(peak * k / 4):.1f}" stroke="#ddd"/>'
        f'<text x="{x(last * k / 4):.1f}" y="{height - 20}" text-anchor="middle">'
        f"{last * k / 4 / 1e3:.1f}</text>"
        for k in range(5)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="sans-serif" font-size="12">'
        f'<rect width="100%" height="100%" fill="white"/>{ticks}'
        f'<polygon points="{" ".join(points)}" fill="#9ec5e8" stroke="#3a77ad"/>'
        f'<circle cx="{x(when):.1f}" cy="{y(peak):.1f}" r="3" fill="#c0392b"/>'
        f'<text x="{x(when) + (-8 if anchor == "end" else 8):.1f}" y="{top - 10}" '
        f'text-anchor="{anchor}" fill="#c0392b">{label}</text>'
        f'<text x="16" y="{height / 2}" transform="rotate(-90 16 {height / 2})" '
        f'text-anchor="middle">MB allocated</text>'
        f'<text x="{width / 2}" y="{height - 4}" text-anchor="middle">ms</text></svg>'
    )
