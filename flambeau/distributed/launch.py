"""Starting the ranks of a program with MPI's launcher, and starting them again after a failure.

The ranks are watched by a `supervisor.Watch`. A failure is one of: a rank raised or left with an
exit code, its process died, it gave no sign of life, or ranks waited in a collective longer than
they may. Whichever is seen first is the cause; everything is ended, and one report says who, where
and why. Ends within `END_SECONDS` of that.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Protocol

from flambeau.distributed import segments
from flambeau.distributed.heartbeat import LAUNCHER
from flambeau.distributed.supervisor import Failure, Limits, Watch

_GRACE_SECONDS = 2.0
END_SECONDS = 10.0
"""Within this time after a failure was seen, no process of the job is left."""

_LONGEST_PAUSE = 30.0
"""Most seconds between restarts, which grow while ranks do not even start."""

_BANNERS = (  # what hydra says when ranks do not end by themselves
    *(b"YOUR APPLICATION TERMINATED", b"This typically refers", b"Please see the FAQ"),
    *(b"=   ", b"=====", b"Abort(", b"[mpiexec@", b"[proxy:"),
)
_PROXY = b"HYDRA_LAUNCH"  # a line a host, and one at the end
_SIGNALLED = re.compile(rb"EXIT STRING: (.*) \(signal \d+\)")


class LaunchError(RuntimeError):
    """The ranks cannot be started; the message says why and what to do."""


class Hosts(Protocol):
    """What finds hosts for the ranks, such as a cluster's scheduler.

    Attributes:
        address: of this host as the others reach it.
    """

    address: str

    def place(self, ranks: int) -> str:
        """Reserve room; -> names with commas between, each with `:` and its number of ranks."""

    def start(self, proxies: Sequence[str]) -> None:
        """Run one command on each of these hosts."""

    def release(self) -> None:
        """Give the room back."""


@dataclass
class Job:
    """What to run, and how.

    Attributes:
        command: the program of each rank, as words.
        ranks: how many.
        hosts: a host file, or names with commas between; "" is this host, or Slurm's allocation.
        mpiexec: path of MPI's launcher; "" looks for the one of this environment.
        options: further words for it.
        address: of this host as the others reach it; "" finds it out.
        tagged: whether each line of output begins with its rank.
        limits: how long ranks may take.
        environment: of the ranks.
        start_proxies: is given the command of each host's proxy, and runs it there; None leaves
            that to MPI's launcher.
    """

    command: Sequence[str]
    ranks: int
    hosts: str = ""
    mpiexec: str = ""
    options: Sequence[str] = ()
    address: str = ""
    tagged: bool = False
    limits: Limits = field(default_factory=Limits)
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    start_proxies: Callable[[list[str]], None] | None = None

    def words(self) -> list[str]:
        """The command line of MPI's launcher."""
        path = self.mpiexec or find_mpiexec()
        hosts = [] if not self.hosts else ["file" if os.path.isfile(self.hosts) else "names"]
        if _is_open_mpi(path):
            given = [path, "--oversubscribe", "-n", str(self.ranks)]
            flags = {"file": "--hostfile", "names": "--host"}
            tag = "--tag-output"
        else:
            given = [path, "-disable-auto-cleanup", "-n", str(self.ranks)]
            flags = {"file": "-f", "names": "-hosts"}
            tag = "-prepend-rank"
            if self.start_proxies is not None:
                given += ["-launcher", "manual"]
            if self.address:
                given += ["-localhost", self.address]
        for kind in hosts:
            given += [flags[kind], self.hosts]
        if self.tagged:
            given.append(tag)
        return [*given, *self.options, *self.command]

    def several_hosts(self) -> bool:
        """Whether ranks may run elsewhere."""
        return bool(self.hosts) or int(os.environ.get("SLURM_NNODES", "1")) > 1


def find_mpiexec() -> str:
    """The path of MPI's launcher: of this Python environment, else the first on the path.

    Raises:
        LaunchError: there is none.
    """
    beside = Path(sys.executable).parent / "mpiexec"
    found = str(beside) if beside.exists() else shutil.which("mpiexec")
    if found is None:
        raise LaunchError("there is no mpiexec; `pip install flambeau[mpi]` brings one")
    return found


def _is_open_mpi(mpiexec: str) -> bool:
    try:
        told = subprocess.run([mpiexec, "--version"], capture_output=True, text=True, timeout=60)
    except OSError as error:
        raise LaunchError(f"cannot run {mpiexec}: {error}") from error
    return "Open MPI" in told.stdout or "OpenRTE" in told.stdout


def _own_address(job: Job) -> str:
    """Where ranks find this launcher."""
    if job.address:
        return job.address
    if not job.several_hosts():
        return "127.0.0.1"
    return socket.gethostbyname(socket.gethostname())


