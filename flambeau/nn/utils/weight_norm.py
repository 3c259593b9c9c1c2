"""Weight normalisation by a hook that computes the weight before each call."""

from __future__ import annotations

import warnings
from typing import Any

from flambeau.nn.module import Module
from flambeau.nn.parameter import Parameter
from flambeau.nn.utils.parametrizations import norm_except


class WeightNorm:
    """The hook of `weight_norm`: sets ``name = name_g * name_v / |name_v|``.

    Args:
        name: of the weight.
        dim: along which norms are apart; -1: one norm for all.
    """

    def __init__(self, name: str, dim: int | None) -> None:
        self.name = name
        self.dim = -1 if dim is None else dim

    def compute_weight(self, module: Module) -> Any:
        """The weight of its norm and direction."""
        g, v = getattr(module, self.name + "_g"), getattr(module, self.name + "_v")
        return v * (g / norm_except(v, self.dim))

    @staticmethod
    def apply(module: Module, name: str, dim: int | None) -> WeightNorm:
        """Put the hook on a module."""
        if any(
            isinstance(hook, WeightNorm) and hook.name == name
            for hook in module._forward_pre_hooks.values()
        ):
            raise RuntimeError(
                f"Cannot register two weight_norm hooks on the same parameter {name}"
            )
        hook = WeightNorm(name, dim)
        weight = getattr(module, name)
        del module._parameters[name]
        norm = norm_except(weight.detach(), hook.dim)
        module.register_parameter(name + "_g", Parameter(norm))
        module.register_parameter(name + "_v", Parameter(weight.detach()))
        setattr(module, name, hook.compute_weight(module))
        module.register_forward_pre_hook(hook)
        return hook

    def remove(self, module: Module) -> None:
        """Make the weight a parameter again."""
        weight = self.compute_weight(module)
        delattr(module, self.name)
        del module._parameters[self.name + "_g"]
        del module._parameters[self.name + "_v"]
        setattr(module, self.name, Parameter(weight.detach()))

    def __call__(self, module: Module, inputs: Any) -> None:
        setattr(module, self.name, self.compute_weight(module))


def weight_norm(module: Any, name: str = "weight", dim: int | None = 0) -> Any:
    """Have a weight computed from `name_g`, its norm, and `name_v`, its direction.

    The newer form is `nn.utils.parametrizations.weight_norm`.

    Args:
        module: with the weight; it is changed.
        name: of the weight.
        dim: along which norms are apart; None: one norm for all.

    Returns:
        The module.

    Raises:
        RuntimeError: it has the hook already.

    Reference:
        Salimans and Kingma, Weight Normalization (arXiv:1602.07868).
    """
    warnings.warn(
        "`torch.nn.utils.weight_norm` is deprecated in favor of"
        " `torch.nn.utils.parametrizations.weight_norm`.",
        FutureWarning,
        stacklevel=2,
    )
    WeightNorm.apply(module, name, dim)
    return module


def remove_hook(module: Any, kind: Any, name: str, what: str) -> None:
    """Take a hook that computes the weight `name` off a module again.

    Raises:
        ValueError: it has none.
    """
    for key, hook in module._forward_pre_hooks.items():
        if isinstance(hook, kind) and hook.name == name:
            hook.remove(module)
            del module._forward_pre_hooks[key]
            return
    raise ValueError(f"{what} of '{name}' not found in {module}")


def remove_weight_norm(module: Any, name: str = "weight") -> Any:
    """Take `weight_norm` off again; the weight keeps its value.

    Returns:
        The module.

    Raises:
        ValueError: it has no such hook.
    """
    remove_hook(module, WeightNorm, name, "weight_norm")
    return module
