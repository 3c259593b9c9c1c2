"""Rows that are public in one module of the package, such as `linalg`, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flambeau.ops.table import composite


def only_in(name: str, **options: Any) -> Callable[[Any], Any]:
    """Declare a composite that is public under a name such as "linalg.svd".

    Args:
        options: as of `composite`; `out=` and float32 under autocast unless they say otherwise.
    """
    options = {"out": True, "autocast": "float32", **options}
    return composite(public=False, method=False, aliases=(name,), **options)
