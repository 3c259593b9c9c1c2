"""``torch.cuda.amp``: the older names of ``torch.amp``, for CUDA alone."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import flambeau
from flambeau import amp


def _deprecated(device_type: str, name: str) -> None:
    warnings.warn(
        f"`torch.{device_type}.amp.{name}(args...)` is deprecated. Please use "
        f"`torch.amp.{name}('{device_type}', args...)` instead.",
        FutureWarning,
        stacklevel=3,
    )


class autocast(amp.autocast):
    """``torch.amp.autocast("cuda", ...)``."""

    def __init__(
        self, enabled: bool = True, dtype: Any = flambeau.float16, cache_enabled: bool = True
    ) -> None:
        _deprecated("cuda", "autocast")
        super().__init__("cuda", dtype, enabled, cache_enabled)


class GradScaler(amp.GradScaler):
    """``torch.amp.GradScaler("cuda", ...)``."""

    def __init__(self, *options: Any, **others: Any) -> None:
        _deprecated("cuda", "GradScaler")
        super().__init__("cuda", *options, **others)


custom_fwd = functools.partial(amp.custom_fwd, device_type="cuda")
custom_bwd = functools.partial(amp.custom_bwd, device_type="cuda")


def amp_definitely_not_available() -> bool:
    """True: there is no CUDA."""
    return True
