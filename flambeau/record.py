"""Recording and flushing: the only switch between writing a program and running it.

An operation makes a `Node` and hands it to a new `Cell`; nothing is computed. `flush` collects the
cells that live tensors still hold, finds or compiles the program for them, and runs it once.

Note [Liveness]
`_pending` holds every cell made since the last flush. A cell is alive when something besides that
list refers to it, which CPython's reference count tells exactly; what is dead is never visited.

Note [Homes]
A realised cell keeps its buffer (its home): NumPy arrays alias it. Writing to such a cell makes a
pending node whose result the flush writes back into the home, after earlier readers of the old
value. Where memory is visible outside (`exposed`), a write flushes at once, and so does what reads
it, or has a copy (`snapshots.py`): both sides always see each other's writes. A write of
what was computed from the old value is recorded `together` with it, so that it is done in place.

Note [Effects]
What an effect does is seen elsewhere: a rank waits for this one's part of a collective whether or
not anything here reads the result. So its node is pinned until it ran, and a flush runs every
effect that is pending, in the order in which they were recorded. Ranks may flush at different
moments; what they call, and in which order, is the same.
"""

from __future__ import annotations

import operator
import os
import sys
import threading
import traceback
import weakref
from collections import OrderedDict
from functools import lru_cache
from importlib import import_module
from typing import Any

from flambeau.device import device as Device
from flambeau.dtype import dtype as DType
from flambeau.ir.graph import (
    ASSIGN,
    COPY,
    INPUT,
    PICK,
    VIEW,
    Argument,
    Constant,
    Graph,
    Node,
    Op,
    dependents,
    reachable,
    specialised,
)
from flambeau.recovery import FAILED, again, as_pending, begun, fail, salvage
from flambeau.runtime import profile

#: Flush by itself past this many recorded cells, or (checked now and then) this many bytes of
#: live pending results.
MAX_PENDING = 20_000
MAX_PENDING_BYTES = 4 << 30
#: Cells between two looks at what died: so few that the collector of cycles is not called for them.
_CHECK_EVERY = 192
MAX_PROGRAMS = 1024

#: Device type -> module with `compile(graph, key) -> Program`; the device protocol of `runtime/`.
EXECUTORS = {"cpu": "flambeau.runtime.cpu"}


_order = operator.attrgetter("order")


class Cell:
    """A storage: its functional value now, its version, and where its memory is once realised."""

    __slots__ = ("__weakref__", "before", "device", "exposed", "home", "node", "version")

    def __init__(self, node: Node, device: Device) -> None:
        self.node = node
        self.version = 0
        self.home: Any = None
        self.exposed: Any = None
        self.device = device
        self.before: list[Node] | None = None  # what pending writes replaced, oldest first


class Counters:
    """What happened so far: programs compiled and taken from those for other sizes, flushes run,
    cache hits, nodes executed."""

    def __init__(self) -> None:
        self.compiled = 0
        self.resized = 0
        self.flushes = 0
        self.hits = 0
        self.nodes = 0


counters = Counters()
_pending: list[Cell] = []
_effects: list[tuple[Node, Device]] = []  # that are pending: Note [Effects]
_next_check = _CHECK_EVERY
_let_go = 0  # cells that died pending since the last flush
_lock = threading.RLock()
_programs: OrderedDict[Any, Any] = OrderedDict()
#: Bytes that a program may use, or None: set by `budget.set_memory_budget`.
memory_budget: int | None = None
sync = os.environ.get("FLAMBEAU_SYNC", "0") not in ("", "0")


class _Thread(threading.local):
    """What a thread is doing: how deep it records rewriting material, who watches it record, who
    sees its Python run (`compile`), for whom it draws random numbers: count -> how many places
    of the stream a draw takes (`func.vmap`); how deep it is in `together`, and whether exposed
    memory was used there."""

    tracing = 0
    joined = 0
    used = False
    compiling = False  # nodes are made by passes, not recorded
    watcher: Any = None
    observer: Any = None
    draw: Any = None


thread = _Thread()


#: Placeholders of recordings that stand for something else, and of which nothing is executed while
#: they are open: what depends on them waits (`func.vmap`).
withheld: set[Node] = set()


def placeholder(shape: tuple[int, ...], dtype: DType, message: str) -> Node:
    """A value that will never be: using it raises a RuntimeError with this message."""
    return Node(FAILED, (), (message, RuntimeError), shape, dtype)


