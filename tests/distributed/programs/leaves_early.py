"""Run by mpiexec on 3 ranks: rank 1 ends while rank 0 still waits for rank 2."""

import time

import flambeau
import flambeau.distributed as dist

dist.init_process_group("mpi")
rank = dist.get_rank()
x = flambeau.ones(1) * (rank + 1)
if rank == 2:
    time.sleep(3.0)
dist.reduce(x, 0)
if rank == 0:
    print(x.item(), flush=True)
