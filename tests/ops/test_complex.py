"""Complex numbers: values against NumPy, gradients against differences, pairs that alias."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flambeau


def draw(*shape: int, seed: int = 0) -> Any:
    random = np.random.default_rng(seed)
    return random.standard_normal(shape) + 1j * random.standard_normal(shape)


UNARY = "exp log sqrt sin cos tan sinh cosh tanh reciprocal square neg abs angle conj sgn".split()
REFERENCE = {"neg": np.negative, "abs": np.abs, "sgn": np.sign}


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
@pytest.mark.parametrize("name", UNARY)
def test_unary_rows_agree_with_numpy(name: str, dtype: str) -> None:
    x = draw(3, 4).astype(dtype)
    got = getattr(flambeau, name)(flambeau.tensor(x).t()).numpy()
    want = REFERENCE.get(name, getattr(np, name, None))(x.T)  # type: ignore[misc]
    assert got.dtype == want.dtype
    np.testing.assert_allclose(got, want, rtol=1e-5 if dtype == "complex64" else 1e-12)


Call = Callable[..., Any]
CALLS: dict[str, Call] = {
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / y,
    "power": lambda x, y: x**y,
    "matmul": lambda x, y: x @ y.mH,
    "conj": lambda x, y: x.conj() * y,
    "abs": lambda x, y: (x * y).abs(),
    "real": lambda x, y: (x * y).real,
    "imag": lambda x, y: (x / y).imag,
    "angle": lambda x, y: (x + y).angle(),
    "sgn": lambda x, y: x.sgn() * y,
    "numbers": lambda x, y: (2 - 1j) * x + y * 0.5,
    "reductions": lambda x, y: x.sum(0) * y.mean(1)[0] + x.prod() + y.cumsum(0)[-1],
    "pairs": lambda x, y: flambeau.view_as_complex(flambeau.view_as_real(x) * 2.0) * y,
    "movement": lambda x, y: flambeau.cat([x.flip(0), y.t().reshape(2, 3)])[1:, ::2],
    "variance": lambda x, y: x.var() + y.norm(),
    "writes": lambda x, y: x.clone().mul_(y).index_fill_(0, flambeau.tensor([0]), 2.0) * y,
    "promoted": lambda x, y: x * y.real + y,
}


@pytest.mark.parametrize("name", CALLS)
def test_gradients_agree_with_differences(name: str) -> None:
    """Each cotangent is d/d(real part) + i d/d(imaginary part) of a real loss."""
    given = [draw(2, 3, seed=1), draw(2, 3, seed=2)]
    weights: Any = None

    def loss(*arrays: Any, grad: bool = False) -> Any:
        nonlocal weights
        leaves = [flambeau.tensor(a, requires_grad=grad) for a in arrays]
        out = CALLS[name](*leaves)
        if weights is None:
            weights = flambeau.tensor(draw(*out.shape, seed=3))
        found = (out * weights).real.sum()
        return (found, leaves) if grad else found.item()

    total, leaves = loss(*given, grad=True)
    total.backward()
    step = 1e-6
    for k, leaf in enumerate(leaves):
        got = leaf.grad.numpy() if leaf.grad is not None else np.zeros_like(given[k])
        for place in np.ndindex(*given[k].shape):
            parts = []
            for direction in (1.0, 1j):
                moved = [[a.copy() for a in given] for _ in range(2)]
                moved[0][k][place] += step * direction
                moved[1][k][place] -= step * direction
                parts.append((loss(*moved[0]) - loss(*moved[1])) / (2 * step))
            assert got[place] == pytest.approx(complex(*parts), rel=1e-5, abs=1e-7)


def test_parts_are_views() -> None:
    z = flambeau.zeros(2, 2, dtype=flambeau.complex64)
    z.real[0] = 3.0
    z.imag.add_(1.0)
    z[1, 1] = 5j
    assert z.tolist() == [[3 + 1j, 3 + 1j], [1j, 5j]]
    assert flambeau.view_as_real(z).data_ptr() == z.data_ptr()
    pairs = flambeau.arange(4.0).reshape(2, 2)
    found = flambeau.view_as_complex(pairs)
    pairs[0, 0] = 9.0
    assert found.tolist() == [9 + 1j, 2 + 3j]


def test_what_has_no_meaning_is_refused() -> None:
    z = flambeau.tensor([1j, 2.0])
    for call in (lambda: z < z, lambda: z.clamp(0), z.floor, z.max, z.sort, lambda: z % 2):
        with pytest.raises(RuntimeError):
            call()
    with pytest.raises(RuntimeError, match="imag is not implemented"):
        _ = flambeau.ones(2).imag
    with pytest.raises(RuntimeError, match="can't be cast"):
        flambeau.ones(2).add_(z)


def test_parts_are_assigned() -> None:
    z = flambeau.zeros(2, 2, dtype=flambeau.complex64)
    z.real = 1
    z.imag = flambeau.tensor([2.0, 3.0])
    z[0].real = np.array([7.0, 8.0], np.float32)
    assert z.tolist() == [[7 + 2j, 8 + 3j], [1 + 2j, 1 + 3j]]
    x = flambeau.ones(2)
    x.real = 4
    assert x.tolist() == [4.0, 4.0]
    with pytest.raises(RuntimeError, match="imag is not implemented"):
        x.imag = 4


def test_an_assigned_part_has_its_gradient() -> None:
    w = flambeau.tensor([1.0, 2.0], requires_grad=True)
    v = flambeau.tensor([1j, 1.0], requires_grad=True)
    z = v * 2
    z.real = w * 3
    (z.abs() ** 2).sum().backward()
    assert w.grad.tolist() == [18.0, 36.0]  # d(9 w^2)/dw
    assert v.grad.tolist() == [8j, 0]  # of the imaginary part alone


def test_empty_and_scalar() -> None:
    assert (flambeau.zeros(0, 3, dtype=flambeau.complex64) * 2j).shape == (0, 3)
    assert (flambeau.tensor(2j) * flambeau.tensor(3.0)).item() == 6j
    assert str(flambeau.tensor([1 + 2j, 0.5])) == "tensor([1.0000+2.j, 0.5000+0.j])"


@pytest.mark.parametrize(("shape", "dim"), [((5,), 0), ((3, 4), 1), ((2, 9, 3), -2), ((), 0)])
def test_running_log_sum_exps(shape: tuple[int, ...], dim: int, rng: np.random.Generator) -> None:
    x = rng.normal(size=shape) + 1j * rng.normal(size=shape)
    t = flambeau.tensor(x, requires_grad=True)
    found = flambeau.logcumsumexp(t, dim)
    sums = np.cumsum(np.exp(x), dim) if shape else np.exp(x)
    np.testing.assert_allclose(np.exp(found.detach().numpy()), sums, rtol=1e-12)
    large = flambeau.logcumsumexp(t.detach() + 800, dim)  # exp(800) is infinite
    np.testing.assert_allclose(large.numpy() - 800, found.detach().numpy(), atol=1e-9)
    assert flambeau.autograd.gradcheck(lambda v: flambeau.logcumsumexp(v, dim), (t,))


def test_singular_values_of_complex_matrices_have_second_derivatives(
    rng: np.random.Generator,
) -> None:
    at, direction = rng.standard_normal((2, 4, 4)) + 1j * rng.standard_normal((2, 4, 4))
    weights = flambeau.tensor([1.0, 2.0, 3.0, 4.0], dtype=flambeau.float64)

    def slope(values: Any, again: bool) -> tuple[flambeau.Tensor, flambeau.Tensor]:
        a = flambeau.tensor(values, requires_grad=True)
        total = (flambeau.linalg.svdvals(a) * weights).sum()
        return a, flambeau.autograd.grad(total, a, create_graph=again)[0]

    a, first = slope(at, True)
    along = (first * flambeau.tensor(direction).conj()).real.sum()
    found = flambeau.autograd.grad(along, a)[0].numpy()
    step = 1e-5
    ends = [slope(at + s * direction, False)[1].numpy() for s in (step, -step)]
    np.testing.assert_allclose(found, (ends[0] - ends[1]) / (2 * step), rtol=1e-5, atol=1e-7)
