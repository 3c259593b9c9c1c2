"""Schedules: micro-batches through all stages of a model, forwards and backwards.

The order is a table's (`distributed/schedules.py`); gradients of the parameters are added up.
Results and their gradients travel as messages (`rows.send_to`, `rows.receive_from`), each of which
is under way until it is read; between two stages of one rank they are handed over.

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
from flambeau.distributed.pipelining.microbatch import split_args_kwargs_into_chunks
from flambeau.distributed.pipelining.stage import PipelineStage
from flambeau.distributed.schedules import Action, placement, read_csv, schedule, write_csv
from flambeau.ops import collective as rows
from flambeau.tensor import Tensor


def _listed(value: Any) -> list[Tensor]:
    return list(value) if isinstance(value, (tuple, list)) else [value]


class _PipelineSchedule:
    """Runs micro-batches through stages.

    Args:
        stages: of this rank, from the front of the model.
        n_microbatches: of a step.
        loss_fn: (result, target) -> the loss of a micro-batch; None to run forward alone.
        args_chunk_spec, kwargs_chunk_spec: how inputs are cut (`TensorChunkSpec`); None cuts every
            tensor along dimension 0.
        output_merge_spec: accepted; results are joined along dimension 0.
        scale_grads: divide gradients by the number of micro-batches, so that they are those of the
            mean loss.
        ignored: accepted; what it would say follows from what is recorded.

    Raises:
        ValueError: the stages are not those of this rank, or the sizes do not fit.
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
        self._stages: list[PipelineStage] = list(stages) if isinstance(stages, list) else [stages]
        self._num_stages = self._stages[0].num_stages
        self.group = self._stages[0].group
        self._n_microbatches = n_microbatches
        self._loss_fn = loss_fn
        self.scale_grads = scale_grads
        self._args_chunk_spec = args_chunk_spec
        self._kwargs_chunk_spec = kwargs_chunk_spec
        #: stage and micro-batch -> what one stage of this rank leaves for another
        self.handed: dict[int, list[Tensor]] = {}
        self._lay_out()

    def _lay_out(self) -> None:
        """Make the table."""
        ranks = self.group.size()
        if self._num_stages % ranks:
            raise ValueError(f"{self._num_stages} stages cannot be shared evenly by {ranks} ranks")
        chunks = self._num_stages // ranks
        table = schedule(self.name, ranks, self._n_microbatches, chunks)
        self._take(table, placement(self.name, ranks, chunks))

    def _take(self, table: list[list[Action]], places: list[tuple[int, ...]]) -> None:
        """Run by a table from now on.

        Args:
            table: what each rank does.
            places: which stages each rank has.

        Raises:
            ValueError: this rank has others.
        """
        self.table, self.places = table, places
        self.rank_of = {stage: rank for rank, mine in enumerate(places) for stage in mine}
        rank, wanted = self.group.rank(), places[self.group.rank()]
        for stage in self._stages:
            index = stage.stage_index
            if index not in wanted:
                raise ValueError(
                    f"stage {index} of {self._num_stages} is on rank {self.rank_of.get(index)} of "
                    f"{self.group.size()}, not on rank {rank}"
                )
        if tuple(s.stage_index for s in self._stages) != wanted:
            raise ValueError(
                f"{type(self).__name__}: rank {rank} has the stages {list(wanted)}, in this order; "
                f"got {[s.stage_index for s in self._stages]}"
            )

    # -- a step ----------------------------------------------------------------------------------

    def step(
        self,
        *args: Any,
        target: Any = None,
        losses: list[Tensor] | None = None,
        return_outputs: bool = True,
        **kwargs: Any,
    ) -> Any:
        """Run a batch forward, and backward where there is a loss.

        Args:
            args: the model's inputs, on the rank of the first stage; cut along dimension 0.
            target: of `loss_fn`, on the rank of the last stage; cut likewise.
            losses: a list that the micro-batches' losses are put in, there.
            return_outputs: whether results are kept.
            kwargs: given to this rank's stages, cut as `args` are.

        Returns:
            The whole result on the rank of the last stage, None elsewhere.
        """
        return self._run(args, kwargs, target, losses, return_outputs, self._loss_fn is not None)

    def eval(
        self, *args: Any, target: Any = None, losses: list[Tensor] | None = None, **kwargs: Any
    ) -> Any:
        """Run a batch forward alone; losses are computed where there is a target.

        Args and Returns: `step`'s.
        """
        return self._run(args, kwargs, target, losses, True, False)

    def _run(
        self, args: Any, kwargs: Any, target: Any, losses: Any, keep: bool, trains: bool
    ) -> Any:
        given, named = split_args_kwargs_into_chunks(
            args, kwargs, self._n_microbatches, self._args_chunk_spec, self._kwargs_chunk_spec
        )
        inputs = given if args else None
        targets = None
        if target is not None:
            targets = split_args_kwargs_into_chunks((target,), None, self._n_microbatches)[0]
        self._learn_shapes(inputs, named[0])
        results: dict[int, Any] = {}
        found: dict[int, Tensor] = {}
        self.trains = trains
        for action in self.table[self.group.rank()]:
            stage = self._stages[action.chunk]
            if action.kind == "F":
                self._forward(stage, action, inputs, targets, named[action.micro], results, found)
            elif trains:
                self._backward(stage, action)
        if self.scale_grads and trains:
            self._scale()
        if losses is not None:
            losses.extend(found[k] for k in sorted(found))
        if not results or not keep:
            return None
        return pytree.tree_map(
            lambda *parts: flambeau.cat(parts), *(results[k] for k in sorted(results))
        )

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
        micro, trains = action.micro, self.trains
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
                if self._loss_fn is not None and (trains or targets is not None):
                    if targets is None:
                        raise ValueError("the rank of the last stage is given the target")
                    out = self._loss_fn(out, targets[micro][0])
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
            # the next stage sends gradients of what it can differentiate by, in order
            wanted_ = [o for o in outs if o.is_floating_point()]
            shapes = [(tuple(t.shape), t.dtype) for t in wanted_]
            grads = self._received(stage, 1, shapes, self._tag(stage, micro, False))
            pairs = [(o, g) for o, g in zip(wanted_, grads, strict=True) if o.requires_grad]
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
        if not parameters:
            return
        found = flambeau.autograd.grad(outs, parameters, grads, allow_unused=True)
        with flambeau.no_grad():
            for p, g in zip(parameters, found, strict=True):
                if g is not None:
                    p.grad = g if p.grad is None else p.grad + g

    def _scale(self) -> None:
        with flambeau.no_grad():
            for stage in self._stages:
                for p in stage.parameters():
                    if p.grad is not None:
                        p.grad.div_(self._n_microbatches)

    # -- messages --------------------------------------------------------------------------------

    def _tag(self, stage: PipelineStage, micro: int, forward: bool, step: int = 0) -> int:
        """A number of the message to or from a stage."""
        at = stage.stage_index + step
        return (micro * stage.num_stages + at) * 2 + int(forward)

    def _send(self, stage: PipelineStage, step: int, values: list[Tensor], tag: int) -> None:
        peer = self.rank_of[stage.stage_index + step]
        if peer == self.group.rank():
            self.handed[tag] = [value.detach() for value in values]
            return
        with flambeau.no_grad():
            for k, value in enumerate(values):
                whole = value.detach().contiguous()
                rows.send_to(whole, self.group, peer, tag * 16 + k)

    def _received(self, stage: PipelineStage, step: int, shapes: Any, tag: int) -> list[Tensor]:
        peer = self.rank_of[stage.stage_index + step]
        if peer == self.group.rank():
            return self.handed.pop(tag)
        with flambeau.no_grad():
            return [
                rows.receive_from(
                    flambeau.zeros(shape, dtype=dtype), self.group, peer, tag * 16 + k
                )
                for k, (shape, dtype) in enumerate(shapes)
            ]

    def _learn_shapes(self, inputs: Any, kwargs: dict[str, Any]) -> None:
        """Note [Shapes of stages]."""
        if all(s.shapes is not None for s in self._stages):
            return
        count = self._num_stages
        mine = {s.stage_index: s for s in self._stages}
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
            shapes = pickle.loads(told[self.rank_of[index]])

    def _result_of(self, stage: PipelineStage, shapes: Any, kwargs: dict[str, Any]) -> Any:
        """Shapes and dtypes of a stage's results; nothing of it is executed or remembered."""
        training = [m for m in stage.submod.modules() if m.training]
        stage.submod.eval()  # so that no statistics are kept of it
        with flambeau.no_grad():
            found = stage.submod(*(flambeau.zeros(s, dtype=d) for s, d in shapes), **kwargs)
        for module in training:
            module.training = True
        return [(tuple(t.shape), t.dtype) for t in _listed(found)]


