"""Every collective and its derivatives on MPI, beside differences of the whole program."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

import flambeau.distributed as dist
from tests.distributed.test_collectives import CASES, compare, rank_program, wholes_of

dist.init_process_group("mpi")
rank, size = dist.get_rank(), dist.get_world_size()
for name in CASES:
    every = wholes_of(name, size, np.random.default_rng(zlib.crc32(name.encode())))
    wholes = {t: every[t] for t in ("float64", "bfloat16", "complex64") if t in every}
    everyone: list[Any] = [None] * size
    dist.all_gather_object(everyone, rank_program(rank, wholes, size))
    compare(everyone, wholes)
dist.destroy_process_group()
if rank == 0:
    print(f"{len(CASES)} collectives on {size} ranks")
