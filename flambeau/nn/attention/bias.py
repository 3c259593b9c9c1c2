"""Causal biases that say which corner of the scores their triangle is aligned to."""

from __future__ import annotations

import enum
import warnings
from functools import partial
from typing import Any

import flambeau
from flambeau.nn.attention.block_mask import create_block_mask
from flambeau.nn.attention.flex_attention import flex_attention
from flambeau.ops.attention import AttendingMask, scaled_dot_product_attention
from flambeau.tensor import Tensor


class CausalVariant(enum.IntEnum):
    """The corner that the diagonal ends in.

    UPPER_LEFT: query i sees the keys 0..i.
    LOWER_RIGHT: the last query sees all keys, query i the keys 0..i + keys - queries.
    """

    UPPER_LEFT = enum.auto()
    LOWER_RIGHT = enum.auto()


def _lower_right(shift: int, b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
    """The mask_mod of queries that stand at the end of the keys."""
    return kv_idx <= q_idx + shift


class CausalBias(AttendingMask):
    """A mask for `scaled_dot_product_attention` that is never made: the kernels know its triangle.

    Args:
        variant: the corner that it is aligned to.
        seq_len_q, seq_len_kv: queries and keys.

    Raises:
        AssertionError: `variant` is no CausalVariant.
    """

    def __new__(cls, *args: Any) -> Any:
        """An empty tensor; the arguments are `__init__`'s."""
        return Tensor.__new__(cls)

    def __init__(self, variant: CausalVariant, seq_len_q: int, seq_len_kv: int) -> None:
        """Warn where queries would see nothing."""
        if not isinstance(variant, CausalVariant):
            raise AssertionError(f"variant must be a CausalVariant, got {type(variant).__name__}")
        self.variant = variant
        self.seq_len_q = seq_len_q
        self.seq_len_kv = seq_len_kv
        if seq_len_q > seq_len_kv and variant == CausalVariant.LOWER_RIGHT:
            warnings.warn(
                "Lower right causal bias lets the first queries see nothing when seq_len_q > "
                "seq_len_kv: their outputs are 0",
                stacklevel=2,
            )

    def _materialize(self, device: Any = None) -> Tensor:
        """The mask (queries, keys) bool."""
        shift = 0 if self.variant == CausalVariant.UPPER_LEFT else self.seq_len_kv - self.seq_len_q
        ones = flambeau.ones(self.seq_len_q, self.seq_len_kv, device=device, dtype=flambeau.bool)
        return ones.tril(shift)

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """Attention under this bias.

        Raises:
            ValueError: `is_causal` is set as well.
            RuntimeError: query and key have other lengths.
        """
        if is_causal:
            raise ValueError("CausalBias should not be used with causal=True")
        lengths = query.shape[-2], key.shape[-2]
        if lengths != (self.seq_len_q, self.seq_len_kv):
            raise RuntimeError(
                f"The causal bias is for {self.seq_len_q} queries and {self.seq_len_kv} keys, got "
                f"{lengths[0]} and {lengths[1]}"
            )
        if self.variant == CausalVariant.UPPER_LEFT or self.seq_len_q == self.seq_len_kv:
            found: Tensor = scaled_dot_product_attention(
                query, key, value, None, dropout_p, True, scale, enable_gqa
            )
            return found
        mask = create_block_mask(
            partial(_lower_right, self.seq_len_kv - self.seq_len_q), None, None, *lengths
        )
        shape = query.shape[:-1]
        query, key, value = (
            x.reshape(-1, *(x.shape[-3:] if x.dim() > 2 else (1, *x.shape)))
            for x in (query, key, value)
        )
        out = flex_attention(query, key, value, None, mask, scale, enable_gqa, dropout_p=dropout_p)
        return out.reshape(*shape, value.shape[-1])

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return repr(self._materialize())


def causal_upper_left(*size: int) -> CausalBias:
    """The causal bias of (queries, keys) in which query i sees the keys 0..i.

    Raises:
        AssertionError: not two sizes.
    """
    if len(size) != 2:
        raise AssertionError("causal_upper_left only supports 2D tensors")
    return CausalBias(CausalVariant.UPPER_LEFT, *size)


def causal_lower_right(*size: int) -> CausalBias:
    """The causal bias of (queries, keys) in which the last query sees all keys.

    Raises:
        AssertionError: not two sizes.
    """
    if len(size) != 2:
        raise AssertionError("causal_lower_right only supports 2D tensors")
    return CausalBias(CausalVariant.LOWER_RIGHT, *size)


__all__ = ["CausalBias", "CausalVariant", "causal_lower_right", "causal_upper_left"]
