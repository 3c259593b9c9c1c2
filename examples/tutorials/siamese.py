"""A Siamese network: points of the same curve are embedded near each other."""

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Pairs(Dataset):
    def __init__(self, count):
        random = np.random.default_rng(0)
        self.labels = random.integers(0, 3, (count, 3))
        self.labels[:, 1] = self.labels[:, 0]
        self.labels[:, 2] = (self.labels[:, 0] + random.integers(1, 3, count)) % 3
        turn = random.uniform(0, 6.28, (count, 3, 1)) + np.arange(8) * 0.4
        radius = 1 + self.labels[..., None]
        self.points = (radius * np.sin(turn * radius)).astype("float32")

    def __len__(self):
        return len(self.points)

    def __getitem__(self, index):
        anchor, positive, negative = self.points[index]
        return {"anchor": anchor, "positive": positive, "negative": negative}


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleDict({"one": nn.Linear(8, 32), "two": nn.Linear(32, 4)})
        self.act = nn.PReLU()

    def forward(self, x):
        return nn.functional.normalize(self.layers["two"](self.act(self.layers["one"](x))), dim=1)


def main():
    torch.manual_seed(0)
    encoder = Encoder()
    triplet, contrast = nn.TripletMarginLoss(margin=0.5), nn.CosineEmbeddingLoss(margin=0.2)
    optimizer = torch.optim.SGD(encoder.parameters(), lr=0.2, momentum=0.9, nesterov=True)
    for epoch in range(5):
        for batch in DataLoader(Pairs(96), batch_size=24):
            a, p, n = (encoder(batch[k]) for k in ("anchor", "positive", "negative"))
            one = torch.ones(len(a))
            loss = triplet(a, p, n) + contrast(a, p, one) + contrast(a, n, -one)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        near = (torch.pairwise_distance(a, p) < torch.pairwise_distance(a, n)).sum()
        print("loss", epoch, loss.item(), near.item())


if __name__ == "__main__":
    main()
