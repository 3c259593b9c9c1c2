"""Sparse tensors in coordinate (COO) and compressed row (CSR) form, and what is done with them.

A sparse tensor keeps its values, a dense tensor with gradients as any, and where they stand. What
knows about it (products, sums, `coalesce`, arithmetic with numbers) works on those. Everything else
sees the dense tensor, which is recorded when it is first asked for, and so never computed unless it
is needed; its results are dense.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau import dtypes
from flambeau.device import device as Device
from flambeau.dtype import dtype as DType
from flambeau.layout import layout as Layout
from flambeau.layout import sparse_coo, sparse_csr
from flambeau.ops.rows import NAMES
from flambeau.overriding import disabled_torch_function
from flambeau.size import Size, wrap_dim
from flambeau.tensor import Tensor

#: Methods that know of places take other arguments than those of dense tensors.
_Tensor: Any = Tensor


class SparseTensor(_Tensor):
    """A tensor of which only some elements are kept.

    Args:
        places: (D, N) int64, where the values stand in the first D dimensions.
        values: (N, *), the values, and the sizes of the other dimensions.
        shape: of the whole tensor.
        layout: `sparse_coo` or `sparse_csr`.
        coalesced: whether the places are sorted and differ.
    """

    __torch_function__ = staticmethod(disabled_torch_function)

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """A tensor without memory of its own."""
        return object.__new__(cls)

    def __init__(
        self, places: Tensor, values: Tensor, shape: Any, layout: Layout = sparse_coo,
        coalesced: bool = False,
    ) -> None:  # fmt: skip
        self._places = places
        self._kept = values
        self._shape = tuple(shape)
        self.dtype = values.dtype
        self._layout = layout
        self._coalesced = coalesced
        self._whole: Tensor | None = None

    # -- the dense tensor -------------------------------------------------------------------------

    def to_dense(self, dtype: DType | None = None, *, masked_grad: Any = None) -> Tensor:
        """The dense tensor; values at one place are added."""
        if self._whole is None:
            zeros = NAMES["zeros"](self._shape, dtype=self.dtype, device=self._kept.device)
            rows = tuple(NAMES["unbind"](self._places))
            self._whole = NAMES["index_put"](zeros, rows, self._kept, True) if rows else zeros
        return self._whole if dtype is None else self._whole.to(dtype)

    def _of_dense(name: str) -> Any:
        return property(lambda self: getattr(self.to_dense(), name))

    _cell = _of_dense("_cell")
    _map = _of_dense("_map")
    _base = _of_dense("_base")
    _grad_fn = _of_dense("_grad_fn")
    _output_nr = _of_dense("_output_nr")
    del _of_dense

    @property
    def _rg(self) -> bool:
        return self._kept.requires_grad

    @property
    def requires_grad(self) -> bool:
        """Whether gradients are computed for the values."""
        return self._kept.requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self._kept.requires_grad = value
        self._whole = None

    @property
    def is_leaf(self) -> bool:
        """Whether no recorded operation made the values."""
        return self._kept.is_leaf

    @property
    def grad(self) -> Any:
        """The gradient, at the places that are kept."""
        found = self._kept.grad
        return None if found is None else self._with(found)

    @property
    def layout(self) -> Layout:
        """`sparse_coo` or `sparse_csr`."""
        return self._layout

    @property
    def device(self) -> Device:
        """Where the values live."""
        return self._kept.device

    @property
    def is_sparse(self) -> bool:
        """Whether the layout is `sparse_coo`."""
        return self._layout is sparse_coo

    @property
    def is_sparse_csr(self) -> bool:
        """Whether the layout is `sparse_csr`."""
        return self._layout is sparse_csr

    def __repr__(self) -> str:
        if self._layout is sparse_csr:
            places = f"crow_indices={self.crow_indices()!r},\n       "
            places += f"col_indices={self.col_indices()!r}"
        else:
            places = f"indices={self._places!r}"
        return (
            f"tensor({places},\n       values={self._kept!r},\n       size={self._shape}, "
            f"nnz={self._nnz()}, layout={self._layout})"
        )

    __str__ = __repr__

    # -- parts ------------------------------------------------------------------------------------

    def _with(self, values: Tensor) -> SparseTensor:
        """Other values at the same places."""
        return SparseTensor(self._places, values, self._shape, self._layout, self._coalesced)

    def _nnz(self) -> int:
        return self._kept._shape[0]

    def _indices(self) -> Tensor:
        return self._places

    def _values(self) -> Tensor:
        return self._kept

    def indices(self) -> Tensor:
        """(D, N) places of the values.

        Raises:
            RuntimeError: places that may repeat.
        """
        if not self._coalesced:
            raise RuntimeError(
                "Cannot get indices on an uncoalesced tensor, please call .coalesce() first"
            )
        return self._places

    def values(self) -> Tensor:
        """(N, *) the values.

        Raises:
            RuntimeError: places that may repeat.
        """
        if not self._coalesced:
            raise RuntimeError(
                "Cannot get values on an uncoalesced tensor, please call .coalesce() first"
            )
        return self._kept

    def crow_indices(self) -> Tensor:
        """(rows + 1) where each row's values start, of a `sparse_csr` tensor."""
        counts = NAMES["bincount"](self._places[0], minlength=self._shape[0])
        zero = NAMES["zeros"](1, dtype=dtypes.int64)
        return NAMES["cat"]([zero, NAMES["cumsum"](counts, 0)])

    def col_indices(self) -> Tensor:
        """(N) columns of the values, of a `sparse_csr` tensor."""
        return self._places[1]

    def sparse_dim(self) -> int:
        """Number of dimensions in which values are left out."""
        return self._places._shape[0]

    def dense_dim(self) -> int:
        """Number of dimensions that each value has."""
        return self._kept.ndim - 1

    def is_coalesced(self) -> bool:
        """Whether the places are sorted and differ."""
        return self._coalesced

    def coalesce(self) -> SparseTensor:
        """The same tensor with sorted places that differ; values at one place are added."""
        if self._coalesced:
            return self
        places = self._places._array()
        head = self._shape[: len(places)]
        flat = np.ravel_multi_index(tuple(places), head) if places.size else places[:1].reshape(-1)
        unique, number = np.unique(flat, return_inverse=True)
        found = np.array(np.unravel_index(unique, head), np.int64).reshape(len(places), -1)
        zeros = NAMES["zeros"]((len(unique), *self._kept._shape[1:]), dtype=self.dtype)
        number = NAMES["tensor"](number.reshape(-1).astype(np.int64))
        values = zeros.index_add(0, number, self._kept)
        return SparseTensor(NAMES["tensor"](found), values, self._shape, self._layout, True)

    # -- forms ------------------------------------------------------------------------------------

    def to_sparse(self, *args: Any, layout: Layout = sparse_coo, **options: Any) -> SparseTensor:
        """The tensor in a sparse layout."""
        found = self if layout is sparse_coo else self.coalesce()
        return SparseTensor(found._places, found._kept, self._shape, layout, found._coalesced)

    def to_sparse_coo(self) -> SparseTensor:
        """The tensor in coordinate form."""
        return self.to_sparse()

    def to_sparse_csr(self, dense_dim: int | None = None) -> SparseTensor:
        """The matrix in compressed row form."""
        return self.to_sparse(layout=sparse_csr)

    def to(self, *args: Any, **kwargs: Any) -> Any:
        """As `Tensor.to`, of the values."""
        values = self._kept.to(*args, **kwargs)
        return self if values is self._kept else self._with(values)

    def detach(self) -> SparseTensor:
        """The tensor without history."""
        return self._with(self._kept.detach())

    def clone(self, *, memory_format: Any = None) -> SparseTensor:
        """A copy with memory of its own."""
        return self._with(NAMES["clone"](self._kept))

    def t(self) -> SparseTensor:
        """The transpose of a matrix."""
        return self.transpose(0, 1)

    @property
    def T(self) -> SparseTensor:
        """The transpose of a matrix."""
        return self.transpose(0, 1)

    def transpose(self, dim0: int, dim1: int) -> SparseTensor:
        """Two of the dimensions in which values are left out, exchanged."""
        a, b = wrap_dim(dim0, self.ndim), wrap_dim(dim1, self.ndim)
        order = list(range(self.sparse_dim()))
        order[a], order[b] = order[b], order[a]
        shape = list(self._shape)
        shape[a], shape[b] = shape[b], shape[a]
        places = NAMES["index_select"](self._places, 0, NAMES["tensor"](order))
        found = SparseTensor(places, self._kept, shape)
        return found if self._layout is sparse_coo else found.to_sparse(layout=self._layout)

    # -- arithmetic -------------------------------------------------------------------------------

    def product(self, other: Tensor) -> Tensor:
        """The matrix times a dense matrix (K, N) or vector (K).

        Raises:
            RuntimeError: no matrix, or sizes that do not meet.
        """
        if self.ndim != 2 or self.sparse_dim() != 2 or other._shape[0] != self._shape[1]:
            raise RuntimeError(
                f"mat1 and mat2 shapes cannot be multiplied ({'x'.join(map(str, self._shape))} and "
                f"{'x'.join(map(str, other._shape))})"
            )
        rows, columns = self._places[0], self._places[1]
        values = self._kept if other.ndim == 1 else self._kept.unsqueeze(1)
        parts = NAMES["index_select"](other, 0, columns) * values
        start = NAMES["zeros"]((self._shape[0], *other._shape[1:]), dtype=parts.dtype)
        return start.index_add(0, rows, parts)

    @staticmethod
    def matrix_product(left: Tensor, right: Tensor) -> Any:
        """`sparse.mm`, for the products that are given a sparse factor."""
        return mm(left, right)

    def __mul__(self, other: Any) -> Any:
        if isinstance(other, (int, float, complex)):
            return self._with(self._kept * other)
        if isinstance(other, SparseTensor):
            return _sparse(self.to_dense() * other.to_dense())
        at = tuple(NAMES["unbind"](self._places))
        return self._with(self._kept * other.expand(self._shape)[at])

    __rmul__ = mul = multiply = __mul__

    def __truediv__(self, other: Any) -> Any:
        return self._with(self._kept / other)

    div = divide = __truediv__

    def __neg__(self) -> SparseTensor:
        return self._with(-self._kept)

    neg = negative = __neg__

    def __add__(self, other: Any) -> Any:
        if not isinstance(other, SparseTensor):
            return self.to_dense() + other
        places = NAMES["cat"]([self._places, other._places], 1)
        found = SparseTensor(places, NAMES["cat"]([self._kept, other._kept]), self._shape)
        return found.coalesce() if self._coalesced and other._coalesced else found

    def add(self, other: Any, *, alpha: Any = 1) -> Any:
        """self + alpha * other; dense, if that is."""
        return self + (other if alpha == 1 else other * alpha)

    def _become(self, other: SparseTensor) -> SparseTensor:
        """Take over the values and places of another."""
        self._places, self._kept, self._coalesced = other._places, other._kept, other._coalesced
        self._whole = None
        return self

    def add_(self, other: Any, *, alpha: Any = 1) -> SparseTensor:
        """Add a sparse tensor in place."""
        return self._become(self.add(other, alpha=alpha))

    def mul_(self, other: Any) -> SparseTensor:
        """Multiply the values in place."""
        return self._become(self * other)

    def div_(self, other: Any) -> SparseTensor:
        """Divide the values in place."""
        return self._become(self / other)

    def zero_(self) -> SparseTensor:
        """Keep no values."""
        return self._become(SparseTensor(self._places[:, :0], self._kept[:0], self._shape))

    def detach_(self) -> SparseTensor:
        """Cut the values off from the tape in place."""
        return self._become(self.detach())

    def add_into(self, dense: Tensor, alpha: Any = 1) -> None:
        """Add alpha times the values to a dense tensor in place, where they stand."""
        values = self._kept if alpha == 1 else self._kept * alpha
        NAMES["index_put_"](dense, tuple(NAMES["unbind"](self._places)), values, accumulate=True)

    def __sub__(self, other: Any) -> Any:
        return self + (-other)

    sub = subtract = __sub__

    def sum(self, dim: Any = None, keepdim: bool = False, *, dtype: DType | None = None) -> Any:
        """`sparse.sum`."""
        return sum(self, dim, dtype)

    def __matmul__(self, other: Any) -> Any:
        return mm(self, other)

    matmul = mm = __matmul__


