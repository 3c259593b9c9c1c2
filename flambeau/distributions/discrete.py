"""Distributions of counts and classes, and the continuous Bernoulli distribution."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import flambeau
from flambeau.distributions import constraints
from flambeau.distributions.distribution import (
    Distribution,
    ExponentialFamily,
    broadcast_all,
    clamp_probs,
    lazy_property,
    logits_to_probs,
    probs_to_logits,
    shape_of,
)
from flambeau.distributions.gamma import Gamma
from flambeau.nn.functional import binary_cross_entropy_with_logits
from flambeau.size import Size


class _Odds(Distribution):
    """A distribution given by probabilities or by their logits, and either from the other."""

    arg_constraints: ClassVar[dict[str, Any]] = {
        "probs": constraints.unit_interval,
        "logits": constraints.real,
    }
    _binary = True

    def _take(self, probs: Any, logits: Any) -> Any:
        """Note which was given; -> it, as a tensor.

        Raises:
            ValueError: both or neither.
        """
        if (probs is None) == (logits is None):
            raise ValueError("Either `probs` or `logits` must be specified, but not both.")
        name, value = ("probs", probs) if logits is None else ("logits", logits)
        self._number = not isinstance(value, flambeau.Tensor)
        (self.__dict__[name],) = broadcast_all(value)
        return self.__dict__[name]

    @property
    def _param(self) -> Any:
        return self.__dict__.get("probs", self.__dict__.get("logits"))

    @lazy_property
    def logits(self) -> Any:
        """Log odds."""
        return probs_to_logits(self.probs, self._binary)

    @lazy_property
    def probs(self) -> Any:
        """Probabilities."""
        return logits_to_probs(self.logits, self._binary)

    @property
    def param_shape(self) -> Any:
        """The shape of the parameter."""
        return self._param.size()


class Bernoulli(_Odds, ExponentialFamily):
    """1 with a probability, else 0.

    Args:
        probs: of 1.
        logits: log odds of 1; one of the two.
    """

    support = constraints.boolean
    has_enumerate_support = True
    _mean_carrier_measure = 0

    def __init__(
        self, probs: Any = None, logits: Any = None, validate_args: bool | None = None
    ) -> None:
        super().__init__(shape_of(self._take(probs, logits)), validate_args=validate_args)

    @property
    def mean(self) -> Any:
        """The probability."""
        return self.probs

    @property
    def mode(self) -> Any:
        """The likelier value; NaN where both are."""
        return flambeau.where(self.probs == 0.5, math.nan, (self.probs >= 0.5).to(self.probs))

    @property
    def variance(self) -> Any:
        """The variance."""
        return self.probs * (1 - self.probs)

    def sample(self, sample_shape: Any = ()) -> Any:
        """Values."""
        with flambeau.no_grad():
            return flambeau.bernoulli(self.probs.expand(self._extended_shape(sample_shape)))

    def log_prob(self, value: Any) -> Any:
        """The log probability."""
        value = self._checked(value)
        logits, value = broadcast_all(self.logits, value)
        return -binary_cross_entropy_with_logits(logits, value.to(logits.dtype), reduction="none")

    def entropy(self) -> Any:
        """The entropy."""
        return binary_cross_entropy_with_logits(self.logits, self.probs, reduction="none")

    def enumerate_support(self, expand: bool = True) -> Any:
        """0 and 1."""
        values = flambeau.arange(2, dtype=self._param.dtype, device=self._param.device)
        values = values.view((-1,) + (1,) * len(self._batch_shape))
        return values.expand((-1, *self._batch_shape)) if expand else values

    @property
    def _natural_params(self) -> tuple[Any, ...]:
        return (flambeau.logit(self.probs),)

    def _log_normalizer(self, x: Any) -> Any:
        return x.exp().log1p()


class Geometric(_Odds):
    """How many failures come before the first success.

    Args:
        probs: of a success, above 0.
        logits: log odds of it; one of the two.
    """

    support = constraints.nonnegative_integer

    def __init__(
        self, probs: Any = None, logits: Any = None, validate_args: bool | None = None
    ) -> None:
        super().__init__(shape_of(self._take(probs, logits)), validate_args=validate_args)
        if self._validate_args and probs is not None and not bool((self.probs > 0).all()):
            raise ValueError(
                "Expected parameter probs of distribution Geometric to be positive but found"
                f" invalid values:\n{self.probs}"
            )

    @property
    def mean(self) -> Any:
        """The mean."""
        return 1.0 / self.probs - 1.0

    @property
    def mode(self) -> Any:
        """0."""
        return flambeau.zeros_like(self.probs)

    @property
    def variance(self) -> Any:
        """The variance."""
        return (1.0 / self.probs - 1.0) / self.probs

    def sample(self, sample_shape: Any = ()) -> Any:
        """Values."""
        shape = self._extended_shape(sample_shape)
        with flambeau.no_grad():
            u = flambeau.rand(shape, dtype=self.probs.dtype, device=self.probs.device)
            u = u.clamp(min=flambeau.finfo(u.dtype).tiny)
            return (u.log() / (-self.probs).log1p()).floor()

    def log_prob(self, value: Any) -> Any:
        """The log probability."""
        value, probs = broadcast_all(self._checked(value), self.probs)
        probs = flambeau.where((probs == 1) & (value == 0), 0.0, probs)
        return value * (-probs).log1p() + self.probs.log()

    def entropy(self) -> Any:
        """The entropy."""
        return (
            binary_cross_entropy_with_logits(self.logits, self.probs, reduction="none") / self.probs
        )


class _Counted(_Odds):
    """A distribution with a probability and a count."""

    def __init__(
        self, total_count: Any, probs: Any = None, logits: Any = None,
        validate_args: bool | None = None,
    ) -> None:  # fmt: skip
        given = self._take(probs, logits)
        self.total_count, given = broadcast_all(
            total_count.type_as(given) if isinstance(total_count, flambeau.Tensor) else total_count,
            given,
        )
        self.__dict__["probs" if logits is None else "logits"] = given
        Distribution.__init__(self, given.size(), validate_args=validate_args)


class Binomial(_Counted):
    """Successes among trials.

    Args:
        total_count: trials.
        probs: of a success.
        logits: log odds of it; one of the two.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {
        "total_count": constraints.nonnegative_integer,
        **_Odds.arg_constraints,
    }
    has_enumerate_support = True

    def __init__(
        self, total_count: Any = 1, probs: Any = None, logits: Any = None,
        validate_args: bool | None = None,
    ) -> None:  # fmt: skip
        super().__init__(total_count, probs, logits, validate_args)

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> Any:
        """0 to the number of trials."""
        return constraints.integer_interval(0, self.total_count)

    @property
    def mean(self) -> Any:
        """The mean."""
        return self.total_count * self.probs

    @property
    def mode(self) -> Any:
        """The likeliest count."""
        return ((self.total_count + 1) * self.probs).floor().clamp(max=self.total_count)

    @property
    def variance(self) -> Any:
        """The variance."""
        return self.total_count * self.probs * (1 - self.probs)

    def sample(self, sample_shape: Any = ()) -> Any:
        """Values."""
        shape = self._extended_shape(sample_shape)
        with flambeau.no_grad():
            return flambeau.binomial(self.total_count.expand(shape), self.probs.expand(shape))

    def log_prob(self, value: Any) -> Any:
        """The log probability."""
        value = self._checked(value)
        n, logits = self.total_count, self.logits
        ways = (n + 1).lgamma() - (value + 1).lgamma() - (n - value + 1).lgamma()
        # log(1 + exp(logits)) without overflow
        soft = logits.clamp(min=0) + (-logits.abs()).exp().log1p()
        return ways + value * logits - n * soft

    def entropy(self) -> Any:
        """The entropy, where all counts of trials are equal."""
        most = int(self.total_count.max())
        if not bool((self.total_count == most).all()):
            raise NotImplementedError("Inhomogeneous total count not supported by `entropy`.")
        log_prob = self.log_prob(self.enumerate_support(False))
        return -(log_prob.exp() * log_prob).sum(0)

    def enumerate_support(self, expand: bool = True) -> Any:
        """0 to the number of trials, where all are equal."""
        most = int(self.total_count.max())
        if not bool((self.total_count == most).all()):
            raise NotImplementedError(
                "Inhomogeneous total count not supported by `enumerate_support`."
            )
        values = flambeau.arange(1 + most, dtype=self._param.dtype, device=self._param.device)
        values = values.view((-1,) + (1,) * len(self._batch_shape))
        return values.expand((-1, *self._batch_shape)) if expand else values


