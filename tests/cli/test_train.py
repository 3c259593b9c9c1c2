"""``flambeau train``: learning, checkpoints, resuming, and everything that can go wrong."""

from __future__ import annotations

import errno
import itertools
import json
import math
import resource
import signal
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import flambeau
from flambeau.commands import trainer as trainer_module
from flambeau.commands.train import main, settle
from flambeau.commands.trainer import CheckpointError, Settings, warm_up_cosine
from tests.cli.program import SECONDS, environment, start
from tests.cli.program import flambeau as run_flambeau

SHAPE = ["--layers", "1", "--width", "16", "--heads", "2", "--context", "16"]
TINY = [*SHAPE, "--batch", "2", "--eval-steps", "10", "--sample", "8"]


@pytest.fixture
def text(tmp_path: Path) -> str:
    """A small text that is easy to learn."""
    path = tmp_path / "text"
    path.write_text("the quick brown fox jumps over the lazy dog\n" * 40)
    return str(path)


def rows(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def losses(out: Path) -> list[float]:
    return [row["loss"] for row in rows(out) if "loss" in row]


def weights(out: Path) -> dict[str, np.ndarray]:
    state = flambeau.load(out / "checkpoint.pt", weights_only=True)
    return {name: value.numpy() for name, value in state["model"].items()}


def assert_same_bits(a: Path, b: Path) -> None:
    assert losses(a) == losses(b)
    first, second = weights(a), weights(b)
    assert first.keys() == second.keys()
    for name in first:
        assert first[name].tobytes() == second[name].tobytes(), name


def test_it_learns_and_leaves_its_results(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(["--data", text, "--out", str(out), *TINY, "--steps", "40", "--lr", "1e-2"]) == 0
    history = losses(out)
    assert len(history) == 40
    assert history[0] == pytest.approx(math.log(256), abs=0.3)
    assert np.mean(history[-5:]) < 3.6
    validations = [row for row in rows(out) if "validation_loss" in row]
    assert [row["step"] for row in validations] == [10, 20, 30, 40]
    assert validations[-1]["validation_loss"] < validations[0]["validation_loss"]
    shown = capsys.readouterr().out
    assert "finished at step 40 of 40" in shown
    assert "the model goes on after" in shown
    assert "tokens/s" in shown
    ElementTree.parse(out / "loss.svg")
    assert list(out.glob("events.out.tfevents.*"))
    assert (out / "sample.txt").exists()
    assert not list(out.glob(".*"))  # no temporary files are left


def test_the_same_seed_gives_the_same_bits_and_another_does_not(text: str, tmp_path: Path) -> None:
    options = ["--data", text, *TINY, "--steps", "6", "--dropout", "0.1"]
    for name, seed in (("a", "3"), ("b", "3"), ("c", "4")):
        assert main([*options, "--out", str(tmp_path / name), "--seed", seed]) == 0
    assert_same_bits(tmp_path / "a", tmp_path / "b")
    assert losses(tmp_path / "a") != losses(tmp_path / "c")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_dtypes(dtype: str, text: str, tmp_path: Path) -> None:
    options = ["--data", text, *TINY, "--steps", "12", "--lr", "1e-2", "--dtype", dtype]
    assert main([*options, "--out", str(tmp_path / "run")]) == 0
    history = losses(tmp_path / "run")
    assert history[-1] < history[0] - 0.5
    state = flambeau.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    kept = "float64" if dtype == "float64" else "float32"  # bfloat16 is for what is computed
    assert {value.dtype for value in state["model"].values()} == {getattr(flambeau, kept)}


def test_a_run_killed_and_resumed_ends_with_the_same_bits(text: str, tmp_path: Path) -> None:
    options = ["--data", text, *TINY, "--steps", "20", "--save-steps", "4", "--dropout", "0.1"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    ended = run_flambeau("train", *options, "--out", str(whole), cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    process = start("train", *options, "--out", str(broken), cwd=tmp_path)
    give_up = time.monotonic() + SECONDS
    while not (broken / "metrics.jsonl").exists() or len(losses(broken)) < 11:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < give_up
        time.sleep(0.002)
    process.kill()
    process.communicate()
    ended = run_flambeau("train", "--resume", str(broken), *["--sample", "0"], cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "resumed after step" in ended.stdout
    assert [row["step"] for row in rows(broken) if "loss" in row] == list(range(1, 21))
    assert_same_bits(whole, broken)


def test_resume_by_file_into_another_folder(text: str, tmp_path: Path) -> None:
    options = ["--data", text, *TINY, "--steps", "6", "--save-steps", "3"]
    assert main([*options, "--out", str(tmp_path / "a"), "--seconds", "1e-9"]) == 0
    assert losses(tmp_path / "a") == []
    checkpoint = str(tmp_path / "a" / "checkpoint.pt")
    assert main(["--resume", checkpoint, "--out", str(tmp_path / "b"), "--sample", "0"]) == 0
    assert main([*options, "--out", str(tmp_path / "c"), "--sample", "0"]) == 0
    assert_same_bits(tmp_path / "b", tmp_path / "c")


def test_resume_of_a_finished_run_changes_nothing(text: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert main(["--data", text, "--out", str(out), *TINY, "--steps", "4"]) == 0
    before = weights(out)
    assert main(["--resume", "--out", str(out), "--sample", "0"]) == 0
    assert len(losses(out)) == 4
    after = weights(out)
    assert all(before[name].tobytes() == after[name].tobytes() for name in before)


def test_resume_with_another_model_is_refused(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(["--data", text, "--out", str(out), *TINY, "--steps", "2"]) == 0
    capsys.readouterr()
    for option, value in (("--width", "32"), ("--layers", "2"), ("--dtype", "float64")):
        assert main(["--resume", str(out), option, value]) == 2
        shown = capsys.readouterr().err
        assert option in shown
        assert f"not {value}" in shown
    assert main(["--resume", str(out), "--layers", "1", "--sample", "0"]) == 0


def test_changes_that_end_exactness_are_said(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, other = tmp_path / "run", tmp_path / "other"
    other.write_text("another text altogether\n" * 40)
    assert main(["--data", text, "--out", str(out), *TINY, "--steps", "2"]) == 0
    capsys.readouterr()
    words = ["--resume", str(out), "--steps", "4", "--data", str(other), "--lr", "1e-4"]
    assert main([*words, "--sample", "0"]) == 0
    shown = capsys.readouterr().out
    assert "not the one that the checkpoint was trained on" in shown
    assert "--steps 4 (was 2)" in shown
    assert rows(out)[-2]["lr"] == pytest.approx(1e-4 * warm_up_cosine(3, 4))


def test_an_earlier_run_is_not_overwritten(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--data", text, "--out", str(tmp_path / "run"), *TINY, "--steps", "2"]
    assert main(options) == 0
    before = (tmp_path / "run" / "checkpoint.pt").read_bytes()
    assert main(options) == 2
    assert "--resume" in capsys.readouterr().err
    assert (tmp_path / "run" / "checkpoint.pt").read_bytes() == before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_leaves_a_checkpoint(
    number: int, code: int, text: str, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    process = start(
        "train", "--data", text, "--out", str(out), *TINY, "--steps", "1000000", cwd=tmp_path
    )
    give_up = time.monotonic() + SECONDS
    while not (out / "metrics.jsonl").exists() or len(losses(out)) < 2:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < give_up
        time.sleep(0.005)
    process.send_signal(number)
    shown, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    assert "interrupted at step" in shown
    assert f"flambeau train --resume {out}" in shown
    state = flambeau.load(out / "checkpoint.pt", weights_only=True)
    assert state["step"] == len(losses(out))


@pytest.mark.parametrize("when", ["later", "from the start"])
def test_a_full_disk_keeps_the_earlier_checkpoint(
    when: str,
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, save, calls = tmp_path / "run", flambeau.save, []

    def full_disk(state: Any, path: Path) -> None:
        calls.append(path)
        save(state, path)
        if when == "from the start" or len(calls) > 1:
            with open(path, "r+b") as file:
                file.truncate(100)
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(flambeau, "save", full_disk)
    words = ["--data", text, "--out", str(out), *TINY, "--steps", "6", "--save-steps", "2"]
    assert main(words) == 1
    assert len(calls) >= 3  # it went on and tried again
    shown = capsys.readouterr().out
    assert "the disk is full" in shown
    assert not [path for path in out.iterdir() if path.name.endswith(".new")]
    if when == "later":
        assert "the checkpoint of step 1" in shown  # the first step is saved
        state = flambeau.load(out / "checkpoint.pt", weights_only=True)
        assert state["step"] == 1
        monkeypatch.setattr(flambeau, "save", save)
        assert main(["--resume", str(out), "--sample", "0"]) == 0
        assert len(losses(out)) == 6
    else:
        assert "there is no earlier checkpoint" in shown
        assert not (out / "checkpoint.pt").exists()


def test_a_file_size_limit_is_met_by_the_real_writer(text: str, tmp_path: Path) -> None:
    """The same with an error from the operating system in the middle of a file."""
    out = tmp_path / "run"

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))

    env = environment(FLAMBEAU_CACHE_DIR=str(tmp_path / "no-cache"), FLAMBEAU_CACHE="0")
    words = ["--data", text, "--out", str(out), *TINY, "--width", "64", "--steps", "2"]
    ended = run_flambeau("train", *words, cwd=tmp_path, env=env, preexec_fn=limit)
    assert ended.returncode == 1, ended.stderr
    assert "cannot write to" in ended.stdout
    assert "Traceback" not in ended.stderr
    assert not (out / "checkpoint.pt").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "missing"], "no file or folder 'missing'"),
        (["--resume", "missing"], "no checkpoint at missing"),
        (["--resume"], "--resume needs the path"),
        (["--width", "10", "--heads", "3"], "width 10 and 3 heads"),
        (["--out", "text/run"], "text"),
        (["--device", "cuda"], "no cuda device can be used here"),
        (["--device", "toaster"], "device type at start of device string: toaster"),
    ],
)
def test_what_cannot_start_says_why(
    words: list[str],
    message: str,
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    data = [] if "--data" in words else ["--data", "text"]
    assert main([*TINY, *data, *words]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("flambeau train: ")
    assert message in shown


@pytest.mark.parametrize(
    "words",
    [
        ["--steps", "0"],
        ["--lr", "-1"],
        ["--dtype", "int8"],
        ["--seed", "-1"],
        ["--seed", str(2**63)],
        ["--x"],
    ],
)
def test_bad_options_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        main(words)
    assert exit.value.code == 2
    assert words[0] in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 broken"])
def test_a_damaged_checkpoint_is_refused(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(content)
    assert main(["--resume", str(tmp_path)]) == 2
    assert "cannot read the checkpoint" in capsys.readouterr().err


def test_another_file_is_not_taken_for_a_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "checkpoint.pt"
    flambeau.save({"weight": flambeau.zeros(2)}, path)
    assert main(["--resume", str(path)]) == 2
    assert "is not a checkpoint of flambeau train" in capsys.readouterr().err


def test_a_loss_that_is_not_finite_ends_the_run(
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, step = tmp_path / "run", trainer_module.Trainer.train_step

    def diverge(trainer: trainer_module.Trainer) -> tuple[float, float]:
        loss, norm = step(trainer)
        return (math.nan, norm) if trainer.step == 5 else (loss, norm)

    monkeypatch.setattr(trainer_module.Trainer, "train_step", diverge)
    words = ["--data", text, "--out", str(out), *TINY, "--steps", "9", "--save-steps", "2"]
    assert main(words) == 1
    shown = capsys.readouterr().out
    assert "the loss became nan" in shown
    assert "checkpoint of step 4 is kept" in shown
    assert flambeau.load(out / "checkpoint.pt", weights_only=True)["step"] == 4


def test_the_time_limit_ends_the_run_with_a_checkpoint(text: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["--data", text, "--out", str(out), *TINY, "--steps", "1000000", "--seconds", "0.5"]
    assert main(words) == 0
    state = flambeau.load(out / "checkpoint.pt", weights_only=True)
    assert 1 <= state["step"] < 1_000_000
    assert "validation_loss" in rows(out)[-1]


def test_learning_rate_schedule() -> None:
    factors = [warm_up_cosine(step, 200) for step in range(201)]
    assert factors[0] == 0.1
    assert factors[9] == 1.0
    assert max(factors) == 1.0
    assert factors[105] == pytest.approx(0.55)
    assert factors[200] == pytest.approx(0.1)
    assert all(a > b for a, b in itertools.pairwise(factors[10:]))
    assert warm_up_cosine(0, 1) == 1.0


def test_settings_come_from_options_then_checkpoint_then_defaults() -> None:
    stored = Settings(width=64, heads=4, steps=7).to_dict()
    assert settle({}, None) == Settings()
    assert settle({"lr": 0.5, "out": "x"}, None) == Settings(lr=0.5)
    assert settle({"steps": 9, "width": 64}, stored) == Settings(width=64, heads=4, steps=9)
    with pytest.raises(CheckpointError, match="--heads 4, not 8"):
        settle({"heads": 8}, stored)
