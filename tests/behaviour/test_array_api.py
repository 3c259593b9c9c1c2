"""The array API namespace beside NumPy, which is written in the same standard."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

import flambeau

xp = flambeau.ones(1).__array_namespace__()
KINDS = {
    "b": ("bool",),
    "i": ("int8", "int16", "int32", "int64"),
    "u": ("uint8", "uint16", "uint32", "uint64"),
    "f": ("float32", "float64"),
    "c": ("complex64", "complex128"),
}
#: Function -> the kinds of dtypes that it takes.
UNARY = {
    **dict.fromkeys(("abs", "negative", "positive", "round", "sign", "square"), "iufc"),
    **dict.fromkeys(("isfinite", "isinf", "isnan"), "iufc"),
    **dict.fromkeys(("ceil", "floor", "trunc"), "iuf"),
    **dict.fromkeys(
        "acos asin asinh atan cos cosh exp expm1 log log10 log1p log2 sin sinh sqrt tan tanh"
        " acosh atanh".split(), "fc",
    ),
    **dict.fromkeys(("conj", "imag", "real"), "c"),
    **dict.fromkeys(("reciprocal", "signbit"), "f"),
    "bitwise_invert": "biu",
    "logical_not": "b",
}  # fmt: skip
BINARY = {
    **dict.fromkeys(("add", "multiply", "subtract"), "iufc"),
    **dict.fromkeys(("equal", "not_equal"), "biufc"),
    **dict.fromkeys(("greater", "greater_equal", "less", "less_equal"), "iuf"),
    **dict.fromkeys(("maximum", "minimum", "floor_divide", "remainder"), "iuf"),
    **dict.fromkeys(("bitwise_and", "bitwise_or", "bitwise_xor"), "biu"),
    **dict.fromkeys(("bitwise_left_shift", "bitwise_right_shift"), "iu"),
    **dict.fromkeys(("logical_and", "logical_or", "logical_xor"), "b"),
    **dict.fromkeys(("atan2", "copysign", "hypot", "logaddexp", "nextafter"), "f"),
    **dict.fromkeys(("divide", "pow"), "fc"),
}
SHAPES = (((), ()), ((3,), ()), ((2, 3), (3,)), ((2, 1), (1, 3)), ((0,), (1,)))
Array = np.ndarray[Any, Any]


def drawn(rng: np.random.Generator, kind: str, shape: tuple[int, ...], low: int = -4) -> Array:
    """An array of some dtype of a kind."""
    dtype = np.dtype(str(rng.choice(KINDS[kind])))
    if kind in "bu":
        return rng.integers(0, 2 if kind == "b" else 6, shape).astype(dtype)
    if kind == "i":
        return rng.integers(low, 6, shape).astype(dtype)
    real = rng.uniform(low, 5, shape)
    return np.asarray(real + 1j * rng.uniform(low, 5, shape) if kind == "c" else real, dtype)


def converted(value: Any) -> Any:
    """Arrays as tensors, at any depth."""
    if isinstance(value, np.ndarray):
        return flambeau.tensor(value)
    if isinstance(value, (list, tuple)):
        return type(value)(converted(v) for v in value)
    return value


def agrees(found: Any, wanted: Any, where: str) -> None:
    """Values, shapes and dtypes are the same."""
    if isinstance(wanted, (tuple, list)):
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            agrees(one, other, where)
        return
    wanted = np.asarray(wanted)
    assert isinstance(found, flambeau.Tensor), where
    array = found.numpy()
    assert array.dtype == wanted.dtype, f"{where}: {array.dtype}, wanted {wanted.dtype}"
    assert array.shape == wanted.shape, f"{where}: {array.shape}, wanted {wanted.shape}"
    single = wanted.dtype in (np.float32, np.complex64)
    np.testing.assert_allclose(array, wanted, rtol=2e-4 if single else 1e-9, atol=2e-4 * single,
                               err_msg=where)  # fmt: skip


def check(name: str, *args: Any, space: str = "", **options: Any) -> None:
    """A function gives what NumPy's does."""
    ours, numpys = (getattr(lib, space) if space else lib for lib in (xp, np))
    with np.errstate(all="ignore"):
        wanted = getattr(numpys, name)(*args, **options)
    given = {k: converted(v) for k, v in options.items()}
    agrees(getattr(ours, name)(*converted(args), **given), wanted, f"{name} {args} {options}")


@pytest.mark.parametrize("name", UNARY)
def test_functions_of_one_array(name: str, rng: np.random.Generator) -> None:
    for kind in UNARY[name]:
        for shape in ((), (3,), (2, 0)):
            x = drawn(rng, kind, shape)
            check(name, np.asarray(np.abs(x) + 1, x.dtype) if name == "acosh" else x)


