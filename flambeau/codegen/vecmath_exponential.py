"""Exponentials, logarithms, powers and hyperbolic functions as vector IR (see `vecmath`).

References: J.-M. Muller, Elementary Functions, 3rd edition, 2016 (argument reduction, constants in
parts); K. C. Ng, fdlibm, 1993 (the f64 logarithm's series in s = f/(2+f)); N. Shibata and
F. Petrogalli, SLEEF: a portable vectorized library of C standard mathematical functions, IEEE TPDS
31, 2020 (the logarithm in two parts for pow).
"""

from __future__ import annotations

import math

from flambeau.codegen.vecmath_builder import EXPONENT_BIAS, MANTISSA_BITS, Builder, Value
from flambeau.codegen.vecmath_coefficients import C

INF = math.inf
NAN = math.nan

# Adding this rounds a float of moderate size to an integer, which then stands in its low bits.
ROUNDER = {"f32": 1.5 * 2.0**23, "f64": 1.5 * 2.0**52}
ROUNDER_BITS = {"f32": 0x4B400000, "f64": 0x4338000000000000}
LEAST_NORMAL = {"f32": 2.0**-126, "f64": 2.0**-1022}
# Above and below these exp is inf and 0.
EXP_RANGE = {"f32": (-104.0, 89.0), "f64": (-746.0, 710.0)}


def coefficients(name: str, kind: str) -> tuple[float, ...]:
    """The generated polynomial or constant `name` in the precision `kind`."""
    return C[f"{name}_{kind}"]


# Scaling by powers of two


def round_to_integer(b: Builder, x: Value, factor: float = 1.0) -> tuple[Value, Value]:
    """(n, k): n = x*factor rounded to the nearest integer, and an integer whose low bits are n."""
    t = x + ROUNDER[x.kind] if factor == 1.0 else b.fma(x, factor, ROUNDER[x.kind])
    return t - ROUNDER[x.kind], b.bits(t)


def power_of_two(b: Builder, k: Value, offset: int = 0) -> Value:
    """2^(n + offset) for a normal power; only the low bits of k are looked at."""
    kind = "f32" if k.kind == "i32" else "f64"
    shift = MANTISSA_BITS[kind]
    return b.bitcast((k << shift) + ((EXPONENT_BIAS[kind] + offset) << shift), kind)


def scale(b: Builder, p: Value, k: Value) -> Value:
    """p * 2^n for any result, subnormal and infinite too, rounded once (k from rounding)."""
    # The rounder's own bits, shifted, do not reach the low bits of either half.
    half = k >> 1
    return p * power_of_two(b, half) * power_of_two(b, k - half)


# Exponentials


def reduce_ln2(b: Builder, x: Value, x_low: Value | None = None) -> tuple[Value, Value, Value]:
    """(r, n, k): x (and its second part) = n ln 2 + r with |r| <= ln(2)/2."""
    n, k = round_to_integer(b, x, coefficients("LOG2_E", x.kind)[0])
    high, low = coefficients("LN2", x.kind)[:2]
    r = b.fma(n, -high, x)
    r = b.fma(n, -low, r) if x_low is None else r + b.fma(n, -low, x_low)
    return r, n, k


def reduce_ln2_parts(b: Builder, x: Value) -> tuple[Value, Value, Value, Value]:
    """(r, r_low, n, k) as `reduce_ln2`, with what rounding took from r."""
    n, k = round_to_integer(b, x, coefficients("LOG2_E", x.kind)[0])
    high, low = coefficients("LN2", x.kind)[:2]
    first = b.fma(n, -high, x)  # exact: a multiple of the last place of `high` or of x
    r = b.fma(n, -low, first)
    return r, b.fma(n, -low, first - r), n, k


def exp_reduced(b: Builder, r: Value) -> Value:
    """exp(r) for |r| <= ln(2)/2."""
    return b.horner(r, (1.0, 1.0, *coefficients("EXP", r.kind)))


def exp_parts(b: Builder, r: Value, r_low: Value | None = None) -> tuple[Value, Value]:
    """exp(r + r_low) for |r| <= ln(2)/2 as 1 + r, rounded, and all else."""
    s, s_low = b.fast_two_sum(b.const(1.0, r.kind), r)
    p = b.horner(r, coefficients("EXP", r.kind))
    rest = s_low if r_low is None else b.fma(r_low, s, s_low)
    return s, b.fma(r * r, p, rest)


