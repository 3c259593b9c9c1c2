"""The NCCL transport over a fake of nccl4py's documented interface: ranks are threads, the memory
is NumPy's. What it is called with is checked as the library does; no GPU is asked."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import flambeau.distributed as dist
from flambeau.distributed import groups
from flambeau.distributed.transport.base import REDUCTIONS, Call, DistError, DistTimeoutError
from flambeau.distributed.transport.nccl import NCCL

pytestmark = pytest.mark.timeout(60)

#: What ncclDataType_t has.
KNOWN = {
    *("int8", "uint8", "int32", "uint32", "int64", "uint64"),
    *("float16", "float32", "float64", "bfloat16", "float8_e4m3fn", "float8_e5m2"),
}


class RedOp(IntEnum):
    """nccl4py's NcclRedOp."""

    SUM, PROD, MAX, MIN, AVG = range(5)


class Stream:
    """A stream of cuda.core that runs what it is given at once."""

    late = False  # whether events never happen

    def record(self) -> Any:
        return types.SimpleNamespace(is_done=not self.late)

    def sync(self) -> None:
        """There is nothing to wait for."""


class UniqueId:
    """nccl4py's UniqueId."""

    def __init__(self, data: bytes) -> None:
        self.as_bytes = data

    @staticmethod
    def from_bytes(data: bytes) -> UniqueId:
        assert len(data) == 128
        return UniqueId(data)


class Communicator:
    """nccl4py's Communicator. Calls of a group run at its end, sends before the rest."""

    grouped: list[Any] | None = None

    def __init__(self, side: Any) -> None:
        self.side = side  # moves what the GPUs would
        self.error = 0
        self.ended = ""

    @classmethod
    def init(cls, nranks: int, rank: int, unique_id: UniqueId) -> Communicator:
        world = groups._world.given
        assert world is not None
        assert (world.size, world.rank) == (nranks, rank)
        assert set(world.exchange(unique_id.as_bytes)) == {unique_id.as_bytes}
        return cls(world.split(range(nranks)))

    def split(self, color: int | None = None, key: int = 0) -> Communicator:
        given = [eval(t) for t in self.side.exchange(repr((color, key)).encode())]
        chosen = sorted((k, r) for r, (c, k) in enumerate(given) if c is not None)
        return Communicator(self.side.split([r for _, r in chosen]))

    def _run(self, call: Call, *buffers: Any, stream: Any) -> None:
        assert isinstance(stream, Stream)
        for b in buffers:
            assert b.flags.c_contiguous
            assert b.dtype.name in KNOWN
            assert b.dtype == buffers[0].dtype
            assert b.size
        if Communicator.grouped is None:
            self.side.issue(call).wait()
        else:
            Communicator.grouped.append((self.side, call))

    def allreduce(self, send: Any, recv: Any, op: RedOp, *, stream: Any) -> None:
        assert recv.size >= send.size
        self._run(Call("all_reduce", (send,), (recv,), _word(op)), send, recv, stream=stream)

    def reduce(self, send: Any, recv: Any, op: RedOp, root: int, *, stream: Any) -> None:
        targets = (recv,) if self.side.rank == root else ()
        self._run(Call("reduce", (send,), targets, _word(op), root), send, *targets, stream=stream)

    def broadcast(self, send: Any, recv: Any, root: int, *, stream: Any) -> None:
        own = self.side.rank == root
        call = Call("broadcast", (send,) if own else (), () if own else (recv,), root=root)
        self._run(call, send, recv, stream=stream)

    def send(self, buffer: Any, peer: int, *, stream: Any) -> None:
        self._run(Call("send", (buffer,), (), peer=peer), buffer, stream=stream)

    def recv(self, buffer: Any, peer: int, *, stream: Any) -> None:
        self._run(Call("recv", (), (buffer,), peer=peer), buffer, stream=stream)

    def get_async_error(self) -> int:
        return self.error

    def abort(self) -> None:
        self.ended = "aborted"

    def destroy(self) -> None:
        self.ended = "destroyed"


def _word(op: RedOp) -> str:
    return {"PROD": "product"}.get(op.name, op.name.lower())


@contextmanager
def group() -> Iterator[None]:
    """nccl4py's group."""
    assert Communicator.grouped is None
    Communicator.grouped = []
    yield
    calls, Communicator.grouped = Communicator.grouped, None
    for side, call in sorted(calls, key=lambda pair: pair[1].name != "send"):
        side.issue(call).wait()


@pytest.fixture(autouse=True)
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    """nccl4py, as far as the transport uses it."""
    core: Any = types.ModuleType("nccl.core")
    core.Communicator, core.NcclRedOp, core.group, core.UniqueId = (
        *(Communicator, RedOp, group, UniqueId),
    )
    core.get_unique_id = lambda: UniqueId(bytes(range(128)))
    core.get_error_string = lambda code: f"error {code}"
    package: Any = types.ModuleType("nccl")
    package.core = core
    monkeypatch.setitem(sys.modules, "nccl", package)
    monkeypatch.setitem(sys.modules, "nccl.core", core)


def ranks(count: int, program: Any) -> list[Any]:
    """A program on ranks with the transport."""

    def run(rank: int) -> Any:
        assert groups._world.given is not None
        return program(NCCL(groups._world.given, Stream()))

    return dist.spawn_local(count, run)


def values(rank: int, count: int, dtype: Any) -> Any:
    """What a rank has: small whole numbers, exact in every type."""
    found = np.random.default_rng([rank, count]).integers(0, 2 if dtype == np.bool_ else 4, count)
    return found.astype(dtype)


