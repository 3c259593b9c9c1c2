"""Arrays from nothing, from data, and from their shape."""

from __future__ import annotations

from typing import Any

import flambeau


def asarray(obj: Any, /, *, dtype: Any = None, device: Any = None, copy: bool | None = None) -> Any:
    """Numbers, nested sequences, buffers and arrays as an array.

    Args:
        dtype: by default that of the data.
        device: by default where the data are.
        copy: True always copies, False never, None where it must.

    Raises:
        ValueError: it would have to be copied, and must not be.
    """
    if device is None and isinstance(obj, flambeau.Tensor):
        device = obj.device
    if copy is False and isinstance(obj, (bool, int, float, complex, list, tuple)):
        raise ValueError("numbers and sequences cannot be arrays without a copy")
    return flambeau.asarray(obj, dtype=dtype, device=device, copy=copy)


def from_dlpack(x: Any, /, *, device: Any = None, copy: bool | None = None) -> Any:
    """An array over another library's memory."""
    return flambeau.from_dlpack(x, device=device, copy=copy)


def arange(
    start: Any, /, stop: Any = None, step: Any = 1, *, dtype: Any = None, device: Any = None
) -> Any:
    """start, start + step, ... before stop; none where that is on the other side.

    Args:
        stop: by default `start`, from 0.
        dtype: by default int64, or the default float where one of them is a float.
    """
    start, stop = (0, start) if stop is None else (start, stop)
    if (stop - start) * step <= 0:
        whole = all(isinstance(n, int) for n in (start, stop, step))
        natural = flambeau.int64 if whole else flambeau.get_default_dtype()
        return flambeau.empty(0, dtype=dtype or natural, device=device)
    return flambeau.arange(start, stop, step, dtype=dtype, device=device)


def linspace(
    start: Any,
    stop: Any,
    /,
    num: int,
    *,
    dtype: Any = None,
    device: Any = None,
    endpoint: bool = True,
) -> Any:
    """`num` values evenly spaced from start to stop, which is one of them unless `endpoint` says
    otherwise."""
    count = num if endpoint else num + 1
    if isinstance(start, complex) or isinstance(stop, complex) or (dtype and dtype.is_complex):
        chosen = dtype or flambeau.get_default_dtype().to_complex()
        ends = complex(start), complex(stop)
        parts = [
            linspace(a, b, num, dtype=chosen.to_real(), device=device, endpoint=endpoint)
            for a, b in ((ends[0].real, ends[1].real), (ends[0].imag, ends[1].imag))
        ]
        return flambeau.complex(*parts)
    return flambeau.linspace(start, stop, count, dtype=dtype, device=device)[:num]


def eye(
    n_rows: int,
    n_cols: int | None = None,
    /,
    *,
    k: int = 0,
    dtype: Any = None,
    device: Any = None,
) -> Any:
    """Ones on the k-th diagonal, zeros elsewhere."""
    n_cols = n_rows if n_cols is None else n_cols
    rows = flambeau.arange(n_rows, device=device).unsqueeze(1)
    columns = flambeau.arange(n_cols, device=device)
    return (columns - rows == k).to(dtype or flambeau.get_default_dtype())


def _shape(shape: Any) -> tuple[int, ...]:
    return (shape,) if isinstance(shape, int) else tuple(shape)


def full(shape: Any, fill_value: Any, *, dtype: Any = None, device: Any = None) -> Any:
    """One value everywhere."""
    return flambeau.full(_shape(shape), fill_value, dtype=dtype, device=device)


def zeros(shape: Any, *, dtype: Any = None, device: Any = None) -> Any:
    """Zeros."""
    return flambeau.zeros(_shape(shape), dtype=dtype, device=device)


def ones(shape: Any, *, dtype: Any = None, device: Any = None) -> Any:
    """Ones."""
    return flambeau.ones(_shape(shape), dtype=dtype, device=device)


def empty(shape: Any, *, dtype: Any = None, device: Any = None) -> Any:
    """Values that do not matter."""
    return flambeau.empty(_shape(shape), dtype=dtype, device=device)


def full_like(x: Any, /, fill_value: Any, *, dtype: Any = None, device: Any = None) -> Any:
    """`full` with an array's shape, dtype and device."""
    return flambeau.full_like(x, fill_value, dtype=dtype, device=device)


def zeros_like(x: Any, /, *, dtype: Any = None, device: Any = None) -> Any:
    """`zeros` with an array's shape, dtype and device."""
    return flambeau.zeros_like(x, dtype=dtype, device=device)


def ones_like(x: Any, /, *, dtype: Any = None, device: Any = None) -> Any:
    """`ones` with an array's shape, dtype and device."""
    return flambeau.ones_like(x, dtype=dtype, device=device)


def empty_like(x: Any, /, *, dtype: Any = None, device: Any = None) -> Any:
    """`empty` with an array's shape, dtype and device."""
    return flambeau.empty_like(x, dtype=dtype, device=device)


def meshgrid(*arrays: Any, indexing: str = "xy") -> tuple[Any, ...]:
    """Coordinates of the points of a grid.

    Args:
        indexing: "xy": the first two arrays along the columns and the rows; "ij": as given.

    Raises:
        ValueError: another indexing.
    """
    if indexing not in ("xy", "ij"):
        raise ValueError(f'indexing must be "xy" or "ij", but got {indexing!r}')
    return tuple(flambeau.meshgrid(*arrays, indexing=indexing)) if arrays else ()


def tril(x: Any, /, *, k: int = 0) -> Any:
    """Matrices with zeros above the k-th diagonal."""
    return flambeau.tril(x, k)


def triu(x: Any, /, *, k: int = 0) -> Any:
    """Matrices with zeros below the k-th diagonal."""
    return flambeau.triu(x, k)


__all__ = [
    *("arange", "asarray", "empty", "empty_like", "eye", "from_dlpack", "full", "full_like"),
    *("linspace", "meshgrid", "ones", "ones_like", "tril", "triu", "zeros", "zeros_like"),
]
