"""Bounds of expressions of sizes, quotients among them, for sizes in their ranges.

Note [Bounds]
Whether an inequality holds for all sizes is decided by its least value. A quotient is no
independent number: `a // 2` is `(a - r) / 2` with a remainder r of 0 or 1. So quotients by numbers
are replaced from the outermost in, until the expression (times a positive number) is a polynomial
in sizes and remainders, in which what rounding cannot change cancels. Then every variable is
written as its least value and what it is above that, or its greatest and what it is below. A
polynomial without negative coefficients in those is least where all of them are 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

Range = tuple[float, float]
_Variable = tuple[int, int, int]
_Polynomial = dict[tuple[_Variable, ...], int]

#: More terms than this are not looked through.
_MOST = 4000


def least(expression: Any, range_of: Callable[[int], Range]) -> float:
    """A number that an expression is never below; minus infinity where none is found.

    Args:
        expression: of sizes (`ir.symbol.Expression`).
        range_of: number of an unknown -> between what it lies.
    """
    found, scale = _without_quotients(expression)
    ranges: dict[_Variable, Range] = {}
    for monomial in found:
        for v in monomial:
            if v not in ranges:
                ranges[v] = range_of(v[0]) if v[1] < 0 else (0.0, float(v[2] - 1))
    flipped: set[_Variable] = set()
    while True:
        shifted = _shifted(found, ranges, flipped)
        if shifted is None:
            return -math.inf
        turned = {v for v in ranges if shifted.get((v,), 0) < 0 and v not in flipped}
        turned = {v for v in turned if ranges[v][1] != math.inf}
        if not turned:
            return _absorbed(shifted, ranges) / scale
        flipped |= turned


def _absorbed(shifted: _Polynomial, ranges: dict[_Variable, Range]) -> float:
    """The least value of a polynomial in variables from 0 to the widths of their ranges: of what
    is negative, one variable after another is taken to be as wide."""
    found = dict(shifted)
    while below := [m for m, c in found.items() if m and c < 0]:
        monomial = max(below, key=len)
        width, v = min((ranges[v][1] - ranges[v][0], v) for v in monomial)
        if math.isinf(width):
            return -math.inf
        rest = list(monomial)
        rest.remove(v)
        key = tuple(rest)
        found[key] = found.get(key, 0) + found.pop(monomial) * int(width)
    return found.get((), 0)


def _without_quotients(expression: Any) -> tuple[_Polynomial, int]:
    """A polynomial in unknowns and remainders, and how many times the expression it is.

    A variable is the number of an unknown, or of an expression with what it is divided by.
    """
    unknowns = expression.space.unknowns
    found = _polynomial(expression)
    scale = 1
    while len(found) < _MOST:
        inside = {v for m in found for v in m if v[1] < 0}
        inside = {v for v in inside if _divisor(unknowns[v[0]])}
        if not inside:
            break
        last = max(inside)
        unknown = unknowns[last[0]]
        divisor = _divisor(unknown)
        rest: _Polynomial = {((unknown.left.index, 0, divisor),): 1}
        if unknown.operator == "//":
            whole = dict(_polynomial(unknown.left))
            for m, c in rest.items():
                whole[m] = whole.get(m, 0) - c
        else:
            whole, divisor = rest, 1
        degree = max(m.count(last) for m in found)
        made: _Polynomial = {}
        for monomial, c in found.items():
            power = monomial.count(last)
            part: _Polynomial = {tuple(v for v in monomial if v != last): c}
            for _ in range(power):
                part = _product(part, whole)
            for m, d in part.items():
                made[m] = made.get(m, 0) + d * divisor ** (degree - power)
        found = {m: c for m, c in made.items() if c}
        scale *= divisor**degree
    return found, scale


def _divisor(unknown: Any) -> int:
    """By what number an unknown divides; 0 where it is a symbol, or divides by another size."""
    number = None if unknown.name else unknown.right.number
    return number if number is not None and number > 0 else 0


def _polynomial(expression: Any) -> _Polynomial:
    return {tuple((k, -1, 0) for k in m): c for m, c in expression.terms.items()}


def _product(one: _Polynomial, other: _Polynomial) -> _Polynomial:
    found: _Polynomial = {}
    for m, c in one.items():
        for n, d in other.items():
            key = tuple(sorted(m + n))
            found[key] = found.get(key, 0) + c * d
    return found


def _shifted(
    polynomial: _Polynomial, ranges: dict[_Variable, Range], flipped: set[_Variable]
) -> _Polynomial | None:
    """The polynomial in what variables are above their least values, or below their greatest;
    None where a least value is unknown, or there are too many terms."""
    found: _Polynomial = {}
    for monomial, c in polynomial.items():
        part: _Polynomial = {(): c}
        for v in monomial:
            low, high = ranges[v]
            start = high if v in flipped else low
            if math.isinf(start):
                return None
            part = _product(part, {(): int(start), (v,): -1 if v in flipped else 1})
        for m, d in part.items():
            found[m] = found.get(m, 0) + d
        if len(found) > _MOST:
            return None
    return found


__all__ = ["least"]
