"""Forms of views and splits that share no memory: `permute_copy`, `unsafe_chunk` and their like."""

from __future__ import annotations

import functools
import inspect
from typing import Any

from flambeau.ops.rows import NAMES
from flambeau.ops.table import composite
from flambeau.tensor import Tensor

#: Views that have a form `name` + "_copy".
VIEWS = (
    *("as_strided", "detach", "diagonal", "expand", "narrow", "permute", "select", "squeeze"),
    *("split", "split_with_sizes", "t", "transpose", "unbind", "unfold", "unsqueeze", "view"),
    *("view_as_complex", "view_as_real"),
)

#: Splits with a form "unsafe_" + `name`, whose parts torch lets be written to.
SPLITS = ("chunk", "split", "split_with_sizes")


def _copied(found: Any) -> Any:
    if isinstance(found, Tensor):
        return NAMES["clone"](found)
    return tuple(NAMES["clone"](x) for x in found)


def _declare(name: str, view: str, **options: Any) -> None:
    function = NAMES.get(view) or getattr(Tensor, view)

    @functools.wraps(function)
    def copied(*args: Any, **kwargs: Any) -> Any:
        return _copied(function(*args, **kwargs))

    copied.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    copied.__name__ = copied.__qualname__ = name
    copied.__doc__ = f"As `{view}`, in memory of its own."
    copied.__module__ = __name__
    composite(**options)(copied)


for _view in VIEWS:
    _declare(f"{_view}_copy", _view, method=_view == "narrow", out=True)
for _split in SPLITS:
    _declare(f"unsafe_{_split}", _split)


@composite(method=False, out=True)
def alias_copy(input: Tensor) -> Tensor:
    """The values in memory of their own."""
    return _copied(input)
