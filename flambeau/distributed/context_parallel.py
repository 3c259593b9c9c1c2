"""Attention over sequences that are cut over ranks.

Each rank has some positions of every sequence: their queries, keys and values. Three ways to let
all queries see all keys:

* `ring_attention`: keys and values go round the ranks, each rank computes what it has meanwhile,
  and the parts are joined by their log-sum-exps. Any number of heads.
* `all_to_all_attention`: heads are exchanged for positions, so that each rank has whole sequences
  of some heads, and afterwards exchanged back. Ranks divide the heads.
* `gathered_attention`: each rank gets the keys and values of all ranks at once.

All run `flex_attention`, with any `score_mod` and mask, which see positions in the whole sequence.
With a causal mask the last positions have most to compute, so a rank gets one piece from the front
and one from the back (`positions_of`); other masks have other balancers (`balance.py`).

References:
    Liu et al., Ring Attention with Blockwise Transformers (arXiv:2310.01889).
    Jacobs et al., DeepSpeed Ulysses (arXiv:2309.14509).
    Brandon et al., Striped Attention (arXiv:2311.09431), for the balance.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flambeau
from flambeau import Tensor
from flambeau.distributed import functional
from flambeau.distributed.balance import _HeadTailLoadBalancer, _LoadBalancer
from flambeau.distributed.groups import group_of
from flambeau.nn.attention.flex_attention import (
    _DEFAULT_SPARSE_BLOCK_SIZE,
    AuxRequest,
    BlockMask,
    create_block_mask,
    flex_attention,
)
from flambeau.ops import collective as rows

ScoreMod = Callable[..., Any]
Balance = bool | _LoadBalancer


def positions_of(length: int, ranks: int, balanced: Balance = True) -> list[Tensor]:
    """Which positions of a sequence each rank has.

    Args:
        length: of the whole sequence; a multiple of the ranks, balanced of twice the ranks.
        ranks: how many there are.
        balanced: a piece from the front and its opposite from the back; otherwise one piece; or a
            balancer (`distributed/balance.py`).

    Returns:
        Of each rank (length / ranks,); (B, length / ranks) where a balancer has it differ from one
        sequence to the next.

    Raises:
        ValueError: the length is no such multiple, or not the balancer's.

    Example:
        >>> [p.tolist() for p in positions_of(8, 2)]
        [[0, 1, 6, 7], [2, 3, 4, 5]]
    """
    if balanced is True:
        balanced = _HeadTailLoadBalancer(length, ranks)
    if length % ranks:
        raise ValueError(
            f"a sequence of {length} cannot be cut into {ranks} equal pieces for {ranks} ranks"
        )
    order = None if balanced is False else balanced._generate_indices()
    if order is None:
        order = flambeau.arange(length).unsqueeze(0)
    if order.dim() != 2 or order.shape[1] != length:
        raise ValueError(
            f"load balance index expects shape (1, {length}) or (B, {length}) but got "
            f"{list(order.shape)}"
        )
    return list((order[0] if len(order) == 1 else order).chunk(ranks, -1))


def _selected(x: Tensor, dim: int, positions: Tensor) -> Tensor:
    """Some positions of a tensor along a dimension; the first one is of sequences where they have
    positions each."""
    if positions.dim() == 1:
        return x.index_select(dim, positions)
    dim %= x.dim()
    if not dim or len(positions) != x.shape[0]:
        raise ValueError(
            f"a tensor of shape {list(x.shape)} with the sequence in dimension {dim} has no "
            f"positions of {len(positions)} sequences"
        )
    sizes = [len(positions) if d == 0 else -1 if d == dim else 1 for d in range(x.dim())]
    shape = [-1 if d == dim else n for d, n in enumerate(x.shape)]
    return x.gather(dim, positions.reshape(sizes).expand(shape))


def shard_sequence(
    whole: Tensor, dim: int, group: Any = None, *, balanced: Balance = True
) -> Tensor:
    """This rank's positions of a tensor that every rank has whole.

    Args:
        whole: any tensor.
        dim: of the sequence.
        group: None takes the default group.
        balanced: see `positions_of`.
    """
    group = group_of(group)
    mine = positions_of(whole.shape[dim], group.size(), balanced)[group.rank()]
    return _selected(whole, dim, mine)


def unshard_sequence(
    part: Tensor, dim: int, group: Any = None, *, balanced: Balance = True
) -> Tensor:
    """The whole of a tensor of which each rank has its positions, on every rank; a collective."""
    group = group_of(group)
    length = part.shape[dim] * group.size()
    order = flambeau.cat(positions_of(length, group.size(), balanced), -1).argsort(-1)
    return _selected(functional.all_gather_tensor(part, dim, group), dim, order)


class _Mask:
    """A mask of the whole sequence, of which ranks look at parts.

    Args:
        given: a `BlockMask`, a mask_mod, or None.
        length: of the whole sequence.
        heads: on how many heads a mask_mod depends; 0: it does not.

    Raises:
        ValueError: a block mask of another length.
    """

    def __init__(self, given: Any, length: int, heads: int = 0) -> None:
        self.mod, self.batches, self.heads = given, 1, heads or 1
        self.block: Any = _DEFAULT_SPARSE_BLOCK_SIZE
        if isinstance(given, BlockMask):
            self.batches, self.heads, *lengths = given.shape
            if lengths != [length, length]:
                raise ValueError(
                    f"a block mask over the whole sequence of {length} was expected, got one of "
                    f"{lengths[0]} queries and {lengths[1]} keys"
                )
            self.mod, self.block = given.mask_mod, given.BLOCK_SIZE

    def at(self, query: Tensor, key: Tensor) -> BlockMask | None:
        """Its blocks between some positions and others."""
        if self.mod is None:
            return None
        batches = max([self.batches, *(len(p) for p in (query, key) if p.dim() == 2)])
        return create_block_mask(
            lambda b, h, q, k: self.mod(b, h, _place(query, b, q), _place(key, b, k)),
            batches,
            self.heads,
            query.shape[-1],
            key.shape[-1],
            BLOCK_SIZE=self.block,
        )

    def of_heads(self, first: int, ranks: int, length: int) -> BlockMask | None:
        """Its blocks for a rank's share of the heads, which begins at `first`."""
        if self.mod is None:
            return None
        return create_block_mask(
            lambda b, h, q, k: self.mod(b, h + first, q, k),
            self.batches,
            max(self.heads // ranks, 1),
            length,
            length,
            BLOCK_SIZE=self.block,
        )


def _place(positions: Tensor, batch: Tensor, index: Tensor) -> Tensor:
    """A position in the whole sequence."""
    return positions[index] if positions.dim() == 1 else positions[batch, index]


def _score_at(score_mod: ScoreMod | None, query: Tensor, key: Tensor) -> ScoreMod | None:
    """A score_mod of local positions that sees those in the whole sequence."""
    if score_mod is None:
        return None
    return lambda s, b, h, q, k: score_mod(s, b, h, _place(query, b, q), _place(key, b, k))


def ring_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    score_mod: ScoreMod | None = None,
    block_mask: Any = None,
    scale: float | None = None,
    enable_gqa: bool = False,
    *,
    group: Any = None,
    balanced: Balance = True,
    mask_heads: int = 0,
) -> Tensor:
    """Attention of this rank's queries over the keys and values of all ranks.

    Keys and values go to the next rank while those that are here are attended to. The backward
    pass sends their gradients the other way round, by the derivative of each step.

    Args:
        query: (B, H, L, E), of this rank's positions.
        key, value: (B, Hk, L, E), of the same positions.
        score_mod: as of `flex_attention`; sees positions in the whole sequence.
        block_mask: a `BlockMask` of the whole sequence, of which the `mask_mod` counts, or a
            `mask_mod`; None for all keys.
        scale: by default 1 / sqrt(E).
        enable_gqa: H may be a multiple of Hk.
        group: None takes the default group.
        balanced: how positions were given out: see `positions_of`.
        mask_heads: H if the mask depends on the head, else 0.

    Returns:
        (B, H, L, E). A query that sees no key gives zeros.
    """
    group = group_of(group)
    ranks, rank = group.size(), group.rank()
    mask = _Mask(block_mask, query.shape[-2] * ranks, mask_heads)
    positions = positions_of(query.shape[-2] * ranks, ranks, balanced)
    outs: list[Tensor] = []
    sums: list[Tensor] = []
    for step in range(ranks):
        source = (rank - step) % ranks
        if step < ranks - 1:  # under way while this step computes
            following = _passed_on(key, value, group)
        blocks = mask.at(positions[rank], positions[source])
        score = _score_at(score_mod, positions[rank], positions[source])
        out, found = flex_attention(
            query, key, value, score, blocks, scale, enable_gqa, return_aux=AuxRequest(lse=True)
        )
        outs.append(out)
        sums.append(found.lse)
        if step < ranks - 1:
            key, value = following
    return join(outs, sums)


