"""``torch._foreach_*``: one operation on every tensor of a list, which libraries' optimizers call.

Each is the tensors' own method; all of them are recorded, and run, together anyway. Arguments that
are lists go by element, others to every tensor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flambeau

_ROWS = (
    *("abs", "acos", "add", "addcdiv", "addcmul", "asin", "atan", "ceil", "clamp_max"),
    *("clamp_min", "copy", "cos", "cosh", "div", "erf", "erfc", "exp", "expm1", "floor", "frac"),
    *("lerp", "lgamma", "log", "log10", "log1p", "log2", "maximum", "minimum", "mul", "neg", "pow"),
    *("reciprocal", "round", "rsqrt", "sigmoid", "sign", "sin", "sinh", "sqrt", "sub", "tan"),
    *("tanh", "trunc", "zero"),
)


def _each(name: str) -> Callable[..., Any]:
    """The function for lists of a method."""
    method = getattr(flambeau.Tensor, name)
    in_place = name.endswith("_")

    def call(self: Any, *args: Any, **options: Any) -> Any:
        scalars = options.pop("scalars", None)
        if scalars is not None:
            args = (*args, scalars)
        ternary = name.rstrip("_") in ("addcdiv", "addcmul")
        found = []
        for i, tensor in enumerate(self):
            own = [a[i] if isinstance(a, list | tuple) else a for a in args]
            if ternary and len(own) == 3:
                found.append(method(tensor, own[0], own[1], value=own[2], **options))
            else:
                found.append(method(tensor, *own, **options))
        return None if in_place else tuple(found)

    call.__name__ = call.__qualname__ = f"_foreach_{name}"
    call.__doc__ = f"``{name}`` of every tensor of a list."
    return call


for _name in _ROWS:
    for _form in (_name, f"{_name}_"):
        # `maximum` and its like have no in-place method of their own in torch, but do here
        if hasattr(flambeau.Tensor, _form):
            globals()[f"_foreach_{_form}"] = _each(_form)


def _binary_in_place(name: str) -> Callable[..., None]:
    """The in-place form for lists of a function that has none for single tensors."""
    function = getattr(flambeau, name)

    def call(self: Any, other: Any) -> None:
        for i, tensor in enumerate(self):
            own = other[i] if isinstance(other, list | tuple) else other
            tensor.copy_(function(tensor, flambeau.as_tensor(own, dtype=tensor.dtype)))

    call.__name__ = call.__qualname__ = f"_foreach_{name}_"
    call.__doc__ = f"``{name}`` of every tensor of a list, written to it."
    return call


_foreach_maximum_ = _binary_in_place("maximum")
_foreach_minimum_ = _binary_in_place("minimum")


def _foreach_norm(self: Any, ord: Any = 2, dtype: Any = None) -> tuple[Any, ...]:
    """The norm of every tensor of a list."""
    return tuple(flambeau.linalg.vector_norm(t, ord, dtype=dtype) for t in self)
