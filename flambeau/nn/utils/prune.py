"""Pruning: parts of a parameter that a mask sets to 0 before each call.

The parameter goes to `name_orig`, the mask to the buffer `name_mask`, and the module's `name` is
their product. What is pruned once stays so; `remove` makes it permanent.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterable
from typing import Any

import flambeau
from flambeau.nn.module import Module


class BasePruningMethod:
    """A hook that masks a parameter, and how its mask is chosen.

    Attributes:
        PRUNING_TYPE: what a further method may prune: "unstructured", "structured" (whole slices)
            or "global".
    """

    PRUNING_TYPE = "unstructured"
    _tensor_name: str

    def __call__(self, module: Any, inputs: Any) -> None:
        setattr(module, self._tensor_name, self.apply_mask(module))

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        """The mask of a tensor of which this much is left.

        Args:
            t: importance of the elements.
            default_mask: what is left by earlier methods.
        """
        raise NotImplementedError

    def apply_mask(self, module: Any) -> Any:
        """The masked parameter."""
        name = self._tensor_name
        original = getattr(module, name + "_orig")
        return getattr(module, name + "_mask").to(original.dtype) * original

    @classmethod
    def apply(
        cls, module: Any, name: str, *args: Any, importance_scores: Any = None, **kwargs: Any
    ) -> Any:
        """Prune a parameter of a module, after what was pruned before.

        Args:
            importance_scores: of the elements; the parameter itself unless given.

        Returns:
            The method.
        """
        earlier = [
            (key, hook)
            for key, hook in module._forward_pre_hooks.items()
            if isinstance(hook, BasePruningMethod) and hook._tensor_name == name
        ]
        method: Any = cls(*args, **kwargs)
        method._tensor_name = name
        original = getattr(module, name + "_orig") if earlier else getattr(module, name)
        scores = original if importance_scores is None else importance_scores
        if scores.shape != original.shape:
            raise ValueError(
                f"importance_scores should have the same shape as parameter {name} of {module}"
            )
        if earlier:
            (key, before), *_ = earlier
            container: Any = before
            if not isinstance(before, PruningContainer):
                container = PruningContainer(before)
                container._tensor_name = name
            container.add_pruning_method(method)
            del module._forward_pre_hooks[key]
            mask = container.compute_mask(scores, getattr(module, name + "_mask"))
            method = container
        else:
            mask = method.compute_mask(scores, flambeau.ones_like(original))
            module.register_parameter(name + "_orig", original)
            del module._parameters[name]
        module.register_buffer(name + "_mask", mask)
        setattr(module, name, method.apply_mask(module))
        module.register_forward_pre_hook(method)
        return method

    def prune(self, t: Any, default_mask: Any = None, importance_scores: Any = None) -> Any:
        """A tensor with the mask applied.

        Args:
            t: the tensor.
            default_mask: what is left of it by earlier methods.
            importance_scores: of its elements; the tensor itself unless given.
        """
        scores = t if importance_scores is None else importance_scores
        if scores.shape != t.shape:
            raise ValueError("importance_scores should have the same shape as tensor t")
        left = flambeau.ones_like(t) if default_mask is None else default_mask
        return t * self.compute_mask(scores, default_mask=left)

    def remove(self, module: Any) -> None:
        """Make the masked parameter a parameter again."""
        name = self._tensor_name
        weight = self.apply_mask(module)
        if hasattr(module, name):
            delattr(module, name)
        original = module._parameters.pop(name + "_orig")
        original.data = weight.data
        del module._buffers[name + "_mask"]
        setattr(module, name, original)


class PruningContainer(BasePruningMethod):
    """Several methods one after another."""

    def __init__(self, *args: Any) -> None:
        given = args[0] if len(args) == 1 and isinstance(args[0], Iterable) else args
        self._pruning_methods: tuple[Any, ...] = tuple(given)
        if self._pruning_methods:
            self._tensor_name = self._pruning_methods[0]._tensor_name

    def add_pruning_method(self, method: Any) -> None:
        """Add one for the same parameter."""
        if not isinstance(method, BasePruningMethod):
            raise TypeError(f"{type(method)} is not a BasePruningMethod subclass")
        if self._tensor_name != method._tensor_name:
            raise ValueError(
                "Can only add pruning methods acting on the parameter named"
                f" '{self._tensor_name}' to PruningContainer {self}. Found"
                f" '{method._tensor_name}'"
            )
        self._pruning_methods += (method,)

    def __len__(self) -> int:
        return len(self._pruning_methods)

    def __iter__(self) -> Any:
        return iter(self._pruning_methods)

    def __getitem__(self, idx: Any) -> Any:
        return self._pruning_methods[idx]

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        """The last method's, on what the earlier ones left."""
        method = self._pruning_methods[-1]
        mask = default_mask.to(t.dtype)
        if method.PRUNING_TYPE == "unstructured":
            chosen: Any = mask == 1
        elif method.PRUNING_TYPE == "structured":
            dim = method.dim % t.dim()
            others = [d for d in range(t.dim()) if d != dim]
            alive = mask.sum(others) != 0
            shape = [-1 if d == dim else 1 for d in range(t.dim())]
            chosen = alive.view(shape).expand(t.shape)
            kept = [s for d, s in enumerate(t.shape) if d != dim]
            part = t[chosen].reshape(*t.shape[:dim], -1, *kept[dim:])
            left = mask[chosen].reshape(part.shape)
            new = mask.clone()
            new[chosen] = method.compute_mask(part, left).to(t.dtype).reshape(-1)
            return new
        elif method.PRUNING_TYPE == "global":
            chosen = flambeau.ones_like(mask, dtype=flambeau.bool)
        else:
            raise ValueError(f"Unrecognized PRUNING_TYPE {method.PRUNING_TYPE}")
        new = mask.clone()
        new[chosen] = method.compute_mask(t[chosen], default_mask=mask[chosen]).to(t.dtype)
        return new


