"""The dtypes that parallel forms of a module compute in."""

from __future__ import annotations

from typing import Any

from flambeau import Tensor, pytree


def cast(values: Any, dtype: Any) -> Any:
    """Floating-point tensors, alone or in a tree, in another dtype (None: their own); all else as
    it is."""

    def one(value: Any) -> Any:
        if isinstance(value, Tensor) and value.is_floating_point():
            return value.to(dtype)
        return value

    return values if dtype is None else pytree.tree_map(one, values)


__all__ = ["cast"]
