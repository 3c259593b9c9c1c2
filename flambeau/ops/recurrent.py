"""Recurrent layers: one row a layer and direction, over the row of its recurrence.

A layer is a product of its whole input, then the recurrence, whose only product a step is that of
the hidden state. The backward pass is the same the other way round; the weights' gradients are
products over all steps at once.

Shape suffixes: T steps, B batch, I features of the input, H of the hidden state, G gates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from flambeau.ops.contraction import matmul_batched
from flambeau.ops.elementwise import select_where, sigmoid, tanh
from flambeau.ops.entries import tracks
from flambeau.ops.indexing import index_leading, put_leading
from flambeau.ops.movement import transpose
from flambeau.ops.rows import FUNCTIONAL, NAMES
from flambeau.ops.steps import steps
from flambeau.ops.table import composite
from flambeau.tape import modes
from flambeau.tensor import Tensor

#: What is recurrent -> (gates of its weights, values of a unit and step that its gradient reads
#: beside the states).
GATES: dict[str, tuple[int, int]] = {
    "rnn_tanh": (1, 0),
    "rnn_relu": (1, 0),
    "gru": (3, 4),
    "lstm": (4, 4),
}


def _parts(x: Tensor, count: int) -> list[Tensor]:
    size = x._shape[-1] // count
    return [x[..., k * size : (k + 1) * size] for k in range(count)]


# -- one step --------------------------------------------------------------------------------------


def _tanh_step(x: Any, a: Any, h: Any, c: Any, bias: Any) -> tuple[Any, Any, list[Any]]:
    return tanh(x + a), None, []


def _relu_step(x: Any, a: Any, h: Any, c: Any, bias: Any) -> tuple[Any, Any, list[Any]]:
    return NAMES["relu"](x + a), None, []


def _gru_step(x: Any, a: Any, h: Any, c: Any, bias: Any) -> tuple[Any, Any, list[Any]]:
    """r, z = sigmoid(x + a); n = tanh(x_n + r * (a_n + bias)); h = n + z * (h - n)."""
    (x_r, x_z, x_n), (a_r, a_z, a_n) = _parts(x, 3), _parts(a, 3)
    r, z = sigmoid(x_r + a_r), sigmoid(x_z + a_z)
    inner = a_n if bias is None else a_n + bias
    n = tanh(x_n + r * inner)
    return n + z * (h - n), None, [r, z, n, inner]


def _lstm_step(x: Any, a: Any, h: Any, c: Any, bias: Any) -> tuple[Any, Any, list[Any]]:
    """i, f, o = sigmoid(x + a); g = tanh(x_g + a_g); c = f * c + i * g; h = o * tanh(c)."""
    i, f, g, o = _parts(x + a, 4)
    i, f, g, o = sigmoid(i), sigmoid(f), tanh(g), sigmoid(o)
    c = f * c + i * g
    return o * tanh(c), c, [i, f, g, o]


_STEPS: dict[str, Callable[..., tuple[Any, Any, list[Any]]]] = {
    "rnn_tanh": _tanh_step,
    "rnn_relu": _relu_step,
    "gru": _gru_step,
    "lstm": _lstm_step,
}


def _alive(lengths: Tensor | None, count: int) -> list[Tensor]:
    """[(T, B, 1) bool: whose sequence has each step]; nothing where all have."""
    if lengths is None:
        return []
    return [(lengths > NAMES["arange"](count).unsqueeze(1)).unsqueeze(-1)]


@composite(keep=True, method=False, public=False)
def _recurrence(
    gates: Tensor,
    hidden: Tensor,
    cell: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    lengths: Tensor | None,
    mode: str,
    reverse: bool,
    save: bool,
) -> tuple[Tensor, ...]:
    """h_t = step(gates_t + h_{t-1} @ weight^T, h_{t-1}, c_{t-1}) for all steps.

    Args:
        gates: (T, B, G * H), the input's part of the gates; T > 0.
        hidden: (B, H), the first hidden state.
        cell: (B, H), the first cell state of an LSTM, or None.
        weight: (G * H, H).
        bias: (H), added to the new gate's product of a GRU, or None.
        lengths: (B) int64, steps of each sequence, after which its states stay what they are; or
            None.
        mode: a key of `GATES`.
        reverse: from the last step to the first.
        save: whether what gradients need is kept.

    Returns:
        The hidden states (T, B, H), the last one (B, H); for an LSTM then the last cell state;
        with `save` the cell states (T, B, H) of an LSTM, and of GRU and LSTM what the gates were
        (T, B, 4 * H).
    """

    def step(carried: list[Tensor], parts: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        (h, *c), (x, *alive) = carried, parts
        a = matmul_batched(h, transpose(weight, 0, 1))
        new, state, kept = _STEPS[mode](x, a, h, c[0] if c else None, bias)
        after = [new] if state is None else [new, state]
        for ends in alive:
            after = [select_where(ends, x, y) for x, y in zip(after, carried, strict=True)]
        found = after if save else after[:1]
        return after, [*found, NAMES["cat"](kept, -1)] if save and kept else found

    first = [hidden] if cell is None else [hidden, cell]
    count = gates._shape[0]
    last, (out, *more) = steps(step, first, [gates, *_alive(lengths, count)], count, reverse)
    return (out, *last, *more)


# -- one step back ---------------------------------------------------------------------------------


def _tanh_back(dh: Any, dc: Any, h: Any, *rest: Any) -> tuple[list[Any], list[Any], Any, Any]:
    gate = dh * (1.0 - h * h)
    return [gate], [gate], None, None


def _relu_back(dh: Any, dc: Any, h: Any, *rest: Any) -> tuple[list[Any], list[Any], Any, Any]:
    gate = select_where(h > 0.0, dh, 0.0)
    return [gate], [gate], None, None


def _gru_back(
    dh: Any, dc: Any, h: Any, before: Any, c: Any, c_before: Any, saved: Any
) -> tuple[list[Any], list[Any], Any, Any]:
    r, z, n, inner = _parts(saved, 4)
    through = dh * (1.0 - z) * (1.0 - n * n)
    reset = through * inner * r * (1.0 - r)
    update = dh * (before - n) * z * (1.0 - z)
    return [reset, update, through], [reset, update, through * r], dh * z, None


def _lstm_back(
    dh: Any, dc: Any, h: Any, before: Any, c: Any, c_before: Any, saved: Any
) -> tuple[list[Any], list[Any], Any, Any]:
    i, f, g, o = _parts(saved, 4)
    bounded = tanh(c)
    dc = dc + dh * o * (1.0 - bounded * bounded)
    gates = [
        dc * g * i * (1.0 - i),
        dc * c_before * f * (1.0 - f),
        dc * i * (1.0 - g * g),
        dh * bounded * o * (1.0 - o),
    ]
    return gates, gates, None, dc * f


_BACK: dict[str, Callable[..., tuple[list[Any], list[Any], Any, Any]]] = {
    "rnn_tanh": _tanh_back,
    "rnn_relu": _relu_back,
    "gru": _gru_back,
    "lstm": _lstm_back,
}


@composite(keep=True, method=False, public=False)
def _recurrence_backward(
    g: Tensor | None,
    g_hidden: Tensor | None,
    g_cell: Tensor | None,
    out: Tensor,
    cells: Tensor | None,
    saved: Tensor | None,
    hidden: Tensor,
    cell: Tensor | None,
    weight: Tensor,
    lengths: Tensor | None,
    mode: str,
    reverse: bool,
) -> tuple[Tensor, ...]:
    """Gradients of a recurrence's gates and first states.

    Args:
        g: (T, B, H), cotangent of the hidden states, or None.
        g_hidden, g_cell: (B, H), cotangents of the last states, or None.
        out, cells, saved: results of `_recurrence`.

    Returns:
        Of the first hidden state (B, H) and of the gates (T, B, G * H); for a GRU then of the
        gates as the hidden state's product sees them, for an LSTM of the first cell state.
    """
    zero = NAMES["zeros"](*hidden._shape, dtype=hidden.dtype)
    first = [zero if g_hidden is None else g_hidden]
    # what a step reads, by name
    wholes = {"h": out}
    if mode == "gru":
        wholes["before"] = _before(out, hidden, reverse)
    if cell is not None and cells is not None:
        first.append(zero if g_cell is None else g_cell)
        wholes["c"], wholes["c_before"] = cells, _before(cells, cell, reverse)
    if saved is not None:
        wholes["saved"] = saved
    if g is not None:
        wholes["g"] = g
    for alive in _alive(lengths, out._shape[0]):
        wholes["alive"] = alive

    def step(carried: list[Tensor], parts: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        at = dict(zip(wholes, parts, strict=True))
        dh, *dc = carried
        if "g" in at:
            dh = dh + at["g"]
        states = [at.get(name) for name in ("h", "before", "c", "c_before", "saved")]
        of_gates, of_inner, through, dc_before = _BACK[mode](dh, dc[0] if dc else None, *states)
        ends = at.get("alive")
        if ends is not None:
            of_gates = [select_where(ends, x, 0.0) for x in of_gates]
            of_inner = [select_where(ends, x, 0.0) for x in of_inner]
            through = select_where(ends, 0.0 if through is None else through, dh)
            dc_before = None if dc_before is None else select_where(ends, dc_before, dc[0])
        given, inner = NAMES["cat"](of_gates, -1), NAMES["cat"](of_inner, -1)
        carry = matmul_batched(inner, weight)
        if through is not None:
            carry = carry + through
        after = [carry] if dc_before is None else [carry, dc_before]
        return after, [given, inner] if mode == "gru" else [given]

    (g_first, *g_cells), found = steps(
        step, first, list(wholes.values()), out._shape[0], not reverse
    )
    return (g_first, *found, *g_cells)


def _before(states: Tensor, first: Tensor, reverse: bool) -> Tensor:
    """What the states were before each step."""
    first = first.unsqueeze(0)
    return NAMES["cat"]([states[1:], first] if reverse else [first, states[:-1]])


def _recurrence_results(
    gates: Tensor, hidden: Tensor, cell: Any, weight: Any, bias: Any, lengths: Any, mode: str,
    reverse: bool, save: bool,
) -> tuple[Any, ...]:  # fmt: skip
    """Shapes and dtypes, without recording the steps; also checks that the arguments fit.

    Raises:
        RuntimeError: sizes that do not fit one another.
        NotImplementedError: other than floating-point numbers.
    """
    steps, batch = gates._shape[:2]
    units, dtype = hidden._shape[-1], gates.dtype
    if dtype.category != 2:
        raise NotImplementedError(f"\"{mode}\" not implemented for '{dtype.word}'")
    count, kept = GATES[mode]
    for name, x, wanted in (
        ("gates", gates, (steps, batch, count * units)),
        ("hidden", hidden, (batch, units)),
        ("cell", cell, (batch, units)),
        ("weight_hh", weight, (count * units, units)),
    ):
        if x is not None and (x._shape != wanted or x.dtype is not dtype):
            raise RuntimeError(
                f"{mode}: expected {name} of shape {list(wanted)} and dtype {dtype}, got "
                f"{list(x.shape)} and {x.dtype}"
            )
    states = ((steps, batch, units), dtype)
    found = [states, ((batch, units), dtype)]
    if mode == "lstm":
        found.append(((batch, units), dtype))
    if save and mode == "lstm":
        found.append(states)
    if save and kept:
        found.append(((steps, batch, kept * units), dtype))
    return tuple(found)


def _backward_results(
    g: Any, g_hidden: Any, g_cell: Any, out: Tensor, cells: Any, saved: Any, hidden: Tensor,
    cell: Any, weight: Tensor, lengths: Any, mode: str, reverse: bool,
) -> tuple[Any, ...]:  # fmt: skip
    state = (hidden._shape, hidden.dtype)
    gates = ((*out._shape[:2], weight._shape[0]), hidden.dtype)
    found = [state, gates]
    if mode == "gru":
        found.append(gates)
    if mode == "lstm":
        found.append(state)
    return tuple(found)


_recurrence.results(_recurrence_results)
_recurrence_backward.results(_backward_results)


def _product_flops(node: Any) -> int:
    """Of the hidden states' products with `weight`."""
    steps, batch = node.attrs[-1][0 if node.op.name == "_recurrence" else 1][0][:2]
    place = node.op.parameters.index("weight")
    at = sum(1 for a in node.attrs[:place] if a == "<tensor>")
    rows, columns = node.src[at].shape
    return int(2 * steps * batch * rows * columns)


