"""``torch._dynamo``: the names that programs touch outside of torch itself."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from flambeau.compiler import allow_in_graph as allow_in_graph
from flambeau.compiler import compile, report, reset
from flambeau.compiler import disable as disable
from flambeau.compiler import is_compiling as is_compiling
from flambeau.compiler import list_backends as list_backends
from flambeau.compiler import set_stance as set_stance
from flambeau.compiler import substitute_in_graph as substitute_in_graph
from flambeau.nn import OptimizedModule as OptimizedModule

reset_code_caches = reset

#: Settings that programs change; none has an effect here.
config = SimpleNamespace(
    suppress_errors=False,
    verbose=False,
    cache_size_limit=8,
    recompile_limit=8,
    accumulated_cache_size_limit=256,
    accumulated_recompile_limit=256,
    automatic_dynamic_shapes=True,
    assume_static_by_default=True,
    dynamic_shapes=True,
    capture_scalar_outputs=False,
    capture_dynamic_output_shape_ops=False,
    inline_inbuilt_nn_modules=True,
    optimize_ddp=True,
    disable=False,
    error_on_recompile=False,
    compiled_autograd=False,
    specialize_float=False,
    specialize_int=False,
    allow_unspec_int_on_nn_module=False,
    force_parameter_static_shapes=True,
)


def _mark(t: Any, index: Any, dynamic: bool) -> None:
    every = range(t.dim()) if index is None else [index] if isinstance(index, int) else index
    marks = dict(getattr(t, "_dynamic", None) or {})
    marks.update((d % max(t.dim(), 1), dynamic) for d in every)
    t._dynamic = marks


def mark_dynamic(
    t: Any, index: Any, *, hint_override: Any = None, min: Any = None, max: Any = None, **more: Any
) -> None:
    """Have sizes of a tensor be symbols of compiled functions from the first call on.

    Args:
        index: a dimension or several.
        min, max: accepted; what a recording asks of the size is guarded.
    """
    _mark(t, index, True)


def mark_static(t: Any, index: Any = None) -> None:
    """Have sizes of a tensor, all by default, never be symbols."""
    if isinstance(t, type):
        return
    _mark(t, index, False)


maybe_mark_dynamic = mark_unbacked = mark_dynamic


def mark_static_address(t: Any, guard: bool = True) -> None:
    """Accepted: a tensor that stays in its place is found there."""


def assume_constant_result(fn: Any) -> Any:
    """The function itself: what it returns is guarded by what its code reads."""
    return fn


def graph_break(msg: str = "") -> None:
    """Nothing: what would break a graph is recorded."""


def optimize(backend: Any = "inductor", **options: Any) -> Callable[[Any], Any]:
    """`compile` in its older form: a decorator."""
    return lambda fn: compile(fn, backend=backend)


class ExplainOutput:
    """What `explain` found.

    Attributes:
        graph_count: recordings that are kept.
        graph_break_count: reasons why calls could not be kept.
        break_reasons: these, in words.
        report: everything that is known.
    """

    def __init__(self, found: Any) -> None:
        self.report = found
        self.graph_count = found.recordings
        self.graph_break_count = len(found.refused)
        self.break_reasons = list(found.refused)

    def __str__(self) -> str:
        return (
            f"Graph Count: {self.graph_count}\nGraph Break Count: {self.graph_break_count}\n"
            f"Break Reasons: {self.break_reasons}\n{self.report}"
        )

    __repr__ = __str__


def explain(fn: Any, *args: Any, **kwargs: Any) -> Any:
    """Compile a function, call it three times and say what became of it: `explain(fn)(*args)`."""

    def run(*args: Any, **kwargs: Any) -> ExplainOutput:
        made = compile(fn)
        for _ in range(3):
            made(*args, **kwargs)
        return ExplainOutput(report(made))

    return run(*args, **kwargs) if args or kwargs else run
