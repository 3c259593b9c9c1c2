"""Train a small network on several ranks: the gradients are averaged, the ranks stay equal.

flambeau launch -n 2 examples/ddp.py      two processes, each with half of the points
flambeau run examples/ddp.py              one
"""

import os

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel


def train() -> None:
    """Fit y = sin(x) on this rank's share of the points."""
    network = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 1))
    draws = np.random.default_rng(0)  # the same start with every library
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.from_numpy(draws.uniform(-0.5, 0.5, tuple(parameter.shape))))
    model = DistributedDataParallel(network)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    points = torch.linspace(-3, 3, 64).reshape(-1, 1)
    mine = points[dist.get_rank() :: dist.get_world_size()]
    for step in range(201):
        loss = F.mse_loss(model(mine), mine.sin())
        optimizer.zero_grad()
        loss.backward()  # averages the gradients, bucket by bucket
        optimizer.step()
        if step % 25 == 0:
            mean = loss.detach() / dist.get_world_size()
            dist.all_reduce(mean)
            if dist.get_rank() == 0:
                print(f"step {step}: loss {mean.item():.5f}")


if __name__ == "__main__":
    alone = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "0"}
    if "WORLD_SIZE" not in os.environ:
        os.environ.update(alone)
    dist.init_process_group("gloo")
    train()
    dist.destroy_process_group()
