"""Programs in the styles of PyTorch's tutorials print the same with both libraries."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.program import ROOT, SECONDS
from tests.cli.program import flambeau as run_flambeau
from tests.parity.test_programs import words

FOLDER = ROOT / "examples" / "tutorials"
PROGRAMS = sorted(path.name for path in FOLDER.glob("*.py") if path.name != "start.py")
RTOL, ATOL = 1e-3, 5e-5
"""Rounding differs, and grows over the steps."""


def test_there_are_twelve_and_more() -> None:
    assert len(PROGRAMS) >= 12


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
    assert expected[0]
    assert len(found) == len(expected)
    for got, want in zip(found, expected, strict=True):
        assert got == [
            pytest.approx(w, rel=RTOL, abs=ATOL) if isinstance(w, float) else w for w in want
        ]
