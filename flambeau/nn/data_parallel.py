"""Modules over several devices or processes."""

from __future__ import annotations

from typing import Any

import flambeau
from flambeau.nn.module import Module
from flambeau.nn.normalization import _BatchNorm
from flambeau.ops.collective import all_reduce
from flambeau.tensor import Tensor


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
    """Batch normalization by the statistics of the batches of all ranks of a group.

    With one rank, or no groups, it is `BatchNorm`. Ranks' batches may have different sizes. The
    variance is the mean square of distances from the common mean, which takes a second exchange
    and loses no digits.

    Args:
        num_features: size of dimension 1.
        eps: added to the variance.
        momentum: weight of a batch in the running statistics; None for their mean.
        affine: whether there are a weight and a bias.
        track_running_stats: whether statistics are kept for evaluation.
        process_group: whose batches count; None takes the default group.
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

    def forward(self, input: Tensor) -> Tensor:
        """Args: input (N, C, ...). Returns: the same shape."""
        batch = self.training or self.running_mean is None
        distributed: Any = flambeau.distributed if batch else None
        if distributed is None or not distributed.is_initialized():
            return super().forward(input)
        group = distributed.groups.group_of(self.process_group)
        if group.size() == 1:
            return super().forward(input)
        self._check_input_dim(input)
        return self._over(group, input)

    def _over(self, group: Any, input: Tensor) -> Tensor:
        """Normalize by the values of all ranks of a group."""
        dims = [0, *range(2, input.ndim)]
        shape = [1, -1, *[1] * (input.ndim - 2)]
        x = input.float() if input.element_size() < 4 else input
        count = x.new_full((1,), float(x.numel() // max(x.shape[1], 1)))
        sums = all_reduce(flambeau.cat([x.sum(dims), count]), group)
        mean, count = sums[:-1] / sums[-1], sums[-1:].detach()
        centred = x - mean.view(shape)
        var = all_reduce(centred.square().sum(dims), group) / count
        if self.track_running_stats and self.training:
            self._track(mean.detach(), (var * (count / (count - 1))).detach())
        result = centred * (var + self.eps).rsqrt().view(shape)
        if self.weight is not None:
            result = result * self.weight.view(shape) + self.bias.view(shape)
        return result.to(input.dtype)

    def _track(self, mean: Tensor, var: Tensor) -> None:
        """Let a batch's statistics count among the running ones."""
        with flambeau.no_grad():
            self.num_batches_tracked.add_(1)
            share = self.momentum
            if share is None:
                share = 1.0 / self.num_batches_tracked.double()
            for running, value in ((self.running_mean, mean), (self.running_var, var)):
                running.add_((value.to(running.dtype) - running) * share)

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
