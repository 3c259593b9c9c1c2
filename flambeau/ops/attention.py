"""Scaled dot-product attention.

Shape suffixes: B batch (any leading dimensions), H heads, L queries, S keys, E features, V values'.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

from flambeau import dtypes
from flambeau.device import cpu
from flambeau.device import device as Device
from flambeau.dtype import dtype as DType
from flambeau.dtype import float32, float64
from flambeau.ir.graph import CAST, Node
from flambeau.ops.arithmetic import dtype_word
from flambeau.ops.flex import How, _attention, _check_sizes
from flambeau.ops.generator import default_generator
from flambeau.ops.linear import check_probability
from flambeau.ops.mods import GATHER, Mod, Ref, Step, trace
from flambeau.ops.random import keep_mask
from flambeau.ops.rows import NAMES, ROWS
from flambeau.ops.streams import random_at, stream
from flambeau.ops.table import composite
from flambeau.size import broadcast_shapes
from flambeau.tensor import Tensor, make


class AttendingMask(Tensor):
    """A mask for `scaled_dot_product_attention` that has a form of attention of its own."""

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, dropout_p: float = 0.0,
        is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
    ) -> Tensor:  # fmt: skip
        """Attention under this mask.

        Args and Returns: `scaled_dot_product_attention`'s.
        """
        raise NotImplementedError


def score_dtype(dtype: DType) -> DType:
    """The dtype that scores are computed in."""
    return float64 if dtype is float64 else float32


@cache
def mask_mod(shape: tuple[int, ...], dtype: DType, score: DType) -> Mod:
    """The mod that reads a mask (B, H, L, S): True takes part, or numbers that are added.

    A dimension of size 1 is read at 0, since places outside are moved in.
    """
    place: tuple[Ref, ...] = (("captured", 0), *(("slot", k) for k in range(1, 5)))
    steps = [Step(GATHER, place, (), dtype)]
    if dtype is not dtypes.bool:
        if dtype is not score:
            steps.append(Step(CAST, (("step", 0),), (), score))
        last: Ref = ("step", len(steps) - 1)
        steps.append(Step(ROWS["plus"], (("slot", 0), last), (), score))
    return Mod(tuple(steps), (("step", len(steps) - 1),), ((shape, dtype),), score)


@cache
def _keep(score: DType) -> Mod:
    """The mod of dropout: random bits of the place, at least a threshold."""
    heads, rows, columns, first, key, threshold = (
        NAMES["tensor"](0, dtype=dtypes.int64) for _ in range(6)
    )

    def keep(b: Tensor, h: Tensor, q: Tensor, kv: Tensor) -> Any:
        place = ((b * heads + h) * rows + q) * columns + kv
        return random_at(place + first, key) >= threshold

    return trace(keep, score, False)[0]


def dropout_mod(
    p: float, shape: tuple[int, int, int, int], score: DType, device: Device = cpu
) -> tuple[Mod, list[Tensor]]:
    """The mask_mod that is True with probability 1 - p, at new random places of the generator.

    Args:
        shape: (B, H, L, S).
        device: of what is captured.

    Returns:
        The mod and what it captures.
    """
    if not stream().anywhere:
        return mask_mod(shape, dtypes.bool, score), [keep_mask(shape, p, device=device)]
    key, first = default_generator.take(math.prod(shape))
    threshold = min(int(p * 2.0**64) - (1 << 63), (1 << 63) - 1)
    numbers = (*shape[1:], first, key, threshold)
    fill = ROWS["fill_value"]
    return _keep(score), [make(Node(fill, (n,), (), (), dtypes.int64), device) for n in numbers]


def _check(query: Tensor, key: Tensor, value: Tensor, mask: Any, causal: bool) -> None:
    if not query.dtype == key.dtype == value.dtype:
        raise RuntimeError(
            f"Expected query, key, and value to have the same dtype, but got "
            f"query.dtype: {dtype_word(query.dtype).lower()} key.dtype: "
            f"{dtype_word(key.dtype).lower()} and value.dtype: "
            f"{dtype_word(value.dtype).lower()} instead."
        )
    if min(query.ndim, key.ndim, value.ndim) < 2:
        raise RuntimeError(
            f"Expected query, key, and value to all be  at least 2 dimensional, but "
            f"got query.dim(): {query.ndim}, key.dim(): {key.ndim} and value.dim(): "
            f"{value.ndim} instead."
        )
    if mask is not None:
        if causal:
            raise RuntimeError(
                "_scaled_dot_product_attention: Explicit attn_mask should not be "
                "set when is_causal=True"
            )
        if mask.dtype is not dtypes.bool and mask.dtype not in (query.dtype, float32):
            raise RuntimeError(
                f"Expected attn_mask dtype to be bool or float or to match query "
                f"dtype, but got attn_mask.dtype: {dtype_word(mask.dtype).lower()} "
                f"and  query.dtype: {dtype_word(query.dtype).lower()} instead."
            )


@composite(method=False, public=False, functional=True, autocast="lower")
def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(scale * query @ key^T + mask) @ value.

    Args:
        query: (B.., Hq, L, E).
        key: (B.., H, S, E).
        value: (B.., H, S, V).
        attn_mask: bool (True takes part) or floating (added to the scores), broadcasting to
            (B.., Hq, L, S).
        dropout_p: probability of dropping a probability; also outside training.
        is_causal: query i sees the keys 0..i.
        scale: by default 1 / sqrt(E).
        enable_gqa: Hq may be a multiple of H; consecutive query heads share a key head.

    Returns:
        (B.., Hq, L, V). A query that sees no key gives zeros.

    Raises:
        RuntimeError: dtypes or sizes that do not fit, or both a mask and `is_causal`.

    Reference:
        Vaswani et al., Attention Is All You Need (arXiv:1706.03762), equation 1.
    """
    if isinstance(attn_mask, AttendingMask):
        return attn_mask.attend(query, key, value, dropout_p, is_causal, scale, enable_gqa)
    _check(query, key, value, attn_mask, is_causal)
    check_probability(dropout_p)
    _check_sizes(query, key, value)
    if scale is None:
        scale = 1.0 / math.sqrt(query._shape[-1]) if query._shape[-1] else math.inf
    shape = _batch(query, key, value, attn_mask, enable_gqa)
    q, k, v, mask = _four_dimensional(query, key, value, attn_mask, shape, enable_gqa)
    wide = score_dtype(query.dtype)
    score = mask_ = keep = None
    captured = []
    if mask is not None:
        mod = mask_mod(mask._shape, mask.dtype, wide)
        score, mask_ = (None, mod) if mask.dtype is dtypes.bool else (mod, None)
        captured.append(mask)
    if dropout_p > 0.0:
        places = (q._shape[0], q._shape[1], q._shape[2], k._shape[2])
        keep, numbers = dropout_mod(dropout_p, places, wide, q.device)
        captured += numbers
    keep_scale = 0.0 if dropout_p >= 1.0 else 1.0 / (1.0 - dropout_p)
    how = How(float(scale), is_causal, score, mask_, keep, keep_scale)
    out = _attention(q, k, v, how, *captured)[0]
    return out if q is query else out.reshape(*shape, *out._shape[-2:])


