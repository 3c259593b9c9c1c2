"""Run by mpiexec: random sequences of collectives against NumPy; prints "the same"."""

import flambeau.distributed as dist
from tests.distributed.test_sequences import run

dist.init_process_group("mpi")
rank, size = dist.get_rank(), dist.get_world_size()
for seed in range(100, 112):
    run(rank, seed, size)
dist.barrier()
if rank == 0:
    print("the same")
dist.destroy_process_group()
