"""Train a small network on several ranks: the gradients are averaged, the ranks stay equal.

flambeau launch -n 2 examples/ddp.py      two processes
python examples/ddp.py                    two ranks that are threads of this process
"""

import os

import flambeau
import flambeau.nn.functional as F
from flambeau import distributed as dist
from flambeau import nn, optim
from flambeau.nn.parallel import DistributedDataParallel


def train(rank: int = 0) -> float:
    """Fit y = sin(x) on this rank's share of the points; -> the last loss."""
    flambeau.manual_seed(0)
    model = DistributedDataParallel(nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 1)))
    optimizer = optim.AdamW(model.parameters(), lr=1e-2)
    points = flambeau.linspace(-3, 3, 64).reshape(-1, 1)
    mine = points[dist.get_rank() :: dist.get_world_size()]
    for step in range(201):
        loss = F.mse_loss(model(mine), mine.sin())
        optimizer.zero_grad()
        loss.backward()  # averages the gradients, bucket by bucket
        optimizer.step()
        if step % 50 == 0:
            mean = loss.detach().clone()
            dist.all_reduce(mean, dist.ReduceOp.AVG)
            if dist.get_rank() == 0:
                print(f"step {step}: loss {mean.item():.5f}")
    return float(mean.item())


if __name__ == "__main__":
    if "WORLD_SIZE" in os.environ or "PMI_SIZE" in os.environ:
        dist.init_process_group()
        train()
        dist.destroy_process_group()
    else:
        dist.spawn_local(2, train)
