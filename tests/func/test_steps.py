"""`vmap` over a scan: one scan for all examples, with the values and gradients of one at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau import record
from flambeau.control import cond, scan
from flambeau.func import grad, jvp, vmap
from flambeau.ir.text import graph_text

w = flambeau.linspace(-1, 1, 4)


def recurrence(x: Any, h: Any) -> Any:
    """Carries a state and a count; one result is the same for all examples."""

    def step(carried: Any, part: Any) -> Any:
        h, n = carried
        h = (h * w + part).tanh()
        return (h, n + 1), (h.flip(0), n)

    return scan(step, (h, flambeau.zeros(())), x)


def backwards(x: Any, h: Any) -> Any:
    """From the last step on, with a sort, a product with a captured matrix, and a branch."""
    turn = flambeau.outer(w, w)

    def step(c: Any, v: Any) -> Any:
        c = cond(c.sum() > 0, lambda: c.sort()[0] @ turn, lambda: c - v)
        return c, c * 2

    return scan(step, h, x, reverse=True)


@pytest.mark.parametrize("function", [recurrence, backwards])
@pytest.mark.parametrize("in_dims", [(0, 0), (1, None), (None, 0)])
def test_it_is_one_scan_of_the_same_values(function: Any, in_dims: Any) -> None:
    x = flambeau.randn(
        *((5, 4) if in_dims[0] is None else (3, 5, 4) if not in_dims[0] else (5, 3, 4))
    )
    h = flambeau.randn(*((4,) if in_dims[1] is None else (3, 4)))

    def part(t: Any, dim: Any, k: int) -> Any:
        return t if dim is None else t.select(dim, k)

    record.flush()
    found = flambeau.pytree.tree_leaves(vmap(function, in_dims)(x, h))
    assert graph_text(record.pending_graph()).count("= _scan(") == 1
    for k in range(3):
        wanted = function(part(x, in_dims[0], k), part(h, in_dims[1], k))
        for got, want in zip(found, flambeau.pytree.tree_leaves(wanted), strict=True):
            np.testing.assert_allclose(got[k].numpy(), want.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("function", [recurrence, backwards])
def test_gradients_of_every_example(function: Any) -> None:
    x, h = flambeau.randn(3, 5, 4), flambeau.randn(3, 4)

    def loss(x: Any, h: Any) -> Any:
        leaves = flambeau.pytree.tree_leaves(function(x, h))
        return sum((t * t).sum() for t in leaves)

    both = vmap(grad(loss, (0, 1)))(x, h)
    tangents = vmap(lambda a, b: jvp(loss, (a, b), (b.expand(5, 4), a[0]))[1])(x, h)
    for k in range(3):
        wanted = grad(loss, (0, 1))(x[k], h[k])
        for got, want in zip(both, wanted, strict=True):
            np.testing.assert_allclose(got[k].numpy(), want.numpy(), rtol=1e-4, atol=1e-5)
        slope = jvp(loss, (x[k], h[k]), (h[k].expand(5, 4), x[k][0]))[1]
        np.testing.assert_allclose(tangents[k].item(), slope.item(), rtol=1e-4)


def test_a_batch_of_batches_that_trains() -> None:
    x = flambeau.randn(2, 3, 5, 4).requires_grad_()
    h = flambeau.zeros(4)
    vmap(vmap(recurrence, (0, None)), (0, None))(x, h)[0][0].square().sum().backward()
    y = x.detach().clone().requires_grad_()
    total = sum(recurrence(y[i, j], h)[0][0].square().sum() for i in range(2) for j in range(3))
    total.backward()
    np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy(), rtol=1e-4, atol=1e-6)
