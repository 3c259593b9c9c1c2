"""Model-agnostic meta-learning (Finn et al., arXiv:1703.03400): sine waves from ten points, by
gradients of gradient steps."""

import math

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F


def wave():
    """Points of a sine wave, and others of the same."""
    height, phase = 0.1 + 4.9 * torch.rand(1), math.pi * torch.rand(1)
    x = 10 * torch.rand(20, 1) - 5
    y = height * torch.sin(x + phase)
    return x[:10], y[:10], x[10:], y[10:]


def adapted(model, x, y, steps=2, rate=0.01):
    """The model's parameters after some steps of gradient descent, with their history."""
    found = dict(model.named_parameters())
    for _ in range(steps):
        loss = F.mse_loss(functional_call(model, found, (x,)), y)
        slopes = torch.autograd.grad(loss, list(found.values()), create_graph=True)
        found = {k: p - rate * g for (k, p), g in zip(found.items(), slopes)}
    return found


def main():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(1, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 1)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, nesterov=True)
    for step in range(10):
        total = 0
        for _ in range(4):
            x, y, others, wanted = wave()
            found = functional_call(model, adapted(model, x, y), (others,))
            total = total + F.mse_loss(found, wanted) / 4
        optimizer.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        print("loss", step, total.item())


if __name__ == "__main__":
    main()
