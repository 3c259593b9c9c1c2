"""Rules that are recorded as one node (Note [Kept rules]): gradients as those of the rule called,
one node each, in every combination of arguments that need a gradient."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flambeau
import flambeau.nn.functional as F
from flambeau import record
from flambeau.autograd import repeat
from flambeau.ir.graph import Node, reachable
from flambeau.tensor import Tensor


def _leaf(values: np.ndarray[Any, Any], needs: bool = True) -> Tensor:
    return flambeau.tensor(values.astype(np.float64), requires_grad=needs)


def _below(t: Tensor) -> list[Node]:
    return [n for n in reachable([t._cell.node]) if n.buffer is None]


def _entries(t: Tensor) -> list[Any]:
    """The tape's entries from a tensor on."""
    found, waiting = [], [t.grad_fn]
    while waiting:
        entry = waiting.pop()
        if entry is not None and hasattr(entry, "op"):
            found.append(entry)
            waiting += [edge[0] for edge in entry.edges if edge is not None]
    return found


CASES: dict[str, tuple[Callable[..., Tensor], list[tuple[int, ...]]]] = {
    "linear": (lambda x, w, b: F.linear(x, w, b), [(5, 3), (4, 3), (4,)]),
    "linear of stacked rows": (lambda x, w, b: F.linear(x, w, b), [(2, 5, 3), (4, 3), (4,)]),
    "linear without bias": (lambda x, w: F.linear(x, w), [(5, 3), (4, 3)]),
    "layer_norm": (lambda x, w, b: F.layer_norm(x, (3,), w, b), [(5, 3), (3,), (3,)]),
    "rms_norm": (lambda x, w: F.rms_norm(x, (3,), w), [(5, 3), (3,)]),
    "group_norm": (lambda x, w, b: F.group_norm(x, 2, w, b), [(3, 4, 5), (4,), (4,)]),
    "batch_norm": (
        lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True),
        [(3, 4, 5), (4,), (4,)],
    ),
    "gelu": (F.gelu, [(3, 4)]),
    "silu": (F.silu, [()]),
    "softmax": (lambda x: F.softmax(x, -1), [(3, 4)]),
    "log_softmax": (lambda x: F.log_softmax(x, 0), [(3, 4)]),
    "cross_entropy": (lambda x: F.cross_entropy(x, flambeau.tensor([1, 0, 3])), [(3, 4)]),
}


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_those_of_the_rule_called(
    name: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kept rule gives what the function that it is made of gives when it is called, and a pass
    that can be differentiated again gives the same."""
    call, shapes = CASES[name]
    arrays = [rng.standard_normal(s) for s in shapes]
    for needs in itertools.product((False, True), repeat=len(shapes)):
        if not any(needs):
            continue
        leaves = [_leaf(a, n) for a, n in zip(arrays, needs, strict=True)]
        wanted = [x for x, n in zip(leaves, needs, strict=True) if n]
        out = call(*leaves)
        weights = flambeau.tensor(rng.standard_normal(out.shape))
        kept = flambeau.autograd.grad((out * weights).sum(), wanted, retain_graph=True)
        again = flambeau.autograd.grad((out * weights).sum(), wanted, create_graph=True)
        with monkeypatch.context() as patch:
            for op in {e.op for e in _entries(out) if hasattr(e.op.vjp, "__wrapped__")}:
                patch.setattr(op, "vjp", op.vjp.__wrapped__)
            called = flambeau.autograd.grad((out * weights).sum(), wanted)
            repeat.forget()
        for a, b, c in zip(called, kept, again, strict=True):
            assert not b.requires_grad
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-12, atol=1e-14)
            np.testing.assert_allclose(a.numpy(), c.detach().numpy(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", CASES)
def test_second_gradients_are_those_of_the_rule_called(
    name: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rule on the tape is one entry, whose own rule is derived; called, its rows are entries."""
    call, shapes = CASES[name]
    arrays = [rng.standard_normal(s) for s in shapes]
    weights = flambeau.tensor(rng.standard_normal(call(*map(_leaf, arrays)).shape))

    def second(wanted: list[Tensor]) -> tuple[Any, ...]:
        out = call(*wanted)
        first = flambeau.autograd.grad((out * weights).sum(), wanted, create_graph=True)
        total = flambeau.add(out.sin().sum(), sum((g * g.sin()).sum() for g in first))
        return flambeau.autograd.grad(total, wanted)

    kept = second([_leaf(a) for a in arrays])
    leaves = [_leaf(a) for a in arrays]
    for op in {e.op for e in _entries(call(*leaves)) if hasattr(e.op.vjp, "__wrapped__")}:
        monkeypatch.setattr(op, "vjp", op.vjp.__wrapped__)
    called = second(leaves)
    repeat.forget()
    for a, b in zip(called, kept, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-11, atol=1e-13)


def test_second_gradients_of_complex_rules(rng: np.random.Generator) -> None:
    """Along any direction, the gradient changes as its derivative says, by differences."""
    arrays = [rng.standard_normal(s) + 1j * rng.standard_normal(s) for s in ((5, 3), (4, 3), (4,))]
    weights, *along = (
        flambeau.tensor(rng.standard_normal(s) + 1j * rng.standard_normal(s))
        for s in ((5, 4), (5, 3), (4, 3), (4,))
    )

    def slope(leaves: list[Tensor]) -> Tensor:
        """How the gradient's part along the directions changes is what is differentiated."""
        out = F.linear(*leaves)
        first = flambeau.autograd.grad((out * weights * out).real.sum(), leaves, create_graph=True)
        return flambeau.stack([(g * v * g).real.sum() for g, v in zip(first, along)]).sum()

    leaves = [flambeau.tensor(a, requires_grad=True) for a in arrays]
    second = flambeau.autograd.grad(slope(leaves), leaves)
    step = 1e-6
    for k, (a, g) in enumerate(zip(arrays, second, strict=True)):
        for direction in (1.0, 1j):
            ends = []
            for sign in (step, -step):
                moved = list(arrays)
                moved[k] = a + sign * direction
                ends.append(slope([flambeau.tensor(x, requires_grad=True) for x in moved]).item())
            wanted = (ends[0] - ends[1]) / (2 * step)
            found = (g.numpy() * np.conj(direction)).real.sum()
            np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_one_node_a_rule(rng: np.random.Generator) -> None:
    """What a linear layer's backward pass records is one node and its results."""
    x, w, b = (_leaf(rng.standard_normal(s)) for s in ((5, 3), (4, 3), (4,)))
    out = F.linear(x, w, b)
    g = flambeau.ones(5, 4, dtype=flambeau.float64)
    record.flush()
    g_x, g_w, g_b = flambeau.autograd.grad(out, (x, w, b), g)
    made = {n for t in (g_x, g_w, g_b) for n in _below(t)}
    names = sorted(n.op.name for n in made)
    assert names == ["linear_vjp", "pick", "pick", "pick"]
    np.testing.assert_allclose(g_x.numpy(), np.ones((5, 4)) @ w.detach().numpy())
    np.testing.assert_allclose(g_w.numpy(), np.ones((5, 4)).T @ x.detach().numpy())
    np.testing.assert_allclose(g_b.numpy(), np.full(4, 5.0))


def test_what_is_not_wanted_is_not_computed(rng: np.random.Generator) -> None:
    """A result of the node that nothing holds costs nothing when it runs."""
    x, w = _leaf(rng.standard_normal((5, 3))), _leaf(rng.standard_normal((4, 3)))
    g = flambeau.autograd.grad(F.linear(x, w).sum(), (x, w))
    g_w = g[1]
    del g
    program = flambeau.explain(lambda: g_w)
    assert str(program).count("matmul") <= 1
    np.testing.assert_allclose(g_w.numpy(), np.tile(x.detach().numpy().sum(0), (4, 1)))


def test_sizes_differ_and_nothing_is_stale(rng: np.random.Generator) -> None:
    """Layouts are told apart by shape, dtype and what needs a gradient."""
    w = rng.standard_normal((4, 3))
    for rows, dtype in ((2, np.float32), (7, np.float32), (2, np.float64), (0, np.float64)):
        x = flambeau.tensor(np.ones((rows, 3), dtype), requires_grad=True)
        out = F.linear(x, flambeau.tensor(w.astype(dtype)))
        out.sum().backward()
        assert x.grad is not None
        assert x.grad.dtype is x.dtype
        np.testing.assert_allclose(
            x.grad.numpy(), np.tile(w.sum(0), (rows, 1)).astype(dtype), rtol=1e-5
        )