def _after_fork() -> None:
    """In a child: another thread of the parent may have held the lock, and it is not here."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _bound() -> None:
    """Now and then: let go of cells that died, and flush by itself when much is pending."""
    global _next_check, _let_go
    if thread.tracing or thread.watcher is not None:
        _next_check = len(_pending) + _CHECK_EVERY
        if thread.watcher is not None and len(_pending) > MAX_PENDING:
            thread.watcher.refuse("it records more than fits in one program")
        return
    if sync:
        flush()
        return
    with _lock:
        count = len(_pending)
        refs = sys.getrefcount
        # others only append; the slice, the loop variable and the call account for four
        live = [c for c in _pending[:count] if refs(c) > 4]
        _pending[:count] = live
        _let_go += count - len(live)
        _next_check = len(_pending) + max(_CHECK_EVERY, len(_pending) // 2)
        many = _let_go + len(live) >= MAX_PENDING
        if many or sum(c.node.nbytes for c in live) > MAX_PENDING_BYTES:
            flush()


def new_cell(node: Node, device: Device) -> Cell:
    """A pending cell holding `node`."""
    cell = Cell(node, device)
    _pending.append(cell)
    if sync or len(_pending) >= _next_check:
        _bound()
    return cell


def realised_cell(buffer: Any, shape: tuple[int, ...], dtype: DType, device: Device) -> Cell:
    """A cell over memory that exists."""
    node = Node(INPUT, (), (), shape, dtype)
    node.buffer = buffer
    cell = Cell(node, device)
    cell.home = buffer
    return cell


def is_exposed(cell: Cell) -> bool:
    """Whether memory of this cell is visible outside (NumPy, DLPack, another process)."""
    seen = cell.exposed
    if seen is None:
        return False
    if seen is True:
        return True
    seen[:] = [ref for ref in seen if ref() is not None]
    if not seen:
        cell.exposed = None
        return False
    return True


def expose(cell: Cell, holder: Any) -> None:
    """Count a cell as visible outside for as long as `holder` lives; what is pending runs first,
    since it was recorded to read what the memory holds now."""
    flush()
    if cell.exposed is True:
        return
    if cell.exposed is None:
        cell.exposed = []
    cell.exposed.append(weakref.ref(holder))


def pin(node: Node, device: Device) -> None:
    """Have the next flush run an effect, or a node that has effects in it: Note [Effects]."""
    if thread.watcher is not None:
        thread.watcher.communicates(node.op.name)
    _effects.append((node, device))


def pinned() -> dict[Node, Device]:
    """The effects that wait for a flush."""
    return {node: device for node, device in _effects if node.buffer is None}


def exchange(state: Any = None) -> Any:
    """Put another rank's recording and programs in place of those here, or fresh ones; -> these.

    Ranks that are threads of one process take turns, and each has its own
    (`distributed/transport/local.py`).
    """
    global _effects, _next_check, _let_go, _lock, _programs, withheld
    found = (_pending[:], _effects, _next_check, _let_go, _lock, _programs, withheld)
    if state is None:
        state = ([], [], _CHECK_EVERY, 0, threading.RLock(), OrderedDict(), set())
    pending, _effects, _next_check, _let_go, _lock, _programs, withheld = state
    _pending[:] = pending
    pending.clear()  # who holds a cell is counted: Note [Liveness]
    return found


def write(cell: Cell, node: Node, region: tuple[Any, ...] | None = None) -> None:
    """Give a cell a new value: all of it, or the region (shape, strides, offset)."""
    if thread.watcher is not None:
        thread.watcher.writes(cell)
    old = cell.node
    if cell.home is None or old.buffer is None:
        _remember(cell, old)
    if region is not None:
        node = Node(ASSIGN, (old, node), region, old.shape, old.dtype)
    cell.node = node
    cell.version += 1
    _pending.append(cell)
    if cell.exposed is not None and is_exposed(cell):
        settle_exposed()
    elif sync or len(_pending) >= _next_check:
        _bound()


def _remember(cell: Cell, value: Node) -> None:
    """Keep a value that is not in the cell's home: where a later one fails, it is the value."""
    if cell.before is None:
        cell.before = [value]
    else:
        cell.before.append(value)


def known_at(mark: int, cell: Cell) -> bool:
    """Whether a cell was there when the pending list had `mark` entries."""
    return cell.home is not None or any(c is cell for c in _pending[:mark])


