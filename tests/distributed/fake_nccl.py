"""nccl4py's and cuda.core's documented calls, as far as the NCCL transport uses them, over memory
of the host and ranks that are threads.

It is as strict as the libraries are: memory of a GPU and of the host are different, types and
sizes are checked as `nccl.core.Communicator` does, calls run in the order of their stream, and a
message waits for its receiver. What a stream cannot run yet it leaves, as a GPU does.
"""

from __future__ import annotations

import ctypes
import types
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Any

import numpy as np

from flambeau.distributed import groups
from flambeau.distributed.transport.base import Call, Then, Work

#: What ncclDataType_t has.
KNOWN = {
    *("int8", "uint8", "int32", "uint32", "int64", "uint64"),
    *("float16", "float32", "float64", "bfloat16", "float8_e4m3fn", "float8_e5m2"),
}


class NcclInvalid(Exception):
    """What nccl4py refuses before it calls NCCL."""


class RedOp(IntEnum):
    """nccl4py's NcclRedOp."""

    SUM, PROD, MAX, MIN, AVG = range(5)


# -- cuda.core ------------------------------------------------------------------------------------


class Stream:
    """A stream: operations start in order, each when the one before it has ended."""

    late = False  # whether its events never happen

    def __init__(self) -> None:
        self.operations: list[Callable[[], list[Work]]] = []
        self.works: list[Work] | None = None  # of the first one that has not ended
        self.ended = 0

    def put(self, start: Callable[[], list[Work]]) -> None:
        """Add an operation."""
        self.operations.append(start)
        self.advance(0)

    def advance(self, until: int) -> None:
        """Run what can run; wait for the first `until` operations."""
        while self.ended < len(self.operations):
            if self.works is None:
                self.works = self.operations[self.ended]()
            if self.ended >= until and not all(work.done() for work in self.works):
                return
            for work in self.works:
                work.wait()
            self.works = None
            self.ended += 1

    def record(self) -> Event:
        """An event after what was put here."""
        return Event(self, len(self.operations))

    def sync(self) -> None:
        """Wait for all of it."""
        self.advance(len(self.operations))


class Event:
    """cuda.core's Event."""

    def __init__(self, stream: Stream, place: int) -> None:
        self.stream = stream
        self.place = place

    @property
    def is_done(self) -> bool:
        """Whether it has happened; other ranks run meanwhile."""
        if self.stream.late:
            return False
        self.stream.advance(self.place)
        return True


class Buffer:
    """cuda.core's Buffer."""

    on_gpus: dict[int, int] = {}  # address -> bytes, of what was allocated

    def __init__(self, handle: int, size: int, owner: Any) -> None:
        self.handle, self.size, self.owner = handle, size, owner

    @staticmethod
    def from_handle(ptr: int, size: int, mr: Any = None, owner: Any = None) -> Buffer:
        """A part of the memory that an object has."""
        return Buffer(ptr, size, owner)

    def array(self) -> Any:
        """The bytes."""
        return np.ctypeslib.as_array((ctypes.c_uint8 * self.size).from_address(self.handle))

    def copy_to(self, dst: Buffer, *, stream: Stream) -> None:
        """Between the host and the GPU."""
        assert isinstance(stream, Stream)
        assert self.size == dst.size
        assert self.on_gpu() != dst.on_gpu()
        dst.array()[...] = self.array()

    def on_gpu(self) -> bool:
        """Whether it lies in memory of a GPU."""
        return any(
            start <= self.handle and self.handle + self.size <= start + size
            for start, size in Buffer.on_gpus.items()
        )


class Device:
    """cuda.core's Device."""

    count = 8

    def __init__(self, number: int) -> None:
        assert 0 <= number < self.count
        self.current = False

    @staticmethod
    def get_all_devices() -> tuple[Device, ...]:
        """All there are."""
        return tuple(Device(k) for k in range(Device.count))

    def set_current(self) -> None:
        """Initialize it."""
        self.current = True

    def create_stream(self) -> Stream:
        """A new one."""
        assert self.current
        return Stream()

    def allocate(self, size: int, *, stream: Stream) -> Buffer:
        """Memory with other bytes than 0."""
        assert self.current
        assert size > 0
        array = np.full(size, 0xA5, np.uint8)
        Buffer.on_gpus[array.ctypes.data] = size
        weakref.finalize(array, Buffer.on_gpus.pop, array.ctypes.data, None)
        return Buffer(array.ctypes.data, size, array)


