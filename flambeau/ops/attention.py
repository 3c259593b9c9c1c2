"""Scaled dot-product attention.

Shape suffixes: B batch (any leading dimensions), H heads, L queries, S keys, E features, V values'.
"""

from __future__ import annotations

import math
from typing import Any

from flambeau import dtypes
from flambeau.dtype import float32
from flambeau.ops.arithmetic import dtype_word
from flambeau.ops.contraction import matmul_batched
from flambeau.ops.elementwise import exp, log, reciprocal, select_where
from flambeau.ops.linear import check_probability
from flambeau.ops.movement import sum_to, transpose
from flambeau.ops.precision import cast, widen
from flambeau.ops.random import keep_mask
from flambeau.ops.reduction import max_axes, restore, sum_axes
from flambeau.ops.rows import NAMES
from flambeau.ops.table import composite
from flambeau.size import broadcast_shapes
from flambeau.tensor import Tensor


def _scores(q_BLE: Tensor, k_BSE: Tensor, mask: Any, causal: bool, scale: float) -> Tensor:
    """scale * q @ k^T with masked places at -inf, in float32 or wider."""
    s_BLS = matmul_batched(q_BLE, transpose(k_BSE, -2, -1)) * scale
    if causal:
        rows, columns = s_BLS._shape[-2:]
        below = NAMES["arange"](columns) <= NAMES["arange"](rows).unsqueeze(-1)
        s_BLS = select_where(below, s_BLS, -math.inf)
    if mask is None:
        return s_BLS
    if mask.dtype is dtypes.bool:
        return select_where(mask, s_BLS, -math.inf)
    return s_BLS + cast(mask, s_BLS.dtype)


def _last(x: Tensor, row: Any) -> Tensor:
    """A reduction over the last dimension, which is kept with size 1."""
    axes = (x.ndim - 1,)
    return restore(row(x, axes), x._shape, axes, True)


@composite(keep=True, method=False, public=False)
def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Any,
    keep: Any,
    keep_scale: float,
    causal: bool,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """softmax(scale * q @ k^T + mask) @ v, and the log-sum-exp of every row of scores.

    Args:
        query: (B.., L, E).
        key: (B.., S, E).
        value: (B.., S, V).
        mask: None, bool (True takes part) or floating (added), broadcasting to (B.., L, S).
        keep: None or a bool dropout mask (B.., L, S) of probabilities.
        keep_scale: what kept probabilities are multiplied with.

    Returns:
        (B.., L, V) in the query's dtype, and (B.., L, 1) in float32 or wider.
    """
    _check_sizes(query, key, value)
    s_BLS = _scores(widen(query), widen(key), mask, causal, scale)
    if not s_BLS.numel():
        shape = (*s_BLS._shape[:-1], value._shape[-1])
        return (
            NAMES["zeros"](*shape, dtype=query.dtype),
            NAMES["full"]((*s_BLS._shape[:-1], 1), -math.inf, dtype=s_BLS.dtype),
        )
    top = _last(s_BLS, max_axes)
    top = select_where(top == -math.inf, 0.0, top)  # a row that is masked everywhere
    p_BLS = exp(s_BLS - top)
    total = _last(p_BLS, sum_axes)
    if keep is not None:
        p_BLS = select_where(keep, p_BLS * keep_scale, 0.0)
    # scaled after the product: (L, V) numbers instead of (L, S)
    out = matmul_batched(p_BLS, widen(value))
    out = out * select_where(total == 0.0, 0.0, reciprocal(total))
    return cast(out, query.dtype), log(total) + top


def _slopes(
    gs: Any,
    outs: Any,
    query: Any,
    key: Any,
    value: Any,
    mask: Any,
    keep: Any,
    keep_scale: float,
    causal: bool,
    scale: float,
) -> tuple[Any, Any]:
    """-> (gradient of the scores before scaling, gradient of the values).

    Probabilities are computed again from q, k and the log-sum-exp, never saved:
    P = exp(S - lse), dV = P^T dO, dP = dO V^T, dS = P * (dP - rowsum(O * dO) + dlse);
    Dao et al., FlashAttention (arXiv:2205.14135), algorithm 4.
    """
    g_out, g_lse = gs
    out, lse = widen(outs[0]), outs[1]
    s_BLS = _scores(widen(query), widen(key), mask, causal, scale)
    p_BLS = exp(s_BLS - select_where(lse == -math.inf, 0.0, lse))
    ds_BLS = g_value = None
    if g_out is not None:
        g = widen(g_out)
        kept = p_BLS if keep is None else select_where(keep, p_BLS * keep_scale, 0.0)
        g_value = cast(sum_to(matmul_batched(transpose(kept, -2, -1), g), value.shape), value.dtype)
        dp_BLS = matmul_batched(g, transpose(widen(value), -2, -1))
        if keep is not None:
            dp_BLS = select_where(keep, dp_BLS * keep_scale, 0.0)
        ds_BLS = p_BLS * (dp_BLS - _last(out * g, sum_axes))
    if g_lse is not None:
        ds_BLS = p_BLS * g_lse if ds_BLS is None else ds_BLS + p_BLS * g_lse
    return ds_BLS, g_value


