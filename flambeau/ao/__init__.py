"""Models with 8-bit weights (`torch.ao`)."""

from flambeau.ao import dynamic, quantization

__all__ = ["dynamic", "quantization"]
