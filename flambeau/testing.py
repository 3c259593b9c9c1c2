"""Comparing tensors in tests, as torch.testing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

import flambeau

#: dtype's name -> (rtol, atol); others are compared exactly.
_TOLERANCES = {
    "float16": (1e-3, 1e-5),
    "bfloat16": (1.6e-2, 1e-5),
    "float32": (1.3e-6, 1e-5),
    "float64": (1e-7, 1e-7),
    "complex64": (1.3e-6, 1e-5),
    "complex128": (1e-7, 1e-7),
}


def _tolerances(*values: Any, rtol: float | None, atol: float | None) -> tuple[float, float]:
    """The given tolerances, or the largest of the values' dtypes.

    Raises:
        ValueError: only one is given.
    """
    if (rtol is None) != (atol is None):
        raise ValueError(
            f"rtol and atol must both be specified or both be unspecified, but got rtol={rtol} and"
            f" atol={atol}."
        )
    if rtol is not None and atol is not None:
        return rtol, atol
    found = [_TOLERANCES.get(v.dtype.name, (0.0, 0.0)) for v in values]
    return max(r for r, _ in found), max(a for _, a in found)


class _Options:
    """What `assert_close` was asked for."""

    def __init__(self, **chosen: Any) -> None:
        self.__dict__.update(chosen)

    rtol: float | None
    atol: float | None
    equal_nan: bool
    check_device: bool
    check_dtype: bool
    check_layout: bool
    check_stride: bool
    msg: Any

    def fail(self, message: str, where: str, error: type[Exception] = AssertionError) -> None:
        """Raise with torch's words and the place in the containers."""
        if where:
            message += f"\n\nThe failure occurred for item {where}"
        if isinstance(self.msg, str):
            message = self.msg
        elif self.msg is not None:
            message = self.msg(message)
        raise error(message)


def assert_close(
    actual: Any,
    expected: Any,
    *,
    allow_subclasses: bool = True,
    rtol: float | None = None,
    atol: float | None = None,
    equal_nan: bool = False,
    check_device: bool = True,
    check_dtype: bool = True,
    check_layout: bool = True,
    check_stride: bool = False,
    msg: str | Callable[[str], str] | None = None,
) -> None:
    """Assert that ``|actual - expected| <= atol + rtol |expected|``.

    Args:
        actual, expected: tensors, arrays, numbers, or sequences or mappings of them.
        allow_subclasses: whether one may be of a class derived from the other's.
        rtol, atol: both or none; by dtype unless given.
        equal_nan: whether NaN equals NaN.
        check_device, check_dtype, check_layout, check_stride: whether these must be equal too.
        msg: in place of the message, or made of it.

    Raises:
        AssertionError: they differ.
        TypeError: something that is no tensor, array or number.
    """
    options = _Options(
        rtol=rtol, atol=atol, equal_nan=equal_nan, check_device=check_device,
        check_dtype=check_dtype, check_layout=check_layout, check_stride=check_stride, msg=msg,
    )  # fmt: skip
    if not allow_subclasses and type(actual) is not type(expected):
        raise TypeError(
            "allow_subclasses is False, but the inputs are of types"
            f" {type(actual)} and {type(expected)}."
        )
    _compare(actual, expected, options, "")


def _compare(actual: Any, expected: Any, options: _Options, where: str) -> None:
    if isinstance(actual, Mapping) and isinstance(expected, Mapping):
        if set(actual) != set(expected):
            missing = sorted(set(expected) - set(actual), key=str)
            more = sorted(set(actual) - set(expected), key=str)
            options.fail(
                "The keys of the mappings do not match:\n"
                f"Missing keys in the actual mapping: {missing}\n"
                f"Missing keys in the expected mapping: {more}",
                where,
            )
        for key in actual:
            _compare(actual[key], expected[key], options, f"{where}[{key!r}]")
        return
    if all(isinstance(v, Sequence) and not isinstance(v, str) for v in (actual, expected)):
        if len(actual) != len(expected):
            options.fail(
                f"The length of the sequences mismatch: {len(actual)} != {len(expected)}", where
            )
        for i, (a, b) in enumerate(zip(actual, expected, strict=True)):
            _compare(a, b, options, f"{where}[{i}]")
        return
    if actual is None and expected is None:
        return
    plain = all(isinstance(v, (bool, int, float, complex)) for v in (actual, expected))
    pair = []
    for v in (actual, expected):
        if not isinstance(v, (flambeau.Tensor, np.ndarray, bool, int, float, complex, np.generic)):
            raise TypeError(
                "No comparison pair was able to handle inputs of type"
                f" {type(actual)} and {type(expected)}."
            )
        wide = {float: flambeau.float64, complex: flambeau.complex128}.get(type(v))
        pair.append(
            v.detach() if isinstance(v, flambeau.Tensor) else flambeau.tensor(v, dtype=wide)
        )
    _attributes(pair[0], pair[1], options, where, plain)
    _values(pair[0], pair[1], options, where, plain)


