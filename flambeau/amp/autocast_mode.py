"""Regions in which operations choose their dtype, and the functions that ask about them.

What an operation does in a region is a field of its row (`ir.graph.Op.autocast`), and what is done
to its arguments stands in `ops/autocast.py`; here is what switches it on and off.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from flambeau import dtypes
from flambeau.device import TYPES
from flambeau.dtype import dtype as DType
from flambeau.ops.autocast import enable, set_dtype, state
from flambeau.tape import modes
from flambeau.tensor import Tensor

#: Devices that are there; regions of others are switched off, with a warning.
_PRESENT = ("cpu",)


def _check(device_type: str) -> None:
    if device_type not in TYPES:
        raise RuntimeError(
            f"Expected one of {', '.join(TYPES)} device type at start of device string: "
            f"{device_type}"
        )
    if device_type not in state.dtypes:
        raise RuntimeError("unsupported scalarType")


def is_autocast_available(device_type: str) -> bool:
    """Whether there are regions for a type of device (it need not be there)."""
    if device_type not in TYPES:
        _check(device_type)
    return device_type in state.dtypes


def is_autocast_enabled(device_type: str = "cuda") -> bool:
    """Whether this thread is in a region of a type of device."""
    _check(device_type)
    return modes.autocast is not None and device_type in modes.autocast


def set_autocast_enabled(device_type: Any, enabled: bool | None = None) -> None:
    """Switch autocast on or off: `(device_type, enabled)`, or `(enabled)` for `"cuda"`."""
    if enabled is None:
        device_type, enabled = "cuda", device_type
    _check(device_type)
    enable(device_type, bool(enabled))


def get_autocast_dtype(device_type: str) -> DType:
    """The dtype that products have in the regions of a type of device."""
    _check(device_type)
    return state.dtypes[device_type]


def set_autocast_dtype(device_type: str, dtype: DType) -> None:
    """Set the dtype that products have in the regions of a type of device."""
    _check(device_type)
    set_dtype(device_type, dtype)


def is_autocast_cache_enabled() -> bool:
    """Whether a weight is converted once within the outermost region."""
    return state.cache_enabled


def set_autocast_cache_enabled(enabled: bool) -> None:
    """Set whether a weight is converted once within the outermost region."""
    state.cache_enabled = bool(enabled)


def clear_autocast_cache() -> None:
    """Forget the converted weights."""
    state.cache.clear()


def autocast_increment_nesting() -> int:
    """Enter one more region; returns how many there are now."""
    state.nesting += 1
    return state.nesting


def autocast_decrement_nesting() -> int:
    """Leave a region; returns how many there are now."""
    state.nesting -= 1
    return state.nesting


def _older(name: str, device_type: str) -> tuple[Callable[..., Any], ...]:
    """The forms of a time when every type of device had functions of its own."""

    def form(older: str, newer: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any) -> Any:
            _deprecated(older, f"{newer}({', '.join([repr(device_type), *map(repr, args)])})")
            return call(device_type, *args)

        run.__name__ = run.__qualname__ = older
        run.__doc__ = f"`{newer}({device_type!r}, ...)`."
        return run

    return (
        form(f"is_autocast_{name}_enabled", "is_autocast_enabled", is_autocast_enabled),
        form(f"set_autocast_{name}_enabled", "set_autocast_enabled", set_autocast_enabled),
        form(f"get_autocast_{name}_dtype", "get_autocast_dtype", get_autocast_dtype),
        form(f"set_autocast_{name}_dtype", "set_autocast_dtype", set_autocast_dtype),
    )


def _deprecated(what: str, instead: str) -> None:
    prefix = dtypes.prefix[0]
    warnings.warn(
        f"{prefix}.{what}() is deprecated. Please use {prefix}.{instead} instead.",
        DeprecationWarning,
        stacklevel=3,
    )


(
    is_autocast_cpu_enabled,
    set_autocast_cpu_enabled,
    get_autocast_cpu_dtype,
    set_autocast_cpu_dtype,
) = _older("cpu", "cpu")
_, _, get_autocast_gpu_dtype, set_autocast_gpu_dtype = _older("gpu", "cuda")


class autocast:
    """A region in which matrix products run in a dtype of 16 bits and the rest as is best for it.

    A context manager, and a decorator. Where it is on, operations of the first kind (products,
    attention, convolutions) convert their float arguments to `dtype`; those of the second kind
    (losses, `prod`, quantiles, ...) to float32; those of the third (`cat`, `stack`) to the widest
    dtype among them. All others compute in what they are given. float64 is never converted, and
    neither are in-place forms nor calls with `out=`.

    Args:
        device_type: `"cpu"`; for a device that is not there, the region is off, with a warning.
        dtype: bfloat16 or float16; by default what `get_autocast_dtype` says.
        enabled: False makes a region without autocast, also inside another.
        cache_enabled: whether a float32 weight is converted once within the outermost region.

    Gradient: gradients have the dtypes of what they belong to: float32 for a float32 weight. Run
        the backward pass outside of the region; it computes in the dtypes of the forward pass.

    Raises:
        RuntimeError: a type of device that there are no regions for.

    Example:
        >>> import flambeau
        >>> layer, x = flambeau.nn.Linear(3, 2), flambeau.ones(1, 3)
        >>> with flambeau.autocast("cpu", flambeau.bfloat16):
        ...     y = layer(x)
        >>> y.float().sum().backward()
        >>> y.dtype, layer.weight.grad.dtype
        (flambeau.bfloat16, flambeau.float32)

    Reference:
        Micikevicius et al., Mixed Precision Training (arXiv:1710.03740).
    """

    def __init__(
        self,
        device_type: str,
        dtype: DType | None = None,
        enabled: bool = True,
        cache_enabled: bool | None = None,
    ) -> None:
        if not isinstance(device_type, str):
            raise ValueError(f"Expected `device_type` of type `str`, got: `{type(device_type)}`")
        _check(device_type)
        self.device = device_type
        self.fast_dtype = state.dtypes[device_type] if dtype is None else dtype
        self._cache_enabled = state.cache_enabled if cache_enabled is None else cache_enabled
        self._enabled = enabled and _usable(device_type, self.fast_dtype)
        self._before: list[tuple[bool, DType, bool]] = []

    def __enter__(self) -> autocast:
        kind = self.device
        self._before.append((is_autocast_enabled(kind), state.dtypes[kind], state.cache_enabled))
        state.dtypes[kind] = self.fast_dtype
        enable(kind, self._enabled)
        state.nesting += 1
        state.cache_enabled = self._cache_enabled
        return self

    def __exit__(self, *error: object) -> None:
        state.nesting -= 1
        if not state.nesting:
            state.cache.clear()
        enabled, state.dtypes[self.device], state.cache_enabled = self._before.pop()
        enable(self.device, enabled)

    def __call__(self, func: Callable[..., Any]) -> Callable[..., Any]:
        if not callable(func):
            raise TypeError(
                f"autocast()(func) requires a callable, but got {type(func).__name__}. Did you "
                "mean to use autocast as a context manager? For example:\n"
                "    with torch.autocast(device_type=...):\n        output = model(input)"
            )
        return autocast_decorator(self, func)


def _usable(device_type: str, dtype: DType) -> bool:
    """Whether a region can be on; says why not."""
    if device_type not in _PRESENT:
        warnings.warn(f"{device_type.upper()} is not available. Disabling autocast.", stacklevel=3)
        return False
    if dtype not in (dtypes.bfloat16, dtypes.float16):
        warnings.warn(
            f"In {device_type.upper()} autocast, but the target dtype is not supported. Disabling "
            f"autocast.\n{device_type.upper()} Autocast only supports dtypes of "
            f"{dtypes.bfloat16}, {dtypes.float16} currently.",
            stacklevel=3,
        )
        return False
    return True


def autocast_decorator(autocast_instance: autocast, func: Callable[..., Any]) -> Callable[..., Any]:
    """A function that runs in a region each time it is called."""

    @functools.wraps(func)
    def decorate_autocast(*args: Any, **kwargs: Any) -> Any:
        with autocast_instance:
            return func(*args, **kwargs)

    return decorate_autocast


def _cast(value: Any, device_type: str, dtype: DType) -> Any:
    """A value with every float tensor in it converted, except float64."""
    if isinstance(value, Tensor):
        wanted = (
            value.is_floating_point()
            and value.device.type == device_type
            and value.dtype is not dtypes.float64
        )
        return value.to(dtype) if wanted else value
    if isinstance(value, (str, bytes, np.ndarray)):
        return value
    if isinstance(value, Mapping):
        return {
            _cast(k, device_type, dtype): _cast(v, device_type, dtype) for k, v in value.items()
        }
    if isinstance(value, Iterable):
        found = (_cast(v, device_type, dtype) for v in value)
        return type(value)(found) if isinstance(value, (list, tuple)) else found
    return value


def custom_fwd(
    fwd: Callable[..., Any] | None = None,
    *,
    device_type: str,
    cast_inputs: DType | None = None,
) -> Any:
    """Decorate the `forward` of a `Function`, so that it knows about regions.

    Args:
        fwd: the method.
        device_type: whose regions.
        cast_inputs: in a region, convert float tensors to this dtype and run `forward` without
            autocast; None runs it as it is called.

    Raises:
        ValueError: a `device_type` that is no string.
    """
    if not isinstance(device_type, str):
        raise ValueError(f"Expected `device_type` of type `str`, got: `{type(device_type)}`")
    if fwd is None:
        return functools.partial(custom_fwd, device_type=device_type, cast_inputs=cast_inputs)

    @functools.wraps(fwd)
    def decorate_fwd(*args: Any, **kwargs: Any) -> Any:
        on = is_autocast_enabled(device_type)
        args[0]._dtype = get_autocast_dtype(device_type)
        args[0]._fwd_used_autocast = on and cast_inputs is None
        if cast_inputs is None or not on:
            return fwd(*args, **kwargs)
        with autocast(device_type=device_type, enabled=False):
            return fwd(
                *_cast(args, device_type, cast_inputs), **_cast(kwargs, device_type, cast_inputs)
            )

    return decorate_fwd


def custom_bwd(bwd: Callable[..., Any] | None = None, *, device_type: str) -> Any:
    """Decorate the `backward` of a `Function` whose `forward` has `custom_fwd`: it runs in the same
    state of autocast as `forward` did.

    Raises:
        ValueError: a `device_type` that is no string.
    """
    if not isinstance(device_type, str):
        raise ValueError(f"Expected `device_type` of type `str`, got: `{type(device_type)}`")
    if bwd is None:
        return functools.partial(custom_bwd, device_type=device_type)

    @functools.wraps(bwd)
    def decorate_bwd(*args: Any, **kwargs: Any) -> Any:
        ctx = args[0]
        with autocast(device_type, enabled=ctx._fwd_used_autocast, dtype=ctx._dtype):
            return bwd(*args, **kwargs)

    return decorate_bwd
