"""Modules over several ranks, where PyTorch has them (`torch.nn.parallel`)."""

from flambeau.distributed.ddp import DistributedDataParallel
from flambeau.nn.data_parallel import DataParallel

__all__ = ["DataParallel", "DistributedDataParallel"]
