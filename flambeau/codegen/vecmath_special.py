"""Error function, its complement and inverse, log-gamma and digamma as vector IR (see `vecmath`).

References: M. M. Shepherd and J. G. Laframboise, Chebyshev approximation of (1 + 2x) exp(x^2)
erfc(x) in 0 <= x < inf, Math. Comp. 36, 1981; M. Giles, Approximating the erfinv function, GPU
Computing Gems, 2011 (the variable log(1 - x^2)); NIST DLMF, sections 5.5
(reflection) and 5.11 (asymptotic forms).
"""

from __future__ import annotations

import math

from flambeau.codegen.vecmath_builder import Builder, Value
from flambeau.codegen.vecmath_coefficients import C
from flambeau.codegen.vecmath_exponential import (
    clamp,
    coefficients,
    exp,
    exp2_reduced,
    exp2_wide,
    log2_wide,
    log_of_parts,
    log_pair,
    power_of_two,
    reduce_ln2,
    round_to_integer,
    scale,
    split_exponent,
    split_positive,
)

INF = math.inf
NAN = math.nan


def split_horner(b: Builder, u: Value, name: str) -> tuple[Value, Value]:
    """The polynomial's constant term, and all else, with what rounding took from the former."""
    first, *others = C[name]
    (first_low,) = C[f"{name}_LOW"]
    return b.const(first, u.kind), b.fma(u, b.horner(u, others), first_low)


def erf(b: Builder, x: Value) -> Value:
    """x + x P(x^2) up to 1, then 1 - 2^(L(|x|)), L a fit of log2(erfc) until erf rounds to 1."""
    magnitude = b.abs(x)
    small = b.fma(magnitude, b.horner(b.fma(x, x, -0.5), coefficients("ERF", x.kind)), magnitude)
    t = b.at_most(magnitude, {"f32": 4.0, "f64": 6.0}[x.kind])
    # The fit is of L + 3, which is small where the exponential counts most.
    power = b.horner(t - C["ERFC_EIGHTH_f32"][0], coefficients("ERF_TAIL", x.kind))
    n, k = round_to_integer(b, power)
    large = b.fnma(exp2_reduced(b, power - n), power_of_two(b, k, -3), 1.0)
    return b.copysign(b.select(magnitude < 1.0, small, large), x)


def erfc(b: Builder, x: Value) -> Value:
    """1 - erf(x) near 0; exp(-x^2) P(q) / (1 + 2 x), q = (x - c)/(x + c), beyond."""
    return erfc_f32(b, x) if x.kind == "f32" else erfc_f64(b, x)


def erfc_f32(b: Builder, x: Value) -> Value:
    """`erfc` computed in f64, with shorter polynomials."""
    y = b.convert(x, "f64")
    magnitude = b.abs(y)
    near = b.fnma(y, b.horner(b.fma(y, y, -0.5), C["ERF_FAST_f64"]), 1.0 - y)
    t = b.at_most(magnitude, 10.1)
    d, shifted = b.fma(t, 2.0, 1.0), t + 2.0
    both = 1.0 / (d * shifted)
    p = b.horner((t - 2.0) * (both * d), C["ERFCX_FAST_f64"])
    tail = p * (both * shifted) * exp2_wide(b, t * t * (-1.0 / math.log(2.0)))
    tail = b.select(y < 0.0, 2.0 - tail, tail)
    return b.convert(b.select(magnitude < 0.46, near, tail), "f32")


def erfc_f64(b: Builder, x: Value) -> Value:
    """`erfc`, the exponential's argument and both factors in two parts up to the last sum."""
    magnitude = b.abs(x)
    near = b.fnma(x, b.horner(b.fma(x, x, -0.5), C["ERF_f64"]), 1.0 - x)
    t = b.at_most(magnitude, 27.3)
    d, d_low = b.two_sum(b.const(1.0, "f64"), t + t)
    # One division for both quotients: P hardly depends on q, and the other is corrected below.
    shifted = t + 4.0
    both = 1.0 / (d * shifted)
    inverse = both * shifted
    first, rest = split_horner(b, (t - 4.0) * (both * d), "ERFCX_f64")
    p, p_low = b.fast_two_sum(first, rest)
    g = p * inverse
    g_low = b.fma(b.fnma(g, d_low, b.fnma(g, d, p)), inverse, p_low * inverse)
    square, square_low = b.two_product(t, t)
    r, _, k = reduce_ln2(b, -square, -square_low)
    e = b.fma(r * r, b.horner(r, C["EXP_f64"]), r)
    tail = scale(b, g + b.fma(g, e, b.fma(g_low, e, g_low)), k)
    tail = b.select(x < 0.0, 2.0 - tail, tail)
    return b.select(magnitude < 0.46, near, tail)


