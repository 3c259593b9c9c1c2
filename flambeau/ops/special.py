"""Special functions: normal distribution, Bessel, gamma and zeta functions, polynomials.

What is made of elementwise rows fuses with them. The rest is SciPy's, computed in double precision;
its derivatives are where they are known in closed form.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from flambeau import dtypes
from flambeau.ops.elementwise import erfc, lgamma, log, log1p, scipy_special, select_where
from flambeau.ops.movement import expand_to
from flambeau.ops.precision import cast, widen
from flambeau.ops.rows import NAMES
from flambeau.ops.spaces import only_in
from flambeau.ops.table import composite, emit, primitive
from flambeau.size import broadcast_shapes
from flambeau.tensor import Tensor

_ROOT_2 = math.sqrt(2.0)

# -- library functions -----------------------------------------------------------------------------


@primitive("host")
def of_one(row: Any, input: Tensor, name: str) -> Tensor:
    """A function of scipy.special of one number, computed in double precision."""
    scipy_special(name)
    return emit(row, (input,), (name,), input._shape, input.dtype)


@primitive("host")
def of_two(row: Any, input: Tensor, other: Tensor, name: str) -> Tensor:
    """A function of scipy.special, or a polynomial, of two numbers, in double precision."""
    if name not in _POLYNOMIALS:
        scipy_special(name)
    return emit(row, (input, other), (name,), input._shape, input.dtype)


def _of_one(x: Any, name: str) -> Any:
    found = getattr(scipy_special(name), name)(np.asarray(x, np.float64))
    return (found[0] if isinstance(found, tuple) else found).astype(x.dtype)


def _of_two(x: Any, y: Any, name: str) -> Any:
    function = _POLYNOMIALS.get(name) or getattr(scipy_special(name), name)
    return np.asarray(function(np.asarray(x, np.float64), np.asarray(y, np.float64))).astype(
        x.dtype
    )


def _bessel_ratio(x: Any, y: Any) -> Any:
    """y / x, and at 0 the limit 1/2 of I1(x) / x."""
    return select_where(x == 0, 0.5, y / select_where(x == 0, 1.0, x))


#: Name -> (result, argument) -> derivative.
_SLOPES: dict[str, Callable[[Any, Any], Any]] = {
    "erfcx": lambda y, x: x * y * 2.0 - 2.0 / math.sqrt(math.pi),
    "log_ndtr": lambda y, x: math.sqrt(2.0 / math.pi) / of_one(x * (-1.0 / _ROOT_2), "erfcx"),
    "ndtri": lambda y, x: math.sqrt(2.0 * math.pi) * NAMES["exp"](y * y * 0.5),
    "i0": lambda y, x: of_one(x, "i1"),
    "i0e": lambda y, x: of_one(x, "i1e") - NAMES["sign"](x) * y,
    "i1": lambda y, x: of_one(x, "i0") - _bessel_ratio(x, y),
    "i1e": lambda y, x: of_one(x, "i0e") - NAMES["sign"](x) * y - _bessel_ratio(x, y),
}


def _without(name: str, word: str) -> Any:
    return NotImplementedError(f"the derivative for '{name}: {word}' is not implemented")


def _of_one_vjp(g: Any, out: Any, x: Any, name: str) -> tuple[Any, ...]:
    if name not in _SLOPES:
        raise _without(name, "self")
    return cast(widen(g) * _SLOPES[name](widen(out), widen(x)), g.dtype), None


def _of_two_vjp(g: Any, out: Any, x: Any, y: Any, name: str) -> tuple[Any, ...]:
    """By the second argument only; derivatives by an order are not known in closed form."""
    if name == "zeta":
        return None, -g * x * of_two(x + 1.0, y, "zeta"), None
    if name in ("gammainc", "gammaincc"):
        slope = NAMES["exp"](NAMES["xlogy"](x - 1.0, y) - y - lgamma(x))
        return None, g * (slope if name == "gammainc" else -slope), None
    raise _without(name, "self")


of_one.reference(_of_one)
of_one.vjp(_of_one_vjp, saves="input out")
of_two.reference(_of_two)
of_two.vjp(_of_two_vjp, saves="input other")


def _floating(x: Tensor) -> Tensor:
    return x if x.dtype.category == 2 else x.to(dtypes.get_default_dtype())


def _number(name: str, x: Tensor) -> Tensor:
    if x.dtype.is_complex:
        raise NotImplementedError(f"\"{name}\" not implemented for '{x.dtype.word}'")
    return _floating(x)


def _pair(name: str, x: Any, y: Any, numbers: bool = True) -> tuple[Tensor, Tensor]:
    """Two tensors, or a number and one, in their common floating dtype and shape.

    Raises:
        TypeError: two numbers, or one where `numbers` are not taken.
    """
    given = [t for t in (x, y) if isinstance(t, Tensor)]
    for place, (word, t) in enumerate((("input", x), ("other", y)), 1):
        if not isinstance(t, Tensor) and not (numbers and given):
            raise TypeError(
                f"{name}(): argument '{word}' (position {place}) must be Tensor, not "
                f"{type(t).__name__}"
            )
    dtype = NAMES["result_type"](x, y)
    if dtype.is_complex:
        raise NotImplementedError(f"\"{name}\" not implemented for '{dtype.word}'")
    if dtype.category < 2:
        dtype = dtypes.get_default_dtype()
    made = [
        cast(t, dtype) if isinstance(t, Tensor)
        else NAMES["full"]((), t, dtype=dtype, device=given[0].device)
        for t in (x, y)
    ]  # fmt: skip
    shape = broadcast_shapes(made[0]._shape, made[1]._shape)
    return expand_to(made[0], shape), expand_to(made[1], shape)


# -- normal distribution and entropy ---------------------------------------------------------------


@only_in("special.ndtr", autocast=None)
def special_ndtr(input: Tensor) -> Tensor:
    """The area under the standard normal density up to input."""
    x = _number("ndtr", input)
    return cast(erfc(widen(x) * (-1.0 / _ROOT_2)) * 0.5, x.dtype)


@only_in("special.log_ndtr", autocast=None)
def special_log_ndtr(input: Tensor) -> Tensor:
    """log(ndtr(input)), accurate far below 0."""
    return of_one(_number("log_ndtr", input), "log_ndtr")


@only_in("special.ndtri", autocast=None)
def special_ndtri(input: Tensor) -> Tensor:
    """The number up to which the area under the standard normal density is input."""
    return of_one(_number("ndtri", input), "ndtri")


@only_in("special.entr", autocast=None)
def special_entr(input: Tensor) -> Tensor:
    """-input * log(input); 0 at 0 and -inf below."""
    x = _number("entr", input)
    inside = select_where(x > 0, x, 1.0)
    edge = select_where(x == 0, NAMES["zeros_like"](x), -math.inf)
    found = select_where(x > 0, -inside * log(inside), edge)
    return select_where(NAMES["isnan"](x), x, found)


@only_in("special.erfcx", autocast=None)
def special_erfcx(input: Tensor) -> Tensor:
    """exp(input^2) erfc(input), which does not underflow."""
    return of_one(_number("erfcx", input), "erfcx")


@only_in("special.xlog1py", autocast=None)
def special_xlog1py(input: Any, other: Any) -> Tensor:
    """input * log1p(other), 0 where input is 0 unless other is NaN."""
    x, y = _pair("xlog1py", input, other)
    zero = (x == 0) & ~NAMES["isnan"](y)
    return select_where(zero, 0.0, x * log1p(select_where(zero, 0.0, y)))


# -- gamma and zeta functions ----------------------------------------------------------------------


@only_in("special.zeta", autocast=None)
def special_zeta(input: Any, other: Any) -> Tensor:
    """Hurwitz zeta function, sum over k of 1 / (k + other)^input."""
    return of_two(*_pair("zeta", input, other), "zeta")


@composite(inplace=True, out=True, aliases=("special.gammainc",))
def igamma(input: Tensor, other: Tensor) -> Tensor:
    """Regularized lower incomplete gamma function of order input."""
    return of_two(*_pair("igamma", input, other, False), "gammainc")


@composite(inplace=True, out=True, aliases=("special.gammaincc",))
def igammac(input: Tensor, other: Tensor) -> Tensor:
    """Regularized upper incomplete gamma function of order input."""
    return of_two(*_pair("igammac", input, other, False), "gammaincc")


@composite(inplace=True, out=True, aliases=("special.multigammaln",))
def mvlgamma(input: Tensor, p: int) -> Tensor:
    """Logarithm of the multivariate gamma function of dimension p; input > (p - 1) / 2."""
    if p < 1:
        raise RuntimeError("p has to be greater than or equal to 1")
    x = _number("mvlgamma", input)
    steps = NAMES["arange"](p, dtype=x.dtype) * 0.5
    found = NAMES["sum"](lgamma(x.unsqueeze(-1) - steps), -1)
    return found + p * (p - 1) / 4.0 * math.log(math.pi)


# -- Bessel functions ------------------------------------------------------------------------------


@composite(inplace=True, out=True, aliases=("special.i0",))
def i0(input: Tensor) -> Tensor:
    """Modified Bessel function of the first kind, of order 0."""
    return of_one(_number("i0", input), "i0")


@only_in("special.i0e", autocast=None)
def special_i0e(input: Tensor) -> Tensor:
    """exp(-|input|) i0(input)."""
    return of_one(_number("i0e", input), "i0e")


@only_in("special.i1", autocast=None)
def special_i1(input: Tensor) -> Tensor:
    """Modified Bessel function of the first kind, of order 1."""
    return of_one(_number("i1", input), "i1")


@only_in("special.i1e", autocast=None)
def special_i1e(input: Tensor) -> Tensor:
    """exp(-|input|) i1(input)."""
    return of_one(_number("i1e", input), "i1e")


@only_in("special.spherical_bessel_j0", autocast=None)
def special_spherical_bessel_j0(input: Tensor) -> Tensor:
    """Spherical Bessel function of the first kind, of order 0: sin(x) / x."""
    found: Tensor = NAMES["sinc"](_number("spherical_bessel_j0", input.detach()) * (1.0 / math.pi))
    return found


def _declare(name: str, scipy_name: str, meaning: str) -> None:
    """A public row without derivative for a function of SciPy."""

    def function(input: Tensor) -> Tensor:
        return of_one(_number(name, input.detach()), scipy_name)

    function.__name__ = function.__qualname__ = f"special_{name}"
    function.__doc__ = meaning
    function.__annotations__ = {"input": "Tensor", "return": "Tensor"}
    only_in(f"special.{name}", autocast=None)(function)


for _name, _scipy_name, _meaning in (
    ("airy_ai", "airy", "Airy function Ai."),
    ("bessel_j0", "j0", "Bessel function of the first kind, of order 0."),
    ("bessel_j1", "j1", "Bessel function of the first kind, of order 1."),
    ("bessel_y0", "y0", "Bessel function of the second kind, of order 0."),
    ("bessel_y1", "y1", "Bessel function of the second kind, of order 1."),
    ("modified_bessel_i0", "i0", "Modified Bessel function of the first kind, of order 0."),
    ("modified_bessel_i1", "i1", "Modified Bessel function of the first kind, of order 1."),
    ("modified_bessel_k0", "k0", "Modified Bessel function of the second kind, of order 0."),
    ("modified_bessel_k1", "k1", "Modified Bessel function of the second kind, of order 1."),
    ("scaled_modified_bessel_k0", "k0e", "exp(input) modified_bessel_k0(input)."),
    ("scaled_modified_bessel_k1", "k1e", "exp(input) modified_bessel_k1(input)."),
):
    _declare(_name, _scipy_name, _meaning)


# -- polynomials -----------------------------------------------------------------------------------


def _recurrence(
    first: Callable[[Any], Any], step: Callable[[int, Any, Any, Any], Any]
) -> Callable[[Any, Any], Any]:
    """Polynomials by p(0) = 1, p(1) = first(x) and p(k + 1) = step(k, x, p(k), p(k - 1)).

    Orders are rounded towards 0; those below 0 give 0.
    """

    def polynomial(x: Any, order: Any) -> Any:
        n = np.trunc(order)
        before, now = np.ones_like(x), first(x)
        found = np.where(n < 0, 0.0, np.where(n == 0, before, now))
        with np.errstate(all="ignore"):
            for k in range(1, int(n.max(initial=0))):
                before, now = now, step(k, x, now, before)
                found = np.where(n == k + 1, now, found)
        return found

    return polynomial


def _twice(k: int, x: Any, now: Any, before: Any) -> Any:
    return 2.0 * x * now - before


def _shifted(polynomial: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda x, n: polynomial(2.0 * x - 1.0, n)


_CHEBYSHEV = {
    "chebyshev_polynomial_t": _recurrence(lambda x: x, _twice),
    "chebyshev_polynomial_u": _recurrence(lambda x: 2.0 * x, _twice),
    "chebyshev_polynomial_v": _recurrence(lambda x: 2.0 * x - 1.0, _twice),
    "chebyshev_polynomial_w": _recurrence(lambda x: 2.0 * x + 1.0, _twice),
}
_POLYNOMIALS: dict[str, Callable[[Any, Any], Any]] = {
    **_CHEBYSHEV,
    **{f"shifted_{name}": _shifted(found) for name, found in _CHEBYSHEV.items()},
    "hermite_polynomial_h": _recurrence(
        lambda x: 2.0 * x, lambda k, x, now, before: 2.0 * x * now - 2.0 * k * before
    ),
    "hermite_polynomial_he": _recurrence(
        lambda x: x, lambda k, x, now, before: x * now - k * before
    ),
    "laguerre_polynomial_l": _recurrence(
        lambda x: 1.0 - x,
        lambda k, x, now, before: ((2 * k + 1 - x) * now - k * before) / (k + 1),
    ),
    "legendre_polynomial_p": _recurrence(
        lambda x: x, lambda k, x, now, before: ((2 * k + 1) * x * now - k * before) / (k + 1)
    ),
}


def _declare_polynomial(name: str) -> None:
    words = name.replace("_polynomial_", " polynomial of kind ").replace("_", " ")

    def function(input: Any, n: Any) -> Tensor:
        x, order = _pair(name, input, n)
        return of_two(x.detach(), order.detach(), name)

    function.__name__ = function.__qualname__ = f"special_{name}"
    function.__doc__ = f"The {words.capitalize()} and order n at input."
    function.__annotations__ = {"input": "Any", "n": "Any", "return": "Tensor"}
    only_in(f"special.{name}", autocast=None)(function)


for _name in _POLYNOMIALS:
    _declare_polynomial(_name)
