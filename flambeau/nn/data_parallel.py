"""Modules over several devices or processes."""

from __future__ import annotations

from typing import Any

from flambeau.nn.module import Module
from flambeau.nn.normalization import _BatchNorm


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


class SyncBatchNorm(_BatchNorm):
    """Batch normalization by the statistics of the batches of all processes.

    Here of one process, where it is `BatchNorm`.

    Args:
        num_features: size of dimension 1.
        eps: added to the variance.
        momentum: weight of a batch in the running statistics; None for their mean.
        affine: whether there are a weight and a bias.
        track_running_stats: whether statistics are kept for evaluation.
        process_group: accepted.
        device: of the parameters.
        dtype: of the parameters.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        process_group: Any = None,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        """Make the parameters and the statistics."""
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype)
        self.process_group = process_group

    def _check_input_dim(self, input: Any) -> None:
        if input.ndim < 2:
            raise ValueError(f"expected at least 2D input (got {input.ndim}D input)")

    @classmethod
    def convert_sync_batchnorm(cls, module: Module, process_group: Any = None) -> Module:
        """A module with `SyncBatchNorm` in the place of each batch norm, with the same parameters.

        Args:
            module: a module, changed in place unless it is itself a batch norm.
            process_group: for the new ones.
        """
        converted = module
        if isinstance(module, _BatchNorm) and not isinstance(module, cls):
            converted = cls(
                module.num_features,
                module.eps,
                module.momentum,
                module.affine,
                module.track_running_stats,
                process_group,
            )
            converted.weight, converted.bias = module.weight, module.bias
            converted.running_mean, converted.running_var = module.running_mean, module.running_var
            converted.num_batches_tracked = module.num_batches_tracked
            converted.training = module.training
        for name, child in module.named_children():
            converted.add_module(name, cls.convert_sync_batchnorm(child, process_group))
        return converted
