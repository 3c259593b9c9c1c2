"""Cut long reductions in two: for parallel work, for shorter (more accurate) sums, and so that
every reduction runs over one group of adjacent axes."""

from __future__ import annotations

import math

from flambeau.dtype import dtype as DType
from flambeau.dtype import float32
from flambeau.ir.graph import CAST, VIEW, Graph, Node
from flambeau.ir.symbol import SymInt, at_hand, factors, fixed
from flambeau.ops.rows import ROWS
from flambeau.size import contiguous_strides

_ROW_LIMIT = 1 << 17  # longest row one iteration reduces when there are other rows
_LONE_LIMIT = 4096  # ... when there are too few rows to share
_FEW = 8
_COLUMN_LIMIT = 256  # rows added one after another when columns are reduced
_LOOSE = 8  # how much longer the parts of a symbolic size may be


def split(graph: Graph) -> Graph:
    """The graph with every reduction bounded and over adjacent axes."""
    made: dict[Node, Node] = {}
    for node in graph.walk():
        src = tuple(made[s] if type(s) is Node else s for s in node.src)
        if node.op.kind == "reduce":
            made[node] = _reduce(node, src[0])
        else:
            made[node] = (
                node if src == node.src else Node(node.op, src, node.attrs, node.shape, node.dtype)
            )
    return graph.rewritten(made)


def _shaped(x: Node, shape: tuple[int, ...]) -> Node:
    if x.shape == shape:
        return x
    return Node(VIEW, (x,), (contiguous_strides(shape), 0), shape, x.dtype)


def _reduce(node: Node, x: Node) -> Node:
    """`node` over source `x`: merged into (outer, reduced, inner) groups, then cut."""
    if x.dtype.hosted:
        return Node(node.op, (x,), node.attrs, node.shape, node.dtype)
    axes = tuple(a for a in node.attrs[0] if x.shape[a] != 1)
    if not axes or 0 in x.shape or not node.op.splits:
        if not axes and node.op.splits:
            return _finish(node, _shaped(x, node.shape))
        if not axes and node.op.name.startswith("arg") and x.numel:
            return Node(ROWS["fill_value"], (0,), (), node.shape, node.dtype)
        return Node(node.op, (x,), node.attrs, node.shape, node.dtype)
    # groups of adjacent axes, kept (False) or reduced (True), size-1 axes dropped
    groups: list[tuple[bool, int]] = []
    for i, n in enumerate(x.shape):
        if n == 1:
            continue
        kind = i in axes
        if groups and groups[-1][0] == kind:
            groups[-1] = (kind, groups[-1][1] * n)
        else:
            groups.append((kind, n))
    near = x.op is VIEW and x.attrs[0][axes[-1]] == 1
    while True:
        at = max(i for i, (kind, _) in enumerate(groups) if kind)
        sizes = tuple(n for _, n in groups)
        n = sizes[at]
        others = math.prod(sizes) // n
        cut = _cut(n, others, near or at == len(groups) - 1, x)
        near = False
        if cut:
            sizes = (*sizes[:at], n // cut, cut, *sizes[at + 1 :])
            groups = [*groups[:at], (True, n // cut), *groups[at:]]
            groups[at + 1] = (True, cut)
            at += 1
        rest = (*sizes[:at], *sizes[at + 1 :])
        groups = groups[:at] + groups[at + 1 :]
        # neighbours of one kind meet once the group between them is gone
        x = Node(node.op, (_shaped(x, sizes),), ((at,),), rest, _accumulator(node))
        merged: list[tuple[bool, int]] = []
        for kind, size in groups:
            if merged and merged[-1][0] == kind:
                merged[-1] = (kind, merged[-1][1] * size)
            else:
                merged.append((kind, size))
        groups = merged
        if not any(kind for kind, _ in groups):
            return _finish(node, _shaped(x, node.shape))


def _accumulator(node: Node) -> DType:
    """Partial sums of half types stay in float32."""
    narrow = node.dtype.category == 2 and node.dtype.itemsize < 4
    return float32 if narrow and node.op.name in ("sum_axes", "prod_axes") else node.dtype


def _finish(node: Node, x: Node) -> Node:
    return x if x.dtype is node.dtype else Node(CAST, (x,), (), node.shape, node.dtype)


def _cut(n: int, others: int, near: bool, x: Node) -> int:
    """Length of the inner part of a reduction over n, or 0 to leave it whole; `near`: its elements
    lie side by side, or are made so."""
    if near:
        limit = _LONE_LIMIT if others < _FEW else _ROW_LIMIT
        if n <= limit:
            return 0
        # cut where a dimension of the source ends, if there is such a place
        natural = 1
        for size in reversed(x.shape):
            if natural * size > limit or n % (natural * size):
                break
            natural *= size
        if natural >= 64:
            return natural
        return _divisor(n, 512, 4096)
    return (_divisor(n, 32, 128) or _divisor(n, 16, 31)) if n > _COLUMN_LIMIT else 0


def _divisor(n: int, low: int, high: int) -> int:
    """A divisor of n in [low, high], the one nearest sqrt(low * high); 0 if there is none.

    Of a symbolic size (Note [Symbolic sizes] in `ir/symbol.py`) one that divides it whatever it is;
    a long one that has none is taken as it is at hand.
    """
    middle = math.isqrt(low * high)
    if isinstance(n, SymInt):
        found = [d for d in factors(n, _LOOSE * high) if at_hand(d) >= low]
        if found or n <= _LOOSE * high:
            return min(found, key=lambda d: abs(at_hand(d) - middle), default=0)
        n = fixed(n)
    found = [d for d in range(low, high + 1) if n % d == 0]
    return min(found, key=lambda d: (d % 16 != 0, abs(d - middle))) if found else 0
