"""Exported programs as ONNX models: `torch.onnx.export`."""

from __future__ import annotations

import inspect
import os
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flambeau.export.dims import Dim, always
from flambeau.export.exporting import export as export_program
from flambeau.export.onnx import control, elementwise, indexing, layers, quantized, recurrent
from flambeau.export.onnx.builder import Builder, OnnxExporterError, element, library
from flambeau.export.onnx.cells import cell_of, reason
from flambeau.export.onnx.running import check, run, session
from flambeau.export.program import ExportedProgram, identifier, linear_size
from flambeau.export.trace import Value
from flambeau.ir.graph import INPUT, PICK, Node, below, origin_of, unwatch_nodes, watch_nodes
from flambeau.nn.module import Module
from flambeau.ops.table import expand_composite
from flambeau.runtime.host import array_of
from flambeau.tensor import Tensor
from flambeau.version import __version__

#: The operators' versions that are written, and the version of the format of each.
OPSETS = {
    18: 8, 19: 9, 20: 9, 21: 10, 22: 10, 23: 11, 24: 12, 25: 13, 26: 13, 27: 13, 28: 14,
}  # fmt: skip
DEFAULT_OPSET = 23
_PACKAGE = str(Path(__file__).parents[2])
_FAMILIES = (control, elementwise, indexing, layers, quantized, recurrent)
#: Where the functions of models are, and bodies of fewer nodes than this are not made functions.
_DOMAIN, _SHORT = "pkg.flambeau", 4
#: Initializers of more bytes than this together do not fit in the file, with room for the rest.
_MOST_INSIDE = (1 << 31) - (1 << 20)


class TrainingMode(IntEnum):
    """What becomes of a module's mode while it is traced."""

    EVAL = 0
    PRESERVE = 1
    TRAINING = 2


class _Exporting(threading.local):
    now = False


_exporting = _Exporting()


def is_in_onnx_export() -> bool:
    """Whether a module is traced for `export` now, in this thread."""
    return _exporting.now


class ONNXProgram:
    """A model in ONNX's form, and the program that it was made from.

    Args:
        model: onnx_ir's model.
        exported_program: the program.
    """

    def __init__(self, model: Any, exported_program: ExportedProgram) -> None:
        self.model = model
        self.exported_program = exported_program
        self._session: Any = None

    @property
    def model_proto(self) -> Any:
        """The model as `onnx.ModelProto` (needs the package onnx)."""
        return library().to_proto(self.model)

    def optimize(self) -> None:
        """Remove nodes and initializers that nothing reads, and join equal nodes, in place."""
        from onnx_ir.passes import common

        common.CommonSubexpressionEliminationPass()(self.model)
        common.RemoveUnusedNodesPass()(self.model)
        self.release()

    def rename_axes(self, rename_mapping: Mapping[Any, str]) -> None:
        """Give open sizes of inputs and results other names: {name: its new one}."""
        ir = library()
        names = {getattr(k, "value", k): v for k, v in rename_mapping.items()}
        for value in (*self.model.graph.inputs, *self.model.graph.outputs):
            if value.shape is not None:
                sizes = [d if isinstance(d, int) else d.value for d in value.shape]
                value.shape = ir.Shape([names.get(d, d) for d in sizes])
        self.release()

    def apply_weights(self, state_dict: Mapping[str, Tensor]) -> None:
        """Replace weights by their names.

        Raises:
            ValueError: one of another shape or dtype, or that the model has not.
        """
        ir, initializers = library(), self.model.graph.initializers
        for name, t in state_dict.items():
            old = initializers[name].const_value if name in initializers else None
            given = t.detach().contiguous()
            if old is None or tuple(old.shape) != given._shape or old.dtype != element(t.dtype):
                raise ValueError(f"the model has no weight {name!r} like {t.type()} {t._shape}")
            array = np.array(given._array())
            initializers[name].const_value = ir.Tensor(array, dtype=element(t.dtype), name=name)
        self.release()

    def initialize_inference_session(self, initializer: Callable[[bytes], Any] = session) -> None:
        """Make the session that calls run in.

        Args:
            initializer: the model's bytes -> a session of onnxruntime.
        """
        self._session = initializer(library().to_proto(self.model).SerializeToString())

    def release(self) -> None:
        """Let go of the session; a call makes another."""
        self._session = None

    def save(
        self,
        destination: str | os.PathLike[str],
        *,
        include_initializers: bool = True,
        keep_initializers_as_inputs: bool = False,
        external_data: bool | None = None,
    ) -> None:
        """Write the model.

        Args:
            destination: a path.
            include_initializers: whether weights are written; without them they are inputs.
            keep_initializers_as_inputs: whether a runtime may be given other weights.
            external_data: whether weights stand in a file beside it, with `.data` added to the
                name; by default where they are too large for one file (2 GiB).

        Raises:
            OSError: the file cannot be written.
        """
        ir, model = library(), self.model
        initializers = list(model.graph.initializers.values())
        inputs = list(model.graph.inputs)
        size = sum(v.const_value.nbytes for v in initializers)
        path = Path(destination)
        try:
            if keep_initializers_as_inputs or not include_initializers:
                model.graph.inputs.extend(initializers)
            if not include_initializers:
                model.graph.initializers.clear()
            beside = size > _MOST_INSIDE if external_data is None else external_data
            ir.save(model, path, external_data=path.name + ".data" if beside else None)
        finally:
            for value in initializers:
                model.graph.initializers[value.name] = value
            del model.graph.inputs[len(inputs) :]

    def __call__(self, *args: Any, **kwargs: Any) -> Sequence[Tensor]:
        """Run the model in onnxruntime, which must be installed.

        Args:
            args, kwargs: as for the program.

        Returns:
            The results, as tensors.
        """
        if self._session is None:
            self.initialize_inference_session()
        return run(self._session, args, kwargs)

    def __repr__(self) -> str:
        return str(self.model)


