"""One compiled function: watch it, keep what was recorded, replay it.

The first call finds out which Python runs; the next one is recorded under guards; later calls whose
guards hold are replayed. A call that cannot be replayed is recorded as any other code is: slower,
and right.
"""

from __future__ import annotations

import os
import sys
import threading
import types
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from flambeau import record
from flambeau.autograd.backward import _accumulate, _run
from flambeau.compile import live as live_methods
from flambeau.compile.guards import Refusal, Walk
from flambeau.compile.observe import Observer, names_of
from flambeau.compile.replay import Missed, Path, Region, replay
from flambeau.compile.watch import Marker, Watcher
from flambeau.ir.graph import INPUT, Node
from flambeau.ir.symbol import SymFloat, SymInt, at_hand, filled
from flambeau.ops.generator import default_generator
from flambeau.size import Size
from flambeau.tape import modes
from flambeau.tensor import Tensor

#: How many recordings (guards) a function keeps, and how many values a read may lead on by.
MAX_RECORDINGS = 64
MAX_VALUES = 16
#: Calls whose sizes are remembered, to see which change.
MAX_SEEN = 8
#: After so many calls in a row that could not be kept, a function is recorded each time.
MAX_REFUSALS = 12
#: After so many recordings that were not used again, likewise.
MAX_UNUSED = 128

_GRADIENT_CODE = frozenset((_accumulate.__code__, _run.__code__))

_lock = threading.RLock()


class State(threading.local):
    """What a thread is doing: whether a compiled function is being recorded, and whether compiled
    functions run as they are written (inside others, and where they are disabled); and how they
    behave (`compiler.set_stance`)."""

    compiling = False
    plain = False
    stance = "default"


state = State()


class Recording:
    """A guard and the tree of what was recorded under it."""

    __slots__ = (
        "guard",
        "path",
        "places",
        "random",
        "reasons",
        "room",
        "shapes",
        "symbols",
        "used",
    )

    def __init__(
        self,
        guard: Callable[[Any, Any], Any],
        path: Path,
        room: int,
        random: bool,
        walk: Walk,
    ) -> None:
        self.guard = guard
        self.path = path
        self.room = room
        self.random = random
        self.reasons = walk.reasons
        self.symbols = walk.symbols
        self.shapes = walk.shapes
        self.places = walk.places
        self.used = 0


def _inner(function: Any) -> Any:
    """The function that a compiled wrapper stands for, or None."""
    engine = vars(function).get("_engine")
    return engine.fn if isinstance(engine, Engine) else None


