"""Ranks on hosts that a scheduler finds: MPI's proxies are started by it, anew for each attempt."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence

import pytest

from flambeau.distributed.launch import Hosts, Job, LaunchError, run
from flambeau.distributed.ray import Cluster
from tests.cli.program import environment
from tests.distributed.mpi import needs_mpi


class Local(Hosts):
    """Two names of this host."""

    address = "127.0.0.1"

    def __init__(self) -> None:
        self.placed: list[int] = []
        self.started: list[subprocess.Popen[bytes]] = []
        self.released = 0

    def place(self, ranks: int) -> str:
        self.placed.append(ranks)
        return f"127.0.0.1:1,localhost:{ranks - 1}"

    def start(self, proxies: Sequence[str]) -> None:
        self.started += [subprocess.Popen(shlex.split(command)) for command in proxies]

    def release(self) -> None:
        self.released += 1
        for process in self.started:
            process.kill()
            process.wait()


PROGRAM = """
import os, sys
from flambeau import distributed
distributed.init_process_group()
distributed.barrier()
sys.exit(3 if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" else 0)
"""


@needs_mpi
def test_each_attempt_is_placed_anew() -> None:
    words = [sys.executable, "-m", "flambeau.commands.rank", "-c", PROGRAM]
    hosts, told = Local(), []
    job = Job(words, 3, environment=environment(FLAMBEAU_NUM_THREADS="1"))
    assert run(job, restarts=1, cluster=hosts, tell=told.append) == 0, "".join(told)
    assert hosts.placed == [3, 3]
    assert len(hosts.started) == 4
    assert hosts.released == 2
    assert "left with exit code 3" in told[0]


def test_ray_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(LaunchError, match="Ray is not installed"):
        Cluster()
