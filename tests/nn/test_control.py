"""Branches, loops and scans over tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau import nn, record
from flambeau.control import associative_scan, cond, scan, while_loop
from flambeau.control import map as map_
from flambeau.export import Dim, export, load, save
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


# -- scans as one node -----------------------------------------------------------------------------


def unrolled(step: Any, carry: Any, xs: Any, reverse: bool = False) -> tuple[Any, Any]:
    """The definition of a scan over dimension 0 of one tensor."""
    found = []
    for x in reversed(xs.unbind(0)) if reverse else xs.unbind(0):
        carry, y = step(carry, x)
        found.append(y)
    return carry, flambeau.stack(found[::-1] if reverse else found)


def cell(c: Any, x: Any) -> tuple[Any, Any]:
    c = (c * 0.5 + x).tanh()
    return c, c * x


TABLE = flambeau.randn(10, 3, generator=flambeau.Generator().manual_seed(0))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("target", ["cpu", "interpret"])
def test_scans_are_their_steps(reverse: bool, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if target == "interpret":
        monkeypatch.setenv("FLAMBEAU_TARGET", "interpret")
    x = flambeau.randn(5, 4, 3)
    weight = flambeau.randn(3, 3)
    places = flambeau.randint(0, 10, (6, 4))
    cases: list[Any] = [
        (cell, flambeau.zeros(4, 3), x),
        (cell, flambeau.zeros(5, 4).t(), x.transpose(0, 2).flip(2)),
        (cell, flambeau.ones(1).expand(4, 3), x[:1].expand(7, 4, 3)),
        (cell, flambeau.zeros(3, 4).t(), x[::2, :, :]),
        (lambda c, x: (c, x), flambeau.randn(4, 3), x),
        (lambda c, x: (x, c), flambeau.randn(3, 4).t(), x),
        (lambda c, x: (flambeau.ones(4, 3), c + 1), flambeau.randn(4, 3), x),
        (lambda c, x: (c @ weight.t().relu() * 0.3 + x, c.sum()), flambeau.randn(4, 3), x),
        (lambda c, i: ((c + TABLE[i]).sin(), c), flambeau.zeros(4, 3), places),
        (lambda c, x: ((c + x).sort(-1)[0], c), flambeau.zeros(4, 3), x),
        (lambda c, x: (flambeau.linalg.svdvals(x) + c, c), flambeau.zeros(3), x),  # a library's
        (lambda c, x: (unrolled(cell, c, x)[0], c), flambeau.zeros(3), x),
        (lambda c, x: (scan(cell, c, x)[0], scan(cell, c, x)[1]), flambeau.zeros(3), x),
        (lambda c, x: (c + x, c), flambeau.tensor(0.0), flambeau.arange(5.0)),
        (lambda c, x: (c + x, c), flambeau.zeros(0, 2), flambeau.zeros(5, 0, 2)),
        (lambda c, x: (c * 2 + x, c), flambeau.tensor(1), flambeau.arange(5)),
        (lambda c, x: (c ^ x, c), flambeau.tensor(False), flambeau.arange(5) % 2 == 0),
        (cell, flambeau.zeros(4, 3), x[:1]),
    ]
    for step, carry, xs in cases:
        last, ys = scan(step, carry, xs, reverse=reverse)
        want, all_ = unrolled(step, carry, xs, reverse)
        np.testing.assert_allclose(last.numpy(), want.numpy(), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(ys.numpy(), all_.numpy(), rtol=1e-5, atol=1e-6)


def test_a_scan_is_one_node_and_so_is_its_gradient() -> None:
    weight = flambeau.randn(3, 3, requires_grad=True)

    def nodes(steps: int) -> list[int]:
        first = flambeau.zeros(2, 3, requires_grad=True)
        xs = flambeau.ones(steps, 2, 3)
        record.flush()
        _, ys = scan(lambda c, x: ((c @ weight + x).tanh(),) * 2, first, xs)
        ahead = len(record.pending_graph().nodes)
        found = flambeau.autograd.grad(ys.sin().sum(), (first, weight), create_graph=True)
        back = len(record.pending_graph().nodes)
        twice = flambeau.autograd.grad(found[0].square().sum(), (first, weight))
        both = len(record.pending_graph().nodes)
        del twice
        return [ahead, back, both]

    assert nodes(3) == nodes(50)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("checkpoint", [False, True])
def test_gradients_of_scans(reverse: bool, checkpoint: bool) -> None:
    f64 = flambeau.float64
    first = flambeau.randn(3, dtype=f64, requires_grad=True)
    xs = flambeau.randn(4, 3, dtype=f64, requires_grad=True)
    weight = flambeau.randn(3, 3, dtype=f64, requires_grad=True)

    def call(first: Any, xs: Any, weight: Any) -> Any:
        last, (ys, n) = scan(
            lambda c, x: (
                {"h": (c["h"] @ weight + x).tanh(), "n": c["n"] + 1},
                (c["h"] * x.sin(), c["n"]),
            ),
            {"h": first * 1, "n": flambeau.tensor(0)},
            xs,
            reverse=reverse,
            checkpoint=checkpoint,
        )
        assert n.tolist() == (list(range(4))[::-1] if reverse else list(range(4)))
        return last["h"], ys

    assert flambeau.autograd.gradcheck(call, (first, xs, weight))
    assert flambeau.autograd.gradgradcheck(call, (first, xs, weight))
    for only in range(3):  # where some need none
        given = [t.detach().requires_grad_(k == only) for k, t in enumerate((first, xs, weight))]
        assert flambeau.autograd.gradcheck(call, given)
    assert not call(first.detach(), xs.detach(), weight.detach())[0].requires_grad


def test_a_checkpointed_scan_keeps_its_carried_values_alone() -> None:
    xs = flambeau.randn(6, 3, requires_grad=True)

    def kept(checkpoint: bool) -> int:
        record.flush()
        ys = scan(
            lambda c, x: ((c * x).exp().sin().tanh(),) * 2,
            flambeau.ones(3),
            xs,
            checkpoint=checkpoint,
        )[1]
        found = sum(n.op.name == "pick" for n in record.pending_graph().nodes)
        del ys  # it was pending until here
        return found

    assert kept(True) == 2  # the results, and what was carried before each step
    assert kept(False) > 2


def test_gradients_of_a_scan_in_a_scan() -> None:
    f64 = flambeau.float64
    xs = flambeau.randn(3, 4, 2, dtype=f64, requires_grad=True)
    weight = flambeau.randn(2, dtype=f64, requires_grad=True)

    def call(xs: Any, weight: Any) -> Any:
        def inner(c: Any, x: Any) -> Any:
            return ((c * weight + x).tanh(),) * 2

        return scan(lambda c, x: scan(inner, c, x), flambeau.zeros(2, dtype=f64), xs)

    assert flambeau.autograd.gradcheck(call, (xs, weight))
    assert flambeau.autograd.gradgradcheck(call, (xs, weight))


def test_steps_draw_numbers_of_their_own() -> None:
    flambeau.manual_seed(3)
    _, ys = scan(lambda c, x: (c, flambeau.rand(4)), flambeau.zeros(()), flambeau.zeros(5))
    flambeau.manual_seed(3)
    assert flambeau.equal(ys, flambeau.stack([flambeau.rand(4) for _ in range(5)]))
    x = flambeau.ones(6, 50, requires_grad=True)
    _, ys = scan(lambda c, x: (c, nn.functional.dropout(x, 0.5)), flambeau.zeros(()), x)
    ys.sum().backward()
    assert flambeau.equal(x.grad, ys.detach())


def test_errors_in_a_step() -> None:
    places = flambeau.tensor([[1], [12]])
    found = scan(lambda c, i: (c, TABLE[i]), flambeau.zeros(()), places)[1]
    with pytest.raises(IndexError, match="index 12 is out of bounds"):
        found.tolist()
    with pytest.raises(RuntimeError, match="value of a tensor is looked at in a step"):
        scan(lambda c, x: (c if x > 0 else -c, x), flambeau.zeros(()), flambeau.ones(3))
    outside = flambeau.zeros(())
    with pytest.raises(RuntimeError, match="writes to a tensor from outside"):
        scan(lambda c, x: (c, outside.add_(x)), flambeau.zeros(()), flambeau.ones(3))
    xs = flambeau.ones(3, requires_grad=True) * 1
    out = scan(lambda c, x: (c * x, x), flambeau.ones(()), xs)[0]
    xs.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.backward()


def test_exported_scans(tmp_path: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(flambeau.randn(4, 4) * 0.3)
            self.linear = nn.Linear(3, 4)

        def forward(self, x: Any, h: Any) -> Any:
            def step(c: Any, v: Any) -> Any:
                c = (c @ self.weight + v).tanh()
                return c, {"y": c * 2}

            last, ys = scan(step, h, self.linear(x), dim=1)
            return last, ys["y"].transpose(0, 1)

    net = Net()
    batch, time = Dim("batch"), Dim("time")
    program = export(
        net,
        (flambeau.randn(2, 5, 3), flambeau.zeros(2, 4)),
        dynamic_shapes=({0: batch, 1: time}, {0: batch}),
    )
    assert program.graph.count("_scan(") == 1
    save(program, tmp_path / "scan.pt2")
    for made in (program.module(), load(tmp_path / "scan.pt2").module()):
        for b, t in ((1, 1), (3, 7), (2, 100)):
            x, h = flambeau.randn(b, t, 3), flambeau.randn(b, 4)
            grads = []
            for module in (net, made):
                module.zero_grad()
                last, ys = module(x, h)
                (last.sum() + ys.square().sum()).backward()
                grads.append([last, ys, *(p.grad for p in module.parameters())])
            for one, other in zip(*grads, strict=True):
                assert flambeau.allclose(one, other, rtol=1e-4, atol=1e-5)
