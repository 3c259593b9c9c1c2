"""How tensors look when printed: torch's form, to the letter."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from flambeau import dtypes
from flambeau.device import get_default_device
from flambeau.overriding import overridable
from flambeau.tensor import Tensor

Array = np.ndarray[Any, Any]

_DEFAULT: dict[str, Any] = {
    "precision": 4,
    "threshold": 1000,
    "edgeitems": 3,
    "linewidth": 80,
    "sci_mode": None,
}
_PROFILES: dict[str, dict[str, Any]] = {
    "default": {},
    "short": {"precision": 2, "edgeitems": 2},
    "full": {"threshold": math.inf},
}
_options = dict(_DEFAULT)


def set_printoptions(
    precision: int | None = None,
    threshold: float | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    profile: str | None = None,
    sci_mode: bool | None = None,
) -> None:
    """Set how tensors are printed; what is None stays, but for `sci_mode`.

    Args:
        precision: digits after the decimal point (4).
        threshold: more elements than this are summarised (1000).
        edgeitems: elements at each end of a summarised dimension (3).
        linewidth: characters of a line (80).
        profile: "default", "short" or "full", over which the others are set.
        sci_mode: scientific notation always or never; None decides by the values.
    """
    if profile is not None:
        _options.update({**_DEFAULT, **_PROFILES[profile]})
    given = {
        "precision": precision,
        "threshold": threshold,
        "edgeitems": edgeitems,
        "linewidth": linewidth,
    }
    _options.update({k: v for k, v in given.items() if v is not None})
    _options["sci_mode"] = sci_mode


def get_printoptions() -> dict[str, Any]:
    """The options that `set_printoptions` sets."""
    return dict(_options)


@contextlib.contextmanager
def printoptions(**options: Any) -> Iterator[None]:
    """Print with other options inside a `with`; arguments as of `set_printoptions`."""
    before = get_printoptions()
    set_printoptions(**options)
    try:
        yield
    finally:
        set_printoptions(**before)


class _Formatter:
    """One format for all numbers of a tensor, decided by the values that will be shown."""

    def __init__(self, values: Array, floating: bool) -> None:
        self.floating = floating
        self.integral = True
        self.scientific = False
        self.width = 1
        flat = values.reshape(-1)
        if not floating:
            self.width = max((len(str(v)) for v in flat.tolist()), default=1)
            return
        shown = flat[np.isfinite(flat) & (flat != 0)].astype(np.float64)
        if not shown.size:
            return
        low, high = np.abs(shown).min(), np.abs(shown).max()
        self.integral = bool((shown == np.ceil(shown)).all())
        wanted = _options["sci_mode"]
        with np.errstate(over="ignore"):
            spread = high / low
        self.scientific = (
            bool(spread > 1000.0 or high > 1.0e8 or low < 1.0e-4)
            if wanted is None
            else bool(wanted)
        )
        point = int(self.integral and not self.scientific)
        self.width = max(1, max(len(self._plain(v)) for v in shown.tolist()) + point)

    def _plain(self, value: Any) -> str:
        if self.scientific:
            return f"{value:.{_options['precision']}e}"
        return f"{value:.0f}" if self.integral else f"{value:.{_options['precision']}f}"

    def __call__(self, value: Any) -> str:
        if not self.floating:
            return str(value).rjust(self.width)
        text = self._plain(value)
        if self.integral and not self.scientific and math.isfinite(value):
            text += "."
        return text.rjust(self.width)


class _ComplexFormatter(_Formatter):
    """Real and imaginary parts, each in a format of its own."""

    def __init__(self, values: Array, floating: bool) -> None:
        self.parts = (_Formatter(values.real, True), _Formatter(values.imag, True))
        self.width = self.parts[0].width + self.parts[1].width + 2

    def __call__(self, value: Any) -> str:
        imaginary = self.parts[1](value.imag).lstrip()
        sign = "" if imaginary.startswith("-") else "+"
        return f"{self.parts[0](value.real)}{sign}{imaginary}j"


def _edges(array: Array) -> Array:
    """The elements that a summary shows."""
    count = _options["edgeitems"]
    for dim, n in enumerate(array.shape):
        if n > 2 * count:
            ends = np.r_[:count, n - count : n].astype(np.int64)
            array = np.take(array, ends, axis=dim)
    return array


def _text(array: Array, indent: int, summarise: bool, formatter: _Formatter) -> str:
    """The nested brackets of an array, continuation lines indented."""
    if array.ndim == 0:
        return formatter(array.item())
    count = _options["edgeitems"]
    cut = summarise and array.shape[0] > 2 * count
    if array.ndim == 1:
        if summarise and not count:
            items = ["..."]
        elif cut:
            items = [
                *map(formatter, array[:count].tolist()),
                " ...",
                *map(formatter, array[-count:].tolist()),
            ]
        else:
            items = [formatter(v) for v in array.tolist()]
        per_line = max(1, (_options["linewidth"] - indent) // (formatter.width + 2))
        lines = [", ".join(items[i : i + per_line]) for i in range(0, len(items), per_line)]
        return "[" + (",\n" + " " * (indent + 1)).join(lines) + "]"
    rows = range(array.shape[0])
    chosen = [*rows[:count], None, *rows[len(rows) - count :]] if cut else list(rows)
    parts = [
        "..." if i is None else _text(array[i], indent + 1, summarise, formatter) for i in chosen
    ]
    return "[" + ("," + "\n" * (array.ndim - 1) + " " * (indent + 1)).join(parts) + "]"


def _contents(array: Array, indent: int, floating: bool) -> str:
    if array.size == 0:
        return "[]"
    summarise = array.size > _options["threshold"]
    kind = _ComplexFormatter if array.dtype.kind == "c" else _Formatter
    return _text(array, indent, summarise, kind(_edges(array) if summarise else array, floating))


def _suffixes(t: Tensor) -> list[str]:
    default = dtypes.get_default_dtype()
    found = []
    if t.device.type != get_default_device().type:
        found.append(f"device='{t.device}'")
    if t.is_meta or (t.numel() == 0 and t.ndim != 1) or (t.numel() and not _options["edgeitems"]):
        found.append(f"size={tuple(t._shape)}")
    usual = (default,) if t.is_meta or t.numel() == 0 else (default, dtypes.int64, dtypes.bool)
    usual = (*usual, default.to_complex()) if t.numel() and not t.is_meta else usual
    if t.dtype not in usual:
        found.append(f"dtype={t.dtype}")
    if t.grad_fn is not None:
        found.append(f"grad_fn=<{t.grad_fn.name()}>")
    elif t.requires_grad:
        found.append("requires_grad=True")
    return found


def tensor_text(t: Tensor, *, tensor_contents: str | None = None) -> str:
    """A tensor as `repr` and `print` show it; executes what is pending.

    Args:
        tensor_contents: shown in place of the values.
    """
    kind = type(t)
    parameter = kind.__name__ == "Parameter" and kind.__module__.startswith("flambeau.")
    prefix = "tensor(" if kind is Tensor or parameter else f"{kind.__name__}("
    text = tensor_contents
    if text is None and t.is_meta:
        text = "..."
    elif text is None:
        array = t._array()
        if t.dtype.is_floating_point and t.dtype.itemsize < 4:
            array = array.astype(np.float32)
        text = _contents(array, len(prefix), t.dtype.is_floating_point)
    text = prefix + text
    last = len(text) - text.rfind("\n") + 1
    for suffix in _suffixes(t):
        if last + len(suffix) + 2 > _options["linewidth"]:
            text += ",\n" + " " * len(prefix) + suffix
            last = len(prefix) + len(suffix)
        else:
            text += ", " + suffix
            last += len(suffix) + 2
    text += ")"
    if not parameter and getattr(t, "_is_param", False):
        text = f"Parameter({text})"
    return text


def _shown(t: Tensor) -> str:
    return t.__repr__()


for _name, _function in (("__repr__", tensor_text), ("__str__", _shown)):
    setattr(Tensor, _name, overridable(_function))
