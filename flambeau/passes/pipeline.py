"""The passes, in order, each with a line of why."""

from __future__ import annotations

from collections.abc import Callable

from flambeau.ir.graph import Graph, Node
from flambeau.passes.inline import inline
from flambeau.passes.own import own
from flambeau.passes.simplify import simplify
from flambeau.passes.split import split


def lower(graph: Graph, claims: Callable[[Node], bool] = lambda node: False) -> Graph:
    """A recorded graph as the fusion pass wants it."""
    graph = inline(graph, claims)  # named composites that no kernel claims become their bodies
    graph = simplify(graph)  # copies and views that change nothing go; equal values meet
    graph = split(graph)  # reductions become bounded, over adjacent axes
    graph = simplify(graph)  # the views that splitting made meet the others
    return own(graph)  # writes get a base they may overwrite
