"""`flambeau launch`: what ranks find, what they show, and the one report when one fails."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from tests.cli.program import environment, flambeau, running, start
from tests.distributed.mpi import PROGRAMS, needs_mpi

pytestmark = needs_mpi
FAILS = str(PROGRAMS / "fails.py")


def launch(tmp_path: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """`flambeau launch WORDS`, waited for."""
    env = environment(FLAMBEAU_NUM_THREADS="1", **variables)
    return flambeau("launch", *words, cwd=tmp_path, env=env)


def left(mark: str) -> list[str]:
    """Command lines of processes with this text in them."""
    return [" ".join(words) for _, words in running() if any(mark in word for word in words)]


def test_ranks_find_what_torchrun_sets(tmp_path: Path) -> None:
    (tmp_path / "show.py").write_text(
        "import os, sys, torch\n"
        "names = 'RANK LOCAL_RANK WORLD_SIZE LOCAL_WORLD_SIZE GROUP_RANK MASTER_ADDR MASTER_PORT'\n"
        "found = [*(os.environ[n] for n in names.split()), os.environ['MINE'], sys.argv[1:],"
        " torch.__version__.endswith('flambeau')]\n"
        "sys.stdout.write(' '.join(map(str, found)) + '\\n')\n"  # at once, beside other ranks
    )
    ended = launch(tmp_path, "-n", "2", "show.py", "--lr", "0.1", MINE="kept")
    assert ended.returncode == 0, ended.stderr
    assert sorted(ended.stdout.splitlines()) == [
        f"{rank} {rank} 2 2 0 127.0.0.1 29500 kept ['--lr', '0.1'] True" for rank in range(2)
    ]


def test_a_program_for_torchrun_runs_as_it_is(tmp_path: Path) -> None:
    script = str(PROGRAMS / "torch_ddp.py")
    told = []
    for ranks in ("1", "2"):
        ended = launch(tmp_path, "-n", ranks, script, str(tmp_path / ranks))
        assert ended.returncode == 0, ended.stderr
        told.append(ended.stdout.split())
    assert len(told[0]) == 3
    np.testing.assert_allclose(np.float64(told[0]), np.float64(told[1]), rtol=1e-6)


def test_output_is_shown_tagged_or_kept(tmp_path: Path) -> None:
    code = "import os, sys; sys.stdout.write(f'rank {os.environ[\"RANK\"]}\\n')"
    ended = launch(tmp_path, "-n", "2", "--output", "zero", "-c", code)
    assert ended.stdout == "rank 0\n"
    ended = launch(tmp_path, "-n", "2", "--output", "tagged", "-c", code)
    assert sorted(ended.stdout.splitlines()) == ["[0] rank 0", "[1] rank 1"]
    ended = launch(tmp_path, "-n", "2", "--log-dir", "logs", "-c", code)
    assert ended.stdout == ""
    assert (tmp_path / "logs/attempt_0/rank_1.out").read_text() == "rank 1\n"


#: way -> what the report's first line says
CAUSES = {
    "raise": r"rank 1 raised ValueError: no data for step 3 \(process \d+ on \S+\)",
    "kill": r"rank 1 died \(process \d+ on \S+\): Killed",
    "exit": r"rank 1 left with exit code 4 ",
    "hang": r"ranks 0, 2 waited in all_reduce sum float32\[8\] \(call 3 of world\) for more than"
    r" 2 s, but rank 1 did not come",
    "mismatch": r"rank 1 raised .*DistError: .* \(call 4\) cannot end: ranks? .* ended without",
    "stop": "rank 1 gave no sign of life for 2 s",
}


@pytest.mark.parametrize("way", CAUSES)
def test_one_report_says_who_failed_and_where(way: str, tmp_path: Path) -> None:
    program = shutil.copy(FAILS, tmp_path)  # a name that no other test's ranks have
    limits = ["--timeout", "60" if way == "stop" else "2", "--silence", "2"]
    ended = launch(tmp_path, "-n", "3", *limits, program, way)
    assert ended.returncode == 1
    head, *rest = ended.stderr.splitlines()
    assert re.match(f"flambeau launch: {CAUSES[way]}", head), ended.stderr
    assert ended.stderr.count("flambeau launch:") == 1
    told = "\n".join(rest)
    if way == "raise":
        assert '    Traceback (most recent call last):\n      File "' in told
        assert 'raise ValueError("no data for step 3")' in told
    if way in ("raise", "hang", "stop"):
        assert "ranks 0, 2: in all_reduce sum float32[8] (call 3 of world) at fails.py:" in told
    if way == "hang":
        assert "    rank 1 is at\n" in told
        assert "time.sleep(1000)" in told
    if way == "mismatch":
        assert "call 3 of world was" in told
        assert "rank 1 barrier" in told
    assert not left(program)


def test_checking_names_ranks_that_call_different_things(tmp_path: Path) -> None:
    ended = launch(tmp_path, "-n", "3", FAILS, "mismatch", FLAMBEAU_COLLECTIVES="check")
    assert ended.returncode == 1
    assert "DistError: the ranks of a group called different collectives" in ended.stderr
    assert "rank 1: barrier" in ended.stderr
    assert "ranks 0, 2: all_reduce sum float32[8]" in ended.stderr


def test_a_failed_job_starts_again_with_the_ranks_that_are_left(tmp_path: Path) -> None:
    program = (
        "import os, sys, time\n"
        "attempt, size = os.environ['TORCHELASTIC_RESTART_COUNT'], os.environ['WORLD_SIZE']\n"
        "if attempt == '0' and os.environ['RANK'] == '1':\n"
        "    os.kill(os.getpid(), 9)\n"
        "if attempt == '0':\n"
        "    time.sleep(60)\n"
        "sys.stdout.write(f'{attempt} {size}\\n')\n"
    )
    ended = launch(tmp_path, "-n", "3", "--restarts", "1", "--min-ranks", "2", "-c", program)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "1 2\n1 2\n"
    assert "starting again with 2 ranks, restart 1 of 1" in ended.stderr


def test_ranks_end_when_the_launcher_does(tmp_path: Path) -> None:
    mark = f"{tmp_path}/sleeps.py"
    Path(mark).write_text("import time; print('here', flush=True); time.sleep(100)")
    process = start("launch", "-n", "2", mark, cwd=tmp_path)
    assert process.stdout.readline() == "here\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    limit = time.monotonic() + 30
    while left(mark) and time.monotonic() < limit:
        time.sleep(0.1)
    assert not left(mark)


def test_what_cannot_be_started_is_told(tmp_path: Path) -> None:
    ended = launch(tmp_path, "-n", "2", "--mpiexec", "/nowhere/mpiexec", "x.py")
    assert ended.returncode == 2
    assert "cannot run /nowhere/mpiexec" in ended.stderr
    ended = launch(tmp_path, "-n", "2", "missing.py")
    assert ended.returncode == 1
    assert "can't open file 'missing.py'" in ended.stderr
    assert os.fspath(tmp_path) not in ended.stdout