# -- writing a program -----------------------------------------------------------------------------


class _Function(NamedTuple):
    """A function of the model.

    Attributes:
        made: onnx_ir's function.
        sizes: expressions that it is given behind the row's tensors.
    """

    made: Any
    sizes: list[Any]


class _Writer:
    """Writes the nodes of a program, composites without a cell by their bodies.

    Args:
        builder: of the graph.
        lines: of the program, by the origins of nodes.
        inlines: whether bodies stand where they are called, rather than in functions.

    Attributes:
        functions: of the model, by what they are of; None for those that are too small.
        refused: rows that cannot be written, and why.
    """

    def __init__(self, builder: Builder, lines: Mapping[int, str], inlines: bool = True) -> None:
        self.b = builder
        self.lines = lines
        self.inlines = inlines
        builder.write = self.write
        self.functions: dict[Any, _Function | None] = {}
        self.refused: dict[str, str] = {}

    def write(self, nodes: Sequence[Node]) -> None:
        """Write nodes, which come after what they read."""
        b = self.b
        for node in nodes:
            if node.op is PICK:
                b.used.setdefault(node.src[0], set()).add(node.attrs[0])
        for node in nodes:
            if node.op is PICK or b.has(node):
                continue
            if node.buffer is not None:
                b.set(node, _constant(b, node))
                continue
            b.row = node.op.name
            b.line = self.lines.get(origin_of(node), b.line)
            try:
                self.node(node)
            except OnnxExporterError as error:
                self.refuse(node, str(error))

    def node(self, node: Node) -> None:
        """Write a node: by its cell, or by its body, or note that it cannot be."""
        b = self.b
        found = cell_of(node, b.opset, b.used.get(node, set()))
        if found is not None:
            self.results(node, found.write(b, node))
        elif node.op.kind == "composite":
            if self.inlines or not self.called(node):
                self.body(node)
        else:
            self.refuse(node, reason(node.op) or f"this form has no operator in opset {b.opset}")

    def refuse(self, node: Node, why: str) -> None:
        """Note why a row cannot be written, and where it was recorded; what reads it goes on."""
        where = f" ({self.b.line})" if self.b.line else ""
        self.refused.setdefault(node.op.name, why + where)
        self.results(node, tuple(self.b.new("none") for _ in range(8)))

    def body(self, node: Node) -> None:
        """Write a composite's body."""
        outs = expand_composite(node)
        sources = {s for s in node.src if type(s) is Node}
        b = self.b
        line = b.line
        self.write([n for n in below(outs, sources) if n not in sources])
        b.line = line
        for k, out in enumerate(outs):
            b.result(node, k, out)

    def called(self, node: Node) -> bool:
        """Write a composite as a call of a function, one for all calls that are alike; whether its
        body is long enough for that."""
        b = self.b
        used = sorted(b.used.get(node) or {0})
        given = [s for s in node.src if type(s) is Node]
        specs = tuple((s.shape, s.dtype) if type(s) is Node else s for s in node.src)
        key = node.op, node.attrs, specs, tuple(used)
        if key not in self.functions:
            self.functions[key] = self.function(node, given, used)
        function = self.functions[key]
        if function is None:
            return False
        values = [*map(b.value, given), *map(b.expression, function.sizes)]
        b.row = node.op.name
        made = function.made
        found = b.op(made.name, *values, outputs=len(used), domain=made.domain)
        for k, value in zip(used, found if isinstance(found, tuple) else (found,), strict=True):
            b.result(node, k, value)
        return True

    def function(self, node: Node, given: list[Node], used: list[int]) -> _Function | None:
        """A composite's body as a function of its tensors and of the sizes that it computes with;
        None if it is short."""
        b, row, line = self.b, self.b.row, self.b.line
        stand = [Node(INPUT, (), (k,), s.shape, s.dtype) for k, s in enumerate(given)]
        names = iter(stand)
        src = tuple(next(names) if type(s) is Node else s for s in node.src)
        twin = Node(node.op, src, node.attrs, node.shape, node.dtype)
        inputs = [b.new("input", s.dtype, s.shape) for s in stand]

        def body() -> list[Any]:
            for s, value in zip(stand, inputs, strict=True):
                b.set(s, value)
            outs = expand_composite(twin)
            self.write([n for n in below(outs, set(stand)) if n not in stand])
            found: list[Any] = []
            for k in used:
                value = b.value(outs[k])
                again = value in found or value in inputs
                found.append(b.op("Identity", value) if again else value)
            return found

        nodes, results, sizes = b.function(body)
        b.row, b.line = row, line
        nodes = _needed(nodes, results)
        if sum(n.op_type != "Constant" for n in nodes) < _SHORT or not given:
            return None
        graph = b.ir.Graph(
            [*inputs, *(value for _, value in sizes)],
            results,
            nodes=nodes,
            name=node.op.name,
            opset_imports={"": b.opset, _DOMAIN: 1},
        )
        name = f"{node.op.name.strip('_')}_{len(self.functions)}"
        made = b.ir.Function(_DOMAIN, name, graph=graph, attributes=[])
        return _Function(made, [e for e, _ in sizes])

    def results(self, node: Node, found: Any) -> None:
        """Note what a cell has written."""
        b = self.b
        if isinstance(found, tuple):
            for k, value in enumerate(found):
                if value is not None:
                    b.result(node, k, value)
        elif found is not None:
            b.set(node, found)


