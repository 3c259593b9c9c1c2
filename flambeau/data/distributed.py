"""A dataset shared between the processes of a group (`torch.utils.data.distributed`)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sized
from typing import Any

import flambeau
from flambeau.data.sampler import Sampler

__all__ = ["DistributedSampler"]


def _of_group(name: str) -> int:
    """A number of the default process group: its size, or this process's rank."""
    distributed: Any = getattr(flambeau, "distributed", None)
    if distributed is None or not distributed.is_available():
        raise RuntimeError("Requires distributed package to be available")
    return int(getattr(distributed, name)())


class DistributedSampler(Sampler[int]):
    """Every `num_replicas`-th index of a dataset, from `rank` on: each process takes a share.

    Args:
        dataset: anything with a length.
        num_replicas: how many processes share it; the default group's size if None.
        rank: which of them this is; the rank in the default group if None.
        shuffle: in random order, another in each epoch: see `set_epoch`.
        seed: of that order; the same in all processes.
        drop_last: leave out samples that make no equal shares; else some are given twice.

    Raises:
        ValueError: the rank is out of range.
        RuntimeError: there is no process group to ask.

    Example:
        >>> [list(DistributedSampler(range(5), 2, rank, shuffle=False)) for rank in range(2)]
        [[0, 2, 4], [1, 3, 0]]
    """

    def __init__(
        self,
        dataset: Sized,
        num_replicas: int | None = None,
        rank: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        replicas = _of_group("get_world_size") if num_replicas is None else num_replicas
        rank = _of_group("get_rank") if rank is None else rank
        if rank >= replicas or rank < 0:
            raise ValueError(
                f"Invalid rank {rank}, rank should be in the interval [0, {replicas - 1}]"
            )
        self.dataset = dataset
        self.num_replicas = replicas
        self.rank = rank
        self.epoch = 0
        self.drop_last = drop_last
        n = len(dataset)
        self.num_samples = n // replicas if drop_last else math.ceil(n / replicas)
        self.total_size = self.num_samples * replicas
        self.shuffle = shuffle
        self.seed = seed

    def __iter__(self) -> Iterator[int]:
        n = len(self.dataset)
        if self.shuffle:
            generator = flambeau.Generator()
            generator.manual_seed(self.seed + self.epoch)
            indices = flambeau.randperm(n, generator=generator).tolist()
        else:
            indices = list(range(n))
        if len(indices) < self.total_size:
            indices *= math.ceil(self.total_size / len(indices))
        return iter(indices[self.rank : self.total_size : self.num_replicas])

    def __len__(self) -> int:
        return self.num_samples

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, and with it the order; to be called before each in every process."""
        self.epoch = epoch
