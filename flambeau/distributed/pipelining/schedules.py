"""Pipeline parallelism: each rank has some pieces of a model (`torch.distributed.pipelining`).

A `PipelineStage` is one piece; a schedule runs micro-batches through all of them, forwards and
backwards in the order of a table (`schedules.py`), and adds up the gradients of the parameters.
Results and their gradients travel as messages (`rows.send_to`, `rows.receive_from`), each of which
is under way until it is read.

Note [Shapes of stages]
Before the first step each stage is recorded once on zeros of the shapes that come to it, in
evaluation mode, and the shapes of what it returns are told to the next. Nothing of it is executed,
since nobody asks for the values.

Note [Gradients of weights later]
The zero-bubble schedule takes the gradients of a piece's inputs first ("I") and those of its
weights when there is nothing else to do ("W"): the same backward pass, cut in two by `grad` over
the inputs and over the weights. What both need is computed twice, unless one program has both: what
is recorded twice and is the same is computed once.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import flambeau
from flambeau import pytree
from flambeau.distributed.groups import group_of
from flambeau.distributed.schedules import Action, schedule
from flambeau.nn.module import Module
from flambeau.ops import collective as rows
from flambeau.tensor import Tensor


class PipelineStage:
    """One piece of a model, on the rank that runs it.

    Args:
        submodule: the piece; takes what the piece before it returns, a tensor or a tuple of them.
        stage_index: which piece, from the front.
        num_stages: how many there are, a multiple of the ranks; piece k is on rank k % ranks.
        device: accepted.
        group: None takes the default group.

    Raises:
        ValueError: the piece belongs to another rank.
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
        ranks = self.group.size()
        if num_stages % ranks or stage_index % ranks != self.group.rank():
            raise ValueError(
                f"stage {stage_index} of {num_stages} is on rank {stage_index % ranks} of {ranks}, "
                f"not on rank {self.group.rank()}; the ranks have equally many stages"
            )
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

    def peer(self, step: int) -> int:
        """The rank of the piece that far behind."""
        return (self.stage_index + step) % self.group.size()

    def parameters(self) -> list[Tensor]:
        """Those of the piece that are trained."""
        return [p for p in self.submod.parameters() if p.requires_grad]


def _listed(value: Any) -> list[Tensor]:
    return list(value) if isinstance(value, (tuple, list)) else [value]


