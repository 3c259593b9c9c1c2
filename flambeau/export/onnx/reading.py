"""ONNX models as exported programs: a model is a module that does what its nodes say, and traced.

Note [Known values]
ONNX computes sizes by operators on tensors (Shape, Gather, Concat, then Reshape). While a model is
traced these are not tensors but arrays of Python integers, symbolic where a size is open; what is
computed from them by arithmetic stays one. They become tensors where an operator needs one.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

import flambeau
from flambeau.dtype import ALL, int64
from flambeau.dtype import dtype as DType
from flambeau.export.dims import Dim, ExportError
from flambeau.export.exporting import program_of
from flambeau.export.onnx.builder import ELEMENTS, library
from flambeau.export.program import ExportedProgram, identifier
from flambeau.nn.module import Module
from flambeau.nn.parameter import Parameter
from flambeau.tensor import Tensor

#: ONNX's element type -> dtype.
_DTYPES = {ELEMENTS[d.name]: d for d in ALL if d.name in ELEMENTS}
#: Initializers of integers with at most so many elements may be sizes.
_KNOWN = 1024
#: Sizes that open dimensions are traced with.
_EXAMPLES = (5, 7, 11, 13, 17, 19)
_FAILURES = (
    ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, NotImplementedError,
    OSError, RecursionError, RuntimeError, TypeError, ValueError,
)  # fmt: skip


class OnnxImportError(ExportError):
    """A model that cannot be read."""


class Known:
    """Numbers that are known while a model is traced: Note [Known values].

    Args:
        array: of Python integers (or of numbers that NumPy has), 0-d or more.
        dtype: what they are as a tensor.
    """

    def __init__(self, array: Any, dtype: DType = int64) -> None:
        self.array = np.empty((), object) if isinstance(array, int) else np.asarray(array)
        if isinstance(array, int):  # NumPy would ask a symbolic one for its value
            self.array[()] = array
        self.dtype = dtype

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return self.array.ndim


#: Operator -> what it does: (node, *values) -> value or tuple.
OPERATORS: dict[str, Callable[..., Any]] = {}
#: Operator -> places of inputs that are numbers, though they are floats: no weights.
NUMBERS: dict[str, tuple[int, ...]] = {}


def operator(
    *names: str, numbers: tuple[int, ...] = ()
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare what operators of ONNX's own domain do.

    Args:
        names: of the operators.
        numbers: places of inputs that are floats and no weights.
    """

    def declare(call: Callable[..., Any]) -> Callable[..., Any]:
        for name in names:
            OPERATORS[name] = call
            NUMBERS[name] = numbers
        return call

    return declare


