"""Gaussian process regression (Rasmussen and Williams, 2006, algorithm 2.1): the marginal
likelihood by a Cholesky factor, in float64, and its parameters by L-BFGS."""

import math

import torch
from torch import nn


class Process(nn.Module):
    def __init__(self):
        super().__init__()
        self.log_length = nn.Parameter(torch.zeros(()))
        self.log_height = nn.Parameter(torch.zeros(()))
        self.log_noise = nn.Parameter(torch.tensor(0.1).log())

    def kernel(self, a, b):
        distance = torch.cdist(a, b) / self.log_length.exp()
        return self.log_height.exp() * torch.exp(-0.5 * distance**2)

    def factor(self, x):
        noise = (self.log_noise.exp() + 1e-6) * torch.eye(len(x))
        return torch.linalg.cholesky(self.kernel(x, x) + noise)

    def forward(self, x, y):
        """The negative logarithm of the marginal likelihood."""
        lower = self.factor(x)
        weights = torch.cholesky_solve(y.unsqueeze(-1), lower).squeeze(-1)
        determinant = lower.diagonal().log().sum()
        return 0.5 * (y @ weights) + determinant + 0.5 * len(x) * math.log(2 * math.pi)

    @torch.no_grad()
    def predict(self, x, y, where):
        lower, across = self.factor(x), self.kernel(x, where)
        mean = across.T @ torch.cholesky_solve(y.unsqueeze(-1), lower)
        half = torch.linalg.solve_triangular(lower, across, upper=False)
        variance = self.kernel(where, where) - half.T @ half
        return mean.squeeze(-1), variance.diagonal().clamp_min(0).sqrt()


def main():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    x = torch.linspace(0, 5, 20).unsqueeze(-1)
    y = torch.sin(2 * x[:, 0]) + 0.1 * torch.randn(20)
    process = Process()
    optimizer = torch.optim.LBFGS(process.parameters(), lr=0.3, max_iter=4)

    def closure():
        optimizer.zero_grad()
        loss = process(x, y)
        loss.backward()
        return loss

    for step in range(4):
        print("loss", step, optimizer.step(closure).item())
    mean, deviation = process.predict(x, y, torch.tensor([[1.0], [2.5], [6.0]]))
    print("mean", *mean.tolist(), "deviation", *deviation.tolist())
    print("parameters", *(p.exp().item() for p in process.parameters()))
    try:
        print(torch.linalg.cholesky(-process.kernel(x, x)))
    except torch.linalg.LinAlgError as error:
        print(str(error).partition(" (")[0])


if __name__ == "__main__":
    try:
        main()
    finally:
        torch.set_default_dtype(torch.float32)
