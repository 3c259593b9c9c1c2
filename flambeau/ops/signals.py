"""Signals: short-time Fourier transforms, finite differences, mantissa and exponent, checksums."""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau import dtypes, return_types
from flambeau.ops.fourier import fft_fft, fft_ifft, fft_irfft, fft_rfft
from flambeau.ops.movement import slice_dim
from flambeau.ops.reduction import _axes
from flambeau.ops.rows import FUNCTIONAL, NAMES
from flambeau.ops.scan import widened
from flambeau.ops.table import composite, emit, emit_many, primitive
from flambeau.size import wrap_dim
from flambeau.tensor import Tensor

# -- short-time Fourier transforms -----------------------------------------------------------------


def _window(name: str, window: Any, win_length: int, n_fft: int, like: Tensor) -> Tensor:
    """The window in the middle of n_fft places, ones where there is none."""
    if window is None:
        window = NAMES["ones"](win_length, dtype=like.dtype.to_real(), device=like.device)
    if window.ndim != 1 or window._shape[0] != win_length:
        raise RuntimeError(
            f"{name}: expected a 1D window tensor of size equal to win_length={win_length}, but "
            f"got window with size {list(window.shape)}"
        )
    left = (n_fft - win_length) // 2
    if n_fft == win_length:
        return window
    found: Tensor = FUNCTIONAL["pad"](window, (left, n_fft - win_length - left))
    return found


@composite(autocast="float32")
def stft(
    input: Tensor,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Tensor | None = None,
    center: bool = True,
    pad_mode: str = "reflect",
    normalized: bool = False,
    onesided: bool | None = None,
    return_complex: bool | None = None,
    align_to_window: bool | None = None,
) -> Tensor:
    """Fourier transforms of overlapping pieces of a signal.

    Args:
        input: (L) or (B, L).
        n_fft: size of a piece's transform.
        hop_length: distance of pieces (default n_fft // 4).
        win_length: size of the window (default n_fft), which stands in the middle of a piece.
        center: whether pieces are centred on their places; the signal is padded for that.
        normalized: divide by sqrt(n_fft).
        onesided: non-negative frequencies only (default for real signals).

    Returns:
        (..., N, T) complex; with `return_complex=False` (..., N, T, 2).
    """
    if input.dtype.category < 2:
        raise RuntimeError(
            "stft expected a tensor of floating point or complex values, got " + input.dtype.word
        )
    if input.ndim not in (1, 2):
        raise RuntimeError(f"stft expected a 1D or 2D tensor, got {input.ndim}D")
    hop = n_fft // 4 if hop_length is None else hop_length
    length = n_fft if win_length is None else win_length
    complex_in = input.dtype.is_complex or (window is not None and window.dtype.is_complex)
    if return_complex is None:
        if not complex_in:
            raise RuntimeError(
                "stft requires the return_complex parameter be given for real inputs"
            )
        return_complex = True
    signal = input if input.ndim == 2 else input.unsqueeze(0)
    if center:
        half = n_fft // 2
        signal = FUNCTIONAL["pad"](signal.unsqueeze(1), (half, half), pad_mode).squeeze(1)
    if not 0 < n_fft <= signal._shape[-1]:
        raise RuntimeError(
            f"stft({input.dtype.word}{list(input.shape)}, n_fft={n_fft}): expected 0 < n_fft <= "
            f"{signal._shape[-1]}, but got n_fft={n_fft}"
        )
    if hop <= 0:
        raise RuntimeError(f"stft: expected hop_length > 0, but got hop_length={hop}")
    if not 0 < length <= n_fft:
        raise RuntimeError(f"stft: expected 0 < win_length <= n_fft, but got win_length={length}")
    shape = _window("stft", window, length, n_fft, input)
    pieces = signal.unfold(-1, n_fft, hop) * shape
    norm = "ortho" if normalized else None
    if onesided is None:
        onesided = not complex_in
    if onesided and complex_in:
        raise RuntimeError("Cannot have onesided output if window or input is complex")
    found = (fft_rfft if onesided else fft_fft)(pieces, None, -1, norm).mT
    found = found if input.ndim == 2 else found.squeeze(0)
    return found if return_complex else NAMES["view_as_real"](found)


