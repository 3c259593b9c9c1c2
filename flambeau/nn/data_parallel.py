"""Modules over several devices of one process."""

from __future__ import annotations

from typing import Any

from flambeau.nn.module import Module


class DataParallel(Module):
    """A module whose batches are split over the accelerators of this process.

    There are none, so a call is the module's own, as in PyTorch on a machine without them. Keys of
    the state dict begin with `module.`.

    Args:
        module: what is called.
        device_ids: accepted.
        output_device: accepted.
        dim: accepted, the dimension of the batch.
    """

    def __init__(
        self, module: Module, device_ids: Any = None, output_device: Any = None, dim: int = 0
    ) -> None:
        """Hold the module."""
        super().__init__()
        self.module = module
        self.device_ids: list[int] = []
        self.dim = dim

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        """The module's result."""
        return self.module(*inputs, **kwargs)
