"""Attention with a score_mod and a block mask."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, TypedDict

import flambeau
from flambeau.nn.attention.block_mask import (
    _DEFAULT_SPARSE_BLOCK_SIZE as _DEFAULT_SPARSE_BLOCK_SIZE,
)
from flambeau.nn.attention.block_mask import (
    _LARGE_SPARSE_BLOCK_SIZE,
    BlockMask,
    _sliced_mask_mod_error,
    and_masks,
    create_block_mask,
    create_mask,
    noop_mask,
    or_masks,
)
from flambeau.nn.attention.block_states import refuse_outside
from flambeau.ops.attention import dropout_mod, score_dtype
from flambeau.ops.bounds import wrapped_index
from flambeau.ops.flex import How, _attention
from flambeau.ops.mods import Mod, trace
from flambeau.overriding import overridable
from flambeau.tensor import Tensor

ScoreMod = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
_BACKENDS = ("AUTO", "TRITON", "FLASH", "TRITON_DECODE")


class FlexKernelOptions(TypedDict, total=False):
    """torch's options of its kernels. All are taken; flambeau's kernels choose for themselves.

    Keys: torch's, of tiles (BLOCK_M and BLOCK_N, of the backward pass BLOCK_M1, BLOCK_N1, BLOCK_M2
    and BLOCK_N2), of launching, of promises about the mods, and which of its kernels it is.
    """

    num_warps: int
    num_stages: int
    BLOCK_M: int
    BLOCK_N: int
    BLOCK_M1: int
    BLOCK_N1: int
    BLOCK_M2: int
    BLOCK_N2: int
    PRESCALE_QK: bool
    ROWS_GUARANTEED_SAFE: bool
    BLOCKS_ARE_CONTIGUOUS: bool
    WRITE_DQ: bool
    FORCE_USE_FLEX_ATTENTION: bool
    USE_TMA: bool
    kpack: int
    matrix_instr_nonkdim: int
    waves_per_eu: int
    BACKEND: str


class AuxRequest(NamedTuple):
    """What `flex_attention` returns beside its result.

    Attributes:
        lse: the log-sum-exp of every query's scores.
        max_scores: the greatest score of every query.
    """

    lse: bool = False
    max_scores: bool = False


class AuxOutput(NamedTuple):
    """What was asked for by `AuxRequest`.

    Attributes:
        lse: (B, H, L), natural logarithm; -inf where a query sees no key.
        max_scores: (B, H, L).
    """

    lse: Tensor | None = None
    max_scores: Tensor | None = None


@overridable
def flex_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    score_mod: ScoreMod | None = None,
    block_mask: BlockMask | None = None,
    scale: float | None = None,
    enable_gqa: bool = False,
    return_lse: bool = False,
    kernel_options: dict[str, Any] | None = None,
    *,
    return_aux: AuxRequest | None = None,
    dropout_p: float = 0.0,
) -> Any:
    """softmax(score_mod(scale * query @ key^T)) @ value over the keys that the block mask shows.

    The mods are recorded and become part of the attention kernel, forward and backward; no scores
    are kept. Gradients reach tensors that the score_mod captured.

    Args:
        query: (B, Hq, L, E).
        key: (B, Hkv, S, E).
        value: (B, Hkv, S, Ev).
        score_mod: (score, b, h, q_idx, kv_idx) -> score, of elementwise operations and reads of
            captured tensors.
        block_mask: made by `create_block_mask`.
        scale: by default 1 / sqrt(E).
        enable_gqa: Hq may be a multiple of Hkv.
        return_lse: also return the log-sum-exp; `return_aux` is the newer way.
        kernel_options: torch's options of its kernels; only their names are looked at.
        return_aux: what to return beside the result.
        dropout_p: probability of dropping a probability (not in torch).

    Returns:
        (B, Hq, L, Ev); with `return_lse` and the log-sum-exp, with `return_aux` and an `AuxOutput`.
        A query that sees no key gives 0 and a log-sum-exp of -inf.

    Raises:
        ValueError: sizes, dtypes or heads that do not fit, or a mask for other lengths.
        NotImplementedError: other than 4 dimensions, or a mod that cannot be inlined.
        IndexError: the score_mod reads a captured tensor outside of it, at a place that is seen.

    Reference:
        Dong et al., Flex Attention (arXiv:2412.05496).
    """
    _check(query, key, value, block_mask, enable_gqa)
    _check_options(kernel_options)
    if block_mask is not None:
        _check_mask(query, key, block_mask)
    if return_lse and return_aux is not None:
        raise ValueError(
            "Cannot specify both return_lse and return_aux. return_lse is deprecated, please use "
            "return_aux=AuxRequest(lse=True) instead."
        )
    if return_lse:
        warnings.warn(
            "return_lse is deprecated and will be removed in v2.10. Please use "
            "return_aux=AuxRequest(lse=True) instead.",
            FutureWarning,
            stacklevel=2,
        )
    out, *rest = _recorded(
        query, key, value, score_mod, block_mask, scale, dropout_p,
        return_aux is not None and return_aux.max_scores,
    )  # fmt: skip
    if return_aux is not None:
        top = rest[1].detach() if return_aux.max_scores else None
        return out, AuxOutput(rest[0] if return_aux.lse else None, top)
    return (out, rest[0]) if return_lse else out


def _recorded(
    query: Tensor, key: Tensor, value: Tensor, score_mod: ScoreMod | None,
    block_mask: BlockMask | None, scale: float | None, dropout_p: float, top: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Trace the mods and record the row; -> its results."""
    wide = score_dtype(query.dtype)
    batch, heads, length = query.shape[:3]
    captured: list[Tensor] = []
    score = mask = keep = blocks = None
    if block_mask is not None:
        blocks, lists = _lists(block_mask, batch, heads, (length, key.shape[2]))
        captured += lists
    places = (batch, heads, length, key.shape[2])
    if score_mod is not None:
        score, found = _traced(score_mod, wide, True, places)
        captured += found
    of_score = found if score_mod is not None else []
    found = []
    if block_mask is not None and block_mask.mask_mod is not noop_mask:
        mask, found = _traced(block_mask.mask_mod, wide, False, places)
        captured += found
    if score is not None:
        refuse_outside(score, of_score, places, mask, found)
    if dropout_p > 0.0:
        keep, found = dropout_mod(dropout_p, places, wide)
        captured += found
    if key.shape[0] != batch:
        key, value = (x.expand(batch, *x.shape[1:]) for x in (key, value))
    how = How(
        1.0 / math.sqrt(query.shape[-1]) if scale is None else float(scale),
        score=score,
        mask=mask,
        keep=keep,
        keep_scale=0.0 if dropout_p >= 1.0 else 1.0 / (1.0 - dropout_p),
        blocks=blocks,
        top=top,
    )
    return _attention(query, key, value, how, *captured)


