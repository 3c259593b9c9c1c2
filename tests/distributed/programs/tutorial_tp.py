"""A program in the style of PyTorch's tutorials on tensor and sequence parallelism, for torchrun:
both, and fully_shard beside them on a mesh of two axes where there are four ranks."""

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    PrepareModuleInput,
    RowwiseParallel,
    SequenceParallel,
    loss_parallel,
    parallelize_module,
)


class ToyModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.in_proj = nn.Linear(10, 32)
        self.relu = nn.ReLU()
        self.out_proj = nn.Linear(32, 5)

    def forward(self, x):
        return self.out_proj(self.relu(self.in_proj(x)))


class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(8)
        self.feed = ToyFeed()
        self.out_norm = nn.LayerNorm(8)
        self.output = nn.Linear(8, 12)

    def forward(self, x):
        return self.output(self.out_norm(x + self.feed(self.norm(x))))


class ToyFeed(nn.Module):
    def __init__(self):
        super().__init__()
        self.w1, self.w2 = nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, x):
        return self.w2(torch.nn.functional.silu(self.w1(x)))


def tell(*words):
    if dist.get_rank() == 0:
        print(*words, flush=True)


def tensor_parallel(mesh):
    torch.manual_seed(0)
    model = parallelize_module(
        ToyModel(), mesh, {"in_proj": ColwiseParallel(), "out_proj": RowwiseParallel()}
    )
    assert model.in_proj.weight.placements == (Shard(0),)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02, foreach=True)
    for step in range(3):
        torch.manual_seed(step)  # what goes in is the same on all ranks
        output = model(torch.rand(4, 10))
        output.square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        tell(f"tensor {output.square().sum().item():.5f}")


def sequence_parallel(mesh):
    torch.manual_seed(1)
    plan = {
        "norm": SequenceParallel(),
        "feed": PrepareModuleInput(input_layouts=(Shard(1),), desired_input_layouts=(Replicate(),)),
        "feed.w1": ColwiseParallel(),
        "feed.w2": RowwiseParallel(output_layouts=Shard(1)),
        "out_norm": SequenceParallel(),
        "output": ColwiseParallel(
            input_layouts=Shard(1), output_layouts=Shard(-1), use_local_output=False
        ),
    }
    model = parallelize_module(Normed(), mesh, plan)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    for step in range(3):
        torch.manual_seed(step)
        x = torch.randn(2, 8, 8).chunk(mesh.size(), 1)[mesh.get_local_rank()]
        target = torch.randint(0, 12, (16,))
        with loss_parallel():
            logits = model(x).flatten(0, 1)
            loss = nn.functional.cross_entropy(logits, target)
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        loss = loss.full_tensor() if isinstance(loss, DTensor) else loss
        tell(f"sequence {loss.item():.5f}")


def both(mesh):
    torch.manual_seed(2)
    model = parallelize_module(
        ToyModel(), mesh["tp"], {"in_proj": ColwiseParallel(), "out_proj": RowwiseParallel()}
    )
    fully_shard(model, mesh=mesh["dp"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    for step in range(3):
        torch.manual_seed(10 * step + mesh["dp"].get_local_rank())
        loss = model(torch.rand(4, 10)).square().sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        total = loss.detach().clone()
        dist.all_reduce(total, group=mesh["dp"].get_group())
        tell(f"both {total.item():.5f}")


def main():
    dist.init_process_group("gloo")
    ranks = dist.get_world_size()
    mesh = init_device_mesh("cpu", (ranks,))
    tensor_parallel(mesh)
    sequence_parallel(mesh)
    if ranks == 4:
        both(init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp")))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
