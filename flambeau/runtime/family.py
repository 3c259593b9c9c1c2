"""Programs of one structure and many sizes.

Note [Families]
Graphs that differ in sizes alone are of one *family*. The first is compiled for its sizes. When a
second comes, the sizes that have changed become symbols (Note [Symbolic sizes] in `ir/symbol.py`),
and the passes and code generators run once more, with symbols in place of them. The result is a
*template*: a fused plan with its kernels and the guards under which it is right. A third graph, for
whose sizes the guards hold, is given a copy with its numbers filled in, of which only memory is
planned anew: the kernels take sizes as arguments, so nothing is compiled.

Which sizes are symbols, and how the others follow from them (strides, counts, offsets), is known of
calls that `compile` has recorded for symbolic sizes, and there the first graph will do. Else it is
read off the two graphs: values that have changed alike are one, products and multiples of symbols
are recognised. A wrong guess is harmless: the sizes of a graph are compared with what the template
says they are before it is used. Where a size is fixed by the code that reads it, or the guards do
not hold, another template is made, up to a few; then each program is compiled for its sizes.
"""

from __future__ import annotations

import itertools
import math
import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from flambeau.ir.graph import INPUT, PICK, Graph, Node
from flambeau.ir.recorded import Recorded
from flambeau.ir.symbol import SMALLEST, Expression, Symbols, SymInt, at_hand, filled
from flambeau.passes.pipeline import VERIFY
from flambeau.runtime.generation import Generated, Resized

#: Templates of one family, and the graphs they are guessed from.
MAX_TEMPLATES = 4
_MAX_DEGREE = 3
#: Stands for a size in a structure.
_SIZE = int


class _Mode(threading.local):
    alone = False


_mode = _Mode()


class Layout:
    """What one graph is, its sizes apart.

    Args:
        graph: as lifted.

    Attributes:
        structure: all but the sizes; equal for graphs of one family.
        sizes: integers of shapes and attributes, in order.
        extents: for each, whether it stands in a shape.
        starts: where those of each node begin.
    """

    def __init__(self, graph: Graph) -> None:
        self.sizes: list[int] = []
        self.starts: dict[Node, int] = {}
        self.extents: list[bool] = []
        index = {n: k for k, n in enumerate(graph.nodes)}
        parts: list[Any] = []
        for node in graph.nodes:
            self.starts[node] = len(self.sizes)
            self.sizes += at_hand(node.shape)
            self.extents += (True,) * len(node.shape)
            src = tuple(index[s] if type(s) is Node else (type(s), s) for s in node.src)
            attrs = node.attrs and self._masked(node.attrs, not node.src)
            parts.append((node.op, len(node.shape), node.dtype, attrs, src))
        outputs = tuple((index[n], home) for n, home in graph.outputs)
        self.structure = tuple(parts), outputs

    def _masked(self, value: Any, own: bool) -> Any:
        kind = type(value)
        if kind in (int, SymInt) and not own:
            self.sizes.append(at_hand(value))
            self.extents.append(False)
            return _SIZE
        if isinstance(value, tuple):
            return kind, tuple([self._masked(v, own) for v in value])
        return value


def _filled(value: Any, numbers: Iterator[int]) -> Any:
    """An attribute with its integers replaced, in the order of `Layout`."""
    kind = type(value)
    if kind in (int, SymInt):
        return next(numbers)
    if isinstance(value, tuple):
        parts = [_filled(v, numbers) for v in value]
        return kind(*parts) if hasattr(kind, "_fields") else kind(parts)
    return value


def resized(graph: Graph, sizes: list[int]) -> Graph:
    """The graph with other sizes, in the order of its `Layout`."""
    numbers = iter(sizes)
    made: dict[Node, Node] = {}
    for node in graph.nodes:
        shape = tuple(itertools.islice(numbers, len(node.shape)))
        attrs = _filled(node.attrs, numbers) if node.src else node.attrs
        src = tuple(made[s] if type(s) is Node else s for s in node.src)
        made[node] = fresh = Node(node.op, src, attrs, shape, node.dtype)
        fresh.origin = node.origin
    outputs = [(made[n], home) for n, home in graph.outputs]
    return Graph(list(made.values()), [made[n] for n in graph.inputs], outputs, graph.arguments)


