"""Collectives of every kind over NCCL, on as many GPUs as ranks."""

from __future__ import annotations

from typing import Any

import numpy as np

import flambeau
import flambeau.distributed as dist
from flambeau.distributed.groups import default_group
from flambeau.distributed.transport.base import REDUCTIONS, reduce_arrays

dist.init_process_group("nccl")
rank, size = dist.get_rank(), dist.get_world_size()
transport = default_group().transport


def values(of: int, dtype: Any) -> Any:
    """What a rank has."""
    return np.random.default_rng(of).integers(0, 4, 6 * size).astype(dtype)


for dtype in ("float32", "float64", "int32", "int16"):
    everyones = [values(r, dtype) for r in range(size)]
    for op in REDUCTIONS if dtype.startswith("i") else ("sum", "product", "min", "max"):
        wanted, found = np.empty_like(everyones[0]), np.empty_like(everyones[0])
        reduce_arrays(everyones, op, wanted)
        transport.all_reduce(everyones[rank], found, op).wait()
        np.testing.assert_array_equal(found, wanted)
        part = np.empty(6, dtype)
        transport.reduce_scatter(np.split(everyones[rank], size), part, op).wait()
        np.testing.assert_array_equal(part, np.split(wanted, size)[rank])
    parts = [everyones[r][: r + 1] for r in range(size)]
    taken = [np.empty_like(p) for p in parts]
    transport.all_gather(parts[rank], taken).wait()
    np.testing.assert_array_equal(np.concatenate(taken), np.concatenate(parts))
    sending = transport.send(everyones[rank], (rank + 1) % size)
    got = np.empty_like(everyones[0])
    taking = transport.recv(got, (rank - 1) % size)
    sending.wait()
    taking.wait()
    np.testing.assert_array_equal(got, everyones[(rank - 1) % size])
x = flambeau.full((3,), float(rank), dtype=flambeau.bfloat16)
dist.all_reduce(x, dist.ReduceOp.AVG)
assert x.tolist() == [(size - 1) / 2] * 3
group = dist.new_group([0])
if rank == 0:
    dist.all_reduce(x, group=group)
dist.barrier()
dist.destroy_process_group()
if rank == 0:
    print(f"NCCL on {size}")
