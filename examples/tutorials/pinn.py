"""A physics-informed network: the heat equation by second derivatives of a network."""

import math

import torch
from torch import nn


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2, 24), nn.Tanh(), nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 1)
        )

    def forward(self, x, t):
        return self.layers(torch.cat([x, t], dim=1))


def derivative(y, x):
    return torch.autograd.grad(y, x, torch.ones_like(y), create_graph=True, retain_graph=True)[0]


def residual(model, x, t):
    u = model(x, t)
    u_x = derivative(u, x)
    return derivative(u, t) - 0.3 * derivative(u_x, x)


def main():
    torch.manual_seed(0)
    model = Network()
    x, t = torch.meshgrid(torch.linspace(0, 1, 12), torch.linspace(0, 0.5, 8), indexing="ij")
    x = x.reshape(-1, 1).requires_grad_(True)
    t = t.reshape(-1, 1).requires_grad_(True)
    edge = torch.linspace(0, 1, 20).unsqueeze(1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.98)
    for step in range(25):
        optimizer.zero_grad()
        start = model(edge, torch.zeros_like(edge)) - torch.sin(math.pi * edge)
        sides = [model(torch.full_like(edge, side), edge / 2) for side in (0.0, 1.0)]
        loss = (
            residual(model, x, t).square().mean()
            + start.square().mean()
            + sum(s.square().mean() for s in sides)
        )
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 3 == 0:
            print("loss", step, loss.item())
    with torch.no_grad():
        exact = torch.exp(-0.3 * math.pi**2 * t) * torch.sin(math.pi * x)
        print("error", (model(x, t) - exact).abs().mean().item())


if __name__ == "__main__":
    main()
