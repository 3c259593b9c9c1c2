"""Every collective and its derivatives of first and second order, beside differences of the whole
program of all ranks, simulated in NumPy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import flambeau
import flambeau.distributed as dist
from flambeau.distributed import functional as f
from flambeau.distributed.groups import PremulSum

pytestmark = pytest.mark.timeout(120)

Array = np.ndarray[Any, Any]


def uneven(size: int) -> list[int]:
    """Sizes by rank, one of them 0 where there are several."""
    return [(3 * r + 1) % 4 for r in range(size)]


def factor(rank: int) -> float:
    """What a rank's values are multiplied by in a premultiplied sum."""
    return 0.5 + rank


@dataclass
class Case:
    """A collective.

    Attributes:
        shape: (rank, ranks) -> of what a rank gives.
        call: (tensor, rank, ranks) -> what the rank gets.
        meaning: what every rank gives -> what every rank gets, in NumPy.
    """

    shape: Callable[[int, int], tuple[int, ...]]
    call: Callable[[Any, int, int], Any]
    meaning: Callable[[list[Array]], list[Array]]


REDUCTIONS: dict[str, Callable[[list[Array]], Array]] = {
    "sum": lambda xs: np.sum(xs, 0),
    "avg": lambda xs: np.mean(xs, 0),
    "min": lambda xs: np.min(xs, 0),
    "max": lambda xs: np.max(xs, 0),
    "product": lambda xs: np.prod(xs, 0),
    "premul_sum": lambda xs: np.sum([factor(r) * x for r, x in enumerate(xs)], 0),
}


def op_of(name: str, rank: int) -> Any:
    return PremulSum(factor(rank)) if name == "premul_sum" else name


def cut(x: Array, sizes: Sequence[int], dim: int = 0) -> list[Array]:
    return np.split(x, np.cumsum(sizes)[:-1], dim)


def even(size: int) -> list[int]:
    return [2] * size


def table(size: int) -> list[list[int]]:
    """How much goes from rank (row) to rank (column)."""
    return [[(a + 2 * b) % 3 for b in range(size)] for a in range(size)]


def exchanged(xs: list[Array], counts: list[list[int]]) -> list[Array]:
    parts = [cut(x, row) for x, row in zip(xs, counts, strict=True)]
    return [np.concatenate([p[r] for p in parts]) for r in range(len(xs))]


def only(xs: list[Array], rank: int) -> list[Array]:
    """A value on one rank, zeros elsewhere."""
    return [x if r == rank else np.zeros_like(x) for r, x in enumerate(xs)]


def on_root(x: Array, size: int) -> list[Array]:
    return [x if r == 1 else x[:0] for r in range(size)]


def ring(x: Any, rank: int, size: int) -> Any:
    """What the rank before sends."""
    token = f.send(x, (rank + 1) % size)
    return f.recv(x, (rank - 1) % size) + token


