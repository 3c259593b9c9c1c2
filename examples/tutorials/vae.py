"""A variational autoencoder of patterns of stripes."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(64, 32)
        self.mu = nn.Linear(32, 2)
        self.logvar = nn.Linear(32, 2)
        self.fc3 = nn.Linear(2, 32)
        self.fc4 = nn.Linear(32, 64)

    def encode(self, x):
        h = F.relu(self.fc1(x))
        return self.mu(h), self.logvar(h)

    def reparameterize(self, mu, logvar):
        std = torch.exp(0.5 * logvar)
        return mu + torch.randn_like(std) * std

    def decode(self, z):
        return torch.sigmoid(self.fc4(F.relu(self.fc3(z))))

    def forward(self, x):
        mu, logvar = self.encode(x.view(-1, 64))
        return self.decode(self.reparameterize(mu, logvar)), mu, logvar


def loss_function(recon, x, mu, logvar):
    bce = F.binary_cross_entropy(recon, x.view(-1, 64), reduction="sum")
    kld = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return bce + kld


def stripes(count):
    random = np.random.default_rng(0)
    angle, width = random.uniform(0, 3, count), random.uniform(0.6, 1.6, count)
    y, x = np.mgrid[:8, :8] - 3.5
    wave = np.cos(angle)[:, None, None] * x + np.sin(angle)[:, None, None] * y
    return torch.from_numpy((np.sin(wave * width[:, None, None]) > 0).astype("float32"))


def main():
    torch.manual_seed(0)
    model = VAE()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    data = stripes(256)
    for epoch in range(6):
        total = 0.0
        for batch in data.split(32):
            optimizer.zero_grad()
            loss = loss_function(*((found := model(batch))[0], batch, *found[1:]))
            loss.backward()
            total += loss.item()
            optimizer.step()
        print("loss", epoch, total / len(data))
    with torch.no_grad():
        print("sample", *model.decode(torch.tensor([[0.5, -0.5]])).flatten()[::9].tolist())


if __name__ == "__main__":
    main()
