"""What ONNX's recurrent operators do: layers, or for forms that no layer has, scans.

H is `hidden_size`, D directions, G gates: those of LSTM are i, o, f, c, those of GRU z, r, h.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import flambeau
from flambeau.control import scan
from flambeau.dtype import int64
from flambeau.export.onnx.reading import Node, OnnxImportError, operator, tensor
from flambeau.ops.recurrent import recurrent_layer
from flambeau.tensor import Tensor

F = flambeau.nn.functional

#: Operator -> the module's mode, gates in torch's order among ONNX's, activations by default.
_LAYERS = {
    "LSTM": ("lstm", (0, 2, 3, 1), ["Sigmoid", "Tanh", "Tanh"]),
    "GRU": ("gru", (1, 0, 2), ["Sigmoid", "Tanh"]),
    "RNN": ("rnn_tanh", (0,), ["Tanh"]),
}
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "Sigmoid": flambeau.sigmoid, "Tanh": flambeau.tanh, "Relu": flambeau.relu,
    "Softsign": F.softsign, "Softplus": F.softplus,
}  # fmt: skip


@operator("LSTM", "GRU", "RNN")
def _recurrent(
    node: Node, x: Any, w: Any, r: Any, b: Any = None, lengths: Any = None, h: Any = None,
    c: Any = None, p: Any = None,
) -> Any:  # fmt: skip
    way, units = node.get("direction", "forward"), node.get("hidden_size")
    count = 2 if way == "bidirectional" else 1
    gates = len(_LAYERS[node.kind][1])
    chosen = list(node.get("activations") or _LAYERS[node.kind][2] * count)
    unknown = set(chosen) - _ACTIVATIONS.keys()
    if unknown or node.get("activation_alpha") or node.get("activation_beta"):
        raise OnnxImportError(f"activations {chosen} with these numbers are not read")
    batch_first = bool(node.get("layout", 0))
    x = tensor(x).transpose(0, 1) if batch_first else tensor(x)
    sizes = None if lengths is None else tensor(lengths).to(int64)
    states = [
        x.new_zeros(count, x.shape[1], units) if s is None
        else tensor(s).transpose(0, 1) if batch_first else tensor(s)
        for s in ((h, c) if node.kind == "LSTM" else (h,))
    ]  # fmt: skip
    found = []
    for d in range(count):
        biases = tensor(b)[d].split(gates * units) if b is not None else [
            x.new_zeros(gates * units)] * 2  # fmt: skip
        weights = [tensor(w)[d], tensor(r)[d], *biases]
        own = chosen[d * len(chosen) // count : (d + 1) * len(chosen) // count]
        run = functools.partial(_direction, node, x, [s[d] for s in states], weights, sizes)
        found.append(run(own, None if p is None else tensor(p)[d], way == "reverse" or d == 1))
    out, *last = (list(part) for part in zip(*found, strict=True))
    if batch_first:
        return flambeau.stack(out, 2).transpose(0, 1), *(flambeau.stack(s, 1) for s in last)
    return flambeau.stack(out, 1), *(flambeau.stack(s, 0) for s in last)


def _direction(
    node: Node, x: Tensor, states: list[Tensor], weights: list[Tensor], sizes: Tensor | None,
    chosen: list[str], peepholes: Tensor | None, reverse: bool,
) -> list[Tensor]:  # fmt: skip
    """(T, B, H) of one direction, 0 past the ends, and its last states."""
    mode, order, plain = _LAYERS[node.kind]
    if node.kind == "RNN" and chosen == ["Relu"]:
        mode, plain = "rnn_relu", chosen
    special = peepholes is not None or node.get("clip") or node.get("input_forget", 0)
    if special or chosen != plain or (
        node.kind == "GRU" and not node.get("linear_before_reset", 0)
    ):  # fmt: skip
        return _stepped(node, x, states, weights, sizes, chosen, peepholes, reverse)
    own = [_gates(v, order, node.get("hidden_size")) for v in weights]
    cell = states[1] if len(states) > 1 else None
    out, *last = recurrent_layer(x, states[0], cell, own, sizes, mode, reverse)
    return [out if sizes is None else _cut(out, sizes), *last]


def _gates(weight: Tensor, order: tuple[int, ...], units: int) -> Tensor:
    """Rows by gates, in torch's order."""
    if len(order) == 1:
        return weight
    parts = weight.split(units)
    return flambeau.cat([parts[g] for g in order])


