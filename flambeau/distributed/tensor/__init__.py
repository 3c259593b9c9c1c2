"""Tensors of which the ranks of a mesh have parts: torch's `torch.distributed.tensor`."""

from flambeau.distributed.mesh import DeviceMesh, init_device_mesh
from flambeau.distributed.tensor.api import (
    DTensor,
    distribute_module,
    distribute_tensor,
    empty,
    full,
    ones,
    rand,
    randn,
    zeros,
)
from flambeau.distributed.tensor.placement import Partial, Placement, Replicate, Shard

__all__ = [
    "DTensor",
    "DeviceMesh",
    "Partial",
    "Placement",
    "Replicate",
    "Shard",
    "distribute_module",
    "distribute_tensor",
    "empty",
    "full",
    "init_device_mesh",
    "ones",
    "rand",
    "randn",
    "zeros",
]
