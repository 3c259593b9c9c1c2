"""Programs in the styles of PyTorch's tutorials print the same with both libraries."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.program import ROOT
from tests.parity.both import near, not_intel, with_both, words

FOLDER = ROOT / "examples" / "tutorials"
PROGRAMS = sorted(path.name for path in FOLDER.glob("*.py"))
DROPPING = {"characters.py", "image_classifier.py", "language_model.py", "translation.py"}
RTOL, ATOL = 1e-3, 5e-5
"""Rounding differs, and grows over the steps."""


def test_there_are_twelve_and_more() -> None:
    assert len(PROGRAMS) >= 12


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[not_intel] * (n in DROPPING)) for n in PROGRAMS]
)
def test_it_prints_what_it_prints_with_pytorch(name: str, tmp_path: Path) -> None:
    theirs, ours = with_both(tmp_path, str(FOLDER / name))
    expected = words(theirs)
    assert expected[0]
    assert words(ours) == near(expected, RTOL, ATOL)
