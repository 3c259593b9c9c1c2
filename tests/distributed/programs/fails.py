"""Run by `flambeau launch`: rank 1 fails in the way the first argument says, the others wait."""

import os
import signal
import sys
import time

import numpy as np

from flambeau.distributed.transport import mpi

world = mpi.world()
way = sys.argv[1]
values = np.ones(8, np.float32)
for _ in range(3):
    world.all_reduce(values, values).wait()
if world.rank == 1:
    if way == "raise":
        raise ValueError("no data for step 3")
    if way == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if way == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    if way == "leave":
        os._exit(3)
    if way == "exit":
        sys.exit(4)
    if way == "hang":
        time.sleep(1000)
    if way == "mismatch":
        world.barrier().wait()
    if way == "return":
        sys.exit(0)
if way != "well":
    world.all_reduce(values, values).wait()
print(f"rank {world.rank} is done", flush=True)