class PipelineScheduleSingle(_PipelineSchedule):
    """A schedule with one stage on each rank."""


class PipelineScheduleMulti(_PipelineSchedule):
    """A schedule with several stages on each rank."""


class _ScheduleForwardOnly(PipelineScheduleSingle):
    """Forwards alone."""

    name = "gpipe"

    def step(self, *args: Any, target: Any = None, losses: Any = None, **kwargs: Any) -> Any:
        """`eval`.

        Raises:
            RuntimeError: there is a target.
        """
        if target is not None or losses is not None:
            raise RuntimeError("Forward-only schedule does not support loss computation")
        return self.eval(*args, **kwargs)


class ScheduleGPipe(PipelineScheduleSingle):
    """All forwards, then all backwards."""

    name = "gpipe"


class Schedule1F1B(PipelineScheduleSingle):
    """A backward after each forward, as soon as the first is there."""

    name = "1f1b"


class ScheduleLoopedBFS(PipelineScheduleMulti):
    """All micro-batches through one stage of a rank after the other."""

    name = "looped-bfs"


class ScheduleInterleaved1F1B(PipelineScheduleMulti):
    """1F1B with several stages a rank, which shortens the waiting by as many times."""

    name = "interleaved"


class ScheduleInterleavedZeroBubble(PipelineScheduleMulti):
    """1F1B with the gradients of weights put off until a rank would wait (ZB-H1)."""

    name = "zero-bubble"


