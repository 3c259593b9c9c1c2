"""Tensors without memory: shapes and dtypes of what is never computed, and modules made of them."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

import flambeau
from flambeau import nn

META = flambeau.device("meta")
LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(6, 4), (2, 6)),
    "conv": (lambda: nn.Conv2d(3, 4, 3), (2, 3, 8, 8)),
    "norm": (lambda: nn.Sequential(nn.BatchNorm1d(5), nn.LayerNorm(5), nn.PReLU()), (3, 5)),
    "encoder": (lambda: nn.TransformerEncoderLayer(8, 2, 16), (2, 3, 8)),
    "lstm": (lambda: nn.LSTM(3, 4), (2, 5, 3)),
    "dropout": (lambda: nn.Sequential(nn.Dropout(), nn.AlphaDropout(), nn.RReLU()), (4, 4)),
}


def made(t: Any) -> list[Any]:
    """A result's tensors."""
    return [t] if isinstance(t, flambeau.Tensor) else [x for part in t for x in made(part)]


@pytest.mark.parametrize("name", LAYERS)
def test_modules_made_without_memory_have_the_right_shapes(name: str) -> None:
    layer, shape = LAYERS[name]
    with META:
        module, x = layer(), flambeau.ones(shape)
    state = [*module.parameters(), *module.buffers()]
    assert all(t.device == META for t in state)
    want = made(layer()(flambeau.ones(shape)))
    found = made(module(x))
    assert [(t.shape, t.dtype, t.device) for t in found] == [(t.shape, t.dtype, META) for t in want]
    if found[0].requires_grad:
        found[0].sum().backward()
    for p in module.parameters():
        assert p.grad.shape == p.shape
        assert p.grad.device == META


def test_memory_is_given_later() -> None:
    source = nn.Linear(3, 4)
    module = nn.Linear(3, 4, device="meta")
    with pytest.warns(UserWarning, match="assign=True"):
        module.load_state_dict(source.state_dict())
    assert module.weight.is_meta
    with pytest.raises(NotImplementedError, match="to_empty"):
        module.to("cpu")
    emptied = copy.deepcopy(module).to_empty(device="cpu")
    assert emptied.weight.tolist() == [[0.0] * 3] * 4
    module.load_state_dict(source.state_dict(), assign=True)
    assert module.weight.tolist() == source.weight.tolist()
    assert module.weight.requires_grad
    assert source.to("meta").weight.is_meta


def test_more_than_any_memory() -> None:
    module = nn.Linear(1 << 24, 1 << 24, device=META)
    y = module(flambeau.empty(2, 1 << 24, device=META))
    y.add_(1).mul_(2)
    assert y.shape == (2, 1 << 24)
    flambeau.optim.Adam(module.parameters())


def test_nothing_is_kept_of_how_a_value_came_about() -> None:
    x = flambeau.ones(3, device=META)
    for _ in range(3):
        x = x + 1
    flambeau.record.flush()
    assert x._cell.node.src == ()


@pytest.mark.parametrize(("use", "error", "words"), [
    (lambda t: t.sum().item(), RuntimeError, "item"),
    (lambda t: bool(t.sum()), RuntimeError, "item"),
    (lambda t: t.numpy(), TypeError, "meta device"),
    (lambda t: t.cpu(), NotImplementedError, "no data"),
    (lambda t: t.tolist(), NotImplementedError, "no data"),
    (lambda t: t.nonzero(), NotImplementedError, "no data"),
    (lambda t: flambeau.ones(2).copy_(t), NotImplementedError, "no data"),
    (lambda t: t + flambeau.ones(2), RuntimeError, "same device"),
])  # fmt: skip
def test_values_are_refused(use: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        use(flambeau.ones(2, device=META))


def test_copies_and_pickles() -> None:
    t = flambeau.ones(2, 3, device=META, dtype=flambeau.float16, requires_grad=True)
    for again in (copy.deepcopy(t), pickle.loads(pickle.dumps(t)), flambeau.zeros_like(t)):
        assert (again.shape, again.dtype, again.device) == (t.shape, t.dtype, META)
    assert flambeau.zeros(3).to("meta").copy_(flambeau.ones(3)).is_meta
    assert t.data_ptr() == 0
    assert "device='meta'" in repr(t)
