"""Watching a call that is recorded as usual, and making a replay of it.

Note [Watching]
The watched call runs and records as any other; only flushes wait until a value is read. Where one
is read, where a live method runs and where the call returns, what was recorded since is lifted into
one operation (`Region`). Its inputs must be tensors that the guard found, results of earlier
regions, or constants that the call made; any other tensor refuses the call. When it returns, what
it has changed is compared with what was there before: tensors' values and gradients and places that
hold tensors can be replayed, other changes cannot.
"""

from __future__ import annotations

import ctypes
import dis
import sys
import types
from collections.abc import Callable
from typing import Any

from flambeau import overriding, record
from flambeau.autograd.backward import _leading_to, _Task
from flambeau.compile.guards import Refusal, Slot, Walk, same
from flambeau.compile.observe import Observer
from flambeau.compile.replay import (
    MADE,
    NONE,
    End,
    Live,
    Path,
    Read,
    Region,
    Shown,
    Spent,
    Tape,
    value_key,
)
from flambeau.ir.graph import INPUT, VIEW, Drawn, Node, reachable
from flambeau.ir.recorded import Lifting
from flambeau.ir.symbol import SymFloat, SymInt, paused
from flambeau.ops.generator import default_generator
from flambeau.record import FAILED, Cell
from flambeau.runtime.memory import Buffer
from flambeau.size import Size
from flambeau.tape import AccumulateGrad, GradFn, edge_of, modes
from flambeau.tensor import Tensor, over


class Marker:
    """Stands for a value that the call read from a tensor only to hand it back."""

    def __init__(self, value: Any, number: int) -> None:
        self.value = value
        self.number = number


