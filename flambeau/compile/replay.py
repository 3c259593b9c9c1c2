"""Replaying a call: steps over the tensors that the guard found, without running its Python.

A recorded call is a tree. A path of it is a list of steps, then either the call's end or the value
that it read from a tensor, by which it goes on. Steps work on one list of cells: those of the
tensors found by the guard first, then those that steps make.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from flambeau import record
from flambeau.ir.graph import PICK, Drawn, Node, Op
from flambeau.ir.recorded import Recorded
from flambeau.ir.symbol import Symbols, SymFloat, SymInt, filled
from flambeau.ops.generator import default_generator
from flambeau.ops.rows import NAMES
from flambeau.record import Cell
from flambeau.tape import GradFn, Saved, edge_of, modes, spec_of
from flambeau.tensor import Tensor, _new, over

#: What a gradient must be, other than a tensor that the guard found: Region.
NONE, MADE = -1, -2


class Missed(Exception):
    """A value was read for which nothing is recorded; nothing has been changed yet."""


class State:
    """One replay.

    Attributes:
        tensors: as the guard found them.
        cells: theirs, then those that were made.
        seed, first: of the random numbers drawn.
        sizes: values of the symbols, if the call was recorded for symbolic sizes.
        unknowns: what else is computed from them (`ir/symbol.py`).
        values: numbers that are handed back.
        gradients: those that were made, by their tensors' places.
        undo: gradients that were replaced, with their tensors.
        final: whether something was done that cannot be undone.
    """

    __slots__ = (
        *("cells", "final", "first", "gradients", "seed", "sizes", "tensors", "undo", "unknowns"),
        "values",
    )

    def __init__(
        self, tensors: Sequence[Tensor], room: int, symbols: Symbols | None, sizes: tuple[int, ...]
    ) -> None:
        self.tensors = tensors
        self.cells: list[Any] = [t._cell for t in tensors]
        if room:
            self.cells += [None] * room
        self.seed = self.first = 0
        self.sizes = sizes
        self.unknowns: list[int] | None = None if symbols is None else symbols.unknowns_at(sizes)
        self.final = False
        self.values: list[Any] = []
        self.gradients: dict[int, Tensor] = {}
        self.undo: list[tuple[Tensor, Any]] = []


class Shown(NamedTuple):
    """A tensor that a replay makes: which cell it shows, and how.

    Attributes:
        cell: place of the cell.
        shape, dtype, map: as a tensor's.
        leaf: whether it is a leaf that requires a gradient.
        result: which result of the tape entry it is, or -1.
        base: the place of the tensor that it is a view of, or -1.
        inference: made in inference mode.
    """

    cell: int
    shape: tuple[int, ...]
    dtype: Any
    map: Any
    leaf: bool
    result: int
    base: int
    inference: bool

    def make(self, state: State) -> Tensor:
        """The tensor, without history."""
        t: Tensor = _new(Tensor)
        t._cell = state.cells[self.cell]
        shape, how = self.shape, self.map
        if state.unknowns is not None:
            shape, how = filled(shape, state.unknowns), filled(how, state.unknowns)
        t._shape = shape
        t.dtype = self.dtype
        if how is not None:
            t._map = how
        if self.leaf:
            t._rg = True
        if self.base >= 0:
            base = state.tensors[self.base]
            t._base = base if base._base is None else base._base
            t._seen_generation = t._base._generation
        if self.inference:
            t._inference = True
        return t


class Region:
    """A step: what was recorded between two ends, as one operation.

    Args:
        op: the recorded graph.
        sources: for each input the place of a cell, or a node that is always the same.
        numbers: what follows among the sources; "seed", or ("first", count) for a place in the
            stream of random numbers, else the number itself.
        makes: (place, which result, device) of new cells.
        writes: (place, which result) of cells that exist.
        expects: (tensor, what its gradient must be: a tensor's place, `NONE`, or `MADE` by an
            earlier region of the call).
        effects: the groups that its effects are of, each with one of them: which result, and its
            device.
    """

    def __init__(
        self,
        op: Recorded | None,
        sources: list[Any],
        numbers: list[Any],
        makes: list[tuple[int, int, Any]],
        writes: list[tuple[int, int]],
        expects: list[tuple[int, int]],
        effects: dict[Any, tuple[int, Any]] | None = None,
    ) -> None:
        self.op = op
        self.effects = effects or {}
        self.sources = sources
        self.numbers = numbers
        self.plain = not any(type(n) in (str, tuple, SymInt, SymFloat) for n in numbers)
        self.makes = makes
        self.writes = writes
        self.expects = expects
        self.gradients: list[tuple[int, Any]] = []

    def run(self, state: State) -> None:
        """Record the operation and hand its results to their cells."""
        cells = state.cells
        for at, wanted in self.expects:
            found = state.tensors[at]._grad
            known = state.gradients.get(at) if wanted == MADE else None
            if found is not (known if wanted < 0 else state.tensors[wanted]):
                raise Missed
        op = self.op
        if op is not None:
            src = [cells[s].node if type(s) is int else s for s in self.sources]
            src += self.numbers if self.plain else given(self.numbers, state)
            specs = op.specs if state.unknowns is None else op.specs_at(state.unknowns)
            node = Node(op, tuple(src), state.sizes, *specs[0])
            made = []
            for place, which, device in self.makes:
                cell = cells[place] = Cell(Node(PICK, (node,), (which,), *specs[which]), device)
                made.append(cell)
            written = [
                (cells[place], Node(PICK, (node,), (which,), *specs[which]))
                for place, which in self.writes
            ]
            if self.effects:  # they run whatever becomes of the results
                self._may_communicate(state)
                which, device = next(iter(self.effects.values()))
                results = [*(c.node for c in made), *(n for _, n in written)]
                results.append(Node(PICK, (node,), (which,), *specs[which]))
                record.pin(results[0], device)
            if written:
                state.final = True
            record.place(made, written)
        for at, shown in self.gradients:
            t = state.tensors[at]
            state.undo.append((t, t._grad))
            if shown is None:
                t._grad = None
            elif type(shown) is int:
                t._grad = state.tensors[shown]
            else:
                t._grad = state.gradients[at] = shown.make(state)

    def _may_communicate(self, state: State) -> None:
        """See that its groups are there, before anything is done that cannot be undone."""
        if not state.final and not all(group.current() for group in self.effects):
            raise Missed  # they are of another rank, or were given up
        state.final = True


def given(numbers: list[Any], state: Any) -> list[Any]:
    """The numbers of a region, those of the random stream and of sizes filled in."""
    if state.unknowns is not None:
        numbers = [filled(n, state.unknowns) for n in numbers]
    seed, first = state.seed, state.first
    return [
        seed if type(n) is str else Drawn(first + n[1], True) if type(n) is tuple else n
        for n in numbers
    ]


class Live:
    """A step: a method that is run each time, as the program wrote it.

    Args:
        method: the function.
        owner: the object.
        args, kwargs: ready values, or `Shown`, or the place of a tensor as ("tensor", place).
        repeatable: whether running it twice is the same as running it once.
    """

    def __init__(
        self,
        method: Callable[..., Any],
        owner: Any,
        args: list[Any],
        kwargs: dict[str, Any],
        repeatable: bool,
    ) -> None:
        self.method = method
        self.owner = owner
        self.args = args
        self.kwargs = kwargs
        self.repeatable = repeatable

    def run(self, state: State) -> None:
        """Call it."""
        if not self.repeatable:
            state.final = True
        args = [_argument(a, state) for a in self.args]
        kwargs = {k: _argument(a, state) for k, a in self.kwargs.items()}
        self.method(self.owner, *args, **kwargs)


def _argument(a: Any, state: State) -> Any:
    if type(a) is Shown:
        return a.make(state)
    if type(a) is tuple and len(a) == 2 and a[0] == "tensor":
        return state.tensors[a[1]]
    return a


class Read:
    """A step: the value of a tensor, handed back with the results.

    Args:
        shown: the tensor.
        reader: tensor -> the value.
    """

    def __init__(self, shown: Shown, reader: Callable[[Tensor], Any]) -> None:
        self.shown = shown
        self.reader = reader

    def run(self, state: State) -> None:
        """Read it; executes what is pending."""
        state.values.append(self.reader(self.shown.make(state)))


class Path:
    """Steps, and how it goes on: `end`, or `read` and what follows each value."""

    def __init__(self) -> None:
        self.steps: list[Any] = []
        self.end: End | None = None
        self.read: Read | None = None
        self.then: dict[Any, Path] = {}


class Tape:
    """The tape entry that the results of a replayed call hang on.

    Attributes:
        backward: cotangents -> gradients, as a recorded graph; its inputs are `inputs`, then the
            cotangents.
        inputs: what it reads: ("saved", tensor), ("cell", place) or a node.
        numbers: as a region's.
        edges: tensors that get the gradients.
        needs: for each gradient, the results whose cotangents it comes from.
        metas: shape, dtype and device of each result.
    """

    def __init__(
        self,
        backward: Recorded,
        inputs: list[Any],
        numbers: list[Any],
        edges: list[int],
        needs: list[frozenset[int]],
        metas: tuple[Any, ...],
    ) -> None:
        self.backward = backward
        self.inputs = inputs
        self.numbers = numbers
        self.edges = edges
        self.needs = needs
        self.metas = metas

    def entry(self, state: State) -> CompiledEntry:
        """The entry of one replay."""
        made = CompiledEntry(
            _COMPILED,
            tuple(edge_of(state.tensors[k]) for k in self.edges),
            (),
            {},
            tuple(
                spec_of(shape, d, device, True)
                for shape, d, device in (
                    self.metas if state.unknowns is None else filled(self.metas, state.unknowns)
                )
            ),
        )
        made.tape = self
        made.seed, made.first = state.seed, state.first
        made.sizes, made.unknowns = state.sizes, state.unknowns
        kept: list[Any] = []
        for what in self.inputs:
            if type(what) is Node:
                kept.append(what)
            elif what[0] == "saved":
                kept.append(Saved(state.tensors[what[1]], False))
            else:
                kept.append((state.cells[what[1]], state.cells[what[1]].version))
        made.kept = kept
        if modes.anomaly:
            made.trace = record.calling_trace()
        return made


_COMPILED = Op("compiled_function", "effect")


class CompiledEntry(GradFn):
    """The tape entry of a replayed call: its backward pass is one operation too."""

    tape: Tape
    kept: list[Any]
    seed: int
    first: int
    sizes: tuple[int, ...]
    unknowns: list[int] | None

    def name(self) -> str:
        """torch's spelling."""
        return "CompiledFunctionBackward"

    def apply(self, grads: list[Any]) -> tuple[Any, ...]:
        """Cotangents of the tensors that the call read."""
        if self.released:
            return GradFn.apply(self, grads)  # raises
        if modes.grad:
            raise RuntimeError(
                "torch.compile with aot_autograd does not currently support double backward"
            )
        tape = self.tape
        src: list[Any] = []
        for k in self.kept:
            if type(k) is Saved:
                src.append(k.read(self)._cell.node)
            elif type(k) is Node:
                src.append(k)
            else:
                cell, version = k
                if cell.version != version:
                    raise RuntimeError(
                        "one of the variables needed for gradient computation has been modified by "
                        f"an inplace operation: a result of a compiled function is at version "
                        f"{cell.version}; expected version {version} instead."
                    )
                src.append(cell.node)
        for g, meta in zip(grads, self.metas, strict=True):
            if g is None:
                g = NAMES["zeros"](meta.shape, dtype=meta.dtype, device=meta.device)
            src.append(g._node())
        src += given(tape.numbers, self)
        op = tape.backward
        specs = op.specs if self.unknowns is None else op.specs_at(self.unknowns)
        node = Node(op, tuple(src), self.sizes, *specs[0])
        present = {k for k, g in enumerate(grads) if g is not None}
        device = self.metas[0].device
        found: list[Any] = []
        made = []
        for which, needs in enumerate(tape.needs):
            if needs.isdisjoint(present):
                found.append(None)
                continue
            shape, dtype = specs[which]
            cell = Cell(Node(PICK, (node,), (which,), shape, dtype), device)
            made.append(cell)
            found.append(over(cell, shape, dtype))
        record.place(made, [])
        return tuple(found)

    def release(self) -> None:
        """Drop what was kept."""
        self.released = True
        self.kept = []