def expm1_scaled(b: Builder, r: Value, r_low: Value, power: Value) -> tuple[Value, Value]:
    """2^n exp(r + r_low) - 1 for |r| <= ln(2)/2 in two parts, given 2^n."""
    s, s_low = b.fast_two_sum(b.const(1.0, r.kind), r)
    p, p_low = b.two_product(0.5 * r, r)
    rest = b.fma((p + p) * r, b.horner(r, coefficients("EXPM1", r.kind)), p_low)
    tail = p + (b.fma(r_low, s, s_low) + rest)
    first, first_low = b.two_sum(power * s, b.const(-1.0, r.kind))
    return b.fast_two_sum(first, b.fma(power, tail, first_low))


def clamp(b: Builder, x: Value, low: float, high: float) -> Value:
    """x confined to [low, high], a NaN kept."""
    return b.at_least(b.at_most(x, high), low)


def exp(b: Builder, x: Value) -> Value:
    """exp(x) = 2^n exp(r), r = x - n ln 2."""
    x = clamp(b, x, *EXP_RANGE[x.kind])
    r, r_low, _, k = reduce_ln2_parts(b, x)
    s, rest = exp_parts(b, r, r_low)
    return scale(b, s + rest, k)


def exp2_reduced(b: Builder, r: Value) -> Value:
    """2^r for |r| <= 1/2."""
    ln2 = coefficients("LN2", r.kind)[0]
    return b.horner(r, (1.0, ln2, *coefficients("EXP2", r.kind)))


def exp2(b: Builder, x: Value) -> Value:
    """2^x = 2^n 2^r, n the nearest integer; r is exact."""
    x = clamp(b, x, *{"f32": (-151.0, 129.0), "f64": (-1076.0, 1025.0)}[x.kind])
    n, k = round_to_integer(b, x)
    r = x - n
    ln2, ln2_low = coefficients("LN2", x.kind)[:2]
    p, p_low = b.two_product(r, ln2)
    s, s_low = b.fast_two_sum(b.const(1.0, x.kind), p)
    rest = b.fma(r, ln2_low, p_low + s_low)
    return scale(b, s + b.fma(r * r, b.horner(r, coefficients("EXP2", x.kind)), rest), k)


def expm1(b: Builder, x: Value) -> Value:
    """exp(x) - 1 = 2^n (exp(r) - 1) + (2^n - 1)."""
    low, high, top = {"f32": (-18.0, 89.0, 127.0), "f64": (-40.0, 710.0, 1023.0)}[x.kind]
    y = clamp(b, x, low, high)
    r, r_low, n, _ = reduce_ln2_parts(b, y)
    # The one n whose 2^n overflows is split in two.
    m = b.at_most(n, top)
    result, _ = expm1_scaled(b, r, r_low, power_of_two(b, b.bits(m + ROUNDER[x.kind])))
    return b.copysign(b.fma(result, n - m, result), x)


def sigmoid(b: Builder, x: Value) -> Value:
    """1 / (1 + exp(-x)), the denominator in two parts and scaled by 2^-j.

    So scaled, exp(-x) does not overflow before the result is 0.
    """
    low, high, j = {"f32": (-60.0, 104.0, 24), "f64": (-100.0, 746.0, 53)}[x.kind]
    r, _, k = reduce_ln2(b, clamp(b, -x, low, high))
    s, rest = exp_parts(b, r)
    power = power_of_two(b, k, -j)
    d = b.fma(power, s + rest, 2.0**-j)
    d_low = b.fma(power, rest, b.fma(power, s, 2.0**-j - d))  # the first difference is exact
    reciprocal = 1.0 / d
    error = b.fnma(reciprocal, d_low, b.fnma(reciprocal, d, 1.0))
    return b.fma(error, reciprocal, reciprocal) * 2.0**-j


# Hyperbolic functions


def tanh(b: Builder, x: Value) -> Value:
    """t / (t + 2) with t = exp(2 |x|) - 1, given the sign of x."""
    magnitude = b.abs(x)
    limit = {"f32": 20.0, "f64": 40.0}[x.kind]
    r, r_low, _, k = reduce_ln2_parts(b, b.at_most(magnitude + magnitude, limit))
    t, t_low = expm1_scaled(b, r, r_low, power_of_two(b, k))
    d, d_low = b.two_sum(t, b.const(2.0, x.kind))
    d_low = d_low + t_low
    reciprocal = 1.0 / d
    q = t * reciprocal
    rest = b.fnma(q, d_low, b.fnma(q, d, t)) + t_low
    return b.copysign(b.fma(rest, reciprocal, q), x)


