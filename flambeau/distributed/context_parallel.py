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
and one from the back (`positions_of`).

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
from flambeau.distributed.groups import group_of
from flambeau.nn.attention.flex_attention import (
    AuxRequest,
    BlockMask,
    create_block_mask,
    flex_attention,
)
from flambeau.ops import collective as rows

ScoreMod = Callable[..., Any]


def positions_of(length: int, ranks: int, balanced: bool = True) -> list[Tensor]:
    """Which positions of a sequence each rank has.

    Args:
        length: of the whole sequence; a multiple of the ranks, balanced of twice the ranks.
        ranks: how many there are.
        balanced: a piece from the front and its opposite from the back; otherwise one piece.

    Raises:
        ValueError: the length is no such multiple.

    Example:
        >>> [p.tolist() for p in positions_of(8, 2)]
        [[0, 1, 6, 7], [2, 3, 4, 5]]
    """
    pieces = 2 * ranks if balanced else ranks
    if length % pieces:
        raise ValueError(
            f"a sequence of {length} cannot be cut into {pieces} equal pieces for {ranks} ranks"
        )
    cut = flambeau.arange(length).chunk(pieces)
    if not balanced:
        return list(cut)
    return [flambeau.cat([cut[r], cut[pieces - 1 - r]]) for r in range(ranks)]


def shard_sequence(whole: Tensor, dim: int, group: Any = None, *, balanced: bool = True) -> Tensor:
    """This rank's positions of a tensor that every rank has whole.

    Args:
        whole: any tensor.
        dim: of the sequence.
        group: None takes the default group.
        balanced: see `positions_of`.
    """
    group = group_of(group)
    mine = positions_of(whole.shape[dim], group.size(), balanced)[group.rank()]
    return whole.index_select(dim, mine)


def unshard_sequence(part: Tensor, dim: int, group: Any = None, *, balanced: bool = True) -> Tensor:
    """The whole of a tensor of which each rank has its positions, on every rank; a collective."""
    group = group_of(group)
    length = part.shape[dim] * group.size()
    order = flambeau.cat(positions_of(length, group.size(), balanced)).argsort()
    return functional.all_gather_tensor(part, dim, group).index_select(dim, order)


def _mask_of(mask: Any) -> Any:
    """The mask_mod that an argument means."""
    return mask.mask_mod if isinstance(mask, BlockMask) else mask


def _mask_at(mask: Any, query: Tensor, key: Tensor, heads: int) -> BlockMask | None:
    """The blocks of a mask between some positions and others."""
    if mask is None:
        return None
    return create_block_mask(
        lambda b, h, q, k: mask(b, h, query[q], key[k]), None, heads or None, len(query), len(key)
    )


def _score_at(score_mod: ScoreMod | None, query: Tensor, key: Tensor) -> ScoreMod | None:
    """A score_mod of local positions that sees those in the whole sequence."""
    if score_mod is None:
        return None
    return lambda s, b, h, q, k: score_mod(s, b, h, query[q], key[k])


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
    balanced: bool = True,
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
    mask = _mask_of(block_mask)
    positions = positions_of(query.shape[-2] * ranks, ranks, balanced)
    outs: list[Tensor] = []
    sums: list[Tensor] = []
    for step in range(ranks):
        source = (rank - step) % ranks
        if step < ranks - 1:  # under way while this step computes
            following = _passed_on(key, value, group)
        blocks = _mask_at(mask, positions[rank], positions[source], mask_heads)
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
    balanced: bool = True,
    mask_heads: int = 0,
) -> Tensor:
    """The same as `ring_attention`, with the keys and values of all ranks at once: one message and
    one computation, and memory for the whole sequence's keys and values.

    Args and Returns: as there.
    """
    group = group_of(group)
    positions = positions_of(query.shape[-2] * group.size(), group.size(), balanced)
    mine, every = positions[group.rank()], flambeau.cat(positions)
    key, value = (functional.all_gather_tensor(x, 2, group) for x in (key, value))
    blocks = _mask_at(_mask_of(block_mask), mine, every, mask_heads)
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
    balanced: bool = True,
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
    given = flambeau.cat(positions_of(length, ranks, balanced))
    order, back = given.argsort(), given
    first = group.rank() * (query.shape[1] // ranks)
    mask = _mask_of(block_mask)
    blocks = None
    if mask is not None:
        heads = mask_heads // ranks
        blocks = create_block_mask(
            lambda b, h, q, k: mask(b, h + first, q, k), None, heads or None, length, length
        )
    score = None
    if score_mod is not None:
        score = lambda s, b, h, q, k: score_mod(s, b, h + first, q, k)
    q, k, v = (_to_heads(x, group).index_select(2, order) for x in (query, key, value))
    out = flex_attention(q, k, v, score, blocks, scale, enable_gqa)
    assert isinstance(out, Tensor)
    return _to_positions(out.index_select(2, back), group)


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
