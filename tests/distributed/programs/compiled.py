"""Run by mpiexec: compiled training steps replay their collectives; prints "the same"."""

import numpy as np

import flambeau.distributed as dist
from tests.distributed.test_compiled import train

dist.init_process_group("mpi")
rank = dist.get_rank()
for form in ("by hand", "ddp", "fsdp"):
    plain, compiled = train(rank, False, form), train(rank, True, form)
    assert compiled[2] >= 4, compiled[3]
    np.testing.assert_array_equal(compiled[0], plain[0])
    for found, wanted in zip(compiled[1], plain[1], strict=True):
        np.testing.assert_array_equal(found, wanted)
dist.barrier()
if rank == 0:
    print("the same")
dist.destroy_process_group()
