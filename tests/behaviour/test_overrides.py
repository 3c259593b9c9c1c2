"""Types and modes that answer calls themselves: every public function of the table asks them."""

from __future__ import annotations

import copy
from typing import Any

import pytest

import flambeau
from flambeau import nn, overriding
from flambeau.overrides import (
    DisableTorchFunctionSubclass,
    TorchFunctionMode,
    get_overridable_functions,
    get_testing_overrides,
    handle_torch_function,
    has_torch_function,
    is_tensor_like,
    is_tensor_method_or_property,
    redispatch_function,
    resolve_name,
    wrap_torch_function,
)
from tests.table.cases import Call, Draw, calls, public, rows, tensors

PUBLIC = [name for name in rows(lambda row: row.samples is not None) if public(name)]


class First(TorchFunctionMode):
    """Keeps the first function that it is asked about."""

    def __init__(self) -> None:
        self.seen: Any = None

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        self.seen = func if self.seen is None else self.seen
        return func(*args, **(kwargs or {}))


class Named(flambeau.Tensor):
    """A tensor of a class of its own."""


def one(name: str) -> Call | None:
    """A row's first sample with a tensor among its arguments."""
    found = calls(name, Draw(flambeau.float32))
    return next((c for c in found if tensors([*c.args, *c.kwargs.values()])), None)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_row_asks_a_mode_first(name: str) -> None:
    call = one(name)
    if call is None or name == "to_dtype":
        return
    mode = First()
    try:
        with mode:
            call()
    except (RuntimeError, NotImplementedError):  # a dtype that the row refuses
        pass
    assert mode.seen is call.row.call
    assert not overriding.state.modes


@pytest.mark.parametrize("name", ["exp", "add", "sum", "softmax", "matmul", "sort", "split",
                                  "layer_norm", "linear", "conv2d", "cat", "where"])  # fmt: skip
def test_results_are_of_the_arguments_class(name: str) -> None:
    call = one(name)
    assert call is not None
    args = [
        a.as_subclass(Named) if isinstance(a, flambeau.Tensor) else
        [t.as_subclass(Named) for t in a] if isinstance(a, (list, tuple)) and tensors(a) else a
        for a in call.args
    ]  # fmt: skip
    found = tensors(Call(call.row, 0, tuple(args), call.kwargs)())
    assert found
    assert all(type(t) is Named for t in found)
    assert all(type(t) is flambeau.Tensor for t in call())


def test_methods_operators_and_properties_keep_the_class() -> None:
    x = Named([[1.0, 2.0], [3.0, 4.0]])
    for made in (
        x + 1, 1 - x, x @ flambeau.ones(2, 2), flambeau.ones(2, 2) @ x, x[0], x.T, x.view(4), -x,
        x.detach(), x.data, x.float(), x.double(), copy.deepcopy(x), x.clone().add_(1),
        x.clone().normal_(), nn.functional.relu(x), nn.Linear(2, 3)(x),
    ):  # fmt: skip
        assert type(made) is Named
    assert type(x.as_subclass(flambeau.Tensor)) is flambeau.Tensor
    assert x.shape == (2, 2)
    assert x.tolist() == [[1, 2], [3, 4]]
    assert x.sum().item() == 10
    with DisableTorchFunctionSubclass():
        assert type(x + 1) is flambeau.Tensor


def test_parameters_and_sparse_tensors_give_plain_tensors() -> None:
    for t in (nn.Parameter(flambeau.ones(2)), flambeau.eye(2).to_sparse()):
        assert type(flambeau.exp(t)) is flambeau.Tensor
        assert not has_torch_function((t,))


class Wrapped:
    """No tensor, but an argument of functions of tensors."""

    answers: dict[Any, Any] = {
        flambeau.mean: lambda input: "mean",
        flambeau.add: lambda input, other: "add",
        nn.functional.linear: lambda *args: "linear",
        flambeau.cat: lambda *args: "cat",
    }

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return cls.answers[func](*args, **(kwargs or {})) if func in cls.answers else NotImplemented


