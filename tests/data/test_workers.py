"""DataLoader with worker processes: the same batches, prompt errors, and nothing left behind."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import flambeau
from flambeau import data
from flambeau.data import dataloader
from flambeau.data.transport import INLINE, SMALL, Channel, dumps
from flambeau.data.worker import seed_state

pytestmark = pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="workers are forked here"
)


class Rows(data.Dataset[Any]):
    """Row i is full of i."""

    def __init__(self, length: int, width: int = 5000) -> None:
        self.length, self.width = length, width

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        return flambeau.full((self.width,), float(index)), index


class Misbehaving(data.Dataset[Any]):
    """Does at one index what its function does."""

    def __init__(self, what: Any, where: int = 3) -> None:
        self.what, self.where = what, where

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> Any:
        if index == self.where:
            return self.what()
        return flambeau.full((3,), float(index))


class Drawn(data.Dataset[Any]):
    """Random numbers from all three generators."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> Any:
        ours = flambeau.rand(()).item()
        return np.random.rand(), random.random(), ours  # noqa: NPY002


class Stream(data.IterableDataset[int]):
    """Each worker's part of a range, or (unshared) all of it."""

    def __init__(self, length: int, shared: bool = True) -> None:
        self.length, self.shared = length, shared

    def __iter__(self) -> Iterator[int]:
        info = data.get_worker_info()
        if info is None or not self.shared:
            return iter(range(self.length))
        return iter(range(info.id, self.length, info.num_workers))


def children() -> list[Any]:
    gc.collect()
    return multiprocessing.active_children()


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    before = set(os.listdir("/dev/shm")) if os.path.isdir("/dev/shm") else set()
    descriptors = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    yield
    assert not children()
    if os.path.isdir("/dev/shm"):
        left = [n for n in set(os.listdir("/dev/shm")) - before if "flambeau" in n]
        assert not left
    if descriptors:
        assert len(os.listdir("/proc/self/fd")) <= descriptors + 2


def flat(loader: Any) -> list[Any]:
    return [[part.tolist() for part in batch] for batch in loader]


