"""The thread pool that native code drives: `fl_parallel_for`.

Note [Thread pool]
Compiled programs call `fl_parallel_for(fn, arg, n, grain)`. The calling thread publishes the
loop, takes part in it as worker 0 and returns when all of [0, n) is done. The other workers are
Python daemon threads that each make one call into the native `fl_pool_worker`, without the GIL,
and come back only when the pool stops.

* One word says it all: the loop's number, whether it is open, how many workers joined. A worker
  joins by a compare-and-swap on it; the caller closes it when no iterations are left and waits
  for those that joined only. A worker that is late or asleep costs the caller nothing.
* [0, n) is divided into one range a worker, each with its own counter; a worker takes chunks of
  `grain` iterations from its own range first (so successive loops over the same rows find them
  in that core's cache), then from the others'.
* A worker without work spins for some tens of microseconds, then sleeps on its own condition
  variable. One that was soon woken spins ten times longer the next time, for being woken takes as
  long as a short loop; one that spun for so long in vain goes back to the short time. So a thread
  whose loops follow each other closely finds the workers ready, and one that rests has them
  asleep. Workers that are needed and asleep are woken as a tree: each wakes two others.
* One loop at a time uses the pool. A nested loop, and a loop of another Python thread meanwhile,
  run inline.
* Threads start when the first loop needs them (also in a forked child, which inherits none):
  native code then calls back `_start`.

Signals are blocked in the workers, so that Ctrl-C always reaches the main thread's system calls.
"""

from __future__ import annotations

import _thread
import atexit
import contextlib
import ctypes
import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from flambeau.runtime import cpuinfo, jit, pool_ir
from flambeau.runtime.pool_ir import MAX_THREADS

_SPIN_SECONDS = 30e-6


class _Native:
    """The compiled pool: its state's address and its functions."""

    def __init__(self) -> None:
        self.library = jit.load(pool_ir.TEXT, "thread pool")
        function = self.library.function
        self.state: int = function("fl_pool_state", ctypes.c_void_p)()
        self.init_slot = function("fl_pool_init_slot", None, ctypes.c_int64)
        self.try_lock = function("fl_pool_try_lock", ctypes.c_int64)
        self.unlock = function("fl_pool_unlock", None)
        self.set_workers = function("fl_pool_set_workers", None, ctypes.c_int64, ctypes.c_int64)
        self.spin = function("fl_pool_spin", None, ctypes.c_int64)
        self.worker = function("fl_pool_worker", None, ctypes.c_int64)
        self.hook = ctypes.CFUNCTYPE(None)(_start)
        self.initialised = 0  # slots whose mutex and condition variable exist
        self.spins_per_second = 0.0
        self.prepare()

    def field(self, offset: int) -> ctypes.c_int64:
        return ctypes.c_int64.from_address(self.state + offset)

    def prepare(self) -> None:
        """Arm the hook that starts the threads on the first loop that wants them."""
        armed = _pool.count > 1 and not _pool.closed
        self.field(pool_ir.HOOK).value = (
            ctypes.cast(self.hook, ctypes.c_void_p).value or 0 if armed else 0
        )

    def calibrate(self) -> None:
        """Set how long idle threads spin: not at all when they are more than the processors."""
        if not self.spins_per_second:
            timings = []
            for _ in range(3):
                start = time.perf_counter()
                self.spin(500)
                timings.append(time.perf_counter() - start)
            self.spins_per_second = 500 / min(timings)
        rate = self.spins_per_second if _pool.count <= cpuinfo.available_cpus() else 0.0
        self.field(pool_ir.SPIN).value = int(rate * _SPIN_SECONDS)
        self.field(pool_ir.NAP).value = int(1e9 * _SPIN_SECONDS * (pool_ir.PATIENCE - 1))


class _Pool:
    """The pool's side in Python."""

    def __init__(self) -> None:
        self.count = 1
        self.chosen = False  # whether `count` means anything yet
        self.closed = False  # the interpreter is going down
        self.threads: list[threading.Thread] = []
        self.lock = threading.RLock()


_pool = _Pool()


@functools.cache
def _native() -> _Native:
    get_num_threads()
    return _Native()


def parallel_for_address() -> int:
    """The address of the native `void fl_parallel_for(ptr fn, ptr arg, i64 n, i64 grain)`.

    `void fn(ptr arg, i64 begin, i64 end, i64 worker)` is called for chunks that together are
    [0, n), by several threads at once; `worker` is below `get_num_threads()` and no two threads of
    one call share it.
    """
    with jit.lock:  # one pool, whichever thread comes first
        return _native().library.address("fl_parallel_for")


def clock_address() -> int:
    """The address of the native `i64 fl_now()`, which reads `profile.clock`."""
    with jit.lock:
        address: int = _native().library.address("fl_now")
        return address


jit.provide("fl_parallel_for", parallel_for_address)
jit.provide("fl_now", clock_address)


