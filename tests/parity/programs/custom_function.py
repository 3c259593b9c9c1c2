"""Autoencoder with a straight-through quantiser and an own activation."""

import numpy as np
import torch
from torch import nn
from torch.autograd import Function


class Quantise(Function):
    @staticmethod
    def forward(ctx, z, levels):
        ctx.levels = levels
        q = torch.round(z * levels) / levels
        ctx.mark_non_differentiable(idx := (z * levels).round().long())
        return q, idx

    @staticmethod
    def backward(ctx, grad, _):
        return grad, None


class Swish(Function):
    @staticmethod
    def forward(ctx, x, beta):
        s = torch.sigmoid(beta * x)
        ctx.save_for_backward(x, beta)
        return x * s

    @staticmethod
    def backward(ctx, g):
        x, beta = ctx.saved_tensors
        s = torch.sigmoid(beta * x)
        d = s * (1 - s)
        gx = g * (s + beta * x * d) if ctx.needs_input_grad[0] else None
        gb = (g * x * x * d).sum() if ctx.needs_input_grad[1] else None
        return gx, gb


class Scale(Function):
    @staticmethod
    def forward(ctx, x, by):
        ctx.by = by
        ctx.mark_dirty(x)
        return x.mul_(by)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        return g * ctx.by, None


class Auto(nn.Module):
    def __init__(self, d, h):
        super().__init__()
        self.encode, self.decode = nn.Linear(d, h), nn.Linear(h, d)
        self.beta = nn.Parameter(torch.tensor(1.0))

    def forward(self, x):
        z = Swish.apply(self.encode(x), self.beta)
        z = Scale.apply(z, 0.5)
        q, codes = Quantise.apply(torch.tanh(z), 8)
        return self.decode(q), z, q, codes


rng = np.random.default_rng(1)
model = Auto(12, 4)
with torch.no_grad():
    for p in model.parameters():
        if p.dim():
            p.copy_(torch.from_numpy(rng.standard_normal(tuple(p.shape)) * 0.4))
data = torch.from_numpy(
    (rng.standard_normal((64, 3)) @ rng.standard_normal((3, 12))).astype("float32")
)
opt = torch.optim.RMSprop(model.parameters(), lr=3e-3, momentum=0.5, centered=True)
for _step in range(20):
    opt.zero_grad()
    out, z, q, codes = model(data)
    loss = nn.functional.mse_loss(out, data) + 0.1 * (z - q.detach()).pow(2).mean()
    loss.backward()
    opt.step()
    print("loss", loss.item(), model.beta.grad.item())
print("codes", codes.requires_grad, codes.dtype == torch.int64, torch.unique(codes).numel() > 3)
x = torch.linspace(-2, 2, 5, dtype=torch.float64, requires_grad=True)
b = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
print(
    "check",
    torch.autograd.gradcheck(Swish.apply, (x, b)),
    torch.autograd.gradgradcheck(Swish.apply, (x, b)),
)
