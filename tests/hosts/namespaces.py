"""A training run over three hosts, of which one fails: network namespaces stand in for hosts.

    python -m tests.hosts.namespaces

Each host is a network namespace with an address of its own on a bridge, and a name of its own; a
script stands in for ssh. The run is disturbed in two ways: every process of a host is killed, and
a host's link goes down. Both times the launcher has to say which ranks were lost, end the others,
and start again from the last checkpoint, with the loss of an undisturbed run at the end.

Needs root and iproute2; says that it was skipped where namespaces are not permitted.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.cli.program import ROOT, environment
from tests.hosts.kills import PROGRAM, STEPS, step_of, undisturbed

PREFIX = f"fl{os.getpid() % 10000}"
HOSTS = 3
SECONDS = 150


def ip(*words: str) -> None:
    """Run `ip` with these words."""
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


def namespace(host: int) -> str:
    """Its name; host 0 is where the launcher runs, with the bridge."""
    return f"{PREFIX}h{host}"


def address(host: int) -> str:
    """Its address."""
    return f"10.77.0.{host or 254}"


@contextlib.contextmanager
def network(folder: Path) -> Iterator[Path]:
    """Hosts on a bridge; -> what stands in for ssh."""
    try:
        for host in range(HOSTS + 1):
            ip("netns", "add", namespace(host))
            ip("-n", namespace(host), "link", "set", "lo", "up")
        ip("-n", namespace(0), "link", "add", "br0", "type", "bridge")
        ip("-n", namespace(0), "addr", "add", f"{address(0)}/24", "dev", "br0")
        ip("-n", namespace(0), "link", "set", "br0", "up")
        for host in range(1, HOSTS + 1):
            port = f"{PREFIX}v{host}"
            peer = ("type", "veth", "peer", "name", "eth0", "netns", namespace(host))
            ip("-n", namespace(0), "link", "add", port, *peer)
            ip("-n", namespace(0), "link", "set", port, "master", "br0", "up")
            ip("-n", namespace(host), "addr", "add", f"{address(host)}/24", "dev", "eth0")
            ip("-n", namespace(host), "link", "set", "eth0", "up")
        script = folder / "stand_in_for_ssh"
        script.write_text(
            "#!/bin/sh\n"
            'while [ "${1#-}" != "$1" ]; do shift; done\n'  # options such as -x
            f"host={PREFIX}h${{1##*.}}; shift\n"
            'exec ip netns exec "$host" unshare --uts sh -c'
            ' "hostname $host; $*"\n'
        )
        script.chmod(0o755)
        yield script
    finally:
        for host in range(HOSTS + 1):
            with contextlib.suppress(subprocess.CalledProcessError):
                for pid in pids(host):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                ip("netns", "del", namespace(host))


def pids(host: int) -> list[int]:
    """The processes of a host."""
    told = subprocess.run(
        ["ip", "netns", "pids", namespace(host)], capture_output=True, text=True, check=True
    )
    return [int(word) for word in told.stdout.split()]


def kill_host(host: int) -> None:
    """Kill every process of a host."""
    for pid in pids(host):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def unplug_host(host: int) -> None:
    """Take a host's link down for a while."""
    ip("-n", namespace(host), "link", "set", "eth0", "down")
    threading.Timer(15, ip, ("-n", namespace(host), "link", "set", "eth0", "up")).start()


def disturbed(folder: Path, ssh: Path, disturb: Callable[[int], None]) -> tuple[float, str]:
    """Train on all hosts, disturbing the second one after some steps; -> last loss, what was
    told."""
    hosts = ",".join(address(host) for host in range(1, HOSTS + 1))
    words = [
        *("ip", "netns", "exec", namespace(0), sys.executable, "-m", "flambeau", "launch"),
        *("-n", str(HOSTS), "--hosts", hosts, "--address", address(0), "--restarts", "8"),
        *("--silence", "5", "--start-timeout", "30", "--timeout", "20"),
        *("--mpi", f"-launcher ssh -launcher-exec {ssh}"),
        *(str(PROGRAM), str(folder / "checkpoint"), str(STEPS), str(folder / "loss")),
    ]
    process = subprocess.Popen(
        words,
        cwd=ROOT,
        env=environment(FLAMBEAU_NUM_THREADS="1", UCX_TLS="tcp,self"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    begun = time.monotonic()
    while step_of(folder) < 3 and process.poll() is None and time.monotonic() - begun < SECONDS:
        time.sleep(0.01)
    disturb(2)
    try:
        told = process.communicate(timeout=SECONDS)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    if process.returncode:
        raise RuntimeError(told)
    return float((folder / "loss").read_text()), told


def main() -> int:
    """Run the script; -> its exit code."""
    try:
        ip("netns", "add", f"{PREFIX}probe")
        ip("netns", "del", f"{PREFIX}probe")
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"skipped: network namespaces are not permitted here ({error})")
        return 0
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        alone = Path(name, "alone")
        alone.mkdir()
        wanted = undisturbed(alone)
        for disturb in (kill_host, unplug_host):
            folder = Path(name, disturb.__name__)
            folder.mkdir()
            begun = time.monotonic()
            with network(folder) as ssh:
                loss, told = disturbed(folder, ssh, disturb)
            same = abs(loss - wanted) <= 1e-12 * abs(wanted)
            restarts = told.count("starting again")
            failed += not same or not restarts
            print(
                f"{disturb.__name__}: {'same' if same else 'OTHER'} loss {loss!r}, {restarts}"
                f" restarts, {time.monotonic() - begun:.1f} s\n{told}",
                flush=True,
            )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
