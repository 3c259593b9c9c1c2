"""Sizes as symbols: one program for many sizes, and what must hold of a size for it.

Note [Symbolic sizes]
Sizes that may change are `SymInt`: integers that know what they are computed from. Code that
computes with them runs as it does with plain integers, and gives expressions; where it asks one a
question (is it 1, is it below a limit, does it divide another) the answer for the size at hand is
given, and kept as a `Guard`. What was made so is right for every size of which all guards hold. A
question whose answer follows from sizes being at least 2 leaves none. Where an integer cannot be
followed (as text, as a length of a Python list) its value becomes a guard.

A `SymInt` is symbolic while its `Symbols` are active, in one thread; otherwise it is the integer.
Two of them are equal as keys of a dict only if their expressions are: that two sizes happen to be
the same is never asked by looking something up.

Expressions are polynomials with integer coefficients; quotients, remainders and ratios that do not
come out even are unknowns of their own.
"""

from __future__ import annotations

import itertools
import math
import operator
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

#: Sizes below this are worth code of their own: no symbol has one of them.
SMALLEST = 2


_count = itertools.count().__next__


class _Active(threading.local):
    symbols: Symbols | None = None


_active = _Active()


class Guard(NamedTuple):
    """What must hold of an expression.

    Attributes:
        relation: "== 0", "!= 0", "> 0" or "<= 0".
        expression: of the symbols.
        line: the line of the program that asked, or "".
    """

    relation: str
    expression: Expression
    line: str = ""

    def holds(self, unknowns: Sequence[int]) -> bool:
        """Whether it does, from the values of the unknowns."""
        return RELATIONS[self.relation](self.expression.value(unknowns))

    def __str__(self) -> str:
        """The equation or inequality, without negative terms: `8*T > 512`."""
        space, terms = self.expression.space, self.expression.terms
        left = space.expression({m: c for m, c in terms.items() if c > 0 and m})
        right = space.expression({m: -c for m, c in terms.items() if c < 0 and m})
        number = terms.get((), 0)
        if number:
            side = right if number < 0 else left
            moved = side.plus(space.constant(abs(number)))
            left, right = (left, moved) if number < 0 else (moved, right)
        return f"{left} {self.relation.split()[0]} {right}"


class Unknown(NamedTuple):
    """What expressions are made of: a symbol, or `left operator right` that stays as it is.

    Attributes:
        name: of a symbol, else "".
        operator: "//" or "%".
        below: the least value that is known of it.
    """

    name: str
    operator: str
    left: Any
    right: Any
    below: int | None

    def __str__(self) -> str:
        if self.name:
            return self.name
        left, right = (x if x.lone else f"({x})" for x in (self.left, self.right))
        return f"({left} {self.operator} {right})"


Monomial = tuple[int, ...]

#: What may hold of a number.
RELATIONS: dict[str, Callable[[int], bool]] = {
    "== 0": lambda n: n == 0,
    "!= 0": lambda n: n != 0,
    "> 0": lambda n: n > 0,
    "<= 0": lambda n: n <= 0,
}


def _order(monomial: Monomial) -> tuple[Any, ...]:
    """By degree, then by the unknowns' powers: an order that multiplying by another keeps."""
    return len(monomial), tuple(-k for k in monomial)


