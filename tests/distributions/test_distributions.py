"""Distributions beside scipy.stats, their samples beside their moments, gradients of samples."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau import distributions as d
from flambeau.distributions.kl import _exponential_family
from tests.distributions.cases import CASES, A, B, M, P, R

stats = pytest.importorskip("scipy.stats")

SCIPY: dict[str, Any] = {
    "Beta": (lambda x: stats.beta.logpdf(x, A, B), (0.05, 0.95)),
    "Cauchy": (lambda x: stats.cauchy.logpdf(x, A, B), (-3, 3)),
    "Chi2": (lambda x: stats.chi2.logpdf(x, A), (0.1, 5)),
    "Exponential": (lambda x: stats.expon.logpdf(x, scale=1 / A), (0.1, 5)),
    "FisherSnedecor": (lambda x: stats.f.logpdf(x, A, B + 4), (0.1, 5)),
    "Gamma": (lambda x: stats.gamma.logpdf(x, A, scale=1 / B), (0.1, 5)),
    "GeneralizedPareto": (lambda x: stats.genpareto.logpdf(x, R - 0.5, B, A), (2.25, 2.6)),
    "Gumbel": (lambda x: stats.gumbel_r.logpdf(x, A, B), (-3, 3)),
    "HalfCauchy": (lambda x: stats.halfcauchy.logpdf(x, scale=A), (0.1, 5)),
    "HalfNormal": (lambda x: stats.halfnorm.logpdf(x, scale=A), (0.1, 5)),
    "InverseGamma": (lambda x: stats.invgamma.logpdf(x, A + 2, scale=B), (0.1, 5)),
    "Laplace": (lambda x: stats.laplace.logpdf(x, A, B), (-3, 3)),
    "LogNormal": (lambda x: stats.lognorm.logpdf(x, R, scale=np.exp(A)), (0.1, 5)),
    "Normal": (lambda x: stats.norm.logpdf(x, A, B), (-3, 3)),
    "Pareto": (lambda x: stats.pareto.logpdf(x, B + 2, scale=A), (3.1, 8)),
    "StudentT": (lambda x: stats.t.logpdf(x, A + 2, B, B), (-3, 3)),
    "VonMises": (lambda x: stats.vonmises.logpdf(x, B, A), (-3, 3)),
    "Weibull": (lambda x: stats.weibull_min.logpdf(x, B, scale=A), (0.1, 5)),
}
COUNTS: dict[str, Any] = {
    "Bernoulli": (lambda x: stats.bernoulli.logpmf(x, R), 2),
    "Binomial": (lambda x: stats.binom.logpmf(x, 6, R), 7),
    "Geometric": (lambda x: stats.geom.logpmf(x + 1, R), 6),
    "NegativeBinomial": (lambda x: stats.nbinom.logpmf(x, B, 1 - R), 6),
    "Poisson": (lambda x: stats.poisson.logpmf(x, A), 6),
}


def made(name: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return CASES[name](d, flambeau.tensor)


@pytest.mark.parametrize("name", SCIPY)
def test_densities(name: str) -> None:
    reference, (low, high) = SCIPY[name]
    x = np.random.default_rng(3).uniform(low, high, (4, 2, 3))
    found = made(name).log_prob(flambeau.tensor(x)).numpy()
    np.testing.assert_allclose(found, reference(x), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", COUNTS)
def test_probabilities(name: str) -> None:
    reference, count = COUNTS[name]
    x = np.random.default_rng(3).integers(0, count, (4, 2, 3)).astype(float)
    found = made(name).log_prob(flambeau.tensor(x)).numpy()
    np.testing.assert_allclose(found, reference(x), rtol=1e-9, atol=1e-10)


def test_vectors() -> None:
    x = np.random.default_rng(4).uniform(-1, 1, (5, 3))
    found = made("MultivariateNormal tril").log_prob(flambeau.tensor(x[:, None])).numpy()
    cov = np.tril(M) @ np.tril(M).T
    for k in range(2):
        want = stats.multivariate_normal.logpdf(x, A[k], cov)
        np.testing.assert_allclose(found[:, k], want)
    low = made("LowRankMultivariateNormal")
    want = stats.multivariate_normal.logpdf(x, A[0], A[:1].T @ A[:1] + np.diag(B))
    np.testing.assert_allclose(low.log_prob(flambeau.tensor(x[:, None])).numpy()[:, 0], want)
    proportions = np.random.default_rng(5).dirichlet(np.ones(3), 5)
    found = made("Dirichlet").log_prob(flambeau.tensor(proportions[:, None])).numpy()
    np.testing.assert_allclose(found[:, 1], stats.dirichlet.logpdf(proportions.T, A[1]))


HEAVY = ("Cauchy", "HalfCauchy", "LKJCholesky", "VonMises", "RelaxedBernoulli", "Categorical")
COUNT = 20_000


@pytest.mark.parametrize("name", [n for n in CASES if not n.startswith(HEAVY)])
def test_samples_have_the_moments(name: str, seed: int) -> None:
    each = made(name)
    try:
        mean, variance = each.mean.detach().numpy(), each.variance.detach().numpy()
    except NotImplementedError:
        pytest.skip("no moments")
    drawn = each.sample((COUNT,)).numpy()
    assert drawn.shape == (COUNT, *each.batch_shape, *each.event_shape)
    finite = np.isfinite(mean) & np.isfinite(variance)
    error = np.sqrt(np.where(finite, variance, 1) / COUNT)
    wrong = finite & (np.abs(drawn.mean(0) - mean) > 6 * error + 1e-12)
    assert not wrong.any(), (drawn.mean(0), mean)


@pytest.mark.parametrize("name", ["Beta", "Gamma", "Dirichlet", "Exponential", "Normal", "Laplace"])
def test_gradients_of_samples_are_those_of_the_mean(name: str, seed: int) -> None:
    """E[d x / d theta] = d E[x] / d theta, for each parameter."""
    leaves: list[Any] = []

    def leaf(values: Any) -> Any:
        leaves.append(flambeau.tensor(values, requires_grad=True))
        return leaves[-1]

    each = CASES[name](d, leaf)
    weights = flambeau.tensor(np.cos(np.arange(3.0)))
    drawn = (each.rsample((COUNT,)) * weights).sum() / COUNT
    found = flambeau.autograd.grad(drawn, leaves, retain_graph=True)
    wanted = flambeau.autograd.grad((each.mean * weights).sum(), leaves, allow_unused=True)
    for got, want in zip(found, wanted, strict=True):
        expected = np.zeros(got.shape) if want is None else want.numpy()
        np.testing.assert_allclose(got.numpy(), expected, atol=0.06)


def test_gamma_slopes_by_differences() -> None:
    special = pytest.importorskip("scipy.special")
    a = np.array([0.05, 0.3, 1.0, 2.5, 30.0])
    for quantile in (0.02, 0.4, 0.97):
        x = special.gammaincinv(a, quantile)
        step = 1e-6 * a
        want = special.gammaincinv(a + step, quantile) - special.gammaincinv(a - step, quantile)
        found = flambeau.ops.variates.gamma_slope(flambeau.tensor(a), flambeau.tensor(x))
        np.testing.assert_allclose(found.numpy(), want / (2 * step), rtol=1e-5)


def test_rejection_on_the_circle(seed: int) -> None:
    drawn = d.VonMises(flambeau.tensor(0.5), flambeau.tensor(4.0)).sample((COUNT,)).numpy()
    want = stats.vonmises(4.0, 0.5)
    assert stats.kstest(drawn, want.cdf).pvalue > 1e-3


def test_classes_come_as_often_as_they_should(seed: int) -> None:
    drawn = d.Categorical(flambeau.tensor(P)).sample((COUNT,)).numpy()
    for k in range(2):
        shares = np.bincount(drawn[:, k], minlength=3) / COUNT
        np.testing.assert_allclose(shares, P[k], atol=0.02)
    matrices = d.LKJCholesky(3, 2.0).sample((200,))
    assert bool(d.constraints.corr_cholesky.check(matrices).all())


def test_entropy_is_the_mean_of_the_log_density(seed: int) -> None:
    for name in ("Gamma", "Beta", "Gumbel", "StudentT", "Weibull", "ContinuousBernoulli"):
        each = made(name)
        drawn = -each.log_prob(each.sample((COUNT,)))
        np.testing.assert_allclose(drawn.mean(0).numpy(), each.entropy().numpy(), atol=0.06)


def test_divergence_of_any_family_of_exponents() -> None:

    for p, q in (
        (d.Gamma(flambeau.tensor(A), 2.0), d.Gamma(flambeau.tensor(A + 1), 1.0)),
        (d.Normal(0.0, 2.0), d.Normal(1.0, 0.5)),
        (d.Dirichlet(flambeau.tensor(A)), d.Dirichlet(flambeau.tensor(A + 0.5))),
    ):
        got, want = _exponential_family(p, q), d.kl_divergence(p, q)
        np.testing.assert_allclose(got.detach().numpy(), want.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("run", "error", "words"),
    [
        (lambda: d.Normal(0.0, -1.0), ValueError, "Expected parameter scale"),
        (lambda: d.Normal(0.0, 1.0).log_prob(flambeau.tensor(math.nan)), ValueError, "support"),
        (lambda: d.Uniform(1.0, 0.0), ValueError, "low"),
        (lambda: d.Bernoulli(), ValueError, "Either `probs` or `logits`"),
        (lambda: d.Bernoulli(1.5), ValueError, "probs"),
        (lambda: d.Categorical(flambeau.tensor(0.5)), ValueError, "one-dimensional"),
        (lambda: d.MultivariateNormal(flambeau.zeros(2)), ValueError, "Exactly one"),
        (lambda: d.Normal("a", 1.0), ValueError, "Number"),
        (lambda: d.kl_divergence(d.Normal(0.0, 1.0), d.Poisson(1.0)), NotImplementedError, "KL"),
        (lambda: d.Normal(0.0, 1.0).enumerate_support(), NotImplementedError, ""),
        (lambda: d.Independent(d.Normal(0.0, 1.0), 1), ValueError, "reinterpreted_batch_ndims"),
        (lambda: d.register_kl(int, d.Normal), TypeError, "type_p"),
    ],
)
def test_refusals(run: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        run()


def test_unchecked_arguments() -> None:
    assert d.Normal(0.0, -1.0, validate_args=False).scale.item() == -1


@pytest.mark.parametrize("make", [d.Bernoulli, d.Geometric, lambda p: d.Binomial(3, p)])
def test_a_refused_value_computes_nothing(make: Any) -> None:
    family = make(flambeau.tensor(0.5))
    before = repr(family)
    with pytest.raises(ValueError, match="within the support") as caught:
        family.log_prob(flambeau.tensor(-1.5))
    assert repr(family) == before
    assert before in str(caught.value)
