"""Weights and noise from NumPy, so that every framework starts from the same numbers."""

import zlib

import numpy as np
import torch
from torch import nn


def set_weights(model: nn.Module, gain: float = 1.0) -> None:
    """Weights of variance gain**2 / fan-in, by the parameter's name; vectors stay as they are,
    biases are zero."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "bias" in name:
                p.zero_()
            elif p.ndim > 1:
                random = np.random.default_rng(zlib.crc32(name.encode()))
                scale = gain * (p[0].numel()) ** -0.5
                p.copy_(torch.from_numpy(random.normal(0, scale, tuple(p.shape))))


class Noise:
    """Standard normal tensors."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)

    def __call__(self, *shape: int) -> torch.Tensor:
        return torch.from_numpy(self.random.standard_normal(shape).astype("float32"))