class Node:
    """A node as operators see it.

    Args:
        node: onnx_ir's.
        opset: version of the operators.

    Attributes:
        scope: the values that graphs inside it see.
    """

    def __init__(self, node: Any, opset: int) -> None:
        self.kind = node.op_type
        self.name = node.name or ""
        self.opset = opset
        self.inputs = [None if v is None else v.name for v in node.inputs]
        self.outputs = [v.name for v in node.outputs]
        self.scope: Mapping[str, Any] = {}
        self._attributes = {
            k: Inner(a.value, opset) if hasattr(a.value, "inputs") else a.value
            for k, a in node.attributes.items()
        }

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute."""
        return self._attributes.get(name, default)


def ints(value: Any) -> list[Any]:
    """The integers of a known value.

    Raises:
        OnnxImportError: it depends on the values of inputs.
    """
    if not isinstance(value, Known):
        raise OnnxImportError("a shape or place depends on the values of inputs")
    return [n if isinstance(n, int) else int(n) for n in value.array.reshape(-1).tolist()]


def number(value: Any) -> Any:
    """The one number of a known value."""
    if isinstance(value, Known) and value.array.size == 1:
        return value.array.reshape(-1).tolist()[0]
    raise OnnxImportError("a number depends on the values of inputs")


def tensor(value: Any) -> Tensor:
    """A value as a tensor."""
    if isinstance(value, Tensor):
        return value
    array, dtype = value.array, value.dtype
    if array.dtype != object:
        return flambeau.tensor(np.array(array, dtype.numpy))
    if not any(type(n) is not int for n in array.reshape(-1)):
        return flambeau.tensor(np.array(array.tolist(), dtype.numpy).reshape(array.shape))
    parts = [flambeau.full((), n, dtype=dtype) for n in array.reshape(-1)]
    return (
        parts[0].reshape(array.shape)
        if len(parts) == 1
        else flambeau.stack(parts).reshape(array.shape)
    )


class OnnxModule(Module):
    """A module that does what the nodes of a model say.

    Args:
        model: onnx_ir's model.

    Raises:
        OnnxImportError: it has operators that are not here, which are named.
    """

    def __init__(self, model: Any) -> None:
        """Take the weights, and check that every operator is known."""
        super().__init__()
        graph = model.graph
        opset = int(model.opset_imports.get("", 0) or graph.opset_imports.get("", 0))
        nodes = [Node(n, opset) for n in graph]
        if not graph.outputs or not opset:
            raise OnnxImportError("it has no results, or does not say whose operators it has")
        missing = sorted(_missing(graph))
        if missing:
            raise OnnxImportError(f"these operators cannot be read: {', '.join(missing)}")
        self.__dict__["nodes"] = nodes
        self.__dict__["wanted"] = [v.name for v in graph.inputs if v.name not in graph.initializers]
        self.__dict__["results"] = [v.name for v in graph.outputs]
        self.__dict__["known"] = {}
        self.__dict__["places"] = {}
        self.__dict__["_line"] = ""
        plain = {n.inputs[k] for n in nodes for k in NUMBERS[n.kind] if k < len(n.inputs)}
        for name, value in graph.initializers.items():
            self._take(name, value.const_value, name in plain)

    def _take(self, name: str, data: Any, plain: bool) -> None:
        """An initializer: numbers and what may be sizes are known, floats are parameters."""
        dtype = _DTYPES.get(data.dtype.name)
        if dtype is None:
            raise OnnxImportError(f"the weight {name!r} has elements of type {data.dtype.name}")
        array = np.array(data.numpy())
        if plain or not array.ndim or (array.size <= _KNOWN and dtype.category < 2):
            self.known[name] = Known(array.astype(object) if dtype.category == 1 else array, dtype)
            return
        value = flambeau.tensor(array.astype(dtype.numpy))
        *path, last = self._path(name)
        owner: Module = self
        for part in path:
            if part not in owner._modules:
                owner.add_module(part, Module())
            owner = owner._modules[part]
        if dtype.category == 2:
            owner.register_parameter(last, Parameter(value))
        else:
            owner.register_buffer(last, value)
        self.places[name] = (owner, last)

    def _path(self, name: str) -> list[str]:
        """Where a weight stands: by the dots in its name, if there is room."""
        path = name.split(".")
        owner: Any = self
        for k, part in enumerate(path):
            leaf = k == len(path) - 1
            taken = hasattr(owner, part) and (leaf or part not in owner._modules)
            if taken or not (part.isidentifier() or part.isdigit()):
                plain = identifier(name)
                while hasattr(self, plain):
                    plain += "_"
                return [plain]
            owner = owner._modules.get(part, Module())
        return path

    def line(self) -> str:
        """The node that is traced."""
        return self._line

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        """The model's results."""
        values: dict[str, Any] = dict(self.known)
        values.update((name, getattr(*place)) for name, place in self.places.items())
        values.update(zip(self.wanted, given, strict=True))
        for node in self.nodes:
            self.__dict__["_line"] = f"  node {node.name!r} ({node.kind})"
            perform([node], values)
        return tuple(tensor(values[name]) for name in self.results)


def _missing(graph: Any) -> set[str]:
    """Operators that are not here, of a graph and those inside it."""
    found = set()
    for n in graph:
        own = n.domain in ("", "ai.onnx")
        if not own or n.op_type not in OPERATORS:
            found.add(n.op_type if own else f"{n.domain}::{n.op_type}")
        for a in n.attributes.values():
            if hasattr(a.value, "inputs"):
                found |= _missing(a.value)
    return found