class Engine:
    """Runs one compiled function.

    Args:
        fn: the function.
        name: for messages.
        fullgraph: raise where a call cannot be replayed.
        dynamic: whether sizes become symbols: those that change (None), those of all arguments
            (True) or none (False).

    Attributes:
        recordings: the newest first.
        calls, replays: how many calls there were, and how many ran no Python.
        refused: why calls were not kept: reason -> how often.
        recompiles: why calls were recorded although there were recordings.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        name: str,
        fullgraph: bool = False,
        dynamic: bool | None = None,
    ) -> None:
        self.fn = fn
        self.dynamic = dynamic
        self.limit = MAX_RECORDINGS
        self.name = name
        self.fullgraph = fullgraph
        code = getattr(fn, "__code__", None)
        self.code = code if isinstance(code, types.CodeType) else None
        self.reset()
        engines.add(self)

    def reset(self) -> None:
        """Forget everything recorded."""
        self.recordings: list[Recording] = []
        self.codes: dict[types.CodeType, dict[str, Any]] = {}
        self.gradients = False
        self.seen: list[dict[str, tuple[int, ...]]] = []
        self.fixed = self.dynamic is False  # no size becomes a symbol
        self.off = ""
        self.calls = 0
        self.replays = 0
        self.watched = 0
        self.in_a_row = 0
        self.refused: dict[str, int] = {}
        self.recompiles: list[str] = []

    def call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the function: replayed where a recording's guard holds."""
        if state.plain or record.thread.tracing or state.stance == "force_eager":
            return self.fn(*args, **kwargs)
        self.calls += 1
        at = 0
        failed = missed = None
        for recording in self.recordings:
            found = recording.guard(args, kwargs)
            if type(found) is not int:
                try:
                    result = replay(
                        recording.path,
                        found,
                        recording.room,
                        recording.random,
                        recording.symbols,
                    )
                except Missed:
                    failed, missed = "a value that was read from a tensor", recording
                    at += 1
                    continue
                self.replays += 1
                recording.used += 1
                if at:
                    self._to_front(recording)
                return result
            if failed is None:
                failed = recording.reasons[found]
            at += 1
        if failed is not None and state.stance == "fail_on_recompile":
            raise RuntimeError(
                "Detected recompile when torch.compile stance is 'fail_on_recompile'. "
                f"{self.name}: {failed} has changed"
            )
        if self.off or (failed is not None and state.stance == "eager_on_recompile"):
            return self.fn(*args, **kwargs)
        return self._record(args, kwargs, failed, missed)

    def _to_front(self, recording: Recording) -> None:
        """Look at a recording first, unless a thread that may wait for this one is watched."""
        if not _lock.acquire(blocking=False):
            return
        try:
            if recording in self.recordings:
                self.recordings = [recording, *(r for r in self.recordings if r is not recording)]
        finally:
            _lock.release()

    # -- recording ------------------------------------------------------------------------------

    def _record(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        failed: str | None,
        known: Recording | None,
    ) -> Any:
        """Run the function as it is written, and keep what it records if that can be replayed."""
        if not _lock.acquire(blocking=False):  # another thread is being watched
            return self.fn(*args, **kwargs)
        try:
            if failed is not None:
                self._tell(failed)
            return self._watched(args, kwargs, known)
        finally:
            _lock.release()

    def _tell(self, failed: str) -> None:
        self.recompiles.append(failed)
        del self.recompiles[:-MAX_RECORDINGS]
        if "recompiles" in os.environ.get("FLAMBEAU_PRINT", "").split(","):
            print(
                f"recompiling {self.name}: {failed} has changed "
                f"({len(self.recordings)} recordings)",
                file=sys.stderr,
            )

    def _watched(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], known: Recording | None
    ) -> Any:
        observer = Observer()
        watcher: Watcher | None = None
        reason = self._unfit()
        record.flush()
        walk = Walk(
            self.codes,
            self.gradients,
            tuple(live_methods.CLASSES),
            _inner,
            None if self.fixed else self.seen,
            bool(self.dynamic),
        )
        if not reason and self.codes:
            try:
                walk.arguments(args, kwargs)
                walk.walk(self.fn, walk._constant(self.fn), self.name)
                walk.globals()
                self._enter(walk)
                watcher = Watcher(walk, observer, self.code)
                reason = watcher.reason
            except Refusal as refusal:
                reason, watcher = str(refusal), None
        record.thread.watcher = None if reason else watcher
        before = state.compiling, state.plain
        state.compiling = state.plain = True
        try:
            value = observer.run(self.fn, args, kwargs)
        except BaseException:
            self._learn(observer)
            self._leave(walk)
            raise
        finally:
            record.thread.watcher = None
            state.compiling, state.plain = before
        found = self._learn(observer)
        if not reason and observer.impure:
            reason = f"it calls {observer.impure}, whose result may change"
        if watcher is None:  # what ran only once (imports, first steps) is not asked for again
            self.codes = observer.codes
        elif not reason and not found:
            try:
                self._keep(watcher, walk, value, known)
            except Refusal as refusal:
                reason = str(refusal)
        self._leave(walk)
        if watcher is not None and any(map(record.is_exposed, watcher.cells)):
            record.flush()  # what others see waits for nothing
        if reason:
            self._refuse(reason)
        marked = watcher is not None and (watcher.markers or walk.symbols is not None)
        return unmarked(value) if marked else value

    def _enter(self, walk: Walk) -> None:
        """Let tensors show symbolic sizes while a call is recorded."""
        if walk.symbols is not None:
            walk.symbols.__enter__()
            for t, shape in walk.symbolic:
                if t._cell.node.shape == t._shape:
                    t._cell.node.shape = shape
                t._shape = shape

    def _leave(self, walk: Walk) -> None:
        """What the call leaves behind has the sizes of now."""
        if walk.symbols is not None:
            walk.symbols.__exit__()
            default_generator._counter = at_hand(default_generator._counter)
            for t in walk.tensors:
                _with_numbers(t)
                if t._grad is not None:
                    _with_numbers(t._grad)

    def _agrees(self, path: Path, walk: Walk) -> bool | None:
        """Whether what was recorded for symbolic sizes is, for sizes that were recorded before,
        what was recorded then; None where no such sizes meet its guards. Sizes that C code has
        read cannot be followed: this finds them."""
        if walk.symbols is None:
            return True
        found = None
        for other in self.recordings:
            try:
                sizes = [other.shapes[path][d] for path, d in walk.places]
                own = [other.shapes[path][d] for path, d in other.places]
            except (KeyError, IndexError):
                continue
            unknowns = walk.symbols.values(sizes)
            if unknowns is None or sizes == [walk.shapes[path][d] for path, d in walk.places]:
                continue
            known = () if other.symbols is None else other.symbols.unknowns_at(own)
            if not agrees(path, unknowns, other.path, known):
                return False
            found = True
        return found

    def _unfit(self) -> str:
        """Why nothing can be replayed now, or ""."""
        if modes.anomaly:
            return "anomaly detection is on"
        if record.sync:
            return "FLAMBEAU_SYNC is set"
        return ""

    def _learn(self, observer: Observer) -> bool:
        """Take note of the Python that ran; -> whether some of it is new."""
        new = observer.codes.keys() - self.codes.keys()
        self.codes = {**self.codes, **observer.codes}
        gradients = not _GRADIENT_CODE.isdisjoint(observer.entered) or any(
            names_of(c).own and "grad" in names_of(c).reads for c in new
        )
        if gradients and not self.gradients:
            self.gradients = True
            return True
        return bool(new)

    def _keep(self, watcher: Watcher, walk: Walk, value: Any, known: Recording | None) -> None:
        """Add what was recorded.

        Raises:
            Refusal: it cannot be replayed.
        """
        if name := walk.missing():
            raise Refusal(f"what leads to {name}, which it calls, was not found")
        path, containers, room, random = watcher.finish(value)
        if self._learn(watcher.observer):  # the backward pass ran Python too
            return
        self.seen.append(walk.shapes)
        del self.seen[:-MAX_SEEN]
        agreed = self._agrees(path, walk)
        if agreed is False:
            self.fixed = True
            return
        guard = walk.guard(containers, pinned=agreed is None)
        self.watched += 1
        self.in_a_row = 0
        if known is not None and known.random == random and not (known.symbols or walk.symbols):
            if _graft(known.path, path):
                known.room = max(known.room, room)
                return
        self.recordings.insert(0, Recording(guard, path, room, random, walk))
        del self.recordings[self.limit :]
        if self.watched > MAX_UNUSED and self.watched > self.replays:
            self.off = "what it depends on changes at nearly every call"

    def _refuse(self, reason: str) -> None:
        self.refused[reason] = self.refused.get(reason, 0) + 1
        self.in_a_row += 1
        if self.fullgraph:
            raise RuntimeError(
                f"compile(fullgraph=True): {self.name} cannot be replayed as a whole: {reason}"
            )
        if self.in_a_row >= MAX_REFUSALS and not self.off:
            self.off = reason
            if "recompiles" in os.environ.get("FLAMBEAU_PRINT", "").split(","):
                print(f"{self.name} is recorded at every call: {reason}", file=sys.stderr)


