"""Trigonometric functions and their inverses as vector IR (see `vecmath`).

sin, cos and tan reduce by pi/2 to sine and cosine on [-pi/4, pi/4], of which the leading terms and
the remainder are in two parts. The multiple of pi/2 is subtracted in three parts with fma; beyond
`CODY_WAITE_LIMIT` any lane sends the vector through `fl_rem_half_pi`, a scalar Payne-Hanek
reduction.

References: W. J. Cody and W. Waite, Software Manual for the Elementary Functions, 1980; M. Payne
and R. Hanek, Radian reduction for trigonometric functions, SIGNUM Newsletter 18, 1983.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from flambeau.codegen.vecmath_builder import Builder, Value, float_literal
from flambeau.codegen.vecmath_coefficients import TWO_OVER_PI_WORDS, C
from flambeau.codegen.vecmath_exponential import coefficients, round_to_integer

INF = math.inf

LargeFix = Callable[[Value, Value, Value], list[Value]]

# |x| up to which three parts of pi leave an error below half an ulp of any remainder.
CODY_WAITE_LIMIT = {"f32": 2.0**16, "f64": 2.0**30}
SIGN_BIT = {"f32": 0x80000000, "f64": 0x8000000000000000}
WIDTH = {"f32": 32, "f64": 64}


def rem_half_pi_text() -> str:
    """The scalar reduction `fl_rem_half_pi(x) -> {high, low, q}` for finite |x| >= 2^10.

    x = q pi/2 + high + low with |high + low| <= pi/4 and q modulo 4. Of 2/pi only the three words
    of 64 bits that matter at x's exponent are multiplied: 126 bits of fraction, of which
    cancellation takes at most 62.
    """
    words = (0, *TWO_OVER_PI_WORDS)
    table = ", ".join(f"i64 {w - (1 << 64) if w >> 63 else w}" for w in words)
    half_pi, half_pi_low = coefficients("HALF_PI", "f64")[:2]
    return f"""\
