"""Digits drawn with noise, told apart by a convolutional network with batch norm and dropout."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn, optim
from torch.utils.data import DataLoader, Dataset

GLYPHS = "757 262 717 747 571 175 177 711 777 757".split()  # three rows of three bits each


class Digits(Dataset):
    def __init__(self, count, seed):
        random = np.random.default_rng(seed)
        self.labels = random.integers(0, 10, count)
        rows = np.array([[int(c) for c in glyph] for glyph in GLYPHS])[self.labels]
        bits = (rows[:, :, None] >> np.array([2, 1, 0])) & 1
        images = np.kron(bits, np.ones((3, 3))) + random.normal(0, 0.3, (count, 9, 9))
        self.images = images.astype("float32")

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return torch.from_numpy(self.images[index]).unsqueeze(0), int(self.labels[index])


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 16, 3, padding=1)
        self.drop = nn.Dropout(0.25)
        self.fc1 = nn.Linear(16 * 2 * 2, 32)
        self.fc2 = nn.Linear(32, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.norm1(self.conv1(x))), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = self.drop(torch.flatten(x, 1))
        return F.log_softmax(self.fc2(F.relu(self.fc1(x))), dim=1)


def main():
    torch.manual_seed(0)
    model = Net()
    optimizer = optim.Adadelta(model.parameters(), lr=1.0)
    scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.7)
    train, test = DataLoader(Digits(256, 0), 32), DataLoader(Digits(128, 1), 64)
    for epoch in range(4):
        model.train()
        for inputs, targets in train:
            optimizer.zero_grad()
            loss = F.nll_loss(model(inputs), targets)
            loss.backward()
            optimizer.step()
        scheduler.step()
        model.eval()
        total, correct = 0.0, 0
        with torch.no_grad():
            for inputs, targets in test:
                output = model(inputs)
                total += F.nll_loss(output, targets, reduction="sum").item()
                correct += output.argmax(dim=1, keepdim=True).eq(targets.view_as(
                    output.argmax(dim=1, keepdim=True))).sum().item()  # fmt: skip
        print("loss", epoch, loss.item(), "test", total / 128, "right", correct)


if __name__ == "__main__":
    main()
