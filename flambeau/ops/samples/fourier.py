"""Samples of `ops/fourier.py`.

The generic tests draw real tensors; the complex transforms are given pairs of them.
"""

from __future__ import annotations

from typing import Any

from flambeau.ops.rows import ROWS
from flambeau.ops.samples.arithmetic import Samples
from flambeau.ops.samples.complex import pairs
from flambeau.ops.samples.linalg import drawn


def real(r: Any, *more: Any) -> list[tuple[Any, ...]]:
    """Signals of even and odd length, and one that does not lie in order."""
    return [
        (drawn(r, 6), *more),
        (drawn(r, 3, 5), *more),
        (drawn(r, 4, 3).t(), *more),
    ]


def lengths(r: Any) -> list[tuple[Any, ...]]:
    """Signals cut, filled, along another dimension, and scaled."""
    return [
        *real(r),
        (drawn(r, 3, 5), 8, 1, "ortho"),
        (drawn(r, 5, 3), 4, 0, "forward"),
        (drawn(r, 7), 5),
    ]


def several(r: Any) -> list[tuple[Any, ...]]:
    """Signals of several dimensions."""
    return [
        (drawn(r, 3, 4),),
        (drawn(r, 2, 3, 5), (3, 4), (0, 2), "ortho"),
    ]


def shifts(r: Any) -> list[tuple[Any, ...]]:
    """Spectra to be rolled."""
    return [(drawn(r, 5),), (drawn(r, 3, 4),), (drawn(r, 3, 4), 1)]


SAMPLES: dict[str, Samples] = {
    "fourier": lambda r: [
        (pairs(r, 3, 4), (0, 1), "ortho", True),
        (pairs(r, 5), (0,), "forward", False),
    ],
    "fourier_half": lambda r: real(r, (0,), "backward"),
    "fourier_real": lambda r: [
        (pairs(r, 3, 3), (0, 1), "ortho", 4),
        (pairs(r, 3), (0,), "forward", 5),
    ],
    **{f"fft_{name}": lengths for name in ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft")},
    **{f"fft_{name}n": several for name in ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft")},
    **{f"fft_{name}2": several for name in ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft")},
    "fft_fftshift": shifts,
    "fft_ifftshift": shifts,
    "fft_fftfreq": lambda r: [(5,), (6, 0.5)],
    "fft_rfftfreq": lambda r: [(5,), (6, 0.5)],
}
for _name, _samples in SAMPLES.items():
    ROWS[_name].samples = _samples
