"""Transformer encoder over padded sequences."""

import math

import numpy as np
import torch
import torch.nn as nn
from torch.nn.utils.rnn import pad_sequence


class Positions(nn.Module):
    def __init__(self, d, length=32):
        super().__init__()
        at = torch.arange(length).unsqueeze(1)
        rate = torch.exp(torch.arange(0, d, 2) * (-math.log(10000.0) / d))
        pe = torch.zeros(length, d)
        pe[:, 0::2] = torch.sin(at * rate)
        pe[:, 1::2] = torch.cos(at * rate)
        self.register_buffer("pe", pe.unsqueeze(0), persistent=False)

    def forward(self, x):
        return x + self.pe[:, : x.size(1)]


class Classifier(nn.Module):
    def __init__(self, vocab, d, classes, norm_first):
        super().__init__()
        self.embed = nn.Embedding(vocab, d, padding_idx=0)
        self.positions = Positions(d)
        layer = nn.TransformerEncoderLayer(
            d, 4, 32, dropout=0.0, activation="gelu", batch_first=True, norm_first=norm_first
        )
        self.encoder = nn.TransformerEncoder(
            layer, 2, norm=nn.LayerNorm(d), enable_nested_tensor=False
        )
        self.head = nn.Linear(d, classes)

    def forward(self, tokens):
        padding = tokens.eq(0)
        x = self.positions(self.embed(tokens) * math.sqrt(self.embed.embedding_dim))
        x = self.encoder(x, src_key_padding_mask=padding)
        keep = (~padding).unsqueeze(-1)
        pooled = (x * keep).sum(1) / keep.sum(1).clamp(min=1)
        return self.head(pooled)


def batch(rng):
    rows = [rng.integers(1, 20, rng.integers(3, 12)) for _ in range(16)]
    labels = torch.tensor([int(r.sum()) % 4 for r in rows])
    return pad_sequence([torch.as_tensor(r) for r in rows], batch_first=True), labels


for norm_first in (False, True):
    rng = np.random.default_rng(5)
    model = Classifier(20, 16, 4, norm_first)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.dim() > 1:
                p.copy_(torch.from_numpy(rng.normal(0, 0.2, p.shape)))
            elif name.endswith("bias"):
                p.zero_()
        model.embed.weight[0].zero_()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 12)
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    for _step in range(12):
        tokens, labels = batch(rng)
        loss = criterion(model(tokens), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        print("loss", loss.item(), schedule.get_last_lr()[0])
    model.eval()
    with torch.inference_mode():
        out = model(tokens)
    print("eval", *out[0].tolist(), model.embed.weight[0].abs().sum().item())
