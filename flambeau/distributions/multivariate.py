"""Distributions of vectors and matrices, and of angles."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import flambeau
from flambeau.distributions import constraints
from flambeau.distributions.distribution import (
    Distribution,
    ExponentialFamily,
    broadcast_all,
    lazy_property,
)
from flambeau.distributions.gamma import Beta, Chi2
from flambeau.size import Size, broadcast_shapes

_LOG_TAU = math.log(2 * math.pi)


def _solved(lower: Any, value: Any) -> Any:
    """The solution of a lower triangular system, whose batches broadcast."""
    return flambeau.linalg.solve_triangular(lower, value, upper=False)


def mahalanobis(lower: Any, diff: Any) -> Any:
    """d^T (L L^T)^-1 d for vectors d along the last dimension.

    Args:
        lower: L, (..., K, K).
        diff: (..., K).
    """
    return _solved(lower, diff.unsqueeze(-1)).squeeze(-1).square().sum(-1)


def _half_log_det(lower: Any) -> Any:
    return lower.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def precision_to_scale_tril(precision: Any) -> Any:
    """The Cholesky factor of a matrix's inverse, without the inverse."""
    flipped = flambeau.linalg.cholesky(flambeau.flip(precision, (-2, -1)))
    upper = flambeau.flip(flipped, (-2, -1)).mT
    eye = flambeau.eye(precision.shape[-1], dtype=precision.dtype, device=precision.device)
    return _solved(upper, eye.expand(upper.shape))


class _OfCovariance(Distribution):
    """A distribution of a covariance, its inverse or its Cholesky factor, whichever is given."""

    loc: Any

    @staticmethod
    def _chosen(**forms: Any) -> tuple[str, Any]:
        """-> (name, matrix) of the form that is given."""
        given = [(name, m) for name, m in forms.items() if m is not None]
        if len(given) != 1:
            raise ValueError(
                "Exactly one of covariance_matrix or precision_matrix or scale_tril may be"
                " specified."
            )
        name, matrix = given[0]
        if matrix.dim() < 2:
            raise ValueError(
                f"{name} must be at least two-dimensional, with optional leading batch dimensions"
            )
        return name, matrix

    def _factor(self, name: str) -> None:
        """Keep the Cholesky factor, too."""
        if name == "covariance_matrix":
            self.__dict__["scale_tril"] = flambeau.linalg.cholesky(self.covariance_matrix)
        elif name == "precision_matrix":
            self.__dict__["scale_tril"] = precision_to_scale_tril(self.precision_matrix)

    def _given(self) -> dict[str, Any]:
        names = getattr(self, "_shown", self._constraints())
        return {n: self.__dict__[n] for n in names if n in self.__dict__}

    @lazy_property
    def scale_tril(self) -> Any:
        """The covariance's Cholesky factor."""
        raise AttributeError("scale_tril")

    @lazy_property
    def covariance_matrix(self) -> Any:
        """The covariance."""
        return self.scale_tril @ self.scale_tril.mT

    @lazy_property
    def precision_matrix(self) -> Any:
        """The covariance's inverse."""
        eye = flambeau.eye(self._event_shape[-1], dtype=self.loc.dtype, device=self.loc.device)
        inverse = _solved(self.scale_tril, eye.expand(self.scale_tril.shape))
        return inverse.mT @ inverse