class TestBatches:
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"num_workers": 1},
            {"prefetch_factor": 1},
            {"prefetch_factor": 100},
            {"multiprocessing_context": "fork"},
            {"multiprocessing_context": multiprocessing.get_context("fork")},
        ],
        ids=["default", "one", "eager", "far-ahead", "named-context", "context"],
    )
    def test_as_without_workers(self, options: dict[str, Any]) -> None:
        def run(**given: Any) -> list[Any]:
            generator = flambeau.Generator().manual_seed(5)
            loader = data.DataLoader(
                Rows(23), batch_size=4, shuffle=True, generator=generator, **given
            )
            return flat(loader) + flat(loader)

        assert run(**{"num_workers": 2, **options}) == run()

    def test_persistent_workers_are_deterministic(self) -> None:
        def run(workers: int) -> tuple[list[Any], list[Any]]:
            loader = data.DataLoader(
                Rows(23),
                batch_size=4,
                shuffle=True,
                generator=flambeau.Generator().manual_seed(5),
                num_workers=workers,
                persistent_workers=workers > 0,
            )
            return flat(loader), flat(loader)

        assert run(2) == run(2)
        assert run(2)[0] == run(0)[0]  # later epochs draw no seeds for workers, as in torch

    def test_in_order_though_one_is_slow(self) -> None:
        class Slow(Rows):
            def __getitem__(self, index: int) -> Any:
                if index == 0:
                    time.sleep(0.3)
                return index

        assert [b.item() for b in data.DataLoader(Slow(6), num_workers=2)] == list(range(6))
        loader = data.DataLoader(Slow(6), num_workers=2, in_order=False)
        found = [b.item() for b in loader]
        assert sorted(found) == list(range(6))
        assert found[0] != 0

    def test_streams(self) -> None:
        loader = data.DataLoader(Stream(11), batch_size=2, num_workers=2)
        found = [b.tolist() for b in loader]
        assert sorted(i for b in found for i in b) == list(range(11))
        assert found[:2] == [[0, 2], [1, 3]]
        both = data.DataLoader(Stream(3, shared=False), batch_size=None, num_workers=2)
        assert sorted(both) == [0, 0, 1, 1, 2, 2]

    def test_streams_with_persistent_workers(self) -> None:
        loader = data.DataLoader(Stream(7), batch_size=None, num_workers=2, persistent_workers=True)
        for _ in range(3):
            assert sorted(loader) == list(range(7))

    def test_more_than_a_stream_said(self) -> None:
        class Sized(Stream):
            def __len__(self) -> int:
                return 2

        loader = data.DataLoader(Sized(3), batch_size=None, num_workers=1)
        assert len(loader) == 2
        with pytest.warns(UserWarning, match="configuring the IterableDataset replica"):
            list(loader)

    def test_an_epoch_that_is_not_finished(self) -> None:
        loader = data.DataLoader(Rows(40), num_workers=2, persistent_workers=True)
        for _ in range(3):
            first = next(iter(loader))
            assert first[1].tolist() == [0]
        assert [b[1].item() for b in loader] == list(range(40))

    def test_persistent_workers_stay(self) -> None:
        class Process(Rows):
            def __getitem__(self, index: int) -> int:
                return os.getpid()

        def pids(loader: Any) -> set[int]:
            return {batch.item() for batch in loader}

        loader = data.DataLoader(Process(6), num_workers=2, persistent_workers=True)
        assert pids(loader) == pids(loader)
        other = data.DataLoader(Process(6), num_workers=2)
        assert not pids(other) & pids(other)

    def test_nothing_to_load(self) -> None:
        assert list(data.DataLoader([], num_workers=2)) == []

    def test_large_index_lists(self) -> None:
        """Requests that do not fit a socket's buffer."""
        loader = data.DataLoader(
            range(100_000),
            batch_size=25_000,
            num_workers=1,
            prefetch_factor=4,
            collate_fn=list,
        )
        assert [i for batch in loader for i in batch] == list(range(100_000))

    @pytest.mark.skipif(sys.platform == "win32", reason="there is no other context")
    def test_spawned_workers(self, tmp_path: Path) -> None:
        script = tmp_path / "script.py"
        script.write_text(
            "from flambeau import data\n"
            "import flambeau\n"
            "if __name__ == '__main__':\n"
            "    rows = data.TensorDataset(flambeau.arange(20000).reshape(4, 5000))\n"
            "    for context in ('spawn', 'forkserver'):\n"
            "        loader = data.DataLoader(rows, num_workers=1,\n"
            "                                 multiprocessing_context=context)\n"
            "        print([int(batch.sum().item()) for (batch,) in loader])\n"
        )
        ended = subprocess.run(
            [sys.executable, str(script)], capture_output=True, text=True, timeout=120
        )
        expected = [sum(range(i * 5000, i * 5000 + 5000)) for i in range(4)]
        assert ended.stdout == f"{expected}\n" * 2, ended.stderr


class TestSeeds:
    def test_the_same_seed_draws_the_same(self) -> None:
        def run(seed: int) -> list[Any]:
            generator = flambeau.Generator().manual_seed(seed)
            return flat(data.DataLoader(Drawn(), 3, num_workers=2, generator=generator))

        assert run(1) == run(1) != run(2)
        numbers = [x for batch in run(1) for column in batch for x in column]
        assert len(set(numbers)) == len(numbers)  # the workers draw differently

    def test_the_default_generator(self) -> None:
        runs = []
        for _ in range(2):
            flambeau.manual_seed(11)
            runs.append(flat(data.DataLoader(Drawn(), 3, num_workers=2)))
        assert runs[0] == runs[1]

    def test_workers_are_seeded_by_their_number(self) -> None:
        class Info(Rows):
            def __getitem__(self, index: int) -> Any:
                info = data.get_worker_info()
                assert info is not None
                assert info.dataset is self
                return info.id, info.num_workers, info.seed, flambeau.get_num_threads()

        found = flat(data.DataLoader(Info(2), num_workers=2))
        assert [batch[0] for batch in found] == [[0], [1]]
        assert found[0][1] == [2]
        assert found[1][2][0] == found[0][2][0] + 1
        assert found[0][3] == [1]
        assert data.get_worker_info() is None

    def test_numpys_words_depend_on_everything(self) -> None:
        words = {tuple(seed_state(base, w)) for base in (0, 1, 1 << 40) for w in range(3)}
        assert len(words) == 9

    def test_init_fn(self) -> None:
        def init(worker: int) -> None:
            info = data.get_worker_info()
            assert info is not None
            info.dataset.length = 100 + worker

        class Told(Rows):
            def __getitem__(self, index: int) -> int:
                return self.length

        loader = data.DataLoader(Told(4), num_workers=2, worker_init_fn=init)
        assert [b.item() for b in loader] == [100, 101, 100, 101]