class Spent(GradFn):
    """The tape entry of a result whose backward pass ran inside the call: running it raises."""

    released = True

    def name(self) -> str:
        """torch's spelling."""
        return "CompiledFunctionBackward"


class End:
    """The end of a call: its results, and what it leaves behind.

    Args:
        results: the tensors that are made.
        form: what is handed back, as a tree (`build`).
        tape: the entry of those that have history.
        spent: whether there was one, which was run inside the call.
        stores: (number of the container, kind of place, key, form of the value).
        draws: how far the call moves the default generator.
    """

    def __init__(
        self,
        results: list[Shown],
        form: Any,
        tape: Tape | None,
        spent: bool,
        stores: list[tuple[int, str, Any, Any]],
        draws: int,
    ) -> None:
        self.results = results
        self.form = form
        self.tape = tape
        self.spent = spent
        self.stores = stores
        self.draws = draws

    def run(self, state: State, containers: tuple[Any, ...]) -> Any:
        """Make the results and leave the rest behind; -> what the call returns."""
        made = [shown.make(state) for shown in self.results]
        if self.tape is not None or self.spent:
            entry: GradFn
            if self.tape is not None:
                entry = self.tape.entry(state)
            else:
                specs = tuple(spec_of(t._shape, t.dtype, t._cell.device, True) for t in made)
                entry = Spent(_COMPILED, (), (), {}, specs)
            for t, shown in zip(made, self.results, strict=True):
                if shown.result >= 0:
                    t._grad_fn, t._output_nr, t._rg = entry, shown.result, True
        for number, kind, key, form in self.stores:
            value = build(form, made, state)
            container = containers[number]
            if kind == "cell":
                container.cell_contents = value
            elif kind == "attribute":
                setattr(container, key, value)
            else:
                container[key] = value
        if self.draws:
            default_generator.take(filled(self.draws, state.unknowns or ()))
        return build(self.form, made, state)


