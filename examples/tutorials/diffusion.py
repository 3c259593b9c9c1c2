"""Denoising diffusion of handwritten digits: a small U-Net with attention, averaged weights, and
samples by going the noise's way back (Ho et al., arXiv:2006.11239)."""

import copy
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

STEPS = 40


def digits(count):
    """Images (N, 1, 8, 8) of rings and strokes, from -1 to 1."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:8, :8] - 3.5
    radius, width = random.uniform(1.5, 3.0, (2, count, 1, 1))
    ring = np.exp(-((np.hypot(x, y) - radius) ** 2))
    stroke = np.exp(-((x - width + 2) ** 2))
    image = np.where(random.random((count, 1, 1)) < 0.5, ring, stroke)
    return torch.from_numpy(image[:, None].astype("float32")) * 2 - 1


class TimeEmbedding(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.dim = dim

    def forward(self, t):
        half = self.dim // 2
        rates = torch.exp(torch.arange(half, device=t.device) * -(math.log(10000) / (half - 1)))
        angles = t.float()[:, None] * rates[None, :]
        return torch.cat((angles.sin(), angles.cos()), dim=-1)


class Block(nn.Module):
    def __init__(self, c_in, c_out, dim):
        super().__init__()
        self.proj = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.norm = nn.GroupNorm(4, c_out)
        self.mlp = nn.Sequential(nn.SiLU(), nn.Linear(dim, c_out * 2))
        self.skip = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x, t):
        scale, shift = self.mlp(t)[:, :, None, None].chunk(2, dim=1)
        return F.silu(self.norm(self.proj(x)) * (scale + 1) + shift) + self.skip(x)


class UNet(nn.Module):
    def __init__(self, c=16, dim=32):
        super().__init__()
        self.time = nn.Sequential(TimeEmbedding(dim), nn.Linear(dim, dim), nn.GELU())
        self.first = nn.Conv2d(1, c, 3, padding=1)
        self.left = Block(c, c, dim)
        self.down = nn.Conv2d(c, 2 * c, 4, 2, 1)
        self.middle = Block(2 * c, 2 * c, dim)
        self.attention = nn.MultiheadAttention(2 * c, 4, batch_first=True)
        self.up = nn.ConvTranspose2d(2 * c, c, 4, 2, 1)
        self.right = Block(2 * c, c, dim)
        self.last = nn.Conv2d(c, 1, 1)

    def forward(self, x, t):
        t = self.time(t)
        left = self.left(self.first(x), t)
        h = self.middle(self.down(left), t)
        n, c, height, width = h.shape
        s = h.flatten(2).transpose(1, 2)
        s = s + self.attention(s, s, s, need_weights=False)[0]
        h = self.up(s.transpose(1, 2).reshape(n, c, height, width))
        return self.last(self.right(torch.cat([h, left], 1), t))


def cosine_schedule():
    x = torch.linspace(0, STEPS, STEPS + 1, dtype=torch.float64)
    kept = torch.cos((x / STEPS + 0.008) / 1.008 * math.pi / 2) ** 2
    return torch.clip(1 - kept[1:] / kept[:-1], 0, 0.999).float()


@torch.inference_mode()
def sample(model, betas, count):
    alphas = 1 - betas
    kept = torch.cumprod(alphas, 0)
    before = F.pad(kept[:-1], (1, 0), value=1.0)
    x = torch.randn(count, 1, 8, 8)
    for i in reversed(range(STEPS)):
        noise = model(x, torch.full((count,), i))
        x = (x - betas[i] / torch.sqrt(1 - kept[i]) * noise) / alphas[i].sqrt()
        if i:
            variance = betas[i] * (1 - before[i]) / (1 - kept[i])
            x += variance.sqrt() * torch.randn_like(x)
    return x.clamp(-1, 1)


def main():
    torch.manual_seed(0)
    model = UNet()
    average = copy.deepcopy(model).eval().requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 24)
    betas = cosine_schedule()
    kept = torch.cumprod(1 - betas, 0)
    loader = DataLoader(TensorDataset(digits(256)), 64, shuffle=True, drop_last=True)
    for epoch in range(6):
        for (x,) in loader:
            t = torch.randint(0, STEPS, (len(x),))
            noise = torch.randn_like(x)
            a = kept.gather(-1, t).reshape(-1, 1, 1, 1)
            loss = F.mse_loss(model(a.sqrt() * x + (1 - a).sqrt() * noise, t), noise)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                for p, q in zip(average.parameters(), model.parameters()):
                    p.lerp_(q, 0.1)
        print("loss", epoch, norm.item(), schedule.get_last_lr()[0], loss.item())
    images = sample(average, betas, 4)
    print("samples", images.mean().item(), images.std().item())


if __name__ == "__main__":
    main()
