"""Attention of sequences of different lengths that follow one another in one tensor.

Query i of a sequence with n queries and m keys stands at position i + m - n among its keys: the
last query at the last key. Which keys each query sees is a range; the ranges become a block mask.

Shape suffixes: N sequences, Tq queries and Tk keys of all of them, H heads, D features.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

import flambeau
from flambeau.nn.attention import flex_attention as flex
from flambeau.nn.attention.block_mask import MaskMod, create_block_mask
from flambeau.tensor import Tensor

#: queries and keys of a block: sequences may be short
_BLOCK = (64, 64)


class AuxRequest(NamedTuple):
    """What `varlen_attn` returns beside its result.

    Attributes:
        lse: the log-sum-exp of every query's scores.
    """

    lse: bool = False


class _Ranges(NamedTuple):
    """For every query its sequence and the positions of the keys that it sees, [low, high), int32
    arrays (Tq,)."""

    sequence: Any
    low: Any
    high: Any


def _cumulative(name: str, x: Tensor, total: int) -> Any:
    """Cumulative positions as int64.

    Raises:
        ValueError: they are not 0, .., total in order.
    """
    found = x.detach().numpy().astype(np.int64)
    if found.ndim != 1 or len(found) < 1 or found[0] != 0 or (np.diff(found) < 0).any():
        raise ValueError(f"{name} must be cumulative positions that begin with 0, got {x.tolist()}")
    if found[-1] > total:
        raise ValueError(f"{name} ends at {found[-1]}, but there are only {total} positions")
    return found


def _ranges(starts: Any, lengths: Any, total: int, window: tuple[int, int]) -> _Ranges:
    """The ranges, relative to each sequence's first key.

    Args:
        starts: (N + 1,) cumulative queries.
        lengths: (N,) keys.
        total: queries; those after the last sequence see nothing.
        window: keys before and after a query's own position; negative for all.
    """
    count = np.diff(starts)
    sequence = np.repeat(np.arange(len(count)), count)
    place = np.arange(len(sequence)) - starts[sequence] + (lengths - count)[sequence]
    end = lengths[sequence]
    low = np.zeros_like(place) if window[0] < 0 else np.maximum(place - window[0], 0)
    high = end if window[1] < 0 else np.minimum(place + window[1] + 1, end)
    missing = total - len(sequence)
    return _Ranges(*(np.pad(x, (0, missing)).astype(np.int32) for x in (sequence, low, high)))


def _packed_mask(ranges: _Ranges, key_starts: Any) -> MaskMod:
    """The mask_mod of keys that follow one another, sequence after sequence."""
    first = key_starts[ranges.sequence] if len(key_starts) > 1 else 0 * ranges.low
    low, high = (
        flambeau.from_numpy((first + x).astype(np.int32)) for x in (ranges.low, ranges.high)
    )
    return lambda b, h, q, k: (k >= low[q]) & (k < high[q])


def _paged_mask(ranges: _Ranges, table: Any, lengths: Any, pages: int, size: int) -> MaskMod:
    """The mask_mod of keys in pages: a page's number within each sequence is looked up.

    Raises:
        ValueError: a page that is used does not exist.
    """
    used = np.arange(table.shape[1]) < -(-lengths // size)[:, None]
    if ((table < 0) | (table >= pages))[used].any() or (-(-lengths // size) > table.shape[1]).any():
        raise ValueError(f"block_table must list the pages 0..{pages - 1} that seqused_k needs")
    logical = np.full((len(table), pages), -1, np.int32)
    rows, columns = np.nonzero(used)
    logical[rows, table[rows, columns]] = columns
    own = flambeau.from_numpy(logical)
    sequence, low, high = (flambeau.from_numpy(x) for x in ranges)

    def seen(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        page = own[sequence[q], k // size]
        position = page * size + k % size
        return (page >= 0) & (position >= low[q]) & (position < high[q])

    return seen


def varlen_attn(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor | None,
    max_q: int,
    max_k: int,
    *,
    return_aux: AuxRequest | None = None,
    scale: float | None = None,
    window_size: tuple[int, int] = (-1, -1),
    enable_gqa: bool = False,
    seqused_k: Tensor | None = None,
    block_table: Tensor | None = None,
    num_splits: int | None = None,
) -> Any:
    """Attention within each of several sequences that lie one after another.

    Gradients reach query, key and value in every form, paged ones included.

    Args:
        query: (Tq, Hq, D).
        key, value: (Tk, H, D), or (pages, page size, H, D) with `block_table`.
        cu_seq_q: (N + 1,), where each sequence's queries begin, and the end.
        cu_seq_k: likewise of keys; None with `block_table`.
        max_q, max_k: the longest sequences. Kernels here do not need them; they are only checked.
        return_aux: what to return beside the result.
        scale: by default 1 / sqrt(D).
        window_size: how many keys before and after its own position a query sees, -1 for all:
            (-1, 0) is causal, (W, 0) a sliding window.
        enable_gqa: Hq may be a multiple of H.
        seqused_k: (N,), how many keys of each sequence there are; the others are not seen.
        block_table: (N, most pages) int, the pages of each sequence in order.
        num_splits: torch's; results do not depend on other sequences here.

    Returns:
        (Tq, Hq, D); with `return_aux.lse` also the log-sum-exp (Hq, Tq). A query that sees no key
        gives 0 and -inf.

    Raises:
        ValueError: heads, positions, lengths or pages that do not fit.

    Reference:
        Dao, FlashAttention-2 (arXiv:2307.08691); Kwon et al., Efficient Memory Management for Large
        Language Model Serving with PagedAttention (arXiv:2309.06180).
    """
    paged = block_table is not None
    heads, shared = query.size(1), key.size(2 if paged else 1)
    if not enable_gqa and heads != shared:
        raise ValueError(
            "Expect query and key/value to have the same number of heads but got "
            f"Hq={heads} and Hkv={shared}. Try setting enable_gqa=True for GQA."
        )
    if enable_gqa and heads % shared != 0:
        raise ValueError(
            "Expect number of query heads to be a multiple of kv heads for GQA but got "
            f"Hq={heads} and Hkv={shared}."
        )
    if len(window_size) != 2:
        raise ValueError(f"window_size must have length 2, got {len(window_size)}")
    starts = _cumulative("cu_seq_q", cu_seq_q, query.size(0))
    mask, size = _mask(query, key, starts, cu_seq_k, max_k, window_size, seqused_k, block_table)
    if len(starts) > 1 and int(np.diff(starts).max()) > max_q:
        raise ValueError(f"max_q is {max_q}, but a sequence has {int(np.diff(starts).max())}")
    if paged:
        key, value = (x.reshape(-1, *x.shape[2:]) for x in (key, value))
    block_mask = create_block_mask(mask, None, None, query.size(0), key.size(0), BLOCK_SIZE=size)
    query, key, value = (x.transpose(0, 1).unsqueeze(0) for x in (query, key, value))
    out, aux = flex.flex_attention(
        query, key, value, None, block_mask, scale, enable_gqa,
        return_aux=flex.AuxRequest(lse=True),
    )  # fmt: skip
    out = out.squeeze(0).transpose(0, 1)
    return (out, aux.lse.squeeze(0)) if return_aux is not None and return_aux.lse else out


def _mask(
    query: Tensor, key: Tensor, starts: Any, cu_seq_k: Tensor | None, max_k: int,
    window: tuple[int, int], seqused_k: Tensor | None, block_table: Tensor | None,
) -> tuple[MaskMod, tuple[int, int]]:  # fmt: skip
    """(mask_mod of queries and keys as they lie, block sizes)."""
    count = len(starts) - 1
    used = None if seqused_k is None else seqused_k.detach().numpy().astype(np.int64)
    if used is not None and used.shape != (count,):
        raise ValueError(f"seqused_k must have {count} numbers, got shape {list(used.shape)}")
    if block_table is not None:
        if used is None:
            raise ValueError("block_table requires seqused_k")
        table = block_table.detach().numpy().astype(np.int64)
        if table.ndim != 2 or len(table) != count:
            raise ValueError(f"block_table must have {count} rows, got {list(table.shape)}")
        pages, size = key.shape[:2]
        ranges = _ranges(starts, used, query.size(0), window)
        return _paged_mask(ranges, table, used, pages, size), (_BLOCK[0], size)
    if cu_seq_k is None:
        raise ValueError("cu_seq_k is needed where the keys are not in pages")
    key_starts = _cumulative("cu_seq_k", cu_seq_k, key.size(0))
    if len(key_starts) != count + 1:
        raise ValueError(f"cu_seq_q is of {count} sequences and cu_seq_k of {len(key_starts) - 1}")
    lengths = np.diff(key_starts)
    if used is not None:
        if (used > lengths).any() or (used < 0).any():
            raise ValueError(f"seqused_k must be within the lengths {lengths.tolist()}")
        lengths = used
    if count and int(lengths.max()) > max_k:
        raise ValueError(f"max_k is {max_k}, but a sequence has {int(lengths.max())} keys")
    ranges = _ranges(starts, lengths, query.size(0), window)
    return _packed_mask(ranges, key_starts), _BLOCK


def varlen_attn_out(
    out: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor | None,
    max_q: int,
    max_k: int,
    *,
    return_aux: AuxRequest | None = None,
    scale: float | None = None,
    window_size: tuple[int, int] = (-1, -1),
    enable_gqa: bool = False,
    seqused_k: Tensor | None = None,
    block_table: Tensor | None = None,
    num_splits: int | None = None,
) -> Any:
    """`varlen_attn` whose result is written to `out`, (Tq, Hq, D), which is returned.

    Args, Returns and Raises: those of `varlen_attn`.
    """
    with flambeau.no_grad():
        found = varlen_attn(
            query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, return_aux=return_aux,
            scale=scale, window_size=window_size, enable_gqa=enable_gqa, seqused_k=seqused_k,
            block_table=block_table, num_splits=num_splits,
        )  # fmt: skip
        if isinstance(found, tuple):
            return out.copy_(found[0]), found[1]
        return out.copy_(found)


__all__ = ["AuxRequest", "varlen_attn", "varlen_attn_out"]
