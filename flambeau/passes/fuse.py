"""Fusion: which values are computed together, and which are ever written to memory.

Nodes are taken in program order. An elementwise node or reduction joins the region of one of its
sources if the iteration space fits, every value it reads inside the region is the element it is
itself at (equal maps), and no other source depends on that region. Otherwise it starts a region.
A value read from outside its region is written to memory, unless it is cheap enough to be computed
again where it is read (`pull`). Values that read no memory (constants, index patterns, random bits)
belong to no region and are computed wherever they are used.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from flambeau.ir.graph import AGAIN, PICK, Graph, Node
from flambeau.ir.region import (
    Map,
    Region,
    box_of,
    common_refinement,
    flatten_coordinates,
    split_coordinates,
    squeezed,
    through_broadcast,
    through_view,
)

_MAX_MEMBERS = 128  # code generation goes from a value to its sources by calls in calls
_MAX_LOADS = 28
_UNDER_WAY = 3  # collectives of a group
_FREE_DEPTH = 64  # a longer chain of operations on numbers is written to memory in between


@dataclass(eq=False)
class Step:
    """A step that is not a loop region: a matrix product, scatter, write, or library call.

    A product may carry regions that it computes on its result (`kernels/epilogue.py`). An effect
    is two steps, "start" and, numbered next, "wait", which is the one that its readers follow.
    """

    number: int
    node: Node
    kind: str
    epilogues: list[Region] = field(default_factory=list)


@dataclass
class Plan:
    """The fused program: steps in order, and the nodes that live in memory."""

    graph: Graph
    steps: list[Any] = field(default_factory=list)
    stored: dict[Node, Any] = field(default_factory=dict)  # node -> region or step
    free: set[Node] = field(default_factory=set)
    writes: dict[Node, Node] = field(default_factory=dict)  # value of an assign -> the assign
    before: list[int] = field(default_factory=list)


class Fuser:
    """The state of one fusion pass."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.home: dict[Node, Any] = {}  # node -> its region or step
        self.free: set[Node] = set()
        self.depth: dict[Node, int] = {}  # of free nodes: operations above each other
        self.before: list[int] = []  # per step: bit set of steps it depends on
        self.steps: list[Any] = []
        self.stored: dict[Node, Any] = {}
        self.started: Step | None = None  # the start of the effect before
        self.under_way: dict[Any, list[Step]] = {}  # group -> the waits of the last effects of it
        self.outputs = {n for n, _ in graph.outputs}
        self.users = graph.users()
        self.position = {n: k for k, n in enumerate(graph.nodes)}
        # the copy node that carries a write's value -> the write
        self.writes = {n.src[1]: n for n in graph.nodes if n.op.kind == "assign"}
        # values that must be in memory whatever they cost
        self.pinned = {n.src[0] for n in graph.nodes if n.op.kind in ("assign", "index_put")} | set(
            self.writes
        )

    # -- dependence -------------------------------------------------------------------------------

    def new_step(self, make: Any) -> Any:
        """Append the step that `make(number)` gives, after which nothing stands yet."""
        step = make(len(self.steps))
        self.steps.append(step)
        self.before.append(0)
        return step

    def depend(self, step: Any, on: Any) -> None:
        """Note that `step` runs after `on`, and so does what runs after `step`."""
        order_after(self.before, step.number, on.number)

    def needs(self, node: Node) -> list[Any]:
        """The steps whose stored results a node reads (through views and free values)."""
        found = []
        for s in memory_sources(node, self.free):
            home = self.home.get(s)
            if home is not None and home not in found:
                found.append(home)
        return found

    # -- joining ----------------------------------------------------------------------------------

    def run(self) -> Plan:
        """Place every node, store the outputs; -> the plan."""
        for node in self.graph.nodes:
            self.place(node)
        for node, _ in self.graph.outputs:  # in order, so that equal programs make equal kernels
            self.store(node)
        return Plan(self.graph, self.steps, self.stored, self.free, self.writes, self.before)

    def place(self, node: Node) -> None:
        """Give a node its step: a region, a kernel of its own, or none."""
        kind = node.op.kind
        if kind in ("input", "view"):
            return
        if kind == "effect":
            self.effect(node)
            return
        if kind == "assign" and not hosted(node):
            self.written(node)
            return
        if hosted(node):
            self.opaque(node, "host")
            return
        if node.op is PICK:  # the step that makes all results has stored this one
            self.home[node] = self.stored[node] = self.home[node.src[0]]
            return
        if kind == "index":
            base = base_of(node.src[0])
            if base in self.free:
                self.alone(base)
        if (
            kind == "elementwise"
            and node.op.name != "empty_memory"
            and self.is_free(node)
            and node not in self.pinned
            and (depth := self.depth_of(node)) < _FREE_DEPTH
        ):
            self.free.add(node)
            self.depth[node] = depth
            if node in self.outputs:
                self.alone(node)
            return
        if (kind in ("elementwise", "index", "scan") and node.op.name != "empty_memory") or (
            kind == "reduce" and node.src[0].numel
        ):
            if 0 in node.shape:
                self.opaque(node, "nothing")
                return
            self.join(node)
            return
        self.opaque(node, kind)

    def is_free(self, node: Node) -> bool:
        """Whether a node is computed wherever it is read: it comes from numbers only."""
        return (
            all(
                not isinstance(s, Node)
                or s in self.free
                or (s.op.kind == "view" and s.src[0] in self.free)
                for s in node.src
            )
            and node.op.kind == "elementwise"
        )

    def depth_of(self, node: Node) -> int:
        """How many free operations stand above each other in a node's value."""
        sources = [base_of(s) for s in node.src if type(s) is Node]
        return 1 + max((self.depth[s] for s in sources), default=0)

    def written(self, node: Node) -> None:
        """An assign: its value's region has stored into the base's memory already."""
        region = self.home[node.src[1]]
        self.home[node] = region
        self.stored[node] = region

    def opaque(self, node: Node, kind: str) -> None:
        """A step of its own; everything it reads is in memory."""
        step = self.new_step(lambda k: Step(k, node, kind))
        self.home[node] = step
        self.stored[node] = step
        for s in node.src:
            if type(s) is Node:
                base = base_of(s)
                if base in self.free:
                    self.alone(base)
                self.store(base)
                home = self.home.get(base)
                if home is not None:
                    self.depend(step, home)

    def effect(self, node: Node) -> None:
        """A step that starts an effect once the one before is started, and one that waits.

        Of those that every rank of a group has, a few at a time are under way, so that what they
        read and write is not held until the end. Sends and receives match in any order.
        """
        self.opaque(node, "start")
        start = self.home[node]
        if self.started is not None:
            self.depend(start, self.started)
        self.started = start
        wait = self.new_step(lambda k: Step(k, node, "wait"))
        self.depend(wait, start)
        self.home[node] = self.stored[node] = wait
        if not node.op.paired:
            waits = self.under_way.setdefault(node.attrs[0], [])
            waits.append(wait)
            if len(waits) > _UNDER_WAY:
                self.depend(start, waits.pop(0))

    def store(self, node: Node) -> None:
        """Make sure a node is written to memory by the region that computes it."""
        home = self.home.get(node)
        if home is None or node in self.stored:
            return
        if isinstance(home, Region):
            home.stores[node] = home.maps[node]
        self.stored[node] = home

    def alone(self, node: Node) -> None:
        """A region of its own for a free node that must be in memory."""
        if node in self.stored:
            return
        region = Region(-1, squeezed(node.shape))
        trial = Attempt(self, region, node)  # a free source may be read where it cannot be computed
        if not trial.fits():
            raise AssertionError(f"{node} of {node.src} {node.attrs} does not fit a region")
        trial.region = self.new_step(lambda k: Region(k, region.dims, region.reduced))
        trial.commit()
        self.store(node)

    def join(self, node: Node) -> None:
        """Put a node into a region it fits: its sources', else a sibling's, else one of its own."""
        candidates = [h for h in self.needs(node) if isinstance(h, Region)]
        for region in sorted(candidates, key=lambda r: -r.number):
            trial = Attempt(self, region, node)
            if trial.fits():
                trial.commit()
                return
        for region in self.siblings(node):
            trial = Attempt(self, region, node)
            if trial.fits():
                trial.commit()
                return
        region = Region(-1, squeezed(node.src[0].shape if node.op.kind == "reduce" else node.shape))
        trial = Attempt(self, region, node)
        if not trial.fits():
            raise AssertionError(
                f"{node} of {node.src} {node.attrs} does not fit a region of its own"
            )
        trial.region = self.new_step(lambda k: Region(k, region.dims, region.reduced))
        trial.commit()

    def siblings(self, node: Node) -> list[Region]:
        """Regions that read what this node reads, latest first."""
        found: list[Region] = []
        for s in memory_sources(node, self.free):
            users: list[Node] = []
            stack = [s]
            while stack:
                for user in self.users[stack.pop()]:
                    if user.op.kind == "view":
                        stack.append(user)
                    elif user in self.home:  # placed already
                        users.append(user)
            for user in users[-6:]:
                home = self.home.get(user)
                if isinstance(home, Region) and home not in found:
                    found.append(home)
        return sorted(found, key=lambda r: -r.number)[:4]


