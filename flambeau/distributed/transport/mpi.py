"""Ranks as processes that MPI started: mpi4py's non-blocking calls on our buffers, without copies.

Note [Progress in MPI]
A non-blocking MPI call moves data only while some thread of the process is inside MPI. Whoever
waits for a call polls it; between calls one thread a process polls the oldest unfinished one, a
few thousand times a second, so that communication goes on while programs compute. Polling gives
up the processor each time, which is what lets ranks outnumber cores; a blocking `MPI_Wait` could
neither time out nor be interrupted.

Note [Leaving]
A rank that ends while others wait for it would leave them waiting, and wait for them itself when
MPI ends. So a process that ends tells all others how many collectives of each communicator it has
started. Who waits looks for such a message now and then: a collective that a rank left before will
never end, and neither will a message to or from a rank that left, once what is on its way has
arrived. That is an error like any other, and ends the job. Ranks that did their part may leave.

Numbers of two bytes and less are reduced as float32, because MPI implementations reduce float16
slowly and bfloat16 not at all, but for MPICH's bfloat16 sum.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import itertools
import os
import sys
import threading
import time
import weakref
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

import ml_dtypes
import numpy as np

from flambeau.distributed import segments
from flambeau.distributed.transport.base import (
    Array,
    Call,
    DistError,
    DistTimeoutError,
    Then,
    Transport,
    Work,
)

_NAMES = {
    "sum": "SUM",
    "product": "PROD",
    "min": "MIN",
    "max": "MAX",
    "band": "BAND",
    "bor": "BOR",
    "bxor": "BXOR",
}
_OF_BOOLS = {
    **dict.fromkeys(("sum", "max", "bor"), "LOR"),
    **dict.fromkeys(("product", "min", "band"), "LAND"),
    "bxor": "LXOR",
}
_MPICH_BFLOAT16 = 0x4C00024C  # MPIX_BFLOAT16 in mpi.h of MPICH 5
_EAGER_SECONDS = 0.02  # that a wait polls without pause
_PAUSE_SECONDS = 1e-4  # between polls after that
_LOOK_SECONDS = 0.2  # between looks for ranks that left
_ARRIVE_SECONDS = 2.0  # in which what a rank sent before it left arrives
_BACKGROUND_SECONDS = 2e-4  # between polls while nobody waits


class _Request(Work):
    """A non-blocking MPI call."""

    __slots__ = ("buffers", "call", "lock", "request", "transport")

    def __init__(self, transport: MPI, call: Call, request: Any, buffers: Any) -> None:
        self.transport = transport
        self.call = call
        self.request: Any = request
        self.buffers = buffers
        self.lock = threading.Lock()

    def done(self) -> bool:
        """Poll the call once, unless another thread does: then it is not known to be over."""
        if not self.lock.acquire(blocking=False):
            return False
        try:
            return self._poll()
        finally:
            self.lock.release()

    def _poll(self) -> bool:
        if self.request is None:
            return True
        try:
            over: bool = self.request.Test()
        except self.transport.mpi.Exception as error:
            raise DistError(f"{self.transport.describe(self.call)} failed: {error}") from error
        if over:
            self.request = self.buffers = None
        return over

    def wait(self, timeout: float | None = None) -> None:
        """Poll the call until it is over."""
        seconds = self.transport.timeout if timeout is None else timeout
        with self.lock:  # the background thread stays away
            begin = time.monotonic()
            while not self._poll():
                waited = time.monotonic() - begin
                if waited > seconds:
                    raise DistTimeoutError(
                        f"{self.transport.describe(self.call)} did not end within {seconds:g} s; "
                        "another rank did not come, or called something else"
                    )
                if waited < _EAGER_SECONDS:
                    os.sched_yield()
                else:
                    self.transport.check_left(self.call, waited)
                    time.sleep(_PAUSE_SECONDS)

    def abandon(self, memory: Any, seconds: float) -> None:
        """Nobody will wait for it any more; the background thread polls it while it lasts."""
        super().abandon(memory, seconds)
        with self.lock:
            if self.request is not None:
                self.buffers = (self.buffers, memory)


class _Background:
    """The thread that polls calls nobody waits for: see Note [Progress in MPI]."""

    def __init__(self) -> None:
        self._works: deque[_Request] = deque()
        self._filled = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, work: _Request) -> None:
        """Poll this call until it is over."""
        self._works.append(work)
        if self._thread is None or not self._thread.is_alive():  # the first, or after a fork
            self._thread = threading.Thread(target=self._run, name="flambeau-mpi", daemon=True)
            self._thread.start()
        self._filled.set()

    def _run(self) -> None:
        while True:
            self._filled.wait()
            self._filled.clear()
            while self._works:
                try:
                    over = self._works[0].done()
                except DistError:
                    over = True  # who waits for it gets the error again
                if over:
                    self._works.popleft()
                else:
                    time.sleep(_BACKGROUND_SECONDS)


_background = _Background()


class _Farewells:
    """Which ranks of the job have left: Note [Leaving].

    Args:
        communicator: of all ranks; a duplicate of it carries the messages.

    Attributes:
        left: rank -> the number of collectives that it has started, by communicator.
    """

    def __init__(self, communicator: Any) -> None:
        from mpi4py import MPI as mpi

        self.mpi = mpi
        self.communicator = communicator.Dup()
        self.left: dict[int, dict[Any, int]] = {}
        self._open: weakref.WeakSet[MPI] = weakref.WeakSet()
        self._closed: dict[Any, int] = {}
        self._alike: defaultdict[Any, Any] = defaultdict(itertools.count)
        self._next = 0.0
        self._sent: list[Any] = []
        atexit.register(self.tell)

    def enter(self, transport: MPI) -> tuple[tuple[int, ...], int]:
        """The name of a communicator on all its ranks: they, and how many such there were."""
        self._open.add(transport)
        group, whole = transport.communicator.Get_group(), self.communicator.Get_group()
        ranks = tuple(group.Translate_ranks(None, whole))
        group.Free()
        whole.Free()
        return ranks, next(self._alike[ranks])

    def close(self, transport: MPI) -> None:
        """Note how far a communicator came that is given back."""
        self._open.discard(transport)
        self._closed[transport.key] = transport._count

    def tell(self) -> None:
        """Tell the other ranks that this one leaves."""
        if self.mpi.Is_finalized():
            return
        counts = self._closed | {t.key: t._count for t in self._open}
        own = self.communicator.Get_rank()
        for rank in range(self.communicator.Get_size()):
            if rank != own:
                self._sent.append(self.communicator.isend(counts, rank))

    def look(self) -> None:
        """Note who has left, if nobody has looked for some time."""
        if (now := time.monotonic()) < self._next:
            return
        self._next = now + _LOOK_SECONDS
        status = self.mpi.Status()
        while (message := self.communicator.improbe(status=status)) is not None:
            self.left[status.Get_source()] = message.recv()


class MPI(Transport):
    """An MPI communicator.

    Args:
        communicator: of mpi4py; this transport's alone.
        timeout: seconds that a collective may take.
    """

    name = "mpi"
    threaded = True

    def __init__(self, communicator: Any, timeout: float = 1800.0) -> None:
        from mpi4py import MPI as mpi

        super().__init__(communicator.Get_rank(), communicator.Get_size(), timeout)
        self.mpi = mpi
        self.communicator = communicator
        self.key = _farewells().enter(self)

    def check_left(self, call: Call, waited: float) -> None:
        """Raise where a rank has left without doing its part of a call: Note [Leaving].

        Args:
            waited: seconds for which the call has been waited for.
        """
        farewells = _farewells()
        farewells.look()
        if not farewells.left:
            return
        ranks, _ = self.key
        between_two = call.name in ("send", "recv")
        if not between_two:
            gone = [
                r
                for r in ranks
                if farewells.left.get(r, {}).get(self.key, call.sequence + 1) <= call.sequence
            ]
        elif waited < _ARRIVE_SECONDS:
            return
        elif call.peer >= 0:
            gone = [ranks[call.peer]] if ranks[call.peer] in farewells.left else []
        else:  # from any other rank
            others = [r for r in ranks if r != ranks[self.rank]]
            gone = others if all(r in farewells.left for r in others) else []
        if gone:
            which = f"rank{'s' * (len(gone) > 1)} {', '.join(map(str, gone))}"
            raise DistError(
                f"{self.describe(call)} cannot end: {which} of the job ended without taking part"
            )

    def describe(self, call: Call) -> str:
        """A call as messages show it."""
        return f"rank {self.rank} of {self.size}: {call.signature()} (call {call.sequence})"

    def split(self, ranks: Sequence[int]) -> MPI | None:
        """The communicator of some ranks, in this order."""
        if self.rank not in ranks:
            return None
        group = self.communicator.Get_group().Incl(list(ranks))
        made = MPI(self.communicator.Create_group(group), self.timeout)
        group.Free()
        made.checked = self.checked
        return made

    def abort(self, reason: str) -> None:
        """End every process of the job."""
        _abort(self.communicator, reason)

    def close(self) -> None:
        """Free the communicator, where MPI still runs."""
        _farewells().close(self)
        if not self.mpi.Is_finalized():
            self.communicator.Free()

    # -- calls ------------------------------------------------------------------------------------

    def issue(self, call: Call) -> Work:
        """Start a call natively where MPI has its types, else by way of others."""
        native: Callable[[Call], Work] | None = getattr(self, f"_native_{call.name}", None)
        try:
            return super().issue(call) if native is None else native(call)
        except self.mpi.Exception as error:
            raise DistError(f"{self.describe(call)} failed: {error}") from error

    def _begin(self, call: Call, request: Any, *buffers: Any) -> Work:
        """The work of a request; small calls are often over at once."""
        work = _Request(self, call, request, buffers)
        if not work.done():
            _background.add(work)
        return work

    def _native_barrier(self, call: Call) -> Work:
        return self._begin(call, self.communicator.Ibarrier())

    def _native_send(self, call: Call) -> Work:
        data = _bytes(call.sources[0])
        return self._begin(call, self.communicator.Isend(data, call.peer, call.tag), data)

    def _native_recv(self, call: Call) -> Work:
        data = _bytes(call.targets[0])
        peer = self.mpi.ANY_SOURCE if call.peer < 0 else call.peer
        return self._begin(call, self.communicator.Irecv(data, peer, call.tag), data)

    def _native_broadcast(self, call: Call) -> Work:
        data = _bytes((call.sources or call.targets)[0])
        return self._begin(call, self.communicator.Ibcast(data, call.root), data)

    def _native_all_gather(self, call: Call) -> Work:
        source, row = _bytes(call.sources[0]), _Row(call.targets)
        counts, offsets = row.counts, row.offsets
        request = self.communicator.Iallgatherv(
            source, [row.data, counts, offsets, self.mpi.UNSIGNED_CHAR]
        )
        return row.unpacked(self._begin(call, request, source, row))

    def _native_all_to_all(self, call: Call) -> Work:
        sources, targets = _Row(call.sources, filled=True), _Row(call.targets)
        byte = self.mpi.UNSIGNED_CHAR
        request = self.communicator.Ialltoallv(
            [sources.data, sources.counts, sources.offsets, byte],
            [targets.data, targets.counts, targets.offsets, byte],
        )
        return targets.unpacked(self._begin(call, request, sources, targets))

    def _native_gather(self, call: Call) -> Work:
        source, row = _bytes(call.sources[0]), _Row(call.targets)
        whole = [row.data, row.counts, row.offsets, self.mpi.UNSIGNED_CHAR]
        request = self.communicator.Igatherv(
            source, whole if self.rank == call.root else None, call.root
        )
        return row.unpacked(self._begin(call, request, source, row))

    def _native_scatter(self, call: Call) -> Work:
        target, row = _bytes(call.targets[0]), _Row(call.sources, filled=True)
        whole = [row.data, row.counts, row.offsets, self.mpi.UNSIGNED_CHAR]
        request = self.communicator.Iscatterv(
            whole if self.rank == call.root else None, target, call.root
        )
        return self._begin(call, request, target, row)

    # -- reductions -------------------------------------------------------------------------------

    def _native_all_reduce(self, call: Call) -> Work:
        return self._reduced(call, self.communicator.Iallreduce)

    def _native_reduce(self, call: Call) -> Work:
        return self._reduced(call, functools.partial(self.communicator.Ireduce, root=call.root))

    def _reduced(self, call: Call, start: Callable[..., Any]) -> Work:
        """The work of a reduction of whole arrays.

        Args:
            start: mpi4py's function; called with what is read, what is written, the operation.
        """
        given = call.sources[0]
        source, kind, op = self._reducible(given, call.op)
        read = [source, source.size, kind]
        if not call.targets:  # it is written on another rank
            return self._begin(call, start(read, None, op), source)
        target = call.targets[0]
        found = target if source is given else np.empty_like(source)
        aliased = _address(found) == _address(source)
        request = start(self.mpi.IN_PLACE if aliased else read, [found, found.size, kind], op)
        return _stored(self._begin(call, request, source, found), found, target)

    def _native_reduce_scatter(self, call: Call) -> Work:
        row = _Row(call.sources, filled=True)
        target = call.targets[0]
        whole = row.data.view(target.dtype)
        source, kind, op = self._reducible(whole, call.op)
        found = target if source is whole else np.empty(target.shape, source.dtype)
        counts = [n // target.itemsize for n in row.counts]
        request = self.communicator.Ireduce_scatter(
            [source, source.size, kind], [found, found.size, kind], counts, op
        )
        return _stored(self._begin(call, request, source, found), found, target)

    def _reducible(self, array: Array, op: str) -> tuple[Array, Any, Any]:
        """The array as MPI reduces it (float32 where it cannot), its MPI type and operation."""
        if array.dtype == np.bool_:
            return array, self.mpi.CXX_BOOL, getattr(self.mpi, _OF_BOOLS[op])
        operation = getattr(self.mpi, _NAMES[op])
        if array.dtype.itemsize <= 2 and array.dtype.kind not in "iu":
            if op == "sum" and array.dtype == ml_dtypes.bfloat16:
                native = _bfloat16(self.mpi)
                if native is not None:
                    return array, native, operation
            array = array.astype(np.float32)
        return array, _type_of(self.mpi, array.dtype), operation


class _Row:
    """Arrays for or from each rank as one stretch of memory.

    Attributes:
        data: their bytes: in place where they lie one behind the other, else copied together.
        counts, offsets: bytes of each, and before each.
    """

    def __init__(self, arrays: Sequence[Array], filled: bool = False) -> None:
        self.arrays = arrays
        self.counts = [a.nbytes for a in arrays]
        self.offsets = [0]
        for count in self.counts[:-1]:
            self.offsets.append(self.offsets[-1] + count)
        self.data = self._in_place()
        self.packed = self.data is None
        if self.data is None:
            self.data = np.empty(sum(self.counts), np.uint8)
            if filled:
                for array, part in self._parts():
                    part[...] = _bytes(array)

    def _in_place(self) -> Any:
        """The bytes of arrays that lie one behind the other in one array's memory."""
        full = [a for a in self.arrays if a.nbytes]
        if not full:
            return np.empty(0, np.uint8)
        if len(full) == 1:
            return _bytes(full[0])
        base = full[0].base
        if not isinstance(base, np.ndarray) or not base.flags.c_contiguous:
            return None
        first = at = _address(full[0])
        for a in full:
            if a.base is not base or _address(a) != at or not a.flags.c_contiguous:
                return None
            at += a.nbytes
        begin = first - _address(base)
        return _bytes(base)[begin : begin + at - first]

    def _parts(self) -> Sequence[tuple[Array, Array]]:
        return [
            (array, self.data[offset : offset + count])
            for array, offset, count in zip(self.arrays, self.offsets, self.counts)
        ]

    def unpacked(self, work: Work) -> Work:
        """The work that also brings the bytes to the arrays they are for."""
        return Then((work,), self._unpack) if self.packed else work

    def _unpack(self) -> None:
        for array, part in self._parts():
            _bytes(array)[...] = part