class MultivariateNormal(_OfCovariance):
    """The normal distribution of vectors.

    Args:
        loc: (..., K), the mean.
        covariance_matrix, precision_matrix, scale_tril: (..., K, K): the covariance, its inverse,
            or its Cholesky factor; one of the three.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {
        "loc": constraints.real_vector,
        "covariance_matrix": constraints.positive_definite,
        "precision_matrix": constraints.positive_definite,
        "scale_tril": constraints.lower_cholesky,
    }
    support = constraints.real_vector
    has_rsample = True

    def __init__(
        self, loc: Any, covariance_matrix: Any = None, precision_matrix: Any = None,
        scale_tril: Any = None, validate_args: bool | None = None,
    ) -> None:  # fmt: skip
        if loc.dim() < 1:
            raise ValueError("loc must be at least one-dimensional.")
        name, matrix = self._chosen(
            covariance_matrix=covariance_matrix,
            precision_matrix=precision_matrix,
            scale_tril=scale_tril,
        )
        batch = broadcast_shapes(matrix.shape[:-2], loc.shape[:-1])
        self.__dict__[name] = matrix.expand(Size(batch) + matrix.shape[-2:])
        self.loc = loc.expand(Size(batch) + loc.shape[-1:])
        super().__init__(batch, self.loc.shape[-1:], validate_args=validate_args)
        self._factor(name)
        self._shown = ("loc", name)

    @property
    def mean(self) -> Any:
        """The mean."""
        return self.loc

    @property
    def mode(self) -> Any:
        """The mean."""
        return self.loc

    @property
    def variance(self) -> Any:
        """The variances."""
        return self.scale_tril.pow(2).sum(-1)

    def rsample(self, sample_shape: Any = ()) -> Any:
        """Values with gradients."""
        shape = self._extended_shape(sample_shape)
        z = flambeau.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        return self.loc + (self.scale_tril @ z.unsqueeze(-1)).squeeze(-1)

    def log_prob(self, value: Any) -> Any:
        """The log density."""
        diff = self._checked(value) - self.loc
        square = mahalanobis(self.scale_tril, diff)
        whole = self._event_shape[0] * _LOG_TAU + square
        return -0.5 * whole - _half_log_det(self.scale_tril)

    def entropy(self) -> Any:
        """The entropy."""
        found = 0.5 * self._event_shape[0] * (1.0 + _LOG_TAU) + _half_log_det(self.scale_tril)
        return found.expand(self._batch_shape)


class LowRankMultivariateNormal(Distribution):
    """A normal distribution of vectors with covariance ``W W^T + diag(d)``.

    Args:
        loc: (..., K), the mean.
        cov_factor: (..., K, R), W.
        cov_diag: (..., K), d.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {
        "loc": constraints.real_vector,
        "cov_factor": constraints.independent(constraints.real, 2),
        "cov_diag": constraints.independent(constraints.positive, 1),
    }
    support = constraints.real_vector
    has_rsample = True

    def __init__(
        self, loc: Any, cov_factor: Any, cov_diag: Any, validate_args: bool | None = None
    ) -> None:
        if loc.dim() < 1:
            raise ValueError("loc must be at least one-dimensional.")
        event = loc.shape[-1:]
        if cov_factor.dim() < 2:
            raise ValueError(
                "cov_factor must be at least two-dimensional, with optional leading batch"
                " dimensions"
            )
        if cov_factor.shape[-2:-1] != event:
            raise ValueError(f"cov_factor must be a batch of matrices with shape {event[0]} x m")
        if cov_diag.shape[-1:] != event:
            raise ValueError(f"cov_diag must be a batch of vectors with shape {event}")
        batch = Size(broadcast_shapes(loc.shape[:-1], cov_factor.shape[:-2], cov_diag.shape[:-1]))
        self.loc = loc.expand(batch + event)
        self.cov_factor = cov_factor.expand(batch + cov_factor.shape[-2:])
        self.cov_diag = cov_diag.expand(batch + event)
        super().__init__(batch, event, validate_args=validate_args)

    @lazy_property
    def _capacitance_tril(self) -> Any:
        """Cholesky factor of I + W^T diag(d)^-1 W."""
        scaled = self.cov_factor.mT / self.cov_diag.unsqueeze(-2)
        eye = flambeau.eye(scaled.shape[-2], dtype=scaled.dtype, device=scaled.device)
        return flambeau.linalg.cholesky(scaled @ self.cov_factor + eye)

    @property
    def mean(self) -> Any:
        """The mean."""
        return self.loc

    @property
    def mode(self) -> Any:
        """The mean."""
        return self.loc

    @property
    def variance(self) -> Any:
        """The variances."""
        return self.cov_factor.pow(2).sum(-1) + self.cov_diag

    @lazy_property
    def scale_tril(self) -> Any:
        """The covariance's Cholesky factor."""
        return flambeau.linalg.cholesky(self.covariance_matrix)

    @lazy_property
    def covariance_matrix(self) -> Any:
        """The covariance."""
        return self.cov_factor @ self.cov_factor.mT + self.cov_diag.diag_embed()

    @lazy_property
    def precision_matrix(self) -> Any:
        """The covariance's inverse, by Woodbury's identity."""
        scaled = self.cov_factor.mT / self.cov_diag.unsqueeze(-2)
        inner = _solved(self._capacitance_tril, scaled)
        return self.cov_diag.reciprocal().diag_embed() - inner.mT @ inner

    def rsample(self, sample_shape: Any = ()) -> Any:
        """Values with gradients."""
        shape = self._extended_shape(sample_shape)
        few = shape[:-1] + self.cov_factor.shape[-1:]
        like = {"dtype": self.loc.dtype, "device": self.loc.device}
        low, own = flambeau.randn(few, **like), flambeau.randn(shape, **like)
        shared = (self.cov_factor @ low.unsqueeze(-1)).squeeze(-1)
        return self.loc + shared + self.cov_diag.sqrt() * own

    def log_prob(self, value: Any) -> Any:
        """The log density."""
        diff = self._checked(value) - self.loc
        square = self._square(diff)
        whole = self._event_shape[0] * _LOG_TAU + self._log_det() + square
        return -0.5 * whole

    def _square(self, diff: Any) -> Any:
        scaled = self.cov_factor.mT / self.cov_diag.unsqueeze(-2)
        inner = (scaled @ diff.unsqueeze(-1)).squeeze(-1)
        plain = (diff.pow(2) / self.cov_diag).sum(-1)
        return plain - mahalanobis(self._capacitance_tril, inner)

    def _log_det(self) -> Any:
        return 2 * _half_log_det(self._capacitance_tril) + self.cov_diag.log().sum(-1)

    def entropy(self) -> Any:
        """The entropy."""
        found = 0.5 * (self._event_shape[0] * (1.0 + _LOG_TAU) + self._log_det())
        return found.expand(self._batch_shape)


