"""Rows that apply graphs, on the CPU: the program of a step, run again and again by a native loop.

Note [Stepping]
The body of a `_scan` is a program of its own. Its inputs and results are where they are for the
whole scan: a slice is an address in its sequence, whatever strides that is read by; a result is
written to its place among the results of all steps. Carried values alternate between two places, or
where they are results too, go from one of those to the next. All that changes from step to step is
the table of addresses that a program is given, so that the loop fills it in, writes the addresses
where kernels expect them, and runs the kernels. A body with library calls in it is run the same way
from Python.

The loop can look at a bit before each step. So a branch is a loop of at most one step, and a loop
whose length depends on a value has a step that writes the bit.
"""

from __future__ import annotations

import ctypes
import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flambeau.ir.body import Body
from flambeau.ir.graph import INPUT, VIEW, Graph, Node
from flambeau.passes.fuse import base_of
from flambeau.runtime import runner
from flambeau.size import contiguous_strides

_LINE = 64
_MOST_PROGRAMS = 256
_EACH, _ALTERNATING = -1, 1  # masks of a place's number
_ENDLESS = 1 << 62


@dataclass(frozen=True)
class Slot:
    """Where an input or result is in step i of n: at `last` if that is the last step and it is
    given, else at `base + ((first + each * i) & mask) * stride`; addresses are (memory, bytes).
    """

    base: Any
    stride: int = 0
    first: int = 0
    each: int = 0
    mask: int = _EACH
    last: Any = 0

    def words(self) -> list[Any]:
        """What the native loop is given."""
        return [getattr(self, name) for name in runner.SLOT]


@dataclass
class Stage:
    """A program that is run some times.

    Attributes:
        program: of one step.
        steps: how many times.
        slots: of its temporary memory, its inputs and its results.
        values: what it is given, as the native loop fills it in.
        gate: where a bit is that is looked at before each step, as (memory, bytes); 0 for none.
        wanted: what it must be for the step to be taken.
        taken: where the number of steps that were taken is written, an int64; 0 for nowhere.
    """

    program: Any
    steps: int
    slots: list[Slot]
    values: Any
    gate: Any = 0
    wanted: int = 1
    taken: Any = 0

    def words(self, code: int) -> list[Any]:
        """The table of the native loop; `code` is left as the error when a step fails."""
        p = self.program
        known = {
            "steps": self.steps,
            "error": "error",
            "code": code,
            "patches": p.patch_address,
            "n_patches": p.n_patches,
            "table": p.base,
            "values": self.values.ctypes.data,
            "kernels": p.steps_address,
            "begin": 0,
            "end": p.parts[0][1] if p.parts else 0,
            "slots": len(self.slots),
            "gate": self.gate,
            "wanted": self.wanted,
            "taken": self.taken,
        }
        return [known[name] for name in runner.LOOP] + [w for s in self.slots for w in s.words()]

    def run(self, place: Callable[[Any], int]) -> None:
        """All steps, from Python.

        Args:
            place: (memory, bytes) -> address.
        """
        known = [(place(s.base), place(s.last) if s.last else 0, s) for s in self.slots]
        gate = ctypes.c_uint8.from_address(place(self.gate)) if self.gate else None
        i = 0
        while i < self.steps and (gate is None or gate.value & 1 == self.wanted):
            for k, (base, last, s) in enumerate(known):
                at = base + ((s.first + s.each * i) & s.mask) * s.stride
                self.values[k] = last if last and i == self.steps - 1 else at
            self.program.launch(self.values, self.values.ctypes.data, [])
            i += 1
        if self.taken:
            ctypes.c_int64.from_address(place(self.taken)).value = i


class Stepping:
    """How a node that applies graphs runs their programs.

    Args:
        node: the node.

    Attributes:
        arena: bytes of the programs' temporary memory.
        scratch: bytes of all temporary memory.
        native: whether the native loop runs it.
        raises: whether a step may end it with an error.
    """

    def __init__(self, node: Node) -> None:
        self.node = node

    def prepare(self, programs: list[Any], more: int = 0) -> None:
        """Note what the stages run, and `more` bytes that they need besides."""
        self.programs = programs
        self.arena = _lines(max(p.arena_bytes for p in programs))
        self.scratch = self.arena + more + _LINE
        self.native = all(
            not p.copies and (not p.parts or (len(p.parts) == 1 and type(p.parts[0]) is tuple))
            for p in programs
        )
        self.raises = not self.native or any(p.codes for p in programs)
        self.values = [np.zeros(p.value_count, np.int64) for p in programs]

    def stages(self, program: Any) -> list[Stage]:
        """What is run, one after another, in the memory that a program gives the node."""
        raise NotImplementedError

    def run(self, program: Any, values: Any) -> None:
        """All of it from Python."""
        for stage in self.stages_here:
            stage.run(lambda at: program.place(at[0], values) + at[1])

    def bind(self, program: Any) -> None:
        """Note where the memory is in a program, for `run`."""
        self.stages_here = self.stages(program)

    def fail(self) -> None:
        """Raise the error of the step that was run last."""
        for p, values in zip(self.programs, self.values, strict=True):
            if p.table[0]:  # those that ran without an error have left 0
                p.fail(values, [])


