"""Tensor parallel modules, as torch.distributed.tensor.parallel: how parameters are laid on a mesh,
and how a module's inputs and outputs lie.

Reference: M. Shoeybi et al., Megatron-LM, https://arxiv.org/abs/1909.08053; sequence parallelism:
V. Korthikanti et al., https://arxiv.org/abs/2205.05198.
"""

from __future__ import annotations

import abc
import fnmatch
from collections.abc import Mapping, Sequence
from typing import Any

from flambeau.distributed.mesh import DeviceMesh
from flambeau.distributed.tensor.api import DTensor, distribute_module, distributed_parameter
from flambeau.distributed.tensor.loss import loss_parallel
from flambeau.distributed.tensor.placement import Placement, Replicate, Shard
from flambeau.nn import Embedding, Linear
from flambeau.nn.module import Module
from flambeau.tensor import Tensor

Layouts = Placement | Sequence[Placement | None] | None


class ParallelStyle(abc.ABC):
    """How a module is made parallel."""

    src_data_rank: int | None = 0

    @abc.abstractmethod
    def _apply(self, module: Module, device_mesh: DeviceMesh) -> Module:
        """Make a module parallel along a mesh of one axis; -> the module."""


def _as_distributed(x: Any, have: Placement, want: Placement, mesh: DeviceMesh) -> Any:
    """A tensor, of which this rank may have given its part, as it is wanted."""
    if not isinstance(x, Tensor):
        return x
    made = x if isinstance(x, DTensor) else DTensor.from_local(x, mesh, (have,))
    return made if made.placements == (want,) else made.redistribute(mesh, (want,))


def _handed_out(x: Any, want: Placement, mesh: DeviceMesh, local: bool) -> Any:
    """What a module returns, as it is wanted."""
    if not isinstance(x, DTensor):
        return x
    if x.placements != (_counted(want, x.dim()),):
        x = x.redistribute(mesh, (want,))
    return x.to_local() if local else x


def _counted(p: Placement, ndim: int) -> Placement:
    return Shard(p.dim % ndim) if isinstance(p, Shard) else p


class _Linear(ParallelStyle):
    """A module whose weight is split; subclasses say how."""

    kinds: tuple[type[Module], ...] = (Linear, Embedding)

    def __init__(
        self,
        input_layouts: Placement,
        output_layouts: Placement,
        use_local_output: bool,
    ) -> None:
        self.input_layouts = (input_layouts,)
        self.output_layouts = (output_layouts,)
        self.use_local_output = use_local_output

    @abc.abstractmethod
    def placements(self, module: Module) -> dict[str, Placement]:
        """How the module's parameters lie."""

    @abc.abstractmethod
    def wanted(self, module: Module) -> Placement:
        """How the module's input must lie."""

    def _apply(self, module: Module, device_mesh: DeviceMesh) -> Module:
        if not isinstance(module, self.kinds):
            names = " and ".join(kind.__name__ for kind in self.kinds)
            raise NotImplementedError(
                f"{type(self).__name__} only supports nn.{names}, got {type(module).__name__}"
            )
        wanted = self.wanted(module)

        def lay(name: str, sub: Module, mesh: DeviceMesh) -> None:
            for key, placement in self.placements(sub).items():
                p = sub._parameters.get(key)
                if p is not None and not isinstance(p, DTensor):
                    sub.register_parameter(key, distributed_parameter(p, mesh, (placement,)))

        def enter(_: Module, inputs: tuple[Any, ...], mesh: DeviceMesh) -> Any:
            given = _as_distributed(inputs[0], self.input_layouts[0], wanted, mesh)
            return (given, *inputs[1:])

        def leave(_: Module, outputs: Any, mesh: DeviceMesh) -> Any:
            return _handed_out(outputs, self.output_layouts[0], mesh, self.use_local_output)

        return distribute_module(module, device_mesh, lay, enter, leave)


class ColwiseParallel(_Linear):
    """Each rank has some of the outputs of a Linear, some of the columns of an Embedding.

    Args:
        input_layouts: how the input lies; Replicate() by default.
        output_layouts: how the output shall lie; Shard(-1) by default.
        use_local_output: whether the output is this rank's part as a plain tensor.
    """

    def __init__(
        self,
        *,
        input_layouts: Placement | None = None,
        output_layouts: Placement | None = None,
        use_local_output: bool = True,
    ) -> None:
        super().__init__(
            input_layouts or Replicate(), output_layouts or Shard(-1), use_local_output
        )

    def placements(self, module: Module) -> dict[str, Placement]:
        """Of the weight and the bias."""
        if isinstance(module, Linear):
            return {"weight": Shard(0), "bias": Shard(0)}
        return {"weight": Shard(1)}

    def wanted(self, module: Module) -> Placement:
        """The whole input."""
        return Replicate()