@dataclass
class Sizes:
    """The sizes of a family's graphs, as expressions.

    Attributes:
        symbols: the symbols.
        places: for each, a place in the sizes that it stands at.
        sizes: in the order of `Layout`, with symbolic integers in place.
    """

    symbols: Symbols
    places: list[int]
    sizes: list[int]


class Guess:
    """Reads off graphs of one family which sizes are symbols, and how the others follow.

    Args:
        samples: sizes of several graphs, the last one's at hand.
    """

    def __init__(self, samples: list[list[int]]) -> None:
        self.symbols = Symbols()
        self.places: list[int] = []
        self.columns = list(zip(*samples, strict=True))
        self._values: list[tuple[int, ...]] = []  # of each symbol, in the samples
        self._made: list[Any] = []

    def sizes(self, extents: list[bool]) -> Sizes | None:
        """The sizes; None if one that changes could not be expressed.

        Args:
            extents: which of them stand in shapes, and may be symbols.
        """
        known: dict[tuple[int, ...], Any] = {}
        changed = [(k, c) for k, c in enumerate(self.columns) if len(set(c)) > 1]
        with self.symbols:
            for place, column in (*((k, c) for k, c in changed if extents[k]), *changed):
                if column not in known:
                    known[column] = self._expressed(column)
                    if known[column] is None:
                        if not extents[place] or min(column) < SMALLEST:
                            return None
                        known[column] = self._symbol(column, place)
        found = [known.get(column, column[-1]) for column in self.columns]
        return Sizes(self.symbols, self.places, found)

    def _symbol(self, column: tuple[int, ...], place: int) -> int:
        made = self.symbols.symbol(column[-1])
        self._values.append(column)
        self._made.append(made)
        self.places.append(place)
        return made

    def _expressed(self, column: tuple[int, ...]) -> int | None:
        """A size by the symbols there are, from its values in the samples; or None."""
        best: Any = None
        for degree in range(1, _MAX_DEGREE + 1):
            for chosen in itertools.combinations_with_replacement(range(len(self._values)), degree):
                products = [
                    math.prod(self._values[k][i] for k in chosen) for i in range(len(column))
                ]
                times, rest = divmod(column[-1], products[-1])
                if rest or any(c != times * p for c, p in zip(column, products, strict=True)):
                    continue
                if best is None or times < best[0]:
                    best = times, math.prod(self._made[k] for k in chosen)
            if best is not None:
                found: int = best[0] * best[1]
                return found
        for values, made in zip(self._values, self._made, strict=True):
            spread = values[-1] - values[0]
            times = (column[-1] - column[0]) // spread if spread else 0
            offset = column[-1] - times * values[-1]
            if (
                times
                and abs(offset) < abs(times) * values[-1]
                and all(c == times * v + offset for c, v in zip(column, values, strict=True))
            ):
                shifted: int = made * times + offset
                return shifted
        return None


def recorded_sizes(graph: Graph, layout: Layout) -> Sizes | None:
    """The sizes of a graph that replays calls recorded for symbolic ones; None of another."""
    made: dict[tuple[Symbols, int], Any] = {}
    shapes: dict[Node, tuple[int, ...]] = {}
    specs: dict[Node, Any] = {}
    found = Sizes(Symbols(), [], list(layout.sizes))
    with found.symbols:
        for node in graph.nodes:
            op = node.op
            if op is PICK and node.src[0] in shapes:
                shapes[node] = specs[node.src[0]][node.attrs[0]][0]
            if not isinstance(op, Recorded) or op.symbols is None or not node.src:
                continue
            at = layout.starts[node] + len(node.shape)
            for k, n in enumerate(node.attrs):
                if (op.symbols, k) not in made:
                    made[op.symbols, k] = found.symbols.symbol(n)
                    found.places.append(at + k)
                found.sizes[at + k] = made[op.symbols, k]
            unknowns = op.symbols.unknowns_at(found.sizes[at : at + len(node.attrs)])
            specs[node] = filled(op.specs, unknowns)
            shapes[node] = specs[node][0][0]
            for each in op.nodes:
                if each.op is INPUT:
                    shapes.setdefault(node.src[each.attrs[0]], filled(each.shape, unknowns))
    for node, shape in shapes.items():
        start = layout.starts[node]
        found.sizes[start : start + len(shape)] = shape
    return found if made else None