_recurrence.flops(_product_flops)
_recurrence_backward.flops(_product_flops)


def _unpacked(mode: str, outs: Sequence[Any]) -> tuple[Any, Any, Any, Any, Any]:
    """(hidden states, last one, last cell, cells, saved) of what `_recurrence` gives with save."""
    out, last, *rest = outs
    if mode == "lstm":
        return out, last, rest[0], rest[1], rest[2]
    return out, last, None, None, rest[0] if rest else None


# -- a layer ---------------------------------------------------------------------------------------


@composite(keep=True, method=False, public=False)
def _recurrent_layer(
    input: Tensor,
    hidden: Tensor,
    cell: Tensor | None,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None,
    bias_hh: Tensor | None,
    lengths: Tensor | None,
    mode: str,
    reverse: bool,
    save: bool,
) -> tuple[Tensor, ...]:
    """One direction of one layer: the recurrence of `input @ weight_ih^T` and the biases.

    Args:
        input: (T, B, I).
        hidden, cell, lengths, mode, reverse, save: as in `_recurrence`.
        weight_ih: (G * H, I).
        weight_hh: (G * H, H).
        bias_ih, bias_hh: (G * H), both or neither.

    Returns:
        As `_recurrence`.
    """
    bias = inner = None
    if bias_ih is not None and bias_hh is not None:
        bias = bias_ih + bias_hh
        if mode == "gru":  # the new gate's bias is inside its product with the reset gate
            size = hidden._shape[1]
            inner = bias_hh[2 * size :]
            bias = bias_ih + NAMES["cat"]([bias_hh[: 2 * size], NAMES["zeros_like"](inner)])
    gates = FUNCTIONAL["linear"](input, weight_ih, bias)
    found: tuple[Tensor, ...] = _recurrence(
        gates, hidden, cell, weight_hh, inner, lengths, mode, reverse, save
    )
    return found


