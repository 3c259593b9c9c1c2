"""Layers with 8-bit weights whose inputs are rounded by the range that they have when they come."""

from __future__ import annotations

from typing import Any, Self

import flambeau
from flambeau.nn import Linear as Plain
from flambeau.nn import Module
from flambeau.ops.quantized import _dynamic_linear
from flambeau.tensor import Tensor

_MOST = 127.0
"""Weights are rounded to -127 .. 127, so that 0 and signs are exact."""


class Linear(Module):
    """x W^T + b with W in int8, and x rounded to 8 bits when it comes.

    Every row of W has a scale of its own, which is finer than torch's one for all.

    Args:
        in_features, out_features: sizes of x and of the result.
        bias: whether there is b, which is kept in float32.

    Attributes:
        weight_int8: (out_features, in_features), int8.
        scale: (out_features,): W is about `weight_int8 * scale[:, None]`.
        bias: (out_features,), or None.

    Example:
        >>> layer = Linear.from_float(flambeau.nn.Linear(3, 2))
        >>> layer(flambeau.ones(4, 3)).shape
        torch.Size([4, 2])
    """

    weight_int8: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        """A layer of zeros."""
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        weight = flambeau.zeros(out_features, in_features, dtype=flambeau.int8)
        self.register_buffer("weight_int8", weight)
        self.register_buffer("scale", flambeau.ones(out_features))
        self.register_buffer("bias", flambeau.zeros(out_features) if bias else None)

    @classmethod
    def from_float(cls, mod: Plain) -> Self:
        """The layer of a linear one, its weights rounded.

        Args:
            mod: the linear layer.
        """
        made = cls(mod.in_features, mod.out_features, mod.bias is not None)
        with flambeau.no_grad():
            weight = mod.weight.detach().float()
            scale = (weight.abs().amax(1) / _MOST).clamp(min=flambeau.finfo(weight.dtype).tiny)
            made.weight_int8 = (weight / scale.unsqueeze(1)).round().to(flambeau.int8)
            made.scale = scale
            if mod.bias is not None:
                made.bias = mod.bias.detach().clone()
        made.train(mod.training)
        return made

    def weight(self) -> Tensor:
        """W, as float32."""
        return self.weight_int8.float() * self.scale.unsqueeze(1)

    def forward(self, x: Any) -> Tensor:
        """(*, in_features) -> (*, out_features)."""
        found: Tensor = _dynamic_linear(x, self.weight_int8, self.scale, self.bias)
        return found

    def extra_repr(self) -> str:
        """What the layer is printed with."""
        bias = self.bias is not None
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={bias}"


__all__ = ["Linear"]
