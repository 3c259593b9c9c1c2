"""Arguments of calls of rows: by which names they go, and what is said when one is wrong."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from flambeau.dtype import as_dtype
from flambeau.ir.graph import Op
from flambeau.tensor import Tensor

#: NumPy's names of parameters, which torch takes as well.
NUMPY = {
    "axis": "dim",
    "keepdims": "keepdim",
    **dict.fromkeys(("x", "a", "x1"), "input"),
    "x2": "other",
}


def by_torch_names(op: Op, kwargs: dict[str, Any]) -> dict[str, Any] | None:
    """Keyword arguments that go by NumPy's names under torch's; None where there are none."""
    names = op.parameters
    found = {
        NUMPY[k] if k not in names and NUMPY.get(k) in names else k: v for k, v in kwargs.items()
    }
    return None if found.keys() == kwargs.keys() or len(found) < len(kwargs) else found


def dtype_form(op: Op, call: Callable[..., Any]) -> Callable[..., Any]:
    """A row's function that takes Python's bool, int, float and complex as `dtype`, too."""
    place = op.parameters.index("dtype")

    @functools.wraps(call)
    def with_dtype(*args: Any, **kwargs: Any) -> Any:
        if "dtype" in kwargs:
            kwargs["dtype"] = as_dtype(kwargs["dtype"])
        elif len(args) > place and type(args[place]) is type:
            args = (*args[:place], as_dtype(args[place]), *args[place + 1 :])
        return call(*args, **kwargs)

    return with_dtype


def bind(op: Op, args: tuple[Any, ...], kwargs: dict[str, Any]) -> inspect.BoundArguments:
    """A call's arguments by the row's parameters, without the defaults.

    Raises:
        TypeError: they do not fit.
    """
    try:
        return op.signature.bind(*args, **kwargs)
    except TypeError:
        if (named := by_torch_names(op, kwargs)) is None:
            raise
    return op.signature.bind(*args, **named)


def check_first(op: Op, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """After a body failed: say so when what should be a tensor is something else.

    Raises:
        TypeError: it is.
    """
    for position, (name, parameter) in enumerate(op.signature.parameters.items()):
        if parameter.annotation == "Tensor" and parameter.kind is not parameter.VAR_POSITIONAL:
            given = args[position] if position < len(args) else kwargs.get(name)
            if not isinstance(given, Tensor):
                raise TypeError(
                    f"{op.name}(): argument '{name}' (position {position + 1}) must be Tensor, "
                    f"not {type(given).__name__}"
                ) from None
