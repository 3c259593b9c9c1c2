"""Distributions with parameters, for any library with PyTorch's names."""

from __future__ import annotations

from typing import Any

import numpy as np

A = np.array([[0.7, 1.3, 2.1], [0.4, 3.0, 1.1]])
B = np.array([1.5, 0.6, 2.2])
P = np.array([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]])
R = np.array([0.15, 0.5, 0.8])
M = np.array([[2.0, 0.3, 0.1], [0.3, 1.0, -0.2], [0.1, -0.2, 0.5]])

#: name -> (library, tensor of an array) -> distribution
CASES: dict[str, Any] = {
    "Bernoulli": lambda d, t: d.Bernoulli(t(R)),
    "Bernoulli logits": lambda d, t: d.Bernoulli(logits=t(A - 1)),
    "Beta": lambda d, t: d.Beta(t(A), t(B)),
    "Binomial": lambda d, t: d.Binomial(6, t(R)),
    "Binomial logits": lambda d, t: d.Binomial(t(np.array([3.0, 5.0, 2.0])), logits=t(R)),
    "Categorical": lambda d, t: d.Categorical(t(P)),
    "Categorical logits": lambda d, t: d.Categorical(logits=t(A)),
    "Cauchy": lambda d, t: d.Cauchy(t(A), t(B)),
    "Chi2": lambda d, t: d.Chi2(t(A)),
    "ContinuousBernoulli": lambda d, t: d.ContinuousBernoulli(t(R)),
    "Dirichlet": lambda d, t: d.Dirichlet(t(A)),
    "Exponential": lambda d, t: d.Exponential(t(A)),
    "FisherSnedecor": lambda d, t: d.FisherSnedecor(t(A), t(B + 4)),
    "Gamma": lambda d, t: d.Gamma(t(A), t(B)),
    "GeneralizedPareto": lambda d, t: d.GeneralizedPareto(t(B), t(A), t(R - 0.5)),
    "Geometric": lambda d, t: d.Geometric(t(R)),
    "Gumbel": lambda d, t: d.Gumbel(t(A), t(B)),
    "HalfCauchy": lambda d, t: d.HalfCauchy(t(A)),
    "HalfNormal": lambda d, t: d.HalfNormal(t(A)),
    "Independent": lambda d, t: d.Independent(d.Normal(t(A), t(B)), 1),
    "InverseGamma": lambda d, t: d.InverseGamma(t(A + 2), t(B)),
    "Kumaraswamy": lambda d, t: d.Kumaraswamy(t(A), t(B)),
    "Laplace": lambda d, t: d.Laplace(t(A), t(B)),
    "LKJCholesky": lambda d, t: d.LKJCholesky(3, t(B)),
    "LogNormal": lambda d, t: d.LogNormal(t(A), t(R)),
    "LogisticNormal": lambda d, t: d.LogisticNormal(t(A), t(B)),
    "LowRankMultivariateNormal": lambda d, t: d.LowRankMultivariateNormal(t(A), t(A[:1].T), t(B)),
    "MixtureSameFamily": lambda d, t: d.MixtureSameFamily(
        d.Categorical(t(P)), d.Normal(t(A), t(B))
    ),
    "Multinomial": lambda d, t: d.Multinomial(5, t(P)),
    "MultivariateNormal": lambda d, t: d.MultivariateNormal(t(A), t(M)),
    "MultivariateNormal precision": lambda d, t: d.MultivariateNormal(t(B), precision_matrix=t(M)),
    "MultivariateNormal tril": lambda d, t: d.MultivariateNormal(t(A), scale_tril=t(np.tril(M))),
    "NegativeBinomial": lambda d, t: d.NegativeBinomial(t(B), t(R)),
    "Normal": lambda d, t: d.Normal(t(A), t(B)),
    "OneHotCategorical": lambda d, t: d.OneHotCategorical(t(P)),
    "OneHotCategoricalStraightThrough": lambda d, t: d.OneHotCategoricalStraightThrough(t(P)),
    "Pareto": lambda d, t: d.Pareto(t(A), t(B + 2)),
    "Poisson": lambda d, t: d.Poisson(t(A)),
    "RelaxedBernoulli": lambda d, t: d.RelaxedBernoulli(t(np.array(0.7)), t(R)),
    "RelaxedOneHotCategorical": lambda d, t: d.RelaxedOneHotCategorical(t(np.array(0.7)), t(P)),
    "StudentT": lambda d, t: d.StudentT(t(A + 2), t(B), t(B)),
    "TransformedDistribution": lambda d, t: d.TransformedDistribution(
        d.Normal(t(A), t(B)), [d.AffineTransform(1.0, -2.0), d.SigmoidTransform()]
    ),
    "Uniform": lambda d, t: d.Uniform(t(-A), t(B)),
    "VonMises": lambda d, t: d.VonMises(t(A), t(B)),
    "Weibull": lambda d, t: d.Weibull(t(A), t(B)),
    "Wishart": lambda d, t: d.Wishart(t(np.array([4.0, 5.5])), t(M)),
}
