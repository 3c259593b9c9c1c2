"""A training step of a ViT-Tiny: 16 images 3x224x224, patches of 16, width 192, 12 layers, AdamW.

References: Dosovitskiy et al., An Image is Worth 16x16 Words (arXiv:2010.11929); Touvron et al.,
DeiT (arXiv:2012.12877), whose smallest model this is.
"""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

VARIANTS = ("f32",)
QUICK = VARIANTS

BATCH, SIZE, PATCH, WIDTH, HEADS, LAYERS, CLASSES = 16, 224, 16, 192, 3, 12, 1000
TOKENS = (SIZE // PATCH) ** 2 + 1


class Block(nn.Module):
    """Attention and a multilayer perceptron, each on a normalised residual stream."""

    def __init__(self):
        super().__init__()
        self.attention_norm = nn.LayerNorm(WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.project = nn.Linear(WIDTH, WIDTH)
        self.mlp_norm = nn.LayerNorm(WIDTH)
        self.expand = nn.Linear(WIDTH, 4 * WIDTH)
        self.contract = nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x):
        B, T, C = x.shape
        q, k, v = self.qkv(self.attention_norm(x)).view(B, T, 3, HEADS, C // HEADS).unbind(2)
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v)
        x = x + self.project(y.transpose(1, 2).reshape(B, T, C))
        return x + self.contract(F.gelu(self.expand(self.mlp_norm(x))))


class ViT(nn.Module):
    """Classifies images by their patches."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Conv2d(3, WIDTH, PATCH, stride=PATCH)
        self.token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.positions = nn.Parameter(torch.zeros(1, TOKENS, WIDTH))
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x, y):
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.positions
        return F.cross_entropy(self.head(self.norm(self.blocks(x))[:, 0]), y)


def setup(variant, compile):
    """The step of one variant, with parameters and data that every contender shares."""
    random = np.random.default_rng(0)
    model = ViT()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                values = 0.02 * random.standard_normal(tuple(parameter.shape), dtype=np.float32)
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

    layer = TOKENS * 12 * WIDTH * WIDTH + 2 * TOKENS * TOKENS * WIDTH  # multiply-adds of one block
    first = TOKENS * WIDTH * 3 * PATCH * PATCH
    return {"step": step, "work": 6 * BATCH * (LAYERS * layer + first), "unit": "FLOP"}