def _sparse(
    input: Tensor, sparse_dim: int | None = None, *, layout: Layout | None = None,
    blocksize: Any = None, dense_dim: int | None = None,
) -> SparseTensor:  # fmt: skip
    """The nonzero elements of a dense tensor in a sparse layout.

    Args:
        sparse_dim: of so many dimensions, the others are dense.

    Raises:
        RuntimeError: a layout other than `sparse_coo` and `sparse_csr`.
    """
    if layout not in (None, sparse_coo, sparse_csr):
        raise RuntimeError(f"to_sparse: {layout} is not in flambeau; use sparse_coo or sparse_csr")
    count = input.ndim if sparse_dim is None else sparse_dim
    kept = input.detach() != 0
    for d in range(input.ndim - 1, count - 1, -1):
        kept = NAMES["any"](kept, d)
    if not count:  # a number is a value at no place, or nothing
        values = input.reshape(1)[: int(bool(kept))]
        return SparseTensor(NAMES["zeros"]((0, values._shape[0]), dtype=dtypes.int64), values, ())
    places = NAMES["nonzero"](kept).t().contiguous()
    values = input[tuple(NAMES["unbind"](places))]
    return SparseTensor(places, values, input._shape, layout or sparse_coo, True)


# -- making them ----------------------------------------------------------------------------------


