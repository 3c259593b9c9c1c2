"""Cells of recurrences: ONNX's LSTM, GRU and RNN, one a direction.

ONNX stacks weights by direction and orders gates its own way: input, output, forget, new for an
LSTM; update, reset, new for a GRU, whose reset gate is applied after the product, as here, with
`linear_before_reset`. States past a sequence's length are 0 there and stay here.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.dtype import int32, int64
from flambeau.export.onnx.builder import Builder
from flambeau.export.onnx.cells import cell
from flambeau.export.onnx.layers import arguments
from flambeau.ir.graph import Node

#: Mode -> operator, attributes, and the gates in ONNX's order.
_KINDS: dict[str, tuple[str, dict[str, Any], tuple[int, ...]]] = {
    "lstm": ("LSTM", {}, (0, 3, 1, 2)),
    "gru": ("GRU", {"linear_before_reset": 1}, (1, 0, 2)),
    "rnn_tanh": ("RNN", {}, (0,)),
    "rnn_relu": ("RNN", {"activations": ["Relu"]}, (0,)),
}


def _arguments(node: Node) -> dict[str, Any]:
    """A composite's arguments by name."""
    return dict(zip(node.op.parameters, arguments(node), strict=False))


def _ordered(b: Builder, weights: list[Node], order: tuple[int, ...], units: int) -> Any:
    """Weights side by side, their gates in ONNX's order, with a dimension of directions."""
    values = [b.value(w) for w in weights]
    arrays = [b.array(v) for v in values]
    if all(a is not None for a in arrays):
        parts = [a[g * units : (g + 1) * units] for a in arrays for g in order]
        return b.constant(np.concatenate(parts)[None], weights[0].dtype, values[0].name + "_onnx")
    if order != tuple(sorted(order)):
        rows = np.concatenate([np.arange(units) + g * units for g in order])
        values = [b.op("Gather", v, b.constant(rows, int64), axis=0) for v in values]
    joined = values[0] if len(values) == 1 else b.op("Concat", *values, axis=0)
    return b.op("Unsqueeze", joined, b.ints([0]))


def _plain(node: Node, used: set[int]) -> bool:
    """Whether nothing that gradients need is read."""
    return max(used, default=0) <= (2 if _arguments(node)["mode"] == "lstm" else 1)


@cell("_recurrent_layer", when=_plain)
def _layer(b: Builder, node: Node) -> Any:
    given = _arguments(node)
    kind, attributes, order = _KINDS[given["mode"]]
    hidden, lengths = given["hidden"], given["lengths"]
    units = hidden.shape[1]
    biases = [given[n] for n in ("bias_ih", "bias_hh") if given[n] is not None]
    first = b.ints([0])
    rows = None if lengths is None else b.cast(b.value(lengths), int32)
    cells = given["cell"]
    found = b.op(
        kind,
        b.value(given["input"]),
        _ordered(b, [given["weight_ih"]], order, units),
        _ordered(b, [given["weight_hh"]], order, units),
        _ordered(b, biases, order, units) if biases else None,
        rows,
        b.op("Unsqueeze", b.value(hidden), first),
        None if cells is None else b.op("Unsqueeze", b.value(cells), first),
        outputs=2 if cells is None else 3,
        hidden_size=units,
        direction="reverse" if given["reverse"] else "forward",
        **attributes,
    )
    states, *last = found
    states = b.op("Squeeze", states, b.ints([1]))
    last = [b.op("Squeeze", x, first) for x in last]
    if lengths is not None:
        states = _held(b, given, states, last[0])
    return (states, *last)


def _held(b: Builder, given: dict[str, Any], states: Any, last: Any) -> Any:
    """States past a sequence's end: the last one, or backwards the one that it began with."""
    steps = b.op("Reshape", b.count(given["input"].shape[0]), b.ints([-1, 1, 1]))
    ends = b.op("Unsqueeze", b.value(given["lengths"]), b.ints([1]))
    alive = b.op("Less", steps, ends)
    return b.where(alive, states, b.value(given["hidden"]) if given["reverse"] else last)