@pytest.mark.parametrize("name", BINARY)
def test_functions_of_two_arrays_promote(name: str, rng: np.random.Generator) -> None:
    low = 0 if "shift" in name else -4
    for kind in BINARY[name]:
        for first, second in SHAPES:
            a, b = drawn(rng, kind, first, low), drawn(rng, kind, second, low)
            if kind in "iu" and name in ("floor_divide", "remainder"):
                b = np.asarray(np.where(b == 0, 1, b), b.dtype)
            if name == "pow":
                a = np.asarray(np.abs(a) if kind == "f" else a)
            check(name, a, b)
        number: Any = {"b": True, "i": 3, "u": 2, "f": 1.5, "c": 1.5}[kind]
        check(name, drawn(rng, kind, (3,), low), number)


#: Where the standard's special cases are: infinities, NaN, zeros of both signs, and what is near.
SPECIAL = np.array([np.nan, np.inf, 0.0, 1.0, 2.0, 0.5, 2.5, 3.0, 1e-40, 1e30])
SPECIAL = np.concatenate([SPECIAL, -SPECIAL])


@pytest.mark.parametrize("name", [n for n, k in {**UNARY, **BINARY}.items() if "f" in k])
def test_special_cases_of_floats(name: str) -> None:
    count = 1 if name in UNARY else 2
    args = [x.ravel().astype(np.float32) for x in np.meshgrid(*[SPECIAL] * count)]
    with np.errstate(all="ignore"):
        wanted = np.asarray(getattr(np, name)(*args))
    found = getattr(xp, name)(*converted(args)).numpy()
    np.testing.assert_allclose(found, wanted, rtol=3e-4, atol=1e-38)
    if wanted.dtype == np.float32 and name not in (
        "maximum",
        "minimum",
    ):  # which choose a zero freely
        signed = (wanted == 0) & (found == 0)
        assert (np.signbit(found) == np.signbit(wanted))[signed].all()


@pytest.mark.parametrize("name", ["all", "any", "max", "min", "prod", "sum", "mean", "std", "var",
                                  "argmax", "argmin", "count_nonzero"])  # fmt: skip
def test_values_over_axes(name: str, rng: np.random.Generator) -> None:
    for kind in {"mean": "f", "std": "f", "var": "f"}.get(name, "iuf"):
        x = drawn(rng, kind, (2, 3, 2))
        axes: list[Any] = [None, 0, -1] if name.startswith("arg") else [None, 0, -1, (0, 2), ()]
        for axis in axes:
            for keepdims in (False, True):
                check(name, x, axis=axis, keepdims=keepdims)


def test_running_values_and_differences(rng: np.random.Generator) -> None:
    for kind in "iufc":
        x = drawn(rng, kind, (2, 4))
        for name in ("cumulative_sum", "cumulative_prod"):
            check(name, x, axis=1, include_initial=True)
            check(name, x[0])
        check("diff", x)
        check("diff", x, axis=0, prepend=x[:1], append=x[1:])


ARRANGED: dict[str, list[tuple[Any, ...]]] = {
    "broadcast_to": [((4, 2, 3),)],
    "expand_dims": [(0,), (-1,), ((0, 2),)],
    "flip": [(), ({"axis": 1},), ({"axis": (0, 1)},)],
    "permute_dims": [((1, 0),)],
    "moveaxis": [(0, -1)],
    "matrix_transpose": [()],
    "repeat": [(2,), (np.array([1, 2]), {"axis": 0})],
    "reshape": [((3, 2),), ((-1,), {"copy": True})],
    "roll": [(1,), ((1, 2), {"axis": (0, 1)}), (-1, {"axis": 1})],
    "sort": [(), ({"axis": 0},)],
    "argsort": [({"stable": True},)],
    "take": [(np.array([1, -1]), {"axis": 1})],
    "take_along_axis": [(np.array([[0, 1], [2, -1]]), {"axis": 1})],
    "tile": [((2, 2),), ((2, 1, 3),)],
    "tril": [({"k": 1},), ()],
    "triu": [({"k": -1},)],
    "unstack": [({"axis": 1},)],
    "nonzero": [()],
}


@pytest.mark.parametrize("name", ARRANGED)
def test_where_elements_stand(name: str, rng: np.random.Generator) -> None:
    for kind in "biufc" if "sort" not in name else "iuf":
        for case in ARRANGED[name]:
            options = case[-1] if case and isinstance(case[-1], dict) else {}
            check(name, drawn(rng, kind, (2, 3)), *case[: len(case) - bool(options)], **options)


def test_joining_and_choosing(rng: np.random.Generator) -> None:
    a, b = drawn(rng, "i", (2, 3)), drawn(rng, "u", (2, 3)).astype(np.uint16)
    for axis in (0, 1, None):
        check("concat", [a, b], axis=axis)
    check("stack", [a, b], axis=-1)
    check("squeeze", a[:, None, :], axis=1)
    check("broadcast_arrays", a, b[0])
    check("where", a > 0, a, b)
    check("clip", a, 1, 3)
    check("clip", drawn(rng, "f", (4,)), None, 2)
    check("isin", a, a[0], invert=True)
    check("searchsorted", np.arange(5.0), drawn(rng, "f", (2, 3)).astype(np.float64), side="right")
    check("meshgrid", np.arange(2), np.arange(3))
    for values in (np.array([3, 1, 3, 2]), np.array([[1.0, np.nan], [np.nan, 1]]), a > 0):
        for name in ("unique_all", "unique_counts", "unique_inverse", "unique_values"):
            if name != "unique_values":  # in NumPy's, they stand in no order
                check(name, values)
            else:
                agrees(
                    xp.unique_values(converted(values)), np.unique(values, equal_nan=False), name
                )


