"""The examples run unchanged under ``flambeau run``, and learn."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.cli.program import ROOT
from tests.cli.program import flambeau as run_flambeau

EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.py"))
LAST_LOSS = {
    "autoencoder.py": 0.3,
    "char_gpt.py": 1.6,
    "ddp.py": 0.1,
    "export_lstm.py": 0.3,
    "linear_regression.py": 2e-4,
    "long_context.py": 3.0,
    "mlp_digits.py": 1.3,
}


def losses(output: str) -> list[float]:
    """The training losses that an example prints."""
    return [float(x) for x in re.findall(r"^(?:step|epoch).*loss ([\d.]+)", output, re.MULTILINE)]


def test_every_example_is_known() -> None:
    assert set(EXAMPLES) == set(LAST_LOSS)


@pytest.mark.parametrize("name", EXAMPLES)
def test_it_is_a_plain_pytorch_program(name: str) -> None:
    tree = ast.parse((ROOT / "examples" / name).read_text())
    imported = {
        (node.module or "") if isinstance(node, ast.ImportFrom) else alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert "torch" in imported
    assert not [name for name in imported if name.startswith("flambeau")]


@pytest.mark.parametrize("name", EXAMPLES)
def test_it_learns(name: str, tmp_path: Path) -> None:
    ended = run_flambeau("run", str(ROOT / "examples" / name), cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    history = losses(ended.stdout)
    assert len(history) >= 5
    assert history[-1] < min(LAST_LOSS[name], 0.6 * history[0])
