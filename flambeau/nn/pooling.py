"""Modules that pool windows of signals, images and volumes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from flambeau.nn import functional as F
from flambeau.nn.module import Module


def as_tuple(value: Any, count: int) -> tuple[Any, ...]:
    """A tuple of a module's option: `count` times one value, or the values given."""
    return tuple(value) if isinstance(value, Iterable) else (value,) * count


# -- the largest -----------------------------------------------------------------------------------


class _MaxPool(Module):
    """The largest element of each window.

    Args:
        kernel_size: the windows' size.
        stride: how far they stand apart; their size by default.
        padding: elements of -inf added at both ends.
        dilation: how far the elements of a window stand apart.
        return_indices: also return the places of the largest elements, for ``MaxUnpool``.
        ceil_mode: whether windows may hang over the end.
    """

    __constants__ = [
        "kernel_size",
        "stride",
        "padding",
        "dilation",
        "return_indices",
        "ceil_mode",
    ]
    _pool: Any = None

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        """Keep the options."""
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.dilation = dilation
        self.return_indices = return_indices
        self.ceil_mode = ceil_mode

    def forward(self, input: Any) -> Any:
        """The pooled input, and places with ``return_indices``."""
        return type(self)._pool(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            ceil_mode=self.ceil_mode,
            return_indices=self.return_indices,
        )

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding},"
            f" dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


class MaxPool1d(_MaxPool):
    """Max pooling of ``(N, C, L)`` or ``(C, L)``; arguments as of the base class."""

    _pool = staticmethod(F.max_pool1d)


class MaxPool2d(_MaxPool):
    """Max pooling of ``(N, C, H, W)`` or ``(C, H, W)``; arguments as of the base class."""

    _pool = staticmethod(F.max_pool2d)


class MaxPool3d(_MaxPool):
    """Max pooling of ``(N, C, D, H, W)`` or ``(C, D, H, W)``; arguments as of the base class."""

    _pool = staticmethod(F.max_pool3d)


class _MaxUnpool(Module):
    """Elements put back where max pooling found them, zeros elsewhere.

    Args:
        kernel_size: of the pooling.
        stride: of the pooling; its kernel size by default.
        padding: of the pooling.
    """

    _unpool: Any = None
    _dims = 0

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0) -> None:
        """Keep the options."""
        super().__init__()
        self.kernel_size = as_tuple(kernel_size, self._dims)
        self.stride = as_tuple(kernel_size if stride is None else stride, self._dims)
        self.padding = as_tuple(padding, self._dims)

    def forward(self, input: Any, indices: Any, output_size: Any = None) -> Any:
        """The input's elements at ``indices`` of an image of ``output_size``."""
        options = (self.kernel_size, self.stride, self.padding, output_size)
        return type(self)._unpool(input, indices, *options)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class MaxUnpool1d(_MaxUnpool):
    """The inverse of :class:`MaxPool1d`; arguments as of the base class."""

    _unpool = staticmethod(F.max_unpool1d)
    _dims = 1


class MaxUnpool2d(_MaxUnpool):
    """The inverse of :class:`MaxPool2d`; arguments as of the base class."""

    _unpool = staticmethod(F.max_unpool2d)
    _dims = 2


class MaxUnpool3d(_MaxUnpool):
    """The inverse of :class:`MaxPool3d`; arguments as of the base class."""

    _unpool = staticmethod(F.max_unpool3d)
    _dims = 3


