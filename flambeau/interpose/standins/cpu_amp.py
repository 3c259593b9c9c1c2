"""``torch.cpu.amp``: the older names of ``torch.amp``, for the CPU alone."""

from __future__ import annotations

from typing import Any

import flambeau
from flambeau import amp
from flambeau.interpose.standins.cuda_amp import _deprecated


class autocast(amp.autocast):
    """``torch.amp.autocast("cpu", ...)``."""

    def __init__(
        self, enabled: bool = True, dtype: Any = flambeau.bfloat16, cache_enabled: bool = True
    ) -> None:
        _deprecated("cpu", "autocast")
        super().__init__("cpu", dtype, enabled, cache_enabled)


class GradScaler(amp.GradScaler):
    """``torch.amp.GradScaler("cpu", ...)``."""

    def __init__(self, *options: Any, **others: Any) -> None:
        _deprecated("cpu", "GradScaler")
        super().__init__("cpu", *options, **others)
