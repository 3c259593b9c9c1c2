"""The tables that `python -m bench` prints."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bench.contenders import CONTENDERS
from bench.footprint import Footprint
from bench.measure import Figures, Row


def seconds(value: float | None) -> str:
    """A time with three significant figures and its unit."""
    if value is None:
        return "-"
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value / 1e-9:.3g} ns"


def megabytes(value: float) -> str:
    """A size in units of a million bytes."""
    return f"{value / 1e6:.0f} MB"


def cell(figures: Figures | None) -> str:
    """Wall time, processor time beside it, and the rate where there is one."""
    if figures is None:
        return "absent"
    if figures.error:
        return "failed"
    text = f"{seconds(figures.wall)} ({seconds(figures.cpu)})"
    if figures.rate:
        text += f" {figures.rate / 1e9:.0f} G/s"
    return text


def ratio_text(row: Row) -> Text:
    """How many times flambeau is faster than torch's better form; red where it is slower."""
    ratio = row.ratio()
    if ratio is None:
        return Text("-")
    return Text(f"{ratio:.2f}x", style="green" if ratio >= 1 else "red")


def times_table(rows: list[Row], names: list[str]) -> Table:
    """Time of a step, contender beside contender."""
    table = Table(
        title="Median wall time of a step (processor time of all its threads)",
        caption="faster: flambeau against the faster of torch eager and torch.compile.\n"
        "! marks contenders whose first results disagree.",
    )
    table.add_column("case")
    for name in names:
        table.add_column(CONTENDERS[name].title, justify="right")
    table.add_column("faster", justify="right")
    for row in rows:
        mark = " !" if row.disagreement() else ""
        cells = [cell(row.figures.get(name)) for name in names]
        table.add_row(f"{row.case} {row.variant}{mark}", *cells, ratio_text(row))
    return table


def costs_table(rows: list[Row], names: list[str]) -> Table:
    """Peak memory and warm-up, contender beside contender."""
    table = Table(
        title="Peak resident memory; warm-up with empty and with filled caches on disk",
        caption="Warm-up: seconds until steps run at their later speed, beyond the steps' own.",
    )
    table.add_column("case")
    for name in names:
        table.add_column(CONTENDERS[name].title, justify="right")
    for row in rows:
        cells = []
        for name in names:
            figures = row.figures.get(name)
            if figures is None or figures.error:
                cells.append("absent" if figures is None else "failed")
                continue
            cold, warm = seconds(figures.warm_up_cold), seconds(figures.warm_up_warm)
            cells.append(f"{megabytes(figures.peak)}; {cold}, {warm}")
        table.add_row(f"{row.case} {row.variant}", *cells)
    return table


def recording(rows: list[Row]) -> dict[str, float]:
    """What recording and flushing cost, out of the dispatch case's times.

    A chain of N additions and one flush takes `flush + N * (record + node)`; the two longest
    chains give the slope, and the shortest then gives the flush itself.
    """
    walls = {
        row.variant: figures.wall
        for row in rows
        if row.case == "dispatch"
        and (figures := row.figures.get("flambeau")) is not None
        and not figures.error
    }
    if not {"add", "add_grad", "flush_1", "flush_10", "flush_100"} <= set(walls):
        return {}
    slope = (100 * walls["flush_100"] - 10 * walls["flush_10"]) / 90
    return {
        "record add": walls["add"],
        "record add with gradient": walls["add_grad"],
        "flush, a node": max(0.0, slope - walls["add"]),
        "flush, fixed": walls["flush_1"] - slope,
    }


def recording_table(figures: dict[str, float]) -> Table:
    """The derived costs of recording and flushing."""
    table = Table(title="flambeau: what recording and flushing cost")
    for name in figures:
        table.add_column(name, justify="right")
    table.add_row(*(seconds(value) for value in figures.values()))
    return table


def footprint_table(footprints: list[Footprint]) -> Table:
    """Import time and installed size."""
    table = Table(title="Before the first step")
    table.add_column("library")
    table.add_column("import", justify="right")
    table.add_column("installed, dependencies included", justify="right")
    for one in footprints:
        table.add_row(one.name, seconds(one.import_seconds), megabytes(one.installed_bytes))
    return table


def report(
    rows: list[Row], names: list[str], footprints: list[Footprint], header: str
) -> RenderableType:
    """Everything that was measured."""
    parts: list[RenderableType] = [Text(header)]
    if rows:
        parts += [times_table(rows, names), costs_table(rows, names)]
    if costs := recording(rows):
        parts.append(recording_table(costs))
    if footprints:
        parts.append(footprint_table(footprints))
    reported = set()
    for row in rows:
        for name, figures in row.figures.items():
            if figures.error and (row.case, name, figures.error) not in reported:
                reported.add((row.case, name, figures.error))
                where = f"{row.case} {row.variant}, {CONTENDERS[name].title}"
                parts.append(Text(f"{where}:\n{figures.error}", style="red"))
    return Group(*parts)