def _constant(b: Builder, node: Node) -> Any:
    """A tensor that a body brings along."""
    array = array_of(node.buffer.ptr, node.shape, node.dtype)
    return b.constant(np.array(array), node.dtype)


def _linked(b: Builder, names: Sequence[str], given: Sequence[Any]) -> None:
    """How symbols are computed from the shapes of inputs."""
    for value, shape in zip(names, given, strict=True):
        for d, size in enumerate(shape):
            found = linear_size(size)
            if found is not None:
                b.symbol(found[0], _measured(b, value, d, found[1], found[2]))


def _measured(b: Builder, value: Any, d: int, times: int, more: int) -> Callable[[], Any]:
    def make() -> Any:
        size = b.op("Shape", value, start=d, end=d + 1, called="size")
        if more:
            size = b.op("Sub", size, b.ints([more]), called="size")
        return size if times == 1 else b.op("Div", size, b.ints([times]), called="size")

    return make


def _inputs(
    b: Builder, program: ExportedProgram, names: Sequence[str]
) -> tuple[list[Any], dict[int, Any]]:
    """The model's inputs, and the value of each input of the graph (states when they are read)."""
    values: list[Any] = []
    made: dict[int, Any] = {}
    number = len(program.kinds)
    wanted = [i for i in program.inputs if i.dtype is not None]
    for k, given in enumerate(wanted):
        name = names[k] if k < len(names) else identifier(given.path)
        assert given.dtype is not None
        try:
            made[number] = b.new(name, given.dtype, given.shape)
        except OnnxExporterError as error:
            raise OnnxExporterError(f"the input {name}: {error}") from None
        values.append(made[number])
        number += 1
    _linked(b, values, [i.shape for i in wanted])
    states: list[tuple[str, Tensor]] = [*program._states.items(), *program.constants.items()]
    places = [*range(len(program.kinds)), *range(number, number + len(program.constants))]
    for place, (name, t) in zip(places, states, strict=True):
        made[place] = _state(b, name, t)
    return values, made