def gathered_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    score_mod: ScoreMod | None = None,
    block_mask: Any = None,
    scale: float | None = None,
    enable_gqa: bool = False,
    *,
    group: Any = None,
    balanced: Balance = True,
    mask_heads: int = 0,
) -> Tensor:
    """The same as `ring_attention`, with the keys and values of all ranks at once: one message and
    one computation, and memory for the whole sequence's keys and values.

    Args and Returns: as there.
    """
    group = group_of(group)
    length = query.shape[-2] * group.size()
    positions = positions_of(length, group.size(), balanced)
    mine, every = positions[group.rank()], flambeau.cat(positions, -1)
    key, value = (functional.all_gather_tensor(x, 2, group) for x in (key, value))
    blocks = _Mask(block_mask, length, mask_heads).at(mine, every)
    score = _score_at(score_mod, mine, every)
    out = flex_attention(query, key, value, score, blocks, scale, enable_gqa)
    assert isinstance(out, Tensor)
    return out


def _passed_on(key: Tensor, value: Tensor, group: Any) -> tuple[Tensor, Tensor]:
    """Keys and values of the rank before, in one message."""
    ranks = group.size()
    both = flambeau.cat([key.reshape(-1), value.reshape(-1)])
    found = functional.permute_tensor(both, [(r + 1) % ranks for r in range(ranks)], group)
    k, v = found.split([key.numel(), value.numel()])
    return k.reshape(key.shape), v.reshape(value.shape)


