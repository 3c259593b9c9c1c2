"""Samples of `ops/reduction.py`, `ops/statistics.py`, `ops/scan.py` and `ops/ordering.py`."""

from __future__ import annotations

from typing import Any

from flambeau.dtype import float64, int64
from flambeau.ops.rows import ROWS
from flambeau.ops.samples.arithmetic import Samples, truths


def axes(*, empty: bool = True) -> Samples:
    """A tensor and the axes of a primitive reduction."""
    return lambda r: [
        (r(3, 4), (1,)),
        (r(3, 4), (0,)),
        (r(2, 3, 4), (0, 2)),
        (r(2, 3, 4), (0, 1, 2)),
        (r(4, 3).t(), (1,)),
        (r(2, 700), (1,)),
        (r(6, 5)[::2, 1:4], (0,)),
        *([(r(0, 3), (0,)), (r(3, 0), (0,))] if empty else [(r(3, 0), (0,))]),
    ]


def one_axis(r: Any) -> list[tuple[Any, ...]]:
    """A tensor and one axis."""
    return [(r(3, 4), (1,)), (r(3, 4), (0,)), (r(2, 90), (1,)), (r(4, 3).t(), (0,))]


def dims(*, empty: bool = True) -> Samples:
    """The forms of a public reduction over dimensions."""
    return lambda r: [
        (r(3, 4),),
        (r(3, 4), 1),
        (r(2, 3, 4), (0, -1), True),
        (r(),),
        (r(4, 3).t(), 0),
        (r(3, 1).expand(3, 4), 1),
        (r(2, 3), {"dim": -1, "keepdim": True}),
        *([(r(0, 3), 0)] if empty else [(r(0, 3), 1)]),
    ]


def one_dim(*, whole: bool = True) -> Samples:
    """The forms of a reduction over one dimension."""
    return lambda r: [
        *([(r(3, 4),)] if whole else []),
        (r(3, 4), 1),
        (r(3, 4), 0, True),
        (r(), 0),
        (r(4, 3).t(), 1),
        (r(0, 3), 1),
    ]


def along(r: Any) -> list[tuple[Any, ...]]:
    """A tensor and a dimension to scan."""
    return [(r(3, 4), 1), (r(3, 4), 0), (r(), 0), (r(0, 2), 0), (r(4, 3).t(), -1), (r(2, 200), 1)]


def sequence(r: Any, *shape: int) -> Any:
    """Ascending values."""
    return r(*shape).sort()[0].detach()


def counts(r: Any, *shape: int) -> Any:
    """Small integers, with repetitions."""
    return r(*shape, dtype=int64, low=0, high=4)