def _traced(
    function: Callable[..., Any], score: Any, of_score: bool, places: tuple[int, int, int, int]
) -> tuple[Mod, list[Tensor]]:
    """`trace`, refusing a mod whose indices may overflow over these places."""
    mod, captured = trace(function, score, of_score)
    if wrapped_index(mod, places):
        raise RuntimeError(
            f"{'score_mod' if of_score else 'mask_mod'} reads a captured tensor at an index that "
            f"may overflow for (B, H, L, S) = {places}: compute it in int64, for example from "
            "q_idx.long()"
        )
    return mod, captured


def _lists(
    block_mask: BlockMask, batch: int, heads: int, lengths: tuple[int, int]
) -> tuple[tuple[int, int], list[Tensor]]:
    """(block sizes, the eight tensors of a block mask as the row wants them)."""
    if block_mask.q_num_blocks is None or block_mask.q_indices is None:
        block_mask = BlockMask.from_kv_blocks(
            block_mask.kv_num_blocks,
            block_mask.kv_indices,
            block_mask.full_kv_num_blocks,
            block_mask.full_kv_indices,
            block_mask.BLOCK_SIZE,
            block_mask.mask_mod,
            block_mask.seq_lengths,
        )
    found: list[Tensor] = []
    for side in ("kv", "q"):
        own = [getattr(block_mask, f"{side}_{x}") for x in ("num_blocks", "indices")]
        whole = [getattr(block_mask, f"full_{side}_{x}") for x in ("num_blocks", "indices")]
        if whole[0] is None:
            whole = [flambeau.zeros_like(own[0]), own[1]]
        found += [*own, *whole]
    for t in found[::2]:
        if t.shape[0] not in (1, batch) or t.shape[1] not in (1, heads):
            raise ValueError(
                f"block_mask was created for block_mask.shape={block_mask.shape} but got "
                f"B={batch} and Hq={heads}."
            )
    sizes = tuple(min(size, max(n, 1)) for size, n in zip(block_mask.BLOCK_SIZE, lengths))
    return sizes, [t.to(flambeau.int32) for t in found]  # type: ignore[return-value]