def _attributes(a: Any, b: Any, options: _Options, where: str, plain: bool) -> None:
    checks = [("shape", True)]
    if not plain:
        checks += [
            ("layout", options.check_layout),
            ("device", options.check_device),
            ("dtype", options.check_dtype),
        ]
    for name, wanted in checks:
        own, other = getattr(a, name), getattr(b, name)
        if wanted and own != other:
            options.fail(
                f"The values for attribute '{name}' do not match: {own} != {other}.", where
            )
    if options.check_stride and a.stride() != b.stride():
        options.fail(
            f"The values for attribute 'stride()' do not match: {a.stride()} != {b.stride()}.",
            where,
        )


def _values(a: Any, b: Any, options: _Options, where: str, plain: bool) -> None:
    rtol, atol = _tolerances(a, b, rtol=options.rtol, atol=options.atol)
    common = flambeau.promote_types(a.dtype, b.dtype)
    x, y = (np.array(t.to(common)._array()) for t in (a, b))
    if x.dtype.kind not in "biufc":  # 16-bit floats that NumPy does not compute with
        x, y = x.astype(np.float64), y.astype(np.float64)
    kind = np.complex128 if x.dtype.kind == "c" else np.float64
    exact = x == y
    with np.errstate(all="ignore"):
        gap = np.abs(x.astype(kind) - y.astype(kind))
        size = np.abs(y.astype(kind))
        close = exact | (np.isfinite(y) & (gap <= atol + rtol * size))
        relative = gap / size
    if options.equal_nan:
        close |= np.isnan(x) & np.isnan(y)
    if close.all():
        return
    gap, relative = (np.where(close, 0.0, v) for v in (gap, relative))
    if x.dtype.kind in "biu":  # as torch counts: whole differences, their quotients in float32
        gap, relative = gap.astype(np.int64), relative.astype(np.float32)
    sure = "equal" if rtol == atol == 0 else "close"
    if x.ndim == 0:
        which = "Booleans" if plain and x.dtype.kind == "b" else "Scalars"
        lines = [f"{which} are not {sure}!", "", f"Expected {y.item()} but got {x.item()}."]
        if which == "Scalars":
            lines += _greatest("Absolute", gap, atol) + _greatest("Relative", relative, rtol)
        options.fail("\n".join(lines), where)
    wrong, count = int((~close).sum()), close.size
    lines = [
        f"Tensor-likes are not {sure}!",
        "",
        f"Mismatched elements: {wrong} / {count} ({100 * wrong / count:.1f}%)",
        *_greatest("Greatest absolute", gap, atol),
        *_greatest("Greatest relative", relative, rtol),
    ]
    options.fail("\n".join(lines), where)


def _greatest(what: str, values: Any, allowed: float) -> list[str]:
    """The line that tells the largest difference."""
    largest = math.nan if np.isnan(values).any() else values.max().item()
    place = np.unravel_index(int(np.argmax(np.nan_to_num(values, nan=np.inf))), values.shape)
    at = f" at index {tuple(int(i) for i in place)}" if values.ndim else ""
    limit = f" (up to {allowed} allowed)" if allowed else ""
    return [f"{what} difference: {largest}{at}{limit}"]


def make_tensor(
    *shape: Any,
    dtype: Any,
    device: Any = "cpu",
    low: float | None = None,
    high: float | None = None,
    requires_grad: bool = False,
    noncontiguous: bool = False,
    exclude_zero: bool = False,
    memory_format: Any = None,
) -> Any:
    """A tensor with random elements from low to high.

    Args:
        low, high: -9 and 9 for numbers unless given, 0 and 10 for unsigned ones.
        requires_grad: for floating-point and complex dtypes.
        noncontiguous: every other element of a larger tensor.
        exclude_zero: 0 becomes 1, or the least positive number.

    Raises:
        ValueError: no range.
    """
    sizes = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
    sizes = tuple(sizes)
    bottom = 0 if not dtype.is_signed else -9
    low = bottom if low is None else low
    high = (10 if dtype.category < 2 else 9) if high is None else high
    if low >= high and dtype is not flambeau.bool:
        raise ValueError(f"make_tensor: low must be weakly less than high but got {low} >= {high}")
    wide = sizes[:-1] + (2 * sizes[-1],) if noncontiguous and sizes else sizes
    if dtype is flambeau.bool:
        found = flambeau.randint(0, 2, wide, device=device).to(dtype)
    elif dtype.category < 2:
        found = flambeau.randint(math.floor(low), math.ceil(high), wide, device=device).to(dtype)
    else:
        real = dtype.to_real() if dtype.is_complex else dtype
        parts = [
            flambeau.rand(wide, dtype=real, device=device) * (high - low) + low
            for _ in range(1 + dtype.is_complex)
        ]
        found = flambeau.complex(*parts) if dtype.is_complex else parts[0]
    found = found[..., ::2] if noncontiguous and sizes else found
    if exclude_zero:
        least = 1 if dtype.category < 2 else flambeau.finfo(found.dtype).tiny
        found = flambeau.where(found == 0, flambeau.full_like(found, least), found)
    return found.detach().requires_grad_(requires_grad and dtype.category >= 2)


__all__ = ["assert_close", "make_tensor"]
