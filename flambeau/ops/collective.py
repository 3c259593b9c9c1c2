"""Collectives: values that depend on what other ranks have.

Each row is an effect (Note [Effects] in `record.py`): every rank of its group records it, in the
same order. What is joined or cut lies along dimension 0, where a rank's part is one piece of
memory; `distributed.functional` has the forms for other dimensions, and torch's names.

The derivative of a row is that of the program of all ranks together, whose loss is the sum of the
ranks' losses. All rows but the `_by` ones are linear, so that each one's rule is another:
all_reduce is its own dual; all_gather and reduce_scatter, broadcast and reduce, gather and scatter,
send and receive are each other's.

A group is an object with `size()`, `rank()` and `start(name, sources, targets, **how)`, which
starts a collective on arrays (`distributed/groups.py`).
"""

from __future__ import annotations

import math
from itertools import accumulate
from typing import Any

from flambeau import record
from flambeau.ir.graph import Node
from flambeau.ops.rows import NAMES
from flambeau.ops.table import emit, primitive, record_device
from flambeau.record import view_node
from flambeau.size import contiguous_strides
from flambeau.tensor import Tensor

Sizes = tuple[int, ...]


def _emit(row: Any, input: Tensor, attrs: tuple[Any, ...], shape: tuple[int, ...]) -> Tensor:
    """Record an effect."""
    found = emit(row, (input,), attrs, shape, input.dtype)
    record.pin(found._cell.node, found._cell.device)
    return found


def _parts(array: Any, sizes: Sizes) -> list[Any]:
    """An array cut along dimension 0."""
    ends = list(accumulate(sizes))
    return [array[end - n : end] for n, end in zip(sizes, ends, strict=True)]


def _joined(input: Tensor, sizes: Sizes) -> tuple[int, ...]:
    return (sum(sizes), *input._shape[1:])


def _own(input: Tensor, sizes: Sizes, group: Any) -> tuple[int, ...]:
    return (sizes[group.rank()], *input._shape[1:])


# -- how a batch of calls is one call -------------------------------------------------------------


def _pinned(node: Node) -> Node:
    record.pin(node, record_device())
    return node


def _in_front(node: Node, src: Any, has: Any, size: int) -> Node:
    """With the batch in front: the rows that take any shape."""
    return _pinned(Node(node.op, tuple(src), node.attrs, (size, *node.shape), node.dtype))


def _behind(node: Node, src: Any, has: Any, size: int) -> Node:
    """With the batch behind dimension 0, along which parts are joined or cut."""
    turned = _turned(src[0])
    first, *rest = node.shape
    return _turned(_pinned(Node(node.op, (turned,), node.attrs, (first, size, *rest), node.dtype)))


def _turned(source: Node) -> Node:
    """The first two dimensions exchanged."""
    a, b, *rest = source.shape
    step = math.prod(rest)
    return view_node(source, (b, a, *rest), (step, b * step, *contiguous_strides(tuple(rest))), 0)


# -- reductions -----------------------------------------------------------------------------------


@primitive("effect", jvp="linear", batch=_in_front, typed=("Partial", "Replicated"), over=True)
def all_reduce(row: Any, input: Tensor, group: Any) -> Tensor:
    """The sum of every rank's tensor, on each of them.

    Args:
        input: of the same shape on every rank.
        group: the ranks.
    """
    return _emit(row, input, (group,), input._shape)


@primitive("effect", batch=_in_front, typed=("Varying", "Replicated"), over=True)
def all_reduce_by(row: Any, input: Tensor, group: Any, op: str) -> Tensor:
    """The minimum, maximum, product or bitwise reduction of every rank's tensor.

    Args:
        op: "min", "max", "product", "band", "bor" or "bxor".

    Gradient: of an extreme, shared evenly by the ranks that have it; of a product, the product of
    the other ranks' values, so that zeros need no care.
    """
    return _emit(row, input, (group, op), input._shape)


@primitive("effect", jvp="linear", batch=_behind, typed=("Partial", "Varying"))
def reduce_scatter(row: Any, input: Tensor, group: Any, sizes: Sizes) -> Tensor:
    """This rank's part of the sum of every rank's tensor.

    Args:
        input: (sum(sizes), ...).
        sizes: of each rank's part along dimension 0.
    """
    return _emit(row, input, (group, sizes), _own(input, sizes, group))