def _tensor(value: Any, dtype: DType | None = None) -> Tensor:
    given = value if isinstance(value, Tensor) else NAMES["tensor"](value)
    return given if dtype is None else given.to(dtype)


def sparse_coo_tensor(
    indices: Any, values: Any = None, size: Any = None, *, dtype: DType | None = None,
    device: Any = None, pin_memory: bool = False, requires_grad: bool = False,
    check_invariants: bool | None = None, is_coalesced: bool | None = None,
) -> SparseTensor:  # fmt: skip
    """A tensor of values at coordinates.

    Args:
        indices: (D, N), where the values stand in the first D dimensions.
        values: (N, *).
        size: of the tensor; by default as small as the indices allow.
        is_coalesced: say that the indices are sorted and differ.

    Raises:
        RuntimeError: sizes that do not fit.
    """
    if values is None or isinstance(values, (Size, tuple)) or (
        size is None and not isinstance(indices, Tensor) and _empty(indices, values)
    ):  # fmt: skip
        size = indices if values is None else values
        places = NAMES["zeros"]((len(size), 0), dtype=dtypes.int64)
        return SparseTensor(places, NAMES["zeros"](0, dtype=dtype), size, coalesced=True)
    places, kept = _tensor(indices, dtypes.int64), _tensor(values, dtype)
    if places.ndim != 2:
        raise RuntimeError(f"indices must be sparse_dim x nnz, but got: {list(places.shape)}")
    if kept.ndim == 0:
        kept = kept.expand(places._shape[1])
    if kept._shape[0] != places._shape[1]:
        raise RuntimeError(
            f"number of dimensions must be sparse_dim ({places._shape[0]}) + dense_dim; indices "
            f"have {places._shape[1]} places and values {kept._shape[0]}"
        )
    if size is None:
        most = NAMES["amax"](places, 1) + 1 if places._shape[1] else places.sum(1)
        size = (*most.tolist(), *kept._shape[1:])
    if requires_grad:
        kept = kept.detach().requires_grad_()
    return SparseTensor(places, kept, size, sparse_coo, bool(is_coalesced))


