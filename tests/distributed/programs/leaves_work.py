"""Run by mpiexec: rank 1 fails while an all_reduce is under way that the others never come to."""

import sys

import flambeau
import flambeau.distributed as dist
from flambeau.distributed import functional

dist.init_process_group("mpi")
x, big = flambeau.ones(3), flambeau.ones(1 << 20)
flambeau.stack([x.sum(), big.sum()]).tolist()
if dist.get_rank() == 1:
    total = functional.all_reduce(big, "sum")
    wrong = x[flambeau.tensor([7])]
    if sys.argv[1] == "caught":
        try:
            wrong.tolist()
        except IndexError:
            print("caught", flush=True)
        dist.send(flambeau.ones(2), 0)
    else:
        wrong.tolist()
if dist.get_rank() == 0:
    dist.recv(flambeau.zeros(2), 1)
    total = functional.all_reduce(big, "sum")
    print(total[-1].item(), flush=True)
dist.barrier()
