"""A rank's line to its launcher: signs of life, the report of a failure, and the order to end.

Note [Launcher and ranks]
`flambeau launch` (or, where ranks start each other, the process of `rendezvous`) listens on a
socket; every rank connects to it before it runs the program and
sends JSON lines: `hello` with process and host, `beat` every second with the collective it waits
in, `failed` with a traceback, `bye`. A connection that ends without `bye` is a rank that died. The
launcher sends `tell` (answered with the flight record and every thread's stack) and `end`. This is
apart from MPI, so it works when MPI does not: a rank that is stuck in a collective still answers.
A rank whose launcher is gone ends itself.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
import threading
import time
import traceback
from multiprocessing import util
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

from flambeau.distributed import segments
from flambeau.distributed.recorder import flight_record, waiting

LAUNCHER = "FLAMBEAU_LAUNCHER"
"""Variable with the launcher's "host:port:secret"."""

BEAT_SECONDS = 0.5
_RUNNER = str(Path(__file__).parents[1] / "commands" / "run.py")  # the last frame before a program


class Heartbeat:
    """The connection of one rank.

    Args:
        address: the launcher's "host:port:secret".
        rank: of this process.

    Raises:
        OSError: the launcher cannot be reached.
    """

    def __init__(self, address: str, rank: int) -> None:
        host, port, secret = address.rsplit(":", 2)
        self._socket = socket.create_connection((host, int(port)), timeout=20)
        self._socket.settimeout(None)
        self._lock = threading.Lock()
        self._main = threading.main_thread().ident
        self.rank = rank
        hello = {"secret": secret, "pid": os.getpid(), "host": socket.gethostname()}
        self._send("hello", rank=rank, **hello)
        # a worker process that outlives its rank must not hold the connection open
        os.register_at_fork(after_in_child=self._socket.close)
        threading.Thread(target=self._run, name="flambeau-heartbeat", daemon=True).start()

    def _send(self, kind: str, **fields: Any) -> None:
        line = json.dumps({"kind": kind, **fields}).encode() + b"\n"
        with self._lock:
            self._socket.sendall(line)

    def _run(self) -> None:
        received = b""
        beat = 0.0
        try:
            while True:
                if (now := time.monotonic()) >= beat:
                    beat = now + BEAT_SECONDS
                    self._send("beat", records=_newest())
                ready, _, _ = select.select([self._socket], [], [], max(0.0, beat - now))
                if not ready:
                    continue
                data = self._socket.recv(4096)
                if not data:
                    _end(1)
                *lines, received = (received + data).split(b"\n")
                for line in lines:
                    self._obey(json.loads(line))
        except (OSError, ValueError):
            _end(1)

    def _obey(self, order: dict[str, Any]) -> None:
        if order["kind"] == "tell":
            self._send("told", records=_records(), stacks=self._stacks())
        elif order["kind"] == "end":
            _end(1)

    def _stacks(self) -> list[str]:
        """The main thread's stack, from the program on."""
        main = sys._current_frames().get(self._main or 0)
        stack = traceback.extract_stack(main)
        own = [n for n, frame in enumerate(stack) if frame.filename == _RUNNER]
        return traceback.format_list(stack[own[-1] + 1 if own else 0 :])

    def failed(self, text: str) -> None:
        """Tell the launcher that this rank failed, with its traceback or reason."""
        self._send("failed", text=text, records=_records())

    def bye(self) -> None:
        """Tell the launcher that this rank is done."""
        self._send("bye", records=_records())

    def end(self, reason: str, code: int) -> NoReturn:
        """End this rank, and with it the job."""
        self.failed(reason)
        _end(code)

    def say_bye_at_exit(self) -> None:
        """Tell the launcher how this process ends: for processes that it does not run itself."""
        # unlike `atexit`, in processes of `multiprocessing` too, before they print what they raised
        util.Finalize(None, self._leave, exitpriority=0)

    def _leave(self) -> None:
        error = sys.exc_info()[1]
        try:
            if isinstance(error, SystemExit) and error.code:
                self.failed(f"left with exit code {error.code}")
            elif error is not None and not isinstance(error, SystemExit):
                self.failed("".join(traceback.format_exception(error)))
            else:
                self.bye()
        except OSError:  # the launcher is gone
            pass

    def report_exceptions(self, show: bool = False) -> None:
        """Let an exception that ends the program end the whole job, with the launcher's report.

        Args:
            show: whether this process shows it as well.
        """
        shown = sys.excepthook

        def hook(
            kind: type[BaseException], error: BaseException, trace: TracebackType | None
        ) -> None:
            if show:
                shown(kind, error, trace)
            try:
                self.failed("".join(traceback.format_exception(kind, error, trace)))
            except OSError:
                if not show:
                    shown(kind, error, trace)
            _end(1)

        sys.excepthook = hook


def _records() -> list[dict[str, Any]]:
    return [entry.as_dict() for entry in flight_record()]


def _newest() -> list[dict[str, Any]]:
    """The collective that is waited for, if there is one, and the newest."""
    record = flight_record()
    entry = waiting()
    shown = [entry] if entry is not None else []
    return [e.as_dict() for e in (*shown, *(e for e in record[-1:] if e is not entry))]


def _end(code: int) -> NoReturn:
    """End at once: MPI's own way to end would wait for the other ranks."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass
    segments.unlink_own()
    os._exit(code)