def _state(b: Builder, name: str, t: Tensor) -> Callable[[], Any]:
    def make() -> Any:
        own = t.detach().contiguous()
        return b.state(name, np.array(own._array()), t.dtype)

    return make


def build(
    program: ExportedProgram,
    opset: int = DEFAULT_OPSET,
    input_names: Sequence[str] = (),
    output_names: Sequence[str] = (),
    lines: Mapping[int, str] | None = None,
    inline_functions: bool = False,
) -> Any:
    """A program as onnx_ir's model.

    Args:
        program: what is written.
        opset: version of ONNX's operators, one of `OPSETS`.
        input_names, output_names: of the first inputs and results.
        lines: of the program that was traced, by the origins of its nodes.
        inline_functions: whether bodies of rows stand in the graph, rather than in functions.

    Raises:
        OnnxExporterError: rows that ONNX has nothing for, which are named; or sizes that its form
            would fix.
        ValueError: another opset.
    """
    if opset not in OPSETS:
        raise ValueError(
            f"Unsupported ONNX opset version: {opset}; it must be {min(OPSETS)} to {max(OPSETS)}"
        )
    ir, traced = library(), program.traced
    b = Builder(opset, {})
    asked = set(traced.symbols.guards)
    with traced.symbols:
        inputs, given = _inputs(b, program, input_names)
        for node in traced.nodes:
            if node.op.kind == "input":
                value = given[node.attrs[0]]
                if callable(value):
                    b.later(node, value)
                else:
                    b.set(node, value)
        writer = _Writer(b, lines or {}, inline_functions)
        writer.write([n for n in traced.nodes if n.op.kind != "input"])
        if writer.refused:
            shown = "\n".join(f"  {name}: {why}" for name, why in sorted(writer.refused.items()))
            raise OnnxExporterError(f"these operations cannot be written as ONNX:\n{shown}")
        outputs = _outputs(b, program, output_names)
    guards, ranges = traced.symbols.guards, program.range_constraints
    new = [guards.pop(key) for key in list(guards) if key not in asked]
    more = [g for g in new if not always(g, ranges)]
    if more:
        raise OnnxExporterError(
            "the program's ONNX form is right only where " + ", ".join(map(str, more))
        )
    kept = _needed(b.nodes, outputs)
    functions = _called(writer.functions.values(), kept)
    read = {id(v) for n in kept for v in _read(n)} | {id(v) for v in outputs}
    graph = ir.Graph(
        inputs,
        outputs,
        nodes=kept,
        initializers=[v for v in b.initializers.values() if id(v) in read],
        opset_imports={"": opset, _DOMAIN: 1} if functions else {"": opset},
        name="main_graph",
    )
    return ir.Model(
        graph,
        ir_version=OPSETS[opset],
        producer_name="flambeau",
        producer_version=__version__,
        functions=functions,
    )


def _called(functions: Iterable[_Function | None], nodes: Sequence[Any]) -> list[Any]:
    """The functions that nodes call, or that those call; last made first."""
    wanted = {name for n in nodes for name in _calls(n)}
    found = []
    for f in reversed([f for f in functions if f is not None]):
        if f.made.name in wanted:
            found.append(f.made)
            wanted |= {name for n in f.made for name in _calls(n)}
    return found


def _calls(node: Any) -> list[str]:
    """The functions that a node calls, the graphs inside it included."""
    inner = [n for graph in _graphs(node) for n in graph]
    own = [node.op_type] if node.domain == _DOMAIN else []
    return own + [name for n in inner for name in _calls(n)]


def _graphs(node: Any) -> list[Any]:
    """The graphs inside a node."""
    kind = library().AttributeType.GRAPH
    return [a.value for a in node.attributes.values() if a.type == kind]


def _read(node: Any) -> list[Any]:
    """What a node reads, the graphs inside it included."""
    found = [v for v in node.inputs if v is not None]
    for graph in _graphs(node):
        for inner in graph:
            found += _read(inner)
    return found


def _needed(nodes: Sequence[Any], outputs: Sequence[Any]) -> list[Any]:
    """The nodes that the outputs are made of."""
    wanted = {id(v) for v in outputs}
    kept = []
    for node in reversed(nodes):
        if any(id(v) in wanted for v in node.outputs):
            kept.append(node)
            wanted.update(id(v) for v in _read(node))
    return kept[::-1]


