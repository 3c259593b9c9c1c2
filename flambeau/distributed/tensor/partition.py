"""Calls on distributed tensors: recorded once on the whole tensors, then done on the parts.

Note [Partitioning]
A call is recorded on placeholders of the whole tensors' shapes, so that its body sees these, and
becomes a handful of nodes. Each node is then done on this rank's parts, with their places on the
tape, after its sources were brought to types that fit (Note [Types along a mesh]): what is Partial
stays so where the row is linear, what is split stays so where the dimension is carried
(`carrying.py`), a sum over the split dimension is Partial, what is whole is cut to meet parts, and
what fits nothing is made whole. Whole means Invariant, and becomes Replicated before it meets
parts; so each move's dual makes the gradients right, and a gradient lies as its tensor does.

A call with operations that have no such form (library calls, scatters) is done on whole tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from flambeau import record
from flambeau.device import cpu, device
from flambeau.distributed import moves
from flambeau.distributed.carrying import carried, constant_along
from flambeau.distributed.tensor.placement import Layout, redistributed
from flambeau.distributed.types import I, P, R, S, Type, linear_groups
from flambeau.ir.graph import CAST, COPY, INPUT, PICK, Node
from flambeau.ir.recorded import Recorded
from flambeau.ops.rows import NAMES, ROWS
from flambeau.ops.table import expand_composite, record_elementwise, specs_of
from flambeau.size import contiguous_strides
from flambeau.tape import modes
from flambeau.tensor import Tensor, make, over


@dataclass
class Part:
    """This rank's part of a value.

    Attributes:
        local: the part, with its place on the tape.
        layout: of the whole.
    """

    local: Tensor
    layout: Layout

    def to(self, types: tuple[Type, ...]) -> Part:
        """The same value in another layout."""
        local = redistributed(self.local, self.layout, types)
        return Part(local, replace(self.layout, types=types))


class NoForm(Exception):
    """An operation that is done on whole tensors."""


def hollow(shape: tuple[int, ...], dtype: Any) -> Tensor:
    """A tensor without a value."""
    node = Node(INPUT, (), (-1,), shape, dtype)
    return over(record.Cell(node, _NOWHERE), shape, dtype)


_NOWHERE = device("meta")


class Partition:
    """Does recorded nodes on parts.

    Args:
        mesh: whose ranks have the parts.
        known: placeholder -> its part.
    """

    def __init__(self, mesh: Any, known: dict[Node, Part]) -> None:
        self.mesh = mesh
        self.made: dict[Node, Any] = dict(known)
        self.whole = (I,) * mesh.ndim

    def of(self, root: Node) -> Part:
        """A node's part.

        Raises:
            NoForm: it has none.
        """
        stack = [root]
        while stack:
            node = stack[-1]
            below = [s for s in node.src if type(s) is Node and s not in self.made]
            if node in self.made:
                stack.pop()
            elif node.buffer is not None:
                self.made[node] = self._constant(node)
            elif below:
                stack += below
            else:
                self.made[node] = self._form(node)
        found = self.made[root]
        return found[0] if isinstance(found, tuple) else found

    def _form(self, node: Node) -> Any:
        if node.op is PICK:
            found = self.made[node.src[0]]
            if not isinstance(found, tuple):
                raise NoForm(node.op.name)
            return found[node.attrs[0]]
        if node.op.kind == "composite":
            if node.op.name in _WHOLE and _WHOLE[node.op.name](node):
                raise NoForm(node.op.name)
            parts = (
                node.op.expand(node) if isinstance(node.op, Recorded) else expand_composite(node)
            )
            made = tuple(self.of(part) for part in parts)
            many = specs_of(node) is not None or isinstance(node.op, Recorded)
            return made if many else made[0]
        if not any(type(s) is Node for s in node.src):
            return self._constant(node)
        if node.op.name == "matmul_biased":
            return self._biased(node)
        sources = [self.made[s] for s in node.src if type(s) is Node]
        types: list[Type] = []
        for axis in range(self.mesh.ndim):
            sources, t = self._meet(node, sources, axis)
            types.append(t)
        layout = Layout(self.mesh, tuple(types), node.shape)
        return Part(_do(node, sources, layout), layout)

    def _constant(self, node: Node) -> Part:
        """What every rank has: numbers, patterns, random bits of one stream."""
        if node.buffer is None:
            local = make(Node(node.op, node.src, node.attrs, node.shape, node.dtype))
        else:
            local = over(record.Cell(node, cpu), node.shape, node.dtype)
        return Part(local, Layout(self.mesh, self.whole, node.shape))

    def _biased(self, node: Node) -> Part:
        product = Node(ROWS["matmul_batched"], node.src[:2], (), node.shape, node.dtype)
        return self.of(Node(ROWS["plus"], (product, node.src[2]), (), node.shape, node.dtype))

    # -- types along one axis ----------------------------------------------------------------------

    def _meet(self, node: Node, sources: list[Part], axis: int) -> tuple[list[Part], Type]:
        """The sources as they fit along an axis, and what the result is."""
        places = [k for k, s in enumerate(node.src) if type(s) is Node]
        types = {k: s.layout.types[axis] for k, s in zip(places, sources, strict=True)}
        want, found = self._fitting(node, types, axis)
        made = []
        for k, part in zip(places, sources, strict=True):
            have, t = types[k], want[k]
            if have != t:
                part = self._brought(part, axis, I if t == R else t)
            if t == R and part.local.requires_grad:  # whole, for work that differs
                group = self.mesh.get_group(axis)
                part = Part(moves.convert(part.local, group, src=I, dst=R), part.layout)
            made.append(part)
        return made, found

    def _brought(self, part: Part, axis: int, t: Type) -> Part:
        """A part with another type along an axis, whatever lies along the others."""
        types = part.layout.types
        return part.to((*types[:axis], t, *types[axis + 1 :]))

    def _fitting(
        self, node: Node, types: dict[int, Type], axis: int
    ) -> tuple[dict[int, Type], Type]:
        """The types that sources are brought to, and the result's."""
        terms = {k for k, t in types.items() if t == P}
        split = {k: t.dim for k, t in types.items() if t.dim is not None}
        if terms and not split:
            for group in linear_groups(node):
                if terms.issubset(group) and all(types.get(k) == P for k in group):
                    return {k: t if t == P else R for k, t in types.items()}, P
        if terms:  # make them whole
            return self._fitting(node, {k: I if t == P else t for k, t in types.items()}, axis)
        if not split:
            return types, I
        return self._split(node, types, split) or (dict.fromkeys(types, I), I)

    def _split(
        self, node: Node, types: dict[int, Type], split: dict[int, Any]
    ) -> tuple[dict[int, Type], Type] | None:
        """As `_fitting`, where sources are split; None where all must be whole."""
        summed = _summed(node, split)
        if summed is not None:
            return {k: S(summed[k]) if k in summed else R for k in types}, P
        for k, dim in split.items():
            found = carried(node, k, dim)
            if found is None or not self._even(node, k, dim, found):
                continue
            want = {}
            for other in types:
                fit = self._along(node, other, found)
                if fit is None:
                    break
                want[other] = fit
            else:
                return want, S(found)
        return None

    def _even(self, node: Node, k: int, dim: int, found: int) -> bool:
        """Whether parts of the source are parts of the result as `chunk` makes them."""
        size, made, count = node.src[k].shape[dim], node.shape[found], self.mesh.size()
        return size == made or not (size % count or made % count)

    def _along(self, node: Node, k: int, found: int) -> Type | None:
        """What a source must be where the result is split along a dimension."""
        shape = node.src[k].shape
        for dim in range(len(shape)):
            if shape[dim] > 1 and carried(node, k, dim) == found:
                return S(dim)
        return R if constant_along(node, k, found) else None


