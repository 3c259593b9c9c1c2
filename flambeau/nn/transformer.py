"""Transformer layers and stacks of them.

Shapes: ``(L, N, E)``, ``(N, L, E)`` with ``batch_first``, or ``(L, E)``; L is the target's
length, S the source's.

Reference:
    Vaswani et al., Attention Is All You Need (arXiv:1706.03762).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import flambeau
from flambeau.nn import functional as F
from flambeau.nn.activation import GELU, ReLU
from flambeau.nn.containers import ModuleList
from flambeau.nn.dropout import Dropout
from flambeau.nn.init import xavier_uniform_
from flambeau.nn.linear import Linear
from flambeau.nn.module import Module
from flambeau.nn.multihead import canonical_mask, none_or_dtype
from flambeau.nn.multihead_attention import MultiheadAttention
from flambeau.nn.normalization import LayerNorm

Activation = str | Callable[[Any], Any]


def _clones(module: Module, count: int) -> ModuleList:
    return ModuleList([copy.deepcopy(module) for _ in range(count)])


def _activation_function(activation: Activation) -> Callable[[Any], Any]:
    if not isinstance(activation, str):
        return activation
    if activation not in ("relu", "gelu"):
        raise RuntimeError(f"activation should be relu/gelu, not {activation}")
    return F.relu if activation == "relu" else F.gelu


def _causal_mask(size: int, device: Any = None, dtype: Any = None) -> Any:
    """``(size, size)``: -inf above the diagonal, 0 elsewhere."""
    full = flambeau.full((size, size), float("-inf"), dtype=dtype, device=device)
    return flambeau.triu(full, diagonal=1)


def _length(x: Any, batch_first: bool) -> int:
    return x.size(1) if x.dim() == 3 and batch_first else x.size(0)


def _is_causal(mask: Any, is_causal: bool | None, size: int) -> bool:
    """Whether a mask is the causal one: as promised, or else by comparing its values."""
    if is_causal is not None or mask is None:
        return is_causal is True
    causal = _causal_mask(size, device=mask.device, dtype=mask.dtype)
    return mask.shape == causal.shape and bool((mask == causal).all())


class TransformerEncoderLayer(Module):
    """Self-attention and a feed-forward network, each with a residual and a norm.

    Args:
        d_model: E.
        nhead: attention heads.
        dim_feedforward: inner size of the feed-forward network.
        dropout: its probability.
        activation: ``"relu"``, ``"gelu"`` or a function.
        layer_norm_eps: of the norms.
        batch_first: ``(N, S, E)`` in place of ``(S, N, E)``.
        norm_first: normalize before each part in place of after.
        bias: whether linear maps and norms have biases.
        device: of the parameters.
        dtype: of the parameters.
    """

    __constants__ = ["norm_first"]

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = F.relu,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        """Make the parts."""
        super().__init__()
        made = {"bias": bias, "device": device, "dtype": dtype}
        self.self_attn = MultiheadAttention(
            d_model, nhead, dropout=dropout, batch_first=batch_first, **made
        )
        self.linear1 = Linear(d_model, dim_feedforward, **made)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, **made)
        self.norm_first = norm_first
        self.norm1 = LayerNorm(d_model, eps=layer_norm_eps, **made)
        self.norm2 = LayerNorm(d_model, eps=layer_norm_eps, **made)
        self.dropout1 = Dropout(dropout)
        self.dropout2 = Dropout(dropout)
        activation = _activation_function(activation)
        self.activation_relu_or_gelu = 0
        for code, function, module in ((1, F.relu, ReLU), (2, F.gelu, GELU)):
            if activation is function or isinstance(activation, module):
                self.activation_relu_or_gelu = code
        self.activation = activation

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the attributes over; older files lack the activation."""
        super().__setstate__(state)
        if not hasattr(self, "activation"):
            self.activation = F.relu

    def forward(
        self,
        src: Any,
        src_mask: Any = None,
        src_key_padding_mask: Any = None,
        is_causal: bool = False,
    ) -> Any:
        """One layer.

        Args:
            src: the sequence.
            src_mask: see :class:`MultiheadAttention`'s ``attn_mask``.
            src_key_padding_mask: see its ``key_padding_mask``.
            is_causal: a promise that ``src_mask`` is the causal mask.

        Returns:
            As ``src``.
        """
        padding = canonical_mask(
            src_key_padding_mask,
            "src_key_padding_mask",
            none_or_dtype(src_mask),
            "src_mask",
            src.dtype,
        )
        mask = canonical_mask(src_mask, "src_mask", None, "", src.dtype, check_other=False)
        x = src
        if self.norm_first:
            x = x + self._sa_block(self.norm1(x), mask, padding, is_causal)
            return x + self._ff_block(self.norm2(x))
        x = self.norm1(x + self._sa_block(x, mask, padding, is_causal))
        return self.norm2(x + self._ff_block(x))

    def _sa_block(self, x: Any, attn_mask: Any, key_padding_mask: Any, is_causal: bool) -> Any:
        x, _ = self.self_attn(
            x,
            x,
            x,
            attn_mask=attn_mask,
            key_padding_mask=key_padding_mask,
            need_weights=False,
            is_causal=is_causal,
        )
        return self.dropout1(x)

    def _ff_block(self, x: Any) -> Any:
        x = self.linear2(self.dropout(self.activation(self.linear1(x))))
        return self.dropout2(x)


