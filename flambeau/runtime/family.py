"""Programs of one structure and many sizes.

Note [Families]
Graphs that differ in sizes alone are of one *family*. The first is compiled for its sizes. When a
second comes, the sizes that have changed become symbols (Note [Symbolic sizes] in `ir/symbol.py`),
and the passes and code generators run once more, with symbols in place of them. The result is a
*template*: a fused plan with its kernels and the guards under which it is right. A third graph, for
whose sizes the guards hold, is given a copy with its numbers filled in, of which only memory is
planned anew: the kernels take sizes as arguments, so nothing is compiled.

Which sizes are symbols, and how the others follow from them (strides, counts, offsets), is read off
the two graphs: values that have changed alike are one, products and multiples of symbols are
recognised. A wrong guess is harmless: the sizes of a graph are compared with what the template
says they are before it is used. Where a size is fixed by the code that reads it, or the guards do
not hold, another template is made, up to a few; then each program is compiled for its sizes.
"""

from __future__ import annotations

import itertools
import math
import os
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

from flambeau.ir.graph import Graph, Node
from flambeau.ir.symbol import SMALLEST, Expression, Symbols, SymInt, at_hand
from flambeau.passes.pipeline import VERIFY
from flambeau.runtime.generation import Generated, Resized

#: Templates of one family, and the graphs they are guessed from.
MAX_TEMPLATES = 4
_MAX_DEGREE = 3
#: Stands for a size in a structure.
_SIZE = int


class Layout:
    """What one graph is, its sizes apart.

    Args:
        graph: as lifted.

    Attributes:
        structure: all but the sizes; equal for graphs of one family.
        sizes: integers of shapes and attributes, in order.
        extents: for each, whether it stands in a shape.
    """

    def __init__(self, graph: Graph) -> None:
        self.sizes: list[int] = []
        self.extents: list[bool] = []
        index = {n: k for k, n in enumerate(graph.nodes)}
        parts: list[Any] = []
        for node in graph.nodes:
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


class Guess:
    """Which sizes are symbols, and the others as expressions of them.

    Args:
        samples: sizes of several graphs of one family, the last one's at hand.
        extents: which of them stand in shapes.

    Attributes:
        symbols: the symbols.
        places: for each, a place in the sizes that it stands at.
        sizes: with symbolic integers in place.
        found: whether all that change could be expressed.
    """

    def __init__(self, samples: list[list[int]], extents: list[bool]) -> None:
        self.symbols = Symbols()
        self.places: list[int] = []
        self.found = True
        self._values: list[tuple[int, ...]] = []  # of each symbol, in the samples
        self._made: list[Any] = []
        known: dict[tuple[int, ...], Any] = {}
        columns = list(zip(*samples, strict=True))
        with self.symbols:
            for place, (column, extent) in enumerate(zip(columns, extents, strict=True)):
                if extent and column not in known and len(set(column)) > 1:
                    known[column] = self._expressed(column, place)
            for column in columns:
                if column not in known:
                    fixed = len(set(column)) == 1
                    known[column] = column[-1] if fixed else self._expressed(column, -1)
        self.sizes = [known[column] for column in columns]

    def _expressed(self, column: tuple[int, ...], place: int) -> Any:
        """A size from its values in the samples; `place` where it may be a symbol."""
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
                return best[0] * best[1]
        for values, made in zip(self._values, self._made, strict=True):
            spread = values[-1] - values[0]
            times = (column[-1] - column[0]) // spread if spread else 0
            offset = column[-1] - times * values[-1]
            if times and abs(offset) < values[-1] and all(
                c == times * v + offset for c, v in zip(column, values, strict=True)
            ):  # fmt: skip
                return made * times + offset
        if place < 0 or min(column) < SMALLEST:
            self.found = False
            return column[-1]
        self._values.append(column)
        self._made.append(self.symbols.symbol(column[-1]))
        self.places.append(place)
        return self._made[-1]


class Template:
    """What was generated for symbolic sizes, and when it is right.

    Args:
        guess: the sizes.
        generate: graph -> what is generated for it.
        graph: one of the family.
    """

    def __init__(self, guess: Guess, generate: Callable[[Graph], Generated], graph: Graph) -> None:
        symbols = self.symbols = guess.symbols
        self._places = guess.places
        with symbols:
            self.generated = generate(resized(graph, guess.sizes))
            numbers = {n: k for k, n in enumerate(dict.fromkeys(guess.sizes))}
            self._kinds = [numbers[n] for n in guess.sizes]
        self._sizes = list(numbers)
        self.uses = 0

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
        self.uses += 1
        copy: Generated = Resized(value)(self.generated)
        return copy


class Family:
    """Graphs of one structure that were compiled.

    Args:
        layout: of the first.
    """

    def __init__(self, layout: Layout) -> None:
        self.samples = [layout.sizes]
        self.templates: list[Template] = []
        self.off = False

    def template(
        self, layout: Layout, generate: Callable[[Graph], Generated], graph: Graph
    ) -> Template | None:
        """A new template from the sizes seen so far and these; None where there can be none."""
        self.samples.append(layout.sizes)
        if self.off:
            return None
        guess = Guess(self.samples[-MAX_TEMPLATES:], layout.extents)
        if not guess.found or len(self.templates) == MAX_TEMPLATES:
            self.off = True
            return None
        try:
            made = Template(guess, generate, graph)
        except Exception:  # code that cannot take symbols; without them it can
            if VERIFY:
                raise
            self.off = True
            return None
        self.templates.insert(0, made)
        if "sizes" in os.environ.get("FLAMBEAU_PRINT", "").split(","):
            print(f"sizes of a family of {len(graph.nodes)} nodes:\n{made}", file=sys.stderr)
        return made


_families: OrderedDict[Any, Family] = OrderedDict()
_MAX_FAMILIES = 512


def find(graph: Graph, generate: Callable[[Graph], Generated]) -> tuple[Generated, bool]:
    """What is generated for a graph, from a template of its family if one fits.

    Args:
        graph: as lifted.
        generate: graph -> what is generated for it alone.

    Returns:
        That, and whether it came from a template that was there.
    """
    layout = Layout(graph)
    family = _families.get(layout.structure)
    if family is None:
        _families[layout.structure] = Family(layout)
        if len(_families) > _MAX_FAMILIES:
            _families.popitem(last=False)
        return generate(graph), False
    for template in family.templates:
        found = template.at(layout.sizes)
        if found is not None:
            return found, True
    made = family.template(layout, generate, graph)
    found = None if made is None else made.at(layout.sizes)
    return (generate(graph), False) if found is None else (found, False)


def clear() -> None:
    """Forget all families."""
    _families.clear()
