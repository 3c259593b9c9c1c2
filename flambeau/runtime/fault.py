"""Which index was out of range, found after a program failed.

Kernels only say that an index was wrong; which one, and where, is computed here again from the
program's inputs, so that programs without faults pay nothing.
"""

from __future__ import annotations

from typing import Any

from flambeau.ir.fault import fault_of, index_error
from flambeau.ir.graph import Argument, Node, reachable
from flambeau.ir.interpret import evaluate

#: Give up past this many elements of index arithmetic.
MAX_ELEMENTS = 1 << 22
_PURE = ("elementwise", "copy", "view")


def wrong_index(node: Node, inputs: list[Any], numbers: list[Any]) -> Exception:
    """The error of a node one of whose indices is out of range.

    Args:
        inputs: one NumPy array per input of the program's graph.
        numbers: the run-time numbers of the graph's arguments.
    """
    known: dict[Node, Any] = {}
    indices = node.src[1 if node.op.kind == "index" else 2 :]
    found = index_error(node, [_value(index, inputs, numbers, known) for index in indices])
    if found is None:  # it takes more than arithmetic to know which
        fault = fault_of(node)
        known_words = fault.message if "{" not in fault.message else "index out of range in self"
        found = fault.error(known_words)
    return found


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
