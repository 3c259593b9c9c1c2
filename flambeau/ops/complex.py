"""Complex numbers: their parts, conjugates and angles, and tensors made of pairs.

Note [Complex gradients]
A cotangent of a complex value is the derivative by the real part plus i times the derivative by
the imaginary part, as in PyTorch. For a holomorphic function that is g * conj(f'(x)): the engine
conjugates the cotangents before and after the rules of rows declared `complex`, so that these say
what they say for real numbers. Rows that are not holomorphic say it themselves.

Reference:
    K. Kreutz-Delgado, The Complex Gradient Operator and the CR-Calculus (arXiv:0906.4835).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau import dtypes
from flambeau.ops.conversion import view_dtype
from flambeau.ops.elementwise import select_where
from flambeau.ops.movement import expand_to, select_dim, view_as_shape
from flambeau.ops.rows import NAMES
from flambeau.ops.table import composite, elementwise, emit, primitive
from flambeau.size import broadcast_shapes
from flambeau.tensor import Tensor

# -- parts -----------------------------------------------------------------------------------------


@elementwise(complex=True, jvp="linear")
def conj_physical(input: Tensor) -> Tensor:
    """The complex conjugate, in memory of its own."""


@elementwise(result="modulus", complex=True, jvp="linear", public=False, method=False)
def real_part(input: Tensor) -> Tensor:
    """The real part, in memory of its own."""


@elementwise(result="modulus", complex=True, jvp="linear", public=False, method=False)
def imaginary_part(input: Tensor) -> Tensor:
    """The imaginary part, in memory of its own."""


@elementwise(result="modulus", complex=True, public=False, method=False, inplace=False)
def phase(input: Tensor) -> Tensor:
    """The angle of a complex number, in (-pi, pi]."""


conj_physical.reference(np.conjugate)
real_part.reference(np.real)
imaginary_part.reference(np.imag)
phase.reference(np.angle)
conj_physical.vjp(lambda g, out, x: (conj_physical(g),))
real_part.vjp(lambda g, out, x: (g,))
imaginary_part.vjp(lambda g, out, x: (g * 1j,))


def _phase_vjp(g: Any, out: Any, x: Any) -> tuple[Any, ...]:
    size = NAMES["abs"](x)
    return (select_where(size == 0, 0.0, g * 1j * x / (size * size)),)


phase.vjp(_phase_vjp, saves="input")


@composite()
def conj(input: Tensor) -> Tensor:
    """The complex conjugate; a real tensor itself."""
    return conj_physical(input) if input.dtype.is_complex else input


@composite()
def resolve_conj(input: Tensor) -> Tensor:
    """The tensor itself: conjugates are computed, never marked."""
    return input


@composite()
def resolve_neg(input: Tensor) -> Tensor:
    """The tensor itself: negations are computed, never marked."""
    return input


@composite()
def is_conj(input: Tensor) -> bool:
    """Whether the tensor is a conjugate yet to be computed: never."""
    return False


@composite(out=True)
def angle(input: Tensor) -> Tensor:
    """The angle of each number; for real ones 0, or pi below 0."""
    if input.dtype.is_complex:
        return phase(input)
    x = input if input.dtype.category == 2 else input.to(dtypes.get_default_dtype())
    found = select_where(x < 0, np.pi, 0.0).to(x.dtype)
    return select_where(NAMES["isnan"](x), x, found) + x * 0.0


@composite()
def real(input: Tensor) -> Tensor:
    """The real part: a view, or where gradients are computed a tensor of its own."""
    if not input.dtype.is_complex:
        return input
    return real_part(input) if input.requires_grad else _part(input, 0)


@composite()
def imag(input: Tensor) -> Tensor:
    """The imaginary part: a view, or where gradients are computed a tensor of its own.

    Raises:
        RuntimeError: a real tensor.
    """
    if not input.dtype.is_complex:
        raise RuntimeError("imag is not implemented for tensors with non-complex dtypes.")
    return imaginary_part(input) if input.requires_grad else _part(input, 1)


def _part(input: Tensor, which: int) -> Tensor:
    pairs = view_as_real(input)
    return select_dim(pairs, input.ndim, which)


# -- pairs -----------------------------------------------------------------------------------------


@primitive("host", linear=((0, 1),))
def make_complex(row: Any, real: Tensor, imag: Tensor) -> Tensor:
    """Complex numbers of their parts, of one shape and dtype."""
    return emit(row, (real, imag), (), real._shape, real.dtype.to_complex())


def _make_complex(real: Any, imag: Any) -> Any:
    found = np.empty(real.shape, np.result_type(real.dtype, np.complex64))
    found.real, found.imag = real, imag
    return found


make_complex.batch(())
make_complex.reference(_make_complex)
make_complex.vjp(lambda g, out, x, y: (real_part(g), imaginary_part(g)))


@composite(method=False, out=True)
def complex(real: Tensor, imag: Tensor) -> Tensor:
    """Complex numbers of their real and imaginary parts, which broadcast.

    Raises:
        RuntimeError: parts that are not both float32 or float64.
    """
    for part in (real, imag):
        if part.dtype not in (dtypes.float32, dtypes.float64):
            raise RuntimeError(
                "Expected both inputs to be Half, Float or Double tensors but got "
                f"{real.dtype.word} and {imag.dtype.word}"
            )
    if real.dtype is not imag.dtype:
        raise RuntimeError(
            f"Expected object of scalar type {real.dtype.word} but got scalar type "
            f"{imag.dtype.word} for second argument"
        )
    shape = broadcast_shapes(real._shape, imag._shape)
    return make_complex(expand_to(real, shape), expand_to(imag, shape))


@composite(method=False, out=True, autocast="float32")
def polar(abs: Tensor, angle: Tensor) -> Tensor:
    """Complex numbers of their sizes and angles."""
    for position, (name, given) in enumerate((("abs", abs), ("angle", angle)), 1):
        if not isinstance(given, Tensor):
            raise TypeError(
                f"polar(): argument '{name}' (position {position}) must be Tensor, not "
                f"{given.__class__.__name__}"
            )
    return complex(abs * angle.cos(), abs * angle.sin())


@composite()
def view_as_real(input: Tensor) -> Tensor:
    """A complex tensor as pairs (..., 2): a view, or with gradients a tensor of its own.

    Raises:
        RuntimeError: a real tensor.
    """
    if not input.dtype.is_complex:
        raise RuntimeError("view_as_real is only supported for complex tensors")
    if input.requires_grad:
        return NAMES["stack"]([real_part(input), imaginary_part(input)], -1)
    return view_dtype(view_as_shape(input, (*input._shape, 1)), input.dtype.to_real())


@composite(autocast="float32")
def view_as_complex(input: Tensor) -> Tensor:
    """Pairs (..., 2) as a complex tensor: a view, or a tensor of its own with gradients and where
    pairs do not lie together.

    Raises:
        RuntimeError: a last dimension that is not 2, or another dtype.
    """
    if input.dtype not in (dtypes.float32, dtypes.float64):
        raise RuntimeError(
            "view_as_complex is only supported for half, float and double tensors, but got a "
            f"tensor of scalar type: {input.dtype.word}"
        )
    if not input.ndim or input._shape[-1] != 2:
        raise RuntimeError("Tensor must have a last dimension of size 2")
    outer = (s for n, s in zip(input._shape[:-1], input._strides, strict=False) if n > 1)
    apart = input._strides[-1] != 1 or input.storage_offset() % 2 or any(s % 2 for s in outer)
    if input.requires_grad or apart:
        return complex(input[..., 0], input[..., 1])
    found = view_dtype(input, input.dtype.to_complex())
    return view_as_shape(found, found._shape[:-1])


def _set_real(self: Tensor, value: Any) -> None:
    _set_parts(self, value, imag(self) if self.dtype.is_complex else None)


def _set_imag(self: Tensor, value: Any) -> None:
    other = imag(self)  # an error for a real tensor
    _set_parts(self, real(self), NAMES["asarray"](value, dtype=other.dtype))


def _set_parts(self: Tensor, re: Any, im: Any) -> None:
    """Write both parts at once, so that what is written has its place on the tape."""
    if im is None:
        self.copy_(NAMES["asarray"](re))
    else:
        self.copy_(complex(NAMES["asarray"](re, dtype=im.dtype), im))


setattr(Tensor, "real", property(real, _set_real, doc=real.__doc__))
setattr(Tensor, "imag", property(imag, _set_imag, doc=imag.__doc__))
setattr(Tensor, "H", property(lambda t: conj(t.t()), doc="The conjugate transpose of a matrix."))
setattr(Tensor, "mH", property(lambda t: conj(t.mT), doc="Conjugate transposes of matrices."))
