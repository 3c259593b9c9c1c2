"""Programs: a fused plan with its memory laid out, its kernels compiled, ready to run in one call.

What is known before anything has an address is in `planning.py`; here are the tables that kernels
read, and the calls.
"""

from __future__ import annotations

import ctypes
import math
import struct
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from flambeau.codegen.llvm import LINE, STRETCH, TILE, Kernel
from flambeau.codegen.loops import launch_words
from flambeau.ir.graph import Argument, Node
from flambeau.ir.interpret import evaluate, view_array
from flambeau.ir.region import Region
from flambeau.kernels import claims, scatter
from flambeau.kernels.emit import float_bits
from flambeau.kernels.epilogue import Carried, streams
from flambeau.kernels.gemm_epilogue import EPILOGUE, RECORD, WITH_EPILOGUE
from flambeau.passes.fuse import Plan, Step, base_of
from flambeau.runtime import cpuinfo, kernels, profile, runner
from flambeau.runtime.fault import wrong_index
from flambeau.runtime.generation import Generated, generate
from flambeau.runtime.host import array_of
from flambeau.runtime.layout import Storage
from flambeau.runtime.memory import Buffer, release_scratch, scratch
from flambeau.runtime.planning import Planning
from flambeau.runtime.stepping import Stepping
from flambeau.size import contiguous_strides

_ABANDON_SECONDS = 2.0
"""How long a program that failed waits for effects that are under way."""


@dataclass(eq=False)
class HostCall:
    """A library call between native steps, or the start of an effect.

    Attributes:
        node: what is called.
        sources: its sources, each with the memory of the values it reads; numbers have none.
        results: by number, the node of each result that is wanted, and its memory.
    """

    node: Node
    sources: list[tuple[Any, Storage | None]]
    results: dict[int, tuple[Node, Storage]]


