"""Parts of a graph replaced by others: `replace_pattern`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from flambeau.fx.graph import Graph
from flambeau.fx.graph_module import GraphModule, _copy_attr
from flambeau.fx.node import Node
from flambeau.fx.tracer import symbolic_trace


class Match(NamedTuple):
    """Where a pattern was found.

    Attributes:
        anchor: the node with the pattern's result.
        nodes_map: the pattern's nodes -> those of the graph.
    """

    anchor: Node
    nodes_map: dict[Node, Node]


def _graph_of(pattern: Any) -> Graph:
    if isinstance(pattern, Graph):
        return pattern
    return pattern.graph if isinstance(pattern, GraphModule) else symbolic_trace(pattern).graph


def _same(wanted: Any, found: Any, known: dict[Node, Node]) -> bool:
    """Whether a pattern's argument fits one of the graph; fills `known`."""
    if isinstance(wanted, Node):
        if wanted in known:
            return known[wanted] is found
        if wanted.op == "placeholder":
            if not isinstance(found, Node):
                return False
            known[wanted] = found
            return True
        if not isinstance(found, Node) or (wanted.op, wanted.target) != (found.op, found.target):
            return False
        if not _same(wanted.args, found.args, known) or not _same(
            wanted.kwargs, found.kwargs, known
        ):
            return False
        known[wanted] = found
        return True
    if isinstance(wanted, (tuple, list)):
        same = isinstance(found, (tuple, list)) and len(wanted) == len(found)
        return same and all(_same(a, b, known) for a, b in zip(wanted, found, strict=True))
    if isinstance(wanted, dict):
        same = isinstance(found, dict) and wanted.keys() == found.keys()
        return same and all(_same(wanted[k], found[k], known) for k in wanted)
    return bool(type(wanted) is type(found) and wanted == found)


def _contained(known: dict[Node, Node], result: Node) -> bool:
    """Whether nothing outside uses what is inside, but for the result."""
    inside = {n for p, n in known.items() if p.op != "placeholder"}
    return all(user in inside for n in inside if n is not result for user in n.users)


def replace_pattern(
    gm: GraphModule, pattern: Callable[..., Any] | GraphModule, replacement: Any
) -> list[Match]:
    """Replace every part of a graph that looks like one program by another, and its code.

    Args:
        gm: the module, changed in place.
        pattern: a function or module; its parameters stand for any value.
        replacement: a function or module with the same parameters.

    Returns:
        The places, in order; they do not overlap.
    """
    wanted = _graph_of(pattern)
    new = _graph_of(replacement)
    result = wanted.output_node().args[0]
    inputs = [n for n in wanted.nodes if n.op == "placeholder"]
    assert isinstance(result, Node), "a pattern gives one value"
    taken: set[Node] = set()
    matches: list[Match] = []
    for node in gm.graph.nodes:
        known: dict[Node, Node] = {}
        if not _same(result, node, known) or not _contained(known, node):
            continue
        inside = {n for p, n in known.items() if p.op != "placeholder"}
        if inside & taken:
            continue
        taken |= inside
        matches.append(Match(node, known))
    moved: dict[Node, Node] = {}
    for match in matches:
        given = [match.nodes_map[p] for p in inputs if p in match.nodes_map]
        places = [n for n in new.nodes if n.op == "placeholder"]
        here = {p: moved.get(n, n) for p, n in zip(places, given, strict=False)}
        with gm.graph.inserting_before(match.anchor):
            made = gm.graph.graph_copy(new, here)
        match.anchor.replace_all_uses_with(made)
        moved[match.anchor] = made
        for old in reversed([n for p, n in match.nodes_map.items() if p.op != "placeholder"]):
            if not old.users:
                gm.graph.erase_node(old)
    for source in (replacement, pattern):
        if isinstance(source, GraphModule):
            for node in source.graph.nodes:
                if node.op in ("get_attr", "call_module") and not _there(gm, str(node.target)):
                    _copy_attr(source, gm, str(node.target))
    gm.recompile()
    return matches


def _there(module: Any, path: str) -> bool:
    for part in path.split("."):
        if not hasattr(module, part):
            return False
        module = getattr(module, part)
    return True


__all__ = ["Match", "replace_pattern"]
