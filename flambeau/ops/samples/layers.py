"""Samples of `ops/normalization.py`, `ops/linear.py`, `ops/attention.py` and `ops/flex.py`."""

from __future__ import annotations

from typing import Any

from flambeau import dtypes
from flambeau.ops.attention import score_dtype
from flambeau.ops.flex import How
from flambeau.ops.mods import trace
from flambeau.ops.rows import NAMES, ROWS
from flambeau.ops.samples.arithmetic import Samples, truths, unary, with_numbers
from flambeau.ops.samples.loss import classes


def triple(r: Any, *batch: int, queries: int = 4, keys: int = 6) -> tuple[Any, Any, Any]:
    """Query, key and value."""
    return (r(*batch, queries, 5), r(*batch, keys, 5), r(*batch, keys, 3))


def with_mods(r: Any, score: Any, mask: Any = None) -> tuple[Any, ...]:
    """Attention with a score_mod of a captured tensor of three numbers, and a mask_mod."""
    q, k, v = triple(r, 1, 2)
    wide = score_dtype(q.dtype)
    table = r(3, low=0.5, high=1.5)
    of_score, captured = trace(score(table), wide, True)
    of_mask = None if mask is None else trace(mask, wide, False)[0]
    return (q, k, v, How(0.5, score=of_score, mask=of_mask), *captured)


def ends(*places: int) -> Any:
    """Where groups end."""
    return NAMES["tensor"](places, dtype=dtypes.int32)