SAMPLES: dict[str, Samples] = {
    "sum_axes": axes(),
    "prod_axes": axes(),
    "max_axes": axes(empty=False),
    "min_axes": axes(empty=False),
    "argmax_axis": one_axis,
    "argmin_axis": one_axis,
    "sum": lambda r: [*dims()(r), (r(3, 4), 1, {"dtype": float64})],
    "mean": dims(empty=False),
    "amax": dims(empty=False),
    "amin": dims(empty=False),
    "argmax": one_dim(),
    "argmin": one_dim(),
    "prod": one_dim(),
    "max": lambda r: [*one_dim()(r), (r(3, 4), r(4))],
    "min": lambda r: [*one_dim()(r), (r(3, 4), r(4))],
    "aminmax": lambda r: [
        (r(3, 4),),
        (r(3, 4), {"dim": 1}),
        (r(3, 4), {"dim": 0, "keepdim": True}),
    ],
    "any": lambda r: [(truths(r, 3, 4),), (truths(r, 3, 4), 1), (r(3, 4), 0, True), (r(0, 2), 0)],
    "all": lambda r: [(truths(r, 3, 4),), (truths(r, 3, 4), 1), (r(3, 4), 0, True), (r(0, 2), 0)],
    "var": lambda r: [*dims(empty=False)(r)[:3], (r(3, 4), 1, {"correction": 0}), (r(4, 3).t(), 0)],
    "std": lambda r: [*dims(empty=False)(r)[:3], (r(3, 4), 1, {"correction": 0}), (r(4, 3).t(), 0)],
    "var_mean": lambda r: [(r(3, 4),), (r(3, 4), 1), (r(2, 3, 4), (0, 2), {"keepdim": True})],
    "std_mean": lambda r: [(r(3, 4),), (r(3, 4), 1), (r(2, 3, 4), (0, 2), {"keepdim": True})],
    "_moments": lambda r: [
        (r(3, 4), (1,), 1, True, False),
        (r(2, 3, 4), (0, 2), 1, False, True),
    ],
    "_extreme_along": lambda r: [(r(3, 4), 1, False, "max"), (r(2, 3, 4), 0, True, "min")],
    "logsumexp": lambda r: [(r(3, 4), 1), (r(2, 3, 4), (0, 2), True), (r(2, 500), 1), (r(), 0)],
    "nansum": lambda r: [(r(3, 4),), (r(3, 4), 1), ((r(3, 4) - 0.2).log(), 1)],
    "nanmean": lambda r: [(r(3, 4),), (r(3, 4), 1)],
    "count_nonzero": lambda r: [(counts(r, 3, 4),), (counts(r, 3, 4), 1), (truths(r, 0, 2), 0)],
    "trace": lambda r: [(r(3, 4),), (r(3, 3).t(),)],
    **dict.fromkeys(
        ("scan_sum", "scan_product", "scan_argmax", "scan_argmin", "scan_logsumexp"),
        lambda r: [(r(3, 4), 1, False), (r(3, 4), 0, True), (r(2, 19, 3), 1, False)],
    ),
    "weighted_scan": lambda r: [
        (r(3, 4), r(3, 4), r(3, 4), 1, False),
        (r(5, 2), r(5, 2), r(5, 2), 0, True),
    ],
    "cumsum": along,
    "cumprod": along,
    "cummax": along,
    "cummin": along,
    "logcumsumexp": along,
    "diff": lambda r: [
        (r(3, 4),),
        (r(5, 2), 2, 0),
        (r(3, 4), 1, -1, r(3, 1), r(3, 2)),
        (truths(r, 5),),
    ],
    "trapezoid": lambda r: [(r(3, 4),), (r(3, 4), r(4)), (r(4, 3), {"dx": 0.3, "dim": 0})],
    "cumulative_trapezoid": lambda r: [(r(3, 4),), (r(3, 4), r(3, 4)), (r(4), {"dx": 0.3})],
    "ranked": lambda r: [
        (r(3, 4), 1, 0, 4, False),
        (counts(r, 9), 0, 0, 9, True),
        (r(2, 90, 2), 1, 0, 7, True),
        (counts(r, 2, 90), 1, 40, 3, False),
    ],
    "middle_along": lambda r: [(r(3, 4), 1, False), (r(3, 5), 0, True), (r(90, 2), 0, False)],
    "sorted_place": lambda r: [(sequence(r, 9), r(3, 4), True)],
    "membership": lambda r: [(counts(r, 3, 4), counts(r, 2), False)],
    "sort": lambda r: [
        (r(3, 4),),
        (r(3, 4), 0, True),
        (r(4, 3).t(), 1),
        (r(),),
        (r(0, 2), 0),
        (counts(r, 30), {"stable": True}),
    ],
    "argsort": lambda r: [(r(3, 4),), (r(3, 4), 0, True), (r(),)],
    "msort": lambda r: [(r(3, 4),), (r(5),)],
    "topk": lambda r: [(r(3, 9), 2), (r(3, 4), 4, -1, False), (r(9, 3), 2, 0), (r(3), 0), (r(), 1)],
    "kthvalue": lambda r: [(r(3, 4), 2), (r(3, 4), 1, 0, True), (r(), 1)],
    "median": one_dim(),
    "nanmedian": lambda r: [*one_dim()(r), ((r(3, 4) - 0.2).log(), 1)],
    "mode": lambda r: [(counts(r, 3, 9),), (counts(r, 9, 3), 0, True), (r(),)],
    "unique": lambda r: [
        (counts(r, 3, 5),),
        (counts(r, 9), {"return_inverse": True, "return_counts": True}),
        (counts(r, 5, 1), {"dim": 0, "return_inverse": True}),
    ],
    "unique_consecutive": lambda r: [
        (counts(r, 9),),
        (counts(r, 9), {"return_inverse": True, "return_counts": True}),
        (counts(r, 5, 1), {"dim": 0}),
    ],
    "nonzero": lambda r: [(counts(r, 3, 4),), (truths(r, 5), {"as_tuple": True}), (r(0, 2),)],
    "argwhere": lambda r: [(counts(r, 3, 4),)],
    "masked_select": lambda r: [(r(3, 4), truths(r, 3, 4)), (r(4), truths(r, 3, 1))],
    "masked_scatter": lambda r: [(r(3, 4), truths(r, 3, 4), r(12)), (r(3, 4), truths(r, 4), r(15))],
    "searchsorted": lambda r: [
        (sequence(r, 9), r(3, 4)),
        (sequence(r, 3, 9), r(3, 4), {"right": True}),
        (sequence(r, 9), 0.25, {"out_int32": True}),
    ],
    "bucketize": lambda r: [(r(3, 4), sequence(r, 5)), (0.25, sequence(r, 5), {"right": True})],
    "isin": lambda r: [(counts(r, 3, 4), counts(r, 2)), (counts(r, 5), 2, {"invert": True})],
    "quantile": lambda r: [
        (r(3, 4), 0.3),
        (r(3, 7), 0.5, 1),
        (r(3, 4), 0.2, 0, True, {"interpolation": "nearest"}),
        (r(3, 4), r(3, low=0, high=1).detach(), 1),
    ],
    "nanquantile": lambda r: [(r(3, 4), 0.3), ((r(3, 5) - 0.1).log(), 0.5, 1)],
    "cov": lambda r: [(r(3, 6),), (r(6),), (r(3, 6), {"correction": 0})],
    "corrcoef": lambda r: [(r(3, 6),)],
    "bincount": lambda r: [(counts(r, 9),), (counts(r, 9), {"minlength": 7}), (counts(r, 0),)],
    "count_between": lambda r: [(r(9), None, sequence(r, 4))],
    "histc": lambda r: [(r(30).detach(), 5), (r(30).detach(), 4, -0.5, 0.5)],
    "histogram": lambda r: [(r(30).detach(), 5), (r(30).detach(), sequence(r, 4))],
    "cdist": lambda r: [(r(3, 4), r(5, 4)), (r(2, 3, 4), r(2, 5, 4), 1.0), (r(3, 4), r(5, 4), 3.0)],
}
for _name, _samples in SAMPLES.items():
    ROWS[_name].samples = _samples