def watch_workers(address: int, rows: int = 0, capacity: int = 0) -> None:
    """Have workers note when they begin and end their share of a loop; nothing with address 0.

    Args:
        address: a table of int64 with a row of 1 + 2 * capacity words for each thread of the pool:
            a count, then pairs of begin and end. It must stay until another call of this function.
        rows: threads the table has rows for.
        capacity: pairs a row has room for; what comes later is not noted.
    """
    with _pool.lock, _held() as native:
        assert native is not None
        native.field(pool_ir.ROWS).value = rows
        native.field(pool_ir.CAPACITY).value = capacity
        native.field(pool_ir.TIMES).value = address


def default_num_threads() -> int:
    """FLAMBEAU_NUM_THREADS or OMP_NUM_THREADS when set, else the cores this process may run on."""
    for name in ("FLAMBEAU_NUM_THREADS", "OMP_NUM_THREADS"):
        text = os.environ.get(name, "").split(",")[0].strip()
        if text:
            if text.isdecimal() and int(text) > 0:
                return min(int(text), MAX_THREADS)
            if name.startswith("FLAMBEAU"):
                raise ValueError(f"{name} must be a positive integer, but got {text!r}")
    return min(cpuinfo.physical_cores(), MAX_THREADS)


def get_num_threads() -> int:
    """How many threads a parallel loop uses, the calling one included."""
    with _pool.lock:
        if not _pool.chosen:
            _pool.count, _pool.chosen = default_num_threads(), True
        return _pool.count


def set_num_threads(num_threads: int) -> None:
    """Have parallel loops use this many threads, the calling one included.

    Waits for a loop that is running. Threads start again when a loop needs them.

    Raises:
        TypeError: not an integer.
        RuntimeError: not positive.
    """
    if isinstance(num_threads, bool) or not hasattr(num_threads, "__index__"):
        raise TypeError(f"set_num_threads expects an int, but got {type(num_threads).__name__}")
    count = num_threads.__index__()
    if count <= 0:
        raise RuntimeError("set_num_threads expects a positive integer")
    count = min(count, MAX_THREADS)
    with _pool.lock:
        if count == get_num_threads():
            return
        if not _native.cache_info().currsize:
            _pool.count = count
            return
        with _stopped():
            _pool.count = count


@contextlib.contextmanager
def _held(deadline: float | None = None) -> Iterator[_Native | None]:
    """No loop runs in the body; yields None if one still does at `deadline`."""
    native = _native()
    while not native.try_lock():
        if deadline is not None and time.monotonic() > deadline:
            yield None
            return
        time.sleep(20e-6)
    try:
        yield native
    finally:
        native.unlock()


@contextlib.contextmanager
def _stopped(patience: float | None = None) -> Iterator[bool]:
    """No loop runs and no worker lives in the body; yields False if not so after `patience` s."""
    deadline = None if patience is None else time.monotonic() + patience
    with _held(deadline) as native:
        if native is None:
            yield False
            return
        native.set_workers(0, len(_pool.threads))
        for thread in _pool.threads:
            thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
        _pool.threads = [thread for thread in _pool.threads if thread.is_alive()]
        yield not _pool.threads
        if not _pool.threads:
            native.prepare()


def _live(worker: Callable[[int], Any], index: int) -> None:
    """A worker thread: one native call."""
    keep = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - keep)
    worker(index)


def _start() -> None:
    """Start the workers. Native code that holds the pool calls it, in the thread that loops."""
    interrupted = False
    native = _native()
    try:
        native.field(pool_ir.HOOK).value = 0
        if _pool.closed or sys.is_finalizing():
            return
        native.calibrate()
        while native.initialised < _pool.count:
            native.init_slot(native.initialised)
            native.initialised += 1
        # Set first: a worker that finds a smaller number returns.
        native.field(pool_ir.WORKERS).value = _pool.count - 1
        for index in range(1, _pool.count):
            thread = threading.Thread(
                target=_live,
                args=(native.worker, index),
                name=f"flambeau-worker-{index}",
                daemon=True,
            )
            thread.start()
            _pool.threads.append(thread)
    except KeyboardInterrupt:
        interrupted = True  # this is a callback: the interrupt cannot pass through native code
    except RuntimeError:
        pass  # no more threads can be had (limits, interpreter going down)
    native.field(pool_ir.WORKERS).value = len(_pool.threads)
    if interrupted:
        _thread.interrupt_main()


def _after_fork() -> None:
    """A child has none of its parent's workers, and its locks may have been held: begin anew."""
    _pool.lock = threading.RLock()
    _pool.threads = []
    if _native.cache_info().currsize:
        native = _native()
        ctypes.memset(native.state, 0, pool_ir.POOL_BYTES)
        native.initialised = 0
        native.prepare()


def _at_exit() -> None:
    """Let the workers return before the interpreter takes its state apart."""
    _pool.closed = True
    if _native.cache_info().currsize:
        with _stopped(patience=1.0):
            pass


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