class NegativeBinomial(_Counted):
    """Successes before a number of failures.

    Args:
        total_count: failures.
        probs: of a success, below 1.
        logits: log odds of it; one of the two.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {
        "total_count": constraints.greater_than_eq(0),
        "probs": constraints.half_open_interval(0.0, 1.0),
        "logits": constraints.real,
    }
    support = constraints.nonnegative_integer

    @property
    def mean(self) -> Any:
        """The mean."""
        return self.total_count * self.logits.exp()

    @property
    def mode(self) -> Any:
        """The likeliest count."""
        return ((self.total_count - 1) * self.logits.exp()).floor().clamp(min=0.0)

    @property
    def variance(self) -> Any:
        """The variance."""
        return self.mean / (-self.logits).sigmoid()

    def sample(self, sample_shape: Any = ()) -> Any:
        """Values: Poisson ones whose rates are gamma variates."""
        with flambeau.no_grad():
            rates = Gamma(self.total_count, (-self.logits).exp(), validate_args=False)
            return flambeau.poisson(rates.sample(sample_shape))

    def log_prob(self, value: Any) -> Any:
        """The log probability."""
        value = self._checked(value)
        n, sigmoid = self.total_count, flambeau.nn.functional.logsigmoid
        whole = n * sigmoid(-self.logits) + value * sigmoid(self.logits)
        ways = -(n + value).lgamma() + (1.0 + value).lgamma() + n.lgamma()
        return whole - flambeau.where(n + value == 0, 0.0, ways)


class Poisson(ExponentialFamily):
    """How many events happen, that come at a rate.

    Args:
        rate: the mean.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {"rate": constraints.nonnegative}
    support = constraints.nonnegative_integer

    def __init__(self, rate: Any, validate_args: bool | None = None) -> None:
        (self.rate,) = broadcast_all(rate)
        super().__init__(self.rate.size(), validate_args=validate_args)

    @property
    def mean(self) -> Any:
        """The rate."""
        return self.rate

    @property
    def mode(self) -> Any:
        """The rate rounded down."""
        return self.rate.floor()

    @property
    def variance(self) -> Any:
        """The rate."""
        return self.rate

    def sample(self, sample_shape: Any = ()) -> Any:
        """Values."""
        with flambeau.no_grad():
            return flambeau.poisson(self.rate.expand(self._extended_shape(sample_shape)))

    def log_prob(self, value: Any) -> Any:
        """The log probability."""
        rate, value = broadcast_all(self.rate, self._checked(value))
        return value.xlogy(rate) - rate - (value + 1).lgamma()

    @property
    def _natural_params(self) -> tuple[Any, ...]:
        return (self.rate.log(),)

    def _log_normalizer(self, x: Any) -> Any:
        return x.exp()


