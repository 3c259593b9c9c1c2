"""Discrete Fourier transforms, by NumPy's pocketfft in the precision of their argument.

Three primitives carry the family: complex to complex, real to the half spectrum, and back. A
transform is linear, and its adjoint is the opposite transform with the scale of the other side, so
each rule is a transform again.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau import dtypes
from flambeau.dtype import dtype as DType
from flambeau.ops.movement import slice_dim
from flambeau.ops.precision import cast
from flambeau.ops.rows import NAMES
from flambeau.ops.spaces import only_in
from flambeau.ops.table import emit, primitive
from flambeau.size import wrap_dim
from flambeau.tensor import Tensor

#: Norm of a transform -> that of its adjoint, which goes in the other direction.
_ADJOINT = {"backward": "forward", "ortho": "ortho", "forward": "backward"}


# -- primitives ------------------------------------------------------------------------------------


@primitive("host", linear=((0,),))
def fourier(row: Any, input: Tensor, axes: tuple[int, ...], norm: str, forward: bool) -> Tensor:
    """Transform of complex numbers over axes, in either direction."""
    return emit(row, (input,), (axes, norm, forward), input._shape, input.dtype)


@primitive("host", linear=((0,),))
def fourier_half(row: Any, input: Tensor, axes: tuple[int, ...], norm: str) -> Tensor:
    """Transform of real numbers over axes; of the last axis the half that says everything."""
    shape = list(input._shape)
    shape[axes[-1]] = shape[axes[-1]] // 2 + 1
    return emit(row, (input,), (axes, norm), tuple(shape), input.dtype.to_complex())


@primitive("host", linear=((0,),))
def fourier_real(row: Any, input: Tensor, axes: tuple[int, ...], norm: str, n: int) -> Tensor:
    """The real numbers of a half spectrum: n of them along the last axis."""
    shape = list(input._shape)
    shape[axes[-1]] = n
    return emit(row, (input,), (axes, norm, n), tuple(shape), input.dtype.to_real())


def _fourier(x: Any, axes: Any, norm: str, forward: bool) -> Any:
    run: Any = np.fft.fftn if forward else np.fft.ifftn
    return run(x, axes=axes, norm=norm)


def _real(x: Any, axes: Any, norm: str, n: int) -> Any:
    sizes = [*(x.shape[a] for a in axes[:-1]), n]
    run: Any = np.fft.irfftn
    return run(x, sizes, axes, norm)


fourier.reference(_fourier)
fourier_half.reference(lambda x, axes, norm: np.fft.rfftn(x, axes=axes, norm=norm))
fourier_real.reference(_real)


def _half_vjp(g: Any, out: Any, x: Any, axes: Any, norm: str) -> tuple[Any, ...]:
    """As if the other half had been computed too, and had no cotangent."""
    whole = _sized(g, axes[-1], x.shape[axes[-1]])
    return NAMES["real"](fourier(whole, axes, _ADJOINT[norm], False)), None, None


def _real_vjp(g: Any, out: Any, x: Any, axes: Any, norm: str, n: int) -> tuple[Any, ...]:
    """What is in one half only counts for both."""
    half = fourier_half(g, axes, _ADJOINT[norm])
    count = n - half._shape[axes[-1]]
    twice = [1.0] + [2.0] * count + [1.0] * (half._shape[axes[-1]] - 1 - count)
    weights = NAMES["tensor"](twice, dtype=half.dtype.to_real())
    return half * weights.reshape(-1, *(1,) * (g.ndim - 1 - axes[-1])), None, None, None


fourier.vjp(
    lambda g, out, x, axes, norm, forward: (
        fourier(g, axes, _ADJOINT[norm], not forward),
        *(None, None, None),
    )
)
fourier_half.vjp(_half_vjp)
fourier_real.vjp(_real_vjp)


# -- arguments -------------------------------------------------------------------------------------


def _sized(input: Tensor, axis: int, n: int) -> Tensor:
    """One axis cut or filled with zeros to size n."""
    have = input._shape[axis]
    if n < have:
        return slice_dim(input, axis, 0, n, 1)
    if n == have:
        return input
    shape = (*input._shape[:axis], n - have, *input._shape[axis + 1 :])
    zeros = NAMES["zeros"](shape, dtype=input.dtype, device=input.device)
    return NAMES["cat"]([input, zeros], axis)


def _words(norm: str | None, swap: bool = False) -> str:
    """A norm's name; `swap` for transforms that count the other direction as theirs.

    Raises:
        RuntimeError: another word.
    """
    word = "backward" if norm is None else norm
    if word not in _ADJOINT:
        raise RuntimeError(f'Invalid normalization mode: "{norm}"')
    return _ADJOINT[word] if swap else word


def _promoted(name: str, input: Tensor, real: bool = False) -> Tensor:
    """Integers as floats.

    Raises:
        RuntimeError: half floats; complex numbers where there must be real ones.
    """
    if real and input.dtype.is_complex:
        raise RuntimeError(f"{name} expects a real input tensor, but got {input.dtype.word}")
    if input.dtype.category < 2:
        return input.to(dtypes.get_default_dtype())
    if input.dtype.itemsize < 4:
        raise RuntimeError(f"Unsupported dtype {input.dtype.word}")
    return input


def _complex(name: str, input: Tensor) -> Tensor:
    x = _promoted(name, input)
    return cast(x, x.dtype.to_complex())


def _axes(input: Tensor, s: Any, dim: Any) -> tuple[tuple[int, ...], list[int]]:
    """The axes that are transformed, and the size that each shall have.

    Raises:
        RuntimeError: repeated axes, sizes that fit no axes, or no points.
    """
    sizes = None if s is None else [s] if isinstance(s, int) else list(s)
    if dim is not None:
        dims = [dim] if isinstance(dim, int) else list(dim)
        axes = tuple(wrap_dim(d, input.ndim) for d in dims)
        if len(set(axes)) != len(axes):
            raise RuntimeError("FFT dims must be unique")
        if sizes is not None and len(sizes) != len(axes):
            raise RuntimeError("When given, dim and shape arguments must have the same length")
    else:
        count = input.ndim if sizes is None else len(sizes)
        if count > input.ndim:
            raise RuntimeError(
                f"Got shape with {count} values but input tensor only has {input.ndim} dimensions."
            )
        axes = tuple(range(input.ndim - count, input.ndim))
    found = [
        input._shape[a] if n == -1 else n
        for a, n in zip(axes, sizes or [-1] * len(axes), strict=True)
    ]
    for n in found:
        if n < 1:
            raise RuntimeError(f"Invalid number of data points ({n}) specified")
    return axes, found


def _forward(name: str, input: Tensor, s: Any, dim: Any, norm: str | None, forward: bool) -> Tensor:
    x = _complex(name, input)
    axes, sizes = _axes(x, s, dim)
    for axis, n in zip(axes, sizes, strict=True):
        x = _sized(x, axis, n)
    return fourier(x, axes, _words(norm), forward) if axes else NAMES["clone"](x)


def _to_half(
    name: str, input: Tensor, s: Any, dim: Any, norm: str | None, swap: bool = False
) -> Tensor:
    x = _promoted(name, input, real=True)
    axes, sizes = _axes(x, s, dim)
    if not axes:
        raise RuntimeError(f"{name} must transform at least one axis")
    for axis, n in zip(axes, sizes, strict=True):
        x = _sized(x, axis, n)
    return fourier_half(x, axes, _words(norm, swap))


def _to_real(
    name: str, input: Tensor, s: Any, dim: Any, norm: str | None, swap: bool = False
) -> Tensor:
    x = _complex(name, input)
    if s is not None and not isinstance(s, int) and -1 in s[-1:]:
        s = [*s[:-1], 2 * (x._shape[-1 if dim is None else list(dim)[-1]] - 1)]
    axes, sizes = _axes(x, s, dim)
    if not axes:
        raise RuntimeError(f"{name} must transform at least one axis")
    last = sizes[-1] if s is not None else 2 * (sizes[-1] - 1)
    if last < 1:
        raise RuntimeError(f"Invalid number of data points ({last}) specified")
    for axis, n in zip(axes, [*sizes[:-1], last // 2 + 1], strict=True):
        x = _sized(x, axis, n)
    if swap:
        x = NAMES["conj"](x)
    return fourier_real(x, axes, _words(norm, swap), last)


# -- public ----------------------------------------------------------------------------------------


@only_in("fft.fft")
def fft_fft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """Discrete Fourier transform along one dimension.

    Args:
        input: real or complex.
        n: length to cut or zero-fill the dimension to.
        norm: "backward" (no scale, the default), "ortho" (1/sqrt(n)) or "forward" (1/n).
    """
    return _forward("fft", input, n, dim, norm, True)


@only_in("fft.ifft")
def fft_ifft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """Inverse of `fft.fft`; "backward" scales by 1/n."""
    return _forward("ifft", input, n, dim, norm, False)


@only_in("fft.rfft")
def fft_rfft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """The non-negative frequencies of a real signal, n // 2 + 1 of them."""
    return _to_half("rfft", input, n, dim, norm)


