"""Give every write (`assign`) a base that is its alone, so that it may happen in place.

The value becomes a copy node, whose region stores straight into the base's memory; a base that
others still read, or that is not computed here, is copied first.
"""

from __future__ import annotations

import math

from flambeau.ir.graph import ASSIGN, COPY, EMPTY, Graph, Node
from flambeau.size import contiguous_strides


def own(graph: Graph) -> Graph:
    """The graph in which every assign may overwrite its base."""
    users = graph.users()
    outputs = {n for n, _ in graph.outputs}
    made: dict[Node, Node] = {}
    for node in graph.walk():
        src = tuple(made[s] if type(s) is Node else s for s in node.src)
        if node.op is ASSIGN:
            base, value = src
            if 0 in value.shape:
                made[node] = Node(COPY, (base,), (), node.shape, node.dtype)
                continue
            base = (
                Node(EMPTY, (), (), node.shape, node.dtype)
                if _covers(node)
                else _owned(base, node.src[0], users, outputs)
            )
            value = Node(COPY, (value,), (), value.shape, value.dtype)
            made[node] = Node(ASSIGN, (base, value), node.attrs, node.shape, node.dtype)
        elif node.op.kind == "index_put":
            # index arrays are walked as they lie in memory
            rest = tuple(
                Node(COPY, (s,), (), s.shape, s.dtype) if s.op.kind == "view" else s
                for s in src[1:]
            )
            base = _owned(src[0], node.src[0], users, outputs)
            made[node] = Node(node.op, (base, *rest), node.attrs, node.shape, node.dtype)
        elif node.op.kind == "effect":  # sends memory as it lies
            rest = tuple(
                Node(COPY, (s,), (), s.shape, s.dtype)
                if s.op.kind == "view" and s.attrs[0] != contiguous_strides(s.shape)
                else s
                for s in src
            )
            made[node] = (
                node
                if rest == node.src
                else Node(node.op, rest, node.attrs, node.shape, node.dtype)
            )
        else:
            made[node] = (
                node if src == node.src else Node(node.op, src, node.attrs, node.shape, node.dtype)
            )
    return graph.rewritten(made)


def _owned(base: Node, original: Node, users: dict[Node, list[Node]], outputs: set[Node]) -> Node:
    """A base that nothing else reads: itself, or a copy."""
    if base.op is EMPTY:
        return Node(EMPTY, (), (), base.shape, base.dtype)
    if (
        base.op.kind not in ("elementwise", "assign", "index_put", "reduce", "scan", "contraction")
        or len(users[original]) > 1
        or original in outputs
        or base.op.name == "fill_value"
    ):
        return Node(COPY, (base,), (), base.shape, base.dtype)
    return base


def _covers(node: Node) -> bool:
    """Whether the region written is the whole base."""
    shape, strides, _ = node.attrs
    if math.prod(shape) != node.numel:
        return False
    reach = 1
    for s, n in sorted((abs(s), n) for s, n in zip(strides, shape, strict=True) if n > 1):
        if s != reach:
            return False
        reach *= n
    return True
