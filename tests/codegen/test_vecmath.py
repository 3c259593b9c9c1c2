"""The vector functions against NumPy in a wider format and mpmath, in units in the last place."""

from __future__ import annotations

import ctypes
import functools
import math
import re
from collections.abc import Callable

import mpmath
import numpy as np
import pytest
import scipy.special

from flambeau.codegen import vecmath
from flambeau.codegen.vecmath_coefficients import TWO_OVER_PI_WORDS, C
from flambeau.runtime import jit
from tools import fit_vecmath

INF, NAN = math.inf, math.nan
NUMPY = {"f32": np.dtype(np.float32), "f64": np.dtype(np.float64)}
LONG = np.longdouble
UNARY = sorted(name for name, arity in vecmath.NAMES.items() if arity == 1)

# Near the zeros of log-gamma and digamma left of 0 the relative error has no bound: there the error
# is bounded by this many machine epsilons times the greater of 1 and the result.
EPSILONS_LEFT_OF_ZERO = {
    ("lgamma", "f32"): 0.6,
    ("digamma", "f32"): 0.6,
    ("lgamma", "f64"): 3.0,
    ("digamma", "f64"): 8.0,
}

# Functions right to some machine epsilons, not relatively.
EPSILONS = {"normal_cdf": 1.5, "normal_pdf": 1.0}

# Functions of more than one ulp; the leading terms of all others are compensated.
TWO_ULPS = {(name, dtype) for name in ("sigmoid", "sinh", "cosh", "asinh") for dtype in NUMPY}
TWO_ULPS |= {(name, "f64") for name in ("atan", "atan2", "erfc", "erfinv", "lgamma", "digamma")}

SPECIAL = [0.0, -0.0, INF, -INF, NAN, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0, 3.0, -3.0, 1.5, -2.5, 0.25]
EDGES = {
    # Least subnormal, greatest subnormal, least normal, greatest; thresholds of exp.
    "f32": [1e-45, -1e-45, 1.1754942e-38, 1.17549435e-38, 3.4028235e38, -3.4028235e38]
    + [88.72283, 88.72284, 89.41598, 89.41599, -87.33655, -103.27893, -103.97208, 128.0, -149.0],
    "f64": [5e-324, -5e-324, 2.225073858507201e-308, 2.2250738585072014e-308]
    + [1.7976931348623157e308, -1.7976931348623157e308, 709.782712893384, 709.7827128933841]
    + [710.4758600739439, 710.475860073944, -745.1332191019411, -745.1332191019412, -708.4],
}


@functools.cache
def compiled(name: str, dtype: str, lanes: int) -> jit.Library:
    return jit.load(vecmath.loop_module(name, dtype, lanes))


def evaluate(name: str, dtype: str, lanes: int, *operands: np.ndarray) -> np.ndarray:
    """The function over arrays, padded to whole vectors."""
    library = compiled(name, dtype, lanes)
    kernel = library.function("fl_apply", None, *[ctypes.c_void_p] * 3, ctypes.c_int64)
    n = len(operands[0])
    padded = [np.pad(x.astype(NUMPY[dtype]), (0, -n % lanes), constant_values=1) for x in operands]
    out = np.empty_like(padded[0])
    kernel(out.ctypes.data, padded[0].ctypes.data, padded[-1].ctypes.data, len(out))
    return out[:n]