def build(form: Any, made: list[Tensor], state: State) -> Any:
    """A value from its form: ("made", k), ("tensor", k), ("value", k), ("is", value), ("size",
    value) with symbolic sizes in it, or a container's class with its parts."""
    kind, what = form
    if kind == "made":
        return made[what]
    if kind == "is":
        return what
    if kind == "tensor":
        return state.tensors[what]
    if kind == "size":
        return filled(what, state.unknowns or ())
    if kind == "value":
        return state.values[what]
    if kind == "dict":
        cls, keys, parts = what
        return cls(zip(keys, [build(p, made, state) for p in parts], strict=True))
    cls, parts = what
    values = [build(p, made, state) for p in parts]
    return cls(*values) if hasattr(cls, "_fields") else cls(values)


def replay(
    path: Path,
    found: tuple[Sequence[Tensor], tuple[Any, ...], tuple[int, ...]],
    room: int,
    random: bool,
    symbols: Symbols | None,
) -> Any:
    """Run a recorded call again.

    Args:
        path: the root of its tree.
        found: what the guard returned: tensors, containers and sizes.
        room: how many cells are made at most.
        random: whether it draws random numbers.
        symbols: those of its sizes, if it was recorded for symbolic ones.

    Raises:
        Missed: it read a value for which nothing is recorded; everything is as before.
        RuntimeError: gradients were replaced while it ran, after something that cannot be undone.
    """
    tensors, containers, sizes = found
    state = State(tensors, room, symbols, sizes)
    if random:
        state.seed, state.first = default_generator.take(0)
    try:
        while True:
            for step in path.steps:
                step.run(state)
            if path.end is not None:
                return path.end.run(state, containers)
            read = path.read
            assert read is not None
            read.run(state)
            following = path.then.get(value_key(state.values.pop()))
            if following is None:
                raise Missed
            path = following
    except Missed:
        if state.final:
            raise RuntimeError(
                "gradients of a compiled call's tensors were replaced while it ran (by a hook of "
                "an optimizer?); flambeau.compiler.disable the function"
            ) from None
        for t, grad in reversed(state.undo):
            t._grad = grad
        raise


def value_key(value: Any) -> Any:
    """A value that was read, as a key: equal where the program cannot tell the values apart."""
    return type(value), repr(value)