def live_since(mark: int) -> list[tuple[Cell, Node]]:
    """The cells recorded by place `mark` of the pending list or later that are still needed, with
    their values: what a flush would execute of them."""
    refs = sys.getrefcount
    found: dict[Cell, Node] = {}
    cell = None
    for cell in _pending[mark:]:
        # the slice, the loop variable and the call's argument account for three references, and
        # the list of what is pending for one
        if (refs(cell) > 4 or cell in found) and cell.node.buffer is None:
            found[cell] = cell.node
    return list(found.items())


def forget(mark: int, unwanted: Any) -> None:
    """Take cells off the pending list, from place `mark` on, whose values are not to be computed.

    Args:
        unwanted: node -> whether it is.
    """
    with _lock:
        _pending[mark:] = [c for c in _pending[mark:] if not unwanted(c.node)]
        _effects[:] = [pair for pair in _effects if not unwanted(pair[0])]


def place(made: list[Cell], written: list[tuple[Cell, Node]]) -> None:
    """Enter new cells, and give cells that exist new values, all at once: no flush, of this thread
    or another, sees some of them alone."""
    seen = False
    with _lock:
        _pending.extend(made)
        for cell, node in written:
            if cell.home is None or cell.node.buffer is None:
                _remember(cell, cell.node)
            cell.node = node
            cell.version += 1
            _pending.append(cell)
            seen = seen or (cell.exposed is not None and is_exposed(cell))
    if seen or sync:
        settle()
    elif len(_pending) >= _next_check:
        _bound()


class tracing:
    """While inside, bodies are recorded as rewriting material and nothing flushes by itself."""

    def __enter__(self) -> None:
        thread.tracing += 1

    def __exit__(self, *exc: object) -> None:
        thread.tracing -= 1


def settle() -> None:
    """Flush, unless bodies are being recorded as rewriting material."""
    if not thread.tracing:
        flush()


class together:
    """What is recorded inside runs in one program, though it uses exposed memory: Note [Homes].

    Args:
        later: whether it is left pending at the end; who looks at the memory has to wait first.
    """

    def __init__(self, later: bool = False) -> None:
        self.later = later

    def __enter__(self) -> None:
        thread.joined += 1

    def __exit__(self, *exc: object) -> None:
        thread.joined -= 1
        if thread.used and not thread.joined:
            thread.used = False
            if not self.later:
                flush()


def settle_exposed() -> None:
    """Run what was just recorded to use exposed memory: now, or at the end of `together`."""
    if thread.joined:
        thread.used = True
    else:
        flush()


def flush() -> None:
    """Execute everything that live tensors wait for.

    Raises:
        IndexError, RuntimeError: a value error found while running, naming its operation.
    """
    global _next_check, _let_go
    if not (_pending or _effects) or thread.watcher is not None:
        return  # a watcher flushes where values are read
    with _lock:
        cells = _pending[:]
        del _pending[: len(cells)]
        _next_check, _let_go = len(_pending) + _CHECK_EVERY, 0
        by_device: dict[str, list[Cell]] = {}
        refs = sys.getrefcount
        cell = None
        seen = set()
        for cell in cells:
            # the list, the loop variable and the call's argument account for three references
            if refs(cell) > 3 and cell.node.buffer is None and cell not in seen:
                seen.add(cell)
                by_device.setdefault(cell.device.type, []).append(cell)
        if _effects:
            _with_effects(by_device)
        for cell in by_device.pop("meta", ()):  # how a value without memory came about is nothing
            cell.node = Node(INPUT, (), (), cell.node.shape, cell.node.dtype)
        if withheld:
            _hold_back(by_device)
        groups = list(by_device.items())
        for at, (kind, group) in enumerate(groups):
            try:
                _run(kind, group)
            except BaseException:
                _pending[:0] = [c for _, later in groups[at + 1 :] for c in later]
                raise


def _with_effects(by_device: dict[str, list[Cell]]) -> None:
    """Add a cell for each pending effect that no other value to be computed depends on."""
    missing = {node: device for node, device in _effects if node.buffer is None}
    _effects.clear()
    seen: set[Node] = set()
    stack: list[Any] = [c.node for group in by_device.values() for c in group]
    while stack and missing:
        node = stack.pop()
        if type(node) is Node and node not in seen:
            seen.add(node)
            missing.pop(node, None)
            stack += node.src
    for node, device in missing.items():
        by_device.setdefault(device.type, []).append(Cell(node, device))


