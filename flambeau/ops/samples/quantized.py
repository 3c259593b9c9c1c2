"""Samples of `ops/quantized.py`."""

from __future__ import annotations

from typing import Any

from flambeau.dtype import float32, int8, int32
from flambeau.ops.rows import ROWS
from flambeau.ops.samples.arithmetic import Samples


def _scale(r: Any, *shape: int) -> Any:
    return r(*shape, dtype=float32, low=0.05, high=0.4).detach()


def _zero(r: Any, *shape: int) -> Any:
    return r(*shape, dtype=int32, low=-3, high=4)


def _linear(r: Any) -> list[Any]:
    sizes: tuple[tuple[tuple[int, ...], int], ...] = (
        ((3, 4), 5), ((4,), 1), ((2, 1, 3), 2), ((0, 3), 2)
    )  # fmt: skip
    found: list[Any] = []
    for shape, n in sizes:
        weight = r(n, shape[-1], dtype=int8, low=-127, high=128)
        found.append((r(*shape), weight, _scale(r, n), r(n) if n > 1 else None))
    return found


SAMPLES: dict[str, Samples] = {
    "fake_quantize_per_tensor_affine": lambda r: [
        (r(3, 4), 0.1, 2, -8, 7),
        (r(4, 3).t(), _scale(r), _zero(r), -8, 7),
        (r(), 0.5, 0, 0, 255),
        (r(0, 2), 0.5, 0, -128, 127),
    ],
    "fake_quantize_per_channel_affine": lambda r: [
        (r(3, 4), _scale(r, 4), _zero(r, 4), 1, -8, 7),
        (r(2, 1, 3), _scale(r, 2), _zero(r, 2), 0, -128, 127),
        (r(0, 2), _scale(r, 2), _zero(r, 2), 1, -128, 127),
    ],
    "_fake_quantize": lambda r: [
        (r(3, 4), _scale(r), _zero(r), -8, 7, None),
        (r(3, 4), _scale(r, 3), _zero(r, 3), -8, 7, 0),
    ],
    "_dynamic_linear": _linear,
}
for _name, _samples in SAMPLES.items():
    ROWS[_name].samples = _samples
