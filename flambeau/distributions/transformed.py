"""Distributions made of others: images under maps, several as one, mixtures."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import flambeau
from flambeau.distributions import constraints
from flambeau.distributions.continuous import Cauchy, Exponential, Normal, Uniform
from flambeau.distributions.discrete import Categorical
from flambeau.distributions.distribution import (
    EULER,
    Distribution,
    broadcast_all,
    sum_rightmost,
)
from flambeau.distributions.gamma import Gamma
from flambeau.distributions.transforms import (
    AbsTransform,
    AffineTransform,
    ComposeTransform,
    ExpTransform,
    PowerTransform,
    StickBreakingTransform,
    Transform,
)
from flambeau.size import Size


class Independent(Distribution):
    """A distribution some of whose batch dimensions are taken for dimensions of one value.

    Args:
        base_distribution: the distribution.
        reinterpreted_batch_ndims: how many of its last batch dimensions.
    """

    def __init__(
        self,
        base_distribution: Distribution,
        reinterpreted_batch_ndims: int,
        validate_args: bool | None = None,
    ) -> None:
        batch = base_distribution.batch_shape
        if reinterpreted_batch_ndims > len(batch):
            raise ValueError(
                "Expected reinterpreted_batch_ndims <= len(base_distribution.batch_shape), actual"
                f" {reinterpreted_batch_ndims} vs {len(batch)}"
            )
        cut = len(batch) - reinterpreted_batch_ndims
        self.base_dist = base_distribution
        self.reinterpreted_batch_ndims = reinterpreted_batch_ndims
        event = batch[cut:] + base_distribution.event_shape
        super().__init__(batch[:cut], event, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        """The same distributions for a larger batch."""
        kept = self._event_shape[: self.reinterpreted_batch_ndims]
        return type(self)(
            self.base_dist.expand(Size(batch_shape) + kept),
            self.reinterpreted_batch_ndims,
            validate_args=self._validate_args,
        )

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """As the base."""
        return self.base_dist.has_rsample

    @property
    def has_enumerate_support(self) -> bool:  # type: ignore[override]
        """As the base, where nothing is reinterpreted."""
        return self.reinterpreted_batch_ndims == 0 and self.base_dist.has_enumerate_support

    @constraints.dependent_property
    def support(self) -> Any:
        """The base's, along these dimensions."""
        found = self.base_dist.support
        if self.reinterpreted_batch_ndims:
            found = constraints.independent(found, self.reinterpreted_batch_ndims)
        return found

    @property
    def mean(self) -> Any:
        """The base's."""
        return self.base_dist.mean

    @property
    def mode(self) -> Any:
        """The base's."""
        return self.base_dist.mode

    @property
    def variance(self) -> Any:
        """The base's."""
        return self.base_dist.variance

    def sample(self, sample_shape: Any = ()) -> Any:
        """Values."""
        return self.base_dist.sample(sample_shape)

    def rsample(self, sample_shape: Any = ()) -> Any:
        """Values with gradients."""
        return self.base_dist.rsample(sample_shape)

    def log_prob(self, value: Any) -> Any:
        """The base's, summed."""
        return sum_rightmost(self.base_dist.log_prob(value), self.reinterpreted_batch_ndims)

    def entropy(self) -> Any:
        """The base's, summed."""
        return sum_rightmost(self.base_dist.entropy(), self.reinterpreted_batch_ndims)

    def enumerate_support(self, expand: bool = True) -> Any:
        """The base's, where nothing is reinterpreted."""
        if self.reinterpreted_batch_ndims > 0:
            raise NotImplementedError("Enumeration over cartesian product is not implemented")
        return self.base_dist.enumerate_support(expand=expand)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base_dist}, {self.reinterpreted_batch_ndims})"


