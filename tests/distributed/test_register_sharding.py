"""Operators that programs say how to do on parts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau.distributed.groups import spawn_local
from flambeau.distributed.tensor import (
    Partial,
    Replicate,
    Shard,
    distribute_tensor,
    init_device_mesh,
    rules,
)
from flambeau.distributed.tensor.experimental import register_sharding

pytestmark = pytest.mark.timeout(120)
SHAPES: list[list[int]] = []  # of the parts that the operator was called with


@flambeau.library.custom_op("tests::spread", mutates_args=())
def spread(x: flambeau.Tensor, w: flambeau.Tensor, dim: int) -> flambeau.Tensor:
    SHAPES.append(list(x.shape))
    return (x - x.mean(dim, keepdim=True)) * w


def kept(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.dim = inputs[2]
    ctx.save_for_backward(*inputs[:2])


def derivative(ctx: Any, g: Any) -> Any:
    x, w = ctx.saved_tensors
    gw = (g * (x - x.mean(ctx.dim, keepdim=True))).sum()
    return g * w - (g * w).mean(ctx.dim, keepdim=True), gw, None


spread.register_autograd(derivative, setup_context=kept)


@pytest.fixture(autouse=True)
def no_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "RULES", {})
    SHAPES.clear()


def of_spread(x: Any, w: Any, dim: int) -> Any:
    whole = ([Replicate()], [Replicate(), Replicate(), None])
    dims = [d for d in range(x.ndim) if d != dim % x.ndim]
    return [whole, *(([Shard(d)], [Shard(d), Replicate(), None]) for d in dims)]


@pytest.mark.parametrize("shape", [(4, 8), (3, 8)])
@pytest.mark.parametrize("lies", [[Shard(0)], [Shard(1)], [Replicate()]])
def test_a_custom_operator_on_parts(shape: tuple[int, ...], lies: list[Any]) -> None:
    register_sharding(spread)(of_spread)
    values = np.random.default_rng(0).normal(size=shape)
    scales = np.random.default_rng(1).normal(size=())
    wanted = (values - values.mean(1, keepdims=True)) * scales

    def program(rank: int) -> Any:
        mesh = init_device_mesh("cpu", (2,))
        x = distribute_tensor(flambeau.tensor(values), mesh, lies).requires_grad_()
        w = distribute_tensor(flambeau.tensor(scales), mesh, [Replicate()]).requires_grad_()
        y = spread(x, w, 1)
        y.sum(0).square().sum().backward()
        found = [t.full_tensor().detach().numpy() for t in (y, x.grad, w.grad)]
        return y.placements, found

    x, w = (flambeau.tensor(a).requires_grad_() for a in (values, scales))
    spread(x, w, 1).sum(0).square().sum().backward()
    SHAPES.clear()
    parts = lies == [Shard(0)] and shape[0] % 2 == 0
    for placements, (y, gx, gw) in spawn_local(2, program):
        assert placements == ((Shard(0),) if parts else (Replicate(),))
        np.testing.assert_allclose(y, wanted, atol=1e-12)
        np.testing.assert_allclose(gx, x.grad.numpy(), atol=1e-12)
        np.testing.assert_allclose(gw, w.grad.numpy(), atol=1e-12)
    assert SHAPES == [[shape[0] // 2 if parts else shape[0], shape[1]]] * 2


def test_an_operator_of_the_table_and_what_is_not_acceptable() -> None:
    @register_sharding([flambeau.library.ops.aten.softmax.default])
    def of_softmax(x: Any, dim: int) -> Any:
        return [([Shard(0)], [Shard(0), None])]

    values = np.random.default_rng(0).normal(size=(4, 4))

    def program(rank: int) -> Any:
        mesh = init_device_mesh("cpu", (2,))
        terms = distribute_tensor(flambeau.tensor(values), mesh, [Partial()])
        assert flambeau.softmax(terms, 1).placements == (Shard(0),)
        with pytest.raises(RuntimeError, match=r"no placements .* shapes \[\[3, 4\]\]"):
            flambeau.softmax(distribute_tensor(flambeau.zeros(3, 4), mesh, [Replicate()]), 1)
        return terms.softmax(1).full_tensor().numpy()

    for found in spawn_local(2, program):
        np.testing.assert_allclose(found, flambeau.tensor(values).softmax(1).numpy(), atol=1e-12)