class Expression:
    """A polynomial: {unknowns of a product, by number and in order: coefficient}.

    There is one for each value in its `Symbols`, which makes them (`Symbols.expression`).
    """

    __slots__ = ("index", "key", "space", "terms")

    def __init__(self, space: Symbols, terms: dict[Monomial, int], index: int) -> None:
        self.space = space
        self.terms = terms
        self.index = index
        self.key = hash((space.number, index))

    def __str__(self) -> str:
        parts = []  # in one order, whichever way the expression was made first
        for monomial, c in sorted(self.terms.items(), key=lambda t: _order(t[0]), reverse=True):
            names = [str(self.space.unknowns[k]) for k in monomial]
            parts.append("*".join([str(c), *names] if c != 1 or not names else names))
        return " + ".join(parts) or "0"

    @property
    def lone(self) -> bool:
        """Whether it is an unknown by itself, or a number."""
        return self.number is not None or any(
            len(m) == c == 1 and len(self.terms) == 1 for m, c in self.terms.items()
        )

    @property
    def number(self) -> int | None:
        """Its value where no unknown is in it."""
        if not self.terms:
            return 0
        return self.terms.get(()) if len(self.terms) == 1 else None

    def plus(self, other: Expression, times: int = 1) -> Expression:
        """self + times * other."""
        terms = dict(self.terms)
        for m, c in other.terms.items():
            terms[m] = terms.get(m, 0) + times * c
        return self.space.expression(terms)

    def times(self, other: Expression) -> Expression:
        """The product."""
        terms: dict[Monomial, int] = {}
        for m, c in self.terms.items():
            for n, d in other.terms.items():
                product = tuple(sorted(m + n))
                terms[product] = terms.get(product, 0) + c * d
        return self.space.expression(terms)

    def over(self, other: Expression) -> Expression | None:
        """The quotient where it comes out whatever the unknowns are, else None: long division."""
        rest, found = dict(self.terms), {}
        lead = max(other.terms, key=_order)
        while rest:
            monomial = max(rest, key=_order)
            quotient = list(monomial)
            for k in lead:
                if k not in quotient:
                    return None
                quotient.remove(k)
            times, odd = divmod(rest[monomial], other.terms[lead])
            if odd:
                return None
            found[tuple(quotient)] = times
            for m, c in other.terms.items():
                product = tuple(sorted((*m, *quotient)))
                left = rest.get(product, 0) - times * c
                if left:
                    rest[product] = left
                else:
                    rest.pop(product, None)
        return self.space.expression(found)

    def value(self, unknowns: Sequence[int]) -> int:
        """Its value, from those of the unknowns."""
        total = 0
        for monomial, c in self.terms.items():
            for k in monomial:
                c *= unknowns[k]
            total += c
        return total

    def least(self) -> int | None:
        """A bound that the value is never below, from the unknowns' own; None if none is known."""
        shifted: dict[Monomial, int] = {}  # in unknowns less their bounds, which are not negative
        for monomial, c in self.terms.items():
            part: dict[Monomial, int] = {(): c}
            for k in monomial:
                low = self.space.unknowns[k].below
                if low is None:
                    return None
                grown: dict[Monomial, int] = {}
                for m, d in part.items():
                    grown[m] = grown.get(m, 0) + d * low
                    longer = tuple(sorted((*m, k)))
                    grown[longer] = grown.get(longer, 0) + d
                part = grown
            for m, d in part.items():
                shifted[m] = shifted.get(m, 0) + d
        if any(c < 0 for m, c in shifted.items() if m):
            return None
        return shifted.get((), 0)


