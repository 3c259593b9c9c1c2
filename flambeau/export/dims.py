"""Names of sizes that may change: `Dim`, and how `dynamic_shapes` gives them to inputs."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from flambeau.export.bounds import least
from flambeau.ir.symbol import RELATIONS, SMALLEST, Guard, Symbols

#: Sizes that no constant of a program is likely to be.
_PRIMES = (97, 89, 83, 79, 73, 71, 67, 61, 59, 53, 47, 43, 41, 37, 31, 29, 23, 19, 17, 13, 11, 7, 5)


#: Up to this, every size is tried.
_SMALL = 33


class ExportError(RuntimeError):
    """A program that cannot be exported as it was asked for; the message says what to change."""


class _Hint:
    """How a size without a name is treated."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"Dim.{self.name}"


class Dim:
    """The name of a size that may differ from call to call.

    Args:
        name: an identifier. Inputs that share a Dim share the size.
        min: the least size.
        max: the greatest size; None for no limit.

    Sizes that follow from others are `Dim * number + number`: an input of size ``2 * Dim("half")``
    is always even.

    Instead of a Dim, `Dim.AUTO` and `Dim.DYNAMIC` make a size change without a name (a program that
    fixes it is refused for DYNAMIC, and reported for AUTO), `Dim.STATIC`, None and numbers fix it.

    Raises:
        ValueError: bounds that leave no size, or a name that is no identifier.

    Example:
        >>> batch = Dim("batch", max=512)
        >>> batch, 2 * batch + 1
        (Dim('batch', min=1, max=512), 2*batch + 1)
    """

    AUTO = _Hint("AUTO")
    DYNAMIC = _Hint("DYNAMIC")
    STATIC = _Hint("STATIC")

    def __init__(self, name: str, *, min: int | None = None, max: int | None = None) -> None:
        low = 1 if min is None else min
        if not name.isidentifier():
            raise ValueError(f"Dim names must be identifiers, got {name!r}")
        if low < 0 or (max is not None and max < low):
            raise ValueError(
                f"Cannot create Dim with inconsistent min={min}, max={max} of name {name!r}"
            )
        self.__name__ = self.name = name
        self.min = low
        self.max = max

    def __repr__(self) -> str:
        return f"Dim({self.name!r}, min={self.min}, max={self.max})"

    def __mul__(self, times: int) -> Derived:
        return Derived(self, times, 0)

    __rmul__ = __mul__

    def __add__(self, more: int) -> Derived:
        return Derived(self, 1, more)

    __radd__ = __add__

    def __sub__(self, less: int) -> Derived:
        return Derived(self, 1, -less)


class Derived:
    """A size `times * root + more`.

    Args:
        root: the Dim that it follows from.
    """

    def __init__(self, root: Dim, times: int, more: int) -> None:
        if type(times) is not int or type(more) is not int or times < 1:
            raise ValueError(
                f"sizes may be a positive multiple of a Dim plus a number, got {times!r} * "
                f"{root.name} + {more!r}"
            )
        self.root, self.times, self.more = root, times, more

    def __repr__(self) -> str:
        times = f"{self.times}*" if self.times != 1 else ""
        sign = f" {'+' if self.more > 0 else '-'} {abs(self.more)}" if self.more else ""
        return f"{times}{self.root.name}{sign}"

    def __mul__(self, times: int) -> Derived:
        return Derived(self.root, self.times * times, self.more * times)

    __rmul__ = __mul__

    def __add__(self, more: int) -> Derived:
        return Derived(self.root, self.times, self.more + more)

    __radd__ = __add__

    def __sub__(self, less: int) -> Derived:
        return self + -less


def dims(*names: str, min: int | None = None, max: int | None = None) -> tuple[Dim, ...]:
    """Several `Dim`s with the same bounds."""
    return tuple(Dim(name, min=min, max=max) for name in names)


