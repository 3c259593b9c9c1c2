"""The base classes of distributions, and what their parameters have in common."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Self

import flambeau
from flambeau.distributions import constraints
from flambeau.size import Size


def broadcast_all(*values: Any) -> tuple[Any, ...]:
    """Numbers and tensors as tensors of one shape; numbers take the tensors' dtype.

    Raises:
        ValueError: something else.
    """
    for v in values:
        if not isinstance(v, (flambeau.Tensor, int, float, bool)):
            raise ValueError(
                "Input arguments must all be instances of Number, torch.Tensor or objects"
                " implementing __torch_function__."
            )
    tensors = [v for v in values if isinstance(v, flambeau.Tensor)]
    like: dict[str, Any] = {"dtype": flambeau.get_default_dtype()}
    if tensors:
        like = {"dtype": tensors[0].dtype, "device": tensors[0].device}
    made = [v if isinstance(v, flambeau.Tensor) else flambeau.tensor(v, **like) for v in values]
    return tuple(flambeau.broadcast_tensors(*made))


def clamp_probs(probs: Any) -> Any:
    """Probabilities kept an eps away from 0 and 1."""
    eps = flambeau.finfo(probs.dtype).eps
    return probs.clamp(min=eps, max=1 - eps)


def logits_to_probs(logits: Any, is_binary: bool = False) -> Any:
    """Probabilities from their logits: by sigmoid, or by softmax over the last dimension."""
    return logits.sigmoid() if is_binary else logits.softmax(-1)


def probs_to_logits(probs: Any, is_binary: bool = False) -> Any:
    """Logits of probabilities, the inverse of `logits_to_probs`."""
    kept = clamp_probs(probs)
    return kept.log() - (-kept).log1p() if is_binary else kept.log()


def sum_rightmost(value: Any, dim: int) -> Any:
    """The sum over the last `dim` dimensions."""
    return value if dim == 0 else value.reshape(value.shape[: value.dim() - dim] + (-1,)).sum(-1)


class lazy_property:
    """A property that is computed once, with gradients on, and then is an attribute."""

    def __init__(self, wrapped: Any) -> None:
        self.wrapped = wrapped
        self.name = wrapped.__name__
        self.__doc__ = wrapped.__doc__

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self
        with flambeau.enable_grad():
            value = self.wrapped(instance)
        instance.__dict__[self.name] = value
        return value


class Distribution:
    """A distribution of values of shape `event_shape`, for each place of `batch_shape`.

    Args:
        batch_shape: of independent distributions with parameters of their own.
        event_shape: of one value.
        validate_args: whether parameters and values are checked (a check reads them); the class's
            `set_default_validate_args` unless said.

    Attributes:
        arg_constraints: parameter -> what it must satisfy.
        support: what a value satisfies.
        has_rsample: whether samples carry gradients to the parameters.

    Raises:
        ValueError: a parameter that is out of its range.
    """

    has_rsample = False
    has_enumerate_support = False
    _validate_args = __debug__
    arg_constraints: ClassVar[dict[str, Any]] = {}
    support: Any = None
    #: tensors that are the same for the whole batch
    _shared: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self, batch_shape: Any = (), event_shape: Any = (), validate_args: bool | None = None
    ) -> None:
        self._batch_shape = Size(batch_shape)
        self._event_shape = Size(event_shape)
        if validate_args is not None:
            self._validate_args = validate_args
        if not self._validate_args:
            return
        checks = [  # all of them, before one is read: they are computed together
            (name, constraint, self.__dict__[name], constraint.check(self.__dict__[name]).all())
            for name, constraint in self._constraints().items()
            if name in self.__dict__ and not constraints.is_dependent(constraint)
        ]
        for name, constraint, value, holds in checks:
            if not bool(holds):
                raise ValueError(
                    f"Expected parameter {name} ({type(value).__name__} of shape"
                    f" {tuple(value.shape)}) of distribution {type(self).__name__}"
                    f"({self._parameter_text()}) to satisfy the constraint {constraint!r}, but"
                    f" found invalid values:\n{value}"
                )

    def _constraints(self) -> dict[str, Any]:
        found: dict[str, Any] = self.arg_constraints
        return found

    def _parameter_text(self) -> str:
        return ", ".join(
            f"{name}: {value if value.numel() == 1 else value.size()}"
            for name, value in self._given().items()
        )

    def _given(self) -> dict[str, Any]:
        """The parameters that were given, as tensors."""
        return {
            name: self.__dict__[name]
            for name in self._constraints()
            if isinstance(self.__dict__.get(name), flambeau.Tensor)
        }

    @staticmethod
    def set_default_validate_args(value: bool) -> None:
        """Whether distributions check their arguments unless told."""
        if value not in (True, False):
            raise ValueError
        Distribution._validate_args = value

    @property
    def batch_shape(self) -> Size:
        """Shape of the batch of distributions."""
        return self._batch_shape

    @property
    def event_shape(self) -> Size:
        """Shape of one value."""
        return self._event_shape

    def expand(self, batch_shape: Any, _instance: Any = None) -> Self:
        """The same distributions for a larger batch, whose parameters are views.

        Args:
            batch_shape: that `batch_shape` broadcasts to.
        """
        batch = Size(batch_shape)
        new = self._get_checked_instance(Distribution, _instance)
        for name, value in self.__dict__.items():
            if isinstance(value, flambeau.Tensor) and name not in self._shared:
                rest = value.shape[len(self._batch_shape) :]
                value = value.expand(batch + rest)
            elif isinstance(value, Distribution):
                value = value.expand(batch + value.batch_shape[len(self._batch_shape) :])
            new.__dict__[name] = value
        new._batch_shape = batch
        return new

    def _get_checked_instance(self, cls: Any, _instance: Any = None) -> Any:
        """An instance without its initialiser."""
        return type(self).__new__(type(self)) if _instance is None else _instance

    @property
    def mean(self) -> Any:
        """The mean of each distribution."""
        raise NotImplementedError

    @property
    def mode(self) -> Any:
        """Where each distribution is densest."""
        raise NotImplementedError(f"{type(self)} does not implement mode")

    @property
    def variance(self) -> Any:
        """The variance of each distribution."""
        raise NotImplementedError

    @property
    def stddev(self) -> Any:
        """The standard deviation of each distribution."""
        return self.variance.sqrt()

    def sample(self, sample_shape: Any = ()) -> Any:
        """Values, `sample_shape` of them for each distribution, without gradient."""
        with flambeau.no_grad():
            return self.rsample(sample_shape)

    def rsample(self, sample_shape: Any = ()) -> Any:
        """Values that carry gradients to the parameters."""
        raise NotImplementedError

    def sample_n(self, n: int) -> Any:
        """n values of each distribution."""
        return self.sample((n,))

    def log_prob(self, value: Any) -> Any:
        """The logarithm of the density (or probability) at a value."""
        raise NotImplementedError

    def cdf(self, value: Any) -> Any:
        """The probability of values up to this one."""
        raise NotImplementedError

    def icdf(self, value: Any) -> Any:
        """The value below which a part of the probability lies."""
        raise NotImplementedError

    def enumerate_support(self, expand: bool = True) -> Any:
        """All values, along a new first dimension."""
        raise NotImplementedError

    def entropy(self) -> Any:
        """The entropy of each distribution, in nats."""
        raise NotImplementedError

    def perplexity(self) -> Any:
        """exp of the entropy."""
        return self.entropy().exp()

    def _extended_shape(self, sample_shape: Any = ()) -> Size:
        return Size(tuple(sample_shape) + tuple(self._batch_shape) + tuple(self._event_shape))

    def _validate_sample(self, value: Any) -> None:
        """Whether a value has a shape that fits and is in the support.

        Raises:
            ValueError: it is not.
        """
        if not self._validate_args:
            return
        if not isinstance(value, flambeau.Tensor):
            raise ValueError("The value argument to log_prob must be a Tensor")
        start = len(value.shape) - len(self._event_shape)
        if value.shape[start:] != self._event_shape:
            raise ValueError(
                f"The right-most size of value must match event_shape: {value.shape} vs"
                f" {self._event_shape}."
            )
        full = self._batch_shape + self._event_shape
        for i, j in zip(reversed(value.shape), reversed(full), strict=False):
            if i not in (1, j) and j != 1:
                raise ValueError(
                    f"Value is not broadcastable with batch_shape+event_shape: {value.shape} vs"
                    f" {full}."
                )
        try:
            support = self.support
        except NotImplementedError:
            return
        if support is None or constraints.is_dependent(support):
            return
        if not bool(support.check(value).all()):
            raise ValueError(
                "Expected value argument "
                f"({type(value).__name__} of shape {tuple(value.shape)}) to be within the support"
                f" ({support!r}) of the distribution {self!r}, but found invalid values:\n{value}"
            )

    def _checked(self, value: Any) -> Any:
        """A value, validated."""
        self._validate_sample(value)
        return value

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._parameter_text()})"


def shape_of(value: Any) -> Size:
    """The shape of a parameter as it was given; that of a number is empty."""
    return value.size() if isinstance(value, flambeau.Tensor) else Size()


class ExponentialFamily(Distribution):
    """A distribution with density ``exp(<t(x), theta> - F(theta) + k(x))``.

    Its entropy and divergences follow from F, the log normaliser, by differentiation.
    """

    @property
    def _natural_params(self) -> tuple[Any, ...]:
        """theta."""
        raise NotImplementedError

    def _log_normalizer(self, *natural_params: Any) -> Any:
        """F."""
        raise NotImplementedError

    @property
    def _mean_carrier_measure(self) -> Any:
        """The mean of k."""
        raise NotImplementedError

    def entropy(self) -> Any:
        """The entropy, as the Bregman divergence of F."""
        result = -self._mean_carrier_measure
        places = [p.detach().requires_grad_() for p in self._natural_params]
        with flambeau.enable_grad():
            normaliser = self._log_normalizer(*places)
            slopes = flambeau.autograd.grad(normaliser.sum(), places, create_graph=True)
        result = result + normaliser
        for place, slope in zip(places, slopes, strict=True):
            result = result - (place * slope).reshape(*self._batch_shape, -1).sum(-1)
        return result


def log_or_least(x: Any) -> Any:
    """log(x), and the least finite number where x is 0."""
    return x.log().clamp(min=flambeau.finfo(x.dtype).min)


EULER = 0.57721566490153286060
HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)