def cases() -> dict[str, Case]:
    found: dict[str, Case] = {}
    for name, reduction in REDUCTIONS.items():

        def all_reduced(xs: list[Array], reduction: Any = reduction) -> list[Array]:
            return [reduction(xs)] * len(xs)

        def reduced(xs: list[Array], reduction: Any = reduction) -> list[Array]:
            return only([reduction(xs)] * len(xs), 1)

        found[f"all_reduce {name}"] = Case(
            lambda r, n: (2, 3),
            lambda x, r, n, name=name: f.all_reduce(x, op_of(name, r)),
            all_reduced,
        )
        found[f"reduce {name}"] = Case(
            lambda r, n: (2,), lambda x, r, n, name=name: f.reduce(x, op_of(name, r), 1), reduced
        )
        for how, sizes, dim in (("even", even, 1), ("uneven", uneven, 0)):

            def scattered(
                xs: list[Array], reduction: Any = reduction, sizes: Any = sizes, dim: int = dim
            ) -> list[Array]:
                return cut(reduction(xs), sizes(len(xs)), dim)

            found[f"reduce_scatter {name} {how}"] = Case(
                lambda r, n, sizes=sizes, dim=dim: (sum(sizes(n)), 2)[:: -1 if dim else 1],
                lambda x, r, n, name=name, sizes=sizes, dim=dim: f.reduce_scatter_tensor(
                    x, op_of(name, r), dim, sizes=None if dim else sizes(n)
                ),
                scattered,
            )
    for how, sizes, dim in (("even", even, 1), ("uneven", uneven, 0)):
        turn = -1 if dim else 1
        found[f"all_gather {how}"] = Case(
            lambda r, n, sizes=sizes, turn=turn: (sizes(n)[r], 2)[::turn],
            lambda x, r, n, sizes=sizes, dim=dim: f.all_gather_tensor(
                x, dim, sizes=None if dim else sizes(n)
            ),
            lambda xs, dim=dim: [np.concatenate(xs, dim)] * len(xs),
        )
        found[f"gather {how}"] = Case(
            lambda r, n, sizes=sizes: (sizes(n)[r],),
            lambda x, r, n, sizes=sizes: f.gather(x, 0, 1, sizes=sizes(n)),
            lambda xs: on_root(np.concatenate(xs), len(xs)),
        )
        found[f"scatter {how}"] = Case(
            lambda r, n, sizes=sizes: (sum(sizes(n)) if r == 1 else 3, 2),
            lambda x, r, n, sizes=sizes: f.scatter(x, 0, 1, sizes=sizes(n)),
            lambda xs, sizes=sizes: cut(xs[1], sizes(len(xs))),
        )
    found["all_to_all even"] = Case(
        lambda r, n: (2 * n, 2),
        lambda x, r, n: f.all_to_all_single(x, None, None),
        lambda xs: exchanged(xs, [even(len(xs))] * len(xs)),
    )
    found["all_to_all uneven"] = Case(
        lambda r, n: (sum(table(n)[r]), 2),
        lambda x, r, n: f.all_to_all_single(x, [row[r] for row in table(n)], table(n)[r]),
        lambda xs: exchanged(xs, table(len(xs))),
    )
    found["broadcast"] = Case(
        lambda r, n: (3,), lambda x, r, n: f.broadcast(x, 1), lambda xs: [xs[1]] * len(xs)
    )
    found["permute"] = Case(
        lambda r, n: (2, 2),
        lambda x, r, n: f.permute_tensor(x, [(k + 1) % n for k in range(n)]),
        lambda xs: [xs[r - 1] for r in range(len(xs))],
    )
    found["ppermute"] = Case(
        lambda r, n: (3,),
        lambda x, r, n: f.ppermute(x, [(0, 1)]),
        lambda xs: only([xs[0]] * len(xs), 1),
    )
    found["send and recv"] = Case(
        lambda r, n: (2,), ring, lambda xs: [xs[r - 1] for r in range(len(xs))]
    )
    return found


CASES = cases()


def loss_of(y: Any, w: Any) -> Any:
    """A rank's loss of what it got, of third degree."""
    return (w * (y + y * y + y * y * y / 3)).sum()


def values(shapes: list[tuple[int, ...]], rng: np.random.Generator) -> list[Array]:
    """For each shape numbers from 0.375 to 1.5. All are different, so that a step changes no
    extreme, and bfloat16 has them."""
    every = (np.arange(0x3EC0, 0x3FC0, dtype=np.uint32) << 16).view(np.float32).astype(np.float64)
    counts = [int(np.prod(shape)) for shape in shapes]
    parts = cut(rng.choice(every, sum(counts), replace=False), counts)
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


class Whole:
    """The program of all ranks in NumPy: all their values, and directions to differentiate in.

    Args:
        imaginary: whether values are complex; the loss is the real part then.
    """

    def __init__(
        self, case: Case, size: int, rng: np.random.Generator, imaginary: bool = False
    ) -> None:
        def drawn(draw: Callable[[list[tuple[int, ...]]], list[Array]], like: Any) -> list[Array]:
            shapes = [np.shape(x) for x in like]
            real = draw(shapes)
            if not imaginary:
                return real
            return [r + 1j * i for r, i in zip(real, draw(shapes), strict=True)]

        def direction(shapes: list[tuple[int, ...]]) -> list[Array]:
            return [rng.uniform(-1, 1, shape) for shape in shapes]

        self.case = case
        self.xs = drawn(
            lambda shapes: values(shapes, rng), [np.empty(case.shape(r, size)) for r in range(size)]
        )
        self.d, self.v = drawn(direction, self.xs), drawn(direction, self.xs)
        self.ys = case.meaning(self.xs)
        self.ws = drawn(direction, self.ys)

    def loss(self, a: float, b: float) -> float:
        """At xs + a d + b v."""
        at = [x + a * d + b * v for x, d, v in zip(self.xs, self.d, self.v, strict=True)]
        return float(
            sum(loss_of(y, w).real for y, w in zip(self.case.meaning(at), self.ws, strict=True))
        )

    def first(self, h: float = 1e-4) -> float:
        """The derivative along d."""
        return (self.loss(h, 0) - self.loss(-h, 0)) / (2 * h)

    def second(self, h: float = 5e-4) -> float:
        """The derivative along d of that along v."""
        plus = self.loss(h, h) - self.loss(h, -h)
        return (plus - self.loss(-h, h) + self.loss(-h, -h)) / (4 * h * h)


#: The smallest difference between numbers of a type around 1, of those it computes with.
PRECISIONS = {
    "float64": 2.0**-52,
    "complex128": 2.0**-52,
    "float32": 2.0**-23,
    "complex64": 2.0**-23,
    "float16": 2.0**-10,
    "bfloat16": 2.0**-7,
}


