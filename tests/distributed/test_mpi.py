"""The MPI transport: every call against NumPy, on several processes."""

from __future__ import annotations

import pytest

from tests.distributed.mpi import mpiexec, needs_mpi

pytestmark = needs_mpi


@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_every_call_is_numpys(ranks: int) -> None:
    ended = mpiexec(ranks, "transport.py")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "right\n"


def test_rows_and_their_derivatives() -> None:
    ended = mpiexec(3, "collectives.py")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "36 collectives on 3 ranks\n"


def test_a_rank_that_raises_ends_the_others(tmp_path: object) -> None:
    ended = mpiexec(3, "raises.py", seconds=30)
    assert ended.returncode != 0
    assert "ValueError: on rank 1" in ended.stderr
    assert "flambeau: rank 1 ends the job: ValueError, shown above" in ended.stderr


def test_a_program_that_fails_does_not_wait_for_what_is_under_way() -> None:
    ended = mpiexec(2, "leaves_work.py", "raise", seconds=40)
    assert ended.returncode != 0
    assert "IndexError: index 7 is out of bounds" in ended.stderr
    assert "flambeau: rank 1 ends the job: IndexError, shown above" in ended.stderr


def test_what_is_under_way_goes_on_after_an_error_that_is_caught() -> None:
    ended = mpiexec(2, "leaves_work.py", "caught", seconds=40)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "caught\n2.0\n"


@pytest.mark.parametrize("way", ["exit", "return"])
def test_ranks_do_not_wait_for_one_that_left(way: str) -> None:
    """Neither with an exit code nor without, and MPI's own end does not hang either."""
    ended = mpiexec(3, "fails.py", way, seconds=30)
    assert ended.returncode != 0
    assert "all_reduce sum float32[8] (call 3) cannot end: rank 1 of the job" in ended.stderr


def test_ranks_may_leave_when_they_did_their_part() -> None:
    """Which they do before they leave, though they never read a result of it."""
    ended = mpiexec(3, "leaves_early.py", seconds=40)
    assert ended.returncode == 0, ended.stderr
    assert (ended.stdout, ended.stderr) == ("6.0\n", "")