def hosted(node: Node) -> bool:
    """Whether NumPy computes a node: no kernels are generated for one of its dtypes."""
    if node.op.kind == "composite" or node.op.name == "empty_memory" or node.op is PICK:
        return False
    return node.dtype.hosted or any(type(s) is Node and s.dtype.hosted for s in node.src)


def order_after(before: list[int], step: int, on: int) -> None:
    """Put step `step` after step `on` in the bit sets, and with it all that runs after `step`."""
    if on == step:
        return
    bit = 1 << step
    before[step] |= before[on] | 1 << on
    total = before[step]
    for k, b in enumerate(before):
        if b & bit:
            before[k] = b | total


def base_of(node: Node) -> Node:
    """The node whose storage a chain of views reads."""
    while node.op.kind == "view":
        node = node.src[0]
    return node


def memory_sources(node: Node, free: set[Node]) -> list[Node]:
    """The values that a node reads, behind views and free values; inputs included."""
    found: list[Node] = []
    stack = [s for s in node.src if type(s) is Node]
    seen = set()
    while stack:
        s = stack.pop()
        if s in seen:
            continue
        seen.add(s)
        if s.op is AGAIN:
            continue
        if s.op.kind == "view":
            stack.append(s.src[0])
        elif s in free:
            stack.extend(x for x in s.src if type(x) is Node)
        else:
            found.append(s)
    return found


