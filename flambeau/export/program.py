"""`export` and what it gives: a program that runs without the Python it was made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from flambeau import record
from flambeau.autograd import Function, no_grad
from flambeau.device import cpu
from flambeau.drawing import Box, layered
from flambeau.dtype import dtype as DType
from flambeau.export.dims import ExportError
from flambeau.export.graph import Traced
from flambeau.export.signature import (
    ConstantArgument,
    ExportGraphSignature,
    InputKind,
    InputSpec,
    OutputKind,
    OutputSpec,
    TensorArgument,
)
from flambeau.export.text import graph_text, value_text
from flambeau.export.trace import Value
from flambeau.ir.graph import PICK, Graph, Node
from flambeau.ir.symbol import SMALLEST, Guard, Symbols, filled
from flambeau.nn.module import Module
from flambeau.nn.parameter import Parameter
from flambeau.ops.branches import NoGradient
from flambeau.ops.writing import store
from flambeau.passes.inline import inline
from flambeau.pytree import (
    TreeSpec,
    tree_flatten,
    tree_unflatten,
)
from flambeau.tape import modes
from flambeau.tensor import Tensor, make


@dataclass(frozen=True)
class Input:
    """What a user's input must be: a tensor of a shape (with symbols) and dtype, or a value."""

    path: str
    shape: tuple[Any, ...] = ()
    dtype: DType | None = None
    value: Any = None


@dataclass
class Joint:
    """The graphs of training.

    Attributes:
        forward: over the program's inputs; gives the results, written states, then residuals.
        backward: over residuals, then cotangents; gives gradients.
        cotangents: the results that have some.
        gradients: the inputs that the gradients are of.
    """

    forward: Traced
    backward: Traced
    cotangents: list[int]
    gradients: list[int]


class CallSpec(NamedTuple):
    """The structures of a program's inputs and of its result."""

    in_spec: TreeSpec
    out_spec: TreeSpec