@pytest.mark.parametrize("asked_before", [False, True])
def test_types_that_are_no_tensors_answer(
    asked_before: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overriding, "on", asked_before)
    w, x = Wrapped(), flambeau.ones(2)
    assert flambeau.mean(w) == "mean"  # type: ignore[arg-type]
    monkeypatch.setattr(overriding, "on", asked_before)
    assert flambeau.add(w, 1) == flambeau.add(1, w) == flambeau.add(x, w) == "add"
    monkeypatch.setattr(overriding, "on", asked_before)
    assert nn.functional.linear(x, w) == "linear"  # type: ignore[arg-type]
    monkeypatch.setattr(overriding, "on", asked_before)
    assert flambeau.cat([x, w]) == "cat"  # type: ignore[list-item]
    for function in (flambeau.exp, flambeau.sum, nn.functional.softmax):
        monkeypatch.setattr(overriding, "on", asked_before)
        with pytest.raises(TypeError, match="no implementation found"):
            function(w)
    assert is_tensor_like(w)
    assert not is_tensor_like(1)


def test_inner_modes_come_first_and_nothing_asks_afterwards() -> None:
    class Swap(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
        ) -> Any:
            return (flambeau.mul if func is flambeau.add else func)(*args, **(kwargs or {}))

    outer = First()
    before = overriding._types_seen
    with outer, Swap():
        assert flambeau.add(flambeau.tensor(3.0), 4).item() == 12
    assert outer.seen is flambeau.tensor
    assert overriding.on == before


def test_gradients_of_subclasses() -> None:
    asked = []

    class Logged(flambeau.Tensor):
        @classmethod
        def __torch_function__(
            cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
        ) -> Any:
            asked.append(func.__name__)
            return super().__torch_function__(func, types, args, kwargs)

    x = flambeau.tensor([1.0, 2.0]).as_subclass(Logged).requires_grad_()
    ((x * x).sum() * 2).backward()
    assert x.grad.tolist() == [4, 8]
    assert asked == ["requires_grad_", "mul", "sum", "mul", "backward", "__get__"]


def test_functions_of_ones_own_can_be_overridden() -> None:
    @wrap_torch_function(lambda a, b: (a, b))
    def total(a: Any, b: Any) -> Any:
        return a + b

    def twice(a: Any) -> Any:
        if has_torch_function((a,)):
            return handle_torch_function(twice, (a,), a)
        return a * 2

    mode = First()
    with mode:
        total(flambeau.ones(1), 1)
    assert mode.seen is flambeau.ones
    assert type(total(Named([1.0]), 1)) is type(twice(Named([1.0]))) is Named
    with pytest.raises(TypeError, match="twice"):
        twice(Wrapped())


def test_one_level_is_skipped() -> None:
    depth: list[str] = []

    class Logged(flambeau.Tensor):
        @classmethod
        def __torch_function__(
            cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
        ) -> Any:
            depth.append(func.__name__)
            return redispatch_function(func, types, args, kwargs)

    x = flambeau.ones(2).as_subclass(Logged)
    assert type(x * 2) is flambeau.Tensor
    assert depth == ["mul"]


def test_functions_are_named_and_listed() -> None:
    assert resolve_name(flambeau.add) == "torch.add"
    assert resolve_name(nn.functional.linear) == "torch.nn.functional.linear"
    shape = vars(flambeau.Tensor)["shape"].__get__
    assert resolve_name(shape) == "torch.Tensor.shape.__get__"
    assert resolve_name(len) is None
    assert is_tensor_method_or_property(shape)
    assert is_tensor_method_or_property(flambeau.Tensor.detach)
    assert flambeau.exp in get_overridable_functions()[flambeau]
    assert get_testing_overrides()[flambeau.exp](1) == -1
