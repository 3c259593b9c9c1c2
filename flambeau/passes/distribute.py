"""Elementwise work on values that were joined is done on their parts, and the results are joined.

`cat` writes its parts into fresh memory one after another, and the gradient of a section is written
among zeros. Where all that reads it is elementwise,
nothing needs that memory: f(cat(a, b), c) is cat(f(a, c[:n]), f(b, c[n:])), and what stands before
and after the joining can be one region. Rotary embeddings are made of this, and so are gradients of
sections.
"""

from __future__ import annotations

import math
from typing import Any

from flambeau.ir.graph import ASSIGN, EMPTY, VIEW, Graph, Node
from flambeau.ir.region import box_of
from flambeau.ops.rows import ROWS
from flambeau.size import contiguous_strides

_MOST_PARTS = 4

Cut = tuple[int, int]  # where a part begins and ends


class Join:
    """A value joined of parts along a dimension.

    Attributes:
        dim: the dimension.
        parts: where each begins and ends, and its value, in order.
    """

    def __init__(self, dim: int, parts: dict[Cut, Node]) -> None:
        self.dim, self.parts = dim, parts


def distribute(graph: Graph) -> Graph:
    """The graph with elementwise nodes taken to the parts of what they read."""
    return _Distributor(graph).run()


class _Distributor:
    """The state of one pass."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.users = graph.users()
        self.outputs = {n for n, _ in graph.outputs}
        self.made: dict[Node, Node] = {}
        self.old: dict[Node, Node] = {}  # a replacement -> what it stands for
        self.joins: dict[Node, Join] = {}  # by replacement

    def run(self) -> Graph:
        """Rewrite all nodes."""
        for node in self.graph.walk():
            src = tuple(self.made[s] if type(s) is Node else s for s in node.src)
            new = self.taken_apart(node, src) or self.narrowed(node, src)
            if new is None:
                same = src == node.src
                new = node if same else Node(node.op, src, node.attrs, node.shape, node.dtype)
                if node.op is ASSIGN and (found := joined(new)) is not None:
                    self.joins[new] = found
            self.made[node] = new
            self.old.setdefault(new, node)
        return self.graph.rewritten(self.made)

    def taken_apart(self, node: Node, src: tuple[Any, ...]) -> Node | None:
        """An elementwise node as a joining of its parts, or None where that does not serve."""
        if node.op.kind != "elementwise":
            return None
        for before, s in zip(node.src, src, strict=True):
            join = self.joins.get(s) if type(s) is Node else None
            if join is not None and s.shape == node.shape and self.passes_on(before):
                parts = {}
                for cut in join.parts:
                    parts[cut] = self.part(node, src, join.dim, cut)
                return self.joined(node, Join(join.dim, parts))
        return None

    def passes_on(self, node: Node) -> bool:
        """Whether only elementwise nodes of its shape read a joined value."""
        users = self.users[node]
        return node not in self.outputs and all(
            u.op.kind == "elementwise" and u.shape == node.shape for u in users
        )

    def joined(self, node: Node, join: Join) -> Node:
        """Fresh memory with all parts written into it."""
        strides = contiguous_strides(node.shape)
        whole = Node(EMPTY, (), (), node.shape, node.dtype)
        for (start, _), part in join.parts.items():
            attrs = (part.shape, strides, start * strides[join.dim])
            whole = Node(ASSIGN, (whole, part), attrs, node.shape, node.dtype)
        self.joins[whole] = join
        return whole

    def narrowed(self, node: Node, src: tuple[Any, ...]) -> Node | None:
        """A section of an elementwise value that is only read by sections, computed as one."""
        if node.op is not VIEW or src[0].op.kind != "elementwise":
            return None
        x = src[0]
        box = box_of((node.shape, *node.attrs), x.shape)
        cuts = [d for d, n in enumerate(x.shape) if box is not None and box[d] != (0, n)]
        if box is None or len(cuts) != 1 or not self.divides(x):
            return None
        return self.part(x, x.src, cuts[0], box[cuts[0]])

    def divides(self, x: Node) -> bool:
        """Whether a value is computed no more often if its readers compute parts of it."""
        before = self.old[x]
        users = self.users[before]
        return (
            any(type(s) is Node for s in x.src)
            and before not in self.outputs
            and (
                len(users) == 1
                or (
                    all(u.op is VIEW for u in users)
                    and sum(math.prod(u.shape) for u in users) <= x.numel
                )
            )
        )

    def part(self, x: Node, src: tuple[Any, ...], dim: int, cut: Cut) -> Node:
        """A section of an elementwise node, with these sources."""
        pieces = tuple(self.piece(s, dim - len(x.shape), cut) for s in src)
        return Node(x.op, pieces, x.attrs, part_shape(x.shape, dim, cut), x.dtype)

    def piece(self, x: Any, dim: int, cut: Cut) -> Any:
        """What a section reads of a source; `dim` is counted from the end."""
        if type(x) is not Node:
            return x
        d = dim + len(x.shape)
        if d < 0 or x.shape[d] == 1:
            return x
        join = self.joins.get(x)
        if join is not None and join.dim == d and cut in join.parts:
            return join.parts[cut]
        if x.op.kind == "elementwise" and x in self.old and self.divides(x):
            return self.part(x, x.src, d, cut)
        strides = contiguous_strides(x.shape)
        attrs = (strides, cut[0] * strides[d])
        return Node(VIEW, (x,), attrs, part_shape(x.shape, d, cut), x.dtype)


def part_shape(shape: tuple[int, ...], dim: int, cut: Cut) -> tuple[int, ...]:
    """The shape of a part."""
    return (*shape[:dim], cut[1] - cut[0], *shape[dim + 1 :])


def joined(node: Node) -> Join | None:
    """What a chain of writes joins, if they are consecutive sections of fresh memory.

    Where that memory holds one number, what is not written is a section as well.
    """
    dims: set[int] = set()
    parts: dict[Cut, Node] = {}
    at = node
    while at.op is ASSIGN and len(parts) < _MOST_PARTS:
        box = box_of(at.attrs, node.shape)
        if box is None or at.src[1].dtype is not node.dtype:
            return None
        cut = [d for d, n in enumerate(node.shape) if box[d] != (0, n)]
        if len(cut) != 1 or len(dims.union(cut)) != 1:
            return None
        dims.update(cut)
        parts.setdefault(box[cut[0]], at.src[1])  # a later write stands
        at = at.src[0]
    filled = at.op is ROWS["fill_value"]
    if not parts or not (filled or at.op is EMPTY):
        return None
    (dim,) = dims
    end = 0
    whole: dict[Cut, Node] = {}
    for start, stop in [*sorted(parts), (node.shape[dim], node.shape[dim])]:
        if start < end or (start > end and not filled):
            return None
        if start > end:
            shape = part_shape(node.shape, dim, (end, start))
            whole[end, start] = Node(at.op, at.src, at.attrs, shape, at.dtype)
        if stop > start:
            whole[start, stop] = parts[start, stop]
        end = stop
    return Join(dim, whole) if len(whole) <= _MOST_PARTS else None