class ExportedProgram:
    """A traced function with its states, for all sizes in the ranges of its symbols.

    Made by `export` and `load`; `module()` gives something to call.

    Args:
        graph: of inference.
        joint: of training, or None where nothing has gradients.
        inputs: what the user's inputs must be, in order.
        in_spec: the structure of (args, kwargs).
        outputs: the leaves of the result: places among the graph's results, or values.
        out_spec: the structure of the result.
        states: parameters and buffers by qualified name.
        kinds: of each state: "parameter", "buffer" or "temporary" (a buffer that is not saved).
        written: names of the states that a run writes.
        constants: tensors of the program itself.
        ranges: least and greatest (or None) value of each symbol.
        guards: what else must hold of the symbols.
        refusal: why there are no gradients, where the program has states that want some.
        aliases: further names of states that modules share, and the names in `states`.
    """

    def __init__(
        self,
        graph: Traced,
        joint: Joint | None,
        inputs: list[Input],
        in_spec: TreeSpec,
        outputs: list[Any],
        out_spec: TreeSpec,
        states: dict[str, Tensor],
        kinds: dict[str, str],
        written: list[str],
        constants: list[Tensor],
        ranges: dict[str, tuple[int, int | None]],
        guards: list[Guard],
        refusal: str | None = None,
        aliases: dict[str, str] | None = None,
    ) -> None:
        self.traced = graph
        self.joint = joint
        self.inputs = inputs
        self.in_spec = in_spec
        self.outputs = outputs
        self.out_spec = out_spec
        self._states = states
        self.kinds = kinds
        self.written = written
        self._constants = constants
        self.range_constraints = ranges
        self.guards = guards
        self.refusal = refusal
        self.aliases = aliases or {}
        self.example_inputs: Any = None

    # -- what it is -----------------------------------------------------------------------------

    @property
    def input_names(self) -> list[str]:
        """Names of the graph's inputs, in order."""
        names: list[str] = []
        prefix = {"parameter": "p_", "buffer": "b_", "temporary": "b_"}
        for name, kind in self.kinds.items():
            names.append(prefix[kind] + name.replace(".", "_"))
        names += [identifier(i.path) for i in self.inputs if i.dtype is not None]
        names += [f"c_{k}" for k in range(len(self._constants))]
        return names

    @property
    def graph(self) -> str:
        """The graph of inference as text."""
        return graph_text(self.traced, self.input_names)

    @property
    def graph_signature(self) -> ExportGraphSignature:
        """What the graph's inputs and outputs are."""
        names = iter(self.input_names)
        kinds = {"parameter": InputKind.PARAMETER}
        found = ExportGraphSignature()
        for name, kind in self.kinds.items():
            arg = TensorArgument(next(names))
            persistent = None if kind == "parameter" else kind == "buffer"
            what = kinds.get(kind, InputKind.BUFFER)
            found.input_specs.append(InputSpec(what, arg, name, persistent))
        for i in self.inputs:
            given: Any = (
                ConstantArgument(identifier(i.path), i.value)
                if i.dtype is None
                else TensorArgument(next(names))
            )
            found.input_specs.append(InputSpec(InputKind.USER_INPUT, given))
        for k in range(len(self._constants)):
            arg = TensorArgument(next(names))
            found.input_specs.append(InputSpec(InputKind.CONSTANT_TENSOR, arg, f"constant_{k}"))
        for k, out in enumerate(self.outputs):
            result: Any = TensorArgument(f"output_{k}")
            if isinstance(out, Value):
                result = ConstantArgument(f"output_{k}", out.value)
            found.output_specs.append(OutputSpec(OutputKind.USER_OUTPUT, result))
        for name in self.written:
            what_ = (
                OutputKind.PARAMETER_MUTATION
                if self.kinds[name] == "parameter"
                else OutputKind.BUFFER_MUTATION
            )
            arg = TensorArgument("new_" + name.replace(".", "_"))
            found.output_specs.append(OutputSpec(what_, arg, name))
        return found

    @property
    def state_dict(self) -> dict[str, Tensor]:
        """Parameters and saved buffers by qualified name; shared ones by each name."""
        found = {k: v for k, v in self._states.items() if self.kinds[k] != "temporary"}
        return found | {k: found[of] for k, of in self.aliases.items() if of in found}

    @property
    def constants(self) -> dict[str, Tensor]:
        """Tensors of the program itself."""
        return {f"constant_{k}": t for k, t in enumerate(self._constants)}

    @property
    def tensor_constants(self) -> dict[str, Tensor]:
        """Tensors of the program itself."""
        return self.constants

    @property
    def call_spec(self) -> CallSpec:
        """The structures of (args, kwargs) and of the result."""
        return CallSpec(self.in_spec, self.out_spec)

    def named_parameters(self) -> list[tuple[str, Tensor]]:
        """Parameters by qualified name."""
        return [(k, v) for k, v in self._states.items() if self.kinds[k] == "parameter"]

    def parameters(self) -> list[Tensor]:
        """The parameters."""
        return [v for _, v in self.named_parameters()]

    def named_buffers(self) -> list[tuple[str, Tensor]]:
        """Buffers by qualified name."""
        return [(k, v) for k, v in self._states.items() if self.kinds[k] != "parameter"]

    def buffers(self) -> list[Tensor]:
        """The buffers."""
        return [v for _, v in self.named_buffers()]

    def run_decompositions(self, decomp_table: Any = None) -> ExportedProgram:
        """The program in primitive operations: named ones are replaced by their bodies.

        Operations with graphs inside stay: a recurrence becomes a scan, which is one node.

        Args:
            decomp_table: names of operations (or rows) that are replaced; by default all. A
                mapping's keys are taken, its values are not looked at.

        Example:
            >>> from flambeau import nn, ones
            >>> from flambeau.export import export
            >>> program = export(nn.Linear(3, 2), (ones(4, 3),)).run_decompositions()
            >>> "matmul_biased" in program.graph
            True
        """
        chosen = None
        if decomp_table is not None:
            chosen = {getattr(getattr(x, "row", x), "name", x) for x in decomp_table}

        def stays(node: Node) -> bool:
            return node.op.calls or (chosen is not None and node.op.name not in chosen)

        def plain(traced: Traced) -> Traced:
            inputs = [n for n in traced.nodes if n.op.kind == "input"]
            outputs = list(dict.fromkeys((*traced.outputs, *inputs)))
            graph = Graph(list(traced.nodes), inputs, [(n, None) for n in outputs], 0)
            with traced.symbols:
                found = inline(graph, stays)
            made = dict(zip(outputs, (n for n, _ in found.outputs), strict=True))
            return Traced(
                found.nodes,
                [made[n] for n in traced.outputs],
                traced.inputs,
                traced.symbols,
                traced.draws,
            )

        joint = self.joint
        if joint is not None:
            joint = replace(joint, forward=plain(joint.forward), backward=plain(joint.backward))
        found = copy(self)
        found.traced, found.joint = plain(self.traced), joint
        return found

    def visualize(self, path: str | Path | None = None) -> str:
        """A picture of the graph as SVG: operations below what they read, with their results'
        shapes; parameters are named in the boxes. Resting on a box shows its whole statement.

        Args:
            path: where to write it too, for a browser.
        """
        text = self.graph.rstrip().split("\n")
        number: dict[Node, int] = {}
        boxes: list[Box] = []
        edges: list[tuple[int, int]] = []
        states = len(self.kinds)
        named: dict[Node, str] = {}
        with self.traced.symbols:
            for node, line in zip(self.traced.nodes, text, strict=False):
                if node.op.kind == "input" and not states <= node.attrs[0] < self.traced.inputs:
                    named[node] = list(self.kinds)[node.attrs[0]]
                    continue
                sources = dict.fromkeys(s for s in node.src if type(s) is Node)
                shown = [named[s] for s in sources if s in named]
                shape = ", ".join(map(value_text, node.shape))
                title = line.partition(" = ")[0] if node.op.kind == "input" else node.op.name
                if node.op is PICK:
                    title = f"result {node.attrs[0]}"
                colour = {"input": "#fdebd3", "composite": "#e6f5e6"}.get(node.op.kind, "#e8f1fb")
                lines = [*shown[:6], f"{node.dtype.name} [{shape}]"]
                edges += [(number[s], len(boxes)) for s in sources if s in number]
                number[node] = len(boxes)
                boxes.append(Box(title, lines, colour, line))
            for k, node in enumerate(self.traced.outputs):
                name = f"output {k}" if k < len(self.traced.outputs) - len(self.written) else (
                    f"new {self.written[k - len(self.traced.outputs)]}"
                )  # fmt: skip
                if node in number:
                    edges.append((number[node], len(boxes)))
                boxes.append(Box(name, [], "#fbe9ec"))
        picture = layered(boxes, edges)
        if path is not None:
            Path(path).write_text(picture, encoding="utf-8")
        return picture

    def __str__(self) -> str:
        shown = ", ".join(
            f"{low} <= {name}" + ("" if high is None else f" <= {high}")
            for name, (low, high) in self.range_constraints.items()
        )
        parts = ["ExportedProgram:", self.graph.rstrip(), "", str(self.graph_signature)]
        parts.append(f"# sizes\n{shown or 'all fixed'}")
        parts += [str(g) for g in self.guards]
        return "\n".join(parts)

    __repr__ = __str__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("Unable to call ExportedProgram directly. You should use `module()`.")

    def verify(self) -> None:
        """Check the graphs by the rules of the IR, for the sizes at hand.

        Raises:
            ExportError: a rule is broken, or inputs and results are not those that are named.
        """
        symbols = self.traced.symbols
        binding = symbols.at_hand[: len(symbols.names)]
        wanted = len(self.kinds) + sum(i.dtype is not None for i in self.inputs)
        if self.traced.inputs != wanted + len(self._constants):
            raise ExportError(f"the graph has {self.traced.inputs} inputs, not {wanted}")
        for name, first in self.aliases.items():
            if name in self.kinds or first not in self.kinds:
                raise ExportError(f"{name} is no further name of the state {first}")
        results = [o for o in self.outputs if not isinstance(o, Value)]
        if any(not 0 <= o < len(self.traced.outputs) for o in results):
            raise ExportError("there are other results than the graph gives")
        unknowns = symbols.unknowns_at(binding)
        given = [(t._shape, t.dtype) for t in self._states.values()]
        given += [(filled(i.shape, unknowns), i.dtype) for i in self.inputs if i.dtype is not None]
        given += [(t._shape, t.dtype) for t in self._constants]
        graphs = [self.traced, *([self.joint.forward] if self.joint is not None else [])]
        for graph in graphs:
            for node in graph.nodes[: len(given)]:
                shape, dtype = given[node.attrs[0]] if node.attrs else ((), None)
                if filled(node.shape, unknowns) != tuple(shape) or node.dtype is not dtype:
                    raise ExportError(f"input {node.attrs} of the graph is no {dtype}{shape}")
            graph.verify(binding)
        if self.joint is not None:
            self.joint.backward.verify(binding)
        for name, node in zip(self.written, self.traced.outputs[len(results) :], strict=True):
            state = self._states[name]
            if node.shape != state._shape or node.dtype is not state.dtype:
                raise ExportError(f"the new value of {name} is of another shape or dtype")

    validate = verify

    # -- running ----------------------------------------------------------------------------------

    def module(self, check_guards: bool = True) -> ExportedModule:
        """A module that runs the program, with states of its own (copies)."""
        return ExportedModule(self)

    def bind(self, leaves: Sequence[Any]) -> tuple[list[Tensor], list[int]]:
        """Check the user's inputs.

        Returns:
            The tensors among them, and the symbols' values.

        Raises:
            RuntimeError: an input of another dtype or size, or another value.
        """
        tensors: list[Tensor] = []
        known: dict[str, int] = {}
        symbols = self.traced.symbols
        later: list[tuple[Input, int, Any, int]] = []
        for wanted, given in zip(self.inputs, leaves, strict=True):
            if wanted.dtype is None:
                if type(given) is not type(wanted.value) or given != wanted.value:
                    raise RuntimeError(
                        f"Expected input {wanted.path} to be equal to {wanted.value!r}, which the "
                        f"program was exported for, but got {given!r}"
                    )
                continue
            _check_tensor(wanted, given)
            tensors.append(given)
            for d, (size, n) in enumerate(zip(wanted.shape, given.shape, strict=True)):
                name = _symbol_of(size)
                if name is not None and name not in known:
                    known[name] = int(n)
                else:
                    later.append((wanted, d, size, int(n)))
        # sizes that follow from a symbol which stands nowhere alone
        for wanted, d, size, n in later:
            _solve(wanted, d, size, n, known)
        binding = [known[name] for name in symbols.names]
        unknowns = symbols.unknowns_at(binding)
        for wanted, d, size, n in later:
            if filled(size, unknowns) != n:
                raise RuntimeError(
                    f"Expected input {wanted.path}.shape[{d}] to be equal to "
                    f"{filled(size, unknowns)}{_because(size, symbols)}, but got {n}"
                )
        for name, n in zip(symbols.names, binding, strict=True):
            low, high = self.range_constraints[name]
            if n < low or (high is not None and n > high):
                bound = f">= {low}" if n < low else f"<= {high}"
                raise RuntimeError(f"Expected the size {name} to be {bound}, but got {n}")
        # what was asked of sizes is about those from 2 on: a program for them is one for 1
        asked = [max(n, SMALLEST) for n in binding]
        for guard in self.guards:
            if not guard.holds(guard.expression.space.unknowns_at(asked)):
                raise RuntimeError(f"Guard failed: {guard}, for sizes {known}")
        return tensors, binding

    def run(self, states: Mapping[str, Tensor], leaves: Sequence[Any]) -> list[Any]:
        """The leaves of the result, for states and the user's inputs; states are written."""
        tensors, binding = self.bind(leaves)
        given = [*(states[name] for name in self.kinds), *tensors, *self._constants]
        trains = self.joint is not None or self.refusal is not None
        if trains and modes.grad and any(t.requires_grad for t in given):
            found = _Training.apply(self, binding, *given)
        else:
            found = _tensors(self.traced.over([t._node() for t in given], binding), given)
        count = len(found) - len(self.written)
        with no_grad():
            for name, value in zip(self.written, found[count:], strict=True):
                store(states[name], value)
        return [o.value if isinstance(o, Value) else found[o] for o in self.outputs]