SAMPLES: dict[str, Samples] = {
    "matmul_grouped": lambda r: [
        (r(7, 3), r(3, 3, 4), ends(2, 2, 6)),
        (r(2, 5, 3), r(3, 7), ends(3, 7)),
        (r(4, 6), r(6, 5), ends(1, 4, 6)),
    ],
    "grouped_mm": lambda r: [
        (r(7, 4), r(3, 4, 8), {"offs": ends(2, 2, 7)}),
        (r(3, 2, 4), r(3, 4, 8)),
        (r(4, 7).t(), r(2, 8, 4).mT, {"offs": ends(0, 7)}),
    ],
    "_native_layer_norm": lambda r: [
        (r(3, 4), (4,), r(4), r(4), 1e-5),
        (r(2, 3, 4), (3, 4), None, None, 1e-5),
    ],
    "native_layer_norm": lambda r: [(r(3, 4), (4,), r(4), r(4), 1e-5)],
    "layer_norm": lambda r: [
        (r(3, 4), (4,)),
        (r(3, 4), (4,), r(4), r(4)),
        (r(2, 3, 4), (3, 4), r(3, 4)),
        (r(4, 3).t(), (4,)),
        (r(0, 4), (4,), r(4), r(4)),
        (r(2, 300), (300,), r(300), r(300)),
    ],
    "_fused_rms_norm": lambda r: [(r(3, 4), (4,), r(4), 1e-5)],
    "rms_norm": lambda r: [
        (r(3, 4), (4,)),
        (r(3, 4), (4,), r(4)),
        (r(2, 3, 4), (3, 4)),
        (r(2, 300), (300,), r(300), 1e-3),
    ],
    "group_norm": lambda r: [(r(2, 4, 3), 2), (r(2, 4, 3, 2), 4, r(4), r(4)), (r(3, 4), 1)],
    "instance_norm": lambda r: [(r(2, 4, 3),), (r(2, 4, 3, 2), {"weight": r(4), "bias": r(4)})],
    "_native_batch_norm": lambda r: [
        (r(5, 4), r(4), r(4), 1e-5),
        (r(2, 3, 4), None, None, 1e-5),
        (r(2, 3, 4, 5), r(3), None, 1e-5),
        (r(4, 3, 2).permute(2, 0, 1), None, r(4), 1e-5),
    ],
    "_native_group_norm": lambda r: [
        (r(2, 4, 3), 2, r(4), r(4), 1e-5),
        (r(2, 6), 3, None, None, 1e-5),
        (r(1, 3, 2, 3), 3, r(3), None, 1e-5),
    ],
    "batch_norm": lambda r: [
        (r(5, 4), None, None, r(4), r(4), True),
        (r(2, 4, 3), None, None, None, None, True),
        (r(2, 4), r(4).detach(), r(4, low=0.5, high=2).detach(), r(4)),
    ],
    "local_response_norm": lambda r: [(r(2, 5, 3), 3), (r(2, 4, 3, 2), 2, 0.1, 0.5, 2.0)],
    "normalize_rows": lambda r: [(r(3, 4), 2.0, 1, 1e-12)],
    "linear": lambda r: [
        (r(3, 4), r(5, 4), r(5)),
        (r(2, 3, 4), r(5, 4)),
        (r(4), r(5, 4), r(5)),
        (r(3, 4), r(4)),
        (r(0, 4), r(5, 4), r(5)),
        (r(4, 3).t(), r(5, 4)),
        (r(33, 65), r(40, 65), r(40)),
    ],
    "bilinear": lambda r: [
        (r(3, 4), r(3, 5), r(2, 4, 5), r(2)),
        (r(2, 3, 4), r(2, 3, 5), r(2, 4, 5)),
    ],
    "_embedding_sparse": lambda r: [
        (r(5, 4), classes(r, 2, 3, count=5), -1),
        (r(5, 4), classes(r, 7, count=5), 2),
    ],
    "_embedding": lambda r: [
        (r(5, 4), classes(r, 2, 3, count=5), -1),
        (r(5, 4), classes(r, 7, count=5), 2),
    ],
    "embedding": lambda r: [
        (classes(r, 2, 3, count=5), r(5, 4)),
        (classes(r, count=5), r(5, 4)),
        (classes(r, 7, count=5), r(5, 4), 2),
    ],
    "embedding_bag": lambda r: [
        (classes(r, 2, 3, count=5), r(5, 4)),
        (
            classes(r, 7, count=5),
            r(5, 4),
            classes(r, 3, count=1),
            {"mode": "sum"},
        ),
        (classes(r, 2, 3, count=5), r(5, 4), {"mode": "max", "padding_idx": 2}),
        (
            classes(r, 2, 3, count=5),
            r(5, 4),
            {"mode": "sum", "per_sample_weights": r(2, 3), "padding_idx": 1},
        ),
    ],
    "_scaled_gradient": lambda r: [(r(3, 4), r(3, 1, low=1, high=2).detach())],
    "one_hot": lambda r: [(classes(r, 2, 3, count=5), 5), (classes(r, 4, count=3),)],
    "native_dropout_masked": lambda r: [
        (r(3, 4), truths(r, 3, 4), 2.5),
        (r(3, 4), truths(r, 3, 1), 2.5),
    ],
    "dropout": with_numbers(unary(), 0.5, False),
    "feature_dropout": lambda r: [(r(3, 4, 2), 0.5, False)],
    "alpha_dropout": with_numbers(unary(), 0.5, False),
    "feature_alpha_dropout": lambda r: [(r(3, 4, 2), 0.5, False)],
    "cosine_similarity": lambda r: [(r(3, 4), r(3, 4)), (r(2, 3, 4), r(4), -1)],
    "pairwise_distance": lambda r: [(r(3, 4), r(3, 4)), (r(3, 4), r(4), 1.0)],
    "_attention": lambda r: [
        (*triple(r, 1, 2), How(0.5, causal=True)),
        (*triple(r, 2, 1), How(0.5)),
        (r(1, 4, 4, 5), r(1, 2, 6, 5), r(1, 2, 6, 3), How(-0.5)),
        with_mods(r, lambda t: lambda s, b, h, q, k: s * t[h] + t[b + 1] * (q - k)),
        with_mods(r, lambda t: lambda s, b, h, q, k: (s * t[h]).tanh(), lambda b, h, q, k: q >= k),
    ],
    "scaled_dot_product_attention": lambda r: [
        triple(r, 2, 3),
        (*triple(r, 2, 3), {"is_causal": True}),
        (*triple(r, 2, 3), truths(r, 4, 6)),
        (*triple(r, 2, 3), r(2, 1, 4, 6)),
        triple(r),
        (r(2, 6, 4, 5), r(2, 3, 6, 5), r(2, 3, 6, 3), {"enable_gqa": True}),
        (r(2, 0, 5), r(2, 6, 5), r(2, 6, 3)),
        (r(2, 4, 5), r(2, 0, 5), r(2, 0, 3)),
    ],
}
for _name, _samples in SAMPLES.items():
    ROWS[_name].samples = _samples
#: its derivative is another function's on purpose
ROWS["_scaled_gradient"].gradcheck = False
