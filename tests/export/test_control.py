"""Programs with graphs inside: branches, loops of unknown length, scans; run, saved, as ONNX."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau import nn
from flambeau.control import associative_scan, cond, scan, while_loop
from flambeau.control import map as each
from flambeau.export import Dim, ExportError, export, load, onnx, save
from flambeau.func import grad, vmap

from . import runtime


class Branch(nn.Module):
    """One of two layers, by the sign of a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x: Any) -> Any:
        return cond(
            x.sum() > 0,
            lambda x: {"y": self.one(x).tanh(), "x": x},
            lambda x: {"y": self.other(x) * x.log().mean().exp(), "x": x * 2},
            (x,),
        )


class Nested(nn.Module):
    """Branches inside steps of a scan, inside a branch."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(flambeau.linspace(-1, 1, 4))

    def forward(self, x: Any) -> Any:
        def step(c: Any, v: Any) -> Any:
            found = cond(c.sum() > 0, lambda: c * self.w + v, lambda: v * self.w - c)
            return found, found * 2

        def steps() -> Any:
            return scan(step, flambeau.zeros_like(x[:, 0]), x, dim=1)

        return cond(x[0, 0, 0] > -9, steps, lambda: (x[:, 0], x.transpose(0, 1) * self.w))


class Running(nn.Module):
    """Linear recurrences as an associative scan, whichever way."""

    def __init__(self, mode: str = "pointwise") -> None:
        super().__init__()
        self.mode = mode
        self.w = nn.Parameter(flambeau.linspace(-1, 1, 4))

    def forward(self, x: Any) -> Any:
        def combine(a: Any, b: Any) -> Any:
            return a[0] * b[0], a[1] * b[0] + b[1]

        given = (x.sigmoid() * self.w, x)
        one = associative_scan(combine, given, 1, combine_mode=self.mode)[1]
        return one, associative_scan(combine, given, 1, reverse=True, combine_mode=self.mode)[1]


class Doubling(nn.Module):
    """Steps until a norm is large."""

    def forward(self, x: Any) -> Any:
        def more(n: Any, y: Any, k: Any) -> Any:
            return (y.abs().sum() < 1000) & (n < 50)

        return while_loop(more, lambda n, y, k: (n + 1, k.flip(0), y * 2 + x), (0, x, x.flip(0)))


class Each(nn.Module):
    """A branch for every example."""

    def forward(self, x: Any) -> Any:
        return each(lambda r: cond(r.sum() > 0, lambda: r * 2, lambda: (-r).log1p().abs()), x)


def leaves(found: Any) -> list[np.ndarray]:
    """The arrays of a result."""
    flat = flambeau.pytree.tree_leaves(found)
    return [np.asarray(t.detach().numpy() if hasattr(t, "detach") else t) for t in flat]


CASES: list[tuple[Any, Any]] = [
    (Branch, [(3, 4), (1, 4)]),
    (Nested, [(3, 5, 4), (1, 1, 4), (2, 9, 4)]),
    (Running, [(3, 5, 4), (2, 1, 4), (1, 8, 4)]),
    (lambda: Running("generic"), [(3, 5, 4), (2, 7, 4)]),
    (Doubling, [(3, 4), (1, 4)]),
    (Each, [(5, 4), (1, 4)]),
]


@pytest.mark.parametrize("number", range(len(CASES)))
def test_a_program_is_its_module(number: int, tmp_path: Path, rng: np.random.Generator) -> None:
    make, shapes = CASES[number]
    net = make()
    sizes = {k: Dim(n) for k, n in enumerate(("n", "t")[: len(shapes[0]) - 1])}
    program = export(net, (flambeau.ones(*shapes[0]),), dynamic_shapes=(sizes,))
    assert ("def body0():" in program.graph) == (make is not Each)
    save(program, tmp_path / "net.pt2")
    again = load(tmp_path / "net.pt2")
    assert again.graph == program.graph
    model = onnx.export(program)
    run = runtime.session(model.model)
    plain = program.run_decompositions()
    for shape in shapes:
        for sign in (1, -1):
            x = sign * np.abs(rng.normal(size=shape)).astype(np.float32) / 8
            given = flambeau.from_numpy(x)
            wanted = leaves(net(given))
            for module in (program.module(), again.module(), plain.module()):
                for a, b in zip(leaves(module(given)), wanted, strict=True):
                    np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)
            for a, b in zip(run.run(None, {run.get_inputs()[0].name: x}), wanted, strict=True):
                np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("make", [Branch, Nested, Running])
def test_gradients_are_those_of_the_module(make: Any, rng: np.random.Generator) -> None:
    net = make()
    shape = (3, 4) if make is Branch else (2, 5, 4)
    module = export(net, (flambeau.ones(*shape),)).module()
    for sign in (1, -1):
        x = sign * np.abs(rng.normal(size=shape)).astype(np.float32) / 8
        found = []
        for each_net in (net, module):
            given = flambeau.from_numpy(x.copy()).requires_grad_()
            each_net.zero_grad()
            out = flambeau.pytree.tree_leaves(each_net(given))
            sum((t * t).sum() for t in out).backward()
            both = given, *each_net.parameters()
            grads = [flambeau.zeros_like(p) if p.grad is None else p.grad for p in both]
            found.append([g.numpy() for g in grads])
        for a, b in zip(*found, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_the_other_branch_has_no_part_in_a_gradient() -> None:
    class Root(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.x = nn.Parameter(flambeau.tensor([0.0, -1.0]))

        def forward(self, y: Any) -> Any:
            return cond(y.sum() > 0, lambda: self.x.sqrt(), lambda: self.x * 0)

    module = export(Root(), (flambeau.ones(2),)).module()
    module(flambeau.zeros(2)).sum().backward()
    assert module.x.grad.tolist() == [0.0, 0.0]  # of the root it would be inf and nan


def test_second_gradients_of_a_branch_in_a_step() -> None:
    def total(x: Any) -> Any:
        def step(c: Any, v: Any) -> Any:
            return cond(c > 1, lambda: c * v * v, lambda: c + v.exp()), c

        last, all_ = scan(step, flambeau.zeros_like(x[0]), x)
        return last + (all_ * all_).sum()

    values = flambeau.tensor([0.3, 0.9, 1.1, 0.7], dtype=flambeau.float64, requires_grad=True)
    assert flambeau.autograd.gradcheck(total, (values,))
    assert flambeau.autograd.gradgradcheck(total, (values,))


def test_examples_of_a_batch_take_their_own_branches() -> None:
    def one(x: Any) -> Any:
        return cond(x > 0, lambda: x.sqrt() * x, lambda: x * x)

    x = flambeau.tensor([4.0, -3.0, 0.25])
    assert vmap(one)(x).tolist() == [8.0, 9.0, 0.125]
    np.testing.assert_allclose(vmap(grad(one))(x).numpy(), [3.0, -6.0, 0.75], rtol=1e-6)


def test_examples_of_a_batch_take_their_own_number_of_steps() -> None:
    def one(x: Any) -> Any:
        return while_loop(lambda n, y: y < 9, lambda n, y: (n + 1, y * x), (0, x))

    count, last = vmap(one)(flambeau.tensor([3.0, 2.0, 10.0]))
    assert count.tolist() == [1, 3, 0]
    assert last.tolist() == [9.0, 16.0, 10.0]


def test_one_branch_is_run() -> None:
    table = flambeau.arange(3)

    class Lookup(nn.Module):
        def forward(self, k: Any) -> Any:
            return cond(k[0] < 3, lambda: table[k], lambda: k)

    module = export(Lookup(), (flambeau.zeros(1, dtype=flambeau.int64),)).module()
    assert module(flambeau.tensor([2])).tolist() == [2]
    assert module(flambeau.tensor([7])).tolist() == [7]  # no such place in the table
    with pytest.raises(IndexError):
        module(flambeau.tensor([-7])).tolist()


def test_library_calls_in_graphs(rng: np.random.Generator) -> None:
    class Solve(nn.Module):
        def forward(self, a: Any) -> Any:
            n, x = while_loop(
                lambda n, x: n < a[0, 0].abs() * 4, lambda n, x: (n + 1, x @ a.inverse()), (0, a)
            )
            return n, cond(a.sum() > 0, lambda: flambeau.linalg.inv(x), lambda: x)

    net = Solve()
    module = export(net, (flambeau.eye(2),)).module()
    for sign in (1, -1):
        a = flambeau.from_numpy(sign * (np.eye(2) + 0.1 * rng.random((2, 2))).astype(np.float32))
        for got, wanted in zip(leaves(module(a)), leaves(net(a)), strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-4)


def test_the_interpreter_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Doubling()
    x = flambeau.full((2, 3), 0.5)
    wanted = leaves(net(x))
    monkeypatch.setenv("FLAMBEAU_TARGET", "interpret")
    for a, b in zip(leaves(export(net, (x,)).module()(x)), wanted, strict=True):
        np.testing.assert_array_equal(a, b)


class Refused(nn.Module):
    """A function of one tensor."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Any) -> Any:
        return self.function(x)