@primitive("effect", batch=_behind, typed=("Varying", "Varying"))
def reduce_scatter_by(row: Any, input: Tensor, group: Any, sizes: Sizes, op: str) -> Tensor:
    """This rank's part of the minimum, maximum or product of every rank's tensor."""
    return _emit(row, input, (group, sizes, op), _own(input, sizes, group))


@primitive("effect", jvp="linear", batch=_in_front, typed=("Partial", "Partial"))
def reduce_to(row: Any, input: Tensor, group: Any, root: int) -> Tensor:
    """The sum of every rank's tensor on the root, zeros elsewhere."""
    return _emit(row, input, (group, root), input._shape)


# -- what moves -----------------------------------------------------------------------------------


@primitive("effect", jvp="linear", batch=_behind, typed=("Varying", "Replicated"))
def all_gather(row: Any, input: Tensor, group: Any, sizes: Sizes) -> Tensor:
    """Every rank's tensor, one after the other along dimension 0.

    Args:
        input: (sizes[rank], ...).
    """
    return _emit(row, input, (group, sizes), _joined(input, sizes))


@primitive("effect", jvp="linear", batch=_behind, typed=("Varying", "Varying"))
def all_to_all(row: Any, input: Tensor, group: Any, received: Sizes, sent: Sizes) -> Tensor:
    """A part of each rank's tensor, one after the other along dimension 0.

    Args:
        input: (sum(sent), ...), whose part r goes to rank r.
        received: sizes of what comes from each rank.
    """
    return _emit(row, input, (group, received, sent), _joined(input, received))


@primitive("effect", jvp="linear", batch=_in_front, typed=("Varying", "Replicated"), over=True)
def broadcast_from(row: Any, input: Tensor, group: Any, root: int) -> Tensor:
    """The root's tensor, on every rank."""
    return _emit(row, input, (group, root), input._shape)


@primitive("effect", jvp="linear", batch=_behind, typed=("Varying", "Varying"))
def gather_to(row: Any, input: Tensor, group: Any, root: int, sizes: Sizes) -> Tensor:
    """Every rank's tensor along dimension 0 on the root, nothing (size 0) elsewhere."""
    here = sizes if group.rank() == root else ()
    return _emit(row, input, (group, root, sizes), _joined(input, here))


@primitive("effect", jvp="linear", batch=_behind, typed=("Varying", "Varying"))
def scatter_from(row: Any, input: Tensor, group: Any, root: int, sizes: Sizes) -> Tensor:
    """This rank's part of the root's tensor along dimension 0.

    Args:
        input: (sum(sizes), ...) on the root, (0, ...) elsewhere.
    """
    return _emit(row, input, (group, root, sizes), _own(input, sizes, group))


@primitive("effect", jvp="linear", batch=_in_front, typed=("Varying", "Varying"))
def send_to(row: Any, input: Tensor, group: Any, peer: int, tag: int) -> Tensor:
    """Zero, and the tensor is given to another rank.

    Gradient: what the peer's `receive_from` sends back. It comes if the zero is part of the loss.
    """
    return _emit(row, input, (group, peer, tag), ())


@primitive("effect", jvp="linear", batch=_in_front, typed=("Varying", "Varying"))
def receive_from(row: Any, input: Tensor, group: Any, peer: int, tag: int) -> Tensor:
    """What another rank gives with `send_to`.

    Args:
        input: any tensor of that shape and dtype; one that needs a gradient (which is 0) has the
            cotangent of the result go back to the peer.
    """
    return _emit(row, input, (group, peer, tag), input._shape)


send_to.row.paired = receive_from.row.paired = True

# -- starting them --------------------------------------------------------------------------------

all_reduce.row.start = lambda group, s, target: group.start("all_reduce", s, (target,), op="sum")
all_reduce_by.row.start = lambda group, s, target, op: group.start(
    "all_reduce", s, (target,), op=op
)
reduce_scatter.row.start = lambda group, s, target, sizes, op="sum": group.start(
    "reduce_scatter", _parts(s[0], sizes), (target,), op=op
)
reduce_scatter_by.row.start = reduce_scatter.row.start
all_gather.row.start = lambda group, s, target, sizes: group.start(
    "all_gather", s, _parts(target, sizes)
)
all_to_all.row.start = lambda group, s, target, received, sent: group.start(
    "all_to_all", _parts(s[0], sent), _parts(target, received)
)


def _start_reduce(group: Any, sources: Any, target: Any, root: int) -> Any:
    if group.rank() == root:
        return group.start("reduce", sources, (target,), op="sum", root=root)
    target[...] = 0
    return group.start("reduce", sources, (), op="sum", root=root)


