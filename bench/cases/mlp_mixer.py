"""A training step of an MLP-Mixer: 32 images 3x64x64, patches of 8, width 256, 8 layers, AdamW.

Reference: Tolstikhin et al., MLP-Mixer (arXiv:2105.01601).
"""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

VARIANTS = ("f32",)
QUICK = VARIANTS

BATCH, SIZE, PATCH, WIDTH, LAYERS, CLASSES = 32, 64, 8, 256, 8, 100
TOKENS = (SIZE // PATCH) ** 2


def perceptron(width, hidden):
    """Two linear layers with a GELU between them."""
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))


class Block(nn.Module):
    """Mixes patches, then channels, each on a normalised residual stream."""

    def __init__(self):
        super().__init__()
        self.token_norm = nn.LayerNorm(WIDTH)
        self.tokens = perceptron(TOKENS, WIDTH // 2)
        self.channel_norm = nn.LayerNorm(WIDTH)
        self.channels = perceptron(WIDTH, 4 * WIDTH)

    def forward(self, x):
        x = x + self.tokens(self.token_norm(x).transpose(1, 2)).transpose(1, 2)
        return x + self.channels(self.channel_norm(x))


class Mixer(nn.Module):
    """Classifies images by their patches."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Conv2d(3, WIDTH, PATCH, stride=PATCH)
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x, y):
        x = self.embed(x).flatten(2).transpose(1, 2)
        return F.cross_entropy(self.head(self.norm(self.blocks(x)).mean(dim=1)), y)


def setup(variant, compile):
    """The step of one variant, with parameters and data that every contender shares."""
    random = np.random.default_rng(0)
    model = Mixer()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                scale = parameter[0].numel() ** -0.5
                values = scale * random.standard_normal(tuple(parameter.shape), dtype=np.float32)
                parameter.copy_(torch.from_numpy(values))
            elif name.endswith("bias"):
                parameter.zero_()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    x = torch.tensor(random.standard_normal((BATCH, 3, SIZE, SIZE), dtype=np.float32))
    y = torch.tensor(random.integers(0, CLASSES, BATCH))
    loss_of = compile(model)

    def step():
        optimizer.zero_grad()
        loss = loss_of(x, y)
        loss.backward()
        optimizer.step()
        return loss.item()

    layer = TOKENS * 8 * WIDTH * WIDTH + WIDTH * TOKENS * WIDTH  # multiply-adds of one block
    first = TOKENS * WIDTH * 3 * PATCH * PATCH
    return {"step": step, "work": 6 * BATCH * (LAYERS * layer + first), "unit": "FLOP"}
