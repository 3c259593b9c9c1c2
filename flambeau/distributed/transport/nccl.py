"""Ranks that each have a GPU of NVIDIA's: NCCL, by way of nccl4py.

Arrays are in the host's memory, as every transport's are. A call gives its sources memory on the
GPU, NCCL moves and reduces them there, and what it wrote is copied back by the `wait`. Copies have
a stream of their own, so that nothing on the host waits behind another rank.

Note [Streams of NCCL]
A stream runs what is put on it in order, and a call of NCCL's ends when its other ranks came. Two
messages that cross each other would so wait for each other for ever, each behind the one that its
own rank sends. Messages (`send`, `recv`) therefore have a communicator and a stream of their own,
and are kept until somebody waits or calls something else; then they start together, as one group.

NCCL knows arrays alone: what ranks say to each other on the host (how a communicator begins, byte
strings, barriers, messages with tags) goes by another transport, the `control`. Reductions that
NCCL does not have, of bits and of some types, are done on the host.

References:
    https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/nccl4py.html
    https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/usage/collectives.html
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
#: What NCCL computes with, beside bools and sums of complex numbers.
_NUMBERS = {
    *("int8", "uint8", "int32", "uint32", "int64", "uint64"),
    *("float16", "bfloat16", "float32", "float64"),
}
_IN_PROGRESS = 7  # ncclInProgress; 0 is ncclSuccess
_EAGER_SECONDS = 0.02  # that a wait polls without pause
_PAUSE_SECONDS = 1e-4  # between polls after that


def _libraries() -> tuple[Any, Any]:
    """The modules nccl.core and cuda.core.

    Raises:
        RuntimeError: they are not installed, or find no NCCL or driver.
    """
    try:
        import cuda.core as cuda
        import nccl.core as core
    except (ImportError, RuntimeError) as error:
        raise RuntimeError(
            "Distributed package doesn't have NCCL built in: it needs nccl4py with NCCL and the "
            "driver of NVIDIA's GPUs: pip install 'flambeau[nccl]' (for an older driver "
            f"'nccl4py[cu12]'), or init_process_group('gloo'). {error}"
        ) from error
    return core, cuda


def over(control: Transport, device: int | None = None) -> NCCL:
    """The ranks of a transport, reaching each other by NCCL; all of them call it.

    Args:
        control: how they reach each other on the host.
        device: the number of this rank's GPU; None takes the LOCAL_RANK-th, or that of its rank.

    Raises:
        RuntimeError: nccl4py is not installed, or there is no GPU.
    """
    _, cuda = _libraries()
    try:
        count = len(cuda.Device.get_all_devices())
    except RuntimeError as error:  # no driver
        raise RuntimeError(
            f"ProcessGroupNCCL is only supported with GPUs, no GPUs found! {error}"
        ) from error
    if not count:
        raise RuntimeError("ProcessGroupNCCL is only supported with GPUs, no GPUs found!")
    if device is None:
        device = int(os.environ.get("LOCAL_RANK", control.rank)) % count
    return NCCL(control, Gpu(cuda, device))


class Gpu:
    """A GPU, and a stream for copies to and from its memory.

    Args:
        cuda: the module cuda.core.
        number: of the device.
    """

    def __init__(self, cuda: Any, number: int) -> None:
        self.cuda = cuda
        self.device = cuda.Device(number)
        self.device.set_current()
        self.copies = self.device.create_stream()


class _Block:
    """Memory on the GPU for arrays of one type, one after the other."""

    def __init__(self, gpu: Gpu, arrays: Sequence[Array]) -> None:
        self.gpu = gpu
        self.arrays = arrays
        self.ends = list(itertools.accumulate((a.nbytes for a in arrays), initial=0))
        self.memory = (
            gpu.device.allocate(self.ends[-1], stream=gpu.copies) if self.ends[-1] else None
        )

    def _range(self, first: int, last: int) -> Any:
        """The memory of some of the arrays, as a buffer."""
        begin, end = self.ends[first], self.ends[last]
        assert self.memory is not None
        start = int(self.memory.handle) + begin
        return self.gpu.cuda.Buffer.from_handle(start, end - begin, owner=self.memory)

    def view(self, dtype: Any, first: int = 0, last: int | None = None) -> Any:
        """The memory of some of the arrays, as nccl4py takes it.

        Args:
            dtype: of the elements.
            first, last: of the arrays from which on, and before which; None takes all.
        """
        part = self._range(first, len(self.arrays) if last is None else last)
        count = part.size // np.dtype(dtype).itemsize
        return self.gpu.cuda.utils.StridedMemoryView.from_buffer(part, (count,), dtype=dtype)

    def copy(self, inwards: bool) -> None:
        """Copy the arrays' values here, or back, and wait for that."""
        for k, array in enumerate(self.arrays):
            if not array.nbytes:
                continue
            given = self.gpu.cuda.Buffer.from_handle(array.ctypes.data, array.nbytes, owner=array)
            part = self._range(k, k + 1)
            source, target = (given, part) if inwards else (part, given)
            source.copy_to(target, stream=self.gpu.copies)
        self.gpu.copies.sync()