def join(outs: list[Tensor], sums: list[Tensor]) -> Tensor:
    """Attention over all keys from attention over parts of them.

    Args:
        outs: (..., L, E), over each part.
        sums: (..., L), log-sum-exps of the scores; -inf where a query saw no key.

    Reference: Dao et al., FlashAttention (arXiv:2205.14135), section 3.1.
    """
    if len(outs) == 1:
        return outs[0]
    greatest = sums[0].detach()
    for s in sums[1:]:
        greatest = greatest.maximum(s.detach())
    greatest = greatest.masked_fill(greatest == -float("inf"), 0.0)
    weights = [(s - greatest).exp() for s in sums]
    total = weights[0]
    for w in weights[1:]:
        total = total + w
    total = total.masked_fill(total == 0.0, 1.0).unsqueeze(-1)
    found = None
    for out, w in zip(outs, weights, strict=True):
        part = out.to(w.dtype) * (w.unsqueeze(-1) / total)
        found = part if found is None else found + part
    assert found is not None
    return found.to(outs[0].dtype)


def all_to_all_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    score_mod: ScoreMod | None = None,
    block_mask: Any = None,
    scale: float | None = None,
    enable_gqa: bool = False,
    *,
    group: Any = None,
    balanced: Balance = True,
    mask_heads: int = 0,
) -> Tensor:
    """The same as `ring_attention`, by exchanging heads for positions and back.

    Args: as there; the ranks divide H and Hk.

    Raises:
        ValueError: they do not.
    """
    group = group_of(group)
    ranks = group.size()
    for name, x in (("query", query), ("key", key)):
        if x.shape[1] % ranks:
            raise ValueError(f"{name} has {x.shape[1]} heads, which {ranks} ranks do not divide")
    length = query.shape[-2] * ranks
    given = flambeau.cat(positions_of(length, ranks, balanced), -1)
    order, back = given.argsort(-1), given
    first = group.rank() * (query.shape[1] // ranks)
    blocks = _Mask(block_mask, length, mask_heads).of_heads(first, ranks, length)
    score = None
    if score_mod is not None:
        score = lambda s, b, h, q, k: score_mod(s, b, h + first, q, k)
    q, k, v = (_selected(_to_heads(x, group), 2, order) for x in (query, key, value))
    out = flex_attention(q, k, v, score, blocks, scale, enable_gqa)
    assert isinstance(out, Tensor)
    return _to_positions(_selected(out, 2, back), group)


def _to_heads(x: Tensor, group: Any) -> Tensor:
    """(B, H, L / n, E) -> (B, H / n, L, E), positions in the order of the ranks."""
    ranks = group.size()
    b, h, n, e = x.shape
    sent = x.transpose(0, 1).reshape(h, b, n, e)
    even = (h // ranks,) * ranks
    found = rows.all_to_all(sent, group, even, even).reshape(ranks, h // ranks, b, n, e)
    return found.permute(2, 1, 0, 3, 4).reshape(b, h // ranks, ranks * n, e)


def _to_positions(x: Tensor, group: Any) -> Tensor:
    """(B, H / n, L, E) -> (B, H, L / n, E): the way back."""
    ranks = group.size()
    b, h, n, e = x.shape
    sent = x.reshape(b, h, ranks, n // ranks, e).permute(2, 1, 0, 3, 4).reshape(ranks * h, b, -1, e)
    even = (h,) * ranks
    found = rows.all_to_all(sent, group, even, even)
    return found.transpose(0, 1)


__all__ = [
    "all_to_all_attention",
    "gathered_attention",
    "join",
    "positions_of",
    "ring_attention",
    "shard_sequence",
    "unshard_sequence",
]