class TransformerDecoderLayer(Module):
    """Self-attention, attention to a memory and a feed-forward network, each with a residual and
    a norm; arguments as of :class:`TransformerEncoderLayer`."""

    __constants__ = ["norm_first"]

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = F.relu,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        """Make the parts."""
        super().__init__()
        made = {"bias": bias, "device": device, "dtype": dtype}
        self.self_attn = MultiheadAttention(
            d_model, nhead, dropout=dropout, batch_first=batch_first, **made
        )
        self.multihead_attn = MultiheadAttention(
            d_model, nhead, dropout=dropout, batch_first=batch_first, **made
        )
        self.linear1 = Linear(d_model, dim_feedforward, **made)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, **made)
        self.norm_first = norm_first
        self.norm1 = LayerNorm(d_model, eps=layer_norm_eps, **made)
        self.norm2 = LayerNorm(d_model, eps=layer_norm_eps, **made)
        self.norm3 = LayerNorm(d_model, eps=layer_norm_eps, **made)
        self.dropout1 = Dropout(dropout)
        self.dropout2 = Dropout(dropout)
        self.dropout3 = Dropout(dropout)
        self.activation = _activation_function(activation)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the attributes over; older files lack the activation."""
        state.setdefault("activation", F.relu)
        super().__setstate__(state)

    def forward(
        self,
        tgt: Any,
        memory: Any,
        tgt_mask: Any = None,
        memory_mask: Any = None,
        tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Any:
        """One layer.

        Args:
            tgt: the sequence.
            memory: what the second attention looks at, the encoder's output.
            tgt_mask: ``attn_mask`` of the self-attention.
            memory_mask: ``attn_mask`` of the attention to the memory.
            tgt_key_padding_mask: padding of ``tgt``.
            memory_key_padding_mask: padding of ``memory``.
            tgt_is_causal: a promise that ``tgt_mask`` is the causal mask.
            memory_is_causal: the same of ``memory_mask``.

        Returns:
            As ``tgt``.
        """
        own = (tgt_mask, tgt_key_padding_mask, tgt_is_causal)
        other = (memory, memory_mask, memory_key_padding_mask, memory_is_causal)
        x = tgt
        if self.norm_first:
            x = x + self._sa_block(self.norm1(x), *own)
            x = x + self._mha_block(self.norm2(x), *other)
            return x + self._ff_block(self.norm3(x))
        x = self.norm1(x + self._sa_block(x, *own))
        x = self.norm2(x + self._mha_block(x, *other))
        return self.norm3(x + self._ff_block(x))

    def _sa_block(self, x: Any, attn_mask: Any, key_padding_mask: Any, is_causal: bool) -> Any:
        x, _ = self.self_attn(
            x,
            x,
            x,
            attn_mask=attn_mask,
            key_padding_mask=key_padding_mask,
            is_causal=is_causal,
            need_weights=False,
        )
        return self.dropout1(x)

    def _mha_block(
        self, x: Any, mem: Any, attn_mask: Any, key_padding_mask: Any, is_causal: bool
    ) -> Any:
        x, _ = self.multihead_attn(
            x,
            mem,
            mem,
            attn_mask=attn_mask,
            key_padding_mask=key_padding_mask,
            is_causal=is_causal,
            need_weights=False,
        )
        return self.dropout2(x)

    def _ff_block(self, x: Any) -> Any:
        x = self.linear2(self.dropout(self.activation(self.linear1(x))))
        return self.dropout3(x)


class TransformerEncoder(Module):
    """A stack of encoder layers.

    Args:
        encoder_layer: copied ``num_layers`` times.
        num_layers: how many.
        norm: applied to the output, or None.
        enable_nested_tensor: accepted; padding is always computed along.
        mask_check: accepted.
    """

    __constants__ = ["norm"]

    def __init__(
        self,
        encoder_layer: Module,
        num_layers: int,
        norm: Module | None = None,
        enable_nested_tensor: bool = True,
        mask_check: bool = True,
    ) -> None:
        """Copy the layer."""
        super().__init__()
        self.layers = _clones(encoder_layer, num_layers)
        self.num_layers = num_layers
        self.norm = norm
        self.enable_nested_tensor = enable_nested_tensor
        self.use_nested_tensor = False
        self.mask_check = mask_check

    def forward(
        self,
        src: Any,
        mask: Any = None,
        src_key_padding_mask: Any = None,
        is_causal: bool | None = None,
    ) -> Any:
        """All layers in turn.

        Args:
            src: the sequence.
            mask: ``attn_mask`` of every layer.
            src_key_padding_mask: padding of ``src``.
            is_causal: whether ``mask`` is the causal mask; None to look at it.

        Returns:
            As ``src``.
        """
        padding = canonical_mask(
            src_key_padding_mask, "src_key_padding_mask", none_or_dtype(mask), "mask", src.dtype
        )
        mask = canonical_mask(mask, "mask", None, "", src.dtype, check_other=False)
        causal = _is_causal(mask, is_causal, _length(src, self.layers[0].self_attn.batch_first))
        output = src
        for layer in self.layers:
            output = layer(output, src_mask=mask, is_causal=causal, src_key_padding_mask=padding)
        return output if self.norm is None else self.norm(output)


class TransformerDecoder(Module):
    """A stack of decoder layers.

    Args:
        decoder_layer: copied ``num_layers`` times.
        num_layers: how many.
        norm: applied to the output, or None.
    """

    __constants__ = ["norm"]

    def __init__(self, decoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        """Copy the layer."""
        super().__init__()
        self.layers = _clones(decoder_layer, num_layers)
        self.num_layers = num_layers
        self.norm = norm

    def forward(
        self,
        tgt: Any,
        memory: Any,
        tgt_mask: Any = None,
        memory_mask: Any = None,
        tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Any:
        """All layers in turn; arguments as of :meth:`TransformerDecoderLayer.forward`."""
        size = _length(tgt, self.layers[0].self_attn.batch_first)
        causal = _is_causal(tgt_mask, tgt_is_causal, size)
        output = tgt
        for layer in self.layers:
            output = layer(
                output,
                memory,
                tgt_mask=tgt_mask,
                memory_mask=memory_mask,
                tgt_key_padding_mask=tgt_key_padding_mask,
                memory_key_padding_mask=memory_key_padding_mask,
                tgt_is_causal=causal,
                memory_is_causal=memory_is_causal,
            )
        return output if self.norm is None else self.norm(output)


class Transformer(Module):
    """An encoder and a decoder.

    Args:
        d_model: E.
        nhead: attention heads.
        num_encoder_layers: how many.
        num_decoder_layers: how many.
        dim_feedforward: inner size of the feed-forward networks.
        dropout: its probability.
        activation: ``"relu"``, ``"gelu"`` or a function.
        custom_encoder: in place of the encoder.
        custom_decoder: in place of the decoder.
        layer_norm_eps: of the norms.
        batch_first: ``(N, L, E)`` in place of ``(L, N, E)``.
        norm_first: normalize before each part in place of after.
        bias: whether linear maps and norms have biases.
        device: of the parameters.
        dtype: of the parameters.
    """

    def __init__(
        self,
        d_model: int = 512,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = F.relu,
        custom_encoder: Module | None = None,
        custom_decoder: Module | None = None,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        """Make both stacks; weights are Xavier-uniform."""
        super().__init__()
        made: dict[str, Any] = {"bias": bias, "device": device, "dtype": dtype}
        sizes = (d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps)
        if custom_encoder is None:
            encoder = TransformerEncoderLayer(*sizes, batch_first, norm_first, **made)
            norm = LayerNorm(d_model, eps=layer_norm_eps, **made)
            custom_encoder = TransformerEncoder(encoder, num_encoder_layers, norm)
        self.encoder = custom_encoder
        if custom_decoder is None:
            decoder = TransformerDecoderLayer(*sizes, batch_first, norm_first, **made)
            norm = LayerNorm(d_model, eps=layer_norm_eps, **made)
            custom_decoder = TransformerDecoder(decoder, num_decoder_layers, norm)
        self.decoder = custom_decoder
        self._reset_parameters()
        self.d_model = d_model
        self.nhead = nhead
        self.batch_first = batch_first

    def forward(
        self,
        src: Any,
        tgt: Any,
        src_mask: Any = None,
        tgt_mask: Any = None,
        memory_mask: Any = None,
        src_key_padding_mask: Any = None,
        tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
        src_is_causal: bool | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Any:
        """Encode ``src``, decode ``tgt`` with it.

        Args:
            src: the source sequence.
            tgt: the target sequence.
            src_mask: see :class:`TransformerEncoder`.
            tgt_mask: see :class:`TransformerDecoder`, as for the masks that follow.
            memory_mask: mask of the attention to the memory.
            src_key_padding_mask: padding of the source.
            tgt_key_padding_mask: padding of the target.
            memory_key_padding_mask: padding of the memory.
            src_is_causal: whether ``src_mask`` is causal; None to look.
            tgt_is_causal: whether ``tgt_mask`` is causal; None to look.
            memory_is_causal: whether ``memory_mask`` is causal.

        Returns:
            As ``tgt``.

        Raises:
            RuntimeError: batch or feature sizes differ.
        """
        batch_dim = 0 if self.batch_first else 1
        if src.dim() == 3 and src.size(batch_dim) != tgt.size(batch_dim):
            raise RuntimeError("the batch number of src and tgt must be equal")
        if src.size(-1) != self.d_model or tgt.size(-1) != self.d_model:
            raise RuntimeError("the feature number of src and tgt must be equal to d_model")
        memory = self.encoder(
            src,
            mask=src_mask,
            src_key_padding_mask=src_key_padding_mask,
            is_causal=src_is_causal,
        )
        return self.decoder(
            tgt,
            memory,
            tgt_mask=tgt_mask,
            memory_mask=memory_mask,
            tgt_key_padding_mask=tgt_key_padding_mask,
            memory_key_padding_mask=memory_key_padding_mask,
            tgt_is_causal=tgt_is_causal,
            memory_is_causal=memory_is_causal,
        )

    @staticmethod
    def generate_square_subsequent_mask(sz: int, device: Any = None, dtype: Any = None) -> Any:
        """The causal mask.

        Args:
            sz: L.
            device: of the mask.
            dtype: of the mask.

        Returns:
            ``(L, L)``: -inf above the diagonal, 0 elsewhere.
        """
        return _causal_mask(sz, device, dtype)

    def _reset_parameters(self) -> None:
        for param in self.parameters():
            if param.dim() > 1:
                xavier_uniform_(param)
