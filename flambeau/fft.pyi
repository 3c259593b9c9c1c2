# Written by tools/generate.py from the table of operations; do not edit.

import builtins as _builtins
from typing import Any

import numpy as np

from flambeau import record as _record
from flambeau.device import device as _Device
from flambeau.dtype import dtype as _DType
from flambeau.ir.graph import Node as _Node
from flambeau.layout import layout as _Layout
from flambeau.ops.generator import Generator as _Generator
from flambeau.size import Size as _Size
from flambeau.storage import TypedStorage as _TypedStorage
from flambeau.storage import UntypedStorage as _UntypedStorage
from flambeau.tape import GradFn as _GradFn
from flambeau.tape import Handle as _Handle

from flambeau.tensor import Tensor as Tensor

def fft(input: Tensor, n: _builtins.int | None = None, dim: _builtins.int = -1, norm: _builtins.str | None = None) -> Tensor:
    """Discrete Fourier transform along one dimension."""
def fft2(input: Tensor, s: Any = None, dim: Any = ..., norm: _builtins.str | None = None) -> Tensor:
    """`fft.fftn` over two dimensions."""
def fftfreq(n: _builtins.int, d: _builtins.float = ..., *, out: Any = None, dtype: _DType | None = None, layout: Any = None, device: Any = None, requires_grad: _builtins.bool = False) -> Tensor:
    """The frequencies of `fft.fft` of n samples that are d apart, negative ones last."""
def fftn(input: Tensor, s: Any = None, dim: Any = None, norm: _builtins.str | None = None) -> Tensor:
    """Discrete Fourier transform over dimensions, all by default; `s` as `n` in `fft.fft`."""
def fftshift(input: Tensor, dim: Any = None) -> Tensor:
    """A spectrum rolled so that frequency 0 stands in the middle of the dimensions."""
def hfft(input: Tensor, n: _builtins.int | None = None, dim: _builtins.int = -1, norm: _builtins.str | None = None) -> Tensor:
    """The real spectrum of a signal whose other half is its mirrored conjugate."""
def hfft2(input: Tensor, s: Any = None, dim: Any = ..., norm: _builtins.str | None = None) -> Tensor:
    """`fft.hfftn` over two dimensions."""
def hfftn(input: Tensor, s: Any = None, dim: Any = None, norm: _builtins.str | None = None) -> Tensor:
    """`fft.hfft` over dimensions."""
def ifft(input: Tensor, n: _builtins.int | None = None, dim: _builtins.int = -1, norm: _builtins.str | None = None) -> Tensor:
    """Inverse of `fft.fft`; "backward" scales by 1/n."""
def ifft2(input: Tensor, s: Any = None, dim: Any = ..., norm: _builtins.str | None = None) -> Tensor:
    """`fft.ifftn` over two dimensions."""
def ifftn(input: Tensor, s: Any = None, dim: Any = None, norm: _builtins.str | None = None) -> Tensor:
    """Inverse of `fft.fftn`."""
def ifftshift(input: Tensor, dim: Any = None) -> Tensor:
    """Inverse of `fft.fftshift`."""
def ihfft(input: Tensor, n: _builtins.int | None = None, dim: _builtins.int = -1, norm: _builtins.str | None = None) -> Tensor:
    """Inverse of `fft.hfft`: half of the signal with this real spectrum."""
def ihfft2(input: Tensor, s: Any = None, dim: Any = ..., norm: _builtins.str | None = None) -> Tensor:
    """`fft.ihfftn` over two dimensions."""
def ihfftn(input: Tensor, s: Any = None, dim: Any = None, norm: _builtins.str | None = None) -> Tensor:
    """Inverse of `fft.hfftn`."""
def irfft(input: Tensor, n: _builtins.int | None = None, dim: _builtins.int = -1, norm: _builtins.str | None = None) -> Tensor:
    """The real signal of n elements (default 2 * (size - 1)) with these frequencies."""
def irfft2(input: Tensor, s: Any = None, dim: Any = ..., norm: _builtins.str | None = None) -> Tensor:
    """`fft.irfftn` over two dimensions."""
def irfftn(input: Tensor, s: Any = None, dim: Any = None, norm: _builtins.str | None = None) -> Tensor:
    """Inverse of `fft.rfftn`."""
def rfft(input: Tensor, n: _builtins.int | None = None, dim: _builtins.int = -1, norm: _builtins.str | None = None) -> Tensor:
    """The non-negative frequencies of a real signal, n // 2 + 1 of them."""
def rfft2(input: Tensor, s: Any = None, dim: Any = ..., norm: _builtins.str | None = None) -> Tensor:
    """`fft.rfftn` over two dimensions."""
def rfftfreq(n: _builtins.int, d: _builtins.float = ..., *, out: Any = None, dtype: _DType | None = None, layout: Any = None, device: Any = None, requires_grad: _builtins.bool = False) -> Tensor:
    """The frequencies of `fft.rfft` of n samples that are d apart."""
def rfftn(input: Tensor, s: Any = None, dim: Any = None, norm: _builtins.str | None = None) -> Tensor:
    """`fft.fftn` of real numbers; of the last dimension the non-negative frequencies."""