class Odd(Exception):
    """Wants two arguments."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(a, b)


def fail() -> None:
    raise ValueError("no good")


class TestErrors:
    def test_type_and_traceback(self) -> None:
        iterator = iter(data.DataLoader(Misbehaving(fail), num_workers=2))
        with pytest.raises(ValueError, match="no good") as caught:
            list(iterator)
        message = str(caught.value)
        assert message.startswith(
            "Caught ValueError in DataLoader worker process 1.\n"
            "Original Traceback (most recent call last):\n"
        )
        assert 'raise ValueError("no good")' in message

    def test_the_next_batches_still_come(self) -> None:
        iterator = iter(data.DataLoader(Misbehaving(fail), num_workers=2))
        found = []
        for _ in range(8):
            try:
                found.append(next(iterator)[0, 0].item())
            except ValueError:
                found.append(None)
        assert found == [0, 1, 2, None, 4, 5, 6, 7]
        with pytest.raises(StopIteration):
            next(iterator)

    def test_key_errors_are_readable(self) -> None:
        loader = data.DataLoader(Misbehaving(lambda: {}["x"]), num_workers=1)
        with pytest.raises(KeyError) as caught:
            list(loader)
        assert "\nOriginal Traceback" in str(caught.value)

    def test_exceptions_that_cannot_be_made_again(self) -> None:
        def odd() -> None:
            raise Odd(1, 2)

        class Local(Exception):
            pass

        def local() -> None:
            raise Local("here")

        for function, name in ((odd, "Odd"), (local, "Local")):
            with pytest.raises(RuntimeError, match=f"Caught {name} in DataLoader worker"):
                list(data.DataLoader(Misbehaving(function), num_workers=1))

    def test_in_init_fn(self) -> None:
        def init(worker: int) -> None:
            raise ValueError("no init")

        with pytest.raises(ValueError, match="Caught ValueError in DataLoader worker process 0"):
            list(data.DataLoader(Rows(2), num_workers=1, worker_init_fn=init))

    def test_a_batch_that_cannot_be_pickled(self) -> None:
        loader = data.DataLoader(
            Misbehaving(lambda: lambda: None), batch_size=None, num_workers=1, collate_fn=id_
        )
        with pytest.raises(Exception, match="in DataLoader worker process 0"):
            list(loader)

    def test_history_does_not_travel(self) -> None:
        def tracked() -> Any:
            return flambeau.ones(3, requires_grad=True) * 2

        loader = data.DataLoader(Misbehaving(tracked), batch_size=None, num_workers=1)
        with pytest.raises(RuntimeError, match="Cowardly refusing to serialize non-leaf tensor"):
            list(loader)

    def test_killed(self) -> None:
        def die() -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        iterator = iter(data.DataLoader(Misbehaving(die, 0), num_workers=2))
        began = time.monotonic()
        with pytest.raises(
            RuntimeError,
            match=r"DataLoader worker \(pid\(s\) \d+\) exited unexpectedly: killed by SIGKILL",
        ):
            list(iterator)
        assert time.monotonic() - began < 4  # not after a look every few seconds

    def test_exited(self) -> None:
        loader = data.DataLoader(Misbehaving(lambda: os._exit(3)), num_workers=1)
        with pytest.raises(RuntimeError, match="exited unexpectedly: exit code 3"):
            list(loader)

    def test_killed_between_epochs(self) -> None:
        loader = data.DataLoader(Rows(4), num_workers=2, persistent_workers=True)
        assert len(list(loader)) == 4
        os.kill(children()[0].pid, signal.SIGKILL)
        with pytest.raises(RuntimeError, match="exited unexpectedly"):
            list(loader)
        assert len(list(loader)) == 4  # with new workers

    def test_timeout(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(dataloader, "CHECK_INTERVAL", 0.2)  # patience at the end
        loader = data.DataLoader(Misbehaving(lambda: time.sleep(60), 0), num_workers=1, timeout=0.2)
        with pytest.raises(RuntimeError, match=r"DataLoader timed out after 0\.2 seconds"):
            list(loader)

    def test_a_context_that_cannot_pickle(self) -> None:
        loader = data.DataLoader(
            Misbehaving(lambda: None), num_workers=2, multiprocessing_context="spawn"
        )
        with pytest.raises((AttributeError, pickle.PicklingError)):
            iter(loader)


def id_(value: Any) -> Any:
    return value


class Pair(NamedTuple):
    """A batch of a class of one's own."""

    x: Any
    y: Any