def half_exp(b: Builder, magnitude: Value) -> Value:
    """exp(x)/2 for x >= 0, finite wherever that is."""
    r, _, k = reduce_ln2(b, b.at_most(magnitude, {"f32": 90.0, "f64": 711.0}[magnitude.kind]))
    p = exp_reduced(b, r)
    return (p + p) * power_of_two(b, k, -2)


def sinh(b: Builder, x: Value) -> Value:
    """exp(x)/2 - exp(-x)/2 from 1, an odd polynomial below."""
    magnitude = b.abs(x)
    e = half_exp(b, magnitude)
    u = x * x
    small = b.fma(x * u, b.horner(u, coefficients("SINH", x.kind)), x)
    return b.copysign(b.select(magnitude < 1.0, small, e - 0.25 / e), x)


def cosh(b: Builder, x: Value) -> Value:
    """exp(x)/2 + exp(-x)/2."""
    e = half_exp(b, b.abs(x))
    return e + 0.25 / e


def asinh(b: Builder, x: Value) -> Value:
    """log1p(|x| + x^2 / (1 + sqrt(1 + x^2))), given the sign of x."""
    magnitude = b.abs(x)
    large = magnitude > {"f32": 2.0**30, "f64": 2.0**100}[x.kind]
    y = b.select(large, 1.0, magnitude)
    square = y * y
    a = y + square / (1.0 + b.sqrt(1.0 + square))
    a = b.select(large, magnitude, a)
    return b.copysign(log1p_finite(b, a, b.select(large, 1.0, b.const(0.0)), magnitude), x)


def acosh(b: Builder, x: Value) -> Value:
    """log1p(t + sqrt(2 t + t^2)) with t = x - 1."""
    large = x > {"f32": 2.0**30, "f64": 2.0**100}[x.kind]
    t = b.select(large, 1.0, x) - 1.0
    # a = t + sqrt(2 t + t^2), square, root and sum in two parts.
    product, product_low = b.two_product(t, t)
    square, square_low = b.two_sum(t + t, product)
    root = b.sqrt(square)
    halved = 0.5 / b.at_least(root, LEAST_NORMAL[x.kind])
    root_low = (b.fnma(root, root, square) + (square_low + product_low)) * halved
    a, a_low = b.two_sum(t, root)
    a = b.select(large, x, a)
    y = log1p_finite(b, a, b.select(large, 1.0, b.const(0.0)), x, a_low + root_low)
    return b.select(x < 1.0, NAN, y)


def atanh(b: Builder, x: Value) -> Value:
    """log1p(2 |x| / (1 - |x|)) / 2, given the sign of x."""
    magnitude = b.abs(x)
    # log1p(2 x / (1 - x)) / 2, the quotient in two parts.
    numerator = magnitude + magnitude
    d = 1.0 - magnitude
    d_low = (1.0 - d) - magnitude
    reciprocal = 1.0 / d
    a = numerator * reciprocal
    a_low = b.fnma(a, d_low, b.fnma(a, d, numerator)) * reciprocal
    y = 0.5 * log1p_finite(b, a, None, a, a_low)
    outside = b.select(magnitude.equals(1.0), INF, b.const(NAN, x.kind))
    y = b.select(magnitude < 1.0, y, outside)
    return b.copysign(b.select(magnitude < LEAST_NORMAL[x.kind], magnitude, y), x)


# Logarithms


def split_exponent(b: Builder, x: Value) -> tuple[Value, Value, Value]:
    """(e, f, e as integer): normal x = 2^e (1 + f) > 0 with sqrt(1/2) <= 1 + f < sqrt(2)."""
    shift = MANTISSA_BITS[x.kind]
    bits = b.bits(x)
    e = (bits - SQRT_HALF_BITS[x.kind]) >> shift
    m = b.bitcast(bits - (e << shift), x.kind)
    if x.kind == "f32":
        exponent = b.convert(e, "f32")
    else:  # 64-bit integers have no conversion before AVX-512
        exponent = b.bitcast(e + ROUNDER_BITS["f64"], "f64") - ROUNDER["f64"]
    return exponent, m - 1.0, e


SQRT_HALF_BITS = {"f32": 0x3F3504F3, "f64": 0x3FE6A09E667F3BCD}


def split_positive(b: Builder, x: Value) -> tuple[Value, Value]:
    """(e, f) as `split_exponent`, for subnormal x too."""
    power = {"f32": 24, "f64": 54}[x.kind]
    subnormal = x < LEAST_NORMAL[x.kind]
    e, f, _ = split_exponent(b, b.select(subnormal, x * 2.0**power, x))
    return e - b.select(subnormal, float(power), b.const(0.0, x.kind)), f


