"""Composites of elementwise arithmetic give torch's values, gradients, dtypes and errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flambeau
from tests.parity.rows import assert_same_error, classes, compare, normal, uniform

torch = pytest.importorskip("torch")

X = normal(3, 5, seed=1)
MASK = np.random.default_rng(6).random((4, 6)) > 0.4
LONG = np.array([[1, 2, 3]])
ARITHMETIC = [
    ("div", lambda t, F, x, y: t.div(x, y), X, uniform(5, low=1, high=2)),
    ("div floor", lambda t, F, x, y: x.div(y, rounding_mode="floor"), X, uniform(5, low=0.1)),
    ("div trunc", lambda t, F, x, y: t.div(x, y, rounding_mode="trunc"), X, uniform(5, low=0.1)),
    ("where", lambda t, F, c, x, y: t.where(c, x, y), MASK, normal(4, 6), normal(6)),
    ("where number", lambda t, F, c, x: t.where(c, x, 2), MASK, normal(4, 6)),
    ("where method", lambda t, F, c, x: x.where(c, 0.0), MASK, normal(4, 6)),
    ("clamp", lambda t, F, x: x.clamp(-0.5, 0.5), X),
    ("clamp border", lambda t, F, x: t.clamp(x, 0, 1), np.array([-1.0, 0.0, 0.5, 1.0, 2.0])),
    (
        "clamp tensors",
        lambda t, F, x, a, b: t.clamp(x, a, b),
        X,
        normal(5, seed=4),
        normal(3, 1, seed=5),
    ),
    ("clamp min", lambda t, F, x: x.clamp(min=0.1), X),
    ("clamp_max", lambda t, F, x, m: x.clamp_max(m), X, normal(5)),
    ("square", lambda t, F, x: x.square(), X),
    ("addcmul", lambda t, F, x, a, b: t.addcmul(x, a, b, value=0.3), X, normal(5), normal(3, 1)),
    (
        "addcdiv",
        lambda t, F, x, a, b: x.addcdiv(a, b, value=-2.5),
        X,
        normal(5),
        uniform(3, 1, low=1),
    ),
    ("lerp", lambda t, F, x, y: t.lerp(x, y, 0.3), X, normal(3, 5, seed=9)),
    ("lerp 0.9", lambda t, F, x, y: t.lerp(x, y, 0.9), X, normal(3, 5, seed=9)),
    ("lerp tensor", lambda t, F, x, y, w: t.lerp(x, y, w), X, normal(3, 5, seed=9), normal(5)),
    ("rsub", lambda t, F, x, y: t.rsub(x, y, alpha=0.5), X, normal(5)),
    ("ldexp", lambda t, F, x, y: t.ldexp(x, y), X, classes(5, count=4)),
    ("round", lambda t, F, x: x.round(), X * 10),
    ("round 2", lambda t, F, x: t.round(x, decimals=2), X * 10),
    ("round -1", lambda t, F, x: t.round(x, decimals=-1), X * 100),
    ("frac", lambda t, F, x: x.frac(), X * 10),
    ("deg2rad", lambda t, F, x: t.deg2rad(x), X),
    ("rad2deg", lambda t, F, x: x.rad2deg(), X),
    ("float_power", lambda t, F, x, y: t.float_power(x, y), uniform(3, 5, low=0.5), normal(5)),
    ("float_power number", lambda t, F, x: t.float_power(2, x), X),
    ("logaddexp", lambda t, F, x, y: t.logaddexp(x, y), X, normal(5) * 50),
    ("logaddexp2", lambda t, F, x, y: t.logaddexp2(x, y), X, normal(5)),
    (
        "logaddexp inf",
        lambda t, F, x, y: t.logaddexp(x.detach(), y.detach()),
        np.array([np.inf, -np.inf, np.inf, 1.0, np.nan]),
        np.array([np.inf, -np.inf, 1.0, -np.inf, 1]),
    ),
    ("xlogy", lambda t, F, x, y: t.xlogy(x, y), X, uniform(5, low=0.1)),
    (
        "xlogy zeros",
        lambda t, F, x, y: t.xlogy(x.detach(), y.detach()),
        np.array([0.0, np.nan, 0.0, 0.0, 1.0]),
        np.array([np.nan, 1.0, 0.0, -1.0, 0.0]),
    ),
    ("xlogy number", lambda t, F, x: t.xlogy(x, 2), X),
    ("xlogy of number", lambda t, F, x: t.xlogy(2, x), uniform(3, 5, low=0.1)),
    ("logit", lambda t, F, x: t.logit(x), uniform(3, 5, low=0.01, high=0.99)),
    ("logit eps", lambda t, F, x: x.logit(0.1), uniform(3, 5, low=-0.2, high=1.2)),
    ("sinc", lambda t, F, x: t.sinc(x), np.array([-1.5, -1.0, 0.0, 0.25, 1.0, 2.5])),
    ("polygamma", lambda t, F, x: t.polygamma(2, x), uniform(3, 5, low=0.1, high=5)),
    ("polygamma 1", lambda t, F, x: x.polygamma(1), uniform(3, 5, low=0.1, high=5)),
    ("polygamma 0", lambda t, F, x: t.polygamma(0, x), uniform(3, 5, low=0.1, high=5)),
    (
        "heaviside",
        lambda t, F, x, y: t.heaviside(x.detach(), y.detach()),
        np.array([-1.0, 0.0, 2.0]),
        np.array([5.0]),
    ),
    ("nan_to_num", lambda t, F, x: t.nan_to_num(x), np.array([np.nan, np.inf, -np.inf, 1.0])),
    (
        "nan_to_num all",
        lambda t, F, x: x.nan_to_num(1.0, 2.0, -3.0),
        np.array([np.nan, np.inf, -np.inf, 1.0]),
    ),
    ("sgn", lambda t, F, x: x.detach().sgn(), X),
    (
        "isposinf",
        lambda t, F, x: (t.isposinf(x), t.isneginf(x), t.isreal(x)),
        np.array([np.nan, np.inf, -np.inf, 1.0]),
    ),
    (
        "gcd",
        lambda t, F, x, y: (t.gcd(x, y), x.lcm(y)),
        np.array([[12, -8, 0], [7, 5, 9]]),
        np.array([8, 12, 6]),
    ),
    (
        "isclose",
        lambda t, F, x, y: (
            t.isclose(x, y),
            t.isclose(x, y, equal_nan=True),
            t.isclose(x, y, rtol=0, atol=0),
        ),
        np.array([np.nan, np.inf, np.inf, 1.0, 1.0, 1.0]),
        np.array([np.nan, np.inf, -np.inf, 1.0 + 5e-6, 1.1, np.inf]),
    ),
    ("dist", lambda t, F, x, y: t.dist(x, y, 3), X, normal(5)),
    ("fix", lambda t, F, x: t.fix(x), X * 10),
    ("positive", lambda t, F, x: t.positive(x), X),
]
INPLACE = [
    (name, call, *arrays)
    for name, call, *arrays in (
        ("mul_", lambda x, y: x.mul_(y), X, normal(5)),
        ("div_ floor", lambda x, y: x.div_(y, rounding_mode="floor"), X, uniform(5, low=1)),
        ("clamp_", lambda x: x.clamp_(-0.5, 0.5), X),
        ("clip_", lambda x: x.clip_(max=0.3), X),
        ("square_", lambda x: x.square_(), X),
        ("addcmul_", lambda x, a, b: x.addcmul_(a, b, value=0.5), X, normal(5), normal(3, 1)),
        (
            "addcdiv_",
            lambda x, a, b: x.addcdiv_(a, b, value=0.5),
            X,
            normal(5),
            uniform(3, 1, low=1),
        ),
        ("lerp_", lambda x, y: x.lerp_(y, 0.2), X, normal(3, 5, seed=4)),
        ("round_", lambda x: x.round_(), X),
        ("relu_", lambda x: x.relu_(), X),
        ("logit_", lambda x: x.logit_(), uniform(5, low=0.1, high=0.9)),
        ("nan_to_num_", lambda x: x.nan_to_num_(1.0), np.array([np.nan, 1.0])),
        ("eq_", lambda x, y: x.eq_(y.detach()), X, X),
        ("sin_", lambda x: x.sin_(), X),
        ("div_ of a view", lambda x, y: x[1:].div_(y), X, uniform(5, low=1)),
    )
]


@pytest.mark.parametrize("case", ARITHMETIC, ids=[c[0] for c in ARITHMETIC])
def test_float64_values_and_gradients(case: tuple[Any, ...]) -> None:
    _, call, *arrays = case
    compare(call, *arrays)


@pytest.mark.parametrize("case", INPLACE, ids=[c[0] for c in INPLACE])
def test_in_place_values_and_gradients(case: tuple[Any, ...]) -> None:
    _, write, *arrays = case

    def call(lib: Any, functions: Any, x: Any, *rest: Any) -> Any:
        y = x * 1
        found = write(y, *rest)
        assert found is y or found._base is y
        return y

    compare(call, *arrays)


ERRORS = [
    ("clamp nothing", lambda t, F, x: t.clamp(x), X),
    ("where floats", lambda t, F, x: t.where(x, x, x), X),
    ("lerp dtypes", lambda t, F, x: t.lerp(x, x.float(), 0.5), X),
    ("addcdiv integers", lambda t, F, x: t.addcdiv(x, x, x), LONG),
    ("div rounding", lambda t, F, x: t.div(x, x, rounding_mode="up"), X),
    ("polygamma below 0", lambda t, F, x: t.polygamma(-1, x), X),
    ("isclose dtypes", lambda t, F, x: t.isclose(x, x.float()), X),
    ("isclose tolerance", lambda t, F, x: t.isclose(x, x, rtol=-1.0), X),
    ("heaviside dtypes", lambda t, F, x: t.heaviside(x, x.float()), X),
    ("gcd floats", lambda t, F, x: t.gcd(x, x), X),
    ("rsub bools", lambda t, F, x: t.rsub(x > 0, 1), X),
    ("positive bools", lambda t, F, x: t.positive(x > 0), X),
    ("lerp integers", lambda t, F, x: t.lerp(x, x, 0.5), LONG),
    ("in place on integers", lambda t, F, x: x.div_(2), LONG),
    ("clamp_ on integers", lambda t, F, x: x.clamp_(0.5), LONG),
    ("is_nonzero many", lambda t, F, x: t.is_nonzero(x), X),
    ("frac integers", lambda t, F, x: t.frac(x), LONG),
    ("logaddexp integers", lambda t, F, x: t.logaddexp(x, x), LONG),
]


@pytest.mark.parametrize("case", ERRORS, ids=[c[0] for c in ERRORS])
def test_errors_have_torchs_class(case: tuple[Any, ...]) -> None:
    _, call, *arrays = case
    assert_same_error(call, *arrays)


DTYPES = [
    ("div", lambda t, x: t.div(x, 2), None),
    ("div floor", lambda t, x: t.div(x, 2, rounding_mode="floor"), None),
    ("div float", lambda t, x: t.div(x, 2.0, rounding_mode="trunc"), None),
    ("clamp", lambda t, x: t.clamp(x, 0.5), None),
    ("clamp int", lambda t, x: t.clamp(x, 1), None),
    ("where numbers", lambda t, x: t.where(x > 0, 1.0, 2), None),
    ("where", lambda t, x: t.where(x > 0, x, 2.0), None),
    ("square", lambda t, x: t.square(x), None),
    ("ldexp", lambda t, x: t.ldexp(x, x), "bool"),
    ("deg2rad", lambda t, x: t.deg2rad(x), None),
    ("float_power", lambda t, x: t.float_power(x, 2), None),
    ("xlogy", lambda t, x: t.xlogy(x, x), None),
    ("sinc", lambda t, x: t.sinc(x), None),
    ("nan_to_num", lambda t, x: t.nan_to_num(x), None),
    ("rsub", lambda t, x: t.rsub(x, 2.5), "bool"),
    ("addcmul", lambda t, x: t.addcmul(x, x, x, value=2), "bool"),
    ("isclose", lambda t, x: t.isclose(x, x), None),
    ("relu", lambda t, x: t.relu(x), "bool"),
]


@pytest.mark.parametrize(
    "dtype", ["float32", "float16", "bfloat16", "int64", "int32", "uint8", "bool"]
)
@pytest.mark.parametrize("case", DTYPES, ids=[c[0] for c in DTYPES])
def test_result_dtypes_and_values(case: tuple[Any, ...], dtype: str) -> None:
    _, call, refuses = case
    if refuses == dtype:
        pytest.skip("not defined for bools")
    found = []
    for lib in (flambeau, torch):
        x = lib.tensor([0, 1, 2]).to(getattr(lib, dtype))
        y = call(lib, x)
        found.append((str(y.dtype).split(".")[-1], y.to(lib.float64).numpy()))
    assert found[0][0] == found[1][0]
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-2 if "16" in dtype else 1e-6)


def test_questions() -> None:
    for lib in (flambeau, torch):
        x = lib.tensor([1.0, 2.0])
        assert lib.equal(x, lib.tensor([1.0, 2.0]))
        assert not lib.equal(x, lib.tensor([1.0]))
        assert not lib.equal(x, lib.tensor([1.0, 3.0]))
        assert lib.allclose(x, x + 1e-7)
        assert not lib.allclose(x, x + 1e-3)
        assert lib.allclose(lib.zeros(0), lib.zeros(0))
        assert lib.is_tensor(x)
        assert not lib.is_tensor(1.0)
        assert lib.numel(x) == 2
        assert lib.is_floating_point(x)
        assert lib.is_nonzero(lib.tensor(1))
        assert lib.result_type(lib.tensor([1]), 1.0) is lib.float32
        assert lib.result_type(lib.tensor(1.0, dtype=lib.float64), x) is lib.float32
        assert not lib.can_cast(lib.float32, lib.int32)
        assert lib.can_cast(lib.int32, lib.float32)


def test_where_with_the_condition_alone() -> None:
    for lib in (flambeau, torch):
        rows, columns = lib.where(lib.tensor([[True, False], [True, True]]))
        assert rows.tolist() == [0, 1, 1]
        assert columns.tolist() == [0, 0, 1]
