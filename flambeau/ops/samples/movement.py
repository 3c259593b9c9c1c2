"""Samples of `ops/movement.py` and `ops/rearranging.py`."""

from __future__ import annotations

from typing import Any

from flambeau.dtype import float64, int64
from flambeau.ops.rows import ROWS
from flambeau.ops.samples.arithmetic import Samples, unary
from flambeau.ops.samples.loss import classes


def shapes(*arguments: tuple[Any, ...]) -> Samples:
    """A tensor of the first item's shape with the rest as arguments."""
    return lambda r: [(r(*shape), *rest) for shape, *rest in arguments]


def lists(r: Any) -> list[tuple[Any, ...]]:
    """Sequences of tensors that stack."""
    return [([r(2, 3), r(2, 3)],), ([r(3)],), ([r(3, 2).t(), r(2, 3), r(2, 3)],)]


def reduced(mode: str, **options: Any) -> Samples:
    """Arguments of `scatter_reduce`, whose src keeps away from ties."""
    return lambda r: [
        (
            r(4, 3, low=0.5, high=2),
            0,
            classes(r, 5, 3, count=4),
            r(6, 3, low=0.5, high=2),
            mode,
            options,
        )
    ]


SAMPLES: dict[str, Samples] = {
    "assign_region": lambda r: [
        (r(3, 4), r(2, 2), (2, 2), (4, 1), 5),
        (r(3, 4), r(3), (3,), (4,), 1),
    ],
    "as_strided": lambda r: [(r(3, 4), (2, 2), (4, 2), 1), (r(12), (3, 3), (2, 1))],
    "permute_dims": shapes(((2, 3, 4), (2, 0, 1)), ((), ())),
    "expand_to": shapes(((3, 1), (2, 3, 4)), ((), (2, 2)), ((1,), (0,))),
    "view_as_shape": shapes(((3, 4), (2, 6)), ((1,), ()), ((0, 3), (3, 0))),
    "slice_dim": shapes(((5, 4), 0, 1, 5, 2), ((5, 4), 1, 2, 2, 1)),
    "select_dim": shapes(((5, 4), 0, 3), ((5, 4), 1, 0)),
    "diagonal_of": shapes(((3, 4), 0, 0, 1), ((2, 3, 4), -1, 2, 1)),
    "unfold_dim": shapes(((9, 2), 0, 3, 2), ((2, 6), 1, 2, 1)),
    "flip_dims": shapes(((3, 4), (0,)), ((3, 4), (0, 1))),
    "reshape": lambda r: [(r(3, 4), (2, 6)), (r(4, 3).t(), (12,)), (r(3, 1).expand(3, 4), (-1,))],
    "permute": shapes(((2, 3, 4), (1, -1, 0)), ((3, 4), 1, 0)),
    "transpose": shapes(((2, 3, 4), 0, 2), ((3, 4), -1, -2), ((), 0, -1)),
    "t": shapes(((3, 4),), ((5,),), ((),)),
    "movedim": shapes(((2, 3, 4), 0, -1), ((2, 3, 4), (0, 1), (1, 2))),
    "expand": shapes(((3, 1), 3, 4), ((3, 1), (2, -1, 4)), ((), 2)),
    "expand_as": lambda r: [(r(3, 1), r(3, 4).detach())],
    "sum_to_size": shapes(((3, 4), (1, 4)), ((2, 3, 4), (3, 1)), ((2, 3), (2, 3))),
    "broadcast_to": shapes(((3, 1), (2, 3, 4)), ((), (2,))),
    "broadcast_tensors": lambda r: [(r(3, 1), r(4)), (r(), r(2, 2), r(2))],
    "unsqueeze": shapes(((3, 4), 0), ((3, 4), -1), ((), 0)),
    "squeeze": shapes(((1, 3, 1),), ((1, 3, 1), 0), ((1, 3, 1), (0, 2)), ((3,), 0), ((),)),
    "flatten": shapes(((2, 3, 4),), ((2, 3, 4), 1), ((2, 3, 4), 0, 1), ((),)),
    "unflatten": shapes(((2, 6), 1, (2, 3)), ((6,), 0, (-1, 2))),
    "ravel": shapes(((2, 3),), ((),), ((0, 2),)),
    "view_as": lambda r: [(r(3, 4), r(2, 6).detach())],
    "reshape_as": lambda r: [(r(4, 3).t(), r(2, 6).detach())],
    "narrow": shapes(((5, 4), 0, 1, 3), ((5, 4), 1, -2, 2), ((5,), 0, 2, 0)),
    "select": shapes(((5, 4), 0, -1), ((5, 4), 1, 2)),
    "diagonal": shapes(((3, 4),), ((3, 4), 1), ((2, 3, 3), -1, 1, 2)),
    "unfold": shapes(((9,), 0, 3, 2), ((2, 6), 1, 2, 1), ((2, 6), 1, 3, 4)),
    "split": shapes(((5, 2), 2), ((5, 2), [1, 4]), ((2, 6), 3, 1)),
    "split_with_sizes": shapes(((5, 2), [2, 3]), ((2, 3), [1, 0, 2], 1)),
    "chunk": shapes(((5, 2), 2), ((2, 6), 4, 1)),
    "tensor_split": shapes(((7, 2), 3), ((7, 2), (1, 4)), ((2, 5), 2, 1)),
    "unbind": shapes(((3, 2),), ((3, 2), 1)),
    "join": lambda r: [(0, r(2, 3), r(1, 3)), (1, r(2, 3), r(2, 1), r(2, 0))],
    "cat": lambda r: [
        ([r(2, 3), r(1, 3)],),
        ([r(2, 3), r(2, 1), r(2, 0)], 1),
        ([r(3, 2).t(), r(2, 3)[:, ::2]], -1),
        ([r(2), r(2, dtype=float64)],),
        ([r(0), r(2, 3)],),
    ],
    "_stack": lambda r: [(0, r(2, 3), r(2, 3)), (2, r(2, 3), r(2, 3)), (0, r())],
    "stack": lambda r: [*lists(r), ([r(2, 3), r(2, 3)], -1), ([r(), r()],)],
    "flip": shapes(((3, 4), (0,)), ((3, 4), (0, 1)), ((2, 3, 4), (1, -1)), ((0, 2), (0,))),
    "contiguous": unary(),
    "_edge_pad": lambda r: [
        (r(3, 4), ((1, 2, 1),), "reflect"),
        (r(2, 3, 4).transpose(0, 2), ((2, 1, 0), (1, 2, 2)), "replicate"),
    ],
    "pad": lambda r: [
        (r(3, 4), (1, 2)),
        (r(3, 4), (1, 0, 2, 1), "constant", 1.5),
        (r(3, 4), (-1, 2)),
        (r(2, 3, 5), (2, 1), "reflect"),
        (r(2, 3, 5), (2, 1), "replicate"),
        (r(2, 3, 5), (2, 1), "circular"),
        (r(1, 2, 3, 4), (1, 1, 2, 1), "reflect"),
    ],
    "roll": shapes(((3, 4), 1), ((3, 4), 2, 1), ((3, 4), (1, -1), (0, 1)), ((0, 2), 1, 0)),
    "rot90": shapes(((3, 4),), ((3, 4), 2), ((2, 3, 4), -1, (1, 2))),
    "fliplr": shapes(((3, 4),)),
    "flipud": shapes(((3, 4),), ((3,),)),
    "tril": shapes(((3, 4),), ((3, 4), -1), ((2, 3, 3), 1), ((0, 2),)),
    "triu": shapes(((3, 4),), ((3, 4), -1), ((2, 3, 3), 1), ((0, 2),)),
    "tril_indices": lambda r: [(3, 4), (4, 3, -1), (2, 2, 1)],
    "triu_indices": lambda r: [(3, 4), (4, 3, -1), (2, 2, 1)],
    "diag_embed": shapes(((3,),), ((2, 3), 1), ((2, 3), -1, 0, 2)),
    "diag": shapes(((3,),), ((3, 4),), ((3, 4), 1), ((3,), -1)),
    "diagflat": shapes(((3,),), ((2, 2), 1)),
    "block_diag": lambda r: [(r(2, 3), r(1, 2), r(3)), (r(),)],
    "repeat": shapes(((2, 3), 2, 1), ((3,), (2, 2)), ((), 3), ((2,), 0)),
    "tile": shapes(((2, 3), (2,)), ((2, 3), (1, 2, 2))),
    "repeat_interleave": lambda r: [
        (r(3, 2), 2),
        (r(3, 2), 2, 0),
        (r(3, 2), r(3, dtype=int64, low=0, high=3), 0),
        (r(2, 3), r(3, dtype=int64, low=1, high=3), 1),
    ],
    "meshgrid": lambda r: [(r(2), r(3), {"indexing": "ij"}), (r(2), r(3), {"indexing": "xy"})],
    "cartesian_prod": lambda r: [(r(2), r(3)), (r(3),)],
    "combinations": lambda r: [(r(4),), (r(4), 3), (r(3), 2, True)],
    "atleast_1d": lambda r: [(r(),), (r(3),), (r(), r(2, 2))],
    "atleast_2d": lambda r: [(r(),), (r(3),), (r(2, 2, 2),)],
    "atleast_3d": lambda r: [(r(),), (r(3),), (r(2, 2),)],
    "hstack": lists,
    "vstack": lists,
    "dstack": lists,
    "column_stack": lists,
    "hsplit": shapes(((4, 6), 2), ((6,), 3), ((2, 5), [1, 3])),
    "vsplit": shapes(((4, 6), 2), ((5, 2), [1, 3])),
    "dsplit": shapes(((2, 3, 4), 2)),
    "select_scatter": lambda r: [(r(3, 4), r(4), 0, 1), (r(3, 4), r(3), 1, -1)],
    "slice_scatter": lambda r: [
        (r(5, 2), r(2, 2), 0, 1, 3),
        (r(2, 6), r(2, 2), 1, 0, 6, 3),
        (r(3, 4).t(), r(2, 3), 0, 2),
    ],
    "diagonal_scatter": lambda r: [(r(3, 3), r(3)), (r(3, 4), r(2), -1)],
    "scatter_reduce": lambda r: [
        *reduced("sum")(r),
        *reduced("mean")(r),
        *reduced("prod")(r),
        *reduced("amax")(r),
        *reduced("amin", include_self=False)(r),
        *reduced("sum", include_self=False)(r),
    ],
}
for _name, _samples in SAMPLES.items():
    ROWS[_name].samples = _samples
