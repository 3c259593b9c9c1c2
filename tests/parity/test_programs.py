"""Whole PyTorch programs print the same numbers with flambeau, step by step.

The programs are files of `programs/`; each runs unmodified with both libraries, with weights and
data from NumPy.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.parity.both import near, with_both, words

FOLDER = Path(__file__).parent / "programs"
PROGRAMS = sorted(path.name for path in FOLDER.glob("*.py"))
RTOL = 1e-4
"""Rounding differs, and grows over the steps."""
ATOL = 1e-6


def test_there_are_programs() -> None:
    assert len(PROGRAMS) >= 7


@pytest.mark.parametrize("name", PROGRAMS)
def test_it_prints_what_it_prints_with_pytorch(name: str, tmp_path: Path) -> None:
    theirs, ours = with_both(tmp_path, str(FOLDER / name))
    expected = words(theirs)
    assert sum(line[0] == "loss" for line in expected) >= 8
    assert words(ours) == near(expected, RTOL, ATOL)
