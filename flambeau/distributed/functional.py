"""Collectives that return new tensors and can be differentiated (`torch.distributed.
_functional_collectives`), by torch's names, those of 2.15 among them.

Every function is a few rows of `ops/collective.py`, whose derivatives are those of all ranks'
program together: the loss is the sum of the ranks' losses. Where every rank computes the same loss
from a result, that sum counts it once a rank; `distributed.spmd` knows such values by their type.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flambeau import dtypes
from flambeau.distributed.groups import PremulSum, ProcessGroup, group_of
from flambeau.ops import collective as rows
from flambeau.ops.rows import NAMES
from flambeau.tensor import Tensor

Sizes = Sequence[int]

#: Reductions that are not a sum, or made of one.
_OTHERS = ("min", "max", "product", "band", "bor", "bxor")


def _reduction(op: Any) -> tuple[str, Any]:
    """(the name of a reduction, the factor of a premultiplied sum)."""
    if isinstance(op, PremulSum):
        return "sum", op.factor
    name = str(op).rpartition(".")[2].lower()
    if name == "prod":
        name = "product"
    if name not in ("sum", "avg", *_OTHERS):
        raise ValueError(
            f"Invalid reduction {op!r}; it may be sum, avg, min, max, product, band, bor, bxor"
        )
    return name, None


def _scaled(self: Tensor, factor: Any) -> Tensor:
    return self if factor is None else self * factor


def _averaged(self: Tensor, name: str, size: int) -> Tensor:
    if name != "avg":
        return self
    return self / size if self.dtype.category >= 2 else self.div(size, rounding_mode="floor")


def _check_dtype(self: Tensor, name: str) -> None:
    """Raise where numbers of a dtype have no such reduction."""
    if name.startswith("b") and self.dtype.category >= 2:
        raise RuntimeError(f"Cannot use ReduceOp.{name.upper()} with {self.dtype.word}")
    if name in ("min", "max") and self.dtype.is_complex:
        raise ValueError(f"ReduceOp.{name.upper()} does not support complex tensors: no order")


def _in_front(self: Tensor, dim: int) -> tuple[Tensor, int]:
    """A tensor with the dimension that is joined or cut first, and which it was."""
    if not self._shape:
        self = self.reshape(1)
    dim = range(len(self._shape))[dim]
    return (self if dim == 0 else self.movedim(dim, 0)), dim


def _back(self: Tensor, dim: int) -> Tensor:
    return self if dim == 0 else self.movedim(0, dim)


def _even(n: int, size: int, what: str) -> tuple[int, ...]:
    if n % size:
        raise ValueError(
            f"{what}: a dimension of size {n} cannot be cut into {size} equal parts; give `sizes`"
        )
    return (n // size,) * size


def _given(sizes: Sizes, group: ProcessGroup, total: int, what: str) -> tuple[int, ...]:
    found = tuple(int(n) for n in sizes)
    if len(found) != group.size() or min(found) < 0:
        raise ValueError(f"{what}: {group.size()} sizes are needed, one a rank; got {list(found)}")
    if total >= 0 and sum(found) != total:
        raise ValueError(f"{what}: the sizes {list(found)} are {sum(found)} in all, not {total}")
    return found


def wait_tensor(tensor: Tensor) -> Tensor:
    """The tensor: a collective is waited for where its result is first read."""
    return tensor


def wait_tensors(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The tensors; see `wait_tensor`."""
    return list(tensors)


def all_reduce(self: Tensor, reduceOp: Any, group: Any = None, tag: str = "") -> Tensor:
    """The reduction of every rank's tensor, on each of them.

    Args:
        self: of one shape and dtype on all ranks.
        reduceOp: "sum", "avg", "min", "max", "product", a bitwise one for integers, or `PremulSum`.

    Gradient: of a sum, the sum of the cotangents; of the others see docs/distributed.md.
    """
    group = group_of(group)
    name, factor = _reduction(reduceOp)
    _check_dtype(self, name)
    if name in _OTHERS:
        return rows.all_reduce_by(self, group, name)
    return _averaged(rows.all_reduce(_scaled(self, factor), group), name, group.size())


def all_gather_tensor(
    self: Tensor, gather_dim: int, group: Any = None, tag: str = "", sizes: Sizes | None = None
) -> Tensor:
    """Every rank's tensor, one after the other along a dimension.

    Args:
        sizes: each rank's along `gather_dim`, where they differ.
    """
    group = group_of(group)
    moved, dim = _in_front(self, gather_dim)
    own = moved._shape[0]
    if sizes is None:
        sizes = (own,) * group.size()
    else:
        sizes = _given(sizes, group, -1, "all_gather_tensor")
        if sizes[group.rank()] != own:
            raise ValueError(f"all_gather_tensor: {list(sizes)} for a tensor of size {own} here")
    return _back(rows.all_gather(moved, group, sizes), dim)