def _hold_back(by_device: dict[str, list[Cell]]) -> None:
    """Put cells that depend on what is withheld back on the list of what is pending."""
    for kind, group in by_device.items():
        waiting = dependents([c.node for c in group], withheld)
        _pending.extend(c for c in group if c.node in waiting)
        by_device[kind] = [c for c in group if c.node not in waiting]
    for kind in [kind for kind, group in by_device.items() if not group]:
        del by_device[kind]


def _salvage(kind: str, live: list[Cell], wanted: list[Node], error: BaseException) -> bool:
    """After a program failed: compute what does not depend on the failure, mark the rest.

    All is computed into new memory before any home is written, so that it reads the old values.
    Returns whether a write was lost.
    """
    alone = len(live) == 1 and not live[0].before
    if alone or not isinstance(error, Exception) or begun(wanted, error):
        return _interrupted(live, wanted, error)

    def run(nodes: list[Node]) -> list[Any]:
        return _execute(kind, [Cell(node, live[0].device) for node in nodes], nodes)

    earlier = [[as_pending(n) for n in cell.before or ()] for cell in live]
    try:
        saved = salvage(wanted, earlier, error, run)
    except BaseException:  # somebody interrupts
        _interrupted(live, wanted, error)
        raise
    lost = False
    for cell, node, found in zip(live, wanted, saved, strict=True):
        if found.value is None:
            lost |= fail(cell, node, found.error)
    for cell, node, found in zip(live, wanted, saved, strict=True):
        if found.value is not None:
            if found.value is not node:
                lost = True
                cell.version -= found.writes
                if cell.node is node:
                    cell.node = found.value
            if cell.home is not None:
                import_module(EXECUTORS[kind]).overwrite(cell.home, found.buffer)
            _settle(cell, found.value, found.buffer if cell.home is None else cell.home)
    return lost


def _interrupted(live: list[Cell], wanted: list[Node], error: BaseException) -> bool:
    """After a program failed of which nothing can be run again: take writes back, to homes all of
    them, mark other results. Returns whether a write was lost."""
    lost = False
    for cell, node in zip(live, wanted, strict=True):
        gone = None if cell.home is not None else lambda _: False
        if fail(cell, node, error, gone):
            lost = True
            _pending.append(cell)
    return lost


def canonical(
    live: list[Cell], wanted: list[Node] | None = None
) -> tuple[tuple[Any, ...], list[Node], list[Node], list[Any]]:
    """-> (key, nodes in order, input nodes, run-time numbers) of the pending program.

    `wanted` are the cells' values where another thread may change them meanwhile.
    """
    if wanted is None:
        wanted = [c.node for c in live]
    seen: set[Node] = set()
    stack: list[Any] = wanted[:]
    written: set[int] | None = None
    windows: set[Node] = set()
    while stack:
        node = stack.pop()
        if type(node) is Node and node not in seen:
            seen.add(node)
            if node.op is VIEW and node.src:
                if written is None:
                    written = {id(c.home) for c in live if c.home is not None}
                if _is_window(node, written):
                    windows.add(node)
                    continue
            stack += node.src  # what has memory has no sources
    nodes = sorted(seen, key=_order)
    index = {node: i for i, node in enumerate(nodes)}
    # flat: an entry begins with an operation, or with None where it is an input, and no source is
    # either of them
    key: list[Any] = []
    add = key.append
    inputs: list[Node] = []
    numbers: list[Any] = []
    # the first input over each memory; windows are over memory that nothing here writes
    first: dict[int, int] = {}
    for node in nodes:
        if node.buffer is not None:
            first.setdefault(id(node.buffer), len(inputs))
            inputs.append(node)
            key += (None, node.shape, node.dtype)
            continue
        op = node.op
        if op is VIEW and node in windows:
            first[id(node)] = len(inputs)
            inputs.append(node)
            key += (None, node.shape, node.dtype, node.attrs[0])
            continue
        if op is FAILED:
            raise again(node)
        if op is PICK:  # the rest is said by what it takes from
            key += (op, node.attrs, index[node.src[0]])
            continue
        key += (op, node.attrs, node.shape, node.dtype)
        for at, s in enumerate(node.src):
            if type(s) is Node:
                add(index[s])
            elif specialised(op, at, s):
                add((type(s) is int, s))
            else:
                add("f" if isinstance(s, float) else "i")
                numbers.append(s)
    homes: list[tuple[int, int | None]] = []
    extra = 0
    for c, value in zip(live, wanted, strict=True):
        home = None
        if c.home is not None:
            home = first.get(id(c.home))
            if home is None:
                extra += 1
                home = -extra
        homes.append((index[value], home))
    shared: tuple[int, ...] = ()
    if len(first) < len(inputs):  # over one buffer would let the planner miss a hazard
        shared = tuple([first[id(n if n.buffer is None else n.buffer)] for n in inputs])
    return (tuple(key), tuple(homes), shared), nodes, inputs, numbers