def normal_cdf(b: Builder, x: Value) -> Value:
    """Distribution function of the normal distribution, to an absolute error.

    In f32 1/2 + x P(x^2), confined to [0, 1], which it leaves where the fit ends.
    """
    if x.kind == "f64":
        return b.fma(erf(b, x * math.sqrt(0.5)), 0.5, 0.5)
    u = b.at_most(b.fma(x, x, -14.5), 14.5)
    return clamp(b, x * b.horner(u, coefficients("NORMAL_CDF", x.kind)), -0.5, 0.5) + 0.5


def normal_pdf(b: Builder, x: Value) -> Value:
    """Density of the normal distribution, to an absolute error: 2^(-x^2 log2(e) / 2) / sqrt(2 pi),
    and 0 from where that is subnormal."""
    if x.kind == "f64":
        return exp(b, x * x * -0.5) * (1 / math.sqrt(2 * math.pi))
    power = x * x * (-0.5 / math.log(2))
    n, k = round_to_integer(b, power)
    density = b.horner(power - n, coefficients("NORMAL_PDF", x.kind)) * power_of_two(b, k)
    return b.select(power < -126.0, 0.0, density)


def erfinv(b: Builder, x: Value) -> Value:
    """x P(w) with w = -log(1 - x^2), and near the ends polynomials in sqrt(w)."""
    y = erfinv_f32(b, x) if x.kind == "f32" else erfinv_f64(b, x)
    magnitude = b.abs(x)
    outside = b.select(magnitude.equals(1.0), INF, b.const(NAN, x.kind))
    return b.copysign(b.select(magnitude < 1.0, y, outside), x)


def erfinv_f32(b: Builder, x: Value) -> Value:
    """`erfinv` for |x| < 1 computed in f64, with shorter polynomials."""
    magnitude = b.convert(b.abs(x), "f64")
    inside = b.at_least(b.fnma(magnitude, magnitude, 1.0), 2.0**-30)
    w = log2_wide(b, inside) * -math.log(2.0)
    central = magnitude * b.horner(w - 1.25, C["ERFINV_FAST_f64"])
    outer = b.horner(b.sqrt(w) - 3.125, C["ERFINV_TAIL_FAST_f64"])
    return b.convert(b.select(w < 5.0, central, outer), "f32")


def erfinv_f64(b: Builder, x: Value) -> Value:
    """`erfinv` for |x| < 1, its sign aside."""
    magnitude = b.abs(x)
    e, f, _ = split_exponent(b, b.fnma(x, x, 1.0))
    w = -log_of_parts(b, e, f)
    first, rest = split_horner(b, w - 2.0, "ERFINV_f64")
    p, p_low = b.fast_two_sum(first, rest)
    central = b.fma(magnitude, p, magnitude * p_low)
    s = b.sqrt(w)
    first, rest = split_horner(b, s - 3.25, "ERFINV_TAIL_f64")
    outer = first + rest
    first, rest = split_horner(b, s - 5.0, "ERFINV_FAR_f64")
    outer = b.select(s < 4.0, outer, first + rest)
    return b.select(w < 6.25, central, outer)


# Gamma functions: both precisions compute in f64, for f32 with shorter polynomials


def widened(b: Builder, x: Value) -> tuple[Value, str]:
    """x in f64 and the suffix of its coefficients' names."""
    return b.convert(x, "f64"), "_FAST_f64" if x.kind == "f32" else "_f64"


def log_wide(b: Builder, x: Value, suffix: str) -> tuple[Value, Value]:
    """log of a positive f64 in two parts; for f32 results the second is 0."""
    if suffix == "_f64":
        return log_pair(b, x)
    return log_of_parts(b, *split_positive(b, x)), b.const(0.0, "f64")


def fraction_from_integer(b: Builder, a: Value) -> tuple[Value, Value]:
    """(g, past): distance of a >= 0 from the nearest integer, and whether that one is above."""
    f = a - b.floor(a)
    past = f > 0.5
    return b.select(past, 1.0 - f, f), past