class _Forward(threading.Thread):
    """Passes on what the ranks write, line by line, and notes how one of them was killed.

    Args:
        source: of MPI's launcher.
        target: ours.
        start: is given the commands of proxies, where MPI's launcher prints them.
    """

    def __init__(
        self, source: IO[bytes], target: Any, start: Callable[[list[str]], None] | None = None
    ) -> None:
        super().__init__(daemon=True)
        self.start_proxies = start
        self.proxies: list[str] = []
        self.source = source
        self.target = target
        self.banners: list[bytes] = []
        self.signalled = ""
        self.start()

    def run(self) -> None:
        """Pass on lines until there are no more."""
        for line in self.source:
            if found := _SIGNALLED.search(line):
                self.signalled = self.signalled or found[1].decode()
            if self.start_proxies is not None and line.startswith(_PROXY):
                if line.startswith(_PROXY + b":"):
                    self.proxies.append(line.partition(b":")[2].decode())
                else:
                    self.start_proxies(self.proxies)
                continue
            if line.startswith(_BANNERS):
                self.banners.append(line)
                continue
            with contextlib.suppress(OSError, ValueError):
                self.target.write(line)
                self.target.flush()


def run_once(job: Job, progress: Callable[[Watch], None] | None = None) -> Failure | None:
    """Start the ranks, and wait for their end.

    Args:
        job: what to run.
        progress: called about five times a second.

    Returns:
        None when every rank ended well, else what happened; no process is left in either case.

    Raises:
        LaunchError: MPI's launcher cannot be run.
    """
    words = job.words()
    watch = Watch(job.ranks, job.limits, _own_address(job))
    environment = {**job.environment, LAUNCHER: watch.address}
    begun = time.time()
    try:
        process = subprocess.Popen(
            words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    except OSError as error:
        watch.close()
        raise LaunchError(f"cannot run {words[0]}: {error}") from error
    assert process.stdout is not None
    assert process.stderr is not None
    forwards = [
        _Forward(process.stdout, sys.stdout.buffer, job.start_proxies),
        _Forward(process.stderr, sys.stderr.buffer),
    ]
    try:
        while process.poll() is None and watch.failure is None:
            watch.hear(0.2)
            watch.judge()
            if progress is not None:
                progress(watch)
        watch.settle(process.returncode)
        if watch.failure is not None:
            watch.conclude()
    finally:
        _end(process, watch, begun)
        for forward in forwards:
            forward.join(_GRACE_SECONDS)
        watch.close()
    failure = watch.failure
    if failure is not None and not failure.ranks:  # all that is known is what MPI said
        failure.detail = b"".join(line for f in forwards for line in f.banners).decode()
    signalled = next((f.signalled for f in forwards if f.signalled), "")
    if failure is not None and failure.died and signalled:
        failure.cause += f": {signalled}"
    return failure


def _end(process: subprocess.Popen[bytes], watch: Watch, begun: float) -> None:
    """See that no process of the job is left."""
    watch.order_end()
    for order in (None, process.terminate, process.kill):
        if order is not None:
            order()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_SECONDS)
            break
    for rank in watch.ranks:
        if rank.pid and rank.host == socket.gethostname():
            _kill(rank.pid, watch.address)
    if watch.failure is not None:
        segments.unlink_left(begun)


def _kill(pid: int, mark: str) -> None:
    """Kill a process that carries the job's mark in its environment."""
    with contextlib.suppress(OSError):
        if mark.encode() in Path(f"/proc/{pid}/environ").read_bytes():
            os.kill(pid, signal.SIGKILL)


def run(
    job: Job,
    restarts: int = 0,
    fewest: int = 0,
    progress: Callable[[Watch], None] | None = None,
    cluster: Hosts | None = None,
    tell: Callable[[str], None] = lambda text: print(text, end="", file=sys.stderr, flush=True),
) -> int:
    """Run a job, and start it again when it fails.

    Args:
        job: what to run.
        restarts: how often it may be started again.
        fewest: with how few ranks that may be, once processes died; 0 keeps the number.
        progress: called while it runs.
        cluster: finds the hosts for each attempt, in place of the job's own.
        tell: gets the reports.

    Returns:
        The exit code: 0, or 1 when the last attempt failed.
    """
    ranks, pause = job.ranks, 0.0
    for attempt in range(restarts + 1):
        environment = {
            **job.environment,
            "TORCHELASTIC_RESTART_COUNT": str(attempt),
            "TORCHELASTIC_MAX_RESTARTS": str(restarts),
        }
        attempted = replace(job, ranks=ranks, environment=environment)
        try:
            if cluster is not None:
                attempted.hosts, attempted.address = cluster.place(ranks), cluster.address
                attempted.start_proxies = cluster.start
            failure = run_once(attempted, progress)
        finally:
            if cluster is not None:
                cluster.release()
        if failure is None:
            return 0
        tell(failure.report())
        if failure.died and fewest:
            ranks = max(fewest, ranks - len(failure.ranks))
        # hosts that cannot be reached may come back
        pause = 0.0 if failure.started else min(2 * pause + 1, _LONGEST_PAUSE)
        if attempt < restarts:
            tell(
                f"flambeau launch: starting again with {ranks} ranks, restart {attempt + 1} of"
                f" {restarts}{f', in {pause:g} s' if pause else ''}\n"
            )
            time.sleep(pause)
    return 1
