"""The thread pool: every iteration exactly once, whatever happens around it."""

import ctypes
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest

from flambeau.runtime import jit, threads

i64 = ctypes.c_int64

# count: one more in a[i] for each i; seen[worker] = 1. nested: a loop inside each iteration.
IR = """
declare void @fl_parallel_for(ptr, ptr, i64, i64)

define internal void @count(ptr %arg, i64 %b, i64 %e, i64 %w) {
entry:
  %a = load ptr, ptr %arg
  %sp = getelementptr ptr, ptr %arg, i64 1
  %seen = load ptr, ptr %sp
  %wp = getelementptr i64, ptr %seen, i64 %w
  store atomic i64 1, ptr %wp monotonic, align 8
  br label %loop
loop:
  %i = phi i64 [%b, %entry], [%i1, %loop]
  %p = getelementptr i64, ptr %a, i64 %i
  %v = load i64, ptr %p
  %v1 = add i64 %v, 1
  store i64 %v1, ptr %p
  %i1 = add i64 %i, 1
  %m = icmp slt i64 %i1, %e
  br i1 %m, label %loop, label %out
out:
  ret void
}

define void @run(ptr %arg, i64 %n, i64 %grain, i64 %repeats) {
entry:
  br label %loop
loop:
  %i = phi i64 [0, %entry], [%i1, %loop]
  call void @fl_parallel_for(ptr @count, ptr %arg, i64 %n, i64 %grain)
  %i1 = add i64 %i, 1
  %m = icmp slt i64 %i1, %repeats
  br i1 %m, label %loop, label %out
out:
  ret void
}

define internal void @inner(ptr %a, i64 %b, i64 %e, i64 %w) {
entry:
  br label %loop
loop:
  %i = phi i64 [%b, %entry], [%i1, %loop]
  %old = atomicrmw add ptr %a, i64 %i monotonic
  %i1 = add i64 %i, 1
  %m = icmp slt i64 %i1, %e
  br i1 %m, label %loop, label %out
out:
  ret void
}

define internal void @outer(ptr %a, i64 %b, i64 %e, i64 %w) {
entry:
  br label %loop
loop:
  %i = phi i64 [%b, %entry], [%i1, %loop]
  call void @fl_parallel_for(ptr @inner, ptr %a, i64 100, i64 3)
  %i1 = add i64 %i, 1
  %m = icmp slt i64 %i1, %e
  br i1 %m, label %loop, label %out
out:
  ret void
}

define void @nested(ptr %a, i64 %n) {
  call void @fl_parallel_for(ptr @outer, ptr %a, i64 %n, i64 1)
  ret void
}
"""


