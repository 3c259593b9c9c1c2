"""Multi-head attention as a function of its weights.

Shape suffixes: N batch, H heads, L target length, S source length, E embedding, D head size.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import flambeau
from flambeau.ops.activation import softmax
from flambeau.ops.attention import scaled_dot_product_attention
from flambeau.ops.linear import dropout, linear


def none_or_dtype(mask: Any) -> Any:
    """The dtype of a mask that may be missing."""
    return None if mask is None else mask.dtype


def canonical_mask(
    mask: Any,
    mask_name: str,
    other_type: Any,
    other_name: str,
    target_type: Any,
    check_other: bool = True,
) -> Any:
    """A mask in the form that is added to the scores.

    Args:
        mask: None, a bool mask (True leaves out) or a float one (added).
        mask_name: for messages.
        other_type: dtype of another mask it should agree with, or None.
        other_name: that mask's name, for messages.
        target_type: the floating-point dtype wanted.
        check_other: whether to warn of a disagreement.

    Returns:
        None or a float mask, -inf where a bool mask was True.

    Raises:
        AssertionError: the mask is neither bool nor floating-point.
    """
    if mask is None:
        return None
    is_float = mask.is_floating_point()
    if mask.dtype != flambeau.bool and not is_float:
        raise AssertionError(f"only bool and floating types of {mask_name} are supported")
    if check_other and other_type is not None and mask.dtype != other_type:
        warnings.warn(
            f"Support for mismatched {mask_name} and {other_name} is deprecated. Use same type"
            " for both instead.",
            stacklevel=3,
        )
    if is_float:
        return mask
    return flambeau.zeros_like(mask, dtype=target_type).masked_fill_(mask, float("-inf"))


def _check_shapes(
    query: Any, key: Any, value: Any, key_padding_mask: Any, attn_mask: Any, num_heads: int
) -> bool:
    """Whether the input is batched; raises when the dimensions do not agree."""
    if query.dim() not in (2, 3):
        raise AssertionError(
            "query should be unbatched 2D or batched 3D tensor but received"
            f" {query.dim()}-D query tensor"
        )
    batched = query.dim() == 3
    dims = query.dim()
    what = f"For {'batched' if batched else 'unbatched'} ({dims}-D) `query`, expected"
    if key.dim() != dims or value.dim() != dims:
        raise AssertionError(
            f"{what} `key` and `value` to be {dims}-D but found {key.dim()}-D and"
            f" {value.dim()}-D tensors respectively"
        )
    if key_padding_mask is not None and key_padding_mask.dim() != dims - 1:
        raise AssertionError(
            f"{what} `key_padding_mask` to be `None` or {dims - 1}-D but found"
            f" {key_padding_mask.dim()}-D tensor instead"
        )
    if attn_mask is not None:
        if attn_mask.dim() not in (2, 3):
            raise AssertionError(
                f"{what} `attn_mask` to be `None`, 2-D or 3-D but found"
                f" {attn_mask.dim()}-D tensor instead"
            )
        if attn_mask.dim() == 3 and not batched:
            expected = (num_heads, query.shape[0], key.shape[0])
            if tuple(attn_mask.shape) != expected:
                raise AssertionError(
                    f"Expected `attn_mask` shape to be {expected} but got {attn_mask.shape}"
                )
    return batched


def _project(query: Any, key: Any, value: Any, weight: Any, bias: Any) -> tuple[Any, Any, Any]:
    """Queries, keys and values from one packed weight, with as few products as possible."""
    if weight is None:
        raise AssertionError("use_separate_proj_weight is False but in_proj_weight is None")
    size = query.size(-1)
    if query is key and key is value:
        return linear(query, weight, bias).chunk(3, dim=-1)
    if key is value:
        w_q, w_kv = weight.split([size, 2 * size])
        b_q, b_kv = (None, None) if bias is None else bias.split([size, 2 * size])
        return (linear(query, w_q, b_q), *linear(key, w_kv, b_kv).chunk(2, dim=-1))
    w_q, w_k, w_v = weight.chunk(3)
    b_q, b_k, b_v = (None, None, None) if bias is None else bias.chunk(3)
    return linear(query, w_q, b_q), linear(key, w_k, b_k), linear(value, w_v, b_v)


def _project_separately(
    query: Any, key: Any, value: Any, weights: tuple[Any, Any, Any], bias: Any
) -> tuple[Any, Any, Any]:
    """Queries, keys and values from a weight each."""
    size = query.size(-1)
    biases = (None, None, None) if bias is None else bias.chunk(3)
    results = []
    for name, x, w, b in zip(
        ("query", "key", "value"), (query, key, value), weights, biases, strict=True
    ):
        if w is None:
            raise AssertionError(
                f"use_separate_proj_weight is True but {name[0]}_proj_weight is None"
            )
        if tuple(w.shape) != (size, x.size(-1)):
            raise AssertionError(
                f"expecting {name} weights shape of {(size, x.size(-1))}, but got {w.shape}"
            )
        results.append(linear(x, w, b))
    return results[0], results[1], results[2]


def _masks(
    attn_mask: Any, key_padding_mask: Any, is_causal: bool, need_weights: bool, dtype: Any
) -> tuple[Any, Any, bool]:
    """Both masks as they are added, and whether a kernel may rely on causality alone."""
    if is_causal and attn_mask is None:
        raise RuntimeError(
            "Need attn_mask if specifying the is_causal hint. You may use the Transformer module"
            " method `generate_square_subsequent_mask` to create this mask."
        )
    other = none_or_dtype(attn_mask)
    key_padding_mask = canonical_mask(
        key_padding_mask, "key_padding_mask", other, "attn_mask", dtype
    )
    if is_causal and key_padding_mask is None and not need_weights:
        return None, None, True
    attn_mask = canonical_mask(attn_mask, "attn_mask", None, "", dtype, check_other=False)
    return attn_mask, key_padding_mask, is_causal and key_padding_mask is None


def _check_learned(bias_k: Any, bias_v: Any, static_k: Any, static_v: Any) -> None:
    """Whether a learned key and value can be added."""
    if bias_k is None or bias_v is None:
        there, missing = ("k", "v") if bias_v is None else ("v", "k")
        raise AssertionError(f"bias_{there} is set but bias_{missing} is None")
    for name, static in (("key", static_k), ("value", static_v)):
        if static is not None:
            raise AssertionError(f"bias cannot be added to static {name}.")


def _check_attn_mask(attn_mask: Any, batch: int, heads: int, target: int, source: int) -> Any:
    """The mask as ``(1 or N, 1 or H, L, S)``."""
    if attn_mask.dim() == 2:
        if tuple(attn_mask.shape) != (target, source):
            raise RuntimeError(
                f"The shape of the 2D attn_mask is {attn_mask.shape}, but should be"
                f" {(target, source)}."
            )
        return attn_mask.view(1, 1, target, source)
    if tuple(attn_mask.shape) != (batch * heads, target, source):
        raise RuntimeError(
            f"The shape of the 3D attn_mask is {attn_mask.shape}, but should be"
            f" {(batch * heads, target, source)}."
        )
    return attn_mask.reshape(batch, heads, target, source)


def _widen(mask: Any) -> Any:
    """A mask with one more source position, which is attended to."""
    if mask is None:
        return None
    column = flambeau.zeros((*mask.shape[:-1], 1), dtype=mask.dtype, device=mask.device)
    return flambeau.cat([mask, column], dim=-1)


def _merge_padding(attn_mask: Any, padding: Any, batch: int, source: int) -> Any:
    """Both masks as one ``(N, 1 or H, L or 1, S)``."""
    for dim, expected in ((0, batch), (1, source)):
        if padding.shape[dim] != expected:
            raise AssertionError(
                f"Expected key_padded_mask.shape[{dim}] to be {expected}, but got"
                f" {padding.shape[dim]}"
            )
    padding = padding.view(batch, 1, 1, source)
    return padding if attn_mask is None else attn_mask + padding


def _split_heads(x: Any, static: Any, name: str, batch: int, heads: int, size: int) -> Any:
    """``(S, N, E)`` to ``(N*H, S, D)``, or a given tensor of that form."""
    if static is None:
        return x.reshape(x.shape[0], batch * heads, size).transpose(0, 1)
    if static.size(0) != batch * heads:
        raise AssertionError(
            f"expecting static_{name}.size(0) of {batch * heads}, but got {static.size(0)}"
        )
    if static.size(2) != size:
        raise AssertionError(f"expecting static_{name}.size(2) of {size}, but got {static.size(2)}")
    return static


def multi_head_attention_forward(
    query: Any,
    key: Any,
    value: Any,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Any,
    in_proj_bias: Any,
    bias_k: Any,
    bias_v: Any,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Any,
    out_proj_bias: Any,
    training: bool = True,
    key_padding_mask: Any = None,
    need_weights: bool = True,
    attn_mask: Any = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Any = None,
    k_proj_weight: Any = None,
    v_proj_weight: Any = None,
    static_k: Any = None,
    static_v: Any = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Any, Any]:
    """Multi-head attention, ``Concat(head_1, ..., head_H) W^O``.

    Args:
        query: ``(L, N, E)`` or ``(L, E)``.
        key: ``(S, N, Ek)`` or ``(S, Ek)``.
        value: ``(S, N, Ev)`` or ``(S, Ev)``.
        embed_dim_to_check: E.
        num_heads: H, a divisor of E.
        in_proj_weight: ``(3E, E)``, for queries, keys and values.
        in_proj_bias: ``(3E)`` or None.
        bias_k: ``(1, 1, E)`` or None, a key added to the sequence.
        bias_v: the value of that key.
        add_zero_attn: add a key and a value of zeros.
        dropout_p: probability of dropping an attention weight.
        out_proj_weight: ``(E, E)``.
        out_proj_bias: ``(E)`` or None.
        training: whether dropout applies.
        key_padding_mask: ``(N, S)`` or ``(S)``, True (or -inf) for keys to leave out.
        need_weights: whether to return the weights; without, a fused kernel may be used.
        attn_mask: ``(L, S)`` or ``(N*H, L, S)``, True for pairs to leave out, or added.
        use_separate_proj_weight: use the three weights that follow.
        q_proj_weight: ``(E, E)``.
        k_proj_weight: ``(E, Ek)``.
        v_proj_weight: ``(E, Ev)``.
        static_k: ``(N*H, S, D)``, projected keys to use in place of ``key``'s.
        static_v: ``(N*H, S, D)``, projected values to use in place of ``value``'s.
        average_attn_weights: return the mean of the weights over heads.
        is_causal: a promise that ``attn_mask`` is the causal mask.

    Returns:
        The output ``(L, N, E)``, and the weights ``(N, L, S)`` or ``(N, H, L, S)`` or None;
        without N for input without it.

    Raises:
        AssertionError: shapes do not agree.
        RuntimeError: a mask has the wrong shape, or is missing with ``is_causal``.

    Reference:
        Vaswani et al., Attention Is All You Need (arXiv:1706.03762), section 3.2.2.
    """
    batched = _check_shapes(query, key, value, key_padding_mask, attn_mask, num_heads)
    if not batched:
        same_key, same_value = query is key, key is value
        query = query.unsqueeze(1)
        key = query if same_key else key.unsqueeze(1)
        value = key if same_value else value.unsqueeze(1)
        if key_padding_mask is not None:
            key_padding_mask = key_padding_mask.unsqueeze(0)
    target, batch, size = query.shape
    attn_mask, key_padding_mask, is_causal = _masks(
        attn_mask, key_padding_mask, is_causal, need_weights, query.dtype
    )
    _check_sizes(size, embed_dim_to_check, num_heads, key, value, use_separate_proj_weight)
    if use_separate_proj_weight:
        weights = (q_proj_weight, k_proj_weight, v_proj_weight)
        q, k, v = _project_separately(query, key, value, weights, in_proj_bias)
    else:
        q, k, v = _project(query, key, value, in_proj_weight, in_proj_bias)
    if attn_mask is not None:
        attn_mask = _check_attn_mask(attn_mask, batch, num_heads, target, key.shape[0])
    if bias_k is not None or bias_v is not None:
        _check_learned(bias_k, bias_v, static_k, static_v)
        k = flambeau.cat([k, bias_k.repeat(1, batch, 1)])
        v = flambeau.cat([v, bias_v.repeat(1, batch, 1)])
        attn_mask, key_padding_mask = _widen(attn_mask), _widen(key_padding_mask)
    head = size // num_heads
    q = _split_heads(q, None, "q", batch, num_heads, head)
    k = _split_heads(k, static_k, "k", batch, num_heads, head)
    v = _split_heads(v, static_v, "v", batch, num_heads, head)
    if add_zero_attn:
        zeros = flambeau.zeros((batch * num_heads, 1, head), dtype=k.dtype, device=k.device)
        k, v = flambeau.cat([k, zeros], dim=1), flambeau.cat([v, zeros], dim=1)
        attn_mask, key_padding_mask = _widen(attn_mask), _widen(key_padding_mask)
    if key_padding_mask is not None:
        attn_mask = _merge_padding(attn_mask, key_padding_mask, batch, k.size(1))
    attend = _attend_with_weights if need_weights else _attend
    # Causality without a mask only reaches the fused form: with weights the mask was kept.
    output, found = attend(
        q, k, v, attn_mask, dropout_p if training else 0.0, is_causal, batch, num_heads
    )
    output = linear(output, out_proj_weight, out_proj_bias)
    if found is not None and average_attn_weights:
        found = found.mean(dim=1)
    if not batched:
        output = output.squeeze(1)
        found = None if found is None else found.squeeze(0)
    return output, found


def _check_sizes(
    size: int, expected: int, heads: int, key: Any, value: Any, separate: bool
) -> None:
    """The embedding size is as promised, and keys go with values."""
    if size != expected:
        raise AssertionError(f"was expecting embedding dimension of {expected}, but got {size}")
    if size % heads != 0:
        raise AssertionError(f"embed_dim {size} not divisible by num_heads {heads}")
    if separate:
        if key.shape[:2] != value.shape[:2]:
            raise AssertionError(
                f"key's sequence and batch dims {key.shape[:2]} do not match value's"
                f" {value.shape[:2]}"
            )
    elif key.shape != value.shape:
        raise AssertionError(f"key shape {key.shape} does not match value shape {value.shape}")


def _attend_with_weights(
    q: Any, k: Any, v: Any, mask: Any, p: float, is_causal: bool, batch: int, heads: int
) -> tuple[Any, Any]:
    """``(N*H, ., D)`` to ``(L, N, E)`` and the weights ``(N, H, L, S)``."""
    scaled = q * math.sqrt(1.0 / float(q.shape[-1]))
    scores = flambeau.bmm(scaled, k.transpose(-2, -1))
    if mask is not None:
        scores = (scores.view(batch, heads, *scores.shape[1:]) + mask).view(scores.shape)
    weights = softmax(scores, dim=-1)
    if p > 0.0:
        weights = dropout(weights, p, True)
    output = flambeau.bmm(weights, v).transpose(0, 1).reshape(q.shape[1], batch, -1)
    return output, weights.view(batch, heads, q.shape[1], k.shape[1])


def _attend(
    q: Any, k: Any, v: Any, mask: Any, p: float, is_causal: bool, batch: int, heads: int
) -> tuple[Any, None]:
    """``(N*H, ., D)`` to ``(L, N, E)`` in one operation."""
    q, k, v = (x.reshape(batch, heads, x.shape[1], x.shape[2]) for x in (q, k, v))
    # With both, the mask is the causal one already: it was kept because there are weights or
    # padding in it.
    causal = is_causal and mask is None
    output = scaled_dot_product_attention(q, k, v, mask, p, causal)
    return output.permute(2, 0, 1, 3).reshape(q.shape[2], batch, -1), None
