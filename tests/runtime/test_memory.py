"""The caching allocator: alignment, reuse, bounds, statistics, errors."""

import ctypes
import gc
import itertools
import sys
import threading
import weakref

import numpy as np
import pytest

from flambeau.runtime import memory
from flambeau.runtime.memory import Buffer

MB = 1 << 20
SIZES = [
    0,
    1,
    63,
    64,
    65,
    1000,
    4096,
    4097,
    5000,
    65537,
    256 << 10,
    (256 << 10) + 1,
    3 * MB,
    9 * MB + 5,
]


@pytest.fixture(autouse=True)
def _start_empty():
    gc.collect()
    memory.empty_cache()
    memory.reset_peak_memory_stats()
    memory._state.recent = 0  # what earlier tests used


def array(buffer: Buffer) -> np.ndarray:
    return np.frombuffer(buffer.view(), np.uint8)


@pytest.mark.parametrize("nbytes", SIZES)
def test_blocks_are_aligned_whole_and_apart(nbytes):
    buffers = [Buffer(nbytes) for _ in range(20)]
    for index, buffer in enumerate(buffers):
        assert buffer.ptr % memory.ALIGNMENT == 0
        assert buffer.ptr != 0
        assert buffer.nbytes == nbytes
        assert buffer.owner is None
        array(buffer)[:] = index + 1
    assert all((array(buffer) == index + 1).all() for index, buffer in enumerate(buffers))
    starts = sorted(buffer.ptr for buffer in buffers)
    assert all(b - a >= max(nbytes, 1) for a, b in itertools.pairwise(starts))


@pytest.mark.parametrize("nbytes", [n for n in SIZES if n])
def test_rounding_wastes_an_eighth_at_most(nbytes):
    size = memory.size_class(nbytes)
    assert size >= nbytes
    assert size % 64 == 0
    assert size - nbytes < max(64, size / 8)
    before = memory.memory_allocated()
    buffer = Buffer(nbytes)
    assert memory.memory_allocated() - before == size
    del buffer
    assert memory.memory_allocated() == before


@pytest.mark.parametrize("nbytes", SIZES)
def test_a_freed_block_is_used_again(nbytes):
    first = Buffer(nbytes)
    address = first.ptr
    reserved = memory.memory_reserved()
    del first
    again = Buffer(nbytes)
    assert again.ptr == address
    assert memory.memory_reserved() == reserved


def test_statistics():
    base, reserved = memory.memory_allocated(), memory.memory_reserved()
    a, b = Buffer(8 * MB), Buffer(2 * MB)
    assert memory.memory_allocated() == base + 10 * MB
    assert memory.memory_reserved() == reserved + 10 * MB
    del a
    assert memory.memory_allocated() == base + 2 * MB
    assert memory.max_memory_allocated() == base + 10 * MB
    assert memory.memory_reserved() == reserved + 10 * MB
    memory.empty_cache()
    assert memory.memory_reserved() == reserved + 2 * MB
    assert memory.max_memory_reserved() >= reserved + 10 * MB
    memory.reset_peak_memory_stats()
    assert memory.max_memory_allocated() == base + 2 * MB
    assert memory.max_memory_reserved() == reserved + 2 * MB
    array(b)[:] = 1


def test_what_is_kept_stays_below_the_recent_peak():
    """Ever new sizes: the free blocks of the old ones must go."""
    base = memory.memory_reserved()
    largest = 0
    for step in range(60):
        size = (20 + step) * MB + 1
        buffer = Buffer(size)
        largest = max(largest, memory.size_class(size))
        del buffer
        assert memory.memory_reserved() - base <= largest + 2 * 64 * MB
    for step in range(60):
        Buffer((20 << 10) * (step % 12 + 1))


def test_a_peak_that_is_over_is_given_back(monkeypatch):
    base = memory.memory_reserved()
    buffers = [Buffer(16 * MB) for _ in range(16)]
    del buffers
    assert memory.memory_reserved() - base == 256 * MB
    clock = [memory.time.monotonic()]
    monkeypatch.setattr(memory.time, "monotonic", lambda: clock[0])
    for _ in range(3):
        clock[0] += 10
        Buffer(MB)
    assert memory.memory_reserved() - base <= 66 * MB


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_large_blocks_leave_the_process():
    buffer = Buffer(200 * MB)
    array(buffer)[:] = 1
    full = resident()
    del buffer
    memory.empty_cache()
    assert full - resident() > 190 * MB


def test_no_memory_is_a_runtime_error_in_torch_words():
    before = memory.memory_allocated(), memory.memory_reserved()
    message = f"DefaultCPUAllocator: can't allocate memory: you tried to allocate {1 << 60} bytes"
    for _ in range(2):
        with pytest.raises(RuntimeError, match=message):
            Buffer(1 << 60)
    assert (memory.memory_allocated(), memory.memory_reserved()) == before


def test_foreign_memory_keeps_its_owner():
    class Owner(np.ndarray):
        pass

    owner = np.arange(10.0).view(Owner)
    dead = []
    memory_of = memory.memory_allocated()
    buffer = Buffer.wrap(owner.ctypes.data, owner.nbytes, owner)
    watcher = weakref.ref(owner, lambda _: dead.append(1))
    assert isinstance(buffer, Buffer)
    assert buffer.owner is owner
    assert memory.memory_allocated() == memory_of
    del owner
    gc.collect()
    assert not dead
    assert ctypes.c_double.from_address(buffer.ptr + 24).value == 3.0
    del buffer
    gc.collect()
    assert dead
    assert watcher() is None


def test_scratch_grows_and_stays():
    first = memory.scratch(1000)
    assert first % 64 == 0
    assert memory.scratch(10) == first
    assert memory.scratch(1000) == first
    large = memory.scratch(5 * MB)
    ctypes.memset(large, 7, 5 * MB)
    assert memory.scratch(1) == large
    assert memory.scratch(5 * MB) == large


def test_scratch_is_each_threads_own():
    here, there = memory.scratch(100), []
    thread = threading.Thread(target=lambda: there.append(memory.scratch(100)))
    thread.start()
    thread.join()
    assert there[0] != here


def test_many_threads():
    before = memory.memory_allocated()
    failures = []

    def work(seed: int) -> None:
        generator = np.random.default_rng(seed)
        held: list[Buffer] = []
        for _ in range(3000):
            if held and generator.random() < 0.5:
                buffer = held.pop(int(generator.integers(len(held))))
                if not (array(buffer)[:50] == seed).all():
                    failures.append(buffer)
            else:
                buffer = Buffer(int(2 ** generator.uniform(0, 20)))
                array(buffer)[:50] = seed
                held.append(buffer)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(1, 5)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    gc.collect()
    assert not failures
    assert memory.memory_allocated() == before


def test_buffers_freed_by_the_collector_inside_the_allocator():
    """Cycles die at any allocation, also while the allocator's lock is held."""

    class Cycle:
        def __init__(self) -> None:
            self.self = self
            self.buffer = Buffer(MB)

    before = memory.memory_allocated()
    threshold = gc.get_threshold()
    gc.set_threshold(2, 2, 2)
    try:
        for step in range(300):
            Cycle()
            Buffer((step % 40 + 1) * MB)
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    assert memory.memory_allocated() == before
