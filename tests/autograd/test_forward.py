"""Tangents pushed along the tape are those of finite differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau.autograd import functional
from flambeau.autograd.forward import pushforward

FUNCTIONS: dict[str, tuple[Callable[..., Any], tuple[tuple[int, ...], ...]]] = {
    "elementwise": (lambda x, y: (x * y).exp() + x.sin() / y, ((3,), (3,))),
    "broadcast": (lambda x, y: x * y + y, ((3, 1), (4,))),
    "matrix products": (lambda x, y: (x @ y).tanh() @ x, ((2, 3), (3, 2))),
    "sums": (lambda x: x.sum(0, keepdim=True) * x - x.mean(), ((3, 2),)),
    "views": (lambda x: x.t()[1:].reshape(-1)[::2] * 2, ((3, 4),)),
    "strided": (lambda x: x.t().as_strided((2, 2), (1, 3), 1) ** 2, ((3, 4),)),
    "softmax": (lambda x: x.softmax(-1).log(), ((2, 4),)),
    "layer norm": (lambda x: flambeau.nn.functional.layer_norm(x, (4,)), ((2, 4),)),
    "joined": (lambda x, y: flambeau.cat([x * 2, y, x], 1).exp(), ((2, 3), (2, 1))),
    "maximum": (lambda x: x.amax(1) * x[:, 0], ((3, 4),)),
    "looked up": (lambda x: x[flambeau.tensor([0, 2, 0])] ** 2, ((3, 2),)),
    "in place": (lambda x: write(x), ((4,),)),
    "dtypes": (lambda x: (x.float() * 2).double() * x, ((3,),)),
    "log of sums": (lambda x: x.logcumsumexp(0), ((5,),)),
    "where": (lambda x, y: flambeau.where(x > y, x * y, y.exp()), ((3,), (3,))),
}


def write(x: Any) -> Any:
    y = x * 2
    y[1:3].mul_(x[:2])
    y.exp_()
    return y * x


def values(shapes: tuple[tuple[int, ...], ...]) -> list[np.ndarray[Any, Any]]:
    rng = np.random.default_rng(1)
    return [rng.uniform(0.5, 1.5, s) for s in shapes]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_tangents(name: str) -> None:
    function, shapes = FUNCTIONS[name]
    places = values(shapes)
    steps = [np.random.default_rng(k).standard_normal(s) for k, s in enumerate(shapes)]
    leaves = [flambeau.tensor(p).requires_grad_() for p in places]
    output = function(*leaves)
    (tangent,) = pushforward((output,), leaves, [flambeau.tensor(s) for s in steps])
    step = 1e-3 if name == "dtypes" else 1e-6  # float32 in between
    sides = [
        function(*(flambeau.tensor(p + h * s) for p, s in zip(places, steps, strict=True)))
        for h in (step, -step)
    ]
    expected = (sides[0] - sides[1]).detach().numpy() / (2 * step)
    tolerance = 1e-2 if name == "dtypes" else 1e-6
    np.testing.assert_allclose(tangent.detach().numpy(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", [n for n in FUNCTIONS if n != "dtypes"])
def test_the_same_as_by_transposition(name: str) -> None:
    function, shapes = FUNCTIONS[name]
    places = [flambeau.tensor(p) for p in values(shapes)]
    steps = [flambeau.ones(*s, dtype=flambeau.float64) for s in shapes]
    leaves = [p.clone().requires_grad_() for p in places]
    (tangent,) = pushforward((function(*leaves),), leaves, steps)
    _, expected = functional.jvp(function, tuple(places), tuple(steps))
    np.testing.assert_allclose(tangent.detach().numpy(), expected.numpy(), rtol=1e-10, atol=1e-12)


def test_an_output_without_inputs_has_no_tangent() -> None:
    x = flambeau.ones(2, requires_grad=True)
    z = flambeau.ones(2, requires_grad=True)
    found = pushforward((x * 2, z * 2, flambeau.ones(2)), [x], [flambeau.ones(2)])
    assert found[0].tolist() == [2.0, 2.0]
    assert found[1:] == (None, None)


def test_tangents_are_differentiable() -> None:
    x = flambeau.tensor([2.0, 3.0], dtype=flambeau.float64, requires_grad=True)
    (tangent,) = pushforward((x**3,), [x], [flambeau.ones(2, dtype=flambeau.float64)])
    (second,) = flambeau.autograd.grad(tangent.sum(), x)
    assert second.tolist() == [12.0, 18.0]


def test_a_tangent_of_another_shape() -> None:
    x = flambeau.ones(2, requires_grad=True)
    with pytest.raises(RuntimeError, match="a tangent of shape"):
        pushforward((x * 2,), [x], [flambeau.ones(3)])
