"""Ranks that are threads of this process, for tests and teaching, and the world of one rank.

Note [Taking turns]
One rank runs at a time. It runs until it has to wait for others in a collective, and then the next
rank that can go on does; so a program of several ranks runs the same way every time. Whatever a
process has once and a rank of its own process would have for itself (what it has recorded, the
random numbers, the default group) is put away and another rank's put in its place as the turn
passes (`own`). Nothing is paid for it by ordinary programs. When every rank waits, none of them can
ever go on: that is reported at once, with what each waits for, and no time has to run out.

What ranks share is as in several processes: nothing but what they send. They should wait for each
other by collectives alone, not by locks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from flambeau import record
from flambeau.distributed.transport.base import (
    Array,
    Call,
    DistError,
    DistTimeoutError,
    Done,
    Transport,
    Work,
    disagreement,
)
from flambeau.ops.generator import default_generator

#: What each rank has of its own: functions that put the given state (None: a fresh one) in place
#: and return the one that was there.
_OWN: list[Callable[[Any], Any]] = [record.exchange]


def own(exchange: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Have every rank that is a thread keep a state of its own; a decorator.

    Args:
        exchange: state (None: a fresh one) -> the state that was in place.
    """
    _OWN.append(exchange)
    return exchange


@own
def _random(state: Any) -> Any:
    found = default_generator.__getstate__()
    default_generator.__setstate__((found[0], 0, None) if state is None else state)
    return found


class World:
    """Ranks that take turns: Note [Taking turns]."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.turn = 0
        self.waiting: dict[int, tuple[Callable[[], bool], str]] = {}
        self.ended: set[int] = set()
        self.failure: tuple[int, BaseException] | None = None  # the first rank that raised
        self.stuck = ""
        self._go = [threading.Event() for _ in range(size)]
        self._kept: list[Any] = [None] * size

    def wait(self, rank: int, until: Callable[[], bool], what: str) -> None:
        """Let others run until a condition holds.

        Raises:
            DistError: it never will.
        """
        if until():
            return
        self.waiting[rank] = (until, what)
        following = self.following(rank)
        if following is None:
            self.stuck = self.stuck or self._told()
        elif following != rank:
            self._leave(rank)
            self._pass(following)
            self._enter(rank)
        del self.waiting[rank]
        if not until():
            raise DistError(self._reason())

    def following(self, rank: int) -> int | None:
        """The next rank that can run; with a failure every rank that waits can, to be told."""
        for k in range(1, self.size + 1):
            other = (rank + k) % self.size
            if other in self.ended:
                continue
            if other not in self.waiting or self.waiting[other][0]():
                return other
            if other != rank and (self.failure is not None or self.stuck):
                return other
        return None

    def _reason(self) -> str:
        if self.failure is not None:
            rank, error = self.failure
            return f"rank {rank} ended with {type(error).__name__}: {error}"
        return self.stuck

    def _told(self) -> str:
        lines = [f"rank {rank} waits for {what}" for rank, (_, what) in self.waiting.items()]
        lines += [f"rank {rank} has ended" for rank in sorted(self.ended)]
        return "no rank can go on: " + "; ".join(sorted(lines))

    def _leave(self, rank: int) -> None:
        self._kept[rank] = [exchange(None) for exchange in _OWN]

    def _pass(self, rank: int) -> None:
        self.turn = rank
        self._go[rank].set()

    def _enter(self, rank: int) -> None:
        self._go[rank].wait()
        self._go[rank].clear()
        kept, self._kept[rank] = self._kept[rank], None
        for exchange, state in zip(_OWN, kept or [None] * len(_OWN), strict=True):
            exchange(state)

    def run(self, functions: Sequence[Callable[[], Any]], timeout: float | None) -> list[Any]:
        """Run one function a rank; -> what they return.

        Raises:
            What the first rank that failed raised.
            DistTimeoutError: they did not end in time.
        """
        results: list[Any] = [None] * self.size
        over = threading.Event()

        def main(rank: int) -> None:
            self._enter(rank)
            try:
                results[rank] = functions[rank]()
                record.flush()
            except BaseException as error:
                if self.failure is None:
                    error.add_note(f"raised by rank {rank} of {self.size}")
                    self.failure = (rank, error)
            self._leave(rank)
            self._kept[rank] = None
            self.ended.add(rank)
            following = self.following(rank)
            if following is None and len(self.ended) < self.size:
                self.stuck = self.stuck or self._told()
                following = self.following(rank)
            if following is None:
                over.set()
            else:
                self._pass(following)

        before = [exchange(None) for exchange in _OWN]
        threads = [
            threading.Thread(target=main, args=(rank,), name=f"rank {rank}", daemon=True)
            for rank in range(self.size)
        ]
        for thread in threads:
            thread.start()
        self._pass(0)
        finished = over.wait(timeout)
        if finished:
            for thread in threads:
                thread.join()
        for exchange, state in zip(_OWN, before, strict=True):
            exchange(state)
        if not finished:
            raise DistTimeoutError(f"ranks did not end within {timeout} s; rank {self.turn} runs")
        if self.failure is not None:
            raise self.failure[1]
        return results


class _Slot:
    """One collective: the calls that have come."""

    def __init__(self, size: int) -> None:
        self.calls: list[Call | None] = [None] * size
        self.missing = size
        self.error: str | None = None


class _Room:
    """What the members of a communicator share."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.slots: dict[int, _Slot] = {}
        self.rooms: dict[int, _Room] = {}
        self.boxes: dict[tuple[int, int, int], _Box] = {}
        self.aborted: str | None = None

    def box(self, sender: int, receiver: int, tag: int) -> _Box:
        """The messages between two ranks with one tag."""
        return self.boxes.setdefault((sender, receiver, tag), _Box())


