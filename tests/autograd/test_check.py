"""`gradcheck` and `gradgradcheck` accept right gradients and find wrong ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import flambeau
from flambeau.autograd import GradcheckError, gradcheck, gradgradcheck


def leaf(*shape: int) -> Any:
    return (flambeau.rand(*shape, dtype=flambeau.float64) + 0.5).requires_grad_()


FUNCTIONS: dict[str, tuple[Callable[..., Any], tuple[tuple[int, ...], ...]]] = {
    "product": (lambda x, y: x * y, ((3,), (2, 3))),
    "quotient": (lambda x, y: x / y, ((3,), (2, 1))),
    "matrix product": (lambda x, y: x @ y, ((2, 3), (3, 2))),
    "softmax": (lambda x: x.softmax(-1), ((2, 4),)),
    "norm": (lambda x: (x * x).sum().sqrt(), ((3,),)),
    "views": (lambda x: x.t()[1:].reshape(-1)[::2] ** 2, ((3, 4),)),
    "several outputs": (lambda x: (x.sin(), x.exp().sum()), ((3,),)),
    "write through a view": (lambda x: (x * 1).clone()[1:].mul_(x[:2]), ((3,),)),
    "write to the base": (lambda x: write_to_base(x), ((3, 2),)),
    "powers": (lambda x, y: x**y, ((3,), (3,))),
    "layer norm": (lambda x: flambeau.nn.functional.layer_norm(x, (4,)), ((2, 4),)),
    "in place on the argument": (lambda x: x.mul_(2.0).exp(), ((3,),)),
}


def write_to_base(x: Any) -> Any:
    y = x * 2
    row = y[1]
    y[:, 0] = x[:, 1] ** 2
    y.mul_(x)
    return row * 3


@pytest.mark.parametrize("name", FUNCTIONS)
def test_right_gradients(name: str) -> None:
    function, shapes = FUNCTIONS[name]
    assert gradcheck(function, tuple(leaf(*s) for s in shapes))


@pytest.mark.parametrize("name", [n for n in FUNCTIONS if n != "in place on the argument"])
def test_right_second_gradients(name: str) -> None:
    function, shapes = FUNCTIONS[name]
    assert gradgradcheck(function, tuple(leaf(*s) for s in shapes))


class Wrong(flambeau.autograd.Function):
    """x ** 2 with a gradient that is off by a hundredth."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return g * 2.02 * ctx.saved_tensors[0]


class WrongSecond(flambeau.autograd.Function):
    """x ** 2 whose gradient is right and has no history."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return g * 2 * ctx.saved_tensors[0].detach()


def test_a_wrong_gradient() -> None:
    with pytest.raises(GradcheckError, match="Jacobian mismatch for output 0 with respect to inp"):
        gradcheck(Wrong.apply, (leaf(3),))
    assert not gradcheck(Wrong.apply, (leaf(3),), raise_exception=False)


def test_a_wrong_second_gradient() -> None:
    assert gradcheck(WrongSecond.apply, (leaf(3),))
    with pytest.raises(GradcheckError):
        gradgradcheck(WrongSecond.apply, (leaf(3),))


def test_single_precision_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="double precision"):
        gradcheck(lambda x: x * 2, (flambeau.ones(2, requires_grad=True),), eps=1e-2, atol=1e-2)


def test_nothing_to_check() -> None:
    with pytest.raises(ValueError, match="at least one input tensor to require gradient"):
        gradcheck(lambda x: x * 2, (flambeau.ones(2),))


def test_the_inputs_stay_as_they_are() -> None:
    x = leaf(3)
    before = x.tolist()
    gradcheck(lambda t: t.mul_(2.0), (x,))
    assert x.tolist() == before
    assert x.grad is None
