"""Calls on distributed tensors: recorded once on the whole tensors, then done on the parts.

Note [Partitioning]
A call is recorded on placeholders of the whole tensors' shapes, so that its body sees these, and
becomes a handful of nodes. Each node then becomes a step on this rank's parts (`local.py`), with
their places on the tape, after steps that bring its sources to types that fit (Note [Types along a
mesh]): what is Partial stays so where the row is linear, what is split stays so where the dimension
is carried (`carrying.py`), a sum over the split dimension is Partial, what is whole is cut to meet
parts, and what fits nothing is made whole. Whole means Invariant, and becomes Replicated before it
meets parts; so each move's dual makes the gradients right, and a gradient lies as its tensor does.

Which steps these are follows from the call, its numbers and the layouts of its tensors alone. So a
`Plan` of them is made once, and a call that is like an earlier one runs its steps on other parts.
Only of a call that draws random numbers it is made each time.

A call with operations that have no such form (library calls, scatters) is done on whole tensors.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from flambeau import record
from flambeau.device import cpu, device
from flambeau.distributed.carrying import carried, constant_along
from flambeau.distributed.moves import Move
from flambeau.distributed.tensor.local import NoForm, local_form
from flambeau.distributed.tensor.placement import Layout, route
from flambeau.distributed.types import I, P, R, S, Type, linear_groups
from flambeau.ir.graph import INPUT, PICK, Node
from flambeau.ir.recorded import Recorded
from flambeau.ops.rows import ROWS
from flambeau.ops.table import HOLE, expand_composite, specs_of
from flambeau.tape import modes
from flambeau.tensor import Tensor, make, over


@dataclass(frozen=True)
class Part:
    """This rank's part of a value, while a call is planned.

    Attributes:
        place: of the part among the values of the plan.
        layout: of the whole.
        tracked: whether it has a gradient.
    """

    place: int
    layout: Layout
    tracked: bool


@dataclass
class Plan:
    """The steps of a call on one rank's parts.

    Attributes:
        inputs: how many parts the call is given.
        steps: what gives the next value, and the places of what it takes: the inputs come first,
            then the value of each step.
    """

    inputs: int
    steps: list[tuple[Callable[..., Any], tuple[int, ...]]] = field(default_factory=list)

    def run(self, parts: list[Any]) -> list[Any]:
        """All values, for some parts."""
        values = list(parts)
        for function, places in self.steps:
            values.append(function(*[values[p] for p in places]))
        return values


def hollow(shape: tuple[int, ...], dtype: Any) -> Tensor:
    """A tensor without a value."""
    node = Node(INPUT, (), (-1,), shape, dtype)
    return over(record.Cell(node, _NOWHERE), shape, dtype)


_NOWHERE = device("meta")


class Partition:
    """Makes the steps of recorded nodes.

    Args:
        mesh: whose ranks have the parts.
        given: (placeholder, layout, whether it has a gradient) of each of the call's tensors.

    Attributes:
        plan: the steps so far.
    """

    def __init__(self, mesh: Any, given: list[tuple[Node, Layout, bool]]) -> None:
        self.mesh = mesh
        self.plan = Plan(len(given))
        self.made: dict[Node, Any] = {}
        for k, (node, layout, tracked) in enumerate(given):  # axes cut as they come from here on
            self.made[node] = self.laid(Part(k, layout, tracked), replace(layout, order=None))
        self.whole = (I,) * mesh.ndim

    def step(self, function: Callable[..., Any], sources: list[Part], layout: Layout) -> Part:
        """Add a step."""
        self.plan.steps.append((function, tuple(s.place for s in sources)))
        place = self.plan.inputs + len(self.plan.steps) - 1
        return Part(place, layout, any(s.tracked for s in sources))

    def to(self, part: Part, types: tuple[Type, ...]) -> Part:
        """The same value in another layout."""
        return self.laid(part, replace(part.layout, types=types))

    def laid(self, part: Part, layout: Layout) -> Part:
        """The same value in another layout, of the same shape."""
        for move in route(part.layout, layout):
            part = self.step(move.apply, [part], layout)
        return replace(part, layout=layout)

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
            departs = node.op.departs
            if departs(node) if callable(departs) else departs:
                raise NoForm(node.op.name)
            if node.op.batch == "rows" and (found := self._by_rows(node)) is not None:
                return found
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
        function = local_form(node, [s.layout for s in sources], layout)
        return self.step(function, sources, layout)

    def _by_rows(self, node: Node) -> Any:
        """A composite whose first source is any number of rows (`Op.batch`), on this rank's rows;
        None where what is split is not rows, or another source is split."""
        first, *others = (self.made[s] for s in node.src)
        types, shape = first.layout.types, first.layout.shape
        specs = specs_of(node)
        results = ((node.shape, node.dtype),) if specs is None else specs
        dims = {t.dim for t in types if t.dim is not None}
        if not dims or P in types or any(t != I for s in others for t in s.layout.types):
            return None
        for d in dims:
            if (
                d == len(shape) - 1
                or shape[d] < 2
                or any(s[d : d + 1] != shape[d : d + 1] for s, _ in results)
            ):
                return None
        for axis, t in enumerate(types):
            if t != I:
                others = [self._replicated(s, axis) for s in others]
        call, holes = node.op.call, node.attrs if specs is None else node.attrs[:-1]
        assert call is not None

        def on_rows(*parts: Tensor) -> Any:
            given = iter(parts)
            return call(*(next(given) if a == HOLE else a for a in holes))

        whole = self.step(on_rows, [first, *others], first.layout)
        layouts = [Layout(self.mesh, types, s) for s, _ in results]
        if specs is None:
            return replace(whole, layout=layouts[0])
        return tuple(
            self.step(operator.itemgetter(k), [whole], layout) for k, layout in enumerate(layouts)
        )

    def _replicated(self, part: Part, axis: int) -> Part:
        """What is whole along an axis, for work that differs from rank to rank."""
        if not part.tracked:
            return part
        move = Move("convert", self.mesh.get_group(axis), "Invariant", "Replicated")
        return self.step(move.apply, [part], part.layout)

    def _constant(self, node: Node) -> Part:
        """What every rank has: numbers, patterns, random bits of one stream."""
        function = functools.partial(_made, node)
        return self.step(function, [], Layout(self.mesh, self.whole, node.shape))

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
                part = self.to(part, part.layout.along(axis, I if t == R else t).types)
            made.append(self._replicated(part, axis) if t == R else part)
        return made, found

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


def _made(node: Node) -> Tensor:
    """A constant as a tensor."""
    if node.buffer is not None:
        return over(record.Cell(node, cpu), node.shape, node.dtype)
    return make(Node(node.op, node.src, node.attrs, node.shape, node.dtype))


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


__all__ = ["NoForm", "Partition", "Plan", "elementwise_only", "hollow", "record_whole"]