TYPES = ("float32", "float64", "float16", ml_dtypes.bfloat16, "int32", "uint8", "bool", "complex64")


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("count", [2, 3])
def test_reductions_are_numpys(count: int, dtype: Any) -> None:
    kind = np.dtype(dtype)
    words = {"bool": ["sum", "product", "min", "max", "band", "bor"], "complex64": ["sum"]}

    def program(t: NCCL) -> None:
        sizes = [(r + 1) % 3 for r in range(count)]
        for op in words.get(kind.name, ["sum", "product", "min", "max"]):
            parts = [values(r, sum(sizes), kind) for r in range(count)]
            function = REDUCTIONS[op]
            if kind == np.bool_:
                function = {"sum": np.logical_or, "product": np.logical_and}.get(op, function)
            wanted = parts[0]
            for part in parts[1:]:
                wanted = function(wanted, part)
            own, target = parts[t.rank], np.empty_like(wanted)
            t.all_reduce(own.copy(), target, op).wait()
            assert target.tobytes() == wanted.tobytes()
            target = np.empty_like(wanted)
            t.reduce(own.copy(), target, op, root=count - 1).wait()
            assert t.rank < count - 1 or target.tobytes() == wanted.tobytes()
            ends = np.cumsum(sizes)[:-1]
            target = np.empty(sizes[t.rank], kind)
            t.reduce_scatter(np.split(own, ends), target, op).wait()
            assert target.tobytes() == np.split(wanted, ends)[t.rank].tobytes()

    ranks(count, program)


@pytest.mark.parametrize("dtype", ["float32", "bool", ml_dtypes.bfloat16, "int16"])
@pytest.mark.parametrize("count", [2, 3])
def test_what_moves_arrives(count: int, dtype: Any) -> None:
    def program(t: NCCL) -> None:
        sizes = [2 * r for r in range(count)]
        everyones = [values(r, n, dtype) for r, n in enumerate(sizes)]
        found = [np.empty_like(x) for x in everyones]
        t.all_gather(everyones[t.rank], found).wait()
        assert b"".join(x.tobytes() for x in found) == np.concatenate(everyones).tobytes()
        found = [np.empty_like(x) for x in everyones] if t.rank == 0 else []
        t.gather(everyones[t.rank], found, 0).wait()
        assert t.rank or [x.tobytes() for x in found] == [x.tobytes() for x in everyones]
        target = np.empty_like(everyones[t.rank])
        t.scatter(everyones if t.rank == 1 else [], target, 1).wait()
        assert target.tobytes() == everyones[t.rank].tobytes()
        sent = [values(10 * t.rank + r, t.rank + r, dtype) for r in range(count)]
        found = [np.empty(t.rank + r, sent[0].dtype) for r in range(count)]
        t.all_to_all(sent, found).wait()
        for r, x in enumerate(found):
            assert x.tobytes() == values(10 * r + t.rank, t.rank + r, dtype).tobytes()
        array = values(t.rank, 5, dtype)
        t.broadcast(array, count - 1).wait()
        assert array.tobytes() == values(count - 1, 5, dtype).tobytes()
        sending = t.send(values(t.rank, 3, dtype), (t.rank + 1) % count)
        got = values(99, 3, dtype)
        t.recv(got, (t.rank - 1) % count).wait()
        sending.wait()
        assert got.tobytes() == values((t.rank - 1) % count, 3, dtype).tobytes()

    ranks(count, program)


def test_what_is_said_on_the_host_and_parts_of_the_ranks() -> None:
    def program(t: NCCL) -> Any:
        t.barrier().wait()
        assert t.exchange(b"%d" % t.rank) == [b"0", b"1", b"2"]
        part = t.split([2, 0])
        if part is None:
            return None
        x = np.full(2, t.rank, np.float32)
        part.all_reduce(x, x).wait()
        place = part.rank
        part.close()
        assert part.communicator.ended == "destroyed"
        return place, x.tolist()

    assert ranks(3, program) == [(1, [2.0, 2.0]), None, (0, [2.0, 2.0])]


def test_what_nccl_does_not_have_is_refused() -> None:
    def program(t: NCCL) -> None:
        x, c = np.ones(2, np.int32), np.ones(2, np.complex64)
        for array, op in ((x, "band"), (x, "bxor"), (c, "product"), (c > 0, "bxor")):
            with pytest.raises(DistError, match=f"NCCL has no reduction '{op}' of"):
                t.all_reduce(array, array, op)
        with pytest.raises(DistError, match="no messages from any rank"):
            t.recv(x, -1)
        with pytest.raises(DistError, match="NCCL has no tags"):
            t.send(x, 0, tag=3)

    ranks(2, program)


def test_errors_and_late_ranks_are_told() -> None:
    def program(t: NCCL) -> None:
        x = np.ones(2, np.float32)
        t.stream.late = True
        with pytest.raises(DistTimeoutError, match=r"all_reduce sum float32\[2\] \(call 0\)"):
            t.all_reduce(x, x).wait(0.01)
        t.communicator.error = 6
        with pytest.raises(DistError, match="failed: error 6"):
            t.all_reduce(x, x).wait()

    ranks(2, program)


def test_ranks_that_call_different_things_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLAMBEAU_COLLECTIVES", "check")

    def program(t: NCCL) -> None:
        x = np.ones(2 + t.rank, np.float32)
        with pytest.raises(DistError, match=r"rank 1: all_reduce sum float32\[3\]"):
            t.all_reduce(x, x)

    ranks(2, program)


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nccl.core", None)
    with pytest.raises(ImportError, match=r"pip install 'flambeau\[nccl\]'"):
        ranks(2, lambda t: None)