def _check(
    query: Tensor, key: Tensor, value: Tensor, block_mask: BlockMask | None, enable_gqa: bool
) -> None:
    """Sizes and dtypes, as torch checks them."""
    if not query.dtype == key.dtype == value.dtype:
        raise ValueError(
            "Expected query, key, and value to have the same dtype, but got query.dtype: "
            f"{query.dtype}, key.dtype: {key.dtype}, and value.dtype: {value.dtype} instead."
        )
    if min(query.dim(), key.dim(), value.dim()) < 2:
        raise ValueError(
            "Expected query, key, and value to all be  at least 2 dimensional, but got query.dim: "
            f"{query.dim()}, key.dim: {key.dim()} and value.dim: {value.dim()} instead."
        )
    if query.size(-1) != key.size(-1):
        raise ValueError(
            "Expect query and key/value to have the same embedding dimension but got "
            f"E={query.size(-1)} and E={key.size(-1)}."
        )
    if query.dim() != 4 or key.dim() != 4 or value.dim() != 4:
        raise NotImplementedError("NYI: query, key, and value must be 4D tensors")
    if key.shape[:3] != value.shape[:3]:
        raise ValueError(
            "Expect key and value to have the same batch size, heads and length but got key "
            f"{tuple(key.shape)} and value {tuple(value.shape)}."
        )
    if not enable_gqa and query.size(-3) != key.size(-3):
        raise ValueError(
            "Expect query and key/value to have the same number of heads but got "
            f"Hq={query.size(-3)} and Hkv={key.size(-3)}. Try setting enable_gqa=True for GQA."
        )
    if enable_gqa and query.size(1) % key.size(1) != 0:
        raise ValueError(
            "Expect number of query heads to be a multiple of kv heads for GQA but got "
            f"Hq={query.size(1)} and Hkv={key.size(1)}."
        )
    if query.size(0) != key.size(0):
        if block_mask is None:
            raise ValueError(
                "Expect query and key/value to have the same batch size, or non-none block_mask, "
                f"but got block_mask=None, Bq={query.size(0)}, and Bkv={key.size(0)}."
            )
        if block_mask.kv_num_blocks.size(0) != query.size(0) or key.size(0) != 1:
            raise ValueError(
                "Expect query and key/value to have the same batch size, or block_mask and query "
                f"to have the same batch size, but got Bq={query.size(0)}, Bkv={key.size(0)}, "
                f"B_block_mask={block_mask.kv_num_blocks.size(0)}."
            )


def _check_mask(query: Tensor, key: Tensor, block_mask: BlockMask) -> None:
    """A block mask is for the lengths at hand."""
    if block_mask.mask_mod is _sliced_mask_mod_error:
        raise RuntimeError("Cannot use mask_mod from a sliced BlockMask")
    if block_mask.BLOCK_SIZE == (_LARGE_SPARSE_BLOCK_SIZE, _LARGE_SPARSE_BLOCK_SIZE):
        return
    q_len, kv_len = block_mask.shape[-2:]
    made = (
        f"block_mask was created for block_mask.shape={block_mask.shape} but got "
        f"q_len={query.size(-2)} and kv_len={key.size(-2)}. As the block mask was created for a "
    )
    if query.size(-2) > q_len or key.size(-2) > kv_len:
        raise ValueError(
            f"{made}smaller length than you're using it for, you likely need to create a new block "
            "mask."
        )
    if query.size(-2) < q_len or key.size(-2) < kv_len:
        raise ValueError(
            f"{made}larger length than you're using it for, you can either 1. create a new block "
            "mask with the correct length, or 2. 'adjust' the existing block mask to the correct "
            "length by calling block_mask._adjust(q_len, kv_len). This essentially 'crops' the "
            "block mask to the upper left corner, which does not work for all mask_mods!"
        )


def _check_options(options: dict[str, Any] | None) -> None:
    """torch's options are taken; a backend must be one of torch's."""
    if options is None or "BACKEND" not in options:
        return
    if "FORCE_USE_FLEX_ATTENTION" in options:
        raise RuntimeError("BACKEND cannot be combined with legacy FORCE_USE_FLEX_ATTENTION.")
    if options["BACKEND"] not in _BACKENDS:
        raise ValueError(
            f"Invalid BACKEND value {options['BACKEND']!r}. Must be one of {_BACKENDS}"
        )


__all__ = [
    "AuxOutput",
    "AuxRequest",
    "BlockMask",
    "FlexKernelOptions",
    "and_masks",
    "create_block_mask",
    "create_mask",
    "flex_attention",
    "noop_mask",
    "or_masks",
]
