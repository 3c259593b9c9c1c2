"""Listening while a profile records: recorded rows, memory, shares of workers, garbage collection.

Note [Rows in a profile]
An operation is recorded in about a microsecond, so its call is not wrapped. Each node that is made
is seen instead: the stack says which row's body or which line of the program made it. The time of
a row is what has passed on the host since the thread's last event, the program's own Python
included: that is the time in which the host did nothing but get to this row.
"""

from __future__ import annotations

import gc
import inspect
import os
import sys
import threading
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any

import numpy as np

from flambeau import record
from flambeau.ir.graph import INPUT, PICK, VIEW, Node, origin_of, unwatch_nodes, watch_nodes
from flambeau.ops.rows import ROWS
from flambeau.runtime import memory, profile, runner, threads

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_WORKER_SPANS = 1 << 15
_STACK = 64

# What a frame of the stack is: the program's, the package's, or one in which what is made is no
# operation of the program (a composite's body looked at, a graph being compiled).
_USER, _OURS, _UNSEEN = "user", "ours", "unseen"


@dataclass(slots=True)
class Row:
    """An operation that was recorded.

    Attributes:
        name: of the row.
        start, end: host time, by `profile.clock`: Note [Rows in a profile].
        thread: identifier of the Python thread.
        stack: lines of the program, innermost first: (file, line, function).
        shapes: of the tensors it reads.
    """

    name: str
    start: int
    end: int
    thread: int
    stack: tuple[tuple[str, int, str], ...]
    shapes: tuple[tuple[int, ...], ...]


