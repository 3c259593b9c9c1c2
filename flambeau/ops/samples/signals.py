"""Samples of `ops/signals.py`, `placing.py`, `copies.py`, `lowrank.py` and `sequences.py`."""

from __future__ import annotations

from typing import Any

from flambeau import dtypes
from flambeau.ops.copies import SPLITS, VIEWS
from flambeau.ops.rows import FUNCTIONAL, NAMES, ROWS
from flambeau.ops.samples.arithmetic import Samples
from flambeau.ops.samples.complex import pairs
from flambeau.ops.samples.linalg import drawn


def integers(*values: Any) -> Any:
    """An int64 tensor."""
    return NAMES["tensor"](list(values), dtype=dtypes.int64)


def reduced(r: Any) -> list[tuple[Any, ...]]:
    """Entries combined by index, with repetitions."""
    return [
        (r(3, 4), 0, integers(0, 2, 0), r(3, 4), kind, {"include_self": whole})
        for kind in ("prod", "mean", "amax", "amin")
        for whole in (True, False)
    ] + [(r(2, 3), 1, integers(1), r(2, 1), "amax")]


def segments(r: Any) -> list[tuple[Any, ...]]:
    """Segments by length and by place."""
    lengths = {"lengths": integers(2, 0, 3), "initial": 1.0}
    return [
        *((drawn(r, 5, 2), kind, lengths) for kind in ("sum", "mean", "max", "min", "prod")),
        (drawn(r, 5), "sum", {"offsets": integers(0, 2, 5)}),
    ]


def spectra(r: Any) -> Any:
    """Short-time spectra of a signal."""
    return NAMES["stft"](drawn(r, 2, 20), 8, return_complex=True)


def logarithms(r: Any, *shape: int) -> Any:
    """Logarithms of probabilities."""
    return FUNCTIONAL["log_softmax"](drawn(r, *shape), -1)


def sampler(*sizes: int) -> Samples:
    """An image and a grid, for each mode."""
    dims = len(sizes)
    return lambda r: [
        (drawn(r, 1, 2, *sizes), drawn(r, 1, *sizes, dims) * 0.3 + 0.05, mode, 0, False)
        for mode in (0, 1)
    ]


def boxes(r: Any) -> list[tuple[Any, ...]]:
    """Points in two dimensions."""
    return [
        (drawn(r, 9, 2), 3),
        (drawn(r, 9, 2), [2, 3], {"range": [-1.0, 1.0, -2.0, 2.0], "density": True}),
    ]


#: What the bases of `*_copy` are sampled with, where it is no row of its own.
_ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "as_strided": ((2, 2), (1, 2)),
    "diagonal": (),
    "expand": (2, 3, 4),
    "narrow": (1, 1, 2),
    "permute": (1, 0),
    "select": (0, 1),
    "split": (2, 1),
    "split_with_sizes": ([1, 3], 1),
    "transpose": (0, 1),
    "unfold": (1, 2, 1),
    "unsqueeze": (1,),
    "view": (4, 3),
    "chunk": (2, 1),
}


def copied(name: str) -> Samples:
    """A matrix and the arguments of a view."""
    if name == "view_as_complex":
        return lambda r: [(r(3, 2, dtype=dtypes.float32).detach(),)]
    if name == "view_as_real":
        return lambda r: [(pairs(r, 3),)]
    if name == "permute":
        return lambda r: [(r(3, 4), (1, 0))]
    if name in ("expand", "view"):
        return lambda r: [(r(3, 4), _ARGUMENTS[name])]
    return lambda r: [(r(3, 4), *_ARGUMENTS.get(name, ()))]