def _multi_digamma(a: Any, p: int) -> Any:
    return (a.unsqueeze(-1) - 0.5 * flambeau.arange(p, dtype=a.dtype)).digamma().sum(-1)


class Wishart(_OfCovariance, ExponentialFamily):
    """Sums of squares of normal vectors: positive definite matrices.

    Args:
        df: degrees of freedom, more than K - 1.
        covariance_matrix, precision_matrix, scale_tril: (..., K, K), of the vectors; one of them.

    Reference:
        Sawyer, Wishart Distributions and Inverse-Wishart Sampling (2007).
    """

    arg_constraints: ClassVar[dict[str, Any]] = {
        "covariance_matrix": constraints.positive_definite,
        "precision_matrix": constraints.positive_definite,
        "scale_tril": constraints.lower_cholesky,
        "df": constraints.greater_than(0),
    }
    support = constraints.positive_definite
    has_rsample = True
    _mean_carrier_measure = 0

    def __init__(
        self, df: Any, covariance_matrix: Any = None, precision_matrix: Any = None,
        scale_tril: Any = None, validate_args: bool | None = None,
    ) -> None:  # fmt: skip
        name, matrix = self._chosen(
            covariance_matrix=covariance_matrix,
            precision_matrix=precision_matrix,
            scale_tril=scale_tril,
        )
        df = flambeau.as_tensor(df, dtype=matrix.dtype, device=matrix.device)
        batch = Size(broadcast_shapes(matrix.shape[:-2], df.shape))
        event = matrix.shape[-2:]
        if bool((df <= event[-1] - 1).any()):
            raise ValueError(
                f"Value of df={df} expected to be greater than ndim - 1 = {event[-1] - 1}."
            )
        self.__dict__[name] = matrix.expand(batch + event)
        self.df = df.expand(batch)
        super().__init__(batch, event, validate_args=validate_args)
        self._factor(name)
        self._shown = (name, "df")

    @property
    def loc(self) -> Any:
        """For the dtype and device."""
        return self.df

    @property
    def _size(self) -> int:
        return int(self._event_shape[-1])

    @property
    def mean(self) -> Any:
        """The mean."""
        return self.df.view(self._batch_shape + (1, 1)) * self.covariance_matrix

    @property
    def mode(self) -> Any:
        """Where it is densest; NaN for few degrees of freedom."""
        factor = self.df - self._size - 1
        factor = flambeau.where(factor <= 0, math.nan, factor)
        return factor.view(self._batch_shape + (1, 1)) * self.covariance_matrix

    @property
    def variance(self) -> Any:
        """The variances."""
        v = self.covariance_matrix
        diagonal = v.diagonal(dim1=-2, dim2=-1)
        outer = diagonal.unsqueeze(-1) * diagonal.unsqueeze(-2)
        return self.df.view(self._batch_shape + (1, 1)) * (v.pow(2) + outer)

    def rsample(self, sample_shape: Any = (), max_try_correction: Any = None) -> Any:
        """Values with gradients, by Bartlett's decomposition."""
        shape = self._extended_shape(sample_shape)
        p = self._size
        lower = flambeau.randn(shape, dtype=self.df.dtype, device=self.df.device).tril(-1)
        freedom = self.df.unsqueeze(-1) - flambeau.arange(p, dtype=self.df.dtype)
        diagonal = Chi2(freedom, validate_args=False).rsample(sample_shape)
        diagonal = diagonal.clamp(min=flambeau.finfo(self.df.dtype).tiny).sqrt()
        chol = self.scale_tril @ (lower + diagonal.diag_embed())
        return chol @ chol.mT

    def log_prob(self, value: Any) -> Any:
        """The log density."""
        value = self._checked(value)
        nu, p = self.df, self._size
        inner = flambeau.cholesky_solve(value, self.scale_tril)
        trace = inner.diagonal(dim1=-2, dim2=-1).sum(-1)
        log_det = flambeau.linalg.slogdet(value).logabsdet
        constant = nu * (_half_log_det(self.scale_tril) + 0.5 * p * math.log(2))
        constant = constant + flambeau.mvlgamma(nu / 2, p=p)
        return -constant + 0.5 * (nu - p - 1) * log_det - 0.5 * trace

    def entropy(self) -> Any:
        """The entropy."""
        nu, p = self.df, self._size
        log_det = _half_log_det(self.scale_tril)
        constant = nu * (log_det + 0.5 * p * math.log(2)) + flambeau.mvlgamma(nu / 2, p=p)
        mean = _multi_digamma(nu / 2, p) + p * math.log(2) + 2 * log_det
        return constant - 0.5 * (nu - p - 1) * mean + 0.5 * nu * p

    @property
    def _natural_params(self) -> tuple[Any, ...]:
        return -0.5 * self.precision_matrix, 0.5 * (self.df - self._size - 1)

    def _log_normalizer(self, x: Any, y: Any) -> Any:
        p = self._size
        log_det = flambeau.linalg.slogdet(-2 * x).logabsdet
        half = y + 0.5 * (p + 1)
        return half * (-log_det + p * math.log(2)) + flambeau.mvlgamma(half, p=p)


