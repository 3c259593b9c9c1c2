"""Which positions of a sequence a rank computes attention for, so that all have as much to do.

A balancer gives an order of the positions: rank r gets part r of it, of equal parts. The names and
`_generate_indices` are torch's, so that balancers which programs derive from `_LoadBalancer` serve.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any

import flambeau
from flambeau import Tensor
from flambeau.nn.attention.flex_attention import BlockMask


class _LoadBalancer(abc.ABC):
    """An order of positions."""

    @abc.abstractmethod
    def _generate_indices(self, restore: bool = False) -> Tensor | None:
        """The order.

        Args:
            restore: give the places of the positions in the order instead, which undoes it.

        Returns:
            (1, L), or (B, L) where it differs from one sequence to the next.
        """


def _given_back(order: Tensor, restore: bool) -> Tensor:
    return order.argsort(-1) if restore else order


class _HeadTailLoadBalancer(_LoadBalancer):
    """For causal masks: each rank has a piece from the front and its opposite from the back.

    Args:
        seq_length: of the whole sequence, a multiple of 2 * world_size.
        world_size: ranks.
        device: taken as torch's argument; there is one.

    Raises:
        ValueError: the length is no such multiple.
    """

    def __init__(self, seq_length: int, world_size: int, device: Any = None) -> None:
        if seq_length % (2 * world_size):
            raise ValueError(
                f"a sequence of {seq_length} cannot be cut into {2 * world_size} equal pieces for "
                f"{world_size} ranks"
            )
        self.seq_length = seq_length
        self.world_size = world_size

    def parts(self) -> list[Tensor]:
        """The positions of each rank."""
        cut = flambeau.arange(self.seq_length).chunk(2 * self.world_size)
        return [flambeau.cat([cut[r], cut[-1 - r]]) for r in range(self.world_size)]

    def _generate_indices(self, restore: bool = False) -> Tensor:
        return _given_back(flambeau.cat(self.parts()).unsqueeze(0), restore)


class _PerDocumentHeadTailLoadBalancer(_LoadBalancer):
    """For causal masks within documents: each rank has a piece from the front and one from the back
    of every document. (torch's text says this too; its code gives out whole documents in turn.)

    Args:
        seq_length_per_doc: lengths of the documents of each sequence, or of all in one list of
            them; multiples of 2 * world_size.
        world_size: ranks.
        device: taken as torch's argument; there is one.
    """

    def __init__(
        self, seq_length_per_doc: Sequence[Sequence[int]], world_size: int, device: Any = None
    ) -> None:
        self.documents = [
            [_HeadTailLoadBalancer(n, world_size) for n in lengths]
            for lengths in seq_length_per_doc
        ]
        self.world_size = world_size

    def _order(self, documents: list[_HeadTailLoadBalancer]) -> Tensor:
        """Of one sequence."""
        by_rank: list[list[Tensor]] = [[] for _ in range(self.world_size)]
        begin = 0
        for document in documents:
            for found, part in zip(by_rank, document.parts(), strict=True):
                found.append(part + begin)
            begin += document.seq_length
        return flambeau.cat([part for found in by_rank for part in found])

    def _generate_indices(self, restore: bool = False) -> Tensor:
        return _given_back(flambeau.stack([self._order(d) for d in self.documents]), restore)


class _PTRRLoadBalancer(_LoadBalancer):
    """For any mask: blocks of queries go to the ranks in turn, there and back, those that see most
    blocks of keys first.

    Args:
        block_mask: (B or 1, 1, L, L), of square blocks whose number the ranks divide.
        world_size: ranks.

    Raises:
        ValueError: another block mask.
    """

    def __init__(self, block_mask: BlockMask, world_size: int) -> None:
        _, heads, length, _ = block_mask.shape
        queries, keys = block_mask.BLOCK_SIZE
        if heads != 1 or queries != keys:
            raise ValueError(
                "blocks are given out for all heads alike and for queries and keys together, got a "
                f"mask of {heads} heads and blocks of {queries} queries and {keys} keys"
            )
        if length % (queries * world_size):
            raise ValueError(
                f"{length} positions in blocks of {queries} cannot be shared by {world_size} ranks"
            )
        self.block_mask = block_mask
        self.world_size = world_size

    @staticmethod
    def ptrr_scheduling(process_time: Tensor, group_size: int) -> Tensor:
        """Which tasks each group has, as many as every other: (group_size, n / group_size).

        Args:
            process_time: (n,), of each task.
            group_size: how many groups; it divides n.

        Raises:
            NotImplementedError: it does not.
        """
        tasks = len(process_time)
        if tasks % group_size:
            raise NotImplementedError(
                f"num_tasks {tasks} must be divisible by group_size {group_size}"
            )
        rounds = process_time.argsort(descending=True, stable=True).view(-1, group_size)
        there = flambeau.arange(tasks // group_size).remainder(2) == 0
        rounds = flambeau.where(there.unsqueeze(1), rounds, rounds.flip(1))
        return rounds.t().sort(1).values

    def _generate_indices(self, restore: bool = False) -> Tensor:
        mask, size = self.block_mask, self.block_mask.BLOCK_SIZE[0]
        seen = mask.kv_num_blocks
        if mask.full_kv_num_blocks is not None:
            seen = seen + mask.full_kv_num_blocks
        within = flambeau.arange(size)
        orders = []
        for of_sequence in seen.flatten(0, 1):
            blocks = self.ptrr_scheduling(of_sequence, self.world_size).reshape(-1, 1)
            orders.append((blocks * size + within).reshape(-1))
        return _given_back(flambeau.stack(orders), restore)


__all__ = [
    "_HeadTailLoadBalancer",
    "_LoadBalancer",
    "_PTRRLoadBalancer",
    "_PerDocumentHeadTailLoadBalancer",
]