def _layer_vjp(
    gs: Any, outs: Any, input: Any, hidden: Any, cell: Any, weight_ih: Any, weight_hh: Any,
    bias_ih: Any, bias_hh: Any, lengths: Any, mode: str, reverse: bool, save: bool,
) -> tuple[Any, ...]:  # fmt: skip
    if modes.grad:  # what was kept depends on the arguments, and second gradients must see how
        outs = _recurrent_layer.row.body(
            input, hidden, cell, weight_ih, weight_hh, bias_ih, bias_hh, lengths, mode, reverse,
            True,
        )  # fmt: skip
    out, _, _, cells, saved = _unpacked(mode, outs)
    g, g_hidden, g_cell, *_ = _unpacked(mode, gs)
    found = _recurrence_backward(
        g, g_hidden, g_cell, out, cells, saved, hidden, cell, weight_hh, lengths, mode, reverse
    )
    g_first, g_gates = found[:2]
    inner = found[2] if mode == "gru" else g_gates
    g_cell = found[2] if mode == "lstm" else None
    rows = g_gates.reshape(-1, g_gates._shape[-1])
    g_input = g_ih = g_hh = b_ih = b_hh = None
    if input.requires_grad:
        g_input = matmul_batched(rows, weight_ih).reshape(*input._shape)
    if weight_ih.requires_grad:
        features = input.reshape(-1, input._shape[-1])
        g_ih = matmul_batched(transpose(rows, 0, 1), features)
    if weight_hh.requires_grad:
        g_hh = _weight_gradient(inner, out, hidden, reverse)
    if bias_ih is not None and bias_ih.requires_grad:
        b_ih = g_gates.sum((0, 1))
    if bias_hh is not None and bias_hh.requires_grad:
        b_hh = b_ih if inner is g_gates and b_ih is not None else inner.sum((0, 1))
    return g_input, g_first, g_cell, g_ih, g_hh, b_ih, b_hh, None, None, None, None


