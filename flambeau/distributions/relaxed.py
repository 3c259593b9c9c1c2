"""Continuous variates that a temperature lets go to discrete ones, so that they have gradients."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import flambeau
from flambeau.distributions import constraints
from flambeau.distributions.discrete import Bernoulli, Categorical, ChanceOf
from flambeau.distributions.distribution import broadcast_all, clamp_probs
from flambeau.distributions.transformed import TransformedDistribution
from flambeau.distributions.transforms import ExpTransform, SigmoidTransform


class LogitRelaxedBernoulli(ChanceOf):
    """The logits of relaxed Bernoulli variates.

    Args:
        temperature: how far from 0 and 1 the values are.
        probs, logits: of 1; one of the two.
    """

    arg_constraints: ClassVar[dict[str, Any]] = Bernoulli.arg_constraints
    support = constraints.real
    has_rsample = True
    _shared = ("temperature",)

    def __init__(
        self, temperature: Any, probs: Any = None, logits: Any = None,
        validate_args: bool | None = None,
    ) -> None:  # fmt: skip
        self.temperature = temperature
        self._chance = Bernoulli(probs, logits, validate_args=validate_args)
        super().__init__(self._chance.batch_shape, validate_args=validate_args)

    def rsample(self, sample_shape: Any = ()) -> Any:
        """Values with gradients."""
        shape = self._extended_shape(sample_shape)
        probs = clamp_probs(self.probs.expand(shape))
        u = clamp_probs(flambeau.rand(shape, dtype=probs.dtype, device=probs.device))
        return (u.log() - (-u).log1p() + probs.log() - (-probs).log1p()) / self.temperature

    def log_prob(self, value: Any) -> Any:
        """The log density."""
        value = self._checked(value)
        logits, value = broadcast_all(self.logits, value)
        diff = logits - value * self.temperature
        temperature = flambeau.as_tensor(self.temperature, dtype=logits.dtype)
        return temperature.log() + diff - 2 * diff.exp().log1p()


class _Relaxed(TransformedDistribution):
    """An image whose temperature and probabilities are its base's."""

    arg_constraints: ClassVar[dict[str, Any]] = Bernoulli.arg_constraints
    has_rsample = True

    @property
    def temperature(self) -> Any:
        """How far from the corners the values are."""
        return self.base_dist.temperature

    @property
    def probs(self) -> Any:
        """The probabilities."""
        return self.base_dist.probs

    @property
    def logits(self) -> Any:
        """Their logits."""
        return self.base_dist.logits

    def _given(self) -> dict[str, Any]:
        found: dict[str, Any] = self.base_dist._given()
        return found


class RelaxedBernoulli(_Relaxed):
    """Values between 0 and 1 that a temperature lets go to one of them.

    Args:
        temperature: how far from 0 and 1 the values are.
        probs, logits: of 1; one of the two.

    Reference:
        Maddison, Mnih and Teh, The Concrete Distribution (arXiv:1611.00712).
    """

    support = constraints.unit_interval

    def __init__(
        self, temperature: Any, probs: Any = None, logits: Any = None,
        validate_args: bool | None = None,
    ) -> None:  # fmt: skip
        base = LogitRelaxedBernoulli(temperature, probs, logits)
        super().__init__(base, SigmoidTransform(), validate_args=validate_args)


class ExpRelaxedCategorical(ChanceOf):
    """The logarithms of relaxed one-hot vectors.

    Args:
        temperature: how far from the corners the values are.
        probs, logits: of the classes; one of the two.
    """

    arg_constraints: ClassVar[dict[str, Any]] = Categorical.arg_constraints
    support = constraints.real_vector
    has_rsample = True
    _shared = ("temperature",)

    def __init__(
        self, temperature: Any, probs: Any = None, logits: Any = None,
        validate_args: bool | None = None,
    ) -> None:  # fmt: skip
        self._chance = Categorical(probs, logits)
        self.temperature = temperature
        shape = self._chance.param_shape
        super().__init__(shape[:-1], shape[-1:], validate_args=validate_args)

    def rsample(self, sample_shape: Any = ()) -> Any:
        """Values with gradients."""
        shape = self._extended_shape(sample_shape)
        u = clamp_probs(flambeau.rand(shape, dtype=self.logits.dtype, device=self.logits.device))
        scores = (self.logits - (-u.log()).log()) / self.temperature
        return scores - scores.logsumexp(-1, keepdim=True)

    def log_prob(self, value: Any) -> Any:
        """The log density."""
        count = self._event_shape[-1]
        value = self._checked(value)
        logits, value = broadcast_all(self.logits, value)
        temperature = flambeau.as_tensor(self.temperature, dtype=logits.dtype)
        score = logits - value * temperature
        score = (score - score.logsumexp(-1, keepdim=True)).sum(-1)
        return score + math.lgamma(count) + temperature.log() * (count - 1)


class RelaxedOneHotCategorical(_Relaxed):
    """Proportions that a temperature lets go to a one-hot vector.

    Args:
        temperature: how far from the corners the values are.
        probs, logits: of the classes; one of the two.

    Reference:
        Jang, Gu and Poole, Categorical Reparameterization with Gumbel-Softmax (arXiv:1611.01144).
    """

    arg_constraints: ClassVar[dict[str, Any]] = Categorical.arg_constraints
    support = constraints.simplex

    def __init__(
        self, temperature: Any, probs: Any = None, logits: Any = None,
        validate_args: bool | None = None,
    ) -> None:  # fmt: skip
        base = ExpRelaxedCategorical(temperature, probs, logits, validate_args=validate_args)
        super().__init__(base, ExpTransform(), validate_args=validate_args)
