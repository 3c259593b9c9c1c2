"""Spectral normalisation by a hook that computes the weight before each call."""

from __future__ import annotations

from typing import Any

import flambeau
from flambeau.nn.functional import normalize
from flambeau.nn.module import Module
from flambeau.nn.parameter import Parameter
from flambeau.nn.utils.parametrizations import PowerIteration, as_matrix
from flambeau.nn.utils.weight_norm import remove_hook


class SpectralNorm:
    """The hook of `spectral_norm`: sets ``name = name_orig / sigma``.

    Args:
        name: of the weight.
        n_power_iterations: steps of the estimate of sigma at each use in training.
        dim: the outputs' dimension.
        eps: least length of the estimate's vectors.
    """

    _version = 1

    def __init__(
        self, name: str = "weight", n_power_iterations: int = 1, dim: int = 0, eps: float = 1e-12
    ) -> None:
        if n_power_iterations <= 0:
            raise ValueError(
                "Expected n_power_iterations to be positive, but got n_power_iterations="
                f"{n_power_iterations}"
            )
        self.name, self.dim = name, dim
        self.n_power_iterations, self.eps = n_power_iterations, eps

    def compute_weight(self, module: Module, do_power_iteration: bool) -> Any:
        """The weight over its norm."""
        weight = getattr(module, self.name + "_orig")
        u, v = getattr(module, self.name + "_u"), getattr(module, self.name + "_v")
        matrix = as_matrix(weight, self.dim)
        if do_power_iteration:
            PowerIteration(self.n_power_iterations, self.eps).improve(matrix, u, v)
            u, v = u.clone(), v.clone()
        return weight / (u @ (matrix @ v))

    @staticmethod
    def apply(
        module: Module, name: str, n_power_iterations: int, dim: int, eps: float
    ) -> SpectralNorm:
        """Put the hook on a module."""
        if any(
            isinstance(hook, SpectralNorm) and hook.name == name
            for hook in module._forward_pre_hooks.values()
        ):
            raise RuntimeError(
                f"Cannot register two spectral_norm hooks on the same parameter {name}"
            )
        hook = SpectralNorm(name, n_power_iterations, dim, eps)
        weight = module._parameters[name]
        if weight is None:
            raise ValueError(f"`SpectralNorm` cannot be applied as parameter `{name}` is None")
        rows, columns = as_matrix(weight.detach(), dim).shape
        with flambeau.no_grad():
            u, v = (
                normalize(flambeau.randn(n, dtype=weight.dtype, device=weight.device), dim=0)
                for n in (rows, columns)
            )
        del module._parameters[name]
        module.register_parameter(name + "_orig", weight)
        setattr(module, name, weight.detach())  # a plain attribute, not a parameter
        module.register_buffer(name + "_u", u)
        module.register_buffer(name + "_v", v)
        module.register_forward_pre_hook(hook)
        module._register_state_dict_hook(hook._note_version)
        return hook

    def _note_version(self, module: Module, state: Any, prefix: str, metadata: Any) -> None:
        versions = metadata.setdefault("spectral_norm", {})
        versions[self.name + ".version"] = self._version

    def remove(self, module: Module) -> None:
        """Make the weight a parameter again."""
        with flambeau.no_grad():
            weight = self.compute_weight(module, do_power_iteration=False)
        delattr(module, self.name)
        for suffix in ("_u", "_v", "_orig"):
            delattr(module, self.name + suffix)
        module.register_parameter(self.name, Parameter(weight.detach()))

    def __call__(self, module: Module, inputs: Any) -> None:
        setattr(module, self.name, self.compute_weight(module, do_power_iteration=module.training))


def spectral_norm(
    module: Any,
    name: str = "weight",
    n_power_iterations: int = 1,
    eps: float = 1e-12,
    dim: int | None = None,
) -> Any:
    """Have a weight divided by its largest singular value before each call.

    The newer form is `nn.utils.parametrizations.spectral_norm`.

    Args:
        module: with the weight; it is changed.
        name: of the weight, whose value goes to `name_orig`.
        n_power_iterations: steps of the estimate at each call in training.
        eps: least length of the estimate's vectors.
        dim: the outputs' dimension; 0, or 1 for transposed convolutions.

    Returns:
        The module.

    Reference:
        Miyato et al., Spectral Normalization for Generative Adversarial Networks
        (arXiv:1802.05957).
    """
    if dim is None:
        dim = 1 if "ConvTranspose" in type(module).__name__ else 0
    SpectralNorm.apply(module, name, n_power_iterations, dim, eps)
    return module


def remove_spectral_norm(module: Any, name: str = "weight") -> Any:
    """Take `spectral_norm` off again; the weight keeps its value.

    Returns:
        The module.

    Raises:
        ValueError: it has no such hook.
    """
    remove_hook(module, SpectralNorm, name, "spectral_norm")
    for key, hook in module._state_dict_hooks.items():
        owner = getattr(hook, "__self__", None)
        if isinstance(owner, SpectralNorm) and owner.name == name:
            del module._state_dict_hooks[key]
            break
    return module