def _tensors(nodes: list[Node], like: Sequence[Tensor]) -> list[Tensor]:
    device = like[0]._cell.device if like else cpu
    with record.tracing():  # nothing runs until every result has its tensor
        return [make(n, device) for n in nodes]


class _Training(Function):
    """A run whose results have gradients."""

    @staticmethod
    def forward(ctx: Any, program: ExportedProgram, binding: list[int], *given: Tensor) -> Any:
        joint = program.joint
        ctx.refusal = program.refusal
        if joint is None:
            return tuple(_tensors(program.traced.over([t._node() for t in given], binding), given))
        results = _tensors(joint.forward.over([t._node() for t in given], binding), given)
        count = len(program.traced.outputs)
        ctx.joint, ctx.binding, ctx.count = joint, binding, len(given)
        ctx.save_for_backward(*results[count:])
        found = tuple(results[:count])
        ctx.mark_non_differentiable(*(t for k, t in enumerate(found) if k not in joint.cotangents))
        return found

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        if ctx.refusal is not None:
            raise NoGradient(ctx.refusal)
        joint: Joint = ctx.joint
        saved = list(ctx.saved_tensors)
        given = saved + [cotangents[k] for k in joint.cotangents]
        found = _tensors(joint.backward.over([t._node() for t in given], ctx.binding), given)
        grads: list[Any] = [None] * ctx.count
        for k, g in zip(joint.gradients, found, strict=True):
            grads[k] = g
        return (None, None, *grads)