class RowwiseParallel(_Linear):
    """Each rank has the part of a Linear's weight for some of its inputs, some of the rows of an
    Embedding; outputs are summed.

    Args:
        input_layouts: how the input lies; Shard(-1) by default (Replicate() for an Embedding).
        output_layouts: how the output shall lie; Replicate() by default.
        use_local_output: whether the output is this rank's part as a plain tensor.
    """

    def __init__(
        self,
        *,
        input_layouts: Placement | None = None,
        output_layouts: Placement | None = None,
        use_local_output: bool = True,
    ) -> None:
        super().__init__(
            input_layouts or Shard(-1), output_layouts or Replicate(), use_local_output
        )

    def placements(self, module: Module) -> dict[str, Placement]:
        """Of the weight and the bias."""
        if isinstance(module, Linear):
            return {"weight": Shard(1), "bias": Replicate()}
        return {"weight": Shard(0)}

    def wanted(self, module: Module) -> Placement:
        """Parts of the last dimension; an Embedding takes all indices."""
        return Shard(-1) if isinstance(module, Linear) else Replicate()


class SequenceParallel(ParallelStyle):
    """Each rank does its part of the sequence, with all of the parameters (norms, dropout).

    Args:
        sequence_dim: the dimension of the input that is split.
        use_local_output: whether the output is this rank's part as a plain tensor.
    """

    def __init__(self, *, sequence_dim: int = 1, use_local_output: bool = False) -> None:
        self.sequence_dim = sequence_dim
        self.use_local_output = use_local_output

    def _apply(self, module: Module, device_mesh: DeviceMesh) -> Module:
        split = Shard(self.sequence_dim)

        def enter(_: Module, inputs: tuple[Any, ...], mesh: DeviceMesh) -> Any:
            return (_as_distributed(inputs[0], split, split, mesh), *inputs[1:])

        def leave(_: Module, outputs: Any, mesh: DeviceMesh) -> Any:
            local = self.use_local_output
            return outputs.to_local() if local and isinstance(outputs, DTensor) else outputs

        return distribute_module(module, device_mesh, None, enter, leave)


def _each(layouts: Layouts) -> tuple[Placement | None, ...]:
    return (layouts,) if layouts is None or isinstance(layouts, Placement) else tuple(layouts)