def _weight_gradient(inner: Tensor, out: Tensor, hidden: Tensor, reverse: bool) -> Tensor:
    """Sum over steps of the gates' cotangent^T @ the hidden state before."""
    start, after, before = (
        (inner[-1], inner[:-1], out[1:]) if reverse else (inner[0], inner[1:], out[:-1])
    )
    found = matmul_batched(transpose(start, 0, 1), hidden)
    if not after._shape[0]:
        return found
    rows = after.reshape(-1, after._shape[-1])
    states = before.reshape(-1, before._shape[-1])
    return found + matmul_batched(transpose(rows, 0, 1), states)


_recurrent_layer.vjp(
    _layer_vjp,
    saves="out0 out2 out3 out4 input hidden cell weight_ih weight_hh bias_ih bias_hh lengths",
)


# -- stacks of layers ------------------------------------------------------------------------------


def _projected(
    input: Tensor, hidden: Tensor, cell: Any, weights: list[Any], lengths: Any, reverse: bool
) -> tuple[Tensor, ...]:
    """A layer whose hidden state is r = h @ weight_hr^T (Sak et al., arXiv:1402.1128).

    `weight_hh @ r = (weight_hh @ weight_hr) @ h`, so it is a plain layer with that weight, whose
    states are projected all at once. The first r stands beside the first step's input.
    """
    weight_ih, weight_hh, *biases, weight_hr = weights
    steps = NAMES["arange"](input._shape[0]).unsqueeze(1)
    first = 0 if not reverse else input._shape[0] - 1 if lengths is None else lengths - 1
    start = select_where((steps == first).unsqueeze(-1), hidden, 0.0)
    start = start.expand(*input._shape[:2], hidden._shape[-1])
    found = recurrent_layer(
        NAMES["cat"]([input, start], -1),
        NAMES["zeros_like"](cell),
        cell,
        [NAMES["cat"]([weight_ih, weight_hh], 1), weight_hh @ weight_hr, *biases],
        lengths,
        "lstm",
        reverse,
    )
    back = transpose(weight_hr, 0, 1)
    return (found[0] @ back, found[1] @ back, *found[2:])