class _FractionalMaxPool(Module):
    """Max pooling of windows whose places are drawn at random.

    Args:
        kernel_size: the windows' size.
        output_size: the result's size; or
        output_ratio: the result's size as a fraction of the input's.
        return_indices: also return the places of the largest elements.

    Raises:
        ValueError: both or neither of size and ratio, or a ratio outside of (0, 1).

    Reference:
        Graham, Fractional Max-Pooling (arXiv:1412.6071).
    """

    __constants__ = ["kernel_size", "return_indices", "output_size", "output_ratio"]
    _pool: Any = None
    _dims = 0

    def __init__(
        self,
        kernel_size: Any,
        output_size: Any = None,
        output_ratio: Any = None,
        return_indices: bool = False,
        _random_samples: Any = None,
    ) -> None:
        """Keep the options."""
        super().__init__()
        name = type(self).__name__
        if output_size is None and output_ratio is None:
            raise ValueError(
                f"{name} requires specifying either an output size, or a pooling ratio"
            )
        if output_size is not None and output_ratio is not None:
            raise ValueError("only one of output_size and output_ratio may be specified")
        self.kernel_size = as_tuple(kernel_size, self._dims)
        self.return_indices = return_indices
        self.register_buffer("_random_samples", _random_samples)
        self.output_size = self.output_ratio = None
        if output_size is not None:
            self.output_size = as_tuple(output_size, self._dims)
        else:
            self.output_ratio = as_tuple(output_ratio, self._dims)
            if not all(0 < ratio < 1 for ratio in self.output_ratio):
                raise ValueError(f"output_ratio must be between 0 and 1 (got {output_ratio})")

    def forward(self, input: Any) -> Any:
        """The pooled input, and places with ``return_indices``."""
        return type(self)._pool(
            input,
            self.kernel_size,
            self.output_size,
            self.output_ratio,
            self.return_indices,
            _random_samples=self._random_samples,
        )


class FractionalMaxPool2d(_FractionalMaxPool):
    """Fractional pooling of ``(N, C, H, W)`` or ``(C, H, W)``; arguments as of the base class."""

    _pool = staticmethod(F.fractional_max_pool2d)
    _dims = 2


class FractionalMaxPool3d(_FractionalMaxPool):
    """Fractional pooling of ``(N, C, D, H, W)`` or ``(C, D, H, W)``; arguments as of the base."""

    _pool = staticmethod(F.fractional_max_pool3d)
    _dims = 3


class _AdaptiveMaxPool(Module):
    """The largest element of each of as many windows as the result has elements.

    Args:
        output_size: the result's size; None keeps the input's.
        return_indices: also return the places of the largest elements.
    """

    __constants__ = ["output_size", "return_indices"]
    _pool: Any = None

    def __init__(self, output_size: Any, return_indices: bool = False) -> None:
        """Keep the options."""
        super().__init__()
        self.output_size = output_size
        self.return_indices = return_indices

    def forward(self, input: Any) -> Any:
        """The pooled input, and places with ``return_indices``."""
        return type(self)._pool(input, self.output_size, self.return_indices)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """Adaptive max pooling of ``(N, C, L)`` or ``(C, L)``; arguments as of the base class."""

    _pool = staticmethod(F.adaptive_max_pool1d)


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """Adaptive max pooling of ``(N, C, H, W)`` or ``(C, H, W)``; arguments as of the base."""

    _pool = staticmethod(F.adaptive_max_pool2d)


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """Adaptive max pooling of ``(N, C, D, H, W)`` or ``(C, D, H, W)``; arguments as of the base."""

    _pool = staticmethod(F.adaptive_max_pool3d)


# -- means -----------------------------------------------------------------------------------------


class _AvgPool(Module):
    """Options and text of average pooling."""

    __constants__ = ["kernel_size", "stride", "padding", "ceil_mode", "count_include_pad"]

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool1d(_AvgPool):
    """The mean of each window of ``(N, C, L)`` or ``(C, L)``.

    Args:
        kernel_size: the windows' size.
        stride: how far they stand apart; their size by default.
        padding: zeros added at both ends.
        ceil_mode: whether windows may hang over the end.
        count_include_pad: whether the padding counts in the means.
    """

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        """Keep the options."""
        super().__init__()
        self.kernel_size = as_tuple(kernel_size, 1)
        self.stride = as_tuple(kernel_size if stride is None else stride, 1)
        self.padding = as_tuple(padding, 1)
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad

    def forward(self, input: Any) -> Any:
        """The pooled input."""
        options = (self.padding, self.ceil_mode, self.count_include_pad)
        return F.avg_pool1d(input, self.kernel_size, self.stride, *options)


