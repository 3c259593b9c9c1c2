"""What a run shows: a live line in a terminal, plain lines elsewhere."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from flambeau.commands import progress
from flambeau.commands.progress import Display, Status, duration, megabytes


def status(step: int, loss: float = 2.5) -> Status:
    return Status(step, loss, 2.75, 12_345.0, 65.0, 300 * 2**20)


def show(terminal: bool, steps: int) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=120, soft_wrap=not terminal)
    with Display(steps, console) as display:
        for step in range(1, steps + 1):
            display.update(status(step), last=step == steps)
        display.say("[a line that stays]")
    return out.getvalue()


def test_plain_lines_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_PLAIN_SECONDS", 1e9)
    lines = show(terminal=False, steps=50).splitlines()
    expected = "loss 2.5000  smoothed 2.7500  12,345 tokens/s  eta 1:05  peak 300 MB"
    assert lines == [
        f"step     1/50  {expected}",
        f"step    50/50  {expected}",
        "[a line that stays]",
    ]


def test_plain_lines_come_with_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_PLAIN_SECONDS", 0.0)
    assert len(show(terminal=False, steps=5).splitlines()) == 6


def test_a_terminal_gets_one_live_line() -> None:
    shown = show(terminal=True, steps=50)
    assert "step 50/50" in shown
    assert "12,345 tokens/s" in shown
    assert "[a line that stays]" in shown
    assert "\x1b[" in shown


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "-"), (0.4, "0:00"), (59.6, "1:00"), (3661, "1:01:01"), (-3, "0:00")],
)
def test_durations(seconds: float | None, words: str) -> None:
    assert duration(seconds) == words


def test_megabytes() -> None:
    assert megabytes(None) == "-"
    assert megabytes(1536 * 2**20) == "1,536 MB"
