"""A recurrent character model by hand: a gated cell in a loop, truncated backpropagation."""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

text = "the quick brown fox jumps over the lazy dog and the dog sleeps on " * 6
chars = sorted(set(text))
stoi = {c: i for i, c in enumerate(chars)}
codes = torch.tensor([stoi[c] for c in text])


class Cell(nn.Module):
    def __init__(self, n_in, n_hidden):
        super().__init__()
        self.wx = nn.Parameter(torch.empty(3 * n_hidden, n_in))
        self.wh = nn.Parameter(torch.empty(3 * n_hidden, n_hidden))
        self.b = nn.Parameter(torch.zeros(3 * n_hidden))

    def forward(self, x, h):
        rx, zx, nx = F.linear(x, self.wx, self.b).chunk(3, dim=-1)
        rh, zh, nh = (h @ self.wh.T).chunk(3, -1)
        r, z = torch.sigmoid(rx + rh), torch.sigmoid(zx + zh)
        n = torch.tanh(nx + r * nh)
        return (1 - z) * n + z * h


class Model(nn.Module):
    def __init__(self, vocab, n=24):
        super().__init__()
        self.embed = nn.Embedding(vocab, 12)
        self.cell = Cell(12, n)
        self.out = nn.Linear(n, vocab)
        self.n = n

    def forward(self, tokens, h):
        x = self.embed(tokens)
        outputs = torch.zeros(*tokens.shape, self.n)
        for t in range(tokens.shape[1]):
            h = self.cell(x[:, t], h)
            outputs[:, t] = h
        return self.out(outputs), h


rng = np.random.default_rng(6)
model = Model(len(chars))
for p in model.parameters():
    nn.init.zeros_(p)
    p.data += torch.from_numpy(rng.normal(0, 0.2, p.shape).astype(np.float32))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
rows = codes[: len(codes) // 4 * 4].view(4, -1)
h = torch.zeros(4, 24)
for step in range(8):
    at = step * 10 % (rows.shape[1] - 11)
    x, y = rows[:, at : at + 10], rows[:, at + 1 : at + 11]
    logits, h = model(x, h.detach())
    loss = F.cross_entropy(logits.transpose(1, 2), y)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_value_(model.parameters(), 0.1)
    optimizer.step()
    print("loss", loss.item(), loss.exp().item())
model.eval()
with torch.no_grad():
    h, token, found = torch.zeros(1, 24), torch.tensor([[0]]), []
    for _ in range(15):
        logits, h = model(token, h)
        token = logits[:, -1].argmax(-1, keepdim=True)
        found.append(token.item())
print("greedy", *found)
