"""What a transport is: one communicator, its collectives started without waiting.

A `Transport` moves bytes among `size` ranks, of which it is number `rank`. Every collective takes
contiguous NumPy arrays over memory that stays where it is until the `Work` it returns has been
waited for; sources are read and targets written in place. A transport says `issue`, for the calls
it knows natively; every other call is put together here from `all_to_all`, so that a transport
needs no more than `all_to_all`, `send`, `recv` and `split`.

Reductions are "sum", "product", "min", "max", "band", "bor" and "bxor". Averages and scaled sums
are a sum with a product beside it, which the rows record (`ops/collective.py`).
"""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flambeau.distributed import recorder

Array = np.ndarray[Any, Any]

#: What reductions there are: name -> NumPy's function of two arrays.
REDUCTIONS: dict[str, Any] = {
    "sum": np.add,
    "product": np.multiply,
    "min": np.minimum,
    "max": np.maximum,
    "band": np.bitwise_and,
    "bor": np.bitwise_or,
    "bxor": np.bitwise_xor,
}


class DistError(RuntimeError):
    """A collective failed: a rank died, called something else, or did not come in time."""


class DistTimeoutError(DistError):
    """A collective did not end within its time."""


class Work(abc.ABC):
    """A collective that was started."""

    @abc.abstractmethod
    def wait(self, timeout: float | None = None) -> None:
        """Return when the targets are written and the sources may be changed.

        Args:
            timeout: seconds; None takes the transport's.

        Raises:
            DistTimeoutError: it did not end in time.
            DistError: it failed.
        """

    @abc.abstractmethod
    def done(self) -> bool:
        """Whether `wait` would return at once."""

    def abandon(self, memory: Any, seconds: float) -> None:
        """Nobody will wait for it any more.

        Args:
            memory: what it reads and writes; it is kept for as long as that takes.
            seconds: how long it may be waited for here.
        """
        with contextlib.suppress(Exception):
            self.wait(seconds)


class Done(Work):
    """A collective that ended as it was started."""

    def wait(self, timeout: float | None = None) -> None:
        """Return at once."""

    def done(self) -> bool:
        """True."""
        return True


class Then(Work):
    """A collective with work to do on this rank once other works ended.

    Args:
        works: what to wait for first.
        finish: called once, by the first `wait`.
    """

    def __init__(self, works: Sequence[Work], finish: Callable[[], None]) -> None:
        self.works = works
        self.finish: Callable[[], None] | None = finish

    def wait(self, timeout: float | None = None) -> None:
        """Wait for the parts, then finish."""
        for work in self.works:
            work.wait(timeout)
        finish, self.finish = self.finish, None
        if finish is not None:
            finish()

    def done(self) -> bool:
        """Whether the parts are done."""
        return all(work.done() for work in self.works)

    def abandon(self, memory: Any, seconds: float) -> None:
        """Abandon the parts."""
        super().abandon(memory, seconds)
        for work in self.works:
            work.abandon(memory, 0.0)


@dataclass
class Call:
    """One collective as a rank calls it.

    Attributes:
        name: the method of `Transport`, as "all_reduce".
        sources: arrays that are read: one, or one for each rank.
        targets: arrays that are written: none, one, or one for each rank.
        op: the reduction, "" where there is none.
        root: the rank that has or gets the values; -1 where there is none.
        peer: the other rank of `send` and `recv`, -1 elsewhere.
        tag: of `send` and `recv`.
        sequence: how many calls of all its ranks the communicator has seen before, set when it is
            started.
        told: the signature of the call that this one is a part of, "" where it is the whole.
    """

    name: str
    sources: Sequence[Array] = ()
    targets: Sequence[Array] = ()
    op: str = ""
    root: int = -1
    peer: int = -1
    tag: int = 0
    sequence: int = field(default=-1, compare=False)
    told: str = ""

    def signature(self) -> str:
        """What has to be the same on every rank, as a line of text."""
        if self.told:
            return self.told
        words = [self.name]
        if self.op:
            words.append(self.op)
        if self.root >= 0:
            words.append(f"root {self.root}")
        if self.peer >= 0:
            words.append(f"rank {self.peer}")
        if self.name not in _UNEVEN and (self.sources or self.targets):
            a = (self.sources or self.targets)[0]
            words.append(f"{a.dtype.name}{list(a.shape)}")
        return " ".join(words)


#: Calls whose arrays need not be of one size on all ranks.
_UNEVEN = {
    *("all_gather", "reduce_scatter", "all_to_all", "gather", "scatter", "send", "recv"),
}


