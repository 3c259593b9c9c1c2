"""What memory was held for when most of it was in use."""

from __future__ import annotations

import bisect
import os
from dataclasses import dataclass
from typing import Any

from flambeau.profiler import table

_BEFORE = "(allocated before the profile)"
_OTHER = "(temporary, or no operation's result)"


@dataclass
class Holding:
    """Memory that results of one recorded row held.

    Attributes:
        name: of the row, or what else the memory was.
        line: of the program that recorded it, "file:number"; empty where there is none.
        nbytes: of all results.
        count: results.
    """

    name: str
    line: str
    nbytes: int = 0
    count: int = 0


class MemoryPeak(list[Holding]):
    """What held memory at the moment when most was in use, the most first.

    Attributes:
        nbytes: in use then.
        time: microseconds since the profile began.
    """

    nbytes = 0
    time = 0.0

    @classmethod
    def of(cls, recorder: Any) -> MemoryPeak:
        """The peak of what a recorder heard, memory included."""
        changes = recorder.memory
        found = cls()
        at = max(range(len(changes)), key=lambda k: changes[k][3], default=-1)
        if at < 0 or changes[at][3] < recorder.allocated:
            found.nbytes = recorder.allocated
        else:
            found.time, found.nbytes = (changes[at][0] - recorder.start) / 1e3, changes[at][3]
        held: dict[int, tuple[int, int]] = {}  # address -> (since when, bytes)
        before = recorder.allocated
        for time, address, nbytes, _ in changes[: at + 1] if found.time else ():
            if nbytes > 0:
                held[address] = (time, nbytes)
            elif held.pop(address, None) is None:
                before += nbytes
        makers: dict[int, list[tuple[int, int]]] = {}
        for time, address, origin in recorder.places:
            makers.setdefault(address, []).append((time, origin))
        groups: dict[tuple[str, str], Holding] = {}
        for address, (since, nbytes) in held.items():
            key = _maker(recorder, makers.get(address, []), since)
            group = groups.setdefault(key, Holding(*key))
            group.nbytes += nbytes
            group.count += 1
        if before > 0:
            groups[_BEFORE, ""] = Holding(_BEFORE, "", before, 1)
        found += sorted(groups.values(), key=lambda h: -h.nbytes)
        return found

    def table(self, row_limit: int = 40) -> str:
        """The holdings as text.

        Args:
            row_limit: lines at most, -1 for all.
        """
        rows = [
            [h.name, os.path.basename(h.line), str(h.count), table.size(h.nbytes)]
            + [f"{100 * h.nbytes / max(self.nbytes, 1):.1f}"]
            for h in (self if row_limit < 0 else self[:row_limit])
        ]
        text = table.layout(["Held by", "Line", "Results", "Memory", "%"], rows, left=2)
        return f"{text}\nPeak: {table.size(self.nbytes)} after {table.duration(self.time)}\n"


def _maker(recorder: Any, places: list[tuple[int, int]], since: int) -> tuple[str, str]:
    """(row, line) whose result was the first that a block held from some time on."""
    k = bisect.bisect_left(places, (since, -1))
    number = places[k][1] - recorder.base if k < len(places) else -1
    if not 0 <= number < len(recorder.rows):
        return _OTHER, ""
    row = recorder.rows[number]
    return row.name, f"{row.stack[0][0]}:{row.stack[0][1]}" if row.stack else ""
