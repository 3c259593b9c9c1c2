"""Convolutions, transposed convolutions, and sliding blocks."""

from __future__ import annotations

import math
from typing import Any

import flambeau
from flambeau.nn import functional as F
from flambeau.nn import init
from flambeau.nn.module import Module
from flambeau.nn.parameter import Parameter

_WORDS = {"same", "valid"}
_MODES = {"zeros", "reflect", "replicate", "circular"}


def _tuple(value: Any, count: int) -> tuple[int, ...]:
    """An int `count` times, or what is a sequence already."""
    return tuple(value) if isinstance(value, (tuple, list)) else (value,) * count


class _ConvNd(Module):
    """What all convolutions share: sizes, parameters and their initial values."""

    __constants__ = [
        "stride",
        "padding",
        "dilation",
        "groups",
        "padding_mode",
        "output_padding",
        "in_channels",
        "out_channels",
        "kernel_size",
    ]
    _count = 0

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any,
        padding: Any,
        dilation: Any,
        transposed: bool,
        output_padding: Any,
        groups: int,
        bias: bool,
        padding_mode: str,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        """Check the arguments and draw the parameters.

        Raises:
            ValueError: groups, padding or padding mode that do not fit.
        """
        super().__init__()
        count = self._count
        if groups <= 0:
            raise ValueError("groups must be a positive integer")
        for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if channels % groups:
                raise ValueError(f"{name} must be divisible by groups")
        self.stride = _tuple(stride, count)
        if isinstance(padding, str):
            if padding not in _WORDS:
                raise ValueError(f"Invalid padding string {padding!r}, should be one of {_WORDS}")
            if padding == "same" and any(s != 1 for s in self.stride):
                raise ValueError("padding='same' is not supported for strided convolutions")
        if padding_mode not in _MODES:
            raise ValueError(
                f"padding_mode must be one of {_MODES}, but got padding_mode='{padding_mode}'"
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = _tuple(kernel_size, count)
        self.padding = padding if isinstance(padding, str) else _tuple(padding, count)
        self.dilation = _tuple(dilation, count)
        self.transposed = transposed
        self.output_padding = _tuple(output_padding, count)
        self.groups = groups
        self.padding_mode = padding_mode
        self._reversed_padding_repeated_twice = self._sides()
        lead = (
            (in_channels, out_channels // groups)
            if transposed
            else (out_channels, in_channels // groups)
        )
        self.weight = Parameter(
            flambeau.empty((*lead, *self.kernel_size), device=device, dtype=dtype)
        )
        if bias:
            self.bias = Parameter(flambeau.empty(out_channels, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def _sides(self) -> list[int]:
        """Padding before and after each dimension, the last one first, as `F.pad` takes it."""
        if not isinstance(self.padding, str):
            return [p for p in reversed(self.padding) for _ in range(2)]
        found = []
        for k, d in zip(reversed(self.kernel_size), reversed(self.dilation), strict=True):
            total = d * (k - 1) if self.padding == "same" else 0
            found += [total // 2, total - total // 2]
        return found

    def reset_parameters(self) -> None:
        """Draw the parameters uniformly from +-1/sqrt(weights of one output)."""
        # With a = sqrt(5) the bound of kaiming_uniform_ is 1/sqrt(fan in).
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            fan_in, _ = init._calculate_fan_in_and_fan_out(self.weight)
            bound = 1 / math.sqrt(fan_in) if fan_in > 0 else 0
            init.uniform_(self.bias, -bound, bound)

    def extra_repr(self) -> str:
        """The sizes, and what differs from the defaults."""
        text = (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}"
        )
        if self.padding != (0,) * len(self.padding):
            text += f", padding={self.padding}"
        if self.dilation != (1,) * len(self.dilation):
            text += f", dilation={self.dilation}"
        if self.output_padding != (0,) * len(self.output_padding):
            text += f", output_padding={self.output_padding}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self.bias is None:
            text += ", bias=False"
        if self.padding_mode != "zeros":
            text += f", padding_mode={self.padding_mode}"
        return text


class _Convolution(_ConvNd):
    """A convolution of `_count` dimensions."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        """Draw the parameters uniformly from +-1/sqrt(weights of one output)."""
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            False,
            0,
            groups,
            bias,
            padding_mode,
            device=device,
            dtype=dtype,
        )

    def _conv_forward(self, input: Any, weight: Any, bias: Any) -> Any:
        convolve = getattr(F, f"conv{self._count}d")
        padding: Any = self.padding
        if self.padding_mode != "zeros":
            input = F.pad(input, self._reversed_padding_repeated_twice, mode=self.padding_mode)
            padding = 0
        return convolve(input, weight, bias, self.stride, padding, self.dilation, self.groups)

    def forward(self, input: Any) -> Any:
        """``(N, C, ...)`` or ``(C, ...)`` to ``(N, M, ...)`` or ``(M, ...)``."""
        return self._conv_forward(input, self.weight, self.bias)


class Conv1d(_Convolution):
    """Convolution along one dimension, ``(N, C, L)`` to ``(N, M, L')``.

    Args:
        in_channels: C.
        out_channels: M.
        kernel_size: an int, or one for each dimension.
        stride: steps of the kernel.
        padding: added to both sides of each dimension; or "same" or "valid".
        dilation: steps within the kernel.
        groups: parts that channels are cut into; each part of the result sees one of the input.
        bias: whether there is a bias.
        padding_mode: what padding is made of: "zeros", "reflect", "replicate" or "circular".
        device: of the parameters.
        dtype: of the parameters.
    """

    _count = 1


class Conv2d(_Convolution):
    """Convolution of images, ``(N, C, H, W)`` to ``(N, M, H', W')``; arguments as of `Conv1d`."""

    _count = 2


class Conv3d(_Convolution):
    """Convolution of volumes, ``(N, C, D, H, W)`` to ``(N, M, D', H', W')``; arguments as of
    `Conv1d`.
    """

    _count = 3


class _ConvTransposeNd(_ConvNd):
    """A transposed convolution of `_count` dimensions."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        """Draw the parameters uniformly from +-1/sqrt(weights of one output).

        Raises:
            ValueError: a padding mode other than "zeros".
        """
        if padding_mode != "zeros":
            raise ValueError(
                f'Only "zeros" padding mode is supported for {self.__class__.__name__}'
            )
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            True,
            output_padding,
            groups,
            bias,
            padding_mode,
            device=device,
            dtype=dtype,
        )

    def _output_padding(self, input: Any, output_size: Any) -> tuple[int, ...]:
        """What to add at the end of each dimension to reach `output_size`.

        Raises:
            ValueError: a size that no output padding gives.
        """
        if output_size is None:
            return self.output_padding
        count = self._count
        lead = input.dim() - count
        sizes = list(output_size)
        if len(sizes) == lead + count:
            sizes = sizes[lead:]
        if len(sizes) != count:
            raise ValueError(
                f"ConvTranspose{count}D: for {input.dim()}D input, output_size must have {count} "
                f"or {lead + count} elements (got {len(sizes)})"
            )
        least = [
            (input.size(lead + i) - 1) * self.stride[i]
            - 2 * self.padding[i]
            + self.dilation[i] * (self.kernel_size[i] - 1)
            + 1
            for i in range(count)
        ]
        most = [n + s - 1 for n, s in zip(least, self.stride, strict=True)]
        for size, low, high in zip(sizes, least, most, strict=True):
            if not low <= size <= high:
                raise ValueError(
                    f"requested an output size of {sizes}, but valid sizes range from {least} to "
                    f"{most} (for an input of {input.size()[2:]})"
                )
        return tuple(size - low for size, low in zip(sizes, least, strict=True))

    def forward(self, input: Any, output_size: Any = None) -> Any:
        """``(N, C, ...)`` or ``(C, ...)`` to ``(N, M, ...)`` or ``(M, ...)``.

        Args:
            output_size: the sizes wanted, where the stride leaves a choice.
        """
        convolve = getattr(F, f"conv_transpose{self._count}d")
        return convolve(
            input,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            self._output_padding(input, output_size),
            self.groups,
            self.dilation,
        )


class ConvTranspose1d(_ConvTransposeNd):
    """Transposed convolution along one dimension, ``(N, C, L)`` to ``(N, M, L')``.

    Args:
        in_channels: C.
        out_channels: M.
        kernel_size: an int, or one for each dimension.
        stride: steps of the kernel.
        padding: places taken away from both sides of the result.
        output_padding: places added at the end of the result.
        groups: parts that channels are cut into; each part of the result sees one of the input.
        bias: whether there is a bias.
        dilation: steps within the kernel.
        padding_mode: "zeros".
        device: of the parameters.
        dtype: of the parameters.
    """

    _count = 1


class ConvTranspose2d(_ConvTransposeNd):
    """Transposed convolution of images, ``(N, C, H, W)`` to ``(N, M, H', W')``; arguments as of
    `ConvTranspose1d`.
    """

    _count = 2


class ConvTranspose3d(_ConvTransposeNd):
    """Transposed convolution of volumes, ``(N, C, D, H, W)`` to ``(N, M, D', H', W')``; arguments
    as of `ConvTranspose1d`.
    """

    _count = 3


class Fold(Module):
    """Sliding blocks added up into images, ``(N, C KH KW, blocks)`` to ``(N, C, H, W)``.

    Args:
        output_size: H and W.
        kernel_size: sizes of a block.
        dilation: steps within a block.
        padding: zeros that the images had on both sides.
        stride: steps between blocks.
    """

    __constants__ = ["output_size", "kernel_size", "dilation", "padding", "stride"]

    def __init__(
        self,
        output_size: Any,
        kernel_size: Any,
        dilation: Any = 1,
        padding: Any = 0,
        stride: Any = 1,
    ) -> None:
        """Keep the numbers."""
        super().__init__()
        self.output_size = output_size
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.padding = padding
        self.stride = stride

    def forward(self, input: Any) -> Any:
        """The images."""
        return F.fold(
            input, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride
        )

    def extra_repr(self) -> str:
        """The numbers."""
        return (
            f"output_size={self.output_size}, kernel_size={self.kernel_size}, "
            f"dilation={self.dilation}, padding={self.padding}, stride={self.stride}"
        )


class Unfold(Module):
    """The sliding blocks of images, ``(N, C, H, W)`` to ``(N, C KH KW, blocks)``.

    Args:
        kernel_size: sizes of a block.
        dilation: steps within a block.
        padding: zeros on both sides of the images.
        stride: steps between blocks.
    """

    __constants__ = ["kernel_size", "dilation", "padding", "stride"]

    def __init__(
        self, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
    ) -> None:
        """Keep the numbers."""
        super().__init__()
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.padding = padding
        self.stride = stride

    def forward(self, input: Any) -> Any:
        """The blocks as columns."""
        return F.unfold(input, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        """The numbers."""
        return (
            f"kernel_size={self.kernel_size}, dilation={self.dilation}, padding={self.padding}, "
            f"stride={self.stride}"
        )