def _bytes(array: Array) -> Array:
    """A contiguous array's memory as bytes."""
    return array.reshape(-1).view(np.uint8)


def _address(array: Array) -> int:
    return int(array.__array_interface__["data"][0])


def _stored(work: Work, found: Array, target: Array) -> Work:
    """The work that also converts what was found to the target's type."""
    if found is target:
        return work

    def store() -> None:
        target[...] = found.reshape(target.shape)

    return Then((work,), store)


def _type_of(mpi: Any, dtype: Any) -> Any:
    found = mpi._typedict.get(np.dtype(dtype).char)
    if found is None:
        raise DistError(f"MPI cannot reduce numbers of type {dtype}")
    return found


_bfloat16_types: list[Any] = []


def _bfloat16(mpi: Any) -> Any:
    """MPICH's type for bfloat16, or None: other implementations and versions have none."""
    if not _bfloat16_types:
        found = None
        if mpi.get_vendor()[0] == "MPICH" and mpi.get_vendor()[1][0] >= 5:
            with contextlib.suppress(mpi.Exception):
                datatype = mpi.Datatype.fromhandle(_MPICH_BFLOAT16)
                if datatype.Get_name() == "MPIX_BFLOAT16" and datatype.Get_size() == 2:
                    found = datatype
        _bfloat16_types.append(found)
    return _bfloat16_types[0]


