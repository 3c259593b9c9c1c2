"""`compile`: replay a call without recording it again.

`engine.py` runs a compiled function; `observe.py` sees which Python a call runs, `guards.py` writes
what must still hold, `watch.py` makes a replay of what was recorded, `replay.py` runs it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from flambeau.compile.engine import Engine
from flambeau.compile.options import check

#: Class -> what compiling an instance of it gives; `nn` enters its modules here.
WRAPPERS: dict[type, Callable[..., Any]] = {}


def compile(
    model: Callable[..., Any] | None = None,
    *,
    fullgraph: bool = False,
    dynamic: bool | None = None,
    backend: Any = "inductor",
    mode: str | None = None,
    options: dict[str, Any] | None = None,
    name: str | None = None,
    disable: bool = False,
    recompile_limit: int | None = None,
    isolate_recompiles: bool = False,
    shapes_spec: Any = None,
) -> Any:
    """A function that replays what another recorded, where nothing it depends on has changed.

    The first calls run the function as it is written. Then its programs run again on new tensors,
    without its Python; where a guard fails (a shape, a flag, a value in Python that it reads) it is
    recorded anew.

    Args:
        model: a function or module; without one, a decorator is returned.
        fullgraph: raise where a call cannot be replayed.
        dynamic: which sizes of tensors become symbols, so that other values of them need no other
            recording: those that have changed between calls (None), those of all arguments from
            the first call on (True), none (False).
        backend: a name that torch knows, or a function; there is one way to execute. "eager" too.
        mode: "default", "reduce-overhead", "max-autotune" or "max-autotune-no-cudagraphs".
        options: accepted as torch does.
        name: for reports; the function's own by default.
        disable: hand the function back.
        recompile_limit: how many recordings are kept, 64 by default.
        isolate_recompiles: accepted; recordings are counted for each compiled function.
        shapes_spec: accepted; what is asked of sizes is found while they are symbols.

    Returns:
        The function, compiled; for a module another module, which holds it as `_orig_mod`.

    Raises:
        RuntimeError: both `mode` and `options`, an unknown mode or backend, or `model` is neither
            function nor module.
    """
    check(backend, mode, options)
    if model is None:
        return functools.partial(
            _compile_given,
            fullgraph=fullgraph,
            dynamic=dynamic,
            backend=backend,
            mode=mode,
            options=options,
            name=name,
            disable=disable,
            recompile_limit=recompile_limit,
        )
    if not callable(model):
        raise RuntimeError(f"compile expects a function or a module, but got {type(model)}")
    if disable:
        return model
    for kind, wrap in WRAPPERS.items():
        if isinstance(model, kind):
            return wrap(model, fullgraph=fullgraph, dynamic=dynamic)
    made: Any = compiled(model, fullgraph, dynamic)
    made._engine.name = name or made._engine.name
    made._engine.limit = recompile_limit or made._engine.limit
    return made


def _compile_given(model: Callable[..., Any], **options: Any) -> Any:
    if model is None:
        raise RuntimeError("Model can't be None")
    return compile(model, **options)


def compiled(
    fn: Callable[..., Any], fullgraph: bool = False, dynamic: bool | None = None
) -> Callable[..., Any]:
    """The compiled form of a function, with its name and documentation.

    Args:
        fullgraph: raise where a call cannot be replayed.
        dynamic: which sizes become symbols, as in `compile`.
    """
    known = getattr(fn, "_engine", None)
    if isinstance(known, Engine):
        fn = known.fn
    engine = Engine(fn, getattr(fn, "__qualname__", type(fn).__name__), fullgraph, dynamic)
    run = engine.call

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        return run(args, kwargs)

    call._engine = engine  # type: ignore[attr-defined]
    call._torchdynamo_orig_callable = fn  # type: ignore[attr-defined]
    return call
