"""Recurrent layers, cells and packed sequences against loops written out in NumPy."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau import nn, record
from flambeau.nn.utils import rnn
from flambeau.passes.inline import inline

Array = np.ndarray[Any, Any]


def sigmoid(x: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-x))


def step(mode: str, x: Array, h: Array, c: Array, w: dict[str, Array], end: str) -> Any:
    """The next states; `w` are a layer's parameters, `end` its suffix."""
    zero = np.zeros(())
    of_x = x @ w["weight_ih" + end].T + w.get("bias_ih" + end, zero)
    of_h = h @ w["weight_hh" + end].T + w.get("bias_hh" + end, zero)
    if mode == "LSTM":
        i, f, g, o = np.split(of_x + of_h, 4, -1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        return (h @ w["weight_hr" + end].T if "weight_hr" + end in w else h), c
    if mode == "GRU":
        (xr, xz, xn), (hr, hz, hn) = np.split(of_x, 3, -1), np.split(of_h, 3, -1)
        z = sigmoid(xz + hz)
        return (1 - z) * np.tanh(xn + sigmoid(xr + hr) * hn) + z * h, c
    total = of_x + of_h
    return (np.tanh(total) if mode == "RNN_TANH" else np.maximum(total, 0)), c


def sequence(layer: Any, x: Array, lengths: list[int]) -> tuple[Array, Array, Array]:
    """(outputs, last hidden states, last cell states) of a module over (T, B, I), from zeros."""
    w = {k: np.array(v.double().numpy()) for k, v in layer.state_dict().items()}
    steps, batch, _ = x.shape
    last_h, last_c = [], []
    for number in range(layer.num_layers):
        outs = []
        for suffix in ("", "_reverse")[: 2 if layer.bidirectional else 1]:
            end = f"_l{number}{suffix}"
            size = w["weight_hh" + end].shape[1]
            out = np.zeros((steps, batch, size))
            hs, cs = np.zeros((batch, size)), np.zeros((batch, layer.hidden_size))
            for b in range(batch):
                h, c = np.zeros(size), np.zeros(layer.hidden_size)
                order = range(lengths[b])
                for t in reversed(order) if suffix else order:
                    h, c = step(layer.mode, x[t, b], h, c, w, end)
                    out[t, b] = h
                hs[b], cs[b] = h, c
            outs.append(out)
            last_h.append(hs)
            last_c.append(cs)
        x = np.concatenate(outs, -1)
    return x, np.stack(last_h), np.stack(last_c)


def compare(got: Any, want: Array, slack: float = 2e-6) -> None:
    np.testing.assert_allclose(got.detach().double().numpy(), want, rtol=slack, atol=slack)


KINDS = [("RNN", {}), ("RNN", {"nonlinearity": "relu"}), ("GRU", {}), ("LSTM", {}),
         ("LSTM", {"proj_size": 3})]  # fmt: skip


@pytest.mark.parametrize(("kind", "more"), KINDS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_layers_of_all_kinds(
    kind: str, more: dict[str, Any], bidirectional: bool, rng: np.random.Generator
) -> None:
    for layers, bias, units, batch, steps in ((1, True, 17, 1, 5), (3, False, 4, 9, 3)):
        layer = getattr(nn, kind)(6, units, layers, bias=bias, bidirectional=bidirectional, **more)
        x = rng.standard_normal((steps, batch, 6)).astype(np.float32)
        out, states = layer(flambeau.tensor(x))
        want, h, c = sequence(layer, x, [steps] * batch)
        compare(out, want)
        compare(states[0] if kind == "LSTM" else states, h)
        if kind == "LSTM":
            compare(states[1], c)


@pytest.mark.parametrize(("kind", "more"), KINDS)
def test_packed_sequences(kind: str, more: dict[str, Any], rng: np.random.Generator) -> None:
    lengths = [2, 7, 1, 5]
    layer = getattr(nn, kind)(3, 5, 2, bidirectional=True, batch_first=True, **more)
    x = rng.standard_normal((4, 7, 3)).astype(np.float32)
    packed = rnn.pack_padded_sequence(flambeau.tensor(x), lengths, True, enforce_sorted=False)
    out, states = layer(packed)
    padded, found = rnn.pad_packed_sequence(out, batch_first=True)
    want, h, c = sequence(layer, x.transpose(1, 0, 2), lengths)
    assert found.tolist() == lengths
    compare(padded, want.transpose(1, 0, 2))
    compare(states[0] if kind == "LSTM" else states, h)
    if kind == "LSTM":
        compare(states[1], c)


@pytest.mark.parametrize(("kind", "more"), KINDS)
def test_gradients_by_differences(kind: str, more: dict[str, Any]) -> None:
    layer = getattr(nn, kind)(2, 4, 2, bidirectional=True, dtype=flambeau.float64, **more)
    weights = list(layer.parameters())
    x = flambeau.randn(3, 2, 2, dtype=flambeau.float64, requires_grad=True)
    hidden = flambeau.randn(4, 2, more.get("proj_size", 4), dtype=flambeau.float64)
    hx: Any = hidden.requires_grad_()
    if kind == "LSTM":
        hx = (hx, flambeau.randn(4, 2, 4, dtype=flambeau.float64, requires_grad=True))

    def call(x: Any, *rest: Any) -> Any:
        given = rest[:2] if kind == "LSTM" else rest[0]
        out, states = layer(x, given)
        return (out, *states) if kind == "LSTM" else (out, states)

    given = hx if kind == "LSTM" else (hx,)
    assert flambeau.autograd.gradcheck(call, (x, *given, *weights))
    packed = rnn.pack_sequence([x.detach()[:k, 0] for k in (3, 1)])

    def over_packed(data: Any) -> Any:
        return layer(packed._replace(data=data))[0].data

    data = packed.data.clone().requires_grad_()
    assert flambeau.autograd.gradcheck(over_packed, (data,))


def recorded(mode: str, steps: int) -> list[int]:
    """Nodes of a layer, of its gradients and of their gradients, layers taken apart."""
    layer = getattr(nn, mode)(3, 4, bidirectional=True)
    x = flambeau.randn(steps, 2, 3)
    record.flush()
    counts = []

    def count() -> None:
        graph = inline(record.pending_graph(), lambda node: node.op.calls)
        counts.append(len(graph.nodes))

    out = layer(x)[0]
    count()
    first = flambeau.autograd.grad(out.square().sum(), layer.parameters(), create_graph=True)
    count()
    total = sum(g.square().sum() for g in first)
    second = flambeau.autograd.grad(total, layer.parameters())
    count()
    assert all(g.isfinite().all() for g in second)
    return counts


@pytest.mark.parametrize("mode", ["RNN", "GRU", "LSTM"])
def test_graphs_do_not_grow_with_time(mode: str) -> None:
    assert recorded(mode, 3) == recorded(mode, 40)


def test_second_gradients() -> None:
    for kind in ("RNN", "GRU", "LSTM"):
        layer = getattr(nn, kind)(2, 3, dtype=flambeau.float64)
        x = flambeau.randn(3, 2, 2, dtype=flambeau.float64, requires_grad=True)
        assert flambeau.autograd.gradgradcheck(lambda x, layer=layer: layer(x)[0], (x,))


def test_one_node_a_layer_whatever_the_length() -> None:
    counts = []
    layer = nn.LSTM(4, 8, 2)
    for steps in (3, 50):
        record.flush()
        out, _ = layer(flambeau.randn(steps, 2, 4))
        seen = set()
        stack = [out._node()]
        while stack:
            node = stack.pop()
            if node not in seen:
                seen.add(node)
                stack += [s for s in node.src if hasattr(s, "op")]
        counts.append(len(seen))
    assert counts[0] == counts[1]


def test_other_lengths_compile_nothing() -> None:
    layer, head = nn.LSTM(4, 8, batch_first=True), nn.Linear(8, 2)

    def step(steps: int) -> int:
        before = record.counters.compiled
        out, _ = layer(flambeau.randn(3, steps, 4))
        loss = head(out[:, -1]).square().mean()
        loss.backward()
        loss.item()
        return record.counters.compiled - before

    for steps in (5, 9, 12, 20):  # loops over few elements lie otherwise (`codegen/space.py`)
        step(steps)
    assert [step(steps) for steps in (7, 30, 31, 50)] == [0] * 4


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_without_a_batch_and_batch_first(kind: str) -> None:
    layer = getattr(nn, kind)(3, 5, 2)
    x = flambeau.randn(4, 3)
    out, states = layer(x)
    many, _all_states = layer(x.unsqueeze(1))
    assert out.shape == (4, 5)
    assert flambeau.equal(out, many.squeeze(1))
    first = states[0] if kind == "LSTM" else states
    assert first.shape == (2, 5)
    other = copy.deepcopy(layer)
    other.batch_first = True
    again, _ = other(x.unsqueeze(0))
    assert flambeau.allclose(again[0], out)
    given = tuple(s.unsqueeze(1) for s in states) if kind == "LSTM" else states.unsqueeze(1)
    assert flambeau.allclose(layer(x, states)[0], layer(x.unsqueeze(1), given)[0].squeeze(1))


@pytest.mark.parametrize(("kind", "gates"), [("RNN", 1), ("GRU", 3), ("LSTM", 4)])
def test_cells_are_steps_of_layers(kind: str, gates: int) -> None:
    layer, cell = getattr(nn, kind)(3, 5), getattr(nn, kind + "Cell")(3, 5)
    for name, value in cell.state_dict().items():
        assert value.shape[0] == gates * 5
        getattr(layer, name + "_l0").data.copy_(value)
    x, state = flambeau.randn(4, 2, 3), None
    for t in range(4):
        state = cell(x[t], state)
        hidden = state[0] if kind == "LSTM" else state
        assert flambeau.allclose(hidden, layer(x)[0][t], atol=1e-6)
    single = cell(x[0, 0])
    assert (single[0] if kind == "LSTM" else single).shape == (5,)


def test_dropout_only_between_layers_while_training() -> None:
    layer = nn.GRU(3, 64, 2, dropout=1.0)
    out, _ = layer(flambeau.ones(2, 2, 3))
    layer.weight_ih_l1.data.zero_()
    silent, _ = layer(flambeau.ones(2, 2, 3))
    assert flambeau.allclose(out, silent)
    layer.eval()
    assert not flambeau.allclose(nn.GRU(3, 64, 2).eval()(flambeau.ones(2, 2, 3))[0], silent)


def test_parameters_and_their_names() -> None:
    layer = nn.LSTM(3, 5, 2, bidirectional=True, proj_size=2)
    shapes = {k: tuple(v.shape) for k, v in layer.state_dict().items()}
    assert shapes["weight_ih_l1_reverse"] == (20, 4)
    assert shapes["weight_hh_l0"] == (20, 2)
    assert shapes["weight_hr_l1"] == (2, 5)
    assert list(shapes)[:5] == ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0",
                                "weight_hr_l0"]  # fmt: skip
    assert all(abs(p).max().item() <= 5**-0.5 for p in layer.parameters())
    assert repr(layer) == "LSTM(3, 5, proj_size=2, num_layers=2, bidirectional=True)"
    layer.flatten_parameters()
    again = pickle.loads(pickle.dumps(layer))
    x = flambeau.randn(4, 2, 3)
    assert flambeau.equal(again(x)[0], layer(x)[0])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.LSTM(3, 0), ValueError, "hidden_size must be greater than zero"),
        (lambda: nn.LSTM(3, 4, proj_size=4), ValueError, "proj_size has to be smaller"),
        (lambda: nn.GRU(3, 4, proj_size=2), ValueError, "only supported for LSTM"),
        (lambda: nn.RNN(3, 4, nonlinearity="elu"), ValueError, "Unknown nonlinearity 'elu'"),
        (lambda: nn.LSTM(3, 4, dropout=2.0), ValueError, "dropout should be a number"),
        (lambda: nn.LSTM(3.0, 4), TypeError, "input_size should be of type int"),
        (lambda: nn.LSTM(3, 4)(flambeau.ones(2, 2, 2)), RuntimeError, "Expected 3, got 2"),
        (lambda: nn.LSTM(3, 4)(flambeau.ones(3)), ValueError, "Expected input to be 2D or 3D"),
        (lambda: nn.GRU(3, 4)(flambeau.ones(2, 2, 3), flambeau.ones(1, 3, 4)), RuntimeError,
         r"Expected hidden size \(1, 2, 4\), got \[1, 3, 4\]"),
        (lambda: nn.GRU(3, 4)(flambeau.ones(0, 2, 3)), RuntimeError, "larger than 0 in RNN"),
        (lambda: nn.GRU(3, 4)(flambeau.ones(2, 2, 3).double()), ValueError, "does not match"),
        (lambda: nn.LSTMCell(3, 4)(flambeau.ones(2, 2)), RuntimeError, "inconsistent input_size"),
        (lambda: nn.RNNCell(3, 4)(flambeau.ones(2, 3, 1)), ValueError, "to be 1D or 2D, got 3D"),
        (lambda: rnn.pack_padded_sequence(flambeau.ones(3, 2), [1, 3]), RuntimeError, "sorted"),
        (lambda: rnn.pack_padded_sequence(flambeau.ones(3, 2), [3, 0]), RuntimeError, "<= 0"),
        (lambda: rnn.pack_padded_sequence(flambeau.ones(3, 2), [3]), RuntimeError, "batch_size"),
        (lambda: rnn.pack_padded_sequence(flambeau.ones(3, 2), [4, 1]), RuntimeError, "at most 3"),
    ],
)  # fmt: skip
def test_refusals(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_packing_and_unpacking() -> None:
    given = [flambeau.arange(k) + 10 * k for k in (2, 5, 3)]
    packed = rnn.pack_sequence(given, enforce_sorted=False)
    assert packed.batch_sizes.tolist() == [3, 3, 2, 1, 1]
    assert packed.data.tolist()[:4] == [50, 30, 20, 51]
    assert packed.sorted_indices.tolist() == [1, 2, 0]
    assert packed.unsorted_indices.tolist() == [2, 0, 1]
    assert [s.tolist() for s in rnn.unpack_sequence(packed)] == [s.tolist() for s in given]
    padded, lengths = rnn.pad_packed_sequence(packed, padding_value=-1, total_length=6)
    assert padded.shape == (6, 3)
    assert padded[2:, 0].tolist() == [-1] * 4
    assert lengths.tolist() == [2, 5, 3]
    assert packed.to(flambeau.float64).data.dtype is flambeau.float64
    assert packed.cpu() is packed
    with pytest.raises(ValueError, match="total_length=2"):
        rnn.pad_packed_sequence(packed, total_length=2)
    assert rnn.invert_permutation(None) is None