def log1p_series(b: Builder, f: Value) -> tuple[Value, Value]:
    """log(1 + f) for sqrt(1/2) <= 1 + f < sqrt(2) as f - f^2/2, rounded, and all else."""
    h, h_low = b.two_product(0.5 * f, f)
    first, rest = b.fast_two_sum(f, -h)
    if f.kind == "f32":
        cubic, factor = (h + h) * f, b.horner(f, coefficients("LOG1P", "f32"))
    else:
        cubic = f / (2.0 + f)
        u = cubic * cubic
        factor = b.fma(u, b.horner(u, coefficients("LOGS", "f64")), h)
    return first, b.fma(cubic, factor, rest - h_low)


def log_of_parts(b: Builder, e: Value, f: Value, f_low: Value | None = None) -> Value:
    """e ln 2 + log(1 + f + f_low)."""
    high, low = coefficients("LN2_SHORT", f.kind)
    first, rest = log1p_series(b, f)
    if f_low is not None:
        rest = rest + b.fnma(f, f_low, f_low)
    total, total_low = b.fast_two_sum(e * high, first)  # e * high is exact
    return total + (total_low + b.fma(e, low, rest))


def log_split(kind: str) -> tuple[float, float]:
    """ln 2 in two parts."""
    high, low = coefficients("LN2", kind)[:2]
    return high, low


def log_domain(b: Builder, x: Value, y: Value) -> Value:
    """y with the logarithm's values at 0, inf, NaN and below 0 put in."""
    y = b.select(x < INF, y, x)
    return b.select(x > 0.0, y, b.select(x.equals(0.0), -INF, b.const(NAN, x.kind)))


def log(b: Builder, x: Value) -> Value:
    """log(x) = e ln 2 + log(1 + f)."""
    return log_domain(b, x, log_of_parts(b, *split_positive(b, x)))


def log2(b: Builder, x: Value) -> Value:
    """log2(x) = e + log(1 + f) / ln 2."""
    e, f = split_positive(b, x)
    high, low = coefficients("LOG2_E", x.kind)
    first, rest = log1p_series(b, f)
    product, product_low = b.two_product(first, high)
    total, total_low = b.fast_two_sum(e, product)
    low_parts = b.fma(first, low, product_low) + total_low
    return log_domain(b, x, total + b.fma(rest, high, low_parts))


def log10(b: Builder, x: Value) -> Value:
    """log10(x) = e log10(2) + log(1 + f) / ln 10."""
    e, f = split_positive(b, x)
    high, low = coefficients("LOG10_E", x.kind)
    e_high, e_low = coefficients("LOG10_2", x.kind)
    first, rest = log1p_series(b, f)
    product, product_low = b.two_product(first, high)
    power, power_low = b.two_product(e, e_high)
    total, total_low = b.fast_two_sum(power, product)
    low_parts = b.fma(e, e_low, b.fma(first, low, product_low)) + (power_low + total_low)
    return log_domain(b, x, total + b.fma(rest, high, low_parts))


def log1p_finite(
    b: Builder, a: Value, bias: Value | None, infinite: Value, a_low: Value | None = None
) -> Value:
    """log(1 + a + a_low) + bias ln 2 for -1 < a < inf; `infinite` where that is inf or NaN."""
    u, c = b.two_sum(b.const(1.0, a.kind), a)
    if a_low is not None:
        c = c + a_low
    e, f, n = split_exponent(b, u)
    # The rounding of 1 + a, scaled like f. Where u is near 1, f + c is a itself, exactly.
    c = c * power_of_two(b, 0 - b.select(n > 60, 60, n))
    f, f_low = b.two_sum(f, c)
    if bias is not None:
        e = e + bias
    return b.select(infinite < INF, log_of_parts(b, e, f, f_low), infinite)


def log1p(b: Builder, x: Value) -> Value:
    """log(1 + x), what rounding takes from 1 + x added back."""
    y = log1p_finite(b, x, None, x)
    y = b.select(x > -1.0, y, b.select(x.equals(-1.0), -INF, b.const(NAN, x.kind)))
    return b.select(x.equals(0.0), x, y)


# Powers


