"""Replace kept composites by their bodies.

Rows compute 16-bit floats in float32 and round their results. Where a kernel takes a row in float32
only, its 16-bit form becomes that kernel between conversions, which join its neighbours' loops.
"""

from __future__ import annotations

from collections.abc import Callable

from flambeau.dtype import dtype as DType
from flambeau.dtype import float32
from flambeau.ir.graph import CAST, PICK, Graph, Node, origin_of
from flambeau.ir.recorded import Recorded
from flambeau.ops.table import expand_composite, specs_of


def inline(graph: Graph, claims: Callable[[Node], bool] = lambda node: False) -> Graph:
    """The graph with every composite that `claims` does not want expanded, to any depth."""
    made: dict[Node, Node] = {}
    parts: dict[Node, tuple[Node, ...]] = {}
    inner: list[Node] = []

    def rebuilt(node: Node) -> Node:
        src = tuple(made[s] if type(s) is Node else s for s in node.src)
        if src == node.src:
            return node
        return Node(node.op, src, node.attrs, node.shape, node.dtype)

    while True:
        again = False
        for node in graph.walk():
            if node.op is PICK and node.src[0] in parts:
                made[node] = parts[node.src[0]][node.attrs[0]]
            elif node.op.kind == "composite" and not claims(rebuilt(node)):
                whole = rebuilt(node)
                whole.order, whole.origin = graph.place(), origin_of(node)
                outs = _in_float32(whole, claims)
                if outs is None:
                    outs = (
                        whole.op.expand(whole)
                        if isinstance(whole.op, Recorded)
                        else expand_composite(whole)
                    )
                if node.op.effects:
                    inner += [n for n in outs if n.op.effects]
                parts[node] = outs
                made[node] = outs[0]
                again = True
            else:
                made[node] = rebuilt(node)
        graph = graph.rewritten(made, inner)
        if not again or not any(n.op.kind == "composite" and not claims(n) for n in graph.nodes):
            return graph
        made, parts, inner = {}, {}, []


def _in_float32(node: Node, claims: Callable[[Node], bool]) -> tuple[Node, ...] | None:
    """The results of a 16-bit composite from its float32 form, if a kernel wants that."""
    if not any(type(s) is Node and _narrow(s.dtype) for s in node.src):
        return None
    src = tuple(
        Node(CAST, (s,), (), s.shape, float32) if type(s) is Node and _narrow(s.dtype) else s
        for s in node.src
    )
    attrs, specs = node.attrs, specs_of(node)
    if specs is not None:
        attrs = (*attrs[:-1], tuple((shape, _wide(d)) for shape, d in specs))
    twin = Node(node.op, src, attrs, node.shape, _wide(node.dtype))
    if not claims(twin):
        return None
    if specs is None:
        return (_as(twin, node.dtype),)
    return tuple(
        _as(Node(PICK, (twin,), (k,), shape, _wide(d)), d) for k, (shape, d) in enumerate(specs)
    )


def _narrow(d: DType) -> bool:
    return d.is_floating_point and d.itemsize == 2


def _wide(d: DType) -> DType:
    return float32 if _narrow(d) else d


def _as(node: Node, d: DType) -> Node:
    return node if node.dtype is d else Node(CAST, (node,), (), node.shape, d)