def _batch(
    query: Tensor, key: Tensor, value: Tensor, mask: Any, enable_gqa: bool
) -> tuple[int, ...]:
    """The result's batch dimensions and heads.

    Raises:
        RuntimeError: they do not fit.
    """
    shapes = [query._shape[:-2]]
    if mask is not None:
        wanted = (query._shape[-2], key._shape[-2])
        if broadcast_shapes(mask._shape[-2:], wanted) != wanted:
            raise RuntimeError(
                f"The expanded size of the tensor must match the scores' {list(wanted)}, got a "
                f"mask of shape {list(mask.shape)}"
            )
        shapes.append(mask._shape[:-2])
    for x in (key, value):
        batch = x._shape[:-2]
        if enable_gqa and query.ndim >= 3 and x.ndim >= 3:
            if not x._shape[-3] or query._shape[-3] % x._shape[-3]:
                raise RuntimeError(
                    "Number of heads in key and value must divide the number of heads "
                    f"in query, got {query._shape[-3]}, {key._shape[-3]} and "
                    f"{value._shape[-3]}"
                )
            batch = (*batch[:-1], query._shape[-3])
        shapes.append(batch)
    return broadcast_shapes(*shapes)


def _four_dimensional(
    query: Tensor, key: Tensor, value: Tensor, mask: Any, shape: tuple[int, ...], enable_gqa: bool
) -> tuple[Tensor, Tensor, Tensor, Any]:
    """The operands as (B, H, ., .): leading dimensions joined, broadcast ones expanded."""
    lead = shape[:-1] if shape else ()
    count = math.prod(lead)

    def form(x: Tensor, heads: int) -> Tensor:
        full = (*lead, heads, *x._shape[-2:])
        if len(shape) == 2 and x._shape == full:
            return x
        if shape and x._shape != full:
            x = x.expand(full)
        return x.reshape(count, heads, *x._shape[-2:])

    heads = shape[-1] if shape else 1
    own = [key._shape[-3] if enable_gqa and x.ndim >= 3 else heads for x in (key, value)]
    if mask is not None:
        if mask.ndim > 4 or len(shape) > 2:
            mask = mask.expand(*shape, *mask._shape[-2:]).reshape(count, heads, *mask._shape[-2:])
        elif len(shape) == 1 and mask.ndim == 3:
            mask = mask.unsqueeze(0)
        while mask.ndim < 4:
            mask = mask.unsqueeze(0)
    return form(query, heads), form(key, own[0]), form(value, own[1]), mask
