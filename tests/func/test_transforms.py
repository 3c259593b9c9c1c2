"""Transforms nest: derivatives are those of finite differences and of PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau import func
from flambeau.autograd import forward_ad
from tests.func.cases import NESTED, W, X, Y, mlp


@pytest.mark.parametrize("name", NESTED)
def test_the_same_as_torch(name: str) -> None:
    torch = pytest.importorskip("torch")
    expected = NESTED[name](torch, torch.func).detach().numpy()
    found = NESTED[name](flambeau, func)
    assert not found.requires_grad
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-8, atol=1e-10)


def slopes(run: Any, place: Any, step: float = 1e-6) -> Any:
    """The Jacobian of a function of an array by central differences."""
    columns = []
    for k in np.ndindex(*place.shape):
        moved = np.zeros_like(place)
        moved[k] = step
        ahead, behind = (run(flambeau.tensor(place + s * moved)).numpy() for s in (1, -1))
        columns.append((ahead - behind) / (2 * step))
    return np.stack(columns, -1).reshape(*columns[0].shape, *place.shape)


@pytest.mark.parametrize("transform", ["jacrev", "jacfwd"])
def test_jacobians_are_finite_differences(transform: str) -> None:
    def run(a: Any) -> Any:
        return (a @ flambeau.tensor(W)).softmax(-1).cumsum(0)

    found = getattr(func, transform)(run)(flambeau.tensor(X))
    np.testing.assert_allclose(found.numpy(), slopes(run, X), rtol=1e-6, atol=1e-8)


def test_a_hessian_is_finite_differences_of_gradients() -> None:
    def loss(w: Any) -> Any:
        return mlp(flambeau, w, flambeau.tensor(X))

    found = func.hessian(loss)(flambeau.tensor(W))
    np.testing.assert_allclose(found.numpy(), slopes(func.grad(loss), W), rtol=1e-5, atol=1e-7)


def test_what_is_captured_keeps_its_history() -> None:
    w = flambeau.tensor(W, requires_grad=True)
    found = func.grad(lambda a: ((a @ w) ** 2).sum())(flambeau.tensor(X))
    assert found.requires_grad
    (slope,) = flambeau.autograd.grad(found.sum(), w)
    ones = np.ones_like(X)
    expected = 2 * (X.T @ (ones @ W) + ones.T @ (X @ W))
    np.testing.assert_allclose(slope.numpy(), expected)


def test_no_grad_outside_and_inside() -> None:
    x = flambeau.tensor(X)
    with flambeau.no_grad():
        assert func.grad(lambda a: (a**2).sum())(x).tolist() == (2 * X).tolist()

    def partly(a: Any) -> Any:
        with flambeau.no_grad():
            scale = a * 1.0
        return (a * scale).sum()

    np.testing.assert_allclose(func.grad(partly)(x).numpy(), X)


def test_vjp_pulls_several_times() -> None:
    out, pull = func.vjp(
        lambda a, b: {"s": a * b, "t": a.sum()}, flambeau.tensor(X), flambeau.tensor(Y)
    )
    for scale in (1.0, 3.0):
        ga, gb = pull({"s": flambeau.ones(4, 3) * scale, "t": flambeau.tensor(2.0)})
        np.testing.assert_allclose(ga.numpy(), Y * scale + 2)
        np.testing.assert_allclose(gb.numpy(), X * scale)
    assert not out["s"].requires_grad


def test_values_beside_gradients() -> None:
    x = flambeau.tensor(X)
    slope, (value, aux) = func.grad_and_value(lambda a: ((a**2).sum(), a + 1), has_aux=True)(x)
    np.testing.assert_allclose(slope.numpy(), 2 * X)
    assert value.item() == pytest.approx((X**2).sum())
    np.testing.assert_allclose(aux.numpy(), X + 1)
    assert not aux.requires_grad


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (lambda x: func.grad(lambda a: a)(x), "scalar tensor"),
        (lambda x: func.grad(lambda a: (a, a))(x), "to return a Tensor"),
        (lambda x: func.grad(lambda a: a.sum(), argnums=2)(x), "argnum=2"),
        (lambda x: func.jvp(lambda a: a, (x,), (x[0],)), "same shape"),
        (lambda x: func.jvp(lambda a: a, (x,), (x, x)), "same structure"),
        (lambda x: func.vjp(lambda a: a, x)[1]((x, x)), "same structure"),
        (lambda x: func.grad(lambda a: a.sum())(x.long()), "floating point"),
        (lambda x: func.jvp(lambda a: flambeau.ones(2), (x,), (x,), strict=True), "independent"),
    ],
)
def test_mistakes(run: Any, words: str) -> None:
    with pytest.raises(RuntimeError, match=words):
        run(flambeau.tensor(X))


def test_models_as_functions() -> None:
    flambeau.manual_seed(0)
    models = [flambeau.nn.Linear(3, 2).double() for _ in range(3)]
    x = flambeau.tensor(X)
    params, buffers = func.stack_module_state(models)
    assert not buffers
    found = func.vmap(lambda p: func.functional_call(models[0], p, x))(params)
    expected = [m(x).detach().numpy() for m in models]
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-12)
    found.sum().backward()
    assert params["weight"].grad.shape == (3, 2, 3)


def test_functional_calls_leave_the_module_alone() -> None:
    class Counting(flambeau.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = flambeau.nn.Parameter(flambeau.ones(1))
            self.other = self.one
            self.register_buffer("count", flambeau.zeros(1))

        def forward(self, x: Any) -> Any:
            self.count = self.count + 1
            return x * self.one + self.other

    module = Counting()
    given = {"one": flambeau.full((1,), 5.0), "count": flambeau.zeros(1)}
    two = flambeau.full((1,), 2.0)
    assert func.functional_call(module, given, two).item() == 15
    assert func.functional_call(module, {"one": given["one"]}, two, tie_weights=False).item() == 11
    assert (given["count"].item(), module.one.item(), module.other is module.one) == (1, 1, True)
    with pytest.raises(RuntimeError, match="Missing"):
        func.functional_call(module, {"one": two}, two, strict=True)
    with pytest.raises(ValueError, match="multiple dictionaries"):
        func.functional_call(module, ({"one": two}, {"one": two}), two)


def test_dual_numbers() -> None:
    x, v = flambeau.tensor(X), flambeau.tensor(Y)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x, v)
        found = forward_ad.unpack_dual((dual.sin() * dual).sum(0))
        assert forward_ad.unpack_dual(x).tangent is None
    expected = ((np.cos(X) * X + np.sin(X)) * Y).sum(0)
    np.testing.assert_allclose(found.tangent.detach().numpy(), expected)
    with pytest.raises(RuntimeError, match="no level exists"):
        forward_ad.make_dual(x, v)


class Cube(flambeau.autograd.Function):
    """With rules of its own, forward's marked by a factor."""

    @staticmethod
    def forward(x: Any) -> Any:
        return x**3

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(inputs[0])
        ctx.save_for_forward(inputs[0])

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return 3 * ctx.saved_tensors[0] ** 2 * g

    @staticmethod
    def jvp(ctx: Any, t: Any) -> Any:
        return 300 * ctx.saved_tensors[0] ** 2 * t


