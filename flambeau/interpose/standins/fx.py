"""``torch.fx``: what libraries say for tracing, which they do not start by themselves."""

from __future__ import annotations

from typing import Any


def wrap(fn_or_name: Any) -> Any:
    """The function or name itself; a tracer would leave calls of it whole."""
    return fn_or_name