def reduce_scatter_tensor(
    self: Tensor,
    reduceOp: Any,
    scatter_dim: int,
    group: Any = None,
    tag: str = "",
    sizes: Sizes | None = None,
) -> Tensor:
    """This rank's part of the reduction of every rank's tensor, cut along a dimension.

    Args:
        sizes: of the parts, where they differ.
    """
    group = group_of(group)
    name, factor = _reduction(reduceOp)
    _check_dtype(self, name)
    moved, dim = _in_front(self, scatter_dim)
    total = moved._shape[0]
    parts = (
        _even(total, group.size(), "reduce_scatter_tensor")
        if sizes is None
        else _given(sizes, group, total, "reduce_scatter_tensor")
    )
    if name in _OTHERS:
        return _back(rows.reduce_scatter_by(moved, group, parts, name), dim)
    found = rows.reduce_scatter(_scaled(moved, factor), group, parts)
    return _back(_averaged(found, name, group.size()), dim)


def all_to_all_single(
    self: Tensor,
    output_split_sizes: Sizes | None,
    input_split_sizes: Sizes | None,
    group: Any = None,
    tag: str = "",
) -> Tensor:
    """A part of each rank's tensor, cut along dimension 0.

    Args:
        output_split_sizes: what comes from each rank; None: all the same.
        input_split_sizes: what goes to each rank; None: all the same.
    """
    group = group_of(group)
    moved, _ = _in_front(self, 0)
    total = moved._shape[0]
    sent = (
        _even(total, group.size(), "all_to_all_single")
        if input_split_sizes is None
        else _given(input_split_sizes, group, total, "all_to_all_single")
    )
    received = (
        _even(total, group.size(), "all_to_all_single")
        if output_split_sizes is None
        else _given(output_split_sizes, group, -1, "all_to_all_single")
    )
    return rows.all_to_all(moved, group, received, sent)


def broadcast(self: Tensor, src: int, group: Any = None, tag: str = "") -> Tensor:
    """The tensor of rank `src` of the group, on every rank.

    Args:
        self: of that shape and dtype; its values count on rank `src` alone.

    Gradient: on rank `src` the sum of the cotangents, elsewhere 0.
    """
    group = group_of(group)
    return rows.broadcast_from(self, group, _rank(src, group))


def _rank(rank: int, group: ProcessGroup) -> int:
    if not 0 <= rank < group.size():
        raise ValueError(f"rank {rank} is not one of a group of {group.size()}")
    return rank


def reduce(self: Tensor, reduceOp: Any, dst: int, group: Any = None, tag: str = "") -> Tensor:
    """The reduction of every rank's tensor on rank `dst`, zeros elsewhere.

    Gradient: of a sum, the cotangent of rank `dst`, on every rank.
    """
    group = group_of(group)
    name, factor = _reduction(reduceOp)
    _check_dtype(self, name)
    root = _rank(dst, group)
    if name in _OTHERS:
        found = rows.all_reduce_by(self, group, name)
        if group.rank() == root:
            return found
        return found.masked_fill(NAMES["ones_like"](found, dtype=dtypes.bool), 0)
    return _averaged(rows.reduce_to(_scaled(self, factor), group, root), name, group.size())


def gather(
    self: Tensor, gather_dim: int, dst: int, group: Any = None, sizes: Sizes | None = None
) -> Tensor:
    """Every rank's tensor on rank `dst`, one after the other; elsewhere the dimension is 0.

    Args:
        sizes: each rank's along `gather_dim`, where they differ.
    """
    group = group_of(group)
    moved, dim = _in_front(self, gather_dim)
    parts = (
        (moved._shape[0],) * group.size() if sizes is None else _given(sizes, group, -1, "gather")
    )
    return _back(rows.gather_to(moved, group, _rank(dst, group), parts), dim)


def scatter(
    self: Tensor, scatter_dim: int, src: int, group: Any = None, sizes: Sizes | None = None
) -> Tensor:
    """This rank's part of the tensor of rank `src`, cut along a dimension.

    Args:
        self: on rank `src` what is cut; on others only the sizes of other dimensions count.
        sizes: of the parts; needed on all ranks where they differ, or where a rank's own tensor is
            not as large as that of `src`.
    """
    group = group_of(group)
    moved, dim = _in_front(self, scatter_dim)
    root = _rank(src, group)
    here = moved._shape[0] if group.rank() == root else -1
    parts = (
        _even(moved._shape[0], group.size(), "scatter")
        if sizes is None
        else _given(sizes, group, here, "scatter")
    )
    if group.rank() != root:
        moved = moved[:0]
    return _back(rows.scatter_from(moved, group, root, parts), dim)