def _empty(indices: Any, values: Any) -> bool:
    return values is None and all(isinstance(n, int) for n in indices)


def sparse_csr_tensor(
    crow_indices: Any, col_indices: Any, values: Any, size: Any = None, *,
    dtype: DType | None = None, device: Any = None, pin_memory: bool = False,
    requires_grad: bool = False, check_invariants: bool | None = None,
) -> SparseTensor:  # fmt: skip
    """A matrix of values in rows.

    Args:
        crow_indices: (rows + 1), where each row's values start.
        col_indices: (N), their columns.
        values: (N).
        size: of the matrix; by default as many columns as there must be.
    """
    starts, columns = (_tensor(x, dtypes.int64) for x in (crow_indices, col_indices))
    kept = _tensor(values, dtype)
    count = starts._shape[0] - 1
    rows = NAMES["repeat_interleave"](NAMES["arange"](count), NAMES["diff"](starts))
    if size is None:
        size = (count, int(columns.max()) + 1 if columns.numel() else 0)
    if requires_grad:
        kept = kept.detach().requires_grad_()
    return SparseTensor(NAMES["stack"]([rows, columns]), kept, size, sparse_csr, True)


# -- torch.sparse ---------------------------------------------------------------------------------


def mm(mat1: Tensor, mat2: Tensor, reduce: str = "sum") -> Any:
    """Product of a sparse matrix with a dense matrix or vector, which is dense.

    Args:
        reduce: how the parts of an element are combined: "sum", "mean", "amax" or "amin".

    Returns:
        Dense; of two sparse matrices sparse.
    """
    if not isinstance(mat1, SparseTensor):
        if isinstance(mat2, SparseTensor):
            found: Tensor = mat2.t().product(mat1.mT).mT
            return found
        return NAMES["matmul"](mat1, mat2)
    if isinstance(mat2, SparseTensor):
        return _sparse(mat1.product(mat2.to_dense()))
    if reduce == "sum":
        return mat1.product(mat2)
    rows, columns = mat1._places[0], mat1._places[1]
    parts = NAMES["index_select"](mat2, 0, columns) * mat1._kept.unsqueeze(1)
    start = NAMES["zeros"]((mat1._shape[0], mat2._shape[1]), dtype=parts.dtype)
    place = rows.unsqueeze(1).expand(*parts._shape)
    return NAMES["scatter_reduce"](start, 0, place, parts, reduce, include_self=False)


