"""Programs: a fused plan with its memory laid out, its kernels compiled, ready to run in one call.

Note [Program memory]
Values that live only inside a program share one arena, planned by the steps that write first and
read last (`layout.py`), after the steps were ordered for it (`passes/schedule.py`). A result of a
loop lies where a source of it dies, if each element is read where it is written. Results have
buffers of their own, which until they are first written hold values that die before. A result whose
cell has memory already (its home) is written there directly when every earlier reader of the old
value comes first, else at the end.
"""

from __future__ import annotations

import ctypes
import math
from typing import Any

import numpy as np

from flambeau.codegen.llvm import STRETCH, TILE, Kernel
from flambeau.codegen.loops import emit_region, unit_count
from flambeau.ir.graph import COPY, PICK, Node
from flambeau.ir.interpret import evaluate, view_array
from flambeau.ir.region import Region
from flambeau.kernels import claims, scatter
from flambeau.kernels.epilogue import Attach, Epilogue, epilogue
from flambeau.kernels.matmul import EPILOGUE, WITH_EPILOGUE
from flambeau.passes.fuse import Plan, Step, base_of, order_after
from flambeau.passes.schedule import Task, schedule
from flambeau.runtime import cpuinfo, kernels, profile, runner
from flambeau.runtime.fault import wrong_index
from flambeau.runtime.host import array_of
from flambeau.runtime.layout import Storage, place
from flambeau.runtime.memory import Buffer, scratch
from flambeau.size import contiguous_strides


