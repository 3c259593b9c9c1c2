"""Modules that change an image's size: interpolation, and channels turned into pixels."""

from __future__ import annotations

from typing import Any

from flambeau.nn import functional as F
from flambeau.nn.module import Module


class Upsample(Module):
    """A signal, image or volume at another size.

    Args:
        size: the new sizes; or
        scale_factor: by what they grow.
        mode: as of ``functional.interpolate``.
        align_corners: whether the outermost elements' centres, not their edges, stay in place.
        recompute_scale_factor: compute places from the new sizes, not from ``scale_factor``.
    """

    __constants__ = [
        "size",
        "scale_factor",
        "mode",
        "align_corners",
        "name",
        "recompute_scale_factor",
    ]

    def __init__(
        self,
        size: Any = None,
        scale_factor: Any = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
    ) -> None:
        """Keep the options."""
        super().__init__()
        self.name = type(self).__name__
        self.size = size
        self.scale_factor: Any
        if isinstance(scale_factor, tuple):
            self.scale_factor = tuple(float(factor) for factor in scale_factor)
        else:
            self.scale_factor = float(scale_factor) if scale_factor else None
        self.mode = mode
        self.align_corners = align_corners
        self.recompute_scale_factor = recompute_scale_factor

    def forward(self, input: Any) -> Any:
        """The input at its new size."""
        return F.interpolate(
            input,
            self.size,
            self.scale_factor,
            self.mode,
            self.align_corners,
            recompute_scale_factor=self.recompute_scale_factor,
        )

    def extra_repr(self) -> str:
        if self.scale_factor is not None:
            info = f"scale_factor={self.scale_factor!r}"
        else:
            info = f"size={self.size!r}"
        return f"{info}, mode={self.mode!r}"


class UpsamplingNearest2d(Upsample):
    """:class:`Upsample` of images by their nearest elements.

    Args:
        size: the new sizes; or
        scale_factor: by what they grow.
    """

    def __init__(self, size: Any = None, scale_factor: Any = None) -> None:
        """Keep the options."""
        super().__init__(size, scale_factor, mode="nearest")


class UpsamplingBilinear2d(Upsample):
    """:class:`Upsample` of images, linear in both dimensions, with corners aligned.

    Args:
        size: the new sizes; or
        scale_factor: by what they grow.
    """

    def __init__(self, size: Any = None, scale_factor: Any = None) -> None:
        """Keep the options."""
        super().__init__(size, scale_factor, mode="bilinear", align_corners=True)


class PixelShuffle(Module):
    """``(*, C * r * r, H, W)`` as ``(*, C, H * r, W * r)``.

    Args:
        upscale_factor: r.

    Reference:
        Shi et al., Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel
        Convolutional Neural Network (arXiv:1609.05158).
    """

    __constants__ = ["upscale_factor"]

    def __init__(self, upscale_factor: int) -> None:
        """Keep the factor."""
        super().__init__()
        self.upscale_factor = upscale_factor

    def forward(self, input: Any) -> Any:
        """The input with channels turned into pixels."""
        return F.pixel_shuffle(input, self.upscale_factor)

    def extra_repr(self) -> str:
        return f"upscale_factor={self.upscale_factor}"


class PixelUnshuffle(Module):
    """``(*, C, H * r, W * r)`` as ``(*, C * r * r, H, W)``: the inverse of :class:`PixelShuffle`.

    Args:
        downscale_factor: r.
    """

    __constants__ = ["downscale_factor"]

    def __init__(self, downscale_factor: int) -> None:
        """Keep the factor."""
        super().__init__()
        self.downscale_factor = downscale_factor

    def forward(self, input: Any) -> Any:
        """The input with pixels turned into channels."""
        return F.pixel_unshuffle(input, self.downscale_factor)

    def extra_repr(self) -> str:
        return f"downscale_factor={self.downscale_factor}"


class ChannelShuffle(Module):
    """Channels of ``(N, C, *)`` dealt out: those of different groups stand beside each other.

    Args:
        groups: how many groups the channels are in.

    Reference:
        Zhang et al., ShuffleNet (arXiv:1707.01083).
    """

    __constants__ = ["groups"]

    def __init__(self, groups: int) -> None:
        """Keep the number."""
        super().__init__()
        self.groups = groups

    def forward(self, input: Any) -> Any:
        """The input with its channels in another order."""
        return F.channel_shuffle(input, self.groups)

    def extra_repr(self) -> str:
        return f"groups={self.groups}"
