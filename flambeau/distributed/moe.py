"""Mixtures of experts over ranks: each rank has some of the experts, tokens go where theirs are.

References:
    Shazeer et al., Outrageously Large Neural Networks (arXiv:1701.06538).
    Lepikhin et al., GShard (arXiv:2006.16668): experts over ranks.
    Fedus et al., Switch Transformers (arXiv:2101.03961), equation 4: the loss for balance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import flambeau
import flambeau.nn.functional as F
from flambeau import Tensor, nn
from flambeau.distributed.groups import group_of
from flambeau.ops import collective as rows


class Dispatch:
    """Where the tokens of a batch go: made once, it takes them there and back.

    The counts are read, so a batch is executed up to the choice of experts before its tokens move;
    what moves has exactly its size, and no token is dropped or padded.

    Args:
        chosen: (T, K) integers, the experts of each token.
        experts: how many there are on all ranks together; a multiple of the ranks.
        group: None takes the default group.

    Raises:
        ValueError: the ranks do not divide the experts.
    """

    def __init__(self, chosen: Tensor, experts: int, group: Any = None) -> None:
        self.group = group = group_of(group)
        ranks = group.size()
        if experts % ranks:
            raise ValueError(f"{experts} experts cannot be shared evenly by {ranks} ranks")
        self.tokens, self.each = chosen.shape
        here = experts // ranks
        flat = chosen.reshape(-1)
        self.order = flat.argsort(stable=True)  # copies of tokens by expert
        counts = flat.bincount(minlength=experts)
        even = (here,) * ranks
        arriving = rows.all_to_all(counts, group, even, even)
        given = np.array(counts.tolist()).reshape(ranks, here)
        taken = np.array(arriving.tolist()).reshape(ranks, here)
        self.sent = tuple(int(n) for n in given.sum(1))
        self.received = tuple(int(n) for n in taken.sum(1))
        #: how many tokens each of this rank's experts has
        self.counts = [int(n) for n in taken.sum(0)]
        self.by_expert = flambeau.tensor(_by_expert(taken), dtype=flambeau.int64)

    def scatter(self, tokens: Tensor) -> Tensor:
        """The tokens of this rank's experts, from all ranks, one expert after the other.

        Args:
            tokens: (T, C).
        """
        copies = tokens.index_select(0, self.order // self.each)
        found = rows.all_to_all(copies, self.group, self.received, self.sent)
        return found.index_select(0, self.by_expert)

    def gather(self, values: Tensor, weights: Tensor) -> Tensor:
        """The weighted sum of what a token's experts made of it.

        Args:
            values: (sum(counts), C), as `scatter` gave the tokens.
            weights: (T, K).

        Returns:
            (T, C).
        """
        back = values.index_select(0, self.by_expert.argsort())
        found = rows.all_to_all(back, self.group, self.sent, self.received)
        found = found.index_select(0, self.order.argsort())
        each = found.reshape(self.tokens, self.each, *values.shape[1:])
        return (each * weights.unsqueeze(-1)).sum(1)


def _by_expert(counts: Any) -> list[int]:
    """Where what came stands, by expert: it came by rank, and by expert within.

    Args:
        counts: (ranks, experts here).
    """
    ends = counts.reshape(-1).cumsum().reshape(counts.shape)
    return [
        int(k)
        for expert in range(counts.shape[1])
        for rank in range(counts.shape[0])
        for k in range(ends[rank, expert] - counts[rank, expert], ends[rank, expert])
    ]


class MixtureOfExperts(nn.Module):
    """Each token goes through the `k` experts that a router likes best for it.

    The router is the same on all ranks, and its gradients are to be averaged as those of any
    replicated layer. Experts are this rank's own: their gradients come from all ranks' tokens, and
    are those of the sum of the ranks' losses.

    Args:
        width: channels C of a token.
        experts: this rank's, modules (N, C) -> (N, C); as many on every rank.
        k: experts of a token.
        group: None takes the default group.

    Attributes:
        balance: after a call, the loss for balance over this rank's tokens: E * sum_e f_e p_e, with
            the share f_e of tokens that went to expert e and its mean probability p_e; 1 is even.

    Example:
        >>> from flambeau.distributed import spawn_local
        >>> def fn(rank):
        ...     layer = MixtureOfExperts(4, [flambeau.nn.Linear(4, 4) for _ in range(2)], k=2)
        ...     return layer(flambeau.ones(3, 4)).shape
        >>> spawn_local(2, fn)
        [torch.Size([3, 4]), torch.Size([3, 4])]
    """

    def __init__(
        self, width: int, experts: Sequence[nn.Module], k: int = 1, group: Any = None
    ) -> None:
        super().__init__()
        self.group = group_of(group)
        self.experts = nn.ModuleList(experts)
        self.count = len(experts) * self.group.size()
        self.k = k
        if not 1 <= k <= self.count:
            raise ValueError(f"a token cannot go to {k} of {self.count} experts")
        self.router = nn.Linear(width, self.count, bias=False)
        self.balance: Tensor | None = None

    def forward(self, tokens: Tensor) -> Tensor:
        """Args: tokens (..., C). Returns: the same shape."""
        flat = tokens.reshape(-1, tokens.shape[-1])
        likes = F.softmax(self.router(flat), -1)
        weights, chosen = likes.topk(self.k, -1)
        weights = weights / weights.sum(-1, keepdim=True) if self.k > 1 else weights
        where = Dispatch(chosen, self.count, self.group)
        share = F.one_hot(chosen, self.count).to(likes.dtype).mean((0, 1))
        self.balance = (share * likes.mean(0)).sum() * self.count
        parts = where.scatter(flat).split(where.counts)
        made = [expert(part) for expert, part in zip(self.experts, parts, strict=True)]
        return where.gather(flambeau.cat(made), weights).reshape(tokens.shape)


__all__ = ["Dispatch", "MixtureOfExperts"]