class Identity(BasePruningMethod):
    """Nothing is pruned."""

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        """As it was."""
        return default_mask


def _check_amount(amount: Any) -> None:
    """Whether an amount is a part from 0 to 1, or a count.

    Raises:
        TypeError: no number.
        ValueError: out of range.
    """
    if not isinstance(amount, numbers.Real):
        raise TypeError(f"Invalid type for amount: {amount}. Must be int or float.")
    if (isinstance(amount, numbers.Integral) and amount < 0) or (
        not isinstance(amount, numbers.Integral) and not 0.0 <= float(amount) <= 1.0
    ):
        raise ValueError(
            f"amount={amount} should either be a float in the range [0, 1] or a non-negative"
            " integer"
        )


def _count(amount: Any, size: int) -> int:
    """How many of `size` an amount is.

    Raises:
        ValueError: more than there are.
    """
    if isinstance(amount, numbers.Integral):
        if int(amount) > size:
            raise ValueError(
                f"amount={amount} should be smaller than the number of parameters to prune={size}"
            )
        return int(amount)
    return round(amount * size)


class _Amount(BasePruningMethod):
    """A method that prunes an amount."""

    def __init__(self, amount: Any) -> None:
        _check_amount(amount)
        self.amount = amount


class RandomUnstructured(_Amount):
    """An amount of elements at random."""

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        """The mask."""
        count = _count(self.amount, t.nelement())
        mask = default_mask.clone()
        if count:
            mask.view(-1)[flambeau.rand_like(t).view(-1).topk(count).indices] = 0
        return mask


class L1Unstructured(_Amount):
    """An amount of the smallest elements."""

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        """The mask."""
        count = _count(self.amount, t.nelement())
        mask = default_mask.clone()
        if count:
            mask.view(-1)[t.abs().reshape(-1).topk(count, largest=False).indices] = 0
        return mask


class _Slices(_Amount):
    """A method that prunes slices along a dimension."""

    PRUNING_TYPE = "structured"

    def __init__(self, amount: Any, dim: int = -1) -> None:
        super().__init__(amount)
        self.dim = dim

    def _scores(self, t: Any) -> Any:
        raise NotImplementedError

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        """The mask."""
        if t.dim() <= 1:
            raise ValueError(
                "Structured pruning can only be applied to multidimensional tensors. Found tensor"
                f" of shape {t.shape} with {t.dim()} dims"
            )
        if not -t.dim() <= self.dim < t.dim():
            raise IndexError(f"Invalid index {self.dim} for tensor of size {t.shape}")
        size = t.shape[self.dim]
        count = _count(self.amount, size)
        if not count:
            return default_mask
        keep = flambeau.zeros(size, dtype=flambeau.bool, device=t.device)
        keep[self._scores(t).topk(size - count).indices] = True
        shape = [1] * t.dim()
        shape[self.dim] = size
        return keep.view(shape).expand(t.shape).to(default_mask.dtype) * default_mask


class RandomStructured(_Slices):
    """An amount of slices at random."""

    def _scores(self, t: Any) -> Any:
        return flambeau.rand(t.shape[self.dim])


class LnStructured(_Slices):
    """An amount of the slices with the smallest norms.

    Args:
        amount: of slices.
        n: order of the norm.
        dim: along which slices are taken.
    """

    def __init__(self, amount: Any, n: Any, dim: int = -1) -> None:
        super().__init__(amount, dim)
        self.n = n

    def _scores(self, t: Any) -> Any:
        others = [d for d in range(t.dim()) if d != self.dim % t.dim()]
        return flambeau.norm(t, p=self.n, dim=others)


