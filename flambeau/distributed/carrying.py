"""Where a dimension of a source stands in the result of an operation.

A tensor that is split among ranks along a dimension stays split along the dimension that this one
becomes: the ranks' results, laid one after another, are the result for the whole. `carried` says
which dimension that is, from the kind of the operation and its attributes alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from flambeau.ir.graph import Node
from flambeau.size import contiguous_strides


def carried(node: Node, at: int, dim: int) -> int | None:
    """The dimension of the result that dimension `dim` of source `at` becomes.

    Returns:
        None where the result is not split by it: it is summed, reordered or mixed with others.
    """
    rule = _KINDS.get(node.op.kind)
    return None if rule is None else rule(node, at, dim)


def _broadcast(node: Node, at: int, dim: int) -> int | None:
    source = node.src[at].shape
    found = dim + len(node.shape) - len(source)
    return found if node.shape[found] == source[dim] else None


def through_view(
    source: tuple[int, ...], dim: int, shape: tuple[int, ...], strides: tuple[int, ...], offset: int
) -> int | None:
    """As `carried`, for row-major storage of shape `source` read with other strides.

    The dimension goes on in the one of the view that walks its most significant part: to the end of
    a block of `source[dim]` steps. Every other dimension either steps over whole blocks or stays
    within a step of that one.
    """
    step = contiguous_strides(source)[dim]
    block = step * source[dim]
    if not block or 0 in shape:
        return None
    # a dimension that is walked backwards covers what it would walking on from its far end
    offset += sum((n - 1) * s for n, s in zip(shape, strides, strict=True) if s < 0)
    for found, (size, stride) in enumerate(zip(shape, strides, strict=True)):
        if size < 2 or size * stride != block:
            continue
        inner = offset % block
        for k, (n, s) in enumerate(zip(shape, strides, strict=True)):
            if k != found and n > 1 and s % block:
                inner += (n - 1) * abs(s)
        if inner < stride:
            return found
    if source[dim] == 1 and shape == source and strides == contiguous_strides(source):
        return dim
    return None


def _view(node: Node, at: int, dim: int) -> int | None:
    return through_view(node.src[0].shape, dim, node.shape, *node.attrs)


def _assign(node: Node, at: int, dim: int) -> int | None:
    if at == 0:  # what is written must be split in the same way, which is its own source's word
        return dim
    shape, strides, offset = node.attrs
    walked = node.src[1].shape
    for found in range(len(node.shape)):
        place = through_view(node.shape, found, shape, strides, offset)
        if place is not None and place - len(shape) == dim - len(walked):
            return found
    return None


def _reduce(node: Node, at: int, dim: int) -> int | None:
    axes = {a % len(node.src[0].shape) for a in node.attrs[0]}
    return None if dim in axes else dim - sum(a < dim for a in axes)


def _scan(node: Node, at: int, dim: int) -> int | None:
    return None if dim == node.attrs[0] % len(node.src[0].shape) else dim


def _contraction(node: Node, at: int, dim: int) -> int | None:
    source, rank = node.src[at].shape, len(node.shape)
    if at == 2:
        return dim - len(source) + rank
    summed = len(source) - (1 if at == 0 else 2)
    found = dim - len(source) + rank
    return None if dim == summed or node.shape[found] != source[dim] else found


def _index(node: Node, at: int, dim: int) -> int | None:
    count = len(node.src) - 1
    if at:
        return dim
    return None if dim < count else dim - count + len(node.src[1].shape)


def _index_put(node: Node, at: int, dim: int) -> int | None:
    count = len(node.src) - 2
    if at == 0:
        return dim if dim >= count else None
    shift = len(node.src[2].shape) - count
    whole = len(node.src[2].shape) + len(node.shape) - count
    dim += whole - len(node.src[1].shape)
    return dim - shift if at == 1 and dim >= len(node.src[2].shape) else None


_KINDS: dict[str, Callable[[Node, int, int], int | None]] = {
    "elementwise": _broadcast,
    "view": _view,
    "assign": _assign,
    "reduce": _reduce,
    "scan": _scan,
    "contraction": _contraction,
    "index": _index,
    "index_put": _index_put,
}


def constant_along(node: Node, at: int, dim: int) -> bool:
    """Whether source `at` is one and the same along dimension `dim` of the result, so that each
    rank's part of the result needs all of it."""
    source = node.src[at]
    if source.op.uniform and source.buffer is None:
        return True
    kind = node.op.kind
    if kind in ("elementwise", "contraction"):
        place = dim + len(source.shape) - len(node.shape)
        if kind == "contraction" and at < 2 and place == len(source.shape) - (1 if at == 0 else 2):
            return True  # the summed dimension stands there
        return place < 0 or source.shape[place] == 1
    if kind in ("index", "index_put"):
        return not any(carried(node, at, d) == dim for d in range(len(source.shape)))
    return math.prod(source.shape) == 1
