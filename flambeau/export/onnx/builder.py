"""An ONNX graph while it is built from the nodes of an exported program.

Cells (`export.onnx.cells`) say what a node becomes; this says how values, numbers and sizes are
written. Sizes that may change are computed from the inputs' shapes, each expression once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from flambeau.dtype import bool as bool_dtype
from flambeau.dtype import dtype as DType
from flambeau.dtype import int64
from flambeau.export.dims import ExportError
from flambeau.ir.graph import PICK, Node
from flambeau.ir.symbol import SymFloat, SymInt

#: Names of ONNX's element types, by flambeau's dtypes.
ELEMENTS = {
    "float32": "FLOAT", "float64": "DOUBLE", "float16": "FLOAT16", "bfloat16": "BFLOAT16",
    "int64": "INT64", "int32": "INT32", "int16": "INT16", "int8": "INT8", "uint8": "UINT8",
    "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64", "bool": "BOOL",
    "float8_e4m3fn": "FLOAT8E4M3FN", "float8_e4m3fnuz": "FLOAT8E4M3FNUZ",
    "float8_e5m2": "FLOAT8E5M2", "float8_e5m2fnuz": "FLOAT8E5M2FNUZ",
}  # fmt: skip

#: Up to so many numbers, a sequence that can be computed is written as numbers.
_SHORT = 64


#: Operators that take no narrow floats before an opset: element type -> that opset; and which of
#: their results are of the type of their inputs.
_LATER: dict[str, tuple[dict[str, int], tuple[int, ...]]] = {
    **dict.fromkeys(
        ("Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Cos", "Cosh", "Sin", "Sinh", "Tan",
         "Round", "Softplus", "Softsign", "Elu", "Mish", "HardSwish", "HardSigmoid", "Conv",
         "ConvTranspose", "AveragePool", "GlobalAveragePool", "MaxPool", "InstanceNormalization",
         "GridSample"), ({"BFLOAT16": 22}, (0,))),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), ({"BFLOAT16": 22}, (0, 1, 2))),
    "IsInf": ({"BFLOAT16": 20, "FLOAT16": 20}, ()),
    "TopK": ({"BFLOAT16": 24}, (0,)),
}  # fmt: skip


class OnnxExporterError(ExportError):
    """A program that cannot be written as ONNX."""


def library() -> Any:
    """The package onnx_ir.

    Raises:
        ImportError: it is not installed; says what to install.
    """
    try:
        import onnx_ir
    except ImportError:
        raise ImportError(
            "ONNX files are written and read with onnx-ir, which is not installed: "
            "pip install 'flambeau[onnx]'"
        ) from None
    return onnx_ir


def element(dtype: DType) -> Any:
    """ONNX's element type for a dtype.

    Raises:
        OnnxExporterError: there is none.
    """
    name = ELEMENTS.get(dtype.name)
    if name is None:
        raise OnnxExporterError(f"ONNX models have no tensors of {dtype} that operations take")
    return library().DataType[name]


def _element_of(value: Any) -> Any:
    """A value's element type, from what it is made of where nothing says it."""
    while value.dtype is None:
        node = value.producer()
        if node is None or not node.inputs:
            return None
        if node.op_type == "Cast":
            return library().DataType(node.attributes["to"].value)
        value = node.inputs[1 if node.op_type == "Where" else 0]
    return value.dtype


def expression_of(n: Any) -> Any:
    """The expression of a symbolic size, None of a number."""
    return n.expression if type(n) is SymInt else None


def known(n: Any) -> bool:
    """Whether a size is a number."""
    return type(n) is not SymInt


def same(a: Any, b: Any) -> bool:
    """Whether two sizes are equal for all values of the symbols."""
    if known(a) and known(b):
        return bool(a == b)
    return expression_of(a) is expression_of(b)


def same_shape(a: Sequence[Any], b: Sequence[Any]) -> bool:
    """Whether two shapes are equal for all values of the symbols."""
    return len(a) == len(b) and all(map(same, a, b))


