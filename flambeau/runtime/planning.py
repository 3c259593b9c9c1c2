"""Where a program's values lie: which memory each step reads and writes, in which order the steps
run, which run twice, and the place of everything.

Note [Program memory]
Values that live only inside a program share one arena, planned by the steps that write first and
read last (`layout.py`), after the steps were ordered for it (`passes/schedule.py`) and, where a
budget asks for it, some of them repeated (`passes/rematerialise.py`). A result of a loop lies where
a source of it dies, if each element is read where it is written. Results have buffers of their own,
which until they are first written hold values that die before. A result whose cell has memory
already (its home) is written there directly when every earlier reader of the old value comes first,
else at the end.
"""

from __future__ import annotations

from typing import Any

from flambeau.dtypes import uint8
from flambeau.ir.graph import COPY, PICK, Graph, Node
from flambeau.ir.region import Region
from flambeau.kernels import claims
from flambeau.passes.fuse import Step, base_of, fuse, order_after
from flambeau.passes.pipeline import lower
from flambeau.passes.rematerialise import Again, Schedule, rematerialise
from flambeau.passes.schedule import Task, schedule
from flambeau.runtime.generation import Generated, generate, memory_read
from flambeau.runtime.layout import Storage, place
from flambeau.runtime.stepping import STEPPING, Stepping
from flambeau.runtime.work import work_of

#: Note [Costs] in `passes/rematerialise.py`: operations and bytes a second.
_PRODUCT_RATE, _LOOP_RATE, _BYTE_RATE = 1e11, 1e10, 1e10
_WORKSPACE = -1  # stands for a kernel's own memory among a composite's results
_TRIES = 4  # plans made for a budget: places may need more than the bytes alive