def _cut(out: Tensor, sizes: Tensor) -> Tensor:
    """Hidden states, 0 past the ends of sequences."""
    steps = flambeau.arange(out.shape[0]).unsqueeze(1)
    return flambeau.where((steps < sizes).unsqueeze(-1), out, 0.0)


def _turned(x: Tensor, sizes: Tensor | None) -> Tensor:
    """(T, B, *) with every sequence from its last element to its first."""
    if sizes is None:
        return x.flip(0)
    steps = flambeau.arange(x.shape[0]).unsqueeze(1)
    places = flambeau.where(steps < sizes, sizes - 1 - steps, steps)
    return x[places, flambeau.arange(x.shape[1])]


def _stepped(
    node: Node, x: Tensor, states: list[Tensor], weights: list[Tensor], sizes: Tensor | None,
    chosen: list[str], peepholes: Tensor | None, reverse: bool,
) -> list[Tensor]:  # fmt: skip
    """`_direction` as a scan over steps."""
    w, r, wb, rb = weights
    acts = [_ACTIVATIONS[name] for name in chosen]
    limit = node.get("clip")
    given = flambeau.matmul(_turned(x, sizes) if reverse else x, w.t()) + wb
    alive = flambeau.ones(x.shape[0], 1, dtype=flambeau.bool) if sizes is None else (
        flambeau.arange(x.shape[0]).unsqueeze(1) < sizes)  # fmt: skip

    def bounded(v: Tensor) -> Tensor:
        return v if not limit else v.clamp(-limit, limit)

    one = {"LSTM": _lstm, "GRU": _gru, "RNN": _rnn}[node.kind]

    def step(before: Any, parts: Any) -> Any:
        part, goes = parts
        after = one(node, part, before, r, rb, acts, bounded, peepholes)
        kept = tuple(
            flambeau.where(goes.unsqueeze(-1), a, b) for a, b in zip(after, before, strict=True)
        )
        return kept, flambeau.where(goes.unsqueeze(-1), after[0], 0.0)

    last, out = scan(step, tuple(states), (given, alive))
    return [_turned(out, sizes) if reverse else out, *last]


def _lstm(
    node: Node, part: Tensor, before: Any, r: Tensor, rb: Tensor, acts: Any, bounded: Any, p: Any
) -> tuple[Tensor, ...]:
    h, c = before
    i, o, f, g = (part + flambeau.matmul(h, r.t()) + rb).chunk(4, -1)
    pi, po, pf = (0.0, 0.0, 0.0) if p is None else p.chunk(3)
    i = acts[0](bounded(i + c * pi))
    f = 1 - i if node.get("input_forget", 0) else acts[0](bounded(f + c * pf))
    c = f * c + i * acts[1](bounded(g))
    return acts[0](bounded(o + c * po)) * acts[2](c), c


def _gru(
    node: Node, part: Tensor, before: Any, r: Tensor, rb: Tensor, acts: Any, bounded: Any, p: Any
) -> tuple[Tensor, ...]:
    (h,), units = before, before[0].shape[-1]
    zr, n = part.split([2 * units, units], -1)
    both = acts[0](bounded(zr + flambeau.matmul(h, r[: 2 * units].t()) + rb[: 2 * units]))
    z, reset = both.chunk(2, -1)
    if node.get("linear_before_reset", 0):
        more = reset * (flambeau.matmul(h, r[2 * units :].t()) + rb[2 * units :])
    else:
        more = flambeau.matmul(reset * h, r[2 * units :].t()) + rb[2 * units :]
    return ((1 - z) * acts[1](bounded(n + more)) + z * h,)


def _rnn(
    node: Node, part: Tensor, before: Any, r: Tensor, rb: Tensor, acts: Any, bounded: Any, p: Any
) -> tuple[Tensor, ...]:
    return (acts[0](bounded(part + flambeau.matmul(before[0], r.t()) + rb)),)