def reduce_arrays(arrays: Sequence[Array], op: str, target: Array) -> None:
    """Write the reduction of arrays, in their order, over `target`.

    Numbers of two bytes are added as float32, and bools as `or` and `and`.
    """
    function = REDUCTIONS[op]
    dtype = target.dtype
    if dtype == np.bool_ and op in ("sum", "product"):
        function = np.logical_or if op == "sum" else np.logical_and
    narrow = dtype.itemsize <= 2 and dtype.kind not in "biu" and op not in ("min", "max")
    found = arrays[0].astype(np.float32) if narrow else arrays[0].copy()
    for a in arrays[1:]:
        function(found, a, out=found)
    target[...] = found.reshape(target.shape)


class Transport(abc.ABC):
    """One communicator.

    Attributes:
        rank: this process's place, from 0.
        size: how many there are.
        timeout: seconds that a collective may take.
        group: how reports name the communicator, as "world" or "ranks 0, 2".
        checked: whether ranks compare their calls before each is started.
    """

    name = ""
    #: Whether any thread of the process may start and await calls.
    threaded = False

    def __init__(self, rank: int, size: int, timeout: float = 1800.0) -> None:
        self.rank = rank
        self.size = size
        self.timeout = timeout
        self.group = "world"
        self.checked = recorder.checking()
        self._count = 0

    # -- what a transport has of its own ----------------------------------------------------------

    @abc.abstractmethod
    def issue(self, call: Call) -> Work:
        """Start a call: natively, or by `super().issue(call)`, which puts it together from others.

        `all_to_all`, `send` and `recv` are the transport's own.
        """
        derived = getattr(self, f"_{call.name}", None)
        if derived is None:
            raise NotImplementedError(f"the transport {self.name!r} has no {call.name}")
        work: Work = derived(call)
        return work

    @abc.abstractmethod
    def split(self, ranks: Sequence[int]) -> Transport | None:
        """The communicator of some ranks, in this order; None on ranks that are not among them.

        Every rank of this communicator calls it, with the same ranks.
        """

    @abc.abstractmethod
    def abort(self, reason: str) -> None:
        """End what waits, here and on every other rank, with this reason."""

    def close(self) -> None:  # noqa: B027 (most hold nothing)
        """Give back what the communicator holds."""

    # -- starting ---------------------------------------------------------------------------------

    def start(self, call: Call) -> Work:
        """Start a call: the one place that every collective passes."""
        call.sequence = self._count
        between_two = call.name in ("send", "recv")
        self._count += not between_two
        entry = recorder.note(self.group, self.rank, call.sequence, call.signature())
        if self.checked and not between_two:
            self.compare(call)
        work = self.issue(call)
        entry.follow(work)
        return work

    def compare(self, call: Call) -> None:
        """Tell each rank what the others call, and raise where it is not the same.

        Raises:
            DistError: naming the ranks and what they called.
        """
        disagreement([text.decode() for text in self._strings(call.signature().encode())])

    def all_reduce(self, source: Array, target: Array, op: str = "sum") -> Work:
        """target = the reduction of every rank's source; they may be one array."""
        return self.start(Call("all_reduce", (source,), (target,), op))

    def all_gather(self, source: Array, targets: Sequence[Array]) -> Work:
        """targets[r] = rank r's source; sizes may differ from rank to rank."""
        return self.start(Call("all_gather", (source,), targets))

    def reduce_scatter(self, sources: Sequence[Array], target: Array, op: str = "sum") -> Work:
        """target = the reduction of every rank's sources[rank]; sizes may differ."""
        return self.start(Call("reduce_scatter", sources, (target,), op))

    def all_to_all(self, sources: Sequence[Array], targets: Sequence[Array]) -> Work:
        """targets[r] = rank r's sources[rank]; sizes may differ."""
        return self.start(Call("all_to_all", sources, targets))

    def broadcast(self, array: Array, root: int) -> Work:
        """array = the root's array."""
        sources, targets = ((array,), ()) if self.rank == root else ((), (array,))
        return self.start(Call("broadcast", sources, targets, root=root))

    def reduce(self, source: Array, target: Array | None, op: str = "sum", root: int = 0) -> Work:
        """On the root, target = the reduction of every rank's source; elsewhere it is not written,
        and may be None."""
        targets = (target,) if target is not None and self.rank == root else ()
        return self.start(Call("reduce", (source,), targets, op, root))

    def gather(self, source: Array, targets: Sequence[Array], root: int = 0) -> Work:
        """On the root, targets[r] = rank r's source; elsewhere there are no targets."""
        return self.start(Call("gather", (source,), targets, root=root))

    def scatter(self, sources: Sequence[Array], target: Array, root: int = 0) -> Work:
        """target = the root's sources[rank]; elsewhere there are no sources."""
        return self.start(Call("scatter", sources, (target,), root=root))

    def send(self, array: Array, peer: int, tag: int = 0) -> Work:
        """Give rank `peer` the array."""
        return self.start(Call("send", (array,), (), peer=peer, tag=tag))

    def recv(self, array: Array, peer: int, tag: int = 0) -> Work:
        """array = what rank `peer` sends with this tag; -1 takes it from any."""
        return self.start(Call("recv", (), (array,), peer=peer, tag=tag))

    def barrier(self) -> Work:
        """Wait until every rank is here."""
        return self.start(Call("barrier"))

    def exchange(self, data: bytes) -> list[bytes]:
        """Every rank's byte string, by rank (waits for all)."""
        entry = recorder.note(self.group, self.rank, self._count, "exchange")
        self._count += 1
        strings = self._strings(data)
        entry.end()
        return strings

    # -- calls put together from others -----------------------------------------------------------

    def _part(
        self, call: Call, name: str, sources: Sequence[Array], targets: Sequence[Array], **how: Any
    ) -> Work:
        return self.issue(
            Call(name, sources, targets, sequence=call.sequence, told=call.signature(), **how)
        )

    def _strings(self, data: bytes) -> list[bytes]:
        length = np.array([len(data)], np.int64)
        lengths = np.empty((self.size, 1), np.int64)
        sequence = self._count - 1
        self.issue(Call("all_gather", (length,), list(lengths), sequence=sequence)).wait()
        parts = [np.empty(int(n), np.uint8) for n in lengths[:, 0]]
        source = np.frombuffer(data, np.uint8)
        self.issue(Call("all_gather", (source,), parts, sequence=sequence)).wait()
        return [p.tobytes() for p in parts]

    def _all_gather(self, call: Call) -> Work:
        return self._part(call, "all_to_all", [call.sources[0]] * self.size, call.targets)

    def _all_reduce(self, call: Call) -> Work:
        source, target = call.sources[0], call.targets[0]
        parts = [np.empty_like(source) for _ in range(self.size)]
        work = self._part(call, "all_to_all", [source] * self.size, parts)
        return Then((work,), lambda: reduce_arrays(parts, call.op, target))

    def _reduce_scatter(self, call: Call) -> Work:
        target = call.targets[0]
        parts = [np.empty_like(target) for _ in range(self.size)]
        work = self._part(call, "all_to_all", call.sources, parts)
        return Then((work,), lambda: reduce_arrays(parts, call.op, target))

    def _reduce(self, call: Call) -> Work:
        source = call.sources[0]
        parts = [np.empty_like(source) for _ in range(self.size)] if call.targets else []
        work = self._part(call, "gather", (source,), parts, root=call.root)
        if not call.targets:
            return work
        return Then((work,), lambda: reduce_arrays(parts, call.op, call.targets[0]))

    def _broadcast(self, call: Call) -> Work:
        own = self.rank == call.root
        nothing = np.empty(0, (call.sources or call.targets)[0].dtype)
        sources = [call.sources[0] if own and r != call.root else nothing for r in range(self.size)]
        targets = [
            call.targets[0] if not own and r == call.root else nothing for r in range(self.size)
        ]
        return self._part(call, "all_to_all", sources, targets)

    def _gather(self, call: Call) -> Work:
        source = call.sources[0]
        nothing = np.empty(0, source.dtype)
        sources = [source if r == call.root else nothing for r in range(self.size)]
        return self._part(call, "all_to_all", sources, call.targets or [nothing] * self.size)

    def _scatter(self, call: Call) -> Work:
        target = call.targets[0]
        nothing = np.empty(0, target.dtype)
        targets = [target if r == call.root else nothing for r in range(self.size)]
        return self._part(call, "all_to_all", call.sources or [nothing] * self.size, targets)

    def _barrier(self, call: Call) -> Work:
        flags = np.zeros((2, self.size, 1), np.uint8)
        return self._part(call, "all_to_all", list(flags[0]), list(flags[1]))


def disagreement(signatures: Sequence[str]) -> None:
    """Raise where ranks called different things.

    Args:
        signatures: `Call.signature()` by rank.

    Raises:
        DistError: naming the ranks and what they called.
    """
    if len(set(signatures)) <= 1:
        return
    ranks: dict[str, list[int]] = {}
    for rank, text in enumerate(signatures):
        ranks.setdefault(text, []).append(rank)
    told = "; ".join(
        f"rank{'s' if len(who) > 1 else ''} {', '.join(map(str, who))}: {text}"
        for text, who in ranks.items()
    )
    raise DistError(f"the ranks of a group called different collectives: {told}")
