"""Cells of rows that apply graphs: ONNX's Scan, If and Loop, whose graphs are theirs.

A graph's inputs that are the same whenever it is applied are values of the graph around it, written
before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flambeau.dtype import bool as bool_
from flambeau.dtype import int64
from flambeau.export.onnx.builder import Builder
from flambeau.export.onnx.cells import cell
from flambeau.export.onnx.layers import arguments
from flambeau.ir.body import Body
from flambeau.ir.graph import INPUT, Node, below


class _Inner:
    """A graph that is to be written, over inputs of its own.

    Args:
        b: of the graph around it.
        body: the graph.
        given: nodes around it; those after the first `own` stand for its inputs.
    """

    def __init__(self, b: Builder, body: Body, given: Sequence[Node], own: int) -> None:
        self.b = b
        self.sources = [Node(INPUT, (), (k,), n.shape, n.dtype) for k, n in enumerate(body.given)]
        self.outs = body.over(self.sources)
        self.specs = [(n.dtype, n.shape) for n in self.outs]
        for source, outer in zip(self.sources[own:], given[own:], strict=True):
            b.set(source, b.value(outer))

    def write(self, values: Sequence[Any] = ()) -> list[Any]:
        """Write its nodes over the values of its first inputs; -> its results."""
        for source, value in zip(self.sources, values, strict=False):
            self.b.set(source, value)
        self.b.write([n for n in below(self.outs, set(self.sources)) if n not in self.sources])
        return [self.b.value(n) for n in self.outs]


@cell("_scan")
def _scan(b: Builder, node: Node) -> Any:
    body, _, carries, slices, kept, reverse, *given = arguments(node)[: len(node.src) + 6]
    inner = _Inner(b, body, given, carries + slices)

    def step(states: list[Any], parts: list[Any]) -> tuple[list[Any], list[Any]]:
        made = inner.write([*states, *parts])
        return made[:carries], [*made[carries:], *(states[k] for k in kept)]

    values = [(b.value(x), s.dtype, s.shape) for x, s in zip(given, inner.sources, strict=True)]
    return b.steps(values[:carries], values[carries : carries + slices], step, 0, reverse)


@cell("_cond")
def _cond(b: Builder, node: Node) -> Any:
    yes, no, pred, *given = arguments(node)[: len(node.src) + 2]
    choice = b.value(pred)
    graphs = []
    for body in (yes, no):
        inner = _Inner(b, body, given, 0)
        graphs.append(b.graph([], inner.write, inner.specs))
    found = b.op(
        "If", choice, then_branch=graphs[0], else_branch=graphs[1], outputs=len(yes.outputs)
    )
    return found if isinstance(found, tuple) else (found,)


@cell("_while")
def _while(b: Builder, node: Node) -> Any:
    body, pred, carries, *given = arguments(node)[: len(node.src) + 2]
    inner = _Inner(b, body, given, carries)
    firsts = [b.value(pred), *map(b.value, given[:carries])]
    states = [b.new("step", n.dtype, n.shape) for n in inner.sources[:carries]]
    number, again = b.new("number", int64, ()), b.new("again", bool_, pred.shape)
    graph = b.graph([number, again, *states], lambda: inner.write(states), inner.specs)
    found = b.op("Loop", None, *firsts, body=graph, outputs=carries)
    return found if isinstance(found, tuple) else (found,)
