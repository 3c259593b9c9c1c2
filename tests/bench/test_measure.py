"""The benchmark's own machinery: processes, turns, ratios and what it says of failures."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench import __main__ as command
from bench.contenders import CONTENDERS, Failed, Process
from bench.footprint import installed_bytes, needs
from bench.measure import (
    Figures,
    Row,
    Settings,
    case_names,
    contenders_of,
    measure_case,
    variants_of,
)
from bench.report import recording, seconds

ROOT = Path(__file__).resolve().parents[2]
SHORT = Settings(rounds=2, threads=1, seconds=0.001, quick=True, cold=False)


def test_a_case_is_measured_in_its_own_process() -> None:
    said: list[str] = []
    (row,) = measure_case("gemm", ["64"], ["limit"], SHORT, said.append)
    figures = row.figures["limit"]
    assert not figures.error
    assert 0 < figures.best <= figures.wall
    assert figures.rate == pytest.approx(2 * 64**3 / figures.wall)
    assert figures.peak > 10e6  # an interpreter is larger than that
    assert [s for s in said if "round" in s] == [f"gemm 64: round {n} of 2" for n in (1, 2)]


def test_what_a_contender_says_last_is_kept(tmp_path: Path) -> None:
    broken = dataclasses.replace(
        CONTENDERS["limit"], command=(sys.executable, "-c", "raise SystemExit('out of order')")
    )
    with pytest.raises(Failed, match="out of order"), Process(broken, "gemm", 1, tmp_path):
        pass


def test_an_error_in_a_case_leaves_the_process_usable(tmp_path: Path) -> None:
    with Process(CONTENDERS["limit"], "gemm", 1, tmp_path) as process:
        with pytest.raises(Failed, match="invalid literal for int"):
            process.ask("setup", variant="huge")
        assert process.ask("setup", variant="64")["work"] == 2 * 64**3
        with pytest.raises(Failed, match="unknown request"):
            process.ask("dance")


def test_a_case_that_fails_is_reported_in_its_row() -> None:
    rows = list(measure_case("gemm", ["nine", "64"], ["limit"], SHORT, lambda line: None))
    assert "invalid literal" in rows[0].figures["limit"].error
    assert not rows[1].figures["limit"].error


def test_the_ratio_is_against_the_faster_of_the_two_torches() -> None:
    row = Row("case", "variant", {"flambeau": Figures(wall=2.0), "torch": Figures(wall=6.0)})
    assert row.ratio() == 3
    row.figures["compile"] = Figures(wall=4.0)
    assert row.ratio() == 2
    row.figures["compile"].error = "failed"
    assert row.ratio() == 3
    row.figures["jax"] = Figures(wall=0.1)
    assert row.ratio() == 3
    del row.figures["flambeau"]
    assert row.ratio() is None


@pytest.mark.parametrize(
    ("checks", "expected"),
    [((5.62586, 5.62587), False), ((5.62, 5.72), True), ((None, 1.0), False), ((0.0, 0.0), False)],
)
def test_results_that_disagree_are_noticed(
    checks: tuple[float | None, float], expected: bool
) -> None:
    row = Row("case", "v", {str(n): Figures(check=check) for n, check in enumerate(checks)})
    assert row.disagreement() is expected


def test_recording_costs_are_solved_from_the_chains() -> None:
    record, node, flush = 1e-6, 0.5e-6, 7e-6
    walls = {"add": record, "add_grad": 2e-6}
    for count in (1, 10, 100):
        walls[f"flush_{count}"] = (flush + count * (record + node)) / count
    rows = [Row("dispatch", name, {"flambeau": Figures(wall=wall)}) for name, wall in walls.items()]
    costs = recording(rows)
    assert costs["record add"] == pytest.approx(record)
    assert costs["flush, a node"] == pytest.approx(node)
    assert costs["flush, fixed"] == pytest.approx(flush)
    assert recording(rows[:3]) == {}


@pytest.mark.parametrize(
    ("value", "expected"),
    [(2.5, "2.5 s"), (0.0123, "12.3 ms"), (4.56e-6, "4.56 us"), (7e-9, "7 ns"), (None, "-")],
)
def test_times_carry_their_units(value: float | None, expected: str) -> None:
    assert seconds(value) == expected


@pytest.mark.parametrize("case", case_names())
def test_every_case_says_what_it_measures(case: str) -> None:
    assert set(variants_of(case, quick=True)) <= set(variants_of(case, quick=False))
    assert f"`{case}`" in (ROOT / "docs" / "benchmarks.md").read_text()


def test_contenders_without_a_form_of_a_case_are_left_out() -> None:
    assert [c.name for c in contenders_of("dispatch", ["jax", "limit"])] == []


def test_requirements_of_other_systems_and_extras_are_not_counted() -> None:
    lines = [
        "numpy>=2",
        "jax[cpu] ; extra == 'all'",
        "pywin32; sys_platform == 'win32'",
        "a.b (>1)",
    ]
    assert needs(lines) == ["numpy", "a.b"]
    assert installed_bytes("flambeau") > installed_bytes("numpy") > 10e6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--case", "nothing"], "no case named 'nothing'"),
        (["--case", "gemm/65"], "no variant '65'"),
        (["--contenders", "abacus"], "no contender named abacus"),
    ],
)
def test_wrong_options_are_refused(
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", *arguments])
    with pytest.raises(SystemExit) as stop:
        command.main()
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_the_command_prints_a_table_and_writes_figures(tmp_path: Path) -> None:
    written = tmp_path / "figures.json"
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "bench", "--quick", "--rounds", "1", "--seconds", "0.01"),
            *("--case", "dispatch", "--contenders", "flambeau", "--json", str(written)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "dispatch flush_100" in ended.stdout
    rows = {
        row["variant"]: row["figures"]["flambeau"]
        for row in json.loads(written.read_text())["rows"]
    }
    assert set(rows) == {"add", "add_grad", "flush_1", "flush_10", "flush_100"}
    # the chains' results: the last element is 1 + 2 N
    assert [rows[f"flush_{n}"]["check"] for n in (1, 10, 100)] == [3, 21, 201]
    assert "flush, a node" in ended.stdout
