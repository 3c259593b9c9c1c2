"""Recurrent layers against torch: results, gradients, states, packed sequences, printed forms."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import flambeau

torch = pytest.importorskip("torch")

COMBINATIONS = [
    (kind, more, layers, bidirectional, batch_first, packed)
    for kind, more in (
        ("RNN", {"nonlinearity": "relu"}),
        ("RNN", {"bias": False}),
        ("GRU", {}),
        ("LSTM", {}),
        ("LSTM", {"proj_size": 3}),
    )
    for layers, bidirectional, batch_first, packed in itertools.product(
        (1, 2), (False, True), (False, True), (False, True)
    )
    if (layers + bidirectional + batch_first + packed) % 2
]


def same(got: Any, want: Any) -> None:
    want = want.detach().numpy()
    np.testing.assert_allclose(got.detach().numpy(), want, rtol=1e-5, atol=2e-6)


def of(t: Any) -> Any:
    return flambeau.tensor(t.detach().numpy())


@pytest.mark.parametrize(
    ("kind", "more", "layers", "bidirectional", "batch_first", "packed"), COMBINATIONS
)
def test_results_and_gradients(
    kind: str, more: dict[str, Any], layers: int, bidirectional: bool, batch_first: bool,
    packed: bool,
) -> None:  # fmt: skip
    options = {"num_layers": layers, "bidirectional": bidirectional, "batch_first": batch_first}
    theirs = getattr(torch.nn, kind)(4, 9, **options, **more)
    ours = getattr(flambeau.nn, kind)(4, 9, **options, **more)
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict({k: of(v) for k, v in theirs.state_dict().items()})
    steps, batch = 6, 5
    x = torch.randn(*((batch, steps) if batch_first else (steps, batch)), 4)
    count = layers * (1 + bidirectional)
    first = [torch.randn(count, batch, more.get("proj_size", 9))]
    if kind == "LSTM":
        first.append(torch.randn(count, batch, 9))
    lengths = [3, 6, 1, 6, 4]
    found = []
    for library, layer, data, states in (
        (flambeau, ours, of(x), [of(s) for s in first]),
        (torch, theirs, x, first),
    ):
        tools = library.nn.utils.rnn
        leaves = [t.requires_grad_() for t in (data, *states)]
        given = leaves[0]
        if packed:
            given = tools.pack_padded_sequence(given, lengths, batch_first, enforce_sorted=False)
        out, last = layer(given, tuple(leaves[1:]) if kind == "LSTM" else leaves[1])
        if packed:
            out, _ = tools.pad_packed_sequence(out, batch_first)
        last = last if kind == "LSTM" else (last,)
        loss = (out * out * 0.5).sum() + sum((s * s * s).sum() for s in last)
        loss.backward()
        grads = [t.grad for t in (*leaves, *layer.parameters())]
        found.append([out, *last, *grads])
    for got, want in zip(*found, strict=True):
        same(got, want)


def test_functional_forms() -> None:
    layer = torch.nn.LSTM(3, 4, 2)
    x = torch.randn(5, 2, 3)
    hx = (torch.randn(2, 2, 4), torch.randn(2, 2, 4))
    want = torch.lstm(x, hx, layer._flat_weights, True, 2, 0.0, False, False, False)
    weights = [of(w) for w in layer._flat_weights]
    pair = tuple(of(s) for s in hx)
    got = flambeau.lstm(of(x), pair, weights, True, 2, 0.0, False, False, False)
    for a, b in zip(got, want, strict=True):
        same(a, b)
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, [5, 2])
    want = torch.lstm(
        packed.data, packed.batch_sizes, hx, layer._flat_weights, True, 2, 0.0, False, False
    )
    sizes = of(packed.batch_sizes)
    got = flambeau.lstm(of(packed.data), sizes, pair, weights, True, 2, 0.0, False, False)
    for a, b in zip(got, want, strict=True):
        same(a, b)


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_cells(kind: str) -> None:
    theirs, ours = getattr(torch.nn, kind + "Cell")(3, 5), getattr(flambeau.nn, kind + "Cell")(3, 5)
    assert repr(ours) == repr(theirs)
    ours.load_state_dict({k: of(v) for k, v in theirs.state_dict().items()})
    x = torch.randn(4, 3)
    got, want = ours(of(x)), theirs(x)
    for a, b in zip(*((g if kind == "LSTM" else (g,)) for g in (got, want)), strict=True):
        same(a, b)


def test_as_close_to_float64_as_torch() -> None:
    errors = {"flambeau": 0.0, "torch": 0.0}
    for kind in ("RNN", "GRU", "LSTM"):
        theirs = getattr(torch.nn, kind)(32, 64, 2)
        ours = getattr(flambeau.nn, kind)(32, 64, 2)
        ours.load_state_dict({k: of(v) for k, v in theirs.state_dict().items()})
        x = torch.randn(40, 8, 32)
        got, single = ours(of(x))[0].detach().numpy(), theirs(x)[0].detach().numpy()
        want = theirs.double()(x.double())[0].detach().numpy()
        errors["flambeau"] += float(np.sqrt(((got - want) ** 2).mean()))
        errors["torch"] += float(np.sqrt(((single - want) ** 2).mean()))
    assert errors["flambeau"] <= 1.1 * errors["torch"], errors
