"""A program in the style of PyTorch's tutorial on fully_shard, for torchrun."""

import os
import sys

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Shard


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x):
        q, k, v = self.qkv(self.norm1(x)).chunk(3, -1)
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (q, k, v))
        found = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(found.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    def __init__(self, vocabulary=17, width=16, heads=2, layers=3, context=12):
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(context, width)
        self.layers = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)

    def forward(self, tokens):
        x = self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1]))
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x))


def make(mixed):
    torch.manual_seed(0)
    model = Transformer()
    options = {}
    if mixed:
        options["mp_policy"] = MixedPrecisionPolicy(torch.bfloat16, torch.float32)
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for layer in model.layers:
        fully_shard(layer, mesh=mesh, **options)
    fully_shard(model, mesh=mesh, **options)
    for k, layer in enumerate(model.layers):
        layer.set_modules_to_forward_prefetch(list(model.layers[k + 1 : k + 3]))
    assert isinstance(model, Transformer)
    assert isinstance(model, FSDPModule)
    for param in model.parameters():
        assert isinstance(param, DTensor)
        assert param.placements == (Shard(0),)
        assert param.dtype == torch.float32
    return model, torch.optim.Adam(model.parameters(), lr=1e-2)


def train(model, optim, steps):
    rank = dist.get_rank()
    for step in range(steps):
        torch.manual_seed(10 * step + rank)
        tokens = torch.randint(0, 17, (4, 12))
        logits = model(tokens[:, :-1])
        loss = F.cross_entropy(logits.float().flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
        optim.step()
        optim.zero_grad()
        mean = loss.detach().clone()
        dist.all_reduce(mean)
        if isinstance(norm, DTensor):
            norm = norm.full_tensor()
        if rank == 0:
            print(f"loss {mean.item() / dist.get_world_size():.5f} norm {norm.item():.4f}")


def main():
    dist.init_process_group("gloo")
    rank = int(os.environ["RANK"])
    model, optim = make(mixed=False)
    train(model, optim, 3)

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    states = (
        get_model_state_dict(model, options=options),
        get_optimizer_state_dict(model, optim, options=options),
    )
    path = os.path.join(sys.argv[1], "states.pt")
    if rank == 0:
        torch.save(states, path)
    dist.barrier()
    model, optim = make(mixed=False)
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
    loaded = torch.load(path, mmap=True, weights_only=True) if rank == 0 else ({}, {})
    set_model_state_dict(model, loaded[0], options=options)
    set_optimizer_state_dict(model, optim, loaded[1], options=options)
    train(model, optim, 2)

    model, optim = make(mixed=True)
    train(model, optim, 2)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