class Recorder(profile.Session):
    """A session that also sees rows, memory, workers and garbage collections.

    Args:
        with_rows: note what is recorded.
        with_stack: note all lines of the program that led to a row, not the innermost alone.
        with_memory: note what is allocated and given back.

    Attributes:
        rows: recorded operations; nodes' `origin` counts them.
        memory: (time, address, bytes, allocated) of every change.
        worker_spans: (worker, start, end) of shares of parallel loops.
        reserved: bytes taken from the system at the end.
        allocated: bytes in use at the start.
        threads: of parallel loops.
        base: the first row's number in nodes' `origin`; rows of all profiles have different ones.
    """

    _numbers = 0

    def __init__(self, with_rows: bool, with_stack: bool, with_memory: bool) -> None:
        super().__init__()
        self.rows: list[Row] = []
        self.memory: list[tuple[int, int, int, int]] = []
        self.worker_spans: list[tuple[int, int, int]] = []
        self.reserved = 0
        self.allocated = 0
        self.threads = 1
        self.base = Recorder._numbers
        self._with_rows = with_rows
        self._with_stack = with_stack
        self._with_memory = with_memory
        self._kinds: dict[CodeType, str] = {}
        self._bodies = {
            code: name
            for name, op in ROWS.items()
            if op.body is not None
            and (code := getattr(inspect.unwrap(op.body), "__code__", None)) is not None
        }
        self._table: Any = None
        self._call: tuple[Any, list[int]] = (None, [])  # of the last row: frame, how far it came
        self._collecting = 0

    def open(self) -> None:
        """Begin to listen."""
        count = self.threads = threads.get_num_threads()
        self._table = np.zeros((count, 1 + 2 * _WORKER_SPANS), np.int64)
        runner.timed()  # compiled now rather than in the first program
        threads.watch_workers(self._table.ctypes.data, count, _WORKER_SPANS)
        self.crowded = self._drain_if_full
        self.allocated = memory.memory_allocated()
        if self._with_memory:
            memory.observe(self._moved)
        if self._with_rows:
            watch_nodes(self._made)
        gc.callbacks.append(self._collected)
        super().open()

    def close(self) -> None:
        """Listen no longer."""
        super().close()
        gc.callbacks.remove(self._collected)
        if self._with_rows:
            unwatch_nodes(self._made)
        memory.observe(None)
        self.reserved = memory.memory_reserved()
        threads.watch_workers(0)
        Recorder._numbers = self.base + len(self.rows) + 1
        self._drain()
        self._table = None

    # -- workers ----------------------------------------------------------------------------------

    def _drain_if_full(self) -> None:
        if self._table is not None and 2 * self._table[:, 0].max() > _WORKER_SPANS:
            self._drain()

    def _drain(self) -> None:
        for worker, row in enumerate(self._table):
            count = int(row[0])
            times = row[1 : 1 + 2 * count].reshape(-1, 2).tolist()
            row[0] = 0
            if len(self.worker_spans) < self.limit:
                self.worker_spans += [(worker, start, end) for start, end in times]

    # -- memory -----------------------------------------------------------------------------------

    def _moved(self, address: int, nbytes: int, allocated: int) -> None:
        if len(self.memory) < self.limit:
            self.memory.append((profile.clock(), address, nbytes, allocated))

    def _collected(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._collecting = profile.clock()
        elif self._collecting and len(self.spans) < self.limit:  # within whatever goes on
            start, end, thread = self._collecting, profile.clock(), threading.get_ident()
            known = {"generation": info["generation"], "collected": info["collected"]}
            self.spans.append(
                profile.Span("garbage collection", "garbage", start, end, thread, known)
            )

    # -- rows -------------------------------------------------------------------------------------

    def _made(self, node: Node) -> None:
        """A node was made: by a row of its own, by the body of the last one, or unseen."""
        if node.op is INPUT or len(self.rows) >= self.limit or profile.active is not self:
            return
        if node.op is PICK:  # one of the results of the row before
            node.origin = origin_of(node.src[0])
            return
        if node.op is VIEW:  # made by the row that is about to read it
            node.origin = self.base + len(self.rows)
            return
        if record.thread.tracing:
            return
        frame: FrameType | None = sys._getframe(2)
        body: FrameType | None = None
        path: list[int] = []  # instructions that the frames are at, up to the body's
        depth = 0
        kinds = self._kinds
        while frame is not None:
            code = frame.f_code
            kind = kinds.get(code) or self._kind(code)
            if kind == _USER:
                break
            if kind == _UNSEEN:
                return
            path.append(frame.f_lasti)
            if code in self._bodies:
                body, depth = frame, len(path)
            frame = frame.f_back
        thread = threading.get_ident()
        now = profile.clock()
        if body is not None:
            # The same call still, if the same frame has come further. A frame's address may be
            # that of one before it, which was as far or further then.
            which, at = (id(body), body.f_code, thread), path[depth - 1 :: -1]
            if self._call[0] == which and at > self._call[1]:
                row = self.rows[-1]
                if row.end == self.last():
                    row.end = self._local.last = now
                    self._call = (which, at)
                    node.origin = self.base + len(self.rows) - 1
                    return
            self._call = (which, at)
        node.origin = self.base + len(self.rows)
        name = node.op.name if body is None else self._bodies[body.f_code]
        shapes = tuple(s.shape for s in node.src if type(s) is Node)
        row = Row(name, self.last(), now, thread, self._stack(frame), shapes)
        self.rows.append(row)
        self._local.last = now

    def _kind(self, code: CodeType) -> str:
        name = code.co_filename
        ours = name.startswith(_PACKAGE) and not name.startswith(_PACKAGE + "commands")
        kind = _OURS if ours else _USER
        if ours and code.co_name in _UNSEEN_IN.get(name[len(_PACKAGE) :], ()):
            kind = _UNSEEN
        self._kinds[code] = kind
        return kind

    def _stack(self, frame: FrameType | None) -> tuple[tuple[str, int, str], ...]:
        lines: list[tuple[str, int, str]] = []
        while frame is not None and len(lines) < _STACK:
            code = frame.f_code
            if (self._kinds.get(code) or self._kind(code)) == _USER:
                lines.append((code.co_filename, frame.f_lineno, code.co_name))
                if not self._with_stack:
                    break
            frame = frame.f_back
        return tuple(lines)


#: Functions of the package in whose calls nodes are no operations of the program.
_UNSEEN_IN = {
    "record.py": ("_execute", "lift", "_fail", "_settle", "pending_graph"),
    os.path.join("passes", "pipeline.py"): ("lower",),
    "explanation.py": ("explain",),
}
