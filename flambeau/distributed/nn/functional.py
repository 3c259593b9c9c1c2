"""Collectives that can be differentiated, with the signatures of `torch.distributed.nn.functional`.

Ranks are those of the world, results lists or tuples by rank. `distributed.functional` has the same
by tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flambeau.distributed import functional
from flambeau.distributed.groups import ReduceOp, get_group_rank, group_of
from flambeau.ops.rows import NAMES
from flambeau.tensor import Tensor


def joined(tensors: Sequence[Tensor]) -> tuple[Tensor, list[int]]:
    """Tensors one after the other in one of one dimension, and the size of each."""
    return NAMES["cat"]([t.reshape(-1) for t in tensors]), [t.numel() for t in tensors]


def fitted(value: Tensor, like: Tensor) -> Tensor:
    """A value in the shape of the tensor that it is for.

    Raises:
        ValueError: it has not as many elements.
    """
    if value.shape == like.shape:
        return value
    if value.numel() != like.numel():
        raise ValueError(
            f"a result of shape {list(value.shape)} does not fit a tensor of shape "
            f"{list(like.shape)}"
        )
    return value.reshape(like.shape)


def parted(whole: Tensor, likes: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The tensors that `joined` made one, in the shapes of those that they are for.

    Raises:
        ValueError: they have not as many elements.
    """
    sizes = [t.numel() for t in likes]
    if sum(sizes) != whole.numel():
        shapes = [list(t.shape) for t in likes]
        raise ValueError(
            f"a result of {whole.numel()} elements does not fit tensors of shapes {shapes}"
        )
    return tuple(fitted(part, t) for part, t in zip(whole.split(sizes), likes, strict=True))


def broadcast(tensor: Tensor, src: int, group: Any = None) -> Tensor:
    """Rank `src`'s tensor, on every rank."""
    return functional.broadcast(tensor, get_group_rank(group, src), group)


def gather(tensor: Tensor, dst: int = 0, group: Any = None) -> tuple[Tensor, ...]:
    """Every rank's tensor on rank `dst`, zeros elsewhere, which belong in the loss too."""
    group = group_of(group)
    root = get_group_rank(group, dst)
    whole = functional.gather(tensor.unsqueeze(0), 0, root, group)
    if group.rank() == root:
        return tuple(whole.unbind(0))
    zero = NAMES["zeros_like"](tensor) + whole.sum()
    return (zero,) * group.size()


def scatter(tensors: Sequence[Tensor], src: int = 0, group: Any = None) -> Tensor:
    """One of rank `src`'s tensors; other ranks give tensors of that shape."""
    group = group_of(group)
    whole = NAMES["stack"](list(tensors))
    sizes = (1,) * group.size()
    return functional.scatter(whole, 0, get_group_rank(group, src), group, sizes)[0]


def reduce(tensor: Tensor, dst: int, op: Any = ReduceOp.SUM, group: Any = None) -> Tensor:
    """The reduction of every rank's tensor on rank `dst`, zeros elsewhere."""
    return functional.reduce(tensor, op, get_group_rank(group, dst), group)


def reduce_scatter(
    output: Tensor, input_list: Sequence[Tensor], op: Any = ReduceOp.SUM, group: Any = None
) -> Tensor:
    """This rank's part of the reduction of every rank's list; `output` gives its shape."""
    whole, sizes = joined(input_list)
    return fitted(functional.reduce_scatter_tensor(whole, op, 0, group, sizes=sizes), output)


def all_gather(tensor: Tensor, group: Any = None) -> tuple[Tensor, ...]:
    """Every rank's tensor, by rank."""
    return tuple(functional.all_gather_tensor(tensor.unsqueeze(0), 0, group).unbind(0))


def _all_gather_base(output_tensor: Tensor, input_tensor: Tensor, group: Any = None) -> Tensor:
    """Every rank's tensor, joined along dimension 0; `output_tensor` gives the result's shape."""
    return fitted(functional.all_gather_tensor(input_tensor.reshape(-1), 0, group), output_tensor)


def all_to_all(
    output_tensor_list: Sequence[Tensor], input_tensor_list: Sequence[Tensor], group: Any = None
) -> tuple[Tensor, ...]:
    """One of each rank's list; those of `output_tensor_list` give the shapes."""
    whole, sent = joined(input_tensor_list)
    received = [t.numel() for t in output_tensor_list]
    found = functional.all_to_all_single(whole, received, sent, group)
    return parted(found, output_tensor_list)


def all_to_all_single(
    output: Tensor,
    input: Tensor,
    output_split_sizes: Sequence[int] | None = None,
    input_split_sizes: Sequence[int] | None = None,
    group: Any = None,
) -> Tensor:
    """A part of each rank's tensor, cut along dimension 0; `output` gives the result's shape."""
    found = functional.all_to_all_single(
        input, output_split_sizes or None, input_split_sizes or None, group
    )
    return fitted(found, output)


def all_reduce(tensor: Tensor, op: Any = ReduceOp.SUM, group: Any = None) -> Tensor:
    """The reduction of every rank's tensor, on each of them."""
    return functional.all_reduce(tensor, op, group)


__all__ = [
    "all_gather",
    "all_reduce",
    "all_to_all",
    "all_to_all_single",
    "broadcast",
    "gather",
    "reduce",
    "reduce_scatter",
    "scatter",
]
