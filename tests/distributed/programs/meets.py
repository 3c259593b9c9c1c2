"""A rank that nobody launched: it says who it is and finds the others; rank 1 may raise."""

from __future__ import annotations

import sys

import flambeau
import flambeau.distributed as dist

rank, size, port = map(int, sys.argv[1:4])
dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=size)
x = flambeau.tensor([rank + 1.0])
dist.all_reduce(x)
x.tolist()
if rank == 1 and sys.argv[4:] == ["raise"]:
    raise ValueError("on rank 1")
dist.barrier()
dist.destroy_process_group()
print(rank, x.item())
