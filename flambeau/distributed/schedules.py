"""Pipeline schedules as tables: which micro-batch goes through which piece of a model, and when.

A model is cut into `stages * chunks` pieces; piece `chunk * stages + rank` lies on `rank`. A
schedule is what each rank does, in order; it says nothing of time or of tensors, so that what runs
a pipeline and what simulates one read the same table.

References:
    Huang et al., GPipe (arXiv:1811.06965).
    Narayanan et al., Memory-Efficient Pipeline-Parallel DNN Training (arXiv:2006.09503): 1F1B.
    Narayanan et al., Efficient Large-Scale Language Model Training on GPU Clusters Using
    Megatron-LM (arXiv:2104.04473), section 2.2: interleaved.
    Qi et al., Zero Bubble Pipeline Parallelism (arXiv:2401.10241), section 2: ZB-H1.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Names of the schedules that `schedule` knows.
SCHEDULES = ("gpipe", "1f1b", "interleaved", "zero-bubble")


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


def schedule(name: str, stages: int, micros: int, chunks: int = 1) -> list[list[Action]]:
    """What each rank does, in order.

    Args:
        name: one of SCHEDULES.
        stages: ranks of the pipeline.
        micros: micro-batches of a step.
        chunks: pieces of the model on each rank; more than one for "interleaved" alone.

    Raises:
        ValueError: no such schedule, or sizes that it cannot have.

    Example:
        >>> schedule("1f1b", 2, 3)[0]
        [F0, F1, B0, F2, B1, B2]
    """
    if name not in SCHEDULES:
        raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, got {name!r}")
    if stages < 1 or micros < 1 or chunks < 1:
        raise ValueError(
            f"stages, micro-batches and chunks must be at least 1, got {stages}, {micros}, {chunks}"
        )
    if chunks > 1 and name != "interleaved":
        raise ValueError(f"only the interleaved schedule has several chunks, got {chunks}")
    if name == "interleaved" and micros % stages:
        raise ValueError(
            f"the interleaved schedule takes a multiple of {stages} micro-batches, got {micros}"
        )
    if name == "zero-bubble":
        return [_zero_bubble(stages, micros, rank) for rank in range(stages)]
    return [_alternating(name, stages, micros, chunks, rank) for rank in range(stages)]


def _alternating(name: str, stages: int, micros: int, chunks: int, rank: int) -> list[Action]:
    """Some forwards, then one backward after each forward, then the backwards that are left."""
    total = micros * chunks
    if name == "gpipe":
        ahead = total
    elif chunks == 1:
        ahead = stages - rank - 1
    else:
        ahead = (stages - rank - 1) * 2 + (chunks - 1) * stages
    ahead = min(ahead, total)

    def place(number: int) -> tuple[int, int]:
        """Chunk and micro-batch of a forward; chunks take turns of `stages` micro-batches."""
        if chunks == 1:
            return 0, number
        turn, within = divmod(number, stages * chunks)
        return within // stages, turn * stages + within % stages

    def forward(number: int) -> Action:
        return Action("F", *place(number))

    def backward(number: int) -> Action:
        chunk, micro = place(number)
        return Action("B", chunks - 1 - chunk, micro)

    actions = [forward(k) for k in range(ahead)]
    for k in range(total - ahead):
        actions += [forward(ahead + k), backward(k)]
    return actions + [backward(k) for k in range(total - ahead, total)]


def _zero_bubble(stages: int, micros: int, rank: int) -> list[Action]:
    """ZB-H1: 1F1B with the backward in two halves. The gradients of the weights lie `rank`
    micro-batches behind those of the inputs, so that they fill what would be waiting at the end;
    no rank has more micro-batches in memory than the first has with 1F1B."""
    actions = [Action("F", 0, k) for k in range(min(stages - rank, micros))]
    for k in range(micros):
        actions.append(Action("I", 0, k))
        if k >= rank:
            actions.append(Action("W", 0, k - rank))
        if k + stages - rank < micros:
            actions.append(Action("F", 0, k + stages - rank))
    return actions + [Action("W", 0, k) for k in range(max(micros - rank, 0), micros)]


__all__ = ["SCHEDULES", "Action", "schedule"]
