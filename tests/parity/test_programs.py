"""Whole PyTorch programs print the same numbers with flambeau, step by step.

The programs are files of `programs/`; each runs unmodified with both libraries, with weights and
data from NumPy.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.program import SECONDS
from tests.cli.program import flambeau as run_flambeau

FOLDER = Path(__file__).parent / "programs"
PROGRAMS = sorted(path.name for path in FOLDER.glob("*.py"))
RTOL = 1e-4
"""Rounding differs, and grows over the steps."""
ATOL = 1e-6


def words(text: str) -> list[list[float | str]]:
    """The lines of an output as numbers and other words."""
    return [[number(word) for word in line.split()] for line in text.splitlines()]


def number(word: str) -> float | str:
    """A word as a number, where it is one."""
    try:
        return float(word)
    except ValueError:
        return word


def test_there_are_programs() -> None:
    assert len(PROGRAMS) >= 7


@pytest.mark.parametrize("name", PROGRAMS)
def test_it_prints_what_it_prints_with_pytorch(name: str, tmp_path: Path) -> None:
    path = str(FOLDER / name)
    theirs = subprocess.run(
        [sys.executable, path],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=True,
    )
    ours = run_flambeau("run", path, cwd=tmp_path)
    assert ours.returncode == 0, ours.stderr
    expected, found = words(theirs.stdout), words(ours.stdout)
    assert sum(line[0] == "loss" for line in expected) >= 8
    assert len(found) == len(expected)
    for got, want in zip(found, expected, strict=True):
        assert got == [
            pytest.approx(w, rel=RTOL, abs=ATOL) if isinstance(w, float) else w for w in want
        ]
