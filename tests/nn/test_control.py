"""Branches, loops and scans over tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau.control import associative_scan, cond, scan, while_loop
from flambeau.control import map as map_
from flambeau.export import Dim, export
from flambeau.func import vmap


def test_a_branch_is_taken_by_value() -> None:
    calls = []

    def note(name: str) -> Any:
        return lambda x: calls.append(name) or x * (2 if name == "yes" else 3)

    x = flambeau.tensor([1.0, -4.0], requires_grad=True)
    out = cond(x.sum() > 0, note("yes"), note("no"), (x,))
    out.sum().backward()
    assert calls == ["no"]
    assert x.grad.tolist() == [3.0, 3.0]
    assert cond(True, lambda: x, lambda: -x) is x


def test_a_branch_without_a_value_is_chosen_when_it_runs() -> None:
    class Net(flambeau.nn.Module):
        def forward(self, x: Any) -> Any:
            return flambeau.cond(x.sum() > 0, lambda x: {"y": x * 2}, lambda x: {"y": x - 1}, (x,))

    program = export(Net(), (flambeau.ones(3),), dynamic_shapes=({0: Dim("n")},))
    for x in (flambeau.ones(5), -flambeau.ones(2)):
        assert flambeau.equal(program.module()(x)["y"], Net()(x)["y"])
    batch = flambeau.tensor([[1.0, 2.0], [-1.0, -2.0]])
    found = vmap(lambda x: cond(x.sum() > 0, lambda x: x * 2, lambda x: x - 1, (x,)))(batch)
    assert found.tolist() == [[2.0, 4.0], [-2.0, -3.0]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: cond(1, abs, abs, (x,)), "bool or tensor, but got 1"),
        (lambda x: cond(x, abs, abs, (x,)), "single-element tensor"),
        (lambda x: cond(True, 3, abs, (x,)), "branches to be callable"),
        (lambda x: cond(True, abs, abs, x), "operands to be a tuple"),
        (lambda x: cond(True, abs, abs, (x, 3)), "only consists of tensor leaves"),
        (lambda x: while_loop(lambda x: x.sum() < 9, lambda x: x[:1], (x,)), "same shapes"),
        (lambda x: while_loop(lambda x: True, lambda x: (x, x), (x,)), "for carried values"),
        (lambda x: scan(lambda c, v: (c[:1], v), x, x), "combine_fn and init"),
        (lambda x: associative_scan(lambda a, b: (a, b), x, 0), "for values"),
    ],
)
def test_refusals(call: Any, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        call(flambeau.ones(2))


def test_wrong_sizes() -> None:
    for call in (
        lambda: scan(lambda c, v: (c, v), flambeau.ones(1), flambeau.ones(0)),
        lambda: map_(lambda v: v, (flambeau.ones(2), flambeau.ones(3))),
        lambda: associative_scan(flambeau.add, flambeau.ones(2), 0, combine_mode="other"),
    ):
        with pytest.raises(ValueError):
            call()
    with pytest.raises(RuntimeError, match="give tensors of the same"):
        vmap(lambda x: cond(x > 0, lambda x: x, lambda x: x.double(), (x,)))(flambeau.ones(2))


def test_loops() -> None:
    def body(n: Any, x: Any) -> Any:
        return n + 1, x * 2

    x = flambeau.ones(2, requires_grad=True)
    n, out = while_loop(lambda n, x: n < 4, body, (flambeau.tensor(0), x))
    out.sum().backward()
    assert n.item() == 4
    assert x.grad.tolist() == [16.0, 16.0]
    assert while_loop(lambda n: n < 3, lambda n: n + 1, (0,)) == (3,)


@pytest.mark.parametrize("reverse", [False, True])
def test_scans(reverse: bool, rng: np.random.Generator) -> None:
    values = rng.standard_normal((3, 5))
    xs = flambeau.tensor(values, requires_grad=True)

    def step(carry: Any, x: Any) -> Any:
        carry = {"h": (carry["h"] * 0.5 + x["v"]).tanh()}
        return carry, (carry["h"] * 2, x["v"])

    last, (ys, again) = scan(
        step, {"h": flambeau.zeros(3, dtype=flambeau.float64)}, {"v": xs}, dim=1, reverse=reverse
    )
    h, want = np.zeros(3), np.zeros((5, 3))
    for t in reversed(range(5)) if reverse else range(5):
        h = np.tanh(h * 0.5 + values[:, t])
        want[t] = 2 * h
    np.testing.assert_allclose(ys.detach().numpy(), want)
    np.testing.assert_allclose(last["h"].detach().numpy(), h)
    np.testing.assert_allclose(again.detach().numpy(), values.T)
    assert flambeau.autograd.gradcheck(
        lambda x: scan(step, {"h": flambeau.zeros_like(x[:, 0])}, {"v": x}, dim=1)[1][0], (xs,)
    )


def test_map() -> None:
    xs = flambeau.randn(4, 3, requires_grad=True)
    out = map_(lambda x, w: {"y": (x * w).sum()}, xs, flambeau.ones(3))
    assert flambeau.allclose(out["y"], xs.sum(1))
    out["y"].sum().backward()
    assert xs.grad.tolist() == [[1.0] * 3] * 4


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 33])
@pytest.mark.parametrize("mode", ["pointwise", "generic"])
@pytest.mark.parametrize("reverse", [False, True])
def test_associative_scans(count: int, mode: str, reverse: bool) -> None:
    """The states of h_t = a_t h_{t-1} + b_t, as state-space models need them."""
    a = flambeau.rand(2, count, dtype=flambeau.float64)
    b = flambeau.randn(2, count, dtype=flambeau.float64)

    def combine(left: Any, right: Any) -> Any:
        return left[0] * right[0], left[1] * right[0] + right[1]

    _, found = associative_scan(combine, (a, b), 1, reverse, mode)
    h = np.zeros(2)
    for t in reversed(range(count)) if reverse else range(count):
        h = a.numpy()[:, t] * h + b.numpy()[:, t]
        np.testing.assert_allclose(found.numpy()[:, t], h, rtol=1e-12)


def test_gradients_of_an_associative_scan() -> None:
    x = flambeau.rand(5, dtype=flambeau.float64, requires_grad=True)
    assert flambeau.autograd.gradcheck(lambda x: associative_scan(flambeau.mul, x, 0), (x,))
