"""kill -9 of a rank at random moments of a training run with checkpoints.

`python -m tests.hosts.kills --runs 50` does it fifty times and says how each run ended; the tests
in `tests/distributed/test_faults.py` do it three times.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.cli.program import ROOT, environment

PROGRAM = ROOT / "tests" / "distributed" / "programs" / "train.py"
RANKS = 3
STEPS = 30
SECONDS = 120


@dataclass
class Run:
    """How a disturbed run ended: its last loss, how often a rank was killed, and the reports."""

    loss: float
    kills: int
    restarts: int
    seconds: float
    told: str


def launch(folder: Path, ranks: int, *options: str) -> subprocess.Popen[str]:
    """Start the training program."""
    words = [str(PROGRAM), str(folder / "checkpoint"), str(STEPS), str(folder / "loss")]
    return subprocess.Popen(
        [sys.executable, "-m", "flambeau", "launch", "-n", str(ranks), *options, *words],
        cwd=ROOT,
        env=environment(FLAMBEAU_NUM_THREADS="1", KILLS_MARK=str(folder)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def undisturbed(folder: Path) -> float:
    """The last loss of one rank that nobody disturbs."""
    process = launch(folder, 1)
    told = process.communicate(timeout=SECONDS)[0]
    assert process.returncode == 0, told
    return float((folder / "loss").read_text())


def ranks_of(folder: Path) -> list[int]:
    """The processes that train in a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"flambeau.commands.rank" in words and str(folder / "loss").encode() in words:
            if not any(b"mpiexec" in word or b"hydra" in word for word in words[:1]):
                found.append(int(path.parent.name))
    return sorted(found)


def disturbed(folder: Path, seed: int, *options: str) -> Run:
    """Train while ranks are killed: one at a random moment of the first run, and sometimes one of
    the second."""
    random = np.random.default_rng(seed)
    wanted = 1 + int(random.integers(2))
    begun = time.monotonic()
    process = launch(folder, RANKS, "--restarts", "4", *options)
    kills = 0
    while process.poll() is None and time.monotonic() - begun < SECONDS:
        if kills < wanted and _kill_one(folder, random, process):
            kills += 1
        time.sleep(0.02)
    process.terminate() if process.poll() is None else None
    told = process.communicate(timeout=30)[0]
    assert process.returncode == 0, told
    seconds = time.monotonic() - begun
    loss = float((folder / "loss").read_text())
    return Run(loss, kills, told.count("starting again"), seconds, told)


def _kill_one(folder: Path, random: np.random.Generator, process: subprocess.Popen[str]) -> bool:
    """Kill one rank some time after all have started; -> whether there was one."""
    before = ranks_of(folder)
    if not before:
        return False
    until = time.monotonic() + random.uniform(0, 3.5)
    while time.monotonic() < until:
        if process.poll() is not None:
            return False
        time.sleep(0.01)
    now = ranks_of(folder)
    if not now or not set(now) & set(before):
        return False
    try:
        os.kill(int(random.choice(now)), signal.SIGKILL)
    except ProcessLookupError:
        return False
    while set(ranks_of(folder)) & set(now) and process.poll() is None:
        time.sleep(0.02)
    return True


def main() -> int:
    """Run the script; -> its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--first", type=int, default=0, help="seed of the first run")
    options = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        alone = Path(name) / "alone"
        alone.mkdir()
        wanted = undisturbed(alone)
        print(f"undisturbed: {wanted!r}", flush=True)
        for seed in range(options.first, options.first + options.runs):
            folder = Path(name) / str(seed)
            folder.mkdir()
            try:
                run = disturbed(folder, seed)
            except AssertionError as error:
                failed += 1
                print(f"run {seed}: failed\n{error}", flush=True)
                continue
            same = math.isclose(run.loss, wanted, rel_tol=1e-12)
            failed += not same
            who = re.findall(r"launch: (.*?) \(process", run.told)
            print(
                f"run {seed}: {'same' if same else 'OTHER'} loss {run.loss!r}, {run.kills} kills,"
                f" {run.restarts} restarts, {run.seconds:.1f} s; {', '.join(who)}",
                flush=True,
            )
    print(f"{options.runs - failed} of {options.runs} runs recovered with the same loss")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
