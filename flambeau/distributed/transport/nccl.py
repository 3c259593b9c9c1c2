"""Ranks that each have a GPU of NVIDIA's: NCCL, by way of nccl4py, on the GPU's own memory.

Arrays are contiguous ones with NumPy's attributes over memory of a GPU, which nccl4py can take
(`__dlpack__` or `__cuda_array_interface__`), as CuPy's are. Calls are put on a stream and run in
its order; their works are events on it. NCCL knows arrays alone, so that what ranks say to each
other on the host (how a communicator begins, byte strings, barriers) goes by another transport.

NCCL has no messages from any rank, no tags and no bitwise reductions; these are refused.

Reference:
    https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/usage/collectives.html
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from flambeau.distributed.transport.base import (
    Array,
    Call,
    DistError,
    DistTimeoutError,
    Done,
    Transport,
    Work,
)

_NAMES = {"sum": "SUM", "product": "PROD", "min": "MIN", "max": "MAX"}
_OF_BOOLS = {
    "sum": "MAX",
    "max": "MAX",
    "bor": "MAX",
    "product": "MIN",
    "min": "MIN",
    "band": "MIN",
}
_PAUSE_SECONDS = 1e-4


def _library() -> Any:
    """nccl4py's module.

    Raises:
        ImportError: it is not installed, or finds no NCCL or driver.
    """
    try:
        import nccl.core as found
    except ImportError as error:
        raise ImportError(
            f"the transport 'nccl' needs a GPU of NVIDIA's with its driver, and nccl4py with NCCL: "
            f"pip install 'flambeau[nccl]' (for an older driver 'nccl4py[cu12]'). {error}"
        ) from error
    return found


class _Queued(Work):
    """A call that was put on a stream."""

    def __init__(self, transport: NCCL, call: Call) -> None:
        self.transport = transport
        self.call = call  # with the arrays, whose memory stays
        self.event = transport.stream.record()

    def done(self) -> bool:
        """Whether the stream has come to its end."""
        self.transport.check(self.call)
        return bool(self.event.is_done)

    def wait(self, timeout: float | None = None) -> None:
        """Poll the event: waiting in the driver could not time out."""
        seconds = self.transport.timeout if timeout is None else timeout
        begin = time.monotonic()
        while not self.done():
            if time.monotonic() - begin > seconds:
                raise DistTimeoutError(
                    f"{self.transport.describe(self.call)} did not end within {seconds:g} s; "
                    "another rank did not come, or called something else"
                )
            time.sleep(_PAUSE_SECONDS)


class NCCL(Transport):
    """A communicator of NCCL's.

    Args:
        control: the same ranks, for what they say to each other on the host.
        stream: of `cuda.core`, on which calls run.
        communicator: nccl4py's; None makes one, which all ranks do together.

    Raises:
        ImportError: nccl4py is not installed.
    """

    name = "nccl"

    def __init__(self, control: Transport, stream: Any, communicator: Any = None) -> None:
        super().__init__(control.rank, control.size, control.timeout)
        self.core = _library()
        self.control = control
        self.stream = stream
        if communicator is None:
            own = self.core.get_unique_id().as_bytes if self.rank == 0 else b""
            told = self.core.UniqueId.from_bytes(control.exchange(own)[0])
            communicator = self.core.Communicator.init(self.size, self.rank, told)
        self.communicator = communicator

    def describe(self, call: Call) -> str:
        """A call as messages show it."""
        return f"rank {self.rank} of {self.size}: {call.signature()} (call {call.sequence})"

    def check(self, call: Call) -> None:
        """Raise what went wrong in NCCL's own threads since."""
        found = self.communicator.get_async_error()
        if int(found) not in (0, 7):  # ncclSuccess, ncclInProgress
            told = self.core.get_error_string(found)
            raise DistError(f"{self.describe(call)} failed: {told}")

    def split(self, ranks: Sequence[int]) -> NCCL | None:
        """The communicator of some ranks, in this order."""
        control = self.control.split(ranks)
        mine = self.rank in ranks
        key = list(ranks).index(self.rank) if mine else 0
        made = self.communicator.split(0 if mine else None, key)
        return None if control is None else NCCL(control, self.stream, made)

    def abort(self, reason: str) -> None:
        """End what waits on this rank's GPU, and every rank."""
        self.communicator.abort()
        self.control.abort(reason)

    def close(self) -> None:
        """Give NCCL's communicator back."""
        self.communicator.destroy()
        self.control.close()

    # -- calls ------------------------------------------------------------------------------------

    def issue(self, call: Call) -> Work:
        """Put a call on the stream, by way of others where NCCL has none like it."""
        if call.name == "barrier":
            self.stream.sync()
            return self.control.barrier()
        native: Callable[[Call], None] | None = getattr(self, f"_native_{call.name}", None)
        if native is None:
            return super().issue(call)
        if not any(a.size for a in (*call.sources, *call.targets)):
            return Done()
        native(call)
        return _Queued(self, call)

    def _strings(self, data: bytes) -> list[bytes]:
        return self.control.exchange(data)

    def _native_all_reduce(self, call: Call) -> None:
        source, op = self._reducible(call.sources[0], call.op)
        target, _ = self._reducible(call.targets[0], call.op)
        self.communicator.allreduce(source, target, op, stream=self.stream)

    def _native_reduce(self, call: Call) -> None:
        source, op = self._reducible(call.sources[0], call.op)
        target = self._reducible(call.targets[0], call.op)[0] if call.targets else None
        self.communicator.reduce(source, target, op, root=call.root, stream=self.stream)

    def _native_reduce_scatter(self, call: Call) -> None:
        """A reduction to each rank of its part, whose sizes may differ."""
        target, _ = self._reducible(call.targets[0], call.op)
        with self.core.group():
            for rank, part in enumerate(call.sources):
                if part.size:
                    source, op = self._reducible(part, call.op)
                    found = target if rank == self.rank else None
                    self.communicator.reduce(source, found, op, root=rank, stream=self.stream)

    def _native_broadcast(self, call: Call) -> None:
        array = _movable((call.sources or call.targets)[0])
        self.communicator.broadcast(array, array, call.root, stream=self.stream)

    def _native_all_to_all(self, call: Call) -> None:
        """Messages between all ranks, started together; NCCL has those of a rank to itself too."""
        with self.core.group():
            for rank, (source, target) in enumerate(zip(call.sources, call.targets, strict=True)):
                if source.size:
                    self.communicator.send(_movable(source), rank, stream=self.stream)
                if target.size:
                    self.communicator.recv(_movable(target), rank, stream=self.stream)

    def _native_send(self, call: Call) -> None:
        self._plain(call)
        self.communicator.send(_movable(call.sources[0]), call.peer, stream=self.stream)

    def _native_recv(self, call: Call) -> None:
        self._plain(call)
        self.communicator.recv(_movable(call.targets[0]), call.peer, stream=self.stream)

    def _plain(self, call: Call) -> None:
        if call.peer < 0:
            raise DistError(f"{self.describe(call)}: NCCL has no messages from any rank; name it")
        if call.tag:
            raise DistError(f"{self.describe(call)}: NCCL has no tags")

    def _reducible(self, array: Array, op: str) -> tuple[Array, Any]:
        """The array as NCCL reduces it, and its operation."""
        kind = array.dtype.kind
        name = (_OF_BOOLS if kind == "b" else _NAMES).get(op)
        if name is None or (kind == "c" and op != "sum"):
            raise DistError(f"NCCL has no reduction {op!r} of {array.dtype.name}")
        if kind == "b":
            array = array.view(np.uint8)
        elif kind == "c":  # a sum of parts
            array = array.reshape(-1).view(np.dtype(f"f{array.dtype.itemsize // 2}"))
        return array, getattr(self.core.NcclRedOp, name)


def _movable(array: Array) -> Array:
    """The array as bytes: what moves need not have a type that NCCL knows."""
    return array.reshape(-1).view(np.uint8)