class View:
    """cuda.core's StridedMemoryView of a buffer."""

    def __init__(self, buffer: Buffer, array: Any) -> None:
        self.buffer, self.array = buffer, array

    @classmethod
    def from_buffer(cls, buffer: Buffer, shape: tuple[int, ...], *, dtype: Any) -> View:
        """Its bytes as a type."""
        assert buffer.on_gpu()
        array = buffer.array().view(dtype)
        assert array.shape == shape
        return cls(buffer, array)


# -- nccl.core ------------------------------------------------------------------------------------


class UniqueId:
    """nccl4py's UniqueId."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __bytes__(self) -> bytes:
        return self.data

    @staticmethod
    def from_bytes(data: bytes) -> UniqueId:
        """Of 128 bytes."""
        assert len(data) == 128
        return UniqueId(data)


def _array(buffer: Any) -> Any:
    """What a call works on.

    Raises:
        NcclInvalid: it is no memory of a GPU, or has a type that NCCL does not know.
    """
    if not isinstance(buffer, View):
        raise NcclInvalid(f"not memory of a GPU: {buffer!r}")
    if buffer.array.dtype.name not in KNOWN:
        raise NcclInvalid(f"unsupported dtype {buffer.array.dtype}")
    return buffer.array


def _check(send: Any, recv: Any, least: int) -> None:
    if send.dtype != recv.dtype:
        raise NcclInvalid(f"Dtype mismatch: {send.dtype} and {recv.dtype}")
    if recv.size < least:
        raise NcclInvalid(f"Buffer count mismatch: {recv.size} of {least} elements")


def _word(op: RedOp) -> str:
    return {"PROD": "product"}.get(op.name, op.name.lower())


class Communicator:
    """nccl4py's Communicator.

    Args:
        side: moves what the GPUs would.
    """

    grouped: dict[Stream, list[Callable[[], Work]]] | None = None

    def __init__(self, side: Any) -> None:
        self.side = side
        self.error = 0
        self.ended: list[str] = []
        self.streams: set[Stream] = set()

    @classmethod
    def init(cls, nranks: int, rank: int, unique_id: UniqueId) -> Communicator:
        """All ranks with the same identifier."""
        world = groups._world.given
        assert world is not None
        assert (world.size, world.rank) == (nranks, rank)
        assert set(world.exchange(bytes(unique_id))) == {bytes(unique_id)}
        return cls(world.split(range(nranks)))

    @property
    def nranks(self) -> int:
        """How many there are."""
        return int(self.side.size)

    def split(self, color: int | None = None, key: int = 0) -> Communicator:
        """The ranks of one color, by their keys; nothing may be under way."""
        for stream in self.streams:
            assert stream.ended == len(stream.operations)
        given = [eval(t) for t in self.side.exchange(repr((color, key)).encode())]
        chosen = sorted((k, r) for r, (c, k) in enumerate(given) if c is not None)
        return Communicator(self.side.split([r for _, r in chosen]))

    def _run(self, stream: Any, start: Callable[[], Work]) -> None:
        assert isinstance(stream, Stream)
        assert not self.ended
        self.streams.add(stream)
        if Communicator.grouped is None:
            stream.put(lambda: [start()])
        else:
            Communicator.grouped.setdefault(stream, []).append(start)

    def _issue(self, stream: Any, *words: Any, **how: Any) -> None:
        self._run(stream, lambda: self.side.issue(Call(*words, **how)))

    def allreduce(self, sendbuf: Any, recvbuf: Any, op: RedOp, *, stream: Any) -> None:
        """ncclAllReduce."""
        send, recv = _array(sendbuf), _array(recvbuf)
        _check(send, recv, send.size)
        self._issue(stream, "all_reduce", (send,), (recv,), _word(op))

    def reduce(
        self, sendbuf: Any, recvbuf: Any, op: RedOp, root: int | None = None, *, stream: Any
    ) -> None:
        """ncclReduce."""
        send, targets = _array(sendbuf), ()
        if root == self.side.rank:
            targets = (_array(recvbuf),)
            _check(send, targets[0], send.size)
        self._issue(stream, "reduce", (send,), targets, _word(op), root)

    def allgather(self, sendbuf: Any, recvbuf: Any, *, stream: Any) -> None:
        """ncclAllGather."""
        send, recv = _array(sendbuf), _array(recvbuf)
        _check(send, recv, self.nranks * send.size)
        self._issue(stream, "all_gather", (send,), np.split(recv, self.nranks))

    def reduce_scatter(self, sendbuf: Any, recvbuf: Any, op: RedOp, *, stream: Any) -> None:
        """ncclReduceScatter."""
        send, recv = _array(sendbuf), _array(recvbuf)
        assert send.size >= self.nranks
        _check(send, recv, send.size // self.nranks)
        parts = np.split(send, self.nranks)
        self._issue(stream, "reduce_scatter", parts, (recv,), _word(op))

    def broadcast(self, sendbuf: Any, recvbuf: Any, root: int, *, stream: Any) -> None:
        """ncclBroadcast."""
        recv = _array(recvbuf)
        if root != self.side.rank:
            self._issue(stream, "broadcast", (), (recv,), root=root)
            return
        send = _array(sendbuf)
        _check(send, recv, send.size)

        def start() -> Work:
            recv[...] = send
            work: Work = self.side.issue(Call("broadcast", (send,), (), root=root))
            return work

        self._run(stream, start)

    def send(self, sendbuf: Any, peer: int, *, stream: Any) -> None:
        """ncclSend, which ends when it was received."""
        send, answer = _array(sendbuf), np.empty(1, np.uint8)

        def start() -> Work:
            self.side.issue(Call("send", (send,), (), peer=peer))
            work: Work = self.side.issue(Call("recv", (), (answer,), peer=peer, tag=1))
            return work

        self._run(stream, start)

    def recv(self, recvbuf: Any, peer: int, *, stream: Any) -> None:
        """ncclRecv."""
        recv, answer = _array(recvbuf), np.zeros(1, np.uint8)

        def start() -> Work:
            work = self.side.issue(Call("recv", (), (recv,), peer=peer))
            reply = Call("send", (answer,), (), peer=peer, tag=1)
            return Then((work,), lambda: self.side.issue(reply) and None)

        self._run(stream, start)

    def get_async_error(self) -> int:
        """Of NCCL's own threads."""
        assert not self.ended
        return self.error

    def abort(self) -> None:
        """End what is under way."""
        self.ended.append("aborted")

    def finalize(self) -> None:
        """Flush."""
        self.ended.append("finalized")

    def destroy(self) -> None:
        """Free."""
        self.ended.append("destroyed")


