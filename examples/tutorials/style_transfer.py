"""Neural style transfer: an image whose features follow one image and whose textures another."""

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn, optim


class ContentLoss(nn.Module):
    def __init__(self, target):
        super().__init__()
        self.target = target.detach()

    def forward(self, input):
        self.loss = F.mse_loss(input, self.target)
        return input


def gram_matrix(input):
    a, b, c, d = input.size()
    features = input.view(a * b, c * d)
    return torch.mm(features, features.t()).div(a * b * c * d)


class StyleLoss(nn.Module):
    def __init__(self, target):
        super().__init__()
        self.target = gram_matrix(target).detach()

    def forward(self, input):
        self.loss = F.mse_loss(gram_matrix(input), self.target)
        return input


def losses_in(cnn, style, content):
    model, styles, contents = nn.Sequential(), [], []
    for i, layer in enumerate(copy.deepcopy(cnn).children()):
        model.add_module(f"layer_{i}", nn.ReLU() if isinstance(layer, nn.ReLU) else layer)
        if isinstance(layer, nn.Conv2d):
            styles.append(StyleLoss(model(style)))
            model.add_module(f"style_{i}", styles[-1])
            if i == 3:
                contents.append(ContentLoss(model(content)))
                model.add_module(f"content_{i}", contents[-1])
    return model, styles, contents


def main():
    torch.manual_seed(0)
    cnn = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(inplace=True), nn.AvgPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(inplace=True),
    ).eval()  # fmt: skip
    y, x = np.mgrid[:16, :16] / 16
    content = np.stack([x, y, x * y])[None]
    style = np.stack([np.sin(20 * x), np.sin(20 * y), np.cos(20 * (x + y))])[None] / 2 + 0.5
    content, style = (torch.from_numpy(i.astype("float32")) for i in (content, style))
    model, styles, contents = losses_in(cnn, style, content)
    image = content.clone().requires_grad_(True)
    model.requires_grad_(False)
    optimizer = optim.Adam([image], lr=0.02)
    for step in range(10):

        def closure():
            with torch.no_grad():
                image.clamp_(0, 1)
            optimizer.zero_grad()
            model(image)
            loss = 1e3 * sum(s.loss for s in styles) + sum(c.loss for c in contents)
            loss.backward()
            return loss

        loss = optimizer.step(closure)
        print("loss", step, loss.item())
    print("image", image.mean().item(), image.std().item())


if __name__ == "__main__":
    main()