def lgamma_positive(b: Builder, z: Value, suffix: str) -> Value:
    """log Gamma(z) for z >= 1/2.

    Polynomials around its zeros 1 and 2 and around its minimum between; Stirling's form from 2.5.
    """
    one, two = z - 1.0, z - 2.0
    near_one = one * b.horner(one, C[f"LGAMMA_ONE{suffix}"]) + 0.0  # 0, not -0, at 1
    near_two = two * b.horner(two, C[f"LGAMMA_TWO{suffix}"])
    root, root_low = C["DIGAMMA_ROOT_f64"]
    t = (z - root) - root_low
    least, least_low = C["LGAMMA_MINIMUM_f64"]
    between = b.fma(t * t, b.horner(t, C[f"LGAMMA_LEAST{suffix}"]), least_low) + least
    # (z - 1/2)(log z - 1) + log(2 pi)/2 - 1/2 + Q(1/z^2)/z; log z - 1 is exact.
    logarithm, logarithm_low = log_wide(b, z, suffix)
    a = z - 0.5
    product, product_low = b.two_product(a, logarithm - 1.0)
    product_low = b.fma(a, logarithm_low, product_low)
    constant, constant_low = C["STIRLING_f64"]
    total, rest = b.two_sum(product, b.const(constant, "f64"))
    r = 1.0 / z
    rest = rest + (
        product_low + b.fma(r, b.horner(r * r, C[f"LGAMMA_STIRLING{suffix}"]), constant_low)
    )
    far = b.select(product < INF, total + rest, product)
    upper = b.select(z < 1.7, between, b.select(z < 2.5, near_two, far))
    return b.select(z < 1.25, near_one, upper)


def lgamma(b: Builder, x: Value) -> Value:
    """log |Gamma(x)|; below 1/2 from 1 + |x| by the recurrence or the reflection."""
    y, suffix = widened(b, x)
    a = b.abs(y)
    low, negative = y < 0.5, y < 0.0
    shifted = lgamma_positive(b, b.select(low, 1.0 + a, y), suffix)
    # |Gamma(x)| = 1 / (Gamma(1 - x) sin(pi x)/pi), and below 1/2 Gamma(x) = Gamma(1 + x) / x.
    distance, _ = fraction_from_integer(b, a)
    u = distance * math.pi
    u = u * u
    ratio = distance * b.fma(u, b.horner(u, C["SIN_f64"]), 1.0)
    factor = b.select(negative, ratio, y)
    positive = factor > 0.0
    log_factor = log_of_parts(b, *split_positive(b, b.select(positive, factor, 1.0)))
    result = b.select(negative, -shifted, shifted) - log_factor
    result = b.select(low, b.select(positive, result, INF), shifted)
    return b.convert(b.select(a < INF, result, a), x.kind)


def digamma_positive(b: Builder, z: Value, t: Value, suffix: str) -> Value:
    """digamma(z) for z >= 1, with t the distance of z from the zero.

    t times a polynomial up to 2, then log z - 1/(2z) - Q(1/z^2)/z^2.
    """
    near = t * b.horner(t, C[f"DIGAMMA_NEAR{suffix}"])
    logarithm, logarithm_low = log_wide(b, z, suffix)
    r = 1.0 / z
    u = r * r
    rest = b.fnma(u, b.horner(u, C[f"DIGAMMA_FAR{suffix}"]), b.fma(r, -0.5, logarithm_low))
    return b.select(z < 2.0, near, logarithm + rest)


def digamma(b: Builder, x: Value) -> Value:
    """Derivative of log Gamma; -inf at 0, inf at -0, NaN at the negative integers (as torch)."""
    y, suffix = widened(b, x)
    a = b.abs(y)
    low, negative = y < 1.0, y < 0.0
    # The distance of 1 + |x| from the zero without the rounding of 1 + |x|.
    root, root_low = C["DIGAMMA_ROOT_f64"]
    t = (a - b.select(low, root - 1.0, b.const(root, "f64"))) - root_low
    shifted = digamma_positive(b, b.select(low, 1.0 + a, y), t, suffix)
    # pi / tan(pi |x|) from sine and cosine of an angle up to pi/4.
    distance, past = fraction_from_integer(b, a)
    steep = distance > 0.25
    angle = b.select(steep, 0.5 - distance, distance) * math.pi
    u = angle * angle
    sine = b.fma(angle * u, b.horner(u, C["SIN_QUARTER_f64"]), angle)
    cosine = b.fma(u * u, b.horner(u, C["COS_QUARTER_f64"]), b.fma(u, -0.5, 1.0))
    cotangent = b.select(steep, sine, cosine) / b.select(steep, cosine, sine) * math.pi
    reflected = b.select(past, -cotangent, cotangent)
    # Above 0 the recurrence's 1/x, in two parts where the sum has any use for the second.
    r = 1.0 / y
    r_low = b.select(a > 2.0**-20, b.fnma(r, y, 1.0) * r, 0.0)
    recurred = (shifted - r_low) - r
    result = b.select(low, b.select(negative, shifted + reflected, recurred), shifted)
    pole = negative & distance.equals(0.0)
    result = b.select(pole, NAN, result)
    return b.convert(b.select(a < INF, result, b.select(negative, NAN, y)), x.kind)


FUNCTIONS = {f.__name__: f for f in (erf, erfc, normal_cdf, normal_pdf, erfinv, lgamma, digamma)}
