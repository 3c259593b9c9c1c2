"""MLP with BatchNorm and Dropout, DataLoader workers, best weights kept."""

import copy

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset, Sampler


class Rings(Dataset):
    def __init__(self, n, seed):
        rng = np.random.default_rng(seed)
        self.label = rng.integers(0, 3, n)
        radius = self.label + 1 + rng.normal(0, 0.2, n)
        angle = rng.uniform(0, 2 * np.pi, n)
        self.points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)

    def __len__(self):
        return len(self.label)

    def __getitem__(self, i):
        return {"x": torch.tensor(self.points[i], dtype=torch.float32), "y": int(self.label[i])}


class Order(Sampler):
    def __init__(self, n):
        self.n, self.epoch = n, 0

    def __iter__(self):
        self.epoch += 1
        return iter(np.random.default_rng(self.epoch).permutation(self.n).tolist())

    def __len__(self):
        return self.n


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(2, 32, bias=False),
            nn.BatchNorm1d(32),
            nn.ReLU(inplace=True),
            nn.Dropout(0.0),
            nn.Linear(32, 32, bias=False),
            nn.BatchNorm1d(32, momentum=0.2),
            nn.SiLU(),
            nn.Dropout(0.5),
        )
        self.head = nn.Linear(32, 3)

    def forward(self, x):
        return self.head(self.body(x))


def main():
    net = Net()
    rng = np.random.default_rng(3)
    for p in net.parameters():
        p.data.copy_(torch.from_numpy(rng.normal(0, 0.3, p.shape)))
    net.body[7].p = 0.0
    train = DataLoader(
        Rings(120, 0), batch_size=32, sampler=Order(120), num_workers=2, drop_last=True
    )
    test = DataLoader(Rings(60, 1), batch_size=40)
    optimizer = torch.optim.SGD(net.parameters(), lr=5e-2, momentum=0.9)
    best, kept = float("inf"), None
    for _epoch in range(4):
        net.train()
        for batch in train:
            optimizer.zero_grad(set_to_none=True)
            loss = F.cross_entropy(net(batch["x"]), batch["y"])
            loss.backward()
            optimizer.step()
            print("loss", loss.item())
        net.eval()
        total, right = 0.0, 0
        with torch.no_grad():
            for batch in test:
                out = net(batch["x"])
                total += F.cross_entropy(out, batch["y"], reduction="sum").item()
                right += (out.argmax(dim=1) == batch["y"]).sum().item()
        print("test", total / 60, right)
        if total < best:
            best, kept = total, copy.deepcopy(net.state_dict())
    net.load_state_dict(kept)
    print(
        "stats",
        net.body[1].running_mean.sum().item(),
        net.body[1].running_var.sum().item(),
        int(net.body[1].num_batches_tracked),
    )
    net.body[7].p = 0.5
    print("eval", net.eval()(torch.ones(1, 2)).tolist()[0][0])


if __name__ == "__main__":
    main()
