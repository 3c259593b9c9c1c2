"""What every graph must satisfy; run after each pass by the tests and under `FLAMBEAU_VERIFY=1`."""

from __future__ import annotations

from typing import Any

from flambeau.ir.graph import CAST, COPY, PICK, Argument, Graph, Node
from flambeau.size import broadcast_shapes


class InvalidGraph(AssertionError):
    """A graph that breaks a rule of the IR; the message names the node."""


def verify(graph: Graph, after: str = "recording") -> None:
    """Check a graph.

    Args:
        after: what made it, for the message.

    Raises:
        InvalidGraph: a source after its user, a shape or dtype that does not follow from the
            sources, a view or write outside its storage, or an input or argument that is not there.
    """
    seen: set[Node] = set()
    for node in graph.nodes:
        problem = _problem(node, seen, graph)
        if problem:
            raise InvalidGraph(f"after {after}: {node} of {list(node.src)} {node.attrs}: {problem}")
        seen.add(node)
    for node, home in graph.outputs:
        if node not in seen:
            raise InvalidGraph(f"after {after}: output {node} is not in the graph")
        if home is not None and home >= len(graph.inputs):
            raise InvalidGraph(
                f"after {after}: output {node} has home {home} of {len(graph.inputs)} inputs"
            )
        if home is not None and home >= 0 and graph.inputs[home].nbytes != node.nbytes:
            raise InvalidGraph(
                f"after {after}: output {node} does not fit its home {graph.inputs[home]}"
            )
    if len({n for n, _ in graph.outputs}) != len(graph.outputs):
        raise InvalidGraph(f"after {after}: one node is two outputs")


def _problem(node: Node, seen: set[Node], graph: Graph) -> str | None:
    for s in node.src:
        if isinstance(s, Node):
            if s not in seen:
                return f"source {s} does not stand before it"
        elif isinstance(s, Argument):
            if not 0 <= s.index < graph.arguments:
                return f"argument {s.index} of {graph.arguments}"
        elif not isinstance(s, (bool, int, float)):
            return f"source {s!r} is neither a node nor a number"
    rule = _RULES.get(node.op.kind)
    return rule(node) if rule else None


def _nodes(node: Node) -> list[Node]:
    return [s for s in node.src if isinstance(s, Node)]


def _input(node: Node) -> str | None:
    return None if not node.src else "an input has no sources"


def _elementwise(node: Node) -> str | None:
    sources = _nodes(node)
    if node.op in (CAST, COPY) and len(sources) != 1:
        return f"{len(sources)} sources that are nodes"
    try:
        shape = broadcast_shapes(node.shape, *(s.shape for s in sources))
    except RuntimeError as error:
        return str(error)
    if shape != node.shape:
        return f"sources broadcast to {shape}"
    moving = [
        s.dtype for i, s in enumerate(node.src) if isinstance(s, Node) and i not in node.op.fixed
    ]
    if len(set(moving)) > 1:
        return f"sources of dtypes {moving}"
    if (
        moving
        and node.op.result == "same"
        and node.op not in (CAST, COPY)
        and node.op.name not in ("to_dtype", "clone")
        and moving[0] is not node.dtype
    ):
        return f"a {moving[0]} source"
    return None


def _span(shape: tuple[int, ...], strides: tuple[int, ...], offset: int) -> tuple[int, int]:
    low = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True) if s < 0)
    high = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True) if s > 0)
    return low, high


def _inside(shape: Any, strides: Any, offset: int, storage: Node) -> str | None:
    if len(shape) != len(strides):
        return f"{len(strides)} strides for {len(shape)} sizes"
    if 0 in shape:
        return None
    low, high = _span(shape, strides, offset)
    if low < 0 or high >= storage.numel:
        return f"reaches elements {low}..{high} of {storage.numel}"
    return None


def _view(node: Node) -> str | None:
    source = _nodes(node)[0]
    if source.dtype is not node.dtype:
        return f"a {source.dtype} source"
    strides, offset = node.attrs
    return _inside(node.shape, strides, offset, source)


def _assign(node: Node) -> str | None:
    base, value = _nodes(node)
    shape, strides, offset = node.attrs
    if base.shape != node.shape or value.shape != shape:
        return f"a base of {base.shape} and a value of {value.shape} for a region of {shape}"
    if base.dtype is not node.dtype or value.dtype is not node.dtype:
        return f"a base of {base.dtype} and a value of {value.dtype}"
    return _inside(shape, strides, offset, base)


def _reduce(node: Node) -> str | None:
    x = _nodes(node)[0]
    axes = node.attrs[0]
    if any(not 0 <= a < len(x.shape) for a in axes):
        return f"axes of a source of {x.shape}"
    shape = tuple(n for i, n in enumerate(x.shape) if i not in axes)
    return None if shape == node.shape else f"reduces to {shape}"


def _scan(node: Node) -> str | None:
    x = _nodes(node)[0]
    if not 0 <= node.attrs[0] < len(x.shape):
        return f"an axis of a source of {x.shape}"
    return None if x.shape == node.shape else f"a source of {x.shape}"


def _contraction(node: Node) -> str | None:
    a, b, *bias = _nodes(node)
    if a.shape[-1] != b.shape[-2]:
        return f"{a.shape} times {b.shape}"
    if bias and bias[0].shape != b.shape[-1:]:
        return f"a bias of {bias[0].shape}"
    shape = (*broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])
    return None if shape == node.shape else f"gives {shape}"


def _index(node: Node) -> str | None:
    x, *indices = _nodes(node)
    if any(i.dtype.category != 1 or i.shape != indices[0].shape for i in indices):
        return "indices are integers of one shape"
    shape = indices[0].shape + x.shape[len(indices) :]
    return None if shape == node.shape else f"gives {shape}"


def _index_put(node: Node) -> str | None:
    base, value, *indices = _nodes(node)
    shape = indices[0].shape + base.shape[len(indices) :]
    if base.shape != node.shape or value.shape != shape:
        return f"a base of {base.shape} and a value of {value.shape} at {shape}"
    return None


def _composite(node: Node) -> str | None:
    return None if node.attrs else "a kept composite has its arguments as attributes"


def _host(node: Node) -> str | None:
    if node.op is PICK and not node.src:
        return "a pick has a source"
    if node.src and not isinstance(node.src[0], Node):
        return "a library call takes a value first"
    return None


_RULES = {
    "input": _input,
    "elementwise": _elementwise,
    "view": _view,
    "assign": _assign,
    "reduce": _reduce,
    "scan": _scan,
    "contraction": _contraction,
    "index": _index,
    "index_put": _index_put,
    "composite": _composite,
    "host": _host,
}