def power_domain(b: Builder, x: Value, y: Value, magnitude: Value) -> Value:
    """x^y from |x|^y, by the rules of C99 F.9.4.4."""
    one = b.const(1.0, x.kind)
    half = 0.5 * y
    integer = b.floor(y).equals(y)
    odd = integer & b.floor(half).differs(half)
    # (-1)^inf, the one infinite power of modulus 1; |x|^y would be exp(inf * 0).
    magnitude = b.select(b.abs(x).equals(1.0) & b.abs(y).equals(INF), one, magnitude)
    negative = b.bits(x) < 0
    result = b.select(negative & odd, -magnitude, magnitude)
    undefined = (x < 0.0) & ~integer & (x > -INF)
    result = b.select(undefined & y.equals(y), NAN, result)
    return b.select(x.equals(1.0) | y.equals(0.0), one, result)


def pow(b: Builder, x: Value, y: Value) -> Value:
    """x^y, by the rules of C99 for signs, zeros, infinities and NaN."""
    return pow_f32(b, x, y) if x.kind == "f32" else pow_f64(b, x, y)


def log2_wide(b: Builder, x: Value) -> Value:
    """log2(x) of a positive normal f64, to 2^-45 relative to the greater of 1 and the result."""
    e, f, _ = split_exponent(b, x)
    s = f / (2.0 + f)
    return e + s * b.horner(s * s, C["LOG2S_FAST_f64"])


def exp2_wide(b: Builder, x: Value) -> Value:
    """2^x in f64 to 2^-34, for |x| up to 1000."""
    n, k = round_to_integer(b, x)
    return b.horner(x - n, C["EXP2_FAST_f64"]) * power_of_two(b, k)


def pow_f32(b: Builder, x: Value, y: Value) -> Value:
    """2^(y log2 |x|) in f64: the product needs 8 more bits than f32 has."""
    magnitude = b.abs(x)
    wide = b.convert(magnitude, "f64")  # an f32 subnormal is a normal f64
    logarithm = b.select(wide.equals(0.0), -INF, log2_wide(b, wide))
    logarithm = b.select(wide < INF, logarithm, wide)
    product = clamp(b, b.convert(y, "f64") * logarithm, -160.0, 140.0)
    return power_domain(b, x, y, b.convert(exp2_wide(b, product), "f32"))


def log_pair(b: Builder, x: Value) -> tuple[Value, Value]:
    """log(x) for a positive f64 as an unevaluated sum of two, to about 2^-65 relative."""
    e, f = split_positive(b, x)
    # s = f / (2 + f) in two parts, u = s^2 in two parts.
    d, d_low = b.fast_two_sum(b.const(2.0, "f64"), f)
    reciprocal = 1.0 / d
    s = f * reciprocal
    s_low = b.fnma(s, d_low, b.fnma(s, d, f)) * reciprocal
    u, u_low = b.two_product(s, s)
    u_low = b.fma(s + s, s_low, u_low)
    # c = 2/3 + u P(u) in two parts, t = u c, log(1 + f) = 2 s + s t.
    third, third_low = coefficients("TWO_THIRDS", "f64")
    c, c_low = b.fast_two_sum(b.const(third, "f64"), u * b.horner(u, C["LOGS5_f64"]))
    c_low = c_low + third_low
    t, t_low = b.two_product(u, c)
    t_low = t_low + b.fma(u, c_low, u_low * c)
    v, v_low = b.two_product(s, t)
    v_low = v_low + b.fma(s, t_low, s_low * t)
    high, low = b.fast_two_sum(s + s, v)
    low = low + (s_low + s_low + v_low)
    ln2, ln2_low = log_split("f64")
    big, big_low = b.two_product(e, b.const(ln2, "f64"))
    total, rest = b.fast_two_sum(big, high)
    return total, rest + (low + b.fma(e, ln2_low, big_low))


def pow_f64(b: Builder, x: Value, y: Value) -> Value:
    """exp(y log |x|), the logarithm and the product carried in two parts."""
    magnitude = b.abs(x)
    high, low = log_pair(b, magnitude)
    high = b.select(magnitude.equals(0.0), -INF, high)
    high = b.select(magnitude < INF, high, magnitude)
    product, rest = b.two_product(y, high)
    rest = b.fma(y, low, rest)
    bounded = b.abs(product) < 800.0
    rest = b.select(bounded, rest, 0.0)
    product = clamp(b, product, -800.0, 800.0)
    n, k = round_to_integer(b, product, coefficients("LOG2_E", "f64")[0])
    ln2, ln2_low = log_split("f64")
    r = b.fma(n, -ln2, product) + b.fma(n, -ln2_low, rest)
    return power_domain(b, x, y, scale(b, exp_reduced(b, r), k))


FUNCTIONS = {
    f.__name__: f
    for f in (exp, exp2, expm1, sigmoid, tanh, sinh, cosh, asinh, acosh, atanh)
    + (log, log2, log10, log1p, pow)
}