def recurrent_layer(
    input: Tensor,
    hidden: Tensor,
    cell: Any,
    weights: list[Any],
    lengths: Any,
    mode: str,
    reverse: bool,
) -> tuple[Tensor, ...]:
    """(hidden states, last one[, last cell state]) of one direction of one layer."""
    biases = weights[2:] or [None, None]
    save = tracks((input, hidden, cell, *weights))
    found: tuple[Tensor, ...] = _recurrent_layer(
        input, hidden, cell, *weights[:2], *biases, lengths, mode, reverse, save
    )
    return found[: 3 if cell is not None else 2]


def _layers(
    mode: str,
    input: Tensor,
    states: Sequence[Tensor],
    params: Sequence[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    lengths: Any = None,
) -> tuple[Tensor, ...]:
    """All layers of (T, B, I): the last one's hidden states, then the last states of all.

    Raises:
        RuntimeError: parameters or states that do not fit one another.
    """
    directions = 2 if bidirectional else 1
    projected = mode == "lstm" and states[0].shape[-1] != states[1].shape[-1]
    each = (4 if has_biases else 2) + projected
    if len(params) != each * num_layers * directions:
        raise RuntimeError(
            f"{mode}: expected {each * num_layers * directions} parameters for {num_layers} "
            f"layer(s) and {directions} direction(s), got {len(params)}"
        )
    if not input._shape[0]:
        raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
    if states[0]._shape[0] != num_layers * directions:
        raise RuntimeError(
            f"{mode}: expected states of {num_layers * directions} layers and directions, got "
            f"{list(states[0].shape)}"
        )
    last: list[list[Tensor]] = [[] for _ in states]
    for layer in range(num_layers):
        outs = []
        for direction in range(directions):
            at = layer * directions + direction
            weights = list(params[each * at : each * (at + 1)])
            hidden, cell = states[0][at], states[1][at] if len(states) > 1 else None
            reverse = direction == 1
            if projected:
                found = _projected(input, hidden, cell, weights, lengths, reverse)
            else:
                found = recurrent_layer(input, hidden, cell, weights, lengths, mode, reverse)
            outs.append(found[0])
            for k, state in enumerate(found[1:]):
                last[k].append(state)
        input = outs[0] if directions == 1 else NAMES["cat"](outs, -1)
        if train and dropout > 0.0 and layer < num_layers - 1:
            input = FUNCTIONAL["dropout"](input, dropout)
    return (input, *(NAMES["stack"](part) for part in last))


def _over_packed(
    mode: str,
    data: Tensor,
    batch_sizes: Tensor,
    states: Sequence[Tensor],
    params: Sequence[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
) -> tuple[Tensor, ...]:
    """`_layers` over a packed sequence: the rows of step after step, sorted by length.

    Where these are not known, `data` are padded sequences (T, B, I) and `batch_sizes` their lengths
    (Note [Packing without values] in `nn/utils/rnn.py`).
    """
    if data.ndim == 3:
        return _layers(
            mode, data, states, params, has_biases, num_layers, dropout, train, bidirectional,
            batch_sizes,
        )  # fmt: skip
    places, lengths, steps = packed_places(batch_sizes)
    padded = NAMES["zeros"](steps * len(lengths), data._shape[-1], dtype=data.dtype)
    padded = put_leading(padded, data, "set", places).reshape(steps, len(lengths), -1)
    found = _layers(
        mode, padded, states, params, has_biases, num_layers, dropout, train, bidirectional,
        NAMES["tensor"](lengths),
    )  # fmt: skip
    return (index_leading(found[0].reshape(steps * len(lengths), -1), places), *found[1:])


def packed_places(batch_sizes: Tensor) -> tuple[Tensor, list[int], int]:
    """Where the rows of a packed sequence stand among the (T * B) of the padded one.

    Args:
        batch_sizes: (T) int64, how many sequences have each step, not growing.

    Returns:
        The places, the length of each sequence, and T.
    """
    sizes = batch_sizes.numpy()
    batch = int(sizes[0]) if sizes.size else 0
    step = np.repeat(np.arange(sizes.size), sizes)
    starts = np.repeat(np.cumsum(sizes) - sizes, sizes)
    places = step * batch + np.arange(step.size) - starts
    lengths = (sizes[None, :] > np.arange(batch)[:, None]).sum(1)
    return NAMES["from_numpy"](places), lengths.tolist(), int(sizes.size)


def _stacked(mode: str, doc: str) -> Callable[..., Any]:
    many = mode == "lstm"

    def call(input: Tensor, second: Any, third: Any, *rest: Any) -> tuple[Tensor, ...]:
        # (input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first)
        # or (data, batch_sizes, hx, params, has_biases, .., bidirectional)
        packed = len(rest) == 6 and isinstance(rest[0], (list, tuple))
        if packed:
            states = tuple(third) if many else (third,)
            return _over_packed(mode, input, second, states, *rest)
        states = tuple(second) if many else (second,)
        *rest_, batch_first = rest
        if batch_first:
            input = transpose(input, 0, 1)
        out, *last = _layers(mode, input, states, third, *rest_)
        return (transpose(out, 0, 1) if batch_first else out, *last)

    call.__name__ = call.__qualname__ = mode
    call.__doc__ = doc
    NAMES[mode] = call
    return call


_FORMS = """

    Called as (input, hx, params, has_biases, num_layers, dropout, train, bidirectional,
    batch_first), or for packed sequences as (data, batch_sizes, hx, params, has_biases,
    num_layers, dropout, train, bidirectional).

    Args:
        input: (T, B, I), or (B, T, I) with `batch_first`.
        hx: first state(s), (layers * directions, B, H).
        params: per layer and direction weight_ih, weight_hh[, bias_ih, bias_hh][, weight_hr].

    Returns:
        The last layer's hidden states, and the last state(s) of all layers and directions.
"""
lstm = _stacked("lstm", "Long short-term memory (Hochreiter and Schmidhuber, 1997)." + _FORMS)
gru = _stacked("gru", "Gated recurrent units (Cho et al., arXiv:1406.1078)." + _FORMS)
rnn_tanh = _stacked("rnn_tanh", "Elman's recurrent network with tanh." + _FORMS)
rnn_relu = _stacked("rnn_relu", "Elman's recurrent network with relu." + _FORMS)


# -- cells -----------------------------------------------------------------------------------------


def _cell(mode: str, input: Tensor, hidden: Tensor, cell: Any, weights: Sequence[Any]) -> Any:
    w_ih, w_hh, b_ih, b_hh = weights
    linear = FUNCTIONAL["linear"]
    gates, inner = linear(input, w_ih, b_ih), linear(hidden, w_hh, b_hh)
    return _STEPS[mode](gates, inner, hidden, cell, None)


@composite(method=False)
def lstm_cell(
    input: Tensor, hx: Any, w_ih: Tensor, w_hh: Tensor, b_ih: Any = None, b_hh: Any = None
) -> tuple[Tensor, Tensor]:
    """One step of an LSTM.

    Args:
        input: (B, I) or (I).
        hx: the hidden state and the cell state, (B, H) or (H).
        w_ih, w_hh: (4 * H, I) and (4 * H, H), for the input, forget, cell and output gates.
        b_ih, b_hh: (4 * H) or None.

    Returns:
        The next hidden state and the next cell state.
    """
    h, c, _ = _cell("lstm", input, hx[0], hx[1], (w_ih, w_hh, b_ih, b_hh))
    return h, c


@composite(method=False)
def gru_cell(
    input: Tensor, hx: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Any = None, b_hh: Any = None
) -> Tensor:
    """One step of gated recurrent units; weights (3 * H, .) for the reset, update and new gates,
    everything else as in `lstm_cell`."""
    h: Tensor = _cell("gru", input, hx, None, (w_ih, w_hh, b_ih, b_hh))[0]
    return h


@composite(method=False)
def rnn_tanh_cell(
    input: Tensor, hx: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Any = None, b_hh: Any = None
) -> Tensor:
    """tanh(input @ w_ih^T + b_ih + hx @ w_hh^T + b_hh)."""
    h: Tensor = _cell("rnn_tanh", input, hx, None, (w_ih, w_hh, b_ih, b_hh))[0]
    return h


@composite(method=False)
def rnn_relu_cell(
    input: Tensor, hx: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Any = None, b_hh: Any = None
) -> Tensor:
    """relu(input @ w_ih^T + b_ih + hx @ w_hh^T + b_hh)."""
    h: Tensor = _cell("rnn_relu", input, hx, None, (w_ih, w_hh, b_ih, b_hh))[0]
    return h
