"""Distributions of real numbers whose values are functions of uniform or normal ones."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import flambeau
from flambeau.distributions import constraints
from flambeau.distributions.distribution import (
    EULER,
    HALF_LOG_TAU,
    Distribution,
    ExponentialFamily,
    broadcast_all,
)


class _LocationScale(Distribution):
    """``loc + scale * z`` of a standard variate z."""

    arg_constraints: ClassVar[dict[str, Any]] = {
        "loc": constraints.real,
        "scale": constraints.positive,
    }
    support = constraints.real
    has_rsample = True

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None) -> None:
        self.loc, self.scale = broadcast_all(loc, scale)
        super().__init__(self.loc.size(), validate_args=validate_args)

    @property
    def mean(self) -> Any:
        """The location."""
        return self.loc

    @property
    def mode(self) -> Any:
        """The location."""
        return self.loc

    def _standard(self, shape: Any) -> Any:
        raise NotImplementedError

    def rsample(self, sample_shape: Any = ()) -> Any:
        """Values with gradients."""
        return self.loc + self._standard(self._extended_shape(sample_shape)) * self.scale

    def _z(self, value: Any) -> Any:
        return (self._checked(value) - self.loc) / self.scale

    def _uniform(self, shape: Any, low: float = 0.0) -> Any:
        """Values inside (low, 1), ends excluded."""
        eps = flambeau.finfo(self.loc.dtype).eps
        u = flambeau.rand(shape, dtype=self.loc.dtype, device=self.loc.device)
        return (low + (1 - low) * u).clamp(min=low + eps, max=1 - eps)


class Normal(_LocationScale, ExponentialFamily):
    """The normal distribution.

    Args:
        loc: mean.
        scale: standard deviation.
    """

    _mean_carrier_measure = 0

    @property
    def stddev(self) -> Any:
        """The scale."""
        return self.scale

    @property
    def variance(self) -> Any:
        """The scale squared."""
        return self.scale**2

    def _standard(self, shape: Any) -> Any:
        return flambeau.randn(shape, dtype=self.loc.dtype, device=self.loc.device)

    def log_prob(self, value: Any) -> Any:
        """The log density."""
        return -0.5 * self._z(value) ** 2 - self.scale.log() - HALF_LOG_TAU

    def cdf(self, value: Any) -> Any:
        """The distribution function."""
        return 0.5 * (1 + (self._z(value) / math.sqrt(2)).erf())

    def icdf(self, value: Any) -> Any:
        """The quantile function."""
        return self.loc + self.scale * (2 * value - 1).erfinv() * math.sqrt(2)

    def entropy(self) -> Any:
        """The entropy."""
        return 0.5 + HALF_LOG_TAU + self.scale.log()

    @property
    def _natural_params(self) -> tuple[Any, ...]:
        return self.loc / self.scale**2, -0.5 * self.scale**-2

    def _log_normalizer(self, x: Any, y: Any) -> Any:
        return -0.25 * x**2 / y + 0.5 * (-math.pi / y).log()


class Laplace(_LocationScale):
    """The double exponential distribution.

    Args:
        loc: mean.
        scale: mean distance from it.
    """

    @property
    def variance(self) -> Any:
        """Twice the scale squared."""
        return 2 * self.scale**2

    @property
    def stddev(self) -> Any:
        """sqrt(2) times the scale."""
        return 2**0.5 * self.scale

    def _standard(self, shape: Any) -> Any:
        u = self._uniform(shape, -1.0)
        return -u.sign() * (-u.abs()).log1p()

    def log_prob(self, value: Any) -> Any:
        """The log density."""
        return -(2 * self.scale).log() - self._z(value).abs()

    def cdf(self, value: Any) -> Any:
        """The distribution function."""
        z = self._z(value)
        return 0.5 - 0.5 * z.sign() * (-z.abs()).expm1()

    def icdf(self, value: Any) -> Any:
        """The quantile function."""
        term = value - 0.5
        return self.loc - self.scale * term.sign() * (-2 * term.abs()).log1p()

    def entropy(self) -> Any:
        """The entropy."""
        return 1 + (2 * self.scale).log()


class Cauchy(_LocationScale):
    """The Cauchy distribution; it has no mean.

    Args:
        loc: median.
        scale: half width at half of the greatest density.
    """

    @property
    def mean(self) -> Any:
        """NaN."""
        return flambeau.full_like(self.loc, math.nan)

    @property
    def variance(self) -> Any:
        """Infinite."""
        return flambeau.full_like(self.loc, math.inf)

    def _standard(self, shape: Any) -> Any:
        return flambeau.empty(shape, dtype=self.loc.dtype, device=self.loc.device).cauchy_()

    def log_prob(self, value: Any) -> Any:
        """The log density."""
        return -math.log(math.pi) - self.scale.log() - (self._z(value) ** 2).log1p()

    def cdf(self, value: Any) -> Any:
        """The distribution function."""
        return self._z(value).atan() / math.pi + 0.5

    def icdf(self, value: Any) -> Any:
        """The quantile function."""
        return (math.pi * (value - 0.5)).tan() * self.scale + self.loc

    def entropy(self) -> Any:
        """The entropy."""
        return math.log(4 * math.pi) + self.scale.log()


class Gumbel(_LocationScale):
    """The distribution of the largest of many.

    Args:
        loc: where it is densest.
        scale: how far it spreads.
    """

    @property
    def mean(self) -> Any:
        """The mean."""
        return self.loc + self.scale * EULER

    @property
    def stddev(self) -> Any:
        """The standard deviation."""
        return math.pi / math.sqrt(6) * self.scale

    @property
    def variance(self) -> Any:
        """The variance."""
        return self.stddev**2

    def _standard(self, shape: Any) -> Any:
        return -(-self._uniform(shape).log()).log()

    def log_prob(self, value: Any) -> Any:
        """The log density."""
        y = -self._z(value)
        return y - y.exp() - self.scale.log()

    def cdf(self, value: Any) -> Any:
        """The distribution function."""
        return (-(-self._z(value)).exp()).exp()

    def icdf(self, value: Any) -> Any:
        """The quantile function."""
        return self.loc - self.scale * (-value.log()).log()

    def entropy(self) -> Any:
        """The entropy."""
        return self.scale.log() + (1 + EULER)


class Uniform(Distribution):
    """All values from low to high alike, high excluded.

    Args:
        low, high: the ends.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {
        "low": constraints.dependent(is_discrete=False, event_dim=0),
        "high": constraints.dependent(is_discrete=False, event_dim=0),
    }
    has_rsample = True

    def __init__(self, low: Any, high: Any, validate_args: bool | None = None) -> None:
        self.low, self.high = broadcast_all(low, high)
        super().__init__(self.low.size(), validate_args=validate_args)
        if self._validate_args and not bool((self.low < self.high).all()):
            raise ValueError("Uniform is not defined when low>= high")

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self) -> Any:
        """From low to high."""
        return constraints.interval(self.low, self.high)

    @property
    def mean(self) -> Any:
        """The middle."""
        return (self.high + self.low) / 2

    @property
    def mode(self) -> Any:
        """NaN: there is none."""
        return math.nan * self.high

    @property
    def stddev(self) -> Any:
        """The standard deviation."""
        return (self.high - self.low) / 12**0.5

    @property
    def variance(self) -> Any:
        """The variance."""
        return (self.high - self.low) ** 2 / 12

    def rsample(self, sample_shape: Any = ()) -> Any:
        """Values with gradients."""
        shape = self._extended_shape(sample_shape)
        u = flambeau.rand(shape, dtype=self.low.dtype, device=self.low.device)
        return self.low + u * (self.high - self.low)

    def log_prob(self, value: Any) -> Any:
        """The log density."""
        self._validate_sample(value)
        inside = (self.low <= value) & (value < self.high)
        return inside.to(self.low.dtype).log() - (self.high - self.low).log()

    def cdf(self, value: Any) -> Any:
        """The distribution function."""
        return ((self._checked(value) - self.low) / (self.high - self.low)).clamp(0, 1)

    def icdf(self, value: Any) -> Any:
        """The quantile function."""
        return value * (self.high - self.low) + self.low

    def entropy(self) -> Any:
        """The entropy."""
        return (self.high - self.low).log()


