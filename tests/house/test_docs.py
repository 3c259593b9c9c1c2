"""Documentation is true: its code runs, its links lead somewhere, its commands are CI's."""

from __future__ import annotations

import doctest
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.house.tree import ROOT, files, module_name, python_files

PAGES = [name for name in files() if name.endswith(".md")]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
FENCE = re.compile(
    r"^(?:<!-- not run: (?P<excuse>.+?) -->\n)?```(?P<language>\w*)\n(?P<code>.*?)^```$",
    flags=re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    """A fenced block of a page."""

    line: int
    language: str
    code: str
    excuse: str | None


def blocks(name: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return [
        Block(text.count("\n", 0, m.start("code")) + 1, m["language"], m["code"], m["excuse"])
        for m in FENCE.finditer(text)
    ]


def run_examples(source: str, names: dict[str, Any], where: str, line: int = 0) -> None:
    """Run `>>>` examples and fail with doctest's report."""
    test = doctest.DocTestParser().get_doctest(source, names, where, where, line)
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    runner.run(test, out=report.append, clear_globs=False)
    names.update(test.globs)  # later blocks of a page go on where this one ended
    assert not runner.summarize(verbose=False).failed, "".join(report)


def run_with_torch_answered(code: str, folder: Path) -> None:
    """Run a PyTorch program the way users do."""
    script = folder / "program.py"
    script.write_text(code)
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    ended = subprocess.run(
        [sys.executable, "-m", "flambeau", "run", str(script)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


PAGES_WITH_CODE = [name for name in PAGES if any(b.language == "python" for b in blocks(name))]


@pytest.mark.parametrize("name", PAGES_WITH_CODE)
def test_code_on_pages_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Blocks of a page run in order and share their names."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__page__"}
    for block in blocks(name):
        if block.language != "python" or block.excuse:
            continue
        if re.search(r"^\s*(import|from) torch\b", block.code, flags=re.MULTILINE):
            run_with_torch_answered(block.code, tmp_path)
        elif ">>>" in block.code:
            run_examples(block.code, names, name, block.line)
        else:
            padding = "\n" * (block.line - 1)  # so that tracebacks give the page's line
            exec(compile(padding + block.code, str(ROOT / name), "exec"), names)


def documented_modules() -> list[str]:
    """Modules with examples in their docstrings."""
    return [
        module_name(name)
        for name in python_files("flambeau")
        if ">>>" in (ROOT / name).read_text(encoding="utf-8")
    ]


@pytest.mark.parametrize("name", documented_modules())
def test_examples_in_docstrings_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    flambeau = importlib.import_module("flambeau")
    for test in doctest.DocTestFinder(exclude_empty=True).find(module, name):
        test.globs = {**vars(module), "flambeau": flambeau}
        report: list[str] = []
        runner = doctest.DocTestRunner(optionflags=FLAGS)
        runner.run(test, out=report.append)
        assert not runner.summarize(verbose=False).failed, "".join(report)


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    text = FENCE.sub("", (ROOT / name).read_text(encoding="utf-8"))
    missing = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://", "mailto:", "#")):
            continue
        if not ((ROOT / name).parent / target.split("#")[0]).exists():
            missing.append(target)
    assert not missing, f"{name} links to {missing}"


def set_up_commands() -> list[str]:
    """The commands of the README that install something."""
    return [
        block.code.strip()
        for block in blocks("README.md")
        if block.language == "sh" and "pip install" in block.code
    ]


def test_the_readme_has_two_set_up_commands() -> None:
    commands = set_up_commands()
    assert len(commands) == 2, commands
    for command in commands:
        assert "\n" not in command, f"one command on one line, not {command!r}"
        assert command.startswith("python3 -m venv .venv && .venv/bin/pip install ")
    run, test = commands
    assert run.endswith("pip install . && .venv/bin/flambeau train"), run
    assert re.search(r"pip install -e '\.\[test\]' && \.venv/bin/python -m pytest\b", test), test


def test_ci_runs_the_commands_of_the_readme() -> None:
    """CI takes them out of the README at run time, so it holds no second copy of either."""
    listed = subprocess.run(
        ["bash", ".ci/run", "--list"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert listed.stdout.splitlines() == set_up_commands()
    script = (ROOT / ".ci" / "run").read_text()
    for line in script.splitlines():
        if not line.lstrip().startswith("#"):
            assert "-m pytest" not in line, line
            assert "flambeau train" not in line, line


def test_options_of_the_check_are_documented() -> None:
    ended = subprocess.run(
        [sys.executable, "check", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    contributing = (ROOT / "CONTRIBUTING.md").read_text()
    for option in sorted(set(re.findall(r"--\w+", ended.stdout)) - {"--help"}):
        assert f"`./check {option}" in contributing or option in contributing, option