# Note [Windows]
# A view of a part of realised memory (`x[i]`, `x[:, t]`, a chunk) is an input of its own, which
# begins where the view does: the offset is in the address that the program is given, so that a loop
# over `i` compiles one program. It is done where nothing in the program writes to that memory, so
# that no order among readers and writers has to be known; elsewhere views are nodes as any other.


@lru_cache(maxsize=8192)
def _span(shape: tuple[int, ...], strides: tuple[int, ...]) -> int:
    """Elements of storage from a view's first element to its last; 0 where it has none, or steps
    backwards."""
    if 0 in shape or min(strides, default=0) < 0:
        return 0
    return 1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))


def _is_window(node: Node, written: set[int]) -> bool:
    """Whether a view is an input of its own: Note [Windows]."""
    base = node.src[0]
    if base.buffer is None or id(base.buffer) in written or node.dtype is not base.dtype:
        return False
    return 0 < _span(node.shape, node.attrs[0]) < base.numel


class Window:
    """The memory of a window: a buffer from some element on."""

    __slots__ = ("nbytes", "ptr", "whole")

    def __init__(self, node: Node) -> None:
        self.whole = node.src[0].buffer  # keeps it alive
        size = node.dtype.itemsize
        self.ptr = self.whole.ptr + node.attrs[1] * size
        self.nbytes = _span(node.shape, node.attrs[0]) * size


def memory_of(node: Node) -> Any:
    """The memory of an input of a program, as `canonical` gives it."""
    return node.buffer if node.buffer is not None else Window(node)


def lift(key: tuple[Any, ...], nodes: list[Node], inputs: list[Node]) -> Graph:
    """A graph of fresh nodes with the meaning of recorded ones: buffers become inputs, numbers
    that are not specialised become arguments."""
    made: dict[Node, Node] = {}
    order = {node: k for k, node in enumerate(inputs)}
    count = 0
    result: list[Node] = []
    placeholders: list[Node] = []
    for node in nodes:
        if node in order:
            window = node.buffer is None
            shape = (_span(node.shape, node.attrs[0]),) if window else node.shape
            fresh = Node(INPUT, (), (order[node],), shape, node.dtype)
            placeholders.append(fresh)
            if window:
                fresh.origin = len(result)
                result.append(fresh)
                fresh = Node(VIEW, (fresh,), (node.attrs[0], 0), node.shape, node.dtype)
        else:
            src: list[Any] = []
            for at, s in enumerate(node.src):
                if type(s) is Node:
                    src.append(made[s])
                elif specialised(node.op, at, s):
                    src.append(float(s) if type(s) is Constant else s)
                else:
                    src.append(Argument(count, "f" if isinstance(s, float) else "i"))
                    count += 1
            fresh = Node(node.op, tuple(src), node.attrs, node.shape, node.dtype)
        fresh.origin = len(result)
        made[node] = fresh
        result.append(fresh)
    outputs: list[tuple[Node, int | None]] = []
    taken: set[Node] = set()
    for i, home in key[1]:
        node = made[nodes[i]]
        if node in taken:  # two cells hold one value; each has memory of its own
            again = Node(COPY, (node,), (), node.shape, node.dtype)
            again.origin = node.origin
            node = again
            result.append(node)
        taken.add(node)
        outputs.append((node, home))
    return Graph(result, placeholders, outputs, count)


def pending_graph() -> Graph:
    """What a flush would execute now, as a graph (for `explain`, export and tests)."""
    with _lock:
        refs = sys.getrefcount
        live = [c for c in _pending if refs(c) > 3 and c.node.buffer is None]
        key, nodes, inputs, _ = canonical(list(dict.fromkeys(live)))
        return lift(key, nodes, inputs)


def _run(kind: str, live: list[Cell]) -> None:
    wanted = [c.node for c in live]
    try:
        buffers = _execute(kind, live, wanted)
    except BaseException as error:
        error.add_note(
            f"recorded at {calling_line()}"
            if sync
            else "raised when the recorded program ran; FLAMBEAU_SYNC=1 names the line"
        )
        lost = _salvage(kind, live, wanted, error)
        if lost or not getattr(error, "inherited", False):
            raise
        return  # it was raised before, and will be again when one of the values is used
    for cell, node, buffer in zip(live, wanted, buffers, strict=True):
        _settle(cell, node, buffer)


