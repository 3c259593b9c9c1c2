"""Collectives between types: values and first and second derivatives of every move, against
differences of the program of all ranks in NumPy."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau.distributed import moves
from flambeau.distributed.groups import default_group, spawn_local
from flambeau.distributed.types import I, P, R, SpmdTypeError, Type, V

pytestmark = pytest.mark.timeout(60)
WAYS = [
    (verb, Type(src), Type(dst)) for verb, src, dst in moves._DUALS  # every way there is
]  # fmt: skip
#: By the number of ranks: the sizes of parts that are not alike.
UNEVEN = {2: (1, 5), 3: (2, 0, 4), 4: (1, 0, 2, 1), 7: (1, 0, 2, 0, 3, 1, 0)}
COLUMNS = 3


def apply(verb: str, src: Type, dst: Type, x: Any, sizes: tuple[int, ...] | None) -> Any:
    """A move of one rank."""
    group = default_group()
    if verb == "all_to_all":
        return moves.all_to_all(x, group, split_dim=0, concat_dim=1)
    how = {"src": src, "dst": dst}
    if sizes is not None:
        how["sizes"] = sizes
    return getattr(moves, verb)(x, group, **how)


def meant(verb: str, src: Type, dst: Type, xs: list[Any], sizes: tuple[int, ...]) -> list[Any]:
    """What every rank has after a move, in NumPy."""
    count = len(xs)
    ends = np.cumsum((0, *sizes))
    if verb == "all_reduce":
        return [sum(xs)] * count
    if verb == "all_gather":
        return [np.concatenate(xs)] * count
    if verb == "reduce_scatter":
        return [sum(xs)[a:b] for a, b in itertools.pairwise(ends)]
    if verb == "all_to_all":
        parts = [np.split(x, count) for x in xs]
        return [np.concatenate([p[r] for p in parts], 1) for r in range(count)]
    if verb == "reinterpret" or (src, dst) == (I, R):
        return xs
    if dst == V:
        return [x[a:b] for x, a, b in zip(xs, ends, ends[1:], strict=False)]
    if src == V:
        whole = [np.zeros((ends[-1], *xs[0].shape[1:])) for _ in xs]
        for w, x, a, b in zip(whole, xs, ends, ends[1:], strict=False):
            w[a:b] = x
        return whole
    return [xs[0], *(np.zeros_like(x) for x in xs[1:])]


def weights(dst: Type, rank: int, shape: tuple[int, ...]) -> np.ndarray:
    """The ranks' own where they do different work, one's where they do the same."""
    seed = 100 + (rank if dst in (R, V) else 0)
    return np.random.default_rng(seed).uniform(0.5, 1.5, shape)


def total(dst: Type, ys: list[Any]) -> float:
    """The loss of all ranks: the sum of theirs, or the one that they share."""
    if dst == P:
        return float((weights(P, 0, ys[0].shape) * sum(ys)).sum())
    each = [float((weights(dst, r, y.shape) * y**3).sum()) for r, y in enumerate(ys)]
    return each[0] if dst == I else sum(each)


def leaves(src: Type, count: int, sizes: tuple[int, ...], verb: str) -> list[np.ndarray]:
    """Each rank's value of the leaf."""
    made = []
    for rank in range(count):
        rng = np.random.default_rng(rank if src in (V, P) else 0)
        parts = src == V and verb in ("all_gather", "convert")
        made.append(rng.uniform(-1, 1, (sizes[rank] if parts else sum(sizes), COLUMNS)))
    return made


def slopes(f: Callable[[list[Any]], float], src: Type, xs: list[Any]) -> list[np.ndarray]:
    """What each rank's gradient must be, or for R what they must add up to, by differences."""
    found = []
    for rank, x in enumerate(xs):
        g = np.zeros_like(x)
        for at in np.ndindex(x.shape):
            moved = []
            for sign in (1, -1):
                ys = [y.copy() for y in xs]
                for other in range(len(xs)):
                    if other == rank or src in (R, I):
                        ys[other][at] += sign * 1e-4
                moved.append(f(ys))
            g[at] = (moved[0] - moved[1]) / 2e-4
        found.append(g)
    return found


