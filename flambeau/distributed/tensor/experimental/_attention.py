"""Attention over sequences in parts, for programs that know nothing of it.

Inside `context_parallel` every rank has some positions of each sequence, and calls of
`scaled_dot_product_attention` and `flex_attention` attend to those of all ranks
(`distributed/context_parallel.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import flambeau
from flambeau import Tensor
from flambeau.distributed.balance import (
    _HeadTailLoadBalancer,
    _LoadBalancer,
    _PerDocumentHeadTailLoadBalancer,
    _PTRRLoadBalancer,
)
from flambeau.distributed.context_parallel import (
    Balance,
    gathered_attention,
    ring_attention,
    shard_sequence,
    unshard_sequence,
)
from flambeau.distributed.groups import group_of
from flambeau.distributed.mesh import DeviceMesh
from flambeau.nn import functional as F
from flambeau.nn.attention.flex_attention import flex_attention
from flambeau.nn.attention.variants import causal
from flambeau.overriding import TorchFunctionMode


@dataclass
class _ContextParallelOptions:
    """How sequences are cut and attended to.

    Attributes:
        enable_load_balance: a rank has a piece from the front and one from the back, so that causal
            masks cost all ranks the same; otherwise one piece.
        rotate_method: "allgather" or "alltoall": `set_rotate_method`.
    """

    enable_load_balance: bool = True
    rotate_method: str = "allgather"


_cp_options = _ContextParallelOptions()
_METHODS: dict[str, Callable[..., Tensor]] = {
    "allgather": gathered_attention,
    "alltoall": ring_attention,
}


def set_rotate_method(rotate_method: str) -> None:
    """How keys and values of other ranks come here.

    Args:
        rotate_method: "allgather", all at once, or "alltoall", from rank to rank while those that
            are here are attended to.

    Raises:
        NotImplementedError: another one.
    """
    if rotate_method not in _METHODS:
        raise NotImplementedError(
            f"Context Parallel does not support using {rotate_method} for kv shards rotation"
        )
    _cp_options.rotate_method = rotate_method


class _Attending(TorchFunctionMode):
    """Answers calls of attention for sequences of which each rank has a part.

    Args:
        group: the ranks.
        balanced: how positions are given out.
    """

    def __init__(self, group: Any, balanced: Balance) -> None:
        self.group = group
        self.balanced = balanced

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: tuple[type, ...],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Every other call goes on as it is."""
        if func is F.scaled_dot_product_attention:
            return self.attend(*args, **(kwargs or {}))
        if func is flex_attention:
            return self.attend_flexibly(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """`scaled_dot_product_attention` of this rank's queries over the keys of all ranks.

        Args:
            attn_mask: over the whole sequence, (..., L, L), the same on every rank: not one of the
                buffers, of which each has a part.

        Raises:
            RuntimeError: with a mask and `is_causal`, or a mask that is not of the whole sequence.
            NotImplementedError: with dropout, or parts that are not of one sequence.
        """
        if dropout_p:
            raise NotImplementedError(
                "scaled_dot_product_attention with dropout_p inside context_parallel: a rank would "
                "have to draw the numbers of all positions for what it drops to be what one "
                "process drops"
            )
        score_mod = None
        if attn_mask is not None:
            if is_causal:
                raise RuntimeError("Explicit attn_mask should not be set when is_causal=True")
            score_mod = _masked(attn_mask, query.shape[-2] * group_of(self.group).size())
        mask = causal().mask if is_causal else None
        return self._computed(query, key, value, score_mod, mask, scale, enable_gqa)

    def attend_flexibly(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        score_mod: Any = None,
        block_mask: Any = None,
        scale: float | None = None,
        enable_gqa: bool = False,
        return_lse: bool = False,
        kernel_options: Any = None,
        *,
        return_aux: Any = None,
        dropout_p: float = 0.0,
    ) -> Tensor:
        """`flex_attention` of this rank's queries over the keys of all ranks.

        Args:
            score_mod: sees positions in the whole sequence.
            block_mask: over the whole sequence, the same on every rank.

        Raises:
            ValueError: a block mask that is not of the whole sequence.
            NotImplementedError: with dropout, results beside the values, or parts that are not of
                one sequence.
        """
        if dropout_p or return_lse or return_aux is not None:
            raise NotImplementedError(
                "flex_attention inside context_parallel gives values alone, without dropout: no "
                "dropout_p, return_lse or return_aux"
            )
        return self._computed(query, key, value, score_mod, block_mask, scale, enable_gqa)

    def _computed(self, query: Tensor, key: Tensor, *words: Any) -> Tensor:
        if query.dim() != 4 or query.shape[-2] != key.shape[-2]:
            raise NotImplementedError(
                "context_parallel takes queries and keys (B, H, L, E) of one sequence, got "
                f"{list(query.shape)} and {list(key.shape)}"
            )
        method = _METHODS[_cp_options.rotate_method]
        return method(query, key, *words, group=self.group, balanced=self.balanced)


def _masked(mask: Tensor, length: int) -> Callable[..., Tensor]:
    """What a mask does to scores, by their positions in the whole sequence.

    Args:
        mask: bool, False where there is no attention, or what is added; (..., L, L).
        length: of the whole sequence.
    """
    if tuple(mask.shape[-2:]) != (length, length):
        raise RuntimeError(
            f"context_parallel takes an attn_mask over the whole sequence, (..., {length}, "
            f"{length}), got {list(mask.shape)}"
        )
    mask = mask.reshape((1,) * (4 - mask.dim()) + tuple(mask.shape))
    batches, heads = mask.shape[:2]

    def score_mod(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        at = mask[b if batches > 1 else 0, h if heads > 1 else 0, i, j]
        if mask.dtype == flambeau.bool:
            return flambeau.where(at, score, -float("inf"))
        return score + at

    return score_mod


@contextmanager
def context_parallel(
    mesh: DeviceMesh,
    *,
    buffers: Sequence[Tensor] | None = None,
    buffer_seq_dims: Sequence[int] | None = None,
    no_restore_buffers: Collection[Tensor] | None = None,
    load_balancer: _LoadBalancer | None = None,
) -> Iterator[None]:
    """While inside, sequences are in parts: `buffers` are this rank's positions, and attention
    reaches those of all ranks.

    Args:
        mesh: of one axis.
        buffers: tensors that every rank has whole (inputs, labels, tables of positions); no
            parameters. They get their values back at the end.
        buffer_seq_dims: of each, the dimension of the sequence.
        no_restore_buffers: those that need not get their values back.
        load_balancer: which positions a rank has; by default as `_cp_options` says (not in torch,
            whose balancers are given to `_context_parallel_shard` and to masks).

    Raises:
        ValueError: there is not one dimension for each buffer, or a sequence that the ranks cannot
            share evenly.
    """
    given, dims = list(buffers or ()), list(buffer_seq_dims or ())
    kept = list(no_restore_buffers or ())
    if len(given) != len(dims):
        raise ValueError("`seq_dims` must have the same number of elements as `buffers`.")
    if not all(any(b is k for b in given) for k in kept):
        raise ValueError("`no_restore_buffers` must be a subset of `buffers`.")
    group, balanced = mesh.get_group(), _balance(load_balancer)
    originals = [b.detach() for b in given]
    parts = _context_parallel_shard(mesh, originals, dims, balanced)
    for b, part in zip(given, parts, strict=True):
        b.data = part
    try:
        with _Attending(group, balanced):
            yield
    finally:
        for b, whole in zip(given, originals, strict=True):
            if not any(b is k for k in kept):
                b.data = whole


def _balance(load_balancer: Balance | None) -> Balance:
    return _cp_options.enable_load_balance if load_balancer is None else load_balancer


def _context_parallel_shard(
    mesh: DeviceMesh,
    buffers: Sequence[Tensor],
    seq_dims: Sequence[int],
    load_balancer: Balance | None = None,
) -> list[Tensor]:
    """This rank's positions of tensors that every rank has whole.

    Args:
        mesh: of one axis.
        buffers: the wholes.
        seq_dims: of each, the dimension of the sequence.
        load_balancer: which positions a rank has; None: one piece.
    """
    balanced = False if load_balancer is None else load_balancer
    return [
        shard_sequence(b, dim, mesh.get_group(), balanced=balanced)
        for b, dim in zip(buffers, seq_dims, strict=True)
    ]


def context_parallel_unshard(
    mesh: DeviceMesh,
    buffers: Sequence[Tensor],
    seq_dims: Sequence[int],
    load_balancer: _LoadBalancer | None = None,
) -> list[Tensor]:
    """The wholes of tensors of which each rank has its positions; a collective.

    Args:
        mesh: of one axis.
        buffers: this rank's parts.
        seq_dims: of each, the dimension of the sequence.
        load_balancer: which positions a rank has; by default as `context_parallel` gives them out.
    """
    balanced = _balance(load_balancer)
    with flambeau.no_grad():
        return [
            unshard_sequence(b, dim, mesh.get_group(), balanced=balanced)
            for b, dim in zip(buffers, seq_dims, strict=True)
        ]


__all__ = [
    "_HeadTailLoadBalancer",
    "_LoadBalancer",
    "_PTRRLoadBalancer",
    "_PerDocumentHeadTailLoadBalancer",
    "_context_parallel_shard",
    "context_parallel",
    "context_parallel_unshard",
    "set_rotate_method",
]