@dataclass
class _Lane:
    """A communicator of nccl4py's and the stream on which its calls run."""

    communicator: Any
    stream: Any


class _Queued(Work):
    """A call on arrays that are in the GPU's memory.

    Attributes:
        event: on the stream after the call; None as long as it is kept (Note [Streams of NCCL]).
    """

    def __init__(self, transport: NCCL, call: Call) -> None:
        self.transport = transport
        self.call = call
        self.sources = _Block(transport.gpu, call.sources)
        self.targets = _Block(transport.gpu, call.targets)
        self.sources.copy(inwards=True)
        self.event: Any = None
        self.over = False

    def done(self) -> bool:
        """Whether the stream has come to its end."""
        self.transport.launch()
        self.transport.check(self.call)
        return self.event is not None and bool(self.event.is_done)

    def wait(self, timeout: float | None = None) -> None:
        """Poll the event, since waiting in the driver could not time out; then copy back."""
        if self.over:
            return
        seconds = self.transport.timeout if timeout is None else timeout
        begin = time.monotonic()
        while not self.done():
            waited = time.monotonic() - begin
            if waited > seconds:
                raise DistTimeoutError(
                    f"{self.transport.describe(self.call)} did not end within {seconds:g} s; "
                    "another rank did not come, or called something else"
                )
            time.sleep(0.0 if waited < _EAGER_SECONDS else _PAUSE_SECONDS)
        self.over = True
        self.targets.copy(inwards=False)

    def abandon(self, memory: Any, seconds: float) -> None:
        """Keep the GPU's memory too, as long as NCCL may use it."""
        super().abandon(memory, seconds)
        if not self.over:
            self.transport.abandoned.append(self)


