"""Which index was out of range, found after a program failed.

Kernels only say that an index was wrong; which one, and where, is computed here again from the
program's inputs, so that programs without faults pay nothing.
"""

from __future__ import annotations

from typing import Any

from flambeau.ir.graph import Argument, Graph, Node, reachable
from flambeau.ir.interpret import evaluate

#: Give up past this many elements of index arithmetic.
MAX_ELEMENTS = 1 << 22
_PURE = ("elementwise", "copy", "view")


def wrong_index(graph: Graph, inputs: list[Any], numbers: list[Any]) -> str:
    """Words for the first index of a program that is out of range; "" where it is not found.

    Args:
        inputs: one NumPy array per input of the graph.
        numbers: the run-time numbers of the graph's arguments.
    """
    known: dict[Node, Any] = {}
    for node in graph.nodes:
        if node.op.kind not in ("index", "index_put"):
            continue
        first = 1 if node.op.kind == "index" else 2
        for dim, index in enumerate(node.src[first:]):
            size = node.src[0].shape[dim]
            found = _value(index, inputs, numbers, known)
            if found is None or not found.size:
                continue
            wrong = found[(found < 0) | (found >= size)]
            if wrong.size:
                given = int(wrong.flat[0])
                return f"index {given} is out of bounds for dimension {dim} with size {size}"
    return ""


def _value(node: Node, inputs: list[Any], numbers: list[Any], known: dict[Node, Any]) -> Any:
    """The value of an index, or None where it is not made by arithmetic on inputs alone."""
    needed = reachable([node])
    if sum(n.numel for n in needed) > MAX_ELEMENTS:
        return None
    for each in needed:
        if each in known:
            continue
        if each.op.kind == "input":
            known[each] = inputs[each.attrs[0]]
        elif each.op.kind in _PURE or each.op.name == "iota":
            args = [
                known[s] if type(s) is Node else numbers[s.index] if type(s) is Argument else s
                for s in each.src
            ]
            known[each] = evaluate(each, args)
        else:
            return None
    return known[node]