class Symbols:
    """Unknown sizes, what was computed from them, and what was asked about them.

    While entered (`with symbols:`) the thread's `SymInt`s of these symbols are symbolic.

    Args:
        line: -> the line of the program that asks now, for guards.

    Attributes:
        names: the symbols, in order.
        guards: what must hold, in the order in which it was asked.
        unknowns: the symbols, and quotients and remainders that do not come out.
        at_hand: their values now.
    """

    def __init__(self, line: Callable[[], str] | None = None) -> None:
        self.number = _count()
        self.names: list[str] = []
        self.unknowns: list[Unknown] = []
        self.at_hand: list[int] = []
        self.guards: dict[tuple[str, Expression], Guard] = {}
        self._line = line
        self.memo: dict[Any, Any] = {}  # what operations have given: (operation, operands)
        self._numbers: dict[Unknown, int] = {}
        self._expressions: dict[frozenset[tuple[Monomial, int]], Expression] = {}
        self._before: list[Symbols | None] = []

    def __enter__(self) -> Symbols:
        self._before.append(_active.symbols)
        _active.symbols = self
        return self

    def __exit__(self, *exc: object) -> None:
        _active.symbols = self._before.pop()

    def symbol(self, value: int, name: str = "") -> SymInt:
        """A new symbol, which is `value` now.

        Raises:
            ValueError: the value is one of those that have code of their own.
        """
        if value < SMALLEST:
            raise ValueError(f"a symbolic size is at least {SMALLEST}, got {value}")
        name = name or f"s{len(self.names)}"
        self.names.append(name)
        return SymInt(value, self._unknown(Unknown(name, "", None, None, SMALLEST), value))

    def name_of(self, n: int) -> str:
        """The name of a symbol, or "" for another number."""
        if isinstance(n, SymInt) and len(n.expression.terms) == 1:
            ((monomial, c),) = n.expression.terms.items()
            if c == 1 and len(monomial) == 1:
                return self.unknowns[monomial[0]].name
        return ""

    def _unknown(self, unknown: Unknown, value: int) -> Expression:
        number = self._numbers.get(unknown)
        if number is None:
            number = self._numbers[unknown] = len(self.unknowns)
            self.unknowns.append(unknown)
            self.at_hand.append(value)
        return self.expression({(number,): 1})

    def expression(self, terms: dict[Monomial, int]) -> Expression:
        """The expression with these terms."""
        key = frozenset((m, c) for m, c in terms.items() if c)
        found = self._expressions.get(key)
        if found is None:
            terms = {m: c for m, c in terms.items() if c}
            found = self._expressions[key] = Expression(self, terms, len(self._expressions))
        return found

    def constant(self, number: int) -> Expression:
        """A number as an expression."""
        return self.expression({(): number})

    def operation(self, operator: str, left: Expression, right: Expression) -> Expression:
        """A quotient or remainder, which is an unknown of its own where it does not come out."""
        if (exact := left.over(right)) is not None:
            return exact if operator == "//" else self.constant(0)
        times = right.over(left) if left.terms else None
        if times is not None and (times.least() or 0) >= 2 and (left.least() or 0) >= 1:
            return self.constant(0) if operator == "//" else left  # by a multiple of itself
        if (number := right.number) is not None and number > 0:  # multiples of it come out
            whole = {m: c // number for m, c in left.terms.items()}
            rest = self.expression({m: c % number for m, c in left.terms.items()})
            if len(rest.terms) < len(left.terms) or rest.number is not None:
                if rest.number is not None:
                    part = self.constant(0)  # less than the divisor
                    last = rest
                else:
                    part, last = (self.operation(o, rest, right) for o in ("//", "%"))
                return self.expression(whole).plus(part) if operator == "//" else last
        if (found := self._without_rest(left, right)) is not None:
            return found if operator == "//" else self.constant(0)
        known = left.least()
        positive = (right.least() or 0) > 0
        low = 0 if positive and (operator == "%" or (known is not None and known >= 0)) else None
        a, b = left.value(self.at_hand), right.value(self.at_hand)
        value = a // b if operator == "//" else a % b
        return self._unknown(Unknown("", operator, left, right, low), value)

    def _without_rest(self, left: Expression, right: Expression) -> Expression | None:
        """(x - x % right) // right, which is x // right, or the negative of it; None of others."""
        for monomial, times in left.terms.items():
            unknown = self.unknowns[monomial[0]] if len(monomial) == 1 else None
            if unknown is None or unknown.operator != "%" or unknown.right is not right:
                continue
            assert unknown.left is not None
            if left.plus(self.expression({monomial: -times})) is (
                unknown.left if times == -1 else self.constant(0).plus(unknown.left, -1)
            ):
                return self.constant(0).plus(self.operation("//", unknown.left, right), -times)
        return None

    def ask(self, relation: str, expression: Expression, holds: bool) -> bool:
        """Note that an answer was given.

        Args:
            relation: "== 0" or "> 0".
            holds: the answer for the sizes at hand.
        """
        low, high = expression.least(), self.constant(0).plus(expression, -1).least()
        if low is not None and low > 0:
            return relation == "> 0"
        if high is not None and high >= (0 if relation == "> 0" else 1):
            return False
        if not expression.terms:
            return relation == "== 0"
        found = relation if holds else {"== 0": "!= 0", "> 0": "<= 0"}[relation]
        if (found, expression) not in self.guards:
            line = self._line() if self._line is not None else ""
            self.guards[found, expression] = Guard(found, expression, line)
        return holds

    # -- other sizes ----------------------------------------------------------------------------

    def unknowns_at(self, binding: Sequence[int]) -> list[int]:
        """All unknowns, from the symbols' values; with any, not those of the guards alone."""
        found: list[int] = []
        given = iter(binding)
        for u in self.unknowns:
            if u.name:
                found.append(next(given))
                continue
            left, right = u.left.value(found), u.right.value(found)
            found.append(left // right if u.operator == "//" else left % right)
        return found

    def values(self, binding: Sequence[int]) -> list[int] | None:
        """All unknowns, from the symbols' values; None if a guard does not hold."""
        if any(n < SMALLEST for n in binding):
            return None
        try:
            found = self.unknowns_at(binding)
        except ZeroDivisionError:
            return None
        holds = all(guard.holds(found) for guard in self.guards.values())
        return found if holds else None

    def python(self) -> tuple[list[str], dict[str, Guard]]:
        """Statements that compute the unknowns from variables of the symbols' names, and what must
        hold: Python source -> the guard."""
        names = [u.name or f"{self.names[0]}_{k}" for k, u in enumerate(self.unknowns)]

        def source(e: Expression) -> str:
            parts = (
                "*".join([str(c), *(names[k] for k in monomial)]) for monomial, c in e.terms.items()
            )
            return " + ".join(parts) or "0"

        lines = [
            f"{name} = ({source(u.left)}) {u.operator} ({source(u.right)})"
            for name, u in zip(names, self.unknowns, strict=True)
            if not u.name
        ]
        return lines, {f"{source(g.expression)} {g.relation}": g for g in self.guards.values()}


class paused:
    """While inside, nothing is symbolic in this thread."""

    def __enter__(self) -> None:
        self._was, _active.symbols = _active.symbols, None

    def __exit__(self, *exc: object) -> None:
        _active.symbols = self._was


class Sized:
    """A value that holds sizes among other things; `filled` asks it for itself with numbers."""

    __slots__ = ()

    def filled(self, unknowns: Sequence[int]) -> Sized:
        """The value with numbers in place of what is symbolic in it."""
        raise NotImplementedError


def filled(x: Any, unknowns: Sequence[int]) -> Any:
    """A value with numbers in place of what is symbolic in it, in tuples too."""
    kind = type(x)
    if kind is SymInt:
        return x.expression.value(unknowns)
    if kind is SymFloat:
        return x.at(unknowns)
    if isinstance(x, tuple):
        parts = [filled(v, unknowns) for v in x]
        return kind(*parts) if hasattr(kind, "_fields") else kind(parts)
    return x.filled(unknowns) if isinstance(x, Sized) else x


def _made(value: int, expression: Expression) -> int:
    number = expression.number
    return number if number is not None else SymInt(value, expression)


def _operation(
    name: str, work: Callable[[Symbols, Expression, Expression, Any], Any]
) -> Callable[..., Any]:
    """A method of `SymInt` for an integer operation.

    Args:
        name: of the method of `int`.
        work: (symbols, own expression, the other's, the result at hand) -> the symbolic result.
    """
    plain = getattr(int, name)

    def call(self: SymInt, other: Any) -> Any:
        expression = self.expression
        space = expression.space
        if _active.symbols is not space or not isinstance(other, int):
            return plain(self, other)
        operand: Any = int.__pos__(other)
        if type(other) is SymInt and other.expression.space is space:
            operand = other.expression
        key = name, expression, operand
        found = space.memo.get(key)
        if found is None:
            right = operand if isinstance(operand, Expression) else space.constant(operand)
            found = space.memo[key] = work(space, expression, right, plain(self, other))
        return found

    return call


class SymInt(int):
    """An integer that knows the expression it is the value of: Note [Symbolic sizes].

    Args:
        value: for the sizes at hand.
        expression: of symbols.
    """

    expression: Expression

    def __new__(cls, value: int, expression: Expression) -> SymInt:
        made = int.__new__(cls, value)
        made.expression = expression
        return made

    __add__ = __radd__ = _operation("__add__", lambda s, a, b, v: _made(v, a.plus(b)))
    __sub__ = _operation("__sub__", lambda s, a, b, v: _made(v, a.plus(b, -1)))
    __rsub__ = _operation("__rsub__", lambda s, a, b, v: _made(v, b.plus(a, -1)))
    __floordiv__ = _operation("__floordiv__", lambda s, a, b, v: _made(v, s.operation("//", a, b)))
    __rfloordiv__ = _operation(
        "__rfloordiv__", lambda s, a, b, v: _made(v, s.operation("//", b, a))
    )
    __mod__ = _operation("__mod__", lambda s, a, b, v: _made(v, s.operation("%", a, b)))
    __rmod__ = _operation("__rmod__", lambda s, a, b, v: _made(v, s.operation("%", b, a)))
    __eq__ = _operation("__eq__", lambda s, a, b, v: s.ask("== 0", a.plus(b, -1), v))
    __ne__ = _operation("__ne__", lambda s, a, b, v: not s.ask("== 0", a.plus(b, -1), not v))
    __gt__ = _operation("__gt__", lambda s, a, b, v: s.ask("> 0", a.plus(b, -1), v))
    __lt__ = _operation("__lt__", lambda s, a, b, v: s.ask("> 0", b.plus(a, -1), v))
    __ge__ = _operation("__ge__", lambda s, a, b, v: not s.ask("> 0", b.plus(a, -1), not v))
    __le__ = _operation("__le__", lambda s, a, b, v: not s.ask("> 0", a.plus(b, -1), not v))
    _times = _operation("__mul__", lambda s, a, b, v: _made(v, a.times(b)))

    def __mul__(self, other: Any) -> Any:
        if isinstance(other, float):
            value = int.__float__(self) * other
            return SymFloat(value, "*", self, other) if symbolic(self) else value
        value = self._times(other)  # a sequence asks for the number itself
        return value if value is not NotImplemented else fixed(self) * other

    __rmul__ = __mul__

    def __neg__(self) -> Any:
        return 0 - self

    def __pos__(self) -> Any:
        return self

    def __abs__(self) -> Any:
        return self if self >= 0 else -self

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def __truediv__(self, other: Any) -> Any:
        if not isinstance(other, (int, float)):
            return NotImplemented
        value = int.__pos__(self) / other
        return SymFloat(value, "/", self, other) if symbolic(self) else value

    def __rtruediv__(self, other: Any) -> Any:
        if not isinstance(other, (int, float)):
            return NotImplemented
        value = other / int.__pos__(self)
        return SymFloat(value, "/", other, self) if symbolic(self) else value

    def __pow__(self, other: Any, modulo: Any = None) -> Any:
        if type(other) is int and 0 < other <= 4 and modulo is None:
            return math.prod([self] * other)
        if isinstance(other, float) and modulo is None and symbolic(self):
            return as_float(self) ** other
        return pow(fixed(self), other, modulo)

    def __bool__(self) -> bool:
        return bool(self != 0)

    def __hash__(self) -> int:
        active = _active.symbols is self.expression.space
        return self.expression.key if active else int.__hash__(self)

    def __index__(self) -> int:  # C code does not ask an integer for it
        return self

    def __int__(self) -> int:
        return fixed(self)

    __trunc__ = __int__

    def __float__(self) -> float:
        return float(fixed(self))

    def __round__(self, digits: Any = None) -> Any:
        return self

    def __floor__(self) -> Any:
        return self

    def __ceil__(self) -> Any:
        return self

    def __repr__(self) -> str:
        return repr(fixed(self))

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(fixed(self), spec)

    def __reduce__(self) -> Any:
        return int, (fixed(self),)

    def __deepcopy__(self, memo: Any) -> Any:
        return self

    __copy__ = __deepcopy__


def _by_value(name: str) -> Callable[..., Any]:
    """An operation that is done with the value, which it fixes."""
    plain = getattr(int, name)

    def call(self: SymInt, *others: Any) -> Any:
        return plain(fixed(self), *map(fixed, others))

    return call


for _name in ("and", "or", "xor", "lshift", "rshift"):
    for _side in ("", "r"):
        setattr(SymInt, f"__{_side}{_name}__", _by_value(f"__{_side}{_name}__"))
for _name in ("__invert__", "__rpow__", "__rdivmod__", "bit_length", "to_bytes"):
    setattr(SymInt, _name, _by_value(_name))


class SymFloat(float):
    """A number computed from symbolic sizes: `left operator right`.

    Arithmetic with it gives others; any other use makes the sizes guards.
    """

    operator: str
    left: Any
    right: Any

    def __new__(cls, value: float, operator: str, left: Any, right: Any) -> SymFloat:
        made = float.__new__(cls, float.__pos__(value))
        made.operator, made.left, made.right = operator, left, right
        return made

    def at(self, unknowns: Sequence[int]) -> float:
        """Its value, from those of the unknowns."""
        left, right = filled(self.left, unknowns), filled(self.right, unknowns)
        found: float = _NUMERIC[self.operator](left, right)
        return found

    def __float__(self) -> float:
        for n in (self.left, self.right):
            float(n)  # which fixes it
        return float.__pos__(self)

    def __hash__(self) -> int:
        if symbolic(self):
            return hash((self.operator, self.left, self.right))
        return float.__hash__(self)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, SymFloat) and symbolic(self):
            mine = (self.operator, self.left, self.right)
            if mine == (other.operator, other.left, other.right):
                return True
        return float.__eq__(float(self), other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __bool__(self) -> bool:
        if self.operator in "*/":
            return bool(self.left) and bool(self.right)
        return bool(float(self))

    def __repr__(self) -> str:
        return repr(float(self))

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(float(self), spec)

    def __reduce__(self) -> Any:
        return float, (float(self),)


_NUMERIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "**": operator.pow,
}


def _arithmetic(sign: str, name: str) -> Callable[..., Any]:
    plain = getattr(float, name)

    def call(self: SymFloat, other: Any) -> Any:
        value = plain(self, other)
        if value is NotImplemented or not symbolic(self):
            return value
        return (
            SymFloat(value, sign, other, self)
            if name[2] == "r"
            else SymFloat(value, sign, self, other)
        )

    return call


def _by_float(name: str) -> Callable[..., Any]:
    plain = getattr(float, name)
    return lambda self, *others: plain(float(self), *others)


for _name, _sign in (
    ("add", "+"), ("sub", "-"), ("mul", "*"), ("truediv", "/"), ("pow", "**")
):  # fmt: skip
    for _side in ("", "r"):
        setattr(SymFloat, f"__{_side}{_name}__", _arithmetic(_sign, f"__{_side}{_name}__"))
for _name in "lt le gt ge neg abs int trunc round floordiv mod".split():
    setattr(SymFloat, f"__{_name}__", _by_float(f"__{_name}__"))


def symbolic(n: Any) -> bool:
    """Whether a number is an expression now."""
    if isinstance(n, SymInt):
        return _active.symbols is n.expression.space
    return isinstance(n, SymFloat) and (symbolic(n.left) or symbolic(n.right))


def fixed(n: Any) -> Any:
    """A number as it is now; that it is so becomes a guard, if it is a symbolic integer."""
    if not isinstance(n, SymInt):
        return n
    value = int.__pos__(n)
    if symbolic(n):
        space = n.expression.space
        space.ask("== 0", n.expression.plus(space.constant(value), -1), True)
    return value


def at_hand(x: Any) -> Any:
    """A value with the numbers of now in place of what is symbolic in it, in tuples too, without
    asking: for choices that are right for every size."""
    kind = type(x)
    if kind is SymInt:
        return int.__pos__(x)
    if kind is SymFloat:
        return float.__pos__(x)
    if isinstance(x, tuple):
        parts = [at_hand(v) for v in x]
        return kind(*parts) if hasattr(kind, "_fields") else kind(parts)
    return x


def as_float(n: Any) -> float:
    """A number as a float, symbolic if it is."""
    if isinstance(n, SymInt) and symbolic(n):
        return SymFloat(int.__float__(n), "*", n, 1.0)
    return n if type(n) is SymFloat else float(n)


def divides(d: int, n: int) -> bool:
    """Whether a number divides another, for all sizes if one is symbolic."""
    if not isinstance(n, SymInt):
        return not isinstance(d, SymInt) and n % d == 0
    space = n.expression.space
    by = d.expression if isinstance(d, SymInt) else space.constant(d)
    return n.expression.over(by) is not None


def factors(n: int, high: int) -> list[int]:
    """Divisors, less than itself and up to `high` at hand, that a symbolic integer has for all
    sizes: those of its coefficient and its unknowns. A sum has none."""
    if not isinstance(n, SymInt) or len(n.expression.terms) != 1:
        return []
    ((monomial, c),) = n.expression.terms.items()
    space = n.expression.space
    found: dict[int, None] = {}
    for count in range(len(monomial) + 1):
        for chosen in itertools.combinations(monomial, count):
            product = math.prod(space.at_hand[k] for k in chosen)
            for d in range(1, high // product + 1):
                if c % d == 0 and (d < c or count < len(monomial)):
                    found[_made(product * d, space.expression({chosen: d}))] = None
    return list(found)
