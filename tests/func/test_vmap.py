"""vmap beside a loop: dimensions, nesting, gradients, writes, random numbers, refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau.func import vmap
from flambeau.nn import functional as F


def write(x: Any) -> Any:
    y = x * 2
    y[1:].mul_(x[:-1])
    y.exp_()
    return y * x


def spread(x: Any) -> Any:
    return flambeau.zeros(3, dtype=x.dtype).index_add(0, flambeau.tensor([1, 0, 1]), x)


#: name -> (function of examples, shapes, in_dims)
MAPPED: dict[str, tuple[Any, tuple[tuple[int, ...], ...], Any]] = {
    "elementwise": (lambda x, y: (x * y).sin() + x.exp(), ((5, 3), (5, 3)), 0),
    "ranks": (lambda x, y: x * y, ((5, 3, 2), (5, 2)), 0),
    "matrices": (lambda x, y: (x @ y).tanh(), ((5, 3, 4), (5, 4, 2)), 0),
    "a shared left factor": (lambda x, y: x @ y, ((3, 4), (5, 4)), (None, 0)),
    "a shared right factor": (lambda x, y: x @ y, ((2, 5, 3), (3, 4)), (1, None)),
    "a last dimension": (lambda x: x.softmax(0).cumsum(0), ((3, 5),), -1),
    "views": (lambda x: x.softmax(-1)[1:].t().sum(0).cumsum(0), ((5, 3, 4),), 0),
    "norms": (lambda x, w: F.layer_norm(x, (4,), w).amax(1), ((5, 3, 4), (4,)), (0, None)),
    "norms of their own": (lambda x, w: F.layer_norm(x, (4,), w), ((5, 3, 4), (5, 4)), 0),
    "linear": (lambda x, w, b: F.linear(x, w, b), ((5, 3), (4, 3), (4,)), (0, None, None)),
    "linear of their own": (lambda x, w: F.linear(x, w), ((5, 2, 3), (5, 4, 3)), 0),
    "images": (lambda x, w: F.conv2d(x, w, padding=1), ((2, 1, 2, 4, 4), (3, 2, 3, 3)), (0, None)),
    "kernels": (lambda x, w: F.conv2d(x, w), ((1, 2, 4, 4), (2, 3, 2, 3, 3)), (None, 0)),
    "gathers": (lambda x: x[flambeau.tensor([0, 2, 0])] ** 2, ((5, 3),), 0),
    "sorts": (lambda x: F.gelu(x.sort(-1)[0] * x.argsort(-1)), ((5, 3),), 0),
    "writes": (write, ((5, 3),), 0),
    "fresh memory": (lambda x: spread(x), ((5, 3),), 0),
    "two levels": (
        lambda x, y: vmap(lambda a: vmap(lambda b: (a * b).sum() * b.exp().sum())(y))(x),
        ((5, 3, 2), (5, 4, 2)),
        0,
    ),
    "a size of one": (lambda x: x.sum(), ((1, 3),), 0),
}


def arrays(shapes: Any) -> list[Any]:
    return [np.random.default_rng(k).uniform(0.2, 1.5, s) for k, s in enumerate(shapes)]


def loop(run: Any, leaves: list[Any], in_dims: Any) -> Any:
    dims = in_dims if isinstance(in_dims, tuple) else (in_dims,) * len(leaves)
    size = next(x.shape[d] for x, d in zip(leaves, dims, strict=True) if d is not None)
    return flambeau.stack(
        [
            run(*(x if d is None else x.select(d, k) for x, d in zip(leaves, dims, strict=True)))
            for k in range(size)
        ]
    )


@pytest.mark.parametrize("name", MAPPED)
def test_values_and_gradients_are_those_of_a_loop(name: str) -> None:
    run, shapes, in_dims = MAPPED[name]
    found = []
    for mapped in (vmap(run, in_dims), lambda *x: loop(run, list(x), in_dims)):
        leaves = [flambeau.tensor(a, requires_grad=True) for a in arrays(shapes)]
        out = mapped(*leaves)
        weights = flambeau.tensor(np.cos(np.arange(out.numel())).reshape(tuple(out.shape)))
        first = flambeau.autograd.grad((out * weights * out).sum(), leaves, create_graph=True)
        total = sum((g * g).sum() for g in first)
        second = flambeau.autograd.grad(total, leaves, allow_unused=True)
        found.append([out, *first, *second])
    for got, want in zip(*found, strict=True):
        np.testing.assert_allclose(
            got.detach().numpy(), want.detach().numpy(), rtol=1e-9, atol=1e-11
        )


def test_gradients_after_a_flush() -> None:
    x, w = (flambeau.tensor(a, requires_grad=True) for a in arrays(((5, 3), (3, 2))))
    out = vmap(lambda a: (a @ w).exp())(x)
    out.tolist()
    (gw,) = flambeau.autograd.grad(out.sum(), w)
    expected = x.detach().numpy().T @ np.exp(x.detach().numpy() @ w.detach().numpy())
    np.testing.assert_allclose(gw.numpy(), expected)


def test_trees_and_dimensions_of_results() -> None:
    x = flambeau.arange(6.0).reshape(2, 3)
    in_dims, out_dims = ({"x": 1, "y": None},), {"a": 0, "b": (None,)}
    mapped = vmap(lambda d: {"a": d["x"] + 1, "b": (d["y"],)}, in_dims, out_dims)
    found = mapped({"x": x, "y": flambeau.ones(2)})
    assert found["a"].tolist() == (x + 1).t().tolist()
    assert found["b"][0].shape == (2,)
    assert vmap(lambda a: a.sum(), out_dims=-1)(x).tolist() == [3, 12]
    assert vmap(lambda a, k: a * k, (0, None))(x, 2).tolist() == (x * 2).tolist()


def test_what_depends_on_no_example_is_repeated() -> None:
    ones = flambeau.ones(2)
    assert vmap(lambda a: ones)(flambeau.zeros(3)).shape == (3, 2)


def test_chunks() -> None:
    x = flambeau.arange(14.0).reshape(7, 2)
    found = vmap(lambda a: (a * 2, a.sum()), chunk_size=3)(x)
    assert found[0].tolist() == (x * 2).tolist()
    assert found[1].tolist() == x.sum(1).tolist()


def test_writes_into_what_is_mapped() -> None:
    x = flambeau.zeros(3, 2)
    vmap(lambda a, k: a.add_(k))(x, flambeau.arange(3.0))
    assert x.tolist() == [[0, 0], [1, 1], [2, 2]]


def test_writes_into_what_is_shared() -> None:
    shared = flambeau.zeros(2)
    with pytest.raises(RuntimeError, match="inplace arithmetic"):
        vmap(lambda a: shared.add_(a))(flambeau.ones(3, 2))
    assert shared.tolist() == [0, 0]
    vmap(lambda a: (shared.add_(1), a)[1])(flambeau.ones(3, 2))
    assert shared.tolist() == [1, 1]


def test_random_numbers(seed: int) -> None:
    x = flambeau.zeros(500)
    different = vmap(lambda a: a + flambeau.rand(()), randomness="different")(x)
    assert len(set(different.tolist())) == 500
    assert 0.4 < different.mean().item() < 0.6
    same = vmap(lambda a: a + flambeau.rand(2), randomness="same")(x)
    assert (same == same[0]).all()
    nested = vmap(
        lambda a: vmap(lambda b: b + flambeau.rand(()), randomness="different")(a),
        randomness="different",
    )(flambeau.zeros(20, 20))
    assert len(set(nested.flatten().tolist())) == 400
    kept = vmap(lambda a: F.dropout(a, 0.5), randomness="different")(flambeau.ones(200, 8))
    assert 0.4 < (kept > 0).double().mean().item() < 0.6
    assert len({tuple(row) for row in kept.tolist()}) > 50
    assert vmap(lambda a: flambeau.poisson(a), randomness="different")(x + 3.0).unique().numel() > 3
    with pytest.raises(RuntimeError, match="randomness error mode"):
        vmap(lambda a: a + flambeau.rand(()))(x)


def test_gradients_see_the_numbers_that_were_drawn() -> None:
    x = flambeau.ones(50, requires_grad=True)
    out = vmap(lambda a: a * flambeau.rand(()), randomness="different")(x)
    (slope,) = flambeau.autograd.grad(out.sum(), x)
    assert slope.tolist() == out.tolist()


@pytest.mark.parametrize(
    ("run", "error", "words"),
    [
        (lambda x: vmap(lambda a: a if a.sum() > 0 else -a)(x), RuntimeError, "data-dependent"),
        (lambda x: vmap(lambda a: a.sum().item())(x), RuntimeError, r"\.item\(\)"),
        (lambda x: vmap(lambda a: 3)(x), ValueError, "must only return Tensors"),
        (lambda x: vmap(lambda a: a, 2)(x), ValueError, "in_dim=2"),
        (lambda x: vmap(lambda a: a, (None,))(x), ValueError, "at least one input"),
        (lambda x: vmap(lambda a, b: a)(x, x[:1]), ValueError, "same size in the mapped"),
        (lambda x: vmap(lambda a: a)(3), ValueError, "non-Tensor"),
        (lambda x: vmap(lambda a: a)(), ValueError, "got no inputs"),
        (lambda x: vmap(lambda a: a, out_dims=None)(x), ValueError, "out_dim is None"),
        (lambda x: vmap(lambda a: a, out_dims=(0, 0))(x), ValueError, "out_dims is not compatible"),
        (lambda x: vmap(lambda a: a, randomness="no"), RuntimeError, "Only allowed values"),
        (lambda x: vmap(lambda a: a, chunk_size=0), ValueError, "chunk_size"),
    ],
)
def test_refusals(run: Any, error: type[Exception], words: str) -> None:
    x = flambeau.ones(2, 3)
    with pytest.raises(error, match=words):
        run(x)
    assert (x + 1).tolist() == [[2, 2, 2]] * 2  # nothing was left behind


def test_a_tensor_that_escapes() -> None:
    seen = []
    vmap(lambda a: seen.append(a) or a * 2)(flambeau.ones(2))
    with pytest.raises(RuntimeError, match="vmap"):
        seen[0].tolist()
    flambeau.ones(2).tolist()


def test_in_place_changes_before_the_backward_pass() -> None:
    x = flambeau.ones(3, 2)
    w = flambeau.ones(2, requires_grad=True)
    out = vmap(lambda a: a * w)(x)
    x.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()
