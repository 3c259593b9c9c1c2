"""Starting programs on MPI from tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.program import ROOT, environment

PROGRAMS = Path(__file__).parent / "programs"

#: The launcher of the MPI library in this environment, None where there is none.
MPIEXEC = next((p for p in [Path(sys.executable).parent / "mpiexec"] if p.exists()), None)

needs_mpi = pytest.mark.skipif(MPIEXEC is None, reason="needs the mpi extra: mpi4py and mpich")


def mpiexec(
    ranks: int, program: str, *words: str, seconds: float = 60
) -> subprocess.CompletedProcess[str]:
    """`mpiexec -n RANKS python PROGRAM WORDS` of a program beside this file, waited for."""
    return subprocess.run(
        [str(MPIEXEC), "-n", str(ranks), sys.executable, str(PROGRAMS / program), *words],
        cwd=ROOT,
        env=environment(FLAMBEAU_NUM_THREADS="1"),
        capture_output=True,
        text=True,
        timeout=seconds,
    )
