"""Finding the forward call whose gradient failed or is not a number."""

from __future__ import annotations

from typing import Any

from flambeau.autograd.modes import _Mode
from flambeau.tape import modes


class detect_anomaly(_Mode):
    """Inside, every tape entry remembers the call that made it, and a backward pass that makes NaN
    raises; errors of a backward pass name that call.

    Args:
        check_nan: whether gradients are looked at (which executes the pass entry by entry).
    """

    def __init__(self, check_nan: bool = True) -> None:
        self.check_nan = check_nan

    def _fresh(self) -> detect_anomaly:
        return detect_anomaly(self.check_nan)

    def __enter__(self) -> None:
        self._was = modes.anomaly, modes.check_nan
        modes.anomaly, modes.check_nan = True, self.check_nan

    def __exit__(self, *exc: object) -> None:
        modes.anomaly, modes.check_nan = self._was


class set_detect_anomaly(detect_anomaly):
    """Switch anomaly detection on or off at once, and back at the end of a `with`."""

    def __init__(self, mode: bool, check_nan: bool = True) -> None:
        super().__init__(check_nan)
        self._was = modes.anomaly, modes.check_nan
        modes.anomaly, modes.check_nan = bool(mode), check_nan

    def __enter__(self) -> None:
        """Nothing more: it was set when this was made."""


def is_anomaly_enabled() -> bool:
    """Whether tape entries remember the calls that made them."""
    return modes.anomaly


def is_anomaly_check_nan_enabled() -> bool:
    """Whether backward passes look for NaN."""
    return modes.check_nan


def set_anomaly_enabled(mode: bool, check_nan: bool = True) -> None:
    """Switch anomaly detection on or off."""
    modes.anomaly, modes.check_nan = bool(mode), check_nan


__all__: list[Any] = [
    "detect_anomaly",
    "is_anomaly_check_nan_enabled",
    "is_anomaly_enabled",
    "set_anomaly_enabled",
    "set_detect_anomaly",
]
