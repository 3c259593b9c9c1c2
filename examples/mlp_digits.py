"""Classify small pictures of strokes with a multilayer perceptron, in the usual form of a PyTorch
program: Dataset, DataLoader, Module, a training and an evaluation loop.

The pictures are made up here, so nothing is downloaded.

    flambeau run examples/mlp_digits.py --epochs 3
"""

import argparse

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

SIZE = 12
CLASSES = 10


class Strokes(Dataset):
    """Noisy pictures of ten patterns, shifted by up to one pixel."""

    def __init__(self, count: int, seed: int) -> None:
        patterns = np.random.default_rng(7).random((CLASSES, SIZE, SIZE)) > 0.7
        random = np.random.default_rng(seed)
        self.labels = random.integers(0, CLASSES, size=count)
        shifts = random.integers(-1, 2, size=(count, 2))
        clean = [
            np.roll(patterns[label], tuple(shift), axis=(0, 1))
            for label, shift in zip(self.labels, shifts)
        ]
        noise = random.normal(scale=0.4, size=(count, SIZE, SIZE))
        self.pictures = (np.stack(clean) + noise).astype(np.float32)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.from_numpy(self.pictures[index]).unsqueeze(0), int(self.labels[index])


class Net(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(SIZE * SIZE, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.fc2 = nn.Linear(hidden, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.flatten(x, 1)
        x = F.relu(self.norm(self.fc1(x)))
        return F.log_softmax(self.fc2(x), dim=1)


def set_weights(model: nn.Module, seed: int) -> None:
    """Weights from NumPy, so that every framework starts from the same ones."""
    random = np.random.default_rng(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            elif parameter.dim() == 2:
                scale = parameter.shape[1] ** -0.5
                values = random.normal(scale=scale, size=tuple(parameter.shape))
                parameter.copy_(torch.from_numpy(values.astype(np.float32)))


def train(model, device, loader, optimizer, epoch):
    model.train()
    for batch_idx, (data, target) in enumerate(loader):
        data, target = data.to(device), target.to(device)
        optimizer.zero_grad()
        loss = F.nll_loss(model(data), target)
        loss.backward()
        optimizer.step()
        if batch_idx % 10 == 0:
            print(f"epoch {epoch}  batch {batch_idx:3d}  loss {loss.item():.6f}")


def test(model, device, loader):
    model.eval()
    test_loss, correct = 0.0, 0
    with torch.no_grad():
        for data, target in loader:
            data, target = data.to(device), target.to(device)
            output = model(data)
            test_loss += F.nll_loss(output, target, reduction="sum").item()
            pred = output.argmax(dim=1, keepdim=True)
            correct += pred.eq(target.view_as(pred)).sum().item()
    count = len(loader.dataset)
    print(f"test loss {test_loss / count:.6f}  accuracy {100.0 * correct / count:.1f} %")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    training = Strokes(2000, seed=1)
    order = np.random.default_rng(args.seed).permutation(len(training)).tolist()
    train_loader = DataLoader(training, batch_size=args.batch_size, sampler=order)
    test_loader = DataLoader(Strokes(500, seed=2), batch_size=250)

    model = Net(args.hidden).to(device)
    set_weights(model, args.seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.7)
    for epoch in range(1, args.epochs + 1):
        train(model, device, train_loader, optimizer, epoch)
        test(model, device, test_loader)
        scheduler.step()


if __name__ == "__main__":
    main()