@composite()
def istft(
    input: Tensor,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Tensor | None = None,
    center: bool = True,
    normalized: bool = False,
    onesided: bool | None = None,
    length: int | None = None,
    return_complex: bool = False,
) -> Tensor:
    """The signal whose `stft` is nearest to input, by overlapping pieces.

    Reference: D. Griffin and J. Lim, Signal Estimation from Modified Short-Time Fourier Transform,
    IEEE Trans. ASSP 32(2), 1984.
    """
    if not input.dtype.is_complex:
        raise RuntimeError(
            "istft requires a complex-valued input tensor matching the output from stft with "
            "return_complex=True."
        )
    if input.ndim not in (2, 3):
        raise RuntimeError(f"istft expected a tensor with 2 or 3 dimensions, but got {input.ndim}")
    hop = n_fft // 4 if hop_length is None else hop_length
    reach = n_fft if win_length is None else win_length
    half = onesided if onesided is not None else input._shape[-2] != n_fft
    wanted = n_fft // 2 + 1 if half else n_fft
    if input._shape[-2] != wanted:
        raise RuntimeError(
            f"istft expected the frequency dimension (3rd to the last) of the input tensor to "
            f"match n_fft / 2 + 1 = {wanted} when onesided={half}, but got {input._shape[-2]}"
        )
    if not 0 < hop <= reach:
        raise RuntimeError(f"istft expected 0 < hop_length <= win_length, but got {hop}")
    if not 0 < reach <= n_fft:
        raise RuntimeError(f"istft expected 0 < win_length <= n_fft, but got {reach}")
    spectra = (input if input.ndim == 3 else input.unsqueeze(0)).mT
    norm = "ortho" if normalized else None
    if return_complex:
        pieces = fft_ifft(spectra, n_fft, -1, norm)
    else:  # half of the frequencies says all of a real signal
        pieces = fft_irfft(spectra, n_fft, -1, norm)
    shape = _window("istft", window, reach, n_fft, input)
    count = spectra._shape[-2]
    total = n_fft + hop * (count - 1)
    place = NAMES["arange"](n_fft) + NAMES["arange"](count).unsqueeze(1) * hop

    def overlapped(parts: Tensor) -> Tensor:
        start = NAMES["zeros"]((parts._shape[0], total), dtype=parts.dtype)
        flat = parts.reshape(parts._shape[0], -1)
        return start.index_add(1, place.reshape(-1), flat)

    signal = overlapped(pieces * shape)
    energy = overlapped((shape * shape).expand(1, count, n_fft))
    first = n_fft // 2 if center else 0
    last = total - n_fft // 2 if center and length is None else total
    if length is not None:
        last = min(first + length, total)
    kept = slice_dim(energy, 1, first, last, 1)
    if bool((kept.abs() < 1e-11).any()):
        raise RuntimeError(f"window overlap add min: {float(kept.abs().min())}")
    found = slice_dim(signal, 1, first, last, 1) / kept
    if length is not None and found._shape[1] < length:
        found = FUNCTIONAL["pad"](found, (0, length - found._shape[1]))
    return found if input.ndim == 3 else found.squeeze(0)


# -- differences -----------------------------------------------------------------------------------


def _slopes(input: Tensor, d: int, spacing: Any, edge_order: int) -> Tensor:
    """The derivative along a dimension: second order inside, `edge_order` at the ends."""
    n = input._shape[d]

    def part(first: int, last: int) -> Tensor:
        return slice_dim(input, d, first, last, 1)

    if isinstance(spacing, Tensor):
        steps = NAMES["diff"](spacing).reshape(-1, *(1,) * (input.ndim - 1 - d))
        h = [slice_dim(steps, 0, i, n - 1 - (1 - i) if i < 2 else n, 1) for i in (0, 1)]
        below, above = h[0], h[1]
        ends = [steps[k : k + 1] for k in (0, 1, n - 2, n - 3)] if n > 2 else [steps[:1]] * 4
    else:
        below = above = float(spacing)
        ends = [float(spacing)] * 4
    inside = part(2, n) * (below / (above * (below + above)))
    inside = inside + part(1, n - 1) * ((above - below) / (below * above))
    inside = inside - part(0, n - 2) * (above / (below * (below + above)))
    if edge_order == 1:
        first = (part(1, 2) - part(0, 1)) / ends[0]
        last = (part(n - 1, n) - part(n - 2, n - 1)) / ends[2]
    else:
        a, b = ends[0], ends[1]
        first = part(0, 1) * (-(2.0 * a + b) / (a * (a + b)))
        first = first + part(1, 2) * ((a + b) / (a * b)) - part(2, 3) * (a / (b * (a + b)))
        a, b = ends[2], ends[3]
        last = part(n - 1, n) * ((2.0 * a + b) / (a * (a + b)))
        last = last - part(n - 2, n - 1) * ((a + b) / (a * b))
        last = last + part(n - 3, n - 2) * (a / (b * (a + b)))
    return NAMES["cat"]([first, inside, last], d)


