"""Modules that drop values at random while training."""

from __future__ import annotations

from typing import Any

from flambeau.nn import functional as F
from flambeau.nn.module import Module


class _DropoutNd(Module):
    """Probability and ``inplace`` of all kinds of dropout."""

    __constants__ = ["p", "inplace"]

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        if p < 0 or p > 1:
            raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
        self.p = p
        self.inplace = inplace

    def extra_repr(self) -> str:
        """Probability and ``inplace``."""
        return f"p={self.p}, inplace={self.inplace}"


class Dropout(_DropoutNd):
    """Zeroes each value with probability ``p`` and scales the others by 1/(1-p).

    Args:
        p: the probability.
        inplace: change the input.

    Raises:
        ValueError: ``p`` is no probability.

    Reference:
        Hinton et al., Improving neural networks by preventing co-adaptation of feature
        detectors (arXiv:1207.0580).
    """

    def forward(self, input: Any) -> Any:
        """The input with some values dropped."""
        return F.dropout(input, self.p, self.training, self.inplace)


class Dropout1d(_DropoutNd):
    """Drops whole channels of ``(N, C, L)`` or ``(C, L)``; arguments as of :class:`Dropout`."""

    def forward(self, input: Any) -> Any:
        """The input with some channels dropped."""
        return F.dropout1d(input, self.p, self.training, self.inplace)


class Dropout2d(_DropoutNd):
    """Drops whole channels of ``(N, C, H, W)``; arguments as of :class:`Dropout`."""

    def forward(self, input: Any) -> Any:
        """The input with some channels dropped."""
        return F.dropout2d(input, self.p, self.training, self.inplace)


class Dropout3d(_DropoutNd):
    """Drops whole channels of ``(N, C, D, H, W)``; arguments as of :class:`Dropout`."""

    def forward(self, input: Any) -> Any:
        """The input with some channels dropped."""
        return F.dropout3d(input, self.p, self.training, self.inplace)


class AlphaDropout(_DropoutNd):
    """Dropout that keeps zero mean and unit variance after SELU; arguments as of
    :class:`Dropout`.

    Reference:
        Klambauer et al., Self-Normalizing Neural Networks (arXiv:1706.02515).
    """

    def forward(self, input: Any) -> Any:
        """The input with some values set to SELU's negative limit."""
        return F.alpha_dropout(input, self.p, self.training)


class FeatureAlphaDropout(_DropoutNd):
    """:class:`AlphaDropout` of whole channels."""

    def forward(self, input: Any) -> Any:
        """The input with some channels set to SELU's negative limit."""
        return F.feature_alpha_dropout(input, self.p, self.training)
