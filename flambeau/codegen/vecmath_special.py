"""Special functions as vector IR (see `vecmath`)."""

from __future__ import annotations

import math

from flambeau.codegen.vecmath_builder import Builder, Value
from flambeau.codegen.vecmath_exponential import (
    coefficients,
    exp2_reduced,
    power_of_two,
    round_to_integer,
)

INF = math.inf


def erf(b: Builder, x: Value) -> Value:
    """x + x P(x^2) up to 1, then 1 - 2^(L(|x|)) with L a fit of log2(erfc), until erf rounds to 1."""
    magnitude = b.abs(x)
    u = x * x
    small = b.fma(magnitude, b.horner(u, coefficients("ERF", x.kind)), magnitude)
    t = b.at_most(magnitude, {"f32": 4.0, "f64": 6.0}[x.kind])
    power = b.horner(t, coefficients("ERF_TAIL", x.kind))
    n, k = round_to_integer(b, power)
    large = b.fnma(exp2_reduced(b, power - n), power_of_two(b, k), 1.0)
    return b.copysign(b.select(magnitude < 1.0, small, large), x)


FUNCTIONS = {f.__name__: f for f in (erf,)}