SAMPLES: dict[str, Samples] = {
    **{f"{name}_copy": copied(name) for name in VIEWS},
    **{f"unsafe_{name}": copied(name) for name in SPLITS},
    "alias_copy": lambda r: [(r(3, 4),), (r(),)],
    "index_reduce": reduced,
    "combine_leading": lambda r: [
        (r(4), r(3, low=0.3), mode, integers(0, 2, 0)) for mode in ("mul", "max", "min")
    ],
    "put": lambda r: [(r(3, 4), integers(0, 7, -1), r(3)), (r(3), integers(0, 0), r(2), True)],
    "fill": lambda r: [(r(3, 4), 2), (r(3), r())],
    "unravel_index": lambda r: [(integers(0, 5, 11), (3, 4)), (integers(2), 4)],
    "constant_pad_nd": lambda r: [(r(2, 3), (1, 2)), (r(2, 3), (0, 1, 1, 0), 2.5)],
    "broadcast_shapes": lambda r: [((2, 1), (3,), 1)],
    "resize_as_": lambda r: [(r(4).detach(), r(2, 2))],
    "native_group_norm": lambda r: [
        (drawn(r, 2, 4, 3), drawn(r, 4), drawn(r, 4), 2, 4, 3, 2, 1e-5)
    ],
    "native_batch_norm": lambda r: [
        (drawn(r, 3, 2, 4), drawn(r, 2), drawn(r, 2), None, None, True, 0.1, 1e-5),
    ],
    "as_strided_scatter": lambda r: [(r(3, 4), r(2, 2), (2, 2), (1, 2), 1)],
    "nonzero_static": lambda r: [
        (r(3, 4), {"size": 3}),
        (NAMES["zeros"](3), {"size": 2, "fill_value": 7}),
    ],
    "segment_reduce": segments,
    "stft": lambda r: [
        (drawn(r, 20), 8, {"return_complex": True}),
        (drawn(r, 2, 20), 8, 3, 6, drawn(r, 6), False, {"return_complex": False}),
        (drawn(r, 20), 8, {"return_complex": True, "onesided": False, "normalized": True}),
    ],
    "istft": lambda r: [(spectra(r), 8), (spectra(r), 8, {"length": 18})],
    "gradient": lambda r: [
        (r(5),),
        (r(4, 5), {"spacing": 0.5, "dim": 1, "edge_order": 2}),
        (drawn(r, 4), {"spacing": (NAMES["tensor"]([0.0, 1.0, 3.0, 4.5], dtype=drawn(r).dtype),)}),
    ],
    "mantissa_and_exponent": lambda r: [(r(3, 4, low=0.6, high=0.9),)],
    "frexp": lambda r: [(r(3, 4, low=0.6, high=0.9),)],
    "exclusive_or": lambda r: [(drawn(r, 3, 4).double().detach(), (1,))],
    "hash_tensor": lambda r: [(r(3, 4),), (r(3, 4), 1, {"keepdim": True})],
    "upsample_nearest": lambda r: [(r(1, 2, 3, 3), {"scale_factor": 2})],
    "upsample_bilinear": lambda r: [(r(1, 2, 3, 3), {"scale_factor": 2})],
    "grid_sampler": sampler(3, 4),
    "grid_sampler_2d": sampler(3, 4),
    "grid_sampler_3d": sampler(2, 3, 3),
    "count_in_cells": lambda r: [
        (drawn(r, 9, 1), None, NAMES["linspace"](-1, 1, 4, dtype=drawn(r).dtype)),
    ],
    "histogramdd": boxes,
    "alignment_loss": lambda r: [
        (
            logarithms(r, 5, 2, 4).detach(),
            integers([1, 2], [3, 3]),
            integers(5, 4),
            integers(2, 2),
            0,
        ),
    ],
    "ctc_loss": lambda r: [
        (logarithms(r, 5, 2, 4), integers([1, 2], [3, 3]), [5, 4], [2, 2]),
        (logarithms(r, 5, 2, 4), integers(1, 2, 3), integers(5, 5), integers(2, 1), 0, "sum"),
    ],
    "linear_cross_entropy": lambda r: [(drawn(r, 3, 4), drawn(r, 5, 4), integers(0, 4, 2))],
}
for _name, _samples in SAMPLES.items():
    ROWS[_name].samples = _samples
for _name in ("alignment_loss", "ctc_loss"):  # there is no second derivative
    ROWS[_name].gradcheck = False
