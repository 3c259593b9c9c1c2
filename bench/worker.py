"""One contender's process: sets cases up and times their steps, told by lines of JSON.

Started as `python worker.py KIND CASE THREADS`; for flambeau through `flambeau run`, so that the
case's `import torch` is answered by it. Reads requests from standard input and answers each with
one line on what was standard output (which is then pointed at standard error, so that nothing a
library prints gets between the answers):

    {"do": "setup", "variant": V}   -> {"warm_up": s, "check": x, "count": n, "work": w, "unit": u}
    {"do": "run", "seconds": s}     -> {"wall": s, "cpu": s, "steps": n}, times of one step
    {"do": "memory"}                -> {"peak": bytes}, since the last setup
    {"do": "quit"}

An error is answered with {"error": traceback} and the process goes on.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.util
import json
import os
import resource
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent

#: The first steps compile, allocate and, on some devices, capture; the later ones are the rule.
WARM_UP_STEPS = 3


def identity(function: Callable[..., Any]) -> Callable[..., Any]:
    """What `compile` is where nothing is compiled ahead."""
    return function


def load_case(folder: str, case: str) -> Any:
    """Import a case's file."""
    path = HERE / folder / f"{case}.py"
    spec = importlib.util.spec_from_file_location(f"bench_case_{case}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def reset_peak() -> bool:
    """Forget the peak memory so far; not every system lets a process do so."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def peak_memory() -> int:
    """Peak resident bytes since `reset_peak`, or since the start where it could not."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Worker:
    """The state between requests: the case, and the step that is being timed."""

    def __init__(self, kind: str, case: str, threads: int) -> None:
        self.kind = kind
        self.compile: Callable[[Callable[..., Any]], Callable[..., Any]] = identity
        started = time.perf_counter()
        if kind == "jax":
            library = importlib.import_module("jax")
            self.compile = library.jit
        elif kind == "limit":
            library = importlib.import_module("llvmlite")
        else:
            library = importlib.import_module("torch")
            library.set_num_threads(threads)
            if kind == "compile":
                self.compile = library.compile
        self.import_seconds = time.perf_counter() - started
        self.version = str(library.__version__)
        folder = {"jax": "cases_jax", "limit": "limits"}.get(kind, "cases")
        self.case = load_case(folder, case)
        self.threads = threads
        self.step: Callable[[], Any] = lambda: None
        self.steps_in_a_second = 1.0

    def setup(self, variant: str) -> dict[str, Any]:
        """Make a variant's step and run it until it is warm."""
        self.step = lambda: None  # the earlier variant's memory goes before this one's peak counts
        gc.collect()
        reset_peak()
        started = time.perf_counter()
        made = self.case.setup(variant, self.compile)
        self.step = made["step"]
        check = self.step()
        if hasattr(check, "detach"):
            check = check.detach()
        for _ in range(WARM_UP_STEPS - 1):
            self.step()
        warm_up = time.perf_counter() - started
        started = time.perf_counter()
        steps = 0
        while steps < 3 or (time.perf_counter() - started < 0.02 and steps < 1000):
            self.step()
            steps += 1
            if time.perf_counter() - started > 1:
                break
        one = (time.perf_counter() - started) / steps
        self.steps_in_a_second = 1 / one
        return {
            "warm_up": max(0.0, warm_up - WARM_UP_STEPS * one),
            "check": None if check is None else float(check),
            "count": made.get("count", 1),
            "work": made.get("work", 0),
            "unit": made.get("unit", ""),
        }

    def run(self, seconds: float) -> dict[str, Any]:
        """Time about `seconds` worth of steps."""
        steps = max(1, round(self.steps_in_a_second * seconds))
        step = self.step
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in range(steps):
            step()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        self.steps_in_a_second = steps / wall
        return {"wall": wall / steps, "cpu": cpu / steps, "steps": steps}

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what one request asks."""
        if request["do"] == "setup":
            return self.setup(request["variant"])
        if request["do"] == "run":
            return self.run(request["seconds"])
        if request["do"] == "memory":
            return {"peak": peak_memory()}
        raise ValueError(f"unknown request {request}")


def main() -> None:
    """Serve requests until told to quit or the other side is gone."""
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def reply(message: dict[str, Any]) -> None:
        replies.write(json.dumps(message) + "\n")

    kind, case, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
    try:
        worker = Worker(kind, case, threads)
    except Exception:
        reply({"error": traceback.format_exc()})
        return
    reply({"version": worker.version, "import": worker.import_seconds})
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "quit":
            return
        try:
            reply(worker.answer(request))
        except Exception:
            reply({"error": traceback.format_exc()})


if __name__ == "__main__":
    main()
