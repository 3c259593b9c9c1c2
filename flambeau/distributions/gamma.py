"""Distributions of quotients of gamma variates: gamma, beta, Dirichlet, Student's, Fisher's."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import flambeau
from flambeau.distributions import constraints
from flambeau.distributions.distribution import Distribution, ExponentialFamily, broadcast_all


def standard_gamma(concentration: Any) -> Any:
    """Gamma values of rate 1, kept above 0."""
    drawn = flambeau._standard_gamma(concentration)
    return drawn.clamp(min=flambeau.finfo(drawn.dtype).tiny)


class Gamma(ExponentialFamily):
    """The distribution of waiting times for several events.

    Args:
        concentration: shape.
        rate: one over the scale.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {
        "concentration": constraints.positive,
        "rate": constraints.positive,
    }
    support = constraints.nonnegative
    has_rsample = True
    _mean_carrier_measure = 0

    def __init__(self, concentration: Any, rate: Any, validate_args: bool | None = None) -> None:
        self.concentration, self.rate = broadcast_all(concentration, rate)
        super().__init__(self.concentration.size(), validate_args=validate_args)

    @property
    def mean(self) -> Any:
        """The mean."""
        return self.concentration / self.rate

    @property
    def mode(self) -> Any:
        """Where it is densest."""
        return ((self.concentration - 1) / self.rate).clamp(min=0)

    @property
    def variance(self) -> Any:
        """The variance."""
        return self.concentration / self.rate**2

    def rsample(self, sample_shape: Any = ()) -> Any:
        """Values with gradients."""
        shape = self._extended_shape(sample_shape)
        drawn = flambeau._standard_gamma(self.concentration.expand(shape)) / self.rate
        return drawn.clamp(min=flambeau.finfo(drawn.dtype).tiny)

    def log_prob(self, value: Any) -> Any:
        """The log density."""
        value = flambeau.as_tensor(value, dtype=self.rate.dtype, device=self.rate.device)
        self._validate_sample(value)
        a, rate = self.concentration, self.rate
        return flambeau.xlogy(a, rate) + flambeau.xlogy(a - 1, value) - rate * value - a.lgamma()

    def entropy(self) -> Any:
        """The entropy."""
        a = self.concentration
        return a - self.rate.log() + a.lgamma() + (1.0 - a) * a.digamma()

    def cdf(self, value: Any) -> Any:
        """The distribution function."""
        return flambeau.special.gammainc(self.concentration, self.rate * self._checked(value))

    @property
    def _natural_params(self) -> tuple[Any, ...]:
        return self.concentration - 1, -self.rate

    def _log_normalizer(self, x: Any, y: Any) -> Any:
        return (x + 1).lgamma() + (x + 1) * (-y.reciprocal()).log()


