"""Mixed precision: `autocast`, which chooses dtypes by operation, and `GradScaler`.

Example:
    >>> import flambeau
    >>> x = flambeau.ones(4, 4)
    >>> with flambeau.autocast("cpu", dtype=flambeau.bfloat16):
    ...     y = x @ x
    >>> y.dtype
    flambeau.bfloat16
"""

from flambeau.amp.autocast_mode import autocast, custom_bwd, custom_fwd, is_autocast_available
from flambeau.amp.grad_scaler import GradScaler

__all__ = ["GradScaler", "autocast", "custom_bwd", "custom_fwd", "is_autocast_available"]