def permute_tensor(
    self: Tensor, src_dst: Sequence[int], group: Any = None, tag: str = ""
) -> Tensor:
    """The tensor of the rank that is mapped to this one.

    Args:
        src_dst: for each rank, where its tensor goes; a permutation.

    Gradient: by the inverse permutation.
    """
    group = group_of(group)
    size, rank = group.size(), group.rank()
    if sorted(src_dst) != list(range(size)):
        raise ValueError(f"{list(src_dst)} is not a permutation of the {size} ranks")
    flat = self.reshape(-1)
    n = flat._shape[0]
    sent = tuple(n if r == src_dst[rank] else 0 for r in range(size))
    received = tuple(n if src_dst[r] == rank else 0 for r in range(size))
    return rows.all_to_all(flat, group, received, sent).reshape(self._shape)


def ppermute(self: Tensor, pairs: Sequence[tuple[int, int]], group: Any = None) -> Tensor:
    """As `permute_tensor` by (source, destination) pairs; who gets nothing has zeros."""
    group = group_of(group)
    size, rank = group.size(), group.rank()
    targets, sources = [b for _, b in pairs], [a for a, _ in pairs]
    if len(set(targets)) < len(targets) or len(set(sources)) < len(sources):
        raise ValueError(f"a rank sends or receives twice: {list(pairs)}")
    flat = self.reshape(-1)
    n = flat._shape[0]
    sent = tuple(n if (rank, r) in pairs else 0 for r in range(size))
    received = tuple(n if (r, rank) in pairs else 0 for r in range(size))
    found = rows.all_to_all(flat[: sum(sent)], group, received, sent)
    if not sum(received):
        found = NAMES["zeros_like"](flat) + found.sum()  # the sum of nothing, on the tape
    return found.reshape(self._shape)


def send(self: Tensor, dst: int, group: Any = None, tag: int = 0) -> Tensor:
    """Give rank `dst` of the group the tensor; -> 0, to be added to the loss.

    Gradient: what `recv` on the other side sends back, if the 0 is part of a loss here.
    """
    group = group_of(group)
    return rows.send_to(self, group, _rank(dst, group), int(tag))


def recv(self: Tensor, src: int, group: Any = None, tag: int = 0) -> Tensor:
    """What rank `src` of the group gives with `send`.

    Args:
        self: a tensor of that shape and dtype. Where it requires grad (its gradient is 0), the
            cotangent of the result goes back to rank `src`.
    """
    group = group_of(group)
    return rows.receive_from(self, group, _rank(src, group), int(tag))


# -- several at once ------------------------------------------------------------------------------


def all_reduce_coalesced(
    self: Sequence[Tensor], reduceOp: Any, group: Any = None, tag: str = ""
) -> list[Tensor]:
    """`all_reduce` of several tensors; they are under way at the same time."""
    return [all_reduce(t, reduceOp, group) for t in self]


def all_gather_into_tensor_coalesced(
    self: Sequence[Tensor], group: Any = None, tag: str = ""
) -> list[Tensor]:
    """`all_gather_tensor` of several tensors along dimension 0."""
    return [all_gather_tensor(t, 0, group) for t in self]


def reduce_scatter_tensor_coalesced(
    inputs: Sequence[Tensor],
    reduceOp: Any,
    scatter_dim: Sequence[int],
    group: Any = None,
    tag: str = "",
) -> list[Tensor]:
    """`reduce_scatter_tensor` of several tensors."""
    return [
        reduce_scatter_tensor(t, reduceOp, dim, group)
        for t, dim in zip(inputs, scatter_dim, strict=True)
    ]


all_gather_single = all_gather_tensor
reduce_scatter_single = reduce_scatter_tensor
all_gather_single_coalesced = all_gather_into_tensor_coalesced
reduce_scatter_single_coalesced = reduce_scatter_tensor_coalesced
all_gather_tensor_autograd = all_gather_tensor
reduce_scatter_tensor_autograd = reduce_scatter_tensor
all_to_all_single_autograd = all_to_all_single

__all__ = [
    "all_gather_into_tensor_coalesced",
    "all_gather_single",
    "all_gather_single_coalesced",
    "all_gather_tensor",
    "all_gather_tensor_autograd",
    "all_reduce",
    "all_reduce_coalesced",
    "all_to_all_single",
    "all_to_all_single_autograd",
    "broadcast",
    "gather",
    "permute_tensor",
    "ppermute",
    "recv",
    "reduce",
    "reduce_scatter_single",
    "reduce_scatter_single_coalesced",
    "reduce_scatter_tensor",
    "reduce_scatter_tensor_autograd",
    "reduce_scatter_tensor_coalesced",
    "scatter",
    "send",
    "wait_tensor",
    "wait_tensors",
]
