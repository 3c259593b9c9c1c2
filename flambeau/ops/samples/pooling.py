"""Samples of `ops/pooling.py`, `ops/resampling.py` and `ops/sampling.py`."""

from __future__ import annotations

from typing import Any

from flambeau.dtype import int32
from flambeau.ops.resampling import Key, tables
from flambeau.ops.rows import ROWS
from flambeau.ops.samples.arithmetic import Samples
from flambeau.ops.samples.loss import classes


def space(dims: int, *sizes: int) -> tuple[int, ...]:
    """The last `dims` of some sizes."""
    return sizes[len(sizes) - dims :]


def max_pools(dims: int) -> Samples:
    """Windows of several forms in `dims` dimensions."""
    return lambda r: [
        (r(2, 3, *space(dims, 4, 6, 7)), 2),
        (r(1, 2, *space(dims, 5, 4, 9)), 3, 2, 1, 1, True),
        (r(2, *space(dims, 4, 5, 20)), 2, 1, 0, 2),
        (r(0, 2, *space(dims, 3, 4, 5)), 2),
        (r(2, 2, *space(dims, 3, 4, 5)).transpose(-1, 0)[..., :2].transpose(-1, 0), 2, 1),
        (r(1, 1, *space(dims, 1, 1, 1)), 1),
    ]


def avg_pools(dims: int) -> Samples:
    """Windows of several forms, padding counted or not."""
    return lambda r: [
        (r(2, 3, *space(dims, 4, 6, 7)), 2),
        (r(1, 2, *space(dims, 5, 4, 9)), 3, 2, 1, True),
        (r(1, 2, *space(dims, 5, 4, 9)), 3, 2, 1, True, False),
        (r(2, *space(dims, 4, 5, 20)), 3, 1, 1),
        (r(1, 1, *space(dims, 3, 3, 33)), 1, 3),
        (r(0, 2, *space(dims, 3, 4, 5)), 2),
        *([(r(1, 2, *space(dims, 3, 4, 5)), 2, {"divisor_override": 3})] if dims > 1 else []),
    ]


def adaptive_pools(dims: int, indices: bool) -> Samples:
    """Sizes that divide, that do not, and that are larger."""
    more: dict[str, Any] = {"return_indices": True} if indices else {}
    return lambda r: [
        (r(2, 3, *space(dims, 4, 6, 8)), 2),
        (r(2, 3, *space(dims, 4, 5, 7)), 3, more),
        (r(2, *space(dims, 3, 4, 6)), 1),
        (r(1, 2, *space(dims, 2, 3, 4)), 5),
        (r(0, 2, *space(dims, 2, 3, 4)), 2),
    ]


def lp_pools(dims: int) -> Samples:
    """Positive numbers, whose powers have derivatives."""
    return lambda r: [
        (r(2, 3, *space(dims, 4, 5, 7), low=0.5), 2.0, 2),
        (r(1, 2, *space(dims, 4, 5, 7), low=0.5), 3.0, 3, 1),
    ]


def unpools(dims: int) -> Samples:
    """Places that are all different, and an output size."""

    def made(r: Any) -> list[tuple[Any, ...]]:
        x = r(1, 2, *space(dims, 2, 2, 3))
        count = x[0, 0].numel()
        places = x.new_zeros(1).long() + (x.new_ones(count).cumsum(0).long() - 1) * 2
        places = places.reshape(1, 1, *x.shape[2:]).expand(*x.shape).contiguous()
        return [(x, places, 2), (x, places, 2, None, 0, list(space(dims, 5, 5, 7)))]

    return made


def fractional_pools(dims: int) -> Samples:
    """Windows at places that are given, not drawn."""
    return lambda r: [
        (
            r(2, 3, *space(dims, 5, 6, 7)),
            2,
            {"output_size": 3, "_random_samples": r(2, 3, dims, low=0, high=1).detach()},
        )
    ]


def resamples(*keys: tuple[Key, Key]) -> Samples:
    """Images for the windows of rows and columns, and for their transposes."""

    def made(r: Any) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = []
        for first, second in keys:
            for transposed in (False, True):
                height, width = (
                    k[2] if transposed and len(k) > 2 else k[1] for k in (first, second)
                )
                x = r(2, height, width)
                how = (first, second, transposed)
                found.append((x, *tables(how, x.dtype, x.device), how))
        return found

    return made


