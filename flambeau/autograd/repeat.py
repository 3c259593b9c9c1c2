"""Backward passes that ran before.

Note [Repeated passes]
A training loop goes backwards over the same tape again and again: the same rows, shapes and edges,
other values. Calling every rule's Python again would record the same nodes again. So the second
pass over tapes of one form notes which nodes it records (`_Recipe`), and a later one makes those
nodes at once, over what its tape has saved. What is recorded does not differ, down to the order, so
nothing after it can tell.

The form is everything that rules are given but values: rows, edges, static arguments, and of
tensors their shape, dtype, strides and whether they need gradients, and which of them share memory.
A pass that somebody watches (hooks, anomaly mode, the profiler), that is itself recorded on the
tape, or in which an entry runs a user's Python, runs as if there were no recipes. So does one whose
rules draw random numbers, execute something, or read what is not on the tape.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from flambeau import overriding, record
from flambeau.dtype import float32, get_default_dtype
from flambeau.ir.graph import Drawn, Node, below
from flambeau.record import Cell, placeholder
from flambeau.runtime import profile
from flambeau.tape import AccumulateGrad, GradFn, Saved, Spec, modes
from flambeau.tensor import Tensor, over

if TYPE_CHECKING:
    from flambeau.autograd.backward import _Task

#: A gradient that arrived: at an entry, as the cotangent of which output, and its value then.
Arrival = tuple[GradFn, int, Tensor, Node]

#: Form -> its recipe, or None where the pass cannot be repeated; the least recently used go first.
_recipes: OrderedDict[_Key, _Recipe | None] = OrderedDict()
_MAX_RECIPES = 256
_UNKNOWN: Any = object()
#: Hashes of the forms that were met once, in the order in which they came.
_met: OrderedDict[int, None] = OrderedDict()
_MAX_MET = 4096


class _Key:
    """A form's key, whose hash is computed once.

    Raises:
        TypeError: a static argument cannot be compared.
    """

    __slots__ = ("hash", "parts")

    def __init__(self, parts: tuple[Any, ...]) -> None:
        self.parts = parts
        self.hash = hash(parts)

    def __hash__(self) -> int:
        return self.hash

    def __eq__(self, other: object) -> bool:
        return type(other) is _Key and self.parts == other.parts


class Form:
    """What a backward pass is before it runs.

    Attributes:
        key: equal for passes that record the same nodes.
        entries: the tape's entries, by the numbers that the key has for them.
        values: what the rules read, the cotangents included, with their places.
    """

    __slots__ = ("entries", "key", "values")

    def __init__(self) -> None:
        self.key: list[Any] = []
        self.entries: list[GradFn] = []
        self.values: dict[Node, int] = {}

    def reads(self, t: Any) -> bool:
        """Note a tensor that is read; -> whether it is a plain one that nobody else sees."""
        cell = t._cell
        if not vars(t.__class__).get("_plain"):
            return False
        if cell.exposed is not None and record.is_exposed(cell):
            return False
        values = self.values
        self.key += (values.setdefault(cell.node, len(values)), t._shape, t.dtype, t._map, t._rg)
        if t._map is not None:  # the forward pass may have read the same view
            self.key.append(values.setdefault(t._node(), len(values)))
        return True

    def keeps(self, saved: Saved) -> bool:
        """Note a saved tensor; -> whether it is as it was when it was saved, and no hook's."""
        t = saved.tensor
        return saved.unpack is None and t._cell.version == saved.version and self.reads(t)

    def adds(self, entry: GradFn, numbers: dict[GradFn, int]) -> bool:
        """Note an entry; -> whether its part of the pass may be repeated."""
        key = self.key
        if type(entry) is AccumulateGrad:
            leaf = entry.variable
            key += (leaf._shape, leaf.dtype)
            return not leaf._post_hooks
        if (
            type(entry) is not GradFn
            or entry.released
            or entry.hooks
            or entry.prehooks
            or entry.retained
            or entry.metadata
        ):
            return False
        key += (entry.op, entry.metas, len(entry.args))
        for edge in entry.edges:
            if edge is None:
                key.append(None)
                continue
            after, nr = edge
            number = numbers.get(after)
            if number is None:
                number = numbers[after] = len(self.entries)
                self.entries.append(after)
            key += (number, nr)
        for a in entry.args:
            kind = type(a)
            if kind is Saved:
                if not self.keeps(a):
                    return False
            elif kind is Spec:
                key += (a.shape, a.dtype, a.requires_grad, getattr(a, "geometry", None))
            else:
                key += (kind, tuple(a) if kind is list else a)
        if entry.kwargs:
            key += entry.kwargs.items()
        for o in entry.out:
            if o is None:
                key.append(None)
            elif not self.keeps(o):
                return False
        return True


