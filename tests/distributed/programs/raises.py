"""Run by mpiexec: rank 1 raises while the others wait for it."""

from flambeau.distributed.transport import mpi

world = mpi.world()
if world.rank == 1:
    raise ValueError("on rank 1")
world.barrier().wait()