def rank_program(
    rank: int, wholes: dict[str, Whole], size: int
) -> dict[str, tuple[Array, Array, Array]]:
    """By type: what this rank gets, the terms of <its gradient, d>, and those of <its gradient of
    <gradient, v>, d>."""
    found = {}
    for name, whole in wholes.items():
        wide = flambeau.promote_types(getattr(flambeau, name), flambeau.float32)

        def tensor(array: Array, name: str = name, **how: Any) -> Any:
            return flambeau.tensor(array, dtype=getattr(flambeau, name), **how)

        x = tensor(whole.xs[rank], requires_grad=True)
        y = whole.case.call(x, rank, size)
        loss = loss_of(y.to(wide), tensor(whole.ws[rank]).to(wide)).real
        (g,) = flambeau.autograd.grad(loss, x, create_graph=True)
        along = (g.to(wide).conj() * tensor(whole.v[rank]).to(wide)).real.sum()
        (h,) = flambeau.autograd.grad(along, x)
        found[name] = y.detach(), g.detach(), h
    widest = {n: flambeau.promote_types(getattr(flambeau, n), flambeau.float64) for n in found}
    arrays = {n: [t.to(widest[n]).numpy().copy() for t in ts] for n, ts in found.items()}
    return {
        name: (y, (g.conj() * wholes[name].d[rank]).real, (h.conj() * wholes[name].d[rank]).real)
        for name, (y, g, h) in arrays.items()
    }


def compare(found: list[dict[str, Any]], wholes: dict[str, Whole]) -> None:
    """That what all ranks found (`rank_program`) is what their program means."""
    for name, whole in wholes.items():
        precision, size = PRECISIONS[name], len(found)
        ys, firsts, seconds = zip(*(one[name] for one in found), strict=True)
        for y, expected in zip(ys, whole.ys, strict=True):
            np.testing.assert_allclose(y, expected, rtol=4 * size * precision, err_msg=name)
        for terms, wanted, near in ((firsts, whole.first(), 1e-6), (seconds, whole.second(), 1e-4)):
            scale = sum(np.abs(t).sum() for t in terms)
            atol = near + (near + 4 * precision) * scale
            got = sum(t.sum() for t in terms)
            np.testing.assert_allclose(got, wanted, rtol=0, atol=atol, err_msg=name)


def wholes_of(name: str, size: int, rng: np.random.Generator) -> dict[str, Whole]:
    """A collective's program by type; complex numbers have no extremes."""
    kinds = {False: Whole(CASES[name], size, rng)}
    if not {"min", "max"} & set(name.split()):
        kinds[True] = Whole(CASES[name], size, rng, imaginary=True)
    imaginary = {dtype: dtype.startswith("complex") for dtype in PRECISIONS}
    return {dtype: kinds[kind] for dtype, kind in imaginary.items() if kind in kinds}


@pytest.mark.parametrize("size", [2, 3, 4, 7])
@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients(name: str, size: int, rng: np.random.Generator) -> None:
    wholes = {"float64": Whole(CASES[name], size, rng)}
    compare(dist.spawn_local(size, rank_program, wholes, size), wholes)


