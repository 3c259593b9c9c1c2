"""A training step of GPT-2 small: 124 million parameters, batch 2, context 512, AdamW.

Reference: Radford et al., Language Models are Unsupervised Multitask Learners (2019).
"""

import math

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

VARIANTS = ("f32",)
QUICK = VARIANTS

VOCABULARY, LAYERS, WIDTH, HEADS, BATCH, CONTEXT = 50304, 12, 768, 12, 2, 512


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
        q, k, v = self.qkv(self.attention_norm(x)).split(C, dim=2)
        q, k, v = (t.view(B, T, HEADS, C // HEADS).transpose(1, 2) for t in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.project(y.transpose(1, 2).reshape(B, T, C))
        return x + self.contract(F.gelu(self.expand(self.mlp_norm(x)), approximate="tanh"))


class GPT2(nn.Module):
    """Predicts the next token; the embedding is the output layer's weight too."""

    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, WIDTH)
        self.positions = nn.Embedding(1024, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, tokens, targets):
        x = self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        logits = self.head(self.norm(x))
        return F.cross_entropy(logits.view(-1, VOCABULARY), targets.view(-1))


def setup(variant, compile):
    """The step of one variant, with parameters and data that every contender shares."""
    random = np.random.default_rng(0)
    model = GPT2()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 2:
                small = "contract" in name or "project" in name
                scale = 0.02 / math.sqrt(2 * LAYERS) if small else 0.02
                values = scale * random.standard_normal(tuple(parameter.shape), dtype=np.float32)
                parameter.copy_(torch.from_numpy(values))
            elif name.endswith("bias"):
                parameter.zero_()
    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-4, weight_decay=0.1)
    text = random.integers(0, 50257, (BATCH, CONTEXT + 1))
    tokens = torch.tensor(text[:, :-1])
    targets = torch.tensor(text[:, 1:])
    loss_of = compile(model)

    def step():
        optimizer.zero_grad()
        loss = loss_of(tokens, targets)
        loss.backward()
        optimizer.step()
        return loss.item()

    matrices = LAYERS * 12 * WIDTH * WIDTH + VOCABULARY * WIDTH
    attention = LAYERS * 2 * BATCH * CONTEXT * CONTEXT * WIDTH // 2  # causal: half of it
    flops = 3 * 2 * (BATCH * CONTEXT * matrices + attention)
    return {"step": step, "work": flops, "unit": "FLOP"}
