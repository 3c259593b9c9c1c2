"""Parts of parts on a mesh whose later axes cut first, as torch lays what FSDP cuts of parts of
tensor parallelism."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau.distributed import checkpoint
from flambeau.distributed.groups import spawn_local
from flambeau.distributed.tensor import (
    DTensor,
    Replicate,
    Shard,
    distribute_tensor,
    init_device_mesh,
)
from flambeau.distributed.tensor.placement import _StridedShard

pytestmark = pytest.mark.timeout(120)
ROWS_OF = {0: [0, 1], 1: [4, 5], 2: [2, 3], 3: [6, 7]}  # torch's example


@pytest.mark.parametrize("rows", [8, 7, 3])
def test_parts_that_later_axes_cut_first(rows: int) -> None:
    values = np.random.default_rng(0).normal(size=(rows, 4))

    def program(rank: int) -> Any:
        mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
        strided = [_StridedShard(0, 2), Shard(0)]
        x = distribute_tensor(flambeau.tensor(values), mesh, strided).requires_grad_()
        assert x.placements == tuple(strided)
        np.testing.assert_array_equal(x.full_tensor().detach().numpy(), values)
        part = x.to_local().detach()
        if rows == 8:
            np.testing.assert_array_equal(part.numpy(), values[ROWS_OF[rank]])
        again = DTensor.from_local(part, mesh, strided, shape=x.shape)
        np.testing.assert_array_equal(again.full_tensor().numpy(), values)
        found = []
        for other in ([Shard(0), Shard(0)], [Shard(1), Shard(0)], [Replicate(), Shard(1)]):
            y = x.redistribute(placements=other)
            np.testing.assert_array_equal(y.full_tensor().detach().numpy(), values)
            np.testing.assert_array_equal(
                y.redistribute(placements=strided).to_local().detach().numpy(), part.numpy()
            )
            found.append((x * 2 + y).full_tensor().detach())
        found += [(x @ x.t()).full_tensor().detach(), x.sum(0).full_tensor().detach()]
        (x.square() * x.redistribute(placements=[Shard(0), Replicate()])).sum().backward()
        assert x.grad.placements == tuple(strided)
        optimizer = flambeau.optim.SGD([x], lr=0.1)
        found.append(x.grad.full_tensor())
        optimizer.step()
        found.append(x.full_tensor().detach())
        return [t.numpy() for t in found]

    wanted = [*[values * 3] * 3, values @ values.T, values.sum(0)]
    wanted += [3 * values**2, values - 0.3 * values**2]
    for found in spawn_local(4, program):
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-12)


def test_parts_that_later_axes_do_not_cut_so() -> None:
    def program(rank: int) -> None:
        mesh = init_device_mesh("cpu", (2, 2))
        for wrong in ([_StridedShard(0, 2), Shard(1)], [_StridedShard(0, 4), Shard(0)]):
            with pytest.raises(NotImplementedError, match="do not cut dimension 0 into"):
                distribute_tensor(flambeau.zeros(4, 4), mesh, wrong)

    spawn_local(4, program)


def test_parts_that_later_axes_cut_first_in_checkpoints(tmp_path: Any) -> None:
    values = np.random.default_rng(0).normal(size=(7, 4))
    layouts = {
        "strided": ((2, 2), [_StridedShard(0, 2), Shard(0)]),
        "in order": ((2, 2), [Shard(0), Shard(0)]),
        "other": ((4,), [Shard(1)]),
    }

    def program(rank: int, saved: str, loaded: str) -> Any:
        shape, placements = layouts[saved]
        x = distribute_tensor(flambeau.tensor(values), init_device_mesh("cpu", shape), placements)
        folder = tmp_path / f"{saved} {loaded}"
        checkpoint.save({"x": x}, checkpoint_id=folder)
        shape, placements = layouts[loaded]
        y = distribute_tensor(
            flambeau.zeros(7, 4, dtype=flambeau.float64), init_device_mesh("cpu", shape), placements
        )
        checkpoint.load({"x": y}, checkpoint_id=folder)
        return y.full_tensor().numpy(), checkpoint.read(folder)["x"].numpy()

    for saved, loaded in (("strided", "in order"), ("other", "strided"), ("strided", "other")):
        for arrays in spawn_local(4, program, saved, loaded):
            for found in arrays:
                np.testing.assert_array_equal(found, values)
