"""Ranks that start each other and meet at an address."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading

import pytest

import flambeau.distributed as dist
from flambeau.distributed.rendezvous import Manager, meet
from tests.cli.program import ROOT, environment
from tests.distributed.mpi import PROGRAMS, needs_mpi

pytestmark = pytest.mark.timeout(60)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def meeting(*words: str) -> list[tuple[str, str, int]]:
    """Three processes of `meets.py`; -> what each shows, its errors and its exit code."""
    port = free_port()
    ranks = [
        subprocess.Popen(
            [sys.executable, str(PROGRAMS / "meets.py"), str(rank), "3", str(port), *words],
            cwd=ROOT,
            env=environment(FLAMBEAU_NUM_THREADS="1"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(3)
    ]
    try:
        return [(*p.communicate(timeout=50), p.returncode) for p in ranks]
    finally:
        for process in ranks:
            process.kill()


@needs_mpi
def test_processes_that_nobody_launched() -> None:
    assert meeting() == [(f"{r} 6.0\n", "", 0) for r in range(3)]


@needs_mpi
def test_a_rank_that_raises_ends_the_others() -> None:
    (_, told, _), (_, own, _), _ = found = meeting("raise")
    assert [code for _, _, code in found] == [1, 1, 1]
    assert "flambeau: rank 1 raised ValueError: on rank 1" in told
    assert "rank 1: had ended; before, all_reduce sum float32[1] (call 0 of world)" in told
    assert own.endswith("ValueError: on rank 1\n")


@needs_mpi
def test_what_a_killed_job_left_is_in_nobodys_way() -> None:
    names = {Manager(2, 2).answers({"cmd": "get_my_kvsname"})[0] for _ in range(2)}
    assert len(names) == 2


def test_values_and_barriers() -> None:
    manager = Manager(4, 2)
    assert manager.answers({"cmd": "get", "key": "PMI_process_mapping"}) == [
        "cmd=get_result rc=0 value=(vector,(0,2,2))"
    ]
    assert manager.answers({"cmd": "put", "key": "a", "value": "1"}) == ["cmd=put_result rc=0"]
    assert manager.answers({"cmd": "get", "key": "a"}) == ["cmd=get_result rc=0 value=1"]
    assert "rc=-1" in manager.answers({"cmd": "get", "key": "b"})[0]
    passed: list[int] = []
    threads = [
        threading.Thread(target=lambda r=r: (manager.meet(), passed.append(r))) for r in range(3)
    ]
    for thread in threads:
        thread.start()
    assert not passed
    manager.meet()
    for thread in threads:
        thread.join(10)
    assert sorted(passed) == [0, 1, 2]


def test_nobody_there() -> None:
    with pytest.raises(dist.DistError, match="did not listen"):
        meet(1, 2, "127.0.0.1", free_port(), 0.1, lambda: pytest.fail("started"))


def test_an_address_that_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = int(taken.getsockname()[1])
        with pytest.raises(dist.DistError, match=r"cannot listen at 127\.0\.0\.1"):
            meet(0, 2, "127.0.0.1", port, 5, lambda: pytest.fail("started"))
