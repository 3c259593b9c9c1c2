"""Pipeline schedules as tables: which micro-batch goes through which piece of a model, and when.

A model is cut into `stages * chunks` pieces. Piece `chunk * stages + rank` lies on `rank`, but for
the schedules in the form of a V: there a rank has one piece on the way there and one on the way
back (`placement`). A schedule is what each rank does, in order; it says nothing of time or of
tensors, so that what runs a pipeline and what simulates one read the same table.

References:
    Huang et al., GPipe (arXiv:1811.06965).
    Narayanan et al., Memory-Efficient Pipeline-Parallel DNN Training (arXiv:2006.09503): 1F1B.
    Narayanan et al., Efficient Large-Scale Language Model Training on GPU Clusters Using
    Megatron-LM (arXiv:2104.04473), section 2.2: interleaved.
    Lamy-Poirier, Breadth-First Pipeline Parallelism (arXiv:2211.05953): looped BFS.
    Qi et al., Zero Bubble Pipeline Parallelism (arXiv:2401.10241): ZB-H1 in section 2, ZB-V in 6.
    DeepSeek-AI, DeepSeek-V3 (arXiv:2412.19437), section 3.2: DualPipe, here as a V.
"""

from __future__ import annotations

import csv
import re
from collections import Counter, deque
from dataclasses import dataclass
from pathlib import Path