class TestTransport:
    def through(self, value: Any) -> Any:
        here, there = Channel.pair()
        try:
            here.send(value)  # never more than a socket's buffer takes
            return there.receive()
        finally:
            here.close()
            there.close()

    @pytest.mark.parametrize("count", [0, 1, 1000, 1_000_000])
    def test_tensors(self, count: int) -> None:
        for dtype in (flambeau.float32, flambeau.bfloat16, flambeau.int64, flambeau.bool):
            value = flambeau.ones(count).to(dtype)
            found = self.through(value)
            assert found.dtype is dtype
            assert found.tolist() == value.tolist()

    def test_containers(self, rng: np.random.Generator) -> None:
        array = rng.standard_normal((300, 400))
        value = {"a": [Pair(flambeau.ones(3), "x" * INLINE * 3)], "b": array, 3: (None, 1j)}
        found = self.through(value)
        assert type(found["a"][0]) is Pair
        assert found["a"][0].x.tolist() == [1.0] * 3
        assert found["a"][0].y == "x" * INLINE * 3
        assert np.array_equal(found["b"], array)
        assert found[3] == (None, 1j)

    def test_data_is_not_pickled(self) -> None:
        payload, buffers = dumps([flambeau.zeros(1_000_000), np.zeros(1_000_000)])
        assert len(payload) < 1000
        assert sorted(b.nbytes for b in buffers) == [4_000_000, 8_000_000]

    def test_received_tensors_can_be_written(self) -> None:
        for count in (10, SMALL):
            found = self.through(flambeau.zeros(count))
            found += 1
            assert found.sum().item() == count

    def test_views_share_and_keep_strides(self) -> None:
        base = flambeau.arange(10_000.0).reshape(100, 100)
        a, b = self.through([base, base.t()])
        assert tuple(b.stride()) == (1, 100)
        a[0, 5] = -1.0
        assert b[5, 0].item() == -1.0

    def test_a_small_view_leaves_the_rest_behind(self) -> None:
        base = flambeau.zeros(1000, 1000)
        found = self.through(base[7])
        assert found.untyped_storage().nbytes() == 4000
        assert found.tolist() == [0.0] * 1000

    def test_parameters(self) -> None:
        found = self.through(flambeau.nn.Parameter(flambeau.ones(3)))
        assert isinstance(found, flambeau.nn.Parameter)
        assert found.requires_grad
        assert self.through(flambeau.ones(3, requires_grad=True)).requires_grad

    @pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
    def test_many_batches_may_be_kept(self) -> None:
        """Mappings hold no descriptors, and go away with their tensors."""

        def maps() -> int:
            return Path("/proc/self/maps").read_text().count("flambeau batch")

        before = len(os.listdir("/proc/self/fd"))
        assert maps() == 0
        kept = [self.through(flambeau.full((5000,), float(i))) for i in range(100)]
        assert len(os.listdir("/proc/self/fd")) == before
        assert maps() > 0
        assert [k[0].item() for k in kept] == [float(i) for i in range(100)]
        part = kept[3][4990:]
        del kept
        gc.collect()
        assert part.tolist() == [3.0] * 10
        del part
        gc.collect()
        assert maps() == 0

    def test_the_other_end_is_gone(self) -> None:
        here, there = Channel.pair()
        there.close()
        with pytest.raises(EOFError):
            here.receive()
        with pytest.raises(OSError, match="Broken pipe"):
            here.send(1)
        here.close()