class ExportedModule(Module):
    """Runs an exported program; its states have the names that they had.

    Args:
        program: whose states are copied.
    """

    def __init__(self, program: ExportedProgram) -> None:
        """Copy the states."""
        super().__init__()
        self.__dict__["program"] = program
        own: dict[str, Any] = {}
        for name, value in program._states.items():
            copied = value.detach().clone()
            if program.kinds[name] == "parameter":
                copied = Parameter(copied, value.requires_grad)
            own[name] = copied
        for name in (*own, *program.aliases):
            first = program.aliases.get(name, name)
            owner: Module = self
            *path, last = name.split(".")
            for part in path:
                if part not in owner._modules:
                    owner.add_module(part, Module())
                owner = owner._modules[part]
            if program.kinds[first] == "parameter":
                owner.register_parameter(last, own[first])
            else:
                owner.register_buffer(last, own[first], persistent=program.kinds[first] == "buffer")

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The program's result.

        Raises:
            RuntimeError: inputs of another structure, dtype or size than it was exported for.
        """
        program = self.program
        leaves, spec = tree_flatten((args, kwargs))
        if spec != program.in_spec:
            raise RuntimeError(
                f"Expected inputs of the structure {program.in_spec}, but got {spec}"
            )
        states = dict(self.named_parameters(remove_duplicate=False))
        states.update(self.named_buffers(remove_duplicate=False))
        return tree_unflatten(program.run(states, leaves), program.out_spec)

    def train(self, mode: bool = True) -> ExportedModule:
        """Refused: what training changes is part of the program."""
        raise NotImplementedError("Calling train() is not supported yet.")

    def eval(self) -> ExportedModule:
        """Refused: what training changes is part of the program."""
        raise NotImplementedError("Calling eval() is not supported yet.")

    def extra_repr(self) -> str:
        """The number of operations."""
        return f"{len(self.program.traced.nodes)} nodes"


# -- inputs ----------------------------------------------------------------------------------------


def identifier(path: str) -> str:
    """A name for an input, from its place."""
    return "".join(c if c.isalnum() else "_" for c in path).strip("_") or "x"


def _check_tensor(wanted: Input, given: Any) -> None:
    if not isinstance(given, Tensor):
        raise RuntimeError(f"Expected input {wanted.path} to be a tensor, but got {given!r}")
    if given.dtype is not wanted.dtype:
        raise RuntimeError(
            f"Expected input {wanted.path} to be of dtype {wanted.dtype}, but got {given.dtype}"
        )
    if given.dim() != len(wanted.shape):
        raise RuntimeError(
            f"Expected input {wanted.path} to have {len(wanted.shape)} dimensions, but got "
            f"{given.dim()}"
        )


def linear_size(size: Any) -> tuple[str, int, int] | None:
    """(symbol, times, more) of an input's size; None of a number."""
    if type(size) is int:
        return None
    terms = dict(size.expression.terms)
    more = terms.pop((), 0)
    ((monomial, times),) = terms.items()
    (unknown,) = monomial
    return size.expression.space.unknowns[unknown].name, times, more


def _symbol_of(size: Any) -> str | None:
    """The symbol that a size is, if it is one alone."""
    linear = linear_size(size)
    return linear[0] if linear is not None and linear[1:] == (1, 0) else None


def _solve(wanted: Input, d: int, size: Any, n: int, known: dict[str, int]) -> None:
    linear = linear_size(size)
    if linear is None or linear[0] in known:
        return
    name, times, more = linear
    value, rest = divmod(n - more, times)
    if rest or value < 0:
        raise RuntimeError(
            f"Expected input {wanted.path}.shape[{d}] to be {size.expression}, but got {n}"
        )
    known[name] = value


def _because(size: Any, symbols: Symbols) -> str:
    return "" if type(size) is int else f" ({size.expression})"


__all__ = ["ExportedModule", "ExportedProgram", "Input", "Joint", "identifier", "linear_size"]