class Attempt:
    """Trying to add one node to one region; nothing changes unless it is committed."""

    def __init__(self, fuser: Fuser, region: Region, node: Node) -> None:
        self.fuser = fuser
        self.region = region
        self.node = node
        self.dims = region.dims
        self.reduced = region.reduced
        self.own: Map | None = None
        self.reads: dict[Node, None] = {}  # from memory, in order
        self.pulled: dict[Node, Map] = {}
        self.forced: dict[Node, None] = {}
        self.shadow: Region = region

    def fits(self) -> bool:
        """Whether the region can take the node: space, accesses and the order of steps allow it."""
        region, node = self.region, self.node
        if len(region.members) >= _MAX_MEMBERS:
            return False
        shape = node.src[0].shape if node.op.kind == "reduce" else node.shape
        own = self._space(squeezed(shape))
        if own is None:
            return False
        return self._dependence() if self._accesses(own) else False

    def _space(self, sizes: tuple[int, ...]) -> Map | None:
        """Find or make the part of the iteration space that the node walks; -> its map."""
        region, node = self.region, self.node
        work = Region(
            region.number,
            region.dims,
            region.reduced,
            list(region.members),
            dict(region.maps),
            dict(region.stores),
            region.forced,
        )
        full = common_refinement(work.dims, sizes)
        if full is not None:
            work.refined(full)
            for s in node.src:  # where a reshape is read, its source's dimensions are cut out too
                if type(s) is Node and s.op.kind == "view" and s.numel == s.src[0].numel:
                    cut = common_refinement(work.dims, squeezed(s.src[0].shape))
                    if cut is not None and len(cut) <= 8:
                        work.refined(cut)
            full = work.dims
            self.shadow = work
            if node.op.kind not in ("reduce", "scan"):
                return work.natural()
            if not _same_way(work, node):
                return None
            reduced = _reduced_dims(node, full)
            if reduced is None or (work.reduced and work.reduced != reduced):
                return None
            if not work.reduced:
                if work.members and not _worth(full, reduced):
                    return None
                work.reduced = reduced
            return work.natural()
        if node.op.kind in ("reduce", "scan") or not work.reduced:
            return None
        kept = work.kept()
        part = common_refinement(kept, sizes)
        if part is None:
            return None
        finer: list[int] = []
        groups = iter(part)
        for d, n in enumerate(work.dims):
            if d in work.reduced:
                finer.append(n)
                continue
            product = 1
            while product < n:
                g = next(groups)
                finer.append(g)
                product *= g
        work.refined(tuple(finer))
        self.shadow = work
        return work.natural(kept_only=True)

    def _accesses(self, own: Map) -> bool:
        node = self.node
        self.loads: dict[tuple[Node, Map], None] = {}  # in order, as the reads
        for s in node.src[:1] if node.op.kind == "index" else ():
            if not self._memory(s):
                return False
        if node.op.kind == "index":
            shape = node.src[1].shape
            rest = len(node.shape) - len(shape)
            for s in node.src[1:]:
                m = (
                    through_broadcast(own, node.shape, (*shape, *(1,) * rest), self.shadow.dims)
                    if rest
                    else own
                )
                if m is None or not self._read(s, m, 0):
                    return False
        else:
            for s in node.src:
                if type(s) is not Node:
                    continue
                m = (
                    own
                    if node.op.kind == "reduce"
                    else through_broadcast(own, node.shape, s.shape, self.shadow.dims)
                )
                if m is None or not self._read(s, m, 0):
                    return False
        if node.op.kind == "reduce":
            own = self.shadow.natural(kept_only=True)
        if node in self.fuser.writes:
            self.reads[self._overwritten(self.fuser.writes[node])] = None
        self.own = own
        return len(self.loads) <= _MAX_LOADS

    def _overwritten(self, write: Node) -> Node:
        """The base that a write follows: writes elsewhere in it need no order within a region."""
        base = write.src[0]
        box = box_of(write.attrs, write.shape)
        while box and base.op.kind == "assign" and self.fuser.home[base] is self.region:
            other = box_of(base.attrs, write.shape)
            if not other or not any(a[1] <= b[0] or b[1] <= a[0] for a, b in zip(box, other)):
                break
            base = base.src[0]
        return base

    def _memory(self, s: Node) -> bool:
        """Read a node as memory at computed places."""
        base = base_of(s)
        if base in self.shadow.maps:
            return False
        self.reads[base] = None
        return True

    def _read(self, s: Node, m: Map, depth: int) -> bool:
        """Whether the value of `s` at `m` can be had inside the region."""
        known = self.shadow.maps.get(s)
        if known is not None:
            return known == m
        if self.pulled.get(s) == m:
            return True
        if s.op is AGAIN:  # from memory, and so in no region that computes the source
            self.reads[base_of(s)] = None
            self.loads[s, m] = None
            return True
        if s.op.kind == "view":
            inner = through_view(m, s, self.shadow.dims)
            return inner is not None and self._read(s.src[0], inner, depth)
        if s in self.fuser.free:
            if s not in self.shadow.forced:
                saved = (dict(self.pulled), dict(self.reads), dict(self.loads))
                if self._free(s, m, depth):
                    return True
                self.pulled, self.reads, self.loads = saved
            self.forced[s] = None
            self.loads[s, m] = None
            return True
        if (
            s in self.pulled
            or s in self.fuser.stored
            or s.op.kind == "input"
            or not self._pull(s, m, depth)
        ):
            self.reads[s] = None
            self.loads[s, m] = None
        return True

    def _free(self, s: Node, m: Map, depth: int) -> bool:
        for x in s.src:
            if type(x) is Node:
                inner = through_broadcast(m, s.shape, x.shape, self.shadow.dims)
                if inner is None or not self._read(x, inner, depth + 1):
                    return False
        return True

    def _pull(self, s: Node, m: Map, depth: int) -> bool:
        """Compute a cheap value of another region again here instead of storing it there."""
        home = self.fuser.home.get(s)
        if (
            depth > 6
            or not isinstance(home, Region)
            or s.op.kind != "elementwise"
            or s.op.expensive
            or s in self.fuser.outputs
        ):
            return False
        saved = (dict(self.pulled), dict(self.reads), dict(self.loads))
        before = len(self.loads)
        full = [x for x in s.src if type(x) is Node]
        for x in full:
            inner = through_broadcast(m, s.shape, x.shape, self.shadow.dims)
            if inner is None or not self._read(x, inner, depth + 1):
                self.pulled, self.reads, self.loads = saved
                return False
        big = sum(1 for x, _ in list(self.loads)[before:] if x.numel * 2 > s.numel)
        if big > 3 or any(not self._available(x) for x in self.reads.keys() - saved[1].keys()):
            self.pulled, self.reads, self.loads = saved
            return False
        self.pulled[s] = m
        return True

    def _available(self, x: Node) -> bool:
        """Whether reading x costs no store that would not happen anyway, or a small one."""
        return (
            x in self.fuser.stored
            or x.op.kind == "input"
            or x in self.fuser.outputs
            or x.op.kind == "reduce"
            or x.numel <= 4096
        )

    def _dependence(self) -> bool:
        """No value read from memory may come from this region or from one that depends on it."""
        fuser, region = self.fuser, self.region
        for s in self.reads:
            home = fuser.home.get(s)
            if home is None:
                continue
            if home is region:
                return False
            if region.number >= 0 and fuser.before[home.number] >> region.number & 1:
                return False
        return True

    def commit(self) -> None:
        """Make the region what the attempt found it would be."""
        region, work, fuser = self.region, self.shadow, self.fuser
        region.dims, region.reduced = work.dims, work.reduced
        region.maps, region.stores = work.maps, work.stores
        assert self.own is not None
        for s, m in self.pulled.items():
            region.maps[s] = m
            region.members.append(s)
        region.members.append(self.node)
        if self.pulled:  # a value pulled in now may be one that earlier members read from memory
            region.members.sort(key=fuser.position.__getitem__)
        region.maps[self.node] = self.own
        fuser.home[self.node] = region
        write = fuser.writes.get(self.node)
        if write is not None:
            shape, strides, offset = write.attrs
            coordinates = split_coordinates(self.own, shape, region.dims)
            assert coordinates is not None
            region.stores[self.node] = flatten_coordinates(
                coordinates, strides, offset, len(region.dims)
            )
        region.forced |= self.forced.keys()
        for s in self.forced:
            fuser.alone(s)
            fuser.depend(region, fuser.home[s])
        for s in self.reads:
            fuser.store(s)
            home = fuser.home.get(s)
            if home is not None:
                fuser.depend(region, home)