def ulps(got: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """|got - wanted| in units in the last place of `wanted`, inf where they differ in kind.

    Kind: NaN or not, infinite or not (a result that overflows by rounding counts as the next number
    after the greatest), the sign of a zero.
    """
    info = np.finfo(got.dtype)
    with np.errstate(all="ignore"):
        rounded = wanted.astype(got.dtype)
        spacing = np.spacing(np.minimum(np.abs(rounded), info.max)).astype(wanted.dtype)
        beyond = wanted.dtype.type(info.max) + np.spacing(info.max)
        finite = np.where(np.isinf(got), np.copysign(beyond, got), got.astype(wanted.dtype))
        error = np.abs(finite - wanted) / spacing
        error = np.where((got == rounded) & np.isinf(got), 0, error)
        error = np.where(np.isnan(wanted), np.where(np.isnan(got), 0, INF), error)
        zero_of_other_sign = (got == 0) & (wanted == 0) & (np.signbit(got) != np.signbit(wanted))
        error = np.where(zero_of_other_sign | np.isnan(error), INF, error)
    return error.astype(np.float64)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return np.where(x < 0, np.exp(x) / (1 + np.exp(x)), 1 / (1 + np.exp(-x)))


IN_NUMPY: dict[str, Callable[..., np.ndarray]] = {
    **{name: getattr(np, name) for name in ("exp", "exp2", "expm1", "log", "log2", "log10")},
    **{name: getattr(np, name) for name in ("log1p", "tanh", "sinh", "cosh", "sin", "cos", "tan")},
    "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh, "asin": np.arcsin,
    "acos": np.arccos, "atan": np.arctan, "atan2": np.arctan2, "pow": np.power,
    "sigmoid": sigmoid,
}  # fmt: skip

IN_SCIPY = {
    "erf": scipy.special.erf,
    "erfc": scipy.special.erfc,
    "normal_cdf": scipy.special.ndtr,
    "normal_pdf": lambda x: np.exp(-x * x / 2) / math.sqrt(2 * math.pi),
}


def by_mpmath(name: str, x: float) -> object:
    """The value to 40 digits, or a float where it is exact."""
    if math.isnan(x):
        return NAN
    if name == "erf":
        return x if x == 0 else mpmath.erf(x)
    if name == "erfc":
        return 0.0 if x > 30 else 2.0 if x < -10 else mpmath.erfc(x)
    if name == "normal_cdf":
        return 1.0 if x > 30 else 0.0 if x < -30 else mpmath.ncdf(x)
    if name == "normal_pdf":
        return 0.0 if abs(x) > 40 else mpmath.npdf(x)
    if name == "erfinv":
        if x == 0 or abs(x) >= 1:
            return x if x == 0 else math.copysign(INF, x) if abs(x) == 1 else NAN
        return mpmath.erfinv(x)
    pole = x <= 0 and x == math.floor(x) if math.isfinite(x) else False
    if name == "lgamma":
        if pole or math.isinf(x):
            return INF
        if x > 0:
            return mpmath.loggamma(x)
        return mpmath.log(mpmath.pi / abs(mpmath.sinpi(x))) - mpmath.loggamma(1 - mpmath.mpf(x))
    if pole or math.isinf(x):
        return math.copysign(INF, -x) if x == 0 else INF if x == INF else NAN
    return mpmath.digamma(x)


def exact(name: str, dtype: str, *operands: np.ndarray) -> np.ndarray:
    """Reference values in a format wider than `dtype`."""
    with np.errstate(all="ignore"):
        if dtype == "f32" and name in IN_SCIPY:
            return np.asarray(IN_SCIPY[name](operands[0].astype(np.float64)))
        if name in IN_NUMPY:
            wide = np.float64 if dtype == "f32" else LONG
            return np.asarray(IN_NUMPY[name](*(x.astype(wide) for x in operands)))
    with mpmath.workdps(40):
        values = [by_mpmath(name, float(x)) for x in operands[0]]
        return np.array(
            [v if isinstance(v, float) else LONG(mpmath.nstr(v, 25)) for v in values], LONG
        )


def bit_patterns(dtype: str, count: int, seed: int) -> np.ndarray:
    """Numbers of every size: random bits."""
    rng = np.random.default_rng(seed)
    width = NUMPY[dtype].itemsize
    return rng.integers(0, 1 << 8 * width, count, dtype=f"u{width}").view(NUMPY[dtype])


def arguments(name: str, dtype: str, count: int, seed: int = 0) -> np.ndarray:
    """Random bits, the range in which the function lives, and the edges."""
    rng = np.random.default_rng(seed + 1)
    signs = rng.choice([-1.0, 1.0], count)
    bounded = name in ("asin", "acos", "atanh", "erfinv")
    top = 0.0 if bounded else 3.0
    ranges = [
        bit_patterns(dtype, count, seed),
        signs * 10 ** rng.uniform(-6, top, count),
        rng.uniform(-1, 1, count) * (1 if bounded else 2),
        1 - rng.uniform(-1, 1, count) * 10 ** rng.uniform(-7, 0, count),
    ]
    if name == "acosh":
        ranges.append(1 + 10 ** rng.uniform(-7, 6, count))
    if name == "erfc":
        ranges.append(rng.uniform(-1, 10.1 if dtype == "f32" else 27.3, count))
    if name in ("lgamma", "digamma"):
        ranges[0] = np.abs(ranges[0])
        ranges += [rng.uniform(0, 4, count), rng.uniform(-20, 0, count)]
    with np.errstate(over="ignore"):
        return np.concatenate(
            [np.asarray(r).astype(NUMPY[dtype]) for r in [*ranges, SPECIAL, EDGES[dtype]]]
        )


def require_extended_precision() -> None:
    if np.finfo(LONG).nmant < 63:
        pytest.skip("no format wider than f64 here")


def points(name: str, dtype: str) -> int:
    """How many arguments of each range: as many as the reference is fast."""
    if name in IN_NUMPY or (dtype == "f32" and name in IN_SCIPY):
        return 1 << 18 if dtype == "f32" else 20_000
    return {"erf": 8000, "erfc": 8000, "normal_cdf": 2000, "erfinv": 1500}.get(name, 3000)


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("name", UNARY)
def test_error_of_at_most_one_or_two_ulps(name: str, dtype: str) -> None:
    if dtype == "f64" or name not in IN_NUMPY:
        require_extended_precision()
    x = arguments(name, dtype, points(name, dtype))
    got, wanted = evaluate(name, dtype, 16, x), exact(name, dtype, x)
    if name in EPSILONS:
        assert np.array_equal(np.isnan(got), np.isnan(wanted))
        off = np.nanmax(np.abs(got.astype(wanted.dtype) - wanted))
        assert off <= EPSILONS[name] * np.finfo(NUMPY[dtype]).eps
        return
    error = ulps(got, wanted)
    bound = EPSILONS_LEFT_OF_ZERO.get((name, dtype))
    if bound is not None:
        left = (x < 0) & np.isfinite(wanted) & np.isfinite(got)
        with np.errstate(all="ignore"):
            absolute = np.abs(got - wanted) / np.maximum(1, np.abs(wanted))
        assert absolute[left].max() <= bound * np.finfo(NUMPY[dtype]).eps
        error = np.where(left, 0, error)
    worst = int(error.argmax())
    most = 2 if (name, dtype) in TWO_ULPS else 1
    assert error[worst] <= most, f"{name}({x[worst]!r}) = {got[worst]!r}, not {wanted[worst]!r}"


def operand_pairs(name: str, dtype: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Random bits, pairs whose power is finite, and all pairs of special numbers."""
    rng = np.random.default_rng(5)
    base = np.abs(arguments("exp", dtype, count // 4, 11))
    base = base[np.isfinite(base) & (base > 0)]
    limit = 89 if dtype == "f32" else 710
    with np.errstate(all="ignore"):
        exponent = rng.uniform(-1.2, 1.05, len(base)) * limit / np.log(base.astype(np.float64))
        exponent = exponent.astype(NUMPY[dtype])
    whole = rng.integers(-12, 13, count)
    corner = np.array(SPECIAL + EDGES[dtype] + [1e10, -1e10, 4503599627370497.0], NUMPY[dtype])
    first, second = np.meshgrid(corner, corner)
    near_one = rng.uniform(0.9, 1.1, count)
    x = [bit_patterns(dtype, count, 21), base, -near_one, near_one, first.ravel()]
    y = [bit_patterns(dtype, count, 22), exponent, whole, rng.normal(0, 500, count), second.ravel()]
    del name
    return (
        np.concatenate([v.astype(NUMPY[dtype]) for v in x]),
        np.concatenate([v.astype(NUMPY[dtype]) for v in y]),
    )


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("name", ["pow", "atan2"])
def test_error_of_binary_functions(name: str, dtype: str) -> None:
    if dtype == "f64":
        require_extended_precision()
    x, y = operand_pairs(name, dtype, 1 << 18 if dtype == "f32" else 20_000)
    got, wanted = evaluate(name, dtype, 16, x, y), exact(name, dtype, x, y)
    error = ulps(got, wanted)
    worst = int(error.argmax())
    assert error[worst] <= (2 if (name, dtype) in TWO_ULPS else 1), (
        f"{name}({x[worst]!r}, {y[worst]!r}) = {got[worst]!r}, not {wanted[worst]!r}"
    )


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_remainder_of_a_division_is_exact(dtype: str) -> None:
    """Also next to multiples, where the quotient rounds up to an integer, and of huge quotients."""
    x, y = operand_pairs("fmod", dtype, 1 << 17)
    rng = np.random.default_rng(6)
    wide = rng.normal(0, 1, 1 << 18).astype(x.dtype)
    multiple = wide * rng.integers(1, 1 << 21, wide.size).astype(x.dtype)
    beside = [np.nextafter(multiple, x.dtype.type(way)) for way in (-INF, INF)]
    special = np.array(SPECIAL + EDGES[dtype], x.dtype)
    first, second = (v.ravel() for v in np.meshgrid(special, special))
    x = np.concatenate([x, multiple, *beside, first])
    y = np.concatenate([y, wide, wide, wide, second])
    got = evaluate("fmod", dtype, 16, x, y)
    with np.errstate(all="ignore"):
        wanted = np.fmod(x, y)
    wrong = (got != wanted) & ~(np.isnan(got) & np.isnan(wanted))
    wrong |= (got == 0) & (np.signbit(got) != np.signbit(wanted))
    assert not wrong.any(), (x[wrong][0], y[wrong][0], got[wrong][0], wanted[wrong][0])


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize(
    ("x", "y", "wanted"),
    [
        (0.0, -3.0, INF), (-0.0, -3.0, -INF), (-0.0, -2.0, INF), (-0.0, 3.0, -0.0),
        (-0.0, 0.5, 0.0), (-1.0, INF, 1.0), (-1.0, -INF, 1.0), (1.0, NAN, 1.0), (NAN, 0.0, 1.0),
        (NAN, -0.0, 1.0), (-8.0, 1 / 3, NAN), (0.5, -INF, INF), (2.0, -INF, 0.0), (0.5, INF, 0.0),
        (-INF, -3.0, -0.0), (-INF, -2.0, 0.0), (-INF, 3.0, -INF), (-INF, 2.5, INF),
        (INF, -1.0, 0.0), (INF, 1.0, INF), (NAN, 1.0, NAN), (-1.0, NAN, NAN), (-2.0, 3.0, -8.0),
        (-2.0, -1.0, -0.5), (10.0, 2.0, 100.0),
    ],
)  # fmt: skip
def test_power_by_the_rules_of_c99(x: float, y: float, wanted: float, dtype: str) -> None:
    got = evaluate("pow", dtype, 4, np.array([x]), np.array([y]))[0]
    if math.isnan(wanted):
        assert math.isnan(got)
    else:
        assert (got, math.copysign(1, got)) == (wanted, math.copysign(1, wanted))


@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
@pytest.mark.parametrize(
    ("dtype", "x"),
    [
        ("f32", 16367173 * 2.0**72),  # the f32 nearest to a multiple of pi/2, relatively
        ("f32", 3.4028235e38),
        ("f32", 65535.996),
        ("f32", 65536.0),
        ("f64", 6381956970095103.0 * 2.0**797),  # the f64 nearest to one
        ("f64", 1.7976931348623157e308),
        ("f64", 2.0**30),
        ("f64", math.nextafter(2.0**30, 0)),
        ("f64", 5.319372648326541e255),
    ],
)
def test_argument_reduction_at_hard_arguments(name: str, dtype: str, x: float) -> None:
    require_extended_precision()
    number = NUMPY[dtype].type(x)
    got = evaluate(name, dtype, 8, np.array([number, -number, 1.0], NUMPY[dtype]))
    with mpmath.workdps(400):
        value = getattr(mpmath, name)(mpmath.mpf(float(number)))
        wanted = LONG(mpmath.nstr(value, 25))
    assert ulps(got[:1], np.array([wanted]))[0] <= 2
    assert got[1] == (got[0] if name == "cos" else -got[0])


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("name", sorted(vecmath.NAMES))
def test_same_bits_at_every_vector_length(name: str, dtype: str) -> None:
    x = arguments(name, dtype, 500, 3)
    y = np.roll(x, 17)
    operands = (x, y)[: vecmath.NAMES[name]]
    wide = evaluate(name, dtype, 16, *operands)
    for lanes in (1, 4, 8):
        narrow = evaluate(name, dtype, lanes, *operands)
        np.testing.assert_array_equal(narrow, wide)  # NaN equals NaN here
        np.testing.assert_array_equal(np.signbit(narrow[wide == 0]), np.signbit(wide[wide == 0]))


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("name", sorted(vecmath.NAMES))
def test_text_is_self_contained_and_exact(name: str, dtype: str) -> None:
    text = vecmath.define(name, dtype, 8)
    element = {"f32": "float", "f64": "double"}[dtype]
    vector = f"<8 x {element}>"
    parameters = ", ".join(f"{vector} %{p}" for p in ("x", "y")[: vecmath.NAMES[name]])
    header = f"define internal {vector} @fl_{name}_{dtype}_8({parameters}) alwaysinline"
    assert header in text
    defined = set(re.findall(r"^define internal .*?@(\w+)\(", text, re.MULTILINE))
    called = set(re.findall(r"call .*?@([\w.]+)\(", text))
    declared = {
        re.search(r"@([\w.]+)\(", line)[1]  # type: ignore[index]
        for line in vecmath.declarations({(name, dtype, 8)})
    }
    assert called - defined == declared
    assert all(intrinsic.startswith("llvm.") for intrinsic in declared)
    assert not re.search(r"\b(fast|contract|reassoc|nnan|ninf|nsz|arcp|afn)\b", text)


def test_functions_of_a_module_appear_once() -> None:
    wanted = {(name, dtype, lanes) for name in vecmath.NAMES for dtype, lanes in
              (("f32", 1), ("f32", 16), ("f64", 8))}  # fmt: skip
    text = vecmath.module_functions(wanted)
    assert text == vecmath.module_functions(sorted(wanted, reverse=True))
    defined = re.findall(r"^define internal .*?@(\w+)\(", text, re.MULTILINE)
    assert len(defined) == len(set(defined))
    assert {"fl_{}_{}_{}".format(*key) for key in wanted} < set(defined)
    jit.load(text)


@pytest.mark.parametrize(
    ("key", "message"),
    [(("sine", "f32", 4), "unknown vector function 'sine'"), (("exp", "f16", 4), "got 'f16'"),
     (("exp", "f32", 0), "lanes must be positive")],
)  # fmt: skip
def test_wrong_requests(key: tuple[str, str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        vecmath.define(*key)


def test_coefficients_are_what_the_fits_give() -> None:
    sample = ("EXP_f32", "LOG1P_f32", "SIN_f64", "ASIN_f64", "ERF_TAIL_f32", "LGAMMA_TWO_FAST_f64")
    fits = {each.name: each for each in fit_vecmath.fits()}
    for name in sample:
        coefficients, _ = fit_vecmath.solve_remez(fits[name])
        assert C[name] == tuple(fit_vecmath.rounded(c, fits[name].kind) for c in coefficients)
    constants = {name: parts for name, (_, parts) in fit_vecmath.constants().items()}
    assert {name: C[name] for name in constants} == constants
    assert list(TWO_OVER_PI_WORDS) == fit_vecmath.two_over_pi_words()
    low = {name for name in C if name.endswith("_LOW")}
    assert set(C) - low == set(fits) | set(constants)
