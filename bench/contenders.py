"""The programs that are compared, each in a process of its own, spoken to by lines of JSON."""

from __future__ import annotations

import importlib.util
import json
import os
import select
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
WORKER = str(HERE / "worker.py")

#: What an answer may take: compiling a training step for the first time included.
PATIENCE_SECONDS = 600


class Failed(RuntimeError):
    """A contender could not do what was asked; the message holds its traceback."""


@dataclass(frozen=True)
class Contender:
    """A way to run the cases.

    Attributes:
        name: how the options and the results call it.
        title: how the table calls it.
        package: what must be installed for it.
        kind: what the worker is told.
        command: what comes before the worker's path.
        folder: where its cases are.
    """

    name: str
    title: str
    package: str
    kind: str
    command: tuple[str, ...] = (sys.executable,)
    folder: str = "cases"

    def is_installed(self) -> bool:
        """Whether its package can be imported."""
        return importlib.util.find_spec(self.package) is not None

    def has(self, case: str) -> bool:
        """Whether there is a form of this case for it."""
        return (HERE / self.folder / f"{case}.py").exists()


CONTENDERS = {
    contender.name: contender
    for contender in (
        Contender(
            "flambeau",
            "flambeau",
            "flambeau",
            "torch",
            (sys.executable, "-m", "flambeau", "run"),
        ),
        Contender(
            "replay",
            "flambeau.compile",
            "flambeau",
            "compile",
            (sys.executable, "-m", "flambeau", "run"),
        ),
        Contender("torch", "torch eager", "torch", "torch"),
        Contender("compile", "torch.compile", "torch", "compile"),
        Contender("jax", "jax.jit", "jax", "jax", folder="cases_jax"),
        Contender("limit", "machine limit", "llvmlite", "limit", folder="limits"),
    )
}


def environment(threads: int, caches: Path) -> dict[str, str]:
    """The variables every contender runs under: the same threads, caches of this run's own."""
    count = str(threads)
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(":"),
        "FLAMBEAU_NUM_THREADS": count,
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "OPENBLAS_NUM_THREADS": count,
        "FLAMBEAU_CACHE_DIR": str(caches / "flambeau"),
        "TORCHINDUCTOR_CACHE_DIR": str(caches / "inductor"),
        "JAX_COMPILATION_CACHE_DIR": str(caches / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "JAX_PLATFORMS": "cpu",
    }


def processors(threads: int) -> set[int]:
    """The processors that every contender is bound to, the libraries' own settings aside."""
    return set(sorted(os.sched_getaffinity(0))[:threads])


@dataclass
class Process:
    """A contender at work on one case. Use it as a context manager."""

    contender: Contender
    case: str
    threads: int
    caches: Path
    version: str = ""
    import_seconds: float = 0.0
    _errors: Any = field(default_factory=lambda: tempfile.TemporaryFile("w+"))

    def __enter__(self) -> Self:
        allowed = processors(self.threads)
        self._process = subprocess.Popen(
            [*self.contender.command, WORKER, self.contender.kind, self.case, str(self.threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment(self.threads, self.caches),
            cwd=ROOT,
            preexec_fn=lambda: os.sched_setaffinity(0, allowed),
        )
        self._pending = b""
        try:
            hello = self._answer()
        except BaseException:
            self._end()
            raise
        self.version, self.import_seconds = hello["version"], hello["import"]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end()

    def ask(self, do: str, **more: Any) -> dict[str, Any]:
        """Send a request and return the answer.

        Raises:
            Failed: where the worker answered with an error, died, or did not answer in time.
        """
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(json.dumps({"do": do, **more}).encode() + b"\n")
            stdin.flush()
        except BrokenPipeError:
            raise Failed(self._last_words()) from None
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        stdout = self._process.stdout
        assert stdout is not None
        while b"\n" not in self._pending:
            ready, _, _ = select.select([stdout], [], [], PATIENCE_SECONDS)
            if not ready:
                raise Failed(f"no answer in {PATIENCE_SECONDS} s")
            data = os.read(stdout.fileno(), 65536)
            if not data:
                raise Failed(self._last_words())
            self._pending += data
        line, self._pending = self._pending.split(b"\n", 1)
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise Failed(answer["error"])
        return answer

    def _last_words(self) -> str:
        self._process.wait()
        self._errors.seek(0)
        return f"exit status {self._process.returncode}\n{self._errors.read()[-4000:]}"

    def _end(self) -> None:
        """Closing its input ends a worker that is waiting; one that is stuck is killed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.close()
            self._process.wait(timeout=5)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()
