"""Kullback-Leibler divergences between distributions, by pairs of families."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import flambeau
from flambeau.distributions import continuous as c
from flambeau.distributions import discrete as d
from flambeau.distributions import gamma as g
from flambeau.distributions import multivariate as m
from flambeau.distributions import transformed as t
from flambeau.distributions.distribution import (
    EULER,
    Distribution,
    ExponentialFamily,
    sum_rightmost,
)
from flambeau.size import broadcast_shapes

_RULES: dict[tuple[type, type], Callable[[Any, Any], Any]] = {}
_INFINITE = math.inf


def register_kl(type_p: type, type_q: type) -> Callable[[Any], Any]:
    """A decorator: the function (p, q) -> KL(p || q) is that of two families and their subclasses.

    Raises:
        TypeError: something that is no class of distributions.
    """
    for kind, name in ((type_p, "type_p"), (type_q, "type_q")):
        if not (isinstance(kind, type) and issubclass(kind, Distribution)):
            raise TypeError(f"Expected {name} to be a Distribution subclass but got {kind}")

    def register(rule: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        _RULES[type_p, type_q] = rule
        return rule

    return register


def _rule(type_p: type, type_q: type) -> Callable[[Any, Any], Any] | None:
    """The rule of the nearest pair of classes above these."""
    above_p, above_q = type_p.__mro__, type_q.__mro__
    found = [
        (above_p.index(p) + above_q.index(q), above_p.index(p), rule)
        for (p, q), rule in _RULES.items()
        if p in above_p and q in above_q
    ]
    return min(found, key=lambda each: each[:2])[2] if found else None


def kl_divergence(p: Distribution, q: Distribution) -> Any:
    """KL(p || q): the mean under p of log p - log q, for each of a batch.

    Raises:
        NotImplementedError: no rule is known for these families.
    """
    rule = _rule(type(p), type(q))
    if rule is None:
        raise NotImplementedError(
            f"No KL(p || q) is implemented for p type {type(p).__name__} and q type"
            f" {type(q).__name__}"
        )
    return rule(p, q)


def _infinite_like(tensor: Any) -> Any:
    return flambeau.full_like(tensor, math.inf)


def _xlogx(x: Any) -> Any:
    return flambeau.special.xlogy(x, x)


def _batch_trace(matrix: Any) -> Any:
    return matrix.diagonal(dim1=-2, dim2=-1).sum(-1)


# -- of one family ---------------------------------------------------------------------------------


@register_kl(d.Bernoulli, d.Bernoulli)
def _bernoulli(p: Any, q: Any) -> Any:
    soft = flambeau.nn.functional.softplus
    one = p.probs * (soft(-q.logits) - soft(-p.logits))
    one = flambeau.where(q.probs == 0, math.inf, one)
    one = flambeau.where(p.probs == 0, 0.0, one)
    none = (1 - p.probs) * (soft(q.logits) - soft(p.logits))
    none = flambeau.where(q.probs == 1, math.inf, none)
    return one + flambeau.where(p.probs == 1, 0.0, none)


@register_kl(g.Beta, g.Beta)
def _beta(p: Any, q: Any) -> Any:
    a, b = p.concentration1, p.concentration0
    r, s = q.concentration1, q.concentration0
    total = a + b
    constants = (r.lgamma() + s.lgamma() + total.lgamma()) - (
        (r + s).lgamma() + a.lgamma() + b.lgamma()
    )
    slopes = (a - r) * a.digamma() + (b - s) * b.digamma()
    return constants + slopes + (r + s - total) * total.digamma()


@register_kl(d.Binomial, d.Binomial)
def _binomial(p: Any, q: Any) -> Any:
    if bool((p.total_count < q.total_count).any()):
        raise NotImplementedError(
            "KL between Binomials where q.total_count > p.total_count is not implemented"
        )
    found = p.total_count * (
        p.probs * (p.logits - q.logits) + (-p.probs).log1p() - (-q.probs).log1p()
    )
    return flambeau.where(p.total_count > q.total_count, math.inf, found)


@register_kl(d.Categorical, d.Categorical)
def _categorical(p: Any, q: Any) -> Any:
    parts = p.probs * (p.logits - q.logits)
    parts = flambeau.where((q.probs == 0).expand(parts.shape), math.inf, parts)
    return flambeau.where((p.probs == 0).expand(parts.shape), 0.0, parts).sum(-1)


@register_kl(d.ContinuousBernoulli, d.ContinuousBernoulli)
def _continuous_bernoulli(p: Any, q: Any) -> Any:
    first = p.mean * (p.logits - q.logits)
    second = p._log_constant() + (-p.probs).log1p()
    return first + second - q._log_constant() - (-q.probs).log1p()


@register_kl(g.Dirichlet, g.Dirichlet)
def _dirichlet(p: Any, q: Any) -> Any:
    a, b = p.concentration, q.concentration
    total = a.sum(-1)
    constants = total.lgamma() - b.sum(-1).lgamma() - (a.lgamma() - b.lgamma()).sum(-1)
    return constants + ((a - b) * (a.digamma() - total.digamma().unsqueeze(-1))).sum(-1)


@register_kl(c.Exponential, c.Exponential)
def _exponential(p: Any, q: Any) -> Any:
    ratio = q.rate / p.rate
    return -ratio.log() + ratio - 1


@register_kl(ExponentialFamily, ExponentialFamily)
def _exponential_family(p: Any, q: Any) -> Any:
    if type(p) is not type(q):
        raise NotImplementedError(
            "The cross KL-divergence between different exponential families cannot be computed"
            " using Bregman divergences"
        )
    places = [x.detach().requires_grad_() for x in p._natural_params]
    with flambeau.enable_grad():
        normaliser = p._log_normalizer(*places)
        slopes = flambeau.autograd.grad(normaliser.sum(), places, create_graph=True)
    result = q._log_normalizer(*q._natural_params) - normaliser
    for here, there, slope in zip(places, q._natural_params, slopes, strict=True):
        result = result - sum_rightmost((there - here) * slope, len(q.event_shape))
    return result


@register_kl(g.Gamma, g.Gamma)
def _gamma(p: Any, q: Any) -> Any:
    a, b = p.concentration, q.concentration
    constants = b * (p.rate / q.rate).log() + b.lgamma() - a.lgamma()
    return constants + (a - b) * a.digamma() + (q.rate - p.rate) * (a / p.rate)


@register_kl(c.Gumbel, c.Gumbel)
def _gumbel(p: Any, q: Any) -> Any:
    ratio = p.scale / q.scale
    loc1, loc2 = q.loc / q.scale, p.loc / q.scale
    first = ratio.log() + loc1 - loc2
    return -first + ratio * EULER + (loc1 - loc2 + (1 + ratio).lgamma()).exp() - (1 + EULER)


@register_kl(d.Geometric, d.Geometric)
def _geometric(p: Any, q: Any) -> Any:
    return -p.entropy() - (-q.probs).log1p() / p.probs - q.logits


@register_kl(t.HalfNormal, t.HalfNormal)
def _half_normal(p: Any, q: Any) -> Any:
    return _normal(p.base_dist, q.base_dist)


@register_kl(c.Laplace, c.Laplace)
def _laplace(p: Any, q: Any) -> Any:
    ratio = p.scale / q.scale
    apart = (p.loc - q.loc).abs()
    return -ratio.log() + apart / q.scale + ratio * (-apart / p.scale).exp() - 1


@register_kl(c.Normal, c.Normal)
def _normal(p: Any, q: Any) -> Any:
    ratio = (p.scale / q.scale).pow(2)
    apart = ((p.loc - q.loc) / q.scale).pow(2)
    return 0.5 * (ratio + apart - 1 - ratio.log())


@register_kl(d.OneHotCategorical, d.OneHotCategorical)
def _one_hot(p: Any, q: Any) -> Any:
    return _categorical(p._chance, q._chance)


@register_kl(t.Pareto, t.Pareto)
def _pareto(p: Any, q: Any) -> Any:
    ratio = q.alpha / p.alpha
    found = q.alpha * (p.scale / q.scale).log() - ratio.log() + ratio - 1
    return flambeau.where(p.scale < q.scale, math.inf, found)


@register_kl(d.Poisson, d.Poisson)
def _poisson(p: Any, q: Any) -> Any:
    return p.rate * (p.rate.log() - q.rate.log()) - (p.rate - q.rate)


@register_kl(t.TransformedDistribution, t.TransformedDistribution)
def _transformed(p: Any, q: Any) -> Any:
    if p.transforms != q.transforms or p.event_shape != q.event_shape:
        raise NotImplementedError
    return kl_divergence(p.base_dist, q.base_dist)


@register_kl(c.Uniform, c.Uniform)
def _uniform(p: Any, q: Any) -> Any:
    found = ((q.high - q.low) / (p.high - p.low)).log()
    return flambeau.where((q.low > p.low) | (q.high < p.high), math.inf, found)


@register_kl(t.Independent, t.Independent)
def _independent(p: Any, q: Any) -> Any:
    if p.reinterpreted_batch_ndims != q.reinterpreted_batch_ndims:
        raise NotImplementedError
    return sum_rightmost(kl_divergence(p.base_dist, q.base_dist), p.reinterpreted_batch_ndims)


@register_kl(c.Cauchy, c.Cauchy)
def _cauchy(p: Any, q: Any) -> Any:
    above = (p.scale + q.scale).pow(2) + (p.loc - q.loc).pow(2)
    return above.log() - (4 * p.scale * q.scale).log()


# -- of normal vectors -----------------------------------------------------------------------------


def _check_sizes(p: Any, q: Any) -> None:
    if p.event_shape != q.event_shape:
        raise ValueError(
            f"KL-divergence between two {type(p).__name__}s with different event shapes cannot be"
            " computed"
        )


@register_kl(m.MultivariateNormal, m.MultivariateNormal)
@register_kl(m.LowRankMultivariateNormal, m.MultivariateNormal)
def _vectors(p: Any, q: Any) -> Any:
    _check_sizes(p, q)
    lower = q.scale_tril
    inner = m._solved(lower, p.scale_tril.expand(broadcast_shapes(
        lower.shape, p.scale_tril.shape)))  # fmt: skip
    dets = m._half_log_det(lower) - m._half_log_det(p.scale_tril)
    square = m.mahalanobis(lower, q.loc - p.loc)
    return dets + 0.5 * (inner.square().sum((-2, -1)) + square - p.event_shape[0])


@register_kl(m.LowRankMultivariateNormal, m.LowRankMultivariateNormal)
@register_kl(m.MultivariateNormal, m.LowRankMultivariateNormal)
def _low_rank(p: Any, q: Any) -> Any:
    _check_sizes(p, q)
    trace = _batch_trace(q.precision_matrix @ p.covariance_matrix)
    dets = q._log_det() - 2 * m._half_log_det(p.scale_tril)
    return 0.5 * (dets + q._square(q.loc - p.loc) + trace - p.event_shape[0])


# -- of two families -------------------------------------------------------------------------------


@register_kl(d.Bernoulli, d.Poisson)
def _bernoulli_poisson(p: Any, q: Any) -> Any:
    return -p.entropy() - (p.probs * q.rate.log() - q.rate)


@register_kl(g.Beta, d.ContinuousBernoulli)
def _beta_continuous_bernoulli(p: Any, q: Any) -> Any:
    return -p.entropy() - p.mean * q.logits - (-q.probs).log1p() - q._log_constant()


@register_kl(g.Beta, c.Exponential)
def _beta_exponential(p: Any, q: Any) -> Any:
    return -p.entropy() - q.rate.log() + q.rate * p.mean


@register_kl(g.Beta, g.Gamma)
def _beta_gamma(p: Any, q: Any) -> Any:
    total = (p.concentration1 + p.concentration0).digamma()
    constants = q.concentration.lgamma() - q.concentration * q.rate.log()
    logs = (q.concentration - 1) * (p.concentration1.digamma() - total)
    return -p.entropy() + constants - logs + q.rate * p.mean


def _quadratic(p: Any, q: Any) -> Any:
    """The cross entropy of anything with two moments and a normal distribution."""
    square = p.variance + (p.mean - q.loc) ** 2
    return 0.5 * (2 * math.pi * q.scale**2).log() + square / (2 * q.scale**2)


@register_kl(g.Beta, c.Normal)
@register_kl(d.ContinuousBernoulli, c.Normal)
@register_kl(c.Exponential, c.Normal)
@register_kl(g.Gamma, c.Normal)
@register_kl(c.Gumbel, c.Normal)
@register_kl(c.Laplace, c.Normal)
@register_kl(c.Uniform, c.Normal)
def _to_normal(p: Any, q: Any) -> Any:
    return -p.entropy() + _quadratic(p, q)


@register_kl(t.Pareto, c.Normal)
def _pareto_normal(p: Any, q: Any) -> Any:
    found = -p.entropy() + _quadratic(p, q)
    return flambeau.where(p.alpha <= 2, math.inf, found)


@register_kl(g.Beta, c.Uniform)
@register_kl(d.ContinuousBernoulli, c.Uniform)
def _unit_uniform(p: Any, q: Any) -> Any:
    found = -p.entropy() + (q.high - q.low).log()
    return flambeau.where((q.low > 0) | (q.high < 1), math.inf, found)


@register_kl(d.ContinuousBernoulli, c.Exponential)
@register_kl(g.Gamma, c.Exponential)
def _to_exponential(p: Any, q: Any) -> Any:
    return -p.entropy() - q.rate.log() + q.rate * p.mean


@register_kl(t.Pareto, c.Exponential)
def _pareto_exponential(p: Any, q: Any) -> Any:
    found = -p.entropy() - q.rate.log() + q.rate * p.mean
    return flambeau.where(p.alpha <= 1, math.inf, found)


@register_kl(c.Exponential, g.Gamma)
def _exponential_gamma(p: Any, q: Any) -> Any:
    ratio, k = q.rate / p.rate, q.concentration
    return -k * ratio.log() + ratio + k.lgamma() + k * EULER - (1 + EULER)


@register_kl(c.Exponential, c.Gumbel)
def _exponential_gumbel(p: Any, q: Any) -> Any:
    product, loc = p.rate * q.scale, q.loc / q.scale
    return product.log() - 1 + product.reciprocal() - loc + (loc.exp() * product / (product + 1))


@register_kl(g.Gamma, c.Gumbel)
def _gamma_gumbel(p: Any, q: Any) -> Any:
    product, loc, k = p.rate * q.scale, q.loc / q.scale, p.concentration
    first = (k - 1) * k.digamma() - k.lgamma() - k
    second = product.log() + k / product
    third = loc.exp() * (1 + product.reciprocal()).pow(-k) - loc
    return first + second + third


@register_kl(c.Normal, c.Gumbel)
def _normal_gumbel(p: Any, q: Any) -> Any:
    means, ratio, loc = p.loc / q.scale, (p.scale / q.scale).pow(2), q.loc / q.scale
    return (
        -ratio.sqrt().log()
        + means
        - loc
        + (-means + 0.5 * ratio + loc).exp()
        - (0.5 * (1 + math.log(2 * math.pi)))
    )


@register_kl(c.Normal, c.Laplace)
def _normal_laplace(p: Any, q: Any) -> Any:
    diff = p.loc - q.loc
    z = diff / p.scale
    first = math.sqrt(2 / math.pi) * p.scale * (-0.5 * z.pow(2)).exp()
    mean = first + diff * flambeau.erf(math.sqrt(0.5) * z)
    return -p.entropy() + (2 * q.scale).log() + mean / q.scale


@register_kl(c.Uniform, g.Beta)
def _uniform_beta(p: Any, q: Any) -> Any:
    a, b = q.concentration1, q.concentration0
    width = p.high - p.low
    first = (a - 1) * (_xlogx(p.high) - _xlogx(p.low) - width) / width
    second = (b - 1) * (_xlogx(1 - p.high) - _xlogx(1 - p.low) + width) / width
    constants = a.lgamma() + b.lgamma() - (a + b).lgamma()
    found = constants - width.log() - first + second
    return flambeau.where((p.high > 1) | (p.low < 0), math.inf, found)


@register_kl(c.Uniform, d.ContinuousBernoulli)
def _uniform_continuous_bernoulli(p: Any, q: Any) -> Any:
    found = -p.entropy() - p.mean * q.logits - (-q.probs).log1p() - q._log_constant()
    outside = (p.high >= 1) | (p.low < 0)
    return flambeau.where(outside, math.inf, found)


@register_kl(c.Uniform, c.Exponential)
def _uniform_exponential(p: Any, q: Any) -> Any:
    found = q.rate * (p.high + p.low) / 2 - ((p.high - p.low) * q.rate).log()
    return flambeau.where(p.low < 0, math.inf, found)


@register_kl(c.Uniform, g.Gamma)
def _uniform_gamma(p: Any, q: Any) -> Any:
    width, k = p.high - p.low, q.concentration
    logs = (_xlogx(p.high) - _xlogx(p.low) - width) / width
    constants = -k * q.rate.log() + k.lgamma() - width.log()
    found = constants + (1 - k) * logs + q.rate * (p.high + p.low) / 2
    return flambeau.where(p.low < 0, math.inf, found)


@register_kl(c.Uniform, c.Gumbel)
def _uniform_gumbel(p: Any, q: Any) -> Any:
    width = q.scale / (p.high - p.low)
    high, low = (p.high - q.loc) / q.scale, (p.low - q.loc) / q.scale
    return width.log() + 0.5 * (high + low) - width * ((-high).exp() - (-low).exp())


@register_kl(c.Uniform, t.Pareto)
def _uniform_pareto(p: Any, q: Any) -> Any:
    width = p.high - p.low
    constants = q.alpha.log() + q.alpha * q.scale.log() + width.log()
    logs = (_xlogx(p.high) - _xlogx(p.low) - width) / width
    found = (q.alpha + 1) * logs - constants
    return flambeau.where(p.low < q.scale, math.inf, found)


def _endless(p: Any, q: Any) -> Any:
    """Values of p that q never has."""
    return _infinite_like(p.mean.detach() if p.mean.isfinite().all() else p.entropy().detach())


for _p, _others in {
    g.Beta: (t.Pareto,),
    d.ContinuousBernoulli: (t.Pareto,),
    c.Exponential: (g.Beta, d.ContinuousBernoulli, t.Pareto, c.Uniform),
    g.Gamma: (g.Beta, d.ContinuousBernoulli, t.Pareto, c.Uniform),
    c.Gumbel: (
        g.Beta, d.ContinuousBernoulli, c.Exponential, g.Gamma, t.Pareto, c.Uniform,
    ),
    c.Laplace: (
        g.Beta, d.ContinuousBernoulli, c.Exponential, g.Gamma, t.Pareto, c.Uniform,
    ),
    c.Normal: (
        g.Beta, d.ContinuousBernoulli, c.Exponential, g.Gamma, t.Pareto, c.Uniform,
    ),
    t.Pareto: (g.Beta, d.ContinuousBernoulli, c.Uniform),
    d.Poisson: (d.Bernoulli, d.Binomial),
}.items():  # fmt: skip
    for _q in _others:
        register_kl(_p, _q)(_endless)


@register_kl(t.Pareto, g.Gamma)
def _pareto_gamma(p: Any, q: Any) -> Any:
    k = q.concentration
    logs = p.scale.log() + p.alpha.reciprocal()
    constants = k.lgamma() - k * q.rate.log() + (1 - k) * logs
    found = -p.entropy() + constants + q.rate * p.mean
    return flambeau.where(p.alpha <= 1, math.inf, found)


__all__ = ["kl_divergence", "register_kl"]
