"""``torch.cuda.amp``: the older names of ``torch.amp``, for CUDA alone."""

from __future__ import annotations

from typing import Any

from flambeau.interpose.standins import amp


class autocast(amp.autocast):
    """``torch.amp.autocast("cuda", ...)``."""

    def __init__(self, enabled: bool = True, dtype: Any = None, cache_enabled: bool = True) -> None:
        super().__init__("cuda", dtype=dtype, enabled=enabled)


class GradScaler(amp.GradScaler):
    """``torch.amp.GradScaler("cuda", ...)``."""

    def __init__(self, *options: Any, enabled: bool = True, **others: Any) -> None:
        super().__init__("cuda", enabled=enabled)
