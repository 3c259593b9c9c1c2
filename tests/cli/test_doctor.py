"""``flambeau doctor``: what it reports, and what it says when something is broken."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau.commands import doctor
from flambeau.runtime import objects
from tests.cli.program import environment
from tests.cli.program import flambeau as run_flambeau


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_GEMM_SECONDS", 0.02)
    monkeypatch.setattr(doctor, "_SIZE", 128)


def check(report: dict[str, Any], name: str) -> dict[str, Any]:
    return next(check for check in report["checks"] if check["name"] == name)


def test_a_healthy_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main(["--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["healthy"] is True
    assert {entry["state"] for entry in report["checks"]} <= {"ok", "warning"}
    assert report["versions"]["numpy"] == np.__version__
    assert report["versions"]["python"] == platform.python_version()
    assert report["versions"]["llvmlite"] == importlib.metadata.version("llvmlite")
    assert report["versions"]["flambeau"] == flambeau.__version__
    assert report["cpu"]["threads"] == flambeau.get_num_threads()
    assert report["cpu"]["vector_bits"] in (128, 256, 512)
    assert report["devices"][0]["type"] == "cpu"
    assert report["gemm"]["gflops"] > 0
    gemm = report["gemm"]
    assert gemm["share"] == pytest.approx(gemm["gflops"] / gemm["limit_gflops"], abs=2e-3)


def test_the_report_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main([]) == 0
    shown = capsys.readouterr().out
    for word in ("machine", "software", "checks", "GFLOP/s", "numpy", "threads", "object cache"):
        assert word in shown
    assert "next step" not in shown


def test_the_cache_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = objects.ObjectCache(tmp_path / "objects", limit=1 << 20)
    monkeypatch.setattr(objects, "default", lambda: cache)
    assert doctor.cache_report()["files"] == 0
    cache.put(objects.digest("a"), b"x" * 1000)
    cache.put(objects.digest("b"), b"y" * 2000)
    report = doctor.cache_report()
    assert report["files"] == 2
    on_disk = sum(path.stat().st_size for path in (tmp_path / "objects").iterdir())
    assert report["bytes"] == on_disk > 3000
    assert report["limit"] == 1 << 20


def test_a_cache_that_cannot_be_written_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    env = environment(FLAMBEAU_CACHE_DIR=str(tmp_path / "file"))
    ended = run_flambeau("doctor", "--json", cwd=tmp_path, env=env)
    assert ended.returncode == 0, ended.stderr
    found = check(json.loads(ended.stdout), "cache")
    assert found["state"] == "warning"
    assert "FLAMBEAU_CACHE_DIR" in found["advice"]


def test_a_cache_turned_off_is_a_warning(tmp_path: Path) -> None:
    ended = run_flambeau("doctor", "--json", cwd=tmp_path, env=environment(FLAMBEAU_CACHE="0"))
    assert ended.returncode == 0, ended.stderr
    assert check(json.loads(ended.stdout), "cache")["state"] == "warning"


def test_wrong_results_are_reported_with_a_next_step(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    product = flambeau.matmul
    monkeypatch.setattr(flambeau, "matmul", lambda a, b: product(a, b) * 1.5)
    assert doctor.main([]) == 1
    shown = capsys.readouterr().out
    assert "a matrix product is wrong" in shown
    assert "next step:" in shown
    assert "GFLOP/s" not in shown


def test_an_exception_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise RuntimeError("LLVM ERROR: no such instruction")

    monkeypatch.setattr(flambeau, "linspace", fail)
    assert doctor.main(["--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["healthy"] is False
    assert check(report, "compiler")["state"] == "broken"
    assert "no such instruction" in check(report, "compiler")["found"]


def test_a_missing_package_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.metadata.version

    def version(name: str) -> str:
        if name == "safetensors":
            raise importlib.metadata.PackageNotFoundError(name)
        return find(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    report = doctor.examine()
    assert report["healthy"] is False
    assert check(report, "packages")["advice"] == "pip install safetensors"


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="Linux's account of memory")
def test_memory() -> None:
    memory = doctor.memory_report()
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert memory["total"] == pytest.approx(total, rel=0.02)
    assert memory["available"] is not None
    assert 0 < memory["available"] <= memory["total"]
