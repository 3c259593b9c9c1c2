"""The gates of recurrent cells on vectors of units, forward and backward, as LLVM IR.

The formulas are those of `ops.recurrent`, one unit a lane.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from flambeau.codegen.lowerings import Builder, Value


class Cell:
    """Writes a cell's arithmetic.

    Args:
        b: where to.
        element: float or double.
        lanes: units of a vector.
    """

    def __init__(self, b: Builder, element: str, lanes: int) -> None:
        self.b = b
        self.element = element
        self.lanes = lanes

    def value(self, name: str) -> Value:
        """A vector by its LLVM name."""
        return Value(name, self.element, self.lanes)

    def number(self, x: float) -> Value:
        """A number in all lanes."""
        return self.b.const(x, self.element, self.lanes)

    def add(self, x: Value, y: Value) -> Value:
        """x + y."""
        return self.b.op("fadd", x, y)

    def sub(self, x: Value, y: Value) -> Value:
        """x - y."""
        return self.b.op("fsub", x, y)

    def mul(self, *factors: Value) -> Value:
        """A product, from left to right."""
        first, *rest = factors
        for x in rest:
            first = self.b.op("fmul", first, x)
        return first

    def fma(self, x: Value, y: Value, z: Value) -> Value:
        """x * y + z."""
        return self.b.call("fma", x, y, z)

    def sigmoid(self, x: Value) -> Value:
        """1 / (1 + exp(-x))."""
        return self.b.function("sigmoid", x)

    def tanh(self, x: Value) -> Value:
        """Hyperbolic tangent."""
        return self.b.function("tanh", x)

    def of_sigmoid(self, y: Value) -> Value:
        """The derivative of sigmoid where it is y."""
        return self.mul(y, self.sub(self.number(1.0), y))

    def of_tanh(self, y: Value) -> Value:
        """The derivative of tanh where it is y."""
        return self.fma(self.b.op("fneg", y), y, self.number(1.0))


@dataclass
class Step:
    """What a step makes.

    Attributes:
        hidden: the hidden state.
        cell: the cell state of an LSTM.
        saved: what the gradient reads beside the states.
    """

    hidden: Value
    cell: Value | None = None
    saved: list[Value] = field(default_factory=list)


@dataclass
class Back:
    """What a step back makes.

    Attributes:
        gates: cotangents of the gates' sums.
        inner: the same as the hidden state's product sees them.
        through: what reaches the hidden state before beside that product.
        cell: the cotangent of the cell state before.
    """

    gates: list[Value]
    inner: list[Value]
    through: Value | None = None
    cell: Value | None = None


Forward = Callable[[Cell, Sequence[Value], Sequence[Value], Value, Value | None, Value], Step]
"""(writer, the input's part of each gate, the hidden state's products, states before, bias)."""

Backward = Callable[[Cell, Value, Value, Value, Value, Value, Value, Sequence[Value]], Back]
"""(writer, cotangents of the states, hidden state, the one before, cell states likewise, saved)."""


def _tanh(w: Cell, x: Sequence[Value], a: Sequence[Value], *rest: Value | None) -> Step:
    return Step(w.tanh(w.add(x[0], a[0])))


def _relu(w: Cell, x: Sequence[Value], a: Sequence[Value], *rest: Value | None) -> Step:
    total, zero = w.add(x[0], a[0]), w.number(0.0)
    return Step(w.b.select(w.b.compare("ole", total, zero), zero, total))  # NaN stays


def _gru(
    w: Cell, x: Sequence[Value], a: Sequence[Value], h: Value, c: Value | None, bias: Value
) -> Step:
    r, z = w.sigmoid(w.add(x[0], a[0])), w.sigmoid(w.add(x[1], a[1]))
    inner = w.add(a[2], bias)
    n = w.tanh(w.fma(r, inner, x[2]))
    return Step(w.fma(z, w.sub(h, n), n), None, [r, z, n, inner])


def _lstm(
    w: Cell, x: Sequence[Value], a: Sequence[Value], h: Value, c: Value | None, bias: Value
) -> Step:
    assert c is not None
    i, f, g, o = (w.add(p, q) for p, q in zip(x, a, strict=True))
    i, f, g, o = w.sigmoid(i), w.sigmoid(f), w.tanh(g), w.sigmoid(o)
    c = w.fma(f, c, w.mul(i, g))
    return Step(w.mul(o, w.tanh(c)), c, [i, f, g, o])


def _tanh_back(w: Cell, dh: Value, dc: Value, h: Value, *rest: Value | Sequence[Value]) -> Back:
    gate = w.mul(dh, w.of_tanh(h))
    return Back([gate], [gate])


def _relu_back(w: Cell, dh: Value, dc: Value, h: Value, *rest: Value | Sequence[Value]) -> Back:
    gate = w.b.select(w.b.compare("ogt", h, w.number(0.0)), dh, w.number(0.0))
    return Back([gate], [gate])


def _gru_back(
    w: Cell, dh: Value, dc: Value, h: Value, before: Value, c: Value, c_before: Value,
    saved: Sequence[Value],
) -> Back:  # fmt: skip
    r, z, n, inner = saved
    through = w.mul(dh, w.sub(w.number(1.0), z), w.of_tanh(n))
    reset = w.mul(through, inner, w.of_sigmoid(r))
    update = w.mul(dh, w.sub(before, n), w.of_sigmoid(z))
    return Back([reset, update, through], [reset, update, w.mul(through, r)], w.mul(dh, z))


def _lstm_back(
    w: Cell, dh: Value, dc: Value, h: Value, before: Value, c: Value, c_before: Value,
    saved: Sequence[Value],
) -> Back:  # fmt: skip
    i, f, g, o = saved
    bounded = w.tanh(c)
    dc = w.fma(w.mul(dh, o), w.of_tanh(bounded), dc)
    gates = [
        w.mul(dc, g, w.of_sigmoid(i)),
        w.mul(dc, c_before, w.of_sigmoid(f)),
        w.mul(dc, i, w.of_tanh(g)),
        w.mul(dh, bounded, w.of_sigmoid(o)),
    ]
    return Back(gates, gates, None, w.mul(dc, f))


FORWARD: dict[str, Forward] = {
    "rnn_tanh": _tanh,
    "rnn_relu": _relu,
    "gru": _gru,
    "lstm": _lstm,
}
BACKWARD: dict[str, Backward] = {
    "rnn_tanh": _tanh_back,
    "rnn_relu": _relu_back,
    "gru": _gru_back,
    "lstm": _lstm_back,
}