class Template:
    """What was generated for symbolic sizes, and when it is right.

    Args:
        sizes: of the family.
        generate: graph -> what is generated for it.
        graph: one of the family.
    """

    def __init__(self, sizes: Sizes, generate: Callable[[Graph], Generated], graph: Graph) -> None:
        self.symbols = sizes.symbols
        self._places = sizes.places
        with self.symbols:
            self.generated = generate(resized(graph, sizes.sizes))
            numbers = {n: k for k, n in enumerate(dict.fromkeys(sizes.sizes))}
            self._kinds = [numbers[n] for n in sizes.sizes]
        self._sizes = list(numbers)

    def __str__(self) -> str:
        lines = [f"{name} >= {SMALLEST}" for name in self.symbols.names]
        return "\n".join([*lines, *map(str, self.symbols.guards.values())])

    def at(self, sizes: list[int]) -> Generated | None:
        """What is generated for a graph with these sizes; None if the guards do not hold."""
        unknowns = self.symbols.values([sizes[place] for place in self._places])
        if unknowns is None:
            return None

        def value(e: Expression) -> int:
            return e.value(unknowns)

        expected = [value(n.expression) if type(n) is SymInt else n for n in self._sizes]
        if any(n != expected[k] for n, k in zip(sizes, self._kinds, strict=True)):
            return None
        copy: Generated = Resized(unknowns)(self.generated)
        return copy


class Family:
    """Graphs of one structure that were compiled.

    Attributes:
        samples: sizes of those that no template was right for.
        templates: the newest first.
        off: whether there will be no more templates.
    """

    def __init__(self) -> None:
        self.samples: list[list[int]] = []
        self.templates: list[Template] = []
        self.off = False

    def add(
        self, layout: Layout, generate: Callable[[Graph], Generated], graph: Graph
    ) -> Template | None:
        """A new template for a graph that none is right for; None where there can be none."""
        first = not self.samples
        self.samples.append(layout.sizes)
        if self.off:
            return None
        samples = self.samples[-MAX_TEMPLATES:]
        sizes = recorded_sizes(graph, layout) if first else Guess(samples).sizes(layout.extents)
        if sizes is None:
            self.off = not first
            return None
        try:
            made = Template(sizes, generate, graph)
        except Exception:  # code that cannot take symbols; without them it can
            if VERIFY:
                raise
            self.off = True
            return None
        self.templates.insert(0, made)
        self.off = len(self.templates) == MAX_TEMPLATES
        if "sizes" in os.environ.get("FLAMBEAU_PRINT", "").split(","):
            print(f"sizes of a family of {len(graph.nodes)} nodes:\n{made}", file=sys.stderr)
        return made


_families: OrderedDict[Any, Family] = OrderedDict()
_MAX_FAMILIES = 256


def find(graph: Graph, generate: Callable[[Graph], Generated]) -> tuple[Generated, bool]:
    """What is generated for a graph, from a template of its family if one fits.

    Args:
        graph: as lifted.
        generate: graph -> what is generated for it alone.

    Returns:
        That, and whether it came from a template that was there.
    """
    if _mode.alone:
        return generate(graph), False
    layout = Layout(graph)
    family = _families.setdefault(layout.structure, Family())
    if len(_families) > _MAX_FAMILIES:
        _families.popitem(last=False)
    for template in family.templates:
        found = template.at(layout.sizes)
        if found is not None:
            return found, True
    made = family.add(layout, generate, graph)
    found = None if made is None else made.at(layout.sizes)
    return (generate(graph), False) if found is None else (found, False)


class alone:
    """While inside, this thread compiles graphs for their own sizes: what is generated for one does
    not depend on those that came before it."""

    def __enter__(self) -> None:
        self._was, _mode.alone = _mode.alone, True

    def __exit__(self, *exc: object) -> None:
        _mode.alone = self._was


def clear() -> None:
    """Forget all families."""
    _families.clear()