PARENT = """
import os, sys, time
from flambeau import data
class Pids(data.Dataset):
    def __len__(self):
        return 1000
    def __getitem__(self, index):
        return os.getpid()
if __name__ == "__main__":
    loader = data.DataLoader(Pids(), num_workers=2)
    iterator = iter(loader)
    print(next(iterator).item(), next(iterator).item(), flush=True)
    LAST
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")
class TestEnds:
    def start(self, last: str, **options: Any) -> tuple[subprocess.Popen[str], list[int]]:
        process = subprocess.Popen(
            [sys.executable, "-c", PARENT.replace("LAST", last)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )
        assert process.stdout is not None
        return process, [int(pid) for pid in process.stdout.readline().split()]

    def gone(self, pids: list[int], seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not any(alive(pid) for pid in pids):
                return True
            time.sleep(0.02)
        return False

    @pytest.mark.parametrize("last", ["pass", "sys.exit(0)", "del iterator; time.sleep(0)"])
    def test_workers_end_with_the_program(self, last: str) -> None:
        process, pids = self.start(last)
        out, err = process.communicate(timeout=60)
        assert (out, err, process.returncode) == ("", "", 0)
        assert len(pids) == 2
        assert self.gone(pids, 2)

    def test_the_loader_is_killed(self) -> None:
        process, pids = self.start("time.sleep(60)")
        process.kill()
        process.communicate(timeout=60)
        assert self.gone(pids, 4)

    def test_a_worker_that_is_stuck_ends_with_the_loader(self) -> None:
        last = (
            "import threading; from flambeau.data import worker; worker.CHECK_INTERVAL = 0.1\n"
            "    lock = threading.Lock(); lock.acquire()\n"
            "    stuck = data.DataLoader(Pids(), num_workers=1,\n"
            "                            worker_init_fn=lambda _: lock.acquire())\n"
            "    waiting = iter(stuck); print(waiting._workers[0].process.pid, flush=True)\n"
            "    time.sleep(60)"
        )
        process, pids = self.start(last)
        assert process.stdout is not None
        pids.append(int(process.stdout.readline()))
        time.sleep(0.3)  # it is in the lock by now
        process.kill()
        process.communicate(timeout=60)
        assert self.gone(pids, 4)

    def test_interrupted(self) -> None:
        """Ctrl-C reaches the whole group; one traceback, from the program itself."""
        process, pids = self.start("time.sleep(60)", start_new_session=True)
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert process.returncode in (-signal.SIGINT, 130, 1)
        assert err.count("Traceback") == 1
        assert err.strip().endswith("KeyboardInterrupt")
        assert self.gone(pids, 4)

    def test_a_programs_own_handlers_do_not_keep_workers_alive(self) -> None:
        last = "import signal; signal.signal(signal.SIGTERM, lambda *a: None)\n" + (
            "    more = iter(data.DataLoader(Pids(), num_workers=1)); pid = next(more).item()\n"
            "    os.kill(pid, signal.SIGTERM); time.sleep(0.3)\n"
            "    print(more._workers[0].process.exitcode)"
        )
        process, _ = self.start(last)
        out, err = process.communicate(timeout=60)
        assert out.strip() == str(-signal.SIGTERM), err


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_an_iterator_inherited_over_a_fork_is_left_alone() -> None:
    """A program that forks by itself must not stop its parent's workers when the child ends."""
    iterator = iter(data.DataLoader(Rows(10), num_workers=1))
    next(iterator)
    child = os.fork()
    if not child:
        del iterator
        gc.collect()
        os._exit(0)
    os.waitpid(child, 0)
    assert len(list(iterator)) == 9


def test_loaders_in_threads() -> None:
    """Several loaders at once, each with workers that inherit the others' connections."""
    found: dict[int, list[int]] = {}

    def load(number: int) -> None:
        loader = data.DataLoader(Rows(20), num_workers=1)
        found[number] = [batch[1].item() for batch in loader]

    threads = [threading.Thread(target=load, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(found[n] == list(range(20)) for n in range(3))
