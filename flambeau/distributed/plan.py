"""A training step on paper: its time, memory and communication on ranks that nobody has to have.

A workload, read from the recording of one micro-batch (`workload.py`), is laid out over a mesh of
data, tensor and pipeline ranks. What each rank of each stage then does, computations from the
roofline of its device and collectives from the links of its cluster, is a list of instructions, and
the event simulation (`simulate.py`) says how long they take: with one rank a stage for an estimate,
with every rank and its delays for a simulation. There is no second formula for the same thing.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from flambeau.distributed.schedules import SCHEDULES, Action, schedule
from flambeau.distributed.simulate import (
    Collective,
    Compute,
    Instruction,
    Link,
    Receive,
    Send,
    Trace,
    Wait,
    simulate,
)
from flambeau.distributed.workload import Piece, Workload, seconds_of

SHARDS = ("none", "optimizer", "full")


@dataclass(frozen=True)
class Device:
    """One rank's processor.

    Attributes:
        name: of it.
        flops: dtype name -> operations a second of products, as the data sheet says.
        bandwidth: bytes a second of its memory.
        memory: bytes it has.
        efficiency: the share of `flops` that large products reach.
        start: seconds that a kernel takes besides its work.
    """

    name: str
    flops: Mapping[str, float]
    bandwidth: float
    memory: float
    efficiency: float = 0.75
    start: float = 0.0

    def rate(self, dtype: str) -> float:
        """Operations a second that products of a dtype reach.

        Raises:
            KeyError: it is not known.
        """
        return self.flops[dtype] * self.efficiency


@dataclass(frozen=True)
class Cluster:
    """Hosts of some devices each.

    Attributes:
        device: of every rank.
        per_host: ranks on one host.
        inside: the link between two ranks of a host.
        between: what a rank has to ranks of other hosts, all ranks of a host at once.
    """

    device: Device
    per_host: int
    inside: Link
    between: Link

    def link(self, size: int, stride: int) -> Link:
        """What `size` ranks communicate over that are `stride` apart."""
        return self.inside if size * stride <= self.per_host else self.between


#: NVIDIA A100 (data sheet: 312 TFLOP/s of bfloat16 and 19.5 of float32, 2.0 TB/s, 80 GB).
A100 = Device("A100", {"bfloat16": 312e12, "float16": 312e12, "float32": 19.5e12}, 2.0e12, 80e9)
#: NVIDIA H100 SXM (data sheet: 989 TFLOP/s of bfloat16 and 67 of float32, 3.35 TB/s, 80 GB).
H100 = Device("H100", {"bfloat16": 989e12, "float16": 989e12, "float32": 67e12}, 3.35e12, 80e9)
#: Eight A100 a host: NVLink of 300 GB/s a direction, InfiniBand HDR of 25 GB/s a rank.
A100_HOSTS = Cluster(A100, 8, Link(5e-6, 240e9), Link(10e-6, 20e9))
#: Eight H100 a host: NVLink of 450 GB/s a direction, 400 Gb/s a rank between hosts.
H100_HOSTS = Cluster(H100, 8, Link(5e-6, 360e9), Link(10e-6, 40e9))


@dataclass(frozen=True)
class Layout:
    """How a step is laid out over ranks.

    Ranks are numbered with tensor-parallel ones next to each other, then data, then pipeline.

    Attributes:
        data: replicas, each with its own micro-batches.
        tensor: ranks that share every product (Megatron's form).
        pipeline: stages.
        micros: micro-batches of each replica in a step.
        schedule: one of `schedules.SCHEDULES`.
        chunks: pieces of the model on each stage (interleaved).
        shard: what data-parallel ranks share instead of each having it: "none", "optimizer" (its
            states), or "full" (`fully_shard`: parameters and gradients too).
        sequence: tensor-parallel ranks share the passes between products as well, by sequence.
        reductions: all-reduces over tensor ranks in a piece's forward, as many in its backward;
            two in a transformer's block.
        recompute: backward computes each piece's forward again, and only boundaries are saved.
        overlap: communication of gradients and parameters goes on beside computation.
        gradient: bytes of a gradient's number while it is reduced.
        states: bytes of optimizer states for a parameter: for Adam in mixed precision 12, with the
            parameter in float32.
    """

    data: int = 1
    tensor: int = 1
    pipeline: int = 1
    micros: int = 1
    schedule: str = "1f1b"
    chunks: int = 1
    shard: str = "none"
    sequence: bool = False
    reductions: int = 2
    recompute: bool = False
    overlap: bool = True
    gradient: int = 4
    states: int = 12

    def __post_init__(self) -> None:
        for name in ("data", "tensor", "pipeline", "micros", "chunks"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.shard not in SHARDS:
            raise ValueError(f"shard must be one of {', '.join(SHARDS)}, got {self.shard!r}")
        if self.schedule not in SCHEDULES:
            raise ValueError(
                f"schedule must be one of {', '.join(SCHEDULES)}, got {self.schedule!r}"
            )

    @property
    def ranks(self) -> int:
        """How many there are."""
        return self.data * self.tensor * self.pipeline


@dataclass
class Traffic:
    """What one form of communication amounts to, on one rank of the stage that has most of it.

    Attributes:
        count: collectives or messages in a step.
        nbytes: of their tensors.
        seconds: that they take, whether something is computed meanwhile or not.
    """

    count: int = 0
    nbytes: float = 0.0
    seconds: float = 0.0


@dataclass
class Estimate:
    """What a step takes.

    Attributes:
        seconds: of the whole step.
        flops: of the products of one micro-batch, forward and backward, without recomputing.
        memory: bytes on the rank with most: "parameters", "gradients", "optimizer",
            "activations".
        traffic: form -> what it amounts to: "gradients", "parameters", "tensor", "pipeline".
        trace: of the simulation.
        layout, cluster: what it is an estimate of.
    """

    seconds: float
    flops: float
    memory: dict[str, float]
    traffic: dict[str, Traffic]
    trace: Trace
    layout: Layout
    cluster: Cluster

    @property
    def bytes(self) -> float:
        """Memory of the rank with most."""
        return sum(self.memory.values())

    @property
    def fits(self) -> bool:
        """Whether a device has that memory."""
        return self.bytes <= self.cluster.device.memory

    @property
    def flops_per_rank(self) -> float:
        """Operations a second of each rank, of those that the model needs."""
        done = self.flops * self.layout.micros * self.layout.data
        return done / self.seconds / self.layout.ranks

    @property
    def utilisation(self) -> float:
        """That over what the data sheet says, for the widest used dtype ("MFU")."""
        return self.flops_per_rank / max(self.cluster.device.flops.values())

    @property
    def waiting(self) -> float:
        """The share of the step in which the first rank of a stage computes nothing; the mean."""
        stages = self.trace.computing
        return 1.0 - sum(stages) / len(stages) / self.seconds

    def __str__(self) -> str:
        """A few lines for people."""
        gb = ", ".join(f"{name} {n / 1e9:.1f}" for name, n in self.memory.items())
        lines = [
            f"{self.layout.ranks} ranks of {self.cluster.device.name}: {self.seconds:.3f} s a "
            f"step, {self.flops_per_rank / 1e12:.0f} TFLOP/s a rank "
            f"({100 * self.utilisation:.0f} %), {100 * self.waiting:.0f} % waiting",
            f"memory {self.bytes / 1e9:.1f} GB a rank ({gb})"
            + ("" if self.fits else f": more than the {self.cluster.device.memory / 1e9:.0f} GB"),
        ]
        for form, t in self.traffic.items():
            if t.count:
                lines.append(f"{form}: {t.count} x, {t.nbytes / 1e9:.2f} GB, {t.seconds:.3f} s")
        return "\n".join(lines)


class Plan:
    """A workload laid out on a cluster.

    Args:
        work: of one micro-batch on one rank, as `record_workload` finds it.
        cluster: where it would run.
        layout: how.

    Raises:
        ValueError: the layout has more places for pieces than there are pieces.

    Example:
        >>> from flambeau import device, nn, zeros
        >>> from flambeau.distributed.workload import record_workload
        >>> with device("meta"):
        ...     model = nn.Sequential(*(nn.Linear(4096, 4096) for _ in range(8))).bfloat16()
        >>> x = zeros(4096, 4096, device="meta").bfloat16()
        >>> work = record_workload(model, lambda: model(x).sum())
        >>> plan = Plan(work, A100_HOSTS, Layout(data=4, shard="full"))
        >>> plan.estimate().traffic["gradients"].count
        8
    """

    def __init__(self, work: Workload, cluster: Cluster, layout: Layout) -> None:
        self.work, self.cluster, self.layout = work, cluster, layout
        middle = list(work.pieces[1:-1])
        places = layout.pipeline * layout.chunks
        if places > max(len(middle), 1):
            raise ValueError(
                f"{layout.pipeline} stages of {layout.chunks} chunks need as many pieces, the "
                f"model has {len(middle)}"
            )
        cuts = [round(k * len(middle) / places) for k in range(places + 1)]
        self.groups = [middle[a:b] for a, b in itertools.pairwise(cuts)]
        self.groups[0] = [work.pieces[0], *self.groups[0]]
        self.groups[-1] = [*self.groups[-1], work.pieces[-1]]
        self.traffic: list[dict[str, Traffic]] = []
        self.table = schedule(layout.schedule, layout.pipeline, layout.micros, layout.chunks)
        self.programs = [self._stage(rank) for rank in range(layout.pipeline)]

    # -- what a rank does ------------------------------------------------------------------------

    @functools.cached_property
    def _rank(self) -> Any:
        """-> seconds of a cost on one rank."""
        device, layout = self.cluster.device, self.layout
        known: dict[int, float] = {}

        def seconds(cost: Any) -> float:
            if id(cost) not in known:
                known[id(cost)] = seconds_of(
                    cost, device.rate, device.bandwidth, device.start, layout.tensor,
                    layout.sequence,
                )  # fmt: skip
            return known[id(cost)]

        return seconds

    def _link(self, axis: str) -> Link:
        layout = self.layout
        stride = {"tensor": 1, "data": layout.tensor, "pipeline": layout.tensor * layout.data}
        return self.cluster.link(getattr(layout, axis), stride[axis])

    def _collective(self, axis: str, form: str, kind: str, nbytes: float, key: Any) -> Any:
        """The start of a collective, counted."""
        took = self._link(axis).collective(kind, nbytes, getattr(self.layout, axis))
        self._count(form, nbytes, took)
        return Collective(axis, took, key, form)

    def _count(self, form: str, nbytes: float, seconds: float) -> None:
        found = self.traffic[-1].setdefault(form, Traffic())
        found.count += 1
        found.nbytes += nbytes
        found.seconds += seconds

    def _stage(self, rank: int) -> list[Instruction]:
        """The instructions of a stage's ranks."""
        layout = self.layout
        self.traffic.append({})
        self.open: list[Any] = []  # collectives to wait for before the update
        self.reduced = 0
        found: list[Instruction] = []
        last = {a.chunk: k for k, a in enumerate(self.table[rank]) if a.kind in "BW"}
        for k, action in enumerate(self.table[rank]):
            found += self._do(rank, action, last.get(action.chunk) == k)
        found += [Wait(key) for key in self.open]
        found += self._update(rank)
        if not layout.overlap:
            found = _in_turn(found)
        return found

    def _do(self, rank: int, action: Action, final: bool) -> list[Instruction]:
        """One action of the schedule: receive, compute piece after piece, send."""
        layout = self.layout
        group = action.chunk * layout.pipeline + rank
        pieces = self.groups[group]
        found: list[Instruction] = []
        forward = action.kind == "F"
        came_from = group - 1 if forward else group + 1
        if action.kind != "W" and 0 <= came_from < len(self.groups):
            found.append(Receive((action.kind == "F", group, action.micro)))
        found += self._pass(action, group, pieces if forward else pieces[::-1], final)
        to = group + 1 if forward else group - 1
        if action.kind != "W" and 0 <= to < len(self.groups):
            source = pieces[-1] if forward else self.groups[group - 1][-1]
            nbytes = (
                source.boundary / layout.tensor
            )  # each rank sends its part, and gathers the others' inside
            took = self._link("pipeline").seconds(nbytes)
            if not layout.sequence:
                whole = nbytes * layout.tensor
                took += self._link("tensor").collective("all_gather", whole, layout.tensor)
            self._count("pipeline", nbytes, took)
            key = (forward, to, action.micro)
            found.append(Send(to % layout.pipeline, took, key, "pipeline"))
        return found

    def _pass(
        self, action: Action, group: int, pieces: list[Piece], final: bool
    ) -> list[Instruction]:
        """A forward or backward pass, piece by piece, with what the form communicates."""
        layout = self.layout
        full = layout.shard == "full" and layout.data > 1
        found: list[Instruction] = []
        for at, piece in enumerate(pieces):
            if full and action.kind != "W":  # the next piece's parameters come meanwhile
                ahead = pieces[at : at + 2] if at == 0 else pieces[at + 1 : at + 2]
                for k, other in enumerate(ahead, at if at == 0 else at + 1):
                    if other.weights:
                        found.append(self._gather(other, (action, group, k)))
                if piece.weights:
                    found.append(Wait((action, group, at)))
            label = f"{action.kind}{action.micro}"
            found.append(Compute(self._took(action.kind, piece), label))
            if action.kind != "W":
                found += self._tensor(action, group, at, piece)
            if piece.parameters and action.kind in "BW" and (final or full):
                found += self._reduce(piece)
        return found

    def _took(self, kind: str, piece: Piece) -> float:
        """Seconds of a piece."""
        forward = self._rank(piece.forward)
        if kind == "F":
            return float(forward)
        whole = self._rank(piece.backward)
        again = forward if self.layout.recompute and piece.boundary else 0.0
        return float({"B": whole + again, "I": whole / 2 + again, "W": whole / 2}[kind])

    def _tensor(self, action: Action, group: int, at: int, piece: Piece) -> list[Instruction]:
        """The sums over tensor-parallel ranks of a piece, in one."""
        layout = self.layout
        if layout.tensor == 1 or not piece.boundary or not piece.weights:
            return []
        times = layout.reductions * (2 if action.kind != "F" and layout.recompute else 1)
        took = times * self._link("tensor").collective("all_reduce", piece.boundary, layout.tensor)
        # by sequence each all_reduce is a reduce_scatter and an all_gather: as many bytes
        self._count("tensor", times * piece.boundary, took)
        key = ("tensor", action, group, at)
        return [Collective("tensor", took, key, "tensor"), Wait(key)]

    def _gather(self, piece: Piece, key: Any) -> Instruction:
        nbytes = piece.weights / self.layout.tensor
        made: Instruction = self._collective("data", "parameters", "all_gather", nbytes, key)
        return made

    def _reduce(self, piece: Piece) -> list[Instruction]:
        """The reduction of a piece's gradients over data-parallel ranks."""
        layout = self.layout
        if layout.data == 1:
            return []
        self.reduced += 1
        key = ("gradients", self.reduced)
        self.open.append(key)
        kind = "all_reduce" if layout.shard == "none" else "reduce_scatter"
        nbytes = piece.parameters * layout.gradient / layout.tensor
        return [self._collective("data", "gradients", kind, nbytes, key)]

    def _update(self, rank: int) -> list[Instruction]:
        """The optimizer's step: a pass over states, gradients and parameters."""
        layout = self.layout
        pieces = self._pieces(rank)
        parameters = sum(p.parameters for p in pieces) / layout.tensor
        weights = sum(p.weights for p in pieces) / layout.tensor
        share = 1 if layout.shard == "none" else layout.data
        moved = (parameters * (2 * layout.states + layout.gradient) + weights) / share
        found: list[Instruction] = [Compute(moved / self.cluster.device.bandwidth, "update")]
        if layout.shard == "optimizer" and layout.data > 1:
            gather = self._collective("data", "parameters", "all_gather", weights, "updated")
            found += [gather, Wait("updated")]
        return found

    def _pieces(self, rank: int) -> list[Piece]:
        stages = range(rank, len(self.groups), self.layout.pipeline)
        return [p for g in stages for p in self.groups[g]]

    # -- what comes out --------------------------------------------------------------------------

    def memory(self, rank: int) -> dict[str, float]:
        """Bytes on each rank of a stage: "parameters", "gradients", "optimizer", "activations"."""
        layout = self.layout
        pieces = self._pieces(rank)
        parameters = sum(p.parameters for p in pieces) / layout.tensor
        weights = sum(p.weights for p in pieces) / layout.tensor
        whole = layout.data if layout.shard == "full" else 1
        states = layout.data if layout.shard != "none" else 1
        gathered = max((p.weights for p in pieces), default=0) * 2 / layout.tensor
        alive = peak = 0
        for action in self.table[rank]:
            alive += {"F": 1, "B": -1, "W": -1, "I": 0}[action.kind]
            peak = max(peak, alive)
        here = max(layout.chunks, 1)
        if layout.recompute:
            kept = sum(p.boundary for p in pieces if p.boundary) / here
            extra = max((p.saved for p in pieces), default=0) / layout.tensor
        else:
            kept, extra = sum(p.saved for p in pieces) / here / layout.tensor, 0.0
        return {
            "parameters": weights / whole + (gathered if whole > 1 else 0.0),
            "gradients": parameters * layout.gradient / whole,
            "optimizer": parameters * layout.states / states,
            "activations": peak * kept + extra,
        }

    def estimate(self) -> Estimate:
        """The step with every rank as fast as its device: one rank a stage stands for all."""
        return self._found(simulate(self.programs, {"data": 1, "tensor": 1}))

    def simulate(
        self, *, jitter: float = 0.0, slow: Mapping[int, float] | None = None, seed: int = 0
    ) -> Estimate:
        """The step with every rank simulated, each with its own delays: see `simulate.simulate`."""
        sizes = {"data": self.layout.data, "tensor": self.layout.tensor}
        return self._found(simulate(self.programs, sizes, jitter=jitter, slow=slow, seed=seed))

    def _found(self, trace: Trace) -> Estimate:
        memories = [self.memory(rank) for rank in range(self.layout.pipeline)]
        traffic: dict[str, Traffic] = {}
        for stage in self.traffic:
            for form, t in stage.items():
                if t.seconds >= traffic.get(form, Traffic(seconds=-1.0)).seconds:
                    traffic[form] = t
        return Estimate(
            trace.seconds,
            self.work.flops,
            max(memories, key=lambda m: sum(m.values())),
            traffic,
            trace,
            self.layout,
            self.cluster,
        )


def _in_turn(instructions: list[Instruction]) -> list[Instruction]:
    """The same with every collective waited for at once."""
    found: list[Instruction] = []
    for step in instructions:
        if isinstance(step, Wait):
            continue
        found.append(step)
        if isinstance(step, Collective):
            found.append(Wait(step.key))
    return found


def calibrated(plan: Plan, flops_per_rank: float, counted: float | None = None) -> Device:
    """The plan's device with the efficiency at which the plan predicts a figure that was measured.

    Args:
        plan: of the step that was measured.
        flops_per_rank: operations a second a rank, as measured.
        counted: operations of a micro-batch that the figure counts; by default what `Workload`
            counts.

    Raises:
        ValueError: no efficiency up to 1 gives it.
    """
    device = plan.cluster.device
    layout = plan.layout
    work = (counted or plan.work.flops) * layout.micros * layout.data / layout.ranks
    low, high = 0.01, 1.0
    for _ in range(30):
        middle = math.sqrt(low * high)
        cluster = replace(plan.cluster, device=replace(device, efficiency=middle))
        reached = work / Plan(plan.work, cluster, layout).estimate().seconds
        low, high = (middle, high) if reached < flops_per_rank else (low, middle)
    if high >= 1.0:
        raise ValueError(f"{device.name} cannot reach {flops_per_rank:g} operations a second")
    return replace(device, efficiency=high)


__all__ = [
    "A100",
    "A100_HOSTS",
    "H100",
    "H100_HOSTS",
    "Cluster",
    "Device",
    "Estimate",
    "Layout",
    "Plan",
    "Traffic",
    "calibrated",
]