class Watcher:
    """Sees what one call records.

    Args:
        walk: of the state before the call.
        observer: sees its Python run.
        entry: code of the function that is compiled.
    """

    def __init__(self, walk: Walk, observer: Observer, entry: types.CodeType | None) -> None:
        self.walk = walk
        self.observer = observer
        self.entry = entry
        self.reason = ""
        self.tensors = walk.tensors
        self.cells: list[Cell] = [t._cell for t in self.tensors]
        self.index: dict[Cell, int] = {}
        for k, cell in enumerate(self.cells):
            self.index.setdefault(cell, k)
        self.fields = [_fields(t) for t in self.tensors]
        self.steps: list[Any] = []
        self.segments: list[tuple[list[Any], Read | None, Any]] = []
        self.markers: list[Marker] = []
        self.final = False
        self.live_used = False
        self.tape_reads: set[int] = set()
        self.drawn: set[int] = set()
        self.placed: set[int] = set()
        self.start = Node(INPUT, (), (), (), None).order  # type: ignore[arg-type]
        self.seed, self.first = default_generator.take(0)
        self._begin()

    # -- regions --------------------------------------------------------------------------------

    def refuse(self, reason: str) -> None:
        """Give up: the rest of the call is recorded as usual."""
        self.reason = self.reason or reason
        record.thread.watcher = None
        paused().__enter__()  # what is recorded from here on is executed as it is

    def _begin(self) -> None:
        """A region begins: everything before it has been executed."""
        self.mark = len(record._pending)
        self.known = {c.node: k for k, c in enumerate(self.cells)}
        self.before = [c.node for c in self.cells]
        self.gradients = [t._grad for t in self.tensors]
        self.flushes = record.counters.flushes
        for k, cell in enumerate(self.cells):
            if cell.node.buffer is None:
                where = self.walk.paths[k] if k < len(self.tensors) else "a tensor it reads"
                self.refuse(f"{where} has no value")
                return

    def _end(self, live: list[tuple[Cell, Node]], extra: list[Node]) -> dict[Node, int]:
        """A region ends: lift what it recorded.

        Args:
            live: cells that are still needed, with their values.
            extra: values that are needed beside.

        Returns:
            The places of the extra values.
        """
        if record.counters.flushes != self.flushes:
            raise Refusal("another thread executed what it recorded")
        writes = [
            (k, c.node)
            for k, c in enumerate(self.cells)
            if self.index[c] == k and c.node is not self.before[k]
        ]
        makes = [(c, n) for c, n in live if c not in self.index]
        places: dict[Node, int] = {}
        for cell, node in makes:
            self.index[cell] = len(self.cells)
            places.setdefault(node, len(self.cells))
            self.cells.append(cell)
        hidden = []
        for node in extra:
            if node not in places:
                places[node] = len(self.cells)
                cell = Cell(node, _device_of(self.cells, live))
                hidden.append((cell, node))
                self.cells.append(cell)
        effects = record.pinned()
        outputs = list(dict.fromkeys([*(n for _, n in (*writes, *makes, *hidden)), *effects]))
        expects = self._expected()
        if outputs or expects:
            self._region(outputs, writes, [*makes, *hidden], expects, effects)
        return places

    def _expected(self) -> list[tuple[int, int]]:
        """What gradients must be where this region begins after a live method."""
        if not self.live_used or not self.walk.gradients:
            return []
        places = {id(t): k for k, t in enumerate(self.tensors)}
        found = []
        for k, (t, g) in enumerate(zip(self.tensors, self.gradients, strict=True)):
            written = g is not None and g._cell.node is not self._before_of(g._cell)
            if t._grad is not g or written:
                if g is not None and id(g) not in places and g._cell not in self.index:
                    raise Refusal("it uses gradients that a live method made")
                found.append((k, NONE if g is None else places.get(id(g), MADE)))
        return found

    def _before_of(self, cell: Cell) -> Node:
        place = self.index.get(cell)
        return cell.node if place is None or place >= len(self.before) else self.before[place]

    def _region(
        self,
        outputs: list[Node],
        writes: list[tuple[int, Node]],
        makes: list[tuple[Cell, Node]],
        expects: list[tuple[int, int]],
        effects: dict[Node, Any],
    ) -> None:
        region: Region
        if outputs:
            lifting = Lifting(self.walk.symbols)
            op = lifting.lift("compiled", outputs, set())
            which = {n: k for k, n in enumerate(outputs)}
            region = Region(
                op,
                [self._source(n) for n in lifting.inputs],
                [self._number(n) for n in lifting.numbers],
                [(self.cells.index(c), which[n], c.device) for c, n in makes],
                [(k, which[n]) for k, n in writes],
                expects,
                {op.outputs[which[n]].attrs[0]: (which[n], d) for n, d in effects.items()},
            )
        else:
            region = Region(None, [], [], [], [], expects)
        if writes or region.effects:
            self.final = True
        self.steps.append(region)

    def _source(self, node: Node) -> Any:
        """Where a region's input comes from: a cell's place, or a constant."""
        place = self.known.get(node)
        if place is not None:
            return place
        if node.op is FAILED or node.op is not INPUT or node.order < self.start:
            raise Refusal(
                f"it reads a tensor of shape {list(node.shape)} that its arguments, globals and "
                "closures do not lead to"
            )
        fixed = Node(INPUT, (), (), node.shape, node.dtype)
        fixed.buffer = Buffer(node.nbytes)
        ctypes.memmove(fixed.buffer.ptr, node.buffer.ptr, node.nbytes)
        return fixed

    def _number(self, number: Any) -> Any:
        """What a replay passes for a number: itself, or what it draws."""
        if type(number) is not Drawn:
            return number
        seed, _ = default_generator.take(0)
        if seed != self.seed or (not number.place and number != self.seed):
            raise Refusal("it draws from a generator of its own, or seeds one")
        if not number.place:
            return "seed"
        first = number.number
        if not self.first.number <= first <= default_generator._counter:
            raise Refusal("it draws random numbers from an earlier place of the stream")
        self.placed.add(first)
        return "first", first - self.first.number

    def drew(self, default: bool, first: int) -> None:
        """Random numbers are drawn, from place `first` of a stream on."""
        self.drawn.add(first)
        if not default:
            self.refuse("it draws from a generator of its own")

    def _gradients(self) -> None:
        """Note the gradients that this region has set."""
        changed = [
            (k, t._grad) for k, t in enumerate(self.tensors) if t._grad is not self.gradients[k]
        ]
        if not changed:
            return
        if not self.walk.gradients:
            raise Refusal("it sets gradients")
        if not self.steps or not isinstance(self.steps[-1], Region):
            self.steps.append(Region(None, [], [], [], [], []))
        for k, g in changed:
            self.steps[-1].gradients.append((k, None if g is None else self._shown(g)))

    def _shown(self, t: Tensor) -> Any:
        """How a tensor is made again: a `Shown`, or the place of one that exists."""
        for k, known in enumerate(self.tensors):
            if known is t:
                return k
        place = self.index.get(t._cell)
        if place is None:
            place = self._constant_cell(t._cell)
        if type(t) is not Tensor:
            raise Refusal(f"it makes a {type(t).__name__}")
        base = next((k for k, b in enumerate(self.tensors) if b is t._base), -1)
        if t._rg and t._grad_fn is None and t._base is not None:
            raise Refusal("it makes a leaf that is a view")
        return Shown(
            place, t._shape, t.dtype, t._map, t._rg and t._grad_fn is None, -1, base, t._inference
        )

    def _constant_cell(self, cell: Cell) -> int:
        """The place of a tensor that the call made of ready values: a copy each time."""
        raise Refusal(f"it hands on a tensor of shape {list(cell.node.shape)} made of ready values")

    # -- what the call does ---------------------------------------------------------------------

    def writes(self, cell: Any) -> None:
        """Writes are recorded like anything else."""

    def communicates(self, name: str) -> None:
        """So are effects."""

    def memory_used(self) -> None:
        """Memory of a tensor is used by other means than reading a value."""
        self.refuse("it uses the memory of a tensor (NumPy, pickling, printing, a library call)")

    def read(self, t: Tensor, reader: Callable[[Tensor], Any]) -> Any:
        """A value is read from a tensor.

        Args:
            reader: tensor -> the value.
        """
        frame = sys._getframe(2)
        while frame.f_back is not None and frame.f_code.co_filename == overriding.__file__:
            frame = frame.f_back  # it asks whether the call is overridden
        handed_back = (
            frame.f_code is self.entry
            and reader.__name__ != "_truth"
            and only_returned(frame.f_code, frame.f_lasti)
        )
        try:
            if t._cell not in self.index or t._cell.node.buffer is None:
                self._end(record.live_since(self.mark), [])
                self._gradients()
            elif t._cell not in self.index:
                raise Refusal("it reads a value that it made itself")
            shown = self._seen(t)
        except Refusal as refusal:
            self.refuse(str(refusal))
            return reader(t)
        record.thread.watcher = None
        with paused():
            value = reader(t)
        step = Read(shown, reader)
        if handed_back:
            self.steps.append(step)
            marker = Marker(value, len(self.markers))
            self.markers.append(marker)
            result: Any = marker
        else:
            result = value
            if self.final:
                self.refuse(
                    "it reads a value and goes on with it after it has changed a tensor or run a "
                    "live method"
                )
                return result
            self.segments.append((self.steps, step, value_key(value)))
            self.steps = []
        record.thread.watcher = self
        self._begin()
        return result

    def _seen(self, t: Tensor) -> Shown:
        place = self.index.get(t._cell)
        if place is None:
            raise Refusal("it reads a value of a tensor made of ready values")
        return Shown(place, t._shape, t.dtype, t._map, False, -1, -1, False)

    def live(
        self, method: Any, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any], again: bool
    ) -> Any:
        """A live method is called."""
        try:
            self._end(record.live_since(self.mark), [])
            self._gradients()
            if id(owner) not in self.walk._known:
                raise Refusal(f"it makes a {type(owner).__name__} itself")
            given = [self._given(a) for a in args]
            named = {k: self._given(a) for k, a in kwargs.items()}
            self.steps.append(Live(method, owner, given, named, again))
        except Refusal as refusal:
            self.refuse(str(refusal))
            return method(owner, *args, **kwargs)
        state = default_generator.__getstate__()
        record.thread.watcher = None
        with paused():
            found = self.observer.unseen(method, (owner, *args), kwargs)
            record.flush()
        if found is not None:
            self.refuse(f"it uses what {type(owner).__name__}.{method.__name__} returns")
            return found
        if default_generator.__getstate__() != state:
            self.refuse(f"{type(owner).__name__}.{method.__name__} draws random numbers")
            return found
        self.final = self.final or not again
        self.live_used = True
        record.thread.watcher = self
        self._begin()
        return found

    def _given(self, a: Any) -> Any:
        """An argument of a live method."""
        if isinstance(a, Tensor):
            shown = self._shown(a)
            return ("tensor", shown) if type(shown) is int else shown
        if a is None or isinstance(a, (bool, int, float, str)):
            return a
        if isinstance(a, self.walk.live) and id(a) in self.walk._known:
            return a  # the guard knows it by identity
        raise Refusal(f"a live method takes a {type(a).__name__}")

    # -- the end --------------------------------------------------------------------------------

    def finish(self, value: Any) -> tuple[Path, list[str], int, bool]:
        """The call returned.

        Args:
            value: what it returned.

        Returns:
            The path of steps, the names of containers that the guard is to return, how many cells
            it makes, whether it draws random numbers.

        Raises:
            Refusal: it cannot be replayed.
        """
        if self.reason:
            raise Refusal(self.reason)
        tensors: list[Tensor] = []
        form = self._form(value, tensors)
        changes = self._changes(tensors)
        tape, spent, live = self._capture(tensors)
        self._gradients()
        self._check_fields()
        results: list[Shown] = []
        for t in tensors:
            shown = self._shown(t)
            assert type(shown) is Shown
            if t.requires_grad and t.grad_fn is not None:
                shown = shown._replace(result=next(k for k, u in enumerate(live) if u is t))
            results.append(shown)
        containers: dict[str, int] = {}
        stores = [
            (containers.setdefault(s.name, len(containers)), s.kind, s.key, form)
            for s, form in changes
        ]
        if self.live_used and self.walk.exposed_live:
            raise Refusal(f"it reads {self.walk.exposed_live[0]}, which a live method may change")
        seed, now = default_generator.take(0)
        if seed != self.seed or now.number < self.first.number:
            raise Refusal("it sets the state of the random number generator")
        if not self.drawn <= self.placed:  # a row that keeps its place where it cannot be found
            raise Refusal("it draws random numbers that a replay could not draw anew")
        end = End(results, form, tape, spent, stores, now.number - self.first.number)
        root = self._path(end)
        self._prune(root)
        room = len(self.cells) - len(self.tensors)
        return root, list(containers), room, now.number != self.first.number

    def _path(self, end: End) -> Path:
        root = path = Path()
        for steps, read, key in self.segments:
            path.steps, path.read = steps, read
            path.then[key] = path = Path()
        path.steps, path.end = self.steps, end
        return root

    def _prune(self, path: Path) -> None:
        """Have nothing made that nothing uses."""
        used: set[int] = set(self.tape_reads)
        regions = []
        while True:
            for step in path.steps:
                if isinstance(step, Region):
                    regions.append(step)
                    used.update(s for s in step.sources if type(s) is int)
                    used.update(g.cell for _, g in step.gradients if type(g) is Shown)
                elif isinstance(step, Read):
                    used.add(step.shown.cell)
                else:
                    values = [*step.args, *step.kwargs.values()]
                    used.update(a.cell for a in values if type(a) is Shown)
            if path.end is not None:
                used.update(r.cell for r in path.end.results)
                break
            assert path.read is not None
            used.add(path.read.shown.cell)
            (path,) = path.then.values()
        for region in regions:
            region.makes = [m for m in region.makes if m[0] in used]

    def _form(self, value: Any, tensors: list[Tensor]) -> Any:
        """The form of a value (`replay.build`); its new tensors are appended to `tensors`."""
        kind = type(value)
        if isinstance(value, Tensor):
            for k, t in enumerate(self.tensors):
                if t is value:
                    return "tensor", k
            for k, t in enumerate(tensors):
                if t is value:
                    return "made", k
            tensors.append(value)
            return "made", len(tensors) - 1
        if kind is Marker:
            return "value", value.number
        if value is None or kind in (bool, int, float, complex, str, bytes):
            return "is", value
        if kind in (SymInt, SymFloat) or (kind is Size and any(type(n) is SymInt for n in value)):
            return "size", value
        if isinstance(value, dict) and kind.__init__ is dict.__init__:
            parts = [self._form(v, tensors) for v in value.values()]
            return "dict", (kind, list(value), parts)
        if isinstance(value, tuple) and (kind is tuple or hasattr(kind, "_fields")):
            return "sequence", (kind, [self._form(v, tensors) for v in value])
        if kind is list:
            return "sequence", (kind, [self._form(v, tensors) for v in value])
        if isinstance(value, (tuple, type)) or kind.__module__.startswith("flambeau.d"):
            return "is", value  # sizes, dtypes, devices
        raise Refusal(f"it returns a {kind.__module__}.{kind.__qualname__}")

    def _changes(self, tensors: list[Tensor]) -> list[tuple[Slot, Any]]:
        """Places that hold other tensors than before, with the forms of what they hold."""
        found: list[tuple[Slot, Any]] = []
        grown: list[Slot] = []
        for slot in self.walk.slots:
            now = slot.read()
            if slot.kind == "keys":
                if now != slot.value:
                    grown.append(slot)
            elif now is not slot.value and not same(now, slot.value):
                holds = (type(None), Tensor)
                if not (isinstance(now, holds) and isinstance(slot.value, holds)):
                    raise Refusal(f"it changes {slot.path}")
                found.append((slot, self._form(now, tensors)))
        if grown:
            raise Refusal(f"it changes what {grown[0].path} holds")
        return found

    def _check_fields(self) -> None:
        for t, before, path in zip(self.tensors, self.fields, self.walk.paths, strict=True):
            if _fields(t) != before:
                raise Refusal(f"it changes what {path} shows, or its history")

    # -- autograd -------------------------------------------------------------------------------

    def _capture(self, tensors: list[Tensor]) -> tuple[Tape | None, bool, list[Tensor]]:
        """Record the backward pass of the results and end the last region.

        Returns:
            The tape, whether it is spent, and the tensors with history.
        """
        live = [t for t in tensors if t.requires_grad and t.grad_fn is not None]
        needed = record.live_since(self.mark)
        spent = any(t.grad_fn is not None and t.grad_fn.released for t in live)
        if spent or not live:
            self._end(needed, [])
            return None, spent, live
        sources = [k for k, t in enumerate(self.tensors) if t.requires_grad]
        edges = [edge_of(self.tensors[k]) for k in sources]
        order = Node(INPUT, (), (), (), None).order  # type: ignore[arg-type]
        cotangents: list[Node] = []
        mark, effects = len(record._pending), record.pinned().keys()
        try:
            try:
                found = self.observer.run(_record_backward, (live, edges, cotangents), {})
            finally:
                given = set(cotangents)
                again = record.pinned().keys() - effects
                record.forget(mark, lambda n: n in again or not given.isdisjoint(reachable([n])))
        except RuntimeError as error:
            if "second time" not in str(error):
                raise Refusal(f"its backward pass raises {error}") from None
            self._end(needed, [])
            return None, True, live
        if again:
            raise Refusal("its backward pass communicates with other ranks")
        kept = [(k, g) for k, g in zip(sources, found, strict=True) if g is not None]
        if not kept:
            raise Refusal("its results have history that does not lead to its tensors")
        roots = [g._node() for _, g in kept]
        ends = _residuals(roots, order, set(cotangents))
        places = self._end(needed, ends)
        lifting = Lifting(self.walk.symbols)
        op = lifting.lift("compiled backward", roots, {*ends, *cotangents})
        inputs: list[Any] = []
        arranged: list[Node] = []
        for node in lifting.inputs:
            if node in places:
                inputs.append(("cell", places[node]))
                self.tape_reads.add(places[node])
            elif node not in cotangents:
                inputs.append(self._saved(node))
            else:
                continue
            arranged.append(node)
        # the operation takes what was kept first, then the cotangents
        at = {n: k for k, n in enumerate([*arranged, *cotangents])}
        inner = {n.attrs[0]: n for n in op.nodes if n.op is INPUT}
        for k, node in enumerate(lifting.inputs):
            inner[k].attrs = (at[node],)
        op.inputs = len(at)
        tape = Tape(
            op,
            inputs,
            [self._number(n) for n in lifting.numbers],
            [k for k, _ in kept],
            [_comes_from(root, cotangents) for root in roots],
            tuple((t._shape, t.dtype, t._cell.device) for t in live),
        )
        return tape, False, live

    def _saved(self, node: Node) -> Any:
        """What the backward pass reads of the state, or of earlier regions."""
        place = self.known.get(node)
        if place is None:
            return self._source(node)
        if place < len(self.tensors):
            if self.cells[place].node is not node:
                raise Refusal("its backward pass reads a tensor that it changes")
            return "saved", place
        self.tape_reads.add(place)
        return "cell", place


