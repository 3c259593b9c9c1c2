"""Places in memory for values with known lifetimes.

Finding the smallest arena is NP-hard. Placing the largest first, each in the lowest gap that is
free for as long as it lives, comes within a few per cent of the bound (the most bytes alive at
once) on training steps.

Reference:
    Pisarchyk and Lee, Efficient Memory Management for Deep Neural Net Inference
    (arXiv:2001.03288), section 5: greedy by size for offset calculation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate

ALIGNMENT = 64
_GUEST = 1 << 16  # smaller values do not move into results' memory


class Storage:
    """Memory of one or more nodes: a place in the arena, or in an input's or result's memory.

    Attributes:
        nbytes: its size.
        first, last: the steps that use it first and last; -1 where none does.
        slot: whose memory it is in, as the program's value array counts; None or 0 is the arena.
        offset: bytes from that memory's start.
    """

    __slots__ = ("first", "last", "nbytes", "offset", "slot")

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes
        self.first = -1
        self.last = -1
        self.slot: int | None = None
        self.offset = 0

    def __repr__(self) -> str:
        return f"<Storage {self.nbytes} bytes, steps {self.first}-{self.last}>"


def padded(nbytes: int) -> int:
    """Bytes that a value takes: whole lines, at least one."""
    return max(-(-nbytes // ALIGNMENT), 1) * ALIGNMENT


def bound(storages: Iterable[Storage]) -> int:
    """The most bytes alive at once: no arena is smaller."""
    alive = [s for s in storages if s.first >= 0]
    change = [0] * (max((s.last for s in alive), default=-1) + 2)
    for s in alive:
        change[s.first] += padded(s.nbytes)
        change[s.last + 1] -= padded(s.nbytes)
    return max(accumulate(change), default=0)


class _Bin:
    """Memory with what was placed in it: (offset, end, first, last), by offset."""

    def __init__(self, size: int | None) -> None:
        self.size = size  # None: as large as needed
        self.top = 0
        self.taken: list[tuple[int, int, int, int]] = []

    def fit(self, s: Storage) -> int | None:
        """The offset of the tightest gap that a storage fits in, or None."""
        need = padded(s.nbytes)
        best: int | None = None
        tightest = 0
        low = 0
        for offset, end, first, last in self.taken:
            if first > s.last or last < s.first:
                continue
            gap = offset - low
            if gap >= need and (best is None or gap < tightest):
                best, tightest = low, gap
            low = max(low, end)
        if best is not None:
            return best
        return low if self.size is None or low + need <= self.size else None

    def put(self, s: Storage, offset: int) -> None:
        """Place a storage."""
        end = offset + padded(s.nbytes)
        s.offset = offset
        self.top = max(self.top, end)
        at = len(self.taken)
        while at and self.taken[at - 1][0] > offset:
            at -= 1
        self.taken.insert(at, (offset, end, s.first, s.last))


def place(storages: Iterable[Storage], hosts: Sequence[Storage] = ()) -> int:
    """Give every storage without a slot a place; -> bytes of the arena.

    Args:
        storages: those alive at the same step do not overlap. Those that no step uses, or that
            have a slot, are left alone.
        hosts: results' memory, which is nobody's before their first write: values that die before
            then may lie there.
    """
    arena = _Bin(None)
    free = [
        (h, _Bin(padded(h.nbytes)))
        for h in sorted(hosts, key=lambda h: h.nbytes)
        if h.nbytes >= _GUEST
    ]
    moving = [s for s in storages if s.slot is None and s.first >= 0]
    for s in sorted(moving, key=lambda s: (-s.nbytes, s.first)):
        for host, room in free if s.nbytes >= _GUEST else ():
            if host.nbytes >= s.nbytes and s.last < host.first:
                offset = room.fit(s)
                if offset is not None:
                    room.put(s, offset)
                    s.slot = host.slot
                    break
        else:
            offset = arena.fit(s)
            assert offset is not None
            arena.put(s, offset)
    return arena.top