@fl_two_over_pi = internal unnamed_addr constant [{len(words)} x i64] [{table}], align 64
define internal {{ double, double, i64 }} @fl_rem_half_pi(double %x) noinline nounwind {{
entry:
  %bits = bitcast double %x to i64
  %biased0 = lshr i64 %bits, 52
  %biased = and i64 %biased0, 2047
  %fraction = and i64 %bits, 4503599627370495
  %m = or i64 %fraction, 4503599627370496
  ; x = m 2^(biased - 1075); bits of 2/pi above 2^(1076 - biased) give multiples of 4 quarters.
  %offset = sub i64 %biased, {1075 + 2 - 64}
  %word = lshr i64 %offset, 6
  %shift = and i64 %offset, 63
  %p0 = getelementptr inbounds i64, ptr @fl_two_over_pi, i64 %word
  %p1 = getelementptr inbounds i8, ptr %p0, i64 8
  %p2 = getelementptr inbounds i8, ptr %p0, i64 16
  %p3 = getelementptr inbounds i8, ptr %p0, i64 24
  %t0 = load i64, ptr %p0
  %t1 = load i64, ptr %p1
  %t2 = load i64, ptr %p2
  %t3 = load i64, ptr %p3
  %w0 = call i64 @llvm.fshl.i64(i64 %t0, i64 %t1, i64 %shift)
  %w1 = call i64 @llvm.fshl.i64(i64 %t1, i64 %t2, i64 %shift)
  %w2 = call i64 @llvm.fshl.i64(i64 %t2, i64 %t3, i64 %shift)
  %m128 = zext i64 %m to i128
  %w1w = zext i64 %w1 to i128
  %w2w = zext i64 %w2 to i128
  %low = mul i128 %m128, %w2w
  %low_top = lshr i128 %low, 64
  %mid0 = mul i128 %m128, %w1w
  %mid = add i128 %mid0, %low_top
  %high = mul i64 %m, %w0
  %high128 = zext i64 %high to i128
  %high_up = shl i128 %high128, 64
  ; P = x (2/pi) modulo 4, two bits before the point and 126 behind it.
  %p = add i128 %mid, %high_up
  %half = shl i128 1, 125
  %nearest = add i128 %p, %half
  %q128 = lshr i128 %nearest, 126
  %q_up = shl i128 %q128, 126
  %signed = sub i128 %p, %q_up
  %below = icmp slt i128 %signed, 0
  %opposite = sub i128 0, %signed
  %size = select i1 %below, i128 %opposite, i128 %signed
  ; size 2^-126 as the sum of two doubles.
  %zeros = call i128 @llvm.ctlz.i128(i128 %size, i1 false)
  %normal = shl i128 %size, %zeros
  %top = lshr i128 %normal, 75
  %second0 = lshr i128 %normal, 22
  %second = and i128 %second0, 9007199254740991
  %top64 = trunc i128 %top to i64
  %second64 = trunc i128 %second to i64
  %top_f = sitofp i64 %top64 to double
  %second_f = sitofp i64 %second64 to double
  %zeros64 = trunc i128 %zeros to i64
  %exponent = sub i64 {1023 + 75 - 126}, %zeros64
  %scale_bits = shl i64 %exponent, 52
  %scale = bitcast i64 %scale_bits to double
  %f = fmul double %top_f, %scale
  %g0 = fmul double %second_f, %scale
  %g = fmul double %g0, {float_literal("f64", 2.0**-53)}
  ; times pi/2
  %r = fmul double %f, {float_literal("f64", half_pi)}
  %nr = fneg double %r
  %e0 = call double @llvm.fma.f64(double %f, double {float_literal("f64", half_pi)}, double %nr)
  %e1 = call double @llvm.fma.f64(double %f, double {float_literal("f64", half_pi_low)}, double %e0)
  %e2 = call double @llvm.fma.f64(double %g, double {float_literal("f64", half_pi)}, double %e1)
  %rh = fadd double %r, %e2
  %back = fsub double %rh, %r
  %rl = fsub double %e2, %back
  %rhn = fneg double %rh
  %rln = fneg double %rl
  %q = trunc i128 %q128 to i64
  %qn = sub i64 0, %q
  %x_below = icmp slt i64 %bits, 0
  %flip = xor i1 %below, %x_below
  %oh = select i1 %flip, double %rhn, double %rh
  %ol = select i1 %flip, double %rln, double %rl
  %oq = select i1 %x_below, i64 %qn, i64 %q
  %s0 = insertvalue {{ double, double, i64 }} poison, double %oh, 0
  %s1 = insertvalue {{ double, double, i64 }} %s0, double %ol, 1
  %s2 = insertvalue {{ double, double, i64 }} %s1, i64 %oq, 2
  ret {{ double, double, i64 }} %s2
}}
"""


REM_HALF_PI_DECLARATIONS = (
    "declare i64 @llvm.fshl.i64(i64, i64, i64)",
    "declare i128 @llvm.ctlz.i128(i128, i1 immarg)",
    "declare double @llvm.fma.f64(double, double, double)",
)


def rem_vector_text(b: Builder) -> str:
    """The vector form: lane by lane through `fl_rem_half_pi`, results in three arrays."""
    dtype, lanes = b.dtype, b.lanes
    element, integer = ("float", "i32") if dtype == "f32" else ("double", "i64")
    if dtype == "f32":
        widen = "%wide = fpext float %x to double"
        narrow = """\
  %high = fptrunc double %h to float
  %hw = fpext float %high to double
  %rest0 = fsub double %h, %hw
  %rest = fadd double %rest0, %l
  %low = fptrunc double %rest to float
  %quarter = trunc i64 %q to i32"""
    else:
        widen = "%wide = fadd double %x, 0x8000000000000000"
        narrow = """\
  %high = fadd double %h, 0x8000000000000000
  %low = fadd double %l, 0x8000000000000000
  %quarter = add i64 %q, 0"""
    name = f"fl_rem_half_pi_{dtype}_{lanes}"
    return f"""\
