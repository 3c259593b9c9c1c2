"""``torch.nn.parallel``: importable by programs that also run in one process."""

from __future__ import annotations

from flambeau.interpose.standins.absent import absent_class

DistributedDataParallel = absent_class("torch.nn.parallel.DistributedDataParallel")
DataParallel = absent_class("torch.nn.parallel.DataParallel")