@only_in("fft.irfft")
def fft_irfft(
    input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None
) -> Tensor:
    """The real signal of n elements (default 2 * (size - 1)) with these frequencies."""
    return _to_real("irfft", input, n, dim, norm)


@only_in("fft.hfft")
def fft_hfft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """The real spectrum of a signal whose other half is its mirrored conjugate."""
    return _to_real("hfft", input, n, dim, norm, swap=True)


@only_in("fft.ihfft")
def fft_ihfft(
    input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None
) -> Tensor:
    """Inverse of `fft.hfft`: half of the signal with this real spectrum."""
    return NAMES["conj"](_to_half("ihfft", input, n, dim, norm, swap=True))


@only_in("fft.fftn")
def fft_fftn(input: Tensor, s: Any = None, dim: Any = None, norm: str | None = None) -> Tensor:
    """Discrete Fourier transform over dimensions, all by default; `s` as `n` in `fft.fft`."""
    return _forward("fftn", input, s, dim, norm, True)


@only_in("fft.ifftn")
def fft_ifftn(input: Tensor, s: Any = None, dim: Any = None, norm: str | None = None) -> Tensor:
    """Inverse of `fft.fftn`."""
    return _forward("ifftn", input, s, dim, norm, False)


@only_in("fft.rfftn")
def fft_rfftn(input: Tensor, s: Any = None, dim: Any = None, norm: str | None = None) -> Tensor:
    """`fft.fftn` of real numbers; of the last dimension the non-negative frequencies."""
    return _to_half("rfftn", input, s, dim, norm)