class _Together(Work):
    """The calls of a group, which start together."""

    def __init__(self, works: list[Work]) -> None:
        self.works = works

    def done(self) -> bool:
        """Whether all are: those that are may reply to others."""
        for work in [w for w in self.works if w.done()]:
            work.wait()
            self.works.remove(work)
        return not self.works

    def wait(self, timeout: float | None = None) -> None:
        """One after the other, first those that need not wait."""
        while not self.done():
            self.works[0].wait()


@contextmanager
def group() -> Iterator[None]:
    """nccl4py's group."""
    assert Communicator.grouped is None
    Communicator.grouped = {}
    try:
        yield
    finally:
        calls, Communicator.grouped = Communicator.grouped, None
    for stream, starts in calls.items():
        stream.put(lambda starts=starts: [_Together([start() for start in starts])])


def modules() -> dict[str, Any]:
    """The modules by name, as `sys.modules` has them."""
    core: Any = types.ModuleType("nccl.core")
    core.Communicator, core.NcclRedOp, core.group, core.UniqueId = (
        *(Communicator, RedOp, group, UniqueId),
    )
    core.get_unique_id = lambda: UniqueId(bytes(range(128)))
    core.get_error_string = lambda code: f"error {code}"
    cuda: Any = types.ModuleType("cuda.core")
    cuda.Device, cuda.Buffer = Device, Buffer
    cuda.utils = types.SimpleNamespace(StridedMemoryView=View)
    packages: dict[str, Any] = {name: types.ModuleType(name) for name in ("nccl", "cuda")}
    packages["nccl"].core, packages["cuda"].core = core, cuda
    return {**packages, "nccl.core": core, "cuda.core": cuda}
