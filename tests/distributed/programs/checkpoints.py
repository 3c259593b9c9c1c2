"""Run by mpiexec: saves, loads, and fails to save, on several ranks at once."""

import sys

import pytest

import flambeau as torch
from flambeau.distributed import checkpoint, groups

groups.init_process_group("gloo")
rank, size = groups.get_rank(), groups.get_world_size()
what, folder = sys.argv[1:]
state = {
    "same": {f"w{n}": torch.full((1000 + n,), float(n)) for n in range(6)},
    "own": {f"rank{rank}": torch.full((3,), float(rank))},
    "step": 5,
}
if what == "save":
    metadata = checkpoint.save(state, checkpoint_id=folder)
    assert len(metadata.files()) == size  # each rank wrote its share
    for n in range(3):
        checkpoint.async_save({**state, "step": n}, checkpoint_id=folder)
        groups.default_group().barrier()  # the program's own collectives go on beside it
    checkpoint.async_save(state, checkpoint_id=folder).result()
elif what == "load":
    for tensor in state["same"].values():
        tensor.zero_()
    state["step"] = 0
    checkpoint.load(state, checkpoint_id=folder)
    assert state["step"] == 5
    assert all((tensor == n).all() for n, tensor in enumerate(state["same"].values()))
    with pytest.raises(checkpoint.CheckpointException, match="rank 1: RuntimeError: Missing key"):
        checkpoint.load({"step": 0} if rank == 0 else {"rank1": 0}, checkpoint_id=folder)
else:
    value = torch.ones(2) if rank == 1 else torch.ones(3)
    with pytest.raises(checkpoint.CheckpointException, match="on some ranks"):
        checkpoint.save({"w": value}, checkpoint_id=folder)
    bad = {"a": {"b": 1}, "a.b": 2} if rank == 2 else {"a": 1}
    with pytest.raises(checkpoint.CheckpointException, match="rank 2: ValueError"):
        checkpoint.save(bad, checkpoint_id=folder)
groups.destroy_process_group()