class Categorical(_Odds):
    """A class from 0 to K - 1.

    Args:
        probs: (..., K) of the classes, up to a factor.
        logits: their logarithms, up to a summand; one of the two.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {
        "probs": constraints.simplex,
        "logits": constraints.real_vector,
    }
    has_enumerate_support = True
    _binary = False

    def __init__(
        self, probs: Any = None, logits: Any = None, validate_args: bool | None = None
    ) -> None:
        given = self._take(probs, logits)
        if given.dim() < 1:
            name = "probs" if logits is None else "logits"
            raise ValueError(f"`{name}` parameter must be at least one-dimensional.")
        if logits is None:
            self.__dict__["probs"] = given / given.sum(-1, keepdim=True)
        else:
            self.__dict__["logits"] = given - given.logsumexp(-1, keepdim=True)
        self._num_events = given.size()[-1]
        super().__init__(given.size()[:-1], validate_args=validate_args)

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> Any:
        """0 to K - 1."""
        return constraints.integer_interval(0, self._num_events - 1)

    @property
    def mean(self) -> Any:
        """NaN: classes have none."""
        return flambeau.full(self._batch_shape, math.nan, dtype=self.probs.dtype)

    @property
    def mode(self) -> Any:
        """The likeliest class."""
        return self.probs.argmax(-1)

    @property
    def variance(self) -> Any:
        """NaN: classes have none."""
        return flambeau.full(self._batch_shape, math.nan, dtype=self.probs.dtype)

    def sample(self, sample_shape: Any = ()) -> Any:
        """Values."""
        shape = Size(sample_shape)
        rows = self.probs.detach().reshape(-1, self._num_events)
        drawn = flambeau.multinomial(rows, shape.numel(), True).T
        return drawn.reshape(self._extended_shape(shape))

    def log_prob(self, value: Any) -> Any:
        """The log probability."""
        value = self._checked(value).long().unsqueeze(-1)
        value, logits = flambeau.broadcast_tensors(value, self.logits)
        return logits.gather(-1, value[..., :1]).squeeze(-1)

    def entropy(self) -> Any:
        """The entropy."""
        logits = self.logits.clamp(min=flambeau.finfo(self.logits.dtype).min)
        return -(logits * self.probs).sum(-1)

    def enumerate_support(self, expand: bool = True) -> Any:
        """All classes."""
        values = flambeau.arange(self._num_events, dtype=flambeau.long, device=self._param.device)
        values = values.view((-1,) + (1,) * len(self._batch_shape))
        return values.expand((-1, *self._batch_shape)) if expand else values


class ChanceOf(Distribution):
    """A distribution whose parameters are those of a simpler one, `_chance`."""

    _chance: Any

    @property
    def probs(self) -> Any:
        """The probabilities."""
        return self._chance.probs

    @property
    def logits(self) -> Any:
        """Their logits."""
        return self._chance.logits

    @property
    def _param(self) -> Any:
        return self._chance._param

    @property
    def param_shape(self) -> Any:
        """The shape of the parameter."""
        return self._chance.param_shape

    def _given(self) -> dict[str, Any]:
        found: dict[str, Any] = self._chance._given()
        return found


class OneHotCategorical(ChanceOf):
    """A class as a vector with one 1.

    Args:
        probs: (..., K) of the classes, up to a factor.
        logits: their logarithms, up to a summand; one of the two.
    """

    arg_constraints: ClassVar[dict[str, Any]] = Categorical.arg_constraints
    support = constraints.one_hot
    has_enumerate_support = True

    def __init__(
        self, probs: Any = None, logits: Any = None, validate_args: bool | None = None
    ) -> None:
        self._chance = Categorical(probs, logits, validate_args=validate_args)
        shape = self._chance.param_shape
        super().__init__(shape[:-1], shape[-1:], validate_args=validate_args)

    @property
    def mean(self) -> Any:
        """The probabilities."""
        return self._chance.probs

    @property
    def mode(self) -> Any:
        """The likeliest class."""
        return self._hot(self._chance.mode)

    @property
    def variance(self) -> Any:
        """The variances."""
        return self.probs * (1 - self.probs)

    def _hot(self, classes: Any) -> Any:
        found = flambeau.nn.functional.one_hot(classes, self._event_shape[-1])
        return found.to(self._chance._param.dtype)

    def sample(self, sample_shape: Any = ()) -> Any:
        """Values."""
        return self._hot(self._chance.sample(sample_shape))

    def log_prob(self, value: Any) -> Any:
        """The log probability."""
        return self._chance.log_prob(self._checked(value).max(-1)[1])

    def entropy(self) -> Any:
        """The entropy."""
        return self._chance.entropy()

    def enumerate_support(self, expand: bool = True) -> Any:
        """All classes."""
        count = self._event_shape[0]
        values = flambeau.eye(count, dtype=self._param.dtype, device=self._param.device)
        values = values.view((count, *(1,) * len(self._batch_shape), count))
        return values.expand((count, *self._batch_shape, count)) if expand else values


class OneHotCategoricalStraightThrough(OneHotCategorical):
    """A class as a vector with one 1, whose gradient is taken for that of the probabilities.

    Reference:
        Bengio, Leonard and Courville, Estimating or Propagating Gradients Through Stochastic
        Neurons for Conditional Computation (arXiv:1308.3432).
    """

    has_rsample = True

    def rsample(self, sample_shape: Any = ()) -> Any:
        """Values with gradients."""
        probs = self._chance.probs
        return self.sample(sample_shape) + (probs - probs.detach())


class Multinomial(ChanceOf):
    """How often each class comes up.

    Args:
        total_count: draws, one number.
        probs: (..., K) of the classes, up to a factor.
        logits: their logarithms, up to a summand; one of the two.
    """

    arg_constraints: ClassVar[dict[str, Any]] = Categorical.arg_constraints
    total_count: int

    def __init__(
        self, total_count: int = 1, probs: Any = None, logits: Any = None,
        validate_args: bool | None = None,
    ) -> None:  # fmt: skip
        if not isinstance(total_count, int):
            raise NotImplementedError("inhomogeneous total_count is not supported")
        self.total_count = total_count
        self._chance = Categorical(probs, logits, validate_args=validate_args)
        shape = self._chance.param_shape
        super().__init__(shape[:-1], shape[-1:], validate_args=validate_args)

    @constraints.dependent_property(is_discrete=True, event_dim=1)
    def support(self) -> Any:
        """Counts that are not more than the draws."""
        return constraints.multinomial(self.total_count)

    @property
    def mean(self) -> Any:
        """The means."""
        return self.probs * self.total_count

    @property
    def variance(self) -> Any:
        """The variances."""
        return self.total_count * self.probs * (1 - self.probs)

    def sample(self, sample_shape: Any = ()) -> Any:
        """Values."""
        drawn = self._chance.sample((self.total_count, *sample_shape))
        hot = flambeau.nn.functional.one_hot(drawn, self._event_shape[-1])
        return hot.sum(0).to(self.probs.dtype)

    def log_prob(self, value: Any) -> Any:
        """The log probability."""
        value = self._checked(value)
        logits, value = broadcast_all(self.logits, value)
        ways = (value.sum(-1) + 1).lgamma() - (value + 1).lgamma().sum(-1)
        logits = flambeau.where((value == 0) & (logits == -math.inf), 0.0, logits)
        return ways + (logits * value).sum(-1)

    def entropy(self) -> Any:
        """The entropy."""
        n = flambeau.tensor(self.total_count)
        support = Binomial(total_count=self.total_count, probs=self.probs, validate_args=False)
        values = support.enumerate_support(expand=True)[1:]
        weights = support.log_prob(values).exp()
        return (
            self.total_count * self._chance.entropy()
            - (n + 1.0).lgamma()
            + ((weights * (values + 1).lgamma()).sum((0, -1)))
        )


class ContinuousBernoulli(_Odds, ExponentialFamily):
    """Values from 0 to 1 with density ``C probs^x (1 - probs)^(1 - x)``.

    Args:
        probs: see above.
        logits: log odds; one of the two.
        lims: between which C is computed by a series around 1/2.

    Reference:
        Loaiza-Ganem and Cunningham, The continuous Bernoulli: fixing a pervasive error in
        variational autoencoders (arXiv:1907.06845).
    """

    support = constraints.unit_interval
    has_rsample = True
    _mean_carrier_measure = 0

    def __init__(
        self, probs: Any = None, logits: Any = None, lims: tuple[float, float] = (0.499, 0.501),
        validate_args: bool | None = None,
    ) -> None:  # fmt: skip
        given = self._take(probs, logits)
        if logits is None:
            if validate_args is not False and not bool(
                constraints.unit_interval.check(given).all()
            ):
                raise ValueError("The parameter probs has invalid values")
            self.__dict__["probs"] = clamp_probs(given)
        self._lims = lims
        super().__init__(given.size(), validate_args=validate_args)

    def _apart(self) -> Any:
        """Where probs is far from 1/2."""
        return (self.probs <= self._lims[0]) | (self.probs > self._lims[1])

    def _cut(self) -> Any:
        """probs, away from 1/2."""
        return flambeau.where(self._apart(), self.probs, self._lims[0])

    def _log_constant(self) -> Any:
        cut = self._cut()
        low = flambeau.where(cut <= 0.5, cut, 0.0)
        high = flambeau.where(cut >= 0.5, cut, 1.0)
        below = flambeau.where(cut <= 0.5, (-2.0 * low).log1p(), (2.0 * high - 1.0).log())
        exact = ((-cut).log1p() - cut.log()).abs().log() - below
        x = (self.probs - 0.5) ** 2
        series = math.log(2.0) + (4.0 / 3.0 + 104.0 / 45.0 * x) * x
        return flambeau.where(self._apart(), exact, series)

    @property
    def mean(self) -> Any:
        """The mean."""
        cut = self._cut()
        exact = cut / (2.0 * cut - 1.0) + 1.0 / ((-cut).log1p() - cut.log())
        x = self.probs - 0.5
        series = 0.5 + (1.0 / 3.0 + 16.0 / 45.0 * x**2) * x
        return flambeau.where(self._apart(), exact, series)

    @property
    def variance(self) -> Any:
        """The variance."""
        cut = self._cut()
        exact = cut * (cut - 1.0) / (1.0 - 2.0 * cut) ** 2
        exact = exact + 1.0 / ((-cut).log1p() - cut.log()) ** 2
        x = (self.probs - 0.5) ** 2
        series = 1.0 / 12.0 - (1.0 / 15.0 - 128.0 / 945.0 * x) * x
        return flambeau.where(self._apart(), exact, series)

    def rsample(self, sample_shape: Any = ()) -> Any:
        """Values with gradients."""
        shape = self._extended_shape(sample_shape)
        u = flambeau.rand(shape, dtype=self.probs.dtype, device=self.probs.device)
        return self.icdf(u)

    def log_prob(self, value: Any) -> Any:
        """The log density."""
        value = self._checked(value)
        logits, value = broadcast_all(self.logits, value)
        cross = binary_cross_entropy_with_logits(logits, value, reduction="none")
        return -cross + self._log_constant()

    def cdf(self, value: Any) -> Any:
        """The distribution function."""
        value = self._checked(value)
        cut = self._cut()
        exact = (cut**value * (1.0 - cut) ** (1.0 - value) + cut - 1.0) / (2.0 * cut - 1.0)
        found = flambeau.where(self._apart(), exact, value)
        return flambeau.where(value <= 0, 0.0, flambeau.where(value >= 1, 1.0, found))

    def icdf(self, value: Any) -> Any:
        """The quantile function."""
        cut = self._cut()
        exact = (-cut + value * (2.0 * cut - 1.0)).log1p() - (-cut).log1p()
        exact = exact / (cut.log() - (-cut).log1p())
        return flambeau.where(self._apart(), exact, value)

    def entropy(self) -> Any:
        """The entropy."""
        log0, log1 = (-self.probs).log1p(), self.probs.log()
        return self.mean * (log0 - log1) - self._log_constant() - log0

    @property
    def _natural_params(self) -> tuple[Any, ...]:
        return (self.logits,)

    def _log_normalizer(self, x: Any) -> Any:
        apart = (x <= self._lims[0] - 0.5) | (x > self._lims[1] - 0.5)
        cut = flambeau.where(apart, x, self._lims[0] - 0.5)
        exact = (cut.exp() - 1).abs().log() - cut.abs().log()
        series = 0.5 * x + x**2 / 24.0 - x**4 / 2880.0
        return flambeau.where(apart, exact, series)