class _AvgPoolWithDivisor(_AvgPool):
    """The mean of each window.

    Args:
        kernel_size: the windows' size.
        stride: how far they stand apart; their size by default.
        padding: zeros added at both ends.
        ceil_mode: whether windows may hang over the end.
        count_include_pad: whether the padding counts in the means.
        divisor_override: divide the sums by this instead.
    """

    __constants__ = [*_AvgPool.__constants__, "divisor_override"]
    _pool: Any = None

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        """Keep the options."""
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad
        self.divisor_override = divisor_override

    def forward(self, input: Any) -> Any:
        """The pooled input."""
        return type(self)._pool(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
        )


class AvgPool2d(_AvgPoolWithDivisor):
    """Average pooling of ``(N, C, H, W)`` or ``(C, H, W)``; arguments as of the base class."""

    _pool = staticmethod(F.avg_pool2d)


class AvgPool3d(_AvgPoolWithDivisor):
    """Average pooling of ``(N, C, D, H, W)`` or ``(C, D, H, W)``; arguments as of the base."""

    _pool = staticmethod(F.avg_pool3d)


class _LPPool(Module):
    """(sum of x ** p over each window) ** (1 / p).

    Args:
        norm_type: the exponent p.
        kernel_size: the windows' size.
        stride: how far they stand apart; their size by default.
        ceil_mode: whether windows may hang over the end.
    """

    __constants__ = ["norm_type", "kernel_size", "stride", "ceil_mode"]
    _pool: Any = None

    def __init__(
        self, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
    ) -> None:
        """Keep the options."""
        super().__init__()
        self.norm_type = norm_type
        self.kernel_size = kernel_size
        self.stride = stride
        self.ceil_mode = ceil_mode

    def forward(self, input: Any) -> Any:
        """The pooled input."""
        options = (float(self.norm_type), self.kernel_size, self.stride, self.ceil_mode)
        return type(self)._pool(input, *options)

    def extra_repr(self) -> str:
        return (
            f"norm_type={self.norm_type}, kernel_size={self.kernel_size}, stride={self.stride},"
            f" ceil_mode={self.ceil_mode}"
        )


class LPPool1d(_LPPool):
    """Power-mean pooling of ``(N, C, L)`` or ``(C, L)``; arguments as of the base class."""

    _pool = staticmethod(F.lp_pool1d)


class LPPool2d(_LPPool):
    """Power-mean pooling of ``(N, C, H, W)`` or ``(C, H, W)``; arguments as of the base class."""

    _pool = staticmethod(F.lp_pool2d)


class LPPool3d(_LPPool):
    """Power-mean pooling of ``(N, C, D, H, W)`` or ``(C, D, H, W)``; arguments as of the base."""

    _pool = staticmethod(F.lp_pool3d)


class _AdaptiveAvgPool(Module):
    """The mean of each of as many windows as the result has elements.

    Args:
        output_size: the result's size; None keeps the input's.
    """

    __constants__ = ["output_size"]
    _pool: Any = None

    def __init__(self, output_size: Any) -> None:
        """Keep the size."""
        super().__init__()
        self.output_size = output_size

    def forward(self, input: Any) -> Any:
        """The pooled input."""
        return type(self)._pool(input, self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """Adaptive average pooling of ``(N, C, L)`` or ``(C, L)``; arguments as of the base class."""

    _pool = staticmethod(F.adaptive_avg_pool1d)


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """Adaptive average pooling of ``(N, C, H, W)`` or ``(C, H, W)``; arguments as of the base."""

    _pool = staticmethod(F.adaptive_avg_pool2d)


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    """Adaptive average pooling of ``(N, C, D, H, W)`` or ``(C, D, H, W)``; arguments as of the
    base class."""

    _pool = staticmethod(F.adaptive_avg_pool3d)