class Sizes:
    """The symbols of one export: for every dynamic size of every input, what it is.

    Args:
        shapes: of the tensors among the inputs, at hand.
        given: for each, dimension -> `Dim`, `Derived` or a hint.
        names: of the tensors, for messages.

    Attributes:
        roots: name -> (least, greatest or None) of each symbol, in order.
        loose: names of symbols that the program may fix (`Dim.AUTO`).
    """

    def __init__(
        self, shapes: list[tuple[int, ...]], given: list[dict[int, Any]], names: list[str]
    ) -> None:
        self.roots: dict[str, tuple[int, int | None]] = {}
        self.loose: set[str] = set()
        self.changed = False
        self.hints: dict[str, int] = {}
        self.parts: list[list[Any]] = []  # per tensor and dimension: a number or (name, *, +)
        for shape, sizes, name in zip(shapes, given, names, strict=True):
            part: list[Any] = list(shape)
            for d, what in sizes.items():
                d = d + len(shape) if d < 0 else d
                if not 0 <= d < len(shape):
                    raise ExportError(
                        f"dynamic_shapes names dimension {d} of {name}, which has {len(shape)}"
                    )
                found = self._size(what, shape[d], f"{name}.size({d})")
                part[d] = shape[d] if found is None else found
            self.parts.append(part)

    def _size(self, what: Any, size: int, place: str) -> tuple[str, int, int] | None:
        if what is None or what is Dim.STATIC:
            return None
        if isinstance(what, int):
            if what != size:
                raise ExportError(f"dynamic_shapes says that {place} is {what}, but it is {size}")
            return None
        if isinstance(what, _Hint):
            name = f"s{len(self.roots)}"
            self.roots[name] = (1, None)
            self.hints[name] = max(size, SMALLEST)
            if what is Dim.AUTO:
                self.loose.add(name)
            return name, 1, 0
        derived = what if isinstance(what, Derived) else Derived(what, 1, 0)
        root = derived.root
        value, rest = divmod(size - derived.more, derived.times)
        if rest or value < 0:
            raise ExportError(f"{place} is {size}, which is no size {derived!r}")
        if value < root.min or (root.max is not None and value > root.max):
            raise ExportError(
                f"{place} is {size}, outside of the range of {root!r}; give example inputs of "
                "sizes in it"
            )
        bounds = (root.min, root.max)
        if self.roots.setdefault(root.name, bounds) != bounds:
            raise ExportError(f"there are two Dims of name {root.name!r} with different bounds")
        value = max(value, SMALLEST)
        if root.max is not None and root.max < SMALLEST:
            return None
        if self.hints.setdefault(root.name, value) != value:
            raise ExportError(
                f"{place} is {size}, but another input's {root.name} is {self.hints[root.name]}: "
                "inputs that share a Dim share the size"
            )
        return root.name, derived.times, derived.more

    def symbolic(
        self, line: Callable[[], str], hints: dict[str, int]
    ) -> tuple[Symbols, list[tuple[int, ...]]]:
        """Symbols with these values at hand, and the inputs' shapes by them."""
        symbols = Symbols(line)
        with symbols:
            made = {name: symbols.symbol(hints[name], name) for name in self.roots}
            shapes = [
                tuple(n if isinstance(n, int) else made[n[0]] * n[1] + n[2] for n in part)
                for part in self.parts
            ]
        return symbols, shapes

    def elsewhere(self, guard: Guard) -> dict[str, int] | None:
        """Sizes in range for which a guard does not hold; None where none are found."""
        names = sorted(_names(guard.expression), key=list(self.roots).index)
        tried = [_PRIMES, tuple(self.hints[n] for n in names), _solutions(guard)]
        values = sorted({n for part in tried for n in part}.union(range(SMALLEST, _SMALL)))
        for found in itertools.product(values, repeat=min(len(names), 2)):
            hints = {**self.hints, **dict(zip(names, found, strict=False))}
            for there in (hints, self._crossing(guard, hints, names[0])):
                if not all(self._allowed(n, there[n]) for n in names):
                    continue
                value = _value(guard.expression, there)
                if value is not None and not RELATIONS[guard.relation](value):
                    return there
        return None

    def _crossing(self, guard: Guard, hints: dict[str, int], name: str) -> dict[str, int]:
        """The sizes with one of them moved to where a guard's expression is 0, if it is linear."""
        low = max(self.roots[name][0], SMALLEST)
        first, next_ = (_value(guard.expression, {**hints, name: low + k}) for k in (0, 1))
        if first is None or next_ is None or next_ == first:
            return hints
        return {**hints, name: low - first // (next_ - first)}

    def _allowed(self, name: str, n: int) -> bool:
        low, high = self.roots[name]
        return max(low, SMALLEST) <= n and (high is None or n <= high)

    def others(self) -> dict[str, int]:
        """Sizes in range, other than those at hand, that are no others by chance: primes, as far
        as there is room."""
        free = [p for p in _PRIMES if p not in self.hints.values()]
        hints = dict(self.hints)
        for name in hints:
            for n in (*free, hints[name] + 1, hints[name] - 1):
                if self._allowed(name, n):
                    hints[name] = n
                    free = [p for p in free if p != n]
                    break
        return hints

    # -- what the program asks of sizes ----------------------------------------------------------

    def settle(self, symbols: Symbols, matters: Callable[[dict[str, int]], bool]) -> list[Guard]:
        """Check what was asked of sizes against their ranges.

        Args:
            symbols: that the program was traced with.
            matters: whether the program is another one for these sizes.

        Returns:
            What must be checked when the program runs. Ranges of `Dim.AUTO` are narrowed; where
            one is fixed, or is another size, `changed` says that the program is to be traced anew.

        Raises:
            ExportError: the program holds for part of a range only.
        """
        self.changed = False
        ranges = None
        while ranges != self.roots:  # what was found for ranges that became narrower is void
            ranges = dict(self.roots)
            wrong, kept = self._sorted(symbols, matters)
            if self.changed:
                return []
        if wrong:
            lines = []
            for guard in wrong:
                lines.append(f"  {guard}")
                if guard.line:
                    lines.append("    asked at " + guard.line.strip().replace("\n", "\n    "))
            names = ", ".join(sorted({n for g in wrong for n in _names(g.expression)}))
            raise ExportError(
                f"Constraints violated ({names})! The program is right only where\n"
                + "\n".join(lines)
                + "\nGive Dims whose range says so (min=, max=, a multiple like 2 * Dim), share "
                "one Dim between equal sizes, or leave these sizes out of dynamic_shapes."
            )
        return kept

    def _sorted(
        self, symbols: Symbols, matters: Callable[[dict[str, int]], bool]
    ) -> tuple[list[Guard], list[Guard]]:
        """Guards that hold for part of a range only, and those that are checked at run time; until
        a size has changed."""
        wrong, kept = [], []
        for guard in symbols.guards.values():
            if always(guard, self.roots):
                continue
            there = self.elsewhere(guard)
            if there is not None and not matters(there):
                continue  # the answer made no difference
            if self._narrow(guard):
                if self.changed:
                    break
                continue
            if guard.relation == "!= 0" and (there is None or _plain(guard.expression)):
                kept.append(guard)
            else:
                wrong.append(guard)
        return wrong, kept

    def _narrow(self, guard: Guard) -> bool:
        """Fit sizes without names to what a guard says of them: narrow a range, fix one, or let
        two be one; whether that could be done."""
        terms = dict(guard.expression.terms)
        more = terms.pop((), 0)
        unknowns = guard.expression.space.unknowns
        if not _plain(guard.expression) and guard.relation != "== 0":
            return self._raise(guard)
        if any(len(m) != 1 for m in terms) or guard.relation == "!= 0":
            return False
        names = [unknowns[k].name for (k,) in terms]
        loose = [name for name in names if name in self.loose]
        if not loose or "" in names:
            return False
        if guard.relation == "== 0":
            if len(names) == 1:
                self._replace(names[0], -more // next(iter(terms.values())), guard)
                return True
            if len(names) == 2 and not more and sum(terms.values()) == 0:
                other = names[1 - names.index(loose[0])]
                self._replace(loose[0], other, guard)
                return True
            return False
        if len(names) != 1:
            return False
        (times,) = terms.values()
        low, high = self.roots[names[0]]
        strict = guard.relation == "> 0"
        edge = -more / times
        if (times > 0) == strict:
            low = max(low, math.floor(edge) + 1 if strict else math.ceil(edge))
        else:
            top = math.ceil(edge) - 1 if strict else math.floor(edge)
            high = top if high is None else min(high, top)
        self.roots[names[0]] = (low, high)
        return True

    def _raise(self, guard: Guard) -> bool:
        """Begin ranges of sizes without names where a guard about quotients holds from then on."""
        names = _names(guard.expression)
        before = dict(self.roots)
        for start in range(SMALLEST, _SMALL):
            for name in names & self.loose:
                low, high = before[name]
                if start <= self.hints[name]:
                    self.roots[name] = (max(low, start), high)
            if always(guard, self.roots):
                return True
        self.roots.update(before)
        return False

    def _replace(self, name: str, by: str | int, guard: Guard) -> None:
        """A size without a name is a number, or another size."""
        if isinstance(by, int):
            where = f", asked at {guard.line.strip()}" if guard.line else ""
            warnings.warn(
                f"export has fixed a Dim.AUTO size to {by}: the program is right for it only"
                + where,
                stacklevel=5,
            )
        self.roots.pop(name, None)
        self.hints.pop(name, None)
        self.changed = True
        for part in self.parts:
            for d, n in enumerate(part):
                if isinstance(n, tuple) and n[0] == name:
                    part[d] = by * n[1] + n[2] if isinstance(by, int) else (by, *n[1:])


def _value(expression: Any, hints: dict[str, int]) -> int | None:
    """An expression for some sizes; None where a remainder by 0 is asked for on the way."""
    try:
        unknowns = expression.space.unknowns_at(list(hints.values()))
    except ZeroDivisionError:
        return None
    found: int = expression.value(unknowns)
    return found


def _floor(p: float, q: float) -> float:
    """p // q for q > 0, either of which may be infinite."""
    if math.isinf(q):
        return 0.0 if p >= 0 else -1.0
    return p if math.isinf(p) else float(p // q)


def _solutions(guard: Guard) -> tuple[int, ...]:
    """Where a linear expression of one symbol is 0, and beside."""
    terms = dict(guard.expression.terms)
    more = terms.pop((), 0)
    if len(terms) != 1:
        return ()
    ((_, times),) = terms.items()
    n = -more // times
    return n - 1, n, n + 1


def _plain(expression: Any) -> bool:
    """Whether an expression is made of sizes by sums and products alone."""
    unknowns = expression.space.unknowns
    return all(unknowns[k].name for monomial in expression.terms for k in monomial)


def bounds(expression: Any, ranges: Mapping[str, tuple[int, int | None]]) -> tuple[float, float]:
    """Between what an expression lies.

    Args:
        expression: of sizes.
        ranges: the least and greatest value of each symbol.
    """
    low = high = 0.0
    for monomial, c in expression.terms.items():
        a, b = 1.0, 1.0
        for k in monomial:
            x, y = _unknown(expression.space.unknowns[k], ranges)
            ends = [p * q for p in (a, b) for q in (x, y) if not (p == 0 or q == 0)] or [0.0]
            if (a <= 0 <= b) or (x <= 0 <= y):
                ends.append(0.0)
            a, b = min(ends), max(ends)
        low += c * (a if c > 0 else b)
        high += c * (b if c > 0 else a)
    unknowns = expression.space.unknowns
    if len(expression.terms) > 1 and any(not unknowns[k].name for m in expression.terms for k in m):
        negative = expression.space.constant(0).plus(expression, -1)
        low = max(low, least(expression, lambda k: _unknown(unknowns[k], ranges)))
        high = min(high, -least(negative, lambda k: _unknown(unknowns[k], ranges)))
    return low, high


def _unknown(unknown: Any, ranges: Mapping[str, tuple[int, int | None]]) -> tuple[float, float]:
    if unknown.name:
        low, high = ranges[unknown.name]
        return float(max(low, SMALLEST)), math.inf if high is None else float(high)
    x, y = bounds(unknown.left, ranges)
    a, b = bounds(unknown.right, ranges)
    if a <= 0:
        return -math.inf, math.inf
    if x >= 0 and bounds(unknown.right.plus(unknown.left, -1), ranges)[0] > 0:
        return (x, y) if unknown.operator == "%" else (0.0, 0.0)  # by something greater
    if unknown.operator == "%":
        return 0.0, min(b - 1, y) if x >= 0 else b - 1
    ends = [_floor(p, q) for p in (x, y) for q in (a, b)]
    return min(ends), max(ends)


def always(guard: Guard, ranges: Mapping[str, tuple[int, int | None]]) -> bool:
    """Whether what was asked holds for all sizes in their ranges."""
    return _holds(guard.relation, *bounds(guard.expression, ranges))


def _holds(relation: str, low: float, high: float) -> bool:
    """Whether a relation holds for all that lies between two bounds."""
    return {
        "== 0": low == high == 0,
        "!= 0": low > 0 or high < 0,
        "> 0": low > 0,
        "<= 0": high <= 0,
    }[relation]


def _names(expression: Any) -> set[str]:
    found: set[str] = set()
    for monomial in expression.terms:
        for k in monomial:
            unknown = expression.space.unknowns[k]
            if unknown.name:
                found.add(unknown.name)
            else:
                found |= _names(unknown.left) | _names(unknown.right)
    return found


def dimensions(spec: Any, rank: int, name: str) -> dict[int, Any]:
    """dimension -> what `dynamic_shapes` says of it, for one tensor.

    Raises:
        ExportError: it is not None, a dict of dimensions, or a tuple or list with an entry per
            dimension.
    """
    if spec is None:
        return {}
    if isinstance(spec, dict):
        if not all(type(d) is int for d in spec):
            raise ExportError(
                f"dynamic_shapes for {name} must have dimensions (ints) as keys, got {list(spec)}"
            )
        return dict(spec)
    if isinstance(spec, (tuple, list)):
        if len(spec) != rank:
            raise ExportError(
                f"dynamic_shapes gives {len(spec)} sizes for {name}, which has {rank} dimensions"
            )
        return dict(enumerate(spec))
    if isinstance(spec, _Hint):
        return dict.fromkeys(range(rank), spec)
    raise ExportError(
        f"dynamic_shapes for {name} must be a dict, tuple, list or None, got {type(spec).__name__}"
    )


__all__ = ["Dim", "ExportError", "Sizes", "always", "bounds", "dimensions", "dims"]
