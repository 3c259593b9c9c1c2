"""Ranks that start each other meet at an address: `env://` and `tcp://` without a launcher.

Programs that start their own processes (`multiprocessing.spawn`, a script run by hand once a rank)
say by RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT who they are. MPI's launcher tells its
processes the same in another language: the process management interface (PMI-1), a few lines of
text over a socket. So rank 0 starts a process that speaks it at that address, and MPI in every rank
finds the others there as it would with mpiexec. It is a process, since MPI starts without letting
other threads of Python run. It is the ranks' launcher, too, as far as a failure of one of them is
concerned (Note [Launcher and ranks] in `heartbeat`): the others end, and there is one report.

Reference:
    Balaji et al., PMI: A Scalable Parallel Process-Management Interface for Extreme-Scale Systems,
    EuroMPI 2010.
"""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable

from flambeau.distributed import segments
from flambeau.distributed.heartbeat import Heartbeat
from flambeau.distributed.supervisor import Limits, Watch
from flambeau.distributed.transport.base import DistError, Transport

_POLL_SECONDS = 0.05
_END_SECONDS = 2.0
_LISTENING = "listening"
_PROGRAM = f"from {__name__} import main; main()"
_managers: list[subprocess.Popen[str]] = []
_WORDS = ("PMI_PORT", "PMI_ID", "PMI_RANK", "PMI_SIZE")


class Manager:
    """What answers the ranks.

    Args:
        size: how many there are.
        local: how many of them, one after another, share a machine.
        watch: the address that they tell how they are; "" where nobody listens.
    """

    def __init__(self, size: int, local: int, watch: str = "") -> None:
        self.size = size
        self.watch = watch
        # MPI names shared memory after it, which must not be another job's, or left by one
        self.name = f"world-{secrets.token_hex(8)}"
        self.values = {"PMI_process_mapping": f"(vector,(0,{-(-size // local)},{local}))"}
        self.turn = threading.Condition()
        self.waiting = self.passed = 0
        self.ended = threading.Event()
        self._left = size

    def answers(self, words: dict[str, str]) -> list[str]:
        """The lines that answer a command."""
        key = words.get("key", "")
        match words.get("cmd"):
            case "initack":
                rank = words["pmiid"]
                known = [f"cmd=set size={self.size}", f"cmd=set rank={rank}", "cmd=set debug=0"]
                return ["cmd=initack rc=0", *known]
            case "init":
                return ["cmd=response_to_init rc=0 pmi_version=1 pmi_subversion=1"]
            case "get_maxes":
                return ["cmd=maxes rc=0 kvsname_max=256 keylen_max=64 vallen_max=4096"]
            case "get_appnum":
                return ["cmd=appnum rc=0 appnum=0"]
            case "get_universe_size":
                return [f"cmd=universe_size rc=0 size={self.size}"]
            case "get_my_kvsname":
                return [f"cmd=my_kvsname rc=0 kvsname={self.name}"]
            case "watch":
                return [f"cmd=watch address={self.watch}"]
            case "put":
                self.values[key] = words["value"]
                return ["cmd=put_result rc=0"]
            case "get" if key in self.values:
                return [f"cmd=get_result rc=0 value={self.values[key]}"]
            case "get":
                return ["cmd=get_result rc=-1 msg=key_not_found value=unknown"]
            case "barrier_in":
                self.meet()
                return ["cmd=barrier_out rc=0"]
            case "finalize":
                return ["cmd=finalize_ack rc=0"]
            case other:
                return [f"cmd={other} rc=-1"]

    def meet(self) -> None:
        """Return when every rank is here."""
        with self.turn:
            number = self.passed
            self.waiting += 1
            if self.waiting == self.size:
                self.waiting = 0
                self.passed += 1
                self.turn.notify_all()
            self.turn.wait_for(lambda: self.passed > number)

    def serve(self, connection: socket.socket) -> None:
        """Answer one rank until it ends."""
        known = False
        with connection, connection.makefile("rw", newline="\n") as lines:
            for line in lines:
                words = dict(p.split("=", 1) for p in line.split() if "=" in p)
                known = known or words.get("cmd") == "initack"
                lines.write("".join(f"{answer}\n" for answer in self.answers(words)))
                lines.flush()
        if known:
            with self.turn:
                self._left -= 1
                if not self._left:
                    self.ended.set()


def main() -> None:
    """Answer ranks until all have ended; arguments: how many, on a machine, host, port."""
    size, local, host, port = sys.argv[1:]
    try:
        listener = socket.create_server((host, int(port)))
    except OSError as error:
        print(error, flush=True)
        sys.exit(1)
    begun = time.time()
    watch = Watch(int(size), Limits(), host)
    manager = Manager(int(size), int(local), watch.address)
    print(_LISTENING, flush=True)

    def accept() -> None:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=manager.serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    while watch.failure is None and not manager.ended.is_set():
        watch.hear(_POLL_SECONDS)
    watch.settle(None)
    if watch.failure is not None:
        watch.conclude()
        sys.stderr.write(watch.failure.report("flambeau"))
        watch.order_end()
        manager.ended.wait(_END_SECONDS)  # who is in MPI ends when this process does
        segments.unlink_left(begun)


def _be_watched(rank: int, connection: socket.socket) -> None:
    """Ask the manager whom to tell how this rank is, and do so from now on."""
    with connection, connection.makefile("rw", newline="\n") as lines:
        lines.write("cmd=watch\n")
        lines.flush()
        address = lines.readline().strip().rpartition("address=")[2]
    if address:
        heartbeat = Heartbeat(address, rank)
        heartbeat.report_exceptions(show=True)
        heartbeat.say_bye_at_exit()


def meet(
    rank: int,
    size: int,
    host: str,
    port: int,
    seconds: float,
    start: Callable[[], Transport],
) -> Transport:
    """Start MPI as one of some ranks.

    Args:
        rank, size: which this is, and of how many.
        host, port: where rank 0 listens.
        seconds: how long to wait for it.
        start: starts MPI, with the environment that tells it where the others are.

    Returns:
        What `start` does.

    Raises:
        DistError: rank 0 cannot listen there, or is not there in time.
    """
    if rank == 0:
        local = int(os.environ.get("LOCAL_WORLD_SIZE", size))
        words = [sys.executable, "-c", _PROGRAM, *map(str, (size, local, host, port))]
        manager = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        )
        _managers.append(manager)
        assert manager.stdout is not None
        told = manager.stdout.readline().strip()
        if told != _LISTENING:
            raise DistError(f"rank 0 cannot listen at {host}:{port}: {told}")
    end = time.monotonic() + seconds
    while True:
        try:
            _be_watched(rank, socket.create_connection((host, port), timeout=1))
            break
        except OSError as error:
            if time.monotonic() > end:
                raise DistError(
                    f"rank 0 did not listen at {host}:{port} within {seconds} s: {error}"
                ) from error
            time.sleep(_POLL_SECONDS)
    os.environ.update(zip(_WORDS, (f"{host}:{port}", str(rank), str(rank), str(size)), strict=True))
    try:
        return start()
    finally:
        for word in _WORDS:
            del os.environ[word]
