"""Window functions: those of `signal.windows`, and torch's older names of five of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from flambeau import dtypes
from flambeau.dtype import dtype as DType
from flambeau.layout import strided
from flambeau.ops.rows import NAMES
from flambeau.ops.spaces import only_in
from flambeau.ops.table import composite
from flambeau.tensor import Tensor


def _steps(name: str, count: int, options: dict[str, Any], first: float, step: float) -> Tensor:
    """first, first + step, ...: count numbers.

    Raises:
        ValueError: a length below 0, or a layout or dtype that windows do not have.
    """
    dtype = options["dtype"] or dtypes.get_default_dtype()
    if count < 0:
        raise ValueError(f"{name} requires non-negative window length, got M={count}")
    if options["layout"] not in (None, strided):
        raise ValueError(
            f"{name} is implemented for strided tensors only, got: {options['layout']}"
        )
    if dtype not in (dtypes.float32, dtypes.float64):
        raise ValueError(f"{name} expects float32 or float64 dtypes, got: {dtype}")
    last = first + (count - 1) * step
    found: Tensor = NAMES["linspace"](
        first, last, count, dtype=dtypes.float64, device=options["device"]
    )
    return found


def _finished(window: Tensor, options: dict[str, Any]) -> Tensor:
    dtype = options["dtype"] or dtypes.get_default_dtype()
    found = window.to(dtype)
    return found.requires_grad_() if options["requires_grad"] else found


def _span(count: int, sym: bool) -> int:
    """The number of steps of a period."""
    return max(count - 1 if sym else count, 1)


def _cosines(
    name: str, count: int, sym: bool, weights: Iterable[float], options: dict[str, Any]
) -> Tensor:
    """sum over i of (-1)^i weights[i] cos(2 pi i n / N)."""
    angle = _steps(name, count, options, 0.0, 2.0 * math.pi / _span(count, sym))
    if count <= 1:
        return _finished(NAMES["ones_like"](angle), options)
    total: Any = 0.0
    for i, weight in enumerate(weights):
        total = total + (angle * float(i)).cos() * ((-1) ** i * weight)
    return _finished(total, options)


def _options(dtype: DType | None, layout: Any, device: Any, requires_grad: bool) -> dict[str, Any]:
    return {"dtype": dtype, "layout": layout, "device": device, "requires_grad": requires_grad}


def _window(name: str) -> Callable[[Any], Any]:
    return only_in(f"signal.windows.{name}", out=False, autocast=None)


@_window("general_cosine")
def signal_windows_general_cosine(
    M: int, *, a: Any, sym: bool = True, dtype: DType | None = None, layout: Any = None,
    device: Any = None, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """Sum of cosines with weights a and alternating signs.

    Args:
        M: length.
        a: weights of cos(0), cos(z), cos(2 z), ...
        sym: symmetric; otherwise the first M of M + 1, for spectra.

    Raises:
        ValueError: no weights, or what no window has.
        TypeError: weights that are no sequence.
    """
    if not isinstance(a, Iterable):
        raise TypeError("Coefficients must be a list/tuple")
    weights = list(a)
    if not weights:
        raise ValueError("Coefficients cannot be empty")
    options = _options(dtype, layout, device, requires_grad)
    return _cosines("general_cosine", M, sym, weights, options)


@_window("general_hamming")
def signal_windows_general_hamming(
    M: int, *, alpha: float = 0.54, sym: bool = True, dtype: DType | None = None,
    layout: Any = None, device: Any = None, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """alpha - (1 - alpha) cos(2 pi n / N)."""
    options = _options(dtype, layout, device, requires_grad)
    return _cosines("general_hamming", M, sym, (alpha, 1.0 - alpha), options)


@_window("hamming")
def signal_windows_hamming(
    M: int, *, sym: bool = True, dtype: DType | None = None, layout: Any = None,
    device: Any = None, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """0.54 - 0.46 cos(2 pi n / N)."""
    options = _options(dtype, layout, device, requires_grad)
    return _cosines("hamming", M, sym, (0.54, 0.46), options)


@_window("hann")
def signal_windows_hann(
    M: int, *, sym: bool = True, dtype: DType | None = None, layout: Any = None,
    device: Any = None, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """(1 - cos(2 pi n / N)) / 2."""
    options = _options(dtype, layout, device, requires_grad)
    return _cosines("hann", M, sym, (0.5, 0.5), options)


@_window("blackman")
def signal_windows_blackman(
    M: int, *, sym: bool = True, dtype: DType | None = None, layout: Any = None,
    device: Any = None, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """0.42 - 0.5 cos(2 pi n / N) + 0.08 cos(4 pi n / N)."""
    options = _options(dtype, layout, device, requires_grad)
    return _cosines("blackman", M, sym, (0.42, 0.5, 0.08), options)


@_window("nuttall")
def signal_windows_nuttall(
    M: int, *, sym: bool = True, dtype: DType | None = None, layout: Any = None,
    device: Any = None, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """Nuttall's minimum 4-term Blackman-Harris window.

    Reference: A. Nuttall, Some Windows with Very Good Sidelobe Behavior, IEEE Trans. ASSP 29(1),
    1981.
    """
    options = _options(dtype, layout, device, requires_grad)
    return _cosines("nuttall", M, sym, (0.3635819, 0.4891775, 0.1365995, 0.0106411), options)


@_window("bartlett")
def signal_windows_bartlett(
    M: int, *, sym: bool = True, dtype: DType | None = None, layout: Any = None,
    device: Any = None, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """1 - |2 n / N - 1|, a triangle."""
    options = _options(dtype, layout, device, requires_grad)
    place = _steps("bartlett", M, options, -1.0, 2.0 / _span(M, sym))
    return _finished(1.0 - place.abs() if M > 1 else NAMES["ones_like"](place), options)


@_window("cosine")
def signal_windows_cosine(
    M: int, *, sym: bool = True, dtype: DType | None = None, layout: Any = None,
    device: Any = None, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """sin(pi (n + 0.5) / M), half of a sine."""
    options = _options(dtype, layout, device, requires_grad)
    step = math.pi / max(M + 1 if not sym and M > 1 else M, 1)
    return _finished(_steps("cosine", M, options, 0.5 * step, step).sin(), options)


@_window("exponential")
def signal_windows_exponential(
    M: int, *, center: float | None = None, tau: float = 1.0, sym: bool = True,
    dtype: DType | None = None, layout: Any = None, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """exp(-|n - center| / tau).

    Raises:
        ValueError: tau not above 0, or a center of a symmetric window.
    """
    if tau <= 0:
        raise ValueError(f"Tau must be positive, got: {tau} instead.")
    if sym and center is not None:
        raise ValueError("Center must be None for symmetric windows")
    if center is None:
        center = (M if not sym and M > 1 else M - 1) / 2.0
    options = _options(dtype, layout, device, requires_grad)
    place = _steps("exponential", M, options, -center / tau, 1.0 / tau)
    return _finished((-place.abs()).exp(), options)


@_window("gaussian")
def signal_windows_gaussian(
    M: int, *, std: float = 1.0, sym: bool = True, dtype: DType | None = None, layout: Any = None,
    device: Any = None, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """exp(-(n / std)^2 / 2), n counted from the middle.

    Raises:
        ValueError: std not above 0.
    """
    if std <= 0:
        raise ValueError(f"Standard deviation must be positive, got: {std} instead.")
    options = _options(dtype, layout, device, requires_grad)
    step = 1.0 / (std * math.sqrt(2.0))
    first = -(M if not sym and M > 1 else M - 1) / 2.0 * step
    place = _steps("gaussian", M, options, first, step)
    return _finished((-(place * place)).exp(), options)


@_window("kaiser")
def signal_windows_kaiser(
    M: int, *, beta: float = 12.0, sym: bool = True, dtype: DType | None = None,
    layout: Any = None, device: Any = None, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """i0(beta sqrt(1 - (2 n / N - 1)^2)) / i0(beta).

    Raises:
        ValueError: beta below 0.
    """
    if beta < 0:
        raise ValueError(f"beta must be non-negative, got: {beta} instead.")
    options = _options(dtype, layout, device, requires_grad)
    place = _steps("kaiser", M, options, -1.0, 2.0 / _span(M, sym))
    if M <= 1:
        return _finished(NAMES["ones_like"](place), options)
    inside = NAMES["clamp"](1.0 - place * place, min=0).sqrt()
    i0 = NAMES["i0"]
    whole = i0(NAMES["tensor"](float(beta), dtype=dtypes.float64))
    return _finished(i0(inside * float(beta)) / whole, options)


# -- torch's older names, periodic unless they are asked for otherwise -----------------------------


@composite(method=False)
def hann_window(
    window_length: int, periodic: bool = True, *, dtype: DType | None = None, layout: Any = None,
    device: Any = None, pin_memory: bool = False, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """`signal.windows.hann`, periodic by default."""
    options = _options(dtype, layout, device, requires_grad)
    return _older("hann_window", window_length, periodic, (0.5, 0.5), options)


@composite(method=False)
def hamming_window(
    window_length: int, periodic: bool = True, alpha: float = 0.54, beta: float = 0.46, *,
    dtype: DType | None = None, layout: Any = None, device: Any = None, pin_memory: bool = False,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """alpha - beta cos(2 pi n / N), periodic by default."""
    options = _options(dtype, layout, device, requires_grad)
    return _older("hamming_window", window_length, periodic, (alpha, beta), options)


@composite(method=False)
def blackman_window(
    window_length: int, periodic: bool = True, *, dtype: DType | None = None, layout: Any = None,
    device: Any = None, pin_memory: bool = False, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """`signal.windows.blackman`, periodic by default."""
    options = _options(dtype, layout, device, requires_grad)
    return _older("blackman_window", window_length, periodic, (0.42, 0.5, 0.08), options)


@composite(method=False)
def bartlett_window(
    window_length: int, periodic: bool = True, *, dtype: DType | None = None, layout: Any = None,
    device: Any = None, pin_memory: bool = False, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """`signal.windows.bartlett`, periodic by default."""
    _refuse_negative("bartlett_window", window_length)
    return signal_windows_bartlett(
        window_length, sym=not periodic, dtype=dtype, layout=layout, device=device,
        requires_grad=requires_grad,
    )  # fmt: skip


@composite(method=False)
def kaiser_window(
    window_length: int, periodic: bool = True, beta: float = 12.0, *, dtype: DType | None = None,
    layout: Any = None, device: Any = None, pin_memory: bool = False, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """`signal.windows.kaiser`, periodic by default."""
    _refuse_negative("kaiser_window", window_length)
    return signal_windows_kaiser(
        window_length, beta=beta, sym=not periodic, dtype=dtype, layout=layout, device=device,
        requires_grad=requires_grad,
    )  # fmt: skip


def _refuse_negative(name: str, count: int) -> None:
    if count < 0:
        raise RuntimeError(f"{name} requires non-negative window_length, got window_length={count}")


def _older(name: str, count: int, periodic: bool, weights: Any, options: dict[str, Any]) -> Tensor:
    _refuse_negative(name, count)
    return _cosines(name, count, not periodic, weights, options)
