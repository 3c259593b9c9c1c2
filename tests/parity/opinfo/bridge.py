"""torch's database of operator calls, spoken to flambeau: values, functions, arrays.

A quarter of the database's entries are functions written in the database itself; their code runs
with the name `torch` bound to flambeau.
"""

from __future__ import annotations

import types
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_leaves, tree_map

import flambeau

__all__ = ["Missing", "Unlike", "array", "converted", "function", "tensors", "tree_leaves"]


class Missing(Exception):
    """A public name of torch that flambeau does not have."""


class Unlike(Exception):
    """A value, or an operator, that is no public name of torch or has no counterpart here."""


def named(path: str) -> Any:
    """What flambeau has under a dotted name.

    Raises:
        Missing: nothing.
    """
    found: Any = flambeau
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise Missing(path) from None
    return found


# -- values ----------------------------------------------------------------------------------------


def _tensor(t: torch.Tensor) -> flambeau.Tensor:
    """The same values, strides where memory is not shared, and wish for a gradient."""
    if t.layout is torch.sparse_coo:
        t = t.coalesce()
        return flambeau.sparse_coo_tensor(_tensor(t.indices()), _tensor(t.values()), tuple(t.shape),
                                          is_coalesced=True)  # fmt: skip
    if t.layout is torch.sparse_csr:
        parts = (t.crow_indices(), t.col_indices(), t.values())
        return flambeau.sparse_csr_tensor(*map(_tensor, parts), tuple(t.shape))
    if t.layout is not torch.strided or t.device.type != "cpu":
        raise Unlike(f"a tensor of layout {t.layout} on {t.device}")
    if t.storage_offset() and t.untyped_storage().nbytes() > t.numel() * t.itemsize:
        raise Unlike("a view of memory that is not shown")
    plain = t.detach().resolve_conj().resolve_neg()
    name = str(t.dtype).removeprefix("torch.")
    if not hasattr(flambeau, name):
        raise Unlike(t.dtype)
    dtype = getattr(flambeau, name)
    if (dtype.itemsize == 1 and dtype.is_floating_point) or name == "bfloat16":
        bits = plain.contiguous().view(torch.int16 if dtype.itemsize == 2 else torch.uint8)
        made = flambeau.from_numpy(bits.numpy().copy()).view(dtype)
    else:
        values = plain.numpy()
        shared = any(n > 1 and s == 0 for n, s in zip(plain.shape, plain.stride(), strict=True))
        made = flambeau.from_numpy(np.array(values) if shared else values.copy(order="K"))
    return made.requires_grad_() if t.requires_grad else made


def _leaf(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return _tensor(value)
    if isinstance(value, (torch.dtype, torch.memory_format, torch.layout)):
        return named(str(value).removeprefix("torch."))
    if isinstance(value, torch.device):
        return flambeau.device(str(value))
    if isinstance(value, torch.Generator):
        return flambeau.Generator()
    if isinstance(value, torch.Size):
        return tuple(value)
    if callable(value) and (getattr(value, "__module__", None) or "").startswith("torch"):
        return translated(value)
    return value


def converted(value: Any) -> Any:
    """A value for flambeau, at any depth.

    Raises:
        Unlike: something that has no counterpart.
    """
    return tree_map(_leaf, value)


def array(value: Any) -> Any:
    """A tensor of either library as a NumPy array, half types as float32; other values as they
    are."""
    if isinstance(value, torch.Tensor):
        value = value.detach()
        if value.layout is not torch.strided:
            value = value.to_dense()
        value = value.resolve_conj().resolve_neg().clone()
        if value.dtype in (torch.bfloat16, torch.float16) or (
            value.dtype.itemsize == 1 and (value.dtype.is_floating_point)
        ):
            value = value.float()
        return value.numpy()
    if isinstance(value, flambeau.Tensor):
        value = value.detach()
        if value.layout is not flambeau.strided:
            value = value.to_dense()
        if value.dtype.is_floating_point and value.dtype.itemsize < 4:
            value = value.float()
        return np.array(value.numpy())
    return value


def tensors(value: Any, kind: type) -> list[Any]:
    """The tensors among nested values."""
    plain = tuple(value) if isinstance(value, tuple) else value
    return [leaf for leaf in tree_leaves(plain) if isinstance(leaf, kind)]


# -- functions -------------------------------------------------------------------------------------

_PLACES = (
    ("", torch),
    ("nn.functional.", torch.nn.functional),
    ("linalg.", torch.linalg),
    ("fft.", torch.fft),
    ("special.", torch.special),
    ("sparse.", torch.sparse),
    ("signal.windows.", torch.signal.windows),
    ("masked.", torch.masked),
    ("Tensor.", torch.Tensor),
)
_NAMES: dict[int, str] = {}


def _public_name(function: Any) -> str | None:
    """The dotted public name of a built-in function of torch."""
    if not _NAMES:
        for prefix, place in _PLACES:
            for name in dir(place):
                value = getattr(place, name, None)
                if callable(value) and (prefix == "Tensor." or not name.startswith("_")):
                    _NAMES.setdefault(id(value), prefix + name)
    return _NAMES.get(id(function))


#: Where torch defines what it publishes elsewhere.
_PRIVATE = {
    "masked._ops.": "masked.",
    "functional.": "",
    "signal.windows.windows.": "signal.windows.",
}


def translated(function: Any) -> Any:
    """A function out of the database: the one of that name here, or its code over flambeau."""
    if isinstance(function, types.FunctionType):
        module = function.__module__ or ""
        if not module.startswith("torch.testing"):
            if module.startswith("torch.cuda"):
                raise Unlike(f"{function} is for another device")
            path = f"{module}.{function.__qualname__}".removeprefix("torch.")
            for private, public in _PRIVATE.items():
                path = path.replace(private, public, 1) if path.startswith(private) else path
            return named(path)
        scope = dict(function.__globals__)
        scope.update(torch=flambeau, np=np, F=flambeau.nn.functional)
        cells = tuple(types.CellType(_cell(c.cell_contents)) for c in function.__closure__ or ())
        made = types.FunctionType(
            function.__code__, scope, function.__name__, function.__defaults__, cells
        )
        made.__kwdefaults__ = function.__kwdefaults__
        return made
    name = _public_name(function)
    if name is not None:
        return named(name)
    if isinstance(function, (torch._ops.OpOverload, torch._ops.OpOverloadPacket)):
        raise Unlike(f"{function} is not public")
    if isinstance(function, torch.nn.Module):
        raise Unlike("a module as an argument")
    if type(function).__module__.startswith("torch.testing"):
        return function  # an entry of the database in a closure
    if type(function).__module__.startswith("torch.cuda"):
        raise Unlike(f"{function} is for another device")
    raise Unlike(repr(function)[:80])


def _cell(value: Any) -> Any:
    return translated(value) if callable(value) and not isinstance(value, type) else _leaf(value)


def function(op: Any) -> Any:
    """flambeau's function for an entry of the database.

    Raises:
        Missing: there is none.
        Unlike: the entry is no public name.
    """
    given = op.op
    if op.name.startswith("_") and not op.name.startswith("__"):
        return translated(given)
    if isinstance(given, types.FunctionType) and (given.__module__ or "").startswith("torch.test"):
        return translated(given)
    try:
        found = named(op.name)
        if callable(found):
            return found
    except Missing:
        pass
    last = op.name.split(".")[-1]
    if hasattr(torch.Tensor, last) and "." not in op.name:
        return named(f"Tensor.{last}")
    return translated(given)
