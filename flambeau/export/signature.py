"""What the inputs and outputs of an exported graph are (torch's `export.graph_signature`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any


class InputKind(Enum):
    """What an input of a graph is."""

    USER_INPUT = auto()
    PARAMETER = auto()
    BUFFER = auto()
    CONSTANT_TENSOR = auto()


class OutputKind(Enum):
    """What an output of a graph is."""

    USER_OUTPUT = auto()
    BUFFER_MUTATION = auto()
    PARAMETER_MUTATION = auto()


@dataclass(frozen=True)
class TensorArgument:
    """A tensor, by its name in the graph."""

    name: str


@dataclass(frozen=True)
class ConstantArgument:
    """A value that the graph was made for."""

    name: str
    value: Any


@dataclass(frozen=True)
class InputSpec:
    """One input.

    Attributes:
        kind: what it is.
        arg: its name in the graph.
        target: for states and constants, their qualified name.
        persistent: whether a buffer is part of the state dict.
    """

    kind: InputKind
    arg: Any
    target: str | None = None
    persistent: bool | None = None


@dataclass(frozen=True)
class OutputSpec:
    """One output; `target` is what it is written to."""

    kind: OutputKind
    arg: Any
    target: str | None = None


@dataclass
class ExportGraphSignature:
    """The inputs and outputs of an exported graph, in order."""

    input_specs: list[InputSpec] = field(default_factory=list)
    output_specs: list[OutputSpec] = field(default_factory=list)

    def _targets(self, kind: InputKind) -> tuple[str, ...]:
        return tuple(str(s.target) for s in self.input_specs if s.kind is kind)

    @property
    def parameters(self) -> tuple[str, ...]:
        """Qualified names of the parameters."""
        return self._targets(InputKind.PARAMETER)

    @property
    def buffers(self) -> tuple[str, ...]:
        """Qualified names of the buffers."""
        return self._targets(InputKind.BUFFER)

    @property
    def lifted_tensor_constants(self) -> tuple[str, ...]:
        """Names of the constants."""
        return self._targets(InputKind.CONSTANT_TENSOR)

    @property
    def user_inputs(self) -> tuple[Any, ...]:
        """Names of the user's tensors, and other values as they were."""
        return tuple(
            s.arg.value if isinstance(s.arg, ConstantArgument) else s.arg.name
            for s in self.input_specs
            if s.kind is InputKind.USER_INPUT
        )

    @property
    def user_outputs(self) -> tuple[Any, ...]:
        """Names of the results, and other values as they are."""
        return tuple(
            s.arg.value if isinstance(s.arg, ConstantArgument) else s.arg.name
            for s in self.output_specs
            if s.kind is OutputKind.USER_OUTPUT
        )

    def _inputs_to(self, kind: InputKind) -> dict[str, str]:
        return {s.arg.name: str(s.target) for s in self.input_specs if s.kind is kind}

    def _mutated(self, kind: OutputKind) -> dict[str, str]:
        return {s.arg.name: str(s.target) for s in self.output_specs if s.kind is kind}

    @property
    def inputs_to_parameters(self) -> dict[str, str]:
        """Name in the graph -> the parameter's qualified name."""
        return self._inputs_to(InputKind.PARAMETER)

    @property
    def inputs_to_buffers(self) -> dict[str, str]:
        """Name in the graph -> the buffer's qualified name."""
        return self._inputs_to(InputKind.BUFFER)

    @property
    def inputs_to_lifted_tensor_constants(self) -> dict[str, str]:
        """Name in the graph -> the constant's name."""
        return self._inputs_to(InputKind.CONSTANT_TENSOR)

    @property
    def buffers_to_mutate(self) -> dict[str, str]:
        """Name of an output -> the buffer that is given its value."""
        return self._mutated(OutputKind.BUFFER_MUTATION)

    @property
    def parameters_to_mutate(self) -> dict[str, str]:
        """Name of an output -> the parameter that is given its value."""
        return self._mutated(OutputKind.PARAMETER_MUTATION)

    @property
    def user_inputs_to_mutate(self) -> dict[str, str]:
        """Programs do not write to their inputs."""
        return {}

    @property
    def non_persistent_buffers(self) -> tuple[str, ...]:
        """Qualified names of the buffers that are not part of the state dict."""
        return tuple(str(s.target) for s in self.input_specs if s.persistent is False)

    def __str__(self) -> str:
        lines = ["# inputs"]
        for i in self.input_specs:
            target = f" target={i.target!r}" if i.target else ""
            lines.append(f"{i.arg.name}: {i.kind.name}{target}")
        lines.append("# outputs")
        for o in self.output_specs:
            target = f" target={o.target!r}" if o.target else ""
            lines.append(f"{o.arg.name}: {o.kind.name}{target}")
        return "\n".join(lines)


__all__ = [
    "ConstantArgument",
    "ExportGraphSignature",
    "InputKind",
    "InputSpec",
    "OutputKind",
    "OutputSpec",
    "TensorArgument",
]