def _summed(node: Node, split: dict[int, int]) -> dict[int, int] | None:
    """Where the result is a sum over what is split: the dimensions that are, by source."""
    if node.op.name == "sum_axes":
        rank = len(node.src[0].shape)
        return dict(split) if split[0] in {a % rank for a in node.attrs[0]} else None
    if node.op.kind == "contraction":
        inner = {0: len(node.src[0].shape) - 1, 1: len(node.src[1].shape) - 2}
        if any(inner[k] == dim for k, dim in split.items()):
            return inner
    if node.op.kind == "index" and len(node.src) == 2 and split == {0: 0}:
        return {0: 0}
    return None


# -- doing a node on parts -------------------------------------------------------------------------


def _do(node: Node, sources: list[Part], layout: Layout) -> Tensor:
    kind = node.op.kind
    rule = _DO.get(node.op.name) or _DO.get(kind)
    if rule is None:
        raise NoForm(node.op.name)
    found: Tensor = rule(node, sources, layout)
    return found


def _elementwise(node: Node, sources: list[Part], layout: Layout) -> Any:
    if node.op is CAST:
        return NAMES["to_dtype"](sources[0].local, node.dtype)
    if node.op is COPY:
        return sources[0].local.clone()
    given = iter(sources)
    args = tuple(next(given).local if type(s) is Node else s for s in node.src)
    found = record_elementwise(node.op, args)
    if found._shape != layout.local_shape:
        found = NAMES["broadcast_to"](found, layout.local_shape)
    return found