class Program(Planning):
    """Runs one plan. Slots of the value array: 0 the arena, then inputs, outputs, numbers."""

    def __init__(self, generated: Generated, budget: int | None = None) -> None:
        super().__init__(generated, budget)
        self.codes: list[tuple[str, Node]] = []
        self.number_slot = 1 + self.n_inputs + self.n_outputs
        self.link()

    # -- tables -----------------------------------------------------------------------------------

    def link(self) -> None:
        """Compile what is new, write the table, the patches and the list of native runs."""
        table: list[int] = [0]
        patches: list[int] = []
        self.functions: list[tuple[int, str]] = []  # table words that are kernels' bodies
        self.tables: list[tuple[int, int]] = []  # table words that are places in the table
        native: list[tuple[str, int]] = []  # (kernel name, table start)
        self.parts: list[Any] = []  # (first, last) native runs and host steps, in order
        self.native: list[Any] = []  # the steps that native runs count
        texts: dict[str, Kernel] = {}
        gemms: set[str] = set()
        scatters: dict[str, tuple[Any, ...]] = {}
        claimed: dict[str, Any] = {}
        first = 0
        for task in self.tasks:
            step = task.step
            self.bind(task)
            if isinstance(step, Region):
                kernel = self.kernels[step.number]
                texts[kernel.name] = kernel
                native.append((kernel.name, len(table)))
                self.region_words(kernel, table, patches)
            elif (loop := self.stepping.get(step.node)) is not None and loop.native:
                self.codes.append(("stepping", step.node))
                for stage in loop.stages(self):
                    native.append(("fl_repeat", len(table)))
                    self.native.append(step)
                    self.add_words(stage.words(len(self.codes)), table, patches)
                continue
            elif step.kind == "composite" and loop is None:
                claim = claims.claim_of(step.node)
                assert claim is not None
                claimed[claim.symbol] = claim
                native.append((claim.symbol, len(table)))
                self.add_words(claim.words(self, step.node), table, patches)
            elif step.kind == "index_put" and (put := self.scatter(step.node)) is not None:
                scatters[put[0]] = put[1]
                native.append((put[0], len(table)))
                self.add_words(put[2], table, patches)
            elif (
                step.kind == "contraction"
                and (words := self.gemm(step.node, step.number in self.carried)) is not None
            ):
                name, entries = words
                gemms.add(name)
                carried = self.carried.get(step.number)
                if carried is not None:
                    texts.update((e.kernel.name, e.kernel) for e in carried.epilogues)
                    entries += self.epilogue_words(step, carried, table, patches)
                native.append((name, len(table)))
                self.add_words(entries, table, patches)
            else:
                if first < len(native):
                    self.parts.append((first, len(native)))
                first = len(native)
                self.parts.append(self.hosted_part(step))
                continue
            self.native.append(step)
        if first < len(native):
            self.parts.append((first, len(native)))
        addresses = kernels.addresses(list(texts.values()), gemms, scatters, claimed)
        addresses["fl_repeat"] = runner.functions()[0].address("fl_repeat")
        self.bind_tables(table, patches, native, addresses)

    def bind_tables(
        self,
        table: list[int],
        patches: list[int],
        native: list[tuple[str, int]],
        addresses: kernels.Addresses,
    ) -> None:
        """What the native loops are given: the table, the patches, and kernels with their words."""
        self.table = np.array(table, np.int64)
        self.patch_words = np.array(patches, np.int64)
        base = self.table.ctypes.data
        for at, name in self.functions:
            self.table[at] = addresses.body(name)
        for at, start in self.tables:
            self.table[at] = base + 8 * start
        self.steps = np.array(
            [x for name, start in native for x in (addresses[name], base + 8 * start)], np.int64
        )
        self.base = base
        self.n_patches = len(patches) // 3
        self.patch_address = self.patch_words.ctypes.data
        self.steps_address = self.steps.ctypes.data
        self.value_count = self.number_slot + self.graph.arguments
        self.keep = addresses.libraries
        _, self.patch, self.call, self.whole = runner.functions()
        self.simple = not self.copies and len(self.parts) == 1 and isinstance(self.parts[0], tuple)
        known = {
            "patches": self.patch_address,
            "n_patches": self.n_patches,
            "table": base,
            "kernels": self.steps_address,
            "end": len(native),
        }
        self.start_words = np.array([known[name] for name in runner.WHOLE], np.int64)
        self.start_address = self.start_words.ctypes.data
        self.results = [(max(node.nbytes, 0)) for node, _ in self.graph.outputs]
        self.pack = struct.Struct(f"{self.value_count}q").pack

    def hosted_part(self, step: Step) -> Any:
        """A step that Python runs, with its memory."""
        if step.kind == "wait":
            return step.node
        loop = self.stepping.get(step.node)
        if loop is None:
            return self.call_of(step.node)
        loop.bind(self)
        return loop

    def call_of(self, node: Node) -> HostCall:
        """A library call with the memory it reads and writes."""
        sources = [(s, self.storage(base_of(s)) if type(s) is Node else None) for s in node.src]
        results = self.picks.get(node, {0: node})
        return HostCall(node, sources, {k: (n, self.storage(n)) for k, n in results.items()})

    def region_words(
        self, kernel: Kernel, table: list[int], patches: list[int], stretch: int = STRETCH
    ) -> None:
        """A region's launch and its kernel's argument table."""
        known = launch_words(kernel, stretch)
        entries: list[Any] = []
        for slot in kernel.slots:
            kind = slot[0]
            if kind in known:
                entries.append(known[kind])
            elif kind == "size":
                entries.append(kernel.dims[slot[1]])
            elif kind == "stride":
                entries.append(slot[1])
            elif kind == "tiles":
                assert kernel.tile is not None
                entries.append(-(-kernel.dims[kernel.tile] // TILE))
            elif kind == "error":
                entries.append("error")
            elif kind == "code":
                self.codes.append(slot[1:])
                entries.append(len(self.codes))
            elif kind == "number":
                entries.append((None, self.number_slot + slot[1].index))
            elif kind == "around":
                entries.append(self.around(kernel, self.destination(slot[1])))
            else:
                node = self.destination(slot[1])
                entries.append((self.storage(node), slot[2] * node.dtype.itemsize))
        self.add_words(entries, table, patches)

    def destination(self, key: Any) -> Node:
        """The node whose memory a kernel's address key stands for."""
        return key if isinstance(key, Node) else self.plan.writes.get(key[1], key[1])

    def around(self, kernel: Kernel, node: Node) -> int:
        """The word for a result's stores; see Note [Stores around the caches] in codegen/llvm.py.

        What fits in the last cache goes through it, and what lies where the loop reads.
        """
        into = self.storage(node)
        keys = {s[1] for s in kernel.slots if s[0] == "address"}
        used = {self.storage(self.destination(key)) for key in keys}
        read = {self.storage(self.destination(key)) for key in kernel.reads}
        overlaps = any(
            s.slot == into.slot
            and s.offset < into.offset + into.nbytes
            and into.offset < s.offset + s.nbytes
            for s in read
        )
        last = cpuinfo.cache_sizes()[2] or cpuinfo.cache_sizes()[1]
        return -1 if overlaps or sum(s.nbytes for s in used) <= last else LINE - 1

    def epilogue_words(
        self, step: Step, carried: Carried, table: list[int], patches: list[int]
    ) -> list[Any]:
        """The places of a product's descriptor that tell its epilogues, whose tables are written
        here."""
        records: list[Any] = []
        starts = []
        for e in carried.epilogues:
            starts.append(len(table))
            slots = e.kernel.slots
            address = ("address", step.node, 0)
            known = {
                "finish": ("body", e.kernel.name),
                "table": ("table", len(table)),
                "words": len(slots),
                "place": slots.index(address) if address in slots else -1,
                "unit_rows": e.unit_rows,
                "units": e.units,
                "unit_cols": e.unit_cols,
            }
            records += [known[name] for name in RECORD]
            self.region_words(e.kernel, table, patches, e.stretch)
        walked = streams(carried, step.node)
        ahead = len(table)
        tensors = [(("table", starts[k] + slot), size) for k, slot, size in walked]
        self.add_words([word for pair in tensors for word in pair], table, patches)
        start = len(table)
        self.add_words(records, table, patches)
        given: dict[str, Any] = {
            "streams": len(walked),
            "ahead": ("table", ahead),
            "epilogues": len(carried.epilogues),
            "records": ("table", start),
            "hidden": int(carried.hidden),
            "unit_rows": carried.unit_rows,
            "strip": carried.strip,
        }
        return [given[name] for name in EPILOGUE]

    def add_words(self, entries: list[Any], table: list[int], patches: list[int]) -> None:
        """Append words to the table; those that depend on where memory is become patches."""
        for e in entries:
            at = len(table)
            if isinstance(e, int):
                table.append(e)
                continue
            table.append(0)
            if e == "error":
                patches += [at, -1, 0]
            elif e[0] == "body":
                self.functions.append((at, e[1]))
            elif e[0] == "table":
                self.tables.append((at, e[1]))
            elif e[0] is None:
                patches += [at, e[1], 0]
            else:
                store, offset = e
                patches += [at, store.slot or 0, store.offset + offset]

    def gemm(self, node: Node, carried: bool) -> tuple[str, list[Any]] | None:
        """The descriptor of a matrix product, or None where NumPy computes it."""
        name = kernels.GEMM.get(node.dtype.name)
        a, b, *added = node.src
        if name is None or len(node.shape) - 2 > 4:
            return None
        m, n = node.shape[-2:]
        bias: Any = 0
        if added:
            store, offset, strides = self.operand(added[0], ())
            if strides[-1] != 1 and n > 1:
                return None
            bias = (store, offset)
        k = a.shape[-1]
        batch = node.shape[:-2]
        (a_store, a_offset, a_strides) = self.operand(a, batch)
        (b_store, b_offset, b_strides) = self.operand(b, batch)
        c_strides = contiguous_strides(node.shape)
        pad = [0] * (4 - len(batch))
        words: list[Any] = [
            (a_store, a_offset),
            (b_store, b_offset),
            (self.storage(node), 0),
            bias,
            m,
            n,
            k,
            a_strides[-2],
            a_strides[-1],
            b_strides[-2],
            b_strides[-1],
            n,
            len(batch),
            *batch,
            *pad,
            *a_strides[:-2],
            *pad,
            *b_strides[:-2],
            *pad,
            *c_strides[:-2],
            *pad,
            WITH_EPILOGUE if carried else 0,
        ]
        return name, words

    def scatter(self, node: Node) -> tuple[str, tuple[Any, ...], list[Any]] | None:
        """The table of a scatter, or None where NumPy does it."""
        base, value, *indices = node.src
        what = (node.dtype.name, node.attrs[0], len(indices))
        if not scatter.supported(*what[:2]) or any(i.dtype.name != "int64" for i in indices):
            return None
        inner = math.prod(base.shape[len(indices) :])
        self.codes.append(("IndexError", node))
        units = -(-inner // scatter.STRETCH)
        count = indices[0].numel
        entries: list[Any] = [
            "error",
            len(self.codes),
            (self.storage(node), 0),
            (self.storage(value), 0),
            count,
            inner,
            units,
            max(1, 16384 // max(count * scatter.STRETCH, 1)),
        ]
        strides = contiguous_strides(base.shape)
        for k, i in enumerate(indices):
            entries += [(self.storage(i), 0), base.shape[k], strides[k]]
        return scatter.name(*what), what, entries

    def operand(self, s: Node, batch: tuple[int, ...]) -> tuple[Storage, int, list[int]]:
        """(storage, offset in bytes, strides) of a matrix operand, `batch` dimensions in front."""
        store, offset, strides = self.memory(s)
        lead = len(batch) + 2 - len(s.shape)
        full = [0] * lead + [
            0 if n == 1 and i < len(s.shape) - 2 else st
            for i, (n, st) in enumerate(zip(s.shape, strides, strict=True))
        ]
        return store, offset, full

    def memory(self, s: Node) -> tuple[Storage, int, tuple[int, ...]]:
        """(storage, offset in bytes, strides) of a source, behind its view."""
        base = base_of(s)
        strides, offset = s.attrs if s is not base else (contiguous_strides(s.shape), 0)
        return self.storage(base), offset * s.dtype.itemsize, strides

    # -- running ----------------------------------------------------------------------------------

    def run(self, inputs: list[Any], numbers: list[Any], homes: list[Any]) -> list[Any]:
        """Execute; -> one buffer per output (its home where it has one)."""
        values = [scratch(self.arena_bytes) if self.arena_bytes else 0]
        for b in inputs:
            values.append(b.ptr)
        outs = []
        for nbytes, home in zip(self.results, homes, strict=True):
            buffer = home if home is not None else Buffer(nbytes)
            outs.append(buffer)
            values.append(buffer.ptr)
        for x in numbers:
            values.append(float_bits(x) if isinstance(x, float) else x)
        try:
            given = self.pack(*values)
        except struct.error:  # an integer of more bits: those above are of no account
            given = bytes((ctypes.c_int64 * len(values))(*values))
        if self.simple and profile.active is None:
            if self.whole(self.start_address, given) < self.parts[0][1]:
                self.fail(values, numbers)
            return outs
        works: dict[Node, Any] = {}
        try:
            self.launch(values, given, numbers, works)
        except BaseException as error:
            error.effects = bool(works)  # type: ignore[attr-defined]  # not to be started again
            if works:
                _abandon(works.values(), (inputs, outs, release_scratch()))
            raise
        return outs

    def launch(
        self, values: Any, given: Any, numbers: list[Any], works: dict[Node, Any] | None = None
    ) -> None:
        """Execute, part by part, given where everything is.

        Args:
            values: addresses of temporary memory, inputs and results, then the numbers' bits.
            given: the same as 64-bit words in memory: bytes, or its address.
            numbers: the numbers.
            works: takes the effects that were started, each with its work until it is over.
        """
        self.table[0] = 0
        self.patch(self.patch_address, self.n_patches, self.base, given)
        call = self.call if profile.active is None else self.timed
        self.run_parts(values, numbers, call, {} if works is None else works)
        for slot, store, nbytes in self.copies:
            ctypes.memmove(int(values[slot]), self.place(store, values), nbytes)

    def timed(self, steps: int, first: int, last: int, error: int) -> int:
        """What `self.call` does, with the time of each step reported: Note [Profiling]."""
        times = np.empty(last - first + 1, np.int64)
        _, run = runner.timed()
        at: int = run(steps, first, last, error, times.ctypes.data)
        if (watch := profile.active) is not None:
            watch.ran(self, first, times[: min(at + 1, last) - first + 1])
        return at

    def run_parts(self, values: Any, numbers: list[Any], call: Any, works: dict[Node, Any]) -> None:
        """Run stretches of native steps and the host's calls between them, in order."""
        for part in self.parts:
            if isinstance(part, tuple):
                if call(self.steps_address, part[0], part[1], self.base) < part[1]:
                    self.fail(values, numbers)
                continue
            watch = profile.active
            start = 0 if watch is None else profile.clock()
            if isinstance(part, Node):
                works[part].wait()
                works[part] = None
            elif isinstance(part, Stepping):
                part.run(self, values)
            elif part.node.op.kind == "effect":
                works[part.node] = self.start(part, values)
            else:
                self.call_host(part, values, numbers)
            if watch is not None:
                node = part if isinstance(part, Node) else part.node
                watch.add(node.op.name, "host", start)

    def start(self, part: HostCall, values: Any) -> Any:
        """Start an effect on the memory of its sources and its result; -> its work."""
        node = part.node
        arrays = [self.array(s, memory, values) for s, memory in part.sources if memory is not None]
        (result, memory) = part.results[0]
        target = array_of(self.place(memory, values), result.shape, result.dtype)
        assert node.op.start is not None
        return node.op.start(node.attrs[0], arrays, target, *node.attrs[1:])

    def call_host(self, part: HostCall, values: Any, numbers: list[Any]) -> None:
        """Call the library, and write what it returns where the program wants it."""
        node = part.node
        args = [
            numbers[s.index]
            if type(s) is Argument
            else s
            if memory is None
            else self.array(s, memory, values)
            for s, memory in part.sources
        ]
        found = evaluate(node, args)
        for which, (result, memory) in part.results.items():
            target = array_of(self.place(memory, values), result.shape, result.dtype)
            target[...] = found[which] if isinstance(found, tuple) else found

    def array(self, s: Node, memory: Storage, values: Any) -> Any:
        """A node's value as a NumPy array over its memory."""
        base = base_of(s)
        flat = array_of(self.place(memory, values), base.shape, base.dtype)
        return flat if base is s else view_array(flat, s.shape, *s.attrs)

    def place(self, store: Storage, values: Any) -> int:
        """The address of a storage in this run."""
        return int(values[store.slot or 0]) + store.offset

    def fail(self, values: Any, numbers: list[Any]) -> None:
        """Raise the error whose code a kernel has left."""
        kind, node = self.codes[int(self.table[0]) - 1]
        if kind == "stepping":
            self.stepping[node].fail()
        if kind != "IndexError":
            raise RuntimeError(kind)
        inputs = [
            array_of(int(values[1 + k]), n.shape, n.dtype) for k, n in enumerate(self.graph.inputs)
        ]
        raise wrong_index(node, inputs, numbers)


def _abandon(works: Iterable[Any], memory: Any) -> None:
    """Leave effects that are under way to themselves: the program has failed, and others may never
    do their part of them.

    Args:
        memory: what they read and write, which has to be there until they are over.
    """
    limit = time.monotonic() + _ABANDON_SECONDS
    for work in filter(None, works):
        work.abandon(memory, max(0.0, limit - time.monotonic()))


def build(plan: Plan, budget: int | None = None) -> Program:
    """A program for a fused plan, within `budget` bytes of memory if that can be done."""
    return Program(generate(plan), budget)
