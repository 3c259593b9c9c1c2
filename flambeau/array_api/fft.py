"""Fourier transforms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flambeau import fft as ours


def _along_one(name: str) -> Callable[..., Any]:
    row = getattr(ours, name)

    def call(x: Any, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> Any:
        return row(x, n, axis, norm)

    return _named(call, row)


def _along_some(name: str) -> Callable[..., Any]:
    row = getattr(ours, name)

    def call(x: Any, /, *, s: Any = None, axes: Any = None, norm: str = "backward") -> Any:
        return row(x, s, axes, norm)

    return _named(call, row)


def _named(call: Any, row: Any) -> Any:
    call.__name__ = call.__qualname__ = row.__name__.removeprefix("fft_")
    call.__doc__ = row.__doc__
    return call


_ONE = ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft")
_SOME = ("fftn", "ifftn", "rfftn", "irfftn")
globals().update({name: _along_one(name) for name in _ONE})
globals().update({name: _along_some(name) for name in _SOME})


def fftfreq(n: int, /, *, d: float = 1.0, dtype: Any = None, device: Any = None) -> Any:
    """Frequencies of `fft` of n samples that are d apart."""
    return ours.fftfreq(n, d, dtype=dtype, device=device)


def rfftfreq(n: int, /, *, d: float = 1.0, dtype: Any = None, device: Any = None) -> Any:
    """Frequencies of `rfft` of n samples that are d apart."""
    return ours.rfftfreq(n, d, dtype=dtype, device=device)


def fftshift(x: Any, /, *, axes: Any = None) -> Any:
    """Frequency 0 in the middle."""
    return ours.fftshift(x, axes)


def ifftshift(x: Any, /, *, axes: Any = None) -> Any:
    """Frequency 0 at the beginning."""
    return ours.ifftshift(x, axes)


__all__ = [*_ONE, *_SOME, "fftfreq", "fftshift", "ifftshift", "rfftfreq"]
