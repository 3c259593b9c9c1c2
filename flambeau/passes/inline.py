"""Replace kept composites by their bodies."""

from __future__ import annotations

from collections.abc import Callable

from flambeau.ir.graph import PICK, Graph, Node
from flambeau.ir.recorded import Recorded
from flambeau.ops.table import expand_composite


def inline(graph: Graph, claims: Callable[[Node], bool] = lambda node: False) -> Graph:
    """The graph with every composite that `claims` does not want expanded, to any depth."""
    made: dict[Node, Node] = {}
    parts: dict[Node, tuple[Node, ...]] = {}

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
                outs = (
                    whole.op.expand(whole)
                    if isinstance(whole.op, Recorded)
                    else expand_composite(whole)
                )
                parts[node] = outs
                made[node] = outs[0]
                again = True
            else:
                made[node] = rebuilt(node)
        graph = graph.rewritten(made)
        if not again or not any(n.op.kind == "composite" and not claims(n) for n in graph.nodes):
            return graph
        made, parts = {}, {}
