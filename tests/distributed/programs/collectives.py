"""Every collective and its derivatives on MPI, beside differences of the whole program."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

import flambeau.distributed as dist
from tests.distributed.test_collectives import CASES, Whole, rank_program

dist.init_process_group("mpi")
rank, size = dist.get_rank(), dist.get_world_size()
for name, case in CASES.items():
    whole = Whole(case, size, np.random.default_rng(zlib.crc32(name.encode())))
    y, first, second = rank_program(rank, whole, size)
    np.testing.assert_allclose(y, whole.ys[rank], rtol=1e-12, atol=1e-12, err_msg=name)
    sums: list[Any] = [None] * size
    dist.all_gather_object(sums, (first, second))
    found = np.sum(sums, 0)
    np.testing.assert_allclose(found[0], whole.first(), rtol=1e-6, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(found[1], whole.second(), rtol=1e-4, atol=1e-4, err_msg=name)
dist.destroy_process_group()
if rank == 0:
    print(f"{len(CASES)} collectives on {size} ranks")
