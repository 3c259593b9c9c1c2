"""Discrete Fourier transforms: what the table of operations publishes as `fft`."""

from typing import Any

from flambeau.ops.rows import SPACES

globals().update(SPACES["fft"])

__all__ = [*SPACES["fft"]]


def __getattr__(name: str) -> Any:
    """Names that are not there.

    Raises:
        AttributeError: always, naming the function.
    """
    raise AttributeError(f"module 'flambeau.fft' has no attribute '{name}'")