def addmm(mat: Tensor, mat1: Tensor, mat2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """beta * mat + alpha * (mat1 @ mat2) with a sparse mat1."""
    found: Tensor = mat * beta + mm(mat1, mat2) * alpha
    return found


def sampled_addmm(
    input: SparseTensor, mat1: Tensor, mat2: Tensor, *, beta: Any = 1.0, alpha: Any = 1.0,
    out: Any = None,
) -> SparseTensor:  # fmt: skip
    """beta * input + alpha * (mat1 @ mat2), at the places of a sparse input alone."""
    rows, columns = input._places[0], input._places[1]
    left = NAMES["index_select"](mat1, -2, rows)
    right = NAMES["index_select"](mat2.mT, -2, columns)
    return input._with(input._kept * beta + NAMES["sum"](left * right, -1) * alpha)


def sum(input: Tensor, dim: Any = None, dtype: DType | None = None) -> Any:
    """Sum of all elements, or over dimensions: sparse, unless none of those is left."""
    if not isinstance(input, SparseTensor):
        return NAMES["sum"](input, dim, dtype=dtype)
    if dim is None:
        return NAMES["sum"](input._kept, dtype=dtype)
    dims = {wrap_dim(d, input.ndim) for d in ([dim] if isinstance(dim, int) else dim)}
    many = input.sparse_dim()
    values = input._kept if dtype is None else input._kept.to(dtype)
    dense = tuple(d - many + 1 for d in dims if d >= many)
    if dense:
        values = NAMES["sum"](values, dense)
    left = [d for d in range(many) if d not in dims]
    shape = tuple(n for d, n in enumerate(input._shape) if d not in dims)
    if not left:
        return NAMES["sum"](values, 0)
    places = NAMES["index_select"](input._places, 0, NAMES["tensor"](left))
    return SparseTensor(places, values, shape).coalesce()


def softmax(input: SparseTensor, dim: int, *, dtype: DType | None = None) -> SparseTensor:
    """Softmax along a dimension over the elements that are kept."""
    return _normalized(input, dim, dtype, NAMES["softmax"], -float("inf"))


def log_softmax(input: SparseTensor, dim: int, *, dtype: DType | None = None) -> SparseTensor:
    """log(softmax) along a dimension over the elements that are kept."""
    return _normalized(input, dim, dtype, NAMES["log_softmax"], -float("inf"))


def _normalized(
    input: SparseTensor, dim: int, dtype: DType | None, function: Any, absent: float
) -> SparseTensor:
    given = input.coalesce()
    values = given._kept if dtype is None else given._kept.to(dtype)
    at = tuple(NAMES["unbind"](given._places))
    start = NAMES["full"](given._shape, absent, dtype=values.dtype)
    whole = NAMES["index_put"](start, at, values)
    return given._with(function(whole, dim)[at])


def _csr(input: Tensor, dense_dim: int | None = None) -> SparseTensor:
    """The nonzero elements of a dense matrix in compressed row form."""
    return _sparse(input, layout=sparse_csr)


def _masked(input: Tensor, mask: SparseTensor) -> SparseTensor:
    """The elements of a dense tensor at the places of a sparse one."""
    return mask._with(input[tuple(NAMES["unbind"](mask._places))])


def _dense(input: Tensor, dtype: DType | None = None, *, masked_grad: Any = None) -> Tensor:
    """The tensor itself, as dtype."""
    return input if dtype is None else input.to(dtype)


NAMES["sparse_coo_tensor"] = sparse_coo_tensor
for _name, _method in (
    ("to_sparse", _sparse),
    ("to_sparse_coo", _sparse),
    ("to_sparse_csr", _csr),
    ("sparse_mask", _masked),
    ("to_dense", _dense),
):
    setattr(Tensor, _name, _method)

__all__ = [
    *("SparseTensor", "addmm", "log_softmax", "mm", "sampled_addmm", "softmax"),
    *("sparse_coo_tensor", "sparse_csr_tensor", "sum"),
]