class LKJCholesky(Distribution):
    """Cholesky factors of correlation matrices, with density ``det^(concentration - 1)``.

    Args:
        dim: size of the matrices, at least 2.
        concentration: 1 for all correlation matrices alike.

    Reference:
        Lewandowski, Kurowicka and Joe, Generating random correlation matrices based on vines and
        extended onion method (2009), section 3.2.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {"concentration": constraints.positive}
    support = constraints.corr_cholesky

    def __init__(
        self, dim: int, concentration: Any = 1.0, validate_args: bool | None = None
    ) -> None:
        if dim < 2:
            raise ValueError(
                f"Expected dim to be an integer greater than or equal to 2. Found dim={dim}."
            )
        self.dim = dim
        (self.concentration,) = broadcast_all(concentration)
        batch = self.concentration.size()
        marginal = self.concentration + 0.5 * (dim - 2)
        offset = flambeau.arange(dim - 1, dtype=self.concentration.dtype)
        offset = flambeau.cat([offset.new_zeros((1,)), offset])
        self._beta = Beta(offset + 0.5, marginal.unsqueeze(-1) - 0.5 * offset, validate_args=False)
        super().__init__(batch, (dim, dim), validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        """The same distributions for a larger batch."""
        return type(self)(
            self.dim, self.concentration.expand(batch_shape), validate_args=self._validate_args
        )

    def sample(self, sample_shape: Any = ()) -> Any:
        """Values, by the onion method."""
        with flambeau.no_grad():
            y = self._beta.sample(sample_shape).unsqueeze(-1)
            shape = self._extended_shape(sample_shape)
            u = flambeau.randn(shape, dtype=y.dtype, device=y.device).tril(-1)
            norm = u.norm(dim=-1, keepdim=True)
            u = flambeau.where(norm > 0, u / flambeau.where(norm > 0, norm, 1.0), 0.0)
            rows = flambeau.arange(self.dim).view(-1, 1)
            w = flambeau.where(rows > 0, y.sqrt() * u, 0.0)
            least = flambeau.finfo(w.dtype).tiny
            diagonal = (1 - w.square().sum(-1)).clamp(min=least).sqrt()
            return w + diagonal.diag_embed()

    def log_prob(self, value: Any) -> Any:
        """The log density."""
        diagonal = self._checked(value).diagonal(dim1=-1, dim2=-2)[..., 1:]
        order = flambeau.arange(2, self.dim + 1, dtype=diagonal.dtype)
        order = 2 * (self.concentration - 1).unsqueeze(-1) + self.dim - order
        whole = (order * diagonal.log()).sum(-1)
        count = self.dim - 1
        alpha = self.concentration + 0.5 * count
        below = flambeau.mvlgamma(alpha - 0.5, p=count)
        constant = 0.5 * count * math.log(math.pi) + below - alpha.lgamma() * count
        return whole - constant


class VonMises(Distribution):
    """A bell on the circle.

    Args:
        loc: the mean angle, in radians.
        concentration: how narrow it is.

    Reference:
        Best and Fisher, Efficient simulation of the von Mises distribution (1979).
    """

    arg_constraints: ClassVar[dict[str, Any]] = {
        "loc": constraints.real,
        "concentration": constraints.positive,
    }
    support = constraints.real

    def __init__(self, loc: Any, concentration: Any, validate_args: bool | None = None) -> None:
        self.loc, self.concentration = broadcast_all(loc, concentration)
        super().__init__(self.loc.shape, validate_args=validate_args)

    def log_prob(self, value: Any) -> Any:
        """The log density."""
        k = self.concentration
        scaled = flambeau.special.i0e(k).log() + k
        return k * (self._checked(value) - self.loc).cos() - _LOG_TAU - scaled

    def sample(self, sample_shape: Any = ()) -> Any:
        """Values, by rejection: a round accepts two thirds or more."""
        shape = self._extended_shape(sample_shape)
        with flambeau.no_grad():
            k = self.concentration.double()
            tau = 1 + (1 + 4 * k**2).sqrt()
            rho = (tau - (2 * tau).sqrt()) / (2 * k)
            r = (1 + rho**2) / (2 * rho)
            r = flambeau.where(k < 1e-5, 1 / k + k, r).expand(shape)
            k = k.expand(shape)
            angle = flambeau.zeros(shape, dtype=flambeau.float64)
            done = flambeau.zeros(shape, dtype=flambeau.bool)
            while not bool(done.all()):
                u1, u2, u3 = flambeau.rand((3, *shape), dtype=flambeau.float64).unbind()
                z = (math.pi * u1).cos()
                f = (1 + r * z) / (r + z)
                c = k * (r - f)
                accept = (c * (2 - c) - u2 > 0) | ((c / u2).log() + 1 - c >= 0)
                turned = (u3 - 0.5).sign() * f.clamp(-1, 1).acos()
                angle = flambeau.where(accept & ~done, turned, angle)
                done = done | accept
            turned = angle + math.pi + self.loc
            return (turned % (2 * math.pi) - math.pi).to(self.loc.dtype)

    @property
    def mean(self) -> Any:
        """The mean angle."""
        return self.loc

    @property
    def mode(self) -> Any:
        """The mean angle."""
        return self.loc

    @lazy_property
    def variance(self) -> Any:
        """One minus the mean length: the circular variance."""
        k = self.concentration
        return 1 - flambeau.special.i1e(k) / flambeau.special.i0e(k)