class Builder:
    """Writes nodes, constants and sizes of one graph.

    Args:
        opset: version of ONNX's operators.
        used: for nodes with several results, which are read.

    Attributes:
        nodes: ONNX's nodes, in order.
        initializers: of the graph, in order.
        row: what is being written, which the nodes' metadata name.
        line: the line of the program that recorded it, likewise.
        write: writes nodes of a graph, which come after what they read.
    """

    def __init__(self, opset: int, used: dict[Node, set[int]]) -> None:
        self.ir = library()
        self.opset = opset
        self.used = used
        self.nodes: list[Any] = []
        self.initializers: dict[str, Any] = {}
        self.row = self.line = ""
        self.write: Callable[[Sequence[Node]], None]
        self._values: dict[Node, Any] = {}
        self._later: dict[Node, Callable[[], Any]] = {}
        self._results: dict[tuple[Node, int], Any] = {}
        self._lines: dict[Node, str] = {}
        self._arrays: dict[int, Any] = {}
        self._constants: dict[Any, Any] = {}
        self._sizes: dict[Any, Any] = {}
        self._symbols: dict[str, Callable[[], Any]] = {}
        self._captured: dict[Any, Any] | None = None  # in a function: sizes that it is given
        self._names: set[str] = set()

    # -- names and values --------------------------------------------------------------------------

    def name(self, wanted: str) -> str:
        """A name that no other value has."""
        found, number = wanted, 1
        while found in self._names:
            found, number = f"{wanted}_{number}", number + 1
        self._names.add(found)
        return found

    def new(
        self, wanted: str, dtype: DType | None = None, shape: Sequence[Any] | None = None
    ) -> Any:
        """A value with a new name."""
        value = self.ir.Value(name=self.name(wanted))
        if dtype is not None:
            self.describe(value, dtype, shape or ())
        return value

    def describe(self, value: Any, dtype: DType, shape: Sequence[Any]) -> None:
        """Say a value's dtype and shape in the model."""
        value.dtype = element(dtype)
        value.shape = self.ir.Shape([n if known(n) else str(n.expression) for n in shape])

    def set(self, node: Node, value: Any) -> None:
        """What a node's value is."""
        self._values[node] = value

    def later(self, node: Node, make: Callable[[], Any]) -> None:
        """Have a node's value written when it is first read."""
        self._later[node] = make
        self._lines[node] = self.line

    def result(self, node: Node, number: int, value: Any) -> None:
        """What a result of a node is: a value, or a node that has it."""
        self._results[node, number] = value
        if number == 0:
            if isinstance(value, Node):
                self.later(node, lambda: self.value(value))
            else:
                self.set(node, value)

    def has(self, node: Node) -> bool:
        """Whether it is known how a node is written."""
        return node in self._values or node in self._later

    def value(self, node: Node) -> Any:
        """The value of a node, written now if it was not."""
        found = self._values.get(node)
        if found is None:
            if node.op is PICK:
                found = self._results[node.src[0], node.attrs[0]]
                found = self.value(found) if isinstance(found, Node) else found
            else:
                was = self.row, self.line
                self.row, self.line = node.op.name, self._lines[node]
                found = self._later[node]()
                self.row, self.line = was
            self._values[node] = found
        if found.shape is None:
            self.describe(found, node.dtype, node.shape)
        return found

    def is_later(self, node: Node) -> bool:
        """Whether nothing has read a node's value yet."""
        return node not in self._values

    def _metadata(self) -> dict[str, str]:
        parts = {"pkg.flambeau.row": self.row, "pkg.flambeau.line": self.line}
        return {name: text for name, text in parts.items() if self.row and text}

    def op(self, kind: str, *inputs: Any, outputs: int = 1, called: str = "", domain: str = "",
           **attributes: Any) -> Any:  # fmt: skip
        """Write a node.

        Args:
            kind: of the operator.
            inputs: values; None stands for one that is left out.
            outputs: how many there are.
            called: the name of the first result; by default after the row.
            attributes: of the operator; those that are None are left out.

        Returns:
            The result, or a tuple of several.
        """
        since, of_type = _LATER.get(kind, ({}, ()))
        narrow = _element_of(inputs[0]) if since else None
        if narrow is not None and since.get(narrow.name, 0) > self.opset:
            wide = self.ir.DataType.FLOAT
            inputs = tuple(
                self.op("Cast", v, to=int(wide))
                if v is not None and _element_of(v) == narrow
                else v
                for v in inputs
            )
            found = self.op(kind, *inputs, outputs=outputs, called=called, **attributes)
            parts = [found] if outputs == 1 else list(found)
            for k in of_type[:outputs]:
                parts[k] = self.op("Cast", parts[k], to=int(narrow))
            return parts[0] if outputs == 1 else tuple(parts)
        given = {k: v for k, v in attributes.items() if v is not None}
        named = called or self.row.strip("_") or kind.lower()
        values = [self.ir.Value(name=self.name(named)) for _ in range(outputs)]
        while inputs and inputs[-1] is None:
            inputs = inputs[:-1]
        self.nodes.append(
            self.ir.Node(
                domain,
                kind,
                list(inputs),
                self.ir.convenience.convert_attributes(given),
                outputs=values,
                name=f"{kind}_{len(self.nodes)}",
                metadata_props=self._metadata(),
            )
        )
        return values[0] if outputs == 1 else tuple(values)

    def steps(
        self,
        states: Sequence[tuple[Any, DType, Sequence[Any]]],
        inputs: Sequence[tuple[Any, DType, Sequence[Any]]],
        body: Callable[[list[Any], list[Any]], tuple[list[Any], list[Any]]],
        axis: int,
        reverse: bool = False,
    ) -> tuple[Any, ...]:
        """A Scan: a graph that is run for each slice of some values.

        Args:
            states: what is carried from step to step: first value, dtype, shape.
            inputs: what is cut into slices: value, dtype, shape of a slice.
            body: (states, slices) -> the next states, and the step's results.
            axis: along which inputs are cut and results stand together.
            reverse: whether steps go from the last slice to the first.

        Returns:
            The last states, then the results.
        """
        given = [self.new("step", dtype, shape) for _, dtype, shape in (*states, *inputs)]

        def step() -> list[Any]:
            following, results = body(given[: len(states)], given[len(states) :])
            return [*following, *results]

        graph = self.graph(given, step, [(dtype, shape) for _, dtype, shape in states])
        more = len(graph.outputs) - len(states)
        ways = [int(reverse)]
        found = self.op(
            "Scan",
            *(x for x, _, _ in (*states, *inputs)),
            outputs=len(graph.outputs),
            body=graph,
            num_scan_inputs=len(inputs),
            scan_input_axes=[axis] * len(inputs),
            scan_output_axes=[axis] * more,
            scan_input_directions=ways * len(inputs),
            scan_output_directions=ways * more,
        )
        return found if isinstance(found, tuple) else (found,)

    def graph(
        self,
        given: Sequence[Any],
        body: Callable[[], Sequence[Any]],
        specs: Sequence[tuple[DType, Sequence[Any]]] = (),
    ) -> Any:
        """A graph inside this one, for an attribute of a node.

        Args:
            given: its inputs; it may read values of this graph that are there already, too.
            body: writes its nodes; -> its results.
            specs: dtypes and shapes of the first results.
        """
        outer, sizes, constants = self.nodes, dict(self._sizes), dict(self._constants)
        self.nodes = []
        ends = [self.op("Identity", x, called="next") for x in body()]
        for end, (dtype, shape) in zip(ends, specs, strict=False):
            self.describe(end, dtype, shape)
        graph = self.ir.Graph(given, ends, nodes=self.nodes, name=self.name("step"))
        self.nodes, self._sizes = outer, sizes
        if self._captured is not None:  # there, constants are nodes
            self._constants = constants
        return graph

    def function(self, body: Callable[[], Sequence[Any]]) -> tuple[list[Any], list[Any], list[Any]]:
        """What a function of its own consists of: it reads its inputs and nothing else, so that
        constants are nodes of it and sizes are given to it.

        Args:
            body: writes its nodes; -> its results.

        Returns:
            Its nodes, its results, and (expression, input) of each size that it is given.
        """
        names = ("nodes", "_values", "_later", "_results", "_lines", "_constants", "_sizes",
                 "_captured")  # fmt: skip
        outer = {name: getattr(self, name) for name in names}
        self.__dict__.update((name, [] if name == "nodes" else {}) for name in names)
        try:
            results = list(body())
            return self.nodes, results, list((self._captured or {}).items())
        finally:
            self.__dict__.update(outer)

    # -- constants ---------------------------------------------------------------------------------

    def state(self, name: str, array: Any, dtype: DType) -> Any:
        """An initializer with the name of a parameter or the like.

        Args:
            name: wanted.
            array: values, as ONNX keeps them.
        """
        value = self.new(name, dtype, array.shape)
        value.const_value = self.ir.Tensor(array, dtype=element(dtype), name=value.name)
        self.initializers[value.name] = value
        self._arrays[id(value)] = array
        return value

    def constant(self, array: Any, dtype: DType, name: str = "constant") -> Any:
        """A value that is known; equal ones are one."""
        array = np.asarray(array, dtype.numpy)
        key = dtype.name, array.shape, array.tobytes()
        found = self._constants.get(key)
        if found is None:
            found = self.state(name, array, dtype) if self._captured is None else (
                self._literal(name, array, dtype)
            )  # fmt: skip
            self._constants[key] = found
        return found

    def _literal(self, name: str, array: Any, dtype: DType) -> Any:
        """A constant as a node."""
        row, self.row = self.row, ""
        tensor = self.ir.Tensor(array, dtype=element(dtype), name=name)
        found = self.op("Constant", called=name, value=tensor)
        self.row = row
        self._arrays[id(found)] = array
        return found

    def array(self, value: Any) -> Any:
        """The values of an initializer, None of anything else."""
        return self._arrays.get(id(value))

    def ints(self, numbers: Iterable[int]) -> Any:
        """A vector of int64."""
        return self.constant([int(n) for n in numbers], int64)

    def number(self, number: Any, dtype: DType) -> Any:
        """A 0-d value of a number, which may be computed from sizes."""
        if isinstance(number, SymFloat):
            left, right = (self.number(n, dtype) for n in (number.left, number.right))
            kind = {"+": "Add", "-": "Sub", "*": "Mul", "/": "Div", "**": "Pow"}[number.operator]
            return self.op(kind, left, right, called="number")
        if isinstance(number, SymInt):
            flat = self.op("Squeeze", self.size(number), self.ints([0]), called="size")
            return flat if dtype is int64 else self.cast(flat, dtype)
        if dtype.category < 2 and isinstance(number, float):
            number = int(number)
        return self.constant(number, dtype)

    # -- sizes -------------------------------------------------------------------------------------

    def symbol(self, name: str, make: Callable[[], Any]) -> None:
        """How a symbol is computed: a vector of one int64."""
        self._symbols.setdefault(name, make)

    def size(self, n: Any) -> Any:
        """A size as a vector of one int64."""
        if known(n):
            return self.ints([n])
        return self._expression(n.expression)

    def expression(self, e: Any) -> Any:
        """The value of an expression of sizes as a vector of one int64."""
        return self.size(e.number) if e.number is not None else self._expression(e)

    def _expression(self, e: Any) -> Any:
        if self._captured is not None:
            if e not in self._captured:
                self._captured[e] = self.new("size")
            return self._captured[e]
        found = self._sizes.get(e)
        if found is None:
            row, self.row = self.row, ""
            found = self._sizes[e] = self._computed(e)
            self.row = row
        return found

    def _computed(self, e: Any) -> Any:
        space = e.space
        if len(e.terms) == 1 and next(iter(e.terms.values())) == 1:
            (monomial,) = e.terms
            if len(monomial) == 1:
                return self._unknown(space.unknowns[monomial[0]])
        total = None
        for monomial, times in e.terms.items():
            part = None
            for k in monomial:
                factor = self._expression(space.expression({(k,): 1}))
                part = factor if part is None else self.op("Mul", part, factor, called="size")
            if part is None:
                part = self.ints([times])
            elif times != 1:
                part = self.op("Mul", part, self.ints([times]), called="size")
            total = part if total is None else self.op("Add", total, part, called="size")
        return total if total is not None else self.ints([0])

    def _unknown(self, unknown: Any) -> Any:
        if unknown.name:
            return self._symbols[unknown.name]()
        left, right = self._expression(unknown.left), self._expression(unknown.right)
        rest = self.op("Mod", left, right, called="size")  # of the divisor's sign, as Python's
        if unknown.operator == "%":
            return rest
        return self.op("Div", self.op("Sub", left, rest, called="size"), right, called="size")

    def sizes(self, shape: Sequence[Any]) -> Any:
        """Sizes as a vector of int64."""
        if all(map(known, shape)):
            return self.ints(shape)
        parts: list[Any] = []
        plain: list[int] = []
        for n in shape:
            if known(n):
                plain.append(n)
                continue
            if plain:
                parts.append(self.ints(plain))
                plain = []
            parts.append(self.size(n))
        if plain:
            parts.append(self.ints(plain))
        return parts[0] if len(parts) == 1 else self.op("Concat", *parts, axis=0, called="sizes")

    # -- what many cells write ---------------------------------------------------------------------

    def cast(self, x: Any, dtype: DType) -> Any:
        """A value converted to another dtype."""
        return self.op("Cast", x, to=int(element(dtype)))

    def reshape(self, x: Any, shape: Sequence[Any]) -> Any:
        """A value's elements in another shape."""
        open_ = [d for d, n in enumerate(shape) if not known(n)]
        if len(open_) == 1 and all(n > 0 for n in shape if known(n)):
            target = self.ints([-1 if d in open_ else n for d, n in enumerate(shape)])
        else:
            target = self.sizes(shape)
        empty = any(known(n) and n == 0 for n in shape)
        return self.op("Reshape", x, target, allowzero=1 if empty else None)

    def flat(self, x: Any) -> Any:
        """A value's elements as a vector."""
        return self.op("Reshape", x, self.ints([-1]))

    def expand(self, x: Any, shape: Sequence[Any]) -> Any:
        """A value broadcast to a shape."""
        return self.op("Expand", x, self.sizes(shape))

    def transpose(self, x: Any, order: Sequence[int]) -> Any:
        """A value with its dimensions in another order; a known one is known again."""
        return self.op("Transpose", x, perm=list(order))

    def slices(self, x: Any, cuts: Sequence[tuple[int, Any, Any, int]]) -> Any:
        """Parts of a value: (dimension, start, stop, step) each, of which none may be empty."""
        starts, stops, steps, axes = [], [], [], []
        for axis, start, stop, step in cuts:
            axes.append(axis)
            starts.append(start)
            stops.append(stop)
            steps.append(step)
        given = None if all(s == 1 for s in steps) else self.ints(steps)
        return self.op("Slice", x, self.sizes(starts), self.sizes(stops), self.ints(axes), given)

    def where(self, condition: Any, yes: Any, no: Any) -> Any:
        """One of two values at each place."""
        return self.op("Where", condition, yes, no)

    def count(self, n: Any) -> Any:
        """The vector 0 .. n - 1 of int64."""
        if known(n) and n <= _SHORT:
            return self.ints(range(n))
        return self.op("Range", self.number(0, int64), self.number(n, int64), self.number(1, int64),
                       called="places")  # fmt: skip

    def places(self, shape: Sequence[Any], strides: Sequence[Any], offset: Any) -> Any:
        """offset + sum of index * stride for all places of a shape, int64."""
        if all(map(known, (*shape, *strides, offset))) and math.prod(shape) <= _SHORT:
            total: Any = np.full(tuple(shape), offset, np.int64)
            for d, (n, s) in enumerate(zip(shape, strides, strict=True)):
                at = (np.arange(n) * s).reshape([-1 if k == d else 1 for k in range(len(shape))])
                total = total + at
            return self.constant(total, int64)
        found = self.number(offset, int64)
        for d, (n, s) in enumerate(zip(shape, strides, strict=True)):
            if known(n) and n == 1:
                continue
            at = self.count(n)
            if not (known(s) and s == 1):
                at = self.op("Mul", at, self.number(s, int64), called="places")
            if len(shape) - d - 1:
                at = self.op("Reshape", at, self.ints([-1] + [1] * (len(shape) - d - 1)),
                             called="places")  # fmt: skip
            found = self.op("Add", found, at, called="places")
        return self.expand(found, shape)

    def truth(self, x: Any, dtype: DType) -> Any:
        """Whether elements are not zero."""
        return x if dtype is bool_dtype else self.cast(x, bool_dtype)


__all__ = ["Builder", "ExportError", "OnnxExporterError", "element", "known", "library", "same"]
