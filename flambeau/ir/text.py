"""The IR as text: graphs and fused plans, one line a value, in the order they run."""

from __future__ import annotations

from typing import Any

from flambeau.ir.graph import Argument, Graph, Node
from flambeau.ir.region import Map, Region


def type_text(node: Node) -> str:
    """`f32[2, 3]`-like type of a node."""
    return f"{node.dtype.name}[{', '.join(map(str, node.shape))}]"


class Names:
    """Short names %0, %1, .. in order of appearance."""

    def __init__(self) -> None:
        self.known: dict[Node, str] = {}

    def __call__(self, node: Any) -> str:
        if isinstance(node, Argument):
            return f"$arg{node.index}"
        if not isinstance(node, Node):
            return repr(node)
        if node not in self.known:
            self.known[node] = f"%{len(self.known)}"
        return self.known[node]


def line(node: Node, name: Names) -> str:
    """One node: `%3 = mul(%1, %2) : float32[4]`."""
    arguments = [name(s) for s in node.src]
    if node.op.kind == "input":
        arguments = [f"#{node.attrs[0]}"] if node.attrs else []
    elif node.attrs:
        arguments += [str(a) for a in node.attrs]
    return f"{name(node)} = {node.op.name}({', '.join(arguments)}) : {type_text(node)}"


def graph_text(graph: Graph, title: str = "graph") -> str:
    """A graph, one line a node, then its outputs."""
    name = Names()
    lines = [f"{title} ({len(graph.nodes)} nodes, {graph.arguments} arguments)"]
    lines += ["  " + line(n, name) for n in graph.nodes]
    outs = ", ".join(
        name(n) + ("" if home is None else f" -> #{home}" if home >= 0 else " -> home")
        for n, home in graph.outputs
    )
    return "\n".join([*lines, f"  return {outs}"])


def _map_text(m: Map) -> str:
    terms = [f"{c}*i{d}" if c != 1 else f"i{d}" for d, c in enumerate(m.coefficients) if c]
    if m.offset or not terms:
        terms.insert(0, str(m.offset))
    return "+".join(terms)


def plan_text(plan: Any, order: list[Any]) -> str:
    """A fused plan: every step, for regions the iteration space and what is written; a step that
    runs a second time is only named."""
    name = Names()
    for n in plan.graph.nodes:
        name(n)
    lines = [f"plan ({len(order)} steps)"]
    seen: set[Any] = set()
    for step in order:
        if step in seen:
            what = f"region {step.number}" if isinstance(step, Region) else name(step.node)
            lines.append(f"  again: {what}")
            continue
        seen.add(step)
        if isinstance(step, Region):
            lines += region_lines(step, name, "  ")
            continue
        lines.append(f"  {step.kind}: {line(step.node, name)}")
        for region in step.epilogues:
            lines += region_lines(region, name, "    with ")
    return "\n".join(lines)


def region_lines(region: Region, name: Names, lead: str) -> list[str]:
    """A region: its iteration space, reduced dimensions in parentheses, its members and stores."""
    dims = (
        " x ".join(f"({n})" if d in region.reduced else str(n) for d, n in enumerate(region.dims))
        or "1"
    )
    lines = [f"{lead}region {region.number} over {dims}:"]
    for n in region.members:
        stored = f"  => memory[{_map_text(region.stores[n])}]" if n in region.stores else ""
        lines.append(f"{' ' * len(lead)}  {line(n, name)}{stored}")
    return lines
