"""Pieces of a model, each on the rank that runs it."""

from __future__ import annotations

from typing import Any

from flambeau.distributed.groups import group_of
from flambeau.nn.module import Module
from flambeau.tensor import Tensor


class PipelineStage:
    """One piece of a model, on the rank that runs it.

    Args:
        submodule: the piece; takes what the piece before it returns, a tensor or a tuple of them.
        stage_index: which piece, from the front.
        num_stages: how many there are; which rank has which is the schedule's to say.
        device: accepted.
        input_args, output_args: accepted; shapes are found out before the first step.
        group: None takes the default group.

    Raises:
        ValueError: there is no such piece.
    """

    def __init__(
        self,
        submodule: Module,
        stage_index: int,
        num_stages: int,
        device: Any = None,
        input_args: Any = None,
        output_args: Any = None,
        group: Any = None,
        dw_builder: Any = None,
    ) -> None:
        self.submod = submodule
        self.stage_index = stage_index
        self.num_stages = num_stages
        self.group = group_of(group)
        if not 0 <= stage_index < num_stages:
            raise ValueError(f"Stage index {stage_index} is out of range of {num_stages}")
        #: micro-batch -> (inputs, result or loss), until its backward pass
        self.kept: dict[int, tuple[list[Tensor], list[Tensor]]] = {}
        #: micro-batch -> (results, their gradients), until the gradients of its weights are taken
        self.left: dict[int, tuple[list[Tensor], Any]] = {}
        self.shapes: list[tuple[tuple[int, ...], Any]] | None = None  # of what comes in

    @property
    def is_first(self) -> bool:
        """Whether the model's inputs go to it."""
        return self.stage_index == 0

    @property
    def is_last(self) -> bool:
        """Whether the model's results come from it."""
        return self.stage_index == self.num_stages - 1

    def parameters(self) -> list[Tensor]:
        """Those of the piece that are trained."""
        return [p for p in self.submod.parameters() if p.requires_grad]


__all__ = ["PipelineStage"]