def loss_of(dst: Type, y: Any, rank: int) -> Any:
    w = flambeau.tensor(weights(dst, rank, tuple(y.shape)))
    return (w * y).sum() if dst == P else (w * y**3).sum()


@pytest.mark.parametrize("count", UNEVEN)
@pytest.mark.parametrize("even", [True, False])
@pytest.mark.parametrize(("verb", "src", "dst"), WAYS)
def test_derivatives(verb: str, src: Type, dst: Type, even: bool, count: int) -> None:
    uneven = UNEVEN[count]
    sizes = (sum(uneven) // count,) * count if even else uneven
    given = None if even or verb in ("all_reduce", "reinterpret", "all_to_all") else sizes
    if (src, dst) in ((I, R), (R, P)):
        given = None
    xs = leaves(src, count, sizes, verb)
    tangents = [np.random.default_rng((9, r if src in (V, P) else 0)).uniform(-1, 1, x.shape)
                for r, x in enumerate(xs)]  # fmt: skip

    def run(rank: int) -> Any:
        x = flambeau.tensor(xs[rank], requires_grad=True)
        y = apply(verb, src, dst, x, given)
        (g,) = flambeau.autograd.grad(loss_of(dst, y, rank), x, create_graph=True)
        v = flambeau.tensor(tangents[rank] if src == V else tangents[0])
        if src == P:  # its gradient is Replicated: one rank's counts
            second = (v * moves.convert(g, default_group(), src=R, dst=P)).sum()
        else:
            second = (v * g).sum()
        h = None
        if second.requires_grad:
            (h,) = flambeau.autograd.grad(second, x, allow_unused=True)
        return y.tolist(), g.tolist(), None if h is None else h.tolist()

    def f(ys: list[Any]) -> float:
        return total(dst, meant(verb, src, dst, ys, sizes))

    def along(ys: list[Any]) -> float:
        ends = []
        for sign in (1, -1):
            moved = []
            for r, y in enumerate(ys):
                t = tangents[r] if src == V else tangents[0]
                moved.append(y + sign * 1e-4 * t if src != P or r == 0 else y)
            ends.append(f(moved))
        return (ends[0] - ends[1]) / 2e-4

    found = spawn_local(count, run, timeout=30)
    for rank, want in enumerate(meant(verb, src, dst, xs, sizes)):
        np.testing.assert_allclose(np.reshape(found[rank][0], want.shape), want, atol=1e-12)
    for order, function, near in ((1, f, 1e-6), (2, along, 1e-4)):
        got = [r[order] for r in found]
        want = slopes(function, src, xs)
        if got[0] is None:
            assert all(np.abs(w).max(initial=0) < near for w in want)
            continue
        arrays = [np.reshape(g, w.shape) for g, w in zip(got, want, strict=True)]
        if src == R:  # the ranks' gradients are terms
            np.testing.assert_allclose(sum(arrays), want[0], atol=near)
        else:
            for a, w in zip(arrays, want, strict=True):
                np.testing.assert_allclose(a, w, atol=near)


def test_what_is_no_way_is_refused() -> None:
    def run(rank: int) -> None:
        with pytest.raises(SpmdTypeError, match="all_gather goes Varying -> Replicated"):
            moves.all_gather(flambeau.ones(2), default_group(), src=P, dst=R)
        with pytest.raises(ValueError, match="equal parts"):
            moves.all_to_all(flambeau.ones(3), default_group(), split_dim=0, concat_dim=0)

    spawn_local(2, run)


def test_forward_mode_and_batches() -> None:
    """Tangents and the examples of a batch move as their primals do."""

    def run(rank: int) -> Any:
        group = default_group()
        x = flambeau.arange(3.0, dtype=flambeau.float64) + rank

        def f(t: Any) -> Any:
            return moves.all_reduce(t * t, group, dst=R)

        _, tangent = flambeau.func.jvp(f, (x,), (flambeau.ones_like(x),))
        batch = flambeau.func.vmap(f)(flambeau.stack([x, 2 * x]))
        return tangent.tolist(), batch.tolist()

    for tangent, batch in spawn_local(2, run):
        assert tangent == [2, 6, 10]
        assert batch == [[1, 5, 13], [4, 20, 52]]