def _loop(body: Any) -> Any:
    return lambda x: while_loop(lambda y: y.sum() < 9, body, (x,))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: cond(x.sum() > 0, lambda: x.add_(1), lambda: x), "writes to"),
        (lambda x: cond(x.sum() > 0, lambda: x[:1], lambda: x), "same shapes"),
        (lambda x: cond(x.sum() > 0, lambda: x if x[0] > 0 else -x, lambda: x), "value"),
        (_loop(lambda y: (y[:2],)), "same shapes"),
        (_loop(lambda y: (y + flambeau.rand(3),)), "draws random numbers"),
        (_loop(lambda y: (y, y)), "body_fn gives"),
    ],
)
def test_what_graphs_cannot_do(function: Any, message: str) -> None:
    with pytest.raises((ExportError, RuntimeError), match=message):
        export(Refused(function), (flambeau.ones(3),)).module()(flambeau.ones(3))


def test_a_loop_of_unknown_length_has_no_gradient() -> None:
    w = nn.Parameter(flambeau.ones(3))
    net = Refused(_loop(lambda y: (y * 2 + w,)))
    net.w = w
    x, sink = flambeau.ones(3), io.BytesIO()
    program = export(net, (x,))
    save(program, sink)
    for each_form in (program, load(sink), onnx.load(onnx.export(net, (x,)).model)):
        (found,) = each_form.module()(x)
        assert found.tolist() == net(x)[0].tolist() == [3, 3, 3]
        with pytest.raises(RuntimeError, match="while_loop whose length depends on a value has no"):
            found.sum().backward()