@pytest.mark.parametrize("size", [2, 3, 4, 7])
@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_of_every_type(
    name: str, size: int, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without compiling; some of them are compiled in `programs/collectives.py`, on MPI."""
    monkeypatch.setenv("FLAMBEAU_TARGET", "interpret")
    wholes = wholes_of(name, size, rng)
    compare(dist.spawn_local(size, rank_program, wholes, size), wholes)


@pytest.mark.parametrize("op", ["min", "max"])
def test_complex_numbers_have_no_extremes(op: str) -> None:
    def program(rank: int) -> None:
        x = flambeau.ones(2, dtype=flambeau.complex64)
        for call in (
            lambda: f.all_reduce(x, op),
            lambda: f.reduce(x, op, 0),
            lambda: f.reduce_scatter_tensor(x, op, 0),
            lambda: dist.all_reduce(x, getattr(dist.ReduceOp, op.upper())),
        ):
            with pytest.raises(ValueError, match=rf"{op.upper()} does not support complex"):
                call()

    dist.spawn_local(2, program)


def test_ties_share_the_gradient_of_an_extreme() -> None:
    def program(rank: int) -> Any:
        x = flambeau.tensor([2.0, float(rank), float("nan")], requires_grad=True)
        f.all_reduce(x, "max").sum().backward()
        y = flambeau.tensor([2.0] * 3, requires_grad=True)
        (f.reduce_scatter_tensor(y, "min", 0) * (rank + 1)).sum().backward()
        return x.grad.tolist(), y.grad.tolist()

    for rank, (x, y) in enumerate(dist.spawn_local(3, program)):
        np.testing.assert_allclose(x, [1, 3.0 if rank == 2 else 0, 1], rtol=1e-6)
        np.testing.assert_allclose(y, [1 / 3, 2 / 3, 1], rtol=1e-6)


@pytest.mark.parametrize("zeros", [(), (1,), (0, 2)])
def test_products_with_zeros(zeros: tuple[int, ...]) -> None:
    values = [0.0 if r in zeros else r + 2.0 for r in range(3)]

    def program(rank: int) -> Any:
        x = flambeau.tensor([values[rank]], dtype=flambeau.float64, requires_grad=True)
        (g,) = flambeau.autograd.grad(f.all_reduce(x, "product").sum(), x, create_graph=True)
        (h,) = flambeau.autograd.grad((g * (rank + 1)).sum(), x)
        return g.item(), h.item()

    found = dist.spawn_local(3, program)
    for rank in range(3):
        others = [v for r, v in enumerate(values) if r != rank]
        assert found[rank][0] == 3 * np.prod(others)
        # the derivative of sum_s (s + 1) 3 prod_{t != s} x_t by x_rank
        rest = [
            3 * (s + 1) * np.prod([values[t] for t in range(3) if t not in (s, rank)])
            for s in range(3)
            if s != rank
        ]
        assert found[rank][1] == pytest.approx(sum(rest))


@pytest.mark.parametrize("name", CASES)
def test_forward_mode(name: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLAMBEAU_TARGET", "interpret")
    every = wholes_of(name, 3, rng)
    wholes = [every[dtype] for dtype in ("float64", "complex128") if dtype in every]

    def program(rank: int) -> list[float]:
        def tangent(whole: Whole) -> Any:
            def step(x: Any) -> Any:
                y = whole.case.call(x, rank, 3)
                return loss_of(y, flambeau.tensor(whole.ws[rank])).real

            x, d = flambeau.tensor(whole.xs[rank]), flambeau.tensor(whole.d[rank])
            return flambeau.func.jvp(step, (x,), (d,))[1].item()

        return [tangent(whole) for whole in wholes]

    found = np.sum(dist.spawn_local(3, program), 0)
    np.testing.assert_allclose(found, [whole.first() for whole in wholes], atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_vmap_is_one_call_after_another(name: str, rng: np.random.Generator) -> None:
    case = CASES[name]
    wholes = [Whole(case, 3, rng) for _ in range(2)]

    def program(rank: int) -> Any:
        xs = flambeau.tensor(np.stack([w.xs[rank] for w in wholes]))
        return flambeau.func.vmap(lambda x: case.call(x, rank, 3))(xs).numpy().copy()

    for rank, found in enumerate(dist.spawn_local(3, program)):
        np.testing.assert_allclose(found, np.stack([w.ys[rank] for w in wholes]), rtol=1e-12)


def test_gradients_of_functions(rng: np.random.Generator) -> None:
    whole = Whole(CASES["all_to_all uneven"], 3, rng)

    def program(rank: int) -> Any:
        def step(x: Any) -> Any:
            return loss_of(whole.case.call(x, rank, 3), flambeau.tensor(whole.ws[rank]))

        return float(
            (
                flambeau.func.grad(step)(flambeau.tensor(whole.xs[rank])).numpy() * whole.d[rank]
            ).sum()
        )

    assert sum(dist.spawn_local(3, program)) == pytest.approx(whole.first(), rel=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int32", "bool", "complex64"])
def test_dtypes(dtype: str) -> None:
    def program(rank: int) -> Any:
        x = flambeau.tensor([1, rank % 2, 1]).to(getattr(flambeau, dtype))
        return f.all_reduce(x, "sum").tolist(), f.all_gather_tensor(x, 0).dtype.name

    for total, name in dist.spawn_local(3, program):
        assert total == ([True, True, True] if dtype == "bool" else [3, 1, 3])
        assert name == dtype


def test_what_is_refused() -> None:
    def program(rank: int) -> list[str]:
        x = flambeau.ones(3)
        told = []
        for wrong in (
            lambda: f.all_reduce(x, "mean"),
            lambda: f.all_reduce(x, "band"),
            lambda: f.reduce_scatter_tensor(x, "sum", 0),
            lambda: f.all_to_all_single(x, [1, 1], [1, 1]),
            lambda: f.all_gather_tensor(x, 0, sizes=[2, 2]),
            lambda: f.permute_tensor(x, [0, 0]),
            lambda: f.broadcast(x, 2),
        ):
            with pytest.raises((ValueError, RuntimeError)) as caught:
                wrong()
            told.append(str(caught.value))
        return told

    told = dist.spawn_local(2, program)[0]
    for text, expected in zip(
        told,
        ("'mean'", "BAND", "size 3", "are 2 in all", "size 3 here", "permutation", "rank 2"),
        strict=True,
    ):
        assert expected in text
