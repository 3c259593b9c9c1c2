"""Hogwild: processes that train one model in shared memory."""

import numpy as np
import torch
import torch.multiprocessing as mp
from torch import nn


def data():
    x = np.random.default_rng(0).normal(0, 1, (128, 6)).astype("float32")
    return torch.from_numpy(x), torch.from_numpy(np.tanh(x @ np.arange(6)) / 2).float()[:, None]


def train(rank, model, steps):
    x, y = data()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.5)
    for step in range(steps):
        rows = slice(16 * ((2 * step + rank) % 8), 16 * ((2 * step + rank) % 8) + 16)
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x[rows]), y[rows]).backward()
        optimizer.step()


def run(processes, together):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1))
    model.share_memory()
    x, y = data()
    before = nn.functional.mse_loss(model(x), y).item()
    workers = [mp.Process(target=train, args=(rank, model, 12)) for rank in range(processes)]
    for worker in workers:
        worker.start()
        if not together:
            worker.join()
    for worker in workers:
        worker.join()
    with torch.no_grad():
        return before, nn.functional.mse_loss(model(x), y).item()


if __name__ == "__main__":
    mp.set_start_method("spawn", force=True)
    print("loss", *run(2, together=False))
    before, after = run(2, together=True)  # in whatever order they come
    print("learned", after < 0.8 * before)