def _fields(t: Tensor) -> tuple[Any, ...]:
    """What a replay leaves as it is of a tensor."""
    return (
        id(t._cell),
        t._shape,
        t._map,
        t._rg,
        id(t._grad_fn),
        id(t._base),
        id(t._hooks),
        id(t._post_hooks),
        t._retains,
    )


def _device_of(cells: list[Cell], live: list[tuple[Cell, Node]]) -> Any:
    return live[0][0].device if live else cells[0].device


def _record_backward(
    live: list[Tensor], edges: list[tuple[GradFn, int]], cotangents: list[Node]
) -> list[Any]:
    """The gradients at some edges, recorded from cotangents that stand for any value."""
    task = _Task(True, False)
    task.captured = dict.fromkeys(edges)
    ends = {e[0] for e in edges}
    starts = [t.grad_fn for t in live]
    task.needed = _leading_to(ends, starts)  # type: ignore[arg-type]
    task.stop_at = ends
    for entry in task.needed - ends:
        if entry.hooks or entry.prehooks or entry.retained or entry.metadata:
            raise Refusal("a hook was registered on one of its intermediate results")
        if getattr(getattr(entry, "cls", None), "in_python", False):
            raise Refusal("its backward pass runs Python (checkpointing, hooks of modules)")
    quiet = [(e, e.metadata, e.prehooks, e.retained) for e in ends]
    leaves = [(e.variable, e.variable._hooks) for e in ends if isinstance(e, AccumulateGrad)]
    was, modes.grad = modes.grad, False
    try:
        for e in ends:
            e.metadata = e.prehooks = e.retained = None
        for leaf, _ in leaves:
            leaf._hooks = None
        with record.tracing():
            for t in live:
                node = Node(INPUT, (), ("cotangent",), t._shape, t.dtype)
                cotangents.append(node)
                g = over(Cell(node, t._cell.device), t._shape, t.dtype)
                assert t.grad_fn is not None
                task.send((t.grad_fn, t._output_nr), g)
            task.run()
    finally:
        modes.grad = was
        for e, metadata, prehooks, retained in quiet:
            e.metadata, e.prehooks, e.retained = metadata, prehooks, retained
        for leaf, hooks in leaves:
            leaf._hooks = hooks
    return [task.captured[e] for e in edges]


