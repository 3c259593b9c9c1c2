"""Make of the nodes that were recorded for one example nodes for a batch of examples.

`func.vmap` records a function once, on placeholders that have the shape of one example. A node that
depends on a placeholder becomes one whose result has the batch as its first dimension; a node that
does not is the same for all examples and stays as it is. How a node gets the dimension follows from
its kind: row-major storage of a batch is the examples' storage one after another, so views and
writes keep their strides and get one more; elementwise operations, products and reductions have it
in front; gathers and scatters get the example's number as one more index. Composites are taken
apart, unless their row says how a batch of calls is one call (`Op.batch`); library calls for which
no row says it are made one example after another.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from flambeau import dtypes
from flambeau.ir.body import Body
from flambeau.ir.fault import PLAIN, Fault
from flambeau.ir.graph import ASSIGN, COPY, EMPTY, PICK, Node, below
from flambeau.ir.recorded import Recorded
from flambeau.ops.rows import ROWS
from flambeau.ops.table import expand_composite, specs_of
from flambeau.record import view_node
from flambeau.size import contiguous_strides

#: What stands for a node: its batched form, the forms of its results, or None: it is the same for
#: all examples.
Form = Any


class Batch:
    """The batched forms of nodes.

    Args:
        size: examples in the batch.
        start: nodes with a smaller `order` belong to no example.
        differing: whether each example draws random numbers of its own.
        known: node -> its batched form, from outside; None where there is none.
    """

    def __init__(
        self, size: int, start: int, differing: bool, known: Callable[[Node], Node | None]
    ) -> None:
        self.size = size
        self.start = start
        self.differing = differing
        self.known = known
        self.made: dict[Node, Form] = {}

    def of(self, node: Node) -> Form:
        """The batched form of a node.

        Raises:
            RuntimeError: an effect on values that differ between examples.
        """
        stack = [node]
        while stack:
            at = stack[-1]
            if at in self.made:
                stack.pop()
                continue
            found = self.known(at)
            if found is not None or at.order < self.start or at.buffer is not None:
                self.made[at] = found
                stack.pop()
                continue
            below = [s for s in at.src if type(s) is Node and s not in self.made]
            if below:
                stack += below
                continue
            stack.pop()
            self.made[at] = self._form(at)
        return self.made[node]

    def _form(self, node: Node) -> Form:
        forms = [self.made[s] if type(s) is Node else None for s in node.src]
        if all(f is None for f in forms):
            if not (self.differing and node.op.batch == "draw"):
                return None
        if node.op is PICK:
            whole, which = forms[0], node.attrs[0]
            if isinstance(whole, tuple):
                return whole[which]
            return Node(PICK, (whole,), node.attrs, (self.size, *node.shape), node.dtype)
        forms = [f if f is None else _first(f) for f in forms]
        src = tuple(s if f is None else f for s, f in zip(node.src, forms, strict=True))
        has = tuple(f is not None for f in forms)
        rule = node.op.batch
        if callable(rule):
            found = rule(node, src, has, self.size)
            if found is not None:
                return found
        elif rule == "draw":
            if self.differing:
                return _again(node, [led(s, h, self.size) for s, h in _pairs(src, has)], self.size)
            return _one_by_one(self, node, src, has)
        elif rule == "steps":
            return _steps(self, node, src, has)
        elif rule == "rows":
            if not any(has[1:]):
                return _shifted(node, list(src), ())
        elif isinstance(rule, tuple) and (
            node.src[0].shape or not rule
        ):  # 0-d: dimension 0 of none
            return _shifted(node, [led(s, h, self.size) for s, h in _pairs(src, has)], rule)
        return KINDS[node.op.kind](self, node, src, has)


def _pairs(src: tuple[Any, ...], has: tuple[bool, ...]) -> Any:
    return zip(src, has, strict=True)


def _again(node: Node, src: Any, size: int, attrs: Any = None) -> Node:
    """The same operation with the batch in front of its result."""
    chosen = node.attrs if attrs is None else attrs
    return Node(node.op, tuple(src), chosen, (size, *node.shape), node.dtype)


def led(source: Any, has: bool, size: int) -> Any:
    """A source with the batch in front: repeated for every example, where it has none."""
    if has or type(source) is not Node:
        return source
    strides = (0, *contiguous_strides(source.shape))
    return view_node(source, (size, *source.shape), strides, 0)


def _viewed(source: Node, shape: tuple[int, ...]) -> Node:
    """A node's elements in the same order under another shape."""
    if source.shape == shape:
        return source
    return view_node(source, shape, contiguous_strides(shape), 0)


def _aligned(source: Any, has: bool, rank: int) -> Any:
    """A source whose examples broadcast to `rank` dimensions, with ones behind the batch."""
    if not has or len(source.shape) == rank + 1:
        return source
    batch, *rest = source.shape
    return _viewed(source, (batch, *(1,) * (rank - len(rest)), *rest))


