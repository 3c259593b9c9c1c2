"""Event simulation of a training step on many ranks, with alpha-beta links.

Every rank has a clock for its computation and one for each mesh axis it communicates over. Ranks
at the same place of the pipeline run the same instructions, so a clock is an array with one
number for each of them and an instruction is a few operations on arrays: what 100,000 ranks do in a
step is simulated in seconds, each of them with its own delays.

An instruction is a computation, the start of a collective over a mesh axis, which begins when all
of its ranks have reached it, the wait for one, or a message along the pipeline. A collective of n
ranks over a link of latency alpha and bandwidth beta takes the time of the better of two well-known
algorithms: Thakur, Rabenseifner, Gropp, Optimization of Collective Communication Operations in
MPICH, International Journal of High Performance Computing Applications 19 (1), 2005.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Link:
    """What connects two ranks.

    Attributes:
        latency: alpha, seconds that a message takes however small it is.
        bandwidth: beta, bytes a second that one rank sends while it receives as much.
    """

    latency: float
    bandwidth: float

    def seconds(self, nbytes: float) -> float:
        """Of one message."""
        return self.latency + nbytes / self.bandwidth

    def collective(self, kind: str, nbytes: float, size: int) -> float:
        """Seconds of a collective.

        Args:
            kind: "all_reduce", "all_gather", "reduce_scatter", "all_to_all", "broadcast" or
                "reduce".
            nbytes: of the whole tensor: of an all_gather's result, of what a reduce_scatter or
                an all_to_all is given on one rank.
            size: ranks that take part.

        Raises:
            ValueError: no such collective.
        """
        if kind not in _KINDS:
            raise ValueError(f"collective must be one of {', '.join(_KINDS)}, got {kind!r}")
        if size <= 1 or not nbytes:
            return 0.0
        rounds = math.ceil(math.log2(size))
        moved = nbytes / self.bandwidth
        part = moved * (size - 1) / size
        if kind == "all_to_all":  # every pair by itself
            return (size - 1) * self.latency + part
        if kind in ("all_gather", "reduce_scatter"):  # doubling: log2(n) rounds of growing parts
            return rounds * self.latency + part
        # a tree carries the whole tensor each round; otherwise it is scattered and gathered
        tree = rounds * (self.latency + moved)
        return min(tree, 2 * (rounds * self.latency + part))


_KINDS = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "broadcast", "reduce")


@dataclass(frozen=True)
class Compute:
    """Time that a rank computes for."""

    seconds: float
    label: str = ""


@dataclass(frozen=True)
class Collective:
    """The start of a collective over a mesh axis; the rank goes on."""

    axis: str
    seconds: float
    key: Any
    label: str = ""


@dataclass(frozen=True)
class Wait:
    """The rank goes on when the collective `key` has ended."""

    key: Any


@dataclass(frozen=True)
class Send:
    """The start of a message to the rank with the same coordinates in stage `to`."""

    to: int
    seconds: float
    key: Any
    label: str = ""


@dataclass(frozen=True)
class Receive:
    """The rank goes on when the message `key` has come."""

    key: Any


Instruction = Compute | Collective | Wait | Send | Receive


@dataclass(frozen=True)
class Span:
    """Something that the first rank of a stage did.

    Attributes:
        stage: of the pipeline.
        stream: "compute", "wait", "send", or the mesh axis of a collective.
        label: what it was.
        start, end: seconds from the start of the step.
    """

    stage: int
    stream: str
    label: str
    start: float
    end: float


@dataclass
class Trace:
    """What a simulation found.

    Attributes:
        seconds: until the last rank is done.
        ends: per stage, seconds until each of its ranks is done; one dimension a mesh axis.
        computing: per stage, seconds that its slowest rank computes.
        waiting: per stage, seconds that its first rank waits, by what for: a mesh axis or
            "pipeline".
        spans: what the first rank of each stage did, in order of start.
        events: instructions times ranks.
    """

    seconds: float
    ends: list[Array]
    computing: list[float]
    waiting: list[dict[str, float]]
    spans: list[Span] = field(default_factory=list)
    events: int = 0


class _Stage:
    """The ranks of one stage: where they are in their instructions, and their clocks."""

    def __init__(self, number: int, program: Sequence[Instruction], sizes: Mapping[str, int]):
        self.number = number
        self.program = program
        self.axes = tuple(sizes)
        self.clock = np.zeros(tuple(sizes.values()))
        self.busy = np.zeros_like(self.clock)
        self.streams: dict[Any, Array] = {}
        self.ends: dict[Any, tuple[str, Array]] = {}
        self.waiting: dict[str, float] = {}
        self.at = 0

    def wait(self, what: str, until: Array) -> tuple[float, float]:
        """Set the clocks to no earlier than `until`; -> the first rank's clock before and after."""
        before = float(self.clock.flat[0])
        self.clock = np.maximum(self.clock, until)
        after = float(self.clock.flat[0])
        self.waiting[what] = self.waiting.get(what, 0.0) + after - before
        return before, after


