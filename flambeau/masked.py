"""What a mask keeps, reduced and normalized: what the table of operations publishes as `masked`."""

from typing import Any

from flambeau.ops.rows import SPACES

globals().update(SPACES["masked"])

__all__ = [*SPACES["masked"]]


def __getattr__(name: str) -> Any:
    """Names that are not there.

    Raises:
        AttributeError: always, naming the function.
    """
    raise AttributeError(f"module 'flambeau.masked' has no attribute '{name}'")
