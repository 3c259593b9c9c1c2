"""Names that torch keeps beside the ones it recommends: `adjoint`, `range`, `nuclear_norm` ..."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from flambeau import dtypes
from flambeau.dtype import dtype as DType
from flambeau.ops.rows import FUNCTIONAL, NAMES, SPACES
from flambeau.ops.table import composite
from flambeau.ops.writing import check_writable, write_out
from flambeau.overriding import overridable
from flambeau.tensor import Tensor


@composite()
def adjoint(input: Tensor) -> Tensor:
    """Matrices transposed and conjugated."""
    if input.ndim < 2:
        raise RuntimeError(
            "tensor.adjoint() is only supported on matrices or batches of matrices. "
            f"Got {input.ndim}-D tensor."
        )
    return NAMES["conj"](NAMES["transpose"](input, -2, -1))


@composite(method=False)
def vander(x: Tensor, N: int | None = None, increasing: bool = False) -> Tensor:
    """Powers of each element of a vector, (n, N): x^(N-1) ... x, 1, or from 1 on.

    Args:
        N: how many powers; None: as many as elements.
        increasing: whether they start at 1.
    """
    if x.ndim != 1:
        raise RuntimeError("x must be a one-dimensional tensor.")
    kept = x if x.dtype.category >= 2 else x.to(dtypes.int64)
    count = x._shape[0] if N is None else int(N)
    if count < 0:
        raise RuntimeError("N must be non-negative.")
    if count < 2:
        found = NAMES["ones"]((x._shape[0], count), dtype=kept.dtype, device=x.device)
    else:
        found = SPACES["linalg"]["vander"](kept, N=count)
    return found if increasing else NAMES["flip"](found, (1,))


@composite(method=False)
def range(
    start: float = 0,
    end: float | None = None,
    step: float = 1,
    *,
    out: Any = None,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """start, start + step, ... up to end, which is included; `arange` leaves it out.

    Raises:
        RuntimeError: a step of 0, or one that leads away from the end.
    """
    if end is None:
        start, end = 0, start
    if not step:
        raise RuntimeError("step must be nonzero")
    if (end - start) * step < 0:
        raise RuntimeError("upper bound and lower bound inconsistent with step sign")
    count = math.floor((end - start) / step) + 1
    places = NAMES["arange"](count, dtype=dtypes.float64, device=device)
    found = (places * step + start).to(dtype or dtypes.get_default_dtype())
    if out is not None:
        return write_out(out, found)
    return found.requires_grad_() if requires_grad else found


@composite(method=False, out=True)
def nuclear_norm(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The sum of the singular values of a matrix, or of matrices over two dimensions."""
    return NAMES["norm"](input, "nuc", dim, keepdim)


@composite(method=False, out=True)
def frobenius_norm(input: Tensor, dim: Any, keepdim: bool = False) -> Tensor:
    """The root of the sum of squares over dimensions; over all of them where there are none."""
    axes = None if isinstance(dim, (tuple, list)) and not dim else dim
    return NAMES["norm"](input, 2, axes, keepdim)


@composite(method=False)
def norm_except_dim(v: Tensor, pow: int = 2, dim: int = 0) -> Tensor:
    """The norm over all dimensions but one, which are kept; over all of them with `dim` -1."""
    if dim == -1:
        return NAMES["norm"](v, pow)
    others = [d for d, _ in enumerate(v._shape) if d != dim % v.ndim]
    return NAMES["norm"](v, pow, others, True)


@composite(method=False, functional=True, autocast="lower")
def conv_tbc(input: Tensor, weight: Tensor, bias: Tensor, pad: int = 0) -> Tensor:
    """Convolution of sequences with the time in front.

    Args:
        input: (T, B, C) signals.
        weight: (K, C, D) filters.
        bias: (D).
        pad: zeros at both ends.

    Returns:
        (T + 2 pad - K + 1, B, D).
    """
    if input.ndim != 3 or weight.ndim != 3 or bias.ndim != 1:
        raise RuntimeError(
            "Input must have 3 dims: time, batch, in_channel; weight: kernel_width, in_channels, "
            "out_channels; bias must be 1-D"
        )
    signal, filters = input.permute(1, 2, 0), weight.permute(2, 1, 0)
    found = FUNCTIONAL["conv1d"](signal, filters, bias, padding=pad)
    return found.permute(2, 0, 1)


# -- methods ---------------------------------------------------------------------------------------


@overridable
def fill_diagonal_(self: Tensor, fill_value: Any, wrap: bool = False) -> Tensor:
    """Write a number on the main diagonal, where all indices are equal.

    Args:
        fill_value: the number.
        wrap: of a tall matrix, begin anew below the square, a row further on.

    Raises:
        RuntimeError: fewer than 2 dimensions, or more that are not of one size.
    """
    if self.ndim < 2:
        raise RuntimeError("dimensions must larger than 1")
    if self.ndim > 2 and len(set(self._shape)) > 1:
        raise RuntimeError("all dimensions of input must be of equal length")
    rows, columns = self._shape[0], self._shape[-1]
    place = NAMES["arange"](min(self._shape), device=self.device)
    if wrap and self.ndim == 2 and rows > columns:
        flat = NAMES["arange"](0, rows * columns, columns + 1, device=self.device)
        self[flat // columns, flat % columns] = fill_value
    else:
        self[(place,) * self.ndim] = fill_value
    return self


def _elementwise(self: Tensor, function: Callable[..., Any], *others: Tensor) -> Tensor:
    """Write what a function of Python numbers gives for each element."""
    check_writable(self)
    given = [t.detach().expand(self.shape).reshape(-1).tolist() for t in (self, *others)]
    values = [function(*numbers) for numbers in zip(*given, strict=True)]
    found = NAMES["tensor"](values, dtype=self.dtype, device=self.device)
    return self.copy_(found.reshape(self.shape))


@overridable
def apply_(self: Tensor, callable: Callable[[Any], Any]) -> Tensor:
    """Replace each element by what a Python function gives for it. Slow, and without gradient."""
    return _elementwise(self, callable)


@overridable
def map_(self: Tensor, tensor: Tensor, callable: Callable[[Any, Any], Any]) -> Tensor:
    """Replace each element by a Python function of it and of another tensor's."""
    return _elementwise(self, callable, tensor)


@overridable
def map2_(self: Tensor, x: Tensor, y: Tensor, callable: Callable[..., Any]) -> Tensor:
    """Replace each element by a Python function of it and of two other tensors'."""
    return _elementwise(self, callable, x, y)


@overridable
def dim_order(self: Tensor) -> tuple[int, ...]:
    """The dimensions as they lie in memory, outermost first."""
    strides = self.stride()
    return tuple(sorted((d for d, _ in enumerate(strides)), key=lambda d: -strides[d]))


for _method in (fill_diagonal_, apply_, map_, map2_, dim_order):
    setattr(Tensor, _method.__name__, _method)
