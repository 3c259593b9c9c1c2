"""A training step of ResNet-18: 32 images 3 x 64 x 64, 1000 classes, SGD with momentum."""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

VARIANTS = ("f32",)
QUICK = VARIANTS

BATCH, SIZE, CLASSES = 32, 64, 1000
STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))


class Block(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, inputs, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = None
        if stride != 1 or inputs != width:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, width, 1, stride=stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)) + shortcut)


class ResNet(nn.Module):
    """He et al., Deep Residual Learning for Image Recognition (arXiv:1512.03385), table 1."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        blocks, inputs = [], 64
        for width, stride in STAGES:
            blocks += [Block(inputs, width, stride), Block(width, width, 1)]
            inputs = width
        self.blocks = nn.Sequential(*blocks)
        self.average = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(inputs, CLASSES)

    def forward(self, x, y):
        x = self.pool(F.relu(self.bn1(self.conv1(x))))
        x = self.average(self.blocks(x)).flatten(1)
        return F.cross_entropy(self.fc(x), y)


def multiply_adds(model):
    """Of one image's forward pass, by convolutions and the last layer; and of the first of them."""
    size, total = SIZE // 2, 0
    first = model.conv1.weight.numel() * size * size
    size //= 2
    for block in model.blocks:
        stride = block.conv1.stride[0]
        size //= stride
        total += (block.conv1.weight.numel() + block.conv2.weight.numel()) * size * size
        if block.downsample is not None:
            total += block.downsample[0].weight.numel() * size * size
    return first + total + model.fc.weight.numel(), first


def setup(variant, compile):
    """The step of one variant, with parameters and data that every contender shares."""
    random = np.random.default_rng(0)
    model = ResNet()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                fan = parameter.numel() // parameter.shape[0]
                values = random.standard_normal(parameter.shape, dtype=np.float32)
                parameter.copy_(torch.from_numpy(values * np.float32((2 / fan) ** 0.5)))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    x = torch.tensor(random.standard_normal((BATCH, 3, SIZE, SIZE), dtype=np.float32))
    y = torch.tensor(random.integers(0, CLASSES, BATCH))
    loss_of = compile(model)

    def step():
        optimizer.zero_grad()
        loss = loss_of(x, y)
        loss.backward()
        optimizer.step()
        return loss.item()

    # backward is twice forward, but for the gradient of the images, which nobody asks for
    forward, first = multiply_adds(model)
    return {"step": step, "work": 2 * BATCH * (3 * forward - first), "unit": "FLOP"}