def _graft(old: Path, new: Path) -> bool:
    """Add a path to a tree where a value that was read leads on differently."""
    while True:
        if old.read is None or new.read is None or len(old.steps) != len(new.steps):
            return False
        if old.read.shown != new.read.shown:
            return False
        ((key, rest),) = new.then.items()
        following = old.then.get(key)
        if following is None:
            if len(old.then) >= MAX_VALUES:
                raise Refusal("a value that it reads from a tensor changes at nearly every call")
            # the new path's places hold from here on only where the steps before are its own too
            if not all(map(_equal, old.steps, new.steps)):
                return False
            old.then[key] = rest
            return True
        old, new = following, rest


def _equal(a: Any, b: Any) -> bool:
    """Whether two steps fill the same places with the same results."""
    if type(a) is not type(b):
        return False
    if isinstance(a, Region):
        if a.op is None or b.op is None:
            return a.op is b.op
        joined = {m[0]: m for m in (*b.makes, *a.makes)}
        same = (
            a.sources == b.sources
            and a.numbers == b.numbers
            and a.writes == b.writes
            and a.op.specs == b.op.specs
            and [(n.op, n.attrs, n.shape, n.dtype) for n in a.op.nodes]
            == [(n.op, n.attrs, n.shape, n.dtype) for n in b.op.nodes]
        )
        if same:
            a.makes = list(joined.values())
        return same
    return True