def _through_scores(ds_BLS: Tensor, query: Any, key: Any, scale: float) -> tuple[Tensor, Tensor]:
    """Gradients of the query and the key from that of the scores."""
    ds_BLS = ds_BLS * scale
    g_query = matmul_batched(ds_BLS, widen(key))
    g_key = matmul_batched(transpose(ds_BLS, -2, -1), widen(query))
    return (
        cast(sum_to(g_query, query.shape), query.dtype),
        cast(sum_to(g_key, key.shape), key.dtype),
    )


@composite(keep=True, method=False, public=False)
def _attention_backward(
    g: Tensor,
    out: Tensor,
    lse: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    causal: bool,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of query, key and value of attention without mask or dropout.

    Args:
        g: (B.., L, V), cotangent of the result.
        out, lse: the results of `_attention`.
    """
    ds_BLS, g_value = _slopes(
        (g, None), (out, lse), query, key, value, None, None, 1.0, causal, scale
    )
    return *_through_scores(ds_BLS, query, key, scale), g_value


def _attention_vjp(
    gs: Any,
    outs: Any,
    query: Any,
    key: Any,
    value: Any,
    mask: Any,
    keep: Any,
    keep_scale: float,
    causal: bool,
    scale: float,
) -> tuple[Any, ...]:
    if mask is None and keep is None and gs[1] is None:
        return (
            *_attention_backward(gs[0], *outs, query, key, value, causal, scale),
            None,
            None,
            None,
            None,
            None,
        )
    ds_BLS, g_value = _slopes(gs, outs, query, key, value, mask, keep, keep_scale, causal, scale)
    g_mask = None
    if mask is not None and mask.requires_grad:
        g_mask = cast(sum_to(ds_BLS, mask.shape), mask.dtype)
    return (*_through_scores(ds_BLS, query, key, scale), g_value, g_mask, None, None, None, None)


_attention.vjp(_attention_vjp, saves="out0 out1 query key value mask keep")


def _flops(node: Any, first: int, of_query: int, of_value: int) -> int:
    """Floating-point operations of that many products over the query's features and over the
    value's, at each place of the (L, S) matrix that counts; source `first` is the query."""
    q, k, v = (s.shape for s in node.src[first : first + 3])
    places = math.prod(q[:-1]) * int(k[-2])
    work = 2 * places * (of_query * int(q[-1]) + of_value * int(v[-1]))
    return work // 2 if node.attrs[node.op.parameters.index("causal")] else work


_attention.flops(lambda node: _flops(node, 0, 1, 1))
_attention_backward.flops(lambda node: _flops(node, 3, 3, 2))


def _check_sizes(query: Tensor, key: Tensor, value: Tensor) -> None:
    """Refuse features and keys that do not pair up; the batch is checked by the products."""
    if query.dtype.category != 2:
        raise RuntimeError(f"attention is computed in floating-point dtypes, got {query.dtype}")
    if query._shape[-1] != key._shape[-1] or key._shape[-2] != value._shape[-2]:
        raise RuntimeError(
            f"Expected the features of query and key, and the keys of key and value,"
            f" to agree, but got query {list(query.shape)}, key {list(key.shape)} "
            f"and value {list(value.shape)}"
        )


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
    _check(query, key, value, attn_mask, is_causal)
    check_probability(dropout_p)
    if scale is None:
        scale = 1.0 / math.sqrt(query._shape[-1]) if query._shape[-1] else math.inf
    groups = 1
    if enable_gqa and query.ndim >= 3 and query._shape[-3] != key._shape[-3]:
        groups, rest = divmod(query._shape[-3], key._shape[-3])
        if rest or key._shape[-3] != value._shape[-3]:
            raise RuntimeError(
                "Number of heads in key and value must divide the number of heads "
                f"in query, got {query._shape[-3]}, {key._shape[-3]} and "
                f"{value._shape[-3]}"
            )
    heads = query._shape[-3] if query.ndim >= 3 else 1
    if groups > 1:  # query heads that share a key head become a dimension that keys broadcast over
        query = query.reshape(*query._shape[:-3], heads // groups, groups, *query._shape[-2:])
        key, value = key.unsqueeze(-3), value.unsqueeze(-3)
        if attn_mask is not None and attn_mask.ndim >= 3:
            per_head = (heads // groups, groups) if attn_mask._shape[-3] == heads else (1, 1)
            attn_mask = attn_mask.reshape(*attn_mask._shape[:-3], *per_head, *attn_mask._shape[-2:])
    keep = None
    if dropout_p > 0.0:
        batch = broadcast_shapes(query._shape[:-2], key._shape[:-2])
        keep = keep_mask((*batch, query._shape[-2], key._shape[-2]), dropout_p)
    keep_scale = 0.0 if dropout_p >= 1.0 else 1.0 / (1.0 - dropout_p)
    out = _attention(query, key, value, attn_mask, keep, keep_scale, is_causal, float(scale))[0]
    if groups > 1:
        out = out.reshape(*out._shape[:-4], heads, *out._shape[-2:])
    return out
