"""Programs in the style of PyTorch's tutorials, unchanged, beside PyTorch itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.cli.program import ROOT, environment
from tests.distributed.mpi import PROGRAMS, needs_mpi

pytestmark = [needs_mpi, pytest.mark.timeout(400)]


@pytest.mark.parametrize(
    ("script", "ranks"), [("tutorial_ddp.py", 0), ("tutorial_fsdp.py", 2), ("tutorial_tp.py", 4)]
)
def test_tutorials_run_as_they_do_in_torch(script: str, ranks: int, tmp_path: Path) -> None:
    """The same losses, to the printed digit or two; the first one starts its ranks by itself."""
    pytest.importorskip("torch")
    words = [str(PROGRAMS / script), str(tmp_path)]
    ours = [sys.executable, "-m", "flambeau", *(["launch", "-n", str(ranks)] if ranks else ["run"])]
    launched = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    theirs = [sys.executable, *(launched if ranks else [])]
    found = []
    for command in (ours, theirs, theirs, theirs):
        ended = subprocess.run(
            [*command, *words],
            cwd=ROOT,
            env=environment(OMP_NUM_THREADS="1"),
            capture_output=True,
            text=True,
            timeout=200,
        )
        if command is theirs and "terminate called" in ended.stderr:
            continue  # its threads, at the very end
        assert ended.returncode == 0, ended.stderr
        found.append([line.split() for line in ended.stdout.splitlines()])
        if command is theirs:
            break
    assert len(found[0]) == len(found[1]) > 4
    for mine, other in zip(*found, strict=True):
        assert mine[0] == other[0]
        np.testing.assert_allclose(
            np.float64(mine[1::2]), np.float64(other[1::2]), rtol=1e-3, err_msg=str(found)
        )