class Program:
    """Runs one plan. Slots of the value array: 0 the arena, then inputs, outputs, numbers."""

    rows: tuple[str, ...] = ()  # of the recorded program, which nodes' origins count

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        graph = plan.graph
        self.graph = graph
        self.storages: dict[Node, Storage] = {}
        self.codes: list[tuple[str, Node]] = []
        self.copies: list[tuple[int, Storage, int]] = []
        self.n_inputs = len(graph.inputs)
        self.n_outputs = len(graph.outputs)
        self.number_slot = 1 + self.n_inputs + self.n_outputs
        self.picks: dict[Node, dict[int, Node]] = {}
        for n in graph.nodes:
            if n.op is PICK:
                self.picks.setdefault(n.src[0], {})[n.attrs[0]] = n
        for step in plan.steps:
            if isinstance(step, Step) and step.node.op.kind == "composite":
                for which in range(len(step.node.attrs[-1])):
                    self.result(step.node, which)
        vector_bytes = kernels.vector_bytes()
        self.kernels: dict[int, Kernel] = {
            s.number: emit_region(s, plan.free, vector_bytes)
            for s in plan.steps
            if isinstance(s, Region) and s.stores
        }
        self.carriers: dict[int, Step] = {}
        self.epilogues: dict[int, Epilogue] = {}
        features = cpuinfo.host_features()
        attached = Attach(
            plan,
            self.kernels,
            self.reads,
            lambda node, region: epilogue(node, region, plan.free, vector_bytes, features),
        )
        self.carriers, self.epilogues = attached.carriers, attached.epilogues
        self.bind_outputs()
        self.order = self.scheduled()
        self.lay_out()
        self.link()

    # -- storage ----------------------------------------------------------------------------------

    def root(self, node: Node) -> Node:
        """The node whose storage a node lives in: an assign lives in its base's."""
        while node.op.kind in ("assign", "index_put"):
            node = node.src[0]
        return node

    def storage(self, node: Node) -> Storage:
        """The memory of a node's value: an input's slot, or a place in the arena."""
        node = self.root(node)
        found = self.storages.get(node)
        if found is None:
            found = self.storages[node] = Storage(node.nbytes)
            if node.op.kind == "input":
                found.slot = 1 + node.attrs[0]
        return found

    def reads(self, step: Any) -> list[Node]:
        """Nodes whose memory a step reads."""
        if isinstance(step, Region):
            kernel = self.kernels.get(step.number)
            if kernel is None:
                return []
            return [s[1] for s in kernel.slots if s[0] == "address" and isinstance(s[1], Node)]
        found = [base_of(s) for s in step.node.src if type(s) is Node]
        carried = self.epilogues.get(step.number)
        if carried is not None:
            found += [n for n in self.reads(carried.region) if n is not step.node]
        return found

    def writes(self, step: Any) -> list[Node]:
        """Nodes whose memory a step writes."""
        if isinstance(step, Region):
            return [self.plan.writes.get(n, n) for n in step.stores]
        carried = self.epilogues.get(step.number)
        if carried is not None:
            return [*([] if carried.hidden else [step.node]), *self.writes(carried.region)]
        if step.node in self.picks:
            return list(self.picks[step.node].values())
        return [step.node]

    def result(self, node: Node, which: int) -> Storage:
        """Where result `which` of a step with several goes; its own place if nobody reads it."""
        parts = self.picks.setdefault(node, {})
        if which not in parts:
            shape, dtype = node.attrs[-1][which]
            parts[which] = Node(PICK, (node,), (which,), shape, dtype)
        return self.storage(parts[which])

    def bind_outputs(self) -> None:
        """Give outputs their slots; a home that is read elsewhere is written only when safe."""
        readers: dict[Node, list[Any]] = {}
        steps = [s for s in self.plan.steps if s.number not in self.carriers]
        for step in steps:
            for n in self.reads(step):
                if n.op.kind == "input":
                    readers.setdefault(n, []).append(step)
        # a gather raises for a wrong index, and the scatter of its gradient need not be waited for
        self.checked = {
            (_values(i), size)
            for n in self.graph.nodes
            if n.op.kind == "index"
            for i, size in zip(n.src[1:], n.src[0].shape, strict=False)
        }
        risky = [s for s in steps if self.may_raise(s)]
        self.fresh: set[Storage] = set()  # results in memory of their own
        for k, (node, home) in enumerate(self.graph.outputs):
            slot = 1 + self.n_inputs + k
            store = self.storage(node)
            if home is not None and not self.safe(node, home, readers, risky):
                self.copies.append((slot, store, node.nbytes))
                continue
            store.slot = slot
            if home is None:
                self.fresh.add(store)

    def may_raise(self, step: Any) -> bool:
        """Whether a step can end the program with an error."""
        if isinstance(step, Region):
            kernel = self.kernels.get(step.number)
            return kernel is not None and any(slot[0] == "error" for slot in kernel.slots)
        carried = self.epilogues.get(step.number)
        if carried is not None:
            return self.may_raise(carried.region)
        if step.kind == "index_put":
            found = zip(step.node.src[2:], step.node.shape, strict=False)
            return any((_values(i), size) not in self.checked for i, size in found)
        return step.kind in ("host", "effect")

    def safe(self, node: Node, home: int, readers: dict[Node, list[Any]], risky: list[Any]) -> bool:
        """Whether a node may be written straight over home `home`; orders the readers of the old
        value and all that may raise before it, so that a program that fails has written nothing."""
        if home < 0 and not risky:
            return True
        step = self.plan.stored.get(node)
        region = step if isinstance(step, Region) else None
        if region is not None:
            step = self.carriers.get(region.number, step)
        if any(r is step for r in risky):
            return False
        source = self.graph.inputs[home] if home >= 0 else None
        if node.op.kind == "assign" or step is None:
            return False
        others = []
        for reader in (*readers.get(source, ()), *risky):  # type: ignore[arg-type]
            if reader is step:
                if region is None:
                    return False
                if step is not region and any(base_of(s) is source for s in step.node.src):
                    return False
                kernel = self.kernels[region.number]
                if not kernel.may_overwrite(node, region.stores[node], source):
                    return False
            else:
                others.append(reader)
        before = self.plan.before
        if any(before[r.number] >> step.number & 1 for r in others):
            return False
        for r in others:
            order_after(before, step.number, r.number)
        return True

    def scheduled(self) -> list[Any]:
        """Steps with work, in an order that needs little memory."""
        tasks = []
        sizes: dict[Any, int] = {}
        for step in self.plan.steps:
            if not self.has_work(step):
                continue
            read = tuple(self.storage(n) for n in self.reads(step))
            written = tuple(self.storage(n) for n in self.writes(step))
            tasks.append(Task(step, read, written))
            for s in (*read, *written):
                if s.slot is None or s in self.fresh:
                    sizes[s] = s.nbytes
        kept = self.fresh.union(store for _, store, _ in self.copies)
        return [t.step for t in schedule(tasks, self.plan.before, sizes, kept)]

    def has_work(self, step: Any) -> bool:
        """Whether a step does anything when it runs."""
        if isinstance(step, Region):
            return bool(step.stores) and step.number not in self.carriers
        if step.kind == "index_put" and step.node.src[1].numel == 0:
            return False
        return step.node.op.name != "empty_memory" and (
            step.node.numel > 0 or step.kind in ("host", "effect")
        )

    def lay_out(self) -> None:
        """Places for what lives inside the program only: over what dies where it is made, in
        results' memory before their first write, in the arena."""
        for at, step in enumerate(self.order):
            for n in (*self.reads(step), *self.writes(step)):
                s = self.storage(n)
                s.first = at if s.first < 0 else s.first
                s.last = at
        for _, store, _ in self.copies:
            store.last = len(self.order)
        self.take_over()
        storages = dict.fromkeys(self.storages.values())
        self.arena_bytes = place(storages, [s for s in storages if s in self.fresh])

    def take_over(self) -> None:
        """Have results of loops lie where a source of theirs dies, element over element."""
        owners: dict[Storage, list[Node]] = {}
        for n, s in self.storages.items():
            owners.setdefault(s, []).append(n)
        fixed = {store for _, store, _ in self.copies}
        for at, step in enumerate(self.order):
            if not isinstance(step, Region):
                continue
            kernel = self.kernels[step.number]
            used = [self.storage(n) for n in (*self.reads(step), *self.writes(step))]
            for n, m in step.stores.items():
                new = self.storage(n)
                if new.first != at or new in fixed or n in self.plan.writes:
                    continue
                if new.slot is not None and new not in self.fresh:
                    continue
                for source in kernel.reads:
                    if not isinstance(source, Node):
                        continue
                    old = self.storage(source)
                    if (
                        old.slot is None
                        and old.last == at
                        and old.first < at
                        and old.nbytes == new.nbytes
                        and source.dtype.itemsize == n.dtype.itemsize
                        and used.count(old) == 1
                        and kernel.may_overwrite(n, m, source)
                    ):
                        new.first = old.first
                        for owner in owners[old]:
                            self.storages[owner] = new
                        owners[new] += owners.pop(old)
                        break

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
        for step in self.order:
            if isinstance(step, Region):
                kernel = self.kernels[step.number]
                texts[kernel.name] = kernel
                native.append((kernel.name, len(table)))
                self.region_words(kernel, table, patches)
            elif step.kind == "composite":
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
                and (words := self.gemm(step.node, step.number in self.epilogues)) is not None
            ):
                name, entries = words
                gemms.add(name)
                carried = self.epilogues.get(step.number)
                if carried is not None:
                    texts[carried.kernel.name] = carried.kernel
                    entries += self.epilogue_words(step, carried, table, patches)
                native.append((name, len(table)))
                self.add_words(entries, table, patches)
            else:
                if first < len(native):
                    self.parts.append((first, len(native)))
                first = len(native)
                self.parts.append(step)
                continue
            self.native.append(step)
        if first < len(native):
            self.parts.append((first, len(native)))
        addresses = kernels.addresses(list(texts.values()), gemms, scatters, claimed)
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
        _, self.patch, self.call = runner.functions()
        self.simple = not self.copies and len(self.parts) == 1 and isinstance(self.parts[0], tuple)
        self.results = [(max(node.nbytes, 0)) for node, _ in self.graph.outputs]
        self.array_type = ctypes.c_int64 * self.value_count

    def region_words(
        self, kernel: Kernel, table: list[int], patches: list[int], stretch: int = STRETCH
    ) -> None:
        """A region's launch and its kernel's argument table."""
        units, chunks, blocks, grain = unit_count(kernel, stretch)
        known = {
            "units": units,
            "grain": grain,
            "chunks": chunks,
            "blocks": blocks,
            "stretch": stretch,
        }
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
            else:
                key, offset = slot[1], slot[2]
                node = key if isinstance(key, Node) else self.plan.writes.get(key[1], key[1])
                entries.append((self.storage(node), offset * node.dtype.itemsize))
        self.add_words(entries, table, patches)

    def epilogue_words(
        self, step: Step, carried: Epilogue, table: list[int], patches: list[int]
    ) -> list[Any]:
        """The places of a product's descriptor that tell its epilogue, whose table is written."""
        start = len(table)
        slots = carried.kernel.slots
        self.region_words(carried.kernel, table, patches, carried.stretch)
        place = slots.index(("address", step.node, 0)) if carried.hidden else -1
        known: dict[str, Any] = {
            "finish": ("body", carried.kernel.name),
            "table": ("table", start),
            "words": len(slots),
            "place": place,
            "unit_rows": carried.unit_rows,
            "units": carried.units,
            "unit_cols": carried.unit_cols,
            "strip": carried.strip,
        }
        return [known[name] for name in EPILOGUE]

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
        a, b = node.src
        if name is None or len(node.shape) - 2 > 4:
            return None
        m, n = node.shape[-2:]
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
            0,
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
        base = base_of(s)
        strides, offset = s.attrs if s is not base else (contiguous_strides(s.shape), 0)
        lead = len(batch) + 2 - len(s.shape)
        full = [0] * lead + [
            0 if n == 1 and i < len(s.shape) - 2 else st
            for i, (n, st) in enumerate(zip(s.shape, strides, strict=True))
        ]
        return self.storage(base), offset * s.dtype.itemsize, full

    # -- running ----------------------------------------------------------------------------------

    def run(self, inputs: list[Any], numbers: list[Any], homes: list[Any]) -> list[Any]:
        """Execute; -> one buffer per output (its home where it has one)."""
        values = self.array_type()
        values[0] = scratch(self.arena_bytes) if self.arena_bytes else 0
        k = 1
        for b in inputs:
            values[k] = b.ptr
            k += 1
        outs = []
        for nbytes, home in zip(self.results, homes, strict=True):
            buffer = home if home is not None else Buffer(nbytes)
            outs.append(buffer)
            values[k] = buffer.ptr
            k += 1
        for x in numbers:
            values[k] = x if type(x) is not float else claims.float_bits(x)
            k += 1
        self.table[0] = 0
        address = ctypes.addressof(values)
        self.patch(self.patch_address, self.n_patches, self.base, address)
        call = self.call if profile.active is None else self.timed
        if self.simple:
            first, last = self.parts[0]
            at = call(self.steps_address, first, last, self.base)
            if at < last:
                self.fail(values, numbers)
            return outs
        self.run_parts(values, numbers, call)
        for slot, store, nbytes in self.copies:
            ctypes.memmove(values[slot], self.place(store, values), nbytes)
        return outs

    def timed(self, steps: int, first: int, last: int, error: int) -> int:
        """What `self.call` does, with the time of each step reported: Note [Profiling]."""
        times = np.empty(last - first + 1, np.int64)
        _, run = runner.timed()
        at: int = run(steps, first, last, error, times.ctypes.data)
        if (watch := profile.active) is not None:
            watch.ran(self, first, times[: min(at + 1, last) - first + 1])
        return at

    def run_parts(self, values: Any, numbers: list[Any], call: Any) -> None:
        """Run stretches of native steps and the host's calls between them, in order."""
        for part in self.parts:
            if isinstance(part, tuple):
                if call(self.steps_address, part[0], part[1], self.base) < part[1]:
                    self.fail(values, numbers)
                continue
            node = part.node
            watch = profile.active
            start = 0 if watch is None else profile.clock()
            args = []
            for s in node.src:
                if type(s) is Node:
                    args.append(self.array(s, values))
                else:
                    args.append(numbers[s.index] if hasattr(s, "index") else s)
            found = evaluate(node, args)
            if isinstance(found, tuple):
                for which, pick in self.picks.get(node, {}).items():
                    array_of(self.place(self.storage(pick), values), pick.shape, pick.dtype)[
                        ...
                    ] = found[which]
            else:
                target = self.storage(node)
                array_of(self.place(target, values), node.shape, node.dtype)[...] = found
            if watch is not None:
                watch.add(node.op.name, "host", start)

    def array(self, s: Node, values: Any) -> Any:
        """A node's value as a NumPy array over its memory."""
        base = base_of(s)
        flat = array_of(self.place(self.storage(base), values), base.shape, base.dtype)
        return flat if base is s else view_array(flat, s.shape, *s.attrs)

    def place(self, store: Storage, values: Any) -> int:
        """The address of a storage in this run."""
        return int(values[store.slot or 0]) + store.offset

    def fail(self, values: Any, numbers: list[Any]) -> None:
        """Raise the error whose code a kernel has left."""
        kind, node = self.codes[int(self.table[0]) - 1]
        if kind != "IndexError":
            raise RuntimeError(kind)
        inputs = [
            array_of(int(values[1 + k]), n.shape, n.dtype) for k, n in enumerate(self.graph.inputs)
        ]
        raise wrong_index(node, inputs, numbers)


def _values(node: Node) -> Node:
    """The node that a copy has its values from."""
    while node.op is COPY and type(node.src[0]) is Node and node.shape == node.src[0].shape:
        node = node.src[0]
    return node


def build(plan: Plan) -> Program:
    """A program for a fused plan."""
    return Program(plan)
