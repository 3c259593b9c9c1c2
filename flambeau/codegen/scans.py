"""Scans inside a region: what one carries along its axis, and how neighbours are combined.

A scan's state is one or two values. `lift` makes an element's state, `combine` joins the state of a
stretch with that of the stretch that follows it (associative, not commutative), `lower` reads the
result off. Within a vector the states of all prefixes take log2(lanes) rounds of `combine`
(Hillis and Steele 1986); the state of everything before the vector is carried from one to the next.
Floats are carried in float64, so that a result is rounded once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flambeau.codegen.lowerings import Builder, Value, is_float
from flambeau.dtype import dtype as DType

State = list[Value]


@dataclass(frozen=True)
class Scan:
    """How one row's scan is computed.

    Attributes:
        lift: (builder, element, its coordinate along the axis: i32 where that does) -> state.
        combine: (builder, dtype of the elements, earlier, later) -> state.
        lower: (builder, state, compute type of the result) -> result.
        identity: (dtype of the elements, compute type, type of coordinates) -> [(number, type)] for
            each part of the state: combined with what follows, it changes nothing.
    """

    lift: Callable[[Builder, Value, Value], State]
    combine: Callable[[Builder, DType, State, State], State]
    lower: Callable[[Builder, State, str], Value]
    identity: Callable[[DType, str, str], list[tuple[Any, str]]]


def _wide(element: str) -> str:
    return "double" if element == "float" else element


def _widened(b: Builder, x: Value, _: Value) -> State:
    return [b.convert("fpext", x, "double") if x.type == "float" else x]


def _first(b: Builder, state: State, element: str) -> Value:
    x = state[0]
    return b.convert("fptrunc", x, element) if x.type != element else x


def _joined(real: str, whole: str, truth: str) -> Callable[[Builder, DType, State, State], State]:
    def combine(b: Builder, dtype: DType, a: State, c: State) -> State:
        how = real if is_float(a[0]) else truth if a[0].type == "i1" else whole
        return [b.op(how, a[0], c[0])]

    return combine


def _place(largest: bool) -> Scan:
    """The extreme so far and its place; the last of equals, NaN before numbers."""

    def combine(b: Builder, dtype: DType, a: State, c: State) -> State:
        if is_float(a[0]):
            take = b.compare("oge" if largest else "ole", c[0], a[0])
            take = b.op("or", take, b.compare("uno", c[0], c[0]))
        else:
            sign = "s" if dtype.is_signed and a[0].type != "i1" else "u"
            take = b.compare(sign + ("ge" if largest else "le"), c[0], a[0])
        return [b.select(take, new, old) for old, new in zip(a, c, strict=True)]

    def identity(dtype: DType, element: str, place: str) -> list[tuple[Any, str]]:
        worst: float
        if element in ("float", "double"):
            worst = -math.inf if largest else math.inf
        elif element == "i1":
            worst = 0 if largest else 1
        else:
            bits, signed = int(element[1:]), dtype.is_signed
            low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
            worst = low if largest else high
        return [(worst, element), (0, place)]

    def lower(b: Builder, state: State, element: str) -> Value:
        at = state[1]
        return at if at.type == element else b.convert("zext", at, element)

    return Scan(lambda b, x, at: [x, at], combine, lower, identity)


def _logarithmic(b: Builder, dtype: DType, a: State, c: State) -> State:
    """Of sums s * exp(m): both at the larger m."""
    ahead = b.compare("oge", a[0], c[0])
    top = b.select(ahead, a[0], c[0])
    same = b.compare("oeq", a[0], c[0])  # also where both are infinite
    zero = b.const(0, "double", top.lanes)
    apart = b.select(same, zero, b.op("fsub", b.select(ahead, c[0], a[0]), top))
    less = b.function("exp", apart)
    big, small = b.select(ahead, a[1], c[1]), b.select(ahead, c[1], a[1])
    return [top, b.op("fadd", big, b.op("fmul", small, less))]


def _logarithm(b: Builder, state: State, element: str) -> Value:
    x = b.op("fadd", state[0], b.function("log", state[1]))
    return b.convert("fptrunc", x, element) if element != "double" else x


#: Row -> its scan.
SCANS: dict[str, Scan] = {
    "scan_sum": Scan(
        _widened,
        _joined("fadd", "add", "or"),
        _first,
        lambda dtype, element, _: [(0, _wide(element))],
    ),
    "scan_product": Scan(
        _widened,
        _joined("fmul", "mul", "and"),
        _first,
        lambda dtype, element, _: [(1, _wide(element))],
    ),
    "scan_argmax": _place(True),
    "scan_argmin": _place(False),
    "scan_logsumexp": Scan(
        lambda b, x, at: [*_widened(b, x, at), b.const(1, "double", x.lanes)],
        _logarithmic,
        _logarithm,
        lambda dtype, element, _: [(-math.inf, "double"), (0, "double")],
    ),
}
