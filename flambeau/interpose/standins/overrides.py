"""``torch.overrides``: types of one's own among tensors; subclasses of tensors, and no others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import flambeau


def has_torch_function(relevant_args: Iterable[Any]) -> bool:
    """False: calls go to no ``__torch_function__``."""
    return False


def has_torch_function_unary(relevant_arg: Any) -> bool:
    """False: calls go to no ``__torch_function__``."""
    return False


has_torch_function_variadic = has_torch_function_unary


def is_tensor_like(inp: Any) -> bool:
    """Whether this is a tensor, or says it is like one by ``__torch_function__``."""
    return isinstance(inp, flambeau.Tensor) or hasattr(inp, "__torch_function__")
