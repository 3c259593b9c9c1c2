"""Optimizers over several ranks, where PyTorch has them (`torch.distributed.optim`)."""

from flambeau.distributed.zero import ZeroRedundancyOptimizer

__all__ = ["ZeroRedundancyOptimizer"]