class TransformedDistribution(Distribution):
    """The images of a distribution's values under maps.

    Args:
        base_distribution: the distribution.
        transforms: a map, or several, the first one first.
    """

    def __init__(
        self, base_distribution: Distribution, transforms: Any, validate_args: bool | None = None
    ) -> None:
        self.transforms = [transforms] if isinstance(transforms, Transform) else list(transforms)
        if not all(isinstance(t, Transform) for t in self.transforms):
            raise ValueError(
                f"transforms must be a Transform or a list of Transforms, but was {transforms}"
            )
        whole = ComposeTransform(self.transforms)
        shape = base_distribution.batch_shape + base_distribution.event_shape
        event_dims = len(base_distribution.event_shape)
        if len(shape) < whole.domain.event_dim:
            raise ValueError(
                "base_distribution needs to have shape with size at least"
                f" {whole.domain.event_dim}, but got {shape}."
            )
        image = whole.forward_shape(shape)
        base = base_distribution.expand(
            Size(whole.inverse_shape(image))[: len(whole.inverse_shape(image)) - event_dims]
        )
        more = whole.domain.event_dim - event_dims
        self.base_dist: Any = Independent(base, more) if more > 0 else base
        dims = whole.codomain.event_dim + max(event_dims - whole.domain.event_dim, 0)
        cut = len(image) - dims
        super().__init__(image[:cut], image[cut:], validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        """The same distributions for a larger batch."""
        new = self._get_checked_instance(TransformedDistribution, _instance)
        new.__dict__.update(self.__dict__)
        shape = ComposeTransform(self.transforms).inverse_shape(
            Size(batch_shape) + self._event_shape
        )
        cut = len(shape) - len(self.base_dist.event_shape)
        new.base_dist = self.base_dist.expand(Size(shape)[:cut])
        new._batch_shape = Size(batch_shape)
        return new

    @constraints.dependent_property(is_discrete=False)
    def support(self) -> Any:
        """The image of the base's."""
        if not self.transforms:
            return self.base_dist.support
        found = self.transforms[-1].codomain
        more = len(self._event_shape) - found.event_dim
        return constraints.independent(found, more) if more > 0 else found

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """As the base."""
        return bool(self.base_dist.has_rsample)

    def sample(self, sample_shape: Any = ()) -> Any:
        """Values."""
        with flambeau.no_grad():
            return self._image(self.base_dist.sample(sample_shape))

    def rsample(self, sample_shape: Any = ()) -> Any:
        """Values with gradients."""
        return self._image(self.base_dist.rsample(sample_shape))

    def _image(self, x: Any) -> Any:
        for t in self.transforms:
            x = t(x)
        return x

    def log_prob(self, value: Any) -> Any:
        """The log density."""
        y = self._checked(value)
        dims = len(self._event_shape)
        total: Any = 0.0
        for t in reversed(self.transforms):
            x = t.inv(y)
            dims += t.domain.event_dim - t.codomain.event_dim
            own = t.log_abs_det_jacobian(x, y)
            total = total - sum_rightmost(own, dims - t.domain.event_dim)
            y = x
        base = sum_rightmost(self.base_dist.log_prob(y), dims - len(self.base_dist.event_shape))
        return total + base

    def _turned(self, value: Any) -> Any:
        """A probability, or one minus it where the maps turn the order round."""
        sign: Any = 1
        for t in self.transforms:
            sign = sign * t.sign
        if isinstance(sign, int) and sign == 1:
            return value
        return sign * (value - 0.5) + 0.5

    def cdf(self, value: Any) -> Any:
        """The distribution function."""
        value = self._checked(value)
        for t in reversed(self.transforms):
            value = t.inv(value)
        return self._turned(self.base_dist.cdf(value))

    def icdf(self, value: Any) -> Any:
        """The quantile function."""
        return self._image(self.base_dist.icdf(self._turned(value)))


class _Named(TransformedDistribution):
    """An image of a distribution with parameters of its own: those of the class's constraints."""

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        """The same distributions for a larger batch."""
        new = super().expand(batch_shape, _instance)
        for name in self._given():
            value = new.__dict__[name]
            new.__dict__[name] = value.expand(
                Size(batch_shape) + value.shape[len(self._batch_shape) :]
            )
        return new


class LogNormal(_Named):
    """exp of a normal variate.

    Args:
        loc, scale: of the logarithm.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {
        "loc": constraints.real,
        "scale": constraints.positive,
    }
    support = constraints.positive
    has_rsample = True

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None) -> None:
        self.loc, self.scale = broadcast_all(loc, scale)
        super().__init__(Normal(self.loc, self.scale), ExpTransform(), validate_args=validate_args)

    @property
    def mean(self) -> Any:
        """The mean."""
        return (self.loc + self.scale**2 / 2).exp()

    @property
    def mode(self) -> Any:
        """Where it is densest."""
        return (self.loc - self.scale**2).exp()

    @property
    def variance(self) -> Any:
        """The variance."""
        square = self.scale**2
        return square.expm1() * (2 * self.loc + square).exp()

    def entropy(self) -> Any:
        """The entropy."""
        return self.base_dist.entropy() + self.loc


class LogisticNormal(TransformedDistribution):
    """Proportions made of normal variates by breaking sticks.

    Args:
        loc, scale: (..., K - 1), of the normal variates.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {
        "loc": constraints.real,
        "scale": constraints.positive,
    }
    support = constraints.simplex
    has_rsample = True

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None) -> None:
        base = Normal(loc, scale, validate_args=validate_args)
        base = base.expand(base.batch_shape if base.batch_shape else Size((1,)))
        super().__init__(base, StickBreakingTransform(), validate_args=validate_args)

    @property
    def loc(self) -> Any:
        """Of the normal variates."""
        return self.base_dist.base_dist.loc

    @property
    def scale(self) -> Any:
        """Of the normal variates."""
        return self.base_dist.base_dist.scale

    def _given(self) -> dict[str, Any]:
        return {"loc": self.loc, "scale": self.scale}