def simulate(
    programs: Sequence[Sequence[Instruction]],
    sizes: Mapping[str, int] | None = None,
    *,
    jitter: float = 0.0,
    slow: Mapping[int, float] | None = None,
    seed: int = 0,
    spans: bool = True,
) -> Trace:
    """Let every rank run its instructions.

    Args:
        programs: per stage of the pipeline, what each of its ranks does.
        sizes: mesh axis -> ranks along it, for the axes inside a stage; none is one rank a stage.
        jitter: computations take up to this share longer, each on each rank by chance: the delay
            is `jitter` times an exponential number of mean 1.
        slow: rank -> factor by which all of its computations take longer. Ranks are numbered
            row-major over (stage, axes in order).
        seed: of the chance.
        spans: note what first ranks do, for pictures.

    Raises:
        RuntimeError: all ranks wait for something that no rank will start.

    Example:
        >>> step = [Compute(1.0), Collective("data", 0.5, "g"), Compute(0.2), Wait("g")]
        >>> simulate([step], {"data": 100_000}).seconds
        1.5
    """
    random = np.random.default_rng(seed)
    sizes = dict(sizes or {"data": 1})
    stages = [_Stage(k, program, sizes) for k, program in enumerate(programs)]
    count = stages[0].clock.size if stages else 0
    factors: list[Any] = [1.0] * len(stages)
    for rank, factor in (slow or {}).items():
        which, within = divmod(rank, count)
        if isinstance(factors[which], float):
            factors[which] = np.ones_like(stages[which].clock)
        factors[which].flat[within] = factor
    mail: dict[tuple[int, Any], Array] = {}
    found: list[Span] = []
    going = True
    while going:
        going = False
        for stage in stages:
            while stage.at < len(stage.program):
                step = stage.program[stage.at]
                if isinstance(step, Receive) and (stage.number, step.key) not in mail:
                    break
                span = _run(stage, step, factors[stage.number], jitter, random, mail)
                if spans and span is not None and span.end > span.start:
                    found.append(span)
                stage.at += 1
                going = True
    stuck = [s.number for s in stages if s.at < len(s.program)]
    if stuck:
        waits = stages[stuck[0]].program[stages[stuck[0]].at]
        raise RuntimeError(
            f"stages {stuck} wait for messages that nobody sends; stage {stuck[0]} is at {waits}"
        )
    return Trace(
        max((float(s.clock.max()) for s in stages), default=0.0),
        [s.clock for s in stages],
        [float(s.busy.max()) for s in stages],
        [s.waiting for s in stages],
        sorted(found, key=lambda s: (s.start, s.stage)),
        sum(len(s.program) for s in stages) * count,
    )


def _run(
    stage: _Stage,
    step: Instruction,
    factor: Any,
    jitter: float,
    random: np.random.Generator,
    mail: dict[tuple[int, Any], Array],
) -> Span | None:
    """One instruction on all ranks of a stage; -> what its first rank did."""
    if isinstance(step, Compute):
        took = np.asarray(step.seconds * factor)
        if jitter:
            took = took * (1.0 + jitter * random.exponential(size=stage.clock.shape))
        start = float(stage.clock.flat[0])
        stage.clock = stage.clock + took
        stage.busy = stage.busy + took
        return Span(stage.number, "compute", step.label, start, float(stage.clock.flat[0]))
    if isinstance(step, Collective):
        dim = stage.axes.index(step.axis)
        free = stage.streams.get(step.axis)
        ready = stage.clock if free is None else np.maximum(stage.clock, free)
        begin = ready.max(axis=dim, keepdims=True)
        end = np.broadcast_to(begin + step.seconds, stage.clock.shape)
        stage.streams[step.axis] = end
        stage.ends[step.key] = step.axis, end
        return Span(stage.number, step.axis, step.label, float(begin.flat[0]), float(end.flat[0]))
    if isinstance(step, Wait):
        axis, until = stage.ends.pop(step.key)
        return Span(stage.number, "wait", axis, *stage.wait(axis, until))
    if isinstance(step, Receive):
        return Span(
            stage.number,
            "wait",
            "pipeline",
            *stage.wait("pipeline", mail.pop((stage.number, step.key))),
        )
    line = ("send", step.to)
    free = stage.streams.get(line)
    begin = stage.clock if free is None else np.maximum(stage.clock, free)
    end = begin + step.seconds
    stage.streams[line] = mail[step.to, step.key] = end
    return Span(stage.number, "send", step.label, float(begin.flat[0]), float(end.flat[0]))


__all__ = [
    "Collective",
    "Compute",
    "Instruction",
    "Link",
    "Receive",
    "Send",
    "Span",
    "Trace",
    "Wait",
    "simulate",
]
