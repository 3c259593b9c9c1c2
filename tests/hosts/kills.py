"""kill -9 of a rank at random moments of a training run with checkpoints.

`python -m tests.hosts.kills --runs 50` does it fifty times and says how each run ended; the tests
in `tests/distributed/test_faults.py` do it three times.
"""

from __future__ import annotations

import argparse
import json
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

from tests.cli.program import ROOT, environment, running

PROGRAM = ROOT / "tests" / "distributed" / "programs" / "train.py"
RANKS = 3
STEPS = 30
SECONDS = 120


@dataclass
class Run:
    """How a disturbed run ended: its last loss, how often it was started again, and the reports.

    Attributes:
        begun: the step at which each start that came so far began.
        saved: the step of the last checkpoint when each rank was killed.
    """

    loss: float
    begun: list[int]
    saved: list[int]
    restarts: int
    seconds: float
    told: str

    @property
    def kills(self) -> int:
        """How often a rank was killed."""
        return len(self.saved)

    @property
    def lost(self) -> bool:
        """Whether a checkpoint was not gone on from."""
        return self.begun != sorted(self.begun) or self.begun[-1] < max(self.saved, default=0)


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
    mine = {"flambeau.commands.rank", str(folder / "loss")}
    starters = ("mpiexec", "hydra")  # they have a rank's words in their own command lines
    return sorted(
        number
        for number, words in running()
        if mine.issubset(words) and not any(s in words[0] for s in starters)
    )


def step_of(folder: Path) -> int:
    """The step of the last checkpoint, -1 before there is one."""
    try:
        index = json.loads((folder / "checkpoint" / "index.json").read_text())
    except FileNotFoundError:
        return -1
    return int(index["values"]["step"]["json"])


def disturbed(folder: Path, seed: int, *options: str) -> Run:
    """Train, and kill a rank a random while after a random step, once or twice; the second time
    perhaps while the ranks start again."""
    random = np.random.default_rng(seed)
    first = int(random.integers(-1, STEPS // 2))
    steps = [first, int(random.integers(first, STEPS - 5))][: 1 + int(random.integers(2))]
    start = time.monotonic()
    process = launch(folder, RANKS, "--restarts", "4", *options)
    killed: set[int] = set()
    saved = []
    for step in steps:
        while process.poll() is None and time.monotonic() - start < SECONDS:
            ranks = sorted(set(ranks_of(folder)) - killed)
            if ranks and step_of(folder) >= step:
                time.sleep(random.uniform(0, 0.1))
                os.kill(int(random.choice(ranks)), signal.SIGKILL)
                saved.append(step_of(folder))
                killed |= set(ranks)
                break
            time.sleep(0.005)
    told = process.communicate(timeout=SECONDS)[0]
    assert process.returncode == 0, told
    seconds = time.monotonic() - start
    loss = float((folder / "loss").read_text())
    begun = [int(line) for line in (folder / "begun").read_text().split()]
    restarts = told.count("starting again")
    return Run(loss, begun, saved, restarts, seconds, told)


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
            failed += run.lost or not same
            who = re.findall(r"launch: (.*?) \(process", run.told)
            print(
                f"run {seed}: {'same' if same else 'OTHER'} loss {run.loss!r}, {run.kills} kills,"
                f" {run.restarts} restarts, {run.seconds:.1f} s; {', '.join(who)};"
                f"{' LOST' if run.lost else ''} saved {run.saved}, begun {run.begun}",
                flush=True,
            )
    print(f"{options.runs - failed} of {options.runs} runs recovered with the same loss")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