def _local_view(
    source: Layout, result: Layout, shape: tuple[int, ...], strides: tuple[int, ...], offset: int
) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    """The strides of the same view of this rank's part."""
    whole, sizes, steps = list(source.shape), list(shape), list(strides)
    place = source.mesh.get_coordinate()
    for axis, t in enumerate(source.types):
        if t.dim is None:
            continue
        found = result.types[axis].dim
        assert found is not None
        here = source.sizes(axis)[place[axis]]
        block = contiguous_strides(tuple(whole))[t.dim] * whole[t.dim]
        part = block // whole[t.dim] * here
        sizes[found] = sizes[found] * here // whole[t.dim]
        steps = [s // block * part if s % block == 0 else s for s in steps]
        offset = offset // block * part + offset % block
        whole[t.dim] = here
    return tuple(sizes), tuple(steps), offset


def _strided(x: Tensor, shape: Any, strides: Any, offset: int) -> Any:
    """Row-major storage read with strides, of which some may go backwards."""
    back = [d for d, s in enumerate(strides) if s < 0]
    if back:
        offset += sum((shape[d] - 1) * strides[d] for d in back)
        return NAMES["flip"](_strided(x, shape, tuple(map(abs, strides)), offset), back)
    plain = x.contiguous()
    if shape == plain._shape and strides == contiguous_strides(shape):
        return plain
    return NAMES["as_strided"](plain, shape, strides, offset + plain.storage_offset())


def _view(node: Node, sources: list[Part], layout: Layout) -> Any:
    (x,) = sources
    return _strided(x.local, *_local_view(x.layout, layout, node.shape, *node.attrs))


def _assign(node: Node, sources: list[Part], layout: Layout) -> Any:
    base, value = sources
    shape, strides, offset = node.attrs
    inner = Layout(layout.mesh, value.layout.types, shape)
    if len(value.layout.shape) != len(shape) or value.layout.shape != shape:
        if any(t.dim is not None for t in value.layout.types):
            raise NoForm("assign")
    region = _local_view(layout, inner, shape, strides, offset)
    given = NAMES["broadcast_to"](value.local, region[0])
    return ROWS["assign_region"].call(base.local.contiguous(), given, *region)  # type: ignore[misc]


def _reduce(node: Node, sources: list[Part], layout: Layout) -> Any:
    assert node.op.call is not None
    return node.op.call(sources[0].local, *node.attrs)


def _contraction(node: Node, sources: list[Part], layout: Layout) -> Any:
    assert node.op.call is not None
    return node.op.call(*(s.local for s in sources))


def _index(node: Node, sources: list[Part], layout: Layout) -> Any:
    """Rows of a table; where its rows are split, those of this rank, and zeros for the others.

    An index that no rank has is left to the first or the last, which raises."""
    assert node.op.call is not None
    table, *indices = sources
    place = layout.mesh.get_coordinate()
    start, count = 0, -1
    for axis, t in enumerate(table.layout.types):
        if t.dim == 0 and layout.types[axis] == P:
            sizes = table.layout.sizes(axis)
            start, count = start + sum(sizes[: place[axis]]), sizes[place[axis]]
    if count < 0:
        return node.op.call(table.local, *(i.local for i in indices))
    at = indices[0].local - start
    mine = (at >= 0) | (not start)
    if start + count < table.layout.shape[0]:
        mine &= at < count
    if not count:
        return NAMES["zeros"](layout.local_shape, dtype=node.dtype) + table.local.sum()
    rows = node.op.call(table.local, NAMES["where"](mine, at, 0))
    return NAMES["where"](mine.reshape(*at._shape, *(1,) * (rows.dim() - at.dim())), rows, 0.0)


_DO: dict[str, Callable[[Node, list[Part], Layout], Any]] = {
    "elementwise": _elementwise,
    "view": _view,
    "assign": _assign,
    "reduce": _reduce,
    "scan": _reduce,
    "contraction": _contraction,
    "index": _index,
}


#: Rows whose derivative is not that of their body -> for which calls.
_WHOLE: dict[str, Callable[[Node], bool]] = {
    "_embedding": lambda node: node.attrs[-1] >= 0,  # a row without gradient
}


def elementwise_only(roots: list[Node]) -> bool:
    """Whether results are made element by element of sources, and of numbers."""
    stack, seen = list(roots), set()
    while stack:
        node = stack.pop()
        if node in seen or node.op is INPUT:
            continue
        seen.add(node)
        if node.op.kind == "composite":
            stack += [
                *(node.op.expand(node) if isinstance(node.op, Recorded) else expand_composite(node))
            ]
        elif node.op is not PICK and (
            node.op.kind != "elementwise"
            or (node.shape and not any(type(s) is Node for s in node.src))
        ):
            return False
        stack += [s for s in node.src if type(s) is Node]
    return True


def record_whole(call: Callable[[], Any]) -> Any:
    """Record a call on placeholders, without tape entries and without running anything."""
    was, modes.grad = modes.grad, False
    typing, modes.types = modes.types, None
    try:
        with record.tracing():
            return call()
    finally:
        modes.grad, modes.types = was, typing


__all__ = ["NoForm", "Part", "Partition", "elementwise_only", "hollow", "record_whole"]
