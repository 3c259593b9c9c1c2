"""`torch.compiler`: what programs tell and ask of `compile`, and what it has done."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from flambeau import record
from flambeau.compile import WRAPPERS
from flambeau.compile import compile as compile
from flambeau.compile.engine import Engine, engines, state
from flambeau.compile.options import BACKENDS, check
from flambeau.ops.rows import NAMES

_defaults: dict[str, Any] = {"backend": "inductor"}
_STANCES = (
    *("default", "force_eager", "eager_on_recompile", "fail_on_recompile", "eager_then_compile"),
    "aot_eager_then_compile",
)


class Report:
    """What a compiled function has done; `str()` says it in words.

    Attributes:
        name: the function's.
        calls: how many calls there were.
        replays: how many of them ran no Python of the function.
        recordings: how many recordings are kept.
        recompiles: what had changed, for each call that was recorded although others were kept.
        refused: why calls could not be kept: reason -> how often.
        off: why every call is recorded, or "".
    """

    def __init__(self, engine: Engine) -> None:
        self.name = engine.name
        self.calls = engine.calls
        self.replays = engine.replays
        self.recordings = len(engine.recordings)
        self.recompiles = list(engine.recompiles)
        self.refused = dict(engine.refused)
        self.off = engine.off

    def __str__(self) -> str:
        lines = [
            f"{self.name}: {self.calls} calls, {self.replays} replayed, "
            f"{self.recordings} recordings"
        ]
        lines += [f"  recorded again because of: {reason}" for reason in self.recompiles]
        lines += [f"  not kept ({n} times): {reason}" for reason, n in self.refused.items()]
        if self.off:
            lines.append(f"  recorded at every call: {self.off}")
        return "\n".join(lines)

    __repr__ = __str__


def _engine(fn: Any) -> Engine:
    found = getattr(fn, "_engine", None)
    if found is None and hasattr(fn, "forward"):
        found = getattr(fn.forward, "_engine", None)
    if not isinstance(found, Engine):
        raise TypeError(f"{fn!r} is not a compiled function")
    return found


def report(fn: Any) -> Report:
    """What a compiled function or module has done so far.

    Args:
        fn: what `compile` returned.

    Raises:
        TypeError: it is something else.
    """
    return Report(_engine(fn))


def is_compiling() -> bool:
    """Whether a compiled function is being recorded, or a module exported, now."""
    return state.compiling or is_exporting()


def is_dynamo_compiling() -> bool:
    """Whether a compiled function is being recorded now."""
    return state.compiling


def is_exporting() -> bool:
    """Whether a module is being traced by `export` now."""
    return getattr(record.thread.watcher, "exporting", False)


def disable(fn: Any = None, recursive: bool = True, *, reason: str | None = None) -> Any:
    """A function that runs as it is written, and what it calls too.

    A compiled function that calls it cannot be replayed.

    Args:
        fn: a function or module; without one, a decorator is returned.
        recursive: accepted; what the function calls is never compiled by itself.
        reason: for messages.
    """
    if fn is None:
        return functools.partial(disable, recursive=recursive, reason=reason)
    for kind, wrap in WRAPPERS.items():
        if isinstance(fn, kind):
            made = wrap(fn)
            made.__dict__["forward"] = _plain(fn.__call__, reason)  # type: ignore[operator]
            return made
    return _plain(fn, reason)


def _plain(fn: Callable[..., Any], reason: str | None) -> Callable[..., Any]:
    why = f" ({reason})" if reason else ""
    title = f"it calls {getattr(fn, '__qualname__', fn)}, which is disabled{why}"

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        if record.thread.watcher is not None:
            record.thread.watcher.refuse(title)
        before = state.compiling, state.plain
        state.compiling, state.plain = False, True
        try:
            return fn(*args, **kwargs)
        finally:
            state.compiling, state.plain = before

    return call


def reset() -> None:
    """Have every compiled function forget what it recorded."""
    for engine in list(engines):
        engine.reset()


def allow_in_graph(fn: Any) -> Any:
    """The function itself: everything is recorded."""
    return fn


def substitute_in_graph(original_fn: Any, **options: Any) -> Callable[[Any], Any]:
    """A decorator that leaves a function as it is: the original can be recorded."""
    return lambda fn: fn


def assume_constant_result(fn: Any) -> Any:
    """The function itself."""
    return fn


def nested_compile_region(fn: Any = None, **options: Any) -> Any:
    """The function itself, or a decorator that leaves one as it is."""
    return (lambda given: given) if fn is None else fn


def wrap_numpy(fn: Callable[..., Any]) -> Callable[..., Any]:
    """A function of NumPy arrays that takes and returns tensors."""

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        found = fn(*map(_array, args), **{k: _array(v) for k, v in kwargs.items()})
        return _tensors(found)

    return call


def _array(value: Any) -> Any:
    return value.numpy() if hasattr(value, "numpy") else value


def _tensors(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(map(_tensors, value))
    return _from_numpy(value) if hasattr(value, "__array_interface__") else value


def _from_numpy(value: Any) -> Any:
    from_numpy: Any = NAMES["from_numpy"]
    return from_numpy(value)


def cudagraph_mark_step_begin() -> None:
    """Nothing: results of a replayed call have memory of their own."""


def list_backends(exclude_tags: Any = ("debug", "experimental")) -> list[str]:
    """The names that `compile(backend=)` takes."""
    return sorted(b for b in BACKENDS if "eager" not in b)


def set_default_backend(backend: Any) -> None:
    """Remembered; there is one way to execute."""
    check(backend or "inductor", None, None)
    _defaults["backend"] = backend or "inductor"


def get_default_backend() -> Any:
    """What `set_default_backend` was told."""
    return _defaults["backend"]


class set_stance:
    """How compiled functions behave: as a call, a context manager or a decorator.

    Args:
        stance: "force_eager" runs them as they are written, "fail_on_recompile" raises where one
            must be recorded again, "eager_on_recompile" runs it as it is written then; the
            others are "default".

    Raises:
        RuntimeError: another stance.
    """

    def __init__(
        self, stance: str = "default", *, skip_guard_eval_unsafe: bool = False, **options: Any
    ) -> None:
        if stance not in _STANCES:
            raise RuntimeError(f"invalid torch.compile stance '{stance}'")
        self.stance = stance
        self._was = state.stance
        state.stance = stance

    def __enter__(self) -> None:
        state.stance = self.stance

    def __exit__(self, *exc: object) -> None:
        state.stance = self._was

    def __call__(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        state.stance = self._was

        @functools.wraps(fn)
        def call(*args: Any, **kwargs: Any) -> Any:
            with set_stance(self.stance):
                return fn(*args, **kwargs)

        return call


def set_enable_guard_collectives(enabled: bool) -> bool:
    """Accepted; -> False, which it was."""
    return False


def save_cache_artifacts() -> None:
    """None: compiled kernels are kept on disk by themselves, under the user's cache folder."""


