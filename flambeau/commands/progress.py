"""What a training run shows while it runs: one live line in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

_PLAIN_SECONDS = 5.0


@dataclass(frozen=True)
class Status:
    """Where a run stands after a step.

    Args:
        step: steps done.
        loss: of this step, in nats per token.
        smoothed: running mean of the loss.
        tokens_per_second: over the last seconds; 0 while unknown.
        seconds_left: until the run ends; None while unknown.
        peak_memory: largest resident size of the process so far, in bytes; None where unknown.
    """

    step: int
    loss: float
    smoothed: float
    tokens_per_second: float
    seconds_left: float | None
    peak_memory: int | None


def duration(seconds: float | None) -> str:
    """Seconds as ``m:ss`` or ``h:mm:ss``, a dash for None."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(max(seconds, 0.0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def megabytes(size: int | None) -> str:
    """Bytes as ``123 MB``, a dash for None."""
    return "-" if size is None else f"{size / 2**20:,.0f} MB"


class Display:
    """Shows a run's progress; a context manager that owns the live line.

    Args:
        steps: steps of the whole run.
        console: where to write; standard output when None.
    """

    def __init__(self, steps: int, console: Console | None = None) -> None:
        self.steps = steps
        self.console = console or Console(highlight=False, soft_wrap=True)
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._printed_at = float("-inf")

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._progress = Progress(
                TextColumn("step {task.completed:,.0f}/{task.total:,.0f}"),
                BarColumn(bar_width=20),
                TextColumn("{task.description}"),
                console=self.console,
                refresh_per_second=2,
                transient=False,
            )
            self._task = self._progress.add_task(
                "compiling the first step", total=self.steps, completed=0
            )
            self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def say(self, text: str = "", style: str | None = None) -> None:
        """Print a line that stays, above the live one."""
        self.console.print(text, style=style, markup=False, highlight=False)
        if not self.console.is_terminal:
            sys.stdout.flush()

    def update(self, status: Status, last: bool = False) -> None:
        """Show the state after a step; as plain lines, one every few seconds."""
        if self._progress is not None and self._task is not None:
            self._progress.update(
                self._task, completed=status.step, description=_describe_briefly(status)
            )
            return
        now = time.monotonic()
        if last or status.step == 1 or now - self._printed_at >= _PLAIN_SECONDS:
            self._printed_at = now
            self.say(f"step {status.step:>5}/{self.steps}  {_describe(status)}")


def _describe(status: Status) -> str:
    return "  ".join(
        (
            f"loss {status.loss:.4f}",
            f"smoothed {status.smoothed:.4f}",
            f"{status.tokens_per_second:,.0f} tokens/s",
            f"eta {duration(status.seconds_left)}",
            f"peak {megabytes(status.peak_memory)}",
        )
    )


def _describe_briefly(status: Status) -> str:
    """The same for a terminal of 80 columns, with rich's markup."""
    return "  ".join(
        (
            f"loss [bold]{status.smoothed:.3f}[/bold]",
            f"{status.tokens_per_second:,.0f} tokens/s",
            f"eta {duration(status.seconds_left)}",
            f"{megabytes(status.peak_memory)}",
        )
    )
