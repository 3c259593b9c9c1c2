"""Backward passes that ran before record the same nodes, and what must not be repeated is not."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau import Tensor, nn, record
from flambeau.autograd import repeat
from flambeau.nn import functional as F
from flambeau.ops.rows import ROWS


@pytest.fixture(autouse=True)
def no_recipes() -> Iterator[None]:
    repeat.forget()
    yield
    repeat.forget()


def kept() -> list[Any]:
    """The recipes there are; None stands for a pass that cannot be repeated."""
    return list(repeat._recipes.values())


def loss_of(w: Tensor, x: Tensor) -> Tensor:
    """Views, a saved view, broadcasting, a shared value and an indexing."""
    h = (x @ w).tanh()
    left, right = h.chunk(2, dim=1)
    return ((left.T @ right).exp().mean() + (h[1:] * h[:-1]).sum() + w[0, 0] ** 2) * 0.5


def loss_numbers(w: np.ndarray[Any, Any], x: np.ndarray[Any, Any]) -> float:
    h = np.tanh(x @ w)
    left, right = h[:, : h.shape[1] // 2], h[:, h.shape[1] // 2 :]
    return 0.5 * float(np.exp(left.T @ right).mean() + (h[1:] * h[:-1]).sum() + w[0, 0] ** 2)


def differences(w: np.ndarray[Any, Any], x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The gradient by central differences in float64."""
    found = np.zeros_like(w)
    for place in np.ndindex(*w.shape):
        step = np.zeros_like(w)
        step[place] = 1e-6
        found[place] = (loss_numbers(w + step, x) - loss_numbers(w - step, x)) / 2e-6
    return found


@pytest.mark.parametrize("way", ["backward", "grad", "inputs"])
def test_a_repeated_pass_gives_the_gradients_of_its_own_values(
    rng: np.random.Generator, way: str
) -> None:
    for k in range(6):
        w, x = rng.normal(size=(3, 4)) * 0.5, rng.normal(size=(5, 3))
        p, data = flambeau.tensor(w, requires_grad=True), flambeau.tensor(x)
        loss = loss_of(p, data)
        if way == "backward":
            loss.backward()
            g = p.grad
        elif way == "inputs":
            loss.backward(inputs=[p])
            g = p.grad
        else:
            (g,) = flambeau.autograd.grad(loss, p)
        assert g is not None
        np.testing.assert_allclose(g.numpy(), differences(w, x), rtol=1e-6, atol=1e-8)
        assert len(kept()) == (k > 0)
    assert kept()[0] is not None


def test_the_program_is_the_one_that_is_recorded_without_recipes(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = flambeau.tensor(rng.normal(size=(6, 3)).astype("float32")), flambeau.tensor([0, 1] * 3)

    def trained() -> int:
        model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.PReLU(), nn.Linear(8, 2))
        optimizer = flambeau.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        for _ in range(5):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
        return record.counters.compiled + record.counters.resized

    with monkeypatch.context() as without:
        without.setattr(repeat, "run", lambda task, edges, grads: task.run(edges, grads))
        compiled = trained()
    assert not kept()
    assert trained() == compiled
    assert [r is not None for r in kept()] == [True]


def test_gradients_accumulate_and_a_kept_tape_can_be_repeated() -> None:
    w = flambeau.tensor([1.0, 2.0], requires_grad=True)
    loss = (w * w * w).sum()
    for k in range(1, 6):
        loss.backward(retain_graph=True)
        assert w.grad is not None
        np.testing.assert_allclose(w.grad.numpy(), 3 * k * np.array([1.0, 4.0]))
    loss.backward()
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        loss.backward()


def test_hooks_are_called_in_every_round() -> None:
    w = flambeau.tensor([1.0, 2.0], requires_grad=True)
    seen: list[float] = []
    w.register_hook(lambda g: g * 10)

    def step(k: int) -> list[float]:
        w.grad = None
        h = w * (k + 1.0)
        if k == 4:
            h.register_hook(lambda g: seen.append(g.sum().item()))
        h.sum().backward()
        assert w.grad is not None
        return list(w.grad.tolist())

    assert [step(k) for k in range(5)] == [[10.0 * k] * 2 for k in range(1, 6)]
    assert seen == [2.0]


