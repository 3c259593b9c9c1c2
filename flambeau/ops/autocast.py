"""What autocast does to a call: the arguments converted as the row's policy says.

A row's policy is its field `autocast` (`ir.graph.Op`). Rows without one are never asked, so that
nothing is paid for autocast where it cannot matter; the others read one switch.

Note [Weights are converted once]
A float32 leaf that wants a gradient is converted once within the outermost region, as in torch:
its uses share one low-precision tensor, so its gradients are summed before they are converted
back. A write to the leaf, and a change of grad mode that the first conversion did not see, convert
it again.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

from flambeau import dtypes
from flambeau.dtype import dtype as DType
from flambeau.ops.rows import NAMES
from flambeau.tape import modes, without_autocast
from flambeau.tensor import Tensor

#: Device type -> the dtype of its regions when none is given, as in torch.
DEFAULTS = {
    "cpu": dtypes.bfloat16,
    "cuda": dtypes.float16,
    "xpu": dtypes.float16,
    "mps": dtypes.float16,
}


class _State(threading.local):
    """What a thread keeps beside the switch in `modes`."""

    def __init__(self) -> None:
        self.dtypes: dict[str, DType] = dict(DEFAULTS)
        self.cache_enabled = True
        self.nesting = 0
        self.cache: dict[int, tuple[Tensor, int, Tensor]] = {}


state = _State()


def cast_call(policy: str, call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Call a row inside a region: its arguments converted, its body left alone.

    Args:
        policy: the row's.
        call: the row's function.
        args: positional arguments; tensors, also in lists and tuples, are converted.
        kwargs: keyword arguments, likewise.
    """
    enabled = modes.autocast
    assert enabled is not None
    with without_autocast():
        if policy != "exempt":
            values = [*args, *kwargs.values()]
            found = _floats(values, enabled)
            if found:
                target = _target(policy, enabled[found[0]._cell.device.type], found)
                values = [_converted(v, target, enabled) for v in values]
                args = values[: len(args)]
                kwargs = dict(zip(kwargs, values[len(args) :], strict=True))
        return call(*args, **kwargs)


def _floats(values: Any, enabled: dict[str, DType]) -> list[Tensor]:
    """The tensors among some values, and in lists of them, that autocast may convert."""
    found: list[Tensor] = []
    for v in values:
        if isinstance(v, Tensor):
            if _eligible(v, enabled):
                found.append(v)
        elif isinstance(v, (list, tuple)):
            found += _floats(v, enabled)
    return found


def _eligible(t: Tensor, enabled: dict[str, DType]) -> bool:
    return (
        t.dtype.is_floating_point
        and t.dtype is not dtypes.float64
        and t._cell.device.type in enabled
    )


def _target(policy: str, lower: DType, found: list[Tensor]) -> DType:
    if policy == "lower":
        return lower
    if policy == "float32" or any(t.dtype is dtypes.float32 for t in found):
        return dtypes.float32
    return lower


def _converted(value: Any, target: DType, enabled: dict[str, DType]) -> Any:
    if isinstance(value, Tensor):
        if value.dtype is target or not _eligible(value, enabled):
            return value
        if (
            value._rg
            and state.cache_enabled
            and value.dtype is dtypes.float32
            and value._grad_fn is None
            and value._base is None
            and target is enabled[value._cell.device.type]
        ):
            return _cached(value, target)
        return NAMES["to_dtype"](value, target)
    if type(value) in (list, tuple):
        return type(value)(_converted(v, target, enabled) for v in value)
    return value


def _cached(leaf: Tensor, target: DType) -> Tensor:
    """The conversion of a leaf, made once (Note [Weights are converted once])."""
    known = state.cache.get(id(leaf))
    if known is not None:
        _, version, made = known
        if (
            made.dtype is target
            and version == leaf._cell.version
            and made._inference == modes.inference
            and (made._rg or not modes.grad)
        ):
            return made
    made = NAMES["to_dtype"](leaf, target)
    state.cache[id(leaf)] = leaf, leaf._cell.version, made
    return made


def enable(device_type: str, enabled: bool) -> None:
    """Switch autocast of a device type on, with the dtype set for it, or off."""
    now = {k: v for k, v in (modes.autocast or {}).items() if k != device_type}
    if enabled:
        now[device_type] = state.dtypes[device_type]
    modes.autocast = now or None


def set_dtype(device_type: str, dtype: DType) -> None:
    """Set the dtype of a device type's regions, also of the one that is on."""
    state.dtypes[device_type] = dtype
    if modes.autocast is not None and device_type in modes.autocast:
        modes.autocast = {**modes.autocast, device_type: dtype}


@contextlib.contextmanager
def restored(enabled: dict[str, DType] | None) -> Iterator[None]:
    """While inside, autocast is as `modes.autocast` said earlier; what it converts ends with it."""
    was, modes.autocast = modes.autocast, enabled
    state.nesting += 1
    try:
        yield
    finally:
        modes.autocast = was
        state.nesting -= 1
        if not state.nesting:
            state.cache.clear()
