"""``flambeau.library``: operators of one's own, their gradients, and their other faces."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau import library


@pytest.fixture
def sine() -> Any:
    """An operator that NumPy computes, with a derivative."""

    @library.custom_op("tests::sine", mutates_args=())
    def sine(x: flambeau.Tensor, scale: float = 1.0) -> flambeau.Tensor:
        return flambeau.from_numpy(np.sin(x.numpy()) * np.float32(scale))

    def setup(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(inputs[0])
        ctx.scale = inputs[1]

    def backward(ctx: Any, g: Any) -> Any:
        return g * ctx.saved_tensors[0].cos() * ctx.scale, None

    sine.register_autograd(backward, setup_context=setup)
    return sine


def test_values_and_gradients(sine: Any) -> None:
    x = flambeau.linspace(0, 1, 4, requires_grad=True)
    y = sine(x, scale=3.0)
    y.sum().backward()
    assert np.allclose(y.detach().numpy(), np.sin(x.detach().numpy()) * 3)
    assert np.allclose(x.grad.numpy(), np.cos(x.detach().numpy()) * 3)
    assert not sine(x.detach()).requires_grad
    assert library.ops.tests.sine is sine
    assert flambeau.equal(library.ops.tests.sine.default(x), sine(x))


def test_lists_of_tensors_and_keywords() -> None:
    @library.custom_op("tests::mix", mutates_args=())
    def mix(parts: list[flambeau.Tensor], *, weight: float) -> flambeau.Tensor:
        return sum(p * weight for p in parts)

    def setup(ctx: Any, inputs: Any, output: Any, keyword_only_inputs: Any) -> None:
        ctx.count, ctx.weight = len(inputs[0]), keyword_only_inputs["weight"]

    mix.register_autograd(lambda ctx, g: [g * ctx.weight] * ctx.count, setup_context=setup)
    parts = [flambeau.ones(2, requires_grad=True) for _ in range(3)]
    mix(parts, weight=2.0).sum().backward()
    assert [p.grad.tolist() for p in parts] == [[2, 2]] * 3


def test_without_a_formula_the_backward_pass_says_so() -> None:
    opaque = library.custom_op("tests::opaque", lambda x: x * 2, mutates_args=())
    y = opaque(flambeau.ones(2, requires_grad=True))
    assert y.requires_grad
    with pytest.raises(RuntimeError, match="tests::opaque but no autograd formula"):
        y.sum().backward()


def test_a_derivative_with_too_few_gradients_is_refused() -> None:
    pair = library.custom_op("tests::pair", lambda x, y: x * y, mutates_args=())
    pair.register_autograd(lambda ctx, g: g)
    x = flambeau.ones(2, requires_grad=True)
    with pytest.raises(RuntimeError, match="each of its 2 inputs"):
        pair(x, x).sum().backward()


def test_arguments_are_written_where_that_is_said() -> None:
    @library.custom_op("tests::zero_", mutates_args={"x"})
    def zero_(x: flambeau.Tensor) -> None:
        x.numpy()[:] = 0

    x = flambeau.ones(3)
    assert zero_(x) is None
    assert x.tolist() == [0, 0, 0]


def test_shapes_alone(sine: Any) -> None:
    @sine.register_fake
    def _(x: Any, scale: float = 1.0) -> Any:
        return flambeau.empty_like(x)

    found = sine(flambeau.empty(2, 3, device="meta"))
    assert found.is_meta
    assert found.shape == (2, 3)


def test_schemas_first_functions_later() -> None:
    lib = library.Library("tests", "FRAGMENT")
    lib.define("twice(Tensor x) -> Tensor")
    with pytest.raises(NotImplementedError, match="tests::twice"):
        library.ops.tests.twice(flambeau.ones(1))
    lib.impl("twice", lambda x: x * 2, "CPU")
    assert library.ops.tests.twice(flambeau.ones(1)).item() == 2
    library.define("tests::thrice", "(Tensor x) -> Tensor")
    library.impl("tests::thrice", "cpu", lambda x: x * 3)
    library.register_autograd("tests::thrice", lambda ctx, g: g * 3)
    x = flambeau.ones(1, requires_grad=True)
    library.ops.tests.thrice(x).backward()
    assert x.grad.item() == 3


def test_names() -> None:
    with pytest.raises(ValueError, match="namespace::name"):
        library.custom_op("sine", lambda x: x, mutates_args=())
    with pytest.raises(AttributeError, match="no_such"):
        _ = library.ops.tests.no_such
    x = flambeau.ones(2)
    assert library.ops.aten.add.Tensor(x, x).tolist() == [2, 2]
    with pytest.raises(OSError, match="extension"):
        library.ops.load_library("x.so")