def _start_broadcast(group: Any, sources: Any, target: Any, root: int) -> Any:
    if group.rank() == root:
        target[...] = sources[0]
        return group.start("broadcast", sources, (), root=root)
    return group.start("broadcast", (), (target,), root=root)


def _start_gather(group: Any, sources: Any, target: Any, root: int, sizes: Sizes) -> Any:
    targets = _parts(target, sizes) if group.rank() == root else ()
    return group.start("gather", sources, targets, root=root)


def _start_scatter(group: Any, sources: Any, target: Any, root: int, sizes: Sizes) -> Any:
    given = _parts(sources[0], sizes) if group.rank() == root else ()
    return group.start("scatter", given, (target,), root=root)


def _start_send(group: Any, sources: Any, target: Any, peer: int, tag: int) -> Any:
    target[...] = 0
    return group.start("send", sources, (), peer=peer, tag=tag)


def _start_receive(group: Any, sources: Any, target: Any, peer: int, tag: int) -> Any:
    return group.start("recv", (), (target,), peer=peer, tag=tag)


reduce_to.row.start = _start_reduce
broadcast_from.row.start = _start_broadcast
gather_to.row.start = _start_gather
scatter_from.row.start = _start_scatter
send_to.row.start = _start_send
receive_from.row.start = _start_receive

# -- derivatives ----------------------------------------------------------------------------------

all_reduce.vjp(lambda g, out, input, group: (all_reduce(g, group),))
reduce_scatter.vjp(lambda g, out, input, group, sizes: (all_gather(g, group, sizes),))
all_gather.vjp(lambda g, out, input, group, sizes: (reduce_scatter(g, group, sizes),))
all_to_all.vjp(lambda g, out, input, group, received, sent: (all_to_all(g, group, sent, received),))
broadcast_from.vjp(lambda g, out, input, group, root: (reduce_to(g, group, root),))
reduce_to.vjp(lambda g, out, input, group, root: (broadcast_from(g, group, root),))
gather_to.vjp(lambda g, out, input, group, root, sizes: (scatter_from(g, group, root, sizes),))
scatter_from.vjp(lambda g, out, input, group, root, sizes: (gather_to(g, group, root, sizes),))


def _sent(g: Tensor, out: Any, input: Any, group: Any, peer: int, tag: int) -> Any:
    zeros = NAMES["zeros"](input.shape, dtype=input.dtype, device=input.device)
    return (receive_from(zeros + g * 0, group, peer, tag),)  # on the tape where `g` is


def _received(g: Tensor, out: Any, input: Any, group: Any, peer: int, tag: int) -> Any:
    return (NAMES["zeros_like"](g) + send_to(g, group, peer, tag),)


send_to.vjp(_sent)
receive_from.vjp(_received)


def _same(input: Tensor, extreme: Tensor) -> Tensor:
    """1 where a value is the extreme (NaN is one)."""
    equal = (input == extreme) | ((input != input) & (extreme != extreme))
    return NAMES["to_dtype"](equal, input.dtype)


def _all_reduced(g: Tensor, out: Tensor, input: Tensor, group: Any, op: str) -> Any:
    total = all_reduce(g, group)
    if op == "product":
        size, rank = group.size(), group.rank()
        whole = all_gather(input.unsqueeze(0), group, (1,) * size)
        return (total * _product_without(whole, rank),)
    mask = _same(input, out)
    return (total * mask / all_reduce(mask, group),)


def _reduce_scattered(
    g: Tensor, out: Tensor, input: Tensor, group: Any, sizes: Sizes, op: str
) -> Any:
    size, own = group.size(), sizes[group.rank()]
    if op == "product":
        even = (own,) * size
        given = all_to_all(input, group, even, sizes).reshape(size, *g._shape)
        slopes = NAMES["stack"]([g * _product_without(given, rank) for rank in range(size)])
        return (all_to_all(slopes.flatten(0, 1), group, sizes, even),)
    mask = _same(input, all_gather(out, group, sizes))
    ties = reduce_scatter(mask, group, sizes)
    return (all_gather(g / ties, group, sizes) * mask,)


def _product_without(whole: Tensor, rank: int) -> Tensor:
    """The product along dimension 0 of all but one."""
    return NAMES["cat"]([whole[:rank], whole[rank + 1 :]]).prod(0)


all_reduce_by.vjp(_all_reduced, saves="input, out")
reduce_scatter_by.vjp(_reduce_scattered, saves="input, out")
all_reduce_by.row.complex = reduce_scatter_by.row.complex = True
