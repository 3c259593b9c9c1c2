"""Checkpoints: what was saved is what is loaded, whole or not at all, on any number of ranks."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

import flambeau as torch
from flambeau.distributed import checkpoint
from flambeau.distributed.checkpoint import format as on_disk
from flambeau.distributed.checkpoint.layout import Box, shard
from flambeau.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    get_state_dict,
    set_optimizer_state_dict,
    set_state_dict,
)
from tests.cli.program import ROOT, environment
from tests.distributed.mpi import mpiexec, needs_mpi


def model_and_optimizer(lr: float = 0.01, turned: bool = False) -> tuple[Any, Any]:
    """A small network whose optimizer has its parameters in one order or the other."""
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    params = list(model.parameters())
    return model, torch.optim.AdamW(params[::-1] if turned else params, lr=lr)


def step(model: Any, optimizer: Any) -> None:
    """One step on fixed data."""
    optimizer.zero_grad()
    x = torch.arange(15.0).reshape(5, 3) / 10
    model(x).pow(2).mean().backward()
    optimizer.step()


@pytest.mark.parametrize("saved_later", [False, True])
def test_everything_comes_back(tmp_path: Path, saved_later: bool) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    state = {
        "turned": base.t(),
        "part": base[1:, 2:],
        "none": torch.zeros(0, 3),
        "scalar": torch.tensor(3, dtype=torch.int64),
        "half": torch.ones(5, dtype=torch.bfloat16),
        "flags": torch.tensor([True, False]),
        "spread": torch.ones(1).expand(4),
        "list": [torch.ones(2), {"deep": (torch.zeros(1), "text")}],
        "plain": {"a": 1, "b": (2, [None, 1.5, math.inf]), 3: "three", "empty": {}},
        "size": torch.Size([1, 2]),
    }
    wanted = {name: state[name].tolist() for name in ("turned", "part", "half", "spread", "flags")}
    if saved_later:
        future = checkpoint.async_save(state, checkpoint_id=tmp_path)
        base.zero_()  # what is saved was taken before
        future.result()
    else:
        checkpoint.save(state, checkpoint_id=tmp_path)
    found = checkpoint.read(tmp_path)
    assert {name: found[name].tolist() for name in wanted} == wanted
    assert found["none"].shape == (0, 3)
    assert found["scalar"].item() == 3
    assert found["half"].dtype is torch.bfloat16
    assert found["plain"] == state["plain"]
    assert found["size"] == state["size"]
    assert type(found["size"]) is torch.Size
    assert type(found["list"]) is list
    assert found["list"][1]["deep"][1] == "text"
    assert set(checkpoint.read(tmp_path, {"plain"})) == {"plain"}
    # the files are safetensors like any others
    (path,) = tmp_path.glob("part-*.safetensors")
    read = safetensors.numpy.load_file(path)
    np.testing.assert_array_equal(read["turned"], np.arange(12.0).reshape(3, 4).T)


def test_loading_fills_tensors_where_they_are(tmp_path: Path) -> None:
    model, optimizer = model_and_optimizer()
    step(model, optimizer)
    saved = [p.detach().clone() for p in model.parameters()]
    moments = optimizer.state[model[0].weight]["exp_avg"].clone()
    checkpoint.save({"model": model, "optimizer": optimizer, "step": 1}, checkpoint_id=tmp_path)
    step(model, optimizer)
    parameters = list(model.parameters())
    state = {"model": model, "optimizer": optimizer, "step": 2}
    checkpoint.load(state, checkpoint_id=tmp_path)
    assert state["step"] == 1
    assert state["model"] is model
    assert [p is q for p, q in zip(parameters, model.parameters())] == [True] * 4
    assert all(torch.equal(p, q) for p, q in zip(saved, parameters))
    assert torch.equal(optimizer.state[model[0].weight]["exp_avg"], moments)


def test_names_carry_an_optimizer_to_another_order(tmp_path: Path) -> None:
    model, optimizer = model_and_optimizer()
    step(model, optimizer)
    named = get_state_dict(model, optimizer)
    checkpoint.save({"model": named[0], "optimizer": named[1]}, checkpoint_id=tmp_path)
    other, turned = model_and_optimizer(lr=0.5, turned=True)
    before = [p.detach().clone() for p in other.parameters()]
    state = dict(zip(("model", "optimizer"), get_state_dict(other, turned)))
    assert all(torch.equal(p, q) for p, q in zip(before, other.parameters()))  # asking is no step
    checkpoint.load(state, checkpoint_id=tmp_path)
    set_state_dict(
        other, turned, model_state_dict=state["model"], optim_state_dict=state["optimizer"]
    )
    step(model, optimizer)
    step(other, turned)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), other.parameters()))
    flat = get_optimizer_state_dict(
        model, optimizer, options=StateDictOptions(flatten_optimizer_state_dict=True)
    )
    assert flat["param_groups.1.bias.lr"] == 0.01
    set_optimizer_state_dict(other, turned, flat)
    with pytest.raises(RuntimeError, match=r"Missing optimizer state for 1\.bias"):
        set_optimizer_state_dict(other, turned, {"state": {}, "param_groups": []})


def test_plain_files_both_ways(tmp_path: Path) -> None:
    torch.save({"w": torch.arange(3.0), "step": 4}, tmp_path / "a.pt")
    checkpoint.format_utils.torch_save_to_dcp(tmp_path / "a.pt", tmp_path / "folder")
    checkpoint.format_utils.dcp_to_torch_save(tmp_path / "folder", tmp_path / "b.pt")
    found = torch.load(tmp_path / "b.pt")
    assert found["w"].tolist() == [0, 1, 2]
    assert found["step"] == 4


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    checkpoint.save({"w": torch.ones(3)}, checkpoint_id=tmp_path)
    for state, message in (
        ({"v": torch.ones(3)}, "Missing key in checkpoint state_dict: v"),
        ({"w": torch.ones(4)}, r"Size mismatch between saved \[3\] and current: \[4\] for w"),
    ):
        with pytest.raises(checkpoint.CheckpointException, match=message):
            checkpoint.load(state, checkpoint_id=tmp_path)
    state = {"v": torch.ones(3), "w": torch.zeros(3)}
    planner = checkpoint.DefaultLoadPlanner(allow_partial_load=True)
    checkpoint.load(state, checkpoint_id=tmp_path, planner=planner)
    assert state["w"].tolist() == [1, 1, 1]
    with pytest.raises(checkpoint.CheckpointException, match="there is no checkpoint"):
        checkpoint.load({}, checkpoint_id=tmp_path / "nowhere")
    with pytest.raises(checkpoint.CheckpointException, match=r"two entries .* called 'a\.b'"):
        checkpoint.save({"a": {"b": 1}, "a.b": 2}, checkpoint_id=tmp_path)
    with pytest.raises(checkpoint.CheckpointException, match="there is a checkpoint"):
        writer = checkpoint.FileSystemWriter(tmp_path, overwrite=False)
        checkpoint.save({"w": torch.ones(3)}, storage_writer=writer)


def test_damage_is_noticed_where_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_disk, "_BLOCK", 64)
    checkpoint.save({"w": torch.arange(100.0), "v": torch.ones(4)}, checkpoint_id=tmp_path)
    (path,) = tmp_path.glob("part-*.safetensors")
    data = bytearray(path.read_bytes())
    data[data.index(np.float32(90).tobytes())] ^= 1
    path.write_bytes(data)
    with pytest.raises(checkpoint.CheckpointException, match=r"'w' is damaged \(checksum\)"):
        checkpoint.read(tmp_path)
    metadata = checkpoint.FileSystemReader(tmp_path).read_metadata()
    stored = metadata.state_dict_metadata["w"]
    begin = on_disk.Files(tmp_path).read(stored.chunks[0], "float32", Box((0,), (80,)))
    np.testing.assert_array_equal(begin, np.arange(80.0))
    assert checkpoint.read(tmp_path, {"v"})["v"].tolist() == [1] * 4
    path.write_bytes(data[:40])
    with pytest.raises(checkpoint.CheckpointException):
        checkpoint.read(tmp_path)
    (tmp_path / "index.json").write_text("{}")
    with pytest.raises(checkpoint.CheckpointException, match=r"index\.json is damaged"):
        checkpoint.read(tmp_path)


def test_an_index_cannot_name_other_folders(tmp_path: Path) -> None:
    checkpoint.save({"w": torch.ones(3)}, checkpoint_id=tmp_path)
    index = json.loads((tmp_path / "index.json").read_text())
    index["tensors"]["w"]["chunks"][0]["file"] = "../elsewhere"
    (tmp_path / "index.json").write_text(json.dumps(index))
    with pytest.raises(checkpoint.CheckpointException, match="outside the checkpoint"):
        checkpoint.read(tmp_path)


def test_a_save_that_fails_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint.save({"w": torch.ones(3)}, checkpoint_id=tmp_path)
    for name in ("serialize_file", "replace"):
        with monkeypatch.context() as patch:

            def full(*args: Any, **kwargs: Any) -> None:
                raise OSError("No space left on device")

            patch.setattr(on_disk.safetensors if name == "serialize_file" else os, name, full)
            with pytest.raises(checkpoint.CheckpointException, match="rank 0: OSError: No space"):
                checkpoint.save({"w": torch.zeros(3)}, checkpoint_id=tmp_path)
        assert checkpoint.read(tmp_path)["w"].tolist() == [1, 1, 1]
    checkpoint.save({"w": torch.zeros(3)}, checkpoint_id=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2  # what the failures left is gone


def test_killed_at_any_moment(tmp_path: Path) -> None:
    code = (
        "import sys, flambeau as torch\n"
        "from flambeau.distributed import checkpoint\n"
        "for n in range(10**9):\n"
        "    a, b = torch.full((5000,), 1.0 * n), torch.full((7,), 1.0 * n)\n"
        "    state = {'a': a, 'b': b, 'n': n}\n"
        "    checkpoint.async_save(state, checkpoint_id=sys.argv[1]).result()\n"
        "    print(n, flush=True)\n"
    )
    random = np.random.default_rng(0)
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)],
            cwd=ROOT,
            env=environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "0\n"
        time.sleep(random.uniform(0, 0.2))
        process.send_signal(signal.SIGKILL)
        said = process.communicate()[0].split()
        found = checkpoint.read(tmp_path)
        n = found["n"]
        assert n >= int(said[-1] if said else 0)
        assert (found["a"] == n).all()
        assert (found["b"] == n).all()


class _Mesh:
    """A mesh of some sizes, seen from one place."""

    def __init__(self, sizes: tuple[int, ...], place: tuple[int, ...]) -> None:
        self.sizes, self.place = sizes, place

    def size(self, axis: int) -> int:
        return self.sizes[axis]

    def get_coordinate(self) -> tuple[int, ...]:
        return self.place


class _Cut:
    """A placement: cut along a dimension, or whole where that is None."""

    def __init__(self, dim: int | None) -> None:
        self.dim = dim

    def is_partial(self) -> bool:
        return False

    def is_shard(self) -> bool:
        return self.dim is not None


@pytest.mark.parametrize("cuts", [(0, None), (0, 0), (1, 0), (None, -1)])
def test_parts_cover_a_tensor_as_chunks_do(cuts: tuple[int | None, ...]) -> None:
    whole, sizes = np.arange(7 * 5).reshape(7, 5), (2, 3)
    placements = [_Cut(dim) for dim in cuts]
    for place in np.ndindex(*sizes):
        expected = whole
        for axis, cut in enumerate(placements):
            if cut.dim is not None:
                step = -(-expected.shape[cut.dim] // sizes[axis])
                index = [slice(None)] * 2
                index[cut.dim] = slice(place[axis] * step, (place[axis] + 1) * step)
                expected = expected[tuple(index)]
        offset, shape = shard(whole.shape, _Mesh(sizes, place), placements)
        box = Box(offset, shape)
        np.testing.assert_array_equal(whole[box.within(Box((0, 0), whole.shape))], expected)


@needs_mpi
def test_ranks_save_together_and_others_load(tmp_path: Path) -> None:
    for ranks, what in ((3, "save"), (2, "load"), (3, "fail"), (4, "load")):
        ended = mpiexec(ranks, "checkpoints.py", what, str(tmp_path))
        assert ended.returncode == 0, ended.stderr
    found = checkpoint.read(tmp_path)
    assert found["own"]["rank2"].tolist() == [2.0] * 3
    assert all((whole == torch.arange(70.0).reshape(7, 10)).all() for whole in found["cut"])
    assert len(list(tmp_path.glob("part-*"))) == 3
