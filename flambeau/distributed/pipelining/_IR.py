"""Models cut into stages: a model is traced, and its nodes are shared out at the marks.

Note [Stages of a trace]
The trace (`fx`) has the submodules that stand between two marks whole and looks into those that
have marks inside. A stage is the nodes between two marks. It is given what the stage before it
returns, and returns whatever a later one reads, so that what skips a stage goes through it. Numbers
that a trace computes from shapes are those of the example.
"""

from __future__ import annotations

import inspect
import operator
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import flambeau
from flambeau import fx
from flambeau.distributed.pipelining.stage import PipelineStage
from flambeau.nn.module import Module
from flambeau.tensor import Tensor


class SplitPoint(Enum):
    """Where a stage begins: before a submodule, or after it."""

    BEGINNING = 1
    END = 2


class _State(threading.local):
    """The tracer that is cutting a model, or None."""

    tracer: Any = None


_state = _State()


def pipe_split() -> None:
    """A mark in the code of a model: what follows belongs to the next stage."""
    if _state.tracer is not None:
        _state.tracer.create_node("call_function", pipe_split, (), {})


class _Tracer(fx.Tracer):
    """Looks into submodules that may have marks inside.

    Args:
        marks: name of a submodule -> where a stage begins; None: marks are in the code.
    """

    def __init__(self, marks: dict[str, SplitPoint] | None) -> None:
        super().__init__()
        self.marks = marks

    def is_leaf_module(self, m: Module, module_qualified_name: str) -> bool:
        """Whether there are no marks inside."""
        if self.marks is None:
            return super().is_leaf_module(m, module_qualified_name)
        inside = f"{module_qualified_name}."
        return not any(name.startswith(inside) for name in self.marks)

    def call_module(
        self,
        m: Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """The call, with its marks around it."""
        mark = (self.marks or {}).get(self.path_of_module(m))
        if mark is SplitPoint.BEGINNING:
            pipe_split()
        found = super().call_module(m, forward, args, kwargs)
        if mark is SplitPoint.END:
            pipe_split()
        return found


class _Values(fx.Interpreter):
    """Runs a trace on an example and keeps every value."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.values: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        """The value of a node."""
        self.values[n] = found = super().run_node(n)
        return found


@dataclass(frozen=True)
class PipeInfo:
    """What is known of a pipeline.

    Attributes:
        graph: of the whole model.
        num_stages: how many stages there are.
        has_loss_and_backward: always False; losses are the schedule's.
    """

    graph: fx.Graph
    num_stages: int
    has_loss_and_backward: bool = False


class Pipe(Module):
    """A model in stages, made by `pipeline`.

    Attributes:
        split_gm: a module whose `submod_k` is stage k.
        num_stages: how many there are.
    """

    def __init__(self, graph: fx.Graph, stages: list[fx.GraphModule]) -> None:
        super().__init__()
        self.graph = graph
        self.num_stages = len(stages)
        self.split_gm = Module()
        for k, stage in enumerate(stages):
            self.split_gm.add_module(f"submod_{k}", stage)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The model, one stage after the other."""
        found = self.get_stage_module(0)(*args, **kwargs)
        for k in range(1, self.num_stages):
            given = found if isinstance(found, tuple) else (found,)
            found = self.get_stage_module(k)(*given)
        return found

    def get_stage_module(self, stage_idx: int) -> Module:
        """Stage k.

        Raises:
            ValueError: there is none.
        """
        if not 0 <= stage_idx < self.num_stages:
            raise ValueError(f"Invalid stage index {stage_idx} of {self.num_stages} stages!")
        found: Module = getattr(self.split_gm, f"submod_{stage_idx}")
        return found

    def info(self) -> PipeInfo:
        """What is known of the pipeline."""
        return PipeInfo(self.graph, self.num_stages)

    def print_readable(self) -> None:
        """Print the code of all stages."""
        for k in range(self.num_stages):
            print(f"submod_{k}:\n{self.get_stage_module(k).code}")

    def build_stage(self, stage_index: int, device: Any = None, group: Any = None) -> PipelineStage:
        """A stage on the rank that runs it.

        Args:
            stage_index: which one.
            device: accepted.
            group: None takes the default group.
        """
        module = self.get_stage_module(stage_index)
        return PipelineStage(module, stage_index, self.num_stages, device, group=group)


def pipeline(
    module: Module,
    mb_args: tuple[Any, ...],
    mb_kwargs: dict[str, Any] | None = None,
    split_spec: dict[str, SplitPoint] | None = None,
    split_policy: Callable[[Any], Any] | None = None,
) -> Pipe:
    """Cut a model into stages.

    Args:
        module: the model.
        mb_args: positional inputs of a micro-batch, as an example.
        mb_kwargs: keyword inputs of one.
        split_spec: name of a submodule -> where a stage begins; without it at each `pipe_split()`
            in the code.
        split_policy: not taken.

    Raises:
        ValueError: both `split_spec` and `split_policy`, or a submodule that there is not.
        NotImplementedError: a policy; two stages that share a parameter.

    Example:
        >>> from flambeau import nn
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
        >>> pipe = pipeline(net, (flambeau.ones(4, 2),), split_spec={"2": SplitPoint.BEGINNING})
        >>> [[name for name, _ in pipe.get_stage_module(k).named_parameters()] for k in range(2)]
        [['0.weight', '0.bias'], ['2.weight', '2.bias']]
    """
    if split_policy is not None:
        if split_spec is not None:
            raise ValueError(
                "Cannot specify both `split_spec` and `split_policy`. Please use only one of them."
            )
        raise NotImplementedError("pipeline with split_policy; say split_spec")
    known = {name for name, _ in module.named_modules()}
    for name in split_spec or ():
        if name not in known:
            raise ValueError(f"split_spec: no submodule is called {name!r}")
    kwargs = mb_kwargs or {}
    tracer = _Tracer(split_spec)
    fixed = _fixed(module, mb_args, kwargs)
    _state.tracer = tracer
    try:
        graph = tracer.trace(module, fixed)
    finally:
        _state.tracer = None
    for node in [n for n in graph.nodes if n.op == "placeholder" and n.name in _dropped(fixed)]:
        for user in list(node.users):  # a trace checks what was fixed
            for check in list(user.users):
                graph.erase_node(check)
            graph.erase_node(user)
        graph.erase_node(node)
    return Pipe(graph, _stages(module, graph, mb_args, kwargs))


def _fixed(module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The defaults of parameters that the example gives nothing for."""
    signature = inspect.signature(type(module).forward)
    given = signature.bind(module, *args, **kwargs).arguments
    return {
        name: p.default
        for name, p in signature.parameters.items()
        if name not in given and p.default is not p.empty
    }


def _dropped(fixed: dict[str, Any]) -> set[str]:
    return {f"{name}_1" for name in fixed}


def _stages(
    module: Module, graph: fx.Graph, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> list[fx.GraphModule]:
    """The modules of all stages: Note [Stages of a trace]."""
    nodes = list(graph.nodes)
    inputs = [n for n in nodes if n.op == "placeholder"]
    runs = _Values(fx.GraphModule(module, graph))
    ordered = [*args, *(kwargs[str(n.target)] for n in inputs[len(args) :])]
    training = [m for m in module.modules() if m.training]
    module.eval()  # so that no statistics are kept of the example
    try:
        with flambeau.no_grad():
            runs.run(*ordered)
    finally:
        for m in training:
            m.training = True
    place: dict[fx.Node, int] = {}
    count = 0
    for node in nodes:
        place[node] = count
        count += node.op == "call_function" and node.target is pipe_split
    last = {n: max((place[u] for u in n.users), default=place[n]) for n in nodes}
    _refuse_shared(module, nodes, place)
    made = []
    for k in range(count + 1):
        crossing = [n for n in nodes if place[n] < k <= last[n] and n.op != "get_attr"]
        leaving = [n for n in nodes if place[n] <= k < last[n] and n.op != "get_attr"]
        here = [n for n in nodes if place[n] == k and n.target is not pipe_split]
        made.append(_stage(module, here, crossing, leaving, runs.values))
    return made


def _stage(
    module: Module,
    nodes: list[fx.Node],
    crossing: list[fx.Node],
    leaving: list[fx.Node],
    values: dict[fx.Node, Any],
) -> fx.GraphModule:
    """One stage.

    Args:
        nodes: its own.
        crossing: those of earlier stages that it or a later one reads.
        leaving: those that a later stage reads.
        values: of all nodes, for an example.
    """
    graph = fx.Graph()
    copies: dict[fx.Node, Any] = {}
    for node in crossing:
        is_tensor = isinstance(values[node], Tensor)
        copies[node] = graph.placeholder(node.name) if is_tensor else values[node]

    def copied(node: fx.Node) -> Any:
        if node not in copies:  # an attribute, which each stage reads for itself
            copies[node] = graph.node_copy(node, copied)
        return copies[node]

    for node in nodes:
        if node.op == "output":
            graph.output(fx.map_arg(node.args[0], copied))
        elif node.op != "get_attr":
            copied(node)
    if not any(node.op == "output" for node in nodes):
        sent = [copied(n) for n in leaving if isinstance(values[n], Tensor)]
        graph.output(sent[0] if len(sent) == 1 else tuple(sent))
    return fx.GraphModule(module, graph)


def _refuse_shared(module: Module, nodes: list[fx.Node], place: dict[fx.Node, int]) -> None:
    """Stages on different ranks would each have a copy of a parameter, and a part of its gradient.

    Raises:
        NotImplementedError: two stages have one parameter.
    """
    owner: dict[int, tuple[str, int]] = {}
    for node in nodes:
        if node.op == "call_module":
            sub = module.get_submodule(str(node.target))
            named = [(f"{node.target}.{name}", p) for name, p in sub.named_parameters()]
            where = {place[node]}
        elif node.op == "get_attr":
            value = operator.attrgetter(str(node.target))(module)
            named = [(str(node.target), value)] if isinstance(value, flambeau.nn.Parameter) else []
            where = {place[user] for user in node.users}
        else:
            continue
        for name, p in named:
            for stage in where:
                first = owner.setdefault(id(p), (name, stage))
                if first[1] != stage:
                    raise NotImplementedError(
                        f"pipeline: the parameter {name!r} of stage {stage} is {first[0]!r} of "
                        f"stage {first[1]} too; stages cannot share parameters"
                    )


__all__ = ["Pipe", "PipeInfo", "SplitPoint", "pipe_split", "pipeline"]
