"""Other people's models and the examples', exported with open sizes: saved and loaded, and as ONNX
in onnxruntime."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.program import ROOT, environment
from tests.cli.program import flambeau as run_flambeau
from tests.parity.both import words
from tests.programs.packages import installed
from tests.programs.test_programs import CHOICE, FOLDER

#: Models of which `some` takes the first group.
MODELS = (
    ("llama", "bert"),
    ("gpt2", "t5", "vit", "whisper"),
    ("mixtral", "qwen", "gemma"),
    ("resnet18", "vit_b_16"),
)
FAR = 1e-5
"""Relative to the largest result."""

pytestmark = [pytest.mark.slow]


@pytest.mark.parametrize("names", MODELS if CHOICE == "all" else MODELS[:1], ids=" ".join)
def test_models_are_the_same_when_exported(names: tuple[str, ...], tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    if CHOICE == "none":
        pytest.skip("FLAMBEAU_TEST_PROGRAMS=none")
    found: list[str] = []
    for which in ("main", "vision"):
        where, reason = installed(which)
        if where is None:
            pytest.skip(reason)
        found.append(str(where))
    check("exported_models.py", names, tmp_path, *found)


def test_examples_are_the_same_when_exported(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    names = tuple(p.stem for p in sorted((ROOT / "examples").glob("*.py")) if p.stem != "ddp")
    check("exported_examples.py", names, tmp_path)


def check(script: str, names: tuple[str, ...], cwd: Path, *paths: str) -> None:
    """Run a script that says how far exported models are from theirs."""
    quiet = {"HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), *paths])}
    done = run_flambeau(
        *("run", str(FOLDER / script), *names), cwd=cwd, env={**environment(), **quiet}
    )
    assert done.returncode == 0, done.stderr
    lines = words(done.stdout)
    assert [line[0] for line in lines] == [name for name in names for _ in range(2)]
    for name, batch, time, *differences in lines:
        assert all(float(d) < FAR for d in differences), (name, batch, time)