class Exponential(ExponentialFamily):
    """The time to the next of events that come at a rate.

    Args:
        rate: one over the mean.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {"rate": constraints.positive}
    support = constraints.nonnegative
    has_rsample = True
    _mean_carrier_measure = 0

    def __init__(self, rate: Any, validate_args: bool | None = None) -> None:
        (self.rate,) = broadcast_all(rate)
        super().__init__(self.rate.size(), validate_args=validate_args)

    @property
    def mean(self) -> Any:
        """One over the rate."""
        return self.rate.reciprocal()

    @property
    def mode(self) -> Any:
        """0."""
        return flambeau.zeros_like(self.rate)

    @property
    def stddev(self) -> Any:
        """One over the rate."""
        return self.rate.reciprocal()

    @property
    def variance(self) -> Any:
        """One over the rate squared."""
        return self.rate**-2

    def rsample(self, sample_shape: Any = ()) -> Any:
        """Values with gradients."""
        drawn = flambeau.empty(
            self._extended_shape(sample_shape), dtype=self.rate.dtype, device=self.rate.device
        )
        return drawn.exponential_() / self.rate

    def log_prob(self, value: Any) -> Any:
        """The log density."""
        return self.rate.log() - self.rate * self._checked(value)

    def cdf(self, value: Any) -> Any:
        """The distribution function."""
        return 1 - (-self.rate * self._checked(value)).exp()

    def icdf(self, value: Any) -> Any:
        """The quantile function."""
        return -(-value).log1p() / self.rate

    def entropy(self) -> Any:
        """The entropy."""
        return 1.0 - self.rate.log()

    @property
    def _natural_params(self) -> tuple[Any, ...]:
        return (-self.rate,)

    def _log_normalizer(self, x: Any) -> Any:
        return -(-x).log()


class GeneralizedPareto(Distribution):
    """What exceeds a threshold, of most distributions.

    Args:
        loc: the threshold.
        scale: how far values spread.
        concentration: how heavy the tail is; 0 is the exponential distribution.

    Reference:
        Pickands, Statistical inference using extreme order statistics (1975).
    """

    arg_constraints: ClassVar[dict[str, Any]] = {
        "loc": constraints.real,
        "scale": constraints.positive,
        "concentration": constraints.real,
    }
    has_rsample = True

    def __init__(
        self, loc: Any, scale: Any, concentration: Any, validate_args: bool | None = None
    ) -> None:
        self.loc, self.scale, self.concentration = broadcast_all(loc, scale, concentration)
        super().__init__(self.loc.size(), validate_args=validate_args)

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self) -> Any:
        """From the threshold on, to an end where the concentration is negative."""
        end = self.loc - self.scale / self.concentration
        end = flambeau.where(self.concentration < 0, end, math.inf)
        return constraints.interval(self.loc, end)

    def _safe(self) -> tuple[Any, Any]:
        """-> where the concentration is about 0, and it with 1 there."""
        zero = flambeau.isclose(self.concentration, flambeau.zeros_like(self.concentration))
        return zero, flambeau.where(zero, 1.0, self.concentration)

    def rsample(self, sample_shape: Any = ()) -> Any:
        """Values with gradients."""
        shape = self._extended_shape(sample_shape)
        return self.icdf(flambeau.rand(shape, dtype=self.loc.dtype, device=self.loc.device))

    def log_prob(self, value: Any) -> Any:
        """The log density."""
        z = (self._checked(value) - self.loc) / self.scale
        zero, k = self._safe()
        tail = (1 + 1 / k) * flambeau.log1p(k * z)
        return -self.scale.log() - flambeau.where(zero, z, tail)

    def log_survival_function(self, value: Any) -> Any:
        """The log probability of values beyond this one."""
        z = (self._checked(value) - self.loc) / self.scale
        zero, k = self._safe()
        return flambeau.where(zero, -z, -flambeau.log1p(k * z) / k)

    def log_cdf(self, value: Any) -> Any:
        """The log of the distribution function."""
        return flambeau.log1p(-self.log_survival_function(value).exp())

    def cdf(self, value: Any) -> Any:
        """The distribution function."""
        return self.log_cdf(value).exp()

    def icdf(self, value: Any) -> Any:
        """The quantile function."""
        zero, k = self._safe()
        left = -flambeau.log1p(-value)
        return self.loc + self.scale * flambeau.where(zero, left, flambeau.expm1(k * left) / k)

    @property
    def mean(self) -> Any:
        """The mean; infinite from a concentration of 1 on."""
        k = self.concentration
        found = self.loc + self.scale / (1 - flambeau.where(k < 1, k, 0.0))
        return flambeau.where(k < 1, found, math.inf)

    @property
    def variance(self) -> Any:
        """The variance; infinite from a concentration of 1/2 on."""
        k = flambeau.where(self.concentration < 0.5, self.concentration, 0.0)
        found = self.scale**2 / ((1 - k) ** 2 * (1 - 2 * k))
        return flambeau.where(self.concentration < 0.5, found, math.inf)

    @property
    def mode(self) -> Any:
        """The threshold."""
        return self.loc

    def entropy(self) -> Any:
        """The entropy."""
        return (self.scale.log() + self.concentration + 1).expand(self._batch_shape)
