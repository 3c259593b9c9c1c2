"""Makes flambeau/codegen/vecmath_coefficients.py: minimax polynomials and split constants.

Every polynomial is the minimax fit (Remez exchange on a dense Chebyshev grid, multiple precision)
of a target function with a weight that turns the fit's error into the relative error of the
function computed from it. Coefficients are then rounded to the format they are used in. Run as

    python tools/fit_vecmath.py            # rewrites the generated module
    python tools/fit_vecmath.py exp_f32    # prints one fit and its error
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import mpmath as mp

mp.mp.dps = 60

TARGET = Path(__file__).resolve().parent.parent / "flambeau" / "codegen" / "vecmath_coefficients.py"

Function = Callable[[mp.mpf], mp.mpf]


class Fit(NamedTuple):
    """One polynomial: sum_k c_k u^k ~ f(u) for u in [low, high], k = 0..degree."""

    name: str
    meaning: str
    f: Function
    low: mp.mpf
    high: mp.mpf
    degree: int
    weight: Function
    kind: str


def solve_remez(fit: Fit, iterations: int = 30) -> tuple[list[mp.mpf], mp.mpf]:
    """Minimax coefficients and the greatest weighted error.

    Works in v in [-1, 1], the interval's own variable, in the Chebyshev basis (well conditioned),
    and expands to powers of u at the end.

    Reference: E. W. Cheney, Introduction to Approximation Theory, 1966, chapter 3.
    """
    n = fit.degree
    grid_size = 24 * (n + 2)
    grid = [mp.cos(mp.pi * (2 * k + 1) / (2 * grid_size)) for k in range(grid_size)][::-1]
    middle, half = (fit.high + fit.low) / 2, (fit.high - fit.low) / 2
    points = [middle + half * v for v in grid]
    values = [fit.f(u) for u in points]
    # The error alternates in the sign of f - p, whatever the sign of the weight; where the weight
    # vanishes the system would be singular.
    weights = [max(abs(fit.weight(u)), mp.mpf("1e-20")) for u in points]
    basis = [chebyshev_row(v, n) for v in grid]
    nodes = [round((grid_size - 1) * (1 - mp.cos(mp.pi * k / (n + 1))) / 2) for k in range(n + 2)]
    for _ in range(iterations):
        system = mp.matrix(n + 2, n + 2)
        right = mp.matrix(n + 2, 1)
        for row, k in enumerate(nodes):
            for column in range(n + 1):
                system[row, column] = basis[k][column]
            system[row, n + 1] = (-1) ** row / weights[k]
            right[row] = values[k]
        solution = mp.lu_solve(system, right)
        coefficients = [solution[k] for k in range(n + 1)]
        errors = [
            weights[k] * (values[k] - mp.fdot(coefficients, basis[k])) for k in range(grid_size)
        ]
        exchanged = alternating_extrema(errors, n + 2)
        worst = max(abs(e) for e in errors)
        if exchanged == nodes or worst <= abs(solution[n + 1]) * (1 + mp.mpf("1e-6")):
            break
        nodes = exchanged
    return powers_of(coefficients, middle, half), worst


def chebyshev_row(v: mp.mpf, n: int) -> list[mp.mpf]:
    """T_0(v) .. T_n(v)."""
    row = [mp.mpf(1), v]
    while len(row) <= n:
        row.append(2 * v * row[-1] - row[-2])
    return row[: n + 1]


def powers_of(chebyshev: list[mp.mpf], middle: mp.mpf, half: mp.mpf) -> list[mp.mpf]:
    """Coefficients in powers of u of a Chebyshev series in (u - middle) / half."""
    n = len(chebyshev)
    variable = [-middle / half, 1 / half]
    polynomials = [[mp.mpf(1)], variable]
    while len(polynomials) < n:
        doubled = [2 * c for c in multiply(variable, polynomials[-1])]
        before = polynomials[-2] + [mp.mpf(0)] * (len(doubled) - len(polynomials[-2]))
        polynomials.append([a - b for a, b in zip(doubled, before, strict=True)])
    total = [mp.mpf(0)] * n
    for c, polynomial in zip(chebyshev, polynomials, strict=False):
        for k, p in enumerate(polynomial):
            total[k] += c * p
    return total


def multiply(a: list[mp.mpf], b: list[mp.mpf]) -> list[mp.mpf]:
    """The product of two polynomials."""
    product = [mp.mpf(0)] * (len(a) + len(b) - 1)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            product[i + j] += x * y
    return product


def alternating_extrema(errors: list[mp.mpf], count: int) -> list[int]:
    """Indices of `count` errors of alternating sign, as great as can be."""
    runs: list[int] = []
    for k, e in enumerate(errors):
        if runs and (errors[runs[-1]] > 0) == (e > 0):
            if abs(e) > abs(errors[runs[-1]]):
                runs[-1] = k
        else:
            runs.append(k)
    while len(runs) > count:
        if len(runs) - count == 1:
            runs.pop(0 if abs(errors[runs[0]]) < abs(errors[runs[-1]]) else -1)
            continue
        weakest = min(
            range(len(runs) - 1), key=lambda i: abs(errors[runs[i]]) + abs(errors[runs[i + 1]])
        )
        del runs[weakest : weakest + 2]
    if len(runs) < count:
        raise ArithmeticError(f"only {len(runs)} of {count} alternations: lower the degree")
    return runs


def rounded(x: mp.mpf, kind: str) -> float:
    """x rounded to f32 or f64, as a Python float."""
    if kind == "f64":
        return float(x)
    y = float(x)
    return float(struct.unpack("<f", struct.pack("<f", y))[0])


def split(x: mp.mpf, parts: int, kind: str) -> tuple[float, ...]:
    """x as an unevaluated sum of `parts` floats, each the rounding of what remains."""
    result = []
    for _ in range(parts):
        result.append(rounded(x, kind))
        x = x - mp.mpf(result[-1])
    return tuple(result)


def continued(f: Function) -> Function:
    """f with its removable singularity at 0 filled.

    `f` is evaluated at 10^-18 in place of anything smaller; with 60 digits that leaves 20 right.
    """
    tiny = mp.mpf("1e-18")
    return lambda u: f(u if abs(u) > tiny else tiny)


def fits() -> list[Fit]:
    """All polynomials of the module."""
    return [*exponential_fits(), *trigonometric_fits(), *error_fits(), *gamma_fits()]


def fit(
    name: str,
    meaning: str,
    f: Function,
    interval: tuple[object, object],
    degree: int,
    weight: Function | None = None,
) -> Fit:
    """One polynomial, of the kind its name ends in; without a weight its relative error counts."""
    low, high = map(mp.mpf, interval)
    target = continued(f)
    relative = continued(weight) if weight else lambda u: 1 / target(u)
    return Fit(name, meaning, target, low, high, degree, relative, name[-3:])


def exponential_fits() -> list[Fit]:
    """The polynomials of exponentials, logarithms, powers and sinh."""
    half_ln2 = mp.log(2) / 2 * mp.mpf("1.0001")
    reduced = (-half_ln2, half_ln2)
    mantissa = (mp.sqrt(0.5) - 1, mp.sqrt(2) - 1)
    square = (0, ((mp.sqrt(2) - 1) / (mp.sqrt(2) + 1)) ** 2)
    quadratic = lambda r: (mp.expm1(r) - r) / r**2
    atanh2 = lambda u: 2 * mp.atanh(mp.sqrt(u)) / mp.sqrt(u)
    sinh = lambda u: (mp.sinh(mp.sqrt(u)) / mp.sqrt(u) - 1) / u
    table = []
    for kind, degrees in (("f32", (4, 4, 4, 3)), ("f64", (9, 9, 9, 6))):
        exp, expm1, exp2, odd = degrees
        table += [
            fit(f"EXP_{kind}", "(exp(r) - 1 - r) / r^2", quadratic, reduced, exp,
                lambda r: r**2 / mp.exp(r)),
            fit(f"EXPM1_{kind}", "(exp(r) - 1 - r - r^2/2) / r^3",
                lambda r: (mp.expm1(r) - r - r**2 / 2) / r**3, reduced, expm1,
                lambda r: r**3 / mp.expm1(r)),
            fit(f"EXP2_{kind}", "(2^r - 1 - r ln 2) / r^2",
                lambda r: (mp.expm1(r * mp.log(2)) - r * mp.log(2)) / r**2, (-0.5, 0.5), exp2,
                lambda r: r**2),
            fit(f"SINH_{kind}", "(sinh(x) - x) / x^3, u = x^2, |x| <= 1", sinh, (0, 1), odd,
                lambda u: u),
        ]  # fmt: skip
    return [
        *table,
        fit("LOG1P_f32", "(log1p(f) - f + f^2/2) / f^3",
            lambda f: (mp.log1p(f) - f + f * f / 2) / f**3, mantissa, 8,
            lambda f: f**3 / mp.log1p(f)),
        fit("LOGS_f64", "(2 atanh(s) - 2 s) / s^3, u = s^2", lambda u: (atanh2(u) - 2) / u,
            square, 6, lambda u: u),
        fit("LOGS5_f64", "(2 atanh(s) - 2 s - 2/3 s^3) / s^5, u = s^2",
            lambda u: (atanh2(u) - 2 - 2 * u / 3) / u**2, square, 8, lambda u: u**2),
        fit("LOG2S_FAST_f64", "2 atanh(s) / (s ln 2), u = s^2, for f32 pow",
            lambda u: atanh2(u) / mp.log(2), square, 5),
        fit("EXP2_FAST_f64", "2^r, for f32 pow", lambda r: mp.power(2, r), (-0.5, 0.5), 7),
    ]  # fmt: skip


def trigonometric_fits() -> list[Fit]:
    """The polynomials of sine, cosine and the inverse functions."""
    slack = mp.mpf("1.0005")
    quarter, half = (0, (mp.pi / 4 * slack) ** 2), (0, (mp.pi / 2 * slack) ** 2)
    sine = lambda u: (mp.sin(mp.sqrt(u)) / mp.sqrt(u) - 1) / u
    cosine = lambda u: (mp.cos(mp.sqrt(u)) - 1 + u / 2) / u**2
    arcsine = lambda u: (mp.asin(mp.sqrt(u)) / mp.sqrt(u) - 1) / u
    arctangent = lambda u: (mp.atan(mp.sqrt(u)) / mp.sqrt(u) - 1) / u
    table = []
    for kind, degrees in (("f32", (3, 2, 4)), ("f64", (5, 5, 11))):
        sin_quarter, cos_quarter, asin = degrees
        table += [
            fit(f"SIN_QUARTER_{kind}", "(sin(r) - r) / r^3, u = r^2, |r| <= pi/4", sine, quarter,
                sin_quarter, lambda u: u),
            fit(f"COS_QUARTER_{kind}", "(cos(r) - 1 + r^2/2) / r^4, u = r^2, |r| <= pi/4", cosine,
                quarter, cos_quarter, lambda u: u**2),
            fit(f"ASIN_{kind}", "(asin(x) - x) / x^3, u = x^2, |x| <= 1/2", arcsine, (0, 0.25),
                asin, lambda u: u),
        ]  # fmt: skip
    for name, degree in (("ATAN_f64", 19), ("ATAN_FAST_f64", 9)):
        table.append(
            fit(name, "(atan(t) - t) / t^3, u = t^2, |t| <= 1", arctangent, (0, 1), degree,
                lambda u: u * mp.sqrt(u) / mp.atan(mp.sqrt(u)))
        )  # fmt: skip
    table.append(
        fit("SIN_f64", "(sin(r) - r) / r^3, u = r^2, |r| <= pi/2", sine, half, 7,
            lambda u: u * mp.sqrt(u) / mp.sin(mp.sqrt(u)))
    )  # fmt: skip
    return table


def scaled_erfc(k: int) -> Function:
    """(1 + 2 x) exp(x^2) erfc(x) as a function of (x - k) / (x + k)."""

    def f(q: mp.mpf) -> mp.mpf:
        x = k * (1 + q) / (1 - q)
        return mp.exp(x**2) * mp.erfc(x) * (1 + 2 * x)

    return f


def erfc_eighth() -> mp.mpf:
    """Where erfc is 1/8, rounded to f32."""
    return mp.mpf(rounded(mp.findroot(lambda x: mp.erfc(x) - 0.125, 1), "f32"))


def of_argument(f: Function, power: int, center: mp.mpf) -> Function:
    """f as a function of u, where (u + center)^power = -log(1 - x^2)."""
    return lambda u: f(mp.sqrt(-mp.expm1(-((u + center) ** power))))


def error_fits() -> list[Fit]:
    """The polynomials of erf, erfc, erfinv and the normal distribution."""
    ratio = lambda v: (
        mp.erf(mp.sqrt(v + 0.5)) / mp.sqrt(v + 0.5) - 1 if v > -0.5 else (2 / mp.sqrt(mp.pi) - 1)
    )
    eighth = erfc_eighth()
    table = []
    for kind, end, degree, tail in (("f32", 4, 6, 6), ("f64", 6, 11, 17)):
        table += [
            fit(f"ERF_{kind}", "erf(x)/x - 1, u = x^2 - 1/2, |x| <= 1", ratio, (-0.5, 0.5), degree,
                lambda u: 1),
            fit(f"ERF_TAIL_{kind}", "log2(8 erfc(x)), u = x - ERFC_EIGHTH, 1 <= x",
                lambda u: mp.log(8 * mp.erfc(eighth + u), 2), (1 - eighth, end - eighth), tail,
                lambda u: mp.erfc(eighth + u) / mp.erf(eighth + u)),
        ]  # fmt: skip
    above_half = lambda u: (mp.ncdf(mp.sqrt(u + 14.5)) - 0.5) / mp.sqrt(u + 14.5)
    table += [
        fit("NORMAL_CDF_f32", "(cdf(x) - 1/2) / x, u = x^2 - 14.5, cdf of the normal distribution",
            lambda u: above_half(max(u, mp.mpf("-14.5") + mp.mpf("1e-18"))), (-14.5, 14.5), 15,
            lambda u: mp.sqrt(abs(u + 14.5))),
        fit("NORMAL_PDF_f32", "2^r / sqrt(2 pi)",
            lambda r: mp.power(2, r) / mp.sqrt(2 * mp.pi), (-0.5, 0.5), 5, lambda r: 1),
    ]  # fmt: skip
    table.append(
        fit("ERF_FAST_f64", "erf(x)/x - 1, u = x^2 - 1/2, |x| <= 0.46", ratio, (-0.5, "-0.288"), 4,
            lambda u: 1)
    )  # fmt: skip
    for suffix, k, far, degree in (("_FAST_f64", 2, "10.1", 10), ("_f64", 4, "27.3", 21)):
        low, high = ((mp.mpf(x) - k) / (mp.mpf(x) + k) for x in ("0.46", far))
        table.append(
            fit(f"ERFCX{suffix}", f"(1 + 2 x) exp(x^2) erfc(x), u = (x - {k}) / (x + {k})",
                scaled_erfc(k), (low, high), degree)
        )  # fmt: skip
    for suffix, center, far, degree in (
        ("_FAST_f64", "1.25", "5", 11),
        ("_f64", "2", "6.25", 24),
    ):
        c = mp.mpf(center)
        table.append(
            fit(f"ERFINV{suffix}", f"erfinv(x) / x, u = -log(1 - x^2) - {center}",
                of_argument(lambda x: mp.erfinv(x) / x, 1, c),
                (-c, mp.mpf(far) - c), degree)
        )  # fmt: skip
    for name, near, far, center, degree in (
        ("ERFINV_TAIL_FAST_f64", "2.236", "4.05", "3.125", 8),
        ("ERFINV_TAIL_f64", "2.5", "4", "3.25", 18),
        ("ERFINV_FAR_f64", "4", "6.05", "5", 17),
    ):
        c = mp.mpf(center)
        table.append(
            fit(name, f"erfinv(x), u = sqrt(-log(1 - x^2)) - {center}",
                of_argument(mp.erfinv, 2, c), (mp.mpf(near) - c, mp.mpf(far) - c), degree)
        )  # fmt: skip
    return table


def gamma_fits() -> list[Fit]:
    """The polynomials of lgamma and digamma; those named FAST serve f32 results."""
    z = lambda u: 1 / mp.sqrt(u)
    root = mp.findroot(mp.digamma, 1.46)
    least = mp.loggamma(root)
    main = lambda z: (z - 0.5) * mp.log(z) - z + mp.log(2 * mp.pi) / 2
    table = []
    for suffix, degrees in (("", (26, 17, 14, 11, 22, 15)), ("_FAST", (12, 8, 7, 5, 12, 5))):
        one, two, between, stirling, near, far = degrees
        table += [
            fit(f"LGAMMA_ONE{suffix}_f64", "lgamma(1 + t) / t",
                lambda t: mp.loggamma(1 + t) / t, (-0.5, 0.25), one),
            fit(f"LGAMMA_TWO{suffix}_f64", "lgamma(2 + t) / t",
                lambda t: mp.loggamma(2 + t) / t, (-0.3, 0.5), two),
            fit(f"LGAMMA_LEAST{suffix}_f64", "(lgamma(r + t) - lgamma(r)) / t^2, r the minimum",
                lambda t: (mp.loggamma(root + t) - least) / t**2,
                (mp.mpf("1.25") - root, mp.mpf("1.7") - root), between,
                lambda t: t**2 / mp.loggamma(root + t)),
            fit(f"LGAMMA_STIRLING{suffix}_f64",
                "z (lgamma(z) - (z - 1/2) log z + z - log(2 pi)/2), u = 1/z^2",
                lambda u: (mp.loggamma(z(u)) - main(z(u))) * z(u), (0, "0.16"), stirling,
                lambda u: 1 / z(u) / mp.loggamma(z(u))),
            fit(f"DIGAMMA_NEAR{suffix}_f64", "digamma(z) / t, t = z - its root, 1 <= z <= 2",
                lambda t: mp.digamma(root + t) / t, (1 - root, 2 - root), near),
            fit(f"DIGAMMA_FAR{suffix}_f64", "z^2 (log z - 1/(2 z) - digamma(z)), u = 1/z^2",
                lambda u: (mp.log(z(u)) - 1 / z(u) / 2 - mp.digamma(z(u))) / u, (0, 0.25), far,
                lambda u: u / mp.digamma(z(u))),
        ]  # fmt: skip
    return table


def constants() -> dict[str, tuple[str, tuple[float, ...]]]:
    """Split constants: name -> (meaning, parts)."""
    table: dict[str, tuple[str, tuple[float, ...]]] = {}
    for kind, bits in (("f32", 15), ("f64", 41)):
        table[f"LN2_{kind}"] = ("ln 2", split(mp.log(2), 2, kind))
        short = mp.floor(mp.log(2) * 2**bits) / 2**bits
        parts = (float(short), rounded(mp.log(2) - short, kind))
        table[f"LN2_SHORT_{kind}"] = ("ln 2, of which exponents times the first are exact", parts)
        table[f"LOG2_E_{kind}"] = ("1 / ln 2", split(1 / mp.log(2), 2, kind))
        table[f"LOG10_E_{kind}"] = ("1 / ln 10", split(1 / mp.log(10), 2, kind))
        table[f"LOG10_2_{kind}"] = ("log10 2", split(mp.log10(2), 2, kind))
        table[f"PI_{kind}"] = ("pi", split(mp.pi, 3, kind))
        table[f"HALF_PI_{kind}"] = ("pi / 2", split(mp.pi / 2, 3, kind))
        table[f"TWO_OVER_PI_{kind}"] = ("2 / pi", split(2 / mp.pi, 1, kind))
        table[f"ONE_OVER_PI_{kind}"] = ("1 / pi", split(1 / mp.pi, 1, kind))
    root = mp.findroot(mp.digamma, 1.46)
    stirling = mp.log(2 * mp.pi) / 2 - 0.5
    table["DIGAMMA_ROOT_f64"] = ("positive root of digamma", split(root, 2, "f64"))
    table["LGAMMA_MINIMUM_f64"] = ("lgamma at that root", split(mp.loggamma(root), 2, "f64"))
    table["STIRLING_f64"] = ("log(2 pi)/2 - 1/2", split(stirling, 2, "f64"))
    table["ERFC_EIGHTH_f32"] = ("where erfc is 1/8, about", (float(erfc_eighth()),))
    table["TWO_THIRDS_f64"] = ("2 / 3", split(mp.mpf(2) / 3, 2, "f64"))
    return table


def two_over_pi_words(count: int = 21) -> list[int]:
    """2/pi as 64-bit words, the first of weight 2^-64."""
    with mp.workprec(64 * count + 64):
        scaled = int(mp.floor(2 / mp.pi * mp.mpf(2) ** (64 * count)))
    return [scaled >> 64 * (count - 1 - k) & (2**64 - 1) for k in range(count)]


def render() -> str:
    """The text of the generated module."""
    out = [
        '"""Minimax coefficients and split constants of the vector functions.',
        "",
        "Made by tools/fit_vecmath.py; do not edit. `C[name]` are the coefficients of a polynomial",
        "from the lowest power up, or the parts of a constant, from the greatest down.",
        '"""',
        "",
        "C: dict[str, tuple[float, ...]] = {",
    ]
    for each in fits():
        coefficients, error = solve_remez(each)
        bits = mp.nstr(mp.log(error, 2), 4)
        interval = f"[{mp.nstr(each.low, 4)}, {mp.nstr(each.high, 4)}]"
        print(f"{each.name}: degree {each.degree}, 2^{bits}", file=sys.stderr)
        comment = f"    # {each.meaning} on {interval}; relative error 2^{bits}"
        out.append(comment if len(comment) <= 100 else comment.replace(" on [", "\n    # on [", 1))
        out.append(f'    "{each.name}": (')
        out.extend(f"        {rounded(c, each.kind)!r}," for c in coefficients)
        out.append("    ),")
        if each.name.startswith(("ERFINV", "ERFCX")) and "FAST" not in each.name:
            rest = coefficients[0] - mp.mpf(rounded(coefficients[0], each.kind))
            out.append("    # What rounding took from the first coefficient above")
            out.append(f'    "{each.name}_LOW": ({rounded(rest, each.kind)!r},),')
    for name, (meaning, parts) in constants().items():
        out.append(f"    # {meaning}")
        if len(parts) == 1:
            out.append(f'    "{name}": ({parts[0]!r},),')
            continue
        out.append(f'    "{name}": (')
        out.extend(f"        {part!r}," for part in parts)
        out.append("    ),")
    out += [
        "}",
        "",
        "# The binary digits of 2/pi, in words of 64.",
        "TWO_OVER_PI_WORDS: tuple[int, ...] = (",
    ]
    out.extend(f"    0x{word:016X}," for word in two_over_pi_words())
    out += [")", ""]
    return "\n".join(out)


def main() -> None:
    """Writes the module, or prints the fits named on the command line."""
    wanted = sys.argv[1:]
    if not wanted:
        TARGET.write_text(render(), encoding="utf-8")
        return
    for each in fits():
        if any(w.lower() in each.name.lower() for w in wanted):
            coefficients, error = solve_remez(each)
            print(f"{each.name}: degree {each.degree}, 2^{mp.nstr(mp.log(error, 2), 4)}")
            for c in coefficients:
                print(f"    {rounded(c, each.kind)!r}")


if __name__ == "__main__":
    main()
