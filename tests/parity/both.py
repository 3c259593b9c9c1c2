"""A program run with PyTorch and with flambeau, and what the two print."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.program import ROOT, SECONDS, environment
from tests.cli.program import flambeau as run_flambeau


def _vendor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.read_text() if cpuinfo.exists() else platform.processor()


#: For what PyTorch draws by Intel's library on Intel's processors, where it drops other elements.
not_intel = pytest.mark.skipif("Intel" in _vendor(), reason="other random numbers on Intel")


def with_both(folder: Path, *command: str, packages: str = "", **env: str) -> tuple[str, str]:
    """What a program prints with PyTorch, and with `flambeau run`; it must end well with both.

    Args:
        folder: where it runs.
        command: the program and its arguments.
        packages: a search path of packages that it needs besides.
        env: of its environment.
    """
    theirs = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, **env, "PYTHONPATH": packages},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert theirs.returncode == 0, theirs.stderr
    path = os.pathsep.join(filter(None, (str(ROOT), packages)))
    mine = {**environment(), **env, "PYTHONPATH": path}
    ours = run_flambeau("run", *command, cwd=folder, env=mine)
    assert ours.returncode == 0, ours.stderr
    return theirs.stdout, ours.stdout


def words(text: str) -> list[list[float | str]]:
    """The lines of an output as numbers and other words."""
    return [[number(word) for word in line.split()] for line in text.splitlines()]


def number(word: str) -> float | str:
    """A word as a number, where it is one."""
    try:
        return float(word)
    except ValueError:
        return word


def near(lines: list[list[float | str]], rtol: float, atol: float) -> list[list[Any]]:
    """The lines of an output to compare with, numbers to tolerances and other words exactly."""
    return [
        [pytest.approx(w, rel=rtol, abs=atol) if isinstance(w, float) else w for w in line]
        for line in lines
    ]
