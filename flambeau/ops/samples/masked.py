"""Samples of `ops/masked.py` and `ops/windows.py`."""

from __future__ import annotations

from typing import Any

from flambeau import dtypes
from flambeau.ops.rows import ROWS
from flambeau.ops.samples.arithmetic import Samples


def mask(r: Any, *shape: int) -> Any:
    """A mask that keeps something everywhere."""
    found = r(*shape, dtype=dtypes.bool)
    found[..., 0] = True
    return found


def over_dims(*more: Any) -> Samples:
    """With and without masks, over dimensions and as a whole."""
    return lambda r: [
        (r(3, 4), *more, {"mask": mask(r, 3, 4)}),
        (r(3, 4), *more, 1, {"mask": mask(r, 4), "keepdim": True}),
        (r(2, 3), *more),
    ]


def along(*more: Any) -> Samples:
    """Along one dimension."""
    return lambda r: [(r(3, 4), *more, 1, {"mask": mask(r, 3, 4)}), (r(2, 3), *more, 0)]


def lengths() -> Samples:
    """Windows of some lengths; r draws nothing."""
    return lambda r: [(7,), (8, {"sym": False}), (1,), (0,)]


SAMPLES: dict[str, Samples] = {
    "masked_sum": over_dims(),
    "masked_prod": over_dims(),
    "masked_amax": over_dims(),
    "masked_amin": over_dims(),
    "masked_argmax": over_dims(),
    "masked_argmin": over_dims(),
    "masked_mean": over_dims(),
    "masked_median": along(),
    "masked_norm": over_dims(2.0),
    "masked_var": over_dims(),
    "masked_std": over_dims(),
    "masked_logsumexp": over_dims(),
    "masked_logaddexp": lambda r: [(r(3, 4), r(3, 4), {"input_mask": mask(r, 3, 4)})],
    **{f"masked_{name}": along() for name in ("cumsum", "cumprod", "softmax")},
    "masked_log_softmax": lambda r: [(r(3, 4), 1), (r(2, 3), 0)],  # -inf where there is a mask
    "masked_softmin": along(),
    "masked_normalize": along(2.0),
    **{name: lengths() for name in ROWS if name.startswith("signal_windows_")},
    "signal_windows_general_cosine": lambda r: [(6, {"a": [0.4, 0.3, 0.3]})],
    **{
        f"{name}_window": lambda r: [(7,), (8, False), (1,)]
        for name in ("hann", "hamming", "blackman", "bartlett", "kaiser")
    },
}
for _name, _samples in SAMPLES.items():
    ROWS[_name].samples = _samples