class Scan(Stepping):
    """How a `_scan` is run.

    Args:
        node: the node.
        compiled: graph -> its program.
    """

    def __init__(self, node: Node, compiled: Callable[[Graph], Any]) -> None:
        super().__init__(node)
        body, self.steps, self.carries, self.slices, self.kept, self.reverse = node.attrs[:6]
        self.body: Body = body
        given = body.given
        shapes = [n.shape for n in given]
        strides = [_strides(s) for s in node.src]
        for k in range(self.carries):
            strides[k] = contiguous_strides(shapes[k])
        for k in range(self.carries, self.carries + self.slices):
            strides[k] = strides[k][1:]
        self.lows = [_low(n.shape, st) for n, st in zip(given, strides, strict=True)]
        programs = [_program(body, tuple(strides), compiled)]
        if self.carries:
            programs.insert(0, _copying(node.src[: self.carries], compiled))
        self.sizes = [_lines(n.nbytes) for n in given[: self.carries]]
        self.prepare(programs, 2 * sum(self.sizes))

    def stages(self, program: Any) -> list[Stage]:
        """What is run, one after another, in the memory that a program gives the node."""
        node, carries, count = self.node, self.carries, len(self.body.outputs)
        room = program.workspace(node)
        forth = (self.steps - 1, -1) if self.reverse else (0, 1)
        before, after = [], []
        place = self.arena
        for k in range(carries):
            nbytes = self.body.given[k].nbytes
            if k in self.kept:
                base = (program.result(node, count + self.kept.index(k)), 0)
                before.append(Slot(base, nbytes, *forth))
                first, each = sum(forth), forth[1]
                after.append(Slot(base, nbytes, first, each, last=(program.result(node, k), 0)))
                continue
            base = (room, place)
            size = self.sizes[k]
            place += 2 * size
            before.append(Slot(base, size, 0, 1, _ALTERNATING))
            after.append(Slot(base, size, 1, 1, _ALTERNATING, (program.result(node, k), 0)))
        inputs = []
        for k, (s, low) in enumerate(zip(node.src, self.lows, strict=True)):
            store, offset, strides = program.memory(s)
            own = _low(s.shape, strides) if k < carries else low
            base = (store, offset + own * s.dtype.itemsize)
            if carries <= k < carries + self.slices:
                inputs.append(Slot(base, strides[0] * s.dtype.itemsize, *forth))
            else:
                inputs.append(Slot(base))
        results = [
            Slot((program.result(node, k), 0), self.body.outputs[k].nbytes, *forth)
            for k in range(carries, count)
        ]
        arena = Slot((room, 0))
        slots = [arena, *before, *inputs[carries:], *after, *results]
        found = [Stage(self.programs[-1], self.steps, slots, self.values[-1])]
        if carries:
            copies = [arena, *inputs[:carries], *before]
            found.insert(0, Stage(self.programs[0], 1, copies, self.values[0]))
        return found


class Choice(Stepping):
    """How a `_cond` is run: two programs, of which the gate lets one.

    Args:
        node: the node.
        compiled: graph -> its program.
    """

    def __init__(self, node: Node, compiled: Callable[[Graph], Any]) -> None:
        super().__init__(node)
        strides = tuple(_strides(s) for s in node.src[1:])
        self.prepare([_program(body, strides, compiled) for body in node.attrs[:2]])

    def stages(self, program: Any) -> list[Stage]:
        """What is run, one after another, in the memory that a program gives the node."""
        pred, *given = self.node.src
        results = [Slot((program.result(self.node, k), 0)) for k in range(len(self.node.attrs[-1]))]
        slots = [Slot((program.workspace(self.node), 0)), *_read(program, given), *results]
        gate = _read(program, [pred])[0].base
        branches = zip(self.programs, self.values, (1, 0), strict=True)
        return [Stage(p, 1, slots, values, gate, wanted) for p, values, wanted in branches]


