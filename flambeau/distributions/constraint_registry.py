"""Maps from unconstrained numbers onto the values that a constraint allows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flambeau.distributions import constraints, transforms

_C, _T = constraints, transforms


class ConstraintRegistry:
    """Class of constraint -> what makes a map onto it."""

    def __init__(self) -> None:
        self._registry: dict[type, Callable[[Any], Any]] = {}

    def register(self, constraint: Any, factory: Callable[[Any], Any] | None = None) -> Any:
        """Note how maps are made: `factory(constraint)`; without one, a decorator."""
        if factory is None:
            return lambda factory: self.register(constraint, factory)
        cls = constraint if isinstance(constraint, type) else type(constraint)
        if not issubclass(cls, _C.Constraint):
            raise TypeError(
                f"Expected constraint to be either a Constraint subclass or instance, but got"
                f" {constraint}"
            )
        self._registry[cls] = factory
        return factory

    def __call__(self, constraint: Any) -> Any:
        """A map onto what a constraint allows.

        Raises:
            NotImplementedError: none is known.
        """
        factory = self._registry.get(type(constraint))
        if factory is None:
            raise NotImplementedError(f"Cannot transform {type(constraint).__name__} constraints")
        return factory(constraint)


biject_to = ConstraintRegistry()
transform_to = ConstraintRegistry()


def _both(constraint: Any, factory: Callable[[Any], Any]) -> None:
    biject_to.register(constraint, factory)
    transform_to.register(constraint, factory)


def _above(c: Any) -> Any:
    return _T.ComposeTransform([_T.ExpTransform(), _T.AffineTransform(c.lower_bound, 1)])


def _between(c: Any) -> Any:
    low, high = c.lower_bound, c.upper_bound
    if isinstance(low, (int, float)) and isinstance(high, (int, float)) and (low, high) == (0, 1):
        return _T.SigmoidTransform()
    return _T.ComposeTransform([_T.SigmoidTransform(), _T.AffineTransform(low, high - low)])


def _below(c: Any) -> Any:
    return _T.ComposeTransform([_T.ExpTransform(), _T.AffineTransform(c.upper_bound, -1)])


_both(_C.real, lambda c: _T.identity_transform)
_both(_C.greater_than, lambda c: _T.ExpTransform() if _plain_zero(c) else _above(c))
_both(_C.greater_than_eq, lambda c: _T.ExpTransform() if _plain_zero(c) else _above(c))
_both(_C.less_than, _below)
_both(_C.interval, _between)
_both(_C.half_open_interval, _between)
_both(_C.corr_cholesky, lambda c: _T.CorrCholeskyTransform())
biject_to.register(_C.simplex, lambda c: _T.StickBreakingTransform())
transform_to.register(_C.simplex, lambda c: _T.SoftmaxTransform())
transform_to.register(_C.lower_cholesky, lambda c: _T.LowerCholeskyTransform())
transform_to.register(_C.positive_definite, lambda c: _T.PositiveDefiniteTransform())
transform_to.register(_C.positive_semidefinite, lambda c: _T.PositiveDefiniteTransform())


def _plain_zero(c: Any) -> bool:
    return isinstance(c.lower_bound, (int, float)) and c.lower_bound == 0


def _register_parts(registry: ConstraintRegistry) -> None:
    registry.register(
        _C.independent,
        lambda c: _T.IndependentTransform(registry(c.base_constraint), c.reinterpreted_batch_ndims),
    )
    registry.register(
        _C.cat, lambda c: _T.CatTransform([registry(x) for x in c.cseq], c.dim, c.lengths)
    )
    registry.register(_C.stack, lambda c: _T.StackTransform([registry(x) for x in c.cseq], c.dim))


for _registry in (biject_to, transform_to):
    _register_parts(_registry)

__all__ = ["ConstraintRegistry", "biject_to", "transform_to"]
