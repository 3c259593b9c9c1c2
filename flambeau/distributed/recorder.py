"""The flight recorder: the last collectives of this process, for the report when something fails.

Every call that a transport starts is noted here: which one, on which group, from which line, and
whether it ended. The notes cost a few microseconds a call and a fixed amount of memory
(`FLAMBEAU_FLIGHT_RECORDER` says how many are kept; 0 keeps none). `flight_record` returns them,
the launcher asks for them when a rank fails, and whoever gets a timeout finds them in its message.
"""

from __future__ import annotations

import os
import sys
import time
import weakref
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_NOT_THE_PROGRAM = (
    str(Path(__file__).parents[1]) + os.sep,
    os.path.dirname(os.__file__) + os.sep,
    "<frozen ",
)
_KEPT = 64


@dataclass(slots=True, eq=False)
class Entry:
    """One collective in the flight record.

    Attributes:
        group: of which group, as "world" or "ranks 0, 2".
        rank: of this process in the group.
        sequence: how many calls the group had started before.
        call: which call, as "all_reduce sum float32[1024]".
        place: the line that started it, as "train.py:31 in step".
        begun: when, in seconds of `time.monotonic`.
    """

    group: str
    rank: int
    sequence: int
    call: str
    place: str
    begun: float
    _work: Any = None
    _over: bool = False

    def follow(self, work: Any) -> None:
        """Note what was started."""
        self._work = weakref.ref(work)

    def end(self) -> None:
        """Note that it ended."""
        self._over = True

    @property
    def over(self) -> bool:
        """Whether it ended; what nobody holds any more counts as ended."""
        if not self._over and self._work is not None:
            work = self._work()
            try:
                self._over = work is None or work.done()
            except RuntimeError:  # it failed, and who waits for it is told
                return False
        return self._over

    def as_dict(self) -> dict[str, Any]:
        """The entry as JSON has it; `seconds` is its age."""
        return {
            "group": self.group,
            "rank": self.rank,
            "sequence": self.sequence,
            "call": self.call,
            "place": self.place,
            "seconds": round(time.monotonic() - self.begun, 3),
            "over": self.over,
        }


def _kept() -> int:
    text = os.environ.get("FLAMBEAU_FLIGHT_RECORDER", "")
    return int(text) if text.isdigit() else _KEPT


_entries: deque[Entry] = deque(maxlen=_kept())


def note(group: str, rank: int, sequence: int, call: str) -> Entry:
    """Add a call that is about to be started; -> its entry, which `follow`s the work."""
    entry = Entry(group, rank, sequence, call, _place(), time.monotonic())
    _entries.append(entry)
    return entry


def _place() -> str:
    """The innermost line of the program: outside this package and Python's own modules."""
    frame = sys._getframe(2)
    while frame is not None:
        code = frame.f_code
        if not code.co_filename.startswith(_NOT_THE_PROGRAM):
            return f"{os.path.basename(code.co_filename)}:{frame.f_lineno} in {code.co_name}"
        frame = frame.f_back  # type: ignore[assignment]
    return ""


def flight_record() -> list[Entry]:
    """The last collectives this process started, the newest last."""
    return list(_entries)


def waiting() -> Entry | None:
    """The oldest collective that was started and has not ended."""
    return next((entry for entry in list(_entries) if not entry.over), None)


def checking() -> bool:
    """Whether ranks compare what they call before each collective is started.

    `FLAMBEAU_COLLECTIVES=check` asks for it, and torch's `TORCH_DISTRIBUTED_DEBUG=DETAIL`.
    """
    return (
        os.environ.get("FLAMBEAU_COLLECTIVES") == "check"
        or os.environ.get("TORCH_DISTRIBUTED_DEBUG", "").upper() == "DETAIL"
    )