def grids(r: Any) -> list[tuple[Any, ...]]:
    """Images and places, some of them outside."""
    image, volume = (lambda: r(2, 3, 4, 5)), (lambda: r(1, 2, 3, 4, 3))
    return [
        (image(), r(2, 3, 4, 2, low=-1.1, high=1.1), "bilinear", "zeros", False),
        (image(), r(2, 3, 4, 2, low=-1.3, high=1.3), "bilinear", "border", True),
        (image(), r(2, 2, 3, 2, low=-2.3, high=2.2), "bilinear", "reflection", False),
        (image(), r(2, 3, 4, 2, low=-1.1, high=1.1), "nearest", "zeros", False),
        (image(), r(2, 3, 2, 2, low=-1.1, high=1.1), "bicubic", "zeros", False),
        (image(), r(2, 3, 2, 2, low=-1.4, high=1.4), "bicubic", "reflection", True),
        (volume(), r(1, 2, 3, 2, 3, low=-1.1, high=1.1), "bilinear", "zeros", True),
    ]


SAMPLES: dict[str, Samples] = {
    "_max_pool": lambda r: [
        (r(2, 1, 4, 5), ((1, 1, 1, 1, 0, 1), (4, 2, 2, 2, 0, 1), (5, 3, 3, 2, 1, 1))),
        (r(2, 3, 2, 70), ((3, 3, 2, 1, 1, 2), (2, 2, 1, 1, 0, 1), (70, 23, 3, 3, 0, 1))),
    ],
    "_put_back": lambda r: [
        (r(2, 3), classes(r, 2, 3, count=5).to(int32), 5),
        (r(1, 1).expand(2, 4), classes(r, 2, 4, count=9).to(int32), 9),
    ],
    "_resample": resamples(
        (("windows", 5, 3, 3, 2, 1), ("windows", 7, 7, 3, 1, 1)),
        (("adaptive", 5, 3), ("adaptive", 40, 33)),
        (("linear", 3, 5, 0.6, False), ("linear", 4, 9, 0.0, True)),
        (("cubic", 4, 3, 1.3, False), ("smooth cubic", 9, 4, 2.25, False)),
        (("nearest", 3, 6, 0.5, False), ("same", 5)),
    ),
    "interpolate": lambda r: [
        (r(2, 3, 5), 8),
        (r(2, 3, 5), {"scale_factor": 1.7, "mode": "linear"}),
        (r(2, 3, 4, 5), {"scale_factor": 2}),
        (r(2, 3, 4, 5), {"size": (3, 9), "mode": "nearest-exact"}),
        (r(2, 3, 4, 5), {"size": (6, 3), "mode": "bilinear", "align_corners": True}),
        (r(2, 1, 6, 5), {"size": (3, 4), "mode": "bilinear", "antialias": True}),
        (r(2, 1, 4, 5), {"scale_factor": (1.5, 0.5), "mode": "bicubic", "align_corners": False}),
        (r(1, 2, 7, 8), {"size": 4, "mode": "bicubic", "antialias": True}),
        (r(1, 2, 3, 4, 5), {"size": (2, 5, 7), "mode": "trilinear"}),
        (r(1, 2, 3, 4, 5), {"scale_factor": 0.6, "mode": "area"}),
        (r(0, 2, 3, 4), {"size": 5, "mode": "bilinear"}),
    ],
    "grid_sample": grids,
    "pixel_shuffle": lambda r: [(r(2, 8, 3, 2), 2), (r(9, 1, 2), 3), (r(0, 4, 2, 2), 2)],
    "pixel_unshuffle": lambda r: [(r(2, 2, 6, 4), 2), (r(3, 3, 3), 3)],
    "channel_shuffle": lambda r: [(r(2, 6, 3), 3), (r(1, 4, 2, 3), 2)],
    **{f"max_pool{d}d": max_pools(d) for d in (1, 2, 3)},
    **{f"adaptive_max_pool{d}d": adaptive_pools(d, True) for d in (1, 2, 3)},
    **{f"fractional_max_pool{d}d": fractional_pools(d) for d in (2, 3)},
    **{f"max_unpool{d}d": unpools(d) for d in (1, 2, 3)},
    **{f"avg_pool{d}d": avg_pools(d) for d in (1, 2, 3)},
    **{f"adaptive_avg_pool{d}d": adaptive_pools(d, False) for d in (1, 2, 3)},
    **{f"lp_pool{d}d": lp_pools(d) for d in (1, 2, 3)},
}
for _name, _samples in SAMPLES.items():
    ROWS[_name].samples = _samples
