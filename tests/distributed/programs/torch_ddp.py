"""A training program as it is written for torchrun; its argument is a folder for a checkpoint."""

import os
import sys

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.nn.parallel import DistributedDataParallel as DDP
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler


def main() -> None:
    """Train with one rank or several; rank 0 prints the loss of each epoch."""
    dist.init_process_group(backend="nccl" if torch.cuda.is_available() else "gloo")
    rank, world = int(os.environ["RANK"]), dist.get_world_size()
    torch.manual_seed(0)
    features = torch.randn(64, 8)
    data = TensorDataset(features, features.sum(1, keepdim=True))
    sampler = DistributedSampler(data, shuffle=False)
    loader = DataLoader(data, batch_size=16 // world, sampler=sampler)
    model = DDP(nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for epoch in range(3):
        sampler.set_epoch(epoch)
        total = torch.zeros(())
        for x, y in loader:
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(x), y)
            loss.backward()
            optimizer.step()
            total += loss.detach()
        dist.all_reduce(total, op=dist.ReduceOp.SUM)
        if rank == 0:
            print((total / world).item())
    model_state, optimizer_state = get_state_dict(model, optimizer)
    dcp.save({"model": model_state, "optimizer": optimizer_state}, checkpoint_id=sys.argv[1])
    state = {"model": model_state, "optimizer": optimizer_state}
    dcp.load(state, checkpoint_id=sys.argv[1])
    set_state_dict(
        model, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"]
    )
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