class _Half(_Named):
    """The absolute value of a symmetric variate around 0.

    Args:
        scale: of the variate.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {"scale": constraints.positive}
    support = constraints.nonnegative
    has_rsample = True
    _whole: ClassVar[Any] = None

    def __init__(self, scale: Any, validate_args: bool | None = None) -> None:
        (self.scale,) = broadcast_all(scale)
        base = self._whole(0, self.scale, validate_args=False)
        super().__init__(base, AbsTransform(), validate_args=validate_args)

    @property
    def mode(self) -> Any:
        """0."""
        return flambeau.zeros_like(self.scale)

    def log_prob(self, value: Any) -> Any:
        """The log density."""
        value = flambeau.as_tensor(value, dtype=self.scale.dtype, device=self.scale.device)
        self._validate_sample(value)
        found = self.base_dist.log_prob(value) + math.log(2)
        return flambeau.where(value >= 0, found, -math.inf)

    def cdf(self, value: Any) -> Any:
        """The distribution function."""
        return 2 * self.base_dist.cdf(self._checked(value)) - 1

    def icdf(self, value: Any) -> Any:
        """The quantile function."""
        return self.base_dist.icdf((value + 1) / 2)

    def entropy(self) -> Any:
        """The entropy."""
        return self.base_dist.entropy() - math.log(2)


class HalfNormal(_Half):
    """The absolute value of a normal variate with mean 0.

    Args:
        scale: its standard deviation.
    """

    _whole = Normal

    @property
    def mean(self) -> Any:
        """The mean."""
        return self.scale * math.sqrt(2 / math.pi)

    @property
    def variance(self) -> Any:
        """The variance."""
        return self.scale**2 * (1 - 2 / math.pi)


class HalfCauchy(_Half):
    """The absolute value of a Cauchy variate around 0.

    Args:
        scale: its scale.
    """

    _whole = Cauchy

    @property
    def mean(self) -> Any:
        """Infinite."""
        return flambeau.full_like(self.scale, math.inf)

    @property
    def variance(self) -> Any:
        """Infinite."""
        return flambeau.full_like(self.scale, math.inf)


class Pareto(_Named):
    """Values above a scale, whose logarithms are exponentially distributed.

    Args:
        scale: the least value.
        alpha: the exponent of the tail.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {
        "alpha": constraints.positive,
        "scale": constraints.positive,
    }

    def __init__(self, scale: Any, alpha: Any, validate_args: bool | None = None) -> None:
        self.scale, self.alpha = broadcast_all(scale, alpha)
        base = Exponential(self.alpha, validate_args=validate_args)
        maps = [ExpTransform(), AffineTransform(loc=0, scale=self.scale)]
        super().__init__(base, maps, validate_args=validate_args)

    @property
    def mean(self) -> Any:
        """The mean; infinite for alpha <= 1."""
        a = self.alpha.clamp(min=1)
        return a * self.scale / (a - 1)

    @property
    def mode(self) -> Any:
        """The scale."""
        return self.scale

    @property
    def variance(self) -> Any:
        """The variance; infinite for alpha <= 2."""
        a = self.alpha.clamp(min=2)
        return self.scale**2 * a / ((a - 1) ** 2 * (a - 2))

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self) -> Any:
        """From the scale on."""
        return constraints.greater_than_eq(self.scale)

    def entropy(self) -> Any:
        """The entropy."""
        return (self.scale / self.alpha).log() + (1 + self.alpha.reciprocal())