def _with_numbers(t: Tensor) -> None:
    """Have a tensor show the sizes of now."""
    t._shape, t._map = at_hand(t._shape), at_hand(t._map)
    t._cell.node.shape = at_hand(t._cell.node.shape)


def agrees(new: Path, sizes: Sequence[int], old: Path, known: Sequence[int]) -> bool:
    """Whether two paths are the same for some sizes: the unknowns of one and of the other."""
    while True:
        if len(new.steps) != len(old.steps):
            return False
        for a, b in zip(new.steps, old.steps, strict=True):
            if type(a) is not type(b):
                return False
            if isinstance(a, Region) and _content(a, sizes) != _content(b, known):
                return False
        if new.end is not None and old.end is not None:
            shapes = [filled((r.shape, r.map), sizes) for r in new.end.results]
            return shapes == [filled((r.shape, r.map), known) for r in old.end.results]
        if new.read is None or old.read is None:
            return False
        ((key, rest),) = new.then.items()
        if key not in old.then:
            return True
        new, old = rest, old.then[key]


def _content(region: Region, unknowns: Sequence[int]) -> Any:
    """What a region computes, for some sizes."""
    if region.op is None:
        return None
    index = {n: k for k, n in enumerate(region.op.nodes)}
    nodes = [
        (
            n.op,
            n.attrs if n.op is INPUT else filled((n.attrs, n.shape), unknowns),
            n.dtype,
            [index[s] if type(s) is Node else (type(s), s) for s in n.src],
        )
        for n in region.op.nodes
    ]
    numbers = [filled(n, unknowns) for n in region.numbers]
    return nodes, numbers, len(region.sources), region.writes


def unmarked(value: Any) -> Any:
    """A result with the values that its markers and sizes stand for."""
    kind = type(value)
    if kind is Marker:
        return value.value
    if isinstance(value, Tensor):
        _with_numbers(value)
        return value
    if kind in (SymInt, SymFloat, Size):
        return at_hand(value)
    if kind in (list, tuple):
        return kind(map(unmarked, value))
    if isinstance(value, tuple) and hasattr(kind, "_fields"):
        return kind(*map(unmarked, value))
    if isinstance(value, dict):
        for key in list(value):
            value[key] = unmarked(value[key])
    return value


#: Every compiled function there is, for `reset`.
engines: weakref.WeakSet[Engine] = weakref.WeakSet()
