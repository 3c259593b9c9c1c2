"""Transforms of functions, written for any library with PyTorch's names."""

from __future__ import annotations

from typing import Any

import numpy as np


def _array(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).uniform(0.3, 1.4, shape)


X, Y, W = _array(4, 3), _array(4, 3, seed=1), _array(3, 2, seed=2)


def mlp(t: Any, weight: Any, x: Any) -> Any:
    """A small loss."""
    return ((t.nn.functional.relu(x @ weight).tanh() @ t.ones(2, 1, dtype=t.float64)) ** 2).sum()


#: name -> (the library, its `func`) -> a tensor.
NESTED: dict[str, Any] = {
    "grad": lambda t, f: f.grad(lambda a: (a.sin() * a).sum())(t.tensor(X)),
    "grad of grad": lambda t, f: f.grad(
        lambda a: f.grad(lambda b: (b.sin() * b * a).sum())(a).exp().sum()
    )(t.tensor(X)),
    "vmap of grad": lambda t, f: f.vmap(
        f.grad(lambda a, b: (a.sin() * b).sum()), in_dims=(0, None)
    )(t.tensor(X), t.tensor(Y[0])),
    "gradients of samples": lambda t, f: f.vmap(
        f.grad(lambda w, a: mlp(t, w, a[None])), in_dims=(None, 0)
    )(t.tensor(W), t.tensor(X)),
    "grad of vmap": lambda t, f: f.grad(
        lambda w: f.vmap(lambda a: mlp(t, w, a[None]))(t.tensor(X)).mean()
    )(t.tensor(W)),
    "grad of vmap of grad": lambda t, f: f.grad(
        lambda w: f.vmap(f.grad(lambda a: mlp(t, w, a[None])))(t.tensor(X)).pow(2).sum()
    )(t.tensor(W)),
    "jacrev": lambda t, f: f.jacrev(lambda a: (a @ t.tensor(W)).sin())(t.tensor(X)),
    "jacfwd": lambda t, f: f.jacfwd(lambda a: (a @ t.tensor(W)).sin())(t.tensor(X)),
    "jacfwd of two": lambda t, f: f.jacfwd(lambda a, b: (a @ b).softmax(-1), argnums=(0, 1))(
        t.tensor(X), t.tensor(W)
    )[1],
    "jacrev of trees": lambda t, f: f.jacrev(lambda d: {"y": d["a"] * d["b"].exp()})(
        {"a": t.tensor(X[0]), "b": t.tensor(Y[0])}
    )["y"]["b"],
    "jacrev in chunks": lambda t, f: f.jacrev(lambda a: a.exp().cumsum(0), chunk_size=2)(
        t.tensor(X)
    ),
    "hessian": lambda t, f: f.hessian(lambda a: (a @ t.tensor(W)).sin().prod())(t.tensor(X)),
    "reverse over forward": lambda t, f: f.jacrev(
        f.jacfwd(lambda a: (a @ t.tensor(W)).sin().sum())
    )(t.tensor(X)),
    "reverse over reverse": lambda t, f: f.jacrev(
        f.jacrev(lambda a: (a @ t.tensor(W)).sin().sum())
    )(t.tensor(X)),
    "hessians": lambda t, f: f.vmap(f.hessian(lambda a: (a @ t.tensor(W)).sin().sum()))(
        t.tensor(X)
    ),
    "hessian of a network": lambda t, f: f.hessian(lambda w: mlp(t, w, t.tensor(X)))(t.tensor(W)),
    "jvp": lambda t, f: f.jvp(
        lambda a, b: (a * b).exp(), (t.tensor(X), t.tensor(Y)), (t.tensor(Y), t.tensor(X))
    )[1],
    "jvp of vmap": lambda t, f: f.jvp(
        f.vmap(lambda a: (a * a).exp().sum()), (t.tensor(X),), (t.tensor(Y),)
    )[1],
    "vmap of jvp": lambda t, f: f.vmap(
        lambda a, b: f.jvp(lambda c: (c * c).exp().sum(), (a,), (b,))[1]
    )(t.tensor(X), t.tensor(Y)),
    "jvp of jvp": lambda t, f: f.jvp(
        lambda a: f.jvp(lambda c: (c * c).exp().sum(), (a,), (t.tensor(Y),))[1],
        (t.tensor(X),),
        (t.tensor(Y),),
    )[1],
    "vjp": lambda t, f: f.vjp(lambda a: a @ t.tensor(W), t.tensor(X))[1](
        t.ones(4, 2, dtype=t.float64)
    )[0],
    "linearize": lambda t, f: f.linearize(lambda a: (a @ t.tensor(W)).sin(), t.tensor(X))[1](
        t.tensor(Y)
    ),
    "third derivatives of elements": lambda t, f: f.vmap(
        f.vmap(f.grad(f.grad(f.grad(lambda a: a.sin() * a.exp()))))
    )(t.tensor(X)),
    "aux": lambda t, f: sum(
        f.grad(lambda a: ((a**3).sum(), a * 2), has_aux=True)(t.tensor(X)), start=t.tensor(0.0)
    ),
}
