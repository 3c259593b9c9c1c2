"""``flambeau launch``: runs a program as several ranks on MPI, and watches them."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from flambeau.commands.rank import LOGS, OUTPUT
from flambeau.distributed.launch import Job, LaunchError, run
from flambeau.distributed.ray import Cluster
from flambeau.distributed.supervisor import Limits, Watch

_ERROR = 2
_DESCRIPTION = """\
Run a program as several processes, its ranks, on MPI's own launcher. Each rank is what
`flambeau run SCRIPT` is, so a PyTorch program that was written for torchrun runs as it is: RANK,
WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and their like are set, and init_process_group() finds them.
"""
_EPILOG = """\
examples:
  flambeau launch -n 4 train.py --epochs 3        four ranks on this machine
  flambeau launch -n 8 --hosts hosts.txt train.py eight ranks on the hosts of a file, over ssh
  sbatch -n 16 --wrap "flambeau launch train.py"  Slurm: the hosts and ranks of the allocation
  flambeau launch -n 8 --ray train.py             the hosts of the Ray cluster that runs here
  flambeau launch -n 4 --restarts 3 train.py      start again when a rank fails; the program
                                                  goes on from its last checkpoint
  flambeau launch -n 4 --restarts 3 --min-ranks 2 train.py
                                                  the same, with fewer ranks where some died

when something fails:
  A rank that raises, exits with a code or dies, ends every rank within seconds; a rank that hangs,
  after --timeout. One report names the rank, its collective and its traceback, and says what the
  others did. FLAMBEAU_COLLECTIVES=check compares what the ranks call before each collective.

A hosts file has a line a host, `name` or `name:ranks`. The environment goes to all ranks.
"""


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    made = argparse.ArgumentParser(
        prog="flambeau launch",
        usage="flambeau launch [OPTIONS] SCRIPT [ARGS ...] | -m MODULE [...] | -c CODE [...]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_places(made.add_argument_group("where").add_argument)
    _add_failures(made.add_argument_group("when something fails").add_argument)
    _add_output(made.add_argument_group("what is shown").add_argument)
    return made


def _add_places(add: Callable[..., object]) -> None:
    slurm = os.environ.get("SLURM_NTASKS", "")
    add(
        "-n",
        "--ranks",
        type=_positive,
        default=int(slurm) if slurm.isdigit() else _cores(),
        metavar="N",
        help="how many ranks (default: Slurm's tasks, else this machine's cores)",
    )
    add("--hosts", default="", metavar="FILE|A,B", help="where: a host file, or names")
    add(
        "--ray",
        nargs="?",
        const="auto",
        default="",
        metavar="ADDRESS",
        help="let a running Ray cluster find the hosts (with =ADDRESS another than this host's)",
    )
    add("--address", default="", help="this host as the others reach it")
    add(
        "--mpiexec", default="", metavar="PATH", help="MPI's launcher (default: this environment's)"
    )
    add(
        "--mpi",
        default="",
        metavar="WORDS",
        help="further options for it, as one argument: --mpi '-launcher ssh -iface eth0'",
    )


def _add_failures(add: Callable[..., object]) -> None:
    add("--restarts", type=int, default=0, metavar="N", help="start again up to N times (0)")
    add(
        "--min-ranks",
        type=int,
        default=0,
        metavar="N",
        help="after deaths, start again with fewer ranks, but at least N (default: as many)",
    )
    add(
        "--timeout",
        type=float,
        default=Limits.wait,
        metavar="S",
        help="seconds a rank may wait in a collective (%(default)g)",
    )
    add(
        "--silence",
        type=float,
        default=Limits.silence,
        metavar="S",
        help="seconds without a sign of life after which a rank counts as hung (%(default)g)",
    )
    add(
        "--start-timeout",
        type=float,
        default=Limits.start,
        metavar="S",
        help="seconds until every rank has to be there (%(default)g)",
    )


def _add_output(add: Callable[..., object]) -> None:
    add(
        "--output",
        choices=("all", "zero", "tagged"),
        default="all",
        help="whose standard output is shown: everyone's, rank 0's, or everyone's with the rank in"
        " front of each line (%(default)s)",
    )
    add(
        "--log-dir",
        default="",
        metavar="FOLDER",
        help="write each rank's output to FOLDER/attempt_K/rank_R.out and .err instead",
    )
    add(
        "--progress",
        type=float,
        default=0,
        metavar="S",
        help="every S seconds, say what the ranks are doing",
    )


def _split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The command's own options, and the program with its arguments."""
    end = 0
    while end < len(words) and words[end].startswith("-") and words[end] not in ("-m", "-c"):
        joined = "=" in words[end] or (words[end][1] == "n" and words[end] != "-n")  # as in -n4
        end += 1 if joined or words[end] in ("-h", "--help", "--ray") else 2
    return list(words[:end]), list(words[end:])


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _environment(options: argparse.Namespace) -> dict[str, str]:
    """This process's environment, with what ranks find in it."""
    environment = dict(os.environ)
    first = socket.gethostname() if options.hosts else "127.0.0.1"
    environment.setdefault("MASTER_ADDR", options.address or first)
    environment.setdefault("MASTER_PORT", "29500")
    environment.setdefault("TORCHELASTIC_RUN_ID", f"flambeau-{os.getpid()}")
    environment[OUTPUT] = options.output
    if options.log_dir:
        environment[LOGS] = str(Path(options.log_dir).resolve())
    return environment


def _teller(seconds: float) -> Callable[[Watch], None] | None:
    """What says every some seconds what the ranks are doing."""
    if not seconds:
        return None
    begun = told = time.monotonic()

    def tell(watch: Watch) -> None:
        nonlocal told
        now = time.monotonic()
        if now - told >= seconds:
            told = now
            print(f"flambeau launch: {now - begun:.0f} s, {watch.status()}", file=sys.stderr)

    return tell


def _interrupted(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: what followed ``flambeau launch``; the process's own when None.

    Returns:
        0 when every rank ended well, 1 when the last attempt failed, 2 when nothing could be
        started, 130 after Ctrl-C.
    """
    words, program = _split(sys.argv[1:] if argv is None else argv)
    options = parser().parse_args(words)
    if not program:
        parser().print_help(sys.stderr)
        return _ERROR
    job = Job(
        command=[sys.executable, "-m", "flambeau.commands.rank", *program],
        ranks=options.ranks,
        hosts=options.hosts,
        mpiexec=options.mpiexec,
        options=shlex.split(options.mpi),
        address=options.address,
        tagged=options.output == "tagged",
        limits=Limits(options.timeout, options.silence, options.start_timeout),
        environment=_environment(options),
    )
    signal.signal(signal.SIGTERM, _interrupted)
    try:
        cluster = Cluster(options.ray) if options.ray else None
        told = _teller(options.progress)
        return run(job, options.restarts, options.min_ranks, told, cluster)
    except LaunchError as error:
        print(f"flambeau launch: {error}", file=sys.stderr)
        return _ERROR
    except KeyboardInterrupt:
        return 130