class _Schedule:
    """Runs micro-batches through stages.

    Args:
        stages: of this rank, from the front of the model.
        n_microbatches: of a step.
        loss_fn: (result, target) -> the loss of a micro-batch; None to run forward alone.
        scale_grads: divide gradients by the number of micro-batches, so that they are those of the
            mean loss.
    """

    name = ""

    def __init__(
        self,
        stages: Any,
        n_microbatches: int,
        loss_fn: Callable[[Any, Any], Tensor] | None = None,
        args_chunk_spec: Any = None,
        kwargs_chunk_spec: Any = None,
        output_merge_spec: Any = None,
        scale_grads: bool = True,
        **ignored: Any,
    ) -> None:
        self.stages: list[PipelineStage] = list(stages) if isinstance(stages, list) else [stages]
        first = self.stages[0]
        self.group = first.group
        self.micros = n_microbatches
        self.loss_fn = loss_fn
        self.scale_grads = scale_grads
        self.table = schedule(
            self.name, self.group.size(), n_microbatches, first.num_stages // self.group.size()
        )[self.group.rank()]
        if [s.stage_index // self.group.size() for s in self.stages] != list(
            range(len(self.stages))
        ):
            raise ValueError(f"{self.name}: the stages of a rank are given from the front")

    # -- a step ----------------------------------------------------------------------------------

    def step(
        self,
        *args: Any,
        target: Any = None,
        losses: list[Tensor] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Run a batch forward, and backward where there is a loss.

        Args:
            args: the model's inputs, on the rank of the first stage; cut along dimension 0.
            target: of `loss_fn`, on the rank of the last stage; cut likewise.
            losses: a list that the micro-batches' losses are put in, there.
            kwargs: given to this rank's stages with every micro-batch.

        Returns:
            The whole result on the rank of the last stage, None elsewhere.
        """
        inputs = self._cut(args)
        targets = self._cut((target,)) if target is not None else None
        self._learn_shapes(inputs, kwargs)
        results: dict[int, Any] = {}
        found: dict[int, Tensor] = {}
        self._open: list[Tensor] = []  # zeros that stand for messages
        for action in self.table:
            stage = self.stages[action.chunk]
            if action.kind == "F":
                self._forward(stage, action, inputs, targets, kwargs, results, found)
            elif self.loss_fn is not None:
                self._backward(stage, action)
            else:
                stage.kept.pop(action.micro, None)
        if self.scale_grads and self.loss_fn is not None:
            self._scale()
        if losses is not None:
            losses.extend(found[k] for k in sorted(found))
        if not results:
            return None
        return pytree.tree_map(
            lambda *parts: flambeau.cat(parts), *(results[k] for k in sorted(results))
        )

    def _cut(self, values: tuple[Any, ...]) -> list[tuple[Any, ...]] | None:
        """A batch as micro-batches."""
        if not values or values[0] is None:
            return None
        size = values[0].shape[0]
        if size % self.micros:
            raise ValueError(
                f"a batch of {size} cannot be cut into {self.micros} equal micro-batches"
            )
        return list(zip(*(v.chunk(self.micros) for v in values), strict=True))

    def _forward(
        self,
        stage: PipelineStage,
        action: Action,
        inputs: Any,
        targets: Any,
        kwargs: dict[str, Any],
        results: dict[int, Any],
        losses: dict[int, Tensor],
    ) -> None:
        micro = action.micro
        trains = self.loss_fn is not None
        if stage.is_first:
            if inputs is None:
                raise ValueError("the rank of the first stage is given the inputs")
            given = list(inputs[micro])
        else:
            given = self._received(stage, -1, stage.shapes, self._tag(stage, micro, True))
            for t in given:
                t.requires_grad_(trains and t.is_floating_point())
        with flambeau.set_grad_enabled(trains):
            out = stage.submod(*given, **kwargs)
            if stage.is_last:
                results[micro] = pytree.tree_map(lambda t: t.detach(), out)
                if trains:
                    assert self.loss_fn is not None
                    if targets is None:
                        raise ValueError("the rank of the last stage is given the target")
                    out = self.loss_fn(out, targets[micro][0])
                    losses[micro] = out.detach()
            else:
                self._send(stage, 1, _listed(out), self._tag(stage, micro, True, 1))
        if trains:
            stage.kept[micro] = given, _listed(out)

    def _backward(self, stage: PipelineStage, action: Action) -> None:
        micro = action.micro
        if action.kind == "W":
            self._weights(stage, *stage.left.pop(micro))
            return
        given, outs = stage.kept.pop(micro)
        grads: Any = None
        if not stage.is_last:
            shapes = [(tuple(t.shape), t.dtype) for t in outs]
            grads = self._received(stage, 1, shapes, self._tag(stage, micro, False))
            pairs = [(o, g) for o, g in zip(outs, grads, strict=True) if o.requires_grad]
            outs, grads = [o for o, _ in pairs], [g for _, g in pairs]
        wanted = [] if stage.is_first else [t for t in given if t.requires_grad]
        if action.kind == "B":
            flambeau.autograd.backward(outs, grads)
            sent = [t.grad for t in wanted]
        else:  # Note [Gradients of weights later]
            sent = list(
                flambeau.autograd.grad(outs, wanted, grads, retain_graph=True, allow_unused=True)
                if wanted
                else []
            )
            stage.left[micro] = outs, grads
        if wanted:
            zeros = flambeau.zeros_like
            sent = [zeros(t) if g is None else g for t, g in zip(wanted, sent, strict=True)]
            self._send(stage, -1, sent, self._tag(stage, micro, False, -1))

    def _weights(self, stage: PipelineStage, outs: list[Tensor], grads: Any) -> None:
        parameters = stage.parameters()
        found = flambeau.autograd.grad(outs, parameters, grads, allow_unused=True)
        with flambeau.no_grad():
            for p, g in zip(parameters, found, strict=True):
                if g is not None:
                    p.grad = g if p.grad is None else p.grad + g

    def _scale(self) -> None:
        with flambeau.no_grad():
            for stage in self.stages:
                for p in stage.parameters():
                    if p.grad is not None:
                        p.grad.div_(self.micros)

    # -- messages --------------------------------------------------------------------------------

    def _tag(self, stage: PipelineStage, micro: int, forward: bool, step: int = 0) -> int:
        """A number of the message to or from a stage."""
        at = stage.stage_index + step
        return (micro * stage.num_stages + at) * 2 + int(forward)

    def _send(self, stage: PipelineStage, step: int, values: list[Tensor], tag: int) -> None:
        peer = stage.peer(step)
        with flambeau.no_grad():
            for k, value in enumerate(values):
                whole = value.detach().contiguous()
                rows.send_to(whole, self.group, peer, tag * 16 + k)

    def _received(self, stage: PipelineStage, step: int, shapes: Any, tag: int) -> list[Tensor]:
        peer = stage.peer(step)
        with flambeau.no_grad():
            return [
                rows.receive_from(
                    flambeau.zeros(shape, dtype=dtype), self.group, peer, tag * 16 + k
                )
                for k, (shape, dtype) in enumerate(shapes)
            ]

    def _learn_shapes(self, inputs: Any, kwargs: dict[str, Any]) -> None:
        """Note [Shapes of stages]."""
        if all(s.shapes is not None for s in self.stages):
            return
        count = self.stages[0].num_stages
        mine = {s.stage_index: s for s in self.stages}
        shapes: Any = None
        if inputs is not None:
            shapes = [(tuple(t.shape), t.dtype) for t in inputs[0]]
        for index in range(count):
            stage = mine.get(index)
            following: Any = None
            if stage is not None:
                stage.shapes = shapes
                following = self._result_of(stage, shapes, kwargs)
            told = self.group.exchange(pickle.dumps(following))
            shapes = pickle.loads(told[index % self.group.size()])

    def _result_of(self, stage: PipelineStage, shapes: Any, kwargs: dict[str, Any]) -> Any:
        """Shapes and dtypes of a stage's results; nothing of it is executed or remembered."""
        training = [m for m in stage.submod.modules() if m.training]
        stage.submod.eval()  # so that no statistics are kept of it
        with flambeau.no_grad():
            found = stage.submod(*(flambeau.zeros(s, dtype=d) for s, d in shapes), **kwargs)
        for module in training:
            module.training = True
        return [(tuple(t.shape), t.dtype) for t in _listed(found)]


class ScheduleGPipe(_Schedule):
    """All forwards, then all backwards."""

    name = "gpipe"


class Schedule1F1B(_Schedule):
    """A backward after each forward, as soon as the first is there."""

    name = "1f1b"


class ScheduleInterleaved1F1B(_Schedule):
    """1F1B with several stages a rank, which shortens the waiting by as many times."""

    name = "interleaved"


class ScheduleInterleavedZeroBubble(_Schedule):
    """1F1B with the gradients of weights put off until a rank would wait (ZB-H1)."""

    name = "zero-bubble"


def get_schedule_class(schedule_name: str) -> type[_Schedule]:
    """The class of a schedule, by torch's name for it.

    Raises:
        ValueError: there is none.
    """
    known = {
        cls.__name__.removeprefix("Schedule").lower(): cls
        for cls in (
            *(ScheduleGPipe, Schedule1F1B, ScheduleInterleaved1F1B),
            ScheduleInterleavedZeroBubble,
        )
    }
    found = known.get(schedule_name.lower())
    if found is None:
        raise ValueError(f"Unknown schedule name {schedule_name!r}; known: {', '.join(known)}")
    return found


__all__ = [
    "PipelineStage",
    "Schedule1F1B",
    "ScheduleGPipe",
    "ScheduleInterleaved1F1B",
    "ScheduleInterleavedZeroBubble",
    "get_schedule_class",
]