def test_functions_with_rules_of_their_own() -> None:
    x = flambeau.tensor(X)
    ones = flambeau.ones_like(x)
    np.testing.assert_allclose(func.grad(lambda a: Cube.apply(a).sum())(x).numpy(), 3 * X**2)
    np.testing.assert_allclose(func.jvp(Cube.apply, (x,), (ones,))[1].numpy(), 300 * X**2)
    each = func.vmap(func.grad(lambda a: Cube.apply(a).sum()))(x)
    np.testing.assert_allclose(each.numpy(), 3 * X**2)


def test_gradients_of_samples_of_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is the gradient of its own sample, taken alone."""
    monkeypatch.setenv("FLAMBEAU_TARGET", "interpret")
    flambeau.manual_seed(0)
    nn = flambeau.nn
    layers = [nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    model = nn.Sequential(*layers, nn.LayerNorm(8), nn.Linear(8, 3)).double()
    rng = np.random.default_rng(0)
    x = flambeau.tensor(rng.standard_normal((4, 1, 4, 4)))
    y = flambeau.tensor(rng.integers(0, 3, 4))

    def loss(params: Any, image: Any, label: Any) -> Any:
        out = func.functional_call(model, params, (image[None],))
        return nn.functional.cross_entropy(out, label[None])

    params = {k: v.detach() for k, v in model.named_parameters()}
    each = func.vmap(func.grad(loss), in_dims=(None, 0, 0))(params, x, y)
    for k in range(4):
        model.zero_grad()
        nn.functional.cross_entropy(model(x[k : k + 1]), y[k : k + 1]).backward()
        for name, p in model.named_parameters():
            np.testing.assert_allclose(each[name][k].numpy(), p.grad.numpy(), atol=1e-12)