def _outputs(b: Builder, program: ExportedProgram, names: Sequence[str]) -> list[Any]:
    """The model's results: the program's, then new values of the states that it writes."""
    found: list[Any] = []
    nodes = program.traced.outputs
    shown = [o for o in program.outputs if not isinstance(o, Value)]
    titles = [*names[: len(shown)]]
    titles += [
        f"output_{k}" if len(shown) > 1 else "output" for k in range(len(titles), len(shown))
    ]
    titles += ["new_" + name for name in program.written]
    chosen = [nodes[o] for o in shown] + list(
        nodes[len(nodes) - len(program.written) :][: len(program.written)]
    )
    b.row = ""
    for title, node in zip(titles, chosen, strict=True):
        value = b.value(node)
        if value.producer() is None or any(value is v for v in found):
            value = b.op("Identity", value, called=title)
        else:
            value.name = b.name(title)
        b.describe(value, node.dtype, node.shape)
        found.append(value)
    return found


# -- torch.onnx.export -----------------------------------------------------------------------------


def export(
    model: Module | ExportedProgram | Callable[..., Any],
    args: tuple[Any, ...] = (),
    f: str | os.PathLike[str] | None = None,
    *,
    kwargs: dict[str, Any] | None = None,
    export_params: bool = True,
    verbose: bool | None = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    opset_version: int | None = None,
    dynamo: bool = True,
    external_data: bool | None = None,
    dynamic_shapes: Any = None,
    custom_translation_table: Any = None,
    report: bool = False,
    optimize: bool = True,
    verify: bool = False,
    profile: bool = False,
    dump_exported_program: bool = False,
    artifacts_dir: str | os.PathLike[str] = ".",
    fallback: bool = False,
    keep_initializers_as_inputs: bool = False,
    dynamic_axes: Mapping[str, Any] | None = None,
    training: Any = None,
    operator_export_type: Any = None,
    do_constant_folding: bool = True,
    custom_opsets: Mapping[str, int] | None = None,
    export_modules_as_functions: Any = False,
    autograd_inlining: bool = True,
    inline_functions: bool = False,
) -> ONNXProgram:
    """Write a module or an exported program as an ONNX model.

    Args:
        model: a module, which is traced in evaluation mode, or an `ExportedProgram`.
        args: example inputs of a module; a tensor stands for a tuple of it.
        f: where the model is written; None: nowhere.
        kwargs: example inputs by name.
        export_params: whether weights are written; otherwise they are inputs.
        verbose: whether the model is printed.
        input_names: of the model's inputs; by default those of `forward`.
        output_names: of its results; by default `output`, or `output_0` and so on.
        opset_version: of ONNX's operators, 18 to 28; by default 23.
        external_data: whether weights stand in a file beside `f`; by default where they are too
            large for one.
        dynamic_shapes: sizes that may change, as in `flambeau.export.export`.
        dynamic_axes: the same as {name: {dimension: name of the size}} or {name: [dimensions]}.
        optimize: whether equal nodes are joined.
        verify: whether the model is run in onnxruntime and compared.
        keep_initializers_as_inputs: whether a runtime may be given other weights.
        training: `TrainingMode.TRAINING` or `PRESERVE` leave the module's mode, which otherwise is
            evaluation.
        custom_translation_table: refused; a row's operators are its cell.
        dynamo, report, profile, dump_exported_program, artifacts_dir, fallback,
            operator_export_type, do_constant_folding, custom_opsets,
            export_modules_as_functions, autograd_inlining: accepted, without effect.
        inline_functions: whether the bodies of rows that ONNX has no operator for stand in the
            graph; otherwise they are functions of the model, one for all calls that are alike.

    Returns:
        The model, with the program that it was made from.

    Raises:
        OnnxExporterError: operations that ONNX has nothing for, which are named; then nothing is
            written.
        ExportError: what `flambeau.export.export` refuses.

    Example:
        >>> from flambeau import nn, ones
        >>> model = export(nn.Linear(3, 2), (ones(4, 3),), dynamic_axes={"input": {0: "batch"}})
        >>> [node.op_type for node in model.model.graph]
        ['Gemm']
    """
    names = list(input_names or ())
    lines: dict[int, str] = {}
    if custom_translation_table:
        raise NotImplementedError("custom_translation_table: rows have their cells in flambeau")
    if isinstance(model, ExportedProgram):
        program = model
    else:
        if not isinstance(model, Module):
            raise TypeError(f"Expected a torch.nn.Module or an ExportedProgram, got {type(model)}")
        args = (args,) if isinstance(args, Tensor) else tuple(args)
        titles = _titles(model, args, kwargs or {})
        if dynamic_axes and dynamic_shapes is None:
            dynamic_shapes = _from_axes(model, args, kwargs or {}, dynamic_axes, names)
        with _Lines(lines):
            program = _traced(model, args, kwargs, dynamic_shapes, training)
        given = [titles(i.path) for i in program.inputs if i.dtype is not None]
        names += given[len(names) :]
    made = ONNXProgram(
        build(
            program,
            opset_version or DEFAULT_OPSET,
            names,
            list(output_names or ()),
            lines,
            inline_functions,
        ),
        program,
    )
    if optimize:
        made.optimize()
    if verbose:
        print(made)
    if verify:
        check(made.model, program)
    if f is not None:
        made.save(
            f,
            include_initializers=export_params,
            keep_initializers_as_inputs=keep_initializers_as_inputs,
            external_data=external_data,
        )
    return made


