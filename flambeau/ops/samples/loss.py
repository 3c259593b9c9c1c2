"""Samples of `ops/loss.py` and `ops/loss_elementwise.py`."""

from __future__ import annotations

from typing import Any

from flambeau.dtype import get_default_dtype, int64
from flambeau.ops.rows import ROWS
from flambeau.ops.samples.arithmetic import Samples, binary


def classes(r: Any, *shape: int, count: int) -> Any:
    """Class indices."""
    return r(*shape, dtype=int64, low=0, high=count)


def signs(r: Any, *shape: int) -> Any:
    """1 and -1, floating, without gradient."""
    return (classes(r, *shape, count=2) * 2 - 1).to(get_default_dtype())


def by_class(r: Any) -> list[tuple[Any, ...]]:
    """Scores, classes and options."""
    return [
        (r(3, 5), classes(r, 3, count=5)),
        (r(5), classes(r, count=5)),
        (r(2, 4, 3), classes(r, 2, 3, count=4), {"reduction": "sum"}),
        (r(2, 4, 3, 2), classes(r, 2, 3, 2, count=4), {"reduction": "none"}),
        (r(6, 5), classes(r, 6, count=5), {"ignore_index": 2}),
        (r(6, 5), classes(r, 6, count=5), {"weight": r(5, low=0.1, high=1.0).detach()}),
    ]


def reductions(samples: Samples) -> Samples:
    """The samples, and the first of them with each reduction."""

    def given(r: Any) -> list[tuple[Any, ...]]:
        return [*samples(r), *((*samples(r)[0], {"reduction": how}) for how in ("sum", "none"))]

    return given


def pair(r: Any) -> list[tuple[Any, ...]]:
    """Two tensors of one shape."""
    return [(r(3, 4), r(3, 4)), (r(), r()), (r(4, 3).t(), r(3, 4))]


def probabilities(r: Any) -> list[tuple[Any, ...]]:
    """Two tensors of probabilities."""
    return [
        (r(3, 4, low=0.1, high=0.9), r(3, 4, low=0.1, high=0.9)),
        (r(low=0.1, high=0.9), r(low=0.1, high=0.9)),
    ]


SAMPLES: dict[str, Samples] = {
    "_cross_entropy": lambda r: [
        (r(3, 5), classes(r, 3, count=5), -100, "mean"),
        (r(2, 4, 3), classes(r, 2, 3, count=4), 1, "none"),
    ],
    "cross_entropy": lambda r: [
        *by_class(r),
        (r(3, 5), classes(r, 3, count=5), {"label_smoothing": 0.1}),
        (r(3, 5), r(3, 5, low=0.0, high=1.0)),
        (r(40, 300), classes(r, 40, count=300)),
    ],
    "nll_loss": by_class,
    "mse_loss": reductions(pair),
    "l1_loss": reductions(pair),
    "_distance": lambda r: [
        (r(3, 4), r(3, 4), None, "square", 1.0, "mean"),
        (r(3, 4), r(3, 4), r(3, 4), "huber", 0.7, "mean"),
        (r(3, 4), r(4), None, "smooth", 0.7, "none"),
    ],
    "smooth_absolute": lambda r: [(r(3, 4), 0.7, 1.3)],
    "smooth_l1_loss": lambda r: [*reductions(pair)(r), (r(3, 4), r(3, 4), {"beta": 0.3})],
    "huber_loss": lambda r: [*reductions(pair)(r), (r(3, 4), r(3, 4), {"delta": 0.3})],
    "bernoulli_nll": probabilities,
    "binary_cross_entropy": reductions(probabilities),
    "logit_nll": binary(),
    "binary_cross_entropy_with_logits": lambda r: [
        *reductions(pair)(r),
        (r(3, 4), r(3, 4), {"pos_weight": r(4, low=0.5, high=2).detach()}),
    ],
    "kl_div": lambda r: (
        [
            (r(3, 4), r(3, 4, low=0.1, high=1.0), {"reduction": how})
            for how in ("batchmean", "sum", "none")
        ]
        + [(r(3, 4), r(3, 4), {"reduction": "sum", "log_target": True})]
    ),
    "poisson_nll_loss": lambda r: [
        (r(3, 4), r(3, 4, low=0.0, high=4.0).detach()),
        (r(3, 4, low=0.5, high=2.0), r(3, 4, low=0.0, high=4.0).detach(), False, True),
    ],
    "hinge_embedding_loss": lambda r: [(r(3, 4), signs(r, 3, 4))],
    "margin_ranking_loss": lambda r: [(r(3, 4), r(3, 4), signs(r, 3, 4), 0.2)],
    "cosine_embedding_loss": lambda r: [(r(3, 4), r(3, 4), signs(r, 3)), (r(4), r(4), signs(r))],
    "triplet_margin_loss": lambda r: [
        (r(3, 4), r(3, 4), r(3, 4)),
        (r(3, 4), r(3, 4), r(3, 4), {"swap": True}),
    ],
    "soft_margin_loss": lambda r: [(r(3, 4), signs(r, 3, 4))],
    "multi_margin_loss": lambda r: [
        (r(3, 5), classes(r, 3, count=5)),
        (r(5), classes(r, count=5), 2),
    ],
    "multilabel_margin_loss": lambda r: [(r(3, 4), classes(r, 3, 4, count=5) - 1)],
}
for _name, _samples in SAMPLES.items():
    ROWS[_name].samples = _samples