class Chi2(Gamma):
    """The distribution of a sum of squares of standard normal variates.

    Args:
        df: how many.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {"df": constraints.positive}

    def __init__(self, df: Any, validate_args: bool | None = None) -> None:
        super().__init__(0.5 * df, 0.5, validate_args=validate_args)

    @property
    def df(self) -> Any:
        """Degrees of freedom."""
        return self.concentration * 2

    def _given(self) -> dict[str, Any]:
        return {"df": self.df}


class Dirichlet(ExponentialFamily):
    """Vectors of proportions.

    Args:
        concentration: (..., K).
    """

    arg_constraints: ClassVar[dict[str, Any]] = {
        "concentration": constraints.independent(constraints.positive, 1)
    }
    support = constraints.simplex
    has_rsample = True
    _mean_carrier_measure = 0

    def __init__(self, concentration: Any, validate_args: bool | None = None) -> None:
        if concentration.dim() < 1:
            raise ValueError("`concentration` parameter must be at least one-dimensional.")
        self.concentration = concentration
        shape = concentration.shape
        super().__init__(shape[:-1], shape[-1:], validate_args=validate_args)

    def rsample(self, sample_shape: Any = ()) -> Any:
        """Values with gradients: gamma variates over their sum."""
        shape = self._extended_shape(sample_shape)
        wide = standard_gamma(self.concentration.expand(shape).double())
        return (wide / wide.sum(-1, keepdim=True)).to(self.concentration.dtype)

    def log_prob(self, value: Any) -> Any:
        """The log density."""
        self._validate_sample(value)
        a = self.concentration
        powers = flambeau.xlogy(a - 1.0, value).sum(-1)
        return powers + a.sum(-1).lgamma() - a.lgamma().sum(-1)

    @property
    def mean(self) -> Any:
        """The mean."""
        return self.concentration / self.concentration.sum(-1, True)

    @property
    def mode(self) -> Any:
        """Where it is densest."""
        above = (self.concentration - 1).clamp(min=0.0)
        mode = above / above.sum(-1, True)
        corner = (self.concentration < 1).all(-1, keepdim=True)
        first = flambeau.nn.functional.one_hot(mode.argmax(-1), self._event_shape[-1])
        return flambeau.where(corner, first.to(mode.dtype), mode)

    @property
    def variance(self) -> Any:
        """The variance."""
        a = self.concentration
        total = a.sum(-1, True)
        return a * (total - a) / (total**2 * (total + 1))

    def entropy(self) -> Any:
        """The entropy."""
        a, k = self.concentration, self.concentration.size(-1)
        total = a.sum(-1)
        return (
            a.lgamma().sum(-1)
            - total.lgamma()
            - (k - total) * total.digamma()
            - ((a - 1.0) * a.digamma()).sum(-1)
        )

    @property
    def _natural_params(self) -> tuple[Any, ...]:
        return (self.concentration,)

    def _log_normalizer(self, x: Any) -> Any:
        return x.lgamma().sum(-1) - x.sum(-1).lgamma()


class Beta(ExponentialFamily):
    """Proportions: a Dirichlet distribution of two.

    Args:
        concentration1, concentration0: of the value, and of one minus it.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {
        "concentration1": constraints.positive,
        "concentration0": constraints.positive,
    }
    support = constraints.unit_interval
    has_rsample = True

    def __init__(
        self, concentration1: Any, concentration0: Any, validate_args: bool | None = None
    ) -> None:
        self._dirichlet = Dirichlet(
            flambeau.stack(broadcast_all(concentration1, concentration0), -1), validate_args=False
        )
        self.__dict__["concentration1"], self.__dict__["concentration0"] = broadcast_all(
            concentration1, concentration0
        )
        super().__init__(self._dirichlet.batch_shape, validate_args=validate_args)

    @property
    def mean(self) -> Any:
        """The mean."""
        return self.concentration1 / (self.concentration1 + self.concentration0)

    @property
    def mode(self) -> Any:
        """Where it is densest."""
        return self._dirichlet.mode[..., 0]

    @property
    def variance(self) -> Any:
        """The variance."""
        a, b = self.concentration1, self.concentration0
        total = a + b
        return a * b / (total**2 * (total + 1))

    def rsample(self, sample_shape: Any = ()) -> Any:
        """Values with gradients."""
        return self._dirichlet.rsample(sample_shape).select(-1, 0)

    def log_prob(self, value: Any) -> Any:
        """The log density."""
        self._validate_sample(value)
        return self._dirichlet.log_prob(flambeau.stack([value, 1.0 - value], -1))

    def entropy(self) -> Any:
        """The entropy."""
        return self._dirichlet.entropy()

    concentration1: Any
    concentration0: Any

    @property
    def _natural_params(self) -> tuple[Any, ...]:
        return self.concentration1, self.concentration0

    def _log_normalizer(self, x: Any, y: Any) -> Any:
        return x.lgamma() + y.lgamma() - (x + y).lgamma()