class PrepareModuleInput(ParallelStyle):
    """Have a module's inputs lie as it wants them.

    Args:
        input_layouts: how positional inputs lie, None for what is left alone; one, or one each.
        desired_input_layouts: how they shall lie.
        input_kwarg_layouts, desired_input_kwarg_layouts: the same of keyword inputs, by name.
        use_local_output: whether the module gets parts as plain tensors.
    """

    def __init__(
        self,
        *,
        input_layouts: Layouts = None,
        desired_input_layouts: Layouts = None,
        input_kwarg_layouts: Mapping[str, Placement] | None = None,
        desired_input_kwarg_layouts: Mapping[str, Placement] | None = None,
        use_local_output: bool = False,
    ) -> None:
        self.have, self.want = _each(input_layouts), _each(desired_input_layouts)
        if len(self.have) != len(self.want):
            raise AssertionError("input_layouts and desired_input_layouts should have same length!")
        self.kwarg_have = dict(input_kwarg_layouts or {})
        self.kwarg_want = dict(desired_input_kwarg_layouts or {})
        self.use_local_output = use_local_output

    def _given(self, x: Any, have: Placement | None, want: Placement | None, mesh: Any) -> Any:
        if have is None or want is None or not isinstance(x, Tensor):
            return x
        made = _as_distributed(x, have, want, mesh)
        return made.to_local() if self.use_local_output else made

    def _apply(self, module: Module, device_mesh: DeviceMesh) -> Module:
        def enter(_: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if self.want != (None,) and len(args) != len(self.have):
                raise ValueError("module inputs and input_layouts should have same length!")
            placed = zip(args, self.have, self.want, strict=False)
            made = tuple(self._given(x, h, w, device_mesh) for x, h, w in placed)
            for name, want in self.kwarg_want.items():
                have = self.kwarg_have.get(name)
                kwargs[name] = self._given(kwargs.get(name), have, want, device_mesh)
            return (*made, *args[len(made) :]), kwargs

        module.register_forward_pre_hook(enter, with_kwargs=True)
        return module


class PrepareModuleOutput(ParallelStyle):
    """Have a module's outputs lie as is wanted.

    Args:
        output_layouts: how outputs lie, None for what is left alone; one, or one each.
        desired_output_layouts: how they shall lie.
        use_local_output: whether parts are handed out as plain tensors.
    """

    def __init__(
        self,
        *,
        output_layouts: Layouts,
        desired_output_layouts: Layouts,
        use_local_output: bool = True,
    ) -> None:
        self.have, self.want = _each(output_layouts), _each(desired_output_layouts)
        if len(self.have) != len(self.want):
            raise AssertionError(
                "output_layouts and desired_output_layouts should have same length!"
            )
        self.use_local_output = use_local_output

    def _apply(self, module: Module, device_mesh: DeviceMesh) -> Module:
        def leave(_: Module, inputs: Any, outputs: Any) -> Any:
            given = outputs if isinstance(outputs, tuple) else (outputs,)
            if len(given) != len(self.have):
                raise ValueError("module outputs and output_layouts should have same length!")
            made = []
            for x, have, want in zip(given, self.have, self.want, strict=True):
                if have is not None and want is not None:
                    x = _as_distributed(x, have, want, device_mesh)
                    x = x.to_local() if self.use_local_output and isinstance(x, DTensor) else x
                made.append(x)
            return tuple(made) if isinstance(outputs, tuple) else made[0]

        module.register_forward_hook(leave)
        return module


class PrepareModuleInputOutput(ParallelStyle):
    """`PrepareModuleInput` and `PrepareModuleOutput` of one module.

    Args:
        use_local_input, use_local_output: whether parts are plain tensors; the others as of these.
    """

    def __init__(
        self,
        *,
        input_layouts: Layouts = None,
        desired_input_layouts: Layouts = None,
        input_kwarg_layouts: Mapping[str, Placement] | None = None,
        desired_input_kwarg_layouts: Mapping[str, Placement] | None = None,
        use_local_input: bool = False,
        output_layouts: Layouts,
        desired_output_layouts: Layouts,
        use_local_output: bool = True,
    ) -> None:
        self.input = PrepareModuleInput(
            input_layouts=input_layouts,
            desired_input_layouts=desired_input_layouts,
            input_kwarg_layouts=input_kwarg_layouts,
            desired_input_kwarg_layouts=desired_input_kwarg_layouts,
            use_local_output=use_local_input,
        )
        self.output = PrepareModuleOutput(
            output_layouts=output_layouts,
            desired_output_layouts=desired_output_layouts,
            use_local_output=use_local_output,
        )

    def _apply(self, module: Module, device_mesh: DeviceMesh) -> Module:
        return self.output._apply(self.input._apply(module, device_mesh), device_mesh)


def parallelize_module(
    module: Module,
    device_mesh: DeviceMesh,
    parallelize_plan: ParallelStyle | Mapping[str, ParallelStyle] | None = None,
    *,
    src_data_rank: int | None = 0,
) -> Module:
    """Make a module tensor parallel along a mesh of one axis.

    Args:
        device_mesh: of one axis: `mesh["tp"]` of a larger one.
        parallelize_plan: a style for the module, or styles of submodules by name, in which `*`
            stands for any part of a name ("layers.*.mlp.up").
        src_data_rank: unused; parameters are those of the first rank.

    Returns:
        The module, changed.

    Example:
        >>> from flambeau import nn
        >>> from flambeau.distributed import init_device_mesh, spawn_local
        >>> def program(rank):
        ...     block = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 4))
        ...     plan = {"0": ColwiseParallel(), "2": RowwiseParallel()}
        ...     parallelize_module(block, init_device_mesh("cpu", (2,)), plan)
        ...     return tuple(block[0].weight.to_local().shape)
        >>> spawn_local(2, program)
        [(8, 4), (8, 4)]
    """
    if device_mesh.ndim != 1:
        raise ValueError(f"tensor parallelism is along one axis; got {device_mesh}")
    if parallelize_plan is None:
        return module
    if isinstance(parallelize_plan, ParallelStyle):
        return parallelize_plan._apply(module, device_mesh)
    for pattern, style in parallelize_plan.items():
        wanted = pattern.split(".")
        found = [
            sub
            for name, sub in module.named_modules()
            if len(wanted) == len(parts := name.split("."))
            and all(fnmatch.fnmatchcase(p, w) for p, w in zip(parts, wanted, strict=True))
        ]
        if not found:
            raise ValueError(f"parallelize_module: no submodule is called {pattern!r}")
        for sub in found:
            style._apply(sub, device_mesh)
    return module


__all__ = [
    "ColwiseParallel",
    "ParallelStyle",
    "PrepareModuleInput",
    "PrepareModuleInputOutput",
    "PrepareModuleOutput",
    "RowwiseParallel",
    "SequenceParallel",
    "loss_parallel",
    "parallelize_module",
]
