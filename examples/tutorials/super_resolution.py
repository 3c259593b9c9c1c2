"""Super-resolution by sub-pixel convolution."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn, optim


class Net(nn.Module):
    def __init__(self, upscale):
        super().__init__()
        self.relu = nn.ReLU()
        self.conv1 = nn.Conv2d(1, 16, (5, 5), (1, 1), (2, 2))
        self.conv2 = nn.Conv2d(16, 8, (3, 3), (1, 1), (1, 1))
        self.conv3 = nn.Conv2d(8, upscale**2, (3, 3), (1, 1), (1, 1))
        self.shuffle = nn.PixelShuffle(upscale)
        self._initialize_weights()

    def forward(self, x):
        x = self.relu(self.conv1(x))
        x = self.relu(self.conv2(x))
        return self.shuffle(self.conv3(x))

    def _initialize_weights(self):
        nn.init.orthogonal_(self.conv1.weight, nn.init.calculate_gain("relu"))
        nn.init.orthogonal_(self.conv2.weight, nn.init.calculate_gain("relu"))
        nn.init.orthogonal_(self.conv3.weight)


def images(count):
    random = np.random.default_rng(0)
    y, x = np.mgrid[:16, :16] / 16
    waves = random.uniform(2, 12, (count, 2, 1, 1))
    found = np.sin(waves[:, 0] * x + random.uniform(0, 3, (count, 1, 1))) * np.cos(waves[:, 1] * y)
    return torch.from_numpy(found.astype("float32")).unsqueeze(1)


def main():
    torch.manual_seed(0)
    model, criterion = Net(upscale=2), nn.MSELoss()
    weight = model.conv2.weight.detach().flatten(1)
    print("orthogonal", torch.allclose(weight @ weight.t(), 2 * torch.eye(8), atol=1e-4))
    optimizer = optim.Adam(model.parameters(), lr=5e-3)
    targets = images(64)
    inputs = F.interpolate(targets, scale_factor=0.5, mode="bilinear", align_corners=False)
    bicubic = F.interpolate(inputs, scale_factor=2, mode="bicubic", align_corners=False)
    print("bicubic", 10 * math.log10(1 / criterion(bicubic, targets).item()))
    for epoch in range(6):
        for x, y in zip(inputs.chunk(4), targets.chunk(4)):
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            mse = criterion(model(inputs).clamp(-1, 1), targets)
        print("loss", epoch, loss.item(), "psnr", 10 * math.log10(1 / mse.item()))


if __name__ == "__main__":
    main()