class Weibull(_Named):
    """A power of an exponential variate.

    Args:
        scale: of the values.
        concentration: one over the power.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {
        "scale": constraints.positive,
        "concentration": constraints.positive,
    }
    support = constraints.positive

    def __init__(self, scale: Any, concentration: Any, validate_args: bool | None = None) -> None:
        self.scale, self.concentration = broadcast_all(scale, concentration)
        self.concentration_reciprocal = self.concentration.reciprocal()
        base = Exponential(flambeau.ones_like(self.scale), validate_args=validate_args)
        maps = [
            PowerTransform(self.concentration_reciprocal),
            AffineTransform(loc=0, scale=self.scale),
        ]
        super().__init__(base, maps, validate_args=validate_args)

    @property
    def mean(self) -> Any:
        """The mean."""
        return self.scale * (1 + self.concentration_reciprocal).lgamma().exp()

    @property
    def mode(self) -> Any:
        """Where it is densest."""
        k = self.concentration
        return self.scale * ((k - 1) / k) ** k.reciprocal()

    @property
    def variance(self) -> Any:
        """The variance."""
        r = self.concentration_reciprocal
        return self.scale**2 * ((1 + 2 * r).lgamma().exp() - (2 * (1 + r).lgamma()).exp())

    def entropy(self) -> Any:
        """The entropy."""
        r = self.concentration_reciprocal
        return EULER * (1 - r) + (self.scale * r).log() + 1


class Kumaraswamy(_Named):
    """Values from 0 to 1 with distribution function ``1 - (1 - x^a)^b``.

    Args:
        concentration1, concentration0: a and b.
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
        self.concentration1, self.concentration0 = broadcast_all(concentration1, concentration0)
        base = Uniform(
            flambeau.zeros_like(self.concentration0),
            flambeau.ones_like(self.concentration0),
            validate_args=validate_args,
        )
        maps = [
            PowerTransform(exponent=self.concentration0.reciprocal()),
            AffineTransform(loc=1.0, scale=-1.0),
            PowerTransform(exponent=self.concentration1.reciprocal()),
        ]
        super().__init__(base, maps, validate_args=validate_args)

    def _moment(self, n: int) -> Any:
        a, b = 1 + n / self.concentration1, self.concentration0
        return (a.lgamma() + b.lgamma() - (a + b).lgamma() + b.log()).exp()

    @property
    def mean(self) -> Any:
        """The mean."""
        return self._moment(1)

    @property
    def mode(self) -> Any:
        """Where it is densest; NaN where both parameters are at most 1."""
        a, b = self.concentration1, self.concentration0
        found = (a.reciprocal() * ((a - 1) / (a * b - 1)).log()).exp()
        return flambeau.where((a < 1) | (b < 1), math.nan, found)

    @property
    def variance(self) -> Any:
        """The variance."""
        return self._moment(2) - self.mean**2

    def entropy(self) -> Any:
        """The entropy."""
        a, b = self.concentration1, self.concentration0
        t1, t0 = 1 - a.reciprocal(), 1 - b.reciprocal()
        harmonic = (b + 1).digamma() + EULER
        return t0 + t1 * harmonic - a.log() - b.log()