@only_in("fft.irfftn")
def fft_irfftn(input: Tensor, s: Any = None, dim: Any = None, norm: str | None = None) -> Tensor:
    """Inverse of `fft.rfftn`."""
    return _to_real("irfftn", input, s, dim, norm)


@only_in("fft.hfftn")
def fft_hfftn(input: Tensor, s: Any = None, dim: Any = None, norm: str | None = None) -> Tensor:
    """`fft.hfft` over dimensions."""
    return _to_real("hfftn", input, s, dim, norm, swap=True)


@only_in("fft.ihfftn")
def fft_ihfftn(input: Tensor, s: Any = None, dim: Any = None, norm: str | None = None) -> Tensor:
    """Inverse of `fft.hfftn`."""
    return NAMES["conj"](_to_half("ihfftn", input, s, dim, norm, swap=True))


@only_in("fft.fft2")
def fft_fft2(input: Tensor, s: Any = None, dim: Any = (-2, -1), norm: str | None = None) -> Tensor:
    """`fft.fftn` over two dimensions."""
    return _forward("fft2", input, s, dim, norm, True)


@only_in("fft.ifft2")
def fft_ifft2(input: Tensor, s: Any = None, dim: Any = (-2, -1), norm: str | None = None) -> Tensor:
    """`fft.ifftn` over two dimensions."""
    return _forward("ifft2", input, s, dim, norm, False)