class StudentT(Distribution):
    """A normal variate over the root of a chi-squared one: a bell with heavy tails.

    Args:
        df: degrees of freedom.
        loc: mean.
        scale: how far it spreads.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {
        "df": constraints.positive,
        "loc": constraints.real,
        "scale": constraints.positive,
    }
    support = constraints.real
    has_rsample = True

    def __init__(
        self, df: Any, loc: Any = 0.0, scale: Any = 1.0, validate_args: bool | None = None
    ) -> None:
        self.df, self.loc, self.scale = broadcast_all(df, loc, scale)
        self._chi2 = Chi2(self.df, validate_args=False)
        super().__init__(self.df.size(), validate_args=validate_args)

    @property
    def mean(self) -> Any:
        """The mean; NaN for df <= 1."""
        return flambeau.where(self.df <= 1, math.nan, self.loc)

    @property
    def mode(self) -> Any:
        """The location."""
        return self.loc

    @property
    def variance(self) -> Any:
        """The variance; infinite for df <= 2, NaN for df <= 1."""
        df = self.df
        found = self.scale**2 * df / (flambeau.where(df > 2, df, 3.0) - 2)
        found = flambeau.where(df > 2, found, math.inf)
        return flambeau.where(df <= 1, math.nan, found)

    def rsample(self, sample_shape: Any = ()) -> Any:
        """Values with gradients."""
        shape = self._extended_shape(sample_shape)
        x = flambeau.randn(shape, dtype=self.df.dtype, device=self.df.device)
        y = x * (self._chi2.rsample(sample_shape) / self.df).rsqrt()
        return self.loc + self.scale * y

    def _log_total(self) -> Any:
        df = self.df
        halves = (0.5 * df).lgamma() - (0.5 * (df + 1.0)).lgamma()
        return 0.5 * df.log() + 0.5 * math.log(math.pi) + halves

    def log_prob(self, value: Any) -> Any:
        """The log density."""
        y = (self._checked(value) - self.loc) / self.scale
        tail = 0.5 * (self.df + 1.0) * (y**2 / self.df).log1p()
        return -tail - self.scale.log() - self._log_total()

    def entropy(self) -> Any:
        """The entropy."""
        half, more = 0.5 * self.df, 0.5 * (self.df + 1)
        beta = half.lgamma() + math.lgamma(0.5) - more.lgamma()
        spread = self.scale.log() + more * (more.digamma() - half.digamma())
        return spread + 0.5 * self.df.log() + beta


class FisherSnedecor(Distribution):
    """The quotient of two chi-squared variates, each over its degrees of freedom.

    Args:
        df1, df2: degrees of freedom.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {
        "df1": constraints.positive,
        "df2": constraints.positive,
    }
    support = constraints.positive
    has_rsample = True

    def __init__(self, df1: Any, df2: Any, validate_args: bool | None = None) -> None:
        self.df1, self.df2 = broadcast_all(df1, df2)
        self._gamma1 = Gamma(self.df1 * 0.5, self.df1, validate_args=False)
        self._gamma2 = Gamma(self.df2 * 0.5, self.df2, validate_args=False)
        super().__init__(self.df1.size(), validate_args=validate_args)

    @property
    def mean(self) -> Any:
        """The mean; NaN for df2 <= 2."""
        df2 = flambeau.where(self.df2 <= 2, math.nan, self.df2)
        return df2 / (df2 - 2)

    @property
    def mode(self) -> Any:
        """Where it is densest; NaN for df1 <= 2."""
        mode = (self.df1 - 2) / self.df1 * self.df2 / (self.df2 + 2)
        return flambeau.where(self.df1 <= 2, math.nan, mode)

    @property
    def variance(self) -> Any:
        """The variance; NaN for df2 <= 4."""
        df1, df2 = self.df1, flambeau.where(self.df2 <= 4, math.nan, self.df2)
        return 2 * df2**2 * (df1 + df2 - 2) / (df1 * (df2 - 2) ** 2 * (df2 - 4))

    def rsample(self, sample_shape: Any = ()) -> Any:
        """Values with gradients."""
        above = self._gamma1.rsample(sample_shape)
        below = self._gamma2.rsample(sample_shape)
        tiny = flambeau.finfo(below.dtype).tiny
        return (above / below.clamp(min=tiny)).clamp(min=tiny)

    def log_prob(self, value: Any) -> Any:
        """The log density."""
        self._validate_sample(value)
        half1, half2, quotient = self.df1 * 0.5, self.df2 * 0.5, self.df1 / self.df2
        constants = (half1 + half2).lgamma() - half1.lgamma() - half2.lgamma()
        powers = half1 * quotient.log() + (half1 - 1) * flambeau.log(value)
        return constants + powers - (half1 + half2) * flambeau.log1p(quotient * value)