@composite(method=False)
def gradient(
    input: Tensor, *, spacing: Any = 1, dim: Any = None, edge_order: int = 1
) -> tuple[Tensor, ...]:
    """The derivative along each dimension, by central differences.

    Args:
        spacing: distance of elements, one for each dimension, or their coordinates as vectors.
        dim: dimensions; all by default.
        edge_order: 1 or 2, the order of the differences at the ends.
    """
    if edge_order not in (1, 2):
        raise RuntimeError("torch.gradient only supports edge_order=1 and edge_order=2 currently.")
    spacing = 1 if spacing is None else spacing
    several = isinstance(spacing, (list, tuple))
    if dim is None and several:
        dims = list(range(input.ndim))
    else:
        dims = list(_axes(dim, input)) if not isinstance(dim, (list, tuple)) else [
            wrap_dim(d, input.ndim) for d in dim
        ]  # fmt: skip
    for d in dims:
        if dims.count(d) > 1:
            raise RuntimeError(f"dim {d} appears multiple times in the list of dims")
    spaces = list(spacing) if several else [spacing] * len(dims)
    if len(spaces) != len(dims):
        raise RuntimeError(
            f"torch.gradient expected spacing to be unspecified, a scalar, or a list of length "
            f"equal to 'self.dim() = {len(dims)}' or len(dim), but got a list of length "
            f"{len(spaces)}"
        )
    for d in dims:
        if input._shape[d] < edge_order + 1:
            raise RuntimeError(
                "torch.gradient expected each dimension size to be at least edge_order+1"
            )
    if input.dtype.category < 2:
        input = input.to(dtypes.get_default_dtype())
    return tuple(_slopes(input, d, s, edge_order) for d, s in zip(dims, spaces, strict=True))


# -- bits ------------------------------------------------------------------------------------------


@primitive("host")
def mantissa_and_exponent(row: Any, input: Tensor) -> tuple[Tensor, ...]:
    """(mantissa, exponent) with input = mantissa * 2^exponent and 0.5 <= |mantissa| < 1."""
    specs = ((input._shape, input.dtype), (input._shape, dtypes.int32))
    return emit_many(row, (input,), (), specs)


def _frexp(x: Any, specs: Any) -> tuple[Any, Any]:
    mantissa, exponent = np.frexp(widened(x))
    return mantissa.astype(x.dtype), exponent


mantissa_and_exponent.reference(_frexp)
mantissa_and_exponent.vjp(
    lambda g, outs, x: (None if g[0] is None else g[0] / NAMES["exp2"](outs[1].to(x.dtype)),),
    saves="out1",
)


@composite(out=True)
def frexp(input: Tensor) -> Any:
    """(mantissa, exponent) with input = mantissa * 2^exponent and 0.5 <= |mantissa| < 1."""
    if input.dtype.category != 2:
        raise RuntimeError("torch.frexp() only supports floating-point dtypes")
    return return_types.frexp(*mantissa_and_exponent(input))


@primitive("host", differentiable=False)
def exclusive_or(row: Any, input: Tensor, axes: tuple[int, ...]) -> Tensor:
    """The bits of 64-bit numbers, combined by exclusive or over axes."""
    shape = tuple(n for k, n in enumerate(input._shape) if k not in axes)
    return emit(row, (input,), (axes,), shape, dtypes.uint64)


def _exclusive_or(x: Any, axes: Any) -> Any:
    wide = x.astype(np.float64) if x.dtype.kind == "f" else x
    bits = wide.view(np.uint64) if wide.dtype.kind == "f" else x.astype(np.int64).view(np.uint64)
    return np.bitwise_xor.reduce(bits, axis=axes) if axes else bits


exclusive_or.reference(_exclusive_or)


@composite(out=True)
def hash_tensor(input: Tensor, dim: Any = (), *, keepdim: bool = False, mode: int = 0) -> Tensor:
    """A checksum over dimensions: the elements' bits as 64-bit numbers under exclusive or."""
    axes = _axes(None if dim == () else dim, input)
    wide = input.to(dtypes.float64) if input.dtype.category == 2 else input
    found = exclusive_or(wide, axes)
    for a in axes if keepdim else ():
        found = found.unsqueeze(a)
    return found


@composite(method=False, public=False, functional=True)
def upsample_nearest(input: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    """`interpolate` by the nearest element; torch's older name."""
    found: Tensor = FUNCTIONAL["interpolate"](input, size, scale_factor, mode="nearest")
    return found


@composite(method=False, public=False, functional=True)
def upsample_bilinear(input: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    """Bilinear `interpolate` between corners; torch's older name."""
    found: Tensor = FUNCTIONAL["interpolate"](
        input, size, scale_factor, mode="bilinear", align_corners=True
    )
    return found


#: torch's numbers for the modes of `grid_sample`.
_MODES = ("bilinear", "nearest", "bicubic")
_PADDINGS = ("zeros", "border", "reflection")


def _sampler(name: str) -> Any:
    def function(
        input: Tensor, grid: Tensor, interpolation_mode: int, padding_mode: int,
        align_corners: bool,
    ) -> Tensor:  # fmt: skip
        found: Tensor = FUNCTIONAL["grid_sample"](
            input, grid, _MODES[interpolation_mode], _PADDINGS[padding_mode], align_corners
        )
        return found

    function.__name__ = function.__qualname__ = name
    function.__doc__ = "`nn.functional.grid_sample` with numbers for its modes."
    return composite(method=False, autocast="float32")(function)


grid_sampler = _sampler("grid_sampler")
grid_sampler_2d = _sampler("grid_sampler_2d")
grid_sampler_3d = _sampler("grid_sampler_3d")
