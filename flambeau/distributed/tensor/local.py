"""What a node of the whole is on a rank's parts: a function of these, for each kind of operation.

The sources lie as they have to (Note [Partitioning] in `partition.py`), so that what is left to be
said is where this rank's part begins and how large it is.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from flambeau.distributed.tensor.placement import Layout
from flambeau.distributed.types import P
from flambeau.ir.graph import CAST, COPY, Node
from flambeau.ops.rows import NAMES, ROWS
from flambeau.ops.table import record_elementwise
from flambeau.size import contiguous_strides
from flambeau.tensor import Tensor

#: Parts -> part.
Form = Callable[..., Any]


class NoForm(Exception):
    """An operation that is done on whole tensors."""


def local_form(node: Node, sources: list[Layout], layout: Layout) -> Form:
    """What gives this rank's part of a node from its parts of the sources.

    Args:
        sources: how the sources lie, of those that are nodes.
        layout: how the result lies.

    Raises:
        NoForm: the node is not done on parts.
    """
    rule = _FORMS.get(node.op.kind)
    if rule is None:
        raise NoForm(node.op.name)
    return rule(node, sources, layout)


def _elementwise(node: Node, sources: list[Layout], layout: Layout) -> Form:
    if node.op is CAST:
        return lambda x: NAMES["to_dtype"](x, node.dtype)
    if node.op is COPY:
        return lambda x: x.clone()
    shape = layout.local_shape
    plain = all(type(s) is Node for s in node.src)
    order = [type(s) is Node for s in node.src]

    def call(*parts: Tensor) -> Any:
        args = parts
        if not plain:
            given = iter(parts)
            args = tuple(
                next(given) if is_node else s for is_node, s in zip(order, node.src, strict=True)
            )
        found = record_elementwise(node.op, args)
        return found if found._shape == shape else NAMES["broadcast_to"](found, shape)

    return call


def _local_view(
    source: Layout, result: Layout, shape: tuple[int, ...], strides: tuple[int, ...], offset: int
) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    """The strides of the same view of this rank's part."""
    whole, sizes, steps = list(source.shape), list(shape), list(strides)
    place = source.mesh.get_coordinate()
    for axis, t in enumerate(source.types):
        if t.dim is None:
            continue
        found = result.types[axis].dim
        assert found is not None
        here = source.sizes(axis)[place[axis]]
        block = contiguous_strides(tuple(whole))[t.dim] * whole[t.dim]
        part = block // whole[t.dim] * here
        sizes[found] = sizes[found] * here // whole[t.dim]
        steps = [s // block * part if s % block == 0 else s for s in steps]
        offset = offset // block * part + offset % block
        whole[t.dim] = here
    return tuple(sizes), tuple(steps), offset


def _strided(shape: tuple[int, ...], strides: tuple[int, ...], offset: int, x: Tensor) -> Any:
    """Row-major storage read with strides, of which some may go backwards."""
    back = [d for d, s in enumerate(strides) if s < 0]
    if back:
        offset += sum((shape[d] - 1) * strides[d] for d in back)
        return NAMES["flip"](_strided(shape, tuple(map(abs, strides)), offset, x), back)
    plain = x.contiguous()
    if shape == plain._shape and strides == contiguous_strides(shape):
        return plain
    return NAMES["as_strided"](plain, shape, strides, offset + plain.storage_offset())


def _view(node: Node, sources: list[Layout], layout: Layout) -> Form:
    (source,) = sources
    shape, strides, offset = _local_view(source, layout, node.shape, *node.attrs)
    order = sorted(range(len(shape)), key=lambda d: -strides[d])
    laid = tuple(shape[d] for d in order)
    steps = tuple(strides[d] for d in order)
    if laid == source.local_shape and steps == contiguous_strides(laid) and not offset:
        # dimensions in another order: the gradient is a view as well
        dims = tuple(order.index(d) for d in range(len(order)))
        return lambda x: NAMES["permute"](x, dims)
    return functools.partial(_strided, shape, strides, offset)


def _assign(node: Node, sources: list[Layout], layout: Layout) -> Form:
    _, value = sources
    shape, strides, offset = node.attrs
    inner = Layout(layout.mesh, value.types, shape)
    if value.shape != shape and any(t.dim is not None for t in value.types):
        raise NoForm("assign")
    region = _local_view(layout, inner, shape, strides, offset)
    write = ROWS["assign_region"].call
    assert write is not None

    def call(base: Tensor, value: Tensor) -> Any:
        given = NAMES["broadcast_to"](value, region[0])
        return write(base.contiguous(), given, *region)

    return call


def _reduce(node: Node, sources: list[Layout], layout: Layout) -> Form:
    row = node.op.call
    assert row is not None
    return lambda x: row(x, *node.attrs)


def _contraction(node: Node, sources: list[Layout], layout: Layout) -> Form:
    assert node.op.call is not None
    return node.op.call


def _index(node: Node, sources: list[Layout], layout: Layout) -> Form:
    """Rows of a table; where its rows are split, those of this rank, and zeros for the others.

    An index that no rank has is left to the first or the last, which raises."""
    row = node.op.call
    assert row is not None
    table = sources[0]
    place = layout.mesh.get_coordinate()
    start, count = 0, -1
    for axis, t in enumerate(table.types):
        if t.dim == 0 and layout.types[axis] == P:
            sizes = table.sizes(axis)
            start, count = start + sum(sizes[: place[axis]]), sizes[place[axis]]
    if count < 0:
        return row
    last = start + count >= table.shape[0]
    shape = layout.local_shape

    def call(table: Tensor, index: Tensor) -> Any:
        if not count:
            return NAMES["zeros"](shape, dtype=node.dtype) + table.sum()
        at = index - start
        mine = (at >= 0) | (not start)
        if not last:
            mine &= at < count
        rows = row(table, NAMES["where"](mine, at, 0))
        return NAMES["where"](mine.reshape(*at._shape, *(1,) * (rows.dim() - at.dim())), rows, 0.0)

    return call


_FORMS: dict[str, Callable[[Node, list[Layout], Layout], Form]] = {
    "elementwise": _elementwise,
    "view": _view,
    "assign": _assign,
    "reduce": _reduce,
    "scan": _reduce,
    "contraction": _contraction,
    "index": _index,
}

__all__ = ["NoForm", "local_form"]
