"""Checkpointed functions give the gradients of plain ones, and keep only their inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau import record
from flambeau.nn import functional as F
from flambeau.utils.checkpoint import checkpoint, checkpoint_sequential


def block(x: Any, w: Any, scale: float = 1.0) -> Any:
    return F.dropout((x @ w).tanh(), 0.5) * scale


@pytest.mark.parametrize("x_requires_grad", [True, False])
def test_gradients(x_requires_grad: bool) -> None:
    found = []
    x0, w0 = flambeau.randn(4, 3), flambeau.randn(3, 3)
    for run in (block, lambda *a, **k: checkpoint(block, *a, use_reentrant=False, **k)):
        flambeau.manual_seed(0)
        x = x0.clone().requires_grad_(x_requires_grad)
        w = w0.clone().requires_grad_()
        y = run(x, w, scale=2.0)
        after = flambeau.rand(1).item()
        (y**2).sum().backward()
        found.append(
            (
                y.tolist(),
                w.grad.tolist(),
                None if x.grad is None else x.grad.tolist(),
                after,
                flambeau.rand(1).item(),
            )
        )
    for plain, kept in zip(*found, strict=True):
        if plain is None:
            assert kept is None
        else:
            np.testing.assert_allclose(kept, plain, rtol=1e-5, atol=1e-6)


def test_parameters_inside_get_gradients_though_no_argument_wants_one() -> None:
    layer = flambeau.nn.Linear(3, 2)
    x = flambeau.randn(4, 3)
    checkpoint(layer, x, use_reentrant=False).sum().backward()
    np.testing.assert_allclose(layer.bias.grad.numpy(), [4.0, 4.0])


def test_the_function_runs_again() -> None:
    calls = []

    def f(x: Any) -> Any:
        calls.append(1)
        return x.exp()

    x = flambeau.ones(2, requires_grad=True)
    y = checkpoint(f, x)
    assert len(calls) == 1
    y.sum().backward()
    assert len(calls) == 2


def test_sequences() -> None:
    layers = [flambeau.nn.Linear(3, 3) for _ in range(4)]
    x = flambeau.randn(2, 3, requires_grad=True)
    y = checkpoint_sequential(layers, 2, x)
    y.sum().backward()
    got, x.grad = x.grad, None
    z = x
    for layer in layers:
        z = layer(z)
    z.sum().backward()
    np.testing.assert_allclose(got.numpy(), x.grad.numpy(), rtol=1e-5)


def test_the_second_run_is_in_the_same_state_of_autocast() -> None:
    seen = []

    def f(x: Any, w: Any) -> Any:
        y = F.linear(x, w)
        seen.append(y.dtype)
        return F.gelu(y)

    x, w0 = flambeau.randn(4, 3), flambeau.randn(3, 3)
    grads = []
    for run in (f, lambda *a: checkpoint(f, *a, use_reentrant=False)):
        w = w0.clone().requires_grad_()
        with flambeau.autocast("cpu", flambeau.bfloat16):
            y = run(x, w)
        y.float().sum().backward()
        grads.append(w.grad.tolist())
    assert seen == [flambeau.bfloat16] * 3
    assert not flambeau.is_autocast_enabled("cpu")
    np.testing.assert_allclose(*grads, rtol=1e-2)


@pytest.mark.parametrize("region", [False, True])
def test_what_is_computed_again_is_not_kept(region: bool) -> None:
    """Within one program too: the memory planned for it is much less, and the bits are the same."""

    class Block(flambeau.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = flambeau.nn.LayerNorm(32)
            self.up, self.down = flambeau.nn.Linear(32, 128), flambeau.nn.Linear(128, 32)

        def forward(self, x: Any) -> Any:
            return x + F.dropout(self.down(F.gelu(self.up(self.norm(x)))), 0.1)

    blocks = [Block() for _ in range(6)]
    leaf = flambeau.randn(256, 32)
    sizes, found = [], []
    for keep in (True, False):
        flambeau.manual_seed(1)
        record.flush()
        record.clear_programs()
        x = leaf.clone().requires_grad_()
        h = x
        with flambeau.autocast("cpu", enabled=region):
            for block in blocks:
                h = block(h) if keep else checkpoint(block, h, use_reentrant=False)
        h.square().mean().backward()
        for block in blocks:
            block.zero_grad()
        found.append(x.grad.tolist())
        sizes.append(max(p.arena_bytes for p in record._programs.values()))
    assert sizes[1] < 0.65 * sizes[0]
    if region:  # conversions and sums may round elsewhere
        np.testing.assert_allclose(*found, rtol=0.05, atol=1e-6)
    else:
        np.testing.assert_allclose(*found, rtol=1e-5, atol=1e-9)