def world(timeout: float = 1800.0) -> MPI:
    """The communicator of all ranks; from then on an exception that ends this rank ends them all.

    Args:
        timeout: seconds that a collective may take.

    Raises:
        ImportError: mpi4py or an MPI library is not installed.
        DistError: this process was not started by MPI, but told that it is one of several.
    """
    from mpi4py import MPI as mpi

    wanted = os.environ.get("WORLD_SIZE", "")
    if mpi.COMM_WORLD.Get_size() == 1 and wanted.isdigit() and int(wanted) > 1:
        raise DistError(
            f"WORLD_SIZE is {wanted}, but this process was not started by MPI; start the program "
            f"with `flambeau launch -n {wanted}` or mpiexec"
        )
    _farewells()
    _end_together()
    return MPI(mpi.COMM_WORLD.Dup(), timeout)


@functools.cache
def _farewells() -> _Farewells:
    from mpi4py import MPI as mpi

    return _Farewells(mpi.COMM_WORLD)


@functools.cache
def _end_together() -> None:
    """Show the exception that ends this rank as before, then end the others, who wait for it."""
    from mpi4py import MPI as mpi

    communicator = mpi.COMM_WORLD
    shown = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        shown(kind, error, trace)
        if communicator.Get_size() > 1:
            _abort(communicator, f"{kind.__name__}, shown above")

    sys.excepthook = hook


def _abort(communicator: Any, reason: str) -> None:
    rank = communicator.Get_rank()
    print(f"flambeau: rank {rank} ends the job: {reason}", file=sys.stderr, flush=True)
    segments.unlink_own()
    communicator.Abort(1)