def _shifted(node: Node, src: list[Any], places: tuple[int, ...]) -> Node:
    """The same operation with dimensions among its attributes counted from behind the batch."""
    size = next(s.shape[0] for s in src if type(s) is Node)

    def moved(a: Any) -> Any:
        if isinstance(a, tuple):
            return tuple(moved(x) for x in a)
        return a + 1 if a >= 0 else a

    attrs = tuple(moved(a) if i in places else a for i, a in enumerate(node.attrs))
    specs = specs_of(node)
    if specs is not None:
        attrs = (*attrs[:-1], tuple(((size, *shape), d) for shape, d in specs))
    return _again(node, src, size, attrs)


# -- by kind ---------------------------------------------------------------------------------------


def _elementwise(batch: Batch, node: Node, src: Any, has: Any) -> Form:
    rank = len(node.shape)
    return _again(node, [_aligned(s, h, rank) for s, h in _pairs(src, has)], batch.size)


def _view(batch: Batch, node: Node, src: Any, has: Any) -> Form:
    strides, offset = node.attrs
    step = math.prod(src[0].shape[1:])
    return _again(node, src, batch.size, ((step, *strides), offset))


def _assign(batch: Batch, node: Node, src: Any, has: Any) -> Form:
    shape, strides, offset = node.attrs
    base, value = (led(s, h, batch.size) for s, h in _pairs(src, has))
    if not has[0]:
        base = Node(COPY, (base,), (), base.shape, base.dtype)
    value = _aligned(value, True, len(shape))
    step = math.prod(node.shape)
    return _again(node, (base, value), batch.size, ((batch.size, *shape), (step, *strides), offset))


def _along(batch: Batch, node: Node, src: Any, has: Any) -> Form:
    return _shifted(node, list(src), (0,))


def _contraction(batch: Batch, node: Node, src: Any, has: Any) -> Form:
    """A product, of one matrix with all examples' rows or columns where the other is shared."""
    size = batch.size
    if len(src) == 3:
        product = Node(ROWS["matmul_batched"], node.src[:2], (), node.shape, node.dtype)
        form = (
            _contraction(batch, product, src[:2], has[:2])
            if any(has[:2])
            else led(product, False, size)
        )
        bias = _aligned(src[2], has[2], len(node.shape))
        return Node(ROWS["plus"], (form, bias), (), form.shape, node.dtype)
    a, b = src
    rank = len(node.shape)
    if rank == 2 and not has[1]:
        _, m, k = a.shape
        rows = _viewed(a, (size * m, k))
        flat = Node(node.op, (rows, b), (), (size * m, b.shape[1]), node.dtype)
        return _viewed(flat, (size, *node.shape))
    if rank == 2 and not has[0] and b.shape[2] == 1:
        m, k = a.shape
        turned = view_node(a, (k, m), (1, k), 0)
        flat = Node(node.op, (_viewed(b, (size, k)), turned), (), (size, m), node.dtype)
        return _viewed(flat, (size, *node.shape))
    return _again(node, [_aligned(s, h, rank) for s, h in _pairs(src, has)], size)


def _numbers(batch: Batch, shape: tuple[int, ...]) -> Node:
    """The example's number for every index in a batch of `shape`."""
    iota = Node(ROWS["iota"], (), (), (batch.size,), dtypes.int64)
    return view_node(iota, (batch.size, *shape), (1, *(0,) * len(shape)), 0)


def _one_more(fault: Fault, count: int) -> Fault:
    return fault._replace(dims=(0, *(fault.dims or range(count))))


def _index(batch: Batch, node: Node, src: Any, has: Any) -> Form:
    fault = node.attrs[0] if node.attrs else PLAIN
    shape = node.src[1].shape
    indices = [led(s, h, batch.size) for s, h in _pairs(src[1:], has[1:])]
    if has[0]:
        indices = [_numbers(batch, shape), *indices]
        fault = _one_more(fault, len(node.src) - 1)
    return _again(node, (src[0], *indices), batch.size, (fault, *node.attrs[1:]))


def _index_put(batch: Batch, node: Node, src: Any, has: Any) -> Form:
    mode, *rest = node.attrs
    fault = rest[0] if rest else PLAIN
    x, value, *indices = (led(s, h, batch.size) for s, h in _pairs(src, has))
    numbers = _numbers(batch, node.src[2].shape)
    attrs = (mode, _one_more(fault, len(indices)))
    shape = (*node.src[2].shape, *node.shape[len(indices) :])
    value = _aligned(value, True, len(shape))
    return _again(node, (x, value, numbers, *indices), batch.size, attrs)


def _composite(batch: Batch, node: Node, src: Any, has: Any) -> Form:
    parts = node.op.expand(node) if isinstance(node.op, Recorded) else expand_composite(node)
    forms = tuple(_or_led(batch, part) for part in parts)
    return forms if specs_of(node) is not None or isinstance(node.op, Recorded) else forms[0]


