"""Optimizers take the steps of their papers, written out in NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau import optim

Array = np.ndarray[Any, Any]
STEPS = 8


def sgd(p: Array, grads: Iterator[Array], lr: float, momentum: float, nesterov: bool) -> Array:
    b = None
    for g in grads:
        b = g if b is None else momentum * b + g
        p = p - lr * (g + momentum * b if nesterov else b)
    return p


def adam(
    p: Array,
    grads: Iterator[Array],
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    l2: float = 0.0,
    decay: float = 0.0,
    amsgrad: bool = False,
) -> Array:
    m, v, greatest = np.zeros_like(p), np.zeros_like(p), np.zeros_like(p)
    for t, raw in enumerate(grads, 1):
        p = p * (1 - lr * decay)
        g = raw + l2 * p
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g * g
        greatest = np.maximum(greatest, v)
        scale = (greatest if amsgrad else v) / (1 - betas[1] ** t)
        p = p - lr * (m / (1 - betas[0] ** t)) / (np.sqrt(scale) + eps)
    return p


def rmsprop(
    p: Array, grads: Iterator[Array], lr: float, alpha: float, momentum: float, centered: bool
) -> Array:
    v, mean, b = np.zeros_like(p), np.zeros_like(p), np.zeros_like(p)
    for g in grads:
        v = alpha * v + (1 - alpha) * g * g
        mean = alpha * mean + (1 - alpha) * g
        b = momentum * b + g / (np.sqrt(v - mean**2 if centered else v) + 1e-8)
        p = p - lr * b
    return p


def adagrad(p: Array, grads: Iterator[Array], lr: float, lr_decay: float, start: float) -> Array:
    s = np.full_like(p, start)
    for t, g in enumerate(grads):
        s = s + g * g
        p = p - lr / (1 + t * lr_decay) * g / (np.sqrt(s) + 1e-10)
    return p


CASES: dict[str, tuple[Callable[..., Any], dict[str, Any], Callable[..., Array]]] = {
    "SGD": (optim.SGD, {"lr": 0.1}, lambda p, g: sgd(p, g, 0.1, 0.0, False)),
    "momentum": (
        optim.SGD,
        {"lr": 0.1, "momentum": 0.8},
        lambda p, g: sgd(p, g, 0.1, 0.8, False),
    ),
    "nesterov": (
        optim.SGD,
        {"lr": 0.1, "momentum": 0.8, "nesterov": True},
        lambda p, g: sgd(p, g, 0.1, 0.8, True),
    ),
    "maximize": (
        optim.SGD,
        {"lr": 0.1, "maximize": True},
        lambda p, g: sgd(p, (-x for x in g), 0.1, 0.0, False),
    ),
    "Adam": (optim.Adam, {}, lambda p, g: adam(p, g)),
    "Adam with decay": (
        optim.Adam,
        {"lr": 0.1, "weight_decay": 0.2, "betas": (0.5, 0.7), "eps": 1e-3},
        lambda p, g: adam(p, g, 0.1, (0.5, 0.7), 1e-3, l2=0.2),
    ),
    "AMSGrad": (
        optim.Adam,
        {"lr": 0.1, "amsgrad": True, "betas": (0.5, 0.5)},
        lambda p, g: adam(p, g, 0.1, (0.5, 0.5), amsgrad=True),
    ),
    "AdamW": (optim.AdamW, {"lr": 0.1}, lambda p, g: adam(p, g, 0.1, decay=0.01)),
    "AdamW on the device": (
        optim.AdamW,
        {"lr": 0.1, "capturable": True},
        lambda p, g: adam(p, g, 0.1, decay=0.01),
    ),
    "RMSprop": (optim.RMSprop, {"lr": 0.1}, lambda p, g: rmsprop(p, g, 0.1, 0.99, 0.0, False)),
    "centered RMSprop": (
        optim.RMSprop,
        {"lr": 0.1, "centered": True, "momentum": 0.5, "alpha": 0.7},
        lambda p, g: rmsprop(p, g, 0.1, 0.7, 0.5, True),
    ),
    "Adagrad": (
        optim.Adagrad,
        {"lr": 0.1, "lr_decay": 0.1, "initial_accumulator_value": 0.5},
        lambda p, g: adagrad(p, g, 0.1, 0.1, 0.5),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_steps(name: str, rng: np.random.Generator) -> None:
    make, options, formula = CASES[name]
    start = rng.standard_normal((3, 2))
    grads = rng.standard_normal((STEPS, 3, 2))
    p = flambeau.tensor(start, requires_grad=True)
    optimizer = make([p], **options)
    for g in grads:
        p.grad = flambeau.tensor(g)
        optimizer.step()
    # Counted on the device, the step's powers are float32.
    rtol = 1e-4 if options.get("capturable") else 1e-10
    np.testing.assert_allclose(p.detach().numpy(), formula(start, iter(grads)), rtol=rtol)


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_not_changed(name: str, rng: np.random.Generator) -> None:
    make, options, _ = CASES[name]
    p = flambeau.tensor(rng.standard_normal(3), requires_grad=True)
    optimizer = make([p], **options)
    p.grad = flambeau.tensor(rng.standard_normal(3))
    before = p.grad.tolist()
    for _ in range(2):
        optimizer.step()
    assert p.grad.tolist() == before
    assert p.is_leaf
    assert p.requires_grad


def test_a_rate_of_zero_changes_nothing() -> None:
    for make in (optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop, optim.Adagrad):
        p = flambeau.ones(2, requires_grad=True)
        p.grad = flambeau.tensor([1.0, 0.0])
        make([p], lr=0.0).step()
        assert p.tolist() == [1.0, 1.0]


def test_parameters_without_gradients_are_left_out() -> None:
    p, q = (flambeau.ones(2, requires_grad=True) for _ in range(2))
    optimizer = optim.Adam([p, q], lr=0.5)
    p.grad = flambeau.ones(2)
    optimizer.step()
    assert q.tolist() == [1.0, 1.0]
    assert list(optimizer.state) == [p]


def test_groups_have_their_own_options() -> None:
    p, q = (flambeau.zeros(1, requires_grad=True) for _ in range(2))
    optimizer = optim.SGD([{"params": [p]}, {"params": [q], "lr": 0.5}], lr=0.1)
    p.grad, q.grad = flambeau.ones(1), flambeau.ones(1)
    optimizer.step()
    assert [p.item(), q.item()] == pytest.approx([-0.1, -0.5])
    optimizer.param_groups[0]["lr"] = 1.0
    optimizer.step()
    assert [p.item(), q.item()] == pytest.approx([-1.1, -1.0])
    r = flambeau.zeros(1, requires_grad=True)
    optimizer.add_param_group({"params": r})
    assert optimizer.param_groups[2]["lr"] == 0.1
    with pytest.raises(ValueError, match="some parameters appear in more than one"):
        optimizer.add_param_group({"params": [r]})


def test_closures_run_with_gradients() -> None:
    p = flambeau.tensor([2.0], requires_grad=True)
    optimizer = optim.SGD([p], lr=0.25)

    def closure() -> Any:
        assert flambeau.is_grad_enabled()
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    with flambeau.no_grad():
        assert optimizer.step(closure).item() == 4.0
    assert p.item() == 1.0


def test_hooks() -> None:
    p = flambeau.zeros(1, requires_grad=True)
    seen: list[str] = []
    optimizer = optim.SGD([p], lr=0.1)
    pre = optim.optimizer.register_optimizer_step_pre_hook(lambda o, a, k: seen.append("all pre"))
    post = optim.optimizer.register_optimizer_step_post_hook(
        lambda o, a, k: seen.append("all post")
    )
    optimizer.register_step_pre_hook(lambda o, a, k: seen.append("pre"))
    optimizer.register_step_post_hook(lambda o, a, k: seen.append("post"))
    optimizer.step()
    pre.remove()
    post.remove()
    optimizer.step()
    assert seen == ["all pre", "pre", "post", "all post", "pre", "post"]
    optimizer.register_step_pre_hook(lambda o, a, k: (a, {"closure": lambda: 7}))
    assert optimizer.step() == 7
    optimizer.register_step_pre_hook(lambda o, a, k: 3)
    with pytest.raises(RuntimeError, match="must return None or a tuple"):
        optimizer.step()


def test_own_optimizers() -> None:
    class Signs(optim.Optimizer):
        def __init__(self, params: Any, lr: float = optim.optimizer.required) -> None:
            super().__init__(params, {"lr": lr})

        def step(self, closure: Any = None) -> None:
            with flambeau.no_grad():
                for group in self.param_groups:
                    for p in group["params"]:
                        p.sub_(p.grad.sign() * group["lr"])

    p = flambeau.zeros(2, requires_grad=True)
    p.grad = flambeau.tensor([3.0, -4.0])
    optimizer = Signs([p], lr=0.5)
    seen: list[int] = []
    optimizer.register_step_post_hook(lambda o, a, k: seen.append(1))
    optimizer.step()
    assert p.tolist() == [-0.5, 0.5]
    assert seen == [1]
    with pytest.raises(ValueError, match="didn't specify a value of required optimization"):
        Signs([p])


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (optim.SGD, {"weight_decay": 0.1}),
        (optim.Adam, {"amsgrad": True, "weight_decay": 0.1}),
        (optim.AdamW, {}),
        (optim.RMSprop, {"centered": True, "momentum": 0.5}),
        (optim.Adagrad, {"lr_decay": 0.1}),
    ],
)
def test_gradients_flow_through_differentiable_steps(make: Any, options: dict[str, Any]) -> None:
    """The derivative of the result by the loss's scale agrees with finite differences."""

    def result(scale: float, differentiable: bool) -> tuple[float, float]:
        s = flambeau.tensor(scale, dtype=flambeau.float64, requires_grad=True)
        leaf = flambeau.tensor([0.7, -1.3], dtype=flambeau.float64, requires_grad=True)
        p = leaf.clone()
        optimizer = make([p], lr=0.1, differentiable=True, **options)
        for _ in range(3):
            now = p.clone()
            loss = (now**4 * s + flambeau.cos(now * s)).sum()
            (p.grad,) = flambeau.autograd.grad(loss, [p], create_graph=True)
            optimizer.step()
        total = (p * p).sum()
        if differentiable:
            total.backward()
        return total.item(), s.grad.item() if differentiable else 0.0

    _, slope = result(1.2, True)
    h = 1e-5
    want = (result(1.2 + h, False)[0] - result(1.2 - h, False)[0]) / (2 * h)
    assert slope == pytest.approx(want, rel=1e-4, abs=1e-7)
    assert math.isfinite(slope)


def test_tensor_rates() -> None:
    for make in (optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop, optim.Adagrad):
        p, q = (flambeau.ones(3, dtype=flambeau.float64).requires_grad_() for _ in range(2))
        rate = flambeau.tensor([0.5], dtype=flambeau.float64)
        one, other = make([p], lr=rate), make([q], lr=0.5)
        for _ in range(3):
            p.grad = q.grad = flambeau.tensor([1.0, -2.0, 0.5], dtype=flambeau.float64)
            one.step()
            other.step()
            rate *= 0.5
            other.param_groups[0]["lr"] *= 0.5
        np.testing.assert_allclose(p.tolist(), q.tolist(), rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_state_has_the_dtype_of_the_parameter(dtype: str) -> None:
    p = flambeau.ones(3, dtype=getattr(flambeau, dtype)).requires_grad_()
    optimizer = optim.AdamW([p], lr=0.1)
    p.grad = p.detach().clone()
    optimizer.step()
    state = optimizer.state[p]
    assert state["exp_avg"].dtype is p.dtype
    assert state["step"].dtype is flambeau.float32
    assert state["step"].item() == 1.0
    assert p.float().tolist() == pytest.approx([0.9 - 0.001] * 3, rel=1e-2)