def _residuals(roots: list[Node], order: int, cotangents: set[Node]) -> list[Node]:
    """Values of the forward pass that the backward pass reads: those that the tape has saved.

    Views of them, and values that are made of nothing, are recorded again.
    """
    found: dict[Node, None] = {}
    seen: set[Node] = set()
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node in seen or node in cotangents or node.buffer is not None:
            continue
        seen.add(node)
        sources = [s for s in node.src if type(s) is Node]
        drawn = any(type(s) is Drawn for s in node.src)
        free = node.op is VIEW or (not sources and not (drawn and node.shape))
        if node.order < order and not free:
            found[node] = None
        else:
            stack.extend(sources)
    return list(found)


def _comes_from(root: Node, cotangents: list[Node]) -> frozenset[int]:
    """Which cotangents a value depends on."""
    seen: set[Node] = set()
    stack = [root]
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            stack.extend(s for s in node.src if type(s) is Node)
    return frozenset(k for k, c in enumerate(cotangents) if c in seen)


#: Instructions that only move values -> (how many they take, how many they give), by argument.
_MOVES: dict[str, Callable[[int], tuple[int, int]]] = {
    **dict.fromkeys(
        ("LOAD_FAST", "LOAD_CONST", "LOAD_DEREF", "PUSH_NULL", "LOAD_FAST_BORROW"),
        lambda n: (0, 1),
    ),
    **dict.fromkeys(("RESUME", "NOP", "PRECALL", "KW_NAMES", "CACHE"), lambda n: (0, 0)),
    "LOAD_METHOD": lambda n: (1, 2),
    "BUILD_TUPLE": lambda n: (n, 1),
    "BUILD_LIST": lambda n: (n, 1),
    "BUILD_MAP": lambda n: (2 * n, 1),
    "BUILD_CONST_KEY_MAP": lambda n: (n + 1, 1),
    "CALL": lambda n: (n + 2, 1),
    "STORE_FAST": lambda n: (1, 0),
    "POP_TOP": lambda n: (1, 0),
}
_KEEPS = ("BUILD_TUPLE", "BUILD_LIST", "BUILD_MAP", "BUILD_CONST_KEY_MAP")


def only_returned(code: types.CodeType, at: int) -> bool:
    """Whether the value that the call instruction at `at` leaves is only handed back: put in
    variables and containers, and returned, on a straight way."""
    stack = [True]
    variables: set[Any] = set()
    for i in dis.get_instructions(code):
        if i.offset <= at:
            continue
        name, n = i.opname, i.arg or 0
        if name == "RETURN_VALUE":
            return bool(stack and stack[-1]) and not any(stack[:-1])
        if name == "LOAD_GLOBAL":
            taken, made = 0, 1 + (n & 1 if sys.version_info >= (3, 11) else 0)
        elif name == "LOAD_ATTR":
            taken, made = 1, 1 + (n & 1 if sys.version_info >= (3, 12) else 0)
        elif name in _MOVES:
            taken, made = _MOVES[name](n)
        else:
            return False
        held = [stack.pop() if stack else False for _ in range(taken)]
        marked = any(held)
        if name == "STORE_FAST":
            (variables.add if marked else variables.discard)(i.argval)
        elif marked and name not in _KEEPS:
            return False
        if name.startswith("LOAD_FAST"):
            marked = i.argval in variables
        stack.extend([marked] * made)
    return False


__all__ = ["Marker", "Spent", "Watcher", "only_returned"]