def _execute(kind: str, live: list[Cell], wanted: list[Node]) -> list[Any]:
    """Find or compile the program of some cells and run it; -> one buffer per cell."""
    watch = profile.active
    start = 0 if watch is None else profile.clock()
    key, nodes, inputs, numbers = canonical(live, wanted)
    full = (kind, key, memory_budget)
    program = _programs.get(full)
    if program is None:
        with profile.span("load the compiler", "compile"):
            executor = import_module(EXECUTORS[kind])
        thread.compiling = True
        try:
            program = executor.compile(lift(key, nodes, inputs), key)
        finally:
            thread.compiling = False
        if program.resized:
            counters.resized += 1
        else:
            counters.compiled += 1
        _programs[full] = program
        if len(_programs) > MAX_PROGRAMS:
            _programs.popitem(last=False)
    else:
        counters.hits += 1
        if len(_programs) > MAX_PROGRAMS // 2:
            _programs.move_to_end(full)
    counters.flushes += 1
    counters.nodes += len(nodes)
    buffers = [memory_of(n) for n in inputs]
    homes = [c.home for c in live]
    if watch is None:
        return program.run(buffers, numbers, homes)
    with watch.flushing(start, nodes):
        found = program.run(buffers, numbers, homes)
    watch.placed(wanted, found)
    return found


def _settle(cell: Cell, node: Node, buffer: Any) -> None:
    """Give a cell the memory of the value that was computed for it.

    `node` is the value it had then; another thread may have written to it since.
    """
    if node.buffer is not None and node.buffer is not buffer:
        # two cells took one value (clone-free copies); each keeps memory of its own
        fresh = Node(INPUT, (), (), node.shape, node.dtype)
        if cell.node is node:
            cell.node = fresh
        node = fresh
    node.buffer = buffer
    node.src = ()
    cell.home = buffer
    cell.before = None


def realise(cell: Cell) -> Any:
    """The buffer of a cell, computed if it has to be.

    Raises:
        Whatever its computation raised, also when that was at an earlier flush.
    """
    if thread.watcher is not None:
        thread.watcher.memory_used()
    if cell.node.buffer is None:
        if cell.device.type == "meta":
            raise NotImplementedError("Cannot copy out of meta tensor; no data!")
        flush()
        if cell.node.buffer is None:
            _pending.append(cell)
            flush()
        if cell.node.buffer is None:
            failed = next((n for n in reachable((cell.node,)) if n.op is FAILED), None)
            if failed is None:
                raise RuntimeError(
                    "the value of an argument is looked at in a function that is being recorded"
                )
            raise again(failed)
    return cell.node.buffer


def clear_programs() -> None:
    """Forget all compiled programs (the object cache on disk stays)."""
    with _lock:
        _programs.clear()
        for name in EXECUTORS.values():
            if name in sys.modules:
                sys.modules[name].forget()


def calling_line() -> str:
    """The line of user code that is running: the innermost frame outside this package."""
    package = os.path.dirname(os.path.abspath(__file__))
    for frame in reversed(traceback.extract_stack()):
        if not frame.filename.startswith(package):
            return f'File "{frame.filename}", line {frame.lineno}: {frame.line}'
    return "an unknown line"


def calling_trace(limit: int = 3) -> str:
    """The innermost lines of user code that are running, as a traceback shows them."""
    package = os.path.dirname(os.path.abspath(__file__))
    frames = [f for f in traceback.extract_stack() if not f.filename.startswith(package)]
    return "".join(traceback.format_list(frames[-limit:])).rstrip() or "  an unknown line"


def view_node(node: Node, shape: tuple[int, ...], strides: tuple[int, ...], offset: int) -> Node:
    """The node that reads `node`'s row-major storage with other strides."""
    return Node(VIEW, (node,), (strides, offset), shape, node.dtype)


__all__ = [
    "FAILED",
    "Cell",
    "Counters",
    "Op",
    "calling_line",
    "calling_trace",
    "canonical",
    "clear_programs",
    "counters",
    "flush",
    "is_exposed",
    "lift",
    "new_cell",
    "pending_graph",
    "reachable",
    "realised_cell",
    "tracing",
    "view_node",
    "write",
]
