"""A training step of a convolutional variational autoencoder: 64 images 1x32x32, Adam.

Reference: Kingma and Welling, Auto-Encoding Variational Bayes (arXiv:1312.6114).
"""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

VARIANTS = ("f32",)
QUICK = VARIANTS

BATCH, SIZE, WIDTH, LATENT = 64, 32, 32, 32


class VAE(nn.Module):
    """Encodes images as normal distributions and decodes draws from them."""

    def __init__(self):
        super().__init__()
        self.encode = nn.Sequential(
            nn.Conv2d(1, WIDTH, 3, padding=1),
            nn.BatchNorm2d(WIDTH),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(WIDTH, 2 * WIDTH, 3, padding=1),
            nn.BatchNorm2d(2 * WIDTH),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
        )
        features = 2 * WIDTH * (SIZE // 4) ** 2
        self.moments = nn.Linear(features, 2 * LATENT)
        self.expand = nn.Linear(LATENT, features)
        self.decode = nn.Sequential(
            nn.Unflatten(1, (2 * WIDTH, SIZE // 4, SIZE // 4)),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(2 * WIDTH, WIDTH, 3, padding=1),
            nn.BatchNorm2d(WIDTH),
            nn.ReLU(),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(WIDTH, 1, 3, padding=1),
        )

    def forward(self, x, noise):
        mean, logvar = self.moments(self.encode(x)).chunk(2, dim=1)
        drawn = mean + noise * (0.5 * logvar).exp()
        logits = self.decode(F.relu(self.expand(drawn)))
        likelihood = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        divergence = -0.5 * (1 + logvar - mean.pow(2) - logvar.exp()).sum()
        return (likelihood + divergence) / x.shape[0]


def setup(variant, compile):
    """The step of one variant, with parameters and data that every contender shares."""
    random = np.random.default_rng(0)
    model = VAE()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                scale = (2 / parameter[0].numel()) ** 0.5
                values = scale * random.standard_normal(tuple(parameter.shape), dtype=np.float32)
                parameter.copy_(torch.from_numpy(values))
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.zeros_(module.bias)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    x = torch.tensor(random.random((BATCH, 1, SIZE, SIZE), dtype=np.float32))
    noise = torch.tensor(random.standard_normal((BATCH, LATENT), dtype=np.float32))
    loss_of = compile(model)

    def step():
        optimizer.zero_grad()
        loss = loss_of(x, noise)
        loss.backward()
        optimizer.step()
        return loss.item()

    return {"step": step}
