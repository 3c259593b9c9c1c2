"""The program's front door: help, version, and commands that do not exist."""

from __future__ import annotations

from pathlib import Path

import pytest

import flambeau
from flambeau import cli
from flambeau.commands import bench
from tests.cli.program import flambeau as run_flambeau


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"flambeau {flambeau.__version__}\n"


def test_help_names_every_command_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    for name, command in cli.COMMANDS.items():
        assert f"  {name} " in shown
        assert command.example in shown


def test_without_a_command_it_shows_the_help_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert "usage:" in capsys.readouterr().out


def test_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["trian"]) == 2
    shown = capsys.readouterr().err
    assert "'trian'" in shown
    assert ", ".join(cli.COMMANDS) in shown


@pytest.mark.parametrize("command", sorted(cli.COMMANDS))
def test_help_of_each_command_teaches_by_example(command: str, tmp_path: Path) -> None:
    ended = run_flambeau(command, "--help", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert f"usage: flambeau {command}" in ended.stdout
    assert "examples:" in ended.stdout


def test_benchmarks_are_found_in_a_source_tree_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = bench.folder()
    assert root is not None
    assert (root / "bench").is_dir()
    called: list[list[str]] = []
    monkeypatch.setattr(bench.subprocess, "call", lambda words, cwd: called.append(words) or 3)
    assert cli.main(["bench", "--quick", "--case", "mlp"]) == 3
    assert called[0][1:] == ["-m", "bench", "--quick", "--case", "mlp"]
    monkeypatch.setattr(bench.flambeau, "__file__", str(tmp_path / "flambeau" / "__init__.py"))
    assert cli.main(["bench"]) == 2
    assert "part of the source tree" in capsys.readouterr().err


def test_help_does_not_load_the_commands(tmp_path: Path) -> None:
    ended = run_flambeau(
        "run", "-c", "import sys; print([m for m in sys.modules if m == 'rich'])", cwd=tmp_path
    )
    assert ended.stdout == "[]\n", ended.stderr
