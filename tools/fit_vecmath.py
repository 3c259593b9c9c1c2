"""Makes flambeau/codegen/vecmath_coefficients.py: minimax polynomials and split constants.

Every polynomial is the minimax fit (Remez exchange on a dense Chebyshev grid, in multiple precision) of a target
function with a weight that turns the fit's error into the relative error of the function computed from
it. Coefficients are then rounded to the format they are used in. Needs mpmath; run as

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

    Works in v in [-1, 1], the interval's own variable, in the Chebyshev basis (well conditioned), and expands to
    powers of u at the end. Reference: E. W. Cheney, Introduction to Approximation Theory, 1966, chapter 3.
    """
    n = fit.degree
    grid_size = 24 * (n + 2)
    grid = [mp.cos(mp.pi * (2 * k + 1) / (2 * grid_size)) for k in range(grid_size)][::-1]
    middle, half = (fit.high + fit.low) / 2, (fit.high - fit.low) / 2
    points = [middle + half * v for v in grid]
    values = [fit.f(u) for u in points]
    # The error alternates in the sign of f - p, whatever the sign of the weight; where the weight vanishes
    # the system would be singular.
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
        weakest = min(range(len(runs) - 1), key=lambda i: abs(errors[runs[i]]) + abs(errors[runs[i + 1]]))
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

    `f` is evaluated at 10^-18 in place of anything smaller; with 60 digits that leaves more than 20 right.
    """
    tiny = mp.mpf("1e-18")
    return lambda u: f(u if abs(u) > tiny else tiny)


def fits() -> list[Fit]:
    """All polynomials of the module."""
    from_list: list[Fit] = []

    def add(name: str, meaning: str, f: Function, low: object, high: object, weight: Function,
            f32: int | None, f64: int | None) -> None:  # fmt: skip
        for kind, degree in (("f32", f32), ("f64", f64)):
            if degree is not None:
                from_list.append(
                    Fit(f"{name}_{kind}", meaning, continued(f), mp.mpf(low), mp.mpf(high), degree,
                        continued(weight), kind)
                )  # fmt: skip

    half_ln2 = mp.log(2) / 2 * mp.mpf("1.0001")
    add("EXP", "(exp(r) - 1 - r) / r^2", lambda r: (mp.expm1(r) - r) / r**2, -half_ln2, half_ln2,
        lambda r: r**2 / mp.exp(r), 4, 9)  # fmt: skip
    add("EXPM1", "(exp(r) - 1 - r) / r^2", lambda r: (mp.expm1(r) - r) / r**2, -half_ln2, half_ln2,
        lambda r: r**2 / mp.expm1(r), 5, 10)  # fmt: skip
    add("EXP2", "(2^r - 1) / r", lambda r: mp.expm1(r * mp.log(2)) / r, -0.5, 0.5,
        lambda r: r, 5, 10)  # fmt: skip
    low, high = mp.sqrt(0.5) - 1, mp.sqrt(2) - 1
    add("LOG1P", "(log1p(f) - f + f^2/2) / f^3",
        lambda f: (mp.log1p(f) - f + f * f / 2) / f**3, low, high,
        lambda f: f**3 / mp.log1p(f), 8, None)  # fmt: skip
    top = ((mp.sqrt(2) - 1) / (mp.sqrt(2) + 1)) ** 2
    add("LOGS", "(2 atanh(s) - 2 s) / s^3, u = s^2",
        lambda u: (2 * mp.atanh(mp.sqrt(u)) / mp.sqrt(u) - 2) / u, 0, top,
        lambda u: u, None, 6)  # fmt: skip
    add("LOGS5", "(2 atanh(s) - 2 s - 2/3 s^3) / s^5, u = s^2",
        lambda u: (2 * mp.atanh(mp.sqrt(u)) / mp.sqrt(u) - 2 - 2 * u / 3) / u**2, 0, top,
        lambda u: u**2, None, 8)  # fmt: skip
    add("LOG2S_FAST", "2 atanh(s) / (s ln 2), u = s^2: 2^-42, for f32 pow",
        lambda u: 2 * mp.atanh(mp.sqrt(u)) / mp.sqrt(u) / mp.log(2), 0, top,
        lambda u: 1, None, 5)  # fmt: skip
    add("EXP2_FAST", "2^r: 2^-35, for f32 pow", lambda r: mp.power(2, r), -0.5, 0.5,
        lambda r: 1, None, 7)  # fmt: skip
    quarter = (mp.pi / 4 * mp.mpf("1.0005")) ** 2
    whole = (mp.pi / 2 * mp.mpf("1.0005")) ** 2
    sine = lambda u: (mp.sin(mp.sqrt(u)) / mp.sqrt(u) - 1) / u  # noqa: E731
    add("SIN", "(sin(r) - r) / r^3, u = r^2, |r| <= pi/2", sine, 0, whole,
        lambda u: u * mp.sqrt(u) / mp.sin(mp.sqrt(u)), 3, 7)  # fmt: skip
    add("SIN_QUARTER", "(sin(r) - r) / r^3, u = r^2, |r| <= pi/4", sine, 0, quarter,
        lambda u: u, 2, 5)  # fmt: skip
    add("COS_QUARTER", "(cos(r) - 1 + r^2/2) / r^4, u = r^2, |r| <= pi/4",
        lambda u: (mp.cos(mp.sqrt(u)) - 1 + u / 2) / u**2, 0, quarter,
        lambda u: u**2, 2, 5)  # fmt: skip
    add("ERF", "erf(x)/x - 1, u = x^2, |x| <= 1", lambda u: mp.erf(mp.sqrt(u)) / mp.sqrt(u) - 1, 0, 1,
        lambda u: 1, 6, 11)  # fmt: skip
    for kind, end, degree in (("f32", 4, 6), ("f64", 6, 17)):
        from_list.append(
            Fit(f"ERF_TAIL_{kind}", "log2(erfc(x))", lambda x: mp.log(mp.erfc(x), 2), mp.mpf(1),
                mp.mpf(end), degree, lambda x: mp.erfc(x) / mp.erf(x), kind)
        )  # fmt: skip
    add("SINH", "(sinh(x) - x) / x^3, u = x^2, |x| <= 1",
        lambda u: (mp.sinh(mp.sqrt(u)) / mp.sqrt(u) - 1) / u, 0, 1, lambda u: u, 3, 6)  # fmt: skip
    add("ATAN", "(atan(t) - t) / t^3, u = t^2, |t| <= 1",
        lambda u: (mp.atan(mp.sqrt(u)) / mp.sqrt(u) - 1) / u, 0, 1,
        lambda u: u * mp.sqrt(u) / mp.atan(mp.sqrt(u)), 8, 19)  # fmt: skip
    add("ASIN", "(asin(x) - x) / x^3, u = x^2, |x| <= 1/2",
        lambda u: (mp.asin(mp.sqrt(u)) / mp.sqrt(u) - 1) / u, 0, 0.25,
        lambda u: u, 4, 11)  # fmt: skip
    from_list.extend(special_fits())
    return from_list


def special_fits() -> list[Fit]:
    """The polynomials of erfc, erfinv, lgamma and digamma."""
    table: list[Fit] = []

    def add(name: str, meaning: str, f: Function, low: object, high: object, degree: int,
            weight: Function | None = None) -> None:  # fmt: skip
        target = continued(f)
        relative = continued(weight) if weight else lambda u: 1 / target(u)
        kind = "f32" if name.endswith("_f32") else "f64"
        table.append(Fit(name, meaning, target, mp.mpf(low), mp.mpf(high), degree, relative, kind))

    for kind, k, end, degree in (("f32", 2, "10.1", 10), ("f64", 4, "27.3", 21)):
        x_of = lambda q, k=k: k * (1 + q) / (1 - q)  # noqa: E731
        add(f"ERFCX_{kind}", f"(1 + 2 x) exp(x^2) erfc(x), q = (x - {k}) / (x + {k})",
            lambda q, x_of=x_of: mp.exp(x_of(q) ** 2) * mp.erfc(x_of(q)) * (1 + 2 * x_of(q)),
            (mp.mpf("0.46") - k) / (mp.mpf("0.46") + k), (mp.mpf(end) - k) / (mp.mpf(end) + k), degree)  # fmt: skip
    x_of_w = lambda w: mp.sqrt(-mp.expm1(-w))  # noqa: E731
    for kind, middle, end, degree in (("f32", "1.25", mp.mpf(5), 9), ("f64", "2", mp.mpf("6.25"), 24)):
        c = mp.mpf(middle)
        add(f"ERFINV_{kind}", f"erfinv(x) / x, u = -log(1 - x^2) - {middle}",
            lambda u, c=c: mp.erfinv(x_of_w(u + c)) / x_of_w(u + c), -c, end - c, degree)  # fmt: skip
    for name, low, high, middle, degree in (
        ("ERFINV_TAIL_f32", "2.236", "4.05", "3.125", 8),
        ("ERFINV_TAIL_f64", "2.5", "4", "3.25", 18),
        ("ERFINV_FAR_f64", "4", "6.05", "5", 17),
    ):
        c = mp.mpf(middle)
        add(name, f"erfinv(x), u = sqrt(-log(1 - x^2)) - {middle}",
            lambda u, c=c: mp.erfinv(x_of_w((u + c) ** 2)), mp.mpf(low) - c, mp.mpf(high) - c, degree)  # fmt: skip
    z_of = lambda u: 1 / mp.sqrt(u)  # noqa: E731
    root = mp.findroot(mp.digamma, 1.46)
    least = mp.loggamma(root)
    for suffix, one, two, between, stirling, near, far in (
        ("", 26, 17, 14, 11, 22, 15),
        ("_FAST", 12, 8, 7, 5, 12, 5),
    ):
        add(f"LGAMMA_ONE{suffix}_f64", "lgamma(1 + t) / t", lambda t: mp.loggamma(1 + t) / t, -0.5, 0.25, one)
        add(f"LGAMMA_TWO{suffix}_f64", "lgamma(2 + t) / t", lambda t: mp.loggamma(2 + t) / t, -0.3, 0.5, two)
        add(f"LGAMMA_LEAST{suffix}_f64", "(lgamma(r + t) - lgamma(r)) / t^2, r where lgamma is least",
            lambda t: (mp.loggamma(root + t) - least) / t**2, mp.mpf("1.25") - root, mp.mpf("1.7") - root,
            between, lambda t: t**2 / mp.loggamma(root + t))  # fmt: skip
        add(f"LGAMMA_STIRLING{suffix}_f64", "z (lgamma(z) - (z - 1/2) log z + z - log(2 pi)/2), u = z^-2",
            lambda u: (mp.loggamma(z_of(u)) - (z_of(u) - 0.5) * mp.log(z_of(u)) + z_of(u)
                       - mp.log(2 * mp.pi) / 2) * z_of(u),
            0, mp.mpf("0.16"), stirling, lambda u: 1 / z_of(u) / mp.loggamma(z_of(u)))  # fmt: skip
        add(f"DIGAMMA_NEAR{suffix}_f64", "digamma(z) / t, t = z - its positive root, 1 <= z <= 2",
            lambda t: mp.digamma(root + t) / t, 1 - root, 2 - root, near)  # fmt: skip
        add(f"DIGAMMA_FAR{suffix}_f64", "z^2 (log z - 1/(2 z) - digamma(z)), u = z^-2",
            lambda u: (mp.log(z_of(u)) - 1 / z_of(u) / 2 - mp.digamma(z_of(u))) / u,
            0, 0.25, far, lambda u: u / mp.digamma(z_of(u)))  # fmt: skip
    return table


def constants() -> dict[str, tuple[str, tuple[float, ...]]]:
    """Split constants: name -> (meaning, parts)."""
    table: dict[str, tuple[str, tuple[float, ...]]] = {}
    for kind in ("f32", "f64"):
        table[f"LN2_{kind}"] = ("ln 2", split(mp.log(2), 3, kind))
        table[f"LOG2_E_{kind}"] = ("1 / ln 2", split(1 / mp.log(2), 2, kind))
        table[f"LOG10_E_{kind}"] = ("1 / ln 10", split(1 / mp.log(10), 2, kind))
        table[f"LOG10_2_{kind}"] = ("log10 2", split(mp.log10(2), 2, kind))
        table[f"PI_{kind}"] = ("pi", split(mp.pi, 4, kind))
        table[f"HALF_PI_{kind}"] = ("pi / 2", split(mp.pi / 2, 4, kind))
        table[f"TWO_OVER_PI_{kind}"] = ("2 / pi", split(2 / mp.pi, 1, kind))
        table[f"ONE_OVER_PI_{kind}"] = ("1 / pi", split(1 / mp.pi, 1, kind))
        table[f"DIGAMMA_ROOT_{kind}"] = ("positive root of digamma", split(mp.findroot(mp.digamma, 1.46), 2, kind))
        table[f"LGAMMA_MINIMUM_{kind}"] = (
            "least value of lgamma above 0", split(mp.loggamma(mp.findroot(mp.digamma, 1.46)), 2, kind)
        )  # fmt: skip
        table[f"STIRLING_{kind}"] = ("log(2 pi)/2 - 1/2", split(mp.log(2 * mp.pi) / 2 - 0.5, 2, kind))
        table[f"TWO_THIRDS_{kind}"] = ("2 / 3", split(mp.mpf(2) / 3, 2, kind))
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
        "Made by tools/fit_vecmath.py; do not edit. `C[name]` are the coefficients of a polynomial from the",
        "lowest power up, or the parts of a constant, from the greatest down, whose sum it is.",
        '"""',
        "",
        "# ruff: noqa: E501",
        "",
        "C: dict[str, tuple[float, ...]] = {",
    ]
    for fit in fits():
        coefficients, error = solve_remez(fit)
        bits = mp.nstr(mp.log(error, 2), 4)
        interval = f"[{mp.nstr(fit.low, 4)}, {mp.nstr(fit.high, 4)}]"
        print(f"{fit.name}: degree {fit.degree}, 2^{bits}", file=sys.stderr)
        out.append(f"    # {fit.meaning} on {interval}; relative error 2^{bits}")
        out.append(f'    "{fit.name}": (')
        out.extend(f"        {rounded(c, fit.kind)!r}," for c in coefficients)
        out.append("    ),")
        if fit.name.startswith(("ERFINV", "ERFCX")):
            rest = coefficients[0] - mp.mpf(rounded(coefficients[0], fit.kind))
            out.append("    # What rounding took from the first coefficient above")
            out.append(f'    "{fit.name}_LOW": ({rounded(rest, fit.kind)!r},),')
    for name, (meaning, parts) in constants().items():
        out.append(f"    # {meaning}")
        out.append(f'    "{name}": ({", ".join(map(repr, parts))},),')
    out += ["}", "", "# The binary digits of 2/pi, in words of 64.", "TWO_OVER_PI_WORDS: tuple[int, ...] = ("]
    out.extend(f"    0x{word:016X}," for word in two_over_pi_words())
    out += [")", ""]
    return "\n".join(out)


def main() -> None:
    """Writes the module, or prints the fits named on the command line."""
    wanted = sys.argv[1:]
    if not wanted:
        TARGET.write_text(render(), encoding="utf-8")
        return
    for fit in fits():
        if any(w.lower() in fit.name.lower() for w in wanted):
            coefficients, error = solve_remez(fit)
            print(f"{fit.name}: degree {fit.degree}, 2^{mp.nstr(mp.log(error, 2), 4)}")
            for c in coefficients:
                print(f"    {rounded(c, fit.kind)!r}")


if __name__ == "__main__":
    main()
