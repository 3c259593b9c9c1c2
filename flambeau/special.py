"""Special functions: what the table of operations publishes as `special`."""

from typing import Any

from flambeau.ops.rows import SPACES

globals().update(SPACES["special"])

__all__ = [*SPACES["special"]]


def __getattr__(name: str) -> Any:
    """Names that are not there.

    Raises:
        AttributeError: always, naming the function.
    """
    raise AttributeError(f"module 'flambeau.special' has no attribute '{name}'")