class _Lines:
    """While inside, the lines of user code that record nodes are noted.

    Args:
        found: `order` of a node -> file and line, which are added.
    """

    def __init__(self, found: dict[int, str]) -> None:
        self.found = found

    def __enter__(self) -> None:
        watch_nodes(self._made)

    def __exit__(self, *exc: object) -> None:
        unwatch_nodes(self._made)

    def _made(self, node: Node) -> None:
        frame = sys._getframe(2)
        while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
            frame = frame.f_back
        self.found[node.order] = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"


def _traced(model: Module, args: Any, kwargs: Any, dynamic: Any, training: Any) -> ExportedProgram:
    """The module as a program, in evaluation mode unless asked otherwise."""
    keep = getattr(training, "name", training) in ("TRAINING", "PRESERVE")
    before, _exporting.now = _exporting.now, True
    modes = {m: m.training for m in model.modules()}
    needs = [p for p in model.parameters() if p.requires_grad]
    try:
        if not keep:
            model.eval()
        for p in needs:  # a model for inference has no gradients to trace
            p.requires_grad_(False)
        return export_program(model, args, kwargs, dynamic_shapes=dynamic)
    finally:
        _exporting.now = before
        for p in needs:
            p.requires_grad_(True)
        for m, mode in modes.items():
            m.training = mode


def _bound(model: Module, args: Any, kwargs: Any) -> list[str]:
    """The name in `forward` of each positional argument."""
    found: list[str] = []
    for name, p in inspect.signature(model.forward).parameters.items():
        if p.kind is p.VAR_POSITIONAL:
            found += [f"{name}_{k}" for k in range(len(args) - len(found))]
        elif p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD):
            found.append(name)
    return found


def _titles(model: Module, args: Any, kwargs: Any) -> Callable[[str], str]:
    """What an input is called, from its place (`args[0]`)."""
    names = _bound(model, args, kwargs)

    def title(path: str) -> str:
        where, _, rest = path.partition("]")
        kind, _, key = where.partition("[")
        first = names[int(key)] if kind == "args" and int(key) < len(names) else key.strip("'\"")
        return identifier(first + rest)

    return title


def _from_axes(model: Module, args: Any, kwargs: Any, axes: Mapping[str, Any], names: Any) -> Any:
    """`dynamic_axes` as `dynamic_shapes`: by name, or by position where inputs are named anew."""
    bound = _bound(model, args, kwargs)[: len(args)]
    sizes: dict[str, Any] = {}

    def of(name: str) -> Any:
        given = axes.get(name)
        if given is None:
            return None
        if isinstance(given, Mapping):
            return {d: sizes.setdefault(n, Dim(n)) for d, n in given.items()}
        return dict.fromkeys(given, Dim.AUTO)

    spec = []
    for k, name in enumerate(bound):
        shown = names[k] if k < len(names) else name
        spec.append(of(shown) or of(name))
    return tuple(spec) + tuple(of(k) for k in kwargs)


__all__ = [
    "DEFAULT_OPSET",
    "OPSETS",
    "ONNXProgram",
    "TrainingMode",
    "build",
    "export",
    "is_in_onnx_export",
]