class InverseGamma(_Named):
    """One over a gamma variate.

    Args:
        concentration, rate: of the gamma variate.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {
        "concentration": constraints.positive,
        "rate": constraints.positive,
    }
    support = constraints.positive
    has_rsample = True

    def __init__(self, concentration: Any, rate: Any, validate_args: bool | None = None) -> None:
        base = Gamma(concentration, rate, validate_args=validate_args)
        self.concentration, self.rate = base.concentration, base.rate
        power = PowerTransform(flambeau.tensor(-1.0, dtype=base.rate.dtype))
        super().__init__(base, power, validate_args=validate_args)

    @property
    def mean(self) -> Any:
        """The mean; infinite for a concentration up to 1."""
        a = self.concentration
        found = self.rate / (flambeau.where(a > 1, a, 2.0) - 1)
        return flambeau.where(a > 1, found, math.inf)

    @property
    def mode(self) -> Any:
        """Where it is densest."""
        return self.rate / (self.concentration + 1)

    @property
    def variance(self) -> Any:
        """The variance; infinite for a concentration up to 2."""
        a = flambeau.where(self.concentration > 2, self.concentration, 3.0)
        found = self.rate**2 / ((a - 1) ** 2 * (a - 2))
        return flambeau.where(self.concentration > 2, found, math.inf)

    def entropy(self) -> Any:
        """The entropy."""
        a = self.concentration
        return a + self.rate.log() + a.lgamma() - (1 + a) * a.digamma()


class MixtureSameFamily(Distribution):
    """One of several distributions of a family, chosen for each value.

    Args:
        mixture_distribution: Categorical, of the choice.
        component_distribution: whose last batch dimension is over the components.
    """

    def __init__(
        self,
        mixture_distribution: Categorical,
        component_distribution: Distribution,
        validate_args: bool | None = None,
    ) -> None:
        if not isinstance(mixture_distribution, Categorical):
            raise ValueError(
                " The Mixture distribution needs to be an  instance of"
                " torch.distributions.Categorical"
            )
        if not isinstance(component_distribution, Distribution):
            raise ValueError(
                "The Component distribution need to be an instance of"
                " torch.distributions.Distribution"
            )
        batch = component_distribution.batch_shape
        for own, other in zip(
            reversed(mixture_distribution.batch_shape), reversed(batch[:-1]), strict=False
        ):
            if own != 1 and other != 1 and own != other:
                raise ValueError(
                    f"`mixture_distribution.batch_shape` ({mixture_distribution.batch_shape}) is"
                    f" not compatible with `component_distribution.batch_shape`({batch[:-1]})"
                )
        count = mixture_distribution.logits.shape[-1]
        if batch[-1] is not None and count != batch[-1]:
            raise ValueError(
                f"`mixture_distribution component` ({count}) does not equal"
                f" `component_distribution.batch_shape[-1]` ({batch[-1]})"
            )
        self._mixture_distribution = mixture_distribution
        self._component_distribution = component_distribution
        self._num_component = count
        super().__init__(batch[:-1], component_distribution.event_shape, validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        """The same distributions for a larger batch."""
        return type(self)(
            self._mixture_distribution.expand(batch_shape),
            self._component_distribution.expand(Size(batch_shape) + (self._num_component,)),
            validate_args=self._validate_args,
        )

    @constraints.dependent_property
    def support(self) -> Any:
        """What all components allow."""
        return constraints.MixtureSameFamilyConstraint(self._component_distribution.support)

    @property
    def mixture_distribution(self) -> Any:
        """Of the choice."""
        return self._mixture_distribution

    @property
    def component_distribution(self) -> Any:
        """Of the components."""
        return self._component_distribution

    def _weights(self) -> Any:
        probs = self.mixture_distribution.probs
        return probs.reshape(probs.shape + (1,) * len(self._event_shape))

    @property
    def mean(self) -> Any:
        """The mean."""
        dim = -1 - len(self._event_shape)
        return (self._weights() * self.component_distribution.mean).sum(dim)

    @property
    def variance(self) -> Any:
        """The variance: that inside the components and that of their means."""
        dim = -1 - len(self._event_shape)
        weights, parts = self._weights(), self.component_distribution
        apart = (parts.mean - self.mean.unsqueeze(dim)) ** 2
        return (weights * parts.variance).sum(dim) + (weights * apart).sum(dim)

    def _each(self, x: Any) -> Any:
        return x.unsqueeze(-1 - len(self._event_shape))

    def cdf(self, x: Any) -> Any:
        """The distribution function."""
        return (self.component_distribution.cdf(self._each(x)) * self._weights()).sum(-1)

    def log_prob(self, x: Any) -> Any:
        """The log density."""
        parts = self.component_distribution.log_prob(self._each(self._checked(x)))
        chosen = self.mixture_distribution.logits.log_softmax(-1)
        return (parts + chosen).logsumexp(-1)

    def sample(self, sample_shape: Any = ()) -> Any:
        """Values."""
        with flambeau.no_grad():
            dims = len(self._event_shape)
            which = self.mixture_distribution.sample(sample_shape)
            which = which.reshape(which.shape + (1,) * (dims + 1))
            every = self.component_distribution.sample(sample_shape)
            dim = every.dim() - dims - 1
            shape = every.shape[:dim] + (1,) + every.shape[dim + 1 :]
            return every.gather(dim, which.expand(shape)).squeeze(dim)

    def __repr__(self) -> str:
        return (
            f"MixtureSameFamily(\n  {self.mixture_distribution},\n  {self.component_distribution})"
        )