def test_a_value_that_was_overwritten_is_noticed() -> None:
    for k in range(5):
        w = flambeau.tensor([1.0, 2.0], requires_grad=True)
        h = w.exp()
        loss = (h * h).sum()
        if k == 4:
            h.detach().add_(1)
            with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                loss.backward()
        else:
            loss.backward()


def test_numbers_of_a_rule_are_part_of_the_form() -> None:
    w = flambeau.tensor([1.0, 2.0], requires_grad=True)
    for scale in (2.0, 2.0, 2.0, 3.0, 3.0, 3.0, 4.5):
        (g,) = flambeau.autograd.grad((w * scale).sum(), w)
        assert g.tolist() == [scale, scale]


def test_memory_that_others_see_is_read_as_it_is() -> None:
    data = np.ones(3, "float32")
    w = flambeau.ones(3, requires_grad=True)
    for k in range(5):
        data[:] = k
        (g,) = flambeau.autograd.grad((flambeau.from_numpy(data) * w).sum(), w)
        data[:] = -1
        assert g.tolist() == [float(k)] * 3


def test_random_numbers_are_drawn_anew() -> None:
    w = flambeau.ones(1000, requires_grad=True)
    found = [flambeau.autograd.grad(F.dropout(w, 0.5).sum(), w)[0].tolist() for _ in range(5)]
    assert all(a != b for a, b in itertools.pairwise(found))


def test_a_users_function_is_called_every_time() -> None:
    calls: list[int] = []

    class Twice(flambeau.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x * 2

        @staticmethod
        def backward(ctx: Any, g: Tensor) -> Tensor:
            calls.append(1)
            return g * 2

    w = flambeau.ones(2, requires_grad=True)
    for _ in range(5):
        (g,) = flambeau.autograd.grad(Twice.apply(w.exp()).sum(), w)
        np.testing.assert_allclose(g.numpy(), 2 * np.e, rtol=1e-6)
    assert len(calls) == 5
    assert not kept()


def test_second_derivatives_follow_from_a_pass_that_is_recorded() -> None:
    for k in range(5):
        w = flambeau.tensor([1.0 + k, 2.0], dtype=flambeau.float64, requires_grad=True)
        (g,) = flambeau.autograd.grad((w**4).sum(), w, create_graph=True)
        (h,) = flambeau.autograd.grad(g.sum(), w)
        np.testing.assert_allclose(h.numpy(), 12 * np.array([1.0 + k, 2.0]) ** 2)


@pytest.mark.parametrize("shape", [(), (1,), (0, 2), (2, 3)])
def test_odd_shapes(rng: np.random.Generator, shape: tuple[int, ...]) -> None:
    for _ in range(4):
        x = rng.normal(size=shape)
        w = flambeau.tensor(x, requires_grad=True)
        (w.expand(2, *shape).sin() * 0.5).sum().backward()
        assert w.grad is not None
        np.testing.assert_allclose(w.grad.numpy(), np.cos(x), atol=1e-12)


def test_a_rule_that_asks_for_values_is_called_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    row = ROWS["tanh"]
    plain = row.vjp
    assert plain is not None

    def asks(g: Tensor, out: Tensor, x: Tensor) -> Any:
        return plain(g * (2.0 if out.sum().item() > 0 else 1.0), out, x)

    monkeypatch.setattr(row, "vjp", asks)
    for k in range(6):
        x = flambeau.full((3,), (-1.0) ** k, requires_grad=True)
        x.tanh().sum().backward()
        assert x.grad is not None
        slope = 1 - np.tanh(1.0) ** 2
        assert x.grad.tolist() == pytest.approx([slope * (1 + (k % 2 == 0))] * 3)
    assert kept() == [None]
