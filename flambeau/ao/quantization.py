"""Linear layers of a model with 8-bit weights: `torch.ao.quantization.quantize_dynamic`."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from typing import Any, cast

import flambeau
from flambeau import nn
from flambeau.ao import dynamic
from flambeau.nn import Module

#: Layers that have a form with 8-bit weights -> that form.
DYNAMIC: dict[type[Module], type[dynamic.Linear]] = {nn.Linear: dynamic.Linear}


def quantize_dynamic(
    model: Module,
    qconfig_spec: Any = None,
    dtype: Any = None,
    mapping: Mapping[type[Module], Any] | None = None,
    inplace: bool = False,
) -> Module:
    """A model whose linear layers have 8-bit weights, and round their inputs to 8 bits.

    A quarter of the memory, and products of 8-bit integers; only for inference that bears some
    error.

    Args:
        model: float.
        qconfig_spec: which layers: classes, or names of modules (with all that is below them); by
            default all that there is a form of.
        dtype: int8, the only one.
        mapping: classes -> their forms, whose `from_float` makes one of a layer; by default
            `DYNAMIC`.
        inplace: change the model rather than a copy.

    Raises:
        NotImplementedError: another dtype, or a class that there is no form of.

    Example:
        >>> net = quantize_dynamic(nn.Sequential(nn.Linear(3, 2), nn.ReLU()))
        >>> type(net[0]).__name__, net(flambeau.ones(4, 3)).shape
        ('Linear', torch.Size([4, 2]))
    """
    if dtype not in (None, flambeau.int8):
        raise NotImplementedError(f"weights are quantised to int8, not to {dtype}")
    forms = DYNAMIC if mapping is None else mapping
    chosen: Collection[Any] = list(forms if qconfig_spec is None else qconfig_spec)
    kinds = tuple(c for c in chosen if isinstance(c, type))
    names = [c for c in chosen if isinstance(c, str)]
    for kind in kinds:
        if kind not in forms:
            raise NotImplementedError(f"{kind.__name__} has no form with 8-bit weights")
    found = model if inplace else copy.deepcopy(model)
    for name, layer in list(found.named_modules()):
        form = forms.get(type(layer))
        inside = any(name == n or name.startswith(n + ".") for n in names)
        if form is None or not (type(layer) in kinds or inside):
            continue
        made: Module = form.from_float(cast(Any, layer))
        if not name:
            return made
        parent, _, last = name.rpartition(".")
        setattr(found.get_submodule(parent), last, made)
    return found


__all__ = ["DYNAMIC", "quantize_dynamic"]
