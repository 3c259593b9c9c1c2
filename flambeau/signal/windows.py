"""Window functions: what the table of operations publishes as `signal.windows`."""

from typing import Any

from flambeau.ops.rows import SPACES

globals().update(SPACES["signal.windows"])

__all__ = [*SPACES["signal.windows"]]


def __getattr__(name: str) -> Any:
    """Names that are not there.

    Raises:
        AttributeError: always, naming the function.
    """
    raise AttributeError(f"module 'flambeau.signal.windows' has no attribute '{name}'")
