"""A normalising flow of affine couplings (Dinh et al., arXiv:1605.08803) on two half moons."""

import math

import torch
from torch import nn
from torch.distributions import MultivariateNormal


class Scaling(nn.Module):
    """Shifts and scales, at first so that the first batch has mean 0 and deviation 1."""

    def __init__(self, size):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(size))
        self.log_scale = nn.Parameter(torch.zeros(size))
        self.register_buffer("ready", torch.tensor(False))

    def forward(self, x):
        if not self.ready:
            with torch.no_grad():
                self.shift.copy_(-x.mean(0))
                self.log_scale.copy_(-x.std(0).log())
                self.ready.fill_(True)
        return (x + self.shift) * self.log_scale.exp(), self.log_scale.sum().expand(len(x))

    def inverse(self, z):
        return z * (-self.log_scale).exp() - self.shift


class Coupling(nn.Module):
    """Changes the features outside the mask by amounts that follow from those inside."""

    def __init__(self, mask):
        super().__init__()
        self.register_buffer("mask", mask)
        size = len(mask)
        self.net = nn.Sequential(nn.Linear(size, 32), nn.LeakyReLU(0.1), nn.Linear(32, 2 * size))
        nn.init.zeros_(self.net[-1].weight)
        nn.init.zeros_(self.net[-1].bias)

    def amounts(self, x):
        scale, shift = self.net(x * self.mask).chunk(2, -1)
        return torch.tanh(scale) * (1 - self.mask), shift * (1 - self.mask)

    def forward(self, x):
        scale, shift = self.amounts(x)
        return x * scale.exp() + shift, scale.sum(-1)

    def inverse(self, z):
        scale, shift = self.amounts(z)
        return (z - shift) * (-scale).exp()


class Flow(nn.Module):
    def __init__(self, size=2, depth=4):
        super().__init__()
        masks = [torch.arange(size).add(k).remainder(2).float() for k in range(depth)]
        self.layers = nn.ModuleList(
            layer for mask in masks for layer in (Scaling(size), Coupling(mask))
        )
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("covariance", torch.eye(size))

    @property
    def base(self):
        return MultivariateNormal(self.mean, self.covariance)

    def log_prob(self, x):
        total = x.new_zeros(len(x))
        for layer in self.layers:
            x, volume = layer(x)
            total = total + volume
        return self.base.log_prob(x) + total

    @torch.no_grad()
    def sample(self, count):
        z = self.base.sample((count,))
        for layer in reversed(self.layers):
            z = layer.inverse(z)
        return z


def moons(count):
    angle, upper = torch.rand(count) * math.pi, torch.rand(count) < 0.5
    x = torch.where(upper, angle.cos(), 1 - angle.cos())
    y = torch.where(upper, angle.sin(), 0.5 - angle.sin())
    return torch.stack([x, y], 1) + 0.05 * torch.randn(count, 2)


def main():
    torch.manual_seed(0)
    flow = Flow()
    optimizer = torch.optim.Adam(flow.parameters(), lr=5e-3)
    for step in range(30):
        loss = -flow.log_prob(moons(128)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 6 == 5:
            print("loss", step, loss.item())
    x = flow.sample(200)
    print("mean", *(f"{v:.1f}" for v in (*x.mean(0), *x.std(0))))


if __name__ == "__main__":
    main()