class _Waiting(Work):
    """A collective of threads: written by the last rank that comes."""

    def __init__(self, transport: Local, ready: Callable[[], bool], what: str) -> None:
        self.transport = transport
        self.ready = ready
        self.what = what

    def done(self) -> bool:
        """Whether the ranks have all come."""
        return self.ready() or self.transport.room.aborted is not None

    def wait(self, timeout: float | None = None) -> None:
        """Let the other ranks run until they have come."""
        self.transport.world.wait(self.transport.place, self.done, self.what)
        if self.transport.room.aborted is not None:
            raise DistError(self.transport.room.aborted)


class _Collective(_Waiting):
    def __init__(self, transport: Local, slot: _Slot, what: str) -> None:
        super().__init__(transport, lambda: not slot.missing, what)
        self.slot = slot

    def wait(self, timeout: float | None = None) -> None:
        """Let the other ranks run until they have come."""
        super().wait(timeout)
        if self.slot.error is not None:
            raise DistError(self.slot.error)


class _Box:
    """Messages from one rank to another with one tag, in the order in which they were sent.

    The n-th that is asked for is the n-th that was sent, whichever is waited for first.
    """

    def __init__(self) -> None:
        self.sent: list[Array | None] = []
        self.asked = 0


class _Receive(_Waiting):
    def __init__(self, transport: Local, call: Call) -> None:
        super().__init__(transport, self._here, f"{call.signature()} from rank {call.peer}")
        self.call = call
        self.found: tuple[_Box, int] | None = None
        if call.peer >= 0:
            self._ask(call.peer)

    def _ask(self, peer: int) -> None:
        box = self.transport.room.box(peer, self.transport.rank, self.call.tag)
        self.call.peer = peer
        self.found = (box, box.asked)
        box.asked += 1

    def _here(self) -> bool:
        room, rank = self.transport.room, self.transport.rank
        if self.found is None:  # from any rank
            for peer in range(room.size):
                box = room.box(peer, rank, self.call.tag)
                if len(box.sent) > box.asked:
                    self._ask(peer)
                    return True
            return False
        box, number = self.found
        return len(box.sent) > number

    def wait(self, timeout: float | None = None) -> None:
        """Let the other ranks run until one has sent it."""
        super().wait(timeout)
        assert self.found is not None
        box, number = self.found
        source, box.sent[number] = box.sent[number], None
        if source is not None:
            self.call.targets[0][...] = source.reshape(self.call.targets[0].shape)


class Local(Transport):
    """A communicator of threads that take turns, or of one rank alone."""

    name = "local"

    def __init__(self, world: World, place: int, room: _Room, rank: int) -> None:
        super().__init__(rank, room.size)
        self.world = world
        self.place = place  # the rank in the world
        self.room = room
        self._issued = self._splits = 0

    def issue(self, call: Call) -> Work:
        """Leave a call with the others'; the last to come moves everybody's data."""
        if call.name == "send":
            self.room.box(self.rank, call.peer, call.tag).sent.append(call.sources[0].copy())
            return Done()
        if call.name == "recv":
            return _Receive(self, call)
        if call.name != "all_to_all":
            return super().issue(call)
        slot = self.room.slots.setdefault(self._issued, _Slot(self.size))
        slot.calls[self.rank] = call
        slot.missing -= 1
        if not slot.missing:
            del self.room.slots[self._issued]
            _move(slot)
        self._issued += 1
        return _Collective(self, slot, f"{call.signature()}, its number {self._issued}")

    def split(self, ranks: Sequence[int]) -> Transport | None:
        """The communicator of some ranks."""
        room = self.room.rooms.setdefault(self._splits, _Room(len(ranks)))
        self._splits += 1
        if self.rank not in ranks:
            return None
        made = Local(self.world, self.place, room, list(ranks).index(self.rank))
        made.timeout, made.checked = self.timeout, self.checked
        return made

    def abort(self, reason: str) -> None:
        """End what waits, on every rank."""
        self.room.aborted = self.room.aborted or reason


def _move(slot: _Slot) -> None:
    """Move the data of a collective that every rank has called."""
    calls = [call for call in slot.calls if call is not None]
    try:
        disagreement([call.signature() for call in calls])
        for rank, call in enumerate(calls):
            for target, other in zip(call.targets, calls, strict=True):
                source = other.sources[rank]
                if source.size != target.size or source.dtype != target.dtype:
                    raise DistError(
                        f"{call.signature()}: a rank sends {source.dtype}{list(source.shape)} to "
                        f"rank {rank}, which takes {target.dtype}{list(target.shape)}"
                    )
        copies = [[s.copy() for s in call.sources] for call in calls]
        for rank, call in enumerate(calls):
            for target, parts in zip(call.targets, copies, strict=True):
                target[...] = parts[rank].reshape(target.shape)
    except DistError as error:
        slot.error = str(error)


def alone() -> Local:
    """The communicator of this rank alone."""
    return Local(World(1), 0, _Room(1), 0)


def team(size: int) -> list[Local]:
    """The communicators of a world of threads, by rank."""
    world, room = World(size), _Room(size)
    return [Local(world, rank, room, rank) for rank in range(size)]