def form_of(
    task: _Task, edges: Sequence[tuple[GradFn, int]], grads: Sequence[Tensor]
) -> Form | None:
    """The form of a pass; None where it must run as it is."""
    if (
        task.create
        or modes.anomaly
        or modes.types is not None
        or profile.active is not None
        or record.sync
        or record.withheld
        or record.thread.tracing
        or record.thread.watcher is not None
        or record.thread.observer is not None
        or record.thread.draw is not None
        or overriding.dispatches()
    ):
        return None
    form, numbers = Form(), {}
    form.key.append(get_default_dtype())
    for (entry, nr), g in zip(edges, grads, strict=True):
        if not form.reads(g):
            return None
        if entry not in numbers:
            numbers[entry] = len(form.entries)
            form.entries.append(entry)
        form.key += (numbers[entry], nr)
    for entry in form.entries:  # which grows meanwhile
        if not form.adds(entry, numbers):
            return None
    needed = task.needed
    if needed is not None:
        form.key += [(e in needed, e in task.stop_at) for e in form.entries]
        form.key += [(numbers.get(entry), nr) for entry, nr in task.captured]
    return form


class _Recipe:
    """The nodes that a pass records, and what becomes of them.

    Attributes:
        constants: sources that are numbers.
        steps: of each node its operation, the places of its sources, attributes, shape and dtype.
            The places count the form's values, then constants, then steps.
        cells: of each cell that holds a gradient, the place of its node and its device.
        arrivals: what arrives: number of the entry, number of its output, and the gradient as
            number of its cell, shape, dtype and map.
    """

    __slots__ = ("arrivals", "cells", "constants", "steps")

    def __init__(self, form: Form, arrived: list[Arrival]) -> None:
        numbers = {entry: k for k, entry in enumerate(form.entries)}
        held = {g._cell: node for _, _, g, node in arrived}
        order = {cell: k for k, cell in enumerate(held)}
        places = dict(form.values)
        nodes = [n for n in below(held.values(), set(places)) if n not in places]
        self.constants = [s for n in nodes for s in n.src if type(s) is not Node]
        constant = itertools.count(len(places)).__next__
        first = len(places) + len(self.constants)
        places.update((n, first + k) for k, n in enumerate(nodes))
        self.steps = [
            (
                n.op,
                [places[s] if type(s) is Node else constant() for s in n.src],
                n.attrs,
                n.shape,
                n.dtype,
            )
            for n in nodes
        ]
        self.cells = [(places[node], cell.device) for cell, node in held.items()]
        self.arrivals = [
            (numbers[entry], nr, order[g._cell], g._shape, g.dtype, g._map)
            for entry, nr, g, _ in arrived
        ]

    def run(self, form: Form, task: _Task) -> None:
        """Record the nodes over the values of another pass and let its gradients arrive."""
        values: list[Any] = [*form.values, *self.constants]
        for op, sources, attrs, shape, dtype in self.steps:
            values.append(Node(op, tuple([values[k] for k in sources]), attrs, shape, dtype))
        cells = [Cell(values[k], device) for k, device in self.cells]
        record.place([c for c in cells if c.node.buffer is None], [])
        if not task.keep:
            for entry in form.entries:
                entry.release()
        for number, nr, cell, shape, dtype, how in self.arrivals:
            task.arrive(form.entries[number], nr, over(cells[cell], shape, dtype, how))


def _may_repeat(form: Form, arrived: list[Arrival], first: float) -> bool:
    """Whether what a pass recorded, from the node numbered `first` on, follows from its form."""
    ends = set(form.values)
    return all(
        n in ends
        or (
            n.buffer is None
            and n.order > first
            and n.op.kind != "effect"
            and not any(type(s) is Drawn for s in n.src)
        )
        for n in below([node for *_, node in arrived], ends)
    )


def run(task: _Task, edges: Sequence[tuple[GradFn, int]], grads: Sequence[Tensor]) -> None:
    """Run a backward pass: by its recipe where there is one, else rule by rule.

    Args:
        task: the pass, of which nothing has run yet.
        edges, grads: where it starts, and with which cotangents.
    """
    form = form_of(task, edges, grads)
    try:
        key = None if form is None else _Key(tuple(form.key))
    except TypeError:
        key = None
    if form is None or key is None:
        task.run(edges, grads)
        return
    found = _recipes.get(key, _UNKNOWN)
    if found is not _UNKNOWN:
        if len(_recipes) > _MAX_RECIPES // 2:
            _recipes.move_to_end(key)
        if found is None:
            task.run(edges, grads)
        else:
            found.run(form, task)
    elif key.hash in _met:
        del _met[key.hash]
        task.arrived = []
        first, flushes = placeholder((), float32, "").order, record.counters.flushes
        task.run(edges, grads)
        read = record.counters.flushes != flushes  # a rule may have asked what a value is
        known = not read and _may_repeat(form, task.arrived, first)
        _recipes[key] = _Recipe(form, task.arrived) if known else None
        if len(_recipes) > _MAX_RECIPES:
            _recipes.popitem(last=False)
    else:
        _met[key.hash] = None
        if len(_met) > _MAX_MET:
            _met.popitem(last=False)
        task.run(edges, grads)


def forget() -> None:
    """Forget all recipes, and which forms were met."""
    _recipes.clear()
    _met.clear()
