"""``torch.autograd``: the name that tensors with gradients had before torch 0.4."""

from __future__ import annotations

from typing import Any

import flambeau


class _VariableType(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, flambeau.Tensor)


class Variable(metaclass=_VariableType):
    """``Variable(tensor)`` is the tensor; every tensor is an instance.

    Args:
        data: a tensor.
        requires_grad: whether to record what is done with it.
    """

    def __new__(cls, data: Any, requires_grad: bool = False) -> Any:
        return data.requires_grad_() if requires_grad else data
