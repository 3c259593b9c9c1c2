"""A save that does not finish leaves the earlier file whole and nothing else behind."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import flambeau

SMALL_FILES = """
import resource, sys, flambeau
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    flambeau.save({"a": flambeau.ones(1_000_000)}, sys.argv[1])
except RuntimeError as error:
    print("refused:", error)
    print("cause:", type(error.__cause__).__name__)
"""

ENDLESS = """
import sys, flambeau
state = {"a": flambeau.full((3_000_000,), 2.0), "which": 2}
print("ready", flush=True)
while True:
    flambeau.save(state, sys.argv[1])
"""


def start(code: str, path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_full_disk(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    flambeau.save({"a": flambeau.zeros(3)}, path)
    before = path.read_bytes()
    out, err = start(SMALL_FILES, path).communicate(timeout=120)
    assert "refused: PytorchStreamWriter failed writing file data/0: file write failed" in out, err
    assert "cause: OSError" in out
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["model.pt"]


def test_killed_while_saving(tmp_path: Path) -> None:
    """Whenever it is killed, the file that is there is the old one or the new one, whole."""
    path = tmp_path / "model.pt"
    flambeau.save({"a": flambeau.ones(3_000_000), "which": 1}, path)
    for delay in (0.0, 0.004, 0.011, 0.025):
        with start(ENDLESS, path) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            time.sleep(delay)
            process.send_signal(signal.SIGKILL)
        found = flambeau.load(path)
        assert found["a"].sum().item() == found["which"] * 3_000_000.0


def test_an_object_that_cannot_be_pickled(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    flambeau.save(1, path)
    with pytest.raises(Exception, match="pickle"):
        flambeau.save([flambeau.ones(2), lambda: None], path)
    assert flambeau.load(path) == 1
    assert os.listdir(tmp_path) == ["model.pt"]


def test_an_interrupt_while_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.pt"
    flambeau.save(1, path)

    def interrupted(number: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        flambeau.save(2, path)
    assert flambeau.load(path) == 1
    assert os.listdir(tmp_path) == ["model.pt"]


def test_what_a_killed_process_left_is_removed_in_time(tmp_path: Path) -> None:
    path = tmp_path / "model[1].pt"
    old, young = tmp_path / ".model[1].pt.aaaa.tmp", tmp_path / ".model[1].pt.bbbb.tmp"
    other = tmp_path / ".model1.pt.cccc.tmp"
    for left in (old, young, other):
        left.touch()
    for left in (old, other):
        os.utime(left, (time.time() - 90_000, time.time() - 90_000))
    flambeau.save(1, path)
    assert sorted(os.listdir(tmp_path)) == sorted([young.name, other.name, path.name])


def test_a_file_object_that_fails() -> None:
    class Full(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: object) -> int:
            raise OSError(28, "No space left on device")

    with pytest.raises(RuntimeError, match=r"failed writing file data\.pkl.*No space left"):
        flambeau.save([1], Full())


def test_tensors_are_streamed(tmp_path: Path) -> None:
    """Saving 400 MB takes no memory beside the tensor's own."""
    code = (
        "import resource, sys, flambeau\n"
        "x = flambeau.ones(100_000_000)\n"
        "x.sum().item()\n"
        "was = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "flambeau.save(x, sys.argv[1])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - was < 50_000)\n"
    )
    out, err = start(code, tmp_path / "a.pt").communicate(timeout=120)
    assert out == "True\n", err