def _reduced_dims(node: Node, dims: tuple[int, ...]) -> frozenset[int] | None:
    """Which dimensions of the iteration space are a reduction's axes, or a scan's."""
    shape, axes = node.src[0].shape, node.attrs[0]
    if node.op.kind == "scan":
        axes = (axes,)
    found = set()
    at = 0
    for i, n in enumerate(shape):
        product = 1
        while product < n:
            if i in axes:
                found.add(at)
            product *= dims[at]
            at += 1
        if product != n:
            return None
    return frozenset(found)


def _same_way(region: Region, node: Node) -> bool:
    """Whether a reduction or scan can be part of a region whose loops may run backwards."""
    backwards = region.backwards
    if node.op.kind == "scan":
        ordered = any(n.op.name.startswith("arg") for n in region.members)
        if backwards is None:
            return not (ordered and node.attrs[1])
        return backwards is node.attrs[1]
    return not (backwards and node.op.name.startswith("arg"))  # the first of equals is wanted


def _worth(dims: tuple[int, ...], reduced: frozenset[int]) -> bool:
    """Whether elementwise work may be tied to a reduction's parallelism."""
    kept = math.prod(n for d, n in enumerate(dims) if d not in reduced)
    return kept >= 16 or math.prod(dims) <= 1 << 15


def fuse(graph: Graph) -> Plan:
    """Regions and steps for a simplified graph."""
    return Fuser(graph).run()
