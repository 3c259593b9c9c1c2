"""`./check` runs its steps in order, stops at the first that fails, and shows why."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import subprocess
import sys
from types import ModuleType

import pytest

from tests.house.tree import ROOT


@pytest.fixture
def check() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("check", str(ROOT / "check"))
    spec = importlib.util.spec_from_loader("check", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def command(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_it_stops_at_the_first_failure(
    check: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = {
        "first": command("print('much'); print('in short')"),
        "second": command("print('what went wrong'); raise SystemExit(3)"),
        "third": command("print('never')"),
    }
    monkeypatch.setattr(check, "steps", lambda python, fix: plan | {"tests": command("")})
    monkeypatch.setattr(sys, "argv", ["check", "--fast"])
    assert check.main() == 1
    printed = capsys.readouterr().out
    assert "in short" in printed
    assert "much" not in printed
    assert "what went wrong" in printed
    assert "third" not in printed


def test_its_steps_cover_every_folder_with_sources(check: ModuleType) -> None:
    tops = {
        path.relative_to(ROOT).parts[0]
        for path in ROOT.glob("*/**/*.py")
        if not path.relative_to(ROOT).parts[0].startswith(".")
    }
    assert tops <= set(check.PATHS) | {"build", "dist", "venv"}


def test_the_slow_tests_can_be_left_out(check: ModuleType) -> None:
    plan = check.steps("python", fix=False)
    steps = ["format", "lint", "types", "types-hidden", "docs", "house", "tests"]
    assert list(plan) == steps
    assert [name for name in check.steps("python", fix=True) if name.startswith("fix-")][:2] == [
        "fix-lint",
        "fix-format",
    ]


def test_unknown_steps_are_refused() -> None:
    ended = subprocess.run(
        [sys.executable, "check", "--only", "spelling"], cwd=ROOT, capture_output=True, text=True
    )
    assert ended.returncode == 2
    assert "no step named spelling; there are format, lint, types" in ended.stderr