class Planning:
    """The steps and memory of a program.

    Attributes:
        tasks: what runs, in order, with the memory of each. A step may stand there twice.
        order: their steps.
        arena_bytes: of temporary memory.
        peak_bytes: of all memory a run uses: inputs, results and temporaries.
        fixed_bytes: of inputs and results alone.
        budget: what `peak_bytes` should not exceed, or None.
        unlimited_bytes: what `peak_bytes` would be without a budget.
        repeated: tasks that compute a value again.
    """

    rows: tuple[str, ...] = ()  # of the recorded program, which nodes' origins count
    resized = False  # whether it was generated for other sizes: Note [Families]

    def __init__(self, generated: Generated, budget: int | None = None) -> None:
        self.plan = plan = generated.plan
        graph = plan.graph
        self.graph = graph
        self.storages: dict[Node, Storage] = {}
        self.copies: list[tuple[int, Storage, int]] = []
        self.stepping: dict[Node, Stepping] = {}
        self.n_inputs = len(graph.inputs)
        self.n_outputs = len(graph.outputs)
        self.picks: dict[Node, dict[int, Node]] = {}
        for n in graph.nodes:
            if n.op is PICK:
                self.picks.setdefault(n.src[0], {})[n.attrs[0]] = n
        for step in plan.steps:
            if isinstance(step, Step) and step.kind == "host" and claims.claims(step.node):
                step.kind = "composite"  # a library call that a kernel computes
            if isinstance(step, Step) and step.kind == "composite":
                self.claimed(step.node)
        self.kernels = generated.kernels
        self.carriers = generated.carriers
        self.carried = generated.carried
        self.bind_outputs()
        self.arrange(budget)

    # -- storage ----------------------------------------------------------------------------------

    def claimed(self, node: Node) -> None:
        """Memory for all results of a composite, read or not, and for what its kernel needs."""
        if node in self.picks:
            for which in range(len(node.attrs[-1])):
                self.result(node, which)
        else:
            self.picks[node] = {0: node}
        if node.op.calls:
            size = self.stepped(node).scratch
        else:
            claim = claims.claim_of(node)
            size = 0 if claim is None else claim.scratch(node)
        if size:
            self.picks[node][_WORKSPACE] = Node(PICK, (node,), (_WORKSPACE,), (size,), uint8)

    def stepped(self, node: Node) -> Stepping:
        """How a node that runs programs does so: Note [Stepping]."""
        if node not in self.stepping:
            self.stepping[node] = STEPPING[node.op.name](node, self.inner)
        return self.stepping[node]

    def inner(self, graph: Graph) -> Planning:
        """A program that this one runs."""
        return type(self)(generate(fuse(lower(graph, claims.claims))))

    def workspace(self, node: Node) -> Storage:
        """The memory that a composite's kernel has for itself while it runs."""
        return self.storage(self.picks[node][_WORKSPACE])

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
            return memory_read(self.kernels.get(step.number))
        found = [base_of(s) for s in step.node.src if type(s) is Node]
        if step.kind == "wait":  # until then they are read and written elsewhere
            return [*found, step.node]
        carried = self.carried.get(step.number)
        if carried is not None:
            made = {step.node}  # what one epilogue hands to the next is not read by the step
            for region in carried.regions:
                found += [n for n in self.reads(region) if n not in made]
                made.update(region.stores, self.writes(region))
        return found

    def writes(self, step: Any) -> list[Node]:
        """Nodes whose memory a step writes."""
        if isinstance(step, Region):
            return [self.plan.writes.get(n, n) for n in step.stores]
        carried = self.carried.get(step.number)
        if carried is not None:
            made = [n for r in carried.regions for n in self.writes(r)]
            return made if carried.hidden else [step.node, *made]
        if step.node in self.picks:
            return list(self.picks[step.node].values())
        if step.kind == "wait":  # so that nothing under way is dropped, to be made again
            return self.reads(step)
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
        self.guests: set[Storage] = set()  # values in results' memory
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
        """Whether a step can end the program with an error, of which it may recover; after a
        collective has failed there is no going on."""
        if isinstance(step, Region):
            kernel = self.kernels.get(step.number)
            return kernel is not None and any(slot[0] == "error" for slot in kernel.slots)
        carried = self.carried.get(step.number)
        if carried is not None:
            return any(map(self.may_raise, carried.regions))
        if step.kind == "index_put":
            found = zip(step.node.src[2:], step.node.shape, strict=False)
            return any((_values(i), size) not in self.checked for i, size in found)
        if step.node.op.calls:
            return self.stepped(step.node).raises
        return bool(step.kind == "host")

    def safe(self, node: Node, home: int, readers: dict[Node, list[Any]], risky: list[Any]) -> bool:
        """Whether a node may be written straight over home `home`; orders the readers of the old
        value and all that may raise before it, so that a program that fails has written nothing."""
        if home < 0 and not risky:
            return True
        step = self.plan.stored.get(node)
        within: tuple[Any, ...] = ()  # steps that may read what is overwritten there
        region = step if isinstance(step, Region) else None
        if region is not None:
            step = self.carriers.get(region.number, step)
        elif isinstance(step, Step) and step.kind == "wait":
            wait, step = step, self.plan.steps[step.number - 1]  # which writes, from then on
            if home >= 0 and node.op.over and node.src[0] is self.graph.inputs[home]:
                within = (step, wait)
        if any(r is step for r in risky):
            return False
        source = self.graph.inputs[home] if home >= 0 else None
        if node.op.kind == "assign" or step is None:
            return False
        others = []
        for reader in (*readers.get(source, ()), *risky):  # type: ignore[arg-type]
            if reader in within:
                continue
            if reader is step:
                if region is None:
                    return False
                if step is not region and not self.alone(step, region, source):
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

    def alone(self, step: Step, region: Region, source: Node | None) -> bool:
        """Whether of all that a product with epilogues does only one of them reads `source`."""
        others = [r for r in self.carried[step.number].regions if r is not region]
        return all(base_of(s) is not source for s in step.node.src) and all(
            source not in self.reads(r) for r in others
        )

    def arrange(self, budget: int | None) -> None:
        """Order the steps and place their memory, within `budget` bytes if that can be done."""
        tasks = self.recorded()
        sizes = {
            s: s.nbytes
            for t in tasks
            for s in (*t.reads, *t.writes)
            if s.slot is None or s in self.fresh
        }
        kept = self.fresh.union(store for _, store, _ in self.copies)
        tasks = schedule(tasks, self.plan.before, sizes, kept)
        results = sum(s.nbytes for s in self.fresh)
        fixed = self.fixed_bytes = sum(n.nbytes for n in self.graph.inputs) + results
        self.budget = budget
        self.repeated: list[Task] = []
        self.lay_out(tasks)
        self.peak_bytes = self.unlimited_bytes = fixed + self.arena_bytes
        if budget is None or self.peak_bytes <= budget:
            return
        for task in tasks:
            task.seconds = self.seconds(task.step)
        best: tuple[int, Schedule] | None = None
        limit = budget - fixed + results  # results count from when they are written
        for _ in range(_TRIES):
            found = rematerialise(tasks, sizes, kept, limit)
            self.lay_out(self.resolved(found.order))
            total = fixed + self.arena_bytes
            if best is None or total < best[0]:
                best = (total, found)
            if total <= budget or found.peak > limit:
                break
            limit -= total - budget
        assert best is not None
        self.peak_bytes = best[0]
        self.repeated = best[1].repeated
        self.lay_out(self.resolved(best[1].order))

    def recorded(self) -> list[Task]:
        """The steps with work, and the memory of each."""
        tasks = []
        homes: dict[Storage, Storage] = {}
        for node, home in self.graph.outputs:
            if home is not None and home >= 0 and self.storage(node).slot is not None:
                homes[self.storage(node)] = self.storage(self.graph.inputs[home])
        places = {n: k for k, n in enumerate(self.graph.nodes)}
        for step in self.plan.steps:
            if not self.has_work(step):
                continue
            read = tuple(self.storage(n) for n in self.reads(step))
            written = tuple(self.storage(n) for n in self.writes(step))
            again = isinstance(step, Region) or step.kind in ("contraction", "composite")
            spoiled = tuple(homes[s] for s in written if s in homes)
            late = isinstance(step, Step) and step.kind == "wait"
            values = (
                self.writes(step) if isinstance(step, Region) else [*self.writes(step), step.node]
            )
            last = max(places[n] for n in values if n in places)
            tasks.append(Task(step, read, written, 0.0, again, spoiled, late, last))
        return tasks

    def seconds(self, step: Any) -> float:
        """About how long a step takes."""
        work = work_of(self, step)
        rate = _LOOP_RATE if isinstance(step, Region) else _PRODUCT_RATE
        return work.flops / rate + work.bytes / _BYTE_RATE

    def resolved(self, order: list[Task]) -> list[Task]:
        """The tasks with memory for what is made a second time."""
        made: dict[Any, Storage] = {}

        def real(key: Any) -> Storage:
            if not isinstance(key, Again):
                return key
            if key not in made:
                made[key] = Storage(key.of.nbytes)
            return made[key]

        return [t.with_memory(tuple(map(real, t.reads)), tuple(map(real, t.writes))) for t in order]

    def has_work(self, step: Any) -> bool:
        """Whether a step does anything when it runs."""
        if isinstance(step, Region):
            return bool(step.stores) and step.number not in self.carriers
        if step.kind == "index_put" and step.node.src[1].numel == 0:
            return False
        return step.node.op.name != "empty_memory" and (
            step.node.numel > 0 or step.kind in ("host", "start", "wait")
        )

    def lay_out(self, tasks: list[Task]) -> None:
        """Places for what lives inside the program only: over what dies where it is made, in
        results' memory before their first write, in the arena."""
        self.tasks = tasks
        self.order = [t.step for t in tasks]
        storages = list(dict.fromkeys(s for t in tasks for s in (*t.reads, *t.writes)))
        for s in storages:
            s.first = s.last = -1
            if s.slot is None or s in self.guests:
                s.slot, s.offset = None, 0
        for at, task in enumerate(tasks):
            for s in (*task.reads, *task.writes):
                s.first = at if s.first < 0 else s.first
                s.last = at
        for _, store, _ in self.copies:
            store.last = len(tasks)
        taken = self.take_over()
        if taken:
            self.tasks = [
                t.with_memory(
                    tuple(taken.get(s, s) for s in t.reads),
                    tuple(taken.get(s, s) for s in t.writes),
                )
                for t in tasks
            ]
        moving = [s for s in storages if s not in taken and s.slot is None]
        self.arena_bytes = place(moving, [s for s in storages if s in self.fresh])
        self.guests = {s for s in moving if s.slot is not None}

    def take_over(self) -> dict[Storage, Storage]:
        """Have results of loops lie where a source of theirs dies, element over element.

        Returns:
            memory that is not needed -> the memory that its values lie in.
        """
        taken: dict[Storage, Storage] = {}
        fixed = {store for _, store, _ in self.copies}
        for at, task in enumerate(self.tasks):
            step = task.step
            if not isinstance(step, Region):
                continue
            kernel = self.kernels[step.number]
            used = [taken.get(s, s) for s in (*task.reads, *task.writes)]
            sources = list(zip(self.reads(step), used, strict=False))
            for (n, m), new in zip(step.stores.items(), task.writes, strict=True):
                if new.first != at or new in fixed or n in self.plan.writes:
                    continue
                if new.slot is not None and new not in self.fresh:
                    continue
                for source, old in sources:
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
                        taken[old] = new
                        used[used.index(old)] = new
                        break
        for old in list(taken):
            while taken[old] in taken:
                taken[old] = taken[taken[old]]
        return taken

    def bind(self, task: Task) -> None:
        """Let `storage` tell the memory that nodes have when a task runs."""
        for n, s in zip(self.reads(task.step), task.reads, strict=True):
            self.storages[self.root(n)] = s
        for n, s in zip(self.writes(task.step), task.writes, strict=True):
            self.storages[self.root(n)] = s


def _values(node: Node) -> Node:
    """The node that a copy has its values from."""
    while node.op is COPY and type(node.src[0]) is Node and node.shape == node.src[0].shape:
        node = node.src[0]
    return node
