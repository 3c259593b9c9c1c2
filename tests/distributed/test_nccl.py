"""The NCCL transport over a fake of nccl4py's and cuda.core's documented calls (`fake_nccl.py`):
ranks are threads, the GPUs' memory is NumPy's. Last, on GPUs where there are any."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import flambeau
import flambeau.distributed as dist
from flambeau.distributed import functional, groups
from flambeau.distributed.transport import nccl
from flambeau.distributed.transport.base import (
    REDUCTIONS,
    DistError,
    DistTimeoutError,
    reduce_arrays,
)
from flambeau.distributed.transport.nccl import NCCL
from tests.distributed import fake_nccl
from tests.distributed.mpi import mpiexec, needs_mpi

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    """nccl4py and cuda.core, as far as the transport uses them."""
    for name, module in fake_nccl.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(fake_nccl.Buffer, "on_gpus", {})


needs_fake = pytest.mark.usefixtures("fake")


def ranks(count: int, program: Any) -> list[Any]:
    """A program on ranks with the transport."""

    def run(rank: int) -> Any:
        dist.init_process_group("nccl")
        transport = groups.default_group().transport
        assert isinstance(transport, NCCL)
        return program(transport)

    return dist.spawn_local(count, run, init=False)


def values(rank: int, count: int, dtype: Any) -> Any:
    """What a rank has: small whole numbers, exact in every type."""
    found = np.random.default_rng([rank, count]).integers(0, 2 if dtype == np.bool_ else 4, count)
    return found.astype(dtype)


TYPES = (
    *("float32", "float64", "float16", ml_dtypes.bfloat16, "int32", "uint8", "bool", "complex64"),
    "int16",  # which NCCL does not know
)


def words(kind: np.dtype[Any]) -> list[str]:
    """What reductions there are of a type."""
    if kind.kind in "biu":
        return list(REDUCTIONS)
    return ["sum", "product"] if kind.kind == "c" else ["sum", "product", "min", "max"]


@needs_fake
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("count", [2, 3])
def test_reductions_are_numpys(count: int, dtype: Any) -> None:
    kind = np.dtype(dtype)

    def program(t: NCCL) -> None:
        for op in words(kind):
            for sizes in ([2] * count, [(r + 1) % 3 for r in range(count)]):
                parts = [values(r, sum(sizes), kind) for r in range(count)]
                wanted = np.empty_like(parts[0])
                reduce_arrays(parts, op, wanted)
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


@needs_fake
@pytest.mark.parametrize("dtype", ["float32", "bool", ml_dtypes.bfloat16, "int16"])
@pytest.mark.parametrize("count", [2, 3])
def test_what_moves_arrives(count: int, dtype: Any) -> None:
    def program(t: NCCL) -> None:
        for sizes in ([2 * r for r in range(count)], [3] * count, [0] * count):
            everyones = [values(r, n, dtype) for r, n in enumerate(sizes)]
            found = [np.empty_like(x) for x in everyones]
            t.all_gather(everyones[t.rank], found).wait()
            assert [x.tobytes() for x in found] == [x.tobytes() for x in everyones]
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

    ranks(count, program)


@needs_fake
@pytest.mark.parametrize("tag", [0, 3])
@pytest.mark.parametrize("count", [2, 3])
def test_messages_cross_each_other_and_collectives(count: int, tag: int) -> None:
    def program(t: NCCL) -> None:
        following, before = (t.rank + 1) % count, (t.rank - 1) % count
        sending = t.send(values(t.rank, 3, "int16"), following, tag)  # each before it takes one
        x = np.ones(2, np.float32)
        if t.rank:
            t.all_reduce(x, x).wait()
        got = values(99, 3, "int16")
        taking = t.recv(got, before, tag)
        if not t.rank:
            t.all_reduce(x, x).wait()
        taking.wait()
        sending.wait()
        assert got.tobytes() == values(before, 3, "int16").tobytes()
        assert x.tolist() == [count, count]

    ranks(count, program)


@needs_fake
def test_what_is_said_on_the_host_and_parts_of_the_ranks() -> None:
    def program(t: NCCL) -> Any:
        t.barrier().wait()
        assert t.exchange(b"%d" % t.rank) == [b"0", b"1", b"2"]
        before = np.zeros(1, np.float32)
        t.all_reduce(before, before)  # under way
        part = t.split([2, 0])
        if part is None:
            return None
        x = np.full(2, t.rank, np.float32)
        part.all_reduce(x, x).wait()
        place = part.rank
        part.close()
        assert part.collective.communicator.ended == ["finalized", "destroyed"]
        assert part.messages.communicator.ended == ["finalized", "destroyed"]
        with pytest.raises(DistError, match="the group was destroyed"):
            part.all_reduce(x, x)
        return place, x.tolist()

    assert ranks(3, program) == [(1, [2.0, 2.0]), None, (0, [2.0, 2.0])]


def everything(backend: str) -> list[Any]:
    """What programs get from collectives, groups and training over a backend."""

    def run(rank: int) -> Any:
        dist.init_process_group(backend)
        assert dist.get_backend() == backend
        found: list[Any] = []
        x = flambeau.arange(4.0, requires_grad=True) + rank
        for op in (*dist.ReduceOp.RedOpType, dist._make_nccl_premul_sum(rank + 0.5)):
            y = x.detach().clone() if not str(op).startswith("b") else flambeau.arange(4) + rank
            dist.all_reduce(y, op)
            found.append(y.tolist())
        gathered = functional.all_gather_tensor(x[: rank + 1], 0, sizes=[1, 2, 3])
        (g,) = flambeau.autograd.grad((gathered * gathered).sum(), x)
        found += [gathered.tolist(), g.tolist()]
        objects: list[Any] = [None] * 3
        dist.all_gather_object(objects, {"rank": rank})
        group = dist.new_group([2, 0])
        if rank != 1:
            z = flambeau.full((2,), float(rank))
            dist.all_reduce(z, dist.ReduceOp.AVG, group=group)
            found.append(z.tolist())
        flambeau.manual_seed(0)
        model = flambeau.nn.parallel.DistributedDataParallel(flambeau.nn.Linear(4, 2))
        optimizer = flambeau.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            loss = model(x.detach()).square().sum()
            loss.backward()
            optimizer.step()
            found.append(loss.item())
        dist.barrier()
        dist.destroy_process_group()
        return found, objects

    return dist.spawn_local(3, run, init=False)


@needs_fake
def test_programs_get_what_they_get_over_other_transports() -> None:
    assert everything("nccl") == everything("gloo")


@needs_fake
def test_a_message_from_any_rank_is_refused() -> None:
    def program(t: NCCL) -> None:
        with pytest.raises(DistError, match="no messages from any rank"):
            t.recv(np.ones(2, np.int32), -1)

    ranks(2, program)


@needs_fake
def test_errors_and_late_ranks_are_told() -> None:
    def program(t: NCCL) -> None:
        x = np.ones(2, np.float32)
        t.collective.stream.late = True
        late = t.all_reduce(x, x)
        with pytest.raises(DistTimeoutError, match=r"all_reduce sum float32\[2\] \(call 0\)"):
            late.wait(0.01)
        late.abandon(None, 0.01)
        assert t.abandoned == [late]  # with the GPU's memory
        t.messages.communicator.error = 6
        with pytest.raises(DistError, match=r"call 0.*failed: error 6"):
            late.wait()
        with pytest.raises(DistError, match=r"call 1.*failed: error 6"):
            t.all_reduce(x, x)

    ranks(2, program)


@needs_fake
def test_what_the_library_refuses_names_the_call() -> None:
    def program(t: NCCL) -> None:
        with pytest.raises(DistError, match=r"all_gather \(call 0\) failed: Buffer count mismatch"):
            t.all_gather(np.ones(3, np.float32), [np.ones(2, np.float32)] * 2)

    ranks(2, program)


@needs_fake
def test_abort_ends_the_communicators_and_the_other_ranks() -> None:
    def program(t: NCCL) -> Any:
        x = np.ones(2, np.float32)
        if t.rank == 0:
            t.abort("rank 0 gave up")
            t.abort("again")
            assert t.collective.communicator.ended == t.messages.communicator.ended == ["aborted"]
        with pytest.raises(DistError, match="rank 0 gave up"):
            t.barrier().wait() if t.rank else t.all_reduce(x, x)

    ranks(2, program)


@needs_fake
def test_ranks_that_call_different_things_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLAMBEAU_COLLECTIVES", "check")

    def program(t: NCCL) -> None:
        x = np.ones(2 + t.rank, np.float32)
        with pytest.raises(DistError, match=r"rank 1: all_reduce sum float32\[3\]"):
            t.all_reduce(x, x)

    ranks(2, program)


@needs_fake
def test_each_rank_takes_its_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []

    class Gpu(nccl.Gpu):
        def __init__(self, cuda: Any, number: int) -> None:
            super().__init__(cuda, number)
            taken.append(number)

    monkeypatch.setattr(nccl, "Gpu", Gpu)
    monkeypatch.setattr(fake_nccl.Device, "count", 2)
    ranks(3, lambda t: None)
    assert sorted(taken) == [0, 0, 1]
    monkeypatch.setenv("LOCAL_RANK", "1")
    ranks(1, lambda t: None)
    assert taken[3:] == [1]
    device = flambeau.device("cuda", 0)
    dist.spawn_local(1, lambda r: dist.init_process_group("nccl", device_id=device), init=False)
    assert taken[4:] == [0]


@needs_fake
def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake_nccl.Device, "count", 0)
    with pytest.raises(RuntimeError, match="no GPUs found"):
        ranks(2, lambda t: None)


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nccl.core", None)
    with pytest.raises(RuntimeError, match=r"doesn't have NCCL.*pip install 'flambeau\[nccl\]'"):
        ranks(2, lambda t: None)


def gpus() -> int:
    """How many GPUs nccl4py could use here."""
    if not all(importlib.util.find_spec(name) for name in ("nccl", "cuda")):
        return 0
    try:
        return len(nccl._libraries()[1].Device.get_all_devices())
    except RuntimeError:  # no driver
        return 0


@needs_mpi
@pytest.mark.skipif(not gpus(), reason="needs a GPU of NVIDIA's and the nccl extra")
def test_on_gpus() -> None:
    count = min(gpus(), 2)
    done = mpiexec(count, "nccl.py")
    assert done.returncode == 0, done.stderr
    assert f"NCCL on {count}" in done.stdout
