"""The examples give the losses that they give with PyTorch, step by step."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.program import ROOT
from tests.cli.test_examples import EXAMPLES, losses
from tests.parity.both import with_both

OPTIONS = {"char_gpt.py": ["--tokens", "0"]}
NOT_IN_PYTORCH = ["export_lstm.py", "long_context.py"]
"""PyTorch's export fixes the length of an LSTM, and has no gradients of flex_attention on CPUs."""
TOLERANCE = 2e-3
"""Relative: rounding differs, and grows over the steps."""


@pytest.mark.parametrize("name", [x for x in EXAMPLES if x not in NOT_IN_PYTORCH])
def test_the_losses_are_pytorchs(name: str, tmp_path: Path) -> None:
    words = [str(ROOT / "examples" / name), *OPTIONS.get(name, [])]
    theirs, ours = with_both(tmp_path, *words)
    expected = losses(theirs)
    assert len(expected) >= 5
    assert losses(ours) == pytest.approx(expected, rel=TOLERANCE, abs=2e-6)
    last_of_ours, last_of_theirs = (x.splitlines()[-1].split() for x in (ours, theirs))
    assert last_of_ours[:2] == last_of_theirs[:2]
