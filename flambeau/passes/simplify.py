"""Local rewrites: copies and views that change nothing go, equal values are computed once."""

from __future__ import annotations

from typing import Any

from flambeau.ir.graph import AGAIN, CAST, COPY, EMPTY, PICK, VIEW, Argument, Graph, Node
from flambeau.ir.region import Map, flatten_coordinates, split_coordinates
from flambeau.size import contiguous_strides

#: kinds whose nodes without elements need not be computed (library calls raise errors of their own)
_COMPUTED = ("elementwise", "view", "assign", "reduce", "scan", "contraction", "index", "index_put")


def simplify(graph: Graph) -> Graph:
    """The graph with redundant nodes removed; outputs keep memory of their own."""
    made: dict[Node, Node] = {}
    seen: dict[Any, Node] = {}
    outputs = [n for n, _ in graph.outputs]
    taken: set[Node] = set()
    copies: dict[Node, Node] = {}  # of views that cannot be viewed themselves
    result = set(outputs)
    for node in graph.walk():
        src = tuple(made[s] if type(s) is Node else s for s in node.src)
        new = _rewrite(node, src, node in result, taken, copies)
        if new is None:
            new = (
                node if src == node.src else Node(node.op, src, node.attrs, node.shape, node.dtype)
            )
        changed = new is not node and new.op is not PICK
        if new.op.kind not in ("input", "effect") and not (node in result and changed):
            key = (new.op, tuple(_part(s) for s in new.src), new.attrs, new.shape, new.dtype)
            known = seen.get(key)
            if known is not None and not (node in result and known in taken):
                new = known
            elif known is not None and new.op is PICK:  # a result is written to one place
                new = Node(COPY, (known,), (), new.shape, new.dtype)
            else:
                seen[key] = new
        if node in result:
            if new in taken or new.op.kind in ("input", "view"):
                new = Node(COPY, (new,), (), new.shape, new.dtype)
            taken.add(new)
        made[node] = new
    return graph.rewritten(made)


def _part(s: Any) -> Any:
    """A source as a key: numbers by value, floats apart from integers (a constant is a float)."""
    return s if isinstance(s, (Node, Argument)) else (isinstance(s, float), s)


def _rewrite(
    node: Node,
    src: tuple[Any, ...],
    is_output: bool,
    taken: set[Node],
    copies: dict[Node, Node],
) -> Node | None:
    op = node.op
    if 0 in node.shape and op.kind in _COMPUTED:
        return Node(EMPTY, (), (), node.shape, node.dtype)
    if op is CAST and type(src[0]) is Node and src[0].dtype is node.dtype:
        op = COPY
    if op is COPY and type(src[0]) is Node:
        source: Node = src[0]
        if not is_output or (source.op.kind not in ("input", "view") and source not in taken):
            if source.shape == node.shape:
                return source
        return None
    if op is VIEW:
        return _view(node, src[0], copies)
    if op is AGAIN and src[0].op is VIEW:  # views stand on top, where readers expect them
        below: Node = src[0].src[0]
        whole = (contiguous_strides(below.shape), 0)
        again = Node(AGAIN, (below,), whole, below.shape, below.dtype)
        return Node(VIEW, (again,), src[0].attrs, node.shape, node.dtype)
    return None


def _view(node: Node, source: Node, copies: dict[Node, Node]) -> Node | None:
    strides, offset = node.attrs
    plain = strides == contiguous_strides(node.shape)
    if source.op.uniform:
        return Node(source.op, source.src, source.attrs, node.shape, node.dtype)
    if plain and offset == 0 and node.shape == source.shape:
        return source
    if source.op is VIEW:
        inner_strides, inner_offset = source.attrs
        if inner_strides == contiguous_strides(source.shape):
            return Node(VIEW, source.src, (strides, offset + inner_offset), node.shape, node.dtype)
        composed = _compose(node, source)
        if composed is not None:
            return composed
        copied = copies.get(source)
        if copied is None:
            copied = copies[source] = Node(COPY, (source,), (), source.shape, source.dtype)
        return Node(VIEW, (copied,), node.attrs, node.shape, node.dtype)
    return None


def _compose(outer: Node, inner: Node) -> Node | None:
    """A view of a view as one view, where coordinates allow it."""
    strides, offset = outer.attrs
    if 0 in outer.shape:
        return None
    coordinates = split_coordinates(Map(offset, strides), inner.shape, outer.shape)
    if coordinates is None:
        return None
    inner_strides, inner_offset = inner.attrs
    m = flatten_coordinates(coordinates, inner_strides, inner_offset, len(outer.shape))
    return Node(VIEW, inner.src, (m.coefficients, m.offset), outer.shape, outer.dtype)