class Inner:
    """A graph inside a node.

    Args:
        graph: onnx_ir's.
        opset: version of the operators.
    """

    def __init__(self, graph: Any, opset: int) -> None:
        self.inputs = [v.name for v in graph.inputs]
        self.outputs = [v.name for v in graph.outputs]
        self.nodes = [Node(n, opset) for n in graph]
        if graph.initializers:
            raise OnnxImportError("weights of a graph inside a node are not read")

    def __call__(self, scope: Mapping[str, Any], given: Sequence[Any]) -> list[Any]:
        """Its results, for what is known outside and its inputs."""
        values = {**scope, **dict(zip(self.inputs, given, strict=True))}
        perform(self.nodes, values)
        return [values[name] for name in self.outputs]


def perform(nodes: Sequence[Node], values: dict[str, Any]) -> None:
    """Do what nodes say, adding their results to the values by name."""
    for node in nodes:
        for name, value in zip(node.outputs, run(node, values), strict=False):
            values[name] = value


def run(node: Node, values: Mapping[str, Any]) -> tuple[Any, ...]:
    """A node's results.

    Raises:
        OnnxImportError: it cannot be done; says which node.
    """
    try:
        given = [None if name in (None, "") else values[name] for name in node.inputs]
        node.scope = values
        found = OPERATORS[node.kind](node, *given)
    except ExportError as error:
        if isinstance(error, OnnxImportError) and "node " not in str(error):
            raise OnnxImportError(f"node {node.name!r} ({node.kind}): {error}") from None
        raise
    except _FAILURES as error:
        raise OnnxImportError(f"node {node.name!r} ({node.kind}): {error}") from error
    return found if isinstance(found, tuple) else (found,)


def _sizes(model: Any) -> tuple[list[Tensor], list[Any]]:
    """Example inputs, and what of their sizes is open."""
    examples, spec = [], []
    dims: dict[str, Any] = {}
    for value in model.graph.inputs:
        if value.name in model.graph.initializers:
            continue
        dtype = None if value.dtype is None else _DTYPES.get(value.dtype.name)
        if dtype is None or value.shape is None:
            raise OnnxImportError(
                f"the input {value.name!r} is no tensor of a known dtype and rank"
            )
        shape, open_ = [], {}
        for d, size in enumerate(value.shape):
            if isinstance(size, int):
                shape.append(size)
                continue
            name = size.value or f"{value.name}_{d}"
            if name not in dims:
                dims[name] = (Dim(name) if name.isidentifier() else Dim.AUTO, len(dims))
            dim, number_ = dims[name]
            open_[d] = dim
            shape.append(_EXAMPLES[number_ % len(_EXAMPLES)] + number_ // len(_EXAMPLES))
        if any(n < 0 for n in shape) or math.prod(shape) > 1 << 40:
            raise OnnxImportError(f"the input {value.name!r} has the sizes {shape}")
        examples.append(flambeau.zeros((), dtype=dtype).expand(*shape))  # of no memory
        spec.append(open_ or None)
    return examples, spec


def load(f: str | os.PathLike[str] | Any) -> ExportedProgram:
    """Read an ONNX model as a program that runs, trains and is exported again.

    Args:
        f: a path, or an `onnx_ir.Model`.

    Returns:
        The program: its floating-point weights are parameters, other large ones buffers; sizes
        that the model names stay open.

    Raises:
        OnnxImportError: operators that are not here, which are named; or no model, a damaged one,
            or one that does what a program cannot.
        FileNotFoundError: there is no such file.
        ImportError: onnx-ir is not installed.
    """
    ir = library()
    from onnx_ir.passes import common

    try:
        model = f if isinstance(f, ir.Model) else ir.load(os.fspath(f))
        common.InlinePass()(model)
        module = OnnxModule(model).eval()
        examples, spec = _sizes(model)
    except (ExportError, FileNotFoundError):
        raise
    except Exception as error:  # what protobuf raises is a class of its own
        raise OnnxImportError(
            f"this is no ONNX model, or a damaged one: {type(error).__name__}: {error}"
        ) from None
    try:
        return program_of(module, tuple(examples), {}, _spec(spec), module.line)
    except ExportError:
        raise
    except _FAILURES as error:
        raise OnnxImportError(f"this model cannot be read: {error}") from None


def _spec(spec: Sequence[Any]) -> Any:
    """`dynamic_shapes` of a module that takes any number of inputs."""
    return tuple(spec) if any(spec) else None


__all__ = ["OPERATORS", "Known", "Node", "OnnxImportError", "OnnxModule", "ints", "load", "number",
           "operator", "run", "tensor"]  # fmt: skip
