"""A program in the style of PyTorch's tutorial on DistributedDataParallel: it starts its ranks."""

import os
import socket
import tempfile

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn, optim
from torch.nn.parallel import DistributedDataParallel as DDP


def setup(rank, world_size, port):
    os.environ["MASTER_ADDR"] = "localhost"
    os.environ["MASTER_PORT"] = str(port)
    dist.init_process_group("gloo", rank=rank, world_size=world_size)


def cleanup():
    dist.destroy_process_group()


class ToyModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.net1 = nn.Linear(10, 10)
        self.relu = nn.ReLU()
        self.net2 = nn.Linear(10, 5)

    def forward(self, x):
        return self.net2(self.relu(self.net1(x)))


def train(model, rank, steps):
    loss_fn = nn.MSELoss()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    for step in range(steps):
        torch.manual_seed(100 * step + rank)
        optimizer.zero_grad()
        outputs = model(torch.randn(20, 10))
        labels = torch.randn(20, 5)
        loss = loss_fn(outputs, labels)
        loss.backward()
        optimizer.step()
        mean = loss.detach().clone()
        dist.all_reduce(mean, op=dist.ReduceOp.SUM)
        if rank == 0:
            print(f"loss {mean.item() / dist.get_world_size():.6f}", flush=True)


def demo_basic(rank, world_size, port, folder):
    setup(rank, world_size, port)
    torch.manual_seed(rank)  # DDP makes the models equal
    ddp_model = DDP(ToyModel())
    train(ddp_model, rank, 3)

    path = os.path.join(folder, "model.checkpoint")
    if rank == 0:
        torch.save(ddp_model.state_dict(), path)
    dist.barrier()  # others read it after it was written
    again = DDP(ToyModel())
    again.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    train(again, rank, 2)
    dist.barrier()
    cleanup()


def run_demo(demo_fn, world_size):
    with socket.socket() as s, tempfile.TemporaryDirectory() as folder:
        s.bind(("localhost", 0))
        port = s.getsockname()[1]
        s.close()
        mp.spawn(demo_fn, args=(world_size, port, folder), nprocs=world_size, join=True)


if __name__ == "__main__":
    run_demo(demo_basic, 2)
