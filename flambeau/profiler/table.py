"""Tables of a profile, in plain text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_UNITS = {"s": 1e6, "ms": 1e3, "us": 1.0}
_SORTS = {
    "count": lambda e: e.count,
    "cpu_time": lambda e: e.cpu_time,
    "cpu_time_total": lambda e: e.cpu_time_total,
    "self_cpu_time_total": lambda e: e.self_cpu_time_total,
    "cpu_memory_usage": lambda e: e.cpu_memory_usage,
    "self_cpu_memory_usage": lambda e: e.self_cpu_memory_usage,
    "flops": lambda e: e.flops,
    "bytes": lambda e: e.bytes,
}
_OF_DEVICES = ("cuda", "device", "xpu", "privateuse1", "mtia", "hpu")


def duration(us: float, unit: str | None = None) -> str:
    """A time given in microseconds, with the unit that fits or the one asked for."""
    if unit is None:
        unit = "s" if us >= 1e6 else "ms" if us >= 1e3 else "us"
    return f"{us / _UNITS[unit]:.3f}{unit}"


def size(nbytes: float) -> str:
    """Bytes with the unit that fits."""
    for unit, scale in (("Gb", 1 << 30), ("Mb", 1 << 20), ("Kb", 1 << 10)):
        if abs(nbytes) >= scale:
            return f"{nbytes / scale:.2f} {unit}"
    return f"{int(nbytes)} b"


def _sorted(events: Any, sort_by: str | None) -> list[Any]:
    if sort_by is None:
        return list(events)
    name = sort_by
    if any(device in name for device in _OF_DEVICES):
        return list(events)  # no device but the CPU took part: all are equal
    if name not in _SORTS:
        raise AttributeError(
            f"cannot sort a profile's table by {sort_by!r}; choose from {', '.join(_SORTS)}"
        )
    return sorted(events, key=_SORTS[name], reverse=True)


def _cut(text: str, width: int | None) -> str:
    return text if width is None or len(text) <= width else text[: max(width - 3, 0)] + "..."


def layout(
    titles: list[str], rows: list[list[str]], left: int = 1, header: str | None = None
) -> str:
    """Rows below titles, between rules; the first `left` columns to the left, others right."""
    widths = [max(len(r[k]) for r in [titles, *rows]) for k in range(len(titles))]
    rule = "  ".join("-" * w for w in widths)

    def line(cells: list[str]) -> str:
        placed = [
            c.ljust(w) if k < left else c.rjust(w)
            for k, (c, w) in enumerate(zip(cells, widths, strict=True))
        ]
        return "  ".join(placed).rstrip()

    top = [header] if header else []
    return "\n".join([*top, rule, line(titles), rule, *map(line, rows), rule])


def event_table(
    events: Any,
    sort_by: str | None,
    row_limit: int,
    widths: tuple[int | None, int | None, int | None],
    header: str | None,
    top_level_events_only: bool,
    time_unit: str | None,
    with_memory: bool,
    with_flops: bool,
) -> str:
    """The table of `EventList.table`."""
    if not events:
        return ""
    of_source, of_name, of_shapes = widths
    total = events.self_cpu_time_total
    shown = _sorted(events, sort_by)
    if top_level_events_only:
        shown = [e for e in shown if e.cpu_parent is None]
    some = shown if row_limit < 0 else shown[:row_limit]

    def percent(x: float) -> str:
        return f"{100 * x / total:.2f}%" if total else "--"

    columns: list[tuple[str, Callable[[Any], str]]] = [
        ("Name", lambda e: _cut(e.key, of_name)),
        ("Self CPU %", lambda e: percent(e.self_cpu_time_total)),
        ("Self CPU", lambda e: duration(e.self_cpu_time_total, time_unit)),
        ("CPU total %", lambda e: percent(e.cpu_time_total)),
        ("CPU total", lambda e: duration(e.cpu_time_total, time_unit)),
        ("CPU time avg", lambda e: duration(e.cpu_time, time_unit)),
    ]
    if with_memory:
        columns += [
            ("CPU Mem", lambda e: size(e.cpu_memory_usage)),
            ("Self CPU Mem", lambda e: size(e.self_cpu_memory_usage)),
        ]
    columns.append(("# of Calls", lambda e: str(e.count)))
    if any(e.input_shapes for e in some):
        columns.append(("Input Shapes", lambda e: _cut(str(e.input_shapes or []), of_shapes)))
    if with_flops:
        columns += [
            ("Total MFLOPs", lambda e: f"{e.flops / 1e6:.3f}" if e.flops else "--"),
            ("GFLOP/s", lambda e: f"{e.gflops:.1f}" if e.flops else "--"),
            ("GB/s", lambda e: f"{e.gbytes:.1f}" if e.bytes else "--"),
        ]
    if any(e.stack for e in some):
        columns.append(("Source Location", lambda e: _cut((e.stack or [""])[0], of_source)))
    rows = [[cell(e) for _, cell in columns] for e in some]
    text = layout([title for title, _ in columns], rows, header=header)
    return f"{text}\nSelf CPU time total: {duration(total, time_unit)}\n"
