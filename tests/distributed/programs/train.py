"""Run by `flambeau launch`: trains a small network, and goes on from its last checkpoint.

Args: the checkpoint's folder, steps, and the file for the last loss, beside which `begun` gets the
step at which each start began. Each step's data is a function of the step and of all ranks
together, so that the loss does not depend on how many share the work or on how often the run was
interrupted.
"""

import sys
import time
from pathlib import Path

import numpy as np

import flambeau as torch
from flambeau.distributed import checkpoint, groups
from flambeau.distributed.ddp import DistributedDataParallel

folder, steps, result = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
groups.init_process_group("mpi")
rank, size = groups.get_rank(), groups.get_world_size()
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.Tanh(), torch.nn.Linear(32, 4))
model = model.double()
parallel = DistributedDataParallel(model)
optimizer = torch.optim.AdamW(parallel.parameters(), lr=1e-2)
state = {"model": model, "optimizer": optimizer, "step": 0}
if (folder / "index.json").exists():
    checkpoint.load(state, checkpoint_id=folder)
if rank == 0:
    with result.with_name("begun").open("a") as file:
        file.write(f"{state['step']}\n")
saving = None
for step in range(state["step"], steps):
    random = np.random.default_rng(step)
    x, y = random.standard_normal((12, 16)), random.standard_normal((12, 4))
    mine = slice(rank * 12 // size, (rank + 1) * 12 // size)
    optimizer.zero_grad()
    loss = (parallel(torch.from_numpy(x[mine])) - torch.from_numpy(y[mine])).square().mean()
    loss.backward()
    optimizer.step()
    if saving is not None:
        saving.result()
    saving = checkpoint.async_save({**state, "step": step + 1}, checkpoint_id=folder)
    time.sleep(0.01)
saving.result()
whole = (model(torch.from_numpy(x)) - torch.from_numpy(y)).square().mean().item()
if rank == 0:
    result.write_text(repr(whole))
