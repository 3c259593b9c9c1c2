"""Optimizers on parameters of 16 bits, and with float32 masters beside them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau.nn import functional as F
from tests.conftest import HAS_TORCH

if HAS_TORCH:
    import torch

SHAPES = ((5, 7), (33,), (), (0,))
OPTIMIZERS = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    ("Adam", {"lr": 1e-2, "weight_decay": 0.1}),
    ("AdamW", {"lr": 1e-2}),
    ("AdamW", {"lr": 1e-2, "amsgrad": True, "maximize": True}),
    ("AdamW", {"lr": 1e-2, "foreach": True}),
    ("AdamW", {"lr": 1e-2, "fused": True}),
    ("RMSprop", {"lr": 1e-2}),
    ("Adagrad", {"lr": 1e-2}),
]


def trained(lib: Any, name: str, options: Any, dtype: str) -> tuple[list[Any], list[Any]]:
    """Parameters after some steps with drawn gradients, and the optimizer's state."""
    rng = np.random.default_rng(0)
    kind = getattr(lib, dtype)
    ps = [lib.tensor(rng.standard_normal(s)).to(kind).requires_grad_() for s in SHAPES]
    optimizer = getattr(lib.optim, name)(ps, **options)
    for _ in range(6):
        for p in ps:
            p.grad = lib.tensor(rng.standard_normal(tuple(p.shape))).to(kind)
        optimizer.step()
    state = [v for p in ps for k, v in sorted(optimizer.state[p].items()) if k != "step"]
    return [p.detach() for p in ps], [s for s in state if s is not None]


@pytest.mark.parity
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize(("name", "options"), OPTIMIZERS)
def test_steps_are_torchs_but_for_rounding(name: str, options: Any, dtype: str) -> None:
    unit = {"bfloat16": 2**-8, "float16": 2**-11, "float32": 2**-22}[dtype]
    ours, theirs = trained(flambeau, name, options, dtype), trained(torch, name, options, dtype)
    for got, want in zip(ours[0] + ours[1], theirs[0] + theirs[1], strict=True):
        assert got.dtype is getattr(flambeau, dtype)
        g, w = got.double().numpy(), want.double().numpy()
        if dtype == "float16":  # where torch's eps of 1e-8 is zero, it may divide zero by zero
            g, w = g[np.isfinite(w)], w[np.isfinite(w)]
        # torch rounds the learning rate of SGD to the dtype; six steps may differ by a unit each
        np.testing.assert_allclose(g, w, rtol=12 * unit, atol=12 * unit)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_scaled_sum_is_rounded_once(dtype: str) -> None:
    kind = getattr(flambeau, dtype)
    rng = np.random.default_rng(1)
    a, b, c = (flambeau.tensor(rng.uniform(1, 2, 400)).to(kind) for _ in range(3))
    x, y, z = (t.double().numpy() for t in (a, b, c))
    for got, exact in (
        (a.add(b, alpha=0.3), x + 0.3 * y),
        (a.sub(b, alpha=0.3), x - 0.3 * y),
        (flambeau.addcmul(a, b, c, value=0.3), x + 0.3 * y * z),
        (flambeau.addcdiv(a, b, c, value=0.3), x + 0.3 * y / z),
        (flambeau.lerp(a, b, 0.3), x + 0.3 * (y - x)),
    ):
        assert got.dtype is kind
        want = flambeau.tensor(exact.astype(np.float32)).to(kind)
        assert (got == want).double().mean().item() > 0.995  # ties of the float32 result apart


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_layers_bias_is_added_before_rounding(dtype: str) -> None:
    kind = getattr(flambeau, dtype)
    rng = np.random.default_rng(2)
    x, w = (flambeau.tensor(rng.standard_normal(s)).to(kind) for s in ((70, 40), (50, 40)))
    b = flambeau.tensor(rng.standard_normal(50)).to(kind)
    exact = x.double().numpy() @ w.double().numpy().T + b.double().numpy()
    want = flambeau.tensor(exact.astype(np.float32)).to(kind)
    for got in (F.linear(x, w, b), flambeau.addmm(b, x, w.t())):
        assert (got == want).double().mean().item() > 0.98


def test_masters_of_float32_keep_what_bfloat16_drops() -> None:
    """The recipe of docs/amp.md: steps too small for bfloat16 still add up."""
    layer = flambeau.nn.Linear(4, 4, bias=False).to(flambeau.bfloat16)
    with flambeau.no_grad():
        layer.weight.fill_(1.0)
    alone = flambeau.ones(4, 4, dtype=flambeau.bfloat16).requires_grad_()
    masters = [p.detach().float().requires_grad_() for p in layer.parameters()]
    optimizer = flambeau.optim.SGD(masters, lr=1e-3)
    other = flambeau.optim.SGD([alone], lr=1e-3)
    x = flambeau.ones(1, 4, dtype=flambeau.bfloat16)
    for _ in range(50):
        layer(x).float().sum().backward()
        for master, p in zip(masters, layer.parameters(), strict=True):
            master.grad, p.grad = p.grad.float(), None
        optimizer.step()
        with flambeau.no_grad():
            for master, p in zip(masters, layer.parameters(), strict=True):
                p.copy_(master)
        alone.grad = flambeau.ones_like(alone)
        other.step()
    np.testing.assert_allclose(masters[0].detach().numpy(), 0.95, rtol=1e-5)
    assert layer.weight.float().tolist() == [[0.94921875] * 4] * 4
    assert alone.float().tolist() == [[1.0] * 4] * 4
