"""Starting the ``flambeau`` program the way a user does, in a process of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 240


def environment(**others: str) -> dict[str, str]:
    """The environment of a program that finds this checkout."""
    path = os.pathsep.join(part for part in (str(ROOT), os.environ.get("PYTHONPATH", "")) if part)
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **others}


def start(*words: str, cwd: Path, env: dict[str, str] | None = None, **options: Any) -> Any:
    """``python -m flambeau WORDS`` as a running process with its output in pipes."""
    return subprocess.Popen(
        [sys.executable, "-m", "flambeau", *words],
        cwd=cwd,
        env=env or environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def flambeau(
    *words: str, cwd: Path, env: dict[str, str] | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """``python -m flambeau WORDS``, waited for."""
    return subprocess.run(
        [sys.executable, "-m", "flambeau", *words],
        cwd=cwd,
        env=env or environment(),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        **options,
    )


def running() -> Iterator[tuple[int, list[str]]]:
    """The number and the command line's words of every process of this machine that has any."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            yield int(path.parent.name), os.fsdecode(path.read_bytes()).split("\0")
