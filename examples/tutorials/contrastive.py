"""Contrastive learning (SimCLR: Chen et al., arXiv:2002.05709): two views of an image, turned,
moved and mirrored, are nearer to each other than to all other images."""

import torch
from torch import nn
from torch.nn import functional as F


def view(images):
    """Each image turned, scaled and moved a little, perhaps mirrored, with noise."""
    count = len(images)
    angle, scale = (torch.rand(count) - 0.5) * 0.6, 0.8 + 0.4 * torch.rand(count)
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = scale * angle.cos()
    theta[:, 1, 0] = scale * angle.sin()
    theta[:, 0, 1] = -theta[:, 1, 0]
    theta[..., 2] = torch.empty(count, 2).uniform_(-0.2, 0.2)
    grid = F.affine_grid(theta, images.shape, align_corners=False)
    moved = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    mirrored = torch.rand(count, 1, 1, 1) < 0.5
    moved = torch.where(mirrored, moved.flip(-1), moved)
    return (moved + 0.1 * torch.randn_like(moved)).clamp(0, 1)


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 8, 3, stride=2, padding=1),
            nn.GroupNorm(2, 8),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2, padding=1),
            nn.GroupNorm(2, 16),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.project = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 8))

    def forward(self, x):
        return F.normalize(self.project(self.body(x)), dim=1)


def nearest(a, b, temperature=0.5):
    """The loss, and how often an image's nearest neighbour is its other view."""
    z = torch.cat([a, b])
    alike = z @ z.t() / temperature
    alike.masked_fill_(torch.eye(len(z), dtype=torch.bool), float("-inf"))
    partner = torch.arange(len(z)).roll(len(z) // 2)
    return F.cross_entropy(alike, partner), (alike.argmax(1) == partner).float().mean()


def main():
    torch.manual_seed(0)
    encoder = Encoder()
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=3e-3)
    images = torch.rand(32, 1, 16, 16)
    for step in range(6):
        loss, found = nearest(encoder(view(images)), encoder(view(images)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print("loss", step, f"{found.item():.4f}", loss.item())
    with torch.inference_mode():
        features = encoder.eval().body(images)
        alike = F.cosine_similarity(features[:, None], features[None], dim=-1)
    values, places = alike.topk(3)
    print("itself", (places[:, 0] == torch.arange(32)).all().item(), values[:, 1].mean().item())
    print("farthest", torch.cdist(features, features).max().item())


if __name__ == "__main__":
    main()