class NCCL(Transport):
    """Communicators of NCCL's, for collectives and for messages.

    Args:
        control: the same ranks, for what they say to each other on the host.
        gpu: this rank's.
        communicators: nccl4py's two; None makes them, which all ranks do together.

    Raises:
        RuntimeError: nccl4py is not installed.
    """

    name = "nccl"

    def __init__(
        self, control: Transport, gpu: Gpu, communicators: Sequence[Any] | None = None
    ) -> None:
        super().__init__(control.rank, control.size, control.timeout)
        self.core, _ = _libraries()
        self.control = control
        self.gpu = gpu
        if communicators is None:
            own = bytes(self.core.get_unique_id()) if self.rank == 0 else b""
            told = self.core.UniqueId.from_bytes(control.exchange(own)[0])
            first = self.core.Communicator.init(self.size, self.rank, told)
            communicators = (first, first.split(0, self.rank))
        self.collective, self.messages = (
            _Lane(communicator, gpu.device.create_stream()) for communicator in communicators
        )
        self.aborted: str | None = None
        self.abandoned: list[_Queued] = []
        self._kept: list[_Queued] = []
        self._thread = threading.get_ident()

    def describe(self, call: Call) -> str:
        """A call as messages show it."""
        return f"rank {self.rank} of {self.size}: {call.signature()} (call {call.sequence})"

    def check(self, call: Call) -> None:
        """Raise what went wrong in NCCL's own threads since, or why it was aborted."""
        if self.aborted is not None:
            raise DistError(f"{self.describe(call)} failed: {self.aborted}")
        for lane in (self.collective, self.messages):
            found = int(lane.communicator.get_async_error())
            if found not in (0, _IN_PROGRESS):
                told = self.core.get_error_string(found)
                raise DistError(f"{self.describe(call)} failed: {told}")

    def split(self, ranks: Sequence[int]) -> NCCL | None:
        """The communicator of some ranks, in this order."""
        self._drain()
        control = self.control.split(ranks)
        mine = self.rank in ranks
        color, key = (0, list(ranks).index(self.rank)) if mine else (None, 0)
        made = [lane.communicator.split(color, key) for lane in (self.collective, self.messages)]
        return None if control is None else NCCL(control, self.gpu, made)

    def _drain(self) -> None:
        """Wait until nothing is under way: NCCL divides a communicator only then."""
        for lane in (self.collective, self.messages):
            last = _Queued(self, Call("split"))
            self.launch()
            last.event = lane.stream.record()
            last.wait()

    def abort(self, reason: str) -> None:
        """End what waits on this rank's GPU, and every rank."""
        if self.aborted is None:
            self.aborted = reason
            for lane in (self.messages, self.collective):
                with contextlib.suppress(Exception):  # it may be what failed
                    lane.communicator.abort()
        self.control.abort(reason)

    def close(self) -> None:
        """Give NCCL's communicators back, when what is under way has ended."""
        if self.aborted is None:
            self._drain()
            self.aborted = "the group was destroyed"
            for lane in (self.messages, self.collective):
                lane.communicator.finalize()
                lane.communicator.destroy()
        self.control.close()

    # -- calls ------------------------------------------------------------------------------------

    def issue(self, call: Call) -> Work:
        """Put a call on its stream, by way of others where NCCL has none like it."""
        self.check(call)
        if call.name in ("send", "recv"):
            return self._message(call)
        self.launch()
        if call.name == "barrier":
            return self.control.issue(call)
        native: Callable[[Call, _Block, _Block], None] | None
        native = getattr(self, f"_native_{call.name}", None)
        if native is None or (call.op and self._operation(call) is None):
            return super().issue(call)
        if not any(a.size for a in (*call.sources, *call.targets)):
            return Done()
        work = _Queued(self, call)
        with self._telling(call):
            native(call, work.sources, work.targets)
            work.event = self.collective.stream.record()
        return work

    @contextlib.contextmanager
    def _telling(self, call: Call) -> Any:
        """Say which call it was where NCCL refuses it."""
        try:
            yield
        except Exception as error:
            raise DistError(f"{self.describe(call)} failed: {error}") from error

    def _strings(self, data: bytes) -> list[bytes]:
        return self.control.exchange(data)

    def _message(self, call: Call) -> Work:
        """Keep a message; one with a tag goes by the host, where there are tags.

        Raises:
            DistError: it would come from any rank.
        """
        if call.peer < 0:
            raise DistError(f"{self.describe(call)}: NCCL has no messages from any rank; name it")
        if call.tag:
            return self.control.issue(call)
        array = (call.sources or call.targets)[0]
        if not array.size:
            return Done()
        self._kept.append(_Queued(self, call))
        return self._kept[-1]

    def launch(self) -> None:
        """Start the messages that are kept, together (on the thread that calls, not those that
        look whether calls have ended)."""
        if not self._kept or threading.get_ident() != self._thread:
            return
        works, self._kept = self._kept, []
        communicator, stream = self.messages.communicator, self.messages.stream
        with self._telling(works[0].call):
            with self.core.group():
                for work in works:
                    if work.call.name == "send":
                        memory = work.sources.view(np.uint8)
                        communicator.send(memory, work.call.peer, stream=stream)
                    else:
                        memory = work.targets.view(np.uint8)
                        communicator.recv(memory, work.call.peer, stream=stream)
            event = stream.record()
        for work in works:
            work.event = event

    def _operation(self, call: Call) -> tuple[Any, Any] | None:
        """As what type NCCL reduces the call's arrays, and how; None where it cannot."""
        dtype = call.sources[0].dtype
        if dtype.kind == "b":
            name, taken = _OF_BOOLS.get(call.op), np.dtype(np.uint8)
        elif dtype.kind == "c" and call.op == "sum":  # a sum of parts
            name, taken = "SUM", np.dtype(f"f{dtype.itemsize // 2}")
        else:
            name, taken = _NAMES.get(call.op), dtype
        if name is None or taken.name not in _NUMBERS:
            return None
        return taken, getattr(self.core.NcclRedOp, name)

    def _how(self, call: Call) -> tuple[Any, Any]:
        found = self._operation(call)
        assert found is not None
        return found

    def _native_all_reduce(self, call: Call, sources: _Block, targets: _Block) -> None:
        dtype, op = self._how(call)
        self.collective.communicator.allreduce(
            sources.view(dtype), targets.view(dtype), op, stream=self.collective.stream
        )

    def _native_reduce(self, call: Call, sources: _Block, targets: _Block) -> None:
        dtype, op = self._how(call)
        target = targets.view(dtype) if call.targets else None
        self.collective.communicator.reduce(
            sources.view(dtype), target, op, call.root, stream=self.collective.stream
        )

    def _native_reduce_scatter(self, call: Call, sources: _Block, targets: _Block) -> None:
        """Uneven parts are reduced one by one, each to its rank."""
        (dtype, op), stream = self._how(call), self.collective.stream
        communicator = self.collective.communicator
        if len({part.size for part in call.sources}) == 1:
            communicator.reduce_scatter(sources.view(dtype), targets.view(dtype), op, stream=stream)
            return
        with self.core.group():
            for rank, part in enumerate(call.sources):
                if part.size:
                    target = targets.view(dtype) if rank == self.rank else None
                    given = sources.view(dtype, rank, rank + 1)
                    communicator.reduce(given, target, op, rank, stream=stream)

    def _native_all_gather(self, call: Call, sources: _Block, targets: _Block) -> None:
        """Uneven parts are broadcast one by one, each by its rank."""
        communicator, stream = self.collective.communicator, self.collective.stream
        if len({part.size for part in call.targets}) == 1:
            communicator.allgather(sources.view(np.uint8), targets.view(np.uint8), stream=stream)
            return
        with self.core.group():
            for rank, part in enumerate(call.targets):
                if part.size:
                    given = sources.view(np.uint8) if rank == self.rank else None
                    taken = targets.view(np.uint8, rank, rank + 1)
                    communicator.broadcast(given, taken, rank, stream=stream)

    def _native_broadcast(self, call: Call, sources: _Block, targets: _Block) -> None:
        memory = (sources if call.sources else targets).view(np.uint8)
        self.collective.communicator.broadcast(
            memory, memory, call.root, stream=self.collective.stream
        )

    def _native_all_to_all(self, call: Call, sources: _Block, targets: _Block) -> None:
        """Messages between all ranks, started together; NCCL has those of a rank to itself too."""
        communicator, stream = self.collective.communicator, self.collective.stream
        with self.core.group():
            for rank, (source, target) in enumerate(zip(call.sources, call.targets, strict=True)):
                if source.size:
                    given = sources.view(np.uint8, rank, rank + 1)
                    communicator.send(given, rank, stream=stream)
                if target.size:
                    taken = targets.view(np.uint8, rank, rank + 1)
                    communicator.recv(taken, rank, stream=stream)


__all__ = ["NCCL", "Gpu", "over"]
