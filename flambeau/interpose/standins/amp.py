"""``torch.amp`` where mixed precision is switched off, which is all there is of it so far."""

from __future__ import annotations

import contextlib
import warnings
from typing import Any

import flambeau


class autocast(contextlib.ContextDecorator):
    """Mixed precision for a block of code.

    Args:
        device_type: ``"cpu"`` or the type of an accelerator.
        dtype: of the products.
        enabled: whether to do anything.
        cache_enabled: has no meaning here.

    Raises:
        NotImplementedError: it is enabled for a device that is there.
    """

    def __init__(
        self,
        device_type: str,
        dtype: Any = None,
        enabled: bool = True,
        cache_enabled: bool | None = None,
    ) -> None:
        self.device_type, self.dtype = flambeau.device(device_type).type, dtype
        if enabled and self.device_type != "cpu":
            warnings.warn(
                f"User provided device_type of {device_type!r}, but it is not available. Disabling",
                stacklevel=2,
            )
        elif enabled and dtype is not flambeau.float32:
            raise NotImplementedError(
                "torch.autocast on the CPU is not in flambeau yet; use enabled=False, or give the "
                "model a dtype with model.to(torch.bfloat16)"
            )

    def __enter__(self) -> autocast:
        return self

    def __exit__(self, *error: object) -> None:
        pass


class GradScaler:
    """Loss scaling, switched off: every method passes through.

    Args:
        device: ``"cuda"`` or ``"cpu"``.
        enabled: whether to scale; on a device that is not there it is switched off.

    Raises:
        NotImplementedError: it is enabled for the CPU.
    """

    def __init__(self, device: str = "cuda", *options: Any, enabled: bool = True, **_: Any) -> None:
        if enabled and flambeau.device(device).type == "cpu":
            raise NotImplementedError("torch.amp.GradScaler on the CPU is not in flambeau yet")
        if enabled:
            warnings.warn(
                "torch.amp.GradScaler is enabled, but CUDA is not available.  Disabling.",
                stacklevel=2,
            )

    def scale(self, outputs: Any) -> Any:
        """The outputs."""
        return outputs

    def unscale_(self, optimizer: Any) -> None:
        """Nothing."""

    def step(self, optimizer: Any, *args: Any, **options: Any) -> Any:
        """``optimizer.step()``."""
        return optimizer.step(*args, **options)

    def update(self, new_scale: Any = None) -> None:
        """Nothing."""

    def get_scale(self) -> float:
        """1."""
        return 1.0

    def is_enabled(self) -> bool:
        """False."""
        return False

    def state_dict(self) -> dict[str, Any]:
        """Nothing to keep."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing to restore."""


def is_autocast_available(device_type: str) -> bool:
    """False."""
    return False
