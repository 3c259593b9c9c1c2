"""Replicas of models whose layers are cut: a mesh of two axes."""

from __future__ import annotations

from typing import Any

import pytest

from flambeau.distributed.ddp import DistributedDataParallel
from flambeau.distributed.mesh import init_device_mesh
from flambeau.distributed.tensor import DTensor
from flambeau.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)
from tests.distributed import training
from tests.distributed.test_ddp import Loss

pytestmark = pytest.mark.timeout(120)


def train(rank: int) -> tuple[list[float], dict[str, Any]]:
    """20 steps: perceptrons cut over "tp", everything replicated over "dp"."""
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
    net = training.model()
    for block in net.blocks:
        parallelize_module(
            block.mlp, mesh["tp"], {"up": ColwiseParallel(), "down": RowwiseParallel()}
        )
    ddp = DistributedDataParallel(Loss(net), device_mesh=mesh["dp"])
    optimizer = training.optimizer_of(ddp.parameters())
    losses = []
    for tokens in training.batches():
        optimizer.zero_grad()
        loss = ddp(training.part(tokens, mesh["dp"].get_local_rank(), 2))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    found = {}
    for name, p in net.named_parameters():
        whole = p.detach().full_tensor() if isinstance(p, DTensor) else p.detach()
        found[name] = whole.numpy()
    return losses, found


def test_training_is_that_of_one_process() -> None:
    training.check(4, train)