def test_creation() -> None:
    assert xp.arange(5, 1).tolist() == xp.arange(0, 3, -1).tolist() == []
    assert xp.arange(1, 8, 3).dtype is xp.int64
    for k in (-4, -1, 0, 2, 9):
        assert xp.eye(3, 4, k=k).tolist() == np.eye(3, 4, k).tolist()
    assert xp.linspace(0, 1, 4, endpoint=False).tolist() == [0, 0.25, 0.5, 0.75]
    assert xp.full(2, True).dtype is xp.bool
    assert xp.zeros_like(xp.ones((2, 3), dtype=xp.int8)).dtype is xp.int8
    with pytest.raises(ValueError, match="copy"):
        xp.asarray([1], copy=False)
    with pytest.raises(ValueError, match="size"):
        xp.reshape(xp.ones((2, 3)).T, (6,), copy=False)


def test_linear_algebra_and_transforms(rng: np.random.Generator) -> None:
    a = rng.standard_normal((2, 3, 3)) + 3 * np.eye(3)
    h = a @ a.swapaxes(1, 2)
    for name in ("det", "inv", "svdvals", "slogdet", "pinv", "matrix_norm", "matrix_rank", "trace"):
        check(name, a, space="linalg")
    for name in ("cholesky", "eigvalsh"):
        check(name, h, space="linalg")
    for right in (a[0, 0], a, a[0]):
        check("solve", a, right, space="linalg") if right.ndim != 2 else None
    check("vector_norm", a, axis=(0, 1), keepdims=True, space="linalg")
    check("diagonal", a, offset=1, space="linalg")
    check("cross", a[0], a[1], space="linalg")
    check("vecdot", a, a[0] + 1j)
    check("matmul", drawn(rng, "i", (2, 3)), drawn(rng, "i", (3, 2)))
    check("tensordot", a[0], a[1], axes=((0, 1), (1, 0)))
    x = rng.standard_normal((2, 6))
    for name in ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft"):
        check(name, x, n=5, norm="ortho", space="fft")
    for name in ("fftn", "ifftn", "rfftn", "irfftn"):
        check(name, x, axes=(0, 1), s=(2, 4), space="fft")
    check("fftshift", x, axes=1, space="fft")


def test_dtypes_meet_as_the_standard_has_it() -> None:
    assert xp.result_type(xp.uint8, xp.int8) is xp.int16
    assert xp.result_type(xp.ones((), dtype=xp.float64), xp.ones(2, dtype=xp.float32)) is xp.float64
    assert xp.result_type(xp.float32, xp.complex128) is xp.complex128
    assert xp.result_type(xp.int8, 3) is xp.int8
    with pytest.raises(TypeError):
        xp.result_type(xp.uint64, xp.int8)
    assert xp.can_cast(xp.int8, xp.int32)
    assert not xp.can_cast(xp.int32, xp.float32)
    assert xp.isdtype(xp.uint16, ("bool", "integral"))
    assert not xp.isdtype(xp.float32, "complex floating")
    info = xp.__array_namespace_info__()
    assert set(info.dtypes(kind=("bool", "real floating"))) == {"bool", "float32", "float64"}
    assert info.default_dtypes()["real floating"] is xp.float32
    assert info.capabilities()["data-dependent shapes"]


def test_every_public_name_of_the_standard_is_there_with_its_signature() -> None:
    strict = pytest.importorskip("array_api_strict")
    for theirs, ours in ((strict, xp), (strict.linalg, xp.linalg), (strict.fft, xp.fft)):
        own = strict.__name__ if theirs is strict else theirs.__name__
        for name, function in vars(theirs).items():
            if not inspect.isfunction(function) or "array_api_strict" in name or name[0] == "_":
                continue
            if theirs is not strict and function.__module__ != own:
                continue
            found, wanted = (inspect.signature(f) for f in (getattr(ours, name), function))
            kinds = [[(p.name, p.kind) for p in s.parameters.values()] for s in (found, wanted)]
            assert kinds[0] == kinds[1], name
    assert set(xp.__all__) <= set(dir(xp))


def test_versions_and_devices() -> None:
    x = flambeau.ones(2)
    assert x.__array_namespace__(api_version="2023.12") is xp
    with pytest.raises(ValueError, match="2019"):
        x.__array_namespace__(api_version="2019.12")
    assert x.to_device("cpu").tolist() == [1, 1]
    with pytest.raises(ValueError, match="stream"):
        x.to_device("cpu", stream=1)
