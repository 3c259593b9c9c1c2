"""Linear algebra: what the table of operations publishes as `linalg`."""

from typing import Any

from flambeau.ops.factorization import LinAlgError
from flambeau.ops.rows import SPACES

globals().update(SPACES["linalg"])

__all__ = ["LinAlgError", *SPACES["linalg"]]


def __getattr__(name: str) -> Any:
    """Names that are not there.

    Raises:
        AttributeError: always, naming the function.
    """
    raise AttributeError(f"module 'flambeau.linalg' has no attribute '{name}'")
