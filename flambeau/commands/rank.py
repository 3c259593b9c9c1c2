"""What each rank of ``flambeau launch`` runs: ``python -m flambeau.commands.rank SCRIPT ARGS``.

Gives the program the environment that ``torchrun`` would, connects to the launcher, and then does
what ``flambeau run`` does.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from flambeau.commands.run import main as run
from flambeau.distributed.heartbeat import LAUNCHER, Heartbeat

OUTPUT = "FLAMBEAU_OUTPUT"
"""Variable with whose output is shown: "all", or "zero" for that of rank 0 alone."""
LOGS = "FLAMBEAU_LOG_DIR"
"""Variable with the folder for each rank's own output."""

#: Where MPI libraries and Slurm say which rank this is, first that is set wins.
_RANK = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_PROCID", "RANK")
_SIZE = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_NTASKS", "WORLD_SIZE")
_LOCAL_RANK = ("MPI_LOCALRANKID", "OMPI_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID", "LOCAL_RANK")
_LOCAL_SIZE = ("MPI_LOCALNRANKS", "OMPI_COMM_WORLD_LOCAL_SIZE", "LOCAL_WORLD_SIZE")


def _number(names: Sequence[str], default: int) -> int:
    texts = (os.environ.get(name, "") for name in names)
    return next((int(text) for text in texts if text.isdigit()), default)


def set_environment() -> int:
    """Set the variables of ``torchrun``; -> this process's rank."""
    rank, size = _number(_RANK, 0), _number(_SIZE, 1)
    local, locals_ = _number(_LOCAL_RANK, 0), _number(_LOCAL_SIZE, 1)
    numbers = {
        "RANK": rank,
        "ROLE_RANK": rank,
        "WORLD_SIZE": size,
        "ROLE_WORLD_SIZE": size,
        "LOCAL_RANK": local,
        "LOCAL_WORLD_SIZE": locals_,
        "GROUP_RANK": rank // locals_,
    }
    os.environ.update({name: str(number) for name, number in numbers.items()})
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    os.environ.setdefault("FLAMBEAU_NUM_THREADS", str(max(1, (cores or 1) // locals_)))
    return rank


def _redirect(rank: int) -> None:
    """Send this process's output where the launcher was told."""
    places = []
    if folder := os.environ.get(LOGS):
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        path = Path(folder) / f"attempt_{attempt}"
        path.mkdir(parents=True, exist_ok=True)
        places = [(str(path / f"rank_{rank}.{name}"), fd) for name, fd in (("out", 1), ("err", 2))]
    elif rank and os.environ.get(OUTPUT) == "zero":
        places = [(os.devnull, 1)]
    for name, fd in places:
        opened = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.dup2(opened, fd)
        os.close(opened)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a rank.

    Args:
        argv: the program and its arguments, as for ``flambeau run``.

    Returns:
        The program's exit code.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    rank = set_environment()
    _redirect(rank)
    heartbeat = None
    if address := os.environ.get(LAUNCHER):
        heartbeat = Heartbeat(address, rank)
        heartbeat.report_exceptions()
    code = run(words)
    if heartbeat is not None:
        sys.stdout.flush()
        if code:
            heartbeat.end(f"left with exit code {code}", code)
        heartbeat.bye()
    return code


if __name__ == "__main__":
    sys.exit(main())