@only_in("fft.rfft2")
def fft_rfft2(input: Tensor, s: Any = None, dim: Any = (-2, -1), norm: str | None = None) -> Tensor:
    """`fft.rfftn` over two dimensions."""
    return _to_half("rfft2", input, s, dim, norm)


@only_in("fft.irfft2")
def fft_irfft2(
    input: Tensor, s: Any = None, dim: Any = (-2, -1), norm: str | None = None
) -> Tensor:
    """`fft.irfftn` over two dimensions."""
    return _to_real("irfft2", input, s, dim, norm)


@only_in("fft.hfft2")
def fft_hfft2(input: Tensor, s: Any = None, dim: Any = (-2, -1), norm: str | None = None) -> Tensor:
    """`fft.hfftn` over two dimensions."""
    return _to_real("hfft2", input, s, dim, norm, swap=True)


@only_in("fft.ihfft2")
def fft_ihfft2(
    input: Tensor, s: Any = None, dim: Any = (-2, -1), norm: str | None = None
) -> Tensor:
    """`fft.ihfftn` over two dimensions."""
    return NAMES["conj"](_to_half("ihfft2", input, s, dim, norm, swap=True))


def _rolled(input: Tensor, dim: Any, sign: int) -> Tensor:
    dims = range(input.ndim) if dim is None else [dim] if isinstance(dim, int) else dim
    axes = [wrap_dim(d, input.ndim) for d in dims]
    steps = [(input._shape[a] + (sign < 0)) // 2 for a in axes]
    return NAMES["roll"](input, steps, axes) if axes else NAMES["clone"](input)


@only_in("fft.fftshift", out=False, autocast=None)
def fft_fftshift(input: Tensor, dim: Any = None) -> Tensor:
    """A spectrum rolled so that frequency 0 stands in the middle of the dimensions."""
    return _rolled(input, dim, 1)


@only_in("fft.ifftshift", out=False, autocast=None)
def fft_ifftshift(input: Tensor, dim: Any = None) -> Tensor:
    """Inverse of `fft.fftshift`."""
    return _rolled(input, dim, -1)


def _frequencies(first: int, last: int, n: int, d: float, options: dict[str, Any]) -> Tensor:
    options["dtype"] = options.get("dtype") or dtypes.get_default_dtype()
    return NAMES["arange"](first, last, **options) * (1.0 / (n * d))


@only_in("fft.fftfreq", out=False, autocast=None)
def fft_fftfreq(
    n: int, d: float = 1.0, *, out: Any = None, dtype: DType | None = None, layout: Any = None,
    device: Any = None, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """The frequencies of `fft.fft` of n samples that are d apart, negative ones last."""
    half = (n - 1) // 2 + 1
    options = {"dtype": dtype, "device": device}
    parts = [_frequencies(*ends, n, d, options) for ends in ((0, half), (half - n, 0))]
    found = NAMES["cat"](parts)
    return (found if out is None else out.copy_(found)).requires_grad_(requires_grad)


@only_in("fft.rfftfreq", out=False, autocast=None)
def fft_rfftfreq(
    n: int, d: float = 1.0, *, out: Any = None, dtype: DType | None = None, layout: Any = None,
    device: Any = None, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """The frequencies of `fft.rfft` of n samples that are d apart."""
    found = _frequencies(0, n // 2 + 1, n, d, {"dtype": dtype, "device": device})
    return (found if out is None else out.copy_(found)).requires_grad_(requires_grad)