class Loops:
    """The loops above on NumPy memory."""

    def __init__(self) -> None:
        self.library = jit.load(IR, "test loops")
        self._run = self.library.function("run", None, ctypes.c_void_p, i64, i64, i64)
        self._nested = self.library.function("nested", None, ctypes.c_void_p, i64)

    def run(self, n: int, grain: int, repeats: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """(how often each iteration ran, which workers took part)."""
        a, seen = np.zeros(max(n, 1), "i8"), np.zeros(threads.MAX_THREADS, "i8")
        self._run((i64 * 2)(a.ctypes.data, seen.ctypes.data), n, grain, repeats)
        return a[: max(n, 0)], seen

    def nested(self, n: int) -> int:
        total = np.zeros(1, "i8")
        self._nested(total.ctypes.data, n)
        return int(total[0])


@pytest.fixture(scope="module")
def loops():
    return Loops()


@pytest.fixture(autouse=True)
def two_threads():
    before = threads.get_num_threads()
    threads.set_num_threads(2)
    yield
    threads.set_num_threads(before)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize("n", [-1, 0, 1, 2, 3, 10, 97, 1000])
@pytest.mark.parametrize("grain", [-5, 0, 1, 2, 7, 64, 5000])
def test_each_iteration_once(loops, count, n, grain):
    threads.set_num_threads(count)
    ran, seen = loops.run(n, grain, repeats=5)
    assert (ran == 5).all()
    assert not seen[count:].any()


def test_many_small_loops(loops):
    ran, _ = loops.run(64, 3, repeats=50_000)
    assert (ran == 50_000).all()


def test_sleeping_workers_are_woken(loops):
    threads.set_num_threads(4)
    took_part = np.zeros(threads.MAX_THREADS, bool)
    for _ in range(300):
        time.sleep(0.001)
        ran, seen = loops.run(200_000, 1000)
        assert (ran == 1).all()
        took_part |= seen.astype(bool)
        if took_part[:4].all():
            break
    assert took_part[:4].all()
    assert not took_part[4:].any()


def test_nested_loops_run_inline(loops):
    for _ in range(50):
        assert loops.nested(40) == 40 * 4950


def test_callers_on_several_python_threads(loops):
    failures = []

    def call(seed: int) -> None:
        generator = np.random.default_rng(seed)
        for _ in range(200):
            n, grain = int(generator.integers(1, 500)), int(generator.integers(1, 60))
            ran, _ = loops.run(n, grain, repeats=10)
            if not (ran == 10).all() or loops.nested(5) != 5 * 4950:
                failures.append((n, grain))

    callers = [threading.Thread(target=call, args=(seed,)) for seed in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not failures


def test_changing_the_number_of_threads_while_others_run(loops):
    stop, failures = threading.Event(), []

    def call() -> None:
        while not stop.is_set():
            ran, _ = loops.run(300, 5, repeats=20)
            if not (ran == 20).all():
                failures.append(ran)

    callers = [threading.Thread(target=call) for _ in range(2)]
    for caller in callers:
        caller.start()
    for index in range(60):
        threads.set_num_threads(1 + index % 5)
        assert threads.get_num_threads() == 1 + index % 5
    stop.set()
    for caller in callers:
        caller.join()
    assert not failures


def test_fewer_threads_end_the_others(loops):
    def alive():
        return [t for t in threading.enumerate() if t.name.startswith("flambeau-worker")]

    threads.set_num_threads(5)
    loops.run(1000, 1)
    assert len(alive()) == 4
    threads.set_num_threads(2)
    loops.run(1000, 1)
    assert len(alive()) == 1
    threads.set_num_threads(1)
    ran, seen = loops.run(1000, 1)
    assert not alive()
    assert (ran == 1).all()
    assert seen.sum() == 1


@pytest.mark.parametrize("wrong", [0, -1])
def test_number_of_threads_is_positive(wrong):
    with pytest.raises(RuntimeError, match="positive"):
        threads.set_num_threads(wrong)


@pytest.mark.parametrize("wrong", [1.5, "2", None, True])
def test_number_of_threads_is_an_int(wrong):
    with pytest.raises(TypeError, match="int"):
        threads.set_num_threads(wrong)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_child_of_a_fork_has_its_own_pool(loops):
    threads.set_num_threads(3)
    loops.run(1000, 1)
    for _ in range(5):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                signal.alarm(20)
                none_yet = not any(t.name.startswith("flambeau") for t in threading.enumerate())
                ran, _ = loops.run(1000, 1, repeats=100)
                there = sum(t.name.startswith("flambeau") for t in threading.enumerate())
                again = jit.load(IR.replace("i64 100", "i64 101"), "in the child")
                code = 0 if none_yet and (ran == 100).all() and there == 2 and again else 2
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        ran, _ = loops.run(1000, 1, repeats=10)
        assert (ran == 10).all()


PRELUDE = f"""
import atexit, ctypes, os, signal, sys, threading, time
import importlib.util
spec = importlib.util.spec_from_file_location("loops_of_the_test", {__file__!r})
test = importlib.util.module_from_spec(spec); spec.loader.exec_module(test)
threads_ = test.threads
loops = test.Loops()
"""


def python(script: str, **environment: str) -> subprocess.Popen:
    """A process that runs `script` after the prelude; its output is captured."""
    return subprocess.Popen(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(script)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, **environment},
    )  # fmt: skip


def finish(process: subprocess.Popen) -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, out, err


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        ("", 0),
        ("sys.exit(3)", 3),
        ("raise ValueError('on purpose')", 1),
        ("os._exit(4)", 4),
        # a daemon thread is in the middle of a loop when the interpreter ends
        (
            "threading.Thread(target=lambda: loops.run(1000, 1, 10**9), daemon=True).start()\n"
            "time.sleep(.05)",
            0,
        ),
        # an ordinary thread goes on after the main one
        ("threading.Thread(target=lambda: [time.sleep(.1), loops.run(1000, 1)]).start()", 0),
        # the first loop of all in an exit handler
        ("threads_.set_num_threads(2)\natexit.register(lambda: loops.run(1000, 1))", 0),
    ],
)  # fmt: skip
def test_interpreter_exit(ending, code):
    result, _, err = finish(python(f"threads_.set_num_threads(3); loops.run(1000, 1)\n{ending}"))
    assert result == code, err
    if code == 0:
        assert not err


def test_interrupt_reaches_the_main_thread():
    process = python("""
        threads_.set_num_threads(3)
        loops.run(1000, 1)
        try:
            print("ready", flush=True)
            while True:
                loops.run(1000, 1, 100)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        try:
            print("again", flush=True)
            time.sleep(50)
        except KeyboardInterrupt:
            sys.exit(7)
    """)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "interrupted\n"
    assert process.stdout.readline() == "again\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert finish(process)[0] == 7


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"FLAMBEAU_NUM_THREADS": "3", "OMP_NUM_THREADS": "5"}, "3"),
        ({"OMP_NUM_THREADS": "5,2"}, "5"),
        ({"OMP_NUM_THREADS": "nonsense"}, None),
    ],
)
def test_number_of_threads_from_the_environment(environment, expected):
    settings = {"FLAMBEAU_NUM_THREADS": "", "OMP_NUM_THREADS": "", **environment}
    code, out, err = finish(python("print(threads_.get_num_threads())", **settings))
    assert code == 0, err
    if expected is None:
        assert 1 <= int(out) <= os.cpu_count()
    else:
        assert out.strip() == expected


def test_wrong_number_of_threads_in_the_environment_is_named():
    code, _, err = finish(python("threads_.get_num_threads()", FLAMBEAU_NUM_THREADS="many"))
    assert code == 1
    assert "FLAMBEAU_NUM_THREADS must be a positive integer, but got 'many'" in err
