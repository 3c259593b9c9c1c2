"""`compile`: programs run compiled as they are, so it hands back what it is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def compile(
    model: Callable[..., Any] | None = None,
    *,
    fullgraph: bool = False,
    dynamic: bool | None = None,
    backend: Any = "inductor",
    mode: str | None = None,
    options: dict[str, Any] | None = None,
    disable: bool = False,
    **more: Any,
) -> Any:
    """The function or module itself; what it records is compiled when it is executed.

    Args:
        model: a function or module; without one, a decorator is returned.
        fullgraph, dynamic, backend, mode, options, disable: accepted as torch does; there is one
            way to execute.

    Raises:
        RuntimeError: both `mode` and `options`.
    """
    if mode is not None and options is not None:
        raise RuntimeError(
            "Either mode or options can be specified, but both can't be specified at the same time."
        )
    if model is None:
        return lambda given: compile(
            given,
            fullgraph=fullgraph,
            dynamic=dynamic,
            backend=backend,
            mode=mode,
            options=options,
            disable=disable,
        )
    if not callable(model):
        raise RuntimeError(f"compile expects a function or a module, but got {type(model)}")
    return model