def _or_led(batch: Batch, node: Node) -> Node:
    form = batch.of(node)
    return led(node, False, batch.size) if form is None else form


def _over_examples(batch: Batch, body: Body, has: Sequence[bool]) -> tuple[list[Node], list[Form]]:
    """A graph's inputs, with the batch in front where they have one, and its results' forms."""
    size, given = batch.size, body.given
    led_inputs = {
        n: Node(n.op, (), n.attrs, (size, *n.shape), n.dtype)
        for n, h in zip(given, has, strict=True)
        if h
    }
    inner = Batch(size, 0, batch.differing, led_inputs.get)
    return [led_inputs.get(n, n) for n in given], [inner.of(n) for n in body.outputs]


def _steps(batch: Batch, node: Node, src: Any, has: Any) -> Form:
    """A scan whose steps are those of all examples; what is carried has the batch where a step
    makes it differ between them."""
    body, count, carries, slices, kept = node.attrs[:5]
    size, inside = batch.size, list(has)
    while True:
        inputs, forms = _over_examples(batch, body, inside)
        more = [k for k in range(carries) if forms[k] is not None and not inside[k]]
        if not more:
            break
        for k in more:
            inside[k] = True
    outputs = [
        _first(f) if f is not None else n if k < carries and not inside[k] else led(n, False, size)
        for k, (n, f) in enumerate(zip(body.outputs, forms, strict=True))
    ]
    nodes = [*inputs, *(n for n in below(outputs, set(inputs)) if n not in inputs)]
    whole = Body(nodes, outputs, body.inputs)
    sources = [led(s, h, size) if i else s for s, h, i in zip(src, has, inside, strict=True)]
    for k in range(carries, carries + slices):
        sources[k] = _exchanged(sources[k]) if inside[k] else sources[k]
    columns = [*range(carries, len(outputs)), *kept]
    specs = [
        *whole.specs[:carries],
        *(((count, *whole.specs[k][0]), whole.specs[k][1]) for k in columns),
    ]
    made = Node(node.op, tuple(sources), (whole, *node.attrs[1:-1], tuple(specs)), *specs[0])
    found = []
    for at, k in enumerate([*range(carries), *columns]):
        pick = Node(PICK, (made,), (at,), *specs[at])
        if k < carries and not inside[k]:
            found.append(led(pick, False, size))
        else:
            found.append(pick if at < carries else _exchanged(pick))
    return tuple(found)


def _first(form: Form) -> Node:
    """The node of a form; of several results the first."""
    found: Node = form[0] if isinstance(form, tuple) else form
    return found


def _exchanged(x: Node) -> Node:
    """A node with its first two dimensions exchanged."""
    first, second, *rest = x.shape
    step, wide, *inner = contiguous_strides(x.shape)
    return view_node(x, (second, first, *rest), (wide, step, *inner), 0)


def _one_by_one(batch: Batch, node: Node, src: Any, has: Any) -> Form:
    """A call for each example, and the results side by side."""
    specs = specs_of(node)
    calls = []
    for k in range(batch.size):
        given = [_example(s, k) if h else s for s, h in _pairs(src, has)]
        calls.append(Node(node.op, tuple(given), node.attrs, node.shape, node.dtype))
    if specs is None:
        return stacked(calls, node.shape, node.dtype)
    return tuple(
        stacked([Node(PICK, (c,), (k,), shape, d) for c in calls], shape, d)
        for k, (shape, d) in enumerate(specs)
    )


def _example(source: Node, k: int) -> Node:
    shape = source.shape[1:]
    return view_node(source, shape, contiguous_strides(shape), k * math.prod(shape))


def stacked(nodes: list[Node], shape: tuple[int, ...], dtype: Any) -> Node:
    """Nodes of one shape laid side by side along a new first dimension."""
    total = (len(nodes), *shape)
    whole = Node(EMPTY, (), (), total, dtype)
    step = math.prod(shape)
    for k, node in enumerate(nodes):
        if step:
            attrs = (shape, contiguous_strides(shape), k * step)
            whole = Node(ASSIGN, (whole, node), attrs, total, dtype)
    return whole


def _effect(batch: Batch, node: Node, src: Any, has: Any) -> Form:
    raise RuntimeError(f"vmap: no batching rule for the effect {node.op.name}")


#: Kind of operation -> how its nodes get the batch in front.
KINDS: dict[str, Callable[[Batch, Node, Any, Any], Form]] = {
    "elementwise": _elementwise,
    "view": _view,
    "assign": _assign,
    "reduce": _along,
    "scan": _along,
    "contraction": _contraction,
    "index": _index,
    "index_put": _index_put,
    "host": _one_by_one,
    "composite": _composite,
    "effect": _effect,
}
