"""`__torch_dispatch__`: modes and subclasses that answer operators below autograd, and FLOPs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau import nn
from flambeau.library import ops
from flambeau.overriding import disabled_torch_function, state
from flambeau.pytree import tree_map
from flambeau.utils._python_dispatch import (
    TorchDispatchMode,
    _disable_current_modes,
    is_traceable_wrapper_subclass,
    return_and_correct_aliasing,
    transform_subclass,
)
from flambeau.utils.flop_counter import FlopCounterMode


class Heard(TorchDispatchMode):
    """Notes the operators it is asked about."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


class Wrapped(flambeau.Tensor):
    """Holds a tensor, and computes with that."""

    heard: list[str] = []
    __torch_function__ = disabled_torch_function  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, inner: Any) -> Any:
        return cls._make_wrapper_subclass(
            cls, inner.size(), dtype=inner.dtype, requires_grad=inner.requires_grad
        )

    def __init__(self, inner: Any) -> None:
        self.held = inner.detach()

    def __tensor_flatten__(self) -> Any:
        return ["held"], None

    @staticmethod
    def __tensor_unflatten__(inner: Any, context: Any, size: Any, stride: Any) -> Any:
        return Wrapped(inner["held"])

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        cls.heard.append(str(func))
        plain = tree_map(lambda v: v.held if isinstance(v, Wrapped) else v, (args, kwargs or {}))
        found = func(*plain[0], **plain[1])
        made = tree_map(lambda v: Wrapped(v) if isinstance(v, flambeau.Tensor) else v, found)
        return return_and_correct_aliasing(func, args, kwargs, made)


def test_a_mode_hears_forward_and_backward() -> None:
    x = flambeau.ones(2, 3, requires_grad=True)
    with Heard() as heard:
        y = (x * 2).exp() @ flambeau.ones(3, 4)
        forward = len(heard.names)
        y.sum().backward()
    assert "aten.mul.Tensor" in heard.names[:forward]
    assert "aten.mm.default" in heard.names[:forward]
    assert "aten.mm.default" in heard.names[forward:]
    np.testing.assert_allclose(x.grad.numpy(), np.full((2, 3), 8 * np.exp(2)), rtol=1e-6)
    before = len(heard.names)
    assert (x + 1).sum().item() == 12
    assert len(heard.names) == before


def test_modes_change_results_and_nest() -> None:
    class Twice(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
        ) -> Any:
            return func(*args, **(kwargs or {})) * 2

    x = flambeau.ones(3)
    with Heard() as outer, Twice():
        y = x.exp()
        with _disable_current_modes():
            z = x.exp()
    assert outer.names == ["aten.exp.default", "aten.mul.Tensor"]
    np.testing.assert_allclose(y.numpy(), np.full(3, 2 * np.e), rtol=1e-6)
    np.testing.assert_allclose(z.numpy(), np.full(3, np.e), rtol=1e-6)
    assert not state.dispatching


def test_compiling_asks_nobody() -> None:
    with Heard() as heard:
        y = flambeau.softmax(flambeau.ones(2, 3), -1)
        before = list(heard.names)
        y.tolist()  # the kept row is taken apart where it is compiled
    assert before == heard.names[: len(before)]
    assert not any("max" in name for name in heard.names[len(before) :])


def test_an_operator_is_one_object() -> None:
    seen = []

    class First(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
        ) -> Any:
            seen.append(func)
            return func(*args, **(kwargs or {}))

    with First():
        flambeau.ones(2, 2) @ flambeau.ones(2, 2)
    assert seen[-1] is ops.aten.mm.default
    assert seen[-1].overloadpacket == ops.aten.mm
    assert seen[-1].name() == "aten::mm"
    table = {ops.aten.mm: "product"}
    assert table[seen[-1].overloadpacket] == "product"


def test_a_mode_that_answers_nothing() -> None:
    class Silent(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
        ) -> Any:
            return NotImplemented

    with Silent(), pytest.raises(TypeError, match=r"Multiple dispatch failed for 'aten\.exp"):
        flambeau.ones(2).exp()


def test_a_wrapper_has_derivatives() -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3) / 7
    given = flambeau.tensor(values, requires_grad=True)
    w = Wrapped(given)
    y = (w * 2 + flambeau.ones(3)).exp() @ flambeau.ones(3, 2)
    assert type(y) is Wrapped
    assert y.requires_grad
    np.testing.assert_allclose(y.held.numpy(), np.exp(values * 2 + 1) @ np.ones((3, 2)), rtol=1e-6)
    y.sum().backward()
    grad: Any = w.grad
    assert type(grad) is Wrapped
    np.testing.assert_allclose(grad.held.numpy(), 4 * np.exp(values * 2 + 1), rtol=1e-6)


def test_a_wrapped_parameter() -> None:
    layer = nn.Linear(3, 2)
    with flambeau.no_grad():
        layer.bias.zero_()
    layer.weight = nn.Parameter(Wrapped(flambeau.ones(2, 3)))
    y: Any = layer(flambeau.ones(1, 3))
    np.testing.assert_array_equal(y.held.numpy(), [[3, 3]])
    y.sum().backward()
    grad: Any = layer.weight.grad
    np.testing.assert_array_equal(grad.held.numpy(), np.ones((2, 3)))


def test_wrappers_are_told_and_transformed() -> None:
    w = Wrapped(flambeau.ones(2))
    assert is_traceable_wrapper_subclass(w)
    assert not is_traceable_wrapper_subclass(w.held)
    assert transform_subclass(w, lambda name, t: t * 3).held.tolist() == [3, 3]
    with pytest.raises(RuntimeError, match="__torch_dispatch__"):
        flambeau.Tensor._make_wrapper_subclass(nn.Parameter, (2,))


def test_flops_by_module() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 3))
    with FlopCounterMode(display=False) as counter:
        model(flambeau.ones(2, 4)).sum().backward()
    first, last = 2 * 2 * 4 * 8, 2 * 2 * 8 * 3  # the first needs no gradient of its input
    assert counter.get_total_flops() == 2 * first + 3 * last
    found = {name: sum(ops_.values()) for name, ops_ in counter.get_flop_counts().items()}
    assert found["Sequential.0"] == 2 * first
    assert found["Sequential.3"] == 3 * last
    assert "Sequential.3" in counter.get_table()
    assert "100.00%" in counter.get_table()


def test_flops_of_convolution_attention_and_views() -> None:
    conv = nn.Conv2d(3, 8, 3, padding=1)
    with FlopCounterMode(display=False) as counter:
        conv(flambeau.ones(2, 3, 9, 9)).sum().backward()
    assert counter.get_total_flops() == 2 * (2 * (2 * 8 * 9 * 9) * (3 * 3 * 3))
    q = flambeau.ones(2, 4, 16, 8)
    with FlopCounterMode(display=False) as counter:
        nn.functional.scaled_dot_product_attention(q, q, q)
    assert counter.get_total_flops() == 2 * 2 * (2 * 4 * 16 * 16 * 8)
    with FlopCounterMode(display=False) as counter:
        (flambeau.ones(2, 3) @ flambeau.ones(3, 4)).view(8).reshape(4, 2).t()
    assert counter.get_total_flops() == 2 * 2 * 3 * 4


def test_flops_as_one_says() -> None:
    rule = {ops.aten.exp: lambda shape, out_shape=None, **_: 10 * shape[0]}
    with FlopCounterMode(display=False, custom_mapping=rule) as counter:
        flambeau.ones(7).exp()
    assert counter.get_flop_counts()["Global"] == {ops.aten.exp: 70}
