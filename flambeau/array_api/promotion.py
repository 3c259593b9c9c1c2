"""Dtypes as the standard has them: kinds, promotion, limits. 0-d arrays promote as others do."""

from __future__ import annotations

import functools
from typing import Any

import flambeau

BY_KIND: dict[str, tuple[Any, ...]] = {
    "bool": (flambeau.bool,),
    "signed integer": (flambeau.int8, flambeau.int16, flambeau.int32, flambeau.int64),
    "unsigned integer": (flambeau.uint8, flambeau.uint16, flambeau.uint32, flambeau.uint64),
    "real floating": (flambeau.float32, flambeau.float64),
    "complex floating": (flambeau.complex64, flambeau.complex128),
}
BY_KIND["integral"] = BY_KIND["signed integer"] + BY_KIND["unsigned integer"]
BY_KIND["numeric"] = BY_KIND["integral"] + BY_KIND["real floating"] + BY_KIND["complex floating"]
#: The standard's dtypes by name.
DTYPES = {d.name: d for d in BY_KIND["bool"] + BY_KIND["numeric"]}
SCALARS = (bool, int, float, complex)


def isdtype(dtype: Any, kind: Any) -> bool:
    """Whether a dtype is another, or of a kind, or one of a tuple of both.

    Args:
        dtype: a dtype.
        kind: a dtype, a kind ("bool", "signed integer", "unsigned integer", "integral",
            "real floating", "complex floating", "numeric"), or a tuple of them.

    Raises:
        ValueError: no such kind.
    """
    if isinstance(kind, tuple):
        return any(isdtype(dtype, k) for k in kind)
    if isinstance(kind, str):
        if kind not in BY_KIND:
            raise ValueError(f"Unrecognized data type kind: {kind!r}")
        return dtype in BY_KIND[kind]
    return dtype is kind


@functools.cache
def promoted(a: Any, b: Any) -> Any:
    """The dtype that two meet in.

    Raises:
        TypeError: the standard leaves it open and nothing holds both.
    """
    if a is b:
        return a
    signed, unsigned = BY_KIND["signed integer"], BY_KIND["unsigned integer"]
    if {a, b} <= set(unsigned):
        return a if a.itemsize > b.itemsize else b
    for one, other in ((a, b), (b, a)):
        if one in signed and other in unsigned:
            size = max(one.itemsize, 2 * other.itemsize)
            if size > 8:
                raise TypeError(f"{a} and {b} cannot be promoted to an integer dtype")
            return next(d for d in signed if d.itemsize == size)
    return flambeau.promote_types(a, b)


def _with_scalar(dtype: Any, value: Any) -> Any:
    """The dtype that an array and a Python number meet in: the array's, if that has the kind."""
    if isinstance(value, bool):
        return dtype
    if isinstance(value, complex):
        return dtype.to_complex() if dtype.is_floating_point else dtype
    if isinstance(value, float) and not (dtype.is_floating_point or dtype.is_complex):
        return flambeau.get_default_dtype()
    if isinstance(value, int) and dtype is flambeau.bool:
        return flambeau.int64
    return dtype


def result_type(*arrays_and_dtypes: Any) -> Any:
    """The dtype that arrays, dtypes and numbers meet in.

    Raises:
        ValueError: none is an array or a dtype.
        TypeError: nothing holds them all.
    """
    numbers = [x for x in arrays_and_dtypes if isinstance(x, SCALARS)]
    dtypes = [
        x if isinstance(x, flambeau.dtype) else x.dtype
        for x in arrays_and_dtypes
        if not isinstance(x, SCALARS)
    ]
    if not dtypes:
        raise ValueError("at least one array or dtype is required")
    return functools.reduce(_with_scalar, numbers, functools.reduce(promoted, dtypes))


def alike(*values: Any) -> list[Any]:
    """Arrays and numbers as arrays of the dtype that they meet in."""
    dtype = result_type(*values)
    device = next(x.device for x in values if isinstance(x, flambeau.Tensor))
    return [
        x.to(dtype) if isinstance(x, flambeau.Tensor) else
        flambeau.tensor(x, dtype=dtype, device=device)
        for x in values
    ]  # fmt: skip


def can_cast(from_: Any, to: Any, /) -> bool:
    """Whether a dtype, or an array's, is converted without loss of kind or range."""
    dtype = from_ if isinstance(from_, flambeau.dtype) else from_.dtype
    if min(dtype.category, 2) != min(to.category, 2):  # no path of promotion
        return False
    try:
        return promoted(dtype, to) is to
    except TypeError:
        return False


def finfo(type: Any, /) -> Any:
    """Limits of a floating-point dtype, or of an array's."""
    return flambeau.finfo(type if isinstance(type, flambeau.dtype) else type.dtype)


def iinfo(type: Any, /) -> Any:
    """Limits of an integer dtype, or of an array's."""
    return flambeau.iinfo(type if isinstance(type, flambeau.dtype) else type.dtype)


def astype(x: Any, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Any:
    """An array as another dtype.

    Args:
        copy: whether it is copied where it has the dtype already.
        device: where it shall be; by default where it is.
    """
    return x.to(device=x.device if device is None else device, dtype=dtype, copy=copy)


__all__ = ["astype", "can_cast", "finfo", "iinfo", "isdtype", "result_type"]