def load_cache_artifacts(serialized_artifacts: bytes) -> None:
    """Nothing: see `save_cache_artifacts`."""


def skip_guard_on_inbuilt_nn_modules_unsafe(guard_entries: Sequence[Any]) -> list[bool]:
    """For `options={"guard_filter_fn": ...}`, which is accepted: every guard is kept."""
    return [True] * len(guard_entries)


def keep_tensor_guards_unsafe(
    guard_entries: Sequence[Any], keep_parameters: bool = False
) -> list[bool]:
    """As `skip_guard_on_inbuilt_nn_modules_unsafe`."""
    return [True] * len(guard_entries)


def skip_guard_on_all_nn_modules_unsafe(guard_entries: Sequence[Any]) -> list[bool]:
    """As `skip_guard_on_inbuilt_nn_modules_unsafe`."""
    return [True] * len(guard_entries)


def skip_guard_on_globals_unsafe(guard_entries: Sequence[Any]) -> list[bool]:
    """As `skip_guard_on_inbuilt_nn_modules_unsafe`."""
    return [True] * len(guard_entries)


def skip_all_guards_unsafe(guard_entries: Sequence[Any]) -> list[bool]:
    """As `skip_guard_on_inbuilt_nn_modules_unsafe`."""
    return [True] * len(guard_entries)


def keep_portable_guards_unsafe(guard_entries: Sequence[Any]) -> list[bool]:
    """As `skip_guard_on_inbuilt_nn_modules_unsafe`."""
    return [True] * len(guard_entries)
