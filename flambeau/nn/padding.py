"""Modules that pad the last dimensions."""

from __future__ import annotations

from typing import Any

from flambeau.nn import functional as F
from flambeau.nn.module import Module
from flambeau.nn.pooling import as_tuple


class _Pad(Module):
    """Padding of the last dimensions.

    Args:
        padding: elements added at every end, or (before, after) of the last dimension, then of the
            one before it, and so on; negative ones are taken away.
    """

    __constants__ = ["padding"]
    _dims = 0
    _mode = ""

    def __init__(self, padding: Any) -> None:
        """Keep the padding."""
        super().__init__()
        self.padding = as_tuple(padding, 2 * self._dims)

    def forward(self, input: Any) -> Any:
        """The padded input."""
        return F.pad(input, self.padding, self._mode)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class _CircularPad(_Pad):
    """Padding that continues at the other end."""

    _mode = "circular"

    def forward(self, input: Any) -> Any:
        """The padded input.

        Raises:
            ValueError: an input of another rank.
        """
        ranks = (self._dims + 1, self._dims + 2)
        if input.dim() not in ranks:
            raise ValueError(
                f"expected {ranks[0]}D or {ranks[1]}D input (got {input.dim()}D input)"
            )
        return super().forward(input)


class CircularPad1d(_CircularPad):
    """Circular padding of ``(N, C, W)`` or ``(C, W)``; ``padding`` has 2 numbers."""

    _dims = 1


class CircularPad2d(_CircularPad):
    """Circular padding of ``(N, C, H, W)`` or ``(C, H, W)``; ``padding`` has 4 numbers."""

    _dims = 2


class CircularPad3d(_CircularPad):
    """Circular padding of ``(N, C, D, H, W)`` or ``(C, D, H, W)``; ``padding`` has 6 numbers."""

    _dims = 3


class _ReflectionPad(_Pad):
    """Padding by the reflection at the outermost elements."""

    _mode = "reflect"


class ReflectionPad1d(_ReflectionPad):
    """Reflecting padding of ``(N, C, W)`` or ``(C, W)``; ``padding`` has 2 numbers."""

    _dims = 1


class ReflectionPad2d(_ReflectionPad):
    """Reflecting padding of ``(N, C, H, W)`` or ``(C, H, W)``; ``padding`` has 4 numbers."""

    _dims = 2


class ReflectionPad3d(_ReflectionPad):
    """Reflecting padding of ``(N, C, D, H, W)`` or ``(C, D, H, W)``; ``padding`` has 6 numbers."""

    _dims = 3


class _ReplicationPad(_Pad):
    """Padding that repeats the outermost elements."""

    _mode = "replicate"


class ReplicationPad1d(_ReplicationPad):
    """Repeating padding of ``(N, C, W)`` or ``(C, W)``; ``padding`` has 2 numbers."""

    _dims = 1


class ReplicationPad2d(_ReplicationPad):
    """Repeating padding of ``(N, C, H, W)`` or ``(C, H, W)``; ``padding`` has 4 numbers."""

    _dims = 2


class ReplicationPad3d(_ReplicationPad):
    """Repeating padding of ``(N, C, D, H, W)`` or ``(C, D, H, W)``; ``padding`` has 6 numbers."""

    _dims = 3


class _ConstantPad(_Pad):
    """Padding by one value.

    Args:
        padding: as of the base class.
        value: what is added.
    """

    __constants__ = ["padding", "value"]
    _mode = "constant"

    def __init__(self, padding: Any, value: float) -> None:
        """Keep the options."""
        super().__init__(padding)
        self.value = value

    def forward(self, input: Any) -> Any:
        """The padded input."""
        return F.pad(input, self.padding, "constant", self.value)

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class ConstantPad1d(_ConstantPad):
    """Padding of the last dimension by a value; ``padding`` has 2 numbers."""

    _dims = 1


class ConstantPad2d(_ConstantPad):
    """Padding of the last two dimensions by a value; ``padding`` has 4 numbers."""

    _dims = 2


class ConstantPad3d(_ConstantPad):
    """Padding of the last three dimensions by a value; ``padding`` has 6 numbers."""

    _dims = 3


class ZeroPad1d(ConstantPad1d):
    """Padding of the last dimension by zeros; ``padding`` has 2 numbers."""

    def __init__(self, padding: Any) -> None:
        """Keep the padding."""
        super().__init__(padding, 0.0)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class ZeroPad2d(ConstantPad2d):
    """Padding of the last two dimensions by zeros; ``padding`` has 4 numbers."""

    def __init__(self, padding: Any) -> None:
        """Keep the padding."""
        super().__init__(padding, 0.0)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class ZeroPad3d(ConstantPad3d):
    """Padding of the last three dimensions by zeros; ``padding`` has 6 numbers."""

    def __init__(self, padding: Any) -> None:
        """Keep the padding."""
        super().__init__(padding, 0.0)

    def extra_repr(self) -> str:
        return f"{self.padding}"
