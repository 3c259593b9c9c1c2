"""A training step with its collectives as it is written, simulated on ranks that are not there.

The program is recorded by one rank that acts as many (`transport/paper.py`); nothing is executed.
What it recorded goes through the passes, and every step of the result becomes an instruction of the
simulation: a computation, the start of a collective, or the wait for one right before the first
step that reads its result, which is what a program does when it runs (Note [Waiting late] in
`passes/schedule.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flambeau import record
from flambeau.distributed import groups
from flambeau.distributed.check import _Dry
from flambeau.distributed.plan import Cluster, Device, Traffic
from flambeau.distributed.simulate import (
    Collective,
    Compute,
    Instruction,
    Trace,
    Wait,
    simulate,
)
from flambeau.distributed.transport.paper import Paper
from flambeau.distributed.workload import Cost, alone, pass_of, runs, seconds_of
from flambeau.ir.graph import Node, below
from flambeau.ir.region import Region
from flambeau.kernels import claims
from flambeau.ops.generator import default_generator
from flambeau.passes.fuse import Plan as Fused
from flambeau.passes.fuse import fuse
from flambeau.passes.pipeline import lower


@dataclass
class Rehearsal:
    """A step as instructions, the same for every rank.

    Attributes:
        instructions: in order.
        sizes: name of a group -> its ranks; the groups are taken to be lines of one mesh.
        traffic: collective -> how often, and how many bytes and seconds.
    """

    instructions: list[Instruction] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    traffic: dict[str, Traffic] = field(default_factory=dict)

    def simulate(self, **options: Any) -> Trace:
        """Let every rank run it; options are those of `simulate.simulate`.

        Returns:
            The trace.
        """
        return simulate([self.instructions], self.sizes or {"alone": 1}, **options)


class _Noting:
    """A group that notes which collective an effect would start."""

    def __init__(self, group: Any) -> None:
        self.group = group
        self.name = ""
        self.nbytes = 0

    def rank(self) -> int:
        """This rank's place."""
        return int(self.group.rank())

    def size(self) -> int:
        """How many ranks there are."""
        return int(self.group.size())

    def start(self, name: str, sources: Any, targets: Any, **how: Any) -> None:
        """Note the larger of what is given and what is taken: the whole tensor."""
        self.name = name
        self.nbytes = max(sum(a.nbytes for a in sources), sum(a.nbytes for a in targets))


def _array(node: Node) -> Any:
    """An array of a node's shape that takes no memory."""
    size = node.dtype.itemsize
    one: Any = np.zeros(1, {1: np.int8, 2: np.int16, 4: np.int32}.get(size, np.int64))
    return np.lib.stride_tricks.as_strided(one, node.shape, (0,) * len(node.shape))


def rehearse(
    program: Callable[[], Callable[[], Any]], ranks: int, cluster: Cluster, rank: int = 0
) -> Rehearsal:
    """Record a step of a program of many ranks.

    Args:
        program: sets everything up, with a default group of `ranks`, and returns the step. Models
            on "meta" need no memory.
        ranks: of the world.
        cluster: where it would run.
        rank: as which it is recorded; all others do the same.

    Example:
        >>> import flambeau
        >>> from flambeau.distributed.plan import A100_HOSTS
        >>> from flambeau.nn.parallel import DistributedDataParallel
        >>> def program():
        ...     with flambeau.device("meta"):
        ...         model = DistributedDataParallel(flambeau.nn.Linear(4096, 4096))
        ...         x = flambeau.zeros(4096, 4096)
        ...     return lambda: model(x).sum().backward()
        >>> found = rehearse(program, 100_000, A100_HOSTS)
        >>> found.traffic["all_reduce"].nbytes == 4 * (4096 * 4096 + 4096)
        True
        >>> found.simulate().seconds > rehearse(program, 8, A100_HOSTS).simulate().seconds
        True
    """
    record.flush()
    before = groups._exchange_world(None)
    random_state = default_generator.__getstate__()
    try:
        groups._world.given = Paper(rank, ranks)
        groups.init_process_group("paper")
        step = program()
        record.flush()
        dry = _Dry()
        record.thread.watcher = dry
        try:
            held = step()
            graph = _recorded(dry)
            del held
        finally:
            record.thread.watcher = None
            dry.undo()
    finally:
        default_generator.__setstate__(random_state)
        groups._exchange_world(before)
    return _instructions(fuse(lower(graph, claims.claims)), cluster)


def _recorded(dry: Any) -> Any:
    """What a step would execute: values that something holds, and every effect."""
    wanted = [node for _, node in record.live_since(dry.mark)]
    wanted += [node for node, _ in record._effects if node.order >= dry.start]
    wanted = list(dict.fromkeys(wanted))
    nodes = [n for n in below(wanted, set()) if n.order >= dry.start and n.buffer is None]
    inside = set(nodes)
    return alone(nodes, [n for n in wanted if n in inside])[0]


def _instructions(plan: Fused, cluster: Cluster) -> Rehearsal:
    """The steps of a plan, in the order in which a program runs them."""
    found = Rehearsal()
    for _, step in sorted(_places(plan), key=lambda pair: pair[0]):
        kind = "region" if isinstance(step, Region) else step.kind
        if kind == "wait":
            found.instructions.append(Wait(step.node))
        elif kind == "start":
            found.instructions.append(_collective(step.node, cluster, found))
        else:
            name = next(iter(step.stores)).op.name if kind == "region" else step.node.op.name
            found.instructions.append(Compute(_seconds(pass_of(step, plan), cluster.device), name))
    return found


def _places(plan: Fused) -> list[tuple[float, Any]]:
    """Each step with its place; a wait's is right before the first step that needs it."""
    found = []
    for step in filter(runs, plan.steps):
        place = float(step.number)
        if not isinstance(step, Region) and step.kind == "wait":
            bit = 1 << step.number
            readers = [k for k, needs in enumerate(plan.before) if needs & bit]
            place = min(readers, default=len(plan.before)) - 0.5
        found.append((place, step))
    return found


def _seconds(work: Any, device: Device) -> float:
    return seconds_of(Cost((work,)), device.rate, device.bandwidth, device.start)


def _collective(node: Node, cluster: Cluster, found: Rehearsal) -> Instruction:
    """The start of an effect."""
    group = node.attrs[0]
    noting = _Noting(group)
    assert node.op.start is not None
    sources = [_array(s) for s in node.src if type(s) is Node]
    node.op.start(noting, sources, _array(node), *node.attrs[1:])
    step = group.ranks[1] - group.ranks[0] if group.size() > 1 else 1
    link = cluster.link(group.size(), step)
    if noting.name in ("send", "recv"):
        took = link.seconds(noting.nbytes)
    else:
        kind = {"gather": "all_gather", "scatter": "reduce_scatter"}.get(noting.name, noting.name)
        took = link.collective(kind, noting.nbytes, group.size())
    found.sizes[group.group_name] = group.size()
    traffic = found.traffic.setdefault(noting.name, Traffic())
    traffic.count += 1
    traffic.nbytes += noting.nbytes
    traffic.seconds += took
    return Collective(group.group_name, took, node, noting.name)


__all__ = ["Rehearsal", "rehearse"]