class ScheduleZBVZeroBubble(PipelineScheduleMulti):
    """Zero bubble with two stages a rank in a V: rank r has the stages r and 2 n - 1 - r."""

    name = "zbv"


class ScheduleDualPipeV(PipelineScheduleMulti):
    """Forwards of one stage beside backwards of the other, the two in a V as with ZB-V."""

    name = "dualpipev"


class _PipelineScheduleRuntime(PipelineScheduleMulti):
    """A schedule whose table is read from a file by `_load_csv`."""

    def _lay_out(self) -> None:
        self.table, self.places, self.rank_of = [], [], {}

    def _load_csv(self, filename: str, format: str = "compute_only") -> None:
        """Take the table of a file that torch's schedules write.

        Args:
            format: "compute_only" or "compute_comms"; messages follow from the order.

        Raises:
            NotImplementedError: another format.
        """
        if format not in ("compute_only", "compute_comms"):
            raise NotImplementedError(f"format={format!r} is not implemented")
        self._take(*read_csv(filename))

    def _dump_csv(self, filename: str, format: str = "compute_only") -> None:
        """Write the table, without messages."""
        write_csv(filename, self.table, self.places)


def get_schedule_class(schedule_name: str) -> type[_PipelineSchedule]:
    """The class of a schedule, by torch's name for it.

    Raises:
        ValueError: there is none.
    """
    known: dict[str, type[_PipelineSchedule]] = {
        cls.__name__.removeprefix("Schedule").lower(): cls
        for cls in (
            *(Schedule1F1B, ScheduleGPipe, ScheduleLoopedBFS, ScheduleInterleaved1F1B),
            *(ScheduleInterleavedZeroBubble, ScheduleZBVZeroBubble, ScheduleDualPipeV),
        )
    }
    known["pipelineschedulesingle"] = PipelineScheduleSingle
    known["pipelineschedulemulti"] = PipelineScheduleMulti
    found = known.get(schedule_name.lower())
    if found is None:
        raise ValueError(f"Unknown schedule name {schedule_name!r}; known: {', '.join(known)}")
    return found


__all__ = [
    "PipelineScheduleMulti",
    "PipelineScheduleSingle",
    "Schedule1F1B",
    "ScheduleDualPipeV",
    "ScheduleGPipe",
    "ScheduleInterleaved1F1B",
    "ScheduleInterleavedZeroBubble",
    "ScheduleLoopedBFS",
    "ScheduleZBVZeroBubble",
    "get_schedule_class",
]
