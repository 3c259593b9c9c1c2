"""Run by mpiexec: saves, loads, and fails to save, on several ranks at once."""

import sys

import pytest

import flambeau as torch
from flambeau.distributed import checkpoint, groups
from flambeau.distributed.mesh import init_device_mesh
from flambeau.distributed.tensor import Replicate, Shard, distribute_tensor

groups.init_process_group("gloo")
rank, size = groups.get_rank(), groups.get_world_size()
what, folder = sys.argv[1:]
state = {
    "same": {f"w{n}": torch.full((1000 + n,), float(n)) for n in range(6)},
    "own": {f"rank{rank % 3}": torch.full((3,), float(rank))},
    "step": 5,
}
mesh = init_device_mesh("cpu", (size,))
WHOLE = torch.arange(70.0).reshape(7, 10)
cuts = [Shard(0), Shard(1), Replicate()] if what == "save" else [Shard(1), Replicate(), Shard(-2)]
state["cut"] = [distribute_tensor(WHOLE.clone(), mesh, [cut]) for cut in cuts]
if what == "save":
    metadata = checkpoint.save(state, checkpoint_id=folder)
    assert len(metadata.files()) == size  # each rank wrote its share
    for n in range(3):
        checkpoint.async_save({**state, "step": n}, checkpoint_id=folder)
        groups.default_group().barrier()  # the program's own collectives go on beside it
    checkpoint.async_save(state, checkpoint_id=folder).result()
elif what == "load":
    with torch.no_grad():
        for tensor in [*state["same"].values(), *(cut.to_local() for cut in state["cut"])]:
            tensor.zero_()
    state["step"] = 0
    checkpoint.load(state, checkpoint_id=folder)
    assert state["step"] == 5
    assert all((tensor == n).all() for n, tensor in enumerate(state["same"].values()))
    for cut in state["cut"]:
        assert (cut.full_tensor() == WHOLE).all()
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