#: Names of the schedules that `schedule` knows, with pieces in a loop and in a V.
SCHEDULES = ("gpipe", "1f1b", "interleaved", "zero-bubble", "looped-bfs")
V_SCHEDULES = ("zbv", "dualpipev")


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that a rank does.

    Attributes:
        kind: "F" forward; "B" the whole backward; "I" the gradients of the inputs alone, and "W"
            those of the weights, which an "I" has left for later.
        chunk: which of the rank's pieces, from the front of the model.
        micro: which micro-batch.
    """

    kind: str
    chunk: int
    micro: int

    def __repr__(self) -> str:
        return f"{self.kind}{self.micro}" + (f".{self.chunk}" if self.chunk else "")


def placement(name: str, stages: int, chunks: int) -> list[tuple[int, ...]]:
    """Which pieces of the model lie on each rank, by chunk.

    Example:
        >>> placement("interleaved", 2, 2), placement("zbv", 2, 2)
        ([(0, 2), (1, 3)], [(0, 3), (1, 2)])
    """
    if name in V_SCHEDULES:
        return [(rank, 2 * stages - 1 - rank) for rank in range(stages)]
    return [tuple(rank + stages * chunk for chunk in range(chunks)) for rank in range(stages)]


def schedule(name: str, stages: int, micros: int, chunks: int = 1) -> list[list[Action]]:
    """What each rank does, in order.

    Args:
        name: one of SCHEDULES or V_SCHEDULES.
        stages: ranks of the pipeline.
        micros: micro-batches of a step.
        chunks: pieces of the model on each rank; one for "gpipe" and "1f1b", two for those in a V.

    Raises:
        ValueError: no such schedule, or sizes that it cannot have.

    Example:
        >>> schedule("1f1b", 2, 3)[0]
        [F0, F1, B0, F2, B1, B2]
    """
    known = (*SCHEDULES, *V_SCHEDULES)
    if name not in known:
        raise ValueError(f"schedule must be one of {', '.join(known)}, got {name!r}")
    if stages < 1 or micros < 1 or chunks < 1:
        raise ValueError(
            f"stages, micro-batches and chunks must be at least 1, got {stages}, {micros}, {chunks}"
        )
    if chunks > 1 and name in ("gpipe", "1f1b"):
        raise ValueError(f"the {name} schedule has one chunk a rank, got {chunks}")
    if chunks != 2 and name in V_SCHEDULES:
        raise ValueError(f"the {name} schedule has two chunks a rank, got {chunks}")
    rounds = max(1, micros // stages)
    if chunks > 1 and name in ("interleaved", "zero-bubble") and micros % rounds:
        raise ValueError(
            f"the {name} schedule takes a multiple of the number of rounds ({rounds}) of "
            f"micro-batches, got {micros}"
        )
    if name == "dualpipev" and micros < 2 * stages:
        raise ValueError(
            f"the dualpipev schedule takes at least {2 * stages} micro-batches for {stages} ranks, "
            f"got {micros}"
        )
    if name == "looped-bfs":
        return [_breadth_first(micros, chunks)] * stages
    if name == "zbv":
        return [_zero_bubble_v(stages, micros, rank) for rank in range(stages)]
    if name == "dualpipev":
        return [_dual_pipe_v(stages, micros, rank) for rank in range(stages)]
    return [_alternating(name, stages, micros, chunks, rank) for rank in range(stages)]


def _alternating(name: str, stages: int, micros: int, chunks: int, rank: int) -> list[Action]:
    """Some forwards, then one backward after each forward, then the backwards that are left.

    With "zero-bubble" the backward is in two halves. The gradients of the weights lie `rank`
    backwards behind those of the inputs, so that they fill what would be waiting at the end; no
    rank has more micro-batches in memory than the first has with 1F1B.
    """
    total = micros * chunks
    halves = name == "zero-bubble"
    turn = micros // max(1, micros // stages) if chunks > 1 else micros
    if name == "gpipe":
        ahead = total
    else:
        twice = chunks > 1 and not halves
        ahead = (stages - rank - 1) * (1 + twice) + (chunks - 1) * turn
    ahead = min(ahead, total)

    def place(number: int) -> tuple[int, int]:
        """Chunk and micro-batch of a forward; chunks take turns of some micro-batches."""
        before, within = divmod(number, turn * chunks)
        return within // turn, before * turn + within % turn

    def backward(number: int, kind: str) -> Action:
        chunk, micro = place(number)
        return Action(kind, chunks - 1 - chunk, micro)

    actions = [Action("F", *place(k)) for k in range(ahead)]
    for k in range(total):
        if ahead + k < total:
            actions.append(Action("F", *place(ahead + k)))
        actions.append(backward(k, "I" if halves else "B"))
        if halves and k >= rank:
            actions.append(backward(k - rank, "W"))
    if halves:
        actions += [backward(k, "W") for k in range(max(total - rank, 0), total)]
    return actions


def _breadth_first(micros: int, chunks: int) -> list[Action]:
    """All micro-batches through one piece after the other, and back the same way."""
    actions = [Action("F", chunk, micro) for chunk in range(chunks) for micro in range(micros)]
    return actions + [Action("B", a.chunk, a.micro) for a in reversed(actions)]


class _Counting:
    """Writes a table: each action takes the next micro-batch of its kind and chunk."""

    def __init__(self) -> None:
        self.actions: list[Action] = []
        self.counts: Counter[tuple[str, int]] = Counter()
        self.left: deque[Action] = deque()  # gradients of weights

    def add(self, kind: str, chunk: int) -> None:
        """An action; "B" counts as "I"."""
        key = ("I" if kind == "B" else kind, chunk)
        action = Action(kind, chunk, self.counts[key])
        self.counts[key] += 1
        self.actions.append(action)
        if kind == "I":
            self.left.append(Action("W", chunk, action.micro))

    def weights(self) -> None:
        """The gradients of the weights that have waited longest, if any."""
        if self.left:
            self.actions.append(self.left.popleft())


def _zero_bubble_v(stages: int, micros: int, rank: int) -> list[Action]:
    """ZB-V: a piece on the way there and one on the way back, backwards in two halves."""
    count = max(2 * stages - 1, micros)
    table = _Counting()
    for _ in range(2 * (stages - rank) - 1):
        table.add("F", 0)
    for _ in range(rank):
        table.add("F", 1)
        table.add("F", 0)
    for _ in range(stages - rank):
        table.add("F", 1)
        table.add("I", 1)
        table.weights()
    while table.counts["F", 1] < table.counts["F", 0] or table.counts["F", 0] < count:
        if table.counts["F", 0] < count:
            table.add("F", 0)
        table.add("I", 0)
        table.weights()
        table.add("F", 1)
        table.add("I", 1)
        table.weights()
    for _ in range(rank):
        table.add("I", 0)
        table.add("I", 1)
    late = deque(action for action in table.left if action.chunk == 0)
    table.left = deque(action for action in table.left if action.chunk == 1)
    for _ in range(stages - rank):
        table.add("I", 0)
        late.append(table.left.pop())
        table.actions.append(late.popleft())
    found = [*table.actions, *table.left, *late]
    return [action for action in found if action.micro < micros]


def _dual_pipe_v(stages: int, micros: int, rank: int) -> list[Action]:
    """DualPipe as a V: forwards of one piece beside backwards of the other."""
    table = _Counting()
    behind = stages - rank - 1
    for _ in range(2 * behind):
        table.add("F", 0)
    for _ in range(rank + 1):
        table.add("F", 0)
        table.add("F", 1)
    for _ in range(behind):
        table.add("I", 1)
        table.weights()
        table.add("F", 1)
    for _ in range(micros - 2 * stages + rank + 1):
        for chunk in (0, 1):
            table.add("F", chunk)
            table.add("B", 1 - chunk)
    for _ in range(behind):
        table.add("B", 1)
        table.add("F", 1)
        table.add("B", 0)
    kind, half = "B", (rank + 1) // 2
    for k in range(rank + 1):
        kind = "I" if k == half and rank % 2 else kind
        table.add(kind, 1)
        kind = "I" if k == half and not rank % 2 else kind
        table.add(kind, 0)
    for _ in range(behind):
        table.weights()
        table.add(kind, 0)
    for _ in range(rank + 1):
        table.weights()
    return table.actions


# -- tables in files -------------------------------------------------------------------------------

_CELL = re.compile(r"(\d+)(F|I|B|W|UNSHARD|RESHARD|REDUCE_GRAD|SEND_F|RECV_F|SEND_B|RECV_B)(\d*)")


def read_csv(filename: str | Path) -> tuple[list[list[Action]], list[tuple[int, ...]]]:
    """A table that torch wrote: a line for each rank, of cells such as 2F0 (stage, kind,
    micro-batch); empty cells wait, and messages follow from the order.

    Returns:
        The table, and which pieces lie on each rank.

    Raises:
        RuntimeError: a cell is none.
    """
    with open(filename, newline="") as file:
        rows = [[part for cell in row for part in _parts(cell)] for row in csv.reader(file)]
    table, places = [], []
    for row in rows:
        found = []
        for cell in row:
            match = _CELL.fullmatch(cell)
            if match is None:
                raise RuntimeError(
                    f"Invalid action string: {cell}, should be formatted as "
                    "[stage][action type][(microbatch)] e.g. 2F0"
                )
            if match[2] in ("F", "I", "B", "W"):
                found.append((int(match[1]), match[2], int(match[3])))
        pieces = tuple(sorted({stage for stage, _, _ in found}))
        places.append(pieces)
        table.append([Action(kind, pieces.index(stage), micro) for stage, kind, micro in found])
    return table, places


def _parts(cell: str) -> list[str]:
    """The actions of a cell: "(0F1;3B0)OVERLAP_F_B" has two."""
    inner = re.fullmatch(r"\((.*)\)OVERLAP_F_B", cell.strip())
    parts = inner[1].split(";") if inner is not None else [cell]
    return [part.strip() for part in parts if part.strip()]


def write_csv(
    filename: str | Path, table: list[list[Action]], places: list[tuple[int, ...]]
) -> None:
    """Write a table as `read_csv` reads it."""
    with open(filename, "w", newline="") as file:
        csv.writer(file).writerows(
            [f"{pieces[a.chunk]}{a.kind}{a.micro}" for a in actions]
            for actions, pieces in zip(table, places, strict=True)
        )


__all__ = [
    "SCHEDULES",
    "V_SCHEDULES",
    "Action",
    "placement",
    "read_csv",
    "schedule",
    "write_csv",
]