class Loop(Stepping):
    """How a `_while` is run: carried values alternate between two places, and the gate is where the
    step writes whether there is another; how many there were says where the last values are.

    Args:
        node: the node.
        compiled: graph -> its program.
    """

    def __init__(self, node: Node, compiled: Callable[[Graph], Any]) -> None:
        super().__init__(node)
        body, _, self.carries = node.attrs[:3]
        first, rest = node.src[: 1 + self.carries], node.src[1 + self.carries :]
        carried = body.given[: self.carries]
        own = [contiguous_strides(n.shape) for n in carried]
        step = _program(body, (*own, *map(_strides, rest)), compiled)
        last = _copying(carried, compiled)
        self.sizes = [_lines(n.nbytes) for n in carried]
        self.prepare([_copying(first, compiled), step, last], 2 * sum(self.sizes) + 2 * _LINE)

    def stages(self, program: Any) -> list[Stage]:
        """What is run, one after another, in the memory that a program gives the node."""
        room = program.workspace(self.node)
        gate, taken = (room, self.arena), (room, self.arena + _LINE)
        place = self.arena + 2 * _LINE
        places = [place + 2 * sum(self.sizes[:k]) for k in range(self.carries)]

        def turn(first: int) -> list[Slot]:
            both = zip(places, self.sizes, strict=True)
            return [Slot((room, at), size, first, 1, _ALTERNATING) for at, size in both]

        arena = Slot((room, 0))
        given = _read(program, self.node.src)
        firsts, rest = given[: 1 + self.carries], given[1 + self.carries :]
        results = [Slot((program.result(self.node, k), 0)) for k in range(self.carries)]
        begin, step, end = zip(self.programs, self.values, strict=True)
        slots = [arena, *turn(0), *rest, Slot(gate), *turn(1)]
        return [
            Stage(begin[0], 1, [arena, *firsts, Slot(gate), *turn(0)], begin[1]),
            Stage(step[0], _ENDLESS, slots, step[1], gate, 1, taken),
            *(
                Stage(end[0], 1, [arena, *turn(odd), *results], end[1], taken, odd)
                for odd in (0, 1)
            ),
        ]


#: How each row is run.
STEPPING: dict[str, Callable[[Node, Callable[[Graph], Any]], Stepping]] = {
    "_scan": Scan, "_cond": Choice, "_while": Loop,
}  # fmt: skip


def _lines(nbytes: int) -> int:
    return -(-nbytes // _LINE) * _LINE


def _read(program: Any, sources: Sequence[Node]) -> list[Slot]:
    """Where sources are that are the same in every step."""
    found = []
    for s in sources:
        store, offset, strides = program.memory(s)
        found.append(Slot((store, offset + _low(s.shape, strides) * s.dtype.itemsize)))
    return found


def _copying(sources: Sequence[Node], compiled: Callable[[Graph], Any]) -> Any:
    """The program that copies some sources."""
    nodes = [_input(k, s.shape, s.dtype) for k, s in enumerate(sources)]
    return _program(Body(nodes, nodes, len(nodes)), tuple(map(_strides, sources)), compiled)


def _input(k: int, shape: tuple[int, ...], dtype: Any) -> Node:
    return Node(INPUT, (), (k,), shape, dtype)


def _strides(s: Node) -> tuple[int, ...]:
    return s.attrs[0] if base_of(s) is not s else contiguous_strides(s.shape)


def _low(shape: tuple[int, ...], strides: tuple[int, ...]) -> int:
    """The lowest of the elements that a view reads, counted from its first."""
    return sum((n - 1) * s for n, s in zip(shape, strides, strict=True) if s < 0 and n)


_programs: OrderedDict[Any, Any] = OrderedDict()


def _program(
    body: Body, strides: tuple[tuple[int, ...], ...], compiled: Callable[[Graph], Any]
) -> Any:
    """The program of a graph whose inputs are read by some strides."""
    key = body, strides
    found = _programs.get(key)
    if found is None:
        sources = []
        for n, own in zip(body.given, strides, strict=True):
            k, shape = n.attrs[0], n.shape
            if own == contiguous_strides(shape) or math.prod(shape) == 0:
                sources.append(_input(k, shape, n.dtype))
                continue
            low = _low(shape, own)
            span = 1 - low + sum((m - 1) * s for m, s in zip(shape, own, strict=True) if s > 0)
            sources.append(Node(VIEW, (_input(k, (span,), n.dtype),), (own, -low), shape, n.dtype))
        found = _programs[key] = compiled(body.graph(sources))
        if len(_programs) > _MOST_PROGRAMS:
            _programs.popitem(last=False)
    _programs.move_to_end(key)
    return found


def forget() -> None:
    """Forget all programs."""
    _programs.clear()


__all__ = ["STEPPING", "Stage", "Stepping", "forget"]