define internal void @{name}(ptr %xs, ptr %highs, ptr %lows, ptr %qs) noinline cold nounwind {{
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %skip ]
  %px = getelementptr inbounds {element}, ptr %xs, i64 %i
  %x = load {element}, ptr %px
  {widen}
  %size = call double @llvm.fabs.f64(double %wide)
  %large = fcmp oge double %size, {float_literal("f64", CODY_WAITE_LIMIT[dtype])}
  %finite = fcmp olt double %size, {float_literal("f64", INF)}
  %wanted = and i1 %large, %finite
  br i1 %wanted, label %reduce, label %skip
reduce:
  %s = call {{ double, double, i64 }} @fl_rem_half_pi(double %wide)
  %h = extractvalue {{ double, double, i64 }} %s, 0
  %l = extractvalue {{ double, double, i64 }} %s, 1
  %q = extractvalue {{ double, double, i64 }} %s, 2
{narrow}
  %ph = getelementptr inbounds {element}, ptr %highs, i64 %i
  %pl = getelementptr inbounds {element}, ptr %lows, i64 %i
  %pq = getelementptr inbounds {integer}, ptr %qs, i64 %i
  store {element} %high, ptr %ph
  store {element} %low, ptr %pl
  store {integer} %quarter, ptr %pq
  br label %skip
skip:
  %next = add i64 %i, 1
  %done = icmp eq i64 %next, {lanes}
  br i1 %done, label %exit, label %loop
exit:
  ret void
}}
"""


def reduce_large(b: Builder, x: Value) -> tuple[Value, Value, Value]:
    """(high, low, q) of the lanes with large x, computed out of line; the others undefined."""
    kind, integer = x.kind, "i32" if x.kind == "f32" else "i64"
    name = f"fl_rem_half_pi_{kind}_{b.lanes}"
    b.functions["fl_rem_half_pi"] = rem_half_pi_text()
    b.functions[name] = rem_vector_text(b)
    b.declarations.update(REM_HALF_PI_DECLARATIONS)
    b.declarations.add("declare double @llvm.fabs.f64(double)")
    slots = []
    for slot_kind in (kind, kind, kind, integer):
        slot = b.name()
        # At the head of the function, so that inlining keeps the frame of fixed size.
        b.prologue.append(f"  {slot} = alloca {b.type(slot_kind)}, align 64")
        slots.append((slot, slot_kind))
    b.lines.append(f"  store {x.typed}, ptr {slots[0][0]}, align 64")
    b.lines.append(f"  call void @{name}({', '.join(f'ptr {slot}' for slot, _ in slots)})")
    high, low, q = (b.emit(f"load {b.type(k)}, ptr {slot}, align 64", k) for slot, k in slots[1:])
    return high, low, q


def reduce_half_pi(b: Builder, magnitude: Value) -> tuple[Value, Value, Value]:
    """(r, r_low, k): magnitude = k pi/2 + r + r_low with |r| <= pi/4; of k the low bits count.

    pi/2 is in three parts. The first fma is exact: the remainder is below 1 and a multiple of the
    last place of the first part.
    """
    n, k = round_to_integer(b, magnitude, coefficients("TWO_OVER_PI", magnitude.kind)[0])
    first, second, third = coefficients("HALF_PI", magnitude.kind)[:3]
    product, product_low = b.two_product(n, b.const(second, magnitude.kind))
    r, r_low = b.two_sum(b.fma(n, -first, magnitude), -product)
    r_low = b.fma(n, -third, r_low - product_low)
    fast = [r, r_low, k]
    r, r_low, k = with_large(b, magnitude, fast, lambda high, low, q: [high, low, q])
    return r, r_low, k


def sine_parts(b: Builder, r: Value, r_low: Value) -> tuple[Value, Value]:
    """sin(r + r_low) for |r| <= pi/4 as r and all else."""
    half, half_low = b.two_product(0.5 * r, r)
    u = half + half
    rest = b.fnma(half_low, r * (1.0 / 3.0), b.fnma(half, r_low, r_low))
    cube, cube_low = b.two_product(r, u)
    rest = b.fma(cube_low, b.const(-1.0 / 6.0, r.kind), rest)
    return r, b.fma(cube, b.horner(u, coefficients("SIN_QUARTER", r.kind)), rest)


def cosine_parts(b: Builder, r: Value, r_low: Value) -> tuple[Value, Value]:
    """cos(r + r_low) for |r| <= pi/4 as 1 - r^2/2, rounded, and all else."""
    half, half_low = b.two_product(0.5 * r, r)
    first, first_low = b.fast_two_sum(b.const(1.0, r.kind), -half)
    u = half + half
    rest = b.fnma(r, r_low, first_low - half_low)
    return first, b.fma(u * u, b.horner(u, coefficients("COS_QUARTER", r.kind)), rest)


def with_large(b: Builder, x: Value, fast: list[Value], fix: LargeFix) -> list[Value]:
    """`fast` with the lanes of large |x| replaced by `fix(high, low, q)`, off the common path."""
    large = (x >= CODY_WAITE_LIMIT[x.kind]) & (x < INF)
    b.branch(b.any(large), "large", "merge")
    b.label("large")
    high, low, q = reduce_large(b, x)
    slow = [b.select(large, s, f) for s, f in zip(fix(high, low, q), fast, strict=True)]
    b.jump("merge")
    b.label("merge")
    return [b.phi(f.kind, [(f, "entry"), (s, "large")]) for f, s in zip(fast, slow, strict=True)]


def sine_of_quarters(b: Builder, magnitude: Value, quarters: int) -> tuple[Value, Value]:
    """sin(magnitude + quarters pi/2), and an integer whose sign bit is set where it is to flip."""
    r, r_low, k = reduce_half_pi(b, magnitude)
    k = k + quarters if quarters else k
    sine, sine_rest = sine_parts(b, r, r_low)
    cosine, cosine_rest = cosine_parts(b, r, r_low)
    odd = (k & 1).equals(1)
    y = b.select(odd, cosine, sine) + b.select(odd, cosine_rest, sine_rest)
    return y, (k << (WIDTH[r.kind] - 2)) & SIGN_BIT[r.kind]


def sin(b: Builder, x: Value) -> Value:
    """By quarters, the sine or cosine of a remainder of at most pi/4."""
    y, flip = sine_of_quarters(b, b.abs(x), 0)
    sign = flip ^ (b.bits(x) & SIGN_BIT[x.kind])
    return b.bitcast(b.bits(y) ^ sign, x.kind)


def cos(b: Builder, x: Value) -> Value:
    """sin(|x| + pi/2)."""
    y, flip = sine_of_quarters(b, b.abs(x), 1)
    return b.bitcast(b.bits(y) ^ flip, x.kind)


def tan(b: Builder, x: Value) -> Value:
    """sin(r)/cos(r), or -cos(r)/sin(r) in odd quarters."""
    magnitude = b.abs(x)
    # Everything in two parts: tan is steep near pi/4, and divides by the remainder near pi/2.
    r, r_low, k = reduce_half_pi(b, magnitude)
    cosine, cosine_low = b.fast_two_sum(*cosine_parts(b, r, r_low))
    sine, sine_low = b.fast_two_sum(*sine_parts(b, r, r_low))
    # The quotient, corrected by what all three roundings took.
    odd = (k & 1).equals(1)
    top, top_low = b.select(odd, cosine, sine), b.select(odd, cosine_low, sine_low)
    bottom, bottom_low = b.select(odd, sine, cosine), b.select(odd, sine_low, cosine_low)
    reciprocal = 1.0 / bottom
    quotient = top * reciprocal
    rest = b.fnma(quotient, bottom_low, b.fnma(quotient, bottom, top)) + top_low
    quotient = b.fma(rest, reciprocal, quotient)
    sign = (k << (WIDTH[x.kind] - 1)) ^ (b.bits(x) & SIGN_BIT[x.kind])
    return b.bitcast(b.bits(quotient) ^ sign, x.kind)


# Inverses


def arcsine_parts(b: Builder, magnitude: Value) -> tuple[Value, Value, Value]:
    """(big, s, rest): asin(|x|) is s + rest, or pi/2 - 2 (s + rest) where big (|x| > 1/2)."""
    least = {"f32": 2.0**-60, "f64": 2.0**-500}[magnitude.kind]
    big = magnitude > 0.5
    u = b.select(big, b.fma(magnitude, -0.5, 0.5), magnitude * magnitude)
    root = b.sqrt(u)
    s = b.select(big, root, magnitude)
    # What rounding took from the root.
    s_low = b.select(big, b.fnma(root, root, u) / b.at_least(root + root, least), 0.0)
    rest = b.fma(s * u, b.horner(u, coefficients("ASIN", magnitude.kind)), s_low)
    return big, s, rest


def asin(b: Builder, x: Value) -> Value:
    """An odd polynomial up to 1/2, pi/2 - 2 asin(sqrt((1 - |x|)/2)) beyond."""
    big, s, rest = arcsine_parts(b, b.abs(x))
    half_pi, half_pi_low = coefficients("HALF_PI", x.kind)[:2]
    turn = b.const(half_pi, x.kind)
    near_one, near_low = b.fast_two_sum(turn, -2.0 * s)
    near_one = near_one + b.fma(rest, -2.0, near_low + half_pi_low)
    return b.copysign(b.select(big, near_one, s + rest), x)


def acos(b: Builder, x: Value) -> Value:
    """pi/2 - asin(x) up to 1/2, 2 asin(sqrt((1 - |x|)/2)) or its supplement beyond."""
    big, s, rest = arcsine_parts(b, b.abs(x))
    half_pi, half_pi_low = coefficients("HALF_PI", x.kind)[:2]
    below = b.bits(x) < 0
    # |x| <= 1/2: pi/2 - asin(x); x > 1/2: 2 w; x < -1/2: pi - 2 w.
    s_signed = b.copysign(s, x)
    middle = half_pi - (s_signed - (half_pi_low - b.copysign(rest, x)))
    base = b.select(below, 2.0 * half_pi, b.const(0.0, x.kind))
    base_low = b.select(below, 2.0 * half_pi_low, b.const(0.0, x.kind))
    twice = b.select(below, -2.0, b.const(2.0, x.kind))
    total, total_low = b.fast_two_sum(base, s * twice)
    outer = total + (total_low + b.fma(rest, twice, base_low))
    return b.select(big, outer, middle)


def arctangent_reduced(b: Builder, t: Value, narrow: bool) -> Value:
    """atan(t) for 0 <= t <= 1; a shorter polynomial is enough for a `narrow` result."""
    u = t * t
    return b.fma(t * u, b.horner(u, C["ATAN_FAST_f64" if narrow else "ATAN_f64"]), t)


def atan(b: Builder, x: Value) -> Value:
    """An odd polynomial up to 1, pi/2 - atan(1/|x|) beyond; f32 computes in f64."""
    magnitude = b.convert(b.abs(x), "f64")
    big = magnitude > 1.0
    t = b.select(big, 1.0 / magnitude, magnitude)
    w = arctangent_reduced(b, t, x.kind == "f32")
    half_pi, half_pi_low = coefficients("HALF_PI", "f64")[:2]
    angle = b.select(big, half_pi - (w - half_pi_low), w)
    return b.copysign(b.convert(angle, x.kind), x)


def atan2(b: Builder, y: Value, x: Value) -> Value:
    """Angle of the point (x, y): smaller magnitude over greater, then quadrant by quadrant."""
    ay, ax = b.convert(b.abs(y), "f64"), b.convert(b.abs(x), "f64")
    steep = ay > ax
    less, more = b.select(steep, ax, ay), b.select(steep, ay, ax)
    # 0/0 is 0 and inf/inf 1 here.
    equal = b.select(more.equals(0.0), 0.0, b.const(1.0, "f64"))
    t = b.select(less.equals(more), equal, less / more)
    w = arctangent_reduced(b, t, x.kind == "f32")
    half_pi, half_pi_low = coefficients("HALF_PI", "f64")[:2]
    left = b.bits(x) < 0
    # w, pi - w, pi/2 - w and pi/2 + w, by (steep, left).
    zero = b.const(0.0, "f64")
    base = b.select(steep, half_pi, b.select(left, 2.0 * half_pi, zero))
    base_low = b.select(steep, half_pi_low, b.select(left, 2.0 * half_pi_low, zero))
    signed = b.select(steep ^ left, -w, w)
    angle = b.select(steep | left, base + (signed + base_low), w)
    return b.copysign(b.convert(angle, x.kind), y)


FUNCTIONS = {f.__name__: f for f in (sin, cos, tan, asin, acos, atan, atan2)}
