"""A neural ordinary differential equation with the adjoint method for its gradients."""

import itertools

import numpy as np
import torch
from torch import nn


class Field(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 24), nn.Tanh(), nn.Linear(24, 2))

    def forward(self, t, y):
        return self.net(y**3)


def rk4(f, t, dt, y):
    k1 = f(t, y)
    k2 = f(t + dt / 2, y + dt / 2 * k1)
    k3 = f(t + dt / 2, y + dt / 2 * k2)
    k4 = f(t + dt, y + dt * k3)
    return y + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


class Adjoint(torch.autograd.Function):
    @staticmethod
    def forward(ctx, field, y0, times, *params):
        with torch.no_grad():
            ys = [y0]
            for a, b in itertools.pairwise(times):
                ys.append(rk4(field, a, b - a, ys[-1]))
        ys = torch.stack(ys)
        ctx.field = field
        ctx.save_for_backward(ys, times, *params)
        return ys

    @staticmethod
    def backward(ctx, grad):
        ys, times, *params = ctx.saved_tensors
        adjoint = grad[-1]
        totals = [torch.zeros_like(p) for p in params]
        for i in range(len(times) - 1, 0, -1):
            with torch.enable_grad():
                y = ys[i - 1].detach().requires_grad_(True)
                end = rk4(ctx.field, times[i - 1], times[i] - times[i - 1], y)
                found = torch.autograd.grad(end, (y, *params), adjoint, allow_unused=True)
            adjoint = found[0] + grad[i - 1]
            totals = [t + g for t, g in zip(totals, found[1:])]
        return None, adjoint, None, *totals


def odeint_adjoint(field, y0, times):
    return Adjoint.apply(field, y0, times, *field.parameters())


def spiral(times):
    true = torch.tensor([[-0.1, 2.0], [-2.0, -0.1]])
    ys = [torch.tensor([[2.0, 0.0]])]
    for a, b in itertools.pairwise(times):
        ys.append(rk4(lambda t, y: (y**3) @ true, a, b - a, ys[-1]))
    return torch.stack(ys)


def main():
    torch.manual_seed(0)
    times = torch.linspace(0.0, 2.0, 21)
    target = spiral(times)
    field = Field()
    optimizer = torch.optim.RMSprop(field.parameters(), lr=5e-3)
    starts = np.random.default_rng(0)
    for step in range(8):
        first = starts.integers(0, 15, 6)
        y0 = target[first][:, 0]
        wanted = torch.stack([target[first + i][:, 0] for i in range(6)])
        optimizer.zero_grad()
        loss = (odeint_adjoint(field, y0, times[:6]) - wanted).abs().mean()
        loss.backward()
        optimizer.step()
        print("loss", step, loss.item())


if __name__ == "__main__":
    main()
