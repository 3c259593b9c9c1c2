"""Random variates that NumPy's generators draw: gamma and binomial, at a place of the stream."""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.ops.generator import Generator, default_generator
from flambeau.ops.rows import NAMES
from flambeau.ops.table import composite, emit, primitive
from flambeau.size import broadcast_shapes
from flambeau.tensor import Tensor


def _stream(seed: int, first: int) -> np.random.Generator:
    key = np.array([seed & (1 << 64) - 1, first], np.uint64)
    return np.random.Generator(np.random.Philox(key=key))


@primitive("host", differentiable=False)
def gamma_slope(row: Any, concentration: Tensor, value: Tensor) -> Tensor:
    """How a gamma variate moves with its concentration while its rank stays: -(dF/da) / f.

    With psi the digamma function this is the integral of ``|log t - psi(a)| f(t) / f(x)`` over t
    beyond x, on the side of exp(psi(a)) that x is on: there the integrand has one sign.

    Reference:
        Figurnov, Mohamed and Mnih, Implicit Reparameterization Gradients (arXiv:1805.08498).
    """
    return emit(row, (concentration, value), (), value._shape, value.dtype)


#: Nodes and weights of exp-sinh quadrature over (0, inf): Takahasi and Mori (1974).
_TAU = np.arange(-4.4, 4.4, 0.07)
_NODES = np.exp(np.pi / 2 * np.sinh(_TAU))
_WEIGHTS = 0.07 * np.pi / 2 * np.cosh(_TAU) * _NODES


def _digamma(a: Any) -> Any:
    """By the recurrence up to 10 and the asymptotic series."""
    shift = np.zeros_like(a)
    a = a.copy()
    for _ in range(10):
        small = a < 10
        shift[small] -= 1 / a[small]
        a[small] += 1
    inverse = 1 / (a * a)
    series = inverse * (1 / 12 - inverse * (1 / 120 - inverse * (1 / 252 - inverse / 240)))
    return np.log(a) - 0.5 / a - series + shift


def _by_quadrature(a: Any, x: Any) -> Any:
    ahead = np.log(x) - _digamma(a)
    side = np.where(ahead >= 0, 1.0, -1.0)
    total = np.zeros(x.shape)
    for node, weight in zip(_NODES, _WEIGHTS, strict=True):
        v = np.minimum(side * node, 700.0)
        total += weight * (np.abs(ahead) + node) * np.exp(a * v - x * np.expm1(v))
    return x * total


def _by_series(a: Any, x: Any) -> Any:
    """The power series of the distribution function, term by term, for small x."""
    term, psi, total = x / a, _digamma(a) + 1 / a, np.zeros(x.shape)
    for n in range(1, 40):
        total += term * (psi - np.log(x))
        term = term * x / (a + n)
        psi = psi + 1 / (a + n)
    return total


def _gamma_slope(concentration: Any, value: Any) -> Any:
    a, x = (t.astype(np.float64) for t in (concentration, value))
    a, x = np.broadcast_arrays(a, np.maximum(x, np.finfo(np.float64).tiny))
    found, small = np.empty(x.shape), x < 1.5
    with np.errstate(all="ignore"):
        found[small] = _by_series(a[small], x[small])
        found[~small] = _by_quadrature(a[~small], x[~small])
    return found.astype(value.dtype)


gamma_slope.reference(_gamma_slope)
gamma_slope.batch(())


@primitive("host")
def gamma_draw(row: Any, concentration: Tensor, seed: int, first: int) -> Tensor:
    """Gamma values of the given concentrations with rate 1."""
    return emit(row, (concentration,), (), concentration._shape, concentration.dtype, (seed, first))


def _gamma_reference(concentration: Any, seed: int, first: int) -> Any:
    drawn = _stream(seed, first).standard_gamma(concentration.astype(np.float64))
    least = np.finfo(np.float64).tiny
    return np.maximum(drawn, least).astype(concentration.dtype)


gamma_draw.reference(_gamma_reference)
gamma_draw.batch("draw")
gamma_draw.vjp(
    lambda g, out, concentration, seed, first: (
        g * gamma_slope(concentration, out),
        None,
        None,
    ),
    saves="concentration out",
)


@composite(method=False)
def _standard_gamma(input: Tensor, generator: Generator | None = None) -> Tensor:
    """Gamma values whose concentrations are the elements of input, with rate 1.

    Gradient: that of the value while its rank in the distribution stays.
    """
    return gamma_draw(input, *(generator or default_generator).take(max(input.numel(), 1)))


@primitive("host", differentiable=False)
def binomial_draw(row: Any, count: Tensor, prob: Tensor, seed: int, first: int) -> Tensor:
    """Successes among `count` trials, each with probability `prob`."""
    return emit(row, (count, prob), (), prob._shape, prob.dtype, (seed, first))


def _binomial_reference(count: Any, prob: Any, seed: int, first: int) -> Any:
    trials, chance = count.astype(np.int64), prob.astype(np.float64)
    if trials.size and trials.min() < 0:
        raise RuntimeError("binomial: count must be non-negative")
    if not ((chance >= 0) & (chance <= 1)).all():
        raise RuntimeError("binomial: prob must be in the interval [0, 1]")
    return np.asarray(_stream(seed, first).binomial(trials, chance)).astype(prob.dtype)


binomial_draw.reference(_binomial_reference)
binomial_draw.batch("draw")


@composite(method=False)
def binomial(count: Tensor, prob: Tensor, generator: Generator | None = None) -> Tensor:
    """Successes among `count` trials, each with probability `prob`; both broadcast.

    Raises:
        RuntimeError: other dtypes than a floating-point one, or values out of range (at the flush).
    """
    if not prob.dtype.is_floating_point or count.dtype is not prob.dtype:
        raise RuntimeError(
            f"Found dtype {count.dtype} but expected {prob.dtype}: binomial takes floating-point "
            "counts of the dtype of prob"
        )
    shape = broadcast_shapes(count._shape, prob._shape)
    expand = NAMES["expand"]
    place = (generator or default_generator).take(max(int(np.prod(shape)), 1))
    return binomial_draw(expand(count.detach(), shape), expand(prob.detach(), shape), *place)