class CustomFromMask(BasePruningMethod):
    """A mask that is given."""

    PRUNING_TYPE = "global"

    def __init__(self, mask: Any) -> None:
        self.mask = mask

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        """Where both masks are."""
        if default_mask.shape != self.mask.shape:
            return default_mask * self.mask.reshape(default_mask.shape).to(default_mask.dtype)
        return default_mask * self.mask.to(default_mask.dtype)


def identity(module: Any, name: str) -> Any:
    """Put a mask of ones on a parameter; -> the module."""
    Identity.apply(module, name)
    return module


def random_unstructured(module: Any, name: str, amount: Any) -> Any:
    """Prune elements of a parameter at random; -> the module.

    Args:
        amount: a part from 0 to 1, or a count.
    """
    RandomUnstructured.apply(module, name, amount)
    return module


def l1_unstructured(module: Any, name: str, amount: Any, importance_scores: Any = None) -> Any:
    """Prune the smallest elements of a parameter; -> the module.

    Args:
        amount: a part from 0 to 1, or a count.
        importance_scores: whose smallest are taken, in place of the parameter's.
    """
    L1Unstructured.apply(module, name, amount, importance_scores=importance_scores)
    return module


def random_structured(module: Any, name: str, amount: Any, dim: int) -> Any:
    """Prune slices of a parameter along a dimension at random; -> the module."""
    RandomStructured.apply(module, name, amount, dim)
    return module


def ln_structured(
    module: Any, name: str, amount: Any, n: Any, dim: int, importance_scores: Any = None
) -> Any:
    """Prune the slices of a parameter whose norms of order n are smallest; -> the module."""
    LnStructured.apply(module, name, amount, n, dim, importance_scores=importance_scores)
    return module


def custom_from_mask(module: Any, name: str, mask: Any) -> Any:
    """Prune a parameter by a mask; -> the module."""
    CustomFromMask.apply(module, name, mask)
    return module


def global_unstructured(
    parameters: Any, pruning_method: Any, importance_scores: Any = None, **kwargs: Any
) -> None:
    """Prune several parameters together, as if they were one.

    Args:
        parameters: (module, name) pairs.
        pruning_method: a class of unstructured methods.
        importance_scores: (module, name) -> scores, for some of them.
        kwargs: of the method, such as `amount`.
    """
    if not isinstance(parameters, Iterable):
        raise TypeError("global_unstructured(): parameters is not an Iterable")
    parameters = list(parameters)
    given = {} if importance_scores is None else importance_scores
    if not isinstance(given, dict):
        raise TypeError("global_unstructured(): importance_scores must be of type dict")
    tensors = [getattr(module, name) for module, name in parameters]
    scores = flambeau.cat(
        [
            given.get(pair, tensor).detach().reshape(-1)
            for pair, tensor in zip(parameters, tensors, strict=True)
        ]
    )
    masks = flambeau.cat(
        [
            getattr(module, name + "_mask", flambeau.ones_like(tensor)).reshape(-1)
            for (module, name), tensor in zip(parameters, tensors, strict=True)
        ]
    )
    container = PruningContainer()
    container._tensor_name = "temp"
    method = pruning_method(**kwargs)
    method._tensor_name = "temp"
    container.add_pruning_method(method)
    if method.PRUNING_TYPE != "unstructured":
        raise TypeError(
            'Only "unstructured" PRUNING_TYPE supported for the `pruning_method`. Found method'
            f" {pruning_method} of type {method.PRUNING_TYPE}"
        )
    final = container.compute_mask(scores, masks)
    start = 0
    for (module, name), tensor in zip(parameters, tensors, strict=True):
        end = start + tensor.numel()
        custom_from_mask(module, name, mask=final[start:end].view_as(tensor))
        start = end


def remove(module: Any, name: str) -> Any:
    """Make the pruning of a parameter permanent; -> the module.

    Raises:
        ValueError: it is not pruned.
    """
    for key, hook in module._forward_pre_hooks.items():
        if isinstance(hook, BasePruningMethod) and hook._tensor_name == name:
            hook.remove(module)
            del module._forward_pre_hooks[key]
            return module
    raise ValueError(
        f"Parameter '{name}' of module {module} has to be pruned before pruning can be removed"
    )


def is_pruned(module: Any) -> bool:
    """Whether a parameter of a module, or of one inside it, is pruned.

    Raises:
        TypeError: it is no module.
    """
    if not isinstance(module, Module):
        raise TypeError(f"is_pruned expects a torch.nn.Module, but got {type(module)}")
    return any(
        isinstance(hook, BasePruningMethod)
        for part in module.modules()
        for hook in part._forward_pre_hooks.values()
    )
