"""Generated files say what the generator would write now."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.house.tree import GENERATED, ROOT

GENERATOR = ROOT / "tools" / "generate.py"


@pytest.mark.skipif(not GENERATOR.exists(), reason="there is no generator in this checkout")
def test_generated_files_are_fresh() -> None:
    check = subprocess.run(
        [sys.executable, str(GENERATOR), "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert check.returncode == 0, (
        f"run {GENERATOR.relative_to(ROOT)} and commit what it writes\n{check.stdout}{check.stderr}"
    )


@pytest.mark.skipif(not GENERATOR.exists(), reason="there is no generator in this checkout")
@pytest.mark.parametrize("name", sorted(GENERATED))
def test_generated_files_exist(name: str) -> None:
    assert (ROOT / name).is_file()
